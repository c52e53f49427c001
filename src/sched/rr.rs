//! `rr`, round robin: each usable destination in its turn (`net/netfilter/ipvs/ip_vs_rr.c`).

use crate::sched::Cursor;
use crate::service::scheduler::List;
use crate::service::{DestinationId, Flow, Scheduler};

/// State: the last choice.
#[derive(Clone, Default)]
pub(super) struct RoundRobin {
    last: Cursor,
}

impl Scheduler for RoundRobin {
    fn name(&self) -> &'static str {
        "rr"
    }

    fn copy(&self) -> Box<dyn Scheduler> {
        Box::new(self.clone())
    }

    fn reason(&self, list: List<'_>, _flow: &Flow) -> String {
        match self.last.index(list) {
            Some(last) => format!("the next usable one after {} in round-robin order", list.name(list.ids[last])),
            None => "the first usable one: the round begins".to_owned(),
        }
    }

    fn pick(&mut self, list: List<'_>, _flow: &Flow) -> Option<DestinationId> {
        let count = list.ids.len();
        let first = self.last.index(list).map_or(0, |last| last + 1);
        // The last choice comes last of all; with none yet, one pass over the list.
        let mut order = (first..count).chain(0..first.min(count));
        let index = order.find(|&index| list.table.get(list.ids[index]).is_usable())?;
        self.last = Cursor::at(list, index);
        Some(list.ids[index])
    }

    fn removing(&mut self, list: List<'_>, position: usize) {
        if self.last.at == list.ids.get(position).copied() {
            self.last = match position.checked_sub(1) {
                Some(before) => Cursor::at(list, before),
                None => Cursor::default(),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::sched::testing::Bench;

    #[test]
    fn printed_sequences() {
        Bench::new("rr", &[1, 1, 1]).expect("3 2 1 3 2 1 3");
        Bench::new("rr", &[1, 0, 1]).expect("3 1 3 1");
        Bench::new("rr", &[5, 1]).expect("2 1 2 1");
        Bench::new("rr", &[]).expect("none none");
        Bench::new("rr", &[0, 0]).expect("none none");
        Bench::new("rr", &[1]).expect("1 1");
    }

    #[test]
    fn deleting_the_last_choice_steps_back() {
        let mut bench = Bench::new("rr", &[1, 1, 1]);
        bench.expect("3 2");
        bench.delete(2);
        bench.expect("1 3 1 3");
        let mut bench = Bench::new("rr", &[1, 1, 1]);
        bench.expect("3");
        bench.delete(3);
        bench.expect("2 1 2");
    }

    #[test]
    fn deleting_another_changes_no_turn() {
        let mut bench = Bench::new("rr", &[1, 1, 1, 1]);
        bench.expect("4 3");
        bench.delete(4);
        bench.expect("2 1 3 2");
        bench.delete(3);
        bench.expect("1 2");
    }

    #[test]
    fn a_newcomer_waits_for_the_wrap() {
        let mut bench = Bench::new("rr", &[1, 1, 1]);
        bench.expect("3");
        bench.add(1);
        bench.expect("2 1 4 3 2 1");
    }

    #[test]
    fn the_overloaded_are_passed_over_until_relieved() {
        let mut bench = Bench::new("rr", &[1, 1]);
        bench.edit_thresholds(1, 1, 4, 2);
        bench.expect("2 1 2 1 2 1 2 1 2 2 2 2");
        bench.disconnect(1, 2);
        bench.expect("2 2");
        bench.disconnect(1, 1);
        bench.expect("1 2");
    }

    #[test]
    fn an_edit_keeps_the_turn() {
        let mut bench = Bench::new("rr", &[1, 1, 1]);
        bench.expect("3");
        bench.edit(2, 0);
        bench.expect("1 3 1");
        bench.edit(2, 1);
        bench.expect("3 2 1");
    }
}
