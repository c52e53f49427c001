//! The real programs between real servers: lvxd and lvxadm in network namespaces that `scripts/lab` builds.
//!
//! Each test builds a lab of its own and removes it, also when it fails. The tests wait for one another (a file lock,
//! so also across processes). Without root or a tool they print *skipped* and why; `LVX_NETNS_REQUIRED=1` makes
//! that a failure. Waiting has a limit, but no test asserts how long anything takes.

#![allow(clippy::disallowed_methods, reason = "these tests wait for real processes")]

#[path = "netns/lab.rs"]
mod lab;
#[path = "netns/traffic.rs"]
mod traffic;

#[path = "netns/changes.rs"]
mod changes;
#[path = "netns/explain.rs"]
mod explain;
#[path = "netns/fragments.rs"]
mod fragments;
#[path = "netns/ftp.rs"]
mod ftp;
#[path = "netns/full_nat.rs"]
mod full_nat;
#[path = "netns/ground.rs"]
mod ground;
#[path = "netns/jumbo.rs"]
mod jumbo;
#[path = "netns/latency.rs"]
mod latency;
#[path = "netns/ldirectord.rs"]
mod ldirectord;
#[path = "netns/lifecycle.rs"]
mod lifecycle;
#[path = "netns/load.rs"]
mod load;
#[path = "netns/local.rs"]
mod local;
#[path = "netns/marks.rs"]
mod marks;
#[path = "netns/methods.rs"]
mod methods;
#[path = "netns/migration.rs"]
mod migration;
#[path = "netns/nic_setup.rs"]
mod nic_setup;
#[path = "netns/pass.rs"]
mod pass;
#[path = "netns/proc_files.rs"]
mod proc_files;
#[path = "netns/protocols.rs"]
mod protocols;
#[path = "netns/resync.rs"]
mod resync;
#[path = "netns/rules.rs"]
mod rules;
#[path = "netns/scale.rs"]
mod scale;
#[path = "netns/sync.rs"]
mod sync;
#[path = "netns/vlan.rs"]
mod vlan;
#[path = "netns/vrrp.rs"]
mod vrrp;
