//! Local ports of full NAT: which of them a connection has, and whose connection a server's packet belongs to.
//!
//! A connection of full NAT has a second entry in the table, its alias: under the local endpoint that its server sees in
//! the client's place. Inserting the alias is what reserves the port, so that no two workers can give one port to two
//! connections with one server. The alias counts its connection as one that it controls, and goes a while after it.

use crate::base::{Address, Endpoint, Instant};
use crate::conn::bucket::Held;
use crate::conn::entry::{Entry, EntryId, Flags, ticks};
use crate::conn::table::{Found, Inserted, Key, New, Place, Table};
use crate::service::{DestinationId, FullNat, Method, Protocol};

impl Flags {
    /// Of an alias: the server learns the client's address by option 254.
    const TELLS_BY_OPTION: Flags = Flags::PASSIVE;
    /// Of an alias: by a header in front of the stream.
    const TELLS_BY_HEADER: Flags = Flags::EXTENDED_PASSIVE;
    /// Of an alias: the client's first sequence number is known (in the place of its packets).
    const CLIENT_SEQUENCE: Flags = Flags(1 << 30);
    /// Of an alias: the server's is known (in the place of its mark).
    const SERVER_SEQUENCE: Flags = Flags(1 << 31);
    /// Of an alias: the server has acknowledged the header.
    const HEADER_ARRIVED: Flags = Flags(1 << 23);
}

/// A local port that no connection has yet; to be given to one or given back.
#[must_use]
pub struct Reserved(EntryId);

/// Outcome of [`Table::reserve`].
pub enum Reservation {
    /// The port is the caller's.
    Made(Reserved),
    /// A connection with this server has it.
    InUse,
    /// The table is full.
    Full,
}

impl Table {
    /// Reserves the port of `local` for a connection with `server`, which learns its client as `full_nat` says.
    pub fn reserve(
        &self,
        protocol: Protocol,
        local: Endpoint,
        server: Endpoint,
        full_nat: FullNat,
        now: Instant,
    ) -> Reservation {
        let hash = self.hash(Some(protocol), local);
        let matches = is_alias(protocol, local, server);
        let nowhere = Address::unspecified(local.address.family());
        let flags = Flags::new(Method::Masquerading).with(Flags::ALIAS);
        let new = New {
            // A client that names this endpoint as its own must not find it.
            key: Key { protocol: Some(protocol), client: local, other: Endpoint::new(nowhere, 0) },
            destination: server,
            destination_id: DestinationId::NONE,
            flags: match full_nat {
                FullNat::Toa if protocol == Protocol::Tcp => flags.with(Flags::TELLS_BY_OPTION),
                FullNat::Proxy if protocol == Protocol::Tcp => flags.with(Flags::TELLS_BY_HEADER),
                _ => flags,
            },
            mark: 0,
            controller: EntryId::NONE,
            timeout_s: 0,
        };
        let inserted = self.with_room(local.address.family(), now, || {
            let (held, now_ticks) = (Held::lock(self.bucket_of(hash)), ticks(now));
            if let Some((alias, slot)) = self.search(held.bucket, hash, now_ticks, matches) {
                if alias.controlled() > 0 {
                    return Ok(Inserted::Existing(Found::new(self, held, alias, slot, now_ticks)));
                }
                self.remove(held.bucket, Place { id: alias.id(), slot });
            }
            self.insert_into(held, hash, &new, now_ticks)
        });
        match inserted {
            Inserted::New(found) => Reservation::Made(Reserved(found.control())),
            Inserted::Existing(_) => Reservation::InUse,
            Inserted::Full => Reservation::Full,
        }
    }

    /// Gives back a port that no connection got.
    pub fn give_back(&self, reserved: Reserved) {
        self.entry(reserved.0).release();
    }

    /// The connection of a packet from a server to a local endpoint (`hash` of its destination), its bucket held.
    /// `key.client` is the packet's destination, `key.other` its source.
    pub fn find_by_local_port(&self, hash: u64, key: &Key, now: Instant) -> Option<Found<'_>> {
        let matches = is_alias(key.protocol?, key.client, key.other);
        let (alias, id) = {
            let found = self.find(hash, now, matches)?;
            (found.entry().id(), EntryId(found.entry().extra()))
        };
        if id.is_none() {
            return None;
        }
        // Its words are read without its bucket: whatever the entry is by now, it must be the alias's connection there.
        let hash = self.hash_of_entry(self.entry(id));
        self.find(hash, now, move |entry| {
            // Its alias is in the table as long as it is: cells that both were used again are others' by their words.
            entry.id() == id
                && entry.flags().has(Flags::FULL_NAT)
                && entry.extra() == alias.0
                && matches(self.entry(alias))
        })
    }
}

fn is_alias(protocol: Protocol, local: Endpoint, server: Endpoint) -> impl Fn(Entry<'_>) -> bool + Copy {
    move |entry| {
        entry.flags().has(Flags::ALIAS)
            && entry.protocol() == Some(protocol)
            && entry.client() == local
            && entry.destination_endpoint() == server
    }
}

impl<'t> Found<'t> {
    /// Gives a new connection of full NAT its local port.
    pub fn attach(&self, reserved: Reserved) {
        let alias = self.table().entry(reserved.0);
        alias.set_extra(self.entry().id().0);
        self.entry().set_extra(reserved.0.0);
    }

    /// The local port of a connection of full NAT.
    pub fn local_port(&self) -> Option<LocalPort<'t>> {
        let entry = self.entry();
        let has_one = entry.flags().has(Flags::FULL_NAT) && entry.extra() != 0;
        has_one.then(|| LocalPort(self.table().entry(EntryId(entry.extra()))))
    }
}

/// The local port of a connection, whose bucket is held: the words are the connection's as long as it is there.
#[derive(Clone, Copy)]
pub struct LocalPort<'a>(Entry<'a>);

impl LocalPort<'_> {
    /// The local address and port.
    pub fn endpoint(&self) -> Endpoint {
        self.0.client()
    }

    /// How the server learns who the client is.
    pub fn full_nat(&self) -> FullNat {
        match self.0.flags() {
            flags if flags.has(Flags::TELLS_BY_OPTION) => FullNat::Toa,
            flags if flags.has(Flags::TELLS_BY_HEADER) => FullNat::Proxy,
            _ => FullNat::Silent,
        }
    }

    /// Notes the sequence number of the client's SYN, which the server has taken.
    pub fn set_client_sequence(&self, sequence: u32) {
        self.0.set_in_packets(sequence);
        self.0.set_flags(self.0.flags().with(Flags::CLIENT_SEQUENCE).without(Flags::HEADER_ARRIVED));
    }

    /// The sequence number of the client's SYN, once there was one.
    pub fn client_sequence(&self) -> Option<u32> {
        self.0.flags().has(Flags::CLIENT_SEQUENCE).then(|| self.0.in_packets())
    }

    /// Notes the sequence number of the server's SYN.
    pub fn set_server_sequence(&self, sequence: u32) {
        self.0.set_mark(sequence);
        self.0.set_flags(self.0.flags().with(Flags::SERVER_SEQUENCE));
    }

    /// The sequence number of the server's SYN, once there was one.
    pub fn server_sequence(&self) -> Option<u32> {
        self.0.flags().has(Flags::SERVER_SEQUENCE).then(|| self.0.mark())
    }

    /// Notes that the server has acknowledged the header that stands in front of the client's stream.
    pub fn set_header_arrived(&self) {
        self.0.set_flags(self.0.flags().with(Flags::HEADER_ARRIVED));
    }

    /// True once it has.
    pub fn has_header_arrived(&self) -> bool {
        self.0.flags().has(Flags::HEADER_ARRIVED)
    }
}
