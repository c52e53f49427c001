//! A port whose wires are vectors: for replay, tests and benchmarks.
//!
//! Frames are put in with [`MemoryPort::inject`] and come out of [`MemoryPort::take_transmitted`] in the order in
//! which they were sent. For benchmarks, [`MemoryPort::discard_transmitted`] counts what is sent and gives the
//! chunk back at once; then no call of the trait allocates once the port is warm.

use std::collections::VecDeque;

use crate::base::{Frame, InterfaceId};
use crate::port::{BATCH_FRAMES, HEADROOM_OCTETS, Port};

/// Size of a port's memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MemoryPortSize {
    /// Octets of a chunk, headroom included; more than [`HEADROOM_OCTETS`].
    pub chunk_octets: u32,
    /// Chunks, at least 1.
    pub chunks: u32,
}

impl Default for MemoryPortSize {
    /// Room for four batches of Ethernet frames.
    fn default() -> Self {
        Self { chunk_octets: 2048, chunks: 4 * BATCH_FRAMES as u32 }
    }
}

/// What the port counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct MemoryPortCounters {
    /// Frames put in.
    pub injected: u64,
    /// Frames not put in because they are larger than a chunk.
    pub too_large: u64,
    /// Frames not put in, or not allocated, because no chunk was free.
    pub no_chunk: u64,
    /// Frames sent.
    pub transmitted: u64,
    /// Frames handed to the host's stack.
    pub passed: u64,
    /// Frames given back.
    pub released: u64,
    /// Calls of [`Port::flush`].
    pub flushes: u64,
}

/// A port over one vector of chunks.
///
/// Every chunk has one owner: the free list, the receive queue, the holder of a [`Frame`], or the queue of what was
/// sent or passed. [`MemoryPort::free_chunks`] equals [`MemoryPort::chunks`] when nobody holds any.
pub struct MemoryPort {
    memory: Vec<u8>,
    chunk_octets: usize,
    free: Vec<u32>,
    received: VecDeque<Frame>,
    transmitted: VecDeque<(InterfaceId, Frame)>,
    passed: VecDeque<Frame>,
    discard: bool,
    counters: MemoryPortCounters,
}

impl MemoryPort {
    /// A port with all chunks free.
    ///
    /// # Panics
    /// When a chunk would not hold the headroom and an octet.
    pub fn new(size: MemoryPortSize) -> Self {
        let chunk_octets = size.chunk_octets as usize;
        assert!(chunk_octets > HEADROOM_OCTETS, "a chunk holds more than the headroom");
        let chunks = size.chunks.max(1);
        Self {
            memory: vec![0; chunk_octets * chunks as usize],
            chunk_octets,
            free: (0..chunks).rev().collect(),
            received: VecDeque::with_capacity(chunks as usize),
            transmitted: VecDeque::with_capacity(chunks as usize),
            passed: VecDeque::with_capacity(chunks as usize),
            discard: false,
            counters: MemoryPortCounters::default(),
        }
    }

    /// Puts a frame on the wire of an interface. False when it is larger than a chunk or no chunk is free.
    pub fn inject(&mut self, interface: InterfaceId, octets: &[u8]) -> bool {
        let Some(frame) = self.take_chunk(octets.len(), interface) else { return false };
        self.bytes_mut(&frame).copy_from_slice(octets);
        self.received.push_back(frame);
        self.counters.injected += 1;
        true
    }

    /// What was sent and not yet taken, in order.
    pub fn take_transmitted(&mut self) -> impl Iterator<Item = (InterfaceId, Vec<u8>)> {
        std::iter::from_fn(|| {
            let (interface, frame) = self.transmitted.pop_front()?;
            Some((interface, self.take_bytes(frame)))
        })
    }

    /// What was handed to the host's stack and not yet taken, in order, with the interface it came in by.
    pub fn take_passed(&mut self) -> impl Iterator<Item = (InterfaceId, Vec<u8>)> {
        std::iter::from_fn(|| {
            let frame = self.passed.pop_front()?;
            Some((frame.interface, self.take_bytes(frame)))
        })
    }

    /// From now on frames that are sent or passed are counted and their chunks given back, or kept again.
    pub fn discard_transmitted(&mut self, discard: bool) {
        self.discard = discard;
    }

    /// Chunks in all.
    pub fn chunks(&self) -> usize {
        self.memory.len() / self.chunk_octets
    }

    /// Chunks that nobody holds.
    pub fn free_chunks(&self) -> usize {
        self.free.len()
    }

    /// Frames put in and not yet received.
    pub fn waiting(&self) -> usize {
        self.received.len()
    }

    /// The counters.
    pub fn counters(&self) -> MemoryPortCounters {
        self.counters
    }

    fn take_bytes(&mut self, frame: Frame) -> Vec<u8> {
        let octets = self.bytes(&frame).to_vec();
        self.give_back(&frame);
        octets
    }

    fn take_chunk(&mut self, length: usize, interface: InterfaceId) -> Option<Frame> {
        if length > self.chunk_octets - HEADROOM_OCTETS {
            self.counters.too_large += 1;
            return None;
        }
        let Some(chunk) = self.free.pop() else {
            self.counters.no_chunk += 1;
            return None;
        };
        let start = u64::from(chunk) * self.chunk_octets as u64 + HEADROOM_OCTETS as u64;
        Some(Frame { start, length: length as u32, interface })
    }

    fn give_back(&mut self, frame: &Frame) {
        let chunk = self.chunk(frame) as u32;
        debug_assert!(!self.free.contains(&chunk), "a chunk is given back once");
        self.free.push(chunk);
    }

    fn chunk(&self, frame: &Frame) -> usize {
        frame.start as usize / self.chunk_octets
    }
}

impl Port for MemoryPort {
    fn receive(&mut self, batch: &mut Vec<Frame>) {
        let count = self.received.len().min(BATCH_FRAMES);
        batch.extend(self.received.drain(..count));
    }

    #[inline]
    fn bytes(&self, frame: &Frame) -> &[u8] {
        &self.memory[frame.start as usize..][..frame.length as usize]
    }

    #[inline]
    fn bytes_mut(&mut self, frame: &Frame) -> &mut [u8] {
        &mut self.memory[frame.start as usize..][..frame.length as usize]
    }

    fn push_front(&mut self, frame: &mut Frame, octets: usize) -> bool {
        let room = frame.start as usize % self.chunk_octets;
        if octets > room {
            return false;
        }
        frame.start -= octets as u64;
        frame.length += octets as u32;
        true
    }

    fn pull_front(&mut self, frame: &mut Frame, octets: usize) {
        let octets = octets.min(frame.length as usize);
        // An empty frame at its chunk's end would belong to the next chunk.
        let last = (self.chunk(frame) + 1) * self.chunk_octets - 1;
        frame.start = (frame.start + octets as u64).min(last as u64);
        frame.length -= octets as u32;
    }

    fn resize(&mut self, frame: &mut Frame, length: usize) -> bool {
        let room = self.chunk_octets - frame.start as usize % self.chunk_octets;
        if length > room {
            return false;
        }
        frame.length = length as u32;
        true
    }

    fn allocate(&mut self, length: usize, interface: InterfaceId) -> Option<Frame> {
        self.take_chunk(length, interface)
    }

    fn capacity(&self) -> usize {
        self.chunks()
    }

    fn transmit(&mut self, frame: Frame, interface: InterfaceId) {
        self.counters.transmitted += 1;
        if self.discard {
            self.give_back(&frame);
        } else {
            self.transmitted.push_back((interface, frame));
        }
    }

    fn pass(&mut self, frame: Frame) {
        self.counters.passed += 1;
        if self.discard {
            self.give_back(&frame);
        } else {
            self.passed.push_back(frame);
        }
    }

    fn release(&mut self, frame: Frame) {
        self.counters.released += 1;
        self.give_back(&frame);
    }

    fn flush(&mut self) {
        self.counters.flushes += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLIENTS: InterfaceId = InterfaceId(0);
    const SERVERS: InterfaceId = InterfaceId(1);

    fn port(chunks: u32) -> MemoryPort {
        MemoryPort::new(MemoryPortSize { chunk_octets: 256, chunks })
    }

    fn receive(port: &mut MemoryPort) -> Vec<Frame> {
        let mut batch = Vec::new();
        port.receive(&mut batch);
        batch
    }

    #[test]
    fn frames_come_out_in_order_and_no_chunk_is_lost() {
        let mut port = port(8);
        for octet in 0..5 {
            assert!(port.inject(CLIENTS, &[octet; 60]));
        }
        let mut frames = receive(&mut port).into_iter();
        for (frame, interface) in frames.by_ref().take(2).zip([SERVERS, CLIENTS]) {
            port.transmit(frame, interface);
        }
        port.pass(frames.next().unwrap());
        port.release(frames.next().unwrap());
        let held = frames.next().unwrap();
        port.flush();
        assert_eq!(port.free_chunks(), 8 - 4);
        let sent: Vec<_> = port.take_transmitted().collect();
        assert_eq!(sent, [(SERVERS, vec![0; 60]), (CLIENTS, vec![1; 60])]);
        assert_eq!(port.take_passed().collect::<Vec<_>>(), [(CLIENTS, vec![2; 60])]);
        assert_eq!(port.free_chunks(), 7);
        port.release(held);
        assert_eq!(port.free_chunks(), port.chunks());
        let counters = port.counters();
        assert_eq!((counters.injected, counters.transmitted, counters.passed, counters.released), (5, 2, 1, 2));
    }

    #[test]
    fn frames_larger_than_a_chunk_are_refused() {
        let mut port = port(2);
        let room = 256 - HEADROOM_OCTETS;
        assert!(port.inject(CLIENTS, &vec![1; room]));
        assert!(!port.inject(CLIENTS, &vec![1; room + 1]));
        assert!(port.allocate(room + 1, CLIENTS).is_none());
        assert_eq!(port.counters().too_large, 2);
        assert!(port.inject(CLIENTS, &[]));
        assert!(!port.inject(CLIENTS, &[]));
        assert_eq!(port.counters().no_chunk, 1);
    }

    #[test]
    fn the_headroom_holds_a_tunnel_header_and_no_more() {
        let mut port = port(2);
        port.inject(CLIENTS, b"inner");
        let mut frame = receive(&mut port).remove(0);
        assert!(port.push_front(&mut frame, HEADROOM_OCTETS));
        assert!(!port.push_front(&mut frame, 1));
        assert_eq!(port.bytes(&frame).len(), HEADROOM_OCTETS + 5);
        assert_eq!(&port.bytes(&frame)[HEADROOM_OCTETS..], b"inner");
        port.pull_front(&mut frame, HEADROOM_OCTETS + 1);
        assert_eq!(port.bytes(&frame), b"nner");
        assert!(port.resize(&mut frame, 2));
        assert_eq!(port.bytes(&frame), b"nn");
        assert!(port.resize(&mut frame, 256 - HEADROOM_OCTETS - 1));
        assert!(!port.resize(&mut frame, 256 - HEADROOM_OCTETS));
        port.pull_front(&mut frame, 1000);
        assert_eq!(port.bytes(&frame), b"");
        port.release(frame);
        assert_eq!(port.free_chunks(), 2);
    }

    #[test]
    fn a_batch_is_bounded() {
        let mut port = MemoryPort::new(MemoryPortSize { chunk_octets: 256, chunks: 100 });
        for _ in 0..100 {
            port.inject(CLIENTS, &[0; 60]);
        }
        let first = receive(&mut port);
        assert_eq!((first.len(), port.waiting()), (BATCH_FRAMES, 100 - BATCH_FRAMES));
        first.into_iter().for_each(|frame| port.release(frame));
    }

    #[test]
    fn recycling_runs_for_ever_in_the_same_memory() {
        let mut port = port(4);
        port.discard_transmitted(true);
        let mut batch = Vec::with_capacity(BATCH_FRAMES);
        for _ in 0..100 {
            while port.inject(CLIENTS, &[7; 60]) {}
            port.receive(&mut batch);
            assert_eq!(batch.len(), 4);
            batch.drain(..).for_each(|frame| port.transmit(frame, SERVERS));
            port.flush();
        }
        assert_eq!((port.counters().transmitted, port.free_chunks()), (400, 4));
        assert_eq!(port.take_transmitted().count(), 0);
    }
}
