//! Datagrams that a backup receives: hostile until they are read.

use std::fmt;
use std::ops::Range;

use crate::base::{Address, Endpoint, Family};
use crate::wire::sync::{
    ALIGNMENT, ENGINE_NAME_OCTETS_MAX, ENTRY_OCTETS_V0, FIXED_OCTETS, HEADER_OCTETS, HEADER_OCTETS_V0, Record,
    SEQUENCE_FLAGS, SEQUENCES_OCTETS, SIZE_MASK, Sequence, TYPE_V6, Version, address_octets, option,
};
use crate::wire::{Error, get_u16, get_u32};

/// A datagram whose header holds.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    octets: &'a [u8],
    /// The format.
    pub version: Version,
    /// Which group of directors it belongs to.
    pub syncid: u8,
    entries: u8,
}

/// What is wrong with an entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flaw {
    /// It cannot be told where it ends, or it contradicts itself: nothing that follows is read.
    Fatal,
    /// It asks for something, or speaks of an address, that we do not know; the next one is read.
    Unknown,
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Flaw::Fatal => "malformed",
            Flaw::Unknown => "of an unknown kind",
        })
    }
}

impl std::error::Error for Flaw {}

impl<'a> Message<'a> {
    /// Reads the header of a datagram.
    ///
    /// # Errors
    /// [`Error::Truncated`] when it is shorter than a header, [`Error::Malformed`] when its size field is not its
    /// length.
    pub fn parse(octets: &'a [u8]) -> Result<Self, Error> {
        if octets.len() < HEADER_OCTETS_V0 {
            return Err(Error::Truncated);
        }
        if usize::from(get_u16(octets, 2..4)) != octets.len() {
            return Err(Error::Malformed);
        }
        let syncid = octets[1];
        // The first octet of version 0 is its count; a datagram of version 0 without entries says nothing either way.
        Ok(match octets.get(4..HEADER_OCTETS) {
            Some(&[entries, 1, 0, 0]) if octets[0] == 0 => Self { octets, version: Version::V1, syncid, entries },
            _ => Self { octets, version: Version::V0, syncid, entries: octets[0] },
        })
    }

    /// The octets of its last connection, so far as those before it tell where that begins; none in version 0.
    pub(super) fn last_entry(&self) -> Option<&'a [u8]> {
        if self.version == Version::V0 {
            return None;
        }
        last_entry(self.octets, self.entries).and_then(|range| self.octets.get(range))
    }

    /// Its connections, in order.
    pub fn records(&self) -> Records<'a> {
        let start = match self.version {
            Version::V1 => HEADER_OCTETS,
            Version::V0 => HEADER_OCTETS_V0,
        };
        Records { octets: self.octets, version: self.version, at: start, left: self.entries }
    }
}

/// The connections of a datagram. After a fatal flaw there are no more.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    octets: &'a [u8],
    version: Version,
    at: usize,
    left: u8,
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<Record<'a>, Flaw>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let rest = self.octets.get(self.at..).unwrap_or_default();
        let read = match self.version {
            Version::V1 => self.next_v1(rest),
            Version::V0 => self.next_v0(rest),
        };
        if read == Err(Flaw::Fatal) {
            self.left = 0;
        }
        Some(read)
    }
}

impl<'a> Records<'a> {
    fn next_v1(&mut self, rest: &'a [u8]) -> Result<Record<'a>, Flaw> {
        if rest.len() < FIXED_OCTETS {
            return Err(Flaw::Fatal);
        }
        let version_and_size = get_u16(rest, 2..4);
        if version_and_size & !SIZE_MASK != 0 {
            return Err(Flaw::Fatal);
        }
        let entry = rest.get(..usize::from(version_and_size)).ok_or(Flaw::Fatal)?;
        self.at += entry.len().next_multiple_of(ALIGNMENT);
        entry_v1(entry)
    }

    fn next_v0(&mut self, rest: &'a [u8]) -> Result<Record<'a>, Flaw> {
        let entry = rest.get(..ENTRY_OCTETS_V0).ok_or(Flaw::Fatal)?;
        self.at += ENTRY_OCTETS_V0;
        let flags = u32::from(get_u16(entry, 20..22));
        let sequences = if flags & SEQUENCE_FLAGS != 0 {
            let words = rest.get(ENTRY_OCTETS_V0..ENTRY_OCTETS_V0 + SEQUENCES_OCTETS).ok_or(Flaw::Fatal)?;
            self.at += SEQUENCES_OCTETS;
            // The format is in the sender's own order; senders of this machine's order are the likely ones.
            Some(sequences(words, u32::from_ne_bytes))
        } else {
            None
        };
        let endpoint = |address: usize, port: usize| {
            Endpoint::new(Address::v4(get_u32(entry, address..address + 4)), get_u16(entry, port..port + 2))
        };
        Ok(Record {
            protocol: entry[1],
            flags,
            state: get_u16(entry, 22..24),
            client: endpoint(8, 2),
            virtual_service: endpoint(12, 4),
            destination: endpoint(16, 6),
            mark: 0,
            timeout_s: 0,
            sequences,
            engine_name: &[],
            engine_data: &[],
            left_ms: None,
        })
    }
}

/// Where the last of so many entries of a version 1 datagram lies; none when they do not fit.
pub(super) fn last_entry(octets: &[u8], entries: u8) -> Option<Range<usize>> {
    let mut start = HEADER_OCTETS;
    let mut last = None;
    for _ in 0..entries {
        let rest = octets.get(start..).filter(|rest| rest.len() >= FIXED_OCTETS)?;
        let size = usize::from(get_u16(rest, 2..4) & SIZE_MASK);
        if !(FIXED_OCTETS..=rest.len()).contains(&size) {
            return None;
        }
        last = Some(start..start + size);
        start += size.next_multiple_of(ALIGNMENT);
    }
    last
}

/// Reads an entry of which at least the fixed part may be there.
fn entry_v1(entry: &[u8]) -> Result<Record<'_>, Flaw> {
    let family = match entry.first() {
        Some(0) => Family::V4,
        Some(kind) if kind & TYPE_V6 != 0 => Family::V6,
        _ => return Err(Flaw::Fatal),
    };
    let width = address_octets(family);
    let (fixed, options) = entry.split_at_checked(FIXED_OCTETS + 3 * width).ok_or(Flaw::Fatal)?;
    let endpoint = |number: usize, port: usize| {
        let start = FIXED_OCTETS + number * width;
        let octets = &fixed[start..start + width];
        let bits = octets.iter().fold(0u128, |bits, &octet| bits << 8 | u128::from(octet));
        let address = match family {
            Family::V4 => Address::v4(bits as u32),
            Family::V6 => Address::v6(bits),
        };
        Endpoint::new(address, get_u16(fixed, port..port + 2))
    };
    let mut record = Record {
        protocol: fixed[1],
        flags: get_u32(fixed, 4..8),
        state: get_u16(fixed, 8..10),
        client: endpoint(0, 10),
        virtual_service: endpoint(1, 12),
        destination: endpoint(2, 14),
        mark: get_u32(fixed, 16..20),
        timeout_s: get_u32(fixed, 20..24),
        sequences: None,
        engine_name: &[],
        engine_data: &[],
        left_ms: None,
    };
    read_options(options, &mut record)?;
    // An address of IPv6 that reads as one of IPv4 here (see `base::Address`) is nobody's.
    let endpoints = [record.client, record.virtual_service, record.destination];
    if endpoints.iter().any(|endpoint| endpoint.address.family() != family) {
        return Err(Flaw::Unknown);
    }
    Ok(record)
}

fn read_options<'a>(mut options: &'a [u8], record: &mut Record<'a>) -> Result<(), Flaw> {
    let mut is_known = true;
    while let Some((&kind, rest)) = options.split_first() {
        let (&length, rest) = rest.split_first().ok_or(Flaw::Fatal)?;
        let (data, rest) = rest.split_at_checked(usize::from(length)).ok_or(Flaw::Fatal)?;
        if data.is_empty() {
            return Err(Flaw::Fatal);
        }
        match kind & !option::MAY_BE_SKIPPED {
            option::SEQUENCES if data.len() == SEQUENCES_OCTETS && record.sequences.is_none() => {
                record.sequences = Some(sequences(data, u32::from_be_bytes));
            }
            option::ENGINE_DATA if record.engine_data.is_empty() => record.engine_data = data,
            option::ENGINE_NAME if record.engine_name.is_empty() && data.len() <= ENGINE_NAME_OCTETS_MAX => {
                record.engine_name = data;
            }
            option::SEQUENCES | option::ENGINE_DATA | option::ENGINE_NAME => return Err(Flaw::Fatal),
            option::LEFT if data.len() == 4 && kind & option::MAY_BE_SKIPPED != 0 => {
                record.left_ms = Some(get_u32(data, 0..4));
            }
            _ => is_known &= kind & option::MAY_BE_SKIPPED != 0,
        }
        options = rest;
    }
    if is_known { Ok(()) } else { Err(Flaw::Unknown) }
}

/// The six words of both directions, `octets` being as long as they are.
fn sequences(octets: &[u8], word: fn([u8; 4]) -> u32) -> [Sequence; 2] {
    let word = |at: usize| word([octets[at], octets[at + 1], octets[at + 2], octets[at + 3]]);
    [0, 12].map(|at| Sequence { start: word(at), delta: word(at + 4), previous_delta: word(at + 8) })
}
