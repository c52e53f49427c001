//! Who carries the frames: the bare floor, lvx, or the kernel.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use lvx::base::{Endpoint, Frame, Instant, InterfaceId, MacAddress, Rng};
use lvx::command::Request;
use lvx::command::request::{ServerRule, ServiceRule};
use lvx::conn::TableConfig;
use lvx::control::{Action, Control};
use lvx::forward::{DropReason, Forwarder, Shared};
use lvx::host::clock::Clock;
use lvx::host::xdp::{AttachMode, Xdp};
use lvx::port::xsk::{RING_SLOTS, Waker, XskConfig, XskMonitor, XskPort, XskQueue};
use lvx::port::{BATCH_FRAMES, Port};
use lvx::route::{Database, net_file};
use lvx::service::{FullNat, Method, Protocol, SchedulerFlags, ServiceKey, Tunnel};
use lvx::worker::Worker;

use crate::bursts::Gate;
use crate::net::{self, Net};
use crate::traffic::Generator;

/// The director's interfaces, in this order.
const INTERFACES: [&str; 2] = ["d0", "d1"];
const IN: InterfaceId = InterfaceId(0);
const OUT: InterfaceId = InterfaceId(1);

/// Empty batches before the thread waits in the kernel, and how long it waits; as lvxd's workers.
const SPINS: u32 = 200;
const WAIT: Duration = Duration::from_millis(10);

/// Chunks that a fill ring takes at once.
const PORTION: u32 = RING_SLOTS / 8;

/// How long chunks may take to come back.
const CHUNKS_MAX: Duration = Duration::from_secs(10);

/// `conn_tab_bits`, the kernel's default.
const TABLE_BITS: u8 = 12;

/// What is measured.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Subject {
    /// The bare forwarder: new link addresses, out by the other interface.
    Floor,
    /// The kernel's IP forwarding.
    Kernel,
    /// lvx with a service of four servers.
    Lvx(Method),
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Subject::Floor => "floor",
            Subject::Kernel => "kernel ip_forward",
            Subject::Lvx(Method::Masquerading) => "lvx nat",
            Subject::Lvx(Method::Tunnelling) => "lvx ipip",
            Subject::Lvx(_) => "lvx dr",
        })
    }
}

/// What goes through a subject.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Traffic {
    /// The generator's frames without end, to all real servers.
    Flood,
    /// The same in bursts, each dealt with before the next.
    Bursts,
    /// Both directions at once, to and from one real server.
    BothWays,
}

/// What a director thread leaves behind.
#[derive(Default, Debug)]
pub struct Report {
    /// Client and chosen real server of each connection; the first thousand at most.
    pub connections: Vec<(Endpoint, Endpoint)>,
}

/// What reaches into a running thread.
struct Handle {
    shared: Arc<Shared>,
    waker: Waker,
    monitor: XskMonitor,
}

/// A running subject.
pub struct Director {
    stop: Arc<AtomicBool>,
    subject: Subject,
    flows: u32,
    traffic: Traffic,
    gate: Arc<Gate>,
    running: Option<(JoinHandle<Report>, Handle)>,
}

impl Director {
    /// Starts `subject` for `flows` flows, as it is at lvxd's start: program attached, filter set, sockets bound.
    pub fn start(
        net: &Net,
        subject: Subject,
        flows: u32,
        traffic: Traffic,
        cpu: Option<usize>,
    ) -> Result<Self, String> {
        let (stop, gate) = (Arc::new(AtomicBool::new(false)), Arc::new(Gate::default()));
        if subject == Subject::Kernel {
            return Ok(Self { stop, subject, flows, traffic, gate, running: None });
        }
        let (stopped, opened) = (Arc::clone(&stop), Arc::clone(&gate));
        let (ready, started) = mpsc::channel();
        let thread = net.director.within(move || {
            crate::pin(cpu);
            let clock = Clock::start();
            let made = Parts::new(subject, flows, traffic, clock.now());
            let (parts, answer) = match made {
                Ok(parts) => {
                    let shared = Arc::clone(parts.control.shared());
                    let (waker, monitor) = (parts.port.waker(), parts.port.monitor());
                    let handle = Handle { shared, waker, monitor };
                    (Some(parts), Ok(handle))
                }
                Err(error) => (None, Err(error)),
            };
            // Whoever waits has gone only when the benchmark has failed already.
            let _ = ready.send(answer);
            parts
                .map(|parts| parts.run(subject, traffic, &Turns { clock, gate: &opened, stop: &stopped }))
                .unwrap_or_default()
        });
        let handle = started.recv().map_err(|error| error.to_string())??;
        Ok(Self { stop, subject, flows, traffic, gate, running: Some((thread, handle)) })
    }

    /// True when every flow has its connection.
    pub fn is_warm(&self) -> bool {
        let Some((_, handle)) = &self.running else { return true };
        self.subject == Subject::Floor || handle.shared.connections.used().0 >= self.flows
    }

    /// Frames given to the kernel to send so far; 0 where the kernel is the subject.
    pub fn transmitted(&self) -> u64 {
        self.running.as_ref().map_or(0, |(_, handle)| handle.monitor.counters().transmitted.load())
    }

    /// Where bursts are handed over.
    pub fn gate(&self) -> Arc<Gate> {
        Arc::clone(&self.gate)
    }

    /// Stops the subject and checks that it dropped nothing and lost no chunk.
    /// Nothing may be on its way any more.
    pub fn stop(self, net: &Net) -> Report {
        self.stop.store(true, Relaxed);
        let Some((thread, handle)) = self.running else { return Report::default() };
        handle.waker.wake();
        if self.traffic != Traffic::BothWays {
            let trickle = Generator::trickle(net);
            while !thread.is_finished() {
                std::thread::sleep(Duration::from_millis(1));
            }
            trickle.stop();
        }
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

/// The director's parts, made in its namespace.
struct Parts {
    /// Detaches when dropped.
    _xdp: Xdp,
    control: Control,
    port: XskPort,
}

impl Parts {
    fn new(subject: Subject, flows: u32, traffic: Traffic, now: Instant) -> Result<Self, String> {
        let lines = net_file::parse(net::NET).map_err(|error| error.to_string())?;
        let mut database = Database::new(&INTERFACES.map(String::from));
        for line in &lines {
            database.apply(line).map_err(|error| error.to_string())?;
        }
        let table = TableConfig { connections_max: flows + flows / 8 + 1024, bucket_bits: TABLE_BITS };
        let shared = Arc::new(Shared::new(1, table, database.snapshot(), &mut Rng::new(1)));
        let mut control = Control::new(shared, 1 << TABLE_BITS, now);
        let method = match subject {
            Subject::Lvx(method) => method,
            Subject::Floor | Subject::Kernel => Method::DirectRouting,
        };
        let servers = if traffic == Traffic::BothWays { 1 } else { net::SERVERS };
        for request in rules(method, servers) {
            control.execute(now, request).map_err(|refusal| refusal.to_string())?;
        }

        let mut xdp = Xdp::load().map_err(|error| error.to_string())?;
        for name in INTERFACES {
            xdp.attach(net::index_of(name), name, 1, AttachMode::Native).map_err(|error| error.to_string())?;
        }
        while let Some(action) = control.poll_action() {
            match action {
                Action::SetFilter(filter) => xdp.set_filter(&filter).map_err(|error| error.to_string())?,
                Action::ChangeFilter(changes) => xdp.change_filter(&changes).map_err(|error| error.to_string())?,
                _ => {}
            }
        }
        let queue = |(interface, name): (InterfaceId, &str)| XskQueue { interface, name: name.to_string(), queue: 0 };
        let queues = [(IN, INTERFACES[0]), (OUT, INTERFACES[1])].map(queue).to_vec();
        let port = XskPort::open(&XskConfig::new(queues), None).map_err(|error| error.to_string())?;
        for (info, socket) in port.sockets() {
            xdp.connect(net::index_of(&info.name), info.queue, socket).map_err(|error| error.to_string())?;
        }
        Ok(Self { _xdp: xdp, control, port })
    }

    fn run(self, subject: Subject, traffic: Traffic, turns: &Turns<'_>) -> Report {
        let Self { _xdp, control, port } = self;
        let shared = Arc::clone(control.shared());
        let monitor = port.monitor();
        if subject == Subject::Floor {
            drive(&mut Floor { port, batch: Vec::with_capacity(BATCH_FRAMES) }, traffic, turns);
        } else {
            let forwarder = Forwarder::new(Arc::clone(&shared), 0);
            drive(&mut Worker::new(port, forwarder, turns.clock.now()), traffic, turns);
            let counters = &shared.workers[0].counters;
            for reason in DropReason::ALL {
                assert_eq!(counters.drops(*reason), 0, "{subject} dropped frames: {}", reason.name());
            }
            assert_eq!(counters.passed.get(), 0, "{subject} passed frames to the host");
            assert_eq!(counters.received.get(), counters.transmitted.get(), "{subject}: every frame is sent");
        }
        let counters = monitor.counters();
        assert_eq!(counters.transmit_full.load(), 0, "{subject}: no transmit ring overflows");
        assert_eq!(counters.received.load(), counters.transmitted.load(), "{subject}: every frame is sent");
        Report { connections: connections(&control, turns.clock.now()) }
    }
}

/// A UDP and a TCP service with servers of equal weight.
fn rules(method: Method, servers: u8) -> Vec<Request> {
    [Protocol::Udp, Protocol::Tcp].into_iter().flat_map(|protocol| rules_of(protocol, method, servers)).collect()
}

fn rules_of(protocol: Protocol, method: Method, servers: u8) -> Vec<Request> {
    let service = ServiceKey::Address { protocol, endpoint: net::virtual_service() };
    let mut requests = vec![Request::AddService(ServiceRule {
        key: service,
        scheduler: "wlc".to_string(),
        flags: SchedulerFlags::default(),
        persistent_s: None,
        mask: u32::MAX,
        engine: None,
        one_packet: false,
        mss_max: 0,
    })];
    requests.extend((0..servers).map(|number| {
        let mut endpoint = net::server(number);
        if method != Method::Masquerading {
            endpoint.port = net::virtual_service().port;
        }
        let server = ServerRule {
            endpoint,
            method,
            weight: 1,
            upper: 0,
            lower: 0,
            tunnel: Tunnel::Ipip,
            full_nat: FullNat::Off,
        };
        Request::AddServer { service, server }
    }));
    requests
}

fn connections(control: &Control, now: Instant) -> Vec<(Endpoint, Endpoint)> {
    let mut rows = Vec::new();
    for bucket in 0..control.shared().connections.bucket_count() {
        if rows.len() >= 1000 {
            break;
        }
        control.connections_of(bucket, now, &mut rows);
    }
    rows.into_iter().map(|row| (row.client, row.destination)).collect()
}

/// What the loop of a director's thread turns.
trait Loop {
    fn step(&mut self, now: Instant) -> usize;
    fn sleep(&self) {}
    fn port(&mut self) -> &mut XskPort;
}

impl Loop for Worker<XskPort> {
    fn step(&mut self, now: Instant) -> usize {
        Worker::step(self, now)
    }

    fn sleep(&self) {
        Worker::sleep(self);
    }

    fn port(&mut self) -> &mut XskPort {
        self.port_mut()
    }
}

/// The bare forwarder.
struct Floor {
    port: XskPort,
    batch: Vec<Frame>,
}

impl Loop for Floor {
    fn step(&mut self, _now: Instant) -> usize {
        self.port.receive(&mut self.batch);
        let frames = self.batch.len();
        for frame in self.batch.drain(..) {
            let (out, to, from): (_, MacAddress, MacAddress) = if frame.interface == IN {
                (OUT, net::server_station(0), net::DIRECTOR_STATION_OUT)
            } else {
                (IN, net::CLIENT_STATION, net::DIRECTOR_STATION_IN)
            };
            let bytes = self.port.bytes_mut(&frame);
            bytes[..6].copy_from_slice(&to.0);
            bytes[6..12].copy_from_slice(&from.0);
            self.port.transmit(frame, out);
        }
        self.port.flush();
        frames
    }

    fn port(&mut self) -> &mut XskPort {
        &mut self.port
    }
}

/// What says when a thread takes frames.
struct Turns<'a> {
    clock: Clock,
    gate: &'a Gate,
    stop: &'a AtomicBool,
}

/// Takes frames until told to stop, then checks the chunks.
fn drive<L: Loop>(subject: &mut L, traffic: Traffic, turns: &Turns<'_>) {
    let Turns { clock, gate, stop } = *turns;
    if traffic == Traffic::Bursts {
        while !stop.load(Relaxed) {
            gate.take_over(|| subject.step(clock.now()));
        }
    } else {
        work(subject, clock, stop);
    }
    let proof = if traffic == Traffic::BothWays { Proof::Roughly } else { Proof::AtRefill };
    check_chunks(subject, INTERFACES.len(), proof, |subject| {
        subject.step(clock.now());
        subject.port()
    });
    subject.sleep();
}

/// The loop of lvxd's workers.
fn work<L: Loop>(subject: &mut L, clock: Clock, stop: &AtomicBool) {
    let mut idle = 0;
    while !stop.load(Relaxed) {
        if subject.step(clock.now()) > 0 {
            idle = 0;
            continue;
        }
        idle += 1;
        if idle > SPINS {
            subject.sleep();
            subject.port().wait(WAIT);
        } else {
            std::hint::spin_loop();
        }
    }
}

/// How chunks are counted. A fill ring takes them in portions, so at a given moment each may lack up to one, and as
/// many more are free.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Proof {
    /// The port has received nothing, so its fill rings are full: exact.
    Still,
    /// One fill ring is used. It is full just after it took a portion: exact, where somebody sends frames one by one.
    AtRefill,
    /// Several are used, each in its own time: no fewer chunks than there must be, and no more than a portion each.
    Roughly,
}

/// Checks that every chunk of the port of `holder` is free or in a fill ring, and gives time for that. `advance`
/// moves what is on its way by one step and shows the port.
pub fn check_chunks<T>(holder: &mut T, sockets: usize, proof: Proof, mut advance: impl FnMut(&mut T) -> &mut XskPort) {
    let expected = sockets * RING_SLOTS as usize + 2 * BATCH_FRAMES;
    let portion = PORTION as usize;
    let mut free = 0;
    let mut frames = Vec::with_capacity(expected + sockets * portion);
    let start = std::time::Instant::now();
    while start.elapsed() < CHUNKS_MAX {
        let before = free;
        let port = advance(holder);
        frames.extend(std::iter::from_fn(|| port.allocate(1, IN)));
        free = frames.len();
        frames.drain(..).for_each(|frame| port.release(frame));
        let is_complete = match proof {
            Proof::Still => free == expected,
            // Frames on their way only make it fewer, so what is lost cannot be made up for.
            Proof::AtRefill => free == expected && before > free + portion / 2,
            Proof::Roughly => (expected..expected + sockets * portion).contains(&free),
        };
        if is_complete {
            return;
        }
        std::thread::yield_now();
    }
    panic!("{free} free chunks where there should be {expected} ({proof:?}): some are lost");
}
