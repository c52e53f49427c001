//! The stages over a batch, in order.

use std::cell::{Cell, RefCell};
use std::ops::Range;
use std::sync::Arc;

use crate::base::memory::prefetch;
use crate::base::published::Adopted;
use crate::base::{Address, Family, Frame, Instant, InterfaceId};
use crate::conn::Key;
use crate::forward::counters::WorkerCounters;
use crate::forward::decide::{Answer, Decision, Target};
use crate::forward::egress::CachedPath;
use crate::forward::fragment::Recut;
use crate::forward::full_nat::Exchange;
use crate::forward::helper::Change;
use crate::forward::icmp::AnswerLimit;
use crate::forward::nat;
use crate::forward::options::Wish;
use crate::forward::parse::{self, BEGINS, Packet, Parsed, TAGS};
use crate::forward::reassembly::{Datagram, FRAGMENTS_MAX, Reassembly};
use crate::forward::related::Related;
use crate::forward::schedule::Received;
use crate::forward::shared::{NeighbourRequest, Shared, WorkerSlot};
use crate::forward::straight::{Lanes, Locals, Road, Straight, station_word};
use crate::forward::sync::{SyncQueue, SyncRoles};
use crate::forward::tcp_stream;
use crate::forward::tunnel::Outer;
use crate::forward::tunnel_error::TunnelError;
use crate::forward::verdict::{DropReason, Verdict};
use crate::forward::whole::WHOLE_OCTETS;
use crate::mark::Marks;
use crate::port::{BATCH_FRAMES, Port};
use crate::route::{Hop, Route, Routes};
use crate::service::local_addresses::LocalAddresses;
use crate::service::real_servers::RealServers;
use crate::service::{DestinationId, Protocol, Services};

/// One worker's view of the director, and what it keeps between packets.
pub struct Forwarder {
    pub(super) shared: Arc<Shared>,
    worker: usize,
    /// The worker's slot in `shared`.
    pub(super) slot: Arc<WorkerSlot>,
    services: Adopted<Services>,
    real_servers: Adopted<RealServers>,
    marks: Adopted<Marks>,
    /// As of the batch.
    roles: SyncRoles,
    pub(super) routes: Adopted<Routes>,
    /// The number of control's last change that the worker has adopted.
    pub(super) change: u64,
    /// Link address by interface, as of `routes`.
    stations: Vec<[u8; 6]>,
    /// The same as words.
    station_words: Vec<u64>,
    slots: Vec<Slot>,
    /// The batch's packets on the straight way.
    straights: Vec<Straight>,
    pub(super) road: Road,
    pub(super) lanes: Lanes,
    pub(super) known_locals: Locals,
    /// The last IPv6 connection that was met was masqueraded: the next one's far words are likely to be needed.
    pub(super) is_masquerading_v6: bool,
    /// No packet takes the straight way.
    pub(super) is_always_careful: bool,
    /// Next hops of the batch's outbound packets.
    hops: Vec<Hop>,
    /// What is to be changed in the batch's packets.
    pub(super) changes: RefCell<Vec<Change>>,
    /// What full NAT is to exchange in them.
    pub(super) exchanges: RefCell<Vec<Exchange>>,
    local_addresses: Adopted<LocalAddresses>,
    /// The place among all local endpoints that is tried next.
    pub(super) local_place: Cell<u32>,
    /// The batch's ICMP errors.
    pub(super) errors: Vec<Quoting>,
    pub(super) paths: Vec<CachedPath>,
    /// The headers that tunnels put in front of packets, by destination as `paths`.
    pub(super) outers: Vec<Outer>,
    /// The path MTUs that this worker knows of (see `Shared::path_mtus`).
    pub(super) path_mtu_changes: u32,
    pub(super) identification: u16,
    /// Neighbours asked for since `asked_since`.
    pub(super) asked: RefCell<Vec<NeighbourRequest>>,
    pub(super) asked_since: Instant,
    pub(super) answers: AnswerLimit,
    /// A packet being quoted or cut.
    pub(super) scratch: Vec<u8>,
    pub(super) verdicts: Vec<Verdict>,
    pub(super) reassembly: Reassembly,
    /// Datagrams that the batch made whole, with the position of the last fragment of each.
    pub(super) whole: Vec<(usize, Datagram)>,
    /// The datagram on its way, with headroom and link header.
    pub(super) buffer: Box<[u8]>,
    /// How it is to be cut.
    pub(super) recut: Option<Recut>,
    /// Memory for that.
    pub(super) spare_pieces: Vec<u32>,
}

/// The longest IP packet, its link header and room for tags.
const SCRATCH_OCTETS: usize = (1 << 16) + 64;

/// The link address of an interface that is not there.
const NO_STATION: [u8; 6] = [0; 6];

/// Frames whose headers are asked for ahead of the one that is taken apart.
const FRAMES_AHEAD: usize = 4;

/// Packets that a stage takes at once.
const GROUP: usize = 8;

/// What the stages hand on about a frame. Slots stay where they are from batch to batch: each stage writes its part in
/// place, and what a stage does not write is left over from an earlier frame and means nothing.
pub(super) struct Slot {
    pub(super) packet: Packet,
    hash: u64,
    pub(super) way: Way,
    pub(super) decision: Decision,
    pub(super) target: Target,
}

/// What an ICMP error may be about.
#[derive(Clone, Copy)]
pub(super) struct Quoting {
    /// The packet that it quotes.
    related: Option<Related>,
    /// The packet that the quoted one carries.
    tunnelled: Option<TunnelError>,
    /// The next hop of an error that crosses the director.
    pub(super) hop: Option<Hop>,
}

/// Which side a packet comes from, as its destination tells.
#[derive(Clone, Copy)]
pub(super) enum Way {
    /// To an address of the director.
    Inbound,
    /// To somewhere else, by the hop at this position of the batch's hops.
    Outbound(u32),
    /// To a local address, which stands in for clients.
    Returning,
    /// An ICMP error, at this position of the batch's errors.
    Related(u32),
    /// Decided already: by its headers alone, or because it is not for any service.
    Neither,
}

impl Forwarder {
    /// A forwarder for worker number `worker` of `shared`.
    pub fn new(shared: Arc<Shared>, worker: usize) -> Self {
        let services = Adopted::new(&shared.services);
        let real_servers = Adopted::new(&shared.real_servers);
        let marks = Adopted::new(&shared.marks);
        let routes = Adopted::new(&shared.routes);
        let local_addresses = Adopted::new(&shared.local_addresses);
        let local_place = Cell::new(first_local_place(shared.scheduler_seed, worker));
        let mut forwarder = Self {
            slot: Arc::clone(&shared.workers[worker]),
            shared,
            worker,
            services,
            real_servers,
            marks,
            roles: SyncRoles::default(),
            routes,
            change: 0,
            stations: Vec::new(),
            station_words: Vec::new(),
            slots: Vec::with_capacity(BATCH_FRAMES),
            straights: Vec::with_capacity(BATCH_FRAMES),
            road: Road::default(),
            lanes: Lanes::default(),
            known_locals: Locals::default(),
            is_masquerading_v6: false,
            is_always_careful: false,
            hops: Vec::with_capacity(2 * BATCH_FRAMES),
            changes: RefCell::new(Vec::with_capacity(BATCH_FRAMES)),
            exchanges: RefCell::new(Vec::with_capacity(BATCH_FRAMES)),
            local_addresses,
            local_place,
            errors: Vec::with_capacity(BATCH_FRAMES),
            paths: Vec::new(),
            outers: Vec::new(),
            path_mtu_changes: 0,
            identification: 0,
            asked: RefCell::default(),
            asked_since: Instant::START,
            answers: AnswerLimit::default(),
            scratch: Vec::with_capacity(SCRATCH_OCTETS),
            verdicts: Vec::with_capacity(BATCH_FRAMES),
            reassembly: Reassembly::default(),
            whole: Vec::with_capacity(BATCH_FRAMES),
            buffer: vec![0; WHOLE_OCTETS].into_boxed_slice(),
            recut: None,
            spare_pieces: Vec::with_capacity(FRAGMENTS_MAX),
        };
        forwarder.adopt_routes();
        forwarder
    }

    /// Takes over what control has published since the last batch. The cost without news is seven loads.
    #[inline]
    pub fn adopt(&mut self) {
        self.change = self.shared.adopt(self.worker);
        self.services.refresh(&self.shared.services);
        self.real_servers.refresh(&self.shared.real_servers);
        self.marks.refresh(&self.shared.marks);
        if self.local_addresses.refresh(&self.shared.local_addresses) {
            self.known_locals.clear();
            self.lanes.forget(&self.slot);
        }
        self.roles = self.shared.sync_roles.load();
        if self.routes.refresh(&self.shared.routes) {
            self.adopt_routes();
        }
    }

    /// Takes every frame of the batch to its verdict.
    pub fn process<P: Port>(&mut self, port: &mut P, batch: &mut Vec<Frame>, now: Instant) {
        self.counters().received.add(batch.len() as u64);
        self.counters().batches.add(1);
        let mut taken = std::mem::take(&mut self.slots);
        if taken.len() < batch.len() {
            taken.resize_with(batch.len(), Slot::unused);
        }
        let mut straights = std::mem::take(&mut self.straights);
        if straights.len() < batch.len() {
            straights.resize(batch.len(), Straight::CAREFUL);
        }
        let (slots, ways) = (&mut taken[..batch.len()], &mut straights[..batch.len()]);

        self.begin(now);
        self.verdicts.clear();
        self.go_through(port, batch, slots, ways, now);
        batch.clear();
        if !self.whole.is_empty() {
            self.carry_whole(port, now);
        }
        self.make_lanes();

        (self.slots, self.straights) = (taken, straights);
    }

    /// Has every packet take the careful way from now on, to compare it with the straight one.
    pub fn take_care(&mut self) {
        self.is_always_careful = true;
    }

    /// The verdicts of the last batch, in order of its frames.
    pub fn verdicts(&self) -> &[Verdict] {
        &self.verdicts
    }

    /// What was decided on the last batch's packet number `position`, and for which target.
    pub(super) fn decision(&self, position: usize) -> Option<(Decision, Target)> {
        match self.straights.get(position) {
            Some(straight) if straight.is_straight() => Some(straight.decision()),
            _ => self.slots.get(position).map(|slot| (slot.decision, slot.target)),
        }
    }

    /// What holds for a whole batch.
    pub(super) fn begin(&mut self, now: Instant) {
        self.hops.clear();
        self.errors.clear();
        self.changes.get_mut().clear();
        self.exchanges.get_mut().clear();
        self.answers.refill(now);
        self.forget_asked(now);
        self.open_road(now);
    }

    /// The stages, each a group of packets behind the one before it: what a stage asks for has arrived when the next one
    /// needs it, and the requests are spread over the whole batch. (A processor has no more than a dozen or two under
    /// way, and waits with the next.)
    fn go_through<P: Port>(
        &mut self,
        port: &mut P,
        batch: &mut [Frame],
        slots: &mut [Slot],
        ways: &mut [Straight],
        now: Instant,
    ) {
        let (count, has_far_lanes) = (batch.len(), self.has_far_lanes());
        let group = |number: Option<usize>| {
            let first = number.map_or(count, |number| number * GROUP).min(count);
            first..(first + GROUP).min(count)
        };
        let groups = count.div_ceil(GROUP);
        // Real servers are asked for in between where they are many.
        let last = if has_far_lanes { 3 } else { 2 };
        for turn in 0..groups + last {
            let of = group(Some(turn));
            self.read_headers(port, batch, of.clone(), &mut slots[of.clone()], &mut ways[of], now);
            let of = group(turn.checked_sub(1));
            self.prefetch_entries(&slots[of.clone()], &mut ways[of]);
            if has_far_lanes {
                self.prefetch_lanes(&ways[group(turn.checked_sub(2))]);
            }
            let of = group(turn.checked_sub(last));
            self.decide(port, &batch[of.clone()], &mut slots[of.clone()], &mut ways[of.clone()], now);
            self.send_all(port, &mut batch[of.clone()], &mut slots[of.clone()], &mut ways[of], now);
        }
    }

    /// Stage 1: take headers apart; ask for the buckets.
    #[inline(never)]
    fn read_headers<P: Port>(
        &mut self,
        port: &P,
        batch: &[Frame],
        of: Range<usize>,
        slots: &mut [Slot],
        ways: &mut [Straight],
        now: Instant,
    ) {
        for (position, (slot, way)) in of.zip(slots.iter_mut().zip(ways)) {
            if let Some(ahead) = batch.get(position + FRAMES_AHEAD) {
                prefetch(port.bytes(ahead));
            }
            let frame = &batch[position];
            if !self.read_straight(port.bytes(frame), frame.interface, way) {
                *way = Straight::CAREFUL;
                self.parse(port, frame, slot, now);
            }
        }
    }

    /// The same of a packet on the careful way.
    #[inline(never)]
    pub(super) fn parse<P: Port>(&mut self, port: &P, frame: &Frame, slot: &mut Slot, now: Instant) {
        let parsed = self.read(port.bytes(frame), frame.interface, &mut slot.packet);
        let parsed = match parsed {
            Parsed::Transport | Parsed::IcmpError if slot.packet.has_options() => {
                self.heed_options(port.bytes(frame), slot, parsed)
            }
            parsed => parsed,
        };
        match parsed {
            Parsed::Transport => self.classify(slot),
            Parsed::IcmpError => self.classify_error(port.bytes(frame), slot),
            Parsed::Fragment => self.classify_fragment(port.bytes(frame), slot),
            Parsed::SourceRoute => self.refuse_source_route(slot, now),
            Parsed::Other => slot.settle(Verdict::Pass),
            Parsed::Bad(reason) => slot.settle(Verdict::Drop(reason)),
        }
    }

    #[inline(always)]
    pub(super) fn classify(&mut self, slot: &mut Slot) {
        if !self.services.value().balances(slot.packet.family) {
            return slot.settle(Verdict::Pass);
        }
        slot.way = self.way(slot.packet.destination.address);
        let client = match slot.way {
            Way::Inbound => slot.packet.source,
            Way::Outbound(_) | Way::Returning => slot.packet.destination,
            // Without a route the host says so to the sender.
            Way::Related(_) | Way::Neither => return slot.settle(Verdict::Pass),
        };
        slot.hash = self.shared.connections.hash(Some(slot.packet.protocol), client);
        self.shared.connections.prefetch_bucket(slot.hash);
    }

    /// Options may keep a packet from being balanced: a source route does, and what the host must complain of.
    #[cold]
    fn heed_options(&self, frame: &[u8], slot: &Slot, parsed: Parsed) -> Parsed {
        match (Forwarder::wish(frame, &slot.packet), parsed) {
            (Wish::Ordinary, parsed) => parsed,
            (Wish::SourceRoute, Parsed::Transport) => Parsed::SourceRoute,
            (Wish::SourceRoute | Wish::Malformed, _) => Parsed::Other,
        }
    }

    /// What would be balanced ends here, so that the host does not answer in the real server's stead; all else is the
    /// host's.
    #[cold]
    fn refuse_source_route(&mut self, slot: &mut Slot, now: Instant) {
        let packet = slot.packet;
        self.classify(slot);
        let key = |client, other| Key { protocol: Some(packet.protocol), client, other };
        let connections = &self.shared.connections;
        let is_balanced = match slot.way {
            Way::Inbound => {
                let known = key(packet.source, packet.destination);
                self.service_of(&packet).is_some() || connections.find_inbound(slot.hash, &known, now).is_some()
            }
            Way::Outbound(_) => {
                connections.find_outbound(slot.hash, &key(packet.destination, packet.source), now).is_some()
                    || self.marks_crossing(packet.family) && self.service_of(&packet).is_some()
            }
            Way::Returning => {
                let answered = key(packet.destination, packet.source);
                connections.find_by_local_port(slot.hash, &answered, now).is_some()
                    || self.service_of(&packet).is_some()
            }
            Way::Related(_) | Way::Neither => false,
        };
        slot.settle(if is_balanced { Verdict::Drop(DropReason::SourceRoute) } else { Verdict::Pass });
    }

    /// An ICMP error that quotes a packet a connection could have sent waits for its turn; any other is the host's.
    #[cold]
    fn classify_error(&mut self, frame: &[u8], slot: &mut Slot) {
        let packet = &slot.packet;
        let (icmp, end) = (usize::from(packet.transport), usize::from(packet.network) + usize::from(packet.length));
        let related = Related::parse(frame, packet.family, icmp, end);
        let tunnelled = if packet.family == Family::V4 { TunnelError::parse(frame, icmp, end) } else { None };
        let is_about = related.is_some() || tunnelled.is_some();
        if !is_about || !self.services.value().balances(packet.family) {
            return slot.settle(Verdict::Pass);
        }
        let hop = match self.way(packet.destination.address) {
            Way::Inbound | Way::Returning => None,
            Way::Outbound(position) => self.hops.get(position as usize).copied(),
            Way::Related(_) | Way::Neither => return slot.settle(Verdict::Pass),
        };
        self.errors.push(Quoting { related, tunnelled, hop });
        slot.way = Way::Related(self.errors.len() as u32 - 1);
    }

    /// Virtual addresses are few and clients many: local addresses are remembered, all else is routed, and that
    /// route serves the answer to the client too.
    #[inline(always)]
    pub(super) fn way(&mut self, destination: Address) -> Way {
        if self.known_locals.has(destination) {
            return Way::Inbound;
        }
        self.find_way(destination)
    }

    #[inline(never)]
    fn find_way(&mut self, destination: Address) -> Way {
        if self.local_addresses.value().contains(destination) {
            return Way::Returning;
        }
        match self.routes.value().lookup(destination, flow_hash(destination)) {
            Route::Local => {
                self.known_locals.remember(destination);
                Way::Inbound
            }
            Route::Unicast(hop) => {
                self.hops.push(hop);
                Way::Outbound(self.hops.len() as u32 - 1)
            }
            // Not the director's, and nobody else's: only a mark can say more of it.
            Route::Unreachable | Route::Blackhole if self.marks_crossing(destination.family()) => Way::Inbound,
            Route::Unreachable | Route::Blackhole | Route::Broadcast => Way::Neither,
        }
    }

    /// Stage 2: the buckets have arrived; ask for the entries that their tags suggest.
    #[inline(never)]
    fn prefetch_entries(&self, slots: &[Slot], ways: &mut [Straight]) {
        for (slot, way) in slots.iter().zip(ways) {
            if way.is_straight() {
                self.guess_straight(way);
            } else if matches!(slot.way, Way::Inbound | Way::Outbound(_) | Way::Returning) {
                self.shared.connections.prefetch_entry(slot.hash);
            }
        }
    }

    /// Between stages 2 and 3: the entries have arrived; ask for what belongs to their servers.
    #[inline(never)]
    fn prefetch_lanes(&self, ways: &[Straight]) {
        ways.iter().for_each(|way| self.prefetch_lane(way));
    }

    /// Stage 3: find or open connections, advance their states, count. In order: a batch may hold a connection's
    /// first packet and its second. On its own, as the registers that it needs are all that there are.
    #[inline(never)]
    fn decide<P: Port>(&mut self, port: &P, batch: &[Frame], slots: &mut [Slot], ways: &mut [Straight], now: Instant) {
        for ((frame, slot), way) in batch.iter().zip(slots).zip(ways) {
            if way.is_straight() {
                if self.follow_straight(port.bytes(frame), way) {
                    continue;
                }
                *way = Straight::CAREFUL;
                self.parse(port, frame, slot, now);
            }
            self.decide_with_care(&Received { port, frame }, slot, now);
        }
    }

    /// The same of a packet on the careful way.
    #[inline(never)]
    pub(super) fn decide_with_care<P: Port>(&self, received: &Received<'_, P>, slot: &mut Slot, now: Instant) {
        let Slot { packet, hash, way, decision, target } = slot;
        match way {
            Way::Inbound => *decision = self.decide_inbound(received, packet, *hash, now, target),
            Way::Outbound(_) => {
                let mtu = self.hop(*way).map_or(u32::MAX, |hop| hop.mtu);
                *decision = self.decide_outbound(received, packet, *hash, mtu, now, target);
            }
            Way::Returning => *decision = self.decide_returning(received, packet, *hash, now, target),
            Way::Related(position) => {
                let quoting = &self.errors[*position as usize];
                *decision = self.decide_error(received, packet, quoting, now, target);
            }
            Way::Neither => {}
        }
    }

    /// Stage 4: rewrite and send.
    #[inline(never)]
    fn send_all<P: Port>(
        &mut self,
        port: &mut P,
        batch: &mut [Frame],
        slots: &mut [Slot],
        ways: &mut [Straight],
        now: Instant,
    ) {
        let (mut straight, mut others) = (0, 0);
        for ((frame, slot), way) in batch.iter_mut().zip(slots).zip(ways) {
            let frame = match way.is_straight() {
                false => frame.take(),
                true => match self.send_straight(port, frame.take(), way) {
                    Ok(verdict) => {
                        straight += 1;
                        self.verdicts.push(verdict);
                        continue;
                    }
                    Err(frame) => {
                        self.resume(port, &frame, slot, way, now);
                        frame
                    }
                },
            };
            let verdict = self.send_on(port, frame, slot, now);
            others += u64::from(matches!(verdict, Verdict::Transmit(_)));
            self.verdicts.push(verdict);
        }
        self.counters().transmitted.add(straight + others);
        self.counters().straight.add(straight);
    }

    /// The same of a packet on the careful way. What is not sent is counted.
    #[inline(never)]
    pub(super) fn send_on<P: Port>(&mut self, port: &mut P, frame: Frame, slot: &mut Slot, now: Instant) -> Verdict {
        let verdict = match slot.packet.care {
            0 => self.carry_out(port, frame, slot, now),
            _ => self.carry_out_with_care(port, frame, slot, now),
        };
        if !matches!(verdict, Verdict::Transmit(_)) {
            self.counters().count(verdict);
        }
        verdict
    }

    /// Hands a packet that was followed on the straight way over to the careful one, which is to send it.
    #[cold]
    fn resume<P: Port>(&mut self, port: &P, frame: &Frame, slot: &mut Slot, way: &mut Straight, now: Instant) {
        self.parse(port, frame, slot, now);
        (slot.decision, slot.target) = way.decision();
        slot.target.epoch = self.shared.destinations.get(slot.target.destination).epoch();
        *way = Straight::CAREFUL;
    }

    /// The same of a packet that asks for more than its forwarding.
    #[cold]
    #[inline(never)]
    fn carry_out_with_care<P: Port>(&mut self, port: &mut P, frame: Frame, slot: &mut Slot, now: Instant) -> Verdict {
        if slot.packet.care & TAGS != 0 {
            return self.carry_out_tagged(port, frame, slot, now);
        }
        self.prepare(port, &frame, slot, now);
        self.carry_out(port, frame, slot, now)
    }

    /// What a packet with options gets, and one that begins a connection.
    pub(super) fn prepare<P: Port>(&self, port: &mut P, frame: &Frame, slot: &Slot, now: Instant) {
        if slot.packet.has_options() && !matches!(slot.decision, Decision::Verdict(_) | Decision::Gather) {
            let (packet, service) = (&slot.packet, slot.target.new.address);
            self.stamp_options(port.bytes_mut(frame), packet, &slot.decision, service, now);
        }
        if slot.packet.care & BEGINS != 0 && slot.decision.takes_on() {
            self.clamp_mss(port.bytes_mut(frame), &slot.packet, slot.target.destination);
        }
    }

    /// Rewrites and sends one packet as was decided.
    #[inline(always)]
    pub(super) fn carry_out<P: Port>(&mut self, port: &mut P, frame: Frame, slot: &Slot, now: Instant) -> Verdict {
        match slot.decision {
            Decision::Verdict(verdict) => self.settle(port, frame, slot.packet(), verdict),
            Decision::Forward(method) => self.forward(port, frame, &slot.packet, &slot.target, method),
            Decision::Masquerade => self.masquerade(port, frame, &slot.packet, &slot.target),
            Decision::ToClient => self.return_to_client(port, frame, &slot.packet, slot.target.new, self.hop(slot.way)),
            Decision::Changed { direction, position } => {
                let hop = self.hop(slot.way);
                self.send_changed(port, frame, &slot.packet, &slot.target, (direction, position), hop)
            }
            Decision::Exchanged { direction, position } => {
                self.send_exchanged(port, frame, &slot.packet, &slot.target, (direction, position))
            }
            Decision::Gather => self.gather(port, frame, &slot.packet, self.verdicts.len(), now),
            Decision::Answer(answer) => {
                if answer == Answer::Unwanted {
                    // The kernel quotes what it would have forwarded.
                    nat::decrement_ttl(port.bytes_mut(&frame), &slot.packet);
                }
                self.answer(port, frame, &slot.packet, answer)
            }
            Decision::RelayToServer(_)
            | Decision::RelayToClient
            | Decision::RelayExchanged { .. }
            | Decision::RelayFromTunnel => self.relay(port, frame, slot, now),
        }
    }

    /// Takes a frame apart that `interface` received.
    #[inline(always)]
    pub(super) fn read(&self, frame: &[u8], interface: InterfaceId, packet: &mut Packet) -> Parsed {
        let parsed = parse::parse(frame, self.station(interface), packet);
        packet.interface = interface;
        match parsed {
            Parsed::Other => self.parse_tagged(frame, interface, packet),
            parsed => parsed,
        }
    }

    /// The link address by which an interface is meant.
    #[inline(always)]
    pub(super) fn station(&self, interface: InterfaceId) -> &[u8; 6] {
        self.stations.get(usize::from(interface.0)).unwrap_or(&NO_STATION)
    }

    /// The same as a word; one that no frame has where there is no such interface.
    #[inline(always)]
    pub(super) fn station_word(&self, interface: InterfaceId) -> u64 {
        self.station_words.get(usize::from(interface.0)).copied().unwrap_or(u64::MAX)
    }

    /// Moves what an error quotes to where it lies when the frame has lost `octets` in front.
    #[cold]
    pub(super) fn shift_error(&mut self, slot: &Slot, octets: usize) {
        if let Way::Related(position) = slot.way {
            let quoting = &mut self.errors[position as usize];
            quoting.related = quoting.related.map(|related| related.moved_back(octets));
            quoting.tunnelled = quoting.tunnelled.map(|error| error.moved_back(octets));
        }
    }

    /// Keeps the MSS that a SYN asks for within what its service allows.
    #[cold]
    fn clamp_mss(&self, frame: &mut [u8], packet: &Packet, destination: DestinationId) {
        if packet.protocol == Protocol::Tcp && destination != DestinationId::NONE {
            match self.shared.destinations.get(destination).mss_max() {
                0 => {}
                largest => tcp_stream::clamp_mss(frame, packet, largest),
            }
        }
    }

    #[cold]
    fn relay<P: Port>(&mut self, port: &mut P, frame: Frame, slot: &Slot, now: Instant) -> Verdict {
        let Way::Related(position) = slot.way else {
            return self.settle(port, frame, None, Verdict::Pass);
        };
        let (packet, target) = (&slot.packet, &slot.target);
        match (slot.decision, self.errors[position as usize]) {
            (Decision::RelayToServer(method), Quoting { related: Some(related), .. }) => {
                self.relay_to_server(port, frame, packet, &related, target, method)
            }
            (Decision::RelayToClient, Quoting { related: Some(related), hop, .. }) => {
                self.relay_to_client(port, frame, packet, &related, target.new, hop)
            }
            (Decision::RelayExchanged { direction, position }, Quoting { related: Some(related), .. }) => {
                self.relay_exchanged(port, frame, packet, &related, target, (direction, position))
            }
            (Decision::RelayFromTunnel, Quoting { tunnelled: Some(error), .. }) => {
                self.relay_from_tunnel(port, frame, &error, target.destination, now)
            }
            _ => self.settle(port, frame, None, Verdict::Pass),
        }
    }

    #[cold]
    fn decide_error<P: Port>(
        &self,
        received: &Received<'_, P>,
        packet: &Packet,
        quoting: &Quoting,
        now: Instant,
        target: &mut Target,
    ) -> Decision {
        if let (Some(error), None) = (&quoting.tunnelled, quoting.hop)
            && let Some(decision) = self.decide_tunnel_error(received, packet, error, now, target)
        {
            return decision;
        }
        match (&quoting.related, quoting.hop) {
            (None, _) => Decision::Verdict(Verdict::Pass),
            (Some(related), None) => self.decide_related_inbound(received, packet, related, now, target),
            (Some(related), Some(_)) => self.decide_related_crossing(received, packet, related, now, target),
        }
    }

    pub(super) fn hop(&self, way: Way) -> Option<Hop> {
        match way {
            Way::Outbound(position) => self.hops.get(position as usize).copied(),
            Way::Inbound | Way::Returning | Way::Related(_) | Way::Neither => None,
        }
    }

    fn adopt_routes(&mut self) {
        self.known_locals.clear();
        self.lanes.forget(&self.slot);
        self.station_words.clear();
        self.paths.clear();
        self.outers.clear();
        self.stations.clear();
        let routes = self.routes.value();
        for interface in routes.interfaces() {
            let station = routes.link(interface).map(|link| link.mac.0).unwrap_or_default();
            self.stations.push(station);
            self.station_words.push(station_word(&station));
        }
    }

    pub(super) fn services(&self) -> &Services {
        self.services.value()
    }

    pub(super) fn local_addresses(&self) -> &LocalAddresses {
        self.local_addresses.value()
    }

    pub(super) fn marks(&self) -> &Marks {
        self.marks.value()
    }

    #[inline]
    pub(super) fn real_servers(&self) -> &RealServers {
        self.real_servers.value()
    }

    /// Which sync daemons run, as of the batch.
    #[inline(always)]
    pub(super) const fn roles(&self) -> SyncRoles {
        self.roles
    }

    pub(super) fn sync_queue(&self) -> &SyncQueue {
        &self.slot.sync_queue
    }

    #[inline]
    pub(super) fn routes(&self) -> &Routes {
        self.routes.value()
    }

    #[inline]
    pub(super) fn counters(&self) -> &WorkerCounters {
        &self.slot.counters
    }

    /// The worker's number.
    pub fn worker(&self) -> usize {
        self.worker
    }

    /// What the forwarder shares with control and other workers.
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }
}

impl Slot {
    pub(super) const fn unused() -> Self {
        Slot {
            packet: Packet::empty(),
            hash: 0,
            way: Way::Neither,
            decision: Decision::Verdict(Verdict::Pass),
            target: Target::NONE,
        }
    }

    /// The packet, where the headers gave one.
    fn packet(&self) -> Option<&Packet> {
        (!matches!(self.way, Way::Neither)).then_some(&self.packet)
    }

    /// Decides by the headers alone.
    pub(super) fn settle(&mut self, verdict: Verdict) {
        self.way = Way::Neither;
        self.decision = Decision::Verdict(verdict);
    }
}

/// Spreads destinations over the hops of a multipath route.
#[inline]
pub(super) const fn flow_hash(destination: Address) -> u32 {
    let [a, b, c, d] = destination.words();
    (a ^ b ^ c ^ d).wrapping_mul(0x9e37_79b9)
}

/// Where a worker begins to try local endpoints: apart from other workers, and not where it did before a restart.
const fn first_local_place(seed: u64, worker: usize) -> u32 {
    (seed as u32).wrapping_add((worker as u32).wrapping_mul(0x9e37_79b9))
}
