//! The configuration: requests in, snapshots for the workers and actions for the host out.
//!
//! **Invariants**
//! - A request is refused whole or applied whole.
//! - Nothing here touches a frame, a socket or a clock.
//! - What workers read has been published before the request's answer is given out; the answer carries the change
//!   number that all workers must have adopted before the client hears it ([`Control::change`]).

mod apply;
mod defence;
pub mod drops;
mod estimate;
mod filter;
pub mod latency;
mod listing;
mod local_addresses;
mod marks;
mod neighbours;
mod periodic;
pub mod proc_files;
pub mod status;
pub mod sync;
pub mod trace;
mod trash;

#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use crate::base::hasher::BuildWordHasher;
use crate::base::{Duration, Instant, Lock, Rng};
use crate::command::request::{DaemonRole, ServerRule, ServiceRule};
use crate::command::{Reply, Request};
use crate::control::defence::{DEFENCE_PERIOD, DefenceState};
use crate::control::estimate::Tally;
use crate::control::filter::FilterBook;
use crate::control::latency::Begin;
use crate::control::local_addresses::Drain;
use crate::control::marks::MarkRules;
use crate::control::sync::resync::LinkAction;
use crate::control::sync::{SyncDaemon, SyncState};
use crate::control::trash::Trash;
use crate::forward::{NeighbourRequest, Shared};
use crate::service::filter::{Filter, FilterChange};
use crate::service::real_servers::{RealServer, RealServers};
use crate::service::scheduler::Scheduling;
use crate::service::sysctl::Knob;
use crate::service::{DestinationId, Engine, Method, Persistence, Service, ServiceId, ServiceKey, Services};

/// The estimator's period (`net/netfilter/ipvs/ip_vs_est.c`).
const ESTIMATE_PERIOD: Duration = Duration::from_secs(2);
/// How often the trash is looked through (`ip_vs_dest_trash_expire`).
const TRASH_PERIOD: Duration = Duration::from_secs(60);

/// Virtual services that a director can hold; one more is refused with ENOMEM.
pub const SERVICES_MAX: usize = 1 << 16;

/// What the host must do outside.
#[derive(Debug)]
#[must_use]
pub enum Action {
    /// Put these matches, and no others, into the XDP program's maps before the answer to the request goes out.
    SetFilter(Filter),
    /// Change these matches of the XDP program's maps before the answer to the request goes out.
    ChangeFilter(Vec<FilterChange>),
    /// Have the kernel find the link address of a neighbour.
    ResolveNeighbour(NeighbourRequest),
    /// Have the kernel find the link address of a neighbour and keep it resolved.
    KeepNeighbour(NeighbourRequest),
    /// Open a sync daemon's sockets.
    StartSync(SyncDaemon),
    /// Close them, once what was to be sent is sent.
    StopSync(DaemonRole),
    /// Send a datagram to the group of the master, by the port of this number from the first on.
    SendSync {
        /// From 0 on.
        port: u16,
        /// UDP payload.
        datagram: Vec<u8>,
    },
    /// What resynchronisation needs of TCP.
    Link(LinkAction),
    /// Write a line to the log.
    Log(String),
}

/// What has changed and is not published yet.
#[derive(Default)]
struct Stale {
    services: bool,
    servers: bool,
    change: bool,
}

/// A virtual service as configured.
struct ServiceEntry {
    rule: ServiceRule,
    id: ServiceId,
    scheduling: Arc<Lock<Scheduling>>,
    /// Newest first, as in `scheduling`.
    servers: Vec<ServerEntry>,
    tally: Tally,
    /// When the scheduler's periodic work is due, if it has any.
    next_tick: Option<Instant>,
}

impl ServiceEntry {
    fn persistence(&self) -> Option<Persistence> {
        let mask = self.rule.mask;
        self.rule.persistent_s.map(|timeout_s| Persistence { timeout_s, mask })
    }

    fn snapshot(&self) -> Service {
        Service {
            id: self.id,
            key: self.rule.key,
            persistence: self.persistence(),
            engine: self.engine(),
            one_packet: self.rule.one_packet,
            scheduling: Arc::clone(&self.scheduling),
        }
    }

    fn engine(&self) -> Option<Engine> {
        self.rule.engine.as_deref().and_then(Engine::by_name)
    }
}

/// A real server as configured.
struct ServerEntry {
    rule: ServerRule,
    id: DestinationId,
    /// It masquerades, or did: connections keep the method that they began with.
    masqueraded: bool,
    tally: Tally,
}

/// The configuration and what goes with it.
pub struct Control {
    shared: Arc<Shared>,
    /// 2 to the power of `conn_tab_bits`, as listings print it.
    table_size: u32,
    /// In order of creation, which is that of their numbers.
    services: Vec<ServiceEntry>,
    service_by_key: HashMap<ServiceKey, ServiceId, BuildWordHasher>,
    /// What has changed since [`Control::settle`].
    stale: Stale,
    trash: Trash,
    mark_rules: MarkRules,
    sync: SyncState,
    latency_begin: Begin,
    drain: Option<Drain>,
    total: Tally,
    next_service: u32,
    /// Numbers of destinations whose cells are free again.
    free_destinations: Vec<DestinationId>,
    next_destination: u32,
    defence: DefenceState,
    next_defence: Instant,
    next_estimate: Instant,
    next_trash: Instant,
    /// The earliest of the services' ticks, or earlier.
    next_tick: Option<Instant>,
    /// What the schedulers' chance comes from.
    rng: Rng,
    change: u64,
    filter: FilterBook,
    /// Next hops that the host has been asked to keep resolved.
    asked: BTreeSet<NeighbourRequest>,
    actions: VecDeque<Action>,
}

impl Control {
    /// An empty configuration over `shared`. `table_size` is what `size=` of listings says.
    pub fn new(shared: Arc<Shared>, table_size: u32, now: Instant) -> Self {
        let mut rng = Rng::new(shared.scheduler_seed);
        let defence_seed = rng.next_u64();
        Self {
            rng,
            shared,
            table_size,
            services: Vec::new(),
            service_by_key: HashMap::default(),
            stale: Stale::default(),
            trash: Trash::default(),
            mark_rules: MarkRules::default(),
            sync: SyncState::default(),
            latency_begin: Begin::new(now),
            drain: None,
            total: Tally::default(),
            next_service: 1,
            free_destinations: Vec::new(),
            next_destination: 1,
            defence: DefenceState::new(defence_seed),
            next_defence: now + DEFENCE_PERIOD,
            next_estimate: now + ESTIMATE_PERIOD,
            next_trash: now + TRASH_PERIOD,
            next_tick: None,
            change: 0,
            filter: FilterBook::default(),
            asked: BTreeSet::new(),
            actions: VecDeque::new(),
        }
    }

    /// Executes a request and lets it take effect.
    ///
    /// # Errors
    /// The refusal that the kernel would give; nothing has changed then.
    pub fn execute(&mut self, now: Instant, request: Request) -> Reply {
        let reply = self.execute_unsettled(now, request);
        self.settle();
        reply
    }

    /// Executes a request, which need not take effect before [`Control::settle`]: many in a row cost less so.
    ///
    /// # Errors
    /// As [`Control::execute`].
    pub fn execute_unsettled(&mut self, now: Instant, request: Request) -> Reply {
        let is_change = request.is_change();
        let reply = self.dispatch(now, request);
        self.stale.change |= is_change && reply.is_ok();
        reply
    }

    /// Publishes what has changed, and asks for what follows from it outside.
    pub fn settle(&mut self) {
        let stale = std::mem::take(&mut self.stale);
        if stale.services {
            let snapshot = Services::new(self.services.iter().map(ServiceEntry::snapshot));
            self.shared.services.publish(snapshot);
            self.want_gateways();
        }
        if stale.servers {
            self.update_real_servers();
            self.update_filter();
        }
        if stale.change {
            self.change = self.shared.changed();
        }
    }

    /// The change number of the last request that changed something: once `Shared::all_adopted` holds for it, no
    /// packet meets the old rules.
    pub fn change(&self) -> u64 {
        self.change
    }

    /// The next thing to be done outside; to be drained after every call.
    pub fn poll_action(&mut self) -> Option<Action> {
        while let Some(request) = self.shared.neighbour_requests.pop() {
            let known = |action: &Action| matches!(action, Action::ResolveNeighbour(other) if *other == request);
            if !self.actions.iter().any(known) {
                self.actions.push_back(Action::ResolveNeighbour(request));
            }
        }
        self.actions.pop_front()
    }

    /// When [`Control::handle_timeout`] is due.
    pub fn next_deadline(&self) -> Option<Instant> {
        let regular = self.next_estimate.min(self.next_trash).min(self.next_defence);
        let drain = self.drain.as_ref().map(Drain::due);
        let others = [self.next_tick, self.defence.next_deadline(), self.sync.next_deadline(), drain];
        others.into_iter().flatten().chain([regular]).min()
    }

    /// Does what is due by `now`: estimates, the trash, the defence, the schedulers' periodic work.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.collect_sync(now);
        self.handle_resync_timeout(now);
        while self.next_estimate <= now {
            self.estimate();
            self.next_estimate = self.next_estimate + ESTIMATE_PERIOD;
        }
        while self.next_defence <= now {
            self.update_defence();
            self.drop_entries(now);
            self.next_defence = self.next_defence + DEFENCE_PERIOD;
        }
        self.flush_connections(now);
        self.look_after_drained(now);
        while self.next_trash <= now {
            let due = self.next_trash;
            self.empty_trash(due);
            self.next_trash = self.next_trash + TRASH_PERIOD;
        }
        self.tick_schedulers(now);
        self.settle();
    }

    /// The routes have changed: local addresses and thereby the filter may have.
    pub fn routes_changed(&mut self) {
        self.update_filter();
        self.want_neighbours();
    }

    /// Knobs have been set.
    pub fn sysctls_changed(&mut self) {
        self.update_defence();
        self.update_real_servers();
        self.update_sync_roles();
    }

    /// Publishes which real servers masquerade, while something asks for them.
    fn update_real_servers(&mut self) {
        let is_wanted = self.shared.sysctls.is_on(Knob::NatIcmpSend)
            || self.services.iter().any(|service| service.engine().is_some());
        if !is_wanted {
            if !self.shared.real_servers.load().1.is_empty() {
                self.shared.real_servers.publish(RealServers::default());
            }
            return;
        }
        let services = self.services.iter().map(|service| (Arc::new(service.snapshot()), service));
        self.shared.real_servers.publish(RealServers::new(services.flat_map(|(snapshot, service)| {
            let masqueraded = service.servers.iter().filter(|server| server.rule.method == Method::Masquerading);
            masqueraded
                .map(move |server| (server.rule.endpoint, RealServer { id: server.id, service: Arc::clone(&snapshot) }))
        })));
    }

    /// What workers and control share.
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    fn service(&self, key: &ServiceKey) -> Option<usize> {
        let id = self.service_by_key.get(key)?;
        self.services.binary_search_by_key(id, |service| service.id).ok()
    }

    /// Services are other than before.
    fn services_changed(&mut self) {
        self.stale.services = true;
        self.stale.servers = true;
    }

    /// Servers are other than before.
    fn servers_changed(&mut self) {
        self.stale.servers = true;
    }
}
