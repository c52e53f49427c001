//! The connection table and the protocol states of its entries.
//!
//! One table is shared by all workers. Its memory is fixed at start; an entry is one cache line (IPv4) or one and a
//! half (IPv6), found through a bucket of one cache line that holds a lock, tags and a coarse lower bound of each
//! entry's deadline.
//!
//! Source of the behaviour: `net/netfilter/ipvs/ip_vs_conn.c`, `ip_vs_sync.c`, `ip_vs_proto_tcp.c`, `ip_vs_proto_udp.c`, `ip_vs_proto_sctp.c`,
//! Linux 6.1.
//!
//! **Invariants**
//! - A thread holds one bucket at a time, and only for what one packet needs.
//! - An entry past its deadline is absent to every lookup; [`Table::sweep`] frees it.
//! - Nothing here chooses a destination or touches a packet.

mod bucket;
mod copy;
pub mod defence;
pub mod engine_data;
pub mod entry;
pub mod eviction;
pub mod full_nat;
pub mod guess;
pub mod helper;
pub mod pool;
pub mod sctp;
pub mod state;
pub mod sweep;
pub mod sync;
pub mod table;
pub mod tcp;

#[cfg(test)]
mod tests;

pub use entry::{Entry, EntryId, Flags, ticks};
pub use full_nat::{LocalPort, Reservation, Reserved};
pub use guess::Guess;
pub use helper::{Expected, HelperPorts, Moved};
pub use state::{Direction, Event, State, Timeouts};
pub use table::{Found, Inserted, Key, New, Table, TableConfig};
