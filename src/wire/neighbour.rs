//! Unsolicited neighbour advertisements, RFC 4861 sections 4.4 and 7.2.6: they tell neighbours where an address now is.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +---------------+---------------+-------------------------------+
//! |   Type (136)  |   Code (0)    |           Checksum            |
//! +-+-+-+---------+---------------+-------------------------------+
//! |R|S|O|                      Reserved                           |
//! +-+-+-+---------------------------------------------------------+
//! |                        Target Address (16)                    |
//! +---------------+---------------+-------------------------------+
//! | Option (2)    | Length (1)    |  Target link-layer address (6)|
//! +---------------+---------------+-------------------------------+
//! ```
//!
//! An unsolicited one is sent to all nodes with S clear and O set; R tells whether the sender forwards.

use crate::base::{Address, MacAddress};
use crate::wire::{array, ethernet, icmpv6, ipv6};

/// Type: neighbour advertisement.
pub const TYPE_ADVERTISEMENT: u8 = 136;
/// All nodes of the link, ff02::1.
pub const ALL_NODES: Address = Address::v6(0xff02 << 112 | 1);
/// Octets of the message with its option.
pub const OCTETS: usize = 32;
/// Octets of the whole frame.
pub const ADVERTISEMENT_OCTETS: usize = ethernet::HEADER_OCTETS + ipv6::HEADER_OCTETS + OCTETS;

const HOP_LIMIT: u8 = 255;
const FLAG_ROUTER: u8 = 0x80;
const FLAG_OVERRIDE: u8 = 0x20;
const OPTION_TARGET_LINK_ADDRESS: u8 = 2;

mod field {
    use std::ops::Range;

    pub const TYPE: usize = 0;
    pub const FLAGS: usize = 4;
    pub const TARGET: Range<usize> = 8..24;
    pub const OPTION: Range<usize> = 24..26;
    pub const LINK_ADDRESS: Range<usize> = 26..32;
}

/// The Ethernet address of a multicast group of IPv6, RFC 2464 section 7.
pub fn multicast_mac(group: Address) -> MacAddress {
    let [a, b, c, d] = group.low_u32().to_be_bytes();
    MacAddress([0x33, 0x33, a, b, c, d])
}

/// The group in which the owner of an address is asked for it, RFC 4291 section 2.7.1: ff02::1:ffXX:XXXX.
pub fn solicited_node(address: Address) -> Address {
    Address::v6(0xff02 << 112 | 1 << 32 | 0xff00_0000 | u128::from(address.low_u32() & 0x00ff_ffff))
}

/// Writes the whole frame that tells all nodes that `address`, of IPv6, is at `mac`. Its source is the address itself.
/// `is_router` says that the sender forwards packets.
///
/// # Panics
/// When `buffer` is shorter than [`ADVERTISEMENT_OCTETS`].
pub fn emit_advertisement(buffer: &mut [u8], address: Address, mac: MacAddress, is_router: bool) {
    debug_assert!(!address.is_v4());
    ethernet::emit(buffer, multicast_mac(ALL_NODES), mac, ethernet::TYPE_IPV6);
    let packet = &mut buffer[ethernet::HEADER_OCTETS..ADVERTISEMENT_OCTETS];
    let header = ipv6::Header {
        traffic_class: 0,
        payload_length: OCTETS as u16,
        next_header: icmpv6::PROTOCOL,
        hop_limit: HOP_LIMIT,
        source: address,
        destination: ALL_NODES,
    };
    header.emit(packet);
    let message = &mut packet[ipv6::HEADER_OCTETS..];
    message.fill(0);
    message[field::TYPE] = TYPE_ADVERTISEMENT;
    message[field::FLAGS] = FLAG_OVERRIDE | if is_router { FLAG_ROUTER } else { 0 };
    message[field::TARGET].copy_from_slice(&address.0.to_be_bytes());
    message[field::OPTION].copy_from_slice(&[OPTION_TARGET_LINK_ADDRESS, 1]);
    message[field::LINK_ADDRESS].copy_from_slice(&mac.0);
    icmpv6::Message::new_unchecked(message).fill_checksum(address, ALL_NODES);
}

/// The target of an advertisement (the ICMPv6 message); `None` of anything else.
pub fn advertised(message: &[u8]) -> Option<Address> {
    let is_one = message.len() >= field::TARGET.end && message[field::TYPE] == TYPE_ADVERTISEMENT;
    is_one.then(|| Address::v6(u128::from_be_bytes(array(message, field::TARGET))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::hex;

    /// Frames of keepalived 2.2.7, one with the interface's address and one with a virtual one.
    #[test]
    fn advertisements_of_keepalived() {
        let real = "33330000000102000000000a86dd6000000000203afffe800000000000000000000000770010\
             ff0200000000000000000000000000018800568620000000fe800000000000000000000000770010020102000000000a";
        let virtual_one = "33330000000100005e00023386dd6000000000203afffd770000000000000000000000000010\
             ff0200000000000000000000000000018800fb5c20000000fd770000000000000000000000000010020100005e000233";
        for (theirs, address, mac) in [
            (real, "fe80::77:10", MacAddress([2, 0, 0, 0, 0, 0x0a])),
            (virtual_one, "fd77::10", MacAddress([0, 0, 0x5e, 0, 2, 0x33])),
        ] {
            let mut frame = [0xee; ADVERTISEMENT_OCTETS];
            let address = address.parse().unwrap();
            emit_advertisement(&mut frame, address, mac, false);
            assert_eq!(frame.to_vec(), hex(theirs));
            let message = &frame[ethernet::HEADER_OCTETS + ipv6::HEADER_OCTETS..];
            assert_eq!(advertised(message), Some(address));
            assert_eq!(advertised(&message[..23]), None);
        }
    }

    #[test]
    fn a_router_says_so() {
        let mut frame = [0; ADVERTISEMENT_OCTETS];
        let address = "fd77::10".parse().unwrap();
        emit_advertisement(&mut frame, address, MacAddress::default(), true);
        let message = &frame[ethernet::HEADER_OCTETS + ipv6::HEADER_OCTETS..];
        assert_eq!(message[field::FLAGS], 0xa0);
        assert!(icmpv6::Message::new_unchecked(message).has_valid_checksum(address, ALL_NODES));
    }

    #[test]
    fn groups_of_addresses() {
        let address: Address = "fd77::1234:5678".parse().unwrap();
        assert_eq!(solicited_node(address).to_string(), "ff02::1:ff34:5678");
        assert_eq!(multicast_mac(solicited_node(address)).to_string(), "33:33:ff:34:56:78");
    }
}
