//! `global_defs`, and what stands outside every block.

use crate::base::{Address, Duration};
use crate::config::blocks::{Effect, Node, Value};
use crate::config::meaning::number::LONGEST_US;
use crate::config::meaning::{Context, boolean, name};
use crate::config::model::global::{Fifo, FlushOnStop, ProcessSettings, SyncDaemon};
use crate::config::model::{Identity, Script};
use crate::wire::vrrp::Version;

/// How long a startup or shutdown script may run.
const SCRIPT_TIMEOUT: Duration = Duration::from_secs(10);
/// Octets of UDP payload of a sync datagram, at most.
const SYNC_OCTETS_MAX: u32 = 65_507;

/// What is decided when the block was read.
#[derive(Clone, Debug, Default)]
pub struct GlobalDraft {
    fifo_readers: [Option<Script>; 3],
    timeouts: [Option<Duration>; 2],
    smtp_alert: Option<bool>,
    smtp_alert_vrrp: Option<bool>,
    smtp_alert_checkers: Option<bool>,
    fifo_scripts: Vec<usize>,
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

    fn read_lvs(&mut self, node: &Node<'_>) -> bool {
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

    /// Says why a value is refused; true, as the keyword was understood.
    fn refuse_value(&mut self, value: &Value<'_>, text: String) -> bool {
        self.messages.flaw_at(value.at.clone(), text);
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

    fn read_fifo(&mut self, node: &Node<'_>) -> bool {
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

    fn read_process_setting(&mut self, node: &Node<'_>) -> bool {
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

    fn read_startup(&mut self, node: &Node<'_>) -> bool {
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

    /// Keywords without effect whose values are looked at nevertheless.
    fn read_idle(&mut self, node: &Node<'_>) -> bool {
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
    fn read_truth(&mut self, node: &Node<'_>, word: &str) -> bool {
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
