//! Frames that no chunk of the packet memory holds.

use crate::lab::{Lab, Shape};
use crate::traffic::{bracketed, curl, download, upload};

/// Links of 9000 octets all the way; no sender makes larger ones of them (TSO), as no network card would put those on a
/// wire.
fn widen(lab: &Lab) {
    let links = [
        ("client", &["eth0"][..]),
        ("router", &["clients", "director", "servers"]),
        ("director", &["eth0", "eth1"]),
        ("switch", &["bridge", "director", "router", "rs1", "rs2", "rs3"]),
        ("rs1", &["eth0"]),
        ("rs2", &["eth0"]),
        ("rs3", &["eth0"]),
    ];
    for (node, interfaces) in links {
        for interface in interfaces {
            lab.check(node, &["ip", "link", "set", interface, "mtu", "9000"]);
            if *interface != "bridge" {
                lab.check(node, &["ethtool", "-K", interface, "tso", "off", "gso", "off"]);
            }
        }
    }
}

#[test]
fn jumbo_frames_by_every_method() {
    let Some(lab) = Lab::build(Shape::TwoArms, &["ethtool", "tshark"]) else { return };
    widen(&lab);
    let director = lab.director(&[]);
    println!("{}", director.log());
    for (service, network, method) in [
        ("10.9.0.1", "10.2.0.", "-m"),
        ("10.9.0.2", "10.2.0.", "-g"),
        ("10.9.0.3", "10.2.0.", "-i"),
        ("fd00:9::1", "fd00:2::", "-m"),
        ("fd00:9::2", "fd00:2::", "-g"),
    ] {
        lab.adm(&format!("-A -t {}:80 -s rr", bracketed(service)));
        lab.adm(&format!("-a -t {}:80 -r {}:80 {method}", bracketed(service), bracketed(&format!("{network}1"))));
        assert_eq!(curl(&lab, service, "/"), Ok("rs1".into()), "{service}");
        let capture = lab.dir().join("wide.pcap");
        let capture = capture.to_str().expect("a path");
        let words = ["tshark", "-q", "-i", "eth0", "-w", capture, "-f", "inbound and greater 8000", "-c", "20"];
        let mut tshark = lab.start("rs1", &words, "tshark.log");
        tshark.wait_until_log_has("Capturing");
        download(&lab, service);
        upload(&lab, service);
        // Twenty frames above 8000 octets have come to the server, all by the director.
        assert!(tshark.wait().success(), "{service}: {}", tshark.log());
    }
    let drops = String::from_utf8(lab.lvx("drops").stdout).expect("text");
    assert!(!drops.contains("oversized"), "{drops}");
}
