//! Reading of captures.

use std::fmt;
use std::io::{self, Read};

use super::{
    BLOCK_ENHANCED_PACKET, BLOCK_INTERFACE, BLOCK_OCTETS_MAX, BLOCK_SECTION, BLOCK_SIMPLE_PACKET, BYTE_ORDER_MAGIC,
    INTERFACES_MAX, OPTION_END, OPTION_IF_NAME, OPTION_IF_TSOFFSET, OPTION_IF_TSRESOL,
};
use crate::wire::Error;

/// Why a capture could not be read on, and where.
#[derive(Debug)]
pub enum PcapngError {
    /// The source failed.
    Io {
        /// Offset in the file, octets.
        offset: u64,
        /// What it said.
        source: io::Error,
    },
    /// The file is not what it should be.
    Format {
        /// Offset of the block in the file, octets.
        offset: u64,
        /// The kind of fault.
        error: Error,
        /// What is wrong.
        problem: &'static str,
    },
}

impl fmt::Display for PcapngError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PcapngError::Io { offset, source } => write!(f, "capture, octet {offset}: {source}"),
            PcapngError::Format { offset, error, problem } => {
                write!(f, "capture, block at octet {offset}: {error}: {problem}")
            }
        }
    }
}

impl std::error::Error for PcapngError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            PcapngError::Io { source, .. } => Some(source),
            PcapngError::Format { error, .. } => Some(error),
        }
    }
}

/// An interface of a capture.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Interface {
    /// Its name; empty when the file gives none.
    pub name: String,
    /// Link type, 1 for Ethernet.
    pub link_type: u16,
    /// Octets kept of each packet; 0 for all.
    pub snap_octets: u32,
    units_per_second: u128,
    offset_s: i64,
}

impl Interface {
    fn nanoseconds(&self, units: u64) -> u64 {
        let since_epoch = u128::from(units) * 1_000_000_000 / self.units_per_second.max(1);
        let shifted = i128::try_from(since_epoch).unwrap_or(i128::MAX);
        let shifted = shifted.saturating_add(i128::from(self.offset_s) * 1_000_000_000);
        u64::try_from(shifted.max(0)).unwrap_or(u64::MAX)
    }
}

/// A packet of a capture.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Packet {
    /// Position in [`Reader::interfaces`].
    pub interface: usize,
    /// Nanoseconds since 1970; `None` in simple packet blocks.
    pub timestamp_ns: Option<u64>,
    /// Octets that the packet had on the wire.
    pub original_octets: u32,
    /// What was kept of it.
    pub bytes: Vec<u8>,
}

/// The packets of a capture, one after the other.
pub struct Reader<R> {
    source: R,
    offset: u64,
    big_endian: bool,
    in_section: bool,
    /// Position of the current section's first interface.
    section_first: usize,
    interfaces: Vec<Interface>,
    block: Vec<u8>,
}

impl<R: Read> Reader<R> {
    /// A reader at the file's start.
    pub fn new(source: R) -> Self {
        Self {
            source,
            offset: 0,
            big_endian: false,
            in_section: false,
            section_first: 0,
            interfaces: Vec::new(),
            block: Vec::new(),
        }
    }

    /// The interfaces described so far, of all sections.
    pub fn interfaces(&self) -> &[Interface] {
        &self.interfaces
    }

    /// The next packet; `None` at the file's end.
    ///
    /// # Errors
    /// When the source fails, the file ends within a block, or a block contradicts itself. After an error the
    /// reader is of no use.
    pub fn next_packet(&mut self) -> Result<Option<Packet>, PcapngError> {
        loop {
            let offset = self.offset;
            let at = |(error, problem)| PcapngError::Format { offset, error, problem };
            let Some(block_type) = self.next_block()? else { return Ok(None) };
            match block_type {
                BLOCK_SECTION => self.section_first = self.interfaces.len(),
                BLOCK_INTERFACE => self.read_interface().map_err(at)?,
                BLOCK_ENHANCED_PACKET => return self.read_enhanced().map(Some).map_err(at),
                BLOCK_SIMPLE_PACKET => return self.read_simple().map(Some).map_err(at),
                _ => {}
            }
        }
    }

    /// Reads the next block's body into `block`; its type, or `None` at the file's end.
    fn next_block(&mut self) -> Result<Option<u32>, PcapngError> {
        let offset = self.offset;
        let fault = |error, problem| PcapngError::Format { offset, error, problem };
        let mut head = [0; 8];
        if !self.fill(&mut head)? {
            return Ok(None);
        }
        // The section's type reads the same in both orders; its byte order follows its length.
        let is_section = head[..4] == BLOCK_SECTION.to_be_bytes();
        let mut taken = 8;
        self.block.clear();
        if is_section {
            let mut magic = [0; 4];
            if !self.fill(&mut magic)? {
                return Err(fault(Error::Truncated, "the file ends within a block"));
            }
            self.big_endian = match magic {
                _ if magic == BYTE_ORDER_MAGIC.to_be_bytes() => true,
                _ if magic == BYTE_ORDER_MAGIC.to_le_bytes() => false,
                _ => return Err(fault(Error::Malformed, "unknown byte order")),
            };
            self.in_section = true;
            self.block.extend_from_slice(&magic);
            taken += 4;
        } else if !self.in_section {
            return Err(fault(Error::Unsupported, "not a pcapng file"));
        }
        let block_type = self.u32(&head, 0);
        let length = self.u32(&head, 4) as usize;
        if length < taken + 4 || !length.is_multiple_of(4) {
            return Err(fault(Error::Malformed, "block length"));
        }
        if length > BLOCK_OCTETS_MAX {
            return Err(fault(Error::Unsupported, "block too long"));
        }
        let mut rest = std::mem::take(&mut self.block);
        let start = rest.len();
        rest.resize(start + length - taken, 0);
        let complete = self.fill(&mut rest[start..])?;
        self.block = rest;
        if !complete {
            return Err(fault(Error::Truncated, "the file ends within a block"));
        }
        let end = self.block.len() - 4;
        if self.u32(&self.block, end) as usize != length {
            return Err(fault(Error::Malformed, "the two lengths of a block differ"));
        }
        self.block.truncate(end);
        Ok(Some(block_type))
    }

    /// Fills `bytes` from the source; false at the file's end, an error when it ends in between.
    fn fill(&mut self, bytes: &mut [u8]) -> Result<bool, PcapngError> {
        let mut filled = 0;
        while filled < bytes.len() {
            match self.source.read(&mut bytes[filled..]) {
                Ok(0) if filled == 0 => return Ok(false),
                Ok(0) => {
                    let problem = "the file ends within a block";
                    return Err(PcapngError::Format { offset: self.offset, error: Error::Truncated, problem });
                }
                Ok(count) => {
                    filled += count;
                    self.offset += count as u64;
                }
                Err(source) if source.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(PcapngError::Io { offset: self.offset, source }),
            }
        }
        Ok(true)
    }

    fn read_interface(&mut self) -> Result<(), Fault> {
        if self.block.len() < 8 {
            return Err((Error::Truncated, "interface description"));
        }
        if self.interfaces.len() >= INTERFACES_MAX {
            return Err((Error::Unsupported, "too many interfaces"));
        }
        let mut interface = Interface {
            name: String::new(),
            link_type: self.u16(&self.block, 0),
            snap_octets: self.u32(&self.block, 4),
            units_per_second: 1_000_000,
            offset_s: 0,
        };
        let mut options = &self.block[8..];
        while options.len() >= 4 {
            let (code, length) = (self.u16(options, 0), usize::from(self.u16(options, 2)));
            if code == OPTION_END {
                break;
            }
            let value = options.get(4..4 + length).ok_or((Error::Truncated, "option of an interface"))?;
            match (code, value) {
                (OPTION_IF_NAME, name) => {
                    let name = String::from_utf8_lossy(name);
                    interface.name = name.trim_end_matches('\0').to_owned();
                }
                (OPTION_IF_TSRESOL, &[resolution]) => {
                    interface.units_per_second =
                        resolution_of(resolution).ok_or((Error::Unsupported, "timestamp resolution"))?;
                }
                (OPTION_IF_TSOFFSET, &[a, b, c, d, e, f, g, h]) => {
                    let octets = [a, b, c, d, e, f, g, h];
                    interface.offset_s =
                        if self.big_endian { i64::from_be_bytes(octets) } else { i64::from_le_bytes(octets) };
                }
                _ => {}
            }
            options = options.get(4 + length.next_multiple_of(4)..).unwrap_or_default();
        }
        self.interfaces.push(interface);
        Ok(())
    }

    fn read_enhanced(&self) -> Result<Packet, Fault> {
        if self.block.len() < 20 {
            return Err((Error::Truncated, "enhanced packet"));
        }
        let word = |at| self.u32(&self.block, at);
        let interface = self.section_first + word(0) as usize;
        let description = self.interfaces.get(interface).ok_or((Error::Malformed, "interface not described"))?;
        let units = u64::from(word(4)) << 32 | u64::from(word(8));
        let bytes = self.block[20..].get(..word(12) as usize).ok_or((Error::Truncated, "enhanced packet"))?;
        Ok(Packet {
            interface,
            timestamp_ns: Some(description.nanoseconds(units)),
            original_octets: word(16),
            bytes: bytes.to_vec(),
        })
    }

    fn read_simple(&self) -> Result<Packet, Fault> {
        let interface = self.section_first;
        let description = self.interfaces.get(interface).ok_or((Error::Malformed, "interface not described"))?;
        if self.block.len() < 4 {
            return Err((Error::Truncated, "simple packet"));
        }
        let original_octets = self.u32(&self.block, 0);
        let kept = match description.snap_octets {
            0 => original_octets,
            snap => snap.min(original_octets),
        };
        let bytes = self.block[4..].get(..kept as usize).ok_or((Error::Truncated, "simple packet"))?;
        Ok(Packet { interface, timestamp_ns: None, original_octets, bytes: bytes.to_vec() })
    }

    fn u16(&self, bytes: &[u8], at: usize) -> u16 {
        let octets = [bytes[at], bytes[at + 1]];
        if self.big_endian { u16::from_be_bytes(octets) } else { u16::from_le_bytes(octets) }
    }

    fn u32(&self, bytes: &[u8], at: usize) -> u32 {
        let octets = [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]];
        if self.big_endian { u32::from_be_bytes(octets) } else { u32::from_le_bytes(octets) }
    }
}

/// What is wrong with a block.
type Fault = (Error, &'static str);

/// `if_tsresol`: a negative power of 10, or of 2 when the upper bit is set.
fn resolution_of(octet: u8) -> Option<u128> {
    let exponent = u32::from(octet & 0x7f);
    if octet & 0x80 == 0 { 10u128.checked_pow(exponent) } else { 1u128.checked_shl(exponent) }
}
