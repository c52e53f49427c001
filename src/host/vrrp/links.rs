//! Interfaces and their addresses, as the kernel tells of them; pure, without a socket.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use netlink_packet_route::address::{AddressFlags, AddressMessage};
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use crate::base::{Address, MacAddress};
use crate::host::netlink::own_address;
use crate::vrrp::{self, Name};

/// An interface.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Link {
    /// Its name.
    pub name: Name,
    /// Administratively up and with a carrier.
    pub is_up: bool,
    /// Its Ethernet address.
    pub mac: MacAddress,
    /// Its MTU, octets.
    pub mtu: u32,
    /// True of a macvlan.
    pub is_macvlan: bool,
    /// What it stands on.
    pub parent: Option<u32>,
    /// Addresses with their prefixes, the kernel's order.
    pub addresses: Vec<(Address, u8)>,
}

/// An address that is gone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Lost {
    /// Kernel index of its interface.
    pub interface: u32,
    /// The address.
    pub address: Address,
}

/// All interfaces, by kernel index.
#[derive(Clone, Default, Debug)]
pub struct Links {
    links: BTreeMap<u32, Link>,
    by_name: BTreeMap<Name, u32>,
}

impl Links {
    /// From all links, then all addresses.
    pub fn from_dump(messages: impl IntoIterator<Item = RouteNetlinkMessage>) -> Self {
        let mut links = Self::default();
        messages.into_iter().for_each(|message| {
            links.apply(message);
        });
        links
    }

    /// Takes one of the kernel's messages. The address that is gone by it, if one is.
    pub fn apply(&mut self, message: RouteNetlinkMessage) -> Option<Lost> {
        match message {
            RouteNetlinkMessage::NewLink(message) => self.set_link(&message),
            // A bridge announces its ports as links of its own family; "gone" means that the port has left the bridge.
            RouteNetlinkMessage::DelLink(message) if message.header.interface_family == AddressFamily::Unspec => {
                if let Some(link) = self.links.remove(&message.header.index) {
                    self.by_name.remove(&link.name);
                }
            }
            RouteNetlinkMessage::NewAddress(message) => {
                let (interface, address, prefix, is_usable) = read_address(&message)?;
                let link = self.links.get_mut(&interface)?;
                let known = link.addresses.iter_mut().find(|(known, _)| *known == address);
                match known {
                    Some(known) if is_usable => known.1 = prefix,
                    None if is_usable => link.addresses.push((address, prefix)),
                    Some(_) => return self.remove_address(interface, address),
                    None => {}
                }
            }
            RouteNetlinkMessage::DelAddress(message) => {
                let (interface, address, ..) = read_address(&message)?;
                return self.remove_address(interface, address);
            }
            _ => {}
        }
        None
    }

    fn set_link(&mut self, message: &LinkMessage) {
        if message.header.interface_family != AddressFamily::Unspec {
            return;
        }
        let index = message.header.index;
        let flags = message.header.flags;
        let mut link = Link {
            name: Arc::from(""),
            is_up: flags.contains(LinkFlags::Up) && flags.contains(LinkFlags::Running),
            mac: MacAddress::default(),
            mtu: 0,
            is_macvlan: false,
            parent: None,
            addresses: Vec::new(),
        };
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name = name.as_str().into(),
                LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
                LinkAttribute::Link(parent) => link.parent = Some(*parent),
                LinkAttribute::Address(octets) => {
                    link.mac = octets.as_slice().try_into().map(MacAddress).unwrap_or_default();
                }
                LinkAttribute::LinkInfo(infos) => {
                    link.is_macvlan = infos.contains(&LinkInfo::Kind(InfoKind::MacVlan));
                }
                _ => {}
            }
        }
        if let Some(before) = self.links.remove(&index) {
            self.by_name.remove(&before.name);
            link.addresses = before.addresses;
        }
        self.by_name.insert(link.name.clone(), index);
        self.links.insert(index, link);
    }

    fn remove_address(&mut self, interface: u32, address: Address) -> Option<Lost> {
        if let Some(link) = self.links.get_mut(&interface) {
            link.addresses.retain(|(known, _)| *known != address);
        }
        Some(Lost { interface, address })
    }

    /// The kernel index of a name.
    pub fn index(&self, name: &str) -> Option<u32> {
        self.by_name.get(name).copied()
    }

    /// An interface.
    pub fn get(&self, index: u32) -> Option<&Link> {
        self.links.get(&index)
    }

    /// An interface by its name.
    pub fn named(&self, name: &str) -> Option<&Link> {
        self.get(self.index(name)?)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &Link)> {
        self.links.iter().map(|(&index, link)| (index, link))
    }

    /// The prefix with which an interface has an address.
    pub fn prefix(&self, index: u32, address: Address) -> Option<u8> {
        let addresses = &self.links.get(&index)?.addresses;
        addresses.iter().find(|(known, _)| *known == address).map(|&(_, prefix)| prefix)
    }

    /// Interfaces of these names as the machine sees them; one that is not there is down and without addresses.
    pub fn told<'a>(&'a self, names: &'a BTreeSet<Name>) -> impl Iterator<Item = (&'a Name, vrrp::Link)> {
        names.iter().map(|name| {
            let link = self.named(name).map(|link| vrrp::Link {
                is_up: link.is_up,
                addresses: link.addresses.iter().map(|&(address, _)| address).collect(),
            });
            (name, link.unwrap_or_default())
        })
    }
}

/// Interface, address, prefix, and whether it may be used.
fn read_address(message: &AddressMessage) -> Option<(u32, Address, u8, bool)> {
    let (address, flags) = own_address(message)?;
    Some((message.header.index, address.into(), message.header.prefix_len, !flags.contains(AddressFlags::Dadfailed)))
}

#[cfg(test)]
mod tests {
    use netlink_packet_route::address::AddressAttribute;

    use super::*;

    fn link(index: u32, name: &str, flags: LinkFlags) -> RouteNetlinkMessage {
        let mut message = LinkMessage::default();
        (message.header.index, message.header.flags) = (index, flags);
        message.attributes = vec![
            LinkAttribute::IfName(name.to_owned()),
            LinkAttribute::Mtu(1500),
            LinkAttribute::Address(vec![2, 0, 0, 0, 0, 1]),
        ];
        RouteNetlinkMessage::NewLink(message)
    }

    fn address_message(index: u32, text: &str, prefix: u8) -> AddressMessage {
        let mut message = AddressMessage::default();
        (message.header.index, message.header.prefix_len) = (index, prefix);
        message.attributes = vec![AddressAttribute::Local(text.parse().unwrap())];
        message
    }

    fn names(all: &[&str]) -> BTreeSet<Name> {
        all.iter().map(|&name| name.into()).collect()
    }

    #[test]
    fn links_and_addresses_are_followed() {
        let up = LinkFlags::Up | LinkFlags::Running;
        let mut links = Links::from_dump([
            link(2, "eth0", up),
            link(3, "eth1", LinkFlags::Up),
            RouteNetlinkMessage::NewAddress(address_message(2, "10.0.0.1", 24)),
            RouteNetlinkMessage::NewAddress(address_message(2, "fe80::1", 64)),
        ]);
        let (first, second): (Address, Address) = ("10.0.0.1".parse().unwrap(), "fe80::1".parse().unwrap());
        assert_eq!(links.index("eth0"), Some(2));
        assert_eq!(links.prefix(2, first), Some(24));
        let names = names(&["eth0", "eth1", "eth9"]);
        let told: Vec<(bool, usize)> = links.told(&names).map(|(_, link)| (link.is_up, link.addresses.len())).collect();
        assert_eq!(told, [(true, 2), (false, 0), (false, 0)], "without a carrier it is not up");
        // A change of the link keeps its addresses; a new name takes the place of the old one.
        links.apply(link(2, "wan", up));
        assert_eq!((links.index("eth0"), links.index("wan")), (None, Some(2)));
        assert_eq!(links.prefix(2, second), Some(64));
        let lost = links.apply(RouteNetlinkMessage::DelAddress(address_message(2, "fe80::1", 64)));
        assert_eq!(lost, Some(Lost { interface: 2, address: second }));
        assert_eq!(links.prefix(2, second), None);
        let mut gone = LinkMessage::default();
        gone.header.index = 2;
        assert_eq!(links.apply(RouteNetlinkMessage::DelLink(gone)), None);
        assert!(links.named("wan").is_none());
    }

    #[test]
    fn an_address_that_another_host_has_is_none() {
        let mut links = Links::from_dump([link(2, "eth0", LinkFlags::Up)]);
        let mut message = address_message(2, "fd00::1", 64);
        links.apply(RouteNetlinkMessage::NewAddress(message.clone()));
        message.attributes.push(AddressAttribute::Flags(AddressFlags::Dadfailed));
        let address = "fd00::1".parse().unwrap();
        assert_eq!(links.apply(RouteNetlinkMessage::NewAddress(message)), Some(Lost { interface: 2, address }));
        assert_eq!(links.prefix(2, address), None);
    }
}
