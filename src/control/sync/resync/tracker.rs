//! The numbered datagrams of one sync port: what is in order, what waits, what is missing.
//!
//! Datagrams that come before their turn wait, so that records are applied in the order in which they were made: an old
//! record would put a connection back. What is missing is asked for after a moment, since it may only be late; what does
//! not come is given up, and those that waited are applied.

use std::collections::BTreeMap;

use crate::base::{Duration, Instant};

/// Datagrams of a port that may wait for those before them; with one more, what is missing is given up.
pub const HELD_MAX: usize = 1024;
/// Octets of them, of all ports of a master together, in equal parts.
pub const HELD_OCTETS_MAX: usize = 8 << 20;
/// Datagrams in a row that are asked for; more are given up.
pub const MISSING_MAX: u64 = 2048;
/// A datagram may be so late before it is missed.
const LATE: Duration = Duration::from_millis(20);
/// Likewise when it is only known that it was sent: that news goes another way.
const LATE_AT_END: Duration = Duration::from_millis(200);
/// Until it is asked again.
const ASK_AGAIN: Duration = Duration::from_millis(250);
/// How often it is asked.
const ASKS_MAX: u32 = 4;
/// Spans that are asked for at once.
const SPANS_MAX: usize = 16;

/// What becomes of a datagram.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Taken {
    /// It is the next; [`Tracker::pop_ready`] has those that waited for it.
    Next {
        /// Later ones came before it.
        is_late: bool,
    },
    /// It waits.
    Held {
        /// Later ones came before it.
        is_late: bool,
    },
    /// It has come before.
    Old,
    /// What is missing before it cannot be repaired; it is not taken, and [`Tracker::give_up`] is due.
    Far,
}

/// What is to be done about what is missing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Due {
    /// Nothing now.
    Nothing,
    /// To ask for these: first number and count.
    Ask {
        /// The spans.
        spans: Vec<(u32, u16)>,
        /// True the first time.
        is_first: bool,
    },
    /// It does not come any more.
    GiveUp,
}

/// The datagrams of a port. Numbers wrap at 32 bits on the wire; here they do not.
#[derive(Debug)]
pub struct Tracker {
    next: u64,
    /// One after the last that was sent, as far as is known.
    end: u64,
    held: BTreeMap<u64, Vec<u8>>,
    held_octets: usize,
    held_octets_max: usize,
    ask_at: Option<Instant>,
    asked: u32,
}

impl Tracker {
    /// A port of so many, whose next datagram has this number.
    pub fn new(next: u32, ports: u16) -> Self {
        let next = u64::from(next) + (1 << 32);
        let held_octets_max = HELD_OCTETS_MAX / usize::from(ports.max(1));
        Self { next, end: next, held: BTreeMap::new(), held_octets: 0, held_octets_max, ask_at: None, asked: 0 }
    }

    /// The number that is nearest to the next one.
    fn unwrapped(&self, number: u32) -> u64 {
        let step = number.wrapping_sub(self.next as u32).cast_signed();
        self.next.saturating_add_signed(step.into())
    }

    /// True when nothing is missing.
    pub const fn is_whole(&self) -> bool {
        self.next >= self.end
    }

    /// Datagrams that wait.
    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// Datagrams that are missing.
    pub fn missing(&self) -> u64 {
        self.end.saturating_sub(self.next) - self.held.len() as u64
    }

    /// Takes a datagram.
    pub fn take(&mut self, now: Instant, number: u32, datagram: &[u8]) -> Taken {
        let number = self.unwrapped(number);
        if number < self.next || self.held.contains_key(&number) {
            return Taken::Old;
        }
        let is_late = self.held.last_key_value().is_some_and(|(last, _)| *last > number);
        if number == self.next {
            self.next += 1;
            self.end = self.end.max(self.next);
            self.progress(now);
            return Taken::Next { is_late };
        }
        let is_full = self.held.len() >= HELD_MAX || self.held_octets + datagram.len() > self.held_octets_max;
        if is_full || number - self.next > MISSING_MAX {
            return Taken::Far;
        }
        self.held.insert(number, datagram.to_vec());
        self.held_octets += datagram.len();
        self.end = self.end.max(number + 1);
        if self.asked == 0 {
            let at = now + LATE;
            self.ask_at = Some(self.ask_at.map_or(at, |before| before.min(at)));
        }
        Taken::Held { is_late }
    }

    /// The next datagram, if it waits.
    pub fn pop_ready(&mut self, now: Instant) -> Option<Vec<u8>> {
        let datagram = self.held.remove(&self.next)?;
        self.held_octets -= datagram.len();
        self.next += 1;
        self.progress(now);
        Some(datagram)
    }

    /// Takes note that the master is about to send this number.
    pub fn learn_end(&mut self, now: Instant, next: u32) {
        self.end = self.end.max(self.unwrapped(next));
        if !self.is_whole() && self.ask_at.is_none() {
            self.ask_at = Some(now + LATE_AT_END);
        }
    }

    /// Something came: what else is missing gets its whole time again.
    fn progress(&mut self, now: Instant) {
        self.asked = 0;
        self.ask_at = (!self.is_whole()).then(|| now + LATE);
    }

    /// When [`Tracker::due`] has something.
    pub const fn next_deadline(&self) -> Option<Instant> {
        self.ask_at
    }

    /// What is due by `now`.
    pub fn due(&mut self, now: Instant) -> Due {
        if self.ask_at.is_none_or(|at| at > now) {
            return Due::Nothing;
        }
        if self.asked >= ASKS_MAX || self.end - self.next > MISSING_MAX {
            return Due::GiveUp;
        }
        self.ask_at = Some(now + ASK_AGAIN);
        self.asked += 1;
        Due::Ask { spans: self.spans(), is_first: self.asked == 1 }
    }

    /// The first spans that are missing.
    fn spans(&self) -> Vec<(u32, u16)> {
        let mut spans = Vec::new();
        let mut first = self.next;
        for end in self.held.keys().copied().chain([self.end]) {
            if end > first && spans.len() < SPANS_MAX {
                // At most MISSING_MAX.
                spans.push((first as u32, (end - first) as u16));
            }
            first = end + 1;
        }
        spans
    }

    /// Gives up what is missing: those that waited, in order, and how many do not come. A position that is far beyond
    /// is taken as the next one.
    pub fn give_up(&mut self) -> (Vec<Vec<u8>>, u64) {
        let missing = self.missing();
        let held = std::mem::take(&mut self.held);
        self.held_octets = 0;
        self.next = self.next.max(self.end);
        self.ask_at = None;
        self.asked = 0;
        (held.into_values().collect(), missing)
    }

    /// Goes on behind a datagram that was too far ahead; the rest was given up.
    pub fn jump(&mut self, number: u32) {
        self.next = self.unwrapped(number) + 1;
        self.end = self.next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Rng;

    fn at(milliseconds: u64) -> Instant {
        Instant::from_milliseconds(milliseconds)
    }

    fn take(tracker: &mut Tracker, now: Instant, number: u32) -> Vec<u32> {
        let octets = number.to_be_bytes();
        let mut applied = match tracker.take(now, number, &octets) {
            Taken::Next { .. } => vec![number],
            Taken::Held { .. } | Taken::Old => Vec::new(),
            Taken::Far => panic!("{number} is far"),
        };
        while let Some(datagram) = tracker.pop_ready(now) {
            applied.push(u32::from_be_bytes(datagram.try_into().unwrap()));
        }
        applied
    }

    #[test]
    fn what_comes_early_waits_for_what_is_late() {
        let mut tracker = Tracker::new(u32::MAX - 1, 1);
        assert_eq!(take(&mut tracker, at(0), u32::MAX - 1), [u32::MAX - 1]);
        assert!(tracker.is_whole());
        assert!(take(&mut tracker, at(1), 1).is_empty());
        assert!(take(&mut tracker, at(2), 0).is_empty(), "numbers wrap");
        assert_eq!((tracker.missing(), tracker.held()), (1, 2));
        assert_eq!(take(&mut tracker, at(3), u32::MAX), [u32::MAX, 0, 1]);
        assert!(tracker.is_whole());
        assert_eq!(tracker.next_deadline(), None);
        assert_eq!(tracker.take(at(4), 0, &[]), Taken::Old);
    }

    #[test]
    fn what_is_missing_is_asked_for_and_then_given_up() {
        let mut tracker = Tracker::new(1, 1);
        for number in [3, 4, 7] {
            assert!(take(&mut tracker, at(0), number).is_empty());
        }
        assert_eq!(tracker.due(at(19)), Due::Nothing);
        let spans = vec![(1, 2), (5, 2)];
        assert_eq!(tracker.due(at(20)), Due::Ask { spans: spans.clone(), is_first: true });
        assert_eq!(tracker.due(at(269)), Due::Nothing);
        for turn in 1..4 {
            let now = tracker.next_deadline().unwrap();
            assert_eq!(now, at(20 + 250 * turn));
            assert_eq!(tracker.due(now), Due::Ask { spans: spans.clone(), is_first: false });
        }
        assert_eq!(tracker.due(tracker.next_deadline().unwrap()), Due::GiveUp);
        let (held, missing) = tracker.give_up();
        assert_eq!((held, missing), ([3u32, 4, 7].map(|number| number.to_be_bytes().to_vec()).to_vec(), 4));
        assert_eq!(take(&mut tracker, at(2000), 8), [8]);
    }

    #[test]
    fn the_end_may_be_missing() {
        let mut tracker = Tracker::new(1, 1);
        tracker.learn_end(at(0), 3);
        assert_eq!(take(&mut tracker, at(10), 1), [1], "it was under way");
        assert_eq!(tracker.due(at(29)), Due::Nothing);
        assert_eq!(tracker.due(at(30)), Due::Ask { spans: vec![(2, 1)], is_first: true });
        assert_eq!(take(&mut tracker, at(40), 2), [2]);
        assert_eq!(tracker.next_deadline(), None);
        tracker.learn_end(at(50), 2);
        assert!(tracker.is_whole(), "old news");
    }

    #[test]
    fn too_much_is_far() {
        let mut tracker = Tracker::new(0, 1);
        for number in 1..=HELD_MAX as u32 {
            take(&mut tracker, at(0), number);
        }
        assert_eq!(tracker.take(at(0), HELD_MAX as u32 + 1, &[]), Taken::Far);
        assert_eq!(tracker.give_up().1, 1);
        tracker.jump(HELD_MAX as u32 + 1);
        assert!(tracker.is_whole());
        let far = HELD_MAX as u32 + 2 + MISSING_MAX as u32;
        assert_eq!(tracker.take(at(0), far + 1, &[]), Taken::Far);
        assert_eq!(tracker.take(at(0), far, &vec![0; HELD_OCTETS_MAX + 1]), Taken::Far);
        tracker.learn_end(at(0), far + 10);
        assert_eq!(tracker.due(at(200)), Due::GiveUp);
    }

    /// Whatever is lost, doubled and reordered: what is handed out is in order, each once.
    #[test]
    fn order_is_kept() {
        let mut rng = Rng::new(9);
        for _ in 0..300 {
            let first = rng.next_u32();
            let mut tracker = Tracker::new(first, 1);
            let mut order: Vec<u32> = (0..200u32).filter(|_| rng.below(10) > 0).collect();
            order.extend((0..200u32).filter(|_| rng.below(10) == 0));
            for at in 1..order.len() {
                let back: usize = rng.below(8) as usize;
                order.swap(at, at.saturating_sub(back));
            }
            let mut out = Vec::new();
            for step in order {
                out.extend(take(&mut tracker, at(0), first.wrapping_add(step)));
            }
            let (rest, _) = tracker.give_up();
            out.extend(rest.into_iter().map(|octets| u32::from_be_bytes(octets.try_into().unwrap())));
            let steps: Vec<u32> = out.iter().map(|number| number.wrapping_sub(first)).collect();
            assert!(steps.windows(2).all(|pair| pair[0] < pair[1]), "{steps:?}");
        }
    }
}
