//! What is told of a packet comes true, and telling changes nothing.

use super::*;
use crate::base::Rng;
use crate::forward::trace::Step;

/// Tells of a frame, lets it go and returns the steps; anything that differs fails the test.
fn foretell(director: &mut Director, interface: InterfaceId, frame: &[u8], when: &str) -> Vec<Step> {
    let gone = director.receive_foretold(interface, frame).expect("the interface is there");
    match gone {
        Ok(gone) => {
            assert_eq!(gone.steps.last().unwrap().step, "verdict", "{when}");
            gone.steps
        }
        Err(fault) => panic!("{when}: {fault}\n{frame:02x?}"),
    }
}

fn text(steps: &[Step]) -> String {
    steps.iter().map(|step| format!("{} {}\n", step.step, step.text)).collect()
}

fn adm(director: &mut Director, line: &str) {
    struct Rules<'a>(&'a mut Director);
    impl crate::command::program::Executor for Rules<'_> {
        fn execute(&mut self, request: Request) -> Reply {
            self.0.execute(request)
        }
    }
    let words: Vec<String> = format!("ipvsadm {line}").split(' ').map(str::to_owned).collect();
    let names = crate::command::names::NoNames;
    let output = crate::command::program::run(&words, None, &names, &mut Rules(director));
    assert_eq!(output.exit, 0, "{line}: {}", output.stderr);
}

#[test]
fn a_new_connection_is_explained_from_the_packet_to_the_wire() {
    let mut director = director();
    for line in [
        "-A -t 10.9.0.1:80 -s wlc",
        "-a -t 10.9.0.1:80 -r 10.2.0.1:8080 -m -w 2",
        "-a -t 10.9.0.1:80 -r 10.2.0.2:8080 -m -w 0",
    ] {
        adm(&mut director, line);
    }
    let syn = frame(STATION_0, client(false), vip(false), Some(SYN), b"");
    let steps = foretell(&mut director, ETH0, &syn, "syn");
    let told = text(&steps);
    for part in [
        "packet IPv4 10.1.0.1:1025 -> 10.9.0.1:80, TCP, SYN, 40 octets, TTL 64, DF",
        "direction 10.9.0.1 is an address of the director",
        "connection none from 10.1.0.1:1025 to TCP 10.9.0.1:80",
        "service -t 10.9.0.1:80 (by address and port), scheduler wlc, 2 real servers",
        "server 10.2.0.1:8080 weight 2, 0 active, 0 inactive; (256·active + inactive) / weight = 0 / 2 = 0",
        "server 10.2.0.2:8080 weight 0, 0 active, 0 inactive; quiesced: weight 0",
        "scheduler wlc gives 10.2.0.1:8080: least of (256·active + inactive connections) / weight",
        "method masquerading to 10.2.0.1",
        "route 10.2.0.1 directly through eth1, MTU 1500",
        "neighbour 10.2.0.1 has link address 02:00:00:00:02:01",
        "rewrite destination 10.9.0.1:80 -> 10.2.0.1:8080, TTL 64 -> 63",
        "verdict transmit by eth1",
    ] {
        assert!(told.contains(part), "{part} in\n{told}");
    }
    let chosen: Vec<_> = steps.iter().filter_map(|step| step.details.get("chosen")).collect();
    assert_eq!(chosen, [false, true], "the one added last stands first");

    // The same connection now; then its answer.
    let ack = frame(STATION_0, client(false), vip(false), Some(ACK), b"");
    let told = text(&foretell(&mut director, ETH0, &ack, "ack"));
    let found = "found: TCP 10.1.0.1:1025 -> 10.9.0.1:80 -> 10.2.0.1:8080 by masquerading, SYN_RECV, 60 s left";
    assert!(told.contains(found), "{told}");
    let answer = frame(STATION_1, endpoint("10.2.0.1", 8080), client(false), Some(ACK), b"");
    let told = text(&foretell(&mut director, ETH1, &answer, "answer"));
    assert!(told.contains("rewrite source 10.2.0.1:8080 -> 10.9.0.1:80"), "{told}");
    // Its server goes, and with it the packet.
    adm(&mut director, "-d -t 10.9.0.1:80 -r 10.2.0.1:8080");
    let told = text(&foretell(&mut director, ETH0, &ack, "removed"));
    assert!(told.contains("(expire_nodest_conn=0)") && told.contains("verdict drop, server-removed"), "{told}");
    let told = text(&foretell(
        &mut director,
        ETH0,
        &frame(STATION_0, endpoint("10.1.0.2", 9), vip(false), Some(SYN), b""),
        "none",
    ));
    assert!(told.contains("answer ICMP port unreachable (type 3, code 3), 10.9.0.1 -> 10.1.0.2"), "{told}");
}

#[test]
fn of_an_interface_that_is_not_there_nothing_is_told() {
    let director = director();
    assert!(director.trace(InterfaceId(9), &[0; 60]).is_none());
}

const SCHEDULERS: [&str; 14] =
    ["rr", "wrr", "lc", "wlc", "lblc", "lblcr", "dh", "sh", "sed", "nq", "fo", "ovf", "mh", "twos"];

/// A director with services of many kinds, by chance.
fn configured(rng: &mut Rng) -> Director {
    let mut director = director();
    let scheduler = |rng: &mut Rng| SCHEDULERS[rng.below(SCHEDULERS.len() as u32) as usize];
    let mut services = vec!["-t 10.9.0.1:80", "-u 10.9.0.1:80", "-t 10.9.0.1:21", "-t [fd00:9::1]:80"];
    services.extend(match rng.below(3) {
        0 => vec!["-t 10.9.0.1:0", "--sctp-service 10.9.0.1:80"],
        1 => vec!["-f 7", "-u [fd00:9::1]:80"],
        _ => vec!["-u 10.9.0.1:5060"],
    });
    for service in services {
        let every_port = service.ends_with(":0") || service.ends_with(":21");
        let persistent = if every_port || rng.below(3) == 0 { " -p 300" } else { "" };
        let once = if service.starts_with("-u") && rng.below(4) == 0 { " --ops" } else { "" };
        let engine = if service.ends_with(":5060") { " --pe sip -p 60" } else { persistent };
        adm(&mut director, &format!("-A {service} -s {}{engine}{once}", scheduler(rng)));
        for number in 1..=rng.below(4) {
            let v6 = service.contains('[');
            let address = if v6 { "[fd00:2::1]".to_owned() } else { format!("10.2.0.{number}") };
            let (method, port) = match (rng.below(4), service) {
                (0 | 1, _) | (_, "-t 10.9.0.1:21" | "-u 10.9.0.1:5060") => ("-m", [80, 8080][rng.below(2) as usize]),
                (2, _) => ("-g", 80),
                (_, _) => ("-i", 80),
            };
            let port = if service.starts_with("-f") || every_port { 0 } else { port };
            if v6 && number > 1 {
                continue;
            }
            let (weight, upper) = (rng.below(4), rng.below(3) * 20);
            adm(&mut director, &format!("-a {service} -r {address}:{port} {method} -w {weight} -x {upper}"));
        }
    }
    if rng.below(2) == 0 {
        let rules = "*mangle\n-A PREROUTING -p tcp -d 10.9.0.1 --dport 81 -j MARK --set-mark 7\n\
                     -A PREROUTING -d 10.77.0.0/16 -p udp -j MARK --set-mark 7\nCOMMIT\n";
        director.control_mut().load_marks(rules, None).unwrap();
    }
    for (knob, values) in [
        ("sloppy_tcp", 2),
        ("conn_reuse_mode", 4),
        ("expire_nodest_conn", 2),
        ("expire_quiescent_template", 2),
        ("nat_icmp_send", 2),
        ("schedule_icmp", 2),
        ("cache_bypass", 2),
        ("pmtu_disc", 2),
    ] {
        director.shared().sysctls.write(knob, &rng.below(values).to_string()).unwrap();
    }
    if rng.below(4) == 0 {
        director.shared().sysctls.write("drop_packet", "3").unwrap();
        director.shared().defence.restart(3);
    }
    if rng.below(2) == 0 {
        director.control_mut().serve_ftp(&[21]);
    }
    director.control_mut().sysctls_changed();
    director
}

/// Some packet: of a client, of a server, an error, a mangled one.
fn packet(rng: &mut Rng, last: &[u8]) -> (InterfaceId, Vec<u8>) {
    let v6 = rng.below(4) == 0;
    let from = match v6 {
        true => endpoint("fd00:1::1", 1000 + rng.below(4) as u16),
        false => endpoint(&format!("10.1.{}.1", rng.below(3)), [20, 1000, 1001, 0][rng.below(4) as usize]),
    };
    let ports = [80, 80, 21, 81, 2000, 5060];
    let to = match v6 {
        true => endpoint("fd00:9::1", 80),
        false if rng.below(8) == 0 => endpoint("10.77.0.1", 53),
        false => endpoint("10.9.0.1", ports[rng.below(6) as usize]),
    };
    let flags = [Some(SYN), Some(ACK), Some(SYN | ACK), Some(SYN), None][rng.below(5) as usize];
    let payload: &[u8] = match rng.below(4) {
        0 => b"OPTIONS sip:a SIP/2.0\r\nCall-ID: one@there\r\n\r\n",
        1 => b"PORT 10,1,0,1,8,9\r\n",
        2 => &[7; 1452],
        _ => b"",
    };
    let server = if v6 { "fd00:2::1".to_owned() } else { format!("10.2.0.{}", 1 + rng.below(3)) };
    let server = endpoint(&server, [80, 8080, 0][rng.below(3) as usize]);
    let (interface, mut frame) = match rng.below(8) {
        0 | 1 => (ETH1, frame(STATION_1, server, from, flags, payload)),
        2 if last.len() > 60 => (ETH0, error_about(last, v6_of(last), rng)),
        _ => (ETH0, frame(STATION_0, from, to, flags, payload)),
    };
    match rng.below(10) {
        0 => {
            let at = rng.below(frame.len() as u32) as usize;
            frame[at] = rng.next_u32() as u8;
        }
        1 => frame.truncate(rng.below(frame.len() as u32) as usize),
        2 if frame[12..14] == [8, 0] => {
            frame[22] = rng.below(3) as u8;
            frame = may_fragment(frame);
        }
        3 if frame[12..14] == [8, 0] => {
            frame[20] |= 0x20;
            frame = may_fragment(frame);
        }
        _ => {}
    }
    (interface, frame)
}

fn v6_of(frame: &[u8]) -> bool {
    frame[12..14] == [0x86, 0xdd]
}

/// An ICMP error that quotes a frame which left, to whoever sent it.
fn error_about(frame: &[u8], v6: bool, rng: &mut Rng) -> Vec<u8> {
    let quoted = &frame[14..frame.len().min(14 + 100)];
    let [kind, code, mtu] = if v6 { [2, 0, 0] } else { [[3, 4, 3], [3, 3, 0], [11, 0, 0]][rng.below(3) as usize] };
    let mut message = vec![kind, code, 0, 0, 0, 0, mtu, 0xe8];
    message.extend_from_slice(quoted);
    let builder = PacketBuilder::ethernet2(ROUTER, STATION_0);
    let mut error = Vec::new();
    if v6 {
        let (to, from) = (quoted[8..24].try_into().unwrap(), endpoint("fd00::1", 0).address.0.to_be_bytes());
        let sum = crate::wire::checksum::pseudo_header(
            crate::base::Address::v6(u128::from_be_bytes(from)),
            crate::base::Address::v6(u128::from_be_bytes(to)),
            58,
            message.len() as u32,
        );
        let sum = crate::wire::checksum::transport(sum, &message, 2);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        builder.ipv6(from, to, 64).write(&mut error, etherparse::IpNumber(58), &message).unwrap();
    } else {
        let sum = crate::wire::checksum::of(&message);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        let to = quoted[12..16].try_into().unwrap();
        builder.ipv4([10, 0, 0, 1], to, 64).write(&mut error, etherparse::IpNumber(1), &message).unwrap();
    }
    error
}

/// Over directors and packets of all kinds: verdict, frames and server are those that were told.
#[test]
fn what_is_told_comes_true() {
    let mut verdicts = std::collections::BTreeMap::<String, u32>::new();
    for seed in 0..60 {
        let mut rng = Rng::new(seed);
        let mut director = configured(&mut rng);
        let mut last = Vec::new();
        for number in 0..60 {
            let (interface, frame) = packet(&mut rng, &last);
            let when = format!("seed {seed} packet {number}");
            let gone = director.receive_foretold(interface, &frame).expect("the interface is there");
            let gone = gone.unwrap_or_else(|fault| panic!("{when}: {fault}\n{frame:02x?}"));
            *verdicts.entry(gone.verdict.to_string()).or_default() += 1;
            if let Some((_, sent)) = gone.sent.into_iter().next() {
                last = sent;
            }
            match rng.below(12) {
                0 => {
                    let pause = Duration::from_secs([1, 30, 400][rng.below(3) as usize]);
                    director.advance(director.now() + pause);
                    // Fragments that had waited in vain: their senders were told.
                    director.take_transmitted();
                }
                1 => {
                    let key = rule(Protocol::Tcp, vip(false)).key;
                    let server = endpoint("10.2.0.1", 80);
                    // It may not be there.
                    let _ = director.execute(Request::DeleteServer { service: key, server });
                }
                _ => {}
            }
        }
    }
    for verdict in ["transmit", "pass", "drop:no-server", "drop:malformed", "drop:too-big", "drop:time-exceeded"] {
        assert!(verdicts.contains_key(verdict), "{verdict} was tried: {verdicts:?}");
    }
}
