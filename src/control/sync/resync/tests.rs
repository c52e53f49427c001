//! Each side alone, with a peer that does what it should not.

use super::*;
use crate::base::Endpoint;
use crate::command::Request;
use crate::command::request::DaemonRole;
use crate::control::sync::resync::cannot::Cannot;
use crate::control::sync::resync::peer::ATTEMPTS_MAX;
use crate::control::sync::resync::server::SESSIONS_MAX;
use crate::control::tests::control;
use crate::wire::resync::{Digest, Hello, Role, Span, VERSION};
use crate::wire::sync::{Record, Stamp, put_stamp};

const PEER: Address = Address::v4(0x0a37_0001);
const OPTIONS: ResyncOptions = ResyncOptions { port: Some(9000), peer: None, rate: RATE_DEFAULT, seed: 5 };

fn started(role: DaemonRole, syncid: u8) -> Control {
    let mut control = control();
    control.set_resync(OPTIONS);
    control.learn_interface("eth0", Some(1500));
    let interface = "eth0".to_owned();
    let rule = DaemonRule { role, interface, syncid, sync_maxlen: 0, group: None, port: 0, ttl: 0 };
    control.execute(Instant::START, Request::StartDaemon(rule)).unwrap();
    control
}

fn actions(control: &mut Control) -> Vec<LinkAction> {
    let actions = std::iter::from_fn(|| control.poll_action());
    actions.filter_map(|action| if let Action::Link(action) = action { Some(action) } else { None }).collect()
}

fn octets(frame: Frame<'_>) -> Vec<u8> {
    let mut octets = Vec::new();
    frame.emit(&mut octets);
    octets
}

fn at(milliseconds: u64) -> Instant {
    Instant::from_milliseconds(milliseconds)
}

fn record(port: u16, state: u16) -> Record<'static> {
    let endpoint = |address, port| Endpoint::new(Address::v4(address), port);
    let (client, server) = (endpoint(0x0a01_0001, port), endpoint(0x0a02_0001, 80));
    Record { state, ..Record::example(client, endpoint(0x0a09_0001, 80), server) }
}

fn datagram(record: &Record<'_>) -> Vec<u8> {
    let mut writer = Writer::new(Version::V1, 5, 1400);
    assert!(writer.push(record));
    writer.finish()
}

fn numbered(record: &Record<'_>, number: u32) -> Vec<u8> {
    let mut datagram = datagram(record);
    assert!(put_stamp(&mut datagram, Stamp { epoch: 7, number }));
    datagram
}

/// The states of the connections that there are, by their clients' ports.
fn states(control: &mut Control, now: Instant) -> Vec<(u16, String)> {
    let reply = control.execute(now, Request::Connections);
    let Ok(crate::command::Response::Connections(rows)) = reply else { panic!() };
    let mut states: Vec<_> = rows.into_iter().map(|row| (row.client.port, row.state)).collect();
    states.sort();
    states
}

/// What a backup does once it hears a master, up to its connection.
fn connecting(control: &mut Control, now: Instant) -> LinkId {
    control.receive_sync_from(now, Some((PEER, 0)), &datagram(&record(1, 1)));
    control.handle_timeout(now);
    let open = actions(control).into_iter().find_map(|action| match action {
        LinkAction::Open { link, peer: PEER, port: 9000, .. } => Some(link),
        _ => None,
    });
    open.expect("a connection")
}

const HELLO: Hello = Hello { syncid: 5, role: Role::Master, ports: 1, epoch: 7 };

/// A backup whose master has answered; the number of the resync.
fn linked(control: &mut Control, now: Instant) -> (LinkId, u32) {
    let link = connecting(control, now);
    control.link_opened(now, link);
    let hello = octets(Frame::Hello(Hello { syncid: 5, role: Role::Backup, ports: 0, epoch: 0 }));
    assert_eq!(actions(control), [LinkAction::Send { link, octets: hello }]);
    let mut answer = octets(Frame::Hello(HELLO));
    crate::wire::resync::emit_position(&mut answer, [1].into_iter());
    control.link_received(now, link, &answer);
    (link, asked(control))
}

/// The table that a backup asks for.
fn asked(control: &mut Control) -> u32 {
    let sent = actions(control).into_iter().find_map(|action| match action {
        LinkAction::Send { octets, .. } if octets[0] == 3 => Some(octets),
        _ => None,
    });
    let sent = sent.expect("a table is asked for");
    match Frame::parse(sent[0], &sent[4..]) {
        Ok(Frame::Table { number }) => number,
        other => panic!("{other:?}"),
    }
}

fn end(number: u32, records: &[Record<'_>]) -> Vec<u8> {
    let mut digest = Digest::default();
    records.iter().for_each(|record| digest.add(record));
    octets(Frame::End { number, digest })
}

#[test]
fn a_table_is_taken_and_checked() {
    let mut control = started(DaemonRole::Backup, 5);
    let (link, number) = linked(&mut control, at(10));
    assert_eq!(control.sync_is_warm(at(10)), Warm::Resyncing { records: 0, of: 0 });
    control.link_received(at(20), link, &octets(Frame::Begin { number, entries: 9 }));
    // News come while the table does; what the table says of that connection is older.
    control.receive_sync_from(at(30), Some((PEER, 0)), &numbered(&record(2, 6), 1));
    let table = [record(2, 1), record(3, 1)];
    for record in &table {
        control.link_received(at(40), link, &octets(Frame::Records { number, datagram: &datagram(record) }));
    }
    assert_eq!(control.sync_is_warm(at(40)), Warm::Resyncing { records: 2, of: 9 });
    control.link_received(at(50), link, &end(number, &table));
    assert_eq!(control.sync_is_warm(at(50)), Warm::Yes);
    assert!(actions(&mut control).contains(&LinkAction::Warm(Warm::Yes)));
    let expected = [(1, "ESTABLISHED"), (2, "CLOSE"), (3, "ESTABLISHED")];
    assert_eq!(states(&mut control, at(50)), expected.map(|(port, state)| (port, state.to_owned())));
    let counters = control.sync_status(at(50)).resync;
    assert_eq!((counters.records_applied, counters.records_newer, counters.resyncs_whole), (1, 1, 1));
}

#[test]
fn a_table_that_differs_is_asked_for_again_and_not_for_ever() {
    let mut control = started(DaemonRole::Backup, 5);
    let mut now = at(10);
    let (link, mut number) = linked(&mut control, now);
    for attempt in 1..=ATTEMPTS_MAX {
        let wrong = if attempt % 2 == 0 { end(number, &[]) } else { end(number, &[record(3, 1), record(3, 1)]) };
        let table = datagram(&record(3, 1));
        control.link_received(now, link, &octets(Frame::Records { number, datagram: &table }));
        // What was meant for another resync is nobody's.
        control.link_received(now, link, &octets(Frame::Records { number: number + 9, datagram: &table }));
        control.link_received(now, link, &end(number + 9, &[]));
        control.link_received(now, link, &wrong);
        assert_eq!(control.sync_status(now).resync.resyncs_different, u64::from(attempt));
        if attempt == ATTEMPTS_MAX {
            break;
        }
        let resync = (0..40).find_map(|_| {
            now = now + Duration::from_millis(500);
            control.link_received(now, link, &octets(Frame::Begin { number: 0, entries: 0 }));
            control.handle_timeout(now);
            (control.sync_status(now).resync.resyncs > u64::from(attempt)).then(|| asked(&mut control))
        });
        number = resync.expect("another attempt");
    }
    assert_eq!(control.sync_is_warm(now), Warm::PeerCannot);
    assert_eq!(control.sync_status(now).masters[0].cannot, Some(Cannot::Failed));
    actions(&mut control);
    control.execute(now, Request::Connections).unwrap();
    control.sync_command(&["resync".into()], now).unwrap();
    control.handle_timeout(now);
    let number = asked(&mut control);
    control.link_received(now, link, &end(number, &[]));
    assert_eq!(control.sync_is_warm(now), Warm::Yes);
}

#[test]
fn what_is_lost_is_asked_for_and_comes_in_order() {
    let mut control = started(DaemonRole::Backup, 5);
    let (link, number) = linked(&mut control, at(10));
    control.link_received(at(10), link, &end(number, &[]));
    actions(&mut control);
    let lost = numbered(&record(4, 1), 1);
    control.receive_sync_from(at(20), Some((PEER, 0)), &numbered(&record(4, 6), 2));
    assert_eq!(states(&mut control, at(20)).len(), 1, "it waits");
    control.handle_timeout(at(40));
    let ask = octets(Frame::Ask(Span { port: 0, count: 1, first: 1 }));
    assert_eq!(actions(&mut control), [LinkAction::Send { link, octets: ask }]);
    control.link_received(at(50), link, &octets(Frame::Again { port: 0, datagram: &lost }));
    assert_eq!(states(&mut control, at(50))[1], (4, "CLOSE".to_owned()));
    // Of another run, or another port than there are: as without numbers.
    let mut other = datagram(&record(5, 1));
    assert!(put_stamp(&mut other, Stamp { epoch: 8, number: 99 }));
    control.receive_sync_from(at(60), Some((PEER, 0)), &other);
    control.receive_sync_from(at(60), Some((PEER, 3)), &numbered(&record(6, 1), 77));
    assert_eq!(states(&mut control, at(60)).len(), 4);
    // What is gone leads to the table.
    control.receive_sync_from(at(70), Some((PEER, 0)), &numbered(&record(7, 1), 4));
    control.link_received(at(1100), link, &octets(Frame::Gone(Span { port: 0, count: 1, first: 3 })));
    assert_eq!(states(&mut control, at(1100)).len(), 5);
    control.handle_timeout(at(1100));
    asked(&mut control);
    let counters = control.sync_status(at(1100)).resync;
    assert_eq!((counters.missed, counters.repaired, counters.not_repaired), (1, 1, 1));
}

/// A director that takes over stops its backup's daemon: it does not forget what it has heard.
#[test]
fn what_waits_is_taken_at_the_end() {
    let mut control = started(DaemonRole::Backup, 5);
    let (link, _) = linked(&mut control, at(10));
    control.receive_sync_from(at(20), Some((PEER, 0)), &numbered(&record(4, 1), 3));
    control.execute(at(20), Request::StopDaemon(DaemonRole::Backup)).unwrap();
    assert_eq!(states(&mut control, at(20)).len(), 2);
    let actions = actions(&mut control);
    let expected = [LinkAction::Close { link }, LinkAction::Warm(Warm::NoPeer)];
    assert!(expected.iter().all(|action| actions.contains(action)), "{actions:?}");
    assert_eq!(control.sync_is_warm(at(20)), Warm::NoPeer);
}

#[test]
fn masters_that_are_none() {
    let v = VERSION + 1;
    for (answer, cannot) in [
        (octets(Frame::Hello(Hello { role: Role::Backup, ..HELLO })), Cannot::NotLvx),
        (octets(Frame::Hello(Hello { ports: 0, ..HELLO })), Cannot::NotLvx),
        (octets(Frame::Hello(Hello { ports: 65, ..HELLO })), Cannot::NotLvx),
        (octets(Frame::Hello(Hello { syncid: 6, ..HELLO })), Cannot::Syncid),
        (octets(Frame::Refusal(Reason::Syncid)), Cannot::Syncid),
        (octets(Frame::Refusal(Reason::Busy)), Cannot::Busy),
        (octets(Frame::Refusal(Reason::Version)), Cannot::Version),
        (octets(Frame::Alive), Cannot::NotLvx),
        (octets(Frame::Table { number: 1 }), Cannot::NotLvx),
        (
            [&octets(Frame::Hello(HELLO))[..], &octets(Frame::Ask(Span { port: 0, count: 1, first: 1 }))].concat(),
            Cannot::NotLvx,
        ),
        (vec![1, 0, 0, 5, b'l', b'v', b'x', b'r', v], Cannot::NotLvx),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(), Cannot::NotLvx),
    ] {
        let mut control = started(DaemonRole::Backup, 5);
        let link = connecting(&mut control, at(10));
        control.link_opened(at(10), link);
        control.link_received(at(20), link, &answer);
        assert!(actions(&mut control).contains(&LinkAction::Close { link }), "{answer:?}");
        assert_eq!(control.sync_status(at(20)).masters[0].cannot, Some(cannot), "{answer:?}");
        assert_eq!(control.sync_is_warm(at(20)), Warm::PeerCannot);
    }
}

#[test]
fn a_master_that_does_not_answer_is_tried_less_and_less_often() {
    let mut control = started(DaemonRole::Backup, 5);
    let first = connecting(&mut control, at(0));
    control.link_closed(at(0), first, LinkEnd::Refused);
    assert_eq!(control.sync_status(at(0)).masters[0].cannot, Some(Cannot::Refuses));
    let mut opened = Vec::new();
    for second in 1..400u64 {
        let now = Instant::from_seconds(second);
        control.receive_sync_from(now, Some((PEER, 0)), &datagram(&record(1, 1)));
        control.handle_timeout(now);
        for action in actions(&mut control) {
            if let LinkAction::Open { link, .. } = action {
                opened.push(second);
                control.link_closed(now, link, LinkEnd::Refused);
            }
        }
    }
    assert_eq!(opened, [1, 3, 7, 15, 31, 63, 123, 183, 243, 303, 363]);
    // One that only connects is given three seconds.
    let mut control = started(DaemonRole::Backup, 5);
    let link = connecting(&mut control, at(0));
    control.handle_timeout(at(3000));
    assert!(actions(&mut control).contains(&LinkAction::Close { link }));
    assert_eq!(control.sync_status(at(3000)).masters[0].cannot, Some(Cannot::NoAnswer));
}

/// Whoever sends to the group cannot make a backup follow any number of masters.
#[test]
fn masters_are_bounded() {
    let mut control = started(DaemonRole::Backup, 0);
    for number in 0..100u32 {
        let source = Address::v4(0x0a37_0000 + number);
        control.receive_sync_from(at(1), Some((source, 0)), &datagram(&record(number as u16 + 1, 1)));
        control.handle_timeout(at(1));
    }
    let status = control.sync_status(at(1));
    assert_eq!(
        (status.masters.len(), status.resync.peers_ignored),
        (client::PEERS_MAX, 100 - client::PEERS_MAX as u64)
    );
    assert_eq!(status.datagrams.records_applied, 64, "as many as the table has room for, whoever tells of them");
}

fn accept(control: &mut Control, now: Instant) -> LinkId {
    control.link_accepted(now, PEER).expect("a link")
}

fn backup_hello(syncid: u8) -> Vec<u8> {
    octets(Frame::Hello(Hello { syncid, role: Role::Backup, ports: 0, epoch: 0 }))
}

#[test]
fn backups_that_are_none_are_closed() {
    for (sent, is_malformed) in [
        (backup_hello(6), false),
        (vec![1, 0, 0, 5, b'l', b'v', b'x', b'r', 2], false),
        (octets(Frame::Hello(HELLO)), true),
        (octets(Frame::Table { number: 1 }), true),
        (octets(Frame::Alive), true),
        ([backup_hello(5), backup_hello(5)].concat(), true),
        ([backup_hello(5), octets(Frame::End { number: 1, digest: Digest::default() })].concat(), true),
        ([backup_hello(5), vec![3, 0, 0xff, 0xff]].concat(), true),
        (b"GET / HTTP/1.1\r\n\r\n".to_vec(), true),
    ] {
        let mut control = started(DaemonRole::Master, 5);
        let link = accept(&mut control, at(1));
        control.link_received(at(1), link, &sent);
        assert_eq!(actions(&mut control).last(), Some(&LinkAction::Close { link }), "{sent:?}");
        let served = control.sync_status(at(1)).served;
        assert_eq!((served.malformed, served.refused), (is_malformed.into(), (!is_malformed).into()), "{sent:?}");
        // What comes after is not read.
        control.link_received(at(2), link, &backup_hello(5));
        assert_eq!(actions(&mut control), []);
    }
}

#[test]
fn backups_are_bounded_and_those_that_say_or_take_nothing_go() {
    let mut control = started(DaemonRole::Master, 5);
    actions(&mut control);
    let links: Vec<LinkId> = (0..SESSIONS_MAX).map(|_| accept(&mut control, at(0))).collect();
    let busy = accept(&mut control, at(0));
    let refusal = octets(Frame::Refusal(Reason::Busy));
    let expected = [LinkAction::Send { link: busy, octets: refusal }, LinkAction::Close { link: busy }];
    assert_eq!(actions(&mut control), expected);
    // One goes on asking and takes nothing.
    control.link_received(at(5000), links[0], &backup_hello(5));
    control.sync.resync.server.as_mut().unwrap().number(0, &mut datagram(&record(1, 1)), 1472);
    let ask = octets(Frame::Ask(Span { port: 0, count: 1, first: 1 }));
    let mut asked = 0;
    while control.sync_status(at(5000)).served.slow == 0 {
        control.link_received(at(5000), links[0], &ask);
        asked += 1;
        assert!(asked < 200_000);
    }
    assert!(asked * 60 > server::PENDING_MAX / 2, "{asked}");
    control.handle_timeout(at(10_000));
    assert_eq!(control.sync_status(at(10_000)).served.slow, SESSIONS_MAX as u64);
    for link in links {
        control.link_closed(at(10_000), link, LinkEnd::Closed);
    }
    assert_eq!(control.sync_status(at(10_000)).backups.len(), 0);
}

#[test]
fn a_table_goes_no_faster_than_it_may() {
    let mut control = control();
    control.set_resync(ResyncOptions { rate: 1000, ..OPTIONS });
    control.learn_interface("eth0", Some(1500));
    let interface = "eth0".to_owned();
    let rule = |role, syncid| DaemonRule {
        role,
        interface: interface.clone(),
        syncid,
        sync_maxlen: 0,
        group: None,
        port: 0,
        ttl: 0,
    };
    control.execute(at(0), Request::StartDaemon(rule(DaemonRole::Backup, 5))).unwrap();
    for port in 1..=50 {
        control.receive_sync(at(0), &datagram(&record(port, 1)));
    }
    control.execute(at(0), Request::StartDaemon(rule(DaemonRole::Master, 5))).unwrap();
    let link = accept(&mut control, at(0));
    control.link_received(at(0), link, &[backup_hello(5), octets(Frame::Table { number: 4 })].concat());
    let mut told = Vec::new();
    for millisecond in 0..200 {
        control.handle_timeout(at(millisecond));
        for action in actions(&mut control) {
            if let LinkAction::Send { link, octets } = action {
                control.link_written(at(millisecond), link, octets.len());
            }
        }
        told.push(control.sync_status(at(millisecond)).served.records);
    }
    assert!(told.windows(6).all(|window| window[5] - window[0] <= 10), "{told:?}");
    assert_eq!((told[20] <= 26, told[199], control.sync_status(at(200)).served.tables), (true, 50, 1), "{told:?}");
}

#[test]
fn without_options_it_is_as_in_the_kernel() {
    let mut control = control();
    control.learn_interface("eth0", Some(1500));
    for role in [DaemonRole::Master, DaemonRole::Backup] {
        let interface = "eth0".to_owned();
        let rule = DaemonRule { role, interface, syncid: 5, sync_maxlen: 0, group: None, port: 0, ttl: 0 };
        control.execute(at(0), Request::StartDaemon(rule)).unwrap();
    }
    control.receive_sync_from(at(0), Some((PEER, 0)), &datagram(&record(1, 1)));
    control.handle_timeout(at(5000));
    assert_eq!((actions(&mut control), control.link_accepted(at(5000), PEER)), (Vec::new(), None));
    assert_eq!(control.sync_is_warm(at(5000)), Warm::NoPeer);
    let answer = control.sync_command(&["resync".into()], at(5000)).unwrap();
    assert_eq!((answer.exit, &answer.stderr[..]), (1, "lvx: resynchronisation is off\n"));
    assert!(control.sync_command(&["other".into()], at(5000)).is_err());
}

/// Frames of every kind with arbitrary contents, and arbitrary octets: nothing panics, and nothing grows.
#[test]
fn arbitrary_peers() {
    let mut rng = Rng::new(77);
    let mut greeted = 0;
    for role in [DaemonRole::Backup, DaemonRole::Master] {
        for round in 0..300u64 {
            let mut control = started(role, 5);
            let mut now = at(10);
            let link = match role {
                DaemonRole::Backup => linked(&mut control, now).0,
                DaemonRole::Master => {
                    let link = accept(&mut control, now);
                    control.link_received(now, link, &backup_hello(5));
                    link
                }
            };
            for _ in 0..rng.below(60) {
                let mut record = numbered(&record(rng.below(99) as u16, rng.below(12) as u16), rng.below(9));
                if rng.below(4) == 0 {
                    let at = rng.below(record.len() as u32) as usize;
                    record[at] = rng.next_u32() as u8;
                }
                let span = Span { port: rng.below(2) as u16, count: rng.next_u32() as u16, first: rng.next_u32() };
                let number = rng.below(3);
                let mut octets = match (role, rng.below(8)) {
                    (DaemonRole::Backup, 0) => octets(Frame::Records { number, datagram: &record }),
                    (DaemonRole::Backup, 1) => octets(Frame::Again { port: span.port, datagram: &record }),
                    (DaemonRole::Backup, 2) => octets(Frame::Gone(span)),
                    (DaemonRole::Backup, 3) => end(number, &[]),
                    (DaemonRole::Backup, 4) => {
                        let mut octets = Vec::new();
                        crate::wire::resync::emit_position(&mut octets, (0..rng.below(99)).map(|port| port << 25));
                        octets
                    }
                    (DaemonRole::Master, 0 | 1) => octets(Frame::Table { number }),
                    (DaemonRole::Master, 2 | 3) => octets(Frame::Ask(span)),
                    _ => octets(Frame::Begin { number, entries: rng.next_u32() }),
                };
                if rng.below(20) == 0 {
                    let at = rng.below(octets.len() as u32) as usize;
                    octets[at] = rng.next_u32() as u8;
                }
                control.link_received(now, link, &octets);
                control.receive_sync_from(now, Some((PEER, span.port)), &record);
                now = now + Duration::from_millis(rng.below(300).into());
                control.handle_timeout(now);
                let status = control.sync_status(now);
                assert!(status.masters.iter().all(|peer| peer.held <= 64 * tracker::HELD_MAX));
                let sent = actions(&mut control).into_iter().map(|action| match action {
                    LinkAction::Send { octets, .. } => octets.len(),
                    _ => 0,
                });
                assert!(sent.sum::<usize>() < 1 << 20, "round {round}");
            }
            let status = control.sync_status(now);
            greeted += status.served.greeted + status.resync.resyncs;
            assert!(states(&mut control, now).len() <= 64);
        }
    }
    assert!(greeted > 600, "{greeted}");
}
