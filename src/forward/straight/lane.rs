//! What the straight way needs of real servers, clients' routers and the director's own addresses, ready to be used.
//!
//! A lane is good while nothing has changed: each change of the configuration, of routes or of path MTUs makes all of
//! them stale at once, and the first packet that finds its lane stale takes the careful way and has it made anew. No
//! lane is made of what needs care: a server that no service lists, the director itself, a neighbour that is not known,
//! a VLAN.

use std::sync::atomic::Ordering::Relaxed;

use crate::base::{Address, Counter, Family, InterfaceId};
use crate::forward::counters::WorkerCounters;
use crate::forward::egress::NextHop;
use crate::forward::pipeline::Forwarder;
use crate::forward::shared::WorkerSlot;
use crate::forward::straight::{Course, Straight};
use crate::port::BATCH_FRAMES;
use crate::route::{Exit as Target, Hop};
use crate::service::DestinationId;

/// The way to a real server.
///
/// It lies beside the worker's counters of the server, in the same line:
/// ```text
/// word 0  generation << 32 | longest frame
///      1  first eight octets of the link header
///      2  next four << 32 | interface << 16 | whether tunnels are open
/// ```
#[derive(Clone, Copy, Debug)]
pub(super) struct Lane {
    /// The longest frame that leaves as it is, octets.
    pub octets_max: u32,
    /// Whether the path is wide enough for a tunnel.
    pub takes_tunnels: bool,
    pub interface: InterfaceId,
    /// The neighbour's and the station's link address.
    pub link: [u8; 12],
}

/// The way to clients behind a router.
#[derive(Clone, Copy, Debug)]
pub(super) struct Exit {
    generation: u32,
    /// The longest frame, and the longest packet that the host would have routed there, octets.
    octets_max: u32,
    mtu: u32,
    pub interface: InterfaceId,
    pub link: [u8; 12],
}

impl Exit {
    /// True when a frame with a packet of `length` octets goes there as it is.
    #[inline(always)]
    pub(super) const fn takes(&self, octets: usize, length: u16) -> bool {
        octets as u32 <= self.octets_max && length as u32 <= self.mtu
    }
}

/// The lanes and exits of one worker.
#[derive(Default)]
pub(in crate::forward) struct Lanes {
    /// Never that of a lane that nobody made. The worker's slot keeps it too, as the lanes stand there: whoever takes
    /// over the slot goes on from it.
    generation: u32,
    /// What the generation was last moved for.
    seen: (u64, u32),
    /// The highest number of a lane so far.
    highest: u32,
    exits: Vec<Exit>,
    /// Real servers whose lanes packets of this batch found stale.
    wanted: Vec<DestinationId>,
}

impl Lanes {
    /// Looks whether anything has changed: `change` counts what control has changed, `path_mtus` what was learned.
    #[inline(always)]
    pub(in crate::forward) fn adopt(&mut self, slot: &WorkerSlot, change: u64, path_mtus: u32) {
        if self.seen != (change, path_mtus) {
            self.seen = (change, path_mtus);
            self.forget(slot);
        }
    }

    /// Makes all stale.
    #[cold]
    pub(in crate::forward) fn forget(&mut self, slot: &WorkerSlot) {
        // 0 is the generation of lanes that nobody made.
        self.generation = slot.lane_generation.load(Relaxed).checked_add(1).unwrap_or(1);
        slot.lane_generation.store(self.generation, Relaxed);
        self.wanted.reserve(BATCH_FRAMES);
    }

    /// Below which number all lanes are.
    pub(super) const fn count(&self) -> usize {
        self.highest as usize + 1
    }

    #[inline(always)]
    pub(super) fn get(&self, counters: &WorkerCounters, id: DestinationId) -> Option<Lane> {
        let [state, first, rest] = counters.beside(id).map(Counter::get);
        if (state >> 32) as u32 != self.generation {
            return None;
        }
        let mut link = [0; 12];
        link[..8].copy_from_slice(&first.to_ne_bytes());
        link[8..].copy_from_slice(&((rest >> 32) as u32).to_ne_bytes());
        Some(Lane {
            octets_max: state as u32,
            takes_tunnels: rest & 1 != 0,
            interface: InterfaceId((rest >> 16) as u16),
            link,
        })
    }

    fn set(&mut self, counters: &WorkerCounters, id: DestinationId, lane: &Lane) {
        let [a, b, c, d, e, f, g, h, rest_of_link @ ..] = lane.link;
        let (first, last) = (u64::from_ne_bytes([a, b, c, d, e, f, g, h]), u32::from_ne_bytes(rest_of_link));
        let [state, link, rest] = counters.beside(id);
        link.set(first);
        rest.set(u64::from(last) << 32 | u64::from(lane.interface.0) << 16 | u64::from(lane.takes_tunnels));
        state.set(u64::from(self.generation) << 32 | u64::from(lane.octets_max));
        self.highest = self.highest.max(id.0);
    }

    #[inline(always)]
    pub(super) fn exit(&self, target: u32) -> Option<&Exit> {
        self.exits.get(target as usize).filter(|exit| exit.generation == self.generation)
    }

    /// Makes the lane to one real server stale: what it was made of is different now.
    pub(in crate::forward) fn forget_one(&self, counters: &WorkerCounters, id: DestinationId) {
        let [state, ..] = counters.beside(id);
        state.set(0);
    }

    /// Has the lane to a real server made after the batch.
    #[cold]
    pub(super) fn want(&mut self, id: DestinationId) {
        if id != DestinationId::NONE && self.wanted.len() < BATCH_FRAMES && !self.wanted.contains(&id) {
            self.wanted.push(id);
        }
    }

    fn set_exit(&mut self, target: u32, hop: &Hop, next: &NextHop) {
        let position = target as usize;
        if self.exits.len() <= position {
            let stale = Exit { generation: 0, octets_max: 0, mtu: 0, interface: InterfaceId(0), link: [0; 12] };
            self.exits.resize(position + 1, stale);
        }
        self.exits[position] = Exit {
            generation: self.generation,
            octets_max: next.frame_octets_max(),
            mtu: hop.mtu,
            interface: next.interface,
            link: next.addresses,
        };
    }
}

impl Forwarder {
    /// Makes the lanes that packets of this batch wanted; they took the careful way, which has looked for the path.
    pub(in crate::forward) fn make_lanes(&mut self) {
        if self.lanes.wanted.is_empty() {
            return;
        }
        let wanted = std::mem::take(&mut self.lanes.wanted);
        wanted.iter().for_each(|&id| self.make_lane(id));
        self.lanes.wanted = wanted;
        self.lanes.wanted.clear();
    }

    #[cold]
    fn make_lane(&mut self, id: DestinationId) {
        if !self.shared.destinations.get(id).is_available() {
            return;
        }
        let Some((next, outer)) = self.open_way(id).filter(|(next, _)| next.vlan.is_none()) else { return };
        let lane = Lane {
            octets_max: next.frame_octets_max(),
            takes_tunnels: next.mtu >= outer.inner_mtu_min() + u32::from(outer.plain_octets()),
            interface: next.interface,
            link: next.addresses,
        };
        self.lanes.set(&self.slot.counters, id, &lane);
    }

    /// The course of a packet to an address that is not known as local.
    #[inline(never)]
    pub(super) fn find_course(&mut self, destination: Address, one: &mut Straight) -> Course {
        // Answers to local addresses are full NAT's.
        if self.local_addresses().contains(destination) {
            return Course::Careful;
        }
        let hop = match self.routes().exit(destination) {
            Some(Target::Local) => {
                self.known_locals.remember(destination);
                return Course::Inbound;
            }
            Some(Target::Hop(target, hop)) => {
                one.exit = target;
                hop
            }
            None => return Course::Careful,
        };
        if self.lanes.exit(one.exit).is_some() {
            return Course::Outbound;
        }
        // A neighbour of the director's own needs to be looked up for each packet.
        let gateway = hop.gateway.is_some();
        match self.resolve(*hop, destination) {
            Ok(next) if gateway && next.vlan.is_none() => {
                let hop = *hop;
                self.lanes.set_exit(one.exit, &hop, &next);
                Course::Outbound
            }
            _ => Course::Careful,
        }
    }
}

/// Addresses of IPv4 that a worker remembers as local.
const KNOWN_V4: usize = 1 << 15;
/// The same of IPv6.
const KNOWN_V6: usize = 1 << 13;

/// What stands where no address does: ones that no host has as its own, so that nothing is found that was not put there
/// (255.255.255.255 is the broadcast address; the other reads as IPv4, see [`Address`]).
const NOT_V4: u32 = u32::MAX;
const NOT_V6: u128 = Address::UNSPECIFIED_V4.0;

/// Local addresses that a worker has come across, each at the place of its hash: virtual addresses are few and clients
/// many. What finds its place taken is looked up in the routes.
pub(in crate::forward) struct Locals {
    v4: Box<[u32]>,
    v6: Box<[u128]>,
    is_used: bool,
}

impl Default for Locals {
    fn default() -> Self {
        Self { v4: vec![NOT_V4; KNOWN_V4].into(), v6: vec![NOT_V6; KNOWN_V6].into(), is_used: false }
    }
}

impl Locals {
    /// True when the address was found to be local.
    #[inline(always)]
    pub(in crate::forward) fn has(&self, address: Address) -> bool {
        let place = place(address);
        match address.family() {
            Family::V4 => self.v4[place % KNOWN_V4] == address.low_u32(),
            Family::V6 => self.v6[place % KNOWN_V6] == address.0,
        }
    }

    pub(in crate::forward) fn remember(&mut self, address: Address) {
        let place = place(address);
        match address.family() {
            Family::V4 => self.v4[place % KNOWN_V4] = address.low_u32(),
            Family::V6 => self.v6[place % KNOWN_V6] = address.0,
        }
        self.is_used = true;
    }

    /// Forgets all.
    pub(in crate::forward) fn clear(&mut self) {
        if self.is_used {
            self.v4.fill(NOT_V4);
            self.v6.fill(NOT_V6);
            self.is_used = false;
        }
    }
}

/// Addresses next to each other have places apart.
#[inline(always)]
const fn place(address: Address) -> usize {
    let folded = match address.family() {
        Family::V4 => address.low_u32(),
        Family::V6 => (address.0 ^ address.0 >> 32 ^ address.0 >> 64) as u32,
    };
    (folded.wrapping_mul(0x9e37_79b9) >> 17) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_remembered_is_known() {
        let mut locals = Locals::default();
        let some =
            ["0.0.0.0", "::", "10.9.0.1", "fd00:9::1", "255.255.255.254", "ffff::"].map(|text| text.parse().unwrap());
        for round in 0..2 {
            assert!(some.iter().all(|&address| !locals.has(address)), "round {round}");
            for address in some {
                locals.remember(address);
                assert!(locals.has(address));
            }
            locals.clear();
        }
    }
}
