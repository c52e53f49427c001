//! What came out of the pipeline, in words: the way to the next hop, what was changed in the packet, the verdict.

use crate::base::{Address, Family};
use crate::conn::Direction;
use crate::forward::decide::{Decision, Target};
use crate::forward::parse::Packet;
use crate::forward::pipeline::{Forwarder, flow_hash};
use crate::forward::trace::stage::Outcome;
use crate::forward::trace::{Step, words};
use crate::forward::verdict::{DropReason, Verdict};
use crate::route::{Hop, Route};
use crate::service::{DestinationId, Method};

/// Spreads servers over the hops of a multipath route, as `Forwarder::find_path` does.
const SERVER_SPREAD: u32 = 0x9e37_79b9;

/// The real server to which the packet was sent, if it was meant for one.
pub(super) fn server(decision: Decision, target: &Target) -> Option<DestinationId> {
    towards_server(decision)?;
    let id = target.destination;
    (id != DestinationId::NONE).then_some(id)
}

/// By which method a decision sends a packet to a real server.
const fn towards_server(decision: Decision) -> Option<Method> {
    match decision {
        Decision::Forward(method) | Decision::RelayToServer(method) => Some(method),
        Decision::Masquerade
        | Decision::Changed { direction: Direction::Inbound, .. }
        | Decision::Exchanged { direction: Direction::Inbound, .. }
        | Decision::RelayExchanged { direction: Direction::Inbound, .. } => Some(Method::Masquerading),
        Decision::Verdict(_)
        | Decision::ToClient
        | Decision::Changed { direction: Direction::Outbound, .. }
        | Decision::Exchanged { direction: Direction::Outbound, .. }
        | Decision::RelayExchanged { direction: Direction::Outbound, .. }
        | Decision::Gather
        | Decision::Answer(_)
        | Decision::RelayToClient
        | Decision::RelayFromTunnel => None,
    }
}

const fn is_towards_client(decision: Decision) -> bool {
    matches!(
        decision,
        Decision::ToClient | Decision::RelayToClient | Decision::Changed { direction: Direction::Outbound, .. }
    )
}

/// Tells of the outcome.
pub(super) fn tell(forwarder: &Forwarder, frame: &[u8], packet: &Packet, outcome: &Outcome, steps: &mut Vec<Step>) {
    if let Some(method) = towards_server(outcome.decision) {
        tell_method(forwarder, method, &outcome.target, steps);
        let address = match method {
            Method::Bypass => packet.destination.address,
            _ => server_address(forwarder, &outcome.target),
        };
        let hash = outcome.target.destination.0.wrapping_mul(SERVER_SPREAD);
        tell_route(forwarder, address, hash, packet, steps);
    } else if is_towards_client(outcome.decision) {
        let address = packet.destination.address;
        tell_route(forwarder, address, flow_hash(address), packet, steps);
    }
    let is_answer = matches!(outcome.verdict, Verdict::Drop(_));
    if let (false, Some((_, sent))) = (is_answer, outcome.sent.first()) {
        tell_rewrite(frame, sent, steps);
        if outcome.sent.len() > 1 {
            let octets = |one: &[u8]| words::Header::of(one).map_or(one.len(), |header| header.length);
            let lengths: Vec<usize> = outcome.sent.iter().map(|(_, one)| octets(one)).collect();
            let text = format!("cut into {} fragments of {lengths:?} octets", lengths.len());
            steps.push(Step::new("size", text).with("fragments", lengths));
        }
    }
    if let (Verdict::Pass, Some(passed)) = (outcome.verdict, &outcome.passed) {
        tell_rewrite(frame, passed, steps);
    }
    if is_answer {
        for (_, sent) in &outcome.sent {
            tell_answer(sent, steps);
        }
    }
    steps.push(verdict(forwarder, outcome));
}

fn server_address(forwarder: &Forwarder, target: &Target) -> Address {
    match target.destination {
        DestinationId::NONE => target.new.address,
        id => forwarder.shared.destinations.get(id).endpoint().address,
    }
}

fn tell_method(forwarder: &Forwarder, method: Method, target: &Target, steps: &mut Vec<Step>) {
    let tunnel = match (method, target.destination) {
        (Method::Tunnelling, id) if id != DestinationId::NONE => {
            format!(", {}", words::tunnel(forwarder.shared.destinations.get(id).tunnel()))
        }
        _ => String::new(),
    };
    let server = server_address(forwarder, target);
    let text = format!("{}{tunnel} to {server}", words::method(method));
    steps.push(Step::new("method", text).with("method", words::method(method)).with("server", server.to_string()));
}

/// The way to an address, and whether the packet fits.
fn tell_route(forwarder: &Forwarder, to: Address, flow_hash: u32, packet: &Packet, steps: &mut Vec<Step>) {
    let hop = match forwarder.routes().lookup(to, flow_hash) {
        Route::Unicast(hop) => hop,
        Route::Local => {
            return steps
                .push(Step::new("route", format!("{to} is the director itself: its own stack gets the packet")));
        }
        Route::Unreachable | Route::Blackhole | Route::Broadcast => {
            return steps.push(Step::new("route", format!("none to {to}")));
        }
    };
    let Hop { interface, gateway, mtu, .. } = hop;
    let by = gateway.map_or("directly".to_owned(), |gateway| format!("by {gateway}"));
    let link = interface.and_then(|interface| Some((interface, forwarder.routes().link(interface)?)));
    let Some((interface, link)) = link else {
        return steps.push(Step::new("route", format!("{to} {by}, by an interface that the director does not serve")));
    };
    let down = if link.up { "" } else { ", which is down" };
    let learned = forwarder.shared.path_mtus.find(to).filter(|learned| *learned < mtu);
    let mut text = format!("{to} {by} through {}{down}, MTU {mtu}", link.name);
    if let Some(learned) = learned {
        text.push_str(&format!(", path MTU {learned} as a router said"));
    }
    let octets = u32::from(packet.length);
    let mtu = learned.unwrap_or(mtu);
    if octets > mtu {
        let may_be_cut = if packet.is_too_big(mtu) { "and may not be cut" } else { "and may be cut" };
        text.push_str(&format!("; the packet has {octets} octets {may_be_cut}"));
    }
    let step = Step::new("route", text).with("interface", link.name.as_str()).with("mtu", mtu);
    steps.push(match gateway {
        Some(gateway) => step.with("gateway", gateway.to_string()),
        None => step,
    });
    let next = gateway.unwrap_or(to);
    steps.push(match forwarder.routes().neighbour(interface, next) {
        Some(address) => {
            Step::new("neighbour", format!("{next} has link address {address}")).with("link", address.to_string())
        }
        None => Step::new("neighbour", format!("the link address of {next} is not known: the kernel is asked")),
    });
}

/// What differs between the packet as it came and as it goes.
fn tell_rewrite(frame: &[u8], sent: &[u8], steps: &mut Vec<Step>) {
    let (Some(before), Some(after)) = (words::Header::of(frame), words::Header::of(sent)) else { return };
    let is_wrapped = after.length > before.length
        && after.protocol != before.protocol
        && (after.source, after.destination) != (before.source, before.destination);
    if is_wrapped {
        let octets = after.length - before.length;
        let what = words::protocol(after.protocol);
        let (family, source, destination) = (words::family(after.family), after.source, after.destination);
        let ports = after.ports(sent).map_or(String::new(), |(source, to)| format!(", ports {source} -> {to}"));
        let text = format!(
            "outer {family} header {source} -> {destination}, {what}{ports}: {octets} octets more; the packet inside has \
             its {} lowered",
            words::ttl_name(before.family)
        );
        return steps.push(Step::new("rewrite", text).with("outer_octets", octets));
    }
    let (source, destination) = before.endpoints(frame);
    let (new_source, new_destination) = after.endpoints(sent);
    let mut changes = Vec::new();
    if source != new_source {
        changes.push(format!("source {source} -> {new_source}"));
    }
    if destination != new_destination {
        changes.push(format!("destination {destination} -> {new_destination}"));
    }
    if before.ttl != after.ttl {
        changes.push(format!("{} {} -> {}", words::ttl_name(before.family), before.ttl, after.ttl));
    }
    let behind = |header: &words::Header, frame: &[u8]| frame.get(header.behind..).map_or(0, <[u8]>::len);
    if before.length != after.length && behind(&before, frame) != behind(&after, sent) {
        changes.push(format!("length {} -> {} octets", before.length, after.length));
    }
    if !changes.is_empty() {
        steps.push(Step::new("rewrite", changes.join(", ")).with("changes", changes));
    }
}

/// An ICMP error that answers the packet, or tells a client of one.
fn tell_answer(sent: &[u8], steps: &mut Vec<Step>) {
    let Some(header) = words::Header::of(sent) else { return };
    let Some(&[kind, code, ..]) = sent.get(header.behind..) else { return };
    let rest = sent.get(header.behind + 4..).and_then(|rest| rest.first_chunk::<4>()).copied().unwrap_or_default();
    let name = match (header.family, kind, code) {
        (Family::V4, 3, 1) => "host unreachable".to_owned(),
        (Family::V4, 3, 3) | (Family::V6, 1, 4) => "port unreachable".to_owned(),
        (Family::V4, 3, 4) => format!("fragmentation needed, MTU {}", u16::from_be_bytes([rest[2], rest[3]])),
        (Family::V6, 2, _) => format!("packet too big, MTU {}", u32::from_be_bytes(rest)),
        (Family::V4, 11, 0) | (Family::V6, 3, 0) => "time exceeded".to_owned(),
        (Family::V6, 1, _) => "unreachable".to_owned(),
        _ => "error".to_owned(),
    };
    let protocol = words::protocol(header.protocol);
    let (source, destination) = (header.source, header.destination);
    let text = format!("{protocol} {name} (type {kind}, code {code}), {source} -> {destination}");
    steps.push(Step::new("answer", text).with("type", kind).with("code", code).with("to", destination.to_string()));
}

fn verdict(forwarder: &Forwarder, outcome: &Outcome) -> Step {
    let name = |interface| forwarder.routes().link(interface).map_or("?", |link| link.name.as_str());
    match outcome.verdict {
        Verdict::Transmit(interface) => {
            let text = format!("transmit by {}", name(interface));
            Step::new("verdict", text).with("verdict", "transmit").with("interface", name(interface))
        }
        Verdict::Pass => Step::new("verdict", "pass: the kernel gets the packet").with("verdict", "pass"),
        Verdict::Hold => Step::new("verdict", "hold: it waits for more fragments").with("verdict", "hold"),
        Verdict::Drop(reason) => dropped(reason, outcome.sent.len()),
    }
}

fn dropped(reason: DropReason, answers: usize) -> Step {
    let (name, meaning) = (reason.name(), reason.meaning().trim());
    Step::new("verdict", format!("drop, {name}: {meaning}"))
        .with("verdict", "drop")
        .with("reason", name)
        .with("meaning", meaning)
        .with("answers", answers)
}
