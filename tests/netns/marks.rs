//! Services by firewall mark: rules from the real iptables-save, real requests.

use std::collections::BTreeMap;
use std::fs;

use crate::lab::{Lab, Shape};
use crate::traffic::tally;

/// What the program prints after it was told `rules` (of mangle's PREROUTING) in a network namespace of its own.
fn saved(lab: &Lab, program: &str, rules: &[&str]) -> String {
    let script: String = rules.iter().map(|rule| format!("{program} -t mangle -A PREROUTING {rule} && ")).collect();
    let script = format!("{script} {program}-save -t mangle");
    let answer = lab.run("director", &["unshare", "--net", "sh", "-c", &script]);
    assert!(answer.status.success(), "{answer:?}");
    String::from_utf8_lossy(&answer.stdout).into_owned()
}

fn file(lab: &Lab, name: &str, text: &str) -> String {
    let path = lab.dir().join(name);
    fs::write(&path, text).expect("a file");
    path.to_str().expect("a plain path").to_owned()
}

/// The answer at `http://HOST/`, or curl's exit status.
fn ask(lab: &Lab, host: &str) -> Result<String, i32> {
    let answer = lab.run("client", &["curl", "-gsSf", "-m", "10", &format!("http://{host}/")]);
    match answer.status.code() {
        Some(0) => Ok(String::from_utf8_lossy(&answer.stdout).trim_end().to_owned()),
        status => Err(status.unwrap_or(-1)),
    }
}

/// Who answers six requests that go to the two hosts in turn.
fn six(lab: &Lab, hosts: [&str; 2]) -> Vec<String> {
    let answer = |host: &str| ask(lab, host).unwrap_or_else(|status| panic!("{host}: curl {status}"));
    [hosts; 3].as_flattened().iter().map(|host| answer(host)).collect()
}

fn each_twice() -> BTreeMap<&'static str, usize> {
    BTreeMap::from([("rs1", 2), ("rs2", 2), ("rs3", 2)])
}

/// One service over two virtual addresses and two ports: masquerading to the servers' port 80, then direct routing,
/// which keeps the port.
#[test]
fn a_mark_makes_one_service_of_addresses_and_ports() {
    let Some(lab) = Lab::build(Shape::TwoArms, &["iptables", "ip6tables", "unshare"]) else { return };
    let v4 = saved(
        &lab,
        "iptables",
        &[
            "-d 10.9.0.1 -p tcp --dport 81 -m comment --comment 'the first one' -j MARK --set-mark 1",
            "-d 10.9.0.4/32 -i eth0 -p tcp -m multiport --dports 80,82:83 -j MARK --set-mark 1",
            "-d 10.9.0.2 -p tcp --dport 80 -j MARK --set-mark 2",
            "-d 10.9.0.4 -p tcp --dport 8080 -j MARK --set-mark 2",
            // An address that is nobody's.
            "-d 10.9.7.7 -p tcp --dport 80 -j MARK --set-mark 1",
        ],
    );
    let v6 = saved(&lab, "ip6tables", &["-d fd00:9::1 -p tcp --dport 81 -j MARK --set-mark 1"]);
    let (v4, v6) = (file(&lab, "rules.v4", &v4), file(&lab, "rules.v6", &v6));
    let director = lab.director(&["--marks", &v4, "--marks", &v6]);
    lab.adm_all(&["-A -f 1 -s rr", "-A -f 2 -s rr", "-A -f 1 -6 -s rr"]);
    for number in 1..=3 {
        lab.adm(&format!("-a -f 1 -r 10.2.0.{number}:80 -m"));
        lab.adm(&format!("-a -f 2 -r 10.2.0.{number}:0 -g"));
        lab.adm(&format!("-a -f 1 -6 -r [fd00:2::{number}]:80 -m"));
    }

    assert_eq!(tally(&six(&lab, ["10.9.0.1:81", "10.9.0.4"])), each_twice(), "both are one service, in one turn");
    assert_eq!(tally(&six(&lab, ["10.9.0.2", "10.9.0.4:8080"])), each_twice(), "direct routing keeps the port");
    assert_eq!(tally(&six(&lab, ["[fd00:9::1]:81", "[fd00:9::1]:81"])), each_twice());
    assert_eq!(tally(&six(&lab, ["10.9.7.7", "10.9.0.4:83"])), each_twice(), "an address that is not the director's");
    assert_eq!(ask(&lab, "10.9.0.1:82"), Err(7), "no rule marks this port: the host refuses it");

    let listing = lab.adm("-Ln");
    assert!(listing.contains("FWM  1 rr") && listing.contains("FWM  1 IPv6 rr"), "{listing}");

    // What is listed is what was loaded, but for the line of the program.
    let rules = |text: &str| text.lines().filter(|line| line.starts_with('-')).map(str::to_owned).collect::<Vec<_>>();
    let listed = lab.lvx("mark list -4");
    let loaded = fs::read_to_string(&v4).expect("rules");
    assert_eq!(rules(&String::from_utf8_lossy(&listed.stdout)), rules(&loaded));

    // Other rules take the place of these; a text with a mistake does not.
    let wrong = file(&lab, "wrong.v4", "*mangle\n-A PREROUTING -j DROP\nCOMMIT\n");
    let answer = lab.lvx(&format!("mark load {wrong}"));
    assert_eq!(answer.status.code(), Some(1), "{answer:?}");
    assert!(String::from_utf8_lossy(&answer.stderr).contains("line 2"), "{answer:?}");
    assert!(ask(&lab, "10.9.0.1:81").is_ok());
    let other = saved(&lab, "iptables", &["-d 10.9.0.1 -p tcp --dport 82 -j MARK --set-mark 1"]);
    assert!(lab.lvx(&format!("mark load {}", file(&lab, "other.v4", &other))).status.success());
    assert_eq!(tally(&six(&lab, ["10.9.0.1:82", "10.9.0.1:82"])), each_twice());
    assert_eq!(ask(&lab, "10.9.0.1:81"), Err(7));
    assert!(ask(&lab, "[fd00:9::1]:81").is_ok(), "the other family's rules are as they were");
    assert!(director.stop().success());
}
