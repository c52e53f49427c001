//! Frames that no chunk of the packet memory holds: the kernel hands them over in parts (XDP multi-buffer, kernel 6.6),
//! which are put together in buffers beside the packet memory, and taken apart again to be sent.

use crate::base::{Frame, InterfaceId};
use crate::port::HEADROOM_OCTETS;

/// Large frames that a worker can have in hand; more are dropped and counted.
pub const LARGE_FRAMES: usize = 2 * crate::port::BATCH_FRAMES;
/// Octets of a buffer: headroom, the longest packet and its link header, room for outer headers behind.
const BUFFER_OCTETS: usize = HEADROOM_OCTETS + (1 << 16) + 448;
/// Marks addresses of this memory; no packet memory is as large.
const LARGE: u64 = 1 << 62;

/// True for a frame in this memory.
#[inline]
pub(super) const fn is_large(frame: &Frame) -> bool {
    frame.start & LARGE != 0
}

/// The buffers.
#[derive(Default)]
pub(super) struct LargeMemory {
    octets: Vec<u8>,
    free: Vec<u32>,
}

impl LargeMemory {
    /// All buffers free. The system gives their pages when they are first used.
    pub fn new() -> Self {
        Self { octets: vec![0; LARGE_FRAMES * BUFFER_OCTETS], free: (0..LARGE_FRAMES as u32).rev().collect() }
    }

    /// True when there are buffers at all.
    pub fn is_open(&self) -> bool {
        !self.octets.is_empty()
    }

    /// An empty frame with the whole headroom.
    pub fn take(&mut self, interface: InterfaceId) -> Option<Frame> {
        let buffer = self.free.pop()?;
        let start = LARGE | (u64::from(buffer) * BUFFER_OCTETS as u64 + HEADROOM_OCTETS as u64);
        Some(Frame { start, length: 0, interface })
    }

    /// Gives a frame's buffer back.
    pub fn give(&mut self, frame: &Frame) {
        self.free.push(Self::buffer(frame));
    }

    /// Appends a part; false, and no change, when the buffer is full.
    pub fn append(&mut self, frame: &mut Frame, part: &[u8]) -> bool {
        let length = frame.length as usize + part.len();
        if length > Self::room(frame) {
            return false;
        }
        let end = Self::place(frame) + frame.length as usize;
        self.octets[end..end + part.len()].copy_from_slice(part);
        frame.length = length as u32;
        true
    }

    const fn buffer(frame: &Frame) -> u32 {
        ((frame.start & !LARGE) / BUFFER_OCTETS as u64) as u32
    }

    const fn place(frame: &Frame) -> usize {
        (frame.start & !LARGE) as usize
    }

    /// Octets in front of a frame.
    pub const fn front(frame: &Frame) -> u64 {
        (frame.start & !LARGE) % BUFFER_OCTETS as u64
    }

    /// Octets that a frame may have where it begins.
    pub const fn room(frame: &Frame) -> usize {
        BUFFER_OCTETS - Self::front(frame) as usize
    }

    /// A frame's octets.
    ///
    /// # Panics
    /// When the address is none of this memory.
    #[cold]
    pub fn bytes(&self, start: u64, length: u32) -> &[u8] {
        assert!(start & LARGE != 0, "an address within the packet memory, or a large frame's");
        &self.octets[(start & !LARGE) as usize..][..length as usize]
    }

    /// A frame's octets, to be changed.
    ///
    /// # Panics
    /// As [`LargeMemory::bytes`].
    #[cold]
    pub fn bytes_mut(&mut self, start: u64, length: u32) -> &mut [u8] {
        assert!(start & LARGE != 0, "an address within the packet memory, or a large frame's");
        &mut self.octets[(start & !LARGE) as usize..][..length as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_become_a_frame_with_headroom() {
        let mut memory = LargeMemory::new();
        let mut frames: Vec<Frame> = std::iter::from_fn(|| memory.take(InterfaceId(1))).collect();
        assert_eq!(frames.len(), LARGE_FRAMES);
        for (number, frame) in frames.iter_mut().enumerate() {
            assert!(is_large(frame));
            assert_eq!(LargeMemory::front(frame), HEADROOM_OCTETS as u64);
            for part in [vec![number as u8; 3000], vec![1; 3776], vec![2; 1]] {
                assert!(memory.append(frame, &part));
            }
            assert!(!memory.append(frame, &vec![0; BUFFER_OCTETS]));
        }
        for (number, frame) in frames.iter().enumerate() {
            let bytes = memory.bytes(frame.start, frame.length);
            assert_eq!((bytes.len(), bytes[0], bytes[3000], bytes[6776]), (6777, number as u8, 1, 2));
        }
        frames.iter().for_each(|frame| memory.give(frame));
        assert_eq!(memory.free.len(), LARGE_FRAMES);
    }
}
