//! `bfd_instance`.

use crate::base::{Address, Duration};
use crate::config::blocks::{Node, Value};
use crate::config::meaning::{Context, name};
use crate::config::model::BfdInstance;

impl Context<'_> {
    /// A `bfd_instance`. Nobody speaks BFD yet: its word never comes, and so it stays down.
    pub fn read_bfd(&mut self, node: &Node<'_>) {
        let own = node.word(0);
        if self.configuration.bfd_instances.iter().any(|other| &*other.name == own) {
            self.messages.flaw_at(node.at(), format!("BFD {own} already specified"));
            let text = format!("Configuration error: BFD instance {own} already configured - ignoring");
            return self.messages.flaw_at(node.at(), text);
        }
        let mut neighbour: Option<Address> = None;
        let mut bfd = BfdInstance {
            name: name(own),
            neighbour: Address::v4(0),
            source: None,
            receive_min: Duration::from_millis(10),
            send_min: Duration::from_millis(10),
            idle_send: Duration::from_secs(1),
            multiplier: 5,
            is_passive: false,
            hop_limit: 255,
            hops_max: 0,
            weight: 0,
            is_reversed: false,
            is_for_vrrp: false,
            is_for_checkers: false,
        };
        for child in &node.children {
            let value = child.value(0);
            match child.name() {
                "neighbor_ip" | "neighbour_ip" => match value.text.parse() {
                    Ok(address) => neighbour = Some(address),
                    Err(_) => {
                        let text = format!(
                            "Configuration error: BFD instance {own} has malformed neighbor address {}, ignoring instance",
                            value.text
                        );
                        return self.messages.flaw_at(value.at, text);
                    }
                },
                "source_ip" => match value.text.parse() {
                    Ok(address) => bfd.source = Some(address),
                    Err(_) => {
                        let text = format!(
                            "Configuration error: BFD instance {own} has malformed source address {}, ignoring",
                            value.text
                        );
                        self.messages.flaw_at(value.at, text);
                    }
                },
                word @ ("min_rx" | "min_tx" | "idle_tx") => {
                    let least = if word == "idle_tx" { 1000 } else { 1 };
                    let found = self.milliseconds(&value, least * 1000, 4_294_967_000);
                    let is_found = found.is_some();
                    let slot = match word {
                        "min_rx" => &mut bfd.receive_min,
                        "min_tx" => &mut bfd.send_min,
                        _ => &mut bfd.idle_send,
                    };
                    *slot = found.unwrap_or(*slot);
                    if !is_found {
                        let text = format!(
                            "Configuration error: BFD instance {own} {word} value {} is not valid (must be in range [{least}-4294967]), ignoring",
                            value.text
                        );
                        self.messages.flaw_at(value.at, text);
                    }
                }
                "multiplier" => {
                    if let Some(number) = self.bfd_number(own, "multiplier", &value, 1, 255) {
                        bfd.multiplier = number as u8;
                    }
                }
                "ttl" | "hoplimit" => {
                    if let Some(number) = self.bfd_number(own, "ttl/hoplimit", &value, 1, 255) {
                        bfd.hop_limit = number as u8;
                    }
                }
                "max_hops" => {
                    if let Some(number) = self.bfd_number(own, "max_hops", &value, -1, 255) {
                        bfd.hops_max = number.max(0) as u8;
                    }
                }
                "weight" => {
                    if let Some(number) = self.bfd_number(own, "weight", &value, -253, 253) {
                        bfd.weight = number;
                    }
                    bfd.is_reversed = child.word(1) == "reverse";
                }
                "passive" => bfd.is_passive = true,
                "vrrp" => bfd.is_for_vrrp = true,
                _ => bfd.is_for_checkers = true,
            }
        }
        let Some(neighbour) = neighbour else {
            let text =
                format!("Configuration error: BFD instance {own} has no neighbor address set, disabling instance");
            return self.messages.flaw_at(node.at_end(), text);
        };
        bfd.neighbour = neighbour;
        if let Some(source) = bfd.source.filter(|source| source.family() != neighbour.family()) {
            let text = format!(
                "Configuration error: BFD instance {own} source address {source} and neighbor address {source} are not of the same family, disabling instance"
            );
            return self.messages.flaw_at(node.at_end(), text);
        }
        if !bfd.is_for_vrrp && !bfd.is_for_checkers {
            (bfd.is_for_vrrp, bfd.is_for_checkers) = (true, true);
        }
        self.messages.hint_at(node.at(), "BFD is accepted and has no effect yet: what tracks it stays as it starts");
        self.configuration.bfd_instances.push(bfd);
    }

    fn bfd_number(&mut self, own: &str, what: &str, value: &Value<'_>, least: i32, most: i32) -> Option<i32> {
        let number = self.signed(value, least, most);
        if number.is_none() {
            let text = format!(
                "Configuration error: BFD instance {own} {what} value {} not valid (must be in range [{least}-{most}]), ignoring",
                value.text
            );
            self.messages.flaw_at(value.at.clone(), text);
        }
        number
    }
}
