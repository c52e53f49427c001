//! keepalived's extensions, and where we are right and it is not.

use super::*;

fn with(mut config: InstanceConfig, change: impl FnOnce(&mut InstanceConfig)) -> InstanceConfig {
    change(&mut config);
    config
}

fn one(instance: InstanceConfig) -> Config {
    config(vec![instance])
}

#[test]
fn nopreempt_takes_over_only_from_the_dead() {
    let mut bench = Bench::start(one(with(instance(150), |it| it.preempts = false)));
    for _ in 0..60 {
        bench.pass(seconds(1.0));
        bench.hear(OTHER, 100);
    }
    assert!(bench.is_backup());
    bench.pass(seconds(3.5));
    assert!(bench.state().is_active());
}

#[test]
fn preempt_delay_counts_from_the_first_lower_advert() {
    let mut bench = Bench::start(one(with(instance(150), |it| it.preempt_delay = seconds(6.0))));
    let start = bench.now;
    bench.pass(seconds(0.5));
    let mut taken = None;
    while bench.now - start < seconds(20.0) && taken.is_none() {
        bench.hear(OTHER, 100);
        bench.pass(seconds(1.0));
        taken = bench.state().is_active().then_some(bench.now);
    }
    let after = taken.expect("it preempts") - start;
    assert!(after > seconds(6.5 + 2.4) && after < seconds(6.5 + 4.5), "{after:?}");
    // One that is better meanwhile begins it anew.
    let mut bench = Bench::start(one(with(instance(150), |it| it.preempt_delay = seconds(6.0))));
    bench.hear(OTHER, 100);
    assert!(matches!(bench.state(), State::Backup { preempt: Some(_), .. }));
    bench.hear(OTHER, 200);
    assert!(matches!(bench.state(), State::Backup { preempt: None, .. }));
}

#[test]
fn startup_delay() {
    let mut bench = Bench::start(Config { startup_delay: seconds(5.0), ..one(instance(255)) });
    assert!(bench.has_log("Delaying startup for 5 seconds"));
    bench.pass(seconds(4.9));
    assert_eq!((bench.state(), bench.sent().len()), (State::Initialize, 0));
    bench.pass(seconds(0.2));
    assert!(bench.state().is_active());
}

/// Moments of announcements, in tenths of a second after it became Active, with their rounds.
fn announcements(mut config_of: InstanceConfig, time: f64) -> Vec<(u64, u32)> {
    config_of.priority = 255;
    let mut bench = Bench::start(one(config_of));
    let start = bench.now;
    let mut found = Vec::new();
    for tenth in 0..=(time * 10.0) as u64 {
        found.extend(bench.announced().into_iter().map(|rounds| (tenth, rounds)));
        bench.done.clear();
        bench.now = start + seconds(tenth as f64 / 10.0);
        bench.pass(seconds(0.1));
    }
    found
}

#[test]
fn announcements_by_default_and_tuned() {
    assert_eq!(announcements(instance(100), 30.0), [(0, 5), (50, 5)]);
    let tuned = with(instance(100), |it| {
        let refresh = seconds(3.0);
        it.announcing =
            Announcing { repeat: 3, delay: seconds(2.0), refresh, refresh_repeat: 2, ..Announcing::default() };
    });
    assert_eq!(announcements(tuned, 10.0), [(0, 3), (20, 3), (30, 2), (60, 2), (90, 2)]);
    // vrrp_min_garp
    let least = with(instance(100), |it| {
        it.announcing = Announcing { repeat: 1, delay: seconds(0.0), ..Announcing::default() };
    });
    assert_eq!(announcements(least, 30.0), [(0, 1)]);
}

#[test]
fn announcements_have_gaps_interfaces_and_both_families() {
    let config_of = with(instance(255), |it| {
        it.announcing.arp_gap = seconds(0.1);
        it.announcing.neighbour_gap = seconds(0.2);
        let mut excluded = VirtualAddress::new(address("fd77::99"));
        excluded.interface = Some("eth1".into());
        it.excluded = vec![excluded];
    });
    let bench = Bench::start(one(config_of));
    let announcement = bench.done.iter().find_map(|action| match action {
        Action::Announce { addresses, arp_gap, neighbour_gap, mac: None, .. } => {
            Some((addresses, arp_gap, neighbour_gap))
        }
        _ => None,
    });
    let (addresses, arp_gap, neighbour_gap) = announcement.unwrap();
    let expected = [(Some("eth0".into()), address("10.77.0.10")), (Some("eth1".into()), address("fd77::99"))];
    assert_eq!((&addresses[..], arp_gap, neighbour_gap), (&expected[..], &seconds(0.1), &seconds(0.2)));
    // What is excluded is set, and not advertised.
    assert_eq!(bench.addresses(), [address("10.77.0.10"), address("fd77::99")]);
    let packet = bench.done.iter().find_map(|action| match action {
        Action::SendAdvert { packet, .. } => Some(packet),
        _ => None,
    });
    assert_eq!(packet.unwrap()[23], 1);
}

#[test]
fn a_lower_advert_makes_announcements_now_and_later() {
    let mut bench = Bench::active(instance(100));
    bench.hear(OTHER, 50);
    assert_eq!(bench.announced(), [5]);
    bench.pass(seconds(4.9));
    assert_eq!(bench.announced(), [5]);
    bench.pass(seconds(0.2));
    assert_eq!(bench.announced(), [5, 5]);
    let mut bench = Bench::active(with(instance(100), |it| {
        (it.announcing.lower_repeat, it.announcing.lower_delay) = (2, seconds(1.5));
    }));
    bench.hear(OTHER, 50);
    bench.pass(seconds(10.0));
    assert_eq!(bench.announced(), [2, 2]);
}

/// Many of them make few announcements; the last one is followed by some.
#[test]
fn rivals_are_answered_at_a_bounded_rate() {
    let mut bench = Bench::active(with(instance(100), |it| it.announcing.lower_delay = seconds(0.0)));
    for _ in 0..900 {
        bench.hear(OTHER, 50);
        bench.pass(seconds(0.001));
    }
    assert!((50..=100).contains(&bench.sent().len()), "{}", bench.sent().len());
    assert_eq!(bench.announced().len(), 1);
    assert!(bench.log().iter().filter(|line| line.contains("lower priority")).count() <= 20);
    bench.pass(seconds(1.1));
    assert_eq!(bench.announced().len(), 2);
}

#[test]
fn lower_prio_no_advert() {
    let mut bench = Bench::active(with(instance(100), |it| it.answers_lower = false));
    bench.hear(OTHER, 50);
    assert!(bench.sent().is_empty() && bench.state().is_active());
    assert_eq!(bench.announced(), [5]);
    assert!(bench.has_log("(VI_1) Received advert from 10.77.0.2 with lower priority 50, ours 100"));
    assert!(!bench.has_log("forcing new election"));
}

/// Two hosts that were both Active: the loser's last advertisement makes the winner announce the addresses anew.
#[test]
fn deviation_a_healed_split_brain_is_announced() {
    let mut winner = Bench::active(instance(150));
    let mut loser = Bench::active(instance(100));
    loser.hear(OTHER, 150);
    assert!(loser.is_backup());
    assert_eq!(loser.sent(), [100]);
    winner.hear(OTHER, 100);
    assert_eq!((winner.announced(), winner.state().is_active()), (vec![5], true));
    // higher_prio_send_advert off, said so: as keepalived.
    let mut quiet = Bench::active(with(instance(100), |it| it.answers_higher = false));
    quiet.hear(OTHER, 150);
    assert!(quiet.is_backup() && quiet.sent().is_empty());
}

#[test]
fn deviation_a_resignation_is_announced() {
    let mut bench = Bench::active(instance(100));
    bench.hear(OTHER, 0);
    assert_eq!(bench.announced(), [5]);
}

/// keepalived's Active router falls silent and its Backup takes over.
#[test]
fn deviation_a_flood_of_bad_adverts_changes_nothing() {
    let mut bench = Bench::active(instance(150));
    let bad = advert_with(bench.first().config(), OTHER, 200, |parts| parts.envelope.hop_limit = 1);
    for _ in 0..30 {
        bench.packet(&bad);
        bench.pass(seconds(0.3));
    }
    assert_eq!(bench.sent(), [150; 9]);
    assert_eq!(bench.first().counters().hop_limit_errors, 30);
    let mut bench = Bench::start(one(instance(100)));
    for _ in 0..12 {
        bench.packet(&bad);
        bench.pass(seconds(0.3));
    }
    assert!(bench.is_backup());
    bench.pass(seconds(0.1));
    assert!(bench.state().is_active());
}

#[test]
fn deviation_an_interval_of_zero_is_refused() {
    for config_of in [with(instance(100), |it| it.version = Version::V3), instance_v6(100)] {
        let source = if config_of.family == Family::V6 { "fe80::2" } else { OTHER };
        let mut bench = Bench::active(config_of);
        let packet = advert_with(bench.first().config(), source, 200, |parts| parts.interval = 0);
        bench.packet(&packet);
        assert!(bench.state().is_active());
        assert_eq!(bench.first().counters().interval_errors, 1);
    }
}

#[test]
fn deviation_the_owners_list_may_differ_in_version_2() {
    let other_list = |parts: &mut Parts| parts.addresses = vec![address("10.77.0.11")];
    let mut bench = Bench::active(instance(100));
    let packet = advert_with(bench.first().config(), OTHER, 254, other_list);
    bench.packet(&packet);
    assert!(bench.state().is_active());
    assert!(bench.has_log("(VI_1) ip address associated with VRID 51 not present in MASTER advert: 10.77.0.10"));
    let packet = advert_with(bench.first().config(), OTHER, 255, other_list);
    bench.packet(&packet);
    assert!(bench.is_backup());
}

#[test]
fn deviation_old_sequence_numbers_are_taken_and_high_ones_learnt() {
    let header = with(instance(100), |it| it.authentication = Authentication::Header(*b"1111\0\0\0\0"));
    let mut bench = Bench::start(one(header.clone()));
    for sequence in [6, 5, 1] {
        let packet = advert_with(&header, OTHER, 200, |parts| {
            parts.envelope.authentication = Some((*b"1111\0\0\0\0", sequence))
        });
        bench.packet(&packet);
    }
    assert_eq!(bench.first().counters().adverts_received, 3);
    let forged = advert_with(&header, OTHER, 200, |parts| parts.envelope.authentication = Some((*b"2222\0\0\0\0", 99)));
    bench.packet(&forged);
    assert_eq!(bench.first().counters().authentication_failures, 1);
    bench.pass(seconds(4.0));
    let packet = bench.done.iter().find_map(|action| match action {
        Action::SendAdvert { packet, .. } => Some(packet.clone()),
        _ => None,
    });
    assert_eq!(packet.unwrap()[28..32], [0, 0, 0, 7]);
}

#[test]
fn the_list_is_compared_in_any_order() {
    let two = with(instance(100), |it| it.addresses.push(VirtualAddress::new(address("10.77.0.11"))));
    let mut bench = Bench::active(two);
    let packet = advert_with(bench.first().config(), OTHER, 200, |parts| parts.addresses.reverse());
    bench.packet(&packet);
    assert!(bench.is_backup());
}

#[test]
fn skip_check_adv_addr_trusts_who_was_active() {
    for skips in [false, true] {
        let mut bench = Bench::start(one(with(instance(100), |it| it.skips_known_lists = skips)));
        bench.hear(OTHER, 200);
        bench.pass(seconds(1.0));
        let packet = advert_with(bench.first().config(), OTHER, 200, |parts| parts.addresses.clear());
        bench.packet(&packet);
        assert_eq!(bench.first().counters().address_list_errors, u64::from(!skips));
        // Not one who was not.
        let packet = advert_with(bench.first().config(), "10.77.0.3", 200, |parts| parts.addresses.clear());
        bench.packet(&packet);
        assert_eq!(bench.first().counters().address_list_errors, 1 + u64::from(!skips));
    }
}

#[test]
fn groups_are_joined_at_the_start_and_when_the_link_returns_and_left_at_the_end() {
    let mut bench = Bench::start(one(with(instance(100), |it| it.group = Some(address("224.0.0.99")))));
    bench.link(false);
    bench.link(true);
    bench.event(Event::Stop);
    let ways: Vec<&str> = bench
        .done
        .iter()
        .filter_map(|action| match action {
            Action::JoinGroup { group, .. } => {
                assert_eq!(*group, address("224.0.0.99"));
                Some("join")
            }
            Action::LeaveGroup { .. } => Some("leave"),
            _ => None,
        })
        .collect();
    assert_eq!(ways, ["join", "join", "leave"]);
}

#[test]
fn mcast_src_ip_and_the_first_address_are_sources() {
    let source = |bench: &Bench| bench.first().primary();
    assert_eq!(source(&Bench::start(one(instance(100)))), Some(address("10.77.0.1")));
    assert_eq!(source(&Bench::start(one(instance_v6(100)))), Some(address("fe80::ff:fe00:a")));
    let wished = with(instance(100), |it| it.source = Some(address("10.77.0.9")));
    assert_eq!(source(&Bench::start(one(wished))), Some(address("10.77.0.9")));
    // Virtual addresses left behind are no source, unless there is no other: the owner's.
    let mut bench = Bench::start(one(instance(100)));
    let link = |texts: &[&str]| Link { is_up: true, addresses: texts.iter().map(|text| address(text)).collect() };
    bench.event(Event::Link { interface: "eth0".into(), link: link(&["10.77.0.10", "10.77.0.3"]) });
    assert_eq!(source(&bench), Some(address("10.77.0.3")));
    bench.event(Event::Link { interface: "eth0".into(), link: link(&["10.77.0.10"]) });
    assert_eq!(source(&bench), Some(address("10.77.0.10")));
    bench.event(Event::Link { interface: "eth0".into(), link: link(&[]) });
    assert_eq!((source(&bench), bench.state()), (None, State::Fault));
}

#[test]
fn down_timer_adverts() {
    let bench = Bench::start(one(with(instance(100), |it| it.down_adverts = 5)));
    assert_eq!(bench.down_in().as_micros(), 5_609_375);
}

#[test]
fn an_address_that_is_taken_away_is_put_back() {
    let mut bench = Bench::active(with(instance(100), |it| {
        let mut untracked = VirtualAddress::new(address("10.77.0.11"));
        untracked.is_untracked = true;
        it.addresses.push(untracked);
    }));
    let lost = |text: &str| Event::AddressLost { interface: "eth0".into(), address: address(text) };
    bench.event(lost("10.77.0.10"));
    assert_eq!((bench.addresses(), bench.announced()), (vec![address("10.77.0.10")], vec![5]));
    bench.done.clear();
    bench.event(lost("10.77.0.11"));
    bench.event(lost("10.77.0.12"));
    assert!(bench.done.is_empty());
    let mut backup = Bench::start(one(instance(100)));
    backup.done.clear();
    backup.event(lost("10.77.0.10"));
    assert!(backup.done.is_empty());
}

#[test]
fn routes_come_and_go_with_the_addresses() {
    let mut bench = Bench::active(with(instance(100), |it| {
        it.routes = vec![
            Attached::Route("10.99.0.0/24 via 10.77.0.254".into()),
            Attached::Rule("from 10.99.0.1 table 7".into()),
        ];
    }));
    bench.hear(OTHER, 200);
    assert!(bench.done.iter().any(|action| matches!(action, Action::RemoveRoutes { routes, .. } if routes.len() == 2)));
    bench.done.clear();
    bench.pass(seconds(4.0));
    assert!(bench.done.iter().any(|action| matches!(action, Action::AddRoutes { routes, .. } if routes.len() == 2)));
}

#[test]
fn words_for_scripts() {
    let mut bench = Bench::start(one(instance(150)));
    bench.pass(seconds(4.0));
    bench.hear(OTHER, 100);
    bench.link(false);
    bench.link(true);
    bench.pass(seconds(4.0));
    bench.event(Event::Stop);
    let words = ["BACKUP", "MASTER", "MASTER_RX_LOWER_PRI", "FAULT", "BACKUP", "MASTER", "STOP"];
    assert_eq!(bench.told(), words.map(|word| format!("INSTANCE VI_1 {word} 150")));
}

/// A configuration, and keepalived's correction of it.
type Correction = (&'static str, fn(&mut InstanceConfig), fn(&InstanceConfig) -> bool);

#[test]
fn corrections() {
    let corrections: [Correction; 10] = [
        (
            "(VI_1) Initial state master is incompatible with AH authentication - clearing",
            |it| (it.starts_as_master, it.authentication) = (true, Authentication::Header([1; 8])),
            |it| !it.starts_as_master,
        ),
        ("nopreempt", |it| (it.starts_as_master, it.preempts) = (true, false), |it| it.preempts),
        (
            "preempt delay",
            |it| (it.starts_as_master, it.preempt_delay) = (true, seconds(3.0)),
            |it| it.preempt_delay.is_zero(),
        ),
        (
            "does not support authentication",
            |it| (it.version, it.authentication) = (Version::V3, Authentication::Password([1; 8])),
            |it| it.authentication == Authentication::None,
        ),
        (
            "Strict mode",
            |it| (it.is_strict, it.authentication) = (true, Authentication::Password([1; 8])),
            |it| it.authentication == Authentication::None && !it.accepts && !it.answers_lower,
        ),
        ("advert_int", |it| it.interval = seconds(1.5), |it| it.interval == seconds(1.0)),
        (
            "advert_int",
            |it| (it.version, it.interval) = (Version::V3, seconds(0.001)),
            |it| it.interval == seconds(0.01),
        ),
        (
            "advert_int",
            |it| (it.version, it.interval) = (Version::V3, seconds(99.0)),
            |it| it.interval == seconds(40.95),
        ),
        ("down_timer_adverts", |it| it.down_adverts = 0, |it| it.down_adverts == 3),
        ("preempt delay is above", |it| it.preempt_delay = seconds(2000.0), |it| it.preempt_delay == seconds(1000.0)),
    ];
    for (message, change, is_corrected) in corrections {
        let (settled, messages) = one(with(instance(100), change)).settle().unwrap();
        assert!(messages.iter().any(|line| line.contains(message)), "{message}: {messages:?}");
        assert!(is_corrected(&settled.instances[0]), "{message}");
    }
    let (settled, messages) = one(with(instance_v6(100), |it| it.version = Version::V2)).settle().unwrap();
    assert_eq!((settled.instances[0].version, messages.len()), (Version::V3, 0));
}

/// A rival that is heard does not put off the second announcements of the takeover, nor its own those of one before.
#[test]
fn a_rival_puts_no_announcements_off() {
    let mut bench = Bench::start(one(with(instance(255), |it| it.announcing.lower_repeat = 2)));
    bench.done.clear();
    bench.pass(seconds(4.0));
    bench.hear(OTHER, 50);
    bench.pass(seconds(1.5));
    assert_eq!(bench.announced(), [2, 5]);
    bench.hear(OTHER, 50);
    assert_eq!(bench.announced(), [2, 5, 2]);
    bench.pass(seconds(3.6));
    assert_eq!(bench.announced(), [2, 5, 2, 2], "five seconds after the first");
    bench.pass(seconds(20.0));
    assert_eq!(bench.announced(), [2, 5, 2, 2, 2], "and after the second");
}

/// Scripts are told of a lower advertisement though the log has been full of others; not without bound.
#[test]
fn a_lower_advert_is_told_whatever_was_logged() {
    let mut bench = Bench::active(instance(100));
    let bad = advert_with(bench.first().config(), OTHER, 200, |parts| parts.envelope.hop_limit = 1);
    for _ in 0..20 {
        bench.packet(&bad);
    }
    bench.hear(OTHER, 50);
    assert_eq!(bench.told(), ["INSTANCE VI_1 MASTER_RX_LOWER_PRI 100"]);
    for _ in 0..20 {
        bench.hear(OTHER, 50);
    }
    assert_eq!(bench.told().len(), instance::LOWER_TOLD_MAX as usize);
    assert_eq!(bench.first().counters().lower_not_told, 11);
}
