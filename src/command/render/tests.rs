use super::*;
use crate::base::Endpoint;
use crate::command::names::{FileNames, NoNames};
use crate::command::request::{ConnectionInfo, ServerRule, ServiceRule, Stats};
use crate::service::{FullNat, Tunnel};

const NUMERIC: ListOptions = ListOptions {
    numeric: true,
    stats: false,
    rate: false,
    thresholds: false,
    persistent_conn: false,
    tun_info: false,
    exact: false,
    nosort: false,
    save: false,
};

fn endpoint(text: &str) -> Endpoint {
    let (host, port) = text.rsplit_once(':').unwrap();
    Endpoint::new(host.trim_matches(['[', ']']).parse().unwrap(), port.parse().unwrap())
}

fn address_key(protocol: Protocol, text: &str) -> ServiceKey {
    ServiceKey::Address { protocol, endpoint: endpoint(text) }
}

fn service(key: ServiceKey, scheduler: &str, servers: Vec<ServerInfo>) -> ServiceInfo {
    let mask = if key.family() == Family::V4 { u32::MAX } else { 128 };
    let rule = ServiceRule {
        key,
        scheduler: scheduler.into(),
        flags: SchedulerFlags::default(),
        persistent_s: None,
        mask,
        engine: None,
        one_packet: false,
        mss_max: 0,
    };
    ServiceInfo { rule, stats: Stats::default(), servers }
}

fn server(text: &str, method: Method, weight: i32) -> ServerInfo {
    let endpoint = endpoint(text);
    let rule =
        ServerRule { endpoint, method, weight, upper: 0, lower: 0, tunnel: Tunnel::Ipip, full_nat: FullNat::Off };
    ServerInfo { rule, active: 0, inactive: 0, persistent: 0, stats: Stats::default() }
}

fn list(services: Vec<ServiceInfo>, options: &ListOptions, names: &dyn Names) -> String {
    let mut out = String::new();
    let response = Response::Services { table_size: 4096, services };
    render(&mut out, &Request::Services(None), &response, options, names);
    out
}

/// The services of golden case `ops-flags-combined`, oldest first, servers newest first.
fn everything_at_once() -> Vec<ServiceInfo> {
    let full = |key: ServiceKey, scheduler: &str, flags, mask, servers| {
        let mut service = service(key, scheduler, servers);
        service.rule.flags = SchedulerFlags(flags);
        service.rule.persistent_s = Some(30);
        service.rule.mask = mask;
        service.rule.engine = Some("sip".into());
        service.rule.one_packet = true;
        service
    };
    let mut tunnelled = server("10.2.0.1:5060", Method::Tunnelling, 0);
    tunnelled.rule.tunnel = Tunnel::Gue { port: 6080, checksum: TunnelChecksum::Full };
    (tunnelled.rule.upper, tunnelled.rule.lower) = (9, 8);
    let mut masqueraded = server("10.2.0.2:5062", Method::Masquerading, 65535);
    masqueraded.rule.upper = 9;
    vec![
        full(address_key(Protocol::Udp, "10.9.0.1:5060"), "mh", 3, 0xffff_0000, vec![masqueraded, tunnelled]),
        full(address_key(Protocol::Udp, "[fd00:9::1]:5060"), "sh", 1, 96, Vec::new()),
        full(ServiceKey::Mark { family: Family::V6, mark: 9 }, "sh", 3, 96, Vec::new()),
    ]
}

#[test]
fn lists_everything_at_once_as_recorded() {
    let expected = "\
IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn
UDP  10.9.0.1:5060 mh (mh-fallback,mh-port) persistent 30 mask 255.255.0.0 pe sip ops
  -> 10.2.0.1:5060                Tunnel  0      0          0         
  -> 10.2.0.2:5062                Masq    65535  0          0         
UDP  [fd00:9::1]:5060 sh (sh-fallback) persistent 30 mask 96 pe sip ops
FWM  9 IPv6 sh (sh-fallback,sh-port) persistent 30 mask 96 pe sip ops
";
    assert_eq!(list(everything_at_once(), &NUMERIC, &NoNames), expected);
}

#[test]
fn the_other_views_show_other_columns() {
    let lines = |options: ListOptions| -> Vec<String> {
        list(everything_at_once(), &options, &NoNames).lines().skip(1).take(4).map(str::to_owned).collect()
    };
    let rows = lines(ListOptions { thresholds: true, ..NUMERIC });
    assert_eq!(rows[0], "Prot LocalAddress:Port            Uthreshold Lthreshold ActiveConn InActConn ");
    assert_eq!(rows[3], "  -> 10.2.0.1:5060                9          8          0          0         ");
    let rows = lines(ListOptions { persistent_conn: true, ..NUMERIC });
    assert_eq!(rows[0], "Prot LocalAddress:Port            Weight    PersistConn ActiveConn InActConn ");
    assert_eq!(rows[3], "  -> 10.2.0.1:5060                0         0           0          0         ");
    let rows = lines(ListOptions { tun_info: true, ..NUMERIC });
    assert_eq!(rows[1], "  -> RemoteAddress:Port           Forward TunnelInfo    Weight ActiveConn InActConn");
    assert_eq!(rows[3], "  -> 10.2.0.1:5060                Tunnel  gue:6080:+c   0      0          0         ");
    let rows = lines(ListOptions { stats: true, rate: true, thresholds: true, ..NUMERIC });
    assert_eq!(rows[0], "Prot LocalAddress:Port               Conns   InPkts  OutPkts  InBytes OutBytes");
    assert_eq!(rows[3], "  -> 10.2.0.1:5060                       0        0        0        0        0");
    let rows = lines(ListOptions { rate: true, thresholds: true, ..NUMERIC });
    assert_eq!(rows[0], "Prot LocalAddress:Port                 CPS    InPPS   OutPPS    InBPS   OutBPS");
}

#[test]
fn saves_everything_at_once_as_recorded() {
    let expected = "\
-A -u 10.9.0.1:5060 -s mh -p 30 -M 255.255.0.0 --pe sip -o -b mh-fallback,mh-port
-a -u 10.9.0.1:5060 -r 10.2.0.1:5060 -i -w 0 --tun-type gue --tun-port 6080 --tun-csum
-a -u 10.9.0.1:5060 -r 10.2.0.2:5062 -m -w 65535
-A -u [fd00:9::1]:5060 -s sh -p 30 -M 96 --pe sip -o -b sh-fallback
-A -f 9 -6 -s sh -p 30 -M 96 --pe sip -o -b sh-fallback,sh-port
";
    let options = ListOptions { save: true, nosort: true, ..NUMERIC };
    assert_eq!(list(everything_at_once(), &options, &NoNames), expected);
}

/// Recorded: of `sh` and `mh` the third flag has no name, and an engine without persistence is saved, not listed.
#[test]
fn odd_services_as_recorded() {
    let mut third = service(address_key(Protocol::Tcp, "10.9.0.1:80"), "sh", Vec::new());
    third.rule.flags = SchedulerFlags(SchedulerFlags::FLAG_3);
    let mut engine = service(address_key(Protocol::Udp, "10.9.0.2:5060"), "rr", Vec::new());
    engine.rule.engine = Some("sip".into());
    engine.rule.mask = 0;
    let mark = service(ServiceKey::Mark { family: Family::V4, mark: u32::MAX }, "lc", Vec::new());
    let services = vec![third, engine, mark];
    let text = list(services.clone(), &NUMERIC, &NoNames);
    let rows: Vec<&str> = text.lines().skip(3).collect();
    assert_eq!(rows, ["FWM  -1 lc", "TCP  10.9.0.1:80 sh ()", "UDP  10.9.0.2:5060 rr"]);
    let text = list(services, &ListOptions { save: true, ..NUMERIC }, &NoNames);
    assert_eq!(text, "-A -f -1 -s lc\n-A -t 10.9.0.1:80 -s sh -b \n-A -u 10.9.0.2:5060 -s rr --pe sip\n");
}

#[test]
fn one_service_has_no_version_line_and_nosort_keeps_the_order() {
    let servers = ["10.2.0.2:80", "10.2.0.1:80"].map(|text| server(text, Method::DirectRouting, 1)).to_vec();
    let key = address_key(Protocol::Tcp, "10.9.0.1:80");
    let response = Response::Services { table_size: 4096, services: vec![service(key, "rr", servers)] };
    let addresses = |nosort| {
        let mut out = String::new();
        render(&mut out, &Request::Services(Some(key)), &response, &ListOptions { nosort, ..NUMERIC }, &NoNames);
        assert!(out.starts_with("Prot LocalAddress:Port Scheduler Flags\n"));
        out.lines().skip(3).map(|line| line[5..13].to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(addresses(false), ["10.2.0.1", "10.2.0.2"]);
    assert_eq!(addresses(true), ["10.2.0.2", "10.2.0.1"]);
}

/// Recorded with these hosts: IPv4 names are cut to their column, IPv6 names are not, saved ones at 59 octets.
#[test]
fn names_are_cut_as_recorded() {
    let hosts = "\
10.9.0.7 averyveryveryveryveryverylonghostname.example.org alias
fd00:9::7 anotherverylongnameforthesixthfamily.example.org
10.9.0.8 a23456789b23456789c23456789d23456789e23456789f23456789g23456789h23456789.example
";
    let names = FileNames::new("http 80/tcp\nhttp-alt 8080/tcp\n", hosts);
    let masqueraded = |text: &str| vec![server(text, Method::Masquerading, 1)];
    let mark = ServiceKey::Mark { family: Family::V4, mark: 9 };
    let services = vec![
        service(address_key(Protocol::Tcp, "10.9.0.7:80"), "wlc", masqueraded("10.9.0.7:8080")),
        service(address_key(Protocol::Tcp, "10.9.0.8:8080"), "wlc", Vec::new()),
        service(address_key(Protocol::Sctp, "10.9.0.7:2905"), "wlc", Vec::new()),
        service(address_key(Protocol::Tcp, "[fd00:9::7]:80"), "wlc", masqueraded("[fd00:9::7]:8080")),
        service(mark, "wlc", vec![server("10.9.0.7:80", Method::DirectRouting, 1)]),
    ];
    let text = list(services.clone(), &ListOptions::default(), &names);
    let rows: Vec<&str> = text.lines().skip(3).map(str::trim_end).collect();
    assert_eq!(
        rows,
        [
            "TCP  averyveryveryveryveryverylon wlc",
            "  -> averyveryveryveryveryverylon Masq    1      0          0",
            "TCP  a23456789b23456789c23456789d wlc",
            "SCTP averyveryveryveryveryverylon wlc",
            "TCP  [anotherverylongnameforthesixthfamily.example.org]:http wlc",
            "  -> [anotherverylongnameforthesixthfamily.example.org]:http-alt Masq    1      0          0",
            "FWM  9 wlc",
            "  -> averyveryveryveryveryverylon Route   1      0          0",
        ]
    );
    let text = list(services, &ListOptions { save: true, ..ListOptions::default() }, &names);
    let rows: Vec<&str> = text.lines().collect();
    assert_eq!(rows[2], "-A -t a23456789b23456789c23456789d23456789e23456789f23456789g2345 -s wlc");
    assert_eq!(rows[6], "-A -f 9 -s wlc");
    assert_eq!(rows[7], "-a -f 9 -r averyveryveryveryveryverylonghostname.example.org:80 -g -w 1");
}

#[test]
fn counters_of_servers_are_cut_to_32_bits() {
    let stats = Stats {
        connections: (1 << 32) + 5,
        in_packets: 1 << 33,
        in_octets: (1 << 32) + 7,
        connection_rate: 100_000_000,
        in_octet_rate: 100_000_000,
        ..Stats::default()
    };
    let mut counted = server("10.2.0.1:80", Method::DirectRouting, 1);
    counted.stats = stats;
    let mut service = service(address_key(Protocol::Tcp, "10.9.0.1:80"), "rr", vec![counted]);
    service.stats = stats;
    let rows = |options: ListOptions| -> Vec<String> {
        list(vec![service.clone()], &options, &NoNames).lines().skip(3).map(str::to_owned).collect()
    };
    let counters = rows(ListOptions { stats: true, ..NUMERIC });
    assert_eq!(counters[0], "TCP  10.9.0.1:80                     4294M    8589M        0    4294M        0");
    assert_eq!(counters[1], "  -> 10.2.0.1:80                         5        0        0    4294M        0");
    let rates = rows(ListOptions { rate: true, ..NUMERIC });
    assert_eq!(rates[0], "TCP  10.9.0.1:80                   100000K        0        0  100000K        0");
    assert_eq!(rates[1], "  -> 10.2.0.1:80                  100000000        0        0  100000K        0");
}

fn connection(protocol: Option<Protocol>, expires_s: u32, state: &str, endpoints: [&str; 3]) -> ConnectionInfo {
    let [client, virtual_service, destination] = endpoints.map(endpoint);
    let state = state.to_owned();
    ConnectionInfo { protocol, expires_s, state, client, virtual_service, destination, engine: None, from_sync: false }
}

/// Rows of golden cases `traffic-conns` and `sip-persistence-v4`, and of the specification.
#[test]
fn connections_are_written_as_recorded_and_read_back() {
    let tcp = connection(Some(Protocol::Tcp), 59, "SYN_RECV", ["[fd00:1::1]:1025", "[fd00:9::1]:80", "[fd00:2::1]:80"]);
    let sctp = connection(Some(Protocol::Sctp), 3, "INIT1", ["10.1.0.1:1025", "10.9.0.1:99", "10.2.0.1:99"]);
    let mark = connection(None, 6049, "NONE", ["10.0.0.50:0", "0.0.0.7:0", "10.0.1.2:0"]);
    let mut sip = connection(Some(Protocol::Udp), 59, "NONE", ["10.1.0.1:0", "10.9.0.1:5060", "10.2.0.3:5060"]);
    sip.engine = Some(("sip".into(), "call-a@host".into()));
    let rows = [
        (&tcp, "TCP 00:59  SYN_RECV    [fd00:1::1]:1025   [fd00:9::1]:80     [fd00:2::1]:80\n"),
        (&sctp, "SCTP 00:03  INIT1       10.1.0.1:1025      10.9.0.1:99        10.2.0.1:99\n"),
        (&mark, "IP  100:49 NONE        10.0.0.50:0        0.0.0.7:0          10.0.1.2:0\n"),
        (
            &sip,
            "UDP 00:59  NONE        10.1.0.1:0         10.9.0.1:5060      10.2.0.3:5060    sip                call-a@host\n",
        ),
    ];
    let options = ListOptions { persistent_conn: true, ..NUMERIC };
    for (row, text) in rows {
        let mut out = String::new();
        write_connection(&mut out, row, &options, &NoNames);
        assert_eq!(out, text);
        assert_eq!(parse_connection(text.trim_end_matches('\n')).as_ref(), Ok(row));
    }
    let mut out = String::new();
    write_connection(&mut out, &sip, &NUMERIC, &NoNames);
    assert_eq!(out, "UDP 00:59  NONE        10.1.0.1:0         10.9.0.1:5060      10.2.0.3:5060\n");
    assert!(connections_header(&NUMERIC).ends_with(" destination\n"));
    assert!(connections_header(&options).ends_with(" destination        pe name          pe_data\n"));
    for text in ["", "pro expire state", "TCP 59 X a:1 b:2 c:3", "TCP 00:01 X 1.1.1.1:1 1.1.1.1:2 1.1.1.1"] {
        assert!(parse_connection(text).is_err(), "{text}");
    }
}

#[test]
fn names_in_connections_follow_the_protocol() {
    let names = FileNames::new("http 80/tcp\n", "10.9.0.1 vip\n");
    let row = |protocol| {
        let mut out = String::new();
        let row = connection(protocol, 9, "NONE", ["10.1.0.1:0", "10.9.0.1:80", "10.2.0.1:80"]);
        write_connection(&mut out, &row, &ListOptions::default(), &names);
        out
    };
    assert_eq!(
        row(Some(Protocol::Tcp)),
        "TCP 00:09  NONE        10.1.0.1:0         vip:http           10.2.0.1:http\n"
    );
    assert_eq!(row(None), "IP  00:09  NONE        10.1.0.1:0         vip:80             10.2.0.1:80\n");
}

#[test]
fn daemons_and_timeouts_are_one_line_each() {
    let daemon = |role, group: Option<&str>, sync_maxlen| DaemonRule {
        role,
        interface: "eth0".into(),
        syncid: 7,
        sync_maxlen,
        group: group.map(|group| group.parse().unwrap()),
        port: 0,
        ttl: 0,
    };
    let daemons = vec![daemon(DaemonRole::Master, None, 1400), daemon(DaemonRole::Backup, Some("ff02::81"), 0)];
    let mut out = String::new();
    render(&mut out, &Request::Daemons, &Response::Daemons(daemons), &NUMERIC, &NoNames);
    let timeouts = Response::Timeouts { tcp_s: 900, tcp_fin_s: 120, udp_s: 300 };
    render(&mut out, &Request::Timeouts, &timeouts, &NUMERIC, &NoNames);
    assert_eq!(
        out,
        "master sync daemon (mcast=eth0, syncid=7, maxlen=1400, group=224.0.0.81, port=8848, ttl=1)\n\
         backup sync daemon (mcast=eth0, syncid=7, maxlen=1452, group=ff02::81, port=8848, ttl=1)\n\
         Timeout (tcp tcpfin udp): 900 120 300\n"
    );
}
