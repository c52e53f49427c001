//! Writing of captures.

use std::io::{self, Write};

use super::{
    BLOCK_ENHANCED_PACKET, BLOCK_INTERFACE, BLOCK_SECTION, BYTE_ORDER_MAGIC, LINK_TYPE_ETHERNET, OPTION_END,
    OPTION_IF_NAME, OPTION_IF_TSRESOL,
};

/// `if_tsresol` of nanoseconds.
const NANOSECONDS: u8 = 9;

/// Octets of an interface's name that are written.
const NAME_OCTETS_MAX: usize = 255;

/// A capture that grows, little-endian, one section, Ethernet, timestamps in nanoseconds.
pub struct Writer<W> {
    sink: W,
    interfaces: u32,
    block: Vec<u8>,
}

impl<W: Write> Writer<W> {
    /// Begins a capture.
    ///
    /// # Errors
    /// Those of the sink.
    pub fn new(sink: W) -> io::Result<Self> {
        let mut writer = Self { sink, interfaces: 0, block: Vec::new() };
        writer.begin(BLOCK_SECTION);
        writer.put_u32(BYTE_ORDER_MAGIC);
        // Version 1.0, section length unknown.
        writer.put_u16(1);
        writer.put_u16(0);
        writer.block.extend_from_slice(&(-1i64).to_le_bytes());
        writer.end()?;
        Ok(writer)
    }

    /// Describes an interface; its number in this file.
    ///
    /// # Errors
    /// Those of the sink.
    pub fn interface(&mut self, name: &str) -> io::Result<u32> {
        self.begin(BLOCK_INTERFACE);
        self.put_u16(LINK_TYPE_ETHERNET);
        self.put_u16(0);
        self.put_u32(0);
        self.put_option(OPTION_IF_NAME, &name.as_bytes()[..name.len().min(NAME_OCTETS_MAX)]);
        self.put_option(OPTION_IF_TSRESOL, &[NANOSECONDS]);
        self.put_option(OPTION_END, &[]);
        self.end()?;
        self.interfaces += 1;
        Ok(self.interfaces - 1)
    }

    /// Adds a whole packet of an interface described before.
    ///
    /// # Errors
    /// Those of the sink, and `InvalidInput` for an interface that was not described.
    pub fn packet(&mut self, interface: u32, timestamp_ns: u64, bytes: &[u8]) -> io::Result<()> {
        if interface >= self.interfaces {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "interface not described"));
        }
        self.begin(BLOCK_ENHANCED_PACKET);
        self.put_u32(interface);
        self.put_u32((timestamp_ns >> 32) as u32);
        self.put_u32(timestamp_ns as u32);
        self.put_u32(bytes.len() as u32);
        self.put_u32(bytes.len() as u32);
        self.block.extend_from_slice(bytes);
        self.end()
    }

    /// The sink, flushed.
    ///
    /// # Errors
    /// Those of the sink.
    pub fn into_inner(mut self) -> io::Result<W> {
        self.sink.flush()?;
        Ok(self.sink)
    }

    /// Flushes the sink.
    ///
    /// # Errors
    /// Those of the sink.
    pub fn flush(&mut self) -> io::Result<()> {
        self.sink.flush()
    }

    fn begin(&mut self, block_type: u32) {
        self.block.clear();
        self.put_u32(block_type);
        self.put_u32(0);
    }

    /// Pads the block, fills in its lengths and writes it at once.
    fn end(&mut self) -> io::Result<()> {
        self.block.resize(self.block.len().next_multiple_of(4), 0);
        let length = self.block.len() as u32 + 4;
        self.block[4..8].copy_from_slice(&length.to_le_bytes());
        self.put_u32(length);
        self.sink.write_all(&self.block)
    }

    fn put_option(&mut self, code: u16, value: &[u8]) {
        self.put_u16(code);
        self.put_u16(value.len() as u16);
        self.block.extend_from_slice(value);
        self.block.resize(self.block.len().next_multiple_of(4), 0);
    }

    fn put_u16(&mut self, value: u16) {
        self.block.extend_from_slice(&value.to_le_bytes());
    }

    fn put_u32(&mut self, value: u32) {
        self.block.extend_from_slice(&value.to_le_bytes());
    }
}
