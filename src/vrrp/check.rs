//! Which advertisements count: RFC 9568 section 7.1, RFC 3768 section 7.1, and keepalived's words for those that do not.

use std::fmt;

use crate::base::{Address, Duration};
use crate::vrrp::{Authentication, InstanceConfig, OldChecksum};
use crate::wire::vrrp::{HOP_LIMIT, Message, Opened, PRIORITY_OWNER, TYPE_ADVERTISEMENT, Version};

/// Lines that packets cause, refused ones and others, by instance and second.
pub const LINES_LOGGED_MAX: u32 = 10;

/// What an instance counted, under the names of keepalived's statistics where it has them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// Advertisements taken.
    pub adverts_received: u64,
    /// Advertisements sent, by destination.
    pub adverts_sent: u64,
    /// Times it became Active.
    pub became_active: u64,
    /// Times it ceased to be Active.
    pub released_active: u64,
    /// Refused: too short or too long.
    pub packet_length_errors: u64,
    /// Refused: another interval than ours (version 2), or none (version 3).
    pub interval_errors: u64,
    /// Refused: time to live.
    pub hop_limit_errors: u64,
    /// Refused: no advertisement.
    pub type_errors: u64,
    /// Refused: another list of addresses.
    pub address_list_errors: u64,
    /// Refused: unknown authentication type.
    pub invalid_authentication_types: u64,
    /// Refused: another authentication type than ours.
    pub authentication_mismatches: u64,
    /// Refused: wrong password or integrity check value.
    pub authentication_failures: u64,
    /// Advertisements of priority 0 taken.
    pub zero_received: u64,
    /// Advertisements of priority 0 sent, by destination.
    pub zero_sent: u64,
    /// Refused: checksum.
    pub checksum_errors: u64,
    /// Refused: version.
    pub version_errors: u64,
    /// Refused: not to us.
    pub destination_errors: u64,
    /// Refused: not from a peer.
    pub sender_errors: u64,
    /// Our own, come back.
    pub own: u64,
    /// Lines that packets caused beyond [`LINES_LOGGED_MAX`].
    pub lines_not_logged: u64,
    /// Advertisements of lower priority of which scripts were not told, for they came too fast.
    pub lower_not_told: u64,
}

impl Counters {
    /// Advertisements to us that were refused.
    pub const fn refused(&self) -> u64 {
        self.packet_length_errors
            + self.interval_errors
            + self.hop_limit_errors
            + self.type_errors
            + self.address_list_errors
            + self.invalid_authentication_types
            + self.authentication_mismatches
            + self.authentication_failures
            + self.checksum_errors
            + self.version_errors
            + self.sender_errors
    }
}

/// Why an advertisement does not count.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// It is our own.
    Own,
    /// Its destination is neither our group nor our address.
    Destination,
    /// `check_unicast_src`: its sender is no peer.
    Sender(Address),
    /// Time to live: what it has, and what it must have at least.
    HopLimit(u8, u8),
    /// Octets that are there, octets that there should be.
    Length(usize, usize),
    /// Version that it has, and ours.
    Version(u8, u8),
    /// Its type.
    Type(u8),
    /// The checksum, of this version, is wrong.
    Checksum(u8),
    /// Its authentication type is none.
    InvalidAuthentication(u8),
    /// Its authentication type, and ours.
    AuthenticationMismatch(u8, u8),
    /// The password is another.
    Password,
    /// The integrity check value is another.
    IntegrityValue,
    /// Version 2: its interval and ours, seconds.
    Interval(u8, u64),
    /// Version 3: its interval is 0.
    NoInterval,
    /// How many addresses it has, and we.
    AddressCount(usize, usize),
    /// Our identifier, and an address of ours that it does not have.
    AddressMissing(u8, Address),
}

impl Refusal {
    /// Counts it.
    pub(super) fn count(self, counters: &mut Counters) {
        let counter = match self {
            Refusal::Own => &mut counters.own,
            Refusal::Destination => &mut counters.destination_errors,
            Refusal::Sender(_) => &mut counters.sender_errors,
            Refusal::HopLimit(..) => &mut counters.hop_limit_errors,
            Refusal::Length(..) => &mut counters.packet_length_errors,
            Refusal::Version(..) => &mut counters.version_errors,
            Refusal::Type(_) => &mut counters.type_errors,
            Refusal::Checksum(_) => &mut counters.checksum_errors,
            Refusal::InvalidAuthentication(_) => &mut counters.invalid_authentication_types,
            Refusal::AuthenticationMismatch(..) => &mut counters.authentication_mismatches,
            Refusal::Password | Refusal::IntegrityValue => &mut counters.authentication_failures,
            Refusal::Interval(..) | Refusal::NoInterval => &mut counters.interval_errors,
            Refusal::AddressCount(..) | Refusal::AddressMissing(..) => &mut counters.address_list_errors,
        };
        *counter += 1;
    }

    /// True when there is something to log: what is not meant for us is no news.
    pub(super) const fn is_news(self) -> bool {
        !matches!(self, Refusal::Own | Refusal::Destination)
    }
}

/// keepalived's line, behind the instance's name.
impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Own => f.write_str("received its own advert"),
            Refusal::Destination => f.write_str("received an advert that was sent elsewhere"),
            Refusal::Sender(source) => write!(f, "unicast source address {source} not a unicast peer"),
            Refusal::HopLimit(received, expected) => {
                write!(f, "invalid TTL/HL. Received {received} and expect {expected}")
            }
            Refusal::Length(length, expected) => {
                let word = if length < expected { "short" } else { "long" };
                write!(f, "vrrp packet too {word}, length {length} and expect {expected}")
            }
            Refusal::Version(received, expected) => {
                write!(f, "wrong version. Received {received} and expect {expected}")
            }
            Refusal::Type(received) => write!(f, "Invalid packet type. {received} and expect {TYPE_ADVERTISEMENT}"),
            Refusal::Checksum(version) => write!(f, "Invalid VRRPv{version} checksum"),
            Refusal::InvalidAuthentication(received) => write!(f, "Invalid auth type: {received}"),
            Refusal::AuthenticationMismatch(received, expected) => {
                write!(f, "received a {received} auth, expecting {expected}!")
            }
            Refusal::Password => f.write_str("received an invalid passwd!"),
            Refusal::IntegrityValue => f.write_str("received an invalid IPSEC-AH HMAC-MD5 value"),
            Refusal::Interval(received, expected) => {
                write!(f, "advertisement interval mismatch mine={expected} sec rcv'd={received} sec")
            }
            Refusal::NoInterval => f.write_str("received an advertisement interval of 0"),
            Refusal::AddressCount(received, expected) => {
                write!(f, "received an unexpected ip number count {received}, expected {expected}!")
            }
            Refusal::AddressMissing(vrid, address) => {
                write!(f, "ip address associated with VRID {vrid} not present in MASTER advert: {address}")
            }
        }
    }
}

/// An advertisement that counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Heard {
    /// Who sent it.
    pub source: Address,
    /// Its priority.
    pub priority: u8,
    /// Its interval; of version 2 it is ours.
    pub interval: Duration,
    /// The sequence number of its authentication header.
    pub sequence: Option<u32>,
    /// Its checksum was keepalived 1.3.6's.
    pub has_old_checksum: bool,
}

/// Checks an advertisement of our identifier and family. `own` is our primary address, `known` the last Active router.
///
/// # Errors
/// The first reason to refuse it.
pub(super) fn check(
    config: &InstanceConfig,
    own: Option<Address>,
    known: Option<Address>,
    opened: &Opened<'_>,
    message: &Message<'_>,
) -> Result<Heard, Refusal> {
    if own == Some(opened.source) {
        return Err(Refusal::Own);
    }
    check_way(config, own, opened)?;
    let (length, expected) = (opened.headers + message.octets(), opened.headers + message.promised_octets());
    if length != expected {
        return Err(Refusal::Length(length, expected));
    }
    if message.version() != config.version as u8 {
        return Err(Refusal::Version(message.version(), config.version as u8));
    }
    if message.message_type() != TYPE_ADVERTISEMENT {
        return Err(Refusal::Type(message.message_type()));
    }
    let has_old_checksum = check_sum(config, opened, message)?;
    let interval = match config.version {
        Version::V2 => {
            check_authentication(config, opened, message)?;
            let ours = config.interval.as_secs();
            if u64::from(message.interval_s()) != ours {
                return Err(Refusal::Interval(message.interval_s(), ours));
            }
            config.interval
        }
        // RFC 9568 section 9.1: version 3 has no authentication, whatever is in front of it.
        Version::V3 if opened.sequence().is_some() => return Err(Refusal::AuthenticationMismatch(2, 0)),
        // **Deviation** from keepalived, which takes it and then declares the Active router down at once.
        Version::V3 if message.interval_cs() == 0 => return Err(Refusal::NoInterval),
        Version::V3 => Duration::from_millis(u64::from(message.interval_cs()) * 10),
    };
    let is_known = config.skips_known_lists && known == Some(opened.source);
    // RFC 3768 section 7.1: a differing list is no reason to drop what the owner says.
    let is_owner = config.version == Version::V2 && message.priority() == PRIORITY_OWNER;
    if !is_known && !is_owner {
        check_list(config, message)?;
    }
    let (source, priority) = (opened.source, message.priority());
    Ok(Heard { source, priority, interval, sequence: opened.sequence(), has_old_checksum })
}

/// Whether it came as it should: to us, from a peer, over no router.
fn check_way(config: &InstanceConfig, own: Option<Address>, opened: &Opened<'_>) -> Result<(), Refusal> {
    if !config.is_unicast() {
        if opened.destination != config.multicast_group() {
            return Err(Refusal::Destination);
        }
        return if opened.hop_limit == HOP_LIMIT {
            Ok(())
        } else {
            Err(Refusal::HopLimit(opened.hop_limit, HOP_LIMIT))
        };
    }
    if opened.destination.is_multicast() || own.is_some_and(|own| own != opened.destination) {
        return Err(Refusal::Destination);
    }
    match config.peers.iter().find(|peer| peer.address == opened.source) {
        None if config.checks_sender => Err(Refusal::Sender(opened.source)),
        Some(peer) if opened.hop_limit < peer.hop_limit_min => {
            Err(Refusal::HopLimit(opened.hop_limit, peer.hop_limit_min))
        }
        Some(peer) if opened.hop_limit > peer.hop_limit_max => {
            Err(Refusal::HopLimit(opened.hop_limit, peer.hop_limit_max))
        }
        None | Some(_) => Ok(()),
    }
}

/// True when the checksum is right as keepalived 1.3.6 made it, false when it is right.
fn check_sum(config: &InstanceConfig, opened: &Opened<'_>, message: &Message<'_>) -> Result<bool, Refusal> {
    if message.has_valid_checksum(opened.source, opened.destination) {
        return Ok(false);
    }
    let may_be_old = config.version == Version::V3
        && config.is_unicast()
        && opened.source.is_v4()
        && config.old_checksum != OldChecksum::Never;
    if may_be_old && message.has_valid_checksum(opened.source, config.multicast_group()) {
        return Ok(true);
    }
    Err(Refusal::Checksum(message.version()))
}

fn check_authentication(config: &InstanceConfig, opened: &Opened<'_>, message: &Message<'_>) -> Result<(), Refusal> {
    let theirs = match (opened.sequence(), message.authentication_type()) {
        (None, number) => number,
        // Whatever the message says, this is what it has.
        (Some(_), _) => 2,
    };
    if theirs > 2 {
        return Err(Refusal::InvalidAuthentication(theirs));
    }
    let ours = match config.authentication {
        Authentication::None => 0,
        Authentication::Password(_) => 1,
        Authentication::Header(_) => 2,
    };
    if theirs != ours {
        return Err(Refusal::AuthenticationMismatch(theirs, ours));
    }
    match config.authentication {
        Authentication::None => Ok(()),
        Authentication::Password(key) if message.authentication_data() == Some(key) => Ok(()),
        Authentication::Password(_) => Err(Refusal::Password),
        Authentication::Header(key) if opened.is_authentic(&key) => Ok(()),
        Authentication::Header(_) => Err(Refusal::IntegrityValue),
    }
}

fn check_list(config: &InstanceConfig, message: &Message<'_>) -> Result<(), Refusal> {
    let (theirs, ours) = (usize::from(message.count()), config.addresses.len());
    if theirs != ours {
        return Err(Refusal::AddressCount(theirs, ours));
    }
    // Nearly always the order is the same; then one pass is enough.
    if message.addresses().eq(config.addresses.iter().map(|own| own.address)) {
        return Ok(());
    }
    match config.addresses.iter().find(|own| !message.addresses().any(|address| address == own.address)) {
        Some(missing) => Err(Refusal::AddressMissing(config.vrid, missing.address)),
        None => Ok(()),
    }
}
