//! The cells of one family: a slab and its free list.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use crate::base::memory::{Mixed, Slab, prefetch};
use crate::base::{Family, Lock};
use crate::conn::entry::{ADDRESSES_FAR, ADDRESSES_NEAR, ADDRESSES_V4, Addresses, Entry, EntryId, FAR, NEAR};

/// Cells of one family. A cell that nobody has used yet costs no memory.
pub(super) struct Pool<C> {
    family: Family,
    cells: C,
    free: Lock<FreeList>,
    /// Cells in use; changed under the lock.
    used: AtomicU32,
}

/// Cells between the one that is given out and the one that is asked for.
const FRESH_AHEAD: u32 = 4;

#[derive(Default)]
struct FreeList {
    /// First of the cells given back, linked by their `next` words.
    head: EntryId,
    /// Cells from here on were never used.
    fresh: u32,
}

/// What the pool needs of cells: their words, as an entry sees them.
pub(super) trait Cells {
    /// This many, cell 0 included.
    fn new(count: usize) -> Self;

    fn count(&self) -> usize;

    fn entry(&self, id: EntryId) -> Entry<'_>;

    /// Asks for what every packet of the entry needs.
    fn prefetch_near(&self, id: EntryId);

    /// Asks for the rest, where that lies elsewhere.
    fn prefetch_far(&self, id: EntryId);

    /// Octets of address space.
    fn size_octets(&self) -> usize;

    /// Octets of the cells.
    fn octets(&self) -> usize;

    /// Has the kernel give all memory now.
    fn populate(&self);
}

/// Cells of IPv4 entries, a cache line each.
pub(super) struct CellsV4(Slab<Mixed<{ NEAR + FAR }, ADDRESSES_V4>>);

/// Cells of IPv6 entries, a line near and half a line far.
pub(super) struct CellsV6 {
    near: Slab<Mixed<NEAR, ADDRESSES_NEAR>>,
    far: Slab<Mixed<FAR, ADDRESSES_FAR>>,
}

impl Cells for CellsV4 {
    fn new(count: usize) -> Self {
        Self(Slab::of_huge_pages(count))
    }

    #[inline(always)]
    fn count(&self) -> usize {
        self.0.len()
    }

    #[inline(always)]
    fn entry(&self, id: EntryId) -> Entry<'_> {
        let cell = &self.0[id.index() as usize];
        let (near, far) = cell.narrow.split_first_chunk().expect("a cell has both parts");
        Entry::new(id, near, far.first_chunk().expect("and nothing else"), Addresses::V4(&cell.wide))
    }

    #[inline(always)]
    fn prefetch_near(&self, id: EntryId) {
        if let Some(cell) = self.0.get(id.index() as usize) {
            prefetch(cell);
        }
    }

    #[inline(always)]
    fn prefetch_far(&self, _id: EntryId) {}

    fn size_octets(&self) -> usize {
        self.0.size_octets()
    }

    fn octets(&self) -> usize {
        self.0.octets()
    }

    fn populate(&self) {
        self.0.populate();
    }
}

impl Cells for CellsV6 {
    fn new(count: usize) -> Self {
        Self { near: Slab::of_huge_pages(count), far: Slab::of_huge_pages(count) }
    }

    #[inline(always)]
    fn count(&self) -> usize {
        self.near.len()
    }

    #[inline(always)]
    fn entry(&self, id: EntryId) -> Entry<'_> {
        let (near, far) = (&self.near[id.index() as usize], &self.far[id.index() as usize]);
        Entry::new(id, &near.narrow, &far.narrow, Addresses::V6(&near.wide, &far.wide))
    }

    #[inline(always)]
    fn prefetch_near(&self, id: EntryId) {
        if let Some(cell) = self.near.get(id.index() as usize) {
            prefetch(cell);
        }
    }

    #[inline(always)]
    fn prefetch_far(&self, id: EntryId) {
        if let Some(cell) = self.far.get(id.index() as usize) {
            prefetch(cell);
        }
    }

    fn size_octets(&self) -> usize {
        self.near.size_octets() + self.far.size_octets()
    }

    fn octets(&self) -> usize {
        self.near.octets() + self.far.octets()
    }

    fn populate(&self) {
        self.near.populate();
        self.far.populate();
    }
}

impl<C: Cells> Pool<C> {
    /// A pool of `capacity` cells.
    pub(super) fn new(family: Family, capacity: u32) -> Self {
        // Cell 0 is never used: its number would mean "none".
        let cells = C::new(capacity as usize + 1);
        Self { family, cells, free: Lock::new(FreeList { head: EntryId::NONE, fresh: 1 }), used: AtomicU32::new(0) }
    }

    #[inline(always)]
    pub(super) fn entry(&self, id: EntryId) -> Entry<'_> {
        self.cells.entry(id)
    }

    #[inline(always)]
    pub(super) fn prefetch_near(&self, id: EntryId) {
        self.cells.prefetch_near(id);
    }

    #[inline(always)]
    pub(super) fn prefetch_far(&self, id: EntryId) {
        self.cells.prefetch_far(id);
    }

    /// A free cell; `None` when all are in use.
    pub(super) fn allocate(&self) -> Option<Entry<'_>> {
        let mut free = self.free.lock();
        let id = if !free.head.is_none() {
            let id = free.head;
            free.head = self.entry(id).next();
            // The next one's words, and which is the next after it.
            self.ask_for(free.head);
            id
        } else if (free.fresh as usize) < self.cells.count() {
            free.fresh += 1;
            self.ask_for(EntryId::new(self.family, free.fresh + FRESH_AHEAD));
            EntryId::new(self.family, free.fresh - 1)
        } else {
            return None;
        };
        self.used.store(self.used.load(Relaxed) + 1, Relaxed);
        Some(self.entry(id))
    }

    /// Gives a cell back.
    pub(super) fn free(&self, id: EntryId) {
        let mut free = self.free.lock();
        self.entry(id).set_next(free.head);
        free.head = id;
        self.used.store(self.used.load(Relaxed) - 1, Relaxed);
    }

    /// Asks for a cell that will soon be written: new entries would wait for its line.
    #[inline]
    fn ask_for(&self, id: EntryId) {
        self.prefetch_near(id);
        self.prefetch_far(id);
    }

    /// Has the kernel give all memory now.
    pub(super) fn populate(&self) {
        self.cells.populate();
    }

    /// Cells in use.
    pub(super) fn used(&self) -> u32 {
        self.used.load(Relaxed)
    }

    pub(super) fn size_octets(&self) -> usize {
        self.cells.size_octets()
    }

    pub(super) fn octets(&self) -> usize {
        self.cells.octets()
    }
}
