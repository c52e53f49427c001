//! Routes and neighbours as a snapshot: where a packet goes next, by which interface, to which link address.
//!
//! [`Database`] collects facts (from netlink, or from a [`net_file`]) and makes [`Routes`], an immutable snapshot
//! that workers ask. Semantics are those of a Linux host without policy rules:
//! - IPv4: the tables local, main and default; the first two share one trie, so the longest prefix of both wins,
//!   and local before main at equal length (measured on 6.18; `net/ipv4/fib_trie.c`, `fib_trie_unmerge`).
//! - IPv6: the longest prefix of local first, then of main, then of default (`net/ipv6/fib6_rules.c`).
//! - At equal prefixes the lower metric wins, then what was added first.
//!
//! **Invariant**: nothing here asks the kernel; `host` (or a replay's net file) fills it.
//!
//! **Deviation**: policy rules, VRF and TOS routing are not modelled; routes of other tables are ignored.

mod build;
mod database;
mod intervals;
pub mod net_file;

pub use build::{Exit, Hop, Link, Route, Routes};
pub use database::{AddressInfo, Database, LinkInfo, NeighbourInfo, RouteHop, RouteInfo, RouteKind, VlanInfo, table};

/// Hops of one multipath route; further ones are left out.
pub const HOPS_MAX: usize = 256;

/// Routes in a database. A full table of the Internet is about a million.
pub const ROUTES_MAX: usize = 4 << 20;
