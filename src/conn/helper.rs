//! What an application helper keeps in the table: the ports that it serves, how far it moved a connection's sequence
//! numbers, and the connections that it expects.
//!
//! Source of the behaviour: `net/netfilter/ipvs/ip_vs_app.c`, `ip_vs_conn_in_get` and `ip_vs_conn_fill_cport` of
//! `ip_vs_conn.c`, Linux 6.1.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use crate::base::memory::Slab;
use crate::base::{Endpoint, Instant, Lock};
use crate::conn::entry::{Entry, Flags};
use crate::conn::table::{Found, Inserted, Key, New, Table};
use crate::conn::tcp;
use crate::service::{Method, Protocol};

/// Ports that a helper serves at most (`IP_VS_APP_MAX_PORTS`).
pub const HELPER_PORTS_MAX: usize = 8;

/// The FTP helper's port unless told otherwise.
pub const FTP_PORT_DEFAULT: u16 = 21;

/// Connections whose sequence numbers are moved at a time; one more is refused as if the table were full, and counted
/// with it.
pub const MOVED_SEQUENCES_MAX: usize = 1 << 16;

/// The ports of the FTP helper; none while it is off.
#[derive(Default)]
pub struct HelperPorts {
    /// How many there are.
    count: AtomicU32,
    ports: [HelperPort; HELPER_PORTS_MAX],
}

#[derive(Default)]
struct HelperPort {
    port: AtomicU32,
    /// Connections that the helper watches.
    uses: AtomicU32,
}

impl HelperPorts {
    /// Turns the helper on for these ports; at most [`HELPER_PORTS_MAX`] of them count. Once, before connections come.
    pub fn set(&self, ports: &[u16]) {
        let ports = &ports[..ports.len().min(HELPER_PORTS_MAX)];
        for (slot, port) in self.ports.iter().zip(ports) {
            slot.port.store(u32::from(*port), Relaxed);
        }
        self.count.store(ports.len() as u32, Relaxed);
    }

    fn slots(&self) -> &[HelperPort] {
        &self.ports[..self.count.load(Relaxed) as usize]
    }

    /// Each port and the number of connections that the helper watches there.
    pub fn list(&self) -> impl Iterator<Item = (u16, u32)> {
        self.slots().iter().map(|slot| (slot.port.load(Relaxed) as u16, slot.uses.load(Relaxed)))
    }

    /// True when the helper is on.
    pub fn is_on(&self) -> bool {
        self.count.load(Relaxed) != 0
    }

    /// True when the helper serves this port.
    pub fn has(&self, port: u16) -> bool {
        self.of(port).is_some()
    }

    fn of(&self, port: u16) -> Option<&HelperPort> {
        self.slots().iter().find(|slot| slot.port.load(Relaxed) == u32::from(port))
    }

    /// The flags of a new connection, which is counted if the helper is to watch it.
    pub(super) fn watch(&self, new: &New) -> Flags {
        let flags = new.flags.without(Flags::HELPED);
        let may_be = flags.method() == Method::Masquerading
            && !flags.has(Flags::TEMPLATE)
            && !flags.has(Flags::FULL_NAT)
            && !flags.has(Flags::ALIAS)
            && new.key.protocol == Some(Protocol::Tcp);
        match self.of(new.key.other.port).filter(|_| may_be) {
            None => flags,
            Some(slot) => {
                slot.uses.fetch_add(1, Relaxed);
                flags.with(Flags::HELPED)
            }
        }
    }

    /// A watched connection ends.
    pub(super) fn release(&self, entry: Entry<'_>) {
        if let Some(slot) = self.of(entry.virtual_service().port) {
            slot.uses.fetch_sub(1, Relaxed);
        }
    }
}

/// How far a server's sequence numbers are moved on their way to the client (`struct ip_vs_seq`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Moved {
    /// What comes after this number is moved by `delta`.
    pub start: u32,
    /// By how much, modulo 2^32.
    pub delta: u32,
    /// By how much up to `start`.
    pub previous_delta: u32,
}

impl Moved {
    /// By how much a sequence number of the server is moved.
    pub const fn shift(&self, sequence: u32) -> u32 {
        if is_after(sequence, self.start) { self.delta } else { self.previous_delta }
    }

    /// By how much a number that the client acknowledges was moved.
    pub const fn shift_acknowledged(&self, sequence: u32) -> u32 {
        if is_after(sequence, self.start.wrapping_add(self.delta)) { self.delta } else { self.previous_delta }
    }
}

/// Whether one sequence number lies after another (RFC 1982).
const fn is_after(one: u32, other: u32) -> bool {
    (other.wrapping_sub(one) as i32) < 0
}

const WORDS: usize = 4;

/// Records of moved sequence numbers. Memory that no record has used yet costs nothing.
pub(super) struct MovedRecords {
    cells: Slab<[AtomicU32; WORDS]>,
    free: Lock<FreeRecords>,
}

#[derive(Default)]
struct FreeRecords {
    /// The first record given back; each holds the number of the next in its first word.
    head: u32,
    /// Records handed out for the first time so far; number 0 is none.
    fresh: u32,
}

impl MovedRecords {
    pub(super) fn new() -> Self {
        Self { cells: Slab::new(MOVED_SEQUENCES_MAX + 1), free: Lock::default() }
    }

    fn words(&self, number: u32) -> &[AtomicU32; WORDS] {
        &self.cells[number as usize]
    }

    /// A record; `None` when all are in use.
    fn allocate(&self) -> Option<u32> {
        let mut free = self.free.lock();
        if free.head != 0 {
            let number = free.head;
            free.head = self.words(number)[0].load(Relaxed);
            return Some(number);
        }
        if free.fresh as usize == MOVED_SEQUENCES_MAX {
            return None;
        }
        free.fresh += 1;
        Some(free.fresh)
    }

    /// Gives a record back.
    pub(super) fn free(&self, number: u32) {
        let mut free = self.free.lock();
        self.words(number)[0].store(free.head, Relaxed);
        free.head = number;
    }

    /// The record of this number.
    pub(super) fn at(&self, number: u32) -> Moved {
        self.load(number)
    }

    /// Keeps a record; its number, or `None` when all are in use.
    pub(super) fn keep(&self, moved: Moved) -> Option<u32> {
        let number = self.allocate()?;
        self.store(number, moved);
        Some(number)
    }

    fn load(&self, number: u32) -> Moved {
        let [start, delta, previous_delta, _] = self.words(number);
        let word = |word: &AtomicU32| word.load(Relaxed);
        Moved { start: word(start), delta: word(delta), previous_delta: word(previous_delta) }
    }

    fn store(&self, number: u32, moved: Moved) {
        let values = [moved.start, moved.delta, moved.previous_delta];
        for (word, value) in self.words(number).iter().zip(values) {
            word.store(value, Relaxed);
        }
    }
}

/// What became of a connection that a helper expects.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Expected {
    /// It is in the table, in state LISTEN.
    Listening,
    /// A connection of somebody else has its key.
    Occupied,
    /// The table is full.
    Full,
}

impl Table {
    /// Puts a connection that the helper expects into the table, or lets one wait anew. Its controller has been
    /// counted already; of the one that was there before, only one with this controller or without its client's port
    /// is touched.
    pub fn expect(&self, new: &New, now: Instant) -> Expected {
        let hash = self.hash(new.key.protocol, new.key.client);
        let existing = match self.insert(hash, new, now) {
            Inserted::New(found) => {
                found.listen();
                return Expected::Listening;
            }
            Inserted::Existing(found) => found,
            Inserted::Full => {
                self.release_controller(new.controller);
                return Expected::Full;
            }
        };
        let entry = existing.entry();
        if entry.destination_endpoint() == new.destination && entry.destination() == new.destination_id {
            let is_same = entry.controller() == new.controller || entry.flags().has(Flags::NO_CLIENT_PORT);
            if is_same {
                existing.listen();
            }
            drop(existing);
            self.release_controller(new.controller);
            return if is_same { Expected::Listening } else { Expected::Occupied };
        }
        // Another server of the service has chosen the same port for the same client: the later one is meant.
        if !entry.flags().has(Flags::NO_CLIENT_PORT) || !existing.expire_now() {
            self.release_controller(new.controller);
            return Expected::Occupied;
        }
        match self.insert(hash, new, now) {
            Inserted::New(found) => {
                found.listen();
                Expected::Listening
            }
            Inserted::Existing(_) | Inserted::Full => {
                self.release_controller(new.controller);
                Expected::Full
            }
        }
    }

    /// True while some entry waits for its client's port.
    pub fn has_expected(&self) -> bool {
        self.no_client_port().load(Relaxed) != 0
    }

    /// The entry that waited for the client's port of this packet (`hash` of its source), now with the port; its
    /// bucket held.
    pub fn find_expected(&self, hash: u64, key: &Key, now: Instant) -> Option<Found<'_>> {
        let waiting = Key { client: Endpoint::new(key.client.address, 0), ..*key };
        let found = self.find_inbound(self.hash(key.protocol, waiting.client), &waiting, now)?;
        let entry = found.entry();
        let new = New {
            key: *key,
            destination: entry.destination_endpoint(),
            destination_id: entry.destination(),
            flags: entry.flags().without(Flags::NO_CLIENT_PORT).with(Flags::INACTIVE),
            mark: entry.mark(),
            controller: entry.controller(),
            timeout_s: entry.timeout_s(),
        };
        let state = entry.state();
        // The controller must not find itself alone between the two.
        if !new.controller.is_none() {
            self.entry(new.controller).control();
        }
        found.remove();
        match self.insert(hash, &new, now) {
            Inserted::New(found) => {
                found.entry().set_state(state, new.timeout_s);
                found.restart();
                Some(found)
            }
            Inserted::Existing(found) => {
                self.release_controller(new.controller);
                Some(found)
            }
            Inserted::Full => {
                self.release_controller(new.controller);
                None
            }
        }
    }
}

impl Found<'_> {
    /// Lets the entry wait for its first segment (`ip_vs_tcp_conn_listen`).
    fn listen(&self) {
        self.leave_active();
        self.entry().set_state(tcp::LISTEN, self.table().timeouts().tcp_s(tcp::LISTEN));
        self.restart();
    }

    /// How far the server's sequence numbers are moved; `None` while they are not.
    pub fn moved(&self) -> Option<Moved> {
        match self.entry().extra() {
            0 => None,
            number => Some(self.table().moved_records().load(number)),
        }
    }

    /// Notes that the server's segment that begins at `sequence` grows by `octets` (modulo 2^32). A retransmission
    /// changes nothing. False when there is no room for a note.
    pub fn move_after(&self, sequence: u32, octets: u32) -> bool {
        let records = self.table().moved_records();
        let (number, old) = match self.entry().extra() {
            0 => match records.allocate() {
                Some(number) => (number, Moved::default()),
                None => {
                    self.table().counters().full.fetch_add(1, Relaxed);
                    return false;
                }
            },
            number => (number, records.load(number)),
        };
        let is_first = self.entry().extra() == 0;
        if is_first || is_after(sequence, old.start) {
            records.store(
                number,
                Moved { start: sequence, delta: old.delta.wrapping_add(octets), previous_delta: old.delta },
            );
        }
        self.entry().set_extra(number);
        true
    }

    /// The mode of the control connection that a client chose.
    pub fn set_helper_mode(&self, mode: Flags) {
        let entry = self.entry();
        entry.set_flags(entry.flags().without(Flags::HELPER_MODES).with(mode));
    }
}

#[cfg(test)]
mod tests;
