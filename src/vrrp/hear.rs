//! What comes in: advertisements that count, those that do not, and the lines about both.

use crate::base::{Duration, Instant};
use crate::vrrp::check::{Heard, LINES_LOGGED_MAX, Refusal, check};
use crate::vrrp::instance::Actions;
use crate::vrrp::{Instance, Level};
use crate::wire::vrrp::{Message, Opened, PRIORITY_RESIGN};

/// So many in a second, and no more.
#[derive(Clone, Copy, Debug)]
pub(super) struct Budget {
    since: Instant,
    spent: u32,
}

impl Budget {
    pub const fn new() -> Self {
        Self { since: Instant::START, spent: 0 }
    }

    /// True when there was some left; then it is spent.
    pub fn spend(&mut self, now: Instant, most: u32) -> bool {
        if now >= self.since + Duration::from_secs(1) {
            *self = Self { since: now, spent: 0 };
        }
        let has_some = self.spent < most;
        self.spent += u32::from(has_some);
        has_some
    }
}

impl Instance {
    /// An advertisement of its identifier: counts, and comes back if it counts.
    pub(super) fn receive(
        &mut self,
        now: Instant,
        opened: &Opened<'_>,
        message: &Message<'_>,
        out: &mut Actions,
    ) -> Option<Heard> {
        let known = self.active.map(|(address, _)| address);
        match check(&self.config, self.primary, known, opened, message) {
            Ok(heard) => {
                self.heard_at = Some(now);
                self.counters.adverts_received += 1;
                self.counters.zero_received += u64::from(heard.priority == PRIORITY_RESIGN);
                if let Some(sequence) = heard.sequence {
                    self.sequence = self.sequence.max(sequence);
                }
                if heard.has_old_checksum && !self.has_old_peers {
                    self.log(out, Level::Information, "Setting unicast VRRPv3 checksum to old version");
                    self.has_old_peers = true;
                }
                Some(heard)
            }
            Err(refusal) => {
                self.refuse(now, refusal, out);
                None
            }
        }
    }

    /// **Deviation** from keepalived, whose Active router waits for another interval after a refused packet: nothing of
    /// the state changes.
    fn refuse(&mut self, now: Instant, refusal: Refusal, out: &mut Actions) {
        refusal.count(&mut self.counters);
        if refusal.is_news() {
            self.refused = Some((now, refusal));
            self.log_often(now, out, Level::Warning, &refusal.to_string());
        }
    }

    /// A line that packets cause: so many a second and no more.
    pub(super) fn log_often(&mut self, now: Instant, out: &mut Actions, level: Level, text: &str) {
        if self.logged.spend(now, LINES_LOGGED_MAX) {
            self.log(out, level, text);
        } else {
            self.counters.lines_not_logged += 1;
        }
    }
}
