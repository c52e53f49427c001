//! `virtual_server`, `virtual_server_group`, `SSL`.

use std::collections::BTreeSet;

use crate::base::{Address, Duration, Family};
use crate::config::blocks::{Entry, Node, Value};
use crate::config::meaning::number::LONGEST_US;
use crate::config::meaning::{Context, boolean, name};
use crate::config::message::Messages;
use crate::config::model::service::{GroupEntry, ServerGroup, SorryServer, Target};
use crate::config::model::{RealServer, VirtualServer};
use crate::service::{Engine, Method, Protocol, SchedulerFlags, Tunnel, TunnelChecksum};

/// Kernel names of schedulers.
const SCHEDULERS: [&str; 14] =
    ["rr", "wrr", "lc", "wlc", "lblc", "lblcr", "sh", "mh", "dh", "fo", "ovf", "sed", "nq", "twos"];
/// `persistence_timeout` without a number, seconds.
const PERSISTENCE_S: u32 = 360;
/// `persistence_timeout`, at most, seconds.
const PERSISTENCE_MAX_S: u32 = 2_678_400;
/// `delay_loop`, at most, microseconds.
pub const DELAY_LOOP_MAX_US: u64 = u64::MAX - 1;
/// Addresses of a line of a group, at most.
const RANGE_MAX: u32 = 65_536;

/// What real servers and their checkers have that say nothing.
#[derive(Clone, Debug)]
pub struct ServiceDraft {
    /// The service itself.
    pub service: VirtualServer,
    pub protocol: Option<Protocol>,
    pub has_scheduler: bool,
    pub has_method: bool,
    pub sorry_has_method: bool,
    pub weight: i32,
    pub retries: Option<u32>,
    pub delay_before_retry: Option<Duration>,
    pub warmup: Option<Duration>,
}

impl Context<'_> {
    pub(super) fn read_tls(&mut self, node: &Node<'_>) {
        let mut tls = self.configuration.tls.clone();
        tls.is_given = true;
        for child in &node.children {
            let (slot, missing) = match child.name() {
                "password" => (&mut tls.password, "SSL password missing"),
                "ca" => (&mut tls.authority, "SSL cafile missing"),
                "certificate" => (&mut tls.certificate, "SSL certfile missing"),
                _ => (&mut tls.key, "SSL keyfile missing"),
            };
            match child.word(0) {
                "" => self.messages.flaw_at(child.at(), missing),
                value => *slot = Some(name(value)),
            }
        }
        self.configuration.tls = tls;
    }

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
                let host = super::prefix_max(first.family()).checked_sub(prefix.parse().ok()?)?;
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

    /// A port; 0 is every port.
    pub(super) fn port(&mut self, value: &Value<'_>) -> Option<u16> {
        if value.text == "0" {
            return Some(0);
        }
        self.unsigned(value, 1, 65_535).map(|port| port as u16)
    }

    pub(super) fn read_service(&mut self, node: &Node<'_>) {
        let Some((target, family)) = self.target(node) else { return };
        let mut draft = ServiceDraft {
            service: VirtualServer {
                target,
                family,
                protocol: None,
                scheduler: name("wlc"),
                is_hashed: false,
                flags: SchedulerFlags(0),
                is_one_packet: false,
                method: Method::Masquerading,
                tunnel: Tunnel::Ipip,
                persistence_s: 0,
                granularity: None,
                engine: None,
                delay_loop: Duration::from_secs(60),
                sorry: None,
                sorry_inhibits: false,
                quorum: 1,
                hysteresis: 0,
                quorum_up: None,
                quorum_down: None,
                starts_down: false,
                tells_at_stop: false,
                suspends: false,
                inhibits: false,
                virtual_host: None,
                smtp_alert: self.configuration.global.smtp_alert_checkers.unwrap_or(false),
                connect_timeout: Duration::from_secs(5),
                snmp_name: None,
                servers: Vec::new(),
            },
            protocol: None,
            has_scheduler: false,
            has_method: false,
            sorry_has_method: false,
            weight: 1,
            retries: None,
            delay_before_retry: None,
            warmup: None,
        };
        for child in &node.children {
            let is_known = child.name() == "real_server"
                || self.read_scheduling(&mut draft, child)
                || self.read_way_of_service(&mut draft, child)
                || self.read_times(&mut draft, child)
                || self.read_quorum(&mut draft, child)
                || self.read_flags(&mut draft, child);
            debug_assert!(is_known, "the table has {}, and nobody reads it", child.name());
        }
        for child in node.children.iter().filter(|child| child.name() == "real_server") {
            let server = self.read_real_server(&draft, child);
            draft.service.servers.extend(server);
        }
        let family = draft.service.family;
        if let Some(sorry) = draft.service.sorry.take_if(|sorry| sorry.address.family() != family) {
            let text = format!(
                "Address family of virtual server and sorry server {} don't match - skipping sorry server.",
                sorry.address
            );
            self.messages.flaw_at(node.at_end(), text);
        }
        self.service_drafts.push(draft);
    }

    /// What the words after `virtual_server` name.
    fn target(&mut self, node: &Node<'_>) -> Option<(Target, Family)> {
        match node.word(0) {
            "fwmark" => {
                let value = node.value(1);
                let mark = self.unsigned(&value, 0, u32::MAX);
                if mark.is_none() {
                    let text =
                        format!("virtual server fwmark '{}' must be in [0, {}] - ignoring", value.text, u32::MAX);
                    self.messages.flaw_at(value.at, text);
                }
                mark.map(|mark| (Target::Mark(mark), Family::V4))
            }
            "group" => {
                let wanted = node.word(1);
                let group = self.configuration.server_groups.iter().find(|group| &*group.name == wanted);
                let Some(group) = group else {
                    let help = format!("there is no virtual_server_group {wanted}: the service is left out");
                    self.messages.hint_at(node.at_word(1), help);
                    return None;
                };
                let family = match group.entries.first() {
                    Some(GroupEntry::Addresses { first, .. }) => first.family(),
                    Some(GroupEntry::Mark(family, _)) => *family,
                    None => Family::V4,
                };
                Some((Target::Group(group.name.clone()), family))
            }
            text => {
                let address = text.split(['-', '/']).next().unwrap_or_default().parse::<Address>();
                let port = if node.words.len() > 1 { self.port(&node.value(1)) } else { Some(0) };
                if let (Ok(address), Some(port)) = (&address, port) {
                    if text.contains(['-', '/']) {
                        let help =
                            format!("only {address} is served: addresses in a row belong into virtual_server_group");
                        self.messages.hint_at(node.at_word(0), help);
                    }
                    return Some((Target::Endpoint(*address, port), address.family()));
                }
                let text = match node.words.len() {
                    1 => format!("Invalid virtual server IP address {text} - skipping"),
                    _ => format!("Invalid virtual server IP address/port {text}/{} - skipping", node.word(1)),
                };
                self.messages.flaw_at(node.at_word(0), text);
                None
            }
        }
    }

    fn read_scheduling(&mut self, draft: &mut ServiceDraft, node: &Node<'_>) -> bool {
        let value = node.value(0);
        let service = &mut draft.service;
        match node.name() {
            "lb_algo" | "lvs_sched" if SCHEDULERS.contains(&value.text) => {
                service.scheduler = name(value.text);
                draft.has_scheduler = true;
            }
            "lb_algo" | "lvs_sched" => {
                // Known, so that nothing is said of a scheduler that is missing: keepalived's wlc.
                let text = format!("Invalid lvs_scheduler '{}' - ignoring", value.text);
                draft.has_scheduler = true;
                self.messages.flaw_at(value.at, text);
            }
            "flag-1" => service.flags.0 |= SchedulerFlags::FLAG_1,
            "flag-2" => service.flags.0 |= SchedulerFlags::FLAG_2,
            "flag-3" => service.flags.0 |= SchedulerFlags::FLAG_3,
            word @ ("sh-port" | "sh-fallback" | "mh-port" | "mh-fallback" | "hashed") => {
                let wanted = if word == "hashed" { "sh" } else { &word[..2] };
                if &*service.scheduler != wanted || !draft.has_scheduler {
                    let text = format!("{word} only applies to sh scheduler - ignoring");
                    self.messages.flaw_at(node.at(), text);
                    return true;
                }
                match word {
                    "hashed" => service.is_hashed = true,
                    _ if word.ends_with("port") => service.flags.0 |= SchedulerFlags::FLAG_2,
                    _ => service.flags.0 |= SchedulerFlags::FLAG_1,
                }
            }
            "ops" => service.is_one_packet = true,
            "persistence_timeout" if node.words.is_empty() => service.persistence_s = PERSISTENCE_S,
            "persistence_timeout" => match self.unsigned(&value, 1, PERSISTENCE_MAX_S) {
                Some(seconds) => service.persistence_s = seconds,
                None => self.messages.flaw_at(value.at, "persistence_timeout invalid"),
            },
            "persistence_granularity" => {
                service.granularity = match service.family {
                    Family::V4 => ipv4_number(value.text),
                    Family::V6 => value.text.parse().ok().filter(|length| (1..=128).contains(length)),
                };
                if service.granularity.is_none() {
                    let family = if service.family == Family::V4 { "IPv4" } else { "IPv6" };
                    let text = format!("Invalid {family} persistence_granularity specified - {}", value.text);
                    self.messages.flaw_at(value.at, text);
                }
            }
            "persistence_engine" => {
                service.engine = Engine::by_name(value.text);
                if service.engine.is_none() {
                    let help = format!("there is no persistence engine {}: the service has none", value.text);
                    self.messages.hint_at(value.at, help);
                }
            }
            _ => return false,
        }
        true
    }

    fn read_way_of_service(&mut self, draft: &mut ServiceDraft, node: &Node<'_>) -> bool {
        let value = node.value(0);
        match node.name() {
            "lb_kind" | "lvs_method" => {
                let found = self.method(node, "virtual server");
                draft.has_method = true;
                if let Some((method, tunnel)) = found {
                    (draft.service.method, draft.service.tunnel) = (method, tunnel);
                }
            }
            "protocol" => match value.text {
                "TCP" => draft.protocol = Some(Protocol::Tcp),
                "UDP" => draft.protocol = Some(Protocol::Udp),
                "SCTP" => draft.protocol = Some(Protocol::Sctp),
                other => self.messages.flaw_at(value.at, format!("Unknown protocol {other} - ignoring")),
            },
            "ip_family" => {
                let family = match value.text {
                    "inet" => Family::V4,
                    "inet6" => Family::V6,
                    other => {
                        self.messages.flaw_at(value.at, format!("unknown address family {other}"));
                        return true;
                    }
                };
                if matches!(draft.service.target, Target::Mark(_)) {
                    draft.service.family = family;
                } else if draft.service.family != family {
                    let text = format!("Virtual server specified family {} conflicts with server family", value.text);
                    self.messages.flaw_at(value.at, text);
                }
            }
            "sorry_server" => {
                let port = if node.words.len() > 1 { self.port(&node.value(1)) } else { Some(0) };
                match (value.text.parse::<Address>(), port) {
                    (Ok(address), Some(port)) => {
                        let (method, tunnel) = (draft.service.method, draft.service.tunnel);
                        draft.service.sorry = Some(SorryServer { address, port, method, tunnel });
                        draft.sorry_has_method = false;
                    }
                    _ => {
                        let text = format!("Invalid sorry server IP address {} - skipping", value.text);
                        self.messages.flaw_at(value.at, text);
                    }
                }
            }
            "sorry_server_inhibit" if draft.service.sorry.is_some() => draft.service.sorry_inhibits = true,
            "sorry_server_inhibit" => {
                self.messages.flaw_at(node.at(), "Ignoring sorry_server inhibit used before or without sorry_server");
            }
            "sorry_server_lvs_method" if draft.service.sorry.is_none() => {
                self.messages.flaw_at(node.at(), "sorry_server forwarding used without sorry_server");
            }
            "sorry_server_lvs_method" => {
                if let (Some((method, tunnel)), Some(sorry)) =
                    (self.method(node, "sorry server"), draft.service.sorry.as_mut())
                {
                    (sorry.method, sorry.tunnel) = (method, tunnel);
                    draft.sorry_has_method = true;
                }
            }
            _ => return false,
        }
        true
    }

    /// `NAT`, `DR` or `TUN`, with the options of tunnels. `whose` is said where it is none.
    pub(super) fn method(&mut self, node: &Node<'_>, whose: &str) -> Option<(Method, Tunnel)> {
        let value = node.value(0);
        let method = match value.text {
            "NAT" => Method::Masquerading,
            "DR" => Method::DirectRouting,
            "TUN" => Method::Tunnelling,
            other => {
                let text = format!("PARSER : unknown [{other}] routing method for {whose}.");
                self.messages.flaw_at(value.at, text);
                return None;
            }
        };
        let mut kind = "ipip";
        let mut port = None;
        let mut checksum = TunnelChecksum::None;
        let mut index = 1;
        while index < node.words.len() {
            let word = node.value(index);
            let next = node.value(index + 1);
            index += 1;
            match word.text {
                "type" if method == Method::Tunnelling => {
                    index += 1;
                    match next.text {
                        "ipip" => kind = "ipip",
                        "gue" => kind = "gue",
                        "gre" => kind = "gre",
                        other => {
                            self.messages.flaw_at(next.at, format!("Unknown tunnel type {other} for {whose}."));
                            return Some((method, Tunnel::Ipip));
                        }
                    }
                }
                "port" if method == Method::Tunnelling => {
                    index += 1;
                    port = self.unsigned(&next, 1, 65_535).map(|port| port as u16);
                    if port.is_none() {
                        self.messages.flaw_at(next.at, format!("Invalid gue tunnel port {} for {whose}.", next.text));
                        return Some((method, Tunnel::Ipip));
                    }
                }
                "nocsum" if method == Method::Tunnelling => checksum = TunnelChecksum::None,
                "csum" if method == Method::Tunnelling => checksum = TunnelChecksum::Full,
                "remcsum" if method == Method::Tunnelling => checksum = TunnelChecksum::Remote,
                other => {
                    self.messages.flaw_at(word.at, format!("Invalid tunnel option {other} for {whose}."));
                    return Some((method, Tunnel::Ipip));
                }
            }
        }
        if (kind == "gue") != port.is_some() {
            self.messages.flaw_at(node.at(), "gue tunnels require port, otherwise cannot have port.");
            return Some((method, Tunnel::Ipip));
        }
        let tunnel = match (kind, port) {
            ("gue", Some(port)) => Tunnel::Gue { port, checksum },
            ("gre", _) => Tunnel::Gre { checksum: checksum == TunnelChecksum::Full },
            _ => Tunnel::Ipip,
        };
        Some((method, tunnel))
    }

    fn read_times(&mut self, draft: &mut ServiceDraft, node: &Node<'_>) -> bool {
        let value = node.value(0);
        match node.name() {
            "delay_loop" => match self.seconds(&value, 1, DELAY_LOOP_MAX_US) {
                Some(delay) => draft.service.delay_loop = delay,
                None => {
                    let text = format!("virtual server delay loop '{}' invalid - ignoring", value.text);
                    self.messages.flaw_at(value.at, text);
                }
            },
            "connect_timeout" => match self.seconds(&value, 1, LONGEST_US) {
                Some(timeout) => draft.service.connect_timeout = timeout,
                None => {
                    let text = format!("virtual server connect_timeout {} invalid - ignoring", value.text);
                    self.messages.flaw_at(value.at, text);
                }
            },
            "retry" => match self.unsigned(&value, 1, u32::MAX) {
                Some(retries) => draft.retries = Some(retries),
                None => self.messages.flaw_at(value.at, format!("retry value invalid - {}", value.text)),
            },
            "delay_before_retry" => {
                draft.delay_before_retry = self.seconds(&value, 0, LONGEST_US).or(draft.delay_before_retry);
            }
            "warmup" => draft.warmup = self.seconds(&value, 0, LONGEST_US).or(draft.warmup),
            "weight" => match self.unsigned(&value, 1, i32::MAX as u32) {
                Some(weight) => draft.weight = weight as i32,
                None => {
                    let text = format!("Virtual server weight {} is outside range 1-{}", value.text, i32::MAX);
                    self.messages.flaw_at(value.at, text);
                }
            },
            _ => return false,
        }
        true
    }

    fn read_quorum(&mut self, draft: &mut ServiceDraft, node: &Node<'_>) -> bool {
        let value = node.value(0);
        match node.name() {
            "quorum" => {
                let quorum = self.unsigned(&value, 1, u32::MAX);
                draft.service.quorum = quorum.unwrap_or(1);
                if quorum.is_none() {
                    let text = format!("Quorum {} must be in [1, {}]. Setting to 1.", value.text, u32::MAX);
                    self.messages.flaw_at(value.at, text);
                }
            }
            "hysteresis" => match self.unsigned(&value, 0, u32::MAX) {
                Some(hysteresis) => draft.service.hysteresis = hysteresis,
                None => {
                    let text = format!("Hysteresis {} must be in [0, {}] - ignoring", value.text, u32::MAX);
                    self.messages.flaw_at(value.at, text);
                }
            },
            "quorum_up" => self.script_once(node, &mut draft.service.quorum_up),
            "quorum_down" => self.script_once(node, &mut draft.service.quorum_down),
            _ => return false,
        }
        true
    }

    /// A script of a service or a server; a second one is refused. keepalived has no name for the owner there.
    pub(super) fn script_once(&mut self, node: &Node<'_>, slot: &mut Option<crate::config::model::Script>) {
        if slot.is_some() {
            let text = format!("((null)) {} script already specified - ignoring {}", node.name(), node.word(0));
            return self.messages.flaw_at(node.at(), text);
        }
        *slot = self.notify_script(node);
    }

    fn read_flags(&mut self, draft: &mut ServiceDraft, node: &Node<'_>) -> bool {
        let value = node.value(0);
        let service = &mut draft.service;
        match node.name() {
            "alpha" => service.starts_down = boolean(value.text).unwrap_or(true),
            "omega" => service.tells_at_stop = true,
            "ha_suspend" => service.suspends = true,
            "inhibit_on_failure" => service.inhibits = boolean(value.text).unwrap_or(true),
            "virtualhost" if value.text.is_empty() => {
                self.messages.flaw_at(value.at, "virtual server virtualhost missing");
            }
            "virtualhost" => service.virtual_host = Some(name(value.text)),
            "snmp_name" => service.snmp_name = Some(name(value.text)),
            "smtp_alert" => {
                let text = format!("Invalid virtual_server smtp_alert parameter {}", value.text);
                if let Some(truth) = self.truth(&value, text) {
                    draft.service.smtp_alert = truth;
                }
            }
            _ => return false,
        }
        true
    }

    pub(super) fn finish_checkers(&mut self) {
        for mut draft in std::mem::take(&mut self.service_drafts) {
            if draft.service.servers.is_empty() {
                self.messages.flaw(format!("Virtual server {} has no real servers - ignoring", label(&draft)));
                continue;
            }
            let kind = self.kind_of(&draft.service.target);
            complete(&mut draft, kind, self.messages);
            self.configuration.virtual_servers.push(draft.service);
        }
        self.say_insecure("check scripts");
    }

    fn kind_of(&self, target: &Target) -> Kind {
        let wanted = match target {
            Target::Mark(_) => return Kind { is_mark: true, has_no_port: false },
            Target::Endpoint(_, port) => return Kind { is_mark: false, has_no_port: *port == 0 },
            Target::Group(wanted) => wanted,
        };
        let group = self.configuration.server_groups.iter().find(|group| group.name == *wanted);
        let entries = group.map(|group| group.entries.as_slice()).unwrap_or_default();
        Kind {
            is_mark: entries.iter().all(|entry| matches!(entry, GroupEntry::Mark(..))),
            has_no_port: entries.iter().any(|entry| matches!(entry, GroupEntry::Addresses { port: 0, .. })),
        }
    }
}

/// What a service is called in messages.
fn label(draft: &ServiceDraft) -> String {
    match &draft.service.target {
        Target::Endpoint(address, port) => endpoint_label(*address, draft.protocol, *port),
        Target::Mark(mark) => format!("FWM {mark}"),
        Target::Group(name) => format!("[{name}]:0"),
    }
}

/// What an endpoint is called in messages.
pub fn endpoint_label(address: Address, protocol: Option<Protocol>, port: u16) -> String {
    let protocol = match protocol {
        Some(Protocol::Tcp) => "tcp",
        Some(Protocol::Udp) => "udp",
        Some(Protocol::Sctp) => "sctp",
        None => "none",
    };
    format!("[{address}]:{protocol}:{port}")
}

/// What is said of a service depends on what it serves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Kind {
    /// Marks alone.
    is_mark: bool,
    /// Any address without a port.
    has_no_port: bool,
}

fn complete(draft: &mut ServiceDraft, kind: Kind, messages: &mut Messages) {
    let Kind { is_mark, has_no_port } = kind;
    if is_mark && draft.protocol.is_some() {
        messages.flaw(format!(
            "Warning: Virtual server {}: protocol specified for fwmark - protocol will be ignored",
            label(draft)
        ));
        draft.protocol = None;
    } else if !is_mark && draft.protocol.is_none() {
        messages.flaw(format!("Virtual server {}: no protocol set - defaulting to UDP", label(draft)));
        draft.protocol = Some(Protocol::Udp);
    }
    let about = label(draft);
    if !draft.has_scheduler {
        messages.flaw(format!("Virtual server {about}: no scheduler set, setting default 'wlc'"));
    }
    if !draft.has_method {
        messages.flaw(format!("Virtual server {about}: no forwarding method set, setting default NAT"));
    }
    let service = &mut draft.service;
    service.protocol = draft.protocol;
    if has_no_port && service.persistence_s == 0 {
        messages.flaw(format!("Virtual server {about}: zero port only valid for persistent services - setting"));
        service.persistence_s = PERSISTENCE_S;
    }
    if service.is_one_packet && service.protocol.is_some_and(|protocol| protocol != Protocol::Udp) {
        messages.flaw(format!("Virtual server {about}: one packet scheduling requires UDP - resetting"));
        service.is_one_packet = false;
    }
    complete_servers(service, &about, messages);
    if let (Some(sorry), false) = (&mut service.sorry, draft.sorry_has_method) {
        (sorry.method, sorry.tunnel) = (service.method, service.tunnel);
    }
    let weights: u64 = service.servers.iter().map(|server| u64::from(server.weight.unsigned_abs())).sum();
    let weights = u32::try_from(weights).unwrap_or(u32::MAX);
    if service.quorum > weights {
        messages.flaw(format!(
            "Warning - quorum {} for {about} exceeds total weight of real servers {weights}, reducing quorum to {weights}",
            service.quorum
        ));
        service.quorum = weights;
    }
    if service.hysteresis >= service.quorum && service.hysteresis > 0 {
        let reduced = service.quorum.saturating_sub(1);
        messages.flaw(format!(
            "Virtual server {about}: hysteresis {} >= quorum {}; setting hysteresis to {reduced}",
            service.hysteresis, service.quorum
        ));
        service.hysteresis = reduced;
    }
}

/// Ports that cannot be translated, servers that are there twice.
fn complete_servers(service: &mut VirtualServer, about: &str, messages: &mut Messages) {
    let protocol = service.protocol;
    let own_port = match &service.target {
        Target::Endpoint(_, port) => Some(*port),
        _ => None,
    };
    let mut seen = BTreeSet::new();
    service.servers.retain_mut(|server: &mut RealServer| {
        let endpoint = endpoint_label(server.address, protocol, server.port);
        if !seen.insert((server.address, server.port)) {
            messages.flaw(format!("VS {about}: real server {endpoint} is duplicated - removing second rs"));
            return false;
        }
        if let (Some(port), false) = (own_port, server.method == Method::Masquerading)
            && port != server.port
        {
            messages.flaw(format!(
                "WARNING - virtual server {about} and real server {endpoint} ports don't match - resetting"
            ));
            server.port = port;
        }
        true
    });
}

/// An IPv4 address or a number, as `inet_aton(3)` takes it.
fn ipv4_number(text: &str) -> Option<u32> {
    match text.parse::<Address>() {
        Ok(address) if address.is_v4() => Some(address.low_u32()),
        _ => text.parse().ok(),
    }
}
