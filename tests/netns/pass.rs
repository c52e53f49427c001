//! What is no virtual service's is the kernel's, as if no director were there.

use crate::lab::{Lab, Shape};
use crate::traffic::{curl, ping};

fn lab_with_service() -> Option<(Lab, crate::lab::Background)> {
    let lab = Lab::build(Shape::TwoArms, &["ping", "socat"])?;
    let director = lab.director(&[]);
    lab.adm_all(&[
        "-A -t 10.9.0.1:80 -s rr",
        "-a -t 10.9.0.1:80 -r 10.2.0.1:80 -m",
        "-A -t [fd00:9::1]:80 -s rr",
        "-a -t [fd00:9::1]:80 -r [fd00:2::1]:80 -m",
    ]);
    Some((lab, director))
}

/// Ping of the director and of virtual addresses, and neighbour resolution from both sides.
#[test]
fn ping_and_neighbour_resolution() {
    let Some((lab, _director)) = lab_with_service() else { return };
    for address in ["10.0.0.254", "10.9.0.1", "10.2.0.254", "fd00::254", "fd00:9::1", "fd00:2::254"] {
        assert!(ping(&lab, address), "ping {address}");
    }
    // Forgotten neighbours are found again, through the director's own answers.
    for (node, interface) in [("router", "director"), ("rs1", "eth0"), ("director", "eth0"), ("director", "eth1")] {
        lab.check(node, &["ip", "neigh", "flush", "dev", interface]);
        lab.check(node, &["ip", "-6", "neigh", "flush", "dev", interface]);
    }
    for address in ["10.9.0.1", "fd00:9::1"] {
        assert!(ping(&lab, address), "ping {address} with empty neighbour tables");
        assert_eq!(curl(&lab, address, "/").as_deref(), Ok("rs1"));
    }
}

/// A listener of the director's own, on its own address and on another port of a virtual address.
#[test]
fn own_listeners_and_other_ports_of_a_virtual_address() {
    let Some((lab, _director)) = lab_with_service() else { return };
    let mut listeners = Vec::new();
    for (family, address) in [("4", "0.0.0.0"), ("6", "[::]")] {
        let listen = format!("TCP{family}-LISTEN:2222,bind={address},fork,reuseaddr,ipv6only=1");
        let listen = if family == "4" { listen.replace(",ipv6only=1", "") } else { listen };
        let log = format!("socat{family}.log");
        let mut listener = lab.start("director", &["socat", "-dd", &listen, "EXEC:echo hello"], &log);
        listener.wait_until_log_has("listening on");
        listeners.push(listener);
    }
    for address in ["10.0.0.254", "10.9.0.1", "[fd00::254]", "[fd00:9::1]"] {
        let target = format!("TCP:{address}:2222,connect-timeout=5");
        assert_eq!(lab.check("client", &["socat", "-u", &target, "-"]), "hello\n", "{address}");
    }
    // Nobody listens there, and the kernel says so.
    let refused = lab.run("client", &["curl", "-gsSf", "-m", "10", "http://10.9.0.1:81/"]);
    assert_eq!(refused.status.code(), Some(7), "curl's status for a refused connection");
    assert_eq!(curl(&lab, "10.9.0.1", "/").as_deref(), Ok("rs1"), "the service itself");
}

/// The director's own connections to a real server, such as health checks, get their answers; so do clients that
/// ask a real server directly, whose answers the director routes.
#[test]
fn answers_of_real_servers_that_belong_to_no_service() {
    let Some((lab, _director)) = lab_with_service() else { return };
    for url in ["http://10.2.0.1/", "http://[fd00:2::1]/", "http://10.2.0.2:8080/"] {
        let server = lab.check("director", &["curl", "-gsSf", "-m", "10", url]);
        assert!(server.starts_with("rs"), "{url} from the director: {server}");
        let server = lab.check("client", &["curl", "-gsSf", "-m", "10", url]);
        assert!(server.starts_with("rs"), "{url} from the client: {server}");
    }
}
