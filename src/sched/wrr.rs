//! `wrr`, weighted round robin: rounds with a falling bar; a destination takes part while its weight reaches the bar
//! (`net/netfilter/ipvs/ip_vs_wrr.c`).
//!
//! The bar falls from the largest weight in steps of the greatest common divisor of all weights. The largest is
//! counted less by the divisor minus one, so that the last round has the bar at 1.

use crate::sched::{Cursor, greatest_common_divisor};
use crate::service::scheduler::List;
use crate::service::{DestinationId, Flow, Scheduler};

/// State: the last choice and the bar.
#[derive(Clone)]
pub(super) struct WeightedRoundRobin {
    last: Cursor,
    bar: i32,
    highest_bar: i32,
    step: i32,
    started: bool,
}

impl Default for WeightedRoundRobin {
    fn default() -> Self {
        Self { last: Cursor::default(), bar: 0, highest_bar: 0, step: 1, started: false }
    }
}

impl WeightedRoundRobin {
    fn measure(&mut self, list: List<'_>) {
        let weights = || list.iter().map(|(_, destination)| destination.weight()).filter(|&weight| weight > 0);
        self.step = weights().fold(0, greatest_common_divisor).max(1);
        self.highest_bar = weights().max().unwrap_or(0) - (self.step - 1);
        self.last = Cursor::default();
    }

    /// Lowers the bar by all the steps of passes in which nobody would reach it: a heavy destination that is overloaded
    /// would cost one pass for each unit of its weight.
    fn skip_idle_passes(&mut self, list: List<'_>) {
        let usable = list.iter().filter(|(_, destination)| !destination.is_overloaded());
        let reached = usable.map(|(_, destination)| destination.weight()).max().unwrap_or(0).max(self.step);
        if self.bar > reached {
            let above = self.bar - reached;
            self.bar -= (above - 1) / self.step * self.step + self.step;
        }
    }

    fn changed(&mut self, list: List<'_>) {
        self.measure(list);
        if self.bar > self.highest_bar || self.bar == 0 {
            self.bar = self.highest_bar;
        } else if self.step > 1 {
            self.bar = self.bar / self.step * self.step + 1;
        }
    }
}

impl Scheduler for WeightedRoundRobin {
    fn name(&self) -> &'static str {
        "wrr"
    }

    fn copy(&self) -> Box<dyn Scheduler> {
        Box::new(self.clone())
    }

    fn reason(&self, list: List<'_>, _flow: &Flow) -> String {
        if self.highest_bar <= 0 {
            return "no weight is above 0".to_owned();
        }
        let place = match self.last.index(list) {
            Some(last) => format!("the next after {}", list.name(list.ids[last])),
            None => "the first".to_owned(),
        };
        format!(
            "{place} whose weight reaches the bar, which stands at {} and falls by {} from {} with each pass",
            self.bar, self.step, self.highest_bar
        )
    }

    fn bound(&mut self, list: List<'_>) {
        // New flags for a service that keeps its scheduler are no new start.
        if !self.started {
            self.started = true;
            self.measure(list);
            self.bar = self.highest_bar;
        }
    }

    fn added(&mut self, list: List<'_>, _id: DestinationId) {
        self.changed(list);
    }

    fn removed(&mut self, list: List<'_>, _id: DestinationId) {
        self.changed(list);
    }

    fn edited(&mut self, list: List<'_>, _id: DestinationId) {
        self.changed(list);
    }

    fn pick(&mut self, list: List<'_>, _flow: &Flow) -> Option<DestinationId> {
        if self.highest_bar <= 0 {
            return None;
        }
        let start = self.last.index(list);
        let mut stop = None;
        let mut last_pass = false;
        let mut restarted = false;
        let mut next = start.map_or(0, |start| start + 1);
        // Ends: the bar falls with each pass, and after it has been at its lowest for the whole list the walk stops.
        loop {
            for index in next..list.ids.len() {
                let destination = list.table.get(list.ids[index]);
                if !destination.is_overloaded() && destination.weight() >= self.bar {
                    self.last = Cursor::at(list, index);
                    return Some(list.ids[index]);
                }
                if stop == Some(index) {
                    self.last = Cursor::at(list, index);
                    return None;
                }
            }
            self.bar -= self.step;
            if self.bar <= 0 {
                self.bar = self.highest_bar;
                if last_pass || start.is_none() {
                    self.last = Cursor::default();
                    return None;
                }
                restarted = true;
            }
            self.skip_idle_passes(list);
            last_pass = self.bar <= self.step;
            if last_pass && restarted {
                stop = start;
            }
            next = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sched::testing::Bench;

    #[test]
    fn printed_sequences() {
        Bench::new("wrr", &[4, 3, 2]).expect("3 2 1 1 2 1 3 2 1 3 2 1 1 2 1 3 2 1");
        Bench::new("wrr", &[1, 2, 4]).expect("3 2 1 3 3 3 2 3 2 1 3 3 3 2");
        Bench::new("wrr", &[2, 4, 6]).expect("3 2 1 3 3 2 3 2 1 3 3 2");
        Bench::new("wrr", &[5, 0, 1]).expect("3 1 1 1 1 1 3 1 1 1 1 1");
        Bench::new("wrr", &[]).expect("none none");
        Bench::new("wrr", &[0, 0]).expect("none none");
    }

    /// Nobody reaches the bar for two milliards of passes.
    #[test]
    fn an_overloaded_heavy_destination_costs_no_time() {
        let mut bench = Bench::new("wrr", &[2, 1, 0]);
        bench.edit_thresholds(3, 2_000_000_000, 1, 0);
        bench.connect(3, 1, 0);
        bench.expect("2 1 1 2 1 1");
    }

    #[test]
    fn printed_sequences_after_an_edit() {
        let mut bench = Bench::new("wrr", &[4, 3, 2]);
        bench.expect("3 2 1 1");
        bench.edit(3, 5);
        bench.expect("3 1 3 2 1 3 2 1 3 2 1 3");
        let mut bench = Bench::new("wrr", &[4, 3, 2]);
        bench.expect("3 2 1 1");
        bench.edit(1, 0);
        bench.expect("2 3 2 3 2 2 3 2 3 2");
    }

    /// The trace: create, then add 4, 3 and 2: step 1 4 1 1, highest bar 0 1 4 4, bar 0 1 1 1; then the bar of
    /// each choice.
    #[test]
    fn printed_trace() {
        let table = crate::service::Destinations::default();
        let mut ids = Vec::new();
        let mut wrr = WeightedRoundRobin::default();
        let flags = crate::service::SchedulerFlags(0);
        wrr.bound(List { ids: &ids, table: &table, flags });
        assert_eq!((wrr.step, wrr.highest_bar, wrr.bar), (1, 0, 0));
        for (number, weight, expected) in [(1, 4, (4, 1, 1)), (2, 3, (1, 4, 1)), (3, 2, (1, 4, 1))] {
            let id = DestinationId(number);
            table.make(id).set_weight(weight);
            ids.insert(0, id);
            wrr.added(List { ids: &ids, table: &table, flags }, id);
            assert_eq!((wrr.step, wrr.highest_bar, wrr.bar), expected, "after {number}");
        }
        let list = List { ids: &ids, table: &table, flags };
        let flow = crate::service::Flow {
            source: crate::base::Address::v4(1),
            source_port: 1,
            destination: crate::base::Address::v4(2),
            destination_port: 80,
            protocol: None,
            now: crate::base::Instant::default(),
        };
        let trace: Vec<_> = (0..13).map(|_| (wrr.pick(list, &flow).unwrap().0, wrr.bar)).collect();
        let expected = [
            [(3, 1), (2, 1), (1, 1)].as_slice(),
            &[(1, 4)],
            &[(2, 3), (1, 3)],
            &[(3, 2), (2, 2), (1, 2)],
            &[(3, 1), (2, 1), (1, 1)],
            &[(1, 4)],
        ];
        assert_eq!(trace, expected.concat());
    }

    #[test]
    fn the_overloaded_are_passed_over() {
        let mut bench = Bench::new("wrr", &[1, 3]);
        bench.edit_thresholds(2, 3, 1, 0);
        assert!(bench.picks(2).contains('2'));
        bench.expect("1 1 1 1");
        bench.edit_thresholds(1, 1, 1, 0);
        bench.edit_thresholds(1, 0, 1, 0);
        bench.expect("none none none");
        bench.edit(1, 1);
        bench.expect("1 none none");
        bench.disconnect(2, 1);
        bench.expect("2 none");
    }

    /// Over a whole number of rounds each destination is chosen in proportion to its weight.
    #[test]
    fn shares_follow_the_weights() {
        let mut bench = Bench::new("wrr", &[7, 2, 5]);
        bench.picks(3);
        let picks = bench.picks(14 * 20);
        for (name, weight) in [("1", 7), ("2", 2), ("3", 5)] {
            assert_eq!(picks.split(' ').filter(|&pick| pick == name).count(), weight * 20, "{name}");
        }
    }
}
