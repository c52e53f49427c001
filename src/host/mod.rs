//! Linux: clock, threads, netlink, sockets, the XDP program, files, signals.
//!
//! **Invariant**: no policy; what is done here, `control` decided.

pub mod client;
pub mod clock;
pub mod cpus;
pub mod links;
pub mod logging;

mod meminfo;
pub mod names;
pub mod netlink;
pub mod offline;
pub mod options;
pub mod pass;
pub mod proc_files;
pub mod run;
pub mod socket;
pub mod state;
pub mod sync;
mod sys;
pub mod workers;
pub mod xdp;
