//! Path MTUs that routers reported of packets the director itself sent: those of tunnels.
//!
//! Source: `__ip_rt_update_pmtu` of `net/ipv4/route.c`, Linux 6.1; RFC 1191. Packets of clients go under the clients'
//! addresses, so that such reports about them reach the clients. ICMPv6 errors about tunnel packets are the host's, as in
//! the kernel, so that nothing is learned from them.
//!
//! One table for all workers. A worker looks at it when it renews a path; the cost otherwise is two loads a batch.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use crate::base::{Address, Duration, Instant, Lock};

/// Real servers whose path MTU is remembered; of more, the one that would be forgotten first goes.
pub const PATH_MTUS_MAX: usize = 1024;
/// How long a path MTU is believed, `net.ipv4.route.mtu_expires`.
pub const PATH_MTU_LIFETIME: Duration = Duration::from_secs(600);
/// What a path is taken to carry at least, octets, whatever is reported: `net.ipv4.route.min_pmtu`.
pub const PATH_MTU_MIN: u32 = 552;

#[derive(Clone, Copy, Debug)]
struct Learned {
    address: Address,
    mtu: u32,
    until: Instant,
}

/// The table.
#[derive(Debug)]
pub struct PathMtus {
    /// By address.
    learned: Lock<Vec<Learned>>,
    changes: AtomicU32,
    /// When the next one ends, nanoseconds since the start; `u64::MAX` when there is none.
    next_end: AtomicU64,
}

impl Default for PathMtus {
    fn default() -> Self {
        Self { learned: Lock::default(), changes: AtomicU32::new(0), next_end: AtomicU64::new(u64::MAX) }
    }
}

impl PathMtus {
    /// The same table, learning on by itself.
    #[must_use]
    pub fn copy(&self) -> Self {
        let copy = Self::default();
        let learned = self.learned.lock().clone();
        copy.settle(&learned);
        *copy.learned.lock() = learned;
        copy
    }

    /// The path MTU to an address, octets, where one was learned that has not ended.
    pub fn find(&self, address: Address) -> Option<u32> {
        let learned = self.learned.lock();
        let position = learned.binary_search_by_key(&address, |one| one.address).ok()?;
        Some(learned[position].mtu)
    }

    /// Takes a router's report that packets to `address` may have `reported` octets, over a link of `link_mtu`.
    pub fn learn(&self, address: Address, reported: u32, link_mtu: u32, now: Instant) {
        let mut learned = self.learned.lock();
        let found = learned.binary_search_by_key(&address, |one| one.address);
        let known = found.ok().map(|position| learned[position]);
        let current = known.map_or(link_mtu, |known| known.mtu.min(link_mtu));
        if current < reported {
            return;
        }
        let mtu = reported.max(PATH_MTU_MIN).min(current);
        let entry = Learned { address, mtu, until: now + PATH_MTU_LIFETIME };
        match (known, found) {
            // Repeated reports do not keep the workers busy.
            (Some(known), _) if known.mtu == mtu && known.until - now > PATH_MTU_LIFETIME / 2 => return,
            (_, Ok(position)) => learned[position] = entry,
            (_, Err(position)) if learned.len() < PATH_MTUS_MAX => learned.insert(position, entry),
            (_, Err(_)) => {
                if let Some(first) = (0..learned.len()).min_by_key(|&position| learned[position].until) {
                    learned.remove(first);
                }
                let position = learned.partition_point(|one| one.address < address);
                learned.insert(position, entry);
            }
        }
        self.settle(&learned);
    }

    /// Moves with each change; forgets what has ended.
    #[inline]
    pub fn changes(&self, now: Instant) -> u32 {
        if now.nanoseconds() >= self.next_end.load(Relaxed) {
            self.forget(now);
        }
        self.changes.load(Relaxed)
    }

    #[cold]
    fn forget(&self, now: Instant) {
        let mut learned = self.learned.lock();
        learned.retain(|one| one.until > now);
        self.settle(&learned);
    }

    fn settle(&self, learned: &[Learned]) {
        let next = learned.iter().map(|one| one.until.nanoseconds()).min().unwrap_or(u64::MAX);
        self.next_end.store(next, Relaxed);
        self.changes.fetch_add(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVER: Address = Address::v4(0x0a020001);

    #[test]
    fn a_path_narrows_and_after_ten_minutes_is_forgotten() {
        let paths = PathMtus::default();
        let start = Instant::from_seconds(5);
        let before = paths.changes(start);
        paths.learn(SERVER, 1400, 1500, start);
        assert_eq!(paths.find(SERVER), Some(1400));
        assert_ne!(paths.changes(start), before);
        let narrower = start + Duration::from_secs(300);
        paths.learn(SERVER, 1300, 1500, narrower);
        // It does not widen by a report.
        paths.learn(SERVER, 1350, 1500, narrower);
        assert_eq!((paths.find(SERVER), paths.find(Address::v4(0x0a020002))), (Some(1300), None));
        let change = paths.changes(narrower + Duration::from_secs(599));
        assert_eq!(paths.find(SERVER), Some(1300));
        assert_ne!(paths.changes(narrower + Duration::from_secs(600)), change);
        assert_eq!(paths.find(SERVER), None);
    }

    #[test]
    fn reports_have_a_floor_and_no_effect_beyond_the_link() {
        let paths = PathMtus::default();
        paths.learn(SERVER, 1501, 1500, Instant::START);
        assert_eq!(paths.find(SERVER), None);
        paths.learn(SERVER, 0, 1500, Instant::START);
        assert_eq!(paths.find(SERVER), Some(PATH_MTU_MIN));
        let narrow = Address::v4(0x0a020002);
        paths.learn(narrow, 0, 500, Instant::START);
        assert_eq!(paths.find(narrow), Some(500), "a link may be narrower than any path");
    }

    #[test]
    fn a_repeated_report_changes_nothing_until_half_its_time_is_over() {
        let paths = PathMtus::default();
        paths.learn(SERVER, 1400, 1500, Instant::START);
        let change = paths.changes(Instant::START);
        paths.learn(SERVER, 1400, 1500, Instant::from_seconds(299));
        assert_eq!(paths.changes(Instant::START), change);
        paths.learn(SERVER, 1400, 1500, Instant::from_seconds(301));
        assert_eq!(paths.changes(Instant::from_seconds(900)), change + 1);
        assert_eq!(paths.find(SERVER), Some(1400), "its time has begun again");
    }

    #[test]
    fn the_table_is_bounded() {
        let paths = PathMtus::default();
        for number in 0..=PATH_MTUS_MAX as u32 {
            paths.learn(Address::v4(number), 1400, 1500, Instant::from_seconds(number.into()));
        }
        assert_eq!(paths.learned.lock().len(), PATH_MTUS_MAX);
        assert_eq!((paths.find(Address::v4(0)), paths.find(Address::v4(1))), (None, Some(1400)));
        assert_eq!(paths.find(Address::v4(PATH_MTUS_MAX as u32)), Some(1400));
    }
}
