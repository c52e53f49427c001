//! What a port counts: written by its worker alone, read by anyone.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Weak};

use rustix::net::sockopt::xdp_statistics;

use crate::base::{Counter, InterfaceId};

/// Frames by what became of them, since the port was opened.
#[derive(Default, Debug)]
#[repr(align(64))]
pub struct XskCounters {
    /// Taken from the receive rings.
    pub received: Counter,
    /// Given to the kernel to send.
    pub transmitted: Counter,
    /// Dropped: the transmit ring was full because the interface takes nothing.
    pub transmit_full: Counter,
    /// Dropped by the driver or the peer of a veth after the kernel had taken them (at least; copy mode only).
    pub transmit_refused: Counter,
    /// Dropped: to leave by an interface on which this worker has no queue.
    pub no_queue: Counter,
    /// No chunk was free for a frame of our own.
    pub no_chunk: Counter,
    /// Handed to the host's stack.
    pub passed: Counter,
    /// Dropped: the queue to the host's stack was full.
    pub pass_overflow: Counter,
    /// Dropped: too long for that queue.
    pub pass_too_long: Counter,
    /// Dropped: the packet came in several chunks.
    pub oversized: Counter,
}

/// The kernel's statistics of one socket, if_xdp.h `struct xdp_statistics`.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct KernelStatistics {
    /// Dropped for other reasons, above all frames that do not fit a chunk.
    pub rx_dropped: u64,
    /// Descriptors of the fill ring that were invalid.
    pub rx_invalid_descriptors: u64,
    /// Descriptors of the transmit ring that were invalid.
    pub tx_invalid_descriptors: u64,
    /// Dropped: the receive ring was full.
    pub rx_ring_full: u64,
    /// Dropped or delayed: the fill ring was empty.
    pub rx_fill_ring_empty: u64,
    /// The kernel found the transmit ring empty.
    pub tx_ring_empty: u64,
}

/// How a socket was opened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SocketInfo {
    /// The interface, as the director numbers it.
    pub interface: InterfaceId,
    /// Its name.
    pub name: String,
    /// The queue.
    pub queue: u32,
    /// True when the driver reads and writes our memory itself.
    pub zero_copy: bool,
    /// True when the kernel polls the device from our system calls (SO_PREFER_BUSY_POLL).
    pub busy_poll: bool,
}

/// A reader's end of a port: its counters and the kernel's, from any thread.
///
/// It keeps no socket open: a queue stays busy as long as anyone holds its socket.
#[derive(Clone, Debug)]
pub struct XskMonitor {
    pub(super) counters: Arc<XskCounters>,
    pub(super) sockets: Vec<(SocketInfo, Weak<OwnedFd>)>,
}

impl XskMonitor {
    /// The port's own counters.
    pub fn counters(&self) -> &XskCounters {
        &self.counters
    }

    /// Each socket with the kernel's statistics of it; zeroes when the port is closed.
    pub fn sockets(&self) -> impl Iterator<Item = (&SocketInfo, KernelStatistics)> {
        self.sockets.iter().map(|(info, socket)| {
            let found = socket.upgrade().and_then(|socket| xdp_statistics(&*socket).ok());
            let statistics = found.map_or_else(KernelStatistics::default, |kernel| KernelStatistics {
                rx_dropped: kernel.rx_dropped,
                rx_invalid_descriptors: kernel.rx_invalid_descs,
                tx_invalid_descriptors: kernel.tx_invalid_descs,
                rx_ring_full: kernel.rx_ring_full.unwrap_or(0),
                rx_fill_ring_empty: kernel.rx_fill_ring_empty_descs.unwrap_or(0),
                tx_ring_empty: kernel.tx_ring_empty_descs.unwrap_or(0),
            });
            (info, statistics)
        })
    }
}
