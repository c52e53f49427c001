//! FTP with a real server and a real client: data connections that the helper expects, and those of persistence.

use std::fs;
use std::os::unix::fs::chown;
use std::path::PathBuf;
use std::process::Command;

use crate::lab::{Background, Lab, Shape, expect_success, output, wait_for};
use crate::traffic::bracketed;

const TOOLS: &[&str] = &["vsftpd"];
const FILE_OCTETS: usize = 3_000_000;

/// How a client asks for its data connections, in words of curl.
const PASSIVE: &[&str] = &["--disable-epsv"];
const EXTENDED_PASSIVE: &[&str] = &[];
const ACTIVE: &[&str] = &["--ftp-port", "-", "--disable-eprt"];
const EXTENDED_ACTIVE: &[&str] = &["--ftp-port", "-"];

/// Real server `number` as an FTP server with the file `file`, which tells it, and a directory for uploads.
struct FtpServer {
    _daemon: Background,
    directory: PathBuf,
}

impl FtpServer {
    fn start(lab: &Lab, number: u32) -> FtpServer {
        let directory = lab.dir().join(format!("ftp{number}"));
        let (root, empty) = (directory.join("root"), directory.join("empty"));
        for path in [&root, &root.join("incoming"), &empty] {
            fs::create_dir_all(path).expect("a directory");
        }
        // The daemon's other self must reach it.
        expect_success(Command::new("chmod").arg("a+x").args([lab.dir(), &directory]));
        let id = |flag: &str| expect_success(Command::new("id").args([flag, "ftp"])).trim().parse().expect("a number");
        chown(root.join("incoming"), Some(id("-u")), Some(id("-g"))).expect("chown");
        fs::write(root.join("file"), contents(number)).expect("a file");
        let configuration = directory.join("vsftpd.conf");
        let text = format!(
            "listen=NO\nlisten_ipv6=YES\nbackground=NO\nanonymous_enable=YES\nanon_root={}\nwrite_enable=YES\n\
             anon_upload_enable=YES\nconnect_from_port_20=YES\nsecure_chroot_dir={}\nseccomp_sandbox=NO\n",
            root.display(),
            empty.display(),
        );
        fs::write(&configuration, text).expect("a file");
        let words = ["vsftpd", configuration.to_str().expect("a plain path")];
        let daemon = lab.start(&format!("rs{number}"), &words, &format!("vsftpd{number}.log"));
        let url = format!("ftp://10.2.0.{number}/");
        wait_for("the FTP server", || {
            output(lab.command("director", "curl").args(["-sf", "-m", "5", &url])).status.success().then_some(())
        });
        FtpServer { _daemon: daemon, directory }
    }
}

fn contents(number: u32) -> Vec<u8> {
    (0..FILE_OCTETS).map(|at| (at / 251 + at + number as usize) as u8).collect()
}

/// The client fetches the file by each URL in one session; the bodies, or what curl says.
fn fetch(lab: &Lab, options: &[&str], address: &str, times: usize) -> Result<Vec<Vec<u8>>, String> {
    let mut command = lab.command("client", "curl");
    command.args(["-gsSv", "--fail-early", "-m", "30"]).args(options);
    let copies: Vec<PathBuf> = (0..times).map(|n| lab.dir().join(format!("copy{n}"))).collect();
    for copy in &copies {
        command.arg("-o").arg(copy).arg(format!("ftp://{address}/file"));
    }
    let answer = output(&mut command);
    if !answer.status.success() {
        return Err(String::from_utf8_lossy(&answer.stderr).into_owned());
    }
    Ok(copies
        .iter()
        .map(|copy| {
            let body = fs::read(copy).expect("a copy");
            fs::remove_file(copy).expect("remove");
            body
        })
        .collect())
}

/// Fetches the file thrice in a session and sends one in another; the servers of the two.
fn transfer(lab: &Lab, servers: &[FtpServer], options: &[&str], address: &str) -> [usize; 2] {
    let bodies = fetch(lab, options, address, 3).unwrap_or_else(|why| panic!("{address} {options:?}: {why}"));
    let fetched_from = (1..=servers.len()).find(|number| bodies[0] == contents(*number as u32));
    let fetched_from = fetched_from.unwrap_or_else(|| panic!("{address} {options:?}: another file"));
    assert!(bodies.iter().all(|body| *body == bodies[0]), "{address} {options:?}: a session has one server");

    let source = servers[0].directory.join("root/file");
    let mut command = lab.command("client", "curl");
    command.args(["-gsS", "-m", "30"]).args(options).arg("-T").arg(&source);
    expect_success(command.arg(format!("ftp://{address}/incoming/sent")));
    let arrived: Vec<(usize, Vec<u8>)> = (1..)
        .zip(servers)
        .filter_map(|(number, server)| {
            let path = server.directory.join("root/incoming/sent");
            let body = fs::read(&path).ok()?;
            fs::remove_file(path).expect("remove");
            Some((number, body))
        })
        .collect();
    let [(sent_to, body)] = &arrived[..] else { panic!("{address} {options:?}: {} files arrived", arrived.len()) };
    assert!(*body == contents(1), "{address} {options:?}: another file arrived");
    [fetched_from, *sent_to]
}

/// All four ways to a data connection through masquerading, over both families; a virtual address that is longer than
/// the server's in the reply moves the sequence numbers of what follows, several times in a session.
#[test]
fn masqueraded_with_the_helper() {
    let Some(lab) = Lab::build(Shape::TwoArms, TOOLS) else { return };
    lab.check("director", &["ip", "address", "add", "10.9.100.200/32", "dev", "lo"]);
    lab.check("client", &["ip", "address", "add", "10.1.200.200/16", "dev", "eth0"]);
    let _director = lab.director(&["--ftp"]);
    let servers = [1, 2].map(|number| FtpServer::start(&lab, number));
    for (service, network) in [("10.9.0.1", "10.2.0."), ("10.9.100.200", "10.2.0."), ("[fd00:9::1]", "fd00:2::")] {
        lab.adm(&format!("-A -t {service}:21 -s rr"));
        for number in 1..=2 {
            lab.adm(&format!("-a -t {service}:21 -r {}:21 -m", bracketed(&format!("{network}{number}"))));
        }
    }
    let mut reached = std::collections::BTreeSet::new();
    for address in ["10.9.0.1", "10.9.100.200"] {
        for options in [PASSIVE, EXTENDED_PASSIVE, ACTIVE, EXTENDED_ACTIVE] {
            reached.extend(transfer(&lab, &servers, options, address));
        }
    }
    for options in [EXTENDED_PASSIVE, EXTENDED_ACTIVE] {
        reached.extend(transfer(&lab, &servers, options, "[fd00:9::1]"));
    }
    assert_eq!(reached.len(), 2, "both servers have had clients");
    let listing = lab.adm("-Lnc");
    // The data connections of the active ways come from port 20; those of the passive ones from any.
    assert!(listing.lines().any(|line| line.contains("10.9.0.1:20 ")), "{listing}");
}

/// The helper is off unless asked for: the data connection is nobody's. At other ports it works where it is told to.
#[test]
fn the_helper_serves_the_ports_that_it_is_told() {
    let Some(lab) = Lab::build(Shape::TwoArms, TOOLS) else { return };
    let servers = [1].map(|number| FtpServer::start(&lab, number));
    let rules = |lab: &Lab| {
        lab.adm_all(&["-A -t 10.9.0.1:2121 -s rr", "-a -t 10.9.0.1:2121 -r 10.2.0.1:21 -m"]);
    };
    let director = lab.director(&[]);
    rules(&lab);
    let why = fetch(&lab, PASSIVE, "10.9.0.1:2121", 1).expect_err("without the helper");
    assert!(why.contains("227 ") && why.contains("10,2,0,1"), "the reply is left as it is: {why}");
    assert!(director.stop().success());

    let _director = lab.director(&["--ftp=21,2121"]);
    rules(&lab);
    for options in [PASSIVE, EXTENDED_PASSIVE] {
        assert_eq!(transfer(&lab, &servers, options, "10.9.0.1:2121"), [1, 1]);
    }
}

/// Direct routing needs no helper: with persistence a client's data connections follow to its server.
#[test]
fn directly_routed_with_persistence() {
    let Some(lab) = Lab::build(Shape::TwoArms, TOOLS) else { return };
    let _director = lab.director(&[]);
    let servers = [1, 2, 3].map(|number| FtpServer::start(&lab, number));
    for (service, network) in [("10.9.0.2", "10.2.0."), ("[fd00:9::2]", "fd00:2::")] {
        lab.adm(&format!("-A -t {service}:21 -s rr -p 300"));
        for number in 1..=3 {
            lab.adm(&format!("-a -t {service}:21 -r {}:21 -g", bracketed(&format!("{network}{number}"))));
        }
        let first = transfer(&lab, &servers, EXTENDED_PASSIVE, service);
        assert_eq!(first[0], first[1], "{service}: one client, one server");
        assert_eq!(transfer(&lab, &servers, EXTENDED_PASSIVE, service), first, "{service}: the client stays");
        assert_eq!(transfer(&lab, &servers, EXTENDED_ACTIVE, service), first, "{service}: the server calls back");
    }
}
