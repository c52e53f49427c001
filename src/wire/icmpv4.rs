//! ICMP, RFC 792, RFC 1191 (next-hop MTU) and RFC 1812 section 4.3 (errors of routers).
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +---------------+---------------+-------------------------------+
//! |     Type      |     Code      |           Checksum            |
//! +---------------+---------------+-------------------------------+
//! |  by type: unused, identifier and sequence, or next-hop MTU    |
//! +---------------------------------------------------------------+
//! |  errors: the packet in question, as much of it as fits        |
//! +---------------------------------------------------------------+
//! ```

use crate::base::Address;
use crate::wire::{Error, checksum, get_u16, get_u32, ipv4, set_u16, set_u32};

/// Octets of the header.
pub const HEADER_OCTETS: usize = 8;
/// The protocol number.
pub const PROTOCOL: u8 = 1;
/// Octets of an error with its IP header, at most (RFC 1812 section 4.3.2.3).
pub const ERROR_OCTETS_MAX: usize = 576;

/// Type: echo reply.
pub const TYPE_ECHO_REPLY: u8 = 0;
/// Type: destination unreachable.
pub const TYPE_UNREACHABLE: u8 = 3;
/// Type: source quench (deprecated by RFC 6633).
pub const TYPE_SOURCE_QUENCH: u8 = 4;
/// Type: redirect.
pub const TYPE_REDIRECT: u8 = 5;
/// Type: echo request.
pub const TYPE_ECHO: u8 = 8;
/// Type: time exceeded.
pub const TYPE_TIME_EXCEEDED: u8 = 11;
/// Type: parameter problem.
pub const TYPE_PARAMETER_PROBLEM: u8 = 12;
/// Code of [`TYPE_UNREACHABLE`]: fragmentation needed and DF set.
pub const CODE_FRAGMENTATION_NEEDED: u8 = 4;

/// Time to live of our errors, as of all that Linux begins.
const TTL: u8 = 64;
/// Precedence *internetwork control*, RFC 1812 section 4.3.2.5.
const PRECEDENCE: u8 = 0xc0;
/// The bits of the old type-of-service field that Linux takes over into an error (`RT_TOS`).
const TOS_KEPT: u8 = 0x1e;

mod field {
    use std::ops::Range;

    pub const TYPE: usize = 0;
    pub const CODE: usize = 1;
    pub const CHECKSUM: Range<usize> = 2..4;
    pub const REST: Range<usize> = 4..8;
    pub const MTU: Range<usize> = 6..8;
}

/// A message from its header on.
#[derive(Clone, Copy, Debug)]
pub struct Message<T>(T);

impl<T: AsRef<[u8]>> Message<T> {
    /// The view of a message whose header is there.
    ///
    /// # Errors
    /// [`Error::Truncated`] when the header ends early.
    #[inline]
    pub fn new_checked(bytes: T) -> Result<Self, Error> {
        if bytes.as_ref().len() < HEADER_OCTETS { Err(Error::Truncated) } else { Ok(Message(bytes)) }
    }

    /// The view without any check.
    #[inline]
    pub const fn new_unchecked(bytes: T) -> Self {
        Message(bytes)
    }

    /// Type, see `TYPE_*`.
    #[inline]
    pub fn message_type(&self) -> u8 {
        self.0.as_ref()[field::TYPE]
    }

    /// Code, its meaning depends on the type.
    #[inline]
    pub fn code(&self) -> u8 {
        self.0.as_ref()[field::CODE]
    }

    /// The checksum as it stands.
    #[inline]
    pub fn checksum(&self) -> u16 {
        get_u16(self.0.as_ref(), field::CHECKSUM)
    }

    /// True when the checksum over all octets of the view is right.
    pub fn has_valid_checksum(&self) -> bool {
        checksum::of(self.0.as_ref()) == 0
    }

    /// The second word of the header.
    #[inline]
    pub fn rest(&self) -> u32 {
        get_u32(self.0.as_ref(), field::REST)
    }

    /// Next-hop MTU of *fragmentation needed*, octets; 0 from routers before RFC 1191.
    #[inline]
    pub fn mtu(&self) -> u16 {
        get_u16(self.0.as_ref(), field::MTU)
    }

    /// True for types that quote the packet they complain of.
    #[inline]
    pub fn is_error(&self) -> bool {
        matches!(
            self.message_type(),
            TYPE_UNREACHABLE | TYPE_SOURCE_QUENCH | TYPE_REDIRECT | TYPE_TIME_EXCEEDED | TYPE_PARAMETER_PROBLEM
        )
    }

    /// What follows the header: for errors the quoted packet.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        &self.0.as_ref()[HEADER_OCTETS..]
    }
}

impl<T: AsRef<[u8]> + AsMut<[u8]>> Message<T> {
    /// Sets the checksum.
    #[inline]
    pub fn set_checksum(&mut self, checksum: u16) {
        set_u16(self.0.as_mut(), field::CHECKSUM, checksum);
    }

    /// Computes the checksum over all octets of the view, which end with the message.
    pub fn fill_checksum(&mut self) {
        self.set_checksum(0);
        let checksum = checksum::of(self.0.as_ref());
        self.set_checksum(checksum);
    }
}

/// What we tell the sender of a packet that cannot go on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Failure {
    /// 3/1.
    HostUnreachable,
    /// 3/2.
    ProtocolUnreachable,
    /// 3/3: no destination for a new connection, or no listener.
    PortUnreachable,
    /// 3/4: the packet is too long and must not be fragmented.
    FragmentationNeeded {
        /// What would fit, octets of an IP packet.
        mtu: u16,
    },
    /// 3/13.
    Prohibited,
    /// 11/0.
    TimeExceeded,
    /// 11/1: the rest of the fragments did not come in time.
    ReassemblyTimeExceeded,
    /// What another router said, passed on to whom it concerns.
    Relayed {
        /// Type.
        message_type: u8,
        /// Code.
        code: u8,
        /// The second word of the header.
        rest: u32,
    },
}

impl Failure {
    const fn type_and_code(self) -> (u8, u8) {
        match self {
            Failure::HostUnreachable => (TYPE_UNREACHABLE, 1),
            Failure::ProtocolUnreachable => (TYPE_UNREACHABLE, 2),
            Failure::PortUnreachable => (TYPE_UNREACHABLE, 3),
            Failure::FragmentationNeeded { .. } => (TYPE_UNREACHABLE, CODE_FRAGMENTATION_NEEDED),
            Failure::Prohibited => (TYPE_UNREACHABLE, 13),
            Failure::TimeExceeded => (TYPE_TIME_EXCEEDED, 0),
            Failure::ReassemblyTimeExceeded => (TYPE_TIME_EXCEEDED, 1),
            Failure::Relayed { message_type, code, .. } => (message_type, code),
        }
    }

    /// The second word of the header.
    const fn rest(self) -> u32 {
        match self {
            Failure::FragmentationNeeded { mtu } => mtu as u32,
            Failure::Relayed { rest, .. } => rest,
            _ => 0,
        }
    }
}

/// Octets of the IP packet that tells of a failure of a packet of `packet_octets`.
pub const fn error_length(packet_octets: usize) -> usize {
    let length = ipv4::HEADER_OCTETS + HEADER_OCTETS + packet_octets;
    if length < ERROR_OCTETS_MAX { length } else { ERROR_OCTETS_MAX }
}

/// Writes the IP packet that tells the sender of `packet` of a failure, as the kernel does
/// (`net/ipv4/icmp.c`, `__icmp_send`): precedence *internetwork control*, DF clear, TTL 64. The buffer is
/// [`error_length`] long and does not overlap `packet`; whether an error may be sent at all (RFC 1812 section
/// 4.3.2.7: not about errors, broadcasts, later fragments) is the caller's question.
///
/// **Deviation**: the kernel copies some IP options of the packet into the error; we send none.
///
/// # Errors
/// [`Error::Truncated`] when `packet` lacks an IPv4 header or the buffer is too short; [`Error::Malformed`] when
/// the packet is no IPv4 packet.
pub fn emit_error(
    buffer: &mut [u8],
    source: Address,
    identification: u16,
    failure: Failure,
    packet: &[u8],
) -> Result<(), Error> {
    let view = ipv4::Packet::new_header_checked(packet)?;
    let quoted = &packet[..view.total_length().min(packet.len())];
    let length = error_length(quoted.len());
    let buffer = buffer.get_mut(..length).ok_or(Error::Truncated)?;
    let (ip, message) = buffer.split_at_mut(ipv4::HEADER_OCTETS);
    let header = ipv4::Header {
        tos: PRECEDENCE | view.tos() & TOS_KEPT,
        total_length: length as u16,
        identification,
        dont_fragment: false,
        ttl: TTL,
        protocol: PROTOCOL,
        source,
        destination: view.source(),
    };
    header.emit(ip);
    let (header, quote) = message.split_at_mut(HEADER_OCTETS);
    (header[field::TYPE], header[field::CODE]) = failure.type_and_code();
    set_u32(header, field::REST, failure.rest());
    quote.copy_from_slice(&quoted[..quote.len()]);
    Message::new_unchecked(message).fill_checksum();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::hex;

    const VIP: Address = Address::v4(0x0a090001);

    fn error(failure: Failure, identification: u16, packet: &[u8]) -> Vec<u8> {
        let mut buffer = vec![0xee; error_length(packet.len())];
        emit_error(&mut buffer, VIP, identification, failure, packet).unwrap();
        buffer
    }

    /// Recorded from the kernel, identification included.
    #[test]
    fn errors_are_those_of_the_kernel() {
        let packet = hex("4500001d12344000011153910a0100010a0900010401005000096f7f78");
        assert_eq!(
            error(Failure::TimeExceeded, 0xf390, &packet),
            hex("45c00039f3900000400172680a0900010a0100010b000926000000004500001d12344000011153910a010001
                 0a0900010401005000096f7f78")
        );
        let packet = hex("45000021123440004011148d0a0100010a09000104010050000da3a568656c6c6f");
        assert_eq!(
            error(Failure::PortUnreachable, 0x5228, &packet),
            hex("45c0003d52280000400113cd0a0900010a010001030311270000000045000021123440004011148d0a010001
                 0a09000104010050000da3a568656c6c6f")
        );
    }

    #[test]
    fn long_packets_are_quoted_in_part() {
        let mut packet = hex("452e05dc123440004006000a0a0100010a090001");
        packet.resize(1500, 7);
        let bytes = error(Failure::FragmentationNeeded { mtu: 1480 }, 1, &packet);
        assert_eq!(bytes.len(), ERROR_OCTETS_MAX);
        let view = ipv4::Packet::new_checked(&bytes).unwrap();
        assert_eq!((view.tos(), view.ttl(), view.dont_fragment()), (0xce, 64, false));
        assert_eq!((view.source(), view.destination()), (VIP, Address::v4(0x0a010001)));
        let message = Message::new_checked(view.payload()).unwrap();
        assert_eq!((message.message_type(), message.code(), message.mtu(), message.rest()), (3, 4, 1480, 1480));
        assert!(message.has_valid_checksum() && message.is_error());
        assert_eq!(message.payload(), &packet[..548]);
    }

    #[test]
    fn what_is_no_packet_is_refused() {
        let mut buffer = [0; 600];
        let mut refuse = |packet: &[u8]| emit_error(&mut buffer, VIP, 0, Failure::TimeExceeded, packet);
        assert_eq!(refuse(&[0x45; 10]), Err(Error::Truncated));
        assert_eq!(refuse(&[0x65; 60]), Err(Error::Malformed));
        let packet = hex("45000014123440004006000a0a0100010a090001");
        assert_eq!(emit_error(&mut [0; 47], VIP, 0, Failure::TimeExceeded, &packet), Err(Error::Truncated));
        assert_eq!(emit_error(&mut [0; 48], VIP, 0, Failure::TimeExceeded, &packet), Ok(()));
    }
}
