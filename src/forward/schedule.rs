//! A packet without a connection: may it open one, of which service, with which real server.
//!
//! Source: `ip_vs_schedule`, `ip_vs_sched_persist` and `ip_vs_leave` of `net/netfilter/ipvs/ip_vs_core.c`, Linux 6.1.

use crate::base::{Address, Endpoint, Family, Frame, Instant};
use crate::conn::{EntryId, Event, Flags, Found, Inserted, Key, New};
use crate::forward::decide::{Answer, Decision, Target};
use crate::forward::parse::{BEGINS, ENDS, Packet};
use crate::forward::pipeline::Forwarder;
use crate::forward::sip;
use crate::forward::verdict::{DropReason, Verdict};
use crate::port::Port;
use crate::route::Route;
use crate::service::snapshot::{FTP_DATA_PORT, FTP_PORT};
use crate::service::sysctl::Knob;
use crate::service::{DestinationId, Engine, Flow, Method, Persistence, Protocol, Service, ServiceKey};

const UDP_HEADER_OCTETS: usize = 8;

/// A frame where it came in.
pub(super) struct Received<'a, P> {
    pub port: &'a P,
    pub frame: &'a Frame,
}

impl<'a, P: Port> Received<'a, P> {
    /// The frame's octets.
    pub(super) fn octets(&self) -> &'a [u8] {
        self.port.bytes(self.frame)
    }

    /// The packet's octets from the transport header on; none where the frame has fewer than the headers say.
    pub(super) fn segment(&self, packet: &Packet) -> &'a [u8] {
        let end = usize::from(packet.network) + usize::from(packet.length);
        self.octets().get(usize::from(packet.transport)..end).unwrap_or_default()
    }
}

/// What asks for a connection: a client's packet, or an error that quotes what a service sent to a client.
#[derive(Clone, Copy, Debug)]
pub(super) struct Opener<'a> {
    pub protocol: Protocol,
    pub client: Endpoint,
    /// The packet's destination, or the source of what is quoted.
    pub service: Endpoint,
    /// Firewall mark of the packet.
    pub mark: u32,
    /// What follows the transport header's first eight octets: a UDP payload.
    pub payload: &'a [u8],
    /// It is an ICMP error: nobody is told when there is no real server.
    pub is_error: bool,
}

impl Opener<'_> {
    /// What a scheduler is told of it.
    pub(super) fn flow(&self, now: Instant) -> Flow {
        Flow {
            source: self.client.address,
            source_port: self.client.port,
            destination: self.service.address,
            destination_port: self.service.port,
            protocol: Some(self.protocol),
            now,
        }
    }
}

/// Why a client has no template.
pub(super) enum NoTemplate {
    /// There is none, and no server for a new one.
    NoServer,
    /// The table is full.
    Full,
}

/// What a client's template is known by.
pub(super) struct TemplateKey<'a> {
    pub key: Key,
    /// Data of a persistence engine; empty for none.
    pub data: &'a [u8],
    /// Firewall mark of the packet that may make it.
    pub mark: u32,
}

/// A template at work: held by the connection that is about to be made.
pub(super) struct Template {
    pub id: EntryId,
    destination: DestinationId,
}

impl Forwarder {
    /// Opens a connection for a packet that has none, or says what becomes of it instead.
    #[cold]
    #[inline(never)]
    pub(super) fn open<P: Port>(
        &self,
        received: &Received<'_, P>,
        packet: &Packet,
        hash: u64,
        now: Instant,
        target: &mut Target,
    ) -> Decision {
        if self.is_martian(packet.source.address) {
            return Decision::Verdict(Verdict::Drop(DropReason::Martian));
        }
        if self.shared.connections.has_expected()
            && let Some(decision) = self.follow_expected(received, packet, hash, now, target)
        {
            return decision;
        }
        if packet.protocol == Protocol::Sctp && packet.event == Event::Nothing {
            return Decision::Verdict(Verdict::Drop(DropReason::Malformed));
        }
        if !self.may_open(packet) {
            return Decision::Verdict(Verdict::Pass);
        }
        let Some((service, mark)) = self.service_of(packet) else {
            return Decision::Verdict(Verdict::Pass);
        };
        let opener = Opener {
            protocol: packet.protocol,
            client: packet.source,
            service: packet.destination,
            mark,
            payload: payload(received, packet),
            is_error: false,
        };
        match self.schedule(service, &opener, now) {
            Ok(connection) if connection.flags.has(Flags::ONE_PACKET) => {
                self.serve_once(&connection, packet, now, target)
            }
            Ok(connection) => self.insert(&connection, received, packet, hash, now, target),
            Err(decision) => decision,
        }
    }

    /// The connection that a packet to a service opens, not in the table yet; or what becomes of the packet without
    /// one.
    pub(super) fn schedule(&self, service: &Service, opener: &Opener<'_>, now: Instant) -> Result<New, Decision> {
        let port = opener.service.port;
        if self.shared.defence.takes_packet() {
            return Err(Decision::Verdict(Verdict::Drop(DropReason::Defence)));
        }
        // From there a helper expects connections: they are no client's.
        if opener.client.port == FTP_DATA_PORT {
            return Err(Decision::Verdict(Verdict::Pass));
        }
        if let Some(persistence) = &service.persistence {
            return self.schedule_persistently(service, persistence, opener, now);
        }
        if port != service.port() && !service.is_by_mark() {
            return self.without_server(service, opener);
        }
        let Some(picked) = self.pick(service, opener, now) else { return self.without_server(service, opener) };
        let server = self.shared.destinations.get(picked).endpoint();
        let server_port = if server.port == 0 { port } else { server.port };
        Ok(self.connection(service, opener, picked, server_port, EntryId::NONE))
    }

    fn pick(&self, service: &Service, opener: &Opener<'_>, now: Instant) -> Option<DestinationId> {
        service.scheduling.lock().pick(&self.shared.destinations, &opener.flow(now))
    }

    /// A client of a persistent service goes where its template says, or a scheduler chooses and a template keeps it
    /// (`ip_vs_sched_persist`).
    fn schedule_persistently(
        &self,
        service: &Service,
        persistence: &Persistence,
        opener: &Opener<'_>,
        now: Instant,
    ) -> Result<New, Decision> {
        let port = opener.service.port;
        let is_port_of_service = port == service.port();
        let key = template_key(service, persistence, opener);
        let keeps_port = keeps_port(service, port);
        let data = self.engine_data(service, opener)?;
        let wanted = TemplateKey { key, data, mark: opener.mark };
        let template = self.template(&wanted, persistence, now, None, |forwarder| {
            let picked = forwarder.pick(service, opener, now)?;
            let server = forwarder.shared.destinations.get(picked).endpoint();
            Some((picked, Endpoint::new(server.address, if keeps_port { server.port } else { 0 })))
        });
        let template = match template {
            Ok(template) => template,
            Err(NoTemplate::NoServer) => return self.without_server(service, opener),
            Err(NoTemplate::Full) => return Err(Decision::Verdict(Verdict::Drop(DropReason::TableFull))),
        };
        let server = self.shared.destinations.get(template.destination).endpoint();
        let server_port = if is_port_of_service && server.port != 0 { server.port } else { port };
        Ok(self.connection(service, opener, template.destination, server_port, template.id))
    }

    /// The valid template with this key (and to `wanted`, if any), or a new one to the destination that `choose`
    /// gives; in either case counted as the controller of the connection to come, its timer started anew.
    pub(super) fn template(
        &self,
        &TemplateKey { key, data, mark }: &TemplateKey<'_>,
        persistence: &Persistence,
        now: Instant,
        wanted: Option<DestinationId>,
        choose: impl FnOnce(&Self) -> Option<(DestinationId, Endpoint)>,
    ) -> Result<Template, NoTemplate> {
        let connections = &self.shared.connections;
        let hash = match data {
            [] => connections.hash(key.protocol, key.client),
            data => connections.hash_of_data(data),
        };
        if let Some(found) = connections.find_template(hash, &key, data, now) {
            let is_wanted = wanted.is_none_or(|wanted| found.entry().destination() == wanted);
            if is_wanted && self.is_valid_template(&found) {
                return Ok(take_control(&found));
            }
            found.invalidate_template();
        }
        let (destination_id, destination) = choose(self).ok_or(NoTemplate::NoServer)?;
        let method = self.shared.destinations.get(destination_id).method();
        let template = New {
            key,
            destination,
            destination_id,
            flags: Flags::new(method).with(Flags::TEMPLATE),
            mark,
            controller: EntryId::NONE,
            timeout_s: persistence.timeout_s,
        };
        match connections.insert_template(hash, &template, data, now) {
            Inserted::New(found) | Inserted::Existing(found) => Ok(take_control(&found)),
            Inserted::Full => Err(NoTemplate::Full),
        }
    }

    /// Whether a template may still be followed (`ip_vs_check_template`).
    pub(super) fn is_valid_template(&self, found: &Found<'_>) -> bool {
        let destination = found.entry().destination();
        if destination == DestinationId::NONE {
            return false;
        }
        let destination = self.shared.destinations.get(destination);
        let is_quiescent = destination.weight() == 0;
        destination.is_available() && !(is_quiescent && self.shared.sysctls.is_on(Knob::ExpireQuiescentTemplate))
    }

    /// What the service's persistence engine keeps a client by; empty without an engine.
    pub(super) fn engine_data<'a>(&self, service: &Service, opener: &Opener<'a>) -> Result<&'a [u8], Decision> {
        match service.engine {
            None => Ok(&[]),
            Some(Engine::Sip) => {
                let call_id = if opener.protocol == Protocol::Udp { sip::call_id(opener.payload) } else { None };
                call_id.ok_or(Decision::Verdict(Verdict::Drop(DropReason::NoCallId)))
            }
        }
    }

    pub(super) fn connection(
        &self,
        service: &Service,
        opener: &Opener<'_>,
        destination_id: DestinationId,
        server_port: u16,
        controller: EntryId,
    ) -> New {
        let destination = self.shared.destinations.get(destination_id);
        let server = Endpoint::new(destination.endpoint().address, server_port);
        let flags = Flags::new(destination.method());
        let is_full_nat = flags.method() == Method::Masquerading && destination.full_nat().is_on();
        let flags = if is_full_nat { flags.with(Flags::FULL_NAT) } else { flags };
        New { destination_id, controller, ..connection_to(server, flags, service, opener) }
    }

    /// Serves a packet of one-packet scheduling: a connection that is in no table and over with the packet.
    fn serve_once(&self, connection: &New, packet: &Packet, now: Instant, target: &mut Target) -> Decision {
        target.destination = connection.destination_id;
        target.new = connection.destination;
        let method = connection.flags.method();
        if connection.destination_id != DestinationId::NONE {
            let destination = self.shared.destinations.get(connection.destination_id);
            target.epoch = destination.epoch();
            self.count_once(connection);
            self.counters().destination(connection.destination_id).count_in(packet.length);
        }
        self.end_one_packet(connection.controller, now);
        match method {
            Method::Masquerading => Decision::Masquerade,
            method => Decision::Forward(method),
        }
    }

    /// Counts a connection of one-packet scheduling at its server, where it begins and ends at once.
    pub(super) fn count_once(&self, connection: &New) {
        if connection.destination_id == DestinationId::NONE {
            return;
        }
        self.shared.destinations.bind(connection.destination_id, false);
        self.shared.destinations.unbind(connection.destination_id, false, true);
        self.counters().destination(connection.destination_id).connections.add(1);
    }

    /// No real server can be had: past the servers to where the packet was going, if that is allowed, or nowhere
    /// (`ip_vs_leave`).
    fn without_server(&self, service: &Service, opener: &Opener<'_>) -> Result<New, Decision> {
        if service.is_by_mark() && self.may_bypass(opener) {
            let flags = Flags::new(Method::Bypass).without(Flags::INACTIVE).without(Flags::NO_OUTPUT);
            let nowhere = Address::unspecified(opener.service.address.family());
            return Ok(connection_to(Endpoint::new(nowhere, 0), flags, service, opener));
        }
        if service.port() == FTP_PORT && opener.service.port != FTP_PORT {
            return Err(Decision::Verdict(Verdict::Pass));
        }
        if opener.is_error {
            return Err(Decision::Verdict(Verdict::Drop(DropReason::NoServer)));
        }
        Err(Decision::Answer(Answer::PortUnreachable))
    }

    /// Whether a packet may go on to its own destination when no server is left (sysctl cache_bypass): what a cache
    /// stood in for is asked itself.
    fn may_bypass(&self, opener: &Opener<'_>) -> bool {
        let destination = opener.service.address;
        let is_elsewhere = match destination.family() {
            // Where there is no way to it, it is no less somebody else's.
            Family::V4 => !matches!(self.routes().lookup(destination, 0), Route::Local | Route::Broadcast),
            Family::V6 => !destination.is_multicast(),
        };
        self.shared.sysctls.is_on(Knob::CacheBypass) && !opener.is_error && is_elsewhere
    }

    /// TCP opens with a SYN, SCTP with an INIT (or, when sloppy, with anything but RST and ABORT); a datagram always
    /// does, and IPsec never.
    pub(super) fn may_open(&self, packet: &Packet) -> bool {
        let sloppy = match packet.protocol {
            Protocol::Udp => return !packet.is_ipsec,
            Protocol::Tcp => Knob::SloppyTcp,
            Protocol::Sctp => Knob::SloppySctp,
        };
        packet.opening & ENDS == 0 && (packet.opening & BEGINS != 0 || self.shared.sysctls.is_on(sloppy))
    }

    /// Addresses that the host accepts from nobody (`ip_route_input_slow`, `fib_validate_source`).
    pub(super) fn is_martian(&self, source: Address) -> bool {
        source.is_unspecified()
            || source.is_multicast()
            || source.is_broadcast()
            || source.is_loopback()
            || self.routes().is_local(source)
    }
}

/// Whether a persistent service's template for packets to `port` is for that port alone.
fn keeps_port(service: &Service, port: u16) -> bool {
    port == service.port() && port != FTP_PORT
}

/// Under which key a persistent service keeps the template of a client.
pub(super) fn template_key(service: &Service, persistence: &Persistence, opener: &Opener<'_>) -> Key {
    let port = opener.service.port;
    // A template of a mark holds for every protocol, and stands under the mark in place of an address.
    let (protocol, address) = match service.key {
        ServiceKey::Mark { family, mark } if port != service.port() => (None, mark_as_address(family, mark)),
        _ => (Some(opener.protocol), opener.service.address),
    };
    Key {
        protocol,
        client: Endpoint::new(persistence.masked(opener.client.address), 0),
        other: Endpoint::new(address, if keeps_port(service, port) { port } else { 0 }),
    }
}

/// The connection that `opener` asks `service` for, to `server`, which is no destination of ours.
fn connection_to(server: Endpoint, flags: Flags, service: &Service, opener: &Opener<'_>) -> New {
    let is_one_packet = service.one_packet && opener.protocol == Protocol::Udp;
    New {
        key: Key { protocol: Some(opener.protocol), client: opener.client, other: opener.service },
        destination: server,
        destination_id: DestinationId::NONE,
        flags: if is_one_packet { flags.with(Flags::ONE_PACKET) } else { flags },
        mark: opener.mark,
        controller: EntryId::NONE,
        timeout_s: 0,
    }
}

/// What follows the transport header's first eight octets: a datagram's payload.
pub(super) fn payload<'a, P: Port>(received: &Received<'a, P>, packet: &Packet) -> &'a [u8] {
    let start = usize::from(packet.transport) + UDP_HEADER_OCTETS;
    let end = usize::from(packet.network) + usize::from(packet.length);
    received.octets().get(start..end).unwrap_or_default()
}

/// Counts one more connection under a template and starts its timer anew.
fn take_control(found: &Found<'_>) -> Template {
    found.restart();
    Template { id: found.control(), destination: found.entry().destination() }
}

/// A mark where a template's virtual address stands: its number in the first four octets.
fn mark_as_address(family: Family, mark: u32) -> Address {
    match family {
        Family::V4 => Address::v4(mark),
        Family::V6 => Address::v6(u128::from(mark) << 96),
    }
}
