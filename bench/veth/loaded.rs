//! Round trips and residence times at a share of the load that a subject can carry, while control does this or that.
//!
//! Load and round trips are open loops: what is due is sent by the clock, whatever has become of what went before. So a
//! stall is met by all the datagrams that fall into it, and not by the one that waits for its answer. Load goes to the
//! virtual service of the throughput and ends at link addresses that nobody has; round trips have a service and an
//! address of their own, and the first server answers them.

use std::io;
use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use lvx::forward::latency::LatencyCounts;
use lvx::service::Method;

use crate::latency::{self, Answers, LONGEST_NS};
use crate::net::{self, Net};
use crate::steering::Meanwhile;
use crate::subject::{Director, Subject, Traffic};
use crate::traffic::{Generator, Pace};

/// Shares of the load, in percent.
pub const LOADS: [u32; 2] = [50, 90];

/// Time between two round trips' beginnings.
const INTERVAL: Duration = Duration::from_micros(250);

/// How long answers may take before they count as lost.
const LAST_ANSWERS: Duration = Duration::from_millis(300);

/// One row of the table.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Case {
    pub subject: Subject,
    pub flows: u32,
    /// Percent of what it carries.
    pub load: u32,
    /// Frames a second that this is.
    pub rate: f64,
    pub meanwhile: Meanwhile,
}

/// What a case came to; runs are added.
pub struct Outcome {
    /// Nanoseconds of the trips that came back.
    trips: Histogram<u64>,
    /// Trips that began.
    begun: u64,
    /// What the worker measured meanwhile; empty where there is none.
    residence: LatencyCounts,
    /// Frames of load that left the generator, in so many seconds.
    sent: u64,
    seconds: f64,
    /// Frames of load that did not arrive, of those that left it in all.
    lost: u64,
    offered: u64,
    /// Times that control has done what it did.
    rounds: f64,
    /// Nanoseconds that the worker waited for its processor; `None` where the kernel does not say.
    off: Option<u64>,
}

impl Outcome {
    /// Adds another run.
    pub fn add(&mut self, other: Self) {
        self.trips.add(&other.trips).expect("histograms of the same bounds");
        self.residence.add(&other.residence);
        self.begun += other.begun;
        self.sent += other.sent;
        self.seconds += other.seconds;
        self.lost += other.lost;
        self.offered += other.offered;
        self.rounds += other.rounds;
        self.off = self.off.zip(other.off).map(|(mine, other)| mine + other);
    }
}

/// The cases of the subjects, each with the frames a second that it carries.
pub fn cases(subjects: &[(Subject, f64)], flows: u32) -> Vec<Case> {
    let mut cases = Vec::new();
    for &(subject, carried) in subjects {
        let all = [Meanwhile::Nothing, Meanwhile::Listing, Meanwhile::Restore];
        let meanwhile = if matches!(subject, Subject::Lvx(_)) { &all[..] } else { &all[..1] };
        for load in LOADS {
            let rate = carried * f64::from(load) / 100.0;
            cases.extend(meanwhile.iter().map(|&meanwhile| Case { subject, flows, load, rate, meanwhile }));
        }
    }
    cases
}

/// Runs a case for about `seconds`.
pub fn measure(net: &Net, case: &Case, seconds: f64, cpus: &crate::Cpus) -> Result<Outcome, String> {
    let Case { subject, flows, rate, meanwhile, .. } = *case;
    latency::route_answers(net, answers_of(subject))?;
    let stop = AtomicBool::new(false).into();
    let echo = latency::echo(net, subject, cpus.generator, &stop);
    let mut director = Director::start(net, subject, flows, Traffic::BothWays, cpus.director)?;
    let warming = Generator::start(net, flows, u64::MAX, Pace::Flood, cpus.generator)?;
    crate::warm_up(&director, subject);
    warming.stop();
    let before = crate::settled(net);
    let generator = Generator::start(net, flows, u64::MAX, Pace::Rate(rate), cpus.generator)?;
    std::thread::sleep(crate::WARM_UP_MIN);

    let (shared, runs) = (director.shared(), director.thread());
    let read = || shared.as_ref().map(|shared| shared.workers[0].latency.read()).unwrap_or_default();
    let (outcome, rounds) = director.while_busy(meanwhile, cpus.control, || {
        let (residence, sent, off, start) = (read(), generator.transmitted(), runs.waited_ns(), Instant::now());
        let cpu = cpus.generator;
        let trips = net.client.run(|| {
            crate::pin(cpu);
            trips_at_pace(seconds)
        });
        let off = runs.waited_ns().zip(off).map(|(last, first)| last - first);
        (trips, read().since(&residence), generator.transmitted() - sent, off, start.elapsed().as_secs_f64())
    })?;
    let (trips, residence, sent, off, window) = outcome;
    let offered = generator.stop();
    let arrived = crate::settled(net) - before;
    stop.store(true, Relaxed);
    echo.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    director.stop(net);
    let (trips, begun) = trips.map_err(|error| format!("{subject}: {error}"))?;
    let lost = (offered + trips.len()).saturating_sub(arrived);
    Ok(Outcome { trips, begun, residence, sent, seconds: window, lost, offered, rounds, off })
}

fn answers_of(subject: Subject) -> Answers {
    match subject {
        Subject::Lvx(method) => Answers::of(method),
        Subject::Floor | Subject::Kernel => Answers::of(Method::DirectRouting),
    }
}

/// Begins a round trip every [`INTERVAL`]; the times of those that came back, and how many were begun.
fn trips_at_pace(seconds: f64) -> io::Result<(Histogram<u64>, u64)> {
    let socket = UdpSocket::bind("10.77.1.1:0")?;
    latency::send_without_checksum(&socket);
    socket.connect(latency::socket_address(net::trip_service()))?;
    socket.set_read_timeout(Some(LAST_ANSWERS))?;
    crate::wake_on_time();
    let (start, is_over) = (Instant::now(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let answers = scope.spawn(|| {
            let mut histogram = Histogram::new_with_bounds(1, LONGEST_NS, 3).expect("bounds that are in order");
            let mut answer = [0; 8];
            loop {
                match socket.recv(&mut answer) {
                    Ok(8) => {
                        let begun = u64::from_be_bytes(answer);
                        let time = (start.elapsed().as_nanos() as u64).saturating_sub(begun);
                        histogram.saturating_record(time);
                    }
                    Ok(length) => panic!("{length} octets come back of 8"),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        if is_over.load(Relaxed) {
                            return Ok(histogram);
                        }
                    }
                    Err(error) => return Err(error),
                }
            }
        });
        let mut begun = 0u32;
        let mut result = Ok(());
        while result.is_ok() && start.elapsed().as_secs_f64() < seconds {
            let due = INTERVAL * begun;
            std::thread::sleep(due.saturating_sub(start.elapsed()));
            result = socket.send(&(start.elapsed().as_nanos() as u64).to_be_bytes()).map(drop);
            begun += 1;
        }
        is_over.store(true, Relaxed);
        let histogram = answers.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        result.and(histogram).map(|histogram| (histogram, u64::from(begun)))
    })
}

/// The table's head.
pub fn print_head() {
    println!(
        "{:<18} {:>5} {:<8} {:>6} {:>6} {:>6} | {:>7} {:>7} {:>7} {:>8} {:>6} | {:>7} {:>7} {:>7} {:>8} {:>8} {:>6}",
        "subject",
        "load",
        "control",
        "rounds",
        "Mpps",
        "lost",
        "p50",
        "p99",
        "p99.9",
        "max",
        "lost",
        "p50",
        "p99",
        "p99.9",
        "max",
        "wait max",
        "off"
    );
}

/// One row.
pub fn print_row(case: &Case, outcome: &Outcome) {
    let Case { subject, load, meanwhile, .. } = case;
    let rounds = if *meanwhile == Meanwhile::Nothing { "-".to_string() } else { format!("{:.1}", outcome.rounds) };
    let percent = |part: u64, whole: u64| format!("{:.1}%", 100.0 * part as f64 / whole.max(1) as f64);
    let rate = outcome.sent as f64 / outcome.seconds / 1e6;
    print!("{subject:<18} {load:>4}% {:<8} {rounds:>6} {rate:>6.3}", meanwhile.name());
    print!(" {:>6} |", percent(outcome.lost, outcome.offered));
    let trips = &outcome.trips;
    let columns = |histogram: &Histogram<u64>| {
        let at = |quantile: f64| histogram.value_at_quantile(quantile) as f64 / 1e3;
        format!("{:>7.1} {:>7.1} {:>7.1} {:>8.1}", at(0.5), at(0.99), at(0.999), histogram.max() as f64 / 1e3)
    };
    print!(" {} {:>6} |", columns(trips), percent(outcome.begun - trips.len(), outcome.begun));
    let off = outcome.off.map_or("-".to_string(), |off| percent(off, (outcome.seconds * 1e9) as u64));
    let residence = outcome.residence.residence.histogram();
    if residence.is_empty() {
        return println!(" {:>7} {:>7} {:>7} {:>8} {:>8} {off:>6}", "-", "-", "-", "-", "-");
    }
    let wait = outcome.residence.wait.histogram().max() as f64 / 1e3;
    println!(" {} {wait:>8.1} {off:>6}", columns(&residence));
}
