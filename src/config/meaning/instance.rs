//! `vrrp_instance`.

use crate::base::{Address, Duration, Family, MacAddress};
use crate::config::blocks::{Node, Value};
use crate::config::meaning::{Announcements, Context, boolean, name};
use crate::config::model::{Notifications, SyncDaemon};
use crate::vrrp::{InstanceConfig, OldChecksum, Peer, VirtualAddress};
use crate::wire::vrrp::Version;

/// Octets of a password that count.
const PASSWORD_OCTETS: usize = 8;
/// Octets of an interface's name (`IFNAMSIZ`, without its end).
pub const INTERFACE_OCTETS_MAX: usize = 15;
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

    /// Where advertisements go and come from.
    fn read_way(&mut self, draft: &mut Draft, node: &Node<'_>) -> bool {
        let own = draft.instance.name.clone();
        let value = node.value(0);
        match node.name() {
            word @ ("unicast_src_ip" | "mcast_src_ip") => {
                draft.has_unicast_word |= word == "unicast_src_ip";
                let about = format!("Configuration error: VRRP instance[{own}]");
                if let Some(address) = self.own_address(draft, &value, &about, "src address") {
                    draft.instance.source = Some(address);
                }
            }
            "mcast_dst_ip" => match value.text.parse::<Address>() {
                Err(_) => {
                    let text = format!("({own}) malformed mcast dest address {}. Skipping...", value.text);
                    self.messages.flaw_at(value.at, text);
                }
                Ok(address) if !address.is_multicast() => {
                    let text = format!("({own}) mcast_dst_ip {address} not multicast. Skipping...");
                    self.messages.flaw_at(value.at, text);
                }
                Ok(address) => draft.instance.group = Some(address),
            },
            "unicast_peer" => {
                draft.has_unicast_word = true;
                self.read_peers(draft, node);
            }
            "unicast_ttl" => match self.unsigned(&value, 0, 255) {
                Some(limit) => draft.instance.unicast_hop_limit = limit as u8,
                None => {
                    let text = format!("({own}): TTL '{}' not valid - must be between 0 & 255", value.text);
                    self.messages.flaw_at(value.at, text);
                }
            },
            "old_unicast_checksum" => {
                draft.has_unicast_word = true;
                match value.text {
                    "" => draft.instance.old_checksum = OldChecksum::Always,
                    "never" => draft.instance.old_checksum = OldChecksum::Never,
                    other => {
                        let text = format!("({own}) Unknown old_unicast_chksum mode {other} - ignoring");
                        self.messages.flaw_at(value.at, text);
                    }
                }
            }
            "native_ipv6" => match draft.family {
                Some(Family::V4) => {
                    let text = format!("({own}) Cannot specify native_ipv6 with IPv4 addresses");
                    self.messages.flaw_at(node.at(), text);
                }
                _ => draft.family = Some(Family::V6),
            },
            "use_vmac" => self.read_virtual_mac(draft, node),
            "vrf" if draft.instance.interface.is_some() => {
                let text = format!("({own}) Cannot specify VRF interface and interface - ignoring");
                self.messages.flaw_at(node.at(), text);
            }
            "vrf" | "use_ipvlan" | "use_vmac_addr" | "promote_secondaries" => {}
            "linkbeat_use_polling" => {
                let text = format!(
                    "({own}) 'linkbeat_use_polling' in vrrp instance deprecated - use linkbeat_interfaces block"
                );
                self.messages.flaw_at(node.at(), text);
            }
            "lvs_sync_daemon_interface" => {
                let text = format!("({own}) Specifying lvs_sync_daemon_interface against a vrrp is deprecated.");
                self.messages.flaw_at(node.at(), text);
                self.messages.flaw_at(node.at(), "       Please use global lvs_sync_daemon");
                self.configuration.global.sync_daemon.get_or_insert(SyncDaemon {
                    interface: name(value.text),
                    instance: Some(own),
                    id: None,
                    length_max: 0,
                    port: 0,
                    hop_limit: 0,
                    group: None,
                });
            }
            _ => return false,
        }
        true
    }

    /// An address that has to be of the instance's family; the first one says which that is.
    fn own_address(&mut self, draft: &mut Draft, value: &Value<'_>, about: &str, what: &str) -> Option<Address> {
        let Ok(address) = value.text.parse::<Address>() else {
            let text = format!("{about} malformed {what}[{}]. Skipping...", value.text);
            self.messages.flaw_at(value.at.clone(), text);
            return None;
        };
        if *draft.family.get_or_insert(address.family()) != address.family() {
            let text = format!("{about} and {what}[{}] MUST be of the same family !!! Skipping...", value.text);
            self.messages.flaw_at(value.at.clone(), text);
            return None;
        }
        Some(address)
    }

    fn read_peers(&mut self, draft: &mut Draft, node: &Node<'_>) {
        let own = draft.instance.name.clone();
        for entry in &node.entries {
            let first = node.entry_value(entry, 0);
            let about = format!("Configuration error: VRRP instance[{own}]");
            let Some(address) = self.own_address(draft, &first, &about, "unicast peer address") else { continue };
            let mut peer = Peer::new(address);
            let mut index = 1;
            while index < entry.words.len() {
                let word = node.entry_value(entry, index);
                if index + 1 >= entry.words.len() {
                    self.messages.flaw_at(word.at, format!("({own}) {} is missing a value", word.text));
                    break;
                }
                let value = node.entry_value(entry, index + 1);
                index += 2;
                match word.text {
                    "min_ttl" | "max_ttl" => {
                        let Some(limit) = self.unsigned(&value, 0, 255) else { continue };
                        let slot =
                            if word.text == "min_ttl" { &mut peer.hop_limit_min } else { &mut peer.hop_limit_max };
                        *slot = limit as u8;
                    }
                    other => {
                        let text = format!("({own}) unknown unicast_peer option {other} - ignoring");
                        self.messages.flaw_at(word.at, text);
                    }
                }
            }
            draft.instance.peers.push(peer);
        }
    }

    fn read_virtual_mac(&mut self, draft: &mut Draft, node: &Node<'_>) {
        let own = draft.instance.name.clone();
        draft.instance.has_virtual_mac = true;
        let mut is_named = false;
        for index in 0..node.words.len() {
            let value = node.value(index);
            if let Ok(mac) = value.text.parse::<MacAddress>() {
                let octets = mac.0;
                if octets[..4] == [0, 0, 0x5e, 0] && matches!(octets[4], 1 | 2) {
                    let text =
                        format!("VMAC MAC address not allowed to be RFC5798 address ({}) - ignoring", value.text);
                    self.messages.flaw_at(value.at, text);
                } else {
                    draft.instance.wished_mac = Some(mac);
                }
            } else if is_named {
                self.messages.flaw_at(value.at, "VMAC interface name already specified");
            } else if value.text.len() > INTERFACE_OCTETS_MAX || value.text.contains('/') {
                let text = format!("VMAC interface name '{}' too long or invalid characters - ignoring", value.text);
                self.messages.flaw_at(value.at, text);
            } else if self.has_interface(value.text) {
                let text = format!(
                    "({own}) interface {} already exists and is not a private macvlan; ignoring vmac if_name",
                    value.text
                );
                self.messages.flaw_at(value.at, text);
            } else {
                is_named = true;
            }
        }
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

fn set<T>(slot: &mut Option<T>, value: T) -> bool {
    *slot = Some(value);
    true
}
