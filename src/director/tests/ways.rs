//! The straight way and the careful one lead to the same: verdicts, octets, counters and the table, for any packets.
//!
//! Two directors get the same packets, in batches, and the same commands; one of them takes the careful way with all.

use super::*;
use crate::base::{Family, Rng};
use crate::command::request::{DaemonRole, DaemonRule};
use crate::conn::ticks;
use crate::forward::parse::ETHERNET_OCTETS;
use crate::service::TunnelChecksum;
use crate::service::local_addresses::LOCAL_PORT_FIRST;
use crate::service::sysctl::Knob;
use crate::wire::checksum;

/// Batches of a run.
const BATCHES: usize = 3000;
const BATCH_MAX: u32 = 24;

/// Clients, each from a port of its own for each service, and from one for all.
const CLIENTS: u32 = 6;

/// Servers of a service that nobody uses, where there are to be more lanes than are near.
const FAR_SERVERS: u16 = 600;

struct Pair {
    straight: Director,
    careful: Director,
    network: Database,
}

impl Pair {
    fn new(rng: &mut Rng, has_far_lanes: bool) -> Self {
        let mut net = NET.to_owned();
        // A narrow link, a server with an own link, a client in the director's own network.
        net.push_str("neigh add 10.0.0.7 lladdr 02:00:00:00:00:07 dev eth0\nroute add 10.1.4.0/24 via 10.0.0.1 dev eth0 mtu 1000\n");
        net.push_str("neigh add fd00:2::2 lladdr 02:00:00:00:02:02 dev eth1\n");
        let mut network = Database::new(&["eth0".to_owned(), "eth1".to_owned()]);
        for line in net_file::parse(&net).unwrap() {
            network.apply(&line).unwrap();
        }
        let [straight, careful] = [(); 2].map(|()| {
            let table = TableConfig { connections_max: 300, bucket_bits: 0 };
            let port = MemoryPort::new(MemoryPortSize { chunk_octets: 4096, chunks: 256 });
            Director::new(table, 4096, port, network.snapshot(), 1)
        });
        let mut pair = Self { straight, careful, network };
        pair.careful.worker.take_care();
        for director in pair.both() {
            director.control_mut().add_local_addresses(&[false, true].map(local)).unwrap();
            director.control_mut().serve_ftp(&[FTP]);
            for (family, v6) in [("-4", false), ("-6", true)] {
                let address = vip(v6).address;
                let rules = format!(
                    "*mangle\n-A PREROUTING -d {address} -p tcp --dport {MARKED} -j MARK --set-mark 7\nCOMMIT\n"
                );
                let words = ["load", family, "-"].map(str::to_owned);
                assert_eq!(director.mark_command(&words, Some(&rules)).unwrap().exit, 0);
            }
        }
        if has_far_lanes {
            let service = rule(Protocol::Udp, endpoint("10.9.0.1", 9));
            pair.execute(&Request::AddService(service.clone()));
            for port in 0..FAR_SERVERS {
                let server = server_rule(endpoint("10.2.0.1", 1000 + port), Method::DirectRouting);
                pair.execute(&Request::AddServer { service: service.key, server });
            }
        }
        for (service, servers) in services() {
            pair.execute(&Request::AddService(service.clone()));
            for server in servers {
                pair.execute(&Request::AddServer { service: service.key, server });
            }
        }
        // Any knob that has a say in what happens to known connections.
        for (knob, values) in [
            (Knob::ExpireNodestConn, &[0, 1][..]),
            (Knob::PmtuDisc, &[0, 1]),
            (Knob::SecureTcp, &[0, 3]),
            (Knob::ConnReuseMode, &[0, 1]),
            (Knob::SloppyTcp, &[0, 1]),
            (Knob::NatIcmpSend, &[0, 1]),
        ] {
            let value = values[rng.below(values.len() as u32) as usize];
            for director in pair.both() {
                director.shared().sysctls.store(knob, value);
                director.control_mut().sysctls_changed();
            }
        }
        pair
    }

    fn both(&mut self) -> [&mut Director; 2] {
        [&mut self.straight, &mut self.careful]
    }

    fn execute(&mut self, request: &Request) {
        let [one, other] = self.both().map(|director| format!("{:?}", director.execute(request.clone())));
        assert_eq!(one, other);
    }

    fn forward(&mut self, frames: &[(InterfaceId, Vec<u8>)], context: &str) {
        let [one, other] = self.both().map(|director| {
            for (interface, frame) in frames {
                assert!(director.worker.port_mut().inject(*interface, frame));
            }
            director.worker.step(director.now);
            let verdicts = director.worker.verdicts().to_vec();
            let servers: Vec<_> = (0..frames.len()).map(|position| director.worker.server_of(position)).collect();
            director.drain();
            let passed = director.take_passed();
            (verdicts, servers, passed, director.take_transmitted(), director.take_sync_sent())
        });
        assert_eq!(one.0, other.0, "verdicts, {context}");
        for (position, (straight, careful)) in one.3.iter().zip(&other.3).enumerate() {
            assert_eq!(straight, careful, "frame {position} that left, {context}");
        }
        assert_eq!(one, other, "{context}");
    }

    fn compare(&mut self, context: &str) {
        let [one, other] = self.both().map(|director| {
            let services = format!("{:?}", director.execute(Request::Services(None)));
            let now = director.now;
            let connections = &director.shared().connections;
            let mut entries = Vec::new();
            for bucket in 0..connections.bucket_count() {
                connections.visit_bucket(bucket, now, |entry| {
                    entries.push(format!(
                        "{:?} {:?} {:?} {:?} {:?} {} {} {}",
                        entry.client(),
                        entry.virtual_service(),
                        entry.destination_endpoint(),
                        entry.flags(),
                        entry.state(),
                        entry.timeout_s(),
                        entry.in_packets(),
                        entry.expires_s(ticks(now)),
                    ));
                });
            }
            let counters = &director.shared().workers[0].counters;
            let drops: Vec<u64> = DropReason::ALL.iter().map(|&reason| counters.drops(reason)).collect();
            (services, entries, drops, counters.transmitted.get(), counters.passed.get())
        });
        assert_eq!(one, other, "{context}");
    }
}

const METHODS: [(Method, Tunnel); 7] = [
    (Method::Masquerading, Tunnel::Ipip),
    (Method::DirectRouting, Tunnel::Ipip),
    (Method::Tunnelling, Tunnel::Ipip),
    (Method::Tunnelling, Tunnel::Gre { checksum: false }),
    (Method::Tunnelling, Tunnel::Gre { checksum: true }),
    (Method::Tunnelling, Tunnel::Gue { port: 6080, checksum: TunnelChecksum::Full }),
    (Method::Tunnelling, Tunnel::Gue { port: 6080, checksum: TunnelChecksum::Remote }),
];

/// Ports of services beside those of [`METHODS`].
const PERSISTENT: u16 = 87;
const PERSISTENT_DIRECT: u16 = 88;
const HIDING: u16 = 89;
const MARKED: u16 = 90;
const FTP: u16 = 91;
/// The first of them, and how many all are.
const FIRST: u16 = 80;
const SERVICES: u16 = FTP + 1 - FIRST;

/// The director's own, towards the servers.
fn local(v6: bool) -> Address {
    endpoint(if v6 { "fd00:2::254" } else { "10.2.0.254" }, 0).address
}

/// Services in which more than the method has a say: persistence, full NAT, marks, FTP.
fn attended_services(v6: bool) -> Vec<(ServiceRule, Vec<ServerRule>)> {
    let servers = |port, method, full_nat| {
        ["1", "2"].map(|last| {
            let address = format!("{}{last}", if v6 { "fd00:2::" } else { "10.2.0." });
            ServerRule { full_nat, ..server_rule(endpoint(&address, port), method) }
        })
    };
    let at = |protocol, port| rule(protocol, Endpoint::new(vip(v6).address, port));
    let mut all = Vec::new();
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        let persistent = |port| ServiceRule { persistent_s: Some(60), ..at(protocol, port) };
        all.push((persistent(PERSISTENT), servers(8080, Method::Masquerading, FullNat::Off).into()));
        let direct = servers(PERSISTENT_DIRECT, Method::DirectRouting, FullNat::Off);
        all.push((persistent(PERSISTENT_DIRECT), direct.into()));
        all.push((at(protocol, HIDING), servers(8080, Method::Masquerading, FullNat::Silent).into()));
    }
    let family = if v6 { Family::V6 } else { Family::V4 };
    let by_mark = ServiceRule { key: ServiceKey::Mark { family, mark: 7 }, ..at(Protocol::Tcp, MARKED) };
    all.push((by_mark, servers(0, Method::DirectRouting, FullNat::Off).into()));
    all.push((at(Protocol::Tcp, FTP), servers(FTP, Method::Masquerading, FullNat::Off).into()));
    all
}

/// A service for each method, family and protocol: its port says which. And some others.
fn services() -> Vec<(ServiceRule, Vec<ServerRule>)> {
    let mut all: Vec<_> = [false, true].into_iter().flat_map(attended_services).collect();
    for v6 in [false, true] {
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            for (number, (method, tunnel)) in METHODS.into_iter().enumerate() {
                let service = rule(protocol, Endpoint::new(vip(v6).address, FIRST + number as u16));
                let servers = ["1", "2"].map(|last| {
                    let address = format!("{}{last}", if v6 { "fd00:2::" } else { "10.2.0." });
                    let port = if method == Method::Masquerading { 8080 } else { FIRST + number as u16 };
                    ServerRule { tunnel, ..server_rule(endpoint(&address, port), method) }
                });
                all.push((service, servers.into()));
            }
        }
    }
    all
}

/// A frame that is sound but for what `spoil` does to it.
fn some_frame(rng: &mut Rng) -> (InterfaceId, Vec<u8>) {
    let (v6, tcp) = (rng.below(2) == 1, rng.below(3) > 0);
    let number = rng.below(u32::from(SERVICES)) as u16;
    let host = rng.below(CLIENTS) + 1;
    let client = match (v6, host) {
        (false, 1) => "10.0.0.7".to_owned(),
        (false, host) => format!("10.1.{host}.1"),
        (true, host) => format!("fd00:1::{host}"),
    };
    let client = endpoint(
        &client,
        match rng.below(40) {
            0 => 0,
            // Two connections of one client's port share a bucket and a tag.
            1..8 => 1024,
            _ => 1025 + number,
        },
    );
    let is_answer = rng.below(3) == 0;
    let server = endpoint(
        &format!("{}{}", if v6 { "fd00:2::" } else { "10.2.0." }, 1 + rng.below(2)),
        if rng.below(4) > 0 { 8080 } else { FIRST + number },
    );
    let (interface, station, source, destination) = match is_answer {
        true if rng.below(6) == 0 => {
            let port = LOCAL_PORT_FIRST + rng.below(60) as u16;
            (ETH1, STATION_1, server, Endpoint::new(local(v6), port))
        }
        true => (ETH1, STATION_1, server, client),
        false => (ETH0, STATION_0, client, Endpoint::new(vip(v6).address, FIRST + number)),
    };
    let flags = *[ACK, ACK, ACK, ACK, SYN, SYN | ACK, 0].get(rng.below(7) as usize).unwrap();
    let octets = match rng.below(8) {
        0 => 1460 - rng.below(60),
        1 => 940 + rng.below(40),
        _ => rng.below(40),
    };
    let mut payload: Vec<u8> = (0..octets).map(|_| rng.next_u32() as u8).collect();
    if FIRST + number == FTP && rng.below(3) == 0 {
        payload = b"PORT 10,1,2,1,4,1\r\n".to_vec();
    }
    let mut frame = frame(station, source, destination, tcp.then_some(flags), &payload);
    let transport = if v6 { 54 } else { 34 };
    if tcp && rng.below(6) == 0 {
        // RST and FIN, which the builder of the frame does not know.
        frame[transport + 13] |= [1, 4][rng.below(2) as usize];
    }
    if rng.below(3) == 0 {
        frame.resize(frame.len().max(60), 0);
    }
    if rng.below(4) == 0 {
        spoil(&mut frame, v6, transport, tcp, rng);
    }
    (interface, frame)
}

/// Changes something that one of the ways may overlook, in half of the cases with a header checksum that holds.
fn spoil(frame: &mut Vec<u8>, v6: bool, transport: usize, tcp: bool, rng: &mut Rng) {
    let checksum_at = transport + if tcp { 16 } else { 6 };
    match rng.below(12) {
        0 => frame[if v6 { 21 } else { 22 }] = rng.below(3) as u8,
        1 => {
            let at = rng.below(frame.len() as u32) as usize;
            frame[at] = rng.next_u32() as u8;
        }
        2 => {
            let at = rng.below(transport as u32 + 20) as usize % frame.len();
            frame[at] ^= 1 << rng.below(8);
        }
        3 => frame.truncate(rng.below(frame.len() as u32) as usize),
        4 => frame.truncate(transport + 20),
        5 => frame[checksum_at..checksum_at + 2].fill(0),
        6 => {
            // What a sender leaves to its hardware.
            let (source, destination) = match v6 {
                false => (Address::v4(u32_at(frame, 26)), Address::v4(u32_at(frame, 30))),
                true => (v6_at(frame, 22), v6_at(frame, 38)),
            };
            let octets = (frame.len() - transport) as u32;
            let length = if v6 { octets } else { u32::from(u16_at(frame, 16)) - 20 };
            let length = if v6 { u32::from(u16_at(frame, 18)) } else { length };
            let sum = checksum::pseudo_header(source, destination, if tcp { 6 } else { 17 }, length).folded();
            frame[checksum_at..checksum_at + 2].copy_from_slice(&sum.to_be_bytes());
        }
        7 => frame[5] ^= 1,
        8 => frame.extend([0; 9]),
        9 if !v6 => frame[20] ^= [0x40, 0x20, 0x80, 0x01][rng.below(4) as usize],
        10 => frame[14] = [0x45, 0x46, 0x60, 0x65, 0x35][rng.below(5) as usize],
        11 => frame[15] = rng.next_u32() as u8,
        _ => frame[if v6 { 19 } else { 17 }] = rng.next_u32() as u8,
    }
    if !v6 && frame.len() >= 34 && rng.below(2) == 0 {
        frame[24..26].fill(0);
        let sum = checksum::of(&frame[ETHERNET_OCTETS..34]);
        frame[24..26].copy_from_slice(&sum.to_be_bytes());
    }
}

fn u16_at(frame: &[u8], at: usize) -> u16 {
    u16::from_be_bytes(frame[at..at + 2].try_into().unwrap())
}

fn u32_at(frame: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(frame[at..at + 4].try_into().unwrap())
}

fn v6_at(frame: &[u8], at: usize) -> Address {
    Address::v6(u128::from_be_bytes(frame[at..at + 16].try_into().unwrap()))
}

/// What can change around a director, each with what undoes it.
const NETWORK: [[&str; 2]; 9] = [
    ["neigh del 10.2.0.1 dev eth1", "neigh add 10.2.0.1 lladdr 02:00:00:00:02:01 dev eth1"],
    ["neigh add 10.2.0.2 lladdr 02:00:00:00:02:09 dev eth1", "neigh add 10.2.0.2 lladdr 02:00:00:00:02:02 dev eth1"],
    ["neigh del fd00:2::1 dev eth1", "neigh add fd00:2::1 lladdr 02:00:00:00:02:01 dev eth1"],
    ["neigh add 10.0.0.1 lladdr 02:00:00:00:00:09 dev eth0", "neigh add 10.0.0.1 lladdr 02:00:00:00:00:01 dev eth0"],
    ["link set eth1 mtu 1280", "link set eth1 mtu 1500"],
    ["link set eth1 address 02:00:00:00:01:fd", "link set eth1 address 02:00:00:00:01:fe"],
    ["addr del 10.9.0.1/32 dev lo", "addr add 10.9.0.1/32 dev lo"],
    ["route add 10.1.3.0/24 via 10.2.0.1 dev eth1", "route del 10.1.3.0/24 via 10.2.0.1 dev eth1"],
    ["addr add 10.1.5.1/32 dev lo", "addr del 10.1.5.1/32 dev lo"],
];

fn change_network(pair: &mut Pair, changed: &mut [bool; NETWORK.len()], rng: &mut Rng) {
    // Most of the time most of it is as it was, or little would be forwarded.
    let number = match changed.iter().position(|&changed| changed) {
        Some(number) if rng.below(4) > 0 => number,
        _ => rng.below(NETWORK.len() as u32) as usize,
    };
    let line = NETWORK[number][usize::from(changed[number])];
    changed[number] = !changed[number];
    for line in net_file::parse(line).unwrap() {
        pair.network.apply(&line).unwrap();
    }
    let snapshots = [(); 2].map(|()| pair.network.snapshot());
    for (director, routes) in pair.both().into_iter().zip(snapshots) {
        director.shared().routes.publish(routes);
        director.control_mut().routes_changed();
        director.shared().changed();
    }
}

fn some_change(pair: &mut Pair, rng: &mut Rng) {
    let services = services();
    let (service, servers) = &services[rng.below(services.len() as u32) as usize];
    let server = servers[rng.below(2) as usize];
    let service = service.key;
    let request = match rng.below(10) {
        0 => Request::DeleteServer { service, server: server.endpoint },
        1..6 => Request::AddServer { service, server },
        6 => Request::EditServer { service, server: ServerRule { weight: rng.below(3) as i32, ..server } },
        7 => {
            let method = [Method::Masquerading, Method::DirectRouting, Method::Tunnelling][rng.below(3) as usize];
            Request::EditServer { service, server: ServerRule { method, ..server } }
        }
        8 => Request::DeleteService(service),
        _ => {
            let (rule, servers) = services.into_iter().find(|(rule, _)| rule.key == service).unwrap();
            pair.execute(&Request::AddService(rule));
            pair.execute(&Request::AddServer { service, server: servers[0] });
            Request::AddServer { service, server: servers[1] }
        }
    };
    pair.execute(&request);
}

fn run(seed: u64) {
    let mut rng = Rng::new(seed);
    let mut pair = Pair::new(&mut rng, seed % 4 == 2);
    let mut changed = [false; NETWORK.len()];
    for batch in 0..BATCHES {
        let context = format!("seed {seed} batch {batch}");
        let count = 1 + rng.below(BATCH_MAX);
        let mut frames: Vec<_> = (0..count).map(|_| some_frame(&mut rng)).collect();
        if rng.below(3) == 0 {
            // The same again: a batch that has a connection's first packet and its next ones.
            frames.extend_from_within(..);
        }
        pair.forward(&frames, &context);
        if rng.below(60) == 0 {
            some_change(&mut pair, &mut rng);
        }
        if rng.below(60) == 0 {
            change_network(&mut pair, &mut changed, &mut rng);
        }
        if rng.below(10) == 0 {
            let step = Duration::from_millis([1, 300, 9000, 70_000][rng.below(4) as usize]);
            for director in pair.both() {
                let until = director.now + step;
                director.advance(until);
            }
        }
        if rng.below(50) == 0 {
            pair.compare(&context);
        }
        if batch == BATCHES / 2 && seed % 2 == 1 {
            let interface = "eth0".to_owned();
            let role = DaemonRole::Master;
            let rule = DaemonRule { role, interface, syncid: 5, sync_maxlen: 0, group: None, port: 0, ttl: 0 };
            pair.execute(&Request::StartDaemon(rule));
        }
    }
    pair.compare(&format!("seed {seed} in the end"));
    let [straight, careful] = pair.both().map(|director| director.shared().workers[0].counters.straight.get());
    assert_eq!(careful, 0);
    assert!(straight > BATCHES as u64 / 2, "the straight way was taken {straight} times");
}

#[test]
fn both_ways_lead_to_the_same() {
    let seeds = std::env::var("LVX_SEEDS").ok().and_then(|word| word.parse().ok()).unwrap_or(8);
    for seed in 0..seeds {
        run(seed);
    }
}
