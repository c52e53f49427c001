//! Unicast: peers in place of the group.

use super::*;

fn with(mut config: InstanceConfig, change: impl FnOnce(&mut InstanceConfig)) -> InstanceConfig {
    change(&mut config);
    config
}

fn one(instance: InstanceConfig) -> Config {
    config(vec![instance])
}

fn unicast() -> InstanceConfig {
    with(instance(100), |it| {
        it.source = Some(address("10.77.0.1"));
        it.peers = vec![Peer { address: address(OTHER), hop_limit_min: 250, hop_limit_max: 254 }];
    })
}

#[test]
fn unicast_hop_limits_are_the_peers() {
    for (hop_limit, is_taken) in [(249, false), (250, true), (254, true), (255, false)] {
        let mut bench = Bench::active(unicast());
        let packet = advert_with(bench.first().config(), OTHER, 200, |parts| parts.envelope.hop_limit = hop_limit);
        bench.packet(&packet);
        assert_eq!(bench.is_backup(), is_taken, "{hop_limit}");
        assert_eq!(bench.first().counters().hop_limit_errors, u64::from(!is_taken));
    }
}

#[test]
fn check_unicast_src() {
    for checks in [false, true] {
        let mut bench = Bench::active(with(unicast(), |it| it.checks_sender = checks));
        bench.hear("10.77.0.3", 200);
        assert_eq!((bench.is_backup(), bench.first().counters().sender_errors), (!checks, u64::from(checks)));
    }
}

#[test]
fn each_peer_gets_its_packet_and_the_group_none() {
    let mut bench = Bench::active(with(unicast(), |it| it.peers.push(Peer::new(address("10.77.0.3")))));
    bench.pass(seconds(1.0));
    let destinations: Vec<Address> = bench
        .done
        .iter()
        .filter_map(|action| match action {
            Action::SendAdvert { destination, .. } => Some(*destination),
            _ => None,
        })
        .collect();
    assert_eq!(destinations, [address(OTHER), address("10.77.0.3")]);
    // What comes to the group is not for it.
    let multicast = advert(&instance(100), OTHER, 200);
    bench.packet(&multicast);
    assert!(bench.state().is_active());
    assert_eq!(bench.first().counters().destination_errors, 1);
    let mut joins = Bench::start(one(unicast()));
    joins.event(Event::Stop);
    assert!(!joins.done.iter().any(|action| matches!(action, Action::JoinGroup { .. } | Action::LeaveGroup { .. })));
}

#[test]
fn unicast_fault_no_peer_and_track_src_ip() {
    let bench = Bench::start(one(with(instance(100), |it| it.faults_without_peers = true)));
    assert_eq!(bench.state(), State::Fault);
    let mut bench = Bench::start(one(with(unicast(), |it| it.tracks_source = true)));
    assert!(bench.is_backup());
    let link = Link { is_up: true, addresses: vec![address("10.77.0.7")] };
    bench.event(Event::Link { interface: "eth0".into(), link });
    assert_eq!(bench.state(), State::Fault);
    bench.link(true);
    assert!(bench.is_backup());
}

#[test]
fn old_unicast_checksum_is_learnt() {
    let config_of = with(unicast(), |it| {
        it.version = Version::V3;
        it.peers = vec![Peer::new(address(OTHER))];
    });
    let old = |parts: &mut Parts| parts.envelope.summed_destination = wire::GROUP_V4;
    let mut bench = Bench::start(one(config_of.clone()));
    let packet = advert_with(&config_of, OTHER, 200, old);
    bench.packet(&packet);
    assert_eq!(bench.first().counters().adverts_received, 1);
    bench.pass(seconds(4.0));
    let sent = bench.done.iter().find_map(|action| match action {
        Action::SendAdvert { packet, .. } => Some(packet.clone()),
        _ => None,
    });
    let sent = sent.unwrap();
    let message = wire::Message::new_checked(&sent[20..], Family::V4).unwrap();
    assert!(message.has_valid_checksum(address("10.77.0.1"), wire::GROUP_V4));
    let mut bench = Bench::start(one(with(config_of, |it| it.old_checksum = OldChecksum::Never)));
    bench.packet(&packet);
    assert_eq!(bench.first().counters().checksum_errors, 1);
}

/// Of two routers of one identifier, one of them without an interface, each takes what is sent to it.
#[test]
fn an_instance_without_interface_takes_its_own_packets_alone() {
    let peered = |name: &str, interface: Option<&str>, source: &str| {
        let mut config_of = instance(100);
        config_of.name = name.into();
        config_of.interface = interface.map(Into::into);
        config_of.source = Some(address(source));
        config_of.peers = vec![Peer::new(address(OTHER))];
        config_of
    };
    let bare = peered("BARE", None, "10.77.0.1");
    let on_eth1 = peered("ETH1", Some("eth1"), "10.78.0.1");
    for instances in [vec![bare.clone(), on_eth1.clone()], vec![on_eth1.clone(), bare.clone()]] {
        let mut bench = Bench::start(config(instances));
        let to = |destination: &'static str| {
            advert_with(&bare, OTHER, 200, move |parts| {
                parts.envelope.destination = address(destination);
                parts.envelope.summed_destination = address(destination);
            })
        };
        let link = Link { is_up: true, addresses: vec![address("10.78.0.1")] };
        bench.event(Event::Link { interface: "eth1".into(), link });
        for (interface, destination) in [("eth1", "10.78.0.1"), ("eth0", "10.77.0.1"), ("eth0", "10.79.0.1")] {
            bench.routers.handle_packet(bench.now, interface, received(&to(destination)));
        }
        for name in ["BARE", "ETH1"] {
            let counters = bench.routers.instance(name).unwrap().counters();
            assert_eq!((counters.adverts_received, counters.destination_errors), (1, 0), "{name}");
        }
        assert_eq!(bench.routers.unclaimed().unknown_vrid, 1);
    }
}
