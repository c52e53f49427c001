//! Destinations that no service lists any more but connections still name. Added again to the same service, one comes
//! back with its counts.
//!
//! Source: `__ip_vs_del_dest`, `ip_vs_trash_get_dest`, `ip_vs_dest_trash_expire` of `ip_vs_ctl.c`, Linux 6.1.

use std::collections::BTreeMap;

use crate::base::{Duration, Endpoint, Instant};
use crate::control::{Control, ServerEntry};
use crate::service::{DestinationId, ServiceId, ServiceKey};

/// How long a destination without connections stays.
const IDLE: Duration = Duration::from_secs(120);

/// The destinations in the trash.
#[derive(Default)]
pub(super) struct Trash {
    pub(super) items: BTreeMap<(ServiceKey, Endpoint), Trashed>,
}

/// One of them.
pub(super) struct Trashed {
    pub(super) service: ServiceId,
    pub(super) server: ServerEntry,
    /// Since when no connection has named it.
    idle_since: Option<Instant>,
}

impl Trash {
    pub(super) fn put(&mut self, service_key: ServiceKey, service: ServiceId, server: ServerEntry) {
        let key = (service_key, server.rule.endpoint);
        self.items.insert(key, Trashed { service, server, idle_since: None });
    }

    /// Takes the destination of a service of this identity out again.
    pub(super) fn take(&mut self, service_key: &ServiceKey, endpoint: Endpoint) -> Option<Trashed> {
        self.items.remove(&(*service_key, endpoint))
    }
}

impl Control {
    /// Frees the destinations that have been idle long enough.
    pub(super) fn empty_trash(&mut self, now: Instant) {
        let destinations = &self.shared.destinations;
        let mut freed: Vec<DestinationId> = Vec::new();
        let filter = &mut self.filter;
        self.trash.items.retain(|(service_key, _), item| {
            if !destinations.get(item.server.id).is_unreferenced() {
                item.idle_since = None;
                return true;
            }
            let since = *item.idle_since.get_or_insert(now);
            let keep = now - since < IDLE;
            if !keep {
                freed.push(item.server.id);
                filter.drop_server(service_key, &item.server);
                filter.drop_service(service_key);
            }
            keep
        });
        let earlier = self.mark_rules.earlier_count();
        self.forget_earlier_marks();
        if self.mark_rules.earlier_count() != earlier || !freed.is_empty() {
            self.free_destinations.append(&mut freed);
            self.servers_changed();
        }
    }
}
