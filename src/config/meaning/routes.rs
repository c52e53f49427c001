//! Lines of `virtual_routes`, `virtual_rules`, `static_routes` and `static_rules`: the words of `ip route add` and
//! `ip rule add`, with a few of keepalived's own.

use crate::base::Address;
use crate::config::blocks::{Entry, Node};
use crate::config::meaning::{Context, name};
use crate::vrrp::{Attached, Name};

/// A route or a rule, and what its line says beside it.
pub struct RouteLine {
    /// What is to be installed.
    pub item: Attached,
    /// `track_group`.
    pub track_group: Option<Name>,
}

impl Context<'_> {
    /// One line of routes; `None` when it is left out. `is_static` lines are not tracked unless they have a group.
    pub fn route_line(&mut self, node: &Node<'_>, entry: &Entry, is_static: bool) -> Option<RouteLine> {
        let to = destination(entry);
        if !is_network(to) {
            self.messages.flaw_at(node.at_entry(entry), format!("VRRP parsed invalid IP {to}. skipping IP..."));
            self.messages.flaw_at(node.at_entry(entry), format!("unknown route keyword {to}"));
            return None;
        }
        let mut words: Vec<String> = Vec::new();
        let mut track_group = None;
        let mut is_untracked = is_static;
        let mut has_interface = false;
        let mut hops = 0;
        let mut index = 0;
        while index < entry.words.len() {
            let value = node.entry_value(entry, index);
            let next = entry.word(index + 1);
            index += 1;
            match value.text {
                "no_track" => is_untracked = true,
                "track_group" => {
                    track_group = Some(name(next));
                    index += 1;
                }
                "gw" => {
                    self.messages.flaw_at(value.at, "\"gw\" for routes is deprecated. Please use \"via\"");
                    words.push("via".to_owned());
                }
                "or" => {
                    self.messages.flaw_at(value.at, "\"or\" for routes is deprecated. Please use \"nexthop\"");
                    hops += 1;
                    words.extend(["nexthop".to_owned(), "via".to_owned()]);
                }
                "dev" | "oif" => {
                    has_interface = true;
                    if !next.is_empty() && !self.has_interface(next) {
                        let text = format!("WARNING - interface {next} for VROUTE nexthop doesn't exist");
                        self.messages.flaw_at(value.at, text);
                        self.miss_interface();
                    }
                    words.push("dev".to_owned());
                }
                word => words.push(word.to_owned()),
            }
        }
        if hops > 0
            && let Some(via) = words.iter().position(|word| word == "via")
        {
            words.insert(via, "nexthop".to_owned());
        }
        if !has_interface && !is_untracked {
            let text = format!(
                "Warning - cannot track route {} with no interface specified, not tracking",
                destination(entry)
            );
            self.messages.flaw_at(node.at_entry(entry), text);
        }
        Some(RouteLine { item: Attached::Route(name(&words.join(" "))), track_group })
    }

    /// One line of rules.
    pub fn rule_line(&mut self, node: &Node<'_>, entry: &Entry) -> RouteLine {
        let mut words: Vec<&str> = entry.words.iter().map(|word| word.text.as_str()).collect();
        words.retain(|&word| word != "no_track");
        let mut track_group = None;
        if let Some(at) = words.iter().position(|&word| word == "track_group") {
            track_group = words.get(at + 1).map(|word| name(word));
            words.drain(at..words.len().min(at + 2));
        }
        if !words.iter().any(|word| matches!(*word, "pref" | "preference" | "priority" | "order")) {
            let text = "Rule has no preference specified - setting to 16384. This is probably not what you want.";
            self.messages.flaw_at(node.at_entry(entry), text);
            words.extend(["preference", "16384"]);
        }
        RouteLine { item: Attached::Rule(name(&words.join(" "))), track_group }
    }
}

/// True for `default`, an address, or an address and the length of a prefix.
fn is_network(word: &str) -> bool {
    let (address, prefix) = word.split_once('/').map_or((word, None), |(address, prefix)| (address, Some(prefix)));
    let is_address = matches!(word, "default" | "any" | "all") || address.parse::<Address>().is_ok();
    is_address && prefix.is_none_or(|prefix| prefix.parse::<u8>().is_ok_and(|length| length <= 128))
}

/// Where a route leads to, as its line says it.
fn destination(entry: &Entry) -> &str {
    const WITH_VALUE: [&str; 11] =
        ["src", "via", "gw", "or", "dev", "scope", "table", "metric", "proto", "nexthop", "weight"];
    let mut words = entry.words.iter().map(|word| word.text.as_str());
    while let Some(word) = words.next() {
        match word {
            "to" => return words.next().unwrap_or("default"),
            "blackhole" | "unreachable" | "prohibit" | "throw" | "unicast" | "no_track" => {}
            _ if WITH_VALUE.contains(&word) => {
                words.next();
            }
            _ => return word,
        }
    }
    "default"
}
