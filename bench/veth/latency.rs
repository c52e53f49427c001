//! UDP round trips, one at a time: client, director, echoing server.
//!
//! Sockets send without a checksum: the bare floor does not complete what a local stack leaves to its hardware.

use std::net::{SocketAddrV4, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use lvx::base::Endpoint;
use lvx::service::Method;
use rustix::net::{AddressFamily, SocketType, ipproto};

use crate::net::{self, Net};
use crate::subject::{Director, Subject, Traffic};

/// Longest round trip that the histogram holds, nanoseconds.
pub const LONGEST_NS: u64 = 10_000_000_000;

/// How often the echo looks whether it should stop.
const LOOK: Duration = Duration::from_millis(50);

/// Round trips before those that count.
const WARM_UP: u32 = 200;

/// Where the answers go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answers {
    /// Back through the director.
    Through,
    /// By a link past the director.
    Past,
}

impl Answers {
    /// The word in the table.
    pub fn name(self) -> &'static str {
        match self {
            Answers::Through => "director",
            Answers::Past => "direct",
        }
    }

    /// How the answers of a method go.
    pub fn of(method: Method) -> Self {
        if method == Method::Masquerading { Answers::Through } else { Answers::Past }
    }
}

/// Measures round trips for about `seconds`; nanoseconds.
pub fn measure(
    net: &Net,
    subject: Subject,
    answers: Answers,
    seconds: f64,
    cpus: &crate::Cpus,
) -> Result<Histogram<u64>, String> {
    route_answers(net, answers)?;
    let stop = Arc::new(AtomicBool::new(false));
    let echo = echo(net, subject, cpus.generator, &stop);
    let director = Director::start(net, subject, 1, Traffic::BothWays, cpus.director)?;
    let cpu = cpus.generator;
    let client = net.client.within(move || {
        crate::pin(cpu);
        round_trips(seconds)
    });
    let result = client.join();
    stop.store(true, Relaxed);
    echo.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    director.stop(net);
    result.unwrap_or_else(|panic| std::panic::resume_unwind(panic)).map_err(|error| format!("{subject}: {error}"))
}

/// Leads what the servers answer this way.
pub fn route_answers(net: &Net, answers: Answers) -> Result<(), String> {
    let way = match answers {
        Answers::Through => "via 10.77.2.254 dev e",
        Answers::Past => "via 10.77.3.1 dev past",
    };
    net.server.ip(&format!("route replace 10.77.1.0/24 {way}\n"))
}

fn round_trips(seconds: f64) -> std::io::Result<Histogram<u64>> {
    let socket = UdpSocket::bind("10.77.1.1:0")?;
    send_without_checksum(&socket);
    socket.connect(socket_address(net::trip_service()))?;
    socket.set_read_timeout(Some(Duration::from_secs(2)))?;
    let mut histogram = Histogram::new_with_bounds(1, LONGEST_NS, 3).expect("bounds that are in order");
    let start = Instant::now();
    let mut number = 0u32;
    while number < WARM_UP || start.elapsed().as_secs_f64() < seconds {
        let begin = Instant::now();
        let mut answer = [0; 4];
        socket.send(&number.to_be_bytes())?;
        let length = socket.recv(&mut answer)?;
        let time = begin.elapsed();
        assert_eq!((length, answer), (4, number.to_be_bytes()), "what was sent comes back");
        if number >= WARM_UP {
            histogram.saturating_record(time.as_nanos() as u64);
        }
        number += 1;
    }
    Ok(histogram)
}

/// Sends every datagram back from where it was addressed to by the client.
pub fn echo(net: &Net, subject: Subject, cpu: Option<usize>, stop: &Arc<AtomicBool>) -> JoinHandle<()> {
    let stop = Arc::clone(stop);
    let (ready, started) = std::sync::mpsc::channel();
    let thread = net.server.within(move || {
        crate::pin(cpu);
        let local = match subject {
            Subject::Lvx(Method::Masquerading) => net::server(0),
            _ => net::trip_service(),
        };
        let socket = UdpSocket::bind(socket_address(local)).expect("the address is the server's");
        socket.set_read_timeout(Some(LOOK)).expect("a time is not zero");
        send_without_checksum(&socket);
        let tunnel = (subject == Subject::Lvx(Method::Tunnelling)).then(open_tunnel);
        ready.send(()).expect("the other end waits");
        let mut buffer = [0; 2048];
        while !stop.load(Relaxed) {
            let Some(tunnel) = &tunnel else {
                if let Ok((length, from)) = socket.recv_from(&mut buffer) {
                    socket.send_to(&buffer[..length], from).expect("there is a way back");
                }
                continue;
            };
            let Ok((length, _)) = rustix::net::recv(tunnel, &mut buffer, rustix::net::RecvFlags::empty()) else {
                continue;
            };
            // Two IPv4 headers without options and a UDP header stand before the octets that come back.
            let inner = &buffer[20..length];
            let from = Endpoint::new(
                lvx::base::Address::v4(u32::from_be_bytes(inner[12..16].try_into().expect("four octets"))),
                u16::from_be_bytes([inner[20], inner[21]]),
            );
            socket.send_to(&inner[28..], socket_address(from)).expect("there is a way back");
        }
    });
    started.recv().expect("the echo starts");
    thread
}

/// What the kernel would give to a tunnel device, if it had any.
fn open_tunnel() -> std::os::fd::OwnedFd {
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::RAW, Some(ipproto::IPIP)).expect("a raw socket");
    rustix::net::sockopt::set_socket_timeout(&socket, rustix::net::sockopt::Timeout::Recv, Some(LOOK))
        .expect("a time is not zero");
    socket
}

pub fn socket_address(endpoint: Endpoint) -> SocketAddrV4 {
    SocketAddrV4::new(endpoint.address.low_u32().into(), endpoint.port)
}

pub fn send_without_checksum(socket: &UdpSocket) {
    let on: libc::c_int = 1;
    let octets = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the value is valid for its length and outlives the call.
    let result = unsafe {
        let value = std::ptr::from_ref(&on).cast();
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_NO_CHECK, value, octets)
    };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
}
