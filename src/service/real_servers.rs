//! Which real servers masquerade, found by address and port: for packets of theirs that belong to no connection.

use std::collections::HashMap;
use std::sync::Arc;

use crate::base::Endpoint;
use crate::base::hasher::BuildWordHasher;
use crate::service::destination::DestinationId;
use crate::service::snapshot::Service;
use crate::service::types::Protocol;

/// A masqueraded real server.
#[derive(Clone)]
pub struct RealServer {
    /// Its number.
    pub id: DestinationId,
    /// The service that lists it.
    pub service: Arc<Service>,
}

/// All masqueraded real servers. Empty while nothing asks for them (sysctl nat_icmp_send, persistence engines).
#[derive(Clone, Default)]
pub struct RealServers {
    by_endpoint: HashMap<Endpoint, Vec<RealServer>, BuildWordHasher>,
}

impl RealServers {
    /// An index of `servers`; of those with one endpoint the first is found.
    pub fn new(servers: impl IntoIterator<Item = (Endpoint, RealServer)>) -> Self {
        let mut index = Self::default();
        for (endpoint, server) in servers {
            index.by_endpoint.entry(endpoint).or_default().push(server);
        }
        index
    }

    /// True when there are none.
    pub fn is_empty(&self) -> bool {
        self.by_endpoint.is_empty()
    }

    /// The real server that a packet of `protocol` from `source` comes from (`ip_vs_find_real_service`).
    pub fn find(&self, protocol: Protocol, source: Endpoint) -> Option<&RealServer> {
        self.by_endpoint.get(&source)?.iter().find(|server| server.service.key.serves(protocol))
    }
}
