//! TCP, RFC 9293 section 3.1.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-------------------------------+-------------------------------+
//! |          Source Port          |       Destination Port        |
//! +-------------------------------+-------------------------------+
//! |                        Sequence Number                        |
//! +---------------------------------------------------------------+
//! |                    Acknowledgment Number                      |
//! +-------+-------+-+-+-+-+-+-+-+-+-------------------------------+
//! |Offset | Rsrvd |C|E|U|A|P|R|S|F|            Window             |
//! +-------+-------+-+-+-+-+-+-+-+-+-------------------------------+
//! |           Checksum            |         Urgent Pointer        |
//! +-------------------------------+-------------------------------+
//! |                           [Options]                           |
//! +---------------------------------------------------------------+
//! ```

use crate::wire::{Error, get_u16, get_u32, set_u16, set_u32};

/// Octets of a header without options.
pub const HEADER_OCTETS: usize = 20;
/// The protocol number.
pub const PROTOCOL: u8 = 6;
/// Offset of the checksum in the header.
pub const CHECKSUM_OFFSET: usize = field::CHECKSUM.start;

/// Flag: the sender will send no more.
pub const FLAG_FIN: u8 = 0x01;
/// Flag: synchronize sequence numbers.
pub const FLAG_SYN: u8 = 0x02;
/// Flag: reset the connection.
pub const FLAG_RST: u8 = 0x04;
/// Flag: push.
pub const FLAG_PSH: u8 = 0x08;
/// Flag: the acknowledgment number counts.
pub const FLAG_ACK: u8 = 0x10;
/// Flag: the urgent pointer counts.
pub const FLAG_URG: u8 = 0x20;

mod field {
    use std::ops::Range;

    pub const SOURCE_PORT: Range<usize> = 0..2;
    pub const DESTINATION_PORT: Range<usize> = 2..4;
    pub const SEQUENCE: Range<usize> = 4..8;
    pub const ACKNOWLEDGMENT: Range<usize> = 8..12;
    pub const DATA_OFFSET: usize = 12;
    pub const FLAGS: usize = 13;
    pub const WINDOW: Range<usize> = 14..16;
    pub const CHECKSUM: Range<usize> = 16..18;
}

/// A segment from its header on.
#[derive(Clone, Copy, Debug)]
pub struct Segment<T>(T);

impl<T: AsRef<[u8]>> Segment<T> {
    /// The view of a segment whose header with options is all there.
    ///
    /// # Errors
    /// [`Error::Truncated`] when the header ends early, [`Error::Malformed`] when the data offset lies within it.
    #[inline]
    pub fn new_checked(bytes: T) -> Result<Self, Error> {
        let length = bytes.as_ref().len();
        if length < HEADER_OCTETS {
            return Err(Error::Truncated);
        }
        let segment = Segment(bytes);
        let header = segment.header_length();
        if header < HEADER_OCTETS {
            return Err(Error::Malformed);
        }
        if header > length { Err(Error::Truncated) } else { Ok(segment) }
    }

    /// The view without any check.
    #[inline]
    pub const fn new_unchecked(bytes: T) -> Self {
        Segment(bytes)
    }

    /// Source port.
    #[inline]
    pub fn source_port(&self) -> u16 {
        get_u16(self.0.as_ref(), field::SOURCE_PORT)
    }

    /// Destination port.
    #[inline]
    pub fn destination_port(&self) -> u16 {
        get_u16(self.0.as_ref(), field::DESTINATION_PORT)
    }

    /// Sequence number.
    #[inline]
    pub fn sequence(&self) -> u32 {
        get_u32(self.0.as_ref(), field::SEQUENCE)
    }

    /// Acknowledgment number.
    #[inline]
    pub fn acknowledgment(&self) -> u32 {
        get_u32(self.0.as_ref(), field::ACKNOWLEDGMENT)
    }

    /// Octets of the header with options.
    #[inline]
    pub fn header_length(&self) -> usize {
        usize::from(self.0.as_ref()[field::DATA_OFFSET] >> 4) * 4
    }

    /// All flags, see `FLAG_*`.
    #[inline]
    pub fn flags(&self) -> u8 {
        self.0.as_ref()[field::FLAGS]
    }

    /// Window, not scaled.
    #[inline]
    pub fn window(&self) -> u16 {
        get_u16(self.0.as_ref(), field::WINDOW)
    }

    /// The checksum as it stands.
    #[inline]
    pub fn checksum(&self) -> u16 {
        get_u16(self.0.as_ref(), field::CHECKSUM)
    }

    /// What follows the header.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        &self.0.as_ref()[self.header_length()..]
    }
}

impl<T: AsRef<[u8]> + AsMut<[u8]>> Segment<T> {
    /// Sets the source port.
    #[inline]
    pub fn set_source_port(&mut self, port: u16) {
        set_u16(self.0.as_mut(), field::SOURCE_PORT, port);
    }

    /// Sets the destination port.
    #[inline]
    pub fn set_destination_port(&mut self, port: u16) {
        set_u16(self.0.as_mut(), field::DESTINATION_PORT, port);
    }

    /// Sets the sequence number.
    #[inline]
    pub fn set_sequence(&mut self, number: u32) {
        set_u32(self.0.as_mut(), field::SEQUENCE, number);
    }

    /// Sets the acknowledgment number.
    #[inline]
    pub fn set_acknowledgment(&mut self, number: u32) {
        set_u32(self.0.as_mut(), field::ACKNOWLEDGMENT, number);
    }

    /// Sets the checksum.
    #[inline]
    pub fn set_checksum(&mut self, checksum: u16) {
        set_u16(self.0.as_mut(), field::CHECKSUM, checksum);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Address;
    use crate::wire::{checksum, hex};

    const SYN: &str =
        "0401 0050 000003e8 00000000 a002 7210 9764 0000 0204 05b4 0402 080a 00112233 00000000 01 03030a 78";

    #[test]
    fn fields() {
        let bytes = hex(SYN);
        let segment = Segment::new_checked(&bytes).unwrap();
        assert_eq!((segment.source_port(), segment.destination_port()), (1025, 80));
        assert_eq!((segment.sequence(), segment.acknowledgment()), (1000, 0));
        assert_eq!((segment.header_length(), segment.flags(), segment.window()), (40, FLAG_SYN, 0x7210));
        assert_eq!((segment.checksum(), segment.payload()), (0x9764, &b"x"[..]));
    }

    #[test]
    fn headers_that_end_early_are_refused() {
        let bytes = hex(SYN);
        for length in 0..40 {
            assert_eq!(Segment::new_checked(&bytes[..length]).err(), Some(Error::Truncated), "{length}");
        }
        let mut bytes = bytes;
        bytes[12] = 0x40;
        assert_eq!(Segment::new_checked(&bytes).err(), Some(Error::Malformed));
    }

    #[test]
    fn what_is_set_is_read_and_summed_like_the_recorded_segment() {
        let mut bytes = hex(SYN);
        bytes.truncate(40);
        let sum = checksum::pseudo_header(Address::v4(0x0a010001), Address::v4(0x0a090001), PROTOCOL, 40);
        assert_eq!(checksum::transport(sum, &bytes, CHECKSUM_OFFSET), 0x9764);
        let mut segment = Segment::new_checked(&mut bytes[..]).unwrap();
        segment.set_source_port(1);
        segment.set_destination_port(2);
        segment.set_sequence(3);
        segment.set_acknowledgment(4);
        segment.set_checksum(5);
        assert_eq!(bytes[..20], hex("0001 0002 00000003 00000004 a002 7210 0005 0000"));
    }
}
