//! What lvxd is started with.

use std::path::PathBuf;

use crate::base::Address;
use crate::config::Invocation;
use crate::control::sync::resync::ResyncOptions;
use crate::host::proc_files::ProcOptions;
use crate::host::xdp::AttachMode;

/// Where the control socket is, unless said otherwise.
pub const SOCKET_DEFAULT: &str = "/run/lvx/lvx.sock";
/// The environment variable that says otherwise, for all three programs.
pub const SOCKET_VARIABLE: &str = "LVX_SOCKET";

/// What lvxd is started with.
#[derive(Clone, Debug)]
pub struct Options {
    /// Names of the interfaces, in order of their numbers; without any there are no workers, and with a configuration
    /// VRRP runs alone.
    pub interfaces: Vec<String>,
    /// keepalived.conf, and how it is to be read.
    pub configuration: Option<Invocation>,
    /// Number of workers; `None`: as many as the interface with the fewest receive queues has.
    pub workers: Option<usize>,
    /// Processors of the workers; `None`: chosen near the interfaces.
    pub cpus: Option<Vec<usize>>,
    /// Mode of the XDP program.
    pub xdp_mode: AttachMode,
    /// Control socket.
    pub socket: PathBuf,
    /// Group that may use the socket, by name or number.
    pub socket_group: Option<String>,
    /// Rules to begin with, as `ipvsadm-save -n` writes them.
    pub rules: Option<PathBuf>,
    /// Mark rules to begin with, as `iptables-save` and `ip6tables-save` write them.
    pub marks: Vec<PathBuf>,
    /// Files like sysctl.conf with knobs to begin with.
    pub sysctl_files: Vec<PathBuf>,
    /// Knobs to begin with, after those of the files.
    pub sysctls: Vec<(String, String)>,
    /// `conn_tab_bits`, 8..=27.
    pub conn_tab_bits: u8,
    /// The pool of full NAT.
    pub local_addresses: Vec<Address>,
    /// Ports of the FTP helper; none turns it off.
    pub ftp_ports: Vec<u16>,
    /// Most connections of each family.
    pub connections_max: u32,
    /// The table's memory comes as it is touched, not at the start.
    pub lazy_memory: bool,
    /// Busy polling, microseconds a call; `None` for none.
    pub busy_poll_us: Option<u32>,
    /// Resynchronisation with other directors; `None` turns it off.
    pub resync: Option<ResyncOptions>,
    /// Files like `/proc/net/ip_vs*` to be kept, if any.
    pub proc: Option<ProcOptions>,
}

/// Why lvxd did not start, or ended.
#[derive(Debug)]
pub struct StartError {
    /// The sentence for the operator.
    pub text: String,
    /// Exit status.
    pub exit: ExitStatus,
}

/// The exit statuses of lvxd. 2 is for arguments, as clap has it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum ExitStatus {
    /// Something that has no status of its own.
    Other = 1,
    /// Wrong arguments.
    Usage = 2,
    /// Missing rights.
    Rights = 3,
    /// No such interface, or one that cannot do what is needed.
    Interface = 4,
    /// A queue, the XDP hook or the control socket is in use.
    Busy = 5,
    /// Rules, knobs or a configuration that were refused.
    Rules = 6,
}

impl StartError {
    /// An error with its status.
    pub fn new(exit: ExitStatus, text: impl Into<String>) -> Self {
        Self { text: text.into(), exit }
    }
}

impl std::fmt::Display for StartError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for StartError {}
