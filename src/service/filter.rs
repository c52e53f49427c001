//! Which frames user space wants to see: what the XDP program is told.
//!
//! `control` makes it from the services and the host's addresses; `host` gives it to the kernel.

use std::collections::BTreeSet;

use crate::base::{Address, Endpoint};

/// The contents of the XDP program's maps, as pure data.
///
/// A frame goes to user space when its destination is a service, or its source a server and its destination not
/// local; fragments and ICMP errors, which have no ports, by address alone.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Filter {
    /// Virtual services: IP protocol number, address and port; port 0 for every port.
    pub services: BTreeSet<(u8, Endpoint)>,
    /// Sources whose packets are answers of ours: masqueraded real servers, and virtual services whose answers cross
    /// the director. Port 0 for every port.
    pub servers: BTreeSet<(u8, Endpoint)>,
    /// Addresses of virtual services, for fragments and ICMP errors.
    pub virtual_addresses: BTreeSet<Address>,
    /// Addresses of real servers, for fragments and ICMP errors.
    pub server_addresses: BTreeSet<Address>,
    /// The host's own addresses: answers to its own connections stay with its stack.
    pub locals: BTreeSet<Address>,
}
