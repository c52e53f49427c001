//! The packet around a message.

use crate::base::{Address, Family};
use crate::wire::vrrp::authentication::{self, AH_OCTETS, Key};
use crate::wire::vrrp::{
    ADDRESSES_MAX, AUTHENTICATION_OCTETS, Advert, HEADER_OCTETS, PROTOCOL, PROTOCOL_AUTHENTICATION, TRAFFIC_CLASS,
};
use crate::wire::{Error, ipv4, ipv6};

/// Octets of the longest packet that [`emit`] writes.
pub const PACKET_OCTETS_MAX: usize =
    ipv6::HEADER_OCTETS + AH_OCTETS + HEADER_OCTETS + 16 * ADDRESSES_MAX + AUTHENTICATION_OCTETS;

/// The IP side of a packet that is sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Envelope {
    /// The sender's primary address.
    pub source: Address,
    /// The group, or a peer; of the same family.
    pub destination: Address,
    /// Time to live or hop limit.
    pub hop_limit: u8,
    /// Identification of IPv4.
    pub identification: u16,
    /// What the pseudo header has as destination; [`Envelope::destination`] but for peers that are very old.
    pub summed_destination: Address,
    /// Key and sequence number of the authentication header; IPv4 only.
    pub authentication: Option<(Key, u32)>,
}

/// Writes the whole IP packet, and says how many octets it has and how many of them are the IP header.
///
/// # Panics
/// When `buffer` is shorter than the packet; [`PACKET_OCTETS_MAX`] is enough.
pub fn emit(buffer: &mut [u8], envelope: &Envelope, advert: &Advert<'_>) -> (usize, usize) {
    let message = advert.octets();
    match envelope.source.family() {
        Family::V6 => {
            let header = ipv6::Header {
                traffic_class: TRAFFIC_CLASS,
                payload_length: message as u16,
                next_header: PROTOCOL,
                hop_limit: envelope.hop_limit,
                source: envelope.source,
                destination: envelope.destination,
            };
            header.emit(buffer);
            advert.emit(&mut buffer[ipv6::HEADER_OCTETS..], envelope.source, envelope.summed_destination);
            (ipv6::HEADER_OCTETS + message, ipv6::HEADER_OCTETS)
        }
        Family::V4 => {
            let (protocol, between) = match envelope.authentication {
                Some(_) => (PROTOCOL_AUTHENTICATION, AH_OCTETS),
                None => (PROTOCOL, 0),
            };
            let total = ipv4::HEADER_OCTETS + between + message;
            let header = ipv4::Header {
                tos: TRAFFIC_CLASS,
                total_length: total as u16,
                identification: envelope.identification,
                dont_fragment: false,
                ttl: envelope.hop_limit,
                protocol,
                source: envelope.source,
                destination: envelope.destination,
            };
            header.emit(buffer);
            let behind = &mut buffer[ipv4::HEADER_OCTETS + between..];
            advert.emit(behind, envelope.source, envelope.summed_destination);
            if let Some((key, sequence)) = &envelope.authentication {
                authentication::emit(&mut buffer[..total], key, envelope.source.low_u32(), *sequence);
            }
            (total, ipv4::HEADER_OCTETS)
        }
    }
}

/// A packet as raw sockets give it: of IPv4 with its header, of IPv6 what is behind the header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Received<'a> {
    /// A whole packet.
    V4(&'a [u8]),
    /// A payload, and what the kernel tells of the header.
    V6 {
        /// Source address.
        source: Address,
        /// Destination address.
        destination: Address,
        /// Hop limit.
        hop_limit: u8,
        /// The message.
        payload: &'a [u8],
    },
}

/// A packet taken apart; nothing of the message is checked.
#[derive(Clone, Copy, Debug)]
pub struct Opened<'a> {
    /// Source address.
    pub source: Address,
    /// Destination address.
    pub destination: Address,
    /// Time to live or hop limit.
    pub hop_limit: u8,
    /// Octets before the message that keepalived counts when it speaks of lengths: of IPv4 all headers.
    pub headers: usize,
    /// The message.
    pub payload: &'a [u8],
    authenticated: Option<Authenticated<'a>>,
}

#[derive(Clone, Copy, Debug)]
struct Authenticated<'a> {
    packet: &'a [u8],
    header: usize,
    sequence: u32,
}

impl Opened<'_> {
    /// The sequence number of the authentication header, if there is one.
    pub fn sequence(&self) -> Option<u32> {
        self.authenticated.map(|authenticated| authenticated.sequence)
    }

    /// Whether there is an authentication header made with this key.
    pub fn is_authentic(&self, key: &Key) -> bool {
        self.authenticated.is_some_and(|it| authentication::is_authentic(it.packet, it.header, key))
    }
}

/// Takes a packet apart.
///
/// # Errors
/// [`Error::Truncated`] and [`Error::Malformed`] as for IPv4 and the authentication header, [`Error::Unsupported`] for a
/// fragment or another protocol.
pub fn open(received: Received<'_>) -> Result<Opened<'_>, Error> {
    match received {
        Received::V6 { source, destination, hop_limit, payload } => {
            if source.is_v4() || destination.is_v4() {
                return Err(Error::Unsupported);
            }
            Ok(Opened { source, destination, hop_limit, headers: 0, payload, authenticated: None })
        }
        Received::V4(bytes) => {
            let ip = ipv4::Packet::new_checked(bytes)?;
            if ip.is_fragment() {
                return Err(Error::Unsupported);
            }
            let header = ip.header_length();
            let packet = &bytes[..ip.total_length()];
            let (headers, authenticated) = match ip.protocol() {
                PROTOCOL => (header, None),
                PROTOCOL_AUTHENTICATION => {
                    let sequence = authentication::sequence(packet, header)?;
                    (header + AH_OCTETS, Some(Authenticated { packet, header, sequence }))
                }
                _ => return Err(Error::Unsupported),
            };
            let payload = &packet[headers..];
            let (source, destination) = (ip.source(), ip.destination());
            Ok(Opened { source, destination, hop_limit: ip.ttl(), headers, payload, authenticated })
        }
    }
}
