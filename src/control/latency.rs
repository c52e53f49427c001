//! `lvx latency`: how long packets are in the director's hands, a row for each worker.
//!
//! What is measured says [`crate::worker::Worker::step_timed`]. Workers count from their start; a reset is the counts of
//! then, kept here and taken away from those of later.

use std::fmt::Write;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::base::Instant;
use crate::command::program::Output;
use crate::control::Control;
use crate::forward::latency::LatencyCounts;
use crate::port::BATCH_FRAMES;
use crate::worker::BATCHES_PER_SAMPLE;

/// What the page calls what it shows.
const TITLE: &str = "microseconds in the director";

/// Where measuring begins: at the start, or with the last reset.
#[derive(Debug)]
pub(super) struct Begin {
    at: Instant,
    /// Of each worker; none at the start.
    counts: Vec<LatencyCounts>,
}

impl Begin {
    /// Counts of nothing.
    pub(super) fn new(at: Instant) -> Self {
        Self { at, counts: Vec::new() }
    }
}

/// What all workers measured.
#[derive(Serialize, Debug)]
pub struct Latency {
    /// Seconds since the start or the last reset.
    pub seconds: f64,
    /// Of so many batches one is timed.
    pub batches_per_sample: u32,
    /// One row a worker.
    pub workers: Vec<LatencyRow>,
    /// The packets of all workers.
    pub total: LatencyRow,
}

/// What one worker measured, or all of them.
#[derive(Serialize, Debug)]
pub struct LatencyRow {
    /// Its number; none in the total.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worker: Option<usize>,
    /// Packets of the batches that were timed.
    pub samples: u64,
    /// Batches that were timed.
    pub batches: u64,
    /// Frames of such a batch, in the mean and at most.
    pub batch_mean: f64,
    /// See there.
    pub batch_max: usize,
    /// Timed batches that had all the frames that a batch may have: more may have waited.
    pub batches_full: u64,
    /// From the worker's look into the rings to the flush of the batch; none without samples.
    pub residence_us: Option<Percentiles>,
    /// How long at most packets lay in the rings before that look: since the worker last emptied them. Of packets of all
    /// batches; none without any.
    pub wait_us: Option<Percentiles>,
}

/// A distribution over packets; microseconds, to two digits.
#[derive(Serialize, Debug)]
pub struct Percentiles {
    /// Packets.
    pub packets: u64,
    /// So long or shorter for half of them.
    pub p50: f64,
    /// For 90 %.
    pub p90: f64,
    /// For 99 %.
    pub p99: f64,
    /// For 99.9 %.
    pub p999: f64,
    /// For all.
    pub max: f64,
}

impl Percentiles {
    /// Of a histogram of nanoseconds; none of an empty one.
    fn of(histogram: &Histogram<u64>) -> Option<Self> {
        if histogram.is_empty() {
            return None;
        }
        let at = |quantile: f64| histogram.value_at_quantile(quantile) as f64 / 1e3;
        let (p50, p90, p99, p999) = (at(0.5), at(0.9), at(0.99), at(0.999));
        Some(Self { packets: histogram.len(), p50, p90, p99, p999, max: histogram.max() as f64 / 1e3 })
    }
}

impl LatencyRow {
    /// What `counts` say.
    fn of(worker: Option<usize>, counts: &LatencyCounts) -> Self {
        let batches: u64 = counts.batches.iter().sum();
        let frames: u64 = counts.batches.iter().zip(0..).map(|(count, frames)| count * frames).sum();
        let residence = counts.residence.histogram();
        Self {
            worker,
            samples: residence.len(),
            batches,
            batch_mean: if batches == 0 { 0.0 } else { frames as f64 / batches as f64 },
            batch_max: counts.batches.iter().rposition(|count| *count > 0).unwrap_or_default(),
            batches_full: counts.batches[BATCH_FRAMES],
            residence_us: Percentiles::of(&residence),
            wait_us: Percentiles::of(&counts.wait.histogram()),
        }
    }
}

impl Control {
    /// What has been measured since the start or the last reset.
    pub fn latency(&self, now: Instant) -> Latency {
        self.latency_of(&self.latency_counts(), now)
    }

    /// What workers have counted since they started.
    fn latency_counts(&self) -> Vec<LatencyCounts> {
        self.shared.workers.iter().map(|slot| slot.latency.read()).collect()
    }

    fn latency_of(&self, counts: &[LatencyCounts], now: Instant) -> Latency {
        let begin = &self.latency_begin;
        let mut total = LatencyCounts::default();
        let workers = counts.iter().enumerate().map(|(number, counts)| {
            let counts = match begin.counts.get(number) {
                Some(earlier) => counts.clone().since(earlier),
                None => counts.clone(),
            };
            total.add(&counts);
            LatencyRow::of(Some(number), &counts)
        });
        Latency {
            seconds: (now - begin.at).as_secs_f64(),
            batches_per_sample: BATCHES_PER_SAMPLE,
            workers: workers.collect(),
            total: LatencyRow::of(None, &total),
        }
    }

    /// Executes `latency [--json] [--reset]`: with the latter, what it shows is shown no more.
    ///
    /// # Errors
    /// A sentence when the words are others; nothing is reset then.
    pub fn latency_command(&mut self, words: &[&str], now: Instant) -> Result<Output, String> {
        if let Some(other) = words.iter().find(|word| !["--json", "--reset"].contains(word)) {
            return Err(format!("latency: unknown word `{other}'"));
        }
        let counts = self.latency_counts();
        let latency = self.latency_of(&counts, now);
        let stdout = match words.contains(&"--json") {
            true => serde_json::to_string(&latency).map_err(|error| error.to_string())? + "\n",
            false => page(&latency),
        };
        if words.contains(&"--reset") {
            self.latency_begin = Begin { at: now, counts };
        }
        Ok(Output { exit: 0, stdout, stderr: String::new() })
    }
}

/// The page that `lvx latency` prints.
fn page(latency: &Latency) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = writeln!(
        text,
        "{TITLE}, of {:.0} s; one of {} batches is timed\n\
         {:<7} {:>10} {:>8} {:>8} {:>8} {:>8} {:>8} {:>6} {:>5} {:>9} {:>8}",
        latency.seconds,
        latency.batches_per_sample,
        "worker",
        "samples",
        "p50",
        "p90",
        "p99",
        "p99.9",
        "max",
        "batch",
        "full",
        "wait p99",
        "max"
    );
    for row in latency.workers.iter().chain([&latency.total]) {
        let name = row.worker.map_or("total".to_owned(), |worker| worker.to_string());
        let _ = write!(text, "{name:<7} {:>10}", row.samples);
        let residence = row.residence_us.as_ref().map(|r| [r.p50, r.p90, r.p99, r.p999, r.max]);
        for column in 0..5 {
            let _ = write!(text, " {:>8}", microseconds(residence.map(|columns| columns[column])));
        }
        let full = if row.batches == 0 { 0.0 } else { 100.0 * row.batches_full as f64 / row.batches as f64 };
        let wait = row.wait_us.as_ref();
        let _ = writeln!(
            text,
            " {:>6.1} {full:>4.0}% {:>9} {:>8}",
            row.batch_mean,
            microseconds(wait.map(|wait| wait.p99)),
            microseconds(wait.map(|wait| wait.max))
        );
    }
    text
}

/// A time in at most eight columns; a dash for none.
fn microseconds(time: Option<f64>) -> String {
    match time {
        None => "-".to_owned(),
        Some(time) if time < 10_000.0 => format!("{time:.1}"),
        Some(time) => format!("{time:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::base::{Duration, Rng};
    use crate::conn::TableConfig;
    use crate::forward::Shared;
    use crate::route::Database;

    fn control(workers: usize) -> Control {
        let table = TableConfig { connections_max: 4, bucket_bits: 0 };
        let shared = Shared::new(workers, table, Database::new(&[]).snapshot(), &mut Rng::new(1));
        Control::new(Arc::new(shared), 4096, Instant::START)
    }

    fn count(control: &Control, worker: usize, microseconds: u64, frames: usize) {
        let latency = &control.shared.workers[worker].latency;
        latency.count_residence(Duration::from_micros(microseconds), frames);
        latency.count_wait(Duration::from_micros(2 * microseconds), frames);
    }

    fn json(control: &mut Control, words: &[&str], seconds: u64) -> serde_json::Value {
        let words: Vec<&str> = words.iter().copied().chain(["--json"]).collect();
        let output = control.latency_command(&words, Instant::from_seconds(seconds)).unwrap();
        serde_json::from_str(&output.stdout).unwrap()
    }

    #[test]
    fn a_row_a_worker_and_the_total_over_packets() {
        let mut control = control(2);
        for _ in 0..10 {
            count(&control, 0, 5, 9);
        }
        count(&control, 1, 400, 10);
        let told = json(&mut control, &[], 3);
        assert_eq!((&told["seconds"], told["workers"].as_array().unwrap().len()), (&3.0.into(), 2));
        let near = |value: &serde_json::Value, microseconds: f64| {
            let value = value.as_f64().unwrap();
            assert!((microseconds..microseconds * 1.01).contains(&value), "{value} for {microseconds}");
        };
        let total = &told["total"];
        assert_eq!((&total["samples"], &total["batches"], &total["batch_max"]), (&100.into(), &11.into(), &10.into()));
        assert_eq!(total.get("worker"), None);
        near(&total["residence_us"]["p90"], 5.0);
        near(&total["residence_us"]["p99"], 400.0);
        near(&total["residence_us"]["max"], 400.0);
        near(&total["wait_us"]["max"], 800.0);
        let first = &told["workers"][0];
        assert_eq!((&first["worker"], &first["samples"], &first["batch_mean"]), (&0.into(), &90.into(), &9.0.into()));
        near(&first["residence_us"]["max"], 5.0);
    }

    #[test]
    fn a_reset_shows_what_was_and_forgets_it() {
        let mut control = control(1);
        count(&control, 0, 5_000, BATCH_FRAMES);
        let before = json(&mut control, &["--reset"], 10);
        assert_eq!((&before["total"]["samples"], &before["total"]["batches_full"]), (&64.into(), &1.into()));
        let after = json(&mut control, &[], 12);
        assert_eq!((&after["seconds"], &after["total"]["samples"]), (&2.0.into(), &0.into()));
        assert!(after["total"]["residence_us"].is_null() && after["workers"][0]["wait_us"].is_null());
        assert_eq!((&after["total"]["batch_mean"], &after["total"]["batch_max"]), (&0.0.into(), &0.into()));
        count(&control, 0, 7, 2);
        let row = &json(&mut control, &[], 13)["total"];
        assert_eq!(row["samples"], 2);
        assert!(row["residence_us"]["max"].as_f64().unwrap() < 8.0, "the longest is that since the reset");
    }

    #[test]
    fn other_words_are_refused_and_reset_nothing() {
        let mut control = control(1);
        count(&control, 0, 5, 1);
        for word in ["--none", "0", "--watch", ""] {
            let error = control.latency_command(&["--reset", word], Instant::from_seconds(1)).unwrap_err();
            assert_eq!(error, format!("latency: unknown word `{word}'"));
        }
        assert_eq!(json(&mut control, &[], 2)["total"]["samples"], 1);
    }

    #[test]
    fn the_page_keeps_its_columns_with_nothing_and_with_the_longest() {
        let mut control = control(2);
        count(&control, 1, 3_600_000_000, BATCH_FRAMES);
        let page = control.latency_command(&[], Instant::from_seconds(7)).unwrap().stdout;
        let lines: Vec<&str> = page.lines().collect();
        assert_eq!(lines[0], "microseconds in the director, of 7 s; one of 17 batches is timed");
        let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(words(lines[2]), ["0", "0", "-", "-", "-", "-", "-", "0.0", "0%", "-", "-"]);
        let longest = "10066330";
        let row = [longest; 5].map(str::to_owned);
        assert_eq!(words(lines[3])[2..7], row);
        assert_eq!(
            words(lines[4]),
            [&["total"], &words(lines[3]).iter().map(String::as_str).collect::<Vec<_>>()[1..]].concat()
        );
        assert!(lines[2..].iter().all(|line| line.len() == lines[1].len()), "{page}");
    }
}
