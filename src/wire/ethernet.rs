//! Ethernet II with up to two VLAN tags, IEEE 802.3 clause 3 and 802.1Q clause 9.
//!
//! ```text
//! +------------------------+-------------------+------------------------------+-----------+
//! | destination address (6)| source address (6)| 0, 1 or 2 tags (4 each)      | type (2)  |
//! +------------------------+-------------------+------------------------------+-----------+
//! tag: | TPID 0x8100 or 0x88a8 (2) | priority (3 bits) | DEI (1 bit) | VLAN identifier (12 bits) |
//! ```

use crate::base::MacAddress;
use crate::wire::{Error, array, get_u16};

/// Octets of a header without tags.
pub const HEADER_OCTETS: usize = 14;
/// Octets of a tag.
pub const TAG_OCTETS: usize = 4;
/// Tags that are looked through; a frame with more is [`Error::Unsupported`].
pub const TAGS_MAX: usize = 2;

/// EtherType of IPv4.
pub const TYPE_IPV4: u16 = 0x0800;
/// EtherType of ARP.
pub const TYPE_ARP: u16 = 0x0806;
/// EtherType of IPv6.
pub const TYPE_IPV6: u16 = 0x86dd;
/// Tag protocol identifier of a customer tag, IEEE 802.1Q.
pub const TYPE_VLAN: u16 = 0x8100;
/// Tag protocol identifier of a service tag, IEEE 802.1ad (QinQ).
pub const TYPE_SERVICE_VLAN: u16 = 0x88a8;

mod field {
    use std::ops::Range;

    pub const DESTINATION: Range<usize> = 0..6;
    pub const SOURCE: Range<usize> = 6..12;
    pub const TYPE: Range<usize> = 12..14;
}

/// A frame from its destination address on.
#[derive(Clone, Copy, Debug)]
pub struct Frame<T>(T);

impl<T: AsRef<[u8]>> Frame<T> {
    /// The view of a frame whose header is complete.
    ///
    /// # Errors
    /// [`Error::Truncated`] when header or tags end early, [`Error::Unsupported`] beyond [`TAGS_MAX`] tags.
    #[inline]
    pub fn new_checked(bytes: T) -> Result<Self, Error> {
        if bytes.as_ref().len() < HEADER_OCTETS {
            return Err(Error::Truncated);
        }
        let frame = Frame(bytes);
        let mut offset = field::TYPE.start;
        for _ in 0..=TAGS_MAX {
            let Some(&[high, low]) = frame.0.as_ref().get(offset..offset + 2) else { return Err(Error::Truncated) };
            if !is_tag(u16::from_be_bytes([high, low])) {
                return Ok(frame);
            }
            offset += TAG_OCTETS;
        }
        Err(Error::Unsupported)
    }

    /// The view without any check.
    pub const fn new_unchecked(bytes: T) -> Self {
        Frame(bytes)
    }

    /// Destination address.
    #[inline]
    pub fn destination(&self) -> MacAddress {
        MacAddress(array(self.0.as_ref(), field::DESTINATION))
    }

    /// Source address.
    #[inline]
    pub fn source(&self) -> MacAddress {
        MacAddress(array(self.0.as_ref(), field::SOURCE))
    }

    /// Offset of what the frame carries, behind all tags.
    #[inline]
    pub fn payload_offset(&self) -> usize {
        let bytes = self.0.as_ref();
        let mut offset = HEADER_OCTETS;
        while is_tag(get_u16(bytes, offset - 2..offset)) {
            offset += TAG_OCTETS;
        }
        offset
    }

    /// The type of what the frame carries, behind all tags.
    #[inline]
    pub fn ether_type(&self) -> u16 {
        let offset = self.payload_offset();
        get_u16(self.0.as_ref(), offset - 2..offset)
    }

    /// VLAN identifier of the outermost tag.
    pub fn vlan(&self) -> Option<u16> {
        (self.payload_offset() > HEADER_OCTETS).then(|| get_u16(self.0.as_ref(), 14..16) & 0x0fff)
    }

    /// What the frame carries, padding included.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        &self.0.as_ref()[self.payload_offset()..]
    }
}

impl<T: AsRef<[u8]> + AsMut<[u8]>> Frame<T> {
    /// Sets the destination address.
    #[inline]
    pub fn set_destination(&mut self, address: MacAddress) {
        self.0.as_mut()[field::DESTINATION].copy_from_slice(&address.0);
    }

    /// Sets the source address.
    #[inline]
    pub fn set_source(&mut self, address: MacAddress) {
        self.0.as_mut()[field::SOURCE].copy_from_slice(&address.0);
    }

    /// Sets the type behind all tags.
    #[inline]
    pub fn set_ether_type(&mut self, ether_type: u16) {
        let offset = self.payload_offset();
        self.0.as_mut()[offset - 2..offset].copy_from_slice(&ether_type.to_be_bytes());
    }
}

/// The tags of a frame, the outermost first, each as TPID << 16 | priority, DEI and identifier.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Tags {
    words: [u32; TAGS_MAX],
    count: u8,
}

/// What of a tag tells VLANs apart: TPID and identifier.
const TAG_IDENTITY: u32 = 0xffff_0fff;

impl Tags {
    /// Those of a frame, and the type behind them; `None` when it has none, more than [`TAGS_MAX`], or ends within.
    pub fn of(frame: &[u8]) -> Option<(Tags, u16)> {
        let mut tags = Tags::default();
        let mut offset = field::TYPE.start;
        loop {
            let &[high, low] = frame.get(offset..offset + 2)? else { return None };
            let ether_type = u16::from_be_bytes([high, low]);
            if !is_tag(ether_type) {
                return (tags.count > 0).then_some((tags, ether_type));
            }
            let control = get_u16(frame.get(offset + 2..offset + TAG_OCTETS)?, 0..2);
            tags = tags.inside(ether_type, control)?;
            offset += TAG_OCTETS;
        }
    }

    /// With another tag within; `None` when there are [`TAGS_MAX`].
    #[must_use]
    pub fn inside(mut self, protocol: u16, control: u16) -> Option<Tags> {
        *self.words.get_mut(usize::from(self.count))? = u32::from(protocol) << 16 | u32::from(control);
        self.count += 1;
        Some(self)
    }

    /// Octets that they take in a frame.
    pub const fn octets(&self) -> usize {
        self.count as usize * TAG_OCTETS
    }

    /// True when both name the same VLAN, whatever their priorities.
    pub fn is_same_vlan(&self, other: &Tags) -> bool {
        let alike = self.words.iter().zip(other.words).all(|(one, other)| (one ^ other) & TAG_IDENTITY == 0);
        self.count == other.count && alike
    }

    /// Takes the tags out of a frame: its first [`Tags::octets`] octets are not its own any more.
    ///
    /// # Panics
    /// When the frame is shorter than they are.
    pub fn take_out(&self, frame: &mut [u8]) {
        frame.copy_within(..field::TYPE.start, self.octets());
    }

    /// Puts the tags into a frame that begins with [`Tags::octets`] octets to spare.
    ///
    /// # Panics
    /// When the frame is shorter than header and tags.
    pub fn put_in(&self, frame: &mut [u8]) {
        let octets = self.octets();
        frame.copy_within(octets..octets + field::TYPE.start, 0);
        let tags = frame[field::TYPE.start..].chunks_exact_mut(TAG_OCTETS);
        for (place, word) in tags.zip(&self.words[..usize::from(self.count)]) {
            place.copy_from_slice(&word.to_be_bytes());
        }
    }
}

#[inline]
const fn is_tag(ether_type: u16) -> bool {
    ether_type == TYPE_VLAN || ether_type == TYPE_SERVICE_VLAN
}

/// Writes a header without tags.
///
/// # Panics
/// When `buffer` is shorter than [`HEADER_OCTETS`].
#[inline]
pub fn emit(buffer: &mut [u8], destination: MacAddress, source: MacAddress, ether_type: u16) {
    buffer[field::DESTINATION].copy_from_slice(&destination.0);
    buffer[field::SOURCE].copy_from_slice(&source.0);
    buffer[field::TYPE].copy_from_slice(&ether_type.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::hex;

    #[test]
    fn tags_are_looked_through() {
        for (text, ether_type, offset, vlan) in [
            ("020000000001 020000000002 0800 45", TYPE_IPV4, 14, None),
            ("020000000001 020000000002 8100 6007 86dd 60", TYPE_IPV6, 18, Some(7)),
            ("020000000001 020000000002 88a8 0fff 8100 0001 0806 00", TYPE_ARP, 22, Some(0xfff)),
        ] {
            let bytes = hex(text);
            let frame = Frame::new_checked(&bytes).unwrap();
            assert_eq!((frame.ether_type(), frame.payload_offset(), frame.vlan()), (ether_type, offset, vlan));
            assert_eq!(frame.payload().len(), 1);
            assert_eq!(frame.destination().to_string(), "02:00:00:00:00:01");
            assert_eq!(frame.source().to_string(), "02:00:00:00:00:02");
            for length in 0..offset {
                assert_eq!(Frame::new_checked(&bytes[..length]).err(), Some(Error::Truncated), "{length}");
            }
        }
        let three = hex("020000000001 020000000002 8100 0001 8100 0001 8100 0001 0800");
        assert_eq!(Frame::new_checked(&three).err(), Some(Error::Unsupported));
    }

    #[test]
    fn tags_come_out_and_go_back() {
        let tagged = hex("020000000001 020000000002 88a8 6fff 8100 2001 0800 45");
        let (tags, ether_type) = Tags::of(&tagged).unwrap();
        assert_eq!((tags.octets(), ether_type), (8, TYPE_IPV4));
        let mut frame = tagged.clone();
        tags.take_out(&mut frame);
        assert_eq!(frame[8..], hex("020000000001 020000000002 0800 45"));
        frame[..8].fill(0xee);
        tags.put_in(&mut frame);
        assert_eq!(frame, tagged);

        let without_priority = Tags::default().inside(TYPE_SERVICE_VLAN, 0xfff).unwrap().inside(TYPE_VLAN, 1).unwrap();
        assert!(tags.is_same_vlan(&without_priority) && tags != without_priority);
        assert!(!tags.is_same_vlan(&Tags::default().inside(TYPE_SERVICE_VLAN, 0xfff).unwrap()));
        assert_eq!(without_priority.inside(TYPE_VLAN, 2), None);
        for length in 0..22 {
            assert_eq!(Tags::of(&tagged[..length]), None);
        }
        assert_eq!(Tags::of(&hex("020000000001 020000000002 0800 45")), None);
    }

    #[test]
    fn what_is_set_is_read() {
        let mut bytes = hex("000000000000 000000000000 8100 0001 0000");
        let mut frame = Frame::new_checked(&mut bytes).unwrap();
        frame.set_destination(MacAddress([1, 2, 3, 4, 5, 6]));
        frame.set_source(MacAddress([7; 6]));
        frame.set_ether_type(TYPE_IPV6);
        assert_eq!(bytes, hex("010203040506 070707070707 8100 0001 86dd"));
        emit(&mut bytes, MacAddress([8; 6]), MacAddress([9; 6]), TYPE_IPV4);
        assert_eq!(bytes[..14], hex("080808080808 090909090909 0800"));
    }
}
