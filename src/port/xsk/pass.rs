//! The way of frames that are not ours from a worker to the thread that gives them to the host's stack.
//!
//! Buffers are made once and circulate: free, filled by the worker, emptied by the thread, free again. Neither end
//! allocates, waits or locks; a full queue drops the frame and the worker counts it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use crossbeam::queue::ArrayQueue;
use rustix::event::{EventfdFlags, eventfd};

use crate::base::InterfaceId;

/// Frames that may wait for the pass thread, for each worker.
pub const PASS_FRAMES_MAX: usize = 1024;

/// Longest frame that can be passed, octets; the largest that one chunk of 4096 octets receives is shorter.
pub const PASS_OCTETS_MAX: usize = 4096;

/// A frame on its way to the host's stack.
#[derive(Debug)]
pub struct PassedFrame {
    /// Where the frame came in.
    pub interface: InterfaceId,
    length: usize,
    octets: Box<[u8]>,
}

impl PassedFrame {
    /// The frame's octets.
    pub fn bytes(&self) -> &[u8] {
        &self.octets[..self.length]
    }

    /// The frame's octets, to be changed in place.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.octets[..self.length]
    }
}

/// A bounded queue of frames from one worker to the pass thread.
#[derive(Debug)]
pub struct PassQueue {
    free: ArrayQueue<PassedFrame>,
    filled: ArrayQueue<PassedFrame>,
    wake: Arc<OwnedFd>,
}

impl PassQueue {
    /// A queue for `frames` frames. `wake` is the eventfd on which the pass thread waits.
    pub fn new(frames: usize, wake: Arc<OwnedFd>) -> Self {
        let frames = frames.max(1);
        let free = ArrayQueue::new(frames);
        for _ in 0..frames {
            let octets = vec![0; PASS_OCTETS_MAX].into_boxed_slice();
            // There is room: as many buffers as slots.
            let _ = free.push(PassedFrame { interface: InterfaceId(0), length: 0, octets });
        }
        Self { free, filled: ArrayQueue::new(frames), wake }
    }

    /// Copies a frame into the queue; false when it is full or the frame too long.
    pub fn push(&self, interface: InterfaceId, frame: &[u8]) -> bool {
        if frame.len() > PASS_OCTETS_MAX {
            return false;
        }
        let Some(mut buffer) = self.free.pop() else { return false };
        buffer.interface = interface;
        buffer.length = frame.len();
        buffer.bytes_mut().copy_from_slice(frame);
        self.filled.push(buffer).is_ok()
    }

    /// Wakes the pass thread; once for a batch.
    pub fn wake(&self) {
        // A full counter means that the thread has been woken already.
        let _ = rustix::io::write(&*self.wake, &1u64.to_ne_bytes());
    }

    /// The oldest frame.
    pub fn pop(&self) -> Option<PassedFrame> {
        self.filled.pop()
    }

    /// Gives a buffer back.
    pub fn recycle(&self, frame: PassedFrame) {
        let _ = self.free.push(frame);
    }
}

/// An eventfd for one thread to wait on, of which others hold a share.
pub(crate) fn wake_descriptor() -> Result<Arc<OwnedFd>, rustix::io::Errno> {
    eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map(Arc::new)
}

/// Ends a worker's wait from another thread.
#[derive(Clone, Debug)]
pub struct Waker(pub(super) Arc<OwnedFd>);

impl Waker {
    /// Ends the current wait, or the next one when the worker is not waiting.
    pub fn wake(&self) {
        // A full counter means that it has been woken already.
        let _ = rustix::io::write(&*self.0, &1u64.to_ne_bytes());
    }
}

impl AsFd for Waker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_queue_refuses_and_recovers() {
        let queue = PassQueue::new(2, wake_descriptor().unwrap());
        assert!(queue.push(InterfaceId(1), b"one"));
        assert!(queue.push(InterfaceId(2), b"two"));
        assert!(!queue.push(InterfaceId(3), b"three"));
        let frame = queue.pop().unwrap();
        assert_eq!((frame.interface, frame.bytes()), (InterfaceId(1), &b"one"[..]));
        queue.recycle(frame);
        assert!(queue.push(InterfaceId(3), b"three"));
        assert!(!queue.push(InterfaceId(3), &[0; PASS_OCTETS_MAX + 1]));
        assert_eq!(queue.pop().unwrap().bytes(), b"two");
        assert_eq!(queue.pop().unwrap().bytes(), b"three");
        assert!(queue.pop().is_none());
    }
}
