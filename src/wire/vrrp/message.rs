//! The message: a view of one that came, and one that is sent.

use crate::base::{Address, Family};
use crate::wire::vrrp::{
    ADDRESSES_MAX, AUTHENTICATION_OCTETS, HEADER_OCTETS, PROTOCOL, TYPE_ADVERTISEMENT, Version, address_octets,
};
use crate::wire::{Error, array, checksum, get_u16, get_u32, set_u16};

mod field {
    use std::ops::Range;

    pub const VERSION_TYPE: usize = 0;
    pub const VRID: usize = 1;
    pub const PRIORITY: usize = 2;
    pub const COUNT: usize = 3;
    pub const AUTHENTICATION: usize = 4;
    pub const INTERVAL_S: usize = 5;
    pub const INTERVAL_CS: Range<usize> = 4..6;
    pub const CHECKSUM: Range<usize> = 6..8;
}

/// The reserved bits above the interval of version 3: zero when sent, ignored when received.
const INTERVAL_CS_MASK: u16 = 0x0fff;

/// A message that came. What its count promises may be missing: see [`Message::promised_octets`].
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    bytes: &'a [u8],
    family: Family,
}

impl<'a> Message<'a> {
    /// The view of a message whose fixed fields are there; `family` is that of the packet it came in.
    ///
    /// # Errors
    /// [`Error::Truncated`] when the fixed fields are not whole.
    pub fn new_checked(bytes: &'a [u8], family: Family) -> Result<Self, Error> {
        if bytes.len() < HEADER_OCTETS { Err(Error::Truncated) } else { Ok(Message { bytes, family }) }
    }

    /// Version as it stands there, 0 to 15.
    pub fn version(&self) -> u8 {
        self.bytes[field::VERSION_TYPE] >> 4
    }

    /// Type; 1 is an advertisement.
    pub fn message_type(&self) -> u8 {
        self.bytes[field::VERSION_TYPE] & 0xf
    }

    /// Virtual router identifier.
    pub fn vrid(&self) -> u8 {
        self.bytes[field::VRID]
    }

    /// Priority; 0 says that the sender resigns.
    pub fn priority(&self) -> u8 {
        self.bytes[field::PRIORITY]
    }

    /// How many addresses there should be.
    pub fn count(&self) -> u8 {
        self.bytes[field::COUNT]
    }

    /// Version 2: authentication type.
    pub fn authentication_type(&self) -> u8 {
        self.bytes[field::AUTHENTICATION]
    }

    /// Version 2: interval in seconds.
    pub fn interval_s(&self) -> u8 {
        self.bytes[field::INTERVAL_S]
    }

    /// Version 3: interval in centiseconds, 0 to 4095.
    pub fn interval_cs(&self) -> u16 {
        get_u16(self.bytes, field::INTERVAL_CS) & INTERVAL_CS_MASK
    }

    /// Octets of the message.
    pub fn octets(&self) -> usize {
        self.bytes.len()
    }

    /// Octets that a message of this version and count has; version 2 has its authentication data always.
    pub fn promised_octets(&self) -> usize {
        let authentication = if self.version() == Version::V2 as u8 { AUTHENTICATION_OCTETS } else { 0 };
        self.addresses_end() + authentication
    }

    fn addresses_end(&self) -> usize {
        HEADER_OCTETS + usize::from(self.count()) * address_octets(self.family)
    }

    /// The addresses that are there, no more than the count.
    pub fn addresses(&self) -> impl Iterator<Item = Address> + use<'a> {
        let size = address_octets(self.family);
        let family = self.family;
        let end = self.addresses_end().min(self.bytes.len());
        self.bytes[HEADER_OCTETS..end].chunks_exact(size).map(move |octets| match family {
            Family::V4 => Address::v4(get_u32(octets, 0..4)),
            Family::V6 => Address::v6(u128::from_be_bytes(array(octets, 0..16))),
        })
    }

    /// Version 2: the authentication data, if the message is long enough.
    pub fn authentication_data(&self) -> Option<[u8; AUTHENTICATION_OCTETS]> {
        let start = self.addresses_end();
        let octets = self.bytes.get(start..start + AUTHENTICATION_OCTETS)?;
        Some(array(octets, 0..AUTHENTICATION_OCTETS))
    }

    /// Whether the checksum is right. `destination` is the packet's, or what the sender took for it; version 2 needs
    /// neither address.
    pub fn has_valid_checksum(&self, source: Address, destination: Address) -> bool {
        let version = if self.version() == Version::V2 as u8 { Version::V2 } else { Version::V3 };
        covered(version, source, destination, self.bytes.len()).add_bytes(self.bytes).folded() == 0xffff
    }
}

/// The sum of what a checksum covers before the message itself.
fn covered(version: Version, source: Address, destination: Address, octets: usize) -> checksum::Sum {
    match version {
        Version::V2 => checksum::Sum::default(),
        Version::V3 => checksum::pseudo_header(source, destination, PROTOCOL, octets as u32),
    }
}

/// How a message of version 2 is authenticated, RFC 2338 section 5.3.6.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Authentication {
    /// Type 0: not at all. The only one that RFC 3768 has.
    #[default]
    None,
    /// Type 1: a password in the message, for all to read.
    Password([u8; AUTHENTICATION_OCTETS]),
    /// Type 2: an authentication header before the message.
    Header,
}

impl Authentication {
    /// The number in the message.
    pub const fn number(self) -> u8 {
        match self {
            Authentication::None => 0,
            Authentication::Password(_) => 1,
            Authentication::Header => 2,
        }
    }
}

/// A message to be sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Advert<'a> {
    /// Format.
    pub version: Version,
    /// Virtual router identifier, not 0.
    pub vrid: u8,
    /// Priority; 0 to resign.
    pub priority: u8,
    /// Interval: seconds (1 to 255) in version 2, centiseconds (1 to 4095) in version 3.
    pub interval: u16,
    /// Authentication of version 2; ignored in version 3.
    pub authentication: Authentication,
    /// Addresses of the virtual router, all of one family, [`ADDRESSES_MAX`] at most; more are left out.
    pub addresses: &'a [Address],
}

impl Advert<'_> {
    fn listed(&self) -> &[Address] {
        &self.addresses[..self.addresses.len().min(ADDRESSES_MAX)]
    }

    /// Octets of the message.
    pub fn octets(&self) -> usize {
        let addresses: usize = self.listed().iter().map(|address| address_octets(address.family())).sum();
        let authentication = if self.version == Version::V2 { AUTHENTICATION_OCTETS } else { 0 };
        HEADER_OCTETS + addresses + authentication
    }

    /// Writes the message with its checksum; `source` and `destination` are those of the pseudo header.
    ///
    /// # Panics
    /// When `buffer` is shorter than [`Advert::octets`].
    pub fn emit(&self, buffer: &mut [u8], source: Address, destination: Address) {
        let message = &mut buffer[..self.octets()];
        message[field::VERSION_TYPE] = (self.version as u8) << 4 | TYPE_ADVERTISEMENT;
        message[field::VRID] = self.vrid;
        message[field::PRIORITY] = self.priority;
        message[field::COUNT] = self.listed().len() as u8;
        match self.version {
            Version::V2 => {
                message[field::AUTHENTICATION] = self.authentication.number();
                message[field::INTERVAL_S] = self.interval.min(u8::MAX.into()) as u8;
            }
            Version::V3 => set_u16(message, field::INTERVAL_CS, self.interval.min(INTERVAL_CS_MASK)),
        }
        set_u16(message, field::CHECKSUM, 0);
        let mut at = HEADER_OCTETS;
        for address in self.listed() {
            let octets = address.0.to_be_bytes();
            let size = address_octets(address.family());
            message[at..at + size].copy_from_slice(&octets[octets.len() - size..]);
            at += size;
        }
        if self.version == Version::V2 {
            let data = match self.authentication {
                Authentication::Password(password) => password,
                Authentication::None | Authentication::Header => [0; AUTHENTICATION_OCTETS],
            };
            message[at..].copy_from_slice(&data);
        }
        let sum = covered(self.version, source, destination, message.len()).add_bytes(message);
        set_u16(message, field::CHECKSUM, sum.checksum());
    }
}
