//! What the machine asks for, carried out.

use std::collections::BTreeMap;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::RouteNetlinkMessage;

use super::Driver;
use crate::base::{Address, Duration};
use crate::host::vrrp::Plan;
use crate::host::vrrp::helper::News;
use crate::host::vrrp::route_words::Prepared;
use crate::vrrp::{Action, Attached, Level, Name, VirtualAddress};

/// In whose name static addresses and routes are set; no instance can be named so.
const STATIC: &str = "static addresses and routes";

impl Driver {
    /// Carries out everything that the machine has asked for, in its order.
    pub(super) fn perform(&mut self) {
        while let Some(action) = self.routers.poll_action() {
            self.perform_one(action);
        }
    }

    fn perform_one(&mut self, action: Action) {
        match action {
            Action::SendAdvert { instance, interface, source_mac, destination, packet, .. } => {
                let is_virtual = source_mac.is_some() && destination.is_multicast();
                self.send_advert(&instance, interface.as_ref(), is_virtual, destination, &packet);
            }
            Action::AddAddresses { instance, interface, addresses, accepts } => {
                for own in &addresses {
                    // Guarded before it is there.
                    if !accepts && let Err(error) = self.firewall.guard(&instance, own.address) {
                        let text =
                            format!("({instance}) packets to {} are accepted, for nf_tables: {error}", own.address);
                        self.say(Level::Warning, text);
                    }
                    self.add_address(&instance, interface.as_ref(), own);
                }
            }
            Action::RemoveAddresses { instance, interface, addresses } => {
                self.announcements.forget(&instance);
                for own in &addresses {
                    self.remove_address(&instance, interface.as_ref(), own);
                    if let Err(error) = self.firewall.release(&instance, own.address) {
                        let text = format!("({instance}) packets to {} are still dropped: {error}", own.address);
                        self.say(Level::Warning, text);
                    }
                }
            }
            Action::AddRoutes { instance, routes } => self.add_routes(&instance, &routes),
            Action::RemoveRoutes { instance, routes } => self.remove_routes(&instance, &routes),
            Action::Announce { instance, addresses, repeat, arp_gap, neighbour_gap, .. } => {
                self.queue_announcement(&instance, addresses, repeat, arp_gap, neighbour_gap);
            }
            Action::JoinGroup { instance, interface, group } => {
                if self.memberships.insert((instance, interface, group)) {
                    self.level_groups();
                }
            }
            Action::LeaveGroup { instance, interface, group } => {
                if self.memberships.remove(&(instance, interface, group)) {
                    self.level_groups();
                }
            }
            Action::Notify { instance, word, priority } => {
                self.is_news = true;
                self.tell(News::Instance(instance, word, priority));
            }
            Action::NotifyGroup { group, word } => self.tell(News::Group(group, word)),
            Action::PriorityChanged { instance, priority, is_told } => {
                let state = self.routers.instance(&instance).and_then(|it| it.state().word());
                if let (true, Some(word)) = (is_told, state) {
                    self.tell(News::Priority(instance, word, priority));
                }
            }
            Action::Log { level, text } => self.say(level, text),
        }
    }

    fn send_advert(
        &mut self,
        instance: &Name,
        interface: Option<&Name>,
        is_virtual: bool,
        destination: Address,
        packet: &[u8],
    ) {
        let virtual_link = self.virtual_links.of(instance).filter(|_| is_virtual).map(|link| link.index);
        let own = interface.and_then(|name| self.links.index(name));
        // Peers may be anywhere; but one with an address of the link is on this one.
        let is_near = destination.is_multicast() || destination.is_link_local_v6();
        let by = virtual_link.or(own).filter(|_| is_near);
        if by.is_none() && is_near {
            return;
        }
        if let Err(error) = self.senders.send_packet(&self.links, by, destination, packet) {
            self.say(Level::Warning, format!("({instance}) sending to {destination}: {error}"));
        }
    }

    /// Where an address stands or is to stand: the kernel's index, and the interface's name as the machine has it.
    fn place(&self, instance: &Name, interface: Option<&Name>, own: &VirtualAddress) -> Option<(u32, Name)> {
        if let Some(name) = &own.interface {
            return Some((self.links.index(name)?, name.clone()));
        }
        let name = interface?;
        let virtual_link = self.virtual_links.of(instance).map(|link| link.index);
        Some((virtual_link.or_else(|| self.links.index(name))?, name.clone()))
    }

    fn add_address(&mut self, instance: &Name, interface: Option<&Name>, own: &VirtualAddress) {
        let Some((index, name)) = self.place(instance, interface, own) else {
            let on = own.interface.as_ref().or(interface).map_or("no interface", |name| name);
            self.say(Level::Warning, format!("({instance}) {} cannot be set: there is no {on}", own.address));
            return;
        };
        if let Err(error) = self.addresses.add(&mut self.requests, instance, own, index, &name) {
            self.say(Level::Warning, format!("({instance}) {} cannot be set on {name}: {error}", own.address));
        }
    }

    fn remove_address(&mut self, instance: &Name, interface: Option<&Name>, own: &VirtualAddress) {
        let otherwise = self.place(instance, interface, own).map(|(index, _)| index);
        if let Err(error) = self.addresses.remove(&mut self.requests, &self.links, instance, own, otherwise) {
            self.say(Level::Warning, format!("({instance}) {} cannot be taken away: {error}", own.address));
        }
    }

    /// One announcement an interface: rounds go over the addresses of each.
    fn queue_announcement(
        &mut self,
        instance: &Name,
        addresses: Vec<(Option<Name>, Address)>,
        rounds: u32,
        arp_gap: Duration,
        neighbour_gap: Duration,
    ) {
        let now = self.clock.now();
        let mut by_interface: BTreeMap<u32, Vec<Address>> = BTreeMap::new();
        for (_, address) in addresses {
            if let Some(placed) = self.addresses.place_of(instance, address) {
                by_interface.entry(placed.interface).or_default().push(address);
            }
        }
        for (interface, addresses) in by_interface {
            self.announcements.add(now, instance, interface, addresses, rounds, arp_gap, neighbour_gap);
        }
    }

    fn add_routes(&mut self, instance: &Name, routes: &[Attached]) {
        for attached in routes {
            // What was not understood has been said when the configuration was read.
            let Some(prepared) = self.plan.routes.get(attached).cloned() else { continue };
            self.change_route(instance, attached, &prepared, true);
            self.installed.insert((instance.clone(), attached.clone()), prepared);
        }
    }

    fn remove_routes(&mut self, instance: &Name, routes: &[Attached]) {
        // Rules before routes, and routes before those that they need.
        for attached in routes.iter().rev() {
            let installed = self.installed.remove(&(instance.clone(), attached.clone()));
            // Those of a run before this one too, unless another instance has the same.
            let leftover = || {
                let is_held = self.installed.keys().any(|(_, other)| other == attached);
                self.plan.routes.get(attached).filter(|_| !is_held).cloned()
            };
            if let Some(prepared) = installed.or_else(leftover) {
                self.change_route(instance, attached, &prepared, false);
            }
        }
    }

    fn change_route(&mut self, instance: &Name, attached: &Attached, prepared: &Prepared, adds: bool) {
        let (Attached::Route(line) | Attached::Rule(line)) = attached;
        let result = match prepared.request(&self.links, adds) {
            Ok(request) => {
                let flags = match request {
                    _ if !adds => 0,
                    RouteNetlinkMessage::NewRule(_) => NLM_F_CREATE | NLM_F_EXCL,
                    _ => NLM_F_CREATE | NLM_F_REPLACE,
                };
                match self.requests.execute(request, flags) {
                    Ok(()) => Ok(()),
                    // The interface has taken it along, or another instance has it too.
                    Err(error) => match error.raw_os_error() {
                        Some(libc::ESRCH | libc::ENOENT | libc::ENODEV) if !adds => Ok(()),
                        Some(libc::EEXIST) if adds => Ok(()),
                        _ => Err(error.to_string()),
                    },
                }
            }
            Err(_) if !adds => Ok(()),
            Err(interface) => Err(format!("there is no {interface}")),
        };
        if let Err(reason) = result {
            let what = if adds { "cannot be installed" } else { "cannot be taken away" };
            self.say(Level::Warning, format!("({instance}) `{line}' {what}: {reason}"));
        }
    }

    /// Sets static addresses, routes and rules, or takes them away.
    pub(super) fn set_statics(&mut self, adds: bool) {
        let configuration = self.plan.configuration.clone();
        let name: Name = STATIC.into();
        let routes: Vec<Attached> = configuration.statics.routes.iter().map(|it| it.item.clone()).collect();
        if adds {
            for it in &configuration.statics.addresses {
                self.add_address(&name, None, &it.item);
            }
            self.add_routes(&name, &routes);
        } else {
            self.remove_routes(&name, &routes);
            for it in &configuration.statics.addresses {
                self.remove_address(&name, None, &it.item);
            }
        }
    }

    /// Takes the static ones of an old plan away that the plan does not have, and sets those that are new.
    pub(super) fn change_statics(&mut self, old: &Plan) {
        let (old, new) = (&old.configuration.statics, self.plan.configuration.clone());
        let new = &new.statics;
        let name: Name = STATIC.into();
        let gone: Vec<Attached> =
            old.routes.iter().filter(|it| !new.routes.contains(it)).map(|it| it.item.clone()).collect();
        self.remove_routes(&name, &gone);
        for it in old.addresses.iter().filter(|it| !new.addresses.contains(it)) {
            self.remove_address(&name, None, &it.item);
        }
        for it in new.addresses.iter().filter(|it| !old.addresses.contains(it)) {
            self.add_address(&name, None, &it.item);
        }
        let added: Vec<Attached> =
            new.routes.iter().filter(|it| !old.routes.contains(it)).map(|it| it.item.clone()).collect();
        self.add_routes(&name, &added);
    }
}
