//! `sh`, source hashing: the client's address decides, with `sh-port` (flag-2) its port too
//! (`net/netfilter/ipvs/ip_vs_sh.c`).
//!
//! Destinations stand in the buckets in list order, each as often in a row as its weight says; a quiesced one stands
//! there once. Without `sh-fallback` (flag-1) a bucket whose destination is not usable gives none.

use crate::base::Family;
use crate::sched::client_port;
use crate::sched::hash::{fold, hash_32};
use crate::service::scheduler::List;
use crate::service::{DestinationId, Flow, Scheduler, SchedulerFlags};

const BUCKET_BITS: u32 = 8;
const BUCKETS: usize = 1 << BUCKET_BITS;

/// State: the buckets.
pub(super) struct SourceHashing {
    family: Family,
    buckets: [DestinationId; BUCKETS],
}

impl SourceHashing {
    pub(super) const fn new(family: Family) -> Self {
        Self { family, buckets: [DestinationId::NONE; BUCKETS] }
    }

    fn fill(&mut self, list: List<'_>) {
        self.buckets.fill(DestinationId::NONE);
        let shares = list.ids.iter().cycle().flat_map(|&id| {
            let weight = usize::try_from(list.table.get(id).weight()).unwrap_or(0);
            std::iter::repeat_n(id, weight.max(1))
        });
        for (bucket, id) in self.buckets.iter_mut().zip(shares) {
            *bucket = id;
        }
    }
}

impl Scheduler for SourceHashing {
    fn name(&self) -> &'static str {
        "sh"
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

    fn edited(&mut self, list: List<'_>, _id: DestinationId) {
        self.fill(list);
    }

    fn pick(&mut self, list: List<'_>, flow: &Flow) -> Option<DestinationId> {
        let value = fold(self.family, flow.source).wrapping_add(client_port(list, flow));
        let first = hash_32(value, BUCKET_BITS);
        let usable = |bucket: usize| {
            let id = self.buckets[bucket % BUCKETS];
            (id != DestinationId::NONE && list.table.get(id).is_usable()).then_some(id)
        };
        if let Some(id) = usable(first) {
            return Some(id);
        }
        // The kernel adds the bucket's number a second time, so it goes on at its double.
        let fallback = list.flags.has(SchedulerFlags::FLAG_1);
        fallback.then(|| (0..BUCKETS).find_map(|offset| usable(2 * first + offset))).flatten()
    }
}

#[cfg(test)]
mod tests {
    use crate::base::Address;
    use crate::sched::by_name;
    use crate::sched::testing::{Bench, names};
    use crate::service::SchedulerFlags;

    const ADDRESSES: [u32; 5] = [0xc0a8_0164, 0xcb00_7107, 0xac10_0509, 0x0a00_0001, 0x0a00_0002];
    const VIRTUAL: Address = Address::v4(0x0a09_0001);

    fn bench(flags: u8, weights: &[i32]) -> Bench {
        Bench::with_scheduler(by_name("sh", &Default::default()).unwrap(), SchedulerFlags(flags), weights)
    }

    fn from(bench: &mut Bench, port: u16) -> String {
        names(ADDRESSES.iter().map(|&address| bench.pick_for(Address::v4(address), port, VIRTUAL)))
    }

    #[test]
    fn printed_table() {
        let (fallback, port) = (SchedulerFlags::FLAG_1, SchedulerFlags::FLAG_2);
        assert_eq!(from(&mut bench(0, &[1, 1, 1]), 40000), "1 2 2 3 1");
        assert_eq!(from(&mut bench(0, &[3, 2, 1]), 40000), "1 1 2 1 1");
        assert_eq!(from(&mut bench(port, &[1, 1, 1]), 40000), "2 1 1 1 3");
        assert_eq!(from(&mut bench(0, &[1, 1, 0]), 40000), "1 2 2 none 1");
        assert_eq!(from(&mut bench(fallback, &[1, 1, 0]), 40000), "1 2 2 2 1");
        assert_eq!(from(&mut bench(fallback, &[0, 0, 0]), 40000), "none none none none none");
        assert_eq!(from(&mut bench(fallback, &[]), 40000), "none none none none none");
    }

    #[test]
    fn printed_bulk_check() {
        let mut bench = bench(0, &[1, 2, 3]);
        let clients = (1..=60).map(|n| Address::v4(0x0a09_0000 + n));
        assert_eq!(
            names(clients.map(|client| bench.pick_for(client, 1025, VIRTUAL))),
            "3 3 3 1 3 2 3 3 2 3 2 3 2 1 2 1 3 2 3 2 1 3 1 3 1 3 3 3 3 2 3 2 3 2 2 3 2 3 2 1 2 1 3 2 3 2 3 3 1 3 2 3 2 3 3 \
             2 3 2 3 2"
        );
    }

    #[test]
    fn ports_count_for_protocols_that_have_them() {
        let mut bench = bench(SchedulerFlags::FLAG_2, &[1, 1, 1]);
        bench.protocol = None;
        assert_eq!(from(&mut bench, 40000), "1 2 2 3 1");
    }

    #[test]
    fn every_change_fills_the_buckets_anew() {
        let mut bench = bench(0, &[1, 1, 1]);
        bench.edit(1, 3);
        bench.edit(2, 2);
        assert_eq!(from(&mut bench, 1), "1 1 2 1 1");
        bench.delete(3);
        bench.edit(1, 1);
        bench.edit(2, 1);
        // Two: even buckets 2, odd 1.
        assert_eq!(from(&mut bench, 1), "1 2 1 1 1");
        bench.add(1);
        assert_eq!(from(&mut bench, 1), "1 2 2 4 1");
    }

    #[test]
    fn the_overloaded_are_replaced_by_fallback_alone() {
        for (flags, expected) in [(0, "1 2 2 none 1"), (SchedulerFlags::FLAG_1, "1 2 2 2 1")] {
            let mut bench = bench(flags, &[1, 1, 1]);
            bench.edit_thresholds(3, 1, 1, 0);
            bench.connect(3, 0, 1);
            assert_eq!(from(&mut bench, 1), expected);
        }
    }

    #[test]
    fn one_client_stays() {
        let mut bench = bench(0, &[1, 2, 4]);
        let first = bench.picks(1);
        assert_eq!(bench.picks(20), [first.as_str(); 20].join(" "));
    }
}
