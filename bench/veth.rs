//! The director on veth, beside the bare AF_XDP floor and the kernel's own forwarding, all in the same run.
//!
//! `cargo bench --bench veth`, as root. Without the rights or `ip` it prints *skipped* and why, and that is all.
//!
//! # What it measures
//! A generator (an AF_XDP port of its own) sends 60-octet UDP frames of N flows in turn, every frame written anew. The
//! subject carries them to the servers' interface, which counts them and whose stack drops them at their link address.
//! Subjects:
//! - *floor*: the same port, the same XDP program, the same loop; new link addresses and out by the other interface.
//!   What AF_XDP on veth costs without any director.
//! - *lvx dr|nat|ipip*: the worker that lvxd runs, configured by its control: one UDP service, `wlc`, four servers.
//!   All connections are made before the measurement begins.
//! - *kernel ip_forward*: the kernel routes the same frames, without any XDP program at the director.
//!
//! For each run all subjects take their turn, so that a noisy neighbour disturbs them alike; *ratio* is the median of
//! each run's ratio to the floor of that run. `--latency` adds UDP round trips through the same subjects, by sockets:
//! one at a time, and under load.
//!
//! # How to read it
//! **veth is copy mode: these are no line rates.** Most of the time of a frame is the kernel's `sendto`, the work of
//! the receiving veth included. So the ratio says how much a director adds to a port on this machine, not how fast
//! it is on a NIC; `cargo bench --bench forward` has the nanoseconds of the pipeline alone.
//! - *median, min, max, ns, ratio*: **bursts**. The director rests while the generator fills its ring with 1024
//!   frames, then empties it while the generator rests. *ns* is the processor time of its thread for a frame, system
//!   calls included, the rates are its inverse: what one worker does when it always has full batches.
//! - *flood, lost in, lost out*: both at once, as fast as the generator's ring takes frames; frames that arrived by the
//!   time. The kernel makes the generator pay for each frame's way up to the director's ring, more than the director
//!   pays. So without loss the flood is the generator's rate, not the director's. *Lost in* are frames that were
//!   gone before the director took them from its ring, *lost out* those that it sent and that did not arrive.
//! - The kernel forwards within the generator's system call, on the generator's processor. It has no ring to be filled,
//!   hence no bursts, and its loss is all *lost in*. Its flood is the work of one processor, the others' of two.
//!
//! - *under load* (`--latency`): the generator sends by the clock, 50 % and 90 % of the subject's flood of this very run
//!   with the last number of `--flows`; *Mpps* is what it came to, *lost* which share of it did not arrive. On the left
//!   round trips begun every 250 us, whatever became of those before, and those that did not come back; on the right the
//!   residence times that the worker measures as lvxd's do (`lvx latency`), the longest that it did not look into its
//!   rings while frames came, and *off*, the share of time that it waited for its processor because others had it (that
//!   alone can explain long waits on a busy machine). *control* is what control does meanwhile, *rounds* how often it did: `listing`, all
//!   connections as for `-L -c -n`; `restore`, ten thousand services of four servers each made and removed. It runs
//!   beside the generator where there are only two processors, so there the round trips, whose ends are there as well,
//!   and the load pay for it; what a worker is held up by shows on the right. Without loss, 90 % of a flood
//!   is nearly all that the *generator* can do, and not the director.
//!
//! # What it asserts
//! Nothing about times. Before the measurement a sample of frames is compared octet by octet with what the method
//! asks for, and the server of each with its connection. Each run must drop nothing in the director and give back
//! every chunk of the packet memory: to the chunk where frames go one way, to a portion of the fill ring in round
//! trips.
//!
//! Options after `--`: `--flows N,…`, `--method dr|nat|ipip,…`, `--seconds S` (of bursts, flood and round trips
//! each), `--runs N`, `--latency` (round trips too), `--no-kernel`.
//!
//! With `--profile FILE` it is one trial of a described stream at a given rate instead: see `veth/trial.rs`.

#![allow(clippy::disallowed_methods)] // Real traffic runs in real time, on threads within namespaces.

use std::time::{Duration, Instant};

use lvx::host::xdp::Xdp;
use lvx::service::Method;

#[path = "veth/bursts.rs"]
mod bursts;
#[path = "veth/latency.rs"]
mod latency;
#[path = "veth/loaded.rs"]
mod loaded;
#[path = "veth/net.rs"]
mod net;
#[path = "veth/profile.rs"]
mod profile;
#[path = "veth/samples.rs"]
mod samples;
#[path = "veth/steering.rs"]
mod steering;
#[path = "veth/stream.rs"]
mod stream;
#[path = "veth/subject.rs"]
mod subject;
#[path = "veth/traffic.rs"]
mod traffic;
#[path = "veth/trial.rs"]
mod trial;

use latency::Answers;
use net::{Net, Sink};
use subject::{Director, Subject, Traffic};
use traffic::{FLOWS_MAX, Generator, Pace, Tap};

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
    control: Option<usize>,
}

impl Cpus {
    /// The generator on the first processor, the director on the last, control between them or with the generator.
    fn choose() -> Self {
        let all: Vec<usize> = core_affinity::get_core_ids().unwrap_or_default().iter().map(|id| id.id).collect();
        let control = if all.len() > 2 { all.get(1) } else { all.first() };
        Self { generator: all.first().copied(), director: all.last().copied(), control: control.copied() }
    }
}

/// Pins this thread.
fn pin(cpu: Option<usize>) {
    if let Some(id) = cpu {
        // A machine that does not let us is measured as it is.
        let _ = core_affinity::set_for_current(core_affinity::CoreId { id });
    }
}

/// Lets this thread wake when its sleep is over, and not with others fifty microseconds later.
fn wake_on_time() {
    // SAFETY: the call has no pointers and changes this thread alone.
    let result = unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1) };
    assert_eq!(result, 0, "every Linux has this knob");
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
        runs: 3,
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
    if std::env::args().any(|word| word == "--profile") {
        return trial::main();
    }
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
    let carried = throughput(net, options, &subjects, &cpus)?;
    if options.latency {
        round_trips(net, options, &cpus)?;
        under_load(net, options, &carried, &cpus)?;
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
    let director = Director::start(net, subject, SAMPLE_FLOWS, Traffic::Flood, cpus.director)?;
    let mut samples = Vec::new();
    for _ in 0..SAMPLE_ROUNDS {
        Generator::start(net, SAMPLE_FLOWS, SAMPLE_FLOWS.into(), Pace::Flood, cpus.generator)?.finish();
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
    /// Processor time of the director's thread for each frame of a burst, nanoseconds; the kernel takes no bursts.
    burst_ns: Option<f64>,
    /// Millions of frames a second that arrived of a flood.
    flood: f64,
    /// Shares of all frames sent in the flood, in percent.
    lost_in: f64,
    lost_out: f64,
}

/// Prints what each subject carries; and the frames a second of its flood, of the last number of flows.
fn throughput(net: &Net, options: &Options, subjects: &[Subject], cpus: &Cpus) -> Result<Vec<(Subject, f64)>, String> {
    let _sink = Sink::open(net)?;
    println!(
        "\nmillions of frames a second, {} runs of {} s each for bursts and flood; {} octets a frame",
        options.runs,
        options.seconds,
        traffic::FRAME_OCTETS
    );
    println!(
        "{:<18} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8} {:>9} {:>9}",
        "subject", "flows", "median", "min", "max", "ns", "ratio", "flood", "lost in", "lost out"
    );
    let mut carried = Vec::new();
    for &flows in &options.flows {
        carried.clear();
        let mut runs: Vec<Vec<Measurement>> = vec![Vec::new(); subjects.len()];
        for _ in 0..options.runs {
            for (subject, runs) in subjects.iter().zip(&mut runs) {
                runs.push(measure(net, *subject, flows, options.seconds, cpus)?);
            }
        }
        for (subject, mine) in subjects.iter().zip(&runs) {
            print_row(*subject, flows, mine, &runs[0]);
            carried.push((*subject, 1e6 * median(&sorted(mine.iter().map(|run| run.flood).collect()))));
        }
    }
    Ok(carried)
}

fn print_row(subject: Subject, flows: u32, runs: &[Measurement], floor: &[Measurement]) {
    let times = sorted(runs.iter().filter_map(|run| run.burst_ns).collect());
    let ratios = runs.iter().zip(floor).filter_map(|(run, floor)| Some(floor.burst_ns? / run.burst_ns?));
    let ratios = sorted(ratios.collect());
    if let [shortest, .., longest] | [shortest @ longest] = times[..] {
        let ns = median(&times);
        let rates = [ns, longest, shortest].map(|ns| 1e3 / ns);
        print!("{subject:<18} {flows:>8} {:>8.3} {:>8.3} {:>8.3} {ns:>8.0}", rates[0], rates[1], rates[2]);
        print!(" {:>8.3}", median(&ratios));
    } else {
        print!("{subject:<18} {flows:>8} {:>8} {:>8} {:>8} {:>8} {:>8}", "-", "-", "-", "-", "-");
    }
    let of = |value: fn(&Measurement) -> f64| median(&sorted(runs.iter().map(value).collect()));
    let (flood, lost_in, lost_out) = (of(|run| run.flood), of(|run| run.lost_in), of(|run| run.lost_out));
    println!(" {flood:>8.3} {lost_in:>8.2}% {lost_out:>8.2}%");
}

fn measure(net: &Net, subject: Subject, flows: u32, seconds: f64, cpus: &Cpus) -> Result<Measurement, String> {
    let burst_ns = if subject == Subject::Kernel { None } else { Some(bursts(net, subject, flows, seconds, cpus)?) };
    let before = net.arrived();
    let director = Director::start(net, subject, flows, Traffic::Flood, cpus.director)?;
    let generator = Generator::start(net, flows, u64::MAX, Pace::Flood, cpus.generator)?;
    warm_up(&director, subject);
    // Within the namespace, so that nothing but a read lies between count and time.
    let flood = net.server.run(|| {
        let read = || (net::received_by("e"), Instant::now());
        let first = read();
        std::thread::sleep(Duration::from_secs_f64(seconds));
        let last = read();
        (last.0 - first.0) as f64 / (last.1 - first.1).as_secs_f64() / 1e6
    });
    assert!(flood > 0.0, "{subject}: frames arrive");
    let sent = generator.stop();
    let arrived = settled(net) - before;
    let taken = director.transmitted();
    director.stop(net);
    let lost_out = taken.saturating_sub(arrived);
    let lost_in = sent.saturating_sub(arrived).saturating_sub(lost_out);
    let percent = |frames: u64| 100.0 * frames as f64 / sent as f64;
    Ok(Measurement { burst_ns, flood, lost_in: percent(lost_in), lost_out: percent(lost_out) })
}

/// Nanoseconds that the director's thread needs for a frame of a burst.
fn bursts(net: &Net, subject: Subject, flows: u32, seconds: f64, cpus: &Cpus) -> Result<f64, String> {
    let before = net.arrived();
    let director = Director::start(net, subject, flows, Traffic::Bursts, cpus.director)?;
    let gate = director.gate();
    let generator = Generator::start(net, flows, u64::MAX, Pace::Bursts(director.gate()), cpus.generator)?;
    warm_up(&director, subject);
    let first = gate.totals();
    std::thread::sleep(Duration::from_secs_f64(seconds));
    let last = gate.totals();
    let sent = generator.stop();
    let arrived = settled(net) - before;
    director.stop(net);
    assert_eq!(arrived, sent, "{subject}: every frame of every burst arrives");
    assert!(last.0 > first.0, "{subject}: bursts take less than {seconds} s");
    Ok((last.1 - first.1) as f64 / (last.0 - first.0) as f64)
}

/// Waits until all connections are there and the load has run for a while.
fn warm_up(director: &Director, subject: Subject) {
    let start = Instant::now();
    while !director.is_warm() || start.elapsed() < WARM_UP_MIN {
        assert!(start.elapsed() < WARM_UP_MAX, "{subject}: all connections are made");
        std::thread::sleep(Duration::from_millis(10));
    }
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

fn under_load(net: &Net, options: &Options, carried: &[(Subject, f64)], cpus: &Cpus) -> Result<(), String> {
    let Some(&flows) = options.flows.last() else { return Ok(()) };
    println!(
        "\nunder load: a share of the flood above, {flows} flows; microseconds of UDP round trips (answers as above), and \
         in the director; {} runs of {} s",
        options.runs, options.seconds
    );
    let cases = loaded::cases(carried, flows);
    let mut sums: Vec<Option<loaded::Outcome>> = cases.iter().map(|_| None).collect();
    for _ in 0..options.runs {
        for (case, sum) in cases.iter().zip(&mut sums) {
            let outcome = loaded::measure(net, case, options.seconds, cpus)?;
            match sum {
                Some(sum) => sum.add(outcome),
                None => *sum = Some(outcome),
            }
        }
    }
    loaded::print_head();
    for (case, sum) in cases.iter().zip(&sums) {
        if let Some(sum) = sum {
            loaded::print_row(case, sum);
        }
    }
    Ok(())
}
