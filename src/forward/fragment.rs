//! Packets wider than their link, cut into fragments on the way out (RFC 791 section 3.2, RFC 8200 section 4.5).

use crate::base::{Family, Frame, InterfaceId};
use crate::forward::egress::NextHop;
use crate::forward::parse::ETHERNET_OCTETS;
use crate::forward::pipeline::Forwarder;
use crate::forward::verdict::{DropReason, Verdict};
use crate::forward::vlan::put_in;
use crate::forward::whole::is_whole;
use crate::port::Port;
use crate::wire::checksum;
use crate::wire::ethernet::Tags;

const MORE_FRAGMENTS: u16 = 0x2000;
const OFFSET_MASK: u16 = 0x1fff;
const DONT_FRAGMENT: u16 = 0x4000;
const IPV6_HEADER_OCTETS: usize = 40;
const IPV6_FRAGMENT: u8 = 44;
const IPV6_FRAGMENT_OCTETS: usize = 8;
/// What every IPv6 link takes: pieces need not be smaller (RFC 8200 section 5).
const IPV6_MTU_MIN: usize = 1280;

/// How a datagram came in, which is how it goes out: in pieces no longer than the longest that it came in, even if it
/// would fit whole. (`ip_do_fragment`, `ip6_fragment`.)
#[derive(Debug)]
pub(super) struct Recut {
    /// Of the datagram, which may lie in a packet of the other family by now.
    pub family: Family,
    /// Octets of the longest fragment.
    pub widest: u16,
    /// IPv4: the longest fragment had DF set, and so have all that are sent.
    pub dont_fragment: bool,
    /// Octets of the headers that each of its fragments had in front, without a fragment header.
    pub unfragmented: usize,
    /// The pieces stay as they came where the kernel keeps them apart: not of IPv4 packets addressed to the host.
    pub keeps_pieces: bool,
    /// Octets of payload of each piece that came.
    pub pieces: Vec<u32>,
}

impl Recut {
    /// True when a packet of `family` and so many octets that fits its link is cut nevertheless.
    fn cuts(&self, family: Family, octets: usize) -> bool {
        self.family == family && (family == Family::V4 || octets > usize::from(self.widest))
    }

    /// What no piece may exceed, octets of a packet.
    fn limit(&self, family: Family, mtu: usize) -> usize {
        match family {
            _ if family != self.family => mtu,
            Family::V4 => mtu.min(usize::from(self.widest)),
            Family::V6 => mtu.min(usize::from(self.widest).max(IPV6_MTU_MIN)),
        }
    }

    /// Octets of the first piece, if a payload of `octets` goes out in the pieces that came: none of them but the last is
    /// cut within a unit of offsets, and none exceeds `room`. Headers of a tunnel went in front of the first one.
    fn first_kept(&self, octets: usize, room: usize, unfragmented: usize) -> Option<usize> {
        let (_, behind) = self.pieces.split_first()?;
        let (last, between) = behind.split_last()?;
        let first = octets.checked_sub(behind.iter().map(|piece| *piece as usize).sum())?;
        let is_unit = |piece: usize| piece <= room && piece.is_multiple_of(8);
        // In the kernel later pieces have room for no longer headers than they had.
        let fits = self.keeps_pieces
            && unfragmented <= self.unfragmented
            && first > 0
            && is_unit(first)
            && between.iter().all(|piece| is_unit(*piece as usize))
            && *last as usize <= room;
        fits.then_some(first)
    }
}

/// What pieces of a packet are for.
#[derive(Clone, Copy)]
pub(super) enum Outlet {
    /// To leave by an interface, with tags if there are any.
    Wire(InterfaceId, Tags),
    /// For the host.
    Host,
}

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
        let (interface, is_whole) = (frame.interface, is_whole(&frame));
        self.scratch.clear();
        self.scratch.extend_from_slice(port.bytes(&frame));
        port.release(frame);
        let tags = self.carrier_of(next).map(|(_, tags)| tags).unwrap_or_default();
        let recut = if is_whole { self.recut.take() } else { None };
        let complete =
            self.cut(port, family, next.mtu as usize, recut.as_ref(), interface, Outlet::Wire(next.interface, tags));
        if is_whole {
            self.recut = recut;
        }
        if complete { Verdict::Transmit(next.interface) } else { Verdict::Drop(DropReason::NoFrame) }
    }

    /// Cuts the packet that lies, with its link header, in the scratch buffer into pieces that came from `interface`.
    /// False when there was no frame for one of them.
    #[cold]
    pub(super) fn cut<P: Port + ?Sized>(
        &mut self,
        port: &mut P,
        family: Family,
        mtu: usize,
        recut: Option<&Recut>,
        interface: InterfaceId,
        outlet: Outlet,
    ) -> bool {
        self.identification = self.identification.wrapping_add(1);
        // Workers number their packets each for itself.
        let identification = (self.worker() as u32) << 16 | u32::from(self.identification);
        let (link, packet) = self.scratch.split_at(ETHERNET_OCTETS);
        let mut complete = true;
        let mut emit = |header: &[u8], payload: &[u8]| {
            let length = ETHERNET_OCTETS + header.len() + payload.len();
            let Some(mut piece) = port.allocate(length, interface) else {
                complete = false;
                return;
            };
            let bytes = port.bytes_mut(&piece);
            bytes[..ETHERNET_OCTETS].copy_from_slice(link);
            bytes[ETHERNET_OCTETS..ETHERNET_OCTETS + header.len()].copy_from_slice(header);
            bytes[ETHERNET_OCTETS + header.len()..].copy_from_slice(payload);
            match outlet {
                Outlet::Wire(interface, tags) if put_in(port, &mut piece, &tags) => port.transmit(piece, interface),
                Outlet::Wire(..) => {
                    port.release(piece);
                    complete = false;
                }
                Outlet::Host => port.pass(piece),
            }
        };
        if packet.len() <= mtu && !recut.is_some_and(|recut| recut.cuts(family, packet.len())) {
            emit(packet, &[]);
        } else {
            match family {
                Family::V4 => cut_v4(packet, mtu, recut, emit),
                Family::V6 => cut_v6(packet, mtu, recut, identification, emit),
            }
        }
        complete
    }
}

/// The payload in pieces: as they came, or each as long as `room` allows.
fn pieces<'a>(
    payload: &'a [u8],
    room: usize,
    unfragmented: usize,
    recut: Option<&'a Recut>,
) -> impl Iterator<Item = (usize, &'a [u8])> {
    let first = recut.and_then(|recut| recut.first_kept(payload.len(), room, unfragmented));
    let mut kept = first.map(|first| {
        let behind = recut.into_iter().flat_map(|recut| &recut.pieces[1..]);
        std::iter::once(first).chain(behind.map(|piece| *piece as usize))
    });
    let mut at = 0;
    std::iter::from_fn(move || {
        let left = payload.len() - at;
        let octets = match &mut kept {
            Some(kept) => kept.next()?,
            None if left <= room => left,
            None => room & !7,
        };
        let from = at;
        at += octets;
        (octets > 0).then(|| (from, &payload[from..at]))
    })
}

/// Cuts an IPv4 packet (which may be a fragment itself) and gives out header and payload of each piece.
fn cut_v4(packet: &[u8], mtu: usize, recut: Option<&Recut>, mut emit: impl FnMut(&[u8], &[u8])) {
    let header_octets = usize::from(packet[0] & 0xf) * 4;
    let total = usize::from(u16::from_be_bytes([packet[2], packet[3]])).min(packet.len());
    let payload = &packet[header_octets..total];
    let limit = recut.map_or(mtu, |recut| recut.limit(Family::V4, mtu));
    let room = limit.saturating_sub(header_octets);
    let mut header = [0u8; 60];
    let header = &mut header[..header_octets];
    header.copy_from_slice(&packet[..header_octets]);
    let mut flags = u16::from_be_bytes([packet[6], packet[7]]);
    if let Some(recut) = recut.filter(|recut| recut.family == Family::V4) {
        flags = flags & !DONT_FRAGMENT | u16::from(recut.dont_fragment && !recut.keeps_pieces) << 14;
    }
    for (at, piece) in pieces(payload, room, header_octets, recut) {
        let is_last = at + piece.len() == payload.len();
        let offset = (flags & OFFSET_MASK) + (at / 8) as u16;
        let more = if is_last { flags & MORE_FRAGMENTS } else { MORE_FRAGMENTS };
        header[2..4].copy_from_slice(&((header_octets + piece.len()) as u16).to_be_bytes());
        header[6..8].copy_from_slice(&(flags & !(OFFSET_MASK | MORE_FRAGMENTS) | more | offset).to_be_bytes());
        header[10..12].fill(0);
        let sum = checksum::of(header);
        header[10..12].copy_from_slice(&sum.to_be_bytes());
        emit(header, piece);
        if at == 0 {
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

/// Cuts an IPv6 packet; the fragment header follows what routers on the way look at.
fn cut_v6(packet: &[u8], mtu: usize, recut: Option<&Recut>, identification: u32, mut emit: impl FnMut(&[u8], &[u8])) {
    let total = IPV6_HEADER_OCTETS + usize::from(u16::from_be_bytes([packet[4], packet[5]]));
    let packet = &packet[..total.min(packet.len())];
    let (next_header_at, unfragmented) = first_fragmentable(packet);
    let payload = &packet[unfragmented..];
    let limit = recut.map_or(mtu, |recut| recut.limit(Family::V6, mtu));
    let header_octets = unfragmented + IPV6_FRAGMENT_OCTETS;
    let room = limit.saturating_sub(header_octets);
    let mut header = [0u8; IPV6_UNFRAGMENTED_MAX + IPV6_FRAGMENT_OCTETS];
    let header = &mut header[..header_octets];
    header[..unfragmented].copy_from_slice(&packet[..unfragmented]);
    header[next_header_at] = IPV6_FRAGMENT;
    header[unfragmented] = packet[next_header_at];
    header[unfragmented + 4..].copy_from_slice(&identification.to_be_bytes());
    for (at, piece) in pieces(payload, room, unfragmented, recut) {
        let more = u16::from(at + piece.len() < payload.len());
        let length = header_octets - IPV6_HEADER_OCTETS + piece.len();
        header[4..6].copy_from_slice(&(length as u16).to_be_bytes());
        header[unfragmented + 2..unfragmented + 4].copy_from_slice(&(at as u16 | more).to_be_bytes());
        emit(header, piece);
    }
}

/// The most that may stand in front of a fragment header; a packet with more is not cut.
const IPV6_UNFRAGMENTED_MAX: usize = 512;

/// Offset of the next-header field that a fragment header takes over, and where the fragment header goes: behind
/// hop-by-hop options, routing headers and the destination options before these (`ip6_find_1stfragopt`).
fn first_fragmentable(packet: &[u8]) -> (usize, usize) {
    const HOP_BY_HOP: u8 = 0;
    const ROUTING: u8 = 43;
    const DESTINATION: u8 = 60;
    let (mut field, mut at) = (6, IPV6_HEADER_OCTETS);
    let mut has_route = false;
    loop {
        match packet[field] {
            HOP_BY_HOP => {}
            ROUTING => has_route = true,
            DESTINATION if !has_route => {}
            _ => return (field, at),
        }
        let Some(extension) = packet.get(at..).and_then(|rest| rest.first_chunk::<2>()) else { return (field, at) };
        let end = at + 8 + usize::from(extension[1]) * 8;
        if end > packet.len().min(IPV6_UNFRAGMENTED_MAX) {
            return (field, at);
        }
        (field, at) = (at, end);
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
        cut_v4(&packet, 1500, None, |header, piece| {
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
        cut_v4(&packet, 1500, None, |header, _| headers.push(header.to_vec()));
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
        cut_v6(&packet, 1500, None, 7, |header, piece| pieces.push((header.to_vec(), piece.len())));
        assert_eq!(pieces.iter().map(|(_, length)| *length).collect::<Vec<_>>(), [1448, 32]);
        assert_eq!(pieces[0].0[40..48], [4, 0, 0, 1, 0, 0, 0, 7]);
        assert_eq!(pieces[1].0[40..48], [4, 0, 0x05, 0xa8, 0, 0, 0, 7]);
    }

    fn recut(family: Family, widest: u16, pieces: &[u32]) -> Recut {
        Recut { family, widest, dont_fragment: true, unfragmented: 40, keeps_pieces: true, pieces: pieces.to_vec() }
    }

    /// As recorded from the kernel: answers of IPv4, whose pieces lose DF then.
    #[test]
    fn what_was_cut_is_cut_where_it_was() {
        let packet = packet_v4(608, &[]);
        let cut = |recut: &Recut| {
            let mut made = Vec::new();
            cut_v4(&packet, 1500, Some(recut), |header, piece| {
                made.push((u16::from_be_bytes([header[6], header[7]]), piece.len()));
            });
            made
        };
        assert_eq!(cut(&recut(Family::V4, 228, &[200, 200, 208])), [(0x2000, 200), (0x2019, 200), (50, 208)]);
        let joined = Recut { keeps_pieces: false, ..recut(Family::V4, 228, &[200, 200, 208]) };
        assert_eq!(cut(&joined), [(0x6000, 208), (0x601a, 208), (0x4034, 192)]);
        // Longer ones do not fit, and none ends within a unit of offsets.
        assert_eq!(cut(&recut(Family::V4, 228, &[392, 216])), [(0x2000, 208), (0x201a, 208), (52, 192)]);
        assert_eq!(cut(&recut(Family::V4, 428, &[204, 404])), [(0x2000, 408), (51, 200)]);
    }

    /// As recorded from the kernel: headers of a tunnel lengthen the first piece, or end it within a unit of offsets.
    #[test]
    fn a_tunnel_lengthens_the_first_piece() {
        let cut = |outer: usize| {
            let mut packet = vec![0x60, 0, 0, 0, 0, 0, 47, 64];
            packet[4..6].copy_from_slice(&(outer as u16 + 608).to_be_bytes());
            packet.resize(40 + outer + 608, 0);
            let mut made = Vec::new();
            cut_v6(&packet, 1500, Some(&recut(Family::V6, 448, &[400, 208])), 7, |_, piece| made.push(piece.len()));
            made
        };
        assert_eq!(cut(40), [440, 208]);
        assert_eq!(cut(44), [652]);
        assert_eq!(cut(48), [448, 208]);
    }
}
