//! What an instance says: advertisements, announcements, addresses, words and lines.

use crate::base::Address;
use crate::vrrp::instance::Actions;
use crate::vrrp::{Action, Authentication, Instance, Level, VirtualAddress, Word};
use crate::wire::vrrp::{self, Advert, Envelope, HOP_LIMIT, PACKET_OCTETS_MAX, PRIORITY_RESIGN, Version};

impl Instance {
    pub(super) fn resign(&mut self, out: &mut Actions) {
        self.send(PRIORITY_RESIGN, out);
        self.log(out, Level::Information, "sent 0 priority");
    }

    /// An advertisement to the group, or to each peer.
    pub(super) fn send(&mut self, priority: u8, out: &mut Actions) {
        let Some(source) = self.primary else { return };
        if self.config.is_unicast() {
            for index in 0..self.config.peers.len() {
                let destination = self.config.peers[index].address;
                let summed = if self.has_old_peers { self.config.multicast_group() } else { destination };
                // **Deviation** from keepalived, whose packets of IPv6 have hop limit 64.
                self.send_to(priority, source, destination, summed, self.config.unicast_hop_limit, out);
            }
        } else {
            let group = self.config.multicast_group();
            self.send_to(priority, source, group, group, HOP_LIMIT, out);
        }
    }

    fn send_to(
        &mut self,
        priority: u8,
        source: Address,
        destination: Address,
        summed_destination: Address,
        hop_limit: u8,
        out: &mut Actions,
    ) {
        let config = &self.config;
        // 0 would ask the kernel for one, which the integrity check value would not know.
        self.identification = self.identification.checked_add(1).unwrap_or(1);
        let (authentication, key) = match config.authentication {
            Authentication::None => (vrrp::Authentication::None, None),
            Authentication::Password(key) => (vrrp::Authentication::Password(key), None),
            Authentication::Header(key) => {
                self.sequence = self.sequence.wrapping_add(1);
                (vrrp::Authentication::Header, Some((key, self.sequence)))
            }
        };
        let interval = match config.version {
            Version::V2 => config.interval.as_secs() as u16,
            Version::V3 => (config.interval.as_millis() / 10) as u16,
        };
        let addresses: Vec<Address> = config.addresses.iter().map(|own| own.address).collect();
        let advert = Advert {
            version: config.version,
            vrid: config.vrid,
            priority,
            interval,
            authentication,
            addresses: &addresses,
        };
        let envelope = Envelope {
            source,
            destination,
            hop_limit,
            identification: self.identification,
            summed_destination,
            authentication: key,
        };
        let mut buffer = [0; PACKET_OCTETS_MAX];
        let (octets, header_octets) = vrrp::emit(&mut buffer, &envelope, &advert);
        self.counters.adverts_sent += 1;
        self.counters.zero_sent += u64::from(priority == PRIORITY_RESIGN);
        out.push_back(Action::SendAdvert {
            instance: config.name.clone(),
            interface: config.interface.clone(),
            source_mac: config.virtual_mac().filter(|_| !config.sends_from_base),
            destination,
            packet: buffer[..octets].to_vec(),
            header_octets,
        });
    }

    pub(super) fn add_addresses(&self, addresses: Vec<VirtualAddress>, out: &mut Actions) {
        if !addresses.is_empty() {
            let (instance, interface) = (self.config.name.clone(), self.config.interface.clone());
            out.push_back(Action::AddAddresses { instance, interface, addresses, accepts: self.config.accepts });
        }
    }

    pub(super) fn remove_addresses(&self, addresses: Vec<VirtualAddress>, out: &mut Actions) {
        if !addresses.is_empty() {
            let (instance, interface) = (self.config.name.clone(), self.config.interface.clone());
            out.push_back(Action::RemoveAddresses { instance, interface, addresses });
        }
    }

    pub(super) fn remove_routes(&self, out: &mut Actions) {
        if !self.config.routes.is_empty() {
            let (instance, routes) = (self.config.name.clone(), self.config.routes.clone());
            out.push_back(Action::RemoveRoutes { instance, routes });
        }
    }

    pub(super) fn remove_all_addresses(&self, out: &mut Actions) {
        self.log(out, Level::Information, "removing VIPs.");
        self.remove_addresses(self.config.all_addresses().cloned().collect(), out);
    }

    pub(super) fn announce(&self, rounds: u32, out: &mut Actions) {
        self.announce_these(rounds, self.config.all_addresses(), out);
    }

    pub(super) fn announce_these<'a>(
        &self,
        repeat: u32,
        addresses: impl Iterator<Item = &'a VirtualAddress>,
        out: &mut Actions,
    ) {
        let config = &self.config;
        let addresses: Vec<_> =
            addresses.map(|own| (own.interface.clone().or_else(|| config.interface.clone()), own.address)).collect();
        if repeat == 0 || addresses.is_empty() {
            return;
        }
        for (interface, address) in &addresses {
            let what = if address.is_v4() { "gratuitous ARPs" } else { "Unsolicited Neighbour Adverts" };
            let on = interface.as_deref().unwrap_or("-");
            self.log(out, Level::Information, &format!("Sending/queueing {what} on {on} for {address}"));
        }
        out.push_back(Action::Announce {
            instance: config.name.clone(),
            addresses,
            mac: config.virtual_mac(),
            repeat,
            arp_gap: config.announcing.arp_gap,
            neighbour_gap: config.announcing.neighbour_gap,
        });
    }

    pub(super) fn notify(&self, out: &mut Actions, word: Word) {
        out.push_back(Action::Notify { instance: self.config.name.clone(), word, priority: self.priority });
    }

    pub(super) fn log(&self, out: &mut Actions, level: Level, text: &str) {
        out.push_back(Action::Log { level, text: format!("({}) {text}", self.config.name) });
    }
}
