//! Datagrams longer than the links, which come and go in fragments: by each method, in both families and directions, and
//! out of order.

use serde_json::Value;

use crate::lab::{Background, Lab, Shape};

const PYTHON: &str = "/usr/bin/python3";
const ECHO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/netns/echo.py");
const PORT: &str = "7007";

/// A service with one server: its flags, its virtual address, the server as the rule has it and as the server binds.
struct Case {
    flags: &'static str,
    address: &'static str,
    server: &'static str,
    bound: &'static str,
}

const CASES: &[Case] = &[
    Case { flags: "-m", address: "10.9.0.1", server: "10.2.0.1", bound: "10.2.0.1" },
    Case { flags: "-m", address: "fd00:9::1", server: "fd00:2::1", bound: "fd00:2::1" },
    Case { flags: "-g", address: "10.9.0.2", server: "10.2.0.1", bound: "10.9.0.2" },
    Case { flags: "-g", address: "fd00:9::2", server: "fd00:2::1", bound: "fd00:9::2" },
    Case { flags: "-i", address: "10.9.0.3", server: "10.2.0.1", bound: "10.9.0.3" },
    Case { flags: "-i", address: "fd00:9::3", server: "fd00:2::1", bound: "fd00:9::3" },
    Case { flags: "-i --tun-type gre", address: "10.9.0.3", server: "10.2.0.1", bound: "10.9.0.3" },
    Case { flags: "-i --tun-type gue --tun-port 6080", address: "fd00:9::3", server: "fd00:2::1", bound: "fd00:9::3" },
];

impl Case {
    fn serve(&self, lab: &Lab, number: usize) -> Background {
        let words = [PYTHON, ECHO, "serve", self.bound, PORT];
        let mut server = lab.start("rs1", &words, &format!("echo{number}.log"));
        server.wait_until_log_has("ready");
        let service = endpoint(self.address);
        lab.adm(&format!("-A -u {service} -s rr"));
        lab.adm(&format!("-a -u {service} -r {} {}", endpoint(self.server), self.flags));
        server
    }

    /// How many of `count` datagrams come back whole.
    fn ask(&self, lab: &Lab, octets: usize, count: usize, options: &[&str]) -> usize {
        let (octets, count) = (octets.to_string(), count.to_string());
        let words = [PYTHON, ECHO, "ask", self.address, PORT, "--octets", &octets, "--count", &count];
        lab.check("client", &[&words, options].concat()).trim().parse().expect("a number")
    }
}

fn endpoint(address: &str) -> String {
    if address.contains(':') { format!("[{address}]:{PORT}") } else { format!("{address}:{PORT}") }
}

/// A number of the director's only worker.
fn worker_number(lab: &Lab, name: &str) -> u64 {
    let answer = lab.lvx("status --json");
    let status: Value = serde_json::from_slice(&answer.stdout).expect("JSON");
    status.pointer(&format!("/workers/0/{name}")).and_then(Value::as_u64).unwrap_or_else(|| panic!("{name}: {status}"))
}

/// Datagrams of 8000 and of nearly all octets that there can be return as they were sent, reversed.
#[test]
fn fragments_of_long_datagrams() {
    let Some(lab) = Lab::build(Shape::TwoArms, &[]) else { return };
    let _director = lab.director(&[]);
    for (number, case) in CASES.iter().enumerate() {
        let before = worker_number(&lab, "reassembled");
        let _server = case.serve(&lab, number);
        for octets in [8000, 60_000] {
            assert_eq!(case.ask(&lab, octets, 5, &[]), 5, "{} by {}, {octets} octets", case.address, case.flags);
        }
        let made = worker_number(&lab, "reassembled") - before;
        assert!(made >= 10, "{} by {}: {made} datagrams put together", case.address, case.flags);
        lab.adm("-C");
    }
}

/// Fragments that come in random order, one of them twice. A duplicate of the whole datagram's last one begins another
/// datagram, which never gets whole.
#[test]
fn fragments_out_of_order() {
    let Some(lab) = Lab::build(Shape::TwoArms, &[]) else { return };
    let _director = lab.director(&[]);
    for (number, case) in CASES.iter().enumerate() {
        let _server = case.serve(&lab, number);
        assert_eq!(case.ask(&lab, 8000, 20, &["--shuffle"]), 20, "{} by {}", case.address, case.flags);
        lab.adm("-C");
    }
}
