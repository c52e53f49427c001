//! A master's table on its way to one backup, in small steps, and how fast all of them may go.

use crate::base::{Duration, Instant};
use crate::conn::Table;
use crate::conn::sync::{Part, Policy};
use crate::control::sync::resync::server::PENDING_HIGH;
use crate::control::sync::wire_record;
use crate::wire::resync::{Digest, Frame};
use crate::wire::sync::{Record, Version, Writer};

/// Buckets of the table that one step looks at: most are empty in a table that is large for what it holds, and a step takes
/// well under a millisecond.
pub const STEP_BUCKETS: usize = 8192;
/// So much of the rate may be used at once after a pause.
const BURST: Duration = Duration::from_millis(5);
/// Octets of the datagrams that a table is told in.
const TABLE_DATAGRAM_OCTETS: usize = 12_000;

/// Connections that may be told of: a bucket of tokens.
pub(super) struct Budget {
    per_second: u64,
    /// Billionths of a connection; below zero after a bucket that held more than was left.
    left: i64,
    at: Instant,
}

/// Parts of a connection that are counted.
const PARTS: i64 = 1_000_000_000;

impl Budget {
    /// So many a second.
    pub(super) fn new(per_second: u32, now: Instant) -> Self {
        Self { per_second: per_second.max(1).into(), left: 0, at: now }
    }

    /// Connections that may go now.
    pub(super) fn refill(&mut self, now: Instant) -> u64 {
        let grown = |passed: Duration| {
            let parts = (passed.as_nanos() as u64).saturating_mul(self.per_second);
            i64::try_from(parts).unwrap_or(i64::MAX)
        };
        self.left = self.left.saturating_add(grown(now - self.at)).min(grown(BURST).max(PARTS));
        self.at = now;
        (self.left / PARTS).max(0).cast_unsigned()
    }

    pub(super) fn take(&mut self, records: u64) {
        self.left = self.left.saturating_sub_unsigned(records.saturating_mul(PARTS.cast_unsigned()));
    }
}

/// A table under way.
pub(super) struct Walk {
    number: u32,
    part: Part,
    bucket: usize,
    empty: Writer,
    writer: Writer,
    digest: Digest,
}

impl Walk {
    /// A walk that begins, for the resync of this number.
    pub(super) fn new(number: u32, syncid: u8) -> Self {
        let empty = Writer::new(Version::V1, syncid, TABLE_DATAGRAM_OCTETS);
        let writer = empty.clone();
        Self { number, part: Part::Templates, bucket: 0, empty, writer, digest: Digest::default() }
    }

    /// The resync that it is for.
    pub(super) const fn number(&self) -> u32 {
        self.number
    }

    /// What it has told of.
    pub(super) const fn digest(&self) -> Digest {
        self.digest
    }

    /// Tells of the next buckets, until there are `records` or enough buckets. True at the end of the table.
    pub(super) fn step(
        &mut self,
        now: Instant,
        connections: &Table,
        policy: &Policy,
        records: u64,
        octets: &mut Vec<u8>,
    ) -> bool {
        let until = self.digest.records + records;
        let number = self.number;
        for _ in 0..STEP_BUCKETS {
            if self.digest.records >= until || octets.len() >= PENDING_HIGH {
                break;
            }
            if self.bucket == connections.bucket_count() {
                if self.part == Part::Connections {
                    self.flush(octets);
                    return true;
                }
                (self.part, self.bucket) = (Part::Connections, 0);
            }
            let (writer, digest, empty) = (&mut self.writer, &mut self.digest, &self.empty);
            connections.tell_bucket(self.bucket, self.part, policy, now, |record, left_ms, data| {
                let record = Record { left_ms: Some(left_ms), ..wire_record(&record, data) };
                digest.add(&record);
                if !writer.push(&record) {
                    let full = std::mem::replace(writer, empty.clone());
                    Frame::Records { number, datagram: &full.finish() }.emit(octets);
                    // The first always has room.
                    let _ = writer.push(&record);
                }
            });
            self.bucket += 1;
        }
        self.flush(octets);
        false
    }

    fn flush(&mut self, octets: &mut Vec<u8>) {
        if self.writer != self.empty {
            let full = std::mem::replace(&mut self.writer, self.empty.clone());
            Frame::Records { number: self.number, datagram: &full.finish() }.emit(octets);
        }
    }
}
