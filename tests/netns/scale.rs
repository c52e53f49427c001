//! Many rules and many connections, while clients are busy. `LVX_SCALE=1` tries a million connections.

use std::fs;
use std::process::Stdio;

use crate::lab::{Lab, Shape, expect_success};
use crate::traffic::{Load, curl};

const SERVICES: usize = 10_000;
const SERVERS: usize = 10;

/// One service and its servers, every address and port another.
fn rules(number: usize) -> String {
    let vip = format!("10.{}.{}.{}:80", 64 + number / 2560, number / 10 % 256, number % 10 + 1);
    let servers = (0..SERVERS).map(|server| {
        let n = number * SERVERS + server;
        let (address, port) = (format!("10.2.{}.{}", 1 + n / 250 % 200, n % 250 + 1), 8000 + n / 50_000);
        format!("-a -t {vip} -r {address}:{port} -m -w 1\n")
    });
    std::iter::once(format!("-A -t {vip} -s wlc\n")).chain(servers).collect()
}

fn balanced(lab: &Lab) {
    lab.adm_all(&[
        "-A -t 10.9.0.1:80 -s rr",
        "-a -t 10.9.0.1:80 -r 10.2.0.1:80 -m",
        "-a -t 10.9.0.1:80 -r 10.2.0.2:80 -m",
    ]);
}

/// Prints how long workers had their packets since it was asked last, to be looked at.
fn print_latency(lab: &Lab, when: &str) {
    let page = lab.lvx("latency --reset");
    assert!(page.status.success(), "{page:?}");
    println!("{when}: {}", String::from_utf8_lossy(&page.stdout));
}

/// Restoring, listing, saving and changing 100,000 servers disturbs no request.
#[test]
fn ten_thousand_services() {
    let Some(lab) = Lab::build(Shape::TwoArms, &[]) else { return };
    let _director = lab.director(&[]);
    balanced(&lab);
    let busy = Load::start(&lab, "short 10.9.0.1 80 --concurrency 2 --pause 0.02");
    let mut text: String = (0..SERVICES).map(rules).collect();
    print_latency(&lab, "before a restore");
    lab.restore(&text);
    print_latency(&lab, "while services were restored");
    assert_eq!(lab.adm("-Ln").lines().count(), 3 + 3 + SERVICES * (1 + SERVERS));
    lab.adm_all(&[
        "-a -t 10.64.0.1:80 -r 10.2.0.9:99 -m",
        "-e -t 10.64.0.1:80 -r 10.2.0.9:99 -m -w 7",
        "-d -t 10.64.0.1:80 -r 10.2.0.9:99",
    ]);
    print_latency(&lab, "while they were listed and changed");
    busy.end().expect_clean();

    // What is saved is what was restored, in ipvsadm's order.
    let saved = lab.adm("-S -n");
    let sorted = |text: &str| {
        let mut lines: Vec<String> =
            text.lines().filter(|line| !line.contains("10.9.0.1")).map(str::to_owned).collect();
        lines.sort();
        lines
    };
    text.truncate(text.trim_end().len());
    assert!(sorted(&saved) == sorted(&text), "the saved rules differ from those restored");
    assert_eq!(curl(&lab, "10.9.0.1", "/").map(|name| name.len()), Ok(3));
    lab.adm("-C");
    assert_eq!(lab.adm("-Ln").lines().count(), 3);
    balanced(&lab);
    assert!(curl(&lab, "10.9.0.1", "/").is_ok());
}

/// A table of many connections is listed while requests go on.
#[test]
fn many_connections_are_listed_under_load() {
    let Some(lab) = Lab::build(Shape::TwoArms, &[]) else { return };
    let count: usize = if std::env::var_os("LVX_SCALE").is_some() { 1_000_000 } else { 200_000 };
    let _director = lab.director(&["--conn-max", "1200000"]);
    balanced(&lab);
    lab.adm_all(&["-A -u 10.9.0.1:9 -s rr", "-a -u 10.9.0.1:9 -r 10.2.0.3:9 -m"]);
    lab.check("router", &["ip", "route", "add", "10.128.0.0/9", "via", "10.1.0.2"]);
    let flood = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/netns/flood.py");
    lab.check("client", &["/usr/bin/python3", flood, "10.9.0.1", "9", &count.to_string()]);

    let busy = Load::start(&lab, "short 10.9.0.1 80 --concurrency 2 --pause 0.02");
    print_latency(&lab, "before a listing");
    let listing = lab.dir().join("connections");
    let file = fs::File::create(&listing).expect("a file");
    let mut list = lab.command("director", env!("CARGO_BIN_EXE_lvxadm"));
    let status = list.args(["-L", "-n", "-c"]).stdin(Stdio::null()).stdout(file).status().expect("lvxadm");
    assert!(status.success());
    print_latency(&lab, "while connections were listed");
    let text = fs::read_to_string(&listing).expect("the listing");
    let udp = text.lines().filter(|line| line.starts_with("UDP")).count();
    // Some of a flood may be lost on the way; what is listed is what there is.
    assert!(udp > count / 2, "{udp} of {count} connections");
    let total = expect_success(lab.command("director", env!("CARGO_BIN_EXE_lvx")).args(["status", "--json"]));
    let status: serde_json::Value = serde_json::from_str(&total).expect("JSON");
    assert!(status["connections"][0].as_u64() >= Some(udp as u64), "{}", status["connections"]);
    assert!(text.lines().skip(2).all(|line| line.split_whitespace().count() == 6), "a line is torn");
    busy.end().expect_clean();
}
