//! `virtual_server_group`.

use crate::base::{Address, Family};
use crate::config::blocks::{Entry, Node, Value};
use crate::config::meaning::{Context, name, prefix_max};
use crate::config::model::service::{GroupEntry, ServerGroup};

/// Addresses of a line of a group, at most.
const RANGE_MAX: u32 = 65_536;

impl Context<'_> {
    pub(super) fn read_server_group(&mut self, node: &Node<'_>) {
        let own = node.word(0);
        let mut group = ServerGroup { name: name(own), entries: Vec::new() };
        for entry in &node.entries {
            let read = match entry.word(0) {
                "fwmark" => self.group_mark(own, node, entry),
                _ => self.group_addresses(node, entry),
            };
            group.entries.extend(read);
        }
        if group.entries.is_empty() {
            let text = format!("virtual server group {own} has no entries - removing");
            return self.messages.flaw_at(node.at_end(), text);
        }
        self.configuration.server_groups.retain(|other| other.name != group.name);
        self.configuration.server_groups.push(group);
    }

    fn group_mark(&mut self, own: &str, node: &Node<'_>, entry: &Entry) -> Option<GroupEntry> {
        if entry.words.len() < 2 {
            let text = "*** Configuration line starting `fwmark` is missing a parameter after keyword `fwmark` at word position 2";
            self.messages.fatal_at(node.at_entry(entry), text);
            return None;
        }
        let value = node.entry_value(entry, 1);
        let Some(mark) = self.unsigned(&value, 0, u32::MAX) else {
            let text = format!("({own}): fwmark '{}' must be in [0, {}] - ignoring", value.text, u32::MAX);
            self.messages.flaw_at(value.at, text);
            return None;
        };
        let family = if entry.word(2) == "inet6" { Family::V6 } else { Family::V4 };
        Some(GroupEntry::Mark(family, mark))
    }

    /// `ADDRESS[-END][/PREFIX] [PORT]`
    fn group_addresses(&mut self, node: &Node<'_>, entry: &Entry) -> Option<GroupEntry> {
        let range = node.entry_value(entry, 0);
        let port = node.entry_value(entry, 1);
        let number = match entry.words.len() {
            0 | 1 => Some(0),
            _ => self.port(&port),
        };
        let (start, end) = range.text.split_once('-').map_or((range.text, None), |(start, end)| (start, Some(end)));
        let (start, prefix) = start.split_once('/').map_or((start, None), |(start, prefix)| (start, Some(prefix)));
        let (Some(number), Ok(first)) = (number, start.parse::<Address>()) else {
            let shown = if entry.words.len() > 1 { port.text } else { "0" };
            let text = format!("Invalid virtual server group IP address {} /port/{shown} - skipping", range.text);
            self.messages.flaw_at(range.at, text);
            return None;
        };
        let following = match (end, prefix) {
            (Some(end), _) => self.range_end(&range, first, end)?,
            (None, Some(prefix)) => {
                let host = prefix_max(first.family()).checked_sub(prefix.parse().ok()?)?;
                let count = 1u64.checked_shl(u32::from(host)).filter(|&count| count <= u64::from(RANGE_MAX));
                match count {
                    Some(count) => u32::try_from(count - 1).ok()?,
                    None => {
                        let text = format!("a service for each of more than {RANGE_MAX} addresses is too much");
                        self.messages.hint_at(range.at, text);
                        return None;
                    }
                }
            }
            (None, None) => 0,
        };
        Some(GroupEntry::Addresses { first, following, port: number })
    }

    fn range_end(&mut self, range: &Value<'_>, first: Address, end: &str) -> Option<u32> {
        let (most, last) = match first.family() {
            Family::V4 => (255, first.low_u32() & 0xff),
            Family::V6 => (0xffff, first.words()[3] & 0xffff),
        };
        let whole = end.parse::<Address>().ok().filter(|_| end.contains(['.', ':']));
        let number = match (whole, first.family()) {
            (Some(end), Family::V4) if end.is_v4() => {
                let number = end.low_u32().checked_sub(first.low_u32());
                return self.following(range, number);
            }
            (_, Family::V4) => end.parse::<u32>().ok(),
            (_, Family::V6) => u32::from_str_radix(end, 16).ok(),
        };
        match number {
            Some(number) if number <= most => self.following(range, number.checked_sub(last)),
            _ => {
                let text = format!("Virtual server group range '{}' end '{end}' too large", range.text);
                self.messages.flaw_at(range.at.clone(), text);
                None
            }
        }
    }

    fn following(&mut self, range: &Value<'_>, number: Option<u32>) -> Option<u32> {
        let number = number.filter(|&number| number > 0 && number < RANGE_MAX);
        if number.is_none() {
            let text = format!("Address range end is not greater than address range start - {} - skipping", range.text);
            self.messages.flaw_at(range.at.clone(), text);
        }
        number
    }
}
