//! Other programs than web servers: iperf3 and DNS.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::lab::{Lab, Shape};
use crate::traffic::{dns_server, tally};

/// TCP and UDP streams both ways through masquerading.
#[test]
fn iperf3_both_ways() {
    let Some(lab) = Lab::build(Shape::TwoArms, &["iperf3"]) else { return };
    let _director = lab.director(&[]);
    lab.adm_all(&[
        "-A -t 10.9.0.1:5201 -s rr",
        "-a -t 10.9.0.1:5201 -r 10.2.0.1:5201 -m",
        "-A -u 10.9.0.1:5201 -s rr",
        "-a -u 10.9.0.1:5201 -r 10.2.0.1:5201 -m",
        "-A -t [fd00:9::1]:5201 -s rr",
        "-a -t [fd00:9::1]:5201 -r [fd00:2::1]:5201 -m",
        "-A -u [fd00:9::1]:5201 -s rr",
        "-a -u [fd00:9::1]:5201 -r [fd00:2::1]:5201 -m",
    ]);
    let mut server = lab.start("rs1", &["iperf3", "-s", "--forceflush"], "iperf3.log");
    server.wait_until_log_has("Server listening");

    for address in ["10.9.0.1", "fd00:9::1"] {
        for direction in [&[][..], &["-R"]] {
            let tcp = iperf3(&lab, address, direction);
            assert!(number(&tcp, "/end/sum_received/bytes") > 0.0, "{address} TCP {direction:?}");

            let udp = iperf3(&lab, address, &[&["-u", "-b", "20M", "-l", "1200"], direction].concat());
            let (packets, lost) = (number(&udp, "/end/sum/packets"), number(&udp, "/end/sum/lost_packets"));
            // A busy machine may lose some; a director that loses one in ten is broken.
            assert!(packets > 0.0 && lost < packets / 10.0, "{address} UDP {direction:?}: {lost} of {packets} lost");
        }
    }
}

fn iperf3(lab: &Lab, address: &str, options: &[&str]) -> Value {
    let words = [&["iperf3", "-J", "-t", "2", "-c", address], options].concat();
    serde_json::from_str(&lab.check("client", &words)).expect("JSON")
}

fn number(value: &Value, pointer: &str) -> f64 {
    value.pointer(pointer).and_then(Value::as_f64).unwrap_or_else(|| panic!("no number at {pointer}"))
}

/// Each query is a connection of its own for as long as its source port is new, and goes to the next server.
#[test]
fn dns_over_udp() {
    let Some(lab) = Lab::build(Shape::TwoArms, &["dnsmasq", "dig"]) else { return };
    let _director = lab.director(&[]);
    let mut servers = Vec::new();
    lab.adm_all(&["-A -u 10.9.0.1:53 -s rr", "-A -u [fd00:9::1]:53 -s rr"]);
    for number in 1..=3 {
        servers.push(dns_server(&lab, number));
        lab.adm(&format!("-a -u 10.9.0.1:53 -r 10.2.0.{number}:53 -m"));
        lab.adm(&format!("-a -u [fd00:9::1]:53 -r [fd00:2::{number}]:53 -m"));
    }
    for address in ["10.9.0.1", "fd00:9::1"] {
        let server = format!("@{address}");
        let answers: Vec<_> = (0..6)
            .map(|_| lab.check("client", &["dig", "+short", "+tries=1", "+time=5", &server, "who.lab.test"]))
            .map(|text| text.trim().to_owned())
            .collect();
        let expected = BTreeMap::from([("192.0.2.1", 2), ("192.0.2.2", 2), ("192.0.2.3", 2)]);
        assert_eq!(tally(&answers), expected, "{address}");
    }
    let listing = lab.adm("-Lnc");
    assert_eq!(listing.lines().filter(|line| line.starts_with("UDP")).count(), 12, "{listing}");
}
