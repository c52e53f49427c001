//! `global_defs`, and the few keywords outside every block. What instances inherit is merged into them already.

use crate::base::{Address, Duration};
use crate::config::model::{Identity, Script};
use crate::vrrp::Name;

/// What holds for the whole daemon.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Global {
    /// `router_id`; else the machine's name.
    pub router_id: String,
    /// Where mails go.
    pub mail: Mail,
    /// `smtp_alert_checker`, and `smtp_alert`: what real servers and services have that say nothing.
    pub smtp_alert_checkers: Option<bool>,
    /// `no_email_faults`: no mail for FAULT.
    pub mails_no_faults: bool,
    /// `checker_log_all_failures`.
    pub logs_all_failures: bool,
    /// `default_interface`; else `eth0`.
    pub default_interface: Option<Name>,
    /// `lvs_sync_daemon`.
    pub sync_daemon: Option<SyncDaemon>,
    /// `lvs_timeouts`, seconds; 0 keeps a value.
    pub timeouts: Timeouts,
    /// `lvs_flush`: the table is emptied at start.
    pub flushes: bool,
    /// `lvs_flush_on_stop`.
    pub flush_on_stop: FlushOnStop,
    /// `notify_fifo`: everything is told here.
    pub fifo: Option<Fifo>,
    /// `vrrp_notify_fifo`.
    pub vrrp_fifo: Option<Fifo>,
    /// `lvs_notify_fifo`.
    pub lvs_fifo: Option<Fifo>,
    /// `startup_script`, and how long it may run.
    pub startup: Option<(Script, Duration)>,
    /// `shutdown_script`, and how long it may run.
    pub shutdown: Option<(Script, Duration)>,
    /// `script_user`; else `keepalived_script` where there is one, else root. For scripts that say nothing.
    pub script_identity: Identity,
    /// `enable_script_security`.
    pub is_script_security_on: bool,
    /// `dynamic_interfaces`: interfaces may come and go.
    pub interfaces_are_dynamic: bool,
    /// `dynamic_interfaces allow_if_changes`.
    pub interfaces_may_change: bool,
    /// `rs_init_notifies`: `notify_up` at start too.
    pub notifies_at_start: bool,
    /// Settings of the VRRP thread.
    pub vrrp_process: ProcessSettings,
    /// Settings of the checkers' thread.
    pub checker_process: ProcessSettings,
    /// Settings of BFD.
    pub bfd_process: ProcessSettings,
    /// `log_unknown_vrids`.
    pub logs_unknown_vrids: bool,
    /// `net_namespace`.
    pub network_namespace: Option<Name>,
    /// `instance`: goes into names of files.
    pub instance: Option<Name>,
    /// `use_pid_dir`.
    pub uses_pid_directory: bool,
    /// `reload_check_config`, and its log.
    pub checks_reload: Option<Option<Name>>,
    /// `umask`.
    pub umask: Option<u32>,
    /// `vrrp_rx_bufs_policy`, octets.
    pub vrrp_receive_octets: Option<u32>,
    /// `garp_group` blocks.
    pub announcement_groups: Vec<AnnouncementGroup>,
    /// `interface_up_down_delays`.
    pub interface_delays: Vec<InterfaceDelays>,
    /// `linkbeat_interfaces`, names alone.
    pub polled_interfaces: Vec<Name>,
}

/// `notification_email` and what belongs to it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Mail {
    /// To whom; empty: no mails.
    pub recipients: Vec<String>,
    /// From whom; `None`: `keepalived@` and the machine's name.
    pub sender: Option<String>,
    /// `smtp_server`, address and port; `None`: no mails.
    pub server: Option<(Address, u16)>,
    /// `smtp_connect_timeout`; 30 s by default.
    pub timeout: Duration,
    /// `smtp_helo_name`; `None`: the machine's name.
    pub helo: Option<String>,
}

/// `lvs_sync_daemon`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SyncDaemon {
    /// The interface.
    pub interface: Name,
    /// Master while this instance is Active, else backup; `None`: both at once, always.
    pub instance: Option<Name>,
    /// `syncid`; `None`: the instance's VRID, without an instance 0.
    pub id: Option<u8>,
    /// `maxlen`, octets of UDP payload; 0: the kernel's default.
    pub length_max: u16,
    /// Port; 0: 8848.
    pub port: u16,
    /// Hop limit; 0: 1.
    pub hop_limit: u8,
    /// Group; `None`: 224.0.0.81.
    pub group: Option<Address>,
}

/// `lvs_timeouts`, seconds; 0 keeps a value.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Timeouts {
    /// Established TCP.
    pub tcp_s: u32,
    /// TCP after a FIN.
    pub tcp_fin_s: u32,
    /// UDP.
    pub udp_s: u32,
}

/// What becomes of the table at the end.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum FlushOnStop {
    /// Services go one by one, as their down scripts are run.
    #[default]
    No,
    /// Our own services go at once.
    OwnServices,
    /// Everything goes.
    Everything,
}

/// A FIFO that is written, and who reads it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fifo {
    /// Its path.
    pub path: Name,
    /// Whose it is made.
    pub identity: Identity,
    /// Who is started to read it; the FIFO's path is its last argument.
    pub reader: Option<Script>,
}

/// `vrrp_priority`, `vrrp_rt_priority` and so on.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ProcessSettings {
    /// Niceness.
    pub priority: Option<i8>,
    /// `SCHED_RR` priority, 1 to 99.
    pub realtime_priority: Option<u8>,
    /// How long it may run without a system call at real-time priority.
    pub realtime_limit: Option<Duration>,
    /// Memory is locked.
    pub is_locked: bool,
    /// Processors that it may use; empty: all.
    pub processors: Vec<u32>,
}

/// A `garp_group`: announcements on these interfaces share their gaps.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct AnnouncementGroup {
    /// Between two gratuitous ARPs.
    pub arp_gap: Option<Duration>,
    /// Between two neighbour advertisements.
    pub neighbour_gap: Option<Duration>,
    /// The interfaces.
    pub interfaces: Vec<Name>,
}

/// A line of `interface_up_down_delays`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct InterfaceDelays {
    /// The interface.
    pub interface: Name,
    /// After it went down, until that counts.
    pub down: Duration,
    /// After it came up, until that counts.
    pub up: Duration,
}
