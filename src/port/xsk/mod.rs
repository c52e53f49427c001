//! A port on AF_XDP sockets: one worker's queues on all interfaces, over one memory.
//!
//! xsk-rs makes the memory and the sockets and binds them; the rings are then worked on by our own code (`ring`),
//! because a director moves a frame's start to push a tunnel header, and because that is twice as fast. A frame that
//! came in by one interface leaves by another without being copied: all sockets share the memory. Each worker has its
//! own port, so nothing here is shared between workers.
//!
//! # Who owns a chunk
//! A chunk of the memory is in exactly one place: the free list, a fill ring, a receive ring, a [`Frame`], a transmit
//! ring, a completion ring. There are enough of them that full transmit rings cannot starve the fill rings.
//!
//! # When an interface takes nothing
//! Frames wait in its transmit ring; while there is hope, the port receives no more than all rings have room for, so
//! that nothing is lost here. An interface that has taken nothing for [`STALLED_FLUSHES`] flushes, or is down, has no
//! say any more: frames to it are dropped and counted once its ring is full.
//!
//! Source: Documentation/networking/af_xdp.rst, include/uapi/linux/if_xdp.h.

mod counters;
mod error;
mod large;
mod pass;
mod ring;
mod socket;

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};

pub use counters::{KernelStatistics, SocketInfo, XskCounters, XskMonitor};
pub use error::XskError;
pub use large::LARGE_FRAMES;
use large::{LargeMemory, is_large};
pub(crate) use pass::wake_descriptor;
pub use pass::{PASS_FRAMES_MAX, PASS_OCTETS_MAX, PassQueue, PassedFrame, Waker};
use ring::Received;
use socket::{BoundSocket, Memory};

use super::{BATCH_FRAMES, HEADROOM_OCTETS, Port};
use crate::base::memory::prefetch;
use crate::base::{Duration, Frame, InterfaceId};

/// Default entries of each ring; a power of two.
pub const RING_SLOTS: u32 = 2048;

/// Default size of a chunk, octets: frames up to 3776 octets, less the 256 of the kernel and our headroom.
pub const CHUNK_OCTETS: u32 = 4096;

/// Sockets that one port may have.
pub const SOCKETS_MAX: usize = 256;

/// Flushes after which an interface that takes nothing no longer slows down the others.
pub const STALLED_FLUSHES: u32 = 4096;

/// What the kernel leaves free in front of a received frame, octets, `XDP_PACKET_HEADROOM`.
const KERNEL_HEADROOM_OCTETS: u64 = 256;

/// How soon waiting frames are offered again to an interface that takes nothing, while the worker is idle.
const RETRY_WAIT: Duration = Duration::from_millis(1);

/// How the driver moves frames.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum XskMode {
    /// Zero-copy where all interfaces can, else copy.
    #[default]
    Auto,
    /// By copy; every driver can.
    Copy,
    /// Zero-copy, or an error.
    ZeroCopy,
}

/// Busy polling by the worker's system calls, Documentation/networking/napi.rst.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BusyPoll {
    /// Time that one call may poll, microseconds.
    pub microseconds: u32,
    /// Frames that one call may take.
    pub budget_frames: u32,
}

/// One receive queue of one interface.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct XskQueue {
    /// The interface, as the director numbers it.
    pub interface: InterfaceId,
    /// Its name in this network namespace.
    pub name: String,
    /// The queue, from 0.
    pub queue: u32,
}

/// What a port is made of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct XskConfig {
    /// The queues that this worker serves. A frame leaves an interface by the first of its queues here.
    pub queues: Vec<XskQueue>,
    /// Octets of a chunk, 2048 or 4096. Frames may have 320 less.
    pub chunk_octets: u32,
    /// Entries of each ring, a power of two, at least [`BATCH_FRAMES`].
    pub ring_slots: u32,
    /// Copy or zero-copy.
    pub mode: XskMode,
    /// Busy polling, where wanted; drivers without it go on without it ([`SocketInfo::busy_poll`]).
    pub busy_poll: Option<BusyPoll>,
    /// Puts the memory on huge pages; there must be some (vm.nr_hugepages).
    pub huge_pages: bool,
    /// Takes frames that no chunk holds too, where kernel and driver can (XDP multi-buffer).
    pub multi_buffer: bool,
}

impl XskConfig {
    /// The defaults, for these queues.
    pub fn new(queues: Vec<XskQueue>) -> Self {
        Self {
            queues,
            chunk_octets: CHUNK_OCTETS,
            ring_slots: RING_SLOTS,
            mode: XskMode::Auto,
            busy_poll: None,
            huge_pages: false,
            multi_buffer: false,
        }
    }
}

/// The transmit side of one socket, as the worker sees it.
#[derive(Clone, Copy, Default)]
struct TransmitState {
    /// Frames put into the ring since the last flush.
    queued: u32,
    /// Flushes without progress, one after another.
    fruitless: u32,
}

/// What of a frame in parts has arrived.
enum Parts {
    /// Nothing: the next descriptor begins a frame.
    None,
    /// This much.
    Some(Frame),
    /// It is lost; what still comes of it goes too.
    Lost,
}

/// A port on AF_XDP sockets. See the module for who owns what.
pub struct XskPort {
    /// Dropped before the memory.
    sockets: Vec<BoundSocket>,
    transmit_states: Vec<TransmitState>,
    /// By socket: the large frame of which the last parts are still to come.
    parts: Vec<Parts>,
    /// By interface: position in `sockets` of the queue by which frames leave, if any.
    outlets: Vec<Option<u16>>,
    /// Chunks that nobody uses, by address. Last in, first out: the last is warm in the cache.
    free: Vec<u64>,
    chunk_mask: u64,
    /// Where the next batch begins, so that no interface is always last.
    turn: usize,
    pass_queue: Option<Arc<PassQueue>>,
    passed_in_batch: bool,
    counters: Arc<XskCounters>,
    waker: Waker,
    polled: Vec<libc::pollfd>,
    memory: Memory,
}

impl XskPort {
    /// Opens the sockets. The host must then put each of [`XskPort::sockets`] into the program's socket map.
    ///
    /// Frames that [`Port::pass`] gets go to `pass_queue`; without one they are dropped and counted.
    /// While a queue is busy it is tried for about a second.
    pub fn open(config: &XskConfig, pass_queue: Option<Arc<PassQueue>>) -> Result<Self, XskError> {
        if config.queues.is_empty() || config.queues.len() > SOCKETS_MAX {
            return Err(XskError::Configuration("a port has between 1 and 256 queues"));
        }
        if !config.ring_slots.is_power_of_two() || !(BATCH_FRAMES as u32..=1 << 15).contains(&config.ring_slots) {
            return Err(XskError::Configuration("a ring has between 64 and 32768 entries, a power of two"));
        }
        if config.chunk_octets != 2048 && config.chunk_octets != 4096 {
            return Err(XskError::Configuration("a chunk has 2048 or 4096 octets"));
        }
        // Fill ring and transmit ring of each socket, and the batch in the worker's hands.
        let chunks = 2 * config.ring_slots * config.queues.len() as u32 + 2 * BATCH_FRAMES as u32;
        let (sockets, memory) = socket::open(config, chunks)?;
        let wake = wake_descriptor().map_err(|errno| XskError::System {
            step: "making an event descriptor",
            interface: String::new(),
            errno: errno.raw_os_error(),
        })?;

        let chunk = u64::from(config.chunk_octets);
        let mut outlets = Vec::new();
        for (position, socket) in sockets.iter().enumerate() {
            let interface = usize::from(socket.info.interface.0);
            if outlets.len() <= interface {
                outlets.resize(interface + 1, None);
            }
            outlets[interface].get_or_insert(position as u16);
        }
        let watched = sockets.iter().map(|socket| socket.descriptor.as_raw_fd()).chain([wake.as_raw_fd()]);
        let polled = watched.map(|fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 }).collect();
        let mut port = Self {
            transmit_states: vec![TransmitState::default(); sockets.len()],
            parts: sockets.iter().map(|_| Parts::None).collect(),
            sockets,
            outlets,
            free: (0..u64::from(chunks)).rev().map(|position| position * chunk).collect(),
            chunk_mask: !(chunk - 1),
            turn: 0,
            pass_queue,
            passed_in_batch: false,
            counters: Arc::default(),
            waker: Waker(wake),
            polled,
            memory,
        };
        port.flush();
        Ok(port)
    }

    /// The sockets: what they got, and the descriptor for the program's socket map.
    pub fn sockets(&self) -> impl Iterator<Item = (&SocketInfo, BorrowedFd<'_>)> {
        self.sockets.iter().map(|socket| (&socket.info, socket.descriptor.as_fd()))
    }

    /// A reader of the counters, for another thread.
    pub fn monitor(&self) -> XskMonitor {
        let weak = |socket: &BoundSocket| (socket.info.clone(), Arc::<OwnedFd>::downgrade(&socket.descriptor));
        XskMonitor { counters: Arc::clone(&self.counters), sockets: self.sockets.iter().map(weak).collect() }
    }

    /// What ends a [`XskPort::wait`] from another thread.
    pub fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// Longest frame that the port receives and sends, octets.
    pub fn frame_octets_max(&self) -> usize {
        (self.chunk_octets() - KERNEL_HEADROOM_OCTETS) as usize - HEADROOM_OCTETS
    }

    /// True when frames that no chunk holds come and go too.
    pub fn takes_large(&self) -> bool {
        self.memory.large.is_open()
    }

    /// Waits until a frame arrives, [`Waker::wake`] is called or the time is over. Frames that wait to be sent
    /// shorten it to a millisecond; [`Port::flush`] offers them again.
    pub fn wait(&mut self, timeout: Duration) {
        let waiting = self.sockets.iter_mut().any(|socket| socket.rings.transmit.outstanding() > 0);
        let timeout = if waiting { timeout.min(RETRY_WAIT) } else { timeout };
        if poll(&mut self.polled, timeout) && self.polled.last().is_some_and(|wake| wake.revents != 0) {
            // What was written does not matter, only that it is gone.
            let _ = rustix::io::read(&*self.waker.0, &mut [0u8; 8]);
        }
    }

    fn chunk_octets(&self) -> u64 {
        !self.chunk_mask + 1
    }

    /// Octets in front of a frame.
    fn front(&self, frame: &Frame) -> u64 {
        if is_large(frame) { LargeMemory::front(frame) } else { frame.start - self.chunk_of(frame) }
    }

    #[cold]
    fn allocate_large(&mut self, length: usize, interface: InterfaceId) -> Option<Frame> {
        let Some(mut frame) = self.memory.large.take(interface) else {
            self.counters.no_chunk.add(1);
            return None;
        };
        if !self.resize(&mut frame, length) {
            self.counters.no_chunk.add(1);
            self.memory.large.give(&frame);
            return None;
        }
        Some(frame)
    }

    /// Queues a large frame in as many chunks as it takes.
    #[cold]
    fn transmit_large(&mut self, frame: Frame, position: usize) {
        let (chunk, length) = (self.chunk_octets() as usize, frame.length as usize);
        let count = length.div_ceil(chunk);
        let transmit = &mut self.sockets[position].rings.transmit;
        if count == 0 || (transmit.room() as usize) < count {
            self.counters.transmit_full.add(1);
            return self.release(frame);
        }
        if self.free.len() < count {
            self.counters.no_chunk.add(1);
            return self.release(frame);
        }
        for part in 0..count {
            let (from, octets) = (part * chunk, chunk.min(length - part * chunk));
            let Some(address) = self.free.pop() else { break };
            self.memory.copy_large(&frame, from, address, octets as u32);
            transmit.put_part(address, octets as u32, part + 1 < count);
        }
        self.transmit_states[position].queued += 1;
        self.release(frame);
    }

    fn chunk_of(&self, frame: &Frame) -> u64 {
        frame.start & self.chunk_mask
    }

    /// Frames that may be taken without any transmit ring overflowing.
    fn transmit_room(&mut self) -> usize {
        let mut room = BATCH_FRAMES;
        for (socket, state) in self.sockets.iter_mut().zip(&self.transmit_states) {
            if state.fruitless < STALLED_FLUSHES {
                room = room.min(socket.rings.transmit.room() as usize);
            }
        }
        room
    }

    /// Shows queued frames of one socket to the kernel and makes it send them.
    fn send(&mut self, position: usize) {
        let socket = &mut self.sockets[position];
        let state = &mut self.transmit_states[position];
        let transmit = &mut socket.rings.transmit;
        if state.queued > 0 {
            transmit.publish();
            self.counters.transmitted.add(u64::from(state.queued));
            state.queued = 0;
        }
        let mut outstanding = transmit.outstanding();
        if outstanding == 0 || !transmit.needs_wakeup() {
            state.fruitless = 0;
            return;
        }
        // One call sends only so many frames in copy mode; each further call follows progress, so this ends.
        while outstanding > 0 {
            let result = rustix::net::send(&*socket.descriptor, &[], SendFlags::DONTWAIT);
            if result == Err(Errno::BUSY) {
                self.counters.transmit_refused.add(1);
            }
            if matches!(result, Err(Errno::NETDOWN | Errno::NXIO | Errno::NODEV)) {
                state.fruitless = STALLED_FLUSHES;
                return;
            }
            let left = transmit.outstanding();
            if left == outstanding {
                state.fruitless = state.fruitless.saturating_add(1);
                return;
            }
            outstanding = left;
            state.fruitless = 0;
            // The kernel needs room in the completion ring to go on.
            socket.rings.completion.reap(&mut self.free, self.chunk_mask);
        }
    }
}

impl Port for XskPort {
    fn receive(&mut self, batch: &mut Vec<Frame>) {
        let mut room = self.transmit_room();
        if room == 0 {
            self.flush();
            room = self.transmit_room();
        }
        let count = self.sockets.len();
        let mut taken = 0;
        self.turn = (self.turn + 1) % count;
        for step in 0..count {
            if taken == room {
                break;
            }
            let socket = &mut self.sockets[(self.turn + step) % count];
            let ready = (socket.rings.receive.ready() as usize).min(room - taken);
            if ready == 0 {
                continue;
            }
            socket.rings.receive.prefetch(ready as u32);
            let parts = &mut self.parts[(self.turn + step) % count];
            for _ in 0..ready {
                let received = socket.rings.receive.take();
                if received.continued || !matches!(parts, Parts::None) {
                    self.free.push(received.address & self.chunk_mask);
                    batch.extend(take_part(&mut self.memory, parts, &received, socket.info.interface, &self.counters));
                    continue;
                }
                if let Some(first) = self.memory.bytes(received.address, received.length).first() {
                    prefetch(first);
                }
                batch.push(Frame {
                    start: received.address,
                    length: received.length,
                    interface: socket.info.interface,
                });
            }
            socket.rings.receive.publish();
            taken += ready;
        }
        if taken > 0 {
            self.counters.received.add(taken as u64);
        }
    }

    #[inline]
    fn bytes(&self, frame: &Frame) -> &[u8] {
        self.memory.bytes(frame.start, frame.length)
    }

    #[inline]
    fn bytes_mut(&mut self, frame: &Frame) -> &mut [u8] {
        self.memory.bytes_mut(frame.start, frame.length)
    }

    #[inline]
    fn push_front(&mut self, frame: &mut Frame, octets: usize) -> bool {
        if octets as u64 > self.front(frame) {
            return false;
        }
        frame.start -= octets as u64;
        frame.length += octets as u32;
        true
    }

    #[inline]
    fn pull_front(&mut self, frame: &mut Frame, octets: usize) {
        // Never to the end: an empty frame at a chunk's end would have its start in the next chunk.
        assert!(octets < frame.length as usize, "a frame keeps at least one octet");
        frame.start += octets as u64;
        frame.length -= octets as u32;
    }

    fn resize(&mut self, frame: &mut Frame, length: usize) -> bool {
        let room = match is_large(frame) {
            false => (self.chunk_octets() - self.front(frame)) as usize,
            true => LargeMemory::room(frame),
        };
        if length > room {
            return false;
        }
        frame.length = length as u32;
        true
    }

    fn allocate(&mut self, length: usize, interface: InterfaceId) -> Option<Frame> {
        if length > self.frame_octets_max() {
            return self.allocate_large(length, interface);
        }
        let Some(chunk) = self.free.pop() else {
            self.counters.no_chunk.add(1);
            return None;
        };
        Some(Frame { start: chunk + KERNEL_HEADROOM_OCTETS + HEADROOM_OCTETS as u64, length: length as u32, interface })
    }

    fn capacity(&self) -> usize {
        self.memory.octets() / self.chunk_octets() as usize
    }

    fn is_large(&self, frame: &Frame) -> bool {
        is_large(frame)
    }

    #[inline]
    fn transmit(&mut self, frame: Frame, interface: InterfaceId) {
        let Some(Some(position)) = self.outlets.get(usize::from(interface.0)) else {
            self.counters.no_queue.add(1);
            return self.release(frame);
        };
        let position = usize::from(*position);
        if is_large(&frame) {
            return self.transmit_large(frame, position);
        }
        if frame.length > 0 && self.sockets[position].rings.transmit.put(frame.start, frame.length) {
            self.transmit_states[position].queued += 1;
        } else {
            self.counters.transmit_full.add(1);
            self.release(frame);
        }
    }

    fn pass(&mut self, frame: Frame) {
        let bytes = self.memory.bytes(frame.start, frame.length);
        if self.pass_queue.as_ref().is_some_and(|queue| queue.push(frame.interface, bytes)) {
            self.counters.passed.add(1);
            self.passed_in_batch = true;
        } else if bytes.len() > PASS_OCTETS_MAX {
            self.counters.pass_too_long.add(1);
        } else {
            self.counters.pass_overflow.add(1);
        }
        self.release(frame);
    }

    #[inline]
    fn release(&mut self, frame: Frame) {
        if is_large(&frame) {
            return self.memory.large.give(&frame);
        }
        let chunk = self.chunk_of(&frame);
        self.free.push(chunk);
    }

    fn flush(&mut self) {
        for position in 0..self.sockets.len() {
            self.send(position);
            let socket = &mut self.sockets[position];
            socket.rings.completion.reap(&mut self.free, self.chunk_mask);
            socket.rings.fill.refill(&mut self.free);
            if socket.rings.fill.needs_wakeup() {
                let _ = rustix::net::recv(&*socket.descriptor, &mut [0u8; 0], RecvFlags::DONTWAIT);
            }
        }
        if std::mem::take(&mut self.passed_in_batch)
            && let Some(queue) = &self.pass_queue
        {
            queue.wake();
        }
    }
}

/// Adds a part to a frame; gives it when it is whole.
#[cold]
fn take_part(
    memory: &mut Memory,
    parts: &mut Parts,
    received: &Received,
    interface: InterfaceId,
    counters: &XskCounters,
) -> Option<Frame> {
    let mut frame = match std::mem::replace(parts, Parts::Lost) {
        Parts::None => memory.large.take(interface),
        Parts::Some(frame) => Some(frame),
        Parts::Lost => None,
    };
    if let Some(known) = &mut frame
        && !memory.append_part(known, received.address, received.length)
    {
        memory.large.give(known);
        frame = None;
    }
    match (frame, received.continued) {
        (Some(frame), true) => *parts = Parts::Some(frame),
        (Some(frame), false) => {
            *parts = Parts::None;
            return Some(frame);
        }
        (None, true) => {}
        (None, false) => {
            *parts = Parts::None;
            counters.oversized.add(1);
        }
    }
    None
}

/// Waits for readiness; true when there is some.
#[allow(unsafe_code)]
fn poll(watched: &mut [libc::pollfd], timeout: Duration) -> bool {
    let timeout = libc::timespec {
        tv_sec: timeout.as_secs().min(i32::MAX as u64) as libc::time_t,
        tv_nsec: timeout.subsec_nanos().into(),
    };
    // SAFETY: the slice is valid for as many entries as it has; there is no signal mask.
    unsafe { libc::ppoll(watched.as_mut_ptr(), watched.len() as libc::nfds_t, &timeout, std::ptr::null()) > 0 }
}
