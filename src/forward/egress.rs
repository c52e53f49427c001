//! The last stage: the packet changed as its method asks, a link header in front, out by an interface.

use crate::base::{Address, Duration, Endpoint, Family, Frame, Instant, InterfaceId};
use crate::forward::decide::{Answer, Target};
use crate::forward::nat::{self, Side};
use crate::forward::parse::{ETHERNET_OCTETS, Packet, ether_type};
use crate::forward::pipeline::Forwarder;
use crate::forward::shared::NeighbourRequest;
use crate::forward::tunnel::Outer;
use crate::forward::verdict::{DropReason, Verdict};
use crate::forward::whole::is_whole;
use crate::port::Port;
use crate::route::{Hop, Route};
use crate::service::{DestinationId, Method, Tunnel};

/// Different neighbours that a worker asks for within [`ASKED_PERIOD`]; more are counted as lost and ask again.
const ASKED_MAX: usize = 32;
/// How long a worker does not repeat a request.
const ASKED_PERIOD: Duration = Duration::from_millis(10);

/// A next hop with its link addresses.
#[derive(Clone, Copy, Debug)]
pub(super) struct NextHop {
    pub interface: InterfaceId,
    /// The VLAN that it leaves by there.
    pub vlan: Option<InterfaceId>,
    /// The neighbour's and the station's link address, as a frame begins.
    pub addresses: [u8; 12],
    pub mtu: u32,
    frame_octets_max: u32,
    /// Source of packets that the director itself sends this way.
    pub source: Address,
}

impl NextHop {
    /// Octets of the longest frame that goes to the link as it is; none does to a VLAN.
    #[inline]
    pub(super) const fn frame_octets_max(&self) -> u32 {
        self.frame_octets_max
    }

    /// The same with a path MTU that is no larger than the link's.
    fn narrowed_to(self, mtu: u32) -> Self {
        let mtu = mtu.min(self.mtu);
        let frame_octets_max = if self.vlan.is_some() { 0 } else { mtu.saturating_add(ETHERNET_OCTETS as u32) };
        Self { mtu, frame_octets_max, ..self }
    }
}

/// The way to a destination.
#[derive(Clone, Copy, Debug)]
pub(super) enum Path {
    /// The director itself is the real server.
    Local,
    Next(NextHop),
    Closed(DropReason),
}

/// A destination's path, good for one version (see [`Forwarder::path_version`]); new routes clear all paths.
#[derive(Clone, Copy, Debug)]
pub(super) struct CachedPath {
    pub version: u64,
    pub path: Path,
}

impl CachedPath {
    /// A path that is good for nothing: the epoch of a destination is never 0.
    const STALE: CachedPath = CachedPath { version: 0, path: Path::Closed(DropReason::NoRoute) };
}

impl Forwarder {
    /// Sends a packet to a real server by a method that leaves it as it is.
    #[inline(always)]
    pub(super) fn forward<P: Port>(
        &mut self,
        port: &mut P,
        frame: Frame,
        packet: &Packet,
        target: &Target,
        method: Method,
    ) -> Verdict {
        if method == Method::Tunnelling {
            return self.encapsulate(port, frame, packet, target);
        }
        match self.open_path(target, &frame, packet) {
            Some(next) if method == Method::DirectRouting => {
                let bytes = port.bytes_mut(&frame);
                nat::send_off(bytes, packet);
                write_link(bytes, packet.family, &next.addresses);
                port.transmit(frame, next.interface);
                Verdict::Transmit(next.interface)
            }
            _ if target.destination == DestinationId::NONE && method == Method::DirectRouting => {
                self.forward_unbound(port, frame, packet, target.new.address)
            }
            _ => self.forward_with_care(port, frame, packet, target.destination, method),
        }
    }

    /// Sends a packet to a real server whose address it is given.
    #[inline(always)]
    pub(super) fn masquerade<P: Port>(
        &mut self,
        port: &mut P,
        frame: Frame,
        packet: &Packet,
        target: &Target,
    ) -> Verdict {
        let Some(next) = self.open_path(target, &frame, packet) else {
            return self.masquerade_with_care(port, frame, packet, target);
        };
        let bytes = port.bytes_mut(&frame);
        nat::send_off(bytes, packet);
        nat::rewrite(bytes, packet, Side::Destination, target.new);
        write_link(bytes, packet.family, &next.addresses);
        port.transmit(frame, next.interface);
        Verdict::Transmit(next.interface)
    }

    /// The cached next hop to a destination, for a packet that nothing keeps from going there: its TTL lasts, and the
    /// link takes its frame whole.
    #[inline(always)]
    fn open_path(&self, target: &Target, frame: &Frame, packet: &Packet) -> Option<&NextHop> {
        match self.paths.get(target.destination.0 as usize) {
            Some(CachedPath { version, path: Path::Next(next) })
                if *version == self.path_version(target.epoch)
                    && packet.ttl > 1
                    && frame.length <= next.frame_octets_max() =>
            {
                Some(next)
            }
            _ => None,
        }
    }

    #[inline(never)]
    fn forward_with_care<P: Port>(
        &mut self,
        port: &mut P,
        frame: Frame,
        packet: &Packet,
        destination: DestinationId,
        method: Method,
    ) -> Verdict {
        match self.path_by(method, destination, packet) {
            Path::Next(next) if packet.ttl > 1 => match method {
                Method::DirectRouting | Method::Bypass => self.route_directly(port, frame, packet, &next),
                _ => self.settle(port, frame, None, Verdict::Drop(DropReason::Method)),
            },
            path => self.stay(port, frame, packet, None, path),
        }
    }

    #[cold]
    fn masquerade_with_care<P: Port>(
        &mut self,
        port: &mut P,
        frame: Frame,
        packet: &Packet,
        target: &Target,
    ) -> Verdict {
        let server = target.new;
        let path = match target.destination {
            DestinationId::NONE => self.unbound_path(server.address),
            id => self.path(id),
        };
        let next = match path {
            Path::Next(next) if packet.ttl > 1 => next,
            path => return self.stay(port, frame, packet, Some(server), path),
        };
        if packet.is_too_big(next.mtu) {
            return self.too_big(port, frame, packet, next.mtu);
        }
        let bytes = port.bytes_mut(&frame);
        nat::send_off(bytes, packet);
        nat::rewrite(bytes, packet, Side::Destination, server);
        self.send(port, frame, packet.family, &next)
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

    /// A packet for a real server that does not leave: its path is closed, its TTL has run out, or the real server is
    /// the director itself; then the host's stack gets it, TTL untouched.
    ///
    /// **Deviation**: masquerading leaves a packet to the director itself as it is where the port stays the same; the
    /// kernel changes the address there and back.
    #[cold]
    pub(super) fn stay<P: Port>(
        &mut self,
        port: &mut P,
        frame: Frame,
        packet: &Packet,
        masqueraded: Option<Endpoint>,
        path: Path,
    ) -> Verdict {
        match path {
            Path::Next(_) => self.answer(port, frame, packet, Answer::TimeExceeded),
            Path::Closed(DropReason::NoRoute) => self.answer(port, frame, packet, Answer::HostUnreachable),
            Path::Closed(reason) => self.settle(port, frame, None, Verdict::Drop(reason)),
            Path::Local => {
                // The host takes what comes to a virtual address of its own, and answers from there; its answer to a
                // packet with another destination nobody would change back.
                let is_as_it_came = masqueraded.is_none_or(|server| server.port == packet.destination.port)
                    && self.routes().is_local(packet.destination.address);
                let Some(server) = masqueraded.filter(|_| !is_as_it_came) else {
                    return self.settle(port, frame, Some(packet), Verdict::Pass);
                };
                let bytes = port.bytes_mut(&frame);
                if packet.partial_checksum {
                    nat::complete_checksum(bytes, packet);
                }
                nat::rewrite(bytes, packet, Side::Destination, server);
                port.pass(frame);
                Verdict::Pass
            }
        }
    }

    #[cold]
    pub(super) fn route_directly<P: Port>(
        &mut self,
        port: &mut P,
        frame: Frame,
        packet: &Packet,
        next: &NextHop,
    ) -> Verdict {
        if packet.is_too_big(next.mtu) {
            return self.too_big(port, frame, packet, next.mtu);
        }
        let bytes = port.bytes_mut(&frame);
        nat::send_off(bytes, packet);
        self.send(port, frame, packet.family, next)
    }

    /// Sends a real server's answer to the client, from the virtual service.
    #[inline]
    pub(super) fn return_to_client<P: Port>(
        &mut self,
        port: &mut P,
        frame: Frame,
        packet: &Packet,
        service: Endpoint,
        hop: Option<Hop>,
    ) -> Verdict {
        let next = match self.next_hop(hop, packet) {
            Ok(next) => next,
            Err(reason) => return self.settle(port, frame, None, Verdict::Drop(reason)),
        };
        let bytes = port.bytes_mut(&frame);
        nat::send_off(bytes, packet);
        nat::rewrite(bytes, packet, Side::Source, service);
        write_link(bytes, packet.family, &next.addresses);
        self.transmit(port, frame, packet.family, &next)
    }

    #[cold]
    pub(super) fn too_big<P: Port>(&mut self, port: &mut P, frame: Frame, packet: &Packet, mtu: u32) -> Verdict {
        // The kernel quotes the packet as it is at that moment, its TTL lowered.
        nat::decrement_ttl(port.bytes_mut(&frame), packet);
        self.answer(port, frame, packet, Answer::TooBig(u16::try_from(mtu).unwrap_or(u16::MAX)))
    }

    /// Writes the link header and queues the frame.
    pub(super) fn send<P: Port>(&mut self, port: &mut P, frame: Frame, family: Family, next: &NextHop) -> Verdict {
        write_link(port.bytes_mut(&frame), family, &next.addresses);
        self.transmit(port, frame, family, next)
    }

    /// Queues a frame that has its link header; a packet wider than the link goes as fragments.
    #[inline]
    fn transmit<P: Port>(&mut self, port: &mut P, frame: Frame, family: Family, next: &NextHop) -> Verdict {
        if frame.length > next.frame_octets_max {
            return self.transmit_with_care(port, frame, family, next);
        }
        port.transmit(frame, next.interface);
        Verdict::Transmit(next.interface)
    }

    #[cold]
    fn transmit_with_care<P: Port>(&mut self, port: &mut P, frame: Frame, family: Family, next: &NextHop) -> Verdict {
        if frame.length as usize - ETHERNET_OCTETS > next.mtu as usize || is_whole(&frame) {
            return self.send_fragments(port, frame, family, next);
        }
        self.transmit_tagged(port, frame, next)
    }

    /// What a path of a destination depends on beside the routes: the destination's epoch, and the path MTUs learned.
    #[inline]
    pub(super) const fn path_version(&self, epoch: u32) -> u64 {
        (self.path_mtu_changes as u64) << 32 | epoch as u64
    }

    /// Takes over what other workers have learned of path MTUs.
    #[inline]
    pub(super) fn adopt_path_mtus(&mut self, now: Instant) {
        self.path_mtu_changes = self.shared.path_mtus.changes(now);
    }

    /// The cached way to a destination.
    pub(super) fn path(&mut self, id: DestinationId) -> Path {
        if id == DestinationId::NONE {
            return Path::Closed(DropReason::Method);
        }
        let version = self.path_version(self.shared.destinations.get(id).epoch());
        match self.paths.get(id.0 as usize) {
            Some(cached) if cached.version == version => cached.path,
            _ => self.renew_path(id, version),
        }
    }

    /// The next hop to a destination, and the headers of its tunnel, when the way there is open.
    pub(super) fn open_way(&mut self, id: DestinationId) -> Option<(NextHop, Outer)> {
        match self.path(id) {
            Path::Next(next) => Some((next, *self.outers.get(id.0 as usize)?)),
            Path::Local | Path::Closed(_) => None,
        }
    }

    /// The way to a destination; by the bypass method past all servers to the packet's own destination, which is
    /// never the director itself.
    pub(super) fn path_by(&mut self, method: Method, id: DestinationId, packet: &Packet) -> Path {
        if method != Method::Bypass {
            return self.path(id);
        }
        match self.find_path(packet.destination.address, DestinationId::NONE) {
            // The kernel says nothing to the sender either.
            Path::Local | Path::Closed(DropReason::NoRoute) => Path::Closed(DropReason::NoServer),
            path => path,
        }
    }

    #[cold]
    fn renew_path(&mut self, id: DestinationId, version: u64) -> Path {
        let cell = self.shared.destinations.get(id);
        let (address, tunnel) = (cell.endpoint().address, cell.tunnel());
        let path = self.find_path(address, id);
        let is_final = !matches!(path, Path::Closed(DropReason::NoNeighbour));
        if is_final {
            let source = match path {
                Path::Next(next) => next.source,
                Path::Local | Path::Closed(_) => address,
            };
            let position = id.0 as usize;
            if self.paths.len() <= position {
                let nowhere = Address::UNSPECIFIED_V4;
                self.paths.resize(position + 1, CachedPath::STALE);
                self.outers.resize(position + 1, Outer::new(nowhere, nowhere, Tunnel::Ipip));
            }
            self.lanes.forget_one(&self.slot.counters, id);
            self.paths[position] = CachedPath { version, path };
            self.outers[position] = Outer::new(source, address, tunnel);
        }
        path
    }

    pub(super) fn find_path(&self, address: Address, id: DestinationId) -> Path {
        match self.routes().lookup(address, id.0.wrapping_mul(0x9e37_79b9)) {
            Route::Local => Path::Local,
            Route::Unicast(hop) => match self.resolve(hop, address) {
                Ok(next) => Path::Next(next.narrowed_to(self.shared.path_mtus.find(address).unwrap_or(next.mtu))),
                Err(reason) => Path::Closed(reason),
            },
            Route::Unreachable => Path::Closed(DropReason::NoRoute),
            Route::Blackhole | Route::Broadcast => Path::Closed(DropReason::NoRoute),
        }
    }

    /// Asks control for a link address, once a while for each: a dead server must not keep others from asking.
    #[cold]
    fn ask_for(&self, request: NeighbourRequest) {
        let mut asked = self.asked.borrow_mut();
        if asked.contains(&request) {
            return;
        }
        if asked.len() == ASKED_MAX || self.shared.neighbour_requests.push(request).is_err() {
            self.counters().requests_lost.add(1);
            return;
        }
        asked.push(request);
    }

    /// Forgets what was asked for, so that it may be asked for again.
    #[inline]
    pub(super) fn forget_asked(&mut self, now: Instant) {
        if now - self.asked_since >= ASKED_PERIOD {
            self.asked_since = now;
            self.asked.get_mut().clear();
        }
    }

    /// The next hop of a packet that crosses the director by `hop`.
    #[inline]
    pub(super) fn next_hop(&self, hop: Option<Hop>, packet: &Packet) -> Result<NextHop, DropReason> {
        self.resolve(hop.ok_or(DropReason::NoRoute)?, packet.destination.address)
    }

    /// Link addresses of a hop; asks control for the neighbour when it is unknown.
    #[inline]
    pub(super) fn resolve(&self, hop: Hop, destination: Address) -> Result<NextHop, DropReason> {
        let interface = hop.interface.ok_or(DropReason::OtherInterface)?;
        let routes = self.routes();
        let link = routes.link(interface).filter(|link| link.up).ok_or(DropReason::NoRoute)?;
        let address = hop.gateway.unwrap_or(destination);
        let Some(neighbour) = routes.neighbour(interface, address) else {
            self.ask_for(NeighbourRequest { interface, address });
            return Err(DropReason::NoNeighbour);
        };
        let mut addresses = [0; 12];
        addresses[..6].copy_from_slice(&neighbour.0);
        addresses[6..].copy_from_slice(&link.mac.0);
        let (interface, vlan) = match link.vlan {
            None => (interface, None),
            Some((carrier, _)) => (carrier, Some(interface)),
        };
        let (mtu, source) = (hop.mtu, hop.source);
        Ok(NextHop { interface, vlan, addresses, mtu, frame_octets_max: 0, source }.narrowed_to(mtu))
    }
}

/// Writes the link header of a frame that has room for one; `addresses` are the neighbour's and the station's.
#[inline(always)]
pub(super) fn write_link(bytes: &mut [u8], family: Family, addresses: &[u8; 12]) {
    let header = &mut bytes[..ETHERNET_OCTETS];
    header[..12].copy_from_slice(addresses);
    header[12..].copy_from_slice(&ether_type(family).to_be_bytes());
}
