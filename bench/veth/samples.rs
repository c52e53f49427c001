//! Times of single frames under load: the generator stamps some, the kernel says when they arrived at the servers.
//!
//! The moment of arrival is the receiving stack's own timestamp, so it does not matter when the thread that reads them
//! gets a processor. A filter in the kernel leaves all other frames out.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;

use hdrhistogram::Histogram;
use rustix::net::{AddressFamily, RecvFlags, SocketType, sockopt};

use crate::net::Net;
use crate::profile::{self, STAMPED};
use crate::traffic::bind_packet_socket;

/// Longest time that the histogram holds, nanoseconds.
const LONGEST_NS: u64 = 10_000_000_000;

/// How often the reader looks whether it should end.
const LOOK: Duration = Duration::from_millis(50);

/// `SIOCGSTAMPNS`: when the packet that was read last arrived (linux/sockios.h).
const WHEN_ARRIVED: libc::c_ulong = 0x8907;

/// Reads stamped frames at the servers' interface until it is stopped.
pub struct Samples {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Histogram<u64>>,
}

impl Samples {
    /// Starts to read. The IP header with the stamp begins at octet `ip` of a frame.
    pub fn start(net: &Net, ip: usize) -> Result<Self, String> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let socket = net.server.run(|| open(ip)).map_err(|error| format!("a packet socket: {error}"))?;
        let thread = net.server.within(move || read(&socket, ip, &stopped));
        Ok(Self { stop, thread })
    }

    /// Ends and gives the times, nanoseconds.
    pub fn finish(self) -> Histogram<u64> {
        self.stop.store(true, Relaxed);
        self.thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

fn open(ip: usize) -> io::Result<OwnedFd> {
    let protocol = rustix::net::eth::ALL;
    let socket = rustix::net::socket(AddressFamily::PACKET, SocketType::RAW, None)?;
    sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(LOOK))?;
    // Load the half-word of the identification; take the frame if it is that of stamped ones, else nothing of it.
    let instruction = |code: u32, jt, jf, k| libc::sock_filter { code: code as u16, jt, jf, k };
    let mut program = [
        instruction(libc::BPF_LD | libc::BPF_H | libc::BPF_ABS, 0, 0, ip as u32 + 4),
        instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, u32::from(STAMPED)),
        instruction(libc::BPF_RET | libc::BPF_K, 0, 0, u32::MAX),
        instruction(libc::BPF_RET | libc::BPF_K, 0, 0, 0),
    ];
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    let octets = size_of::<libc::sock_fprog>() as libc::socklen_t;
    let value = std::ptr::from_ref(&filter).cast();
    // SAFETY: the program outlives the call, which copies it.
    let result =
        unsafe { libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, value, octets) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    // The first question turns timestamps on and has no answer yet.
    let _ = arrived_ns(&socket);
    bind_packet_socket(&socket, protocol)?;
    Ok(socket)
}

fn read(socket: &OwnedFd, ip: usize, stop: &AtomicBool) -> Histogram<u64> {
    let mut histogram = Histogram::new_with_bounds(1, LONGEST_NS, 3).expect("bounds that are in order");
    let mut buffer = [0; 2048];
    loop {
        match rustix::net::recv(socket, &mut buffer, RecvFlags::empty()) {
            Ok((length, _)) => {
                let sent = profile::stamped(&buffer[..length], ip);
                if let (Some(sent), Some(arrived)) = (sent, arrived_ns(socket)) {
                    histogram.saturating_record(arrived.saturating_sub(sent).max(1));
                }
            }
            Err(_) if stop.load(Relaxed) => return histogram,
            Err(_) => {}
        }
    }
}

/// When the packet that was read last arrived, nanoseconds of the wall clock.
fn arrived_ns(socket: &OwnedFd) -> Option<u64> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the call fills the structure that it is given.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), WHEN_ARRIVED as _, std::ptr::from_mut(&mut time)) };
    (result == 0).then(|| nanoseconds(time))
}

/// The clock of the kernel's timestamps.
pub fn wall_clock_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the call fills the structure that it is given.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_REALTIME, &mut time) };
    assert_eq!(result, 0, "every Linux has this clock");
    nanoseconds(time)
}

fn nanoseconds(time: libc::timespec) -> u64 {
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
