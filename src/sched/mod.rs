//! Schedulers: which destination a new connection gets. One file a scheduler, named as in the kernel.
//!
//! To add one: a file here, its `mod` line and its row in the table `SCHEDULERS`.
//!
//! Sequences are those of Linux 6.1 (`net/netfilter/ipvs/ip_vs_*.c`); lists run from the destination added last to
//! the one added first.
//!
//! **Invariant**: a scheduler sees destinations and the packet's [`Flow`], never the
//! connection table.

mod cache;
mod dh;
mod fo;
mod hash;
mod lblc;
mod lblcr;
mod lc;
mod mh;
mod nq;
mod ovf;
mod rr;
mod sed;
mod sh;
mod tournament;
mod twos;
mod wlc;
mod wrr;

#[cfg(test)]
mod testing;

use std::sync::Arc;

use crate::base::Family;
use crate::service::scheduler::List;
use crate::service::sysctl::Sysctls;
use crate::service::{Destination, DestinationId, Flow, Scheduler, SchedulerFlags};

/// What a scheduler is made for.
#[derive(Clone)]
pub struct Context {
    /// The service's family.
    pub family: Family,
    /// Knobs, read as they are at the moment.
    pub sysctls: Arc<Sysctls>,
    /// What the scheduler's chance comes from.
    pub seed: u64,
}

/// IPv4, with all knobs at their defaults.
impl Default for Context {
    fn default() -> Self {
        Self { family: Family::V4, sysctls: Arc::default(), seed: 0 }
    }
}

/// Makes a scheduler with fresh state.
type Make = fn(&Context) -> Box<dyn Scheduler>;

/// All schedulers by the kernel's name.
const SCHEDULERS: &[(&str, Make)] = &[
    ("dh", |context| Box::new(dh::DestinationHashing::new(context.family))),
    ("fo", |_| Box::new(fo::WeightedFailover::default())),
    ("lblc", |context| Box::new(lblc::LocalityBased::new(context))),
    ("lblcr", |context| Box::new(lblcr::LocalityBasedReplicated::new(context))),
    ("lc", |_| Box::new(lc::LeastConnections::default())),
    ("mh", |context| Box::new(mh::MaglevHashing::new(context.family))),
    ("nq", |_| Box::new(nq::NeverQueue::default())),
    ("ovf", |_| Box::new(ovf::WeightedOverflow::default())),
    ("rr", |_| Box::new(rr::RoundRobin::default())),
    ("sed", |_| Box::new(sed::ShortestExpectedDelay::default())),
    ("sh", |context| Box::new(sh::SourceHashing::new(context.family))),
    ("twos", |context| Box::new(twos::TwoChoices::new(context.seed))),
    ("wlc", |_| Box::new(wlc::WeightedLeastConnections::default())),
    ("wrr", |_| Box::new(wrr::WeightedRoundRobin::default())),
];

/// A scheduler with fresh state; `None` for a name that is not known. The name `none`, which gives every connection
/// no destination, is no scheduler: [`Scheduling`](crate::service::Scheduling) says it by having none.
pub fn by_name(name: &str, context: &Context) -> Option<Box<dyn Scheduler>> {
    SCHEDULERS.iter().find(|(known, _)| *known == name).map(|(_, make)| make(context))
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

/// [`overhead`] in words.
fn overhead_in_words(destination: &Destination) -> String {
    format!("256·active + inactive = {}", overhead(destination))
}

/// [`overhead`] for its weight, in words.
fn weighted_overhead_in_words(destination: &Destination) -> String {
    by_weight_in_words("256·active + inactive", i64::from(overhead(destination).cast_signed()), destination)
}

/// A cost for a destination's weight, in words.
fn by_weight_in_words(name: &str, cost: i64, destination: &Destination) -> String {
    match destination.weight() {
        weight if weight > 0 => {
            let share = (cost as f64 / f64::from(weight) * 100.0).round() / 100.0;
            format!("({name}) / weight = {cost} / {weight} = {share}")
        }
        _ => format!("{name} = {cost}"),
    }
}

/// What stands in a bucket, in words that follow its number.
fn bucket_in_words(list: List<'_>, id: DestinationId) -> String {
    match id {
        DestinationId::NONE => ", which is empty".to_owned(),
        id if list.table.get(id).is_usable() => format!(": {}", list.name(id)),
        id => format!(": {}, which is not usable", list.name(id)),
    }
}

/// Which part of the client a hash is taken of, in words.
fn client_in_words(list: List<'_>, flow: &Flow) -> String {
    match client_port(list, flow) {
        0 => format!("client {}", flow.source),
        port => format!("client {} and its port {port}", flow.source),
    }
}

/// What becomes of a client whose bucket gives no usable destination, in words.
fn fallback_in_words(list: List<'_>) -> &'static str {
    if list.flags.has(SchedulerFlags::FLAG_1) {
        "; when it is not usable, the next bucket that is (fallback)"
    } else {
        "; when it is not usable, none (no fallback flag)"
    }
}

/// The client's port where the flags say that it counts (flag-2) and the protocol has ports, else 0.
fn client_port(list: List<'_>, flow: &Flow) -> u32 {
    let counts = list.flags.has(SchedulerFlags::FLAG_2) && flow.protocol.is_some();
    if counts { u32::from(flow.source_port) } else { 0 }
}

/// True when a destination has more active connections than its weight while another one of the list has less than
/// half (`is_overloaded` of `ip_vs_lblc.c` and `ip_vs_lblcr.c`).
fn is_overcharged(destination: &Destination, list: List<'_>) -> bool {
    let load = |destination: &Destination| (i64::from(destination.active()), i64::from(destination.weight()));
    let (active, weight) = load(destination);
    let has_room = |(active, weight): (i64, i64)| active * 2 < weight;
    active > weight && list.iter().any(|(_, other)| has_room(load(other)))
}

/// 0 and a number have that number.
fn greatest_common_divisor(mut a: i32, mut b: i32) -> i32 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
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
    use crate::base::Lock;

    #[test]
    fn schedulers_are_found_by_the_name_they_give() {
        for name in names() {
            assert_eq!(by_name(name, &Context::default()).unwrap().name(), name);
        }
        assert!(names().is_sorted());
        assert!(by_name("none", &Context::default()).is_none());
        assert!(by_name("", &Context::default()).is_none());
    }

    /// Many workers at once take turns: each destination gets exactly its share, and no connection is lost count of.
    #[test]
    fn shares_are_exact_however_many_workers_pick() {
        const WORKERS: u32 = 4;
        const PICKS: u32 = 6000;
        for (name, shares) in [("rr", [8000, 8000, 8000]), ("wrr", [4000, 8000, 12000]), ("wlc", [4000, 8000, 12000])] {
            let bench = Lock::new(testing::Bench::new(name, &[1, 2, 3]));
            std::thread::scope(|scope| {
                for _ in 0..WORKERS {
                    scope.spawn(|| (0..PICKS).for_each(|_| assert!(bench.lock().pick().is_some())));
                }
            });
            let bench = bench.lock();
            let active = |n: u32| bench.table.get(DestinationId(n)).active();
            assert_eq!([1, 2, 3].map(active), shares, "{name}");
        }
    }

    /// Whatever came before, what is foretold comes true, and foretelling changes nothing.
    #[test]
    fn what_is_foretold_is_picked() {
        for (number, name) in names().enumerate() {
            for v6 in [false, true] {
                let mut rng = crate::base::Rng::new(number as u64 + 40);
                let family = if v6 { Family::V6 } else { Family::V4 };
                let context = Context { family, seed: 11, ..Context::default() };
                context.sysctls.write("lblcr_expiration", "3").unwrap();
                let flags = SchedulerFlags(rng.below(4) as u8);
                let mut bench = testing::Bench::with_scheduler(by_name(name, &context).unwrap(), flags, &[1, 2]);
                let mut alive = vec![1, 2];
                for step in 0..400 {
                    history(&mut bench, &mut alive, &mut rng);
                    let address = |rng: &mut crate::base::Rng| match family {
                        Family::V4 => crate::base::Address::v4(0x0a01_0000 + rng.below(5)),
                        Family::V6 => crate::base::Address::v6(0xfd00 << 112 | u128::from(rng.below(5))),
                    };
                    let flow = Flow {
                        source: address(&mut rng),
                        source_port: rng.below(3) as u16,
                        destination: address(&mut rng),
                        destination_port: 80,
                        protocol: Some(crate::service::Protocol::Tcp),
                        now: bench.now,
                    };
                    let foretold = bench.scheduling.peek(&bench.table, &flow);
                    assert_eq!(bench.scheduling.peek(&bench.table, &flow), foretold, "{name} step {step}: twice");
                    let scheduler = bench.scheduling.scheduler.as_ref().unwrap();
                    let list = List { ids: &bench.scheduling.ids, table: &bench.table, flags };
                    assert!(!scheduler.reason(list, &flow).is_empty());
                    let picked = bench.scheduling.pick(&bench.table, &flow);
                    assert_eq!(picked, foretold, "{name} step {step}");
                    if let Some(picked) = picked {
                        bench.connect(picked.0, rng.below(2), 1);
                    }
                }
            }
        }
    }

    /// Something that happens to a service.
    fn history(bench: &mut testing::Bench, alive: &mut Vec<u32>, rng: &mut crate::base::Rng) {
        let one = alive.get(rng.below(alive.len().max(1) as u32) as usize).copied();
        match (rng.below(8), one) {
            (0, _) if alive.len() < 6 => {
                bench.add(rng.below(5) as i32);
                alive.push(bench.last());
            }
            (1, Some(n)) => bench.edit(n, rng.below(5) as i32),
            (2, Some(n)) => bench.edit_thresholds(n, rng.below(5) as i32, rng.below(30), 0),
            (3, Some(n)) if alive.len() > 1 => {
                bench.delete(n);
                alive.retain(|other| *other != n);
            }
            (4, _) => bench.wait(crate::base::Duration::from_secs(2)),
            (5, _) => bench.tick(),
            _ => {}
        }
    }
}
