//! Addresses of virtual routers on interfaces, by netlink: set, taken away, and which of them are there because of us.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage, AddressScope, CacheInfo};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use crate::base::{Address, Family};
use crate::host::vrrp::links::Links;
use crate::host::vrrp::rtnl::Requests;
use crate::vrrp::{Name, VirtualAddress};

/// A lifetime that has no end.
const FOREVER: u32 = u32::MAX;

/// Where an address was set.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Placed {
    /// Kernel index.
    pub interface: u32,
    /// The interface as the configuration names it: of a virtual MAC the one below.
    pub named: Name,
    /// Bits of its prefix.
    pub prefix: u8,
}

/// The addresses that were set, by instance.
#[derive(Default, Debug)]
pub struct Addresses {
    placed: BTreeMap<(Name, Address), Placed>,
    by_place: BTreeMap<(u32, Address), Name>,
}

impl Addresses {
    /// Sets an address on an interface; there already is no error.
    ///
    /// # Errors
    /// The kernel's.
    pub fn add(
        &mut self,
        requests: &mut Requests,
        instance: &Name,
        own: &VirtualAddress,
        interface: u32,
        named: &Name,
    ) -> io::Result<()> {
        let message = RouteNetlinkMessage::NewAddress(message_of(own, interface));
        requests.execute(message, NLM_F_CREATE | NLM_F_REPLACE)?;
        let placed = Placed { interface, named: named.clone(), prefix: own.prefix };
        self.placed.insert((instance.clone(), own.address), placed);
        self.by_place.insert((interface, own.address), instance.clone());
        Ok(())
    }

    /// Takes an address away: where it was set, or where one of an earlier run would be. True when it was there.
    ///
    /// # Errors
    /// The kernel's, but for one that is not there.
    pub fn remove(
        &mut self,
        requests: &mut Requests,
        links: &Links,
        instance: &Name,
        own: &VirtualAddress,
        otherwise: Option<u32>,
    ) -> io::Result<bool> {
        let placed = self.placed.remove(&(instance.clone(), own.address));
        let (interface, prefix) = match &placed {
            Some(placed) => (placed.interface, placed.prefix),
            None => {
                let Some(interface) = otherwise else { return Ok(false) };
                // Whoever else has it there keeps it.
                if self.by_place.contains_key(&(interface, own.address)) {
                    return Ok(false);
                }
                // Only what the kernel told of: with its prefix, which may be that of another configuration.
                let Some(prefix) = links.prefix(interface, own.address) else { return Ok(false) };
                (interface, prefix)
            }
        };
        self.by_place.remove(&(interface, own.address));
        let mut message = AddressMessage::default();
        message.header.family = family_of(own.address);
        message.header.prefix_len = prefix;
        message.header.index = interface;
        message.attributes = vec![AddressAttribute::Local(own.address.to_ip())];
        match requests.execute(RouteNetlinkMessage::DelAddress(message), 0) {
            Ok(()) => Ok(true),
            Err(error) => match error.raw_os_error() {
                // It is gone already, or its interface is.
                Some(libc::EADDRNOTAVAIL | libc::ENODEV) => Ok(false),
                _ => Err(error),
            },
        }
    }

    /// The place of an address that is gone without our doing, if it was ours; it counts as not set from now on.
    pub fn take_lost(&mut self, interface: u32, address: Address) -> Option<Placed> {
        let instance = self.by_place.remove(&(interface, address))?;
        self.placed.remove(&(instance, address))
    }

    /// Where an address of an instance stands.
    pub fn place_of(&self, instance: &Name, address: Address) -> Option<&Placed> {
        self.placed.get(&(instance.clone(), address))
    }

    /// All that should be there: interface and address.
    pub fn all(&self) -> impl Iterator<Item = (u32, Address)> {
        self.by_place.keys().copied()
    }
}

fn family_of(address: Address) -> AddressFamily {
    match address.family() {
        Family::V4 => AddressFamily::Inet,
        Family::V6 => AddressFamily::Inet6,
    }
}

/// As `ip address add` would have it.
fn message_of(own: &VirtualAddress, interface: u32) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = family_of(own.address);
    message.header.index = interface;
    message.header.prefix_len = own.peer.map_or(own.prefix, |(_, prefix)| prefix);
    message.header.scope = own.scope.map_or(AddressScope::Universe, AddressScope::from);
    let remote = own.peer.map_or(own.address, |(peer, _)| peer);
    message.attributes = vec![AddressAttribute::Local(own.address.to_ip()), AddressAttribute::Address(remote.to_ip())];
    if let Some(IpAddr::V4(broadcast)) = own.broadcast.map(Address::to_ip) {
        message.attributes.push(AddressAttribute::Broadcast(broadcast));
    }
    if let (Some(label), true) = (&own.label, own.address.is_v4()) {
        message.attributes.push(AddressAttribute::Label(label.to_string()));
    }
    let mut flags = AddressFlags::empty();
    flags.set(AddressFlags::Noprefixroute, own.flags.no_prefix_route);
    flags.set(AddressFlags::Mcautojoin, own.flags.autojoin);
    if !own.address.is_v4() {
        // Two routers have it in turn: detection would only keep it from the second.
        flags.insert(AddressFlags::Nodad);
        flags.set(AddressFlags::Homeaddress, own.flags.home);
        flags.set(AddressFlags::Managetempaddr, own.flags.managed_temporary);
    }
    if !flags.is_empty() {
        message.attributes.push(AddressAttribute::Flags(flags));
    }
    if let Some(preferred) = own.preferred_lifetime_s {
        let mut lifetimes = CacheInfo::default();
        (lifetimes.ifa_preferred, lifetimes.ifa_valid) = (preferred, FOREVER);
        message.attributes.push(AddressAttribute::CacheInfo(lifetimes));
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_wish_is_in_the_message() {
        let mut own = VirtualAddress::new("10.0.0.10".parse().unwrap());
        own.prefix = 24;
        own.broadcast = Some("10.0.0.255".parse().unwrap());
        own.label = Some("eth0:1".into());
        own.scope = Some(253);
        own.flags.no_prefix_route = true;
        own.preferred_lifetime_s = Some(0);
        let message = message_of(&own, 7);
        assert_eq!((message.header.index, message.header.prefix_len), (7, 24));
        assert_eq!(message.header.scope, AddressScope::Link);
        let ip: IpAddr = "10.0.0.10".parse().unwrap();
        let mut lifetimes = CacheInfo::default();
        (lifetimes.ifa_preferred, lifetimes.ifa_valid) = (0, FOREVER);
        assert_eq!(
            message.attributes,
            [
                AddressAttribute::Local(ip),
                AddressAttribute::Address(ip),
                AddressAttribute::Broadcast("10.0.0.255".parse().unwrap()),
                AddressAttribute::Label("eth0:1".to_owned()),
                AddressAttribute::Flags(AddressFlags::Noprefixroute),
                AddressAttribute::CacheInfo(lifetimes),
            ]
        );
    }

    #[test]
    fn ipv6_is_set_without_detection_and_a_peer_is_the_address_of_the_message() {
        let message = message_of(&VirtualAddress::new("fd00::1".parse().unwrap()), 1);
        assert_eq!(message.attributes.last(), Some(&AddressAttribute::Flags(AddressFlags::Nodad)));
        let mut own = VirtualAddress::new("10.0.0.1".parse().unwrap());
        own.peer = Some(("10.0.0.2".parse().unwrap(), 30));
        let message = message_of(&own, 1);
        assert_eq!(message.header.prefix_len, 30);
        assert!(message.attributes.contains(&AddressAttribute::Address("10.0.0.2".parse().unwrap())));
    }
}
