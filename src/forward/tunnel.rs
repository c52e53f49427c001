//! Tunnelling: the outer header in front of the packet.
//!
//! Source: `ip_vs_tunnel_xmit`, `ip_vs_tunnel_xmit_v6` of Linux 6.1; RFC 2003, RFC 2473, RFC 6040 for the fields.

use crate::base::{Address, Family};
use crate::forward::parse::{ETHERNET_OCTETS, Packet};
use crate::wire::checksum;

const IPIP: u8 = 4;
const IPV6_IN: u8 = 41;

/// Octets that an outer header of this family takes.
pub(super) const fn overhead(outer: Family) -> u16 {
    match outer {
        Family::V4 => 20,
        Family::V6 => 40,
    }
}

/// The narrowest path that the kernel sends tunnel packets over, octets of inner packet.
pub(super) const fn inner_mtu_min(outer: Family) -> u32 {
    match outer {
        Family::V4 => 68,
        Family::V6 => 1280,
    }
}

/// The fields of an outer header that the inner packet does not give.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outer {
    pub source: Address,
    pub destination: Address,
    /// IPv4: the DF bit.
    pub dont_fragment: bool,
    /// IPv4: the identification, used when DF is clear.
    pub identification: u16,
}

/// Writes the outer header into the octets before the inner packet. `frame` starts with room for an Ethernet header,
/// then for the outer header, then comes the inner packet of `inner` (whose TTL has been lowered).
pub(super) fn emit(frame: &mut [u8], inner: &Packet, ttl: u8, outer: &Outer) {
    let family = outer.destination.family();
    let header_octets = usize::from(overhead(family));
    let inner_at = ETHERNET_OCTETS + header_octets;
    let class = match inner.family {
        Family::V4 => frame[inner_at + 1],
        Family::V6 => frame[inner_at] << 4 | frame[inner_at + 1] >> 4,
    };
    let class = outer_class(class);
    let protocol = match inner.family {
        Family::V4 => IPIP,
        Family::V6 => IPV6_IN,
    };
    let header = &mut frame[ETHERNET_OCTETS..inner_at];
    match family {
        Family::V4 => {
            let length = inner.length + overhead(family);
            let identification = if outer.dont_fragment { 0 } else { outer.identification };
            header[0] = 0x45;
            header[1] = class;
            header[2..4].copy_from_slice(&length.to_be_bytes());
            header[4..6].copy_from_slice(&identification.to_be_bytes());
            header[6..8].copy_from_slice(&(u16::from(outer.dont_fragment) << 14).to_be_bytes());
            header[8] = ttl;
            header[9] = protocol;
            header[10..12].fill(0);
            header[12..16].copy_from_slice(&outer.source.low_u32().to_be_bytes());
            header[16..20].copy_from_slice(&outer.destination.low_u32().to_be_bytes());
            let sum = checksum::of(header);
            header[10..12].copy_from_slice(&sum.to_be_bytes());
        }
        Family::V6 => {
            header[0..4].copy_from_slice(&(6 << 28 | u32::from(class) << 20).to_be_bytes());
            header[4..6].copy_from_slice(&inner.length.to_be_bytes());
            header[6] = protocol;
            header[7] = ttl;
            header[8..24].copy_from_slice(&outer.source.0.to_be_bytes());
            header[24..40].copy_from_slice(&outer.destination.0.to_be_bytes());
        }
    }
}

/// The outer DS field and ECN: copied, but congestion experienced becomes ECT(0) (RFC 6040 section 4.1, compatibility
/// with a receiver that does not merge it back).
const fn outer_class(inner: u8) -> u8 {
    if inner & 3 == 3 { inner & !3 | 2 } else { inner }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn congestion_experienced_is_not_copied() {
        assert_eq!(outer_class(0x2b), 0x2a);
        assert_eq!(outer_class(0xb9), 0xb9);
        assert_eq!(outer_class(0), 0);
    }
}
