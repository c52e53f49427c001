//! One master, as its backup knows it.
//!
//! ```text
//!            heard, or named         open            hello
//! Waiting ───────────────► Connecting ───► Greeting ───────► Linked ── broken, silent ─► Waiting
//!    ▲                         │               │
//!    └─── refused, no answer ──┴── no hello ───┘   (tried again after 1, 2, 4, … 60 s)
//! ```
//! A resync runs within Linked. It is tried a few times, then again after a pause.

use crate::base::{Address, Duration, Instant};
use crate::control::sync::backup::Learner;
use crate::control::sync::resync::LinkId;
use crate::control::sync::resync::cannot::Cannot;
use crate::control::sync::resync::client::{Context, LinkEnd, Wish};
use crate::control::sync::resync::tracker::{Due, Taken, Tracker};
use crate::wire::resync::{BODY_MAX, Decoder, Digest, Frame, Hello, Reason, Role, Span};
use crate::wire::sync::{Message, Stamp};

/// A connection has to be made in such a time, and the hello to come.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// A master that says nothing for so long is gone.
const SILENCE: Duration = Duration::from_secs(10);
/// How often the master hears that we are well.
const ALIVE_PERIOD: Duration = Duration::from_secs(2);
/// Pauses between attempts to connect grow up to this.
const RETRY_MAX: Duration = Duration::from_secs(60);
/// Attempts at a resync before a long pause.
pub const ATTEMPTS_MAX: u32 = 5;
/// The long pause.
const ATTEMPTS_PAUSE: Duration = Duration::from_secs(60);
/// A master that was not heard for so long and is heard again is tried at once.
const RETURN_AFTER: Duration = Duration::from_secs(5);
/// Sync ports that a master may have.
const PORTS_MAX: u16 = 64;

/// Why the whole table is asked for again.
const LOST: &str = "datagrams were lost that cannot be repaired";

/// How far the connection to a master is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Phase {
    /// There is none; the next attempt is not before this.
    Waiting(Instant),
    /// Since this.
    Connecting(Instant),
    /// It is open; since this.
    Greeting(Instant),
    /// The master answers.
    Linked { heard_at: Instant, alive_at: Instant },
}

/// A table under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Resync {
    pub(super) number: u32,
    pub(super) since: Instant,
    pub(super) entries: u32,
    pub(super) digest: Digest,
    pub(super) refused: u64,
}

/// A table that came whole.
#[derive(Clone, Copy, Debug)]
pub(super) struct Whole {
    pub(super) at: Instant,
    pub(super) took: Duration,
    pub(super) records: u64,
    pub(super) refused: u64,
}

/// A master.
pub(super) struct Peer {
    pub(super) address: Address,
    pub(super) is_fixed: bool,
    known_at: Instant,
    pub(super) heard_at: Option<Instant>,
    pub(super) link: Option<LinkId>,
    pub(super) phase: Phase,
    failures: u32,
    pub(super) cannot: Option<Cannot>,
    decoder: Decoder,
    epoch: Option<u16>,
    port_count: u16,
    pub(super) ports: Vec<Tracker>,
    pub(super) resync: Option<Resync>,
    /// When the next one begins.
    pub(super) resync_at: Option<Instant>,
    pub(super) attempts: u32,
    pub(super) resyncs: u32,
    pub(super) whole: Option<Whole>,
}

impl Peer {
    pub(super) fn new(now: Instant, address: Address, is_fixed: bool) -> Self {
        Self {
            address,
            is_fixed,
            known_at: now,
            heard_at: None,
            link: None,
            phase: Phase::Waiting(now),
            failures: 0,
            cannot: None,
            decoder: Decoder::default(),
            epoch: None,
            port_count: 0,
            ports: Vec::new(),
            resync: None,
            resync_at: None,
            attempts: 0,
            resyncs: 0,
            whole: None,
        }
    }

    pub(super) fn last_sign(&self) -> Instant {
        self.heard_at.unwrap_or(self.known_at)
    }

    /// It is known what can be had of it: all, or nothing.
    pub(super) fn is_settled(&self) -> bool {
        let has_more = self.resync.is_some() || self.resync_at.is_some() && self.cannot.is_none();
        !has_more && (self.whole.is_some() || self.cannot.is_some())
    }

    /// A datagram came from it.
    pub(super) fn hear(&mut self, context: &mut Context<'_>) {
        let is_back = self.heard_at.is_some_and(|at| context.now - at > RETURN_AFTER);
        self.heard_at = Some(context.now);
        if is_back && let Phase::Waiting(at) = self.phase {
            self.phase = Phase::Waiting(at.min(context.now));
        }
    }

    /// Takes a numbered datagram, and those that waited for it.
    pub(super) fn take_datagram(
        &mut self,
        context: &mut Context<'_>,
        port: u16,
        stamp: Stamp,
        datagram: &[u8],
        learner: &mut Learner<'_>,
    ) {
        let (now, is_linked) = (context.now, matches!(self.phase, Phase::Linked { .. }));
        let is_ours = self.epoch == Some(stamp.epoch) && is_linked;
        let Some(tracker) = self.ports.get_mut(usize::from(port)).filter(|_| is_ours) else {
            learner.take(now, datagram);
            return;
        };
        let counters = &mut *context.counters;
        match tracker.take(now, stamp.number, datagram) {
            Taken::Next { is_late } => {
                counters.reordered += u64::from(is_late);
                learner.take(now, datagram);
                while let Some(datagram) = tracker.pop_ready(now) {
                    learner.take(now, &datagram);
                }
            }
            Taken::Held { is_late } => counters.reordered += u64::from(is_late),
            Taken::Old => counters.doubled += 1,
            Taken::Far => {
                self.give_up(context, port, learner);
                learner.take(now, datagram);
                if let Some(tracker) = self.ports.get_mut(usize::from(port)) {
                    tracker.jump(stamp.number);
                }
                self.want_resync(context, LOST);
            }
        }
    }

    fn open(&mut self, context: &mut Context<'_>) {
        let link = LinkId(*context.next_link);
        *context.next_link = context.next_link.wrapping_add(1);
        self.link = Some(link);
        self.phase = Phase::Connecting(context.now);
        context.wishes.push(Wish::Open { link, peer: self.address });
    }

    pub(super) fn opened(&mut self, context: &mut Context<'_>) {
        self.phase = Phase::Greeting(context.now);
        self.decoder = Decoder::new(BODY_MAX);
        let hello = Hello { syncid: context.syncid, role: Role::Backup, ports: 0, epoch: 0 };
        self.send(context, Frame::Hello(hello));
    }

    fn send(&self, context: &mut Context<'_>, frame: Frame<'_>) {
        let Some(link) = self.link else { return };
        let mut octets = Vec::new();
        frame.emit(&mut octets);
        context.wishes.push(Wish::Send { link, octets });
    }

    pub(super) fn closed(&mut self, context: &mut Context<'_>, end: LinkEnd, learner: &mut Learner<'_>) {
        let cannot = match (end, self.phase) {
            (LinkEnd::Refused, _) => Some(Cannot::Refuses),
            (_, Phase::Greeting(_)) => Some(Cannot::NotLvx),
            (_, Phase::Linked { .. }) => None,
            (LinkEnd::NoAnswer | LinkEnd::Closed, _) => Some(Cannot::NoAnswer),
        };
        self.link = None;
        self.fall(context, cannot, learner);
    }

    /// The connection is over: what waited for repair is taken, and it is tried again later.
    fn fall(&mut self, context: &mut Context<'_>, cannot: Option<Cannot>, learner: &mut Learner<'_>) {
        if let Some(link) = self.link.take() {
            context.wishes.push(Wish::Close { link });
        }
        if let (Some(cannot), None) = (cannot, self.cannot) {
            context.log.push(format!("sync peer {} cannot resync: {}", self.address, cannot.meaning()));
        }
        if self.resync.take().is_some() {
            context.counters.resyncs_broken += 1;
            self.attempts += 1;
            self.plan_resync(context);
        }
        self.cannot = cannot.or(self.cannot.filter(|cannot| *cannot == Cannot::Failed));
        self.failures = if cannot.is_some() { self.failures + 1 } else { 0 };
        let pause = Duration::from_secs(1 << self.failures.saturating_sub(1).min(6)).min(RETRY_MAX);
        self.phase = Phase::Waiting(context.now + pause);
        // Nobody knows when the next connection is: what waited is taken now, and what it waited for would come too late.
        for port in 0..self.ports.len() {
            self.give_up(context, port as u16, learner);
        }
    }

    /// The daemon ends, perhaps since this director is to take over.
    pub(super) fn end(&mut self, context: &mut Context<'_>, learner: &mut Learner<'_>) {
        for port in 0..self.ports.len() {
            self.give_up(context, port as u16, learner);
        }
        if let Some(link) = self.link.take() {
            context.wishes.push(Wish::Close { link });
        }
    }

    pub(super) fn receive(&mut self, context: &mut Context<'_>, octets: &[u8], learner: &mut Learner<'_>) {
        let mut decoder = std::mem::take(&mut self.decoder);
        decoder.push(octets);
        let end = loop {
            match decoder.next_frame() {
                Ok(None) => break None,
                Ok(Some((kind, body))) => {
                    let taken = match Frame::parse(kind, decoder.body(body)) {
                        Ok(frame) => self.take_frame(context, frame, learner),
                        Err(_) => Err(Cannot::NotLvx),
                    };
                    if let Err(cannot) = taken {
                        break Some(cannot);
                    }
                }
                Err(_) => break Some(Cannot::NotLvx),
            }
        };
        self.decoder = decoder;
        if let Phase::Linked { heard_at, .. } = &mut self.phase {
            *heard_at = context.now;
        }
        if let Some(cannot) = end {
            context.counters.malformed += u64::from(cannot == Cannot::NotLvx);
            self.fall(context, Some(cannot), learner);
        }
    }

    fn take_frame(
        &mut self,
        context: &mut Context<'_>,
        frame: Frame<'_>,
        learner: &mut Learner<'_>,
    ) -> Result<(), Cannot> {
        let now = context.now;
        match (self.phase, frame) {
            (Phase::Greeting(_), Frame::Hello(hello)) => return self.greeted(context, hello),
            (Phase::Greeting(_), Frame::Refusal(reason)) => {
                return Err(match reason {
                    Reason::Version => Cannot::Version,
                    Reason::Syncid => Cannot::Syncid,
                    Reason::Busy => Cannot::Busy,
                    Reason::Other(_) => Cannot::NotLvx,
                });
            }
            (Phase::Linked { .. }, Frame::Position(position)) => {
                for (port, number) in position.numbers().take(self.port_count.into()).enumerate() {
                    match self.ports.get_mut(port) {
                        Some(tracker) => tracker.learn_end(now, number),
                        None => self.ports.push(Tracker::new(number, self.port_count)),
                    }
                }
            }
            (Phase::Linked { .. }, Frame::Begin { number, entries }) => {
                if let Some(resync) = self.resync.as_mut().filter(|resync| resync.number == number) {
                    resync.entries = entries;
                }
            }
            (Phase::Linked { .. }, Frame::Records { number, datagram }) => {
                if let Some(resync) = self.resync.as_mut().filter(|resync| resync.number == number) {
                    let learnt = learner.take_table(now, datagram, resync.since, &mut resync.digest);
                    resync.refused += learnt.refused;
                    context.counters.records_applied += learnt.applied;
                    context.counters.records_newer += learnt.newer;
                    context.counters.records_refused += learnt.refused;
                }
            }
            (Phase::Linked { .. }, Frame::End { number, digest }) => self.end_resync(context, number, digest),
            (Phase::Linked { .. }, Frame::Again { port, datagram }) => {
                let (missing, reordered) = (self.missing(), context.counters.reordered);
                match Message::parse(datagram).ok().and_then(|message| message.stamp()) {
                    Some(stamp) => self.take_datagram(context, port, stamp, datagram, learner),
                    None => learner.take(now, datagram),
                }
                context.counters.repaired += u64::from(self.missing() < missing);
                // It was asked for: that it is late is no news.
                context.counters.reordered = reordered;
            }
            (Phase::Linked { .. }, Frame::Gone(Span { port, .. })) => self.give_up(context, port, learner),
            _ => return Err(Cannot::NotLvx),
        }
        Ok(())
    }

    fn missing(&self) -> u64 {
        self.ports.iter().map(Tracker::missing).sum()
    }

    fn greeted(&mut self, context: &mut Context<'_>, hello: Hello) -> Result<(), Cannot> {
        if hello.role != Role::Master || hello.ports == 0 || hello.ports > PORTS_MAX {
            return Err(Cannot::NotLvx);
        }
        if context.syncid != 0 && hello.syncid != context.syncid {
            return Err(Cannot::Syncid);
        }
        self.phase = Phase::Linked { heard_at: context.now, alive_at: context.now + ALIVE_PERIOD };
        self.failures = 0;
        let is_known = self.epoch == Some(hello.epoch);
        if !is_known {
            self.epoch = Some(hello.epoch);
            self.port_count = hello.ports;
            self.ports.clear();
        }
        if self.cannot != Some(Cannot::Failed) {
            self.cannot = None;
        }
        // The same daemon as before: what was missed is asked for by its number.
        if (!is_known || self.whole.is_none()) && self.resync_at.is_none() {
            self.begin_resync(context);
        }
        Ok(())
    }

    fn begin_resync(&mut self, context: &mut Context<'_>) {
        self.resync_at = None;
        self.resyncs = self.resyncs.wrapping_add(1);
        let number = self.resyncs;
        let digest = Digest::default();
        self.resync = Some(Resync { number, since: context.now, entries: 0, digest, refused: 0 });
        context.counters.resyncs += 1;
        self.send(context, Frame::Table { number });
    }

    /// The next resync begins after a pause that grows with the attempts; after many of them it is called a failure,
    /// and the pause is a long one.
    fn plan_resync(&mut self, context: &mut Context<'_>) {
        if self.attempts >= ATTEMPTS_MAX {
            self.attempts = 0;
            self.cannot = Some(Cannot::Failed);
            context.log.push(format!("sync peer {}: {}", self.address, Cannot::Failed.meaning()));
            self.resync_at = Some(context.now + ATTEMPTS_PAUSE);
            return;
        }
        let pause = Duration::from_secs((1 << self.attempts) >> 1);
        self.resync_at = Some(context.now + pause);
    }

    /// Something was lost for good.
    fn want_resync(&mut self, context: &mut Context<'_>, why: &str) {
        if self.resync_at.is_none() {
            context.log.push(format!("sync peer {}: {why}; the whole table is asked for", self.address));
            // One at a time; and while much is lost, not one after the other.
            let last = self.resync.map(|resync| resync.since).or(self.whole.map(|whole| whole.at));
            let at = last.map_or(context.now, |last| (last + Duration::from_secs(1)).max(context.now));
            self.resync_at = Some(at);
        }
    }

    fn end_resync(&mut self, context: &mut Context<'_>, number: u32, digest: Digest) {
        let Some(resync) = self.resync.filter(|resync| resync.number == number) else { return };
        self.resync = None;
        let took = context.now - resync.since;
        if resync.digest != digest {
            context.counters.resyncs_different += 1;
            self.attempts += 1;
            let (came, sent) = (resync.digest.records, digest.records);
            context.log.push(format!("sync peer {}: {came} records came, {sent} were sent", self.address));
            self.plan_resync(context);
            return;
        }
        context.counters.resyncs_whole += 1;
        self.attempts = 0;
        self.cannot = None;
        self.whole = Some(Whole { at: context.now, took, records: digest.records, refused: resync.refused });
        let milliseconds = took.as_millis();
        context.log.push(format!(
            "sync peer {}: resynchronised, {} records in {milliseconds} ms, {} not taken over",
            self.address, digest.records, resync.refused
        ));
    }

    pub(super) fn resync_now(&mut self, now: Instant) {
        self.attempts = 0;
        self.resync_at = Some(now);
        if let Phase::Waiting(at) = self.phase {
            self.phase = Phase::Waiting(at.min(now));
            // It was asked for: it is an open question again.
            self.cannot = None;
        }
    }

    fn give_up(&mut self, context: &mut Context<'_>, port: u16, learner: &mut Learner<'_>) {
        let Some(tracker) = self.ports.get_mut(usize::from(port)) else { return };
        let (held, missing) = tracker.give_up();
        for datagram in held {
            learner.take(context.now, &datagram);
        }
        if missing > 0 {
            context.counters.not_repaired += missing;
            self.want_resync(context, LOST);
        }
    }

    /// When [`Peer::handle_timeout`] is due.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        match self.phase {
            // Whoever is silent is not looked for.
            Phase::Waiting(at) => self.is_worth_trying(at).then_some(at),
            Phase::Connecting(since) | Phase::Greeting(since) => Some(since + CONNECT_TIMEOUT),
            Phase::Linked { heard_at, alive_at } => {
                let trackers = self.ports.iter().filter_map(Tracker::next_deadline);
                let resync_at = self.resync_at.filter(|_| self.resync.is_none());
                trackers.chain(resync_at).chain([heard_at + SILENCE, alive_at]).min()
            }
        }
    }

    /// Whoever was heard lately, or was named.
    fn is_worth_trying(&self, at: Instant) -> bool {
        self.is_fixed || self.heard_at.is_some_and(|heard| heard + RETRY_MAX >= at)
    }

    pub(super) fn handle_timeout(&mut self, context: &mut Context<'_>, learner: &mut Learner<'_>) {
        let now = context.now;
        match self.phase {
            Phase::Waiting(at) if at <= now && self.is_worth_trying(at) => self.open(context),
            Phase::Waiting(_) => {}
            Phase::Connecting(since) if since + CONNECT_TIMEOUT <= now => {
                self.fall(context, Some(Cannot::NoAnswer), learner);
            }
            Phase::Greeting(since) if since + CONNECT_TIMEOUT <= now => {
                self.fall(context, Some(Cannot::NotLvx), learner);
            }
            Phase::Connecting(_) | Phase::Greeting(_) => {}
            Phase::Linked { heard_at, .. } if heard_at + SILENCE <= now => self.fall(context, None, learner),
            Phase::Linked { heard_at, alive_at } => {
                if alive_at <= now {
                    self.phase = Phase::Linked { heard_at, alive_at: now + ALIVE_PERIOD };
                    self.send(context, Frame::Alive);
                }
                self.ask(context, learner);
                if self.resync.is_none() && self.resync_at.is_some_and(|at| at <= now) {
                    self.begin_resync(context);
                }
            }
        }
    }

    /// Asks for what is missing, or gives it up.
    fn ask(&mut self, context: &mut Context<'_>, learner: &mut Learner<'_>) {
        for port in 0..self.ports.len() {
            match self.ports[port].due(context.now) {
                Due::Nothing => {}
                Due::Ask { spans, is_first } => {
                    for (first, count) in spans {
                        context.counters.missed += if is_first { u64::from(count) } else { 0 };
                        self.send(context, Frame::Ask(Span { port: port as u16, count, first }));
                    }
                }
                Due::GiveUp => self.give_up(context, port as u16, learner),
            }
        }
    }
}
