//! Connection synchronisation: two directors, and a director with a real kernel.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::lab::{Background, Lab, Shape, expect_success, output, wait_for};

/// Where the peer is, at the other end of the director's interface `sync0`.
pub struct Peer {
    namespace: String,
    dir: PathBuf,
}

impl Peer {
    /// A node with an interface `sync0` of its own, 10.55.0.2, towards the director's, 10.55.0.1.
    pub fn build(lab: &Lab, address: Option<&str>) -> Peer {
        let namespace = format!("lvx-peer-{}", std::process::id());
        expect_success(Command::new("ip").args(["netns", "add", &namespace]));
        let peer = Peer { namespace, dir: lab.dir().to_owned() };
        let netns = peer.namespace.as_str();
        lab.check("director", &["ip", "link", "add", "sync0", "type", "veth", "peer", "name", "sync0", "netns", netns]);
        lab.check("director", &["ip", "address", "add", "10.55.0.1/24", "dev", "sync0"]);
        lab.check("director", &["ip", "link", "set", "sync0", "up"]);
        if let Some(address) = address {
            peer.check(&["ip", "address", "add", address, "dev", "sync0"]);
        }
        peer.check(&["ip", "link", "set", "lo", "up"]);
        peer.check(&["ip", "link", "set", "sync0", "up"]);
        peer
    }

    fn socket(&self) -> PathBuf {
        self.dir.join("peer.sock")
    }

    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace]).arg(program).env("LVX_SOCKET", self.socket());
        command
    }

    pub fn check(&self, words: &[&str]) -> String {
        expect_success(self.command(words[0]).args(&words[1..]))
    }

    pub fn director(&self, options: &[&str]) -> Background {
        let mut command = self.command(env!("CARGO_BIN_EXE_lvxd"));
        command.args(["--interface", "sync0", "--socket"]).arg(self.socket()).args(options);
        let mut director = Background::start(&mut command, self.dir.join("peer.log"));
        director.wait_until_log_has("ready");
        director
    }

    pub fn lvx(&self, line: &str) -> String {
        expect_success(self.command(env!("CARGO_BIN_EXE_lvx")).args(line.split_whitespace()))
    }

    pub fn adm(&self, line: &str) -> String {
        expect_success(self.command(env!("CARGO_BIN_EXE_lvxadm")).args(line.split_whitespace()))
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = output(Command::new("ip").args(["netns", "delete", &self.namespace]));
    }
}

/// The rows of `-Lnc`, without protocol's padding and the time that is left.
pub fn rows(listing: &str) -> Vec<String> {
    let words = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        [&words[..1], &words[2..]].concat().join(" ")
    };
    listing.lines().skip(2).map(words).collect()
}

/// Active connections of all servers of `-Ln`.
pub fn active(listing: &str) -> u32 {
    let servers = listing.lines().filter_map(|line| line.trim_start().strip_prefix("-> "));
    servers.filter_map(|server| server.split_whitespace().nth(3)?.parse::<u32>().ok()).sum()
}

pub const RULES: [&str; 4] = [
    "-A -t 10.9.0.1:80 -s rr -p 300",
    "-a -t 10.9.0.1:80 -r 10.2.0.1:80 -m",
    "-a -t 10.9.0.1:80 -r 10.2.0.2:80 -m",
    "-a -t 10.9.0.1:80 -r 10.2.0.3:80 -m",
];

#[test]
fn a_backup_has_the_connections_of_its_master() {
    let Some(lab) = Lab::build(Shape::TwoArms, &[]) else { return };
    let peer = Peer::build(&lab, Some("10.55.0.2/24"));
    let (director, backup) = (lab.director(&[]), peer.director(&[]));
    for line in RULES {
        lab.adm(line);
        peer.adm(line);
    }
    lab.adm("--start-daemon master --mcast-interface sync0 --syncid 7");
    peer.adm("--start-daemon backup --mcast-interface sync0 --syncid 7");
    let daemons = lab.adm("-L --daemon");
    let ours = "sync daemon (mcast=sync0, syncid=7, maxlen=1472, group=224.0.0.81, port=8848, ttl=1)\n";
    assert_eq!(daemons, format!("master {ours}"));
    assert_eq!(peer.adm("-L --daemon"), format!("backup {ours}"));

    let url = "http://10.9.0.1/slow/file";
    let download = lab.start("client", &["curl", "-gsS", "-o", "/dev/null", "--limit-rate", "200k", url], "curl.log");
    let wanted = wait_for("an established connection at the master", || {
        let rows = rows(&lab.adm("-Lnc"));
        rows.into_iter().find(|row| row.starts_with("TCP ESTABLISHED "))
    });
    let template = wait_for("both at the backup", || {
        let rows = rows(&peer.adm("-Lnc"));
        let template = rows.iter().find(|row| row.starts_with("TCP ASSURED 10.1.0.2:0 10.9.0.1:80 "));
        template.filter(|_| rows.contains(&wanted)).cloned()
    });
    assert!(rows(&lab.adm("-Lnc")).contains(&template), "the master has the template too");
    assert_eq!(active(&peer.adm("-Ln")), 1, "the backup counts the connection at its server");

    // Its end is told too.
    drop(download);
    let end = wanted.split_whitespace().skip(2).collect::<Vec<_>>().join(" ");
    wait_for("the end of the connection at the backup", || {
        rows(&peer.adm("-Lnc")).iter().any(|row| row.ends_with(&end) && !row.contains("ESTABLISHED")).then_some(())
    });

    peer.adm("--stop-daemon backup");
    assert_eq!(peer.adm("-L --daemon"), "");
    let again = output(peer.command(env!("CARGO_BIN_EXE_lvxadm")).args(["--stop-daemon", "backup"]));
    assert_eq!((again.status.code(), &again.stderr[..]), (Some(255), &b"No daemon is running\n"[..]));
    let missing = output(peer.command(env!("CARGO_BIN_EXE_lvxadm")).args([
        "--start-daemon",
        "master",
        "--mcast-interface",
        "nosuch0",
    ]));
    assert_eq!((missing.status.code(), &missing.stderr[..]), (Some(255), &b"No such device\n"[..]));
    assert!(backup.stop().success());
    assert!(director.stop().success(), "with its master running");
}

/// IPv6 group, more ports than one, and what a director has when it stops.
#[test]
fn a_group_of_ipv6_and_the_records_of_the_last_moment() {
    let Some(lab) = Lab::build(Shape::TwoArms, &[]) else { return };
    let peer = Peer::build(&lab, Some("10.55.0.2/24"));
    let director = lab.director(&["--sysctl", "sync_ports=4", "--sysctl", "sync_threshold=1 0"]);
    let _backup = peer.director(&[]);
    assert!(output(peer.command(env!("CARGO_BIN_EXE_lvx")).args(["sysctl", "sync_ports=4"])).status.success());
    for line in RULES {
        lab.adm(line);
        peer.adm(line);
    }
    let group = "--mcast-interface sync0 --mcast-group ff02::81 --mcast-port 9000 --mcast-ttl 3";
    peer.adm(&format!("--start-daemon backup {group}"));
    lab.adm(&format!("--start-daemon master {group}"));
    // A link-local address takes a moment until it may be used.
    wait_for("an address of the director on sync0", || {
        let addresses = lab.check("director", &["ip", "-6", "address", "show", "dev", "sync0"]);
        (addresses.contains("fe80::") && !addresses.contains("tentative")).then_some(())
    });
    for _ in 0..12 {
        lab.check("client", &["curl", "-gsS", "-o", "/dev/null", "http://10.9.0.1/"]);
    }
    // Less than two seconds after the last of them.
    assert!(director.stop().success());
    wait_for("twelve connections and the template at the backup", || {
        (rows(&peer.adm("-Lnc")).len() == 13).then_some(())
    });
}

/// The directory of the program that boots a real kernel, when it is there and complete.
pub fn oracle() -> Result<PathBuf, String> {
    let dir = match std::env::var_os("LVX_ORACLE") {
        Some(dir) => PathBuf::from(dir),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/oracle"),
    };
    let run = dir.join("run");
    let has_kernel = output(Command::new("sh").args(["-c", "command -v linux.uml"])).status.success();
    match (run.exists(), has_kernel) {
        (false, _) => Err(format!("no kernel to be booted: {} is not there (LVX_ORACLE)", run.display())),
        (true, false) => Err("no kernel to be booted: linux.uml is not installed".into()),
        (true, true) => Ok(dir),
    }
}

/// What the guest does: a backup of syncid 9, and a master of syncid 7 with a client that asks by UDP through a
/// persistent service, and one that asks by TCP.
const GUEST: &str = r#"
set -e
cd "$OUT"
ip link set lo up
ip link set vec0 up
ip address add 10.55.0.2/24 dev vec0
ip address add 10.9.9.9/32 dev lo
modprobe ip_vs_rr
ipvsadm -A -t 10.9.0.1:80 -s rr -p 300
for server in 1 2 3; do ipvsadm -a -t 10.9.0.1:80 -r 10.2.0.$server:80 -m; done
ipvsadm -A -u 10.9.9.9:53 -s rr -p 100
ipvsadm -a -u 10.9.9.9:53 -r 10.55.0.1:53 -m
ipvsadm --start-daemon master --mcast-interface vec0 --syncid 7
ipvsadm --start-daemon backup --mcast-interface vec0 --syncid 9
touch ready
python3 - <<'PYTHON'
import socket
asks = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
asks.bind(("10.55.0.2", 4444))
for _ in range(4):
    asks.sendto(b"ask", ("10.9.9.9", 53))
PYTHON
for turn in $(seq 600); do
    [ -e stop ] && break
    ipvsadm -Lnc >conns.new && mv conns.new conns
    cat /proc/net/ip_vs_conn_sync >origin.new && mv origin.new origin
    ipvsadm -Ln >services.new && mv services.new services
    sleep 0.1
done
"#;

#[test]
fn a_real_kernel_takes_our_connections_and_we_take_its() {
    let oracle = match oracle() {
        Ok(oracle) => oracle,
        Err(why) => return println!("skipped: {why}"),
    };
    let Some(lab) = Lab::build(Shape::TwoArms, &[]) else { return };
    let peer = Peer::build(&lab, None);
    let director = lab.director(&[]);
    for line in RULES {
        lab.adm(line);
    }
    lab.adm("--start-daemon master --mcast-interface sync0 --syncid 9");
    lab.adm("--start-daemon backup --mcast-interface sync0 --syncid 7");

    let out = lab.dir().join("guest");
    fs::create_dir(&out).expect("a directory");
    let script = lab.dir().join("guest.sh");
    fs::write(&script, GUEST).expect("a script");
    let mut command = peer.command(oracle.join("run"));
    command.arg(&script).arg(&out).env("ORACLE_NET", "vec0:transport=raw,ifname=sync0");
    let mut guest = Background::start(&mut command, lab.dir().join("guest.log"));
    wait_for("the guest", || {
        assert!(guest.is_running(), "the guest ended:\n{}", guest.log());
        out.join("ready").exists().then_some(())
    });

    let url = "http://10.9.0.1/slow/file";
    let download = lab.start("client", &["curl", "-gsS", "-o", "/dev/null", "--limit-rate", "200k", url], "curl.log");
    let read = |name: &str| fs::read_to_string(out.join(name)).unwrap_or_default();
    wait_for("our connection and its template at the kernel", || {
        let (ours, theirs) = (rows(&lab.adm("-Lnc")), rows(&read("conns")));
        let wanted: Vec<&String> = ours.iter().filter(|row| row.contains(" 10.1.0.2:")).collect();
        (wanted.len() == 2 && wanted.iter().all(|row| theirs.contains(row))).then_some(())
    });
    wait_for("the kernel's word that they came from us, and one active connection", || {
        (read("origin").matches(" SYNC ").count() == 2 && active(&read("services")) == 1).then_some(())
    });

    let wanted = ["UDP NONE 10.55.0.2:0 10.9.9.9:53 10.55.0.1:53", "UDP UDP 10.55.0.2:4444 10.9.9.9:53 10.55.0.1:53"];
    wait_for("the kernel's connection and its template here", || {
        let rows = rows(&lab.adm("-Lnc"));
        wanted.iter().all(|wanted| rows.iter().any(|row| row == wanted)).then_some(())
    });

    drop(download);
    fs::write(out.join("stop"), "").expect("a file");
    assert!(guest.wait().success(), "{}", guest.log());
    assert!(director.stop().success());
}
