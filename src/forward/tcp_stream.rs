//! What full NAT puts into TCP so that a server learns of its client, and the sequence numbers that move with it.
//!
//! Source: the PROXY protocol specification, version 2, section 2.2; DPVS for option 254; RFC 9293 section 3.1 and RFC
//! 2018 for what carries sequence numbers.

use crate::base::{Endpoint, Family, Frame};
use crate::forward::parse::{Packet, ip_octets};
use crate::port::Port;
use crate::wire::checksum::{self, Sum, Update};
use crate::wire::tcp::{CHECKSUM_OFFSET, FLAG_ACK, FLAG_PSH, HEADER_OCTETS, Segment};
use crate::wire::{ipv4, ipv6};

/// Kind of the option that names the client.
const CLIENT_OPTION: u8 = 254;
/// Longest header of a segment.
const HEADER_OCTETS_MAX: usize = 60;

/// Octets of a PROXY header before its addresses, and with those of a family.
const FIXED_OCTETS: usize = 16;
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Version 2, a connection on behalf of another node.
const VERSION_AND_COMMAND: u8 = 0x21;

/// Octets of the header that names a client of the family.
pub(super) const fn header_octets(family: Family) -> u32 {
    match family {
        Family::V4 => FIXED_OCTETS as u32 + 12,
        Family::V6 => FIXED_OCTETS as u32 + 36,
    }
}

const CLIENT_HEADER_OCTETS_MAX: usize = header_octets(Family::V6) as usize;

/// The header that stands in front of a client's stream.
pub(super) struct ClientHeader {
    octets: [u8; CLIENT_HEADER_OCTETS_MAX],
    length: usize,
}

impl ClientHeader {
    /// Of a client's connection to a virtual service; both are of one family.
    pub(super) fn new(client: Endpoint, service: Endpoint) -> Self {
        let family = client.address.family();
        let length = header_octets(family) as usize;
        let mut octets = [0; CLIENT_HEADER_OCTETS_MAX];
        let (fixed, addresses) = octets[..length].split_at_mut(FIXED_OCTETS);
        fixed[..12].copy_from_slice(&SIGNATURE);
        fixed[12] = VERSION_AND_COMMAND;
        // Family and transport: TCP over IPv4 or IPv6.
        fixed[13] = match family {
            Family::V4 => 0x11,
            Family::V6 => 0x21,
        };
        fixed[14..16].copy_from_slice(&(addresses.len() as u16).to_be_bytes());
        let width = put_address(addresses, client);
        put_address(&mut addresses[width..], service);
        addresses[2 * width..2 * width + 2].copy_from_slice(&client.port.to_be_bytes());
        addresses[2 * width + 2..].copy_from_slice(&service.port.to_be_bytes());
        Self { octets, length }
    }

    /// Octets of the IP packet that carries it over the family.
    pub(super) const fn segment_octets(&self, family: Family, model: &Model) -> usize {
        ip_octets(family) + model.tcp_octets + self.length
    }

    /// Writes the IP packet that carries it: `packet`'s addresses and ports, `model`'s numbers and options: without
    /// timestamps, some receivers drop a segment (RFC 7323 section 3.2).
    pub(super) fn emit(&self, buffer: &mut [u8], model: &Model, packet: &Packet, identification: u16) {
        let (ip, segment) = buffer.split_at_mut(ip_octets(packet.family));
        ip.copy_from_slice(&model.ip[..ip.len()]);
        let octets = segment.len() as u16;
        match packet.family {
            Family::V4 => {
                ip[0] = 0x45;
                ip[2..4].copy_from_slice(&(octets + ipv4::HEADER_OCTETS as u16).to_be_bytes());
                ip[4..6].copy_from_slice(&identification.to_be_bytes());
                ip[10..12].fill(0);
                let sum = checksum::of(ip);
                ip[10..12].copy_from_slice(&sum.to_be_bytes());
            }
            Family::V6 => {
                ip[4..6].copy_from_slice(&octets.to_be_bytes());
                // Extension headers stay behind.
                ip[6] = packet.protocol.number();
            }
        }
        segment[model.tcp_octets..].copy_from_slice(&self.octets[..self.length]);
        let header = &mut segment[..model.tcp_octets];
        header.copy_from_slice(&model.tcp[..model.tcp_octets]);
        header[12] = ((model.tcp_octets / 4) << 4) as u8;
        header[13] = FLAG_ACK | FLAG_PSH;
        header[CHECKSUM_OFFSET + 2..HEADER_OCTETS].fill(0);
        let (source, destination) = (packet.source.address, packet.destination.address);
        let pseudo = checksum::pseudo_header(source, destination, packet.protocol.number(), u32::from(octets));
        let sum = checksum::transport(pseudo, segment, CHECKSUM_OFFSET);
        segment[CHECKSUM_OFFSET..CHECKSUM_OFFSET + 2].copy_from_slice(&sum.to_be_bytes());
    }
}

fn put_address(buffer: &mut [u8], endpoint: Endpoint) -> usize {
    match endpoint.address.family() {
        Family::V4 => {
            buffer[..4].copy_from_slice(&endpoint.address.low_u32().to_be_bytes());
            4
        }
        Family::V6 => {
            buffer[..16].copy_from_slice(&endpoint.address.0.to_be_bytes());
            16
        }
    }
}

/// The IP header of a segment without options and its TCP header with them, to make another one by.
pub(super) struct Model {
    ip: [u8; ipv6::HEADER_OCTETS],
    tcp: [u8; HEADER_OCTETS_MAX],
    tcp_octets: usize,
}

impl Model {
    /// Those of the packet in a frame, whose TCP header is whole.
    pub(super) fn of(frame: &[u8], packet: &Packet) -> Self {
        let (network, transport) = (usize::from(packet.network), usize::from(packet.transport));
        let end = network + usize::from(packet.length);
        let tcp_octets = Segment::new_unchecked(&frame[transport..end]).header_length();
        let mut model = Model { ip: [0; ipv6::HEADER_OCTETS], tcp: [0; HEADER_OCTETS_MAX], tcp_octets };
        let octets = ip_octets(packet.family);
        model.ip[..octets].copy_from_slice(&frame[network..network + octets]);
        model.tcp[..tcp_octets].copy_from_slice(&frame[transport..transport + tcp_octets]);
        model
    }
}

/// Puts the option that names the client behind a segment's fixed header, and mends lengths and checksums. Where
/// header, link or frame have no room, nothing changes.
pub(super) fn insert_client<P: Port>(port: &mut P, frame: &mut Frame, packet: &mut Packet, client: Endpoint, mtu: u32) {
    let mut option = [0; 20];
    option[0] = CLIENT_OPTION;
    option[2..4].copy_from_slice(&client.port.to_be_bytes());
    let octets = 4 + put_address(&mut option[4..], client);
    option[1] = octets as u8;
    let option = &option[..octets];

    let (network, transport) = (usize::from(packet.network), usize::from(packet.transport));
    let end = network + usize::from(packet.length);
    let header = Segment::new_unchecked(&port.bytes(frame)[transport..end]).header_length();
    let length = usize::from(packet.length) + octets;
    let fits = header + octets <= HEADER_OCTETS_MAX && length <= mtu as usize && length <= usize::from(u16::MAX);
    if !fits || !port.resize(frame, end + octets) {
        return;
    }
    let bytes = port.bytes_mut(frame);
    let place = transport + HEADER_OCTETS;
    bytes.copy_within(place..end, place + octets);
    bytes[place..place + octets].copy_from_slice(option);
    let segment = &mut bytes[transport..end + octets];
    let sum = u16::from_be_bytes([segment[CHECKSUM_OFFSET], segment[CHECKSUM_OFFSET + 1]]);
    let old = u16::from_be_bytes([segment[12], segment[13]]);
    segment[12] += ((octets / 4) << 4) as u8;
    let new = u16::from_be_bytes([segment[12], segment[13]]);
    let added = Sum::default().add_bytes(option).folded();
    // The pseudo header has the segment's length; that of the packet, without the IP header, moves by as much.
    let update = Update::new(sum).remove_u16(old).add_u16(new).add_u16(added).add_u16(octets as u16);
    segment[CHECKSUM_OFFSET..CHECKSUM_OFFSET + 2].copy_from_slice(&update.finish().to_be_bytes());
    set_length(&mut bytes[network..transport], packet, length as u16);
}

/// Takes the payload out of a segment; the transport checksum is left to be computed.
pub(super) fn cut_payload<P: Port>(port: &mut P, frame: &mut Frame, packet: &mut Packet) {
    let (network, transport) = (usize::from(packet.network), usize::from(packet.transport));
    let end = network + usize::from(packet.length);
    let header = Segment::new_unchecked(&port.bytes(frame)[transport..end]).header_length();
    let new_end = transport + header;
    if new_end >= end {
        return;
    }
    set_length(&mut port.bytes_mut(frame)[network..transport], packet, (new_end - network) as u16);
    packet.partial_checksum = true;
    port.resize(frame, new_end);
}

/// Puts another length into an IP header.
pub(super) fn set_length(header: &mut [u8], packet: &mut Packet, length: u16) {
    match packet.family {
        Family::V4 => {
            let sum = u16::from_be_bytes([header[10], header[11]]);
            let sum = Update::new(sum).remove_u16(packet.length).add_u16(length).finish();
            header[10..12].copy_from_slice(&sum.to_be_bytes());
            header[2..4].copy_from_slice(&length.to_be_bytes());
        }
        Family::V6 => header[4..6].copy_from_slice(&(length - ipv6::HEADER_OCTETS as u16).to_be_bytes()),
    }
    packet.length = length;
}

/// Moves a segment of the client behind the header.
pub(super) fn shift_sequence(segment: &mut [u8], octets: u32) {
    let mut view = Segment::new_unchecked(segment);
    let (old, sum) = (view.sequence(), view.checksum());
    let new = old.wrapping_add(octets);
    view.set_sequence(new);
    view.set_checksum(Update::new(sum).remove_u32(old).add_u32(new).finish());
}

/// The header in front of a client's stream, as the numbers of its server's segments count it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Prefix {
    pub(super) octets: u32,
    /// Number of its first octet; `None` once it has arrived: from then on all numbers lie behind it, as far as they
    /// may have come by then.
    pub(super) first: Option<u32>,
}

impl Prefix {
    /// A number of the server as its client counts.
    fn without(self, number: u32) -> u32 {
        let Some(first) = self.first else { return number.wrapping_sub(self.octets) };
        match number.wrapping_sub(first) {
            // Of before the stream's beginning, as of a SYN.
            behind if behind as i32 <= 0 => number,
            within if within < self.octets => first,
            _ => number.wrapping_sub(self.octets),
        }
    }
}

/// Lets `change` change a segment's header with its options, and mends the checksum by the difference. A segment whose
/// header is not whole stays as it is.
pub(super) fn change_header(segment: &mut [u8], change: impl FnOnce(&mut [u8])) {
    let Ok(view) = Segment::new_checked(&*segment) else { return };
    let octets = view.header_length();
    let header = &mut segment[..octets];
    let before = Sum::default().add_bytes(header).folded();
    change(header);
    let after = Sum::default().add_bytes(header).folded();
    let mut view = Segment::new_unchecked(header);
    view.set_checksum(Update::new(view.checksum()).remove_u16(before).add_u16(after).finish());
}

/// Moves what a segment acknowledges, its blocks too, to where `map` says.
pub(super) fn map_acknowledged(segment: &mut [u8], map: impl Fn(u32) -> u32) {
    change_header(segment, |header| {
        let mut view = Segment::new_unchecked(&mut *header);
        view.set_acknowledgment(map(view.acknowledgment()));
        for_each_block_edge(&mut header[HEADER_OCTETS..], map);
    });
}

/// Moves what a segment of the server acknowledges to where the client's stream has it.
pub(super) fn shift_acknowledgment(segment: &mut [u8], prefix: Prefix) {
    map_acknowledged(segment, |number| prefix.without(number));
}

/// Moves the sequence number that an ICMP error quotes of a segment to where its sender has it. Quoted checksums stay:
/// nobody verifies them.
pub(super) fn shift_quoted(transport: &mut [u8], prefix: Prefix) {
    if let Some(number) = transport.get_mut(4..8) {
        let old = u32::from_be_bytes([number[0], number[1], number[2], number[3]]);
        number.copy_from_slice(&prefix.without(old).to_be_bytes());
    }
}

/// Kind of the option that names the largest segment (RFC 9293 section 3.2), of the one that acknowledges blocks (RFC
/// 2018 section 3), and of the two that have no length.
const LARGEST_SEGMENT: u8 = 2;
const BLOCKS: u8 = 5;
const END: u8 = 0;
const NO_OPERATION: u8 = 1;

/// Calls `visit` with the value of each option of this kind. One that is not whole ends the walk.
fn for_each_option(options: &mut [u8], wanted: u8, mut visit: impl FnMut(&mut [u8])) {
    let mut rest = options;
    while let [kind, behind @ ..] = rest {
        match *kind {
            END => return,
            NO_OPERATION => rest = behind,
            kind => {
                // The length counts kind and itself.
                let length = behind.first().map_or(0, |length| usize::from(*length));
                if length < 2 {
                    return;
                }
                let Some((option, after)) = behind.split_at_mut_checked(length - 1) else { return };
                if kind == wanted {
                    visit(&mut option[1..]);
                }
                rest = after;
            }
        }
    }
}

/// Puts what `map` gives in place of each edge of the blocks that a segment's options acknowledge.
fn for_each_block_edge(options: &mut [u8], map: impl Fn(u32) -> u32) {
    for_each_option(options, BLOCKS, |blocks| {
        for edge in blocks.as_chunks_mut().0 {
            *edge = map(u32::from_be_bytes(*edge)).to_be_bytes();
        }
    });
}

/// Lowers the MSS that a SYN in a frame asks for to `largest`, if it asks for more.
pub(super) fn clamp_mss(frame: &mut [u8], packet: &Packet, largest: u16) {
    let end = usize::from(packet.network) + usize::from(packet.length);
    let clamp = |header: &mut [u8]| {
        for_each_option(&mut header[HEADER_OCTETS..], LARGEST_SEGMENT, |value| {
            if let Ok(value) = <&mut [u8; 2]>::try_from(value) {
                *value = u16::from_be_bytes(*value).min(largest).to_be_bytes();
            }
        });
    };
    let segment = &mut frame[usize::from(packet.transport)..end];
    if !packet.partial_checksum {
        return change_header(segment, clamp);
    }
    // A sum that is still to be computed is that of the pseudo header alone.
    if let Ok(view) = Segment::new_checked(&*segment) {
        let octets = view.header_length();
        clamp(&mut segment[..octets]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::hex;

    fn endpoint(text: &str, port: u16) -> Endpoint {
        Endpoint::new(text.parse().unwrap(), port)
    }

    /// The examples are written after the specification's figures.
    #[test]
    fn headers_are_those_of_the_specification() {
        let header = ClientHeader::new(endpoint("10.1.0.2", 1025), endpoint("10.9.0.1", 80));
        let expected = hex("0d0a0d0a000d0a515549540a 21 11 000c 0a010002 0a090001 0401 0050");
        assert_eq!(header.octets[..header.length], expected);
        let header = ClientHeader::new(endpoint("fd00:1::2", 1025), endpoint("fd00:9::1", 80));
        let expected =
            hex("0d0a0d0a000d0a515549540a 21 21 0024 fd000001000000000000000000000002 fd000009000000000000000000000001
             0401 0050");
        assert_eq!(header.octets[..header.length], expected);
    }

    #[test]
    fn a_client_hears_nothing_of_the_header() {
        let (octets, first) = (28, u32::MAX - 9);
        for (number, expected) in [
            (first.wrapping_sub(1), first.wrapping_sub(1)),
            (first, first),
            (first.wrapping_add(5), first),
            (first.wrapping_add(28), first),
            (first.wrapping_add(29), first.wrapping_add(1)),
            (first.wrapping_add(1_000_028), first.wrapping_add(1_000_000)),
        ] {
            assert_eq!(Prefix { octets, first: Some(first) }.without(number), expected, "{number}");
        }
        let arrived = Prefix { octets, first: None };
        for octets_behind in [28, 1_000_028, 3 << 30, u32::MAX] {
            let number = first.wrapping_add(octets_behind);
            assert_eq!(arrived.without(number), number.wrapping_sub(28), "{octets_behind}");
        }
    }
}
