//! The last stage: the packet changed as its method asks, a link header in front, out by an interface.

use crate::base::{Address, Endpoint, Family, Frame, InterfaceId, MacAddress};
use crate::forward::decide::{Answer, Decision};
use crate::forward::nat::{self, Side};
use crate::forward::parse::{ETHERNET_OCTETS, ETHERTYPE_IPV4, ETHERTYPE_IPV6, Packet};
use crate::forward::pipeline::Forwarder;
use crate::forward::shared::NeighbourRequest;
use crate::forward::tunnel::{self, Outer};
use crate::forward::verdict::{DropReason, Verdict};
use crate::port::Port;
use crate::route::{Hop, Route};
use crate::service::sysctl::Knob;
use crate::service::{DestinationId, Method, Tunnel};

/// A next hop with its link addresses.
#[derive(Clone, Copy, Debug)]
pub(super) struct NextHop {
    pub interface: InterfaceId,
    pub station: MacAddress,
    pub neighbour: MacAddress,
    pub mtu: u32,
    /// Source of packets that the director itself sends this way.
    pub source: Address,
}

/// The way to a destination.
#[derive(Clone, Copy, Debug)]
pub(super) enum Path {
    /// The director itself is the real server.
    Local,
    Next(NextHop),
    Closed(DropReason),
}

/// A destination's path, good for one generation of routes and one epoch of the destination.
#[derive(Clone, Copy, Debug)]
pub(super) struct CachedPath {
    generation: u64,
    epoch: u32,
    path: Path,
}

impl CachedPath {
    /// A path that is good for nothing: no generation is 0.
    pub(super) const STALE: CachedPath =
        CachedPath { generation: 0, epoch: 0, path: Path::Closed(DropReason::NoRoute) };
}

impl Forwarder {
    /// Carries out a decision. The frame is gone afterwards.
    #[inline]
    pub(super) fn carry_out<P: Port>(
        &mut self,
        port: &mut P,
        frame: Frame,
        packet: &Packet,
        decision: Decision,
        hop: Option<Hop>,
    ) -> Verdict {
        match decision {
            Decision::ToServer { destination, method, server } => {
                self.to_server(port, frame, packet, destination, method, server)
            }
            Decision::ToClient { service } => self.to_client(port, frame, packet, service, hop),
            Decision::Verdict(verdict) => self.settle(port, frame, Some(packet), verdict),
            Decision::Answer(answer) => self.answer(port, frame, packet, answer),
        }
    }

    /// Gives a frame that is not forwarded to the kernel or back to the port.
    pub(super) fn settle<P: Port>(
        &mut self,
        port: &mut P,
        frame: Frame,
        packet: Option<&Packet>,
        verdict: Verdict,
    ) -> Verdict {
        match verdict {
            Verdict::Pass => {
                if let Some(packet) = packet.filter(|packet| packet.partial_checksum) {
                    nat::complete_checksum(port.bytes_mut(&frame), packet);
                }
                port.pass(frame);
            }
            _ => port.release(frame),
        }
        verdict
    }

    fn to_server<P: Port>(
        &mut self,
        port: &mut P,
        frame: Frame,
        packet: &Packet,
        destination: DestinationId,
        method: Method,
        server: Endpoint,
    ) -> Verdict {
        if destination == DestinationId::NONE {
            return self.settle(port, frame, None, Verdict::Drop(DropReason::Method));
        }
        let next = match self.path(destination) {
            Path::Next(next) => next,
            Path::Local => return self.to_host(port, frame, packet, method, server),
            Path::Closed(DropReason::NoRoute) => return self.answer(port, frame, packet, Answer::HostUnreachable),
            Path::Closed(reason) => return self.settle(port, frame, None, Verdict::Drop(reason)),
        };
        if packet.ttl <= 1 {
            return self.answer(port, frame, packet, Answer::TimeExceeded);
        }
        match method {
            Method::Masquerading => self.masquerade(port, frame, packet, server, &next),
            Method::DirectRouting => self.route_directly(port, frame, packet, &next),
            Method::Tunnelling => self.tunnel(port, frame, packet, destination, &next),
            Method::LocalNode | Method::Bypass => self.settle(port, frame, None, Verdict::Drop(DropReason::Method)),
        }
    }

    /// The real server is the director itself: the host's stack gets the packet, TTL untouched.
    #[cold]
    fn to_host<P: Port>(
        &mut self,
        port: &mut P,
        frame: Frame,
        packet: &Packet,
        method: Method,
        server: Endpoint,
    ) -> Verdict {
        if method == Method::Masquerading {
            let bytes = port.bytes_mut(&frame);
            if packet.partial_checksum {
                nat::complete_checksum(bytes, packet);
            }
            nat::rewrite(bytes, packet, Side::Destination, server);
            port.pass(frame);
            return Verdict::Pass;
        }
        self.settle(port, frame, Some(packet), Verdict::Pass)
    }

    #[inline]
    fn masquerade<P: Port>(
        &mut self,
        port: &mut P,
        frame: Frame,
        packet: &Packet,
        server: Endpoint,
        next: &NextHop,
    ) -> Verdict {
        if packet.dont_fragment && u32::from(packet.length) > next.mtu {
            return self.too_big(port, frame, packet, next.mtu);
        }
        let bytes = port.bytes_mut(&frame);
        if packet.partial_checksum {
            nat::complete_checksum(bytes, packet);
        }
        nat::decrement_ttl(bytes, packet);
        nat::rewrite(bytes, packet, Side::Destination, server);
        self.send(port, frame, packet.family(), next)
    }

    #[inline]
    fn route_directly<P: Port>(&mut self, port: &mut P, frame: Frame, packet: &Packet, next: &NextHop) -> Verdict {
        if packet.dont_fragment && u32::from(packet.length) > next.mtu {
            return self.too_big(port, frame, packet, next.mtu);
        }
        let bytes = port.bytes_mut(&frame);
        if packet.partial_checksum {
            nat::complete_checksum(bytes, packet);
        }
        nat::decrement_ttl(bytes, packet);
        self.send(port, frame, packet.family(), next)
    }

    fn tunnel<P: Port>(
        &mut self,
        port: &mut P,
        mut frame: Frame,
        packet: &Packet,
        destination: DestinationId,
        next: &NextHop,
    ) -> Verdict {
        let destination = self.shared.destinations.get(destination);
        if destination.tunnel() != Tunnel::Ipip {
            return self.settle(port, frame, None, Verdict::Drop(DropReason::Method));
        }
        let address = destination.endpoint().address;
        let family = address.family();
        let mtu = next.mtu.saturating_sub(u32::from(tunnel::overhead(family)));
        if mtu < tunnel::inner_mtu_min(family) {
            return self.settle(port, frame, None, Verdict::Drop(DropReason::PathTooNarrow));
        }
        let discover = self.shared.sysctls.is_on(Knob::PmtuDisc) || packet.family() == Family::V6;
        if discover && packet.dont_fragment && u32::from(packet.length) > mtu {
            return self.too_big(port, frame, packet, mtu);
        }
        let bytes = port.bytes_mut(&frame);
        if packet.partial_checksum {
            nat::complete_checksum(bytes, packet);
        }
        nat::decrement_ttl(bytes, packet);
        let room = usize::from(tunnel::overhead(family));
        let tags = usize::from(packet.network) - ETHERNET_OCTETS;
        if !port.push_front(&mut frame, room - tags.min(room)) {
            return self.settle(port, frame, None, Verdict::Drop(DropReason::NoFrame));
        }
        self.identification = self.identification.wrapping_add(1);
        let outer = Outer {
            source: next.source,
            destination: address,
            dont_fragment: packet.family() == Family::V4 && packet.dont_fragment && discover,
            identification: self.identification,
        };
        // The frame may carry octets after the packet (Ethernet's padding); the outer length leaves them out.
        port.resize(&mut frame, ETHERNET_OCTETS + room + usize::from(packet.length));
        tunnel::emit(port.bytes_mut(&frame), packet, packet.ttl - 1, &outer);
        self.send(port, frame, family, next)
    }

    #[inline]
    fn to_client<P: Port>(
        &mut self,
        port: &mut P,
        frame: Frame,
        packet: &Packet,
        service: Endpoint,
        hop: Option<Hop>,
    ) -> Verdict {
        let next = match hop.map(|hop| self.resolve(hop, packet.destination.address)) {
            Some(Ok(next)) => next,
            Some(Err(reason)) => return self.settle(port, frame, None, Verdict::Drop(reason)),
            None => return self.settle(port, frame, None, Verdict::Drop(DropReason::NoRoute)),
        };
        let bytes = port.bytes_mut(&frame);
        if packet.partial_checksum {
            nat::complete_checksum(bytes, packet);
        }
        nat::decrement_ttl(bytes, packet);
        nat::rewrite(bytes, packet, Side::Source, service);
        self.send(port, frame, packet.family(), &next)
    }

    #[cold]
    fn too_big<P: Port>(&mut self, port: &mut P, frame: Frame, packet: &Packet, mtu: u32) -> Verdict {
        // The kernel quotes the packet as it is at that moment, its TTL lowered.
        nat::decrement_ttl(port.bytes_mut(&frame), packet);
        self.answer(port, frame, packet, Answer::TooBig(u16::try_from(mtu).unwrap_or(u16::MAX)))
    }

    /// Writes the link header and queues the frame; a packet wider than the link goes as fragments.
    #[inline]
    pub(super) fn send<P: Port>(&mut self, port: &mut P, frame: Frame, family: Family, next: &NextHop) -> Verdict {
        let bytes = port.bytes_mut(&frame);
        bytes[..6].copy_from_slice(&next.neighbour.0);
        bytes[6..12].copy_from_slice(&next.station.0);
        let ethertype = match family {
            Family::V4 => ETHERTYPE_IPV4,
            Family::V6 => ETHERTYPE_IPV6,
        };
        bytes[12..14].copy_from_slice(&ethertype.to_be_bytes());
        if frame.length as usize - ETHERNET_OCTETS > next.mtu as usize {
            return self.send_fragments(port, frame, family, next);
        }
        port.transmit(frame, next.interface);
        Verdict::Transmit(next.interface)
    }

    /// The cached way to a destination.
    #[inline]
    fn path(&mut self, id: DestinationId) -> Path {
        let destination = self.shared.destinations.get(id);
        let (generation, epoch) = (self.routes.generation(), destination.epoch());
        if let Some(cached) = self.paths.get(id.0 as usize)
            && cached.generation == generation
            && cached.epoch == epoch
        {
            return cached.path;
        }
        let path = self.find_path(destination.endpoint().address, id);
        let is_final = !matches!(path, Path::Closed(DropReason::NoNeighbour));
        if is_final {
            if self.paths.len() <= id.0 as usize {
                self.paths.resize(id.0 as usize + 1, CachedPath::STALE);
            }
            self.paths[id.0 as usize] = CachedPath { generation, epoch, path };
        }
        path
    }

    #[cold]
    fn find_path(&self, address: Address, id: DestinationId) -> Path {
        match self.routes().lookup(address, id.0.wrapping_mul(0x9e37_79b9)) {
            Route::Local => Path::Local,
            Route::Unicast(hop) => match self.resolve(hop, address) {
                Ok(next) => Path::Next(next),
                Err(reason) => Path::Closed(reason),
            },
            Route::Unreachable => Path::Closed(DropReason::NoRoute),
            Route::Blackhole | Route::Broadcast => Path::Closed(DropReason::NoRoute),
        }
    }

    /// Link addresses of a hop; asks control for the neighbour when it is unknown.
    #[inline]
    pub(super) fn resolve(&self, hop: Hop, destination: Address) -> Result<NextHop, DropReason> {
        let interface = hop.interface.ok_or(DropReason::OtherInterface)?;
        let routes = self.routes();
        let link = routes.link(interface).filter(|link| link.up).ok_or(DropReason::NoRoute)?;
        let address = hop.gateway.unwrap_or(destination);
        let Some(neighbour) = routes.neighbour(interface, address) else {
            if self.shared.neighbour_requests.push(NeighbourRequest { interface, address }).is_err() {
                self.counters().requests_lost.add(1);
            }
            return Err(DropReason::NoNeighbour);
        };
        Ok(NextHop { interface, station: link.mac, neighbour, mtu: hop.mtu, source: hop.source })
    }
}
