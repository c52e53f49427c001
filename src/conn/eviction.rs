//! Room in a full table: which entry goes for a new one.
//!
//! A hand goes round the buckets. For each entry that finds no cell it looks at the next [`BUCKETS_MAX`] of them and
//! takes out the entry that is least missed:
//! 1. half-open connections and templates that nothing confirmed, at once: a flood of clients that never come back
//!    displaces itself;
//! 2. connections that are closing;
//! 3. connections that have been quiet for a minute, established ones included.
//!
//! A template whose last connection has ended counts as the first when nothing confirmed it, as those of UDP without
//! answers through the director never are. On a backup, quiet is what the master says little of.
//!
//! Where it finds none of these, the new entry is refused. What controls others stays, and so do busy connections.
//!
//! This is the order of the kernel's `drop_entry` defence (`ip_vs_random_dropentry`, Linux 6.1), which works by the second
//! while memory is scarce. **Deviation**: the kernel has no bound but memory, and refuses a connection when there is none.

use std::sync::atomic::Ordering::Relaxed;

use crate::base::memory::prefetch;
use crate::base::{Family, Instant};
use crate::conn::bucket::{Bucket, Held};
use crate::conn::entry::{Entry, EntryId, Flags, ticks};
use crate::conn::state::State;
use crate::conn::table::{Place, Table};
use crate::conn::{sctp, tcp};
use crate::service::Protocol;

/// Buckets that are looked at for one entry.
pub const BUCKETS_MAX: usize = 32;
/// Buckets between the one that is looked at and the one that is asked for.
const BUCKETS_AHEAD: usize = 2;

/// How little an entry is missed, the least first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Rank {
    HalfOpen,
    Closing,
    Quiet,
}

impl Rank {
    /// `None` for an entry that stays.
    fn of(entry: Entry<'_>, now_ticks: u32) -> Option<Self> {
        if entry.controlled() > 0 {
            return None;
        }
        let flags = entry.flags();
        if flags.has(Flags::ALIAS) {
            // Its connection is gone.
            return Some(Rank::HalfOpen);
        }
        if flags.has(Flags::TEMPLATE) {
            return (entry.state() != State::TEMPLATE_ASSURED).then_some(Rank::HalfOpen);
        }
        match (entry.protocol(), entry.state()) {
            (Some(Protocol::Tcp), tcp::SYN_RECV | tcp::SYNACK) => Some(Rank::HalfOpen),
            (Some(Protocol::Sctp), state) if sctp::is_opening(state) => Some(Rank::HalfOpen),
            (Some(Protocol::Tcp), tcp::NONE | tcp::ESTABLISHED | tcp::SYN_SENT | tcp::LISTEN)
            | (Some(Protocol::Sctp), sctp::NONE | sctp::ESTABLISHED)
            | (Some(Protocol::Udp) | None, _) => entry.is_quiet(now_ticks).then_some(Rank::Quiet),
            (Some(Protocol::Tcp | Protocol::Sctp), _) => Some(Rank::Closing),
        }
    }
}

/// An entry that may go, and where it stands.
struct Candidate {
    rank: Rank,
    id: EntryId,
    bucket: usize,
}

impl Table {
    /// Takes out an entry of the family that is little missed; false when there is none near the hand. The caller holds
    /// no bucket.
    #[cold]
    pub(super) fn make_room(&self, family: Family, now: Instant) -> bool {
        let now_ticks = ticks(now);
        let hand = &self.hands[usize::from(family == Family::V6)];
        let mut best: Option<Candidate> = None;
        for _ in 0..BUCKETS_MAX.min(self.bucket_count()) {
            // Workers that need room at once look at buckets of their own.
            let bucket = hand.fetch_add(1, Relaxed) as usize % self.bucket_count();
            self.look_ahead(bucket);
            let held = Held::lock(self.bucket_at(bucket));
            for place in self.places(held.bucket).filter(|place| place.id.family() == family) {
                let entry = self.entry(place.id);
                if entry.is_expired(now_ticks) && entry.controlled() == 0 {
                    // The sweep would have come by.
                    self.remove(held.bucket, place);
                    return true;
                }
                let Some(rank) = Rank::of(entry, now_ticks) else { continue };
                if rank == Rank::HalfOpen {
                    self.evict(&held, place, rank);
                    return true;
                }
                if best.as_ref().is_none_or(|best| rank < best.rank) {
                    best = Some(Candidate { rank, id: place.id, bucket });
                }
            }
        }
        let Some(Candidate { rank, id, bucket }) = best else { return false };
        let held = Held::lock(self.bucket_at(bucket));
        // It may have been let go meanwhile, and its cell be another's.
        let place = self.place_of(held.bucket, id);
        match place.filter(|_| Rank::of(self.entry(id), now_ticks).is_some_and(|now| now <= rank)) {
            Some(place) => self.evict(&held, place, rank),
            None => return false,
        }
        true
    }

    fn evict(&self, held: &Held<'_>, place: Place, rank: Rank) {
        self.remove(held.bucket, place);
        let counter = match rank {
            Rank::HalfOpen => &self.counters.evicted_half_open,
            Rank::Closing => &self.counters.evicted_closing,
            Rank::Quiet => &self.counters.evicted_quiet,
        };
        counter.fetch_add(1, Relaxed);
    }

    /// Asks for what the hand comes to next.
    fn look_ahead(&self, bucket: usize) {
        let ahead = |buckets: usize| self.bucket_at((bucket + buckets) % self.bucket_count());
        prefetch(ahead(BUCKETS_AHEAD));
        let next = Bucket(ahead(1));
        if let Some(slot) = next.taken().next() {
            self.prefetch(next.id(slot), true);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::base::{Duration, Endpoint, Rng};
    use crate::conn::{Direction, Event, Inserted, Key, New, TableConfig};
    use crate::service::{DestinationId, Destinations, FullNat, Method};

    const FULL: u32 = 64;

    fn table() -> Table {
        let config = TableConfig { connections_max: FULL, bucket_bits: 0 };
        Table::new(config, Arc::new(Destinations::default()), &mut Rng::new(3))
    }

    fn new(protocol: Protocol, client: u32) -> New {
        let client = Endpoint::new(crate::base::Address::v4(0x0a01_0000 + client), 1024);
        New {
            key: Key { protocol: Some(protocol), client, other: Endpoint::new("10.9.0.1".parse().unwrap(), 80) },
            destination: Endpoint::new("10.2.0.1".parse().unwrap(), 80),
            destination_id: DestinationId::NONE,
            flags: Flags::new(Method::DirectRouting),
            mark: 0,
            controller: EntryId::NONE,
            timeout_s: 0,
        }
    }

    fn insert(table: &Table, new: &New, events: &[Event], now: Instant) -> bool {
        let hash = table.hash(new.key.protocol, new.key.client);
        match table.insert(hash, new, now) {
            Inserted::New(found) => {
                events.iter().for_each(|&event| found.follow(Direction::Inbound, event, false));
                true
            }
            Inserted::Existing(_) | Inserted::Full => false,
        }
    }

    fn is_there(table: &Table, new: &New, now: Instant) -> bool {
        table.find_inbound(table.hash(new.key.protocol, new.key.client), &new.key, now).is_some()
    }

    fn evicted(table: &Table) -> [u64; 3] {
        let counters = table.counters();
        [&counters.evicted_half_open, &counters.evicted_closing, &counters.evicted_quiet]
            .map(|count| count.load(Relaxed))
    }

    const SYN: Event = Event::Tcp(tcp::Event::Syn);
    const ACK: Event = Event::Tcp(tcp::Event::Ack);
    const FIN: Event = Event::Tcp(tcp::Event::Fin);

    #[test]
    fn a_flood_displaces_itself_and_nobody_else() {
        let (table, now) = (table(), Instant::from_seconds(1));
        let established = |client| new(Protocol::Tcp, client);
        (0..FULL / 2).for_each(|client| assert!(insert(&table, &established(client), &[SYN, ACK], now)));
        for client in 1000..3000 {
            assert!(insert(&table, &new(Protocol::Tcp, client), &[SYN], now), "{client}");
            assert_eq!(table.used().0, FULL.min(FULL / 2 + client - 999));
        }
        assert!((0..FULL / 2).all(|client| is_there(&table, &established(client), now)));
        assert_eq!(evicted(&table), [2000 - u64::from(FULL / 2), 0, 0]);
    }

    #[test]
    fn closing_goes_before_quiet_and_busy_stays() {
        let (table, start) = (table(), Instant::from_seconds(1));
        let now = start + Duration::from_secs(61);
        for client in 0..FULL {
            let (events, when): (&[Event], _) = match client % 4 {
                0 => (&[SYN, ACK, FIN], now),
                1 => (&[SYN, ACK], start),
                _ => (&[SYN, ACK], now),
            };
            assert!(insert(&table, &new(Protocol::Tcp, client), events, when));
        }
        let mut next = 1000;
        // The hand passes all of this small table for each.
        for (count, expected) in [(FULL / 4, [0, 16, 0]), (FULL / 4, [0, 16, 16])] {
            for _ in 0..count {
                assert!(insert(&table, &new(Protocol::Tcp, next), &[SYN, ACK], now));
                next += 1;
            }
            assert_eq!(evicted(&table), expected);
        }
        assert!(!insert(&table, &new(Protocol::Tcp, next), &[SYN], now), "all that is left is busy");
        assert_eq!(table.counters().full.load(Relaxed), 1);
        assert!((0..FULL).filter(|client| client % 4 > 1).all(|client| is_there(
            &table,
            &new(Protocol::Tcp, client),
            now
        )));
    }

    #[test]
    fn what_controls_others_stays_and_goes_with_them() {
        let (table, now) = (table(), Instant::from_seconds(1));
        for number in 0..FULL / 2 {
            let mut template = new(Protocol::Tcp, number);
            template.key.client.port = 0;
            template.flags = template.flags.with(Flags::TEMPLATE);
            template.timeout_s = 300;
            let hash = table.hash(template.key.protocol, template.key.client);
            let Inserted::New(found) = table.insert_template(hash, &template, &[], now) else { panic!() };
            let controller = found.control();
            drop(found);
            assert!(insert(&table, &New { controller, ..new(Protocol::Tcp, number) }, &[SYN], now));
        }
        for client in 1000..1000 + 4 * FULL {
            assert!(insert(&table, &new(Protocol::Tcp, client), &[SYN], now), "{client}");
            assert_eq!(table.used().0, FULL);
        }
    }

    /// What persistent services and full NAT need beside a connection finds room as a connection does.
    #[test]
    fn templates_and_local_ports_find_room_too() {
        let (table, now) = (table(), Instant::from_seconds(1));
        for client in 0..FULL {
            assert!(insert(&table, &new(Protocol::Tcp, client), &[SYN], now));
        }
        let mut template = new(Protocol::Tcp, 500);
        template.flags = template.flags.with(Flags::TEMPLATE);
        let hash = table.hash(template.key.protocol, template.key.client);
        assert!(matches!(table.insert_template(hash, &template, &[], now), Inserted::New(_)));
        let (local, server) = ("10.2.0.254".parse().unwrap(), "10.2.0.1".parse().unwrap());
        let (local, server) = (Endpoint::new(local, 1024), Endpoint::new(server, 80));
        let reservation = table.reserve(Protocol::Tcp, local, server, FullNat::Silent, now);
        assert!(matches!(reservation, crate::conn::Reservation::Made(_)));
        assert_eq!(evicted(&table), [2, 0, 0]);
        assert_eq!((table.used().0, table.counters().full.load(Relaxed)), (FULL, 0));
    }

    /// Room that one thread makes others take; none of them is refused while there is something that can go.
    #[test]
    #[allow(clippy::disallowed_methods)] // Threads are what is tested.
    fn nobody_is_refused_while_half_open_connections_are_left() {
        let (table, now) = (table(), Instant::from_seconds(1));
        for client in 0..FULL {
            assert!(insert(&table, &new(Protocol::Tcp, client), &[SYN], now));
        }
        std::thread::scope(|scope| {
            for thread in 1..4 {
                let table = &table;
                scope.spawn(move || {
                    for client in 0..2000 {
                        insert(table, &new(Protocol::Tcp, thread * 10_000 + client), &[SYN], now);
                    }
                });
            }
        });
        assert_eq!(table.used().0, FULL);
        let refused = table.counters().full.load(Relaxed);
        assert!(refused < 60, "{refused} of 6000 were refused");
    }

    #[test]
    fn datagrams_of_the_other_family_make_no_room() {
        let (table, now) = (table(), Instant::from_seconds(1));
        for client in 0..FULL {
            assert!(insert(&table, &new(Protocol::Udp, client), &[Event::Udp], now));
        }
        assert!(!insert(&table, &new(Protocol::Udp, 1000), &[Event::Udp], now), "all are busy");
        let mut v6 = new(Protocol::Udp, 0);
        v6.key.client.address = "fd00:1::1".parse().unwrap();
        v6.key.other.address = "fd00:9::1".parse().unwrap();
        assert!(insert(&table, &v6, &[Event::Udp], now));
        assert_eq!(evicted(&table), [0; 3]);
        let later = now + Duration::from_secs(60);
        assert!(insert(&table, &new(Protocol::Udp, 1001), &[Event::Udp], later));
        assert_eq!(evicted(&table), [0, 0, 1]);
    }
}
