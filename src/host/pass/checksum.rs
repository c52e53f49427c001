//! Completes the checksum of a frame from a local sender, which carries the pseudo-header's sum alone.
//!
//! Over veth, the kernel leaves the transport checksum to a NIC that never comes and notes so beside the packet; the
//! note does not survive an AF_XDP socket. A checksum that equals the folded, not complemented sum of the
//! pseudo-header (RFC 9293 section 3.1) is taken for such a one. A finished checksum of that value would mean that
//! the segment's own sum is zero in one's complement, which completing leaves correct as well.

use crate::base::Address;
use crate::wire::checksum::{is_partial, not_zero, pseudo_header, transport as transport_checksum};

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;
const ETHERTYPES_VLAN: [u16; 2] = [0x8100, 0x88a8];
const TCP: u8 = 6;
const UDP: u8 = 17;

/// Completes a partial TCP or UDP checksum; every other frame stays as it is.
pub(super) fn complete(frame: &mut [u8]) {
    let _ = try_complete(frame);
}

fn try_complete(frame: &mut [u8]) -> Option<()> {
    let mut ethertype = 12;
    while ETHERTYPES_VLAN.contains(&word(frame, ethertype)?) && ethertype < 20 {
        ethertype += 4;
    }
    let ip = ethertype + 2;
    let (addresses, protocol, transport, end) = match word(frame, ethertype)? {
        ETHERTYPE_IPV4 => {
            let header = usize::from(frame.get(ip)? & 0x0f) * 4;
            // A fragment's checksum covers more than the frame.
            if word(frame, ip + 6)? & 0x3fff != 0 {
                return None;
            }
            let address = |at: usize| Some(Address::v4(u32::from_be_bytes(frame.get(at..at + 4)?.try_into().ok()?)));
            let addresses = (address(ip + 12)?, address(ip + 16)?);
            (addresses, *frame.get(ip + 9)?, ip + header, ip + usize::from(word(frame, ip + 2)?))
        }
        ETHERTYPE_IPV6 => {
            let address = |at: usize| Some(Address::v6(u128::from_be_bytes(frame.get(at..at + 16)?.try_into().ok()?)));
            let addresses = (address(ip + 8)?, address(ip + 24)?);
            (addresses, *frame.get(ip + 6)?, ip + 40, ip + 40 + usize::from(word(frame, ip + 4)?))
        }
        _ => return None,
    };
    let field = match protocol {
        TCP => 16,
        UDP => 6,
        _ => return None,
    };
    let message = frame.get_mut(transport..end)?;
    let pseudo = pseudo_header(addresses.0, addresses.1, protocol, message.len() as u32);
    if is_partial(word(message, field)?, pseudo) {
        let checksum = not_zero(transport_checksum(pseudo, message, field));
        message[field..field + 2].copy_from_slice(&checksum.to_be_bytes());
    }
    Some(())
}

fn word(frame: &[u8], at: usize) -> Option<u16> {
    let octets = frame.get(at..at + 2)?;
    Some(u16::from_be_bytes([octets[0], octets[1]]))
}

#[cfg(test)]
mod tests {
    use etherparse::PacketBuilder;

    use super::*;

    fn tcp(v6: bool, payload: &[u8]) -> (Vec<u8>, usize) {
        let link = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
        let mut frame = Vec::new();
        if v6 {
            let packet = link.ipv6([1; 16], [2; 16], 64).tcp(1000, 80, 7, 512);
            packet.write(&mut frame, payload).unwrap();
            (frame, 14 + 40 + 16)
        } else {
            let packet = link.ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64).tcp(1000, 80, 7, 512);
            packet.write(&mut frame, payload).unwrap();
            (frame, 14 + 20 + 16)
        }
    }

    /// What a local sender leaves in the field.
    fn make_partial(frame: &mut [u8], field: usize, v6: bool) {
        let (addresses, transport) = if v6 { (22..54, 54) } else { (26..34, 34) };
        let words = frame[addresses].chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1]));
        let mut sum = words.sum::<u32>() + u32::from(TCP) + (frame.len() - transport) as u32;
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        frame[field..field + 2].copy_from_slice(&(sum as u16).to_be_bytes());
    }

    #[test]
    fn partial_checksums_become_what_a_nic_would_have_made() {
        for v6 in [false, true] {
            for payload in [&b""[..], b"odd", b"even"] {
                let (expected, field) = tcp(v6, payload);
                let mut frame = expected.clone();
                make_partial(&mut frame, field, v6);
                assert_ne!(frame, expected);
                // Padding to the least Ethernet length is not summed.
                frame.extend_from_slice(&[0xee; 9]);
                complete(&mut frame);
                assert_eq!(frame[..expected.len()], expected, "v6 {v6}, payload {payload:?}");
            }
        }
    }

    #[test]
    fn other_frames_stay_as_they_are() {
        let (whole, field) = tcp(false, b"payload");
        let mut wrong = whole.clone();
        wrong[field] ^= 0x55;
        let mut fragment = whole.clone();
        make_partial(&mut fragment, field, false);
        fragment[14 + 6] = 0x20;
        for frame in [whole.clone(), wrong, fragment] {
            let mut completed = frame.clone();
            complete(&mut completed);
            assert_eq!(completed, frame);
        }
        for length in 0..whole.len() {
            let mut short = whole[..length].to_vec();
            complete(&mut short);
            assert_eq!(short, whole[..length]);
        }
    }
}
