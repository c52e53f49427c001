//! `lvx sync`: how far two directors are together.

use std::fmt::Write;

use serde::Serialize;

use crate::base::{Address, Instant};
use crate::command::program::Output;
use crate::command::request::{DaemonRole, DaemonRule};
use crate::control::Control;
use crate::control::sync::SyncCounters;
use crate::control::sync::resync::Warm;
use crate::control::sync::resync::cannot::Cannot;
use crate::control::sync::resync::client::ClientCounters;
use crate::control::sync::resync::peer::{Peer, Phase};
use crate::control::sync::resync::server::{ServerCounters, SessionStatus};
use crate::control::sync::resync::tracker::Tracker;

/// Connection synchronisation as a whole.
#[derive(Serialize, Debug)]
pub struct SyncStatus {
    /// The daemons that run.
    pub daemons: Vec<DaemonStatus>,
    /// Whether this director has what its peers have.
    pub warm: Warm,
    /// The masters that are followed.
    pub masters: Vec<PeerStatus>,
    /// The backups that are connected.
    pub backups: Vec<SessionStatus>,
    /// Records that workers made and that are in no datagram yet.
    pub records_waiting: usize,
    /// Datagrams that wait to be sent.
    pub datagrams_waiting: usize,
    /// Milliseconds since the last datagram left.
    pub sent_ago_ms: Option<u64>,
    /// Milliseconds since the last datagram came.
    pub received_ago_ms: Option<u64>,
    /// Datagrams are numbered, since a backup wants it.
    pub numbered: bool,
    /// Empty datagrams by which backups find this master.
    pub hails: u64,
    /// Records that workers had no room for.
    pub records_lost: u64,
    /// Datagrams and records.
    pub datagrams: SyncCounters,
    /// What the backup's side did.
    pub resync: ClientCounters,
    /// What the master's side did.
    pub served: ServerCounters,
}

/// A daemon.
#[derive(Serialize, Debug)]
pub struct DaemonStatus {
    /// `master` or `backup`.
    pub role: &'static str,
    /// Interface of the group.
    pub interface: String,
    /// Which directors belong together.
    pub syncid: u8,
    /// The group.
    pub group: Option<Address>,
    /// The first UDP port.
    pub port: u16,
    /// UDP ports.
    pub ports: u16,
}

/// A master.
#[derive(Serialize, Debug)]
pub struct PeerStatus {
    /// Its address.
    pub address: Address,
    /// `waiting`, `connecting`, `greeting` or `linked`.
    pub state: &'static str,
    /// Why it cannot resync.
    pub cannot: Option<Cannot>,
    /// Milliseconds since its last datagram.
    pub heard_ago_ms: Option<u64>,
    /// Datagrams that are missing now.
    pub missing: u64,
    /// Datagrams that wait for those.
    pub held: usize,
    /// The table that is coming: records so far, and about how many there are.
    pub resync: Option<(u64, u64)>,
    /// Another one will be asked for.
    pub resync_planned: bool,
    /// Tables asked for.
    pub resyncs: u32,
    /// The last that came whole.
    pub last: Option<LastResync>,
}

/// A table that came whole: its count and digest were those of the master.
#[derive(Serialize, Debug)]
pub struct LastResync {
    /// Milliseconds since then.
    pub ago_ms: u64,
    /// How long it took.
    pub took_ms: u64,
    /// Its records.
    pub records: u64,
    /// Those that could not be taken over.
    pub refused: u64,
}

fn since(now: Instant, then: Instant) -> u64 {
    (now - then).as_millis() as u64
}

impl PeerStatus {
    fn of(peer: &Peer, now: Instant) -> Self {
        Self {
            address: peer.address,
            state: match peer.phase {
                Phase::Waiting(_) => "waiting",
                Phase::Connecting(_) => "connecting",
                Phase::Greeting(_) => "greeting",
                Phase::Linked { .. } => "linked",
            },
            cannot: peer.cannot,
            heard_ago_ms: peer.heard_at.map(|at| since(now, at)),
            missing: peer.ports.iter().map(Tracker::missing).sum(),
            held: peer.ports.iter().map(Tracker::held).sum(),
            resync: peer.resync.map(|resync| (resync.digest.records, resync.entries.into())),
            resync_planned: peer.resync_at.is_some(),
            resyncs: peer.resyncs,
            last: peer.whole.map(|whole| LastResync {
                ago_ms: since(now, whole.at),
                took_ms: whole.took.as_millis() as u64,
                records: whole.records,
                refused: whole.refused,
            }),
        }
    }
}

impl Control {
    /// How far two directors are together.
    pub fn sync_status(&self, now: Instant) -> SyncStatus {
        let sync = &self.sync;
        let daemon = |role, rule: &DaemonRule| DaemonStatus {
            role,
            interface: rule.interface.clone(),
            syncid: rule.syncid,
            group: rule.group,
            port: rule.port,
            ports: sync.ports,
        };
        let master = sync.master.as_ref().map(|master| daemon("master", &master.rule));
        let backup = sync.backup.as_ref().map(|rule| daemon("backup", rule));
        let queues = self.shared.workers.iter().map(|worker| &worker.sync_queue);
        let assemblies = sync.master.iter().flat_map(|master| &master.assemblies);
        let resync = &sync.resync;
        SyncStatus {
            daemons: master.into_iter().chain(backup).collect(),
            warm: self.sync_is_warm(now),
            masters: resync
                .client
                .iter()
                .flat_map(|client| client.peers().map(|peer| PeerStatus::of(peer, now)))
                .collect(),
            backups: resync.server.as_ref().map(|server| server.sessions()).unwrap_or_default(),
            records_waiting: queues.clone().map(|queue| queue.waiting()).sum(),
            datagrams_waiting: assemblies.map(|assembly| assembly.waiting()).sum(),
            sent_ago_ms: sync.last_sent.map(|at| since(now, at)),
            received_ago_ms: sync.last_received.map(|at| since(now, at)),
            numbered: resync.is_numbering(),
            hails: resync.hails,
            records_lost: queues.map(|queue| queue.lost()).sum(),
            datagrams: sync.counters,
            resync: resync.client_counters,
            served: resync.server_counters,
        }
    }

    /// Executes `lvx sync status [--json]` and `lvx sync resync`.
    ///
    /// # Errors
    /// A sentence when the words are no such command.
    pub fn sync_command(&mut self, words: &[String], now: Instant) -> Result<Output, String> {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        match words.as_slice() {
            ["status"] => Ok(done(page(&self.sync_status(now)))),
            ["status", "--json"] => {
                let json = serde_json::to_string(&self.sync_status(now)).map_err(|error| error.to_string())?;
                Ok(done(json + "\n"))
            }
            ["resync"] => Ok(self.resync_now(now)),
            _ => Err(format!("lvxd knows no command `lvx sync {}'", words.join(" "))),
        }
    }

    fn resync_now(&mut self, now: Instant) -> Output {
        let mut asked = 0;
        self.with_client(now, |client, _, _| asked = client.resync_now(now));
        let failure = |text: &str| Output { exit: 1, stdout: String::new(), stderr: format!("lvx: {text}\n") };
        match (self.sync.backup.is_some(), self.sync.resync.client.is_some(), asked) {
            (false, ..) => failure("no sync daemon runs as backup (lvxadm --start-daemon backup)"),
            (true, false, _) => failure("resynchronisation is off"),
            (true, true, 0) => failure("no master was heard yet"),
            (true, true, asked) => done(format!("asked {asked} for the whole table\n")),
        }
    }

    /// True while a daemon of this role runs.
    pub fn runs_daemon(&self, role: DaemonRole) -> bool {
        match role {
            DaemonRole::Master => self.sync.master.is_some(),
            DaemonRole::Backup => self.sync.backup.is_some(),
        }
    }
}

fn done(stdout: String) -> Output {
    Output { exit: 0, stdout, stderr: String::new() }
}

fn ago(milliseconds: Option<u64>) -> String {
    milliseconds.map_or("never".into(), |ms| format!("{}.{:03} s ago", ms / 1000, ms % 1000))
}

/// The page that `lvx sync status` prints.
fn page(status: &SyncStatus) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    if status.daemons.is_empty() {
        text.push_str("no sync daemon runs\n");
    }
    for daemon in &status.daemons {
        let DaemonStatus { role, interface, syncid, port, ports, .. } = daemon;
        let _ = writeln!(text, "{role:<12} on {interface}, syncid {syncid}, UDP port {port}, {ports} in all");
    }
    let _ = writeln!(text, "state        {}", status.warm.text());
    for peer in &status.masters {
        write_peer(&mut text, peer);
    }
    for backup in &status.backups {
        let table = backup.table.map(|records| format!(", is being told the table: {records} records so far"));
        let (peer, pending) = (backup.peer, backup.pending_octets);
        let _ = writeln!(text, "backup       {peer}{}, {pending} octets wait for it", table.unwrap_or_default());
    }
    let counters = &status.datagrams;
    let _ = writeln!(
        text,
        "sent         {} connections in {} datagrams, the last {}; {} records and {} datagrams wait",
        counters.records_sent,
        counters.datagrams_sent,
        ago(status.sent_ago_ms),
        status.records_waiting,
        status.datagrams_waiting
    );
    let _ = writeln!(
        text,
        "lost         {} records (queue of a worker full), {} datagrams (sync_qlen_max)",
        status.records_lost, counters.datagrams_lost
    );
    let _ = writeln!(
        text,
        "received     {} datagrams, the last {}; {} malformed, {} of another syncid; {} connections taken over, {} not",
        counters.datagrams_received,
        ago(status.received_ago_ms),
        counters.datagrams_malformed,
        counters.datagrams_of_others,
        counters.records_applied,
        counters.records_skipped
    );
    let resync = &status.resync;
    let _ = writeln!(
        text,
        "repair       {} datagrams missed, {} repaired, {} not; {} late, {} twice",
        resync.missed, resync.repaired, resync.not_repaired, resync.reordered, resync.doubled
    );
    let _ = writeln!(
        text,
        "resync       {} asked for, {} whole, {} different, {} broken; {} connections taken over, {} known better, {} not",
        resync.resyncs,
        resync.resyncs_whole,
        resync.resyncs_different,
        resync.resyncs_broken,
        resync.records_applied,
        resync.records_newer,
        resync.records_refused
    );
    let served = &status.served;
    let _ = writeln!(
        text,
        "served       {} tables with {} connections, {} datagrams again, {} gone; {} backups greeted, {} refused",
        served.tables, served.records, served.again, served.gone, served.greeted, served.refused
    );
    text
}

fn write_peer(text: &mut String, peer: &PeerStatus) {
    let _ = write!(text, "master       {} {}, heard {}", peer.address, peer.state, ago(peer.heard_ago_ms));
    if let Some(cannot) = peer.cannot {
        let _ = write!(text, ", cannot resync: {}", cannot.meaning());
    }
    if peer.missing > 0 {
        let _ = write!(text, ", {} datagrams missing, {} wait for them", peer.missing, peer.held);
    }
    if let Some((records, entries)) = peer.resync {
        let _ = write!(text, ", resynchronising: {records} of about {entries}");
    }
    if let Some(last) = &peer.last {
        let LastResync { took_ms, records, refused, .. } = last;
        let when = ago(Some(last.ago_ms));
        let _ =
            write!(text, ", resynchronised {when} in {took_ms} ms: {records} records, digest ok, {refused} refused");
    }
    text.push('\n');
}
