//! Which destinations have had their load lowered since a scheduler last looked: a bit for each.
//!
//! Loads are counted by whoever holds a connection, choices are made under a service's lock. A scheduler that
//! remembers loads ([`crate::sched`]'s tournament) looks anew at what it is about to choose, and so notices a load
//! that has risen; one that has fallen, at a destination it would pass over, is told of here.
//!
//! A bit of a service whose scheduler remembers nothing is set once and stays: setting it again is only a read.

use std::sync::atomic::{
    AtomicU64,
    Ordering::{Relaxed, SeqCst},
    fence,
};

use crate::service::destination::{DESTINATIONS_MAX, DestinationId};

/// The bits of all destinations, 64 a word, by number.
pub struct Lowered {
    words: Box<[AtomicU64]>,
}

impl Default for Lowered {
    fn default() -> Self {
        Self { words: (0..DESTINATIONS_MAX.div_ceil(64)).map(|_| AtomicU64::new(0)).collect() }
    }
}

impl Lowered {
    /// The word and the bit that stand for a destination.
    #[inline]
    pub fn place(id: DestinationId) -> (u32, u64) {
        (id.0 / 64, 1 << (id.0 % 64))
    }

    /// Says that a load was lowered, after it was: the count must have been changed in order `SeqCst`. Then, when the
    /// bit is found set, whoever clears it clears it after the count was changed, and sees the change.
    #[inline]
    pub(super) fn mark(&self, id: DestinationId) {
        let (word, bit) = Self::place(id);
        let word = &self.words[word as usize];
        // Many workers end connections of the same servers: those who come second leave the line alone.
        if word.load(SeqCst) & bit == 0 {
            word.fetch_or(bit, SeqCst);
        }
    }

    /// Which of the destinations in `mask` of word `word` have been marked, and the marks are gone. What is read of
    /// their counts from here on is at least as new as the marks.
    ///
    /// # Panics
    /// When `word` is beyond the table; words come from [`Lowered::place`].
    #[inline]
    pub fn take(&self, word: u32, mask: u64) -> u64 {
        let word = &self.words[word as usize];
        if word.load(Relaxed) & mask == 0 {
            return 0;
        }
        let taken = word.fetch_and(!mask, SeqCst) & mask;
        // The counts are read relaxed: see `mark`.
        fence(SeqCst);
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_taken_once_and_only_those_asked_for() {
        let lowered = Lowered::default();
        for number in [1, 63, 64, 130, DESTINATIONS_MAX as u32 - 1] {
            lowered.mark(DestinationId(number));
        }
        lowered.mark(DestinationId(63));
        assert_eq!(lowered.take(0, 1 << 62 | 1 << 1), 1 << 1);
        assert_eq!(lowered.take(0, u64::MAX), 1 << 63);
        assert_eq!(lowered.take(0, u64::MAX), 0);
        assert_eq!(lowered.take(1, u64::MAX), 1);
        assert_eq!(lowered.take(2, u64::MAX), 1 << 2);
        let (word, bit) = Lowered::place(DestinationId(DESTINATIONS_MAX as u32 - 1));
        assert_eq!(lowered.take(word, u64::MAX), bit);
    }
}
