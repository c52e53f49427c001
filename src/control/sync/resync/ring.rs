//! A master's numbers, and the datagrams of the last moments.

use std::collections::VecDeque;

use crate::wire::sync::{Stamp, put_stamp};

/// Datagrams of one sync port that are kept; older ones can be repaired by a resync alone.
pub const RING_MAX: usize = 1024;
/// Octets that are kept of all ports together, in equal parts.
pub const RING_OCTETS_MAX: usize = 8 << 20;

/// The numbers of one sync port.
#[derive(Debug)]
pub(super) struct Ring {
    /// The number of the next datagram.
    next: u32,
    /// The last ones; `None` for a number whose datagram never left.
    kept: VecDeque<Option<Vec<u8>>>,
    octets: usize,
    octets_max: usize,
}

impl Ring {
    /// An empty one; a ring for each of so many ports.
    pub(super) fn new(ports: u16) -> Self {
        let octets_max = RING_OCTETS_MAX / usize::from(ports.max(1));
        Self { next: 1, kept: VecDeque::new(), octets: 0, octets_max }
    }

    /// The number of the next datagram.
    pub(super) const fn next(&self) -> u32 {
        self.next
    }

    /// Numbers a datagram and keeps it. One that has no place for a number, or none within `octets_max`, goes as it is.
    pub(super) fn number(&mut self, datagram: &mut Vec<u8>, epoch: u16, octets_max: usize) {
        let stamp = Stamp { epoch, number: self.next };
        if datagram.len() + crate::wire::sync::STAMP_OCTETS <= octets_max && put_stamp(datagram, stamp) {
            self.octets += datagram.len();
            self.keep(Some(datagram.clone()));
        }
    }

    /// Leaves a number out, so that backups learn that something was lost before it was a datagram.
    pub(super) fn leave_out(&mut self) {
        self.keep(None);
    }

    fn keep(&mut self, datagram: Option<Vec<u8>>) {
        self.next = self.next.wrapping_add(1);
        self.kept.push_back(datagram);
        while self.kept.len() > RING_MAX || self.octets > self.octets_max {
            let Some(gone) = self.kept.pop_front() else { return };
            self.octets -= gone.map_or(0, |datagram| datagram.len());
        }
    }

    /// A datagram, if it is still there.
    pub(super) fn get(&self, number: u32) -> Option<&[u8]> {
        let back = self.next.wrapping_sub(number) as usize;
        let index = self.kept.len().checked_sub(back).filter(|_| back > 0)?;
        self.kept.get(index)?.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::hex;
    use crate::wire::sync::Message;

    const DATAGRAM: &str =
        "0005002c 01010000 00060024 00000000 0001 0401 0050 0050 00000000 00000384 0a010001 0a090001 0a020001";

    #[test]
    fn the_last_ones_are_there_by_their_numbers() {
        let mut ring = Ring::new(1);
        ring.next = u32::MAX - 5;
        let first = ring.next;
        for step in 0..2000u32 {
            if step % 7 == 3 {
                ring.leave_out();
                continue;
            }
            let mut datagram = hex(DATAGRAM);
            ring.number(&mut datagram, 9, 1472);
            let stamp = Message::parse(&datagram).unwrap().stamp().unwrap();
            assert_eq!((stamp.epoch, stamp.number), (9, first.wrapping_add(step)));
            assert_eq!(ring.get(stamp.number), Some(&datagram[..]));
        }
        for step in 0..2000u32 {
            let is_there = step >= 2000 - RING_MAX as u32 && step % 7 != 3;
            assert_eq!(ring.get(first.wrapping_add(step)).is_some(), is_there, "{step}");
        }
        assert_eq!(ring.get(ring.next), None);
        assert_eq!(ring.get(ring.next.wrapping_add(1)), None);
    }

    #[test]
    fn octets_are_bounded_and_long_datagrams_go_as_they_are() {
        let mut ring = Ring::new(64);
        ring.octets_max = 520;
        for _ in 0..100 {
            ring.number(&mut hex(DATAGRAM), 9, 1472);
        }
        assert_eq!((ring.kept.len(), ring.octets), (10, 520));
        let mut datagram = hex(DATAGRAM);
        let octets_max = datagram.len() + 7;
        ring.number(&mut datagram, 9, octets_max);
        assert_eq!((datagram, ring.next), (hex(DATAGRAM), 101));
    }
}
