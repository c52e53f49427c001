//! A small table with copies of a few buckets, to try a packet on without changing the true one.
//!
//! What the copy leaves out: other buckets (which entries a packet can meet, its caller knows), free records of
//! persistence engines and helpers (the copy never runs out of those), what backups were told.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};

use crossbeam::queue::ArrayQueue;

use crate::base::memory::Slab;
use crate::base::{Family, Instant};
use crate::conn::bucket::Held;
use crate::conn::engine_data::EngineRecords;
use crate::conn::entry::{Entry, EntryId, Flags, Words, ticks};
use crate::conn::helper::{HelperPorts, MovedRecords};
use crate::conn::pool::Pool;
use crate::conn::state::Timeouts;
use crate::conn::table::{POSTPONED_MAX, Table, TableCounters};
use crate::service::Destinations;

/// Buckets of a copy; fewer when the table has fewer.
const BUCKETS_MAX: usize = 4096;
/// Entries of a family that a copy has room for beside the copied ones, as long as the table has room itself.
const ROOM: u32 = 16;
/// Controllers above one another that are followed: a data connection's control connection and that one's template.
const CONTROLLERS_MAX: usize = 4;

/// An entry out of its bucket.
struct Taken {
    id: EntryId,
    words: Words,
    hash: u64,
    engine_data: Vec<u8>,
    moved: Option<crate::conn::Moved>,
    /// The alias of a connection of full NAT, or the connection of an alias.
    partner: EntryId,
}

impl Table {
    /// A table of its own with what stands in the buckets of `hashes`, expired entries included, and with the
    /// controllers of all that and the aliases of full NAT. Its entries name `destinations`, a copy of the table's own.
    #[must_use]
    pub fn copy_of(&self, hashes: &[u64], destinations: Arc<Destinations>, now: Instant) -> Table {
        let taken = self.take_all(hashes);
        let count = |family| taken.iter().filter(|one| one.id.family() == family).count() as u32;
        let capacity = |family, used: u32| count(family) + self.connections_max().saturating_sub(used).min(ROOM);
        let (v4, v6) = self.used();
        let copy = self.empty_copy([capacity(Family::V4, v4), capacity(Family::V6, v6)], destinations);
        copy.put_all(&taken, now);
        copy
    }

    /// An empty table with room for so many entries of IPv4 and IPv6, in all else like this one.
    fn empty_copy(&self, capacities: [u32; 2], destinations: Arc<Destinations>) -> Table {
        let buckets = self.bucket_count().min(BUCKETS_MAX);
        let helper_ports = HelperPorts::default();
        helper_ports.set(&self.helper_ports.list().map(|(port, _)| port).collect::<Vec<u16>>());
        let timeouts = Timeouts::default();
        let (tcp_s, tcp_fin_s, udp_s) = self.timeouts.get();
        timeouts.set(tcp_s, tcp_fin_s, udp_s);
        Table {
            buckets: Slab::new(buckets),
            mask: buckets as u64 - 1,
            hash_keys: self.hash_keys,
            v4: Pool::new(Family::V4, capacities[0]),
            v6: Pool::new(Family::V6, capacities[1]),
            engine_records: EngineRecords::new(),
            helper_ports,
            moved_records: MovedRecords::new(),
            no_client_port: AtomicU32::new(0),
            hands: Default::default(),
            sync_ends: capacities.map(|capacity| Slab::new(capacity as usize + 1)),
            notes_postponed: AtomicBool::new(false),
            postponed: ArrayQueue::new(POSTPONED_MAX),
            destinations,
            timeouts,
            counters: TableCounters::default(),
            connections_max: self.connections_max,
        }
    }

    /// The entries of the buckets, each bucket in its order, and their controllers, each entry once.
    fn take_all(&self, hashes: &[u64]) -> Vec<Taken> {
        let mut taken: Vec<Taken> = Vec::new();
        let mut buckets: Vec<u64> = hashes.iter().map(|hash| hash & self.mask).collect();
        buckets.sort_unstable();
        buckets.dedup();
        for bucket in buckets {
            let held = Held::lock(self.bucket_at(bucket as usize));
            let slots = held.bucket.taken().map(|slot| held.bucket.id(slot));
            let mut chained: Vec<Entry<'_>> = self.overflow(held.bucket).collect();
            // Put in one after the other at the head of their chain, they stand as they stood.
            chained.reverse();
            for entry in slots.map(|id| self.entry(id)).chain(chained) {
                if taken.iter().all(|one| one.id != entry.id()) {
                    taken.push(self.take(entry));
                }
            }
        }
        let mut from = 0;
        for _ in 0..CONTROLLERS_MAX {
            let until = taken.len();
            for position in from..until {
                for other in [taken[position].words.controller(), taken[position].partner] {
                    if !other.is_none() && taken.iter().all(|one| one.id != other) {
                        self.with_entry(other, |entry| taken.push(self.take(entry)));
                    }
                }
            }
            from = until;
        }
        taken
    }

    fn take(&self, entry: Entry<'_>) -> Taken {
        let flags = entry.flags();
        let is_template = flags.has(Flags::TEMPLATE);
        let is_paired = flags.has(Flags::FULL_NAT) || flags.has(Flags::ALIAS);
        let record = entry.extra();
        Taken {
            id: entry.id(),
            words: entry.words(),
            hash: self.hash_of_entry(entry),
            engine_data: self.engine_data(entry),
            moved: (!is_template && !is_paired && record != 0).then(|| self.moved_records().at(record)),
            partner: if is_paired { EntryId(record) } else { EntryId::NONE },
        }
    }

    /// Puts entries into a table in which nothing is yet.
    fn put_all(&self, taken: &[Taken], now: Instant) {
        let mut numbers = BTreeMap::new();
        for one in taken {
            let cell = match one.id.family() {
                Family::V4 => self.v4.allocate(),
                Family::V6 => self.v6.allocate(),
            };
            // There is a cell for each.
            let Some(entry) = cell else { return };
            entry.set_words(&one.words);
            entry.set_extra(match (&one.moved, one.engine_data.as_slice()) {
                (Some(moved), _) => self.moved_records().keep(*moved).unwrap_or(0),
                (None, []) => 0,
                (None, data) => self.engine_records().store(data).unwrap_or(0),
            });
            if entry.flags().has(Flags::NO_CLIENT_PORT) {
                self.no_client_port().fetch_add(1, Relaxed);
            }
            numbers.insert(one.id.0, entry.id());
            let held = Held::lock(self.bucket_of(one.hash));
            self.link(held.bucket, held.bucket.free_slot(), one.hash, entry, ticks(now));
        }
        for one in taken {
            let (Some(id), Some(partner)) = (numbers.get(&one.id.0), numbers.get(&one.partner.0)) else { continue };
            self.entry(*id).set_extra(partner.0);
        }
        for id in numbers.values() {
            let entry = self.entry(*id);
            let controller = numbers.get(&entry.controller().0).copied();
            entry.set_controller(controller.unwrap_or(EntryId::NONE));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Duration, Endpoint, Rng};
    use crate::conn::{Inserted, Key, New, TableConfig};
    use crate::service::{DestinationId, Method, Protocol};

    fn new(client: Endpoint, flags: Flags, controller: EntryId) -> New {
        New {
            key: Key { protocol: Some(Protocol::Udp), client, other: Endpoint::new("10.9.0.1".parse().unwrap(), 80) },
            destination: Endpoint::new("10.2.0.1".parse().unwrap(), 8080),
            destination_id: DestinationId::NONE,
            flags,
            mark: 7,
            controller,
            timeout_s: 30,
        }
    }

    #[test]
    fn a_copy_has_what_was_asked_for_with_its_controllers_and_leaves_the_table_alone() {
        let destinations = Arc::new(Destinations::default());
        let config = TableConfig { connections_max: 3, bucket_bits: 6 };
        let table = Table::new(config, Arc::clone(&destinations), &mut Rng::new(3));
        let client = |number: u16| Endpoint::new("10.1.0.1".parse().unwrap(), number);
        let flags = Flags::new(Method::Masquerading);
        let now = Instant::from_seconds(5);
        let template = new(client(0), flags.with(Flags::TEMPLATE), EntryId::NONE);
        let hash = table.hash_of_data(b"call");
        let Inserted::New(found) = table.insert_template(hash, &template, b"call", now) else { panic!() };
        let controller = found.control();
        drop(found);
        for (number, controller) in [(1, controller), (2, EntryId::NONE)] {
            let new = new(client(number), flags, controller);
            assert!(matches!(table.insert(table.hash(new.key.protocol, client(number)), &new, now), Inserted::New(_)));
        }
        let wanted = table.hash(Some(Protocol::Udp), client(1));
        let copy = table.copy_of(&[wanted, wanted], destinations, now);
        let key = new(client(1), flags, EntryId::NONE).key;
        let found = copy.find_inbound(wanted, &key, now).expect("it was copied");
        let entry = found.entry();
        assert_eq!((entry.destination_endpoint().port, entry.mark(), entry.timeout_s()), (8080, 7, 30));
        let controller = copy.entry(entry.controller());
        assert!(controller.flags().has(Flags::TEMPLATE) && controller.controlled() == 1);
        assert_eq!(copy.engine_data(controller), b"call");
        assert!(found.expire_now());
        assert!(table.find_inbound(wanted, &key, now).is_some(), "the true one lives on");

        // The table is full, so its copy is.
        let another = new(client(9), flags, EntryId::NONE);
        let hash = table.hash(another.key.protocol, client(9));
        assert!(matches!(table.copy_of(&[hash], Arc::default(), now).insert(hash, &another, now), Inserted::Full));

        // An expired entry is there until somebody comes across it, here as there.
        let late = now + Duration::from_secs(60);
        let copy = table.copy_of(&[wanted], Arc::default(), late);
        let used = copy.used().0;
        assert!(copy.find_inbound(wanted, &key, late).is_none());
        assert_eq!(copy.used().0, used - 1);
        assert_eq!(table.used(), (3, 0));
    }
}
