//! What all workers and control share.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crossbeam::queue::ArrayQueue;

use crate::base::{Address, Instant, InterfaceId, Published, Rng};
use crate::conn::{Table, TableConfig};
use crate::forward::counters::WorkerCounters;
use crate::forward::defence::Defence;
use crate::forward::latency::LatencyCounters;
use crate::forward::path_mtu::PathMtus;
use crate::forward::sync::{SharedRoles, SyncQueue};
use crate::mark::Marks;
use crate::route::Routes;
use crate::service::local_addresses::LocalAddresses;
use crate::service::real_servers::RealServers;
use crate::service::sysctl::Sysctls;
use crate::service::{Destinations, Services};

/// Neighbour requests that may wait for control; more are counted and lost (the next packet asks again).
pub const NEIGHBOUR_REQUESTS_MAX: usize = 256;

/// A worker wants a link address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct NeighbourRequest {
    /// The interface of the next hop.
    pub interface: InterfaceId,
    /// The next hop.
    pub address: Address,
}

/// A worker's part of the handshake after a change; on cache lines of its own.
#[repr(align(64))]
pub struct WorkerSlot {
    /// Its counters.
    pub counters: WorkerCounters,
    /// How long it had its packets.
    pub latency: LatencyCounters,
    /// Its records for the sync daemon.
    pub sync_queue: SyncQueue,
    /// Of the lanes beside its counters, see `straight::lane`; written by the worker.
    pub(super) lane_generation: AtomicU32,
    adopted: AtomicU64,
}

/// What a sleeping worker reports as adopted: it looks for news before it touches its next packet.
const ASLEEP: u64 = u64::MAX;

/// Snapshots, tables and counters, shared by control and all workers.
pub struct Shared {
    /// Virtual services.
    pub services: Published<Services>,
    /// Masqueraded real servers, while something asks for them.
    pub real_servers: Published<RealServers>,
    /// The rules that mark packets.
    pub marks: Published<Marks>,
    /// Routes and neighbours.
    pub routes: Published<Routes>,
    /// Destinations.
    pub destinations: Arc<Destinations>,
    /// Connections.
    pub connections: Table,
    /// What routers said of the paths to real servers.
    pub path_mtus: PathMtus,
    /// The pool of full NAT.
    pub local_addresses: Published<LocalAddresses>,
    /// Knobs.
    pub sysctls: Arc<Sysctls>,
    /// The defence that refuses new connections.
    pub defence: Defence,
    /// Which sync daemons run.
    pub sync_roles: SharedRoles,
    /// What the schedulers' chance comes from.
    pub scheduler_seed: u64,
    /// Link addresses that workers want.
    pub neighbour_requests: ArrayQueue<NeighbourRequest>,
    /// One slot a worker.
    pub workers: Box<[Arc<WorkerSlot>]>,
    change: AtomicU64,
    /// Milliseconds since midnight, universal time, at the start.
    start_of_day: AtomicU32,
}

impl Shared {
    /// Empty tables for `workers` workers.
    pub fn new(workers: usize, table: TableConfig, routes: Routes, rng: &mut Rng) -> Self {
        let destinations = Arc::new(Destinations::default());
        let slot = || {
            Arc::new(WorkerSlot {
                counters: WorkerCounters::default(),
                latency: LatencyCounters::default(),
                sync_queue: SyncQueue::default(),
                lane_generation: AtomicU32::new(0),
                adopted: AtomicU64::new(ASLEEP),
            })
        };
        Self {
            services: Published::new(Services::default()),
            real_servers: Published::new(RealServers::default()),
            marks: Published::new(Marks::default()),
            routes: Published::new(routes),
            local_addresses: Published::new(LocalAddresses::default()),
            connections: Table::new(table, Arc::clone(&destinations), rng),
            destinations,
            path_mtus: PathMtus::default(),
            sysctls: Arc::default(),
            defence: Defence::default(),
            sync_roles: SharedRoles::default(),
            scheduler_seed: rng.next_u64(),
            neighbour_requests: ArrayQueue::new(NEIGHBOUR_REQUESTS_MAX),
            workers: (0..workers).map(|_| slot()).collect(),
            change: AtomicU64::new(1),
            start_of_day: AtomicU32::new(0),
        }
    }

    /// All of this as it is now, in a value of its own with one worker: what happens to a packet there changes nothing
    /// here. Of the connections it has what the buckets of `hashes` hold (see [`Table::copy_of`]).
    ///
    /// Not copied: counters, what waits for control, what each worker keeps to itself.
    pub(super) fn copy(
        &self,
        services: Services,
        real_servers: RealServers,
        destinations: Arc<Destinations>,
        hashes: &[u64],
        now: Instant,
    ) -> Self {
        let slot = WorkerSlot {
            counters: WorkerCounters::default(),
            latency: LatencyCounters::default(),
            sync_queue: SyncQueue::default(),
            lane_generation: AtomicU32::new(0),
            adopted: AtomicU64::new(ASLEEP),
        };
        let sync_roles = SharedRoles::default();
        sync_roles.store(self.sync_roles.load());
        Self {
            services: Published::new(services),
            real_servers: Published::new(real_servers),
            marks: self.marks.copy(),
            routes: self.routes.copy(),
            local_addresses: self.local_addresses.copy(),
            connections: self.connections.copy_of(hashes, Arc::clone(&destinations), now),
            destinations,
            path_mtus: self.path_mtus.copy(),
            sysctls: Arc::clone(&self.sysctls),
            defence: self.defence.copy(),
            sync_roles,
            scheduler_seed: self.scheduler_seed,
            neighbour_requests: ArrayQueue::new(NEIGHBOUR_REQUESTS_MAX),
            workers: Box::new([Arc::new(slot)]),
            change: AtomicU64::new(1),
            start_of_day: AtomicU32::new(self.start_of_day.load(Ordering::Relaxed)),
        }
    }

    /// Sets what time of day, universal time, the director started at, as the host's clock has it now.
    pub fn set_start_of_day(&self, milliseconds: u32) {
        self.start_of_day.store(milliseconds, Ordering::Relaxed);
    }

    /// Milliseconds since midnight, universal time, as IP options and ICMP have them (RFC 791 section 3.1).
    pub fn milliseconds_of_day(&self, now: Instant) -> u32 {
        const DAY: u64 = 24 * 60 * 60 * 1000;
        let start = u64::from(self.start_of_day.load(Ordering::Relaxed));
        ((start + now.milliseconds()) % DAY) as u32
    }

    /// Says that something which workers read has changed; returns the number to wait for with
    /// [`Shared::all_adopted`].
    pub fn changed(&self) -> u64 {
        self.change.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// True when no worker can still be at work on a packet under rules older than `change`.
    pub fn all_adopted(&self, change: u64) -> bool {
        self.workers.iter().all(|worker| worker.adopted.load(Ordering::SeqCst) >= change)
    }

    /// A worker begins a batch: everything published before this change number is what it reads from here on.
    /// Called before the snapshots are refreshed.
    #[inline]
    pub fn adopt(&self, worker: usize) -> u64 {
        let change = self.change.load(Ordering::SeqCst);
        if self.workers[worker].adopted.load(Ordering::Relaxed) != change {
            self.workers[worker].adopted.store(change, Ordering::SeqCst);
        }
        change
    }

    /// A worker is about to wait for packets, with none in hand.
    pub fn sleep(&self, worker: usize) {
        self.workers[worker].adopted.store(ASLEEP, Ordering::SeqCst);
    }
}
