use std::sync::Arc;

use super::*;
use crate::base::{Duration, Rng};
use crate::conn::engine_data::data_of;
use crate::conn::{Direction, Event, TableConfig};
use crate::service::{Destinations, ServiceId, Tunnel};

pub(super) const SERVER: DestinationId = DestinationId(1);
const ROUTED: DestinationId = DestinationId(2);

pub(super) const POLICY: Policy = Policy {
    threshold: 3,
    period: 50,
    refresh_ticks: 0,
    retries: 0,
    templates_only: false,
    tracked: false,
    version_0: false,
};

pub(super) fn endpoint(address: &str, port: u16) -> Endpoint {
    Endpoint::new(address.parse().unwrap(), port)
}

pub(super) fn table() -> Table {
    let destinations = Arc::new(Destinations::default());
    for (id, method) in [(SERVER, Method::Masquerading), (ROUTED, Method::DirectRouting)] {
        let destination = destinations.make(id);
        destination.assign(ServiceId(1), endpoint("10.2.0.1", 8080));
        destination.configure(method, Tunnel::Ipip, 1, 0, 0);
        destination.set_available(ServiceId(1), true);
    }
    Table::new(TableConfig { connections_max: 64, bucket_bits: 0 }, destinations, &mut Rng::new(1))
}

pub(super) fn key(protocol: Protocol, port: u16) -> Key {
    Key { protocol: Some(protocol), client: endpoint("10.1.0.1", port), other: endpoint("10.9.0.1", 80) }
}

pub(super) fn new(protocol: Protocol, port: u16) -> New {
    New {
        key: key(protocol, port),
        destination: endpoint("10.2.0.1", 8080),
        destination_id: SERVER,
        flags: Flags::new(Method::Masquerading),
        mark: 0,
        controller: EntryId::NONE,
        timeout_s: 0,
    }
}

fn find(table: &Table, key: Key, now: Instant) -> Found<'_> {
    table.find_inbound(table.hash(key.protocol, key.client), &key, now).expect("it is there")
}

/// A connection and what it sends.
struct Life<'t> {
    table: &'t Table,
    key: Key,
    now: Instant,
}

impl<'t> Life<'t> {
    fn begin(table: &'t Table, connection: &New) -> Self {
        let now = Instant::START;
        let hash = table.hash(connection.key.protocol, connection.key.client);
        assert!(matches!(table.insert(hash, connection, now), Inserted::New(_)));
        Life { table, key: connection.key, now }
    }

    /// The records of one inbound packet.
    fn packet(&self, event: Event, policy: &Policy) -> Vec<SyncRecord> {
        let found = find(self.table, self.key, self.now);
        found.follow(Direction::Inbound, event, false);
        let mut records = Vec::new();
        found.synchronise(policy, |record, _| records.push(record));
        records
    }

    fn answer(&self, event: Event) {
        find(self.table, self.key, self.now).follow(Direction::Outbound, event, false);
    }

    /// The numbers of those of `count` packets that made a record of the connection.
    fn told(&self, event: Event, policy: &Policy, count: usize) -> Vec<usize> {
        (1..=count).filter(|_| !self.packet(event, policy).is_empty()).collect()
    }
}

const NEVER: [usize; 0] = [];

const SYN: Event = Event::Tcp(tcp::Event::Syn);
const ACK: Event = Event::Tcp(tcp::Event::Ack);
const FIN: Event = Event::Tcp(tcp::Event::Fin);

#[test]
fn a_tcp_connection_is_told_of_by_its_packets_and_its_states() {
    let table = table();
    let life = Life::begin(&table, &new(Protocol::Tcp, 1));
    assert_eq!(life.packet(SYN, &POLICY), []);
    life.answer(SYN);
    assert_eq!(life.packet(ACK, &POLICY), []);
    let [record] = life.packet(ACK, &POLICY)[..] else { panic!("the third packet makes a record") };
    assert_eq!((record.key, record.destination), (life.key, endpoint("10.2.0.1", 8080)));
    assert_eq!((record.flags, record.state, record.timeout_s), (Flags(0), tcp::ESTABLISHED, 900));
    // Packets 4 to 102.
    assert_eq!(life.told(ACK, &POLICY, 99), [50], "of each fifty the third");
    let [record] = life.packet(FIN, &POLICY)[..] else { panic!("another state makes a record") };
    assert_eq!((record.flags, record.state, record.timeout_s), (Flags::INACTIVE, tcp::CLOSE_WAIT, 60));
    assert_eq!(life.packet(FIN, &POLICY), [], "the same state makes none");
    life.answer(FIN);
    let [record] = life.packet(ACK, &POLICY)[..] else { panic!("another state makes a record") };
    assert_eq!(record.state, tcp::TIME_WAIT);
}

#[test]
fn half_open_connections_are_not_told_of() {
    let table = table();
    let life = Life::begin(&table, &new(Protocol::Tcp, 1));
    assert_eq!(life.told(SYN, &Policy { threshold: 0, period: 1, ..POLICY }, 10), NEVER);
}

#[test]
fn udp_is_told_of_by_its_packets() {
    for (threshold, period, told) in
        [(3, 50, &[3][..]), (0, 1, &[1, 2, 3, 4, 5]), (2, 0, &[2]), (1, 3, &[1, 4]), (0, 0, &[])]
    {
        let table = table();
        let life = Life::begin(&table, &new(Protocol::Udp, 1));
        assert_eq!(life.told(Event::Udp, &Policy { threshold, period, ..POLICY }, 5), told, "{threshold} {period}");
    }
}

#[test]
fn sctp_is_told_of_when_established_and_when_it_ends() {
    let table = table();
    let life = Life::begin(&table, &new(Protocol::Sctp, 1));
    let every = Policy { threshold: 0, period: 1, ..POLICY };
    assert_eq!(life.packet(Event::Sctp(sctp::Event::Init), &every), []);
    life.answer(Event::Sctp(sctp::Event::InitAck));
    assert_eq!(life.packet(Event::Sctp(sctp::Event::CookieEcho), &every), []);
    life.answer(Event::Sctp(sctp::Event::CookieAck));
    assert_eq!(life.packet(Event::Sctp(sctp::Event::Data), &every)[0].state, sctp::ESTABLISHED);
    assert_eq!(life.packet(Event::Sctp(sctp::Event::Shutdown), &POLICY)[0].state, sctp::SHUTDOWN_RECEIVED);
}

/// Seconds after the first record at which packets, one each second, made another.
fn refreshed(refresh_s: u32, retries: u32, timeout_s: u32, seconds: u64) -> Vec<u64> {
    let table = table();
    table.timeouts().set(0, 0, timeout_s);
    let mut life = Life::begin(&table, &new(Protocol::Udp, 1));
    let policy = Policy { threshold: 0, period: 0, refresh_ticks: refresh_s * TICKS_PER_SECOND, retries, ..POLICY };
    assert_eq!(life.packet(Event::Udp, &policy).len(), 1);
    let mut told = Vec::new();
    for second in 1..=seconds {
        life.now = Instant::START + Duration::from_secs(second);
        told.extend((!life.packet(Event::Udp, &policy).is_empty()).then_some(second));
    }
    told
}

#[test]
fn a_refresh_period_tells_again_and_retries_repeat() {
    assert_eq!(refreshed(20, 0, 300, 45), [20, 40]);
    // Not later than half the timeout, and that not below ten seconds.
    assert_eq!(refreshed(1000, 0, 60, 65), [30, 60]);
    assert_eq!(refreshed(1000, 0, 4, 25), [10, 20]);
    // A repetition comes an eighth of the period after the record before it.
    // Their number stands in the last ticks of the moment, which is why these come one packet later than they might.
    assert_eq!(refreshed(24, 2, 300, 32), [3, 7, 32]);
}

#[test]
fn a_cells_next_entry_knows_nothing_of_its_last() {
    let table = table();
    let policy = Policy { threshold: 0, period: 0, refresh_ticks: 1000 * TICKS_PER_SECOND, ..POLICY };
    let mut cells = Vec::new();
    for port in 1..=2 {
        let life = Life::begin(&table, &new(Protocol::Udp, port));
        assert_eq!(life.told(Event::Udp, &policy, 3), [1]);
        let found = find(&table, life.key, life.now);
        cells.push(found.entry().id());
        assert!(found.expire_now());
        table.sweep_all(life.now);
    }
    assert_eq!((table.used(), cells[0]), ((0, 0), cells[1]));
}

/// A template with engine data, a connection under it.
fn controlled(table: &Table, protocol: Protocol) -> Life<'_> {
    let mut template = new(protocol, 0);
    template.flags = template.flags.with(Flags::TEMPLATE);
    template.timeout_s = 360;
    let hash = table.hash_of_data(b"call");
    let Inserted::New(found) = table.insert_template(hash, &template, b"call", Instant::START) else { panic!() };
    let mut connection = new(protocol, 1);
    connection.controller = found.control();
    drop(found);
    Life::begin(table, &connection)
}

#[test]
fn a_template_is_told_of_with_each_packet_of_its_connections() {
    let table = table();
    let life = controlled(&table, Protocol::Udp);
    for number in 1..=4 {
        let found = find(&table, life.key, life.now);
        found.follow(Direction::Inbound, Event::Udp, false);
        let mut told = Vec::new();
        found.synchronise(&POLICY, |record, data| told.push((record, data.map(|data| data_of(data).to_vec()))));
        let (template, data) = told.last().unwrap();
        assert_eq!((template.flags, template.timeout_s), (Flags(0x1100), 360));
        assert_eq!(data.as_deref(), Some(&b"call"[..]));
        assert_eq!(told.len(), if number == 3 { 2 } else { 1 });
        if number == 3 {
            assert_eq!((told[0].0.key, &told[0].1), (life.key, &None));
        }
    }
}

#[test]
fn templates_alone_or_with_their_connections() {
    let table = table();
    let life = controlled(&table, Protocol::Udp);
    let every = Policy { threshold: 0, period: 1, ..POLICY };
    let is_template = |record: &SyncRecord| record.flags.has(Flags::TEMPLATE);
    assert_eq!(life.packet(Event::Udp, &every).len(), 2);
    let only = life.packet(Event::Udp, &Policy { templates_only: true, ..every });
    assert!(only.len() == 1 && is_template(&only[0]));
    // The old format looks at the template only when the connection was told of.
    let old = Policy { version_0: true, ..POLICY };
    assert_eq!(life.packet(Event::Udp, &old).len(), 2);
    assert_eq!(life.packet(Event::Udp, &old).len(), 0);
    let other = Life::begin(&table, &new(Protocol::Udp, 2));
    assert_eq!(other.packet(Event::Udp, &Policy { templates_only: true, ..every }).len(), 1, "it has no template");
}

#[test]
fn the_old_format_knows_ipv4_alone() {
    let table = table();
    let mut connection = new(Protocol::Udp, 1);
    connection.key.client = endpoint("fd00:1::1", 1);
    connection.key.other = endpoint("fd00:9::1", 80);
    connection.destination = endpoint("fd00:2::1", 80);
    let life = Life::begin(&table, &connection);
    let every = Policy { threshold: 0, period: 1, ..POLICY };
    assert_eq!(life.told(Event::Udp, &Policy { version_0: true, ..every }, 3), NEVER);
    assert_eq!(life.told(Event::Udp, &every, 3), [1, 2, 3]);
}

#[test]
fn one_packet_scheduling_tells_of_the_template() {
    let table = table();
    let life = controlled(&table, Protocol::Udp);
    let controller = find(&table, life.key, life.now).entry().controller();
    let mut told = Vec::new();
    table.synchronise_one_packet(controller, &POLICY, life.now, |record, _| told.push(record));
    assert!(told.len() == 1 && told[0].flags.has(Flags::TEMPLATE));
    assert_eq!(table.entry(controller).in_packets(), 1);
}

#[test]
fn an_end_that_is_put_off_is_told_of() {
    let table = table();
    let life = controlled(&table, Protocol::Udp);
    let controller = find(&table, life.key, life.now).entry().controller();
    table.timeouts().set(0, 0, 600);
    life.packet(Event::Udp, &POLICY);
    let later = life.now + Duration::from_secs(361);
    let postponed = |now| {
        let mut told = Vec::new();
        table.synchronise_postponed(&POLICY, now, |record, _| told.push((record.flags, record.timeout_s)));
        told
    };
    table.sweep_all(later);
    assert_eq!(postponed(later), [], "nobody wanted to know");
    table.note_postponed(true);
    let later = later + Duration::from_secs(61);
    table.sweep_all(later);
    assert_eq!(postponed(later), [(Flags(0x1100), 60)]);
    assert!(!table.entry(controller).is_expired(ticks(later)));
    assert_eq!(postponed(later), []);
}

pub(super) fn told(protocol: Protocol, port: u16, flags: u32, state: State) -> Synced<'static> {
    Synced {
        key: key(protocol, port),
        destination: endpoint("10.2.0.1", 8080),
        flags: Flags(flags),
        state,
        mark: 0,
        timeout_s: 0,
        engine_data: &[],
        packets: 3,
        left_ms: None,
        unless_since: None,
    }
}

fn counts(table: &Table, id: DestinationId) -> (u32, u32, u32) {
    let destination = table.destinations().get(id);
    (destination.active(), destination.inactive(), destination.persistent())
}

#[test]
fn what_is_told_becomes_an_entry_and_follows_its_master() {
    let table = table();
    let now = Instant::START;
    let bind = || Some(SERVER);
    assert_eq!(table.apply(&told(Protocol::Tcp, 1, 0, tcp::ESTABLISHED), now, bind), Applied::New);
    {
        let found = find(&table, key(Protocol::Tcp, 1), now);
        let entry = found.entry();
        assert_eq!((entry.state(), entry.timeout_s(), entry.in_packets()), (tcp::ESTABLISHED, 900, 3));
        assert_eq!((entry.flags(), entry.destination(), entry.expires_s(ticks(now))), (Flags::SYNC, SERVER, 900));
    }
    assert_eq!(counts(&table, SERVER), (1, 0, 0));
    let closing = Synced { timeout_s: 77, ..told(Protocol::Tcp, 1, 0x100, tcp::CLOSE_WAIT) };
    assert_eq!(table.apply(&closing, now, bind), Applied::Updated);
    assert_eq!(counts(&table, SERVER), (0, 1, 0));
    assert_eq!(find(&table, key(Protocol::Tcp, 1), now).entry().timeout_s(), 77);
    table.sweep_all(now + Duration::from_secs(77));
    assert_eq!((table.used().0, counts(&table, SERVER)), (0, (0, 0, 0)));
}

#[test]
fn how_a_server_is_reached_this_director_says() {
    let table = table();
    let now = Instant::START;
    table.apply(&told(Protocol::Udp, 1, 0x182, State::NONE), now, || Some(ROUTED));
    assert_eq!(find(&table, key(Protocol::Udp, 1), now).entry().flags(), Flags(0x1a3));
    table.apply(&told(Protocol::Udp, 2, 0x183, State::NONE), now, || Some(SERVER));
    assert_eq!(find(&table, key(Protocol::Udp, 2), now).entry().flags(), Flags(0x120));
}

#[test]
fn without_a_server_it_waits_for_one() {
    let table = table();
    let now = Instant::START;
    let message = told(Protocol::Tcp, 1, 0x83, tcp::ESTABLISHED);
    assert_eq!(table.apply(&message, now, || None), Applied::New);
    {
        let found = find(&table, key(Protocol::Tcp, 1), now);
        assert_eq!(found.entry().destination(), DestinationId::NONE);
        assert_eq!(found.entry().flags(), Flags(0xa3).with(Flags::NO_DESTINATION));
    }
    assert_eq!(table.apply(&message, now, || Some(SERVER)), Applied::Updated);
    assert_eq!(find(&table, key(Protocol::Tcp, 1), now).entry().flags(), Flags::SYNC);
    assert_eq!(counts(&table, SERVER), (1, 0, 0));
}

#[test]
fn another_server_is_another_connection_unless_the_news_are_late() {
    let table = table();
    let now = Instant::START;
    table.apply(&told(Protocol::Tcp, 1, 0, tcp::ESTABLISHED), now, || Some(SERVER));
    let other = endpoint("10.2.0.2", 8080);
    let late = Synced { destination: other, ..told(Protocol::Tcp, 1, 0x100, tcp::TIME_WAIT) };
    assert_eq!(table.apply(&late, now, || None), Applied::Late);
    assert_eq!(find(&table, key(Protocol::Tcp, 1), now).entry().state(), tcp::ESTABLISHED);
    let replaced = Synced { destination: other, ..told(Protocol::Tcp, 1, 0, tcp::ESTABLISHED) };
    assert_eq!(table.apply(&replaced, now, || None), Applied::New);
    assert_eq!(find(&table, key(Protocol::Tcp, 1), now).entry().destination_endpoint(), other);
    assert_eq!((table.used().0, counts(&table, SERVER)), (1, (0, 0, 0)));
}

#[test]
fn templates_keep_their_engine_data_and_their_own_timeout() {
    let table = table();
    let now = Instant::START;
    for (port, data) in [(0, &b"call"[..]), (0, b"other"), (0, b"")] {
        let template = told(Protocol::Udp, port, 0x1100, State::TEMPLATE_ASSURED);
        let template = Synced { engine_data: data, ..template };
        assert_eq!(table.apply(&template, now, || Some(SERVER)), Applied::New);
        assert_eq!(table.apply(&template, now, || Some(SERVER)), Applied::Updated);
        let hash = if data.is_empty() {
            table.hash(Some(Protocol::Udp), template.key.client)
        } else {
            table.hash_of_data(data)
        };
        let found = table.find_template(hash, &template.key, data, now).unwrap();
        assert_eq!((found.entry().timeout_s(), found.entry().state()), (180, State::TEMPLATE_ASSURED));
        assert_eq!(table.engine_data(found.entry()), data);
    }
    assert_eq!(counts(&table, SERVER), (0, 0, 3));
}

#[test]
fn a_full_table_takes_no_more() {
    let table = table();
    for port in 1..=64 {
        assert_eq!(table.apply(&told(Protocol::Udp, port, 0x100, State::NONE), Instant::START, || None), Applied::New);
    }
    let one_more = told(Protocol::Udp, 65, 0x100, State::NONE);
    assert_eq!(table.apply(&one_more, Instant::START, || Some(SERVER)), Applied::Full);
    assert_eq!(counts(&table, SERVER), (0, 0, 0));
}
