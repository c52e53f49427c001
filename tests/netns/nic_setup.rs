//! `scripts/nic-setup` on veth: what that driver has is set and put back, what it lacks is told. Every knob of a card
//! that has all is tried in `tests/nic_setup`.

use std::process::Output;

use crate::lab::{Lab, Shape};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/nic-setup");

fn nic_setup(lab: &Lab, words: &[&str]) -> Output {
    let state = lab.dir().join("nic-setup");
    let mut all = vec![SCRIPT, "--state", state.to_str().expect("a path of ours")];
    all.extend(words);
    lab.run("director", &all)
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn a_veth_is_prepared_and_put_back() {
    let Some(lab) = Lab::build(Shape::TwoQueues, &["ethtool"]) else { return };
    let values = |output: &Output| -> Vec<String> {
        text(output).lines().filter(|line| !line.starts_with("state")).map(str::to_owned).collect()
    };
    let before = nic_setup(&lab, &["--show", "eth0"]);
    assert!(before.status.success(), "{}", text(&before));
    assert!(text(&before).contains("channels               rx 2 tx 2\n"), "{}", text(&before));

    // veth has no hash, rings or coalescing: done but for these.
    let said = nic_setup(&lab, &["--channels", "1", "--busy-poll", "on", "--coalesce", "8", "eth0"]);
    assert_eq!(said.status.code(), Some(3), "{}", text(&said));
    for line in [
        "channels               done: rx 2 tx 2 -> rx 1 tx 1",
        "key                    not supported by driver",
        "fields tcp4            not supported by driver",
        "ring                   not supported by driver",
        "coalesce               not supported by driver",
        "napi_defer_hard_irqs   done: 0 -> 2",
        "gro_flush_timeout      done: 0 -> 200000",
        "rx-vlan-offload        done: on -> off",
    ] {
        assert!(text(&said).lines().any(|said| said == line), "no '{line}' in:\n{}", text(&said));
    }
    let channels = lab.check("director", &["ethtool", "-l", "eth0"]);
    assert!(channels.split("Current").nth(1).is_some_and(|now| now.contains("RX:\t\t1\n")), "{channels}");

    let undone = nic_setup(&lab, &["--undo", "eth0"]);
    assert!(undone.status.success(), "{}", text(&undone));
    assert_eq!(values(&nic_setup(&lab, &["--show", "eth0"])), values(&before));
}

/// The kernel keeps the queues of bound sockets: that is told, and nothing changes under a running director.
#[test]
fn queues_in_use_stay() {
    let Some(lab) = Lab::build(Shape::TwoQueues, &["ethtool"]) else { return };
    let _director = lab.director(&[]);
    let said = nic_setup(&lab, &["--channels", "1", "--offloads", "keep", "eth0"]);
    assert_eq!(said.status.code(), Some(3), "{}", text(&said));
    assert!(text(&said).contains("(stays rx 2 tx 2)"), "{}", text(&said));
}
