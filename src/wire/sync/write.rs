//! Datagrams that a master sends.

use crate::base::{Address, Family};
use crate::wire::sync::{
    ALIGNMENT, ENGINE_DATA_OCTETS_MAX, ENGINE_NAME_OCTETS_MAX, ENTRIES_MAX, ENTRY_OCTETS_V0, FIXED_OCTETS,
    HEADER_OCTETS, HEADER_OCTETS_V0, Record, SEQUENCES_OCTETS, Sequence, TYPE_V6, Version, address_octets, option,
};

/// Octets of the time that is left.
const LEFT_OCTETS: usize = 4;

/// A datagram to which records are added.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Writer {
    version: Version,
    octets_max: usize,
    octets: Vec<u8>,
    entries: u8,
}

impl Writer {
    /// An empty datagram that is to have no more than `octets_max` octets.
    pub fn new(version: Version, syncid: u8, octets_max: usize) -> Self {
        let mut octets = Vec::with_capacity(octets_max);
        match version {
            Version::V1 => octets.extend([0, syncid, 0, 0, 0, 1, 0, 0]),
            Version::V0 => octets.extend([0, syncid, 0, 0]),
        }
        Self { version, octets_max, octets, entries: 0 }
    }

    /// The format.
    pub const fn version(&self) -> Version {
        self.version
    }

    /// Adds a record that fits the version (see [`Record::fits`]); false when there is no room for it. The first
    /// record always has room: one that is longer than a datagram should be makes a longer datagram.
    #[must_use]
    pub fn push(&mut self, record: &Record<'_>) -> bool {
        debug_assert!(record.fits(self.version));
        let padding = match self.version {
            Version::V1 => self.octets.len().next_multiple_of(ALIGNMENT) - self.octets.len(),
            Version::V0 => 0,
        };
        let size = size(self.version, record);
        let is_full = self.octets.len() + padding + size > self.octets_max || self.entries == ENTRIES_MAX;
        if is_full && self.entries > 0 {
            return false;
        }
        self.octets.resize(self.octets.len() + padding, 0);
        let start = self.octets.len();
        match self.version {
            Version::V1 => self.write_v1(record, size),
            Version::V0 => self.write_v0(record),
        }
        debug_assert_eq!(self.octets.len() - start, size);
        self.entries += 1;
        true
    }

    /// The datagram.
    pub fn finish(mut self) -> Vec<u8> {
        // The longest datagram is shorter than a UDP payload can be, or has one record of some hundred octets.
        let size = self.octets.len() as u16;
        self.octets[2..4].copy_from_slice(&size.to_be_bytes());
        let count = match self.version {
            Version::V1 => 4,
            Version::V0 => 0,
        };
        self.octets[count] = self.entries;
        self.octets
    }

    fn write_v1(&mut self, record: &Record<'_>, size: usize) {
        let kind = if record.family() == Family::V6 { TYPE_V6 } else { 0 };
        self.octets.extend([kind, record.protocol]);
        self.put_u16(size as u16);
        self.put_u32(record.flags);
        self.put_u16(record.state);
        self.put_u16(record.client.port);
        self.put_u16(record.virtual_service.port);
        self.put_u16(record.destination.port);
        self.put_u32(record.mark);
        self.put_u32(record.timeout_s);
        for endpoint in [record.client, record.virtual_service, record.destination] {
            self.put_address(endpoint.address, record.family());
        }
        if let Some(sequences) = &record.sequences {
            self.octets.extend([option::SEQUENCES, SEQUENCES_OCTETS as u8]);
            words(sequences).for_each(|word| self.put_u32(word));
        }
        for (kind, data) in [(option::ENGINE_DATA, engine_data(record)), (option::ENGINE_NAME, engine_name(record))] {
            if !data.is_empty() {
                self.octets.extend([kind, data.len() as u8]);
                self.octets.extend_from_slice(data);
            }
        }
        if let Some(left_ms) = record.left_ms {
            self.octets.extend([option::LEFT | option::MAY_BE_SKIPPED, LEFT_OCTETS as u8]);
            self.put_u32(left_ms);
        }
    }

    fn write_v0(&mut self, record: &Record<'_>) {
        self.octets.extend([0, record.protocol]);
        self.put_u16(record.client.port);
        self.put_u16(record.virtual_service.port);
        self.put_u16(record.destination.port);
        for endpoint in [record.client, record.virtual_service, record.destination] {
            self.put_address(endpoint.address, Family::V4);
        }
        self.put_u16(record.flags as u16);
        self.put_u16(record.state);
        if let Some(sequences) = &record.sequences {
            // In the sender's own order: the format knows no other.
            words(sequences).for_each(|word| self.octets.extend(word.to_ne_bytes()));
        }
    }

    fn put_u16(&mut self, value: u16) {
        self.octets.extend(value.to_be_bytes());
    }

    fn put_u32(&mut self, value: u32) {
        self.octets.extend(value.to_be_bytes());
    }

    fn put_address(&mut self, address: Address, family: Family) {
        match family {
            Family::V4 => self.put_u32(address.low_u32()),
            Family::V6 => self.octets.extend(address.0.to_be_bytes()),
        }
    }
}

/// Octets of an entry, without padding.
fn size(version: Version, record: &Record<'_>) -> usize {
    let sequences = if record.sequences.is_some() { SEQUENCES_OCTETS } else { 0 };
    match version {
        Version::V0 => ENTRY_OCTETS_V0 + sequences,
        Version::V1 => {
            let optional = |octets: usize| if octets == 0 { 0 } else { 2 + octets };
            FIXED_OCTETS
                + 3 * address_octets(record.family())
                + optional(sequences)
                + optional(engine_data(record).len())
                + optional(engine_name(record).len())
                + optional(if record.left_ms.is_some() { LEFT_OCTETS } else { 0 })
        }
    }
}

fn engine_data<'a>(record: &Record<'a>) -> &'a [u8] {
    &record.engine_data[..record.engine_data.len().min(ENGINE_DATA_OCTETS_MAX)]
}

fn engine_name<'a>(record: &Record<'a>) -> &'a [u8] {
    &record.engine_name[..record.engine_name.len().min(ENGINE_NAME_OCTETS_MAX)]
}

fn words(sequences: &[Sequence; 2]) -> impl Iterator<Item = u32> {
    sequences.iter().flat_map(|sequence| [sequence.start, sequence.delta, sequence.previous_delta])
}

const _: () = assert!(HEADER_OCTETS == 8 && HEADER_OCTETS_V0 == 4);
