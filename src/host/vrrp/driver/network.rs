//! Interfaces and addresses as the kernel tells of them, and the sockets and macvlans that follow from them.

use std::collections::BTreeSet;

use super::Driver;
use crate::base::Address;
use crate::host::vrrp::links::{Links, Lost};
use crate::host::vrrp::receive::Purpose;
use crate::vrrp::{self, Config, Event, Level, Name, Tracker};
use crate::wire::vrrp::Version;

impl Driver {
    /// Asks the kernel for everything.
    pub(super) fn dump(&mut self) {
        use netlink_packet_route::RouteNetlinkMessage::{GetAddress, GetLink};
        let links = self.requests.dump(&GetLink(Default::default()));
        let addresses = self.requests.dump(&GetAddress(Default::default()));
        match links.and_then(|links| addresses.map(|addresses| links.into_iter().chain(addresses))) {
            Ok(messages) => self.links = Links::from_dump(messages),
            Err(error) => self.say(Level::Warning, format!("asking for links and addresses: {error}")),
        }
    }

    pub(super) fn take_kernel_news(&mut self) {
        let own = self.requests.port();
        let mut lost: Vec<Lost> = Vec::new();
        let mut is_changed = false;
        let links = &mut self.links;
        let result = self.news.take(|port, message| {
            is_changed = true;
            // What we took away ourselves is not lost.
            lost.extend(links.apply(message).filter(|_| port != own));
        });
        if result.is_err() {
            self.say(Level::Warning, "news of the kernel were missed: asking for all links and addresses".to_owned());
            self.dump();
            is_changed = true;
            let is_gone = |&(interface, address): &(u32, Address)| self.links.prefix(interface, address).is_none();
            lost =
                self.addresses.all().filter(is_gone).map(|(interface, address)| Lost { interface, address }).collect();
        }
        if !is_changed {
            return;
        }
        if self.names.iter().any(|name| self.wired.get(name) != Some(&self.links.index(name))) {
            self.wire(true);
        }
        self.tell_links();
        // Links first: an interface that went down takes addresses along, and then nobody is to put them back.
        for Lost { interface, address } in lost {
            if self.links.prefix(interface, address).is_some() {
                continue;
            }
            if let Some(placed) = self.addresses.take_lost(interface, address) {
                self.handle(Event::AddressLost { interface: placed.named, address });
            }
        }
    }

    /// Tells the machine of links that are not as it knows them.
    pub(super) fn tell_links(&mut self) {
        let now = self.clock.now();
        let mut changed = Vec::new();
        for (name, mut link) in self.links.told(&self.names) {
            let told = self.told.get(name);
            let delays = &self.plan.configuration.global.interface_delays;
            link.is_up = self.debounce.settle(now, delays, name, told.map(|told| told.is_up), link.is_up);
            if told != Some(&link) {
                changed.push((name.clone(), link));
            }
        }
        for (interface, link) in changed {
            self.told.insert(interface.clone(), link.clone());
            self.handle(Event::Link { interface, link });
        }
    }

    /// Virtual links and sockets for the plan and the interfaces that there are. `closes` what is not needed any more.
    pub(super) fn wire(&mut self, closes: bool) {
        let instances = &self.plan.configuration.vrrp.instances;
        if closes {
            let wished = instances.iter().filter(|it| it.virtual_mac().is_some()).map(|it| it.name.clone()).collect();
            self.virtual_links.retain(&mut self.requests, &wished);
        }
        let failures = self.virtual_links.make(&mut self.requests, &mut self.links, instances.iter());
        self.wired = self.names.iter().map(|name| (name.clone(), self.links.index(name))).collect();
        let mut wished = BTreeSet::new();
        for config in instances {
            let mut kinds = vec![false];
            // The other protocol is looked at only by who needs it: it is that of IPsec.
            if config.version == Version::V2 && matches!(config.authentication, vrrp::Authentication::Header(_)) {
                kinds.push(true);
            }
            let (family, interface) = (config.family, &config.interface);
            let index = interface.as_ref().and_then(|name| self.links.index(name));
            for is_authenticated in kinds {
                match (config.is_unicast(), interface, index) {
                    (true, ..) => {
                        wished.insert(Purpose::Unicast { family, is_authenticated });
                    }
                    (false, Some(interface), Some(index)) => {
                        let interface = interface.clone();
                        wished.insert(Purpose::Group { index, interface, family, is_authenticated });
                    }
                    (false, ..) => {}
                }
            }
            if let (Some(link), Some(interface), false) =
                (self.virtual_links.of(&config.name), interface, config.is_unicast())
            {
                wished.insert(Purpose::Virtual { index: link.index, interface: interface.clone(), family });
            }
        }
        if !closes {
            wished.extend(self.receivers.purposes().cloned());
        }
        let errors = self.receivers.reconcile(&wished);
        for text in failures {
            self.say(Level::Warning, text);
        }
        for (purpose, error) in errors {
            let on = purpose.interface().map_or("unicast", |name| name);
            self.say(Level::Warning, format!("receiving on {on}: {error}"));
        }
        self.level_groups();
        self.senders.prune(&self.links);
    }

    pub(super) fn level_groups(&mut self) {
        let wished = self.memberships.keys().cloned().collect();
        for (interface, group, error) in self.receivers.level_groups(&wished) {
            self.say(Level::Warning, format!("joining {group} on {interface}: {error}"));
        }
    }
}

/// The interfaces that matter: instances run on them, or track them.
pub(super) fn names_of(config: &Config) -> BTreeSet<Name> {
    let own = config.instances.iter().filter_map(|it| it.interface.clone());
    let tracks =
        config.instances.iter().flat_map(|it| &it.tracks).chain(config.groups.iter().flat_map(|it| &it.tracks));
    let tracked = tracks.filter_map(|track| match &track.tracker {
        Tracker::Interface(name) => Some(name.clone()),
        _ => None,
    });
    own.chain(tracked).collect()
}
