//! `lvx replay` as a user runs it: a capture through a director offline, and steps.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use etherparse::PacketBuilder;
use lvx::wire::pcapng::{Reader, Writer};

const NET: &str = "\
link add eth0 address 02:00:00:00:00:fe mtu 1500
link add eth1 address 02:00:00:00:01:fe mtu 1500
addr add 10.0.0.254/24 dev eth0
addr add 10.2.0.254/16 dev eth1
addr add 10.9.0.1/32 dev lo
route add default via 10.0.0.1 dev eth0
neigh add 10.0.0.1 lladdr 02:00:00:00:00:01 dev eth0
neigh add 10.2.0.1 lladdr 02:00:00:00:02:01 dev eth1
neigh add 10.2.0.2 lladdr 02:00:00:00:02:02 dev eth1
";

const RULES: &str = "\
-A -t 10.9.0.1:80 -s rr
-a -t 10.9.0.1:80 -r 10.2.0.1:8080 -m -w 1
-a -t 10.9.0.1:80 -r 10.2.0.2:8080 -m -w 1
";

struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("replay-{name}-{}", std::process::id()));
        // Left over by a process of the same number, if it is there at all.
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        fs::write(path.join("net"), NET).unwrap();
        fs::write(path.join("rules"), RULES).unwrap();
        Self(path)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A SYN to the virtual service.
fn syn(client_port: u16) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 0xfe]);
    let builder = builder.ipv4([10, 1, 0, 1], [10, 9, 0, 1], 64).tcp(client_port, 80, 1, 1000).syn();
    let mut frame = Vec::new();
    builder.write(&mut frame, &[]).unwrap();
    frame
}

/// A capture of `count` SYNs, one a second, on eth0.
fn write_capture(path: &Path, interface: &str, count: u16) {
    let mut writer = Writer::new(fs::File::create(path).unwrap()).unwrap();
    let number = writer.interface(interface).unwrap();
    for n in 0..count {
        let at_ns = 1_700_000_000_000_000_000 + u64::from(n) * 1_000_000_000;
        writer.packet(number, at_ns, &syn(1025 + n)).unwrap();
    }
    writer.flush().unwrap();
}

fn replay(directory: &Directory, output: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_lvx"))
        .arg("replay")
        .arg("--net")
        .arg(directory.file("net"))
        .arg("--rules")
        .arg(directory.file("rules"))
        .arg("--in")
        .arg(directory.file("in.pcapng"))
        .arg("--out")
        .arg(directory.file(output))
        .arg("--conns")
        .arg(directory.file("conns"))
        .arg("--stats")
        .arg(directory.file("stats"))
        .output()
        .unwrap()
}

#[test]
fn a_capture_goes_through_and_always_alike() {
    let directory = Directory::new("capture");
    write_capture(&directory.file("in.pcapng"), "eth0", 4);
    let answer = replay(&directory, "out.pcapng");
    assert!(answer.status.success(), "{answer:?}");
    assert!(String::from_utf8_lossy(&answer.stderr).starts_with("4 packets: 4 transmitted"), "{answer:?}");

    let mut reader = Reader::new(fs::File::open(directory.file("out.pcapng")).unwrap());
    let mut servers = Vec::new();
    let mut first_ns = None;
    while let Some(packet) = reader.next_packet().unwrap() {
        assert_eq!(reader.interfaces()[packet.interface].name, "eth1");
        let at_ns = packet.timestamp_ns.unwrap();
        assert_eq!((at_ns - *first_ns.get_or_insert(at_ns)) / 1_000_000_000, servers.len() as u64);
        servers.push(packet.bytes[33]);
        assert_eq!(packet.bytes[36..38], 8080u16.to_be_bytes());
    }
    assert_eq!(servers, [2, 1, 2, 1]);

    let connections = fs::read_to_string(directory.file("conns")).unwrap();
    assert_eq!(connections.lines().count(), 6, "{connections}");
    assert!(
        connections.contains("TCP 00:58  SYN_RECV    10.1.0.1:1026      10.9.0.1:80        10.2.0.1:8080"),
        "{connections}"
    );
    let statistics = fs::read_to_string(directory.file("stats")).unwrap();
    assert!(statistics.lines().any(|line| line.starts_with("TCP  10.9.0.1:80")), "{statistics}");

    assert!(replay(&directory, "again.pcapng").status.success());
    let read = |name: &str| fs::read(directory.file(name)).unwrap();
    assert_eq!(read("out.pcapng"), read("again.pcapng"));
}

#[test]
fn what_is_wrong_is_said_in_one_line() {
    let directory = Directory::new("wrong");
    write_capture(&directory.file("in.pcapng"), "eth7", 1);
    let expect = |text: &str| {
        let answer = replay(&directory, "out.pcapng");
        let errors = String::from_utf8_lossy(&answer.stderr).into_owned();
        assert_eq!(answer.status.code(), Some(1), "{errors}");
        assert!(errors.contains(text) && errors.lines().count() == 1, "no `{text}' in: {errors}");
    };
    expect("eth7");
    fs::write(directory.file("rules"), "-A -t 10.9.0.1:80 -s nosuch\n").unwrap();
    expect("Scheduler or persistence engine not found");
    fs::write(directory.file("net"), "link add eth0 address zz\n").unwrap();
    expect("line 1");
    fs::write(directory.file("in.pcapng"), "no capture").unwrap();
    fs::write(directory.file("net"), NET).unwrap();
    fs::write(directory.file("rules"), RULES).unwrap();
    expect("capture");
}

/// The answers to steps.
fn run_steps(directory: &Directory, steps: &str) -> Vec<serde_json::Value> {
    let mut child = Command::new(env!("CARGO_BIN_EXE_lvx"))
        .args(["replay", "--steps", "-", "--net"])
        .arg(directory.file("net"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(steps.as_bytes()).unwrap();
    let answer = child.wait_with_output().unwrap();
    assert!(answer.status.success());
    let lines = answer.stdout.split(|octet| *octet == b'\n').filter(|line| !line.is_empty());
    lines.map(|line| serde_json::from_slice(line).unwrap()).collect()
}

/// Steps are answered line by line; what is no step is answered and the next one goes on.
#[test]
fn steps_are_answered_one_by_one() {
    let directory = Directory::new("steps");
    let hex: String = syn(1025).iter().map(|octet| format!("{octet:02x}")).collect();
    let steps = format!(
        "{}\n{}\n{}\n{}\n{}\n{}\n",
        r#"{"cmd":["ipvsadm","-A","-t","10.9.0.1:80","-s","rr"],"stdin":null}"#,
        r#"{"cmd":["ipvsadm","-a","-t","10.9.0.1:80","-r","10.2.0.1:80","-g"]}"#,
        format_args!(r#"{{"in":"eth0","hex":"{hex}"}}"#),
        r#"{"what":1}"#,
        r#"{"sysctl":["net.ipv4.vs.drop_entry","9"]}"#,
        r#"{"advance":60.5}"#,
    );
    let lines = run_steps(&directory, &steps);
    assert_eq!(lines.len(), 6);
    assert_eq!(lines[0], serde_json::json!({"exit": 0, "stdout": "", "stderr": ""}));
    assert_eq!(lines[2]["verdict"], "transmit");
    assert_eq!(lines[2]["out"][0]["dev"], "eth1");
    assert!(lines[3]["error"].is_string());
    assert_ne!(lines[4]["exit"], 0);
    assert_eq!(lines[5], serde_json::json!({"out": []}));
}

/// Rules as iptables-save prints them make a service by mark; a text with a mistake changes nothing.
#[test]
fn marks_are_loaded_listed_and_balanced() {
    let directory = Directory::new("marks");
    let hex: String = syn(1025).iter().map(|octet| format!("{octet:02x}")).collect();
    let rules = "# Generated by iptables-save v1.8.9\n*mangle\n:PREROUTING ACCEPT [0:0]\n\
        [7:420] -A PREROUTING -d 10.9.0.0/16 -p tcp -m tcp --dport 80 -j MARK --set-xmark 0x7/0xffffffff\nCOMMIT\n";
    let load = |text: &str| serde_json::json!({"cmd": ["lvx", "mark", "load", "-"], "stdin": text}).to_string();
    let steps = [
        r#"{"cmd":["ipvsadm","-A","-f","7","-s","rr"]}"#.to_owned(),
        r#"{"cmd":["ipvsadm","-a","-f","7","-r","10.2.0.1:8080","-m"]}"#.to_owned(),
        format!(r#"{{"in":"eth0","hex":"{hex}"}}"#),
        load(rules),
        load("*mangle\n-A PREROUTING -j DROP\nCOMMIT\n"),
        format!(r#"{{"in":"eth0","hex":"{hex}"}}"#),
        r#"{"cmd":["lvx","mark","list","-4"]}"#.to_owned(),
        r#"{"cmd":["ipvsadm","-Lnc"]}"#.to_owned(),
        r#"{"cmd":["lvx","mark","load","/etc/marks"]}"#.to_owned(),
    ];
    let lines = run_steps(&directory, &(steps.join("\n") + "\n"));
    assert_eq!(lines[2]["verdict"], "pass", "no rule yet");
    assert_eq!(lines[3], serde_json::json!({"exit": 0, "stdout": "", "stderr": ""}));
    assert_eq!(lines[4]["exit"], 1);
    assert!(lines[4]["stderr"].as_str().unwrap().contains("line 2"), "{}", lines[4]);
    assert_eq!((&lines[5]["verdict"], &lines[5]["out"][0]["dev"]), (&"transmit".into(), &"eth1".into()));
    let listed = lines[6]["stdout"].as_str().unwrap();
    let rule = "-A PREROUTING -d 10.9.0.0/16 -p tcp -m tcp --dport 80 -j MARK --set-xmark 0x7/0xffffffff";
    assert!(listed.lines().any(|line| line == rule), "{listed}");
    assert!(lines[7]["stdout"].as_str().unwrap().contains("10.9.0.1:80        10.2.0.1:8080"), "{}", lines[7]);
    assert!(lines[8]["error"].is_string(), "a replay reads no files");
}
