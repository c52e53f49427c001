//! Destinations (real servers): one table of atomic cells, shared by control and all workers.
//!
//! A connection names its destination by [`DestinationId`]; a cell is not used again before every connection that
//! names it is gone, so the number stays true without a reference count on the packet's way. The identity words of
//! a cell change only while nobody refers to it.

use std::sync::atomic::Ordering::{Acquire, Relaxed, SeqCst};
use std::sync::atomic::{AtomicI32, AtomicU8, AtomicU16, AtomicU32};

use crate::base::chunked::{CHUNK, Chunked};
use crate::base::{Address, Endpoint};
use crate::service::lowered::Lowered;
use crate::service::snapshot::ServiceId;
use crate::service::types::{FullNat, Method, Tunnel, TunnelChecksum};

/// Destinations that the table can hold, those in the trash included. Reaching it refuses the command with ENOMEM.
pub const DESTINATIONS_MAX: usize = 1 << 18;

/// The number of a destination's cell; 0 is never handed out, so that a zeroed connection names none.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct DestinationId(pub u32);

impl DestinationId {
    /// No destination: a connection of the bypass method, or a synchronised one whose server is unknown here.
    pub const NONE: DestinationId = DestinationId(0);
}

/// Connections from which on a load may wrap when it is raised, and so be lowered: 256 for each active one, in 31 bits;
/// half of that, for those who count at the same time.
const LOAD_WRAPS_FROM: u32 = 1 << 22;

/// Destination flag: it is in a service's list (not in the trash).
const AVAILABLE: u8 = 1;

/// One destination. The first cache line is what forwarding reads, the second what scheduling reads and writes.
#[derive(Default)]
#[repr(C, align(64))]
pub struct Destination {
    address: [AtomicU32; 4],
    port: AtomicU16,
    method: AtomicU8,
    flags: AtomicU8,
    full_nat: AtomicU8,
    mss_max: AtomicU16,
    tunnel: AtomicU32,
    service: AtomicU32,
    /// Moves with each change of what forwarding reads; workers that cached a route compare it.
    epoch: AtomicU32,
    scheduled: Scheduled,
}

#[derive(Default)]
#[repr(C, align(64))]
struct Scheduled {
    weight: AtomicI32,
    last_weight: AtomicI32,
    active: AtomicU32,
    inactive: AtomicU32,
    persistent: AtomicU32,
    held: AtomicU32,
    upper: AtomicU32,
    lower: AtomicU32,
    overloaded: AtomicU8,
}

impl Destination {
    /// Address and port as configured.
    #[inline]
    pub fn endpoint(&self) -> Endpoint {
        let words = [0, 1, 2, 3].map(|i| self.address[i].load(Relaxed));
        Endpoint::new(Address::from_words(words), self.port.load(Relaxed))
    }

    /// The forwarding method that new connections take over.
    #[inline]
    pub fn method(&self) -> Method {
        Method::from_number(self.method.load(Relaxed)).unwrap_or_default()
    }

    /// Whether new connections hide their clients from it.
    #[inline]
    pub fn full_nat(&self) -> FullNat {
        FullNat::from_number(self.full_nat.load(Relaxed))
    }

    /// The encapsulation, for a tunnelled destination.
    pub fn tunnel(&self) -> Tunnel {
        let word = self.tunnel.load(Relaxed);
        let (port, checksum) = (word as u16, word >> 16 & 0xff);
        match word >> 24 {
            1 => Tunnel::Gue {
                port,
                checksum: match checksum {
                    1 => TunnelChecksum::Full,
                    2 => TunnelChecksum::Remote,
                    _ => TunnelChecksum::None,
                },
            },
            2 => Tunnel::Gre { checksum: checksum != 0 },
            _ => Tunnel::Ipip,
        }
    }

    /// The service that lists it, or listed it last.
    pub fn service(&self) -> ServiceId {
        ServiceId(self.service.load(Relaxed))
    }

    /// True while a service lists it.
    #[inline]
    pub fn is_available(&self) -> bool {
        self.flags.load(Relaxed) & AVAILABLE != 0
    }

    /// Moves with each change of address, method or tunnel.
    #[inline]
    pub fn epoch(&self) -> u32 {
        self.epoch.load(Relaxed)
    }

    /// Current weight, 0 when quiesced.
    #[inline]
    pub fn weight(&self) -> i32 {
        self.scheduled.weight.load(Relaxed)
    }

    /// The last weight that was not 0; 0 when there was none.
    pub fn last_weight(&self) -> i32 {
        self.scheduled.last_weight.load(Relaxed)
    }

    /// Active connections, of all services and directions. Whoever reads the inactive ones afterwards counts no
    /// connection twice.
    #[inline]
    pub fn active(&self) -> u32 {
        self.scheduled.active.load(Acquire)
    }

    /// Inactive connections.
    #[inline]
    pub fn inactive(&self) -> u32 {
        self.scheduled.inactive.load(Relaxed)
    }

    /// Persistence templates that point here.
    pub fn persistent(&self) -> u32 {
        self.scheduled.persistent.load(Relaxed)
    }

    /// Upper and lower connection thresholds; 0 means none.
    pub fn thresholds(&self) -> (u32, u32) {
        (self.scheduled.upper.load(Relaxed), self.scheduled.lower.load(Relaxed))
    }

    /// True while the upper threshold keeps new connections away.
    #[inline]
    pub fn is_overloaded(&self) -> bool {
        self.scheduled.overloaded.load(Relaxed) != 0
    }

    /// True when a scheduler may choose it: weight above 0 and not overloaded.
    #[inline]
    pub fn is_usable(&self) -> bool {
        self.weight() > 0 && !self.is_overloaded()
    }

    /// True while a scheduler remembers it.
    pub fn is_held(&self) -> bool {
        self.scheduled.held.load(Relaxed) != 0
    }

    /// A scheduler remembers it beyond its time in the list: the cell must not be used again.
    pub fn hold(&self) {
        self.scheduled.held.fetch_add(1, Relaxed);
    }

    /// The opposite of one [`Destination::hold`].
    pub fn release(&self) {
        let before = self.scheduled.held.fetch_sub(1, Relaxed);
        debug_assert_ne!(before, 0, "what is released was held");
    }

    /// True when neither connection nor template nor scheduler names this destination.
    pub fn is_unreferenced(&self) -> bool {
        self.active() == 0 && self.inactive() == 0 && self.persistent() == 0 && !self.is_held()
    }

    /// Makes this cell, which nobody else refers to, the same as another.
    fn copy_from(&self, other: &Self) {
        let word = |to: &AtomicU32, from: &AtomicU32| to.store(from.load(Relaxed), Relaxed);
        let octet = |to: &AtomicU8, from: &AtomicU8| to.store(from.load(Relaxed), Relaxed);
        let weight = |to: &AtomicI32, from: &AtomicI32| to.store(from.load(Relaxed), Relaxed);
        // Taken apart, so that no field is forgotten.
        let Self { address, port, method, flags, full_nat, mss_max, tunnel, service, epoch, scheduled } = self;
        address.iter().zip(&other.address).for_each(|(to, from)| word(to, from));
        port.store(other.port.load(Relaxed), Relaxed);
        octet(method, &other.method);
        octet(flags, &other.flags);
        octet(full_nat, &other.full_nat);
        mss_max.store(other.mss_max.load(Relaxed), Relaxed);
        word(tunnel, &other.tunnel);
        word(service, &other.service);
        word(epoch, &other.epoch);
        let from = &other.scheduled;
        let Scheduled { weight: w, last_weight, active, inactive, persistent, held, upper, lower, overloaded } =
            scheduled;
        weight(w, &from.weight);
        weight(last_weight, &from.last_weight);
        word(active, &from.active);
        word(inactive, &from.inactive);
        word(persistent, &from.persistent);
        word(held, &from.held);
        word(upper, &from.upper);
        word(lower, &from.lower);
        octet(overloaded, &from.overloaded);
    }

    /// Fills the cell of a destination that nobody refers to yet.
    pub fn assign(&self, service: ServiceId, endpoint: Endpoint) {
        for (word, value) in self.address.iter().zip(endpoint.address.words()) {
            word.store(value, Relaxed);
        }
        self.port.store(endpoint.port, Relaxed);
        self.service.store(service.0, Relaxed);
        self.epoch.fetch_add(1, Relaxed);
        self.scheduled.weight.store(0, Relaxed);
        self.scheduled.last_weight.store(0, Relaxed);
        self.scheduled.upper.store(0, Relaxed);
        self.scheduled.lower.store(0, Relaxed);
        self.scheduled.overloaded.store(0, Relaxed);
    }

    /// Sets what a rule says of the destination, as `-a` and `-e` do; full NAT apart, see
    /// [`Destination::set_full_nat`].
    pub fn configure(&self, method: Method, tunnel: Tunnel, weight: i32, upper: u32, lower: u32) {
        let old_upper = self.scheduled.upper.load(Relaxed);
        if upper == 0 || upper > old_upper {
            self.scheduled.overloaded.store(0, Relaxed);
        }
        self.scheduled.upper.store(upper, Relaxed);
        self.scheduled.lower.store(lower, Relaxed);
        self.method.store(method as u8, Relaxed);
        let word = match tunnel {
            Tunnel::Ipip => 0,
            Tunnel::Gue { port, checksum } => 1 << 24 | (checksum as u32) << 16 | u32::from(port),
            Tunnel::Gre { checksum } => 2 << 24 | u32::from(checksum) << 16,
        };
        self.tunnel.store(word, Relaxed);
        self.epoch.fetch_add(1, Relaxed);
        self.set_weight(weight);
    }

    /// The largest MSS that SYNs of its connections may ask for; 0 leaves them alone.
    #[inline]
    pub fn mss_max(&self) -> u16 {
        self.mss_max.load(Relaxed)
    }

    /// Sets the largest MSS, or 0.
    pub fn set_mss_max(&self, mss_max: u16) {
        self.mss_max.store(mss_max, Relaxed);
    }

    /// Says whether new connections are to hide their clients from it.
    pub fn set_full_nat(&self, full_nat: FullNat) {
        self.full_nat.store(full_nat as u8, Relaxed);
    }

    /// Sets the weight alone.
    pub fn set_weight(&self, weight: i32) {
        if weight != 0 {
            self.scheduled.last_weight.store(weight, Relaxed);
        }
        self.scheduled.weight.store(weight, Relaxed);
    }

    /// Says that a service lists it, or that none does.
    pub fn set_available(&self, service: ServiceId, available: bool) {
        self.service.store(service.0, Relaxed);
        self.flags.store(if available { AVAILABLE } else { 0 }, Relaxed);
    }

    /// See [`Destinations::bind`].
    #[inline]
    fn bind(&self, template: bool) {
        let counter = if template { &self.scheduled.persistent } else { &self.scheduled.inactive };
        counter.fetch_add(1, SeqCst);
        let upper = self.scheduled.upper.load(Relaxed);
        if upper != 0 && self.active() + self.inactive() >= upper {
            self.scheduled.overloaded.store(1, Relaxed);
        }
    }

    /// See [`Destinations::unbind`].
    #[inline]
    fn unbind(&self, template: bool, was_inactive: bool) {
        let counter = match (template, was_inactive) {
            (true, _) => &self.scheduled.persistent,
            (false, true) => &self.scheduled.inactive,
            (false, false) => &self.scheduled.active,
        };
        counter.fetch_sub(1, SeqCst);
        if !self.is_overloaded() {
            return;
        }
        let (upper, lower) = self.thresholds();
        let connections = self.active() + self.inactive();
        // Without a lower threshold three quarters of the upper one serve as such (kernel `ip_vs_dest_totalconns`).
        let relieved = match (lower, upper) {
            (0, 0) => true,
            (0, upper) => u64::from(connections) * 4 < u64::from(upper) * 3,
            (lower, _) => connections < lower,
        };
        if relieved {
            self.scheduled.overloaded.store(0, SeqCst);
        }
    }

    /// See [`Destinations::count_active`].
    #[inline]
    fn count_active(&self, now_active: bool) {
        let (up, down) = if now_active {
            (&self.scheduled.active, &self.scheduled.inactive)
        } else {
            (&self.scheduled.inactive, &self.scheduled.active)
        };
        // Down first: whoever sums both meanwhile must not see one connection too many (see `bind`).
        down.fetch_sub(1, SeqCst);
        up.fetch_add(1, SeqCst);
    }

    /// True when a connection more may mean a lower load.
    #[inline]
    fn wraps(&self) -> bool {
        self.active().wrapping_add(self.inactive()) >= LOAD_WRAPS_FROM
    }
}

/// The table of all destinations.
///
/// Connections are counted here and not at the cell, so that what was lowered is noted ([`Destinations::lowered`]).
pub struct Destinations {
    cells: Chunked<Destination>,
    lowered: Lowered,
}

impl Default for Destinations {
    fn default() -> Self {
        Self { cells: Chunked::new(DESTINATIONS_MAX), lowered: Lowered::default() }
    }
}

impl Destinations {
    /// The destination's cell.
    ///
    /// # Panics
    /// When the number was never handed out; numbers come from `control` alone.
    #[inline]
    pub fn get(&self, id: DestinationId) -> &Destination {
        self.cells.get(id.0 as usize).expect("a destination's number is handed out by control")
    }

    /// The cells of many numbers, which mostly lie near each other.
    ///
    /// # Panics
    /// As [`Destinations::get`].
    #[inline]
    pub fn iter<'a>(&'a self, ids: &'a [DestinationId]) -> impl Iterator<Item = (DestinationId, &'a Destination)> {
        let mut chunk = (usize::MAX, [].as_slice());
        ids.iter().map(move |&id| {
            let (number, within) = (id.0 as usize / CHUNK, id.0 as usize % CHUNK);
            if chunk.0 != number {
                let cells = self.cells.chunk(id.0 as usize);
                chunk = (number, cells.expect("a destination's number is handed out by control"));
            }
            (id, &chunk.1[within])
        })
    }

    /// The numbers of all cells that there are, of which some may never have been handed out.
    pub fn ids(&self) -> impl Iterator<Item = DestinationId> {
        let chunks = (0..self.cells.capacity()).step_by(CHUNK).filter(|first| self.cells.chunk(*first).is_some());
        chunks.flat_map(|first| first..first + CHUNK).map(|number| DestinationId(number as u32))
    }

    /// Which destinations have fewer connections, or are no longer overloaded, since this was last asked. What control
    /// changes ([`Destination::configure`], [`Destination::set_weight`]) is not told of here: schedulers hear of it.
    #[inline]
    pub fn lowered(&self) -> &Lowered {
        &self.lowered
    }

    /// A connection (inactive at first) or a template takes a destination. Panics as [`Destinations::get`] does.
    #[inline]
    pub fn bind(&self, id: DestinationId, template: bool) {
        let destination = self.get(id);
        destination.bind(template);
        if destination.wraps() {
            self.lowered.mark(id);
        }
    }

    /// A connection or a template that named a destination is gone. Panics as [`Destinations::get`] does.
    #[inline]
    pub fn unbind(&self, id: DestinationId, template: bool, was_inactive: bool) {
        self.get(id).unbind(template, was_inactive);
        self.lowered.mark(id);
    }

    /// A connection turned from inactive to active, or back. Panics as [`Destinations::get`] does.
    #[inline]
    pub fn count_active(&self, id: DestinationId, now_active: bool) {
        let destination = self.get(id);
        destination.count_active(now_active);
        if !now_active || destination.wraps() {
            self.lowered.mark(id);
        }
    }

    /// All destinations as they are now, in a table of their own; nothing is noted as lowered in it.
    #[must_use]
    pub fn copy(&self) -> Self {
        let copy = Self::default();
        for first in (0..self.cells.capacity()).step_by(CHUNK) {
            let cells = self.cells.chunk(first).into_iter().flatten();
            for (number, cell) in (first..).zip(cells) {
                copy.cells.get_or_make(number).copy_from(cell);
            }
        }
        copy
    }

    /// The cell for a number that `control` hands out for the first time.
    pub fn make(&self, id: DestinationId) -> &Destination {
        self.cells.get_or_make(id.0 as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn destination(upper: u32, lower: u32) -> Destination {
        let destination = Destination::default();
        destination.assign(ServiceId(1), "10.2.0.1".parse().map(|a| Endpoint::new(a, 80)).unwrap());
        destination.configure(Method::DirectRouting, Tunnel::Ipip, 1, upper, lower);
        destination
    }

    #[test]
    fn lines_are_cache_lines() {
        assert_eq!(size_of::<Destination>(), 128);
    }

    #[test]
    fn tunnels_survive_the_packing() {
        let destination = destination(0, 0);
        for tunnel in [
            Tunnel::Ipip,
            Tunnel::Gue { port: 6080, checksum: TunnelChecksum::Remote },
            Tunnel::Gre { checksum: true },
            Tunnel::Gre { checksum: false },
        ] {
            destination.configure(Method::Tunnelling, tunnel, 1, 0, 0);
            assert_eq!(destination.tunnel(), tunnel);
        }
    }

    /// spec: u=4, l=0 sets at 4 and clears at 2; u=3 sets at 3 and clears at 2; u=4, l=2 clears at 1.
    #[test]
    fn overload_has_hysteresis() {
        for (upper, lower, clears_at) in [(4, 0, 2), (3, 0, 2), (1, 0, 0), (10, 0, 7), (4, 2, 1)] {
            let destination = destination(upper, lower);
            for n in 1..=upper {
                destination.bind(false);
                assert_eq!(destination.is_overloaded(), n >= upper, "u={upper} n={n}");
            }
            for n in (0..upper).rev() {
                destination.unbind(false, true);
                assert_eq!(destination.is_overloaded(), n > clears_at, "u={upper} l={lower} n={n}");
            }
        }
    }

    #[test]
    fn an_edit_relieves_only_upwards() {
        let destination = destination(2, 0);
        destination.bind(false);
        destination.bind(false);
        destination.configure(Method::DirectRouting, Tunnel::Ipip, 1, 1, 0);
        assert!(destination.is_overloaded());
        destination.configure(Method::DirectRouting, Tunnel::Ipip, 1, 5, 0);
        assert!(!destination.is_overloaded());
    }
}
