//! From a packet to its verdict: parse, find or make the connection, rewrite.
//!
//! A worker hands over a batch; each stage runs over the whole batch before the next one starts, so that the cache
//! lines a packet needs are on their way while its predecessors are worked on. [`Forwarder::process`] is the one
//! place where the order of stages stands.
//!
//! **Invariants**
//! - No clock, no lock that is held across packets, no system call; no allocation but for the first packet to a new
//!   destination.
//! - Every frame of a batch leaves by exactly one verdict, and every verdict is counted.
//! - Octets that we do not understand survive untouched.
//!
//! Source of the behaviour: `net/netfilter/ipvs/ip_vs_core.c`, `ip_vs_xmit.c`, Linux 6.1.

pub mod counters;
mod decide;
pub mod defence;
mod defragment;
mod egress;
mod encapsulate;
mod fragment;
mod ftp;
mod full_nat;
mod helper;
mod icmp;
pub mod latency;
mod marking;
mod nat;
mod options;
mod outgoing;
pub mod parse;
pub mod path_mtu;
mod pipeline;
mod place;
mod reassembly;
mod related;
mod schedule;
pub mod shared;
mod sip;
mod straight;
pub mod sync;
mod tcp_stream;
pub mod trace;
mod tunnel;
mod tunnel_error;
mod unbound;
pub mod verdict;
mod vlan;
mod whole;

#[cfg(test)]
mod tests;

pub use counters::{DestinationCounters, WorkerCounters};
pub use pipeline::Forwarder;
pub use shared::{NeighbourRequest, Shared};
pub use sync::SyncRoles;
pub use verdict::{DropReason, Verdict};
