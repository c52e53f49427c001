//! The AF_XDP port, the XDP program and the way back to the stack, over veth in network namespaces of their own.
//!
//! Needs root, `ip` and `ping`; says *skipped* and why when it lacks them. Three namespaces a test: two ends and the
//! director between them, which carries frames from one veth to the other by way of user space.

#![allow(clippy::disallowed_methods)] // Real traffic runs in real time, on threads within namespaces.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use lvx::base::{Address, Endpoint, InterfaceId, MacAddress};
use lvx::host::pass::{Injector, PassInterface, PassThread};
use lvx::host::xdp::{AttachMode, Attachment, Xdp, XdpError};
use lvx::port::xsk::{XskConfig, XskError, XskPort, XskQueue};
use lvx::port::{BATCH_FRAMES, Port};
use lvx::service::Filter;

const LEFT: InterfaceId = InterfaceId(0);
const RIGHT: InterfaceId = InterfaceId(1);
const QUEUES: u32 = 2;
const TCP: u8 = 6;
const UDP: u8 = 17;
const SECRET: MacAddress = MacAddress([0x02, 0x4c, 0x56, 0x58, 0x11, 0x22]);

/// True when namespaces can be made here.
fn can_run(test: &str) -> bool {
    let made = Command::new("ip").args(["netns", "add", &format!("lvxt-{test}")]).output();
    let reason = match made {
        Err(error) => format!("cannot run ip: {error}"),
        Ok(output) if !output.status.success() => String::from_utf8_lossy(&output.stderr).trim().to_string(),
        Ok(_) => {
            ip(&format!("netns del lvxt-{test}"));
            return true;
        }
    };
    println!("skipped: {test}: {reason}");
    false
}

fn ip(arguments: &str) {
    let output = Command::new("ip").args(arguments.split_whitespace()).output().unwrap();
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

fn ping(namespace: &str, to: &str) -> bool {
    let words = ["netns", "exec", namespace, "ping", "-c", "2", "-i", "0.1", "-W", "2", to];
    Command::new("ip").args(words).output().unwrap().status.success()
}

/// Three namespaces: left end 10.77.0.1 (`e`) - `d0` director `d1` - `e` right end 10.77.0.2; the director itself is
/// 10.77.0.254 on `d0`. Removed when dropped.
struct Net {
    test: &'static str,
}

impl Net {
    fn new(test: &'static str, mtu: u32) -> Self {
        let net = Self { test };
        for part in ["l", "d", "r"] {
            ip(&format!("netns add {}", net.name(part)));
            ip(&format!("-n {} link set lo up", net.name(part)));
        }
        let director = net.name("d");
        for (end, device, address, mac) in [("l", "d0", "10.77.0.1", 1), ("r", "d1", "10.77.0.2", 2)] {
            let end = net.name(end);
            ip(&format!(
                "-n {director} link add {device} numrxqueues {QUEUES} numtxqueues {QUEUES} type veth \
                 peer name e numrxqueues {QUEUES} numtxqueues {QUEUES} netns {end}"
            ));
            ip(&format!("-n {end} link set e address 02:00:00:00:00:0{mac} mtu {mtu}"));
            ip(&format!("-n {end} addr add {address}/24 dev e"));
            ip(&format!("-n {end} addr add fd77::{mac}/64 dev e nodad"));
            ip(&format!("-n {end} link set e up"));
            ip(&format!("-n {director} link set {device} up mtu {mtu}"));
        }
        ip(&format!("-n {director} addr add 10.77.0.254/24 dev d0"));
        // ARP does not cross the director: it is not in the filter.
        for (end, other, mac) in [("l", 2, 2), ("r", 1, 1)] {
            let end = net.name(end);
            for address in ["10.77.0.", "fd77::"] {
                ip(&format!(
                    "-n {end} neigh replace {address}{other} lladdr 02:00:00:00:00:0{mac} dev e nud permanent"
                ));
            }
        }
        net
    }

    fn name(&self, part: &str) -> String {
        format!("lvxt-{}-{part}", self.test)
    }

    /// Runs `work` on a thread within a namespace.
    fn within<T: Send + 'static>(&self, part: &str, work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
        let path = format!("/run/netns/{}", self.name(part));
        std::thread::Builder::new()
            .spawn(move || {
                let namespace = std::fs::File::open(path).unwrap();
                // SAFETY: the descriptor is open; the call changes this thread alone.
                assert_eq!(unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) }, 0);
                work()
            })
            .unwrap()
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for part in ["l", "d", "r"] {
            let _ = Command::new("ip").args(["netns", "del", &self.name(part)]).output();
        }
    }
}

fn endpoint(text: &str) -> Endpoint {
    let socket: SocketAddr = text.parse().unwrap();
    Endpoint::new(socket.ip().into(), socket.port())
}

fn index_of(device: &str) -> u32 {
    use rustix::net::{AddressFamily, SocketType, netdevice, socket};
    netdevice::name_to_index(socket(AddressFamily::INET, SocketType::DGRAM, None).unwrap(), device).unwrap()
}

fn queues() -> Vec<XskQueue> {
    let queue = |interface, name: &str, queue| XskQueue { interface, name: name.to_string(), queue };
    (0..QUEUES).flat_map(|number| [queue(LEFT, "d0", number), queue(RIGHT, "d1", number)]).collect()
}

/// What a director thread leaves behind.
#[derive(Debug)]
struct Report {
    received: u64,
    transmitted: u64,
    dropped: u64,
    passed: u64,
    injected: u64,
    attachment: Attachment,
    counters: lvx::host::xdp::Counters,
    kernel_drops: u64,
}

/// A director: carries what the filter takes from side to side, and passes what is addressed to 10.77.0.254.
struct Director {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Report>>,
}

impl Director {
    fn start(net: &Net, mode: AttachMode, chunk_octets: u32, filter: Filter) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (ready, started) = std::sync::mpsc::channel();
        let stopped = Arc::clone(&stop);
        let thread = net.within("d", move || {
            let mut xdp = Xdp::load().unwrap();
            let attachment = xdp.attach(index_of("d0"), "d0", QUEUES, mode).unwrap();
            xdp.attach(index_of("d1"), "d1", QUEUES, mode).unwrap();
            xdp.set_reinjected_source(SECRET).unwrap();
            let interfaces = [(LEFT, "d0"), (RIGHT, "d1")].map(|(id, name)| PassInterface {
                id,
                index: index_of(name),
                native: attachment.native,
            });
            let pass = PassThread::start(Injector::new(interfaces.to_vec(), SECRET).unwrap(), 1).unwrap();
            let mut config = XskConfig::new(queues());
            config.chunk_octets = chunk_octets;
            let mut port = XskPort::open(&config, pass.queue(0)).unwrap();
            for (info, socket) in port.sockets() {
                assert!(!info.zero_copy, "veth has no zero-copy");
                xdp.connect(index_of(&info.name), info.queue, socket).unwrap();
            }
            xdp.set_filter(&filter).unwrap();
            ready.send(()).unwrap();
            let mut batch = Vec::with_capacity(BATCH_FRAMES);
            while !stopped.load(Ordering::Relaxed) {
                port.receive(&mut batch);
                if batch.is_empty() {
                    port.wait(Duration::from_millis(20));
                    port.flush();
                }
                for mut frame in batch.drain(..) {
                    // Out and back again: the tunnel's headroom.
                    assert!(port.push_front(&mut frame, lvx::port::HEADROOM_OCTETS));
                    port.pull_front(&mut frame, lvx::port::HEADROOM_OCTETS);
                    let bytes = port.bytes_mut(&frame);
                    if bytes.get(30..34) == Some(&[10, 77, 0, 254]) {
                        port.pass(frame);
                        continue;
                    }
                    finish_checksum(bytes);
                    let out = if frame.interface == LEFT { RIGHT } else { LEFT };
                    port.transmit(frame, out);
                }
                port.flush();
            }
            let monitor = port.monitor();
            let counters = monitor.counters();
            let kernel = monitor.sockets().map(|(_, kernel)| kernel.rx_dropped + kernel.rx_ring_full);
            Report {
                received: counters.received.get(),
                transmitted: counters.transmitted.get(),
                dropped: counters.transmit_full.get() + counters.transmit_refused.get() + counters.no_queue.get(),
                passed: counters.passed.get(),
                kernel_drops: kernel.sum(),
                injected: pass.counters().injected.load(Ordering::Relaxed),
                attachment,
                counters: xdp.counters().unwrap(),
            }
        });
        started.recv_timeout(Duration::from_secs(20)).expect("the director starts");
        Self { stop, thread: Some(thread) }
    }

    fn stop(mut self) -> Report {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap()
    }
}

/// Computes the TCP or UDP checksum anew: frames from a local stack over veth carry the pseudo-header's sum alone.
fn finish_checksum(frame: &mut [u8]) {
    let v4 = frame[12..14] == [8, 0];
    let (addresses, protocol, transport) = if v4 { (26..34, frame[23], 34) } else { (22..54, frame[20], 54) };
    let end = if v4 { 14 + usize::from(u16::from_be_bytes([frame[16], frame[17]])) } else { frame.len() };
    let field = transport + if protocol == TCP { 16 } else { 6 };
    frame[field..field + 2].fill(0);
    let sum = |bytes: &[u8]| -> u32 {
        bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0))).sum()
    };
    let mut total =
        sum(&frame[addresses]) + u32::from(protocol) + (end - transport) as u32 + sum(&frame[transport..end]);
    while total > 0xffff {
        total = (total & 0xffff) + (total >> 16);
    }
    frame[field..field + 2].copy_from_slice(&(!(total as u16)).to_be_bytes());
}

/// A virtual service on the right end and on the director itself.
fn filter() -> Filter {
    let (right, director): (Address, Address) = ("10.77.0.2".parse().unwrap(), "10.77.0.254".parse().unwrap());
    let mut filter = Filter::default();
    for text in ["10.77.0.2:5000", "[fd77::2]:5000"] {
        filter.services.extend([(TCP, endpoint(text)), (UDP, endpoint(text))]);
        filter.servers.extend([(TCP, endpoint(text)), (UDP, endpoint(text))]);
    }
    filter.services.extend([(TCP, endpoint("10.77.0.254:0")), (UDP, endpoint("10.77.0.254:0"))]);
    filter.virtual_addresses.extend([right, director]);
    filter.server_addresses.insert(right);
    filter
}

/// Sends octets one way over TCP and their sum back.
fn tcp_transfer(net: &Net, to: &'static str, octets: usize) -> Duration {
    let address: SocketAddr = to.parse().unwrap();
    let server = net.within("r", move || {
        let listener = TcpListener::bind(address).unwrap();
        let (mut stream, _) = listener.accept().unwrap();
        let mut buffer = vec![0; 1 << 16];
        let (mut sum, mut left) = (0u64, octets);
        while left > 0 {
            let count = stream.read(&mut buffer).unwrap();
            assert_ne!(count, 0);
            sum += buffer[..count].iter().map(|octet| u64::from(*octet)).sum::<u64>();
            left -= count;
        }
        stream.write_all(&sum.to_be_bytes()).unwrap();
    });
    let client = net.within("l", move || {
        let start = Instant::now();
        let mut stream = loop {
            // Until the other thread listens.
            match TcpStream::connect_timeout(&address, Duration::from_secs(5)) {
                Ok(stream) => break stream,
                Err(error) => assert!(start.elapsed() < Duration::from_secs(5), "connect: {error}"),
            }
        };
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let data: Vec<u8> = (0..octets).map(|position| (position * 7 + position / 251) as u8).collect();
        let begin = Instant::now();
        stream.write_all(&data).unwrap();
        let mut answer = [0; 8];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(u64::from_be_bytes(answer), data.iter().map(|octet| u64::from(*octet)).sum::<u64>());
        begin.elapsed()
    });
    let time = client.join().unwrap();
    server.join().unwrap();
    time
}

/// Datagrams in flight at most; few enough for the default receive buffer.
const WINDOW: u32 = 8;

/// How often a datagram is sent at most.
const ROUNDS: u32 = 20;

/// Datagrams that go and come back, a window at a time; returns how many came back whole.
fn udp_echo(net: &Net, to: &'static str, count: u32, length: usize) -> u32 {
    let address: SocketAddr = to.parse().unwrap();
    let any = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let done = Arc::new(AtomicBool::new(false));
    let finished = Arc::clone(&done);
    let (ready, started) = std::sync::mpsc::channel();
    let server = net.within("r", move || {
        let socket = UdpSocket::bind(address).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        ready.send(()).unwrap();
        let mut buffer = [0; 65536];
        while !finished.load(Ordering::Relaxed) {
            if let Ok((length, from)) = socket.recv_from(&mut buffer) {
                socket.send_to(&buffer[..length], from).unwrap();
            }
        }
    });
    started.recv().unwrap();
    let client = net.within("l", move || {
        let socket = UdpSocket::bind(any).unwrap();
        socket.connect(address).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        let mut buffer = [0; 65536];
        let mut back = 0;
        for window in 0..count / WINDOW {
            let mut wanted: Vec<Vec<u8>> = Vec::new();
            for number in 0..WINDOW {
                let mut data = vec![number as u8; length];
                data[..4].copy_from_slice(&(window * WINDOW + number).to_be_bytes());
                wanted.push(data);
            }
            // A starved machine may keep a datagram longer than we wait, or lose it: it is sent again.
            for _ in 0..ROUNDS {
                for data in &wanted {
                    socket.send(data).unwrap();
                }
                while !wanted.is_empty() {
                    let Ok(length) = socket.recv(&mut buffer) else { break };
                    if let Some(position) = wanted.iter().position(|data| data[..] == buffer[..length]) {
                        wanted.swap_remove(position);
                        back += 1;
                    }
                }
            }
        }
        back
    });
    let back = client.join().unwrap();
    done.store(true, Ordering::Relaxed);
    server.join().unwrap();
    back
}

#[test]
fn frames_cross_the_director_and_come_back_whole() {
    if !can_run("cross") {
        return;
    }
    for (mode, chunk) in [(AttachMode::Auto, 4096), (AttachMode::Auto, 2048), (AttachMode::Skb, 4096)] {
        let net = Net::new("cross", 1500);
        let director = Director::start(&net, mode, chunk, filter());
        assert_eq!(udp_echo(&net, "10.77.0.2:5000", 6400, 1000), 6400);
        assert_eq!(udp_echo(&net, "[fd77::2]:5000", 640, 18), 640);
        // In generic mode the ends go on to send super-frames, which no chunk holds or no device sends: TCP crawls.
        let octets = if mode == AttachMode::Skb { 20_000 } else { 50_000_000 };
        let time = tcp_transfer(&net, "10.77.0.2:5000", octets);
        tcp_transfer(&net, "[fd77::2]:5000", octets / 50);
        let report = director.stop();
        println!("{mode:?}, chunk {chunk}: {octets} octets in {time:?}; {report:?}");
        assert_eq!(report.attachment.native, mode != AttachMode::Skb);
        assert_eq!(report.received, report.transmitted);
        if mode != AttachMode::Skb {
            assert_eq!(report.dropped, 0);
            // Whether a starved receiver's ring overflows, and whether a frame waits in it at the end, is the
            // scheduler's matter; nothing is received that was not redirected.
            assert!(report.counters.redirected >= report.received + report.kernel_drops, "{report:?}");
        }
    }
}

#[test]
fn what_is_not_in_the_filter_reaches_the_stack() {
    if !can_run("rest") {
        return;
    }
    let net = Net::new("rest", 1500);
    let director = Director::start(&net, AttachMode::Native, 4096, filter());
    assert!(ping(&net.name("l"), "10.77.0.254"));
    let report = director.stop();
    assert_eq!(report.received, 0);
    assert!(report.counters.passed >= 2, "{report:?}");
}

#[test]
fn passed_frames_reach_the_stack_as_if_received() {
    if !can_run("pass") {
        return;
    }
    for mode in [AttachMode::Native, AttachMode::Skb] {
        let net = Net::new("pass", 3506);
        let director = Director::start(&net, mode, 4096, filter());
        // Answered: by the listener, and by the stack itself with a reset.
        let listener = net.within("d", || {
            let listener = TcpListener::bind("10.77.0.254:7000").unwrap();
            let (mut stream, from) = listener.accept().unwrap();
            let mut text = [0; 5];
            stream.read_exact(&mut text).unwrap();
            stream.write_all(&text).unwrap();
            from.ip()
        });
        let client = net.within("l", || {
            let mut stream = (0..50)
                .find_map(|_| {
                    TcpStream::connect_timeout(&"10.77.0.254:7000".parse().unwrap(), Duration::from_secs(1)).ok()
                })
                .expect("the stack answers");
            stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            stream.write_all(b"hello").unwrap();
            let mut text = [0; 5];
            stream.read_exact(&mut text).unwrap();
            assert_eq!(&text, b"hello");
            let refused = TcpStream::connect_timeout(&"10.77.0.254:7001".parse().unwrap(), Duration::from_secs(5));
            assert_eq!(refused.unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);
        });
        client.join().unwrap();
        assert_eq!(listener.join().unwrap(), "10.77.0.1".parse::<IpAddr>().unwrap());
        // Every length that the kernel can take.
        let lengths = [0usize, 1, 18, 100, 1400, 1472, 2000, 3000, 3300, 3350];
        let server = net.within("d", move || {
            let socket = UdpSocket::bind("10.77.0.254:7002").unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            let mut buffer = [0; 4096];
            lengths.map(|_| socket.recv(&mut buffer).unwrap_or(usize::MAX))
        });
        let client = net.within("l", move || {
            std::thread::sleep(Duration::from_millis(300));
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            for length in lengths {
                socket.send_to(&vec![7; length], "10.77.0.254:7002").unwrap();
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        client.join().unwrap();
        assert_eq!(server.join().unwrap(), lengths);
        let report = director.stop();
        println!("{mode:?}: {report:?}");
        assert!(report.passed > 5);
        assert_eq!(report.injected, report.passed);
        assert_eq!(report.counters.reinjected > 0, mode == AttachMode::Skb);
    }
}

#[test]
fn a_second_program_and_a_second_socket_are_refused() {
    if !can_run("busy") {
        return;
    }
    let net = Net::new("busy", 1500);
    let director = Director::start(&net, AttachMode::Native, 4096, filter());
    net.within("d", || {
        let mut second = Xdp::load().unwrap();
        for mode in [AttachMode::Auto, AttachMode::Native, AttachMode::Skb] {
            let error = second.attach(index_of("d0"), "d0", QUEUES, mode).unwrap_err();
            assert_eq!(error, XdpError::AlreadyAttached("d0".to_string()));
        }
        let error = second.attach(9999, "d9", 1, AttachMode::Auto).unwrap_err();
        assert_eq!(error, XdpError::NoInterface("d9".to_string()));
        let error = XskPort::open(&XskConfig::new(queues()), None).err().unwrap();
        assert_eq!(error, XskError::QueueBusy { interface: "d0".to_string(), queue: 0 });
        let mut config = XskConfig::new(queues());
        config.queues[0].name = "d9".to_string();
        assert_eq!(XskPort::open(&config, None).err().unwrap(), XskError::NoInterface("d9".to_string()));
        config.queues.truncate(1);
        config.queues[0] = XskQueue { interface: LEFT, name: "d0".to_string(), queue: 77 };
        let error = XskPort::open(&config, None).err().unwrap();
        assert_eq!(error, XskError::NoQueue { interface: "d0".to_string(), queue: 77 });
    })
    .join()
    .unwrap();
    // The first goes on, and when it has gone a second one takes over.
    assert_eq!(udp_echo(&net, "10.77.0.2:5000", 64, 100), 64);
    director.stop();
    let director = Director::start(&net, AttachMode::Native, 4096, filter());
    assert_eq!(udp_echo(&net, "10.77.0.2:5000", 64, 100), 64);
    director.stop();
}

#[test]
fn a_large_mtu_takes_the_multi_buffer_program() {
    if !can_run("large") {
        return;
    }
    let net = Net::new("large", 9000);
    let director = Director::start(&net, AttachMode::Auto, 4096, filter());
    // What fits a chunk crosses; what does not is dropped and counted by the kernel, not mangled.
    assert_eq!(udp_echo(&net, "10.77.0.2:5000", 64, 3700), 64);
    assert!(ping(&net.name("l"), "10.77.0.254"));
    assert_eq!(udp_echo(&net, "10.77.0.2:5000", 32, 5000), 0);
    let report = director.stop();
    println!("{report:?}");
    assert!(report.attachment.native && report.attachment.multi_buffer);
    assert!(report.kernel_drops >= 32);
}

#[test]
fn no_chunk_is_lost_to_an_interface_that_is_down() {
    if !can_run("down") {
        return;
    }
    let net = Net::new("down", 1500);
    let director = net.name("d");
    net.within("d", move || {
        let mut port = XskPort::open(&XskConfig::new(queues()), None).unwrap();
        let monitor = port.monitor();
        let counters = monitor.counters();
        // Ended by the waker, not by the time.
        port.waker().wake();
        let start = Instant::now();
        port.wait(Duration::from_secs(10));
        assert!(start.elapsed() < Duration::from_secs(5));

        let slots = lvx::port::xsk::RING_SLOTS as usize;
        // What the fill rings of four sockets leave of the memory.
        let free = slots * 4 + 2 * BATCH_FRAMES;
        let all = |port: &mut XskPort| -> Vec<_> { std::iter::from_fn(|| port.allocate(60, LEFT)).collect() };
        let mut frames = all(&mut port);
        assert_eq!(frames.len(), free);
        assert_eq!(counters.no_chunk.get(), 1);

        ip(&format!("-n {director} link set d1 down"));
        for frame in frames.drain(..=slots) {
            port.transmit(frame, RIGHT);
        }
        port.flush();
        assert_eq!(counters.transmit_full.get(), 1, "one more than the ring holds");
        port.transmit(frames.pop().unwrap(), InterfaceId(9));
        assert_eq!(counters.no_queue.get(), 1);
        port.pass(frames.pop().unwrap());
        assert_eq!(counters.pass_overflow.get(), 1, "there is no pass queue");
        frames.drain(..).for_each(|frame| port.release(frame));
        assert_eq!(all(&mut port).into_iter().map(|frame| port.release(frame)).count(), free - slots);

        // The other way still sends: the dead interface holds up nobody.
        let frame = port.allocate(60, LEFT).unwrap();
        port.transmit(frame, LEFT);
        port.flush();
        port.receive(&mut Vec::new());

        ip(&format!("-n {director} link set d1 up"));
        let start = Instant::now();
        let mut count = 0;
        while count < free && start.elapsed() < Duration::from_secs(10) {
            port.flush();
            port.wait(Duration::from_millis(1));
            count = all(&mut port).into_iter().map(|frame| port.release(frame)).count();
        }
        assert_eq!(count, free, "every chunk comes back");
        assert_eq!(counters.transmitted.get(), slots as u64 + 1);
    })
    .join()
    .unwrap();
}

/// A port moves to its worker's thread.
#[test]
fn a_port_can_move_between_threads() {
    fn is_send<T: Send>() {}
    is_send::<XskPort>();
    is_send::<Xdp>();
    is_send::<PassThread>();
}
