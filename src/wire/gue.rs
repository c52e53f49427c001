//! Generic UDP encapsulation, version 0: draft-ietf-intarea-gue-09 section 3 in the dialect of Linux
//! (`include/net/gue.h`), whose private flags take 32 bits.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +---+-+---------+---------------+-----------------------------+-+
//! | 0 |C|  Hlen   |    Protocol   |            Flags            |P|
//! +---+-+---------+---------------+-----------------------------+-+
//! |R|           private flags, when P is set                      |
//! +-+-----------------------------+-------------------------------+
//! |  checksum start, when R is set|        checksum offset        |
//! +-------------------------------+-------------------------------+
//! ```
//! Hlen counts the words after the first. It stands behind a UDP header.

use crate::wire::{Error, set_u16, set_u32};

/// Octets of the header without options.
pub const HEADER_OCTETS: usize = 4;
/// Octets of the options that leave the inner checksum to the receiver: private flags, start and offset.
pub const REMOTE_CHECKSUM_OCTETS: usize = 8;

/// Flag: private flags follow.
const FLAG_PRIVATE: u16 = 0x0001;
/// Private flag: remote checksum offload.
const PRIVATE_REMOTE_CHECKSUM: u32 = 0x8000_0000;

mod field {
    use std::ops::Range;

    pub const VERSION_CONTROL_LENGTH: usize = 0;
    pub const PROTOCOL: usize = 1;
    pub const FLAGS: Range<usize> = 2..4;
    pub const PRIVATE_FLAGS: Range<usize> = 4..8;
    pub const CHECKSUM_START: Range<usize> = 8..10;
    pub const CHECKSUM_OFFSET: Range<usize> = 10..12;
}

/// A checksum that is left to the receiver, by offsets from the end of this header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RemoteChecksum {
    /// The first octet that is summed.
    pub start: u16,
    /// The checksum field, which holds the sum of what is not summed there.
    pub field: u16,
}

/// Writes the header of a data packet of IP protocol `protocol`. The buffer has room for it and for the options when
/// `remote` asks for them.
///
/// # Panics
/// When the buffer is too short.
#[inline]
pub fn emit(buffer: &mut [u8], protocol: u8, remote: Option<RemoteChecksum>) {
    let words = if remote.is_some() { REMOTE_CHECKSUM_OCTETS / 4 } else { 0 };
    buffer[field::VERSION_CONTROL_LENGTH] = words as u8;
    buffer[field::PROTOCOL] = protocol;
    set_u16(buffer, field::FLAGS, if remote.is_some() { FLAG_PRIVATE } else { 0 });
    if let Some(remote) = remote {
        set_u32(buffer, field::PRIVATE_FLAGS, PRIVATE_REMOTE_CHECKSUM);
        set_u16(buffer, field::CHECKSUM_START, remote.start);
        set_u16(buffer, field::CHECKSUM_OFFSET, remote.field);
    }
}

/// What a data packet carries: its IP protocol, and the octets before it.
///
/// # Errors
/// [`Error::Truncated`] when the octets end before the header does; [`Error::Unsupported`] for other versions and for
/// control packets.
pub fn carried(bytes: &[u8]) -> Result<(u8, usize), Error> {
    const VERSION: u8 = 0xc0;
    const CONTROL: u8 = 0x20;
    const WORDS: u8 = 0x1f;
    let header = bytes.first_chunk::<HEADER_OCTETS>().ok_or(Error::Truncated)?;
    let first = header[field::VERSION_CONTROL_LENGTH];
    if first & (VERSION | CONTROL) != 0 {
        return Err(Error::Unsupported);
    }
    let octets = HEADER_OCTETS + usize::from(first & WORDS) * 4;
    if bytes.len() < octets { Err(Error::Truncated) } else { Ok((header[field::PROTOCOL], octets)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::hex;

    #[test]
    fn headers_are_those_of_the_kernel() {
        let mut buffer = [0xee; HEADER_OCTETS];
        emit(&mut buffer, 4, None);
        assert_eq!(buffer[..], hex("0004 0000"));
        assert_eq!(carried(&buffer), Ok((4, 4)));
        emit(&mut buffer, 41, None);
        assert_eq!(buffer[..], hex("0029 0000"));
    }

    /// A TCP segment behind an IPv4 header of 20 octets.
    #[test]
    fn a_checksum_is_left_to_the_receiver_by_start_and_offset() {
        let mut buffer = [0xee; HEADER_OCTETS + REMOTE_CHECKSUM_OCTETS];
        emit(&mut buffer, 4, Some(RemoteChecksum { start: 20, field: 36 }));
        assert_eq!(buffer[..], hex("0204 0001 80000000 0014 0024"));
        assert_eq!(carried(&buffer), Ok((4, 12)));
    }

    #[test]
    fn what_carries_no_packet_is_refused() {
        assert_eq!(carried(&hex("0204 0001 80000000 0014")), Err(Error::Truncated));
        assert_eq!(carried(&hex("0004 00")), Err(Error::Truncated));
        assert_eq!(carried(&hex("2004 0000")), Err(Error::Unsupported));
        // Version 1 is an IP packet without a header.
        assert_eq!(carried(&hex("4500 0014")), Err(Error::Unsupported));
    }
}
