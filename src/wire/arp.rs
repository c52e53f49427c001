//! ARP for IPv4 on Ethernet, RFC 826: announcements (RFC 5227 section 2.3), which tell neighbours where an address now is.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-------------------------------+-------------------------------+
//! |       Hardware Type (1)       |     Protocol Type (0x0800)    |
//! +---------------+---------------+-------------------------------+
//! | HW Length (6) | Pr Length (4) |     Operation (1 or 2)        |
//! +---------------+---------------+-------------------------------+
//! |                     Sender Hardware Address                   |
//! +                               +-------------------------------+
//! |                               |     Sender Protocol Address   |
//! +-------------------------------+-------------------------------+
//! |              …                |     Target Hardware Address   |
//! +-------------------------------+                               +
//! |                                                               |
//! +---------------------------------------------------------------+
//! |                     Target Protocol Address                   |
//! +---------------------------------------------------------------+
//! ```
//!
//! In an announcement sender and target are one protocol address. Its target hardware address is the broadcast address,
//! as keepalived sends it; receivers ignore it.

use crate::base::{Address, MacAddress};
use crate::wire::{Error, array, ethernet, get_u16, get_u32, set_u16, set_u32};

/// Octets of a message.
pub const OCTETS: usize = 28;
/// Octets of an announcement with its Ethernet header; not padded.
pub const ANNOUNCEMENT_OCTETS: usize = ethernet::HEADER_OCTETS + OCTETS;

const HARDWARE_ETHERNET: u16 = 1;

mod field {
    use std::ops::Range;

    pub const HARDWARE: Range<usize> = 0..2;
    pub const PROTOCOL: Range<usize> = 2..4;
    pub const LENGTHS: Range<usize> = 4..6;
    pub const OPERATION: Range<usize> = 6..8;
    pub const SENDER_MAC: Range<usize> = 8..14;
    pub const SENDER: Range<usize> = 14..18;
    pub const TARGET_MAC: Range<usize> = 18..24;
    pub const TARGET: Range<usize> = 24..28;
}

/// What a message is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Operation {
    /// Who has the target address?
    Request = 1,
    /// The sender has it.
    Reply = 2,
}

/// A message.
#[derive(Clone, Copy, Debug)]
pub struct Message<T>(T);

impl<T: AsRef<[u8]>> Message<T> {
    /// The view of a message of IPv4 on Ethernet.
    ///
    /// # Errors
    /// [`Error::Truncated`] when it ends early, [`Error::Unsupported`] when it is of another protocol, another link or
    /// neither request nor reply.
    pub fn new_checked(bytes: T) -> Result<Self, Error> {
        let octets = bytes.as_ref();
        if octets.len() < OCTETS {
            return Err(Error::Truncated);
        }
        let is_ours = get_u16(octets, field::HARDWARE) == HARDWARE_ETHERNET
            && get_u16(octets, field::PROTOCOL) == ethernet::TYPE_IPV4
            && octets[field::LENGTHS] == [6, 4]
            && (1..=2).contains(&get_u16(octets, field::OPERATION));
        if is_ours { Ok(Message(bytes)) } else { Err(Error::Unsupported) }
    }

    /// Request or reply.
    pub fn operation(&self) -> Operation {
        if get_u16(self.0.as_ref(), field::OPERATION) == 1 { Operation::Request } else { Operation::Reply }
    }

    /// Who says it, and with which hardware address.
    pub fn sender(&self) -> (Address, MacAddress) {
        let octets = self.0.as_ref();
        (Address::v4(get_u32(octets, field::SENDER)), MacAddress(array(octets, field::SENDER_MAC)))
    }

    /// Which address it is about.
    pub fn target(&self) -> Address {
        Address::v4(get_u32(self.0.as_ref(), field::TARGET))
    }

    /// True when sender and target are one address.
    pub fn is_announcement(&self) -> bool {
        self.sender().0 == self.target()
    }
}

/// Writes the whole frame that tells everybody that `address`, of IPv4, is at `mac`.
///
/// # Panics
/// When `buffer` is shorter than [`ANNOUNCEMENT_OCTETS`].
pub fn emit_announcement(buffer: &mut [u8], operation: Operation, address: Address, mac: MacAddress) {
    debug_assert!(address.is_v4());
    ethernet::emit(buffer, MacAddress([0xff; 6]), mac, ethernet::TYPE_ARP);
    let message = &mut buffer[ethernet::HEADER_OCTETS..ANNOUNCEMENT_OCTETS];
    set_u16(message, field::HARDWARE, HARDWARE_ETHERNET);
    set_u16(message, field::PROTOCOL, ethernet::TYPE_IPV4);
    message[field::LENGTHS].copy_from_slice(&[6, 4]);
    set_u16(message, field::OPERATION, operation as u16);
    message[field::SENDER_MAC].copy_from_slice(&mac.0);
    set_u32(message, field::SENDER, address.low_u32());
    message[field::TARGET_MAC].fill(0xff);
    set_u32(message, field::TARGET, address.low_u32());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::hex;

    const VIP: Address = Address::v4(0x0a4d_000a);
    const MAC: MacAddress = MacAddress([2, 0, 0, 0, 0, 0x0a]);

    /// A frame of keepalived 2.2.7.
    #[test]
    fn an_announcement_of_keepalived() {
        let mut frame = [0; ANNOUNCEMENT_OCTETS];
        emit_announcement(&mut frame, Operation::Request, VIP, MAC);
        let theirs = "ffffffffffff02000000000a0806000108000604000102000000000a0a4d000affffffffffff0a4d000a";
        assert_eq!(frame.to_vec(), hex(theirs));
        let message = Message::new_checked(&frame[ethernet::HEADER_OCTETS..]).unwrap();
        assert_eq!((message.operation(), message.sender(), message.target()), (Operation::Request, (VIP, MAC), VIP));
        assert!(message.is_announcement());
    }

    #[test]
    fn a_reply_differs_in_its_operation_alone() {
        let mut frames = [[0; ANNOUNCEMENT_OCTETS]; 2];
        emit_announcement(&mut frames[0], Operation::Request, VIP, MAC);
        emit_announcement(&mut frames[1], Operation::Reply, VIP, MAC);
        let differing: Vec<usize> = (0..ANNOUNCEMENT_OCTETS).filter(|&at| frames[0][at] != frames[1][at]).collect();
        assert_eq!(differing, [ethernet::HEADER_OCTETS + 7]);
        let message = Message::new_checked(&frames[1][ethernet::HEADER_OCTETS..]).unwrap();
        assert_eq!(message.operation(), Operation::Reply);
    }

    #[test]
    fn other_messages_are_refused() {
        let good = hex("000108000604000102000000000a0a4d000affffffffffff0a4d000a");
        assert!(Message::new_checked(&good[..]).is_ok());
        assert_eq!(Message::new_checked(&good[..27]).err(), Some(Error::Truncated));
        for (at, value) in [(1, 6), (2, 0x86), (4, 8), (5, 16), (7, 0), (7, 3)] {
            let mut bad = good.clone();
            bad[at] = value;
            assert_eq!(Message::new_checked(&bad).err(), Some(Error::Unsupported), "{at}");
        }
    }
}
