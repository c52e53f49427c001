//! lvx: a load-balancer director, Linux Virtual Server in user space on AF_XDP.
//!
//! # Layers
//! A module imports only lower ranks; modules of one rank do not know each other. `tests/layers.rs` enforces it.
//!
//! | rank | module | holds | never |
//! |---|---|---|---|
//! | 0 | [`base`] | time, chance, addresses, frames, locks, snapshots | know a protocol |
//! | 1 | [`wire`] | header views, messages we originate, checksums, pcapng | allocate on the fast path, log, decide |
//! | 2 | [`service`] | virtual services, destinations, thresholds, sysctls | see a packet |
//! | 2 | [`route`] | routes and neighbours as a snapshot | ask the kernel |
//! | 2 | [`port`] | the trait `Port`; memory and AF_XDP ports | interpret bytes |
//! | 3 | [`sched`] | one file a scheduler | see the connection table |
//! | 3 | [`mark`] | the rules that mark packets | know which services or connections there are |
//! | 3 | [`conn`] | connection table, templates, TCP/UDP/SCTP states, sweep, defence | choose a destination |
//! | 4 | [`forward`] | packet to `Verdict` | know queues, threads, commands |
//! | 4 | [`vrrp`] | VRRP as one value: packets, events and time in, actions out | open a socket, set an address |
//! | 4 | [`command`] | ipvsadm's grammar, `Request`, `Response`, rendering | open a socket |
//! | 5 | [`config`] | keepalived.conf: its language, its keywords, what they mean | open a file, ask the kernel |
//! | 5 | [`worker`] | batch loop | know configuration |
//! | 6 | [`control`] | the configuration: requests in, snapshots and actions out | touch frames or system calls |
//! | 7 | [`director`] | one control and its workers as a single value; replay | start threads |
//! | 8 | [`host`] | Linux: clock, threads, netlink, sockets, BPF, signals | hold policy |

#![deny(unsafe_code)]
#![warn(missing_docs)]

pub mod base;
pub mod command;
pub mod config;
pub mod conn;
pub mod control;
pub mod director;
pub mod forward;
pub mod host;
pub mod mark;
pub mod port;
pub mod route;
pub mod sched;
pub mod service;
pub mod vrrp;
pub mod wire;
pub mod worker;
