//! `lvx trace` says what then happens, `lvx drops` what did not.

use serde_json::Value;

use crate::lab::{Lab, Shape, wait_for};
use crate::traffic;

/// What `lvx` prints; a failure fails the test.
fn lvx(lab: &Lab, line: &str) -> String {
    let answer = lab.lvx(line);
    let text = String::from_utf8_lossy(&answer.stdout).into_owned();
    assert!(answer.status.success(), "lvx {line}: {answer:?}");
    text
}

/// The steps of a trace with this name.
fn steps(trace: &Value, name: &str) -> Vec<Value> {
    let steps = trace.as_array().expect("an array");
    steps.iter().filter(|step| step["step"] == name).cloned().collect()
}

fn trace(lab: &Lab, options: &str) -> Value {
    serde_json::from_str(&lvx(lab, &format!("trace --json {options}"))).expect("JSON")
}

/// Who answers at the virtual service.
fn ask(lab: &Lab) -> String {
    lab.check("client", &["curl", "-gsSf", "-m", "10", "http://10.9.0.1/"]).trim_end().to_owned()
}

#[test]
fn a_new_client_gets_the_server_that_was_told() {
    let Some(lab) = Lab::build(Shape::TwoArms, &[]) else { return };
    let director = lab.director(&[]);
    lab.adm("-A -t 10.9.0.1:80 -s rr");
    for number in 1..=3 {
        lab.adm(&format!("-a -t 10.9.0.1:80 -r 10.2.0.{number}:80 -m"));
    }
    // Whom the director has to know before it can send to them, a first round makes known.
    let first: Vec<String> = (0..3).map(|_| ask(&lab)).collect();
    assert_eq!(traffic::tally(&first).len(), 3);

    let question = "--from 10.1.0.1:61000 --to 10.9.0.1:80";
    for round in 0..4 {
        let told = trace(&lab, question);
        assert_eq!(told, trace(&lab, question), "to ask changes nothing");
        let verdict = &steps(&told, "verdict")[0];
        assert_eq!((&verdict["verdict"], &verdict["interface"]), (&"transmit".into(), &"eth1".into()), "{told:#}");
        let server = steps(&told, "scheduler")[0]["server"].as_str().expect("a server").to_owned();
        let number = server.strip_prefix("10.2.0.").and_then(|rest| rest.strip_suffix(":80")).expect("a real server");
        assert_eq!(ask(&lab), format!("rs{number}"), "round {round}: {told:#}");
    }

    // A connection that is there is found, from either side.
    let listing = lab.adm("-Lnc");
    let row = listing.lines().find(|line| line.contains("10.9.0.1:80")).expect("a connection");
    let words: Vec<&str> = row.split_whitespace().collect();
    let (client, server) = (words[3], words[5]);
    let found = &steps(&trace(&lab, &format!("--from {client} --to 10.9.0.1:80 --flags A")), "connection")[0];
    assert_eq!((&found["server"], &found["method"]), (&server.into(), &"masquerading".into()), "{found:#}");
    let back = lvx(&lab, &format!("trace --from {server} --to {client} --flags FA --interface eth1"));
    assert!(back.contains(&format!("source {server} -> 10.9.0.1:80")) && back.contains("transmit by eth0"), "{back}");

    // What the XDP program leaves to the kernel, the director never sees.
    let other = lvx(&lab, "trace --from 10.1.0.1:61000 --to 10.9.0.1:443");
    assert!(other.contains("leaves it to the kernel") && other.contains("pass: the kernel gets"), "{other}");

    let status = |line: &str| {
        let answer = lab.lvx(line);
        let said = String::from_utf8_lossy(&answer.stderr).into_owned();
        assert_eq!(said.trim_end().lines().count(), 1, "one sentence: {said}");
        (answer.status.code(), said)
    };
    for (line, part) in [
        ("trace --packet 45zz", "no hexadecimal digit"),
        ("trace --from 10.1.0.1:1 --to [fd00:9::1]:80", "different families"),
        (
            "trace --from 10.1.0.1:1 --to 10.9.0.1:80 --interface eth9",
            "serves no interface `eth9'; it serves eth0, eth1",
        ),
    ] {
        let (code, said) = status(line);
        assert!(code == Some(2) && said.contains(part), "{line}: {code:?} {said}");
    }
    assert!(director.stop().success());
    assert_eq!(status(&format!("trace {question}")).0, Some(1), "nobody is there");
}

#[test]
fn what_was_dropped_is_shown_with_its_reason() {
    let Some(lab) = Lab::build(Shape::TwoArms, &[]) else { return };
    let _director = lab.director(&[]);
    lab.adm("-A -t 10.9.0.1:80 -s rr");
    assert!(!lvx(&lab, "drops").contains("no-server"));
    let told = lvx(&lab, "trace --from 10.1.0.1:61000 --to 10.9.0.1:80");
    assert!(told.contains("ICMP port unreachable") && told.contains("drop, no-server"), "{told}");
    assert!(!lvx(&lab, "drops").contains("no-server"), "to ask counts nothing");

    // The service has no server: the client is told so, and its packet is dropped.
    assert!(!lab.run("client", &["curl", "-sS", "-m", "5", "http://10.9.0.1/"]).status.success());
    let rows = wait_for("a drop", || {
        let rows: Vec<Value> = serde_json::from_str(&lvx(&lab, "drops --json")).expect("JSON");
        let row = rows.iter().find(|row| row["reason"] == "no-server")?.clone();
        Some((row, rows))
    });
    let (row, rows) = rows;
    assert!(row["count"].as_u64() >= Some(1) && row["by"] == "director", "{row}");
    assert!(rows.iter().all(|row| row["count"] != 0), "{rows:?}");
    let page = lvx(&lab, "drops");
    assert!(page.contains("no-server") && page.contains("No real server is available"), "{page}");
    let all = lvx(&lab, "drops --all");
    assert!(all.contains("martian") && all.contains("receive-ring-full") && all.contains("sync-datagrams"), "{all}");
}
