//! Names of hosts and services, behind a trait: who answers is the caller's choice.
//!
//! **Invariant**: nothing here reads a file or asks a resolver; [`FileNames`] is given the texts.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use crate::base::{Address, Family};
use crate::service::Protocol;

/// Answers for names, in both directions.
pub trait Names {
    /// The first IPv4 address of a host; ipvsadm takes names for IPv4 alone.
    fn address_of_host(&self, name: &str) -> Option<Ipv4Addr>;

    /// The name of an address; `None` prints the number.
    fn host_of_address(&self, address: Address) -> Option<String>;

    /// The port of a service such as `http`.
    fn port_of_service(&self, name: &str, protocol: Protocol) -> Option<u16>;

    /// The service of a port; `None` prints the number.
    fn service_of_port(&self, port: u16, protocol: Protocol) -> Option<String>;
}

/// Knows no name: numbers only.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoNames;

impl Names for NoNames {
    fn address_of_host(&self, _name: &str) -> Option<Ipv4Addr> {
        None
    }

    fn host_of_address(&self, _address: Address) -> Option<String> {
        None
    }

    fn port_of_service(&self, _name: &str, _protocol: Protocol) -> Option<u16> {
        None
    }

    fn service_of_port(&self, _port: u16, _protocol: Protocol) -> Option<String> {
        None
    }
}

/// The name of a protocol in the services file.
pub const fn protocol_name(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
        Protocol::Sctp => "sctp",
    }
}

/// Names from the texts of a services file and a hosts file (formats of services(5) and hosts(5)).
#[derive(Clone, Debug, Default)]
pub struct FileNames {
    ports: BTreeMap<(Protocol, String), u16>,
    services: BTreeMap<(Protocol, u16), String>,
    addresses: BTreeMap<String, Ipv4Addr>,
    hosts: BTreeMap<Address, String>,
}

impl FileNames {
    /// Names from the text of a services file and that of a hosts file. As with the C library's `files`, the first
    /// line that answers counts; lines that make no sense are skipped.
    pub fn new(services: &str, hosts: &str) -> Self {
        let mut names = Self::default();
        for words in services.lines().map(words_of_line) {
            names.take_service(&words);
        }
        for words in hosts.lines().map(words_of_line) {
            names.take_host(&words);
        }
        names
    }

    fn take_service(&mut self, words: &[&str]) {
        let [name, port, aliases @ ..] = words else { return };
        let Some((port, protocol)) = port.split_once('/') else { return };
        let known = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];
        let (Ok(port), Some(protocol)) =
            (port.parse::<u16>(), known.into_iter().find(|&known| protocol_name(known) == protocol))
        else {
            return;
        };
        self.services.entry((protocol, port)).or_insert_with(|| (*name).to_owned());
        for name in std::iter::once(name).chain(aliases) {
            self.ports.entry((protocol, (*name).to_owned())).or_insert(port);
        }
    }

    fn take_host(&mut self, words: &[&str]) {
        let [address, name, aliases @ ..] = words else { return };
        let Ok(address) = address.parse::<Address>() else { return };
        self.hosts.entry(address).or_insert_with(|| (*name).to_owned());
        if address.family() == Family::V4 {
            for name in std::iter::once(name).chain(aliases) {
                let address = Ipv4Addr::from_bits(address.low_u32());
                self.addresses.entry(name.to_ascii_lowercase()).or_insert(address);
            }
        }
    }
}

fn words_of_line(line: &str) -> Vec<&str> {
    let content = line.split('#').next().unwrap_or_default();
    content.split_ascii_whitespace().collect()
}

impl Names for FileNames {
    fn address_of_host(&self, name: &str) -> Option<Ipv4Addr> {
        self.addresses.get(&name.to_ascii_lowercase()).copied()
    }

    fn host_of_address(&self, address: Address) -> Option<String> {
        self.hosts.get(&address).cloned()
    }

    fn port_of_service(&self, name: &str, protocol: Protocol) -> Option<u16> {
        self.ports.get(&(protocol, name.to_owned())).copied()
    }

    fn service_of_port(&self, port: u16, protocol: Protocol) -> Option<String> {
        self.services.get(&(protocol, port)).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVICES: &str = "\
# comment
http\t\t80/tcp\t\twww\t# WorldWideWeb HTTP
domain 53/tcp
domain 53/udp
http-alt 8080/tcp webcache
broken
strange 99999/tcp
odd 7/dccp
";
    const HOSTS: &str = "\
127.0.0.1 localhost here # this machine
127.0.0.1 second
::1 localhost ip6-localhost
nonsense name
";

    #[test]
    fn services_answer_by_protocol_and_alias() {
        let names = FileNames::new(SERVICES, HOSTS);
        assert_eq!(names.port_of_service("www", Protocol::Tcp), Some(80));
        assert_eq!(names.port_of_service("http", Protocol::Udp), None);
        assert_eq!(names.port_of_service("HTTP", Protocol::Tcp), None, "names of services count as written");
        assert_eq!(names.service_of_port(8080, Protocol::Tcp).as_deref(), Some("http-alt"));
        assert_eq!(names.service_of_port(53, Protocol::Udp).as_deref(), Some("domain"));
        assert_eq!(names.service_of_port(7, Protocol::Tcp), None);
    }

    #[test]
    fn hosts_answer_in_ipv4_and_by_their_first_name() {
        let names = FileNames::new(SERVICES, HOSTS);
        assert_eq!(names.address_of_host("LocalHost"), Some(Ipv4Addr::LOCALHOST));
        assert_eq!(names.address_of_host("ip6-localhost"), None);
        assert_eq!(names.host_of_address("127.0.0.1".parse().unwrap()).as_deref(), Some("localhost"));
        assert_eq!(names.host_of_address("::1".parse().unwrap()).as_deref(), Some("localhost"));
        assert_eq!(names.host_of_address("10.0.0.1".parse().unwrap()), None);
    }
}
