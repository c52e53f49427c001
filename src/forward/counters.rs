//! Counters of one worker: written by it alone, read by control.

use crate::base::Counter;
use crate::base::memory::{CounterLine, Slab, prefetch};
use crate::forward::verdict::{DropReason, Verdict};
use crate::service::DestinationId;
use crate::service::destination::DESTINATIONS_MAX;

/// What one worker counted for one destination.
#[derive(Clone, Copy, Debug)]
pub struct DestinationCounters<'a> {
    /// Connections scheduled.
    pub connections: &'a Counter,
    /// Packets from clients.
    pub in_packets: &'a Counter,
    /// Octets from clients, IP headers included.
    pub in_octets: &'a Counter,
    /// Packets to clients.
    pub out_packets: &'a Counter,
    /// Octets to clients.
    pub out_octets: &'a Counter,
}

impl DestinationCounters<'_> {
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
    /// A line by destination; what nobody has counted costs no memory.
    destinations: Slab<CounterLine>,
    drops: Box<[Counter]>,
    /// Frames received.
    pub received: Counter,
    /// Frames sent.
    pub transmitted: Counter,
    /// Those of them that took the straight way.
    pub straight: Counter,
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
            destinations: Slab::new(DESTINATIONS_MAX),
            drops: DropReason::ALL.iter().map(|_| Counter::default()).collect(),
            received: Counter::default(),
            transmitted: Counter::default(),
            straight: Counter::default(),
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
    #[inline(always)]
    fn line(&self, id: DestinationId) -> &CounterLine {
        &self.destinations[id.0 as usize % DESTINATIONS_MAX]
    }

    /// The counters of a destination.
    #[inline(always)]
    pub fn destination(&self, id: DestinationId) -> DestinationCounters<'_> {
        let [connections, in_packets, in_octets, out_packets, out_octets, ..] = &self.line(id).0;
        DestinationCounters { connections, in_packets, in_octets, out_packets, out_octets }
    }

    /// Three words in the line of a destination's counters, for the worker's own use: what each packet to it needs lies
    /// together.
    #[inline(always)]
    pub(super) fn beside(&self, id: DestinationId) -> [&Counter; 3] {
        let [.., first, second, third] = &self.line(id).0;
        [first, second, third]
    }

    /// Asks for the counters of a destination.
    #[inline(always)]
    pub fn prefetch(&self, id: DestinationId) {
        prefetch(self.line(id));
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
