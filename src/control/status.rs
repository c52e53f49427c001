//! What `lvx` asks the director: its state in a page, its knobs.

use std::fmt::Write;
use std::sync::Arc;

use serde::Serialize;

use crate::base::Instant;
use crate::command::program::Output;
use crate::control::sync::SyncCounters;
use crate::control::{Control, proc_files};
use crate::forward::{DropReason, Shared};
use crate::service::sysctl;

/// The director's state, for people and programs.
#[derive(Serialize, Debug)]
pub struct Status {
    /// Version of lvx.
    pub version: &'static str,
    /// Seconds since the start.
    pub uptime_s: u64,
    /// Virtual services.
    pub services: usize,
    /// Real servers, counted once per service.
    pub servers: usize,
    /// Removed real servers that connections still name.
    pub servers_in_trash: usize,
    /// Connections and templates now, of IPv4 and IPv6.
    pub connections: (u32, u32),
    /// Most connections of each family.
    pub connections_max: u32,
    /// Buckets of the connection table.
    pub buckets: usize,
    /// Connections inserted, removed, refused because the table was full.
    pub inserted: u64,
    /// Connections that ended.
    pub removed: u64,
    /// Connections refused because the table was full.
    pub table_full: u64,
    /// Entries of a full table that went for others: half-open, closing and quiet ones.
    pub evicted: [u64; 3],
    /// What the sync daemons did.
    pub sync: SyncCounters,
    /// One row a worker.
    pub workers: Vec<WorkerStatus>,
}

/// A worker's counters.
#[derive(Serialize, Debug)]
pub struct WorkerStatus {
    /// Its number.
    pub worker: usize,
    /// Frames received.
    pub received: u64,
    /// Frames sent.
    pub transmitted: u64,
    /// Frames given to the kernel.
    pub passed: u64,
    /// Frames dropped, by reason; reasons that did not occur are left out.
    pub dropped: Vec<(&'static str, u64)>,
    /// Batches; `received` by this gives the mean batch.
    pub batches: u64,
    /// Datagrams put together of fragments.
    pub reassembled: u64,
    /// The fragments that they came in.
    pub fragments_joined: u64,
    /// Connections that the sweep ended.
    pub swept: u64,
    /// Requests to control that were lost because their queue was full.
    pub requests_lost: u64,
    /// Records for the sync master that were lost because their queue was full.
    pub sync_records_lost: u64,
}

impl Status {
    /// The state as of `now`.
    pub fn of(control: &Control, shared: &Shared, now: Instant) -> Self {
        use std::sync::atomic::Ordering::Relaxed;
        let counters = shared.connections.counters();
        Self {
            version: env!("CARGO_PKG_VERSION"),
            uptime_s: now.milliseconds() / 1000,
            services: control.services.len(),
            servers: control.services.iter().map(|service| service.servers.len()).sum(),
            servers_in_trash: control.trash.items.len(),
            connections: shared.connections.used(),
            connections_max: shared.connections.connections_max(),
            buckets: shared.connections.bucket_count(),
            inserted: shared.connections.inserted(),
            removed: shared.connections.removed(),
            table_full: counters.full.load(Relaxed),
            evicted: [&counters.evicted_half_open, &counters.evicted_closing, &counters.evicted_quiet]
                .map(|count| count.load(Relaxed)),
            sync: control.sync_counters(),
            workers: shared.workers.iter().enumerate().map(|(number, slot)| WorkerStatus::of(number, slot)).collect(),
        }
    }
}

impl WorkerStatus {
    fn of(worker: usize, slot: &crate::forward::shared::WorkerSlot) -> Self {
        let counters = &slot.counters;
        let dropped = DropReason::ALL.iter().map(|&reason| (reason.name(), counters.drops(reason)));
        Self {
            worker,
            received: counters.received.get(),
            transmitted: counters.transmitted.get(),
            passed: counters.passed.get(),
            dropped: dropped.filter(|(_, count)| *count > 0).collect(),
            batches: counters.batches.get(),
            reassembled: counters.reassembled.get(),
            fragments_joined: counters.fragments_joined.get(),
            swept: counters.swept.get(),
            requests_lost: counters.requests_lost.get(),
            sync_records_lost: slot.sync_queue.lost(),
        }
    }
}

/// The page that `lvx status` prints.
pub fn page(status: &Status) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = writeln!(text, "lvx {}, up {} s", status.version, status.uptime_s);
    let _ = writeln!(
        text,
        "services     {} with {} real servers ({} removed ones still have connections)",
        status.services, status.servers, status.servers_in_trash
    );
    let (v4, v6) = status.connections;
    let _ = writeln!(
        text,
        "connections  {v4} IPv4, {v6} IPv6 of {} each; {} opened, {} ended, {} refused (table full)",
        status.connections_max, status.inserted, status.removed, status.table_full
    );
    if let [half_open, closing, quiet] = status.evicted
        && half_open + closing + quiet > 0
    {
        let _ =
            writeln!(text, "  evicted    {half_open} half-open, {closing} closing, {quiet} quiet: the table was full");
    }
    write_sync(&mut text, &status.sync);
    for worker in &status.workers {
        let _ = writeln!(
            text,
            "worker {:<5} received {}, sent {}, passed to the kernel {}, {} batches",
            worker.worker, worker.received, worker.transmitted, worker.passed, worker.batches
        );
        if worker.reassembled > 0 {
            let (datagrams, fragments) = (worker.reassembled, worker.fragments_joined);
            let _ = writeln!(text, "  fragments  {fragments} put together to {datagrams} datagrams");
        }
        for (reason, count) in &worker.dropped {
            let meaning = DropReason::ALL.iter().find(|known| known.name() == *reason).map_or("", |r| r.meaning());
            let _ = writeln!(text, "  dropped    {count} {reason}:{meaning}");
        }
        if worker.requests_lost > 0 {
            let _ = writeln!(text, "  requests   {} lost, their queue was full", worker.requests_lost);
        }
        if worker.sync_records_lost > 0 {
            let _ = writeln!(text, "  sync       {} records lost, their queue was full", worker.sync_records_lost);
        }
    }
    text
}

/// A line for each sync daemon that did something.
fn write_sync(text: &mut String, sync: &SyncCounters) {
    if sync.records_sent > 0 {
        let _ = writeln!(
            text,
            "sync master  {} connections in {} datagrams sent, {} datagrams lost (sync_qlen_max)",
            sync.records_sent, sync.datagrams_sent, sync.datagrams_lost
        );
    }
    if sync.datagrams_received > 0 {
        let _ = writeln!(
            text,
            "sync backup  {} datagrams received, {} malformed, {} of another syncid; {} connections taken over, {} not",
            sync.datagrams_received,
            sync.datagrams_malformed,
            sync.datagrams_of_others,
            sync.records_applied,
            sync.records_skipped
        );
    }
}

/// Executes a command of `lvx` that concerns the running director: `sysctl [-a] [NAME[=VALUE]…]`,
/// `status [--json]`, `drops [--all] [--json]`, `latency [--json] [--reset]`, `proc NAME` (the text of `/proc/net/NAME`).
///
/// # Errors
/// A sentence when the words are not such a command.
pub fn lvx_command(words: &[String], control: &mut Control, now: Instant) -> Result<Output, String> {
    let shared = Arc::clone(control.shared());
    let shared = &*shared;
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["status"] => Ok(done(page(&Status::of(control, shared, now)))),
        ["status", "--json"] => {
            let json = serde_json::to_string(&Status::of(control, shared, now)).map_err(|error| error.to_string())?;
            Ok(done(json + "\n"))
        }
        ["sysctl", "-a"] => {
            Ok(done(shared.sysctls.list().map(|(name, value)| format!("{name} = {value}\n")).collect()))
        }
        ["sysctl", "--all-or-none", rest @ ..] => {
            let output = set_all(rest, shared)?;
            control.sysctls_changed();
            Ok(output)
        }
        ["sysctl", rest @ ..] if !rest.is_empty() => {
            let output = set_or_show(rest, shared);
            if rest.iter().any(|word| word.contains('=')) {
                control.sysctls_changed();
            }
            Ok(output)
        }
        ["drops", rest @ ..] => control.drops_command(rest, Vec::new()),
        ["latency", rest @ ..] => control.latency_command(rest, now),
        ["proc", name] => match proc_files::read(control, name, now) {
            Some(text) => Ok(done(text)),
            None => Err(format!("there is no file /proc/net/{name} of IPVS")),
        },
        _ => Err(format!("lvxd knows no command `lvx {}'", words.join(" "))),
    }
}

fn done(stdout: String) -> Output {
    Output { exit: 0, stdout, stderr: String::new() }
}

fn set_or_show(words: &[&str], shared: &Shared) -> Output {
    let mut output = done(String::new());
    for word in words {
        let (name, value) = match word.split_once('=') {
            Some((name, value)) => (name.trim(), Some(value.trim())),
            None => (*word, None),
        };
        let result = match value {
            Some(value) => shared.sysctls.write(name, value).and_then(|knob| {
                if let Some(why) = sysctl::without_effect(knob) {
                    output.stderr.push_str(&format!("lvx: {}: set, without effect: {why}\n", full_name(name)));
                }
                shared.sysctls.read(name)
            }),
            None => shared.sysctls.read(name),
        };
        let full = full_name(name);
        match result {
            Ok(value) => output.stdout.push_str(&format!("{full} = {value}\n")),
            Err(error) => {
                output.exit = 1;
                output.stderr.push_str(&format!("lvx: {full}: {error}\n"));
            }
        }
    }
    output
}

/// Sets what a file asks for, all of it or nothing.
fn set_all(words: &[&str], shared: &Shared) -> Result<Output, String> {
    let pair = |word: &&str| word.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
    let settings: Option<Vec<(String, String)>> = words.iter().map(pair).collect();
    let settings = settings.ok_or("settings are NAME=VALUE")?;
    let mut output = done(String::new());
    match shared.sysctls.write_all(&settings) {
        Ok(_) => {
            for (name, _) in &settings {
                if let Ok(value) = shared.sysctls.read(name) {
                    output.stdout.push_str(&format!("{} = {value}\n", full_name(name)));
                }
            }
        }
        Err((position, error)) => {
            let (name, value) = &settings[position];
            output.exit = 1;
            output.stderr.push_str(&format!("lvx: {} = {value}: {error}; nothing is set\n", full_name(name)));
        }
    }
    Ok(output)
}

fn full_name(name: &str) -> String {
    let dotted = name.replace('/', ".");
    if dotted.starts_with(sysctl::PREFIX) { dotted } else { format!("{}{dotted}", sysctl::PREFIX) }
}
