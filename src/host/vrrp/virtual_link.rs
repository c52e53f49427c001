//! Interfaces that have a virtual router's Ethernet address (`use_vmac`): a macvlan `vrrp.VRID` in private mode on the
//! instance's interface.
//!
//! The addresses stand on it, so that the kernel answers ARP and neighbour solicitations from the virtual MAC; the
//! interface below is told to answer for its own addresses alone. A macvlan of a Backup sends nothing at all: it has no
//! address, no address of the link, and is in no group, or a switch would look for the virtual MAC here.
//!
//! - **Deviation** from keepalived: `arp_announce` of the interface below is 2, so that this host's own questions for its
//!   neighbours name its own address. keepalived's name the virtual one, from the real MAC, and whoever is asked
//!   remembers that.
//!
//! What was found is put back at the end.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoData, InfoKind, InfoMacVlan, LinkAttribute, LinkFlags, LinkInfo,
    LinkMessage, MacVlanMode,
};

use crate::base::{Family, MacAddress};
use crate::host::vrrp::links::Links;
use crate::host::vrrp::rtnl::Requests;
use crate::vrrp::{InstanceConfig, Name};

/// Octets of the longest interface name.
const NAME_OCTETS_MAX: usize = 15;

/// Settings of the interface below: file below `net/ipv4/conf/NAME`, value.
const BELOW: [(&str, &str); 3] = [("arp_ignore", "1"), ("arp_filter", "1"), ("arp_announce", "2")];
/// Settings of the macvlan, IPv4: who asks for another one's address is not answered; clients' packets come here though
/// answers leave by the interface below; a former Active router's packets have our own address.
const OF_V4: [(&str, &str); 4] =
    [("arp_ignore", "1"), ("rp_filter", "0"), ("accept_local", "1"), ("promote_secondaries", "1")];
/// Settings of the macvlan, IPv6.
const OF_V6: [(&str, &str); 2] = [("accept_ra", "0"), ("autoconf", "0")];

/// One of them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VirtualLink {
    /// Kernel index.
    pub index: u32,
    /// Its name.
    pub name: Name,
    /// The interface below, by name and kernel index.
    pub below: (Name, u32),
    mac: MacAddress,
}

/// All of them, by instance.
#[derive(Default, Debug)]
pub struct VirtualLinks {
    links: BTreeMap<Name, VirtualLink>,
    /// Files and what stood in them.
    settings: BTreeMap<String, String>,
}

impl VirtualLinks {
    /// The link of an instance.
    pub fn of(&self, instance: &str) -> Option<&VirtualLink> {
        self.links.get(instance)
    }

    /// Makes those that are wished for and possible, and those of `leftovers` (a run before this one) go. What went wrong
    /// is told in lines for the log.
    pub fn make<'a>(
        &mut self,
        requests: &mut Requests,
        links: &mut Links,
        wished: impl Iterator<Item = &'a InstanceConfig>,
    ) -> Vec<String> {
        let mut failures = Vec::new();
        for config in wished {
            let (Some(mac), Some(below)) = (config.virtual_mac(), &config.interface) else { continue };
            let Some(index) = links.index(below) else { continue };
            if self.links.get(&config.name).is_some_and(|it| it.mac == mac && it.below == (below.clone(), index)) {
                continue;
            }
            self.remove(requests, &config.name);
            match self.make_one(requests, links, config, mac, (below.clone(), index)) {
                Ok(link) => {
                    self.links.insert(config.name.clone(), link);
                }
                Err(error) => failures.push(format!("({}) the interface of its virtual MAC: {error}", config.name)),
            }
        }
        failures
    }

    fn make_one(
        &mut self,
        requests: &mut Requests,
        links: &mut Links,
        config: &InstanceConfig,
        mac: MacAddress,
        below: (Name, u32),
    ) -> io::Result<VirtualLink> {
        let name = self.choose_name(config, below.1);
        if let Some((index, _)) = links.iter().find(|(_, it)| *it.name == *name && it.is_macvlan && it.mac == mac) {
            // Of a run before this one: with whatever addresses it has.
            delete(requests, index)?;
        }
        let mut message = LinkMessage::default();
        message.attributes = vec![
            LinkAttribute::IfName(name.to_string()),
            LinkAttribute::Address(mac.0.to_vec()),
            LinkAttribute::Link(below.1),
            LinkAttribute::LinkInfo(vec![
                LinkInfo::Kind(InfoKind::MacVlan),
                LinkInfo::Data(InfoData::MacVlan(vec![InfoMacVlan::Mode(MacVlanMode::Private)])),
            ]),
        ];
        requests.execute(RouteNetlinkMessage::NewLink(message), NLM_F_CREATE | NLM_F_EXCL)?;
        let mut message = LinkMessage::default();
        message.attributes = vec![LinkAttribute::IfName(name.to_string())];
        let found = requests.get(RouteNetlinkMessage::GetLink(message))?;
        found.into_iter().for_each(|message| {
            links.apply(message);
        });
        let index = links.index(&name).ok_or(io::ErrorKind::NotFound)?;
        let link = VirtualLink { index, name: name.clone(), below: below.clone(), mac };
        if let Err(error) = self.ready(requests, &link) {
            let _ = delete(requests, index);
            return Err(error);
        }
        Ok(link)
    }

    /// Settings first, so that nothing is sent in between; then it is taken up.
    fn ready(&mut self, requests: &mut Requests, link: &VirtualLink) -> io::Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = link.index;
        let without_address = vec![AfSpecInet6::AddrGenMode(In6AddrGenMode::None)];
        message.attributes = vec![LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(without_address)])];
        match requests.execute(RouteNetlinkMessage::SetLink(message), 0) {
            // Without IPv6 there is nothing to be turned off.
            Err(error) if error.raw_os_error() != Some(libc::EAFNOSUPPORT) => return Err(error),
            _ => {}
        }
        for (file, value) in OF_V4 {
            write(&setting(Family::V4, &link.name, file), value)?;
        }
        for (file, value) in OF_V6 {
            // The same.
            let _ = write(&setting(Family::V6, &link.name, file), value);
        }
        for (file, value) in BELOW {
            let path = setting(Family::V4, &link.below.0, file);
            let before = std::fs::read_to_string(&path)?;
            if before.trim() != value {
                write(&path, value)?;
                self.settings.entry(path).or_insert(before);
            }
        }
        let mut message = LinkMessage::default();
        message.header.index = link.index;
        message.header.flags = LinkFlags::Up;
        message.header.change_mask = LinkFlags::Up;
        requests.execute(RouteNetlinkMessage::SetLink(message), 0)
    }

    /// `vrrp.VRID`, else one that no other instance has.
    fn choose_name(&self, config: &InstanceConfig, below: u32) -> Name {
        let vrid = config.vrid;
        let six = if config.family == Family::V6 { "6" } else { "" };
        let names = [format!("vrrp.{vrid}"), format!("vrrp6.{vrid}"), format!("vrrp{six}.{below}.{vrid}")];
        let is_free =
            |name: &&String| name.len() <= NAME_OCTETS_MAX && !self.links.values().any(|link| *link.name == **name);
        names.iter().find(is_free).unwrap_or(&names[0]).as_str().into()
    }

    /// Takes away those of other instances than these.
    pub fn retain(&mut self, requests: &mut Requests, wished: &BTreeSet<Name>) {
        let gone: Vec<Name> = self.links.keys().filter(|name| !wished.contains(*name)).cloned().collect();
        for instance in gone {
            self.remove(requests, &instance);
        }
    }

    fn remove(&mut self, requests: &mut Requests, instance: &Name) {
        let Some(link) = self.links.remove(instance) else { return };
        // It may be gone with the interface below.
        let _ = delete(requests, link.index);
        if self.links.values().any(|other| other.below == link.below) {
            return;
        }
        for (file, _) in BELOW {
            let path = setting(Family::V4, &link.below.0, file);
            if let Some(before) = self.settings.remove(&path) {
                let _ = write(&path, before.trim());
            }
        }
    }
}

fn delete(requests: &mut Requests, index: u32) -> io::Result<()> {
    let mut message = LinkMessage::default();
    message.header.index = index;
    requests.execute(RouteNetlinkMessage::DelLink(message), 0)
}

fn setting(family: Family, interface: &str, file: &str) -> String {
    let family = if family == Family::V4 { "ipv4" } else { "ipv6" };
    format!("/proc/sys/net/{family}/conf/{interface}/{file}")
}

fn write(path: &str, value: &str) -> io::Result<()> {
    std::fs::write(path, value).map_err(|error| io::Error::new(error.kind(), format!("{path}: {error}")))
}
