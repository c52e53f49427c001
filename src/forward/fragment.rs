//! Packets wider than their link, cut into fragments on the way out (RFC 791 section 3.2, RFC 8200 section 4.5).

use crate::base::{Family, Frame};
use crate::forward::egress::NextHop;
use crate::forward::parse::ETHERNET_OCTETS;
use crate::forward::pipeline::Forwarder;
use crate::forward::verdict::{DropReason, Verdict};
use crate::port::Port;
use crate::wire::checksum;

const MORE_FRAGMENTS: u16 = 0x2000;
const OFFSET_MASK: u16 = 0x1fff;
const IPV6_HEADER_OCTETS: usize = 40;
const IPV6_FRAGMENT: u8 = 44;
const IPV6_FRAGMENT_OCTETS: usize = 8;

impl Forwarder {
    /// Sends the packet of a frame (link header written) in pieces that fit the next hop.
    #[cold]
    pub(super) fn send_fragments<P: Port>(
        &mut self,
        port: &mut P,
        frame: Frame,
        family: Family,
        next: &NextHop,
    ) -> Verdict {
        let interface = frame.interface;
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.clear();
        scratch.extend_from_slice(port.bytes(&frame));
        port.release(frame);
        self.identification = self.identification.wrapping_add(1);
        let id = u32::from(self.identification);
        let (link, packet) = scratch.split_at(ETHERNET_OCTETS);
        let mut complete = true;
        let forwarder = &*self;
        let emit = |header: &[u8], payload: &[u8]| {
            let length = ETHERNET_OCTETS + header.len() + payload.len();
            let Some(piece) = port.allocate(length, interface) else {
                complete = false;
                return;
            };
            let bytes = port.bytes_mut(&piece);
            bytes[..ETHERNET_OCTETS].copy_from_slice(link);
            bytes[ETHERNET_OCTETS..ETHERNET_OCTETS + header.len()].copy_from_slice(header);
            bytes[ETHERNET_OCTETS + header.len()..].copy_from_slice(payload);
            match next.vlan {
                None => port.transmit(piece, next.interface),
                Some(_) => complete &= matches!(forwarder.transmit_tagged(port, piece, next), Verdict::Transmit(_)),
            }
        };
        match family {
            Family::V4 => cut_v4(packet, next.mtu as usize, emit),
            Family::V6 => cut_v6(packet, next.mtu as usize, id, emit),
        }
        self.scratch = scratch;
        if complete { Verdict::Transmit(next.interface) } else { Verdict::Drop(DropReason::NoFrame) }
    }
}

/// Cuts an IPv4 packet (which may be a fragment itself) and gives out header and payload of each piece.
fn cut_v4(packet: &[u8], mtu: usize, mut emit: impl FnMut(&[u8], &[u8])) {
    let header_octets = usize::from(packet[0] & 0xf) * 4;
    let total = usize::from(u16::from_be_bytes([packet[2], packet[3]])).min(packet.len());
    let payload = &packet[header_octets..total];
    let room = mtu.saturating_sub(header_octets) & !7;
    if room == 0 {
        return;
    }
    let mut header = [0u8; 60];
    let header = &mut header[..header_octets];
    header.copy_from_slice(&packet[..header_octets]);
    let flags = u16::from_be_bytes([packet[6], packet[7]]);
    let pieces = payload.len().div_ceil(room);
    for (number, piece) in payload.chunks(room).enumerate() {
        let is_last = number + 1 == pieces;
        let offset = (flags & OFFSET_MASK) + (number * room / 8) as u16;
        let more = if is_last { flags & MORE_FRAGMENTS } else { MORE_FRAGMENTS };
        header[2..4].copy_from_slice(&((header_octets + piece.len()) as u16).to_be_bytes());
        header[6..8].copy_from_slice(&(flags & !(OFFSET_MASK | MORE_FRAGMENTS) | more | offset).to_be_bytes());
        header[10..12].fill(0);
        let sum = checksum::of(header);
        header[10..12].copy_from_slice(&sum.to_be_bytes());
        emit(header, piece);
        if number == 0 {
            forget_options(&mut header[20..]);
        }
    }
}

/// Options without the copied flag stay with the first fragment; the others get no-operations in their place.
fn forget_options(options: &mut [u8]) {
    const END: u8 = 0;
    const NO_OPERATION: u8 = 1;
    const COPIED: u8 = 0x80;
    let mut at = 0;
    while at < options.len() && options[at] != END {
        if options[at] == NO_OPERATION {
            at += 1;
            continue;
        }
        let length = options.get(at + 1).map_or(0, |length| usize::from(*length));
        if length < 2 || at + length > options.len() {
            return;
        }
        if options[at] & COPIED == 0 {
            options[at..at + length].fill(NO_OPERATION);
        }
        at += length;
    }
}

/// Cuts an IPv6 packet that the director itself begins (an outer header): the fragment header follows the fixed one.
fn cut_v6(packet: &[u8], mtu: usize, identification: u32, mut emit: impl FnMut(&[u8], &[u8])) {
    const HEADERS: usize = IPV6_HEADER_OCTETS + IPV6_FRAGMENT_OCTETS;
    let total = IPV6_HEADER_OCTETS + usize::from(u16::from_be_bytes([packet[4], packet[5]]));
    let payload = &packet[IPV6_HEADER_OCTETS..total.min(packet.len())];
    let room = mtu.saturating_sub(HEADERS) & !7;
    if room == 0 {
        return;
    }
    let mut header = [0u8; HEADERS];
    header[..IPV6_HEADER_OCTETS].copy_from_slice(&packet[..IPV6_HEADER_OCTETS]);
    header[6] = IPV6_FRAGMENT;
    header[IPV6_HEADER_OCTETS] = packet[6];
    header[IPV6_HEADER_OCTETS + 4..].copy_from_slice(&identification.to_be_bytes());
    let pieces = payload.len().div_ceil(room);
    for (number, piece) in payload.chunks(room).enumerate() {
        let more = u16::from(number + 1 < pieces);
        header[4..6].copy_from_slice(&((IPV6_FRAGMENT_OCTETS + piece.len()) as u16).to_be_bytes());
        let offset = (number * room) as u16 | more;
        header[IPV6_HEADER_OCTETS + 2..IPV6_HEADER_OCTETS + 4].copy_from_slice(&offset.to_be_bytes());
        emit(&header, piece);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet_v4(payload: usize, options: &[u8]) -> Vec<u8> {
        let header = 20 + options.len();
        let mut packet = vec![0; header];
        packet[0] = 0x40 | (header / 4) as u8;
        packet[2..4].copy_from_slice(&((header + payload) as u16).to_be_bytes());
        packet[20..].copy_from_slice(options);
        packet.extend((0..payload).map(|i| i as u8));
        packet
    }

    #[test]
    fn ipv4_pieces_make_the_whole_again() {
        let packet = packet_v4(3000, &[]);
        let mut payload = Vec::new();
        let mut offsets = Vec::new();
        cut_v4(&packet, 1500, |header, piece| {
            assert_eq!(checksum::of(header), 0);
            assert!(header.len() + piece.len() <= 1500);
            offsets.push(u16::from_be_bytes([header[6], header[7]]));
            payload.extend_from_slice(piece);
        });
        assert_eq!(offsets, [0x2000, 0x2000 | 185, 370]);
        assert_eq!(payload, packet[20..]);
    }

    #[test]
    fn options_without_the_copied_flag_stay_behind() {
        // Record route (7, not copied), then loose source route (131, copied), end.
        let packet = packet_v4(2000, &[7, 3, 4, 131, 3, 4, 0, 0]);
        let mut headers = Vec::new();
        cut_v4(&packet, 1500, |header, _| headers.push(header.to_vec()));
        assert_eq!(headers[0][20..], [7, 3, 4, 131, 3, 4, 0, 0]);
        assert_eq!(headers[1][20..], [1, 1, 1, 131, 3, 4, 0, 0]);
    }

    #[test]
    fn ipv6_pieces_carry_a_fragment_header() {
        let mut packet = vec![0x60, 0, 0, 0, 0, 0, 4, 64];
        packet[4..6].copy_from_slice(&1480u16.to_be_bytes());
        packet.extend([0; 32]);
        packet.extend((0..1480).map(|i| i as u8));
        let mut pieces = Vec::new();
        cut_v6(&packet, 1500, 7, |header, piece| pieces.push((header.to_vec(), piece.len())));
        assert_eq!(pieces.iter().map(|(_, length)| *length).collect::<Vec<_>>(), [1448, 32]);
        assert_eq!(pieces[0].0[40..48], [4, 0, 0, 1, 0, 0, 0, 7]);
        assert_eq!(pieces[1].0[40..48], [4, 0, 0x05, 0xa8, 0, 0, 0, 7]);
    }
}
