//! ICMPv6, RFC 4443.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +---------------+---------------+-------------------------------+
//! |     Type      |     Code      |           Checksum            |
//! +---------------+---------------+-------------------------------+
//! |  by type: unused, identifier and sequence, MTU, or pointer    |
//! +---------------------------------------------------------------+
//! |  errors: the packet in question, as much of it as fits        |
//! +---------------------------------------------------------------+
//! ```

use crate::base::Address;
use crate::wire::{Error, checksum, get_u16, get_u32, ipv6, set_u16, set_u32};

/// Octets of the header.
pub const HEADER_OCTETS: usize = 8;
/// The protocol number.
pub const PROTOCOL: u8 = 58;
/// Octets of an error with its IP header, at most (RFC 4443 section 2.4 (c)).
pub const ERROR_OCTETS_MAX: usize = ipv6::MTU_MIN;

/// Type: destination unreachable, section 3.1.
pub const TYPE_UNREACHABLE: u8 = 1;
/// Type: packet too big, section 3.2.
pub const TYPE_TOO_BIG: u8 = 2;
/// Type: time exceeded, section 3.3.
pub const TYPE_TIME_EXCEEDED: u8 = 3;
/// Type: parameter problem, section 3.4.
pub const TYPE_PARAMETER_PROBLEM: u8 = 4;
/// Type: echo request, section 4.1.
pub const TYPE_ECHO: u8 = 128;
/// Type: echo reply, section 4.2.
pub const TYPE_ECHO_REPLY: u8 = 129;
/// First type that is no error, section 2.1.
const TYPE_FIRST_INFORMATIONAL: u8 = 128;

/// Hop limit of our errors, as of all that Linux begins.
const HOP_LIMIT: u8 = 64;

mod field {
    use std::ops::Range;

    pub const TYPE: usize = 0;
    pub const CODE: usize = 1;
    pub const CHECKSUM: Range<usize> = 2..4;
    pub const REST: Range<usize> = 4..8;
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
    pub fn has_valid_checksum(&self, source: Address, destination: Address) -> bool {
        let bytes = self.0.as_ref();
        checksum::pseudo_header(source, destination, PROTOCOL, bytes.len() as u32).add_bytes(bytes).checksum() == 0
    }

    /// The second word of the header: the MTU of *packet too big*, the pointer of *parameter problem*.
    #[inline]
    pub fn rest(&self) -> u32 {
        get_u32(self.0.as_ref(), field::REST)
    }

    /// True for types that quote the packet they complain of.
    #[inline]
    pub fn is_error(&self) -> bool {
        self.message_type() < TYPE_FIRST_INFORMATIONAL
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
    pub fn fill_checksum(&mut self, source: Address, destination: Address) {
        let bytes = self.0.as_ref();
        let sum = checksum::pseudo_header(source, destination, PROTOCOL, bytes.len() as u32);
        let checksum = checksum::transport(sum, bytes, field::CHECKSUM.start);
        self.set_checksum(checksum);
    }
}

/// What we tell the sender of a packet that cannot go on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Failure {
    /// 1/0.
    NoRoute,
    /// 1/1.
    Prohibited,
    /// 1/3.
    AddressUnreachable,
    /// 1/4: no destination for a new connection, or no listener.
    PortUnreachable,
    /// 2/0.
    TooBig {
        /// What would fit, octets of an IP packet.
        mtu: u32,
    },
    /// 3/0.
    TimeExceeded,
    /// 3/1: the rest of the fragments did not come in time.
    ReassemblyTimeExceeded,
}

impl Failure {
    const fn type_code_rest(self) -> (u8, u8, u32) {
        match self {
            Failure::NoRoute => (TYPE_UNREACHABLE, 0, 0),
            Failure::Prohibited => (TYPE_UNREACHABLE, 1, 0),
            Failure::AddressUnreachable => (TYPE_UNREACHABLE, 3, 0),
            Failure::PortUnreachable => (TYPE_UNREACHABLE, 4, 0),
            Failure::TooBig { mtu } => (TYPE_TOO_BIG, 0, mtu),
            Failure::TimeExceeded => (TYPE_TIME_EXCEEDED, 0, 0),
            Failure::ReassemblyTimeExceeded => (TYPE_TIME_EXCEEDED, 1, 0),
        }
    }
}

/// Octets of the IP packet that tells of a failure of a packet of `packet_octets`.
pub const fn error_length(packet_octets: usize) -> usize {
    let length = ipv6::HEADER_OCTETS + HEADER_OCTETS + packet_octets;
    if length < ERROR_OCTETS_MAX { length } else { ERROR_OCTETS_MAX }
}

/// Writes the IP packet that tells the sender of `packet` of a failure: traffic class 0, flow label 0, hop limit 64.
/// The buffer is [`error_length`] long and does not overlap `packet`; whether an error may be sent at all (RFC 4443
/// section 2.4 (e): not about errors, multicasts, unspecified sources) is the caller's question.
///
/// **Deviation**: the kernel may put a flow label on its errors (`net.ipv6.auto_flowlabels`); ours is 0.
///
/// # Errors
/// [`Error::Truncated`] when `packet` lacks an IPv6 header or the buffer is too short; [`Error::Malformed`] when
/// the packet is no IPv6 packet.
pub fn emit_error(buffer: &mut [u8], source: Address, failure: Failure, packet: &[u8]) -> Result<(), Error> {
    let view = ipv6::Packet::new_header_checked(packet)?;
    let quoted = &packet[..view.total_length().min(packet.len())];
    let length = error_length(quoted.len());
    let destination = view.source();
    let buffer = buffer.get_mut(..length).ok_or(Error::Truncated)?;
    let (ip, message) = buffer.split_at_mut(ipv6::HEADER_OCTETS);
    let header = ipv6::Header {
        traffic_class: 0,
        payload_length: message.len() as u16,
        next_header: PROTOCOL,
        hop_limit: HOP_LIMIT,
        source,
        destination,
    };
    header.emit(ip);
    let (header, quote) = message.split_at_mut(HEADER_OCTETS);
    let (message_type, code, rest) = failure.type_code_rest();
    (header[field::TYPE], header[field::CODE]) = (message_type, code);
    header[field::CHECKSUM].fill(0);
    set_u32(header, field::REST, rest);
    quote.copy_from_slice(&quoted[..quote.len()]);
    Message::new_unchecked(message).fill_checksum(source, destination);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::hex;

    const DIRECTOR: Address = Address::v6(0xfd00_0000_0000_0000_0000_0000_0000_0254);

    fn error(failure: Failure, packet: &[u8]) -> Vec<u8> {
        let mut buffer = vec![0xee; error_length(packet.len())];
        emit_error(&mut buffer, DIRECTOR, failure, packet).unwrap();
        buffer
    }

    /// Recorded from the kernel, but for the flow label.
    #[test]
    fn errors_are_those_of_the_kernel() {
        let packet = "6000000000091101fd000001000000000000000000000001fd0000090000000000000000000000010401005000
                      09897d78";
        assert_eq!(
            error(Failure::TimeExceeded, &hex(packet)),
            hex(&format!(
                "6000000000393a40fd000000000000000000000000000254fd000001000000000000000000000001
                 03008f4400000000 {packet}"
            ))
        );
    }

    #[test]
    fn long_packets_are_quoted_in_part() {
        let mut packet = hex("6000000005b4063f fd000001000000000000000000000001 fd000009000000000000000000000001");
        packet.resize(1500, 7);
        let bytes = error(Failure::TooBig { mtu: 1456 }, &packet);
        assert_eq!(bytes.len(), ERROR_OCTETS_MAX);
        let view = ipv6::Packet::new_checked(&bytes).unwrap();
        assert_eq!((view.next_header(), view.hop_limit(), view.source()), (PROTOCOL, 64, DIRECTOR));
        let message = Message::new_checked(view.payload()).unwrap();
        assert_eq!((message.message_type(), message.code(), message.rest()), (2, 0, 1456));
        assert!(message.has_valid_checksum(view.source(), view.destination()) && message.is_error());
        assert_eq!(message.payload(), &packet[..1232]);
    }

    #[test]
    fn what_is_no_packet_is_refused() {
        let mut buffer = [0; 1280];
        let mut refuse = |packet: &[u8]| emit_error(&mut buffer, DIRECTOR, Failure::NoRoute, packet);
        assert_eq!(refuse(&[0x60; 39]), Err(Error::Truncated));
        assert_eq!(refuse(&[0x45; 60]), Err(Error::Malformed));
    }
}
