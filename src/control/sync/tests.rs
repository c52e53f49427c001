use super::*;
use crate::base::{Duration, Endpoint};
use crate::command::Request;
use crate::command::request::{ConnectionInfo, ServerRule};
use crate::conn::{Flags, Key, State, tcp};
use crate::control::tests::{add_server, control, execute, server, service};
use crate::service::{Method, Protocol};
use crate::wire::hex;

fn rule(role: DaemonRole) -> DaemonRule {
    let interface = "eth0".to_owned();
    DaemonRule { role, interface, syncid: 5, sync_maxlen: 0, group: None, port: 0, ttl: 0 }
}

fn start(control: &mut Control, rule: DaemonRule) -> Reply {
    control.learn_interface("eth0", Some(9000));
    execute(control, Request::StartDaemon(rule))
}

fn sent(control: &mut Control) -> Vec<(u16, Vec<u8>)> {
    let actions = std::iter::from_fn(|| control.poll_action());
    let datagrams = actions.filter_map(|action| match action {
        Action::SendSync { port, datagram } => Some((port, datagram)),
        _ => None,
    });
    datagrams.collect()
}

fn connections(control: &mut Control, now: Instant) -> Vec<ConnectionInfo> {
    let Ok(Response::Connections(rows)) = control.execute(now, Request::Connections) else { panic!() };
    rows
}

fn record(port: u16) -> SyncRecord {
    SyncRecord {
        key: Key {
            protocol: Some(Protocol::Tcp),
            client: Endpoint::new(Address::v4(0x0a01_0001), port),
            other: Endpoint::new(Address::v4(0x0a09_0001), 80),
        },
        destination: Endpoint::new(Address::v4(0x0a02_0001), 80),
        flags: Flags(0),
        state: tcp::ESTABLISHED,
        mark: 0,
        timeout_s: 900,
        spread: port.into(),
        has_engine_data: false,
    }
}

#[test]
fn daemons_start_and_stop_once() {
    let mut control = control();
    for (role, other) in [(DaemonRole::Master, DaemonRole::Backup), (DaemonRole::Backup, DaemonRole::Master)] {
        assert_eq!(execute(&mut control, Request::StopDaemon(role)), Err(Refusal::NoService));
        assert_eq!(execute(&mut control, Request::StartDaemon(rule(role))), Err(Refusal::NoDevice));
        control.learn_interface("eth1", Some(1500));
        assert_eq!(execute(&mut control, Request::StartDaemon(rule(role))), Err(Refusal::NoDevice));
        start(&mut control, rule(role)).unwrap();
        assert_eq!(start(&mut control, rule(role)), Err(Refusal::Exists));
        assert!(start(&mut control, rule(other)).is_ok());
        assert!(execute(&mut control, Request::StopDaemon(other)).is_ok());
        assert!(execute(&mut control, Request::StopDaemon(role)).is_ok());
        control.learn_interface("eth0", None);
    }
}

#[test]
fn defaults_and_bounds_are_the_kernels() {
    let v6 = Some("ff02::81".parse().unwrap());
    for (role, group, sync_maxlen, octets) in [
        (DaemonRole::Master, None, 0, 1472),
        (DaemonRole::Master, v6, 0, 1452),
        (DaemonRole::Master, None, 1, 1),
        (DaemonRole::Master, v6, 65_507, 65_487),
        (DaemonRole::Backup, None, 0, 8972),
        (DaemonRole::Backup, v6, 0, 8952),
        (DaemonRole::Backup, None, 1, 1024),
        (DaemonRole::Backup, None, 65_507, 65_507),
    ] {
        let mut control = control();
        start(&mut control, DaemonRule { group, sync_maxlen, ..rule(role) }).unwrap();
        let Ok(Response::Daemons(daemons)) = execute(&mut control, Request::Daemons) else { panic!() };
        let group = group.or("224.0.0.81".parse().ok());
        assert_eq!(daemons, [DaemonRule { group, sync_maxlen: octets, port: 8848, ttl: 1, ..rule(role) }]);
    }
}

#[test]
fn mixed_families_and_sync_daemons_exclude_each_other() {
    let mut control = control();
    execute(&mut control, Request::AddService(service("rr"))).unwrap();
    let endpoint = Endpoint::new("fd00:2::1".parse().unwrap(), 80);
    let mixed = ServerRule { endpoint, method: Method::Tunnelling, ..server(1) };
    start(&mut control, rule(DaemonRole::Backup)).unwrap();
    assert_eq!(add_server(&mut control, mixed), Err(Refusal::Invalid));
    execute(&mut control, Request::StopDaemon(DaemonRole::Backup)).unwrap();
    add_server(&mut control, mixed).unwrap();
    assert_eq!(start(&mut control, rule(DaemonRole::Master)), Err(Refusal::Invalid));
}

#[test]
fn records_leave_after_two_seconds_each_connection_by_its_port() {
    let mut control = control();
    control.shared.sysctls.write("sync_ports", "4").unwrap();
    start(&mut control, rule(DaemonRole::Master)).unwrap();
    // The number of ports is that of the start.
    control.shared.sysctls.write("sync_ports", "1").unwrap();
    let now = Instant::from_seconds(1);
    for port in 1..=8 {
        control.shared.workers[0].sync_queue.put(record(port), None);
    }
    control.handle_timeout(now);
    assert_eq!(sent(&mut control), []);
    let due = now + Duration::from_secs(2);
    assert!(control.next_deadline().unwrap() <= due);
    control.handle_timeout(due);
    let sent = sent(&mut control);
    assert_eq!(sent.iter().map(|(port, _)| *port).collect::<Vec<_>>(), [0, 1, 2, 3]);
    assert!(sent.iter().all(|(_, datagram)| datagram.len() == 80 && datagram[4] == 2 && datagram[1] == 5));
    assert_eq!((control.sync.counters.records_sent, control.sync.counters.datagrams_sent), (8, 4));
}

#[test]
fn a_master_that_stops_sends_what_it_has() {
    let mut control = control();
    start(&mut control, rule(DaemonRole::Master)).unwrap();
    control.shared.workers[0].sync_queue.put(record(1), None);
    execute(&mut control, Request::StopDaemon(DaemonRole::Master)).unwrap();
    let actions: Vec<Action> = std::iter::from_fn(|| control.poll_action()).collect();
    assert!(matches!(
        &actions[actions.len() - 2..],
        [Action::SendSync { port: 0, .. }, Action::StopSync(DaemonRole::Master)]
    ));
    // What a worker leaves late is not told by the next master.
    control.shared.workers[0].sync_queue.put(record(2), None);
    start(&mut control, rule(DaemonRole::Master)).unwrap();
    control.handle_timeout(Instant::from_seconds(5));
    assert_eq!(sent(&mut control), []);
}

#[test]
fn roles_reach_the_workers() {
    let mut control = control();
    let roles = |control: &Control| {
        let SyncRoles { is_master, is_passive } = control.shared.sync_roles.load();
        (is_master, is_passive)
    };
    start(&mut control, rule(DaemonRole::Backup)).unwrap();
    assert_eq!(roles(&control), (false, false));
    control.shared.sysctls.write("backup_only", "1").unwrap();
    control.sysctls_changed();
    assert_eq!(roles(&control), (false, true));
    start(&mut control, rule(DaemonRole::Master)).unwrap();
    assert_eq!(roles(&control), (true, true));
    execute(&mut control, Request::StopDaemon(DaemonRole::Backup)).unwrap();
    assert_eq!(roles(&control), (true, false));
}

/// From a recording.
const ESTABLISHED: &str =
    "0005002c 01010000 00060024 00000000 0001 0401 0050 0050 00000000 00000384 0a010001 0a090001 0a020001";

fn backup(syncid: u8) -> Control {
    let mut control = control();
    start(&mut control, DaemonRule { syncid, ..rule(DaemonRole::Backup) }).unwrap();
    control
}

/// How many connections there are after a backup of syncid 5 got `datagram`.
fn taken_over(datagram: &[u8]) -> usize {
    let mut control = backup(5);
    control.receive_sync(Instant::START, datagram);
    connections(&mut control, Instant::START).len()
}

fn changed(at: usize, octets: &[u8]) -> Vec<u8> {
    let mut datagram = hex(ESTABLISHED);
    datagram[at..at + octets.len()].copy_from_slice(octets);
    datagram
}

#[test]
fn a_connection_is_taken_over() {
    let mut control = backup(5);
    execute(&mut control, Request::AddService(service("rr"))).unwrap();
    add_server(&mut control, server(1)).unwrap();
    control.receive_sync(Instant::START, &hex(ESTABLISHED));
    let rows = connections(&mut control, Instant::START);
    assert_eq!((rows.len(), &rows[0].state[..], rows[0].expires_s), (1, "ESTABLISHED", 900));
    assert!(rows[0].from_sync);
    let id = control.services[0].servers[0].id;
    assert_eq!(control.shared.destinations.get(id).active(), 1);
    assert_eq!(control.sync_counters().records_applied, 1);
}

#[test]
fn each_check_of_the_receiver() {
    assert_eq!(taken_over(&hex(ESTABLISHED)), 1);
    for (what, datagram) in [
        ("the size", changed(2, &[0, 0x2d])),
        ("the syncid", changed(1, &[6])),
        ("the version", changed(5, &[2])),
        ("the type", changed(8, &[2])),
        ("the protocol", changed(9, &[47])),
        ("no protocol, no template", changed(9, &[0])),
        ("the state", changed(16, &[0, 11])),
        ("the state's high octet", changed(16, &[1, 1])),
        ("one-packet scheduling", changed(14, &[0x20, 0])),
        ("a method that is none", changed(14, &[0, 7])),
        ("a template in no state", changed(14, &[0x10, 0, 0, 2])),
        ("a template without client port", changed(14, &[0x18, 0, 0, 1])),
    ] {
        assert_eq!(taken_over(&datagram), 0, "{what}");
    }
    assert_eq!(taken_over(&changed(14, &[0x10, 0, 0, 1])), 1, "a template");
    assert_eq!(taken_over(&changed(16, &[0, 10])), 1, "the last state");
}

#[test]
fn flags_that_are_not_the_masters_to_say() {
    let mut control = backup(5);
    control.receive_sync(Instant::START, &changed(12, &[0xff, 0xff, 0xc6, 0x78]));
    let connections = &control.shared.connections;
    let mut flags = Vec::new();
    for bucket in 0..connections.bucket_count() {
        connections.visit_bucket(bucket, Instant::START, |entry| flags.push(entry.flags()));
    }
    assert_eq!(flags, [Flags::SYNC.with(Flags::NO_DESTINATION)]);
}

#[test]
fn syncid_0_takes_all() {
    let mut control = backup(0);
    control.receive_sync(Instant::START, &changed(1, &[77]));
    assert_eq!(connections(&mut control, Instant::START).len(), 1);
}

#[test]
fn engines_must_be_known() {
    let with = |options: &[u8]| {
        let mut datagram = changed(14, &[0x11, 0, 0, 0]);
        datagram.extend_from_slice(options);
        let length = datagram.len() as u8;
        datagram[3] = length;
        datagram[11] = length - 8;
        taken_over(&datagram)
    };
    assert_eq!(with(b"\x02\x04call\x03\x03sip"), 1);
    assert_eq!(with(b"\x02\x04call\x03\x03sap"), 0);
    assert_eq!(with(b"\x02\x04call"), 0);
    assert_eq!(with(b"\x03\x03sip"), 1, "a name without data says nothing");
}

#[test]
fn what_a_mark_and_port_0_find() {
    for (mark, method, server_port, port, is_found) in [
        (0, 0, 80, 80, true),
        (0, 0, 0, 80, true),
        (0, 0, 81, 80, false),
        (7, 3, 0, 80, true),
        (7, 3, 80, 80, true),
        (7, 0, 80, 80, true),
    ] {
        let mut control = backup(5);
        execute(&mut control, Request::AddService(service("rr"))).unwrap();
        let endpoint = Endpoint::new(server(1).endpoint.address, server_port);
        add_server(&mut control, ServerRule { endpoint, ..server(1) }).unwrap();
        let mut datagram = changed(15, &[method]);
        datagram[23] = port;
        datagram[27] = mark;
        control.receive_sync(Instant::START, &datagram);
        let id = control.services[0].servers[0].id;
        let active = control.shared.destinations.get(id).active();
        assert_eq!(active, u32::from(is_found), "mark {mark} method {method} server port {server_port}");
    }
}

#[test]
fn truncated_datagrams_change_nothing() {
    let whole = hex(ESTABLISHED);
    for length in 0..whole.len() {
        assert_eq!(taken_over(&whole[..length]), 0);
        let mut cut = whole[..length].to_vec();
        if length >= 4 {
            cut[3] = length as u8;
            assert_eq!(taken_over(&cut), 0);
        }
    }
    let mut control = backup(5);
    control.receive_sync(Instant::START, &vec![0; 9000]);
    assert_eq!(control.sync_counters().datagrams_malformed, 1, "longer than the interface's MTU");
}

/// What a master sends, a backup understands: state, timeout, mark.
#[test]
fn a_masters_datagrams_are_a_backups() {
    let mut master = control();
    start(&mut master, rule(DaemonRole::Master)).unwrap();
    let told = SyncRecord { state: State(5), timeout_s: 33, mark: 9, ..record(7) };
    master.shared.workers[0].sync_queue.put(told, None);
    execute(&mut master, Request::StopDaemon(DaemonRole::Master)).unwrap();
    let mut backup = backup(5);
    for (_, datagram) in sent(&mut master) {
        backup.receive_sync(Instant::START, &datagram);
    }
    let rows = connections(&mut backup, Instant::START);
    assert_eq!((&rows[0].state[..], rows[0].expires_s, rows[0].client.port), ("TIME_WAIT", 33, 7));
}
