//! The backup's side: finds its masters, asks each for its whole table, and has lost datagrams repaired.
//!
//! A peer is whoever sends valid datagrams to the group, or the one that the operator names. Each is connected to by TCP at
//! the sync port's number; one that refuses is a peer that cannot resync (the kernel, an older lvx), and is tried
//! again now and then. What a broken connection misses is asked for by numbers on the next one, as long as the master's
//! daemon is the same; else, and after a loss that cannot be repaired, the whole table is asked for.

use std::collections::BTreeMap;

use crate::base::{Address, Duration, Instant};
use crate::control::sync::backup::Learner;
use crate::control::sync::resync::peer::Peer;
use crate::control::sync::resync::{LinkId, Warm};
use crate::wire::sync::Message;

/// Masters that are followed at once; further ones only have their datagrams taken, and are counted.
pub const PEERS_MAX: usize = 8;
/// A peer that was not heard for so long makes room for another.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(60);
/// When nobody was heard for so long after the start, there is nobody.
pub const LISTEN: Duration = Duration::from_secs(3);

/// What the backup's side did since the director's start.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, serde::Serialize)]
pub struct ClientCounters {
    /// Whole tables asked for.
    pub resyncs: u64,
    /// Those that came whole: as many records as were sent, with the same digest.
    pub resyncs_whole: u64,
    /// Those whose count or digest was another's.
    pub resyncs_different: u64,
    /// Those whose connection broke.
    pub resyncs_broken: u64,
    /// Records of tables that made or changed entries.
    pub records_applied: u64,
    /// Those of which datagrams had told something newer.
    pub records_newer: u64,
    /// Those that could not be taken over: unknown protocol, state or engine, a full table.
    pub records_refused: u64,
    /// Numbered datagrams that were missed.
    pub missed: u64,
    /// Those that came when they were asked for.
    pub repaired: u64,
    /// Those that never came: the whole table was asked for instead.
    pub not_repaired: u64,
    /// Numbered datagrams that came after later ones.
    pub reordered: u64,
    /// Numbered datagrams that came twice.
    pub doubled: u64,
    /// Connections to masters that made no sense.
    pub malformed: u64,
    /// Masters beyond those that can be followed.
    pub peers_ignored: u64,
}

/// What the host is to do about a link to a master.
#[derive(Debug)]
pub(super) enum Wish {
    Open { link: LinkId, peer: Address },
    Send { link: LinkId, octets: Vec<u8> },
    Close { link: LinkId },
}

/// How a link ended, or why there is none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LinkEnd {
    /// The other side refuses connections there.
    Refused,
    /// It does not answer.
    NoAnswer,
    /// It was closed, or broke.
    Closed,
}

/// What follows while a backup's daemon runs.
pub(super) struct Client {
    started: Instant,
    peers: BTreeMap<Address, Peer>,
    /// What was told of it last.
    told: Option<Warm>,
}

/// What a peer needs of its client.
pub(super) struct Context<'a> {
    pub(super) now: Instant,
    pub(super) syncid: u8,
    pub(super) next_link: &'a mut u32,
    pub(super) counters: &'a mut ClientCounters,
    pub(super) wishes: &'a mut Vec<Wish>,
    pub(super) log: &'a mut Vec<String>,
}

impl Client {
    pub(super) fn new(now: Instant, fixed: Option<Address>) -> Self {
        let peers = fixed.map(|address| (address, Peer::new(now, address, true))).into_iter().collect();
        Self { started: now, peers, told: None }
    }

    pub(super) fn peers(&self) -> impl Iterator<Item = &Peer> {
        self.peers.values()
    }

    /// Takes a datagram that passed the checks of its header, from this master and by the port of this number.
    pub(super) fn heard(
        &mut self,
        (source, port): (Address, u16),
        message: &Message<'_>,
        datagram: &[u8],
        context: &mut Context<'_>,
        learner: &mut Learner<'_>,
    ) {
        let now = context.now;
        if !self.peers.contains_key(&source) && !self.make_room(now) {
            context.counters.peers_ignored += 1;
            learner.take(now, datagram);
            return;
        }
        let peer = self.peers.entry(source).or_insert_with(|| Peer::new(now, source, false));
        peer.hear(context);
        match message.stamp() {
            Some(stamp) => peer.take_datagram(context, port, stamp, datagram, learner),
            None => learner.take(now, datagram),
        }
    }

    fn make_room(&mut self, now: Instant) -> bool {
        if self.peers.len() < PEERS_MAX {
            return true;
        }
        let is_gone = |peer: &Peer| peer.link.is_none() && !peer.is_fixed && now - peer.last_sign() > FORGOTTEN_AFTER;
        let gone = self.peers.iter().find_map(|(address, peer)| is_gone(peer).then_some(*address));
        gone.is_some_and(|address| self.peers.remove(&address).is_some())
    }

    /// The master at the other end of a link.
    pub(super) fn of_link(&mut self, link: LinkId) -> Option<&mut Peer> {
        self.peers.values_mut().find(|peer| peer.link == Some(link))
    }

    /// When [`Client::handle_timeout`] is due.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let listening = self.peers.is_empty() && self.told.is_none_or(|told| told == Warm::Listening);
        let peers = self.peers.values().filter_map(Peer::next_deadline);
        peers.chain(listening.then_some(self.started + LISTEN)).min()
    }

    /// Does what is due.
    pub(super) fn handle_timeout(&mut self, context: &mut Context<'_>, learner: &mut Learner<'_>) {
        for peer in self.peers.values_mut() {
            peer.handle_timeout(context, learner);
        }
    }

    /// Asks everybody for the whole table now. Returns how many there are.
    pub(super) fn resync_now(&mut self, now: Instant) -> usize {
        self.peers.values_mut().for_each(|peer| peer.resync_now(now));
        self.peers.len()
    }

    /// The daemon ends: what waited for missing datagrams is taken, and every link goes.
    pub(super) fn end(&mut self, context: &mut Context<'_>, learner: &mut Learner<'_>) {
        for peer in self.peers.values_mut() {
            peer.end(context, learner);
        }
    }

    /// Whether this director has what its peers have.
    pub(super) fn warm(&self, now: Instant) -> Warm {
        if self.peers.is_empty() {
            return if now < self.started + LISTEN { Warm::Listening } else { Warm::NoPeer };
        }
        let open = self.peers.values().filter(|peer| !peer.is_settled());
        let (mut records, mut of, mut is_open) = (0, 0, false);
        for peer in open {
            is_open = true;
            let resync = peer.resync.as_ref();
            records += resync.map_or(0, |resync| resync.digest.records);
            of += resync.map_or(0, |resync| u64::from(resync.entries));
        }
        if is_open {
            return Warm::Resyncing { records, of };
        }
        let is_any = |is: fn(&Peer) -> bool| self.peers.values().any(is);
        match (is_any(|peer| peer.whole.is_some()), is_any(|peer| peer.heard_at.is_some())) {
            (true, _) => Warm::Yes,
            (false, true) => Warm::PeerCannot,
            (false, false) => Warm::NoPeer,
        }
    }

    /// What is news of it: its kind is another than before.
    pub(super) fn warm_news(&mut self, now: Instant) -> Option<Warm> {
        let warm = self.warm(now);
        let is_news = self.told.is_none_or(|told| std::mem::discriminant(&told) != std::mem::discriminant(&warm));
        self.told = Some(warm);
        is_news.then_some(warm)
    }
}
