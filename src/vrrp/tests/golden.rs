//! Frames of keepalived 2.2.7: the machine, configured as it was, sends them and no others; and what crafted ones do.

use super::*;
use crate::wire::{arp, ethernet, hex, ipv6, neighbour};
use std::collections::BTreeSet;

const SENT: &str = include_str!("../../../tests/golden/vrrp/sent.txt");
const CRAFTED: &str = include_str!("../../../tests/golden/vrrp/crafted.txt");

/// What frames of equal programs may differ in: identification and header checksum of IPv4, the kernel's flow label.
fn masked(mut frame: Vec<u8>) -> Vec<u8> {
    match frame[12..14] {
        [0x08, 0x00] => {
            frame[18..20].fill(0);
            frame[24..26].fill(0);
        }
        [0x86, 0xdd] => frame[15..18].fill(0),
        _ => {}
    }
    frame
}

fn recorded(case: &str, side: &str) -> BTreeSet<Vec<u8>> {
    let lines = SENT.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    lines.filter(|line| line[..2] == [case, side]).map(|line| masked(hex(line[3]))).collect()
}

/// The frames that a host would make of the actions.
fn frames(bench: &Bench) -> BTreeSet<Vec<u8>> {
    let own = [2, 0, 0, 0, 0, 0x0a];
    let mut frames = BTreeSet::new();
    for action in &bench.done {
        match action {
            Action::SendAdvert { source_mac, destination, packet, .. } => {
                let mut frame = vec![0; ethernet::HEADER_OCTETS];
                let to = if destination.is_multicast() {
                    wire::multicast_mac(*destination).0
                } else {
                    [2, 0, 0, 0, 0, 0x0b]
                };
                let kind = if destination.is_v4() { ethernet::TYPE_IPV4 } else { ethernet::TYPE_IPV6 };
                let from = source_mac.map_or(own, |mac| mac.0);
                ethernet::emit(&mut frame, crate::base::MacAddress(to), crate::base::MacAddress(from), kind);
                frame.extend(packet);
                frames.insert(masked(frame));
            }
            Action::Announce { addresses, mac, .. } => {
                for &(_, address) in addresses {
                    let mac = mac.unwrap_or(crate::base::MacAddress(own));
                    let mut frame = vec![0; neighbour::ADVERTISEMENT_OCTETS];
                    if address.is_v4() {
                        frame.truncate(arp::ANNOUNCEMENT_OCTETS);
                        arp::emit_announcement(&mut frame, arp::Operation::Request, address, mac);
                    } else {
                        neighbour::emit_advertisement(&mut frame, address, mac, false);
                    }
                    frames.insert(masked(frame));
                }
            }
            _ => {}
        }
    }
    frames
}

fn password(mut config: InstanceConfig) -> InstanceConfig {
    config.authentication = Authentication::Password(*b"1111\0\0\0\0");
    config
}

fn with(mut config: InstanceConfig, change: impl FnOnce(&mut InstanceConfig)) -> InstanceConfig {
    change(&mut config);
    config
}

/// A lone router from start to stop.
fn life(instance: InstanceConfig) -> BTreeSet<Vec<u8>> {
    let mut bench = Bench::start(config(vec![instance]));
    bench.pass(seconds(8.0));
    bench.event(Event::Stop);
    frames(&bench)
}

#[test]
fn frames_of_recorded_cases() {
    let v3 = |config| with(config, |it: &mut InstanceConfig| it.version = Version::V3);
    let second =
        |config| with(config, |it: &mut InstanceConfig| it.addresses.push(VirtualAddress::new(address("10.77.0.11"))));
    for (case, config) in [
        ("v2_noauth", instance(150)),
        ("v2_pass", password(instance(150))),
        ("v3_ipv4", v3(instance(150))),
        ("v3_ipv6", instance_v6(150)),
        ("gna_default", instance_v6(150)),
        ("v3_subsecond", with(v3(instance(150)), |it| it.interval = seconds(0.1))),
        ("failover_term", password(instance(150))),
        ("owner_255", password(instance(255))),
        ("garp_default", password(instance(150))),
        ("garp_tuned", password(second(instance(150)))),
        ("strict_v3", with(v3(instance(150)), |it| it.is_strict = true)),
    ] {
        let (ours, theirs) = (life(config), recorded(case, "a"));
        // Whether a recording goes on until the stop depends on its case.
        let has_stop =
            |frame: &&Vec<u8>| frame[12..14] != [0x08, 0x06] && frame.len() > 36 && frame[36] == 0 && frame[23] == 112;
        let is_stopped = theirs.iter().any(|frame| has_stop(&frame)) || case.contains("v6") || case == "gna_default";
        let ours: BTreeSet<_> = ours.into_iter().filter(|frame| is_stopped || !has_stop(&frame)).collect();
        assert!(theirs.len() >= 2, "{case} was recorded");
        assert_eq!(ours, theirs, "{case}");
    }
}

#[test]
fn frames_with_the_virtual_mac() {
    for (case, config) in [("vmac_v2", instance(150)), ("vmac_v6", instance_v6(150))] {
        let mut bench = Bench::start(config_of(with(config, |it| it.has_virtual_mac = true)));
        bench.pass(seconds(8.0));
        assert_eq!(frames(&bench), recorded(case, "a"), "{case}");
    }
    let base = with(instance(150), |it| (it.has_virtual_mac, it.sends_from_base) = (true, true));
    let mut bench = Bench::start(config_of(base));
    bench.pass(seconds(8.0));
    assert_eq!(frames(&bench), recorded("vmac_xmit_base", "a"));
}

fn config_of(instance: InstanceConfig) -> Config {
    config(vec![instance])
}

/// Each packet, with its sequence number, octet for octet: nothing is masked, since the value covers it all.
#[test]
fn packets_with_the_authentication_header() {
    let header = with(instance(150), |it| it.authentication = Authentication::Header(*b"1111\0\0\0\0"));
    let mut bench = Bench::start(config_of(header));
    bench.pass(seconds(3.5 + 4.0));
    bench.event(Event::Stop);
    let ours: Vec<Vec<u8>> = bench
        .done
        .iter()
        .filter_map(|action| match action {
            Action::SendAdvert { packet, .. } => Some(packet.clone()),
            _ => None,
        })
        .collect();
    let lines = SENT.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let theirs: Vec<Vec<u8>> =
        lines.filter(|line| line[..3] == ["v2_ah", "a", "ah"]).map(|line| hex(line[3])[14..].to_vec()).collect();
    assert_eq!(theirs.len(), 6);
    assert_eq!(ours, theirs);
}

#[test]
fn unicast_frames() {
    let peer = |text: &str| vec![Peer::new(address(text))];
    let v2 = with(instance(150), |it| (it.source, it.peers) = (Some(address("10.77.0.1")), peer(OTHER)));
    let mut bench = Bench::start(config_of(v2));
    bench.pass(seconds(8.0));
    assert_eq!(frames(&bench), recorded("unicast_v2", "a"));
}

/// keepalived sends unicast packets of IPv6 with hop limit 64; all else is the same.
#[test]
fn deviation_ipv6_unicast_has_hop_limit_255() {
    let v6 = with(instance_v6(150), |it| {
        it.addresses.remove(0);
        (it.source, it.peers) = (Some(address("fd77::1")), vec![Peer::new(address("fd77::2"))]);
    });
    let mut bench = Bench::start(config_of(v6));
    bench.pass(seconds(8.0));
    let ours = frames(&bench);
    let is_advert = |frame: &&Vec<u8>| frame[20] == 112;
    assert!(ours.iter().filter(is_advert).count() == 1);
    assert!(ours.iter().filter(is_advert).all(|frame| frame[21] == 255));
    let as_theirs: BTreeSet<Vec<u8>> = ours
        .into_iter()
        .map(|mut frame| {
            if frame[20] == 112 {
                frame[21] = 64;
            }
            frame
        })
        .collect();
    assert_eq!(as_theirs, recorded("unicast_v6", "a"));
}

/// An Active router of priority 100 hears each crafted frame: it does what keepalived did, and where keepalived was odd
/// what the RFC says. Refused frames change nothing, not even the time of the next advertisement.
#[test]
fn crafted_frames_are_taken_or_refused() {
    let mut seen = 0;
    for line in CRAFTED.lines().filter(|line| !line.starts_with('#')) {
        let [case, vrid, name, keepalived, rfc, text] = line.split(' ').collect::<Vec<_>>()[..] else {
            panic!("{line}")
        };
        let number: u8 = vrid.parse().unwrap();
        let mut config =
            InstanceConfig::new("V", "eth0", number, if case.ends_with('6') { Family::V6 } else { Family::V4 });
        let own = if case.ends_with('6') {
            format!("fe80::77:{:x}", 0x100 + u32::from(number))
        } else {
            format!("10.77.1.{number}")
        };
        config.addresses = vec![VirtualAddress::new(address(&own))];
        let mut bench = Bench::active(config);
        bench.pass(seconds(0.4));
        let before = bench.state();
        bench.done.clear();
        let frame = hex(text);
        let packet = &frame[ethernet::HEADER_OCTETS..];
        match packet[0] >> 4 {
            4 => bench.routers.handle_packet(bench.now, "eth0", Received::V4(packet)),
            _ => {
                let ip = ipv6::Packet::new_checked(packet).unwrap();
                let (source, destination) = (ip.source(), ip.destination());
                let payload = &packet[ipv6::HEADER_OCTETS..];
                let received = Received::V6 { source, destination, hop_limit: ip.hop_limit(), payload };
                bench.routers.handle_packet(bench.now, "eth0", received);
            }
        }
        bench.drain();
        let does = if bench.state().is_active() { "ignore" } else { "yield" };
        assert_eq!(does, keepalived, "{case} {name}");
        assert!(rfc == "free" || does == rfc, "{case} {name}");
        let is_answered = ["lower-priority", "equal-priority-lower-address", "priority-0"].contains(&name);
        if does == "ignore" && !is_answered {
            assert_eq!(bench.state(), before, "{case} {name}");
            assert!(bench.sent().is_empty(), "{case} {name}");
        }
        if is_answered {
            assert_eq!(bench.sent(), [100], "{case} {name}");
        }
        seen += 1;
    }
    assert_eq!(seen, 48);
}

/// keepalived's lines for a life, in its order (cases `v2_noauth` and `script_weight_neg`).
#[test]
fn lines_of_keepalived() {
    let mut bench = Bench::start(config_of(instance(90)));
    bench.pass(seconds(4.0));
    bench.hear(OTHER, 100);
    bench.hear(OTHER, 50);
    bench.event(Event::Stop);
    assert_eq!(
        bench.log(),
        [
            "(VI_1) removing VIPs.",
            "(VI_1) Entering BACKUP STATE (init)",
            "(VI_1) Receive advertisement timeout",
            "(VI_1) Entering MASTER STATE",
            "(VI_1) setting VIPs.",
            "(VI_1) Sending/queueing gratuitous ARPs on eth0 for 10.77.0.10",
            "(VI_1) Master received advert from 10.77.0.2 with higher priority 100, ours 90",
            "(VI_1) Entering BACKUP STATE",
            "(VI_1) removing VIPs.",
            "(VI_1) received lower priority (50) advert from 10.77.0.2 - discarding",
        ]
    );
}
