//! The cells of one family: a slab and its free list.

use std::sync::atomic::AtomicU32;

use crate::base::memory::{Line, Slab, Zeroed, prefetch};
use crate::base::{Family, Lock};
use crate::conn::entry::{Entry, EntryId, WORDS_V4, WORDS_V6};

/// Cells of one width. A cell that nobody has used yet costs no memory.
pub(super) struct Pool<C: Zeroed> {
    family: Family,
    cells: Slab<C>,
    free: Lock<FreeList>,
}

#[derive(Default)]
struct FreeList {
    /// First of the cells given back, linked by their `next` words.
    head: EntryId,
    /// Cells from here on were never used.
    fresh: u32,
    used: u32,
}

/// What the pool needs of a cell: its words, as an entry sees them.
pub(super) trait Cell: Zeroed {
    fn words(&self) -> (&[AtomicU32; WORDS_V4], Option<&[AtomicU32; WORDS_V6 - WORDS_V4]>);
}

impl Cell for Line<WORDS_V4> {
    #[inline]
    fn words(&self) -> (&[AtomicU32; WORDS_V4], Option<&[AtomicU32; WORDS_V6 - WORDS_V4]>) {
        (&self.0, None)
    }
}

impl Cell for [AtomicU32; WORDS_V6] {
    #[inline]
    fn words(&self) -> (&[AtomicU32; WORDS_V4], Option<&[AtomicU32; WORDS_V6 - WORDS_V4]>) {
        let (head, _) = self.split_first_chunk().expect("a long cell is longer than a short one");
        (head, self.last_chunk())
    }
}

impl<C: Cell> Pool<C> {
    /// A pool of `capacity` cells.
    pub(super) fn new(family: Family, capacity: u32) -> Self {
        // Cell 0 is never used: its number would mean "none".
        let cells = Slab::new(capacity as usize + 1);
        Self { family, cells, free: Lock::new(FreeList { head: EntryId::NONE, fresh: 1, used: 0 }) }
    }

    #[inline(always)]
    pub(super) fn entry(&self, id: EntryId) -> Entry<'_> {
        let (head, tail) = self.cells[id.index() as usize].words();
        Entry::new(id, head, tail)
    }

    #[inline]
    pub(super) fn prefetch(&self, id: EntryId) {
        if let Some(cell) = self.cells.get(id.index() as usize) {
            let (head, tail) = cell.words();
            prefetch(&head[0]);
            if let Some([.., last]) = tail {
                prefetch(last);
            }
        }
    }

    /// A free cell; `None` when all are in use.
    pub(super) fn allocate(&self) -> Option<Entry<'_>> {
        let mut free = self.free.lock();
        let id = if !free.head.is_none() {
            let id = free.head;
            free.head = self.entry(id).next();
            id
        } else if (free.fresh as usize) < self.cells.len() {
            free.fresh += 1;
            EntryId::new(self.family, free.fresh - 1)
        } else {
            return None;
        };
        free.used += 1;
        Some(self.entry(id))
    }

    /// Gives a cell back.
    pub(super) fn free(&self, id: EntryId) {
        let mut free = self.free.lock();
        self.entry(id).set_next(free.head);
        free.head = id;
        free.used -= 1;
    }

    /// Cells in use.
    pub(super) fn used(&self) -> u32 {
        self.free.lock().used
    }

    pub(super) fn size_octets(&self) -> usize {
        self.cells.size_octets()
    }
}
