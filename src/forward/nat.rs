//! Masquerading: new addresses and ports in place, checksums by difference.
//!
//! Source: `ip_vs_nat_xmit` and `tcp_dnat_handler`, `udp_snat_handler` of Linux 6.1; RFC 1624 for the arithmetic.

use crate::base::{Address, Endpoint, Family};
use crate::forward::parse::Packet;
use crate::service::Protocol;
use crate::wire::checksum::{self, Update};
use crate::wire::{sctp, tcp, udp};

/// Which side of a packet is rewritten.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Side {
    /// The destination: towards the real server.
    Destination,
    /// The source: towards the client.
    Source,
}

const V4_CHECKSUM: usize = 10;
const V4_SOURCE: usize = 12;
const V6_SOURCE: usize = 8;

/// Offset of the checksum within a transport header.
pub(super) const fn checksum_offset(protocol: Protocol) -> usize {
    match protocol {
        Protocol::Tcp => tcp::CHECKSUM_OFFSET,
        Protocol::Udp => udp::CHECKSUM_OFFSET,
        Protocol::Sctp => sctp::CHECKSUM_OFFSET,
    }
}

/// Computes a transport checksum that the sender left to its hardware, as local senders over veth and virtio do.
#[cold]
pub(super) fn complete_checksum(frame: &mut [u8], packet: &Packet) {
    let (network, transport) = (usize::from(packet.network), usize::from(packet.transport));
    let segment = &mut frame[transport..network + usize::from(packet.length)];
    if packet.protocol == Protocol::Sctp {
        let sum = sctp::checksum(segment);
        segment[sctp::CHECKSUM_OFFSET..sctp::CHECKSUM_OFFSET + 4].copy_from_slice(&sum);
        return;
    }
    let at = checksum_offset(packet.protocol);
    let (source, destination) = (packet.source.address, packet.destination.address);
    let pseudo = checksum::pseudo_header(source, destination, packet.protocol.number(), segment.len() as u32);
    let sum = checksum::transport(pseudo, segment, at);
    let sum = if packet.protocol == Protocol::Udp { checksum::not_zero(sum) } else { sum };
    segment[at..at + 2].copy_from_slice(&sum.to_be_bytes());
}

/// What every packet gets that leaves for a server or a client: a whole checksum and a lower TTL.
#[inline(always)]
pub(super) fn send_off(frame: &mut [u8], packet: &Packet) {
    if packet.partial_checksum {
        complete_checksum(frame, packet);
    }
    decrement_ttl(frame, packet);
}

/// Puts an address into the IP header that `header` begins with, and mends the header's checksum.
#[inline(always)]
pub(super) fn set_address(header: &mut [u8], family: Family, side: Side, address: Address) {
    match (family, side) {
        (Family::V4, Side::Source) => set_address_v4(header, V4_SOURCE, address),
        (Family::V4, Side::Destination) => set_address_v4(header, V4_SOURCE + 4, address),
        (Family::V6, Side::Source) => header[V6_SOURCE..V6_SOURCE + 16].copy_from_slice(&address.0.to_be_bytes()),
        (Family::V6, Side::Destination) => {
            header[V6_SOURCE + 16..V6_SOURCE + 32].copy_from_slice(&address.0.to_be_bytes());
        }
    }
}

#[inline(always)]
fn set_address_v4(header: &mut [u8], at: usize, address: Address) {
    let header = &mut header[..20];
    let old = u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    let sum = u16::from_be_bytes([header[V4_CHECKSUM], header[V4_CHECKSUM + 1]]);
    let sum = Update::new(sum).remove_u32(old).add_u32(address.low_u32()).finish();
    header[V4_CHECKSUM..V4_CHECKSUM + 2].copy_from_slice(&sum.to_be_bytes());
    header[at..at + 4].copy_from_slice(&address.low_u32().to_be_bytes());
}

/// Lowers a packet's TTL or hop limit by one.
#[inline]
pub(super) fn decrement_ttl(frame: &mut [u8], packet: &Packet) {
    lower_ttl(&mut frame[usize::from(packet.network)..], packet.family);
}

/// The same in the IP header that `header` begins with.
#[inline(always)]
pub(super) fn lower_ttl(header: &mut [u8], family: Family) {
    match family {
        Family::V4 => {
            let header = &mut header[..20];
            header[8] -= 1;
            let sum = u16::from_be_bytes([header[V4_CHECKSUM], header[V4_CHECKSUM + 1]]);
            // To take a word away and add the same less 0x0100 is to add the complement of 0x0100, whatever the word.
            let sum = Update::new(sum).remove_u16(0x0100).finish();
            header[V4_CHECKSUM..V4_CHECKSUM + 2].copy_from_slice(&sum.to_be_bytes());
        }
        Family::V6 => header[7] -= 1,
    }
}

/// Puts `new` in place of the packet's source or destination and mends the checksums.
#[inline]
pub(super) fn rewrite(frame: &mut [u8], packet: &Packet, side: Side, new: Endpoint) {
    let (old, port_at) = match side {
        Side::Destination => (packet.destination, 2),
        Side::Source => (packet.source, 0),
    };
    let (before, segment) = frame.split_at_mut(usize::from(packet.transport));
    set_address(&mut before[usize::from(packet.network)..], packet.family, side, new.address);
    if packet.is_rare {
        return rewrite_rare(frame, packet, port_at, old.port, new.port);
    }
    let sum_at = checksum_offset(packet.protocol);
    let sum = u16::from_be_bytes([segment[sum_at], segment[sum_at + 1]]);
    let update = Update::new(sum).remove_u16(old.port).add_u16(new.port);
    let update = match packet.family {
        Family::V4 => update.remove_u32(old.address.low_u32()).add_u32(new.address.low_u32()),
        Family::V6 => update.remove_address(old.address).add_address(new.address),
    };
    segment[port_at..port_at + 2].copy_from_slice(&new.port.to_be_bytes());
    let sum = match packet.protocol {
        // A datagram without a checksum leaves with one, as from the kernel.
        Protocol::Udp if sum == 0 => return complete_rewritten(frame, packet, side, new),
        Protocol::Udp => checksum::not_zero(update.finish()),
        _ => update.finish(),
    };
    segment[sum_at..sum_at + 2].copy_from_slice(&sum.to_be_bytes());
}

/// The port and the checksum of what has neither where TCP and UDP have them.
#[cold]
fn rewrite_rare(frame: &mut [u8], packet: &Packet, port_at: usize, old: u16, new: u16) {
    // IPsec has no ports, and a checksum that nobody else can mend; SCTP's covers no addresses (RFC 9260 section 6.8).
    if packet.is_ipsec || old == new {
        return;
    }
    let at = usize::from(packet.transport) + port_at;
    frame[at..at + 2].copy_from_slice(&new.to_be_bytes());
    complete_checksum(frame, packet);
}

/// Computes the checksum of a packet that has `new` in it already.
#[cold]
fn complete_rewritten(frame: &mut [u8], packet: &Packet, side: Side, new: Endpoint) {
    let rewritten = match side {
        Side::Destination => Packet { destination: new, ..*packet },
        Side::Source => Packet { source: new, ..*packet },
    };
    complete_checksum(frame, &rewritten);
}
