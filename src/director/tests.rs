//! The director as a whole, one packet at a time: what leaves, where, with which octets, and what is counted.

use std::net::IpAddr;

use etherparse::{IpHeaders, PacketBuilder, PacketBuilderStep, SlicedPacket, TransportSlice};

use super::*;
use crate::base::{Duration, Endpoint};
use crate::command::Response;
use crate::command::request::{ServerRule, ServiceRule};
use crate::forward::DropReason;
use crate::port::memory::MemoryPortSize;
use crate::route::{Database, net_file};
use crate::service::{FullNat, Method, Protocol, SchedulerFlags, ServiceKey, Tunnel};

mod fragments;
mod ftp;
mod full_nat;
mod marks;
mod mss;
mod resync;
mod sync;
mod trace;
mod vlan;
mod ways;

const NET: &str = "\
link add eth0 address 02:00:00:00:00:fe mtu 1500
link add eth1 address 02:00:00:00:01:fe mtu 1500
addr add 10.0.0.254/24 dev eth0
addr add 10.2.0.254/16 dev eth1
addr add fd00::254/64 dev eth0
addr add fd00:2::254/64 dev eth1
addr add 10.9.0.1/32 dev lo
addr add fd00:9::1/128 dev lo
route add default via 10.0.0.1 dev eth0
route add default via fd00::1 dev eth0
neigh add 10.0.0.1 lladdr 02:00:00:00:00:01 dev eth0
neigh add fd00::1 lladdr 02:00:00:00:00:01 dev eth0
neigh add 10.2.0.1 lladdr 02:00:00:00:02:01 dev eth1
neigh add 10.2.0.2 lladdr 02:00:00:00:02:02 dev eth1
neigh add fd00:2::1 lladdr 02:00:00:00:02:01 dev eth1
";

const ETH0: InterfaceId = InterfaceId(0);
const ETH1: InterfaceId = InterfaceId(1);
const ROUTER: [u8; 6] = [2, 0, 0, 0, 0, 1];
const STATION_0: [u8; 6] = [2, 0, 0, 0, 0, 0xfe];
const STATION_1: [u8; 6] = [2, 0, 0, 0, 1, 0xfe];
const SERVER_1: [u8; 6] = [2, 0, 0, 0, 2, 1];
const SYN: u8 = 0x02;
const ACK: u8 = 0x10;

fn director() -> Director {
    let served = ["eth0".to_owned(), "eth1".to_owned()];
    let mut database = Database::new(&served);
    for line in net_file::parse(NET).unwrap() {
        database.apply(&line).unwrap();
    }
    let table = TableConfig { connections_max: 1024, bucket_bits: 0 };
    let port = MemoryPort::new(MemoryPortSize { chunk_octets: 8192, chunks: 64 });
    Director::new(table, 4096, port, database.snapshot(), 1)
}

fn endpoint(address: &str, port: u16) -> Endpoint {
    Endpoint::new(address.parse().unwrap(), port)
}

fn vip(v6: bool) -> Endpoint {
    if v6 { endpoint("fd00:9::1", 80) } else { endpoint("10.9.0.1", 80) }
}

fn client(v6: bool) -> Endpoint {
    if v6 { endpoint("fd00:1::1", 1025) } else { endpoint("10.1.0.1", 1025) }
}

fn rule(protocol: Protocol, endpoint: Endpoint) -> ServiceRule {
    ServiceRule {
        key: ServiceKey::Address { protocol, endpoint },
        scheduler: "rr".into(),
        flags: SchedulerFlags::default(),
        persistent_s: None,
        mask: if endpoint.address.is_v4() { u32::MAX } else { 128 },
        engine: None,
        one_packet: false,
        mss_max: 0,
    }
}

/// A director with one service of each protocol on the virtual address of the family, one server.
fn balancing(v6: bool, method: Method, server: &str, port: u16) -> Director {
    let mut director = director();
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        let service = rule(protocol, vip(v6));
        let key = service.key;
        director.execute(Request::AddService(service)).unwrap();
        let server = server_rule(endpoint(server, port), method);
        director.execute(Request::AddServer { service: key, server }).unwrap();
    }
    director
}

fn server_rule(endpoint: Endpoint, method: Method) -> ServerRule {
    ServerRule { endpoint, method, weight: 1, upper: 0, lower: 0, tunnel: Tunnel::Ipip, full_nat: FullNat::Off }
}

/// The headers of a packet up to the transport header's.
fn between(station: [u8; 6], source: Endpoint, destination: Endpoint) -> PacketBuilderStep<IpHeaders> {
    let builder = PacketBuilder::ethernet2(ROUTER, station);
    match (source.address.to_ip(), destination.address.to_ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => builder.ipv4(from.octets(), to.octets(), 64),
        (IpAddr::V6(from), IpAddr::V6(to)) => builder.ipv6(from.octets(), to.octets(), 64),
        _ => panic!("families differ"),
    }
}

/// A frame from `source` to `destination`; TCP when there are flags, else UDP.
fn frame(station: [u8; 6], source: Endpoint, destination: Endpoint, flags: Option<u8>, payload: &[u8]) -> Vec<u8> {
    let builder = between(station, source, destination);
    let mut bytes = Vec::new();
    match flags {
        Some(flags) => {
            let mut tcp = builder.tcp(source.port, destination.port, 1, 1000);
            if flags & SYN != 0 {
                tcp = tcp.syn();
            }
            if flags & ACK != 0 {
                tcp = tcp.ack(1);
            }
            tcp.write(&mut bytes, payload).unwrap();
        }
        None => builder.udp(source.port, destination.port).write(&mut bytes, payload).unwrap(),
    }
    bytes
}

/// Clears DF and mends the header checksum.
fn may_fragment(mut frame: Vec<u8>) -> Vec<u8> {
    frame[20] &= !0x40;
    frame[24..26].fill(0);
    let sum = crate::wire::checksum::of(&frame[14..34]);
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
    frame
}

/// The transport checksum of a frame holds.
fn is_sound(frame: &[u8]) -> bool {
    let packet = SlicedPacket::from_ethernet(frame).unwrap();
    let ip = packet.net.as_ref().unwrap();
    match packet.transport.unwrap() {
        TransportSlice::Tcp(tcp) => {
            let header = tcp.to_header();
            let sum = match ip {
                etherparse::NetSlice::Ipv4(ip) => header.calc_checksum_ipv4(&ip.header().to_header(), tcp.payload()),
                etherparse::NetSlice::Ipv6(ip) => header.calc_checksum_ipv6(&ip.header().to_header(), tcp.payload()),
                _ => panic!(),
            };
            sum.unwrap() == header.checksum
        }
        TransportSlice::Udp(udp) => {
            let header = udp.to_header();
            let sum = match ip {
                etherparse::NetSlice::Ipv4(ip) => header.calc_checksum_ipv4(&ip.header().to_header(), udp.payload()),
                etherparse::NetSlice::Ipv6(ip) => header.calc_checksum_ipv6(&ip.header().to_header(), udp.payload()),
                _ => panic!(),
            };
            sum.unwrap() == header.checksum
        }
        other => panic!("{other:?}"),
    }
}

fn sent(director: &mut Director) -> (InterfaceId, Vec<u8>) {
    let mut frames = director.take_transmitted();
    assert_eq!(frames.len(), 1, "{frames:?}");
    frames.remove(0)
}

#[test]
fn masquerading_rewrites_both_ways_with_sound_checksums() {
    for v6 in [false, true] {
        let server = if v6 { "fd00:2::1" } else { "10.2.0.1" };
        for flags in [Some(SYN), None] {
            let mut director = balancing(v6, Method::Masquerading, server, 8080);
            let verdict = director.receive(ETH0, &frame(STATION_0, client(v6), vip(v6), flags, b"ask"));
            assert_eq!(verdict, Some(Verdict::Transmit(ETH1)));
            let (_, out) = sent(&mut director);
            assert_eq!((&out[..6], &out[6..12]), (&SERVER_1[..], &STATION_1[..]));
            let expected = frame(STATION_0, client(v6), endpoint(server, 8080), flags, b"ask");
            assert!(is_sound(&out));
            let ttl = if v6 { 21 } else { 22 };
            assert_eq!(out[ttl], 63);
            let addresses = if v6 { 22..58 } else { 26..38 };
            assert_eq!(out[addresses.clone()], expected[addresses]);

            let answer = flags.map(|_| SYN | ACK);
            let back = frame(STATION_1, endpoint(server, 8080), client(v6), answer, b"answer");
            assert_eq!(director.receive(ETH1, &back), Some(Verdict::Transmit(ETH0)));
            let (_, out) = sent(&mut director);
            assert_eq!(&out[..6], &ROUTER);
            let expected = frame(STATION_0, vip(v6), client(v6), answer, b"answer");
            let addresses = if v6 { 22..58 } else { 26..38 };
            assert_eq!(out[addresses.clone()], expected[addresses]);
            assert!(is_sound(&out));
        }
    }
}

/// A local sender's stack leaves the checksum to its hardware; over veth nobody fills it in (and an update by
/// difference of such a sum would stay wrong for ever).
#[test]
fn a_checksum_left_to_hardware_is_completed_by_every_method() {
    for v6 in [false, true] {
        let server = if v6 { "fd00:2::1" } else { "10.2.0.1" };
        for method in [Method::Masquerading, Method::DirectRouting, Method::Tunnelling] {
            for flags in [Some(SYN), None] {
                let mut director = balancing(v6, method, server, 80);
                let mut partial = frame(STATION_0, client(v6), vip(v6), flags, b"ask");
                let transport = if v6 { 54 } else { 34 };
                let at = transport + if flags.is_some() { 16 } else { 6 };
                let length = (partial.len() - transport) as u32;
                let protocol = if flags.is_some() { 6 } else { 17 };
                let (from, to) = (client(v6).address, vip(v6).address);
                let sum = crate::wire::checksum::pseudo_header(from, to, protocol, length).folded();
                partial[at..at + 2].copy_from_slice(&sum.to_be_bytes());
                assert!(!is_sound(&partial));
                director.receive(ETH0, &partial);
                let (_, mut out) = sent(&mut director);
                if method == Method::Tunnelling {
                    let outer = if v6 { 40 } else { 20 };
                    out.drain(14..14 + outer);
                }
                assert!(is_sound(&out), "{method:?} v6={v6}");
            }
        }
    }
}

#[test]
fn direct_routing_changes_the_link_header_and_the_ttl_alone() {
    let mut director = balancing(false, Method::DirectRouting, "10.2.0.1", 80);
    let packet = frame(STATION_0, client(false), vip(false), Some(SYN), b"");
    director.receive(ETH0, &packet);
    let (interface, out) = sent(&mut director);
    assert_eq!(interface, ETH1);
    assert_eq!(&out[..6], &SERVER_1);
    assert_eq!(out[22], 63);
    assert_eq!(crate::wire::checksum::of(&out[14..34]), 0);
    assert_eq!(out[26..], packet[26..]);
}

#[test]
fn tunnels_wrap_either_family_in_either() {
    for (v6, server, protocol) in
        [(false, "10.2.0.1", 4), (true, "10.2.0.1", 41), (false, "fd00:2::1", 4), (true, "fd00:2::1", 41)]
    {
        let mut director = balancing(v6, Method::Tunnelling, server, 80);
        let packet = frame(STATION_0, client(v6), vip(v6), Some(SYN), b"");
        assert_eq!(director.receive(ETH0, &packet), Some(Verdict::Transmit(ETH1)), "{server}");
        let (_, out) = sent(&mut director);
        let outer_v6 = server.contains(':');
        let (outer, next) = if outer_v6 { (40, out[20]) } else { (20, out[23]) };
        assert_eq!(next, protocol);
        assert_eq!(out.len(), packet.len() + outer);
        let inner = &out[14 + outer..];
        assert_eq!(inner.last(), packet.last());
        assert_eq!(inner[if v6 { 7 } else { 8 }], 63);
        let ethertype = if outer_v6 { [0x86, 0xdd] } else { [8, 0] };
        assert_eq!(out[12..14], ethertype);
    }
}

#[test]
fn what_has_no_service_is_the_hosts() {
    let mut director = balancing(false, Method::DirectRouting, "10.2.0.1", 80);
    let other_port = endpoint("10.9.0.1", 22);
    for packet in [
        frame(STATION_0, client(false), other_port, Some(SYN), b""),
        // No SYN: the host answers with a reset.
        frame(STATION_0, client(false), vip(false), Some(ACK), b""),
        // For another station on the wire.
        frame(ROUTER, client(false), vip(false), Some(SYN), b""),
    ] {
        assert_eq!(director.receive(ETH0, &packet), Some(Verdict::Pass));
        assert!(director.take_transmitted().is_empty());
    }
}

#[test]
fn without_a_server_the_client_hears_port_unreachable() {
    for v6 in [false, true] {
        let mut director = director();
        director.execute(Request::AddService(rule(Protocol::Tcp, vip(v6)))).unwrap();
        let packet = frame(STATION_0, client(v6), vip(v6), Some(SYN), b"");
        assert_eq!(director.receive(ETH0, &packet), Some(Verdict::Drop(DropReason::NoServer)));
        let (interface, out) = sent(&mut director);
        assert_eq!(interface, ETH0);
        let (icmp, kind) = if v6 { (54, [1, 4]) } else { (34, [3, 3]) };
        assert_eq!(out[icmp..icmp + 2], kind);
        assert_eq!(out[icmp + 8..icmp + 28], packet[14..34], "the packet is quoted as it came");
    }
}

#[test]
fn too_big_for_the_tunnel_is_told_with_the_mtu() {
    let mut director = balancing(false, Method::Tunnelling, "10.2.0.1", 80);
    let syn = frame(STATION_0, client(false), vip(false), Some(SYN), b"");
    director.receive(ETH0, &syn);
    director.take_transmitted();
    let payload = vec![0; 1500 - 40];
    let full = frame(STATION_0, client(false), vip(false), Some(ACK), &payload);
    assert_eq!(full[20] & 0x40, 0x40, "DF is set");
    assert_eq!(director.receive(ETH0, &full), Some(Verdict::Drop(DropReason::TooBig)));
    let (_, out) = sent(&mut director);
    assert_eq!(out[34..36], [3, 4]);
    assert_eq!(out[40..42], 1480u16.to_be_bytes());

    // With DF clear the outer packet is cut.
    assert_eq!(director.receive(ETH0, &may_fragment(full)), Some(Verdict::Transmit(ETH1)));
    let pieces = director.take_transmitted();
    assert_eq!(pieces.len(), 2);
    assert!(pieces.iter().all(|(_, piece)| piece.len() <= 1514));
}

#[test]
fn a_ttl_of_one_is_answered() {
    let mut director = balancing(false, Method::DirectRouting, "10.2.0.1", 80);
    let mut packet = frame(STATION_0, client(false), vip(false), Some(SYN), b"");
    packet[22] = 1;
    packet[24..26].fill(0);
    let sum = crate::wire::checksum::of(&packet[14..34]);
    packet[24..26].copy_from_slice(&sum.to_be_bytes());
    assert_eq!(director.receive(ETH0, &packet), Some(Verdict::Drop(DropReason::TimeExceeded)));
    let (_, out) = sent(&mut director);
    assert_eq!(out[34..36], [11, 0]);
}

#[test]
fn packets_to_a_removed_server_are_dropped_until_it_is_back() {
    let mut director = balancing(false, Method::Masquerading, "10.2.0.1", 80);
    let key = rule(Protocol::Tcp, vip(false)).key;
    let syn = frame(STATION_0, client(false), vip(false), Some(SYN), b"");
    director.receive(ETH0, &syn);
    let server = endpoint("10.2.0.1", 80);
    director.execute(Request::DeleteServer { service: key, server }).unwrap();
    assert_eq!(director.receive(ETH0, &syn), Some(Verdict::Drop(DropReason::ServerRemoved)));
    let again = server_rule(server, Method::Masquerading);
    director.execute(Request::AddServer { service: key, server: again }).unwrap();
    assert_eq!(director.receive(ETH0, &syn), Some(Verdict::Transmit(ETH1)));
    director.take_transmitted();
}

#[test]
fn an_unknown_neighbour_is_asked_for() {
    let mut director = balancing(false, Method::DirectRouting, "10.2.0.9", 80);
    let syn = frame(STATION_0, client(false), vip(false), Some(SYN), b"");
    assert_eq!(director.receive(ETH0, &syn), Some(Verdict::Drop(DropReason::NoNeighbour)));
    assert_eq!(director.shared().workers[0].counters.drops(DropReason::NoNeighbour), 1);
}

#[test]
fn martian_sources_open_nothing() {
    let mut director = balancing(false, Method::DirectRouting, "10.2.0.1", 80);
    for source in ["0.0.0.0", "127.0.0.1", "224.0.0.1", "255.255.255.255", "10.9.0.1", "10.0.0.254"] {
        let packet = frame(STATION_0, endpoint(source, 1025), vip(false), Some(SYN), b"");
        assert_eq!(director.receive(ETH0, &packet), Some(Verdict::Drop(DropReason::Martian)), "{source}");
    }
}

#[test]
fn counters_appear_with_the_estimators_tick() {
    let mut director = balancing(false, Method::Masquerading, "10.2.0.1", 80);
    let syn = frame(STATION_0, client(false), vip(false), Some(SYN), b"");
    for _ in 0..3 {
        director.receive(ETH0, &syn);
    }
    let stats = |director: &mut Director| {
        let key = rule(Protocol::Tcp, vip(false)).key;
        let crate::command::Response::Services { services, .. } =
            director.execute(Request::Services(Some(key))).unwrap()
        else {
            panic!()
        };
        services[0].stats
    };
    assert_eq!(stats(&mut director).in_packets, 0);
    director.advance(Instant::START + Duration::from_secs(2));
    let counted = stats(&mut director);
    assert_eq!((counted.connections, counted.in_packets, counted.in_octets), (1, 3, 120));
}

/// Every prefix and a thousand single-octet changes of real frames: no panic, and no chunk lost.
#[test]
fn mangled_frames_neither_panic_nor_leak() {
    let mut rng = Rng::new(7);
    for v6 in [false, true] {
        let server = if v6 { "fd00:2::1" } else { "10.2.0.1" };
        for method in [Method::Masquerading, Method::Tunnelling] {
            let mut director = balancing(v6, method, server, 80);
            for flags in [Some(SYN), None] {
                let whole = frame(STATION_0, client(v6), vip(v6), flags, b"payload");
                for length in 0..whole.len() {
                    director.receive(ETH0, &whole[..length]);
                }
                for _ in 0..1000 {
                    let mut mangled = whole.clone();
                    let at = rng.below(mangled.len() as u32) as usize;
                    mangled[at] = rng.next_u32() as u8;
                    director.receive(ETH0, &mangled);
                    if !v6 {
                        // So that more than the header checksum is tried.
                        mangled[24..26].fill(0);
                        let sum = crate::wire::checksum::of(&mangled[14..34]);
                        mangled[24..26].copy_from_slice(&sum.to_be_bytes());
                        director.receive(ETH0, &mangled);
                    }
                    director.take_transmitted();
                }
            }
            // Fragments that wait for the others end.
            director.advance(director.now() + Duration::from_secs(100));
            let _ = director.take_transmitted();
            let port = director.worker.port_mut();
            assert_eq!(port.free_chunks(), port.chunks());
        }
    }
}
