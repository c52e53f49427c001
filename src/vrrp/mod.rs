//! The Virtual Router Redundancy Protocol as one pure value: RFC 9568 (version 3), RFC 3768 (version 2), and what
//! keepalived 2.2.7 added to both. No sockets, no clock, no addresses on interfaces: events in, actions out.
//!
//! ```text
//!                         +------------+
//!        +--------------->|            |<---------------+
//!        |   Stop         | Initialize |   Stop         |
//!        |         +------|            |------+         |
//!        |   Start |      +------------+      | Start, |
//!        |         |                          | owner  |
//!        |         V    down timer, group     V        |
//!    +---------------+  willing            +---------------+
//!    |               |-------------------->|               |
//!    |    Backup     |                     |    Active     |
//!    |               |<--------------------|               |
//!    +---------------+   a better router   +---------------+
//!        |       ^                             |
//!  fault |       | healed                      | fault
//!        |    +---------------+                |
//!        +--->|     Fault     |<---------------+
//!             +---------------+
//! ```
//!
//! The states have RFC 9568's names; the words MASTER and BACKUP stand only where keepalived's logs, scripts and FIFO
//! have them ([`Word`]). Fault is keepalived's: the instance cannot, or is not to, be Active.
//!
//! [`Routers`] holds all instances and sync groups. Whoever drives it
//! - tells of links and trackers by [`Event`]s, then says [`Event::Start`];
//! - hands every received packet to [`Routers::handle_packet`] **before** it calls [`Routers::handle_timeout`], so that a
//!   pause of the process does not make it miss advertisements that have come meanwhile;
//! - calls `handle_timeout` when [`Routers::next_deadline`] has come;
//! - takes all [`Action`]s after each call, in order.
//!
//! Files: `config` what is wished, `settle` its corrections, `event` and `action` the two enums, `check` which
//! advertisements count, `hear` what becomes of them, `timing` intervals, `instance` one virtual router, `send` what it says, `announce` when addresses are announced,
//! `routers` all of them, `sync_group` the groups, `track` priorities and faults, `reload` a new configuration.
//!
//! # Limits
//! [`INSTANCES_MAX`], [`ADDRESSES_MAX`], [`EXCLUDED_MAX`], [`PEERS_MAX`]: a configuration beyond them is refused. No
//! packet makes anything here grow; one packet makes a bounded number of actions; of lines that packets cause
//! [`check::LINES_LOGGED_MAX`] a second and instance are logged, the rest are counted. [`instance::LOWER_TOLD_MAX`] times
//! a second scripts are told that one of lower priority was heard.
//!
//! # Deviations from keepalived
//! - **Deviation**: a refused advertisement changes nothing. keepalived's Active router sends none of its own while bad
//!   ones arrive.
//! - **Deviation**: an Active router that yields sends one last advertisement, of its own priority, so that the winner
//!   announces the addresses anew; keepalived does so with `vrrp_higher_prio_send_advert` alone. And an Active router
//!   that hears another resign announces the addresses too: another was Active.
//! - **Deviation**: unicast packets of IPv6 have hop limit 255.
//! - **Deviation**: an interval of zero in version 3 is refused; keepalived takes it.
//! - **Deviation**: sequence numbers of the authentication header are learnt, not refused when they are old: a router
//!   that starts anew begins with 1.
//! - **Deviation**: version 2 takes a differing address list from the owner, as RFC 3768 section 7.1 asks.
//! - **Deviation**: the first advertisement of another Active router than before does not shorten Active_Down_Timer.
//! - **Deviation**: answers to advertisements of lower priority are at least [`instance::ANSWER_GAP`] apart.
//! - **Deviation**: a member of a sync group that follows another to Backup resigns: whoever has taken the other one
//!   announces this one too, and where nobody has it yet somebody takes it after Skew_Time. keepalived's member says
//!   nothing.

pub mod action;
mod announce;
pub mod check;
pub mod config;
pub mod event;
mod hear;
pub mod instance;
mod reload;
mod routers;
mod send;
mod settle;
mod sync_group;
pub mod timing;
mod track;

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

pub use action::{Action, Level, Word};
pub use check::Counters;
pub use config::{
    AddressFlags, Announcing, Attached, Authentication, Config, Flaw, GroupConfig, InstanceConfig, OldChecksum, Peer,
    Track, VirtualAddress,
};
pub use event::{Event, Link, Reading, Tracker};
pub use instance::{Instance, State};
pub use routers::{Routers, Unclaimed};

use std::sync::Arc;

/// The name of an instance, a group, an interface or a script.
pub type Name = Arc<str>;

/// Instances of one configuration.
pub const INSTANCES_MAX: usize = 4096;
/// Addresses of an instance that are in its advertisements: of IPv4 the count is an octet.
pub const ADDRESSES_MAX: usize = 255;
/// As [`ADDRESSES_MAX`], of IPv6: more do not fit into a packet of 1500 octets.
pub const ADDRESSES_V6_MAX: usize = 90;
/// Addresses of an instance that are not advertised.
pub const EXCLUDED_MAX: usize = 4096;
/// Unicast peers of an instance.
pub const PEERS_MAX: usize = 255;
