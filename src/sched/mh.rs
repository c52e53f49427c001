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
use crate::sched::{client_port, greatest_common_divisor};
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
        let value = fold(self.family, flow.source).wrapping_add(client_port(list, flow));
        let slot = |offset: usize| KEY_1.hash_u32(value.wrapping_add(offset as u32)) as usize % SLOTS;
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
}
