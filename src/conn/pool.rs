//! The cells of one family: a slab and its free list.

use crate::base::memory::{Mixed, Slab, Zeroed, prefetch};
use crate::base::{Family, Lock};
use crate::conn::entry::{ADDRESSES_V4, ADDRESSES_V6, Addresses, Entry, EntryId, WORDS};

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

/// A cell of an IPv4 entry, one cache line.
pub(super) type CellV4 = Mixed<WORDS, ADDRESSES_V4>;
/// A cell of an IPv6 entry, one and a half.
pub(super) type CellV6 = Mixed<WORDS, ADDRESSES_V6>;

/// What the pool needs of a cell: its words, as an entry sees them.
pub(super) trait Cell: Zeroed {
    fn entry(&self, id: EntryId) -> Entry<'_>;

    /// Asks for the lines that it lies in.
    fn prefetch(&self);
}

impl Cell for CellV4 {
    #[inline(always)]
    fn entry(&self, id: EntryId) -> Entry<'_> {
        Entry::new(id, &self.narrow, Addresses::V4(&self.wide))
    }

    #[inline(always)]
    fn prefetch(&self) {
        prefetch(self);
    }
}

impl Cell for CellV6 {
    #[inline(always)]
    fn entry(&self, id: EntryId) -> Entry<'_> {
        Entry::new(id, &self.narrow, Addresses::V6(&self.wide))
    }

    #[inline(always)]
    fn prefetch(&self) {
        prefetch(self);
        prefetch(&self.wide[ADDRESSES_V6 - 1]);
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
        self.cells[id.index() as usize].entry(id)
    }

    #[inline(always)]
    pub(super) fn prefetch(&self, id: EntryId) {
        if let Some(cell) = self.cells.get(id.index() as usize) {
            cell.prefetch();
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
