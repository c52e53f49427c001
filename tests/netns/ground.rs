//! The lab without a director: what the other tests stand on.

use crate::lab::{Lab, Shape};
use crate::traffic::{Load, curl, download, ping, short_load, upload};

#[test]
fn the_lab_forwards_and_its_servers_answer() {
    let Some(lab) = Lab::build(Shape::TwoArms, &["ping"]) else { return };
    for number in 1..=3 {
        for prefix in ["10.2.0.", "fd00:2::"] {
            assert_eq!(curl(&lab, &format!("{prefix}{number}"), "/"), Ok(format!("rs{number}")));
        }
    }
    assert_eq!(curl(&lab, "10.2.0.1", "/client").as_deref(), Ok("10.1.0.2"));
    assert!(ping(&lab, "10.9.0.1") && ping(&lab, "fd00:9::1"), "ping of virtual addresses");
    assert_eq!(curl(&lab, "10.9.0.1", "/"), Err(7), "no director, no service: curl's status for a refused connection");
    download(&lab, "10.2.0.1");
    upload(&lab, "fd00:2::2");
}

/// The servers are fit for direct routing: a router that sends a virtual address to one of them gets it answered.
#[test]
fn the_lab_is_fit_for_direct_routing() {
    let Some(lab) = Lab::build(Shape::TwoArms, &[]) else { return };
    lab.check("router", &["ip", "route", "add", "10.9.0.2", "via", "10.2.0.1"]);
    lab.check("router", &["ip", "route", "add", "fd00:9::2", "via", "fd00:2::2"]);
    assert_eq!(curl(&lab, "10.9.0.2", "/").as_deref(), Ok("rs1"));
    assert_eq!(curl(&lab, "fd00:9::2", "/").as_deref(), Ok("rs2"));

    let long = Load::start_long(&lab, "10.9.0.2", 100);
    short_load(&lab, "10.9.0.2", 400).expect_clean();
    let outcome = long.end();
    assert_eq!(outcome.expect_clean().by_server.keys().collect::<Vec<_>>(), ["rs1"]);
}

/// What comes for the tunnelling address without a tunnel is not answered, so no test passes by mistake.
#[test]
fn the_lab_takes_the_tunnelling_address_from_tunnels_only() {
    let Some(lab) = Lab::build(Shape::TwoArms, &[]) else { return };
    lab.check("router", &["ip", "route", "add", "10.9.0.3", "via", "10.2.0.1"]);
    lab.check("router", &["ip", "route", "add", "fd00:9::3", "via", "fd00:2::1"]);
    for url in ["http://10.9.0.3/", "http://[fd00:9::3]/"] {
        let answer = lab.run("client", &["curl", "-gsS", "-m", "2", url]);
        assert_eq!(answer.status.code(), Some(28), "{url}: curl's status for no answer");
    }
}
