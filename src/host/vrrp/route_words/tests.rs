//! Routes and rules as users write them.

use super::*;

fn no_tables(_: &str) -> Option<u32> {
    None
}

/// The parts of a route: its message, its interface, its next hops.
type Parts = (RouteMessage, Option<Name>, Vec<(RouteNextHop, Option<Name>)>);

fn parse_route(line: &str) -> Result<Parts, String> {
    match Prepared::new(&Attached::Route(line.into()), &no_tables)? {
        Prepared::Route { message, interface, hops } => Ok((message, interface, hops)),
        Prepared::Rule(_) => panic!("a route is no rule"),
    }
}

fn inet(text: &str) -> RouteAddress {
    text.parse::<IpAddr>().unwrap().into()
}

#[test]
fn routes_by_gateway_interface_and_source() {
    let (message, interface, _) =
        parse_route("src 192.168.100.1 192.168.109.0/24 via 192.168.200.254 dev eth1").unwrap();
    assert_eq!(interface.as_deref(), Some("eth1"));
    assert_eq!((message.header.destination_prefix_length, message.header.scope), (24, RouteScope::Universe));
    for wanted in [
        RouteAttribute::PrefSource(inet("192.168.100.1")),
        RouteAttribute::Destination(inet("192.168.109.0")),
        RouteAttribute::Gateway(inet("192.168.200.254")),
        RouteAttribute::Table(254),
    ] {
        assert!(message.attributes.contains(&wanted), "{wanted:?}");
    }
    let (message, ..) = parse_route("192.168.111.0/24 dev eth2").unwrap();
    assert_eq!(message.header.scope, RouteScope::Link);
    let (message, ..) = parse_route("0.0.0.0/0 gw 192.168.0.1 table 1000").unwrap();
    assert_eq!((message.header.destination_prefix_length, message.header.table), (0, 0));
    assert!(message.attributes.contains(&RouteAttribute::Table(1000)));
    let (message, ..) = parse_route("default via fe80::1 dev eth0 metric 5 mtu lock 1400").unwrap();
    assert_eq!(message.header.address_family, AddressFamily::Inet6);
    let metrics = RouteAttribute::Metrics(vec![RouteMetric::Lock(4), RouteMetric::Mtu(1400)]);
    assert!(message.attributes.contains(&metrics) && message.attributes.contains(&RouteAttribute::Priority(5)));
}

#[test]
fn kinds_and_several_hops() {
    let (message, ..) = parse_route("blackhole 192.168.113.1/32").unwrap();
    assert_eq!((message.header.kind, message.header.scope), (RouteType::BlackHole, RouteScope::Universe));
    let (_, _, hops) = parse_route("10.0.0.0/8 nexthop via 10.1.0.1 dev eth0 weight 3 nexthop via 10.1.0.2").unwrap();
    let told: Vec<_> = hops.iter().map(|(hop, name)| (hop.hops, name.as_deref(), hop.attributes.clone())).collect();
    assert_eq!(
        told,
        [
            (2, Some("eth0"), vec![RouteAttribute::Gateway(inet("10.1.0.1"))]),
            (0, None, vec![RouteAttribute::Gateway(inet("10.1.0.2"))]),
        ]
    );
    let (_, _, hops) = parse_route("192.168.113.0/24 via 192.168.100.252 or 192.168.100.253").unwrap();
    assert_eq!(hops.len(), 2);
}

#[test]
fn rules_by_address_mark_and_interface() {
    let parse = |line: &str| Prepared::new(&Attached::Rule(line.into()), &no_tables);
    let Ok(Prepared::Rule(message)) = parse("from 10.0.0.0/8 iif eth0 fwmark 0x10/0xff table 100 priority 7") else {
        panic!("a rule")
    };
    assert_eq!((message.header.src_len, message.header.table, message.header.action), (8, 100, RuleAction::ToTable));
    for wanted in [
        RuleAttribute::Source("10.0.0.0".parse().unwrap()),
        RuleAttribute::Iifname("eth0".to_owned()),
        RuleAttribute::FwMark(16),
        RuleAttribute::FwMask(255),
        RuleAttribute::Priority(7),
        RuleAttribute::Table(100),
    ] {
        assert!(message.attributes.contains(&wanted), "{wanted:?}");
    }
    assert!(parse("from 10.0.0.0/8").is_err_and(|text| text.contains("no table")));
    assert!(
        matches!(parse("to fd00::/8 blackhole"), Ok(Prepared::Rule(it)) if it.header.family == AddressFamily::Inet6)
    );
}

#[test]
fn what_is_not_understood_is_told() {
    for (line, reason) in [
        ("10.0.0.0/33 dev eth0", "has no prefix"),
        ("via 10.0.0.1", "no destination"),
        ("10.0.0.0/8 encap mpls 30", "`encap' is not understood"),
        ("10.0.0.0/8 table nowhere", "no routing table"),
        ("10.0.0.0/8 via", "has no value"),
        ("10.0.0.0/8 nexthop via 10.0.0.1 weight 0", "1 to 256"),
    ] {
        let text = parse_route(line).unwrap_err();
        assert!(text.contains(reason) && text.contains(line), "{text}");
    }
}

#[test]
fn tables_have_names() {
    let tables = parse_tables("# reserved\n255\tlocal\n100 office # ours\nbroken\n");
    assert_eq!(tables, [("local".to_owned(), 255), ("office".to_owned(), 100)]);
    let table = |name: &str| tables.iter().find(|it| it.0 == name).map(|it| it.1);
    assert!(Prepared::new(&Attached::Route("default dev eth0 table office".into()), &table).is_ok());
}

#[test]
fn an_interface_that_is_not_there_is_named() {
    let prepared = Prepared::new(&Attached::Route("10.0.0.0/8 dev eth9".into()), &no_tables).unwrap();
    assert_eq!(prepared.request(&Links::default(), true), Err("eth9".into()));
}
