//! Header formats: views over borrowed octets, messages that we begin ourselves, checksums, capture files.
//!
//! Every format is one file in one order: the offsets as named ranges (`mod field`), a view over borrowed octets,
//! getters, setters, tests on literal octets.
//!
//! **Invariant**: `new_checked` is the only door for octets that came from outside. After it no getter and no
//! setter panics, as long as the length fields themselves are not changed to something longer; before it (on a view
//! made by `new_unchecked`) each of them may.
//!
//! **Invariant**: nothing here allocates (but for [`pcapng`], the datagrams that [`sync`] writes and the streams of
//! [`resync`]), logs or decides.

pub mod arp;
pub mod checksum;
pub mod ethernet;
pub mod gre;
pub mod gue;
pub mod icmpv4;
pub mod icmpv6;
pub mod ipv4;
pub mod ipv6;
pub mod neighbour;
pub mod pcapng;
pub mod resync;
pub mod sctp;
pub mod sync;
pub mod tcp;
pub mod udp;
pub mod vrrp;

use std::fmt;
use std::ops::Range;

/// Why octets are not the header that they should be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Error {
    /// The octets end before the header, or before what a length field promises, does.
    Truncated,
    /// A field contradicts the format.
    Malformed,
    /// Well formed, but nothing that we handle.
    Unsupported,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Error::Truncated => "truncated",
            Error::Malformed => "malformed",
            Error::Unsupported => "unsupported",
        })
    }
}

impl std::error::Error for Error {}

/// The octets of a fixed field.
#[inline(always)]
fn array<const N: usize>(bytes: &[u8], field: Range<usize>) -> [u8; N] {
    let mut octets = [0; N];
    octets.copy_from_slice(&bytes[field]);
    octets
}

#[inline(always)]
fn get_u16(bytes: &[u8], field: Range<usize>) -> u16 {
    u16::from_be_bytes(array(bytes, field))
}

#[inline(always)]
fn get_u32(bytes: &[u8], field: Range<usize>) -> u32 {
    u32::from_be_bytes(array(bytes, field))
}

#[inline(always)]
fn set_u16(bytes: &mut [u8], field: Range<usize>, value: u16) {
    bytes[field].copy_from_slice(&value.to_be_bytes());
}

#[inline(always)]
fn set_u32(bytes: &mut [u8], field: Range<usize>, value: u32) {
    bytes[field].copy_from_slice(&value.to_be_bytes());
}

/// The octets of a hexadecimal text, for tests; spaces are skipped.
#[cfg(test)]
pub(crate) fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Address, Rng};

    /// Every door, every getter behind it and both makers of errors, with octets that are nearly packets.
    #[test]
    fn arbitrary_octets_never_panic() {
        let mut rng = Rng::new(11);
        let mut passed = [0; 2];
        for _ in 0..50_000 {
            let mut bytes: Vec<u8> = (0..rng.below(120)).map(|_| rng.next_u32() as u8).collect();
            if bytes.len() > 8 {
                bytes[0] = [0x45, 0x46, 0x60, bytes[0]][rng.below(4) as usize];
                bytes[2] &= 0x01;
                bytes[4] &= 0x01;
                bytes[6] = [0, 43, 44, 51, 60, bytes[6]][rng.below(6) as usize];
            }
            let mut buffer = [0; 1280];
            if let Ok(packet) = ipv4::Packet::new_header_checked(&bytes) {
                assert!(packet.payload().len() <= bytes.len());
                let _ = (packet.has_valid_checksum(), packet.fragment_offset(), packet.source());
                let failure = icmpv4::Failure::TimeExceeded;
                assert_eq!(icmpv4::emit_error(&mut buffer, Address::v4(1), 0, failure, &bytes), Ok(()));
            }
            if let Ok(packet) = ipv4::Packet::new_checked(&mut bytes[..]) {
                passed[0] += 1;
                let mut packet = packet;
                packet.decrement_ttl();
                packet.fill_checksum();
                assert!(packet.has_valid_checksum());
            }
            if let Ok(packet) = ipv6::Packet::new_header_checked(&bytes) {
                if let Ok(upper) = packet.upper() {
                    passed[1] += 1;
                    assert!(upper.offset <= bytes.len() && upper.next_header_offset < upper.offset);
                }
                let _ = (packet.payload(), packet.flow_label());
                let failure = icmpv6::Failure::NoRoute;
                assert_eq!(icmpv6::emit_error(&mut buffer, Address::v6(1), failure, &bytes), Ok(()));
            }
            if let Ok(frame) = ethernet::Frame::new_checked(&bytes) {
                let _ = (frame.payload(), frame.ether_type(), frame.vlan());
            }
            if let Ok(segment) = tcp::Segment::new_checked(&bytes) {
                let _ = (segment.payload(), segment.flags(), segment.window());
            }
            let _ = (gre::carried(&bytes), gue::carried(&bytes));
            let _ = udp::Datagram::new_checked(&bytes).map(|datagram| datagram.length());
            let _ = icmpv4::Message::new_checked(&bytes).map(|message| message.is_error());
            let _ = icmpv6::Message::new_checked(&bytes).map(|message| message.is_error());
        }
        assert!(passed.iter().all(|&count| count > 100), "the doors let some through: {passed:?}");
    }
}
