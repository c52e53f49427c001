//! Gratuitous ARPs and unsolicited neighbour advertisements on their way: in lanes, one an interface or a `garp_group` of
//! interfaces, with the gaps that are wished for and never more at once than [`BURST`], so that no advertisement waits for
//! them.

use std::collections::{BTreeMap, VecDeque};

use crate::base::{Address, Duration, Instant, MacAddress};
use crate::vrrp::Name;
use crate::wire::{arp, neighbour};

/// Announcements of instances that may wait for an interface; each has all addresses of its instance.
pub const WAITING_MAX: usize = 8192;
/// Frames that are sent before packets and timers get their turn.
pub const BURST: usize = 32;

/// An instance's announcement on an interface.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Announcement {
    /// Whose it is.
    pub instance: Name,
    /// Kernel index of the interface.
    pub interface: u32,
    /// The addresses; a round has all of them.
    pub addresses: Vec<Address>,
    /// Rounds.
    pub rounds: u32,
    /// Behind a gratuitous ARP.
    pub arp_gap: Duration,
    /// Behind a neighbour advertisement.
    pub neighbour_gap: Duration,
}

/// What keeps its gaps together.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum LaneKey {
    /// An interface, by kernel index.
    Interface(u32),
    /// A `garp_group`, by its position in the configuration.
    Group(usize),
}

#[derive(Clone, Debug)]
struct Job {
    /// Its rounds are those to go.
    announcement: Announcement,
    /// Position in this round.
    at: usize,
}

/// What waits.
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
    lanes: BTreeMap<LaneKey, Lane>,
    waiting: usize,
    lost: u64,
}

impl Announcements {
    /// Puts an announcement in line: all addresses of a round, then the next round.
    pub fn add(&mut self, now: Instant, lane: LaneKey, announcement: Announcement) {
        if announcement.addresses.is_empty() || announcement.rounds == 0 {
            return;
        }
        if self.waiting >= WAITING_MAX {
            self.lost += 1;
            return;
        }
        self.waiting += 1;
        let lane = self.lanes.entry(lane).or_insert_with(|| Lane { jobs: VecDeque::new(), next: now });
        lane.jobs.push_back(Job { announcement, at: 0 });
    }

    /// When the next frame is due.
    pub fn deadline(&self) -> Option<Instant> {
        self.lanes.values().map(|lane| lane.next).min()
    }

    /// The next frame that is due, if one is.
    pub fn next(&mut self, now: Instant) -> Option<Due> {
        let due = self.lanes.iter_mut().filter(|(_, lane)| lane.next <= now);
        let (&key, lane) = due.min_by_key(|(_, lane)| lane.next)?;
        let Job { announcement, at } = lane.jobs.front_mut()?;
        let address = announcement.addresses[*at];
        let due = Due { instance: announcement.instance.clone(), interface: announcement.interface, address };
        lane.next = now + if address.is_v4() { announcement.arp_gap } else { announcement.neighbour_gap };
        *at += 1;
        if *at == announcement.addresses.len() {
            (*at, announcement.rounds) = (0, announcement.rounds - 1);
        }
        if announcement.rounds == 0 {
            lane.jobs.pop_front();
            self.waiting -= 1;
            // The gap to what may come next is kept only as long as something waits.
            if lane.jobs.is_empty() {
                self.lanes.remove(&key);
            }
        }
        Some(due)
    }

    /// Forgets what an instance has in line: it has the addresses no longer.
    pub fn forget(&mut self, instance: &Name) {
        for lane in self.lanes.values_mut() {
            let before = lane.jobs.len();
            lane.jobs.retain(|job| job.announcement.instance != *instance);
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

    fn announcement(name: &str, interface: u32, texts: &[&str], rounds: u32, gaps: [Duration; 2]) -> Announcement {
        let [arp_gap, neighbour_gap] = gaps;
        Announcement { instance: name.into(), interface, addresses: addresses(texts), rounds, arp_gap, neighbour_gap }
    }

    /// Puts it into the lane of its interface.
    fn add(announcements: &mut Announcements, announcement: Announcement) {
        announcements.add(NOW, LaneKey::Interface(announcement.interface), announcement);
    }

    const NO_GAPS: [Duration; 2] = [Duration::ZERO; 2];

    fn drain(announcements: &mut Announcements, now: Instant) -> Vec<String> {
        std::iter::from_fn(|| announcements.next(now)).map(|due| format!("{} {}", due.interface, due.address)).collect()
    }

    #[test]
    fn rounds_go_over_all_addresses() {
        let mut announcements = Announcements::default();
        add(&mut announcements, announcement("A", 2, &["10.0.0.1", "10.0.0.2"], 2, NO_GAPS));
        let expected = ["2 10.0.0.1", "2 10.0.0.2", "2 10.0.0.1", "2 10.0.0.2"];
        assert_eq!(drain(&mut announcements, NOW), expected);
        assert_eq!((announcements.deadline(), announcements.waiting), (None, 0));
    }

    #[test]
    fn gaps_are_kept_by_interface_and_kind() {
        let mut announcements = Announcements::default();
        let (gap, other) = (Duration::from_millis(100), Duration::from_millis(200));
        add(&mut announcements, announcement("A", 2, &["10.0.0.1", "fd00::1"], 1, [gap, other]));
        add(&mut announcements, announcement("B", 2, &["10.0.0.2"], 1, [gap, other]));
        add(&mut announcements, announcement("C", 3, &["10.0.0.3"], 1, [gap, other]));
        assert_eq!(drain(&mut announcements, NOW), ["2 10.0.0.1", "3 10.0.0.3"]);
        assert_eq!(announcements.deadline(), Some(NOW + gap));
        assert_eq!(drain(&mut announcements, NOW + gap), ["2 fd00::1"]);
        assert_eq!(drain(&mut announcements, NOW + gap + other), ["2 10.0.0.2"]);
    }

    #[test]
    fn interfaces_of_a_group_share_their_gaps() {
        let mut announcements = Announcements::default();
        let gap = Duration::from_millis(100);
        for interface in [2, 3] {
            announcements.add(NOW, LaneKey::Group(0), announcement("A", interface, &["10.0.0.1"], 1, [gap, gap]));
        }
        assert_eq!(drain(&mut announcements, NOW), ["2 10.0.0.1"]);
        assert_eq!(drain(&mut announcements, NOW + gap), ["3 10.0.0.1"]);
    }

    #[test]
    fn who_lets_go_announces_no_more() {
        let mut announcements = Announcements::default();
        let gaps = [Duration::from_secs(1); 2];
        add(&mut announcements, announcement("A", 2, &["10.0.0.1"], 9, gaps));
        add(&mut announcements, announcement("B", 2, &["10.0.0.2"], 1, gaps));
        announcements.forget(&"A".into());
        assert_eq!(drain(&mut announcements, NOW), ["2 10.0.0.2"]);
    }

    #[test]
    fn what_finds_no_room_is_counted() {
        let mut announcements = Announcements::default();
        for _ in 0..WAITING_MAX + 2 {
            add(&mut announcements, announcement("A", 2, &["10.0.0.1"], 1, NO_GAPS));
        }
        assert_eq!((announcements.lost(), announcements.waiting), (2, WAITING_MAX));
    }
}
