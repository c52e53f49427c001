//! One pass over a frame's headers: every length is checked here, and nowhere after.

use crate::base::{Address, Endpoint, Family};
use crate::conn::tcp;
use crate::forward::verdict::DropReason;
use crate::service::Protocol;
use crate::wire::checksum;

/// Octets of an Ethernet header without tags.
pub const ETHERNET_OCTETS: usize = 14;
/// EtherType of IPv4.
pub const ETHERTYPE_IPV4: u16 = 0x0800;
/// EtherType of IPv6.
pub const ETHERTYPE_IPV6: u16 = 0x86dd;

const ICMP: u8 = 1;
const ICMPV6: u8 = 58;
const ESP: u8 = 50;
const AH: u8 = 51;

/// Extension headers that we walk past in one packet; a packet with more is malformed to us.
const EXTENSION_HEADERS_MAX: usize = 8;

/// What the headers say, by value. Offsets count from the frame's first octet.
#[derive(Clone, Copy, Debug)]
pub struct Packet {
    /// Source address and port.
    pub source: Endpoint,
    /// Destination address and port.
    pub destination: Endpoint,
    /// Transport protocol.
    pub protocol: Protocol,
    /// TCP: what the flags say.
    pub tcp_event: tcp::Event,
    /// TCP: the flag octet, for what needs more than the event.
    pub tcp_flags: u8,
    /// Octets of the IP packet, from its header on.
    pub length: u16,
    /// Offset of the IP header.
    pub network: u8,
    /// Offset of the transport header.
    pub transport: u16,
    /// TTL or hop limit as received.
    pub ttl: u8,
    /// IPv4: DF is set. IPv6 packets may never be fragmented on the way, so it is set for them.
    pub dont_fragment: bool,
    /// The transport checksum is only the sum of the pseudo-header: the sender left the rest to its hardware.
    pub partial_checksum: bool,
}

impl Packet {
    /// Family of the packet.
    #[inline]
    pub fn family(&self) -> Family {
        self.source.address.family()
    }

    /// A packet of no meaning, to fill arrays with.
    pub const fn empty() -> Self {
        let nowhere = Endpoint::new(Address::UNSPECIFIED_V4, 0);
        Self {
            source: nowhere,
            destination: nowhere,
            protocol: Protocol::Udp,
            tcp_event: tcp::Event::Nothing,
            tcp_flags: 0,
            length: 0,
            network: 0,
            transport: 0,
            ttl: 0,
            dont_fragment: false,
            partial_checksum: false,
        }
    }
}

/// What a frame turned out to be.
#[derive(Clone, Copy, Debug)]
pub enum Parsed {
    /// A packet that services and connections may know.
    Transport(Packet),
    /// A fragment: no ports, or not all octets.
    Fragment,
    /// Not ours to judge: another EtherType, another protocol, ICMP queries, addressed to another station.
    Other,
    /// Ends here.
    Bad(DropReason),
}

/// Takes a frame apart. `station` is the interface's own link address: a frame for another station is the kernel's
/// to ignore.
#[inline]
pub fn parse(frame: &[u8], station: [u8; 6]) -> Parsed {
    let Some(header) = frame.first_chunk::<ETHERNET_OCTETS>() else { return Parsed::Other };
    if header[..6] != station {
        return Parsed::Other;
    }
    match u16::from_be_bytes([header[12], header[13]]) {
        ETHERTYPE_IPV4 => parse_v4(frame, ETHERNET_OCTETS),
        ETHERTYPE_IPV6 => parse_v6(frame, ETHERNET_OCTETS),
        _ => Parsed::Other,
    }
}

#[inline]
fn parse_v4(frame: &[u8], network: usize) -> Parsed {
    let Some(header) = frame[network..].first_chunk::<20>() else { return Parsed::Bad(DropReason::Malformed) };
    let header_octets = usize::from(header[0] & 0xf) * 4;
    let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
    if header[0] >> 4 != 4 || header_octets < 20 || length < header_octets || frame.len() < network + length {
        return Parsed::Bad(DropReason::Malformed);
    }
    if checksum::of(&frame[network..network + header_octets]) != 0 {
        return Parsed::Bad(DropReason::HeaderChecksum);
    }
    let fragment = u16::from_be_bytes([header[6], header[7]]);
    if fragment & 0x3fff != 0 {
        return Parsed::Fragment;
    }
    let address =
        |at: usize| Address::v4(u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]));
    let ip = Ip {
        source: address(12),
        destination: address(16),
        protocol: header[9],
        ttl: header[8],
        dont_fragment: fragment & 0x4000 != 0,
        length,
        network,
        transport: network + header_octets,
    };
    parse_transport(frame, &ip)
}

#[inline]
fn parse_v6(frame: &[u8], network: usize) -> Parsed {
    let Some(header) = frame[network..].first_chunk::<40>() else { return Parsed::Bad(DropReason::Malformed) };
    let length = 40 + usize::from(u16::from_be_bytes([header[4], header[5]]));
    if header[0] >> 4 != 6 || frame.len() < network + length || length > usize::from(u16::MAX) {
        return Parsed::Bad(DropReason::Malformed);
    }
    let address = |at: usize| {
        let octets: [u8; 16] = header[at..at + 16].try_into().expect("sixteen octets of forty");
        Address::v6(u128::from_be_bytes(octets))
    };
    let (source, destination) = (address(8), address(24));
    if source.is_v4() || destination.is_v4() {
        // IPv4-mapped addresses must not appear on the wire (RFC 4291 section 2.5.5.2).
        return Parsed::Bad(DropReason::Martian);
    }
    let mut next_header = header[6];
    let mut at = network + 40;
    let end = network + length;
    for _ in 0..=EXTENSION_HEADERS_MAX {
        let octets = match next_header {
            // Hop-by-hop, routing and destination options: length in units of eight octets, less one.
            0 | 43 | 60 => {
                let Some(extension) = frame[at..end].first_chunk::<8>() else {
                    return Parsed::Bad(DropReason::Malformed);
                };
                next_header = extension[0];
                8 + usize::from(extension[1]) * 8
            }
            44 => return Parsed::Fragment,
            protocol => {
                let ip = Ip {
                    source,
                    destination,
                    protocol,
                    ttl: header[7],
                    dont_fragment: true,
                    length,
                    network,
                    transport: at,
                };
                return parse_transport(frame, &ip);
            }
        };
        at += octets;
        if at > end {
            return Parsed::Bad(DropReason::Malformed);
        }
    }
    Parsed::Bad(DropReason::Malformed)
}

struct Ip {
    source: Address,
    destination: Address,
    protocol: u8,
    ttl: u8,
    dont_fragment: bool,
    length: usize,
    network: usize,
    transport: usize,
}

#[inline]
fn parse_transport(frame: &[u8], ip: &Ip) -> Parsed {
    let segment = &frame[ip.transport..ip.network + ip.length];
    let (protocol, flags, checksum_at) = match ip.protocol {
        6 => {
            let Some(header) = segment.first_chunk::<20>() else { return Parsed::Bad(DropReason::Malformed) };
            (Protocol::Tcp, header[13], 16)
        }
        17 => {
            if segment.len() < 8 {
                return Parsed::Bad(DropReason::Malformed);
            }
            (Protocol::Udp, 0, 6)
        }
        ICMP | ICMPV6 | ESP | AH => return Parsed::Other,
        _ => return Parsed::Other,
    };
    let field = u16::from_be_bytes([segment[checksum_at], segment[checksum_at + 1]]);
    let pseudo = checksum::pseudo_header(ip.source, ip.destination, ip.protocol, segment.len() as u32);
    Parsed::Transport(Packet {
        partial_checksum: checksum::is_partial(field, pseudo),
        source: Endpoint::new(ip.source, u16::from_be_bytes([segment[0], segment[1]])),
        destination: Endpoint::new(ip.destination, u16::from_be_bytes([segment[2], segment[3]])),
        protocol,
        tcp_event: tcp::Event::from_flags(flags),
        tcp_flags: flags,
        length: ip.length as u16,
        network: ip.network as u8,
        transport: ip.transport as u16,
        ttl: ip.ttl,
        dont_fragment: ip.dont_fragment,
    })
}
