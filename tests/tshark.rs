//! Every encapsulation that the director sends, as tshark reads it: no complaint, no wrong checksum, and the packet inside
//! is the client's.
//!
//! Says *skipped* where there is no tshark.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use etherparse::PacketBuilder;
use lvx::command::names::FileNames;
use lvx::director::replay::Replay;
use lvx::forward::Verdict;
use lvx::wire::pcapng::Writer;

const NET: &str = "\
link add eth0 address 02:00:00:00:00:fe mtu 1500
link add eth1 address 02:00:00:00:01:fe mtu 1500
addr add 10.0.0.254/24 dev eth0
addr add 10.2.0.254/16 dev eth1
addr add fd00::254/64 dev eth0
addr add fd00:2::254/64 dev eth1
route add local 10.9.0.0/16 dev lo
route add local fd00:9::/64 dev lo
neigh add 10.2.0.1 lladdr 02:00:00:00:02:01 dev eth1
neigh add fd00:2::1 lladdr 02:00:00:00:02:01 dev eth1
";

const TYPES: &[(&str, &str)] = &[
    ("ipip", "ip"),
    ("gre", "gre:ip"),
    ("gre --tun-csum", "gre:ip"),
    ("gue --tun-port 6080 --tun-nocsum", "udp:gue:ip"),
    ("gue --tun-port 6080 --tun-csum", "udp:gue:ip"),
    ("gue --tun-port 6080 --tun-remcsum", "udp:gue:ip"),
];

const CLIENT_V6: [u8; 16] = [0xfd, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];
const SERVICE_V6: [u8; 16] = [0xfd, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];

/// What tshark prints of a capture's packets: protocols, and the severities of its complaints.
struct Decoded {
    protocols: String,
    complaints: String,
    checksums: String,
    source: String,
}

/// A segment of a client to a service of one family. A partial one has but the sum of the pseudo header where its checksum
/// belongs, as from a stack whose hardware computes the rest.
fn segment(is_v6: bool, is_partial: bool) -> Vec<u8> {
    let ethernet = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 0xfe]);
    let mut frame = Vec::new();
    let payload = [7; 101];
    let transport = if is_v6 {
        ethernet.ipv6(CLIENT_V6, SERVICE_V6, 64).tcp(1025, 80, 1, 1000).syn().write(&mut frame, &payload).unwrap();
        54
    } else {
        ethernet
            .ipv4([10, 1, 0, 2], [10, 9, 0, 1], 64)
            .tcp(1025, 80, 1, 1000)
            .syn()
            .write(&mut frame, &payload)
            .unwrap();
        34
    };
    if is_partial {
        let length = (frame.len() - transport) as u32;
        let addresses = if is_v6 { &frame[22..54] } else { &frame[26..34] };
        let words = addresses.chunks(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])));
        let mut sum = words.sum::<u32>() + 6 + length;
        while sum > 0xffff {
            sum = (sum >> 16) + (sum & 0xffff);
        }
        frame[transport + 16..transport + 18].copy_from_slice(&(sum as u16).to_be_bytes());
    }
    frame
}

/// What leaves towards the server when the segment comes.
fn encapsulated(tunnel: &str, is_v6: bool, server: &str, frame: &[u8]) -> Vec<u8> {
    let mut replay = Replay::new(NET, FileNames::default()).unwrap();
    let service = if is_v6 { "[fd00:9::1]:80" } else { "10.9.0.1:80" };
    for line in
        [format!("ipvsadm -A -t {service}"), format!("ipvsadm -a -t {service} -r {server} -i --tun-type {tunnel}")]
    {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        let answer = replay.command(&words, None).unwrap();
        assert_eq!((answer.exit, answer.stderr.as_str()), (0, ""), "{line}");
    }
    let (verdict, mut sent) = replay.receive("eth0", frame).unwrap();
    assert!(matches!(verdict, Verdict::Transmit(_)) && sent.len() == 1, "{tunnel} to {server}: {verdict}");
    sent.remove(0).frame
}

fn capture_path() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("tshark-{}.pcapng", std::process::id()))
}

fn tshark(frames: &[Vec<u8>]) -> Vec<Decoded> {
    let path = capture_path();
    let mut writer = Writer::new(fs::File::create(&path).unwrap()).unwrap();
    let interface = writer.interface("eth1").unwrap();
    for (number, frame) in frames.iter().enumerate() {
        writer.packet(interface, number as u64, frame).unwrap();
    }
    writer.flush().unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/gue.lua");
    let mut command = Command::new("tshark");
    command.arg("-r").arg(&path).args(["-X", &format!("lua_script:{}", script.display())]);
    for protocol in ["ip", "tcp", "udp"] {
        command.args(["-o", &format!("{protocol}.check_checksum:TRUE")]);
    }
    // A tunnel over IPv6 may do without (RFC 6935).
    command.args(["-o", "udp.ignore_ipv6_zero_checksum:TRUE"]);
    command.args(["-T", "fields", "-E", "separator=|", "-e", "frame.protocols", "-e", "_ws.expert.severity"]);
    let statuses = ["ip.checksum.status", "udp.checksum.status", "tcp.checksum.status", "gre.checksum.status"];
    command.args(statuses.iter().chain(&["ip.src", "ipv6.src"]).flat_map(|field| ["-e", field]));
    let output = command.output().unwrap();
    fs::remove_file(&path).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines()
        .map(|line| {
            let columns: Vec<&str> = line.split('|').collect();
            Decoded {
                protocols: columns[0].to_owned(),
                complaints: columns[1].to_owned(),
                checksums: columns[2..6].join(","),
                source: columns[6..].join(","),
            }
        })
        .collect()
}

/// Severities of the expert information: from `warning` on it is a complaint.
fn complains(decoded: &Decoded) -> bool {
    const WARNING: u32 = 0x0060_0000;
    decoded.complaints.split(',').filter_map(|level| level.parse().ok()).any(|level: u32| level >= WARNING)
}

/// Wireshark's word for a wrong checksum is 0, for a right one 1, for one that is not there 3.
fn has_wrong_checksum(decoded: &Decoded) -> bool {
    decoded.checksums.split(',').any(|status| status == "0")
}

#[test]
fn tshark_reads_every_encapsulation_without_a_complaint() {
    if Command::new("tshark").arg("-v").output().is_err() {
        println!("skipped: needs tshark");
        return;
    }
    let mut frames = Vec::new();
    let mut expected = Vec::new();
    for (tunnel, headers) in TYPES {
        for (is_v6, server) in [(false, "10.2.0.1"), (false, "fd00:2::1"), (true, "10.2.0.1"), (true, "fd00:2::1")] {
            let server = if server.contains(':') { format!("[{server}]:80") } else { format!("{server}:80") };
            for is_partial in [false, true] {
                // What is left to the receiver is wrong to everybody else.
                let is_left = is_partial && tunnel.ends_with("remcsum");
                frames.push(encapsulated(tunnel, is_v6, &server, &segment(is_v6, is_partial)));
                let inner = if is_v6 { headers.replace("ip", "ipv6") } else { (*headers).to_owned() };
                let outer = if server.starts_with('[') { "ipv6" } else { "ip" };
                let stack = format!("eth:ethertype:{outer}:{inner}:tcp");
                expected.push((
                    format!("{tunnel} to {server}, inner IPv{}", if is_v6 { 6 } else { 4 }),
                    stack,
                    is_left,
                ));
            }
        }
    }
    let decoded = tshark(&frames);
    assert_eq!(decoded.len(), frames.len());
    for (decoded, (what, stack, is_left)) in decoded.iter().zip(&expected) {
        assert_eq!(&decoded.protocols, stack, "{what}");
        let client = if what.ends_with('6') { "fd00:1::2" } else { "10.1.0.2" };
        assert!(decoded.source.contains(client), "{what}: {}", decoded.source);
        assert_eq!(has_wrong_checksum(decoded), *is_left, "{what}: {}", decoded.checksums);
        if !is_left {
            assert!(!complains(decoded), "{what}: severities {}", decoded.complaints);
        }
    }

    // It would have noticed.
    let mut wrong = frames[8..12].to_vec();
    wrong.iter_mut().for_each(|frame| *frame.last_mut().unwrap() ^= 1);
    assert!(tshark(&wrong).iter().all(has_wrong_checksum));
}
