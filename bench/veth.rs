//! The director on veth, beside the bare AF_XDP floor and the kernel's own forwarding, all in the same run.
//!
//! `cargo bench --bench veth`, as root. Without the rights or `ip` it prints *skipped* and why, and that is all.
//!
//! # What it measures
//! A generator (an AF_XDP port of its own) sends 60-octet UDP frames of N flows in turn, as fast as its ring takes
//! them, every frame written anew. The subject carries them to the servers' interface, where a program in the driver
//! drops and counts them. Rates are frames that arrived by the time of the measurement. Subjects:
//! - *floor*: the same port, the same XDP program, the same loop; new link addresses and out by the other interface.
//!   What AF_XDP on veth costs without any director.
//! - *lvx dr|nat|ipip*: the worker that lvxd runs, configured by its control: one UDP service, `wlc`, four servers.
//!   All connections are made before the measurement begins.
//! - *kernel ip_forward*: the kernel routes the same frames, without any XDP program at the director.
//!
//! For each run all subjects take their turn, so that a noisy neighbour disturbs them alike; *ratio* is the median of
//! each run's ratio to the floor of that run. `--latency` adds UDP round trips through the same subjects, by sockets.
//!
//! # How to read it
//! **veth is copy mode: these are no line rates.** Some 600 ns of each frame are the kernel's `sendto`, work of the
//! receiving veth included, so the ratio says how much a director adds to a port on this machine, not how fast it is
//! on a NIC. *ns* is the processor time of the director's thread for each frame that arrived, system calls and spinning
//! included: it suffers less than the rates when others use the processors too. `cargo bench --bench forward` has the nanoseconds of the pipeline alone. Lost frames were offered beyond
//! what the subject takes: *lost in* before the director took them from its ring, *lost out* after it had sent them.
//! The kernel has no ring of ours to look at, so all its loss is *lost in*. The kernel forwards within the
//! generator's system call, on the generator's processor: its rate is that of one processor that does everything,
//! the others' that of two.
//!
//! # What it asserts
//! Nothing about times. Before the measurement a sample of frames is compared octet by octet with what the method
//! asks for, and the server of each with its connection. Each run must drop nothing in the director and give back
//! every chunk of the packet memory.
//!
//! Options after `--`: `--flows N,…`, `--method dr|nat|ipip,…`, `--seconds S` (a measurement), `--runs N`,
//! `--latency` (round trips too), `--no-kernel`.

#![allow(clippy::disallowed_methods)] // Real traffic runs in real time, on threads within namespaces.

use std::time::{Duration, Instant};

use lvx::host::xdp::Xdp;
use lvx::service::Method;

#[path = "veth/latency.rs"]
mod latency;
#[path = "veth/net.rs"]
mod net;
#[path = "veth/subject.rs"]
mod subject;
#[path = "veth/traffic.rs"]
mod traffic;

use latency::Answers;
use net::{Net, Sink};
use subject::{Director, Subject, Traffic};
use traffic::{FLOWS_MAX, Generator, Tap};

/// Flows and frames of the sample that is checked: one batch at a time, so that no queue overflows.
const SAMPLE_FLOWS: u32 = 64;
const SAMPLE_ROUNDS: u32 = 4;

/// How long a subject may take to make all connections under full load.
const WARM_UP_MAX: Duration = Duration::from_secs(60);

/// Load before the measurement, at least.
const WARM_UP_MIN: Duration = Duration::from_millis(200);

/// Where the threads run; `None` where the system does not say.
struct Cpus {
    generator: Option<usize>,
    director: Option<usize>,
}

impl Cpus {
    /// The generator on the first processor, the director on the last.
    fn choose() -> Self {
        let all: Vec<usize> = core_affinity::get_core_ids().unwrap_or_default().iter().map(|id| id.id).collect();
        Self { generator: all.first().copied(), director: all.last().copied() }
    }
}

/// Pins this thread.
fn pin(cpu: Option<usize>) {
    if let Some(id) = cpu {
        // A machine that does not let us is measured as it is.
        let _ = core_affinity::set_for_current(core_affinity::CoreId { id });
    }
}

struct Options {
    flows: Vec<u32>,
    methods: Vec<Method>,
    seconds: f64,
    runs: usize,
    latency: bool,
    kernel: bool,
}

fn options() -> Options {
    let mut options = Options {
        flows: vec![1, 1000, 100_000],
        methods: vec![Method::DirectRouting, Method::Masquerading, Method::Tunnelling],
        seconds: 1.0,
        runs: 5,
        latency: false,
        kernel: true,
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().unwrap_or_else(|| usage());
        match word.as_str() {
            "--flows" => {
                let parse = |word: &str| word.parse().ok().filter(|flows| (1..=FLOWS_MAX).contains(flows));
                options.flows = value().split(',').map(|word| parse(word).unwrap_or_else(|| usage())).collect();
            }
            "--method" => {
                let parse = |word: &str| match word {
                    "dr" => Method::DirectRouting,
                    "nat" => Method::Masquerading,
                    "ipip" => Method::Tunnelling,
                    _ => usage(),
                };
                options.methods = value().split(',').map(parse).collect();
            }
            "--seconds" => {
                let seconds = value().parse().ok().filter(|seconds| (0.01..=3600.0).contains(seconds));
                options.seconds = seconds.unwrap_or_else(|| usage());
            }
            "--runs" => {
                options.runs = value().parse().ok().filter(|runs| (1..=1000).contains(runs)).unwrap_or_else(|| usage());
            }
            "--latency" => options.latency = true,
            "--no-kernel" => options.kernel = false,
            "--bench" => {}
            _ => usage(),
        }
    }
    options
}

fn usage() -> ! {
    eprintln!("options: --flows N,…  --method dr|nat|ipip,…  --seconds S  --runs N  --latency  --no-kernel");
    std::process::exit(2)
}

fn main() {
    let options = options();
    let net = match rights() {
        Ok(net) => net,
        Err(why) => return println!("skipped: {why}"),
    };
    if let Err(error) = run(&net, &options) {
        eprintln!("veth: {error}");
        std::process::exit(1);
    }
}

/// Namespaces, or which rights or tools are missing.
fn rights() -> Result<Net, String> {
    let net = Net::new()?;
    net.director.ip("link set lo up\n")?;
    net.director.run(Xdp::load).map_err(|error| error.to_string())?;
    Ok(net)
}

fn run(net: &Net, options: &Options) -> Result<(), String> {
    net.build()?;
    let cpus = Cpus::choose();
    let mut subjects = vec![Subject::Floor];
    if options.kernel {
        subjects.push(Subject::Kernel);
    }
    subjects.extend(options.methods.iter().map(|method| Subject::Lvx(*method)));
    print_placement(&cpus);
    for &subject in &subjects {
        check(net, subject, &cpus)?;
    }
    println!(
        "checked octet by octet: {} frames of {SAMPLE_FLOWS} flows for each subject",
        SAMPLE_FLOWS * SAMPLE_ROUNDS
    );
    throughput(net, options, &subjects, &cpus)?;
    if options.latency {
        round_trips(net, options, &cpus)?;
    }
    Ok(())
}

fn print_placement(cpus: &Cpus) {
    let name = |cpu: Option<usize>| cpu.map_or("any processor".to_string(), |cpu| format!("processor {cpu}"));
    println!("veth, AF_XDP copy mode: not a claim of line rate; compare with the floor of the same run");
    println!(
        "generator and the director's receiving side in the kernel on {}; director and the servers' receiving side \
         on {}; the director spins shortly, then polls",
        name(cpus.generator),
        name(cpus.director)
    );
}

/// Sends a sample through a subject and compares what arrives with what should.
fn check(net: &Net, subject: Subject, cpus: &Cpus) -> Result<(), String> {
    let tap = Tap::open(net)?;
    let director = Director::start(net, subject, SAMPLE_FLOWS, Traffic::OneWay, cpus.director)?;
    let mut samples = Vec::new();
    for _ in 0..SAMPLE_ROUNDS {
        Generator::start(net, SAMPLE_FLOWS, SAMPLE_FLOWS.into(), cpus.generator)?.finish();
        for _ in 0..SAMPLE_FLOWS {
            samples.push(tap.next().unwrap_or_else(|| panic!("{subject}: {} frames arrive", samples.len())));
        }
    }
    let report = director.stop(net);
    let mut seen = vec![0; SAMPLE_FLOWS as usize];
    for sample in &samples {
        let (flow, server) = traffic::identify(subject, sample);
        seen[flow as usize] += 1;
        let expected = traffic::expected(subject, &traffic::frame(flow), server);
        assert_eq!(*sample, expected, "{subject}: flow {flow}\n got {sample:02x?}\nwant {expected:02x?}");
        if matches!(subject, Subject::Lvx(_)) {
            let client = traffic::client(flow);
            let row = report.connections.iter().find(|(known, _)| *known == client);
            let (_, destination) = row.unwrap_or_else(|| panic!("{subject}: flow {flow} has a connection"));
            assert_eq!(destination.address, net::server(server).address, "{subject}: flow {flow}");
        }
    }
    assert!(seen.iter().all(|count| *count == SAMPLE_ROUNDS), "{subject}: every flow arrives: {seen:?}");
    Ok(())
}

/// One run of one subject.
#[derive(Clone, Copy)]
struct Measurement {
    /// Millions of frames a second.
    offered: f64,
    arrived: f64,
    /// Processor time of the director's thread for each frame.
    processor_ns: f64,
    /// Shares of all frames sent, in percent.
    lost_in: f64,
    lost_out: f64,
}

fn throughput(net: &Net, options: &Options, subjects: &[Subject], cpus: &Cpus) -> Result<(), String> {
    let _sink = Sink::attach(net)?;
    println!(
        "\nmillions of frames a second, {} runs of {} s; {} octets a frame",
        options.runs,
        options.seconds,
        traffic::FRAME_OCTETS
    );
    println!(
        "{:<18} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8} {:>9} {:>9}",
        "subject", "flows", "median", "min", "max", "ratio", "ns", "offered", "lost in", "lost out"
    );
    for &flows in &options.flows {
        let mut runs: Vec<Vec<Measurement>> = vec![Vec::new(); subjects.len()];
        for _ in 0..options.runs {
            for (subject, runs) in subjects.iter().zip(&mut runs) {
                runs.push(measure(net, *subject, flows, options.seconds, cpus)?);
            }
        }
        for (subject, mine) in subjects.iter().zip(&runs) {
            let of = |value: fn(&Measurement) -> f64| sorted(mine.iter().map(value).collect());
            let arrived = of(|run| run.arrived);
            let ratios = sorted(mine.iter().zip(&runs[0]).map(|(run, floor)| run.arrived / floor.arrived).collect());
            println!(
                "{subject:<18} {flows:>8} {:>8.3} {:>8.3} {:>8.3} {:>8.2} {:>8.0} {:>8.3} {:>8.1}% {:>8.3}%",
                median(&arrived),
                arrived[0],
                arrived[arrived.len() - 1],
                median(&ratios),
                median(&of(|run| run.processor_ns)),
                median(&of(|run| run.offered)),
                median(&of(|run| run.lost_in)),
                median(&of(|run| run.lost_out)),
            );
        }
    }
    Ok(())
}

fn measure(net: &Net, subject: Subject, flows: u32, seconds: f64, cpus: &Cpus) -> Result<Measurement, String> {
    let before = net.arrived();
    let director = Director::start(net, subject, flows, Traffic::OneWay, cpus.director)?;
    let generator = Generator::start(net, flows, u64::MAX, cpus.generator)?;
    let start = Instant::now();
    while !director.is_warm() || start.elapsed() < WARM_UP_MIN {
        assert!(start.elapsed() < WARM_UP_MAX, "{subject}: {flows} connections are made");
        std::thread::sleep(Duration::from_millis(10));
    }
    // All three within the namespace, so that nothing but the reads lies between the times.
    let (arrived, sent, used_ns, time) = net.server.run(|| {
        let read = || (net::received_by("e"), generator.sent(), director.processor_ns(), Instant::now());
        let first = read();
        std::thread::sleep(Duration::from_secs_f64(seconds));
        let last = read();
        (last.0 - first.0, last.1 - first.1, last.2 - first.2, (last.3 - first.3).as_secs_f64())
    });
    assert!(arrived > 0, "{subject}: frames arrive");
    let sent_in_all = generator.stop();
    let arrived_in_all = settled(net) - before;
    let taken = director.transmitted();
    director.stop(net);
    let lost_out = taken.saturating_sub(arrived_in_all);
    let lost = sent_in_all.saturating_sub(arrived_in_all);
    let percent = |frames: u64| 100.0 * frames as f64 / sent_in_all as f64;
    Ok(Measurement {
        offered: sent as f64 / time / 1e6,
        arrived: arrived as f64 / time / 1e6,
        processor_ns: used_ns as f64 / arrived as f64,
        lost_in: percent(lost - lost_out),
        lost_out: percent(lost_out),
    })
}

/// Frames that have arrived, once no more come.
fn settled(net: &Net) -> u64 {
    let mut last = net.arrived();
    loop {
        std::thread::sleep(Duration::from_millis(20));
        let now = net.arrived();
        if now == last {
            return now;
        }
        last = now;
    }
}

fn sorted(mut values: Vec<f64>) -> Vec<f64> {
    values.sort_by(f64::total_cmp);
    values
}

fn median(sorted: &[f64]) -> f64 {
    sorted[sorted.len() / 2]
}

fn round_trips(net: &Net, options: &Options, cpus: &Cpus) -> Result<(), String> {
    println!(
        "\nUDP round trips, microseconds, {} runs of {} s; client and echo on one processor",
        options.runs, options.seconds
    );
    println!("{:<18} {:>9} {:>8} {:>8} {:>8} {:>9}", "subject", "answers", "p50", "p99", "p99.9", "trips");
    let mut ways: Vec<Answers> = Vec::new();
    for method in &options.methods {
        if !ways.contains(&Answers::of(*method)) {
            ways.push(Answers::of(*method));
        }
    }
    for answers in ways {
        let mut subjects = vec![Subject::Floor];
        if options.kernel {
            subjects.push(Subject::Kernel);
        }
        let mine = options.methods.iter().filter(|method| Answers::of(**method) == answers);
        subjects.extend(mine.map(|method| Subject::Lvx(*method)));
        let mut sums: Vec<Option<hdrhistogram::Histogram<u64>>> = vec![None; subjects.len()];
        for _ in 0..options.runs {
            for (subject, sum) in subjects.iter().zip(&mut sums) {
                let histogram = latency::measure(net, *subject, answers, options.seconds, cpus)?;
                match sum {
                    Some(sum) => sum.add(&histogram).expect("histograms of the same bounds"),
                    None => *sum = Some(histogram),
                }
            }
        }
        for (subject, sum) in subjects.iter().zip(sums) {
            let Some(sum) = sum else { continue };
            let at = |quantile: f64| sum.value_at_quantile(quantile) as f64 / 1e3;
            let (p50, p99, p999) = (at(0.5), at(0.99), at(0.999));
            println!("{subject:<18} {:>9} {p50:>8.1} {p99:>8.1} {p999:>8.1} {:>9}", answers.name(), sum.len());
        }
    }
    Ok(())
}
