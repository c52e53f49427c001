//! Debian's ldirectord manages the director: it finds lvxadm where it looks for ipvsadm.
//!
//! ldirectord knows two places for ipvsadm and one for its process number; each of its commands runs in a mount
//! namespace of its own in which lvxadm is bound over the one and a directory of the lab over the other. All that it
//! asks of ipvsadm was also answered by the kernel's, line for line as lvxadm answers.

use std::fs;
use std::process::Output;

use crate::lab::{Lab, Shape, output, wait_for};
use crate::traffic::{curl, servers_in_turn, tally};

const SETTINGS: &str = "\
checktimeout=20
negotiatetimeout=20
checkinterval=1
cleanstop=yes
autoreload=no
";

/// ldirectord of one lab; dropping it ends the daemon.
struct Ldirectord<'a> {
    lab: &'a Lab,
}

impl Ldirectord<'_> {
    /// Writes the configuration and starts the daemon.
    fn start<'a>(lab: &'a Lab, services: &str) -> Ldirectord<'a> {
        let dir = lab.dir();
        fs::create_dir_all(dir.join("run")).expect("a directory");
        let log = dir.join("ldirectord.log");
        let text = format!("{SETTINGS}logfile=\"{}\"\n{services}", log.display());
        fs::write(dir.join("test.cf"), text).expect("the configuration");
        let daemon = Ldirectord { lab };
        let answer = daemon.run("start");
        assert!(answer.status.success(), "{answer:?}");
        daemon
    }

    fn run(&self, word: &str) -> Output {
        let dir = self.lab.dir();
        let script = "mount --bind \"$1\" /usr/sbin/ipvsadm && mount --bind \"$2/run\" /run && \
                      exec ldirectord \"$2/test.cf\" \"$3\"";
        let mut command = self.lab.command("director", "unshare");
        command.args(["--mount", "sh", "-c", script, "sh", env!("CARGO_BIN_EXE_lvxadm")]).arg(dir).arg(word);
        output(&mut command)
    }

    fn log(&self) -> String {
        fs::read_to_string(self.lab.dir().join("ldirectord.log")).unwrap_or_default()
    }

    /// Ends the daemon, which takes its services away.
    fn stop(self) {
        let answer = self.run("stop");
        assert!(answer.status.success(), "{answer:?}");
        wait_for("the services to go", || self.lab.adm("-S -n").is_empty().then_some(()));
        // It says so of each command that failed.
        assert!(!self.log().contains("failed:"), "{}", self.log());
    }
}

impl Drop for Ldirectord<'_> {
    fn drop(&mut self) {
        // The lab shows its rules too, but too late: they go now.
        if std::thread::panicking() {
            let answer = self.lab.run("director", &[env!("CARGO_BIN_EXE_lvxadm"), "-Ln"]);
            eprintln!("--- rules\n{}", String::from_utf8_lossy(&answer.stdout));
        }
        let _ = self.run("stop");
    }
}

/// Waits until the rules, as `ipvsadm -S -n` prints them, are these in any order.
fn wait_for_rules(lab: &Lab, what: &str, rules: &[&str]) {
    let mut wanted = rules.to_vec();
    wanted.sort_unstable();
    wait_for(what, || {
        let text = lab.adm("-S -n");
        let mut rules: Vec<_> = text.lines().map(str::trim_end).collect();
        rules.sort_unstable();
        (rules == wanted).then_some(())
    });
}

/// Ends a real server's nginx, or starts it again.
fn nginx(lab: &Lab, server: &str, is_up: bool) {
    let dir = lab.dir().join(server);
    let dir = dir.to_str().expect("a plain path");
    let (conf, log) = (format!("{dir}/nginx.conf"), format!("{dir}/error.log"));
    let mut words = vec!["nginx", "-p", dir, "-c", &conf, "-e", &log];
    if !is_up {
        words.extend(["-s", "stop"]);
    }
    lab.check(server, &words);
    let address = format!("10.2.0.{}", &server[2..]);
    wait_for("nginx", || (curl(lab, &address, "/").is_ok() == is_up).then_some(()));
}

/// Services of all kinds; every real server is asked for its name, which its page must have.
const SERVICES: &str = "
virtual=10.9.0.1:80
\treal=10.2.0.1:80 masq
\treal=10.2.0.2:80 masq 2
\tfallback=10.2.0.3:80 masq
\tservice=http
\trequest=\"/\"
\treceive=\"^rs\"
\tscheduler=rr
\tprotocol=tcp
\tchecktype=negotiate
\tquiescent=no

virtual=10.9.0.1:8080
\treal=10.2.0.1:8080 masq 3 l:50 u:100
\treal=10.2.0.2:8080 masq
\tservice=http
\trequest=\"/\"
\treceive=\"^rs\"
\tscheduler=wlc
\tprotocol=tcp
\tpersistent=600
\tnetmask=255.255.255.0
\tchecktype=negotiate
\tquiescent=yes

virtual6=[fd00:9::1]:80
\treal6=[fd00:2::1]:80 masq
\treal6=[fd00:2::2]:80 masq
\tservice=http
\trequest=\"/\"
\treceive=\"^rs\"
\tscheduler=wrr
\tprotocol=tcp
\tchecktype=negotiate
\tquiescent=no

virtual=5
\treal=10.2.0.1:80 masq
\treal=10.2.0.2:80 masq
\tservice=http
\tcheckport=80
\trequest=\"/\"
\treceive=\"^rs\"
\tscheduler=rr
\tprotocol=fwm
\tchecktype=negotiate
\tquiescent=no

virtual=10.9.0.1:53
\treal=10.2.0.1:53 masq
\tscheduler=rr
\tprotocol=udp
\tops=yes
\tchecktype=on
";

/// What ldirectord needs for HTTP over IPv6, and ends without.
const INET6: &str = "/usr/share/perl5/Net/INET6Glue/INET_is_INET6.pm";

/// What of the rules does not change while real servers come and go.
const CONSTANT: &[&str] = &[
    "-A -t 10.9.0.1:80 -s rr",
    "-A -t 10.9.0.1:8080 -s wlc -p 600 -M 255.255.255.0",
    "-A -t [fd00:9::1]:80 -s wrr",
    "-A -f 5 -s rr",
    "-A -u 10.9.0.1:53 -s rr -o",
    "-a -u 10.9.0.1:53 -r 10.2.0.1:53 -m -w 1",
];

const MARKS: &str = "\
*mangle
:PREROUTING ACCEPT [0:0]
-A PREROUTING -d 10.9.0.4/32 -p tcp -m tcp --dport 81 -j MARK --set-mark 5
COMMIT
";

/// Real servers fail, come back, all fail, and the fallback server answers; clients are served throughout.
#[test]
fn ldirectord_takes_servers_out_and_brings_them_back() {
    let Some(lab) = Lab::build(Shape::TwoArms, &["ldirectord", "ipvsadm", "unshare", INET6]) else { return };
    let marks = lab.dir().join("marks");
    fs::write(&marks, MARKS).expect("the marks");
    let options = ["--marks", marks.to_str().expect("a plain path")];
    let director = lab.director(&options);
    // Left by hand: to be changed, and a server that ldirectord does not know, to be removed.
    lab.adm_all(&["-A -t 10.9.0.1:80 -s wlc -p 60", "-a -t 10.9.0.1:80 -r 10.2.0.3:8080 -m"]);
    let daemon = Ldirectord::start(&lab, SERVICES);
    let wait = |what: &str, servers: &[&str]| wait_for_rules(&lab, what, &[CONSTANT, servers].concat());

    let all_up = [
        "-a -t 10.9.0.1:80 -r 10.2.0.1:80 -m -w 1",
        "-a -t 10.9.0.1:80 -r 10.2.0.2:80 -m -w 2",
        "-a -t 10.9.0.1:8080 -r 10.2.0.1:8080 -m -w 3",
        "-a -t 10.9.0.1:8080 -r 10.2.0.2:8080 -m -w 1",
        "-a -t [fd00:9::1]:80 -r [fd00:2::1]:80 -m -w 1",
        "-a -t [fd00:9::1]:80 -r [fd00:2::2]:80 -m -w 1",
        "-a -f 5 -r 10.2.0.1:80 -m -w 1",
        "-a -f 5 -r 10.2.0.2:80 -m -w 1",
    ];
    wait("all servers", &all_up);
    // What -S leaves out, and what ldirectord reads with the same words.
    let thresholds = "  -> 10.2.0.1:8080                100        50         0          0         \n";
    let listing = lab.adm("-L -n --thresholds");
    assert!(listing.contains(thresholds), "{listing}");
    let both = [("rs1", 2), ("rs2", 2)].into();
    assert_eq!(tally(&servers_in_turn(&lab, "10.9.0.1", 4)), both);
    assert_eq!(tally(&servers_in_turn(&lab, "fd00:9::1", 4)), both);
    assert_eq!(tally(&servers_in_turn(&lab, "10.9.0.4:81", 4)), both);
    assert_eq!(servers_in_turn(&lab, "10.9.0.1:8080", 1).len(), 1);

    nginx(&lab, "rs1", false);
    let first_down = [
        "-a -t 10.9.0.1:80 -r 10.2.0.2:80 -m -w 2",
        "-a -t 10.9.0.1:8080 -r 10.2.0.1:8080 -m -w 0",
        "-a -t 10.9.0.1:8080 -r 10.2.0.2:8080 -m -w 1",
        "-a -t [fd00:9::1]:80 -r [fd00:2::2]:80 -m -w 1",
        "-a -f 5 -r 10.2.0.2:80 -m -w 1",
    ];
    wait("the first server's end", &first_down);
    for address in ["10.9.0.1", "fd00:9::1", "10.9.0.4:81"] {
        assert_eq!(servers_in_turn(&lab, address, 3), ["rs2"; 3], "{address}");
    }

    nginx(&lab, "rs2", false);
    let all_down = [
        "-a -t 10.9.0.1:80 -r 10.2.0.3:80 -m -w 1",
        "-a -t 10.9.0.1:8080 -r 10.2.0.1:8080 -m -w 0",
        "-a -t 10.9.0.1:8080 -r 10.2.0.2:8080 -m -w 0",
    ];
    wait("the fallback server", &all_down);
    assert_eq!(servers_in_turn(&lab, "10.9.0.1", 3), ["rs3"; 3]);

    nginx(&lab, "rs1", true);
    nginx(&lab, "rs2", true);
    wait("the servers' return", &all_up);
    assert_eq!(tally(&servers_in_turn(&lab, "10.9.0.1", 4)), both);

    // A new director knows no services until ldirectord is told to read its configuration again.
    director.stop();
    let _director = lab.director(&options);
    assert_eq!(lab.adm("-S -n"), "");
    assert!(daemon.run("reload").status.success());
    wait("all servers at the new director", &all_up);
    assert_eq!(tally(&servers_in_turn(&lab, "10.9.0.1", 4)), both);
    daemon.stop();
}
