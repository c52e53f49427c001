//! The XDP program's decision over a frame, by the filter that it was told: whether user space sees the frame, and by
//! which match.
//!
//! `bpf/lvx.bpf.c` once more, for explaining; the tests of `host::xdp` hold it to the program's own answers.

use crate::base::{Address, Endpoint, Family};
use crate::service::Filter;
use crate::service::filter::{PortSpans, Prefix};
use crate::wire::ethernet::Tags;

const LINK_OCTETS: usize = 14;
const EXTENSION_HEADERS_MAX: usize = 8;

const ICMP: u8 = 1;
const IPIP: u8 = 4;
const TCP: u8 = 6;
const UDP: u8 = 17;
const IPV6_INSIDE: u8 = 41;
const GRE: u8 = 47;
const ESP: u8 = 50;
const AH: u8 = 51;
const ICMPV6: u8 = 58;
const SCTP: u8 = 132;

/// What the program reads of an IP header.
struct Header {
    source: Address,
    destination: Address,
    /// Of the transport header, from the frame's start.
    offset: usize,
    protocol: u8,
    is_fragment: bool,
}

/// By which match of `filter` the program hands a frame to user space, in words; `None` when it leaves the frame to the
/// kernel.
pub fn find_match(filter: &Filter, frame: &[u8]) -> Option<String> {
    let (start, ethertype) = match Tags::of(frame) {
        Some((tags, ethertype)) => (LINK_OCTETS + tags.octets(), ethertype),
        None => (LINK_OCTETS, u16::from_be_bytes([*frame.get(12)?, *frame.get(13)?])),
    };
    let header = match ethertype {
        0x0800 => parse_v4(frame, start)?,
        0x86dd => parse_v6(frame, start)?,
        _ => return None,
    };
    if header.is_fragment {
        return by_addresses(filter, &header, "a fragment");
    }
    match header.protocol {
        TCP | UDP | SCTP => by_ports(filter, frame, &header),
        ESP | AH => by_addresses(filter, &header, "IPsec"),
        ICMP => {
            let is_error = matches!(frame.get(header.offset)?, 3 | 4 | 11 | 12);
            let quoted = parse_v4(frame, header.offset + 8)?;
            if is_error { by_quoted(filter, &header, &quoted) } else { None }
        }
        ICMPV6 => {
            let is_error = *frame.get(header.offset)? < 128;
            let ip = frame.get(header.offset + 8..)?.first_chunk::<40>()?;
            if !is_error || ip[0] >> 4 != 6 {
                return None;
            }
            let quoted = Header {
                source: address_v6(ip, 8),
                destination: address_v6(ip, 24),
                offset: 0,
                protocol: ip[6],
                is_fragment: false,
            };
            by_quoted(filter, &header, &quoted)
        }
        _ => None,
    }
}

fn by_ports(filter: &Filter, frame: &[u8], header: &Header) -> Option<String> {
    let ports = frame.get(header.offset..)?.first_chunk::<4>()?;
    let from = Endpoint::new(header.source, u16::from_be_bytes([ports[0], ports[1]]));
    let to = Endpoint::new(header.destination, u16::from_be_bytes([ports[2], ports[3]]));
    let has = |set: &std::collections::BTreeSet<(u8, Endpoint)>, endpoint: Endpoint| {
        let every_port = Endpoint::new(endpoint.address, 0);
        set.contains(&(header.protocol, endpoint)) || set.contains(&(header.protocol, every_port))
    };
    if has(&filter.services, to) {
        return Some(format!("{to} is a virtual service"));
    }
    if is_marked(filter, to, header.protocol) {
        return Some(format!("rules may mark packets to {to}"));
    }
    if filter.locals.contains(&header.destination) {
        return None;
    }
    if has(&filter.servers, from) {
        return Some(format!("{from} is a real server whose answers go through the director"));
    }
    is_marked(filter, from, header.protocol)
        .then(|| format!("it may be an answer of {from}, packets to which rules mark"))
}

/// What has no ports is judged by its addresses.
fn by_addresses(filter: &Filter, header: &Header, what: &str) -> Option<String> {
    if is_virtual(filter, header.destination) {
        return Some(format!("{what} to {}, a virtual address", header.destination));
    }
    let is_answer = filter.server_addresses.contains(&header.source) && !filter.locals.contains(&header.destination);
    is_answer.then(|| format!("{what} from the real server {}", header.source))
}

fn by_quoted(filter: &Filter, header: &Header, quoted: &Header) -> Option<String> {
    if is_virtual(filter, header.destination) && is_virtual(filter, quoted.source) {
        return Some(format!("an ICMP error about what {} sent", quoted.source));
    }
    if !filter.server_addresses.contains(&quoted.destination) {
        return None;
    }
    let is_for_us =
        !filter.locals.contains(&header.destination) || matches!(quoted.protocol, IPIP | IPV6_INSIDE | GRE | UDP);
    is_for_us.then(|| format!("an ICMP error about a packet to the real server {}", quoted.destination))
}

fn is_virtual(filter: &Filter, address: Address) -> bool {
    filter.virtual_addresses.contains(&address) || marked(filter, address).is_some()
}

/// What rules may mark of the packets to an address: of the longest prefix around it.
fn marked(filter: &Filter, address: Address) -> Option<&PortSpans> {
    let bits_max = if address.family() == Family::V4 { 32 } else { 128 };
    (0..=bits_max).rev().find_map(|bits| filter.marked.get(&Prefix::new(address, bits)))
}

fn is_marked(filter: &Filter, endpoint: Endpoint, protocol: u8) -> bool {
    let Some(spans) = marked(filter, endpoint.address) else { return false };
    let of_protocol = PortSpans::PROTOCOLS.iter().zip(spans.spans()).find(|(known, _)| known.number() == protocol);
    matches!(of_protocol, Some((_, Some((first, last)))) if (*first..=*last).contains(&endpoint.port))
}

fn parse_v4(frame: &[u8], offset: usize) -> Option<Header> {
    let ip = frame.get(offset..)?.first_chunk::<20>()?;
    let octets = usize::from(ip[0] & 0xf) * 4;
    if ip[0] >> 4 != 4 || octets < 20 {
        return None;
    }
    let address = |at: usize| Address::v4(u32::from_be_bytes([ip[at], ip[at + 1], ip[at + 2], ip[at + 3]]));
    Some(Header {
        source: address(12),
        destination: address(16),
        offset: offset + octets,
        protocol: ip[9],
        is_fragment: u16::from_be_bytes([ip[6], ip[7]]) & 0x3fff != 0,
    })
}

fn address_v6(ip: &[u8; 40], at: usize) -> Address {
    let octets = ip[at..].first_chunk::<16>().copied().unwrap_or_default();
    Address::v6(u128::from_be_bytes(octets))
}

fn parse_v6(frame: &[u8], offset: usize) -> Option<Header> {
    let ip = frame.get(offset..)?.first_chunk::<40>()?;
    if ip[0] >> 4 != 6 {
        return None;
    }
    let (mut next, mut offset, mut is_fragment) = (ip[6], offset + 40, false);
    for _ in 0..EXTENSION_HEADERS_MAX {
        let octets = match next {
            0 | 43 | 60 | 44 | AH => {
                let extension = frame.get(offset..)?.first_chunk::<4>()?;
                let following = extension[0];
                let octets = match next {
                    44 if u16::from_be_bytes([extension[2], extension[3]]) & 0xfff9 != 0 => {
                        (next, is_fragment) = (following, true);
                        break;
                    }
                    44 => 8,
                    AH => (usize::from(extension[1]) + 2) * 4,
                    _ => (usize::from(extension[1]) + 1) * 8,
                };
                next = following;
                octets
            }
            _ => break,
        };
        offset += octets;
    }
    Some(Header { source: address_v6(ip, 8), destination: address_v6(ip, 24), offset, protocol: next, is_fragment })
}
