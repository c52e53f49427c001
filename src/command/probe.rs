//! Packets made up to ask what would become of them (`lvx trace`): by addresses, or from hexadecimal digits.

use std::net::SocketAddr;

use crate::base::hex;
use crate::service::Protocol;
use crate::wire::{checksum, sctp, tcp, udp};

/// Octets of a frame that can be asked about: the longest IP packet and its link header.
pub const FRAME_OCTETS_MAX: usize = (1 << 16) + 14;

const TCP_HEADER_OCTETS: usize = 20;
const UDP_HEADER_OCTETS: usize = 8;
/// SCTP's common header, and an INIT chunk with its fixed part.
const SCTP_HEADER_OCTETS: usize = 12;
const SCTP_CHUNK_OCTETS: usize = 20;
const WINDOW: u16 = 64240;

/// A packet to be made.
#[derive(Clone, Copy, Debug)]
pub struct Probe {
    /// Source.
    pub from: SocketAddr,
    /// Destination, of the same family.
    pub to: SocketAddr,
    /// Transport protocol.
    pub protocol: Protocol,
    /// TCP's flags; of SCTP, SYN asks for an INIT chunk, RST for an ABORT, FIN for a SHUTDOWN, anything else for DATA.
    pub flags: u8,
    /// TTL or hop limit.
    pub ttl: u8,
    /// Octets of the IP packet; `None` for headers alone.
    pub length: Option<u16>,
}

impl Default for Probe {
    fn default() -> Self {
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        Self { from: nowhere, to: nowhere, protocol: Protocol::Tcp, flags: tcp::FLAG_SYN, ttl: 64, length: None }
    }
}

/// TCP's flags from their letters: `S`, `SA`, `FA`, `R`, `P`, `U`; a dot is ACK too, as tcpdump has it.
///
/// # Errors
/// A sentence that names the letter which is none.
pub fn parse_flags(text: &str) -> Result<u8, String> {
    text.chars().try_fold(0, |flags, letter| {
        let flag = match letter.to_ascii_uppercase() {
            'S' => tcp::FLAG_SYN,
            'A' | '.' => tcp::FLAG_ACK,
            'F' => tcp::FLAG_FIN,
            'R' => tcp::FLAG_RST,
            'P' => tcp::FLAG_PSH,
            'U' => tcp::FLAG_URG,
            _ => return Err(format!("`{letter}' is no TCP flag: S, A, F, R, P and U are")),
        };
        Ok(flags | flag)
    })
}

/// Octets from hexadecimal digits, with blanks, line ends and colons anywhere between octets.
///
/// # Errors
/// A sentence that says what is wrong.
pub fn from_hex(text: &str) -> Result<Vec<u8>, String> {
    let digits: String = text.chars().filter(|letter| !letter.is_whitespace() && *letter != ':').collect();
    if let Some(wrong) = digits.chars().find(|letter| !letter.is_ascii_hexdigit()) {
        return Err(format!("`{}' is no hexadecimal digit", wrong.escape_default()));
    }
    if digits.is_empty() {
        return Err("the packet has no octets".into());
    }
    let octets = hex::decode(&digits);
    let octets = octets.ok_or_else(|| format!("{} hexadecimal digits make no whole octets", digits.len()))?;
    if octets.len() > FRAME_OCTETS_MAX {
        return Err(format!("a packet of more than {FRAME_OCTETS_MAX} octets"));
    }
    Ok(octets)
}

impl Probe {
    /// The IP packet, its checksums right.
    ///
    /// # Errors
    /// A sentence when the families differ or the length is too small.
    pub fn build(&self) -> Result<Vec<u8>, String> {
        if self.from.is_ipv4() != self.to.is_ipv4() {
            return Err(format!("{} and {} are of different families", self.from.ip(), self.to.ip()));
        }
        let network_octets = if self.from.is_ipv4() { 20 } else { 40 };
        let least = network_octets + self.transport_octets();
        let length = self.length.map_or(least, usize::from);
        if length < least {
            return Err(format!("a {} packet of this family has {least} octets at least, not {length}", self.protocol));
        }
        let transport = self.transport(length - network_octets);
        let mut packet = self.network(length);
        packet.extend_from_slice(&transport);
        Ok(packet)
    }

    const fn transport_octets(&self) -> usize {
        match self.protocol {
            Protocol::Tcp => TCP_HEADER_OCTETS,
            Protocol::Udp => UDP_HEADER_OCTETS,
            Protocol::Sctp => SCTP_HEADER_OCTETS + SCTP_CHUNK_OCTETS,
        }
    }

    /// The IP header. IPv4 has DF set, as TCP's packets have.
    fn network(&self, length: usize) -> Vec<u8> {
        let [high, low] = (length as u16).to_be_bytes();
        match (self.from, self.to) {
            (SocketAddr::V4(from), SocketAddr::V4(to)) => {
                let mut header = vec![0x45, 0, high, low, 0, 0, 0x40, 0, self.ttl, self.protocol.number(), 0, 0];
                header.extend_from_slice(&from.ip().octets());
                header.extend_from_slice(&to.ip().octets());
                let sum = checksum::of(&header).to_be_bytes();
                header[10..12].copy_from_slice(&sum);
                header
            }
            (from, to) => {
                let [high, low] = ((length - 40) as u16).to_be_bytes();
                let mut header = vec![0x60, 0, 0, 0, high, low, self.protocol.number(), self.ttl];
                for address in [from, to] {
                    if let SocketAddr::V6(address) = address {
                        header.extend_from_slice(&address.ip().octets());
                    }
                }
                header
            }
        }
    }

    fn transport(&self, octets: usize) -> Vec<u8> {
        let mut message = Vec::with_capacity(octets);
        message.extend_from_slice(&self.from.port().to_be_bytes());
        message.extend_from_slice(&self.to.port().to_be_bytes());
        message.resize(octets, 0);
        match self.protocol {
            Protocol::Tcp => {
                message[4..8].copy_from_slice(&1_u32.to_be_bytes());
                if self.flags & tcp::FLAG_ACK != 0 {
                    message[8..12].copy_from_slice(&1_u32.to_be_bytes());
                }
                message[12] = (TCP_HEADER_OCTETS as u8 / 4) << 4;
                message[13] = self.flags;
                message[14..16].copy_from_slice(&WINDOW.to_be_bytes());
                let sum = self.sum(&message, tcp::CHECKSUM_OFFSET);
                message[tcp::CHECKSUM_OFFSET..][..2].copy_from_slice(&sum.to_be_bytes());
            }
            Protocol::Udp => {
                message[4..6].copy_from_slice(&(octets as u16).to_be_bytes());
                let sum = checksum::not_zero(self.sum(&message, udp::CHECKSUM_OFFSET));
                message[udp::CHECKSUM_OFFSET..][..2].copy_from_slice(&sum.to_be_bytes());
            }
            Protocol::Sctp => {
                let chunk = match self.flags {
                    flags if flags & tcp::FLAG_RST != 0 => 6,
                    flags if flags & tcp::FLAG_SYN != 0 => 1,
                    flags if flags & tcp::FLAG_FIN != 0 => 7,
                    _ => 0,
                };
                message[SCTP_HEADER_OCTETS] = chunk;
                let length = (octets - SCTP_HEADER_OCTETS) as u16;
                message[SCTP_HEADER_OCTETS + 2..][..2].copy_from_slice(&length.to_be_bytes());
                let sum = sctp::checksum(&message);
                message[sctp::CHECKSUM_OFFSET..][..4].copy_from_slice(&sum);
            }
        }
        message
    }

    fn sum(&self, message: &[u8], field: usize) -> u16 {
        let (from, to) = (self.from.ip().into(), self.to.ip().into());
        let pseudo = checksum::pseudo_header(from, to, self.protocol.number(), message.len() as u32);
        checksum::transport(pseudo, message, field)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use etherparse::SlicedPacket;

    #[test]
    fn what_is_made_is_what_was_asked_for() {
        for (from, to, octets) in [("10.1.0.1:1025", "10.9.0.1:80", 20), ("[fd00:1::1]:1025", "[fd00:9::1]:80", 40)] {
            for (protocol, header) in [(Protocol::Tcp, 20), (Protocol::Udp, 8), (Protocol::Sctp, 32)] {
                for length in [None, Some(1400)] {
                    let (from, to) = (from.parse().unwrap(), to.parse().unwrap());
                    let probe = Probe { from, to, protocol, length, ttl: 9, ..Probe::default() };
                    let packet = probe.build().unwrap();
                    assert_eq!(packet.len(), length.map_or(octets + header, usize::from));
                    let sliced = SlicedPacket::from_ip(&packet).unwrap();
                    assert_eq!(packet[if octets == 20 { 8 } else { 7 }], 9);
                    match sliced.transport {
                        Some(etherparse::TransportSlice::Tcp(tcp)) => {
                            assert!(tcp.syn() && !tcp.ack() && tcp.source_port() == 1025);
                        }
                        Some(etherparse::TransportSlice::Udp(udp)) => {
                            assert_eq!(
                                (udp.destination_port(), usize::from(udp.length())),
                                (80, packet.len() - octets)
                            );
                        }
                        _ => assert_eq!(sctp::chunk_types(&packet[octets..]), Some((1, None))),
                    }
                }
            }
        }
    }

    #[test]
    fn what_cannot_be_made_is_said() {
        let probe = |from: &str, length| Probe {
            from: from.parse().unwrap(),
            to: "10.9.0.1:80".parse().unwrap(),
            length,
            ..Probe::default()
        };
        assert!(probe("[fd00::1]:1", None).build().unwrap_err().contains("different families"));
        assert!(probe("10.1.0.1:1", Some(39)).build().unwrap_err().contains("40 octets at least"));
        assert!(parse_flags("SX").unwrap_err().contains("`X'"));
        assert_eq!(parse_flags("sa"), parse_flags("S."));
    }

    #[test]
    fn hexadecimal_digits_are_read_with_what_people_put_between() {
        assert_eq!(from_hex(" 45 00:00\n28 "), Ok(vec![0x45, 0, 0, 0x28]));
        for (text, part) in [("", "no octets"), ("456", "whole octets"), ("4x", "`x'")] {
            assert!(from_hex(text).unwrap_err().contains(part), "{text}");
        }
        assert!(from_hex(&"00".repeat(FRAME_OCTETS_MAX + 1)).is_err());
    }
}
