//! Counters of one worker: written by it alone, read by control.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::base::chunked::Chunked;
use crate::forward::verdict::{DropReason, Verdict};
use crate::service::DestinationId;
use crate::service::destination::DESTINATIONS_MAX;

/// A counter with one writer.
#[derive(Default, Debug)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds; only the owning worker may call this (an ordinary addition, not an atomic one).
    #[inline]
    pub fn add(&self, amount: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(amount), Relaxed);
    }

    /// The value so far.
    #[inline]
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// What one worker counted for one destination.
#[derive(Default, Debug)]
#[repr(align(64))]
pub struct DestinationCounters {
    /// Connections scheduled.
    pub connections: Counter,
    /// Packets from clients.
    pub in_packets: Counter,
    /// Octets from clients, IP headers included.
    pub in_octets: Counter,
    /// Packets to clients.
    pub out_packets: Counter,
    /// Octets to clients.
    pub out_octets: Counter,
}

impl DestinationCounters {
    /// Counts a packet on its way to the destination; octets of the IP packet.
    #[inline(always)]
    pub(super) fn count_in(&self, octets: u16) {
        self.in_packets.add(1);
        self.in_octets.add(u64::from(octets));
    }

    /// Counts a packet that the destination sent.
    #[inline(always)]
    pub(super) fn count_out(&self, octets: u16) {
        self.out_packets.add(1);
        self.out_octets.add(u64::from(octets));
    }
}

/// All counters of one worker.
pub struct WorkerCounters {
    destinations: Chunked<DestinationCounters>,
    drops: Box<[Counter]>,
    /// Frames received.
    pub received: Counter,
    /// Frames sent.
    pub transmitted: Counter,
    /// Frames given to the kernel.
    pub passed: Counter,
    /// Batches that had at least one frame.
    pub batches: Counter,
    /// Datagrams put together of fragments; what became of each is counted once.
    pub reassembled: Counter,
    /// The fragments that they came in.
    pub fragments_joined: Counter,
    /// Entries that the worker's sweep freed.
    pub swept: Counter,
    /// Requests to control that found their queue full.
    pub requests_lost: Counter,
}

impl Default for WorkerCounters {
    fn default() -> Self {
        Self {
            destinations: Chunked::new(DESTINATIONS_MAX),
            drops: DropReason::ALL.iter().map(|_| Counter::default()).collect(),
            received: Counter::default(),
            transmitted: Counter::default(),
            passed: Counter::default(),
            batches: Counter::default(),
            reassembled: Counter::default(),
            fragments_joined: Counter::default(),
            swept: Counter::default(),
            requests_lost: Counter::default(),
        }
    }
}

impl WorkerCounters {
    /// The counters of a destination.
    #[inline]
    pub fn destination(&self, id: DestinationId) -> &DestinationCounters {
        match self.destinations.get(id.0 as usize) {
            Some(counters) => counters,
            None => self.destinations.get_or_make(id.0 as usize),
        }
    }

    /// The counters of a destination, if the worker ever met its neighbourhood.
    pub fn peek(&self, id: DestinationId) -> Option<&DestinationCounters> {
        self.destinations.get(id.0 as usize)
    }

    /// Packets dropped for `reason`.
    pub fn drops(&self, reason: DropReason) -> u64 {
        self.drops[reason as usize].get()
    }

    /// Counts a verdict.
    #[inline]
    pub fn count(&self, verdict: Verdict) {
        match verdict {
            Verdict::Transmit(_) => self.transmitted.add(1),
            Verdict::Pass => self.passed.add(1),
            Verdict::Hold => {}
            Verdict::Drop(reason) => self.drops[reason as usize].add(1),
        }
    }
}
