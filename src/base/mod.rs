//! Nouns that every layer shares and that know no protocol: time, chance, addresses, frames, locks, snapshots.
//!
//! **Invariant**: nothing here knows a header format, a scheduler or a system call, but for
//! [`memory`], which asks the allocator and the processor for large zeroed memory and prefetch.

pub mod address;
pub mod chunked;
pub mod counter;
pub mod frame;
pub mod hasher;
pub mod hex;
pub mod lock;
pub mod memory;
pub mod published;
pub mod rng;
pub mod shard;
pub mod time;

pub use address::{Address, Endpoint, Family, MacAddress};
pub use counter::Counter;
pub use frame::{Frame, InterfaceId};
pub use lock::Lock;
pub use published::Published;
pub use rng::Rng;
pub use time::{Duration, Instant};
