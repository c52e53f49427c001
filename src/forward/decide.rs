//! The third stage: which connection a packet belongs to, what that does to it, and where it therefore goes.

use crate::base::{Address, Endpoint, Instant};
use crate::conn::{Direction, Flags, Found, Inserted, Key, sctp, tcp};
use crate::forward::parse::{BEGINS, Packet};
use crate::forward::pipeline::Forwarder;
use crate::forward::schedule::Received;
use crate::forward::verdict::{DropReason, Verdict};
use crate::port::Port;
use crate::service::sysctl::Knob;
use crate::service::{DestinationId, Method, Protocol};

/// What is to be done with a packet.
#[derive(Clone, Copy, Debug)]
pub(super) enum Decision {
    /// Nothing but this.
    Verdict(Verdict),
    /// Forward it to the target by a method that leaves the packet as it is.
    Forward(Method),
    /// Forward it to the target with the target's new destination in it.
    Masquerade,
    /// Send it to the client with the target's new source in it.
    ToClient,
    /// As the two before, with this change of the batch (see `helper`).
    Changed { direction: Direction, position: u16 },
    /// As the two before, both ends of the packet exchanged (see `full_nat`).
    Exchanged { direction: Direction, position: u16 },
    /// It is a fragment: let it wait for the others.
    Gather,
    /// Answer with an ICMP error and drop it.
    Answer(Answer),
    /// Pass an ICMP error about a balanced packet on to the real server.
    RelayToServer(Method),
    /// Pass an ICMP error about a balanced packet on to the client.
    RelayToClient,
    /// Pass an ICMP error about a packet of full NAT on, both its ends exchanged.
    RelayExchanged { direction: Direction, position: u16 },
    /// Tell the client of an ICMP error about a tunnel's packet.
    RelayFromTunnel,
}

impl Decision {
    /// True when the packet itself goes on to a server or a client.
    #[inline]
    pub(super) const fn takes_on(&self) -> bool {
        matches!(
            self,
            Decision::Forward(_)
                | Decision::Masquerade
                | Decision::ToClient
                | Decision::Changed { .. }
                | Decision::Exchanged { .. }
        )
    }
}

/// Where a packet goes, beside the decision that it goes there; of other decisions it says nothing.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target {
    /// The real server: the receiver, or of a packet to the client the sender.
    pub destination: DestinationId,
    /// Moves with what the server's path depends on; as of the decision.
    pub epoch: u32,
    /// What masquerading puts into the packet.
    pub new: Endpoint,
}

impl Target {
    /// No target.
    pub(super) const NONE: Target =
        Target { destination: DestinationId::NONE, epoch: 0, new: Endpoint::new(Address::UNSPECIFIED_V4, 0) };
}

/// The ICMP errors that a director sends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Answer {
    /// No real server is available: port unreachable.
    PortUnreachable,
    /// A real server's packet that belongs to no connection: port unreachable.
    Unwanted,
    /// No route to the real server: host unreachable.
    HostUnreachable,
    /// TTL or hop limit ran out.
    TimeExceeded,
    /// The rest of a fragment's datagram did not come.
    ReassemblyTimeExceeded,
    /// Fragmentation needed and DF set, or packet too big, with the MTU.
    TooBig(u16),
}

impl Answer {
    /// Under which reason the packet that is answered counts as dropped.
    pub(super) const fn reason(self) -> DropReason {
        match self {
            Answer::PortUnreachable => DropReason::NoServer,
            Answer::Unwanted => DropReason::UnknownAnswer,
            Answer::HostUnreachable => DropReason::NoRoute,
            Answer::TimeExceeded => DropReason::TimeExceeded,
            Answer::ReassemblyTimeExceeded => DropReason::FragmentTimeout,
            Answer::TooBig(_) => DropReason::TooBig,
        }
    }
}

impl Forwarder {
    /// Decides on a packet addressed to the director (`ip_vs_in_hook`). Says in `target` where it
    /// goes, here and below.
    #[inline(always)]
    pub(super) fn decide_inbound<P: Port>(
        &self,
        received: &Received<'_, P>,
        packet: &Packet,
        hash: u64,
        now: Instant,
        target: &mut Target,
    ) -> Decision {
        if self.roles().is_passive {
            return Decision::Verdict(Verdict::Pass);
        }
        if packet.source.port == 0 {
            // Such a packet finds no connection, not even its own (`ip_vs_conn_in_get`).
            return self.open(received, packet, hash, now, target);
        }
        let key = Key { protocol: Some(packet.protocol), client: packet.source, other: packet.destination };
        let Some(found) = self.shared.connections.find_inbound(hash, &key, now) else {
            return self.open(received, packet, hash, now, target);
        };
        if packet.opening & BEGINS != 0 && self.is_to_be_rescheduled(&found) {
            found.expire_now();
            return self.open(received, packet, hash, now, target);
        }
        target.destination = found.entry().destination();
        if target.destination != DestinationId::NONE {
            let destination = self.shared.destinations.get(target.destination);
            target.epoch = destination.epoch();
            if !destination.is_available() {
                if !self.shared.sysctls.is_on(Knob::ExpireNodestConn) {
                    return Decision::Verdict(Verdict::Drop(DropReason::ServerRemoved));
                }
                found.expire_now();
                return self.open(received, packet, hash, now, target);
            }
        }
        self.follow(found, received, packet, now, target)
    }

    /// Decides on a packet that crosses the director, which may be a real server's answer (`ip_vs_out_hook`).
    #[inline(never)]
    pub(super) fn decide_outbound<P: Port>(
        &self,
        received: &Received<'_, P>,
        packet: &Packet,
        hash: u64,
        mtu: u32,
        now: Instant,
        target: &mut Target,
    ) -> Decision {
        let key = Key { protocol: Some(packet.protocol), client: packet.destination, other: packet.source };
        // The host checks TTL and size of what it forwards before IPVS sees it, and answers under its own address.
        let is_hosts = packet.ttl <= 1 || packet.is_too_big_to_cross(mtu);
        if is_hosts {
            return self.decide_crossing(received, packet, now, target);
        }
        let Some(found) = self.shared.connections.find_outbound(hash, &key, now) else {
            return self.decide_unknown_outbound(received, packet, hash, now, target);
        };
        self.follow_outbound(found, received, packet, now, target)
    }

    /// Takes a real server's packet of a known connection on its way to the client, and lets the connection go.
    #[inline(always)]
    pub(super) fn follow_outbound<P: Port>(
        &self,
        found: Found<'_>,
        received: &Received<'_, P>,
        packet: &Packet,
        now: Instant,
        target: &mut Target,
    ) -> Decision {
        found.follow(Direction::Outbound, packet.event, self.secure_tcp());
        let entry = found.entry();
        let (destination, flags, service) = (entry.destination(), entry.flags(), entry.virtual_service());
        target.destination = destination;
        let masqueraded = if flags.is_attended() {
            self.attend(found, Direction::Outbound, received, packet, now)
        } else {
            drop(found);
            Decision::ToClient
        };
        if destination != DestinationId::NONE && self.shared.destinations.get(destination).is_available() {
            self.counters().destination(destination).count_out(packet.length);
        }
        match flags.method() {
            Method::Masquerading => {
                target.new = service;
                masqueraded
            }
            _ => Decision::Verdict(Verdict::Pass),
        }
    }

    /// Takes a packet of a known connection on its way to `target`, and lets the connection go.
    #[inline(always)]
    pub(super) fn follow<P: Port>(
        &self,
        found: Found<'_>,
        received: &Received<'_, P>,
        packet: &Packet,
        now: Instant,
        target: &mut Target,
    ) -> Decision {
        found.follow(Direction::Inbound, packet.event, self.secure_tcp());
        if self.roles().is_master {
            self.synchronise(&found);
        }
        let flags = found.entry().flags();
        let method = flags.method();
        if method == Method::Masquerading || target.destination == DestinationId::NONE {
            target.new = found.entry().destination_endpoint();
        }
        let masqueraded = if flags.is_attended() {
            self.attend(found, Direction::Inbound, received, packet, now)
        } else {
            drop(found);
            Decision::Masquerade
        };
        if target.destination != DestinationId::NONE {
            self.counters().destination(target.destination).count_in(packet.length);
        }
        match method {
            Method::Masquerading => masqueraded,
            _ => Decision::Forward(method),
        }
    }

    /// What a packet of a connection asks for beside its forwarding.
    #[inline(never)]
    fn attend<P: Port>(
        &self,
        found: Found<'_>,
        direction: Direction,
        received: &Received<'_, P>,
        packet: &Packet,
        now: Instant,
    ) -> Decision {
        if found.entry().flags().has(Flags::FULL_NAT) {
            return self.exchange(found, direction, received, packet);
        }
        self.help(found, direction, received, packet, now)
    }

    /// Puts a new connection into the table and takes its first packet on its way.
    pub(super) fn insert<P: Port>(
        &self,
        connection: &crate::conn::New,
        received: &Received<'_, P>,
        packet: &Packet,
        hash: u64,
        now: Instant,
        target: &mut Target,
    ) -> Decision {
        let found = match self.admit(connection, hash, now) {
            Ok(found) => found,
            Err(reason) => return Decision::Verdict(Verdict::Drop(reason)),
        };
        target.destination = found.entry().destination();
        if target.destination != DestinationId::NONE {
            target.epoch = self.shared.destinations.get(target.destination).epoch();
        }
        self.follow(found, received, packet, now, target)
    }

    /// Puts a new connection into the table and counts it, unless another worker was faster.
    pub(super) fn admit(
        &self,
        connection: &crate::conn::New,
        hash: u64,
        now: Instant,
    ) -> Result<Found<'_>, DropReason> {
        let connections = &self.shared.connections;
        let reserved = match connection.flags.has(Flags::FULL_NAT) {
            false => None,
            true => match self.reserve_local_port(connection, now) {
                Ok(reserved) => Some(reserved),
                Err(reason) => {
                    connections.release_controller(connection.controller);
                    return Err(reason);
                }
            },
        };
        let inserted = connections.insert(hash, connection, now);
        match (&inserted, reserved) {
            (Inserted::New(found), Some(reserved)) => found.attach(reserved),
            (_, Some(reserved)) => connections.give_back(reserved),
            (_, None) => {}
        }
        match inserted {
            Inserted::New(found) => {
                if connection.destination_id != DestinationId::NONE {
                    self.counters().destination(connection.destination_id).connections.add(1);
                }
                Ok(found)
            }
            Inserted::Existing(found) => {
                connections.release_controller(connection.controller);
                Ok(found)
            }
            Inserted::Full => {
                connections.release_controller(connection.controller);
                Err(DropReason::TableFull)
            }
        }
    }

    /// Whether a SYN that finds a connection starts a new one (`is_new_conn_expected`, sysctl conn_reuse_mode).
    pub(super) fn is_to_be_rescheduled(&self, found: &Found<'_>) -> bool {
        let entry = found.entry();
        let sysctls = &self.shared.sysctls;
        let destination = entry.destination();
        if sysctls.is_on(Knob::ExpireNodestConn)
            && destination != DestinationId::NONE
            && self.shared.destinations.get(destination).weight() == 0
        {
            return true;
        }
        let mode = sysctls.get(Knob::ConnReuseMode);
        if mode == 0 || !entry.controller().is_none() {
            return false;
        }
        match (entry.protocol(), entry.state()) {
            (Some(Protocol::Tcp), tcp::TIME_WAIT | tcp::CLOSE) | (Some(Protocol::Sctp), sctp::CLOSED) => true,
            (Some(Protocol::Tcp), tcp::FIN_WAIT) => mode & 2 != 0 && entry.flags().has(Flags::NO_OUTPUT),
            _ => false,
        }
    }

    #[inline]
    fn secure_tcp(&self) -> bool {
        self.shared.sysctls.is_defending(Knob::SecureTcp)
    }
}
