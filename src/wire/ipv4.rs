//! IPv4, RFC 791 section 3.1.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-------+-------+---------------+-------------------------------+
//! |Version|  IHL  |Type of Service|          Total Length         |
//! +-------+-------+---------------+-----+-------------------------+
//! |         Identification        |Flags|      Fragment Offset    |
//! +---------------+---------------+-----+-------------------------+
//! |  Time to Live |    Protocol   |         Header Checksum       |
//! +---------------+---------------+-------------------------------+
//! |                       Source Address                          |
//! +---------------------------------------------------------------+
//! |                    Destination Address                        |
//! +---------------------------------------------------------------+
//! |                    Options (0 to 40 octets)                   |
//! +---------------------------------------------------------------+
//! ```

use crate::base::Address;
use crate::wire::{Error, checksum, get_u16, get_u32, set_u16, set_u32};

/// Octets of a header without options.
pub const HEADER_OCTETS: usize = 20;
/// Octets of a header with all options it can have.
pub const HEADER_OCTETS_MAX: usize = 60;

const DONT_FRAGMENT: u16 = 0x4000;
const MORE_FRAGMENTS: u16 = 0x2000;
const OFFSET_MASK: u16 = 0x1fff;

mod field {
    use std::ops::Range;

    pub const VERSION_IHL: usize = 0;
    pub const TOS: usize = 1;
    pub const TOTAL_LENGTH: Range<usize> = 2..4;
    pub const IDENTIFICATION: Range<usize> = 4..6;
    pub const FRAGMENT: Range<usize> = 6..8;
    pub const TTL: usize = 8;
    pub const PROTOCOL: usize = 9;
    pub const CHECKSUM: Range<usize> = 10..12;
    pub const SOURCE: Range<usize> = 12..16;
    pub const DESTINATION: Range<usize> = 16..20;
}

/// A packet from its first octet on; what follows its total length (Ethernet padding) is not looked at.
#[derive(Clone, Copy, Debug)]
pub struct Packet<T>(T);

impl<T: AsRef<[u8]>> Packet<T> {
    /// The view of a packet that is all there. The header checksum is not verified.
    ///
    /// # Errors
    /// [`Error::Truncated`] when header or packet end early, [`Error::Malformed`] when version or lengths
    /// contradict each other.
    #[inline]
    pub fn new_checked(bytes: T) -> Result<Self, Error> {
        let length = bytes.as_ref().len();
        let packet = Self::new_header_checked(bytes)?;
        if packet.total_length() > length {
            return Err(Error::Truncated);
        }
        Ok(packet)
    }

    /// As [`Packet::new_checked`], for a packet quoted in an ICMP error, which may end early after its header.
    /// [`Packet::payload`] holds what is there.
    ///
    /// # Errors
    /// As for `new_checked`.
    #[inline]
    pub fn new_header_checked(bytes: T) -> Result<Self, Error> {
        let length = bytes.as_ref().len();
        if length < HEADER_OCTETS {
            return Err(Error::Truncated);
        }
        let packet = Packet(bytes);
        let header = packet.header_length();
        if packet.0.as_ref()[field::VERSION_IHL] >> 4 != 4 || header < HEADER_OCTETS || packet.total_length() < header {
            return Err(Error::Malformed);
        }
        if header > length { Err(Error::Truncated) } else { Ok(packet) }
    }

    /// The view without any check.
    #[inline]
    pub const fn new_unchecked(bytes: T) -> Self {
        Packet(bytes)
    }

    /// Octets of the header with options.
    #[inline]
    pub fn header_length(&self) -> usize {
        usize::from(self.0.as_ref()[field::VERSION_IHL] & 0x0f) * 4
    }

    /// Type of service: six bits DSCP, two bits ECN (RFC 2474, RFC 3168).
    #[inline]
    pub fn tos(&self) -> u8 {
        self.0.as_ref()[field::TOS]
    }

    /// Octets of header and payload.
    #[inline]
    pub fn total_length(&self) -> usize {
        get_u16(self.0.as_ref(), field::TOTAL_LENGTH).into()
    }

    /// Identification.
    #[inline]
    pub fn identification(&self) -> u16 {
        get_u16(self.0.as_ref(), field::IDENTIFICATION)
    }

    /// True when routers may not fragment it.
    #[inline]
    pub fn dont_fragment(&self) -> bool {
        get_u16(self.0.as_ref(), field::FRAGMENT) & DONT_FRAGMENT != 0
    }

    /// True when it is not the last fragment.
    #[inline]
    pub fn more_fragments(&self) -> bool {
        get_u16(self.0.as_ref(), field::FRAGMENT) & MORE_FRAGMENTS != 0
    }

    /// Octets of the original payload that stand before this fragment.
    #[inline]
    pub fn fragment_offset(&self) -> usize {
        usize::from(get_u16(self.0.as_ref(), field::FRAGMENT) & OFFSET_MASK) * 8
    }

    /// True for any part of a fragmented packet.
    #[inline]
    pub fn is_fragment(&self) -> bool {
        get_u16(self.0.as_ref(), field::FRAGMENT) & (MORE_FRAGMENTS | OFFSET_MASK) != 0
    }

    /// Time to live.
    #[inline]
    pub fn ttl(&self) -> u8 {
        self.0.as_ref()[field::TTL]
    }

    /// Protocol number of the payload.
    #[inline]
    pub fn protocol(&self) -> u8 {
        self.0.as_ref()[field::PROTOCOL]
    }

    /// Header checksum as it stands.
    #[inline]
    pub fn checksum(&self) -> u16 {
        get_u16(self.0.as_ref(), field::CHECKSUM)
    }

    /// True when the header checksum is right.
    #[inline]
    pub fn has_valid_checksum(&self) -> bool {
        checksum::of(self.header()) == 0
    }

    /// Source address.
    #[inline]
    pub fn source(&self) -> Address {
        Address::v4(get_u32(self.0.as_ref(), field::SOURCE))
    }

    /// Destination address.
    #[inline]
    pub fn destination(&self) -> Address {
        Address::v4(get_u32(self.0.as_ref(), field::DESTINATION))
    }

    /// The header with options.
    #[inline]
    pub fn header(&self) -> &[u8] {
        &self.0.as_ref()[..self.header_length()]
    }

    /// The payload, as far as it is there.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        let bytes = self.0.as_ref();
        &bytes[self.header_length()..self.total_length().min(bytes.len())]
    }
}

impl<T: AsRef<[u8]> + AsMut<[u8]>> Packet<T> {
    /// Sets the type of service.
    #[inline]
    pub fn set_tos(&mut self, tos: u8) {
        self.0.as_mut()[field::TOS] = tos;
    }

    /// Sets the octets of header and payload.
    #[inline]
    pub fn set_total_length(&mut self, octets: u16) {
        set_u16(self.0.as_mut(), field::TOTAL_LENGTH, octets);
    }

    /// Sets the identification.
    #[inline]
    pub fn set_identification(&mut self, identification: u16) {
        set_u16(self.0.as_mut(), field::IDENTIFICATION, identification);
    }

    /// Sets flags and offset; the offset in octets, a multiple of 8.
    #[inline]
    pub fn set_fragment(&mut self, dont_fragment: bool, more_fragments: bool, offset_octets: usize) {
        set_u16(self.0.as_mut(), field::FRAGMENT, fragment(dont_fragment, more_fragments, offset_octets));
    }

    /// Sets the time to live.
    #[inline]
    pub fn set_ttl(&mut self, ttl: u8) {
        self.0.as_mut()[field::TTL] = ttl;
    }

    /// Takes one from the time to live (which is not 0) and corrects the checksum.
    #[inline]
    pub fn decrement_ttl(&mut self) {
        let old = get_u16(self.0.as_ref(), field::TTL..field::PROTOCOL + 1);
        let new = old.wrapping_sub(0x0100);
        let checksum = checksum::Update::new(self.checksum()).remove_u16(old).add_u16(new).finish();
        set_u16(self.0.as_mut(), field::TTL..field::PROTOCOL + 1, new);
        self.set_checksum(checksum);
    }

    /// Sets the protocol number.
    #[inline]
    pub fn set_protocol(&mut self, protocol: u8) {
        self.0.as_mut()[field::PROTOCOL] = protocol;
    }

    /// Sets the header checksum.
    #[inline]
    pub fn set_checksum(&mut self, checksum: u16) {
        set_u16(self.0.as_mut(), field::CHECKSUM, checksum);
    }

    /// Computes the header checksum in full.
    #[inline]
    pub fn fill_checksum(&mut self) {
        self.set_checksum(0);
        let checksum = checksum::of(self.header());
        self.set_checksum(checksum);
    }

    /// Sets the source address: the low 32 bits of `address`.
    #[inline]
    pub fn set_source(&mut self, address: Address) {
        set_u32(self.0.as_mut(), field::SOURCE, address.low_u32());
    }

    /// Sets the destination address: the low 32 bits of `address`.
    #[inline]
    pub fn set_destination(&mut self, address: Address) {
        set_u32(self.0.as_mut(), field::DESTINATION, address.low_u32());
    }
}

const fn fragment(dont_fragment: bool, more_fragments: bool, offset_octets: usize) -> u16 {
    let flags = (if dont_fragment { DONT_FRAGMENT } else { 0 }) | if more_fragments { MORE_FRAGMENTS } else { 0 };
    flags | (offset_octets / 8) as u16 & OFFSET_MASK
}

/// A header without options that we begin ourselves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// Type of service.
    pub tos: u8,
    /// Octets of header and payload.
    pub total_length: u16,
    /// Identification.
    pub identification: u16,
    /// True to forbid fragmentation.
    pub dont_fragment: bool,
    /// Time to live.
    pub ttl: u8,
    /// Protocol number of the payload.
    pub protocol: u8,
    /// Source address.
    pub source: Address,
    /// Destination address.
    pub destination: Address,
}

impl Header {
    /// Writes the header with its checksum.
    ///
    /// # Panics
    /// When `buffer` is shorter than [`HEADER_OCTETS`].
    #[inline]
    pub fn emit(&self, buffer: &mut [u8]) {
        buffer[field::VERSION_IHL] = 0x45;
        let mut packet = Packet::new_unchecked(buffer);
        packet.set_tos(self.tos);
        packet.set_total_length(self.total_length);
        packet.set_identification(self.identification);
        packet.set_fragment(self.dont_fragment, false, 0);
        packet.set_ttl(self.ttl);
        packet.set_protocol(self.protocol);
        packet.set_source(self.source);
        packet.set_destination(self.destination);
        packet.fill_checksum();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::hex;

    /// A tunnel header of the kernel.
    const TUNNEL: &str = "452a 0035 0000 4000 3f04 2795 0a020001 0a020002";

    #[test]
    fn fields_of_a_header_of_the_kernel() {
        let mut bytes = hex(TUNNEL);
        bytes.resize(0x35 + 7, 0xee);
        let packet = Packet::new_checked(&bytes).unwrap();
        assert_eq!((packet.header_length(), packet.tos(), packet.total_length()), (20, 0x2a, 0x35));
        assert_eq!((packet.identification(), packet.dont_fragment(), packet.is_fragment()), (0, true, false));
        assert_eq!((packet.ttl(), packet.protocol(), packet.checksum()), (63, 4, 0x2795));
        assert_eq!(packet.source().to_string(), "10.2.0.1");
        assert_eq!(packet.destination().to_string(), "10.2.0.2");
        assert_eq!(packet.payload().len(), 0x35 - 20);
        assert!(packet.has_valid_checksum());
    }

    #[test]
    fn a_header_of_ours_is_that_of_the_kernel() {
        let mut bytes = [0; HEADER_OCTETS];
        let header = Header {
            tos: 0x2a,
            total_length: 0x35,
            identification: 0,
            dont_fragment: true,
            ttl: 63,
            protocol: 4,
            source: Address::v4(0x0a020001),
            destination: Address::v4(0x0a020002),
        };
        header.emit(&mut bytes);
        assert_eq!(bytes.to_vec(), hex(TUNNEL));
    }

    #[test]
    fn fragments() {
        let mut bytes = hex("450005dc 2e93 2000 3f04 0000 0a020001 0a020002");
        bytes.resize(1500, 0);
        let mut packet = Packet::new_checked(&mut bytes[..]).unwrap();
        assert_eq!((packet.more_fragments(), packet.fragment_offset(), packet.is_fragment()), (true, 0, true));
        packet.set_fragment(false, false, 1480);
        assert_eq!((packet.more_fragments(), packet.fragment_offset(), packet.is_fragment()), (false, 1480, true));
        assert_eq!(bytes[6..8], [0x00, 0xb9]);
    }

    #[test]
    fn decrementing_keeps_the_checksum_right() {
        for ttl in 1..=255 {
            for identification in [0, 0x1234, 0xd794, 0xffff] {
                let mut bytes = hex(TUNNEL);
                bytes.resize(0x35, 0);
                let mut packet = Packet::new_checked(&mut bytes[..]).unwrap();
                packet.set_ttl(ttl);
                packet.set_identification(identification);
                packet.fill_checksum();
                packet.decrement_ttl();
                assert_eq!(packet.ttl(), ttl - 1);
                assert!(packet.has_valid_checksum());
            }
        }
    }

    #[test]
    fn lengths_that_contradict_are_refused() {
        let mut bytes = hex(TUNNEL);
        bytes.resize(0x35, 0);
        let check = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut changed = bytes.clone();
            change(&mut changed);
            Packet::new_checked(&changed).err()
        };
        assert_eq!(check(&|_| {}), None);
        assert_eq!(check(&|bytes| bytes[0] = 0x65), Some(Error::Malformed));
        assert_eq!(check(&|bytes| bytes[0] = 0x44), Some(Error::Malformed));
        assert_eq!(check(&|bytes| bytes[0] = 0x4f), Some(Error::Malformed));
        assert_eq!(check(&|bytes| bytes[3] = 19), Some(Error::Malformed));
        for length in 0..0x35 {
            assert_eq!(check(&|bytes| bytes.truncate(length)), Some(Error::Truncated), "{length}");
        }
        bytes.truncate(28);
        assert_eq!(Packet::new_header_checked(&bytes).unwrap().payload().len(), 8);
    }
}
