//! Sending by tunnel: whether the path takes the packet with its outer headers, then the headers.
//!
//! Source: `ip_vs_tunnel_xmit`, `ip_vs_tunnel_xmit_v6`, `__ip_vs_get_out_rt` of Linux 6.1.

use crate::base::{Family, Frame};
use crate::forward::decide::Target;
use crate::forward::egress::{CachedPath, NextHop, Path, write_link};
use crate::forward::nat;
use crate::forward::parse::{ETHERNET_OCTETS, Packet};
use crate::forward::pipeline::Forwarder;
use crate::forward::tunnel::{Cutting, Outer};
use crate::forward::verdict::{DropReason, Verdict};
use crate::port::Port;
use crate::service::DestinationId;
use crate::service::sysctl::Knob;

/// The longest IP packet.
const PACKET_OCTETS_MAX: usize = u16::MAX as usize;

impl Forwarder {
    /// Sends a packet through the tunnel to its real server.
    #[inline]
    pub(super) fn encapsulate<P: Port>(
        &mut self,
        port: &mut P,
        mut frame: Frame,
        packet: &Packet,
        target: &Target,
    ) -> Verdict {
        let version = self.path_version(target.epoch);
        let discover = self.discovers_mtu(packet);
        let identification = self.identification.wrapping_add(1);
        let position = target.destination.0 as usize;
        if let Some(CachedPath { version: cached, path: Path::Next(next) }) = self.paths.get(position)
            && let Some(outer) = self.outers.get(position)
            && *cached == version
            && is_open(next, outer, &frame, packet)
            && wrap(port, &mut frame, packet, outer, Cutting::of(packet, discover, identification))
        {
            write_link(port.bytes_mut(&frame), outer.family(), &next.addresses);
            let interface = next.interface;
            self.identification = identification;
            port.transmit(frame, interface);
            return Verdict::Transmit(interface);
        }
        self.encapsulate_with_care(port, frame, packet, target.destination)
    }

    #[inline(never)]
    fn encapsulate_with_care<P: Port>(
        &mut self,
        port: &mut P,
        frame: Frame,
        packet: &Packet,
        destination: DestinationId,
    ) -> Verdict {
        match self.path(destination) {
            Path::Next(next) if packet.ttl > 1 => self.tunnel(port, frame, packet, destination, &next),
            path => self.stay(port, frame, packet, None, path),
        }
    }

    /// Sends a packet whose TTL lasts through the tunnel to a real server, in pieces if need be.
    #[inline(never)]
    pub(super) fn tunnel<P: Port>(
        &mut self,
        port: &mut P,
        mut frame: Frame,
        packet: &Packet,
        destination: DestinationId,
        next: &NextHop,
    ) -> Verdict {
        let cell = self.shared.destinations.get(destination);
        let outer = Outer::new(next.source, cell.endpoint().address, cell.tunnel());
        let octets = outer.octets(packet);
        let mtu = next.mtu.saturating_sub(octets as u32);
        if mtu < outer.inner_mtu_min() {
            return self.settle(port, frame, None, Verdict::Drop(DropReason::PathTooNarrow));
        }
        let discover = self.discovers_mtu(packet);
        if discover && packet.is_too_big(mtu) {
            return self.too_big(port, frame, packet, mtu);
        }
        if usize::from(packet.length) + octets > PACKET_OCTETS_MAX {
            return self.settle(port, frame, None, Verdict::Drop(DropReason::TooBig));
        }
        self.identification = self.identification.wrapping_add(1);
        if !wrap(port, &mut frame, packet, &outer, Cutting::of(packet, discover, self.identification)) {
            return self.settle(port, frame, None, Verdict::Drop(DropReason::NoFrame));
        }
        self.send(port, frame, outer.family(), next)
    }

    /// False when packets are cut rather than their senders told (sysctl pmtu_disc); those of IPv6 never are.
    #[inline]
    fn discovers_mtu(&self, packet: &Packet) -> bool {
        self.shared.sysctls.is_on(Knob::PmtuDisc) || packet.family == Family::V6
    }
}

impl Cutting {
    #[inline]
    const fn of(packet: &Packet, discover: bool, identification: u16) -> Self {
        // That of IPv6 stands for a packet that cannot be cut, and says nothing about the tunnel.
        let is_v4 = matches!(packet.family, Family::V4);
        Self { dont_fragment: is_v4 && packet.dont_fragment && discover, identification }
    }
}

/// True when nothing keeps the packet from going: its TTL lasts, and the path takes it whole with its outer headers.
#[inline]
fn is_open(next: &NextHop, outer: &Outer, frame: &Frame, packet: &Packet) -> bool {
    let octets = outer.octets(packet) as u32;
    packet.ttl > 1
        && frame.length.saturating_add(octets) <= next.frame_octets_max()
        && next.mtu >= outer.inner_mtu_min().saturating_add(octets)
}

/// Puts the outer headers in front of a packet, which gets ready to leave; the frame ends with the packet, whatever
/// padding the link gave it. False, and no change, when the frame has no room in front.
#[inline]
fn wrap<P: Port>(port: &mut P, frame: &mut Frame, packet: &Packet, outer: &Outer, cutting: Cutting) -> bool {
    let octets = outer.octets(packet);
    if !port.push_front(frame, octets) {
        return false;
    }
    port.resize(frame, ETHERNET_OCTETS + octets + usize::from(packet.length));
    let bytes = port.bytes_mut(frame);
    if outer.leaves_checksum(packet) {
        nat::decrement_ttl(&mut bytes[octets..], packet);
    } else {
        nat::send_off(&mut bytes[octets..], packet);
    }
    outer.emit(bytes, &outer.inner(packet), cutting);
    true
}
