//! `wlc`, weighted least connections: the usable destination with the smallest overhead for its weight
//! (`net/netfilter/ipvs/ip_vs_wlc.c`).

use crate::sched::tournament::{Load, Tournament};
use crate::sched::{least_by_weight, overhead, weighted_overhead_in_words};
use crate::service::scheduler::List;
use crate::service::{Destination, DestinationId, Flow, Scheduler};

/// All of the list, the least loaded ahead.
#[derive(Default)]
pub(super) struct WeightedLeastConnections {
    tournament: Tournament,
}

impl Scheduler for WeightedLeastConnections {
    fn name(&self) -> &'static str {
        "wlc"
    }

    fn copy(&self) -> Box<dyn Scheduler> {
        Box::new(WeightedLeastConnections::default())
    }

    fn load(&self, destination: &Destination) -> Option<String> {
        Some(weighted_overhead_in_words(destination))
    }

    fn reason(&self, _list: List<'_>, _flow: &Flow) -> String {
        LEAST_IN_WORDS.to_owned()
    }

    fn changed(&mut self, list: List<'_>) {
        self.tournament.changed(list);
    }

    fn pick(&mut self, list: List<'_>, _flow: &Flow) -> Option<DestinationId> {
        self.tournament.pick(list, |destination| Load::by_weight(destination, cost(destination)))
    }
}

/// The rule in words.
pub(super) const LEAST_IN_WORDS: &str =
    "least of (256·active + inactive connections) / weight; of equals the one that was added last";

/// The same choice by a look at each of a list, for `lblc` and `lblcr`, which seldom make it.
pub(super) fn least(list: List<'_>) -> Option<DestinationId> {
    least_by_weight(list.iter(), cost)
}

/// The kernel takes the overhead as a signed number here.
fn cost(destination: &Destination) -> i32 {
    overhead(destination).cast_signed()
}

#[cfg(test)]
mod tests {
    use crate::sched::testing::Bench;

    #[test]
    fn printed_sequences() {
        Bench::new("wlc", &[1, 1, 1]).expect("3 2 1 3 2 1 3");
        Bench::new("wlc", &[1, 2, 4]).expect("3 2 1 3 3 2 3 3 2 1 3 3 2 3");
        Bench::new("wlc", &[1, 2, 4]).udp().expect("3 2 1 3 3 2 3 3 2 1 3 3 2 3");
        Bench::new("wlc", &[1, 0]).expect("1 1 1");
        Bench::new("wlc", &[0, 0]).expect("none");
        Bench::new("wlc", &[]).expect("none");
    }

    #[test]
    fn active_and_inactive() {
        // 256 = 256: the one nearer the head.
        for head in [1, 2] {
            let mut bench = Bench::new("wlc", &[1, 1]);
            bench.connect(head, 1, 0);
            bench.connect(3 - head, 0, 256);
            bench.expect("2");
        }
        // 522 at weight 3 against 256 at weight 1: the heavy one, wherever it stands.
        for heavy in [1, 2] {
            let mut weights = [1, 1];
            weights[heavy - 1] = 3;
            let mut bench = Bench::new("wlc", &weights);
            bench.connect(heavy as u32, 2, 10);
            bench.connect(3 - heavy as u32, 1, 0);
            bench.expect(&heavy.to_string());
        }
    }

    #[test]
    fn the_overloaded_are_passed_over() {
        let mut bench = Bench::new("wlc", &[1, 8]);
        bench.edit_thresholds(2, 8, 2, 0);
        bench.expect("2 1 2 1 1");
        bench.disconnect(2, 1);
        bench.expect("2 1");
    }
}
