//! Limits, flaws, and octets and events from anywhere.

use super::*;
use crate::base::Rng;

/// A flaw that a configuration has.
fn flaw(change: impl FnOnce(&mut Config)) -> Flaw {
    let mut config = config(vec![instance(100)]);
    change(&mut config);
    let mut flaws = config.settle().expect_err("a flaw");
    assert_eq!(flaws.len(), 1, "{flaws:?}");
    assert!(!flaws[0].to_string().is_empty());
    flaws.remove(0)
}

#[test]
fn flaws() {
    let name: Name = "VI_1".into();
    let v4 = |count: usize| (0..count).map(|low| VirtualAddress::new(Address::v4(low as u32))).collect::<Vec<_>>();
    assert_eq!(flaw(|it| it.instances[0].vrid = 0), Flaw::NoVrid(name.clone()));
    assert_eq!(flaw(|it| it.instances[0].priority = 0), Flaw::NoPriority(name.clone()));
    assert_eq!(flaw(|it| it.instances[0].interface = None), Flaw::NoInterface(name.clone()));
    assert_eq!(flaw(|it| it.instances[0].addresses = v4(256)), Flaw::TooManyAddresses(name.clone(), 256));
    assert_eq!(flaw(|it| it.instances[0].excluded = v4(4097)), Flaw::TooManyExcluded(name.clone(), 4097));
    let peers = vec![Peer::new(address(OTHER)); 256];
    assert_eq!(flaw(|it| it.instances[0].peers = peers), Flaw::TooManyPeers(name.clone(), 256));
    let v6 = address("fe80::1");
    assert_eq!(flaw(|it| it.instances[0].source = Some(v6)), Flaw::WrongFamily(name.clone(), v6));
    assert_eq!(
        flaw(|it| (it.instances[0].is_strict, it.instances[0].addresses) = (true, vec![])),
        Flaw::NoAddresses(name.clone())
    );
    let strict_unicast =
        |it: &mut Config| (it.instances[0].is_strict, it.instances[0].peers) = (true, vec![Peer::new(address(OTHER))]);
    assert_eq!(flaw(strict_unicast), Flaw::StrictUnicast(name.clone()));
    let unknown = Flaw::UnknownMember("VG".into(), "VI_9".into());
    assert_eq!(flaw(|it| it.groups = vec![GroupConfig::new("VG", &["VI_9"])]), unknown);
    let twice = vec![GroupConfig::new("VG", &["VI_1"]), GroupConfig::new("VH", &["VI_1"])];
    assert_eq!(flaw(|it| it.groups = twice), Flaw::UnknownMember("VH".into(), name));
    let many = |it: &mut Config| {
        it.instances = (0..=INSTANCES_MAX)
            .map(|number| {
                InstanceConfig::new(
                    &format!("V{number}"),
                    &format!("eth{}", number / 255),
                    (number % 255 + 1) as u8,
                    Family::V4,
                )
            })
            .collect();
    };
    assert_eq!(flaw(many), Flaw::TooManyInstances(INSTANCES_MAX + 1));
    let v6_list = |it: &mut Config| {
        it.instances = vec![instance_v6(100)];
        it.instances[0].addresses = (1..=91).map(|low| VirtualAddress::new(Address::v6(low))).collect();
    };
    assert_eq!(flaw(v6_list), Flaw::TooManyAddresses("VI_1".into(), 91));
}

#[test]
fn the_longest_lists_are_sent_and_taken() {
    let mut config_of = instance(100);
    config_of.addresses = (0..255).map(|low| VirtualAddress::new(Address::v4(0x0a00_0000 + low))).collect();
    let mut bench = Bench::active(config_of);
    bench.hear(OTHER, 200);
    assert!(bench.is_backup());
    let mut config_of = instance_v6(100);
    config_of.addresses = (0..90).map(|low| VirtualAddress::new(Address::v6((0xfe80 << 112) + low))).collect();
    let bench = Bench::active(config_of);
    assert!(bench.state().is_active());
}

/// As many instances as there may be, all in groups of two: they start, and a reload of the same moves nothing.
#[test]
fn the_most_instances() {
    let interface = |number: usize| format!("eth{}", number / 255);
    let instances: Vec<InstanceConfig> = (0..INSTANCES_MAX)
        .map(|number| {
            let vrid = (number % 255 + 1) as u8;
            let mut config = InstanceConfig::new(&format!("V{number}"), &interface(number), vrid, Family::V4);
            config.addresses = vec![VirtualAddress::new(Address::v4(0x0b00_0000 + number as u32))];
            config
        })
        .collect();
    let mut many = config(instances);
    many.groups = (0..INSTANCES_MAX / 2)
        .map(|number| {
            let members = [format!("V{}", 2 * number), format!("V{}", 2 * number + 1)];
            GroupConfig::new(&format!("G{number}"), &[&members[0], &members[1]])
        })
        .collect();
    let mut bench = Bench::new(many.clone());
    for number in (0..INSTANCES_MAX).step_by(255) {
        let link = Link { is_up: true, addresses: vec![address("10.77.0.1")] };
        bench.event(Event::Link { interface: interface(number).into(), link });
    }
    bench.event(Event::Start);
    bench.pass(seconds(4.0));
    assert!(bench.routers.instances().iter().all(|instance| instance.state().is_active()));
    bench.done.clear();
    bench.routers.reconfigure(bench.now, many).expect("no flaws");
    bench.drain();
    assert!(bench.done.is_empty());
}

#[test]
fn refusals_are_logged_in_part_and_counted_in_full() {
    let mut bench = Bench::active(instance(100));
    let bad = advert_with(bench.first().config(), OTHER, 200, |parts| parts.envelope.hop_limit = 1);
    for _ in 0..1000 {
        bench.packet(&bad);
    }
    assert_eq!(bench.log().len(), check::LINES_LOGGED_MAX as usize);
    let counters = bench.first().counters();
    assert_eq!((counters.hop_limit_errors, counters.lines_not_logged), (1000, 990));
}

/// Packets that are nearly advertisements and events in any order: no panic, no more than a few actions each, deadlines
/// that are to come, and never two states at once.
#[test]
fn arbitrary_input_never_panics_and_grows_nothing() {
    let mut taken = 0;
    for seed in 0..40 {
        let mut rng = Rng::new(seed);
        let mut second = instance_v6(150);
        (second.name, second.vrid) = ("VI_2".into(), 52);
        second.tracks = vec![Track { tracker: Tracker::Script("chk".into()), weight: 0, is_reversed: false }];
        let mut both = config(vec![instance(100), second]);
        if seed % 2 == 0 {
            both.groups = vec![GroupConfig::new("VG", &["VI_1", "VI_2"])];
        }
        if seed % 3 == 0 {
            both.instances[0].authentication = Authentication::Header([7; 8]);
        }
        let mut bench = Bench::new(both.clone());
        for _ in 0..500 {
            bench.done.clear();
            match rng.below(12) {
                0 => bench.event(Event::Start),
                1 => bench.link(rng.below(4) > 0),
                2 => bench.script("chk", [Reading::Up, Reading::Down, Reading::Value(3)][rng.below(3) as usize]),
                3 => bench.pass(Duration::from_millis(rng.below(3000).into())),
                4 if rng.below(8) == 0 => {
                    let _ = bench.routers.reconfigure(bench.now, both.clone());
                    bench.drain();
                }
                _ => {
                    let index = rng.below(2) as usize;
                    let source = [[OTHER, "10.77.0.1"], ["fe80::2", "fe80::ff:fe00:a"]][index][rng.below(2) as usize];
                    let config_of = bench.routers.instances()[index].config().clone();
                    let mut packet = advert(&config_of, source, rng.next_u32() as u8);
                    if rng.below(2) == 0 {
                        let at = rng.below(packet.len() as u32) as usize;
                        packet[at] ^= 1 << rng.below(8);
                        let cut = (rng.below(3) * rng.below(30)) as usize;
                        packet.truncate(packet.len().saturating_sub(cut));
                    }
                    let payload = packet.get(40..).unwrap_or(&[]);
                    let (source, destination) = (address(source), wire::GROUP_V6);
                    let received = match index {
                        0 => Received::V4(&packet),
                        _ => Received::V6 { source, destination, hop_limit: 255, payload },
                    };
                    bench.routers.handle_packet(bench.now, "eth0", received);
                    bench.drain();
                    assert!(bench.done.len() < 40, "{}", bench.done.len());
                }
            }
            assert!(bench.routers.next_deadline().is_none_or(|at| at > bench.now));
        }
        taken += bench.routers.instances().iter().map(|instance| instance.counters().adverts_received).sum::<u64>();
    }
    assert!(taken > 1000, "{taken} packets were good");
}

/// Lines that good packets cause have the same bound as lines of refused ones.
#[test]
fn lines_that_good_packets_cause_are_bounded() {
    let mut config_of = instance(100);
    config_of.version = Version::V3;
    let mut bench = Bench::start(config(vec![config_of]));
    bench.done.clear();
    for number in 0..1000 {
        let changed = |parts: &mut Parts| parts.interval = 100 + number;
        let packet = advert_with(bench.first().config(), OTHER, 200, changed);
        bench.packet(&packet);
        bench.hear(OTHER, 0);
    }
    assert_eq!(bench.log().len(), check::LINES_LOGGED_MAX as usize);
    assert_eq!(bench.first().counters().lines_not_logged, 999 + 1000 - 10);
}

#[test]
fn what_no_configuration_asks_for_is_forgotten() {
    let tracking = |interface: &str, script: &str| {
        let mut config_of = instance(100);
        config_of.tracks = [Tracker::Interface(interface.into()), Tracker::Script(script.into())]
            .map(|tracker| Track { tracker, weight: -10, is_reversed: false })
            .to_vec();
        config(vec![config_of])
    };
    let mut bench = Bench::start(tracking("up0", "one"));
    for interface in ["up0", "up1"] {
        bench.event(Event::Link { interface: interface.into(), link: Link { is_up: true, addresses: vec![] } });
    }
    bench.script("one", Reading::Down);
    bench.script("two", Reading::Down);
    assert_eq!(bench.routers.world.len(), (3, 2));
    bench.routers.reconfigure(bench.now, tracking("up1", "two")).expect("no flaws");
    assert_eq!(bench.routers.world.len(), (2, 1));
    assert_eq!(bench.first().priority(), 90, "what stays is known still");
}
