//! `lvx latency` under load: what it tells fits together, and a reset begins anew. How long anything takes is printed
//! and not asserted.

use serde_json::Value;

use crate::lab::{Lab, Shape};
use crate::traffic::{Load, short_load};

/// Services that are restored while clients are busy.
const SERVICES: usize = 1000;

fn latency(lab: &Lab, options: &str) -> Value {
    let answer = lab.lvx(&format!("latency --json {options}"));
    assert!(answer.status.success(), "{answer:?}");
    serde_json::from_slice(&answer.stdout).expect("JSON")
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

/// Fails the test unless a row with samples fits together.
fn expect_sane(row: &Value) {
    let [samples, batches, full, mean, max] =
        ["samples", "batches", "batches_full", "batch_mean", "batch_max"].map(|name| number(&row[name]));
    assert!(samples > 0.0 && batches > 0.0 && full <= batches, "{row:#}");
    assert!((1.0..=max).contains(&mean) && max <= 64.0, "{row:#}");
    assert!((mean * batches - samples).abs() < 0.01, "the mean is of the batches that were timed: {row:#}");
    for times in [&row["residence_us"], &row["wait_us"]] {
        let steps = ["p50", "p90", "p99", "p999", "max"].map(|name| number(&times[name]));
        assert!(steps[0] > 0.0 && steps.is_sorted(), "{times:#}");
        assert!(steps[4] < 20e6, "more than the longest time that is told: {times:#}");
    }
    assert_eq!(row["residence_us"]["packets"], row["samples"], "{row:#}");
}

#[test]
fn the_latency_of_balanced_traffic_is_told_and_reset() {
    let Some(lab) = Lab::build(Shape::TwoQueues, &["ethtool"]) else { return };
    let director = lab.director(&["--workers", "2"]);
    let untouched = latency(&lab, "");
    assert_eq!(untouched["workers"].as_array().map(Vec::len), Some(2));
    for number in 1..=2 {
        // Masquerading towards the one address, direct routing towards the other.
        lab.adm_all(&[
            &format!("-A -t 10.9.0.{number}:80 -s rr"),
            &format!("-a -t 10.9.0.{number}:80 -r 10.2.0.1:80 {}", if number == 1 { "-m" } else { "-g" }),
        ]);
        short_load(&lab, &format!("10.9.0.{number}"), 300).expect_clean();
    }
    let told = latency(&lab, "--reset");
    let (workers, total) = (told["workers"].as_array().expect("rows"), &told["total"]);
    expect_sane(total);
    for name in ["samples", "batches"] {
        let sum: f64 = workers.iter().map(|row| number(&row[name])).sum();
        assert_eq!(sum, number(&total[name]), "{name}: {told:#}");
    }
    for (position, row) in workers.iter().enumerate() {
        assert_eq!(row["worker"], position);
        expect_sane(row);
        assert!(number(&row["residence_us"]["max"]) <= number(&total["residence_us"]["max"]), "{told:#}");
    }
    let status: Value = serde_json::from_slice(&lab.lvx("status --json").stdout).expect("JSON");
    let received: f64 = status["workers"].as_array().expect("rows").iter().map(|row| number(&row["received"])).sum();
    assert!(number(&total["samples"]) <= received, "{told:#} of {received} packets");

    // Nobody asks for a service any more: what comes in now is a packet or two of the neighbours.
    let after = latency(&lab, "");
    assert!(number(&after["total"]["samples"]) < number(&total["samples"]) / 2.0, "{after:#}");

    // Restoring, listing and changing while clients are busy.
    let busy = Load::start(&lab, "short 10.9.0.1 80 --concurrency 2 --pause 0.01");
    let rules = (0..SERVICES).map(|n| {
        let service = format!("10.64.{}.{}:80", n / 250, n % 250 + 1);
        format!("-A -t {service} -s wlc\n-a -t {service} -r 10.2.0.3:80 -m\n")
    });
    lab.restore(&rules.collect::<String>());
    for _ in 0..5 {
        lab.adm("-Lnc");
        lab.adm("-Ln");
    }
    busy.end().expect_clean();
    expect_sane(&latency(&lab, "")["total"]);
    let page = lab.lvx("latency");
    let text = String::from_utf8_lossy(&page.stdout);
    assert!(page.status.success() && text.lines().count() == 5 && text.contains("\ntotal "), "{text}");
    println!("{text}");

    // What is no option is refused, by the command and by the director, and resets nothing.
    for line in ["latency --resets", "latency 5", "latency --watch 0", "latency --reset x"] {
        let answer = lab.lvx(line);
        assert!(answer.status.code() == Some(2) && answer.stdout.is_empty(), "{line}: {answer:?}");
    }
    let socket = lab.socket();
    let socket = socket.to_str().expect("a plain path");
    let python = "import socket, sys\ns = socket.socket(socket.AF_UNIX)\ns.connect(sys.argv[1])\n\
                  s.sendall(b'lvx latency --reset --none\\n')\nprint(s.recv(4096).decode())";
    let refusal = lab.check("director", &["/usr/bin/python3", "-c", python, socket]);
    assert!(refusal.starts_with("= 2 0 ") && refusal.contains("latency: unknown word `--none'"), "{refusal}");
    expect_sane(&latency(&lab, "")["total"]);
    assert!(director.stop().success());
    assert_eq!(lab.lvx("latency").status.code(), Some(1), "nobody is there");
}
