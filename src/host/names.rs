//! Names of hosts and services as the system knows them, for `lvxadm` without `-n`.

use std::net::{IpAddr, Ipv4Addr, ToSocketAddrs};

use crate::base::Address;
use crate::command::names::{FileNames, Names};
use crate::service::Protocol;

/// Host names by the system's resolver, service names by its services file.
pub struct SystemNames {
    files: FileNames,
}

impl Default for SystemNames {
    fn default() -> Self {
        let services = std::fs::read_to_string("/etc/services").unwrap_or_default();
        Self { files: FileNames::new(&services, "") }
    }
}

impl Names for SystemNames {
    fn address_of_host(&self, name: &str) -> Option<Ipv4Addr> {
        (name, 0).to_socket_addrs().ok()?.find_map(|address| match address.ip() {
            IpAddr::V4(v4) => Some(v4),
            IpAddr::V6(_) => None,
        })
    }

    fn host_of_address(&self, address: Address) -> Option<String> {
        // An address without a name comes back as its own text.
        let name = dns_lookup::lookup_addr(&address.to_ip()).ok()?;
        (name != address.to_string()).then_some(name)
    }

    fn port_of_service(&self, name: &str, protocol: Protocol) -> Option<u16> {
        self.files.port_of_service(name, protocol)
    }

    fn service_of_port(&self, port: u16, protocol: Protocol) -> Option<String> {
        self.files.service_of_port(port, protocol)
    }
}
