//! Capture files: pcapng, draft-ietf-opsawg-pcapng.
//!
//! ```text
//! +---------------------------------------------------------------+
//! |                          Block Type                           |
//! +---------------------------------------------------------------+
//! |                      Block Total Length                       |
//! +---------------------------------------------------------------+
//! |            Block Body, padded to a multiple of 4              |
//! +---------------------------------------------------------------+
//! |                      Block Total Length                       |
//! +---------------------------------------------------------------+
//! ```
//! Written and read are section header, interface description and enhanced packet blocks; simple packet blocks are
//! read; every other block is skipped. [`Reader`] takes both byte orders.
//!
//! Limits: [`BLOCK_OCTETS_MAX`], [`INTERFACES_MAX`].

mod read;
mod write;

pub use read::{Interface, Packet, PcapngError, Reader};
pub use write::Writer;

/// Octets of a block that is read.
pub const BLOCK_OCTETS_MAX: usize = 16 << 20;
/// Interfaces of a file.
pub const INTERFACES_MAX: usize = 4096;
/// Link type of Ethernet.
pub const LINK_TYPE_ETHERNET: u16 = 1;

const BLOCK_SECTION: u32 = 0x0a0d_0d0a;
const BLOCK_INTERFACE: u32 = 1;
const BLOCK_SIMPLE_PACKET: u32 = 3;
const BLOCK_ENHANCED_PACKET: u32 = 6;
const BYTE_ORDER_MAGIC: u32 = 0x1a2b_3c4d;
const OPTION_END: u16 = 0;
const OPTION_IF_NAME: u16 = 2;
const OPTION_IF_TSRESOL: u16 = 9;
const OPTION_IF_TSOFFSET: u16 = 14;

#[cfg(test)]
mod tests;
