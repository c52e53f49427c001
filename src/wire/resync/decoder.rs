//! A stream of octets, cut into frames.

use std::ops::Range;

use crate::wire::resync::HEADER_OCTETS;
use crate::wire::{Error, get_u16};

/// Octets that have come and are not read yet. Between two [`Decoder::push`]es it holds less than a frame, if its user
/// takes all that are whole.
#[derive(Default, Debug)]
pub struct Decoder {
    pub(super) octets: Vec<u8>,
    /// Where the first frame begins that was not taken.
    start: usize,
    body_max: usize,
}

impl Decoder {
    /// A decoder of frames whose bodies have at most `body_max` octets.
    pub const fn new(body_max: usize) -> Self {
        Self { octets: Vec::new(), start: 0, body_max }
    }

    /// Takes what has come.
    pub fn push(&mut self, octets: &[u8]) {
        self.octets.drain(..self.start);
        self.start = 0;
        self.octets.extend_from_slice(octets);
    }

    /// The kind of the next whole frame, and where its body is; none until more has come.
    ///
    /// # Errors
    /// [`Error::Malformed`] for a header that is none, or a body that is longer than may be: what follows is no frame.
    pub fn next_frame(&mut self) -> Result<Option<(u8, Range<usize>)>, Error> {
        let rest = &self.octets[self.start..];
        if rest.len() < HEADER_OCTETS {
            return Ok(None);
        }
        let length = usize::from(get_u16(rest, 2..4));
        if rest[1] != 0 || length > self.body_max {
            return Err(Error::Malformed);
        }
        if rest.len() < HEADER_OCTETS + length {
            return Ok(None);
        }
        let body = self.start + HEADER_OCTETS;
        self.start = body + length;
        Ok(Some((rest[0], body..body + length)))
    }

    /// The body that [`Decoder::next_frame`] found, until the next push.
    pub fn body(&self, range: Range<usize>) -> &[u8] {
        self.octets.get(range).unwrap_or_default()
    }

    /// Octets that wait for the rest of their frame.
    pub fn waiting(&self) -> usize {
        self.octets.len() - self.start
    }
}
