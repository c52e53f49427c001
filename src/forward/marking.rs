//! Marks: which service takes a packet without a connection, and packets that reach IPVS by their mark alone.
//!
//! In the kernel such packets, addressed to somebody else, are made local by a policy rule (`ip rule add fwmark …`).
//!
//! **Deviation**: lvx does not read policy rules; a packet whose mark selects a service is balanced wherever it is
//! addressed to. So are later packets of its connection.

use std::sync::Arc;

use crate::base::{Family, Instant};
use crate::forward::decide::{Decision, Target};
use crate::forward::parse::Packet;
use crate::forward::pipeline::Forwarder;
use crate::forward::related::Related;
use crate::forward::schedule::Received;
use crate::forward::verdict::Verdict;
use crate::mark::Facts;
use crate::port::Port;
use crate::service::Service;

impl Forwarder {
    /// The service that takes a packet which has no connection, and the packet's mark. The rules are walked here and
    /// nowhere else.
    pub(super) fn service_of(&self, packet: &Packet) -> Option<(&Arc<Service>, u32)> {
        let (services, address) = (self.services(), packet.destination.address);
        if self.marks().rules(packet.family).is_empty() {
            return Some((services.find(0, packet.protocol, address, packet.destination.port)?, 0));
        }
        let facts = self.facts(packet);
        let mark = self.marks().of(&facts);
        let service = match facts.is_local {
            true => services.find(mark, packet.protocol, address, packet.destination.port),
            false => services.find_marked(packet.family, mark),
        };
        Some((service?, mark))
    }

    /// What rules can ask of a packet.
    pub(super) fn facts(&self, packet: &Packet) -> Facts<'_> {
        let routes = self.routes();
        Facts {
            interface: routes.link(packet.interface).map_or("", |link| link.name.as_str()),
            protocol: packet.protocol,
            source: packet.source,
            destination: packet.destination,
            is_local: routes.is_local(packet.destination.address),
        }
    }

    /// True when packets of the family that are not addressed to the director may be marked for a service.
    #[inline]
    pub(super) fn marks_crossing(&self, family: Family) -> bool {
        self.services().has_marks() && !self.marks().rules(family).is_empty()
    }

    /// Decides on a packet that crosses the director and is no answer: a mark may make it ours, else it is the host's.
    #[cold]
    #[inline(never)]
    pub(super) fn decide_crossing<P: Port>(
        &self,
        received: &Received<'_, P>,
        packet: &Packet,
        now: Instant,
        target: &mut Target,
    ) -> Decision {
        if !self.marks_crossing(packet.family) {
            return Decision::Verdict(Verdict::Pass);
        }
        let hash = self.shared.connections.hash(Some(packet.protocol), packet.source);
        self.decide_inbound(received, packet, hash, now, target)
    }

    /// Decides on an ICMP error that crosses the director. Errors carry no mark, so those about what a service by mark
    /// sent to a client are recognised by what they quote (`ip_vs_forward_icmp`).
    #[cold]
    pub(super) fn decide_related_crossing<P: Port>(
        &self,
        received: &Received<'_, P>,
        packet: &Packet,
        related: &Related,
        now: Instant,
        target: &mut Target,
    ) -> Decision {
        if packet.ttl > 1 && self.marks_crossing(packet.family) {
            let decision = self.decide_related_inbound(received, packet, related, now, target);
            if !matches!(decision, Decision::Verdict(Verdict::Pass)) {
                return decision;
            }
        }
        self.decide_related_outbound(packet, related, now, target)
    }
}
