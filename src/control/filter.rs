//! What the XDP program must redirect, derived from the configuration.

use crate::base::Endpoint;
use crate::command::Request;
use crate::command::request::ServerRule;
use crate::control::{Action, Control};
use crate::service::filter::{Filter, PortSpans};
use crate::service::{Method, Protocol, ServiceKey};

impl Control {
    /// Derives the filter anew and asks for it to be put in place if it has changed.
    pub(super) fn update_filter(&mut self) {
        let mut filter = Filter { locals: self.locals(), ..Filter::default() };
        for service in &self.services {
            add_service(&mut filter, &service.rule.key);
            for server in &service.servers {
                add_server(&mut filter, &service.rule.key, &server.rule, server.masqueraded);
            }
        }
        // Connections outlive the rules that made them.
        for item in &self.trash.items {
            add_service(&mut filter, &item.service_key);
            add_server(&mut filter, &item.service_key, &item.server.rule, item.server.masqueraded);
        }
        filter.marked = self.marked_flows().by_longest_prefix();
        if filter != self.filter {
            self.filter = filter.clone();
            self.actions.push_back(Action::SetFilter(filter));
        }
    }

    /// The filter that a request needs in place before it is executed: a server must not get its first connection
    /// while its answers still pass the director by. `None` when the filter in place will do.
    pub fn filter_ahead(&self, request: &Request) -> Option<Filter> {
        let (Request::AddServer { service, server } | Request::EditServer { service, server }) = request else {
            return None;
        };
        if server.method != Method::Masquerading || self.service(service).is_none() {
            return None;
        }
        let mut filter = self.filter.clone();
        add_server(&mut filter, service, server, true);
        (filter != self.filter).then_some(filter)
    }

    /// The filter that should be in place.
    pub fn filter(&self) -> &Filter {
        &self.filter
    }

    fn locals(&self) -> std::collections::BTreeSet<crate::base::Address> {
        self.shared.routes.load().1.local_addresses().clone()
    }
}

fn add_service(filter: &mut Filter, key: &ServiceKey) {
    // Those of marks are known by the rules.
    let ServiceKey::Address { protocol, endpoint } = *key else { return };
    filter.services.insert((protocol.number(), endpoint));
    filter.virtual_addresses.insert(endpoint.address);
    // Answers of directly routed and tunnelled servers carry the virtual address; those that cross the director
    // move its states.
    filter.servers.insert((protocol.number(), endpoint));
    filter.server_addresses.insert(endpoint.address);
}

fn add_server(filter: &mut Filter, key: &ServiceKey, server: &ServerRule, masqueraded: bool) {
    filter.server_addresses.insert(server.endpoint.address);
    if !masqueraded {
        return;
    }
    match *key {
        ServiceKey::Address { protocol, endpoint } => {
            let port = if server.endpoint.port == 0 { endpoint.port } else { server.endpoint.port };
            filter.servers.insert((protocol.number(), Endpoint::new(server.endpoint.address, port)));
        }
        // Of any protocol, and without a port of its own from every port.
        ServiceKey::Mark { .. } => {
            let of = |protocol: Protocol| (protocol.number(), server.endpoint);
            filter.servers.extend(PortSpans::PROTOCOLS.map(of));
        }
    }
}
