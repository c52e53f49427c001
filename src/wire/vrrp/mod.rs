//! VRRP advertisements: version 2 (RFC 3768) and version 3 (RFC 9568), with what keepalived kept of RFC 2338.
//!
//! ```text
//! version 2
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-------+-------+---------------+---------------+---------------+
//! |Version| Type  | Virtual Rtr ID|   Priority    | Count IP Addrs|
//! +-------+-------+---------------+---------------+---------------+
//! |   Auth Type   | Adver Int (s) |           Checksum            |
//! +---------------+---------------+-------------------------------+
//! |                    IP Addresses (4 each)                      |
//! +---------------------------------------------------------------+
//! |              Authentication Data (8), always there            |
//! +---------------------------------------------------------------+
//!
//! version 3
//! +-------+-------+---------------+---------------+---------------+
//! |Version| Type  | Virtual Rtr ID|   Priority    |IPvX Addr Count|
//! +-------+-------+---------------+---------------+---------------+
//! |(rsvd) | Max Advertise Int (cs)|           Checksum            |
//! +-------+-----------------------+-------------------------------+
//! |                 IPvX Addresses (4 or 16 each)                 |
//! +---------------------------------------------------------------+
//! ```
//!
//! - The checksum of version 2 covers the message with its authentication data; that of version 3 a pseudo header and
//!   the message (RFC 9568 section 5.2.8), for both families.
//! - keepalived up to 1.3.6 had the group's address in the pseudo header of unicast packets of IPv4: what is summed up
//!   is therefore an argument.
//! - A packet is a message behind an IP header with time to live 255; behind an authentication header too, where the
//!   authentication of RFC 2338 section 5.3.6.3 is used.

mod authentication;
mod message;
mod packet;

#[cfg(test)]
mod tests;

pub use authentication::{AUTHENTICATION_OCTETS, Key};
pub use message::{Advert, Authentication, Message};
pub use packet::{Envelope, Opened, PACKET_OCTETS_MAX, Received, emit, open};

use crate::base::{Address, Family, MacAddress};
use crate::wire::neighbour;

/// IP protocol number.
pub const PROTOCOL: u8 = 112;
/// IP protocol number of the authentication header before a message.
pub const PROTOCOL_AUTHENTICATION: u8 = 51;
/// Time to live and hop limit of every advertisement, RFC 9568 sections 5.1.1.3 and 5.1.2.3.
pub const HOP_LIMIT: u8 = 255;
/// Type of service of an advertisement: internetwork control, as keepalived has it.
pub const TRAFFIC_CLASS: u8 = 0xc0;
/// Octets before the addresses.
pub const HEADER_OCTETS: usize = 8;
/// The only type.
pub const TYPE_ADVERTISEMENT: u8 = 1;
/// Says that the sender resigns.
pub const PRIORITY_RESIGN: u8 = 0;
/// The priority of the owner of the addresses.
pub const PRIORITY_OWNER: u8 = 255;
/// Addresses of one message: the count is an octet.
pub const ADDRESSES_MAX: usize = 255;
/// The group of IPv4, 224.0.0.18.
pub const GROUP_V4: Address = Address::v4(0xe000_0012);
/// The group of IPv6, ff02::12.
pub const GROUP_V6: Address = Address::v6(0xff02 << 112 | 0x12);

/// The format of an advertisement.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Version {
    /// RFC 3768: IPv4, intervals of whole seconds.
    V2 = 2,
    /// RFC 9568: both families, intervals of centiseconds.
    V3 = 3,
}

/// The group of a family.
pub const fn group(family: Family) -> Address {
    match family {
        Family::V4 => GROUP_V4,
        Family::V6 => GROUP_V6,
    }
}

/// The virtual router's Ethernet address, RFC 9568 section 7.3: 00-00-5E-00-01-VRID and 00-00-5E-00-02-VRID.
pub const fn virtual_mac(family: Family, vrid: u8) -> MacAddress {
    match family {
        Family::V4 => MacAddress([0, 0, 0x5e, 0, 1, vrid]),
        Family::V6 => MacAddress([0, 0, 0x5e, 0, 2, vrid]),
    }
}

/// The Ethernet address of a multicast group, RFC 1112 section 6.4 and RFC 2464 section 7.
pub fn multicast_mac(group: Address) -> MacAddress {
    match group.family() {
        Family::V6 => neighbour::multicast_mac(group),
        Family::V4 => {
            let [_, b, c, d] = group.low_u32().to_be_bytes();
            MacAddress([0x01, 0x00, 0x5e, b & 0x7f, c, d])
        }
    }
}

const fn address_octets(family: Family) -> usize {
    match family {
        Family::V4 => 4,
        Family::V6 => 16,
    }
}
