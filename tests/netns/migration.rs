//! A director with a real kernel: both formats, both ways, both families; numbered datagrams; and a kernel's clients taken
//! over while they download. Needs a kernel that can be booted (`LVX_ORACLE`).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::lab::{Background, Lab, Shape, expect_success, output, wait_for};
use crate::sync::{Peer, oracle, rows};

/// A kernel that runs, with a directory that it shares.
struct Guest {
    process: Background,
    out: PathBuf,
}

impl Guest {
    /// Boots a kernel whose `vec0` is the interface `interface` where `command` runs, and has it run `script`.
    fn boot(lab: &Lab, mut command: Command, interface: &str, script: &str) -> Guest {
        let out = lab.dir().join("guest");
        fs::create_dir(&out).expect("a directory");
        let path = lab.dir().join("guest.sh");
        fs::write(&path, script).expect("a script");
        command.arg(&path).arg(&out).env("ORACLE_NET", format!("vec0:transport=raw,ifname={interface}"));
        let process = Background::start(&mut command, lab.dir().join("guest.log"));
        let mut guest = Guest { process, out };
        guest.wait_until("ready");
        guest
    }

    /// Waits until it has made a file of this name.
    fn wait_until(&mut self, name: &str) {
        let path = self.out.join(name);
        wait_for(&format!("the guest's file {name}"), || {
            assert!(self.process.is_running(), "the guest ended:\n{}", self.process.log());
            path.exists().then_some(())
        });
    }

    /// Makes a file for which it waits.
    fn say(&self, name: &str) {
        fs::write(self.out.join(name), "").expect("a file");
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.out.join(name)).unwrap_or_default()
    }

    fn end(mut self) {
        self.say("stop");
        assert!(self.process.wait().success(), "{}", self.process.log());
    }
}

/// What every guest begins with.
const BEGIN: &str = r#"
set -e
cd "$OUT"
ip link set lo up
ip link set vec0 up
ethtool -K vec0 tx off sg off tso off gso off gro off 2>/dev/null || true
modprobe ip_vs_rr
await() { for turn in $(seq 1200); do [ -e "$1" ] && return 0; [ -e stop ] && return 0; sleep 0.1; done; return 1; }
publish() {
    while :; do
        ipvsadm -Lnc >conns.new && mv conns.new conns
        sleep 0.2
    done
}
"#;

/// Both roles, both families, and a client of its own; then the other format.
const BOTH_WAYS: &str = r#"
ip address add 10.55.0.2/24 dev vec0
ip -6 address add fd00:55::2/64 dev vec0 nodad
ip address add 10.9.9.9/32 dev lo
ip -6 address add fd00:9::99/128 dev lo nodad
ipvsadm -A -t 10.9.0.1:80 -s rr -p 300
ipvsadm -A -t [fd00:9::1]:80 -s rr
for server in 1 2 3; do
    ipvsadm -a -t 10.9.0.1:80 -r 10.2.0.$server:80 -m
    ipvsadm -a -t [fd00:9::1]:80 -r [fd00:2::$server]:80 -m
done
ipvsadm -A -u 10.9.9.9:53 -s rr -p 100
ipvsadm -a -u 10.9.9.9:53 -r 10.55.0.1:53 -m
ipvsadm -A -u [fd00:9::99]:53 -s rr
ipvsadm -a -u [fd00:9::99]:53 -r [fd00:55::1]:53 -m
ipvsadm --start-daemon master --mcast-interface vec0 --syncid 7
ipvsadm --start-daemon backup --mcast-interface vec0 --syncid 9
publish &
touch ready
ask() { python3 - "$@" <<'PYTHON'
import socket, sys
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
asks = socket.socket(family, socket.SOCK_DGRAM)
asks.bind((sys.argv[1], int(sys.argv[2])))
for _ in range(4):
    asks.sendto(b"ask", (sys.argv[3], 53))
PYTHON
}
ask 10.55.0.2 4444 10.9.9.9
ask fd00:55::2 4446 fd00:9::99
# An lvx backup, as far as its first words: the master numbers its datagrams from then on. One that is not on the link
# (its hop limit says so) is not heard.
await number
python3 - <<'PYTHON' &
import socket, time
near = socket.socket()
near.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 255)
near.settimeout(10)
near.connect(("10.55.0.1", 8848))
near.sendall(bytes.fromhex("0100000c 6c767872 01090000 00000000"))
hello = near.recv(16)
open("hello.new", "w").write(hello.hex())
far = socket.socket()
far.settimeout(2)
try:
    far.connect(("10.55.0.1", 8848))
    open("far", "w").write("connected")
except OSError:
    open("far", "w").write("not heard")
import os
os.rename("hello.new", "hello")
while not os.path.exists("stop"):
    near.sendall(bytes.fromhex("0b000000"))
    time.sleep(1)
PYTHON
await v0
sysctl -qw net.ipv4.vs.sync_version=0
ask 10.55.0.2 4448 10.9.9.9
touch v0.done
await stop
sleep 0.5
"#;

fn lvx(lab: &Lab, line: &str) -> String {
    expect_success(lab.command("director", env!("CARGO_BIN_EXE_lvx")).args(line.split_whitespace()))
}

fn status(lab: &Lab) -> Value {
    serde_json::from_str(&lvx(lab, "sync status --json")).expect("JSON")
}

/// The director's own rows of clients whose address begins like this.
fn rows_of(lab: &Lab, client: &str) -> Vec<String> {
    let all = rows(&lab.adm("-Lnc"));
    all.into_iter().filter(|row| row.split(' ').nth(2).is_some_and(|from| from.starts_with(client))).collect()
}

#[test]
fn a_real_kernel_in_both_formats_and_families() {
    let oracle = match oracle() {
        Ok(oracle) => oracle,
        Err(why) => return println!("skipped: {why}"),
    };
    let Some(lab) = Lab::build(Shape::TwoArms, &[]) else { return };
    let peer = Peer::build(&lab, None);
    lab.check("director", &["ip", "-6", "address", "add", "fd00:55::1/64", "dev", "sync0", "nodad"]);
    let director = lab.director(&[]);
    for family in [["10.9.0.1:80", "10.2.0.", ":80", "-p 300"], ["[fd00:9::1]:80", "[fd00:2::", "]:80", ""]] {
        let [service, before, after, persistence] = family;
        lab.adm(&format!("-A -t {service} -s rr {persistence}"));
        for server in 1..=3 {
            lab.adm(&format!("-a -t {service} -r {before}{server}{after} -m"));
        }
    }
    lab.adm("--start-daemon master --mcast-interface sync0 --syncid 9");
    lab.adm("--start-daemon backup --mcast-interface sync0 --syncid 7");
    let mut guest = Guest::boot(&lab, peer.command(oracle.join("run")), "sync0", &format!("{BEGIN}{BOTH_WAYS}"));

    let wanted = [
        "UDP NONE 10.55.0.2:0 10.9.9.9:53 10.55.0.1:53",
        "UDP UDP 10.55.0.2:4444 10.9.9.9:53 10.55.0.1:53",
        "UDP UDP [fd00:55::2]:4446 [fd00:9::99]:53 [fd00:55::1]:53",
    ];
    let has_all = |wanted: &[&str]| {
        let ours = rows(&lab.adm("-Lnc"));
        wanted.iter().all(|wanted| ours.iter().any(|row| row == wanted)).then_some(())
    };
    wait_for("the kernel's connections and its template here", || has_all(&wanted));
    wait_for("the kernel to be known as one that cannot resync", || {
        let status = status(&lab);
        (status["warm"] == "peer-cannot" && status["masters"][0]["cannot"] == "refuses").then_some(())
    });
    assert_eq!(status(&lab)["numbered"], false);

    let downloads = |host: &str| {
        let url = format!("http://{host}/slow/file");
        let words = ["curl", "-gsS", "-o", "/dev/null", "--limit-rate", "50k", &url];
        lab.start("client", &words, &format!("curl{}.log", host.len()))
    };
    // What ours has of clients with such addresses, a connection among it, the kernel has too.
    let kernel_has_ours = |what: &str, guest: &Guest, client: &str| {
        wait_for(what, || {
            let (ours, theirs) = (rows_of(&lab, client), rows(&guest.read("conns")));
            let is_there = ours.iter().any(|row| row.starts_with("TCP ESTABLISHED "));
            (is_there && ours.iter().all(|row| theirs.contains(row))).then_some(())
        });
    };
    let first = (downloads("10.9.0.1"), downloads("[fd00:9::1]"));
    kernel_has_ours("our connection and its template at the kernel", &guest, "10.1.");
    kernel_has_ours("our connection of IPv6 at the kernel", &guest, "[fd00:1:");
    assert_eq!(rows_of(&lab, "10.1.").len(), 2);
    drop(first);

    guest.say("number");
    guest.wait_until("hello");
    assert_eq!(&guest.read("hello")[..24], "0100000c6c76787201090100");
    assert_eq!(guest.read("far"), "not heard");
    assert_eq!(status(&lab)["numbered"], true);
    let second = (downloads("10.9.0.1"), downloads("[fd00:9::1]"));
    kernel_has_ours("connections told of in numbered datagrams", &guest, "10.1.");
    kernel_has_ours("one of IPv6", &guest, "[fd00:1:");
    drop(second);

    guest.say("v0");
    guest.wait_until("v0.done");
    lvx(&lab, "sysctl sync_version=0");
    wait_for("a connection of the kernel's in version 0", || {
        has_all(&["UDP UDP 10.55.0.2:4448 10.9.9.9:53 10.55.0.1:53"])
    });
    let third = downloads("10.9.0.1");
    kernel_has_ours("connections told of in version 0", &guest, "10.1.");
    drop(third);
    guest.end();
    assert!(director.stop().success());
}

/// A kernel that balances, until it is told to leave; then another has its address.
const ACTIVE: &str = r#"
sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.all.send_redirects=0 net.ipv4.conf.default.send_redirects=0
sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.vec0.rp_filter=0 net.ipv4.conf.vec0.send_redirects=0
ip address add 10.2.0.251/16 dev vec0
ip address add 10.2.0.254/16 dev vec0
ip address add 10.9.0.1/32 dev lo
ip route add default via 10.2.0.253
ipvsadm -A -t 10.9.0.1:80 -s rr
for server in 1 2 3; do ipvsadm -a -t 10.9.0.1:80 -r 10.2.0.$server:80 -m; done
ipvsadm --start-daemon master --mcast-interface vec0 --syncid 7
publish &
touch ready
await leave
ip address del 10.2.0.254/16 dev vec0
ip address del 10.9.0.1/32 dev lo
touch left
await stop
sleep 0.5
"#;

/// Tells the neighbours where an address is now: `garp.py INTERFACE ADDRESS`.
const ANNOUNCE: &str = r#"
import fcntl, socket, struct, sys
name, address = sys.argv[1], socket.inet_aton(sys.argv[2])
raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
raw.bind((name, 0))
mac = fcntl.ioctl(raw, 0x8927, struct.pack("256s", name.encode()))[18:24]
for operation in (1, 2):
    arp = struct.pack("!HHBBH6s4s6s4s", 1, 0x0800, 6, 4, operation, mac, address, b"\xff" * 6, address)
    raw.send(b"\xff" * 6 + mac + b"\x08\x06" + arp)
"#;

/// Octets of a download: long enough to see both directors.
const DOWNLOAD_OCTETS: usize = 5 << 20;

fn hash(path: &Path) -> String {
    let text = expect_success(Command::new("sha256sum").arg(path));
    text.split_whitespace().next().unwrap_or_default().to_owned()
}

#[test]
fn downloads_through_a_kernel_finish_through_lvx() {
    let oracle = match oracle() {
        Ok(oracle) => oracle,
        Err(why) => return println!("skipped: {why}"),
    };
    let Some(lab) = Lab::build(Shape::OneArm, &["sha256sum", "ethtool"]) else { return };
    // The address that clients' and servers' packets go to is nobody's yet.
    lab.check("director", &["ip", "address", "del", "10.2.0.254/16", "dev", "eth0"]);
    lab.check("director", &["ip", "address", "add", "10.2.0.252/16", "dev", "eth0"]);
    lab.check("director", &["ip", "route", "replace", "default", "via", "10.2.0.253"]);
    // What the guest reads of the wire has to be whole.
    for (node, interface) in [
        ("rs1", "eth0"),
        ("rs2", "eth0"),
        ("rs3", "eth0"),
        ("router", "servers"),
        ("client", "eth0"),
        ("router", "clients"),
    ] {
        let words = ["ethtool", "-K", interface, "tx", "off", "sg", "off", "tso", "off", "gso", "off", "gro", "off"];
        output(lab.command(node, words[0]).args(&words[1..]));
    }
    lab.check("switch", &["ip", "link", "add", "guest", "type", "veth", "peer", "name", "vb"]);
    lab.check("switch", &["ip", "link", "set", "guest", "master", "bridge", "up"]);
    lab.check("switch", &["ip", "link", "set", "vb", "up"]);
    let mut guest = Guest::boot(&lab, lab.command("switch", oracle.join("run")), "vb", &format!("{BEGIN}{ACTIVE}"));

    let source = lab.dir().join("www/part");
    let whole = fs::read(lab.dir().join("www/file")).expect("the lab's file");
    fs::write(&source, &whole[..DOWNLOAD_OCTETS]).expect("a part of it");
    let target = |number: usize| lab.dir().join(format!("part{number}"));
    let mut downloads: Vec<Background> = (0..3)
        .map(|number| {
            let path = target(number);
            let path = path.to_str().expect("a path");
            let words = ["curl", "-gsS", "-o", path, "--limit-rate", "300k", "http://10.9.0.1/part"];
            lab.start("client", &words, &format!("curl{number}.log"))
        })
        .collect();
    let established = |rows: &[String]| rows.iter().filter(|row| row.starts_with("TCP ESTABLISHED 10.1.0.2:")).count();
    wait_for("three downloads through the kernel", || (established(&rows(&guest.read("conns"))) == 3).then_some(()));

    // lvx joins.
    let director = lab.director(&[]);
    lab.adm("-A -t 10.9.0.1:80 -s rr");
    for server in 1..=3 {
        lab.adm(&format!("-a -t 10.9.0.1:80 -r 10.2.0.{server}:80 -m"));
    }
    lab.adm("--start-daemon backup --mcast-interface eth0 --syncid 7");
    wait_for("them here", || (established(&rows(&lab.adm("-Lnc"))) == 3).then_some(()));
    assert_eq!(lab.server_numbers("10.9.0.1:80", "10.2.0.1:80").map(|[_, active, _]| active), Some(1));
    wait_for("the kernel to be known as one that cannot resync", || {
        (status(&lab)["warm"] == "peer-cannot").then_some(())
    });

    // The kernel leaves, and lvx takes the address.
    assert!(downloads.iter_mut().all(Background::is_running), "the downloads ended too early");
    guest.say("leave");
    guest.wait_until("left");
    lab.check("director", &["ip", "address", "add", "10.2.0.254/16", "dev", "eth0"]);
    lab.check("director", &["/usr/bin/python3", "-c", ANNOUNCE, "eth0", "10.2.0.254"]);
    for download in &mut downloads {
        let end = download.wait();
        assert!(end.success(), "{end}: {}", download.log());
    }
    let wanted = hash(&source);
    assert!((0..3).all(|number| hash(&target(number)) == wanted), "what came is not what was sent");
    let forwarded: Value = serde_json::from_str(&lvx(&lab, "status --json")).expect("JSON");
    let sent: u64 =
        forwarded["workers"].as_array().expect("workers").iter().filter_map(|w| w["transmitted"].as_u64()).sum();
    assert!(sent > 100, "they went through lvx: {sent} frames");
    guest.end();
    assert!(director.stop().success());
}
