//! How the steps call things.

use crate::base::{Address, Endpoint, Family};
use crate::forward::parse::{ETHERNET_OCTETS, Packet};
use crate::service::{Method, Protocol, Tunnel};
use crate::wire::ethernet::Tags;
use crate::wire::tcp;

/// `IPv4`, `IPv6`.
pub(super) const fn family(family: Family) -> &'static str {
    match family {
        Family::V4 => "IPv4",
        Family::V6 => "IPv6",
    }
}

/// A forwarding method.
pub(super) const fn method(method: Method) -> &'static str {
    match method {
        Method::Masquerading => "masquerading",
        Method::LocalNode => "local node",
        Method::Tunnelling => "tunnelling",
        Method::DirectRouting => "direct routing",
        Method::Bypass => "bypass",
    }
}

/// A kind of tunnel.
pub(super) fn tunnel(tunnel: Tunnel) -> String {
    match tunnel {
        Tunnel::Ipip => "IP in IP".to_owned(),
        Tunnel::Gue { port, .. } => format!("GUE to port {port}"),
        Tunnel::Gre { .. } => "GRE".to_owned(),
    }
}

/// An IP protocol by its number.
pub(super) fn protocol(number: u8) -> String {
    match number {
        1 => "ICMP".to_owned(),
        4 => "IPv4 inside".to_owned(),
        6 => "TCP".to_owned(),
        17 => "UDP".to_owned(),
        41 => "IPv6 inside".to_owned(),
        47 => "GRE".to_owned(),
        50 => "ESP".to_owned(),
        51 => "AH".to_owned(),
        58 => "ICMPv6".to_owned(),
        132 => "SCTP".to_owned(),
        other => format!("IP protocol {other}"),
    }
}

/// The flags of a TCP segment, `SYN ACK`.
fn flags(octet: u8) -> String {
    let names = [
        (tcp::FLAG_SYN, "SYN"),
        (tcp::FLAG_FIN, "FIN"),
        (tcp::FLAG_RST, "RST"),
        (tcp::FLAG_PSH, "PSH"),
        (tcp::FLAG_ACK, "ACK"),
    ];
    let set: Vec<&str> = names.iter().filter(|(flag, _)| octet & flag != 0).map(|(_, name)| *name).collect();
    if set.is_empty() { "no flag".to_owned() } else { set.join(" ") }
}

/// What the headers of a packet say.
pub(super) fn packet(frame: &[u8], packet: &Packet) -> String {
    let what = match packet.protocol {
        _ if packet.is_error => protocol(if packet.family == Family::V4 { 1 } else { 58 }) + " error",
        _ if packet.is_ipsec => "IPsec, which goes with the key exchange (UDP port 500)".to_owned(),
        Protocol::Tcp => {
            format!("TCP, {}", flags(frame.get(usize::from(packet.transport) + 13).copied().unwrap_or(0)))
        }
        other => other.to_string(),
    };
    let (from, to) = if packet.is_error {
        (packet.source.address.to_string(), packet.destination.address.to_string())
    } else {
        (packet.source.to_string(), packet.destination.to_string())
    };
    let fragments = if packet.family == Family::V4 && packet.dont_fragment { ", DF" } else { "" };
    let (length, ttl) = (packet.length, packet.ttl);
    format!(
        "{} {from} -> {to}, {what}, {length} octets, {} {ttl}{fragments}",
        family(packet.family),
        ttl_name(packet.family)
    )
}

/// What the headers of a fragment say: its ports, if it has any, count only when its packet is whole.
pub(super) fn fragment(frame: &[u8], packet: &Packet) -> String {
    let (from, to) = (packet.source.address, packet.destination.address);
    let what = match (Header::of(frame), packet.family) {
        (Some(header), Family::V4) => format!("a fragment of {}", protocol(header.protocol)),
        _ => "a fragment".to_owned(),
    };
    let (family, length, ttl_name, ttl) = (family(packet.family), packet.length, ttl_name(packet.family), packet.ttl);
    format!("{family} {from} -> {to}, {what}, {length} octets, {ttl_name} {ttl}")
}

/// What the family calls its TTL.
pub(super) const fn ttl_name(family: Family) -> &'static str {
    match family {
        Family::V4 => "TTL",
        Family::V6 => "hop limit",
    }
}

/// True for a frame with a fragment; of IPv6, one with a fragment header.
pub(super) fn is_fragment(frame: &[u8]) -> bool {
    let Some(header) = Header::of(frame) else { return false };
    match header.family {
        Family::V4 => {
            let at = header.start + 6;
            frame.get(at..at + 2).is_some_and(|two| two[0] & 0x3f | two[1] != 0)
        }
        Family::V6 => frame.get(header.behind..).is_some_and(|behind| has_fragment_header(header.protocol, behind)),
    }
}

/// Whether an IPv6 packet has a fragment header among the options before its transport header.
fn has_fragment_header(mut next: u8, mut rest: &[u8]) -> bool {
    const FRAGMENT: u8 = 44;
    while matches!(next, 0 | 43 | 60) {
        let Some(&[following, length, ..]) = rest.first_chunk::<2>() else { return false };
        let Some(behind) = rest.get((usize::from(length) + 1) * 8..) else { return false };
        (next, rest) = (following, behind);
    }
    next == FRAGMENT
}

/// The IP header of a frame, as far as it is told of.
pub(super) struct Header {
    pub family: Family,
    pub source: Address,
    pub destination: Address,
    pub protocol: u8,
    pub ttl: u8,
    /// Octets of the packet.
    pub length: usize,
    /// Offset of the header.
    start: usize,
    /// Offset of what follows the header.
    pub behind: usize,
}

impl Header {
    /// Reads the header behind the link header and its tags; `None` when there is none.
    pub(super) fn of(frame: &[u8]) -> Option<Self> {
        let start = ETHERNET_OCTETS + Tags::of(frame).map_or(0, |(tags, _)| tags.octets());
        let ip = frame.get(start..)?;
        match ip.first()? >> 4 {
            4 => {
                let header = ip.first_chunk::<20>()?;
                let address = |at: usize| {
                    Address::v4(u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]))
                };
                Some(Self {
                    family: Family::V4,
                    source: address(12),
                    destination: address(16),
                    protocol: header[9],
                    ttl: header[8],
                    length: usize::from(u16::from_be_bytes([header[2], header[3]])),
                    start,
                    behind: start + usize::from(header[0] & 0xf) * 4,
                })
            }
            6 => {
                let header = ip.first_chunk::<40>()?;
                let address = |at: usize| {
                    let octets = header[at..].first_chunk::<16>().copied().unwrap_or_default();
                    Address::v6(u128::from_be_bytes(octets))
                };
                Some(Self {
                    family: Family::V6,
                    source: address(8),
                    destination: address(24),
                    protocol: header[6],
                    ttl: header[7],
                    length: 40 + usize::from(u16::from_be_bytes([header[4], header[5]])),
                    start,
                    behind: start + 40,
                })
            }
            _ => None,
        }
    }

    /// The ports behind it, for protocols that have them.
    pub(super) fn ports(&self, frame: &[u8]) -> Option<(u16, u16)> {
        Protocol::from_number(self.protocol)?;
        let ports = frame.get(self.behind..)?.first_chunk::<4>()?;
        Some((u16::from_be_bytes([ports[0], ports[1]]), u16::from_be_bytes([ports[2], ports[3]])))
    }

    /// Source and destination with their ports, 0 where there are none.
    pub(super) fn endpoints(&self, frame: &[u8]) -> (Endpoint, Endpoint) {
        let (source, destination) = self.ports(frame).unwrap_or_default();
        (Endpoint::new(self.source, source), Endpoint::new(self.destination, destination))
    }
}
