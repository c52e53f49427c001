//! Gratuitous ARPs and unsolicited neighbour advertisements on their way: in lanes, one an interface, with the gaps that
//! are wished for and never more at once than [`BURST`], so that no advertisement waits for them.

use std::collections::{BTreeMap, VecDeque};

use crate::base::{Address, Duration, Instant, MacAddress};
use crate::vrrp::Name;
use crate::wire::{arp, neighbour};

/// Announcements of instances that may wait for an interface; each has all addresses of its instance.
pub const WAITING_MAX: usize = 8192;
/// Frames that are sent before packets and timers get their turn.
pub const BURST: usize = 32;

/// One instance's announcement on one interface.
#[derive(Clone, Debug)]
struct Job {
    instance: Name,
    addresses: Vec<Address>,
    /// Rounds to go, this one included.
    rounds: u32,
    /// Position in this round.
    at: usize,
    arp_gap: Duration,
    neighbour_gap: Duration,
}

/// What waits for an interface.
#[derive(Debug)]
struct Lane {
    jobs: VecDeque<Job>,
    /// When the next frame may go.
    next: Instant,
}

/// A frame that is due.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Due {
    /// Whose it is.
    pub instance: Name,
    /// Kernel index of the interface.
    pub interface: u32,
    /// The address.
    pub address: Address,
}

/// All lanes.
#[derive(Default, Debug)]
pub struct Announcements {
    lanes: BTreeMap<u32, Lane>,
    waiting: usize,
    lost: u64,
}

impl Announcements {
    /// Puts an announcement in line: all addresses of a round, then the next round.
    #[allow(clippy::too_many_arguments)]
    pub fn add(
        &mut self,
        now: Instant,
        instance: &Name,
        interface: u32,
        addresses: Vec<Address>,
        rounds: u32,
        arp_gap: Duration,
        neighbour_gap: Duration,
    ) {
        if addresses.is_empty() || rounds == 0 {
            return;
        }
        if self.waiting >= WAITING_MAX {
            self.lost += 1;
            return;
        }
        self.waiting += 1;
        let lane = self.lanes.entry(interface).or_insert_with(|| Lane { jobs: VecDeque::new(), next: now });
        lane.jobs.push_back(Job { instance: instance.clone(), addresses, rounds, at: 0, arp_gap, neighbour_gap });
    }

    /// When the next frame is due.
    pub fn deadline(&self) -> Option<Instant> {
        self.lanes.values().map(|lane| lane.next).min()
    }

    /// The next frame that is due, if one is.
    pub fn next(&mut self, now: Instant) -> Option<Due> {
        let (&interface, lane) =
            self.lanes.iter_mut().filter(|(_, lane)| lane.next <= now).min_by_key(|it| it.1.next)?;
        let job = lane.jobs.front_mut()?;
        let address = job.addresses[job.at];
        let due = Due { instance: job.instance.clone(), interface, address };
        lane.next = now + if address.is_v4() { job.arp_gap } else { job.neighbour_gap };
        job.at += 1;
        if job.at == job.addresses.len() {
            (job.at, job.rounds) = (0, job.rounds - 1);
        }
        if job.rounds == 0 {
            lane.jobs.pop_front();
            self.waiting -= 1;
            // The gap to what may come next is kept only as long as something waits.
            if lane.jobs.is_empty() {
                self.lanes.remove(&interface);
            }
        }
        Some(due)
    }

    /// Forgets what an instance has in line: it has the addresses no longer.
    pub fn forget(&mut self, instance: &Name) {
        for lane in self.lanes.values_mut() {
            let before = lane.jobs.len();
            lane.jobs.retain(|job| job.instance != *instance);
            self.waiting -= before - lane.jobs.len();
        }
        self.lanes.retain(|_, lane| !lane.jobs.is_empty());
    }

    /// Announcements for which there was no room.
    pub const fn lost(&self) -> u64 {
        self.lost
    }
}

/// The whole frame that announces an address.
pub fn frame(address: Address, mac: MacAddress, is_router: bool) -> Vec<u8> {
    if address.is_v4() {
        let mut frame = vec![0; arp::ANNOUNCEMENT_OCTETS];
        arp::emit_announcement(&mut frame, arp::Operation::Request, address, mac);
        return frame;
    }
    let mut frame = vec![0; neighbour::ADVERTISEMENT_OCTETS];
    neighbour::emit_advertisement(&mut frame, address, mac, is_router);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Instant = Instant::from_seconds(10);

    fn addresses(texts: &[&str]) -> Vec<Address> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn drain(announcements: &mut Announcements, now: Instant) -> Vec<String> {
        std::iter::from_fn(|| announcements.next(now)).map(|due| format!("{} {}", due.interface, due.address)).collect()
    }

    #[test]
    fn rounds_go_over_all_addresses() {
        let mut announcements = Announcements::default();
        let two = addresses(&["10.0.0.1", "10.0.0.2"]);
        announcements.add(NOW, &"A".into(), 2, two, 2, Duration::ZERO, Duration::ZERO);
        let expected = ["2 10.0.0.1", "2 10.0.0.2", "2 10.0.0.1", "2 10.0.0.2"];
        assert_eq!(drain(&mut announcements, NOW), expected);
        assert_eq!((announcements.deadline(), announcements.waiting), (None, 0));
    }

    #[test]
    fn gaps_are_kept_by_interface_and_kind() {
        let mut announcements = Announcements::default();
        let (gap, other) = (Duration::from_millis(100), Duration::from_millis(200));
        announcements.add(NOW, &"A".into(), 2, addresses(&["10.0.0.1", "fd00::1"]), 1, gap, other);
        announcements.add(NOW, &"B".into(), 2, addresses(&["10.0.0.2"]), 1, gap, other);
        announcements.add(NOW, &"C".into(), 3, addresses(&["10.0.0.3"]), 1, gap, other);
        assert_eq!(drain(&mut announcements, NOW), ["2 10.0.0.1", "3 10.0.0.3"]);
        assert_eq!(announcements.deadline(), Some(NOW + gap));
        assert_eq!(drain(&mut announcements, NOW + gap), ["2 fd00::1"]);
        assert_eq!(drain(&mut announcements, NOW + gap + other), ["2 10.0.0.2"]);
    }

    #[test]
    fn who_lets_go_announces_no_more() {
        let mut announcements = Announcements::default();
        let gap = Duration::from_secs(1);
        announcements.add(NOW, &"A".into(), 2, addresses(&["10.0.0.1"]), 9, gap, gap);
        announcements.add(NOW, &"B".into(), 2, addresses(&["10.0.0.2"]), 1, gap, gap);
        announcements.forget(&"A".into());
        assert_eq!(drain(&mut announcements, NOW), ["2 10.0.0.2"]);
    }

    #[test]
    fn what_finds_no_room_is_counted() {
        let mut announcements = Announcements::default();
        for _ in 0..WAITING_MAX + 2 {
            let one = addresses(&["10.0.0.1"]);
            announcements.add(NOW, &"A".into(), 2, one, 1, Duration::ZERO, Duration::ZERO);
        }
        assert_eq!((announcements.lost(), announcements.waiting), (2, WAITING_MAX));
    }
}
