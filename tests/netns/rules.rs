//! Rules that keep clients together or send them apart, with real clients and servers.

use std::collections::BTreeSet;
use std::fs;

use crate::lab::{Background, Lab, Shape, wait_for};
use crate::traffic::{Load, curl, dns_server, servers_in_turn, tally};

fn curl_from(lab: &Lab, source: &str, address: &str) -> String {
    let url = format!("http://{address}/");
    lab.check("client", &["curl", "-gsSf", "-m", "10", "--interface", source, &url]).trim().to_owned()
}

fn connections(lab: &Lab, options: &str) -> Vec<String> {
    lab.adm(&format!("-Lnc {options}")).lines().skip(2).map(str::to_owned).collect()
}

/// A client stays with its server over connections, services of one VIP keep apart, and a network's clients stay
/// together when the mask says so.
#[test]
fn persistent_clients_stay_with_their_server() {
    let Some(lab) = Lab::build(Shape::TwoArms, &[]) else { return };
    let _director = lab.director(&[]);
    lab.check("client", &["ip", "address", "add", "10.1.0.3/24", "dev", "eth0"]);
    for (service, mask, server, method) in [
        ("10.9.0.1:80", "-M 255.255.255.0", "10.2.0", "-m"),
        ("10.9.0.2:80", "", "10.2.0", "-g"),
        ("[fd00:9::1]:80", "-M 64", "fd00:2:", "-m"),
    ] {
        lab.adm(&format!("-A -t {service} -s rr -p 300 {mask}"));
        for number in 1..=3 {
            let address =
                if server.contains(':') { format!("[{server}:{number}]") } else { format!("{server}.{number}") };
            lab.adm(&format!("-a -t {service} -r {address}:80 {method}"));
        }
    }
    for address in ["10.9.0.1", "10.9.0.2", "fd00:9::1"] {
        assert_eq!(tally(&servers_in_turn(&lab, address, 6)).len(), 1, "{address}: one client, one server");
    }
    let neighbour = curl_from(&lab, "10.1.0.3", "10.9.0.1");
    assert_eq!(Ok(neighbour), curl(&lab, "10.9.0.1", "/"), "a client of the same network");
    assert_ne!(Ok(curl_from(&lab, "10.1.0.3", "10.9.0.2")), curl(&lab, "10.9.0.2", "/"), "a client of its own");

    let rows = connections(&lab, "");
    let templates: BTreeSet<&str> =
        rows.iter().filter(|row| row.contains("ASSURED")).filter_map(|row| row.split_whitespace().nth(3)).collect();
    assert_eq!(templates, BTreeSet::from(["10.1.0.0:0", "10.1.0.2:0", "10.1.0.3:0", "[fd00:1::]:0"]), "{rows:?}");
    let listing = lab.adm("-Ln --persistent-conn");
    assert!(listing.contains("PersistConn"), "{listing}");

    // Weight 0 takes nobody from a client that is there, unless templates of such servers expire.
    let kept = curl(&lab, "10.9.0.2", "/").expect("an answer");
    let number = &kept[2..];
    lab.adm(&format!("-e -t 10.9.0.2:80 -r 10.2.0.{number}:80 -g -w 0"));
    assert_eq!(curl(&lab, "10.9.0.2", "/"), Ok(kept.clone()));
    assert!(lab.lvx("sysctl expire_quiescent_template=1").status.success());
    assert_ne!(curl(&lab, "10.9.0.2", "/"), Ok(kept));
}

/// With one-packet scheduling queries from one port go to all servers, and nothing is remembered.
#[test]
fn one_packet_scheduling_spreads_one_port() {
    let Some(lab) = Lab::build(Shape::TwoArms, &["dnsmasq", "dig"]) else { return };
    let _director = lab.director(&[]);
    lab.adm("-A -u 10.9.0.2:53 -s rr -o");
    let servers: Vec<Background> = (1..=3)
        .map(|number| {
            lab.adm(&format!("-a -u 10.9.0.2:53 -r 10.2.0.{number}:53 -g"));
            dns_server(&lab, number)
        })
        .collect();
    let query = ["dig", "+short", "+tries=1", "+time=5", "-b", "10.1.0.2#5353", "@10.9.0.2", "who.lab.test"];
    let answers: Vec<String> = (0..6).map(|_| lab.check("client", &query).trim().to_owned()).collect();
    assert_eq!(tally(&answers).into_values().collect::<Vec<_>>(), [2, 2, 2], "{answers:?}");
    assert_eq!(connections(&lab, ""), Vec::<String>::new());
    let listing = lab.adm("-Ln");
    assert!(listing.contains("UDP  10.9.0.2:53 rr ops"), "{listing}");
    drop(servers);
}

/// A removed server's connections end with it when the knob says so, and its clients come back through another.
#[test]
fn connections_go_with_their_server_if_asked() {
    let Some(lab) = Lab::build(Shape::TwoArms, &[]) else { return };
    let knobs = lab.dir().join("sysctl.conf");
    fs::write(&knobs, "# for lvx\nnet.ipv4.ip_forward = 1\nnet.ipv4.vs.expire_nodest_conn = 1\n").expect("knobs");
    let _director = lab.director(&["--sysctl-file", knobs.to_str().expect("a plain path")]);
    lab.adm_all(&["-A -t 10.9.0.1:80 -s wrr", "-a -t 10.9.0.1:80 -r 10.2.0.1:80 -m"]);
    let open = Load::start_long(&lab, "10.9.0.1", 5);
    wait_for("five connections", || (connections(&lab, "").len() >= 5).then_some(()));
    lab.adm("-a -t 10.9.0.1:80 -r 10.2.0.2:80 -m -w 0");
    lab.adm("-d -t 10.9.0.1:80 -r 10.2.0.1:80");
    wait_for("the removed server's connections to end", || connections(&lab, "").is_empty().then_some(()));
    drop(open);
    lab.adm("-e -t 10.9.0.1:80 -r 10.2.0.2:80 -m -w 1");
    assert_eq!(curl(&lab, "10.9.0.1", "/"), Ok("rs2".to_owned()));

    // Knobs from a file are set all or none.
    fs::write(&knobs, "net.ipv4.vs.drop_entry = 1\nnet.ipv4.vs.drop_packet = 7\n").expect("knobs");
    let answer = lab.lvx(&format!("sysctl -p {}", knobs.display()));
    assert!(!answer.status.success());
    let text = String::from_utf8_lossy(&answer.stderr).into_owned();
    assert!(text.contains("net.ipv4.vs.drop_packet = 7: Invalid argument; nothing is set"), "{text}");
    assert_eq!(lab.lvx("sysctl drop_entry").stdout, b"net.ipv4.vs.drop_entry = 0\n");
}
