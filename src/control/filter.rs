//! What the XDP program must redirect, derived from the configuration as it changes.
//!
//! Each service and each server, those in the trash included, asks for some matches; a match is in the filter as long
//! as anybody asks for it. So one change among many rules costs what it changes.

use std::collections::{BTreeSet, HashMap};

use crate::base::Endpoint;
use crate::command::Request;
use crate::command::request::ServerRule;
use crate::control::{Action, Control, ServerEntry};
use crate::service::filter::{Filter, FilterChange, Match, PortSpans};
use crate::service::snapshot::FTP_PORT;
use crate::service::{Method, Protocol, ServiceKey};

/// The filter, and how often each of its matches was asked for.
#[derive(Default)]
pub(super) struct FilterBook {
    filter: Filter,
    counts: HashMap<Match, u32>,
    /// Matches that came or went since the host was told.
    changed: BTreeSet<Match>,
}

impl FilterBook {
    #[cfg(test)]
    pub(super) fn filter(&self) -> &Filter {
        &self.filter
    }

    fn ask(&mut self, item: Match) {
        let count = self.counts.entry(item).or_default();
        *count += 1;
        if *count == 1 {
            self.change(item, true);
        }
    }

    fn drop(&mut self, item: Match) {
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
        of_service(key).for_each(|item| self.ask(item));
    }

    pub(super) fn drop_service(&mut self, key: &ServiceKey) {
        of_service(key).for_each(|item| self.drop(item));
    }

    pub(super) fn ask_for_server(&mut self, key: &ServiceKey, server: &ServerEntry) {
        of_server(key, &server.rule, server.masqueraded).for_each(|item| self.ask(item));
    }

    pub(super) fn drop_server(&mut self, key: &ServiceKey, server: &ServerEntry) {
        of_server(key, &server.rule, server.masqueraded).for_each(|item| self.drop(item));
    }
}

impl Control {
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
        let missing = of_server(service, server, true).filter(|item| !self.filter.counts.contains_key(item));
        missing.map(|item| FilterChange { item, present: true }).collect()
    }

    /// The filter that should be in place.
    pub fn filter(&self) -> &Filter {
        &self.filter.filter
    }
}

/// The port by which a service's packets are told from others; 0 for every port, as where it is 21: a client's data
/// connection to a port of the server's choice is the service's (`ip_vs_service_find`).
const fn steered_port(protocol: Protocol, port: u16) -> u16 {
    match (protocol, port) {
        (Protocol::Tcp, FTP_PORT) => 0,
        (_, port) => port,
    }
}

/// What a service asks for; services of marks are known by the rules.
fn of_service(key: &ServiceKey) -> impl Iterator<Item = Match> + use<> {
    let matches = match *key {
        ServiceKey::Address { protocol, endpoint } => {
            let steered = Endpoint::new(endpoint.address, steered_port(protocol, endpoint.port));
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
fn of_server(key: &ServiceKey, server: &ServerRule, masqueraded: bool) -> impl Iterator<Item = Match> + use<> {
    let endpoint = server.endpoint;
    let port = match *key {
        ServiceKey::Address { protocol, endpoint: service } => match steered_port(protocol, service.port) {
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
