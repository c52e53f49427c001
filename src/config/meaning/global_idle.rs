//! `global_defs`: keywords without effect, whose values are looked at nevertheless, and a few of one line.

use crate::config::blocks::Node;
use crate::config::meaning::{Context, name};

impl Context<'_> {
    /// Keywords without effect whose values are looked at nevertheless.
    pub(super) fn read_idle(&mut self, node: &Node<'_>) -> bool {
        let word = node.name();
        let value = node.value(0);
        let refused = match word {
            "max_auto_priority" if !value.text.is_empty() => self
                .signed(&value, -1, 99)
                .is_none()
                .then(|| format!("{word} '{}' must be in [0, 99] (or -1 to disable) - ignoring", value.text)),
            "min_auto_priority_delay" => self
                .unsigned(&value, 1, 10_000_000)
                .is_none()
                .then(|| format!("{word} '{}' must be in [1, 10000000] - ignoring", value.text)),
            "vrrp_iptables" => Some(
                "iptables not supported, using nftables instead. Please replace 'vrrp_iptables and 'vrrp_ipsets' with 'nftables' config option"
                    .to_owned(),
            ),
            "nftables_priority" => self
                .signed(&value, i32::MIN, i32::MAX)
                .is_none()
                .then(|| format!("invalid nftables chain priority '{}'", value.text)),
            "nftables_ipvs_priority" => self
                .signed(&value, i32::MIN, i32::MAX)
                .is_none()
                .then(|| format!("invalid ipvs nftables chain priority '{}'", value.text)),
            "nftables_ipvs_start_fwmark" => self
                .unsigned(&value, 0, u32::MAX)
                .is_none()
                .then(|| format!("invalid ipvs nftables start_fwmark priority '{}'", value.text)),
            "vrrp_rx_bufs_policy" if !matches!(value.text, "MTU" | "ADVERT") => {
                let octets = self.unsigned(&value, 0, u32::MAX);
                self.configuration.global.vrrp_receive_octets = octets;
                octets.is_none().then(|| format!("Invalid vrrp_rx_bufs_policy {}", value.text))
            }
            "vrrp_rx_bufs_multiplier" => self
                .unsigned(&value, 1, u32::MAX)
                .is_none()
                .then(|| format!("Invalid vrrp_rx_bufs_multiplier {}", value.text)),
            "random_seed" => self
                .unsigned(&value, 0, u32::MAX)
                .is_none()
                .then(|| format!("random_seed {} invalid", value.text)),
            "umask" => return self.read_umask(node),
            "include_check" => return self.read_include_check(node),
            "reload_check_config" => {
                let log = node.words.first().map(|word| name(&word.text));
                self.configuration.global.checks_reload = Some(log);
                None
            }
            _ if word.ends_with("_rcv_bufs") => self
                .unsigned(&value, 0, u32::MAX)
                .is_none()
                .then(|| format!("{word} size ({}) invalid", value.text)),
            _ => return false,
        };
        if let Some(text) = refused {
            self.messages.flaw_at(value.at, text);
        }
        true
    }

    /// Truth values of keywords without effect.
    pub(super) fn read_truth(&mut self, node: &Node<'_>, word: &str) -> bool {
        let value = node.value(0);
        let shown = if word == "data_use_instance" { "date_use_instance" } else { word };
        if word.ends_with("_rcv_bufs_force") || word == "data_use_instance" {
            let text = format!("Invalid value '{}' for global {shown} specified", value.text);
            self.truth(&value, text);
            return true;
        }
        false
    }

    fn read_umask(&mut self, node: &Node<'_>) -> bool {
        let value = node.value(0);
        let is_octal = value.text.bytes().all(|byte| byte.is_ascii_digit());
        match u32::from_str_radix(value.text, 8) {
            Ok(mask) if mask <= 0o777 => self.configuration.global.umask = Some(mask),
            _ if is_octal => self.messages.flaw_at(value.at, format!("invalid umask value {}", value.text)),
            _ => match symbolic_umask(value.text) {
                Some(mask) => self.configuration.global.umask = Some(mask),
                None => self.messages.flaw_at(value.at, format!("Unknown umask bit {}", value.text)),
            },
        }
        true
    }

    /// The language has taken its words already; here they are only judged.
    fn read_include_check(&mut self, node: &Node<'_>) -> bool {
        let is_change = node.word(0).starts_with(['+', '-']);
        for index in 0..node.words.len() {
            let value = node.value(index);
            let word = value.text.trim_start_matches(['+', '-']);
            let is_known = matches!(word, "readable" | "match" | "wildcard_match" | "brace_match");
            if !is_known {
                let text = format!("Unknown include_check type '{word}' - ignoring");
                self.messages.flaw_at(value.at, text);
            } else if is_change != value.text.starts_with(['+', '-']) {
                let text = format!("include_check '{word}' is given with and without sign");
                self.messages.hint_at(value.at, text);
            }
        }
        true
    }
}

/// `S_IRUSR|S_IXOTH`, the names of the bits.
fn symbolic_umask(text: &str) -> Option<u32> {
    const NAMES: [(&str, u32); 9] = [
        ("IRUSR", 0o400),
        ("IWUSR", 0o200),
        ("IXUSR", 0o100),
        ("IRGRP", 0o040),
        ("IWGRP", 0o020),
        ("IXGRP", 0o010),
        ("IROTH", 0o004),
        ("IWOTH", 0o002),
        ("IXOTH", 0o001),
    ];
    text.split('|').try_fold(0, |mask, word| {
        let word = word.trim_start_matches("S_");
        NAMES.iter().find(|(name, _)| *name == word).map(|(_, bit)| mask | bit)
    })
}
