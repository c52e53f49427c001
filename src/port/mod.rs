//! Where frames come from and go to. A port moves frames and interprets nothing.
//!
//! **Invariant**: a port never looks at a frame's bytes; no call of the trait blocks, allocates or makes a system
//! call per frame ([`Port::receive`] and [`Port::flush`] may make one for a batch).

use crate::base::{Frame, InterfaceId};

pub mod memory;
pub mod xsk;

/// Frames that a worker takes at once. Enough to hide memory latency by prefetch, small enough for the first-level
/// cache to hold what a batch works on.
pub const BATCH_FRAMES: usize = 64;

/// Free octets in front of a received frame, for the headers of a tunnel:
/// the largest are 60 octets, IPv6 (40), UDP (8) and GUE with its option (12).
pub const HEADROOM_OCTETS: usize = 64;

/// A source and sink of frames over one memory: the queues of all interfaces that one worker serves.
pub trait Port {
    /// Appends at most [`BATCH_FRAMES`] received frames to `batch` (in order of arrival for each interface).
    fn receive(&mut self, batch: &mut Vec<Frame>);

    /// The frame's octets.
    fn bytes(&self, frame: &Frame) -> &[u8];

    /// The frame's octets, to be changed in place.
    fn bytes_mut(&mut self, frame: &Frame) -> &mut [u8];

    /// Moves the frame's start `octets` forward into the headroom; the new octets are not zeroed.
    /// False, and no change, when the headroom does not suffice.
    fn push_front(&mut self, frame: &mut Frame, octets: usize) -> bool;

    /// Drops `octets` from the frame's front (never more than it has).
    fn pull_front(&mut self, frame: &mut Frame, octets: usize);

    /// Sets the frame's length; growing exposes octets that are not zeroed. False, and no change, beyond the chunk.
    fn resize(&mut self, frame: &mut Frame, length: usize) -> bool;

    /// A frame of our own of `length` octets (not zeroed), for an answer or a fragment; `None` when no chunk is
    /// free or none is that large.
    fn allocate(&mut self, length: usize, interface: InterfaceId) -> Option<Frame>;

    /// How many frames the port's memory has, whoever holds them.
    fn capacity(&self) -> usize;

    /// True for a frame that lies beside that memory, where there is room for twice [`BATCH_FRAMES`] and no more.
    fn is_large(&self, _frame: &Frame) -> bool {
        false
    }

    /// Queues the frame to leave by `interface`. The port counts and releases what it cannot send.
    fn transmit(&mut self, frame: Frame, interface: InterfaceId);

    /// Hands the frame to the host's stack as if the kernel had received it on the frame's interface.
    fn pass(&mut self, frame: Frame);

    /// Gives the frame's chunk back.
    fn release(&mut self, frame: Frame);

    /// Sends what is queued and refills the receive side; at the end of each batch.
    fn flush(&mut self);
}
