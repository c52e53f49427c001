//! Packets of real servers that belong to no connection: some begin one, some are told that nobody wants them.
//!
//! Source: `ip_vs_out_hook`, `ip_vs_new_conn_out` of `net/netfilter/ipvs/ip_vs_core.c`, Linux 6.1.

use crate::base::{Endpoint, Instant};
use crate::conn::{EntryId, Flags, Key, New};
use crate::forward::decide::{Answer, Decision, Target};
use crate::forward::parse::{ENDS, Packet};
use crate::forward::pipeline::Forwarder;
use crate::forward::schedule::{Opener, Received, TemplateKey, payload};
use crate::forward::verdict::Verdict;
use crate::port::Port;
use crate::service::real_servers::RealServer;
use crate::service::sysctl::Knob;
use crate::service::{Method, Protocol, ServiceKey};

impl Forwarder {
    /// Decides on a packet that crosses the director and belongs to no connection.
    #[cold]
    pub(super) fn decide_unknown_outbound<P: Port>(
        &self,
        received: &Received<'_, P>,
        packet: &Packet,
        hash: u64,
        now: Instant,
        target: &mut Target,
    ) -> Decision {
        let server = self.real_servers().find(packet.protocol, packet.source).filter(|_| !packet.is_ipsec);
        let Some(server) = server else { return self.decide_crossing(received, packet, now, target) };
        if let Some(connection) = self.connection_from(server, received, packet, now) {
            if connection.flags.has(Flags::ONE_PACKET) {
                return self.return_once(&connection, packet, target);
            }
            return match self.admit(&connection, hash, now) {
                Ok(found) => self.follow_outbound(found, received, packet, now, target),
                Err(_) => Decision::Verdict(Verdict::Pass),
            };
        }
        if self.shared.sysctls.is_on(Knob::NatIcmpSend) && packet.opening & ENDS == 0 {
            return Decision::Answer(Answer::Unwanted);
        }
        self.decide_crossing(received, packet, now, target)
    }

    /// The connection that a real server's datagram begins: where the service has a persistence engine, which knows
    /// calls whichever side begins them.
    fn connection_from<P: Port>(
        &self,
        server: &RealServer,
        received: &Received<'_, P>,
        packet: &Packet,
        now: Instant,
    ) -> Option<New> {
        let service = &*server.service;
        let ServiceKey::Address { endpoint, .. } = service.key else { return None };
        if service.engine.is_none() || packet.protocol != Protocol::Udp || endpoint.port == 0 {
            return None;
        }
        let opener = Opener {
            protocol: packet.protocol,
            client: packet.destination,
            service: endpoint,
            mark: 0,
            payload: payload(received, packet),
            is_error: false,
        };
        let controller = match &service.persistence {
            None => EntryId::NONE,
            Some(persistence) => {
                let key = Key {
                    protocol: Some(packet.protocol),
                    client: Endpoint::new(persistence.masked(opener.client.address), 0),
                    other: endpoint,
                };
                let data = self.engine_data(service, &opener).ok()?;
                let chosen = (server.id, packet.source);
                let wanted = TemplateKey { key, data, mark: 0 };
                self.template(&wanted, persistence, now, Some(server.id), |_| Some(chosen)).ok()?.id
            }
        };
        Some(self.connection(service, &opener, server.id, packet.source.port, controller))
    }

    /// Sends a datagram of one-packet scheduling to the client.
    fn return_once(&self, connection: &New, packet: &Packet, target: &mut Target) -> Decision {
        self.count_once(connection);
        self.shared.connections.assure(connection.controller);
        self.shared.connections.end_one_packet(connection.controller);
        self.counters().destination(connection.destination_id).count_out(packet.length);
        debug_assert_eq!(connection.flags.method(), Method::Masquerading, "only those are looked for");
        target.new = connection.key.other;
        Decision::ToClient
    }
}
