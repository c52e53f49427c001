//! A lab for one test: nodes, the director in it, and what both leave behind taken away.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, geteuid, kill_process};

/// How long anything may take before a test gives up.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Tools that every lab needs.
const TOOLS: &[&str] = &["ip", "nginx", "curl", "/usr/bin/python3"];

static LABS_BUILT: AtomicU32 = AtomicU32::new(0);

/// How the director stands in the network.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// One interface towards the clients, one towards the servers.
    TwoArms,
    /// The same with two queues on both.
    TwoQueues,
    /// One interface for all.
    OneArm,
}

/// The nodes of one test. Dropping it removes them.
pub struct Lab {
    name: String,
    shape: Shape,
    dir: PathBuf,
    _turn: File,
}

impl Lab {
    /// A lab in which `tools` are there; `None` when the test has to be skipped, which is then said.
    pub fn build(shape: Shape, tools: &[&str]) -> Option<Lab> {
        let turn = take_turn(tools)?;
        let prefix = std::env::var("LVX_NETNS_PREFIX").unwrap_or_else(|_| "test".into());
        let name = format!("{prefix}-{}-{}", std::process::id(), LABS_BUILT.fetch_add(1, Relaxed));
        let words: &[&str] = match shape {
            Shape::TwoArms => &["up"],
            Shape::TwoQueues => &["up", "--queues", "2"],
            Shape::OneArm => &["up", "--one-arm"],
        };
        expect_success(script(&name).args(words));
        let dir = expect_success(script(&name).arg("dir")).trim_end().into();
        Some(Lab { name, shape, dir, _turn: turn })
    }

    /// Directory of the lab's files.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The interfaces that the director serves.
    pub fn interfaces(&self) -> &'static str {
        if self.shape == Shape::OneArm { "eth0" } else { "eth0,eth1" }
    }

    /// A command to be run on a node; `lvxadm` and `lvx` on it find the director.
    pub fn command(&self, node: &str, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = script(&self.name);
        command.args(["exec", node]).arg(program).env("LVX_SOCKET", self.socket());
        command
    }

    /// Runs `words` on a node, whatever comes of it.
    pub fn run(&self, node: &str, words: &[&str]) -> Output {
        output(self.command(node, words[0]).args(&words[1..]))
    }

    /// Runs `words` on a node; what they print. A failure fails the test.
    pub fn check(&self, node: &str, words: &[&str]) -> String {
        expect_success(self.command(node, words[0]).args(&words[1..]))
    }

    /// Starts `words` on a node, to be ended with the value. What they print goes to a file named `log`.
    pub fn start(&self, node: &str, words: &[&str], log: &str) -> Background {
        let path = self.dir.join(log);
        let mut command = self.command(node, words[0]);
        command.args(&words[1..]);
        Background::start(&mut command, path)
    }

    /// Path of the director's control socket.
    pub fn socket(&self) -> PathBuf {
        self.dir.join("lvx.sock")
    }

    /// The director's command line, for its interfaces and with `options`.
    pub fn director_command(&self, options: &[&str]) -> Command {
        let mut command = self.command("director", env!("CARGO_BIN_EXE_lvxd"));
        command.args(["--interface", self.interfaces(), "--socket"]).arg(self.socket()).args(options);
        command
    }

    /// Starts the director and waits until it is ready.
    pub fn director(&self, options: &[&str]) -> Background {
        let number = (1..).find(|n| !self.dir.join(format!("lvxd.{n}.log")).exists()).expect("a free number");
        let log = self.dir.join(format!("lvxd.{number}.log"));
        let mut director = Background::start(&mut self.director_command(options), log);
        director.wait_until_log_has("ready");
        director
    }

    /// Runs lvxadm with the words of `line`; what it prints. A failure fails the test.
    pub fn adm(&self, line: &str) -> String {
        expect_success(self.adm_command().args(line.split_whitespace()))
    }

    /// Runs lvxadm with the words of each line.
    pub fn adm_all(&self, lines: &[&str]) {
        for line in lines {
            self.adm(line);
        }
    }

    /// Runs `lvxadm -R` on `rules`.
    pub fn restore(&self, rules: &str) {
        let mut child = self.adm_command().arg("-R").stdin(Stdio::piped()).spawn().expect("lvxadm");
        child.stdin.take().expect("stdin").write_all(rules.as_bytes()).expect("rules");
        assert!(child.wait().expect("lvxadm").success(), "lvxadm -R");
    }

    /// Runs `lvx` with the words of `line`, whatever comes of it.
    pub fn lvx(&self, line: &str) -> Output {
        output(self.command("director", env!("CARGO_BIN_EXE_lvx")).args(line.split_whitespace()))
    }

    fn adm_command(&self) -> Command {
        self.command("director", env!("CARGO_BIN_EXE_lvxadm"))
    }

    /// The numbers after the address `server` in `lvxadm -Ln` of the TCP service `service`:
    /// weight, active and inactive connections.
    pub fn server_numbers(&self, service: &str, server: &str) -> Option<[u64; 3]> {
        let listing = self.adm(&format!("-Ln -t {service}"));
        let line = listing.lines().find(|line| line.split_whitespace().nth(1) == Some(server))?;
        let numbers = line.split_whitespace().skip(3).map(|word| word.parse().expect("a number"));
        numbers.collect::<Vec<_>>().try_into().ok()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("--- services and connections");
            for words in ["-Ln", "-Lnc"] {
                if let Ok(answer) = self.adm_command().arg(words).output() {
                    eprint!("{}", String::from_utf8_lossy(&answer.stdout));
                }
            }
            for entry in fs::read_dir(&self.dir).into_iter().flatten().flatten() {
                if entry.path().extension().is_some_and(|extension| extension == "log") {
                    let text = fs::read_to_string(entry.path()).unwrap_or_default();
                    let lines: Vec<_> = text.lines().collect();
                    eprintln!("--- {}, its end", entry.file_name().to_string_lossy());
                    lines[lines.len().saturating_sub(30)..].iter().for_each(|line| eprintln!("{line}"));
                }
            }
        }
        // A panic within a panic would hide the first: say it and go on.
        match script(&self.name).arg("down").output() {
            Ok(answer) if answer.status.success() => {}
            other => eprintln!("the lab {} could not be removed: {other:?}", self.name),
        }
    }
}

/// A process that ends with this value.
pub struct Background {
    child: Child,
    log: PathBuf,
}

impl Background {
    /// Starts a command whose output goes to `log`.
    pub fn start(command: &mut Command, log: PathBuf) -> Background {
        let file = File::create(&log).expect("log file");
        let errors = file.try_clone().expect("log file");
        let child = command.stdin(Stdio::null()).stdout(file).stderr(errors).spawn().expect("a process");
        Background { child, log }
    }

    /// What it has printed so far.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits until it has printed `text`; its end before that fails the test.
    pub fn wait_until_log_has(&mut self, text: &str) {
        wait_for(&format!("'{text}' in {}", self.log.display()), || {
            if self.log().contains(text) {
                return Some(());
            }
            let ended = self.child.try_wait().expect("wait");
            assert!(ended.is_none(), "ended ({ended:?}) before it printed '{text}':\n{}", self.log());
            None
        });
    }

    /// True until it has ended.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("wait").is_none()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().cast_signed()).expect("a process number");
        kill_process(pid, signal).expect("kill");
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> ExitStatus {
        wait_for("the end of a process", || self.child.try_wait().expect("wait"))
    }

    /// Sends SIGTERM and waits for the end.
    pub fn stop(mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait()
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            self.signal(Signal::TERM);
            let end = Instant::now() + PATIENCE;
            while let Ok(None) = self.child.try_wait() {
                if Instant::now() > end {
                    let _ = self.child.kill();
                    let _ = self.child.wait();
                }
                thread::sleep(Duration::from_millis(20));
            }
        }
    }
}

/// Asks again and again until there is an answer; fails the test when there is none in [`PATIENCE`].
pub fn wait_for<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < end, "waited {} s in vain for {what}", PATIENCE.as_secs());
        thread::sleep(Duration::from_millis(50));
    }
}

/// Runs the command to its end and takes what it prints; its input is empty.
pub fn output(command: &mut Command) -> Output {
    command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

/// As [`output`], failing the test unless the command succeeds; what it printed.
pub fn expect_success(command: &mut Command) -> String {
    let answer = output(command);
    let text = String::from_utf8_lossy(&answer.stdout).into_owned();
    let errors = String::from_utf8_lossy(&answer.stderr);
    assert!(answer.status.success(), "{command:?}: {}\n{text}{errors}", answer.status);
    text
}

fn script(lab: &str) -> Command {
    let mut command = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/lab"));
    command.env("LAB", lab);
    command
}

/// Waits for the lock that lets one lab stand at a time; `None` when the test has to be skipped, which is then said.
pub fn take_turn(tools: &[&str]) -> Option<File> {
    let turn = try_turn(tools);
    if let Err(why) = &turn {
        assert!(std::env::var_os("LVX_NETNS_REQUIRED").is_none(), "cannot run: {why}");
        println!("skipped: {why}");
    }
    turn.ok()
}

fn try_turn(tools: &[&str]) -> Result<File, String> {
    if !geteuid().is_root() {
        return Err("needs root".into());
    }
    if let Some(tool) = TOOLS.iter().chain(tools).find(|tool| !has_tool(tool)) {
        return Err(format!("needs {tool}"));
    }
    let turn = File::create(concat!(env!("CARGO_TARGET_TMPDIR"), "/netns.lock")).expect("lock file");
    turn.lock().expect("lock");
    let probe = format!("lvx-probe-{}", std::process::id());
    let made = output(Command::new("ip").args(["netns", "add", &probe]));
    let _ = output(Command::new("ip").args(["netns", "delete", &probe]));
    if made.status.success() { Ok(turn) } else { Err("cannot make network namespaces here".into()) }
}

fn has_tool(tool: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // `join` with an absolute name is that name.
    std::env::split_paths(&path).any(|dir| dir.join(tool).exists())
}
