//! Entries that go before their time: the `drop_entry` defence against floods, and what is left of removed
//! destinations (`ip_vs_random_dropentry`, `ip_vs_expire_nodest_conn_flush` of `net/netfilter/ipvs/ip_vs_conn.c`).

use crate::base::{Instant, Rng};
use crate::conn::bucket::Held;
use crate::conn::entry::{Entry, EntryId, Flags, ticks};
use crate::conn::state::State;
use crate::conn::table::Table;
use crate::conn::{sctp, tcp};
use crate::service::{DestinationId, Protocol};

/// The defence looks at this part of the buckets each second.
const PART_OF_BUCKETS: usize = 32;
/// Entries with more packets than this are spared.
const PACKETS_MAX: usize = 8;
/// Connections of one bucket that are looked at for controllers to go with them.
const CONTROLLERS_MAX: usize = 8;

/// What the `drop_entry` defence keeps from second to second: of the candidates with n packets every n-th goes.
#[derive(Debug, Default)]
pub struct DropEntry {
    countdown: [i32; PACKETS_MAX + 1],
}

impl DropEntry {
    /// Whether a quiet entry goes (`todrop_entry`).
    fn takes(&mut self, entry: Entry<'_>, now_ticks: u32) -> bool {
        if !entry.is_quiet(now_ticks) {
            return false;
        }
        let packets = entry.in_packets() as usize;
        if packets == 0 || packets > PACKETS_MAX {
            return false;
        }
        let countdown = &mut self.countdown[packets];
        *countdown -= 1;
        if *countdown > 0 {
            return false;
        }
        *countdown = packets as i32;
        true
    }

    fn condemns(&mut self, entry: Entry<'_>, now_ticks: u32, is_one_packet: impl Fn(DestinationId) -> bool) -> bool {
        if entry.controlled() > 0 {
            return false;
        }
        if entry.flags().has(Flags::TEMPLATE) {
            return match is_one_packet(entry.destination()) {
                true => self.takes(entry, now_ticks),
                false => entry.state() != State::TEMPLATE_ASSURED,
            };
        }
        match (entry.protocol(), entry.state()) {
            (Some(Protocol::Tcp), tcp::SYN_RECV | tcp::SYNACK) => true,
            (Some(Protocol::Sctp), sctp::INIT1 | sctp::INIT) => true,
            (Some(Protocol::Tcp), tcp::ESTABLISHED) | (Some(Protocol::Sctp), sctp::ESTABLISHED) => {
                self.takes(entry, now_ticks)
            }
            (Some(Protocol::Tcp | Protocol::Sctp), _) => false,
            (Some(Protocol::Udp) | None, _) => self.takes(entry, now_ticks),
        }
    }
}

impl Table {
    /// One second's worth of the `drop_entry` defence: half-open connections, templates that nothing confirmed and
    /// some of what is idle, in a random part of the buckets. `is_one_packet` says of a template's destination
    /// whether its service schedules each packet. Returns how many went.
    pub fn drop_entries(
        &self,
        defence: &mut DropEntry,
        rng: &mut Rng,
        now: Instant,
        is_one_packet: impl Fn(DestinationId) -> bool + Copy,
    ) -> usize {
        let now_ticks = ticks(now);
        let count = (self.bucket_count() / PART_OF_BUCKETS).max(1);
        let mut gone = 0;
        for _ in 0..count {
            let bucket = rng.next_u64() as usize % self.bucket_count();
            gone += self.drop_from(
                bucket,
                |entry| defence.condemns(entry, now_ticks, is_one_packet),
                |controller| {
                    let flags = controller.flags();
                    !flags.has(Flags::TEMPLATE) || controller.state() != State::TEMPLATE_ASSURED
                },
            );
        }
        gone
    }

    /// Drops what names a destination that no service lists, in `buckets` buckets from `first` on; entries that
    /// control others stay. Returns how many went.
    pub fn drop_unavailable(&self, first: usize, buckets: usize) -> usize {
        let end = (first + buckets).min(self.bucket_count());
        (first..end).map(|bucket| self.drop_from(bucket, |entry| self.is_left_over(entry), |_| true)).sum()
    }

    fn is_left_over(&self, entry: Entry<'_>) -> bool {
        let destination = entry.destination();
        entry.controlled() == 0
            && destination != DestinationId::NONE
            && !self.destinations().get(destination).is_available()
    }

    /// Removes the entries of one bucket that are condemned, and then their controllers that control nothing any
    /// more, where `goes_too` says so.
    fn drop_from(
        &self,
        bucket: usize,
        mut condemned: impl FnMut(Entry<'_>) -> bool,
        goes_too: impl Fn(Entry<'_>) -> bool,
    ) -> usize {
        let mut controllers = [(EntryId::NONE, 0); CONTROLLERS_MAX];
        let (mut count, mut gone) = (0, 0);
        {
            let held = Held::lock(self.bucket_at(bucket));
            for place in self.places(held.bucket) {
                let entry = self.entry(place.id);
                // An alias without its connection is of no use; with it, it stays as long as that does.
                let goes = if entry.flags().has(Flags::ALIAS) { entry.controlled() == 0 } else { condemned(entry) };
                if !goes {
                    continue;
                }
                let controller = entry.controller();
                if !controller.is_none() && count < CONTROLLERS_MAX {
                    // It cannot go as long as the entry counts there, so its words are its own.
                    controllers[count] = (controller, self.hash_of_entry(self.entry(controller)));
                    count += 1;
                }
                self.remove(held.bucket, place);
                gone += 1;
            }
        }
        // Controllers stand in other buckets, and a thread holds one at a time.
        let unused = controllers[..count].iter().filter(|&&(id, hash)| self.drop_unused(id, hash, &goes_too));
        gone + unused.count()
    }

    /// Removes an entry that had this hash and controls nothing; false when it does, or is gone already.
    fn drop_unused(&self, id: EntryId, hash: u64, goes: impl Fn(Entry<'_>) -> bool) -> bool {
        let entry = self.entry(id);
        let held = Held::lock(self.bucket_of(hash));
        let Some(place) = self.place_of(held.bucket, id) else { return false };
        // Its cell may have been given to another entry meanwhile.
        if self.hash_of_entry(entry) != hash || entry.controlled() > 0 || !goes(entry) {
            return false;
        }
        self.remove(held.bucket, place);
        true
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::base::{Duration, Endpoint};
    use crate::conn::{Direction, Event, Inserted, Key, New, Reservation, TableConfig};
    use crate::service::{Destinations, FullNat, Method, ServiceId, Tunnel};

    const LIVE: DestinationId = DestinationId(1);
    const REMOVED: DestinationId = DestinationId(2);

    fn endpoint(address: &str, port: u16) -> Endpoint {
        Endpoint::new(address.parse().unwrap(), port)
    }

    fn table() -> Table {
        let destinations = Arc::new(Destinations::default());
        for id in [LIVE, REMOVED] {
            let destination = destinations.make(id);
            destination.assign(ServiceId(1), endpoint("10.2.0.1", 80));
            destination.configure(Method::Masquerading, Tunnel::Ipip, 1, 0, 0);
            destination.set_available(ServiceId(1), id == LIVE);
        }
        Table::new(TableConfig { connections_max: 64, bucket_bits: 0 }, destinations, &mut Rng::new(1))
    }

    fn new(protocol: Protocol, client: Endpoint, destination_id: DestinationId) -> New {
        New {
            key: Key { protocol: Some(protocol), client, other: endpoint("10.9.0.1", 80) },
            destination: endpoint("10.2.0.1", 80),
            destination_id,
            flags: Flags::new(Method::Masquerading),
            mark: 0,
            controller: EntryId::NONE,
            timeout_s: 0,
        }
    }

    fn insert(table: &Table, new: &New, events: &[Event], now: Instant) {
        let hash = table.hash(new.key.protocol, new.key.client);
        let Inserted::New(found) = table.insert(hash, new, now) else { panic!("not inserted") };
        for &event in events {
            found.follow(Direction::Inbound, event, false);
        }
    }

    /// As often as it takes to have looked into every bucket.
    fn defend(table: &Table, defence: &mut DropEntry, now: Instant) -> usize {
        let mut rng = Rng::new(7);
        (0..table.bucket_count() * 64).map(|_| table.drop_entries(defence, &mut rng, now, |_| false)).sum()
    }

    #[test]
    fn half_open_connections_go_at_once_and_busy_ones_stay() {
        let table = table();
        let now = Instant::START;
        let (syn, ack) = (Event::Tcp(tcp::Event::Syn), Event::Tcp(tcp::Event::Ack));
        insert(&table, &new(Protocol::Tcp, endpoint("10.1.0.1", 1), LIVE), &[syn], now);
        insert(&table, &new(Protocol::Tcp, endpoint("10.1.0.2", 1), LIVE), &[syn, ack], now);
        insert(&table, &new(Protocol::Udp, endpoint("10.1.0.3", 1), LIVE), &[Event::Udp], now);
        insert(&table, &new(Protocol::Sctp, endpoint("10.1.0.4", 1), LIVE), &[Event::Sctp(sctp::Event::Init)], now);
        assert_eq!(defend(&table, &mut DropEntry::default(), now), 2);
        assert_eq!(table.used(), (2, 0));
        // Quiet for a minute with few packets: the others too.
        let later = now + Duration::from_secs(60);
        assert_eq!(defend(&table, &mut DropEntry::default(), later), 2);
    }

    #[test]
    fn of_the_quiet_with_n_packets_every_nth_goes() {
        let mut defence = DropEntry::default();
        let table = table();
        for client in 1..=12 {
            let events = [Event::Udp; 3];
            insert(
                &table,
                &new(Protocol::Udp, endpoint(&format!("10.1.0.{client}"), 1), LIVE),
                &events,
                Instant::START,
            );
        }
        let later = ticks(Instant::START + Duration::from_secs(61));
        let mut taken = 0;
        for bucket in 0..table.bucket_count() {
            table.visit_bucket(bucket, Instant::START, |entry| taken += u32::from(defence.takes(entry, later)));
        }
        assert_eq!(taken, 4);
    }

    #[test]
    fn a_template_goes_with_its_last_connection_unless_it_was_assured() {
        for assured in [false, true] {
            let table = table();
            let now = Instant::START;
            let mut template = new(Protocol::Tcp, endpoint("10.1.0.0", 0), LIVE);
            template.flags = template.flags.with(Flags::TEMPLATE);
            template.timeout_s = 300;
            let hash = table.hash(template.key.protocol, template.key.client);
            let Inserted::New(found) = table.insert_template(hash, &template, &[], now) else { panic!() };
            let mut connection = new(Protocol::Tcp, endpoint("10.1.0.1", 1), LIVE);
            connection.controller = found.control();
            drop(found);
            let (syn, ack) = (Event::Tcp(tcp::Event::Syn), Event::Tcp(tcp::Event::Ack));
            let events = [syn, ack, syn];
            insert(&table, &connection, if assured { &events } else { &events[..1] }, now);
            let later = now + Duration::from_secs(61);
            defend(&table, &mut DropEntry::default(), if assured { later } else { now });
            assert_eq!(table.used().0, u32::from(assured));
        }
    }

    #[test]
    fn an_alias_goes_after_its_connection_and_not_before() {
        let (now, server) = (Instant::START, endpoint("10.2.0.1", 80));
        let (syn, ack) = (Event::Tcp(tcp::Event::Syn), Event::Tcp(tcp::Event::Ack));
        for (events, left) in [(&[syn][..], 0), (&[syn, ack], 2)] {
            let table = table();
            let local = endpoint("10.2.0.254", 1024);
            let reservation = table.reserve(Protocol::Tcp, local, server, FullNat::Silent, now);
            let Reservation::Made(reserved) = reservation else { panic!("the port is free") };
            let mut connection = new(Protocol::Tcp, endpoint("10.1.0.1", 1), LIVE);
            connection.flags = connection.flags.with(Flags::FULL_NAT);
            let hash = table.hash(connection.key.protocol, connection.key.client);
            let Inserted::New(found) = table.insert(hash, &connection, now) else { panic!("not inserted") };
            found.attach(reserved);
            events.iter().for_each(|event| found.follow(Direction::Inbound, *event, false));
            drop(found);
            defend(&table, &mut DropEntry::default(), now);
            assert_eq!(table.used(), (left, 0));
        }
    }

    #[test]
    fn what_names_a_removed_destination_is_dropped() {
        let table = table();
        insert(&table, &new(Protocol::Udp, endpoint("10.1.0.1", 1), LIVE), &[Event::Udp], Instant::START);
        insert(&table, &new(Protocol::Udp, endpoint("10.1.0.2", 1), REMOVED), &[Event::Udp], Instant::START);
        assert_eq!(table.drop_unavailable(0, table.bucket_count()), 1);
        assert_eq!(table.used(), (1, 0));
        assert_eq!(table.drop_unavailable(0, usize::MAX / 2), 0);
    }
}
