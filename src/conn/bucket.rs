//! A bucket of the connection table: one cache line.
//!
//! ```text
//! octet  0  tags of slots 0, 2, 4, 6 (16 bits each, from the lowest on)
//!        8  tags of slots 1, 3, 5
//!       16  coarse deadlines of slots 0 to 6 (16 bits each), then the lock
//!       32  entries of slots 0 to 6, then the first of the overflow chain
//! ```
//! Tags of a word are compared all at once. A tag has 15 bits and is never 0, so that no empty slot looks like one.
//!
//! A slot's coarse deadline (thirds of a second, wrapping) never lies after the entry's own. A packet that moves a
//! deadline forward leaves it as it is; the sweep corrects it. So the sweep reads buckets in order and touches an
//! entry about once in its lifetime instead of once a pass.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use crate::base::memory::SplitLine;
use crate::conn::entry::{EntryId, TICKS_PER_SECOND};

/// Slots of a bucket.
pub(super) const SLOTS: usize = 7;
/// The first entry of the overflow chain stands behind the slots' entries.
const OVERFLOW: usize = SLOTS;

/// The lock stands behind the slots' coarse deadlines.
const LOCK: usize = SLOTS;

/// The highest bit of each part of a word.
const HIGHEST: u64 = 0x8000_8000_8000_8000;
/// Puts a tag into every place of a word.
const EVERYWHERE: u64 = 0x0001_0001_0001_0001;

/// Coarse deadlines count in this many ticks: a power of two, so that they wrap when the ticks do.
const COARSE_TICKS: u32 = 32;
/// A coarse deadline lies at most so far ahead (two hours): a bound that stays comparable in 16 wrapping bits.
const COARSE_AHEAD_TICKS: u32 = 2 * 60 * 60 * TICKS_PER_SECOND;

/// The tag of a hash.
#[inline(always)]
pub(super) const fn tag(hash: u64) -> u16 {
    (hash >> 49) as u16 | 1
}

/// The coarse form of a deadline, never later than it.
#[inline(always)]
pub(super) const fn coarse(deadline: u32, now_ticks: u32) -> u16 {
    let ahead = deadline.wrapping_sub(now_ticks);
    let bounded =
        if ahead as i32 > COARSE_AHEAD_TICKS as i32 { now_ticks.wrapping_add(COARSE_AHEAD_TICKS) } else { deadline };
    (bounded / COARSE_TICKS) as u16
}

/// A view of one bucket. What is written is written by whoever holds it.
#[derive(Clone, Copy)]
pub(super) struct Bucket<'t>(pub(super) &'t SplitLine);

impl<'t> Bucket<'t> {
    /// The entry of a slot.
    #[inline(always)]
    pub(super) fn id(self, slot: usize) -> EntryId {
        EntryId(self.0.narrow[slot].load(Relaxed))
    }

    /// The first entry beyond the slots.
    #[inline(always)]
    pub(super) fn overflow(self) -> EntryId {
        self.id(OVERFLOW)
    }

    pub(super) fn set_overflow(self, id: EntryId) {
        self.0.narrow[OVERFLOW].store(id.0, Relaxed);
    }

    /// The slots with this tag, in their order.
    #[inline(always)]
    pub(super) fn tagged(self, tag: u16) -> Tagged {
        let wanted = u64::from(tag) * EVERYWHERE;
        // Where the tags are the same nothing is taken away from the highest bit; elsewhere it goes, as each
        // difference is less than that bit.
        let same = |word: usize| {
            let differences = self.0.wide[word].load(Relaxed) ^ wanted;
            (HIGHEST - differences) & HIGHEST
        };
        // Slot 2n in bit 16n, slot 2n + 1 in the bit after it.
        Tagged(same(0) >> 15 | same(1) >> 14)
    }

    /// Slots that hold an entry.
    pub(super) fn taken(self) -> impl Iterator<Item = usize> + use<'t> {
        (0..SLOTS).filter(move |&slot| !self.id(slot).is_none())
    }

    pub(super) fn free_slot(self) -> Option<usize> {
        (0..SLOTS).find(|&slot| self.id(slot).is_none())
    }

    /// The coarse deadline of a slot.
    #[inline(always)]
    pub(super) fn bound(self, slot: usize) -> u16 {
        self.0.short[slot].load(Relaxed)
    }

    #[inline(always)]
    pub(super) fn set_bound(self, slot: usize, bound: u16) {
        self.0.short[slot].store(bound, Relaxed);
    }

    /// Puts an entry into a slot.
    pub(super) fn put(self, slot: usize, tag: u16, bound: u16, id: EntryId) {
        self.0.narrow[slot].store(id.0, Relaxed);
        self.set_bound(slot, bound);
        // Tags of slots 2n and 2n + 1 stand side by side, in two words.
        let (word, shift) = (&self.0.wide[slot % 2], slot / 2 * 16);
        word.store(word.load(Relaxed) & !(0xffff << shift) | u64::from(tag) << shift, Relaxed);
    }

    /// Empties a slot.
    pub(super) fn clear(self, slot: usize) {
        self.put(slot, 0, 0, EntryId::NONE);
    }
}

/// Slots that have a tag.
#[derive(Clone, Copy)]
pub(super) struct Tagged(u64);

impl Iterator for Tagged {
    type Item = usize;

    #[inline(always)]
    fn next(&mut self) -> Option<usize> {
        if self.0 == 0 {
            return None;
        }
        let bit = self.0.trailing_zeros() as usize;
        self.0 &= self.0 - 1;
        // Seven at most; said in a form that spares checks of what it indexes.
        Some(((bit / 8) | (bit % 2)) & 7)
    }
}

/// A held bucket.
pub(super) struct Held<'t> {
    pub(super) bucket: Bucket<'t>,
}

impl<'t> Held<'t> {
    /// Waits for the bucket, spinning.
    #[inline(always)]
    pub(super) fn lock(line: &'t SplitLine) -> Self {
        let lock = &line.short[LOCK];
        while lock.swap(1, Acquire) != 0 {
            while lock.load(Relaxed) != 0 {
                std::hint::spin_loop();
            }
        }
        Held { bucket: Bucket(line) }
    }
}

impl Drop for Held<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        self.bucket.0.short[LOCK].store(0, Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Rng;
    use crate::base::memory::Slab;

    #[test]
    fn slots_are_found_by_their_tags_in_their_order_held_or_not() {
        let slab: Slab<SplitLine> = Slab::new(1);
        let line = &slab[0];
        let mut rng = Rng::new(11);
        for _ in 0..2000 {
            let tags: [u16; SLOTS] = std::array::from_fn(|_| match rng.below(3) {
                0 => 0,
                1 => tag(rng.next_u64()),
                _ => tag(7 << 49),
            });
            let held = Held::lock(line);
            for (slot, &tag) in tags.iter().enumerate() {
                let id = if tag == 0 { EntryId::NONE } else { EntryId(slot as u32 + 1) };
                held.bucket.put(slot, tag, slot as u16 * 9, id);
            }
            for wanted in [tag(7 << 49), tag(rng.next_u64()), 0x7fff, 1] {
                let expected: Vec<usize> = (0..SLOTS).filter(|&slot| tags[slot] == wanted).collect();
                assert_eq!(held.bucket.tagged(wanted).collect::<Vec<_>>(), expected, "{tags:x?} held");
                assert_eq!(Bucket(line).tagged(wanted).collect::<Vec<_>>(), expected);
            }
            assert!((0..SLOTS).all(|slot| held.bucket.bound(slot) == slot as u16 * 9));
            assert_eq!(held.bucket.free_slot(), tags.iter().position(|&tag| tag == 0));
            drop(held);
            let taken = Bucket(line).taken().count();
            assert_eq!(taken, tags.iter().filter(|&&tag| tag != 0).count());
            assert_eq!(Bucket(line).tagged(tags[0].max(1)).next().is_some(), tags.contains(&tags[0].max(1)));
        }
    }

    #[test]
    fn what_is_put_leaves_its_neighbours_alone() {
        let slab: Slab<SplitLine> = Slab::new(1);
        let held = Held::lock(&slab[0]);
        for slot in 0..SLOTS {
            held.bucket.put(slot, tag((slot as u64 * 3) << 49), 100 + slot as u16, EntryId(1 + slot as u32));
        }
        held.bucket.set_overflow(EntryId(99));
        held.bucket.clear(3);
        held.bucket.set_bound(4, 7);
        for slot in 0..SLOTS {
            let bound = [100, 101, 102, 0, 7, 105, 106][slot];
            let id = [1, 2, 3, 0, 5, 6, 7][slot];
            assert_eq!((held.bucket.bound(slot), held.bucket.id(slot)), (bound, EntryId(id)));
        }
        assert_eq!(held.bucket.overflow(), EntryId(99));
        assert_ne!(slab[0].short[LOCK].load(Relaxed), 0, "still held");
        drop(held);
        assert_eq!(slab[0].short[LOCK].load(Relaxed), 0);
    }

    #[test]
    fn a_coarse_deadline_is_never_later() {
        for (deadline, now) in [(100, 0), (31, 0), (32, 0), (u32::MAX, u32::MAX - 50), (5, u32::MAX)] {
            let coarse_ticks = u32::from(coarse(deadline, now)) * COARSE_TICKS;
            let behind = (deadline as u16 as u32 & !31).wrapping_sub(coarse_ticks) as u16 & 0xffe0;
            assert_eq!(behind, 0, "{deadline} {now}");
        }
        let far = coarse(COARSE_AHEAD_TICKS * 3, 0);
        assert_eq!(u32::from(far), COARSE_AHEAD_TICKS / COARSE_TICKS);
    }
}
