//! SCTP, RFC 9260 section 3: the common header and what of the chunks a balancer looks at.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-------------------------------+-------------------------------+
//! |          Source Port          |       Destination Port        |
//! +-------------------------------+-------------------------------+
//! |                       Verification Tag                        |
//! +---------------------------------------------------------------+
//! |                      Checksum (CRC32c)                        |
//! +---------------+---------------+-------------------------------+
//! |  Chunk Type   |  Chunk Flags  |         Chunk Length          |
//! +---------------+---------------+-------------------------------+
//! ```

/// Octets of the common header.
pub const HEADER_OCTETS: usize = 12;
/// The protocol number.
pub const PROTOCOL: u8 = 132;
/// Offset of the checksum in the header, four octets.
pub const CHECKSUM_OFFSET: usize = 8;

const CHUNK_HEADER_OCTETS: usize = 4;

/// Chunk types, RFC 9260 section 3.2.
pub mod chunk {
    /// Payload.
    pub const DATA: u8 = 0;
    /// Opens.
    pub const INIT: u8 = 1;
    /// Answers an INIT with a cookie.
    pub const INIT_ACK: u8 = 2;
    /// A probe.
    pub const HEARTBEAT: u8 = 4;
    /// Ends at once.
    pub const ABORT: u8 = 6;
    /// Begins to end.
    pub const SHUTDOWN: u8 = 7;
    /// Answers a SHUTDOWN.
    pub const SHUTDOWN_ACK: u8 = 8;
    /// Reports an error.
    pub const ERROR: u8 = 9;
    /// Gives a cookie back.
    pub const COOKIE_ECHO: u8 = 10;
    /// Confirms a cookie.
    pub const COOKIE_ACK: u8 = 11;
    /// Ends.
    pub const SHUTDOWN_COMPLETE: u8 = 14;
}

/// Type of the first chunk of an SCTP packet, and of the second where there is one; `None` when the packet has no
/// whole chunk header.
pub fn chunk_types(packet: &[u8]) -> Option<(u8, Option<u8>)> {
    let chunks = packet.get(HEADER_OCTETS..)?;
    let &[first, _, high, low] = chunks.first_chunk::<CHUNK_HEADER_OCTETS>()?;
    // Chunks are padded to four octets (section 3.2).
    let octets = usize::from(u16::from_be_bytes([high, low])).next_multiple_of(4);
    // A chunk length below its header's gives no position of the next.
    let second = if octets < CHUNK_HEADER_OCTETS { None } else { chunks.get(octets..) };
    let second = second.and_then(|chunk| chunk.first_chunk::<CHUNK_HEADER_OCTETS>()).map(|chunk| chunk[0]);
    Some((first, second))
}

/// The checksum of an SCTP packet whose checksum field counts as zero (RFC 9260 section 6.8), as it stands in the
/// field. `packet` holds the common header at least.
pub fn checksum(packet: &[u8]) -> [u8; 4] {
    let sum = crc32c::crc32c(&packet[..CHECKSUM_OFFSET]);
    let sum = crc32c::crc32c_append(sum, &[0; 4]);
    // Least significant octet first (RFC 9260 appendix A).
    crc32c::crc32c_append(sum, &packet[CHECKSUM_OFFSET + 4..]).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::hex;

    #[test]
    fn chunks_are_found_behind_padding_and_cut_ones_are_not() {
        let header = hex("03e8006300000001aabbccdd");
        let with = |chunks: &str| chunk_types(&[header.clone(), hex(chunks)].concat());
        assert_eq!(with(""), None);
        assert_eq!(with("0a0000"), None);
        assert_eq!(with("0a000004"), Some((chunk::COOKIE_ECHO, None)));
        assert_eq!(with("0a00000600000000060000"), Some((chunk::COOKIE_ECHO, None)));
        assert_eq!(with("0a0000060000000006000004"), Some((chunk::COOKIE_ECHO, Some(chunk::ABORT))));
        assert_eq!(with("0a00ffff"), Some((chunk::COOKIE_ECHO, None)));
        assert_eq!(with("0a000000"), Some((chunk::COOKIE_ECHO, None)));
    }
}
