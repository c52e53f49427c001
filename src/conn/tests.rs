//! The table against a model, expiry, control, overflow, fullness.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::entry::ticks;
use super::*;
use crate::base::{Address, Duration, Endpoint, Instant, Rng};
use crate::service::{DestinationId, Destinations, Method, Protocol, ServiceId, Tunnel};

const DESTINATION: DestinationId = DestinationId(1);

fn table(connections_max: u32) -> Table {
    let destinations = Arc::new(Destinations::default());
    let destination = destinations.make(DESTINATION);
    destination.assign(ServiceId(1), endpoint("10.2.0.1", 80));
    destination.configure(Method::Masquerading, Tunnel::Ipip, 1, 0, 0);
    destination.set_available(ServiceId(1), true);
    Table::new(TableConfig { connections_max, bucket_bits: 0 }, destinations, &mut Rng::new(1))
}

fn endpoint(address: &str, port: u16) -> Endpoint {
    Endpoint::new(address.parse().unwrap(), port)
}

fn key(client: Endpoint) -> Key {
    let service = if client.address.is_v4() { endpoint("10.9.0.1", 80) } else { endpoint("fd00:9::1", 80) };
    Key { protocol: Some(Protocol::Tcp), client, other: service }
}

fn new(client: Endpoint) -> New {
    New {
        key: key(client),
        destination: endpoint("10.2.0.1", 8080),
        destination_id: DESTINATION,
        flags: Flags::new(Method::Masquerading),
        mark: 0,
        controller: EntryId::NONE,
        timeout_s: 0,
    }
}

fn insert(table: &Table, client: Endpoint, now: Instant) -> EntryId {
    let hash = table.hash(Some(Protocol::Tcp), client);
    match table.insert(hash, &new(client), now) {
        Inserted::New(found) => found.entry().id(),
        Inserted::Existing(_) => panic!("{client} is there already"),
        Inserted::Full => panic!("full"),
    }
}

fn find<'t>(table: &'t Table, client: Endpoint, now: Instant) -> Option<Found<'t>> {
    table.find_inbound(table.hash(Some(Protocol::Tcp), client), &key(client), now)
}

#[test]
fn entries_have_the_promised_sizes() {
    assert_eq!(size_of::<crate::base::memory::Mixed<{ entry::NEAR + entry::FAR }, { entry::ADDRESSES_V4 }>>(), 64);
    assert_eq!(size_of::<crate::base::memory::Mixed<{ entry::NEAR }, { entry::ADDRESSES_NEAR }>>(), 64);
    assert_eq!(size_of::<crate::base::memory::Mixed<{ entry::FAR }, { entry::ADDRESSES_FAR }>>(), 32);
}

#[test]
fn both_sides_find_a_masqueraded_connection() {
    for client in [endpoint("10.1.0.1", 1025), endpoint("fd00:1::1", 1025)] {
        let table = table(64);
        let mut connection = new(client);
        if !client.address.is_v4() {
            connection.destination = endpoint("fd00:2::1", 8080);
        }
        let hash = table.hash(Some(Protocol::Tcp), client);
        drop(table.insert(hash, &connection, Instant::START));
        assert!(find(&table, client, Instant::START).is_some());
        let answer = Key { protocol: Some(Protocol::Tcp), client, other: connection.destination };
        assert!(table.find_outbound(hash, &answer, Instant::START).is_some());
        let elsewhere = Key { other: key(client).other, ..answer };
        assert!(table.find_outbound(hash, &elsewhere, Instant::START).is_none(), "answers come from the real server");
        let datagram = Key { protocol: Some(Protocol::Udp), ..key(client) };
        assert!(table.find_inbound(hash, &datagram, Instant::START).is_none());
    }
}

#[test]
fn a_second_insert_of_a_key_gives_the_first_entry() {
    let table = table(64);
    let client = endpoint("10.1.0.1", 1025);
    let first = insert(&table, client, Instant::START);
    let hash = table.hash(Some(Protocol::Tcp), client);
    let Inserted::Existing(found) = table.insert(hash, &new(client), Instant::START) else { panic!() };
    assert_eq!(found.entry().id(), first);
}

/// The kernel makes an entry per datagram from port 0, which no packet finds.
#[test]
fn a_client_port_of_zero_finds_nothing() {
    let table = table(64);
    let client = endpoint("10.1.0.1", 0);
    insert(&table, client, Instant::START);
    insert(&table, client, Instant::START);
    assert!(find(&table, client, Instant::START).is_none());
    assert_eq!(table.used().0, 2);
}

/// So many of them that a bucket would become a list: there is an end, and others' connections go on.
#[test]
fn a_bucket_has_an_end() {
    let table = table(4096);
    let client = endpoint("10.1.0.1", 0);
    let hash = table.hash(Some(Protocol::Tcp), client);
    let inserted = (0..1000).filter(|_| matches!(table.insert(hash, &new(client), Instant::START), Inserted::New(_)));
    assert_eq!(inserted.count(), 7 + table::OVERFLOW_MAX);
    assert_eq!(table.used().0 as usize, 7 + table::OVERFLOW_MAX, "refused entries are given back");
    insert(&table, endpoint("10.1.0.2", 1025), Instant::START);
    table.sweep_all(Instant::from_seconds(3));
    assert_eq!(table.used().0, 0);
}

#[test]
fn an_entry_past_its_deadline_is_absent_and_counts_no_more() {
    let table = table(64);
    let client = endpoint("10.1.0.1", 1025);
    insert(&table, client, Instant::START);
    assert_eq!(table.destinations().get(DESTINATION).inactive(), 1);
    assert!(find(&table, client, Instant::from_milliseconds(2990)).is_some());
    assert!(find(&table, client, Instant::from_milliseconds(3000)).is_none());
    assert_eq!(table.destinations().get(DESTINATION).inactive(), 0);
    assert_eq!(table.used().0, 0);
}

#[test]
fn a_packet_restarts_the_timer_with_the_new_states_timeout() {
    let table = table(64);
    let client = endpoint("10.1.0.1", 1025);
    insert(&table, client, Instant::START);
    for (at_s, event, left) in [(1, tcp::Event::Syn, 60), (2, tcp::Event::Ack, 900), (3, tcp::Event::Rst, 10)] {
        let now = Instant::from_seconds(at_s);
        let found = find(&table, client, now).unwrap();
        found.advance(Direction::Inbound, Event::Tcp(event), false);
        found.restart();
        assert_eq!(found.entry().expires_s(ticks(now)), left);
    }
    // The deadline came nearer with the last packet: the sweep must not wait for the old one.
    assert_eq!(table.sweep_all(Instant::from_milliseconds(12_990)), 0);
    assert_eq!(table.sweep_all(Instant::from_milliseconds(13_000)), 1);
}

#[test]
fn active_and_inactive_follow_the_state() {
    let table = table(64);
    let client = endpoint("10.1.0.1", 1025);
    insert(&table, client, Instant::START);
    let counts = || (table.destinations().get(DESTINATION).active(), table.destinations().get(DESTINATION).inactive());
    for (event, expected) in
        [(tcp::Event::Syn, (1, 0)), (tcp::Event::Ack, (1, 0)), (tcp::Event::Fin, (0, 1)), (tcp::Event::Rst, (0, 1))]
    {
        find(&table, client, Instant::START).unwrap().advance(Direction::Inbound, Event::Tcp(event), false);
        assert_eq!(counts(), expected, "{event:?}");
    }
    // It is found no more at once, and counts until it is gone.
    assert!(find(&table, client, Instant::START).unwrap().expire_now());
    assert_eq!(counts(), (0, 1));
    assert!(find(&table, client, Instant::START).is_none());
    assert_eq!(counts(), (0, 0));
    insert(&table, client, Instant::START);
    find(&table, client, Instant::START).unwrap().expire_now();
    insert(&table, client, Instant::START);
    assert_eq!(counts(), (0, 1), "what takes its place removes it");
    find(&table, client, Instant::START).unwrap().expire_now();
    assert_eq!(table.sweep_all(Instant::START), 1);
}

#[test]
fn an_expired_entry_that_controls_others_goes_on_for_a_minute() {
    let table = table(64);
    let client = endpoint("10.1.0.1", 1025);
    insert(&table, client, Instant::START);
    let controller = find(&table, client, Instant::START).unwrap().control();
    let controlled = New { controller, ..new(endpoint("10.1.0.2", 1025)) };
    let hash = table.hash(Some(Protocol::Tcp), controlled.key.client);
    drop(table.insert(hash, &controlled, Instant::START));

    let found = table.find_inbound(hash, &controlled.key, Instant::from_seconds(2)).unwrap();
    assert!(found.expire_now(), "the controlled one goes first");
    assert_eq!(table.sweep_all(Instant::from_seconds(2)), 1);
    assert_eq!(table.sweep_all(Instant::from_seconds(3)), 1, "then nothing keeps its controller");

    insert(&table, client, Instant::from_seconds(10));
    find(&table, client, Instant::from_seconds(10)).unwrap().control();
    for at_s in [13, 72, 73, 133, 200] {
        let found = find(&table, client, Instant::from_seconds(at_s)).expect("it controls one");
        assert_eq!(found.entry().timeout_s(), 60);
    }
}

#[test]
fn a_full_table_refuses_and_recovers() {
    let table = table(8);
    for port in 1..=8 {
        insert(&table, endpoint("10.1.0.1", port), Instant::START);
    }
    let ninth = endpoint("10.1.0.1", 9);
    let hash = table.hash(Some(Protocol::Tcp), ninth);
    assert!(matches!(table.insert(hash, &new(ninth), Instant::START), Inserted::Full));
    assert_eq!(table.counters().full.load(std::sync::atomic::Ordering::Relaxed), 1);
    assert_eq!(table.destinations().get(DESTINATION).inactive(), 8, "a refused connection is not counted");
    table.sweep_all(Instant::from_seconds(3));
    insert(&table, ninth, Instant::from_seconds(3));
}

#[test]
fn a_far_deadline_survives_every_sweep() {
    let table = table(8);
    let client = endpoint("10.1.0.1", 1025);
    let hash = table.hash(Some(Protocol::Tcp), client);
    let month = 31 * 24 * 60 * 60;
    drop(table.insert(hash, &New { timeout_s: month, ..new(client) }, Instant::START));
    for hour in (0..31 * 24).step_by(1) {
        assert_eq!(table.sweep_all(Instant::from_seconds(hour * 3600)), 0, "hour {hour}");
    }
    assert_eq!(table.sweep_all(Instant::from_seconds(u64::from(month))), 1);
}

/// Random inserts, finds, packets, removals and time, in a table so small that buckets overflow, against a map.
#[test]
fn behaves_like_a_map_with_deadlines() {
    for seed in 0..20 {
        let mut rng = Rng::new(seed);
        let destinations = Arc::new(Destinations::default());
        destinations.make(DESTINATION).assign(ServiceId(1), endpoint("10.2.0.1", 80));
        // Four entries a bucket on average at 64 of 256: every fourth seed has one bucket for all.
        let connections_max = if seed % 4 == 0 { 3 } else { 256 };
        let small = TableConfig { connections_max, bucket_bits: 0 };
        let table = Table::new(small, Arc::clone(&destinations), &mut rng);
        let mut model: BTreeMap<Endpoint, (u64, u64)> = BTreeMap::new();
        let (mut now_ms, mut room_made, mut evicted) = (0, false, 0);
        for step in 0..3000 {
            now_ms += u64::from(rng.below(300));
            let now = Instant::from_milliseconds(now_ms - now_ms % 10);
            let at = now.milliseconds();
            let number = rng.below(80);
            let client = if number.is_multiple_of(3) {
                Endpoint::new(Address::v6(0xfd00 << 112 | u128::from(number)), 1000 + number as u16)
            } else {
                Endpoint::new(Address::v4(0x0a01_0000 + number), 1000 + number as u16)
            };
            model.retain(|_, (deadline, _)| *deadline > at);
            match rng.below(10) {
                0 => {
                    let expected = table.used();
                    table.sweep_all(now);
                    let left = table.used();
                    assert!(left <= expected);
                    assert_eq!((left.0 + left.1) as usize, model.len(), "seed {seed} step {step}");
                }
                1 => {
                    if let Some(found) = find(&table, client, now) {
                        assert!(found.expire_now());
                        assert!(model.remove(&client).is_some(), "seed {seed} step {step}");
                    }
                }
                2..=5 => match find(&table, client, now) {
                    Some(found) => {
                        found.advance(Direction::Inbound, Event::Tcp(tcp::Event::Rst), false);
                        found.restart();
                        model.insert(client, (at + 10_000, 10_000));
                    }
                    None => assert!(!model.contains_key(&client), "seed {seed} step {step}"),
                },
                _ => {
                    let hash = table.hash(Some(Protocol::Tcp), client);
                    if connections_max == 3 && find(&table, client, now).is_some() {
                        // Room in a full table is made for those that were looked for in vain.
                        continue;
                    }
                    match table.insert(hash, &new(client), now) {
                        Inserted::New(_) => {
                            assert!(model.insert(client, (at + 3000, 3000)).is_none(), "seed {seed} step {step}");
                            room_made = true;
                        }
                        Inserted::Existing(_) => assert!(model.contains_key(&client), "seed {seed} step {step}"),
                        Inserted::Full => assert!(connections_max == 3),
                    }
                    if std::mem::take(&mut room_made) && connections_max == 3 {
                        // Closing connections may have gone for it.
                        let before = model.len();
                        model.retain(|&client, _| find(&table, client, now).is_some());
                        evicted += before - model.len();
                    }
                }
            }
        }
        assert_eq!(table.counters().evicted_closing.load(Ordering::Relaxed), evicted as u64);
        assert_eq!(evicted > 0, connections_max == 3);
        table.sweep_all(Instant::from_milliseconds(now_ms + 100_000));
        assert_eq!(table.used(), (0, 0));
        assert_eq!(destinations.get(DESTINATION).inactive() + destinations.get(DESTINATION).active(), 0);
    }
}

/// A slice of the sweep at a time reaches every bucket.
#[test]
fn a_sliced_sweep_covers_the_table() {
    let table = table(1024);
    for port in 1..=500 {
        insert(&table, endpoint("10.1.0.1", port), Instant::START);
    }
    let mut cursor = sweep::Cursor::new(7);
    let mut freed = 0;
    for _ in 0..table.bucket_count().div_ceil(10) {
        freed += table.sweep(&mut cursor, 10, Instant::START + Duration::from_secs(4));
    }
    assert_eq!(freed, 500);
}

/// Cells of the transition table that differ between its parts, one by one (spec, section 6).
#[test]
fn tcp_transitions() {
    use tcp::{Event::*, Side::*, *};
    let cases = [
        (false, Input, Syn, NONE, SYN_RECV),
        (false, Input, Ack, SYN_RECV, ESTABLISHED),
        (false, Input, Fin, ESTABLISHED, CLOSE_WAIT),
        (false, InputOnly, Fin, ESTABLISHED, FIN_WAIT),
        (false, Output, Fin, ESTABLISHED, FIN_WAIT),
        (false, Input, Rst, SYN_RECV, SYN_RECV),
        (false, Output, Rst, SYN_RECV, CLOSE),
        (false, Input, Ack, LAST_ACK, CLOSE),
        (false, Output, Syn, SYN_RECV, SYN_RECV),
        (false, Input, Rst, SYNACK, SYN_RECV),
        (true, Output, Syn, SYN_RECV, SYNACK),
        (true, Input, Ack, SYN_RECV, SYN_RECV),
        (true, InputOnly, Syn, NONE, SYNACK),
        (true, Input, Rst, SYNACK, CLOSE),
        (false, Input, Nothing, ESTABLISHED, CLOSE),
    ];
    for (secure, side, event, old, expected) in cases {
        assert_eq!(tcp::next(secure, side, event, old), expected, "{secure} {side:?} {event:?} {old:?}");
    }
}

/// From one port to several virtual services that masquerade to one server: its answers belong to the newest
/// connection, wherever in the bucket it came to stand.
#[test]
fn answers_find_the_newest_of_connections_alike() {
    let client = endpoint("10.1.0.1", 1025);
    for others in 0..12 {
        let table = table(64);
        let hash = table.hash(Some(Protocol::Tcp), client);
        let answer = Key { protocol: Some(Protocol::Tcp), client, other: endpoint("10.2.0.1", 8080) };
        let mut ids = Vec::new();
        for number in 0..others + 3 {
            let mut connection = new(client);
            connection.key.other = endpoint("10.9.0.1", number + 1);
            // The first ones lead elsewhere, and fill slots and then the chain.
            if number < others {
                connection.destination = endpoint("10.2.0.2", number);
            }
            let Inserted::New(found) = table.insert(hash, &connection, Instant::START) else { panic!() };
            let id = found.entry().id();
            found.follow(Direction::Inbound, Event::Udp, false);
            drop(found);
            ids.push(id);
            if number >= others {
                let found = table.find_outbound(hash, &answer, Instant::START).unwrap();
                assert_eq!(found.entry().id(), id, "{others} others, number {number}");
            }
        }
        for (number, id) in ids.iter().enumerate() {
            let key = Key { other: endpoint("10.9.0.1", number as u16 + 1), ..key(client) };
            let found = table.find_inbound(hash, &key, Instant::START).unwrap();
            assert_eq!(found.entry().id(), *id, "all are found by their own side");
        }
        let mut seen = 0;
        for bucket in 0..table.bucket_count() {
            table.visit_bucket(bucket, Instant::START, |_| seen += 1);
        }
        assert_eq!(seen, ids.len());
        table.sweep_all(Instant::from_seconds(10_000));
        assert_eq!(table.used(), (0, 0));
    }
}
