//! `lblc`, locality-based least connections: packets to one address go to one destination, as long as that is not
//! overcharged while another has room; else `wlc` chooses (`net/netfilter/ipvs/ip_vs_lblc.c`).
//!
//! A remembered destination is used though its upper threshold is reached, as in the kernel. For limits and the
//! deviation see `cache.rs`.

use std::sync::Arc;

use crate::base::{Duration, Instant};
use crate::sched::cache::{Cache, PERIOD};
use crate::sched::{Context, is_overcharged, weighted_overhead_in_words, wlc};
use crate::service::scheduler::List;
use crate::service::sysctl::{Knob, Sysctls};
use crate::service::{Destination, DestinationId, Destinations, Flow, Scheduler};

/// State: the destination of each address. Every entry holds its destination, so that its number stays true.
pub(super) struct LocalityBased {
    cache: Cache<DestinationId>,
    sysctls: Arc<Sysctls>,
}

impl LocalityBased {
    pub(super) fn new(context: &Context) -> Self {
        Self { cache: Cache::new(context.family, context.seed), sysctls: Arc::clone(&context.sysctls) }
    }
}

impl Scheduler for LocalityBased {
    fn name(&self) -> &'static str {
        "lblc"
    }

    fn copy(&self) -> Box<dyn Scheduler> {
        Box::new(Self { cache: self.cache.clone(), sysctls: Arc::clone(&self.sysctls) })
    }

    fn load(&self, destination: &Destination) -> Option<String> {
        Some(weighted_overhead_in_words(destination))
    }

    fn reason(&self, list: List<'_>, flow: &Flow) -> String {
        let address = flow.destination;
        match self.cache.peek(address) {
            None => format!("nothing is remembered of {address}: {}", wlc::LEAST_IN_WORDS),
            Some(id) if is_still_good(id, list) => {
                format!("packets to {address} go to {}, which is remembered and not overcharged", list.name(id))
            }
            Some(id) => format!(
                "{}, which is remembered of {address}, is removed, quiesced or overcharged: {}",
                list.name(id),
                wlc::LEAST_IN_WORDS
            ),
        }
    }

    fn pick(&mut self, list: List<'_>, flow: &Flow) -> Option<DestinationId> {
        let entry = self.cache.find(flow.destination, flow.now);
        if let Some(entry) = entry {
            let id = *self.cache.value(entry);
            if is_still_good(id, list) {
                return Some(id);
            }
        }
        let id = wlc::least(list)?;
        match entry {
            Some(entry) => {
                list.table.get(id).hold();
                let before = std::mem::replace(self.cache.value(entry), id);
                list.table.get(before).release();
            }
            None if self.cache.insert(flow.destination, flow.now, id) => list.table.get(id).hold(),
            None => {}
        }
        Some(id)
    }

    fn period(&self) -> Option<Duration> {
        Some(PERIOD)
    }

    fn tick(&mut self, list: List<'_>, now: Instant) -> bool {
        let seconds = self.sysctls.get(Knob::LblcExpiration);
        self.cache.tick(now, seconds, |id| list.table.get(id).release())
    }

    fn unbound(&mut self, table: &Destinations) {
        self.cache.clear(|id| table.get(id).release());
    }
}

/// Whether what is remembered may still be used.
fn is_still_good(id: DestinationId, list: List<'_>) -> bool {
    let destination = list.table.get(id);
    destination.is_available() && destination.weight() > 0 && !is_overcharged(destination, list)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sched::testing::Bench;
    use crate::service::SchedulerFlags;

    const ONE: &str = "10.9.0.1";
    const TWO: &str = "10.9.0.2";

    #[test]
    fn printed_sequences() {
        Bench::new("lblc", &[1, 1, 1]).expect("3 3 2 2 1 1 1");
        Bench::new("lblc", &[1, 2, 4]).expect("3 3 3 3 3 2 2 2 1 1 1 1 1 1");
        Bench::new("lblc", &[1, 1, 1]).udp().expect("3 3 3 3 3 3");
        Bench::new("lblc", &[0, 0]).expect("none");
        Bench::new("lblc", &[]).expect("none");
    }

    #[test]
    fn each_address_has_its_destination() {
        let mut bench = Bench::new("lblc", &[9, 9]).udp();
        assert_eq!(bench.picks_to(&[ONE, TWO, ONE, ONE, TWO, TWO, TWO]), "2 1 2 2 1 1 1");
    }

    /// What is remembered is used beyond the threshold; the choice for another address is not.
    #[test]
    fn a_threshold_binds_only_the_first_choice() {
        let mut bench = Bench::new("lblc", &[9, 9]);
        bench.edit_thresholds(2, 9, 1, 0);
        assert_eq!(bench.picks_to(&[ONE, ONE, TWO, ONE]), "2 2 1 2");
    }

    #[test]
    fn the_quiesced_and_the_deleted_are_replaced() {
        let mut bench = Bench::new("lblc", &[1, 1, 1]).udp();
        bench.expect("3 3");
        bench.edit(3, 0);
        bench.expect("2 2 2");
        bench.delete(2);
        bench.expect("1 1");
    }

    #[test]
    fn entries_hold_their_destinations() {
        let mut bench = Bench::new("lblc", &[1, 1]).udp();
        bench.expect("2");
        bench.disconnect(2, 1);
        bench.delete(2);
        let is_free = |bench: &Bench, n| bench.table.get(DestinationId(n)).is_unreferenced();
        assert!(!is_free(&bench, 2), "an entry names it");
        bench.expect("1");
        bench.disconnect(1, 1);
        assert!(is_free(&bench, 2) && !is_free(&bench, 1));
        bench.scheduling.rebind(None, SchedulerFlags::default(), &bench.table);
        assert!(is_free(&bench, 1));
    }

    /// A deleted destination that comes back before its entry was used is remembered.
    #[test]
    fn what_comes_back_is_remembered() {
        let mut bench = Bench::new("lblc", &[1, 1]).udp();
        bench.connect(1, 0, 1);
        bench.expect("2");
        bench.delete(2);
        bench.add_again(2);
        bench.connect(2, 0, 5);
        bench.expect("2");
    }

    #[test]
    fn unused_entries_go_by_the_knob() {
        let context = Context::default();
        let lblc = Box::new(LocalityBased::new(&context));
        let mut bench = Bench::with_scheduler(lblc, SchedulerFlags::default(), &[1, 1]).udp();
        bench.expect("2 2 2");
        context.sysctls.write("lblc_expiration", "1800").unwrap();
        let minutes = |bench: &mut Bench, count| {
            for _ in 0..count {
                bench.wait(PERIOD);
                bench.tick();
            }
        };
        minutes(&mut bench, 15);
        bench.expect("2");
        // All entries are looked at after 30, 60 and 90 minutes: unused for 15, then 29, then 59.
        minutes(&mut bench, 16);
        bench.expect("2");
        minutes(&mut bench, 58);
        assert!(bench.table.get(DestinationId(2)).is_held());
        minutes(&mut bench, 1);
        assert!(!bench.table.get(DestinationId(2)).is_held());
        bench.connect(2, 0, 1);
        bench.expect("1");
    }
}
