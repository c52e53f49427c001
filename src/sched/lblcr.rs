//! `lblcr`, locality-based least connections with replication: packets to one address go to the least loaded of a
//! set of destinations; when that is overcharged while another has room, the choice of `wlc` joins the set; a set
//! that has not changed for a while loses its most loaded member (`net/netfilter/ipvs/ip_vs_lblcr.c`).
//!
//! For limits see `cache.rs`; all sets of a service together have [`MEMBERS_MAX`] members at most, beyond which none
//! joins (the kernel stops where memory ends).

use std::sync::Arc;

use crate::base::{Duration, Instant};
use crate::sched::cache::{Cache, ENTRIES_MAX, PERIOD, deadline};
use crate::sched::{Context, is_overcharged, least_by_weight, overhead, weighted_overhead_in_words, wlc};
use crate::service::scheduler::List;
use crate::service::sysctl::{Knob, Sysctls};
use crate::service::{Destination, DestinationId, Destinations, Flow, Scheduler};

/// Members of all sets of a service.
const MEMBERS_MAX: usize = 4 * ENTRIES_MAX;
const NO_MEMBER: u32 = u32::MAX;

/// The destinations of an address, as a list in [`Members`]: the newest first.
#[derive(Clone, Copy, Debug)]
struct Set {
    first: u32,
    last_modified: Instant,
}

#[derive(Clone, Copy)]
struct Member {
    id: DestinationId,
    /// In the set, or in the list of free members.
    next: u32,
}

/// The members of all sets. Every one holds its destination, so that its number stays true.
#[derive(Clone)]
struct Members {
    members: Vec<Member>,
    first_free: u32,
}

impl Members {
    const fn new() -> Self {
        Self { members: Vec::new(), first_free: NO_MEMBER }
    }

    fn ids(&self, set: Set) -> impl Iterator<Item = DestinationId> {
        let member = |at: u32| self.members.get(at as usize);
        std::iter::successors(member(set.first), move |last| member(last.next)).map(|member| member.id)
    }

    /// Lets a destination join; nothing happens when it is in, or when there is no room.
    fn join(&mut self, set: &mut Set, id: DestinationId, table: &Destinations, now: Instant) {
        if self.ids(*set).any(|other| other == id) {
            return;
        }
        let member = Member { id, next: set.first };
        let at = match self.first_free {
            NO_MEMBER if self.members.len() >= MEMBERS_MAX => return,
            NO_MEMBER => {
                self.members.push(member);
                self.members.len() as u32 - 1
            }
            free => {
                self.first_free = std::mem::replace(&mut self.members[free as usize], member).next;
                free
            }
        };
        table.get(id).hold();
        *set = Set { first: at, last_modified: now };
    }

    /// Takes a destination out.
    fn leave(&mut self, set: &mut Set, id: DestinationId, table: &Destinations, now: Instant) {
        let mut before = None;
        let mut at = set.first;
        while at != NO_MEMBER && self.members[at as usize].id != id {
            (before, at) = (Some(at), self.members[at as usize].next);
        }
        if at == NO_MEMBER {
            return;
        }
        let after = self.members[at as usize].next;
        match before {
            None => set.first = after,
            Some(before) => self.members[before as usize].next = after,
        }
        set.last_modified = now;
        self.free(at, table);
    }

    /// Takes all out.
    fn dissolve(&mut self, set: Set, table: &Destinations) {
        let mut at = set.first;
        while at != NO_MEMBER {
            let next = self.members[at as usize].next;
            self.free(at, table);
            at = next;
        }
    }

    fn free(&mut self, at: u32, table: &Destinations) {
        let member = &mut self.members[at as usize];
        table.get(member.id).release();
        member.next = self.first_free;
        self.first_free = at;
    }
}

/// State: the set of each address.
pub(super) struct LocalityBasedReplicated {
    cache: Cache<Set>,
    members: Members,
    sysctls: Arc<Sysctls>,
}

impl LocalityBasedReplicated {
    pub(super) fn new(context: &Context) -> Self {
        Self {
            cache: Cache::new(context.family, context.seed),
            members: Members::new(),
            sysctls: Arc::clone(&context.sysctls),
        }
    }

    /// The least loaded usable member.
    fn least(&self, set: Set, table: &Destinations) -> Option<DestinationId> {
        let members = self.members.ids(set).map(|id| (id, table.get(id)));
        let available = members.filter(|(_, destination)| destination.is_available());
        least_by_weight(available, |destination| overhead(destination).cast_signed())
    }

    /// The most loaded member, overloaded and deleted ones included.
    fn most(&self, set: Set, table: &Destinations) -> Option<DestinationId> {
        let load = |destination: &Destination| i64::from(overhead(destination).cast_signed());
        let members = self.members.ids(set).map(|id| (id, load(table.get(id)), i64::from(table.get(id).weight())));
        let heavier = |most: (DestinationId, i64, i64), next: (DestinationId, i64, i64)| {
            // load / weight compared without division.
            if most.1 * next.2 < next.1 * most.2 { next } else { most }
        };
        members.filter(|&(_, _, weight)| weight > 0).reduce(heavier).map(|(id, ..)| id)
    }
}

impl Scheduler for LocalityBasedReplicated {
    fn name(&self) -> &'static str {
        "lblcr"
    }

    fn copy(&self) -> Box<dyn Scheduler> {
        let (cache, members) = (self.cache.clone(), self.members.clone());
        Box::new(Self { cache, members, sysctls: Arc::clone(&self.sysctls) })
    }

    fn load(&self, destination: &Destination) -> Option<String> {
        Some(weighted_overhead_in_words(destination))
    }

    fn reason(&self, list: List<'_>, flow: &Flow) -> String {
        let address = flow.destination;
        let Some(set) = self.cache.peek(address) else {
            return format!("nothing is remembered of {address}: {}", wlc::LEAST_IN_WORDS);
        };
        let members: Vec<String> = self.members.ids(set).map(|id| list.name(id)).collect();
        let members = format!("the set of {address} is {}", members.join(", "));
        match self.least(set, list.table).filter(|&id| !is_overcharged(list.table.get(id), list)) {
            Some(id) => format!("{members}; its least loaded, {}, is not overcharged", list.name(id)),
            None => format!("{members}; none is usable, or it is overcharged: {}", wlc::LEAST_IN_WORDS),
        }
    }

    fn pick(&mut self, list: List<'_>, flow: &Flow) -> Option<DestinationId> {
        let Some(entry) = self.cache.find(flow.destination, flow.now) else {
            let id = wlc::least(list)?;
            if !self.cache.is_full() {
                let mut set = Set { first: NO_MEMBER, last_modified: flow.now };
                self.members.join(&mut set, id, list.table, flow.now);
                self.cache.insert(flow.destination, flow.now, set);
            }
            return Some(id);
        };
        let mut set = *self.cache.value(entry);
        let least = self.least(set, list.table);
        let unchanged_until = deadline(set.last_modified, self.sysctls.get(Knob::LblcrExpiration));
        if flow.now > unchanged_until
            && self.members.ids(set).nth(1).is_some()
            && let Some(most) = self.most(set, list.table)
        {
            self.members.leave(&mut set, most, list.table, flow.now);
            *self.cache.value(entry) = set;
        }
        if let Some(id) = least.filter(|&id| !is_overcharged(list.table.get(id), list)) {
            return Some(id);
        }
        let id = wlc::least(list)?;
        self.members.join(&mut set, id, list.table, flow.now);
        *self.cache.value(entry) = set;
        Some(id)
    }

    fn period(&self) -> Option<Duration> {
        Some(PERIOD)
    }

    fn tick(&mut self, list: List<'_>, now: Instant) -> bool {
        let seconds = self.sysctls.get(Knob::LblcrExpiration);
        self.cache.tick(now, seconds, |set| self.members.dissolve(set, list.table))
    }

    fn unbound(&mut self, table: &Destinations) {
        self.cache.clear(|set| self.members.dissolve(set, table));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sched::testing::Bench;
    use crate::service::SchedulerFlags;

    const ONE: &str = "10.9.0.1";
    const TWO: &str = "10.9.0.2";

    fn bench(expiration: &str, weights: &[i32]) -> Bench {
        let context = Context::default();
        context.sysctls.write("lblcr_expiration", expiration).unwrap();
        let lblcr = Box::new(LocalityBasedReplicated::new(&context));
        Bench::with_scheduler(lblcr, SchedulerFlags::default(), weights)
    }

    #[test]
    fn printed_sequences() {
        Bench::new("lblcr", &[1, 1, 1]).expect("3 3 2 2 1 1 1");
        Bench::new("lblcr", &[1, 2, 4]).expect("3 3 3 3 3 2 2 2 1 1 3 2 3 3");
        Bench::new("lblcr", &[1, 1, 1]).udp().expect("3 3 3 3 3 3");
        Bench::new("lblcr", &[0, 0]).expect("none");
        Bench::new("lblcr", &[]).expect("none");
    }

    #[test]
    fn each_address_has_its_set() {
        let mut bench = Bench::new("lblcr", &[9, 9]).udp();
        assert_eq!(bench.picks_to(&[ONE, TWO, ONE, ONE, TWO, TWO, TWO]), "2 1 2 2 1 1 1");
    }

    /// Unlike with `lblc` a member must not be overloaded.
    #[test]
    fn a_threshold_binds_every_choice() {
        let mut bench = Bench::new("lblcr", &[9, 9]);
        bench.edit_thresholds(2, 9, 1, 0);
        assert_eq!(bench.picks_to(&[ONE, ONE, TWO, ONE]), "2 1 1 1");
    }

    #[test]
    fn the_quiesced_and_the_deleted_are_passed_over() {
        let mut bench = Bench::new("lblcr", &[1, 1, 1]).udp();
        bench.expect("3 3");
        bench.edit(3, 0);
        bench.expect("2 2 2");
        bench.delete(2);
        bench.expect("1 1");
        // Still a member: the least loaded of the set again.
        bench.edit(3, 1);
        bench.connect(1, 0, 9);
        bench.expect("3");
    }

    /// A set that was not changed for the knob's time loses its most loaded member with the next packet.
    #[test]
    fn an_unchanged_set_shrinks() {
        let mut bench = bench("60", &[1, 1]);
        bench.expect("2 2 1");
        bench.disconnect(2, 2);
        bench.disconnect(1, 1);
        bench.connect(1, 0, 5);
        bench.wait(Duration::from_secs(60));
        bench.expect("2");
        assert!(bench.table.get(DestinationId(1)).is_held(), "not before the time has passed");
        bench.disconnect(2, 1);
        bench.wait(Duration::from_millis(10));
        bench.expect("2");
        assert!(!bench.table.get(DestinationId(1)).is_held());
        bench.wait(Duration::from_secs(61));
        bench.expect("2");
        assert!(bench.table.get(DestinationId(2)).is_held(), "the last one stays");
    }

    /// The member that leaves may be the one that was chosen: the packet goes there all the same.
    #[test]
    fn the_chosen_may_leave() {
        let mut bench = bench("0", &[1, 1]);
        bench.expect("2 2 1");
        bench.edit(1, 0);
        bench.wait(Duration::from_millis(10));
        bench.expect("2");
        assert!(!bench.table.get(DestinationId(2)).is_held());
        assert!(bench.table.get(DestinationId(1)).is_held());
    }

    #[test]
    fn unused_entries_go_by_the_knob() {
        let mut bench = bench("1800", &[1, 1]).udp();
        bench.expect("2 2");
        for _ in 0..29 {
            bench.wait(PERIOD);
            bench.tick();
        }
        assert!(bench.table.get(DestinationId(2)).is_held());
        bench.wait(PERIOD);
        bench.tick();
        assert!(!bench.table.get(DestinationId(2)).is_held());
        bench.expect("1");
        bench.scheduling.rebind(None, SchedulerFlags::default(), &bench.table);
        assert!(!bench.table.get(DestinationId(1)).is_held());
    }

    #[test]
    fn members_have_an_end_and_room_again() {
        let table = Destinations::default();
        for number in 1..=5 {
            table.make(DestinationId(number));
        }
        let mut members = Members::new();
        let now = Instant::START;
        let mut sets = [Set { first: NO_MEMBER, last_modified: now }; ENTRIES_MAX];
        for set in &mut sets {
            (1..=5).for_each(|number| members.join(set, DestinationId(number), &table, now));
        }
        assert_eq!(members.members.len(), MEMBERS_MAX);
        let size = |members: &Members, set: Set| members.ids(set).count();
        assert_eq!((size(&members, sets[0]), size(&members, sets[ENTRIES_MAX - 1])), (5, 0));
        members.leave(&mut sets[0], DestinationId(5), &table, now);
        members.leave(&mut sets[0], DestinationId(3), &table, now);
        assert!(members.ids(sets[0]).eq([4, 2, 1].map(DestinationId)));
        let last = &mut sets[ENTRIES_MAX - 1];
        (1..=5).for_each(|number| members.join(last, DestinationId(number), &table, now));
        assert!(members.ids(*last).eq([2, 1].map(DestinationId)));
        sets.iter().for_each(|&set| members.dissolve(set, &table));
        assert!((1..=5).all(|number| !table.get(DestinationId(number)).is_held()));
    }
}
