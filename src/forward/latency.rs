//! How long packets are in a worker's hands: times counted in the cells of an HDR histogram.
//!
//! The worker counts, control reads whenever it likes, and neither waits or allocates for the other: a cell is a
//! [`Counter`], with one writer. The types of `hdrhistogram` do not do that. A `Histogram` has no reader beside its
//! writer; behind a lock that the worker only tries, samples would be lost just when somebody looks. The recorders of
//! its feature `sync` hand over through a channel and make another histogram when a reader asks, on the writer's thread.
//! So the counts lie here, in cells that have the bounds of its own (a test holds that), and whoever reads makes a
//! `Histogram` of them: percentiles, sums and ends of cells are its.
//!
//! Limits: times from [`LONGEST_NS`] on count as that. A reader sees counts from a moment that is not the same for all
//! cells.

use hdrhistogram::Histogram;

use crate::base::Counter;
use crate::base::Duration;
use crate::port::BATCH_FRAMES;

/// The longest time that is told from longer ones, nanoseconds.
pub const LONGEST_NS: u64 = 10_000_000_000;

/// Decimal digits to which times are kept: a cell is at most a hundredth of its times wide.
const DIGITS: u8 = 2;

/// In each power of two from 2 to the power of this on, half of as many cells: what `hdrhistogram` takes for
/// [`DIGITS`]. Below, each nanosecond has a cell.
const SUB_CELL_BITS: u32 = 8;

/// The cell of a time in nanoseconds.
#[inline]
const fn cell_of(nanoseconds: u64) -> usize {
    let shift = (u64::BITS - SUB_CELL_BITS).saturating_sub(nanoseconds.leading_zeros());
    ((shift as usize) << (SUB_CELL_BITS - 1)) + (nanoseconds >> shift) as usize
}

/// The shortest time of a cell, nanoseconds.
const fn shortest_of(cell: usize) -> u64 {
    let half = 1 << (SUB_CELL_BITS - 1);
    let shift = (cell / half).saturating_sub(1);
    ((cell - shift * half) as u64) << shift
}

/// Cells of a histogram.
const CELLS: usize = cell_of(LONGEST_NS) + 1;

/// Packets by a time of theirs.
pub struct Times(Box<[Counter]>);

impl Default for Times {
    fn default() -> Self {
        Self((0..CELLS).map(|_| Counter::default()).collect())
    }
}

impl Times {
    /// Counts `packets` that took `time`; only the owning worker may call this.
    #[inline]
    fn count(&self, time: Duration, packets: usize) {
        let nanoseconds = time.as_secs().saturating_mul(1_000_000_000).saturating_add(u64::from(time.subsec_nanos()));
        self.0[cell_of(nanoseconds.min(LONGEST_NS))].add(packets as u64);
    }

    fn read(&self) -> TimeCounts {
        TimeCounts(self.0.iter().map(Counter::get).collect())
    }
}

/// What one worker measured; since its start.
#[derive(Default)]
pub struct LatencyCounters {
    residence: Times,
    wait: Times,
    /// Timed batches by their number of frames.
    batches: BatchCounters,
}

struct BatchCounters([Counter; BATCH_FRAMES + 1]);

impl Default for BatchCounters {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Counter::default()))
    }
}

impl LatencyCounters {
    /// A batch of `frames` frames was begun `time` ago and has left.
    #[inline]
    pub fn count_residence(&self, time: Duration, frames: usize) {
        self.residence.count(time, frames);
        self.batches.0[frames.min(BATCH_FRAMES)].add(1);
    }

    /// The `frames` frames of a batch may have lain in the rings for `time`: so long ago the worker last emptied them.
    #[inline]
    pub fn count_wait(&self, time: Duration, frames: usize) {
        self.wait.count(time, frames);
    }

    /// What has been counted so far.
    pub fn read(&self) -> LatencyCounts {
        let batches = self.batches.0.iter().map(Counter::get).collect();
        LatencyCounts { residence: self.residence.read(), wait: self.wait.read(), batches }
    }
}

/// Packets by a time of theirs, as read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TimeCounts(Vec<u64>);

impl TimeCounts {
    /// These counts as a histogram of nanoseconds.
    pub fn histogram(&self) -> Histogram<u64> {
        let mut histogram = Histogram::new_with_bounds(1, LONGEST_NS, DIGITS).expect("bounds that are in order");
        for (cell, &count) in self.0.iter().enumerate().filter(|(_, count)| **count > 0) {
            histogram.saturating_record_n(shortest_of(cell), count);
        }
        histogram
    }
}

/// What one worker or several measured, as read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LatencyCounts {
    /// From the batch's begin to its end, for packets of batches that were timed.
    pub residence: TimeCounts,
    /// Longest time that packets can have lain in the rings unseen, of a batch that left none behind.
    pub wait: TimeCounts,
    /// Timed batches by their number of frames, 0 to [`BATCH_FRAMES`].
    pub batches: Vec<u64>,
}

impl Default for LatencyCounts {
    fn default() -> Self {
        let times = TimeCounts(vec![0; CELLS]);
        Self { residence: times.clone(), wait: times, batches: vec![0; BATCH_FRAMES + 1] }
    }
}

impl LatencyCounts {
    fn change(&mut self, other: &Self, change: fn(u64, u64) -> u64) {
        let pairs = [
            (&mut self.residence.0, &other.residence.0),
            (&mut self.wait.0, &other.wait.0),
            (&mut self.batches, &other.batches),
        ];
        for (mine, others) in pairs {
            for (mine, other) in mine.iter_mut().zip(others) {
                *mine = change(*mine, *other);
            }
        }
    }

    /// Adds what another worker measured.
    pub fn add(&mut self, other: &Self) {
        self.change(other, u64::saturating_add);
    }

    /// What was counted after `earlier` was read from the same counters.
    #[must_use]
    pub fn since(mut self, earlier: &Self) -> Self {
        self.change(earlier, u64::saturating_sub);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NS: fn(u64) -> Duration = Duration::from_nanos;

    #[test]
    fn cells_are_those_of_hdrhistogram() {
        let reference = Histogram::<u64>::new_with_bounds(1, LONGEST_NS, DIGITS).unwrap();
        let near = |n: u64| [n.saturating_sub(1), n, n + 1];
        let powers = (0..34).flat_map(|bit| near(1 << bit));
        let fractions = (1..500u64).flat_map(|n| near(LONGEST_NS / n));
        for nanoseconds in (0..2000).chain(powers).chain(fractions).filter(|n| *n <= LONGEST_NS) {
            let cell = cell_of(nanoseconds);
            assert_eq!(shortest_of(cell), reference.lowest_equivalent(nanoseconds), "{nanoseconds} ns");
            assert_eq!(shortest_of(cell + 1), reference.next_non_equivalent(nanoseconds), "{nanoseconds} ns");
        }
        let cells: Vec<usize> = (0..CELLS).map(|cell| cell_of(shortest_of(cell))).collect();
        assert!(cells.iter().enumerate().all(|(cell, found)| cell == *found), "every cell has its times");
    }

    #[test]
    fn percentiles_count_packets_and_not_batches() {
        let counters = LatencyCounters::default();
        counters.count_residence(NS(1_000), 1);
        counters.count_residence(NS(100_000), 64);
        counters.count_residence(NS(3_000), 35);
        let counts = counters.read();
        let histogram = counts.residence.histogram();
        let near = |quantile: f64, nanoseconds: u64| {
            assert!(histogram.equivalent(histogram.value_at_quantile(quantile), nanoseconds), "{quantile}");
        };
        assert_eq!(histogram.len(), 100);
        near(0.01, 1_000);
        near(0.36, 3_000);
        near(0.37, 100_000);
        near(1.0, 100_000);
        assert_eq!((counts.batches[1], counts.batches[35], counts.batches[64]), (1, 1, 1));
        assert_eq!(counts.batches.iter().sum::<u64>(), 3);
        assert!(counts.wait.histogram().is_empty());
    }

    #[test]
    fn longer_times_and_larger_batches_count_as_the_longest_and_largest() {
        let counters = LatencyCounters::default();
        for time in [NS(LONGEST_NS), NS(LONGEST_NS + 1), Duration::from_secs(3600), Duration::MAX] {
            counters.count_residence(time, BATCH_FRAMES + 7);
            counters.count_wait(time, 1);
        }
        let counts = counters.read();
        let histogram = counts.residence.histogram();
        assert_eq!(histogram.len(), 4 * (BATCH_FRAMES as u64 + 7));
        assert!(histogram.equivalent(histogram.min(), LONGEST_NS) && histogram.equivalent(histogram.max(), LONGEST_NS));
        assert_eq!(counts.batches[BATCH_FRAMES], 4);
        assert_eq!(counts.wait.histogram().len(), 4);
    }

    #[test]
    fn no_time_at_all_is_a_time() {
        let counters = LatencyCounters::default();
        counters.count_residence(Duration::ZERO, 2);
        let histogram = counters.read().residence.histogram();
        assert_eq!((histogram.len(), histogram.max()), (2, 0));
    }

    #[test]
    fn workers_are_added_and_what_was_before_is_left_out() {
        let (one, other) = (LatencyCounters::default(), LatencyCounters::default());
        one.count_residence(NS(50), 3);
        one.count_wait(NS(7_000_000), 3);
        let before = one.read();
        one.count_residence(NS(2_000_000), 4);
        other.count_residence(NS(900), 5);
        let mut counts = one.read().since(&before);
        assert_eq!(counts.residence.histogram().len(), 4);
        assert!(counts.wait.histogram().is_empty(), "the stall was before");
        counts.add(&other.read());
        let histogram = counts.residence.histogram();
        assert_eq!((histogram.len(), counts.batches.iter().sum::<u64>()), (9, 2));
        assert!(histogram.equivalent(histogram.max(), 2_000_000) && histogram.equivalent(histogram.min(), 900));
        let read = one.read();
        assert_eq!(read.clone().since(&read), LatencyCounts::default());
    }
}
