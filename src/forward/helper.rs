//! The FTP helper at work: what segments of a watched control connection mean for its data connections, and what is
//! changed in them.
//!
//! Stage 3 reads the segment, makes the data connection and notes the change; stage 4 carries it out in front of the
//! usual rewriting.
//!
//! Source: `ip_vs_ftp_in`, `ip_vs_ftp_out` of `net/netfilter/ipvs/ip_vs_ftp.c`; `vs_fix_seq`, `vs_fix_ack_seq` of
//! `ip_vs_app.c`, Linux 6.1; RFC 2018 for the blocks that move with acknowledgments.
//!
//! **Deviation**: a reply that the server sends again is changed again; the kernel lets the second one pass as it is.

use crate::base::{Endpoint, Frame, Instant};
use crate::conn::{Direction, Expected, Flags, Found, Key, Moved, New, tcp};
use crate::forward::decide::{Decision, Target};
use crate::forward::ftp::{self, Command, Text};
use crate::forward::nat;
use crate::forward::parse::Packet;
use crate::forward::pipeline::Forwarder;
use crate::forward::schedule::Received;
use crate::forward::tcp_stream;
use crate::forward::verdict::{DropReason, Verdict};
use crate::port::Port;
use crate::route::Hop;
use crate::service::sysctl::Knob;
use crate::service::{DestinationId, Method, Protocol};
use crate::wire::checksum;
use crate::wire::tcp::{CHECKSUM_OFFSET, FLAG_ACK, Segment};

/// What is to be changed in a segment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Change {
    moved: Option<Moved>,
    text: Option<Replacement>,
}

/// Other text in a segment.
#[derive(Clone, Copy, Debug)]
struct Replacement {
    /// Offset in the payload.
    at: usize,
    /// Octets that the old text has.
    octets: usize,
    text: Text,
}

/// What a segment asks for.
#[derive(Default)]
struct Wanted {
    connection: Option<New>,
    text: Option<Replacement>,
}

impl Forwarder {
    /// Takes a segment of a watched connection that was just followed, and lets the connection go.
    #[cold]
    #[inline(never)]
    pub(super) fn help<P: Port>(
        &self,
        found: Found<'_>,
        direction: Direction,
        received: &Received<'_, P>,
        packet: &Packet,
        now: Instant,
    ) -> Decision {
        let plain = match direction {
            Direction::Inbound => Decision::Masquerade,
            Direction::Outbound => Decision::ToClient,
        };
        let octets = received.segment(packet);
        let Ok(segment) = Segment::new_checked(octets) else { return plain };
        let (payload, sequence) = (segment.payload(), segment.sequence());
        let mut wanted = Wanted::default();
        if found.entry().state() == tcp::ESTABLISHED && !payload.is_empty() {
            wanted = match direction {
                Direction::Inbound => read_client(&found, packet, octets, payload),
                Direction::Outbound => read_server(&found, packet, octets, payload),
            };
        }
        if let Some(text) = &wanted.text {
            let grown = (text.text.as_bytes().len() as u32).wrapping_sub(text.octets as u32);
            if grown != 0 && !found.move_after(sequence, grown) {
                return Decision::Verdict(Verdict::Drop(DropReason::TableFull));
            }
        }
        let change = Change { moved: found.moved(), text: wanted.text };
        if let Some(connection) = &mut wanted.connection {
            connection.controller = found.control();
        }
        drop(found);
        // Whoever cannot have the connection must not be told of it.
        if let Some(connection) = &wanted.connection
            && self.shared.connections.expect(connection, now) == Expected::Full
        {
            return Decision::Verdict(Verdict::Drop(DropReason::TableFull));
        }
        if change.moved.is_none() && change.text.is_none() {
            return plain;
        }
        let mut changes = self.changes.borrow_mut();
        changes.push(change);
        Decision::Changed { direction, position: changes.len() as u16 - 1 }
    }

    /// The decision on a packet that is the first of a data connection whose client's port was not known; `None` when
    /// it is not.
    #[cold]
    pub(super) fn follow_expected<P: Port>(
        &self,
        received: &Received<'_, P>,
        packet: &Packet,
        hash: u64,
        now: Instant,
        target: &mut Target,
    ) -> Option<Decision> {
        if packet.protocol != Protocol::Tcp || packet.source.port == 0 {
            return None;
        }
        let key = Key { protocol: Some(packet.protocol), client: packet.source, other: packet.destination };
        let found = self.shared.connections.find_expected(hash, &key, now)?;
        target.destination = found.entry().destination();
        if target.destination != DestinationId::NONE {
            let destination = self.shared.destinations.get(target.destination);
            target.epoch = destination.epoch();
            if !destination.is_available() {
                if !self.shared.sysctls.is_on(Knob::ExpireNodestConn) {
                    return Some(Decision::Verdict(Verdict::Drop(DropReason::ServerRemoved)));
                }
                found.expire_now();
                return None;
            }
        }
        Some(self.follow(found, received, packet, now, target))
    }

    /// Changes a segment and sends it on its way.
    #[cold]
    pub(super) fn send_changed<P: Port>(
        &mut self,
        port: &mut P,
        mut frame: Frame,
        packet: &Packet,
        target: &Target,
        (direction, position): (Direction, u16),
        hop: Option<Hop>,
    ) -> Verdict {
        let mut packet = *packet;
        if let Some(&change) = self.changes.get_mut().get(usize::from(position)) {
            let bytes = port.bytes_mut(&frame);
            if packet.partial_checksum {
                nat::complete_checksum(bytes, &packet);
                packet.partial_checksum = false;
            }
            if let Some(moved) = change.moved {
                let end = usize::from(packet.network) + usize::from(packet.length);
                move_numbers(&mut bytes[usize::from(packet.transport)..end], &moved, direction);
            }
            if let Some(text) = change.text
                && !replace(port, &mut frame, &mut packet, &text)
            {
                return self.settle(port, frame, None, Verdict::Drop(DropReason::NoFrame));
            }
        }
        match direction {
            Direction::Inbound => self.masquerade(port, frame, &packet, target),
            Direction::Outbound => self.return_to_client(port, frame, &packet, target.new, hop),
        }
    }
}

/// Whether a segment came whole: nothing is made of one that its receiver will not take.
fn is_sound(segment: &[u8], packet: &Packet) -> bool {
    let (source, destination) = (packet.source.address, packet.destination.address);
    let pseudo = checksum::pseudo_header(source, destination, packet.protocol.number(), segment.len() as u32);
    let sum = checksum::transport(pseudo, segment, CHECKSUM_OFFSET);
    packet.partial_checksum || segment[CHECKSUM_OFFSET..CHECKSUM_OFFSET + 2] == sum.to_be_bytes()
}

/// What a client's segment asks for; its mode is noted.
fn read_client(found: &Found<'_>, packet: &Packet, segment: &[u8], payload: &[u8]) -> Wanted {
    let command = ftp::command(payload, packet.family).filter(|_| is_sound(segment, packet));
    let listener = match command {
        None => return Wanted::default(),
        Some(Command::Passive) => {
            found.set_helper_mode(Flags::PASSIVE);
            return Wanted::default();
        }
        Some(Command::ExtendedPassive) => {
            found.set_helper_mode(Flags::EXTENDED_PASSIVE);
            return Wanted::default();
        }
        Some(Command::Active(listener)) => listener,
    };
    found.set_helper_mode(Flags::default());
    let entry = found.entry();
    let (service, server) = (entry.virtual_service(), entry.destination_endpoint());
    if service.port <= 1 || server.port <= 1 {
        return Wanted::default();
    }
    let below = |endpoint: Endpoint| Endpoint::new(endpoint.address, endpoint.port - 1);
    let flags = Flags::new(Method::Masquerading);
    Wanted { connection: Some(data_connection(found, listener, below(service), below(server), flags)), text: None }
}

/// What a server's segment asks for.
fn read_server(found: &Found<'_>, packet: &Packet, segment: &[u8], payload: &[u8]) -> Wanted {
    let entry = found.entry();
    let reply = match entry.flags() {
        flags if flags.has(Flags::PASSIVE) => ftp::passive_reply(payload),
        flags if flags.has(Flags::EXTENDED_PASSIVE) => ftp::extended_passive_reply(payload, packet.family),
        _ => None,
    };
    let Some(reply) = reply.filter(|_| is_sound(segment, packet)) else { return Wanted::default() };
    let service = Endpoint::new(entry.virtual_service().address, reply.port);
    let server = Endpoint::new(reply.address.unwrap_or(entry.destination_endpoint().address), reply.port);
    let client = Endpoint::new(entry.client().address, 0);
    let flags = Flags::new(Method::Masquerading).with(Flags::NO_CLIENT_PORT);
    let text = match entry.flags().has(Flags::PASSIVE) {
        true => Text::six_numbers(service),
        false => Text::extended(reply.port),
    };
    let is_other = text.as_bytes() != &payload[reply.place.clone()];
    let replacement = Replacement { at: reply.place.start, octets: reply.place.len(), text };
    Wanted {
        connection: Some(data_connection(found, client, service, server, flags)),
        text: is_other.then_some(replacement),
    }
}

/// A data connection; its controller is still to be counted.
fn data_connection(found: &Found<'_>, client: Endpoint, service: Endpoint, server: Endpoint, flags: Flags) -> New {
    let control = found.entry();
    New {
        key: Key { protocol: Some(Protocol::Tcp), client, other: service },
        destination: server,
        destination_id: control.destination(),
        flags,
        mark: control.mark(),
        controller: control.id(),
        timeout_s: tcp::fixed_timeout_s(tcp::LISTEN),
    }
}

/// Moves what a segment says of the server's sequence numbers: its own, or what the client acknowledges.
fn move_numbers(segment: &mut [u8], moved: &Moved, direction: Direction) {
    let Ok(view) = Segment::new_checked(&*segment) else { return };
    let (flags, sequence) = (view.flags(), view.sequence());
    match direction {
        Direction::Outbound => tcp_stream::shift_sequence(segment, moved.shift(sequence)),
        Direction::Inbound if flags & FLAG_ACK != 0 => {
            tcp_stream::map_acknowledged(segment, |number| number.wrapping_sub(moved.shift_acknowledged(number)));
        }
        Direction::Inbound => {}
    }
}

/// Puts other text into a segment and makes frame and IP header fit; the transport checksum is left to be computed.
/// False when there is no room.
fn replace<P: Port>(port: &mut P, frame: &mut Frame, packet: &mut Packet, replacement: &Replacement) -> bool {
    let (network, transport) = (usize::from(packet.network), usize::from(packet.transport));
    let end = network + usize::from(packet.length);
    let text = replacement.text.as_bytes();
    let start = transport + Segment::new_unchecked(&port.bytes(frame)[transport..end]).header_length() + replacement.at;
    let tail = start + replacement.octets;
    let new_end = end - replacement.octets + text.len();
    let Ok(length) = u16::try_from(new_end - network) else { return false };
    if new_end > end && !port.resize(frame, new_end) {
        return false;
    }
    let bytes = port.bytes_mut(frame);
    bytes.copy_within(tail..end, start + text.len());
    bytes[start..start + text.len()].copy_from_slice(text);
    tcp_stream::set_length(&mut bytes[network..transport], packet, length);
    packet.partial_checksum = true;
    new_end > end || port.resize(frame, new_end)
}
