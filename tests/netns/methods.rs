//! Each forwarding method in each family, by real requests and by files that must arrive whole.

use std::collections::BTreeMap;

use crate::lab::{Lab, Shape};
use crate::traffic::{curl, download, servers_in_turn, tally, upload};

/// A service with three servers: method, virtual address, the servers' common prefix.
#[derive(Clone, Copy)]
struct Case {
    flag: &'static str,
    address: &'static str,
    servers: &'static str,
}

const MASQUERADING_4: Case = Case { flag: "-m", address: "10.9.0.1", servers: "10.2.0." };
const MASQUERADING_6: Case = Case { flag: "-m", address: "fd00:9::1", servers: "fd00:2::" };
const DIRECT_4: Case = Case { flag: "-g", address: "10.9.0.2", servers: "10.2.0." };
const DIRECT_6: Case = Case { flag: "-g", address: "fd00:9::2", servers: "fd00:2::" };
const TUNNEL_4: Case = Case { flag: "-i", address: "10.9.0.3", servers: "10.2.0." };
const TUNNEL_6: Case = Case { flag: "-i", address: "fd00:9::3", servers: "fd00:2::" };
const TUNNEL_4_IN_6: Case = Case { flag: "-i", address: "10.9.0.3", servers: "fd00:2::" };
const TUNNEL_6_IN_4: Case = Case { flag: "-i", address: "fd00:9::3", servers: "10.2.0." };

impl Case {
    fn configure(&self, lab: &Lab) {
        let service = endpoint(self.address);
        lab.adm(&format!("-A -t {service} -s rr"));
        for number in 1..=3 {
            let server = endpoint(&format!("{}{number}", self.servers));
            lab.adm(&format!("-a -t {service} -r {server} {}", self.flag));
        }
    }

    /// Requests reach all servers in turn and with the client's own address; files arrive whole both ways.
    fn hold(&self, shape: Shape) {
        let Some(lab) = Lab::build(shape, &[]) else { return };
        let director = lab.director(&[]);
        self.configure(&lab);

        let servers = servers_in_turn(&lab, self.address, 6);
        assert_eq!(tally(&servers), BTreeMap::from([("rs1", 2), ("rs2", 2), ("rs3", 2)]));
        assert_eq!(servers[..3], servers[3..], "round robin keeps its order");

        let client = if self.address.contains(':') { "fd00:1::2" } else { "10.1.0.2" };
        assert_eq!(curl(&lab, self.address, "/client").as_deref(), Ok(client), "the server sees the client's address");

        download(&lab, self.address);
        upload(&lab, self.address);
        assert!(director.stop().success(), "lvxd ends cleanly");
    }
}

/// `address:80`, the address in brackets when it is IPv6.
fn endpoint(address: &str) -> String {
    if address.contains(':') { format!("[{address}]:80") } else { format!("{address}:80") }
}

#[test]
fn masquerading_ipv4() {
    MASQUERADING_4.hold(Shape::TwoArms);
}

#[test]
fn masquerading_ipv6() {
    MASQUERADING_6.hold(Shape::TwoArms);
}

#[test]
fn direct_routing_ipv4() {
    DIRECT_4.hold(Shape::TwoArms);
}

#[test]
fn direct_routing_ipv6() {
    DIRECT_6.hold(Shape::TwoArms);
}

#[test]
fn tunnelling_ipv4() {
    TUNNEL_4.hold(Shape::TwoArms);
}

#[test]
fn tunnelling_ipv6() {
    TUNNEL_6.hold(Shape::TwoArms);
}

#[test]
fn tunnelling_ipv4_in_ipv6() {
    TUNNEL_4_IN_6.hold(Shape::TwoArms);
}

#[test]
fn tunnelling_ipv6_in_ipv4() {
    TUNNEL_6_IN_4.hold(Shape::TwoArms);
}

/// Every kind of GUE and GRE, of either family in either; `scripts/decapsulate` refuses wrong headers and checksums. The
/// clients' checksums are partial here (veth), so that remote checksum offload has work to do.
fn hold_tunnels(kinds: &[&'static str], cases: &[Case]) {
    let Some(lab) = Lab::build(Shape::TwoArms, &[]) else { return };
    let _director = lab.director(&[]);
    for (kind, case) in kinds.iter().flat_map(|kind| cases.iter().map(move |case| (kind, case))) {
        println!("{} in {} by {kind}", case.address, case.servers);
        let case = Case { flag: kind, ..*case };
        lab.adm("-C");
        case.configure(&lab);
        let servers = servers_in_turn(&lab, case.address, 3);
        assert_eq!(tally(&servers), BTreeMap::from([("rs1", 1), ("rs2", 1), ("rs3", 1)]));
        download(&lab, case.address);
        upload(&lab, case.address);
    }
}

const GRE: &[&str] = &["-i --tun-type gre", "-i --tun-type gre --tun-csum"];
const GUE: &[&str] = &[
    "-i --tun-type gue --tun-port 6080",
    "-i --tun-type gue --tun-port 6080 --tun-csum",
    "-i --tun-type gue --tun-port 6080 --tun-remcsum",
];

#[test]
fn gre_tunnels() {
    hold_tunnels(GRE, &[TUNNEL_4, TUNNEL_6]);
}

#[test]
fn gre_tunnels_across_families() {
    hold_tunnels(&GRE[1..], &[TUNNEL_4_IN_6, TUNNEL_6_IN_4]);
}

#[test]
fn gue_tunnels() {
    hold_tunnels(GUE, &[TUNNEL_4, TUNNEL_6]);
}

#[test]
fn gue_tunnels_across_families() {
    hold_tunnels(&GUE[2..], &[TUNNEL_4_IN_6, TUNNEL_6_IN_4]);
}

#[test]
fn masquerading_with_one_arm() {
    MASQUERADING_4.hold(Shape::OneArm);
}

#[test]
fn direct_routing_with_one_arm() {
    DIRECT_6.hold(Shape::OneArm);
}

#[test]
fn tunnelling_with_one_arm() {
    TUNNEL_4.hold(Shape::OneArm);
}

/// In skb mode lvxd warns, and still serves.
#[test]
fn masquerading_in_skb_mode() {
    let Some(lab) = Lab::build(Shape::TwoArms, &[]) else { return };
    let _director = lab.director(&["--xdp-mode", "skb"]);
    MASQUERADING_4.configure(&lab);
    assert_eq!(tally(&servers_in_turn(&lab, "10.9.0.1", 6)).len(), 3);
}

/// Servers of one service may each have a method of their own, and another port with masquerading.
#[test]
fn methods_mixed_in_one_service() {
    let Some(lab) = Lab::build(Shape::TwoArms, &[]) else { return };
    let _director = lab.director(&[]);
    lab.adm_all(&[
        "-A -t 10.9.0.4:80 -s rr",
        "-a -t 10.9.0.4:80 -r 10.2.0.1:8080 -m",
        "-a -t 10.9.0.4:80 -r 10.2.0.2:80 -g",
        "-a -t 10.9.0.4:80 -r 10.2.0.3:80 -i",
    ]);
    assert_eq!(tally(&servers_in_turn(&lab, "10.9.0.4", 6)), BTreeMap::from([("rs1", 2), ("rs2", 2), ("rs3", 2)]));
}
