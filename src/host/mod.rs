//! Linux: clock, threads, netlink, sockets, the XDP program, files, signals.
//!
//! **Invariant**: no policy; what is done here, `control` decided.

pub mod check_file;
pub mod client;
pub mod clock;
pub mod cpus;
pub mod links;
pub mod logging;
pub mod machine;
mod meminfo;
pub mod names;
pub mod netlink;
pub mod offline;
pub mod options;
mod packets;
pub mod pass;
pub mod proc_files;
pub mod run;
pub mod socket;
pub mod state;
pub mod sync;
mod sys;
mod virtual_routers;
pub mod vrrp;
pub mod workers;
pub mod xdp;
