//! `vrrp_instance`.

use crate::base::{Duration, Family};
use crate::config::blocks::{Node, Value};
use crate::config::meaning::{Announcements, Context, boolean, name};
use crate::config::model::Notifications;
use crate::vrrp::{InstanceConfig, VirtualAddress};
use crate::wire::vrrp::Version;

/// Octets of a password that count.
const PASSWORD_OCTETS: usize = 8;
/// `advert_int`, microseconds.
const INTERVAL_US: (u64, u64) = (10_000, 255_000_000);
/// `preempt_delay`, at most, microseconds.
const PREEMPT_DELAY_MAX_US: u64 = 1_000_000_000;

/// An instance whose block was read, before what it says is held together.
#[derive(Clone, Debug)]
pub struct Draft {
    /// What it says.
    pub instance: InstanceConfig,
    /// Whom it tells.
    pub notifications: Notifications,
    /// What was not said is not decided yet.
    pub smtp_alert: Option<bool>,
    pub family: Option<Family>,
    pub version: Option<Version>,
    pub state: Option<bool>,
    pub priority: Option<u8>,
    pub interval: Option<Duration>,
    pub authentication: Option<AuthenticationKind>,
    pub password: Vec<u8>,
    pub has_unicast_word: bool,
    pub accepts: Option<bool>,
    pub answers_lower: Option<bool>,
    pub announcing: Announcements,
}

/// `auth_type`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AuthenticationKind {
    Password,
    Header,
}

impl Context<'_> {
    pub(super) fn read_instance(&mut self, node: &Node<'_>) {
        let mut draft = self.draft(node.word(0));
        for child in &node.children {
            let is_known = self.read_identity(&mut draft, child)
                || self.read_addresses(&mut draft, child)
                || self.read_timing(&mut draft, child)
                || self.read_announcing(&mut draft, child)
                || self.read_way(&mut draft, child)
                || self.read_truths(&mut draft, child)
                || self.read_notification(&mut draft, child);
            debug_assert!(is_known, "the table has {}, and nobody reads it", child.name());
        }
        self.drafts.push(draft);
    }

    fn draft(&self, own: &str) -> Draft {
        let mut instance = InstanceConfig::new(own, "", 0, Family::V4);
        let defaults = &self.defaults;
        instance.interface = self.configuration.global.default_interface.clone();
        instance.is_strict = defaults.is_strict;
        instance.skips_known_lists = defaults.skips_known_lists;
        instance.checks_sender = defaults.checks_sender;
        instance.tells_priority = defaults.tells_priority;
        instance.down_adverts = defaults.down_adverts.unwrap_or(instance.down_adverts);
        instance.answers_higher = defaults.answers_higher.unwrap_or(instance.answers_higher);
        Draft {
            instance,
            notifications: Notifications::default(),
            smtp_alert: None,
            family: None,
            version: None,
            state: None,
            priority: None,
            interval: None,
            authentication: None,
            password: Vec::new(),
            has_unicast_word: false,
            accepts: None,
            answers_lower: defaults.answers_lower,
            announcing: Announcements::default(),
        }
    }

    /// Name, number, state, priority, version, secret.
    fn read_identity(&mut self, draft: &mut Draft, node: &Node<'_>) -> bool {
        let own = draft.instance.name.clone();
        let value = node.value(0);
        match node.name() {
            "state" => {
                draft.state = Some(value.text == "MASTER");
                if !matches!(value.text, "MASTER" | "BACKUP") {
                    let text = format!("({own}) unknown state '{}', defaulting to BACKUP", value.text);
                    self.messages.flaw_at(value.at, text);
                }
            }
            "interface" => {
                draft.instance.interface = Some(name(value.text));
                if !self.has_interface(value.text) {
                    let text = format!("WARNING - interface {} for vrrp_instance {own} doesn't exist", value.text);
                    self.messages.flaw_at(value.at, text);
                    self.miss_interface();
                }
            }
            "virtual_router_id" => match self.unsigned(&value, 1, 255) {
                Some(vrid) => draft.instance.vrid = vrid as u8,
                None => {
                    let text = format!("({own}): VRID '{}' not valid - must be between 1 & 255", value.text);
                    self.messages.flaw_at(value.at, text);
                }
            },
            "priority" => match self.unsigned(&value, 1, 255) {
                Some(priority) => draft.priority = Some(priority as u8),
                None => {
                    draft.priority = Some(100);
                    let text = format!("({own}) Priority not valid! must be between 1 & 255. Using default 100");
                    self.messages.flaw_at(value.at, text);
                }
            },
            "version" => self.read_version(draft, &value),
            "authentication" => node.children.iter().for_each(|child| self.read_secret(draft, child)),
            _ => return false,
        }
        true
    }

    fn read_version(&mut self, draft: &mut Draft, value: &Value<'_>) {
        let own = &draft.instance.name;
        let Some(number) = self.unsigned(value, 2, 3) else {
            let text = format!("({own}): Version must be either 2 or 3");
            return self.messages.flaw_at(value.at.clone(), text);
        };
        let version = if number == 2 { Version::V2 } else { Version::V3 };
        let before = match draft.version {
            Some(before) if before != version => Some(if before == Version::V2 { 2 } else { 3 }),
            None if draft.family == Some(Family::V6) && version == Version::V2 => Some(0),
            _ => None,
        };
        match before {
            Some(before) => {
                let text = format!(
                    "({own}) vrrp_version {number} conflicts with configured or deduced version {before}; ignoring."
                );
                self.messages.flaw_at(value.at.clone(), text);
            }
            None => draft.version = Some(version),
        }
    }

    fn read_secret(&mut self, draft: &mut Draft, node: &Node<'_>) {
        let value = node.value(0);
        if node.name() == "auth_pass" {
            draft.password = value.text.bytes().take(PASSWORD_OCTETS).collect();
            if value.text.len() > PASSWORD_OCTETS {
                self.messages.flaw_at(value.at, "Truncating auth_pass to 8 characters");
            }
            return;
        }
        match value.text {
            "PASS" => draft.authentication = Some(AuthenticationKind::Password),
            "AH" => draft.authentication = Some(AuthenticationKind::Header),
            other => {
                let text = format!("({}) unknown authentication type '{other}'", draft.instance.name);
                self.messages.flaw_at(value.at, text);
            }
        }
    }

    /// Virtual addresses, routes, rules, trackers.
    fn read_addresses(&mut self, draft: &mut Draft, node: &Node<'_>) -> bool {
        let own = draft.instance.name.clone();
        match node.name() {
            "virtual_ipaddress" => {
                for entry in &node.entries {
                    let Some(line) = self.address_line(node, entry, false) else { continue };
                    let family = *draft.family.get_or_insert(line.item.address.family());
                    if line.item.address.family() != family {
                        let address = entry.word(0).split('/').next().unwrap_or_default();
                        let text = format!("({own}): address family must match VRRP instance [{address}] - ignoring");
                        self.messages.flaw_at(node.at_entry(entry), text);
                        continue;
                    }
                    draft.instance.addresses.push(line.item);
                }
            }
            "virtual_ipaddress_excluded" => {
                let lines: Vec<VirtualAddress> = node
                    .entries
                    .iter()
                    .filter_map(|entry| self.address_line(node, entry, false))
                    .map(|line| line.item)
                    .collect();
                draft.instance.excluded.extend(lines);
            }
            "virtual_routes" => {
                for entry in &node.entries {
                    let line = self.route_line(node, entry, false);
                    draft.instance.routes.extend(line.map(|line| line.item));
                }
            }
            "virtual_rules" => {
                let lines: Vec<_> = node.entries.iter().map(|entry| self.rule_line(node, entry).item).collect();
                draft.instance.routes.extend(lines);
            }
            "track_interface" | "track_script" | "track_file" | "track_process" | "track_bfd" => {
                self.read_tracks(&own, node, &mut draft.instance.tracks);
            }
            _ => return false,
        }
        true
    }

    fn read_timing(&mut self, draft: &mut Draft, node: &Node<'_>) -> bool {
        let own = draft.instance.name.clone();
        let value = node.value(0);
        match node.name() {
            "advert_int" => {
                draft.interval = self.seconds(&value, INTERVAL_US.0, INTERVAL_US.1).or(draft.interval);
                if draft.interval.is_none() {
                    let text = format!("({own}) Advert interval ({}) not valid! Must be > 0 - ignoring", value.text);
                    self.messages.flaw_at(value.at, text);
                }
            }
            "preempt_delay" => match self.seconds(&value, 0, PREEMPT_DELAY_MAX_US) {
                Some(delay) => draft.instance.preempt_delay = delay,
                None if value.text.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'-')) => {
                    let text = format!("({own}) Preempt_delay not valid! must be between 0-1000");
                    self.messages.flaw_at(value.at, text);
                }
                None => {}
            },
            "down_timer_adverts" => match self.unsigned(&value, 1, 100) {
                Some(count) => draft.instance.down_adverts = count as u8,
                None => {
                    let text = format!("({own}): Invalid down_timer_adverts [1:100] '{}'", value.text);
                    self.messages.flaw_at(value.at, text);
                }
            },
            "kernel_rx_buf_size" => {
                if self.unsigned(&value, 0, u32::MAX).is_none() {
                    self.messages.flaw_at(value.at, format!("({own}) invalid kernel_rx_buf_size specified"));
                }
            }
            "debug" => {
                if self.unsigned(&value, 0, 4).is_none() {
                    let text = format!("({own}) Debug value '{}' not valid; must be between 0-4", value.text);
                    self.messages.flaw_at(value.at, text);
                }
            }
            _ => return false,
        }
        true
    }

    fn read_announcing(&mut self, draft: &mut Draft, node: &Node<'_>) -> bool {
        let own = draft.instance.name.clone();
        self.announcement(&mut draft.announcing, node, "", &format!("({own}): "))
    }

    /// Words that are true by standing there, or have a truth value.
    fn read_truths(&mut self, draft: &mut Draft, node: &Node<'_>) -> bool {
        let own = draft.instance.name.clone();
        let value = node.value(0);
        let word = node.name();
        match word {
            "nopreempt" => draft.instance.preempts = false,
            "preempt" => draft.instance.preempts = true,
            "dont_track_primary" => draft.instance.ignores_interface = true,
            "track_src_ip" => draft.instance.tracks_source = true,
            "unicast_fault_no_peer" => draft.instance.faults_without_peers = true,
            "check_unicast_src" => {
                draft.has_unicast_word = true;
                draft.instance.checks_sender = true;
            }
            "vmac_xmit_base" => draft.instance.sends_from_base = true,
            "accept" => draft.accepts = Some(true),
            "no_accept" => draft.accepts = Some(false),
            "lower_prio_no_advert" | "higher_prio_send_advert" | "strict_mode" | "skip_check_adv_addr" => {
                let Some(is_on) = self.truth(&value, format!("({own}) invalid {word} {} specified", value.text)) else {
                    return true;
                };
                match word {
                    "lower_prio_no_advert" => draft.answers_lower = Some(!is_on),
                    "higher_prio_send_advert" => draft.instance.answers_higher = is_on,
                    "strict_mode" => draft.instance.is_strict = is_on,
                    _ => draft.instance.skips_known_lists = is_on,
                }
            }
            "notify_priority_changes" => {
                let text = format!("({own}) Invalid value '{}' for {word} specified", value.text);
                if let Some(is_on) = self.truth(&value, text) {
                    draft.instance.tells_priority = is_on;
                }
            }
            "smtp_alert" => {
                let text = format!("Invalid vrrp_instance smtp_alert parameter {}", value.text);
                draft.smtp_alert = self.truth(&value, text).or(draft.smtp_alert);
            }
            _ => return false,
        }
        true
    }

    /// A truth value; true when there is no word, and `refused` is said when it is none.
    pub(super) fn truth(&mut self, value: &Value<'_>, refused: String) -> Option<bool> {
        if value.text.is_empty() {
            return Some(true);
        }
        let truth = boolean(value.text);
        if truth.is_none() {
            self.messages.flaw_at(value.at.clone(), refused);
        }
        truth
    }

    fn read_notification(&mut self, draft: &mut Draft, node: &Node<'_>) -> bool {
        let own = format!("({}) ", draft.instance.name);
        if node.name() == "notify_deleted" {
            draft.instance.tells_deleted = true;
            if node.words.is_empty() {
                return true;
            }
        }
        self.notification(&mut draft.notifications, node, &own)
    }

    /// A `notify_…` of an instance or a group.
    pub(super) fn notification(&mut self, notifications: &mut Notifications, node: &Node<'_>, own: &str) -> bool {
        let slot = match node.name() {
            "notify_master" => &mut notifications.master,
            "notify_backup" => &mut notifications.backup,
            "notify_fault" => &mut notifications.fault,
            "notify_stop" => &mut notifications.stop,
            "notify_deleted" => &mut notifications.deleted,
            "notify_master_rx_lower_pri" => &mut notifications.master_rx_lower_pri,
            "notify" => &mut notifications.any,
            _ => return false,
        };
        if slot.is_some() {
            let text = format!("{own}{} script already specified - ignoring {}", node.name(), node.word(0));
            self.messages.flaw_at(node.at(), text);
            return true;
        }
        *slot = self.notify_script(node);
        true
    }
}
