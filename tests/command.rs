//! ipvsadm's language against what ipvsadm 1.31 answered: which lines it refuses and how, which it takes, and how it
//! prints what it has taken. Needs no director: what the kernel says is only held apart here.

use std::path::Path;
use std::process::Command;

use lvx::command::names::{FileNames, NoNames};
use lvx::command::parse::parse;
use lvx::command::program::{self, Executor};
use lvx::command::render::render;
use lvx::command::request::{ServerInfo, ServiceInfo, Stats};
use lvx::command::{Parsed, Reply, Request, Response};
use serde_json::Value;

/// What the recorded machine's files say, as far as the cases ask.
const SERVICES: &str = "\
ssh 22/tcp
smtp 25/tcp mail
domain 53/tcp
domain 53/udp
http 80/tcp www
https 443/tcp
https 443/udp
http-alt 8080/tcp webcache
";
const HOSTS: &str = "127.0.0.1 localhost\n";

/// What ipvsadm prints when the kernel refuses; everything else on stderr is its own.
const KERNEL_TEXTS: [&str; 12] = [
    "Service already exists",
    "Destination already exists",
    "Daemon has already run",
    "No such service",
    "No such destination",
    "Service not defined",
    "Scheduler or persistence engine not found",
    "No daemon is running",
    "Invalid operation.  Possibly wrong module version, address not unicast, ...",
    "Numerical result out of range",
    "No such device",
    "Operation not supported with specified address family",
];

/// One recorded command.
struct Step {
    argv: Vec<String>,
    stdin: Option<String>,
    exit: i64,
    stdout: String,
    stderr: String,
}

impl Step {
    /// `None` for steps that are no commands.
    fn read(step: &Value) -> Option<Self> {
        let text = |key: &str| step[key].as_str().unwrap_or_default().to_owned();
        let argv = step["argv"].as_array()?.iter().map(|word| word.as_str().unwrap().to_owned()).collect();
        let stdin = step["stdin"].as_str().map(str::to_owned);
        Some(Self { argv, stdin, exit: step["exit"].as_i64()?, stdout: text("stdout"), stderr: text("stderr") })
    }

    fn is_ipvsadm(&self) -> bool {
        self.argv[0].rsplit('/').next() == Some("ipvsadm")
    }

    fn has_kernel_text(&self) -> bool {
        self.stderr.lines().any(|line| KERNEL_TEXTS.contains(&line))
    }

    fn parse(&self, names: &FileNames) -> Result<Parsed, lvx::command::UsageError> {
        parse(&self.argv[0], &self.argv[1..], names)
    }
}

struct Case {
    name: String,
    /// True when no packet was sent: all counters are zero.
    is_quiet: bool,
    /// Steps that are no commands and may change what lists show are `None`.
    steps: Vec<Option<Step>>,
}

fn cases() -> Vec<Case> {
    ["cli", "odd"].into_iter().flat_map(cases_of).collect()
}

fn cases_of(family: &str) -> Vec<Case> {
    let archive = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/{family}.tar.gz"));
    let output = Command::new("tar").arg("-xzOf").arg(&archive).output().expect("tar runs");
    assert!(output.status.success(), "{} cannot be unpacked", archive.display());
    let values = serde_json::Deserializer::from_slice(&output.stdout).into_iter::<Value>();
    let cases = values.map(|value| {
        let value = value.expect("a case is JSON");
        let steps = value["steps"].as_array().unwrap();
        // Reading a file of the kernel changes nothing.
        let steps = steps.iter().filter(|step| step.get("proc").is_none());
        Case {
            name: value["name"].as_str().unwrap().to_owned(),
            is_quiet: value["net"]["light"] == true,
            steps: steps.map(Step::read).collect(),
        }
    });
    cases.collect()
}

fn names() -> FileNames {
    FileNames::new(SERVICES, HOSTS)
}

/// Every recorded command line is refused as recorded, or taken if only the kernel could refuse it.
#[test]
fn lines_are_refused_or_taken_as_recorded() {
    let (mut refused, mut taken) = (0, 0);
    for case in cases() {
        for step in case.steps.iter().flatten().filter(|step| step.is_ipvsadm()) {
            let line = format!("{}: {:?}", case.name, step.argv);
            match step.parse(&names()) {
                Err(usage) => {
                    let expected = (step.exit, step.stdout.as_str(), step.stderr.as_str());
                    assert_eq!((i64::from(usage.exit), &*usage.stdout, &*usage.stderr), expected, "{line}");
                    refused += 1;
                }
                Ok(Parsed::Restore) => assert!(step.stdin.is_some() || step.exit == 0, "{line}"),
                Ok(Parsed::Request { .. }) => {
                    assert!(
                        step.exit == 0 && step.stderr.is_empty() || step.has_kernel_text(),
                        "{line}: {}",
                        step.stderr
                    );
                    taken += 1;
                }
            }
        }
    }
    assert!(refused > 500 && taken > 700, "{refused} refused, {taken} taken");
}

/// What was taken says the same again in canonical words.
#[test]
fn canonical_words_mean_the_same() {
    let mut compared = 0;
    for step in cases().iter().flat_map(|case| case.steps.iter().flatten()).filter(|step| step.is_ipvsadm()) {
        if let Ok(Parsed::Request { request, .. }) = step.parse(&names()) {
            match parse("ipvsadm", &request.to_words(), &NoNames) {
                Ok(Parsed::Request { request: again, .. }) => assert_eq!(again, request, "{:?}", step.argv),
                other => panic!("{:?}: {:?}: {other:?}", step.argv, request.to_words()),
            }
            compared += 1;
        }
    }
    assert!(compared > 700, "{compared}");
}

/// Takes everything.
struct Willing;

impl Executor for Willing {
    fn execute(&mut self, _: Request) -> Reply {
        Ok(Response::Done)
    }
}

/// Rule files whose recorded answer has nothing of the kernel in it: no refusal, no list.
#[test]
fn restores_end_as_recorded() {
    let mut run = 0;
    for case in cases() {
        for step in case.steps.iter().flatten().filter(|step| step.stdin.is_some()) {
            let stdin = step.stdin.as_deref().unwrap();
            let lists = stdin.lines().any(|line| line.starts_with("-L") || line.starts_with("-S"));
            if lists || step.has_kernel_text() || !program::reads_stdin(&step.argv, &names()) {
                continue;
            }
            let output = program::run(&step.argv, Some(stdin), &names(), &mut Willing);
            let line = format!("{}: {:?} < {stdin:?}", case.name, step.argv);
            assert_eq!(
                (i64::from(output.exit), output.stdout, output.stderr),
                (step.exit, step.stdout.clone(), step.stderr.clone()),
                "{line}"
            );
            run += 1;
        }
    }
    assert!(run > 15, "{run}");
}

/// The services of a list as `-S` wrote it, in its order; `None` where `-S` writes what `-R` cannot read (marks from
/// 2147483648 on, nameless flags).
fn services_of(saved: &str, names: &FileNames) -> Option<Vec<ServiceInfo>> {
    let mut services: Vec<ServiceInfo> = Vec::new();
    for line in saved.lines() {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        match parse("ipvsadm", &words, names).ok()? {
            Parsed::Request { request: Request::AddService(rule), .. } => {
                services.push(ServiceInfo { rule, stats: Stats::default(), servers: Vec::new() });
            }
            Parsed::Request { request: Request::AddServer { server: rule, .. }, .. } => {
                let server = ServerInfo { rule, active: 0, inactive: 0, persistent: 0, stats: Stats::default() };
                services.last_mut()?.servers.push(server);
            }
            _ => return None,
        }
    }
    Some(services)
}

/// The lists that show the same services as the `-S` at `saved`: those around it with no change between.
fn lists_around(steps: &[Option<Step>], saved: usize, names: &FileNames) -> Vec<usize> {
    let is_list = |&place: &usize| {
        let Some(step) = &steps[place] else { return false };
        let request = step.is_ipvsadm().then(|| step.parse(names).ok()).flatten();
        matches!(request, Some(Parsed::Request { request: Request::Services(_), .. })) && step.exit == 0
    };
    let before = (0..saved).rev().take_while(is_list);
    before.chain((saved..steps.len()).take_while(is_list)).collect()
}

/// What `-S` wrote is what `-L` shows in its views, and both are printed from the same services.
#[test]
fn lists_are_printed_as_recorded() {
    let names = names();
    let mut compared = 0;
    for case in cases().iter().filter(|case| case.is_quiet) {
        for (place, step) in case.steps.iter().enumerate() {
            let Some(step) = step.as_ref().filter(|step| step.is_ipvsadm() && step.exit == 0) else { continue };
            let Ok(Parsed::Request { output, .. }) = step.parse(&names) else { continue };
            // `-b ` without a word: a flag that has no name.
            if !output.save || step.stdout.contains("-b \n") {
                continue;
            }
            let Some(services) = services_of(&step.stdout, &names) else { continue };
            for list in lists_around(&case.steps, place, &names) {
                let list = case.steps[list].as_ref().unwrap();
                let Ok(Parsed::Request { request, output }) = list.parse(&names) else { continue };
                // Thresholds are not saved, and the kernel's order is not known.
                if output.thresholds || output.nosort {
                    continue;
                }
                let mut shown = services.clone();
                if let Request::Services(Some(key)) = request {
                    shown.retain(|service| service.rule.key == key);
                }
                let mut text = String::new();
                let response = Response::Services { table_size: 4096, services: shown };
                render(&mut text, &request, &response, &output, &names);
                assert_eq!(text, list.stdout, "{}: {:?}", case.name, list.argv);
                compared += 1;
            }
        }
    }
    assert!(compared > 150, "{compared} lists");
}

/// Any words are taken or refused, never a panic; what is taken survives its canonical words.
#[test]
fn arbitrary_words_are_taken_or_refused() {
    const PIECES: [&str; 40] = [
        "-A",
        "-E",
        "-a",
        "-e",
        "-d",
        "-D",
        "-L",
        "-S",
        "-Z",
        "-t",
        "-u",
        "-f",
        "-6",
        "-r",
        "-m",
        "-i",
        "-g",
        "-s",
        "-p",
        "-M",
        "-b",
        "-o",
        "-w",
        "10.9.0.1:80",
        "[fd00:9::1]:80",
        "[::1.2.3.4]",
        "7",
        "é",
        "0x\u{1f600}",
        "=",
        "--",
        "-",
        "sh-port,",
        "sh",
        "--tun-type",
        "gue",
        "--tun-port=9",
        "--set",
        "--start-daemon",
        "master",
    ];
    let mut taken = 0;
    for seed in 0..40_000 {
        let mut rng = lvx::base::Rng::new(seed);
        let mut words: Vec<String> = Vec::new();
        for _ in 0..=rng.below(9) {
            let piece = PIECES[rng.below(PIECES.len() as u32) as usize];
            match words.last_mut().filter(|_| rng.below(5) == 0) {
                Some(last) => last.push_str(piece),
                None => words.push(piece.to_owned()),
            }
        }
        if let Ok(Parsed::Request { request, .. }) = parse("ipvsadm", &words, &names()) {
            taken += 1;
            match parse("ipvsadm", &request.to_words(), &NoNames) {
                Ok(Parsed::Request { request: again, .. }) => assert_eq!(again, request, "seed {seed}: {words:?}"),
                other => panic!("seed {seed}: {words:?}: {other:?}"),
            }
        }
    }
    assert!(taken > 100, "{taken}");
}
