//! Tunnelling: the outer headers in front of the packet.
//!
//! ```text
//! IPIP  IP, packet                                  RFC 2003, RFC 2473
//! GRE   IP, GRE (4 or 8), packet                    RFC 2784
//! GUE   IP, UDP (8), GUE (4 or 12), packet          draft-ietf-intarea-gue-09, as Linux has it
//! ```
//! Source: `ip_vs_tunnel_xmit`, `ip_vs_tunnel_xmit_v6`, `ipvs_gue_encap`, `ipvs_gre_encap` of Linux 6.1; RFC 6040 for
//! ECN, RFC 6335 for the range of ports.
//!
//! **Deviation**: the source port of GUE comes from the kernel's default range whatever `ip_local_port_range` says, and
//! from another hash: the same flow has another port there, though always the same.

use crate::base::{Address, Endpoint, Family};
use crate::forward::nat;
use crate::forward::parse::{ETHERNET_OCTETS, Packet, ether_type, ip_octets};
use crate::port::HEADROOM_OCTETS;
use crate::service::{Protocol, Tunnel, TunnelChecksum};
use crate::wire::checksum::Sum;
use crate::wire::gue::RemoteChecksum;
use crate::wire::{gre, gue, ipv6, udp};

/// IP protocol number of an IPv4 packet inside, RFC 2003.
pub(super) const IPIP: u8 = 4;
const IPV6_IN: u8 = 41;

/// Ports that GUE's source port is taken from: `net.ipv4.ip_local_port_range` as the kernel starts.
const SOURCE_PORT_FIRST: u16 = 32768;
const SOURCE_PORTS: u32 = 60999 - SOURCE_PORT_FIRST as u32 + 1;

const OCTETS_MAX: usize = ipv6::HEADER_OCTETS + udp::HEADER_OCTETS + gue::HEADER_OCTETS + gue::REMOTE_CHECKSUM_OCTETS;
const _: () = assert!(OCTETS_MAX <= HEADROOM_OCTETS, "the headroom holds the longest outer headers");

/// The outer headers of a destination's packets: what is the same for all of them, ready to be copied.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outer {
    /// The IP header; of IPv4 the first 20 octets. What depends on the packet is zero.
    ip: [u8; ipv6::HEADER_OCTETS],
    /// Sum of both addresses, which IPv4's header and UDP's pseudo header have in common.
    addresses: Sum,
    family: Family,
    tunnel: Tunnel,
    /// Octets of all headers, without options.
    octets: u8,
}

/// What the outer headers take from the packet inside, beside its octets.
#[derive(Clone, Copy, Debug)]
pub(super) struct Inner {
    family: Family,
    /// GUE's source port.
    source_port: u16,
    /// What is left to the receiver: the packet's transport checksum.
    remote: Option<RemoteChecksum>,
}

/// What an outer IPv4 header does not take from the packet inside.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cutting {
    /// The DF bit.
    pub dont_fragment: bool,
    /// The identification, used when DF is clear.
    pub identification: u16,
}

impl Outer {
    /// The headers from `source` to the real server `destination`, both of one family.
    pub(super) fn new(source: Address, destination: Address, tunnel: Tunnel) -> Self {
        let family = destination.family();
        let mut ip = [0; ipv6::HEADER_OCTETS];
        match family {
            Family::V4 => {
                ip[0] = 0x45;
                ip[12..16].copy_from_slice(&source.low_u32().to_be_bytes());
                ip[16..20].copy_from_slice(&destination.low_u32().to_be_bytes());
            }
            Family::V6 => {
                ip[8..24].copy_from_slice(&source.0.to_be_bytes());
                ip[24..40].copy_from_slice(&destination.0.to_be_bytes());
            }
        }
        let beyond_ip = match tunnel {
            Tunnel::Ipip => 0,
            Tunnel::Gue { .. } => udp::HEADER_OCTETS + gue::HEADER_OCTETS,
            Tunnel::Gre { checksum: false } => gre::HEADER_OCTETS,
            Tunnel::Gre { checksum: true } => gre::CHECKED_HEADER_OCTETS,
        };
        Self {
            ip,
            addresses: Sum::default().add_address(source).add_address(destination),
            family,
            tunnel,
            octets: (ip_octets(family) + beyond_ip) as u8,
        }
    }

    /// Family of the outer header.
    #[inline]
    pub(super) const fn family(&self) -> Family {
        self.family
    }

    /// Octets that go in front of this packet.
    #[inline]
    pub(super) fn octets(&self, inner: &Packet) -> usize {
        let option = if self.leaves_checksum(inner) { gue::REMOTE_CHECKSUM_OCTETS } else { 0 };
        usize::from(self.octets) + option
    }

    /// Octets that go in front of a packet whose checksum is whole.
    #[inline(always)]
    pub(super) const fn plain_octets(&self) -> u8 {
        self.octets
    }

    /// What the headers take from a packet.
    #[inline]
    pub(super) fn inner(&self, packet: &Packet) -> Inner {
        let mut inner = self.plain_inner(packet.family, packet.protocol, packet.source, packet.destination);
        inner.remote = self.leaves_checksum(packet).then(|| {
            let start = packet.transport - packet.network;
            RemoteChecksum { start, field: start + nat::checksum_offset(packet.protocol) as u16 }
        });
        inner
    }

    /// The same of a packet whose checksum is whole.
    #[inline(always)]
    pub(super) fn plain_inner(&self, family: Family, protocol: Protocol, source: Endpoint, to: Endpoint) -> Inner {
        let source_port = match self.tunnel {
            Tunnel::Gue { .. } => source_port(protocol, source, to),
            Tunnel::Ipip | Tunnel::Gre { .. } => 0,
        };
        Inner { family, source_port, remote: None }
    }

    /// True when the receiver is to compute the packet's transport checksum, which its sender left to hardware. SCTP's
    /// is none that it could.
    #[inline]
    pub(super) fn leaves_checksum(&self, inner: &Packet) -> bool {
        inner.partial_checksum
            && inner.protocol != Protocol::Sctp
            && matches!(self.tunnel, Tunnel::Gue { checksum: TunnelChecksum::Remote, .. })
    }

    /// The narrowest path that the kernel sends tunnel packets over, octets of inner packet.
    #[inline]
    pub(super) const fn inner_mtu_min(&self) -> u32 {
        match self.family {
            Family::V4 => 68,
            Family::V6 => 1280,
        }
    }

    /// Writes the headers. `frame` begins with room for an Ethernet header and for [`Outer::octets`]; then comes the
    /// packet `inner`, its TTL lowered, to the frame's end.
    #[inline]
    pub(super) fn emit(&self, frame: &mut [u8], inner: &Inner, cutting: Cutting) {
        let option = if inner.remote.is_some() { gue::REMOTE_CHECKSUM_OCTETS } else { 0 };
        let octets = usize::from(self.octets) + option;
        let outer = &mut frame[ETHERNET_OCTETS..];
        let (class, ttl) = class_and_ttl(&outer[octets..], inner.family);
        let protocol = match self.tunnel {
            Tunnel::Ipip => ip_in_ip(inner.family),
            Tunnel::Gue { .. } => udp::PROTOCOL,
            Tunnel::Gre { .. } => gre::PROTOCOL,
        };
        let (header, behind) = outer.split_at_mut(ip_octets(self.family));
        header.copy_from_slice(&self.ip[..header.len()]);
        match self.family {
            Family::V4 => self.finish_v4(header, behind.len(), class, ttl, protocol, cutting),
            Family::V6 => finish_v6(header, behind.len(), class, ttl, protocol),
        }
        match self.tunnel {
            Tunnel::Ipip => {}
            Tunnel::Gue { port, checksum } => self.emit_gue(behind, inner, port, checksum),
            Tunnel::Gre { checksum: false } => gre::emit(behind, ether_type(inner.family)),
            Tunnel::Gre { checksum: true } => gre::emit_checked(behind, ether_type(inner.family)),
        }
    }

    #[inline]
    fn finish_v4(&self, header: &mut [u8], behind: usize, class: u8, ttl: u8, protocol: u8, cutting: Cutting) {
        let Cutting { dont_fragment, identification } = cutting;
        let length = (header.len() + behind) as u16;
        let identification = if dont_fragment { 0 } else { identification };
        let flags = u16::from(dont_fragment) << 14;
        let sum = self.addresses.add_u16(0x4500 | u16::from(class)).add_u16(length);
        let sum = sum.add_u16(identification).add_u16(flags).add_u16(u16::from_be_bytes([ttl, protocol]));
        header[1] = class;
        header[2..4].copy_from_slice(&length.to_be_bytes());
        header[4..6].copy_from_slice(&identification.to_be_bytes());
        header[6..8].copy_from_slice(&flags.to_be_bytes());
        header[8] = ttl;
        header[9] = protocol;
        header[10..12].copy_from_slice(&sum.checksum().to_be_bytes());
    }

    #[inline]
    fn emit_gue(&self, datagram: &mut [u8], inner: &Inner, port: u16, checksum: TunnelChecksum) {
        gue::emit(&mut datagram[udp::HEADER_OCTETS..], ip_in_ip(inner.family), inner.remote);
        let length = datagram.len() as u16;
        let mut view = udp::Datagram::new_unchecked(&mut *datagram);
        view.set_source_port(inner.source_port);
        view.set_destination_port(port);
        view.set_length(length);
        view.set_checksum(0);
        // Also over IPv6 there may be none (RFC 6935).
        if checksum != TunnelChecksum::None {
            let sum = self.addresses.add_u16(udp::PROTOCOL.into()).add_u16(length).add_bytes(datagram).checksum();
            udp::Datagram::new_unchecked(datagram).set_checksum(crate::wire::checksum::not_zero(sum));
        }
    }
}

#[inline]
fn finish_v6(header: &mut [u8], behind: usize, class: u8, ttl: u8, protocol: u8) {
    header[0..4].copy_from_slice(&(6 << 28 | u32::from(class) << 20).to_be_bytes());
    header[4..6].copy_from_slice(&(behind as u16).to_be_bytes());
    header[6] = protocol;
    header[7] = ttl;
}

/// The protocol number of a packet of the family inside another.
const fn ip_in_ip(family: Family) -> u8 {
    match family {
        Family::V4 => IPIP,
        Family::V6 => IPV6_IN,
    }
}

/// The outer traffic class and TTL of a packet.
#[inline]
fn class_and_ttl(inner: &[u8], family: Family) -> (u8, u8) {
    let (class, ttl) = match family {
        Family::V4 => (inner[1], inner[8]),
        Family::V6 => (inner[0] << 4 | inner[1] >> 4, inner[7]),
    };
    (outer_class(class), ttl)
}

/// The outer DS field and ECN: copied, but congestion experienced becomes ECT(0) (RFC 6040 section 4.1, compatibility
/// with a receiver that does not merge it back).
const fn outer_class(inner: u8) -> u8 {
    if inner & 3 == 3 { inner & !3 | 2 } else { inner }
}

/// GUE's source port: the same for all packets of a flow, so that they take one way and one queue.
#[inline]
fn source_port(protocol: Protocol, source: Endpoint, destination: Endpoint) -> u16 {
    /// 2^64 divided by the golden ratio; its multiples are spread evenly.
    const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;
    let addresses = source.address.0 ^ destination.address.0.rotate_left(32);
    let ports = u64::from(source.port) << 16 | u64::from(destination.port);
    let ports = ports ^ (u64::from(protocol.number()) << 32);
    let hash = ((addresses >> 64) as u64).wrapping_mul(SPREAD) ^ addresses as u64;
    let hash = (hash.wrapping_mul(SPREAD) ^ ports).wrapping_mul(SPREAD) ^ (hash >> 32);
    let hash = hash.wrapping_mul(SPREAD) >> 32;
    SOURCE_PORT_FIRST + ((hash * u64::from(SOURCE_PORTS)) >> 32) as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forward::parse::{self, Parsed};
    use crate::wire::{checksum, hex};

    const GUE: Tunnel = Tunnel::Gue { port: 6080, checksum: TunnelChecksum::None };
    const GUE_CHECKED: Tunnel = Tunnel::Gue { port: 6080, checksum: TunnelChecksum::Full };
    const GUE_REMOTE: Tunnel = Tunnel::Gue { port: 6080, checksum: TunnelChecksum::Remote };

    /// From 10.1.0.2 to 10.9.0.1 with DF and congestion experienced, TTL lowered: UDP "hello" without a checksum.
    const PACKET_V4: &str = "452b0021123440003f1115060a0100020a010064 a02900350 00d0000 68656c6c6f";
    const PACKET_V6: &str = "6000000000140640fd000001000000000000000000000001fd000009000000000000000000000001
                             115d0050000003e800000000500272102e300000";

    /// The packet behind the outer headers of a tunnel; nothing of the Ethernet header.
    fn wrapped(packet: &str, source: &str, destination: &str, tunnel: Tunnel, dont_fragment: bool) -> Vec<u8> {
        let packet = hex(packet);
        let ether_type = if packet[0] >> 4 == 4 { [8, 0] } else { [0x86, 0xdd] };
        let frame = [&[2; 12], &ether_type[..], &packet].concat();
        let mut inner = Packet::empty();
        assert_eq!(parse::parse(&frame, &[2; 6], &mut inner), Parsed::Transport);
        let outer = Outer::new(source.parse().unwrap(), destination.parse().unwrap(), tunnel);
        let room = vec![0xee; ETHERNET_OCTETS + outer.octets(&inner)];
        let mut frame = [room, packet].concat();
        outer.emit(&mut frame, &outer.inner(&inner), Cutting { dont_fragment, identification: 0x2e39 });
        frame.split_off(ETHERNET_OCTETS)
    }

    fn wrapped_v4(tunnel: Tunnel) -> Vec<u8> {
        wrapped(PACKET_V4, "10.2.0.1", "10.2.0.2", tunnel, true)
    }

    #[test]
    fn congestion_experienced_is_not_copied() {
        assert_eq!(outer_class(0x2b), 0x2a);
        assert_eq!(outer_class(0xb9), 0xb9);
        assert_eq!(outer_class(0), 0);
    }

    /// As recorded from the kernel, with the addresses of the recording.
    #[test]
    fn headers_are_those_of_the_kernel() {
        let ipip = wrapped_v4(Tunnel::Ipip);
        assert_eq!(ipip[..20], hex("452a 0035 0000 4000 3f04 2795 0a020001 0a020002"));
        assert_eq!(ipip[20..], hex(PACKET_V4));
        let cut = wrapped(PACKET_V4, "10.2.0.1", "10.2.0.2", Tunnel::Ipip, false);
        assert_eq!(cut[..10], hex("452a 0035 2e39 0000 3f04"));
        assert_eq!(checksum::of(&cut[..20]), 0);

        let gre = wrapped_v4(Tunnel::Gre { checksum: false });
        assert_eq!((gre[9], &gre[20..24]), (0x2f, &hex("0000 0800")[..]));
        let gre = wrapped_v4(Tunnel::Gre { checksum: true });
        assert_eq!(gre[20..24], hex("8000 0800"));
        assert_eq!(checksum::of(&gre[20..]), 0);

        let gue = wrapped_v4(GUE);
        assert_eq!(gue[..10], hex("452a 0041 0000 4000 3f11"));
        assert_eq!(gue[22..32], hex("17c0 002d 0000 0004 0000"));
    }

    /// The recording has the flow's port 0x85e0, with which its checksum is 0x5833.
    #[test]
    fn the_checksum_of_gue_is_the_kernels() {
        for tunnel in [GUE_CHECKED, GUE_REMOTE] {
            let gue = wrapped_v4(tunnel);
            assert_eq!(gue[28..32], hex("0004 0000"), "the inner checksum is complete: no option");
            let pseudo = checksum::pseudo_header(Address::v4(0x0a020001), Address::v4(0x0a020002), 17, 0x2d);
            assert_eq!(pseudo.add_bytes(&gue[20..]).checksum(), 0);
        }
    }

    #[test]
    fn either_family_goes_in_either() {
        let gue = wrapped(PACKET_V6, "fd00:2::254", "fd00:2::1", GUE, true);
        assert_eq!(gue[..8], hex("60000000 0048 11 40"));
        assert_eq!(gue[42..52], hex("17c0 0048 0000 0029 0000"));
        let gre = wrapped(PACKET_V6, "10.2.0.254", "10.2.0.1", Tunnel::Gre { checksum: true }, false);
        assert_eq!((gre[9], &gre[20..24]), (47, &hex("8000 86dd")[..]));
        assert_eq!(checksum::of(&gre[20..]), 0);
        let ipip = wrapped(PACKET_V4, "fd00:2::254", "fd00:2::1", Tunnel::Ipip, true);
        assert_eq!(ipip[..8], hex("62a00000 0021 04 3f"));
    }

    /// Remote checksum offload: what the receiver finds at `field` makes the sum from `start` on that of the packet.
    #[test]
    fn a_partial_checksum_is_left_to_the_receiver() {
        // The SYN with nothing but the sum of its pseudo header where its checksum belongs.
        let complete = hex(PACKET_V6);
        let mut partial = complete.clone();
        let address = |at: usize| Address::v6(u128::from_be_bytes(complete[at..at + 16].try_into().unwrap()));
        let pseudo = checksum::pseudo_header(address(8), address(24), 6, 20);
        partial[56..58].copy_from_slice(&pseudo.folded().to_be_bytes());
        let text: String = partial.iter().map(|octet| format!("{octet:02x}")).collect();

        let gue = wrapped(&text, "fd00:2::254", "fd00:2::1", GUE_REMOTE, true);
        assert_eq!(gue[48..60], hex("0229 0001 80000000 0028 0038"));
        let (protocol, octets) = gue::carried(&gue[48..]).unwrap();
        assert_eq!((protocol, octets), (41, 12));
        let mut inner = gue[60..].to_vec();
        let (start, field) = (0x28, 0x38);
        let sum = checksum::of(&inner[start..]);
        inner[field..field + 2].copy_from_slice(&sum.to_be_bytes());
        assert_eq!(inner, complete);
        let pseudo = checksum::pseudo_header("fd00:2::254".parse().unwrap(), "fd00:2::1".parse().unwrap(), 17, 80);
        assert_eq!(pseudo.add_bytes(&gue[40..]).checksum(), 0, "the outer checksum covers what is sent");
        assert_eq!(wrapped(&text, "fd00:2::254", "fd00:2::1", GUE_CHECKED, true)[48..52], hex("0029 0000"));
    }

    #[test]
    fn source_ports_are_spread_over_their_range_and_stay_with_the_flow() {
        let mut seen = std::collections::BTreeSet::new();
        for port in 0..4000 {
            let source = Endpoint::new("10.1.0.2".parse().unwrap(), port);
            let destination = Endpoint::new("10.9.0.1".parse().unwrap(), 80);
            let chosen = source_port(Protocol::Udp, source, destination);
            assert_eq!(chosen, source_port(Protocol::Udp, source, destination));
            assert!((32768..=60999).contains(&chosen));
            seen.insert(chosen);
        }
        // As many as chance would have left distinct, or more.
        assert!(seen.len() > 3600, "{} ports of 4000 flows", seen.len());
    }
}
