//! Interfaces that go up and down count only when they have stayed so (`interface_up_down_delays`); pure.

use std::collections::BTreeMap;

use crate::base::{Duration, Instant};
use crate::config::model::global::InterfaceDelays;
use crate::vrrp::Name;

/// What is waited for.
#[derive(Default, Debug)]
pub struct Debounce {
    /// Interfaces, what they are to be, and when that counts.
    pending: BTreeMap<Name, (bool, Instant)>,
}

impl Debounce {
    /// Whether an interface counts as up, given what it counted as and what it is.
    pub fn settle(
        &mut self,
        now: Instant,
        delays: &[InterfaceDelays],
        interface: &Name,
        counted: Option<bool>,
        is_up: bool,
    ) -> bool {
        let delay = delays.iter().find(|it| it.interface == *interface);
        let delay = delay.map_or(Duration::ZERO, |it| if is_up { it.up } else { it.down });
        let Some(counted) = counted.filter(|&counted| counted != is_up && !delay.is_zero()) else {
            self.pending.remove(interface);
            return is_up;
        };
        let (_, at) = *self
            .pending
            .entry(interface.clone())
            .and_modify(|pending| {
                if pending.0 != is_up {
                    *pending = (is_up, now + delay);
                }
            })
            .or_insert((is_up, now + delay));
        if now < at {
            return counted;
        }
        self.pending.remove(interface);
        is_up
    }

    /// When something counts next.
    pub fn deadline(&self) -> Option<Instant> {
        self.pending.values().map(|&(_, at)| at).min()
    }

    /// Forgets interfaces that do not matter any more.
    pub fn retain(&mut self, matters: impl Fn(&Name) -> bool) {
        self.pending.retain(|name, _| matters(name));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_last_does_not_count() {
        let seconds = Duration::from_secs;
        let delays = [InterfaceDelays { interface: "eth0".into(), down: seconds(2), up: seconds(5) }];
        let (eth0, eth1): (Name, Name) = ("eth0".into(), "eth1".into());
        let mut debounce = Debounce::default();
        let at = Instant::from_seconds;
        assert!(debounce.settle(at(10), &delays, &eth0, None, true), "what it is first counts at once");
        assert!(!debounce.settle(at(10), &delays, &eth1, Some(true), false), "without a delay too");
        assert!(debounce.settle(at(10), &delays, &eth0, Some(true), false));
        assert_eq!(debounce.deadline(), Some(at(12)));
        assert!(debounce.settle(at(11), &delays, &eth0, Some(true), true), "it came back");
        assert_eq!(debounce.deadline(), None);
        assert!(debounce.settle(at(20), &delays, &eth0, Some(true), false));
        assert!(debounce.settle(at(21), &delays, &eth0, Some(true), false), "told again, it is not put off");
        assert!(!debounce.settle(at(22), &delays, &eth0, Some(true), false));
        assert!(!debounce.settle(at(22), &delays, &eth0, Some(false), true));
        assert_eq!(debounce.deadline(), Some(at(27)));
        debounce.retain(|_| false);
        assert_eq!(debounce.deadline(), None);
    }
}
