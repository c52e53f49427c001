//! `dh`, destination hashing: the packet's destination address alone decides (`net/netfilter/ipvs/ip_vs_dh.c`).
//!
//! Buckets name the destinations in list order, one each, whatever the weights. A bucket whose destination is not
//! usable gives none.

use crate::base::Family;
use crate::sched::bucket_in_words;
use crate::sched::hash::{fold, hash_32};
use crate::service::scheduler::List;
use crate::service::{DestinationId, Flow, Scheduler};

const BUCKET_BITS: u32 = 8;

/// State: the buckets.
pub(super) struct DestinationHashing {
    family: Family,
    buckets: [DestinationId; 1 << BUCKET_BITS],
}

impl DestinationHashing {
    pub(super) const fn new(family: Family) -> Self {
        Self { family, buckets: [DestinationId::NONE; 1 << BUCKET_BITS] }
    }

    fn bucket(&self, flow: &Flow) -> usize {
        hash_32(fold(self.family, flow.destination), BUCKET_BITS)
    }

    fn fill(&mut self, list: List<'_>) {
        self.buckets.fill(DestinationId::NONE);
        for (bucket, &id) in self.buckets.iter_mut().zip(list.ids.iter().cycle()) {
            *bucket = id;
        }
    }
}

impl Scheduler for DestinationHashing {
    fn name(&self) -> &'static str {
        "dh"
    }

    fn copy(&self) -> Box<dyn Scheduler> {
        Box::new(Self { family: self.family, buckets: self.buckets })
    }

    fn reason(&self, list: List<'_>, flow: &Flow) -> String {
        let bucket = self.bucket(flow);
        format!("hash of {} gives bucket {bucket}{}", flow.destination, bucket_in_words(list, self.buckets[bucket]))
    }

    fn bound(&mut self, list: List<'_>) {
        self.fill(list);
    }

    fn added(&mut self, list: List<'_>, _id: DestinationId) {
        self.fill(list);
    }

    fn removed(&mut self, list: List<'_>, _id: DestinationId) {
        self.fill(list);
    }

    fn pick(&mut self, list: List<'_>, flow: &Flow) -> Option<DestinationId> {
        let id = self.buckets[self.bucket(flow)];
        let is_usable = id != DestinationId::NONE && {
            let destination = list.table.get(id);
            destination.is_available() && destination.is_usable()
        };
        is_usable.then_some(id)
    }
}

#[cfg(test)]
mod tests {
    use crate::sched::testing::Bench;
    use crate::sched::{Context, by_name};
    use crate::service::SchedulerFlags;

    const ADDRESSES: [&str; 5] = ["10.0.0.1", "10.0.0.2", "192.168.1.100", "203.0.113.7", "172.16.5.9"];

    #[test]
    fn printed_buckets() {
        for weights in [[1, 1, 1], [1, 2, 4]] {
            assert_eq!(Bench::new("dh", &weights).picks_to(&ADDRESSES), "3 1 1 2 2");
        }
        let context = Context { family: crate::base::Family::V6, ..Context::default() };
        let scheduler = by_name("dh", &context).unwrap();
        let mut bench = Bench::with_scheduler(scheduler, SchedulerFlags::default(), &[1, 1, 1]);
        assert_eq!(bench.picks_to(&["2001:db8::1"]), "3");
        assert_eq!(Bench::new("dh", &[]).picks_to(&ADDRESSES[..1]), "none");
    }

    /// An edit of a weight moves nobody; the unusable are not replaced.
    #[test]
    fn weights_and_thresholds_only_refuse() {
        let mut bench = Bench::new("dh", &[1, 1, 1]);
        bench.edit(1, 0);
        assert_eq!(bench.picks_to(&ADDRESSES), "3 none none 2 2");
        bench.edit(1, 5);
        bench.edit_thresholds(2, 1, 1, 0);
        assert_eq!(bench.picks_to(&ADDRESSES), "3 1 1 2 none");
    }

    #[test]
    fn adding_and_deleting_fill_the_buckets_anew() {
        let mut bench = Bench::new("dh", &[1, 1]);
        // Two: 39, 137, 89, 115 odd, 124 even.
        assert_eq!(bench.picks_to(&ADDRESSES), "1 1 1 2 1");
        bench.add(1);
        assert_eq!(bench.picks_to(&ADDRESSES), "3 1 1 2 2");
        bench.delete(2);
        assert_eq!(bench.picks_to(&ADDRESSES), "1 1 1 3 1");
        bench.delete(1);
        bench.delete(3);
        assert_eq!(bench.picks_to(&ADDRESSES), "none none none none none");
    }
}
