//! Two directors of which one has to catch up: late, after losses, after its own end. `LVX_SCALE=1` tries a million
//! connections.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::lab::{Background, Lab, Shape, expect_success, wait_for};
use crate::sync::{Peer, RULES, rows};
use crate::traffic::Load;

const FLOOD: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/netns/flood.py");

/// Rules of both directors: those of the web service, and a service that any datagram makes a connection of.
fn configure(adm: impl Fn(&str) -> String) {
    for line in RULES.into_iter().chain(["-A -u 10.9.0.1:9 -s rr", "-a -u 10.9.0.1:9 -r 10.2.0.3:9 -m"]) {
        adm(line);
    }
}

fn status(lvx: &dyn Fn(&str) -> String) -> Value {
    serde_json::from_str(&lvx("sync status --json")).expect("JSON")
}

/// Waits until the backup has what its master has; its status then.
fn wait_until_warm(lvx: &dyn Fn(&str) -> String) -> Value {
    wait_for("a backup that is warm", || {
        let status = status(lvx);
        (status["warm"] == "yes").then_some(status)
    })
}

fn set(listing: &str) -> BTreeSet<String> {
    rows(listing).into_iter().collect()
}

/// Sends so many datagrams, each from another client, to the service that makes connections of them; the count of those that there are then.
fn flood(lab: &Lab, count: usize) -> usize {
    lab.check("client", &["/usr/bin/python3", FLOOD, "10.9.0.1", "9", &count.to_string()]);
    set(&lab.adm("-Lnc")).iter().filter(|row| row.starts_with("UDP")).count()
}

#[test]
fn a_backup_that_comes_late_gets_the_whole_table() {
    let Some(lab) = Lab::build(Shape::TwoArms, &[]) else { return };
    let count: usize = if std::env::var_os("LVX_SCALE").is_some() { 1_000_000 } else { 20_000 };
    let peer = Peer::build(&lab, Some("10.55.0.2/24"));
    let _director = lab.director(&["--conn-max", "1200000"]);
    configure(|line| lab.adm(line));
    lab.adm("--start-daemon master --mcast-interface sync0 --syncid 7");
    lab.check("router", &["ip", "route", "add", "10.128.0.0/9", "via", "10.1.0.2"]);
    let url = "http://10.9.0.1/slow/file";
    let _download = lab.start("client", &["curl", "-gsS", "-o", "/dev/null", "--limit-rate", "50k", url], "curl.log");
    // Some of a flood is lost on the way, and comes with the next one. Of a million, nearly all are enough.
    let enough = if count > 20_000 { count / 10 * 9 } else { count };
    let made = (0..20).map(|_| flood(&lab, count)).find(|made| *made >= enough);
    let made = made.expect("as many connections as there are to be");
    wait_for("an established connection", || lab.adm("-Lnc").contains("ESTABLISHED").then_some(()));

    let backup = peer.director(&["--conn-max", "1200000"]);
    configure(|line| peer.adm(line));
    let lvx = |line: &str| peer.lvx(line);
    assert_eq!(status(&lvx)["warm"], "no-peer");
    // Requests go on meanwhile; how long packets are on their way is printed, to be looked at.
    let busy = Load::start(&lab, "short 10.9.0.1 80 --concurrency 2 --pause 0.02");
    std::thread::sleep(std::time::Duration::from_secs(1));
    lab.lvx("latency --reset");
    std::thread::sleep(std::time::Duration::from_secs(1));
    println!("before: {}", String::from_utf8_lossy(&lab.lvx("latency --reset").stdout));
    peer.adm("--start-daemon backup --mcast-interface sync0 --syncid 7");
    let warm = wait_until_warm(&lvx);
    println!("meanwhile: {}", String::from_utf8_lossy(&lab.lvx("latency --reset").stdout));
    busy.end().expect_clean();
    let last = &warm["masters"][0]["last"];
    println!("resynchronised: {last}");
    assert_eq!((&last["refused"], &warm["resync"]["resyncs_whole"]), (&0.into(), &1.into()), "{warm}");
    let all_are_there = |what: &str| {
        wait_for(what, || {
            let (ours, theirs) = (set(&lab.adm("-Lnc")), set(&peer.adm("-Lnc")));
            (ours.difference(&theirs).next().is_none() && theirs.len() >= made).then_some(())
        });
    };
    all_are_there("all connections, each in its state");

    // It ends without a word, and comes back with nothing.
    backup.signal(rustix::process::Signal::KILL);
    drop(backup);
    let _backup = peer.director(&["--conn-max", "1200000"]);
    configure(|line| peer.adm(line));
    assert_eq!(rows(&peer.adm("-Lnc")).len(), 0);
    peer.adm("--start-daemon backup --mcast-interface sync0 --syncid 7");
    wait_until_warm(&lvx);
    all_are_there("all connections once more");

    // By hand.
    assert_eq!(peer.lvx("sync resync"), "asked 1 for the whole table\n");
    wait_for("the second table", || (status(&lvx)["resync"]["resyncs_whole"] == 2).then_some(()));
    let page = peer.lvx("sync status");
    assert!(page.contains("digest ok") && page.contains("warm"), "{page}");
    let served: Value = status(&|line| expect_success_of(&lab, line));
    assert_eq!((&served["served"]["tables"], &served["numbered"]), (&3.into(), &true.into()), "{served}");
}

fn expect_success_of(lab: &Lab, line: &str) -> String {
    expect_success(lab.command("director", env!("CARGO_BIN_EXE_lvx")).args(line.split_whitespace()))
}

/// Every third datagram is lost on the way, and for a while all of them.
#[test]
fn lost_datagrams_are_repaired() {
    let Some(lab) = Lab::build(Shape::TwoArms, &["iptables"]) else { return };
    let peer = Peer::build(&lab, Some("10.55.0.2/24"));
    let _director = lab.director(&["--sysctl", "sync_threshold=1 0"]);
    let _backup = peer.director(&[]);
    configure(|line| lab.adm(line));
    configure(|line| peer.adm(line));
    lab.adm("--start-daemon master --mcast-interface sync0 --syncid 7 --sync-maxlen 100");
    peer.adm("--start-daemon backup --mcast-interface sync0 --syncid 7");
    let lvx = |line: &str| peer.lvx(line);
    wait_until_warm(&lvx);
    lab.check("router", &["ip", "route", "add", "10.128.0.0/9", "via", "10.1.0.2"]);
    let drop_some = ["-p", "udp", "--dport", "8848", "-m", "statistic", "--mode", "nth", "--every", "3"];
    let drop_some = [&["iptables", "-A", "INPUT"], &drop_some[..], &["--packet", "0", "-j", "DROP"]].concat();
    peer.check(&drop_some);
    // Each datagram tells of two of them.
    let made = flood(&lab, 2000);
    let all_are_there = |what: &str| {
        wait_for(what, || {
            let (ours, theirs) = (set(&lab.adm("-Lnc")), set(&peer.adm("-Lnc")));
            ours.difference(&theirs).next().is_none().then_some(())
        });
    };
    all_are_there("what was told in the lost datagrams");
    let after = status(&lvx);
    let counted = |status: &Value, name: &str| status["resync"][name].as_u64().expect("a number");
    println!("of {made} connections: {}", after["resync"]);
    assert!(counted(&after, "repaired") > 0, "{after}");

    // More than can be repaired.
    peer.check(&["iptables", "-A", "INPUT", "-p", "udp", "--dport", "8848", "-j", "DROP"]);
    lab.check("client", &["/usr/bin/python3", FLOOD, "10.9.0.1", "9", "8000"]);
    wait_for("a resync", || (counted(&status(&lvx), "resyncs_whole") > 1).then_some(()));
    all_are_there("what was lost for good");
    peer.check(&["iptables", "-F", "INPUT"]);
    wait_until_warm(&lvx);
}

/// A master that stops, and one that is ended, are told from one that is there; both come back.
#[test]
fn a_master_that_returns_is_asked_again() {
    let Some(lab) = Lab::build(Shape::TwoArms, &[]) else { return };
    let peer = Peer::build(&lab, Some("10.55.0.2/24"));
    let _backup = peer.director(&["--resync-peer", "10.55.0.1"]);
    configure(|line| peer.adm(line));
    peer.adm("--start-daemon backup --mcast-interface sync0 --syncid 7");
    let lvx = |line: &str| peer.lvx(line);
    wait_for("nobody to be there", || (status(&lvx)["warm"] == "no-peer").then_some(()));
    let start = || -> Background {
        let director = lab.director(&[]);
        configure(|line| lab.adm(line));
        lab.adm("--start-daemon master --mcast-interface sync0 --syncid 7");
        director
    };
    let director = start();
    wait_until_warm(&lvx);
    lab.check("client", &["curl", "-gsS", "-o", "/dev/null", "http://10.9.0.1/"]);
    assert!(director.stop().success());
    wait_for("the last that it told", || (rows(&peer.adm("-Lnc")).len() == 2).then_some(()));
    let director = start();
    wait_for("its table, which is empty", || (status(&lvx)["resync"]["resyncs_whole"] == 2).then_some(()));
    director.signal(rustix::process::Signal::KILL);
    drop(director);
    let _director = start();
    wait_for("its table once more", || (status(&lvx)["resync"]["resyncs_whole"] == 3).then_some(()));
    assert_eq!(rows(&peer.adm("-Lnc")).len(), 2, "what the backup has it keeps");

    // The other way round, with both roles at both.
    assert_eq!(rows(&lab.adm("-Lnc")).len(), 0);
    peer.adm("--start-daemon master --mcast-interface sync0 --syncid 7");
    lab.adm("--start-daemon backup --mcast-interface sync0 --syncid 7");
    wait_until_warm(&|line| expect_success_of(&lab, line));
    assert_eq!(set(&lab.adm("-Lnc")), set(&peer.adm("-Lnc")));
}

/// A group of IPv6: the master's address is one of its link. Four ports, and one for TCP that is another.
#[test]
fn a_group_of_ipv6() {
    let Some(lab) = Lab::build(Shape::TwoArms, &[]) else { return };
    let peer = Peer::build(&lab, None);
    let ports = ["--sysctl", "sync_ports=4", "--resync-port", "9100"];
    let _director = lab.director(&ports);
    let _backup = peer.director(&ports);
    configure(|line| lab.adm(line));
    configure(|line| peer.adm(line));
    wait_for("addresses on sync0", || {
        let there = [
            lab.check("director", &["ip", "-6", "address", "show", "dev", "sync0"]),
            peer.check(&["ip", "-6", "address", "show", "dev", "sync0"]),
        ];
        there.iter().all(|text| text.contains("fe80::") && !text.contains("tentative")).then_some(())
    });
    lab.check("client", &["curl", "-gsS", "-o", "/dev/null", "http://10.9.0.1/"]);
    let group = "--mcast-interface sync0 --mcast-group ff02::81 --mcast-port 9000";
    lab.adm(&format!("--start-daemon master {group}"));
    peer.adm(&format!("--start-daemon backup {group}"));
    let lvx = |line: &str| peer.lvx(line);
    let warm = wait_until_warm(&lvx);
    assert_eq!(
        (&warm["masters"][0]["last"]["records"], &warm["daemons"][0]["ports"]),
        (&2.into(), &4.into()),
        "{warm}"
    );
    for _ in 0..12 {
        lab.check("client", &["curl", "-gsS", "-o", "/dev/null", "http://10.9.0.1/"]);
    }
    wait_for("all of them at the backup", || (rows(&peer.adm("-Lnc")).len() == 14).then_some(()));
    let after = status(&lvx);
    assert_eq!((&after["resync"]["resyncs"], &after["resync"]["not_repaired"]), (&1.into(), &0.into()), "{after}");
}
