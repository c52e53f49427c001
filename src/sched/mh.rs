//! `mh`, Maglev hashing: the client's address decides, with `mh-port` (flag-2) its port too; when destinations come
//! and go, most clients stay where they are (`net/netfilter/ipvs/ip_vs_mh.c`; Eisenbud et al., NSDI 2016).
//!
//! Each destination has a permutation of the table's slots, from its address and port. They take turns to fill the
//! first slot of theirs that is free, several in a row by weight. The last weight that was not 0 counts: a quiesced
//! destination keeps its slots. Without `mh-fallback` (flag-1) a slot whose destination is not usable gives none.
//!
//! Limits: a service with more than [`SLOTS`] destinations cannot be given this scheduler; when one that has it grows
//! beyond, the table stays as it was, but for destinations that leave.
//!
//! **Deviation**: there a destination that leaves such a service leaves its slots empty; the kernel goes on to use it.

use crate::base::Family;
use crate::sched::hash::{SipKey, fold};
use crate::sched::{bucket_in_words, client_in_words, client_port, fallback_in_words, greatest_common_divisor};
use crate::service::scheduler::List;
use crate::service::{DestinationId, Flow, Scheduler, SchedulerFlags};

/// Slots of the table: a prime number (`CONFIG_IP_VS_MH_TAB_INDEX` 12).
const SLOTS: usize = 4093;
/// Bits of the turns that a destination gets in a row.
const TURN_BITS: u32 = 6;
/// Decides where a permutation starts, and the slot of a client.
const KEY_1: SipKey = SipKey(2_654_435_761, 2_654_435_761);
/// Decides the step of a permutation.
const KEY_2: SipKey = SipKey(2_654_446_892, 2_654_446_892);

/// State: the slots.
pub(super) struct MaglevHashing {
    family: Family,
    slots: Box<[DestinationId]>,
}

/// A destination while the table is filled.
struct Candidate {
    id: DestinationId,
    slot: usize,
    step: usize,
    turns: u32,
}

impl MaglevHashing {
    pub(super) fn new(family: Family) -> Self {
        Self { family, slots: vec![DestinationId::NONE; SLOTS].into_boxed_slice() }
    }

    fn candidates(&self, list: List<'_>) -> Vec<Candidate> {
        let weights = || list.iter().map(|(_, destination)| destination.last_weight()).filter(|&weight| weight > 0);
        let divisor = weights().fold(0, greatest_common_divisor).max(1);
        let bits = i32::BITS - (weights().max().unwrap_or(0) / divisor).leading_zeros();
        let shift = bits.saturating_sub(TURN_BITS);
        let with_turns = list.iter().filter(|(_, destination)| destination.last_weight() > 0);
        let candidates = with_turns.map(|(id, destination)| {
            let endpoint = destination.endpoint();
            let value = fold(self.family, endpoint.address).wrapping_add(u32::from(endpoint.port));
            Candidate {
                id,
                slot: KEY_1.hash_u32(value) as usize % SLOTS,
                step: KEY_2.hash_u32(value) as usize % (SLOTS - 1) + 1,
                turns: ((destination.last_weight() / divisor) >> shift).max(1).cast_unsigned(),
            }
        });
        candidates.collect()
    }

    /// The slot of a client, the offset counted in before hashing.
    fn slot(&self, list: List<'_>, flow: &Flow, offset: usize) -> usize {
        let value = fold(self.family, flow.source).wrapping_add(client_port(list, flow));
        KEY_1.hash_u32(value.wrapping_add(offset as u32)) as usize % SLOTS
    }

    fn fill(&mut self, list: List<'_>) {
        if !self.fits(list.ids.len()) {
            return;
        }
        let mut candidates = self.candidates(list);
        self.slots.fill(DestinationId::NONE);
        let mut free = if candidates.is_empty() { 0 } else { SLOTS };
        while free > 0 {
            for candidate in &mut candidates {
                for _ in 0..candidate.turns.min(free as u32) {
                    // Ends: a step of a prime table comes by every slot, and one is free.
                    while self.slots[candidate.slot] != DestinationId::NONE {
                        candidate.slot = (candidate.slot + candidate.step) % SLOTS;
                    }
                    self.slots[candidate.slot] = candidate.id;
                    free -= 1;
                }
            }
        }
    }
}

impl Scheduler for MaglevHashing {
    fn name(&self) -> &'static str {
        "mh"
    }

    fn copy(&self) -> Box<dyn Scheduler> {
        Box::new(Self { family: self.family, slots: self.slots.clone() })
    }

    fn reason(&self, list: List<'_>, flow: &Flow) -> String {
        let slot = self.slot(list, flow, 0);
        let (client, stands) = (client_in_words(list, flow), bucket_in_words(list, self.slots[slot]));
        format!("hash of {client} gives slot {slot} of {SLOTS}{stands}{}", fallback_in_words(list))
    }

    fn fits(&self, destinations: usize) -> bool {
        destinations <= SLOTS
    }

    fn bound(&mut self, list: List<'_>) {
        self.fill(list);
    }

    fn added(&mut self, list: List<'_>, _id: DestinationId) {
        self.fill(list);
    }

    fn removed(&mut self, list: List<'_>, id: DestinationId) {
        if !self.fits(list.ids.len()) {
            self.slots.iter_mut().filter(|slot| **slot == id).for_each(|slot| *slot = DestinationId::NONE);
        }
        self.fill(list);
    }

    fn edited(&mut self, list: List<'_>, _id: DestinationId) {
        self.fill(list);
    }

    fn pick(&mut self, list: List<'_>, flow: &Flow) -> Option<DestinationId> {
        let slot = |offset: usize| self.slot(list, flow, offset);
        let usable = |slot: usize| {
            let id = self.slots[slot];
            (id != DestinationId::NONE && list.table.get(id).is_usable()).then_some(id)
        };
        let first = slot(0);
        if let Some(id) = usable(first) {
            return Some(id);
        }
        // Not worth thousands of hashes when there is nobody to find.
        if !list.flags.has(SchedulerFlags::FLAG_1) || !list.iter().any(|(_, destination)| destination.is_usable()) {
            return None;
        }
        (0..SLOTS).find_map(|offset| usable(slot((offset + first) % SLOTS)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Address;
    use crate::sched::testing::{Bench, names};

    const ADDRESSES: [u32; 5] = [0xc0a8_0164, 0xcb00_7107, 0xac10_0509, 0x0a00_0001, 0x0a00_0002];
    const VIRTUAL: Address = Address::v4(0x0a09_0001);
    const NETWORK: u32 = 0x0a00_0100;

    fn bench(flags: u8, weights: &[i32]) -> Bench {
        let mut bench =
            Bench::with_scheduler(Box::new(MaglevHashing::new(Family::V4)), SchedulerFlags(flags), &[]).at(NETWORK, 53);
        weights.iter().for_each(|&weight| bench.add(weight));
        bench
    }

    fn from(bench: &mut Bench, port: u16) -> String {
        names(ADDRESSES.iter().map(|&address| bench.pick_for(Address::v4(address), port, VIRTUAL)))
    }

    /// The slots of destinations 10.0.1.1, .2, ... with these weights.
    fn slots(port: u16, weights: &[i32]) -> Vec<u32> {
        let table = crate::service::Destinations::default();
        let mut ids = Vec::new();
        for (number, &weight) in (1..).zip(weights) {
            let destination = table.make(DestinationId(number));
            let endpoint = crate::base::Endpoint::new(Address::v4(NETWORK + number), port);
            destination.assign(crate::service::ServiceId(1), endpoint);
            destination.set_weight(weight);
            ids.insert(0, DestinationId(number));
        }
        let mut maglev = MaglevHashing::new(Family::V4);
        maglev.fill(List { ids: &ids, table: &table, flags: SchedulerFlags(0) });
        maglev.slots.iter().map(|id| id.0).collect()
    }

    fn counts<const N: usize>(slots: &[u32]) -> [usize; N] {
        std::array::from_fn(|index| slots.iter().filter(|&&id| id as usize == index + 1).count())
    }

    #[test]
    fn printed_slots() {
        let equal = slots(53, &[1, 1, 1]);
        assert_eq!(counts(&equal), [1364, 1364, 1365]);
        assert_eq!(equal[..20], [3, 3, 3, 2, 3, 3, 3, 2, 3, 3, 3, 2, 2, 1, 2, 2, 1, 1, 2, 2]);
        assert_eq!(counts(&slots(53, &[1, 2, 3])), [682, 1364, 2047]);
        assert_eq!(counts(&slots(80, &[1, 100, 65535])), [62, 62, 3969]);
        assert_eq!(counts(&slots(53, &[0, 0])), [0, 0]);
        assert_eq!(counts(&slots(53, &[0, 7])), [0, SLOTS]);
    }

    #[test]
    fn printed_table() {
        let (fallback, port) = (SchedulerFlags::FLAG_1, SchedulerFlags::FLAG_2);
        assert_eq!(from(&mut bench(0, &[1, 1, 1]), 40000), "2 2 2 1 2");
        assert_eq!(from(&mut bench(0, &[1, 2, 3]), 40000), "2 2 2 1 2");
        assert_eq!(from(&mut bench(port, &[1, 1, 1]), 40000), "3 1 1 2 2");
        for (flags, expected) in [(0, "2 2 2 none 2"), (fallback, "2 2 2 3 2")] {
            let mut bench = bench(flags, &[1, 1, 1]);
            bench.edit(1, 0);
            assert_eq!(from(&mut bench, 40000), expected);
        }
        assert_eq!(from(&mut bench(fallback, &[]), 40000), "none none none none none");
    }

    #[test]
    fn printed_bulk_check() {
        let mut bench = bench(0, &[1, 2, 3]);
        let clients = (1..=60).map(|n| Address::v4(0x0a09_0000 + n));
        assert_eq!(
            names(clients.map(|client| bench.pick_for(client, 1025, VIRTUAL))),
            "2 3 2 3 3 3 3 3 2 2 3 2 3 2 2 3 2 1 1 3 1 3 2 3 3 3 2 3 3 2 3 3 2 3 3 3 3 2 2 3 1 3 3 1 1 3 2 3 2 2 3 1 3 3 1 \
             3 3 2 3 1"
        );
    }

    /// A quiesced destination keeps its slots; one added with weight 0 gets none, so the others serve its clients.
    #[test]
    fn the_last_weight_counts() {
        let mut quiesced = bench(0, &[1, 1, 1]);
        quiesced.edit(1, 0);
        assert_eq!(from(&mut quiesced, 1), "2 2 2 none 2");
        quiesced.edit(1, 1);
        assert_eq!(from(&mut quiesced, 1), "2 2 2 1 2");
        assert!(!from(&mut bench(0, &[0, 1, 1]), 1).contains("none"));
        assert_eq!(from(&mut bench(SchedulerFlags::FLAG_1, &[0, 0]), 1), "none none none none none");
    }

    #[test]
    fn deleting_one_moves_its_clients_and_few_others() {
        let mut bench = bench(0, &[1; 10]);
        let clients = || (0..2000).map(|n| Address::v4(0xc0a8_0000 + n));
        let picks = |bench: &mut Bench| clients().map(|c| bench.pick_for(c, 1, VIRTUAL)).collect::<Vec<_>>();
        let before = picks(&mut bench);
        bench.delete(4);
        let after = picks(&mut bench);
        let moved = before.iter().zip(&after).filter(|(before, after)| **before != Some(4) && before != after);
        assert!(!after.contains(&Some(4)) && !after.contains(&None));
        assert!(moved.count() < 200);
    }

    #[test]
    fn more_destinations_than_slots_leave_the_table_alone() {
        let mut bench = bench(0, &[1; SLOTS]);
        let before = from(&mut bench, 1);
        bench.add(1);
        assert_eq!(from(&mut bench, 1), before);
        let maglev = MaglevHashing::new(Family::V4);
        assert!(maglev.fits(SLOTS) && !maglev.fits(SLOTS + 1));
        // Deviation: what leaves is not used again.
        bench.add(1);
        let gone = before.split(' ').next().unwrap().parse().unwrap();
        bench.delete(gone);
        assert!(from(&mut bench, 1).starts_with("none"));
        bench.delete(SLOTS as u32 + 1);
        assert!(!from(&mut bench, 1).contains("none"));
    }

    /// Recorded from Linux 6.1.176: fallback and port, with additions, edits and deletions between.
    #[test]
    fn recorded_changes() {
        let mut bench = Bench::with_scheduler(
            Box::new(MaglevHashing::new(Family::V4)),
            SchedulerFlags(SchedulerFlags::FLAG_1 | SchedulerFlags::FLAG_2),
            &[3, 1, 2],
        );
        bench.follow(
            "
            10.51.77.102:43683=2 10.16.37.211:36143=1 10.22.187.150:4825=3 10.74.109.10:6656=2
            e1:0 10.65.214.18:16796=3 10.21.217.16:55212=3 10.82.63.243:15654=3 10.90.31.148:39398=3
            10.60.25.250:15512=2
            a4:2 10.15.68.75:28492=3 10.28.60.147:21240=3 10.81.92.27:39139=3 10.83.96.96:7409=3
            10.80.32.145:4930=3
            e2:5 10.89.105.128:45614=2 10.78.218.199:21611=2 10.69.232.93:20669=2
            10.41.92.179:52130=4 10.41.41.148:20701=2
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
            d2 10.75.27.117:59975=5 10.81.200.102:27171=5 10.60.53.124:42592=5 10.61.31.49:5437=1
            10.36.225.42:8228=5
            e5:0 10.53.26.27:1039=1 10.82.77.138:7673=1 10.56.13.19:58324=1 10.36.192.39:42600=1
            10.42.177.155:24889=1
            e3:7 10.70.62.30:56659=3 10.72.238.123:32732=1 10.49.43.37:7720=1 10.53.135.123:55343=1
            10.30.11.53:63347=1
            a2:1 10.77.185.38:46248=3 10.79.13.195:35634=1 10.48.46.179:56431=1
            10.43.187.233:11971=2 10.55.114.137:36516=3
            ",
        );
    }
}
