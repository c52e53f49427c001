//! MSS clamping: what SYNs ask for in both directions, by each method.

use etherparse::TcpOptionElement;

use super::*;

/// A SYN or a SYN with ACK that asks for segments of `mss` octets.
fn syn(station: [u8; 6], source: Endpoint, destination: Endpoint, ack: bool, mss: u16) -> Vec<u8> {
    let builder = between(station, source, destination);
    let tcp = builder.tcp(source.port, destination.port, 7, 1000).syn();
    let tcp = if ack { tcp.ack(8) } else { tcp };
    let options = [TcpOptionElement::Noop, TcpOptionElement::MaximumSegmentSize(mss), TcpOptionElement::WindowScale(7)];
    let mut bytes = Vec::new();
    tcp.options(&options).unwrap().write(&mut bytes, b"").unwrap();
    bytes
}

/// What the segment asks for: the value two octets behind kind and length.
fn asked(segment: &[u8]) -> u16 {
    let at = segment.windows(2).rposition(|pair| pair == [2, 4]).expect("the option");
    u16::from_be_bytes([segment[at + 2], segment[at + 3]])
}

fn set_mss(director: &mut Director, v6: bool, mss_max: u16) {
    director.execute(Request::EditService(ServiceRule { mss_max, ..rule(Protocol::Tcp, vip(v6)) })).unwrap();
}

#[test]
fn syns_of_both_sides_ask_for_no_more() {
    for (v6, server) in [(false, "10.2.0.1"), (true, "fd00:2::1")] {
        let mut director = balancing(v6, Method::Masquerading, server, 8080);
        let (client, vip, server) = (client(v6), vip(v6), endpoint(server, 8080));
        for (mss_max, sent_mss, expected) in [(0, 1460, 1460), (1300, 1460, 1300), (1300, 1200, 1200), (0, 1460, 1460)]
        {
            set_mss(&mut director, v6, mss_max);
            for (from, frame) in [
                (ETH0, syn(STATION_0, client, vip, false, sent_mss)),
                (ETH1, syn(STATION_1, server, client, true, sent_mss)),
            ] {
                assert!(matches!(director.receive(from, &frame), Some(Verdict::Transmit(_))));
                let (_, out) = sent(&mut director);
                assert!(is_sound(&out));
                assert_eq!(asked(&out), expected, "at most {mss_max}");
            }
        }
    }
}

#[test]
fn clients_of_direct_routing_and_tunnels_ask_for_no_more() {
    for (method, server) in [(Method::DirectRouting, "10.2.0.1"), (Method::Tunnelling, "10.2.0.1")] {
        let mut director = balancing(false, method, server, 80);
        set_mss(&mut director, false, 1400);
        let frame = syn(STATION_0, client(false), vip(false), false, 1460);
        assert_eq!(director.receive(ETH0, &frame), Some(Verdict::Transmit(ETH1)));
        let (_, out) = sent(&mut director);
        assert_eq!(asked(&out), 1400, "{method:?}");
    }
}

#[test]
fn mangled_options_neither_panic_nor_grow() {
    let mut director = balancing(false, Method::Masquerading, "10.2.0.1", 8080);
    set_mss(&mut director, false, 1300);
    let frame = syn(STATION_0, client(false), vip(false), false, 1460);
    for at in 34 + 12..frame.len() {
        for value in 0..=u8::MAX {
            let mut mangled = frame.clone();
            mangled[at] = value;
            director.receive(ETH0, &mangled);
            for (_, out) in director.take_transmitted() {
                // Answers of ICMP apart.
                assert!(out[23] != 6 || out.len() == frame.len());
            }
        }
    }
}
