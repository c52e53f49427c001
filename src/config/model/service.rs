//! `virtual_server`, `virtual_server_group`, `real_server`.

use crate::base::{Address, Duration, Family};
use crate::config::model::{Check, Script};
use crate::service::{Engine, Method, Protocol, SchedulerFlags, Tunnel};
use crate::vrrp::Name;

/// What a virtual server answers to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Target {
    /// An address and a port; port 0: every port.
    Endpoint(Address, u16),
    /// A firewall mark.
    Mark(u32),
    /// All entries of a group, by name.
    Group(Name),
}

/// A `virtual_server`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VirtualServer {
    /// What it answers to.
    pub target: Target,
    /// Family of its packets.
    pub family: Family,
    /// Its protocol; `None` with marks.
    pub protocol: Option<Protocol>,
    /// Its scheduler, by the kernel's name.
    pub scheduler: Name,
    /// `hashed`: no effect.
    pub is_hashed: bool,
    /// `flag-1` and so on.
    pub flags: SchedulerFlags,
    /// `ops`.
    pub is_one_packet: bool,
    /// The method of servers that have none of their own.
    pub method: Method,
    /// The tunnel of servers that have none of their own.
    pub tunnel: Tunnel,
    /// `persistence_timeout`, seconds; 0: off.
    pub persistence_s: u32,
    /// `persistence_granularity`: IPv4 netmask as a number, IPv6 prefix length; `None`: one client.
    pub granularity: Option<u32>,
    /// `persistence_engine`.
    pub engine: Option<Engine>,
    /// `delay_loop`.
    pub delay_loop: Duration,
    /// `sorry_server`.
    pub sorry: Option<SorryServer>,
    /// `sorry_server_inhibit`.
    pub sorry_inhibits: bool,
    /// `quorum`.
    pub quorum: u32,
    /// `hysteresis`.
    pub hysteresis: u32,
    /// `quorum_up`.
    pub quorum_up: Option<Script>,
    /// `quorum_down`.
    pub quorum_down: Option<Script>,
    /// `alpha`: servers start as down.
    pub starts_down: bool,
    /// `omega`: down scripts are run at the end.
    pub tells_at_stop: bool,
    /// `ha_suspend`: checks run only while the address is here.
    pub suspends: bool,
    /// `inhibit_on_failure`: weight 0 in place of removal.
    pub inhibits: bool,
    /// `virtualhost`.
    pub virtual_host: Option<Name>,
    /// `smtp_alert`.
    pub smtp_alert: bool,
    /// `connect_timeout`.
    pub connect_timeout: Duration,
    /// `snmp_name`.
    pub snmp_name: Option<Name>,
    /// Its real servers.
    pub servers: Vec<RealServer>,
}

/// A `sorry_server`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SorryServer {
    /// Its address.
    pub address: Address,
    /// Its port.
    pub port: u16,
    /// How packets get there.
    pub method: Method,
    /// In which tunnel.
    pub tunnel: Tunnel,
}

/// A `real_server`; what it says nothing of it has from its service already.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RealServer {
    /// Its address.
    pub address: Address,
    /// Its port.
    pub port: u16,
    /// Its weight.
    pub weight: i32,
    /// How packets get there.
    pub method: Method,
    /// In which tunnel.
    pub tunnel: Tunnel,
    /// `uthreshold`.
    pub upper: u32,
    /// `lthreshold`.
    pub lower: u32,
    /// Weight 0 in place of removal.
    pub inhibits: bool,
    /// It starts as down.
    pub starts_down: bool,
    /// `notify_up`.
    pub notify_up: Option<Script>,
    /// `notify_down`.
    pub notify_down: Option<Script>,
    /// `smtp_alert`.
    pub smtp_alert: bool,
    /// `virtualhost`.
    pub virtual_host: Option<Name>,
    /// `connect_timeout`.
    pub connect_timeout: Duration,
    /// `delay_loop`.
    pub delay_loop: Duration,
    /// `snmp_name`.
    pub snmp_name: Option<Name>,
    /// It is up when all of these are.
    pub checks: Vec<Check>,
}

/// A `virtual_server_group`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServerGroup {
    /// Its name.
    pub name: Name,
    /// What it stands for.
    pub entries: Vec<GroupEntry>,
}

/// A line of a group.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum GroupEntry {
    /// Addresses in a row, one service each, and their port.
    Addresses {
        /// The first.
        first: Address,
        /// How many follow it.
        following: u32,
        /// The port; 0: every port.
        port: u16,
    },
    /// A firewall mark.
    Mark(Family, u32),
}

/// `SSL { }`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct TlsClient {
    /// It stands in the file.
    pub is_given: bool,
    /// Password of the key.
    pub password: Option<Name>,
    /// Path of the authority's certificate.
    pub authority: Option<Name>,
    /// Path of our certificate.
    pub certificate: Option<Name>,
    /// Path of our key.
    pub key: Option<Name>,
}
