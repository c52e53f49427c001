//! The director of a case, without a port of the kernel's: services, routes, connections, a worker.

#![allow(dead_code)] // Each benchmark uses a part.

use std::sync::Arc;
use std::time::Duration;

use lvx::base::{Family, Instant, Lock, Rng};
use lvx::conn::{Direction, EntryId, Event, Flags, Inserted, Key, New, TableConfig, tcp};
use lvx::forward::{Forwarder, Shared};
use lvx::route::{Database, net_file};
use lvx::sched;
use lvx::service::scheduler::Scheduling;
use lvx::service::{DestinationId, Protocol, SchedulerFlags, Service, ServiceId, ServiceKey, Services};
use lvx::worker::Worker;

use crate::case::{Case, Traffic};
use crate::port::BenchPort;

const NET: &str = "\
link add eth0 address 02:00:00:00:00:fe mtu 1500
link add eth1 address 02:00:00:00:01:fe mtu 1500
addr add 10.0.0.254/24 dev eth0
addr add 10.2.0.254/16 dev eth1
addr add fd00::254/64 dev eth0
addr add fd00:0:0:2::254/64 dev eth1
route add default via 10.0.0.1 dev eth0
route add default via fd00::1 dev eth0
route add fd00:2::/32 via fd00:0:0:2::1 dev eth1
route add local 10.9.0.0/16 dev lo
route add local fd00:9::/32 dev lo
neigh add 10.0.0.1 lladdr 02:00:00:00:00:01 dev eth0
neigh add fd00::1 lladdr 02:00:00:00:00:01 dev eth0
neigh add fd00:0:0:2::1 lladdr 02:00:00:00:00:02 dev eth1
";

/// Entries of a table unless a case needs more: what `lvxd` starts with.
const CONNECTIONS_MAX: u32 = 1 << 20;

/// Frames that a worker takes in so long, nanoseconds a batch: the time that timers see.
const BATCH_NANOSECONDS: u64 = 64 * 60;

/// When a director starts.
const START: Instant = Instant::from_seconds(1);
/// After so long no connection of START is left.
const LONG: Duration = Duration::from_secs(3600);

/// A director that a case runs in.
pub struct Director {
    pub shared: Arc<Shared>,
    pub worker: Worker<BenchPort>,
    now: Instant,
}

impl Director {
    /// With `flows` connections; of a flood that many fill the table, of new connections there is room for that many.
    pub fn new(case: Case, flows: u32) -> Self {
        let connections_max = match case.traffic {
            Traffic::Flood => flows.max(64),
            _ => CONNECTIONS_MAX.max(flows),
        };
        Self::with_table(case, flows, connections_max)
    }

    /// The same in a table of this size.
    pub fn with_table(case: Case, flows: u32, connections_max: u32) -> Self {
        let shared = share(case, connections_max, 1);
        let (count, events): (u32, &[tcp::Event]) = match case.traffic {
            Traffic::Known | Traffic::BothWays | Traffic::Answers => (flows, &[tcp::Event::Syn, tcp::Event::Ack]),
            Traffic::Flood => (connections_max, &[tcp::Event::Syn]),
            Traffic::New => (0, &[]),
        };
        for flow in 0..count {
            connect(&shared, case, flow, events, START);
        }
        let mut port = BenchPort::new(case, flows);
        port.start_at(count);
        Self::join(shared, 0, port)
    }

    /// What `workers` workers share when there are `flows` established connections, in a table that has room for `room`
    /// more. The table has been full before: no page of it is touched for the first time.
    pub fn share(case: Case, flows: u32, room: u32, workers: usize) -> Arc<Shared> {
        let shared = share(case, CONNECTIONS_MAX.max(flows + room), workers);
        for flow in 0..flows + room {
            connect(&shared, case, flow, &[tcp::Event::Syn], START);
        }
        shared.connections.sweep_all(START + LONG);
        for flow in 0..flows {
            connect(&shared, case, flow, &[tcp::Event::Syn, tcp::Event::Ack], START);
        }
        shared
    }

    /// Worker `number` of those that share this.
    pub fn join(shared: Arc<Shared>, number: usize, port: BenchPort) -> Self {
        let worker = Worker::new(port, Forwarder::new(Arc::clone(&shared), number), START);
        Self { shared, worker, now: START }
    }

    /// Octets of the table for each connection that there is room for: buckets, entries and all that belongs to them.
    pub fn octets_per_connection(&self, v6: bool) -> f64 {
        let connections = &self.shared.connections;
        let family = if v6 { Family::V6 } else { Family::V4 };
        connections.octets_of(family) as f64 / f64::from(connections.connections_max())
    }

    /// Makes the next batch of frames, for [`Director::step`].
    pub fn prepare(&mut self) {
        self.worker.port_mut().prepare();
    }

    /// What is measured: one round of the worker.
    #[inline(never)]
    pub fn step(&mut self) -> u64 {
        let taken = self.worker.step(self.now) as u64;
        self.now = self.now + Duration::from_nanos(BATCH_NANOSECONDS);
        taken
    }

    /// Puts further connections into the table, which no frame belongs to: `flows` from number `first` on.
    pub fn occupy(&self, case: Case, first: u32, flows: u32) {
        for flow in first..first + flows {
            connect(&self.shared, case, flow, &[tcp::Event::Syn, tcp::Event::Ack], self.now);
        }
    }
}

/// Services and routes of a case, for so many workers, without connections.
fn share(case: Case, connections_max: u32, workers: usize) -> Arc<Shared> {
    let lines = net_file::parse(NET).unwrap();
    let mut database = Database::new(&["eth0".to_string(), "eth1".to_string()]);
    for line in &lines {
        database.apply(line).unwrap();
    }
    for number in 0..if case.v6 { 0 } else { case.servers() } {
        let address = case.server(number).address;
        let line = format!("neigh add {address} lladdr 02:00:00:02:{:02x}:{:02x} dev eth1", number >> 8, number & 0xff);
        database.apply(&net_file::parse_line(&line).unwrap().unwrap()).unwrap();
    }
    let table = TableConfig { connections_max, bucket_bits: 12 };
    let shared = Arc::new(Shared::new(workers, table, database.snapshot(), &mut Rng::new(1)));
    publish(&shared, case);
    // As lvxd does.
    shared.connections.populate();
    shared
}

fn publish(shared: &Shared, case: Case) {
    let each = case.servers() / case.services;
    let services = (0..case.services).map(|number| {
        let id = ServiceId(number + 1);
        let scheduler = sched::by_name(case.scheduler, &sched::Context::default());
        let mut scheduling = Scheduling::new(scheduler, SchedulerFlags::default(), &shared.destinations);
        for server in number * each..(number + 1) * each {
            let destination = shared.destinations.make(destination_id(server));
            destination.assign(id, case.server(server));
            destination.configure(case.method, case.tunnel, 1, 0, 0);
            destination.set_available(id, true);
            scheduling.add(&shared.destinations, destination_id(server));
        }
        Service {
            id,
            key: ServiceKey::Address { protocol: case.protocol, endpoint: case.vip(number) },
            persistence: None,
            engine: None,
            one_packet: false,
            scheduling: Arc::new(Lock::new(scheduling)),
        }
    });
    let services = Services::new(services.collect::<Vec<_>>());
    shared.services.publish(services);
}

/// The number of a real server's destination.
pub fn destination_id(server: u32) -> DestinationId {
    DestinationId(server + 1)
}

fn connect(shared: &Shared, case: Case, flow: u32, events: &[tcp::Event], now: Instant) {
    let server = case.server_of(flow);
    let key = Key { protocol: Some(case.protocol), client: case.client(flow), other: case.vip(case.service_of(flow)) };
    let new = New {
        key,
        destination: case.server(server),
        destination_id: destination_id(server),
        flags: Flags::new(case.method),
        mark: 0,
        controller: EntryId::NONE,
        timeout_s: 0,
    };
    let hash = shared.connections.hash(key.protocol, key.client);
    let Inserted::New(found) = shared.connections.insert(hash, &new, now) else { panic!("flow {flow}") };
    for &event in events {
        let event = if case.protocol == Protocol::Tcp { Event::Tcp(event) } else { Event::Udp };
        found.advance(Direction::Inbound, event, false);
    }
    found.restart();
}
