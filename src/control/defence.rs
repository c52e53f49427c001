//! Defence against floods: the levels of `drop_packet`, `drop_entry` and `secure_tcp`, looked at every second; and
//! the end of connections to removed servers.
//!
//! Source: `update_defense_level` of `net/netfilter/ipvs/ip_vs_ctl.c`, Linux 6.1.

use std::collections::HashSet;

use crate::base::{Duration, Instant, Rng};
use crate::conn::defence::DropEntry;
use crate::control::{Action, Control};
use crate::service::sysctl::Knob;
use crate::service::{DestinationId, ServiceId};

/// How often the levels are looked at (`DEFENSE_TIMER_PERIOD`).
pub(super) const DEFENCE_PERIOD: Duration = Duration::from_secs(1);
/// Buckets in which connections to removed servers are looked for at a time.
const FLUSH_BUCKETS: usize = 1 << 14;
/// How long the search rests between two parts.
const FLUSH_PERIOD: Duration = Duration::from_millis(1);

/// Off.
const OFF: i64 = 0;
/// On when memory is short; not now.
const AUTOMATIC_IDLE: i64 = 1;
/// On when memory is short; now.
const AUTOMATIC_ACTIVE: i64 = 2;

/// What the defence keeps between two looks.
pub(super) struct DefenceState {
    /// Pages that are free or hold no more than buffers; without a report there is plenty.
    pages_available: i64,
    drop_entry: DropEntry,
    rng: Rng,
    /// Where the search for connections to removed servers goes on, and when.
    flush: Option<(usize, Instant)>,
}

impl DefenceState {
    pub(super) fn new(seed: u64) -> Self {
        Self { pages_available: i64::MAX, drop_entry: DropEntry::default(), rng: Rng::new(seed), flush: None }
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.flush.map(|(_, due)| due)
    }
}

impl Control {
    /// True when the levels are to be looked at again by `now`.
    pub fn is_defence_due(&self, now: Instant) -> bool {
        self.next_defence <= now
    }

    /// The host's free pages and those of its buffers, for the automatic levels.
    pub fn set_pages_available(&mut self, pages: u64) {
        self.defence.pages_available = i64::try_from(pages).unwrap_or(i64::MAX);
    }

    /// Sets the levels anew: knobs or memory may be other than before.
    pub(super) fn update_defence(&mut self) {
        let sysctls = &self.shared.sysctls;
        let (threshold, available) = (sysctls.get(Knob::AmemThresh), self.defence.pages_available);
        let is_short = available < threshold;
        let automatic_rate = if is_short { threshold / (threshold - available).max(1) } else { 0 };
        for knob in [Knob::DropEntry, Knob::DropPacket, Knob::SecureTcp] {
            let level = sysctls.get(knob);
            let next = match level {
                AUTOMATIC_IDLE if is_short => AUTOMATIC_ACTIVE,
                AUTOMATIC_ACTIVE if !is_short => AUTOMATIC_IDLE,
                other => other,
            };
            if next != level {
                sysctls.store(knob, next);
                let state = if next == AUTOMATIC_ACTIVE { "short of memory, is on" } else { "is off again" };
                self.actions.push_back(Action::Log(format!("the defence {} {state}", knob.name())));
            }
            if knob == Knob::DropPacket {
                match next {
                    OFF | AUTOMATIC_IDLE => self.shared.defence.set_rate(0),
                    AUTOMATIC_ACTIVE => self.shared.defence.restart(automatic_rate),
                    _ => self.shared.defence.set_rate(sysctls.get(Knob::AmDropRate)),
                }
            }
        }
    }

    /// A second's worth of the `drop_entry` defence, when it is on.
    pub(super) fn drop_entries(&mut self, now: Instant) {
        if !self.shared.sysctls.is_defending(Knob::DropEntry) {
            return;
        }
        let shared = &self.shared;
        let one_packet = self.services.iter().filter(|service| service.rule.one_packet);
        let one_packet: HashSet<ServiceId> = one_packet.map(|service| service.id).collect();
        let is_one_packet = |id: DestinationId| {
            id != DestinationId::NONE && one_packet.contains(&shared.destinations.get(id).service())
        };
        let state = &mut self.defence;
        shared.connections.drop_entries(&mut state.drop_entry, &mut state.rng, now, is_one_packet);
    }

    /// A server has gone: with `expire_nodest_conn` its connections go too, all of them, a part at a time.
    pub(super) fn server_gone(&mut self, now: Instant) {
        if self.shared.sysctls.is_on(Knob::ExpireNodestConn) {
            self.defence.flush = Some((0, now + FLUSH_PERIOD));
        }
    }

    /// Ends the search for connections to removed servers at once, where nobody waits meanwhile.
    pub fn finish_flush(&mut self) {
        while let Some((_, due)) = self.defence.flush {
            self.flush_connections(due);
        }
    }

    /// Goes on with the search for connections to removed servers.
    pub(super) fn flush_connections(&mut self, now: Instant) {
        let Some((first, due)) = self.defence.flush else { return };
        if now < due {
            return;
        }
        self.shared.connections.drop_unavailable(first, FLUSH_BUCKETS);
        let next = first + FLUSH_BUCKETS;
        let is_over = next >= self.shared.connections.bucket_count();
        self.defence.flush = (!is_over).then_some((next, now + FLUSH_PERIOD));
    }
}
