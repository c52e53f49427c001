//! Programs that read /proc/net/ip_vs*: what `lvx proc` and `lvxd --proc` give them.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use rustix::process::Signal;

use crate::lab::{Lab, Shape, wait_for};
use crate::traffic::{Load, curl, servers_in_turn};

/// `DIR/net/NAME` of the directory `proc` of the lab.
fn file(lab: &Lab, name: &str) -> PathBuf {
    lab.dir().join("proc/net").join(name)
}

fn read(lab: &Lab, name: &str) -> Option<String> {
    fs::read_to_string(file(lab, name)).ok()
}

fn make_proc(lab: &Lab) -> String {
    let path = lab.dir().join("proc");
    fs::create_dir(&path).expect("a directory");
    path.to_str().expect("a plain path").to_owned()
}

/// The metrics of node_exporter whose name begins with `node_ipvs_`, by name and labels.
fn scrape(lab: &Lab) -> Option<BTreeMap<String, f64>> {
    let answer = lab.run("director", &["curl", "-sSf", "-m", "10", "http://127.0.0.1:9100/metrics"]);
    let text = String::from_utf8_lossy(&answer.stdout).into_owned();
    let success = "node_scrape_collector_success{collector=\"ipvs\"} 1";
    if !answer.status.success() || !text.lines().any(|line| line == success) {
        return None;
    }
    let metrics = text.lines().filter(|line| line.starts_with("node_ipvs_"));
    Some(
        metrics
            .map(|line| line.rsplit_once(' ').expect("a value"))
            .map(|(k, v)| (k.into(), v.parse().unwrap()))
            .collect(),
    )
}

/// What node_exporter should say, from what ipvsadm's words say of the same director. The services here are IPv4.
fn expected_metrics(lab: &Lab) -> BTreeMap<String, f64> {
    let mut metrics = BTreeMap::new();
    let mut totals = [0.0; 5];
    for line in lab.adm("-Ln --stats --exact").lines().filter(|line| line.starts_with("TCP") || line.starts_with("UDP"))
    {
        for (total, word) in totals.iter_mut().zip(line.split_whitespace().skip(2)) {
            *total += word.parse::<f64>().expect("a number");
        }
    }
    let names = [
        "connections_total",
        "incoming_packets_total",
        "outgoing_packets_total",
        "incoming_bytes_total",
        "outgoing_bytes_total",
    ];
    metrics.extend(names.iter().zip(totals).map(|(name, total)| (format!("node_ipvs_{name}"), total)));

    let (mut protocol, mut service) = (String::new(), String::new());
    for line in lab.adm("-Ln").lines().skip(3) {
        let words: Vec<_> = line.split_whitespace().collect();
        if words[0] != "->" {
            (protocol, service) = (words[0].to_owned(), words[1].to_owned());
            continue;
        }
        let (local, local_port) = service.rsplit_once(':').expect("a port");
        let (remote, remote_port) = words[1].rsplit_once(':').expect("a port");
        for (name, value) in
            [("weight", words[3]), ("connections_active", words[4]), ("connections_inactive", words[5])]
        {
            let key = format!(
                "node_ipvs_backend_{name}{{local_address=\"{local}\",local_mark=\"\",local_port=\"{local_port}\",\
                 proto=\"{protocol}\",remote_address=\"{remote}\",remote_port=\"{remote_port}\"}}"
            );
            metrics.insert(key, value.parse().expect("a number"));
        }
    }
    metrics
}

/// Debian's node_exporter over the files of `lvxd --proc` has the numbers of `ipvsadm -Ln --stats --exact`.
#[test]
fn node_exporter_has_the_numbers_of_ipvsadm() {
    let Some(lab) = Lab::build(Shape::TwoArms, &["prometheus-node-exporter"]) else { return };
    let path = make_proc(&lab);
    let director = lab.director(&["--proc", &path, "--proc-interval", "1"]);
    lab.adm_all(&[
        "-A -t 10.9.0.1:80 -s rr",
        "-a -t 10.9.0.1:80 -r 10.2.0.1:80 -m -w 7",
        "-a -t 10.9.0.1:80 -r 10.2.0.2:80 -m",
        "-A -t 10.9.0.2:80 -s wlc",
        "-a -t 10.9.0.2:80 -r 10.2.0.3:80 -g -w 100",
        "-A -u 10.9.0.1:53 -s wrr",
        "-a -u 10.9.0.1:53 -r 10.2.0.3:5353 -m -w 0",
    ]);
    let options = [
        "prometheus-node-exporter",
        &format!("--path.procfs={path}"),
        "--collector.disable-defaults",
        "--collector.ipvs",
        "--web.listen-address=127.0.0.1:9100",
    ];
    let _exporter = lab.start("director", &options, "node_exporter.log");
    let load = Load::start_long(&lab, "10.9.0.1", 6);
    servers_in_turn(&lab, "10.9.0.2", 5);
    let active = "node_ipvs_backend_connections_active{local_address=\"10.9.0.1\",local_mark=\"\",local_port=\"80\",\
                  proto=\"TCP\",remote_address=\"10.2.0.1\",remote_port=\"80\"}";
    let seen =
        wait_for("node_exporter to see the connections", || scrape(&lab).filter(|m| m.get(active) == Some(&3.0)));
    assert!(seen["node_ipvs_connections_total"] <= 11.0, "{seen:?}");
    load.end().expect_clean();

    // Numbers stand still once the connections have ended; what lags behind catches up.
    let mut last = (BTreeMap::new(), BTreeMap::new());
    let (scraped, expected) = wait_for("metrics as ipvsadm has them", || {
        let scraped = scrape(&lab)?;
        last = (scraped.clone(), expected_metrics(&lab));
        (last.0 == last.1 && scraped["node_ipvs_connections_total"] >= 11.0).then(|| last.clone())
    });
    assert_eq!(scraped, expected);
    assert_eq!(scraped["node_ipvs_connections_total"], 11.0);
    assert_eq!(scraped.len(), 5 + 3 * 4);
    assert!(scraped.values().filter(|value| **value > 0.0).count() > 8, "{scraped:?}");

    assert_eq!(director.stop().code(), Some(0));
    assert!(!file(&lab, "").exists(), "the director leaves its files behind");
}

/// `lvx proc` follows the director: its files come, change and go with it, and go at the end.
#[test]
fn files_follow_the_director() {
    let Some(lab) = Lab::build(Shape::TwoArms, &[]) else { return };
    let path = make_proc(&lab);
    let mut director = lab.director(&[]);
    lab.adm_all(&["-A -t 10.9.0.1:80 -s rr -p 600", "-a -t 10.9.0.1:80 -r 10.2.0.1:80 -m"]);
    let mut writer = lab.start("director", &[env!("CARGO_BIN_EXE_lvx"), "proc", &path, "--interval", "1"], "proc.log");
    let rules = "TCP  0A090001:0050 rr  persistent 60000 FFFFFFFF\n  -> 0A020001:0050      Masq    1      ";
    wait_for("the service in ip_vs", || read(&lab, "ip_vs")?.contains(rules).then_some(()));
    let load = Load::start_long(&lab, "10.9.0.1", 100);
    let rows = |name: &str| Some(read(&lab, name)?.lines().skip(1).map(str::to_owned).collect::<Vec<_>>());
    let template = "TCP 0A010002 0000 0A090001 0050 0A020001 0050 ";
    for (name, end) in [("ip_vs_conn", ""), ("ip_vs_conn_sync", " LOCAL ")] {
        wait_for("100 connections and their template", || {
            let rows = rows(name)?;
            let has_template = rows.iter().any(|row| row.starts_with(template) && row.contains(end));
            (rows.len() == 101 && has_template).then_some(())
        });
    }
    let names = ["ip_vs", "ip_vs_app", "ip_vs_conn", "ip_vs_conn_sync", "ip_vs_stats", "ip_vs_stats_percpu"];
    for name in names {
        let mode = fs::metadata(file(&lab, name)).expect("a file").permissions().mode();
        assert_eq!(mode & 0o7777, 0o444, "{name}");
    }
    load.end().expect_clean();

    let refusal = lab.lvx(&format!("proc {path} --once"));
    let text = String::from_utf8_lossy(&refusal.stderr).into_owned();
    assert!(refusal.status.code() == Some(1) && text.contains("another lvx proc"), "{refusal:?}");
    for (wrong, reason) in [("/proc", "the kernel's own"), ("/nowhere", "No such file or directory")] {
        let refusal = lab.lvx(&format!("proc {wrong} --once"));
        let text = String::from_utf8_lossy(&refusal.stderr).into_owned();
        assert!(refusal.status.code() == Some(1) && text.contains(reason), "{refusal:?}");
    }

    director.signal(Signal::KILL);
    director.wait();
    let gone = || names.iter().all(|name| !file(&lab, name).exists()).then_some(());
    wait_for("the files to go with the director", gone);
    let _director = lab.director(&[]);
    wait_for("the files to come back", || (!read(&lab, "ip_vs")?.contains("0A090001")).then_some(()));
    assert_eq!(curl(&lab, "10.2.0.1", "/").as_deref(), Ok("rs1"));

    writer.signal(Signal::TERM);
    assert_eq!(writer.wait().code(), Some(0), "{}", writer.log());
    assert!(!file(&lab, "").exists(), "lvx proc leaves its files behind");
    assert!(lab.lvx(&format!("proc {path} --once --no-connections")).status.success());
    assert!(file(&lab, "ip_vs_stats").exists() && !file(&lab, "ip_vs_conn").exists());
}
