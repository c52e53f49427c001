//! Fragments on their way: which of them wait, what becomes of a datagram that is whole, and of one that never will be.
//!
//! All fragments that come here wait until their datagram is whole, as in the kernel: only the first knows the ports.
//! The XDP program sends none but those of addresses that services or masqueraded real servers have. The whole datagram
//! then goes through the ordinary stages, in a buffer of its own ([`Whole`]), and is cut again on its way out; what is
//! not balanced goes to the host in the fragments that came.
//!
//! Source: `ip_local_deliver` and `ip_vs_gather_frags` for IPv4, `nf_defrag_ipv6` (which comes first of all) for IPv6,
//! `ip_expire` and `ip6frag_expire_frag_queue` for what never gets whole; Linux 6.1.

use std::mem;

use crate::base::{Family, Frame, Instant};
use crate::forward::decide::{Answer, Decision};
use crate::forward::fragment::{Outlet, Recut};
use crate::forward::nat;
use crate::forward::parse::{self, ETHERNET_OCTETS, ETHERTYPE_IPV4, Packet, Parsed, ether_type};
use crate::forward::pipeline::{Forwarder, Slot, Way};
use crate::forward::place::Place;
use crate::forward::reassembly::{Datagram, FRAGMENTS_MAX, Gathered};
use crate::forward::related;
use crate::forward::straight::Straight;
use crate::forward::verdict::{DropReason, Verdict};
use crate::forward::vlan::Tagging;
use crate::forward::whole::{Fate, WHOLE_START, Whole};
use crate::port::Port;
use crate::wire;
use crate::wire::ethernet::Tags;

/// IP protocols of which a service or an error about one may be; of others the host puts the fragments together.
const PROTOCOLS: [u8; 6] =
    [wire::icmpv4::PROTOCOL, wire::tcp::PROTOCOL, wire::udp::PROTOCOL, 50, 51, wire::sctp::PROTOCOL];

impl Forwarder {
    /// Stage 1 for a fragment: to wait, or to the host at once.
    #[cold]
    pub(super) fn classify_fragment(&mut self, frame: &[u8], slot: &mut Slot) {
        let packet = slot.packet;
        if !self.services().balances(packet.family) {
            return slot.settle(Verdict::Pass);
        }
        let is_v4 = packet.family == Family::V4;
        let way = self.way(packet.destination.address);
        match way {
            Way::Inbound | Way::Returning => {}
            Way::Outbound(_) if is_v4 && packet.is_ipsec => return self.classify(slot),
            // The host looks at each fragment before IPVS does.
            Way::Outbound(_) if is_v4 && self.is_hosts(&packet, way) => return slot.settle(Verdict::Pass),
            Way::Outbound(_) => {}
            Way::Related(_) | Way::Neither => return slot.settle(Verdict::Pass),
        }
        if is_v4 && !PROTOCOLS.contains(&frame[usize::from(packet.network) + 9]) {
            return slot.settle(Verdict::Pass);
        }
        slot.settle(Verdict::Hold);
        slot.decision = Decision::Gather;
    }

    /// True for what a server sent: it is not addressed to the director, or only in a client's place.
    fn crosses(&self, way: Way) -> bool {
        match way {
            Way::Outbound(_) | Way::Returning => true,
            Way::Related(position) => self.errors[position as usize].hop.is_some(),
            Way::Inbound | Way::Neither => false,
        }
    }

    fn is_hosts(&self, packet: &Packet, way: Way) -> bool {
        let mtu = self.hop(way).map_or(u32::MAX, |hop| hop.mtu);
        packet.ttl <= 1 || packet.is_too_big_to_cross(mtu)
    }

    /// Stage 4 for the fragment at `position` of the batch: it waits, or its datagram is whole and follows the batch.
    #[cold]
    pub(super) fn gather<P: Port>(
        &mut self,
        port: &mut P,
        frame: Frame,
        packet: &Packet,
        position: usize,
        now: Instant,
    ) -> Verdict {
        let place = match Place::of(port.bytes(&frame), packet) {
            Ok(place) => place,
            Err(verdict) => return self.settle(port, frame, None, verdict),
        };
        let is_large = port.is_large(&frame);
        let verdict = match self.reassembly.gather(frame, is_large, &place, now) {
            Gathered::Waits => Verdict::Hold,
            Gathered::Refused(frame, reason) => self.settle(port, frame, None, Verdict::Drop(reason)),
            Gathered::Whole(datagram) => {
                self.whole.push((position, datagram));
                Verdict::Hold
            }
        };
        let counters = &self.slot.counters;
        for (frame, reason) in self.reassembly.discarded.drain(..) {
            counters.count(Verdict::Drop(reason));
            port.release(frame);
        }
        verdict
    }

    /// Takes the datagrams that the batch made whole on their way. Each is the verdict of the fragment that it waited
    /// for.
    #[cold]
    pub(super) fn carry_whole<P: Port>(&mut self, port: &mut P, now: Instant) {
        let mut whole = mem::take(&mut self.whole);
        let mut verdicts = mem::take(&mut self.verdicts);
        for (position, mut datagram) in whole.drain(..) {
            self.counters().reassembled.add(1);
            self.counters().fragments_joined.add(datagram.pieces.len() as u64);
            let verdict = self.carry_datagram(port, &mut datagram, now);
            if let Some(of_last) = verdicts.get_mut(position) {
                *of_last = verdict;
            }
            for piece in datagram.pieces.drain(..) {
                port.release(piece.frame);
            }
            self.reassembly.recycle(datagram);
        }
        self.verdicts = verdicts;
        self.whole = whole;
    }

    /// Leaves the datagram's frames in it, unless they went to the host.
    fn carry_datagram<P: Port>(&mut self, port: &mut P, datagram: &mut Datagram, now: Instant) -> Verdict {
        let mut buffer = mem::take(&mut self.buffer);
        let verdict = self.carry_in(port, &mut buffer, datagram, now);
        self.buffer = buffer;
        verdict.unwrap_or_else(|reason| {
            self.counters().count(Verdict::Drop(reason));
            Verdict::Drop(reason)
        })
    }

    fn carry_in<P: Port>(
        &mut self,
        port: &mut P,
        buffer: &mut [u8],
        datagram: &mut Datagram,
        now: Instant,
    ) -> Result<Verdict, DropReason> {
        let first = datagram.first().ok_or(DropReason::Malformed)?;
        let interface = first.frame.interface;
        let tags = Tags::of(port.bytes(&first.frame)).map(|(tags, _)| tags).unwrap_or_default();
        let (link, packet) = buffer[WHOLE_START..].split_at_mut(ETHERNET_OCTETS);
        link.copy_from_slice(&port.bytes(&first.frame)[..ETHERNET_OCTETS]);
        link[12..].copy_from_slice(&ether_type(datagram.family()).to_be_bytes());
        let (octets, unfragmented) =
            datagram.write(packet, ETHERNET_OCTETS + tags.octets(), |frame| port.bytes(frame))?;

        let vlan = self.routes().vlan(interface, &tags);
        // Without tags, none are put in.
        let mut tagging = Tagging { port, carrier: interface, tags, is_known: vlan.is_some() };
        let (mut wrapped, mut frame) = Whole::new(&mut tagging, buffer, ETHERNET_OCTETS + octets, interface);
        // Its tags are gone, and with them what tells of the device whose station it is for.
        frame.interface = vlan.unwrap_or(interface);
        let mut batch = mem::take(&mut self.single);
        batch.push(frame);
        let (mut slots, mut ways) = ([Slot::unused()], [Straight::CAREFUL]);
        self.begin(now);
        self.parse(&wrapped, &batch[0], &mut slots[0], now);
        batch[0].interface = interface;
        let [slot] = &mut slots;
        if matches!(slot.decision, Decision::Gather) {
            // A fragment within fragments: the host's to make sense of.
            slot.settle(Verdict::Pass);
        }
        slot.packet.widest = datagram.widest;
        // Who cuts a packet computes its checksum first.
        slot.packet.partial_checksum = false;
        let is_outbound = self.crosses(slot.way);
        self.prefetch_entries(&slots, &mut ways);
        self.decide(&wrapped, &batch, &mut slots, &mut ways, now);
        if datagram.family() == Family::V4 && is_outbound && datagram.dont_fragment() {
            self.refuse_uncut(&mut wrapped, &batch, &mut slots[0]);
        }
        let mut pieces = mem::take(&mut self.spare_pieces);
        pieces.clear();
        pieces.extend(datagram.pieces.iter().map(|piece| piece.octets));
        self.recut = Some(Recut {
            family: datagram.family(),
            widest: datagram.widest,
            dont_fragment: datagram.dont_fragment(),
            unfragmented,
            keeps_pieces: datagram.family() == Family::V6 || is_outbound,
            pieces,
        });
        self.carry_out_all(&mut wrapped, &mut batch, &mut slots, &mut ways, now);
        self.single = batch;
        let verdict = self.verdicts.first().copied().unwrap_or(Verdict::Pass);
        let (fate, is_changed) = (mem::replace(&mut wrapped.fate, Fate::Ended), wrapped.is_changed);
        match self.end(tagging, buffer, datagram, fate, is_changed) {
            true => Ok(verdict),
            false => Err(DropReason::NoFrame),
        }
    }

    /// Sends a datagram that went through the stages on, in pieces; false when there was no frame for one of them.
    fn end<P: Port>(
        &mut self,
        mut port: Tagging<'_, P>,
        buffer: &[u8],
        datagram: &mut Datagram,
        fate: Fate,
        is_changed: bool,
    ) -> bool {
        let Some(recut) = self.recut.take() else { return true };
        let mut complete = true;
        match fate {
            Fate::Ended => {}
            Fate::Passed(_) if !is_changed => {
                datagram.pieces.sort_unstable_by_key(|piece| piece.arrival);
                // They still have their tags.
                datagram.pieces.drain(..).for_each(|piece| port.port.pass(piece.frame));
            }
            Fate::Passed(frame) => {
                let widest = usize::from(datagram.widest);
                complete = self.cut_whole(&mut port, buffer, &frame, &recut, widest, Outlet::Host);
            }
            Fate::Sent(frame, interface) => {
                let outlet = Outlet::Wire(interface, Tags::default());
                complete = self.cut_whole(&mut port, buffer, &frame, &recut, usize::MAX, outlet);
            }
        }
        self.spare_pieces = recut.pieces;
        complete
    }

    fn cut_whole<P: Port>(
        &mut self,
        port: &mut P,
        buffer: &[u8],
        frame: &Frame,
        recut: &Recut,
        mtu: usize,
        outlet: Outlet,
    ) -> bool {
        let start = Whole::start(frame);
        self.scratch.clear();
        self.scratch.extend_from_slice(&buffer[start..start + frame.length as usize]);
        let family = match u16::from_be_bytes([self.scratch[12], self.scratch[13]]) {
            ETHERTYPE_IPV4 => Family::V4,
            _ => Family::V6,
        };
        self.cut(port, family, mtu, Some(recut), frame.interface, outlet)
    }

    /// A real server's datagram that came in fragments with DF set does not leave: the kernel tells the server the
    /// MTU of the link, whatever its length, under the address of the service (`ip_fragment`).
    fn refuse_uncut(&self, port: &mut Whole<'_>, batch: &[Frame], slot: &mut Slot) {
        if !matches!(slot.decision, Decision::ToClient | Decision::Changed { .. }) {
            return;
        }
        let mtu = self.hop(slot.way).map_or(u16::MAX, |hop| u16::try_from(hop.mtu).unwrap_or(u16::MAX));
        nat::decrement_ttl(port.bytes_mut(&batch[0]), &slot.packet);
        slot.packet.destination.address = slot.target.new.address;
        slot.decision = Decision::Answer(Answer::TooBig(mtu));
    }

    /// Ends datagrams that were not made whole in time; who sent the first fragment is told (RFC 792).
    #[inline]
    pub fn expire<P: Port>(&mut self, port: &mut P, now: Instant) {
        if self.reassembly.held() > 0 {
            self.expire_datagrams(port, now);
        }
    }

    #[cold]
    fn expire_datagrams<P: Port>(&mut self, port: &mut P, now: Instant) {
        while let Some(mut datagram) = self.reassembly.expire(now) {
            self.answers.refill(now);
            let has_first = datagram.first().is_some();
            for (position, piece) in datagram.pieces.drain(..).enumerate() {
                let verdict = match position {
                    0 if has_first => self.tell_expired(port, piece.frame),
                    _ => self.settle(port, piece.frame, None, Verdict::Drop(DropReason::FragmentTimeout)),
                };
                self.counters().count(verdict);
            }
            self.reassembly.recycle(datagram);
        }
    }

    fn tell_expired<P: Port>(&mut self, port: &mut P, frame: Frame) -> Verdict {
        let bytes = port.bytes(&frame);
        let station: [u8; 6] = std::array::from_fn(|at| bytes[at]);
        let mut packet = Packet::empty();
        let parsed = match parse::parse(bytes, &station, &mut packet) {
            Parsed::Other => self.parse_tagged(bytes, frame.interface, &mut packet),
            parsed => parsed,
        };
        let is_fragment = parsed == Parsed::Fragment;
        let at = usize::from(packet.transport);
        let (protocol, kind) = match packet.family {
            Family::V4 => (bytes[usize::from(packet.network) + 9], at),
            Family::V6 => (bytes[at], at + 8),
        };
        let is_icmp = matches!(protocol, wire::icmpv4::PROTOCOL | wire::icmpv6::PROTOCOL);
        packet.is_error = is_icmp && bytes.get(kind).is_some_and(|kind| related::is_related_type(packet.family, *kind));
        let tags = Tags::of(bytes).map(|(tags, _)| tags).unwrap_or_default();
        let is_known = packet.interface != frame.interface;
        let mut port = Tagging { port, carrier: frame.interface, tags, is_known };
        let port = &mut port;
        match is_fragment {
            true => self.answer(port, frame, &packet, Answer::ReassemblyTimeExceeded),
            false => self.settle(port, frame, None, Verdict::Drop(DropReason::FragmentTimeout)),
        }
    }

    /// Makes room for the fragments that a port can spare.
    pub fn hold_fragments_of(&mut self, port: &impl Port) {
        self.reassembly.limit(port.capacity());
    }
}

const _: () = assert!(FRAGMENTS_MAX <= u16::MAX as usize, "positions in order of arrival are sixteen bits");
