//! Lines of `virtual_ipaddress`, `virtual_ipaddress_excluded` and `static_ipaddress`.

use crate::base::{Address, Family};
use crate::config::blocks::{Entry, Node, Value};
use crate::config::meaning::{Context, name, prefix_max};
use crate::vrrp::{Name, VirtualAddress};

/// Octets of a label (`IFNAMSIZ`, without its end).
const LABEL_OCTETS_MAX: usize = 15;

/// What a line says beside the address itself.
pub struct AddressLine {
    /// The address.
    pub item: VirtualAddress,
    /// `track_group`.
    pub track_group: Option<Name>,
}

impl Context<'_> {
    /// One line; `None` when the address is left out.
    pub fn address_line(&mut self, node: &Node<'_>, entry: &Entry, is_static: bool) -> Option<AddressLine> {
        let first = node.entry_value(entry, 0);
        let (text, prefix) =
            first.text.split_once('/').map_or((first.text, None), |(text, prefix)| (text, Some(prefix)));
        // keepalived makes `/0' of a prefix without a number, which nobody means.
        let prefix = prefix.filter(|prefix| !prefix.is_empty());
        let Ok(address) = text.parse::<Address>() else {
            let text = format!("VRRP parsed invalid IP {}. skipping IP...", first.text);
            self.messages.flaw_at(first.at, text);
            return None;
        };
        let mut item = VirtualAddress::new(address);
        if let Some(prefix) = prefix {
            item.prefix = self.prefix(address, &Value { text: prefix, at: first.at.clone() }, first.text);
        }
        if !address.is_v4() && item.prefix == prefix_max(Family::V6) {
            item.preferred_lifetime_s = Some(0);
        }
        let mut line = AddressLine { item, track_group: None };
        let mut index = 1;
        while index < entry.words.len() {
            let word = node.entry_value(entry, index);
            let takes_value =
                matches!(word.text, "dev" | "brd" | "broadcast" | "scope" | "label" | "peer" | "preferred_lft")
                    || word.text == "track_group" && is_static;
            if takes_value {
                index += 1;
                if index >= entry.words.len() {
                    let text = format!("No {} parameter specified for {}", word.text, first.text);
                    self.messages.flaw_at(word.at, text);
                    return None;
                }
                let value = node.entry_value(entry, index);
                self.address_option(&mut line, word.text, &value, prefix.is_some())?;
            } else {
                self.address_flag(&mut line.item, &word);
            }
            index += 1;
        }
        Some(line)
    }

    fn prefix(&mut self, address: Address, value: &Value<'_>, whole: &str) -> u8 {
        let most = prefix_max(address.family());
        if let Some(prefix) = self.unsigned(value, 0, u32::from(most)) {
            return prefix as u8;
        }
        let text = format!("Invalid address prefix len {} for address {whole} - using {most}", value.text);
        self.messages.flaw_at(value.at.clone(), text);
        most
    }

    fn address_flag(&mut self, item: &mut VirtualAddress, word: &Value<'_>) {
        match word.text {
            "home" => item.flags.home = true,
            "-nodad" => item.flags.no_dad = true,
            "mngtmpaddr" => item.flags.managed_temporary = true,
            "noprefixroute" => item.flags.no_prefix_route = true,
            "autojoin" => item.flags.autojoin = true,
            "no_track" => item.is_untracked = true,
            "use_vmac" => self.messages.hint_at(
                word.at.clone(),
                "use_vmac of an address has no effect here: the instance's own use_vmac decides",
            ),
            other => {
                let text = format!("Unknown configuration entry '{other}' for ip address - ignoring");
                self.messages.flaw_at(word.at.clone(), text);
            }
        }
    }

    /// `None` when the address is left out.
    fn address_option(
        &mut self,
        line: &mut AddressLine,
        word: &str,
        value: &Value<'_>,
        has_prefix: bool,
    ) -> Option<()> {
        let item = &mut line.item;
        match word {
            "dev" => {
                item.interface = Some(name(value.text));
                if !self.has_interface(value.text) {
                    let text =
                        format!("WARNING - interface {} for ip address {} doesn't exist", value.text, item.address);
                    self.messages.flaw_at(value.at.clone(), text);
                    self.miss_interface();
                }
            }
            "brd" | "broadcast" => self.broadcast(item, value)?,
            "scope" => match scope(value.text) {
                Some(scope) => item.scope = Some(scope),
                None => {
                    let text = format!("Invalid scope '{}' specified for {} - ignoring", value.text, item.address);
                    self.messages.flaw_at(value.at.clone(), text);
                }
            },
            "label" => self.label(item, value)?,
            "peer" => self.peer(item, value, has_prefix),
            "preferred_lft" => match value.text {
                "forever" => item.preferred_lifetime_s = None,
                text => match self.unsigned(value, 0, u32::MAX) {
                    Some(seconds) => item.preferred_lifetime_s = Some(seconds),
                    None => self.messages.flaw_at(value.at.clone(), format!("preferred_lft {text} is invalid")),
                },
            },
            _ => line.track_group = Some(name(value.text)),
        }
        Some(())
    }

    fn label(&mut self, item: &mut VirtualAddress, value: &Value<'_>) -> Option<()> {
        let label = value.text;
        if !item.address.is_v4() {
            let text = format!("Cannot specify label for IPv6 addresses ({}) - ignoring label", item.address);
            self.messages.flaw_at(value.at.clone(), text);
            return Some(());
        }
        if label.len() > LABEL_OCTETS_MAX {
            let text =
                format!("Address label {label} is longer than maximum length {LABEL_OCTETS_MAX} - removing address");
            self.messages.flaw_at(value.at.clone(), text);
            return None;
        }
        item.label = Some(name(label));
        Some(())
    }

    fn broadcast(&mut self, item: &mut VirtualAddress, value: &Value<'_>) -> Option<()> {
        let text = value.text;
        if matches!(text, "+" | "-") {
            if item.prefix > 30 {
                let text = format!("Address prefix length {} too long for broadcast", item.prefix);
                self.messages.flaw_at(value.at.clone(), text);
                return Some(());
            }
            if item.address.is_v4() {
                let host = u32::MAX >> item.prefix;
                let network = item.address.low_u32() & !host;
                item.broadcast = Some(Address::v4(if text == "+" { network | host } else { network }));
            }
            return Some(());
        }
        match text.parse::<Address>() {
            Ok(broadcast) if broadcast.is_v4() => item.broadcast = Some(broadcast),
            _ => {
                let text = format!("VRRP is trying to assign invalid broadcast {text}. skipping VIP...");
                self.messages.flaw_at(value.at.clone(), text);
                return None;
            }
        }
        Some(())
    }

    fn peer(&mut self, item: &mut VirtualAddress, value: &Value<'_>, has_prefix: bool) {
        match value.text.parse::<Address>() {
            Err(_) => {
                let text = value.text;
                self.messages.flaw_at(value.at.clone(), format!("VRRP parsed invalid IP {text}. skipping IP..."));
                self.messages.flaw_at(value.at.clone(), format!("Invalid peer address {text}"));
            }
            Ok(peer) if peer.family() != item.address.family() => {
                let text = format!("Peer address {} does not match address family", value.text);
                self.messages.flaw_at(value.at.clone(), text);
            }
            Ok(peer) => {
                if has_prefix {
                    let text = "Cannot specify address prefix when specifying peer address - ignoring";
                    self.messages.flaw_at(value.at.clone(), text);
                }
                item.peer = Some((peer, prefix_max(peer.family())));
            }
        }
    }
}

/// The kernel's number of a scope.
fn scope(word: &str) -> Option<u8> {
    match word {
        "global" => Some(0),
        "site" => Some(200),
        "link" => Some(253),
        "host" => Some(254),
        "nowhere" => Some(255),
        other => other.parse().ok(),
    }
}
