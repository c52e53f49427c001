//! The stages over a batch, in order.

use std::sync::Arc;

use crate::base::published::Adopted;
use crate::base::{Address, Frame, Instant};
use crate::forward::counters::WorkerCounters;
use crate::forward::decide::Decision;
use crate::forward::egress::CachedPath;
use crate::forward::icmp::AnswerLimit;
use crate::forward::parse::{self, Packet, Parsed};
use crate::forward::shared::Shared;
use crate::forward::verdict::{DropReason, Verdict};
use crate::port::{BATCH_FRAMES, Port};
use crate::route::{Hop, Route, Routes};
use crate::service::Services;

/// One worker's view of the director, and what it keeps between packets.
pub struct Forwarder {
    pub(super) shared: Arc<Shared>,
    worker: usize,
    services: Adopted<Services>,
    pub(super) routes: Adopted<Routes>,
    /// Link address by interface, as of `routes`.
    stations: Vec<[u8; 6]>,
    slots: Vec<Slot>,
    pub(super) paths: Vec<CachedPath>,
    locals: [Option<Address>; LOCALS],
    pub(super) identification: u16,
    pub(super) answers: AnswerLimit,
    /// A packet being quoted or cut.
    pub(super) scratch: Vec<u8>,
    verdicts: Vec<Verdict>,
}

/// The longest IP packet, its link header and room for tags.
const SCRATCH_OCTETS: usize = (1 << 16) + 64;

/// Local addresses that a worker remembers, by their low bits.
const LOCALS: usize = 64;

/// A frame on its way through the stages.
struct Slot {
    frame: Frame,
    packet: Packet,
    way: Way,
    hash: u64,
    decision: Decision,
}

/// Which side a packet comes from, as its destination tells.
#[derive(Clone, Copy)]
enum Way {
    /// To an address of the director.
    Inbound,
    /// To somewhere else, by this hop if there is one.
    Outbound(Option<Hop>),
    /// Decided by its headers alone.
    Neither,
}

impl Forwarder {
    /// A forwarder for worker number `worker` of `shared`.
    pub fn new(shared: Arc<Shared>, worker: usize) -> Self {
        let services = Adopted::new(&shared.services);
        let routes = Adopted::new(&shared.routes);
        let mut forwarder = Self {
            shared,
            worker,
            services,
            routes,
            stations: Vec::new(),
            slots: Vec::with_capacity(BATCH_FRAMES),
            paths: Vec::new(),
            locals: [None; LOCALS],
            identification: 0,
            answers: AnswerLimit::default(),
            scratch: Vec::with_capacity(SCRATCH_OCTETS),
            verdicts: Vec::with_capacity(BATCH_FRAMES),
        };
        forwarder.adopt_routes();
        forwarder
    }

    /// Takes over what control has published since the last batch. The cost without news is three loads.
    #[inline]
    pub fn adopt(&mut self) {
        self.shared.adopt(self.worker);
        self.services.refresh(&self.shared.services);
        if self.routes.refresh(&self.shared.routes) {
            self.adopt_routes();
        }
    }

    /// Takes every frame of the batch to its verdict.
    pub fn process<P: Port>(&mut self, port: &mut P, batch: &mut Vec<Frame>, now: Instant) {
        let mut slots = std::mem::take(&mut self.slots);
        self.verdicts.clear();
        self.counters().received.add(batch.len() as u64);
        self.counters().batches.add(1);

        self.parse(port, batch, &mut slots);
        self.prefetch_entries(&slots);
        self.decide(&mut slots, now);
        self.carry_out_all(port, &mut slots, now);

        self.slots = slots;
    }

    /// The verdicts of the last batch, in order of its frames.
    pub fn verdicts(&self) -> &[Verdict] {
        &self.verdicts
    }

    /// Stage 1: take headers apart; ask for the bucket of each packet.
    fn parse<P: Port>(&mut self, port: &P, batch: &mut Vec<Frame>, slots: &mut Vec<Slot>) {
        for frame in batch.drain(..) {
            let station = self.stations.get(usize::from(frame.interface.0)).copied().unwrap_or_default();
            let slot = match parse::parse(port.bytes(&frame), station) {
                Parsed::Transport(packet) => self.classify(frame, packet),
                Parsed::Fragment => Slot::decided(frame, Verdict::Drop(DropReason::Fragment)),
                Parsed::Other => Slot::decided(frame, Verdict::Pass),
                Parsed::Bad(reason) => Slot::decided(frame, Verdict::Drop(reason)),
            };
            slots.push(slot);
        }
    }

    #[inline]
    fn classify(&mut self, frame: Frame, packet: Packet) -> Slot {
        let way = self.way(packet.destination.address);
        let client = match way {
            Way::Outbound(_) => packet.destination,
            _ => packet.source,
        };
        let hash = self.shared.connections.hash(Some(packet.protocol), client);
        self.shared.connections.prefetch_bucket(hash);
        Slot { frame, packet, way, hash, decision: Decision::Verdict(Verdict::Pass) }
    }

    /// Virtual addresses are few and clients many: local addresses are remembered, all else is routed, and that
    /// route serves the answer to the client too.
    #[inline]
    fn way(&mut self, destination: Address) -> Way {
        let remembered = &mut self.locals[destination.0 as usize % LOCALS];
        if *remembered == Some(destination) {
            return Way::Inbound;
        }
        match self.routes.value().lookup(destination, flow_hash(destination)) {
            Route::Local => {
                *remembered = Some(destination);
                Way::Inbound
            }
            Route::Unicast(hop) => Way::Outbound(Some(hop)),
            Route::Unreachable | Route::Blackhole | Route::Broadcast => Way::Outbound(None),
        }
    }

    /// Stage 2: the buckets have arrived; ask for the entries that their tags suggest.
    fn prefetch_entries(&self, slots: &[Slot]) {
        for slot in slots {
            if !matches!(slot.way, Way::Neither) {
                self.shared.connections.prefetch_entry(slot.hash);
            }
        }
    }

    /// Stage 3: find or open connections, advance their states, count. In order: a batch may hold a connection's
    /// first packet and its second.
    fn decide(&self, slots: &mut [Slot], now: Instant) {
        for slot in slots {
            slot.decision = match slot.way {
                Way::Inbound => self.decide_inbound(&slot.packet, slot.hash, now),
                Way::Outbound(hop) => {
                    let mtu = hop.map_or(u32::MAX, |hop| hop.mtu);
                    self.decide_outbound(&slot.packet, slot.hash, mtu, now)
                }
                Way::Neither => continue,
            };
        }
    }

    /// Stage 4: rewrite and send.
    fn carry_out_all<P: Port>(&mut self, port: &mut P, slots: &mut Vec<Slot>, now: Instant) {
        self.answers.refill(now);
        for slot in slots.drain(..) {
            let verdict = match slot.way {
                Way::Neither => match slot.decision {
                    Decision::Verdict(verdict) => self.settle(port, slot.frame, None, verdict),
                    decision => self.carry_out(port, slot.frame, &slot.packet, decision, None),
                },
                Way::Inbound => self.carry_out(port, slot.frame, &slot.packet, slot.decision, None),
                Way::Outbound(hop) => self.carry_out(port, slot.frame, &slot.packet, slot.decision, hop),
            };
            self.counters().count(verdict);
            self.verdicts.push(verdict);
        }
    }

    fn adopt_routes(&mut self) {
        self.locals = [None; LOCALS];
        self.stations.clear();
        let routes = self.routes.value();
        for interface in routes.interfaces() {
            self.stations.push(routes.link(interface).map(|link| link.mac.0).unwrap_or_default());
        }
    }

    pub(super) fn services(&self) -> &Services {
        self.services.value()
    }

    #[inline]
    pub(super) fn routes(&self) -> &Routes {
        self.routes.value()
    }

    #[inline]
    pub(super) fn counters(&self) -> &WorkerCounters {
        &self.shared.workers[self.worker].counters
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
    fn decided(frame: Frame, verdict: Verdict) -> Self {
        Slot { frame, packet: Packet::empty(), way: Way::Neither, hash: 0, decision: Decision::Verdict(verdict) }
    }
}

/// Spreads destinations over the hops of a multipath route.
#[inline]
const fn flow_hash(destination: Address) -> u32 {
    let [a, b, c, d] = destination.words();
    (a ^ b ^ c ^ d).wrapping_mul(0x9e37_79b9)
}
