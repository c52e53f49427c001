//! The cells of one family: a slab and its free cells.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use crate::base::memory::{Mixed, Slab, prefetch};
use crate::base::shard::{self, SHARDS};
use crate::base::{Family, Lock};
use crate::conn::entry::{ADDRESSES_FAR, ADDRESSES_NEAR, ADDRESSES_V4, Addresses, Entry, EntryId, FAR, NEAR};

/// Cells of one family. A cell that nobody has used yet costs no memory.
///
/// Each thread has free cells of its own, so that workers which open connections do not meet here. It gets and gives
/// them [`CHAIN`] at a time, and takes some of another's before it says that there are none.
pub(super) struct Pool<C> {
    family: Family,
    cells: C,
    shards: [Shard; SHARDS],
    store: Lock<Store>,
    /// A thread found no cell, and none has come back to the store since.
    is_short: AtomicBool,
}

/// Free cells that move between a thread's own and those of all.
const CHAIN: u32 = 32;
/// Cells between the one that is given out and the one that is asked for.
const FRESH_AHEAD: u32 = 4;

/// What belongs to one thread; others come only to count, or when all else is used up.
#[repr(align(128))]
#[derive(Default)]
struct Shard {
    own: Lock<Own>,
    /// Cells that this thread has given out. Changed under the lock.
    given: AtomicU64,
    /// Cells that this thread has taken back.
    returned: AtomicU64,
}

#[derive(Default)]
struct Own {
    loaded: Chain,
    /// Empty or of [`CHAIN`] cells: what goes to all when the thread has too many, so that a thread that gives and takes
    /// in turn does not go there.
    spare: Chain,
    /// Cells that were never used, from the first up to the second.
    fresh: (u32, u32),
}

/// Free cells, linked by their `next` words.
#[derive(Clone, Copy, Default)]
struct Chain {
    head: EntryId,
    length: u32,
}

/// The free cells that are no thread's.
struct Store {
    /// Chains that were given back, the first cell of each linked to that of the next by its controller's word.
    chains: EntryId,
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

impl Chain {
    const EMPTY: Chain = Chain { head: EntryId::NONE, length: 0 };
}

impl<C: Cells> Pool<C> {
    /// A pool of `capacity` cells.
    pub(super) fn new(family: Family, capacity: u32) -> Self {
        // Cell 0 is never used: its number would mean "none".
        let store = Lock::new(Store { chains: EntryId::NONE, fresh: 1 });
        Self {
            family,
            cells: C::new(capacity as usize + 1),
            shards: Default::default(),
            store,
            is_short: AtomicBool::new(false),
        }
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
        let shard = &self.shards[shard::own()];
        let mut own = shard.own.lock();
        let id = match self.take(&mut own) {
            Some(id) => id,
            None => {
                // Never two locks of this kind at once: another thread may be looking here.
                drop(own);
                let id = self.take_from_others();
                if id.is_none() {
                    self.is_short.store(true, Relaxed);
                }
                own = shard.own.lock();
                id?
            }
        };
        count(&shard.given);
        drop(own);
        Some(self.entry(id))
    }

    /// True when this thread is likely to find no cell but in another's hand: a hint, and cheap unless cells are short.
    #[inline(always)]
    pub(super) fn is_short(&self) -> bool {
        self.is_short.load(Relaxed) && self.has_nothing_in_hand()
    }

    #[cold]
    fn has_nothing_in_hand(&self) -> bool {
        let own = self.shards[shard::own()].own.lock();
        own.loaded.length == 0 && own.spare.length == 0 && own.fresh.0 >= own.fresh.1
    }

    /// Gives a cell back.
    pub(super) fn free(&self, id: EntryId) {
        let shard = &self.shards[shard::own()];
        let mut own = shard.own.lock();
        self.put(&mut own, id);
        count(&shard.returned);
    }

    #[inline(always)]
    fn take(&self, own: &mut Own) -> Option<EntryId> {
        if own.loaded.length == 0 {
            if own.fresh.0 < own.fresh.1 {
                own.fresh.0 += 1;
                self.ask_for(EntryId::new(self.family, own.fresh.0 + FRESH_AHEAD));
                return Some(EntryId::new(self.family, own.fresh.0 - 1));
            }
            if !self.load(own) {
                return None;
            }
            if own.loaded.length == 0 {
                return self.take(own);
            }
        }
        let id = own.loaded.head;
        own.loaded = Chain { head: self.entry(id).next(), length: own.loaded.length - 1 };
        // The next one's words, and which is the next after it.
        self.ask_for(own.loaded.head);
        Some(id)
    }

    /// Cells for a thread that has none in hand: those it keeps spare, else some of all; false when there are none.
    #[cold]
    #[inline(never)]
    fn load(&self, own: &mut Own) -> bool {
        if own.spare.length > 0 {
            own.loaded = std::mem::take(&mut own.spare);
            return true;
        }
        let mut store = self.store.lock();
        if !store.chains.is_none() {
            own.loaded = Chain { head: store.chains, length: CHAIN };
            store.chains = self.entry(store.chains).controller();
            return true;
        }
        let end = (store.fresh + CHAIN).min(self.cells.count() as u32);
        own.fresh = (store.fresh, end);
        store.fresh = end;
        own.fresh.0 < own.fresh.1
    }

    #[inline(always)]
    fn put(&self, own: &mut Own, id: EntryId) {
        if own.loaded.length == CHAIN {
            self.unload(own);
        }
        self.entry(id).set_next(own.loaded.head);
        own.loaded = Chain { head: id, length: own.loaded.length + 1 };
    }

    /// Makes room in the hand of a thread that has as many cells there as it may.
    #[cold]
    #[inline(never)]
    fn unload(&self, own: &mut Own) {
        let full = std::mem::replace(&mut own.spare, own.loaded);
        own.loaded = Chain::EMPTY;
        if full.length > 0 {
            let mut store = self.store.lock();
            self.entry(full.head).set_controller(store.chains);
            store.chains = full.head;
            self.is_short.store(false, Relaxed);
        }
    }

    /// A cell of a thread that has some; `None` when all are in use.
    #[cold]
    #[inline(never)]
    fn take_from_others(&self) -> Option<EntryId> {
        if self.is_exhausted() {
            return None;
        }
        let first = shard::own() + 1;
        (first..first + SHARDS).find_map(|number| self.take(&mut self.shards[number % SHARDS].own.lock()))
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
        // What is returned meanwhile was given before.
        let returned = self.returned();
        self.given().saturating_sub(returned) as u32
    }

    /// True when no cell is left anywhere.
    fn is_exhausted(&self) -> bool {
        self.used() as usize >= self.cells.count() - 1
    }

    /// Cells that were given out since the start.
    pub(super) fn given(&self) -> u64 {
        self.shards.iter().map(|shard| shard.given.load(Relaxed)).sum()
    }

    /// Cells that were taken back since the start.
    pub(super) fn returned(&self) -> u64 {
        self.shards.iter().map(|shard| shard.returned.load(Relaxed)).sum()
    }

    pub(super) fn size_octets(&self) -> usize {
        self.cells.size_octets()
    }

    pub(super) fn octets(&self) -> usize {
        self.cells.octets()
    }
}

/// Counts under the lock that guards the count: whoever reads it needs none.
#[inline(always)]
fn count(count: &AtomicU64) {
    count.store(count.load(Relaxed) + 1, Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAPACITY: u32 = 10 * CHAIN + 3;

    fn pool() -> Pool<CellsV4> {
        Pool::new(Family::V4, CAPACITY)
    }

    /// All that can be had, each cell once.
    fn take_all(pool: &Pool<CellsV4>) -> Vec<EntryId> {
        let ids: Vec<EntryId> = std::iter::from_fn(|| pool.allocate().map(|entry| entry.id())).collect();
        let mut unique = ids.clone();
        unique.sort_unstable_by_key(|id| id.0);
        unique.dedup();
        assert_eq!(unique.len(), ids.len());
        ids
    }

    #[allow(clippy::disallowed_methods)] // Threads are what is tested.
    fn elsewhere(what: impl FnOnce() + Send) {
        std::thread::scope(|scope| {
            scope.spawn(what);
        });
    }

    #[test]
    fn every_cell_is_given_once_and_again_when_it_is_back() {
        let pool = pool();
        for round in 1..4 {
            let ids = take_all(&pool);
            assert_eq!((ids.len() as u32, pool.used()), (CAPACITY, CAPACITY));
            assert!(pool.is_short());
            ids.into_iter().for_each(|id| pool.free(id));
            assert_eq!(pool.used(), 0);
            assert!(!pool.is_short());
            assert_eq!([pool.given(), pool.returned()], [round * u64::from(CAPACITY); 2]);
        }
    }

    #[test]
    fn what_another_thread_has_in_hand_is_found_too() {
        let pool = pool();
        // One is out, the rest of its chain in that thread's hand.
        elsewhere(|| assert!(pool.allocate().is_some()));
        assert_eq!(take_all(&pool).len() as u32, CAPACITY - 1);
        // And back in hands that are not this thread's.
        let pool = self::pool();
        let ids = take_all(&pool);
        elsewhere(|| ids.iter().for_each(|&id| pool.free(id)));
        assert_eq!(pool.used(), 0);
        assert_eq!(take_all(&pool).len() as u32, CAPACITY);
    }

    #[test]
    #[allow(clippy::disallowed_methods)] // Threads are what is tested.
    fn threads_that_take_and_give_lose_none() {
        let pool = pool();
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let pool = &pool;
                scope.spawn(move || {
                    let mut ids = Vec::new();
                    for round in 0..3000 {
                        let wanted = (round * 7 + thread * 31) % 90;
                        while ids.len() < wanted {
                            let Some(entry) = pool.allocate() else { break };
                            // Whoever else had it would write another thread's number.
                            entry.set_in_packets(thread as u32);
                            ids.push(entry.id());
                        }
                        for id in ids.drain(wanted.min(ids.len())..) {
                            assert_eq!(pool.entry(id).in_packets(), thread as u32);
                            pool.free(id);
                        }
                    }
                    ids.into_iter().for_each(|id| pool.free(id));
                });
            }
        });
        assert_eq!(pool.used(), 0);
        assert_eq!(take_all(&pool).len() as u32, CAPACITY);
    }
}
