//! ICMP errors about the director's own tunnel packets: what they say of the path is learned, and the client is told
//! as if the error had been about its packet.
//!
//! Source: the tunnel part of `ip_vs_in_icmp`, `ipvs_udp_decap`, `ipvs_gre_decap` of Linux 6.1. IPv4 outer and inner
//! alone, as there.
//!
//! **Deviation**: the kernel asks whether any service has a tunnel to the server; here it must be the server of the
//! connection that the inner packet belongs to, by the tunnel that it has now.

use crate::base::{Address, Family, Frame, Instant};
use crate::conn::Key;
use crate::forward::decide::{Decision, Target};
use crate::forward::egress::{CachedPath, Path};
use crate::forward::icmp::Failure;
use crate::forward::parse::{ETHERTYPE_IPV4, Packet};
use crate::forward::pipeline::Forwarder;
use crate::forward::related::{ICMP_HEADER_OCTETS, Related};
use crate::forward::schedule::Received;
use crate::forward::tunnel::IPIP;
use crate::forward::verdict::{DropReason, Verdict};
use crate::port::Port;
use crate::route::Route;
use crate::service::{DestinationId, Method, Tunnel};
use crate::wire::{gre, gue, icmpv4, ipv4, udp};

/// What the kernel takes for the length of the outer headers when it tells a client its MTU, of whatever type the
/// tunnel is.
///
/// Later kernels take the true length.
const OUTER_OCTETS: u32 = ipv4::HEADER_OCTETS as u32;
/// A path MTU up to this is told as it is.
const MTU_KEPT_MAX: u32 = 68 + OUTER_OCTETS;

/// How a quoted packet carries another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Carriage {
    Ipip,
    /// By the UDP port it went to.
    Gue(u16),
    Gre,
}

impl Carriage {
    /// True when a tunnel sends packets like this.
    fn is_of(self, tunnel: Tunnel) -> bool {
        match (self, tunnel) {
            (Carriage::Ipip, Tunnel::Ipip) | (Carriage::Gre, Tunnel::Gre { .. }) => true,
            (Carriage::Gue(to), Tunnel::Gue { port, .. }) => to == port,
            _ => false,
        }
    }
}

/// An ICMP error that quotes a packet which carries another.
#[derive(Clone, Copy, Debug)]
pub(super) struct TunnelError {
    /// Where the quoted packet went.
    server: Address,
    carriage: Carriage,
    /// The error, as one about the packet inside.
    inner: Related,
    /// DF of the packet inside.
    dont_fragment: bool,
    /// Type, code and second word of the error.
    message_type: u8,
    code: u8,
    rest: u32,
}

impl TunnelError {
    /// The same of a frame that has lost `octets` in front.
    #[must_use]
    pub(super) const fn moved_back(self, octets: usize) -> Self {
        Self { inner: self.inner.moved_back(octets), ..self }
    }

    /// Reads an IPv4 error whose message starts at `icmp` and ends with octet `end` of the frame. `None` when it quotes no
    /// packet that carries another, or too little of it.
    pub(super) fn parse(frame: &[u8], icmp: usize, end: usize) -> Option<Self> {
        let message = icmpv4::Message::new_checked(frame.get(icmp..end)?).ok()?;
        let quoted = message.payload();
        let outer = ipv4::Packet::new_header_checked(quoted).ok()?;
        if outer.fragment_offset() != 0 {
            return None;
        }
        let header_octets = outer.header_length();
        let behind = quoted.get(header_octets..)?;
        let (carriage, octets) = match outer.protocol() {
            IPIP => (Carriage::Ipip, 0),
            udp::PROTOCOL => {
                let datagram = udp::Datagram::new_checked(behind).ok()?;
                let (protocol, octets) = gue::carried(datagram.payload()).ok()?;
                if protocol != IPIP {
                    return None;
                }
                (Carriage::Gue(datagram.destination_port()), udp::HEADER_OCTETS + octets)
            }
            gre::PROTOCOL => match gre::carried(behind).ok()? {
                (ETHERTYPE_IPV4, octets) => (Carriage::Gre, octets),
                _ => return None,
            },
            _ => return None,
        };
        let inner_at = icmp + ICMP_HEADER_OCTETS + header_octets + octets;
        let inner = Related::about(frame, Family::V4, icmp, inner_at, end)?;
        let dont_fragment = ipv4::Packet::new_header_checked(frame.get(inner_at..end)?).ok()?.dont_fragment();
        Some(Self {
            server: outer.destination(),
            carriage,
            inner,
            dont_fragment,
            message_type: message.message_type(),
            code: message.code(),
            rest: message.rest(),
        })
    }

    /// Where the quoted packet went.
    pub(super) const fn server(&self) -> Address {
        self.server
    }

    /// The error, as one about the packet inside.
    pub(super) const fn inner(&self) -> &Related {
        &self.inner
    }

    /// The MTU in an error that says fragmentation is needed.
    fn mtu(&self) -> Option<u32> {
        let is_mtu = self.message_type == icmpv4::TYPE_UNREACHABLE && self.code == icmpv4::CODE_FRAGMENTATION_NEEDED;
        is_mtu.then_some(self.rest & 0xffff)
    }
}

impl Forwarder {
    /// Decides on an error addressed to the director that may be about a packet of one of its tunnels; `None` when it
    /// is about none.
    #[cold]
    pub(super) fn decide_tunnel_error<P: Port>(
        &self,
        received: &Received<'_, P>,
        packet: &Packet,
        error: &TunnelError,
        now: Instant,
        target: &mut Target,
    ) -> Option<Decision> {
        // The quoted packet is on its way to the server: not reversed.
        let Related { source, destination, protocol, .. } = error.inner;
        let key = Key { protocol: Some(protocol), client: source, other: destination };
        let hash = self.shared.connections.hash(key.protocol, key.client);
        let found = self.shared.connections.find_inbound(hash, &key, now)?;
        let (id, method) = (found.entry().destination(), found.entry().flags().method());
        drop(found);
        if id == DestinationId::NONE || method != Method::Tunnelling {
            return None;
        }
        let cell = self.shared.destinations.get(id);
        if cell.endpoint().address != error.server || !error.carriage.is_of(cell.tunnel()) {
            return None;
        }
        if !error.inner.is_sound(received.octets(), usize::from(packet.network), packet.family) {
            return Some(Decision::Verdict(Verdict::Drop(DropReason::IcmpChecksum)));
        }
        target.destination = id;
        Some(Decision::RelayFromTunnel)
    }

    /// Learns a path MTU and tells the client. The MTU it is told is that of the path in use, which the first packet
    /// after this one renews: the first error tells the former value, as the kernel's does.
    #[cold]
    pub(super) fn relay_from_tunnel<P: Port>(
        &mut self,
        port: &mut P,
        frame: Frame,
        error: &TunnelError,
        id: DestinationId,
        now: Instant,
    ) -> Verdict {
        let mut rest = error.rest;
        if let Some(reported) = error.mtu() {
            self.learn_path_mtu(error.server, reported, now);
            if !error.dont_fragment {
                return self.settle(port, frame, None, Verdict::Drop(DropReason::TunnelError));
            }
            let path_mtu = match self.paths.get(id.0 as usize) {
                Some(CachedPath { path: Path::Next(next), .. }) => next.mtu,
                _ => reported,
            };
            rest = if path_mtu > MTU_KEPT_MAX { path_mtu - OUTER_OCTETS } else { path_mtu };
        }
        let failure = icmpv4::Failure::Relayed { message_type: error.message_type, code: error.code, rest };
        let inner = error.inner.quoted_packet();
        if self.shared.destinations.get(id).is_available() {
            self.counters().destination(id).count_out(inner.length);
        }
        self.tell(port, frame, &inner, Failure::V4(failure), DropReason::TunnelError)
    }

    fn learn_path_mtu(&self, server: Address, reported: u32, now: Instant) {
        if let Route::Unicast(hop) = self.routes().lookup(server, 0) {
            self.shared.path_mtus.learn(server, reported, hop.mtu, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::TunnelChecksum;
    use crate::wire::hex;

    const INNER: &str = "45000410123440003f0611a90a0100010a09000104010050000003e900000001501072108c120000";

    fn parse(outer: &str) -> Option<TunnelError> {
        // Fragmentation needed, MTU 1000, without a checksum of its own.
        let frame = hex(&format!("03040000000003e8 {outer} {INNER}"));
        TunnelError::parse(&frame, 0, frame.len())
    }

    /// The quotations are those of errors that the kernel relayed.
    #[test]
    fn the_packet_inside_is_found_behind_every_header() {
        let gue = Tunnel::Gue { port: 6080, checksum: TunnelChecksum::None };
        for (outer, tunnel) in [
            ("4500042400004000400421d40a0200fe0a020001", Tunnel::Ipip),
            ("45000428000040004 02f21a50a0200fe0a020001 00000800", Tunnel::Gre { checksum: false }),
            ("4500042c00004000402f21a10a0200fe0a020001 80000800900d0000", Tunnel::Gre { checksum: true }),
            ("4500043000004000401121bb0a0200fe0a020001 c35017c0041c0000 00040000", gue),
            ("4500043800004000401121b30a0200fe0a020001 c35017c004240000 02040001 8000000000140024", gue),
        ] {
            let error = parse(outer).unwrap_or_else(|| panic!("{outer}"));
            assert_eq!(error.server, "10.2.0.1".parse().unwrap());
            assert_eq!((error.inner.source.port, error.inner.destination.port), (1025, 80));
            assert_eq!((error.mtu(), error.dont_fragment), (Some(1000), true));
            assert!(error.carriage.is_of(tunnel), "{outer}");
            assert!(!error.carriage.is_of(Tunnel::Gue { port: 6081, checksum: TunnelChecksum::None }));
        }
    }

    #[test]
    fn what_carries_nothing_of_ours_is_none() {
        for outer in [
            // A later fragment, UDP that is no GUE, GRE with a key, IPv6 in GUE, another protocol.
            "4500042400000001400461d30a0200fe0a020001",
            "4500043000004000401121bb0a0200fe0a020001 c35017c0041c0000 45000000",
            "4500042c00004000402f21a10a0200fe0a020001 2000080000000001",
            "4500043000004000401121bb0a0200fe0a020001 c35017c0041c0000 00290000",
            "4500042400004000403221a60a0200fe0a020001",
        ] {
            assert!(parse(outer).is_none(), "{outer}");
        }
        let whole = hex(&format!("03040000000003e8 4500042400004000400421d40a0200fe0a020001 {INNER}"));
        for end in 0..whole.len() - 16 {
            assert!(TunnelError::parse(&whole, 0, end).is_none(), "cut to {end}");
        }
    }
}
