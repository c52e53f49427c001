//! Resynchronisation between two lvx: what the kernel's sync cannot do.
//!
//! - A backup that starts asks its master for the whole table, checks count and digest of what comes, and asks again when
//!   they differ.
//! - From then on the master numbers its datagrams; the backup puts them in order, has lost ones repeated, and asks for the
//!   whole table when one cannot be.
//! - A master that is silent otherwise sends an empty datagram every second, so that a backup finds it. The kernel and an
//!   older lvx read nothing in it.
//! - With a kernel or an older lvx at the other end all is as without: a *peer that cannot resync*.
//!
//! **For VRRP**: [`Control::sync_is_warm`] says whether this director has what its peers have, and
//! [`LinkAction::Warm`] comes when that becomes another. A director that returns should not preempt while
//! [`Warm::is_open`], for a bounded time; [`Warm::Yes`], [`Warm::PeerCannot`] and [`Warm::NoPeer`] are all there is to
//! wait for. It is about the backup's daemon that runs now: start it before the question, and stop it after the
//! takeover. Without a backup's daemon there is no peer.
//!
//! The machines are values: the time and octets in, [`LinkAction`]s out ([`client`], [`server`], [`peer`], [`tracker`]).
//! `host::links` has the sockets.
//!
//! **Invariant**: what comes from a link decides of no more memory than a frame, the datagrams that wait, and entries of
//! the table.

pub mod cannot;
pub mod client;
pub mod peer;
mod ring;
pub mod server;
pub mod status;
pub mod tracker;
pub mod walk;

#[cfg(test)]
mod tests;

pub use client::LinkEnd;
pub use ring::{RING_MAX, RING_OCTETS_MAX};

use crate::base::{Address, Duration, Family, Instant, Rng};
use crate::command::request::DaemonRule;
use crate::conn::sync::Policy;
use crate::control::sync::backup::Learner;
use crate::control::sync::resync::client::{Client, ClientCounters, Context, Wish};
use crate::control::sync::resync::peer::Peer;
use crate::control::sync::resync::server::{Out, Server, ServerCounters};
use crate::control::{Action, Control};
use crate::wire::resync::{Frame, Reason};
use crate::wire::sync::{Version, Writer};

/// Connections a second that a master tells of when its table is asked for, unless said otherwise.
pub const RATE_DEFAULT: u32 = 500_000;
/// A master that sent nothing for so long sends an empty datagram.
const HAIL_PERIOD: Duration = Duration::from_secs(1);

/// What the operator says of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ResyncOptions {
    /// The TCP port; `None`: that of the sync daemon.
    pub port: Option<u16>,
    /// A master to ask without having heard it.
    pub peer: Option<Address>,
    /// Connections a second that are told of at most.
    pub rate: u32,
    /// What tells one run of a daemon from another is drawn from it.
    pub seed: u64,
}

/// A TCP connection between two directors, as control names it to the host.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct LinkId(pub u32);

/// What the host is to do about links.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LinkAction {
    /// Take connections at this port of the interface, from its own link alone.
    Listen {
        /// The interface.
        interface: String,
        /// Of which family.
        family: Family,
        /// TCP port.
        port: u16,
    },
    /// Take none any more.
    Unlisten,
    /// Connect to a master.
    Open {
        /// The link's name from now on.
        link: LinkId,
        /// The interface.
        interface: String,
        /// The master.
        peer: Address,
        /// TCP port.
        port: u16,
    },
    /// Send, as soon as the other side takes it.
    Send {
        /// By which link.
        link: LinkId,
        /// What.
        octets: Vec<u8>,
    },
    /// Close, once what was to be sent is sent.
    Close {
        /// Which link.
        link: LinkId,
    },
    /// Whether this director has what its peers have is another thing than before.
    Warm(Warm),
}

/// Whether this director has the connections of its sync peers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Warm {
    /// It is listened for peers.
    Listening,
    /// A table is being asked for, or will be soon.
    Resyncing {
        /// Records that have come.
        records: u64,
        /// About how many there are; 0 while that is not known.
        of: u64,
    },
    /// It has what a peer has; what changes comes by datagrams.
    Yes,
    /// All peers are such as cannot be asked, or were asked in vain.
    PeerCannot,
    /// There is no peer, or no backup's daemon.
    NoPeer,
}

impl Warm {
    /// It is not known yet; waiting helps.
    pub const fn is_open(self) -> bool {
        matches!(self, Warm::Listening | Warm::Resyncing { .. })
    }

    /// In words.
    pub fn text(self) -> String {
        match self {
            Warm::Listening => "listening for peers".into(),
            Warm::Resyncing { records, of: 0 } => format!("resynchronising, {records} records so far"),
            Warm::Resyncing { records, of } => format!("resynchronising, {records} of about {of} records"),
            Warm::Yes => "warm: it has what its peer has".into(),
            Warm::PeerCannot => "the peer cannot resync; connections come by datagrams alone".into(),
            Warm::NoPeer => "no peer".into(),
        }
    }
}

/// Both sides.
#[derive(Default)]
pub(super) struct Resync {
    options: Option<ResyncOptions>,
    rng: Option<Rng>,
    server: Option<Server>,
    client: Option<Client>,
    next_link: u32,
    hail_at: Option<Instant>,
    /// Records and datagrams that were lost before the wire, as of the last look.
    lost: u64,
    server_counters: ServerCounters,
    client_counters: ClientCounters,
    hails: u64,
}

impl Resync {
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let server = self.server.as_ref().and_then(Server::next_deadline);
        let client = self.client.as_ref().and_then(Client::next_deadline);
        [server, client, self.hail_at].into_iter().flatten().min()
    }

    pub(super) fn is_numbering(&self) -> bool {
        self.server.as_ref().is_some_and(Server::is_numbering)
    }

    /// Numbers a datagram that is about to leave, if somebody wants numbers.
    pub(super) fn number(&mut self, now: Instant, port: u16, datagram: &mut Vec<u8>, octets_max: usize) {
        if let Some(server) = &mut self.server {
            server.number(port, datagram, octets_max);
        }
        if let Some(at) = &mut self.hail_at {
            *at = now + HAIL_PERIOD;
        }
    }

    /// Takes note of how much was lost in all before it was a datagram.
    pub(super) fn note_lost(&mut self, now: Instant, lost: u64) {
        if self.lost != lost {
            self.lost = lost;
            if let Some(server) = &mut self.server {
                server.leave_out(now);
            }
        }
    }
}

impl Control {
    /// Lets sync daemons that start from now on resynchronise. Without it they do what the kernel's do.
    pub fn set_resync(&mut self, options: ResyncOptions) {
        self.sync.resync.rng = Some(Rng::new(options.seed));
        self.sync.resync.options = Some(options);
    }

    /// Whether this director has the connections of its sync peers; see the module.
    pub fn sync_is_warm(&self, now: Instant) -> Warm {
        self.sync.resync.client.as_ref().map_or(Warm::NoPeer, |client| client.warm(now))
    }

    /// A master's daemon starts.
    pub(super) fn start_server(&mut self, now: Instant, rule: &DaemonRule, ports: u16) {
        let resync = &mut self.sync.resync;
        let (Some(options), Some(rng)) = (resync.options, &mut resync.rng) else { return };
        let epoch = rng.next_u32() as u16;
        resync.server = Some(Server::new(rule.syncid, ports, epoch, options.rate, now));
        resync.hail_at = Some(now + HAIL_PERIOD);
        self.actions.push_back(Action::Link(LinkAction::Listen {
            interface: rule.interface.clone(),
            family: rule.group.map_or(Family::V4, |group| group.family()),
            port: options.port.unwrap_or(rule.port),
        }));
    }

    /// A master's daemon has sent its last datagrams, which go to its backups for sure.
    pub(super) fn end_server(&mut self, last: &[(u16, Vec<u8>)]) {
        self.sync.resync.hail_at = None;
        let Some(mut server) = self.sync.resync.server.take() else { return };
        let mut out = Out::new();
        server.end(last, &mut out, &mut self.sync.resync.server_counters);
        self.put_out(out);
        self.actions.push_back(Action::Link(LinkAction::Unlisten));
    }

    /// A backup's daemon starts.
    pub(super) fn start_client(&mut self, now: Instant) {
        let resync = &mut self.sync.resync;
        let Some(options) = resync.options else { return };
        resync.client = Some(Client::new(now, options.peer));
        self.settle_client(now, Vec::new(), Vec::new());
    }

    /// A backup's daemon is about to end.
    pub(super) fn end_client(&mut self, now: Instant) {
        if self.sync.resync.client.is_some() {
            self.with_client(now, |client, context, learner| client.end(context, learner));
            self.sync.resync.client = None;
            self.actions.push_back(Action::Link(LinkAction::Warm(Warm::NoPeer)));
        }
    }

    fn put_out(&mut self, out: Out) {
        for (link, octets) in out {
            let action = match octets {
                Some(octets) => LinkAction::Send { link, octets },
                None => LinkAction::Close { link },
            };
            self.actions.push_back(Action::Link(action));
        }
    }

    fn put_wishes(&mut self, wishes: Vec<Wish>) {
        let Some(rule) = &self.sync.backup else { return };
        let port = self.sync.resync.options.and_then(|options| options.port).unwrap_or(rule.port);
        for wish in wishes {
            let action = match wish {
                Wish::Open { link, peer } => LinkAction::Open { link, interface: rule.interface.clone(), peer, port },
                Wish::Send { link, octets } => LinkAction::Send { link, octets },
                Wish::Close { link } => LinkAction::Close { link },
            };
            self.actions.push_back(Action::Link(action));
        }
    }

    fn settle_client(&mut self, now: Instant, wishes: Vec<Wish>, log: Vec<String>) {
        self.put_wishes(wishes);
        self.actions.extend(log.into_iter().map(Action::Log));
        if let Some(warm) = self.sync.resync.client.as_mut().and_then(|client| client.warm_news(now)) {
            self.actions.push_back(Action::Log(format!("connection sync: {}", warm.text())));
            self.actions.push_back(Action::Link(LinkAction::Warm(warm)));
        }
    }

    /// Lets the client act, and does what it wants then.
    fn with_client(&mut self, now: Instant, act: impl FnOnce(&mut Client, &mut Context<'_>, &mut Learner<'_>)) {
        let sync = &mut self.sync;
        let (Some(rule), Some(client)) = (&sync.backup, &mut sync.resync.client) else { return };
        let mut learner = Learner::new(&self.shared, &mut sync.counters, rule);
        let (mut wishes, mut log) = (Vec::new(), Vec::new());
        let mut context = Context {
            now,
            syncid: rule.syncid,
            next_link: &mut sync.resync.next_link,
            counters: &mut sync.resync.client_counters,
            wishes: &mut wishes,
            log: &mut log,
        };
        act(client, &mut context, &mut learner);
        self.settle_client(now, wishes, log);
    }

    /// Likewise the master at the other end of a link.
    fn with_peer(
        &mut self,
        now: Instant,
        link: LinkId,
        act: impl FnOnce(&mut Peer, &mut Context<'_>, &mut Learner<'_>),
    ) {
        self.with_client(now, |client, context, learner| {
            if let Some(peer) = client.of_link(link) {
                act(peer, context, learner);
            }
        });
    }

    /// Takes a datagram that came to the group. Without a backup daemon it is nobody's.
    pub fn receive_sync(&mut self, now: Instant, datagram: &[u8]) {
        self.receive_sync_from(now, None, datagram);
    }

    /// Takes a datagram that came to the group from a master, by the port of this number from the first on.
    pub fn receive_sync_from(&mut self, now: Instant, source: Option<(Address, u16)>, datagram: &[u8]) {
        let sync = &mut self.sync;
        let Some(rule) = &sync.backup else { return };
        sync.counters.datagrams_received += 1;
        sync.last_received = Some(now);
        let mut learner = Learner::new(&self.shared, &mut sync.counters, rule);
        let Some(source) = source.filter(|_| sync.resync.client.is_some()) else {
            learner.take(now, datagram);
            return;
        };
        let Some(message) = learner.check(datagram) else { return };
        self.with_client(now, |client, context, learner| client.heard(source, &message, datagram, context, learner));
    }

    /// A backup has connected to this master. The link's name; none when it is to be closed at once.
    pub fn link_accepted(&mut self, now: Instant, peer: Address) -> Option<LinkId> {
        let resync = &mut self.sync.resync;
        let server = resync.server.as_mut()?;
        let link = LinkId(resync.next_link);
        resync.next_link = resync.next_link.wrapping_add(1);
        if !server.accept(now, link, peer, &mut resync.server_counters) {
            let mut octets = Vec::new();
            Frame::Refusal(Reason::Busy).emit(&mut octets);
            self.put_out(vec![(link, Some(octets)), (link, None)]);
        }
        Some(link)
    }

    /// A link to a master is open.
    pub fn link_opened(&mut self, now: Instant, link: LinkId) {
        self.with_peer(now, link, |peer, context, _| peer.opened(context));
    }

    /// Takes octets that came by a link.
    pub fn link_received(&mut self, now: Instant, link: LinkId, octets: &[u8]) {
        let resync = &mut self.sync.resync;
        if let Some(server) = resync.server.as_mut().filter(|server| server.has(link)) {
            let (v4, v6) = self.shared.connections.used();
            let mut out = Out::new();
            server.receive(now, link, octets, v4.saturating_add(v6), &mut out, &mut resync.server_counters);
            self.put_out(out);
            return;
        }
        self.with_peer(now, link, |peer, context, learner| peer.receive(context, octets, learner));
    }

    /// So many octets of what was to be sent by a link are sent.
    pub fn link_written(&mut self, now: Instant, link: LinkId, octets: usize) {
        if let Some(server) = &mut self.sync.resync.server {
            server.written(now, link, octets);
        }
    }

    /// A link has ended, or could not be opened.
    pub fn link_closed(&mut self, now: Instant, link: LinkId, end: LinkEnd) {
        if let Some(server) = &mut self.sync.resync.server {
            server.closed(link);
        }
        self.with_peer(now, link, |peer, context, learner| peer.closed(context, end, learner));
    }

    /// Does what is due of both sides.
    pub(in crate::control) fn handle_resync_timeout(&mut self, now: Instant) {
        if let Some(server) = self.sync.resync.server.as_mut().filter(|server| server.is_due(now)) {
            let mut out = Out::new();
            let policy = Policy::of(&self.shared.sysctls);
            let connections = &self.shared.connections;
            server.handle_timeout(now, connections, &policy, &mut out, &mut self.sync.resync.server_counters);
            self.put_out(out);
        }
        let client_at = self.sync.resync.client.as_ref().and_then(Client::next_deadline);
        if client_at.is_some_and(|at| at <= now) {
            self.with_client(now, |client, context, learner| client.handle_timeout(context, learner));
        }
        self.hail(now);
    }

    /// Lets backups find a master that has nothing to say.
    fn hail(&mut self, now: Instant) {
        let Some(master) = self.sync.master.as_ref().filter(|_| self.sync.resync.hail_at.is_some_and(|at| at <= now))
        else {
            return;
        };
        self.sync.resync.hail_at = Some(now + HAIL_PERIOD);
        self.sync.resync.hails += 1;
        let datagram = Writer::new(Version::V1, master.rule.syncid, crate::wire::sync::HEADER_OCTETS).finish();
        self.actions.push_back(Action::SendSync { port: 0, datagram });
    }
}
