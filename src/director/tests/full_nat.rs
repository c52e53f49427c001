//! Full NAT: both ends of each packet exchanged, and back; what servers learn of clients; what runs out.

use super::*;
use crate::base::Rng;
use crate::command::request::Refusal;
use crate::service::local_addresses::LOCAL_PORT_FIRST;

const PSH: u8 = 0x08;
const FIN: u8 = 0x01;

fn local(v6: bool) -> Address {
    // The director's own, towards the servers.
    endpoint(if v6 { "fd00:2::254" } else { "10.2.0.254" }, 0).address
}

fn server_of(v6: bool) -> Endpoint {
    endpoint(if v6 { "fd00:2::1" } else { "10.2.0.1" }, 8080)
}

fn balanced(v6: bool, full_nat: FullNat) -> Director {
    let mut director = director();
    director.control_mut().add_local_addresses(&[local(v6)]).unwrap();
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        let service = rule(protocol, vip(v6));
        let key = service.key;
        director.execute(Request::AddService(service)).unwrap();
        let full_nat = if protocol == Protocol::Tcp { full_nat } else { FullNat::Silent };
        director.execute(Request::AddServer { service: key, server: hiding(v6, full_nat) }).unwrap();
    }
    director
}

fn hiding(v6: bool, full_nat: FullNat) -> ServerRule {
    ServerRule { full_nat, ..server_rule(server_of(v6), Method::Masquerading) }
}

/// A TCP segment with everything that counts here.
fn segment(
    station: [u8; 6],
    (source, destination): (Endpoint, Endpoint),
    (sequence, acknowledged): (u32, u32),
    flags: u8,
    payload: &[u8],
) -> Vec<u8> {
    let builder = between(station, source, destination);
    let mut tcp = builder.tcp(source.port, destination.port, sequence, 1000);
    if flags & SYN != 0 {
        tcp = tcp.syn();
    }
    if flags & ACK != 0 {
        tcp = tcp.ack(acknowledged);
    }
    if flags & PSH != 0 {
        tcp = tcp.psh();
    }
    if flags & FIN != 0 {
        tcp = tcp.fin();
    }
    let mut bytes = Vec::new();
    tcp.write(&mut bytes, payload).unwrap();
    bytes
}

/// The same with one more option, a timestamp, in front of the payload.
fn with_timestamp(frame: &[u8]) -> Vec<u8> {
    const OPTION: [u8; 12] = [1, 1, 8, 10, 0, 0, 0, 7, 0, 0, 0, 9];
    let mut bytes = [&frame[..54], &OPTION, &frame[54..]].concat();
    bytes[16..18].copy_from_slice(&((frame.len() - 14 + 12) as u16).to_be_bytes());
    bytes[24..26].fill(0);
    let sum = crate::wire::checksum::of(&bytes[14..34]);
    bytes[24..26].copy_from_slice(&sum.to_be_bytes());
    bytes[46] = 8 << 4;
    let (from, to) = (u32::from_be_bytes(bytes[26..30].try_into().unwrap()), &bytes[30..34]);
    let to = u32::from_be_bytes(to.try_into().unwrap());
    let octets = bytes.len() as u32 - 34;
    let pseudo = crate::wire::checksum::pseudo_header(Address::v4(from), Address::v4(to), 6, octets);
    let sum = crate::wire::checksum::transport(pseudo, &bytes[34..], 16);
    bytes[50..52].copy_from_slice(&sum.to_be_bytes());
    bytes
}

/// What left the director: who to whom, numbers, options, payload.
#[derive(Debug, PartialEq)]
struct Seen {
    source: Endpoint,
    destination: Endpoint,
    numbers: (u32, u32),
    options: Vec<u8>,
    payload: Vec<u8>,
}

fn seen(frame: &[u8]) -> Seen {
    assert!(is_sound(frame));
    let sliced = SlicedPacket::from_ethernet(frame).unwrap();
    let (from, to): (IpAddr, IpAddr) = match sliced.net.as_ref().unwrap() {
        etherparse::NetSlice::Ipv4(ip) => (ip.header().source_addr().into(), ip.header().destination_addr().into()),
        etherparse::NetSlice::Ipv6(ip) => (ip.header().source_addr().into(), ip.header().destination_addr().into()),
        etherparse::NetSlice::Arp(_) => panic!("ARP"),
    };
    let Some(TransportSlice::Tcp(tcp)) = sliced.transport else { panic!("no TCP") };
    Seen {
        source: Endpoint::new(from.into(), tcp.source_port()),
        destination: Endpoint::new(to.into(), tcp.destination_port()),
        numbers: (tcp.sequence_number(), tcp.acknowledgment_number()),
        options: tcp.options().to_vec(),
        payload: tcp.payload().to_vec(),
    }
}

fn carry_all(director: &mut Director, from: InterfaceId, frame: &[u8]) -> Vec<Seen> {
    let verdict = director.receive(from, frame);
    assert!(matches!(verdict, Some(Verdict::Transmit(_))), "{verdict:?}");
    director.take_transmitted().iter().map(|(_, frame)| seen(frame)).collect()
}

fn carry(director: &mut Director, from: InterfaceId, frame: &[u8]) -> Seen {
    let mut all = carry_all(director, from, frame);
    assert_eq!(all.len(), 1);
    all.remove(0)
}

/// The handshake; where the server sees its client.
fn open(director: &mut Director, v6: bool, client: Endpoint) -> Endpoint {
    let (vip, server) = (vip(v6), server_of(v6));
    let first = carry(director, ETH0, &segment(STATION_0, (client, vip), (1000, 0), SYN, b""));
    assert_eq!((first.destination, first.numbers.0, first.source.address), (server, 1000, local(v6)));
    assert!(first.source.port >= LOCAL_PORT_FIRST);
    let answer = carry(director, ETH1, &segment(STATION_1, (server, first.source), (5000, 1001), SYN | ACK, b""));
    assert_eq!((answer.source, answer.destination, answer.numbers), (vip, client, (5000, 1001)));
    first.source
}

#[test]
fn both_ends_are_exchanged_and_back() {
    for v6 in [false, true] {
        let mut director = balanced(v6, FullNat::Silent);
        let (client, vip, server) = (client(v6), vip(v6), server_of(v6));
        let local = open(&mut director, v6, client);
        let there = carry(&mut director, ETH0, &segment(STATION_0, (client, vip), (1001, 5001), ACK | PSH, b"GET"));
        assert_eq!((there.source, there.destination, &there.payload[..]), (local, server, &b"GET"[..]));
        let back = carry(&mut director, ETH1, &segment(STATION_1, (server, local), (5001, 1004), ACK | PSH, b"200"));
        assert_eq!((back.source, back.destination, &back.payload[..]), (vip, client, &b"200"[..]));
        assert_eq!((back.numbers, back.options), ((5001, 1004), vec![]));

        let Ok(Response::Connections(rows)) = director.execute(Request::Connections) else { panic!() };
        assert_eq!(rows.len(), 1, "the alias is nobody's connection");
        assert_eq!((rows[0].client, rows[0].destination, &rows[0].state[..]), (client, server, "ESTABLISHED"));

        let datagram = frame(STATION_0, client, vip, None, b"ask");
        assert_eq!(director.receive(ETH0, &datagram), Some(Verdict::Transmit(ETH1)));
        let (_, out) = sent(&mut director);
        assert!(is_sound(&out));
    }
}

#[test]
fn an_option_names_the_client_until_it_has_heard_the_server() {
    for v6 in [false, true] {
        let mut director = balanced(v6, FullNat::Toa);
        let (client, vip, server) = (client(v6), vip(v6), server_of(v6));
        let local = open(&mut director, v6, client);
        let mut option = vec![254, if v6 { 20 } else { 8 }];
        option.extend(client.port.to_be_bytes());
        match client.address.to_ip() {
            IpAddr::V4(address) => option.extend(address.octets()),
            IpAddr::V6(address) => option.extend(address.octets()),
        }
        for payload in [&b""[..], b"GET", b"odd"] {
            let there = carry(&mut director, ETH0, &segment(STATION_0, (client, vip), (1001, 5001), ACK, payload));
            assert_eq!((&there.options, &there.payload[..]), (&option, payload));
            assert_eq!(there.numbers, (1001, 5001));
        }
        let back = carry(&mut director, ETH1, &segment(STATION_1, (server, local), (5001, 1004), ACK, b"200"));
        assert_eq!(back.options, Vec::<u8>::new());
        let there = carry(&mut director, ETH0, &segment(STATION_0, (client, vip), (1004, 5004), ACK, b"more"));
        assert_eq!(there.options, Vec::<u8>::new(), "the server has been heard");
        // One that fills the link has no room for it, and need not have.
        let full = segment(STATION_0, (client, vip), (1001, 5001), ACK, &vec![7; if v6 { 1440 } else { 1460 }]);
        assert_eq!(carry(&mut director, ETH0, &full).options, Vec::<u8>::new());
    }
}

#[test]
fn a_header_names_the_client_before_its_stream() {
    for v6 in [false, true] {
        let mut director = balanced(v6, FullNat::Proxy);
        let (client, vip, server) = (client(v6), vip(v6), server_of(v6));
        let octets: u32 = if v6 { 52 } else { 28 };
        let local = open(&mut director, v6, client);
        let greeting = segment(STATION_0, (client, vip), (1001, 5001), ACK, b"");
        // Twice: the header may have been lost.
        for _ in 0..2 {
            let header = carry(&mut director, ETH0, &greeting);
            assert_eq!((header.source, header.destination, header.numbers), (local, server, (1001, 5001)));
            assert_eq!(header.payload.len(), octets as usize);
            assert_eq!(
                header.payload[..14],
                if v6 { *b"\r\n\r\n\0\r\nQUIT\n\x21\x21" } else { *b"\r\n\r\n\0\r\nQUIT\n\x21\x11" }
            );
            assert!(header.payload.ends_with(&[client.port.to_be_bytes(), vip.port.to_be_bytes()].concat()));
        }
        // A segment with something of its own follows it.
        let both = carry_all(&mut director, ETH0, &segment(STATION_0, (client, vip), (1001, 5001), ACK, b"GET"));
        let [header, own] = &both[..] else { panic!("{both:?}") };
        assert_eq!((header.numbers, header.payload.len()), ((1001, 5001), octets as usize));
        assert_eq!((own.numbers, &own.payload[..]), ((1001 + octets, 5001), &b"GET"[..]));
        if !v6 {
            let last = segment(STATION_0, (client, vip), (1001, 5001), ACK | FIN, b"");
            let both = carry_all(&mut director, ETH0, &with_timestamp(&last));
            let [header, own] = &both[..] else { panic!("{both:?}") };
            assert_eq!(
                (header.options.len(), &header.options),
                (12, &own.options),
                "receivers may insist on timestamps"
            );
            assert_eq!((header.payload.len(), own.payload.len()), (octets as usize, 0));
        }
        // What of the header has arrived is no news to the client.
        for (heard, told) in [(1001, 1001), (1001 + 5, 1001), (1001 + octets, 1001), (1001 + octets + 3, 1004)] {
            let back = carry(&mut director, ETH1, &segment(STATION_1, (server, local), (5001, heard), ACK, b"200"));
            assert_eq!((back.numbers, back.destination), ((5001, told), client));
        }
        let there = carry(&mut director, ETH0, &segment(STATION_0, (client, vip), (1001, 5004), ACK | PSH, b"GET"));
        assert_eq!(there.numbers, (1001 + octets, 5004), "the header has arrived");
        let last = carry(&mut director, ETH0, &segment(STATION_0, (client, vip), (1004, 5004), ACK | FIN, b""));
        assert_eq!(last.numbers, (1004 + octets, 5004));
    }
}

/// A client that has sent gigabytes hears what it has sent, and no SYN but one that the server takes counts.
#[test]
fn numbers_stay_right_however_long_a_stream_is_and_whoever_sends_a_syn() {
    let mut director = balanced(false, FullNat::Proxy);
    let (client, vip, server) = (client(false), vip(false), server_of(false));
    let local = open(&mut director, false, client);
    let octets = 28;
    let acknowledge = |director: &mut Director, number: u32| {
        carry(director, ETH1, &segment(STATION_1, (server, local), (5001, number), ACK, b"")).numbers.1
    };
    assert_eq!(acknowledge(&mut director, 1001 + octets), 1001);
    for behind in [1, (1 << 31) - 1, 1 << 31, 3 << 30, u32::MAX] {
        let number = 1001_u32.wrapping_add(octets).wrapping_add(behind);
        assert_eq!(acknowledge(&mut director, number), 1001_u32.wrapping_add(behind), "{behind}");
    }
    // The server answers a SYN out of place by acknowledging what it has.
    carry(&mut director, ETH0, &segment(STATION_0, (client, vip), (77, 0), SYN, b""));
    assert_eq!(acknowledge(&mut director, 1001 + octets + 9), 1010);
    // One that it takes begins the stream anew, header and all.
    let answer = segment(STATION_1, (server, local), (9000, 78), SYN | ACK, b"");
    assert_eq!(carry(&mut director, ETH1, &answer).numbers, (9000, 78));
    let first = segment(STATION_0, (client, vip), (78, 9001), ACK | PSH, b"GET");
    let both: Vec<_> = carry_all(&mut director, ETH0, &first).iter().map(|seen| seen.numbers.0).collect();
    assert_eq!(both, [78, 78 + octets]);
    assert_eq!(acknowledge(&mut director, 78 + octets + 3), 81);
}

#[test]
fn errors_cross_in_both_directions() {
    let mut director = balanced(false, FullNat::Silent);
    let (client, vip, server) = (client(false), vip(false), server_of(false));
    let local = open(&mut director, false, client);
    let error = |quoted: &[u8], from: Endpoint, to: Endpoint, station| {
        let (IpAddr::V4(from), IpAddr::V4(to)) = (from.address.to_ip(), to.address.to_ip()) else { panic!() };
        let icmp = etherparse::Icmpv4Type::DestinationUnreachable(
            etherparse::icmpv4::DestUnreachableHeader::FragmentationNeeded { next_hop_mtu: 1300 },
        );
        let builder = PacketBuilder::ethernet2(ROUTER, station).ipv4(from.octets(), to.octets(), 64).icmpv4(icmp);
        let mut bytes = Vec::new();
        builder.write(&mut bytes, &quoted[14..14 + 28]).unwrap();
        bytes
    };
    let quoted = |frame: &[u8]| {
        let sliced = SlicedPacket::from_ethernet(frame).unwrap();
        let Some(etherparse::NetSlice::Ipv4(ip)) = &sliced.net else { panic!() };
        let (from, to) = (ip.header().source_addr(), ip.header().destination_addr());
        let inner = &ip.payload().payload[8..];
        let address = |at: usize| Address::v4(u32::from_be_bytes(inner[at..at + 4].try_into().unwrap()));
        let port = |at: usize| u16::from_be_bytes([inner[at], inner[at + 1]]);
        let ends = (Endpoint::new(address(12), port(20)), Endpoint::new(address(16), port(22)));
        (Address::from(from), Address::from(to), ends)
    };
    // A router behind the director complains of what went to the server: the client hears it from the service.
    let sent_there = segment(STATION_1, (local, server), (1001, 5001), ACK, b"");
    let complaint = error(&sent_there, endpoint("10.2.0.2", 0), local, STATION_1);
    assert_eq!(director.receive(ETH1, &complaint), Some(Verdict::Transmit(ETH0)));
    let (_, out) = sent(&mut director);
    assert_eq!(quoted(&out), (vip.address, client.address, (client, vip)));

    // One before the director complains of what went to the client: the server hears it from the local address.
    let sent_back = segment(STATION_0, (vip, client), (5001, 1001), ACK, b"");
    let complaint = error(&sent_back, endpoint("10.0.0.1", 0), vip, STATION_0);
    assert_eq!(director.receive(ETH0, &complaint), Some(Verdict::Transmit(ETH1)));
    let (_, out) = sent(&mut director);
    assert_eq!(quoted(&out), (local.address, server.address, (server, local)));
}

/// Endpoints go round: two clients never share one, and none is left over when connections end.
#[test]
fn no_two_connections_share_a_port_and_all_come_back() {
    let mut director = balanced(false, FullNat::Silent);
    let vip = vip(false);
    let mut ports = std::collections::BTreeSet::new();
    for number in 0..100 {
        let client = endpoint("10.1.0.7", 10_000 + number);
        let first = carry(&mut director, ETH0, &segment(STATION_0, (client, vip), (1, 0), SYN, b""));
        assert!(ports.insert(first.source), "{:?} twice", first.source);
    }
    assert_eq!(director.shared().connections.used().0, 200, "an alias each");
    let later = director.now() + Duration::from_secs(400);
    director.advance(later);
    assert_eq!(director.shared().connections.used().0, 0);
}

/// Long-lived connections have the ports that they got, one beside the other: that is no reason to refuse a client.
#[test]
fn a_row_of_ports_in_use_is_stepped_over() {
    let mut director = balanced(false, FullNat::Silent);
    let open = |director: &mut Director, number: u16| {
        let syn = segment(STATION_0, (endpoint("10.1.0.7", 10_000 + number), vip(false)), (1, 0), SYN, b"");
        carry(director, ETH0, &syn).source
    };
    let first = open(&mut director, 0);
    for port in 1..=300 {
        let port = (first.port - LOCAL_PORT_FIRST + port) % (u16::MAX - LOCAL_PORT_FIRST + 1) + LOCAL_PORT_FIRST;
        let local = Endpoint::new(first.address, port);
        let connections = &director.shared().connections;
        let reservation = connections.reserve(Protocol::Tcp, local, server_of(false), FullNat::Silent, director.now());
        assert!(matches!(reservation, crate::conn::Reservation::Made(_)));
    }
    for number in 1..=100 {
        open(&mut director, number);
    }
}

#[test]
fn what_is_not_a_connections_is_the_hosts() {
    let mut director = balanced(false, FullNat::Silent);
    let local = Endpoint::new(local(false), 4000);
    let answer = segment(STATION_1, (server_of(false), local), (1, 1), ACK, b"");
    assert_eq!(director.receive(ETH1, &answer), Some(Verdict::Pass));
}

#[test]
fn what_cannot_work_is_refused_with_the_reason() {
    let mut director = director();
    let service = rule(Protocol::Udp, vip(false));
    let key = service.key;
    director.execute(Request::AddService(service.clone())).unwrap();
    let mut refused = |request: Request| match director.execute(request) {
        Err(Refusal::NotSupported(why)) => why,
        other => panic!("{other:?}"),
    };
    let add = |full_nat| Request::AddServer { service: key, server: hiding(false, full_nat) };
    assert!(refused(add(FullNat::Silent)).contains("lvx local-address add"));
    director.control_mut().add_local_addresses(&[local(false)]).unwrap();
    let mut refused = |request: Request| match director.execute(request) {
        Err(Refusal::NotSupported(why)) => why,
        other => panic!("{other:?}"),
    };
    assert!(refused(add(FullNat::Toa)).contains("TCP"));
    let direct = ServerRule { method: Method::DirectRouting, ..hiding(false, FullNat::Silent) };
    assert!(refused(Request::AddServer { service: key, server: direct }).contains("-m"));
    director.execute(add(FullNat::Silent)).unwrap();
    let one_packet = ServiceRule { one_packet: true, ..service };
    assert!(matches!(director.execute(Request::EditService(one_packet)), Err(Refusal::NotSupported(_))));
    let control = director.control_mut();
    assert!(control.add_local_addresses(&[endpoint("10.2.0.77", 0).address]).is_err(), "not the director's");
    assert!(control.drain_local_addresses(&[local(false), endpoint("10.2.0.77", 0).address]).is_err());
    assert!(control.drain_local_addresses(&[local(false)]).is_ok());
}

#[test]
fn mangled_segments_neither_panic_nor_leak() {
    for full_nat in [FullNat::Silent, FullNat::Toa, FullNat::Proxy] {
        for v6 in [false, true] {
            let mut director = balanced(v6, full_nat);
            let (client, vip, server) = (client(v6), vip(v6), server_of(v6));
            let local = open(&mut director, v6, client);
            let mut rng = Rng::new(7);
            let frames = [
                (ETH0, segment(STATION_0, (client, vip), (1001, 5001), ACK | PSH, b"GET")),
                (ETH1, segment(STATION_1, (server, local), (5001, 1001), ACK | PSH, b"200")),
                (ETH0, segment(STATION_0, (client, vip), (1000, 0), SYN, b"")),
            ];
            for _ in 0..20_000 {
                let (interface, mut frame) = frames[rng.below(3) as usize].clone();
                for _ in 0..=rng.below(3) {
                    let at = 14 + rng.below(frame.len() as u32 - 14) as usize;
                    frame[at] = rng.next_u32() as u8;
                }
                frame.truncate(frame.len() - rng.below(4) as usize * rng.below(2) as usize);
                director.receive(interface, &frame);
                director.take_transmitted();
            }
        }
    }
}

/// A drained address serves the connections that have it, and is forgotten with the last of them.
#[test]
fn a_drained_address_is_forgotten_with_its_last_connection() {
    let mut director = balanced(false, FullNat::Silent);
    let (client, vip, server) = (client(false), vip(false), server_of(false));
    let address = open(&mut director, false, client);
    director.control_mut().drain_local_addresses(&[local(false)]).unwrap();
    let list = |director: &mut Director| director.control_mut().local_address_command(&["list".into()]).unwrap().stdout;
    let steered = |director: &Director| director.control().filter().virtual_addresses.contains(&local(false));
    // Kept alive, it outlives several searches.
    for _ in 0..4 {
        let later = director.now() + Duration::from_secs(50);
        director.advance(later);
        let there = carry(&mut director, ETH0, &segment(STATION_0, (client, vip), (1001, 5001), ACK, b"GET"));
        assert_eq!((there.source, there.destination), (address, server));
        assert_eq!(list(&mut director), "10.2.0.254 draining\n");
        assert!(steered(&director));
    }
    let other = Endpoint::new(client.address, 4000);
    let refused = director.receive(ETH0, &segment(STATION_0, (other, vip), (1, 0), SYN, b""));
    assert_eq!(refused, Some(Verdict::Drop(DropReason::NoLocalPort)));
    let later = director.now() + Duration::from_secs(1200);
    director.advance(later);
    assert_eq!((list(&mut director), steered(&director)), (String::new(), false));
}
