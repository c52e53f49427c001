//! What can be asked of the director, and what it answers. One language for the command line, the control socket,
//! rule files and reloads.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::base::{Address, Endpoint};
use crate::service::{FullNat, Method, Protocol, SchedulerFlags, ServiceKey, Tunnel};

/// One request. Numbers are checked against ipvsadm's ranges before they get here; what the kernel checks,
/// `control` checks.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Request {
    /// `-A`
    AddService(ServiceRule),
    /// `-E`: replaces every attribute.
    EditService(ServiceRule),
    /// `-D`
    DeleteService(ServiceKey),
    /// `-C`
    Clear,
    /// `-a`
    AddServer {
        /// The service.
        service: ServiceKey,
        /// The real server.
        server: ServerRule,
    },
    /// `-e`: replaces every attribute.
    EditServer {
        /// The service.
        service: ServiceKey,
        /// The real server.
        server: ServerRule,
    },
    /// `-d`
    DeleteServer {
        /// The service.
        service: ServiceKey,
        /// Address and port of the real server.
        server: Endpoint,
    },
    /// `-Z`, of one service or of all.
    Zero(Option<ServiceKey>),
    /// `--set`; 0 keeps a value. Seconds.
    SetTimeouts {
        /// Established TCP.
        tcp_s: u32,
        /// TCP after a FIN.
        tcp_fin_s: u32,
        /// UDP.
        udp_s: u32,
    },
    /// `--start-daemon`
    StartDaemon(DaemonRule),
    /// `--stop-daemon`
    StopDaemon(DaemonRole),
    /// `-L` and `-S`: one service or all, with their servers.
    Services(Option<ServiceKey>),
    /// `-L -c`
    Connections,
    /// `-L --timeout`
    Timeouts,
    /// `-L --daemon`
    Daemons,
}

impl Request {
    /// True when the request may change something.
    pub const fn is_change(&self) -> bool {
        !matches!(self, Request::Services(_) | Request::Connections | Request::Timeouts | Request::Daemons)
    }
}

/// The attributes of a virtual service.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ServiceRule {
    /// What it answers to.
    pub key: ServiceKey,
    /// Scheduler by its kernel name, at most 15 octets; `none` for none.
    pub scheduler: String,
    /// Scheduler flags.
    pub flags: SchedulerFlags,
    /// Persistence timeout, seconds; `None` without persistence.
    pub persistent_s: Option<u32>,
    /// Persistence granularity: IPv4 netmask as a number (`u32::MAX` when not given), IPv6 prefix length (128).
    pub mask: u32,
    /// Persistence engine by name.
    pub engine: Option<String>,
    /// One-packet scheduling.
    pub one_packet: bool,
    /// Largest MSS that SYNs of the service may ask for, octets (see [`MSS_MIN`]); 0 leaves them alone. An addition.
    #[serde(default)]
    pub mss_max: u16,
}

/// Least value of [`ServiceRule::mss_max`], octets: the least MSS that Linux sends by (`TCP_MIN_MSS`).
pub const MSS_MIN: u16 = 88;

/// The attributes of a real server.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ServerRule {
    /// Address and port.
    pub endpoint: Endpoint,
    /// Forwarding method.
    pub method: Method,
    /// Weight, 0..=2147483647.
    pub weight: i32,
    /// Upper threshold of connections, 0 for none.
    pub upper: u32,
    /// Lower threshold, 0 for none.
    pub lower: u32,
    /// Encapsulation of the tunnelling method.
    pub tunnel: Tunnel,
    /// Full NAT, for the masquerading method.
    #[serde(default)]
    pub full_nat: FullNat,
}

/// Which half of connection synchronisation.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum DaemonRole {
    /// Sends.
    Master,
    /// Receives.
    Backup,
}

/// A sync daemon.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DaemonRule {
    /// Sender or receiver.
    pub role: DaemonRole,
    /// Interface of the multicast group.
    pub interface: String,
    /// Synchronisation id, 0..=255.
    pub syncid: u8,
    /// Longest datagram, octets of UDP payload; 0 for the default.
    pub sync_maxlen: u16,
    /// Multicast group; `None` for 224.0.0.81.
    pub group: Option<Address>,
    /// UDP port; 0 for 8848.
    pub port: u16,
    /// TTL; 0 for 1.
    pub ttl: u8,
}

/// An answer: what was asked for, or why not.
pub type Reply = Result<Response, Refusal>;

/// What was asked for.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub enum Response {
    /// It is done.
    Done,
    /// Services in the director's order (oldest first), each with its servers newest first.
    Services {
        /// `size=` of the version line: 2 to the power of `conn_tab_bits`.
        table_size: u32,
        /// The services.
        services: Vec<ServiceInfo>,
    },
    /// Connections, in no particular order.
    Connections(Vec<ConnectionInfo>),
    /// Timeouts, seconds.
    Timeouts {
        /// Established TCP.
        tcp_s: u32,
        /// TCP after a FIN.
        tcp_fin_s: u32,
        /// UDP.
        udp_s: u32,
    },
    /// Running sync daemons, master first.
    Daemons(Vec<DaemonRule>),
}

/// A virtual service with its counters.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct ServiceInfo {
    /// Its attributes.
    pub rule: ServiceRule,
    /// Its counters.
    pub stats: Stats,
    /// Its servers, newest first.
    pub servers: Vec<ServerInfo>,
}

/// A real server with its counters.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct ServerInfo {
    /// Its attributes.
    pub rule: ServerRule,
    /// Active connections.
    pub active: u32,
    /// Inactive connections.
    pub inactive: u32,
    /// Persistence templates.
    pub persistent: u32,
    /// Its counters.
    pub stats: Stats,
}

/// Counters since the last zeroing, and rates.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Stats {
    /// Connections scheduled.
    pub connections: u64,
    /// Packets from clients.
    pub in_packets: u64,
    /// Packets to clients.
    pub out_packets: u64,
    /// Octets from clients.
    pub in_octets: u64,
    /// Octets to clients.
    pub out_octets: u64,
    /// Connections a second.
    pub connection_rate: u64,
    /// Packets from clients a second.
    pub in_packet_rate: u64,
    /// Packets to clients a second.
    pub out_packet_rate: u64,
    /// Octets from clients a second.
    pub in_octet_rate: u64,
    /// Octets to clients a second.
    pub out_octet_rate: u64,
}

/// A row of the connection table.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ConnectionInfo {
    /// `None` for the template of a fwmark service (printed `IP`).
    pub protocol: Option<Protocol>,
    /// Seconds left, rounded down.
    pub expires_s: u32,
    /// State as ipvsadm prints it: `ESTABLISHED`, `NONE`, `UDP`.
    pub state: String,
    /// Client.
    pub client: Endpoint,
    /// Virtual service.
    pub virtual_service: Endpoint,
    /// Real server.
    pub destination: Endpoint,
    /// Name and data of the persistence engine.
    pub engine: Option<(String, String)>,
    /// True when the entry came from a sync peer.
    pub from_sync: bool,
}

/// Why the director refused, by the errno the kernel would give.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Refusal {
    /// EEXIST
    Exists,
    /// ENOENT: no such scheduler, engine or destination.
    NotFound,
    /// ESRCH: no such service, no daemon.
    NoService,
    /// EINVAL
    Invalid,
    /// ERANGE
    Range,
    /// ENOMEM
    NoMemory,
    /// EAFNOSUPPORT
    Family,
    /// ENODEV
    NoDevice,
    /// EPERM
    NotPermitted,
    /// The director cannot do this, or not yet; the sentence says what.
    NotSupported(String),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Refusal::Exists => "exists already",
            Refusal::NotFound => "not found",
            Refusal::NoService => "no such service",
            Refusal::Invalid => "invalid",
            Refusal::Range => "out of range",
            Refusal::NoMemory => "a table is full",
            Refusal::Family => "address family not supported",
            Refusal::NoDevice => "no such interface",
            Refusal::NotPermitted => "permission denied",
            Refusal::NotSupported(what) => what,
        })
    }
}

impl std::error::Error for Refusal {}
