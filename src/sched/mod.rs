//! Schedulers: which destination a new connection gets. One file a scheduler, named as in the kernel.
//!
//! To add one: a file here, its `mod` line and its row in the table `SCHEDULERS`.
//!
//! Sequences are those of Linux 6.1 (`net/netfilter/ipvs/ip_vs_*.c`); lists run from the destination added last to
//! the one added first.
//!
//! **Invariant**: a scheduler sees destinations and the packet's [`Flow`](crate::service::Flow), never the
//! connection table.

mod lc;
mod rr;
mod wlc;
mod wrr;

#[cfg(test)]
mod testing;

use crate::service::scheduler::List;
use crate::service::{Destination, DestinationId, Scheduler};

/// Makes a scheduler with fresh state.
type Make = fn() -> Box<dyn Scheduler>;

/// All schedulers by the kernel's name.
const SCHEDULERS: &[(&str, Make)] = &[
    ("lc", || Box::new(lc::LeastConnections)),
    ("rr", || Box::new(rr::RoundRobin::default())),
    ("wlc", || Box::new(wlc::WeightedLeastConnections)),
    ("wrr", || Box::new(wrr::WeightedRoundRobin::default())),
];

/// A scheduler with fresh state; `None` for a name that is not known. The name `none`, which gives every connection
/// no destination, is no scheduler: [`Scheduling`](crate::service::Scheduling) says it by having none.
pub fn by_name(name: &str) -> Option<Box<dyn Scheduler>> {
    SCHEDULERS.iter().find(|(known, _)| *known == name).map(|(_, make)| make())
}

/// The names of all schedulers, sorted.
pub fn names() -> impl Iterator<Item = &'static str> {
    SCHEDULERS.iter().map(|&(name, _)| name)
}

/// A place in a list: a destination, or before the first (the kernel's list head).
///
/// The list may grow and shrink between uses: the destination counts, and where it was is a hint that spares the
/// search.
#[derive(Clone, Copy, Default, Debug)]
struct Cursor {
    at: Option<DestinationId>,
    hint: usize,
}

impl Cursor {
    /// At the destination at `index` of the list.
    fn at(list: List<'_>, index: usize) -> Self {
        Self { at: list.ids.get(index).copied(), hint: index }
    }

    /// The position in the list; `None` before the first.
    fn index(self, list: List<'_>) -> Option<usize> {
        let id = self.at?;
        if list.ids.get(self.hint) == Some(&id) {
            return Some(self.hint);
        }
        list.ids.iter().position(|&other| other == id)
    }
}

/// What a connection costs a destination: an active one as much as 256 inactive ones
/// (`ip_vs_dest_conn_overhead`, 32 bits that wrap).
#[inline]
fn overhead(destination: &Destination) -> u32 {
    destination.active().wrapping_shl(8).wrapping_add(destination.inactive())
}

/// Of the usable candidates the one with the smallest cost for its weight; of equals the first.
fn least_by_weight<'a>(
    candidates: impl Iterator<Item = (DestinationId, &'a Destination)>,
    cost: impl Fn(&Destination) -> i32,
) -> Option<DestinationId> {
    // Anything is less than a cost without weight.
    let (mut least, mut least_cost, mut least_weight) = (None, 1, 0);
    for (id, destination) in candidates {
        let weight = i64::from(destination.weight());
        let cost = i64::from(cost(destination));
        // cost / weight compared without division.
        if weight > 0 && least_cost * weight > cost * least_weight && !destination.is_overloaded() {
            (least, least_cost, least_weight) = (Some(id), cost, weight);
        }
    }
    least
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedulers_are_found_by_the_name_they_give() {
        for name in names() {
            assert_eq!(by_name(name).unwrap().name(), name);
        }
        assert!(names().is_sorted());
        assert!(by_name("none").is_none());
        assert!(by_name("").is_none());
    }
}
