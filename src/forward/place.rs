//! What a fragment's headers say of its place in a datagram.
//!
//! Source: `ip_frag_queue` of `net/ipv4/ip_fragment.c`, `nf_ct_frag6_queue` of
//! `net/ipv6/netfilter/nf_conntrack_reasm.c`, Linux 6.1; RFC 791 section 3.2, RFC 8200 section 4.5.
//!
//! **Deviation**: IPv6 fragments, not the last, whose payload is no multiple of eight octets are the host's, which tells
//! the sender; 6.1 balances the first of such fragments.

use crate::base::{Address, Family};
use crate::forward::parse::Packet;
use crate::forward::verdict::{DropReason, Verdict};
use crate::wire;

/// The longest IPv4 packet, and the longest IPv6 packet without its fixed header; octets.
pub(super) const PACKET_OCTETS_MAX: usize = u16::MAX as usize;
/// Octets of a fragment header.
pub(super) const FRAGMENT_OCTETS: usize = 8;

const EXTENSION_HOP_BY_HOP: u8 = 0;
const EXTENSION_ROUTING: u8 = 43;
const EXTENSION_DESTINATION: u8 = 60;

/// What the fragments of one datagram have in common.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Key {
    pub source: Address,
    pub destination: Address,
    pub identification: u32,
    /// IPv4 alone.
    pub protocol: u8,
}

/// What a fragment's headers say of its place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Place {
    pub key: Key,
    /// Of the payload, within the frame.
    pub start: u16,
    /// Of the payload, within the datagram's; octets.
    pub offset: u32,
    /// Octets of the payload.
    pub octets: u32,
    /// Octets of the packet.
    pub width: u16,
    pub is_last: bool,
    pub dont_fragment: bool,
    /// One bit by the ECN field.
    pub congestion: u8,
}

impl Place {
    /// What the headers of a fragment, whose IP header `packet` tells, say of its place.
    ///
    /// # Errors
    /// What becomes of a fragment that has no place in any datagram.
    pub(super) fn of(frame: &[u8], packet: &Packet) -> Result<Self, Verdict> {
        let network = usize::from(packet.network);
        match packet.family {
            Family::V4 => Ok(Self::of_v4(&frame[network..], packet)),
            Family::V6 => Self::of_v6(frame, packet),
        }
    }

    fn of_v4(header: &[u8], packet: &Packet) -> Self {
        let field = u16::from_be_bytes([header[6], header[7]]);
        let is_last = field & 0x2000 == 0;
        let octets = u32::from(packet.length) - u32::from(packet.transport - packet.network);
        Self {
            key: Key {
                source: packet.source.address,
                destination: packet.destination.address,
                identification: u32::from(u16::from_be_bytes([header[4], header[5]])),
                protocol: header[9],
            },
            start: packet.transport,
            offset: u32::from(field & 0x1fff) * 8,
            // What is beyond a whole number of units is nobody's.
            octets: if is_last { octets } else { octets & !7 },
            width: if is_last { packet.length } else { packet.length - (octets & 7) as u16 },
            is_last,
            dont_fragment: field & 0x4000 != 0,
            congestion: 1 << (header[1] & 3),
        }
    }

    fn of_v6(frame: &[u8], packet: &Packet) -> Result<Self, Verdict> {
        let (network, at) = (usize::from(packet.network), usize::from(packet.transport));
        let header = &frame[at..at + FRAGMENT_OCTETS];
        let field = u16::from_be_bytes([header[2], header[3]]);
        let start = at + FRAGMENT_OCTETS;
        let octets = (network + usize::from(packet.length) - start) as u32;
        let is_last = field & 1 == 0;
        let offset = u32::from(field & 0xfff8);
        if !is_last && !octets.is_multiple_of(8) {
            // The host tells the sender (RFC 8200 section 4.5).
            return Err(Verdict::Pass);
        }
        if offset + octets > PACKET_OCTETS_MAX as u32 || offset == 0 && is_headless(&frame[start..], header[0], octets)
        {
            return Err(Verdict::Drop(DropReason::Malformed));
        }
        Ok(Self {
            key: Key {
                source: packet.source.address,
                destination: packet.destination.address,
                identification: u32::from_be_bytes([header[4], header[5], header[6], header[7]]),
                protocol: 0,
            },
            start: start as u16,
            offset,
            octets,
            width: packet.length,
            is_last,
            dont_fragment: false,
            congestion: 1 << (frame[network + 1] >> 4 & 3),
        })
    }
}

/// True when the first fragment of an IPv6 datagram lacks a part of its headers (RFC 8200 section 4.5,
/// `ipv6frag_thdr_truncated`).
fn is_headless(payload: &[u8], mut next_header: u8, octets: u32) -> bool {
    let payload = &payload[..octets as usize];
    let mut at = 0;
    while let EXTENSION_HOP_BY_HOP | EXTENSION_ROUTING | EXTENSION_DESTINATION = next_header {
        let Some(header) = payload.get(at..).and_then(|rest| rest.first_chunk::<2>()) else { return true };
        next_header = header[0];
        at += extension_octets(header);
    }
    let needed = match next_header {
        wire::tcp::PROTOCOL => 20,
        wire::udp::PROTOCOL | wire::icmpv6::PROTOCOL => 8,
        _ => 1,
    };
    at + needed > payload.len()
}

/// Octets of an IPv6 extension header other than AH and fragment.
pub(super) fn extension_octets(header: &[u8]) -> usize {
    8 + usize::from(header[1]) * 8
}
