//! The sync daemons: a master that tells backups of connections, a backup that takes over what it is told. Both may
//! run at once.
//!
//! Source: `start_sync_thread`, `stop_sync_thread`, `sync_thread_master`, `ip_vs_process_message` of
//! `net/netfilter/ipvs/ip_vs_sync.c`, Linux 6.1.
//!
//! **Addition**: [`resync`], between two lvx.
//!
//! **Deviation**: a master that is stopped sends what it has collected; the reference throws it away.

mod assembly;
mod backup;
pub mod resync;

#[cfg(test)]
mod tests;

use crate::base::{Address, Family, Instant};
use crate::command::request::{DaemonRole, DaemonRule, Refusal};
use crate::command::{Reply, Response};
use crate::conn::engine_data::{EngineOctets, data_of};
use crate::conn::sync::{Policy, SyncRecord};
use crate::control::sync::assembly::{Assembly, Shape};
use crate::control::sync::resync::Resync;
use crate::control::{Action, Control};
use crate::forward::SyncRoles;
use crate::service::Engine;
use crate::service::sysctl::Knob;
use crate::wire::sync::{Record, STAMP_OCTETS, Version};

/// The group of IPv4 when none is given: 224.0.0.81.
pub const GROUP: Address = Address::v4(0xe000_0051);
/// The UDP port when none is given.
const PORT: u16 = 8848;
/// Most sync ports (`IP_VS_SYNC_PORTS_MAX`).
const PORTS_MAX: i64 = 64;
/// The MTU that a master counts on, and the least that a backup does.
const MTU: u32 = 1500;
/// Octets of the longest IP packet.
const PACKET_OCTETS_MAX: u32 = 65_535;
/// The least `--sync-maxlen` that a backup goes by.
const BACKUP_OCTETS_MIN: u32 = 1024;

/// A sync daemon as the host has to run it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SyncDaemon {
    /// Sender or receiver, interface, group, first port, TTL; nothing of it is left to a default.
    pub rule: DaemonRule,
    /// Ports in use, from the first on.
    pub ports: u16,
    /// Octets of the socket's buffer; 0 for the system's default.
    pub buffer_octets: u32,
}

/// What the sync daemons did since the director's start.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, serde::Serialize)]
pub struct SyncCounters {
    /// Connections told of.
    pub records_sent: u64,
    /// Datagrams handed over for sending.
    pub datagrams_sent: u64,
    /// Datagrams lost because too many waited (`sync_qlen_max`).
    pub datagrams_lost: u64,
    /// Datagrams received.
    pub datagrams_received: u64,
    /// Datagrams of another syncid.
    pub datagrams_of_others: u64,
    /// Datagrams that were malformed, or were so from some record on.
    pub datagrams_malformed: u64,
    /// Connections taken over: entries made or brought up to date.
    pub records_applied: u64,
    /// Connections told of that cannot be taken over: unknown protocol, state or engine, late news, a full table.
    pub records_skipped: u64,
}

/// The daemons that run.
#[derive(Default)]
pub(super) struct SyncState {
    master: Option<Master>,
    backup: Option<DaemonRule>,
    /// Ports of both, as of the start of the first.
    ports: u16,
    /// The MTU of an interface that a request is about to name; `None` when there is no such interface.
    known_interface: Option<(String, u32)>,
    /// When the last datagram came.
    last_received: Option<Instant>,
    /// When the last one left.
    last_sent: Option<Instant>,
    resync: Resync,
    pub(super) counters: SyncCounters,
}

struct Master {
    rule: DaemonRule,
    /// One for each port.
    assemblies: Vec<Assembly>,
}

impl SyncState {
    fn is_running(&self) -> bool {
        self.master.is_some() || self.backup.is_some()
    }

    /// When something has to leave.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let assemblies = self.master.iter().flat_map(|master| &master.assemblies);
        assemblies.filter_map(Assembly::next_deadline).chain(self.resync.next_deadline()).min()
    }
}

impl Control {
    /// Tells of an interface of the host that the next request to start a daemon names: its MTU, octets, or that it is
    /// not there.
    pub fn learn_interface(&mut self, name: &str, mtu: Option<u32>) {
        self.sync.known_interface = mtu.map(|mtu| (name.to_owned(), mtu));
    }

    /// What the sync daemons did.
    pub fn sync_counters(&self) -> SyncCounters {
        self.sync.counters
    }

    /// True while a sync daemon runs.
    pub(super) fn synchronises(&self) -> bool {
        self.sync.is_running()
    }

    /// True while a master runs.
    pub fn is_sync_master(&self) -> bool {
        self.sync.master.is_some()
    }

    pub(super) fn start_daemon(&mut self, now: Instant, rule: DaemonRule) -> Reply {
        let is_mixed = self.services.iter().any(|service| {
            let family = service.rule.key.family();
            service.servers.iter().any(|server| server.rule.endpoint.address.family() != family)
        });
        if is_mixed {
            return Err(Refusal::Invalid);
        }
        let known = self.sync.known_interface.as_ref().filter(|(name, _)| *name == rule.interface);
        let &(_, mtu) = known.ok_or(Refusal::NoDevice)?;
        let is_there = match rule.role {
            DaemonRole::Master => self.sync.master.is_some(),
            DaemonRole::Backup => self.sync.backup.is_some(),
        };
        if is_there {
            return Err(Refusal::Exists);
        }
        if !self.sync.is_running() {
            self.sync.ports = self.shared.sysctls.get(Knob::SyncPorts).clamp(1, PORTS_MAX) as u16;
        }
        let rule = complete(rule, mtu);
        match rule.role {
            DaemonRole::Master => {
                self.shared.workers.iter().for_each(|worker| worker.sync_queue.prepare());
                self.shared.connections.note_postponed(true);
                let assemblies = (0..self.sync.ports).map(|_| Assembly::default()).collect();
                self.sync.master = Some(Master { rule: rule.clone(), assemblies });
            }
            DaemonRole::Backup => self.sync.backup = Some(rule.clone()),
        }
        self.update_sync_roles();
        let buffer_octets = self.shared.sysctls.get(Knob::SyncSockSize).clamp(0, i64::from(i32::MAX)) as u32;
        let ports = self.sync.ports;
        self.actions.push_back(Action::StartSync(SyncDaemon { rule: rule.clone(), ports, buffer_octets }));
        match rule.role {
            DaemonRole::Master => self.start_server(now, &rule, ports),
            DaemonRole::Backup => self.start_client(now),
        }
        Ok(Response::Done)
    }

    pub(super) fn stop_daemon(&mut self, now: Instant, role: DaemonRole) -> Reply {
        match role {
            DaemonRole::Master => {
                self.collect_sync(now);
                let mut master = self.sync.master.take().ok_or(Refusal::NoService)?;
                self.shared.connections.note_postponed(false);
                let octets_max = longest_numbered(&master.rule);
                let mut last = Vec::new();
                for (port, assembly) in (0..).zip(&mut master.assemblies) {
                    while let Some(mut datagram) = assembly.take_last() {
                        self.sync.counters.datagrams_sent += 1;
                        self.sync.resync.number(now, port, &mut datagram, octets_max);
                        last.push((port, datagram.clone()));
                        self.actions.push_back(Action::SendSync { port, datagram });
                    }
                }
                self.end_server(&last);
            }
            DaemonRole::Backup => {
                self.end_client(now);
                self.sync.backup.take().ok_or(Refusal::NoService)?;
            }
        }
        self.update_sync_roles();
        self.actions.push_back(Action::StopSync(role));
        Ok(Response::Done)
    }

    pub(super) fn list_daemons(&self) -> Reply {
        let master = self.sync.master.as_ref().map(|master| &master.rule);
        Ok(Response::Daemons(master.into_iter().chain(&self.sync.backup).cloned().collect()))
    }

    /// Tells workers which daemons run.
    pub(super) fn update_sync_roles(&self) {
        let is_passive = self.sync.backup.is_some() && self.shared.sysctls.is_on(Knob::BackupOnly);
        self.shared.sync_roles.store(SyncRoles { is_master: self.sync.master.is_some(), is_passive });
    }

    /// Makes datagrams of the records that workers left, and sends what is due.
    pub fn collect_sync(&mut self, now: Instant) {
        let Some(master) = &mut self.sync.master else { return };
        let sysctls = &self.shared.sysctls;
        let policy = Policy::of(sysctls);
        let longest = usize::from(master.rule.sync_maxlen);
        let longest_numbered = longest_numbered(&master.rule);
        let number_octets = if self.sync.resync.is_numbering() { STAMP_OCTETS } else { 0 };
        let octets_max = longest.saturating_sub(number_octets);
        let queue_max = usize::try_from(sysctls.get(Knob::SyncQlenMax)).unwrap_or(0);
        let version = if policy.version_0 { Version::V0 } else { Version::V1 };
        let shape = Shape { version, syncid: master.rule.syncid, octets_max, queue_max };
        let counters = &mut self.sync.counters;
        let mut add = |record: &SyncRecord, engine_data: Option<&EngineOctets>| {
            let record_on_wire = wire_record(record, engine_data);
            // It was made for the other version a moment ago.
            if !record_on_wire.fits(version) {
                return;
            }
            // As many as there are ports: a power of two.
            let port = record.spread as usize & (master.assemblies.len() - 1);
            counters.records_sent += 1;
            counters.datagrams_lost += master.assemblies[port].add(now, &shape, &record_on_wire);
        };
        for worker in &self.shared.workers {
            while let Some((record, engine_data)) = worker.sync_queue.take() {
                add(&record, engine_data.as_ref());
            }
        }
        self.shared.connections.synchronise_postponed(&policy, now, |record, data| add(&record, data));
        let lost_by_workers: u64 = self.shared.workers.iter().map(|worker| worker.sync_queue.lost()).sum();
        self.sync.resync.note_lost(now, counters.datagrams_lost + lost_by_workers);
        for (port, assembly) in (0..).zip(&mut master.assemblies) {
            while let Some(mut datagram) = assembly.take(now) {
                counters.datagrams_sent += 1;
                self.sync.last_sent = Some(now);
                self.sync.resync.number(now, port, &mut datagram, longest_numbered);
                self.actions.push_back(Action::SendSync { port, datagram });
            }
        }
    }
}

/// Octets of the longest datagram that may get a number: where a record alone is longer than datagrams should be, what any
/// backup takes.
fn longest_numbered(rule: &DaemonRule) -> usize {
    u32::from(rule.sync_maxlen).max(BACKUP_OCTETS_MIN) as usize
}

/// A rule in which nothing is left to a default.
fn complete(rule: DaemonRule, mtu: u32) -> DaemonRule {
    let group = rule.group.unwrap_or(GROUP);
    let header_octets = match group.family() {
        Family::V4 => 28,
        Family::V6 => 48,
    };
    let (mtu, least) = match rule.role {
        DaemonRole::Master => (MTU, 1),
        DaemonRole::Backup => (mtu.clamp(MTU, PACKET_OCTETS_MAX), BACKUP_OCTETS_MIN),
    };
    let octets = match u32::from(rule.sync_maxlen) {
        0 => mtu - header_octets,
        given => given.clamp(least, PACKET_OCTETS_MAX - header_octets),
    };
    DaemonRule {
        sync_maxlen: octets as u16,
        group: Some(group),
        port: if rule.port == 0 { PORT } else { rule.port },
        ttl: rule.ttl.max(1),
        ..rule
    }
}

fn wire_record<'a>(record: &SyncRecord, engine_data: Option<&'a EngineOctets>) -> Record<'a> {
    let data: &[u8] = engine_data.map_or(&[], data_of);
    Record {
        protocol: record.key.protocol.map_or(0, |protocol| protocol.number()),
        flags: record.flags.0,
        state: u16::from(record.state.0),
        client: record.key.client,
        virtual_service: record.key.other,
        destination: record.destination,
        mark: record.mark,
        timeout_s: record.timeout_s,
        sequences: None,
        // There is one engine.
        engine_name: if data.is_empty() { &[] } else { Engine::Sip.name().as_bytes() },
        engine_data: data,
        left_ms: None,
    }
}
