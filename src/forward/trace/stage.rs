//! A copy of all that one packet can meet, and the packet's way through it.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::base::{Address, Endpoint, Family, Instant, InterfaceId, Lock};
use crate::forward::decide::{Decision, Target};
use crate::forward::parse::{Packet, Parsed};
use crate::forward::pipeline::Forwarder;
use crate::forward::related::Related;
use crate::forward::shared::Shared;
use crate::forward::sip;
use crate::forward::tunnel_error::TunnelError;
use crate::forward::verdict::Verdict;
use crate::port::memory::{MemoryPort, MemoryPortSize};
use crate::port::{HEADROOM_OCTETS, Port};
use crate::service::real_servers::{RealServer, RealServers};
use crate::service::scheduler::Scheduling;
use crate::service::{DestinationId, Protocol, SchedulerFlags, Service, ServiceKey, Services};

/// Octets of a chunk beside the frame: outer headers, other text of a helper, the longest ICMP error.
const SPARE_OCTETS: usize = HEADROOM_OCTETS + 2048;
/// Octets that a fragment has at least, for the number of chunks.
const FRAGMENT_OCTETS_MIN: usize = 400;
/// Octets of a UDP header.
const UDP_HEADER_OCTETS: usize = 8;

/// The copy, with a worker of its own.
pub(super) struct Stage {
    pub shared: Arc<Shared>,
    pub forwarder: Forwarder,
    port: MemoryPort,
    /// Servers of tunnels that the packet is an error about: a worker that has sent through them knows the way.
    tunnels: Vec<Address>,
}

/// What became of the packet.
pub(super) struct Outcome {
    pub verdict: Verdict,
    pub decision: Decision,
    pub target: Target,
    /// Frames that left, in order.
    pub sent: Vec<(InterfaceId, Vec<u8>)>,
    /// The frame as the kernel gets it.
    pub passed: Option<Vec<u8>>,
}

/// Two endpoints that a packet, or one that it quotes, goes between.
struct Conversation<'a> {
    protocol: Protocol,
    source: Endpoint,
    destination: Endpoint,
    payload: &'a [u8],
}

impl Forwarder {
    /// Has the ways to all destinations with this address ready, as after a packet to each.
    fn warm_path_to(&mut self, server: Address) {
        let shared = Arc::clone(&self.shared);
        let is_there = |id: &DestinationId| shared.destinations.get(*id).endpoint().address == server;
        let ids: Vec<DestinationId> = shared.destinations.ids().filter(is_there).collect();
        for id in ids {
            self.path(id);
        }
    }
}

impl Stage {
    /// Copies of `shared` what `frame`, received by `interface`, can meet.
    pub(super) fn new(shared: &Arc<Shared>, interface: InterfaceId, frame: &[u8], now: Instant) -> Self {
        // It reads snapshots and nothing else.
        let reader = Forwarder::new(Arc::clone(shared), 0);
        let mut packet = Packet::empty();
        let parsed = reader.read(frame, interface, &mut packet);
        let conversations = conversations(frame, parsed, &packet);
        let keys = keys(&reader, parsed, &packet, &conversations);

        let services = copy_services(reader.services(), &keys, shared);
        let found = conversations.iter().filter_map(|one| {
            let server = reader.real_servers().find(one.protocol, one.source)?;
            let service = services.get(&server.service.key)?;
            Some((one.source, RealServer { id: server.id, service: Arc::clone(service) }))
        });
        let real_servers = RealServers::new(found);
        let hashes = hashes(shared, &conversations, &services, &keys);
        // After the lists that name them: a destination that is listed is there.
        let destinations = Arc::new(shared.destinations.copy());
        let copy = Arc::new(shared.copy(services, real_servers, destinations, &hashes, now));
        let size = MemoryPortSize {
            chunk_octets: (frame.len() + SPARE_OCTETS) as u32,
            chunks: (4 + frame.len() / FRAGMENT_OCTETS_MIN) as u32,
        };
        let mut forwarder = Forwarder::new(Arc::clone(&copy), 0);
        forwarder.adopt();
        forwarder.adopt_path_mtus(now);
        Self { forwarder, shared: copy, port: MemoryPort::new(size), tunnels: tunnels(frame, parsed, &packet) }
    }

    /// Takes the frame to its verdict, in the copy.
    pub(super) fn perform(&mut self, interface: InterfaceId, frame: &[u8], now: Instant) -> Option<Outcome> {
        let mut batch = Vec::new();
        for &server in &self.tunnels {
            self.forwarder.warm_path_to(server);
        }
        self.port.inject(interface, frame);
        self.port.receive(&mut batch);
        self.forwarder.adopt();
        self.forwarder.process(&mut self.port, &mut batch, now);
        let verdict = self.forwarder.verdicts().first().copied()?;
        let (decision, target) = self.forwarder.decision(0)?;
        let sent = self.port.take_transmitted().collect();
        let passed = self.port.take_passed().next().map(|(_, frame)| frame);
        Some(Outcome { verdict, decision, target, sent, passed })
    }
}

/// Whom the packet is between, and whom what it quotes.
fn conversations<'a>(frame: &'a [u8], parsed: Parsed, packet: &Packet) -> Vec<Conversation<'a>> {
    let end = usize::from(packet.network) + usize::from(packet.length);
    let transport = usize::from(packet.transport);
    match parsed {
        Parsed::Transport | Parsed::SourceRoute => vec![Conversation {
            protocol: packet.protocol,
            source: packet.source,
            destination: packet.destination,
            payload: frame.get(transport + UDP_HEADER_OCTETS..end).unwrap_or_default(),
        }],
        Parsed::IcmpError => {
            let quoted = Related::parse(frame, packet.family, transport, end);
            let inner = match packet.family {
                Family::V4 => TunnelError::parse(frame, transport, end).map(|error| *error.inner()),
                Family::V6 => None,
            };
            let between = |related: Related| Conversation {
                protocol: related.protocol,
                source: related.source,
                destination: related.destination,
                payload: related.quoted_payload(frame),
            };
            quoted.into_iter().chain(inner).map(between).collect()
        }
        // Of a fragment that makes its packet whole, the rest is not here.
        Parsed::Fragment | Parsed::Other | Parsed::Bad(_) => Vec::new(),
    }
}

/// The servers of the tunnels that the packet is an error about.
fn tunnels(frame: &[u8], parsed: Parsed, packet: &Packet) -> Vec<Address> {
    let end = usize::from(packet.network) + usize::from(packet.length);
    let error = match parsed {
        Parsed::IcmpError if packet.family == Family::V4 => {
            TunnelError::parse(frame, usize::from(packet.transport), end)
        }
        _ => None,
    };
    error.into_iter().map(|error| error.server()).collect()
}

/// The services that may be asked for a real server.
fn keys(
    reader: &Forwarder,
    parsed: Parsed,
    packet: &Packet,
    conversations: &[Conversation<'_>],
) -> BTreeSet<ServiceKey> {
    let mut keys = BTreeSet::new();
    for one in conversations {
        let quoted = reader.services().find(0, one.protocol, one.source.address, one.source.port);
        let asked = match parsed {
            Parsed::IcmpError => quoted,
            _ => reader.service_of(packet).map(|(service, _)| service),
        };
        keys.extend(asked.map(|service| service.key));
        keys.extend(reader.real_servers().find(one.protocol, one.source).map(|server| server.service.key));
    }
    keys
}

/// All services; those of `keys` with their schedulers, the others without, so that none can be touched.
fn copy_services(services: &Services, keys: &BTreeSet<ServiceKey>, shared: &Shared) -> Services {
    let none = Scheduling::new(None, SchedulerFlags::default(), &shared.destinations);
    let none = Arc::new(Lock::new(none));
    Services::new(services.iter().map(|service| {
        let scheduling = match keys.contains(&service.key) {
            true => Arc::new(Lock::new(service.scheduling.lock().copy())),
            false => Arc::clone(&none),
        };
        Service { scheduling, ..Service::clone(service) }
    }))
}

/// The hashes of all entries that may be looked for.
fn hashes(
    shared: &Shared,
    conversations: &[Conversation<'_>],
    services: &Services,
    keys: &BTreeSet<ServiceKey>,
) -> Vec<u64> {
    let table = &shared.connections;
    let mut hashes = Vec::new();
    for one in conversations {
        for side in [one.source, one.destination] {
            for port in [side.port, 0] {
                hashes.push(table.hash(Some(one.protocol), Endpoint::new(side.address, port)));
            }
            // Templates.
            for persistence in keys.iter().filter_map(|key| services.get(key)?.persistence) {
                let client = Endpoint::new(persistence.masked(side.address), 0);
                hashes.extend([Some(one.protocol), None].map(|protocol| table.hash(protocol, client)));
            }
        }
        hashes.extend(sip::call_id(one.payload).map(|id| table.hash_of_data(id)));
    }
    hashes
}
