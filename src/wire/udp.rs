//! UDP, RFC 768.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-------------------------------+-------------------------------+
//! |          Source Port          |       Destination Port        |
//! +-------------------------------+-------------------------------+
//! |            Length             |           Checksum            |
//! +-------------------------------+-------------------------------+
//! ```

use crate::base::Address;
use crate::wire::{Error, checksum, get_u16, set_u16};

/// Octets of the header.
pub const HEADER_OCTETS: usize = 8;
/// The protocol number.
pub const PROTOCOL: u8 = 17;
/// Offset of the checksum in the header.
pub const CHECKSUM_OFFSET: usize = field::CHECKSUM.start;

mod field {
    use std::ops::Range;

    pub const SOURCE_PORT: Range<usize> = 0..2;
    pub const DESTINATION_PORT: Range<usize> = 2..4;
    pub const LENGTH: Range<usize> = 4..6;
    pub const CHECKSUM: Range<usize> = 6..8;
}

/// A datagram from its header on.
#[derive(Clone, Copy, Debug)]
pub struct Datagram<T>(T);

impl<T: AsRef<[u8]>> Datagram<T> {
    /// The view of a datagram whose header is there. Its length field is not held against the octets: a director
    /// sends on what it did not begin.
    ///
    /// # Errors
    /// [`Error::Truncated`] when the header ends early.
    #[inline]
    pub fn new_checked(bytes: T) -> Result<Self, Error> {
        if bytes.as_ref().len() < HEADER_OCTETS { Err(Error::Truncated) } else { Ok(Datagram(bytes)) }
    }

    /// The view without any check.
    #[inline]
    pub const fn new_unchecked(bytes: T) -> Self {
        Datagram(bytes)
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

    /// Octets of header and payload, as the header says.
    #[inline]
    pub fn length(&self) -> usize {
        get_u16(self.0.as_ref(), field::LENGTH).into()
    }

    /// The checksum as it stands; 0 when there is none.
    #[inline]
    pub fn checksum(&self) -> u16 {
        get_u16(self.0.as_ref(), field::CHECKSUM)
    }

    /// What follows the header.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        &self.0.as_ref()[HEADER_OCTETS..]
    }
}

impl<T: AsRef<[u8]> + AsMut<[u8]>> Datagram<T> {
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

    /// Sets the octets of header and payload.
    #[inline]
    pub fn set_length(&mut self, octets: u16) {
        set_u16(self.0.as_mut(), field::LENGTH, octets);
    }

    /// Sets the checksum; see [`checksum::not_zero`].
    #[inline]
    pub fn set_checksum(&mut self, checksum: u16) {
        set_u16(self.0.as_mut(), field::CHECKSUM, checksum);
    }

    /// Computes the checksum over all octets of the view, which end with the datagram.
    pub fn fill_checksum(&mut self, source: Address, destination: Address) {
        let bytes = self.0.as_ref();
        let sum = checksum::pseudo_header(source, destination, PROTOCOL, bytes.len() as u32);
        let checksum = checksum::transport(sum, bytes, CHECKSUM_OFFSET);
        self.set_checksum(checksum::not_zero(checksum));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::hex;

    #[test]
    fn fields_of_a_datagram_of_the_kernel() {
        let bytes = hex("a029 14e9 000d f2e8 68656c6c6f");
        let datagram = Datagram::new_checked(&bytes).unwrap();
        assert_eq!((datagram.source_port(), datagram.destination_port()), (41001, 5353));
        assert_eq!((datagram.length(), datagram.checksum(), datagram.payload()), (13, 0xf2e8, &b"hello"[..]));
        assert_eq!(Datagram::new_checked(&bytes[..7]).err(), Some(Error::Truncated));
    }

    #[test]
    fn what_is_set_is_what_the_kernel_sends() {
        let mut bytes = hex("0000 0000 0000 0000 68656c6c6f");
        let mut datagram = Datagram::new_checked(&mut bytes[..]).unwrap();
        datagram.set_source_port(41001);
        datagram.set_destination_port(5353);
        datagram.set_length(13);
        datagram.set_checksum(0xabcd);
        datagram.fill_checksum(Address::v4(0x0a010002), Address::v4(0x0a020002));
        assert_eq!(bytes, hex("a029 14e9 000d f2e8 68656c6c6f"));
    }
}
