//! The whole pipeline in memory: parse, connection with TCP state, timer, counters, rewrite, route. No NIC.
//!
//! `cargo bench --bench forward` prints nanoseconds a packet beside two floors measured in the same run:
//! - *copy*: a loop that makes and releases the same frames (what the generator costs),
//! - *touch*: that loop with one prefetched random touch of a table of one line a flow.
//!
//! A last line says what measuring for `lvx latency` costs a worker.
//!
//! Options after `--`: `--flows N,…`, `--method dr|nat|ipip|gre|gue|dr6|new,…`, `--packets N` (a run), `--runs N`,
//! `--instructions` (counts them with valgrind's callgrind instead of time).

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::VecDeque;
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use lvx::base::memory::{Line, Slab, prefetch};
use lvx::base::{Address, Endpoint, Frame, Instant, InterfaceId, Lock, Rng};
use lvx::conn::{EntryId, Event, Flags, Inserted, Key, New, TableConfig, tcp};
use lvx::forward::latency::LatencyCounters;
use lvx::forward::{Forwarder, Shared};
use lvx::host::clock::Clock;
use lvx::port::{BATCH_FRAMES, HEADROOM_OCTETS, Port};
use lvx::route::{Database, net_file};
use lvx::sched;
use lvx::service::scheduler::Scheduling;
use lvx::service::{
    DestinationId, Method, Protocol, SchedulerFlags, Service, ServiceId, ServiceKey, Services, Tunnel, TunnelChecksum,
};
use lvx::wire::checksum;
use lvx::worker::BATCHES_PER_SAMPLE;

/// Counts allocations, so that the benchmark can say that the pipeline makes none.
struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Relaxed);
        // SAFETY: the caller's contract is the system's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Relaxed);
        // SAFETY: the caller's contract is the system's.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's contract is the system's.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const NET: &str = "\
link add eth0 address 02:00:00:00:00:fe mtu 1500
link add eth1 address 02:00:00:00:01:fe mtu 1500
addr add 10.0.0.254/24 dev eth0
addr add 10.2.0.254/16 dev eth1
addr add fd00::254/64 dev eth0
addr add fd00:2::254/64 dev eth1
route add default via 10.0.0.1 dev eth0
route add default via fd00::1 dev eth0
route add local 10.9.0.0/16 dev lo
route add local fd00:9::/64 dev lo
neigh add 10.0.0.1 lladdr 02:00:00:00:00:01 dev eth0
neigh add fd00::1 lladdr 02:00:00:00:00:01 dev eth0
";

const SERVERS: u16 = 100;
const CHUNK: usize = 2048;

/// What a run measures.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Case {
    Dr,
    Nat,
    Ipip,
    Gre,
    Gue,
    Dr6,
    /// SYNs of clients never seen before.
    Open,
}

impl Case {
    fn parse(word: &str) -> Option<Self> {
        Some(match word {
            "dr" => Case::Dr,
            "nat" => Case::Nat,
            "ipip" => Case::Ipip,
            "gre" => Case::Gre,
            "gue" => Case::Gue,
            "dr6" => Case::Dr6,
            "new" => Case::Open,
            _ => return None,
        })
    }

    fn name(self) -> &'static str {
        match self {
            Case::Dr => "dr",
            Case::Nat => "nat",
            Case::Ipip => "ipip",
            Case::Gre => "gre",
            Case::Gue => "gue",
            Case::Dr6 => "dr6",
            Case::Open => "new",
        }
    }

    fn method(self) -> Method {
        match self {
            Case::Nat => Method::Masquerading,
            Case::Ipip | Case::Gre | Case::Gue => Method::Tunnelling,
            Case::Dr | Case::Dr6 | Case::Open => Method::DirectRouting,
        }
    }

    fn tunnel(self) -> Tunnel {
        match self {
            Case::Gre => Tunnel::Gre { checksum: false },
            Case::Gue => Tunnel::Gue { port: 6080, checksum: TunnelChecksum::None },
            _ => Tunnel::Ipip,
        }
    }

    fn vip(self) -> Endpoint {
        let text = if self == Case::Dr6 { "fd00:9::1" } else { "10.9.0.1" };
        Endpoint::new(text.parse().unwrap(), 80)
    }

    fn client(self, flow: u32) -> Endpoint {
        let (host, port) = (flow >> 4, 1024 + (flow & 15) as u16);
        match self {
            Case::Dr6 => Endpoint::new(Address::v6(0xfd00_0001 << 96 | u128::from(host)), port),
            _ => Endpoint::new(Address::v4(0x1400_0000 + host), port),
        }
    }

    fn server(self, number: u16) -> Endpoint {
        match self {
            Case::Dr6 => Endpoint::new(Address::v6(0xfd00_0002 << 96 | u128::from(number)), 80),
            _ => Endpoint::new(Address::v4(0x0a02_0100 + u32::from(number)), 80),
        }
    }
}

/// Frames of known flows in random order, made on receive and counted on transmit.
struct BenchPort {
    memory: Vec<u8>,
    free: Vec<u64>,
    template: Vec<u8>,
    case: Case,
    mask: u32,
    next: u32,
    transmitted: u64,
    touched: Option<Slab<Line<16>>>,
    pending: VecDeque<u32>,
}

impl BenchPort {
    fn new(case: Case, flows: u32, flags: u8) -> Self {
        let chunks = 2 * BATCH_FRAMES;
        Self {
            memory: vec![0; chunks * CHUNK],
            free: (0..chunks as u64).map(|chunk| chunk * CHUNK as u64).collect(),
            template: template(case, flags),
            case,
            mask: flows - 1,
            next: 0,
            transmitted: 0,
            touched: None,
            pending: VecDeque::with_capacity(BATCH_FRAMES),
        }
    }

    /// A permutation of all flows without order: a full-period generator modulo a power of two, its bits mixed.
    fn next_flow(&mut self) -> u32 {
        self.next = self.next.wrapping_mul(0x0019_660d).wrapping_add(0x3c6e_f35f) & self.mask;
        self.next
    }

    fn fill(&mut self, at: usize, flow: u32) -> usize {
        let length = self.template.len();
        let frame = &mut self.memory[at..at + length];
        frame.copy_from_slice(&self.template);
        let client = self.case.client(flow);
        match self.case {
            Case::Dr6 => {
                frame[22..38].copy_from_slice(&client.address.0.to_be_bytes());
                frame[54..56].copy_from_slice(&client.port.to_be_bytes());
            }
            _ => {
                let old = u32::from_be_bytes([frame[26], frame[27], frame[28], frame[29]]);
                let sum = u16::from_be_bytes([frame[24], frame[25]]);
                let sum = checksum::Update::new(sum).remove_u32(old).add_u32(client.address.low_u32()).finish();
                frame[24..26].copy_from_slice(&sum.to_be_bytes());
                frame[26..30].copy_from_slice(&client.address.low_u32().to_be_bytes());
                frame[34..36].copy_from_slice(&client.port.to_be_bytes());
            }
        }
        length
    }
}

impl Port for BenchPort {
    #[inline]
    fn receive(&mut self, batch: &mut Vec<Frame>) {
        for _ in 0..BATCH_FRAMES {
            let Some(chunk) = self.free.pop() else { return };
            let flow = self.next_flow();
            let start = chunk + HEADROOM_OCTETS as u64;
            let length = self.fill(start as usize, flow) as u32;
            if let Some(table) = &self.touched {
                prefetch(&table[flow as usize]);
                self.pending.push_back(flow);
            }
            batch.push(Frame { start, length, interface: InterfaceId(0) });
        }
    }

    #[inline]
    fn bytes(&self, frame: &Frame) -> &[u8] {
        &self.memory[frame.start as usize..frame.start as usize + frame.length as usize]
    }

    #[inline]
    fn bytes_mut(&mut self, frame: &Frame) -> &mut [u8] {
        &mut self.memory[frame.start as usize..frame.start as usize + frame.length as usize]
    }

    fn push_front(&mut self, frame: &mut Frame, octets: usize) -> bool {
        frame.start -= octets as u64;
        frame.length += octets as u32;
        true
    }

    fn pull_front(&mut self, frame: &mut Frame, octets: usize) {
        frame.start += octets as u64;
        frame.length -= octets as u32;
    }

    fn resize(&mut self, frame: &mut Frame, length: usize) -> bool {
        frame.length = length as u32;
        true
    }

    fn allocate(&mut self, length: usize, interface: InterfaceId) -> Option<Frame> {
        let start = self.free.pop()? + HEADROOM_OCTETS as u64;
        Some(Frame { start, length: length as u32, interface })
    }

    fn capacity(&self) -> usize {
        self.free.len()
    }

    #[inline]
    fn transmit(&mut self, frame: Frame, _interface: InterfaceId) {
        self.transmitted += 1;
        self.release(frame);
    }

    fn pass(&mut self, frame: Frame) {
        self.release(frame);
    }

    #[inline]
    fn release(&mut self, frame: Frame) {
        self.free.push(frame.start & !(CHUNK as u64 - 1));
    }

    fn flush(&mut self) {}
}

fn template(case: Case, flags: u8) -> Vec<u8> {
    let mut frame = Vec::new();
    frame.extend([0x02, 0, 0, 0, 0, 0xfe, 0x02, 0, 0, 0, 0, 1]);
    let vip = case.vip();
    if case == Case::Dr6 {
        frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 20, 6, 64]);
        frame.extend(case.client(0).address.0.to_be_bytes());
        frame.extend(vip.address.0.to_be_bytes());
    } else {
        frame.extend([0x08, 0, 0x45, 0, 0, 40, 0, 1, 0x40, 0, 64, 6, 0, 0]);
        frame.extend(case.client(0).address.low_u32().to_be_bytes());
        frame.extend(vip.address.low_u32().to_be_bytes());
        let sum = checksum::of(&frame[14..34]);
        frame[24..26].copy_from_slice(&sum.to_be_bytes());
    }
    frame.extend(1024u16.to_be_bytes());
    frame.extend(vip.port.to_be_bytes());
    frame.extend([0, 0, 0, 1, 0, 0, 0, 1, 0x50, flags, 0x20, 0, 0x12, 0x34, 0, 0]);
    frame.resize(frame.len().max(60), 0);
    frame
}

struct Bench {
    shared: Arc<Shared>,
    forwarder: Forwarder,
    port: BenchPort,
    batch: Vec<Frame>,
    now: Instant,
}

impl Bench {
    fn new(case: Case, flows: u32) -> Self {
        let lines = net_file::parse(NET).unwrap();
        let mut database = Database::new(&["eth0".to_string(), "eth1".to_string()]);
        for line in &lines {
            database.apply(line).unwrap();
        }
        for number in 0..SERVERS {
            let address = case.server(number).address;
            let line = format!("neigh add {address} lladdr 02:00:00:00:02:{:02x} dev eth1", number & 0xff);
            database.apply(&net_file::parse_line(&line).unwrap().unwrap()).unwrap();
        }
        let connections_max = flows.max(1024) + flows / 8;
        let table = TableConfig { connections_max, bucket_bits: 12 };
        let shared = Arc::new(Shared::new(1, table, database.snapshot(), &mut Rng::new(1)));
        let mut scheduling = Scheduling::new(
            sched::by_name("wlc", &sched::Context::default()),
            SchedulerFlags::default(),
            &shared.destinations,
        );
        for number in 0..SERVERS {
            let id = DestinationId(u32::from(number) + 1);
            let destination = shared.destinations.make(id);
            destination.assign(ServiceId(1), case.server(number));
            destination.configure(case.method(), case.tunnel(), 1, 0, 0);
            destination.set_available(ServiceId(1), true);
            scheduling.add(&shared.destinations, id);
        }
        let key = ServiceKey::Address { protocol: Protocol::Tcp, endpoint: case.vip() };
        shared.services.publish(Services::new([Service {
            id: ServiceId(1),
            key,
            persistence: None,
            engine: None,
            one_packet: false,
            scheduling: Arc::new(Lock::new(scheduling)),
        }]));
        let now = Instant::from_seconds(1);
        if case != Case::Open {
            for flow in 0..flows {
                establish(&shared, case, flow, now);
            }
        }
        let flags = if case == Case::Open { 0x02 } else { 0x10 };
        let mut forwarder = Forwarder::new(Arc::clone(&shared), 0);
        forwarder.adopt();
        Self { shared, forwarder, port: BenchPort::new(case, flows, flags), batch: Vec::with_capacity(64), now }
    }

    /// Takes about `packets` packets through the pipeline.
    fn run(&mut self, packets: u64) -> u64 {
        let mut done = 0;
        while done < packets {
            self.port.receive(&mut self.batch);
            done += self.batch.len() as u64;
            self.forwarder.adopt();
            self.forwarder.process(&mut self.port, &mut self.batch, self.now);
            self.now = self.now + std::time::Duration::from_micros(3);
        }
        done
    }
}

fn establish(shared: &Shared, case: Case, flow: u32, now: Instant) {
    let number = (flow % u32::from(SERVERS)) as u16;
    let key = Key { protocol: Some(Protocol::Tcp), client: case.client(flow), other: case.vip() };
    let new = New {
        key,
        destination: case.server(number),
        destination_id: DestinationId(u32::from(number) + 1),
        flags: Flags::new(case.method()),
        mark: 0,
        controller: EntryId::NONE,
        timeout_s: 0,
    };
    let hash = shared.connections.hash(key.protocol, key.client);
    let Inserted::New(found) = shared.connections.insert(hash, &new, now) else { panic!("flow {flow}") };
    for event in [tcp::Event::Syn, tcp::Event::Ack] {
        found.advance(lvx::conn::Direction::Inbound, Event::Tcp(event), false);
    }
    found.restart();
}

/// The generator alone, with or without a touch of a table of one line a flow.
fn floor(case: Case, flows: u32, packets: u64, touch: bool) -> f64 {
    let mut port = BenchPort::new(case, flows, 0x10);
    port.touched = touch.then(|| {
        let table = Slab::new(flows as usize);
        for line in table.iter() {
            let line: &Line<16> = line;
            line.0[0].store(1, Relaxed);
        }
        table
    });
    let mut batch = Vec::with_capacity(BATCH_FRAMES);
    nanoseconds(packets, || {
        let mut done = 0;
        while done < packets {
            port.receive(&mut batch);
            done += batch.len() as u64;
            while let Some(flow) = port.pending.pop_front() {
                if let Some(table) = &port.touched {
                    let line = &table[flow as usize].0;
                    line[1].store(line[0].load(Relaxed), Relaxed);
                }
            }
            for frame in batch.drain(..) {
                black_box(port.bytes(&frame)[40]);
                port.release(frame);
            }
        }
        done
    })
}

#[allow(clippy::disallowed_methods)]
fn nanoseconds(_packets: u64, run: impl FnOnce() -> u64) -> f64 {
    let start = std::time::Instant::now();
    let done = run();
    start.elapsed().as_nanos() as f64 / done as f64
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

struct Options {
    flows: Vec<u32>,
    cases: Vec<Case>,
    packets: u64,
    runs: usize,
    instructions: bool,
    single: bool,
}

fn options() -> Options {
    let mut options = Options {
        flows: vec![1, 1024, 131_072, 1_048_576],
        cases: vec![Case::Dr, Case::Nat, Case::Ipip, Case::Gre, Case::Gue, Case::Dr6, Case::Open],
        packets: 2_000_000,
        runs: 5,
        instructions: false,
        single: false,
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().unwrap_or_else(|| usage());
        match word.as_str() {
            "--flows" => {
                let parse = |word: &str| word.parse::<u32>().map(u32::next_power_of_two).unwrap_or_else(|_| usage());
                options.flows = value().split(',').map(parse).collect();
            }
            "--method" => {
                options.cases = value().split(',').map(|word| Case::parse(word).unwrap_or_else(|| usage())).collect();
            }
            "--packets" => options.packets = value().parse().unwrap_or_else(|_| usage()),
            "--runs" => options.runs = value().parse().unwrap_or_else(|_| usage()),
            "--instructions" => options.instructions = true,
            "--single" => options.single = true,
            "--bench" => {}
            _ => usage(),
        }
    }
    options
}

fn usage() -> ! {
    eprintln!("options: --flows N,…  --method dr|nat|ipip|gre|gue|dr6|new,…  --packets N  --runs N  --instructions");
    std::process::exit(2)
}

fn main() {
    let options = options();
    if options.single {
        // For callgrind: the work alone.
        Bench::new(options.cases[0], options.flows[0]).run(options.packets);
        return;
    }
    if options.instructions {
        return instructions(&options);
    }
    println!("ns a packet, median of {} runs of {} packets; allocations over all runs", options.runs, options.packets);
    println!(
        "{:<6} {:>9} {:>8} {:>8} {:>8} {:>8} {:>12}",
        "case", "flows", "total", "net", "copy", "touch", "allocations"
    );
    for &case in &options.cases {
        for &flows in &options.flows {
            if case == Case::Open {
                open(flows, &options);
            } else {
                known(case, flows, &options);
            }
        }
    }
    measuring(&options);
}

/// What [`lvx::worker::Worker::step_timed`] adds to a step with frames: a count, and of some a look at the clock and
/// another count.
fn measuring(options: &Options) {
    let (latency, clock) = (LatencyCounters::default(), Clock::start());
    let allocations = ALLOCATIONS.load(Relaxed);
    let run = || {
        for batch in 0..options.packets {
            // A few microseconds, of many cells.
            latency.count_wait(black_box(std::time::Duration::from_nanos(2000 + batch % 4096)), BATCH_FRAMES);
            if batch.is_multiple_of(u64::from(BATCHES_PER_SAMPLE)) {
                latency.count_residence(clock.now() - Instant::START, BATCH_FRAMES);
            }
        }
        options.packets
    };
    // Only the vector's own is to be seen.
    let times: Vec<f64> = (0..options.runs).map(|_| nanoseconds(options.packets, run)).collect();
    assert!(ALLOCATIONS.load(Relaxed) - allocations <= 1, "measuring allocates nothing");
    println!("measuring for `lvx latency`: {:.1} ns a batch, whatever its size", median(times));
}

fn known(case: Case, flows: u32, options: &Options) {
    let mut bench = Bench::new(case, flows);
    bench.run(options.packets / 4);
    let before = ALLOCATIONS.load(Relaxed);
    let transmitted = bench.port.transmitted;
    let totals: Vec<f64> =
        (0..options.runs).map(|_| nanoseconds(options.packets, || bench.run(options.packets))).collect();
    let allocations = ALLOCATIONS.load(Relaxed) - before - 1;
    assert!(bench.port.transmitted - transmitted >= options.packets * options.runs as u64, "every packet is sent");
    let copies = (0..options.runs).map(|_| floor(case, flows, options.packets, false)).collect();
    let touches = (0..options.runs).map(|_| floor(case, flows, options.packets, true)).collect();
    row(case, flows, median(totals), median(copies), median(touches), allocations);
    assert_eq!(allocations, 0, "the pipeline allocates nothing");
}

/// Each run fills an empty table with new connections.
fn open(flows: u32, options: &Options) {
    let mut allocations = 0;
    let packets = u64::from(flows).max(1);
    let totals: Vec<f64> = (0..options.runs)
        .map(|_| {
            let mut bench = Bench::new(Case::Open, flows);
            // The first connection makes room for paths; then nothing is allocated any more.
            bench.run(1);
            let before = ALLOCATIONS.load(Relaxed);
            let total = nanoseconds(packets, || bench.run(packets));
            allocations += ALLOCATIONS.load(Relaxed) - before;
            let (used, _) = bench.shared.connections.used();
            assert!(used >= flows.min(64), "connections were opened");
            total
        })
        .collect();
    let copies = (0..options.runs).map(|_| floor(Case::Open, flows, packets, false)).collect();
    let touches = (0..options.runs).map(|_| floor(Case::Open, flows, packets, true)).collect();
    row(Case::Open, flows, median(totals), median(copies), median(touches), allocations);
}

fn row(case: Case, flows: u32, total: f64, copy: f64, touch: f64, allocations: u64) {
    let net = total - copy;
    println!("{:<6} {flows:>9} {total:>8.1} {net:>8.1} {copy:>8.1} {touch:>8.1} {allocations:>12}", case.name());
}

/// Instructions a packet: callgrind's count of a long run less that of a short one.
fn instructions(options: &Options) {
    let count = |case: Case, flows: u32, packets: u64| -> u64 {
        let program = std::env::current_exe().expect("a benchmark has a path");
        let output = std::process::Command::new("valgrind")
            .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
            .arg(program)
            .args(["--single", "--method", case.name(), "--flows", &flows.to_string()])
            .args(["--packets", &packets.to_string()])
            .output()
            .expect("valgrind is installed");
        let text = String::from_utf8_lossy(&output.stderr);
        let collected = text.lines().find_map(|line| line.split("Collected : ").nth(1));
        collected.and_then(|number| number.trim().parse().ok()).unwrap_or_else(|| panic!("valgrind said: {text}"))
    };
    println!("{:<6} {:>9} {:>22}", "case", "flows", "instructions a packet");
    for &case in &options.cases {
        for &flows in &options.flows {
            let (few, many) = (6400, 64_000);
            let difference = count(case, flows, many) - count(case, flows, few);
            println!("{:<6} {flows:>9} {:>22.1}", case.name(), difference as f64 / (many - few) as f64);
        }
    }
}
