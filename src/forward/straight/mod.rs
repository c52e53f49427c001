//! The straight way: packets of known connections that ask for nothing but their forwarding method.
//!
//! These are nearly all packets, and what the rest of `forward` looks after costs them more than what is done for them.
//! So this module takes TCP and UDP behind plain headers through the same stages in as few steps as they need, and it
//! knows no other packet: whatever is not as expected leaves it in the state in which it came, at the latest before its
//! connection was touched, and takes the careful way, which is the rule for both. That way alone opens connections.
//!
//! What it does not know is said where it says no: [`read`] (headers), [`Forwarder::follow_straight`] (connections),
//! [`lane`] (ways to servers and clients).
//!
//! **Invariant**: a packet ends on both ways in the same octets, table and counters (`director::tests::ways`), as soon as
//! control has told of its changes (`Shared::changed`): the careful way sees a server that is being removed a little
//! earlier.

mod lane;
mod read;
mod send;

use crate::base::{Address, Endpoint, Family, Instant, InterfaceId};
use crate::conn::{Direction, Event, Found, Guess, ticks};
use crate::forward::decide::{Decision, Target};
use crate::forward::pipeline::Forwarder;
use crate::service::sysctl::Knob;
use crate::service::{DestinationId, Method, Protocol};

pub(super) use lane::{Lanes, Locals};
use read::Read;
pub(super) use read::station_word;

/// Lanes that are in the nearest caches without being asked for.
const LANES_NEAR: usize = 512;

/// Which way a packet takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Course {
    /// The careful way.
    Careful,
    /// Straight, from a client.
    Inbound,
    /// Straight, from a real server.
    Outbound,
}

/// What the stages hand on about a packet on the straight way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Straight {
    pub(super) course: Course,
    family: Family,
    protocol: Protocol,
    event: Event,
    /// Octets of the IP packet.
    length: u16,
    /// Source and destination port in one word.
    ports: u32,
    /// Source and destination address of IPv4 in one word.
    addresses: u64,
    hash: u64,
    guess: Guess,
    /// The way to the client: a target of the routes.
    exit: u32,
    /// What was decided: the real server, the method, and what masquerading puts into the packet.
    destination: DestinationId,
    method: Method,
    new_port: u16,
    /// Upper and lower half.
    new_address: [u64; 2],
}

/// What holds for a whole batch.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Road {
    /// Whether packets of the family may take the straight way at all.
    v4: bool,
    v6: bool,
    now_ticks: u32,
    secure_tcp: bool,
    /// Whether IPv4 packets keep DF in tunnels.
    discovers_mtu: bool,
    /// Whether lanes are asked for.
    is_wide: bool,
}

impl Straight {
    /// A packet on the careful way.
    pub(super) const CAREFUL: Straight = Straight {
        course: Course::Careful,
        family: Family::V4,
        protocol: Protocol::Udp,
        event: Event::Nothing,
        length: 0,
        ports: 0,
        addresses: 0,
        hash: 0,
        guess: Guess::NONE,
        exit: 0,
        destination: DestinationId::NONE,
        method: Method::Masquerading,
        new_port: 0,
        new_address: [0; 2],
    };

    #[inline(always)]
    pub(super) const fn is_straight(&self) -> bool {
        !matches!(self.course, Course::Careful)
    }

    #[inline(always)]
    const fn set_new(&mut self, new: Endpoint) {
        self.new_port = new.port;
        self.new_address = [(new.address.0 >> 64) as u64, new.address.0 as u64];
    }

    #[inline(always)]
    const fn new_endpoint(&self) -> Endpoint {
        let [high, low] = self.new_address;
        Endpoint::new(Address((high as u128) << 64 | low as u128), self.new_port)
    }

    /// What the careful way would have decided, in its terms.
    pub(super) const fn decision(&self) -> (Decision, Target) {
        let target = Target { destination: self.destination, epoch: 0, new: self.new_endpoint() };
        let decision = match (self.course, self.method) {
            (Course::Outbound, _) => Decision::ToClient,
            (_, Method::Masquerading) => Decision::Masquerade,
            (_, method) => Decision::Forward(method),
        };
        (decision, target)
    }
}

impl Forwarder {
    /// Looks at what holds for a batch, once the worker has adopted `change`.
    pub(super) fn open_road(&mut self, now: Instant) {
        let (services, sysctls) = (self.services(), &self.shared.sysctls);
        // While a backup runs, known connections are not followed.
        let is_open = !self.roles().is_passive && !self.is_always_careful;
        self.road = Road {
            v4: is_open && services.balances(Family::V4),
            v6: is_open && services.balances(Family::V6),
            now_ticks: ticks(now),
            secure_tcp: sysctls.is_defending(Knob::SecureTcp),
            discovers_mtu: sysctls.is_on(Knob::PmtuDisc),
            is_wide: self.lanes.count() > LANES_NEAR,
        };
        self.adopt_path_mtus(now);
        self.lanes.adopt(&self.slot, self.change, self.path_mtu_changes);
    }

    /// Stage 1: takes plain headers apart and asks for the bucket; false when the packet must take the careful way.
    #[inline(always)]
    pub(super) fn read_straight(&mut self, frame: &[u8], interface: InterfaceId, one: &mut Straight) -> bool {
        let (station, road) = (self.station_word(interface), self.road);
        match read::read(frame, station, &road, one) {
            Some(Read::V4 { source, destination }) => self.enter(one, Address::v4(source), Address::v4(destination)),
            Some(Read::V6 { source, destination }) => self.enter(one, source, destination),
            None => false,
        }
    }

    /// The same of a packet whose headers were taken apart.
    #[inline(always)]
    fn enter(&mut self, one: &mut Straight, source: Address, destination: Address) -> bool {
        let course = match self.known_locals.has(destination) {
            true => Course::Inbound,
            false => self.find_course(destination, one),
        };
        let client = match course {
            Course::Careful => return false,
            Course::Inbound => Endpoint::new(source, (one.ports >> 16) as u16),
            Course::Outbound => Endpoint::new(destination, one.ports as u16),
        };
        one.course = course;
        one.hash = self.shared.connections.hash(Some(one.protocol), client);
        self.shared.connections.prefetch_bucket(one.hash);
        true
    }

    /// Stage 2: asks for the connection.
    #[inline(always)]
    pub(super) fn guess_straight(&self, one: &mut Straight) {
        one.guess = self.shared.connections.guess(one.hash, self.is_masquerading_v6);
    }

    /// Between stages 2 and 3, where real servers are many: the entry has arrived; asks for what belongs to its server.
    #[inline(always)]
    pub(super) fn prefetch_lane(&self, one: &Straight) {
        if one.is_straight() && !one.guess.is_none() {
            let destination = self.shared.connections.guessed_destination(one.guess);
            self.counters().prefetch(destination);
        }
    }

    /// Whether lanes have to be asked for.
    #[inline(always)]
    pub(super) const fn has_far_lanes(&self) -> bool {
        self.road.is_wide
    }

    /// Stage 3: the connection and what the packet does to it. False, and nothing has happened, when the packet must take
    /// the careful way.
    #[inline(always)]
    pub(super) fn follow_straight(&mut self, frame: &[u8], one: &mut Straight) -> bool {
        match one.course {
            Course::Inbound if self.roles().is_master => self.follow_client_and_tell(frame, one),
            Course::Inbound => self.follow_client::<false>(frame, one),
            Course::Outbound => self.follow_server(frame, one),
            Course::Careful => false,
        }
    }

    /// The same while a master tells backups of connections; on its own, so that it burdens nobody else.
    #[inline(never)]
    fn follow_client_and_tell(&mut self, frame: &[u8], one: &mut Straight) -> bool {
        self.follow_client::<true>(frame, one)
    }

    #[inline(always)]
    fn follow_client<const TELLS: bool>(&mut self, frame: &[u8], one: &mut Straight) -> bool {
        let (road, connections) = (self.road, &self.shared.connections);
        let found = match one.family {
            Family::V4 => connections.find_guessed::<false>(one.hash, one.guess, road.now_ticks, |entry| {
                entry.is_between_v4(one.protocol, one.addresses, one.ports)
            }),
            Family::V6 => {
                let (client, service) = read::addresses_v6(frame);
                connections.find_guessed::<false>(one.hash, one.guess, road.now_ticks, |entry| {
                    entry.is_between_v6(one.protocol, client, service, one.ports)
                })
            }
        };
        let Some(found) = found else { return false };
        let entry = found.entry();
        let (destination, method) = (entry.destination(), entry.flags().method());
        let octets = frame.len() as u32;
        let Some(lane) = self.lanes.get(self.counters(), destination) else {
            drop(found);
            self.lanes.want(destination);
            return false;
        };
        let is_open = match method {
            Method::DirectRouting => octets <= lane.octets_max,
            // A datagram without a checksum leaves with one.
            Method::Masquerading => octets <= lane.octets_max && !read::lacks_checksum(frame, one),
            Method::Tunnelling => lane.takes_tunnels && octets + self.outer_octets(destination) <= lane.octets_max,
            _ => false,
        };
        if !is_open {
            return false;
        }
        follow(&found, Direction::Inbound, one.event, road.secure_tcp);
        if TELLS {
            self.synchronise(&found);
        }
        if method == Method::Masquerading {
            one.set_new(entry.destination_endpoint());
        }
        drop(found);
        if one.family == Family::V6 {
            self.is_masquerading_v6 = method == Method::Masquerading;
        }
        (one.destination, one.method) = (destination, method);
        self.counters().destination(destination).count_in(one.length);
        true
    }

    /// Octets that a tunnel to the real server puts in front of a packet.
    #[inline(always)]
    fn outer_octets(&self, destination: DestinationId) -> u32 {
        self.outers.get(destination.0 as usize).map_or(u32::from(u16::MAX), |outer| u32::from(outer.plain_octets()))
    }

    #[inline(always)]
    fn follow_server(&mut self, frame: &[u8], one: &mut Straight) -> bool {
        let (road, connections) = (self.road, &self.shared.connections);
        let (server, client) = read::endpoints(frame, one);
        let matches = |entry: crate::conn::Entry<'_>| entry.is_answered_by(one.protocol, server, client);
        let found = connections.find_guessed::<true>(one.hash, one.guess, road.now_ticks, matches);
        let Some(found) = found else { return false };
        let destination = found.entry().destination();
        if self.lanes.get(self.counters(), destination).is_none() {
            drop(found);
            self.lanes.want(destination);
            return false;
        }
        let is_open = self.lanes.exit(one.exit).is_some_and(|exit| exit.takes(frame.len(), one.length))
            && !read::lacks_checksum(frame, one);
        if !is_open {
            return false;
        }
        one.set_new(self.follow_answer(found, one));
        self.is_masquerading_v6 |= one.family == Family::V6;
        (one.destination, one.method) = (destination, Method::Masquerading);
        self.counters().destination(destination).count_out(one.length);
        true
    }

    /// What an answer does to its connection, and from where the client is to see it.
    #[inline(always)]
    fn follow_answer(&self, found: Found<'_>, one: &Straight) -> Endpoint {
        follow(&found, Direction::Outbound, one.event, self.road.secure_tcp);
        found.entry().virtual_service()
    }
}

/// Two events instead of all that there are.
#[inline(always)]
fn follow(found: &Found<'_>, direction: Direction, event: Event, secure_tcp: bool) {
    match event {
        Event::Tcp(event) => found.follow(direction, Event::Tcp(event), secure_tcp),
        _ => found.follow(direction, Event::Udp, false),
    }
}
