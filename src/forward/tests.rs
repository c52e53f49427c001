//! The pipeline over frames in memory.

use std::sync::Arc;

use super::*;
use crate::base::{Address, Endpoint, Instant, InterfaceId, Lock, Rng};
use crate::conn::TableConfig;
use crate::port::memory::{MemoryPort, MemoryPortSize};
use crate::port::{BATCH_FRAMES, Port};
use crate::route::{Database, net_file};
use crate::sched;
use crate::service::scheduler::Scheduling;
use crate::service::{
    DestinationId, Method, Protocol, SchedulerFlags, Service, ServiceId, ServiceKey, Services, Tunnel,
};
use crate::wire::checksum::{self, Update};

const NET: &str = "\
link add eth0 address 02:00:00:00:00:fe mtu 1500
link add eth1 address 02:00:00:00:01:fe mtu 1500
addr add 10.1.0.254/24 dev eth0
addr add 10.2.0.254/24 dev eth1
addr add 10.9.0.1/32 dev lo
neigh add 10.1.0.2 lladdr 02:00:00:00:00:02 dev eth0
neigh add 10.2.0.2 lladdr 02:00:00:00:02:02 dev eth1
";

const SYN: u8 = 0x02;
const ACK: u8 = 0x10;

struct Bench {
    forwarder: Forwarder,
    port: MemoryPort,
    now: Instant,
}

impl Bench {
    /// One TCP service with one real server by `method`.
    fn new(method: Method) -> Self {
        let mut database = Database::new(&["eth0".to_string(), "eth1".to_string()]);
        for line in &net_file::parse(NET).unwrap() {
            database.apply(line).unwrap();
        }
        let table = TableConfig { connections_max: 1024, bucket_bits: 4 };
        let shared = Arc::new(Shared::new(1, table, database.snapshot(), &mut Rng::new(1)));
        let mut scheduling = Scheduling::new(
            sched::by_name("rr", &sched::Context::default()),
            SchedulerFlags::default(),
            &shared.destinations,
        );
        let id = DestinationId(1);
        let destination = shared.destinations.make(id);
        destination.assign(ServiceId(1), Endpoint::new("10.2.0.2".parse().unwrap(), 8080));
        destination.configure(method, Tunnel::Ipip, 1, 0, 0);
        destination.set_available(ServiceId(1), true);
        scheduling.add(&shared.destinations, id);
        let endpoint = Endpoint::new("10.9.0.1".parse().unwrap(), 80);
        shared.services.publish(Services::new([Service {
            id: ServiceId(1),
            key: ServiceKey::Address { protocol: Protocol::Tcp, endpoint },
            persistence: None,
            engine: None,
            one_packet: false,
            scheduling: Arc::new(Lock::new(scheduling)),
        }]));
        let mut forwarder = Forwarder::new(shared, 0);
        forwarder.adopt();
        let port = MemoryPort::new(MemoryPortSize { chunk_octets: 2048, chunks: 4 * BATCH_FRAMES as u32 });
        forwarder.hold_fragments_of(&port);
        Self { forwarder, port, now: Instant::from_seconds(1) }
    }

    /// Takes frames of the clients' side through as one batch.
    fn run(&mut self, frames: &[Vec<u8>]) -> Vec<Verdict> {
        let mut batch = Vec::new();
        for frame in frames {
            assert!(self.port.inject(InterfaceId(0), frame));
        }
        self.port.receive(&mut batch);
        assert_eq!(batch.len(), frames.len());
        self.forwarder.process(&mut self.port, &mut batch, self.now);
        assert!(batch.is_empty());
        self.forwarder.verdicts().to_vec()
    }
}

/// A TCP segment of a client to the virtual service.
fn segment(port: u16, ttl: u8, flags: u8) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 0xfe, 2, 0, 0, 0, 0, 2, 8, 0];
    frame.extend([0x45, 0, 0, 40, 0, 1, 0x40, 0, ttl, 6, 0, 0, 10, 1, 0, 2, 10, 9, 0, 1]);
    frame.extend(port.to_be_bytes());
    frame.extend([0, 80, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, flags, 0x20, 0, 0, 0, 0, 0]);
    let sum = checksum::of(&frame[14..34]);
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
    let sum = transport_sum(&frame);
    frame[50..52].copy_from_slice(&sum.to_be_bytes());
    frame
}

/// What makes the transport checksum of a plain IPv4 frame right; 0 when it is.
fn transport_sum(frame: &[u8]) -> u16 {
    let address = |at: usize| Address::v4(u32::from_be_bytes(frame[at..at + 4].try_into().unwrap()));
    let end = 14 + usize::from(u16::from_be_bytes([frame[16], frame[17]]));
    let pseudo = checksum::pseudo_header(address(26), address(30), frame[23], end as u32 - 34);
    pseudo.add_bytes(&frame[34..end]).checksum()
}

#[test]
fn a_known_flow_leaves_by_its_method() {
    for (method, destination, port) in
        [(Method::DirectRouting, [10, 9, 0, 1], 80), (Method::Masquerading, [10, 2, 0, 2], 8080u16)]
    {
        let mut bench = Bench::new(method);
        let verdicts = bench.run(&[segment(1025, 64, SYN), segment(1025, 64, ACK), segment(1025, 64, ACK)]);
        assert_eq!(verdicts, [Verdict::Transmit(InterfaceId(1)); 3]);
        for (interface, sent) in bench.port.take_transmitted() {
            assert_eq!(interface, InterfaceId(1));
            assert_eq!(sent[..14], [2, 0, 0, 0, 2, 2, 2, 0, 0, 0, 1, 0xfe, 8, 0]);
            assert_eq!((sent[22], &sent[30..34], &sent[36..38]), (63, &destination[..], &port.to_be_bytes()[..]));
            assert_eq!((checksum::of(&sent[14..34]), transport_sum(&sent)), (0, 0));
        }
        let counters = bench.forwarder.counters().destination(DestinationId(1));
        let counts = (counters.connections.get(), counters.in_packets.get(), counters.in_octets.get());
        assert_eq!(counts, (1, 3, 120));
        assert_eq!(bench.forwarder.counters().transmitted.get(), 3);
    }
}

#[test]
fn a_ttl_that_runs_out_is_answered() {
    let mut bench = Bench::new(Method::DirectRouting);
    let verdicts = bench.run(&[segment(1025, 2, SYN), segment(1025, 1, ACK), segment(1025, 2, ACK)]);
    let sent = Verdict::Transmit(InterfaceId(1));
    assert_eq!(verdicts, [sent, Verdict::Drop(DropReason::TimeExceeded), sent]);
    let answers = bench.port.take_transmitted().filter(|(interface, _)| *interface == InterfaceId(0));
    assert_eq!(answers.map(|(_, answer)| (answer[23], answer[34])).collect::<Vec<_>>(), [(1, 11)]);
}

/// A path is kept; a change of the destination, and new routes, end it.
#[test]
fn a_path_follows_its_destination_and_the_routes() {
    let mut bench = Bench::new(Method::DirectRouting);
    let sent = Verdict::Transmit(InterfaceId(1));
    assert_eq!(bench.run(&[segment(1025, 64, SYN)]), [sent]);
    let shared = Arc::clone(bench.forwarder.shared());
    let destination = shared.destinations.get(DestinationId(1));
    destination.assign(ServiceId(1), Endpoint::new("10.3.0.2".parse().unwrap(), 80));
    assert_eq!(bench.run(&[segment(1025, 64, ACK)]), [Verdict::Drop(DropReason::NoRoute)]);
    destination.assign(ServiceId(1), Endpoint::new("10.2.0.2".parse().unwrap(), 80));
    assert_eq!(bench.run(&[segment(1025, 64, ACK)]), [sent]);
    shared.routes.publish(Database::new(&["eth0".to_string(), "eth1".to_string()]).snapshot());
    bench.forwarder.adopt();
    // No interface, no station: nothing is the director's any more.
    assert_eq!(bench.run(&[segment(1025, 64, ACK)]), [Verdict::Pass]);
}

/// A segment of 1000 octets more.
fn long_segment(port: u16, flags: u8) -> Vec<u8> {
    let mut frame = segment(port, 64, flags);
    frame.resize(frame.len() + 1000, 7);
    frame[16..18].copy_from_slice(&1040u16.to_be_bytes());
    frame[24..26].fill(0);
    let sum = checksum::of(&frame[14..34]);
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
    frame
}

/// What one worker has learned of a path counts for packets after that, for ten minutes.
#[test]
fn a_learned_path_mtu_narrows_a_tunnel_until_it_ends() {
    let mut bench = Bench::new(Method::Tunnelling);
    let sent = Verdict::Transmit(InterfaceId(1));
    assert_eq!(bench.run(&[long_segment(1025, SYN), long_segment(1025, ACK)]), [sent; 2]);
    let shared = Arc::clone(bench.forwarder.shared());
    shared.path_mtus.learn("10.2.0.2".parse().unwrap(), 1000, 1500, bench.now);
    assert_eq!(bench.run(&[long_segment(1025, ACK)]), [Verdict::Drop(DropReason::TooBig)]);
    let answers: Vec<_> = bench.port.take_transmitted().filter(|(interface, _)| *interface == InterfaceId(0)).collect();
    assert_eq!(answers[0].1[34..36], [3, 4]);
    assert_eq!(answers[0].1[40..42], 980u16.to_be_bytes());
    assert_eq!(bench.run(&[segment(1025, 64, ACK)]), [sent], "small ones go on");
    bench.now = bench.now + path_mtu::PATH_MTU_LIFETIME;
    assert_eq!(bench.run(&[long_segment(1026, SYN), long_segment(1026, ACK)]), [sent; 2]);
}

/// An error about a tunnel's packet: the client is told, the path narrows; with another server in it, it is the host's.
#[test]
fn an_error_about_a_tunnel_packet_reaches_the_client() {
    let mut bench = Bench::new(Method::Tunnelling);
    bench.run(&[segment(1025, 64, SYN)]);
    let outer = bench.port.take_transmitted().next().unwrap().1.split_off(14);
    let error = |quoted: &[u8]| {
        let message = [&[3, 4, 0, 0, 0, 0, 0x03, 0xe8], quoted].concat();
        let mut frame = vec![2, 0, 0, 0, 0, 0xfe, 2, 0, 0, 0, 0, 2, 8, 0];
        frame.extend([0x45, 0, 0, (20 + message.len()) as u8, 0, 1, 0, 0, 64, 1, 0, 0, 10, 2, 0, 77, 10, 2, 0, 254]);
        frame.extend(message);
        for (field, part) in [(24, 14..34), (36, 34..frame.len())] {
            let sum = checksum::of(&frame[part]);
            frame[field..field + 2].copy_from_slice(&sum.to_be_bytes());
        }
        frame
    };
    let mut other = outer.clone();
    other[19] = 3;
    assert_eq!(bench.run(&[error(&other)]), [Verdict::Pass]);
    let mut broken = error(&outer);
    broken[36] ^= 1;
    assert_eq!(bench.run(&[broken]), [Verdict::Drop(DropReason::IcmpChecksum)]);
    let shared = Arc::clone(bench.forwarder.shared());
    assert_eq!(shared.path_mtus.find("10.2.0.2".parse().unwrap()), None);

    assert_eq!(bench.run(&[error(&outer)]), [Verdict::Drop(DropReason::TunnelError)]);
    assert_eq!(shared.path_mtus.find("10.2.0.2".parse().unwrap()), Some(1000));
    let (interface, answer) = bench.port.take_transmitted().next().unwrap();
    assert_eq!(
        (interface, &answer[30..36], &answer[40..42]),
        (InterfaceId(0), &[10, 1, 0, 2, 3, 4][..], &[5, 0xc8][..])
    );
    assert_eq!(answer[42..], outer[20..], "it quotes the packet inside");
    assert_eq!(bench.forwarder.counters().destination(DestinationId(1)).out_packets.get(), 1);
}

/// A source route is refused where a service would take the packet; options that the host must complain of are its own.
#[test]
fn options_decide_where_a_packet_ends() {
    let with_options = |options: [u8; 8], to: u8| {
        let mut frame = segment(1025, 64, SYN);
        frame.splice(34..34, options);
        (frame[14], frame[17], frame[33]) = (0x47, 48, to);
        frame[24..26].fill(0);
        let sum = checksum::of(&frame[14..42]);
        frame[24..26].copy_from_slice(&sum.to_be_bytes());
        frame
    };
    let mut bench = Bench::new(Method::DirectRouting);
    let route = [131, 7, 4, 10, 9, 0, 5, 0];
    let verdicts =
        bench.run(&[with_options(route, 1), with_options(route, 9), with_options([7, 9, 4, 0, 0, 0, 0, 0], 1)]);
    assert_eq!(verdicts, [Verdict::Drop(DropReason::SourceRoute), Verdict::Pass, Verdict::Pass]);
    assert_eq!(bench.run(&[with_options([7, 7, 4, 0, 0, 0, 0, 0], 1)]), [Verdict::Transmit(InterfaceId(1))]);
    let sent = bench.port.take_transmitted().next().unwrap().1;
    assert_eq!(sent[34..42], [7, 7, 8, 10, 9, 0, 1, 0]);
    assert_eq!(checksum::of(&sent[14..42]), 0);
}

/// Slots stay from batch to batch; a frame without a packet must not be taken for the one before it.
#[test]
fn slots_keep_nothing_of_earlier_frames() {
    let mut bench = Bench::new(Method::Masquerading);
    let mut partial = segment(1025, 64, SYN);
    partial[50..52].copy_from_slice(&[0, 0]);
    let pseudo = transport_sum(&[&partial[..34], &[0; 20]].concat());
    partial[50..52].copy_from_slice(&(!pseudo).to_be_bytes());
    assert_eq!(bench.run(&[partial]), [Verdict::Transmit(InterfaceId(1))]);
    let sent: Vec<_> = bench.port.take_transmitted().collect();
    assert_eq!(transport_sum(&sent[0].1), 0, "a partial checksum is completed");

    let mut foreign = segment(1025, 64, ACK);
    foreign[12..14].copy_from_slice(&[0x88, 0xcc]);
    let mut other = segment(1025, 64, ACK);
    other[23] = 47;
    let sum = Update::new(u16::from_be_bytes([other[24], other[25]])).remove_u16(0x4006).add_u16(0x402f).finish();
    other[24..26].copy_from_slice(&sum.to_be_bytes());
    for (frame, verdict) in [
        (foreign.clone(), Verdict::Pass),
        (other, Verdict::Pass),
        (vec![0; 5], Verdict::Pass),
        (segment(1025, 64, ACK)[..40].to_vec(), Verdict::Drop(DropReason::Malformed)),
    ] {
        assert_eq!(bench.run(std::slice::from_ref(&frame)), [verdict]);
        for (_, passed) in bench.port.take_passed() {
            assert_eq!(passed, frame, "octets that are not understood survive");
        }
    }
    assert_eq!(bench.port.free_chunks(), bench.port.chunks());
}

/// Octets changed at random: no panic, one verdict a frame, all counted, and no chunk lost.
#[test]
fn arbitrary_frames_leave_by_one_verdict_each() {
    for method in [Method::Masquerading, Method::DirectRouting, Method::Tunnelling] {
        let (mut bench, mut rng) = (Bench::new(method), Rng::new(7));
        let mut frames_in = 0;
        for _ in 0..400 {
            let frames: Vec<Vec<u8>> = (0..1 + rng.below(BATCH_FRAMES as u32))
                .map(|_| {
                    let flags = [SYN, ACK][rng.below(2) as usize];
                    let mut frame = segment(1024 + rng.below(40) as u16, rng.below(4) as u8, flags);
                    for _ in 0..rng.below(4) {
                        let at = rng.below(frame.len() as u32) as usize;
                        frame[at] = rng.next_u32() as u8;
                    }
                    if rng.below(3) == 0 {
                        // Reach what lies behind the header's checksum.
                        frame[24..26].fill(0);
                        let sum = checksum::of(&frame[14..34]);
                        frame[24..26].copy_from_slice(&sum.to_be_bytes());
                    }
                    if rng.below(5) == 0 {
                        frame.truncate(rng.below(frame.len() as u32) as usize);
                    }
                    frame
                })
                .collect();
            frames_in += frames.len() as u64;
            assert_eq!(bench.run(&frames).len(), frames.len());
            bench.now = bench.now + crate::base::Duration::from_millis(50);
            bench.forwarder.expire(&mut bench.port, bench.now);
            let _ = (bench.port.take_transmitted().count(), bench.port.take_passed().count());
            assert_eq!(bench.port.free_chunks() + bench.forwarder.reassembly.held(), bench.port.chunks());
        }
        let held = bench.forwarder.reassembly.held() as u64;
        let counters = bench.forwarder.counters();
        let joined = counters.fragments_joined.get() - counters.reassembled.get();
        let dropped: u64 = DropReason::ALL.iter().map(|&reason| counters.drops(reason)).sum();
        assert_eq!(counters.received.get(), frames_in);
        assert_eq!(counters.transmitted.get() + counters.passed.get() + dropped + held + joined, frames_in);
        assert!(counters.transmitted.get() > frames_in / 10, "many get through");
    }
}
