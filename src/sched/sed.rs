//! `sed`, shortest expected delay: the usable destination with the fewest active connections for its weight, the new
//! one counted in (`net/netfilter/ipvs/ip_vs_sed.c`).
//!
//! Inactive connections cost nothing: datagrams all go to the first of the heaviest.

use crate::sched::by_weight_in_words;
use crate::sched::tournament::{Load, Tournament};
use crate::service::scheduler::List;
use crate::service::{Destination, DestinationId, Flow, Scheduler};

/// All of the list, the least loaded ahead.
#[derive(Default)]
pub(super) struct ShortestExpectedDelay {
    tournament: Tournament,
}

impl Scheduler for ShortestExpectedDelay {
    fn name(&self) -> &'static str {
        "sed"
    }

    fn copy(&self) -> Box<dyn Scheduler> {
        Box::new(ShortestExpectedDelay::default())
    }

    fn load(&self, destination: &Destination) -> Option<String> {
        Some(in_words(destination))
    }

    fn reason(&self, _list: List<'_>, _flow: &Flow) -> String {
        SHORTEST_IN_WORDS.to_owned()
    }

    fn changed(&mut self, list: List<'_>) {
        self.tournament.changed(list);
    }

    fn pick(&mut self, list: List<'_>, _flow: &Flow) -> Option<DestinationId> {
        self.tournament.pick(list, load)
    }
}

/// The rule in words.
pub(super) const SHORTEST_IN_WORDS: &str =
    "least of (active connections + 1) / weight; of equals the one that was added last";

/// A destination's delay in words.
pub(super) fn in_words(destination: &Destination) -> String {
    by_weight_in_words("active + 1", i64::from(destination.active()) + 1, destination)
}

/// A destination's delay, by which `nq` too chooses when nobody is idle.
pub(super) fn load(destination: &Destination) -> Load {
    Load::by_weight(destination, destination.active().wrapping_add(1).cast_signed())
}

#[cfg(test)]
mod tests {
    use crate::sched::testing::Bench;

    #[test]
    fn printed_sequences() {
        Bench::new("sed", &[1, 2, 4]).expect("3 3 2 3 3 2 1 3 3 2 3 3 2 1");
        Bench::new("sed", &[1, 2, 4]).udp().expect("3 3 3 3");
        Bench::new("sed", &[1, 1]).udp().expect("2 2 2");
        Bench::new("sed", &[1, 0]).expect("1 1 1");
        Bench::new("sed", &[0, 0]).expect("none");
        Bench::new("sed", &[]).expect("none");
    }

    #[test]
    fn inactive_connections_cost_nothing() {
        let mut bench = Bench::new("sed", &[1, 1]);
        bench.connect(2, 0, 1000);
        bench.expect("2 1 2 1");
    }

    #[test]
    fn the_overloaded_are_passed_over() {
        let mut bench = Bench::new("sed", &[1, 8]);
        bench.edit_thresholds(2, 8, 2, 0);
        bench.expect("2 2 1 1");
        bench.disconnect(2, 1);
        bench.expect("2 1");
    }
}
