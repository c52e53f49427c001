//! What the XDP program must redirect, derived from the configuration as it changes.
//!
//! Each service and each server, those in the trash included, asks for some matches; a match is in the filter as long
//! as anybody asks for it. So one change among many rules costs what it changes.

use std::collections::{BTreeSet, HashMap};

use crate::base::Endpoint;
use crate::command::Request;
use crate::command::request::ServerRule;
use crate::conn::helper::{FTP_PORT_DEFAULT, HELPER_PORTS_MAX};
use crate::control::{Action, Control, ServerEntry};
use crate::service::filter::{Filter, FilterChange, Match, PortSpans};
use crate::service::{Method, Protocol, ServiceKey};

/// The filter, and how often each of its matches was asked for.
#[derive(Default)]
pub(super) struct FilterBook {
    filter: Filter,
    counts: HashMap<Match, u32>,
    /// Matches that came or went since the host was told.
    changed: BTreeSet<Match>,
    /// Ports of FTP services, whose data connections come from and go to any port.
    ftp: FtpPorts,
}

/// The ports of services that have data connections of FTP: 21, for persistent services, and those of the helper.
#[derive(Clone, Copy)]
struct FtpPorts([u16; HELPER_PORTS_MAX + 1]);

impl Default for FtpPorts {
    fn default() -> Self {
        Self([FTP_PORT_DEFAULT; HELPER_PORTS_MAX + 1])
    }
}

impl FtpPorts {
    fn has_service(self, protocol: Protocol, port: u16) -> bool {
        protocol == Protocol::Tcp && self.0.contains(&port)
    }
}

impl FilterBook {
    #[cfg(test)]
    pub(super) fn filter(&self) -> &Filter {
        &self.filter
    }

    pub(super) fn ask(&mut self, item: Match) {
        let count = self.counts.entry(item).or_default();
        *count += 1;
        if *count == 1 {
            self.change(item, true);
        }
    }

    pub(super) fn drop(&mut self, item: Match) {
        let Some(count) = self.counts.get_mut(&item) else {
            debug_assert!(false, "what is dropped was asked for");
            return;
        };
        *count -= 1;
        if *count == 0 {
            self.counts.remove(&item);
            self.change(item, false);
        }
    }

    fn change(&mut self, item: Match, present: bool) {
        self.filter.apply(FilterChange { item, present });
        self.changed.insert(item);
    }

    pub(super) fn ask_for_service(&mut self, key: &ServiceKey) {
        of_service(key, self.ftp).for_each(|item| self.ask(item));
    }

    pub(super) fn drop_service(&mut self, key: &ServiceKey) {
        of_service(key, self.ftp).for_each(|item| self.drop(item));
    }

    pub(super) fn ask_for_server(&mut self, key: &ServiceKey, server: &ServerEntry) {
        of_server(key, &server.rule, server.masqueraded, self.ftp).for_each(|item| self.ask(item));
    }

    pub(super) fn drop_server(&mut self, key: &ServiceKey, server: &ServerEntry) {
        of_server(key, &server.rule, server.masqueraded, self.ftp).for_each(|item| self.drop(item));
    }
}

impl Control {
    /// Turns the FTP helper on for these ports, at most [`HELPER_PORTS_MAX`] of them. It watches connections that
    /// begin afterwards.
    pub fn serve_ftp(&mut self, ports: &[u16]) {
        let ports = &ports[..ports.len().min(HELPER_PORTS_MAX)];
        self.shared.connections.helper_ports().set(ports);
        let mut ftp = FtpPorts::default();
        ftp.0[..ports.len()].copy_from_slice(ports);
        let book = &mut self.filter;
        let ask_all = |book: &mut FilterBook, service: fn(&mut FilterBook, &ServiceKey), server: AskForServer| {
            for entry in &self.services {
                service(book, &entry.rule.key);
                entry.servers.iter().for_each(|known| server(book, &entry.rule.key, known));
            }
            for ((key, _), trashed) in &self.trash.items {
                service(book, key);
                server(book, key, &trashed.server);
            }
        };
        ask_all(book, FilterBook::drop_service, FilterBook::drop_server);
        book.ftp = ftp;
        ask_all(book, FilterBook::ask_for_service, FilterBook::ask_for_server);
        self.update_filter();
    }

    /// Brings what does not follow rule by rule up to date, and asks for the changes to be put in place.
    pub(super) fn update_filter(&mut self) {
        let marked = self.marked_flows().by_longest_prefix();
        self.update_locals();
        let book = &mut self.filter;
        let changed = std::mem::take(&mut book.changed);
        if marked != book.filter.marked {
            book.filter.marked = marked;
            self.actions.push_back(Action::SetFilter(book.filter.clone()));
            return;
        }
        // What came and went again in the meantime may be among them; a change says how it is, not what happened.
        let is_there = |item: &Match| book.counts.contains_key(item);
        let changes: Vec<FilterChange> =
            changed.iter().map(|item| FilterChange { item: *item, present: is_there(item) }).collect();
        if !changes.is_empty() {
            self.actions.push_back(Action::ChangeFilter(changes));
        }
    }

    fn update_locals(&mut self) {
        let (_, routes) = self.shared.routes.load();
        let (locals, book) = (routes.local_addresses(), &mut self.filter);
        if *locals == book.filter.locals {
            return;
        }
        let before = book.filter.locals.clone();
        locals.difference(&before).for_each(|address| book.ask(Match::Local(*address)));
        before.difference(locals).for_each(|address| book.drop(Match::Local(*address)));
    }

    /// What a request needs in place before it is executed: a server must not get its first connection while its
    /// answers still pass the director by. Empty when the filter in place will do.
    pub fn filter_ahead(&self, request: &Request) -> Vec<FilterChange> {
        let (Request::AddServer { service, server } | Request::EditServer { service, server }) = request else {
            return Vec::new();
        };
        if server.method != Method::Masquerading || self.service(service).is_none() {
            return Vec::new();
        }
        let missing =
            of_server(service, server, true, self.filter.ftp).filter(|item| !self.filter.counts.contains_key(item));
        missing.map(|item| FilterChange { item, present: true }).collect()
    }

    /// The filter that should be in place.
    pub fn filter(&self) -> &Filter {
        &self.filter.filter
    }
}

type AskForServer = fn(&mut FilterBook, &ServiceKey, &ServerEntry);

/// The port by which a service's packets are told from others; 0 for every port, as where it is one of FTP: a client's
/// data connection to a port of the server's choice is the service's (`ip_vs_service_find`), or the helper's.
fn steered_port(ftp: FtpPorts, protocol: Protocol, port: u16) -> u16 {
    if ftp.has_service(protocol, port) { 0 } else { port }
}

/// What a service asks for; services of marks are known by the rules.
fn of_service(key: &ServiceKey, ftp: FtpPorts) -> impl Iterator<Item = Match> + use<> {
    let matches = match *key {
        ServiceKey::Address { protocol, endpoint } => {
            let steered = Endpoint::new(endpoint.address, steered_port(ftp, protocol, endpoint.port));
            Some([
                Match::Service(protocol.number(), steered),
                Match::VirtualAddress(endpoint.address),
                // Answers of directly routed and tunnelled servers carry the virtual address; those that cross the
                // director move its states.
                Match::Server(protocol.number(), steered),
                Match::ServerAddress(endpoint.address),
            ])
        }
        ServiceKey::Mark { .. } => None,
    };
    matches.into_iter().flatten()
}

/// What a server asks for; `masqueraded` when it masquerades or did.
fn of_server(
    key: &ServiceKey,
    server: &ServerRule,
    masqueraded: bool,
    ftp: FtpPorts,
) -> impl Iterator<Item = Match> + use<> {
    let endpoint = server.endpoint;
    let port = match *key {
        ServiceKey::Address { protocol, endpoint: service } => match steered_port(ftp, protocol, service.port) {
            // Where the service takes every port, the server is asked at the client's port, whatever its own is.
            0 => 0,
            port if endpoint.port == 0 => port,
            _ => endpoint.port,
        },
        // From any port: a persistent service by mark does not look at the server's own.
        ServiceKey::Mark { .. } => 0,
    };
    let key = *key;
    let protocols = PortSpans::PROTOCOLS.into_iter().filter(move |protocol| masqueraded && key.serves(*protocol));
    let answers =
        protocols.map(move |protocol| Match::Server(protocol.number(), Endpoint::new(endpoint.address, port)));
    answers.chain([Match::ServerAddress(endpoint.address)])
}
