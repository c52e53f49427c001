//! What the RFCs say MUST be, by section: that it is done, and that its opposite is refused.

use super::*;

fn v3(priority: u8) -> InstanceConfig {
    let mut config = instance(priority);
    config.version = Version::V3;
    config
}

#[test]
fn rfc_9568_6_4_1_the_owner_is_active_at_once() {
    for config_of in [instance(255), v3(255), instance_v6(255)] {
        let bench = Bench::start(config(vec![config_of]));
        assert!(bench.state().is_active());
        assert_eq!((bench.sent(), bench.announced()), (vec![255], vec![5]));
    }
}

#[test]
fn rfc_9568_6_4_1_others_wait_for_the_active_down_interval() {
    let mut as_master = instance(150);
    as_master.starts_as_master = true;
    for config_of in [instance(150), as_master] {
        let mut bench = Bench::start(config(vec![config_of]));
        assert_eq!(bench.down_in().as_micros(), 3_414_062);
        bench.pass(seconds(3.414));
        assert!(bench.is_backup() && bench.sent().is_empty());
        bench.pass(seconds(0.001));
        assert!(bench.state().is_active());
        assert_eq!(bench.sent(), [150]);
    }
}

#[test]
fn rfc_9568_6_4_1_nothing_counts_before_the_start() {
    let mut bench = Bench::new(config(vec![instance(100)]));
    bench.link(true);
    bench.hear(OTHER, 200);
    bench.pass(seconds(100.0));
    assert_eq!(bench.state(), State::Initialize);
    assert!(bench.sent().is_empty());
    assert_eq!(bench.routers.next_deadline(), None);
}

#[test]
fn rfc_9568_6_4_2_a_backup_has_no_addresses_and_sends_nothing() {
    let mut bench = Bench::start(config(vec![instance(100)]));
    for _ in 0..20 {
        bench.pass(seconds(1.0));
        bench.hear(OTHER, 200);
    }
    assert!(bench.is_backup() && bench.addresses().is_empty() && bench.sent().is_empty());
    assert_eq!(bench.first().active_router(), Some((address(OTHER), 200)));
}

#[test]
fn rfc_9568_6_4_2_priority_zero_leads_to_takeover_within_the_skew_time() {
    for (config_of, skew) in [(instance(100), 609_375), (v3(100), 609_375), (instance_v6(100), 609_375)] {
        let other = if config_of.family == Family::V6 { "fe80::2" } else { OTHER };
        let mut bench = Bench::start(config(vec![config_of]));
        bench.hear(other, 200);
        bench.pass(seconds(0.5));
        bench.hear(other, 0);
        assert_eq!(bench.down_in().as_micros(), skew);
        // A copy of it that comes later puts nothing off.
        bench.pass(seconds(0.3));
        bench.hear(other, 0);
        bench.pass(seconds(0.31));
        assert!(bench.state().is_active());
    }
}

#[test]
fn rfc_9568_6_4_2_an_advertisement_resets_the_timer() {
    let mut bench = Bench::start(config(vec![instance(100)]));
    bench.pass(seconds(3.0));
    for priority in [100, 101, 255] {
        bench.hear(OTHER, priority);
        assert_eq!(bench.down_in().as_micros(), 3_609_375);
        bench.pass(seconds(3.0));
    }
}

#[test]
fn rfc_9568_6_4_2_a_lower_one_is_discarded_when_preempt_mode_is_true() {
    let mut bench = Bench::start(config(vec![instance(100)]));
    bench.pass(seconds(3.0));
    let before = bench.state();
    bench.hear(OTHER, 99);
    assert_eq!(bench.state(), before);
    let mut config_of = instance(100);
    config_of.preempts = false;
    let mut bench = Bench::start(config(vec![config_of]));
    bench.pass(seconds(3.0));
    bench.hear(OTHER, 99);
    assert_eq!(bench.down_in().as_micros(), 3_609_375);
}

#[test]
fn rfc_9568_6_1_the_owner_preempts_whatever_preempt_mode_says() {
    let mut config_of = instance(255);
    config_of.preempts = false;
    let mut bench = Bench::new(config(vec![config_of.clone()]));
    bench.event(Event::Start);
    assert_eq!(bench.state(), State::Fault);
    bench.link(true);
    assert!(bench.state().is_active());
    bench.hear(OTHER, 200);
    assert!(bench.state().is_active());
    // Waiting for its sync group, it does not obey either.
    let mut second = instance(100);
    (second.name, second.vrid) = ("VI_2".into(), 52);
    let mut both = config(vec![config_of, second]);
    both.groups = vec![GroupConfig::new("VG", &["VI_1", "VI_2"])];
    let mut bench = Bench::start(both);
    assert!(bench.state().is_willing());
    bench.hear(OTHER, 200);
    assert!(bench.state().is_willing());
}

#[test]
fn rfc_9568_6_4_2_a_backup_takes_the_active_routers_interval() {
    let mut bench = Bench::start(config(vec![v3(100)]));
    let packet = advert_with(bench.first().config(), OTHER, 200, |parts| parts.interval = 200);
    bench.packet(&packet);
    assert_eq!(bench.first().active_interval(), seconds(2.0));
    assert_eq!(bench.down_in().as_micros(), 7_218_750);
    assert!(bench.has_log("(VI_1) advertisement interval updated from 1000ms to 2000ms by master"));
    // Section 6.4.2: as Active it has its own again.
    bench.pass(seconds(7.3));
    assert!(bench.state().is_active());
    assert_eq!(bench.first().active_interval(), seconds(1.0));
}

/// One that is about to yield, and is quicker, does not make a Backup take over from one that is slower.
#[test]
fn deviation_the_first_advert_of_another_does_not_shorten_the_timer() {
    let mut bench = Bench::start(config(vec![v3(100)]));
    let with_interval = |interval| move |parts: &mut Parts| parts.interval = interval;
    let slow = advert_with(bench.first().config(), OTHER, 200, with_interval(1000));
    let quick = advert_with(bench.first().config(), "10.77.0.3", 150, with_interval(10));
    bench.packet(&slow);
    let slow_ms = bench.down_in().as_millis();
    assert_eq!(slow_ms, 36_093);
    bench.packet(&quick);
    assert_eq!(bench.down_in().as_millis(), slow_ms);
    bench.packet(&quick);
    assert_eq!(bench.down_in().as_millis(), 360);
    bench.packet(&slow);
    assert_eq!(bench.down_in().as_millis(), slow_ms);
}

#[test]
fn rfc_3768_7_1_another_interval_is_refused() {
    let mut bench = Bench::start(config(vec![instance(100)]));
    let packet = advert_with(bench.first().config(), OTHER, 200, |parts| parts.interval = 2);
    bench.packet(&packet);
    assert_eq!(bench.first().counters().interval_errors, 1);
    assert!(bench.has_log("(VI_1) advertisement interval mismatch mine=1 sec rcv'd=2 sec"));
    bench.pass(seconds(3.7));
    assert!(bench.state().is_active());
}

#[test]
fn rfc_9568_6_4_3_shutdown_sends_priority_zero_and_lets_go() {
    let mut bench = Bench::active(instance(100));
    bench.event(Event::Stop);
    assert_eq!((bench.sent(), bench.state()), (vec![0], State::Initialize));
    assert!(bench.done.iter().any(|action| matches!(action, Action::RemoveAddresses { .. })));
    assert_eq!(bench.told(), ["INSTANCE VI_1 STOP 100"]);
    // A Backup says nothing on the wire.
    let mut bench = Bench::start(config(vec![instance(100)]));
    bench.event(Event::Stop);
    assert!(bench.sent().is_empty());
}

#[test]
fn rfc_9568_6_4_3_the_advert_timer() {
    let mut bench = Bench::active(v3(100));
    bench.pass(seconds(10.0));
    assert_eq!(bench.sent().len(), 10);
    // A pause is not made up for.
    bench.done.clear();
    bench.now = bench.now + seconds(10.0);
    bench.pass(seconds(0.5));
    assert_eq!(bench.sent().len(), 1);
}

#[test]
fn rfc_9568_6_4_3_priority_zero_is_answered_at_once() {
    let mut bench = Bench::active(instance(100));
    bench.pass(seconds(0.5));
    bench.done.clear();
    bench.hear(OTHER, 0);
    assert_eq!(bench.sent(), [100]);
    assert!(matches!(bench.state(), State::Active { advert } if advert - bench.now == seconds(1.0)));
}

#[test]
fn rfc_9568_6_4_3_a_lower_one_is_answered_at_once() {
    let mut bench = Bench::active(instance(100));
    bench.hear(OTHER, 99);
    assert_eq!(bench.sent(), [100]);
    bench.now = bench.now + seconds(0.1);
    bench.hear("10.77.0.0", 100);
    assert_eq!(bench.sent(), [100, 100]);
    assert!(bench.state().is_active());
}

#[test]
fn rfc_9568_6_4_3_the_better_one_wins() {
    for (source, priority) in [(OTHER, 101), (OTHER, 255), ("10.77.0.0", 101), (OTHER, 100)] {
        let mut bench = Bench::active(instance(100));
        bench.hear(source, priority);
        assert!(bench.is_backup(), "{source} {priority}");
        assert_eq!(bench.down_in().as_micros(), 3_609_375);
        assert!(bench.done.iter().any(|action| matches!(action, Action::RemoveAddresses { .. })));
    }
}

/// A change of the good packet, and the counter that must move.
type Spoiled = (&'static str, fn(&mut Vec<u8>), fn(&Counters) -> u64);

#[test]
fn rfc_9568_7_1_and_rfc_3768_7_1_what_must_be_discarded() {
    fn sum_anew(packet: &mut [u8]) {
        packet[26..28].fill(0);
        let sum = crate::wire::checksum::of(&packet[20..]);
        packet[26..28].copy_from_slice(&sum.to_be_bytes());
    }
    let spoiled: [Spoiled; 9] = [
        ("hop limit", |packet| packet[8] = 254, |counters| counters.hop_limit_errors),
        (
            "version",
            |packet| {
                packet[20] = 0x31;
                packet[3] -= 8;
                packet.truncate(32)
            },
            |counters| counters.version_errors,
        ),
        (
            "type",
            |packet| {
                packet[20] = 0x22;
                sum_anew(packet)
            },
            |counters| counters.type_errors,
        ),
        (
            "too short",
            |packet| {
                packet[3] -= 1;
                packet.pop();
            },
            |counters| counters.packet_length_errors,
        ),
        (
            "too long",
            |packet| {
                packet[3] += 1;
                packet.push(0)
            },
            |counters| counters.packet_length_errors,
        ),
        (
            "count",
            |packet| {
                packet[23] = 2;
                sum_anew(packet)
            },
            |counters| counters.packet_length_errors,
        ),
        ("checksum", |packet| packet[27] ^= 1, |counters| counters.checksum_errors),
        (
            "authentication",
            |packet| {
                packet[24] = 1;
                sum_anew(packet)
            },
            |counters| counters.authentication_mismatches,
        ),
        (
            "no authentication",
            |packet| {
                packet[24] = 7;
                sum_anew(packet)
            },
            |counters| counters.invalid_authentication_types,
        ),
    ];
    for (name, spoil, counter) in spoiled {
        for is_active in [false, true] {
            let mut bench =
                if is_active { Bench::active(instance(100)) } else { Bench::start(config(vec![instance(100)])) };
            let before = bench.first().clone();
            let mut packet = advert(before.config(), OTHER, 200);
            spoil(&mut packet);
            bench.packet(&packet);
            assert_eq!(bench.state(), before.state(), "{name}");
            assert_eq!(bench.first().active_router(), None, "{name}");
            assert_eq!(counter(bench.first().counters()), counter(before.counters()) + 1, "{name}");
            assert_eq!(bench.first().counters().adverts_received, 0, "{name}");
            assert!(
                bench.done.iter().all(|action| matches!(
                    action,
                    Action::Log { .. }
                        | Action::JoinGroup { .. }
                        | Action::RemoveAddresses { .. }
                        | Action::Notify { .. }
                )) || is_active && bench.sent().is_empty(),
                "{name}"
            );
        }
    }
}

#[test]
fn rfc_9568_7_1_an_unknown_identifier_is_discarded() {
    let mut bench = Bench::active(instance(100));
    let packet = advert_with(bench.first().config(), OTHER, 200, |parts| parts.vrid = 52);
    bench.packet(&packet);
    let packet = advert(bench.first().config(), OTHER, 200);
    bench.routers.handle_packet(bench.now, "eth1", received(&packet));
    assert_eq!(bench.routers.unclaimed(), Unclaimed { malformed: 0, unknown_vrid: 2 });
    assert!(bench.state().is_active());
}

#[test]
fn our_own_advertisement_come_back_is_ignored() {
    let mut bench = Bench::active(instance(100));
    bench.hear("10.77.0.1", 200);
    assert!(bench.state().is_active());
    assert_eq!(bench.first().counters().own, 1);
}

#[test]
fn rfc_9568_6_1_accept_mode_is_carried() {
    for (accepts, is_strict, expected) in [(true, false, true), (false, false, false), (true, true, false)] {
        let mut config_of = instance(100);
        (config_of.accepts, config_of.is_strict) = (accepts, is_strict);
        let mut bench = Bench::start(config(vec![config_of]));
        bench.pass(seconds(4.0));
        let is_so = |action: &Action| matches!(action, Action::AddAddresses { accepts, .. } if *accepts == expected);
        assert!(bench.done.iter().any(is_so));
    }
}

/// Backups wait for Skew_Time alone after a resignation: it is answered whatever was answered just before.
#[test]
fn rfc_9568_6_4_3_priority_zero_is_answered_right_after_another_answer() {
    let mut bench = Bench::active(instance(100));
    bench.hear(OTHER, 50);
    bench.pass(seconds(0.001));
    bench.hear(OTHER, 0);
    assert_eq!(bench.sent(), [100, 100]);
    // A second one right behind it brings the next advertisement forward; many make no more than that.
    for _ in 0..5 {
        bench.pass(seconds(0.001));
        bench.hear(OTHER, 0);
    }
    assert_eq!(bench.sent(), [100, 100]);
    bench.pass(seconds(0.005));
    assert_eq!(bench.sent(), [100, 100, 100]);
    bench.pass(seconds(0.9));
    assert_eq!(bench.sent(), [100, 100, 100]);
}

#[test]
fn rfc_9568_9_1_version_3_has_no_authentication_header() {
    let mut config_of = v3(100);
    let mut bench = Bench::start(config(vec![config_of.clone()]));
    config_of.authentication = Authentication::Header(*b"a secret");
    bench.packet(&advert(&config_of, OTHER, 200));
    assert_eq!(bench.first().counters().authentication_mismatches, 1);
    assert_eq!((bench.first().counters().adverts_received, bench.first().active_router()), (0, None));
}
