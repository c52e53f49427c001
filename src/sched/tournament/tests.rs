//! The tournament beside a look at each of the list.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::base::Rng;
use crate::sched::testing::Bench;
use crate::sched::{least_by_weight, overhead};
use crate::service::Destinations;

/// Those who choose by a tournament.
const NAMES: [&str; 6] = ["wlc", "lc", "sed", "nq", "fo", "ovf"];

/// What `name` picks, by a look at each of the list.
fn scan(name: &str, list: List<'_>) -> Option<u32> {
    let usable = || list.iter().filter(|(_, destination)| destination.is_usable());
    let heaviest = |best: (DestinationId, i32), next: (DestinationId, i32)| if next.1 > best.1 { next } else { best };
    let delay = |destination: &Destination| destination.active().cast_signed() + 1;
    let idle = || usable().find(|(_, destination)| destination.active() == 0).map(|(id, _)| id);
    let id = match name {
        "wlc" => least_by_weight(list.iter(), |destination| overhead(destination).cast_signed()),
        "lc" => usable().min_by_key(|(_, destination)| overhead(destination)).map(|(id, _)| id),
        "sed" => least_by_weight(list.iter(), delay),
        "nq" => idle().or_else(|| least_by_weight(list.iter(), delay)),
        "fo" => usable().map(|(id, destination)| (id, destination.weight())).reduce(heaviest).map(|(id, _)| id),
        "ovf" => {
            let with_room =
                usable().filter(|(_, destination)| i64::from(destination.active()) <= i64::from(destination.weight()));
            with_room.map(|(id, destination)| (id, destination.weight())).reduce(heaviest).map(|(id, _)| id)
        }
        _ => panic!("{name} is not known here"),
    };
    id.map(|id| id.0)
}

fn list(bench: &Bench) -> List<'_> {
    List { ids: &bench.scheduling.ids, table: &bench.table, flags: bench.scheduling.flags }
}

/// A service of `count` destinations at work, step by step.
struct History {
    bench: Bench,
    rng: Rng,
    listed: Vec<u32>,
    deleted: Vec<u32>,
}

impl History {
    fn new(name: &str, count: u32, seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let weights: Vec<i32> = (0..count).map(|_| Self::weight(&mut rng)).collect();
        Self { bench: Bench::new(name, &weights), rng, listed: (1..=count).collect(), deleted: Vec::new() }
    }

    /// Mostly small, so that there are equals; sometimes none, sometimes the largest.
    fn weight(rng: &mut Rng) -> i32 {
        match rng.below(20) {
            0 => i32::MAX,
            1..=3 => 0,
            _ => 1 + rng.below(4) as i32,
        }
    }

    fn one(&mut self, of: fn(&mut Self) -> &mut Vec<u32>) -> Option<usize> {
        let count = of(self).len() as u32;
        (count > 0).then(|| self.rng.below(count) as usize)
    }

    fn step(&mut self) {
        let Some(place) = self.one(|history| &mut history.listed) else { return self.bring() };
        let n = self.listed[place];
        let (weight, draw) = (Self::weight(&mut self.rng), self.rng.below(100));
        match draw {
            0..20 => self.bench.connect(n, self.rng.below(2), self.rng.below(3)),
            20..50 => self.end(n),
            50..70 => self.turn(n),
            70..75 => self.bench.edit(n, weight),
            75..80 => {
                let (upper, lower) = (self.rng.below(6), self.rng.below(3));
                self.bench.edit_thresholds(n, weight, upper, lower);
            }
            80..83 => {
                self.bench.delete(n);
                self.deleted.push(self.listed.swap_remove(place));
            }
            83..88 => self.bring(),
            // A connection of one that is no longer listed.
            88..92 => {
                if let Some(place) = self.one(|history| &mut history.deleted) {
                    self.end(self.deleted[place]);
                }
            }
            _ => {
                let id = DestinationId(n);
                self.bench.table.bind(id, true);
                self.bench.table.unbind(id, true, false);
            }
        }
    }

    /// A connection of `n`, if it has one, ends.
    fn end(&mut self, n: u32) {
        let destination = self.bench.table.get(DestinationId(n));
        let (active, inactive) = (destination.active(), destination.inactive());
        if active + inactive > 0 {
            let was_inactive = self.rng.below(active + inactive) < inactive;
            self.bench.table.unbind(DestinationId(n), false, was_inactive);
        }
    }

    /// A connection of `n`, if it has one, becomes active or inactive.
    fn turn(&mut self, n: u32) {
        let destination = self.bench.table.get(DestinationId(n));
        let (active, inactive) = (destination.active(), destination.inactive());
        if active + inactive > 0 {
            let now_active = self.rng.below(active + inactive) < inactive;
            self.bench.table.count_active(DestinationId(n), now_active);
        }
    }

    /// A new destination, or one that was deleted.
    fn bring(&mut self) {
        match self.one(|history| &mut history.deleted) {
            Some(place) if self.rng.below(2) == 0 => {
                let n = self.deleted.swap_remove(place);
                self.bench.add_again(n);
                self.listed.push(n);
            }
            _ => {
                self.bench.add(Self::weight(&mut self.rng));
                self.listed.push(self.bench.last());
            }
        }
    }
}

#[test]
fn the_least_is_picked_whatever_happens() {
    for (number, name) in (0..).zip(NAMES) {
        for (count, picks) in [(0, 100), (1, 500), (2, 500), (3, 500), (7, 1000), (64, 2000), (200, 3000)] {
            let mut history = History::new(name, count, 100 * number + u64::from(count));
            let mut none = 0;
            for pick in 0..picks {
                for _ in 0..history.rng.below(5) {
                    history.step();
                }
                let expected = scan(name, list(&history.bench));
                assert_eq!(history.bench.pick(), expected, "{name}, {count} at first, pick {pick}");
                none += u32::from(expected.is_none());
            }
            assert!(none < picks / 2 || count < 3, "{name}, {count} at first: something could be picked");
        }
    }
}

/// Numbers far apart and in no order, as those of cells that are used again.
#[test]
fn numbers_need_no_order() {
    let mut rng = Rng::new(5);
    let table = Destinations::default();
    let ids: Vec<DestinationId> = (0..150).map(|n| DestinationId(n * 7919 % 150 * 37 + 1)).collect();
    for &id in &ids {
        table.make(id).set_weight(1 + rng.below(3) as i32);
    }
    let list = List { ids: &ids, table: &table, flags: crate::service::SchedulerFlags(0) };
    let mut tournament = Tournament::default();
    for _ in 0..4000 {
        let id = ids[rng.below(150) as usize];
        if table.get(id).inactive() > 0 && rng.below(3) > 0 {
            table.unbind(id, false, true);
        }
        let picked = tournament.pick(list, cost);
        assert_eq!(picked.map(|id| id.0), scan("wlc", list));
        table.bind(picked.unwrap(), false);
    }
}

fn cost(destination: &Destination) -> Load {
    Load::by_weight(destination, overhead(destination).cast_signed())
}

/// 256 · 2^23 connections: the kernel's sum is signed, and what is most loaded becomes least, be it by one that becomes
/// active or by one that comes.
#[test]
fn a_load_that_wraps_is_noticed() {
    for (inactive, by_active) in [(1, true), (255, false)] {
        let mut bench = Bench::new("wlc", &[1, 1]);
        bench.connect(1, (1 << 23) - 1, inactive);
        bench.connect(2, 1, 0);
        bench.expect("2");
        match by_active {
            true => bench.table.count_active(DestinationId(1), true),
            false => bench.table.bind(DestinationId(1), false),
        }
        assert_eq!(scan("wlc", list(&bench)), Some(1));
        bench.expect("1");
    }
}

#[test]
fn a_pick_looks_at_few() {
    let weights = [1; 200];
    let bench = Bench::new("rr", &weights);
    let mut tournament = Tournament::default();
    let looks = Cell::new(0);
    let mut pick = || {
        let before = looks.get();
        let counted = |destination: &Destination| {
            looks.set(looks.get() + 1);
            cost(destination)
        };
        let picked = tournament.pick(list(&bench), counted);
        (picked.map(|id| id.0), looks.get() - before)
    };
    assert_eq!(pick(), (Some(200), 201), "it is built");
    assert_eq!(pick(), (Some(200), 1), "nothing has changed");
    let (bind, unbind) =
        (|n| bench.table.bind(DestinationId(n), false), |n: u32| bench.table.unbind(DestinationId(n), false, true));
    bind(200);
    assert_eq!(pick(), (Some(199), 2), "the one that was picked, and the next");
    bind(3);
    assert_eq!(pick(), (Some(199), 1), "what is more loaded is no matter");
    unbind(200);
    assert_eq!(pick(), (Some(200), 2), "the one that was lowered, and the winner");
    (1..=100).for_each(bind);
    (1..=100).for_each(unbind);
    assert_eq!(pick().1, 101, "all that were lowered, and the winner");
    assert_eq!(pick().1, 1);
}

/// Loads that never stand still: a pick has an end, and answers.
#[test]
fn a_pick_has_an_end() {
    let bench = Bench::new("rr", &[1; 8]);
    let mut tournament = Tournament::default();
    let looks = Cell::new(0);
    let rising = |destination: &Destination| {
        looks.set(looks.get() + 1);
        Load::plain(destination, looks.get())
    };
    assert!(tournament.pick(list(&bench), rising).is_some());
    assert_eq!(looks.get(), 8 + 8 * LOOKS_PER_LEAF as i64);
}

/// Two workers begin and end connections while another picks. Once they are still, the least is picked.
#[test]
fn nothing_lowered_meanwhile_is_missed() {
    const ROUNDS: u64 = 200;
    const COUNT: u32 = 5;
    for round in 0..ROUNDS {
        let mut bench = Bench::new("wlc", &[1; COUNT as usize]);
        (1..=COUNT).for_each(|n| bench.connect(n, 3, 3));
        let (table, scheduling, done) = (&bench.table, &mut bench.scheduling, AtomicBool::new(false));
        std::thread::scope(|scope| {
            let workers = [1, 2].map(|worker| {
                scope.spawn(move || {
                    let mut rng = Rng::new(2 * round + worker);
                    for _ in 0..200 {
                        let id = DestinationId(1 + rng.below(COUNT));
                        table.bind(id, false);
                        table.count_active(id, true);
                        table.count_active(id, false);
                        table.unbind(id, false, true);
                    }
                    // One of those that were there from the start ends.
                    table.unbind(DestinationId(1 + rng.below(COUNT)), false, true);
                })
            });
            let done = &done;
            scope.spawn(move || {
                let flow = crate::service::Flow {
                    source: crate::base::Address::v4(1),
                    source_port: 1,
                    destination: crate::base::Address::v4(2),
                    destination_port: 80,
                    protocol: None,
                    now: crate::base::Instant::default(),
                };
                while !done.load(Ordering::Acquire) {
                    assert!(scheduling.pick(table, &flow).is_some());
                }
            });
            workers.into_iter().for_each(|worker| worker.join().unwrap());
            done.store(true, Ordering::Release);
        });
        for _ in 0..10 {
            let expected = scan("wlc", list(&bench));
            assert_eq!(bench.pick(), expected, "round {round}");
        }
    }
}
