//! The Internet checksum: RFC 1071 in full, RFC 1624 by difference.
//!
//! It is the complement of the one's-complement sum of all 16-bit words. Three properties carry everything here:
//! words may be added in any order and any grouping; a word is removed by adding its complement; and the sum of
//! byte-swapped words is the byte-swapped sum, so that octets can be added in the processor's order.

use crate::base::{Address, Family};

/// An unfolded one's-complement sum of 16-bit words in host order.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Sum(u64);

impl Sum {
    /// Adds the octets, the first being the upper half of a word; an odd last octet is followed by zero.
    #[inline]
    pub fn add_bytes(self, bytes: &[u8]) -> Self {
        // Words of 32 bits in a 64-bit sum: no carry is lost before 2^32 words.
        let mut native = 0u64;
        let mut words = bytes.chunks_exact(4);
        for word in &mut words {
            native += u64::from(u32::from_ne_bytes([word[0], word[1], word[2], word[3]]));
        }
        let mut last = [0; 4];
        let rest = words.remainder();
        last[..rest.len()].copy_from_slice(rest);
        native += u64::from(u32::from_ne_bytes(last));
        Sum(self.0 + u64::from(u16::from_be(fold(native))))
    }

    /// Adds a 16-bit word.
    #[inline]
    pub const fn add_u16(self, word: u16) -> Self {
        Sum(self.0 + word as u64)
    }

    /// Adds a 32-bit word.
    #[inline]
    pub const fn add_u32(self, word: u32) -> Self {
        Sum(self.0 + word as u64)
    }

    /// Adds an address as it stands on the wire: 4 or 16 octets.
    #[inline]
    pub fn add_address(self, address: Address) -> Self {
        match address.family() {
            Family::V4 => self.add_u32(address.low_u32()),
            Family::V6 => address.words().iter().fold(self, |sum, &word| sum.add_u32(word)),
        }
    }

    /// The sum folded to 16 bits, not complemented.
    #[inline]
    pub const fn folded(self) -> u16 {
        fold(self.0)
    }

    /// The checksum: the complement of the folded sum.
    #[inline]
    pub const fn checksum(self) -> u16 {
        !fold(self.0)
    }
}

/// To 16 bits, every carry out of the top coming in at the bottom: halves are added once as 64 bits and once as 32,
/// there both ways round, so that the upper half of the result has the carry of the lower.
#[inline]
const fn fold(sum: u64) -> u16 {
    let (sum, carry) = (sum as u32).overflowing_add((sum >> 32) as u32);
    let sum = sum + carry as u32;
    (sum.wrapping_add(sum.rotate_left(16)) >> 16) as u16
}

/// The checksum of some octets.
#[inline]
pub fn of(bytes: &[u8]) -> u16 {
    Sum::default().add_bytes(bytes).checksum()
}

/// The sum of the pseudo header of TCP, UDP and ICMPv6 (RFC 9293 section 3.1, RFC 8200 section 8.1).
///
/// ```text
/// IPv4: source address (4), destination address (4), zero (1), protocol (1), length (2)
/// IPv6: source address (16), destination address (16), length (4), zero (3), next header (1)
/// ```
/// `length` counts the octets of transport header and payload. Both addresses are of one family.
#[inline]
pub fn pseudo_header(source: Address, destination: Address, protocol: u8, length: u32) -> Sum {
    Sum::default().add_address(source).add_address(destination).add_u16(protocol.into()).add_u32(length)
}

/// The checksum of a transport message whose checksum field counts as zero at `field` (its first octet).
///
/// # Panics
/// When the field lies outside the message.
pub fn transport(pseudo_header: Sum, message: &[u8], field: usize) -> u16 {
    let stored = u16::from_be_bytes([message[field], message[field + 1]]);
    debug_assert!(field.is_multiple_of(2));
    pseudo_header.add_bytes(message).add_u16(!stored).checksum()
}

/// UDP sends the checksum 0 as 0xffff, because 0 says that there is none (RFC 768).
#[inline]
pub const fn not_zero(checksum: u16) -> u16 {
    if checksum == 0 { 0xffff } else { checksum }
}

/// True when a checksum field holds the bare sum of the pseudo header: the sender's stack left the rest to its
/// hardware, and no hardware was on the way (frames of a local stack over veth). An update by difference of such a
/// field keeps it wrong; it must be computed in full.
#[inline]
pub fn is_partial(field: u16, pseudo_header: Sum) -> bool {
    field == pseudo_header.folded()
}

/// A checksum under change, RFC 1624 equation 3: `HC' = ~(~HC + ~m + m')`.
#[derive(Clone, Copy, Debug)]
#[must_use = "an update does nothing until it is finished"]
pub struct Update(u64);

impl Update {
    /// Starts from the checksum as it stands in the header.
    #[inline]
    pub const fn new(checksum: u16) -> Self {
        Update(!checksum as u64)
    }

    /// A 16-bit word leaves.
    #[inline]
    pub const fn remove_u16(self, word: u16) -> Self {
        Update(self.0 + !word as u64)
    }

    /// A 16-bit word comes.
    #[inline]
    pub const fn add_u16(self, word: u16) -> Self {
        Update(self.0 + word as u64)
    }

    /// A 32-bit word leaves.
    #[inline]
    pub const fn remove_u32(self, word: u32) -> Self {
        Update(self.0 + !word as u64)
    }

    /// A 32-bit word comes.
    #[inline]
    pub const fn add_u32(self, word: u32) -> Self {
        Update(self.0 + word as u64)
    }

    /// An address leaves: 4 or 16 octets.
    #[inline]
    pub fn remove_address(self, address: Address) -> Self {
        match address.family() {
            Family::V4 => self.remove_u32(address.low_u32()),
            Family::V6 => address.words().iter().fold(self, |update, &word| update.remove_u32(word)),
        }
    }

    /// An address comes.
    #[inline]
    pub fn add_address(self, address: Address) -> Self {
        match address.family() {
            Family::V4 => self.add_u32(address.low_u32()),
            Family::V6 => address.words().iter().fold(self, |update, &word| update.add_u32(word)),
        }
    }

    /// The new checksum; for UDP see [`not_zero`].
    #[inline]
    pub const fn finish(self) -> u16 {
        !fold(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Rng;
    use crate::wire::hex;

    /// Word by word, as RFC 1071 section 4.1 writes it.
    fn plain(bytes: &[u8]) -> u16 {
        let mut sum = 0u32;
        for pair in bytes.chunks(2) {
            sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !(sum as u16)
    }

    fn random(rng: &mut Rng, length: usize) -> Vec<u8> {
        (0..length).map(|_| rng.next_u32() as u8).collect()
    }

    #[test]
    fn rfc_1071_section_3_example() {
        assert_eq!(Sum::default().add_bytes(&hex("0001 f203 f4f5 f6f7")).folded(), 0xddf2);
    }

    #[test]
    fn every_length_agrees_with_the_plain_sum() {
        let mut rng = Rng::new(1);
        for length in 0..200 {
            let bytes = random(&mut rng, length);
            assert_eq!(of(&bytes), plain(&bytes), "{length}");
        }
        assert_eq!(of(&[0xff; 70_000]), plain(&[0xff; 70_000]));
    }

    #[test]
    fn rfc_1624_section_4_example() {
        assert_eq!(Update::new(0xdd2f).remove_u16(0x5555).add_u16(0x3285).finish(), 0x0000);
    }

    #[test]
    fn updates_agree_with_the_sum_in_full() {
        let mut rng = Rng::new(2);
        for _ in 0..2000 {
            let mut bytes = random(&mut rng, 64);
            let before = of(&bytes);
            let old = bytes.clone();
            let new = random(&mut rng, 16);
            bytes[4..20].copy_from_slice(&new);
            let address = |octets: &[u8]| Address(u128::from_be_bytes(octets.try_into().unwrap()));
            let update = Update::new(before).remove_address(address(&old[4..20])).add_address(address(&new));
            assert_eq!(update.finish(), of(&bytes));
            let port = rng.next_u32() as u16;
            let update = update.remove_u16(u16::from_be_bytes([bytes[30], bytes[31]])).add_u16(port);
            bytes[30..32].copy_from_slice(&port.to_be_bytes());
            assert_eq!(update.finish(), of(&bytes));
            let word = rng.next_u32();
            let v4 = Address::v4(u32::from_be_bytes(bytes[40..44].try_into().unwrap()));
            let update = update.remove_address(v4).add_address(Address::v4(word));
            bytes[40..44].copy_from_slice(&word.to_be_bytes());
            assert_eq!(update.finish(), of(&bytes));
        }
    }

    /// UDP "hello" from 10.1.0.2:41001 to 10.2.0.2:5353, as the kernel sends it after masquerading.
    #[test]
    fn a_udp_message_of_the_kernel() {
        let message = hex("a029 14e9 000d f2e8 68656c6c6f");
        let sum = pseudo_header(Address::v4(0x0a010002), Address::v4(0x0a020002), 17, 13);
        assert_eq!(transport(sum, &message, 6), 0xf2e8);
        assert!(!is_partial(0xf2e8, sum));
        assert!(is_partial(sum.folded(), sum));
        assert_eq!((not_zero(0), not_zero(0x1234)), (0xffff, 0x1234));
    }
}
