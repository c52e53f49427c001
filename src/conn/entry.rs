//! One connection as words of a cell.
//!
//! ```text
//! near   0  client port << 16 | virtual port
//!        1  destination port << 16 | free 11 | moment of synchronisation is known 1 | last synchronised state 4
//!        2  flags (the kernel's bits; the low 16 travel in sync messages)
//!        3  deadline, ticks of 10 ms since the director's start, wrapping
//!        4  timeout, seconds, 22 bits | state 4 | protocol 3 | free 3
//!        5  destination
//!        6  packets from the client
//!        7  next entry of the bucket's overflow chain, or of the free list
//! far    8  controller (the template or connection that controls this one)
//!        9  number of entries this one controls
//!       10  firewall mark of the first packet
//!       11  extra record (a template's persistence engine data, a connection's moved sequence numbers or its alias of
//!           full NAT; an alias's connection)
//! and client, virtual and destination address in wide words
//! ```
//! A packet of a known connection needs what is near and the first two addresses. Of IPv4 all is in one line of 64
//! octets, these two addresses in one wide word. Of IPv6 what is near, client and virtual address fill a line; what is
//! far and the destination address, half a line, lie elsewhere: 96 octets in all.
//!
//! All words are atomics read and written relaxed: the bucket's lock orders them. Only word 9 is touched without the
//! bucket of its entry, by entries that are controlled.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use crate::base::{Address, Endpoint, Family, Instant};
use crate::conn::state::State;
use crate::service::{DestinationId, Method, Protocol};

/// Ticks of deadlines per second.
pub const TICKS_PER_SECOND: u32 = 100;
const TICK_NANOSECONDS: u64 = 1_000_000_000 / TICKS_PER_SECOND as u64;

/// Entries whose timer was not restarted for so many seconds are quiet.
const QUIET_S: u32 = 60;

/// Longest timeout of an entry, seconds: the largest value of `ipvsadm -p` and `--set`, 31 days.
pub const TIMEOUT_MAX_S: u32 = 31 * 24 * 60 * 60;

/// The moment as ticks, wrapping after 497 days.
#[inline]
pub const fn ticks(now: Instant) -> u32 {
    (now.nanoseconds() / TICK_NANOSECONDS) as u32
}

/// The number of an entry's cell; 0 is none. The top bit tells the family's pool.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct EntryId(pub(super) u32);

const V6_BIT: u32 = 1 << 31;

impl EntryId {
    /// No entry.
    pub const NONE: EntryId = EntryId(0);

    pub(super) const fn new(family: Family, index: u32) -> Self {
        match family {
            Family::V4 => EntryId(index),
            Family::V6 => EntryId(index | V6_BIT),
        }
    }

    /// True for no entry.
    pub const fn is_none(self) -> bool {
        self.0 == 0
    }

    /// Family of the client and the virtual service.
    pub const fn family(self) -> Family {
        if self.0 & V6_BIT == 0 { Family::V4 } else { Family::V6 }
    }

    pub(super) const fn index(self) -> u32 {
        self.0 & !V6_BIT
    }
}

/// Flags of a connection, `IP_VS_CONN_F_*`; the low three bits are the forwarding method.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Flags(pub u32);

impl Flags {
    pub(super) const METHOD: u32 = 0x7;
    /// What travels in sync messages: the kernel's low 16 bits, less HASHED and the two of moved sequence numbers.
    pub const TRAVELLING: Flags = Flags(0xf9bf);
    /// Created by the sync daemon.
    pub const SYNC: Flags = Flags(0x20);
    /// No reply seen yet.
    pub const NO_OUTPUT: Flags = Flags(0x80);
    /// Counted as inactive.
    pub const INACTIVE: Flags = Flags(0x100);
    /// The client's port is not known yet.
    pub const NO_CLIENT_PORT: Flags = Flags(0x800);
    /// A persistence template.
    pub const TEMPLATE: Flags = Flags(0x1000);
    /// One-packet scheduling.
    pub const ONE_PACKET: Flags = Flags(0x2000);
    /// Is tracked by netfilter; lvx only says so to backups.
    pub const TRACKED: Flags = Flags(0x1_0000);
    /// Has no destination of this director (its address alone is known).
    pub const NO_DESTINATION: Flags = Flags(1 << 24);
    /// A helper watches it.
    pub const HELPED: Flags = Flags(1 << 25);
    /// The client of a watched FTP connection has asked for a passive data connection: by PASV.
    pub const PASSIVE: Flags = Flags(1 << 26);
    /// Likewise by EPSV.
    pub const EXTENDED_PASSIVE: Flags = Flags(1 << 27);
    /// Its server sees a local address in the client's place: the extra record is its alias in the table, by which the
    /// server's packets find it.
    pub const FULL_NAT: Flags = Flags(1 << 28);
    /// Is such an alias: its client is the local endpoint, and its extra record the connection.
    pub const ALIAS: Flags = Flags(1 << 29);
    /// Somebody has a say in each of its packets beside the forwarding method.
    pub(super) const ATTENDED: u32 = Self::HELPED.0 | Self::FULL_NAT.0;
    pub(super) const HELPER_MODES: Flags = Flags(Self::PASSIVE.0 | Self::EXTENDED_PASSIVE.0);

    /// The forwarding method.
    #[inline]
    pub fn method(self) -> Method {
        Method::from_number((self.0 & Self::METHOD) as u8).unwrap_or_default()
    }

    /// Flags of a new connection by `method`.
    pub fn new(method: Method) -> Self {
        let silent = if method == Method::Masquerading { 0 } else { Self::NO_OUTPUT.0 };
        Flags(method as u32 | Self::INACTIVE.0 | silent)
    }

    /// True when every bit of `other` is set.
    #[inline]
    pub const fn has(self, other: Flags) -> bool {
        self.0 & other.0 == other.0
    }

    /// True when a packet of the connection asks for more than its forwarding method does.
    #[inline]
    pub const fn is_attended(self) -> bool {
        self.0 & Self::ATTENDED != 0
    }

    /// With the bits of `other`.
    #[must_use]
    pub const fn with(self, other: Flags) -> Self {
        Flags(self.0 | other.0)
    }

    /// Without the bits of `other`.
    #[must_use]
    pub const fn without(self, other: Flags) -> Self {
        Flags(self.0 & !other.0)
    }
}

/// Words of an entry beside its addresses: those that every packet needs, and the others.
pub(super) const NEAR: usize = 8;
pub(super) const FAR: usize = 4;
const WORDS: usize = NEAR + FAR;
/// Wide words of the addresses: of IPv4, and of IPv6 near and far.
pub(super) const ADDRESSES_V4: usize = 2;
pub(super) const ADDRESSES_NEAR: usize = 4;
pub(super) const ADDRESSES_FAR: usize = 2;
const ADDRESSES_V6: usize = ADDRESSES_NEAR + ADDRESSES_FAR;

const PORTS: usize = 0;
const DESTINATION_PORT: usize = 1;
const FLAGS: usize = 2;
const DEADLINE: usize = 3;
const TIMER: usize = 4;
const DESTINATION: usize = 5;
const IN_PACKETS: usize = 6;
const NEXT: usize = 7;
const CONTROLLER: usize = 8;
const CONTROLLED: usize = 9;
const MARK: usize = 10;
const EXTRA: usize = 11;

const SYNCED_STATE_MASK: u32 = 0xf;
const SYNC_END_BIT: u32 = 1 << 4;

const TIMEOUT_BITS: u32 = 22;
const TIMEOUT_MASK: u32 = (1 << TIMEOUT_BITS) - 1;
const STATE_SHIFT: u32 = TIMEOUT_BITS;
const STATE_MASK: u32 = 0xf << STATE_SHIFT;
const PROTOCOL_SHIFT: u32 = STATE_SHIFT + 4;
const PROTOCOL_MASK: u32 = 0x7 << PROTOCOL_SHIFT;

const _: () = assert!(TIMEOUT_MAX_S <= TIMEOUT_MASK);

/// The addresses of an entry, in their order.
#[derive(Clone, Copy)]
enum Which {
    Client,
    Virtual,
    Destination,
}

/// An entry's timeout, state and protocol by value: read once, written once.
#[derive(Clone, Copy)]
pub(super) struct Timer(u32);

impl Timer {
    #[inline]
    pub(super) const fn timeout_s(self) -> u32 {
        self.0 & TIMEOUT_MASK
    }

    #[inline]
    pub(super) const fn state(self) -> State {
        State(((self.0 & STATE_MASK) >> STATE_SHIFT) as u8)
    }

    #[inline]
    const fn protocol_code(self) -> u32 {
        (self.0 & PROTOCOL_MASK) >> PROTOCOL_SHIFT
    }

    /// The same protocol in another state, with that state's timeout.
    #[inline]
    #[must_use]
    pub(super) fn with_state(self, state: State, timeout_s: u32) -> Self {
        Timer(self.0 & PROTOCOL_MASK | u32::from(state.0) << STATE_SHIFT | timeout_s.min(TIMEOUT_MAX_S))
    }
}

/// A protocol in three bits: the lowest of its number tell all of them apart. 0 is IP, the protocol of fwmark
/// templates.
#[inline]
pub(super) const fn protocol_code(protocol: Option<Protocol>) -> u32 {
    match protocol {
        None => 0,
        Some(protocol) => protocol as u32 & 0x7,
    }
}

const fn protocol_from_code(code: u32) -> Option<Protocol> {
    const TCP: u32 = protocol_code(Some(Protocol::Tcp));
    const UDP: u32 = protocol_code(Some(Protocol::Udp));
    const SCTP: u32 = protocol_code(Some(Protocol::Sctp));
    match code {
        TCP => Some(Protocol::Tcp),
        UDP => Some(Protocol::Udp),
        SCTP => Some(Protocol::Sctp),
        _ => None,
    }
}

/// The words of an IPv6 address.
#[inline(always)]
const fn halves<'a>(
    near: &'a [AtomicU64; ADDRESSES_NEAR],
    far: &'a [AtomicU64; ADDRESSES_FAR],
    which: Which,
) -> [&'a AtomicU64; 2] {
    match which {
        Which::Client => [&near[0], &near[1]],
        Which::Virtual => [&near[2], &near[3]],
        Which::Destination => [&far[0], &far[1]],
    }
}

/// The addresses of an IPv4 client and its virtual service as one word.
#[inline(always)]
const fn pair(client: Address, service: Address) -> u64 {
    (client.low_u32() as u64) << 32 | service.low_u32() as u64
}

/// The words of an entry, by value.
#[derive(Clone, Copy, Debug)]
pub(super) struct Words {
    head: [u32; WORDS],
    /// Of IPv4 the first ones.
    addresses: [u64; ADDRESSES_V6],
}

impl Words {
    /// The controller that they name.
    pub(super) const fn controller(&self) -> EntryId {
        EntryId(self.head[CONTROLLER])
    }
}

/// A view of one entry's words. Whoever has it holds the entry's bucket (or, for a free cell, owns it).
#[derive(Clone, Copy)]
pub struct Entry<'a> {
    id: EntryId,
    near: &'a [AtomicU32; NEAR],
    far: &'a [AtomicU32; FAR],
    addresses: Addresses<'a>,
}

/// The addresses of an entry.
#[derive(Clone, Copy)]
pub(super) enum Addresses<'a> {
    /// Client and virtual address in one word, the client's above; then the destination's.
    V4(&'a [AtomicU64; ADDRESSES_V4]),
    /// Two words each: of client and virtual address, then of the destination's.
    V6(&'a [AtomicU64; ADDRESSES_NEAR], &'a [AtomicU64; ADDRESSES_FAR]),
}

impl<'a> Entry<'a> {
    #[inline]
    pub(super) const fn new(
        id: EntryId,
        near: &'a [AtomicU32; NEAR],
        far: &'a [AtomicU32; FAR],
        addresses: Addresses<'a>,
    ) -> Self {
        Self { id, near, far, addresses }
    }

    /// The cell of a word.
    #[inline(always)]
    fn cell(self, index: usize) -> &'a AtomicU32 {
        if index < NEAR { &self.near[index] } else { &self.far[index - NEAR] }
    }

    /// The cells of the addresses.
    fn wide_cells(self) -> impl Iterator<Item = &'a AtomicU64> {
        let (first, second): (&[AtomicU64], &[AtomicU64]) = match self.addresses {
            Addresses::V4(words) => (words, &[]),
            Addresses::V6(near, far) => (near, far),
        };
        first.iter().chain(second)
    }

    #[inline(always)]
    fn word(self, index: usize) -> u32 {
        self.cell(index).load(Relaxed)
    }

    #[inline(always)]
    fn set(self, index: usize, value: u32) {
        self.cell(index).store(value, Relaxed);
    }

    /// All words, to be put into another cell of the family.
    pub(super) fn words(self) -> Words {
        let mut words = Words { head: std::array::from_fn(|index| self.word(index)), addresses: [0; ADDRESSES_V6] };
        self.wide_cells().zip(&mut words.addresses).for_each(|(cell, word)| *word = cell.load(Relaxed));
        words
    }

    /// Makes a cell that nobody refers to yet the same as another of its family.
    pub(super) fn set_words(self, words: &Words) {
        words.head.iter().enumerate().for_each(|(index, word)| self.set(index, *word));
        self.wide_cells().zip(words.addresses).for_each(|(cell, word)| cell.store(word, Relaxed));
    }

    /// Its number.
    pub const fn id(self) -> EntryId {
        self.id
    }

    #[inline(always)]
    fn address(self, which: Which) -> Address {
        match (self.addresses, which) {
            (Addresses::V4([both, _]), Which::Client) => Address::v4((both.load(Relaxed) >> 32) as u32),
            (Addresses::V4([both, _]), Which::Virtual) => Address::v4(both.load(Relaxed) as u32),
            (Addresses::V4([_, destination]), Which::Destination) => Address::v4(destination.load(Relaxed) as u32),
            (Addresses::V6(near, far), which) => {
                let [high, low] = halves(near, far, which).map(|half| half.load(Relaxed));
                Address(u128::from(high) << 64 | u128::from(low))
            }
        }
    }

    #[inline]
    fn set_address(self, which: Which, address: Address) {
        match (self.addresses, which) {
            (Addresses::V4([both, _]), Which::Client) => {
                both.store(pair(address, Address(u128::from(both.load(Relaxed)))), Relaxed);
            }
            (Addresses::V4([both, _]), Which::Virtual) => {
                both.store(both.load(Relaxed) & !u64::from(u32::MAX) | u64::from(address.low_u32()), Relaxed);
            }
            (Addresses::V4([_, destination]), Which::Destination) => {
                destination.store(u64::from(address.low_u32()), Relaxed);
            }
            (Addresses::V6(near, far), which) => {
                let [high, low] = halves(near, far, which);
                high.store((address.0 >> 64) as u64, Relaxed);
                low.store(address.0 as u64, Relaxed);
            }
        }
    }

    /// True when both addresses are those of the key: client and virtual.
    #[inline(always)]
    pub(super) fn addresses_match(self, client: Address, service: Address) -> bool {
        match self.addresses {
            Addresses::V4([both, _]) => {
                both.load(Relaxed) == pair(client, service) && client.is_v4() && service.is_v4()
            }
            Addresses::V6(..) => self.address(Which::Client) == client && self.address(Which::Virtual) == service,
        }
    }

    /// The client's address and port.
    #[inline(always)]
    pub fn client(self) -> Endpoint {
        Endpoint::new(self.address(Which::Client), (self.word(PORTS) >> 16) as u16)
    }

    /// The virtual address and port.
    #[inline(always)]
    pub fn virtual_service(self) -> Endpoint {
        Endpoint::new(self.address(Which::Virtual), self.word(PORTS) as u16)
    }

    /// The real server's address and port. An IPv4 entry cannot hold the IPv6 address of a tunnelled destination
    /// (nor the reverse be told from it): its holder asks the destination itself.
    #[inline(always)]
    pub fn destination_endpoint(self) -> Endpoint {
        Endpoint::new(self.address(Which::Destination), (self.word(DESTINATION_PORT) >> 16) as u16)
    }

    /// True when the ports are those of the key: client and virtual.
    #[inline]
    pub(super) fn ports_match(self, client_port: u16, virtual_port: u16) -> bool {
        self.word(PORTS) == u32::from(client_port) << 16 | u32::from(virtual_port)
    }

    /// True when the entry is of this protocol, and of IPv4 between a client and a virtual service: their addresses in
    /// one word, the client's above, and their ports in another.
    #[inline(always)]
    pub fn is_between_v4(self, protocol: Protocol, addresses: u64, ports: u32) -> bool {
        matches!(self.addresses, Addresses::V4([both, _]) if both.load(Relaxed) == addresses)
            && self.word(PORTS) == ports
            && self.protocol_code() == protocol_code(Some(protocol))
    }

    /// The same of IPv6.
    #[inline(always)]
    pub fn is_between_v6(self, protocol: Protocol, client: Address, service: Address, ports: u32) -> bool {
        matches!(self.addresses, Addresses::V6(..))
            && self.address(Which::Client) == client
            && self.address(Which::Virtual) == service
            && self.word(PORTS) == ports
            && self.protocol_code() == protocol_code(Some(protocol))
    }

    /// True when the entry is of this protocol and masquerades a real server to a client: `server` and `client` are what
    /// the server's packets have as source and destination.
    #[inline(always)]
    pub fn is_answered_by(self, protocol: Protocol, server: Endpoint, client: Endpoint) -> bool {
        self.flags().method() == Method::Masquerading
            && self.client() == client
            && self.destination_endpoint() == server
            && self.protocol_code() == protocol_code(Some(protocol))
    }

    /// Sets client and virtual service of a new entry.
    #[inline]
    pub(super) fn set_key(self, client: Endpoint, service: Endpoint) {
        match self.addresses {
            Addresses::V4([both, _]) => both.store(pair(client.address, service.address), Relaxed),
            Addresses::V6(..) => {
                self.set_address(Which::Client, client.address);
                self.set_address(Which::Virtual, service.address);
            }
        }
        self.set(PORTS, u32::from(client.port) << 16 | u32::from(service.port));
    }

    pub(super) fn set_client(self, client: Endpoint) {
        self.set_address(Which::Client, client.address);
        self.set(PORTS, self.word(PORTS) & 0xffff | u32::from(client.port) << 16);
    }

    pub(super) fn set_virtual_service(self, endpoint: Endpoint) {
        self.set_address(Which::Virtual, endpoint.address);
        self.set(PORTS, self.word(PORTS) & 0xffff_0000 | u32::from(endpoint.port));
    }

    pub(super) fn set_destination_endpoint(self, endpoint: Endpoint) {
        self.set_address(Which::Destination, endpoint.address);
        self.set(DESTINATION_PORT, u32::from(endpoint.port) << 16);
    }

    /// The state in which backups were told of the entry last.
    #[inline]
    pub(super) fn synced_state(self) -> State {
        State((self.word(DESTINATION_PORT) & SYNCED_STATE_MASK) as u8)
    }

    /// Notes in which state backups are told of the entry. Of a template without its bucket, therefore bit by bit.
    pub(super) fn set_synced_state(self, state: State) {
        if self.synced_state() != state {
            self.cell(DESTINATION_PORT).fetch_and(!SYNCED_STATE_MASK, Relaxed);
            self.cell(DESTINATION_PORT).fetch_or(u32::from(state.0) & SYNCED_STATE_MASK, Relaxed);
        }
    }

    /// True when the moment until which backups have the entry was written since the entry was made.
    pub(super) fn has_sync_end(self) -> bool {
        self.word(DESTINATION_PORT) & SYNC_END_BIT != 0
    }

    pub(super) fn mark_sync_end(self) {
        self.cell(DESTINATION_PORT).fetch_or(SYNC_END_BIT, Relaxed);
    }

    /// Flags, the forwarding method among them.
    #[inline(always)]
    pub fn flags(self) -> Flags {
        Flags(self.word(FLAGS))
    }

    #[inline]
    pub(super) fn set_flags(self, flags: Flags) {
        self.set(FLAGS, flags.0);
    }

    #[inline(always)]
    pub(super) fn deadline(self) -> u32 {
        self.word(DEADLINE)
    }

    #[inline]
    pub(super) fn set_deadline(self, deadline: u32) {
        self.set(DEADLINE, deadline);
    }

    /// True when the deadline has passed at `now_ticks`.
    #[inline(always)]
    pub fn is_expired(self, now_ticks: u32) -> bool {
        self.deadline().wrapping_sub(now_ticks) as i32 <= 0
    }

    /// True when the timer was not restarted within the last minute, as `drop_entry` asks.
    pub(super) fn is_quiet(self, now_ticks: u32) -> bool {
        let left = self.deadline().wrapping_sub(now_ticks) as i32;
        let idle = i64::from(self.timeout_s()) * i64::from(TICKS_PER_SECOND) - i64::from(left);
        idle >= i64::from(QUIET_S * TICKS_PER_SECOND)
    }

    /// Whole seconds left, rounded down.
    pub fn expires_s(self, now_ticks: u32) -> u32 {
        let left = self.deadline().wrapping_sub(now_ticks) as i32;
        left.max(0) as u32 / TICKS_PER_SECOND
    }

    /// Seconds that each packet gives the entry.
    #[inline]
    pub fn timeout_s(self) -> u32 {
        self.timer().timeout_s()
    }

    /// Protocol state.
    #[inline]
    pub fn state(self) -> State {
        self.timer().state()
    }

    /// Transport protocol; `None` for a fwmark template.
    #[inline]
    pub fn protocol(self) -> Option<Protocol> {
        protocol_from_code(self.timer().protocol_code())
    }

    #[inline(always)]
    pub(super) fn protocol_code(self) -> u32 {
        self.timer().protocol_code()
    }

    #[inline(always)]
    pub(super) fn timer(self) -> Timer {
        Timer(self.word(TIMER))
    }

    #[inline]
    pub(super) fn set_timer(self, timer: Timer) {
        self.set(TIMER, timer.0);
    }

    /// Gives a new entry its protocol, state and timeout.
    #[inline]
    pub(super) fn start_timer(self, timeout_s: u32, state: State, protocol: Option<Protocol>) {
        self.set_timer(Timer(protocol_code(protocol) << PROTOCOL_SHIFT).with_state(state, timeout_s));
    }

    #[inline]
    pub(super) fn set_state(self, state: State, timeout_s: u32) {
        self.set_timer(self.timer().with_state(state, timeout_s));
    }

    /// The destination's number.
    #[inline(always)]
    pub fn destination(self) -> DestinationId {
        DestinationId(self.word(DESTINATION))
    }

    pub(super) fn set_destination(self, destination: DestinationId) {
        self.set(DESTINATION, destination.0);
    }

    /// The entry that controls this one.
    #[inline]
    pub fn controller(self) -> EntryId {
        EntryId(self.word(CONTROLLER))
    }

    pub(super) fn set_controller(self, controller: EntryId) {
        self.set(CONTROLLER, controller.0);
    }

    /// Marks a template as assured: a connection that it controls was confirmed. Done without the template's bucket;
    /// the worst that a concurrent re-arm can do is to lose the mark until the next packet.
    pub(super) fn assure_template(self) {
        if self.flags().has(Flags::TEMPLATE) {
            self.cell(TIMER).fetch_or(u32::from(State::TEMPLATE_ASSURED.0) << STATE_SHIFT, Relaxed);
        }
    }

    /// How many entries this one controls.
    #[inline]
    pub fn controlled(self) -> u32 {
        self.word(CONTROLLED)
    }

    pub(super) fn set_controlled(self, count: u32) {
        self.set(CONTROLLED, count);
    }

    /// One more entry is controlled by this one.
    pub(super) fn control(self) {
        self.cell(CONTROLLED).fetch_add(1, Relaxed);
    }

    /// An entry that this one controlled is gone.
    pub(super) fn release(self) {
        self.cell(CONTROLLED).fetch_sub(1, Relaxed);
    }

    /// Packets from the client.
    #[inline]
    pub fn in_packets(self) -> u32 {
        self.word(IN_PACKETS)
    }

    #[inline]
    pub(super) fn set_in_packets(self, count: u32) {
        self.set(IN_PACKETS, count);
    }

    /// One more packet of a connection that a template controls, counted without the template's bucket. Returns the
    /// count with it.
    pub(super) fn count_packet(self) -> u32 {
        self.cell(IN_PACKETS).fetch_add(1, Relaxed).wrapping_add(1)
    }

    /// Firewall mark of the packet that made the entry.
    pub fn mark(self) -> u32 {
        self.word(MARK)
    }

    pub(super) fn set_mark(self, mark: u32) {
        self.set(MARK, mark);
    }

    #[inline]
    pub(super) fn next(self) -> EntryId {
        EntryId(self.word(NEXT))
    }

    pub(super) fn set_next(self, next: EntryId) {
        self.set(NEXT, next.0);
    }

    /// A template's record of its persistence engine, a connection's of its moved sequence numbers; 0 for none.
    #[inline]
    pub(super) fn extra(self) -> u32 {
        self.word(EXTRA)
    }

    pub(super) fn set_extra(self, extra: u32) {
        self.set(EXTRA, extra);
    }
}
