//! The questions that the pipeline asks of a packet, asked of a copy, and the answers in words.

mod opening;

use crate::base::{Endpoint, Instant, InterfaceId};
use crate::conn::entry::ticks;
use crate::conn::{Entry, Flags, Key};
use crate::forward::options::Wish;
use crate::forward::parse::{BEGINS, ENDS, Packet, Parsed};
use crate::forward::pipeline::{Forwarder, flow_hash};
use crate::forward::related::Related;
use crate::forward::trace::stage::Stage;
use crate::forward::trace::{Step, words};
use crate::forward::tunnel_error::TunnelError;
use crate::route::{Hop, Route};
use crate::service::sysctl::Knob;
use crate::service::{DestinationId, Method, Protocol};

/// A story being told.
pub(super) struct Story<'a> {
    stage: Stage,
    interface: InterfaceId,
    frame: &'a [u8],
    now: Instant,
    /// What the headers say, once they were read.
    pub packet: Packet,
    pub steps: Vec<Step>,
    /// The real server that the packet goes to, as far as told.
    pub foretold: Option<DestinationId>,
}

impl<'a> Story<'a> {
    pub(super) fn new(stage: Stage, interface: InterfaceId, frame: &'a [u8], now: Instant) -> Self {
        Self { stage, interface, frame, now, packet: Packet::empty(), steps: Vec::new(), foretold: None }
    }

    fn say(&mut self, step: &'static str, text: impl Into<String>) {
        self.steps.push(Step::new(step, text));
    }

    /// Tells all up to where the packet goes.
    pub(super) fn tell(&mut self) {
        self.tell_interface();
        let parsed = self.stage.forwarder.read(self.frame, self.interface, &mut self.packet);
        if self.packet.interface != self.interface {
            self.tell_vlan();
        }
        match parsed {
            Parsed::Transport | Parsed::IcmpError | Parsed::SourceRoute => {
                let text = words::packet(self.frame, &self.packet);
                self.say("packet", text);
            }
            Parsed::Fragment => {
                let text = words::fragment(self.frame, &self.packet);
                self.say("packet", text);
            }
            Parsed::Other => {
                let station = *self.stage.forwarder.station(self.interface);
                return self.tell_other(&station);
            }
            Parsed::Bad(reason) => return self.say("packet", reason.meaning().trim()),
        }
        let parsed = match parsed {
            Parsed::Transport | Parsed::IcmpError if self.packet.has_options() => self.tell_options(parsed),
            parsed => parsed,
        };
        if matches!(parsed, Parsed::Other) {
            return;
        }
        if !self.stage.forwarder.services().balances(self.packet.family) {
            let family = words::family(self.packet.family);
            return self.say("service", format!("there is no {family} service: nothing of {family} is touched"));
        }
        match parsed {
            Parsed::IcmpError => self.tell_error(),
            Parsed::Fragment => {
                self.say("fragment", "fragments of what a service may take wait until their packet is whole")
            }
            _ => self.tell_transport(),
        }
    }

    fn tell_vlan(&mut self) {
        let name = self.stage.forwarder.routes().link(self.packet.interface).map(|link| link.name.clone());
        if let Some(name) = name {
            self.steps.push(Step::new("vlan", format!("its tags are those of {name}")).with("interface", name));
        }
    }

    fn tell_interface(&mut self) {
        let routes = self.stage.forwarder.routes();
        let Some(link) = routes.link(self.interface) else { return };
        let (name, address, mtu) = (link.name.clone(), link.mac, link.mtu);
        let text = format!("received by {name} (link address {address}, MTU {mtu})");
        self.steps.push(Step::new("interface", text).with("interface", name));
    }

    /// What is nobody's business here.
    fn tell_other(&mut self, station: &[u8; 6]) {
        let is_elsewhere = self.frame.get(..6).is_some_and(|to| to != station);
        let text = match words::Header::of(self.frame) {
            _ if is_elsewhere => "the frame is for another station".to_owned(),
            Some(header) => {
                let (what, family) = (words::protocol(header.protocol), words::family(header.family));
                let (source, destination) = (header.source, header.destination);
                format!("{family} {source} -> {destination}, {what}: neither TCP, UDP, SCTP, IPsec nor an ICMP error")
            }
            None => "neither IPv4 nor IPv6".to_owned(),
        };
        self.say("packet", text);
    }

    fn tell_options(&mut self, parsed: Parsed) -> Parsed {
        match (Forwarder::wish(self.frame, &self.packet), parsed) {
            (Wish::Ordinary, parsed) => {
                self.say("options", "the header has IP options that keep nothing from going on");
                parsed
            }
            (Wish::SourceRoute, Parsed::Transport) => {
                self.say("options", "the sender chose the packet's route: such packets are not balanced");
                Parsed::SourceRoute
            }
            (Wish::SourceRoute | Wish::Malformed, _) => {
                self.say("options", "the IP options are the host's to complain of");
                Parsed::Other
            }
        }
    }

    fn tell_transport(&mut self) {
        let destination = self.packet.destination.address;
        if self.stage.forwarder.local_addresses().contains(destination) && self.tell_returning() {
            return;
        }
        match self.direction(destination) {
            Direction::Inbound => self.tell_inbound(),
            Direction::Crossing(hop) => self.tell_outbound(hop),
            Direction::Nowhere => {}
        }
    }

    /// As `Forwarder::decide_returning`; false when it is no connection's.
    fn tell_returning(&mut self) -> bool {
        let packet = self.packet;
        let key = Key { protocol: Some(packet.protocol), client: packet.destination, other: packet.source };
        let shared = std::sync::Arc::clone(&self.stage.shared);
        let hash = shared.connections.hash(key.protocol, key.client);
        let Some(found) = shared.connections.find_by_local_port(hash, &key, self.now) else { return false };
        self.say("direction", format!("{} stands in for a client (full NAT)", packet.destination));
        let step = self.connection(found.entry());
        self.steps.push(step);
        self.say("answer", "the real server's answer goes out in the service's name, to the client");
        true
    }

    /// Says which side the packet comes from, as its destination tells.
    fn direction(&mut self, destination: crate::base::Address) -> Direction {
        let forwarder = &self.stage.forwarder;
        let may_be_marked = forwarder.marks_crossing(destination.family());
        let (text, direction) = match forwarder.routes().lookup(destination, flow_hash(destination)) {
            Route::Local => (format!("{destination} is an address of the director"), Direction::Inbound),
            Route::Unicast(hop) => {
                (format!("{destination} is elsewhere: the packet crosses the director"), Direction::Crossing(hop))
            }
            Route::Unreachable | Route::Blackhole if may_be_marked => {
                (format!("{destination} is nobody's: only a mark can make it a service's"), Direction::Inbound)
            }
            Route::Unreachable | Route::Blackhole => {
                (format!("there is no route to {destination}: the host says so"), Direction::Nowhere)
            }
            Route::Broadcast => (format!("{destination} is a broadcast address"), Direction::Nowhere),
        };
        self.say("direction", text);
        direction
    }

    /// As `Forwarder::decide_inbound`.
    fn tell_inbound(&mut self) {
        if self.stage.forwarder.roles().is_passive {
            return self.say("sync", "this director is a backup and backup_only is set: it leaves packets alone");
        }
        let packet = self.packet;
        if packet.source.port == 0 {
            self.say("connection", "none: a packet from port 0 finds none, not even its own");
            return self.tell_opening();
        }
        let key = Key { protocol: Some(packet.protocol), client: packet.source, other: packet.destination };
        let shared = std::sync::Arc::clone(&self.stage.shared);
        let hash = shared.connections.hash(key.protocol, key.client);
        let Some(found) = shared.connections.find_inbound(hash, &key, self.now) else {
            self.say(
                "connection",
                format!("none from {} to {} {}", packet.source, packet.protocol, packet.destination),
            );
            return self.tell_opening();
        };
        let step = self.connection(found.entry());
        self.steps.push(step);
        let sysctls = &shared.sysctls;
        if packet.opening & BEGINS != 0 && self.stage.forwarder.is_to_be_rescheduled(&found) {
            let mode = sysctls.get(Knob::ConnReuseMode);
            let nodest = sysctls.get(Knob::ExpireNodestConn);
            self.say(
                "knob",
                format!(
                    "the packet begins a connection anew (conn_reuse_mode={mode}, expire_nodest_conn={nodest}): the \
                     old one ends and the packet is scheduled"
                ),
            );
            found.expire_now();
            return self.tell_opening();
        }
        let destination = found.entry().destination();
        if destination != DestinationId::NONE && !shared.destinations.get(destination).is_available() {
            if !sysctls.is_on(Knob::ExpireNodestConn) {
                return self.say(
                    "knob",
                    "its real server was removed: the packet is dropped until the server is back \
                     (expire_nodest_conn=0)",
                );
            }
            self.say("knob", "its real server was removed: the connection ends (expire_nodest_conn=1)");
            found.expire_now();
            return self.tell_opening();
        }
        let flags = found.entry().flags();
        drop(found);
        self.follows(destination, flags);
    }

    /// The packet goes to the real server of its connection.
    fn follows(&mut self, destination: DestinationId, flags: Flags) {
        self.foretold = (destination != DestinationId::NONE).then_some(destination);
        if flags.has(Flags::HELPED) {
            self.say("helper", "the FTP helper watches the connection");
        }
        if flags.has(Flags::FULL_NAT) {
            self.say("full NAT", "a local address stands in for the client");
        }
    }

    /// As `Forwarder::decide_outbound`.
    fn tell_outbound(&mut self, hop: Hop) {
        let packet = self.packet;
        if packet.ttl <= 1 || packet.is_too_big(hop.mtu) {
            let ttl = words::ttl_name(packet.family);
            self.say("host", format!("the host answers it first: its {ttl} runs out, or it exceeds MTU {}", hop.mtu));
            return self.tell_crossing();
        }
        let key = Key { protocol: Some(packet.protocol), client: packet.destination, other: packet.source };
        let shared = std::sync::Arc::clone(&self.stage.shared);
        let hash = shared.connections.hash(key.protocol, key.client);
        if let Some(found) = shared.connections.find_outbound(hash, &key, self.now) {
            let step = self.connection(found.entry());
            self.steps.push(step);
            let method = found.entry().flags().method();
            return match method {
                Method::Masquerading => self.say("answer", "the real server's answer goes out in the service's name"),
                other => self.say("answer", format!("by {} answers need no change", words::method(other))),
            };
        }
        self.say("connection", format!("none of {} whose server is {}", packet.destination, packet.source));
        let server = self.stage.forwarder.real_servers().find(packet.protocol, packet.source).cloned();
        let Some(server) = server.filter(|_| !packet.is_ipsec) else { return self.tell_crossing() };
        self.say("server", format!("{} is a real server of {}", packet.source, server.service.key));
        if server.service.engine.is_some() && packet.protocol == Protocol::Udp {
            self.say("engine", "the service's persistence engine knows calls whichever side begins them");
        } else if shared.sysctls.is_on(Knob::NatIcmpSend) && packet.opening & ENDS == 0 {
            self.say("knob", "nobody waits for it: the server is told so (nat_icmp_send=1)");
        } else {
            self.tell_crossing();
        }
    }

    /// As `Forwarder::decide_crossing`.
    fn tell_crossing(&mut self) {
        if !self.stage.forwarder.marks_crossing(self.packet.family) {
            return self.say("service", "no rule marks packets that cross the director: it is the host's");
        }
        self.tell_inbound();
    }

    /// An ICMP error: what it quotes, and whose connection that is.
    fn tell_error(&mut self) {
        let packet = self.packet;
        let start = usize::from(packet.transport);
        let end = usize::from(packet.network) + usize::from(packet.length);
        let related = Related::parse(self.frame, packet.family, start, end);
        let tunnelled = match packet.family {
            crate::base::Family::V4 => TunnelError::parse(self.frame, start, end),
            crate::base::Family::V6 => None,
        };
        if related.is_none() && tunnelled.is_none() {
            return self.say("quoted", "the error quotes no packet that a connection could have sent");
        }
        let between = |related: &Related| format!("{} {} -> {}", related.protocol, related.source, related.destination);
        if let Some(error) = &tunnelled {
            self.say("quoted", format!("the error quotes a tunnel's packet, in it {}", between(error.inner())));
        } else if let Some(related) = &related {
            self.say("quoted", format!("the error quotes {}", between(related)));
        }
        let is_inbound = match self.direction(packet.destination.address) {
            Direction::Inbound => true,
            Direction::Crossing(_) => false,
            Direction::Nowhere => return,
        };
        if is_inbound && self.stage.forwarder.roles().is_passive {
            return self.say("sync", "this director is a backup and backup_only is set: it leaves packets alone");
        }
        if let (Some(error), true) = (&tunnelled, is_inbound) {
            let inner = error.inner();
            if self.tell_quoted(inner.protocol, inner.source, inner.destination, true) {
                return;
            }
        }
        let Some(related) = related else { return };
        let shared = std::sync::Arc::clone(&self.stage.shared);
        let may_be_inbound = is_inbound || packet.ttl > 1 && self.stage.forwarder.marks_crossing(packet.family);
        if may_be_inbound && self.tell_quoted(related.protocol, related.destination, related.source, true) {
            return;
        }
        if is_inbound {
            if !shared.sysctls.is_on(Knob::ScheduleIcmp) {
                return self.say("knob", "errors open no connections (schedule_icmp=0): it is the host's");
            }
            return self.tell_opening_for_error(&related);
        }
        self.tell_quoted(related.protocol, related.source, related.destination, false);
    }

    /// Tells of the connection of a quoted packet; false when there is none.
    fn tell_quoted(&mut self, protocol: Protocol, client: Endpoint, other: Endpoint, is_inbound: bool) -> bool {
        let shared = std::sync::Arc::clone(&self.stage.shared);
        let key = Key { protocol: Some(protocol), client, other };
        let hash = shared.connections.hash(key.protocol, key.client);
        let found = match is_inbound {
            true => shared.connections.find_inbound(hash, &key, self.now),
            false => shared.connections.find_outbound(hash, &key, self.now),
        };
        let Some(found) = found else {
            self.say("connection", format!("none of {protocol} client {client} with {other}"));
            return false;
        };
        let step = self.connection(found.entry());
        let destination = found.entry().destination();
        drop(found);
        self.steps.push(step);
        if is_inbound && destination != DestinationId::NONE {
            self.foretold = Some(destination);
        }
        true
    }

    /// A connection or template in words.
    fn connection(&self, entry: Entry<'_>) -> Step {
        let flags = entry.flags();
        let is_template = flags.has(Flags::TEMPLATE);
        let state = entry.state().name(entry.protocol(), is_template);
        let left_s = entry.expires_s(ticks(self.now));
        let server = match entry.destination() {
            DestinationId::NONE => entry.destination_endpoint(),
            // An entry of IPv4 cannot hold the IPv6 address of a tunnel's server.
            id => Endpoint::new(
                self.stage.shared.destinations.get(id).endpoint().address,
                entry.destination_endpoint().port,
            ),
        };
        let method = words::method(flags.method());
        let (client, service) = (entry.client(), entry.virtual_service());
        let what = if is_template { "template of" } else { "found:" };
        let protocol = entry.protocol().map_or("every protocol".to_owned(), |protocol| protocol.to_string());
        let mut text =
            format!("{what} {protocol} {client} -> {service} -> {server} by {method}, {state}, {left_s} s left");
        let named = [
            (Flags::INACTIVE, "counted as inactive"),
            (Flags::NO_OUTPUT, "no answer seen"),
            (Flags::SYNC, "told of by the master"),
            (Flags::NO_CLIENT_PORT, "waits for its client's port"),
        ];
        for (_, name) in named.iter().filter(|(flag, _)| !is_template && flags.has(*flag)) {
            text.push_str(&format!(", {name}"));
        }
        if entry.mark() != 0 {
            text.push_str(&format!(", mark {}", entry.mark()));
        }
        if !entry.controller().is_none() {
            text.push_str(", controlled by a template or another connection");
        }
        if entry.controlled() > 0 {
            text.push_str(&format!(", controls {}", entry.controlled()));
        }
        Step::new(if is_template { "template" } else { "connection" }, text)
            .with("state", state)
            .with("seconds_left", left_s)
            .with("server", server.to_string())
            .with("method", method)
    }
}

/// Which side a packet comes from.
enum Direction {
    /// For the director.
    Inbound,
    /// To somewhere else, by this hop.
    Crossing(Hop),
    /// Nobody's, or everybody's.
    Nowhere,
}
