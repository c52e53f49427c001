//! `twos`, weighted random twos choice: two destinations are drawn by weight, the one with the smaller overhead for
//! its weight wins (`net/netfilter/ipvs/ip_vs_twos.c`).

use crate::base::Rng;
use crate::sched::{overhead, weighted_overhead_in_words};
use crate::service::scheduler::List;
use crate::service::{Destination, DestinationId, Flow, Scheduler};

/// State: what the draws come from.
pub(super) struct TwoChoices {
    rng: Rng,
}

impl TwoChoices {
    pub(super) const fn new(seed: u64) -> Self {
        Self { rng: Rng::new(seed) }
    }

    /// A number from 0 to `total`, both included.
    fn draw(&mut self, total: i32) -> i32 {
        // Sums of weights wrap as the kernel's 32 bits do; a limit of 0 gives 0 there.
        let limit = total.wrapping_add(1).cast_unsigned().max(1);
        self.rng.below(limit).cast_signed()
    }
}

impl Scheduler for TwoChoices {
    fn name(&self) -> &'static str {
        "twos"
    }

    fn copy(&self) -> Box<dyn Scheduler> {
        Box::new(Self { rng: self.rng.clone() })
    }

    fn load(&self, destination: &Destination) -> Option<String> {
        Some(weighted_overhead_in_words(destination))
    }

    fn reason(&self, _list: List<'_>, _flow: &Flow) -> String {
        "of two that are drawn by weight the one with the smaller (256·active + inactive connections) / weight"
            .to_owned()
    }

    fn pick(&mut self, list: List<'_>, _flow: &Flow) -> Option<DestinationId> {
        let usable = || list.iter().filter(|(_, destination)| destination.is_usable());
        let mut total = 0_i32;
        let mut last = None;
        for (id, destination) in usable() {
            total = total.wrapping_add(destination.weight());
            last = Some(id);
        }
        let last = last?;
        let mut left = [self.draw(total), self.draw(total)];
        let mut choices: [Option<(DestinationId, &Destination)>; 2] = [None; 2];
        for (id, destination) in usable() {
            for (left, choice) in left.iter_mut().zip(&mut choices) {
                *left = left.wrapping_sub(destination.weight());
                if *left <= 0 && choice.is_none() {
                    *choice = Some((id, destination));
                }
            }
            if let [Some(first), Some(second)] = choices {
                return Some(better(first, second));
            }
        }
        // A weight changed under the walk, or the sum wrapped.
        Some(choices[0].or(choices[1]).map_or(last, |(id, _)| id))
    }
}

/// The second when its overhead for its weight is smaller; products wrap as the kernel's 32 bits do.
fn better(first: (DestinationId, &Destination), second: (DestinationId, &Destination)) -> DestinationId {
    let cost = |of: &Destination, other: &Destination| other.weight().wrapping_mul(overhead(of).cast_signed());
    if cost(first.1, second.1) > cost(second.1, first.1) { second.0 } else { first.0 }
}

#[cfg(test)]
mod tests {
    use crate::sched::testing::Bench;

    fn shares(bench: &mut Bench, draws: usize) -> [usize; 3] {
        let picks = bench.picks(draws);
        ["1", "2", "3"].map(|name| picks.split(' ').filter(|&pick| pick == name).count())
    }

    #[test]
    fn one_or_none_leave_no_choice() {
        Bench::new("twos", &[]).expect("none");
        Bench::new("twos", &[0, 0]).expect("none");
        Bench::new("twos", &[0, 7, 0]).expect("2 2 2 2 2 2");
        Bench::new("twos", &[i32::MAX]).expect("1 1 1 1 1 1");
    }

    #[test]
    fn the_same_seed_draws_the_same() {
        let picks = Bench::new("twos", &[1, 2, 3]).picks(200);
        assert_eq!(Bench::new("twos", &[1, 2, 3]).picks(200), picks);
        assert!(["1", "2", "3"].iter().all(|name| picks.contains(name)), "{picks}");
    }

    /// Connections stay: two choices keep the loads together by weight.
    #[test]
    fn loads_follow_the_weights() {
        let [one, two, three] = shares(&mut Bench::new("twos", &[1, 2, 3]), 3000);
        assert!(one.abs_diff(500) < 100 && two.abs_diff(1000) < 100 && three.abs_diff(1500) < 100);
    }

    #[test]
    fn of_two_the_less_loaded_wins() {
        let mut bench = Bench::new("twos", &[100, 100]);
        bench.connect(1, 10_000, 0);
        let [one, two, _] = shares(&mut bench, 1000);
        // The loaded one only when it was drawn twice.
        assert!((200..300).contains(&one) && two > 700, "{one} {two}");
    }

    #[test]
    fn the_overloaded_and_the_quiesced_are_not_drawn() {
        let mut bench = Bench::new("twos", &[1, 1, 1]);
        bench.edit_thresholds(1, 1, 1, 0);
        bench.connect(1, 0, 1);
        bench.edit(2, 0);
        bench.expect("3 3 3 3 3 3 3 3");
    }

    #[test]
    fn sums_that_wrap_still_give_a_destination() {
        let mut bench = Bench::new("twos", &[i32::MAX, i32::MAX, 2, 1]);
        assert!(!bench.picks(100).contains("none"));
    }
}
