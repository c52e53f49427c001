//! Sync groups: all go together.

use super::*;

/// `VI_1` and `VI_2` in group `VG`.
fn pair(priorities: [u8; 2]) -> Config {
    let mut second = instance(priorities[1]);
    (second.name, second.vrid) = ("VI_2".into(), 52);
    second.addresses = vec![VirtualAddress::new(address("10.77.0.11"))];
    let mut config = config(vec![instance(priorities[0]), second]);
    config.groups = vec![GroupConfig::new("VG", &["VI_1", "VI_2"])];
    config
}

fn active(config: Config) -> Bench {
    let mut bench = Bench::start(config);
    bench.pass(seconds(10.0));
    assert_eq!(bench.states(), [Some(Word::Master); 2]);
    bench.done.clear();
    bench
}

#[test]
fn the_last_one_takes_all_along_at_once() {
    let mut bench = Bench::start(pair([200, 100]));
    assert_eq!(bench.told(), ["INSTANCE VI_1 BACKUP 200", "INSTANCE VI_2 BACKUP 100", "GROUP VG BACKUP"]);
    bench.pass(seconds(3.4));
    assert!(bench.state().is_willing(), "its timer has run out, the other's has not");
    assert!(bench.sent().is_empty());
    bench.done.clear();
    bench.pass(seconds(0.3));
    assert_eq!(bench.states(), [Some(Word::Master); 2]);
    assert_eq!(bench.told(), ["INSTANCE VI_2 MASTER 100", "INSTANCE VI_1 MASTER 200", "GROUP VG MASTER"]);
    let log = bench.log();
    let lines = log.iter().filter(|line| line.contains("STATE") || line.contains("Syncing")).collect::<Vec<_>>();
    assert_eq!(
        lines,
        [
            &"(VI_2) Entering MASTER STATE",
            &"VRRP_Group(VG) Syncing instances to MASTER state",
            &"(VI_1) Entering MASTER STATE",
        ]
    );
}

#[test]
fn one_that_hears_another_holds_all_back() {
    let mut bench = Bench::start(pair([100, 100]));
    for _ in 0..20 {
        bench.pass(seconds(1.0));
        bench.hear_of(1, OTHER, 200);
    }
    assert_eq!(bench.states(), [Some(Word::Backup); 2]);
    assert!(bench.state().is_willing());
    bench.hear_of(0, OTHER, 200);
    assert!(!bench.state().is_willing(), "who is heard again is obeyed again");
    bench.pass(seconds(3.7));
    assert_eq!(bench.states(), [Some(Word::Master); 2]);
}

#[test]
fn when_one_yields_all_do() {
    let mut bench = active(pair([150, 150]));
    bench.hear_of(1, OTHER, 200);
    assert_eq!(bench.states(), [Some(Word::Backup); 2]);
    // The first resigns, so that its successor need not wait; the second says its last.
    assert_eq!(bench.sent(), [150, 0]);
    assert!(bench.has_log("VRRP_Group(VG) Syncing instances to BACKUP state"));
    assert_eq!(bench.told().last().unwrap(), "GROUP VG BACKUP");
    assert!(bench.addresses().is_empty());
}

#[test]
fn when_one_fails_all_do_and_all_heal() {
    let mut config = pair([150, 150]);
    config.instances[0].tracks =
        vec![Track { tracker: Tracker::Interface("up0".into()), weight: 0, is_reversed: false }];
    let up = |is_up| Event::Link { interface: "up0".into(), link: Link { is_up, addresses: Vec::new() } };
    let mut bench = Bench::start(config);
    bench.event(up(true));
    bench.pass(seconds(10.0));
    bench.done.clear();
    bench.event(up(false));
    assert_eq!((bench.states(), bench.sent()), (vec![Some(Word::Fault); 2], vec![0, 0]));
    let log = bench.log();
    assert_eq!(
        log[..5],
        [
            "Netlink reports up0 down",
            "(VI_1) Entering FAULT STATE",
            "(VI_1) sent 0 priority",
            "(VI_1) removing VIPs.",
            "VRRP_Group(VG) Syncing instances to FAULT state",
        ]
    );
    assert_eq!(bench.told(), ["INSTANCE VI_1 FAULT 150", "INSTANCE VI_2 FAULT 150", "GROUP VG FAULT"]);
    bench.done.clear();
    bench.event(up(true));
    assert_eq!(
        bench.log(),
        [
            "Netlink reports up0 up",
            "(VI_1) Entering BACKUP STATE",
            "VRRP_Group(VG) Syncing instances to BACKUP state",
            "(VI_2) Entering BACKUP STATE",
        ]
    );
}

#[test]
fn a_groups_own_trackers() {
    let script = |weight| Track { tracker: Tracker::Script("chk".into()), weight, is_reversed: false };
    let mut config = pair([150, 100]);
    config.groups[0].tracks = vec![script(0)];
    let mut bench = Bench::start(config);
    assert_eq!(bench.states(), [None; 2]);
    bench.script("chk", Reading::Up);
    assert_eq!(bench.states(), [Some(Word::Backup); 2]);
    bench.script("chk", Reading::Down);
    assert_eq!(bench.states(), [Some(Word::Fault); 2]);
    for (uses_weights, expected) in [(true, [110, 60]), (false, [150, 100])] {
        let mut config = pair([150, 100]);
        config.groups[0].tracks = vec![script(-40)];
        config.groups[0].uses_weights = uses_weights;
        config.instances[1].tracks =
            vec![Track { tracker: Tracker::Script("own".into()), weight: 10, is_reversed: false }];
        let mut bench = Bench::start(config);
        assert_eq!(bench.has_log("(VI_2) weights of tracked objects are ignored in the sync group VG"), !uses_weights);
        bench.script("chk", Reading::Down);
        let priorities: Vec<u8> = bench.routers.instances().iter().map(Instance::priority).collect();
        assert_eq!(priorities, expected);
    }
}

#[test]
fn global_tracking_shares_what_members_track() {
    let mut config = pair([150, 100]);
    config.instances[0].tracks =
        vec![Track { tracker: Tracker::Script("chk".into()), weight: -40, is_reversed: false }];
    config.groups[0].uses_weights = true;
    config.groups[0].tracks_globally = true;
    let mut bench = Bench::start(config);
    bench.script("chk", Reading::Down);
    let priorities: Vec<u8> = bench.routers.instances().iter().map(Instance::priority).collect();
    assert_eq!(priorities, [110, 60]);
}

#[test]
fn at_the_end_the_group_stops_too() {
    let mut bench = active(pair([150, 150]));
    bench.event(Event::Stop);
    assert_eq!(bench.told(), ["INSTANCE VI_1 STOP 150", "INSTANCE VI_2 STOP 150", "GROUP VG STOP"]);
    assert_eq!(bench.sent(), [0, 0]);
}
