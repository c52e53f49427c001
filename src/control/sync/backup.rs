//! The backup's side: from a datagram to entries of the connection table.
//!
//! **Deviation**: what makes no sense is left out where the reference lets it in and later kernels do not: templates in
//! no state, one-packet scheduling, templates that wait for a client's port. So are protocols that lvx does not
//! balance (AH, ESP) and methods that are none.

use std::sync::Arc;

use crate::base::Instant;
use crate::command::request::DaemonRule;
use crate::conn::sync::{Applied, Synced};
use crate::conn::{Flags, Key, State, Table};
use crate::control::sync::SyncCounters;
use crate::forward::Shared;
use crate::service::{DestinationId, Destinations, Engine, Method, Protocol, Services};
use crate::wire::resync::Digest;
use crate::wire::sync::{Flaw, Message, Record};

/// What a backup takes over of flags: `IP_VS_CONN_F_BACKUP_MASK` less moved sequence numbers.
const TAKEN_OVER: Flags = Flags(0x1987);

/// What came of the records of a datagram.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Learnt {
    /// Entries made or brought up to date.
    pub(super) applied: u64,
    /// Entries that knew better.
    pub(super) newer: u64,
    /// Connections that cannot be taken over.
    pub(super) refused: u64,
    /// Malformed from some record on.
    is_malformed: bool,
}

/// Puts what masters tell into the table.
pub(super) struct Learner<'a> {
    shared: &'a Shared,
    services: Arc<Services>,
    counters: &'a mut SyncCounters,
    syncid: u8,
    octets_max: usize,
    packets: u32,
}

impl<'a> Learner<'a> {
    /// For the backup's daemon of this rule.
    pub(super) fn new(shared: &'a Shared, counters: &'a mut SyncCounters, rule: &DaemonRule) -> Self {
        let (_, services) = shared.services.load();
        let packets = shared.sysctls.sync_threshold().0 as u32;
        let octets_max = usize::from(rule.sync_maxlen);
        Self { shared, services, counters, syncid: rule.syncid, octets_max, packets }
    }

    /// Checks a datagram's header; what is wrong is counted.
    pub(super) fn check<'d>(&mut self, datagram: &'d [u8]) -> Option<Message<'d>> {
        // A longer one would be cut, and then not be as long as it says.
        let message = match Message::parse(datagram) {
            Ok(message) if datagram.len() <= self.octets_max => message,
            _ => {
                self.counters.datagrams_malformed += 1;
                return None;
            }
        };
        if self.syncid != 0 && message.syncid != self.syncid {
            self.counters.datagrams_of_others += 1;
            return None;
        }
        Some(message)
    }

    /// Takes a datagram, whose header is checked again.
    pub(super) fn take(&mut self, now: Instant, datagram: &[u8]) {
        let Some(message) = self.check(datagram) else { return };
        let learnt = self.learn(now, &message, None, |_| {});
        self.counters.records_applied += learnt.applied;
        self.counters.records_skipped += learnt.refused;
        self.counters.datagrams_malformed += u64::from(learnt.is_malformed);
    }

    /// Takes a part of a table that was asked for at `since`: what datagrams have told since then is newer.
    pub(super) fn take_table(&mut self, now: Instant, datagram: &[u8], since: Instant, digest: &mut Digest) -> Learnt {
        match Message::parse(datagram) {
            Ok(message) if self.syncid == 0 || message.syncid == self.syncid => {
                self.learn(now, &message, Some(since), |record| digest.add(record))
            }
            // What is missing then, the digest tells.
            _ => Learnt::default(),
        }
    }

    fn learn(
        &self,
        now: Instant,
        message: &Message<'_>,
        since: Option<Instant>,
        mut note: impl FnMut(&Record<'_>),
    ) -> Learnt {
        let (services, destinations) = (&self.services, &self.shared.destinations);
        let mut learnt = Learnt::default();
        for record in message.records() {
            let record = match record {
                Ok(record) => record,
                Err(Flaw::Unknown) => {
                    learnt.refused += 1;
                    continue;
                }
                Err(Flaw::Fatal) => {
                    learnt.is_malformed = true;
                    break;
                }
            };
            note(&record);
            let applied = synced(&record, self.packets, since).map(|synced| {
                self.shared.connections.apply(&synced, now, || find_destination(services, destinations, &synced))
            });
            match applied {
                Some(Applied::New | Applied::Updated) => learnt.applied += 1,
                Some(Applied::Newer) => learnt.newer += 1,
                Some(Applied::Late | Applied::Full) | None => learnt.refused += 1,
            }
        }
        learnt
    }
}

/// What a record says, when it can be taken over.
fn synced<'a>(record: &Record<'a>, packets: u32, since: Option<Instant>) -> Option<Synced<'a>> {
    let told = Flags(record.flags);
    let flags = Flags(record.flags & TAKEN_OVER.0);
    let is_template = flags.has(Flags::TEMPLATE);
    let protocol = Protocol::from_number(record.protocol);
    let states = match (is_template, protocol) {
        (true, _) => u16::from(State::TEMPLATE_ASSURED.0) + 1,
        (false, Some(protocol)) => Table::states(protocol),
        (false, None) => 0,
    };
    let is_known = protocol.is_some() || record.protocol == 0;
    let waits = flags.has(Flags::NO_CLIENT_PORT) && is_template;
    if record.state >= states || !is_known || waits || told.has(Flags::ONE_PACKET) {
        return None;
    }
    Method::from_number((record.flags & 0x7) as u8)?;
    let has_engine = !record.engine_data.is_empty();
    if has_engine && std::str::from_utf8(record.engine_name).ok().and_then(Engine::by_name).is_none() {
        return None;
    }
    Some(Synced {
        key: Key { protocol, client: record.client, other: record.virtual_service },
        destination: record.destination,
        flags,
        state: State(record.state as u8),
        mark: record.mark,
        timeout_s: record.timeout_s,
        engine_data: record.engine_data,
        packets,
        left_ms: record.left_ms,
        unless_since: since,
    })
}

/// The real server of this director that a connection goes to (`ip_vs_find_dest`).
fn find_destination(services: &Services, destinations: &Destinations, synced: &Synced<'_>) -> Option<DestinationId> {
    let service = synced.key.other;
    let found = match synced.key.protocol {
        Some(protocol) => services.find(synced.mark, protocol, service.address, service.port),
        None => services.find_marked(service.address.family(), synced.mark),
    };
    let server = synced.destination;
    let scheduling = found?.scheduling.lock();
    let at = |port: u16| {
        let is_it = |id: &&DestinationId| {
            let endpoint = destinations.get(**id).endpoint();
            endpoint.address == server.address && endpoint.port == port
        };
        scheduling.ids.iter().find(is_it).copied()
    };
    // A mark's packets keep their ports, unless they are masqueraded.
    let keeps_port = synced.mark != 0 && synced.flags.method() != Method::Masquerading;
    let (first, second) = if keeps_port { (0, server.port) } else { (server.port, 0) };
    at(first).or_else(|| at(second))
}
