//! IPv4 options of packets that are balanced: record route and timestamp get their next slot filled, as from any host
//! that receives them (RFC 791 section 3.1).
//!
//! The kernel does so before IPVS sees the packet; here it is done when it is clear that the packet is not the host's,
//! whose stack does it itself.
//!
//! Source: `ip_options_compile`, `ip_rcv_options`, `ip_forward_options` of Linux 6.1.
//!
//! **Deviation**: packets for services that carry a source route are dropped whatever the interface's
//! `accept_source_route` says (the kernel's default drops them too).

use crate::base::{Address, Instant};
use crate::conn::Direction;
use crate::forward::decide::Decision;
use crate::forward::parse::{OPTIONS, Packet};
use crate::forward::pipeline::Forwarder;
use crate::wire::checksum;

/// Octets of a header without options.
const FIXED_OCTETS: usize = 20;

const END: u8 = 0;
const NO_OPERATION: u8 = 1;
const RECORD_ROUTE: u8 = 7;
const TIMESTAMP: u8 = 68;
const LOOSE_SOURCE_ROUTE: u8 = 131;
const STRICT_SOURCE_ROUTE: u8 = 137;
const ROUTER_ALERT: u8 = 148;

/// Kinds of timestamps: alone, behind the address of who stamps, at addresses that the sender gave.
const TIMES: u8 = 0;
const ADDRESSES_AND_TIMES: u8 = 1;
const GIVEN_ADDRESSES: u8 = 3;

/// What options ask of us.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Wish {
    /// Nothing that would keep the packet.
    Ordinary,
    /// To be sent on by a route that the sender chose.
    SourceRoute,
    /// Nothing that could be understood: the host says so to the sender.
    Malformed,
}

/// What is written into slots.
struct Stamp<'a> {
    address: u32,
    /// Milliseconds since midnight, universal time.
    milliseconds: u32,
    /// Whether an address is the director's.
    is_local: &'a dyn Fn(u32) -> bool,
}

impl Packet {
    /// True for IPv4 packets with options.
    #[inline]
    pub(super) fn has_options(&self) -> bool {
        self.care & OPTIONS != 0
    }
}

impl Forwarder {
    /// What the options of a packet in a frame ask of us.
    #[cold]
    pub(super) fn wish(frame: &[u8], packet: &Packet) -> Wish {
        let options = usize::from(packet.network) + FIXED_OCTETS..usize::from(packet.transport);
        read(&frame[options])
    }

    /// Fills in the slots of a packet that is not the host's: with the virtual address, towards which it goes or from
    /// which it will come.
    #[cold]
    pub(super) fn stamp_options(
        &self,
        frame: &mut [u8],
        packet: &Packet,
        decision: &Decision,
        service: Address,
        now: Instant,
    ) {
        let address = match decision {
            Decision::ToClient | Decision::RelayToClient | Decision::Changed { direction: Direction::Outbound, .. } => {
                service
            }
            _ => packet.destination.address,
        };
        let stamp = Stamp {
            address: address.low_u32(),
            milliseconds: self.shared.milliseconds_of_day(now),
            is_local: &|address| self.routes().is_local(Address::v4(address)),
        };
        stamp.write(&mut frame[usize::from(packet.network)..usize::from(packet.transport)]);
    }
}

/// Takes the options apart, no more and no less strictly than the kernel.
fn read(options: &[u8]) -> Wish {
    let mut wish = Wish::Ordinary;
    let mut seen = [false; 3];
    let mut first = |which: usize| !std::mem::replace(&mut seen[which], true);
    let mut rest = options;
    while let [kind, behind @ ..] = rest {
        match *kind {
            END => break,
            NO_OPERATION => {
                rest = behind;
                continue;
            }
            _ => {}
        }
        let length = behind.first().map_or(0, |length| usize::from(*length));
        let Some((option, after)) = rest.split_at_checked(length).filter(|_| length >= 2) else {
            return Wish::Malformed;
        };
        let is_sound = match *kind {
            LOOSE_SOURCE_ROUTE | STRICT_SOURCE_ROUTE => {
                wish = Wish::SourceRoute;
                length >= 3 && option[2] >= 4 && first(0)
            }
            RECORD_ROUTE => length >= 3 && option[2] >= 4 && has_room(option, 4) && first(1),
            TIMESTAMP => length >= 4 && option[2] >= 5 && timestamp_is_sound(option) && first(2),
            ROUTER_ALERT => length >= 4,
            _ => true,
        };
        if !is_sound {
            return Wish::Malformed;
        }
        rest = after;
    }
    wish
}

/// True when the slot that the pointer points to is in the option, or the pointer is past it.
fn has_room(option: &[u8], slot_octets: usize) -> bool {
    let at = usize::from(option[2]);
    at > option.len() || at + slot_octets - 1 <= option.len()
}

fn timestamp_is_sound(option: &[u8]) -> bool {
    let is_full = usize::from(option[2]) > option.len();
    match option[3] & 0xf {
        GIVEN_ADDRESSES if is_full => true,
        // Fifteen have been left out already.
        _ if is_full => option[3] >> 4 != 15,
        ADDRESSES_AND_TIMES | GIVEN_ADDRESSES => has_room(option, 8),
        _ => has_room(option, 4),
    }
}

impl Stamp<'_> {
    /// Fills in the slots of a header that [`read`] found sound, and mends its checksum.
    fn write(&self, header: &mut [u8]) {
        let (fixed, options) = header.split_at_mut(FIXED_OCTETS);
        let mut at = 0;
        while at < options.len() {
            match options[at] {
                // What follows the end is cleared.
                END => {
                    options[at..].fill(END);
                    break;
                }
                NO_OPERATION => at += 1,
                kind => {
                    let length = options.get(at + 1).map_or(0, |length| usize::from(*length));
                    let Some(option) = options.get_mut(at..at + length).filter(|_| length >= 2) else { break };
                    match kind {
                        RECORD_ROUTE if length >= 3 => self.record(option),
                        TIMESTAMP if length >= 4 => self.stamp(option),
                        _ => {}
                    }
                    at += length;
                }
            }
        }
        fixed[10..12].fill(0);
        let sum = checksum::of(header);
        header[10..12].copy_from_slice(&sum.to_be_bytes());
    }

    fn record(&self, option: &mut [u8]) {
        // The pointer counts from one.
        let slot = usize::from(option[2]).wrapping_sub(1);
        if put(option, slot, self.address) {
            option[2] += 4;
        }
    }

    fn stamp(&self, option: &mut [u8]) {
        let slot = usize::from(option[2]).wrapping_sub(1);
        if slot >= option.len() {
            // Full: whoever had no room is counted.
            if option[3] & 0xf != GIVEN_ADDRESSES {
                option[3] = option[3].wrapping_add(0x10);
            }
            return;
        }
        let filled = match option[3] & 0xf {
            TIMES => put(option, slot, self.milliseconds).then_some(4),
            ADDRESSES_AND_TIMES => {
                (put(option, slot + 4, self.milliseconds) && put(option, slot, self.address)).then_some(8)
            }
            GIVEN_ADDRESSES => {
                let given = option.get(slot..).and_then(|slot| slot.first_chunk());
                let is_ours = given.is_some_and(|octets| (self.is_local)(u32::from_be_bytes(*octets)));
                (is_ours && put(option, slot + 4, self.milliseconds)).then_some(8)
            }
            _ => None,
        };
        option[2] += filled.unwrap_or(0);
    }
}

/// Writes a word at an offset; false when there is no room.
fn put(option: &mut [u8], at: usize, word: u32) -> bool {
    let Some(slot) = option.get_mut(at..).and_then(|rest| rest.first_chunk_mut::<4>()) else { return false };
    *slot = word.to_be_bytes();
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Rng;
    use crate::wire::hex;

    /// Of 10.9.0.1, at 0x04410930 milliseconds after midnight.
    fn stamped(options: &str) -> Vec<u8> {
        let options = hex(options);
        let header_octets = FIXED_OCTETS + options.len();
        let mut header = vec![0x40 | (header_octets / 4) as u8];
        header.resize(FIXED_OCTETS, 0);
        header.extend(options);
        let is_local = |address| address == 0x0a090001;
        Stamp { address: 0x0a090001, milliseconds: 0x0441_0930, is_local: &is_local }.write(&mut header);
        assert_eq!(checksum::of(&header), 0);
        header.split_off(FIXED_OCTETS)
    }

    /// Recorded from the kernel.
    #[test]
    fn slots_are_filled_as_by_the_kernel() {
        assert_eq!(stamped("070b0400000000000000000 0"), hex("070b080a0900010000000000"));
        assert_eq!(stamped("440c050000000000 00000000"), hex("440c09000441093000000000"));
        assert_eq!(stamped("01010101"), hex("01010101"));
        assert_eq!(stamped("94040000"), hex("94040000"));
    }

    #[test]
    fn full_options_keep_what_they_have() {
        assert_eq!(stamped("0707080a01000200"), hex("0707080a01000200"));
        // A timestamp counts who found no room.
        assert_eq!(stamped("4408092001020304"), hex("4408093001020304"));
        assert_eq!(stamped("4404052300000000")[..4], hex("44040523")[..], "not those that are asked for by address");
    }

    #[test]
    fn timestamps_come_with_addresses_where_these_are_asked_for() {
        assert_eq!(stamped("440c0501 00000000 00000000"), hex("440c0d01 0a090001 04410930"));
        assert_eq!(stamped("440c0503 0a090001 00000000"), hex("440c0d03 0a090001 04410930"));
        assert_eq!(stamped("440c0503 0a090002 00000000"), hex("440c0503 0a090002 00000000"), "another's turn");
    }

    #[test]
    fn what_follows_the_end_is_cleared() {
        assert_eq!(stamped("0100070304000000"), hex("0100000000000000"));
    }

    #[test]
    fn options_are_read_as_the_kernel_reads_them() {
        for (options, wish) in [
            ("01010101", Wish::Ordinary),
            ("94040000", Wish::Ordinary),
            ("070b040000000000000000 00", Wish::Ordinary),
            ("8307040a09000500", Wish::SourceRoute),
            ("8907040a09000500", Wish::SourceRoute),
            ("07", Wish::Malformed),
            ("0700", Wish::Malformed),
            ("070c0400", Wish::Malformed),
            // A pointer into the head, a slot beyond the end, the same option twice.
            ("0707030000000000", Wish::Malformed),
            ("0706040000000100", Wish::Malformed),
            ("0703040703040000", Wish::Malformed),
            ("4408050100000000", Wish::Malformed),
            ("440409f000000000", Wish::Malformed),
            ("9403000000000000", Wish::Malformed),
        ] {
            assert_eq!(read(&hex(options)), wish, "{options}");
        }
    }

    #[test]
    fn arbitrary_options_never_panic_and_stay_readable() {
        let mut rng = Rng::new(3);
        let mut sound = 0;
        for _ in 0..50_000 {
            let mut header = vec![0; FIXED_OCTETS + 4 * (1 + rng.below(10) as usize)];
            for octet in &mut header[FIXED_OCTETS..] {
                *octet = [7, 68, 1, 0, 131, 3, 4, 8, 12, rng.next_u32() as u8][rng.below(10) as usize];
            }
            let is_local = |address| address % 2 == 0;
            let stamp = Stamp { address: 1, milliseconds: 2, is_local: &is_local };
            if read(&header[FIXED_OCTETS..]) == Wish::Malformed {
                stamp.write(&mut header);
                continue;
            }
            sound += 1;
            stamp.write(&mut header);
            assert_eq!(checksum::of(&header), 0);
        }
        assert!(sound > 1000, "{sound} were sound");
    }
}
