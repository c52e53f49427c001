//! What `lblc` and `lblcr` remember by destination address: a table of bounded size and its periodic clean-up
//! (`net/netfilter/ipvs/ip_vs_lblc.c`, `ip_vs_lblcr.c`, Linux 6.1).
//!
//! Entries stand in the kernel's buckets, which the clean-up walks in the kernel's order. They are found through
//! chains of their own under a secret key: where clients choose the destination address (firewall marks), the
//! kernel's hash would let them make one long chain.
//!
//! **Deviation**: the table holds at most [`ENTRIES_MAX`] entries and counts them right, as Linux 6.1.191 and later;
//! the reference has no limit and counts a replaced entry twice. The clean-up is done in parts, so that no packet
//! waits for the whole of it.

use crate::base::{Address, Duration, Family, Instant, Rng};
use crate::sched::hash::{SipKey, fold, hash_32};

/// Entries of one service. No more are made; their addresses get a choice for each connection.
pub(super) const ENTRIES_MAX: usize = 24576;
/// How often the table is looked after (`CHECK_EXPIRE_INTERVAL`).
pub(super) const PERIOD: Duration = Duration::from_secs(60);

const BUCKET_BITS: u32 = 10;
const BUCKETS: usize = 1 << BUCKET_BITS;
/// Above so many entries the oldest ones are looked for each minute.
const ENTRIES_WANTED: usize = BUCKETS * 16;
/// For how long an entry must have been unused to be dropped then (`ENTRY_TIMEOUT`).
const IDLE: Duration = Duration::from_secs(6 * 60);
/// Every so many periods all entries are looked at (`COUNT_FOR_FULL_EXPIRATION`).
const FULL_CHECK_PERIODS: u32 = 30;
/// Buckets of a part of a clean-up.
const PART_BUCKETS: usize = 64;
/// Chains through which entries are found.
const CHAINS: usize = 4096;
const NO_ENTRY: u32 = u32::MAX;

/// The moment `seconds` after `since`; a knob, so it may be negative.
pub(super) const fn deadline(since: Instant, seconds: i64) -> Instant {
    Instant::from_nanoseconds(since.nanoseconds().saturating_add_signed(seconds.saturating_mul(1_000_000_000)))
}

/// The number of an entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct EntryId(u32);

#[derive(Clone)]
struct Entry<T> {
    address: Address,
    last_used: Instant,
    next_in_chain: u32,
    /// In the bucket, or in the list of free entries.
    next: u32,
    value: T,
}

/// A clean-up that is under way.
#[derive(Clone, Copy)]
struct Check {
    buckets_left: usize,
    seconds: i64,
    /// How many entries are to go; `None` for all that have run out.
    goal: Option<usize>,
}

/// Values by destination address.
#[derive(Clone)]
pub(super) struct Cache<T> {
    family: Family,
    key: SipKey,
    entries: Vec<Entry<T>>,
    count: usize,
    first_free: u32,
    chains: Box<[u32]>,
    buckets: Box<[u32]>,
    /// The bucket looked at last.
    rover: usize,
    periods: u32,
    check: Option<Check>,
}

impl<T: Copy> Cache<T> {
    /// An empty table for a service of this family.
    pub(super) fn new(family: Family, seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        Self {
            family,
            key: SipKey(rng.next_u64(), rng.next_u64()),
            entries: Vec::new(),
            count: 0,
            first_free: NO_ENTRY,
            chains: vec![NO_ENTRY; CHAINS].into_boxed_slice(),
            buckets: vec![NO_ENTRY; BUCKETS].into_boxed_slice(),
            rover: 0,
            periods: 1,
            check: None,
        }
    }

    /// The entry of an address, which counts as used.
    pub(super) fn find(&mut self, address: Address, now: Instant) -> Option<EntryId> {
        let found = self.position(address)?;
        self.entries[found as usize].last_used = now;
        Some(EntryId(found))
    }

    /// The value of an address, which does not count as used.
    pub(super) fn peek(&self, address: Address) -> Option<T> {
        self.position(address).map(|found| self.entries[found as usize].value)
    }

    fn position(&self, address: Address) -> Option<u32> {
        let mut at = self.chains[self.chain(address)];
        while at != NO_ENTRY {
            let entry = &self.entries[at as usize];
            if entry.address == address {
                return Some(at);
            }
            at = entry.next_in_chain;
        }
        None
    }

    /// The value of an entry.
    pub(super) fn value(&mut self, id: EntryId) -> &mut T {
        &mut self.entries[id.0 as usize].value
    }

    /// Makes the entry of an address that has none; false when the table is full.
    ///
    /// Memory grows with the number of entries and is kept.
    pub(super) fn insert(&mut self, address: Address, now: Instant, value: T) -> bool {
        if self.is_full() {
            return false;
        }
        let (chain, bucket) = (self.chain(address), hash_32(fold(self.family, address), BUCKET_BITS));
        let entry =
            Entry { address, last_used: now, next_in_chain: self.chains[chain], next: self.buckets[bucket], value };
        let at = match self.first_free {
            NO_ENTRY => {
                self.entries.push(entry);
                self.entries.len() as u32 - 1
            }
            free => {
                let place = &mut self.entries[free as usize];
                self.first_free = place.next;
                *place = entry;
                free
            }
        };
        (self.chains[chain], self.buckets[bucket]) = (at, at);
        self.count += 1;
        true
    }

    /// True when no entry can be made.
    pub(super) fn is_full(&self) -> bool {
        self.count >= ENTRIES_MAX
    }

    /// A part of the clean-up that is due each [`PERIOD`]; true while parts are left. `seconds` is how long an unused
    /// entry stays; `release` gets the value of each entry that goes.
    pub(super) fn tick(&mut self, now: Instant, seconds: i64, mut release: impl FnMut(T)) -> bool {
        let Some(mut check) = self.check.take().or_else(|| self.begin(seconds)) else { return false };
        for _ in 0..check.buckets_left.min(PART_BUCKETS) {
            check.buckets_left -= 1;
            self.rover = (self.rover + 1) % BUCKETS;
            let gone = self.clean(self.rover, now, check.seconds, &mut release);
            check.goal = check.goal.map(|goal| goal.saturating_sub(gone));
            if check.goal == Some(0) {
                return false;
            }
        }
        self.check = (check.buckets_left > 0).then_some(check);
        self.check.is_some()
    }

    /// Removes all entries.
    pub(super) fn clear(&mut self, release: impl FnMut(T)) {
        self.buckets.iter().flat_map(|&first| chain_of(&self.entries, first)).for_each(release);
        self.buckets.fill(NO_ENTRY);
        self.chains.fill(NO_ENTRY);
        self.entries.clear();
        (self.count, self.first_free, self.check) = (0, NO_ENTRY, None);
    }

    /// What this period asks for.
    fn begin(&mut self, seconds: i64) -> Option<Check> {
        if self.periods.is_multiple_of(FULL_CHECK_PERIODS) {
            self.periods = 1;
            return Some(Check { buckets_left: BUCKETS, seconds, goal: None });
        }
        if self.count <= ENTRIES_WANTED {
            self.periods += 1;
            return None;
        }
        let goal = ((self.count - ENTRIES_WANTED) * 4 / 3).min(ENTRIES_WANTED / 2);
        Some(Check { buckets_left: BUCKETS, seconds: IDLE.as_secs() as i64, goal: Some(goal) })
    }

    /// Removes what has run out from a bucket; returns how many.
    fn clean(&mut self, bucket: usize, now: Instant, seconds: i64, release: &mut impl FnMut(T)) -> usize {
        let mut gone = 0;
        let mut before = None;
        let mut at = self.buckets[bucket];
        while at != NO_ENTRY {
            let entry = &self.entries[at as usize];
            let next = entry.next;
            if now >= deadline(entry.last_used, seconds) {
                match before {
                    None => self.buckets[bucket] = next,
                    Some(before) => self.entries[before as usize].next = next,
                }
                release(self.entries[at as usize].value);
                self.free(at);
                gone += 1;
            } else {
                before = Some(at);
            }
            at = next;
        }
        gone
    }

    /// Takes an entry, already out of its bucket, from its chain.
    fn free(&mut self, at: u32) {
        let (address, after) = (self.entries[at as usize].address, self.entries[at as usize].next_in_chain);
        let chain = self.chain(address);
        if self.chains[chain] == at {
            self.chains[chain] = after;
        } else {
            let mut before = self.chains[chain];
            while self.entries[before as usize].next_in_chain != at {
                before = self.entries[before as usize].next_in_chain;
            }
            self.entries[before as usize].next_in_chain = after;
        }
        self.entries[at as usize].next = self.first_free;
        self.first_free = at;
        self.count -= 1;
    }

    fn chain(&self, address: Address) -> usize {
        self.key.hash_u128(address.0) as usize % CHAINS
    }
}

/// The values of a bucket's entries.
fn chain_of<T: Copy>(entries: &[Entry<T>], first: u32) -> impl Iterator<Item = T> {
    let entry = move |at: u32| entries.get(at as usize);
    std::iter::successors(entry(first), move |last| entry(last.next)).map(|entry| entry.value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(number: u32) -> Address {
        Address::v4(0x0a00_0000 + number)
    }

    fn minute(number: u64) -> Instant {
        Instant::from_seconds(number * 60)
    }

    /// A cache of `count` addresses, each with its number.
    fn cache(count: u32) -> Cache<u32> {
        let mut cache = Cache::new(Family::V4, 1);
        for number in 0..count {
            assert!(cache.insert(address(number), Instant::START, number));
        }
        cache
    }

    /// A whole clean-up; returns what went, sorted.
    fn tick(cache: &mut Cache<u32>, now: Instant, seconds: i64) -> Vec<u32> {
        let mut gone = Vec::new();
        while cache.tick(now, seconds, |value| gone.push(value)) {}
        gone.sort_unstable();
        gone
    }

    fn is_there(cache: &mut Cache<u32>, number: u32, now: Instant) -> bool {
        cache.find(address(number), now).is_some_and(|id| *cache.value(id) == number)
    }

    #[test]
    fn deadlines_follow_the_knob() {
        let at = Instant::from_seconds;
        assert_eq!(deadline(at(10), 5), at(15));
        assert_eq!(deadline(at(10), 0), at(10));
        assert_eq!(deadline(at(10), -1), at(9));
        assert_eq!(deadline(at(10), i64::MIN), Instant::START);
        assert!(deadline(at(10), i64::MAX) > at(9_000_000_000));
    }

    #[test]
    fn there_is_an_end_and_room_again() {
        let mut cache = cache(ENTRIES_MAX as u32);
        assert!(cache.is_full() && !cache.insert(address(1 << 20), minute(1), 7));
        assert!((0..ENTRIES_MAX as u32).all(|number| is_there(&mut cache, number, minute(1))));
        assert!(cache.find(address(1 << 20), minute(1)).is_none());
        // More than wanted: a third more than the surplus, at most half the wanted.
        let gone = tick(&mut cache, minute(7), 86400);
        assert!((8192..8192 + 64).contains(&gone.len()), "{}", gone.len());
        assert_eq!(cache.count, ENTRIES_MAX - gone.len());
        assert!(gone.iter().all(|&number| !is_there(&mut cache, number, minute(7))));
        let places = cache.entries.len();
        for &number in &gone {
            assert!(cache.insert(address(number), minute(7), number));
        }
        assert!(cache.is_full() && cache.entries.len() == places, "freed entries are used again");
        let mut left = 0;
        cache.clear(|_| left += 1);
        assert_eq!((left, cache.count), (ENTRIES_MAX, 0));
    }

    /// All entries are looked at with each thirtieth tick.
    #[test]
    fn a_full_check_comes_every_half_hour() {
        let mut cache = cache(100);
        for round in 0..2 {
            for tick_number in 1..30 {
                assert!(tick(&mut cache, minute(round * 30 + tick_number), 60).is_empty(), "{round} {tick_number}");
            }
            assert!(is_there(&mut cache, 7, minute(round * 30 + 30)));
            let gone = tick(&mut cache, minute(round * 30 + 30), 60);
            let expected: &[u32] =
                if round == 0 { &Vec::from_iter((0..100).filter(|&number| number != 7)) } else { &[] };
            assert_eq!(gone, expected);
        }
    }

    /// With too many entries the minutes do not count towards the next full check.
    #[test]
    fn what_was_used_lately_stays_in_a_partial_check() {
        let mut cache = cache(ENTRIES_WANTED as u32 + 300);
        assert!(tick(&mut cache, minute(5), 0).is_empty());
        assert!((0..ENTRIES_WANTED as u32).all(|number| is_there(&mut cache, number, minute(5))));
        let gone = tick(&mut cache, minute(6), 0);
        assert!(gone.iter().all(|&number| number >= ENTRIES_WANTED as u32));
        assert_eq!(gone.len(), 300);
        assert_eq!(cache.periods, 1);
    }

    #[test]
    fn a_clean_up_comes_in_parts() {
        let mut cache = cache(BUCKETS as u32 * 8);
        cache.periods = FULL_CHECK_PERIODS;
        let mut gone = 0;
        let mut parts = 1;
        while cache.tick(minute(30), 0, |_| gone += 1) {
            assert!(gone <= parts * PART_BUCKETS * 40, "{gone}");
            parts += 1;
        }
        assert_eq!((parts, gone, cache.count), (BUCKETS / PART_BUCKETS, BUCKETS * 8, 0));
    }

    /// Entries come and go in any order; the table agrees with a map.
    #[test]
    fn agrees_with_a_map() {
        let mut rng = Rng::new(5);
        let mut cache = Cache::new(Family::V6, 9);
        let mut model = std::collections::BTreeMap::new();
        for step in 0..40_000 {
            let now = Instant::from_seconds(step);
            // All of one of the kernel's buckets.
            let half = u128::from(rng.below(300));
            let address = Address::v6(half << 64 | half);
            match cache.find(address, now) {
                Some(id) => assert_eq!(model.insert(address, (now, *cache.value(id))).unwrap().1, *cache.value(id)),
                None => {
                    assert!(cache.insert(address, now, step) && model.insert(address, (now, step)).is_none());
                }
            }
            if step % 100 == 0 {
                cache.periods = FULL_CHECK_PERIODS;
                while cache.tick(now, 400, |value| model.retain(|_, (_, kept)| *kept != value)) {}
                assert!(model.values().all(|(used, _)| now - *used < Duration::from_secs(400)));
            }
            assert_eq!(cache.count, model.len());
        }
    }
}
