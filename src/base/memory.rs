//! Large zeroed memory for the tables, on huge pages where the kernel gives them, and prefetch.
//!
//! The tables consist of atomics alone, so that sharing them needs no `unsafe` of their own; this module holds the
//! two things that cannot be said safely: "these bytes are zero" and "fetch this line".

#![allow(unsafe_code)]

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ffi::c_void;
use std::ops::Deref;
use std::ptr::{NonNull, null_mut};
use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64};

use rustix::mm::{self, MapFlags, ProtFlags};

use crate::base::Counter;

/// Types for which memory full of zeroes is a value, and which need no drop.
///
/// # Safety
/// The implementor promises both.
pub unsafe trait Zeroed {}

// SAFETY: an atomic integer is a plain integer in memory.
unsafe impl Zeroed for AtomicU8 {}
// SAFETY: as above.
unsafe impl Zeroed for AtomicU16 {}
// SAFETY: as above.
unsafe impl Zeroed for AtomicU32 {}
// SAFETY: as above.
unsafe impl Zeroed for AtomicU64 {}
// SAFETY: an array of such values is zero when each is.
unsafe impl<T: Zeroed, const N: usize> Zeroed for [T; N] {}

/// One cache line of sixteen words; the unit of the connection table and of per-worker counters.
#[repr(C, align(64))]
pub struct Line<const WORDS: usize>(pub [AtomicU32; WORDS]);

// SAFETY: an array of atomics; padding of the alignment has no meaning.
unsafe impl<const WORDS: usize> Zeroed for Line<WORDS> {}

/// Narrow words and behind them wide ones: a cell of the connection table.
#[repr(C, align(32))]
pub struct Mixed<const NARROW: usize, const WIDE: usize> {
    /// In front.
    pub narrow: [AtomicU32; NARROW],
    /// Behind.
    pub wide: [AtomicU64; WIDE],
}

// SAFETY: two arrays of atomics; padding has no meaning.
unsafe impl<const NARROW: usize, const WIDE: usize> Zeroed for Mixed<NARROW, WIDE> {}

/// One cache line of counters.
#[repr(C, align(64))]
pub struct CounterLine(pub [Counter; 8]);

// SAFETY: counters are atomics, which fill the line.
unsafe impl Zeroed for CounterLine {}

/// One cache line of words of three widths; a bucket of the connection table.
#[repr(C, align(64))]
pub struct SplitLine {
    /// The first quarter.
    pub wide: [AtomicU64; 2],
    /// The second.
    pub short: [AtomicU16; 8],
    /// The other half.
    pub narrow: [AtomicU32; 8],
}

// SAFETY: arrays of atomics, which fill the line.
unsafe impl Zeroed for SplitLine {}

/// A cache line, octets: what every slab is aligned to.
const LINE_OCTETS: usize = 64;

/// Size and alignment of a huge page on the machines we run on, octets.
const HUGE_PAGE: usize = 2 << 20;

/// A fixed array of zeroed values. Pages that nobody has touched cost address space only.
pub struct Slab<T: Zeroed> {
    start: NonNull<T>,
    length: usize,
    source: Source,
}

/// Where a slab's memory comes from, to give it back.
enum Source {
    /// The allocator.
    Heap(Layout),
    /// A mapping of its own, with room to align the slab in it. (The allocator clears memory of such an alignment by
    /// writing it, and memory once written in small pages stays in them.)
    Mapping { base: *mut c_void, octets: usize },
    /// A mapping of huge pages that were set apart for it (`vm.nr_hugepages`).
    Hugetlb { base: *mut c_void, octets: usize },
}

// SAFETY: a slab owns its values as a `Box<[T]>` does.
unsafe impl<T: Zeroed + Send> Send for Slab<T> {}
// SAFETY: shared access gives `&T` only.
unsafe impl<T: Zeroed + Sync> Sync for Slab<T> {}

impl<T: Zeroed> Slab<T> {
    /// `length` zeroed values. Slabs of a huge page and more are aligned to one and marked for huge pages.
    pub fn new(length: usize) -> Self {
        let layout = Layout::array::<T>(length.max(1)).and_then(|layout| layout.align_to(LINE_OCTETS));
        let layout = layout.expect("a slab's size fits the address space");
        if layout.size() < HUGE_PAGE {
            // SAFETY: the layout's size is not zero: `length.max(1)` values of a type that is not zero-sized.
            let bytes = unsafe { alloc_zeroed(layout) };
            let Some(start) = NonNull::new(bytes.cast::<T>()) else { handle_alloc_error(layout) };
            return Self { start, length, source: Source::Heap(layout) };
        }
        Self::map(length, layout)
    }

    /// The same on huge pages that the administrator has set apart (`vm.nr_hugepages`), where there are enough for all of
    /// it. They are taken at once: a control group may allow less than was set apart (`hugetlb.2MB.max`), and then the
    /// first touch of a page would end the process.
    pub fn of_huge_pages(length: usize) -> Self {
        let size = Layout::array::<T>(length).map_or(0, |layout| layout.size());
        if size < HUGE_PAGE {
            return Self::new(length);
        }
        let octets = size.next_multiple_of(HUGE_PAGE);
        let (protection, flags) =
            (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE | MapFlags::HUGETLB | MapFlags::HUGE_2MB);
        // SAFETY: a new mapping at an address of the kernel's choice touches no memory that anyone has.
        let mapped = unsafe { mm::mmap_anonymous(null_mut(), octets, protection, flags) };
        let Some((base, start)) = mapped.ok().and_then(|base| Some((base, NonNull::new(base.cast::<T>())?))) else {
            return Self::new(length);
        };
        let slab = Self { start, length, source: Source::Hugetlb { base, octets } };
        match slab.try_populate() {
            // Before Linux 5.14 there is no such advice.
            Ok(()) | Err(rustix::io::Errno::INVAL) => slab,
            Err(_) => Self::new(length),
        }
    }

    fn map(length: usize, layout: Layout) -> Self {
        let octets = layout.size().next_multiple_of(HUGE_PAGE) + HUGE_PAGE;
        let (protection, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE);
        // SAFETY: a new mapping at an address of the kernel's choice touches no memory that anyone has.
        let mapped = unsafe { mm::mmap_anonymous(null_mut(), octets, protection, flags) };
        let Ok(base) = mapped else { handle_alloc_error(layout) };
        let ahead = base.addr().next_multiple_of(HUGE_PAGE) - base.addr();
        let start = base.wrapping_byte_add(ahead);
        // Advice, before the first touch: where the kernel declines, ordinary pages do.
        // SAFETY: the range lies in the mapping just made, and this advice changes no content.
        let _ = unsafe { mm::madvise(start, octets - HUGE_PAGE, mm::Advice::LinuxHugepage) };
        let start = NonNull::new(start.cast::<T>()).expect("a mapping is not at address 0");
        Self { start, length, source: Source::Mapping { base, octets } }
    }

    /// Octets of address space.
    pub fn size_octets(&self) -> usize {
        match self.source {
            Source::Heap(layout) => layout.size(),
            Source::Mapping { octets, .. } | Source::Hugetlb { octets, .. } => octets,
        }
    }

    /// Octets of its values, without what alignment takes of the address space.
    pub fn octets(&self) -> usize {
        size_of_val::<[T]>(self)
    }

    /// True for a slab on huge pages that were set apart.
    pub const fn is_hugetlb(&self) -> bool {
        matches!(self.source, Source::Hugetlb { .. })
    }

    /// Has the kernel give all of its memory now, so that nobody waits for a page later. Where it declines (before Linux
    /// 5.14, or for want of memory), pages come as they are touched.
    pub fn populate(&self) {
        if self.octets() >= HUGE_PAGE {
            let _ = self.try_populate();
        }
    }

    fn try_populate(&self) -> rustix::io::Result<()> {
        let start = self.start.as_ptr().cast::<c_void>();
        // SAFETY: the range is this slab's own, and this advice changes no content.
        unsafe { mm::madvise(start, self.octets(), mm::Advice::LinuxPopulateWrite) }
    }
}

impl<T: Zeroed> Deref for Slab<T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        // SAFETY: `length` values were allocated and zeroed, zero is a value of T, and they live as long as self.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.length) }
    }
}

impl<T: Zeroed> Drop for Slab<T> {
    fn drop(&mut self) {
        match self.source {
            // SAFETY: allocated by `new` with this layout; T needs no drop.
            Source::Heap(layout) => unsafe { dealloc(self.start.as_ptr().cast(), layout) },
            Source::Mapping { base, octets } | Source::Hugetlb { base, octets } => {
                // SAFETY: mapped by `new` with this size, and no reference outlives the slab; T needs no drop.
                let unmapped = unsafe { mm::munmap(base, octets) };
                debug_assert!(unmapped.is_ok(), "a slab's own mapping can be unmapped");
            }
        }
    }
}

/// Asks the processor to fetch the line of `value`; never faults and changes nothing.
#[inline(always)]
pub fn prefetch<T: ?Sized>(value: &T) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: prefetch is a hint; the address comes from a live reference.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(value).cast()) }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = value;
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::Ordering;

    #[test]
    fn slabs_are_zero_aligned_and_keep_what_is_stored() {
        let small: Slab<Line<16>> = Slab::new(3);
        assert_eq!(small.len(), 3);
        let large: Slab<Line<16>> = Slab::new(1 << 16);
        assert_eq!(large.as_ptr() as usize % HUGE_PAGE, 0);
        assert!(large.iter().all(|line| line.0.iter().all(|word| word.load(Ordering::Relaxed) == 0)));
        large[65535].0[15].store(7, Ordering::Relaxed);
        assert_eq!(large[65535].0[15].load(Ordering::Relaxed), 7);
        prefetch(&large[4]);
        large.populate();
        assert_eq!(large[65535].0[15].load(Ordering::Relaxed), 7);
        let either: Slab<Line<16>> = Slab::of_huge_pages(1 << 16);
        either.populate();
        assert!(either.iter().all(|line| line.0.iter().all(|word| word.load(Ordering::Relaxed) == 0)));
    }
}
