//! What workers cost each other: the pipeline in memory, as in `bench/forward`, with several workers over one set of
//! connections, services and destinations.
//!
//! `cargo bench --bench workers` has 1, 2 and as many workers as there are processors, each pinned to one of its own
//! (more workers than processors take turns, which the row says), in four patterns:
//! - *own*: every worker has flows of its own; only where two are in one bucket do workers meet,
//! - *same*: every worker has packets of all flows: buckets' locks and entries' lines move between processors,
//! - *split*: requests of masqueraded connections come to one worker, answers to the other,
//! - *new*: all workers open connections: the scheduler's lock, the pool's, the destinations' counts.
//!
//! The number of flows is that of all workers together, whatever their number; with *new*, of connections that exist
//! before. The table has been full before, so that the kernel gives no pages meanwhile; its used cells come back without
//! order. All begin at once, and the first that has taken its packets ends the run for all, so that none is measured
//! alone.
//!
//! A row has packets a second of all workers (the sum of what each does in the time of its rounds, the making of frames
//! not counted), that divided by what one worker does, and nanoseconds a packet, the median worker's and the slowest's.
//! *waited* is the most that a worker waited for its processor, of its time: where that is much, others were on it, and
//! the row says little of what workers cost each other.
//!
//! Options after `--`: `--pattern NAME,…`, `--flows N,…`, `--workers N,…`, `--packets N` (of a worker in a run),
//! `--runs N`, `--json FILE`, `--quick`. `--json` writes an array of objects with `pattern`, `case`, `flows`, `workers`,
//! `takes_turns`, `packets_per_second`, `ratio_to_one`, `waited` (a share) and `ns_per_packet` (of each worker); the
//! ratio is null where one worker was not measured.
//!
//! Every packet must leave, and new connections are counted exactly: else the benchmark fails. Times are not asserted.

#![allow(clippy::disallowed_methods)] // A benchmark reads the clock.

#[path = "forward/case.rs"]
mod case;
#[path = "forward/director.rs"]
mod director;
#[path = "workers/pattern.rs"]
mod pattern;
#[path = "forward/port.rs"]
mod port;

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Barrier};
use std::time::Instant;

use lvx::forward::Shared;
use lvx::port::BATCH_FRAMES;

use case::Case;
use director::Director;
use pattern::{NEW_MOST, PATTERNS, Pattern, Share};
use port::BenchPort;

struct Options {
    patterns: Vec<Pattern>,
    flows: Vec<u32>,
    workers: Vec<u32>,
    packets: u64,
    runs: usize,
    json: Option<String>,
}

fn options(processors: usize) -> Options {
    let mut workers = vec![1, 2, processors as u32];
    workers.sort_unstable();
    workers.dedup();
    let mut options = Options {
        patterns: PATTERNS.to_vec(),
        flows: vec![1000, 1_000_000],
        workers,
        packets: 2_000_000,
        runs: 5,
        json: None,
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().unwrap_or_else(|| usage());
        match word.as_str() {
            "--pattern" => {
                let patterns =
                    value().split(',').map(|word| Pattern::by_name(word).unwrap_or_else(|| usage())).collect();
                options.patterns = patterns;
            }
            "--flows" => options.flows = numbers(&value(), FLOWS_MOST),
            "--workers" => options.workers = numbers(&value(), WORKERS_MOST),
            "--packets" => options.packets = value().parse::<u64>().unwrap_or_else(|_| usage()).max(1),
            "--runs" => options.runs = value().parse::<usize>().unwrap_or_else(|_| usage()).max(1),
            "--json" => options.json = Some(value()),
            "--quick" => (options.packets, options.runs) = (300_000, 3),
            "--bench" => {}
            _ => usage(),
        }
    }
    // Each worker has a flow of its own.
    if options.flows.iter().min() < options.workers.iter().max() {
        usage();
    }
    options
}

/// Numbers of clients fit into 28 bits, those of all workers' new ones included.
const FLOWS_MOST: u32 = 10_000_000;
const WORKERS_MOST: u32 = 64;

fn numbers(list: &str, most: u32) -> Vec<u32> {
    let parse = |word: &str| word.parse().ok().filter(|number| (1..=most).contains(number));
    list.split(',').map(|word| parse(word).unwrap_or_else(|| usage())).collect()
}

fn usage() -> ! {
    let names: Vec<&str> = PATTERNS.iter().map(|pattern| pattern.name()).collect();
    eprintln!("options: --pattern NAME,…  --flows N,…  --workers N,…  --packets N  --runs N  --json FILE  --quick");
    eprintln!("patterns: {}", names.join(" "));
    eprintln!("at most {FLOWS_MOST} flows and {WORKERS_MOST} workers, no fewer flows than workers");
    std::process::exit(2)
}

/// What was measured of a pattern.
struct Row {
    pattern: Pattern,
    case: Case,
    flows: u32,
    workers: u32,
    takes_turns: bool,
    packets_per_second: f64,
    /// To one worker with the same.
    ratio: Option<f64>,
    /// Nanoseconds a packet of each worker.
    nanoseconds: Vec<f64>,
    /// Of the worker that waited most for its processor, the share of its time.
    waited: Option<f64>,
}

fn main() {
    let processors: Vec<usize> = core_affinity::get_core_ids().unwrap_or_default().iter().map(|id| id.id).collect();
    let options = options(processors.len().max(1));
    println!(
        "{} runs of {} packets a worker, the median; {} processors",
        options.runs,
        options.packets,
        processors.len()
    );
    println!(
        "{:<8} {:<18} {:>9} {:>8} {:>12} {:>7} {:>10} {:>10} {:>7}",
        "pattern", "case", "flows", "workers", "Mpackets/s", "ratio", "ns/packet", "slowest", "waited"
    );
    let mut rows = Vec::new();
    for &pattern in &options.patterns {
        for case in pattern.cases() {
            for &flows in &options.flows {
                let mut one = None;
                for &workers in options.workers.iter().filter(|&&workers| pattern.suits(workers)) {
                    let mut row = measure(pattern, case, flows, workers, &processors, &options);
                    if workers == 1 {
                        one = Some(row.packets_per_second);
                    }
                    row.ratio = one.map(|one| row.packets_per_second / one);
                    print(&row);
                    rows.push(row);
                }
            }
        }
    }
    if rows.iter().any(|row| row.takes_turns) {
        println!("*: more workers than processors; they take turns, and their times have those of the others in them");
    }
    if let Some(path) = &options.json {
        std::fs::write(path, json(&rows)).unwrap_or_else(|error| panic!("{path}: {error}"));
    }
}

fn print(row: &Row) {
    let mut nanoseconds = row.nanoseconds.clone();
    nanoseconds.sort_by(f64::total_cmp);
    let (median, slowest) = (nanoseconds[(nanoseconds.len() - 1) / 2], nanoseconds[nanoseconds.len() - 1]);
    let waited = row.waited.map_or("-".to_string(), |share| format!("{:.0} %", 100.0 * share));
    let ratio = row.ratio.map_or("-".to_string(), |ratio| format!("{ratio:.2}"));
    println!(
        "{:<8} {:<18} {:>9} {:>8} {:>12.2} {ratio:>7} {median:>10.1} {slowest:>10.1} {waited:>7}{}",
        row.pattern.name(),
        row.case.name,
        row.flows,
        row.workers,
        row.packets_per_second / 1e6,
        if row.takes_turns { " *" } else { "" }
    );
}

/// What one worker did in a run.
struct Done {
    packets: u64,
    nanoseconds: u128,
    /// The share of its time in which it waited for its processor; `None` where the kernel does not say.
    waited: Option<f64>,
}

impl Done {
    fn per_packet(&self) -> f64 {
        self.nanoseconds as f64 / self.packets as f64
    }
}

fn measure(pattern: Pattern, case: Case, flows: u32, workers: u32, processors: &[usize], options: &Options) -> Row {
    let known = (pattern != Pattern::New).then(|| Director::share(case, flows, 0, workers as usize));
    let run = |_| match &known {
        Some(shared) => contend(shared, pattern, case, flows, workers, processors, options.packets),
        None => open(case, flows, workers, processors, options.packets),
    };
    let rate = |run: &Vec<Done>| run.iter().map(|done| 1e9 / done.per_packet()).sum::<f64>();
    let mut runs: Vec<Vec<Done>> = (0..options.runs).map(run).collect();
    runs.sort_by(|one, other| rate(one).total_cmp(&rate(other)));
    let median = &runs[runs.len() / 2];
    Row {
        pattern,
        case,
        flows,
        workers,
        takes_turns: workers as usize > processors.len(),
        packets_per_second: rate(median),
        ratio: None,
        nanoseconds: median.iter().map(Done::per_packet).collect(),
        waited: median.iter().filter_map(|done| done.waited).max_by(f64::total_cmp),
    }
}

/// One run in which new connections are opened: a table with `flows` others, and the counts afterwards.
fn open(case: Case, flows: u32, workers: u32, processors: &[usize], packets: u64) -> Vec<Done> {
    // Each worker has a batch in hand when the run ends, and one before it begins.
    let each = packets.min(u64::from(NEW_MOST / workers)) as u32;
    let room = workers * (each + 2 * BATCH_FRAMES as u32);
    let shared = Director::share(case, flows, room, workers as usize);
    let before = counts(&shared, case);
    assert_eq!(before, [u64::from(flows), u64::from(flows), 0], "the others are there");
    let run = contend(&shared, Pattern::New, case, flows, workers, processors, u64::from(each));
    // Each packet opened one.
    let opened = shared.workers.iter().map(|worker| worker.counters.received.get()).sum::<u64>();
    assert!(opened >= run.iter().map(|done| done.packets).sum::<u64>());
    let all = u64::from(flows) + opened;
    assert_eq!(counts(&shared, case), [all, all, opened], "{}: every connection is counted once", case.name);
    run
}

/// Connections: in the table, of all destinations, and scheduled by the workers.
fn counts(shared: &Shared, case: Case) -> [u64; 3] {
    let (mut bound, mut scheduled) = (0, 0);
    for server in 0..case.servers() {
        let id = director::destination_id(server);
        let destination = shared.destinations.get(id);
        bound += u64::from(destination.active() + destination.inactive());
        scheduled += shared.workers.iter().map(|worker| worker.counters.destination(id).connections.get()).sum::<u64>();
    }
    [u64::from(shared.connections.used().0), bound, scheduled]
}

/// All workers at once, each over its share, until the first has taken so many packets.
fn contend(
    shared: &Arc<Shared>,
    pattern: Pattern,
    case: Case,
    flows: u32,
    workers: u32,
    processors: &[usize],
    packets: u64,
) -> Vec<Done> {
    let (barrier, is_over) = (Barrier::new(workers as usize), AtomicBool::new(false));
    let one = |number: u32| {
        if let Some(&id) = processors.get(number as usize % processors.len().max(1)) {
            // A machine that does not let us is measured as it is.
            let _ = core_affinity::set_for_current(core_affinity::CoreId { id });
        }
        let share = pattern.share(case, flows, number, workers);
        let mut director = Director::join(Arc::clone(shared), number as usize, port_of(share));
        // The first connection makes room for paths; known flows come into the cache, as far as it reaches.
        let warm_up = if pattern == Pattern::New { 1 } else { packets / 4 };
        take(&mut director, warm_up, &AtomicBool::new(false));
        barrier.wait();
        let done = take(&mut director, packets, &is_over);
        is_over.store(true, Relaxed);
        let counters = &shared.workers[number as usize].counters;
        assert_eq!(counters.transmitted.get(), counters.received.get(), "{}: every packet is sent", case.name);
        assert!(director.worker.port().transmitted >= done.packets, "{}: every packet is sent", case.name);
        done
    };
    let one = &one;
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..workers).map(|number| scope.spawn(move || one(number))).collect();
        threads.into_iter().map(|thread| thread.join().expect("no worker fails")).collect()
    })
}

fn port_of(share: Share) -> BenchPort {
    let mut port = BenchPort::new(share.case, share.flows);
    port.serve_from(share.first);
    port.start_at(share.start);
    port
}

/// Takes about `packets` packets through the worker, or at least one batch until the run is over; the making of the
/// frames is not in the time.
fn take(director: &mut Director, packets: u64, is_over: &AtomicBool) -> Done {
    let mut done = Done { packets: 0, nanoseconds: 0, waited: None };
    let (begin, before) = (Instant::now(), waited());
    while done.packets < packets {
        director.prepare();
        let start = Instant::now();
        done.packets += director.step();
        done.nanoseconds += start.elapsed().as_nanos();
        if is_over.load(Relaxed) {
            break;
        }
    }
    let passed = begin.elapsed().as_nanos() as f64;
    done.waited = waited().zip(before).map(|(after, before)| (after - before) as f64 / passed);
    done
}

/// Nanoseconds that this thread has been ready to run and has not run: other work was on its processor.
fn waited() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    text.split(' ').nth(1)?.parse().ok()
}

fn json(rows: &[Row]) -> String {
    let round = |value: f64| (value * 10.0).round() / 10.0;
    let rows: Vec<serde_json::Value> = rows
        .iter()
        .map(|row| {
            serde_json::json!({
                "pattern": row.pattern.name(),
                "case": row.case.name,
                "flows": row.flows,
                "workers": row.workers,
                "takes_turns": row.takes_turns,
                "packets_per_second": row.packets_per_second.round(),
                "ratio_to_one": row.ratio.map(|ratio| (ratio * 1000.0).round() / 1000.0),
                "waited": row.waited.map(|share| (share * 1000.0).round() / 1000.0),
                "ns_per_packet": row.nanoseconds.iter().copied().map(round).collect::<Vec<_>>(),
            })
        })
        .collect();
    serde_json::to_string_pretty(&rows).expect("names and numbers are JSON") + "\n"
}
