use super::*;
use crate::route::net_file;

const NET: &str = "
link add eth0 address 02:00:00:00:00:fe mtu 1500
link add eth1 address 02:00:00:00:01:fe mtu 1300
link add eth9 address 02:00:00:00:09:fe mtu 9000
addr add 10.0.0.254/24 dev eth0
addr add 10.2.0.254/16 dev eth1
addr add fd00::254/64 dev eth0
addr add fd00:2::254/64 dev eth1
addr add fe80::1/64 dev eth0
addr add 10.99.0.1/24 dev eth9
neigh add 10.0.0.1 lladdr 02:00:00:00:00:01 dev eth0
neigh add fd00:2::1 lladdr 02:00:00:00:02:01 dev eth1
neigh add 10.99.0.2 lladdr 02:00:00:00:09:02 dev eth9
route add default via 10.0.0.1 dev eth0
route add default via fd00::1 dev eth0
route add local 10.9.0.0/16 dev lo
route add local fd00:9::/64 dev lo
";

fn host(more: &str) -> Routes {
    database(more).snapshot()
}

fn database(more: &str) -> Database {
    let mut database = Database::new(&["eth0".to_owned(), "eth1".to_owned()]);
    for line in net_file::parse(NET).unwrap().into_iter().chain(net_file::parse(more).unwrap()) {
        database.apply(&line).unwrap();
    }
    database
}

/// The route as a line: `eth0 via 10.0.0.1 src 10.0.0.254 mtu 1500`.
fn show(routes: &Routes, destination: &str) -> String {
    show_hashed(routes, destination, 0)
}

fn show_hashed(routes: &Routes, destination: &str, flow_hash: u32) -> String {
    let hop = match routes.lookup(destination.parse().unwrap(), flow_hash) {
        Route::Unicast(hop) => hop,
        other => return format!("{other:?}"),
    };
    let name = hop.interface.map_or("other".into(), |id| routes.link(id).unwrap().name.clone());
    let via = hop.gateway.map_or(String::new(), |via| format!(" via {via}"));
    format!("{name}{via} src {} mtu {}", hop.source, hop.mtu)
}

#[test]
fn the_network_of_the_recorded_cases() {
    let routes = host("");
    for (destination, expected) in [
        ("10.0.0.1", "eth0 src 10.0.0.254 mtu 1500"),
        ("10.2.0.7", "eth1 src 10.2.0.254 mtu 1300"),
        ("198.51.100.1", "eth0 via 10.0.0.1 src 10.0.0.254 mtu 1500"),
        ("10.0.0.254", "Local"),
        ("10.0.0.255", "Broadcast"),
        ("10.2.255.255", "Broadcast"),
        ("10.0.0.0", "eth0 src 10.0.0.254 mtu 1500"),
        ("10.9.1.2", "Local"),
        ("127.9.9.9", "Local"),
        ("224.0.0.18", "Broadcast"),
        ("255.255.255.255", "Broadcast"),
        ("10.99.0.2", "other src 10.99.0.1 mtu 9000"),
        ("fd00::1", "eth0 src fd00::254 mtu 1500"),
        ("fd00:2::7", "eth1 src fd00:2::254 mtu 1300"),
        ("2001:db8::1", "eth0 via fd00::1 src fd00::254 mtu 1500"),
        ("fd00:9::80", "Local"),
        ("fd00:2::254", "Local"),
        ("::1", "Local"),
        ("ff02::1", "Broadcast"),
        ("fe80::1", "Local"),
    ] {
        assert_eq!(show(&routes, destination), expected, "{destination}");
        let address = destination.parse().unwrap();
        assert_eq!(routes.is_local(address), expected == "Local", "{destination}");
    }
}

#[test]
fn neighbours_and_links_of_served_interfaces_alone() {
    let routes = host("");
    let neighbour = |interface, address: &str| routes.neighbour(InterfaceId(interface), address.parse().unwrap());
    assert_eq!(neighbour(0, "10.0.0.1"), "02:00:00:00:00:01".parse().ok());
    assert_eq!(neighbour(1, "10.0.0.1"), None);
    assert_eq!(neighbour(1, "fd00:2::1"), "02:00:00:00:02:01".parse().ok());
    assert_eq!(neighbour(0, "10.99.0.2"), None);
    let link = routes.link(InterfaceId(1)).unwrap();
    assert_eq!((link.mac.to_string().as_str(), link.mtu, link.up), ("02:00:00:00:01:fe", 1300, true));
    assert_eq!(routes.link(InterfaceId(2)), None);
    assert_eq!(host("neigh del 10.0.0.1 dev eth0").neighbour(InterfaceId(0), Address::v4(0x0a000001)), None);
}

/// Measured on Linux 6.18 without policy rules: one trie for local and main in IPv4, two tables in IPv6.
#[test]
fn local_routes_and_longer_unicast_ones() {
    let routes = host(
        "route add 10.9.0.0/16 via 10.2.0.1
         route add 10.9.1.0/24 via 10.2.0.1
         route add fd00:9::/80 via fd00:2::2",
    );
    assert_eq!(show(&routes, "10.9.5.5"), "Local");
    assert_eq!(show(&routes, "10.9.1.1"), "eth1 via 10.2.0.1 src 10.2.0.254 mtu 1300");
    assert_eq!(show(&routes, "fd00:9::5"), "Local");
}

#[test]
fn longest_prefix_then_lowest_metric_then_first() {
    let routes = host(
        "route add 172.16.0.0/12 via 10.0.0.1 metric 20
         route add 172.16.0.0/12 via 10.2.0.1 metric 10
         route append 172.16.0.0/12 via 10.2.0.9 metric 10
         route add 172.16.5.0/24 via 10.0.0.1 metric 500 mtu 1400 src 10.2.0.254",
    );
    assert_eq!(show(&routes, "172.31.255.255"), "eth1 via 10.2.0.1 src 10.2.0.254 mtu 1300");
    assert_eq!(show(&routes, "172.16.5.255"), "eth0 via 10.0.0.1 src 10.2.0.254 mtu 1400");
    assert_eq!(show(&routes, "172.16.6.0"), "eth1 via 10.2.0.1 src 10.2.0.254 mtu 1300");
}

#[test]
fn refusals_and_throw() {
    let routes = host(
        "route add unreachable 172.16.0.0/24
         route add prohibit 172.16.1.0/24
         route add blackhole 172.16.2.0/24
         route add throw 172.16.3.0/24
         route add throw 172.16.4.0/24
         route add 172.16.4.0/23 via 10.2.0.1 table default
         route del default",
    );
    for (destination, expected) in [
        ("172.16.0.1", "Unreachable"),
        ("172.16.1.1", "Unreachable"),
        ("172.16.2.1", "Blackhole"),
        ("172.16.3.1", "Unreachable"),
        ("172.16.4.1", "eth1 via 10.2.0.1 src 10.2.0.254 mtu 1300"),
        ("198.51.100.1", "Unreachable"),
    ] {
        assert_eq!(show(&routes, destination), expected, "{destination}");
    }
}

#[test]
fn multipath_shares_by_weight_and_keeps_a_flow() {
    let text = "route replace default nexthop via 10.0.0.1 dev eth0 weight 1 nexthop via 10.2.0.1 dev eth1 weight 3";
    let routes = host(text);
    let first = "eth0 via 10.0.0.1 src 10.0.0.254 mtu 1500";
    let second = "eth1 via 10.2.0.1 src 10.2.0.254 mtu 1300";
    let share = (0..1000u32).filter(|n| show_hashed(&routes, "198.51.100.1", n * (u32::MAX / 1000)) == first);
    assert!((249..=251).contains(&share.count()));
    assert_eq!(show_hashed(&routes, "198.51.100.1", 0), first);
    assert_eq!(show_hashed(&routes, "198.51.100.1", u32::MAX), second);
    let one_left = host(&format!("{text}\nlink set eth0 down"));
    assert_eq!(show_hashed(&one_left, "198.51.100.1", 0), second);
}

#[test]
fn a_link_that_goes_down_takes_its_ipv4_routes() {
    let down = "route add 172.16.0.0/12 via 10.2.0.1\nroute add default via 10.2.0.1 metric 9\nlink set eth0 down";
    let routes = host(down);
    assert_eq!(show(&routes, "10.0.0.1"), "eth1 via 10.2.0.1 src 10.2.0.254 mtu 1300");
    assert_eq!(show(&routes, "10.0.0.254"), "Local");
    // The connected route comes back with the link, the static one does not.
    let routes = host(&format!("{down}\nlink set eth0 up"));
    assert_eq!(show(&routes, "10.0.0.1"), "eth0 src 10.0.0.254 mtu 1500");
    assert_eq!(show(&routes, "198.51.100.1"), "eth1 via 10.2.0.1 src 10.2.0.254 mtu 1300");
}

#[test]
fn ipv4_by_an_ipv6_gateway() {
    let routes = host("route add 172.16.0.0/12 via inet6 fe80::2 dev eth1");
    assert_eq!(show(&routes, "172.16.0.1"), "eth1 via fe80::2 src 10.2.0.254 mtu 1300");
}

#[test]
fn sources() {
    let routes = host(
        "addr add 10.2.0.5/16 dev eth1
         addr add 10.3.0.5/24 dev eth1
         addr add fd00:3::5/64 dev eth1
         route add 10.7.0.0/16 via 10.3.0.1
         route add 10.8.0.0/16 dev eth1
         route add fd00:7::/64 via fd00:3::1
         route add fd00:8::/64 via fe80::1 dev eth1
         link add eth2 mtu 1500
         route add 172.20.0.0/16 dev eth2",
    );
    for (destination, source) in [
        ("10.7.0.1", "10.3.0.5"),
        ("10.8.0.1", "10.2.0.254"),
        ("10.2.0.9", "10.2.0.254"),
        ("10.3.0.9", "10.3.0.5"),
        ("fd00:7::1", "fd00:3::5"),
        ("fd00:3::9", "fd00:3::5"),
        ("fd00:8::1", "fd00:2::254"),
        ("172.20.0.1", "10.0.0.254"),
    ] {
        let shown = show(&routes, destination);
        assert!(shown.contains(&format!(" src {source} ")), "{destination}: {shown}");
    }
    let bare = Database::new(&[]);
    let hop = RouteHop { ifindex: 2, via: None, weight: 1 };
    assert_eq!(bare.source(Address::v4(0x0a000000), 8, &hop), Address::UNSPECIFIED_V4);
}

#[test]
fn removal_of_one_hop_as_ipv6_announces_it() {
    let mut database = database("route replace default nexthop via fd00::1 dev eth0 nexthop via fd00:2::1 dev eth1");
    let line = net_file::parse_line("route del default via fd00::1 dev eth0").unwrap().unwrap();
    database.apply(&line).unwrap();
    assert_eq!(show(&database.snapshot(), "2001:db8::1"), "eth1 via fd00:2::1 src fd00:2::254 mtu 1300");
    let line = net_file::parse_line("route del default via fd00:2::1 dev eth1").unwrap().unwrap();
    database.apply(&line).unwrap();
    assert_eq!(show(&database.snapshot(), "2001:db8::1"), "Unreachable");
}

#[test]
fn local_addresses_are_single_ones() {
    let addresses = database("route add local 192.0.2.1 dev lo\naddr del 10.99.0.1/24 dev eth9").local_addresses();
    let shown: Vec<String> = addresses.iter().map(Address::to_string).collect();
    let expected = ["::1", "10.0.0.254", "10.2.0.254", "127.0.0.1", "192.0.2.1"];
    assert_eq!(shown[..5], expected);
    assert_eq!(shown[5..], ["fd00::254", "fd00:2::254", "fe80::1"]);
}
