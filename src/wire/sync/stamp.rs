//! The number of a datagram: an addition of lvx that others skip.
//!
//! ```text
//! +---------+---------+-------------------+---------------------------------------+
//! |  0x61   |    6    |       epoch       |                number                 |
//! +---------+---------+-------------------+---------------------------------------+
//! ```
//! It is the last option of the datagram's last entry. Datagrams without entries, and those of version 0, have no place
//! for it.

use crate::base::Family;
use crate::wire::sync::read::last_entry;
use crate::wire::sync::{FIXED_OCTETS, HEADER_OCTETS, Message, SIZE_MASK, TYPE_V6, address_octets, option};
use crate::wire::{get_u16, get_u32, set_u16};

/// Octets by which a number makes a datagram longer.
pub const STAMP_OCTETS: usize = 8;
const DATA_OCTETS: usize = STAMP_OCTETS - 2;
const KIND: u8 = option::STAMP | option::MAY_BE_SKIPPED;

/// Which datagram of a sync port it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stamp {
    /// Which run of the master's daemon counted.
    pub epoch: u16,
    /// Counts the datagrams of one sync port, wrapping.
    pub number: u32,
}

/// Numbers a version 1 datagram as [`Writer::finish`](super::Writer::finish) made it; false when it has no place for a
/// number. A datagram that is numbered already gets another number in front of the old one's place, so it must not be.
#[must_use]
pub fn put_stamp(datagram: &mut Vec<u8>, stamp: Stamp) -> bool {
    let Some(&[0, _, _, _, entries, 1, 0, 0]) = datagram.get(..HEADER_OCTETS) else { return false };
    let Some(last) = last_entry(datagram, entries).filter(|last| last.end == datagram.len()) else { return false };
    let (entry, whole) = (last.len() + STAMP_OCTETS, datagram.len() + STAMP_OCTETS);
    if entry > usize::from(SIZE_MASK) || whole > usize::from(u16::MAX) {
        return false;
    }
    set_u16(datagram, 2..4, whole as u16);
    set_u16(datagram, last.start + 2..last.start + 4, entry as u16);
    datagram.extend([KIND, DATA_OCTETS as u8]);
    datagram.extend(stamp.epoch.to_be_bytes());
    datagram.extend(stamp.number.to_be_bytes());
    true
}

impl Message<'_> {
    /// Its number, if it has one.
    pub fn stamp(&self) -> Option<Stamp> {
        let entry = self.last_entry()?;
        let family = if entry[0] & TYPE_V6 == 0 { Family::V4 } else { Family::V6 };
        let mut options = entry.get(FIXED_OCTETS + 3 * address_octets(family)..)?;
        while let [kind, length, rest @ ..] = options {
            let (data, rest) = rest.split_at_checked(usize::from(*length))?;
            if *kind == KIND && data.len() == DATA_OCTETS {
                return Some(Stamp { epoch: get_u16(data, 0..2), number: get_u32(data, 2..6) });
            }
            options = rest;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Address, Endpoint, Rng};
    use crate::wire::sync::{Record, Version, Writer};

    fn record(v6: bool, left_ms: Option<u32>) -> Record<'static> {
        let address = if v6 { Address::v6(0xfd00 << 112 | 7) } else { Address::v4(7) };
        let endpoint = Endpoint::new(address, 80);
        Record { left_ms, ..Record::example(endpoint, endpoint, endpoint) }
    }

    fn datagram(version: Version, records: &[Record<'_>]) -> Vec<u8> {
        let mut writer = Writer::new(version, 5, 1472);
        assert!(records.iter().all(|record| writer.push(record)));
        writer.finish()
    }

    #[test]
    fn a_number_is_read_and_changes_no_connection() {
        for v6 in [false, true] {
            for left_ms in [None, Some(77)] {
                let records = [record(false, None), record(v6, left_ms)];
                let mut octets = datagram(Version::V1, &records);
                let length = octets.len();
                assert_eq!(Message::parse(&octets).unwrap().stamp(), None);
                let stamp = Stamp { epoch: 0xabcd, number: 0xfedc_ba98 };
                assert!(put_stamp(&mut octets, stamp));
                assert_eq!(octets.len(), length + STAMP_OCTETS);
                let message = Message::parse(&octets).unwrap();
                assert_eq!(message.stamp(), Some(stamp));
                assert_eq!(message.records().collect::<Vec<_>>(), records.map(Ok));
            }
        }
    }

    #[test]
    fn where_there_is_no_place_for_a_number() {
        let stamp = Stamp { epoch: 1, number: 2 };
        for octets in [datagram(Version::V1, &[]), datagram(Version::V0, &[record(false, None)]), Vec::new()] {
            let mut numbered = octets.clone();
            assert!(!put_stamp(&mut numbered, stamp));
            assert_eq!(numbered, octets);
        }
    }

    #[test]
    fn arbitrary_octets_have_no_number_beyond_their_end() {
        let mut rng = Rng::new(23);
        let mut read = 0;
        for _ in 0..50_000 {
            let mut octets =
                datagram(Version::V1, &[record(rng.below(2) == 0, None), record(rng.below(2) == 0, Some(1))]);
            assert!(put_stamp(&mut octets, Stamp { epoch: 1, number: 2 }));
            for _ in 0..rng.below(4) {
                let at = 4 + rng.below(octets.len() as u32 - 4) as usize;
                octets[at] = rng.next_u32() as u8;
            }
            octets.truncate(octets.len() - rng.below(12) as usize);
            let length = octets.len() as u16;
            octets[2..4].copy_from_slice(&length.to_be_bytes());
            read += u32::from(Message::parse(&octets).unwrap().stamp().is_some());
        }
        assert!((1000..50_000).contains(&read), "{read}");
    }
}
