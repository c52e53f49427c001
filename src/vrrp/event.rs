//! What the outside tells.

use crate::base::Address;
use crate::vrrp::Name;

/// Something that happened, packets and time apart.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// All that is known has been told: begin (after the startup delay).
    Start,
    /// An interface is there, or has changed.
    Link {
        /// The interface.
        interface: Name,
        /// How it is now.
        link: Link,
    },
    /// A tracker has a new reading. Interfaces need none: [`Event::Link`] is theirs.
    Tracked {
        /// Which one.
        tracker: Tracker,
        /// What it says.
        reading: Reading,
    },
    /// Somebody else took an address from an interface; an Active router puts it back.
    AddressLost {
        /// The interface.
        interface: Name,
        /// The address.
        address: Address,
    },
    /// The end: resign and let go.
    Stop,
}

/// An interface.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Link {
    /// Administratively up and with a carrier.
    pub is_up: bool,
    /// Its addresses, the kernel's order; those of virtual routers may be among them.
    pub addresses: Vec<Address>,
}

/// What instances and groups watch.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Tracker {
    /// `track_interface`.
    Interface(Name),
    /// `track_script`.
    Script(Name),
    /// `track_file`.
    File(Name),
    /// `track_process`.
    Process(Name),
    /// `track_bfd`.
    Bfd(Name),
}

/// What a tracker says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reading {
    /// Good: a script that ends with 0, an interface that is up, enough processes.
    Up,
    /// Bad.
    Down,
    /// The number in a file.
    Value(i32),
}
