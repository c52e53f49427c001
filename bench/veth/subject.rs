//! Who carries the frames: the bare floor, lvx, or the kernel.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use lvx::base::{Endpoint, Frame, InterfaceId, MacAddress, Rng};
use lvx::conn::TableConfig;
use lvx::control::Control;
use lvx::forward::{DropReason, Forwarder, Shared};
use lvx::host::clock::Clock;
use lvx::host::xdp::{AttachMode, Xdp};
use lvx::port::xsk::{RING_SLOTS, Waker, XskConfig, XskMonitor, XskPort, XskQueue};
use lvx::port::{BATCH_FRAMES, Port};
use lvx::route::{Database, net_file};
use lvx::service::Method;
use lvx::worker::Worker;

use crate::bursts::Gate;
use crate::net::{self, Net};
use crate::steering::{self, Meanwhile, Steering};
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
    /// Round trips of sockets, to the first real server; the generator's frames go to the others.
    BothWays,
    /// The generator's frames and, from the other side, the replies of the one real server.
    Replies,
}

impl Traffic {
    /// Whether frames come in by both interfaces.
    fn is_two_way(self) -> bool {
        matches!(self, Traffic::BothWays | Traffic::Replies)
    }
}

/// What a director leaves behind.
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
    steering: Steering,
    thread: ThreadId,
}

/// A thread as the kernel knows it; 0 for none.
#[derive(Clone, Copy, Debug)]
pub struct ThreadId(i32);

impl ThreadId {
    fn own() -> Self {
        // SAFETY: the call has no arguments and cannot fail.
        Self(unsafe { libc::gettid() })
    }

    /// How long it has waited for its processor while it had something to do, nanoseconds; `None` where the kernel
    /// does not say.
    pub fn waited_ns(self) -> Option<u64> {
        let text = std::fs::read_to_string(format!("/proc/self/task/{}/schedstat", self.0)).ok()?;
        text.split_whitespace().nth(1)?.parse().ok()
    }
}

/// A running subject.
pub struct Director {
    stop: Arc<AtomicBool>,
    subject: Subject,
    flows: u32,
    traffic: Traffic,
    gate: Arc<Gate>,
    running: Option<(JoinHandle<()>, Handle)>,
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
            let (worker, answer) = match open(subject, flows, traffic, clock) {
                Ok((port, steering)) => {
                    let shared = Arc::clone(steering.control.shared());
                    let (waker, monitor) = (port.waker(), port.monitor());
                    let handle =
                        Handle { shared: Arc::clone(&shared), waker, monitor, steering, thread: ThreadId::own() };
                    (Some((port, shared)), Ok(handle))
                }
                Err(error) => (None, Err(error)),
            };
            // Whoever waits has gone only when the benchmark has failed already.
            let _ = ready.send(answer);
            if let Some((port, shared)) = worker {
                run(port, shared, subject, traffic, &Turns { clock, gate: &opened, stop: &stopped });
            }
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
        self.running.as_ref().map_or(0, |(_, handle)| handle.monitor.counters().transmitted.get())
    }

    /// What its worker and its control share, where it has any.
    pub fn shared(&self) -> Option<Arc<Shared>> {
        self.running.as_ref().map(|(_, handle)| Arc::clone(&handle.shared))
    }

    /// The thread that takes frames, where it has one.
    pub fn thread(&self) -> ThreadId {
        self.running.as_ref().map_or(ThreadId(0), |(_, handle)| handle.thread)
    }

    /// Does `work` while control, on a thread of its own, does something else; and how often it did that.
    pub fn while_busy<T>(
        &mut self,
        with: Meanwhile,
        cpu: Option<usize>,
        work: impl FnOnce() -> T,
    ) -> Result<(T, f64), String> {
        let Some((_, handle)) = &mut self.running else { return Ok((work(), 0.0)) };
        let (steering, stop) = (&mut handle.steering, AtomicBool::new(false));
        std::thread::scope(|scope| {
            let control = scope.spawn(|| {
                crate::pin(cpu);
                steering.keep_busy(with, &stop)
            });
            let done = work();
            stop.store(true, Relaxed);
            let rounds = control.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
            Ok((done, rounds))
        })
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
        if !self.traffic.is_two_way() {
            let trickle = Generator::trickle(net);
            while !thread.is_finished() {
                std::thread::sleep(Duration::from_millis(1));
            }
            trickle.stop();
        }
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let connections = connections(&handle.steering.control, handle.steering.clock.now());
        // The program is detached where it was attached.
        net.director.run(move || drop(handle));
        Report { connections }
    }
}

/// Opens a director in this thread's namespace: rules, program, sockets.
fn open(subject: Subject, flows: u32, traffic: Traffic, clock: Clock) -> Result<(XskPort, Steering), String> {
    let lines = net_file::parse(net::NET).map_err(|error| error.to_string())?;
    let mut database = Database::new(&INTERFACES.map(String::from));
    for line in &lines {
        database.apply(line).map_err(|error| error.to_string())?;
    }
    let table = TableConfig { connections_max: flows + flows / 8 + 1024, bucket_bits: TABLE_BITS };
    let shared = Arc::new(Shared::new(1, table, database.snapshot(), &mut Rng::new(1)));
    let mut xdp = Xdp::load().map_err(|error| error.to_string())?;
    for name in INTERFACES {
        xdp.attach(net::index_of(name), name, 1, AttachMode::Native).map_err(|error| error.to_string())?;
    }
    let mut steering = Steering { control: Control::new(shared, 1 << TABLE_BITS, clock.now()), xdp, clock };
    let method = match subject {
        Subject::Lvx(method) => method,
        Subject::Floor | Subject::Kernel => Method::DirectRouting,
    };
    let server = |number: u8| {
        let mut endpoint = net::server(number);
        if method != Method::Masquerading {
            endpoint.port = net::virtual_service().port;
        }
        endpoint
    };
    // Round trips come first: their servers are not those of the load.
    let trips = if traffic == Traffic::BothWays { 1 } else { 0 };
    let last = if traffic == Traffic::Replies { 1 } else { net::SERVERS };
    let load = [steering::udp(net::virtual_service()), steering::tcp(net::virtual_service())];
    let load = load.into_iter().flat_map(|key| steering::rules(key, method, (trips..last).map(server)));
    let trips = steering::rules(steering::udp(net::trip_service()), method, (0..trips).map(server));
    steering.execute(&load.chain(trips).collect::<Vec<_>>())?;
    let queue = |(interface, name): (InterfaceId, &str)| XskQueue { interface, name: name.to_string(), queue: 0 };
    let queues = [(IN, INTERFACES[0]), (OUT, INTERFACES[1])].map(queue).to_vec();
    let port = XskPort::open(&XskConfig::new(queues), None).map_err(|error| error.to_string())?;
    for (info, socket) in port.sockets() {
        steering.xdp.connect(net::index_of(&info.name), info.queue, socket).map_err(|error| error.to_string())?;
    }
    Ok((port, steering))
}

/// Takes frames until told to stop, then checks what became of them.
fn run(port: XskPort, shared: Arc<Shared>, subject: Subject, traffic: Traffic, turns: &Turns<'_>) {
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
    assert_eq!(counters.transmit_full.get(), 0, "{subject}: no transmit ring overflows");
    assert_eq!(counters.received.get(), counters.transmitted.get(), "{subject}: every frame is sent");
}

fn connections(control: &Control, now: lvx::base::Instant) -> Vec<(Endpoint, Endpoint)> {
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
    fn step(&mut self, clock: Clock) -> usize;
    fn sleep(&mut self) {}
    fn port(&mut self) -> &mut XskPort;
}

impl Loop for Worker<XskPort> {
    fn step(&mut self, clock: Clock) -> usize {
        self.step_timed(|| clock.now())
    }

    fn sleep(&mut self) {
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

/// To which real server the bare forwarder sends: round trips to the first, all else to the second.
fn server_of(bytes: &[u8]) -> u8 {
    const LAST_OF_DESTINATION: usize = 33;
    u8::from(bytes[LAST_OF_DESTINATION] != net::TRIP_ADDRESS.to_be_bytes()[3])
}

impl Loop for Floor {
    fn step(&mut self, clock: Clock) -> usize {
        // As the worker does: it is no director's work to know the time.
        std::hint::black_box(clock.now());
        self.port.receive(&mut self.batch);
        let frames = self.batch.len();
        for frame in self.batch.drain(..) {
            let bytes = self.port.bytes_mut(&frame);
            let (out, to, from): (_, MacAddress, MacAddress) = if frame.interface == IN {
                (OUT, net::server_station(server_of(bytes)), net::DIRECTOR_STATION_OUT)
            } else {
                (IN, net::CLIENT_STATION, net::DIRECTOR_STATION_IN)
            };
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
            gate.take_over(|| subject.step(clock));
        }
    } else {
        work(subject, clock, stop);
    }
    let proof = if traffic.is_two_way() { Proof::Roughly } else { Proof::AtRefill };
    check_chunks(subject, INTERFACES.len(), proof, |subject| {
        subject.step(clock);
        subject.port()
    });
    subject.sleep();
}

/// The loop of lvxd's workers.
fn work<L: Loop>(subject: &mut L, clock: Clock, stop: &AtomicBool) {
    let mut idle = 0;
    while !stop.load(Relaxed) {
        if subject.step(clock) > 0 {
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
