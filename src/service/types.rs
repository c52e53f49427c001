//! The words of a rule: protocol, forwarding method, tunnel, the key of a service.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::base::{Endpoint, Family};

/// The transport protocols that a service can balance.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[repr(u8)]
pub enum Protocol {
    /// RFC 9293.
    Tcp = 6,
    /// RFC 768.
    Udp = 17,
    /// RFC 9260.
    Sctp = 132,
}

impl Protocol {
    /// The protocol with this IP protocol number.
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            6 => Some(Protocol::Tcp),
            17 => Some(Protocol::Udp),
            132 => Some(Protocol::Sctp),
            _ => None,
        }
    }

    /// The IP protocol number.
    pub const fn number(self) -> u8 {
        self as u8
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Protocol::Tcp => "TCP",
            Protocol::Udp => "UDP",
            Protocol::Sctp => "SCTP",
        })
    }
}

/// How packets reach a real server. The numbers are those of `IP_VS_CONN_F_FWD_MASK` and travel in sync messages.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
#[repr(u8)]
pub enum Method {
    /// NAT: `-m`.
    Masquerading = 0,
    /// The director itself is the real server; not settable by ipvsadm.
    LocalNode = 1,
    /// Encapsulation: `-i`.
    Tunnelling = 2,
    /// A new next hop, the packet unchanged: `-g`, the default.
    #[default]
    DirectRouting = 3,
    /// Cache bypass: routed to the original address; made by the director alone.
    Bypass = 4,
}

impl Method {
    /// The method with this number.
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Method::Masquerading),
            1 => Some(Method::LocalNode),
            2 => Some(Method::Tunnelling),
            3 => Some(Method::DirectRouting),
            4 => Some(Method::Bypass),
            _ => None,
        }
    }
}

/// The checksum of a GUE or GRE tunnel.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
#[repr(u8)]
pub enum TunnelChecksum {
    /// `--tun-nocsum`.
    #[default]
    None = 0,
    /// `--tun-csum`.
    Full = 1,
    /// `--tun-remcsum`.
    Remote = 2,
}

/// A persistence engine: what of a packet, beside the client's address, keeps it with a destination.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Engine {
    /// The Call-ID of SIP over UDP.
    Sip,
}

impl Engine {
    /// The engine with this name.
    pub fn by_name(name: &str) -> Option<Self> {
        (name == Engine::Sip.name()).then_some(Engine::Sip)
    }

    /// The kernel's name.
    pub const fn name(self) -> &'static str {
        match self {
            Engine::Sip => "sip",
        }
    }
}

/// The encapsulation of a tunnelled destination.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub enum Tunnel {
    /// IP in IP, RFC 2003 and RFC 2473: `--tun-type ipip`.
    #[default]
    Ipip,
    /// Generic UDP encapsulation: `--tun-type gue --tun-port PORT`.
    Gue {
        /// UDP port of the receiver, never 0.
        port: u16,
        /// Outer UDP checksum.
        checksum: TunnelChecksum,
    },
    /// Generic routing encapsulation, RFC 2784: `--tun-type gre`.
    Gre {
        /// True with the optional checksum.
        checksum: bool,
    },
}

/// Full NAT: whether a masquerading real server sees an address of the director in place of its clients', and how it
/// learns theirs nevertheless. An addition to what the kernel has.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
#[repr(u8)]
pub enum FullNat {
    /// It sees its clients, and answers by the director.
    #[default]
    Off = 0,
    /// `--fullnat`: it sees a local address and never learns who its client is.
    Silent = 1,
    /// `--client-address toa`: by option 254 of the client's first TCP segments, as DPVS has it.
    Toa = 2,
    /// `--client-address proxy`: by a PROXY protocol header (version 2) in front of the client's TCP stream.
    Proxy = 3,
}

impl FullNat {
    /// The way with this number.
    pub const fn from_number(number: u8) -> Self {
        match number {
            1 => FullNat::Silent,
            2 => FullNat::Toa,
            3 => FullNat::Proxy,
            _ => FullNat::Off,
        }
    }

    /// True unless it is off.
    pub const fn is_on(self) -> bool {
        !matches!(self, FullNat::Off)
    }

    /// The word of `--client-address`; `None` where the option does not stand.
    pub const fn word(self) -> Option<&'static str> {
        match self {
            FullNat::Off | FullNat::Silent => None,
            FullNat::Toa => Some("toa"),
            FullNat::Proxy => Some("proxy"),
        }
    }
}

/// Flags of a scheduler: `-b flag-1,flag-2,flag-3` (bits 0x08, 0x10, 0x20 of the kernel's service flags).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub struct SchedulerFlags(pub u8);

impl SchedulerFlags {
    /// `flag-1`, `sh-fallback`, `mh-fallback`.
    pub const FLAG_1: u8 = 1;
    /// `flag-2`, `sh-port`, `mh-port`.
    pub const FLAG_2: u8 = 2;
    /// `flag-3`.
    pub const FLAG_3: u8 = 4;

    /// True when all bits of `flag` are set.
    pub const fn has(self, flag: u8) -> bool {
        self.0 & flag == flag
    }
}

/// What a virtual service answers to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum ServiceKey {
    /// `-t`, `-u`, `--sctp-service`: an address and port; port 0 means every port.
    Address {
        /// Transport protocol.
        protocol: Protocol,
        /// Virtual address and port.
        endpoint: Endpoint,
    },
    /// `-f MARK`, `-f MARK -6`: packets that carry a firewall mark.
    Mark {
        /// Family of the packets.
        family: Family,
        /// The mark, never 0.
        mark: u32,
    },
}

impl ServiceKey {
    /// Family of the packets that the service takes.
    pub const fn family(&self) -> Family {
        match self {
            ServiceKey::Address { endpoint, .. } => endpoint.address.family(),
            ServiceKey::Mark { family, .. } => *family,
        }
    }

    /// True for a service by firewall mark.
    pub const fn is_mark(&self) -> bool {
        matches!(self, ServiceKey::Mark { .. })
    }

    /// True when the service takes packets of the protocol; one by mark takes all.
    pub fn serves(&self, protocol: Protocol) -> bool {
        match self {
            ServiceKey::Address { protocol: own, .. } => *own == protocol,
            ServiceKey::Mark { .. } => true,
        }
    }
}

/// ipvsadm's words for the service: `-t 10.0.0.1:80`, `-f 7 -6`.
impl fmt::Display for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ServiceKey::Address { protocol: Protocol::Tcp, endpoint } => write!(f, "-t {endpoint}"),
            ServiceKey::Address { protocol: Protocol::Udp, endpoint } => write!(f, "-u {endpoint}"),
            ServiceKey::Address { protocol: Protocol::Sctp, endpoint } => write!(f, "--sctp-service {endpoint}"),
            ServiceKey::Mark { family: Family::V4, mark } => write!(f, "-f {mark}"),
            ServiceKey::Mark { family: Family::V6, mark } => write!(f, "-f {mark} -6"),
        }
    }
}
