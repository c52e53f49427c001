//! A port in memory whose frames are made before the clock runs.

#![allow(dead_code)] // Each benchmark uses a part.

use std::collections::VecDeque;

use lvx::base::memory::{Line, Slab, prefetch};
use lvx::base::{Frame, InterfaceId};
use lvx::port::{BATCH_FRAMES, HEADROOM_OCTETS, Port};

use crate::case::{Case, Traffic};

const CHUNK: usize = 2048;
const CHUNKS: usize = 2 * BATCH_FRAMES;

/// The interfaces of clients and of real servers.
pub const CLIENTS: InterfaceId = InterfaceId(0);
pub const SERVERS: InterfaceId = InterfaceId(1);

/// Frames of flows in random order, made by [`BenchPort::prepare`], counted on transmit.
pub struct BenchPort {
    memory: Vec<u8>,
    free: Vec<u64>,
    ready: Vec<Frame>,
    templates: [Vec<u8>; 2],
    case: Case,
    /// Known flows: so many, from this number on.
    first: u32,
    flows: u32,
    next: u32,
    packet: u64,
    /// Frames that left.
    pub transmitted: u64,
    /// A table of one line a flow, of which each packet touches its own.
    pub touched: Option<Slab<Line<16>>>,
    /// The batch's flows, for that.
    pub pending: VecDeque<u32>,
}

impl BenchPort {
    pub fn new(case: Case, flows: u32) -> Self {
        Self {
            memory: vec![0; CHUNKS * CHUNK],
            free: (0..CHUNKS as u64).map(|chunk| chunk * CHUNK as u64).collect(),
            ready: Vec::with_capacity(BATCH_FRAMES),
            templates: [case.template(false), case.template(true)],
            case,
            first: 0,
            flows,
            next: 0,
            packet: 0,
            transmitted: 0,
            touched: None,
            pending: VecDeque::with_capacity(BATCH_FRAMES),
        }
    }

    /// Sends SYNs of flows from `first` on; of known ones, begins at this place in their order.
    pub fn start_at(&mut self, first: u32) {
        self.next = first;
    }

    /// Sends packets of known flows from number `first` on.
    pub fn serve_from(&mut self, first: u32) {
        self.first = first;
    }

    /// Known flows: all of them without order, by a generator of full period modulo a power of two. New ones: in turn;
    /// where they stand in the table the hash decides.
    fn next_flow(&mut self) -> u32 {
        if !self.case.is_known() {
            self.next = self.next.wrapping_add(1);
            return self.next & 0x0fff_ffff;
        }
        let mask = self.flows.next_power_of_two() - 1;
        loop {
            self.next = self.next.wrapping_mul(0x0019_660d).wrapping_add(0x3c6e_f35f) & mask;
            if self.next < self.flows {
                return self.first + self.next;
            }
        }
    }

    /// Makes a batch of frames.
    pub fn prepare(&mut self) {
        while self.ready.len() < BATCH_FRAMES {
            let Some(chunk) = self.free.pop() else { return };
            let flow = self.next_flow();
            self.packet += 1;
            let answer = match self.case.traffic {
                Traffic::BothWays => self.packet.is_multiple_of(2),
                Traffic::Answers => true,
                Traffic::Known | Traffic::New | Traffic::Flood => false,
            };
            let template = &self.templates[usize::from(answer)];
            let start = chunk + HEADROOM_OCTETS as u64;
            let frame = &mut self.memory[start as usize..start as usize + template.len()];
            frame.copy_from_slice(template);
            self.case.address(frame, flow, answer);
            let interface = if answer { SERVERS } else { CLIENTS };
            self.ready.push(Frame { start, length: frame.len() as u32, interface });
            if self.touched.is_some() {
                self.pending.push_back(flow);
            }
        }
    }

    /// Takes the batch without a director: with a touch of each flow's line, if there is such a table, and of the
    /// headers.
    pub fn take(&mut self, batch: &mut Vec<Frame>) -> u64 {
        if let Some(table) = &self.touched {
            self.pending.iter().for_each(|&flow| prefetch(&table[flow as usize]));
        }
        self.receive(batch);
        let taken = batch.len() as u64;
        while let Some(flow) = self.pending.pop_front() {
            if let Some(table) = &self.touched {
                let line = &table[flow as usize].0;
                let before = line[0].load(std::sync::atomic::Ordering::Relaxed);
                line[1].store(before, std::sync::atomic::Ordering::Relaxed);
            }
        }
        for frame in batch.drain(..) {
            let bytes = self.bytes_mut(&frame);
            bytes.copy_within(6..54, 0);
            self.transmit(frame, SERVERS);
        }
        taken
    }
}

impl Port for BenchPort {
    #[inline]
    fn receive(&mut self, batch: &mut Vec<Frame>) {
        batch.append(&mut self.ready);
    }

    #[inline]
    fn bytes(&self, frame: &Frame) -> &[u8] {
        &self.memory[frame.start as usize..frame.start as usize + frame.length as usize]
    }

    #[inline]
    fn bytes_mut(&mut self, frame: &Frame) -> &mut [u8] {
        &mut self.memory[frame.start as usize..frame.start as usize + frame.length as usize]
    }

    #[inline]
    fn push_front(&mut self, frame: &mut Frame, octets: usize) -> bool {
        frame.start -= octets as u64;
        frame.length += octets as u32;
        true
    }

    #[inline]
    fn pull_front(&mut self, frame: &mut Frame, octets: usize) {
        frame.start += octets as u64;
        frame.length -= octets as u32;
    }

    #[inline]
    fn resize(&mut self, frame: &mut Frame, length: usize) -> bool {
        frame.length = length as u32;
        true
    }

    fn allocate(&mut self, length: usize, interface: InterfaceId) -> Option<Frame> {
        let start = self.free.pop()? + HEADROOM_OCTETS as u64;
        Some(Frame { start, length: length as u32, interface })
    }

    fn capacity(&self) -> usize {
        CHUNKS
    }

    #[inline]
    fn transmit(&mut self, frame: Frame, _interface: InterfaceId) {
        self.transmitted += 1;
        self.release(frame);
    }

    fn pass(&mut self, frame: Frame) {
        self.release(frame);
    }

    #[inline]
    fn release(&mut self, frame: Frame) {
        self.free.push(frame.start & !(CHUNK as u64 - 1));
    }

    fn flush(&mut self) {}
}
