//! What tells whether two sides mean the same records, in whatever order.

use crate::base::Endpoint;
use crate::wire::sync::Record;

/// Count and sums over records. No secret: it finds what went wrong, not what somebody made wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Digest {
    /// How many.
    pub records: u64,
    /// Sum of their hashes, wrapping.
    pub sum: u64,
    /// Likewise of other hashes.
    pub mix: u64,
}

impl Digest {
    /// Adds a record.
    pub fn add(&mut self, record: &Record<'_>) {
        let endpoint = |hash: u64, endpoint: &Endpoint| {
            let address = endpoint.address.0;
            fold(fold(fold(hash, address as u64), (address >> 64) as u64), u64::from(endpoint.port))
        };
        let head = u64::from(record.protocol) << 48 | u64::from(record.state) << 32 | u64::from(record.flags);
        let times = u64::from(record.timeout_s) << 32 | u64::from(record.left_ms.unwrap_or(u32::MAX));
        let mut hash = fold(fold(fold(0, head), u64::from(record.mark)), times);
        for each in [&record.client, &record.virtual_service, &record.destination] {
            hash = endpoint(hash, each);
        }
        for data in [record.engine_name, record.engine_data] {
            hash = data.iter().fold(fold(hash, data.len() as u64), |hash, &octet| fold(hash, octet.into()));
        }
        self.records += 1;
        self.sum = self.sum.wrapping_add(hash);
        self.mix = self.mix.wrapping_add(fold(hash, self::MIX));
    }
}

/// Odd numbers without a pattern: the fractions of the golden ratio and of the square root of 2.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
const MIX: u64 = 0x6a09_e667_f3bc_c909;

/// One word more, by the product's two halves.
const fn fold(hash: u64, word: u64) -> u64 {
    let product = (hash ^ STEP) as u128 * (word ^ MIX) as u128;
    (product as u64 ^ (product >> 64) as u64).wrapping_add(hash.rotate_left(23))
}
