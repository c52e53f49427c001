//! Datagrams in the making: fragments wait here, in the frames they came in, until they are all there.
//!
//! Pure state: it holds frames and gives them back, and knows no port; `defragment` drives it. What it does with
//! overlaps, duplicates and ends that contradict each other is what the kernel does, which needs to know the order of
//! arrival: fragments that came one after the other and adjoin form a run, and one that lies within a run is a
//! duplicate, while one that lies across its border overlaps.
//!
//! **Limits**: [`DATAGRAMS_MAX`] datagrams a worker, [`FRAGMENTS_MAX`] fragments each, [`HELD_FRAMES_MAX`] frames (fewer
//! with a small port) in all, [`HELD_LARGE_MAX`] large ones; past them the datagram that began first goes, or the first
//! with a large frame. All memory is taken at start.
//!
//! Source: `net/ipv4/inet_fragment.c` (`inet_frag_queue_insert`), `ip_fragment.c` (`ip_frag_queue`, `ip_frag_reasm`),
//! `net/ipv6/netfilter/nf_conntrack_reasm.c` of Linux 6.1; RFC 5722 for overlaps, RFC 3168 section 5.3 for congestion.
//!
//! **Deviation**: the kernel refuses new datagrams when its memory for fragments is full; here the oldest one goes,
//! so that a flood of lone fragments cannot keep whole datagrams out until its timeout.

use crate::base::{Duration, Family, Frame, Instant};
use crate::forward::parse::{AH, FRAGMENT};
use crate::forward::place::{FRAGMENT_OCTETS, Key, PACKET_OCTETS_MAX, Place, extension_octets};
use crate::forward::verdict::DropReason;
use crate::port::BATCH_FRAMES;
use crate::wire;

/// Datagrams that one worker puts together at a time.
pub(super) const DATAGRAMS_MAX: usize = 256;
/// Fragments of one datagram: the largest in pieces for links of 576 octets.
pub(super) const FRAGMENTS_MAX: usize = 128;
/// Frames that wait with one worker at most.
pub(super) const HELD_FRAMES_MAX: usize = 1024;
/// Of these, large ones ([`crate::port::Port::is_large`]): a batch of such frames must still find room.
pub(super) const HELD_LARGE_MAX: usize = BATCH_FRAMES;

/// How long a datagram's fragments wait for the rest: `net.ipv4.ipfrag_time` and
/// `net.netfilter.nf_conntrack_frag6_timeout` as the kernel starts.
const TIMEOUT_V4: Duration = Duration::from_secs(30);
const TIMEOUT_V6: Duration = Duration::from_secs(60);

const IPV6_HEADER_OCTETS: usize = 40;

/// A fragment that waits.
#[derive(Debug)]
pub(super) struct Piece {
    /// Where it came.
    pub frame: Frame,
    /// Of the payload, within the frame.
    pub start: u16,
    /// Of the payload, within the datagram's.
    pub offset: u32,
    /// Octets of the payload.
    pub octets: u32,
    /// Position in order of arrival.
    pub arrival: u16,
    is_large: bool,
    /// It begins a run.
    begins_run: bool,
}

impl Piece {
    const fn end(&self) -> u32 {
        self.offset + self.octets
    }
}

/// A datagram in the making.
#[derive(Debug)]
pub(super) struct Datagram {
    key: Key,
    deadline: Instant,
    /// In order of their offsets; they do not overlap.
    pub pieces: Vec<Piece>,
    /// Octets of the payload as far as known.
    pub octets: u32,
    received: u32,
    has_last: bool,
    /// Octets of the longest fragment, header included.
    pub widest: u16,
    /// Of the longest with DF set.
    widest_uncut: u16,
    congestion: u8,
}

impl Datagram {
    pub(super) fn family(&self) -> Family {
        self.key.source.family()
    }

    /// IPv4: the longest fragment has DF set.
    pub(super) const fn dont_fragment(&self) -> bool {
        self.widest == self.widest_uncut
    }

    /// The first fragment, if it is there.
    pub(super) fn first(&self) -> Option<&Piece> {
        self.pieces.first().filter(|piece| piece.offset == 0)
    }

    /// How many of its frames are large.
    fn large(&self) -> usize {
        self.pieces.iter().filter(|piece| piece.is_large).count()
    }

    const fn is_whole(&self) -> bool {
        self.has_last && self.received == self.octets
    }

    /// Whether all of the datagram's fragments had one ECN field, or met congestion on the way (RFC 3168).
    fn congestion(&self) -> Result<u8, DropReason> {
        const NOT_CAPABLE: u8 = 1;
        const MET: u8 = 1 << 3;
        match self.congestion {
            NOT_CAPABLE => Ok(0),
            mixed if mixed & NOT_CAPABLE != 0 => Err(DropReason::FragmentsMismatch),
            mixed if mixed & MET != 0 => Ok(3),
            _ => Ok(0),
        }
    }

    /// Writes the IP packet into `packet`, which has room for the longest; `octets_of` gives the octets of a frame.
    /// Returns the packet's length and that of what comes before the transport header of each fragment, extension
    /// headers inside the payload not counted.
    ///
    /// # Errors
    /// When there is no such packet.
    pub(super) fn write<'a>(
        &self,
        packet: &mut [u8],
        network: usize,
        octets_of: impl Fn(&Frame) -> &'a [u8],
    ) -> Result<(usize, usize), DropReason> {
        let congestion = self.congestion()?;
        let first = self.first().ok_or(DropReason::Malformed)?;
        let octets = octets_of(&first.frame);
        let (header, most) = match self.family() {
            Family::V4 => (&octets[network..usize::from(first.start)], PACKET_OCTETS_MAX),
            Family::V6 => {
                let header = &octets[network..usize::from(first.start) - FRAGMENT_OCTETS];
                (header, PACKET_OCTETS_MAX + IPV6_HEADER_OCTETS)
            }
        };
        let length = header.len() + self.octets as usize;
        if length > most || length > packet.len() {
            return Err(DropReason::FragmentsMismatch);
        }
        packet[..header.len()].copy_from_slice(header);
        for piece in &self.pieces {
            let from = usize::from(piece.start);
            let payload = &octets_of(&piece.frame)[from..from + piece.octets as usize];
            packet[header.len() + piece.offset as usize..][..payload.len()].copy_from_slice(payload);
        }
        match self.family() {
            Family::V4 => self.finish_v4(&mut packet[..header.len()], length, congestion),
            Family::V6 => {
                let next_header = octets[usize::from(first.start) - FRAGMENT_OCTETS];
                finish_v6(&mut packet[..header.len()], length, next_header, congestion);
            }
        }
        Ok((length, header.len()))
    }

    fn finish_v4(&self, header: &mut [u8], length: usize, congestion: u8) {
        header[1] |= congestion;
        header[2..4].copy_from_slice(&(length as u16).to_be_bytes());
        header[6..8].copy_from_slice(&(u16::from(self.dont_fragment()) << 14).to_be_bytes());
        header[10..12].fill(0);
        let sum = wire::checksum::of(header);
        header[10..12].copy_from_slice(&sum.to_be_bytes());
    }
}

/// Takes the fragment header out of the chain that led to it.
fn finish_v6(header: &mut [u8], length: usize, next_header: u8, congestion: u8) {
    header[1] |= congestion << 4;
    header[4..6].copy_from_slice(&((length - IPV6_HEADER_OCTETS) as u16).to_be_bytes());
    let (mut field, mut at) = (6, IPV6_HEADER_OCTETS);
    while header[field] != FRAGMENT && at + 8 <= header.len() {
        let octets = match header[field] {
            AH => (usize::from(header[at + 1]) + 2) * 4,
            _ => extension_octets(&header[at..]),
        };
        (field, at) = (at, at + octets);
    }
    header[field] = next_header;
}

/// What became of a fragment.
#[derive(Debug)]
pub(super) enum Gathered {
    /// It waits.
    Waits,
    /// It goes nowhere; perhaps nor do those that waited for it.
    Refused(Frame, DropReason),
    /// It was the last one missing.
    Whole(Datagram),
}

/// The datagrams in the making of one worker.
#[derive(Debug)]
pub(super) struct Reassembly {
    /// In the order in which they began.
    datagrams: Vec<Datagram>,
    spare: Vec<Vec<Piece>>,
    held: usize,
    held_max: usize,
    held_large: usize,
    /// No datagram ends before.
    next_deadline: Instant,
    /// Frames to be given back, each with the reason.
    pub discarded: Vec<(Frame, DropReason)>,
}

impl Default for Reassembly {
    fn default() -> Self {
        Self {
            datagrams: Vec::with_capacity(DATAGRAMS_MAX),
            spare: (0..DATAGRAMS_MAX + BATCH_FRAMES).map(|_| Vec::with_capacity(FRAGMENTS_MAX)).collect(),
            held: 0,
            held_max: HELD_FRAMES_MAX,
            held_large: 0,
            next_deadline: Instant::START,
            discarded: Vec::with_capacity(HELD_FRAMES_MAX),
        }
    }
}

impl Reassembly {
    /// Holds no more than a share of the port's frames: the others are for traffic.
    pub(super) fn limit(&mut self, frames: usize) {
        self.held_max = (frames / 4).clamp(1, HELD_FRAMES_MAX);
    }

    /// Frames that wait.
    pub(super) const fn held(&self) -> usize {
        self.held
    }

    /// Takes a fragment; `is_large` as its port says.
    pub(super) fn gather(&mut self, frame: Frame, is_large: bool, place: &Place, now: Instant) -> Gathered {
        let position = match self.datagrams.iter().position(|datagram| datagram.key == place.key) {
            Some(position) => position,
            None => self.begin(place.key, now),
        };
        if let Err(reason) = self.datagrams[position].accepts(place) {
            if !self.survives(position, reason) {
                self.discard(position, reason);
            } else if self.datagrams[position].pieces.is_empty() {
                let empty = self.take(position);
                self.recycle(empty);
            }
            return Gathered::Refused(frame, reason);
        }
        let datagram = &mut self.datagrams[position];
        datagram.insert(frame, is_large, place);
        self.held += 1;
        self.held_large += usize::from(is_large);
        if datagram.is_whole() {
            return Gathered::Whole(self.take(position));
        }
        if datagram.pieces.len() >= FRAGMENTS_MAX {
            self.discard(position, DropReason::FragmentsFull);
        } else if self.held > self.held_max {
            self.discard(0, DropReason::FragmentsFull);
        } else if self.held_large > HELD_LARGE_MAX
            && let Some(first) = self.datagrams.iter().position(|datagram| datagram.large() > 0)
        {
            self.discard(first, DropReason::FragmentsFull);
        }
        Gathered::Waits
    }

    /// Takes out a datagram; its frames wait no more.
    fn take(&mut self, position: usize) -> Datagram {
        let datagram = self.datagrams.remove(position);
        self.held -= datagram.pieces.len();
        self.held_large -= datagram.large();
        datagram
    }

    /// Whether a datagram waits on for the rest after a fragment that does not fit: after a duplicate it does, and
    /// netfilter leaves an IPv6 datagram alone whose end a fragment contradicts.
    fn survives(&self, position: usize, reason: DropReason) -> bool {
        match reason {
            DropReason::FragmentDuplicate => true,
            DropReason::Malformed => self.datagrams[position].family() == Family::V6,
            _ => false,
        }
    }

    /// Takes out a datagram whose time has run out.
    pub(super) fn expire(&mut self, now: Instant) -> Option<Datagram> {
        if self.datagrams.is_empty() || now < self.next_deadline {
            return None;
        }
        let due = self.datagrams.iter().position(|datagram| datagram.deadline <= now);
        let Some(position) = due else {
            let deadlines = self.datagrams.iter().map(|datagram| datagram.deadline);
            self.next_deadline = deadlines.min().unwrap_or(Instant::START);
            return None;
        };
        Some(self.take(position))
    }

    /// Takes back the memory of a datagram that is done.
    pub(super) fn recycle(&mut self, datagram: Datagram) {
        debug_assert!(datagram.pieces.is_empty(), "every frame has gone somewhere");
        let mut pieces = datagram.pieces;
        pieces.clear();
        self.spare.push(pieces);
    }

    fn begin(&mut self, key: Key, now: Instant) -> usize {
        if self.datagrams.len() == DATAGRAMS_MAX {
            self.discard(0, DropReason::FragmentsFull);
        }
        let timeout = match key.source.family() {
            Family::V4 => TIMEOUT_V4,
            Family::V6 => TIMEOUT_V6,
        };
        let deadline = now + timeout;
        if self.datagrams.is_empty() || deadline < self.next_deadline {
            self.next_deadline = deadline;
        }
        self.datagrams.push(Datagram {
            key,
            deadline,
            pieces: self.spare.pop().unwrap_or_default(),
            octets: 0,
            received: 0,
            has_last: false,
            widest: 0,
            widest_uncut: 0,
            congestion: 0,
        });
        self.datagrams.len() - 1
    }

    fn discard(&mut self, position: usize, reason: DropReason) {
        let mut datagram = self.take(position);
        self.discarded.extend(datagram.pieces.drain(..).map(|piece| (piece.frame, reason)));
        self.recycle(datagram);
    }
}

impl Datagram {
    /// Whether a fragment fits those that are there.
    fn accepts(&mut self, place: &Place) -> Result<(), DropReason> {
        let (offset, end) = (place.offset, place.offset + place.octets);
        if place.is_last {
            if end < self.octets || self.has_last && end != self.octets {
                return Err(self.contradicts());
            }
        } else if end > self.octets && self.has_last {
            return Err(self.contradicts());
        }
        if place.octets == 0 {
            return Err(DropReason::Malformed);
        }
        // That counts even if the fragment is a duplicate.
        self.has_last |= place.is_last;
        self.octets = self.octets.max(end);
        let Some(last) = self.pieces.last() else { return Ok(()) };
        if last.end() < end {
            return if offset < last.end() { Err(DropReason::FragmentOverlap) } else { Ok(()) };
        }
        // The runs that it touches: of those before it the nearest, and those after it.
        for (run_offset, run_end) in self.runs() {
            if end <= run_offset || offset >= run_end {
                continue;
            }
            let is_within = offset >= run_offset && end <= run_end;
            return Err(if is_within { DropReason::FragmentDuplicate } else { DropReason::FragmentOverlap });
        }
        Ok(())
    }

    fn contradicts(&self) -> DropReason {
        match self.family() {
            Family::V4 => DropReason::FragmentOverlap,
            Family::V6 => DropReason::Malformed,
        }
    }

    /// First and last octet of each run.
    fn runs(&self) -> impl Iterator<Item = (u32, u32)> {
        self.pieces.chunk_by(|_, next| !next.begins_run).map(|run| (run[0].offset, run[run.len() - 1].end()))
    }

    fn insert(&mut self, frame: Frame, is_large: bool, place: &Place) {
        let position = self.pieces.partition_point(|piece| piece.offset < place.offset);
        let is_last = position == self.pieces.len();
        let adjoins = self.pieces.last().is_some_and(|last| last.end() == place.offset);
        let piece = Piece {
            frame,
            start: place.start,
            offset: place.offset,
            octets: place.octets,
            arrival: self.pieces.len() as u16,
            is_large,
            begins_run: !(is_last && adjoins),
        };
        self.pieces.insert(position, piece);
        self.received += place.octets;
        self.congestion |= place.congestion;
        self.widest = self.widest.max(place.width);
        if place.dont_fragment {
            self.widest_uncut = self.widest_uncut.max(place.width);
        }
    }
}

#[cfg(test)]
mod tests;
