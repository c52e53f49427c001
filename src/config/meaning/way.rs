//! Where an instance's advertisements go and come from.

use crate::base::{Address, Family, MacAddress};
use crate::config::blocks::{Node, Value};
use crate::config::meaning::instance::Draft;
use crate::config::meaning::{Context, name};
use crate::config::model::SyncDaemon;
use crate::vrrp::{OldChecksum, Peer};

/// Octets of an interface's name (`IFNAMSIZ`, without its end).
const INTERFACE_OCTETS_MAX: usize = 15;

impl Context<'_> {
    /// Where advertisements go and come from.
    pub(super) fn read_way(&mut self, draft: &mut Draft, node: &Node<'_>) -> bool {
        let own = draft.instance.name.clone();
        let value = node.value(0);
        match node.name() {
            word @ ("unicast_src_ip" | "mcast_src_ip") => {
                draft.has_unicast_word |= word == "unicast_src_ip";
                let about = format!("Configuration error: VRRP instance[{own}]");
                if let Some(address) = self.own_address(draft, &value, &about, "src address") {
                    draft.instance.source = Some(address);
                }
            }
            "mcast_dst_ip" => match value.text.parse::<Address>() {
                Err(_) => {
                    let text = format!("({own}) malformed mcast dest address {}. Skipping...", value.text);
                    self.messages.flaw_at(value.at, text);
                }
                Ok(address) if !address.is_multicast() => {
                    let text = format!("({own}) mcast_dst_ip {address} not multicast. Skipping...");
                    self.messages.flaw_at(value.at, text);
                }
                Ok(address) => draft.instance.group = Some(address),
            },
            "unicast_peer" => {
                draft.has_unicast_word = true;
                self.read_peers(draft, node);
            }
            "unicast_ttl" => match self.unsigned(&value, 0, 255) {
                Some(limit) => draft.instance.unicast_hop_limit = limit as u8,
                None => {
                    let text = format!("({own}): TTL '{}' not valid - must be between 0 & 255", value.text);
                    self.messages.flaw_at(value.at, text);
                }
            },
            "old_unicast_checksum" => {
                draft.has_unicast_word = true;
                match value.text {
                    "" => draft.instance.old_checksum = OldChecksum::Always,
                    "never" => draft.instance.old_checksum = OldChecksum::Never,
                    other => {
                        let text = format!("({own}) Unknown old_unicast_chksum mode {other} - ignoring");
                        self.messages.flaw_at(value.at, text);
                    }
                }
            }
            "native_ipv6" => match draft.family {
                Some(Family::V4) => {
                    let text = format!("({own}) Cannot specify native_ipv6 with IPv4 addresses");
                    self.messages.flaw_at(node.at(), text);
                }
                _ => draft.family = Some(Family::V6),
            },
            "use_vmac" => self.read_virtual_mac(draft, node),
            "vrf" if draft.instance.interface.is_some() => {
                let text = format!("({own}) Cannot specify VRF interface and interface - ignoring");
                self.messages.flaw_at(node.at(), text);
            }
            "vrf" | "use_ipvlan" | "use_vmac_addr" | "promote_secondaries" => {}
            "linkbeat_use_polling" => {
                let text = format!(
                    "({own}) 'linkbeat_use_polling' in vrrp instance deprecated - use linkbeat_interfaces block"
                );
                self.messages.flaw_at(node.at(), text);
            }
            "lvs_sync_daemon_interface" => {
                let text = format!("({own}) Specifying lvs_sync_daemon_interface against a vrrp is deprecated.");
                self.messages.flaw_at(node.at(), text);
                self.messages.flaw_at(node.at(), "       Please use global lvs_sync_daemon");
                self.configuration.global.sync_daemon.get_or_insert(SyncDaemon {
                    interface: name(value.text),
                    instance: Some(own),
                    id: None,
                    length_max: 0,
                    port: 0,
                    hop_limit: 0,
                    group: None,
                });
            }
            _ => return false,
        }
        true
    }

    /// An address that has to be of the instance's family; the first one says which that is.
    fn own_address(&mut self, draft: &mut Draft, value: &Value<'_>, about: &str, what: &str) -> Option<Address> {
        let Ok(address) = value.text.parse::<Address>() else {
            let text = format!("{about} malformed {what}[{}]. Skipping...", value.text);
            self.messages.flaw_at(value.at.clone(), text);
            return None;
        };
        if *draft.family.get_or_insert(address.family()) != address.family() {
            let text = format!("{about} and {what}[{}] MUST be of the same family !!! Skipping...", value.text);
            self.messages.flaw_at(value.at.clone(), text);
            return None;
        }
        Some(address)
    }

    fn read_peers(&mut self, draft: &mut Draft, node: &Node<'_>) {
        let own = draft.instance.name.clone();
        for entry in &node.entries {
            let first = node.entry_value(entry, 0);
            let about = format!("Configuration error: VRRP instance[{own}]");
            let Some(address) = self.own_address(draft, &first, &about, "unicast peer address") else { continue };
            let mut peer = Peer::new(address);
            let mut index = 1;
            while index < entry.words.len() {
                let word = node.entry_value(entry, index);
                if index + 1 >= entry.words.len() {
                    self.messages.flaw_at(word.at, format!("({own}) {} is missing a value", word.text));
                    break;
                }
                let value = node.entry_value(entry, index + 1);
                index += 2;
                match word.text {
                    "min_ttl" | "max_ttl" => {
                        let Some(limit) = self.unsigned(&value, 0, 255) else { continue };
                        let slot =
                            if word.text == "min_ttl" { &mut peer.hop_limit_min } else { &mut peer.hop_limit_max };
                        *slot = limit as u8;
                    }
                    other => {
                        let text = format!("({own}) unknown unicast_peer option {other} - ignoring");
                        self.messages.flaw_at(word.at, text);
                    }
                }
            }
            draft.instance.peers.push(peer);
        }
    }

    fn read_virtual_mac(&mut self, draft: &mut Draft, node: &Node<'_>) {
        let own = draft.instance.name.clone();
        draft.instance.has_virtual_mac = true;
        let mut is_named = false;
        for index in 0..node.words.len() {
            let value = node.value(index);
            if let Ok(mac) = value.text.parse::<MacAddress>() {
                let octets = mac.0;
                if octets[..4] == [0, 0, 0x5e, 0] && matches!(octets[4], 1 | 2) {
                    let text =
                        format!("VMAC MAC address not allowed to be RFC5798 address ({}) - ignoring", value.text);
                    self.messages.flaw_at(value.at, text);
                } else {
                    draft.instance.wished_mac = Some(mac);
                }
            } else if is_named {
                self.messages.flaw_at(value.at, "VMAC interface name already specified");
            } else if value.text.len() > INTERFACE_OCTETS_MAX || value.text.contains('/') {
                let text = format!("VMAC interface name '{}' too long or invalid characters - ignoring", value.text);
                self.messages.flaw_at(value.at, text);
            } else if self.has_interface(value.text) {
                let text = format!(
                    "({own}) interface {} already exists and is not a private macvlan; ignoring vmac if_name",
                    value.text
                );
                self.messages.flaw_at(value.at, text);
            } else {
                is_named = true;
            }
        }
    }
}
