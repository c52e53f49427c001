//! New configurations: nothing moves that need not.

use super::*;

fn named(name: &str, vrid: u8, priority: u8) -> InstanceConfig {
    let mut config = instance(priority);
    (config.name, config.vrid) = (name.into(), vrid);
    config.addresses = vec![VirtualAddress::new(Address::v4(0x0a4d_0100 + u32::from(vrid)))];
    config
}

fn reload(bench: &mut Bench, config: Config) {
    bench.done.clear();
    bench.routers.reconfigure(bench.now, config).expect("no flaws");
    bench.drain();
}

#[test]
fn what_is_unchanged_goes_on() {
    let same = || config(vec![named("A", 1, 100), named("B", 2, 100)]);
    let mut bench = Bench::start(same());
    bench.pass(seconds(10.0));
    let before: Vec<State> = bench.routers.instances().iter().map(Instance::state).collect();
    let counters = *bench.first().counters();
    reload(&mut bench, same());
    assert!(bench.done.is_empty(), "{:?}", bench.done);
    assert_eq!(bench.routers.instances().iter().map(Instance::state).collect::<Vec<_>>(), before);
    assert_eq!(*bench.first().counters(), counters);
    // In another order too.
    let mut turned = same();
    turned.instances.reverse();
    reload(&mut bench, turned);
    assert!(bench.done.is_empty());
    assert!(bench.routers.instances().iter().all(|instance| instance.state().is_active()));
}

#[test]
fn what_is_gone_resigns_and_what_is_new_begins() {
    let mut bench = Bench::start(config(vec![named("A", 1, 100), named("B", 2, 100)]));
    bench.pass(seconds(10.0));
    let addresses = bench.addresses();
    reload(&mut bench, config(vec![named("B", 2, 100), named("C", 3, 100)]));
    assert_eq!(bench.sent(), [0]);
    assert_eq!(bench.told(), ["INSTANCE A FAULT 100", "INSTANCE C BACKUP 100"]);
    assert_eq!(bench.states(), [Some(Word::Master), Some(Word::Backup)]);
    let removed: Vec<Address> = bench
        .done
        .iter()
        .filter_map(|action| match action {
            Action::RemoveAddresses { addresses, .. } => Some(addresses[0].address),
            _ => None,
        })
        .collect();
    assert_eq!(removed[0], addresses[0]);
    assert!(!removed.contains(&addresses[1]), "the other's address stays");
}

#[test]
fn notify_deleted() {
    let mut gone = named("A", 1, 100);
    gone.tells_deleted = true;
    let mut bench = Bench::start(config(vec![gone, named("B", 2, 100)]));
    reload(&mut bench, config(vec![named("B", 2, 100)]));
    assert_eq!(bench.told(), ["INSTANCE A DELETED 100"]);
    assert!(bench.sent().is_empty());
}

#[test]
fn another_router_of_the_same_name_begins_anew() {
    let mut bench = Bench::start(config(vec![named("A", 1, 100)]));
    bench.pass(seconds(10.0));
    reload(&mut bench, config(vec![named("A", 9, 100)]));
    assert_eq!((bench.sent(), bench.is_backup()), (vec![0], true));
    let mut other_version = named("A", 9, 100);
    other_version.version = Version::V3;
    bench.pass(seconds(10.0));
    reload(&mut bench, config(vec![other_version]));
    assert_eq!((bench.sent(), bench.is_backup()), (vec![0], true));
    assert!(!bench.done.iter().any(|action| matches!(action, Action::LeaveGroup { .. })), "the successor listens");
}

#[test]
fn addresses_that_differ_are_moved_while_it_stays_active() {
    let mut bench = Bench::start(config(vec![instance(100)]));
    bench.pass(seconds(10.0));
    let mut changed = instance(100);
    changed.addresses = ["10.77.0.10", "10.77.0.12"].map(|text| VirtualAddress::new(address(text))).to_vec();
    reload(&mut bench, config(vec![changed.clone()]));
    assert!(bench.state().is_active());
    assert_eq!((bench.addresses(), bench.announced(), bench.sent()), (vec![address("10.77.0.12")], vec![5], vec![100]));
    let order: Vec<usize> = [
        bench.done.iter().position(|action| matches!(action, Action::AddAddresses { .. })),
        bench.done.iter().position(|action| matches!(action, Action::Announce { .. })),
    ]
    .into_iter()
    .flatten()
    .collect();
    assert!(order[0] < order[1]);
    changed.addresses.remove(0);
    reload(&mut bench, config(vec![changed]));
    let gone = |action: &Action| matches!(action, Action::RemoveAddresses { addresses, .. } if addresses[0].address == address("10.77.0.10"));
    assert!(bench.done.iter().any(gone) && bench.announced().is_empty());
}

#[test]
fn routes_that_differ_are_moved() {
    let with = |text: &str| {
        let mut config_of = instance(100);
        config_of.routes = vec![Attached::Route(text.into())];
        config(vec![config_of])
    };
    let mut bench = Bench::start(with("a"));
    bench.pass(seconds(10.0));
    reload(&mut bench, with("b"));
    let moves: Vec<String> = bench
        .done
        .iter()
        .filter_map(|action| match action {
            Action::AddRoutes { routes, .. } => Some(format!("+{routes:?}")),
            Action::RemoveRoutes { routes, .. } => Some(format!("-{routes:?}")),
            _ => None,
        })
        .collect();
    assert_eq!(moves, ["-[Route(\"a\")]", "+[Route(\"b\")]"]);
}

#[test]
fn a_new_priority_counts_from_the_next_advert() {
    let mut bench = Bench::start(config(vec![instance(100)]));
    bench.pass(seconds(10.0));
    reload(&mut bench, config(vec![instance(120)]));
    assert!(bench.state().is_active());
    assert_eq!(bench.first().priority(), 120);
    bench.done.clear();
    bench.pass(seconds(1.0));
    assert_eq!(bench.sent(), [120]);
}

/// Backups learn the interval from the advertisement of now, and must not wait for one of the old interval.
#[test]
fn a_shorter_interval_counts_at_once() {
    let with_interval = |interval| {
        let mut config_of = instance(100);
        (config_of.version, config_of.interval) = (Version::V3, seconds(interval));
        config(vec![config_of])
    };
    let mut bench = Bench::start(with_interval(30.0));
    bench.pass(seconds(200.0));
    reload(&mut bench, with_interval(0.5));
    assert_eq!(bench.sent(), [100]);
    bench.pass(seconds(0.5));
    assert_eq!(bench.sent(), [100, 100]);
}

#[test]
fn a_flawed_configuration_changes_nothing() {
    let mut bench = Bench::start(config(vec![instance(100)]));
    bench.pass(seconds(10.0));
    bench.done.clear();
    assert_eq!(
        bench.routers.reconfigure(bench.now, config(vec![instance(100), instance(100)])),
        Err(vec![Flaw::DuplicateName("VI_1".into()), Flaw::DuplicateVrid("VI_1".into(), "VI_1".into())])
    );
    bench.drain();
    assert!(bench.state().is_active() && bench.done.is_empty());
}

#[test]
fn states_are_told_again_where_fifos_ask() {
    let mut bench = Bench::start(config(vec![instance(100)]));
    reload(&mut bench, Config { tells_states_on_reload: true, ..config(vec![instance(100)]) });
    assert_eq!(bench.told(), ["INSTANCE VI_1 BACKUP 100"]);
}

#[test]
fn groups_that_change_are_levelled() {
    let grouped =
        |instances, members: &[&str]| Config { groups: vec![GroupConfig::new("VG", members)], ..config(instances) };
    let mut bench = Bench::start(grouped(vec![named("A", 1, 100), named("B", 2, 100)], &["A", "B"]));
    bench.pass(seconds(10.0));
    assert_eq!(bench.states(), [Some(Word::Master); 2]);
    // A member that is new is not Active: the group cannot be.
    reload(&mut bench, grouped(vec![named("A", 1, 100), named("B", 2, 100), named("C", 3, 100)], &["A", "B", "C"]));
    assert_eq!(bench.states(), [Some(Word::Backup); 3]);
    bench.pass(seconds(4.0));
    assert_eq!(bench.states(), [Some(Word::Master); 3]);
    // Who waited for a member that is no more waits no more.
    let mut bench = Bench::start(grouped(vec![named("A", 1, 200), named("B", 2, 100)], &["A", "B"]));
    bench.pass(seconds(3.3));
    assert!(bench.state().is_willing());
    reload(&mut bench, config(vec![named("A", 1, 200), named("B", 2, 100)]));
    assert_eq!(bench.states(), [Some(Word::Master), Some(Word::Backup)]);
}

/// Whatever the order of the instances.
#[test]
fn an_address_that_changes_its_instance_stays() {
    let with = |name: &str, vrid: u8, texts: &[&str]| {
        let mut config_of = named(name, vrid, 100);
        config_of.addresses = texts.iter().map(|text| VirtualAddress::new(address(text))).collect();
        config_of
    };
    let (one, two, moved) = ("10.77.0.10", "10.77.0.11", "10.77.0.12");
    let before = config(vec![with("A", 1, &[one, moved]), with("B", 2, &[two])]);
    let after = config(vec![with("A", 1, &[one]), with("B", 2, &[two, moved])]);
    for (before, after) in [(before.clone(), after.clone()), (after, before)] {
        let mut bench = Bench::start(before);
        bench.pass(seconds(10.0));
        let all = bench.addresses();
        assert_eq!(all.len(), 3);
        bench.routers.reconfigure(bench.now, after).expect("no flaws");
        bench.drain();
        assert_eq!(bench.addresses(), all);
    }
}

/// A new instance cleans up what a former run may have left, but not what another has.
#[test]
fn a_new_instance_takes_nothing_from_an_active_one() {
    let mut bench = Bench::start(config(vec![instance(100)]));
    bench.pass(seconds(10.0));
    let all = bench.addresses();
    let mut new = named("B", 9, 100);
    new.addresses.extend(instance(100).addresses);
    bench.routers.reconfigure(bench.now, config(vec![instance(100), new])).expect("no flaws");
    bench.drain();
    assert_eq!(bench.addresses(), all);
}

#[test]
fn no_announcements_wished_for_and_none_lost() {
    let without = |texts: &[&str]| {
        let mut config_of = instance(100);
        config_of.announcing.repeat = 0;
        config_of.addresses = texts.iter().map(|text| VirtualAddress::new(address(text))).collect();
        config(vec![config_of])
    };
    let mut bench = Bench::start(without(&["10.77.0.10", "10.77.0.11"]));
    bench.pass(seconds(10.0));
    // What came last before the announcement must not go with it.
    bench.routers.reconfigure(bench.now, without(&["10.77.0.10", "10.77.0.12"])).expect("no flaws");
    bench.drain();
    assert_eq!(bench.addresses(), ["10.77.0.10", "10.77.0.12"].map(address));
}

#[test]
fn accept_mode_and_virtual_mac_count_at_once() {
    let changes: [fn(&mut InstanceConfig); 3] = [
        |it| it.accepts = false,
        |it| it.has_virtual_mac = true,
        |it| (it.has_virtual_mac, it.wished_mac) = (true, Some(crate::base::MacAddress([2, 0, 0, 0, 0, 9]))),
    ];
    for change in changes {
        let mut bench = Bench::start(config(vec![instance(100)]));
        bench.pass(seconds(10.0));
        let mut changed = instance(100);
        change(&mut changed);
        let mac = changed.virtual_mac();
        reload(&mut bench, config(vec![changed.clone()]));
        let kinds: Vec<&str> = bench
            .done
            .iter()
            .map(|action| match action {
                Action::RemoveAddresses { .. } => "-",
                Action::AddAddresses { accepts, .. } if *accepts == changed.accepts => "+",
                Action::Announce { mac: told, .. } if *told == mac => "!",
                Action::SendAdvert { source_mac, .. } if *source_mac == mac => "send",
                Action::Log { .. } => "",
                other => panic!("{other:?}"),
            })
            .filter(|kind| !kind.is_empty())
            .collect();
        assert_eq!(kinds, ["-", "+", "!", "send"]);
        assert!(bench.state().is_active());
    }
}

/// The groups that are joined after all that was done, with the names they are joined in.
fn memberships(bench: &Bench) -> Vec<(Name, Name)> {
    let mut joined = std::collections::BTreeSet::new();
    for action in &bench.done {
        match action {
            Action::JoinGroup { instance, interface, .. } => joined.insert((instance.clone(), interface.clone())),
            Action::LeaveGroup { instance, interface, .. } => joined.remove(&(instance.clone(), interface.clone())),
            _ => false,
        };
    }
    joined.into_iter().collect()
}

#[test]
fn groups_are_left_by_those_who_joined_them() {
    let mut bench = Bench::start(config(vec![named("A", 1, 100)]));
    assert_eq!(memberships(&bench), [("A".into(), "eth0".into())]);
    let steps: [(&str, &str); 3] = [("B", "eth0"), ("B", "eth1"), ("A", "eth0")];
    for (name, interface) in steps {
        let mut config_of = named(name, 1, 100);
        config_of.interface = Some(interface.into());
        bench.routers.reconfigure(bench.now, config(vec![config_of])).expect("no flaws");
        bench.drain();
        assert_eq!(memberships(&bench), [(name.into(), interface.into())]);
    }
    let mut unicast = named("A", 1, 100);
    unicast.peers = vec![Peer::new(address(OTHER))];
    bench.routers.reconfigure(bench.now, config(vec![unicast])).expect("no flaws");
    bench.drain();
    assert_eq!(memberships(&bench), []);
}
