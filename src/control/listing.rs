//! Answers to what is only asked.

use crate::base::Instant;
use crate::command::request::{ConnectionInfo, Refusal, ServerInfo, ServiceInfo};

use crate::command::{Reply, Response};
use crate::conn::entry::ticks;
use crate::conn::{Entry, Flags, Table};
use crate::control::{Control, ServiceEntry};
use crate::service::{DestinationId, Engine, ServiceKey};

impl Control {
    pub(super) fn list_services(&self, only: Option<&ServiceKey>) -> Reply {
        let services: Vec<ServiceInfo> = match only {
            Some(key) => {
                let index = self.service(key).ok_or(Refusal::NoService)?;
                vec![self.service_info(&self.services[index])]
            }
            None => {
                // The kernel walks the table of addresses before that of marks, and ipvsadm's sorting does not hide it.
                let (marks, addresses): (Vec<_>, Vec<_>) =
                    self.services.iter().partition(|service| service.rule.key.is_mark());
                addresses.into_iter().chain(marks).map(|service| self.service_info(service)).collect()
            }
        };
        Ok(Response::Services { table_size: self.table_size, services })
    }

    fn service_info(&self, service: &ServiceEntry) -> ServiceInfo {
        let servers = service.servers.iter().map(|server| {
            let destination = self.shared.destinations.get(server.id);
            ServerInfo {
                rule: server.rule,
                active: destination.active(),
                inactive: destination.inactive(),
                persistent: destination.persistent(),
                stats: server.tally.stats(),
            }
        });
        ServiceInfo { rule: service.rule.clone(), stats: service.tally.stats(), servers: servers.collect() }
    }

    /// All connections at once; the control socket lists them in slices with [`Control::connections_of`].
    pub(super) fn list_connections(&self, now: Instant) -> Reply {
        let mut rows = Vec::new();
        for bucket in 0..self.shared.connections.bucket_count() {
            self.connections_of(bucket, now, &mut rows);
        }
        Ok(Response::Connections(rows))
    }

    /// Appends the connections of one bucket of the table.
    pub fn connections_of(&self, bucket: usize, now: Instant, rows: &mut Vec<ConnectionInfo>) {
        let connections = &self.shared.connections;
        connections.visit_bucket(bucket, now, |entry| rows.push(connection_info(entry, connections, now)));
    }

    pub(super) fn list_timeouts(&self) -> Reply {
        let (tcp_s, tcp_fin_s, udp_s) = self.shared.connections.timeouts().get();
        Ok(Response::Timeouts { tcp_s, tcp_fin_s, udp_s })
    }
}

fn connection_info(entry: Entry<'_>, table: &Table, now: Instant) -> ConnectionInfo {
    let flags = entry.flags();
    let mut destination = entry.destination_endpoint();
    if entry.destination() != DestinationId::NONE {
        // An IPv4 entry has no room for the address of an IPv6 tunnel's end.
        let configured = table.destinations().get(entry.destination()).endpoint().address;
        if configured.family() != entry.client().address.family() {
            destination.address = configured;
        }
    }
    let data = table.engine_data(entry);
    ConnectionInfo {
        protocol: entry.protocol(),
        expires_s: entry.expires_s(ticks(now)),
        state: entry.state().name(entry.protocol(), flags.has(Flags::TEMPLATE)).to_owned(),
        client: entry.client(),
        virtual_service: entry.virtual_service(),
        destination,
        // There is one engine, and its data are text.
        engine: (!data.is_empty())
            .then(|| (Engine::Sip.name().to_owned(), String::from_utf8_lossy(&data).into_owned())),
        from_sync: flags.has(Flags::SYNC),
    }
}
