//! One virtual router: the state table of RFC 9568 section 6.4, with keepalived's Fault.

use std::collections::VecDeque;

use crate::base::{Address, Duration, Instant};
use crate::vrrp::announce::Announcer;
use crate::vrrp::check::{Counters, Heard, Refusal};
use crate::vrrp::hear::Budget;
use crate::vrrp::timing::{down_interval, skew_time};
use crate::vrrp::{Action, InstanceConfig, Level, OldChecksum, Word};
use crate::wire::vrrp::{PRIORITY_OWNER, PRIORITY_RESIGN, Version};

/// Answers to advertisements of lower priority are at least this far apart: who sends many makes nobody send as many.
pub const ANSWER_GAP: Duration = Duration::from_millis(10);
/// Advertisements of lower priority of which scripts are told (`notify_master_rx_lower_pri`), by instance and second.
pub const LOWER_TOLD_MAX: u32 = 10;

/// A state and its timers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// Not begun, or stopped.
    Initialize,
    /// Another is Active, or nobody yet.
    Backup {
        /// Active_Down_Timer; `None`: it has run out (or the owner begins), and the sync group is waited for.
        down: Option<Instant>,
        /// From when on one of lower priority is obeyed no longer (`preempt_delay`).
        preempt: Option<Instant>,
    },
    /// It has the addresses.
    Active {
        /// Adver_Timer.
        advert: Instant,
    },
    /// It cannot, or is not to, be Active.
    Fault,
}

impl State {
    /// The word for scripts; none for Initialize.
    pub const fn word(self) -> Option<Word> {
        match self {
            State::Initialize => None,
            State::Backup { .. } => Some(Word::Backup),
            State::Active { .. } => Some(Word::Master),
            State::Fault => Some(Word::Fault),
        }
    }

    /// True for Active.
    pub const fn is_active(self) -> bool {
        matches!(self, State::Active { .. })
    }

    /// True when nothing but the sync group keeps it from being Active.
    pub const fn is_willing(self) -> bool {
        matches!(self, State::Backup { down: None, .. })
    }
}

/// What moves an instance from state to state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Input {
    /// Begin; whether with all others at the start.
    Start { is_first: bool },
    /// Active_Down_Timer has run out.
    DownTimer,
    /// Adver_Timer has run out.
    AdvertTimer,
    /// An advertisement that counts.
    Heard(Heard),
    /// The sync group goes Active (or there is none).
    Promote,
    /// Another member of the sync group has yielded.
    Demote,
    /// A fault, of its own or of the sync group.
    Fail,
    /// No fault any more.
    Heal,
    /// Resign and let go.
    Stop,
}

/// A virtual router.
#[derive(Clone, Debug)]
pub struct Instance {
    pub(super) config: InstanceConfig,
    pub(super) state: State,
    pub(super) priority: u8,
    /// The source of its advertisements.
    pub(super) primary: Option<Address>,
    /// Active_Adver_Interval.
    active_interval: Duration,
    /// The last Active router that was heard, with its priority.
    pub(super) active: Option<(Address, u8)>,
    pub(super) announcer: Announcer,
    pub(super) identification: u16,
    pub(super) sequence: u32,
    /// When it last answered one of lower priority.
    answered: Option<Instant>,
    /// When it last answered a resignation.
    answered_resignation: Option<Instant>,
    /// Lines that packets caused.
    pub(super) logged: Budget,
    /// Scripts told of advertisements of lower priority.
    lower_told: Budget,
    /// When an advertisement that counts last came.
    pub(super) heard_at: Option<Instant>,
    /// The last one that did not count, and when.
    pub(super) refused: Option<(Instant, Refusal)>,
    /// When it came to its state.
    since: Instant,
    /// Peers were heard that need the old checksum.
    pub(super) has_old_peers: bool,
    pub(super) counters: Counters,
}

pub(super) type Actions = VecDeque<Action>;

impl Instance {
    pub(super) fn new(config: InstanceConfig) -> Self {
        Self {
            state: State::Initialize,
            priority: config.priority,
            primary: config.source,
            active_interval: config.interval,
            active: None,
            announcer: Announcer::default(),
            identification: 0,
            sequence: 0,
            answered: None,
            answered_resignation: None,
            logged: Budget::new(),
            lower_told: Budget::new(),
            heard_at: None,
            refused: None,
            since: Instant::START,
            has_old_peers: config.old_checksum == OldChecksum::Always,
            counters: Counters::default(),
            config,
        }
    }

    /// What is wished of it.
    pub const fn config(&self) -> &InstanceConfig {
        &self.config
    }

    /// Its state.
    pub const fn state(&self) -> State {
        self.state
    }

    /// Its effective priority.
    pub const fn priority(&self) -> u8 {
        self.priority
    }

    /// The source of its advertisements, if there is one.
    pub const fn primary(&self) -> Option<Address> {
        self.primary
    }

    /// The last other Active router that was heard, and its priority.
    pub const fn active_router(&self) -> Option<(Address, u8)> {
        self.active
    }

    /// When an advertisement that counts last came.
    pub const fn heard_at(&self) -> Option<Instant> {
        self.heard_at
    }

    /// When it came to its state.
    pub const fn since(&self) -> Instant {
        self.since
    }

    /// The last advertisement that did not count, and when it came.
    pub const fn refused(&self) -> Option<(Instant, Refusal)> {
        self.refused
    }

    /// The interval that counts: the Active router's.
    pub const fn active_interval(&self) -> Duration {
        self.active_interval
    }

    /// What it counted.
    pub const fn counters(&self) -> &Counters {
        &self.counters
    }

    /// When it has to act next.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self.state {
            State::Initialize | State::Fault => None,
            State::Backup { down, .. } => down,
            State::Active { advert } => Some(self.announcer.deadline().map_or(advert, |at| at.min(advert))),
        }
    }

    /// The configuration of the old checksum has changed.
    pub(super) fn forget_old_peers(&mut self, has_old_peers: bool) {
        self.has_old_peers = has_old_peers;
    }

    /// A new interval of its own counts where no Active router has told another than the old one.
    pub(super) fn follow_interval(&mut self, old: Duration) {
        if self.active_interval == old || self.config.version == Version::V2 {
            self.active_interval = self.config.interval;
        }
    }

    /// An Active router has just sent, with an interval that may be new.
    pub(super) fn restart_advert_timer(&mut self, now: Instant) {
        if self.state.is_active() {
            self.active_interval = self.config.interval;
            self.state = State::Active { advert: now + self.config.interval };
        }
    }

    fn down_interval(&self) -> Duration {
        down_interval(self.config.version, self.priority, self.active_interval, self.config.down_adverts)
    }

    /// The one place where the state changes.
    pub(super) fn step(&mut self, now: Instant, input: Input, out: &mut Actions) {
        let before = self.state.word();
        self.transit(now, input, out);
        if self.state.word() != before {
            self.since = now;
        }
    }

    fn transit(&mut self, now: Instant, input: Input, out: &mut Actions) {
        match (self.state, input) {
            (State::Initialize, Input::Start { is_first }) => self.begin(now, is_first, out),
            (State::Fault, Input::Heal) => self.begin(now, false, out),
            (State::Initialize, Input::Fail) => self.enter_fault(out),

            (State::Backup { preempt, .. }, Input::DownTimer) => {
                self.log(out, Level::Information, "Receive advertisement timeout");
                self.state = State::Backup { down: None, preempt };
            }
            (State::Backup { .. }, Input::Promote) => self.become_active(now, out),
            (State::Backup { .. }, Input::Heard(heard)) => self.hear_as_backup(now, heard, out),
            (State::Backup { .. }, Input::Fail) => self.enter_fault(out),
            (State::Backup { .. } | State::Fault, Input::Stop) => self.end(out),

            (State::Active { advert }, Input::AdvertTimer) => {
                self.send(self.priority, out);
                // Not `now`, so that delays do not add up; but after a pause nothing is made up for.
                let next = advert + self.config.interval;
                let advert = if next > now { next } else { now + self.config.interval };
                self.state = State::Active { advert };
            }
            (State::Active { .. }, Input::Heard(heard)) => self.hear_as_active(now, heard, out),
            (State::Active { .. }, Input::Demote) => {
                // The winner of the other instance has this one too, or nobody has: either way it is to be quick.
                self.resign(out);
                self.become_backup(now, out);
            }
            (State::Active { .. }, Input::Fail) => {
                self.log(out, Level::Information, "Entering FAULT STATE");
                self.resign(out);
                self.let_go(out);
                self.state = State::Fault;
                self.notify(out, Word::Fault);
            }
            (State::Active { .. }, Input::Stop) => {
                self.resign(out);
                self.let_go(out);
                self.end(out);
            }

            // RFC 9568 section 6.4.1: advertisements do not count before the start.
            (State::Initialize, Input::Heard(_) | Input::Demote | Input::Heal | Input::Stop)
            | (State::Initialize, Input::DownTimer | Input::AdvertTimer | Input::Promote)
            | (State::Backup { .. }, Input::Start { .. } | Input::AdvertTimer | Input::Demote | Input::Heal)
            | (State::Active { .. }, Input::Start { .. } | Input::DownTimer | Input::Promote | Input::Heal)
            | (State::Fault, Input::Start { .. } | Input::DownTimer | Input::AdvertTimer | Input::Promote)
            | (State::Fault, Input::Heard(_) | Input::Demote | Input::Fail) => {}
        }
    }

    /// RFC 9568 section 6.4.1.
    fn begin(&mut self, now: Instant, is_first: bool, out: &mut Actions) {
        self.active_interval = self.config.interval;
        if self.priority == PRIORITY_OWNER {
            self.state = State::Backup { down: None, preempt: None };
            return;
        }
        let suffix = if is_first { " (init)" } else { "" };
        self.log(out, Level::Information, &format!("Entering BACKUP STATE{suffix}"));
        self.state = State::Backup { down: Some(now + self.down_interval()), preempt: None };
        self.notify(out, Word::Backup);
    }

    fn enter_fault(&mut self, out: &mut Actions) {
        self.log(out, Level::Information, "Entering FAULT STATE");
        self.state = State::Fault;
        self.notify(out, Word::Fault);
    }

    fn end(&mut self, out: &mut Actions) {
        self.state = State::Initialize;
        self.notify(out, Word::Stop);
    }

    /// RFC 9568 section 6.4.2, Active_Down_Timer fired: the addresses are ours.
    fn become_active(&mut self, now: Instant, out: &mut Actions) {
        self.log(out, Level::Information, "Entering MASTER STATE");
        self.counters.became_active += 1;
        self.active_interval = self.config.interval;
        self.state = State::Active { advert: now + self.config.interval };
        self.send(self.priority, out);
        self.log(out, Level::Information, "setting VIPs.");
        self.add_addresses(self.config.all_addresses().cloned().collect(), out);
        if !self.config.routes.is_empty() {
            let routes = self.config.routes.clone();
            out.push_back(Action::AddRoutes { instance: self.config.name.clone(), routes });
        }
        let rounds = self.announcer.begin(now, &self.config.announcing);
        self.announce(rounds, out);
        self.notify(out, Word::Master);
    }

    /// RFC 9568 section 6.4.3: another is better.
    fn become_backup(&mut self, now: Instant, out: &mut Actions) {
        self.log(out, Level::Information, "Entering BACKUP STATE");
        self.let_go(out);
        self.state = State::Backup { down: Some(now + self.down_interval()), preempt: None };
        self.notify(out, Word::Backup);
    }

    /// The addresses are ours no longer.
    fn let_go(&mut self, out: &mut Actions) {
        self.counters.released_active += 1;
        self.announcer.end();
        (self.answered, self.answered_resignation) = (None, None);
        self.remove_routes(out);
        self.remove_all_addresses(out);
    }

    /// RFC 9568 section 6.4.2, an advertisement.
    fn hear_as_backup(&mut self, now: Instant, heard: Heard, out: &mut Actions) {
        let State::Backup { down, preempt } = self.state else { return };
        if heard.priority == PRIORITY_RESIGN {
            self.log_often(now, out, Level::Information, "Backup received priority 0 advertisement");
            let skew = now + skew_time(self.config.version, self.priority, self.active_interval);
            // A second one, or one that is late, does not put it off.
            self.state = State::Backup { down: down.map(|at| at.min(skew)), preempt };
            return;
        }
        let is_lower = heard.priority < self.priority;
        // RFC 9568 section 6.1: the owner preempts whatever Preempt_Mode says.
        let preempts = self.config.preempts || self.priority == PRIORITY_OWNER;
        let delay = self.config.preempt_delay;
        let preempt = match preempt {
            _ if !is_lower || delay == Duration::ZERO => None,
            None => Some(now + delay),
            Some(at) => Some(at),
        };
        if is_lower && preempts && preempt.is_none_or(|at| at <= now) {
            let (priority, source) = (heard.priority, heard.source);
            let text = format!("received lower priority ({priority}) advert from {source} - discarding");
            self.log_often(now, out, Level::Information, &text);
            self.state = State::Backup { down, preempt };
            return;
        }
        let is_another = self.active.is_some_and(|(address, _)| address != heard.source);
        self.obey(now, heard, out);
        let new = now + self.down_interval();
        // **Deviation** from section 6.4.2: while two are Active (one is about to yield), the quicker one's interval is no
        // reason to declare the slower one down. Its second advertisement counts in full.
        let new = if is_another { down.map_or(new, |at| at.max(new)) } else { new };
        self.state = State::Backup { down: Some(new), preempt };
    }

    /// The sender is the Active router now.
    fn obey(&mut self, now: Instant, heard: Heard, out: &mut Actions) {
        self.active = Some((heard.source, heard.priority));
        if heard.interval != self.active_interval {
            let (old, new) = (self.active_interval.as_millis(), heard.interval.as_millis());
            let text = format!("advertisement interval updated from {old}ms to {new}ms by master");
            self.log_often(now, out, Level::Information, &text);
            self.active_interval = heard.interval;
        }
    }

    /// RFC 9568 section 6.4.3, an advertisement.
    fn hear_as_active(&mut self, now: Instant, heard: Heard, out: &mut Actions) {
        let (source, theirs, ours) = (heard.source, heard.priority, self.priority);
        if theirs == PRIORITY_RESIGN {
            self.log_often(now, out, Level::Information, "Master received priority 0 message");
            self.answer_resignation(now, out);
            // **Deviation**: who resigns was Active, so the neighbours may have its address.
            let rounds = self.announcer.rival(now, &self.config.announcing);
            self.announce(rounds, out);
            return;
        }
        let is_better = theirs > ours || theirs == ours && self.primary.is_none_or(|own| source > own);
        if is_better {
            let text = if theirs > ours {
                format!("Master received advert from {source} with higher priority {theirs}, ours {ours}")
            } else {
                format!(
                    "Master received advert from {source} with same priority {ours} but higher IP address than ours"
                )
            };
            self.log(out, Level::Information, &text);
            if self.config.answers_higher {
                self.send(ours, out);
            }
            self.obey(now, heard, out);
            self.become_backup(now, out);
            return;
        }
        let suffix = if self.config.answers_lower { ", forcing new election" } else { "" };
        let text = format!("Received advert from {source} with lower priority {theirs}, ours {ours}{suffix}");
        self.log_often(now, out, Level::Warning, &text);
        if self.lower_told.spend(now, LOWER_TOLD_MAX) {
            self.notify(out, Word::MasterReceivedLowerPriority);
        } else {
            self.counters.lower_not_told += 1;
        }
        if self.config.answers_lower {
            self.answer(now, out);
        }
        let rounds = self.announcer.rival(now, &self.config.announcing);
        self.announce(rounds, out);
    }

    /// An advertisement out of turn; the next one is an interval later.
    fn answer(&mut self, now: Instant, out: &mut Actions) {
        if self.answered.is_some_and(|at| now < at + ANSWER_GAP) {
            return;
        }
        self.answered = Some(now);
        self.send(self.priority, out);
        self.restart_advert_timer(now);
    }

    /// As [`Instance::answer`], whatever else was answered: Backups wait for Skew_Time alone after a resignation. Many
    /// resignations at once bring the next advertisement forward.
    fn answer_resignation(&mut self, now: Instant, out: &mut Actions) {
        let State::Active { advert } = self.state else { return };
        match self.answered_resignation.map(|at| at + ANSWER_GAP).filter(|&at| now < at) {
            Some(next) => self.state = State::Active { advert: advert.min(next) },
            None => {
                self.answered_resignation = Some(now);
                self.send(self.priority, out);
                self.restart_advert_timer(now);
            }
        }
    }

    /// Announcements that are due.
    pub(super) fn announce_due(&mut self, now: Instant, out: &mut Actions) {
        let rounds = self.announcer.due(now, &self.config.announcing);
        self.announce(rounds, out);
    }
}
