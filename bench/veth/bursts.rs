//! Turn and turn about: the generator fills the director's ring while the director rests, then the director empties
//! it while the generator rests. So the director meets full batches and nobody's pace but its own, which a generator
//! that pays for every frame's way through the kernel cannot offer it otherwise.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use lvx::port::xsk::RING_SLOTS;

/// Frames of a burst: so many fit the fill ring even where it lacks a portion, so none is lost.
pub const BURST: u64 = RING_SLOTS as u64 / 2;

/// How often each side looks whether it is its turn.
const LOOK: Duration = Duration::from_micros(20);

/// How long the director waits for a frame of a burst before it counts as lost, nanoseconds of its processor time.
const LOST_NS: u64 = 1_000_000_000;

/// Whose turn it is, and what the director has done so far.
#[derive(Default, Debug)]
pub struct Gate {
    /// Frames handed over in all.
    released: AtomicU64,
    /// Frames dealt with in all.
    done: AtomicU64,
    /// Frames taken in bursts, and the processor time of the director's thread for them.
    frames: AtomicU64,
    processor_ns: AtomicU64,
}

impl Gate {
    /// The generator's side: all of `sent` frames are in the ring; waits until the director has dealt with them.
    pub fn hand_over(&self, sent: u64) {
        self.released.store(sent, Ordering::Release);
        while self.done.load(Ordering::Acquire) < sent {
            std::thread::sleep(LOOK);
        }
    }

    /// The director's side: takes what has been handed over by calling `step`, which returns how many it took.
    pub fn take_over(&self, mut step: impl FnMut() -> usize) {
        let (released, done) = (self.released.load(Ordering::Acquire), self.done.load(Ordering::Relaxed));
        if released == done {
            return std::thread::sleep(LOOK);
        }
        let mut left = released - done;
        let begin = thread_ns();
        while left > 0 {
            let taken = step() as u64;
            left -= taken.min(left);
            if taken == 0 && thread_ns() - begin > LOST_NS {
                break;
            }
        }
        self.processor_ns.fetch_add(thread_ns() - begin, Ordering::Relaxed);
        self.frames.fetch_add(released - done - left, Ordering::Relaxed);
        self.done.store(released, Ordering::Release);
    }

    /// Frames taken in bursts so far, and nanoseconds of the director's thread for them.
    pub fn totals(&self) -> (u64, u64) {
        // Read between two bursts or within one: the frames of one burst more or less do not matter among hundreds.
        (self.frames.load(Ordering::Relaxed), self.processor_ns.load(Ordering::Relaxed))
    }
}

/// Processor time of this thread, system calls included; nanoseconds.
fn thread_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the call fills the structure that it is given.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    assert_eq!(result, 0, "every Linux has this clock");
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
