//! Instructions a packet, counted by valgrind's callgrind, as a gate against regressions.
//!
//! Not with the crate gungraun: its runner is a second program to install, of exactly its version, and counts one run,
//! with its first batches; the difference of a long run and a short one leaves those out.
//!
//! Counts of two runs are the same to the last instruction: seeds are fixed, the worker's clock is virtual, nothing on
//! the way of a packet depends on addresses or on a map's random keys, frames are made outside of what is counted, and
//! the environment is empty. What remains of the machine is the C library's copying (below 1 %).

use std::process::{Command, ExitCode};

use crate::baseline::{Baseline, Judgement, TOLERANCE_PERCENT};
use crate::case::Case;

/// Flows at which cases are held to the baseline.
pub const FLOWS_GATE: u32 = 1000;

/// Under callgrind a table of ten million takes minutes, and instructions do not know how many there are.
const FLOWS_MOST: u32 = 100_000;

/// Packets of the short run and of the long one, whole batches.
const PACKETS: [u64; 2] = [6400, 64_000];

/// The compiler of this program, and what it compiled for.
const RUSTC: &str = env!("LVX_RUSTC");
const TARGET: &str = env!("LVX_TARGET");

/// Instructions a packet: callgrind's count of a long run less that of a short one.
pub fn count(case: Case, flows: u32) -> f64 {
    let [few, many] = PACKETS.map(|packets| collect(case, flows.min(FLOWS_MOST), packets));
    (many - few) as f64 / (PACKETS[1] - PACKETS[0]) as f64
}

/// Instructions of a run within `Director::step`, the functions it calls included.
fn collect(case: Case, flows: u32, packets: u64) -> u64 {
    let program = std::env::current_exe().expect("a benchmark has a path");
    let output = valgrind()
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null", "--collect-atstart=no"])
        .arg("--toggle-collect=*Director*step*")
        .arg(program)
        .args(["--single", "--case", case.name, "--flows", &flows.to_string()])
        .args(["--packets", &packets.to_string()])
        .output()
        .expect("valgrind is installed");
    let text = String::from_utf8_lossy(&output.stderr);
    let collected = text.lines().find_map(|line| line.split("Collected : ").nth(1));
    let number = collected.and_then(|number| number.trim().parse().ok());
    number.filter(|_| output.status.success()).unwrap_or_else(|| panic!("valgrind said: {text}"))
}

/// valgrind without the environment of whoever runs it, whose size and options would show in the count.
fn valgrind() -> Command {
    let mut command = Command::new("valgrind");
    command.env_clear().envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
    command
}

/// Why nothing can be counted here.
fn obstacle() -> Option<String> {
    if cfg!(debug_assertions) {
        return Some("this program is not optimised".to_string());
    }
    match valgrind().arg("--version").output() {
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(format!("valgrind: {}", String::from_utf8_lossy(&output.stderr).trim())),
        Err(error) => Some(format!("valgrind: {error} (Debian: apt-get install valgrind)")),
    }
}

/// One line a case.
pub fn print(plan: &[(Case, u32)]) {
    println!("{:<20} {:>9} {:>22}", "case", "flows", "instructions a packet");
    for &(case, flows) in plan {
        println!("{:<20} {flows:>9} {:>22.1}", case.name, count(case, flows));
    }
}

/// Counts all and holds them to the baseline in the file: fails when one is above it or has none.
pub fn check(path: &str, plan: &[(Case, u32)]) -> ExitCode {
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string());
    let baseline = match text.and_then(|text| Baseline::parse(&text)) {
        Ok(baseline) => baseline,
        Err(error) => {
            eprintln!("{path}: {error}");
            return ExitCode::FAILURE;
        }
    };
    if let Some(reason) = baseline.foreign_to(RUSTC, TARGET).or_else(obstacle) {
        println!("skipped: {reason}");
        return ExitCode::SUCCESS;
    }
    println!("{:<20} {:>9} {:>22} {:>9}", "case", "flows", "instructions a packet", "baseline");
    let (mut failed, mut lower) = (false, false);
    for &(case, flows) in plan {
        let instructions = count(case, flows);
        let judgement = baseline.judge(case.name, flows, instructions);
        let remark = match judgement {
            Judgement::Same => String::new(),
            Judgement::Above(percent) => format!("  {percent:.1} % ABOVE"),
            Judgement::Below(percent) => format!("  {percent:.1} % below"),
            Judgement::Missing => "  NO BASELINE".to_string(),
        };
        let before = baseline.find(case.name, flows).map_or("-".to_string(), |count| format!("{count:.1}"));
        println!("{:<20} {flows:>9} {instructions:>22.1} {before:>9}{remark}", case.name);
        failed |= judgement.is_failure();
        lower |= matches!(judgement, Judgement::Below(_));
    }
    let record = format!("cargo bench --bench forward -- --instructions --write {path}");
    if lower {
        println!("more than {TOLERANCE_PERCENT} % below the baseline: lower it, by {record}");
    }
    if !failed {
        return ExitCode::SUCCESS;
    }
    println!(
        "more than {TOLERANCE_PERCENT} % above the baseline, or none; what is meant to be so is recorded by {record}"
    );
    ExitCode::FAILURE
}

/// Counts all, twice, and records them in the file.
pub fn write(path: &str, plan: &[(Case, u32)]) -> ExitCode {
    if let Some(reason) = obstacle() {
        eprintln!("nothing is recorded: {reason}");
        return ExitCode::FAILURE;
    }
    let mut baseline = Baseline::new(RUSTC, TARGET);
    for &(case, flows) in plan {
        let instructions = count(case, flows);
        assert_eq!(instructions, count(case, flows), "{}: two runs give the same count", case.name);
        println!("{:<20} {flows:>9} {instructions:>22.1}", case.name);
        baseline.add(case.name, flows, instructions);
    }
    match std::fs::write(path, baseline.render()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{path}: {error}");
            ExitCode::FAILURE
        }
    }
}
