//! IPv6, RFC 8200 sections 3 and 4.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-------+---------------+---------------------------------------+
//! |Version| Traffic Class |           Flow Label                  |
//! +-------+---------------+-------+---------------+---------------+
//! |         Payload Length        |  Next Header  |   Hop Limit   |
//! +-------------------------------+---------------+---------------+
//! |                  Source Address (16 octets)                   |
//! +---------------------------------------------------------------+
//! |                Destination Address (16 octets)                |
//! +---------------------------------------------------------------+
//! ```
//!
//! Jumbograms (RFC 2675) are not handled.

use crate::base::Address;
use crate::wire::{Error, array, get_u16, get_u32, set_u16};

/// Octets of the fixed header.
pub const HEADER_OCTETS: usize = 40;
/// Octets of a fragment header.
pub const FRAGMENT_HEADER_OCTETS: usize = 8;
/// Every link carries packets of this many octets (RFC 8200 section 5).
pub const MTU_MIN: usize = 1280;
/// Extension headers that [`Packet::upper`] looks through.
pub const EXTENSION_HEADERS_MAX: usize = 8;

/// Next header: hop-by-hop options.
pub const NEXT_HOP_BY_HOP: u8 = 0;
/// Next header: routing.
pub const NEXT_ROUTING: u8 = 43;
/// Next header: fragment.
pub const NEXT_FRAGMENT: u8 = 44;
/// Next header: authentication, RFC 4302.
pub const NEXT_AUTHENTICATION: u8 = 51;
/// Next header: none follows.
pub const NEXT_NONE: u8 = 59;
/// Next header: destination options.
pub const NEXT_DESTINATION: u8 = 60;

mod field {
    use std::ops::Range;

    pub const VERSION_CLASS_LABEL: Range<usize> = 0..4;
    pub const VERSION_CLASS: Range<usize> = 0..2;
    pub const PAYLOAD_LENGTH: Range<usize> = 4..6;
    pub const NEXT_HEADER: usize = 6;
    pub const HOP_LIMIT: usize = 7;
    pub const SOURCE: Range<usize> = 8..24;
    pub const DESTINATION: Range<usize> = 24..40;

    /// Within a fragment header.
    pub const FRAGMENT_OFFSET: Range<usize> = 2..4;
    pub const FRAGMENT_IDENTIFICATION: Range<usize> = 4..8;
}

/// A fragment header, RFC 8200 section 4.5.
///
/// ```text
/// +---------------+---------------+-------------------------+-----+-+
/// |  Next Header  |   Reserved    |  Fragment Offset (13)   | Res |M|
/// +---------------+---------------+-------------------------+-----+-+
/// |                         Identification                          |
/// +-----------------------------------------------------------------+
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fragment {
    /// Offset of this header in the packet, octets.
    pub header_offset: usize,
    /// Octets of the original fragmentable part that stand before this fragment.
    pub offset: usize,
    /// True when it is not the last fragment.
    pub more: bool,
    /// Identification.
    pub identification: u32,
}

impl Fragment {
    /// Writes the header.
    ///
    /// # Panics
    /// When `buffer` is shorter than [`FRAGMENT_HEADER_OCTETS`].
    pub fn emit(&self, buffer: &mut [u8], next_header: u8) {
        buffer[0] = next_header;
        buffer[1] = 0;
        set_u16(buffer, field::FRAGMENT_OFFSET, self.offset as u16 & !7 | u16::from(self.more));
        buffer[field::FRAGMENT_IDENTIFICATION].copy_from_slice(&self.identification.to_be_bytes());
    }
}

/// What stands behind the extension headers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Upper {
    /// Its protocol; [`NEXT_NONE`] for nothing.
    pub protocol: u8,
    /// Its offset in the packet, octets; at most the packet's length. In a fragment that is not the first, the
    /// offset of the fragment's data.
    pub offset: usize,
    /// The fragment header, if there is one.
    pub fragment: Option<Fragment>,
    /// Offset of the octet that names `protocol`.
    pub next_header_offset: usize,
}

/// A packet from its first octet on; what follows its payload (Ethernet padding) is not looked at.
#[derive(Clone, Copy, Debug)]
pub struct Packet<T>(T);

impl<T: AsRef<[u8]>> Packet<T> {
    /// The view of a packet that is all there.
    ///
    /// # Errors
    /// [`Error::Truncated`] when header or payload end early, [`Error::Malformed`] for another version.
    #[inline]
    pub fn new_checked(bytes: T) -> Result<Self, Error> {
        let length = bytes.as_ref().len();
        let packet = Self::new_header_checked(bytes)?;
        if packet.total_length() > length { Err(Error::Truncated) } else { Ok(packet) }
    }

    /// As [`Packet::new_checked`], for a packet quoted in an ICMP error, which may end early after its header.
    ///
    /// # Errors
    /// As for `new_checked`.
    #[inline]
    pub fn new_header_checked(bytes: T) -> Result<Self, Error> {
        let octets = bytes.as_ref();
        if octets.len() < HEADER_OCTETS {
            return Err(Error::Truncated);
        }
        if octets[0] >> 4 != 6 { Err(Error::Malformed) } else { Ok(Packet(bytes)) }
    }

    /// The view without any check.
    #[inline]
    pub const fn new_unchecked(bytes: T) -> Self {
        Packet(bytes)
    }

    /// Traffic class: six bits DSCP, two bits ECN (RFC 2474, RFC 3168).
    #[inline]
    pub fn traffic_class(&self) -> u8 {
        (get_u16(self.0.as_ref(), field::VERSION_CLASS) >> 4) as u8
    }

    /// Flow label, 20 bits.
    #[inline]
    pub fn flow_label(&self) -> u32 {
        get_u32(self.0.as_ref(), field::VERSION_CLASS_LABEL) & 0x000f_ffff
    }

    /// Octets behind the fixed header.
    #[inline]
    pub fn payload_length(&self) -> usize {
        get_u16(self.0.as_ref(), field::PAYLOAD_LENGTH).into()
    }

    /// Octets of fixed header and payload.
    #[inline]
    pub fn total_length(&self) -> usize {
        HEADER_OCTETS + self.payload_length()
    }

    /// Protocol number of the first header behind the fixed one.
    #[inline]
    pub fn next_header(&self) -> u8 {
        self.0.as_ref()[field::NEXT_HEADER]
    }

    /// Hop limit.
    #[inline]
    pub fn hop_limit(&self) -> u8 {
        self.0.as_ref()[field::HOP_LIMIT]
    }

    /// Source address.
    #[inline]
    pub fn source(&self) -> Address {
        Address::v6(u128::from_be_bytes(array(self.0.as_ref(), field::SOURCE)))
    }

    /// Destination address.
    #[inline]
    pub fn destination(&self) -> Address {
        Address::v6(u128::from_be_bytes(array(self.0.as_ref(), field::DESTINATION)))
    }

    /// What follows the fixed header, as far as it is there.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        &self.whole()[HEADER_OCTETS..]
    }

    fn whole(&self) -> &[u8] {
        let bytes = self.0.as_ref();
        &bytes[..self.total_length().min(bytes.len())]
    }

    /// Looks through the extension headers. A fragment that is not the first ends the walk: what follows is data.
    ///
    /// # Errors
    /// [`Error::Truncated`] when a header ends behind the packet, [`Error::Unsupported`] for more than
    /// [`EXTENSION_HEADERS_MAX`] headers.
    #[inline]
    pub fn upper(&self) -> Result<Upper, Error> {
        let upper = Upper {
            protocol: self.next_header(),
            offset: HEADER_OCTETS,
            fragment: None,
            next_header_offset: field::NEXT_HEADER,
        };
        if is_extension(upper.protocol) { self.walk(upper) } else { Ok(upper) }
    }

    fn walk(&self, mut upper: Upper) -> Result<Upper, Error> {
        let bytes = self.whole();
        for _ in 0..EXTENSION_HEADERS_MAX {
            let header = bytes.get(upper.offset..upper.offset + 8).ok_or(Error::Truncated)?;
            let octets = match upper.protocol {
                NEXT_FRAGMENT => FRAGMENT_HEADER_OCTETS,
                NEXT_AUTHENTICATION => (usize::from(header[1]) + 2) * 4,
                _ => (usize::from(header[1]) + 1) * 8,
            };
            if upper.protocol == NEXT_FRAGMENT {
                let word = get_u16(header, field::FRAGMENT_OFFSET);
                upper.fragment = Some(Fragment {
                    header_offset: upper.offset,
                    offset: usize::from(word & !7),
                    more: word & 1 != 0,
                    identification: get_u32(header, field::FRAGMENT_IDENTIFICATION),
                });
            }
            upper.protocol = header[0];
            upper.next_header_offset = upper.offset;
            upper.offset += octets;
            if upper.offset > bytes.len() {
                return Err(Error::Truncated);
            }
            let is_data = upper.fragment.is_some_and(|fragment| fragment.offset != 0);
            if is_data || !is_extension(upper.protocol) {
                return Ok(upper);
            }
        }
        Err(Error::Unsupported)
    }
}

#[inline]
const fn is_extension(next_header: u8) -> bool {
    matches!(next_header, NEXT_HOP_BY_HOP | NEXT_ROUTING | NEXT_FRAGMENT | NEXT_AUTHENTICATION | NEXT_DESTINATION)
}

impl<T: AsRef<[u8]> + AsMut<[u8]>> Packet<T> {
    /// Sets the traffic class.
    #[inline]
    pub fn set_traffic_class(&mut self, class: u8) {
        let word = get_u16(self.0.as_ref(), field::VERSION_CLASS) & 0xf00f | u16::from(class) << 4;
        set_u16(self.0.as_mut(), field::VERSION_CLASS, word);
    }

    /// Sets the octets behind the fixed header.
    #[inline]
    pub fn set_payload_length(&mut self, octets: u16) {
        set_u16(self.0.as_mut(), field::PAYLOAD_LENGTH, octets);
    }

    /// Sets the protocol number of the first header behind the fixed one.
    #[inline]
    pub fn set_next_header(&mut self, next_header: u8) {
        self.0.as_mut()[field::NEXT_HEADER] = next_header;
    }

    /// Sets the hop limit.
    #[inline]
    pub fn set_hop_limit(&mut self, hop_limit: u8) {
        self.0.as_mut()[field::HOP_LIMIT] = hop_limit;
    }

    /// Sets the source address.
    #[inline]
    pub fn set_source(&mut self, address: Address) {
        self.0.as_mut()[field::SOURCE].copy_from_slice(&address.0.to_be_bytes());
    }

    /// Sets the destination address.
    #[inline]
    pub fn set_destination(&mut self, address: Address) {
        self.0.as_mut()[field::DESTINATION].copy_from_slice(&address.0.to_be_bytes());
    }
}

/// A fixed header that we begin ourselves; the flow label is 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// Traffic class.
    pub traffic_class: u8,
    /// Octets behind the fixed header.
    pub payload_length: u16,
    /// Protocol number of what follows.
    pub next_header: u8,
    /// Hop limit.
    pub hop_limit: u8,
    /// Source address.
    pub source: Address,
    /// Destination address.
    pub destination: Address,
}

impl Header {
    /// Writes the header.
    ///
    /// # Panics
    /// When `buffer` is shorter than [`HEADER_OCTETS`].
    #[inline]
    pub fn emit(&self, buffer: &mut [u8]) {
        let first = 6 << 28 | u32::from(self.traffic_class) << 20;
        buffer[field::VERSION_CLASS_LABEL].copy_from_slice(&first.to_be_bytes());
        let mut packet = Packet::new_unchecked(buffer);
        packet.set_payload_length(self.payload_length);
        packet.set_next_header(self.next_header);
        packet.set_hop_limit(self.hop_limit);
        packet.set_source(self.source);
        packet.set_destination(self.destination);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::hex;

    const SOURCE: &str = "fd000001000000000000000000000001";
    const DESTINATION: &str = "fd000009000000000000000000000001";

    /// A packet with these octets behind the fixed header.
    fn packet(next_header: &str, payload: &str) -> Vec<u8> {
        let length = hex(payload).len();
        hex(&format!("62b12345 {length:04x} {next_header} 3f {SOURCE} {DESTINATION} {payload}"))
    }

    #[test]
    fn fields() {
        let bytes = packet("11", "0401 0050 0009 897d 78");
        let packet = Packet::new_checked(&bytes).unwrap();
        assert_eq!((packet.traffic_class(), packet.flow_label()), (0x2b, 0x12345));
        assert_eq!((packet.payload_length(), packet.total_length(), packet.payload().len()), (9, 49, 9));
        assert_eq!((packet.next_header(), packet.hop_limit()), (17, 63));
        assert_eq!(packet.source().to_string(), "fd00:1::1");
        assert_eq!(packet.destination().to_string(), "fd00:9::1");
        let upper = Upper { protocol: 17, offset: 40, fragment: None, next_header_offset: 6 };
        assert_eq!(packet.upper(), Ok(upper));
        for length in 0..bytes.len() {
            assert_eq!(Packet::new_checked(&bytes[..length]).err(), Some(Error::Truncated), "{length}");
        }
        assert_eq!(Packet::new_checked([0x45; 60]).err(), Some(Error::Malformed));
    }

    #[test]
    fn what_is_set_is_read() {
        let mut bytes = vec![0; 40];
        let [source, destination] = [Address::v6(1 << 127 | 5), Address::v6(6)];
        let header =
            Header { traffic_class: 0xab, payload_length: 0, next_header: 4, hop_limit: 9, source, destination };
        header.emit(&mut bytes);
        let mut packet = Packet::new_checked(&mut bytes[..]).unwrap();
        assert_eq!((packet.traffic_class(), packet.flow_label(), packet.next_header()), (0xab, 0, 4));
        assert_eq!((packet.hop_limit(), packet.source(), packet.destination()), (9, source, destination));
        packet.set_traffic_class(0x54);
        assert_eq!(packet.traffic_class(), 0x54);
        assert_eq!(bytes[..2], [0x65, 0x40]);
    }

    #[test]
    fn extension_headers_are_walked() {
        // Hop-by-hop (8), destination options (16), routing (8), authentication (12 = (1 + 2) * 4), then TCP.
        let bytes = packet("00", &format!("3c00{} 2b01{} 3300{} 0601{} 0401", z(6), z(14), z(6), z(10)));
        let upper = Packet::new_checked(&bytes).unwrap().upper().unwrap();
        assert_eq!((upper.protocol, upper.offset), (6, 40 + 8 + 16 + 8 + 12));
        assert_eq!((upper.fragment, upper.next_header_offset), (None, 40 + 8 + 16 + 8));
    }

    fn z(octets: usize) -> String {
        "00".repeat(octets)
    }

    #[test]
    fn fragments_end_the_walk_but_for_the_first() {
        let bytes = packet("2c", &format!("3c00 0001 0000cafe 1100{} 0401", z(6)));
        let upper = Packet::new_checked(&bytes).unwrap().upper().unwrap();
        let first = Fragment { header_offset: 40, offset: 0, more: true, identification: 0xcafe };
        assert_eq!((upper.protocol, upper.offset, upper.fragment), (17, 56, Some(first)));
        let bytes = packet("2c", &format!("3c00 05a8 0000cafe 1100{} 0401", z(6)));
        let upper = Packet::new_checked(&bytes).unwrap().upper().unwrap();
        let last = Fragment { header_offset: 40, offset: 1448, more: false, identification: 0xcafe };
        assert_eq!((upper.protocol, upper.offset, upper.fragment), (60, 48, Some(last)));
        let mut emitted = [0xee; 8];
        last.emit(&mut emitted, 60);
        assert_eq!(emitted, bytes[40..48]);
    }

    #[test]
    fn walks_end() {
        let endless = packet("3c", &format!("3c00{}", z(6)).repeat(EXTENSION_HEADERS_MAX + 1));
        assert_eq!(Packet::new_checked(&endless).unwrap().upper(), Err(Error::Unsupported));
        for payload in ["", "11", "1101 0000 0000 0000", "11ff 0000 0000 0000"] {
            let bytes = packet("3c", payload);
            assert_eq!(Packet::new_checked(&bytes).unwrap().upper(), Err(Error::Truncated), "{payload}");
        }
    }
}
