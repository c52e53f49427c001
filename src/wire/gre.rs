//! Generic routing encapsulation, RFC 2784 (and nothing of RFC 2890: neither key nor sequence number).
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-+-----------------------+-----+-------------------------------+
//! |C|         zero          |  0  |            EtherType          |
//! +-+-----------------------+-----+-------------------------------+
//! |    checksum, when C is set    |             zero              |
//! +-------------------------------+-------------------------------+
//! ```

use crate::wire::{Error, checksum, get_u16, set_u16};

/// Octets of the header without a checksum.
pub const HEADER_OCTETS: usize = 4;
/// Octets of the header with a checksum.
pub const CHECKED_HEADER_OCTETS: usize = 8;
/// The protocol number.
pub const PROTOCOL: u8 = 47;

/// Flag: a checksum follows.
const FLAG_CHECKSUM: u16 = 0x8000;

mod field {
    use std::ops::Range;

    pub const FLAGS_VERSION: Range<usize> = 0..2;
    pub const ETHER_TYPE: Range<usize> = 2..4;
    pub const CHECKSUM: Range<usize> = 4..6;
    pub const RESERVED: Range<usize> = 6..8;
}

/// Writes a header without a checksum.
///
/// # Panics
/// When the buffer is too short.
#[inline]
pub fn emit(buffer: &mut [u8], ether_type: u16) {
    set_u16(buffer, field::FLAGS_VERSION, 0);
    set_u16(buffer, field::ETHER_TYPE, ether_type);
}

/// Writes a header whose checksum covers it and all octets behind it, to the end of `packet`.
///
/// # Panics
/// When the packet is shorter than the header.
#[inline]
pub fn emit_checked(packet: &mut [u8], ether_type: u16) {
    set_u16(packet, field::FLAGS_VERSION, FLAG_CHECKSUM);
    set_u16(packet, field::ETHER_TYPE, ether_type);
    set_u16(packet, field::CHECKSUM, 0);
    set_u16(packet, field::RESERVED, 0);
    let sum = checksum::of(packet);
    set_u16(packet, field::CHECKSUM, sum);
}

/// What a packet carries: its EtherType, and the octets before it.
///
/// # Errors
/// [`Error::Truncated`] when the octets end before the header does; [`Error::Unsupported`] with any flag but the
/// checksum's, and for other versions.
pub fn carried(bytes: &[u8]) -> Result<(u16, usize), Error> {
    let header = bytes.first_chunk::<HEADER_OCTETS>().ok_or(Error::Truncated)?;
    let octets = match get_u16(header, field::FLAGS_VERSION) {
        0 => HEADER_OCTETS,
        FLAG_CHECKSUM => CHECKED_HEADER_OCTETS,
        _ => return Err(Error::Unsupported),
    };
    if bytes.len() < octets { Err(Error::Truncated) } else { Ok((get_u16(header, field::ETHER_TYPE), octets)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::hex;

    /// As recorded from the kernel.
    #[test]
    fn headers_are_those_of_the_kernel() {
        let mut buffer = [0xee; HEADER_OCTETS];
        emit(&mut buffer, 0x86dd);
        assert_eq!(buffer[..], hex("0000 86dd"));
        let inner =
            "4500003c123440003f06157d0a0100010a09000104010050000003e800000000a002721097640000020405b40402080a0011
                     2233000000000103030a";
        let mut packet = [vec![0xee; CHECKED_HEADER_OCTETS], hex(inner)].concat();
        emit_checked(&mut packet, 0x0800);
        assert_eq!(packet[..CHECKED_HEADER_OCTETS], hex("8000 0800 8c39 0000"));
        assert_eq!(carried(&packet), Ok((0x0800, 8)));
        assert_eq!(carried(&buffer), Ok((0x86dd, 4)));
    }

    #[test]
    fn what_we_never_send_is_refused() {
        assert_eq!(carried(&hex("8000 0800 93bd")), Err(Error::Truncated));
        assert_eq!(carried(&hex("0000 08")), Err(Error::Truncated));
        for keyed_or_later in ["2000 0800 00000001", "1000 0800 00000001", "0001 880b 00000000"] {
            assert_eq!(carried(&hex(keyed_or_later)), Err(Error::Unsupported));
        }
    }
}
