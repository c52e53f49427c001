//! Next hops are resolved before the first packet needs them, and kept so.

use std::collections::BTreeSet;

use crate::base::Address;
use crate::control::{Action, Control};
use crate::forward::NeighbourRequest;
use crate::route::{Hop, Route};

impl Control {
    /// Asks for the link address of every next hop of servers and gateways that has not been asked for yet.
    pub(super) fn want_neighbours(&mut self) {
        let servers = self.services.iter().flat_map(|service| &service.servers);
        let addresses: BTreeSet<Address> = servers.map(|server| server.rule.endpoint.address).collect();
        for address in addresses {
            self.want_neighbour(address);
        }
        self.want_gateways();
    }

    /// Asks for the next hop of one server.
    pub(super) fn want_neighbour(&mut self, address: Address) {
        let (_, routes) = self.shared.routes.load();
        if let Route::Unicast(hop) = routes.lookup(address, 0) {
            self.want(hop, address);
        }
    }

    /// Asks for the gateways: answers to clients leave by them, and only where there is a service.
    pub(super) fn want_gateways(&mut self) {
        if self.services.is_empty() {
            return;
        }
        let (_, routes) = self.shared.routes.load();
        for hop in routes.gateway_hops() {
            self.want(hop, hop.source);
        }
    }

    fn want(&mut self, hop: Hop, address: Address) {
        let Some(interface) = hop.interface else { return };
        let request = NeighbourRequest { interface, address: hop.gateway.unwrap_or(address) };
        if self.asked.insert(request) {
            self.actions.push_back(Action::KeepNeighbour(request));
        }
    }
}
