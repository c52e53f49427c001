//! The packet memory and the sockets on it, made as one unit: sockets cannot be made again on a used UMEM.

#![allow(unsafe_code)]

use std::num::NonZeroU32;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::ptr::NonNull;
use std::sync::Arc;
use std::time::Duration;

use rustix::io::{Errno, fcntl_dupfd_cloexec};
use rustix::net::sockopt::xdp_options;
use rustix::net::xdp::XdpOptionsFlags;
use xsk_rs::config::{BindFlags, FrameSize, Interface, LibxdpFlags, QueueSize, SocketConfig, UmemConfig};
use xsk_rs::{CompQueue, FillQueue, RxQueue, Socket, TxQueue, Umem};

use super::counters::SocketInfo;
use super::error::XskError;
use super::large::LargeMemory;
use super::ring::Rings;
use super::{BusyPoll, XskConfig, XskMode, XskQueue};
use crate::base::Frame;
use crate::port::HEADROOM_OCTETS;

/// How often binding is tried again while the queue is busy: a queue stays busy for some 20 ms after its socket is
/// gone, as when the director restarts.
const BUSY_RETRIES: u32 = 40;

/// Pause between two attempts.
const BUSY_PAUSE: Duration = Duration::from_millis(25);

/// Frames that one system call may send in copy mode (the kernel's default is 32).
const TRANSMIT_BUDGET: u32 = 256;

/// Socket options that libc has no name for: asm-generic/socket.h and linux/if_xdp.h.
const SO_BUSY_POLL: i32 = 46;
const SO_PREFER_BUSY_POLL: i32 = 69;
const SO_BUSY_POLL_BUDGET: i32 = 70;
const SOL_XDP: i32 = 283;
const XDP_MAX_TX_SKB_BUDGET: i32 = 9;

/// Memory of a port's frames. Field order is drop order: the chunks are the UMEM's.
pub(super) struct Memory {
    chunks: Chunks,
    /// Frames that no chunk holds.
    pub large: LargeMemory,
    _umem: Umem,
}

/// What the kernel shares: `octets` of the UMEM from `start` on. The UMEM beside it in [`Memory`] keeps it mapped.
struct Chunks {
    start: NonNull<u8>,
    octets: usize,
}

// SAFETY: the memory is owned by the UMEM handle beside it, which may move between threads.
unsafe impl Send for Chunks {}

impl Chunks {
    fn has(&self, start: u64, length: u32) -> bool {
        start <= self.octets as u64 && u64::from(length) <= self.octets as u64 - start
    }

    /// Octets at an offset; `None` when they are not within the memory.
    #[inline]
    fn bytes(&self, start: u64, length: u32) -> Option<&[u8]> {
        // SAFETY: within the mapping, as just tested, which lives as long as the `Memory` around self. The kernel
        // writes only into chunks that lie in the fill ring, and a chunk there belongs to no `Frame`.
        self.has(start, length)
            .then(|| unsafe { std::slice::from_raw_parts(self.start.as_ptr().add(start as usize), length as usize) })
    }

    /// Octets at an offset, to be changed; `None` when they are not within the memory.
    #[inline]
    fn bytes_mut(&mut self, start: u64, length: u32) -> Option<&mut [u8]> {
        // SAFETY: as in `bytes`; self is borrowed mutably, so no other slice exists.
        self.has(start, length).then(|| unsafe {
            std::slice::from_raw_parts_mut(self.start.as_ptr().add(start as usize), length as usize)
        })
    }
}

impl Memory {
    /// All of it.
    pub(super) const fn octets(&self) -> usize {
        self.chunks.octets
    }

    fn new(config: &XskConfig, chunks: u32) -> Result<Self, XskError> {
        let invalid =
            |_| XskError::Configuration("ring sizes and chunk sizes are powers of two, chunks 2048 or 4096 octets");
        let slots = QueueSize::new(config.ring_slots).map_err(|_| invalid(()))?;
        let umem_config = UmemConfig::builder()
            .frame_size(FrameSize::new(config.chunk_octets).map_err(|_| invalid(()))?)
            .fill_queue_size(slots)
            .comp_queue_size(slots)
            .frame_headroom(HEADROOM_OCTETS as u32)
            .build()
            .map_err(|_| invalid(()))?;
        let octets = chunks as usize * config.chunk_octets as usize;
        let count = NonZeroU32::new(chunks).ok_or(XskError::Configuration("a port needs at least one queue"))?;
        let (umem, frames) = Umem::new(umem_config, count, config.huge_pages)
            .map_err(|error| XskError::of_memory(errno_of(&error), octets as u64))?;
        // SAFETY: the frame belongs to this UMEM and nobody uses it yet.
        let first = unsafe { umem.data(&frames[0]) }.contents().as_ptr();
        // The slice is empty and reaches nowhere; the memory itself was exposed when it was given to the kernel.
        let start = std::ptr::with_exposed_provenance_mut::<u8>(first.expose_provenance() - frames[0].addr());
        let start = NonNull::new(start).ok_or(XskError::Configuration("the packet memory has no address"))?;
        Ok(Self { chunks: Chunks { start, octets }, large: LargeMemory::default(), _umem: umem })
    }

    /// Octets at an offset.
    ///
    /// # Panics
    /// When they are neither within the memory nor those of a large frame.
    #[inline]
    pub fn bytes(&self, start: u64, length: u32) -> &[u8] {
        match self.chunks.bytes(start, length) {
            Some(bytes) => bytes,
            None => self.large.bytes(start, length),
        }
    }

    /// Octets at an offset, to be changed.
    ///
    /// # Panics
    /// As [`Memory::bytes`].
    #[inline]
    pub fn bytes_mut(&mut self, start: u64, length: u32) -> &mut [u8] {
        match self.chunks.bytes_mut(start, length) {
            Some(bytes) => bytes,
            None => self.large.bytes_mut(start, length),
        }
    }

    /// Appends received octets to a large frame; false, and no change, when it has no room.
    pub fn append_part(&mut self, frame: &mut Frame, address: u64, length: u32) -> bool {
        let part = self.chunks.bytes(address, length);
        part.is_some_and(|part| self.large.append(frame, part))
    }

    /// Copies a part of a large frame, from octet `from` on, to an address of the memory.
    pub fn copy_large(&mut self, frame: &Frame, from: usize, address: u64, length: u32) {
        let part = &self.large.bytes(frame.start, frame.length)[from..from + length as usize];
        if let Some(chunk) = self.chunks.bytes_mut(address, length) {
            chunk.copy_from_slice(part);
        }
    }
}

/// One bound socket. Field order is drop order: our mappings go before the objects of xsk-rs.
pub(super) struct BoundSocket {
    pub rings: Rings,
    pub descriptor: Arc<OwnedFd>,
    pub info: SocketInfo,
    _queues: (TxQueue, RxQueue, Option<(FillQueue, CompQueue)>),
}

/// Makes the memory and all sockets; the second part goes before the first when dropped.
///
/// With `multi_buffer`, frames come and go in parts where no chunk holds them; a kernel or driver that cannot do that
/// opens without.
pub(super) fn open(config: &XskConfig, chunks: u32) -> Result<(Vec<BoundSocket>, Memory), XskError> {
    if config.multi_buffer {
        match open_with(config, chunks, BindFlags::XDP_USE_SG) {
            Ok((sockets, mut memory)) => {
                memory.large = LargeMemory::new();
                return Ok((sockets, memory));
            }
            // Kernels that do not know the flag say what they say of a queue that is not there.
            Err(XskError::NoDriverSupport { .. } | XskError::NoQueue { .. }) => {}
            Err(other) => return Err(other),
        }
    }
    open_with(config, chunks, BindFlags::empty())
}

fn open_with(config: &XskConfig, chunks: u32, parts: BindFlags) -> Result<(Vec<BoundSocket>, Memory), XskError> {
    let mut retries = 0;
    loop {
        let result = match config.mode {
            // The kernel tries zero-copy for the first socket and falls back by itself. Every other socket on the
            // memory gets the first one's mode, which its driver may not have.
            XskMode::Auto => match open_once(config, chunks, parts) {
                Err(XskError::NoDriverSupport { .. } | XskError::NoQueue { .. }) => {
                    open_once(config, chunks, parts | BindFlags::XDP_COPY)
                }
                result => result,
            },
            XskMode::Copy => open_once(config, chunks, parts | BindFlags::XDP_COPY),
            XskMode::ZeroCopy => open_once(config, chunks, parts | BindFlags::XDP_ZEROCOPY),
        };
        match result {
            Err(XskError::QueueBusy { .. }) if retries < BUSY_RETRIES => retries += 1,
            result => return result,
        }
        pause(BUSY_PAUSE);
    }
}

fn open_once(config: &XskConfig, chunks: u32, mode: BindFlags) -> Result<(Vec<BoundSocket>, Memory), XskError> {
    let memory = Memory::new(config, chunks)?;
    let mut sockets = Vec::with_capacity(config.queues.len());
    for queue in &config.queues {
        sockets.push(bind(config, queue, &memory, mode)?);
    }
    Ok((sockets, memory))
}

fn bind(config: &XskConfig, queue: &XskQueue, memory: &Memory, mode: BindFlags) -> Result<BoundSocket, XskError> {
    let zero_copy = mode.contains(BindFlags::XDP_ZEROCOPY);
    let fail = |errno| XskError::of_socket(errno, &queue.name, queue.queue, zero_copy);
    let slots =
        QueueSize::new(config.ring_slots).map_err(|_| XskError::Configuration("ring sizes are powers of two"))?;
    let socket_config = SocketConfig::builder()
        .rx_queue_size(slots)
        .tx_queue_size(slots)
        .libxdp_flags(LibxdpFlags::XSK_LIBXDP_FLAGS_INHIBIT_PROG_LOAD)
        .bind_flags(mode | BindFlags::XDP_USE_NEED_WAKEUP)
        .build();
    let interface: Interface = queue.name.parse().map_err(|_| XskError::NoInterface(queue.name.clone()))?;
    // SAFETY: the program load is inhibited, which is what the function asks for where a UMEM is shared.
    let queues = unsafe { Socket::new(socket_config, &memory._umem, &interface, queue.queue) }
        .map_err(|error| fail(errno_of(&error)))?;
    let raw: RawFd = queues.0.fd().as_raw_fd();
    // SAFETY: the descriptor is open: `queues` owns it and lives beyond this borrow.
    let borrowed = unsafe { BorrowedFd::borrow_raw(raw) };
    // The library's own descriptor would leak into the scripts that the director starts.
    let descriptor = fcntl_dupfd_cloexec(borrowed, 0).map_err(|errno| fail(errno.raw_os_error()))?;
    rustix::io::fcntl_setfd(borrowed, rustix::io::FdFlags::CLOEXEC).map_err(|errno| fail(errno.raw_os_error()))?;
    let rings = Rings::new(descriptor.as_fd(), config.ring_slots).map_err(|errno| XskError::System {
        step: "mapping the rings of the AF_XDP socket",
        interface: queue.name.clone(),
        errno: errno.raw_os_error(),
    })?;
    // Kernels before 6.18 do not know it; we ask as often as needed then.
    let _ = set_option(descriptor.as_fd(), SOL_XDP, XDP_MAX_TX_SKB_BUDGET, TRANSMIT_BUDGET.min(config.ring_slots));
    let busy_poll = config.busy_poll.is_some_and(|wanted| enable_busy_poll(descriptor.as_fd(), wanted).is_ok());
    let options = xdp_options(&descriptor).unwrap_or(XdpOptionsFlags::empty());
    let info = SocketInfo {
        interface: queue.interface,
        name: queue.name.clone(),
        queue: queue.queue,
        zero_copy: options.contains(XdpOptionsFlags::XDP_OPTIONS_ZEROCOPY),
        busy_poll,
    };
    Ok(BoundSocket { rings, descriptor: Arc::new(descriptor), info, _queues: queues })
}

fn enable_busy_poll(socket: BorrowedFd<'_>, wanted: BusyPoll) -> Result<(), Errno> {
    set_option(socket, libc::SOL_SOCKET, SO_PREFER_BUSY_POLL, 1)?;
    set_option(socket, libc::SOL_SOCKET, SO_BUSY_POLL, wanted.microseconds)?;
    set_option(socket, libc::SOL_SOCKET, SO_BUSY_POLL_BUDGET, wanted.budget_frames)
}

fn set_option(socket: BorrowedFd<'_>, level: i32, option: i32, value: u32) -> Result<(), Errno> {
    let length = size_of::<u32>() as libc::socklen_t;
    // SAFETY: the option's value is a 32-bit number that outlives the call.
    let result =
        unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, std::ptr::from_ref(&value).cast(), length) };
    if result == 0 { Ok(()) } else { Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)) }
}

/// The error number within an error of xsk-rs.
fn errno_of(error: &dyn std::error::Error) -> i32 {
    let source = error.source().and_then(|source| source.downcast_ref::<std::io::Error>());
    source.and_then(std::io::Error::raw_os_error).unwrap_or(libc::EIO)
}

/// Waits; only while a port is being opened.
fn pause(duration: Duration) {
    let timeout = rustix::event::Timespec { tv_sec: 0, tv_nsec: i64::from(duration.subsec_nanos()) };
    let _ = rustix::event::poll(&mut [], Some(&timeout));
}
