//! The program's decisions, frame by frame, in the kernel: BPF_PROG_TEST_RUN without an interface. No socket is
//! bound, so a frame that is wanted counts as one without a socket.

use aya::programs::{TestRun, TestRunOptions};
use etherparse::{PacketBuilder, PacketBuilderStep, ip_number};

use super::*;
use crate::control::trace::steering::find_match;
use crate::service::Protocol;
use crate::service::filter::MarkedFlows;

const TCP: u8 = 6;
const UDP: u8 = 17;

const CLIENT: [u8; 4] = [198, 51, 100, 7];
const VIRTUAL: [u8; 4] = [192, 0, 2, 1];
const ANY_PORT: [u8; 4] = [192, 0, 2, 2];
const SERVER: [u8; 4] = [10, 0, 0, 5];
const LOCAL: [u8; 4] = [10, 0, 0, 1];
const OTHER: [u8; 4] = [10, 0, 0, 99];

fn v6(last: u8) -> [u8; 16] {
    let mut octets = [0; 16];
    octets[..2].copy_from_slice(&[0xfd, 0x77]);
    octets[15] = last;
    octets
}

fn address4(octets: [u8; 4]) -> Address {
    std::net::Ipv4Addr::from(octets).into()
}

fn address6(last: u8) -> Address {
    std::net::Ipv6Addr::from(v6(last)).into()
}

const MARKED: [u8; 4] = [192, 0, 3, 9];

/// What rules mark: TCP ports 80 to 90 of 192.0.3.0/24, UDP port 53 of 192.0.3.9, and all of SCTP of
/// fd77::10 to fd77::1f.
fn marked() -> BTreeMap<Prefix, PortSpans> {
    let mut flows = MarkedFlows::default();
    let only = |wanted: Protocol, span| PortSpans::new(move |protocol| (protocol == wanted).then_some(span));
    flows.add(Prefix::new(address4(MARKED), 24), only(Protocol::Tcp, (80, 90)));
    flows.add(Prefix::new(address4(MARKED), 32), only(Protocol::Udp, (53, 53)));
    flows.add(Prefix::new(address6(16), 124), only(Protocol::Sctp, (0, u16::MAX)));
    flows.by_longest_prefix()
}

/// In IPv6: 1 client, 2 virtual, 3 server, 4 local, 9 other.
fn filter() -> Filter {
    let mut filter = Filter::default();
    filter.services.insert((TCP, Endpoint::new(address4(VIRTUAL), 80)));
    filter.services.insert((UDP, Endpoint::new(address4(ANY_PORT), 0)));
    filter.services.insert((TCP, Endpoint::new(address6(2), 80)));
    filter.servers.insert((TCP, Endpoint::new(address4(SERVER), 8080)));
    filter.servers.insert((TCP, Endpoint::new(address6(3), 8080)));
    filter.virtual_addresses.extend([address4(VIRTUAL), address4(ANY_PORT), address6(2)]);
    filter.server_addresses.extend([address4(SERVER), address6(3)]);
    filter.locals.extend([address4(LOCAL), address6(4)]);
    filter.marked = marked();
    filter
}

fn link() -> PacketBuilderStep<etherparse::Ethernet2Header> {
    PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2])
}

fn tcp4(from: [u8; 4], source: u16, to: [u8; 4], destination: u16) -> Vec<u8> {
    let mut frame = Vec::new();
    link().ipv4(from, to, 64).tcp(source, destination, 1, 512).write(&mut frame, b"payload").unwrap();
    frame
}

fn udp4(from: [u8; 4], source: u16, to: [u8; 4], destination: u16) -> Vec<u8> {
    let mut frame = Vec::new();
    link().ipv4(from, to, 64).udp(source, destination).write(&mut frame, b"payload").unwrap();
    frame
}

fn tcp6(from: u8, source: u16, to: u8, destination: u16) -> Vec<u8> {
    let mut frame = Vec::new();
    link().ipv6(v6(from), v6(to), 64).tcp(source, destination, 1, 512).write(&mut frame, b"payload").unwrap();
    frame
}

/// The frame with a VLAN tag behind the link addresses.
fn tagged(frame: &[u8], protocol: u16) -> Vec<u8> {
    let [high, low] = protocol.to_be_bytes();
    [&frame[..12], &[high, low, 0, 7], &frame[12..]].concat()
}

/// The IPv4 frame with 8 octets of options (no operation).
fn with_options(mut frame: Vec<u8>) -> Vec<u8> {
    frame[14] = 0x47;
    frame.splice(34..34, [1; 8]);
    frame
}

/// The IPv4 frame as a fragment: flags and offset as they stand in the header.
fn fragment4(mut frame: Vec<u8>, flags_and_offset: u16) -> Vec<u8> {
    frame[20..22].copy_from_slice(&flags_and_offset.to_be_bytes());
    frame
}

/// The IPv6 frame with extension headers of 8 octets in front of the transport: their types.
fn extended6(mut frame: Vec<u8>, types: &[u8], fragment_field: u16) -> Vec<u8> {
    let transport = frame[20];
    for (position, kind) in types.iter().enumerate().rev() {
        let next = types.get(position + 1).copied().unwrap_or(transport);
        let mut header = [next, 0, 0, 0, 0, 0, 0, 0];
        if *kind == 44 {
            header[2..4].copy_from_slice(&fragment_field.to_be_bytes());
        }
        frame.splice(54..54, header);
        frame[20] = *kind;
    }
    frame
}

/// An ICMP message of `kind` that quotes the IP packet within `quoted`.
fn icmp4(from: [u8; 4], to: [u8; 4], kind: u8, quoted: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    let message = [&[kind, 1, 0, 0, 0, 0, 0, 0][..], &quoted[14..]].concat();
    link().ipv4(from, to, 64).write(&mut frame, ip_number::ICMP, &message).unwrap();
    frame
}

fn icmp6(from: u8, to: u8, kind: u8, quoted: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    let message = [&[kind, 1, 0, 0, 0, 0, 0, 0][..], &quoted[14..]].concat();
    link().ipv6(v6(from), v6(to), 64).write(&mut frame, ip_number::IPV6_ICMP, &message).unwrap();
    frame
}

/// An IPv4 packet of another protocol than TCP and UDP.
fn other4(from: [u8; 4], to: [u8; 4], protocol: u8) -> Vec<u8> {
    let mut frame = Vec::new();
    link().ipv4(from, to, 64).write(&mut frame, protocol.into(), &[0; 28]).unwrap();
    frame
}

#[rustfmt::skip]
fn rows() -> Vec<(&'static str, bool, Vec<u8>)> {
    let to_client = || tcp4(VIRTUAL, 80, CLIENT, 999);
    vec![
        ("a packet for a service", true, tcp4(CLIENT, 999, VIRTUAL, 80)),
        ("another port of the address", false, tcp4(CLIENT, 999, VIRTUAL, 81)),
        ("another protocol", false, udp4(CLIENT, 999, VIRTUAL, 80)),
        ("another address", false, tcp4(CLIENT, 999, OTHER, 80)),
        ("a service of every port", true, udp4(CLIENT, 999, ANY_PORT, 4711)),
        ("IP options", true, with_options(tcp4(CLIENT, 999, VIRTUAL, 80))),
        ("one VLAN tag", true, tagged(&tcp4(CLIENT, 999, VIRTUAL, 80), 0x8100)),
        ("two VLAN tags", true, tagged(&tagged(&tcp4(CLIENT, 999, VIRTUAL, 80), 0x8100), 0x88a8)),
        ("three VLAN tags", false, tagged(&tagged(&tagged(&tcp4(CLIENT, 9, VIRTUAL, 80), 0x8100), 0x8100), 0x88a8)),
        ("a VLAN tag and another port", false, tagged(&tcp4(CLIENT, 999, VIRTUAL, 81), 0x8100)),
        ("the answer of a real server", true, tcp4(SERVER, 8080, CLIENT, 999)),
        ("a real server's answer to a local address", false, tcp4(SERVER, 8080, LOCAL, 999)),
        ("another port of a real server", false, tcp4(SERVER, 22, CLIENT, 999)),
        ("a real server as the client of a service", true, tcp4(SERVER, 8080, VIRTUAL, 80)),
        ("IPv6 for a service", true, tcp6(1, 999, 2, 80)),
        ("IPv6 for another port", false, tcp6(1, 999, 2, 81)),
        ("IPv6 answer", true, tcp6(3, 8080, 1, 999)),
        ("IPv6 answer to a local address", false, tcp6(3, 8080, 4, 999)),
        ("hop-by-hop, routing and destination options", true, extended6(tcp6(1, 999, 2, 80), &[0, 43, 60], 0)),
        ("eight extension headers", true, extended6(tcp6(1, 999, 2, 80), &[60; 8], 0)),
        ("nine extension headers", false, extended6(tcp6(1, 999, 2, 80), &[60; 9], 0)),
        ("an atomic fragment is a whole packet", true, extended6(tcp6(1, 999, 2, 80), &[44], 0)),
        ("an atomic fragment for another port", false, extended6(tcp6(1, 999, 2, 81), &[44], 0)),
        ("a first fragment of any port", true, fragment4(tcp4(CLIENT, 999, VIRTUAL, 81), 0x2000)),
        ("a later fragment", true, fragment4(tcp4(CLIENT, 999, VIRTUAL, 81), 0x0010)),
        ("do not fragment is no fragment", false, fragment4(tcp4(CLIENT, 999, VIRTUAL, 81), 0x4000)),
        ("a fragment of a real server", true, fragment4(udp4(SERVER, 1, CLIENT, 2), 0x2000)),
        ("a fragment of a real server to a local address", false, fragment4(udp4(SERVER, 1, LOCAL, 2), 0x2000)),
        ("a fragment of others", false, fragment4(udp4(OTHER, 1, CLIENT, 2), 0x2000)),
        ("an IPv6 fragment", true, extended6(tcp6(1, 999, 2, 81), &[0, 44], 0x0008)),
        ("an IPv6 fragment of a real server", true, extended6(tcp6(3, 1, 1, 2), &[44], 0x0001)),
        ("an IPv6 fragment of others", false, extended6(tcp6(9, 1, 1, 2), &[44], 0x0001)),
        ("unreachable about what a service sent", true, icmp4(OTHER, VIRTUAL, 3, &to_client())),
        ("source quench about what a service sent", true, icmp4(OTHER, VIRTUAL, 4, &to_client())),
        ("time exceeded about what a service sent", true, icmp4(OTHER, VIRTUAL, 11, &to_client())),
        ("parameter problem about what a service sent", true, icmp4(OTHER, VIRTUAL, 12, &to_client())),
        ("an echo request to a virtual address", false, icmp4(OTHER, VIRTUAL, 8, &to_client())),
        ("a redirect", false, icmp4(OTHER, VIRTUAL, 5, &to_client())),
        ("an error about another's packet", false, icmp4(OTHER, VIRTUAL, 3, &tcp4(OTHER, 1, CLIENT, 2))),
        ("an error about a forwarded packet", true, icmp4(OTHER, CLIENT, 3, &tcp4(CLIENT, 999, SERVER, 8080))),
        ("an error about the host's health check", false, icmp4(OTHER, LOCAL, 3, &tcp4(LOCAL, 999, SERVER, 8080))),
        ("an error about an IPIP tunnel", true, icmp4(OTHER, LOCAL, 3, &other4(LOCAL, SERVER, 4))),
        ("an error about a 6in4 tunnel", true, icmp4(OTHER, LOCAL, 3, &other4(LOCAL, SERVER, 41))),
        ("an error about a GRE tunnel", true, icmp4(OTHER, LOCAL, 3, &other4(LOCAL, SERVER, 47))),
        ("an error about a GUE tunnel", true, icmp4(OTHER, LOCAL, 3, &udp4(LOCAL, 1, SERVER, 6080))),
        ("an error about another tunnel", false, icmp4(OTHER, LOCAL, 3, &other4(LOCAL, OTHER, 4))),
        ("an ICMPv6 error about what a service sent", true, icmp6(9, 2, 2, &tcp6(2, 80, 1, 999))),
        ("an ICMPv6 error about a forwarded packet", true, icmp6(9, 1, 1, &tcp6(1, 999, 3, 8080))),
        ("an ICMPv6 error about a health check", false, icmp6(9, 4, 1, &tcp6(4, 999, 3, 8080))),
        ("a neighbour solicitation", false, icmp6(9, 2, 135, &tcp6(2, 80, 1, 999))),
        ("a packet that rules mark by prefix", true, tcp4(CLIENT, 999, [192, 0, 3, 200], 85)),
        ("one that the shorter prefix marks", true, tcp4(CLIENT, 999, MARKED, 80)),
        ("one that the longer prefix marks", true, udp4(CLIENT, 999, MARKED, 53)),
        ("a port below those that are marked", false, tcp4(CLIENT, 999, MARKED, 79)),
        ("a port above those that are marked", false, tcp4(CLIENT, 999, MARKED, 91)),
        ("a protocol that is not marked there", false, udp4(CLIENT, 999, [192, 0, 3, 200], 53)),
        ("an address beside the prefix", false, tcp4(CLIENT, 999, [192, 0, 4, 9], 80)),
        ("TCP to an address whose SCTP is marked", false, tcp6(1, 999, 17, 80)),
        ("an IPv6 fragment to an address of which something is marked", true, extended6(tcp6(1, 9, 17, 8), &[44], 0x0008)),
        ("an answer from where rules mark", true, tcp4(MARKED, 80, CLIENT, 999)),
        ("such an answer to a local address", false, tcp4(MARKED, 80, LOCAL, 999)),
        ("a fragment to a marked address", true, fragment4(tcp4(CLIENT, 999, MARKED, 91), 0x0010)),
        ("an error about what was sent from a marked address", true, icmp4(OTHER, MARKED, 3, &tcp4(MARKED, 80, CLIENT, 9))),
        ("IPsec to a virtual address", true, other4(CLIENT, VIRTUAL, 50)),
        ("IPsec of a real server", true, other4(SERVER, CLIENT, 51)),
        ("IPsec of a real server to a local address", false, other4(SERVER, LOCAL, 50)),
        ("IPsec of others", false, other4(OTHER, LOCAL, 50)),
        ("AH within IPv6", true, extended6(tcp6(1, 999, 2, 80), &[51], 0)),
        ("AH within IPv6 for another port", false, extended6(tcp6(1, 999, 2, 81), &[51], 0)),
        ("ARP", false, [&link_octets()[..], &[8, 6], &[0; 46]].concat()),
        ("a frame of our own way back", false, {
            let mut frame = tcp4(CLIENT, 999, VIRTUAL, 80);
            frame[6..12].copy_from_slice(&[2, 9, 9, 9, 9, 9]);
            frame
        }),
    ]
}

fn link_octets() -> [u8; 12] {
    [2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1]
}

fn loaded() -> Option<Xdp> {
    match Xdp::load() {
        Ok(xdp) => Some(xdp),
        Err(XdpError::Rights) => {
            println!("skipped: {}", XdpError::Rights);
            None
        }
        Err(error) => panic!("{error}"),
    }
}

/// True when the program wants the frame. `program` is `lvx` or `lvx_frags`.
fn is_wanted(xdp: &mut Xdp, program: &str, frame: &[u8]) -> bool {
    let before = xdp.counters().unwrap();
    let program: &mut Program = xdp.ebpf.program_mut(program).unwrap().try_into().unwrap();
    if program.fd().is_err() {
        program.load().unwrap();
    }
    let options = TestRunOptions { data_in: Some(frame), ..TestRunOptions::new() };
    assert_eq!(program.test_run(options).unwrap().return_value, 2, "XDP_PASS without a socket");
    let after = xdp.counters().unwrap();
    assert_eq!(after.redirected, before.redirected);
    let counted = (after.passed - before.passed) + (after.reinjected - before.reinjected);
    assert_eq!(counted + (after.no_socket - before.no_socket), 1);
    after.no_socket > before.no_socket
}

#[test]
fn the_program_wants_what_is_ours_and_nothing_else() {
    let Some(mut xdp) = loaded() else { return };
    xdp.set_filter(&filter()).unwrap();
    xdp.set_reinjected_source(MacAddress([2, 9, 9, 9, 9, 9])).unwrap();
    for program in ["lvx", "lvx_frags"] {
        for (sentence, wanted, frame) in rows() {
            assert_eq!(is_wanted(&mut xdp, program, &frame), wanted, "{program}: {sentence}");
            // What explains the program knows nothing of its own way back.
            if sentence != "a frame of our own way back" {
                assert_eq!(find_match(&filter(), &frame).is_some(), wanted, "explained: {sentence}");
            }
        }
    }
    assert_eq!(xdp.counters().unwrap().reinjected, 2);
}

#[test]
fn every_frame_cut_short_is_judged_without_harm() {
    let Some(mut xdp) = loaded() else { return };
    xdp.set_filter(&filter()).unwrap();
    for (sentence, _, frame) in rows() {
        // The kernel takes no test frame shorter than an Ethernet header.
        for length in 14..frame.len() {
            let wanted = is_wanted(&mut xdp, "lvx", &frame[..length]);
            let explained = find_match(&filter(), &frame[..length]).is_some();
            assert_eq!(explained, wanted, "{sentence}, {length} octets");
        }
    }
}

#[test]
fn a_filter_replaces_the_one_before_it() {
    let Some(mut xdp) = loaded() else { return };
    xdp.set_filter(&filter()).unwrap();
    let mut next = filter();
    next.services.remove(&(TCP, Endpoint::new(address4(VIRTUAL), 80)));
    next.services.insert((TCP, Endpoint::new(address4(VIRTUAL), 81)));
    next.servers.clear();
    next.locals.insert(address4(OTHER));
    let mut flows = MarkedFlows::default();
    flows.add(Prefix::new(address4(MARKED), 24), PortSpans::new(|_| Some((443, 443))));
    flows.add(Prefix::new(address4(MARKED), 32), PortSpans::new(|_| Some((53, 53))));
    next.marked = flows.by_longest_prefix();
    xdp.set_filter(&next).unwrap();
    assert!(!is_wanted(&mut xdp, "lvx", &tcp4(CLIENT, 999, VIRTUAL, 80)));
    assert!(is_wanted(&mut xdp, "lvx", &tcp4(CLIENT, 999, VIRTUAL, 81)));
    assert!(is_wanted(&mut xdp, "lvx", &udp4(CLIENT, 999, ANY_PORT, 4711)));
    assert!(!is_wanted(&mut xdp, "lvx", &tcp4(CLIENT, 999, [192, 0, 3, 200], 85)));
    assert!(is_wanted(&mut xdp, "lvx", &tcp4(CLIENT, 999, MARKED, 443)));
    assert!(is_wanted(&mut xdp, "lvx", &udp4(CLIENT, 999, MARKED, 53)));
    assert!(!is_wanted(&mut xdp, "lvx", &tcp4(SERVER, 8080, CLIENT, 999)));
    assert_eq!(xdp.services.keys().count(), next.services.len());
    assert_eq!(xdp.locals.keys().count(), next.locals.len());
    assert_eq!(xdp.servers.keys().count(), 0);
    assert_eq!(xdp.filter, next);
    xdp.set_filter(&Filter::default()).unwrap();
    assert_eq!(xdp.services.keys().count() + xdp.locals.keys().count(), 0);
    assert_eq!(xdp.marked.keys().count(), 0);
}

#[test]
fn single_matches_come_and_go() {
    let Some(mut xdp) = loaded() else { return };
    xdp.set_filter(&filter()).unwrap();
    let (old, new) = (Endpoint::new(address4(VIRTUAL), 80), Endpoint::new(address4(VIRTUAL), 81));
    let change = |item, present| FilterChange { item, present };
    let changes = [
        change(Match::Service(TCP, old), false),
        change(Match::Service(TCP, new), true),
        change(Match::Local(address4(OTHER)), true),
        change(Match::Server(TCP, Endpoint::new(address4(SERVER), 8080)), false),
        // As it is, and never was.
        change(Match::VirtualAddress(address4(VIRTUAL)), true),
        change(Match::ServerAddress(address4(OTHER)), false),
    ];
    for _ in 0..2 {
        xdp.change_filter(&changes).unwrap();
        assert!(!is_wanted(&mut xdp, "lvx", &tcp4(CLIENT, 999, VIRTUAL, 80)));
        assert!(is_wanted(&mut xdp, "lvx", &tcp4(CLIENT, 999, VIRTUAL, 81)));
        assert!(!is_wanted(&mut xdp, "lvx", &tcp4(SERVER, 8080, CLIENT, 999)));
        let mut expected = filter();
        changes.iter().for_each(|change| {
            expected.apply(*change);
        });
        assert_eq!(xdp.filter, expected);
        assert_eq!(xdp.locals.keys().count(), expected.locals.len());
    }
    xdp.set_filter(&filter()).unwrap();
    assert!(is_wanted(&mut xdp, "lvx", &tcp4(CLIENT, 999, VIRTUAL, 80)));
}

#[test]
fn a_filter_may_fill_the_map_twice_but_not_exceed_it() {
    let Some(mut xdp) = loaded() else { return };
    let full = |network: u32| Filter {
        services: (0..ENDPOINTS_MAX as u32).map(|host| (TCP, Endpoint::new(Address::v4(network + host), 80))).collect(),
        ..Filter::default()
    };
    xdp.set_filter(&full(0x0a00_0000)).unwrap();
    xdp.set_filter(&full(0x0b00_0000)).unwrap();
    assert!(is_wanted(&mut xdp, "lvx", &tcp4(CLIENT, 9, [11, 0, 255, 255], 80)));
    assert!(!is_wanted(&mut xdp, "lvx", &tcp4(CLIENT, 9, [10, 0, 255, 255], 80)));
    let mut more = full(0x0b00_0000);
    more.services.insert((TCP, Endpoint::new(Address::v4(1), 80)));
    let error = xdp.set_filter(&more).unwrap_err();
    assert_eq!(error, XdpError::Limit { what: "virtual services", limit: ENDPOINTS_MAX });
}

#[test]
fn interfaces_get_runs_of_the_socket_map_that_do_not_overlap() {
    let Some(mut xdp) = loaded() else { return };
    assert_eq!(xdp.free_run(SOCKETS_MAX), Ok(0));
    assert!(xdp.free_run(SOCKETS_MAX + 1).is_err());
    // Nothing is attached, so no queue can be connected.
    let descriptor = std::fs::File::open("/dev/null").unwrap();
    let error = xdp.connect(1, 0, std::os::fd::AsFd::as_fd(&descriptor)).unwrap_err();
    assert_eq!(error, XdpError::NoQueue { index: 1, queue: 0 });
}
