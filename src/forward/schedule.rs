//! A packet without a connection: may it open one, of which service, with which real server (`ip_vs_schedule`).

use crate::base::{Address, Endpoint, Instant};
use crate::conn::{EntryId, Flags, Key, New};
use crate::forward::decide::{Answer, Decision, Target};
use crate::forward::parse::Packet;
use crate::forward::pipeline::Forwarder;
use crate::forward::verdict::{DropReason, Verdict};
use crate::service::sysctl::Knob;
use crate::service::{DestinationId, Flow, Protocol, Service};
use crate::wire::tcp::{FLAG_RST, FLAG_SYN};

/// Active FTP's data port, from which the helper expects connections: never scheduled as a client's.
const FTP_DATA_PORT: u16 = 20;
const FTP_PORT: u16 = 21;

impl Forwarder {
    /// Opens a connection for a packet that has none, or says what becomes of it instead.
    #[cold]
    #[inline(never)]
    pub(super) fn open(&self, packet: &Packet, hash: u64, now: Instant, target: &mut Target) -> Decision {
        if self.is_martian(packet.source.address) {
            return Decision::Verdict(Verdict::Drop(DropReason::Martian));
        }
        if !self.may_open(packet) || packet.source.port == FTP_DATA_PORT {
            return Decision::Verdict(Verdict::Pass);
        }
        let (address, port) = (packet.destination.address, packet.destination.port);
        let Some((service, mark)) = self.service_of(packet) else {
            return Decision::Verdict(Verdict::Pass);
        };
        if port != service.port() && !service.is_by_mark() {
            return no_server(service, packet);
        }
        let flow = Flow {
            source: packet.source.address,
            source_port: packet.source.port,
            destination: address,
            destination_port: port,
            protocol: Some(packet.protocol),
            now,
        };
        let picked = service.scheduling.lock().pick(&self.shared.destinations, &flow);
        let Some(destination) = picked else { return no_server(service, packet) };
        let connection = self.connection_to(destination, packet, mark);
        self.insert(&connection, packet, hash, now, target)
    }

    fn connection_to(&self, destination_id: DestinationId, packet: &Packet, mark: u32) -> New {
        let destination = self.shared.destinations.get(destination_id);
        let mut server = destination.endpoint();
        if server.port == 0 {
            server.port = packet.destination.port;
        }
        New {
            key: Key { protocol: Some(packet.protocol), client: packet.source, other: packet.destination },
            destination: Endpoint::new(server.address, server.port),
            destination_id,
            flags: Flags::new(destination.method()),
            mark,
            controller: EntryId::NONE,
            timeout_s: 0,
        }
    }

    /// TCP opens with a SYN (or, when sloppy, with anything but RST); a datagram always does.
    fn may_open(&self, packet: &Packet) -> bool {
        match packet.protocol {
            Protocol::Tcp => {
                packet.tcp_flags & FLAG_RST == 0
                    && (packet.tcp_flags & FLAG_SYN != 0 || self.shared.sysctls.is_on(Knob::SloppyTcp))
            }
            Protocol::Udp => true,
            Protocol::Sctp => false,
        }
    }

    /// Addresses that the host accepts from nobody (`ip_route_input_slow`, `fib_validate_source`).
    fn is_martian(&self, source: Address) -> bool {
        source.is_unspecified()
            || source.is_multicast()
            || source.is_broadcast()
            || source.is_loopback()
            || self.routes().is_local(source)
    }
}

/// No real server can be had (`ip_vs_leave`).
fn no_server(service: &Service, packet: &Packet) -> Decision {
    if service.port() == FTP_PORT && packet.destination.port != FTP_PORT {
        return Decision::Verdict(Verdict::Pass);
    }
    Decision::Answer(Answer::PortUnreachable)
}
