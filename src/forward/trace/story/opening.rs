//! A packet without a connection: the story of `Forwarder::open` and of what it asks.

use std::sync::Arc;

use crate::base::Endpoint;
use crate::conn::{Event, Key};
use crate::forward::parse::{BEGINS, ENDS, Packet};
use crate::forward::related::Related;
use crate::forward::schedule::{Opener, template_key};
use crate::forward::trace::story::Story;
use crate::forward::trace::{Step, words};
use crate::service::scheduler::List;
use crate::service::snapshot::{FTP_DATA_PORT, FTP_PORT};
use crate::service::sysctl::Knob;
use crate::service::{Destination, DestinationId, Persistence, Protocol, Service, ServiceKey};

/// Real servers of a service that are told of one by one.
const SERVERS_TOLD_MAX: usize = 64;
/// Octets of a UDP header.
const UDP_HEADER_OCTETS: usize = 8;

impl Story<'_> {
    /// As `Forwarder::open`.
    pub(super) fn tell_opening(&mut self) {
        let packet = self.packet;
        if self.stage.forwarder.is_martian(packet.source.address) {
            return self.say("source", format!("{} is no address that a sender may have", packet.source.address));
        }
        if self.stage.shared.connections.has_expected() && self.tell_expected(&packet) {
            return;
        }
        if packet.protocol == Protocol::Sctp && packet.event == Event::Nothing {
            return self.say("opening", "the SCTP packet has no chunk that could be read");
        }
        let begins = self.stage.forwarder.may_open(&packet);
        self.tell_beginning(&packet, begins);
        if !begins {
            return;
        }
        let service = self.stage.forwarder.service_of(&packet).map(|(service, mark)| (Arc::clone(service), mark));
        self.tell_mark(&packet);
        let Some((service, mark)) = service else {
            let (protocol, to) = (packet.protocol, packet.destination);
            return self.say("service", format!("none takes {protocol} {to}: it is the host's"));
        };
        self.tell_service(&service, packet.protocol, packet.destination);
        let end = usize::from(packet.network) + usize::from(packet.length);
        let payload = self.frame.get(usize::from(packet.transport) + UDP_HEADER_OCTETS..end).unwrap_or_default();
        let opener = Opener {
            protocol: packet.protocol,
            client: packet.source,
            service: packet.destination,
            mark,
            payload,
            is_error: false,
        };
        self.tell_schedule(&service, &opener);
    }

    /// As `Forwarder::open_for_error`.
    pub(super) fn tell_opening_for_error(&mut self, related: &Related) {
        let Endpoint { address, port } = related.source;
        let service = self.stage.forwarder.services().find(0, related.protocol, address, port).map(Arc::clone);
        let Some(service) = service else {
            return self.say("service", format!("none sends as {}: the error is the host's", related.source));
        };
        self.tell_service(&service, related.protocol, related.source);
        let opener = Opener {
            protocol: related.protocol,
            client: related.destination,
            service: related.source,
            mark: 0,
            payload: related.quoted_payload(self.frame),
            is_error: true,
        };
        self.tell_schedule(&service, &opener);
    }

    /// A data connection that the FTP helper expects; false when the packet is none's first.
    fn tell_expected(&mut self, packet: &Packet) -> bool {
        if packet.protocol != Protocol::Tcp || packet.source.port == 0 {
            return false;
        }
        let shared = Arc::clone(&self.stage.shared);
        let key = Key { protocol: Some(packet.protocol), client: packet.source, other: packet.destination };
        let hash = shared.connections.hash(key.protocol, key.client);
        let Some(found) = shared.connections.find_expected(hash, &key, self.now) else { return false };
        let step = self.connection(found.entry());
        let destination = found.entry().destination();
        self.say("helper", "the FTP helper expected this data connection");
        self.steps.push(step);
        if destination == DestinationId::NONE || shared.destinations.get(destination).is_available() {
            let flags = found.entry().flags();
            drop(found);
            self.follows(destination, flags);
            return true;
        }
        let is_to_end = shared.sysctls.is_on(Knob::ExpireNodestConn);
        let then = if is_to_end { "it ends" } else { "the packet is dropped" };
        let value = u8::from(is_to_end);
        self.say("knob", format!("its real server was removed: {then} (expire_nodest_conn={value})"));
        if is_to_end {
            found.expire_now();
        }
        !is_to_end
    }

    fn tell_beginning(&mut self, packet: &Packet, begins: bool) {
        let (first, knob, name) = match packet.protocol {
            Protocol::Udp if packet.is_ipsec => return self.say("opening", "IPsec opens no connection"),
            Protocol::Udp => return,
            Protocol::Tcp => ("SYN", Knob::SloppyTcp, "sloppy_tcp"),
            Protocol::Sctp => ("INIT", Knob::SloppySctp, "sloppy_sctp"),
        };
        let value = self.stage.shared.sysctls.get(knob);
        let text = if packet.opening & ENDS != 0 {
            "it ends a connection and opens none".to_owned()
        } else if packet.opening & BEGINS != 0 {
            format!("a {first} may open a connection")
        } else if begins {
            format!("it may open a connection though it is no {first} ({name}={value})")
        } else {
            format!("it is no {first} and opens no connection ({name}={value}): it is the host's")
        };
        self.say("opening", text);
    }

    fn tell_mark(&mut self, packet: &Packet) {
        let forwarder = &self.stage.forwarder;
        if forwarder.marks().rules(packet.family).is_empty() {
            return;
        }
        let (mark, rules) = forwarder.marks().explain(&forwarder.facts(packet));
        let text = match rules.as_slice() {
            [] => "no rule meets the packet: it has no mark".to_owned(),
            rules => format!("{mark} by {}", rules.join("; ")),
        };
        self.steps.push(Step::new("mark", text).with("mark", mark).with("rules", rules));
    }

    fn tell_service(&mut self, service: &Service, protocol: Protocol, to: Endpoint) {
        let why = match service.key {
            ServiceKey::Mark { .. } => "by the packet's mark".to_owned(),
            ServiceKey::Address { endpoint, .. } if endpoint == to => "by address and port".to_owned(),
            ServiceKey::Address { endpoint, .. } if endpoint.port == FTP_PORT => {
                format!("port {} may be a data connection of the FTP service", to.port)
            }
            ServiceKey::Address { .. } => format!("no service has {protocol} port {}: the one of every port", to.port),
        };
        let scheduling = service.scheduling.lock();
        let scheduler = scheduling.scheduler.as_ref().map_or("none", |scheduler| scheduler.name());
        let servers = scheduling.ids.len();
        drop(scheduling);
        let mut text = format!("{} ({why}), scheduler {scheduler}, {servers} real servers", service.key);
        if service.one_packet && protocol == Protocol::Udp {
            text.push_str(", each datagram scheduled by itself");
        }
        self.steps
            .push(Step::new("service", text).with("service", service.key.to_string()).with("scheduler", scheduler));
    }

    /// As `Forwarder::schedule`.
    fn tell_schedule(&mut self, service: &Service, opener: &Opener<'_>) {
        let shared = Arc::clone(&self.stage.shared);
        let rate = shared.defence.rate();
        if rate != 0 {
            let mode = shared.sysctls.get(Knob::DropPacket);
            let one = format!("one of {rate} new connections is refused (drop_packet={mode})");
            if shared.defence.takes_packet() {
                return self.say("defence", format!("{one}: this one"));
            }
            self.say("defence", format!("{one}, not this one"));
        }
        if opener.client.port == FTP_DATA_PORT {
            return self.say("client", "a packet from port 20 opens none: helpers expect those. It is the host's");
        }
        if let Some(persistence) = &service.persistence {
            return self.tell_persistence(service, persistence, opener);
        }
        if opener.service.port != service.port() && !service.is_by_mark() {
            let port = opener.service.port;
            self.say("service", format!("without persistence its servers do not take port {port}"));
            return self.tell_no_server(service, opener);
        }
        self.tell_pick(service, opener);
    }

    /// As `Forwarder::schedule_persistently`.
    fn tell_persistence(&mut self, service: &Service, persistence: &Persistence, opener: &Opener<'_>) {
        let shared = Arc::clone(&self.stage.shared);
        let key = template_key(service, persistence, opener);
        let Ok(data) = self.stage.forwarder.engine_data(service, opener) else {
            return self.say("engine", "the service keeps calls together, and the datagram has no Call-ID");
        };
        let hash = match data {
            [] => shared.connections.hash(key.protocol, key.client),
            data => shared.connections.hash_of_data(data),
        };
        let whom = match data {
            [] => format!("clients of {}", key.client.address),
            data => format!("the call {}", String::from_utf8_lossy(data).escape_debug()),
        };
        if let Some(found) = shared.connections.find_template(hash, &key, data, self.now) {
            let step = self.connection(found.entry());
            self.steps.push(step);
            if self.stage.forwarder.is_valid_template(&found) {
                let destination = found.entry().destination();
                drop(found);
                self.foretold = Some(destination);
                return self.say("persistence", format!("{whom} stay with it"));
            }
            let quiescent = shared.sysctls.get(Knob::ExpireQuiescentTemplate);
            self.say(
                "knob",
                format!("its real server is gone or quiesced (expire_quiescent_template={quiescent}): another is made"),
            );
            found.invalidate_template();
        } else {
            let timeout_s = persistence.timeout_s;
            self.say("template", format!("none for {whom}: the choice is kept in a new one for {timeout_s} s"));
        }
        self.tell_pick(service, opener);
    }

    /// The scheduler's choice.
    fn tell_pick(&mut self, service: &Service, opener: &Opener<'_>) {
        let shared = Arc::clone(&self.stage.shared);
        let flow = opener.flow(self.now);
        let mut scheduling = service.scheduling.lock();
        let reason = scheduling.scheduler.as_ref().map(|scheduler| {
            let list = List { ids: &scheduling.ids, table: &shared.destinations, flags: scheduling.flags };
            (scheduler.name(), scheduler.reason(list, &flow))
        });
        let load = |destination: &Destination| scheduling.scheduler.as_ref()?.load(destination);
        let mut rows: Vec<(DestinationId, Step)> =
            shared.destinations.iter(&scheduling.ids).map(|(id, cell)| (id, server(cell, load(cell)))).collect();
        let picked = scheduling.pick(&shared.destinations, &flow);
        drop(scheduling);
        let Some((name, reason)) = reason else {
            self.say("scheduler", "none: no connection gets a real server");
            return self.tell_no_server(service, opener);
        };
        let left_out = rows.len().saturating_sub(SERVERS_TOLD_MAX);
        let mut position = 0;
        rows.retain(|(id, _)| {
            position += 1;
            position <= SERVERS_TOLD_MAX || Some(*id) == picked
        });
        for (id, step) in rows {
            self.steps.push(step.with("chosen", Some(id) == picked));
        }
        if left_out > 0 {
            self.say("server", format!("and {left_out} more"));
        }
        let Some(id) = picked else {
            self.say("scheduler", format!("{name} gives none: {reason}"));
            return self.tell_no_server(service, opener);
        };
        let endpoint = shared.destinations.get(id).endpoint();
        let text = format!("{name} gives {endpoint}: {reason}");
        self.steps.push(
            Step::new("scheduler", text)
                .with("scheduler", name)
                .with("server", endpoint.to_string())
                .with("reason", reason),
        );
        self.foretold = Some(id);
    }

    /// As `Forwarder::without_server`.
    fn tell_no_server(&mut self, service: &Service, opener: &Opener<'_>) {
        let bypass = self.stage.shared.sysctls.get(Knob::CacheBypass);
        let text = if service.is_by_mark() && bypass != 0 && !opener.is_error {
            format!("none: the packet may go on to {} itself (cache_bypass={bypass})", opener.service.address)
        } else if service.port() == FTP_PORT && opener.service.port != FTP_PORT {
            "none: what may be an FTP data connection is left to the host".to_owned()
        } else if opener.is_error {
            "none: nobody is told of an error".to_owned()
        } else {
            "none: the client is told".to_owned()
        };
        self.say("server", text);
    }
}

/// A real server as its scheduler sees it.
fn server(cell: &Destination, load: Option<String>) -> Step {
    let (endpoint, weight) = (cell.endpoint(), cell.weight());
    let (active, inactive) = (cell.active(), cell.inactive());
    let (upper, lower) = cell.thresholds();
    let method = words::method(cell.method());
    let mut text = format!("{endpoint} weight {weight}, {active} active, {inactive} inactive");
    let unusable = if !cell.is_available() {
        Some("removed".to_owned())
    } else if weight == 0 {
        Some("quiesced: weight 0".to_owned())
    } else if cell.is_overloaded() {
        Some(format!("overloaded: upper threshold {upper}, lower {lower}"))
    } else {
        None
    };
    match (&unusable, &load) {
        (Some(why), _) => text.push_str(&format!("; {why}")),
        (None, Some(load)) => text.push_str(&format!("; {load}")),
        (None, None) => {}
    }
    let step = Step::new("server", text)
        .with("server", endpoint.to_string())
        .with("weight", weight)
        .with("active", active)
        .with("inactive", inactive)
        .with("method", method);
    match (unusable, load) {
        (Some(why), _) => step.with("unusable", why),
        (None, Some(load)) => step.with("load", load),
        (None, None) => step,
    }
}
