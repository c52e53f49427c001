//! The master's side: numbers its datagrams, keeps the last of them, and tells backups that ask the whole table.

use std::collections::BTreeMap;

use crate::base::{Address, Duration, Instant};
use crate::conn::Table;
use crate::conn::sync::Policy;
use crate::control::sync::resync::LinkId;
use crate::control::sync::resync::ring::Ring;
use crate::control::sync::resync::walk::{Budget, Walk};
use crate::wire::Error;
use crate::wire::resync::{BACKUP_BODY_MAX, Decoder, Frame, Hello, Reason, Role, Span, emit_position};

/// Backups that may be connected at once; one more is refused and counted.
pub const SESSIONS_MAX: usize = 8;
/// Octets that may wait for a backup before the walk of the table waits.
pub(super) const PENDING_HIGH: usize = 1 << 18;
/// Octets that may wait for a backup at all; one that takes nothing is closed and counted.
pub const PENDING_MAX: usize = 1 << 22;
/// From one step of a walk to the next.
const STEP_PERIOD: Duration = Duration::from_millis(1);
/// How often each backup hears where the ports are.
const POSITION_PERIOD: Duration = Duration::from_secs(1);
/// A backup that says nothing for so long is closed.
const SILENCE: Duration = Duration::from_secs(10);
/// At most so often losses before the wire are told of.
const LEAVE_OUT_PERIOD: Duration = Duration::from_secs(1);

/// What the master's side did since the director's start.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, serde::Serialize)]
pub struct ServerCounters {
    /// Backups that were greeted.
    pub greeted: u64,
    /// Backups that were refused: another syncid or version, too many.
    pub refused: u64,
    /// Backups that were closed because they sent what makes no sense.
    pub malformed: u64,
    /// Backups that were closed because they took too little or said nothing.
    pub slow: u64,
    /// Whole tables told.
    pub tables: u64,
    /// Their records.
    pub records: u64,
    /// Datagrams sent once more.
    pub again: u64,
    /// Datagrams asked for that were not there any more.
    pub gone: u64,
}

/// What serves, while a master's daemon runs.
pub(super) struct Server {
    syncid: u8,
    epoch: u16,
    is_numbering: bool,
    rings: Vec<Ring>,
    sessions: BTreeMap<LinkId, Session>,
    budget: Budget,
    step_at: Option<Instant>,
    /// When the last loss before the wire was told of.
    left_out_at: Option<Instant>,
    /// When the next one will be.
    leave_out_at: Option<Instant>,
}

/// A backup.
struct Session {
    peer: Address,
    decoder: Decoder,
    is_greeted: bool,
    heard_at: Instant,
    position_at: Instant,
    walk: Option<Walk>,
    /// Octets that the host has not sent yet.
    pending: usize,
    is_over: bool,
}

/// What goes to links: octets, or their end.
pub(super) type Out = Vec<(LinkId, Option<Vec<u8>>)>;

/// What a backup looks like from here.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize)]
pub struct SessionStatus {
    /// Its address.
    pub peer: Address,
    /// It said who it is.
    pub greeted: bool,
    /// Records of the table that it is being told.
    pub table: Option<u64>,
    /// Octets that wait for it.
    pub pending_octets: usize,
}

impl Server {
    pub(super) fn new(syncid: u8, ports: u16, epoch: u16, per_second: u32, now: Instant) -> Self {
        Self {
            syncid,
            epoch,
            is_numbering: false,
            rings: (0..ports).map(|_| Ring::new(ports)).collect(),
            sessions: BTreeMap::new(),
            budget: Budget::new(per_second, now),
            step_at: None,
            left_out_at: None,
            leave_out_at: None,
        }
    }

    /// True from the first backup's greeting on, until the daemon stops.
    pub(super) const fn is_numbering(&self) -> bool {
        self.is_numbering
    }

    /// Numbers a datagram that is about to leave, and keeps it.
    pub(super) fn number(&mut self, port: u16, datagram: &mut Vec<u8>, octets_max: usize) {
        if self.is_numbering
            && let Some(ring) = self.rings.get_mut(usize::from(port))
        {
            ring.number(datagram, self.epoch, octets_max);
        }
    }

    /// Something was lost before it was a datagram: backups have to resync. They learn it by a number that is left out, now
    /// or when the last one is a while ago.
    pub(super) fn leave_out(&mut self, now: Instant) {
        if self.is_numbering {
            let at = self.left_out_at.map_or(now, |last| (last + LEAVE_OUT_PERIOD).max(now));
            self.leave_out_at.get_or_insert(at);
        }
    }

    /// A backup has connected. False when it is one too many.
    pub(super) fn accept(&mut self, now: Instant, link: LinkId, peer: Address, counters: &mut ServerCounters) -> bool {
        if self.sessions.len() >= SESSIONS_MAX {
            counters.refused += 1;
            return false;
        }
        let session = Session {
            peer,
            decoder: Decoder::new(BACKUP_BODY_MAX),
            is_greeted: false,
            heard_at: now,
            position_at: now + POSITION_PERIOD,
            walk: None,
            pending: 0,
            is_over: false,
        };
        self.sessions.insert(link, session);
        true
    }

    pub(super) fn has(&self, link: LinkId) -> bool {
        self.sessions.contains_key(&link)
    }

    pub(super) fn closed(&mut self, link: LinkId) {
        self.sessions.remove(&link);
    }

    /// The host has sent so many octets.
    pub(super) fn written(&mut self, now: Instant, link: LinkId, octets: usize) {
        let Some(session) = self.sessions.get_mut(&link) else { return };
        session.pending = session.pending.saturating_sub(octets);
        if session.walk.is_some() && session.pending < PENDING_HIGH {
            self.step_at.get_or_insert(now);
        }
    }

    /// Takes what a backup sent.
    pub(super) fn receive(
        &mut self,
        now: Instant,
        link: LinkId,
        octets: &[u8],
        entries: u32,
        out: &mut Out,
        counters: &mut ServerCounters,
    ) {
        let Some(session) = self.sessions.get_mut(&link).filter(|session| !session.is_over) else { return };
        session.heard_at = now;
        let mut decoder = std::mem::take(&mut session.decoder);
        decoder.push(octets);
        let mut answer = Vec::new();
        let end = loop {
            match decoder.next_frame() {
                Ok(None) => break None,
                Ok(Some((kind, body))) => {
                    let frame = Frame::parse(kind, decoder.body(body));
                    if let Err(end) = self.take(now, link, frame, entries, &mut answer, counters) {
                        break Some(end);
                    }
                }
                Err(_) => break Some(End::Malformed),
            }
        };
        let Some(session) = self.sessions.get_mut(&link) else { return };
        session.decoder = decoder;
        if end == Some(End::Malformed) {
            counters.malformed += 1;
        }
        session.send(link, answer, out, counters);
        if end.is_some() {
            session.close(link, out);
        }
    }

    fn take(
        &mut self,
        now: Instant,
        link: LinkId,
        frame: Result<Frame<'_>, Error>,
        entries: u32,
        answer: &mut Vec<u8>,
        counters: &mut ServerCounters,
    ) -> Result<(), End> {
        let Some(session) = self.sessions.get_mut(&link) else { return Err(End::Refused) };
        match (session.is_greeted, frame) {
            (false, Ok(Frame::Hello(hello))) if hello.role == Role::Backup => {
                if hello.syncid != 0 && hello.syncid != self.syncid {
                    counters.refused += 1;
                    Frame::Refusal(Reason::Syncid).emit(answer);
                    return Err(End::Refused);
                }
                session.is_greeted = true;
                counters.greeted += 1;
                self.is_numbering = true;
                let ports = self.rings.len() as u16;
                let hello = Hello { syncid: self.syncid, role: Role::Master, ports, epoch: self.epoch };
                Frame::Hello(hello).emit(answer);
                emit_position(answer, self.rings.iter().map(Ring::next));
            }
            (false, Err(Error::Unsupported)) => {
                counters.refused += 1;
                Frame::Refusal(Reason::Version).emit(answer);
                return Err(End::Refused);
            }
            (true, Ok(Frame::Table { number })) => {
                session.walk = Some(Walk::new(number, self.syncid));
                Frame::Begin { number, entries }.emit(answer);
                self.step_at = Some(now);
            }
            (true, Ok(Frame::Ask(span))) => self.repeat(span, answer, counters),
            (true, Ok(Frame::Alive)) => {}
            _ => return Err(End::Malformed),
        }
        Ok(())
    }

    /// The datagrams that are there, and which are not.
    fn repeat(&self, span: Span, answer: &mut Vec<u8>, counters: &mut ServerCounters) {
        let Some(ring) = self.rings.get(usize::from(span.port)) else { return };
        for step in 0..span.count {
            let number = span.first.wrapping_add(step.into());
            match ring.get(number) {
                Some(datagram) if answer.len() < PENDING_HIGH => {
                    counters.again += 1;
                    Frame::Again { port: span.port, datagram }.emit(answer);
                }
                // The rest is asked for again.
                Some(_) => return,
                None => {
                    counters.gone += 1;
                    Frame::Gone(Span { port: span.port, count: 1, first: number }).emit(answer);
                    return;
                }
            }
        }
    }

    /// When [`Server::handle_timeout`] is due.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let sessions = self.sessions.values().filter(|session| !session.is_over);
        let times = sessions.flat_map(|session| {
            let position = session.is_greeted.then_some(session.position_at);
            [Some(session.heard_at + SILENCE), position].into_iter().flatten()
        });
        times.chain(self.step_at).chain(self.leave_out_at).min()
    }

    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.next_deadline().is_some_and(|at| at <= now)
    }

    /// Does what is due: says where the ports are, closes who is silent, goes on telling the table.
    pub(super) fn handle_timeout(
        &mut self,
        now: Instant,
        connections: &Table,
        policy: &Policy,
        out: &mut Out,
        counters: &mut ServerCounters,
    ) {
        if self.leave_out_at.is_some_and(|at| at <= now) {
            self.leave_out_at = None;
            self.left_out_at = Some(now);
            if let Some(ring) = self.rings.first_mut() {
                ring.leave_out();
            }
        }
        for (link, session) in self.sessions.iter_mut().filter(|(_, session)| !session.is_over) {
            if session.heard_at + SILENCE <= now {
                counters.slow += 1;
                session.close(*link, out);
                continue;
            }
            if session.is_greeted && session.position_at <= now {
                session.position_at = now + POSITION_PERIOD;
                let mut octets = Vec::new();
                emit_position(&mut octets, self.rings.iter().map(Ring::next));
                session.send(*link, octets, out, counters);
            }
        }
        if self.step_at.is_some_and(|at| at <= now) {
            self.step(now, connections, policy, out, counters);
        }
    }

    /// Tells a part of the table to everybody who wants it and can take it.
    fn step(
        &mut self,
        now: Instant,
        connections: &Table,
        policy: &Policy,
        out: &mut Out,
        counters: &mut ServerCounters,
    ) {
        let mut records = self.budget.refill(now);
        let mut goes_on = false;
        for (link, session) in &mut self.sessions {
            let Some(walk) = session.walk.as_mut().filter(|_| session.pending < PENDING_HIGH && !session.is_over)
            else {
                continue;
            };
            let mut octets = Vec::new();
            let before = walk.digest().records;
            let is_over = walk.step(now, connections, policy, records, &mut octets);
            let told = walk.digest().records - before;
            self.budget.take(told);
            records = records.saturating_sub(told);
            counters.records += told;
            if is_over {
                Frame::End { number: walk.number(), digest: walk.digest() }.emit(&mut octets);
                counters.tables += 1;
                session.walk = None;
            }
            session.send(*link, octets, out, counters);
            goes_on |= session.walk.is_some() && session.pending < PENDING_HIGH;
        }
        self.step_at = goes_on.then(|| now + STEP_PERIOD);
    }

    /// The daemon ends: the last datagrams go this way too, for sure, and then everybody is closed.
    pub(super) fn end(&mut self, last: &[(u16, Vec<u8>)], out: &mut Out, counters: &mut ServerCounters) {
        let mut octets = Vec::new();
        for (port, datagram) in last {
            Frame::Again { port: *port, datagram }.emit(&mut octets);
        }
        for (link, session) in self.sessions.iter_mut().filter(|(_, session)| !session.is_over) {
            if session.is_greeted {
                session.send(*link, octets.clone(), out, counters);
            }
            session.close(*link, out);
        }
    }

    pub(super) fn sessions(&self) -> Vec<SessionStatus> {
        let status = |session: &Session| SessionStatus {
            peer: session.peer,
            greeted: session.is_greeted,
            table: session.walk.as_ref().map(|walk| walk.digest().records),
            pending_octets: session.pending,
        };
        self.sessions.values().map(status).collect()
    }
}

/// Why a backup is closed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    Malformed,
    Refused,
}

impl Session {
    fn send(&mut self, link: LinkId, octets: Vec<u8>, out: &mut Out, counters: &mut ServerCounters) {
        if octets.is_empty() || self.is_over {
            return;
        }
        self.pending += octets.len();
        out.push((link, Some(octets)));
        if self.pending > PENDING_MAX {
            counters.slow += 1;
            self.close(link, out);
        }
    }

    /// Ends it; it is forgotten once the host has closed it.
    fn close(&mut self, link: LinkId, out: &mut Out) {
        if !self.is_over {
            self.is_over = true;
            self.walk = None;
            out.push((link, None));
        }
    }
}
