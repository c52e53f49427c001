//! Lists against the text of ipvsadm 1.31. Where a recorded case is named above a test, its rows are excerpts of that
//! case; other rows follow from the measured formats. Rules are given as command lines.

use super::*;
use crate::base::Endpoint;
use crate::command::names::{FileNames, NoNames};
use crate::command::request::{ConnectionInfo, ServerRule, ServiceRule, Stats};
use crate::command::{Parsed, parse::parse};

const VERSION: &str = "IP Virtual Server version 1.2.1 (size=4096)\n";
const PLAIN: &str = "Prot LocalAddress:Port Scheduler Flags\n\
                     \x20 -> RemoteAddress:Port           Forward Weight ActiveConn InActConn\n";
const STATS: &str = "Prot LocalAddress:Port               Conns   InPkts  OutPkts  InBytes OutBytes\n\
                     \x20 -> RemoteAddress:Port\n";
const RATE: &str = "Prot LocalAddress:Port                 CPS    InPPS   OutPPS    InBPS   OutBPS\n\
                    \x20 -> RemoteAddress:Port\n";

fn parsed(line: &str, names: &dyn Names) -> (Request, ListOptions) {
    let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
    match parse("ipvsadm", &words, names) {
        Ok(Parsed::Request { request, output }) => (request, output),
        other => panic!("{line}: {other:?}"),
    }
}

fn service_info(rule: ServiceRule) -> ServiceInfo {
    ServiceInfo { rule, stats: Stats::default(), servers: Vec::new() }
}

fn server_info(rule: ServerRule) -> ServerInfo {
    ServerInfo { rule, active: 0, inactive: 0, persistent: 0, stats: Stats::default() }
}

/// The services that these commands make, as the director lists them.
fn services(commands: &[&str]) -> Vec<ServiceInfo> {
    let mut services: Vec<ServiceInfo> = Vec::new();
    for command in commands {
        match parsed(command, &NoNames).0 {
            Request::AddService(rule) => services.push(service_info(rule)),
            Request::AddServer { service, server } => {
                let found = services.iter_mut().find(|info| info.rule.key == service);
                found.expect("a service first").servers.insert(0, server_info(server));
            }
            other => panic!("{other:?} makes nothing"),
        }
    }
    services
}

fn list(command: &str, services: &[ServiceInfo], names: &dyn Names) -> String {
    let (request, options) = parsed(command, names);
    let response = Response::Services { table_size: 4096, services: services.to_vec() };
    let mut text = String::new();
    render(&mut text, &request, &response, &options, names);
    text
}

fn listed(command: &str, commands: &[&str]) -> String {
    list(command, &services(commands), &NoNames)
}

/// The lines behind the headers.
fn rows(text: &str) -> Vec<&str> {
    text.lines().skip_while(|line| !line.contains("RemoteAddress")).skip(1).collect()
}

/// Rules of cli/list-sort, without the servers of IPv6 and one of the mark.
const SORT: [&str; 20] = [
    "-A -t 10.9.0.2:80 -s rr",
    "-A -u 10.9.0.1:53 -s wrr",
    "-A -t 10.9.0.1:443 -s lc -p 600",
    "-A -t 10.9.0.1:80 -s wlc",
    "-A --sctp-service 10.9.0.1:80 -s sh",
    "-A -f 10 -s rr",
    "-A -f 9 -s rr -p 60 -M 255.255.255.0",
    "-A -t [fd00:9::2]:80 -s rr",
    "-A -t [fd00:9::1]:80 -s rr",
    "-A -t 10.9.0.10:80 -s rr",
    "-A -t 9.255.255.255:80 -s rr",
    "-A -t 192.168.1.1:80 -s rr",
    "-a -t 10.9.0.1:80 -r 10.2.0.2:80 -m",
    "-a -t 10.9.0.1:80 -r 10.2.0.10:80 -m",
    "-a -t 10.9.0.1:80 -r 10.2.0.1:8080 -m",
    "-a -t 10.9.0.1:80 -r 10.2.0.1:80 -m",
    "-a -t 10.9.0.1:80 -r 9.9.9.9:80 -m",
    "-a -t 10.9.0.1:80 -r 200.9.9.9:80 -m",
    "-a -f 10 -r 10.2.0.2:0",
    "-a -u 10.9.0.1:53 -r 10.2.0.1:53 -g -x 100 -y 10",
];

/// cli/list-sort
#[test]
fn a_list_is_sorted_by_signed_differences() {
    let expected = format!("{VERSION}{PLAIN}")
        + "TCP  192.168.1.1:80 rr\n\
           TCP  9.255.255.255:80 rr\n\
           TCP  10.9.0.1:80 wlc\n\
           \x20 -> 200.9.9.9:80                 Masq    1      0          0         \n\
           \x20 -> 9.9.9.9:80                   Masq    1      0          0         \n\
           \x20 -> 10.2.0.1:80                  Masq    1      0          0         \n\
           \x20 -> 10.2.0.1:8080                Masq    1      0          0         \n\
           \x20 -> 10.2.0.2:80                  Masq    1      0          0         \n\
           \x20 -> 10.2.0.10:80                 Masq    1      0          0         \n\
           TCP  10.9.0.1:443 lc persistent 600\n\
           TCP  10.9.0.2:80 rr\n\
           TCP  10.9.0.10:80 rr\n\
           UDP  10.9.0.1:53 wrr\n\
           \x20 -> 10.2.0.1:53                  Route   1      0          0         \n\
           SCTP 10.9.0.1:80 sh\n\
           TCP  [fd00:9::1]:80 rr\n\
           TCP  [fd00:9::2]:80 rr\n\
           FWM  9 rr persistent 60 mask 255.255.255.0\n\
           FWM  10 rr\n\
           \x20 -> 10.2.0.2:0                   Route   1      0          0         \n";
    assert_eq!(listed("-L -n", &SORT), expected);
}

#[test]
fn without_sorting_a_list_is_the_directors() {
    let text = listed("-L -n --nosort -t 10.9.0.1:80", &SORT[3..4]);
    assert_eq!(text, format!("{PLAIN}TCP  10.9.0.1:80 wlc\n"), "one service has no version line");
    let text = listed("-L -n --nosort", &SORT);
    let rows = rows(&text);
    assert_eq!(rows[0], "TCP  10.9.0.2:80 rr");
    let first_server = rows.iter().position(|row| row.starts_with("TCP  10.9.0.1:80")).unwrap() + 1;
    assert!(rows[first_server].starts_with("  -> 200.9.9.9:80 "), "the newest server is first");
}

/// cli/ops-flags-combined
const FLAGS: [&str; 5] = [
    "-A -u 10.9.0.1:5060 -s mh -b mh-port,mh-fallback -p 30 -M 255.255.0.0 --pe sip -o",
    "-A -u [fd00:9::1]:5060 -s sh -b sh-fallback -p 30 -M 96 --pe sip -o",
    "-A -f 9 -6 -s sh -b sh-port,sh-fallback -p 30 -M 96 --pe sip -o",
    "-a -u 10.9.0.1:5060 -r 10.2.0.1:5060 -i -w 0 -x 9 -y 8 --tun-type gue --tun-port 6080 --tun-csum",
    "-a -u 10.9.0.1:5060 -r 10.2.0.2:5062 -m -w 65535 -x 9",
];

/// cli/ops-flags-combined
#[test]
fn each_view_has_its_columns() {
    let names = [
        "UDP  10.9.0.1:5060 mh (mh-fallback,mh-port) persistent 30 mask 255.255.0.0 pe sip ops",
        "UDP  [fd00:9::1]:5060 sh (sh-fallback) persistent 30 mask 96 pe sip ops",
        "FWM  9 IPv6 sh (sh-fallback,sh-port) persistent 30 mask 96 pe sip ops",
    ];
    let views = [
        (
            "-L -n",
            PLAIN,
            "  -> 10.2.0.1:5060                Tunnel  0      0          0         ",
            "  -> 10.2.0.2:5062                Masq    65535  0          0         ",
        ),
        (
            "-L -n --thresholds",
            "Prot LocalAddress:Port            Uthreshold Lthreshold ActiveConn InActConn \n  -> RemoteAddress:Port\n",
            "  -> 10.2.0.1:5060                9          8          0          0         ",
            "  -> 10.2.0.2:5062                9          0          0          0         ",
        ),
        (
            "-L -n --persistent-conn",
            "Prot LocalAddress:Port            Weight    PersistConn ActiveConn InActConn \n  -> RemoteAddress:Port\n",
            "  -> 10.2.0.1:5060                0         0           0          0         ",
            "  -> 10.2.0.2:5062                65535     0           0          0         ",
        ),
        (
            "-L -n --tun-info",
            "Prot LocalAddress:Port Scheduler Flags\n\
             \x20 -> RemoteAddress:Port           Forward TunnelInfo    Weight ActiveConn InActConn\n",
            "  -> 10.2.0.1:5060                Tunnel  gue:6080:+c   0      0          0         ",
            "  -> 10.2.0.2:5062                Masq    n/a           65535  0          0         ",
        ),
    ];
    for (command, header, first, second) in views {
        let expected = format!("{VERSION}{header}{}\n{first}\n{second}\n{}\n{}\n", names[0], names[1], names[2]);
        assert_eq!(listed(command, &FLAGS), expected, "{command}");
    }
    // Names alone, and each with its five counters.
    let zeros = "        0        0        0        0        0\n";
    for (command, header) in [("-L -n --stats", STATS), ("-L -n --rate", RATE)] {
        let expected = format!(
            "{VERSION}{header}\
             UDP  10.9.0.1:5060               {zeros}\
             \x20 -> 10.2.0.1:5060               {zeros}\
             \x20 -> 10.2.0.2:5062               {zeros}\
             UDP  [fd00:9::1]:5060            {zeros}\
             FWM  9 IPv6                      {zeros}"
        );
        assert_eq!(listed(command, &FLAGS), expected, "{command}");
    }
}

#[test]
fn views_asked_for_together_go_by_rank() {
    for (command, header) in [
        ("-L -n --tun-info --persistent-conn --thresholds --rate --stats", STATS),
        ("-L -n --tun-info --rate --thresholds", RATE),
    ] {
        assert_eq!(listed(command, &[]), format!("{VERSION}{header}"), "{command}");
    }
}

/// cli/ops-flags-combined, cli/wide-values, cli/scheduler-sh, cli/pe-sip
#[test]
fn saved_rules_are_those_of_ipvsadm() {
    let expected = "-A -u 10.9.0.1:5060 -s mh -p 30 -M 255.255.0.0 --pe sip -o -b mh-fallback,mh-port\n\
                    -a -u 10.9.0.1:5060 -r 10.2.0.1:5060 -i -w 0 --tun-type gue --tun-port 6080 --tun-csum\n\
                    -a -u 10.9.0.1:5060 -r 10.2.0.2:5062 -m -w 65535\n\
                    -A -u [fd00:9::1]:5060 -s sh -p 30 -M 96 --pe sip -o -b sh-fallback\n\
                    -A -f 9 -6 -s sh -p 30 -M 96 --pe sip -o -b sh-fallback,sh-port\n";
    assert_eq!(listed("-S -n", &FLAGS), expected);
    let rules = [
        "-A -t 255.255.255.254:65535 -s wlc",
        "-a -t 255.255.255.254:65535 -r 223.255.255.254:65535 -i -w 65535 --tun-type gue --tun-port 65535 --tun-remcsum",
        "-A -u 10.9.0.2:5060 -s rr --pe sip",
        "-A -t [2001:db8:1111:2222:3333:4444:5555:6666]:65535 -s rr -p 2678400 -M 127",
        "-A -f 6 -6 -s sh",
        "-a -f 6 -6 -r [fd00:2::1]:0 -i -w 1 --tun-type ipip",
    ];
    assert_eq!(listed("-S -n", &rules), rules.join("\n") + "\n", "what is read is what is written");
}

/// cli/wide-values and cli/ipv6-services: IPv6 is not cut to the columns, and not every address compresses alike.
#[test]
fn wide_names_push_the_columns() {
    let rules = [
        "-A -t [2001:db8:1111:2222:3333:4444:5555:6666]:65535 -s wlc",
        "-A -t [::ffff:1.2.3.4]:80 -s wlc",
        "-A -t [::1.2.3.4]:80 -s wlc",
        "-a -t [::1.2.3.4]:80 -r [2001:db8:1111:2222:3333:4444:5555:7777]:65535 -m",
        "-A -f 4294967295 -s lc",
    ];
    assert_eq!(
        rows(&listed("-L -n", &rules)),
        [
            "FWM  -1 lc",
            "TCP  [::1.2.3.4]:80 wlc",
            "  -> [2001:db8:1111:2222:3333:4444:5555:7777]:65535 Masq    1      0          0         ",
            "TCP  [::ffff:1.2.3.4]:80 wlc",
            "TCP  [2001:db8:1111:2222:3333:4444:5555:6666]:65535 wlc",
        ]
    );
    let stats = listed("-L -n --stats", &rules);
    let widest = "TCP  [2001:db8:1111:2222:3333:4444:5555:6666]:65535        0        0        0        0        0";
    assert_eq!(rows(&stats).last(), Some(&widest));
}

/// cli/list-names
#[test]
fn names_stand_where_there_are_names() {
    let names =
        FileNames::new("ssh 22/tcp\nsmtp 25/tcp\nhttp 80/tcp\nhttps 443/tcp\ndomain 53/udp\n", "127.0.0.1 localhost\n");
    let rules = services(&[
        "-A -t 127.0.0.1:80 -s rr",
        "-A -t 127.0.0.1:443 -s rr",
        "-A -u 127.0.0.1:53 -s rr",
        "-A -t 127.0.0.1:22 -s rr",
        "-A -t 127.0.0.1:25",
        "-A -t 127.0.0.1:61234",
        "-a -t 127.0.0.1:80 -r 127.0.0.1:80",
    ]);
    let expected = format!("{VERSION}{PLAIN}")
        + "TCP  localhost:ssh rr\n\
           TCP  localhost:smtp wlc\n\
           TCP  localhost:http rr\n\
           \x20 -> localhost:http               Route   1      0          0         \n\
           TCP  localhost:https rr\n\
           TCP  localhost:61234 wlc\n\
           UDP  localhost:domain rr\n";
    assert_eq!(list("-L", &rules, &names), expected);
    assert!(list("-S", &rules, &names).contains("\n-a -t localhost:http -r localhost:http -g -w 1\n"));
    assert!(!list("-L -n", &rules, &names).contains("localhost"));
}

#[test]
fn long_names_are_cut_to_the_columns() {
    let host = "a-host-whose-name-is-far-too-long-for-any-column-of-a-list.example.org";
    let names = FileNames::new("http 80/tcp\n", &format!("10.9.0.1 {host}\n"));
    let rules = services(&["-A -t 10.9.0.1:80", "-a -t 10.9.0.1:80 -r 10.9.0.1:80"]);
    let text = list("-L", &rules, &names);
    let [service, server] = rows(&text)[..] else { panic!("{text}") };
    assert_eq!(service, format!("TCP  {} wlc", &host[..28]));
    assert_eq!(server, format!("  -> {} Route   1      0          0         ", &host[..28]));
    let saved = list("-S", &rules, &names);
    assert_eq!(saved.lines().next(), Some(format!("-A -t {} -s wlc", &host[..59]).as_str()));
}

fn counted(connections: u64, packets: u64, octets: u64) -> Stats {
    Stats { connections, in_packets: packets, in_octets: octets, ..Stats::default() }
}

/// cli/traffic-counter-units
#[test]
fn counters_are_shortened_unless_exact() {
    let mut rules = services(&["-A -u 10.9.0.1:53 -s rr", "-a -u 10.9.0.1:53 -r 10.2.0.1:53 -m"]);
    for (packets, octets, short, exact) in [
        (11_000, 98_208_000, "    11000        0 98208000        0", "    11000        0 98208000        0"),
        (11_300, 100_886_400, "    11300        0  100886K        0", "    11300        0 100886400        0"),
        (121_300, 1_082_966_400, "   121300        0    1082M        0", "   121300        0 1082966400        0"),
    ] {
        rules[0].stats = counted(1, packets, octets);
        rules[0].servers[0].stats = rules[0].stats;
        for (command, counters) in [("-L -n --stats", short), ("-L -n --stats --exact", exact)] {
            let expected = format!(
                "{VERSION}{STATS}\
                 UDP  10.9.0.1:53                         1{counters}\n\
                 \x20 -> 10.2.0.1:53                         1{counters}\n"
            );
            assert_eq!(list(command, &rules, &NoNames), expected, "{command}");
        }
    }
}

/// ipvsadm 1.31 reads what servers counted with 32 bits, but not their octets; of rates all.
#[test]
fn counters_of_servers_wrap_and_their_rates_are_not_shortened() {
    const WRAP: u64 = 1 << 32;
    let mut rules = services(&["-A -u 10.9.0.1:53 -s rr", "-a -u 10.9.0.1:53 -r 10.2.0.1:53 -m"]);
    let stats = Stats {
        connections: WRAP + 7,
        in_packets: 2 * WRAP + 8,
        out_packets: WRAP - 1,
        in_octets: WRAP + 9,
        out_octets: 1,
        connection_rate: 123_456_789,
        in_packet_rate: 5 * WRAP + 3,
        out_packet_rate: 4,
        in_octet_rate: 123_456_789,
        out_octet_rate: WRAP + 6,
    };
    rules[0].stats = stats;
    rules[0].servers[0].stats = stats;
    assert_eq!(
        rows(&list("-L -n --stats", &rules, &NoNames)),
        [
            "UDP  10.9.0.1:53                     4294M    8589M    4294M    4294M        1",
            "  -> 10.2.0.1:53                         7        8    4294M    4294M        1",
        ]
    );
    assert_eq!(
        rows(&list("-L -n --rate", &rules, &NoNames)),
        [
            "UDP  10.9.0.1:53                   123456K   21474M        4  123456K    4294M",
            "  -> 10.2.0.1:53                  123456789        3        4  123456K        6",
        ]
    );
}

/// cli/traffic-persistent
#[test]
fn servers_show_their_connections_and_templates() {
    let mut rules = services(&["-A -t 10.9.0.1:80 -s rr -p 100", "-a -t 10.9.0.1:80 -r 10.2.0.2:80 -g"]);
    let server = &mut rules[0].servers[0];
    (server.active, server.inactive, server.persistent) = (4, 1, 2);
    let plain = list("-L -n", &rules, &NoNames);
    assert_eq!(rows(&plain)[1], "  -> 10.2.0.2:80                  Route   1      4          1         ");
    let templates = list("-L -n --persistent-conn", &rules, &NoNames);
    assert_eq!(rows(&templates)[1], "  -> 10.2.0.2:80                  1         2           4          1         ");
}

#[test]
fn tunnels_are_abbreviated() {
    let rules = [
        "-A -t 10.9.0.1:80",
        "-a -t 10.9.0.1:80 -r 10.2.0.1 -i",
        "-a -t 10.9.0.1:80 -r 10.2.0.2 -i --tun-type gue --tun-port 6080",
        "-a -t 10.9.0.1:80 -r 10.2.0.3 -i --tun-type gue --tun-port 65535 --tun-remcsum",
        "-a -t 10.9.0.1:80 -r 10.2.0.4 -i --tun-type gre --tun-csum",
        "-a -t 10.9.0.1:80 -r 10.2.0.5 -i --tun-type gre",
    ];
    let text = listed("-L -n --tun-info", &rules);
    let infos: Vec<&str> = rows(&text)[1..].iter().map(|row| row[42..56].trim_end()).collect();
    assert_eq!(infos, ["ipip", "gue:6080:-c", "gue:65535:r+c", "gre:+c", "gre:-c"]);
}

fn connection(protocol: Option<Protocol>, expires_s: u32, state: &str, endpoints: [&str; 3]) -> ConnectionInfo {
    let [client, virtual_service, destination] = endpoints.map(|text| {
        let (address, port) = text.rsplit_once(':').unwrap();
        Endpoint::new(address.trim_matches(['[', ']']).parse().unwrap(), port.parse().unwrap())
    });
    let state = state.to_owned();
    ConnectionInfo { protocol, expires_s, state, client, virtual_service, destination, engine: None, from_sync: false }
}

/// cli/traffic-persistent, packets/sip-persistence-v4 and others.
#[test]
fn connections_are_rows() {
    let mut sip = connection(Some(Protocol::Udp), 59, "NONE", ["10.1.0.1:0", "10.9.0.1:5060", "10.2.0.3:5060"]);
    sip.engine = Some(("sip".into(), "call-a@host".into()));
    let table = [
        connection(Some(Protocol::Tcp), 899, "ESTABLISHED", ["[fd00:1::1]:1025", "[fd00:9::1]:80", "10.2.0.1:80"]),
        connection(Some(Protocol::Sctp), 3, "INIT1", ["10.1.0.1:1025", "10.9.0.1:99", "10.2.0.1:99"]),
        connection(None, 49, "NONE", ["10.0.0.50:0", "0.0.0.7:0", "10.0.1.2:0"]),
        connection(Some(Protocol::Tcp), 360_000, "NONE", ["10.1.0.1:0", "10.9.0.1:80", "10.2.0.2:80"]),
        sip,
    ];
    let rows = [
        "TCP 14:59  ESTABLISHED [fd00:1::1]:1025   [fd00:9::1]:80     10.2.0.1:80\n",
        "SCTP 00:03  INIT1       10.1.0.1:1025      10.9.0.1:99        10.2.0.1:99\n",
        "IP  00:49  NONE        10.0.0.50:0        0.0.0.7:0          10.0.1.2:0\n",
        "TCP 6000:00 NONE        10.1.0.1:0         10.9.0.1:80        10.2.0.2:80\n",
    ]
    .concat();
    let short = "UDP 00:59  NONE        10.1.0.1:0         10.9.0.1:5060      10.2.0.3:5060\n";
    let long = "UDP 00:59  NONE        10.1.0.1:0         10.9.0.1:5060      10.2.0.3:5060    sip                \
                call-a@host\n";
    let header = "IPVS connection entries\n\
                  pro expire state       source             virtual            destination";
    for (command, header, last) in [
        ("-L -n -c", format!("{header}\n"), short),
        ("-L -n -c --persistent-conn", format!("{header}        pe name          pe_data\n"), long),
    ] {
        let (request, options) = parsed(command, &NoNames);
        let mut text = String::new();
        render(&mut text, &request, &Response::Connections(table.to_vec()), &options, &NoNames);
        assert_eq!(text, format!("{header}{rows}{last}"), "{command}");
    }
}

/// cli/set-timeouts, cli/daemon-start-stop, cli/daemon-options
#[test]
fn timeouts_and_daemons_are_a_line_each() {
    let text = |response: &Response| {
        let mut text = String::new();
        render(&mut text, &Request::Daemons, response, &ListOptions::default(), &NoNames);
        text
    };
    let timeouts = Response::Timeouts { tcp_s: 900, tcp_fin_s: 120, udp_s: 300 };
    assert_eq!(text(&timeouts), "Timeout (tcp tcpfin udp): 900 120 300\n");
    let daemon = |line: &str| match parsed(line, &NoNames).0 {
        Request::StartDaemon(rule) => rule,
        other => panic!("{other:?}"),
    };
    let daemons = Response::Daemons(vec![
        daemon("--start-daemon master"),
        daemon("--start-daemon backup --mcast-interface eth0 --syncid 7"),
    ]);
    assert_eq!(
        text(&daemons),
        "master sync daemon (mcast=eth0, syncid=0, maxlen=1472, group=224.0.0.81, port=8848, ttl=1)\n\
         backup sync daemon (mcast=eth0, syncid=7, maxlen=1472, group=224.0.0.81, port=8848, ttl=1)\n"
    );
    assert_eq!(text(&Response::Daemons(Vec::new())), "");
    assert_eq!(text(&Response::Done), "");
}
