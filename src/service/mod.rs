//! Virtual services and their destinations: what is balanced, over what, and how.
//!
//! Workers read a [`Services`] snapshot; destinations live in one [`Destinations`] table whose cells are atomics,
//! so that an edit needs no new snapshot and a connection names its destination by a number.
//!
//! **Invariant**: nothing here sees a packet, and only `control` adds, edits or removes.

pub mod destination;
pub mod filter;
pub mod local_addresses;
pub mod lowered;
pub mod real_servers;
pub mod scheduler;
pub mod snapshot;
pub mod sysctl;
pub mod types;

pub use destination::{Destination, DestinationId, Destinations};
pub use filter::Filter;
pub use scheduler::{Flow, Scheduler, Scheduling};
pub use snapshot::{Persistence, Service, ServiceId, Services};
pub use types::{Engine, FullNat, Method, Protocol, SchedulerFlags, ServiceKey, Tunnel, TunnelChecksum};
