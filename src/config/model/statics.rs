//! `static_ipaddress`, `static_routes`, `static_rules`, and the track groups of their lines.

use crate::vrrp::{Attached, Name, VirtualAddress};

/// Something that is there from start to end.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Statics {
    /// Addresses; [`VirtualAddress::interface`] is always there.
    pub addresses: Vec<Static<VirtualAddress>>,
    /// Routes and rules.
    pub routes: Vec<Static<Attached>>,
    /// `track_group`: name and instances.
    pub track_groups: Vec<(Name, Vec<Name>)>,
}

/// One of them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Static<T> {
    /// What.
    pub item: T,
    /// When it goes, instances of this group fault.
    pub track_group: Option<Name>,
}
