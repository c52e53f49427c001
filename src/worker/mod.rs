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

/// Of so many batches one is timed. A prime, so that traffic that comes by turns (requests in one batch, answers in the
/// next) is met in each of them.
pub const BATCHES_PER_SAMPLE: u32 = 17;

/// One worker over its port.
pub struct Worker<P> {
    port: P,
    forwarder: Forwarder,
    batch: Vec<Frame>,
    cursor: Cursor,
    swept_until: Instant,
    /// Batches until one is timed.
    until_sample: u32,
    /// When the worker last looked into the rings and left nothing in them, if it has not slept since.
    emptied: Option<Instant>,
}

impl<P: Port> Worker<P> {
    /// A worker that starts at `now`.
    pub fn new(port: P, mut forwarder: Forwarder, now: Instant) -> Self {
        forwarder.hold_fragments_of(&port);
        let workers = forwarder.shared().workers.len().max(1);
        let first = forwarder.shared().connections.bucket_count() / workers * forwarder.worker();
        Self {
            port,
            forwarder,
            batch: Vec::with_capacity(BATCH_FRAMES),
            cursor: Cursor::new(first),
            swept_until: now,
            until_sample: 1,
            emptied: None,
        }
    }

    /// Takes one batch from the port to its verdicts; returns how many frames it had.
    #[inline]
    pub fn step(&mut self, now: Instant) -> usize {
        let frames = self.forward(now);
        self.sweep(now);
        frames
    }

    /// As [`Worker::step`], by a clock that is asked once and, after one of [`BATCHES_PER_SAMPLE`] batches, again: the
    /// time between is the residence time of the batch's frames.
    ///
    /// It begins just before the worker looks into its rings and ends when the port has been flushed: all that lvx
    /// does with the frames, and the kernel's work within the system calls of receiving and sending. It has neither
    /// what a frame waited in the rings before nor what it waits in those of the network card after. How long the
    /// former can have been is known of every batch: since the worker last emptied its rings. So in a row of full batches
    /// the bound grows, though each frame may have come much later. The time of the sweep is in it.
    #[inline]
    pub fn step_timed(&mut self, clock: impl Fn() -> Instant) -> usize {
        let now = clock();
        let frames = self.forward(now);
        if frames > 0 {
            let latency = &self.forwarder.shared().workers[self.forwarder.worker()].latency;
            if let Some(emptied) = self.emptied {
                latency.count_wait(now - emptied, frames);
            }
            self.until_sample -= 1;
            if self.until_sample == 0 {
                self.until_sample = BATCHES_PER_SAMPLE;
                latency.count_residence(clock() - now, frames);
            }
        }
        // A full batch may have left frames behind, which came since the rings were empty.
        if frames < BATCH_FRAMES || self.emptied.is_none() {
            self.emptied = Some(now);
        }
        self.sweep(now);
        frames
    }

    /// From receiving to flushing.
    #[inline]
    fn forward(&mut self, now: Instant) -> usize {
        self.forwarder.adopt();
        self.port.receive(&mut self.batch);
        let frames = self.batch.len();
        if frames > 0 {
            self.forwarder.process(&mut self.port, &mut self.batch, now);
        }
        self.forwarder.expire(&mut self.port, now);
        self.port.flush();
        frames
    }

    /// Says that the worker is about to wait, with no packet in hand; the next [`Worker::step`] looks for news first.
    pub fn sleep(&mut self) {
        // What wakes it is a frame, and that is seen at once.
        self.emptied = None;
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

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::sync::Arc;

    use super::*;
    use crate::base::{InterfaceId, Rng};
    use crate::conn::TableConfig;
    use crate::forward::Shared;
    use crate::forward::latency::LatencyCounts;
    use crate::port::memory::{MemoryPort, MemoryPortSize};
    use crate::route::Database;

    /// A worker whose clock goes on by a microsecond whenever it is read.
    struct Timed {
        worker: Worker<MemoryPort>,
        microseconds: Cell<u64>,
    }

    impl Timed {
        fn new() -> Self {
            let table = TableConfig { connections_max: 4, bucket_bits: 0 };
            let shared = Shared::new(1, table, Database::new(&["eth0".to_string()]).snapshot(), &mut Rng::new(1));
            let port = MemoryPort::new(MemoryPortSize { chunk_octets: 2048, chunks: 256 });
            let forwarder = Forwarder::new(Arc::new(shared), 0);
            Self { worker: Worker::new(port, forwarder, Instant::START), microseconds: Cell::new(0) }
        }

        fn step(&mut self, frames: usize) {
            for _ in 0..frames {
                assert!(self.worker.port_mut().inject(InterfaceId(0), &[0; 60]));
            }
            let clock = || {
                self.microseconds.set(self.microseconds.get() + 1);
                Instant::from_nanoseconds(1000 * self.microseconds.get())
            };
            assert_eq!(self.worker.step_timed(clock), frames);
            self.worker.port_mut().take_passed().for_each(drop);
        }

        fn read(&self) -> LatencyCounts {
            self.worker.forwarder.shared().workers[0].latency.read()
        }
    }

    #[test]
    fn one_of_so_many_batches_is_timed_the_first_of_all_included() {
        let mut timed = Timed::new();
        let batches = 3 * BATCHES_PER_SAMPLE as usize;
        for number in 0..batches {
            timed.step(0);
            timed.step(1 + number % 2);
        }
        let counts = timed.read();
        assert_eq!(
            timed.microseconds.get() as usize,
            2 * batches + 3,
            "the clock is read once a step, and for samples"
        );
        // The period is odd: batches that come by turns are both met.
        assert_eq!((counts.batches[0], counts.batches[1], counts.batches[2]), (0, 2, 1));
        let residence = counts.residence.histogram();
        assert_eq!((residence.len(), residence.lowest_equivalent(residence.max())), (4, 1000));
    }

    #[test]
    fn a_wait_is_the_time_since_the_last_look_of_a_worker_that_was_awake() {
        let mut timed = Timed::new();
        timed.step(3);
        assert!(timed.read().wait.histogram().is_empty(), "it had not looked before");
        timed.step(0);
        timed.microseconds.set(timed.microseconds.get() + 500);
        timed.step(2);
        let wait = timed.read().wait.histogram();
        assert_eq!(wait.len(), 2);
        assert!(wait.equivalent(wait.max(), 501_000), "{}", wait.max());
        timed.worker.sleep();
        timed.step(5);
        assert_eq!(timed.read().wait.histogram().len(), 2, "asleep, it waited for frames and not they for it");
        timed.step(1);
        assert_eq!(timed.read().wait.histogram().len(), 3);
    }

    /// What a full batch leaves behind came since the rings were last empty.
    #[test]
    fn after_full_batches_the_wait_is_since_the_rings_were_empty() {
        let mut timed = Timed::new();
        timed.step(1);
        timed.microseconds.set(10);
        timed.step(BATCH_FRAMES);
        timed.microseconds.set(200);
        timed.step(3);
        let wait = timed.read().wait.histogram();
        assert!(wait.equivalent(wait.max(), 200_000), "{}", wait.max());
        timed.microseconds.set(300);
        timed.step(1);
        let wait = timed.read().wait.histogram();
        assert!(wait.equivalent(wait.max(), 200_000), "the rings were empty since: {}", wait.max());
    }

    #[test]
    fn a_step_without_a_clock_measures_nothing() {
        let mut timed = Timed::new();
        assert!(timed.worker.port_mut().inject(InterfaceId(0), &[0; 60]));
        assert_eq!(timed.worker.step(Instant::from_seconds(1)), 1);
        assert_eq!(timed.read(), LatencyCounts::default());
    }
}
