//! Resynchronisation: what a backup and its master say to each other over TCP, beside the datagrams of [`sync`](super::sync).
//!
//! ```text
//! frame     +---------+---------+-------------------+
//!           |  kind   |    0    |  octets of body   |  body …
//!           +---------+---------+-------------------+
//!
//! kind          from     body
//!  1 hello      both     "lvxr" | version 1 | syncid | role | 0 | sync ports (16) | epoch (16)
//!  2 refusal    master   reason | 0 (24)
//!  3 table      backup   number of the resync (32)
//!  4 begin      master   number (32) | entries of the table now (32)
//!  5 records    master   number (32) | a sync datagram of version 1
//!  6 end        master   number (32) | 0 (32) | records (64) | sum (64) | mix (64)
//!  7 position   master   for each sync port the number of its next datagram (32)
//!  8 ask        backup   sync port (16) | count (16) | number of the first (32)
//!  9 again      master   sync port (16) | 0 (16) | a datagram as it was sent
//! 10 gone       master   as ask
//! 11 alive      backup   nothing
//! ```
//! A connection begins with the backup's hello and the master's hello or refusal. From then on the master numbers its
//! datagrams ([`Stamp`](super::sync::Stamp)), says every second where it is, and answers what is asked: the whole table, or
//! datagrams of the last moments. Numbers are big-endian.
//!
//! Source: there is none; the format is lvx's own. Records are in the kernel's format, so that they meet the same
//! checks.
//!
//! **Limits**: a body has at most 65535 octets, of a backup's frames [`BACKUP_BODY_MAX`].

mod decoder;
mod digest;

#[cfg(test)]
mod tests;

pub use decoder::Decoder;
pub use digest::Digest;

use crate::wire::{Error, get_u16, get_u32};

/// Octets of a frame before its body.
pub const HEADER_OCTETS: usize = 4;
/// Octets of the longest body that a backup sends.
pub const BACKUP_BODY_MAX: usize = 64;
/// Octets of the longest body that there is.
pub const BODY_MAX: usize = u16::MAX as usize;
/// The version of the protocol.
pub const VERSION: u8 = 1;

const MAGIC: [u8; 4] = *b"lvxr";

mod kind {
    pub const HELLO: u8 = 1;
    pub const REFUSAL: u8 = 2;
    pub const TABLE: u8 = 3;
    pub const BEGIN: u8 = 4;
    pub const RECORDS: u8 = 5;
    pub const END: u8 = 6;
    pub const POSITION: u8 = 7;
    pub const ASK: u8 = 8;
    pub const AGAIN: u8 = 9;
    pub const GONE: u8 = 10;
    pub const ALIVE: u8 = 11;
}

/// Who speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// Asks.
    Backup,
    /// Answers.
    Master,
}

/// How each side begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hello {
    /// The group of directors; 0 from a backup that takes any.
    pub syncid: u8,
    /// Who speaks.
    pub role: Role,
    /// Sync ports of a master; 0 from a backup.
    pub ports: u16,
    /// Which run of the master's daemon numbers datagrams; 0 from a backup.
    pub epoch: u16,
}

/// Why a master does not answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reason {
    /// It speaks another version.
    Version,
    /// It is of another syncid.
    Syncid,
    /// It has as many backups as it may have.
    Busy,
    /// A reason of a later version.
    Other(u8),
}

/// Datagrams in a row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Span {
    /// The sync port, from 0 on.
    pub port: u16,
    /// How many.
    pub count: u16,
    /// The number of the first.
    pub first: u32,
}

/// A frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Frame<'a> {
    /// Who is there.
    Hello(Hello),
    /// The master does not answer, and closes.
    Refusal(Reason),
    /// The whole table is wanted.
    Table {
        /// By which the answer is told from an earlier one's.
        number: u32,
    },
    /// The table follows.
    Begin {
        /// The resync.
        number: u32,
        /// About how many records.
        entries: u32,
    },
    /// A part of the table.
    Records {
        /// The resync.
        number: u32,
        /// A sync datagram, unread.
        datagram: &'a [u8],
    },
    /// That was the table.
    End {
        /// The resync.
        number: u32,
        /// All its records.
        digest: Digest,
    },
    /// Where the master's ports are.
    Position(Position<'a>),
    /// Datagrams are missing.
    Ask(Span),
    /// A datagram once more.
    Again {
        /// The sync port.
        port: u16,
        /// The datagram, unread.
        datagram: &'a [u8],
    },
    /// Those are not there any more.
    Gone(Span),
    /// The backup is well.
    Alive,
}

/// The number of each sync port's next datagram.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Position<'a>(&'a [u8]);

impl<'a> Position<'a> {
    /// The numbers, in order of the ports.
    pub fn numbers(self) -> impl Iterator<Item = u32> + 'a {
        self.0.chunks_exact(4).map(|word| get_u32(word, 0..4))
    }
}

impl<'a> Frame<'a> {
    /// Reads the body of a frame of this kind.
    ///
    /// # Errors
    /// [`Error::Truncated`] when the body is shorter than the kind's, [`Error::Malformed`] when it is longer or
    /// contradicts itself, [`Error::Unsupported`] for kinds and versions that there are not.
    pub fn parse(kind: u8, body: &'a [u8]) -> Result<Self, Error> {
        let exactly = |octets: usize| match body.len() {
            length if length < octets => Err(Error::Truncated),
            length if length > octets => Err(Error::Malformed),
            _ => Ok(()),
        };
        let at_least = |octets: usize| if body.len() < octets { Err(Error::Truncated) } else { Ok(()) };
        let span = || Span { port: get_u16(body, 0..2), count: get_u16(body, 2..4), first: get_u32(body, 4..8) };
        let wide = |at: usize| u64::from(get_u32(body, at..at + 4)) << 32 | u64::from(get_u32(body, at + 4..at + 8));
        Ok(match kind {
            kind::HELLO => {
                at_least(5)?;
                if body[..4] != MAGIC {
                    return Err(Error::Malformed);
                }
                if body[4] != VERSION {
                    return Err(Error::Unsupported);
                }
                exactly(12)?;
                let role = match body[6] {
                    0 => Role::Backup,
                    1 => Role::Master,
                    _ => return Err(Error::Malformed),
                };
                Frame::Hello(Hello { syncid: body[5], role, ports: get_u16(body, 8..10), epoch: get_u16(body, 10..12) })
            }
            kind::REFUSAL => {
                exactly(4)?;
                Frame::Refusal(match body[0] {
                    1 => Reason::Version,
                    2 => Reason::Syncid,
                    3 => Reason::Busy,
                    other => Reason::Other(other),
                })
            }
            kind::TABLE => {
                exactly(4)?;
                Frame::Table { number: get_u32(body, 0..4) }
            }
            kind::BEGIN => {
                exactly(8)?;
                Frame::Begin { number: get_u32(body, 0..4), entries: get_u32(body, 4..8) }
            }
            kind::RECORDS => {
                at_least(4)?;
                Frame::Records { number: get_u32(body, 0..4), datagram: &body[4..] }
            }
            kind::END => {
                exactly(32)?;
                let digest = Digest { records: wide(8), sum: wide(16), mix: wide(24) };
                Frame::End { number: get_u32(body, 0..4), digest }
            }
            kind::POSITION if body.len().is_multiple_of(4) => Frame::Position(Position(body)),
            kind::POSITION => return Err(Error::Malformed),
            kind::ASK => {
                exactly(8)?;
                Frame::Ask(span())
            }
            kind::AGAIN => {
                at_least(4)?;
                Frame::Again { port: get_u16(body, 0..2), datagram: &body[4..] }
            }
            kind::GONE => {
                exactly(8)?;
                Frame::Gone(span())
            }
            kind::ALIVE => {
                exactly(0)?;
                Frame::Alive
            }
            _ => return Err(Error::Unsupported),
        })
    }

    /// Appends the frame to octets. What is longer than a body can be is cut, and refused by who reads it.
    pub fn emit(&self, octets: &mut Vec<u8>) {
        let start = octets.len();
        octets.extend([0; HEADER_OCTETS]);
        let kind = match *self {
            Frame::Hello(Hello { syncid, role, ports, epoch }) => {
                octets.extend(MAGIC);
                octets.extend([VERSION, syncid, u8::from(role == Role::Master), 0]);
                octets.extend(ports.to_be_bytes());
                octets.extend(epoch.to_be_bytes());
                kind::HELLO
            }
            Frame::Refusal(reason) => {
                let code = match reason {
                    Reason::Version => 1,
                    Reason::Syncid => 2,
                    Reason::Busy => 3,
                    Reason::Other(code) => code,
                };
                octets.extend([code, 0, 0, 0]);
                kind::REFUSAL
            }
            Frame::Table { number } => {
                octets.extend(number.to_be_bytes());
                kind::TABLE
            }
            Frame::Begin { number, entries } => {
                octets.extend(number.to_be_bytes());
                octets.extend(entries.to_be_bytes());
                kind::BEGIN
            }
            Frame::Records { number, datagram } => {
                octets.extend(number.to_be_bytes());
                octets.extend_from_slice(&datagram[..datagram.len().min(BODY_MAX - 4)]);
                kind::RECORDS
            }
            Frame::End { number, digest } => {
                octets.extend(number.to_be_bytes());
                octets.extend([0; 4]);
                for word in [digest.records, digest.sum, digest.mix] {
                    octets.extend(word.to_be_bytes());
                }
                kind::END
            }
            Frame::Position(Position(numbers)) => {
                octets.extend_from_slice(numbers);
                kind::POSITION
            }
            Frame::Ask(span) => {
                emit_span(octets, span);
                kind::ASK
            }
            Frame::Again { port, datagram } => {
                octets.extend(port.to_be_bytes());
                octets.extend([0; 2]);
                octets.extend_from_slice(&datagram[..datagram.len().min(BODY_MAX - 4)]);
                kind::AGAIN
            }
            Frame::Gone(span) => {
                emit_span(octets, span);
                kind::GONE
            }
            Frame::Alive => kind::ALIVE,
        };
        end_frame(octets, start, kind);
    }
}

/// Appends a [`Frame::Position`] of these numbers.
pub fn emit_position(octets: &mut Vec<u8>, numbers: impl Iterator<Item = u32>) {
    let start = octets.len();
    octets.extend([0; HEADER_OCTETS]);
    numbers.for_each(|number| octets.extend(number.to_be_bytes()));
    end_frame(octets, start, kind::POSITION);
}

fn emit_span(octets: &mut Vec<u8>, span: Span) {
    octets.extend(span.port.to_be_bytes());
    octets.extend(span.count.to_be_bytes());
    octets.extend(span.first.to_be_bytes());
}

fn end_frame(octets: &mut [u8], start: usize, kind: u8) {
    let length = (octets.len() - start - HEADER_OCTETS) as u16;
    octets[start] = kind;
    octets[start + 2..start + 4].copy_from_slice(&length.to_be_bytes());
}
