//! Virtual routers: directors on a LAN of their own, alone and with a real keepalived.
//!
//! ```text
//!   client (10.77.0.100)
//!      |
//!   switch (a bridge) --- a (10.77.0.1)
//!      '------------------ b (10.77.0.2)
//! ```

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use rustix::process::Signal;

use crate::lab::{Background, expect_success, output, take_turn, wait_for};

static LANS_BUILT: AtomicU32 = AtomicU32::new(0);

const ADDRESS: &str = "10.77.0.10";

/// The switch, two routers and a client. Dropping it removes them.
struct Lan {
    prefix: String,
    dir: PathBuf,
    _turn: File,
}

impl Lan {
    /// A LAN; `None` when the test has to be skipped, which is then said.
    fn build(tools: &[&str]) -> Option<Lan> {
        let turn = take_turn(tools)?;
        let prefix = format!("lvxr{}-{}", std::process::id(), LANS_BUILT.fetch_add(1, Relaxed));
        let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(&prefix);
        fs::create_dir_all(&dir).expect("a directory");
        let lan = Lan { prefix, dir, _turn: turn };
        for node in ["switch", "a", "b", "client"] {
            lan.ip(&format!("netns add {}", lan.namespace(node)));
            lan.ip(&format!("-n {} link set lo up", lan.namespace(node)));
        }
        let switch = lan.namespace("switch");
        lan.ip(&format!("-n {switch} link add br0 type bridge stp_state 0 mcast_snooping 0"));
        lan.ip(&format!("-n {switch} link set br0 up"));
        for (node, host) in [("a", 1), ("b", 2), ("client", 100)] {
            let netns = lan.namespace(node);
            let mac = format!("02:00:00:00:77:{host:02x}");
            lan.ip(&format!("-n {switch} link add to-{node} type veth peer name eth0 netns {netns} address {mac}"));
            lan.ip(&format!("-n {switch} link set to-{node} master br0 up"));
            lan.ip(&format!("-n {netns} address add 10.77.0.{host}/24 dev eth0"));
            lan.ip(&format!("-n {netns} link set eth0 up"));
        }
        Some(lan)
    }

    fn namespace(&self, node: &str) -> String {
        format!("{}-{node}", self.prefix)
    }

    fn ip(&self, line: &str) -> String {
        expect_success(Command::new("ip").args(line.split_whitespace()))
    }

    fn command(&self, node: &str, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace(node), program]).env("LVX_SOCKET", self.socket(node));
        command
    }

    fn socket(&self, node: &str) -> PathBuf {
        self.dir.join(format!("{node}.sock"))
    }

    fn configuration(&self, node: &str) -> PathBuf {
        self.dir.join(format!("{node}.conf"))
    }

    /// Writes the configuration of a node: an instance of this priority, with these lines besides.
    fn configure(&self, node: &str, priority: u8, more: &str) {
        let text = format!(
            "vrrp_instance VI_1 {{\n    interface eth0\n    virtual_router_id 51\n    priority {priority}\n    \
             advert_int 1\n{more}    virtual_ipaddress {{\n        {ADDRESS}\n    }}\n}}\n"
        );
        fs::write(self.configuration(node), text).expect("a configuration");
    }

    fn log(&self, node: &str) -> PathBuf {
        let number = (1..).find(|n| !self.dir.join(format!("{node}.{n}.log")).exists()).expect("a free number");
        self.dir.join(format!("{node}.{number}.log"))
    }

    fn director(&self, node: &str) -> Background {
        let mut command = self.command(node, env!("CARGO_BIN_EXE_lvxd"));
        command.arg("--config").arg(self.configuration(node)).arg("--socket").arg(self.socket(node));
        let mut director = Background::start(&mut command, self.log(node));
        director.wait_until_log_has("ready");
        director
    }

    fn keepalived(&self, node: &str) -> Background {
        let mut command = self.command(node, "keepalived");
        command.args(["-P", "-n", "-l", "-D", "-f"]).arg(self.configuration(node));
        command.arg("-p").arg(self.dir.join(format!("{node}.pid")));
        command.arg("-r").arg(self.dir.join(format!("{node}.vrrp.pid")));
        Background::start(&mut command, self.log(node))
    }

    fn has(&self, node: &str) -> bool {
        self.ip(&format!("-n {} address show", self.namespace(node))).contains(&format!(" {ADDRESS}/"))
    }

    fn wait_until(&self, node: &str, has: bool) {
        let what = format!("{node} {} {ADDRESS}", if has { "has" } else { "has not" });
        wait_for(&what, || (self.has(node) == has).then_some(()));
    }

    /// The Ethernet address at which the client finds the address, asked anew.
    fn found_at(&self) -> String {
        let client = self.namespace("client");
        wait_for("an answer to the client", || {
            output(Command::new("ip").args(["-n", &client, "neigh", "flush", "all"]));
            output(self.command("client", "ping").args(["-c1", "-W1", ADDRESS])).status.success().then_some(())
        });
        let neighbours = self.ip(&format!("-n {client} neigh show {ADDRESS}"));
        let words: Vec<&str> = neighbours.split_whitespace().collect();
        let at = words.iter().position(|word| *word == "lladdr").expect("a neighbour");
        words[at + 1].to_owned()
    }

    /// What `lvx vrrp --json` says of the only instance.
    fn listing(&self, node: &str) -> serde_json::Value {
        let text = expect_success(self.command(node, env!("CARGO_BIN_EXE_lvx")).args(["vrrp", "--json"]));
        serde_json::from_str::<serde_json::Value>(&text).expect("JSON")["instances"][0].take()
    }

    fn cable(&self, node: &str, state: &str) {
        self.ip(&format!("-n {} link set to-{node} {state}", self.namespace("switch")));
    }
}

impl Drop for Lan {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for entry in fs::read_dir(&self.dir).into_iter().flatten().flatten() {
                if entry.path().extension().is_some_and(|extension| extension == "log") {
                    eprintln!("--- {}", entry.file_name().to_string_lossy());
                    eprint!("{}", fs::read_to_string(entry.path()).unwrap_or_default());
                }
            }
        }
        for node in ["a", "b", "client", "switch"] {
            let _ = output(Command::new("ip").args(["netns", "delete", &self.namespace(node)]));
        }
        let _ = fs::remove_dir_all(&self.dir);
    }
}

const MAC_A: &str = "02:00:00:00:77:01";
const MAC_B: &str = "02:00:00:00:77:02";

#[test]
fn the_address_goes_to_who_is_there_and_comes_back() {
    let Some(lan) = Lan::build(&["ping"]) else { return };
    lan.configure("a", 150, "");
    lan.configure("b", 100, "");
    let (a, b) = (lan.director("a"), lan.director("b"));
    lan.wait_until("a", true);
    assert!(!lan.has("b"));
    assert_eq!(lan.found_at(), MAC_A);
    assert_eq!(lan.listing("a")["state"], "MASTER");
    let other = wait_for("b to hear a", || Some(lan.listing("b")).filter(|it| !it["other"].is_null()));
    assert_eq!((&other["state"], &other["other"]["priority"]), (&"BACKUP".into(), &150.into()));

    // Killed: nobody resigns, and the address stays behind until the next run takes it away.
    let mut a = a;
    a.signal(Signal::KILL);
    a.wait();
    lan.wait_until("b", true);
    assert!(lan.has("a"));
    let a = lan.director("a");
    lan.wait_until("a", false);
    lan.wait_until("a", true);
    lan.wait_until("b", false);
    assert_eq!(lan.found_at(), MAC_A);

    // Without a cable.
    lan.cable("a", "down");
    lan.wait_until("b", true);
    lan.wait_until("a", false);
    let listing = lan.listing("a");
    assert_eq!(listing["state"], "FAULT");
    assert!(listing["why"][0].as_str().is_some_and(|why| why.contains("eth0 is down")), "{listing}");
    assert_eq!(lan.found_at(), MAC_B);
    lan.cable("a", "up");
    lan.wait_until("a", true);
    lan.wait_until("b", false);

    // Stopped.
    assert!(a.stop().success());
    assert!(!lan.has("a"), "nothing is left behind");
    lan.wait_until("b", true);
    assert!(b.stop().success());
    assert!(!lan.has("b"));
}

#[test]
fn an_address_that_somebody_takes_away_is_put_back() {
    let Some(lan) = Lan::build(&["ping"]) else { return };
    lan.configure("a", 150, "");
    let mut a = lan.director("a");
    lan.wait_until("a", true);
    lan.ip(&format!("-n {} address delete {ADDRESS}/32 dev eth0", lan.namespace("a")));
    a.wait_until_log_has("was removed from eth0 - putting it back");
    lan.wait_until("a", true);
    assert_eq!(lan.listing("a")["state"], "MASTER");
}

#[test]
fn a_reload_changes_what_differs() {
    let Some(lan) = Lan::build(&["ping"]) else { return };
    lan.configure("a", 150, "");
    lan.configure("b", 100, "");
    let (a, b) = (lan.director("a"), lan.director("b"));
    lan.wait_until("a", true);
    // Of less priority than the other, it yields.
    lan.configure("a", 50, "");
    a.signal(Signal::HUP);
    lan.wait_until("b", true);
    lan.wait_until("a", false);
    assert_eq!(lan.listing("a")["priority"], 50);
    // One that is refused changes nothing.
    fs::write(lan.configuration("b"), "vrrp_instance VI_1 {\n    interface eth0\n}\n").expect("a configuration");
    let mut b = b;
    b.signal(Signal::HUP);
    b.wait_until_log_has("is refused");
    assert!(lan.has("b") && lan.listing("b")["state"] == "MASTER");
}

#[test]
fn a_virtual_mac_stays_the_same() {
    let Some(lan) = Lan::build(&["ping"]) else { return };
    lan.configure("a", 150, "    use_vmac\n");
    lan.configure("b", 100, "    use_vmac\n");
    let (mut a, b) = (lan.director("a"), lan.director("b"));
    lan.wait_until("a", true);
    assert_eq!(lan.found_at(), "00:00:5e:00:01:33");
    wait_for("b to hear a, whose frames have its own virtual MAC", || {
        Some(()).filter(|()| lan.listing("b")["other"]["priority"] == 150)
    });
    a.signal(Signal::KILL);
    a.wait();
    // The macvlan of who died still answers: the cable is what takes it away.
    lan.cable("a", "down");
    lan.wait_until("b", true);
    assert_eq!(lan.found_at(), "00:00:5e:00:01:33");
    assert!(b.stop().success());
    let links = lan.ip(&format!("-n {} link show", lan.namespace("b")));
    assert!(!links.contains("vrrp."), "{links}");
    // The next run takes over what the one before left.
    lan.cable("a", "up");
    let a = lan.director("a");
    lan.wait_until("a", true);
    assert!(a.stop().success());
    assert!(!lan.has("a"));
}

/// Either side may be keepalived.
#[test]
fn keepalived_is_a_router_like_another() {
    for (first, second) in [("lvxd", "keepalived"), ("keepalived", "lvxd")] {
        let Some(lan) = Lan::build(&["ping", "keepalived"]) else { return };
        lan.configure("a", 150, "");
        lan.configure("b", 100, "");
        let start = |node, which| if which == "lvxd" { lan.director(node) } else { lan.keepalived(node) };
        let (a, b) = (start("a", first), start("b", second));
        lan.wait_until("a", true);
        assert_eq!(lan.found_at(), MAC_A);
        assert!(!lan.has("b"));
        // Resigned, and back: preemption.
        assert!(a.stop().success());
        lan.wait_until("b", true);
        let a = start("a", first);
        lan.wait_until("a", true);
        lan.wait_until("b", false);
        // Cut off and together again: one has it.
        lan.cable("b", "down");
        lan.cable("b", "up");
        lan.wait_until("b", false);
        assert_eq!(lan.found_at(), MAC_A);
        drop((a, b));
    }
}
