//! `global_defs`: the table of services and its synchronisation.

use crate::base::Address;
use crate::config::blocks::Node;
use crate::config::meaning::{Context, boolean, name};
use crate::config::model::global::{FlushOnStop, SyncDaemon};

/// Octets of UDP payload of a sync datagram, at most.
const SYNC_OCTETS_MAX: u32 = 65_507;

impl Context<'_> {
    pub(super) fn read_lvs(&mut self, node: &Node<'_>) -> bool {
        let value = node.value(0);
        match node.name() {
            "checker_log_all_failures" => {
                let text = "Invalid value for checker_log_all_failures specified".to_owned();
                if let Some(truth) = self.truth(&value, text) {
                    self.configuration.global.logs_all_failures = truth;
                }
            }
            "lvs_sync_daemon" => self.read_sync_daemon(node),
            "lvs_timeouts" => self.read_timeouts(node),
            "lvs_flush" => self.configuration.global.flushes = boolean(value.text).unwrap_or(true),
            "lvs_flush_on_stop" | "lvs_flush_onstop" => {
                self.configuration.global.flush_on_stop = match value.text {
                    "" => FlushOnStop::Everything,
                    "VS" => FlushOnStop::OwnServices,
                    other => {
                        let text = format!("Unknown lvs_flush_on_stop type {other}");
                        return self.refuse_value(&value, text);
                    }
                }
            }
            "default_interface" if value.text.is_empty() => {
                self.messages.flaw_at(value.at, "default_interface requires interface name");
            }
            "default_interface" => self.configuration.global.default_interface = Some(name(value.text)),
            "rs_init_notifies" => self.configuration.global.notifies_at_start = true,
            _ => return false,
        }
        true
    }

    fn read_timeouts(&mut self, node: &Node<'_>) {
        if node.words.len() < 2 {
            return self.messages.flaw_at(node.at(), "lvs_timeouts requires at least one option");
        }
        let mut index = 0;
        while index < node.words.len() {
            let word = node.value(index);
            index += 1;
            if !matches!(word.text, "tcp" | "tcpfin" | "udp") {
                let text = format!("Unknown option {} specified for lvs_timeouts", word.text);
                self.messages.flaw_at(word.at, text);
                continue;
            }
            let value = node.value(index);
            index += 1;
            let Some(seconds) = self.unsigned(&value, 0, i32::MAX as u32) else {
                let text = format!("Invalid lvs_timeout {} ({}) - ignoring", word.text, value.text);
                self.messages.flaw_at(value.at, text);
                continue;
            };
            let timeouts = &mut self.configuration.global.timeouts;
            match word.text {
                "tcp" => timeouts.tcp_s = seconds,
                "tcpfin" => timeouts.tcp_fin_s = seconds,
                _ => timeouts.udp_s = seconds,
            }
        }
    }

    fn read_sync_daemon(&mut self, node: &Node<'_>) {
        if node.words.is_empty() {
            return self.messages.flaw_at(node.at(), "lvs_sync_daemon requires interface");
        }
        if let Some(before) = &self.configuration.global.sync_daemon {
            let text = format!("lvs_sync_daemon has already been specified as {}  - ignoring", before.interface);
            return self.messages.flaw_at(node.at(), text);
        }
        let mut daemon = SyncDaemon {
            interface: name(node.word(0)),
            instance: None,
            id: None,
            length_max: 0,
            port: 0,
            hop_limit: 0,
            group: None,
        };
        const OPTIONS: [&str; 6] = ["inst", "id", "maxlen", "port", "ttl", "group"];
        let mut index = 1;
        if node.words.len() > 1 && !OPTIONS.contains(&node.word(1)) {
            daemon.instance = Some(name(node.word(1)));
            index = 2;
        }
        while index < node.words.len() {
            let word = node.value(index);
            let value = node.value(index + 1);
            index += 2;
            let about = |what: &str| format!("Invalid lvs_sync_daemon {what} ({}) - ignoring", value.text);
            let (number, refused) = match word.text {
                "inst" => {
                    daemon.instance = Some(name(value.text));
                    continue;
                }
                "id" => {
                    daemon.id = self.unsigned(&value, 0, 255).map(|number| number as u8);
                    (daemon.id.map(u32::from), format!("Invalid syncid ({}) - defaulting to vrid", value.text))
                }
                "maxlen" => {
                    let number = self.unsigned(&value, 1, SYNC_OCTETS_MAX);
                    daemon.length_max = number.unwrap_or(0) as u16;
                    (number, about("maxlen"))
                }
                "port" => {
                    let number = self.unsigned(&value, 1, 65_535);
                    daemon.port = number.unwrap_or(0) as u16;
                    (number, about("port"))
                }
                "ttl" => {
                    let number = self.unsigned(&value, 1, 255);
                    daemon.hop_limit = number.unwrap_or(0) as u8;
                    (number, about("ttl"))
                }
                "group" => {
                    match value.text.parse::<Address>() {
                        Err(_) => self.messages.flaw_at(value.at.clone(), about("group")),
                        Ok(group) if !group.is_multicast() => {
                            let text = format!("lvs_sync_daemon group address {group} is not multicast - ignoring");
                            self.messages.flaw_at(value.at.clone(), text);
                        }
                        Ok(group) => daemon.group = Some(group),
                    }
                    continue;
                }
                _ => {
                    let text = "Please use keyword \"id\" before lvs_sync_daemon SYNCID";
                    index -= 1;
                    let number = self.unsigned(&word, 0, 255);
                    if number.is_some() {
                        self.messages.flaw_at(word.at.clone(), text);
                    }
                    daemon.id = number.map(|number| number as u8);
                    (number, format!("Invalid syncid ({}) - defaulting to vrid", word.text))
                }
            };
            if number.is_none() {
                self.messages.flaw_at(value.at, refused);
            }
        }
        self.configuration.global.sync_daemon = Some(daemon);
    }
}
