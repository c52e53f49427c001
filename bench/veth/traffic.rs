//! Frames of many flows: made, sent by an AF_XDP port of their own, and what the director must have made of them.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use lvx::base::{Address, Endpoint, InterfaceId};
use lvx::port::xsk::{RING_SLOTS, XskConfig, XskMonitor, XskPort, XskQueue};
use lvx::port::{BATCH_FRAMES, Port};
use lvx::service::Method;
use lvx::wire::checksum::{self, Update};
use rustix::net::{AddressFamily, Protocol, SocketType, sockopt};

use crate::bursts::{BURST, Gate};
use crate::net::{self, Net};
use crate::subject::{Proof, Subject, check_chunks};

/// Octets of a frame without its check sequence: the shortest that Ethernet has.
pub const FRAME_OCTETS: usize = 60;

/// Most flows; their addresses lie in 10.64.0.0/16.
pub const FLOWS_MAX: u32 = 1 << 20;

/// Pause between two frames that are to be dealt with one by one.
const TRICKLE_PAUSE: Duration = Duration::from_micros(200);

/// Pause of a generator that sends by the clock, when nothing is due.
const RATE_PAUSE: Duration = Duration::from_micros(20);

/// Frames that such a generator makes up for when it was held up; the rest it leaves out, as what is sent at once beyond
/// that overflows the director's ring and says nothing of the director.
const BACKLOG_MAX: u64 = 256;

/// Where the fields of a frame are.
const IP: usize = 14;
const IP_CHECKSUM: usize = 24;
const SOURCE: usize = 26;
const DESTINATION: usize = 30;
const UDP: usize = 34;
const DESTINATION_PORT: usize = 36;
const UDP_CHECKSUM: usize = 40;

/// The client of a flow.
pub const fn client(flow: u32) -> Endpoint {
    Endpoint { address: Address::v4(net::CLIENTS_FIRST + (flow >> 4)), port: 1024 + (flow & 15) as u16 }
}

/// The frame of a flow, written in full.
pub fn frame(flow: u32) -> [u8; FRAME_OCTETS] {
    let (client, service) = (client(flow), net::virtual_service());
    let mut frame = [0; FRAME_OCTETS];
    frame[..6].copy_from_slice(&net::DIRECTOR_STATION_IN.0);
    frame[6..12].copy_from_slice(&net::CLIENT_STATION.0);
    frame[12..IP_CHECKSUM].copy_from_slice(&[8, 0, 0x45, 0, 0, 46, 0, 1, 0x40, 0, 64, 17]);
    frame[SOURCE..DESTINATION].copy_from_slice(&client.address.low_u32().to_be_bytes());
    frame[DESTINATION..UDP].copy_from_slice(&service.address.low_u32().to_be_bytes());
    frame[UDP..36].copy_from_slice(&client.port.to_be_bytes());
    frame[DESTINATION_PORT..38].copy_from_slice(&service.port.to_be_bytes());
    frame[38..40].copy_from_slice(&26u16.to_be_bytes());
    frame[42..].copy_from_slice(b"a lvx veth sample.");
    fill_checksums(&mut frame);
    frame
}

/// Computes both checksums anew.
fn fill_checksums(frame: &mut [u8]) {
    frame[IP_CHECKSUM..SOURCE].fill(0);
    let sum = checksum::of(&frame[IP..UDP]);
    frame[IP_CHECKSUM..SOURCE].copy_from_slice(&sum.to_be_bytes());
    frame[UDP_CHECKSUM..42].fill(0);
    let (source, destination) = (address(frame, SOURCE), address(frame, DESTINATION));
    let pseudo = checksum::pseudo_header(source, destination, 17, (frame.len() - UDP) as u32);
    let sum = checksum::not_zero(pseudo.add_bytes(&frame[UDP..]).checksum());
    frame[UDP_CHECKSUM..42].copy_from_slice(&sum.to_be_bytes());
}

fn address(frame: &[u8], at: usize) -> Address {
    Address::v4(u32::from_be_bytes(word(frame, at)))
}

fn word(frame: &[u8], at: usize) -> [u8; 4] {
    frame[at..at + 4].try_into().expect("four octets")
}

/// What `subject` must make of a frame on its way to real server `number`.
pub fn expected(subject: Subject, frame: &[u8; FRAME_OCTETS], number: u8) -> Vec<u8> {
    let mut out = frame.to_vec();
    out[..6].copy_from_slice(&net::server_station(number).0);
    out[6..12].copy_from_slice(&net::DIRECTOR_STATION_OUT.0);
    if subject == Subject::Floor {
        return out;
    }
    out[22] -= 1;
    if subject == Subject::Lvx(Method::Masquerading) {
        let server = net::server(number);
        out[DESTINATION..UDP].copy_from_slice(&server.address.low_u32().to_be_bytes());
        out[DESTINATION_PORT..38].copy_from_slice(&server.port.to_be_bytes());
    }
    fill_checksums(&mut out);
    if subject == Subject::Lvx(Method::Tunnelling) {
        let mut outer = vec![0x45, 0, 0, 66, 0, 0, 0x40, 0, 63, 4, 0, 0];
        outer.extend(net::DIRECTOR_ADDRESS_OUT.low_u32().to_be_bytes());
        outer.extend(net::server(number).address.low_u32().to_be_bytes());
        let sum = checksum::of(&outer);
        outer[10..12].copy_from_slice(&sum.to_be_bytes());
        out.splice(IP..IP, outer);
    }
    out
}

/// Patches source and checksums of one frame into the next.
struct Maker {
    template: [u8; FRAME_OCTETS],
    ip_checksum: u16,
    udp_checksum: u16,
    flows: u32,
    stride: u32,
    next: u32,
}

impl Maker {
    fn new(flows: u32) -> Self {
        let template = frame(0);
        let number = |at: usize| u16::from_be_bytes([template[at], template[at + 1]]);
        // A stride that shares no factor with the number of flows, so that each flow has its turn, and so long that
        // neighbours in the tables do not follow each other.
        let stride = if flows.is_multiple_of(7919) { 7907 } else { 7919 };
        Self { ip_checksum: number(IP_CHECKSUM), udp_checksum: number(UDP_CHECKSUM), template, flows, stride, next: 0 }
    }

    /// Writes the frame of the next flow.
    #[inline]
    fn write(&mut self, out: &mut [u8]) {
        let old = client(0);
        let new = client(self.next);
        self.next = (self.next + self.stride) % self.flows;
        let (from, to) = (old.address.low_u32(), new.address.low_u32());
        let ip = Update::new(self.ip_checksum).remove_u32(from).add_u32(to).finish();
        let udp = Update::new(self.udp_checksum).remove_u32(from).add_u32(to);
        let udp = checksum::not_zero(udp.remove_u16(old.port).add_u16(new.port).finish());
        out.copy_from_slice(&self.template);
        out[IP_CHECKSUM..SOURCE].copy_from_slice(&ip.to_be_bytes());
        out[SOURCE..DESTINATION].copy_from_slice(&to.to_be_bytes());
        out[UDP..36].copy_from_slice(&new.port.to_be_bytes());
        out[UDP_CHECKSUM..42].copy_from_slice(&udp.to_be_bytes());
    }
}

/// How a generator sends.
pub enum Pace {
    /// As fast as the ring takes frames.
    Flood,
    /// Bursts, each when the director has dealt with the one before.
    Bursts(Arc<Gate>),
    /// So many frames a second by the clock, whatever has become of those before.
    Rate(f64),
    /// One frame at a time with a pause after each.
    Trickle,
}

/// A thread that sends, in the client's namespace.
pub struct Generator {
    stop: Arc<AtomicBool>,
    monitor: XskMonitor,
    thread: JoinHandle<()>,
}

impl Generator {
    /// Sends frames of one flow, one by one, until it is stopped.
    pub fn trickle(net: &Net) -> Self {
        Self::start(net, 1, u64::MAX, Pace::Trickle, None).expect("the port can be opened again")
    }

    /// Sends frames of `flows` flows in turn, at most `limit`.
    pub fn start(net: &Net, flows: u32, limit: u64, pace: Pace, cpu: Option<usize>) -> Result<Self, String> {
        assert!((1..=FLOWS_MAX).contains(&flows));
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let (ready, started) = mpsc::channel();
        let thread = net.client.within(move || {
            crate::pin(cpu);
            let queue = XskQueue { interface: InterfaceId(0), name: "e".to_string(), queue: 0 };
            let port = XskPort::open(&XskConfig::new(vec![queue]), None).map_err(|error| error.to_string());
            let monitor = port.as_ref().map(XskPort::monitor).map_err(String::clone);
            // Whoever waits has gone only when the benchmark has failed already.
            let _ = ready.send(monitor);
            if let Ok(port) = port {
                send(port, Maker::new(flows), limit, &pace, &stopped);
            }
        });
        let monitor = started.recv().map_err(|error| error.to_string())??;
        Ok(Self { stop, monitor, thread })
    }

    /// Frames that have left so far.
    pub fn transmitted(&self) -> u64 {
        self.monitor.counters().transmitted.get()
    }

    /// Stops, lets what was sent leave, and returns how many frames that were.
    pub fn stop(self) -> u64 {
        self.stop.store(true, Relaxed);
        self.finish()
    }

    /// Waits until the limit is reached.
    pub fn finish(self) -> u64 {
        self.thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        self.monitor.counters().transmitted.get()
    }
}

fn send(mut port: XskPort, mut maker: Maker, limit: u64, pace: &Pace, stop: &AtomicBool) {
    // One ring's worth of chunks goes round. The rest is kept, so that the transmit ring never overflows.
    let slots = RING_SLOTS as usize;
    let mut kept: Vec<_> = std::iter::from_fn(|| port.allocate(FRAME_OCTETS, InterfaceId(0))).collect();
    let mut usable = kept.split_off(kept.len() - slots);
    usable.drain(..).for_each(|frame| port.release(frame));
    if matches!(pace, Pace::Rate(_)) {
        crate::wake_on_time();
    }
    let mut clockwork = Clockwork { start: Instant::now(), left_out: 0 };
    let mut in_burst = 0;
    let mut left = limit;
    while left > 0 && !stop.load(Relaxed) {
        let due = match pace {
            Pace::Trickle => 1,
            Pace::Rate(rate) => clockwork.due(*rate, limit - left).min(BATCH_FRAMES as u64),
            Pace::Flood | Pace::Bursts(_) => BATCH_FRAMES as u64,
        };
        let batch = due.min(left);
        let mut made = 0;
        while made < batch {
            let Some(frame) = port.allocate(FRAME_OCTETS, InterfaceId(0)) else { break };
            maker.write(port.bytes_mut(&frame));
            port.transmit(frame, InterfaceId(0));
            made += 1;
        }
        port.flush();
        left -= made;
        in_burst += made;
        match pace {
            Pace::Trickle => std::thread::sleep(TRICKLE_PAUSE),
            Pace::Bursts(gate) if in_burst >= BURST => {
                in_burst = 0;
                let sent = settle(&mut port, slots);
                gate.hand_over(sent);
            }
            Pace::Rate(_) if batch == 0 => std::thread::sleep(RATE_PAUSE),
            Pace::Bursts(_) | Pace::Rate(_) | Pace::Flood => {}
        }
        if made == 0 {
            // The kernel's own thread may have to run on this processor before there is room again.
            std::thread::yield_now();
        }
    }
    if let Pace::Bursts(gate) = pace {
        let sent = settle(&mut port, slots);
        gate.hand_over(sent);
    }
    kept.drain(..).for_each(|frame| port.release(frame));
    check_chunks(&mut port, 1, Proof::Still, |port| {
        port.flush();
        port
    });
    assert_eq!(port.monitor().counters().transmit_full.get(), 0, "the generator's ring never overflows");
}

/// What is due by the clock.
struct Clockwork {
    start: Instant,
    left_out: u64,
}

impl Clockwork {
    /// Frames due of `rate` a second, when `sent` have been sent.
    fn due(&mut self, rate: f64, sent: u64) -> u64 {
        let all = (self.start.elapsed().as_secs_f64() * rate) as u64;
        let due = all.saturating_sub(sent + self.left_out);
        self.left_out += due.saturating_sub(BACKLOG_MAX);
        due.min(BACKLOG_MAX)
    }
}

/// Waits until all frames have left, so that all `chunks` are free again; returns how many that were in all.
fn settle(port: &mut XskPort, chunks: usize) -> u64 {
    let mut frames = Vec::with_capacity(chunks);
    loop {
        port.flush();
        frames.extend(std::iter::from_fn(|| port.allocate(FRAME_OCTETS, InterfaceId(0))));
        let free = frames.len();
        frames.drain(..).for_each(|frame| port.release(frame));
        if free == chunks {
            return port.monitor().counters().transmitted.get();
        }
        std::thread::yield_now();
    }
}

/// Has a packet socket of the servers' namespace see their interface alone.
pub fn bind_packet_socket(socket: &OwnedFd, protocol: Protocol) -> io::Result<()> {
    let address = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: protocol.as_raw().get() as u16,
        sll_ifindex: net::index_of("e") as i32,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    let octets = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: the address is valid for its length and outlives the call.
    let result = unsafe { libc::bind(socket.as_raw_fd(), std::ptr::from_ref(&address).cast(), octets) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Sees every frame that arrives at an interface, as the kernel got it.
pub struct Tap {
    socket: OwnedFd,
    /// While somebody takes them, the servers' stack does not complain of tunnelled packets.
    _tunnel: OwnedFd,
}

impl Tap {
    /// A tap on the servers' interface.
    pub fn open(net: &Net) -> Result<Self, String> {
        let tap = net.server.run(|| {
            let protocol = rustix::net::eth::ALL;
            let socket = rustix::net::socket(AddressFamily::PACKET, SocketType::RAW, Some(protocol))?;
            sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(Duration::from_secs(5)))?;
            bind_packet_socket(&socket, protocol)?;
            let ipip = Some(rustix::net::ipproto::IPIP);
            let tunnel = rustix::net::socket(AddressFamily::INET, SocketType::RAW, ipip)?;
            io::Result::Ok(Tap { socket, _tunnel: tunnel })
        });
        tap.map_err(|error| format!("a packet socket: {error}"))
    }

    /// The next frame that the director sent; other frames (what the servers' stack sends) are left out.
    pub fn next(&self) -> Option<Vec<u8>> {
        let mut buffer = [0; 2048];
        loop {
            let (length, _) = rustix::net::recv(&self.socket, &mut buffer, rustix::net::RecvFlags::empty()).ok()?;
            if buffer[6..12] == net::DIRECTOR_STATION_OUT.0 {
                return Some(buffer[..length].to_vec());
            }
        }
    }
}

/// Takes a sample frame apart: whose it is, and to which real server it goes.
pub fn identify(subject: Subject, frame: &[u8]) -> (u32, u8) {
    let outer = if subject == Subject::Lvx(Method::Tunnelling) { 20 } else { 0 };
    assert!(frame.len() >= FRAME_OCTETS + outer, "{frame:02x?}");
    let host = address(frame, SOURCE + outer).low_u32() - net::CLIENTS_FIRST;
    let port = u16::from_be_bytes([frame[UDP + outer], frame[UDP + outer + 1]]);
    let number = (0..net::SERVERS).find(|number| net::server_station(*number).0 == frame[..6]);
    (host << 4 | u32::from(port - 1024), number.expect("a link address of a server"))
}
