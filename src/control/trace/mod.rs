//! `lvx trace`: what the director would do with a packet, step by step; nothing changes by it.

pub mod steering;

use serde_json::json;

use crate::base::{Address, Instant, InterfaceId};
use crate::command::probe;
use crate::command::program::Output;
use crate::control::Control;
use crate::forward::trace::{Step, trace};
use crate::route::{Route, Routes};
use crate::wire::ethernet::Tags;

/// Octets of a link header without tags.
const LINK_OCTETS: usize = 14;
/// Where the EtherType stands.
const ETHERTYPE: usize = 12;
const ETHERTYPE_IPV4: [u8; 2] = [0x08, 0x00];
const ETHERTYPE_IPV6: [u8; 2] = [0x86, 0xdd];
/// Columns of a step's name in the page.
const NAME_COLUMNS: usize = 11;

/// What the words ask for.
#[derive(Default)]
struct Question<'a> {
    interface: Option<&'a str>,
    json: bool,
}

impl Control {
    /// Executes `trace [--interface NAME] [--json]` for the packet whose octets `stdin` has in hexadecimal digits: an
    /// Ethernet frame, or an IP packet, which then gets the link header of the interface.
    ///
    /// # Errors
    /// A sentence when words, packet or interface are none.
    pub fn trace_command(&self, words: &[String], stdin: Option<&str>, now: Instant) -> Result<Output, String> {
        let question = parse(words)?;
        let octets = probe::from_hex(stdin.unwrap_or_default())?;
        let (_, routes) = self.shared.routes.load();
        let interface = match question.interface {
            Some(name) => find_interface(&routes, name)?,
            None => guess_interface(&routes, &octets)?,
        };
        let frame = with_link_header(&routes, interface, octets);
        let steps = self.steps(interface, &frame, question.interface.is_some(), now)?;
        let stdout = if question.json { json!(steps).to_string() + "\n" } else { page(&steps) };
        Ok(Output { exit: 0, stdout, stderr: String::new() })
    }

    /// The steps, that of the XDP program among them.
    fn steps(&self, interface: InterfaceId, frame: &[u8], is_given: bool, now: Instant) -> Result<Vec<Step>, String> {
        let trace = trace(&self.shared, interface, frame, now).ok_or("the interface is not there at the moment")?;
        let mut steps = trace.steps;
        if !is_given && let Some(first) = steps.first_mut() {
            first.text.push_str(", chosen because none was given");
        }
        // Behind what the headers say; of tagged frames that is not the second step.
        let headers = steps.iter().position(|step| step.step == "packet").map_or(steps.len(), |packet| packet + 1);
        let found = steering::find_match(self.filter(), frame);
        let step = match &found {
            Some(why) => {
                Step::new("filter", format!("the XDP program hands it to the director: {why}")).with("wanted", true)
            }
            None => Step::new("filter", "the XDP program leaves it to the kernel: no match").with("wanted", false),
        };
        if found.is_none() {
            steps.truncate(headers);
            steps.push(step);
            let text = "pass: the kernel gets the packet, the director never sees it";
            steps.push(Step::new("verdict", text).with("verdict", "pass"));
            return Ok(steps);
        }
        steps.insert(headers, step);
        Ok(steps)
    }
}

fn parse(words: &[String]) -> Result<Question<'_>, String> {
    let mut question = Question::default();
    let mut words = words.iter().map(String::as_str);
    while let Some(word) = words.next() {
        match word {
            "--json" => question.json = true,
            "--interface" => question.interface = Some(words.next().ok_or("--interface needs a name")?),
            other => return Err(format!("trace: unknown word `{other}'")),
        }
    }
    Ok(question)
}

fn find_interface(routes: &Routes, name: &str) -> Result<InterfaceId, String> {
    let found = routes.interfaces().find(|id| routes.link(*id).is_some_and(|link| link.name == name));
    found.ok_or_else(|| {
        let names: Vec<&str> = routes.interfaces().filter_map(|id| Some(routes.link(id)?.name.as_str())).collect();
        format!("the director serves no interface `{name}'; it serves {}", names.join(", "))
    })
}

/// The interface to which a frame is addressed, or by which the way leads back to the packet's source.
fn guess_interface(routes: &Routes, octets: &[u8]) -> Result<InterfaceId, String> {
    let ip = if is_ip(octets) { octets } else { octets.get(LINK_OCTETS..).unwrap_or_default() };
    let back = source(ip).and_then(|source| match routes.lookup(source, 0) {
        Route::Unicast(hop) => hop.interface,
        Route::Local | Route::Broadcast | Route::Unreachable | Route::Blackhole => None,
    });
    let mut interfaces = routes.interfaces().filter(|id| routes.link(*id).is_some());
    let first = interfaces.next().ok_or("the director has no interface at the moment")?;
    let is_addressed = |id: &InterfaceId| routes.link(*id).is_some_and(|link| octets.starts_with(&link.mac.0));
    let addressed = std::iter::once(first).chain(interfaces).find(|id| !is_ip(octets) && is_addressed(id));
    Ok(addressed.or(back).unwrap_or(first))
}

fn source(ip: &[u8]) -> Option<Address> {
    match ip.first()? >> 4 {
        4 => Some(Address::v4(u32::from_be_bytes(*ip.get(12..)?.first_chunk()?))),
        6 => Some(Address::v6(u128::from_be_bytes(*ip.get(8..)?.first_chunk()?))),
        _ => None,
    }
}

/// Whether octets begin with an IP header rather than with a link header. A link address may begin as an IP header does:
/// the lengths decide, then the EtherType.
fn is_ip(octets: &[u8]) -> bool {
    let number = |at: usize| octets.get(at..at + 2).map_or(0, |two| usize::from(u16::from_be_bytes([two[0], two[1]])));
    let version = octets.first().map_or(0, |first| first >> 4);
    let is_whole = match version {
        4 => number(2) == octets.len(),
        6 => 40 + number(4) == octets.len(),
        _ => return false,
    };
    let inner = octets.get(LINK_OCTETS).map_or(0, |first| first >> 4);
    let is_framed = match octets.get(ETHERTYPE..LINK_OCTETS) {
        Some(ethertype) if ethertype == ETHERTYPE_IPV4 => inner == 4,
        Some(ethertype) if ethertype == ETHERTYPE_IPV6 => inner == 6,
        Some(_) if Tags::of(octets).is_some() => true,
        _ => false,
    };
    is_whole || !is_framed
}

/// A frame as it is, or an IP packet in one that is addressed to the interface.
fn with_link_header(routes: &Routes, interface: InterfaceId, octets: Vec<u8>) -> Vec<u8> {
    if !is_ip(&octets) {
        return octets;
    }
    let station = routes.link(interface).map(|link| link.mac.0).unwrap_or_default();
    let ethertype = if octets[0] >> 4 == 4 { ETHERTYPE_IPV4 } else { ETHERTYPE_IPV6 };
    [&station[..], &[0; 6], &ethertype, &octets].concat()
}

fn page(steps: &[Step]) -> String {
    let mark = |step: &Step| if step.details.get("chosen").is_some_and(|chosen| chosen == true) { "* " } else { "" };
    steps.iter().map(|step| format!("{:NAME_COLUMNS$}{}{}\n", step.step, mark(step), step.text)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_and_packets_are_told_apart() {
        let syn = probe::Probe {
            from: "69.0.0.40:1025".parse().unwrap(),
            to: "10.9.0.1:80".parse().unwrap(),
            ..probe::Probe::default()
        };
        let packet = syn.build().unwrap();
        assert!(is_ip(&packet));
        // Cut short, or with octets too many, it is still a packet.
        assert!(is_ip(&packet[..30]) && is_ip(&[&packet[..], &[0; 6]].concat()));
        // A link address may begin with 0x45.
        let frame = [&[0x45, 0, 0, 0x28, 9, 9, 2, 0, 0, 0, 0, 1, 8, 0][..], &packet].concat();
        assert!(!is_ip(&frame) && !is_ip(&[2; 60]) && !is_ip(&[]));
        // A packet from 8.0.69.x has an EtherType where its source stands.
        let from = probe::Probe { from: "8.0.69.9:1".parse().unwrap(), ..syn };
        assert!(is_ip(&from.build().unwrap()));
    }
}
