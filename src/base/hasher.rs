//! A hasher for small keys that the operator or the host chooses: fast, and no defence against chosen collisions.

use std::hash::{BuildHasherDefault, Hasher};

/// Makes [`WordHasher`]s, for maps.
pub type BuildWordHasher = BuildHasherDefault<WordHasher>;

/// Mixes a key word by word.
#[derive(Default, Debug)]
pub struct WordHasher(u64);

impl Hasher for WordHasher {
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(u64::from(byte));
        }
    }

    #[inline]
    fn write_u64(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    #[inline]
    fn write_u8(&mut self, word: u8) {
        self.write_u64(u64::from(word));
    }

    #[inline]
    fn write_u16(&mut self, word: u16) {
        self.write_u64(u64::from(word));
    }

    #[inline]
    fn write_u32(&mut self, word: u32) {
        self.write_u64(u64::from(word));
    }

    #[inline]
    fn write_u128(&mut self, word: u128) {
        self.write_u64(word as u64);
        self.write_u64((word >> 64) as u64);
    }

    #[inline]
    fn write_isize(&mut self, word: isize) {
        self.write_u64(word as u64);
    }

    #[inline]
    fn finish(&self) -> u64 {
        // A map takes its position from the lower bits and its tag from the upper ones.
        self.0 ^ self.0 >> 32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Address;
    use std::collections::BTreeSet;
    use std::hash::BuildHasher;

    #[test]
    fn neighbours_spread_over_a_small_map() {
        let build = BuildWordHasher::default();
        for mask in [0xff_u64, 0xff << 56] {
            let places: BTreeSet<u64> = (0..256).map(|n| build.hash_one(Address::v4(0x0a02_0000 + n)) & mask).collect();
            assert!(places.len() > 128, "{mask:#x}: {}", places.len());
        }
    }
}
