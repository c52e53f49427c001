//! Frames with VLAN tags (IEEE 802.1Q and 802.1ad).
//!
//! The VLAN devices of the host say which VLANs an interface carries: a frame of one of them has come in by that device,
//! and packets that are routed to it leave with its tags. A frame with other tags is taken as one of the interface that
//! received it; what it leads to keeps the tags if it leaves by the same interface.
//!
//! Tags are rare to the stages: the first reads over them, the fourth takes them out and has a port in between that puts
//! them back in.

use crate::base::{Frame, Instant, InterfaceId};
use crate::forward::decide::Decision;
use crate::forward::egress::NextHop;
use crate::forward::parse::{self, Packet, Parsed, TAGS};
use crate::forward::pipeline::{Forwarder, Slot};
use crate::forward::verdict::{DropReason, Verdict};
use crate::port::Port;
use crate::wire::ethernet::Tags;

impl Forwarder {
    /// Takes a frame apart that has tags; what has none is not ours to judge.
    #[cold]
    pub(super) fn parse_tagged(&self, frame: &[u8], carrier: InterfaceId, packet: &mut Packet) -> Parsed {
        let Some((tags, ether_type)) = Tags::of(frame) else { return Parsed::Other };
        let interface = self.routes().vlan(carrier, &tags).unwrap_or(carrier);
        if frame[..6] != self.station(interface)[..] {
            return Parsed::Other;
        }
        let octets = tags.octets();
        let parsed = parse::parse_packet(&frame[octets..], ether_type, packet);
        // Of all else the packet means nothing: it may be that of an earlier frame.
        if matches!(parsed, Parsed::Transport | Parsed::Fragment | Parsed::IcmpError) {
            packet.care |= TAGS;
            packet.network += octets as u16;
            packet.transport += octets as u16;
        }
        packet.interface = interface;
        parsed
    }

    /// Carries out what was decided on a frame with tags.
    #[cold]
    pub(super) fn carry_out_tagged<P: Port>(
        &mut self,
        port: &mut P,
        mut frame: Frame,
        slot: &mut Slot,
        now: Instant,
    ) -> Verdict {
        // A fragment waits as it came.
        if matches!(slot.decision, Decision::Verdict(_) | Decision::Gather) {
            return self.carry_out(port, frame, slot, now);
        }
        let Some((tags, _)) = Tags::of(port.bytes(&frame)) else {
            debug_assert!(false, "a tagged packet's frame has tags");
            return self.settle(port, frame, None, Verdict::Drop(DropReason::Malformed));
        };
        let octets = tags.octets();
        tags.take_out(port.bytes_mut(&frame));
        port.pull_front(&mut frame, octets);
        slot.packet.care &= !TAGS;
        slot.packet.network -= octets as u16;
        slot.packet.transport -= octets as u16;
        self.shift_error(slot, octets);
        let is_known = slot.packet.interface != frame.interface;
        let mut port = Tagging { carrier: frame.interface, port, tags, is_known };
        self.prepare(&mut port, &frame, slot, now);
        self.carry_out(&mut port, frame, slot, now)
    }

    /// The interface that carries a next hop's VLAN, and its tags.
    pub(super) fn carrier_of(&self, next: &NextHop) -> Option<(InterfaceId, Tags)> {
        self.routes().link(next.vlan?)?.vlan
    }

    /// Queues a frame that has its link header for a VLAN.
    #[cold]
    pub(super) fn transmit_tagged<P: Port>(&self, port: &mut P, mut frame: Frame, next: &NextHop) -> Verdict {
        let Some((carrier, tags)) = self.carrier_of(next) else {
            port.release(frame);
            return Verdict::Drop(DropReason::NoRoute);
        };
        if !put_in(port, &mut frame, &tags) {
            port.release(frame);
            return Verdict::Drop(DropReason::NoFrame);
        }
        port.transmit(frame, carrier);
        Verdict::Transmit(carrier)
    }
}

/// Puts tags into a frame, if there are any; false, and no change, when it has no room.
pub(super) fn put_in<P: Port + ?Sized>(port: &mut P, frame: &mut Frame, tags: &Tags) -> bool {
    let octets = tags.octets();
    if !port.push_front(frame, octets) {
        // The outer headers of a tunnel have taken the headroom.
        let length = frame.length as usize;
        if !port.resize(frame, length + octets) {
            return false;
        }
        port.bytes_mut(frame).copy_within(..length, octets);
    }
    tags.put_in(port.bytes_mut(frame));
    true
}

/// A port on which a frame without its tags is at work.
pub(super) struct Tagging<'a, P> {
    pub(super) port: &'a mut P,
    /// Where the frame came in.
    pub(super) carrier: InterfaceId,
    pub(super) tags: Tags,
    /// They are those of a VLAN device: what leaves is routed, and its tags are those of its own way.
    pub(super) is_known: bool,
}

impl<P: Port> Port for Tagging<'_, P> {
    fn receive(&mut self, batch: &mut Vec<Frame>) {
        self.port.receive(batch);
    }

    fn bytes(&self, frame: &Frame) -> &[u8] {
        self.port.bytes(frame)
    }

    fn bytes_mut(&mut self, frame: &Frame) -> &mut [u8] {
        self.port.bytes_mut(frame)
    }

    fn push_front(&mut self, frame: &mut Frame, octets: usize) -> bool {
        self.port.push_front(frame, octets)
    }

    fn pull_front(&mut self, frame: &mut Frame, octets: usize) {
        self.port.pull_front(frame, octets);
    }

    fn resize(&mut self, frame: &mut Frame, length: usize) -> bool {
        self.port.resize(frame, length)
    }

    fn allocate(&mut self, length: usize, interface: InterfaceId) -> Option<Frame> {
        self.port.allocate(length, interface)
    }

    fn capacity(&self) -> usize {
        self.port.capacity()
    }

    fn is_large(&self, frame: &Frame) -> bool {
        self.port.is_large(frame)
    }

    fn transmit(&mut self, mut frame: Frame, interface: InterfaceId) {
        // What leaves for a VLAN device has its tags already.
        let keeps_tags = || !self.is_known && interface == self.carrier && Tags::of(self.port.bytes(&frame)).is_none();
        if keeps_tags() && !put_in(self.port, &mut frame, &self.tags) {
            return self.port.release(frame);
        }
        self.port.transmit(frame, interface);
    }

    fn pass(&mut self, mut frame: Frame) {
        if put_in(self.port, &mut frame, &self.tags) {
            self.port.pass(frame);
        } else {
            self.port.release(frame);
        }
    }

    fn release(&mut self, frame: Frame) {
        self.port.release(frame);
    }

    fn flush(&mut self) {
        self.port.flush();
    }
}
