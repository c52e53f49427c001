//! Services made whole, with what keepalived says of what is missing or does not fit.

use std::collections::BTreeSet;

use crate::base::Address;
use crate::config::meaning::Context;
use crate::config::meaning::service::{PERSISTENCE_S, ServiceDraft};
use crate::config::message::Messages;
use crate::config::model::service::{GroupEntry, Target};
use crate::config::model::{RealServer, VirtualServer};
use crate::service::{Method, Protocol};

impl Context<'_> {
    pub(super) fn finish_checkers(&mut self) {
        for mut draft in std::mem::take(&mut self.service_drafts) {
            if draft.service.servers.is_empty() {
                self.messages.flaw(format!("Virtual server {} has no real servers - ignoring", label(&draft)));
                continue;
            }
            let kind = self.kind_of(&draft.service.target);
            complete(&mut draft, kind, self.messages);
            self.configuration.virtual_servers.push(draft.service);
        }
        self.say_insecure("check scripts");
    }

    fn kind_of(&self, target: &Target) -> Kind {
        let wanted = match target {
            Target::Mark(_) => return Kind { is_mark: true, has_no_port: false },
            Target::Endpoint(_, port) => return Kind { is_mark: false, has_no_port: *port == 0 },
            Target::Group(wanted) => wanted,
        };
        let group = self.configuration.server_groups.iter().find(|group| group.name == *wanted);
        let entries = group.map(|group| group.entries.as_slice()).unwrap_or_default();
        Kind {
            is_mark: entries.iter().all(|entry| matches!(entry, GroupEntry::Mark(..))),
            has_no_port: entries.iter().any(|entry| matches!(entry, GroupEntry::Addresses { port: 0, .. })),
        }
    }
}

/// What a service is called in messages.
fn label(draft: &ServiceDraft) -> String {
    match &draft.service.target {
        Target::Endpoint(address, port) => endpoint_label(*address, draft.protocol, *port),
        Target::Mark(mark) => format!("FWM {mark}"),
        Target::Group(name) => format!("[{name}]:0"),
    }
}

/// What an endpoint is called in messages.
pub fn endpoint_label(address: Address, protocol: Option<Protocol>, port: u16) -> String {
    let protocol = match protocol {
        Some(Protocol::Tcp) => "tcp",
        Some(Protocol::Udp) => "udp",
        Some(Protocol::Sctp) => "sctp",
        None => "none",
    };
    format!("[{address}]:{protocol}:{port}")
}

/// What is said of a service depends on what it serves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Kind {
    /// Marks alone.
    is_mark: bool,
    /// Any address without a port.
    has_no_port: bool,
}

fn complete(draft: &mut ServiceDraft, kind: Kind, messages: &mut Messages) {
    let Kind { is_mark, has_no_port } = kind;
    if is_mark && draft.protocol.is_some() {
        messages.flaw(format!(
            "Warning: Virtual server {}: protocol specified for fwmark - protocol will be ignored",
            label(draft)
        ));
        draft.protocol = None;
    } else if !is_mark && draft.protocol.is_none() {
        messages.flaw(format!("Virtual server {}: no protocol set - defaulting to UDP", label(draft)));
        draft.protocol = Some(Protocol::Udp);
    }
    let about = label(draft);
    if !draft.has_scheduler {
        messages.flaw(format!("Virtual server {about}: no scheduler set, setting default 'wlc'"));
    }
    if !draft.has_method {
        messages.flaw(format!("Virtual server {about}: no forwarding method set, setting default NAT"));
    }
    let service = &mut draft.service;
    service.protocol = draft.protocol;
    if has_no_port && service.persistence_s == 0 {
        messages.flaw(format!("Virtual server {about}: zero port only valid for persistent services - setting"));
        service.persistence_s = PERSISTENCE_S;
    }
    if service.is_one_packet && service.protocol.is_some_and(|protocol| protocol != Protocol::Udp) {
        messages.flaw(format!("Virtual server {about}: one packet scheduling requires UDP - resetting"));
        service.is_one_packet = false;
    }
    complete_servers(service, &about, messages);
    if let (Some(sorry), false) = (&mut service.sorry, draft.sorry_has_method) {
        (sorry.method, sorry.tunnel) = (service.method, service.tunnel);
    }
    let weights: u64 = service.servers.iter().map(|server| u64::from(server.weight.unsigned_abs())).sum();
    let weights = u32::try_from(weights).unwrap_or(u32::MAX);
    if service.quorum > weights {
        messages.flaw(format!(
            "Warning - quorum {} for {about} exceeds total weight of real servers {weights}, reducing quorum to {weights}",
            service.quorum
        ));
        service.quorum = weights;
    }
    if service.hysteresis >= service.quorum && service.hysteresis > 0 {
        let reduced = service.quorum.saturating_sub(1);
        messages.flaw(format!(
            "Virtual server {about}: hysteresis {} >= quorum {}; setting hysteresis to {reduced}",
            service.hysteresis, service.quorum
        ));
        service.hysteresis = reduced;
    }
}

/// Ports that cannot be translated, servers that are there twice.
fn complete_servers(service: &mut VirtualServer, about: &str, messages: &mut Messages) {
    let protocol = service.protocol;
    let own_port = match &service.target {
        Target::Endpoint(_, port) => Some(*port),
        _ => None,
    };
    let mut seen = BTreeSet::new();
    service.servers.retain_mut(|server: &mut RealServer| {
        let endpoint = endpoint_label(server.address, protocol, server.port);
        if !seen.insert((server.address, server.port)) {
            messages.flaw(format!("VS {about}: real server {endpoint} is duplicated - removing second rs"));
            return false;
        }
        if let (Some(port), false) = (own_port, server.method == Method::Masquerading)
            && port != server.port
        {
            messages.flaw(format!(
                "WARNING - virtual server {about} and real server {endpoint} ports don't match - resetting"
            ));
            server.port = port;
        }
        true
    });
}
