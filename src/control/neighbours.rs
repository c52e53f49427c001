//! Next hops are resolved before the first packet needs them, and kept so.

use std::collections::BTreeSet;

use crate::control::{Action, Control};
use crate::forward::NeighbourRequest;
use crate::route::{Hop, Route};

impl Control {
    /// Asks for the link address of every next hop of servers and gateways that has not been asked for yet.
    pub(super) fn want_neighbours(&mut self) {
        let (_, routes) = self.shared.routes.load();
        let mut wanted: BTreeSet<NeighbourRequest> = BTreeSet::new();
        let mut want = |hop: Hop, address| {
            if let Some(interface) = hop.interface {
                wanted.insert(NeighbourRequest { interface, address: hop.gateway.unwrap_or(address) });
            }
        };
        for server in self.services.iter().flat_map(|service| &service.servers) {
            let address = server.rule.endpoint.address;
            if let Route::Unicast(hop) = routes.lookup(address, 0) {
                want(hop, address);
            }
        }
        // Answers to clients leave by gateways, and only where there is a service.
        if !self.services.is_empty() {
            for hop in routes.gateway_hops() {
                want(hop, hop.source);
            }
        }
        for request in wanted {
            if self.asked.insert(request) {
                self.actions.push_back(Action::KeepNeighbour(request));
            }
        }
    }
}
