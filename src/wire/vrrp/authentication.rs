//! The authentication header before a message of version 2: RFC 2402 with HMAC-MD5-96 (RFC 2403), IPv4 only.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +---------------+---------------+-------------------------------+
//! |Next Hdr (112) |  Length (4)   |           Reserved            |
//! +---------------+---------------+-------------------------------+
//! |         Security Parameters Index: the sender's address       |
//! +---------------------------------------------------------------+
//! |                    Sequence Number Field                      |
//! +---------------------------------------------------------------+
//! |            Integrity Check Value, 96 bits of the HMAC         |
//! +---------------------------------------------------------------+
//! ```
//!
//! The value covers the whole packet with itself, type of service, fragment field and header checksum as zero.
//!
//! **Deviation** from RFC 2402 section 3.3.3.1.1.1, with keepalived: the time to live is covered as it stands, 255. It
//! can be no other where the packet is taken.

use hmac::{Hmac, KeyInit, Mac};
use md5::Md5;

use crate::wire::vrrp::PROTOCOL;
use crate::wire::{Error, array, get_u32, ipv4, set_u32};

/// Octets of a password and of the authentication data of version 2.
pub const AUTHENTICATION_OCTETS: usize = 8;

/// Octets of the header.
pub(super) const AH_OCTETS: usize = 24;
/// Its length field: 32-bit words less two.
const AH_WORDS: u8 = 4;

/// A secret shared by the routers: [`AUTHENTICATION_OCTETS`], shorter ones with zeros behind.
pub type Key = [u8; AUTHENTICATION_OCTETS];

mod field {
    use std::ops::Range;

    pub const NEXT: usize = 0;
    pub const LENGTH: usize = 1;
    pub const RESERVED: Range<usize> = 2..4;
    pub const INDEX: Range<usize> = 4..8;
    pub const SEQUENCE: Range<usize> = 8..12;
    pub const VALUE: Range<usize> = 12..24;
}

/// Where the fields of the IPv4 header are that do not count.
mod mutable {
    pub const TOS: std::ops::Range<usize> = 1..2;
    pub const FRAGMENT: std::ops::Range<usize> = 6..8;
    pub const CHECKSUM: std::ops::Range<usize> = 10..12;
}

const VALUE_OCTETS: usize = 12;

/// The value of a whole packet whose IP header has `header` octets.
fn value(key: &Key, packet: &[u8], header: usize) -> [u8; VALUE_OCTETS] {
    let mut mac = Hmac::<Md5>::new_from_slice(key).expect("HMAC takes a key of any length");
    let mut at = 0;
    let value = header + field::VALUE.start..header + field::VALUE.end;
    for zeroed in [mutable::TOS, mutable::FRAGMENT, mutable::CHECKSUM, value] {
        mac.update(&packet[at..zeroed.start]);
        mac.update(&[0; VALUE_OCTETS][..zeroed.len()]);
        at = zeroed.end;
    }
    mac.update(&packet[at..]);
    array(&mac.finalize().into_bytes(), 0..VALUE_OCTETS)
}

/// Writes the header behind the IP header of a packet that is otherwise whole. `source` is the sender's IPv4 address.
///
/// # Panics
/// When the packet is shorter than both headers.
pub(super) fn emit(packet: &mut [u8], key: &Key, source: u32, sequence: u32) {
    let header = &mut packet[ipv4::HEADER_OCTETS..ipv4::HEADER_OCTETS + AH_OCTETS];
    header[field::NEXT] = PROTOCOL;
    header[field::LENGTH] = AH_WORDS;
    header[field::RESERVED].fill(0);
    set_u32(header, field::INDEX, source);
    set_u32(header, field::SEQUENCE, sequence);
    let value = value(key, packet, ipv4::HEADER_OCTETS);
    packet[ipv4::HEADER_OCTETS..][field::VALUE].copy_from_slice(&value);
}

/// The sequence number of a packet's header.
///
/// # Errors
/// [`Error::Truncated`] when the header is not whole, [`Error::Malformed`] when it is not one before a VRRP message.
pub(super) fn sequence(packet: &[u8], header: usize) -> Result<u32, Error> {
    let octets = packet.get(header..header + AH_OCTETS).ok_or(Error::Truncated)?;
    if octets[field::NEXT] != PROTOCOL || octets[field::LENGTH] != AH_WORDS {
        return Err(Error::Malformed);
    }
    Ok(get_u32(octets, field::SEQUENCE))
}

/// Whether the value of a packet that [`sequence`] has passed is that of the key.
pub(super) fn is_authentic(packet: &[u8], header: usize, key: &Key) -> bool {
    let theirs = &packet[header..][field::VALUE];
    let ours = value(key, packet, header);
    // Without a branch by octet: how far a forged value is right is not to be timed.
    theirs.iter().zip(ours).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
}
