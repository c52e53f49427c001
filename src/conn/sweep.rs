//! Expiry: a pass over the buckets, a slice at a time, that frees what has run out.

use crate::base::Instant;
use crate::conn::bucket::{Bucket, Held, coarse};
use crate::conn::entry::ticks;
use crate::conn::table::{Place, Table};

/// Where a sweep goes on.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cursor {
    bucket: usize,
}

impl Cursor {
    /// A cursor that starts at `bucket`; workers start apart from one another.
    pub const fn new(bucket: usize) -> Self {
        Self { bucket }
    }
}

impl Table {
    /// Sweeps the next `buckets` buckets from the cursor on, wrapping at the end. Returns how many entries went.
    ///
    /// The table has wrapped ticks of 10 ms: a whole pass must take less than two hours, which one a second does.
    pub fn sweep(&self, cursor: &mut Cursor, buckets: usize, now: Instant) -> usize {
        let mut freed = 0;
        for _ in 0..buckets.min(self.bucket_count()) {
            if cursor.bucket >= self.bucket_count() {
                cursor.bucket = 0;
            }
            freed += self.sweep_bucket(cursor.bucket, now);
            cursor.bucket += 1;
        }
        freed
    }

    /// Sweeps every bucket.
    pub fn sweep_all(&self, now: Instant) -> usize {
        self.sweep(&mut Cursor::default(), self.bucket_count(), now)
    }

    fn sweep_bucket(&self, index: usize, now: Instant) -> usize {
        let line = self.bucket_at(index);
        let now_ticks = ticks(now);
        let now_coarse = coarse(now_ticks, now_ticks);
        // Read without the lock: a change in this moment is for the next pass.
        let bucket = Bucket(line);
        let is_due = |slot: usize| (now_coarse.wrapping_sub(bucket.bound(slot)) as i16) >= 0;
        if bucket.overflow().is_none() && !bucket.taken().any(is_due) {
            return 0;
        }
        let held = Held::lock(line);
        let mut freed = 0;
        for slot in bucket.taken().filter(|&slot| is_due(slot)) {
            let id = bucket.id(slot);
            let place = Place { id, slot: Some(slot as u8) };
            let entry = self.entry(id);
            if entry.is_expired(now_ticks) && self.retire(held.bucket, place, now_ticks) {
                freed += 1;
                continue;
            }
            bucket.set_bound(slot, coarse(entry.deadline(), now_ticks));
        }
        for entry in self.overflow(held.bucket) {
            let place = Place { id: entry.id(), slot: None };
            if entry.is_expired(now_ticks) && self.retire(held.bucket, place, now_ticks) {
                freed += 1;
            }
        }
        freed
    }
}
