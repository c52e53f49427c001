//! `ovf`, weighted overflow: as `fo`, but a destination takes part only until its active connections exceed its
//! weight (`net/netfilter/ipvs/ip_vs_ovf.c`).

use crate::sched::tournament::{Load, Tournament};
use crate::service::scheduler::List;
use crate::service::{Destination, DestinationId, Flow, Scheduler};

/// All of the list, the heaviest with room ahead.
#[derive(Default)]
pub(super) struct WeightedOverflow {
    tournament: Tournament,
}

impl Scheduler for WeightedOverflow {
    fn name(&self) -> &'static str {
        "ovf"
    }

    fn copy(&self) -> Box<dyn Scheduler> {
        Box::new(WeightedOverflow::default())
    }

    fn load(&self, destination: &Destination) -> Option<String> {
        Some(format!("active {} of at most {}", destination.active(), destination.weight()))
    }

    fn reason(&self, _list: List<'_>, _flow: &Flow) -> String {
        "the highest weight of those whose active connections do not exceed their weight".to_owned()
    }

    fn changed(&mut self, list: List<'_>) {
        self.tournament.changed(list);
    }

    fn pick(&mut self, list: List<'_>, _flow: &Flow) -> Option<DestinationId> {
        let has_room = |destination: &Destination| destination.active().cast_signed() <= destination.weight();
        let load = |of: &Destination| if has_room(of) { Load::heaviest(of) } else { Load::UNUSABLE };
        self.tournament.pick(list, load)
    }
}

#[cfg(test)]
mod tests {
    use crate::sched::testing::Bench;

    #[test]
    fn printed_sequences() {
        // The new connection is not counted yet: a destination takes one more than its weight.
        Bench::new("ovf", &[1, 3, 3]).expect("3 3 3 3 2 2 2 2 1 1 none none");
        Bench::new("ovf", &[1, 3, 3]).udp().expect("3 3 3 3 3 3 3");
        Bench::new("ovf", &[0]).expect("none");
        Bench::new("ovf", &[]).expect("none");
    }

    #[test]
    fn the_overloaded_are_passed_over() {
        let mut bench = Bench::new("ovf", &[1, 3]);
        bench.edit_thresholds(2, 3, 2, 0);
        bench.expect("2 2 1 1 none");
        bench.disconnect(2, 1);
        bench.expect("2 none");
    }
}
