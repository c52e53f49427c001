//! What a persistence engine remembers of a template: records of fixed size in memory of fixed size.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use crate::base::Lock;
use crate::base::memory::{Line, Slab};

/// Longest data of an engine, octets (`IP_VS_PEDATA_MAXLEN`).
pub const ENGINE_DATA_OCTETS_MAX: usize = 255;

/// Templates of persistence engines that a director holds; one more is refused as if the table were full, and
/// counted with it.
pub const ENGINE_RECORDS_MAX: usize = 1 << 16;

/// One octet of length, then the data.
const WORDS: usize = (1 + ENGINE_DATA_OCTETS_MAX).div_ceil(4);

/// A record as octets: the length, then the data.
pub type EngineOctets = [u8; 1 + ENGINE_DATA_OCTETS_MAX];

/// The records. Memory that no record has used yet costs nothing.
pub(super) struct EngineRecords {
    cells: Slab<Line<WORDS>>,
    free: Lock<FreeRecords>,
}

#[derive(Default)]
struct FreeRecords {
    /// The first record given back; each holds the number of the next in its first word.
    head: u32,
    /// Records handed out for the first time so far; number 0 is none.
    fresh: u32,
}

impl EngineRecords {
    pub(super) fn new() -> Self {
        Self { cells: Slab::new(ENGINE_RECORDS_MAX + 1), free: Lock::default() }
    }

    fn words(&self, number: u32) -> &[AtomicU32; WORDS] {
        &self.cells[number as usize].0
    }

    /// A record that holds `data`; `None` when all are in use.
    pub(super) fn store(&self, data: &[u8]) -> Option<u32> {
        debug_assert!(data.len() <= ENGINE_DATA_OCTETS_MAX);
        let number = {
            let mut free = self.free.lock();
            if free.head != 0 {
                let number = free.head;
                free.head = self.words(number)[0].load(Relaxed);
                number
            } else if (free.fresh as usize) < ENGINE_RECORDS_MAX {
                free.fresh += 1;
                free.fresh
            } else {
                return None;
            }
        };
        for (index, word) in self.words(number).iter().enumerate() {
            word.store(word_of(data, index), Relaxed);
        }
        Some(number)
    }

    /// Gives a record back.
    pub(super) fn free(&self, number: u32) {
        let mut free = self.free.lock();
        self.words(number)[0].store(free.head, Relaxed);
        free.head = number;
    }

    /// True when the record holds exactly `data`.
    pub(super) fn holds(&self, number: u32, data: &[u8]) -> bool {
        let words = (1 + data.len()).div_ceil(4);
        self.words(number)[..words].iter().enumerate().all(|(index, word)| word.load(Relaxed) == word_of(data, index))
    }

    /// The data of a record.
    pub(super) fn load(&self, number: u32) -> Vec<u8> {
        data_of(&self.octets(number)).to_vec()
    }

    /// A record by value; empty for a number that none has: who reads an entry without its bucket may meet anything.
    pub(super) fn octets(&self, number: u32) -> EngineOctets {
        let mut octets = [0; 1 + ENGINE_DATA_OCTETS_MAX];
        let words = self.cells.get(number as usize).map_or(&[][..], |cell| cell.0.as_slice());
        for (four, word) in octets.chunks_exact_mut(4).zip(words) {
            four.copy_from_slice(&word.load(Relaxed).to_be_bytes());
        }
        octets
    }
}

/// The data in a record.
pub fn data_of(octets: &EngineOctets) -> &[u8] {
    &octets[1..=usize::from(octets[0])]
}

/// Word `index` of the record of `data`.
fn word_of(data: &[u8], index: usize) -> u32 {
    let octet = |at: usize| match at.checked_sub(1) {
        None => data.len() as u8,
        Some(at) => data.get(at).copied().unwrap_or(0),
    };
    u32::from_be_bytes([0, 1, 2, 3].map(|within| octet(index * 4 + within)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_keep_data_of_every_length_and_are_used_again() {
        let records = EngineRecords::new();
        let data: Vec<u8> = (0..=255).collect();
        for length in 0..=ENGINE_DATA_OCTETS_MAX {
            let number = records.store(&data[..length]).unwrap();
            assert_eq!(number, 1, "the one given back");
            assert_eq!(records.load(number), data[..length]);
            assert!(records.holds(number, &data[..length]));
            assert!(length == 0 || !records.holds(number, &data[..length - 1]));
            assert!(length == ENGINE_DATA_OCTETS_MAX || !records.holds(number, &data[..length + 1]));
            records.free(number);
        }
    }

    /// The number of an alias of full NAT, read from a cell that is just becoming a template's.
    #[test]
    fn what_is_no_record_is_empty() {
        let records = EngineRecords::new();
        for number in [ENGINE_RECORDS_MAX as u32 + 1, 1 << 31, u32::MAX] {
            assert_eq!(records.load(number), b"");
        }
    }

    #[test]
    fn the_last_record_is_the_last() {
        let records = EngineRecords::new();
        for number in 1..=ENGINE_RECORDS_MAX as u32 {
            assert_eq!(records.store(b"x"), Some(number));
        }
        assert_eq!(records.store(b"x"), None);
        records.free(7);
        assert_eq!(records.store(b"y"), Some(7));
    }
}
