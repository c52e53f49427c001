//! Services by mark, and connections that no client's packet opened.

use super::*;

/// A director with a service of mark 1 and one server for all ports of its address; the rules mark TCP and UDP to
/// 10.9.0.0/16 and 192.0.2.1 port 80.
fn marking(method: Method, server_port: u16) -> Director {
    let mut director = director();
    let rules = "*mangle\n-A PREROUTING -d 10.9.0.0/16 -j MARK --set-mark 1\n\
        -A PREROUTING -i eth0 -d 192.0.2.1 -p tcp --dport 80 -j MARK --set-mark 1\nCOMMIT\n";
    let words = ["load".to_owned(), "-".to_owned()];
    assert_eq!(director.mark_command(&words, Some(rules)).unwrap().exit, 0);
    let key = ServiceKey::Mark { family: crate::base::Family::V4, mark: 1 };
    director.execute(Request::AddService(ServiceRule { key, ..rule(Protocol::Tcp, vip(false)) })).unwrap();
    let server = server_rule(endpoint("10.2.0.1", server_port), method);
    director.execute(Request::AddServer { service: key, server }).unwrap();
    director
}

#[test]
fn a_service_by_mark_takes_every_protocol_and_port_that_is_marked() {
    for (server_port, flags) in [(8080, Some(SYN)), (0, Some(SYN)), (0, None)] {
        let mut director = marking(Method::Masquerading, server_port);
        for port in [80, 443] {
            let virtual_service = endpoint("10.9.0.1", port);
            // A client's port of its own for each: the servers' answers tell them apart by it.
            let client = endpoint("10.1.0.1", 1000 + port);
            let ask = frame(STATION_0, client, virtual_service, flags, b"");
            assert_eq!(director.receive(ETH0, &ask), Some(Verdict::Transmit(ETH1)));
            let (_, out) = sent(&mut director);
            let to = if server_port == 0 { port } else { server_port };
            assert_eq!((&out[30..34], &out[36..38]), (&[10, 2, 0, 1][..], &to.to_be_bytes()[..]));
            let back = frame(STATION_1, endpoint("10.2.0.1", to), client, flags.map(|_| SYN | ACK), b"");
            assert_eq!(director.receive(ETH1, &back), Some(Verdict::Transmit(ETH0)));
            let (_, out) = sent(&mut director);
            assert_eq!((&out[26..30], &out[34..36]), (&[10, 9, 0, 1][..], &port.to_be_bytes()[..]));
        }
        let Ok(Response::Connections(rows)) = director.execute(Request::Connections) else { panic!() };
        assert_eq!(rows.len(), 2);
    }
}

/// **Deviation**: without a policy rule that would make the packet local.
#[test]
fn a_marked_packet_to_another_host_is_balanced() {
    let mut director = marking(Method::DirectRouting, 0);
    let elsewhere = endpoint("192.0.2.1", 80);
    for flags in [SYN, ACK] {
        let ask = frame(STATION_0, client(false), elsewhere, Some(flags), b"");
        assert_eq!(director.receive(ETH0, &ask), Some(Verdict::Transmit(ETH1)));
        let (_, out) = sent(&mut director);
        assert_eq!((&out[..6], &out[30..34]), (&SERVER_1[..], &[192, 0, 2, 1][..]));
    }
    let pass = Some(Verdict::Pass);
    let other_port = frame(STATION_0, client(false), endpoint("192.0.2.1", 81), Some(SYN), b"");
    assert_eq!(director.receive(ETH0, &other_port), pass);
    let other_interface = frame(STATION_1, endpoint("10.2.0.9", 1), elsewhere, Some(SYN), b"");
    assert_eq!(director.receive(ETH1, &other_interface), pass);
    // Without the rules it is the host's again.
    let words = ["load".to_owned(), "-".to_owned()];
    director.mark_command(&words, Some("*mangle\nCOMMIT\n")).unwrap();
    let again = frame(STATION_0, endpoint("10.1.0.2", 5), elsewhere, Some(SYN), b"");
    assert_eq!(director.receive(ETH0, &again), pass);
}

/// As the kernel does at `FORWARD`: the error carries no mark.
#[test]
fn an_error_about_a_marked_connection_to_another_host_is_relayed() {
    let mut director = marking(Method::DirectRouting, 0);
    let elsewhere = endpoint("192.0.2.1", 80);
    director.receive(ETH0, &frame(STATION_0, client(false), elsewhere, Some(SYN), b""));
    director.take_transmitted();
    let error_about = |source: Endpoint| {
        let quoted = frame(STATION_0, source, client(false), Some(ACK), b"");
        let mut error = Vec::new();
        let builder = PacketBuilder::ethernet2(ROUTER, STATION_0).ipv4([10, 1, 0, 1], [192, 0, 2, 1], 64);
        let kind = etherparse::Icmpv4Type::DestinationUnreachable(etherparse::icmpv4::DestUnreachableHeader::Port);
        builder.icmpv4(kind).write(&mut error, &quoted[14..]).unwrap();
        error
    };
    assert_eq!(director.receive(ETH0, &error_about(elsewhere)), Some(Verdict::Transmit(ETH1)));
    let (_, out) = sent(&mut director);
    assert_eq!((&out[..6], out[23]), (&SERVER_1[..], 1));
    assert_eq!(director.receive(ETH0, &error_about(endpoint("192.0.2.1", 81))), Some(Verdict::Pass));
}

fn without_default_route() -> crate::route::Routes {
    let served = ["eth0".to_owned(), "eth1".to_owned()];
    let mut database = Database::new(&served);
    for line in net_file::parse(&NET.replace("route add default via 10.0.0.1 dev eth0\n", "")).unwrap() {
        database.apply(&line).unwrap();
    }
    database.snapshot()
}

#[test]
fn a_marked_packet_needs_no_route_to_its_destination() {
    let mut director = marking(Method::DirectRouting, 0);
    director.set_routes(without_default_route());
    let to = |port| frame(STATION_0, client(false), endpoint("192.0.2.1", port), Some(SYN), b"");
    assert_eq!(director.receive(ETH0, &to(80)), Some(Verdict::Transmit(ETH1)));
    assert_eq!(director.receive(ETH0, &to(81)), Some(Verdict::Pass), "the host says that there is no route");
}

/// sysctl cache_bypass asks whether the destination is the director's own, not whether there is a way to it
/// (`inet_addr_type`).
#[test]
fn a_bypass_needs_no_route() {
    let mut director = marking(Method::DirectRouting, 0);
    director.set_routes(without_default_route());
    director.shared().sysctls.write("cache_bypass", "1").unwrap();
    let key = ServiceKey::Mark { family: crate::base::Family::V4, mark: 1 };
    director.execute(Request::DeleteServer { service: key, server: endpoint("10.2.0.1", 0) }).unwrap();
    director.receive(ETH0, &frame(STATION_0, client(false), endpoint("192.0.2.1", 80), Some(SYN), b""));
    assert_eq!(director.shared().connections.used().0, 1);
    director.receive(ETH0, &frame(STATION_0, client(false), vip(false), Some(SYN), b""));
    assert_eq!(director.shared().connections.used().0, 1, "what is the director's own is not passed on");
}

/// A backup finds the service of a template by the mark that it is sent with.
#[test]
fn a_template_of_a_mark_carries_it() {
    let mut director = marking(Method::DirectRouting, 0);
    let key = ServiceKey::Mark { family: crate::base::Family::V4, mark: 1 };
    let persistent = ServiceRule { key, persistent_s: Some(300), ..rule(Protocol::Tcp, vip(false)) };
    director.execute(Request::EditService(persistent)).unwrap();
    director.receive(ETH0, &frame(STATION_0, client(false), vip(false), Some(SYN), b""));
    let table = &director.shared().connections;
    let mut marks = Vec::new();
    for bucket in 0..table.bucket_count() {
        table.visit_bucket(bucket, director.now(), |entry| {
            marks.push((entry.flags().has(crate::conn::Flags::TEMPLATE), entry.mark()));
        });
    }
    marks.sort_unstable();
    assert_eq!(marks, [(false, 1), (true, 1)]);
}

/// An error about what a client never got: sysctl schedule_icmp makes a connection of it, but none of one-packet
/// scheduling stays.
#[test]
fn an_error_opens_a_connection_that_one_packet_scheduling_ends() {
    for (one_packet, entries) in [(false, 1), (true, 0)] {
        let mut director = director();
        let service = ServiceRule { one_packet, ..rule(Protocol::Udp, vip(false)) };
        let key = service.key;
        director.execute(Request::AddService(service)).unwrap();
        let server = server_rule(endpoint("10.2.0.1", 8080), Method::Masquerading);
        director.execute(Request::AddServer { service: key, server }).unwrap();
        director.shared().sysctls.write("schedule_icmp", "1").unwrap();
        // Port unreachable from the client, with the datagram of the virtual service in it.
        let answer = frame(STATION_0, vip(false), client(false), None, b"answer");
        let mut error = Vec::new();
        let builder = PacketBuilder::ethernet2(ROUTER, STATION_0).ipv4([10, 1, 0, 1], [10, 9, 0, 1], 64);
        builder.icmpv4_raw(3, 3, [0; 4]).write(&mut error, &answer[14..]).unwrap();
        assert_eq!(director.receive(ETH0, &error), Some(Verdict::Transmit(ETH1)), "the server gets it");
        let shared = director.shared();
        assert_eq!(shared.connections.used().0, entries);
        let destination = shared.destinations.get(crate::service::DestinationId(1));
        assert_eq!((destination.active(), destination.inactive()), (0, entries));
    }
}
