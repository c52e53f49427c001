//! `static_ipaddress`, `static_routes`, `static_rules`, `track_group`, and the few blocks of interfaces.

use crate::base::Duration;
use crate::config::blocks::Node;
use crate::config::meaning::{Context, name};
use crate::config::model::global::{AnnouncementGroup, InterfaceDelays};
use crate::config::model::statics::Static;

/// The longest delay of an interface, seconds.
const DELAY_MAX_S: u32 = 255;

impl Context<'_> {
    pub(super) fn read_static_addresses(&mut self, node: &Node<'_>) {
        for entry in &node.entries {
            let Some(mut line) = self.address_line(node, entry, true) else { continue };
            if line.item.interface.is_none() {
                line.item.interface = Some(self.default_interface());
            }
            let line = Static { item: line.item, track_group: line.track_group };
            self.configuration.statics.addresses.push(line);
        }
    }

    pub(super) fn read_static_routes(&mut self, node: &Node<'_>) {
        for entry in &node.entries {
            let line = match node.name() {
                "static_routes" => self.route_line(node, entry, true),
                _ => Some(self.rule_line(node, entry)),
            };
            let Some(line) = line else { continue };
            let line = Static { item: line.item, track_group: line.track_group };
            self.configuration.statics.routes.push(line);
        }
    }

    pub(super) fn read_track_group(&mut self, node: &Node<'_>) {
        let members = node.children.iter().flat_map(|child| &child.entries).flat_map(|entry| &entry.words);
        let members = members.map(|word| name(&word.text)).collect();
        self.configuration.statics.track_groups.push((name(node.word(0)), members));
    }

    pub(super) fn read_garp_group(&mut self, node: &Node<'_>) {
        let mut group = AnnouncementGroup::default();
        for child in &node.children {
            let value = child.value(0);
            match child.name() {
                word @ ("garp_interval" | "gna_interval") => {
                    let gap = self.seconds(&value, 1, super::number::LONGEST_US);
                    if gap.is_none() {
                        let text = format!("garp_group {word} '{}' invalid", value.text);
                        self.messages.flaw_at(value.at, text);
                    }
                    *(if word == "garp_interval" { &mut group.arp_gap } else { &mut group.neighbour_gap }) = gap;
                }
                "interface" => group.interfaces.push(name(value.text)),
                _ => {
                    let names = child.entries.iter().flat_map(|entry| &entry.words);
                    group.interfaces.extend(names.map(|word| name(&word.text)));
                }
            }
        }
        let index = self.configuration.global.announcement_groups.len();
        if group.arp_gap.is_none() && group.neighbour_gap.is_none() {
            let text = format!("garp group {index} does not have any delay set - removing");
            return self.messages.flaw_at(node.at_end(), text);
        }
        self.configuration.global.announcement_groups.push(group);
    }

    pub(super) fn read_interface_delays(&mut self, node: &Node<'_>) {
        for entry in &node.entries {
            let down = node.entry_value(entry, 1);
            let Some(down) = self.unsigned(&down, 0, DELAY_MAX_S) else { continue };
            let up = match entry.words.len() {
                0..=2 => Some(down),
                _ => self.unsigned(&node.entry_value(entry, 2), 0, DELAY_MAX_S),
            };
            let Some(up) = up else { continue };
            let seconds = |seconds: u32| Duration::from_secs(u64::from(seconds));
            self.configuration.global.interface_delays.push(InterfaceDelays {
                interface: name(entry.word(0)),
                down: seconds(down),
                up: seconds(up),
            });
        }
    }

    pub(super) fn read_linkbeat(&mut self, node: &Node<'_>) {
        let names = node.entries.iter().map(|entry| name(entry.word(0)));
        self.configuration.global.polled_interfaces.extend(names);
    }

    /// `default_interface`, or `eth0`.
    pub(super) fn default_interface(&self) -> crate::vrrp::Name {
        self.configuration.global.default_interface.clone().unwrap_or_else(|| name("eth0"))
    }
}
