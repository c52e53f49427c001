//! `virtual_server`, `virtual_server_group`, `SSL`.

use crate::base::{Address, Duration, Family};
use crate::config::blocks::{Node, Value};
use crate::config::meaning::number::LONGEST_US;
use crate::config::meaning::{Context, boolean, name};
use crate::config::model::VirtualServer;
use crate::config::model::service::{GroupEntry, SorryServer, Target};
use crate::service::{Engine, Method, Protocol, SchedulerFlags, Tunnel, TunnelChecksum};

/// Kernel names of schedulers.
const SCHEDULERS: [&str; 14] =
    ["rr", "wrr", "lc", "wlc", "lblc", "lblcr", "sh", "mh", "dh", "fo", "ovf", "sed", "nq", "twos"];
/// `persistence_timeout` without a number, seconds.
pub const PERSISTENCE_S: u32 = 360;
/// `persistence_timeout`, at most, seconds.
const PERSISTENCE_MAX_S: u32 = 2_678_400;
/// `delay_loop`, at most, microseconds.
pub const DELAY_LOOP_MAX_US: u64 = u64::MAX - 1;

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
}

/// An IPv4 address or a number, as `inet_aton(3)` takes it.
fn ipv4_number(text: &str) -> Option<u32> {
    match text.parse::<Address>() {
        Ok(address) if address.is_v4() => Some(address.low_u32()),
        _ => text.parse().ok(),
    }
}
