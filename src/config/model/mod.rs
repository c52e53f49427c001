//! What a keepalived.conf says, as plain data: every default filled in, every name resolved.
//!
//! Not here: instances and sync groups, which are [`crate::vrrp::Config`].

pub mod check;
pub mod global;
pub mod script;
pub mod service;
pub mod statics;
pub mod track;

pub use check::{Check, CheckKind, Connection};
pub use global::{Fifo, Global, Mail, ProcessSettings, SyncDaemon};
pub use script::{Identity, Notifications, Script};
pub use service::{RealServer, ServerGroup, VirtualServer};
pub use statics::Statics;
pub use track::{BfdInstance, TrackFile, TrackProcess, TrackScript};

use std::collections::BTreeMap;

use crate::vrrp::{self, Name};

/// A whole configuration.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Configuration {
    /// `global_defs` and what stands outside blocks.
    pub global: Global,
    /// Instances and sync groups, not yet settled ([`vrrp::Config::settle`]).
    pub vrrp: vrrp::Config,
    /// Notifications of each instance that has any wish of its own; the others have the default.
    pub instance_notifications: BTreeMap<Name, Notifications>,
    /// The same of sync groups.
    pub group_notifications: BTreeMap<Name, Notifications>,
    /// `vrrp_script`: those that are usable.
    pub scripts: Vec<TrackScript>,
    /// `track_file`, `vrrp_track_file`.
    pub files: Vec<TrackFile>,
    /// `vrrp_track_process`.
    pub processes: Vec<TrackProcess>,
    /// `bfd_instance`.
    pub bfd_instances: Vec<BfdInstance>,
    /// Addresses, routes and rules that are there as long as the daemon is.
    pub statics: Statics,
    /// `virtual_server`: those that are usable.
    pub virtual_servers: Vec<VirtualServer>,
    /// `virtual_server_group`.
    pub server_groups: Vec<ServerGroup>,
    /// `SSL`: who we are to TLS servers that are checked.
    pub tls: service::TlsClient,
}

impl Configuration {
    /// The notifications of an instance.
    pub fn notifications_of_instance(&self, name: &str) -> Option<&Notifications> {
        self.instance_notifications.get(name)
    }

    /// The notifications of a sync group.
    pub fn notifications_of_group(&self, name: &str) -> Option<&Notifications> {
        self.group_notifications.get(name)
    }

    /// The definition of a tracked script.
    pub fn script(&self, name: &str) -> Option<&TrackScript> {
        self.scripts.iter().find(|script| &*script.name == name)
    }
}
