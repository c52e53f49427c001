//! When addresses are announced: at once, once more, and from time to time.

use crate::base::{Duration, Instant};
use crate::vrrp::Announcing;

/// Announcements because others of lower priority are heard are at least this far apart; what came between is followed
/// by one.
const GAP: Duration = Duration::from_secs(1);

/// The announcements to come of an Active router.
#[derive(Clone, Debug, Default)]
pub(super) struct Announcer {
    /// Once more, so many rounds.
    again: Option<(Instant, u32)>,
    refresh: Option<Instant>,
    /// When others were last heard.
    heard: Option<Instant>,
    /// Once more because of them.
    heard_again: Option<Instant>,
    /// When others were last answered with announcements.
    answered: Option<Instant>,
    /// When those are answered that came too soon after.
    answer: Option<Instant>,
}

impl Announcer {
    /// It became Active; the rounds of now.
    pub fn begin(&mut self, now: Instant, config: &Announcing) -> u32 {
        let later = |delay: Duration| (delay > Duration::ZERO).then(|| now + delay);
        self.again = later(config.delay).map(|at| (at, config.repeat));
        self.refresh = later(config.refresh);
        config.repeat
    }

    /// Another that is, or was, Active was heard; the rounds of now, none when the last ones were just before.
    pub fn rival(&mut self, now: Instant, config: &Announcing) -> u32 {
        // The second rounds of the takeover, or of one heard before, stay where they are.
        self.heard = Some(now);
        if config.lower_delay > Duration::ZERO {
            self.heard_again.get_or_insert(now + config.lower_delay);
        }
        if let Some(last) = self.answered.filter(|&last| now < last + GAP) {
            self.answer = Some(last + GAP);
            return 0;
        }
        self.answered = Some(now);
        config.lower_repeat
    }

    /// The rounds that are due.
    pub fn due(&mut self, now: Instant, config: &Announcing) -> u32 {
        let mut rounds = 0;
        if let Some((_, repeat)) = self.again.take_if(|(at, _)| *at <= now) {
            rounds += repeat;
        }
        if self.heard_again.take_if(|at| *at <= now).is_some() {
            rounds += config.lower_repeat;
            // Whoever was heard in between has second rounds too.
            let next = self.heard.map(|at| at + config.lower_delay);
            self.heard_again = next.filter(|&at| config.lower_delay > Duration::ZERO && at > now);
        }
        if self.refresh.is_some_and(|at| at <= now) {
            rounds += config.refresh_repeat;
            self.refresh = (config.refresh > Duration::ZERO).then(|| now + config.refresh);
        }
        if self.answer.take_if(|at| *at <= now).is_some() {
            rounds += config.lower_repeat;
            self.answered = Some(now);
        }
        rounds
    }

    /// When some are due next.
    pub fn deadline(&self) -> Option<Instant> {
        let again = self.again.map(|(at, _)| at);
        again.into_iter().chain(self.refresh).chain(self.heard_again).chain(self.answer).min()
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
