//! `sh`, source hashing: the client's address decides, with `sh-port` (flag-2) its port too
//! (`net/netfilter/ipvs/ip_vs_sh.c`).
//!
//! Destinations stand in the buckets in list order, each as often in a row as its weight says; a quiesced one stands
//! there once. Without `sh-fallback` (flag-1) a bucket whose destination is not usable gives none.

use crate::base::Family;
use crate::sched::hash::{fold, hash_32};
use crate::sched::{bucket_in_words, client_in_words, client_port, fallback_in_words};
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

    fn bucket(&self, list: List<'_>, flow: &Flow) -> usize {
        let value = fold(self.family, flow.source).wrapping_add(client_port(list, flow));
        hash_32(value, BUCKET_BITS)
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

    fn copy(&self) -> Box<dyn Scheduler> {
        Box::new(Self { family: self.family, buckets: self.buckets })
    }

    fn reason(&self, list: List<'_>, flow: &Flow) -> String {
        let bucket = self.bucket(list, flow);
        let (client, stands) = (client_in_words(list, flow), bucket_in_words(list, self.buckets[bucket]));
        format!("hash of {client} gives bucket {bucket}{stands}{}", fallback_in_words(list))
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
        let first = self.bucket(list, flow);
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

    /// Recorded from Linux 6.1.176: fallback and port, with additions, edits and deletions between.
    #[test]
    fn recorded_changes() {
        let mut bench = bench(SchedulerFlags::FLAG_1 | SchedulerFlags::FLAG_2, &[3, 1, 2]);
        bench.follow(
            "
            10.51.77.102:43683=2 10.16.37.211:36143=1 10.22.187.150:4825=3 10.74.109.10:6656=1
            e1:0 10.65.214.18:16796=2 10.21.217.16:55212=2 10.82.63.243:15654=2 10.90.31.148:39398=3
            10.60.25.250:15512=3
            a4:2 10.15.68.75:28492=3 10.28.60.147:21240=4 10.81.92.27:39139=4 10.83.96.96:7409=2
            10.80.32.145:4930=2
            e2:5 10.89.105.128:45614=4 10.78.218.199:21611=4 10.69.232.93:20669=2
            10.41.92.179:52130=2 10.41.41.148:20701=4
            d3 10.77.253.225:23534=2 10.67.147.156:5821=2 10.25.214.43:50643=2 10.53.77.239:33068=2
            10.63.20.247:44816=2
            e4:0 10.19.160.88:46590=2 10.54.254.149:53249=2 10.68.35.216:7157=2
            10.44.242.179:44549=2 10.18.31.188:46996=2
            a3:0 10.49.228.73:47988=2 10.59.177.6:62670=2 10.69.181.44:41061=2 10.24.252.16:15324=2
            10.46.66.190:17251=2
            a5:100 10.60.200.235:58133=5 10.73.41.43:30461=5 10.61.142.227:9997=5
            10.65.142.181:28240=5 10.55.194.246:16146=5
            e1:1 10.29.42.46:10939=5 10.39.119.4:32806=5 10.85.93.68:19500=5 10.10.74.108:36058=5
            10.57.163.244:9248=5
            d2 10.75.27.117:59975=5 10.81.200.102:27171=5 10.60.53.124:42592=5 10.61.31.49:5437=5
            10.36.225.42:8228=5
            e5:0 10.53.26.27:1039=1 10.82.77.138:7673=1 10.56.13.19:58324=1 10.36.192.39:42600=1
            10.42.177.155:24889=1
            e3:7 10.70.62.30:56659=3 10.72.238.123:32732=3 10.49.43.37:7720=3 10.53.135.123:55343=3
            10.30.11.53:63347=3
            a2:1 10.77.185.38:46248=3 10.79.13.195:35634=3 10.48.46.179:56431=3
            10.43.187.233:11971=3 10.55.114.137:36516=3
            ",
        );
    }
}
