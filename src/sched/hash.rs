//! Hashes of the schedulers that choose by address, as the kernel computes them: a packet's destination must not
//! depend on whether the kernel or lvx balances it.
//!
//! Source: `include/linux/hash.h`, `lib/siphash.c` and the `ip_vs_*_hashkey` of `net/netfilter/ipvs`, Linux 6.1;
//! SipHash: Aumasson and Bernstein 2012.

use crate::base::{Address, Family};

/// An address as 32 bits: IPv4 as it is, of IPv6 the four words exclusive-or.
///
/// `family` is the service's. Where a tunnelled destination has the other one, the kernel reads the same memory by
/// the service's family: an IPv4 address is its own fold, of an IPv6 address the first word counts.
pub(super) fn fold(family: Family, address: Address) -> u32 {
    match (family, address.family()) {
        (_, Family::V4) => address.low_u32(),
        (Family::V4, Family::V6) => address.words()[0],
        (Family::V6, Family::V6) => address.words().into_iter().fold(0, |sum, word| sum ^ word),
    }
}

/// The golden ratio of 32 bits.
const GOLDEN_RATIO_32: u32 = 0x61c8_8647;

/// The upper `bits` (1..=32) bits of a multiplicative hash (`hash_32`).
pub(super) const fn hash_32(value: u32, bits: u32) -> usize {
    (value.wrapping_mul(GOLDEN_RATIO_32) >> (32 - bits)) as usize
}

/// SipHash with one round a block and three at the end, its state folded to 32 bits (the kernel's `hsiphash` on
/// 64-bit machines).
#[derive(Clone, Copy, Debug)]
pub(super) struct SipKey(pub(super) u64, pub(super) u64);

impl SipKey {
    /// The hash of one 32-bit value.
    pub(super) fn hash_u32(self, value: u32) -> u32 {
        let mut state = State::new(self);
        state.finish(4 << 56 | u64::from(value))
    }

    /// The hash of one 128-bit value.
    pub(super) fn hash_u128(self, value: u128) -> u32 {
        let mut state = State::new(self);
        state.block(value as u64);
        state.block((value >> 64) as u64);
        state.finish(16 << 56)
    }
}

struct State([u64; 4]);

impl State {
    fn new(SipKey(k0, k1): SipKey) -> Self {
        // "somepseudorandomlygeneratedbytes", as the paper has it.
        Self([
            k0 ^ 0x736f_6d65_7073_6575,
            k1 ^ 0x646f_7261_6e64_6f6d,
            k0 ^ 0x6c79_6765_6e65_7261,
            k1 ^ 0x7465_6462_7974_6573,
        ])
    }

    fn block(&mut self, block: u64) {
        self.0[3] ^= block;
        self.round();
        self.0[0] ^= block;
    }

    fn finish(&mut self, last: u64) -> u32 {
        self.block(last);
        self.0[2] ^= 0xff;
        (0..3).for_each(|_| self.round());
        self.0.iter().fold(0, |sum, word| sum ^ word) as u32
    }

    fn round(&mut self) {
        let [mut a, mut b, mut c, mut d] = self.0;
        a = a.wrapping_add(b);
        c = c.wrapping_add(d);
        b = b.rotate_left(13) ^ a;
        d = d.rotate_left(16) ^ c;
        a = a.rotate_left(32).wrapping_add(d);
        c = c.wrapping_add(b);
        b = b.rotate_left(17) ^ c;
        d = d.rotate_left(21) ^ a;
        self.0 = [a, b, c.rotate_left(32), d];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folds() {
        let fold = |family, text: &str| super::fold(family, text.parse().unwrap());
        assert_eq!(fold(Family::V4, "10.0.0.1"), 0x0a00_0001);
        assert_eq!(fold(Family::V6, "10.0.0.1"), 0x0a00_0001);
        assert_eq!(fold(Family::V6, "2001:db8::1"), 0x2001_0db9);
        assert_eq!(fold(Family::V6, "1:2:3:4:5:6:7:8"), 0x0001_0002 ^ 0x0003_0004 ^ 0x0005_0006 ^ 0x0007_0008);
        assert_eq!(fold(Family::V4, "2001:db8::1"), 0x2001_0db8);
    }

    /// The printed buckets of `dh` and `sh`.
    #[test]
    fn printed_buckets() {
        for (address, bucket, with_port) in [
            (0x0a00_0001, 39, 203),
            (0x0a00_0002, 137, 45),
            (0xc0a8_0164, 89, 253),
            (0xcb00_7107, 124, 32),
            (0xac10_0509, 115, 23),
        ] {
            assert_eq!(hash_32(address, 8), bucket);
            assert_eq!(hash_32(address + 40000, 8), with_port);
        }
        assert_eq!(hash_32(0x2001_0db9, 8), 63);
    }

    #[test]
    fn printed_sip_hashes() {
        for (key, expected) in [
            (2_654_435_761, [0x1d5a_77c2, 0x16ec_66b2, 0x22c5_d719]),
            (2_654_446_892, [0xf882_433f, 0x8210_aad1, 0xf75a_0f5d]),
        ] {
            assert_eq!([0, 1, u32::MAX].map(|value| SipKey(key, key).hash_u32(value)), expected);
        }
    }

    #[test]
    fn wide_hashes_depend_on_all_octets_and_the_key() {
        let hash = |value| SipKey(1, 2).hash_u128(value);
        for bit in 0..128 {
            assert_ne!(hash(1 << bit), hash(0), "{bit}");
        }
        assert_ne!(SipKey(1, 3).hash_u128(0), hash(0));
    }
}
