//! `nq`, never queue: the first usable destination without active connections, else the choice of `sed`
//! (`net/netfilter/ipvs/ip_vs_nq.c`).

use crate::sched::sed;
use crate::sched::tournament::{Load, Tournament};
use crate::service::scheduler::List;
use crate::service::{Destination, DestinationId, Flow, Scheduler};

/// All of the list, the least loaded ahead.
#[derive(Default)]
pub(super) struct NeverQueue {
    tournament: Tournament,
}

impl Scheduler for NeverQueue {
    fn name(&self) -> &'static str {
        "nq"
    }

    fn copy(&self) -> Box<dyn Scheduler> {
        Box::new(NeverQueue::default())
    }

    fn load(&self, destination: &Destination) -> Option<String> {
        Some(sed::in_words(destination))
    }

    fn reason(&self, list: List<'_>, _flow: &Flow) -> String {
        match list.iter().any(|(_, destination)| destination.is_usable() && is_idle(destination)) {
            true => "the first that is idle: without active connections".to_owned(),
            false => format!("none is idle: {}", sed::SHORTEST_IN_WORDS),
        }
    }

    fn changed(&mut self, list: List<'_>) {
        self.tournament.changed(list);
    }

    fn pick(&mut self, list: List<'_>, _flow: &Flow) -> Option<DestinationId> {
        self.tournament.pick(list, load)
    }
}

/// Without active connections.
fn is_idle(destination: &Destination) -> bool {
    destination.active() == 0
}

/// The idle are equal, whatever their weight, and come before any delay that there can be.
fn load(destination: &Destination) -> Load {
    const NO_DELAY: i64 = i32::MIN as i64 - 1;
    if is_idle(destination) { Load::plain(destination, NO_DELAY) } else { sed::load(destination) }
}

#[cfg(test)]
mod tests {
    use crate::sched::testing::Bench;

    #[test]
    fn printed_sequences() {
        Bench::new("nq", &[1, 2, 4]).expect("3 2 1 3 3 3 2 3 3 2 3 3 2 1");
        Bench::new("nq", &[1, 2, 4]).udp().expect("3 3 3 3");
        Bench::new("nq", &[4, 2, 1]).udp().expect("3 3 3 3");
        Bench::new("nq", &[1, 0, 2]).expect("3 1 3");
        Bench::new("nq", &[0, 0]).expect("none");
        Bench::new("nq", &[]).expect("none");
    }

    #[test]
    fn the_overloaded_are_passed_over_even_when_idle() {
        let mut bench = Bench::new("nq", &[1, 1]);
        bench.edit_thresholds(2, 1, 1, 0);
        bench.connect(2, 0, 1);
        bench.connect(1, 3, 0);
        bench.expect("1 1");
        bench.disconnect(1, 5);
        bench.expect("1");
    }
}
