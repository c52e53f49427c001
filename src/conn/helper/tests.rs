use super::*;
use crate::base::{Address, Rng};
use crate::conn::{EntryId, TableConfig};
use crate::service::{DestinationId, Destinations};
use std::sync::Arc;

fn table() -> Table {
    let config = TableConfig { connections_max: 1 << 10, bucket_bits: 8 };
    Table::new(config, Arc::new(Destinations::default()), &mut Rng::new(7))
}

fn endpoint(address: u32, port: u16) -> Endpoint {
    Endpoint::new(Address::v4(address), port)
}

fn new(client: Endpoint, service: Endpoint, server: Endpoint) -> New {
    New {
        key: Key { protocol: Some(Protocol::Tcp), client, other: service },
        destination: server,
        destination_id: DestinationId::NONE,
        flags: Flags::new(Method::Masquerading),
        mark: 0,
        controller: EntryId::NONE,
        timeout_s: 0,
    }
}

fn control(table: &Table) -> New {
    let control = new(endpoint(1, 1025), endpoint(9, 21), endpoint(2, 21));
    let hash = table.hash(control.key.protocol, control.key.client);
    assert!(matches!(table.insert(hash, &control, Instant::START), Inserted::New(_)));
    control
}

fn found<'t>(table: &'t Table, new: &New) -> Found<'t> {
    let hash = table.hash(new.key.protocol, new.key.client);
    table.find_inbound(hash, &new.key, Instant::START).unwrap()
}

#[test]
fn connections_of_its_ports_are_watched_and_counted() {
    let table = table();
    let before = control(&table);
    assert!(!found(&table, &before).entry().flags().has(Flags::HELPED), "the helper is off");
    found(&table, &before).remove();
    table.helper_ports().set(&[21, 2121]);
    let watched = control(&table);
    assert!(found(&table, &watched).entry().flags().has(Flags::HELPED));
    assert_eq!(table.helper_ports().list().collect::<Vec<_>>(), [(21, 1), (2121, 0)]);
    let routed =
        New { flags: Flags::new(Method::DirectRouting), ..new(endpoint(3, 1), endpoint(9, 21), endpoint(2, 21)) };
    let hash = table.hash(routed.key.protocol, routed.key.client);
    assert!(matches!(table.insert(hash, &routed, Instant::START), Inserted::New(_)));
    assert!(!found(&table, &routed).entry().flags().has(Flags::HELPED), "only masquerading is helped");
    found(&table, &watched).remove();
    assert_eq!(table.helper_ports().list().collect::<Vec<_>>(), [(21, 0), (2121, 0)]);
}

#[test]
fn at_most_eight_ports_count() {
    let ports = HelperPorts::default();
    ports.set(&[1, 2, 3, 4, 5, 6, 7, 8, 9]);
    assert!(ports.has(8) && !ports.has(9));
    assert_eq!(ports.list().count(), HELPER_PORTS_MAX);
}

#[test]
fn numbers_move_after_the_segment_that_grew() {
    let table = table();
    let control = control(&table);
    let found = found(&table, &control);
    assert_eq!(found.moved(), None);
    assert!(found.move_after(5001, 4));
    let moved = found.moved().unwrap();
    assert_eq!((moved.shift(5000), moved.shift(5001), moved.shift(5002)), (0, 0, 4));
    assert_eq!((moved.shift_acknowledged(5005), moved.shift_acknowledged(5047)), (0, 4));
    assert!(found.move_after(5001, 4), "sent again");
    assert_eq!(found.moved(), Some(moved));
    assert!(found.move_after(5055, 4));
    let moved = found.moved().unwrap();
    assert_eq!((moved.shift(5055), moved.shift(5098)), (4, 8));
    assert!(found.move_after(6000, 3u32.wrapping_neg()));
    assert_eq!(found.moved().unwrap().shift(6001), 5);
    // Across the end of the number space.
    let wrapped = Moved { start: u32::MAX - 1, delta: 4, previous_delta: 0 };
    assert_eq!((wrapped.shift(u32::MAX - 1), wrapped.shift(3)), (0, 4));
}

#[test]
fn records_of_moved_numbers_end_with_their_connections_and_are_limited() {
    let table = table();
    let records = table.moved_records();
    let control = control(&table);
    assert!(found(&table, &control).move_after(1, 1));
    found(&table, &control).remove();
    assert_eq!(records.allocate(), Some(1), "the one given back");
    for number in 2..=MOVED_SEQUENCES_MAX as u32 {
        assert_eq!(records.allocate(), Some(number));
    }
    let control = self::control(&table);
    assert!(!found(&table, &control).move_after(1, 1));
    assert_eq!(found(&table, &control).moved(), None);
    assert_eq!(table.counters().full.load(Relaxed), 1);
    records.free(9);
    assert!(found(&table, &control).move_after(1, 1));
}

#[test]
fn the_first_packet_gives_an_expected_connection_its_port() {
    let table = table();
    let control = control(&table);
    assert!(!table.has_expected());
    let controller = found(&table, &control).control();
    let (service, server) = (endpoint(9, 51210), endpoint(2, 51210));
    let data = New { controller, ..new(endpoint(1, 0), service, server) };
    let data = New { flags: data.flags.with(Flags::NO_CLIENT_PORT), ..data };
    assert_eq!(table.expect(&data, Instant::START), Expected::Listening);
    assert!(table.has_expected());
    // Asked for again.
    assert_eq!(found(&table, &control).control(), controller);
    assert_eq!(table.expect(&data, Instant::START), Expected::Listening);
    assert_eq!((table.used().0, found(&table, &control).entry().controlled()), (2, 1));

    let key = Key { client: endpoint(1, 1026), ..data.key };
    let hash = table.hash(key.protocol, key.client);
    assert!(table.find_expected(hash, &Key { other: endpoint(9, 51211), ..key }, Instant::START).is_none());
    {
        let first = table.find_expected(hash, &key, Instant::START).unwrap();
        let entry = first.entry();
        assert_eq!((entry.client(), entry.destination_endpoint()), (endpoint(1, 1026), server));
        assert_eq!((entry.state(), entry.timeout_s(), entry.controller()), (tcp::LISTEN, 120, controller));
        assert!(!entry.flags().has(Flags::NO_CLIENT_PORT));
    }
    assert!(!table.has_expected());
    assert_eq!((table.used().0, found(&table, &control).entry().controlled()), (2, 1));
    assert!(table.find_expected(hash, &key, Instant::START).is_none(), "one packet is the first");
}

#[test]
fn the_later_of_two_servers_with_one_port_is_expected() {
    let table = table();
    let service = endpoint(9, 51210);
    let data = |server| {
        let new = new(endpoint(1, 0), service, server);
        New { flags: new.flags.with(Flags::NO_CLIENT_PORT), ..new }
    };
    assert_eq!(table.expect(&data(endpoint(2, 51210)), Instant::START), Expected::Listening);
    assert_eq!(table.expect(&data(endpoint(3, 51210)), Instant::START), Expected::Listening);
    let key = Key { client: endpoint(1, 1026), ..data(service).key };
    let first = table.find_expected(table.hash(key.protocol, key.client), &key, Instant::START).unwrap();
    assert_eq!(first.entry().destination_endpoint(), endpoint(3, 51210));
}
