//! Which frames user space wants to see: what the XDP program is told.
//!
//! `control` makes it from the services and the host's addresses; `host` gives it to the kernel.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::{Address, Endpoint, Family};
use crate::service::types::Protocol;

/// Prefixes of [`Filter::marked`]: twice what the rules of both families can have.
pub const MARKED_PREFIXES_MAX: usize = 1 << 14;

/// The contents of the XDP program's maps, as pure data.
///
/// A frame goes to user space when its destination is a service or may be marked for one, or its source a server and its
/// destination not local; fragments and ICMP errors, which have no ports, by address alone.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Filter {
    /// Virtual services: IP protocol number, address and port; port 0 for every port.
    pub services: BTreeSet<(u8, Endpoint)>,
    /// Sources whose packets are answers of ours: masqueraded real servers, and virtual services whose answers cross
    /// the director. Port 0 for every port.
    pub servers: BTreeSet<(u8, Endpoint)>,
    /// Addresses of virtual services, for fragments and ICMP errors.
    pub virtual_addresses: BTreeSet<Address>,
    /// Addresses of real servers, for fragments and ICMP errors.
    pub server_addresses: BTreeSet<Address>,
    /// Packets that rules may mark for a service by mark, and answers to such packets; looked up by the longest prefix.
    pub marked: BTreeMap<Prefix, PortSpans>,
    /// The host's own addresses: answers to its own connections stay with its stack.
    pub locals: BTreeSet<Address>,
}

/// One match of a [`Filter`], those of marks aside. Ordered as they are to be put in place; local addresses come
/// first: while an endpoint of a real server is held, so are the exceptions to it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Match {
    /// Of [`Filter::locals`].
    Local(Address),
    /// Of [`Filter::virtual_addresses`].
    VirtualAddress(Address),
    /// Of [`Filter::server_addresses`].
    ServerAddress(Address),
    /// Of [`Filter::services`].
    Service(u8, Endpoint),
    /// Of [`Filter::servers`].
    Server(u8, Endpoint),
}

/// How a match of the filter shall be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FilterChange {
    /// The match.
    pub item: Match,
    /// True when it shall be there.
    pub present: bool,
}

impl Filter {
    /// True when the match is there.
    pub fn has(&self, item: Match) -> bool {
        match item {
            Match::Local(address) => self.locals.contains(&address),
            Match::VirtualAddress(address) => self.virtual_addresses.contains(&address),
            Match::ServerAddress(address) => self.server_addresses.contains(&address),
            Match::Service(protocol, endpoint) => self.services.contains(&(protocol, endpoint)),
            Match::Server(protocol, endpoint) => self.servers.contains(&(protocol, endpoint)),
        }
    }

    /// Puts a match in or takes it out; true when it was otherwise.
    pub fn apply(&mut self, change: FilterChange) -> bool {
        fn put<T: Ord>(set: &mut BTreeSet<T>, item: T, present: bool) -> bool {
            if present { set.insert(item) } else { set.remove(&item) }
        }
        let present = change.present;
        match change.item {
            Match::Local(address) => put(&mut self.locals, address, present),
            Match::VirtualAddress(address) => put(&mut self.virtual_addresses, address, present),
            Match::ServerAddress(address) => put(&mut self.server_addresses, address, present),
            Match::Service(protocol, endpoint) => put(&mut self.services, (protocol, endpoint), present),
            Match::Server(protocol, endpoint) => put(&mut self.servers, (protocol, endpoint), present),
        }
    }
}

/// Addresses that begin alike.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Prefix {
    /// How many leading bits count, 0..=32 or 0..=128 by the address's family. First, so that an ordered container has
    /// shorter prefixes before longer ones.
    pub bits: u8,
    /// The address, all other bits cleared.
    pub address: Address,
}

impl Prefix {
    /// The addresses that agree with `address` in their first `bits` bits.
    pub fn new(address: Address, bits: u8) -> Self {
        Self { bits, address: address.masked(bits) }
    }

    /// All addresses of a family.
    pub const fn all(family: Family) -> Self {
        match family {
            Family::V4 => Self { bits: 0, address: Address::UNSPECIFIED_V4 },
            Family::V6 => Self { bits: 0, address: Address::UNSPECIFIED_V6 },
        }
    }
}

/// Ports by transport protocol, of each one span from the first to the last.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PortSpans([Option<(u16, u16)>; 3]);

impl PortSpans {
    /// The protocols, in the order of [`PortSpans::spans`].
    pub const PROTOCOLS: [Protocol; 3] = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];

    /// The span that `span` gives for each protocol; one whose first port is above its last is none.
    pub fn new(span: impl Fn(Protocol) -> Option<(u16, u16)>) -> Self {
        Self(Self::PROTOCOLS.map(|protocol| span(protocol).filter(|(first, last)| first <= last)))
    }

    /// The span of each of [`PortSpans::PROTOCOLS`].
    pub const fn spans(&self) -> &[Option<(u16, u16)>; 3] {
        &self.0
    }

    /// True when no port of any protocol is meant.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(Option::is_none)
    }

    /// One span of each protocol that holds those of both.
    fn union(&self, other: &Self) -> Self {
        let hull = |one: Option<(u16, u16)>, other: Option<(u16, u16)>| match (one, other) {
            (Some(one), Some(other)) => Some((one.0.min(other.0), one.1.max(other.1))),
            (one, other) => one.or(other),
        };
        Self(std::array::from_fn(|position| hull(self.0[position], other.0[position])))
    }
}

/// Packets that rules may mark for a service: by the destination's prefix, protocol and port.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct MarkedFlows(BTreeMap<Prefix, PortSpans>);

impl MarkedFlows {
    /// Adds the packets to a prefix.
    pub fn add(&mut self, prefix: Prefix, spans: PortSpans) {
        if !spans.is_empty() {
            self.0.entry(prefix).and_modify(|known| *known = known.union(&spans)).or_insert(spans);
        }
    }

    /// Adds all of `other`.
    pub fn extend(&mut self, other: &Self) {
        for (prefix, spans) in &other.0 {
            self.add(*prefix, *spans);
        }
    }

    /// Removes those of one family.
    pub fn remove(&mut self, family: Family) {
        self.0.retain(|prefix, _| prefix.address.family() != family);
    }

    /// How many prefixes there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// True when there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The same or more packets in one prefix a family.
    #[must_use]
    pub fn collapsed(&self) -> Self {
        let mut all = Self::default();
        for (prefix, spans) in &self.0 {
            all.add(Prefix::all(prefix.address.family()), *spans);
        }
        all
    }

    /// As a table of which only the longest prefix that fits an address is looked at: each prefix has what the shorter
    /// ones around it have.
    pub fn by_longest_prefix(&self) -> BTreeMap<Prefix, PortSpans> {
        let mut table: BTreeMap<Prefix, PortSpans> = BTreeMap::new();
        let lengths: BTreeSet<u8> = self.0.keys().map(|prefix| prefix.bits).collect();
        // Shorter ones come first, and have inherited already.
        for (prefix, spans) in &self.0 {
            let shorter = lengths.range(..prefix.bits).rev();
            let around = shorter.filter_map(|bits| table.get(&Prefix::new(prefix.address, *bits))).next();
            let spans = around.map_or(*spans, |around| spans.union(around));
            table.insert(*prefix, spans);
        }
        table
    }
}
