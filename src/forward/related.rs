//! ICMP errors about balanced packets: the packet that an error quotes, and masquerading of both.
//!
//! Source: `ip_vs_in_icmp`, `ip_vs_out_icmp`, `ip_vs_nat_icmp` of Linux 6.1; RFC 5508 for what a NAT owes ICMP.

use crate::base::{Address, Endpoint, Family, Frame, Instant};
use crate::conn::{Flags, Found, Key};
use crate::forward::decide::{Decision, Target};
use crate::forward::egress::Path;
use crate::forward::nat::{self, Side};
use crate::forward::parse::Packet;
use crate::forward::pipeline::Forwarder;
use crate::forward::schedule::{Opener, Received};
use crate::forward::verdict::{DropReason, Verdict};
use crate::port::Port;
use crate::route::Hop;
use crate::service::sysctl::Knob;
use crate::service::{DestinationId, Method, Protocol};
use crate::wire::checksum;

/// Octets of an ICMP error before the packet that it quotes.
pub(super) const ICMP_HEADER_OCTETS: usize = 8;
const ICMP_CHECKSUM: usize = 2;
const V4_HEADER_OCTETS: usize = 20;
const V6_HEADER_OCTETS: usize = 40;
const ICMPV6: u8 = 58;
/// Octets of its transport header that every quoted packet must have.
const QUOTED_OCTETS: usize = 8;

/// An ICMP error and the packet it is about, by offsets in the frame.
#[derive(Clone, Copy, Debug)]
pub(super) struct Related {
    /// Source of the quoted packet.
    pub source: Endpoint,
    /// Destination of the quoted packet.
    pub destination: Endpoint,
    /// Transport protocol of the quoted packet.
    pub protocol: Protocol,
    /// Offset of the ICMP header.
    icmp: usize,
    /// End of the ICMP message.
    end: usize,
    /// Offset of the quoted packet.
    quoted: usize,
    /// Offset of the quoted transport header.
    transport: usize,
}

/// True for the types that IPVS relates to connections: unreachable, source quench, time exceeded; all errors of
/// ICMPv6. Others are the host's.
pub(super) const fn is_related_type(family: Family, kind: u8) -> bool {
    match family {
        Family::V4 => matches!(kind, 3 | 4 | 11),
        Family::V6 => kind < 128,
    }
}

impl Related {
    /// Reads the quoted packet of an error whose ICMP header starts at `icmp` and ends with octet `end` of the frame.
    /// `None` when it quotes no packet that a connection could have sent: another protocol, a later fragment, cut
    /// short before the ports.
    pub(super) fn parse(frame: &[u8], family: Family, icmp: usize, end: usize) -> Option<Self> {
        Self::about(frame, family, icmp, icmp + ICMP_HEADER_OCTETS, end)
    }

    /// The same of an error that is about the packet at `quoted`.
    pub(super) fn about(frame: &[u8], family: Family, icmp: usize, quoted: usize, end: usize) -> Option<Self> {
        let header = frame.get(quoted..end)?;
        let (source, destination, protocol, header_octets) = match family {
            Family::V4 => {
                let fixed = header.first_chunk::<V4_HEADER_OCTETS>()?;
                let octets = usize::from(fixed[0] & 0xf) * 4;
                let offset = u16::from_be_bytes([fixed[6], fixed[7]]) & 0x1fff;
                if fixed[0] >> 4 != 4 || octets < V4_HEADER_OCTETS || offset != 0 {
                    return None;
                }
                let address = |at: usize| {
                    Address::v4(u32::from_be_bytes([fixed[at], fixed[at + 1], fixed[at + 2], fixed[at + 3]]))
                };
                (address(12), address(16), fixed[9], octets)
            }
            Family::V6 => {
                let fixed = header.first_chunk::<V6_HEADER_OCTETS>()?;
                if fixed[0] >> 4 != 6 {
                    return None;
                }
                let address = |at: usize| {
                    let octets: [u8; 16] = fixed[at..at + 16].try_into().expect("sixteen octets of forty");
                    Address::v6(u128::from_be_bytes(octets))
                };
                (address(8), address(24), fixed[6], V6_HEADER_OCTETS)
            }
        };
        let protocol = Protocol::from_number(protocol)?;
        let ports = header.get(header_octets..header_octets + 4)?;
        Some(Self {
            source: Endpoint::new(source, u16::from_be_bytes([ports[0], ports[1]])),
            destination: Endpoint::new(destination, u16::from_be_bytes([ports[2], ports[3]])),
            protocol,
            icmp,
            end,
            quoted,
            transport: quoted + header_octets,
        })
    }

    /// The quoted packet as far as it is quoted, by what is needed to tell its sender of an error.
    pub(super) fn quoted_packet(&self) -> Packet {
        Packet {
            source: self.source,
            destination: self.destination,
            protocol: self.protocol,
            family: self.source.address.family(),
            length: (self.end - self.quoted) as u16,
            network: self.quoted as u16,
            transport: self.transport as u16,
            ..Packet::empty()
        }
    }

    /// The quoted transport header and what follows it.
    pub(super) fn quoted_transport<'a>(&self, frame: &'a mut [u8]) -> &'a mut [u8] {
        frame.get_mut(self.transport..self.end).unwrap_or_default()
    }

    /// The same of a frame that has lost `octets` in front.
    #[must_use]
    pub(super) const fn moved_back(self, octets: usize) -> Self {
        Self {
            icmp: self.icmp - octets,
            end: self.end - octets,
            quoted: self.quoted - octets,
            transport: self.transport - octets,
            ..self
        }
    }

    /// What of the quoted packet follows eight octets of its transport header.
    pub(super) fn quoted_payload<'a>(&self, frame: &'a [u8]) -> &'a [u8] {
        frame.get(self.transport + QUOTED_OCTETS..self.end).unwrap_or_default()
    }

    /// True when the ICMP checksum of the message holds. `network` is the offset of the outer IP header.
    pub(super) fn is_sound(&self, frame: &[u8], network: usize, family: Family) -> bool {
        let message = &frame[self.icmp..self.end];
        self.pseudo_header(frame, network, family).add_bytes(message).checksum() == 0
    }

    /// Masquerades the error. Towards the real server ([`Side::Destination`]) the outer destination and the quoted
    /// source become `new`; towards the client the outer source and the quoted destination do.
    pub(super) fn rewrite(&self, frame: &mut [u8], network: usize, family: Family, side: Side, new: Endpoint) {
        let quoted = self.quoted;
        let (quoted_side, port) = match side {
            Side::Destination => (Side::Source, self.transport),
            Side::Source => (Side::Destination, self.transport + 2),
        };
        nat::set_address(&mut frame[network..], family, side, new.address);
        nat::set_address(&mut frame[quoted..], family, quoted_side, new.address);
        frame[port..port + 2].copy_from_slice(&new.port.to_be_bytes());

        let field = self.icmp + ICMP_CHECKSUM;
        frame[field..field + 2].fill(0);
        let sum = self.pseudo_header(frame, network, family).add_bytes(&frame[self.icmp..self.end]).checksum();
        frame[field..field + 2].copy_from_slice(&sum.to_be_bytes());
    }

    /// ICMPv6 sums a pseudo header (RFC 4443 section 2.3), ICMP does not.
    fn pseudo_header(&self, frame: &[u8], network: usize, family: Family) -> checksum::Sum {
        match family {
            Family::V4 => checksum::Sum::default(),
            Family::V6 => {
                let address = |at: usize| {
                    let octets = frame[network + at..].first_chunk::<16>().expect("the header was checked");
                    Address::v6(u128::from_be_bytes(*octets))
                };
                checksum::pseudo_header(address(8), address(24), ICMPV6, (self.end - self.icmp) as u32)
            }
        }
    }
}

/// To whom a connection's client sends, and how.
struct Receiver {
    method: Method,
    /// The real server and its endpoint.
    destination: DestinationId,
    server: Endpoint,
    /// The server sees this in the client's place.
    local: Option<Endpoint>,
}

impl Receiver {
    fn of(found: &Found<'_>) -> Self {
        let entry = found.entry();
        Receiver {
            method: entry.flags().method(),
            destination: entry.destination(),
            server: entry.destination_endpoint(),
            local: found.local_port().map(|port| port.endpoint()),
        }
    }
}

impl Forwarder {
    /// Decides on an ICMP error addressed to the director (`ip_vs_in_icmp`): the packet that it quotes was on its
    /// way from a virtual service to a client.
    #[cold]
    pub(super) fn decide_related_inbound<P: Port>(
        &self,
        received: &Received<'_, P>,
        packet: &Packet,
        related: &Related,
        now: Instant,
        target: &mut Target,
    ) -> Decision {
        if self.roles().is_passive {
            return Decision::Verdict(Verdict::Pass);
        }
        if self.local_addresses().contains(related.source.address)
            && let Some(decision) = self.decide_related_returning(packet, related, now, target)
        {
            return decision;
        }
        let key = Key { protocol: Some(related.protocol), client: related.destination, other: related.source };
        let hash = self.shared.connections.hash(key.protocol, key.client);
        // The timer goes on: an error is no sign of life.
        let Receiver { method, destination, server, local } =
            match self.shared.connections.find_inbound(hash, &key, now) {
                Some(found) => Receiver::of(&found),
                None if !self.shared.sysctls.is_on(Knob::ScheduleIcmp) => return Decision::Verdict(Verdict::Pass),
                None => match self.open_for_error(received, related, hash, now) {
                    Ok(receiver) => receiver,
                    Err(decision) => return decision,
                },
            };
        target.destination = destination;
        target.new = server;
        // The reference verifies what it rewrites, and every IPv4 error.
        let is_verified = method == Method::Masquerading || packet.family == Family::V4;
        if is_verified && !related.is_sound(received.octets(), usize::from(packet.network), packet.family) {
            return Decision::Verdict(Verdict::Drop(DropReason::IcmpChecksum));
        }
        if target.destination != DestinationId::NONE {
            let destination = self.shared.destinations.get(target.destination);
            target.epoch = destination.epoch();
            if destination.is_available() {
                self.counters().destination(target.destination).count_in(packet.length);
            }
        }
        match local {
            Some(local) => self.relay_to_server_from(local),
            None => Decision::RelayToServer(method),
        }
    }

    /// Opens a connection for an error that quotes what one could have sent (sysctl schedule_icmp). It lives for
    /// three seconds, in no state, until the client's first packet; one of one-packet scheduling no longer than the
    /// error. Returns who is sent the error.
    fn open_for_error<P: Port>(
        &self,
        received: &Received<'_, P>,
        related: &Related,
        hash: u64,
        now: Instant,
    ) -> Result<Receiver, Decision> {
        // An error carries no mark here: rules mark what has ports.
        let Endpoint { address, port } = related.source;
        let Some(service) = self.services().find(0, related.protocol, address, port) else {
            return Err(Decision::Verdict(Verdict::Pass));
        };
        let opener = Opener {
            protocol: related.protocol,
            client: related.destination,
            service: related.source,
            mark: 0,
            payload: related.quoted_payload(received.octets()),
            is_error: true,
        };
        let connection = self.schedule(service, &opener, now)?;
        if connection.flags.has(Flags::ONE_PACKET) {
            self.count_once(&connection);
            self.shared.connections.release_controller(connection.controller);
            return Ok(Receiver {
                method: connection.flags.method(),
                destination: connection.destination_id,
                server: connection.destination,
                local: None,
            });
        }
        match self.admit(&connection, hash, now) {
            Ok(found) => Ok(Receiver::of(&found)),
            Err(reason) => Err(Decision::Verdict(Verdict::Drop(reason))),
        }
    }

    /// Decides on an ICMP error that crosses the director (`ip_vs_out_icmp`): the packet that it quotes was on its
    /// way from a client to a real server.
    #[cold]
    pub(super) fn decide_related_outbound(
        &self,
        packet: &Packet,
        related: &Related,
        now: Instant,
        target: &mut Target,
    ) -> Decision {
        let key = Key { protocol: Some(related.protocol), client: related.source, other: related.destination };
        let hash = self.shared.connections.hash(key.protocol, key.client);
        if packet.ttl <= 1 {
            return Decision::Verdict(Verdict::Pass);
        }
        let Some(found) = self.shared.connections.find_outbound(hash, &key, now) else {
            return Decision::Verdict(Verdict::Pass);
        };
        let entry = found.entry();
        let (destination, method) = (entry.destination(), entry.flags().method());
        target.new = entry.virtual_service();
        drop(found);
        if destination != DestinationId::NONE && self.shared.destinations.get(destination).is_available() {
            self.counters().destination(destination).count_out(packet.length);
        }
        match method {
            Method::Masquerading => Decision::RelayToClient,
            _ => Decision::Verdict(Verdict::Pass),
        }
    }

    /// Sends an ICMP error to the real server whose packet it is about (`ip_vs_icmp_xmit`).
    #[cold]
    pub(super) fn relay_to_server<P: Port>(
        &mut self,
        port: &mut P,
        frame: Frame,
        packet: &Packet,
        related: &Related,
        target: &Target,
        method: Method,
    ) -> Verdict {
        let (network, family) = (usize::from(packet.network), packet.family);
        let path = self.path_by(method, target.destination, packet);
        if let (Path::Local, Method::Masquerading) = (path, method) {
            related.rewrite(port.bytes_mut(&frame), network, family, Side::Destination, target.new);
        }
        let next = match path {
            Path::Local => return self.settle(port, frame, None, Verdict::Pass),
            Path::Closed(reason) => return self.settle(port, frame, None, Verdict::Drop(reason)),
            Path::Next(_) if packet.ttl <= 1 => {
                return self.settle(port, frame, None, Verdict::Drop(DropReason::TimeExceeded));
            }
            Path::Next(next) => next,
        };
        match method {
            Method::Tunnelling => self.tunnel(port, frame, packet, target.destination, &next),
            Method::Masquerading | Method::DirectRouting | Method::Bypass if !packet.is_too_big(next.mtu) => {
                let bytes = port.bytes_mut(&frame);
                nat::decrement_ttl(bytes, packet);
                if method == Method::Masquerading {
                    related.rewrite(bytes, network, family, Side::Destination, target.new);
                }
                self.send(port, frame, family, &next)
            }
            Method::Masquerading | Method::DirectRouting | Method::Bypass => {
                self.settle(port, frame, None, Verdict::Drop(DropReason::TooBig))
            }
            Method::LocalNode => self.settle(port, frame, None, Verdict::Drop(DropReason::Method)),
        }
    }

    /// Sends an ICMP error about a masqueraded connection to its client, from the virtual service.
    ///
    /// **Deviation**: the reference drops ICMPv6 errors here, because it sums them without their pseudo header.
    #[cold]
    pub(super) fn relay_to_client<P: Port>(
        &mut self,
        port: &mut P,
        frame: Frame,
        packet: &Packet,
        related: &Related,
        service: Endpoint,
        hop: Option<Hop>,
    ) -> Verdict {
        let (network, family) = (usize::from(packet.network), packet.family);
        if !related.is_sound(port.bytes(&frame), network, family) {
            return self.settle(port, frame, None, Verdict::Drop(DropReason::IcmpChecksum));
        }
        let next = match self.next_hop(hop, packet) {
            Ok(next) => next,
            Err(reason) => return self.settle(port, frame, None, Verdict::Drop(reason)),
        };
        let bytes = port.bytes_mut(&frame);
        nat::decrement_ttl(bytes, packet);
        related.rewrite(bytes, network, family, Side::Source, service);
        self.send(port, frame, family, &next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::hex;

    fn endpoint(address: &str, port: u16) -> Endpoint {
        Endpoint::new(address.parse().unwrap(), port)
    }

    /// As the kernel did it, but for the TTL, which the sender of the packet lowers.
    #[test]
    fn an_error_to_the_virtual_address_goes_to_the_server() {
        let mut packet = hex(
            "4500003e12344000400114340a4d00010a090001030311280000000045000022123440004011148c0a0900010a010001005004
             01000ead1d616e73776572",
        );
        let related = Related::parse(&packet, Family::V4, 20, packet.len()).unwrap();
        assert_eq!(related.source, endpoint("10.9.0.1", 80));
        assert_eq!(related.destination, endpoint("10.1.0.1", 1025));
        assert!(related.is_sound(&packet, 0, Family::V4));
        related.rewrite(&mut packet, 0, Family::V4, Side::Destination, endpoint("10.2.0.1", 8080));
        let expected = hex(
            "4500003e123440004001143b0a4d00010a0200010303f1e7000000004500002212344000401114930a0200010a0100011f9004
             01000ead1d616e73776572",
        );
        assert_eq!(packet, expected);
    }

    #[test]
    fn an_error_from_the_server_goes_to_the_client() {
        let mut packet = hex(
            "4500003d12344000400114880a0200010a010001030311200000000045000021123440003f1115940a0100010a02000104011f
             90000d846c68656c6c6f",
        );
        let related = Related::parse(&packet, Family::V4, 20, packet.len()).unwrap();
        related.rewrite(&mut packet, 0, Family::V4, Side::Source, endpoint("10.9.0.1", 80));
        let expected = hex(
            "4500003d12344000400114810a0900010a010001030330600000000045000021123440003f11158d0a0100010a090001040100
             50000d846c68656c6c6f",
        );
        assert_eq!(packet, expected);
    }

    #[test]
    fn ipv6_errors_keep_a_sound_checksum() {
        let mut packet =
            hex("60000000003e3a40fd000077000000000000000000000001fd000009000000000000000000000001010492d500000000
             60000000000e1140fd000009000000000000000000000001fd00000100000000000000000000000100500401000ec71b
             616e73776572");
        let field = 42..44;
        let related = Related::parse(&packet, Family::V6, 40, packet.len()).unwrap();
        packet[field.clone()].fill(0);
        let sum = related.pseudo_header(&packet, 0, Family::V6).add_bytes(&packet[40..]).checksum();
        packet[field].copy_from_slice(&sum.to_be_bytes());
        assert!(related.is_sound(&packet, 0, Family::V6));
        related.rewrite(&mut packet, 0, Family::V6, Side::Destination, endpoint("fd00:2::1", 8080));
        assert!(related.is_sound(&packet, 0, Family::V6));
        assert_eq!(packet[24..40], endpoint("fd00:2::1", 0).address.0.to_be_bytes());
        assert_eq!(packet[56..72], endpoint("fd00:2::1", 0).address.0.to_be_bytes());
        assert_eq!(packet[88..90], 8080u16.to_be_bytes());
    }

    #[test]
    fn what_quotes_no_ports_relates_to_nothing() {
        let packet = hex(
            "45000034123440004001143e0a4d00010a0900010303f8ab000000004500008c123440004006142d0a0900010a01000100500401",
        );
        assert!(Related::parse(&packet, Family::V4, 20, packet.len()).is_some(), "four octets suffice");
        for end in 20..packet.len() {
            assert!(Related::parse(&packet, Family::V4, 20, end).is_none());
        }
        let mut fragment = packet.clone();
        fragment[34] = 0x01;
        assert!(Related::parse(&fragment, Family::V4, 20, packet.len()).is_none());
    }
}
