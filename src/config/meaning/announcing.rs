//! When addresses are announced: the same words of an instance and, with `vrrp_` before them, of `global_defs`.

use crate::base::Duration;
use crate::config::blocks::Node;
use crate::config::meaning::{Announcements, Context};

impl Context<'_> {
    /// A keyword of announcements, of an instance or (with `prefix`) of `global_defs`.
    pub(super) fn announcement(&mut self, given: &mut Announcements, node: &Node<'_>, prefix: &str, own: &str) -> bool {
        let word = node.name();
        let mut value = node.value(0);
        let seconds = |number: u32| Duration::from_secs(u64::from(number));
        let most = u32::MAX;
        let refused = match word.strip_prefix(prefix).unwrap_or_default() {
            "garp_master_delay" => match self.unsigned(&value, 0, most) {
                Some(number) => return set(&mut given.delay, seconds(number)),
                None => format!("{own}{word} '{}' invalid - ignoring", value.text),
            },
            "garp_lower_prio_delay" => match self.unsigned(&value, 0, most) {
                Some(number) => return set(&mut given.lower_delay, seconds(number)),
                None => format!("{own}{word} '{}' invalid - ignoring", value.text),
            },
            "garp_master_refresh" => match self.unsigned(&value, 0, most) {
                Some(number) => return set(&mut given.refresh, seconds(number)),
                None => format!("{own}Invalid {word} '{}' - ignoring", value.text),
            },
            "garp_lower_prio_repeat" => match self.unsigned(&value, 0, i32::MAX as u32) {
                Some(number) => return set(&mut given.lower_repeat, number),
                None => format!("{own}Invalid {word} '{}'", value.text),
            },
            repeat @ ("garp_master_repeat" | "garp_master_refresh_repeat") => {
                let slot = if repeat == "garp_master_repeat" { &mut given.repeat } else { &mut given.refresh_repeat };
                match self.unsigned(&value, 0, i32::MAX as u32) {
                    Some(0) => {
                        *slot = Some(1);
                        format!("{own}{word} must be greater than 0, setting to 1")
                    }
                    Some(number) => return set(slot, number),
                    None => format!("{own}{word} '{}' invalid - ignoring", value.text),
                }
            }
            "garp_extra_if" | "vmac_garp_intvl" => {
                if word.ends_with("vmac_garp_intvl") {
                    let text = format!("Keyword \"{word}\" is deprecated - please use \"{prefix}garp_extra_if\"");
                    self.messages.flaw_at(node.at(), text);
                }
                if value.text == "all" {
                    value = node.value(1);
                }
                match value.text {
                    "" => format!("{own}{word} specified without time - ignoring"),
                    _ => match self.unsigned(&value, 0, most) {
                        Some(number) => return set(&mut given.extra_interfaces, seconds(number)),
                        None => format!("{own}{word} '{}' invalid - ignoring", value.text),
                    },
                }
            }
            _ => return false,
        };
        self.messages.flaw_at(value.at, refused);
        true
    }
}

fn set<T>(slot: &mut Option<T>, value: T) -> bool {
    *slot = Some(value);
    true
}
