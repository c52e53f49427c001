//! The snapshot of all virtual services that workers read.

use std::collections::HashMap;
use std::sync::Arc;

use crate::base::hasher::BuildWordHasher;
use crate::base::{Address, Family, Lock};
use crate::service::scheduler::Scheduling;
use crate::service::types::{Engine, Protocol, ServiceKey};

/// The number of a service, unique for the director's life. 0 is no service.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct ServiceId(pub u32);

/// Persistence of a service: clients of one network stay with one destination.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Persistence {
    /// Timeout of the templates, seconds, 1..=2678400.
    pub timeout_s: u32,
    /// The part of the client's address that counts: a netmask as a number for IPv4 (it need not be contiguous),
    /// 1..=128 leading bits for IPv6.
    pub mask: u32,
}

impl Persistence {
    /// The part of a client's address that counts.
    pub fn masked(&self, client: Address) -> Address {
        match client.family() {
            Family::V4 => Address::v4(client.low_u32() & self.mask),
            Family::V6 => client.masked(self.mask.min(128) as u8),
        }
    }
}

/// One virtual service as of a snapshot.
#[derive(Clone)]
pub struct Service {
    /// Its number.
    pub id: ServiceId,
    /// What it answers to.
    pub key: ServiceKey,
    /// Persistence, if any.
    pub persistence: Option<Persistence>,
    /// Persistence engine, if any.
    pub engine: Option<Engine>,
    /// True for one-packet scheduling of UDP.
    pub one_packet: bool,
    /// Destinations and the scheduler's position; outlives the snapshot.
    pub scheduling: Arc<Lock<Scheduling>>,
}

impl Service {
    /// True when the service takes what carries a mark, whatever its protocol and port.
    pub const fn is_by_mark(&self) -> bool {
        self.key.is_mark()
    }

    /// The service's port; 0 for every port and for marks.
    pub const fn port(&self) -> u16 {
        match self.key {
            ServiceKey::Address { endpoint, .. } => endpoint.port,
            ServiceKey::Mark { .. } => 0,
        }
    }
}

/// First port that TCP connections of a port-21 service may use for passive data
/// (`net.ipv4.ip_unprivileged_port_start`).
const FTP_PASSIVE_PORT_MIN: u16 = 1024;
/// FTP's control port: a TCP service there takes its clients' data connections too.
pub const FTP_PORT: u16 = 21;
/// The port from which an FTP server opens data connections.
pub const FTP_DATA_PORT: u16 = 20;

/// All virtual services, found by what a packet says.
#[derive(Clone, Default)]
pub struct Services {
    by_key: HashMap<ServiceKey, Arc<Service>, BuildWordHasher>,
    has_marks: bool,
    has_ftp: bool,
    has_port_zero: bool,
    has_v4: bool,
    has_v6: bool,
}

impl Services {
    /// A snapshot of `services`, whose keys are distinct.
    pub fn new(services: impl IntoIterator<Item = Service>) -> Self {
        let mut snapshot = Services::default();
        for service in services {
            match service.key.family() {
                Family::V4 => snapshot.has_v4 = true,
                Family::V6 => snapshot.has_v6 = true,
            }
            match service.key {
                ServiceKey::Mark { .. } => snapshot.has_marks = true,
                ServiceKey::Address { endpoint, .. } if endpoint.port == 0 => snapshot.has_port_zero = true,
                ServiceKey::Address { protocol: Protocol::Tcp, endpoint } if endpoint.port == FTP_PORT => {
                    snapshot.has_ftp = true;
                }
                ServiceKey::Address { .. } => {}
            }
            snapshot.by_key.insert(service.key, Arc::new(service));
        }
        snapshot
    }

    /// All services, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Service>> {
        self.by_key.values()
    }

    /// True when the family has a service. Without one nothing of it is touched, connections that are left over
    /// included: the kernel unregisters its hooks with the last service (`ip_vs_unregister_hooks`).
    #[inline]
    pub const fn balances(&self, family: Family) -> bool {
        match family {
            Family::V4 => self.has_v4,
            Family::V6 => self.has_v6,
        }
    }

    /// True when there is a service by mark.
    #[inline]
    pub const fn has_marks(&self) -> bool {
        self.has_marks
    }

    /// The service of a mark that is not 0.
    pub fn find_marked(&self, family: Family, mark: u32) -> Option<&Arc<Service>> {
        if mark == 0 || !self.has_marks {
            return None;
        }
        self.by_key.get(&ServiceKey::Mark { family, mark })
    }

    /// The service with exactly this key.
    pub fn get(&self, key: &ServiceKey) -> Option<&Arc<Service>> {
        self.by_key.get(key)
    }

    /// The service that takes a packet, in the kernel's order: mark, exact address and port, port 21 for FTP data,
    /// port 0 (`net/netfilter/ipvs/ip_vs_ctl.c`, `ip_vs_service_find`).
    pub fn find(&self, mark: u32, protocol: Protocol, address: Address, port: u16) -> Option<&Arc<Service>> {
        let at = |port| {
            let endpoint = crate::base::Endpoint::new(address, port);
            self.by_key.get(&ServiceKey::Address { protocol, endpoint })
        };
        if let Some(service) = self.find_marked(address.family(), mark) {
            return Some(service);
        }
        if let Some(service) = at(port) {
            return Some(service);
        }
        let may_be_ftp_data = port == FTP_DATA_PORT || port >= FTP_PASSIVE_PORT_MIN;
        if protocol == Protocol::Tcp
            && self.has_ftp
            && may_be_ftp_data
            && let Some(service) = at(FTP_PORT)
        {
            return Some(service);
        }
        if self.has_port_zero { at(0) } else { None }
    }
}
