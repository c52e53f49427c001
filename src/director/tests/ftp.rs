//! FTP through masquerading: what the recorded cases do not hold, IPv6 first.

use etherparse::TcpOptionElement;

use super::*;
use crate::command::request::ConnectionInfo;

const FTP: u16 = 21;

/// A control connection on the virtual address of the family, opened both ways.
fn control(v6: bool) -> (Director, Endpoint, Endpoint, Endpoint) {
    control_with(v6, &[FTP])
}

/// Likewise, with the helper at `helped` ports.
fn control_with(v6: bool, helped: &[u16]) -> (Director, Endpoint, Endpoint, Endpoint) {
    let (vip, client) = (Endpoint::new(vip(v6).address, FTP), client(v6));
    let server = endpoint(if v6 { "fd00:2::1" } else { "10.2.0.1" }, FTP);
    let mut director = director();
    director.control_mut().serve_ftp(helped);
    let service = rule(Protocol::Tcp, vip);
    let key = service.key;
    director.execute(Request::AddService(service)).unwrap();
    let method = Method::Masquerading;
    let rule = server_rule(server, method);
    director.execute(Request::AddServer { service: key, server: rule }).unwrap();
    for packet in [
        (ETH0, frame(STATION_0, client, vip, Some(SYN), b"")),
        (ETH1, frame(STATION_1, server, client, Some(SYN | ACK), b"")),
        (ETH0, frame(STATION_0, client, vip, Some(ACK), b"")),
    ] {
        assert!(matches!(director.receive(packet.0, &packet.1), Some(Verdict::Transmit(_))));
        sent(&mut director);
    }
    (director, vip, client, server)
}

/// An acknowledging segment, with the blocks that it acknowledges beside.
fn segment(
    station: [u8; 6],
    (source, destination): (Endpoint, Endpoint),
    (sequence, acknowledged): (u32, u32),
    blocks: Option<(u32, u32)>,
    payload: &[u8],
) -> Vec<u8> {
    let builder = between(station, source, destination);
    let tcp = builder.tcp(source.port, destination.port, sequence, 1000).ack(acknowledged);
    let mut bytes = Vec::new();
    match blocks {
        Some(block) => {
            let options = [TcpOptionElement::Noop, TcpOptionElement::SelectiveAcknowledgement(block, [None; 3])];
            tcp.options(&options).unwrap().write(&mut bytes, payload).unwrap();
        }
        None => tcp.write(&mut bytes, payload).unwrap(),
    }
    bytes
}

/// Takes a segment through and gives what left: sequence number, acknowledgment, header with options, payload.
fn carry(director: &mut Director, from: InterfaceId, frame: &[u8]) -> (u32, u32, Vec<u8>, Vec<u8>) {
    assert!(matches!(director.receive(from, frame), Some(Verdict::Transmit(_))));
    let (_, out) = sent(director);
    assert!(is_sound(&out));
    let sliced = SlicedPacket::from_ethernet(&out).unwrap();
    let Some(TransportSlice::Tcp(tcp)) = sliced.transport else { panic!("no TCP") };
    (tcp.sequence_number(), tcp.acknowledgment_number(), tcp.header_slice().to_vec(), tcp.payload().to_vec())
}

fn text(payload: &[u8]) -> &str {
    std::str::from_utf8(payload).unwrap()
}

#[test]
fn passive_over_ipv6_with_the_servers_own_address_in_its_reply() {
    let (mut director, vip, client, server) = control(true);
    let command = segment(STATION_0, (client, vip), (2, 100), None, b"EPSV 2\r\n");
    carry(&mut director, ETH0, &command);
    let reply = segment(STATION_1, (server, client), (100, 10), None, b"229 Ok (|2|fd00:2::1|51210|)\r\n");
    for _ in 0..2 {
        // Twice: the second one is the server's, who has not heard of the first one's arrival.
        let (sequence, _, _, payload) = carry(&mut director, ETH1, &reply);
        assert_eq!((sequence, text(&payload)), (100, "229 Ok (|||51210|)\r\n"));
    }
    // Ten octets less from there on, for both sides; 100 + 20 is what the client has heard.
    let (_, acknowledged, header, _) =
        carry(&mut director, ETH0, &segment(STATION_0, (client, vip), (10, 120), Some((125, 130)), b""));
    assert_eq!(acknowledged, 130);
    assert_eq!(header[header.len() - 9..header.len() - 1], [0, 0, 0, 135, 0, 0, 0, 140]);
    let (sequence, ..) = carry(&mut director, ETH1, &segment(STATION_1, (server, client), (130, 10), None, b"x"));
    assert_eq!(sequence, 120);

    let data = (Endpoint::new(client.address, 4000), Endpoint::new(vip.address, 51210));
    let first = frame(STATION_0, data.0, data.1, Some(SYN), b"");
    assert_eq!(director.receive(ETH0, &first), Some(Verdict::Transmit(ETH1)));
    let (_, out) = sent(&mut director);
    assert!(is_sound(&out));
    assert_eq!(out[38..54], server.address.0.to_be_bytes());
    // The next client's port is another connection, which nobody expects.
    let other = frame(STATION_0, Endpoint::new(client.address, 4001), data.1, Some(SYN), b"");
    assert_eq!(director.receive(ETH0, &other), Some(Verdict::Pass));
}

#[test]
fn active_over_ipv6() {
    let (mut director, vip, client, server) = control(true);
    let command = segment(STATION_0, (client, vip), (2, 100), None, b"EPRT |2|fd00:1::1|4000|\r\n");
    let (_, _, _, payload) = carry(&mut director, ETH0, &command);
    assert_eq!(text(&payload), "EPRT |2|fd00:1::1|4000|\r\n");
    let (from, to) = (Endpoint::new(server.address, 20), Endpoint::new(client.address, 4000));
    let first = frame(STATION_1, from, to, Some(SYN), b"");
    assert_eq!(director.receive(ETH1, &first), Some(Verdict::Transmit(ETH0)));
    let (_, out) = sent(&mut director);
    assert!(is_sound(&out));
    assert_eq!((&out[22..38], &out[54..56]), (&vip.address.0.to_be_bytes()[..], &[0, 20][..]));
}

#[test]
fn what_nobody_asked_for_or_came_broken_changes_nothing() {
    let (mut director, vip, client, server) = control(false);
    let reply = segment(STATION_1, (server, client), (100, 10), None, b"227 Ok (10,2,0,1,200,10)\r\n");
    let (_, _, _, payload) = carry(&mut director, ETH1, &reply);
    assert_eq!(text(&payload), "227 Ok (10,2,0,1,200,10)\r\n");
    assert!(!director.shared().connections.has_expected());

    carry(&mut director, ETH0, &segment(STATION_0, (client, vip), (2, 100), None, b"PASV\r\n"));
    let mut broken = reply.clone();
    *broken.last_mut().unwrap() ^= 1;
    assert_eq!(director.receive(ETH1, &broken), Some(Verdict::Transmit(ETH0)));
    let (_, out) = sent(&mut director);
    assert!(!is_sound(&out), "it stays broken");
    assert!(!director.shared().connections.has_expected());

    let (_, _, _, payload) = carry(&mut director, ETH1, &reply);
    assert_eq!(text(&payload), "227 Ok (10,9,0,1,200,10)\r\n");
    assert!(director.shared().connections.has_expected());
}

/// Where a segment's flags lie in an IPv4 frame without options.
const FLAGS_OCTET: usize = 34 + 13;
const MANGLED_OCTETS: [u8; 6] = [0, 1, 0x50, 0xf0, 0xff, b'9'];

/// Segments of a control connection that the helper reads, each with what a mangled one may claim to acknowledge.
fn read_segments(vip: Endpoint, client: Endpoint, server: Endpoint) -> [(InterfaceId, Vec<u8>); 4] {
    [
        (ETH0, segment(STATION_0, (client, vip), (2, 100), Some((1, 2)), b"PASV\r\n")),
        (ETH1, segment(STATION_1, (server, client), (100, 10), None, b"227 (10,2,0,1,200,10)\r\n")),
        (ETH0, segment(STATION_0, (client, vip), (8, 130), Some((1, 2)), b"PORT 10,1,0,1,4,5\r\n")),
        (ETH1, segment(STATION_1, (server, client), (200, 10), None, b"227 (10,200,200,201,200,10)\r\n")),
    ]
}

#[test]
fn mangled_segments_neither_panic_nor_end_the_connection() {
    let (mut director, vip, client, server) = control(false);
    for (interface, frame) in &read_segments(vip, client, server) {
        for at in (34..frame.len()).filter(|at| *at != FLAGS_OCTET) {
            for value in MANGLED_OCTETS {
                let mut mangled = frame.clone();
                mangled[at] = value;
                director.receive(*interface, &mangled);
                director.take_transmitted();
            }
        }
        for end in 34..frame.len() {
            director.receive(*interface, &frame[..end]);
            director.take_transmitted();
        }
        assert!(matches!(director.receive(*interface, frame), Some(Verdict::Transmit(_))));
        director.take_transmitted();
    }
}

/// What is known of the control connection.
fn control_row(director: &mut Director, client: Endpoint) -> Option<ConnectionInfo> {
    let Ok(Response::Connections(rows)) = director.execute(Request::Connections) else { panic!() };
    rows.into_iter().find(|row| row.client == client)
}

#[test]
fn mangled_flags_do_to_a_watched_connection_what_they_do_to_any() {
    for position in 0..4 {
        for flags in 0..=u8::MAX {
            let outcome = [&[FTP][..], &[]].map(|helped| {
                let (mut director, vip, client, server) = control_with(false, helped);
                let (interface, mut frame) = read_segments(vip, client, server)[position].clone();
                frame[FLAGS_OCTET] = flags;
                let verdict = director.receive(interface, &frame);
                director.take_transmitted();
                (verdict, control_row(&mut director, client))
            });
            assert_eq!(outcome[0], outcome[1], "segment {position} with flags {flags:#x}");
        }
    }
}
