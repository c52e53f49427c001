//! What clients do: single requests, files, and load.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde::Deserialize;

use crate::lab::{Background, Lab, expect_success, output};

/// `curl` of the client for `path` at `address` (IPv6 without brackets): the body, or curl's exit status.
pub fn curl(lab: &Lab, address: &str, path: &str) -> Result<String, i32> {
    let answer = lab.run("client", &["curl", "-gsSf", "-m", "10", &url(address, path)]);
    match answer.status.code() {
        Some(0) => Ok(String::from_utf8_lossy(&answer.stdout).trim_end().to_owned()),
        status => Err(status.unwrap_or(-1)),
    }
}

/// Who answers `count` requests in turn; each must succeed.
pub fn servers_in_turn(lab: &Lab, address: &str, count: usize) -> Vec<String> {
    (0..count).map(|n| curl(lab, address, "/").unwrap_or_else(|status| panic!("request {n}: curl {status}"))).collect()
}

/// How often each name stands in the list.
pub fn tally(names: &[String]) -> BTreeMap<&str, usize> {
    let mut counts = BTreeMap::new();
    for name in names {
        *counts.entry(name.as_str()).or_default() += 1;
    }
    counts
}

/// Real server `number` as a DNS server that says 192.0.2.`number` of who.lab.test.
pub fn dns_server(lab: &Lab, number: u32) -> Background {
    let answer = format!("--address=/who.lab.test/192.0.2.{number}");
    let words = [
        "dnsmasq",
        "--keep-in-foreground",
        "--log-facility=-",
        "--conf-file=/dev/null",
        "--pid-file=",
        "--no-resolv",
        "--no-hosts",
        "--user=root",
        &answer,
    ];
    let mut server = lab.start(&format!("rs{number}"), &words, &format!("dnsmasq{number}.log"));
    server.wait_until_log_has("started");
    server
}

/// Fetches 50 MB through `address` and compares them with what the servers have.
pub fn download(lab: &Lab, address: &str) {
    let copy = lab.dir().join("download");
    let path = copy.to_str().expect("a plain path");
    lab.check("client", &["curl", "-gsSf", "-m", "120", "-o", path, &url(address, "/file")]);
    assert_eq!(sha256(&copy), sha256(&lab.dir().join("www/file")), "download from {address}");
    fs::remove_file(copy).expect("remove");
}

/// Sends 50 MB through `address` and compares what arrived at one of the servers.
pub fn upload(lab: &Lab, address: &str) {
    let file = lab.dir().join("www/file");
    let path = file.to_str().expect("a plain path");
    lab.check("client", &["curl", "-gsSf", "-m", "120", "-T", path, &url(address, "/upload/file")]);
    let arrived: Vec<_> = (1..=3)
        .map(|n| lab.dir().join(format!("rs{n}/upload/file")))
        .filter(|path| path.exists())
        .map(|path| {
            let sum = sha256(&path);
            fs::remove_file(&path).expect("remove");
            sum
        })
        .collect();
    assert_eq!(arrived, [sha256(&file)], "upload to {address}");
}

fn sha256(path: &Path) -> String {
    let line = expect_success(Command::new("sha256sum").arg(path));
    line.split_whitespace().next().expect("a sum").to_owned()
}

/// The URL of `path` at `address`: IPv4, also with a port, or IPv6, which stands in brackets.
pub fn url(address: &str, path: &str) -> String {
    if address.parse::<std::net::Ipv6Addr>().is_ok() {
        format!("http://[{address}]{path}")
    } else {
        format!("http://{address}{path}")
    }
}

/// An address as ipvsadm and URLs take it: IPv6 in brackets.
pub fn bracketed(address: &str) -> String {
    if address.contains(':') { format!("[{address}]") } else { address.to_owned() }
}

/// `ping` of the client: true when the answer came.
pub fn ping(lab: &Lab, address: &str) -> bool {
    output(lab.command("client", "ping").args(["-c", "1", "-W", "5", address])).status.success()
}

/// What came of a load.
#[derive(Deserialize, Debug)]
pub struct Outcome {
    /// Requests answered.
    pub ok: usize,
    /// Requests or connections that failed.
    pub failed: usize,
    /// Times a connection changed its server.
    pub moved: usize,
    /// Requests answered by each server.
    pub by_server: BTreeMap<String, usize>,
    /// The failures in words.
    pub errors: BTreeMap<String, usize>,
}

impl Outcome {
    /// Fails the test unless all requests were answered, each connection by one server.
    pub fn expect_clean(&self) -> &Self {
        assert!(self.failed == 0, "{} failed, {} answered: {:?}", self.failed, self.ok, self.errors);
        assert!(self.ok > 0 && self.moved == 0, "{self:?}");
        self
    }
}

/// Clients that run until they are told to end.
pub struct Load {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl Load {
    /// Starts `load.py` with the words of `line` on the client.
    pub fn start(lab: &Lab, line: &str) -> Load {
        let mut command = lab.command("client", concat!(env!("CARGO_MANIFEST_DIR"), "/tests/netns/load.py"));
        command.args(line.split_whitespace()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("load.py");
        let stdin = child.stdin.take();
        let stdout = BufReader::new(child.stdout.take().expect("stdout"));
        Load { child, stdin, stdout }
    }

    /// Starts `connections` long connections and waits until each has had an answer.
    pub fn start_long(lab: &Lab, address: &str, connections: usize) -> Load {
        let mut load = Load::start(lab, &format!("long {address} 80 --connections {connections} --pause 0.1"));
        let mut line = String::new();
        load.stdout.read_line(&mut line).expect("a line");
        assert_eq!(line, "open\n", "not all of {connections} connections could be opened");
        load
    }

    /// Tells the clients to end and waits for them.
    pub fn end(mut self) -> Outcome {
        drop(self.stdin.take());
        let mut text = String::new();
        self.stdout.read_to_string(&mut text).expect("the outcome");
        assert!(self.child.wait().expect("load.py").success(), "load.py failed");
        serde_json::from_str(&text).expect("the outcome")
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        drop(self.stdin.take());
        let _ = self.child.wait();
    }
}

/// `count` requests to port 80 of `address`, each on a connection of its own, eight at a time.
pub fn short_load(lab: &Lab, address: &str, count: usize) -> Outcome {
    Load::start(lab, &format!("short {address} 80 --count {count}")).end()
}
