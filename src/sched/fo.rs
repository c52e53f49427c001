//! `fo`, weighted failover: the usable destination with the highest weight, whatever it has to carry
//! (`net/netfilter/ipvs/ip_vs_fo.c`).

use crate::sched::tournament::{Load, Tournament};
use crate::service::scheduler::List;
use crate::service::{DestinationId, Flow, Scheduler};

/// All of the list, the heaviest ahead.
#[derive(Default)]
pub(super) struct WeightedFailover {
    tournament: Tournament,
}

impl Scheduler for WeightedFailover {
    fn name(&self) -> &'static str {
        "fo"
    }

    fn copy(&self) -> Box<dyn Scheduler> {
        Box::new(WeightedFailover::default())
    }

    fn reason(&self, _list: List<'_>, _flow: &Flow) -> String {
        "the highest weight, whatever it has to carry; of equals the one that was added last".to_owned()
    }

    fn changed(&mut self, list: List<'_>) {
        self.tournament.changed(list);
    }

    fn pick(&mut self, list: List<'_>, _flow: &Flow) -> Option<DestinationId> {
        self.tournament.pick(list, Load::heaviest)
    }
}

#[cfg(test)]
mod tests {
    use crate::sched::testing::Bench;

    #[test]
    fn printed_sequences() {
        Bench::new("fo", &[1, 3, 3]).expect("3 3 3");
        Bench::new("fo", &[3, 3, 1]).udp().expect("2 2 2");
        Bench::new("fo", &[0]).expect("none");
        Bench::new("fo", &[]).expect("none");
    }

    #[test]
    fn the_next_heaviest_takes_over() {
        let mut bench = Bench::new("fo", &[1, 3, 2]);
        bench.edit_thresholds(2, 3, 2, 0);
        bench.expect("2 2 3 3");
        bench.edit(3, 0);
        bench.expect("1");
        bench.disconnect(2, 1);
        bench.expect("2");
    }
}
