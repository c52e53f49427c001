//! One trial: the stream of a profile through one subject at one rate, and what arrived of it.
//!
//! `cargo bench --bench veth -- --profile FILE`, with
//! - `--subject floor|kernel|dr|nat|ipip`: who carries the frames (default `nat`),
//! - `--rate PPS`: frames a second of each direction; without it as many as the generator's ring takes,
//! - `--seconds S` (default 1), `--octets N`: all frames of that size,
//! - `--latency`: stamps up to a thousand frames a second and tells how long they took to the servers' interface,
//! - `--json`: the result as one line of JSON; seconds, frames, microseconds.
//!
//! `scripts/rfc2544` searches with such trials. The table is as large as the profile has flows, which are opened before.
//! The result says what was sent, as a generator that shares its processors does not always keep the rate: `sent` over
//! `seconds` is the rate that the trial stands for. Profiles with replies have one real server and need a subject that
//! carries these back: the floor, the kernel, or masquerading.

use std::path::PathBuf;
use std::time::Instant;

use hdrhistogram::Histogram;
use lvx::service::Method;
use serde_json::{Value, json};

use crate::net::{self, Net, Sink};
use crate::profile::{Direction, Network, Opening, Profile};
use crate::samples::Samples;
use crate::stream::{Load, Sent, Stream};
use crate::subject::{Director, Subject, Traffic};
use crate::{Cpus, WARM_UP_MAX};

/// Octets of the longest frame, with check sequence, whose packet fits into a tunnel over links of 1500 octets.
const TUNNELLED_MOST: usize = 1498;

struct Options {
    profile: PathBuf,
    subject: Subject,
    rate: Option<f64>,
    seconds: f64,
    octets: Option<usize>,
    latency: bool,
    json: bool,
}

fn options() -> Options {
    let mut options = Options {
        profile: PathBuf::new(),
        subject: Subject::Lvx(Method::Masquerading),
        rate: None,
        seconds: 1.0,
        octets: None,
        latency: false,
        json: false,
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().unwrap_or_else(|| usage());
        let number = |word: String, least: f64, most: f64| {
            word.parse().ok().filter(|number| (least..=most).contains(number)).unwrap_or_else(|| usage())
        };
        match word.as_str() {
            "--profile" => options.profile = value().into(),
            "--subject" => {
                options.subject = match value().as_str() {
                    "floor" => Subject::Floor,
                    "kernel" => Subject::Kernel,
                    "dr" => Subject::Lvx(Method::DirectRouting),
                    "nat" => Subject::Lvx(Method::Masquerading),
                    "ipip" => Subject::Lvx(Method::Tunnelling),
                    _ => usage(),
                }
            }
            "--rate" => options.rate = Some(number(value(), 1.0, 1e9)),
            "--seconds" => options.seconds = number(value(), 0.01, 3600.0),
            "--octets" => options.octets = Some(value().parse().unwrap_or_else(|_| usage())),
            "--latency" => options.latency = true,
            "--json" => options.json = true,
            "--bench" => {}
            _ => usage(),
        }
    }
    options
}

fn usage() -> ! {
    eprintln!(
        "options: --profile FILE  --subject floor|kernel|dr|nat|ipip  --rate PPS  --seconds S  --octets N  --latency  \
         --json"
    );
    std::process::exit(2)
}

/// What one trial found.
struct Trial {
    sent: Sent,
    arrived: u64,
    latency: Option<Histogram<u64>>,
}

/// Runs the trial that the arguments ask for.
pub fn main() {
    let options = options();
    let fail = |error: String| -> ! {
        eprintln!("veth: {error}");
        std::process::exit(1)
    };
    let profile = Profile::load(&options.profile, options.octets).unwrap_or_else(|error| fail(error));
    if let Err(error) = is_fit(&profile, options.subject) {
        fail(error);
    }
    let net = match crate::rights() {
        Ok(net) => net,
        Err(why) if options.json => return println!("{}", json!({ "skipped": why })),
        Err(why) => return println!("skipped: {why}"),
    };
    match run(&net, &profile, &options) {
        Ok(trial) => print(&profile, &options, &trial),
        Err(error) => fail(error),
    }
}

/// Whether this benchmark can send the profile through the subject.
fn is_fit(profile: &Profile, subject: Subject) -> Result<(), String> {
    let socket =
        |endpoint: lvx::base::Endpoint| std::net::SocketAddrV4::new(endpoint.address.low_u32().into(), endpoint.port);
    let ours = Network {
        client_station: net::CLIENT_STATION,
        director_station_in: net::DIRECTOR_STATION_IN,
        server_station: net::server_station(0),
        director_station_out: net::DIRECTOR_STATION_OUT,
        clients: socket(crate::traffic::client(0)),
        service: socket(net::virtual_service()),
        server: socket(net::server(0)),
    };
    if profile.network != ours {
        return Err("the network of the profile is not that of this benchmark (bench/profiles/network.json)".into());
    }
    if profile.has_replies && matches!(subject, Subject::Lvx(method) if method != Method::Masquerading) {
        return Err("replies pass the director with masquerading only: --subject nat, floor or kernel".into());
    }
    // The outer header of a tunnel takes 20 octets of the links' MTU.
    if subject == Subject::Lvx(Method::Tunnelling) && profile.octets_most() > TUNNELLED_MOST {
        return Err(format!("frames of more than {TUNNELLED_MOST} octets do not fit through the tunnel"));
    }
    Ok(())
}

fn run(net: &Net, profile: &Profile, options: &Options) -> Result<Trial, String> {
    net.build()?;
    let cpus = Cpus::choose();
    let subject = options.subject;
    let _sink = Sink::open(net)?;
    let traffic = if profile.has_replies { Traffic::Replies } else { Traffic::Flood };
    let director = Director::start(net, subject, profile.flows(), traffic, cpus.director)?;
    open_flows(net, profile, &director, &cpus)?;

    let before = settled(net, profile);
    let tunnelled = if subject == Subject::Lvx(Method::Tunnelling) { 20 } else { 0 };
    let samples = options.latency.then(|| Samples::start(net, 14 + tunnelled)).transpose()?;
    let load = Load { rate: options.rate, seconds: options.seconds, limit: u64::MAX, stamps: options.latency };
    let mut streams = vec![Stream::start(&net.client, profile.maker(Direction::Inbound), load, cpus.generator)?];
    if profile.has_replies {
        let load = Load { stamps: false, ..load };
        streams.push(Stream::start(&net.server, profile.maker(Direction::Outbound), load, cpus.generator)?);
    }
    let sent: Vec<Sent> = streams.into_iter().map(Stream::finish).collect();
    let sent = Sent {
        frames: sent.iter().map(|sent| sent.frames).sum(),
        seconds: sent.iter().map(|sent| sent.seconds).fold(0.0, f64::max),
    };
    let arrived = settled(net, profile) - before;
    let latency = samples.map(Samples::finish);
    director.stop(net);
    Ok(Trial { sent, arrived, latency })
}

/// Makes the connections of all flows.
fn open_flows(net: &Net, profile: &Profile, director: &Director, cpus: &Cpus) -> Result<(), String> {
    if profile.opening == Opening::None {
        return Ok(());
    }
    let start = Instant::now();
    loop {
        let Some(maker) = profile.opening_maker() else { return Ok(()) };
        let load = Load { rate: None, seconds: f64::MAX, limit: profile.flows().into(), stamps: false };
        Stream::start(&net.client, maker, load, cpus.generator)?.finish();
        // What a full ring lost is sent again.
        settled(net, profile);
        if director.is_warm() {
            return Ok(());
        }
        if start.elapsed() > WARM_UP_MAX {
            return Err("not all connections could be made".to_string());
        }
    }
}

/// Frames that have arrived at either end, once no more come.
fn settled(net: &Net, profile: &Profile) -> u64 {
    let servers = crate::settled(net);
    if !profile.has_replies {
        return servers;
    }
    let mut last = u64::MAX;
    loop {
        let now = net.client.run(|| net::received_by("e"));
        if now == last {
            return servers + now;
        }
        last = now;
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

fn print(profile: &Profile, options: &Options, trial: &Trial) {
    let Trial { sent, arrived, latency } = trial;
    let lost = sent.frames.saturating_sub(*arrived);
    let latency = latency.as_ref().map(|times| {
        let at = |quantile: f64| times.value_at_quantile(quantile) as f64 / 1e3;
        json!({
            "samples": times.len(), "min": times.min() as f64 / 1e3, "mean": times.mean() / 1e3, "p50": at(0.5),
            "p99": at(0.99), "p99.9": at(0.999), "max": times.max() as f64 / 1e3,
        })
    });
    let result = json!({
        "subject": options.subject.to_string(), "profile": profile.name, "flows": profile.flows(),
        "octets": options.octets, "rate": options.rate, "seconds": sent.seconds, "sent": sent.frames,
        "received": arrived, "lost": lost, "latency_us": latency,
    });
    if options.json {
        return println!("{result}");
    }
    for (name, value) in result.as_object().into_iter().flatten().filter(|(_, value)| **value != Value::Null) {
        println!("{name:<10} {value}");
    }
}
