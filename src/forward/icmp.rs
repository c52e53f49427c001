//! ICMP errors that the director itself sends to clients.

use crate::base::{Family, Frame, Instant};
use crate::forward::decide::Answer;
use crate::forward::parse::{ETHERNET_OCTETS, Packet};
use crate::forward::pipeline::Forwarder;
use crate::forward::verdict::{DropReason, Verdict};
use crate::port::Port;
use crate::route::Route;
use crate::wire::{icmpv4, icmpv6};

/// Errors that one worker sends in a second at most, and in a burst. The kernel limits per destination
/// (`net.ipv4.icmp_ratelimit`) and in all (`icmp_msgs_per_sec`, 1000); **Deviation**: here the latter alone.
pub const ANSWERS_PER_SECOND_MAX: u64 = 1000;

/// How many errors may be sent now.
#[derive(Debug)]
pub(super) struct AnswerLimit {
    credit: u64,
    filled_until: Instant,
}

impl Default for AnswerLimit {
    fn default() -> Self {
        Self { credit: ANSWERS_PER_SECOND_MAX, filled_until: Instant::START }
    }
}

const NANOSECONDS_PER_ANSWER: u64 = 1_000_000_000 / ANSWERS_PER_SECOND_MAX;

impl AnswerLimit {
    /// Earns what the time since the last call is worth.
    #[inline]
    pub(super) fn refill(&mut self, now: Instant) {
        let earned = (now - self.filled_until).as_nanos() as u64 / NANOSECONDS_PER_ANSWER;
        if earned > 0 {
            self.credit = (self.credit + earned).min(ANSWERS_PER_SECOND_MAX);
            self.filled_until = now;
        }
    }

    fn spend(&mut self) -> bool {
        self.credit = match self.credit.checked_sub(1) {
            Some(left) => left,
            None => return false,
        };
        true
    }
}

/// What the sender of a packet is told, by its family.
#[derive(Clone, Copy, Debug)]
pub(super) enum Failure {
    V4(icmpv4::Failure),
    V6(icmpv6::Failure),
}

impl Forwarder {
    /// Answers a packet with an error and drops it.
    #[cold]
    pub(super) fn answer<P: Port>(&mut self, port: &mut P, frame: Frame, packet: &Packet, answer: Answer) -> Verdict {
        // RFC 1122 section 3.2.2: no error about an error.
        if packet.is_error {
            return self.settle(port, frame, None, Verdict::Drop(answer.reason()));
        }
        let failure = match packet.family {
            Family::V4 => Failure::V4(failure_v4(answer)),
            Family::V6 => Failure::V6(failure_v6(answer)),
        };
        self.tell(port, frame, packet, failure, answer.reason())
    }

    /// Tells the sender of a packet, which lies somewhere in the frame, of a failure, and drops the frame.
    #[cold]
    pub(super) fn tell<P: Port>(
        &mut self,
        port: &mut P,
        frame: Frame,
        packet: &Packet,
        failure: Failure,
        reason: DropReason,
    ) -> Verdict {
        let interface = frame.interface;
        let quoted = self.quote(port.bytes(&frame), packet);
        port.release(frame);
        if !self.answers.spend() {
            return Verdict::Drop(DropReason::RateLimited);
        }
        let Route::Unicast(hop) = self.routes().lookup(packet.source.address, 0) else {
            return Verdict::Drop(reason);
        };
        let next = match self.resolve(hop, packet.source.address) {
            Ok(next) => next,
            Err(unreachable) => return Verdict::Drop(unreachable),
        };
        let length = match packet.family {
            Family::V4 => icmpv4::error_length(usize::from(packet.length)),
            Family::V6 => icmpv6::error_length(usize::from(packet.length)),
        };
        let Some(reply) = port.allocate(ETHERNET_OCTETS + length, interface) else {
            return Verdict::Drop(DropReason::NoFrame);
        };
        let buffer = &mut port.bytes_mut(&reply)[ETHERNET_OCTETS..];
        let packet_octets = &self.scratch[..quoted];
        // The address that the packet was sent to, where it is one of ours.
        let to = packet.destination.address;
        let is_ours = match packet.family {
            Family::V4 => self.routes().is_local(to),
            // A local route is not enough: the kernel looks for the address on an interface.
            Family::V6 => self.routes.value().local_addresses().contains(&to),
        };
        let source = if is_ours { to } else { hop.source };
        let written = match failure {
            Failure::V4(failure) => {
                self.identification = self.identification.wrapping_add(1);
                icmpv4::emit_error(buffer, source, self.identification, failure, packet_octets)
            }
            Failure::V6(failure) => icmpv6::emit_error(buffer, source, failure, packet_octets),
        };
        if written.is_err() {
            port.release(reply);
            return Verdict::Drop(reason);
        }
        // Whether the error leaves says the port; the packet itself was dropped.
        let _ = self.send(port, reply, packet.family, &next);
        Verdict::Drop(reason)
    }

    /// Copies the packet (no more than an error can quote) into the scratch buffer, so that its frame may be given
    /// back before the answer needs one.
    fn quote(&mut self, frame: &[u8], packet: &Packet) -> usize {
        let from = usize::from(packet.network);
        let octets = &frame[from..from + usize::from(packet.length)];
        self.scratch.clear();
        self.scratch.extend_from_slice(octets);
        octets.len()
    }
}

fn failure_v4(answer: Answer) -> icmpv4::Failure {
    match answer {
        Answer::PortUnreachable | Answer::Unwanted => icmpv4::Failure::PortUnreachable,
        Answer::HostUnreachable => icmpv4::Failure::HostUnreachable,
        Answer::TimeExceeded => icmpv4::Failure::TimeExceeded,
        Answer::ReassemblyTimeExceeded => icmpv4::Failure::ReassemblyTimeExceeded,
        Answer::TooBig(mtu) => icmpv4::Failure::FragmentationNeeded { mtu },
    }
}

fn failure_v6(answer: Answer) -> icmpv6::Failure {
    match answer {
        Answer::PortUnreachable | Answer::Unwanted => icmpv6::Failure::PortUnreachable,
        Answer::HostUnreachable => icmpv6::Failure::AddressUnreachable,
        Answer::TimeExceeded => icmpv6::Failure::TimeExceeded,
        Answer::ReassemblyTimeExceeded => icmpv6::Failure::ReassemblyTimeExceeded,
        Answer::TooBig(mtu) => icmpv6::Failure::TooBig { mtu: u32::from(mtu) },
    }
}
