//! The four rings that an AF_XDP socket shares with the kernel (include/uapi/linux/if_xdp.h), on our own mapping.
//!
//! Each ring has one producer and one consumer; indexes run freely and are masked on use. We publish with release and
//! read the other side's index with acquire, as the kernel does, so an entry is complete before it can be seen.
//! Entries are atomics accessed relaxed: the same machine code as plain access, and no reference to memory that the
//! kernel writes is ever exclusive.

#![allow(unsafe_code)]

use std::ffi::c_void;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU32, AtomicU64};

use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use rustix::net::sockopt::xdp_mmap_offsets;
use rustix::net::xdp::{XdpMmapOffsets, XdpRingOffset};

use crate::base::memory::prefetch;

/// Offsets for mmap that name a ring, if_xdp.h `XDP_PGOFF_*` and `XDP_UMEM_PGOFF_*`.
const RECEIVE_PAGES: u64 = 0;
const TRANSMIT_PAGES: u64 = 0x8000_0000;
const FILL_PAGES: u64 = 0x1_0000_0000;
const COMPLETION_PAGES: u64 = 0x1_8000_0000;

/// The kernel asks for a system call, if_xdp.h `XDP_RING_NEED_WAKEUP`.
const NEED_WAKEUP: u32 = 1;

/// More descriptors of the same packet follow, if_xdp.h `XDP_PKT_CONTD`.
const CONTINUED: u32 = 1;

/// A packet in the receive or transmit ring, `struct xdp_desc`.
#[repr(C)]
pub(super) struct Descriptor {
    address: AtomicU64,
    length: AtomicU32,
    options: AtomicU32,
}

/// What a received descriptor says.
pub(super) struct Received {
    /// Offset of the first octet in the UMEM.
    pub address: u64,
    /// Octets.
    pub length: u32,
    /// True when the packet continues in the next descriptor.
    pub continued: bool,
}

/// Types that the kernel and we may access at the same time.
///
/// # Safety
/// The implementor consists of atomics alone and every bit pattern is a value.
unsafe trait Shared {}

// SAFETY: an atomic integer.
unsafe impl Shared for AtomicU32 {}
// SAFETY: an atomic integer.
unsafe impl Shared for AtomicU64 {}
// SAFETY: three atomic integers, laid out as in C, without padding.
unsafe impl Shared for Descriptor {}

/// A mapped ring. Unmapped when dropped.
struct Mapping {
    start: NonNull<c_void>,
    octets: usize,
}

// SAFETY: a mapping is memory of the process, bound to no thread; it is accessed by atomics only.
unsafe impl Send for Mapping {}

impl Mapping {
    fn new(socket: BorrowedFd<'_>, pages: u64, octets: usize) -> Result<Self, Errno> {
        let flags = MapFlags::SHARED | MapFlags::POPULATE;
        // SAFETY: a new mapping at an address of the kernel's choice; nothing of ours is replaced.
        let start =
            unsafe { mmap(std::ptr::null_mut(), octets, ProtFlags::READ | ProtFlags::WRITE, flags, socket, pages) }?;
        Ok(Self { start: NonNull::new(start).ok_or(Errno::NOMEM)?, octets })
    }

    /// `count` values at `offset`.
    ///
    /// The lifetime is a lie told to the fields of [`Ring`], which owns the mapping and drops it with them.
    fn view<T: Shared>(&self, offset: u64, count: usize) -> Result<&'static [T], Errno> {
        let offset = usize::try_from(offset).map_err(|_| Errno::INVAL)?;
        let end = offset.checked_add(count * size_of::<T>()).ok_or(Errno::INVAL)?;
        if end > self.octets || offset % align_of::<T>() != 0 {
            return Err(Errno::INVAL);
        }
        // SAFETY: within the mapping and aligned, as just tested (mappings begin at a page); T is made of atomics, so
        // the kernel's writes are no data race; only `Ring`, which keeps the mapping alive, holds the result.
        Ok(unsafe { std::slice::from_raw_parts(self.start.as_ptr().cast::<u8>().add(offset).cast(), count) })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped by `new` with this size; the views live in the ring that is being dropped.
        let _ = unsafe { munmap(self.start.as_ptr(), self.octets) };
    }
}

/// One ring: indexes, flags and entries. `T` is [`Descriptor`] or, for fill and completion, an address.
struct Ring<T: 'static> {
    producer: &'static AtomicU32,
    consumer: &'static AtomicU32,
    flags: &'static AtomicU32,
    entries: &'static [T],
    mask: u32,
    /// Our copy of the index that we alone move.
    own: u32,
    /// The other side's index as last read.
    other: u32,
    _mapping: Mapping,
}

impl<T: Shared> Ring<T> {
    fn new(socket: BorrowedFd<'_>, pages: u64, at: &XdpRingOffset, slots: u32) -> Result<Self, Errno> {
        let octets = usize::try_from(at.desc).map_err(|_| Errno::INVAL)? + slots as usize * size_of::<T>();
        let mapping = Mapping::new(socket, pages, octets)?;
        let word = |offset| mapping.view::<AtomicU32>(offset, 1).map(|words| &words[0]);
        let flags = word(at.flags.ok_or(Errno::NOSYS)?)?;
        let (producer, consumer) = (word(at.producer)?, word(at.consumer)?);
        let entries = mapping.view(at.desc, slots as usize)?;
        Ok(Self { producer, consumer, flags, entries, mask: slots - 1, own: 0, other: 0, _mapping: mapping })
    }

    fn slot(&self, index: u32) -> &T {
        &self.entries[(index & self.mask) as usize]
    }

    fn needs_wakeup(&self) -> bool {
        self.flags.load(Relaxed) & NEED_WAKEUP != 0
    }

    /// As a producer: free slots, by what the kernel has consumed.
    fn room(&mut self) -> u32 {
        self.other = self.consumer.load(Acquire);
        self.mask + 1 - self.own.wrapping_sub(self.other)
    }

    /// As a consumer: entries to be taken, by what the kernel has produced.
    fn ready(&mut self) -> u32 {
        self.other = self.producer.load(Acquire);
        self.other.wrapping_sub(self.own)
    }
}

/// Where we find received packets.
pub(super) struct ReceiveRing(Ring<Descriptor>);

impl ReceiveRing {
    /// Packets waiting.
    pub fn ready(&mut self) -> u32 {
        self.0.ready()
    }

    /// Fetches the next `count` descriptors, four to a cache line, which another processor has just written: all at
    /// once costs little more than one.
    pub fn prefetch(&self, count: u32) {
        for ahead in (0..count).step_by(4) {
            prefetch(self.0.slot(self.0.own.wrapping_add(ahead)));
        }
    }

    /// The next packet. Call at most as often as [`Self::ready`] said, then [`Self::publish`].
    #[inline]
    pub fn take(&mut self) -> Received {
        let slot = self.0.slot(self.0.own);
        let continued = slot.options.load(Relaxed) & CONTINUED != 0;
        let received = Received { address: slot.address.load(Relaxed), length: slot.length.load(Relaxed), continued };
        self.0.own = self.0.own.wrapping_add(1);
        received
    }

    /// Gives the taken slots back to the kernel.
    pub fn publish(&mut self) {
        self.0.consumer.store(self.0.own, Release);
    }
}

/// Where we put packets to be sent.
pub(super) struct TransmitRing {
    ring: Ring<Descriptor>,
    /// Free slots as last counted, less what was put since.
    room: u32,
}

impl TransmitRing {
    /// Free slots, counted anew.
    pub fn room(&mut self) -> u32 {
        self.room = self.ring.room();
        self.room
    }

    /// Puts a packet; false when the ring is full.
    #[inline]
    pub fn put(&mut self, address: u64, length: u32) -> bool {
        if self.room == 0 && self.room() == 0 {
            return false;
        }
        self.put_part(address, length, false);
        true
    }

    /// Puts a part of a packet, of which others follow or none. There must be room for all of them.
    #[inline]
    pub fn put_part(&mut self, address: u64, length: u32, continues: bool) {
        debug_assert_ne!(self.room, 0, "room was asked for");
        let slot = self.ring.slot(self.ring.own);
        slot.address.store(address, Relaxed);
        slot.length.store(length, Relaxed);
        slot.options.store(if continues { CONTINUED } else { 0 }, Relaxed);
        self.ring.own = self.ring.own.wrapping_add(1);
        self.room -= 1;
    }

    /// Shows what was put to the kernel.
    pub fn publish(&mut self) {
        self.ring.producer.store(self.ring.own, Release);
    }

    /// Packets that the kernel has not taken yet.
    pub fn outstanding(&mut self) -> u32 {
        self.ring.mask + 1 - self.room()
    }

    /// True when the kernel wants a system call to send.
    pub fn needs_wakeup(&self) -> bool {
        self.ring.needs_wakeup()
    }
}

/// Where we give the kernel free chunks to receive into.
pub(super) struct FillRing(Ring<AtomicU64>);

impl FillRing {
    /// Moves chunks from `free` into the ring until one or the other is exhausted.
    pub fn refill(&mut self, free: &mut Vec<u64>) {
        let slots = self.0.mask + 1;
        // In portions: looking costs a cache line that the kernel writes.
        let portion = slots / 8;
        let mut room = slots - self.0.own.wrapping_sub(self.0.other);
        if room < portion {
            room = self.0.room();
        }
        if room < portion {
            return;
        }
        let count = (room as usize).min(free.len());
        for chunk in free.drain(free.len() - count..) {
            self.0.slot(self.0.own).store(chunk, Relaxed);
            self.0.own = self.0.own.wrapping_add(1);
        }
        self.0.producer.store(self.0.own, Release);
    }

    /// True when the kernel wants a system call to receive.
    pub fn needs_wakeup(&self) -> bool {
        self.0.needs_wakeup()
    }
}

/// Where the kernel gives sent chunks back.
pub(super) struct CompletionRing(Ring<AtomicU64>);

impl CompletionRing {
    /// Appends the chunks of all sent packets to `free`; `chunk_mask` clears the offset within a chunk, because the
    /// kernel returns addresses as they were submitted. Returns how many.
    pub fn reap(&mut self, free: &mut Vec<u64>, chunk_mask: u64) -> u32 {
        let count = self.0.ready();
        for _ in 0..count {
            free.push(self.0.slot(self.0.own).load(Relaxed) & chunk_mask);
            self.0.own = self.0.own.wrapping_add(1);
        }
        if count > 0 {
            self.0.consumer.store(self.0.own, Release);
        }
        count
    }
}

/// The rings of one socket.
pub(super) struct Rings {
    /// Received packets.
    pub receive: ReceiveRing,
    /// Packets to send.
    pub transmit: TransmitRing,
    /// Chunks to receive into.
    pub fill: FillRing,
    /// Chunks that were sent.
    pub completion: CompletionRing,
}

impl Rings {
    /// Maps the rings of a bound socket. All four have `slots` entries, a power of two: another number maps as well,
    /// with a wrong mask, so the socket and this call take it from one constant.
    pub fn new(socket: BorrowedFd<'_>, slots: u32) -> Result<Self, Errno> {
        let XdpMmapOffsets { rx, tx, fr, cr } = xdp_mmap_offsets(socket)?;
        Ok(Self {
            receive: ReceiveRing(Ring::new(socket, RECEIVE_PAGES, &rx, slots)?),
            transmit: TransmitRing { ring: Ring::new(socket, TRANSMIT_PAGES, &tx, slots)?, room: slots },
            fill: FillRing(Ring::new(socket, FILL_PAGES, &fr, slots)?),
            completion: CompletionRing(Ring::new(socket, COMPLETION_PAGES, &cr, slots)?),
        })
    }
}
