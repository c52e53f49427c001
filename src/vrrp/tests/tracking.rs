//! Trackers: weights, faults, and both the other way round.

use super::*;

fn track(name: &str, weight: i32, is_reversed: bool) -> Track {
    Track { tracker: Tracker::Script(name.into()), weight, is_reversed }
}

fn tracking(tracks: Vec<Track>) -> Config {
    let mut config_of = instance(100);
    config_of.tracks = tracks;
    config(vec![config_of])
}

/// (weight, reversed, priority when up, when down)
#[test]
fn weights() {
    for (weight, is_reversed, up, down) in [
        (20, false, 120, 100),
        (-20, false, 100, 80),
        (20, true, 80, 100),
        (-20, true, 100, 120),
        (254, false, 254, 100),
        (-254, false, 100, 1),
    ] {
        let mut bench = Bench::start(tracking(vec![track("chk", weight, is_reversed)]));
        assert_eq!(bench.first().priority(), 100, "nothing is known");
        bench.script("chk", Reading::Up);
        assert_eq!(bench.first().priority(), up, "{weight} {is_reversed}");
        bench.script("chk", Reading::Down);
        assert_eq!(bench.first().priority(), down, "{weight} {is_reversed}");
        assert!(bench.is_backup());
    }
}

#[test]
fn a_changed_priority_is_told_and_advertised() {
    let mut bench = Bench::start(tracking(vec![track("chk", -60, false)]));
    bench.script("chk", Reading::Up);
    bench.pass(seconds(4.0));
    bench.done.clear();
    bench.script("chk", Reading::Down);
    assert!(bench.has_log("(VI_1) Changing effective priority from 100 to 40"));
    assert!(
        bench.done.iter().any(|action| matches!(action, Action::PriorityChanged { priority: 40, is_told: false, .. }))
    );
    assert!(bench.sent().is_empty(), "no priority zero, no advertisement out of turn");
    bench.pass(seconds(1.0));
    assert_eq!(bench.sent(), [40]);
    bench.hear(OTHER, 50);
    assert!(bench.is_backup());
}

#[test]
fn without_weight_a_bad_reading_is_a_fault() {
    let mut bench = Bench::start(tracking(vec![track("chk", 0, false)]));
    // Nothing is known: it is not begun.
    assert_eq!((bench.state(), bench.told().len()), (State::Initialize, 0));
    bench.script("chk", Reading::Up);
    assert!(bench.is_backup());
    bench.pass(seconds(4.0));
    bench.done.clear();
    bench.script("chk", Reading::Down);
    assert_eq!((bench.state(), bench.sent()), (State::Fault, vec![0]));
    assert_eq!(bench.log(), ["(VI_1) Entering FAULT STATE", "(VI_1) sent 0 priority", "(VI_1) removing VIPs."]);
    bench.hear(OTHER, 50);
    bench.pass(seconds(10.0));
    assert_eq!(bench.state(), State::Fault);
    bench.script("chk", Reading::Up);
    assert_eq!(bench.down_in().as_micros(), 3_609_375);
    let mut bench = Bench::start(tracking(vec![track("chk", 0, true)]));
    bench.script("chk", Reading::Up);
    assert_eq!(bench.state(), State::Fault);
}

#[test]
fn files_have_numbers() {
    for (weight, is_reversed, value, priority) in
        [(1, false, 30, 130), (2, false, -20, 60), (-1, false, 30, 70), (1, true, 30, 70), (1, false, 999, 254)]
    {
        let tracker = Tracker::File("load".into());
        let mut bench = Bench::start(tracking(vec![Track { tracker: tracker.clone(), weight, is_reversed }]));
        bench.event(Event::Tracked { tracker, reading: Reading::Value(value) });
        assert_eq!((bench.first().priority(), bench.is_backup()), (priority, true));
    }
    for (weight, value, is_fault) in
        [(1, -254, true), (1, -253, false), (0, 1, true), (0, 0, false), (1, i32::MIN, true)]
    {
        let tracker = Tracker::File("load".into());
        let mut bench = Bench::start(tracking(vec![Track { tracker: tracker.clone(), weight, is_reversed: false }]));
        bench.event(Event::Tracked { tracker, reading: Reading::Value(value) });
        assert_eq!(bench.state() == State::Fault, is_fault, "{weight} {value}");
    }
}

#[test]
fn interfaces_are_tracked_by_their_links() {
    let interface = |weight| Track { tracker: Tracker::Interface("up0".into()), weight, is_reversed: false };
    let up = |is_up| Event::Link { interface: "up0".into(), link: Link { is_up, addresses: Vec::new() } };
    let mut bench = Bench::start(tracking(vec![interface(0)]));
    assert_eq!(bench.state(), State::Fault, "an interface that is not there");
    bench.event(up(true));
    assert!(bench.is_backup());
    bench.event(up(false));
    assert_eq!(bench.state(), State::Fault);
    let mut bench = Bench::start(tracking(vec![interface(-30)]));
    assert_eq!((bench.first().priority(), bench.is_backup()), (70, true));
    bench.event(up(true));
    assert_eq!(bench.first().priority(), 100);
}

#[test]
fn its_own_interface_unless_dont_track_primary() {
    let mut bench = Bench::active(instance(100));
    bench.link(false);
    assert_eq!((bench.state(), bench.sent()), (State::Fault, vec![0]));
    let mut config_of = instance(100);
    config_of.ignores_interface = true;
    let mut bench = Bench::active(config_of);
    bench.link(false);
    assert!(bench.state().is_active());
}

#[test]
fn the_owner_has_no_weights() {
    let mut config_of = instance(255);
    config_of.tracks = vec![track("chk", -60, false)];
    let mut bench = Bench::start(config(vec![config_of]));
    bench.script("chk", Reading::Down);
    assert_eq!(bench.first().priority(), 255);
    assert!(bench.has_log("the address owner has no weights"));
}

/// Why an instance does not run is said in words.
#[test]
fn hindrances_are_told() {
    let mut config_of = tracking(vec![track("chk", 0, false)]);
    let mut second = instance(100);
    (second.name, second.vrid) = ("VI_2".into(), 52);
    config_of.instances.push(second);
    config_of.groups = vec![GroupConfig::new("VG", &["VI_1", "VI_2"])];
    let mut bench = Bench::new(config_of);
    assert_eq!(bench.routers.hindrances(0), ["the start is delayed"]);
    bench.link(true);
    bench.event(Event::Start);
    assert_eq!(bench.routers.hindrances(0), ["nothing is known of the tracked script chk"]);
    bench.script("chk", Reading::Down);
    assert_eq!(bench.routers.hindrances(0), ["the tracked script chk is bad"]);
    assert_eq!(bench.routers.hindrances(1), ["VI_1, of its group: the tracked script chk is bad"]);
    bench.script("chk", Reading::Up);
    assert!(bench.routers.hindrances(0).is_empty());
    bench.link(false);
    assert_eq!(bench.routers.hindrances(0)[0], "interface eth0 is down, or not there");
    bench.event(Event::Stop);
    assert_eq!(bench.routers.hindrances(0), ["it was stopped"]);
}
