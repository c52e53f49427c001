//! `lc`, least connections: the usable destination with the smallest overhead, whatever its weight
//! (`net/netfilter/ipvs/ip_vs_lc.c`).

use crate::sched::tournament::{Load, Tournament};
use crate::sched::{overhead, overhead_in_words};
use crate::service::scheduler::List;
use crate::service::{Destination, DestinationId, Flow, Scheduler};

/// All of the list, the least loaded ahead.
#[derive(Default)]
pub(super) struct LeastConnections {
    tournament: Tournament,
}

impl Scheduler for LeastConnections {
    fn name(&self) -> &'static str {
        "lc"
    }

    fn copy(&self) -> Box<dyn Scheduler> {
        Box::new(LeastConnections::default())
    }

    fn load(&self, destination: &Destination) -> Option<String> {
        Some(overhead_in_words(destination))
    }

    fn reason(&self, _list: List<'_>, _flow: &Flow) -> String {
        "least of 256·active + inactive connections; of equals the one that was added last".to_owned()
    }

    fn changed(&mut self, list: List<'_>) {
        self.tournament.changed(list);
    }

    fn pick(&mut self, list: List<'_>, _flow: &Flow) -> Option<DestinationId> {
        self.tournament.pick(list, |destination| Load::plain(destination, i64::from(overhead(destination))))
    }
}

#[cfg(test)]
mod tests {
    use crate::sched::testing::Bench;

    #[test]
    fn printed_sequences() {
        for weights in [[1, 1, 1], [1, 2, 4]] {
            Bench::new("lc", &weights).expect("3 2 1 3 2 1 3");
            Bench::new("lc", &weights).udp().expect("3 2 1 3 2 1 3");
        }
        Bench::new("lc", &[1, 0, 1]).expect("3 1 3 1");
        Bench::new("lc", &[0]).expect("none");
        Bench::new("lc", &[]).expect("none");
    }

    /// An active connection costs as much as 256 inactive ones; ties go to the one nearer the head.
    #[test]
    fn active_and_inactive() {
        for (inactive, expected) in [(255, "1"), (256, "2"), (257, "2")] {
            let mut bench = Bench::new("lc", &[1, 1]);
            bench.connect(2, 1, 0);
            bench.connect(1, 0, inactive);
            bench.expect(expected);
        }
        let mut bench = Bench::new("lc", &[1, 1]);
        bench.connect(1, 1, 0);
        bench.connect(2, 0, 256);
        bench.expect("2");
    }

    #[test]
    fn the_overloaded_are_passed_over() {
        let mut bench = Bench::new("lc", &[1, 1]);
        bench.edit_thresholds(2, 1, 1, 0);
        bench.expect("2 1 1 1");
        bench.disconnect(2, 1);
        bench.expect("2 1");
    }
}
