//! Full NAT: a real server sees an address of the director in place of its client's, so that its answers come back
//! whatever its routes say; and how it learns of the client nevertheless.
//!
//! Stage 3 finds the connection and notes what is to be exchanged; stage 4 carries it out. An addition: the kernel's IPVS
//! has no such method. The option of TCP that names the client is DPVS's (`tcpopt_ip4_addr`, `tcpopt_ip6_addr`), the
//! header in front of the stream is version 2 of the PROXY protocol (section 2.2 of its specification).

use crate::base::{Address, Endpoint, Family, Frame, Instant};
use crate::conn::{Direction, Found, Key, LocalPort, New, Reservation, Reserved};
use crate::forward::decide::{Answer, Decision, Target};
use crate::forward::egress::{NextHop, Path};
use crate::forward::nat::{self, Side};
use crate::forward::parse::{ETHERNET_OCTETS, Packet};
use crate::forward::pipeline::{Forwarder, flow_hash};
use crate::forward::related::Related;
use crate::forward::schedule::Received;
use crate::forward::tcp_stream::{self, Prefix};
use crate::forward::verdict::{DropReason, Verdict};
use crate::port::Port;
use crate::route::Route;
use crate::service::{FullNat, Protocol};
use crate::wire::tcp::{FLAG_ACK, FLAG_FIN, FLAG_RST, FLAG_SYN, Segment};

/// Local ports that are tried for a connection; when all are in use, there is none for it.
const ATTEMPTS: u32 = 64;
/// How far away the next try is when a port is in use: ports are given in a row, so its neighbours may be, too.
const STEP_ASIDE: u32 = 0x9e37_79b1;

/// What becomes of a packet of full NAT beside its forwarding.
#[derive(Clone, Copy, Debug)]
pub(super) struct Exchange {
    /// What stands on the side that forwarding leaves alone: the local endpoint towards the server, the client
    /// towards the client.
    other: Endpoint,
    /// What its TCP segment needs.
    stream: Stream,
}

/// What a segment needs so that the server learns of the client.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stream {
    Nothing,
    /// The option that names the client.
    Option,
    /// No payload: of a SYN, whose data would come before the header.
    Bare,
    /// To the server: sequence numbers behind the header, whose octets come first if it has not arrived.
    Behind {
        header_octets: u32,
        is_due: bool,
    },
    /// To the client: acknowledgments without the header.
    Before(Prefix),
}

impl Forwarder {
    /// Reserves a local port for a connection.
    pub(super) fn reserve_local_port(&self, connection: &New, now: Instant) -> Result<Reserved, DropReason> {
        let family = connection.destination.address.family();
        let full_nat = self.shared.destinations.get(connection.destination_id).full_nat();
        let Some(protocol) = connection.key.protocol else { return Err(DropReason::NoLocalPort) };
        for _ in 0..ATTEMPTS {
            let place = self.local_place.get();
            // Each worker walks on its own, from a place of its own.
            self.local_place.set(place.wrapping_add(1));
            let Some((address, port)) = self.local_addresses().endpoint(family, place) else { break };
            let local = Endpoint::new(address, port);
            match self.shared.connections.reserve(protocol, local, connection.destination, full_nat, now) {
                Reservation::Made(reserved) => return Ok(reserved),
                Reservation::InUse => self.local_place.set(place.wrapping_add(STEP_ASIDE)),
                Reservation::Full => return Err(DropReason::TableFull),
            }
        }
        Err(DropReason::NoLocalPort)
    }

    /// Takes a packet of a connection of full NAT that was just followed, and lets the connection go.
    #[inline(never)]
    pub(super) fn exchange<P: Port>(
        &self,
        found: Found<'_>,
        direction: Direction,
        received: &Received<'_, P>,
        packet: &Packet,
    ) -> Decision {
        let Some(local) = found.local_port() else {
            // Every one in the table has one: only a copy may have left it behind.
            return Decision::Verdict(Verdict::Drop(DropReason::NoLocalPort));
        };
        let client = found.entry().client();
        let stream = match packet.protocol {
            Protocol::Tcp => read_segment(local, direction, received.segment(packet), client.address.family()),
            _ => Stream::Nothing,
        };
        let other = match direction {
            Direction::Inbound => local.endpoint(),
            Direction::Outbound => client,
        };
        drop(found);
        Decision::Exchanged { direction, position: self.note_exchange(Exchange { other, stream }) }
    }

    /// The position of an exchange among those of the batch.
    fn note_exchange(&self, exchange: Exchange) -> u16 {
        let mut exchanges = self.exchanges.borrow_mut();
        exchanges.push(exchange);
        exchanges.len() as u16 - 1
    }

    /// Decides on a packet to a local address: a server's answer, or what any packet to the director is.
    #[inline(never)]
    pub(super) fn decide_returning<P: Port>(
        &self,
        received: &Received<'_, P>,
        packet: &Packet,
        hash: u64,
        now: Instant,
        target: &mut Target,
    ) -> Decision {
        let connections = &self.shared.connections;
        let key = Key { protocol: Some(packet.protocol), client: packet.destination, other: packet.source };
        match connections.find_by_local_port(hash, &key, now) {
            Some(found) => self.follow_outbound(found, received, packet, now, target),
            None => {
                let hash = connections.hash(Some(packet.protocol), packet.source);
                self.decide_inbound(received, packet, hash, now, target)
            }
        }
    }

    /// Decides on an ICMP error about a packet that went to a server from a local address; `None` when no connection
    /// sent that.
    #[cold]
    pub(super) fn decide_related_returning(
        &self,
        packet: &Packet,
        related: &Related,
        now: Instant,
        target: &mut Target,
    ) -> Option<Decision> {
        let key = Key { protocol: Some(related.protocol), client: related.source, other: related.destination };
        let hash = self.shared.connections.hash(key.protocol, key.client);
        let found = self.shared.connections.find_by_local_port(hash, &key, now)?;
        let entry = found.entry();
        let (client, service, destination) = (entry.client(), entry.virtual_service(), entry.destination());
        let local = found.local_port()?;
        let stream = match (related.protocol, local.full_nat(), local.client_sequence()) {
            (Protocol::Tcp, FullNat::Proxy, Some(first)) => {
                let octets = tcp_stream::header_octets(client.address.family());
                Stream::Before(Prefix { octets, first: still_to_come(&local, first) })
            }
            _ => Stream::Nothing,
        };
        drop(found);
        target.new = service;
        if self.shared.destinations.get(destination).is_available() {
            self.counters().destination(destination).count_out(packet.length);
        }
        let position = self.note_exchange(Exchange { other: client, stream });
        Some(Decision::RelayExchanged { direction: Direction::Outbound, position })
    }

    /// The decision to pass an ICMP error about an answer on to the server that sent it to `local`.
    #[cold]
    pub(super) fn relay_to_server_from(&self, local: Endpoint) -> Decision {
        let position = self.note_exchange(Exchange { other: local, stream: Stream::Nothing });
        Decision::RelayExchanged { direction: Direction::Inbound, position }
    }

    /// Sends a packet of full NAT on its way.
    #[inline(never)]
    pub(super) fn send_exchanged<P: Port>(
        &mut self,
        port: &mut P,
        frame: Frame,
        packet: &Packet,
        target: &Target,
        (direction, position): (Direction, u16),
    ) -> Verdict {
        let Some(&exchange) = self.exchanges.get_mut().get(usize::from(position)) else {
            debug_assert!(false, "an exchange is noted before it is decided");
            return self.settle(port, frame, None, Verdict::Drop(DropReason::NoLocalPort));
        };
        match direction {
            Direction::Inbound => self.exchange_to_server(port, frame, packet, target, exchange),
            Direction::Outbound => self.exchange_to_client(port, frame, packet, target.new, exchange),
        }
    }

    fn exchange_to_server<P: Port>(
        &mut self,
        port: &mut P,
        mut frame: Frame,
        packet: &Packet,
        target: &Target,
        exchange: Exchange,
    ) -> Verdict {
        let next = match self.path(target.destination) {
            Path::Next(next) if packet.ttl > 1 => next,
            // The director itself sees its client; it needs no detour to answer.
            path => return self.stay(port, frame, packet, Some(target.new), path),
        };
        if packet.is_too_big(next.mtu) {
            return self.too_big(port, frame, packet, next.mtu);
        }
        let mut packet = *packet;
        let client = packet.source;
        if exchange.stream == Stream::Bare {
            // The client sends it again behind its SYN (RFC 7413 section 3).
            tcp_stream::cut_payload(port, &mut frame, &mut packet);
        }
        nat::send_off(port.bytes_mut(&frame), &packet);
        packet.partial_checksum = false;
        if exchange.stream == Stream::Option {
            // Where it finds no room, an earlier segment has had it: the handshake's last one is short.
            tcp_stream::insert_client(port, &mut frame, &mut packet, client, next.mtu);
        }
        let bytes = port.bytes_mut(&frame);
        nat::rewrite(bytes, &packet, Side::Source, exchange.other);
        packet.source = exchange.other;
        nat::rewrite(bytes, &packet, Side::Destination, target.new);
        if let Stream::Behind { header_octets, is_due } = exchange.stream {
            let service = packet.destination;
            packet.destination = target.new;
            if is_due {
                let Some(verdict) = self.send_header(port, &frame, &packet, (client, service), &next) else {
                    return self.settle(port, frame, None, Verdict::Drop(DropReason::NoFrame));
                };
                // The header says all that a bare acknowledgment does. Were it lost and the acknowledgment not, a server
                // that waits for the client and a client that waits for the server would send nothing again.
                if is_bare(port.bytes(&frame), &packet) {
                    port.release(frame);
                    return verdict;
                }
            }
            tcp_stream::shift_sequence(segment_mut(port.bytes_mut(&frame), &packet), header_octets);
        }
        self.send(port, frame, packet.family, &next)
    }

    /// Sends the header that names the client, as a segment before that of the frame; `None` without a free frame.
    #[cold]
    fn send_header<P: Port>(
        &mut self,
        port: &mut P,
        frame: &Frame,
        packet: &Packet,
        (client, service): (Endpoint, Endpoint),
        next: &NextHop,
    ) -> Option<Verdict> {
        self.identification = self.identification.wrapping_add(1);
        let header = tcp_stream::ClientHeader::new(client, service);
        // The port has one frame's octets at a time: what is copied goes by way of the stack.
        let model = tcp_stream::Model::of(port.bytes(frame), packet);
        let octets = header.segment_octets(packet.family, &model);
        let before = port.allocate(ETHERNET_OCTETS + octets, frame.interface)?;
        header.emit(&mut port.bytes_mut(&before)[ETHERNET_OCTETS..], &model, packet, self.identification);
        Some(self.send(port, before, packet.family, next))
    }

    fn exchange_to_client<P: Port>(
        &mut self,
        port: &mut P,
        frame: Frame,
        packet: &Packet,
        service: Endpoint,
        exchange: Exchange,
    ) -> Verdict {
        let next = match self.way_to(exchange.other.address) {
            Ok(next) => next,
            Err(reason) => return self.settle(port, frame, None, Verdict::Drop(reason)),
        };
        if packet.ttl <= 1 {
            return self.answer(port, frame, packet, Answer::TimeExceeded);
        }
        if packet.is_too_big(next.mtu) {
            return self.too_big(port, frame, packet, next.mtu);
        }
        let mut packet = *packet;
        let bytes = port.bytes_mut(&frame);
        nat::send_off(bytes, &packet);
        nat::rewrite(bytes, &packet, Side::Destination, exchange.other);
        packet.destination = exchange.other;
        packet.partial_checksum = false;
        nat::rewrite(bytes, &packet, Side::Source, service);
        if let Stream::Before(prefix) = exchange.stream {
            tcp_stream::shift_acknowledgment(segment_mut(bytes, &packet), prefix);
        }
        self.send(port, frame, packet.family, &next)
    }

    fn way_to(&self, address: Address) -> Result<NextHop, DropReason> {
        match self.routes().lookup(address, flow_hash(address)) {
            Route::Unicast(hop) => self.resolve(hop, address),
            _ => Err(DropReason::NoRoute),
        }
    }

    /// Sends an ICMP error about a packet of full NAT to the other side, both ends of it exchanged.
    #[cold]
    pub(super) fn relay_exchanged<P: Port>(
        &mut self,
        port: &mut P,
        frame: Frame,
        packet: &Packet,
        related: &Related,
        target: &Target,
        (direction, position): (Direction, u16),
    ) -> Verdict {
        let drop = |reason| Verdict::Drop(reason);
        let Some(&exchange) = self.exchanges.get_mut().get(usize::from(position)) else {
            return self.settle(port, frame, None, drop(DropReason::NoLocalPort));
        };
        let (network, family) = (usize::from(packet.network), packet.family);
        if !related.is_sound(port.bytes(&frame), network, family) {
            return self.settle(port, frame, None, drop(DropReason::IcmpChecksum));
        }
        // Who is told: the sender of the quoted packet. Who tells: whoever that one knows as the other side.
        let (told, teller, next) = match direction {
            Direction::Inbound => match self.path(target.destination) {
                Path::Next(next) => (target.new, exchange.other, Ok(next)),
                Path::Closed(reason) => (target.new, exchange.other, Err(reason)),
                Path::Local => return self.settle(port, frame, None, Verdict::Pass),
            },
            Direction::Outbound => (exchange.other, target.new, self.way_to(exchange.other.address)),
        };
        let next = match next {
            Ok(_) if packet.ttl <= 1 => return self.settle(port, frame, None, drop(DropReason::TimeExceeded)),
            Ok(next) if packet.is_too_big(next.mtu) => {
                return self.settle(port, frame, None, drop(DropReason::TooBig));
            }
            Ok(next) => next,
            Err(reason) => return self.settle(port, frame, None, drop(reason)),
        };
        let bytes = port.bytes_mut(&frame);
        nat::decrement_ttl(bytes, packet);
        if let Stream::Before(prefix) = exchange.stream {
            tcp_stream::shift_quoted(related.quoted_transport(bytes), prefix);
        }
        related.rewrite(bytes, network, family, Side::Destination, told);
        related.rewrite(bytes, network, family, Side::Source, teller);
        self.send(port, frame, family, &next)
    }
}

/// The segment in a frame, from its header on.
fn segment_mut<'a>(frame: &'a mut [u8], packet: &Packet) -> &'a mut [u8] {
    &mut frame[usize::from(packet.transport)..usize::from(packet.network) + usize::from(packet.length)]
}

/// True when a segment carries nothing and ends nothing.
fn is_bare(frame: &[u8], packet: &Packet) -> bool {
    let end = usize::from(packet.network) + usize::from(packet.length);
    let segment = Segment::new_unchecked(&frame[usize::from(packet.transport)..end]);
    segment.payload().is_empty() && segment.flags() & FLAG_FIN == 0
}

/// Number of the header's first octet as long as it has not arrived, of a stream whose SYN had the number `syn`.
fn still_to_come(local: &LocalPort<'_>, syn: u32) -> Option<u32> {
    (!local.has_header_arrived()).then_some(syn.wrapping_add(1))
}

/// What a segment says of the connection's sequence numbers, and what it needs.
fn read_segment(local: LocalPort<'_>, direction: Direction, octets: &[u8], client: Family) -> Stream {
    let full_nat = local.full_nat();
    if full_nat == FullNat::Silent {
        return Stream::Nothing;
    }
    let Ok(segment) = Segment::new_checked(octets) else { return Stream::Nothing };
    let (flags, sequence, acknowledged) = (segment.flags(), segment.sequence(), segment.acknowledgment());
    let header_octets = tcp_stream::header_octets(client);
    match (full_nat, direction) {
        (FullNat::Toa, Direction::Outbound) => {
            if flags & (FLAG_SYN | FLAG_ACK) == FLAG_SYN | FLAG_ACK {
                local.set_server_sequence(sequence);
            }
            Stream::Nothing
        }
        (FullNat::Toa, Direction::Inbound) => {
            // As long as the client has heard nothing but the server's SYN, the server may not know of it.
            let first = local.server_sequence().map(|sequence| sequence.wrapping_add(1));
            let is_early = first == Some(acknowledged) && flags & (FLAG_SYN | FLAG_RST | FLAG_ACK) == FLAG_ACK;
            if is_early { Stream::Option } else { Stream::Nothing }
        }
        // Whether the server takes it, its answer tells: a late or forged one moves nothing.
        (_, Direction::Inbound) if flags & FLAG_SYN != 0 => Stream::Bare,
        (_, Direction::Inbound) => match local.client_sequence() {
            None => Stream::Nothing,
            Some(first) => {
                let is_first = sequence == first.wrapping_add(1);
                let is_due = is_first && !local.has_header_arrived() && flags & (FLAG_RST | FLAG_ACK) == FLAG_ACK;
                Stream::Behind { header_octets, is_due }
            }
        },
        (_, Direction::Outbound) if flags & (FLAG_SYN | FLAG_ACK) == FLAG_SYN | FLAG_ACK => {
            local.set_client_sequence(acknowledged.wrapping_sub(1));
            Stream::Nothing
        }
        // Of a reset only the answer to a SYN is acknowledged by number (RFC 9293 section 3.5.3), and that is the client's.
        (_, Direction::Outbound) => match local.client_sequence() {
            Some(syn) if flags & (FLAG_RST | FLAG_ACK) == FLAG_ACK => {
                let first = still_to_come(&local, syn);
                if first.is_some_and(|first| acknowledged.wrapping_sub(first) as i32 >= header_octets as i32) {
                    local.set_header_arrived();
                }
                Stream::Before(Prefix { octets: header_octets, first })
            }
            _ => Stream::Nothing,
        },
    }
}
