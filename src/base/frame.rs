//! A packet in flight: where its bytes lie, not the bytes.

/// An interface of the director, by its position in the list the director was started with.
///
/// Workers know interfaces by this small number; names and kernel indexes are `host`'s.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct InterfaceId(pub u16);

/// An Ethernet frame in a port's memory. Whoever holds it owns its chunk and gives it back to the port: by
/// transmitting, passing or releasing it. It is deliberately not `Clone`.
#[derive(Debug)]
#[must_use = "a frame that is dropped is a chunk of the port's memory lost"]
pub struct Frame {
    /// First octet, as an offset into the port's memory.
    pub start: u64,
    /// Length of the frame, octets, without preamble and FCS.
    pub length: u32,
    /// Where it came in.
    pub interface: InterfaceId,
}

impl Frame {
    /// The frame out of its place in a batch, where what is left is no frame and must not be used.
    #[inline(always)]
    pub const fn take(&mut self) -> Frame {
        Frame { start: self.start, length: std::mem::replace(&mut self.length, 0), interface: self.interface }
    }
}
