//! Plain headers: Ethernet without tags, IPv4 without options or fragments or IPv6 without extensions, TCP or UDP.
//!
//! Not taken: what is malformed or not meant for the director, a TTL that runs out, segments that begin a connection,
//! packets from port 0, and checksums that a sender left to its hardware. Frames must have at least what a header of
//! the protocol takes; the shortest frame of Ethernet does.

use crate::base::{Address, Endpoint, Family};
use crate::conn::{Event, tcp};
use crate::forward::nat;
use crate::forward::parse::{BEGINS, ETHERNET_OCTETS};
use crate::forward::straight::{Road, Straight};
use crate::service::Protocol;
use crate::wire::{checksum, tcp as segment, udp};

/// Offset of the IP header, and of the transport header behind a plain one of either family.
pub(super) const NETWORK: usize = ETHERNET_OCTETS;
pub(super) const TRANSPORT_V4: usize = NETWORK + 20;
pub(super) const TRANSPORT_V6: usize = NETWORK + 40;

/// Offset of the transport header of a packet that was read.
#[inline(always)]
pub(super) const fn transport_offset(family: Family) -> usize {
    match family {
        Family::V4 => TRANSPORT_V4,
        Family::V6 => TRANSPORT_V6,
    }
}

const TCP: u8 = segment::PROTOCOL;
const UDP: u8 = udp::PROTOCOL;

/// Octets of a frame that are looked at together.
const HEADERS_V4: usize = TRANSPORT_V4 + udp::HEADER_OCTETS;
const HEADERS_V6: usize = TRANSPORT_V6 + udp::HEADER_OCTETS;

const ADDRESS_MASK: u64 = 0xffff_ffff_ffff;
/// EtherType, version and header length as they lie in a little-endian word from octet 12 on.
const TYPE_V4: u32 = 0x0045_0008;
const TYPE_V4_MASK: u32 = 0x00ff_ffff;
const TYPE_V6: u32 = 0x0060_dd86;
const TYPE_V6_MASK: u32 = 0x00f0_ffff;
/// IPv4: offset of a fragment, and that more follow.
const FRAGMENT: u16 = 0x3fff;

/// Addresses of a packet, by family: what comes then is made for either.
pub(super) enum Read {
    V4 { source: u32, destination: u32 },
    V6 { source: Address, destination: Address },
}

/// A link address in the form in which headers are compared with it.
pub(in crate::forward) fn station_word(station: &[u8; 6]) -> u64 {
    let [a, b, c, d, e, f] = *station;
    u64::from_le_bytes([a, b, c, d, e, f, 0, 0])
}

/// Takes the headers of a frame apart into `one`; `None` when it must take the careful way.
#[inline(always)]
pub(super) fn read(frame: &[u8], station: u64, road: &Road, one: &mut Straight) -> Option<Read> {
    let header: &[u8; HEADERS_V4] = frame.first_chunk()?;
    if u64::from_le_bytes(part(header, 0)) & ADDRESS_MASK != station {
        return None;
    }
    let kind = u32::from_le_bytes(part(header, 12));
    if kind & TYPE_V4_MASK == TYPE_V4 && road.v4 {
        return read_v4(frame, header, one);
    }
    if kind & TYPE_V6_MASK == TYPE_V6 && road.v6 {
        return read_v6(frame, one);
    }
    None
}

#[inline(always)]
fn read_v4(frame: &[u8], header: &[u8; HEADERS_V4], one: &mut Straight) -> Option<Read> {
    let (protocol, event, transport_min) = transport(frame, header[NETWORK + 9], TRANSPORT_V4)?;
    let length = u16::from_be_bytes(part(header, NETWORK + 2));
    let fragment = u16::from_be_bytes(part(header, NETWORK + 6));
    let octets = usize::from(length);
    if octets < 20 + transport_min
        || frame.len() < NETWORK + octets
        || fragment & FRAGMENT != 0
        || header[NETWORK + 8] <= 1
    {
        return None;
    }
    if checksum::of(header[NETWORK..].first_chunk::<20>()?) != 0 {
        return None;
    }
    let addresses = u64::from_be_bytes(part(header, NETWORK + 12));
    let ports = u32::from_be_bytes(part(header, TRANSPORT_V4));
    let (source, destination) = ((addresses >> 32) as u32, addresses as u32);
    let transport_octets = u32::from(length) - 20;
    let pseudo = checksum::Sum::default().add_u32(source).add_u32(destination);
    let pseudo = pseudo.add_u16(header[NETWORK + 9].into()).add_u32(transport_octets);
    if ports >> 16 == 0 || checksum::is_partial(checksum_field(frame, protocol, TRANSPORT_V4), pseudo) {
        return None;
    }
    (one.family, one.protocol, one.event) = (Family::V4, protocol, event);
    (one.length, one.ports, one.addresses) = (length, ports, addresses);
    Some(Read::V4 { source, destination })
}

#[inline(always)]
fn read_v6(frame: &[u8], one: &mut Straight) -> Option<Read> {
    let header: &[u8; HEADERS_V6] = frame.first_chunk()?;
    let (protocol, event, transport_min) = transport(frame, header[NETWORK + 6], TRANSPORT_V6)?;
    let payload = u16::from_be_bytes(part(header, NETWORK + 4));
    let length = payload.checked_add(40)?;
    if usize::from(payload) < transport_min || frame.len() < NETWORK + usize::from(length) || header[NETWORK + 7] <= 1 {
        return None;
    }
    let (source, destination) = addresses_v6(frame);
    let ports = u32::from_be_bytes(part(header, TRANSPORT_V6));
    let pseudo = checksum::pseudo_header(source, destination, header[NETWORK + 6], u32::from(payload));
    let is_partial = checksum::is_partial(checksum_field(frame, protocol, TRANSPORT_V6), pseudo);
    // An IPv6 address that reads as IPv4 is refused elsewhere (see `Address`).
    if ports >> 16 == 0 || is_partial || source.is_v4() || destination.is_v4() {
        return None;
    }
    (one.family, one.protocol, one.event) = (Family::V6, protocol, event);
    (one.length, one.ports) = (length, ports);
    Some(Read::V6 { source, destination })
}

/// Protocol, what the packet says to its connection, and the least octets of its header. A segment that begins a
/// connection is not taken.
#[inline(always)]
fn transport(frame: &[u8], protocol: u8, at: usize) -> Option<(Protocol, Event, usize)> {
    match protocol {
        TCP => {
            let flags = *frame.get(at + 13)?;
            let event = Event::Tcp(tcp::Event::from_flags(flags));
            (flags & BEGINS == 0).then_some((Protocol::Tcp, event, segment::HEADER_OCTETS))
        }
        UDP => Some((Protocol::Udp, Event::Udp, udp::HEADER_OCTETS)),
        _ => None,
    }
}

/// The transport checksum as it stands in a frame that was read.
#[inline(always)]
fn checksum_field(frame: &[u8], protocol: Protocol, transport: usize) -> u16 {
    let at = transport + nat::checksum_offset(protocol);
    frame.get(at..).and_then(|field| field.first_chunk()).map_or(0, |field| u16::from_be_bytes(*field))
}

/// True for a datagram without a checksum.
#[inline(always)]
pub(super) fn lacks_checksum(frame: &[u8], one: &Straight) -> bool {
    one.protocol == Protocol::Udp && checksum_field(frame, Protocol::Udp, transport_offset(one.family)) == 0
}

/// Source and destination address of a frame that was read as IPv6.
#[inline(always)]
pub(super) fn addresses_v6(frame: &[u8]) -> (Address, Address) {
    let address = |at: usize| {
        let octets = frame.get(at..).and_then(|octets| octets.first_chunk()).copied().unwrap_or_default();
        Address::v6(u128::from_be_bytes(octets))
    };
    (address(NETWORK + 8), address(NETWORK + 24))
}

/// Source and destination of a frame that was read.
#[inline(always)]
pub(super) fn endpoints(frame: &[u8], one: &Straight) -> (Endpoint, Endpoint) {
    let (source, destination) = match one.family {
        Family::V4 => (Address::v4((one.addresses >> 32) as u32), Address::v4(one.addresses as u32)),
        Family::V6 => addresses_v6(frame),
    };
    (Endpoint::new(source, (one.ports >> 16) as u16), Endpoint::new(destination, one.ports as u16))
}

/// Octets of a header at a place that is known when this is compiled.
#[inline(always)]
fn part<const ALL: usize, const N: usize>(header: &[u8; ALL], at: usize) -> [u8; N] {
    let mut octets = [0; N];
    octets.copy_from_slice(&header[at..at + N]);
    octets
}
