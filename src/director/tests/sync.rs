//! Synchronised connections under way.

use super::*;
use crate::command::request::DaemonRole;

/// A TCP connection of `client(false)` to `vip(false)`, to server 1's port 8080, as a master tells of it.
fn told(method: u8) -> Vec<u8> {
    let mut datagram = crate::wire::hex(
        "0005002c 01010000 00060024 00000000 0001 0000 0050 1f90 00000000 00000384 00000000 0a090001 0a020001",
    );
    let (client, vip) = (client(false), vip(false));
    datagram[15] = method;
    datagram[18..20].copy_from_slice(&client.port.to_be_bytes());
    datagram[20..22].copy_from_slice(&vip.port.to_be_bytes());
    datagram[32..36].copy_from_slice(&client.address.low_u32().to_be_bytes());
    datagram[36..40].copy_from_slice(&vip.address.low_u32().to_be_bytes());
    datagram
}

pub(super) fn start_daemon(director: &mut Director, role: DaemonRole) {
    let interface = "eth0".to_owned();
    let rule = DaemonRule { role, interface, syncid: 5, sync_maxlen: 0, group: None, port: 0, ttl: 0 };
    director.execute(Request::StartDaemon(rule)).unwrap();
}

/// As the kernel did it: both ways, and bound by the next message alone.
#[test]
fn a_synchronised_connection_without_its_server_is_forwarded() {
    for (method, address, port) in [(0, [10, 2, 0, 1], 8080), (0x83, [10, 9, 0, 1], 80)] {
        let mut director = director();
        start_daemon(&mut director, DaemonRole::Backup);
        director.execute(Request::AddService(rule(Protocol::Tcp, vip(false)))).unwrap();
        director.receive_sync(&told(method));
        let packet = frame(STATION_0, client(false), vip(false), Some(ACK), b"");
        assert_eq!(director.receive(ETH0, &packet), Some(Verdict::Transmit(ETH1)));
        let (_, out) = sent(&mut director);
        assert_eq!((&out[..6], &out[30..34], &out[36..38]), (&SERVER_1[..], &address[..], &u16::to_be_bytes(port)[..]));
        if method != 0 {
            continue;
        }
        let back = frame(STATION_1, endpoint("10.2.0.1", 8080), client(false), Some(ACK), b"");
        assert_eq!(director.receive(ETH1, &back), Some(Verdict::Transmit(ETH0)));
        let (_, out) = sent(&mut director);
        assert_eq!(out[26..30], [10, 9, 0, 1]);
        let server = server_rule(endpoint("10.2.0.1", 8080), Method::Masquerading);
        director.execute(Request::AddServer { service: rule(Protocol::Tcp, vip(false)).key, server }).unwrap();
        let active = |director: &mut Director| {
            let Ok(Response::Services { services, .. }) = director.execute(Request::Services(None)) else { panic!() };
            services[0].servers[0].active
        };
        director.receive(ETH0, &packet);
        director.take_transmitted();
        assert_eq!(active(&mut director), 0);
        director.receive_sync(&told(method));
        assert_eq!(active(&mut director), 1);
    }
}

#[test]
fn a_backup_that_is_backup_only_balances_nothing_inbound() {
    let mut director = balancing(false, Method::Masquerading, "10.2.0.1", 8080);
    director.shared().sysctls.write("backup_only", "1").unwrap();
    let syn = |port| frame(STATION_0, endpoint("10.1.0.1", port), vip(false), Some(SYN), b"");
    assert_eq!(director.receive(ETH0, &syn(1)), Some(Verdict::Transmit(ETH1)), "no daemon runs");
    director.take_transmitted();
    start_daemon(&mut director, DaemonRole::Backup);
    assert_eq!(director.receive(ETH0, &syn(1)), Some(Verdict::Pass));
    assert_eq!(director.receive(ETH0, &syn(2)), Some(Verdict::Pass));
    let answer = frame(STATION_1, endpoint("10.2.0.1", 8080), endpoint("10.1.0.1", 1), Some(SYN | ACK), b"");
    assert_eq!(director.receive(ETH1, &answer), Some(Verdict::Transmit(ETH0)), "answers are rewritten");
    director.take_transmitted();
    director.execute(Request::StopDaemon(DaemonRole::Backup)).unwrap();
    assert_eq!(director.receive(ETH0, &syn(2)), Some(Verdict::Transmit(ETH1)));
    director.take_transmitted();
}
