//! `global_defs`, and what stands outside every block.

use crate::base::{Address, Duration};
use crate::config::blocks::{Effect, Node, Value};
use crate::config::meaning::number::LONGEST_US;
use crate::config::meaning::{Context, boolean, name};
use crate::config::model::Script;
use crate::wire::vrrp::Version;

/// How long a startup or shutdown script may run.
pub const SCRIPT_TIMEOUT: Duration = Duration::from_secs(10);

/// What is decided when the block was read.
#[derive(Clone, Debug, Default)]
pub struct GlobalDraft {
    pub fifo_readers: [Option<Script>; 3],
    pub timeouts: [Option<Duration>; 2],
    smtp_alert: Option<bool>,
    smtp_alert_vrrp: Option<bool>,
    smtp_alert_checkers: Option<bool>,
    pub fifo_scripts: Vec<usize>,
}

impl Context<'_> {
    pub(super) fn read_outside(&mut self, node: &Node<'_>) {
        let value = node.value(0);
        match node.name() {
            "global_defs" => self.read_global(node),
            "net_namespace" => self.configuration.global.network_namespace = Some(name(value.text)),
            "instance" if value.text.is_empty() => {
                self.messages.flaw_at(value.at, "instance name missing - ignoring");
            }
            "instance" => self.configuration.global.instance = Some(name(value.text)),
            "use_pid_dir" => self.configuration.global.uses_pid_directory = true,
            "child_wait_time" if self.unsigned(&value, 0, u32::MAX).is_none() => {
                self.messages.flaw_at(value.at, format!("Invalid child_wait_time {}", value.text));
            }
            _ => {}
        }
    }

    /// Scripts run as whom, and whether safely, is asked first: the rest depends on it.
    fn read_global(&mut self, node: &Node<'_>) {
        for child in &node.children {
            match child.name() {
                "enable_script_security" => self.configuration.global.is_script_security_on = true,
                "script_user" => self.read_script_user(child),
                _ => {}
            }
        }
        if self.configuration.global.is_script_security_on && !self.has_script_user {
            self.script_identity = self.source.user(super::SCRIPT_USER);
        }
        self.configuration.global.script_identity = self.script_identity.unwrap_or_default();
        for child in &node.children {
            let word = child.name();
            let is_known = matches!(word, "enable_script_security" | "script_user")
                || self.read_mail(child)
                || self.read_lvs(child)
                || self.read_vrrp_default(child)
                || self.read_fifo(child)
                || self.read_process_setting(child)
                || self.read_startup(child)
                || self.read_idle(child)
                || self.read_truth(child, word)
                || matches!(child.keyword.effect, Effect::Nothing(_));
            debug_assert!(is_known, "the table has {word}, and nobody reads it");
        }
    }

    pub(super) fn finish_global(&mut self) {
        let draft = std::mem::take(&mut self.global_draft);
        let [all, vrrp, lvs] = draft.fifo_readers;
        let global = &mut self.configuration.global;
        for (fifo, reader) in [(&mut global.fifo, all), (&mut global.vrrp_fifo, vrrp), (&mut global.lvs_fifo, lvs)] {
            if let Some(fifo) = fifo {
                fifo.reader = reader;
            }
        }
        let [startup, shutdown] = draft.timeouts;
        if let Some((_, timeout)) = &mut global.startup {
            *timeout = startup.unwrap_or(SCRIPT_TIMEOUT);
        }
        if let Some((_, timeout)) = &mut global.shutdown {
            *timeout = shutdown.unwrap_or(SCRIPT_TIMEOUT);
        }
        global.smtp_alert_checkers = draft.smtp_alert_checkers.or(draft.smtp_alert);
        self.defaults.smtp_alert = draft.smtp_alert_vrrp.or(draft.smtp_alert).unwrap_or(false);
        let which = if draft.fifo_scripts.is_empty() { "start/shutdown scripts" } else { "scripts" };
        self.say_insecure(which);
    }

    fn read_script_user(&mut self, node: &Node<'_>) {
        if node.words.is_empty() {
            return self.messages.flaw_at(node.at(), "No script username specified");
        }
        match self.identity(node.word(0), node.words.get(1).map(|word| word.text.as_str())) {
            Some(identity) => {
                self.script_identity = Some(identity);
                self.has_script_user = true;
            }
            None => self.messages.flaw_at(node.at_word(0), "Error setting global script uid/gid"),
        }
    }

    fn read_mail(&mut self, node: &Node<'_>) -> bool {
        let value = node.value(0);
        let missing = |text: &str| text.is_empty();
        match node.name() {
            "router_id" if missing(value.text) && node.words.is_empty() => {
                self.messages.flaw_at(value.at, "routerid name missing - ignoring");
            }
            "router_id" => self.configuration.global.router_id = value.text.to_owned(),
            "notification_email" => {
                if node.entries.is_empty() {
                    self.messages.flaw_at(node.at_end(), "Warning - empty notification_email block");
                }
                let all = node.entries.iter().flat_map(|entry| &entry.words).map(|word| word.text.clone());
                self.configuration.global.mail.recipients.extend(all);
            }
            "notification_email_from" if node.words.is_empty() => {
                self.messages.flaw_at(value.at, "emailfrom missing - ignoring");
            }
            "notification_email_from" => self.configuration.global.mail.sender = Some(value.text.to_owned()),
            "smtp_helo_name" if node.words.is_empty() => {
                self.messages.flaw_at(value.at, "smtp_helo_name missing - ignoring");
            }
            "smtp_helo_name" => self.configuration.global.mail.helo = Some(value.text.to_owned()),
            "smtp_server" => self.read_mail_server(node),
            "smtp_connect_timeout" => match self.unsigned(&value, 0, (LONGEST_US / 1_000_000) as u32) {
                Some(seconds) => {
                    if seconds == 0 {
                        let text = "smtp_conect_timeout must be greater than 0, setting to 1";
                        self.messages.flaw_at(value.at, text);
                    }
                    self.configuration.global.mail.timeout = Duration::from_secs(u64::from(seconds.max(1)));
                }
                None => {
                    let text = format!("smtp_connect_timeout '{}' must be in [0, 4294] - ignoring", value.text);
                    self.messages.flaw_at(value.at, text);
                }
            },
            word @ ("smtp_alert" | "smtp_alert_vrrp" | "smtp_alert_checker") => {
                let text = format!("Invalid value '{}' for global {word} specified", value.text);
                let truth = self.truth(&value, text);
                let slot = match word {
                    "smtp_alert" => &mut self.global_draft.smtp_alert,
                    "smtp_alert_vrrp" => &mut self.global_draft.smtp_alert_vrrp,
                    _ => &mut self.global_draft.smtp_alert_checkers,
                };
                *slot = truth.or(*slot);
            }
            "no_email_faults" => self.configuration.global.mails_no_faults = true,
            "no_checker_emails" => self.global_draft.smtp_alert_checkers = Some(false),
            _ => return false,
        }
        true
    }

    fn read_mail_server(&mut self, node: &Node<'_>) {
        let host = node.word(0);
        let port = if node.words.len() > 1 { self.unsigned(&node.value(1), 1, 65_535) } else { Some(25) };
        let address = port.and_then(|_| host.parse().ok().or_else(|| self.source.address_of_host(host)));
        match (address, port) {
            (Some(address), Some(port)) => self.configuration.global.mail.server = Some((address, port as u16)),
            _ => {
                let port = if node.words.len() > 1 { node.word(1) } else { "25" };
                self.messages.flaw_at(node.at_word(0), format!("Invalid smtp server {host} {port}"));
            }
        }
    }

    /// Says why a value is refused; true, as the keyword was understood.
    pub(super) fn refuse_value(&mut self, value: &Value<'_>, text: String) -> bool {
        self.messages.flaw_at(value.at.clone(), text);
        true
    }

    fn read_vrrp_default(&mut self, node: &Node<'_>) -> bool {
        let value = node.value(0);
        let word = node.name();
        if word.starts_with("vrrp_") {
            let mut given = self.defaults.announcing;
            let is_one = self.announcement(&mut given, node, "vrrp_", "");
            self.defaults.announcing = given;
            if is_one {
                return true;
            }
        }
        match word {
            "vrrp_version" => match self.unsigned(&value, 2, 3) {
                Some(2) => self.defaults.version = Some(Version::V2),
                Some(_) => self.defaults.version = Some(Version::V3),
                None => self.messages.flaw_at(value.at, "VRRP Error: Version must be either 2 or 3"),
            },
            "vrrp_strict" => self.defaults.is_strict = boolean(value.text).unwrap_or(true),
            "vrrp_skip_check_adv_addr" => self.defaults.skips_known_lists = boolean(value.text).unwrap_or(true),
            "vrrp_check_unicast_src" => self.defaults.checks_sender = true,
            "vrrp_garp_interval" | "vrrp_gna_interval" => match self.seconds(&value, 1, LONGEST_US) {
                Some(gap) if word == "vrrp_garp_interval" => self.defaults.arp_gap = gap,
                Some(gap) => self.defaults.neighbour_gap = gap,
                None => self.messages.flaw_at(value.at, format!("{word} '{}' is invalid", value.text)),
            },
            "vrrp_min_garp" | "vrrp_lower_prio_no_advert" | "vrrp_higher_prio_send_advert" => {
                let Some(truth) = self.truth(&value, format!("Invalid value for {word} specified")) else {
                    return true;
                };
                match word {
                    "vrrp_min_garp" => self.defaults.is_minimal = truth,
                    "vrrp_lower_prio_no_advert" => self.defaults.answers_lower = Some(!truth),
                    _ => self.defaults.answers_higher = Some(truth),
                }
            }
            "vrrp_down_timer_adverts" => match self.unsigned(&value, 1, 100) {
                Some(count) => self.defaults.down_adverts = Some(count as u8),
                None => {
                    let text = format!("Invalid vrrp_down_timer_adverts [1:100] '{}'", value.text);
                    self.messages.flaw_at(value.at, text);
                }
            },
            "vrrp_mcast_group4" | "vrrp_mcast_group6" => {
                let is_v4 = word == "vrrp_mcast_group4";
                match value.text.parse::<Address>() {
                    Ok(group) if group.is_v4() == is_v4 && group.is_multicast() => {
                        let slot = if is_v4 { &mut self.defaults.group_v4 } else { &mut self.defaults.group_v6 };
                        *slot = Some(group);
                    }
                    Ok(group) if group.is_v4() == is_v4 => {
                        self.messages.flaw_at(value.at, format!("{word} [{}] is not multicast. Skipping", value.text));
                    }
                    _ => self.messages.flaw_at(value.at, format!("Can't parse {word} [{}]. Skipping", value.text)),
                }
            }
            "vrrp_startup_delay" => match self.seconds(&value, 0, LONGEST_US) {
                Some(delay) => self.configuration.vrrp.startup_delay = delay,
                None => self.messages.flaw_at(value.at, format!("vrrp_startup_delay '{}' is invalid", value.text)),
            },
            "vrrp_notify_priority_changes" => {
                let text = format!("Invalid value '{}' for global {word} specified", value.text);
                self.defaults.tells_priority = self.truth(&value, text).unwrap_or(self.defaults.tells_priority);
            }
            "fifo_write_vrrp_states_on_reload" => self.configuration.vrrp.tells_states_on_reload = true,
            "dynamic_interfaces" => {
                self.configuration.global.interfaces_are_dynamic = true;
                match value.text {
                    "" => {}
                    "allow_if_changes" => self.configuration.global.interfaces_may_change = true,
                    other => {
                        let text = format!("Unknown dynamic_interfaces option '{other}'");
                        self.messages.flaw_at(value.at, text);
                    }
                }
            }
            "log_unknown_vrids" => self.configuration.global.logs_unknown_vrids = true,
            _ => return false,
        }
        true
    }
}
