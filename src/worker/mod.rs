//! The batch loop of one worker: receive, forward, transmit, sweep a slice of the table.
//!
//! **Invariants**
//! - A worker knows nothing of the configuration; it reads snapshots.
//! - One call of [`Worker::step`] takes at most one batch and a bounded slice of the sweep.

use crate::base::{Frame, Instant};
use crate::conn::sweep::Cursor;
use crate::forward::{Forwarder, Verdict};
use crate::port::{BATCH_FRAMES, Port};
use crate::service::DestinationId;

/// A pass of the sweep over the whole table takes about so long, nanoseconds.
const SWEEP_PASS_NANOSECONDS: u64 = 1_000_000_000;
/// Buckets that one step sweeps at most; what is left over is made up for by the next steps.
const SWEEP_BUCKETS_MAX: u64 = 2048;

/// One worker over its port.
pub struct Worker<P> {
    port: P,
    forwarder: Forwarder,
    batch: Vec<Frame>,
    cursor: Cursor,
    swept_until: Instant,
}

impl<P: Port> Worker<P> {
    /// A worker that starts at `now`.
    pub fn new(port: P, mut forwarder: Forwarder, now: Instant) -> Self {
        forwarder.hold_fragments_of(&port);
        let workers = forwarder.shared().workers.len().max(1);
        let first = forwarder.shared().connections.bucket_count() / workers * forwarder.worker();
        Self { port, forwarder, batch: Vec::with_capacity(BATCH_FRAMES), cursor: Cursor::new(first), swept_until: now }
    }

    /// Takes one batch from the port to its verdicts; returns how many frames it had.
    #[inline]
    pub fn step(&mut self, now: Instant) -> usize {
        self.forwarder.adopt();
        self.port.receive(&mut self.batch);
        let frames = self.batch.len();
        if frames > 0 {
            self.forwarder.process(&mut self.port, &mut self.batch, now);
        }
        self.forwarder.expire(&mut self.port, now);
        self.port.flush();
        self.sweep(now);
        frames
    }

    /// Says that the worker is about to wait, with no packet in hand; the next [`Worker::step`] looks for news first.
    pub fn sleep(&self) {
        self.forwarder.shared().sleep(self.forwarder.worker());
    }

    /// Has every packet take the careful way from now on, to compare it with the straight one.
    pub fn take_care(&mut self) {
        self.forwarder.take_care();
    }

    /// The verdicts of the last batch.
    pub fn verdicts(&self) -> &[Verdict] {
        self.forwarder.verdicts()
    }

    /// The real server to which packet number `position` of the last batch was sent, if it was meant for one.
    pub fn server_of(&self, position: usize) -> Option<DestinationId> {
        self.forwarder.server_of(position)
    }

    /// The port.
    pub fn port(&self) -> &P {
        &self.port
    }

    /// The port, to feed it.
    pub fn port_mut(&mut self) -> &mut P {
        &mut self.port
    }

    /// Sweeps this worker's share of the buckets for the time that has passed.
    fn sweep(&mut self, now: Instant) {
        let shared = self.forwarder.shared();
        let (buckets, workers) = (shared.connections.bucket_count() as u64, shared.workers.len().max(1) as u64);
        let passed = (now - self.swept_until).as_nanos().min(u128::from(SWEEP_PASS_NANOSECONDS)) as u64;
        let due = passed * buckets / (SWEEP_PASS_NANOSECONDS * workers);
        if due == 0 {
            return;
        }
        let count = due.min(SWEEP_BUCKETS_MAX);
        let freed = shared.connections.sweep(&mut self.cursor, count as usize, now);
        shared.workers[self.forwarder.worker()].counters.swept.add(freed as u64);
        // Time is given up only for what was swept, so that slow steps catch up.
        let spent = count * SWEEP_PASS_NANOSECONDS * workers / buckets;
        self.swept_until = if count == due { now } else { self.swept_until + std::time::Duration::from_nanos(spent) };
    }
}
