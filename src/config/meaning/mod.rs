//! What a tree means. One file a kind of block; each says what it refuses in keepalived's words and leaves it out.

mod address;
mod announcing;
mod bfd;
mod check;
mod finish;
mod finish_service;
mod global;
mod global_idle;
mod global_lvs;
mod global_process;
mod groups;
mod http;
mod instance;
mod number;
mod real_server;
mod routes;
mod script;
mod server_group;
mod service;
mod statics;
mod track;
mod watch;
mod way;

use std::collections::BTreeSet;

use crate::base::{Address, Duration, Family};
use crate::config::blocks::{Node, Pass};
use crate::config::message::{Messages, Severity};
use crate::config::model::{Configuration, Identity};
use crate::config::source::Source;
use crate::vrrp::Name;
use crate::wire::vrrp::Version;

/// The user that runs scripts where there is one of this name.
const SCRIPT_USER: &str = "keepalived_script";

/// What is known while a configuration is read.
pub struct Context<'a> {
    /// The machine.
    pub source: &'a dyn Source,
    /// What was said.
    pub messages: &'a mut Messages,
    /// What came of it so far.
    pub configuration: Configuration,
    /// What instances inherit.
    pub defaults: Defaults,
    /// As whom scripts run that say nothing; `None`: there is no such user.
    script_identity: Option<Identity>,
    /// Interfaces that were named and are not there.
    misses_interface: bool,
    /// Scripts of the pass.
    scripts: Scripts,
    /// Names of scripts whose definition was refused.
    refused_scripts: BTreeSet<Name>,
    /// `script_user` was given.
    has_script_user: bool,
    /// What `global_defs` says, not yet held together.
    global_draft: global::GlobalDraft,
    /// Instances whose blocks were read.
    drafts: Vec<instance::Draft>,
    /// Services whose blocks were read.
    service_drafts: Vec<service::ServiceDraft>,
    /// Groups whose blocks were read.
    group_drafts: Vec<groups::GroupDraft>,
}

/// What the scripts of a pass are like.
#[derive(Clone, Copy, Debug, Default)]
struct Scripts {
    is_any: bool,
    is_any_insecure: bool,
}

/// What `global_defs` says for all instances.
#[derive(Clone, Debug, Default)]
pub struct Defaults {
    version: Option<Version>,
    is_strict: bool,
    skips_known_lists: bool,
    checks_sender: bool,
    arp_gap: Duration,
    neighbour_gap: Duration,
    announcing: Announcements,
    is_minimal: bool,
    answers_lower: Option<bool>,
    answers_higher: Option<bool>,
    down_adverts: Option<u8>,
    group_v4: Option<Address>,
    group_v6: Option<Address>,
    tells_priority: bool,
    smtp_alert: bool,
}

/// Settings of announcements that were given.
#[derive(Clone, Copy, Debug, Default)]
pub struct Announcements {
    delay: Option<Duration>,
    repeat: Option<u32>,
    refresh: Option<Duration>,
    refresh_repeat: Option<u32>,
    lower_delay: Option<Duration>,
    lower_repeat: Option<u32>,
    extra_interfaces: Option<Duration>,
}

impl<'a> Context<'a> {
    /// Nothing read yet.
    pub fn new(source: &'a dyn Source, messages: &'a mut Messages) -> Self {
        let mut configuration = Configuration::default();
        configuration.global.router_id = source.host_name();
        configuration.global.mail.timeout = Duration::from_secs(30);
        Self {
            source,
            messages,
            configuration,
            defaults: Defaults::default(),
            script_identity: source.user(SCRIPT_USER).or(Some(Identity::default())),
            misses_interface: false,
            scripts: Scripts::default(),
            refused_scripts: BTreeSet::new(),
            has_script_user: false,
            global_draft: global::GlobalDraft::default(),
            drafts: Vec::new(),
            service_drafts: Vec::new(),
            group_drafts: Vec::new(),
        }
    }

    /// Reads the tree of one pass.
    pub fn read(&mut self, pass: Pass, nodes: &[Node<'_>]) {
        self.scripts = Scripts::default();
        match pass {
            Pass::Global => {
                nodes.iter().for_each(|node| self.read_outside(node));
                self.finish_global();
            }
            Pass::Vrrp => {
                self.read_vrrp(nodes);
                self.finish_vrrp();
            }
            Pass::Checkers => {
                self.read_checkers(nodes);
                self.finish_checkers();
            }
            Pass::Bfd => {}
        }
    }

    fn read_vrrp(&mut self, nodes: &[Node<'_>]) {
        // In order: what is tracked has to stand before what tracks it.
        for node in nodes {
            match node.name() {
                "bfd_instance" => self.read_bfd(node),
                "vrrp_script" => self.read_script(node),
                "vrrp_track_process" => self.read_process(node),
                "track_file" | "vrrp_track_file" => self.read_file(node),
                "garp_group" => self.read_garp_group(node),
                "interface_up_down_delays" => self.read_interface_delays(node),
                "linkbeat_interfaces" => self.read_linkbeat(node),
                "track_group" => self.read_track_group(node),
                "vrrp_instance" => self.read_instance(node),
                "vrrp_sync_group" => self.read_sync_group(node),
                "static_ipaddress" => self.read_static_addresses(node),
                "static_routes" | "static_rules" => self.read_static_routes(node),
                _ => {}
            }
        }
    }

    fn read_checkers(&mut self, nodes: &[Node<'_>]) {
        for node in nodes.iter().filter(|node| node.name() == "virtual_server_group") {
            self.read_server_group(node);
        }
        for node in nodes {
            match node.name() {
                "virtual_server" => self.read_service(node),
                "SSL" => self.read_tls(node),
                _ => {}
            }
        }
    }

    /// Says that scripts run although `enable_script_security` is not there.
    fn say_insecure(&mut self, which: &str) {
        if !self.scripts.is_any || self.configuration.global.is_script_security_on {
            return;
        }
        let more = if self.scripts.is_any_insecure { " There are insecure scripts." } else { "" };
        let text = format!("SECURITY VIOLATION - {which} are being executed but script_security not enabled.{more}");
        let help =
            "write enable_script_security into global_defs: scripts that others than root can change do not run then";
        self.messages.say(Severity::Insecure, None, text, Some(help.to_owned()));
    }

    /// True when an interface is there, or may come.
    fn has_interface(&self, name: &str) -> bool {
        self.source.interface(name).is_some()
    }

    /// Notes that an interface is not there.
    fn miss_interface(&mut self) {
        self.misses_interface = true;
    }
}

/// The word for a truth value.
fn boolean(word: &str) -> Option<bool> {
    match word {
        "on" | "true" | "yes" => Some(true),
        "off" | "false" | "no" => Some(false),
        _ => None,
    }
}

/// A name.
fn name(word: &str) -> Name {
    word.into()
}

/// The longest prefix of a family.
const fn prefix_max(family: Family) -> u8 {
    match family {
        Family::V4 => 32,
        Family::V6 => 128,
    }
}
