//! Start, refusal to start, and end of the director.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::process::{Command, Output};

use rustix::process::Signal;

use crate::lab::{Lab, PATIENCE, Shape, output};
use crate::traffic::{curl, servers_in_turn, tally};

const USAGE: i32 = 2;
const RIGHTS: i32 = 3;
const INTERFACE: i32 = 4;
const BUSY: i32 = 5;

/// The refusal's status, and its one sentence, which must have `text`.
fn expect_refusal(answer: &Output, status: i32, text: &str) {
    let errors = String::from_utf8_lossy(&answer.stderr);
    assert_eq!(answer.status.code(), Some(status), "{errors}");
    assert_eq!(errors.lines().count(), 1, "more than one line:\n{errors}");
    assert!(errors.contains(text), "no '{text}' in: {errors}");
}

#[test]
fn wrong_arguments_are_refused() {
    let Some(lab) = Lab::build(Shape::TwoArms, &[]) else { return };
    let cases: &[&[&str]] = &[
        &[],
        &["--bogus"],
        &["--interface"],
        &["--interface", "eth0", "--workers", "none"],
        &["--interface", "eth0", "--workers", "1", "--cpus", "0"],
        &["--interface", "eth0", "--xdp-mode", "fast"],
        &["--interface", "eth0", "--sysctl", "no_such_knob=1"],
        &["--interface", "eth0", "--conn-tab-bits", "7"],
    ];
    for words in cases {
        let answer = output(lab.command("director", env!("CARGO_BIN_EXE_lvxd")).args(*words));
        assert_eq!(answer.status.code(), Some(USAGE), "{words:?}: {answer:?}");
        assert!(!answer.stderr.is_empty(), "{words:?}: refused without a word");
        assert!(!String::from_utf8_lossy(&answer.stderr).contains("panicked"), "{words:?}: {answer:?}");
    }
}

#[test]
fn a_missing_interface_is_named() {
    let Some(lab) = Lab::build(Shape::TwoArms, &[]) else { return };
    let mut command = lab.command("director", env!("CARGO_BIN_EXE_lvxd"));
    command.args(["--interface", "eth0,nosuch0", "--socket"]).arg(lab.socket());
    expect_refusal(&output(&mut command), INTERFACE, "nosuch0");
    assert_no_program(&lab);
}

#[test]
fn missing_rights_are_named() {
    let Some(lab) = Lab::build(Shape::TwoArms, &["setpriv"]) else { return };
    // Neither the lab's directory nor that of the build can be relied on to be open to everybody.
    let dir = std::env::temp_dir().join(format!("lvx-rights-{}", std::process::id()));
    fs::create_dir(&dir).expect("a directory");
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o777)).expect("rights");
    let program = dir.join("lvxd");
    fs::copy(env!("CARGO_BIN_EXE_lvxd"), &program).expect("a copy");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("rights");
    let mut command = lab.command("director", "setpriv");
    command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]).arg(&program);
    command.args(["--interface", "eth0", "--socket"]).arg(dir.join("lvx.sock"));
    let answer = output(&mut command);
    fs::remove_dir_all(&dir).expect("removal");
    expect_refusal(&answer, RIGHTS, "CAP_");
}

#[test]
fn a_second_director_is_refused_and_the_first_goes_on() {
    let Some(lab) = Lab::build(Shape::TwoArms, &[]) else { return };
    let _director = lab.director(&[]);
    lab.adm_all(&["-A -t 10.9.0.1:80 -s rr", "-a -t 10.9.0.1:80 -r 10.2.0.1:80 -m"]);
    let mut command = lab.command("director", env!("CARGO_BIN_EXE_lvxd"));
    command.args(["--interface", lab.interfaces(), "--socket"]).arg(lab.dir().join("second.sock"));
    expect_refusal(&output(&mut command), BUSY, "eth0");
    assert_eq!(curl(&lab, "10.9.0.1", "/").as_deref(), Ok("rs1"));
}

#[test]
fn no_director_is_said() {
    let Some(lab) = Lab::build(Shape::TwoArms, &[]) else { return };
    let answer = lab.lvx("status");
    assert!(!answer.status.success());
    let errors = String::from_utf8_lossy(&answer.stderr);
    assert!(errors.contains("lvx.sock") && errors.lines().count() == 1, "{errors}");
}

/// Addresses, permanent neighbours and XDP programs of the director's node.
fn footprint(lab: &Lab) -> Vec<String> {
    [
        &["ip", "-o", "address", "show"][..],
        &["ip", "neigh", "show", "nud", "permanent"],
        &["ip", "route", "show", "table", "all"],
        &["ip", "rule", "show"],
    ]
    .iter()
    .map(|words| lab.check("director", words))
    .collect()
}

fn assert_no_program(lab: &Lab) {
    let links = lab.check("director", &["ip", "link", "show"]);
    assert!(!links.contains("xdp"), "an XDP program is left:\n{links}");
}

#[test]
fn sigterm_and_sigint_leave_nothing_behind() {
    let Some(lab) = Lab::build(Shape::TwoArms, &[]) else { return };
    let before = footprint(&lab);
    for signal in [Signal::TERM, Signal::INT] {
        let mut director = lab.director(&[]);
        lab.adm_all(&["-A -t 10.9.0.1:80 -s rr", "-a -t 10.9.0.1:80 -r 10.2.0.1:80 -m"]);
        assert_eq!(curl(&lab, "10.9.0.1", "/").as_deref(), Ok("rs1"));
        let links = lab.check("director", &["ip", "link", "show"]);
        assert!(links.contains("xdp"), "the director runs without an XDP program:\n{links}");
        director.signal(signal);
        assert_eq!(director.wait().code(), Some(0), "{signal:?}: {}", director.log());
        assert_no_program(&lab);
        assert_eq!(footprint(&lab), before, "{signal:?}");
        assert!(!lab.socket().exists(), "{signal:?}: the control socket is left");
    }
}

/// A director that was killed leaves no program, and the next one starts over its socket.
#[test]
fn a_killed_director_can_be_started_again() {
    let Some(lab) = Lab::build(Shape::TwoArms, &[]) else { return };
    let mut director = lab.director(&[]);
    director.signal(Signal::KILL);
    director.wait();
    let _director = lab.director(&[]);
    lab.adm_all(&[
        "-A -t 10.9.0.1:80 -s rr",
        "-a -t 10.9.0.1:80 -r 10.2.0.1:80 -m",
        "-a -t 10.9.0.1:80 -r 10.2.0.2:80 -m",
    ]);
    assert_eq!(tally(&servers_in_turn(&lab, "10.9.0.1", 4)).len(), 2);
}

/// A supervisor hears READY=1 and, at the end, STOPPING=1.
#[test]
fn a_supervisor_is_told() {
    let Some(lab) = Lab::build(Shape::TwoArms, &[]) else { return };
    let path = lab.dir().join("notify");
    let supervisor = UnixDatagram::bind(&path).expect("a socket");
    supervisor.set_read_timeout(Some(PATIENCE)).expect("a time limit");
    let hear = |wanted: &str| {
        let mut datagram = [0; 1024];
        loop {
            let length = supervisor.recv(&mut datagram).unwrap_or_else(|error| panic!("no {wanted}: {error}"));
            if String::from_utf8_lossy(&datagram[..length]).lines().any(|line| line == wanted) {
                return;
            }
        }
    };
    let mut child = lab.director_command(&[]).env("NOTIFY_SOCKET", &path).spawn().expect("lvxd");
    hear("READY=1");
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, Signal::TERM).expect("kill");
    hear("STOPPING=1");
    assert!(child.wait().expect("lvxd").success());
}

/// `lvx status` tells of the interfaces, `lvx sysctl` reads and writes.
#[test]
fn status_and_sysctl() {
    let Some(lab) = Lab::build(Shape::TwoArms, &[]) else { return };
    let _director = lab.director(&["--sysctl", "sync_threshold=5 40"]);
    let answer = lab.lvx("status");
    let text = String::from_utf8_lossy(&answer.stdout).into_owned();
    assert!(answer.status.success() && text.contains("eth0") && text.contains("eth1"), "{answer:?}");

    let value = |name: &str| {
        let answer = lab.lvx(&format!("sysctl {name}"));
        assert!(answer.status.success(), "{answer:?}");
        let text = String::from_utf8_lossy(&answer.stdout).into_owned();
        text.rsplit('=').next().expect("a word").split_whitespace().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(value("net.ipv4.vs.sync_threshold"), "5 40");
    assert_eq!(value("net.ipv4.vs.expire_nodest_conn"), "0");
    assert!(lab.lvx("sysctl net.ipv4.vs.expire_nodest_conn=1").status.success());
    assert_eq!(value("net.ipv4.vs.expire_nodest_conn"), "1");
    assert!(!lab.lvx("sysctl net.ipv4.vs.no_such_knob").status.success());
    assert!(!lab.lvx("sysctl net.ipv4.vs.drop_entry=9").status.success());
}

/// The control socket by hand: one line in; answer `= EXIT STDOUT_OCTETS STDERR_OCTETS` and the octets, longer
/// listings in chunks `+ OCTETS` before it.
#[test]
fn control_socket_by_hand() {
    let Some(lab) = Lab::build(Shape::TwoArms, &[]) else { return };
    let _director = lab.director(&[]);
    lab.adm_all(&["-A -t 10.9.0.1:80 -s rr", "-a -t 10.9.0.1:80 -r 10.2.0.1:80 -m"]);
    let (status, text, errors) = ask(&lab, "ipvsadm -S -n");
    assert_eq!((status, errors.as_str()), (0, ""));
    assert_eq!(text, lab.adm("-S -n"));
    let (status, text, errors) = ask(&lab, "ipvsadm -D -t 10.9.0.9:80");
    assert_eq!((status, text.as_str(), errors.as_str()), (255, "", "No such service\n"));
    // Octets that are no command are answered, and the director lives.
    let (status, ..) = ask(&lab, "\u{1}\u{fffd} \"");
    assert_ne!(status, 0);
    assert_eq!(curl(&lab, "10.9.0.1", "/").as_deref(), Ok("rs1"));
}

/// One line on the control socket: status, standard output, standard error.
fn ask(lab: &Lab, line: &str) -> (i32, String, String) {
    let mut stream = UnixStream::connect(lab.socket()).expect("the control socket");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time limit");
    stream.write_all(format!("{line}\n").as_bytes()).expect("write");
    let mut text = String::new();
    loop {
        let header = read_line(&mut stream);
        let words: Vec<_> = header.split_whitespace().collect();
        match words[..] {
            ["+", octets] => text += &read_octets(&mut stream, octets),
            ["=", status, stdout, stderr] => {
                text += &read_octets(&mut stream, stdout);
                return (status.parse().expect("a status"), text, read_octets(&mut stream, stderr));
            }
            _ => panic!("not a header: {header:?}"),
        }
    }
}

fn read_line(stream: &mut UnixStream) -> String {
    let mut line = Vec::new();
    while line.last() != Some(&b'\n') {
        let mut octet = [0];
        stream.read_exact(&mut octet).expect("a header line");
        line.push(octet[0]);
    }
    String::from_utf8(line).expect("text")
}

fn read_octets(stream: &mut UnixStream, count: &str) -> String {
    let mut octets = vec![0; count.parse().expect("a count")];
    stream.read_exact(&mut octets).expect("the octets that the header announced");
    String::from_utf8(octets).expect("text")
}

/// The help of each program names its options, on standard output.
#[test]
fn help_is_printed() {
    for (program, words) in [
        (env!("CARGO_BIN_EXE_lvxd"), &["--interface", "--xdp-mode", "--rules", "--socket"][..]),
        (env!("CARGO_BIN_EXE_lvx"), &["status", "sysctl"]),
        (env!("CARGO_BIN_EXE_lvxadm"), &["--add-service"]),
    ] {
        let answer = output(Command::new(program).arg("--help"));
        let text = String::from_utf8_lossy(&answer.stdout);
        assert!(answer.status.success(), "{program}: {answer:?}");
        words.iter().for_each(|word| assert!(text.contains(word), "{program}: no {word} in its help"));
    }
}
