//! A port for one datagram that was put together: its octets lie in a buffer of the worker, all else is the port's that
//! its fragments came by. With it, the ordinary stages take the datagram on its way.
//!
//! What becomes of the datagram is only noted: whoever made the port cuts it and sends it on ([`Fate`]).

use crate::base::{Frame, InterfaceId};
use crate::forward::parse::ETHERNET_OCTETS;
use crate::port::{HEADROOM_OCTETS, Port};

/// Octets of the buffer: headroom, link header, the longest packet.
pub(super) const WHOLE_OCTETS: usize = HEADROOM_OCTETS + ETHERNET_OCTETS + (1 << 16) + 64;
/// Where the frame begins in the buffer.
pub(super) const WHOLE_START: usize = HEADROOM_OCTETS;

/// Marks the frame in the buffer; no port has as much memory.
const OWN: u64 = 1 << 63;

/// True for the frame of a datagram that was put together.
pub(super) const fn is_whole(frame: &Frame) -> bool {
    frame.start & OWN != 0
}

/// What became of the datagram.
#[derive(Debug)]
pub(super) enum Fate {
    /// It goes nowhere.
    Ended,
    /// It leaves by an interface.
    Sent(Frame, InterfaceId),
    /// It is the host's.
    Passed(Frame),
}

/// The port.
pub(super) struct Whole<'a> {
    inner: &'a mut dyn Port,
    buffer: &'a mut [u8],
    pub(super) fate: Fate,
    /// The octets are no longer those that came in.
    pub(super) is_changed: bool,
}

impl<'a> Whole<'a> {
    /// The port and the frame of a datagram of `length` octets with its link header, at [`WHOLE_START`] of `buffer`.
    pub(super) fn new(
        inner: &'a mut dyn Port,
        buffer: &'a mut [u8],
        length: usize,
        interface: InterfaceId,
    ) -> (Self, Frame) {
        let frame = Frame { start: OWN | WHOLE_START as u64, length: length as u32, interface };
        (Self { inner, buffer, fate: Fate::Ended, is_changed: false }, frame)
    }

    /// Where the datagram's frame begins in the buffer.
    pub(super) const fn start(frame: &Frame) -> usize {
        (frame.start & !OWN) as usize
    }
}

impl Port for Whole<'_> {
    fn receive(&mut self, _batch: &mut Vec<Frame>) {}

    fn bytes(&self, frame: &Frame) -> &[u8] {
        match is_whole(frame) {
            true => &self.buffer[Self::start(frame)..][..frame.length as usize],
            false => self.inner.bytes(frame),
        }
    }

    fn bytes_mut(&mut self, frame: &Frame) -> &mut [u8] {
        if !is_whole(frame) {
            return self.inner.bytes_mut(frame);
        }
        self.is_changed = true;
        &mut self.buffer[Self::start(frame)..][..frame.length as usize]
    }

    fn push_front(&mut self, frame: &mut Frame, octets: usize) -> bool {
        if !is_whole(frame) {
            return self.inner.push_front(frame, octets);
        }
        if octets > Self::start(frame) {
            return false;
        }
        frame.start -= octets as u64;
        frame.length += octets as u32;
        true
    }

    fn pull_front(&mut self, frame: &mut Frame, octets: usize) {
        if !is_whole(frame) {
            return self.inner.pull_front(frame, octets);
        }
        let octets = octets.min(frame.length as usize);
        frame.start += octets as u64;
        frame.length -= octets as u32;
    }

    fn resize(&mut self, frame: &mut Frame, length: usize) -> bool {
        if !is_whole(frame) {
            return self.inner.resize(frame, length);
        }
        if length > self.buffer.len() - Self::start(frame) {
            return false;
        }
        frame.length = length as u32;
        true
    }

    fn capacity(&self) -> usize {
        self.inner.capacity()
    }

    fn allocate(&mut self, length: usize, interface: InterfaceId) -> Option<Frame> {
        self.inner.allocate(length, interface)
    }

    fn transmit(&mut self, frame: Frame, interface: InterfaceId) {
        match is_whole(&frame) {
            true => self.fate = Fate::Sent(frame, interface),
            false => self.inner.transmit(frame, interface),
        }
    }

    fn pass(&mut self, frame: Frame) {
        match is_whole(&frame) {
            true => self.fate = Fate::Passed(frame),
            false => self.inner.pass(frame),
        }
    }

    fn release(&mut self, frame: Frame) {
        if !is_whole(&frame) {
            self.inner.release(frame);
        }
    }

    fn flush(&mut self) {}
}
