//! Records to datagrams: collected for about two seconds, or until a datagram is full.
//!
//! Source: `ip_vs_sync_conn`, `sb_queue_tail`, `next_sync_buff` of `net/netfilter/ipvs/ip_vs_sync.c`, Linux 6.1.

use std::collections::VecDeque;

use crate::base::{Duration, Instant};
use crate::wire::sync::{Record, Version, Writer};

/// A datagram that is not full leaves when it is so old (`IPVS_SYNC_FLUSH_TIME`).
const FLUSH_AFTER: Duration = Duration::from_secs(2);
/// Full datagrams leave so long after the first of them (`IPVS_SYNC_SEND_DELAY`), …
const SEND_DELAY: Duration = Duration::from_millis(20);
/// … or when there are so many (`IPVS_SYNC_WAKEUP_RATE`).
const SEND_COUNT: usize = 8;

/// What goes out by one port.
#[derive(Default, Debug)]
pub(super) struct Assembly {
    /// The datagram that records are added to, and since when.
    building: Option<(Writer, Instant)>,
    /// Those that no record is added to any more.
    full: VecDeque<Vec<u8>>,
    /// When those leave.
    send_at: Option<Instant>,
}

/// The shape of datagrams.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub version: Version,
    pub syncid: u8,
    pub octets_max: usize,
    /// Datagrams that may wait; one more is lost.
    pub queue_max: usize,
}

impl Assembly {
    /// Adds a record. Returns how many datagrams were lost because too many wait.
    pub(super) fn add(&mut self, now: Instant, shape: &Shape, record: &Record<'_>) -> u64 {
        if let Some((writer, _)) = &mut self.building
            && writer.version() == shape.version
            && writer.push(record)
        {
            return 0;
        }
        let lost = self.close(now, shape.queue_max);
        let mut writer = Writer::new(shape.version, shape.syncid, shape.octets_max);
        // The first record always has room.
        let _ = writer.push(record);
        self.building = Some((writer, now));
        lost
    }

    fn close(&mut self, now: Instant, queue_max: usize) -> u64 {
        let Some((writer, _)) = self.building.take() else { return 0 };
        if self.full.len() >= queue_max {
            return 1;
        }
        self.full.push_back(writer.finish());
        let at = *self.send_at.get_or_insert(now + SEND_DELAY);
        self.send_at = Some(if self.full.len() >= SEND_COUNT { at.min(now) } else { at });
        0
    }

    /// Datagrams that wait, the one in the making among them.
    pub(super) fn waiting(&self) -> usize {
        self.full.len() + usize::from(self.building.is_some())
    }

    /// When [`Assembly::take`] has something.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let flush_at = self.building.as_ref().map(|(_, since)| *since + FLUSH_AFTER);
        [self.send_at, flush_at].into_iter().flatten().min()
    }

    /// The next datagram that is due by `now`.
    pub(super) fn take(&mut self, now: Instant) -> Option<Vec<u8>> {
        if self.send_at.is_some_and(|at| at <= now) {
            if let Some(datagram) = self.full.pop_front() {
                return Some(datagram);
            }
            self.send_at = None;
        }
        let is_old = self.building.as_ref().is_some_and(|(_, since)| *since + FLUSH_AFTER <= now);
        // What is full is older.
        if is_old { self.take_last() } else { None }
    }

    /// The next datagram, due or not.
    pub(super) fn take_last(&mut self) -> Option<Vec<u8>> {
        self.full.pop_front().or_else(|| self.building.take().map(|(writer, _)| writer.finish()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Address, Endpoint};

    const SHAPE: Shape = Shape { version: Version::V1, syncid: 1, octets_max: 80, queue_max: 16 };

    fn record() -> Record<'static> {
        let endpoint = Endpoint::new(Address::v4(1), 1);
        Record::example(endpoint, endpoint, endpoint)
    }

    fn at(milliseconds: u64) -> Instant {
        Instant::from_milliseconds(milliseconds)
    }

    /// Two records fill a datagram.
    fn fill(assembly: &mut Assembly, now: Instant, datagrams: usize) -> u64 {
        (0..2 * datagrams).map(|_| assembly.add(now, &SHAPE, &record())).sum()
    }

    #[test]
    fn a_datagram_leaves_when_it_is_two_seconds_old() {
        let mut assembly = Assembly::default();
        assert_eq!(assembly.next_deadline(), None);
        assembly.add(at(100), &SHAPE, &record());
        assembly.add(at(900), &SHAPE, &record());
        assert_eq!(assembly.next_deadline(), Some(at(2100)));
        assert_eq!(assembly.take(at(2099)), None);
        assert_eq!(assembly.take(at(2100)).unwrap().len(), 80);
        assert_eq!(assembly.take(at(9000)), None);
        assert_eq!(assembly.next_deadline(), None);
    }

    #[test]
    fn full_ones_leave_after_a_moment_or_when_there_are_eight() {
        let mut assembly = Assembly::default();
        fill(&mut assembly, at(0), 2);
        assert_eq!(assembly.next_deadline(), Some(at(20)));
        assert_eq!(assembly.take(at(19)), None);
        assert!(assembly.take(at(20)).is_some());
        assert_eq!(assembly.take(at(20)), None, "the second is not full until a third begins");
        assert_eq!(assembly.next_deadline(), Some(at(2000)));
        fill(&mut assembly, at(100), 8);
        assert_eq!(assembly.next_deadline(), Some(at(100)));
        assert_eq!(std::iter::from_fn(|| assembly.take(at(100))).count(), 8);
    }

    #[test]
    fn more_than_may_wait_are_lost() {
        let mut assembly = Assembly::default();
        assert_eq!(fill(&mut assembly, at(0), SHAPE.queue_max + 4), 3);
        assert_eq!(std::iter::from_fn(|| assembly.take_last()).count(), SHAPE.queue_max + 1);
    }

    #[test]
    fn another_version_begins_another_datagram() {
        let mut assembly = Assembly::default();
        assembly.add(at(0), &SHAPE, &record());
        assembly.add(at(0), &Shape { version: Version::V0, ..SHAPE }, &record());
        assert_eq!(assembly.take_last().unwrap().len(), 44);
        assert_eq!(assembly.take_last().unwrap().len(), 28);
    }
}
