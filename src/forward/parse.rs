//! One pass over a frame's headers: every length is checked here, and nowhere after.

use crate::base::{Address, Endpoint, Family, InterfaceId};
use crate::conn::{Event, sctp, tcp};
use crate::forward::related;
use crate::forward::verdict::DropReason;
use crate::service::Protocol;
use crate::wire::sctp::chunk;
use crate::wire::tcp::{FLAG_RST, FLAG_SYN};
use crate::wire::{self, checksum};

/// Octets of an Ethernet header without tags.
pub const ETHERNET_OCTETS: usize = 14;
/// EtherType of IPv4.
pub const ETHERTYPE_IPV4: u16 = 0x0800;
/// EtherType of IPv6.
pub const ETHERTYPE_IPV6: u16 = 0x86dd;

/// EtherType of a family's packets.
pub const fn ether_type(family: Family) -> u16 {
    match family {
        Family::V4 => ETHERTYPE_IPV4,
        Family::V6 => ETHERTYPE_IPV6,
    }
}

const TCP: u8 = wire::tcp::PROTOCOL;
const UDP: u8 = wire::udp::PROTOCOL;
const SCTP: u8 = wire::sctp::PROTOCOL;
const ICMP: u8 = wire::icmpv4::PROTOCOL;
const ICMPV6: u8 = wire::icmpv6::PROTOCOL;
const ESP: u8 = 50;
pub(super) const AH: u8 = 51;
/// The fragment header of IPv6.
pub(super) const FRAGMENT: u8 = 44;

/// The port of IKE (RFC 7296 section 2).
const KEY_EXCHANGE_PORT: u16 = 500;

/// A packet that begins a connection; the bit is TCP's SYN.
pub const BEGINS: u8 = FLAG_SYN;
/// A packet that ends one at once; the bit is TCP's RST.
pub const ENDS: u8 = FLAG_RST;

/// In [`Packet::care`]: an IPv4 header with options.
pub const OPTIONS: u8 = 0x01;
/// In [`Packet::care`]: VLAN tags between the link header's addresses and type.
pub const TAGS: u8 = 0x04;
const _: () = assert!(BEGINS & (OPTIONS | TAGS) == 0, "each has a bit of its own");

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
    /// What it says to the state of its connection.
    pub event: Event,
    /// What it begins and ends: [`BEGINS`] for TCP's SYN and SCTP's INIT, [`ENDS`] for RST and ABORT.
    pub opening: u8,
    /// Of both addresses.
    pub family: Family,
    /// Octets of the IP packet, from its header on.
    pub length: u16,
    /// Octets of the longest fragment that the packet came in; its length when it came whole.
    pub widest: u16,
    /// Offset of the IP header.
    pub network: u16,
    /// Offset of the transport header.
    pub transport: u16,
    /// TTL or hop limit as received.
    pub ttl: u8,
    /// IPv4: DF is set. IPv6 packets may never be fragmented on the way, so it is set for them.
    pub dont_fragment: bool,
    /// The transport checksum is only the sum of the pseudo-header: the sender left the rest to its hardware.
    pub partial_checksum: bool,
    /// SCTP, AH or ESP: nothing that the straight way knows.
    pub is_rare: bool,
    /// AH or ESP: the ports are those of the key exchange, and the packet has none.
    pub is_ipsec: bool,
    /// An ICMP error, which is never answered by another; ports and protocol mean nothing then.
    pub is_error: bool,
    /// What asks for more than the straight way: [`BEGINS`] of TCP, [`OPTIONS`], [`TAGS`].
    pub care: u8,
    /// Where the frame was received; headers do not tell, so that [`parse`] leaves it to its caller.
    pub interface: InterfaceId,
}

impl Packet {
    /// A packet of no meaning, to fill arrays with.
    pub const fn empty() -> Self {
        let nowhere = Endpoint::new(Address::UNSPECIFIED_V4, 0);
        Self {
            source: nowhere,
            destination: nowhere,
            protocol: Protocol::Udp,
            event: Event::Nothing,
            opening: 0,
            family: Family::V4,
            length: 0,
            widest: 0,
            network: 0,
            transport: 0,
            ttl: 0,
            dont_fragment: false,
            partial_checksum: false,
            is_rare: false,
            is_ipsec: false,
            is_error: false,
            care: 0,
            interface: InterfaceId(0),
        }
    }

    /// True when the packet is wider than `mtu` and may not be cut. An IPv4 ICMP error is cut rather than lost. Of an
    /// IPv6 packet put together of fragments the longest of these counts (`ensure_mtu_is_adequate`).
    #[inline]
    pub fn is_too_big(&self, mtu: u32) -> bool {
        let may_be_cut = !self.dont_fragment || self.is_error && self.family == Family::V4;
        let octets = match self.family {
            Family::V4 => self.length,
            Family::V6 => self.widest,
        };
        u32::from(octets) > mtu && !may_be_cut
    }

    /// True when the host would not route the packet over a link of `mtu`: it asks that of each fragment
    /// (`ip_forward`, `ip6_forward`).
    #[inline]
    pub fn is_too_big_to_cross(&self, mtu: u32) -> bool {
        u32::from(self.widest) > mtu && self.is_too_big(mtu)
    }
}

/// What a frame turned out to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Parsed {
    /// A packet that services and connections may know.
    Transport,
    /// An ICMP error that may be about a balanced packet; its message begins at the packet's transport offset.
    IcmpError,
    /// A fragment, of which only the IP header is known: addresses without ports. An IPv6 packet that says it is a
    /// fragment and is all there is (RFC 6946) is one too.
    Fragment,
    /// A packet that services and connections may know, on a route that its sender chose; [`parse`] leaves this to its
    /// caller, who reads options.
    SourceRoute,
    /// Not ours to judge: another EtherType, another protocol, ICMP queries, addressed to another station.
    Other,
    /// Ends here.
    Bad(DropReason),
}

/// Takes a frame apart into `packet`, which is whole when the answer is [`Parsed::Transport`],
/// [`Parsed::Fragment`] or [`Parsed::IcmpError`] and means nothing otherwise: a batch's packets are made where they
/// stay. `station` is the interface's own link address: a frame for another station is the kernel's to ignore.
#[inline(always)]
pub fn parse(frame: &[u8], station: &[u8; 6], packet: &mut Packet) -> Parsed {
    let Some(header) = frame.first_chunk::<ETHERNET_OCTETS>() else { return Parsed::Other };
    let (first, last) = station.split_at(4);
    if header[..4] != *first || header[4..6] != *last {
        return Parsed::Other;
    }
    parse_packet(frame, u16::from_be_bytes([header[12], header[13]]), packet)
}

/// Takes the packet of this EtherType apart, which a frame carries behind [`ETHERNET_OCTETS`] octets; see [`parse`].
#[inline(always)]
pub fn parse_packet(frame: &[u8], ether_type: u16, packet: &mut Packet) -> Parsed {
    match ether_type {
        ETHERTYPE_IPV4 => parse_v4(frame, packet),
        ETHERTYPE_IPV6 => parse_v6(frame, packet),
        _ => Parsed::Other,
    }
}

/// Octets of a family's IP header without options or extensions.
pub const fn ip_octets(family: Family) -> usize {
    match family {
        Family::V4 => wire::ipv4::HEADER_OCTETS,
        Family::V6 => wire::ipv6::HEADER_OCTETS,
    }
}

/// Offset of an IPv4 fragment, and that more follow.
const OFFSET_V4: u16 = 0x1fff;
const MORE_V4: u16 = 0x2000;

/// First octet of an IPv4 header without options.
const PLAIN_V4: u8 = 0x45;

#[inline(always)]
fn parse_v4(frame: &[u8], packet: &mut Packet) -> Parsed {
    let network = ETHERNET_OCTETS;
    let Some(header) = frame[network..].first_chunk::<20>() else { return Parsed::Bad(DropReason::Malformed) };
    let fragment = u16::from_be_bytes([header[6], header[7]]);
    let is_plain = header[0] == PLAIN_V4 && fragment & (OFFSET_V4 | MORE_V4) == 0 && matches!(header[9], TCP | UDP);
    if !is_plain {
        return parse_v4_with_care(frame, packet);
    }
    let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
    if length < 20 || frame.len() < network + length {
        return Parsed::Bad(DropReason::Malformed);
    }
    // A sum of fixed length has no loop.
    if checksum::of(header) != 0 {
        return Parsed::Bad(DropReason::HeaderChecksum);
    }
    // On the straight way nothing takes the address of these: they stay in registers.
    parse_ports(frame, Ip::of_v4(header, length, network + 20), packet)
}

/// Options, fragments, and what is neither TCP nor UDP.
#[cold]
#[inline(never)]
fn parse_v4_with_care(frame: &[u8], packet: &mut Packet) -> Parsed {
    let network = ETHERNET_OCTETS;
    let Some(header) = frame[network..].first_chunk::<20>() else { return Parsed::Bad(DropReason::Malformed) };
    let header_octets = usize::from(header[0] & 0xf) * 4;
    let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
    if header[0] >> 4 != 4 || header_octets < 20 || length < header_octets || frame.len() < network + length {
        return Parsed::Bad(DropReason::Malformed);
    }
    if checksum::of(&frame[network..network + header_octets]) != 0 {
        return Parsed::Bad(DropReason::HeaderChecksum);
    }
    let ip = Ip::of_v4(header, length, network + header_octets);
    let fragment = u16::from_be_bytes([header[6], header[7]]);
    let parsed = match fragment & (OFFSET_V4 | MORE_V4) {
        0 => parse_transport(frame, ip, packet),
        _ => parse_fragment(frame, &ip, packet),
    };
    if header[0] != PLAIN_V4 {
        packet.care |= OPTIONS;
    }
    parsed
}

/// What a fragment tells of its datagram. IPsec is not put together on its way through, and each fragment of it belongs
/// to the connection of its addresses (`dont_defrag` of `ip_vs_proto_ah_esp.c`).
#[cold]
fn parse_fragment(frame: &[u8], ip: &Ip, packet: &mut Packet) -> Parsed {
    *packet = match ip.protocol {
        AH | ESP => {
            parse_rare(&frame[ip.transport..], ip, packet);
            *packet
        }
        _ => Packet {
            source: Endpoint::new(ip.source, 0),
            destination: Endpoint::new(ip.destination, 0),
            ..ip.without_transport()
        },
    };
    Parsed::Fragment
}

#[inline(never)]
fn parse_v6(frame: &[u8], packet: &mut Packet) -> Parsed {
    let network = ETHERNET_OCTETS;
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
        // They would read as IPv4 (see `Address`).
        return Parsed::Bad(DropReason::Martian);
    }
    let of = |protocol: u8, transport: usize| Ip {
        family: Family::V6,
        source,
        destination,
        protocol,
        ttl: header[7],
        dont_fragment: true,
        length,
        network,
        transport,
    };
    if matches!(header[6], TCP | UDP) {
        // By far the most: no extension header.
        return parse_ports(frame, of(header[6], network + 40), packet);
    }
    match walk_extensions(frame, header[6], network + 40, network + length) {
        Some((FRAGMENT, transport)) => parse_fragment(frame, &of(FRAGMENT, transport), packet),
        Some((protocol, transport)) => parse_transport(frame, of(protocol, transport), packet),
        None => Parsed::Bad(DropReason::Malformed),
    }
}

/// The protocol after the extension headers from `at` on, and where it starts; of a fragment its fragment header, whole.
/// `None` when they are cut short.
#[cold]
fn walk_extensions(frame: &[u8], first: u8, mut at: usize, end: usize) -> Option<(u8, usize)> {
    let mut next_header = first;
    for _ in 0..=EXTENSION_HEADERS_MAX {
        let octets = match next_header {
            // Hop-by-hop, routing and destination options: length in units of eight octets, less one.
            0 | 43 | 60 => {
                let extension = frame[at..end].first_chunk::<8>()?;
                next_header = extension[0];
                8 + usize::from(extension[1]) * 8
            }
            // Within IPv6 the kernel walks past AH as past any other: what it protects is what counts.
            AH => {
                let extension = frame[at..end].first_chunk::<8>()?;
                next_header = extension[0];
                (usize::from(extension[1]) + 2) * 4
            }
            FRAGMENT => return frame[at..end].first_chunk::<8>().map(|_| (FRAGMENT, at)),
            protocol => return Some((protocol, at)),
        };
        at += octets;
        if at > end {
            return None;
        }
    }
    None
}

struct Ip {
    family: Family,
    source: Address,
    destination: Address,
    protocol: u8,
    ttl: u8,
    dont_fragment: bool,
    length: usize,
    network: usize,
    transport: usize,
}

impl Ip {
    #[inline(always)]
    fn of_v4(header: &[u8; 20], length: usize, transport: usize) -> Self {
        let address =
            |at: usize| Address::v4(u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]));
        Self {
            family: Family::V4,
            source: address(12),
            destination: address(16),
            protocol: header[9],
            ttl: header[8],
            dont_fragment: header[6] & 0x40 != 0,
            length,
            network: ETHERNET_OCTETS,
            transport,
        }
    }

    /// What the IP header alone says of a packet; addresses left to those who know what goes with them.
    fn without_transport(&self) -> Packet {
        Packet {
            family: self.family,
            length: self.length as u16,
            widest: self.length as u16,
            network: self.network as u16,
            transport: self.transport as u16,
            ttl: self.ttl,
            dont_fragment: self.dont_fragment,
            ..Packet::empty()
        }
    }
}

/// Whatever follows the IP header.
#[cold]
fn parse_transport(frame: &[u8], ip: Ip, packet: &mut Packet) -> Parsed {
    let segment = &frame[ip.transport..ip.network + ip.length];
    match ip.protocol {
        TCP | UDP => parse_ports(frame, ip, packet),
        ICMP | ICMPV6 => parse_icmp(segment, &ip, packet),
        _ => parse_rare(segment, &ip, packet),
    }
}

/// TCP, or else UDP.
#[inline(always)]
fn parse_ports(frame: &[u8], ip: Ip, packet: &mut Packet) -> Parsed {
    let segment = &frame[ip.transport..ip.network + ip.length];
    // Both headers begin with the ports.
    let (protocol, ports, opening, event, checksum) = match ip.protocol {
        TCP => {
            let Some(header) = segment.first_chunk::<20>() else { return Parsed::Bad(DropReason::Malformed) };
            let event = Event::Tcp(tcp::Event::from_flags(header[13]));
            let opening = header[13] & (BEGINS | ENDS);
            (Protocol::Tcp, [header[0], header[1], header[2], header[3]], opening, event, [header[16], header[17]])
        }
        _ => {
            let Some(header) = segment.first_chunk::<8>() else { return Parsed::Bad(DropReason::Malformed) };
            (Protocol::Udp, [header[0], header[1], header[2], header[3]], 0, Event::Udp, [header[6], header[7]])
        }
    };
    let pseudo = checksum::pseudo_header(ip.source, ip.destination, ip.protocol, segment.len() as u32);
    *packet = Packet {
        partial_checksum: checksum::is_partial(u16::from_be_bytes(checksum), pseudo),
        source: Endpoint::new(ip.source, u16::from_be_bytes([ports[0], ports[1]])),
        destination: Endpoint::new(ip.destination, u16::from_be_bytes([ports[2], ports[3]])),
        protocol,
        event,
        opening,
        family: ip.family,
        length: ip.length as u16,
        widest: ip.length as u16,
        network: ip.network as u16,
        transport: ip.transport as u16,
        ttl: ip.ttl,
        dont_fragment: ip.dont_fragment,
        is_rare: false,
        is_ipsec: false,
        is_error: false,
        care: opening & BEGINS,
        interface: InterfaceId(0),
    };
    Parsed::Transport
}

/// SCTP, and IPsec, which has no ports: its packets belong to the connection of the key exchange between the same
/// hosts, UDP from port 500 to port 500 (`ip_vs_proto_ah_esp.c`).
#[cold]
fn parse_rare(segment: &[u8], ip: &Ip, packet: &mut Packet) -> Parsed {
    let known = ip.without_transport();
    match ip.protocol {
        SCTP => {
            let Some(header) = segment.first_chunk::<{ wire::sctp::HEADER_OCTETS }>() else {
                return Parsed::Bad(DropReason::Malformed);
            };
            let chunks = wire::sctp::chunk_types(segment);
            *packet = Packet {
                // A sender that leaves the sum to its hardware leaves it zero.
                partial_checksum: header[wire::sctp::CHECKSUM_OFFSET..] == [0; 4],
                source: Endpoint::new(ip.source, u16::from_be_bytes([header[0], header[1]])),
                destination: Endpoint::new(ip.destination, u16::from_be_bytes([header[2], header[3]])),
                protocol: Protocol::Sctp,
                event: chunks
                    .map_or(Event::Nothing, |(first, second)| Event::Sctp(sctp::Event::from_chunks(first, second))),
                opening: match chunks {
                    Some((chunk::INIT, _)) => BEGINS,
                    Some((chunk::ABORT, _)) => ENDS,
                    _ => 0,
                },
                is_rare: true,
                ..known
            };
            Parsed::Transport
        }
        AH | ESP => {
            *packet = Packet {
                source: Endpoint::new(ip.source, KEY_EXCHANGE_PORT),
                destination: Endpoint::new(ip.destination, KEY_EXCHANGE_PORT),
                protocol: Protocol::Udp,
                is_ipsec: true,
                is_rare: true,
                ..known
            };
            Parsed::Transport
        }
        _ => Parsed::Other,
    }
}

/// ICMP errors concern us; queries, and ICMP of the other family, are the host's.
#[cold]
fn parse_icmp(message: &[u8], ip: &Ip, packet: &mut Packet) -> Parsed {
    let of_family = matches!((ip.protocol, ip.family), (ICMP, Family::V4) | (ICMPV6, Family::V6));
    match message.first() {
        Some(&kind) if of_family && related::is_related_type(ip.family, kind) => {}
        _ => return Parsed::Other,
    }
    *packet = Packet {
        source: Endpoint::new(ip.source, 0),
        destination: Endpoint::new(ip.destination, 0),
        is_error: true,
        ..ip.without_transport()
    };
    Parsed::IcmpError
}
