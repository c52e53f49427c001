//! Header formats: views over borrowed octets, messages that we begin ourselves, checksums, capture files.
//!
//! Every format is one file in one order: the offsets as named ranges (`mod field`), a view over borrowed octets,
//! getters, setters, tests on literal octets.
//!
//! **Invariant**: `new_checked` is the only door for octets that came from outside. After it no getter and no
//! setter panics, as long as the length fields themselves are not changed to something longer; before it (on a view
//! made by `new_unchecked`) each of them may.
//!
//! **Invariant**: nothing here allocates (but for [`pcapng`]), logs or decides.

pub mod checksum;
pub mod ethernet;
pub mod icmpv4;
pub mod icmpv6;
pub mod ipv4;
pub mod ipv6;
pub mod pcapng;
pub mod tcp;
pub mod udp;

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
