//! When addresses are announced: at once, once more, and from time to time.

use crate::base::{Duration, Instant};
use crate::vrrp::Announcing;

/// Announcements because others of lower priority are heard are at least this far apart; one follows the last of them.
const GAP: Duration = Duration::from_secs(1);

/// The announcements to come of an Active router.
#[derive(Clone, Debug, Default)]
pub(super) struct Announcer {
    /// Once more, so many rounds.
    again: Option<(Instant, u32)>,
    refresh: Option<Instant>,
    last: Option<Instant>,
}

impl Announcer {
    /// It became Active; the rounds of now.
    pub fn begin(&mut self, now: Instant, config: &Announcing) -> u32 {
        let later = |delay: Duration| (delay > Duration::ZERO).then(|| now + delay);
        self.again = later(config.delay).map(|at| (at, config.repeat));
        self.refresh = later(config.refresh);
        self.last = Some(now);
        config.repeat
    }

    /// Another that is, or was, Active was heard; the rounds of now, none when the last ones were just before.
    pub fn rival(&mut self, now: Instant, config: &Announcing) -> u32 {
        let is_soon = self.last.is_some_and(|last| now < last + GAP);
        let delay = if config.lower_delay == Duration::ZERO && is_soon { GAP } else { config.lower_delay };
        if delay > Duration::ZERO {
            self.again = Some((now + delay, config.lower_repeat));
        }
        if is_soon {
            return 0;
        }
        self.last = Some(now);
        config.lower_repeat
    }

    /// The rounds that are due.
    pub fn due(&mut self, now: Instant, config: &Announcing) -> u32 {
        let mut rounds = 0;
        if let Some((_, repeat)) = self.again.take_if(|(at, _)| *at <= now) {
            rounds += repeat;
        }
        if self.refresh.is_some_and(|at| at <= now) {
            rounds += config.refresh_repeat;
            self.refresh = (config.refresh > Duration::ZERO).then(|| now + config.refresh);
        }
        if rounds > 0 {
            self.last = Some(now);
        }
        rounds
    }

    /// When some are due next.
    pub fn deadline(&self) -> Option<Instant> {
        self.again.map(|(at, _)| at).into_iter().chain(self.refresh).min()
    }

    /// A new configuration: refreshes follow it from now on.
    pub fn reconfigure(&mut self, now: Instant, config: &Announcing) {
        self.refresh = (config.refresh > Duration::ZERO).then(|| now + config.refresh);
    }

    /// It is Active no longer.
    pub fn end(&mut self) {
        *self = Announcer::default();
    }
}
