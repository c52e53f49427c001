//! The whole pipeline in memory: parse, services, connection with TCP state, timer, counters, rewrite, route. No NIC.
//!
//! `cargo bench --bench forward` prints nanoseconds a packet: of one round of the worker (take the batch, forward it,
//! sweep its share of the table), without the making of the frames, whose headers are in the cache. Beside it two floors
//! of the same run, without a director:
//! - *copy*: a loop that takes the same frames and copies their headers,
//! - *touch*: that loop with one prefetched random touch of a table of one line a flow.
//!
//! Options after `--`: `--flows N,…`, `--case NAME,…`, `--packets N` (a run), `--runs N`, `--json FILE`, `--quick`;
//! `--instructions` counts instructions with valgrind's callgrind instead of time; with `--check FILE` it holds all
//! cases to the counts recorded there ([`instructions`]), with `--write FILE` it records them anew. `--json` writes both
//! times and counts, with the memory of a connection, as an array of `{"case","flows","ns_per_packet",
//! "instructions_per_packet","bytes_per_connection"}`; figures that are not known are null.
//!
//! A last line says what measuring for `lvx latency` costs a worker.
//!
//! Every packet must leave, and nothing may be allocated: else the benchmark fails.

#![allow(clippy::disallowed_methods)] // A benchmark reads the clock.

#[path = "forward/baseline.rs"]
mod baseline;
#[path = "forward/case.rs"]
mod case;
#[path = "forward/director.rs"]
mod director;
#[path = "forward/instructions.rs"]
mod instructions;
#[path = "forward/port.rs"]
mod port;

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use lvx::base::memory::{Line, Slab};
use lvx::forward::latency::LatencyCounters;
use lvx::host::clock::Clock;
use lvx::port::BATCH_FRAMES;
use lvx::worker::BATCHES_PER_SAMPLE;

use case::{CASES, Case, Traffic};
use director::Director;
use port::BenchPort;

/// Counts allocations, so that the benchmark can say that the pipeline makes none.
struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Relaxed);
        // SAFETY: the caller's contract is the system's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Relaxed);
        // SAFETY: the caller's contract is the system's.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's contract is the system's.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Flows that `--json` and a run without options go through.
const FLOWS: &[u32] = &[1, 1000, 128_000, 1_000_000];
/// Of the first case also so many: more than any cache holds.
const FLOWS_MOST: u32 = 10_000_000;

/// Connections that exist while new ones are made in the last row of `new-*`.
const OTHERS: u32 = 10_000_000;

/// What was measured of a case.
struct Row {
    case: Case,
    flows: u32,
    /// Nanoseconds a packet: of the pipeline, and of the two floors.
    total: f64,
    copy: f64,
    touch: f64,
    /// Octets of the table for each connection that it has room for.
    octets: Option<f64>,
    instructions: Option<f64>,
}

struct Options {
    flows: Option<Vec<u32>>,
    cases: Vec<Case>,
    packets: u64,
    runs: usize,
    json: Option<String>,
    instructions: bool,
    /// Files to hold the counts to, and to record them in.
    check: Option<String>,
    write: Option<String>,
    single: bool,
}

fn options() -> Options {
    let mut options = Options {
        flows: None,
        cases: CASES.to_vec(),
        packets: 2_000_000,
        runs: 7,
        json: None,
        instructions: false,
        check: None,
        write: None,
        single: false,
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().unwrap_or_else(|| usage());
        match word.as_str() {
            "--flows" => {
                let flows = value().split(',').map(|word| word.parse().unwrap_or_else(|_| usage())).collect();
                options.flows = Some(flows);
            }
            "--case" => {
                options.cases = value().split(',').map(|word| Case::by_name(word).unwrap_or_else(|| usage())).collect();
            }
            "--packets" => options.packets = value().parse().unwrap_or_else(|_| usage()),
            "--runs" => options.runs = value().parse::<usize>().unwrap_or_else(|_| usage()).max(1),
            "--json" => options.json = Some(value()),
            "--quick" => (options.packets, options.runs) = (300_000, 3),
            "--instructions" => options.instructions = true,
            "--check" => options.check = Some(value()),
            "--write" => options.write = Some(value()),
            "--single" => options.single = true,
            "--bench" => {}
            _ => usage(),
        }
    }
    let has_file = options.check.is_some() || options.write.is_some();
    if has_file && (!options.instructions || options.json.is_some()) {
        usage();
    }
    // A file holds all cases.
    if options.write.is_some() && (options.check.is_some() || options.cases.len() < CASES.len()) {
        usage();
    }
    options
}

fn usage() -> ! {
    let names: Vec<&str> = CASES.iter().map(|case| case.name).collect();
    eprintln!("options: --flows N,…  --case NAME,…  --packets N  --runs N  --json FILE  --quick");
    eprintln!("instructions instead of time: --instructions [--check FILE | --write FILE]");
    eprintln!("cases: {}", names.join(" "));
    std::process::exit(2)
}

fn main() -> ExitCode {
    let options = options();
    if options.single {
        // For callgrind, which counts within `Director::step` alone.
        let flows = options.flows.as_ref().map_or(1, |flows| flows[0]);
        run(&mut Director::new(options.cases[0], flows), options.packets);
        return ExitCode::SUCCESS;
    }
    match (&options.check, &options.write) {
        (Some(path), _) => return instructions::check(path, &gate(&options)),
        (_, Some(path)) => return instructions::write(path, &gate(&options)),
        _ => {}
    }
    if options.instructions && options.json.is_none() {
        instructions::print(&plan(&options));
        return ExitCode::SUCCESS;
    }
    println!("ns a packet, median (least) of {} runs of {} packets", options.runs, options.packets);
    println!(
        "{:<20} {:>9} {:>9} {:>9} {:>9} {:>9} {:>12}",
        "case", "flows", "median", "least", "copy", "touch", "octets/conn"
    );
    let rows: Vec<Row> = plan(&options).into_iter().map(|(case, flows)| measure(case, flows, &options)).collect();
    measuring(&options);
    if let Some(path) = &options.json {
        std::fs::write(path, json(&rows)).unwrap_or_else(|error| panic!("{path}: {error}"));
    }
    ExitCode::SUCCESS
}

/// The cases and flows of the gate.
fn gate(options: &Options) -> Vec<(Case, u32)> {
    let flows = options.flows.as_deref().unwrap_or(&[instructions::FLOWS_GATE]);
    options.cases.iter().flat_map(|&case| flows.iter().map(move |&flows| (case, flows))).collect()
}

/// The cases and flows of a run.
fn plan(options: &Options) -> Vec<(Case, u32)> {
    let mut plan = Vec::new();
    for &case in &options.cases {
        for &flows in options.flows.as_deref().unwrap_or(FLOWS) {
            plan.push((case, flows));
        }
        let has_most = case.name == "dr-tcp4" || case.traffic == Traffic::New;
        if options.flows.is_none() && has_most {
            plan.push((case, FLOWS_MOST));
        }
    }
    plan
}

/// Takes about `packets` packets through the worker; nanoseconds a packet, the making of the frames not counted.
fn run(director: &mut Director, packets: u64) -> f64 {
    let (mut done, mut nanoseconds) = (0, 0);
    while done < packets {
        director.prepare();
        let start = Instant::now();
        done += director.step();
        nanoseconds += start.elapsed().as_nanos();
    }
    nanoseconds as f64 / done as f64
}

fn measure(case: Case, flows: u32, options: &Options) -> Row {
    let (totals, octets) = match case.traffic {
        Traffic::Known | Traffic::BothWays | Traffic::Answers => known(case, flows, options),
        Traffic::New => (opened(case, flows, options), None),
        Traffic::Flood => (flooded(case, flows, options), None),
    };
    let floor =
        |touch| median(&(0..options.runs).map(|_| floor(case, flows, options.packets, touch)).collect::<Vec<_>>());
    let (copy, touch) = (floor(false), floor(true));
    let least = totals.iter().copied().fold(f64::INFINITY, f64::min);
    let instructions = options.instructions.then(|| instructions::count(case, flows));
    let row = Row { case, flows, total: median(&totals), copy, touch, octets, instructions };
    let octets = row.octets.map_or("-".to_string(), |octets| format!("{octets:.1}"));
    println!("{:<20} {flows:>9} {:>9.1} {least:>9.1} {copy:>9.1} {touch:>9.1} {octets:>12}", case.name, row.total);
    row
}

fn known(case: Case, flows: u32, options: &Options) -> (Vec<f64>, Option<f64>) {
    let mut director = Director::new(case, flows);
    let octets = Some(director.octets_per_connection(case.v6));
    run(&mut director, options.packets / 4);
    let (allocations, transmitted) = (ALLOCATIONS.load(Relaxed), director.worker.port().transmitted);
    let totals: Vec<f64> = (0..options.runs).map(|_| run(&mut director, options.packets)).collect();
    let allocations = ALLOCATIONS.load(Relaxed) - allocations;
    let transmitted = director.worker.port().transmitted - transmitted;
    assert!(transmitted >= options.packets * options.runs as u64, "{}: every packet is sent", case.name);
    // The vector of the results themselves.
    assert!(allocations <= 1, "{}: the pipeline allocates nothing", case.name);
    (totals, octets)
}

/// Each run fills a table with new connections, in which [`OTHERS`] are already when as many are asked for.
fn opened(case: Case, flows: u32, options: &Options) -> Vec<f64> {
    let packets = options.packets.min(u64::from(flows).max(1)).min(1_000_000);
    let others = if flows >= OTHERS { OTHERS } else { 0 };
    let runs = if others > 0 { options.runs.min(3) } else { options.runs };
    let one = |_| {
        let room = others + packets as u32 + 2 * BATCH_FRAMES as u32;
        let mut director = Director::with_table(case, flows, room.max(1 << 20));
        director.occupy(case, 1 << 28, others);
        // The first connection makes room for paths; then nothing is allocated any more.
        run(&mut director, BATCH_FRAMES as u64);
        let (allocations, transmitted) = (ALLOCATIONS.load(Relaxed), director.worker.port().transmitted);
        let total = run(&mut director, packets);
        assert_eq!(ALLOCATIONS.load(Relaxed), allocations, "{}: the pipeline allocates nothing", case.name);
        assert!(director.worker.port().transmitted - transmitted >= packets, "{}: every packet is sent", case.name);
        let (used, _) = director.shared.connections.used();
        assert!(u64::from(used) >= packets, "{}: connections were opened", case.name);
        total
    };
    (0..runs).map(one).collect()
}

/// New clients meet a table that is full of clients that never came back.
fn flooded(case: Case, flows: u32, options: &Options) -> Vec<f64> {
    let mut director = Director::new(case, flows);
    let (used, _) = director.shared.connections.used();
    run(&mut director, options.packets / 4);
    // The reading of the memory's size allocates itself.
    let before = resident();
    let allocations = ALLOCATIONS.load(Relaxed);
    let totals: Vec<f64> = (0..options.runs).map(|_| run(&mut director, options.packets)).collect();
    assert!(ALLOCATIONS.load(Relaxed) - allocations <= 1, "{}: the pipeline allocates nothing", case.name);
    assert!(resident() <= before + (1 << 20), "{}: memory stays as it was", case.name);
    assert!(director.shared.connections.used().0 <= used, "{}: the table stays full", case.name);
    totals
}

/// What [`lvx::worker::Worker::step_timed`] adds to a step with frames: a count, and of some a look at the clock and
/// another count.
fn measuring(options: &Options) {
    let (latency, clock) = (LatencyCounters::default(), Clock::start());
    let allocations = ALLOCATIONS.load(Relaxed);
    let run = |_| {
        let start = Instant::now();
        for batch in 0..options.packets {
            // A few microseconds, of many cells.
            latency.count_wait(black_box(std::time::Duration::from_nanos(2000 + batch % 4096)), BATCH_FRAMES);
            if batch.is_multiple_of(u64::from(BATCHES_PER_SAMPLE)) {
                latency.count_residence(clock.now() - lvx::base::Instant::START, BATCH_FRAMES);
            }
        }
        start.elapsed().as_nanos() as f64 / options.packets as f64
    };
    // Only the vector's own is to be seen.
    let times: Vec<f64> = (0..options.runs).map(run).collect();
    assert!(ALLOCATIONS.load(Relaxed) - allocations <= 1, "measuring allocates nothing");
    println!("measuring for `lvx latency`: {:.1} ns a batch, whatever its size", median(&times));
}

/// The loop without a director, with or without a touch of a table of one line a flow.
fn floor(case: Case, flows: u32, packets: u64, touch: bool) -> f64 {
    let mut port = BenchPort::new(case, flows);
    port.touched = (touch && case.is_known()).then(|| {
        let table = Slab::new(flows as usize);
        for line in table.iter() {
            let line: &Line<16> = line;
            line.0[0].store(1, Relaxed);
        }
        table
    });
    let mut batch = Vec::with_capacity(BATCH_FRAMES);
    let (mut done, mut nanoseconds) = (0, 0);
    while done < packets {
        port.prepare();
        let start = Instant::now();
        done += port.take(black_box(&mut batch));
        nanoseconds += start.elapsed().as_nanos();
    }
    nanoseconds as f64 / done as f64
}

/// Octets of memory that the process has touched.
fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").expect("the process has a memory map");
    let pages: u64 = text.split(' ').nth(1).and_then(|word| word.parse().ok()).expect("its second word is a number");
    pages * 4096
}

fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn json(rows: &[Row]) -> String {
    let number = |value: Option<f64>| value.map(|value| (value * 10.0).round() / 10.0);
    let rows: Vec<serde_json::Value> = rows
        .iter()
        .map(|row| {
            serde_json::json!({
                "case": row.case.name,
                "flows": row.flows,
                "ns_per_packet": number(Some(row.total)),
                "instructions_per_packet": number(row.instructions),
                "bytes_per_connection": number(row.octets),
                "copy_ns": number(Some(row.copy)),
                "touch_ns": number(Some(row.touch)),
            })
        })
        .collect();
    serde_json::to_string_pretty(&rows).expect("numbers and names are JSON") + "\n"
}
