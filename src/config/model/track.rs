//! What instances and groups may watch: definitions. Who watches what, and with which weight, is in
//! [`crate::vrrp::Track`], where the weights of definitions are merged in.

use crate::base::{Address, Duration};
use crate::config::model::Script;
use crate::vrrp::Name;

/// A `vrrp_script`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TrackScript {
    /// Its name.
    pub name: Name,
    /// What is run, with its user.
    pub script: Script,
    /// From one start to the next.
    pub interval: Duration,
    /// How long it may run; zero: as long as the interval.
    pub timeout: Duration,
    /// Weight where a `track_script` line gives none.
    pub weight: i32,
    /// The other way round.
    pub is_reversed: bool,
    /// Good results in a row until it is good.
    pub rise: u32,
    /// Bad results in a row until it is bad.
    pub fall: u32,
    /// `init_fail`: bad until it was good; else unknown until the first result.
    pub starts_failed: bool,
}

/// A `track_file`: its first number counts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TrackFile {
    /// Its name.
    pub name: Name,
    /// Its path.
    pub path: Name,
    /// Multiplied with the number; 0: any number but 0 is a fault.
    pub weight: i32,
    /// The other way round.
    pub is_reversed: bool,
    /// `init_file`: it is made at start, with this number.
    pub initial: Option<i64>,
    /// `overwrite`: even if it is there.
    pub overwrites: bool,
}

/// How the arguments of a process are compared.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ArgumentMatch {
    /// All of them.
    #[default]
    Exact,
    /// The command's last word may be longer (`param_match partial`).
    Partial,
    /// More may follow (`param_match initial`).
    Initial,
}

/// A `vrrp_track_process`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TrackProcess {
    /// Its name.
    pub name: Name,
    /// The program: its name, or its path with `full_command`.
    pub program: Name,
    /// Its arguments; `None` when any will do.
    pub arguments: Option<Vec<Name>>,
    /// How they are compared.
    pub matching: ArgumentMatch,
    /// `full_command`: the whole command line is compared, not the name alone.
    pub compares_command: bool,
    /// Weight where a `track_process` line gives none.
    pub weight: i32,
    /// The other way round.
    pub is_reversed: bool,
    /// So many must run.
    pub quorum: u32,
    /// No more than so many may run.
    pub quorum_max: Option<u32>,
    /// After enough run, until it is good (`fork_delay`, `delay`).
    pub fork_delay: Duration,
    /// After too few run, until it is bad (`terminate_delay`, `delay`).
    pub terminate_delay: Duration,
}

impl TrackProcess {
    /// One with keepalived's defaults and without a program.
    pub fn new(name: Name) -> Self {
        Self {
            name,
            program: "".into(),
            arguments: None,
            matching: ArgumentMatch::Exact,
            compares_command: false,
            weight: 0,
            is_reversed: false,
            quorum: 1,
            quorum_max: None,
            fork_delay: Duration::ZERO,
            terminate_delay: Duration::ZERO,
        }
    }
}

/// A `bfd_instance`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BfdInstance {
    /// Its name.
    pub name: Name,
    /// The other end.
    pub neighbour: Address,
    /// Our end.
    pub source: Option<Address>,
    /// Least time between packets that are wanted.
    pub receive_min: Duration,
    /// Least time between packets that are sent.
    pub send_min: Duration,
    /// The same while the session is down.
    pub idle_send: Duration,
    /// Missing packets until it is down.
    pub multiplier: u8,
    /// It waits to be spoken to.
    pub is_passive: bool,
    /// Time to live, or hop limit, of what is sent.
    pub hop_limit: u8,
    /// Least of what is received, counted down from 255.
    pub hops_max: u8,
    /// Weight where a `track_bfd` line gives none.
    pub weight: i32,
    /// The other way round.
    pub is_reversed: bool,
    /// Instances may track it.
    pub is_for_vrrp: bool,
    /// Checkers may use it.
    pub is_for_checkers: bool,
}
