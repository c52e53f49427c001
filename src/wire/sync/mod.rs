//! Connection synchronisation: the datagrams by which a master tells backups of its connections.
//!
//! ```text
//! version 1                                     version 0
//! +---------+---------+-------------------+     +---------+---------+-------------------+
//! |    0    | syncid  |       size        |     | entries | syncid  |       size        |
//! +---------+---------+-------------------+     +---------+---------+-------------------+
//! | entries |    1    |         0         |     | entries of 24 or 48 octets …
//! +---------+---------+-------------------+
//! | entries, each on a boundary of four octets …
//!
//! entry of version 1                            entry of version 0
//! +---------+---------+----+--------------+     +---------+---------+-------------------+
//! |  type   |protocol | 0  |     size     |     |    0    |protocol |    client port    |
//! +---------+---------+----+--------------+     +---------+---------+-------------------+
//! |                 flags                 |     |   virtual port    | destination port  |
//! +-------------------+-------------------+     +-------------------+-------------------+
//! |       state       |    client port    |     |  client, virtual, destination address |
//! +-------------------+-------------------+     +-------------------+-------------------+
//! |   virtual port    | destination port  |     |       flags       |       state       |
//! +-------------------+-------------------+     +-------------------+-------------------+
//! |             firewall mark             |     | six words of sequences, as flags tell |
//! +---------------------------------------+     +---------------------------------------+
//! |           timeout, seconds            |
//! +---------------------------------------+
//! |  client, virtual, destination address |
//! +---------------------------------------+
//! | options: type, length, data …
//! ```
//!
//! Source: `net/netfilter/ipvs/ip_vs_sync.c`, Linux 6.1.
//!
//! **Deviation**: a sequence option is written right. The reference's sender fills it with rubbish; its receiver and
//! later kernels read what is written here.
//!
//! **Additions**, both as options that whoever does not know them skips: the time that an entry has left
//! ([`Record::left_ms`]), and a datagram's number, as the last option of its last entry ([`Stamp`]). (The header's zero
//! field is no place for it: with anything else there the kernel takes a datagram for one of version 0.)

mod read;
mod stamp;
mod write;

#[cfg(test)]
mod tests;

pub use read::{Flaw, Message, Records};
pub use stamp::{STAMP_OCTETS, Stamp, put_stamp};
pub use write::Writer;

use crate::base::{Endpoint, Family};

/// Octets of a version 1 datagram's header.
pub const HEADER_OCTETS: usize = 8;
/// Octets of a version 0 datagram's header.
pub const HEADER_OCTETS_V0: usize = 4;
/// Entries of one datagram: the count is an octet.
pub const ENTRIES_MAX: u8 = u8::MAX;
/// Longest data of a persistence engine, octets (`IP_VS_PEDATA_MAXLEN`).
pub const ENGINE_DATA_OCTETS_MAX: usize = 255;
/// Longest name of a persistence engine, octets (`IP_VS_PENAME_MAXLEN`).
pub const ENGINE_NAME_OCTETS_MAX: usize = 16;

/// Flags that say that sequences follow: `IP_VS_CONN_F_OUT_SEQ` and `IP_VS_CONN_F_IN_SEQ`.
pub const SEQUENCE_FLAGS: u32 = 0x0600;

/// Octets of an entry before its addresses, version 1.
const FIXED_OCTETS: usize = 24;
/// Octets of an entry of version 0 without sequences, and of the sequences.
const ENTRY_OCTETS_V0: usize = 24;
const SEQUENCES_OCTETS: usize = 24;
/// Entries start at multiples of this.
const ALIGNMENT: usize = 4;

/// The entry's type: this bit is set for IPv6, and no other ever.
const TYPE_V6: u8 = 0x01;
/// Size of an entry, in the low bits of its third and fourth octet; the others hold the entry's version, 0.
const SIZE_MASK: u16 = 0x0fff;

mod option {
    pub const SEQUENCES: u8 = 1;
    pub const ENGINE_DATA: u8 = 2;
    pub const ENGINE_NAME: u8 = 3;
    /// Of lvx: milliseconds that the entry has left, 32 bits.
    pub const LEFT: u8 = 0x20;
    /// Of lvx: the datagram's number.
    pub const STAMP: u8 = 0x21;
    /// Who does not know the option may skip it.
    pub const MAY_BE_SKIPPED: u8 = 0x40;
}

/// The format of a datagram.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Version {
    /// Before Linux 2.6.39: IPv4, no timeouts, marks and engines.
    V0,
    /// Since then.
    V1,
}

/// How far one direction of a TCP connection is moved.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Sequence {
    /// The first sequence number that is moved by `delta`.
    pub start: u32,
    /// By how much from there on.
    pub delta: u32,
    /// By how much before.
    pub previous_delta: u32,
}

/// A connection in a datagram.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Record<'a> {
    /// IP protocol number; 0 for templates of marks.
    pub protocol: u8,
    /// Flags of the connection, as the kernel numbers them.
    pub flags: u32,
    /// State, as the kernel numbers them.
    pub state: u16,
    /// Client; it and the next two are of one family.
    pub client: Endpoint,
    /// Virtual service, or a mark in place of its address.
    pub virtual_service: Endpoint,
    /// Real server.
    pub destination: Endpoint,
    /// Firewall mark; 0 in version 0.
    pub mark: u32,
    /// The connection's timeout, seconds; 0 in version 0.
    pub timeout_s: u32,
    /// How client's (in) and server's (out) sequence numbers are moved; there when `flags` say so.
    pub sequences: Option<[Sequence; 2]>,
    /// Name of the persistence engine; empty for none.
    pub engine_name: &'a [u8],
    /// Data of the persistence engine; empty for none.
    pub engine_data: &'a [u8],
    /// What is left of the timeout, milliseconds; where it is not told, all of it.
    pub left_ms: Option<u32>,
}

#[cfg(test)]
impl Record<'static> {
    /// A TCP connection of these endpoints, for tests.
    pub(crate) const fn example(client: Endpoint, virtual_service: Endpoint, destination: Endpoint) -> Self {
        Self {
            protocol: 6,
            flags: 0,
            state: 1,
            client,
            virtual_service,
            destination,
            mark: 0,
            timeout_s: 900,
            sequences: None,
            engine_name: &[],
            engine_data: &[],
            left_ms: None,
        }
    }
}

impl Record<'_> {
    /// The family of its addresses.
    pub const fn family(&self) -> Family {
        self.client.address.family()
    }

    /// True when datagrams of this version can tell of it.
    pub fn fits(&self, version: Version) -> bool {
        version == Version::V1 || self.family() == Family::V4
    }
}

const fn address_octets(family: Family) -> usize {
    match family {
        Family::V4 => 4,
        Family::V6 => 16,
    }
}
