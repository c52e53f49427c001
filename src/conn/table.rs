//! Lookup, insertion and removal.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use crossbeam::queue::ArrayQueue;

use crate::base::memory::{Slab, SplitLine, prefetch};
use crate::base::{Endpoint, Family, Instant, Rng};
use crate::conn::bucket::{Bucket, Held, coarse, tag};
use crate::conn::engine_data::EngineRecords;
use crate::conn::entry::{Entry, EntryId, Flags, TICKS_PER_SECOND, Timer, protocol_code, ticks};
use crate::conn::helper::{HelperPorts, MovedRecords};
use crate::conn::pool::{CellsV4, CellsV6, Pool};
use crate::conn::state::{Direction, Event, State, Timeouts};
use crate::conn::{sctp, tcp};
use crate::service::{DestinationId, Destinations, Method, Protocol};

/// What a new entry lives until its first transition, seconds (`ip_vs_conn_new`).
const NEW_TIMEOUT_S: u32 = 3;
/// What an expired entry that still controls others goes on with, seconds (`ip_vs_conn_expire`).
pub(super) const CONTROLLING_TIMEOUT_S: u32 = 60;

/// Entries of a bucket beyond its slots; one more is refused as if the table were full. With keyed hashes and half
/// the slots in use, chance does not come near it.
pub const OVERFLOW_MAX: usize = 64;

/// Entries whose end was put off that may wait for the master to tell backups of them; more are not told of.
pub const POSTPONED_MAX: usize = 1 << 10;

/// How often one entry is tried to be inserted: others may take the room that was made for it.
const ROOM_ATTEMPTS: usize = 16;

/// Connections for which a bucket is meant; the average bucket is a little over half full.
const CONNECTIONS_PER_BUCKET: u32 = 4;

/// Sizes of a table, fixed for its life.
#[derive(Clone, Copy, Debug)]
pub struct TableConfig {
    /// Most connections and templates of each family.
    pub connections_max: u32,
    /// Least number of buckets, as a power of two.
    pub bucket_bits: u8,
}

/// What finds a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Key {
    /// Transport protocol; `None` for templates of marks.
    pub protocol: Option<Protocol>,
    /// Address and port of the client's side of the packet.
    pub client: Endpoint,
    /// Address and port of the other side: the virtual service for inbound packets and templates, the packet's
    /// source for outbound ones.
    pub other: Endpoint,
}

/// What a new connection consists of.
#[derive(Clone, Copy, Debug)]
pub struct New {
    /// Protocol, client and virtual service.
    pub key: Key,
    /// Address and port of the real server.
    pub destination: Endpoint,
    /// Its number; `NONE` for the bypass method.
    pub destination_id: DestinationId,
    /// Flags, the method among them.
    pub flags: Flags,
    /// Firewall mark of the packet.
    pub mark: u32,
    /// Template or connection that controls it.
    pub controller: EntryId,
    /// Timeout until the first transition, seconds; 0 for the usual 3.
    pub timeout_s: u32,
}

/// Outcome of [`Table::insert`].
pub enum Inserted<'t> {
    /// The entry is in the table; its bucket is held.
    New(Found<'t>),
    /// Another worker was faster; its entry, its bucket held.
    Existing(Found<'t>),
    /// Every cell of the family is in use.
    Full,
}

/// Every cell of the family is in use, and another entry may have to go.
pub(super) struct NoCell;

impl Inserted<'_> {
    /// The same, a refusal counted.
    fn or_refused(self, table: &Table) -> Self {
        if matches!(self, Inserted::Full) {
            table.counters.full.fetch_add(1, Ordering::Relaxed);
        }
        self
    }
}

impl New {
    fn family(&self) -> Family {
        self.key.other.address.family().max(self.key.client.address.family())
    }
}

/// Counters of a table since the director's start.
#[derive(Default, Debug)]
pub struct TableCounters {
    /// Entries refused because the table was full (`connections_max`).
    pub full: AtomicU64,
    /// Half-open connections and unconfirmed templates that made room for others.
    pub evicted_half_open: AtomicU64,
    /// Closing connections that made room for others.
    pub evicted_closing: AtomicU64,
    /// Quiet connections that made room for others.
    pub evicted_quiet: AtomicU64,
}

/// The connection table.
pub struct Table {
    pub(super) buckets: Slab<SplitLine>,
    pub(super) mask: u64,
    pub(super) hash_keys: [u64; 4],
    pub(super) v4: Pool<CellsV4>,
    pub(super) v6: Pool<CellsV6>,
    pub(super) engine_records: EngineRecords,
    pub(super) helper_ports: HelperPorts,
    pub(super) moved_records: MovedRecords,
    /// Entries that wait for their client's port.
    pub(super) no_client_port: AtomicU32,
    /// The buckets that are looked at next for an entry to go, IPv4 and IPv6 (see `eviction`).
    pub(super) hands: [AtomicU32; 2],
    /// Until when backups have each entry, by number, IPv4 and IPv6.
    pub(super) sync_ends: [Slab<AtomicU32>; 2],
    /// A master wants to know whose end was put off.
    pub(super) notes_postponed: AtomicBool,
    pub(super) postponed: ArrayQueue<EntryId>,
    pub(super) destinations: Arc<Destinations>,
    pub(super) timeouts: Timeouts,
    pub(super) counters: TableCounters,
    pub(super) connections_max: u32,
}

impl Table {
    /// An empty table. Hash keys are drawn from `rng`, so that a client cannot choose colliding ports.
    pub fn new(config: TableConfig, destinations: Arc<Destinations>, rng: &mut Rng) -> Self {
        let for_connections = (config.connections_max / CONNECTIONS_PER_BUCKET).max(1).next_power_of_two();
        let buckets = (for_connections as usize).max(1 << config.bucket_bits);
        Self {
            buckets: Slab::of_huge_pages(buckets),
            mask: buckets as u64 - 1,
            hash_keys: [rng.next_u64(), rng.next_u64(), rng.next_u64(), rng.next_u64() | 1],
            v4: Pool::new(Family::V4, config.connections_max),
            v6: Pool::new(Family::V6, config.connections_max),
            engine_records: EngineRecords::new(),
            helper_ports: HelperPorts::default(),
            moved_records: MovedRecords::new(),
            no_client_port: AtomicU32::new(0),
            hands: Default::default(),
            sync_ends: [(); 2].map(|()| Slab::new(config.connections_max as usize + 1)),
            notes_postponed: AtomicBool::new(false),
            postponed: ArrayQueue::new(POSTPONED_MAX),
            destinations,
            timeouts: Timeouts::default(),
            counters: TableCounters::default(),
            connections_max: config.connections_max,
        }
    }

    /// The timeouts that `--set` changes.
    pub fn timeouts(&self) -> &Timeouts {
        &self.timeouts
    }

    /// The destinations that entries name.
    pub fn destinations(&self) -> &Destinations {
        &self.destinations
    }

    /// Counters since the start.
    pub fn counters(&self) -> &TableCounters {
        &self.counters
    }

    /// Entries in use of IPv4 and IPv6, templates included.
    pub fn used(&self) -> (u32, u32) {
        (self.v4.used(), self.v6.used())
    }

    /// Entries inserted since the start.
    pub fn inserted(&self) -> u64 {
        self.v4.given() + self.v6.given()
    }

    /// Entries that expired or were removed since the start.
    pub fn removed(&self) -> u64 {
        self.v4.returned() + self.v6.returned()
    }

    #[inline(always)]
    fn is_short(&self, family: Family) -> bool {
        match family {
            Family::V4 => self.v4.is_short(),
            Family::V6 => self.v6.is_short(),
        }
    }

    /// Most entries of each family.
    pub fn connections_max(&self) -> u32 {
        self.connections_max
    }

    /// Number of buckets.
    pub fn bucket_count(&self) -> usize {
        self.buckets.len()
    }

    /// Has the kernel give the memory of buckets and entries now: neither the first packet to a bucket nor a new
    /// connection then waits for a page.
    pub fn populate(&self) {
        self.buckets.populate();
        self.v4.populate();
        self.v6.populate();
    }

    /// True when the table lies on huge pages that were set apart (`vm.nr_hugepages`), as far as its buckets tell.
    pub const fn is_hugetlb(&self) -> bool {
        self.buckets.is_hugetlb()
    }

    /// Octets of address space that the table reserves; touched pages only cost memory.
    pub fn size_octets(&self) -> usize {
        let sync_ends: usize = self.sync_ends.iter().map(Slab::size_octets).sum();
        self.buckets.size_octets() + self.v4.size_octets() + self.v6.size_octets() + sync_ends
    }

    /// Octets of memory that serve connections of one family when the table is full of them: buckets, entries, and when
    /// backups have each. Timers have no memory of their own.
    pub fn octets_of(&self, family: Family) -> usize {
        let (entries, ends) = match family {
            Family::V4 => (self.v4.octets(), &self.sync_ends[0]),
            Family::V6 => (self.v6.octets(), &self.sync_ends[1]),
        };
        self.buckets.octets() + entries + ends.octets()
    }

    /// The keyed hash of a client's endpoint: the bucket in its low bits, the tag in its high ones.
    #[inline(always)]
    pub fn hash(&self, protocol: Option<Protocol>, client: Endpoint) -> u64 {
        let [k0, k1, k2, k3] = self.hash_keys;
        let (low, high) = (client.address.0 as u64, (client.address.0 >> 64) as u64);
        let port = u64::from(client.port) << 8 | u64::from(protocol_code(protocol));
        fold(fold(low ^ k0, high ^ port ^ k1) ^ k2, k3)
    }

    /// Asks for the bucket's line.
    #[inline]
    pub fn prefetch_bucket(&self, hash: u64) {
        prefetch(self.bucket(hash));
    }

    /// Asks for the lines of the entry that the bucket's tags suggest first; two of a bucket rarely share one. Reads
    /// without the lock: a wrong guess costs a line.
    #[inline(always)]
    pub fn prefetch_entry(&self, hash: u64) {
        let bucket = Bucket(self.bucket(hash));
        if let Some(slot) = bucket.tagged(tag(hash)).next() {
            self.prefetch(bucket.id(slot), true);
        }
    }

    /// Asks for an entry: what every packet needs of it, or all.
    #[inline(always)]
    pub(super) fn prefetch(&self, id: EntryId, far_too: bool) {
        match id.family() {
            Family::V4 => self.v4.prefetch_near(id),
            Family::V6 => {
                self.v6.prefetch_near(id);
                if far_too {
                    self.v6.prefetch_far(id);
                }
            }
        }
    }

    /// The connection of a packet from the client (`hash` of its source), its bucket held.
    #[inline(always)]
    pub fn find_inbound(&self, hash: u64, key: &Key, now: Instant) -> Option<Found<'_>> {
        let wanted = Wanted::new(key);
        self.find(hash, now, move |entry| wanted.is_inbound(entry))
    }

    /// The connection of a packet to the client (`hash` of its destination), its bucket held. `key.client` is the
    /// packet's destination, `key.other` its source.
    #[inline(always)]
    pub fn find_outbound(&self, hash: u64, key: &Key, now: Instant) -> Option<Found<'_>> {
        let (code, client, other) = (protocol_code(key.protocol), key.client, key.other);
        self.find(hash, now, move |entry| {
            let flags = entry.flags();
            let from = || match flags.method() {
                Method::Masquerading => entry.destination_endpoint(),
                _ => entry.virtual_service(),
            };
            // Of an alias only the local port's own packets are (see `full_nat`).
            let is_connection = flags.0 & (Flags::TEMPLATE.0 | Flags::ALIAS.0) == 0;
            entry.protocol_code() == code && entry.client() == client && is_connection && from() == other
        })
    }

    /// The template with exactly this key (client masked, its port 0) and this data of a persistence engine (empty
    /// for none), its bucket held.
    pub fn find_template(&self, hash: u64, key: &Key, data: &[u8], now: Instant) -> Option<Found<'_>> {
        self.find(hash, now, self.is_template(key, data))
    }

    fn is_template<'a>(&'a self, key: &Key, data: &'a [u8]) -> impl Fn(Entry<'_>) -> bool + Copy + use<'a> {
        let wanted = Wanted::new(key);
        move |entry| {
            // An engine finds its data whoever the client is (`ip_vs_ct_in_get`, `ip_vs_sip_ct_match`), but for the
            // masked address, which is the template's too.
            entry.flags().has(Flags::TEMPLATE)
                && wanted.is_key_of(entry)
                && match (entry.extra(), data) {
                    (0, []) => true,
                    (0, _) | (_, []) => false,
                    (record, data) => self.engine_records.holds(record, data),
                }
        }
    }

    /// Adds a template, unless there is one with its key and data. `data` is what its persistence engine remembers
    /// it by, at most [`ENGINE_DATA_OCTETS_MAX`](crate::conn::engine_data::ENGINE_DATA_OCTETS_MAX) octets; empty for none.
    pub fn insert_template(&self, hash: u64, new: &New, data: &[u8], now: Instant) -> Inserted<'_> {
        self.with_room(new.family(), now, || self.try_insert_template(hash, new, data, now))
    }

    fn try_insert_template(&self, hash: u64, new: &New, data: &[u8], now: Instant) -> Result<Inserted<'_>, NoCell> {
        let bucket = Held::lock(self.bucket(hash));
        let now_ticks = ticks(now);
        if let Some((entry, slot)) = self.search(bucket.bucket, hash, now_ticks, self.is_template(&new.key, data)) {
            return Ok(Inserted::Existing(Found::new(self, bucket, entry, slot, now_ticks)));
        }
        let record = match data {
            [] => 0,
            data => match self.engine_records.store(data) {
                Some(record) => record,
                None => return Ok(Inserted::Full),
            },
        };
        let inserted = self.insert_into(bucket, hash, new, now_ticks);
        match &inserted {
            Ok(Inserted::New(found)) => found.entry.set_extra(record),
            _ if record != 0 => self.engine_records.free(record),
            _ => {}
        }
        inserted
    }

    /// The data by which a persistence engine remembers an entry; empty for none.
    pub fn engine_data(&self, entry: Entry<'_>) -> Vec<u8> {
        match Self::engine_record(entry) {
            0 => Vec::new(),
            record => self.engine_records.load(record),
        }
    }

    /// The keyed hash of a persistence engine's data, by which its templates are found.
    pub fn hash_of_data(&self, data: &[u8]) -> u64 {
        let [k0, k1, k2, k3] = self.hash_keys;
        let start = fold(data.len() as u64 ^ k1, k3);
        data.chunks(8).fold(start, |hash, chunk| {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            fold(hash ^ u64::from_le_bytes(word) ^ k0, k2)
        })
    }

    pub(super) const fn engine_records(&self) -> &EngineRecords {
        &self.engine_records
    }

    /// The record of a template's persistence engine; 0 for none.
    #[inline]
    pub(super) fn engine_record(entry: Entry<'_>) -> u32 {
        if entry.flags().has(Flags::TEMPLATE) { entry.extra() } else { 0 }
    }

    /// The ports of the FTP helper.
    pub const fn helper_ports(&self) -> &HelperPorts {
        &self.helper_ports
    }

    pub(super) const fn moved_records(&self) -> &MovedRecords {
        &self.moved_records
    }

    pub(super) const fn no_client_port(&self) -> &AtomicU32 {
        &self.no_client_port
    }

    /// Until when backups have an entry; `None` when they were never told under `sync_refresh_period`.
    pub(super) fn sync_end(&self, entry: Entry<'_>) -> Option<u32> {
        entry.has_sync_end().then(|| self.sync_end_cell(entry).load(Ordering::Relaxed))
    }

    pub(super) fn set_sync_end(&self, entry: Entry<'_>, end: u32) {
        self.sync_end_cell(entry).store(end, Ordering::Relaxed);
        entry.mark_sync_end();
    }

    fn sync_end_cell(&self, entry: Entry<'_>) -> &AtomicU32 {
        let id = entry.id();
        &self.sync_ends[usize::from(id.family() == Family::V6)][id.index() as usize]
    }

    /// From now on entries that should have ended, but control others and therefore go on, are noted for
    /// [`Table::synchronise_postponed`], or no longer.
    pub fn note_postponed(&self, is_wanted: bool) {
        self.notes_postponed.store(is_wanted, Ordering::Relaxed);
        while !is_wanted && self.postponed.pop().is_some() {}
    }

    pub(super) const fn postponed(&self) -> &ArrayQueue<EntryId> {
        &self.postponed
    }

    /// Calls `visit` with the entry of this number, its bucket held, if it is in the table.
    pub(super) fn with_entry(&self, id: EntryId, visit: impl FnOnce(Entry<'_>)) {
        let entry = self.entry(id);
        let held = Held::lock(self.bucket_of(self.hash_of_entry(entry)));
        // Its words were read without its bucket: whatever it is now, it must be here.
        if self.place_of(held.bucket, id).is_some() {
            visit(entry);
        }
    }

    /// Settles a packet of one-packet scheduling at the template that controlled it.
    pub fn end_one_packet(&self, controller: EntryId) {
        if !controller.is_none() {
            let template = self.entry(controller);
            template.count_packet();
            template.release();
        }
    }

    #[inline(always)]
    pub(super) fn find(
        &self,
        hash: u64,
        now: Instant,
        matches: impl Fn(Entry<'_>) -> bool + Copy,
    ) -> Option<Found<'_>> {
        let bucket = Held::lock(self.bucket(hash));
        let now_ticks = ticks(now);
        let (entry, slot) = self.search(bucket.bucket, hash, now_ticks, matches)?;
        Some(Found::new(self, bucket, entry, slot, now_ticks))
    }

    /// Adds a connection, unless one with its key exists. Binds the destination. In a full table another entry may go
    /// for it (see `eviction`).
    pub fn insert(&self, hash: u64, new: &New, now: Instant) -> Inserted<'_> {
        self.with_room(new.family(), now, || self.try_insert(hash, new, now))
    }

    /// Tries to insert; where no cell was left for it another entry may go, and it is tried again: others may take the
    /// room first.
    pub(super) fn with_room<'t>(
        &'t self,
        family: Family,
        now: Instant,
        attempt: impl Fn() -> Result<Inserted<'t>, NoCell>,
    ) -> Inserted<'t> {
        // Where it would look in vain, room comes first.
        let may_find = !self.is_short(family) || self.make_room(family, now);
        for _ in 0..ROOM_ATTEMPTS {
            match attempt() {
                Ok(inserted) => return inserted.or_refused(self),
                Err(NoCell) if !may_find || !self.make_room(family, now) => break,
                Err(NoCell) => {}
            }
        }
        Inserted::Full.or_refused(self)
    }

    fn try_insert(&self, hash: u64, new: &New, now: Instant) -> Result<Inserted<'_>, NoCell> {
        let bucket = Held::lock(self.bucket(hash));
        let now_ticks = ticks(now);
        // A datagram from port 0 finds no entry, not even its own: each makes another, as in the kernel.
        if new.key.client.port != 0 || new.flags.has(Flags::NO_CLIENT_PORT) {
            let wanted = Wanted::new(&new.key);
            let same = move |entry: Entry<'_>| wanted.is_inbound(entry);
            if let Some((entry, slot)) = self.search(bucket.bucket, hash, now_ticks, same) {
                return Ok(Inserted::Existing(Found::new(self, bucket, entry, slot, now_ticks)));
            }
        }
        self.insert_into(bucket, hash, new, now_ticks)
    }

    pub(super) fn insert_into<'t>(
        &'t self,
        bucket: Held<'t>,
        hash: u64,
        new: &New,
        now_ticks: u32,
    ) -> Result<Inserted<'t>, NoCell> {
        let template = new.flags.has(Flags::TEMPLATE);
        let free_slot = bucket.bucket.free_slot();
        if free_slot.is_none() && self.is_chained_out(bucket.bucket) {
            return Ok(Inserted::Full);
        }
        let cell = match new.family() {
            Family::V4 => self.v4.allocate(),
            Family::V6 => self.v6.allocate(),
        };
        let Some(entry) = cell else { return Err(NoCell) };
        let timeout_s = if new.timeout_s == 0 { NEW_TIMEOUT_S } else { new.timeout_s };
        entry.set_key(new.key.client, new.key.other);
        entry.set_destination_endpoint(new.destination);
        let is_watched = self.helper_ports.is_on();
        entry.set_flags(if is_watched { self.helper_ports.watch(new) } else { new.flags });
        if new.flags.has(Flags::NO_CLIENT_PORT) {
            self.no_client_port.fetch_add(1, Ordering::Relaxed);
        }
        entry.start_timer(timeout_s, State::NONE, new.key.protocol);
        entry.set_deadline(now_ticks.wrapping_add(timeout_s * TICKS_PER_SECOND));
        entry.set_destination(new.destination_id);
        entry.set_controller(new.controller);
        entry.set_controlled(0);
        entry.set_in_packets(0);
        entry.set_mark(new.mark);
        entry.set_extra(0);
        if new.destination_id != DestinationId::NONE {
            self.destinations.bind(new.destination_id, template);
        }
        let linked = self.link(bucket.bucket, free_slot, hash, entry, now_ticks);
        let slot = self.bring_forward(bucket.bucket, hash, entry, linked, now_ticks);
        Ok(Inserted::New(Found::new(self, bucket, entry, slot, now_ticks)))
    }

    /// Calls `visit` for each live connection and template of bucket `index`, the bucket held.
    pub fn visit_bucket(&self, index: usize, now: Instant, mut visit: impl FnMut(Entry<'_>)) {
        let bucket = Held::lock(&self.buckets[index]);
        let now_ticks = ticks(now);
        for entry in self.entries(bucket.bucket) {
            let is_listed = !entry.is_expired(now_ticks) || entry.controlled() > 0;
            if is_listed && !entry.flags().has(Flags::ALIAS) {
                visit(entry);
            }
        }
    }

    /// Calls `visit` with the local endpoint of each connection of full NAT in bucket `index`, the bucket held.
    pub fn visit_local_endpoints(&self, index: usize, mut visit: impl FnMut(Endpoint)) {
        let bucket = Held::lock(&self.buckets[index]);
        let aliases = self.entries(bucket.bucket).filter(|entry| entry.flags().has(Flags::ALIAS));
        aliases.filter(|alias| alias.controlled() > 0).for_each(|alias| visit(alias.client()));
    }

    /// Says that a controlled entry which was counted at its controller will not be made after all.
    pub fn release_controller(&self, controller: EntryId) {
        if !controller.is_none() {
            self.entry(controller).release();
        }
    }

    #[inline(always)]
    fn bucket(&self, hash: u64) -> &SplitLine {
        &self.buckets[(hash & self.mask) as usize]
    }

    #[inline(always)]
    pub(super) fn bucket_of(&self, hash: u64) -> &SplitLine {
        self.bucket(hash)
    }

    /// The hash under which an entry stands.
    pub(super) fn hash_of_entry(&self, entry: Entry<'_>) -> u64 {
        match Self::engine_record(entry) {
            0 => self.hash(entry.protocol(), entry.client()),
            record => self.hash_of_data(&self.engine_records.load(record)),
        }
    }

    pub(super) fn bucket_at(&self, index: usize) -> &SplitLine {
        &self.buckets[index]
    }

    #[inline(always)]
    pub(super) fn entry(&self, id: EntryId) -> Entry<'_> {
        match id.family() {
            Family::V4 => self.v4.entry(id),
            Family::V6 => self.v6.entry(id),
        }
    }

    /// The entries of a held bucket.
    pub(super) fn entries<'t>(&'t self, bucket: Bucket<'t>) -> impl Iterator<Item = Entry<'t>> {
        self.places(bucket).map(|place| self.entry(place.id))
    }

    /// Where the entries of a held bucket stand; the one that is handed out may be removed.
    #[inline]
    pub(super) fn places<'t>(&'t self, bucket: Bucket<'t>) -> impl Iterator<Item = Place> + use<'t> {
        let slots = bucket.taken().map(move |slot| Place { id: bucket.id(slot), slot: Some(slot as u8) });
        slots.chain(self.overflow(bucket).map(|entry| Place { id: entry.id(), slot: None }))
    }

    /// Where the entry of this number stands, if it is in this held bucket.
    pub(super) fn place_of(&self, bucket: Bucket<'_>, id: EntryId) -> Option<Place> {
        self.places(bucket).find(|place| place.id == id)
    }

    /// The entries of a held bucket's overflow chain. The next is read before one is handed out, so that the one
    /// handed out may be removed.
    pub(super) fn overflow<'t>(&'t self, bucket: Bucket<'_>) -> impl Iterator<Item = Entry<'t>> + use<'t> {
        let mut next = bucket.overflow();
        std::iter::from_fn(move || {
            let id = next;
            (!id.is_none()).then(|| {
                next = self.entry(id).next();
                self.entry(id)
            })
        })
    }

    /// The first live entry that matches, and its slot; expired ones that match are retired on the way.
    #[inline(always)]
    pub(super) fn search(
        &self,
        bucket: Bucket<'_>,
        hash: u64,
        now_ticks: u32,
        matches: impl Fn(Entry<'_>) -> bool + Copy,
    ) -> Option<(Entry<'_>, Option<u8>)> {
        for slot in bucket.tagged(tag(hash)) {
            let entry = self.entry(bucket.id(slot));
            if matches(entry) && self.is_live(bucket, entry, Some(slot as u8), now_ticks) {
                return Some((entry, Some(slot as u8)));
            }
        }
        match bucket.overflow() {
            EntryId::NONE => None,
            _ => self.search_overflow(bucket, now_ticks, matches),
        }
    }

    #[cold]
    #[inline(never)]
    fn search_overflow(
        &self,
        bucket: Bucket<'_>,
        now_ticks: u32,
        matches: impl Fn(Entry<'_>) -> bool,
    ) -> Option<(Entry<'_>, Option<u8>)> {
        let found = self.overflow(bucket).find(|&entry| matches(entry) && self.is_live(bucket, entry, None, now_ticks));
        found.map(|entry| (entry, None))
    }

    #[inline(always)]
    fn is_live(&self, bucket: Bucket<'_>, entry: Entry<'_>, slot: Option<u8>, now_ticks: u32) -> bool {
        !entry.is_expired(now_ticks) || !self.retire(bucket, Place { id: entry.id(), slot }, now_ticks)
    }

    /// Ends an entry whose deadline has passed, or gives it another minute when it controls others. True when it is
    /// gone.
    #[cold]
    pub(super) fn retire(&self, bucket: Bucket<'_>, place: Place, now_ticks: u32) -> bool {
        let entry = self.entry(place.id);
        if entry.controlled() == 0 {
            self.remove(bucket, place);
            return true;
        }
        entry.set_state(entry.state(), CONTROLLING_TIMEOUT_S);
        if self.notes_postponed.load(Ordering::Relaxed) && !entry.flags().has(Flags::ALIAS) {
            // When the queue is full, this end's news are lost; the next packet of what it controls tells them.
            let _ = self.postponed.push(place.id);
        }
        let step = CONTROLLING_TIMEOUT_S * TICKS_PER_SECOND;
        let behind = now_ticks.wrapping_sub(entry.deadline());
        entry.set_deadline(entry.deadline().wrapping_add((behind / step + 1) * step));
        false
    }

    /// The counts of active and inactive connections, and the template, when a held entry enters another state.
    #[inline(never)]
    fn enter(&self, entry: Entry<'_>, is_active: bool, is_established: bool) {
        let flags = entry.flags();
        if flags.has(Flags::INACTIVE) == is_active && entry.destination() != DestinationId::NONE {
            self.destinations.count_active(entry.destination(), is_active);
            entry.set_flags(if is_active { flags.without(Flags::INACTIVE) } else { flags.with(Flags::INACTIVE) });
        }
        if is_established {
            self.assure_controller(entry);
        }
    }

    fn assure_controller(&self, entry: Entry<'_>) {
        self.assure(entry.controller());
    }

    /// Marks a template as assured: a connection that it controls was confirmed.
    pub fn assure(&self, controller: EntryId) {
        if !controller.is_none() {
            self.entry(controller).assure_template();
        }
    }

    /// Puts an entry into the bucket's free slot and gives its number, or at the head of the overflow chain.
    pub(super) fn link(
        &self,
        bucket: Bucket<'_>,
        free_slot: Option<usize>,
        hash: u64,
        entry: Entry<'_>,
        now_ticks: u32,
    ) -> Option<u8> {
        if let Some(slot) = free_slot {
            bucket.put(slot, tag(hash), coarse(entry.deadline(), now_ticks), entry.id());
            return Some(slot as u8);
        }
        entry.set_next(bucket.overflow());
        bucket.set_overflow(entry.id());
        None
    }

    /// The place of an entry that was just linked, once it stands before an older one that the server's packets match
    /// too: a client may come from one port to two virtual services that masquerade to one server, and then the kernel
    /// finds the newer connection (`ip_vs_conn_out_get`: new ones are at the head of their list).
    fn bring_forward(
        &self,
        bucket: Bucket<'_>,
        hash: u64,
        entry: Entry<'_>,
        linked: Option<u8>,
        now_ticks: u32,
    ) -> Option<u8> {
        let is_reached = |flags: Flags| flags.method() == Method::Masquerading && !flags.has(Flags::TEMPLATE);
        if !is_reached(entry.flags()) {
            return linked;
        }
        let (code, client, from) = (entry.protocol_code(), entry.client(), entry.destination_endpoint());
        let is_alike = move |other: Entry<'_>| {
            is_reached(other.flags())
                && other.protocol_code() == code
                && other.client() == client
                && other.destination_endpoint() == from
        };
        let found = self.search(bucket, hash, now_ticks, is_alike);
        // Whoever is chained stands behind all slots, and a new one at the head of the chain.
        let Some((older, Some(before))) = found.filter(|(older, _)| older.id() != entry.id()) else { return linked };
        let put = |slot: u8, of: Entry<'_>| {
            bucket.put(usize::from(slot), tag(hash), coarse(of.deadline(), now_ticks), of.id());
        };
        match linked {
            Some(slot) => put(slot, older),
            None => {
                self.unchain(bucket, entry.id());
                older.set_next(bucket.overflow());
                bucket.set_overflow(older.id());
            }
        }
        put(before, entry);
        Some(before)
    }

    /// True when a bucket takes no more entries, so that its holder's walk has an end: a client can send any number
    /// of datagrams from port 0, and each makes an entry in the same bucket.
    fn is_chained_out(&self, bucket: Bucket<'_>) -> bool {
        self.overflow(bucket).take(OVERFLOW_MAX).count() == OVERFLOW_MAX
    }

    /// Takes an entry out of its held bucket, settles the counts and gives the cell back.
    pub(super) fn remove(&self, bucket: Bucket<'_>, place: Place) {
        match place.slot {
            Some(slot) => bucket.clear(usize::from(slot)),
            None => self.unchain(bucket, place.id),
        }
        let entry = self.entry(place.id);
        let flags = entry.flags();
        if entry.destination() != DestinationId::NONE {
            let (template, was_inactive) = (flags.has(Flags::TEMPLATE), flags.has(Flags::INACTIVE));
            self.destinations.unbind(entry.destination(), template, was_inactive);
        }
        self.release_controller(entry.controller());
        match entry.extra() {
            0 => {}
            record if flags.has(Flags::TEMPLATE) => self.engine_records.free(record),
            // An alias goes when its time comes: its bucket is another's.
            alias if flags.has(Flags::FULL_NAT) => self.entry(EntryId(alias)).release(),
            _ if flags.has(Flags::ALIAS) => {}
            record => self.moved_records.free(record),
        }
        if flags.has(Flags::HELPED) {
            self.helper_ports.release(entry);
        }
        if flags.has(Flags::NO_CLIENT_PORT) {
            self.no_client_port.fetch_sub(1, Ordering::Relaxed);
        }
        self.free(place.id);
    }

    fn free(&self, id: EntryId) {
        match id.family() {
            Family::V4 => self.v4.free(id),
            Family::V6 => self.v6.free(id),
        }
    }

    fn unchain(&self, bucket: Bucket<'_>, id: EntryId) {
        let next = self.entry(id).next();
        let mut at = bucket.overflow();
        if at == id {
            bucket.set_overflow(next);
            return;
        }
        while !at.is_none() {
            let entry = self.entry(at);
            if entry.next() == id {
                entry.set_next(next);
                return;
            }
            at = entry.next();
        }
        debug_assert!(false, "an entry is in its bucket's chain");
    }
}

/// Where an entry stands in its bucket; `slot` is `None` in the overflow chain.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub(super) id: EntryId,
    pub(super) slot: Option<u8>,
}

/// A connection that was found, its bucket held until this is dropped.
pub struct Found<'t> {
    table: &'t Table,
    bucket: Held<'t>,
    entry: Entry<'t>,
    /// As in [`Place`].
    slot: Option<u8>,
    now_ticks: u32,
}

impl<'t> Found<'t> {
    /// An entry of its held bucket; `slot` as in [`Place`].
    #[inline(always)]
    pub(super) const fn new(
        table: &'t Table,
        bucket: Held<'t>,
        entry: Entry<'t>,
        slot: Option<u8>,
        now_ticks: u32,
    ) -> Self {
        Self { table, bucket, entry, slot, now_ticks }
    }

    pub(super) const fn table(&self) -> &'t Table {
        self.table
    }

    pub(super) const fn now_ticks(&self) -> u32 {
        self.now_ticks
    }

    /// The entry.
    #[inline]
    pub fn entry(&self) -> Entry<'t> {
        self.entry
    }

    /// All that a packet does to the entry: [`Found::advance`], then the client's packet counts, then
    /// [`Found::restart`].
    #[inline(always)]
    pub fn follow(&self, direction: Direction, event: Event, secure_tcp: bool) {
        let timer = self.next_timer(direction, event, secure_tcp);
        self.entry.set_timer(timer);
        if direction == Direction::Inbound {
            self.entry.set_in_packets(self.entry.in_packets().wrapping_add(1));
        }
        self.restart_by(timer);
    }

    /// What a packet does to the entry's state: the next state and its timeout, active and inactive counts, the
    /// flags. The deadline moves with [`Found::restart`].
    #[inline]
    pub fn advance(&self, direction: Direction, event: Event, secure_tcp: bool) {
        self.entry.set_timer(self.next_timer(direction, event, secure_tcp));
    }

    /// Gives the entry its whole timeout again.
    #[inline]
    pub fn restart(&self) {
        self.restart_by(self.entry.timer());
    }

    /// Gives the entry so many ticks, no more than its timeout has.
    pub(super) fn restart_with(&self, left_ticks: u32) {
        let whole = self.entry.timeout_s() * TICKS_PER_SECOND;
        self.set_deadline(self.now_ticks.wrapping_add(left_ticks.min(whole)));
    }

    /// True when the entry's timer was restarted at this moment or later.
    pub(super) fn is_restarted_since(&self, since: Instant) -> bool {
        let whole = self.entry.timeout_s() * TICKS_PER_SECOND;
        let restarted = self.entry.deadline().wrapping_sub(whole);
        restarted.wrapping_sub(ticks(since)).cast_signed() >= 0
    }

    #[inline(always)]
    fn next_timer(&self, direction: Direction, event: Event, secure_tcp: bool) -> Timer {
        let (timer, flags) = (self.entry.timer(), self.entry.flags());
        if direction == Direction::Outbound && flags.has(Flags::NO_OUTPUT) {
            self.entry.set_flags(flags.without(Flags::NO_OUTPUT));
        }
        match event {
            Event::Tcp(event) => {
                let side = tcp::Side::of(direction, flags);
                let (old, new) = (timer.state(), tcp::next(secure_tcp, side, event, timer.state()));
                if new != old {
                    self.table.enter(self.entry, tcp::is_active(new), new == tcp::ESTABLISHED);
                }
                timer.with_state(new, self.table.timeouts.tcp_s(new))
            }
            Event::Sctp(event) => {
                let (old, new) = (timer.state(), sctp::next(tcp::Side::of(direction, flags), event, timer.state()));
                if new != old {
                    self.table.enter(self.entry, sctp::is_active(new), new == sctp::ESTABLISHED);
                }
                timer.with_state(new, sctp::timeout_s(new))
            }
            Event::Nothing => timer,
            Event::Udp => {
                if direction == Direction::Outbound {
                    self.table.assure_controller(self.entry);
                }
                timer.with_state(timer.state(), self.table.timeouts.udp_s())
            }
        }
    }

    #[inline(always)]
    fn restart_by(&self, timer: Timer) {
        self.set_deadline(self.now_ticks.wrapping_add(timer.timeout_s() * TICKS_PER_SECOND));
    }

    #[inline(always)]
    fn set_deadline(&self, deadline: u32) {
        self.entry.set_deadline(deadline);
        let Some(slot) = self.slot else { return };
        let (bucket, slot) = (self.bucket.bucket, usize::from(slot));
        let wanted = coarse(deadline, self.now_ticks);
        if (wanted.wrapping_sub(bucket.bound(slot)) as i16) < 0 {
            bucket.set_bound(slot, wanted);
        }
    }

    /// Counts one more entry that this one is about to control.
    pub fn control(&self) -> EntryId {
        self.entry.control();
        self.entry.id()
    }

    /// Counts the entry as inactive.
    pub(super) fn leave_active(&self) {
        self.table.enter(self.entry, false, false);
    }

    /// Takes the entry out of the table.
    pub(super) fn remove(self) {
        self.table.remove(self.bucket.bucket, Place { id: self.entry.id(), slot: self.slot });
    }

    /// Makes a template that must not be used again unfindable (`ip_vs_check_template`).
    pub fn invalidate_template(&self) {
        let entry = self.entry();
        let (client, service, server) = (entry.client(), entry.virtual_service(), entry.destination_endpoint());
        entry.set_client(Endpoint::new(client.address, 0));
        entry.set_virtual_service(Endpoint::new(service.address, u16::MAX));
        entry.set_destination_endpoint(Endpoint::new(server.address, u16::MAX));
    }

    /// Lets the entry run out now, unless it controls others; false then. It is found no more, but counts for its
    /// destination until it is removed: by the connection that takes its place, or by the sweep. So whoever is
    /// scheduled next still meets its count, as in the kernel (`ip_vs_conn_expire_now`).
    pub fn expire_now(self) -> bool {
        if self.entry().controlled() > 0 {
            return false;
        }
        self.set_deadline(self.now_ticks);
        true
    }
}

/// A key as the words of an entry have it.
#[derive(Clone, Copy)]
struct Wanted {
    code: u32,
    client: Endpoint,
    other: Endpoint,
}

impl Wanted {
    #[inline(always)]
    fn new(key: &Key) -> Self {
        Self { code: protocol_code(key.protocol), client: key.client, other: key.other }
    }

    #[inline(always)]
    fn is_key_of(self, entry: Entry<'_>) -> bool {
        entry.ports_match(self.client.port, self.other.port)
            && entry.protocol_code() == self.code
            && entry.addresses_match(self.client.address, self.other.address)
    }

    /// A packet from port 0 finds only entries that wait for their client's port, any other packet only the rest.
    #[inline(always)]
    fn is_inbound(self, entry: Entry<'_>) -> bool {
        self.is_key_of(entry) && (self.client.port == 0) == entry.flags().has(Flags::NO_CLIENT_PORT)
    }
}

#[inline]
const fn fold(a: u64, b: u64) -> u64 {
    let product = a as u128 * b as u128;
    product as u64 ^ (product >> 64) as u64
}
