//! The backup's side: from a datagram to entries of the connection table.
//!
//! **Deviation**: what makes no sense is left out where the reference lets it in and later kernels do not: templates in
//! no state, one-packet scheduling, templates that wait for a client's port. So are protocols that lvx does not
//! balance (AH, ESP) and methods that are none.

use crate::base::Instant;
use crate::command::request::DaemonRule;
use crate::conn::sync::{Applied, Synced};
use crate::conn::{Flags, Key, State, Table};
use crate::control::Control;
use crate::service::{DestinationId, Destinations, Engine, Method, Protocol, Services};
use crate::wire::sync::{Flaw, Message, Record};

/// What a backup takes over of flags: `IP_VS_CONN_F_BACKUP_MASK` less moved sequence numbers.
const TAKEN_OVER: Flags = Flags(0x1987);

impl Control {
    /// Takes a datagram that came to the group. Without a backup daemon it is nobody's.
    pub fn receive_sync(&mut self, now: Instant, datagram: &[u8]) {
        let Some(DaemonRule { syncid, sync_maxlen, .. }) = self.sync.backup else { return };
        let counters = &mut self.sync.counters;
        counters.datagrams_received += 1;
        // A longer one would be cut, and then not be as long as it says.
        let message = match Message::parse(datagram) {
            Ok(message) if datagram.len() <= usize::from(sync_maxlen) => message,
            _ => {
                counters.datagrams_malformed += 1;
                return;
            }
        };
        if syncid != 0 && message.syncid != syncid {
            counters.datagrams_of_others += 1;
            return;
        }
        let (_, services) = self.shared.services.load();
        let connections = &self.shared.connections;
        let packets = self.shared.sysctls.sync_threshold().0 as u32;
        for record in message.records() {
            let record = match record {
                Ok(record) => record,
                Err(Flaw::Unknown) => {
                    counters.records_skipped += 1;
                    continue;
                }
                Err(Flaw::Fatal) => {
                    counters.datagrams_malformed += 1;
                    return;
                }
            };
            let applied = synced(&record, packets).map(|synced| {
                connections.apply(&synced, now, || find_destination(&services, &self.shared.destinations, &synced))
            });
            match applied {
                Some(Applied::New | Applied::Updated) => counters.records_applied += 1,
                Some(Applied::Late | Applied::Full) | None => counters.records_skipped += 1,
            }
        }
    }
}

/// What a record says, when it can be taken over.
fn synced<'a>(record: &Record<'a>, packets: u32) -> Option<Synced<'a>> {
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
