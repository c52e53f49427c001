//! `global_defs`: FIFOs, scripts at the start and at the end, how processes run.

use crate::base::Duration;
use crate::config::blocks::{Node, Value};
use crate::config::meaning::global::SCRIPT_TIMEOUT;
use crate::config::meaning::{Context, name};
use crate::config::model::Identity;
use crate::config::model::global::{Fifo, ProcessSettings};

impl Context<'_> {
    pub(super) fn read_fifo(&mut self, node: &Node<'_>) -> bool {
        let word = node.name();
        let value = node.value(0);
        let index = match word {
            "notify_fifo" | "notify_fifo_script" => 0,
            "vrrp_notify_fifo" | "vrrp_notify_fifo_script" => 1,
            "lvs_notify_fifo" | "lvs_notify_fifo_script" => 2,
            _ => return false,
        };
        if word.ends_with("_script") {
            if self.global_draft.fifo_scripts.contains(&index) {
                let text = format!("{word} already specified - ignoring {}", value.text);
                return self.refuse_value(&value, text);
            }
            self.global_draft.fifo_scripts.push(index);
            self.global_draft.fifo_readers[index] = self.notify_script(node);
            return true;
        }
        if value.text.is_empty() {
            return self.refuse_value(&value, format!("No {word} name specified"));
        }
        let identity = match node.words.get(1) {
            Some(user) => self.identity(&user.text, node.words.get(2).map(|word| word.text.as_str())),
            None => Some(Identity::default()),
        };
        let global = &mut self.configuration.global;
        let slot = [&mut global.fifo, &mut global.vrrp_fifo, &mut global.lvs_fifo].into_iter().nth(index);
        let Some(slot) = slot else { return true };
        if slot.is_some() {
            return self.refuse_value(&value, format!("{word} already specified - ignoring {}", value.text));
        }
        match identity {
            Some(identity) => *slot = Some(Fifo { path: name(value.text), identity, reader: None }),
            None => self.messages.hint_at(node.at_word(1), "the user or group is not there: the FIFO is not made"),
        }
        true
    }

    pub(super) fn read_process_setting(&mut self, node: &Node<'_>) -> bool {
        let word = node.name();
        let Some((process, setting)) = word.split_once('_') else { return false };
        if !matches!(process, "vrrp" | "checker" | "bfd") {
            return false;
        }
        let value = node.value(0);
        let mut settings = self.process_settings(process).clone();
        match setting {
            "priority" => match self.signed(&value, -20, 19) {
                Some(priority) => settings.priority = Some(priority as i8),
                None => self.messages.flaw_at(value.at, format!("Invalid {process} process priority specified")),
            },
            "no_swap" => settings.is_locked = true,
            "rt_priority" => settings.realtime_priority = self.realtime_priority(process, &value),
            "cpu_affinity" => {
                for index in 0..node.words.len() {
                    let value = node.value(index);
                    match self.unsigned(&value, 0, 4095) {
                        Some(processor) => settings.processors.push(processor),
                        None => {
                            let shown = value.text.parse::<u32>().unwrap_or(0);
                            let text = format!("Invalid cpu_id:{shown} specified for {process} process");
                            self.messages.flaw_at(value.at, text);
                        }
                    }
                }
            }
            "rlimit_rttime" | "rlimit_rtime" => match self.unsigned(&value, 1, u32::MAX) {
                Some(limit) => settings.realtime_limit = Some(Duration::from_micros(u64::from(limit))),
                None => {
                    let text = format!("Invalid {process} real-time limit - {}", value.text);
                    self.messages.flaw_at(value.at, text);
                }
            },
            _ => return false,
        }
        *self.process_settings(process) = settings;
        true
    }

    fn process_settings(&mut self, process: &str) -> &mut ProcessSettings {
        let global = &mut self.configuration.global;
        match process {
            "vrrp" => &mut global.vrrp_process,
            "checker" => &mut global.checker_process,
            _ => &mut global.bfd_process,
        }
    }

    fn realtime_priority(&mut self, process: &str, value: &Value<'_>) -> Option<u8> {
        let Some(number) = self.signed(value, i32::MIN, i32::MAX) else {
            let text = format!("{process} process real-time priority '{}' invalid", value.text);
            self.messages.flaw_at(value.at.clone(), text);
            return None;
        };
        let refused = match number {
            ..1 => Some("less than minimum 1 - setting to minimum"),
            1..100 => None,
            _ => Some("greater than maximum 99 - setting to maximum"),
        };
        if let Some(why) = refused {
            let text = format!("{process} process real-time priority {} {why}", value.text);
            self.messages.flaw_at(value.at.clone(), text);
        }
        Some(number.clamp(1, 99) as u8)
    }

    pub(super) fn read_startup(&mut self, node: &Node<'_>) -> bool {
        let word = node.name();
        let value = node.value(0);
        let Some((which, rest)) = word.split_once("_script") else { return false };
        let index = match which {
            "startup" => 0,
            "shutdown" => 1,
            _ => return false,
        };
        if rest == "_timeout" {
            let timeout = self.unsigned(&value, 1, 1000);
            if timeout.is_none() {
                let text = format!("{word} '{}' must be in [1, 1000] - ignoring", value.text);
                self.messages.flaw_at(value.at, text);
            }
            self.global_draft.timeouts[index] = timeout.map(|seconds| Duration::from_secs(u64::from(seconds)));
            return true;
        }
        let global = &self.configuration.global;
        if (index == 0 && global.startup.is_some()) || (index == 1 && global.shutdown.is_some()) {
            return self.refuse_value(&value, format!("{which} script already specified"));
        }
        let has_user = match node.words.get(1) {
            Some(user) => self.identity(&user.text, node.words.get(2).map(|word| word.text.as_str())).is_some(),
            None => true,
        };
        if !has_user {
            return self.refuse_value(&value, format!("Invalid {which} script"));
        }
        let script = self.notify_script(node).map(|script| (script, SCRIPT_TIMEOUT));
        let global = &mut self.configuration.global;
        *(if index == 0 { &mut global.startup } else { &mut global.shutdown }) = script;
        true
    }
}
