//! Requests that change the configuration: the kernel's checks in the kernel's order, then the change.
//!
//! Source: `net/netfilter/ipvs/ip_vs_ctl.c`, Linux 6.1: `ip_vs_genl_set_cmd` and what it calls.

use std::sync::Arc;

use crate::base::{Endpoint, Family, Instant, Lock};
use crate::command::request::{Refusal, ServerRule, ServiceRule};
use crate::command::{Reply, Request, Response};
use crate::control::estimate::{Tally, raw_counts};
use crate::control::{Control, SERVICES_MAX, ServerEntry, ServiceEntry};
use crate::route::Route;
use crate::sched;
use crate::service::destination::DESTINATIONS_MAX;
use crate::service::scheduler::{Scheduler, Scheduling};
use crate::service::{DestinationId, Engine, Method, Protocol, ServiceId, ServiceKey, Tunnel};

impl Control {
    pub(super) fn dispatch(&mut self, now: Instant, request: Request) -> Reply {
        match request {
            Request::AddService(rule) => self.add_service(now, rule),
            Request::EditService(rule) => self.edit_service(now, rule),
            Request::DeleteService(key) => self.delete_service(&key, now),
            Request::Clear => self.clear(now),
            Request::AddServer { service, server } => self.add_server(&service, server),
            Request::EditServer { service, server } => self.edit_server(&service, server),
            Request::DeleteServer { service, server } => self.delete_server(&service, server, now),
            Request::Zero(only) => self.zero(only.as_ref()),
            Request::SetTimeouts { tcp_s, tcp_fin_s, udp_s } => {
                self.shared.connections.timeouts().set(tcp_s, tcp_fin_s, udp_s);
                Ok(Response::Done)
            }
            Request::StartDaemon(rule) => self.start_daemon(now, rule),
            Request::StopDaemon(role) => self.stop_daemon(now, role),
            Request::Services(only) => self.list_services(only.as_ref()),
            Request::Connections => self.list_connections(now),
            Request::Timeouts => self.list_timeouts(),
            Request::Daemons => self.list_daemons(),
        }
    }

    fn add_service(&mut self, now: Instant, rule: ServiceRule) -> Reply {
        if self.service(&rule.key).is_some() {
            return Err(Refusal::Exists);
        }
        if self.services.len() >= SERVICES_MAX {
            return Err(Refusal::NoMemory);
        }
        let scheduler = self.make_scheduler(&rule)?;
        check_persistence(&rule)?;
        let scheduling = Scheduling::new(scheduler, rule.flags, &self.shared.destinations);
        let id = ServiceId(self.next_service);
        self.service_by_key.insert(rule.key, id);
        self.filter.ask_for_service(&rule.key);
        self.services.push(ServiceEntry {
            rule,
            id,
            scheduling: Arc::new(Lock::new(scheduling)),
            servers: Vec::new(),
            tally: Tally::default(),
            next_tick: None,
        });
        self.next_service += 1;
        self.start_ticks(self.services.len() - 1, now);
        self.services_changed();
        Ok(Response::Done)
    }

    fn edit_service(&mut self, now: Instant, rule: ServiceRule) -> Reply {
        let index = self.service(&rule.key).ok_or(Refusal::NoService)?;
        let is_same = self.services[index].rule.scheduler == rule.scheduler;
        let scheduler = if is_same { None } else { self.make_scheduler(&rule)? };
        check_persistence(&rule)?;
        if rule.one_packet && self.services[index].servers.iter().any(|server| server.rule.full_nat.is_on()) {
            return Err(Refusal::NotSupported(NO_ONE_PACKET.into()));
        }
        {
            let mut scheduling = self.services[index].scheduling.lock();
            if is_same {
                scheduling.flags = rule.flags;
            } else {
                if scheduler.as_ref().is_some_and(|scheduler| !scheduler.fits(scheduling.ids.len())) {
                    return Err(Refusal::Invalid);
                }
                scheduling.rebind(scheduler, rule.flags, &self.shared.destinations);
            }
        }
        if !is_same {
            self.start_ticks(index, now);
        }
        for server in &self.services[index].servers {
            self.shared.destinations.get(server.id).set_mss_max(rule.mss_max);
        }
        self.services[index].rule = rule;
        self.services_changed();
        Ok(Response::Done)
    }

    fn delete_service(&mut self, key: &ServiceKey, now: Instant) -> Reply {
        let index = self.service(key).ok_or(Refusal::NoService)?;
        let service = self.services.remove(index);
        self.unlink(service, now);
        self.services_changed();
        Ok(Response::Done)
    }

    fn clear(&mut self, now: Instant) -> Reply {
        for service in std::mem::take(&mut self.services) {
            self.unlink(service, now);
        }
        self.services_changed();
        Ok(Response::Done)
    }

    fn unlink(&mut self, service: ServiceEntry, now: Instant) {
        let key = service.rule.key;
        self.service_by_key.remove(&key);
        {
            // Workers may still see the service for a moment; what its scheduler holds is free from here on.
            let mut scheduling = service.scheduling.lock();
            scheduling.rebind(None, service.rule.flags, &self.shared.destinations);
            scheduling.ids.clear();
        }
        if !service.servers.is_empty() {
            self.server_gone(now);
        }
        for mut server in service.servers {
            let growth = server.tally.take_growth(raw_counts(&self.shared, server.id));
            server.tally.collect(&growth);
            self.total.collect(&growth);
            self.shared.destinations.get(server.id).set_available(service.id, false);
            self.filter.ask_for_service(&key);
            self.trash.put(key, service.id, server);
        }
        self.filter.drop_service(&key);
    }

    fn add_server(&mut self, key: &ServiceKey, rule: ServerRule) -> Reply {
        let index = self.service(key).ok_or(Refusal::NoService)?;
        self.check_synchronised(key, &rule)?;
        check_server(key, &rule)?;
        self.check_full_nat(index, &rule)?;
        if self.server(index, rule.endpoint).is_some() {
            return Err(Refusal::Exists);
        }
        let service = self.services[index].id;
        let masquerades = rule.method == Method::Masquerading;
        let entry = match self.trash.take(key, rule.endpoint) {
            Some(trashed) => {
                // The filter had both, and will have the server again before anybody looks.
                self.filter.drop_service(key);
                self.filter.drop_server(key, &trashed.server);
                let mut tally = trashed.server.tally;
                if trashed.service != service {
                    tally.zero();
                }
                ServerEntry {
                    rule,
                    id: trashed.server.id,
                    masqueraded: trashed.server.masqueraded || masquerades,
                    tally,
                }
            }
            None => {
                self.check_address(rule.endpoint)?;
                let id = self.new_destination().ok_or(Refusal::NoMemory)?;
                self.shared.destinations.make(id).assign(service, rule.endpoint);
                ServerEntry {
                    rule,
                    id,
                    masqueraded: masquerades,
                    tally: Tally::starting_at(raw_counts(&self.shared, id)),
                }
            }
        };
        let destination = self.shared.destinations.get(entry.id);
        destination.set_full_nat(rule.full_nat);
        destination.set_mss_max(self.services[index].rule.mss_max);
        destination.configure(rule.method, rule.tunnel, rule.weight, rule.upper, rule.lower);
        destination.set_available(service, true);
        self.services[index].scheduling.lock().add(&self.shared.destinations, entry.id);
        self.filter.ask_for_server(key, &entry);
        self.want_neighbour(rule.endpoint.address);
        self.services[index].servers.insert(0, entry);
        self.servers_changed();
        Ok(Response::Done)
    }

    fn edit_server(&mut self, key: &ServiceKey, rule: ServerRule) -> Reply {
        let index = self.service(key).ok_or(Refusal::NoService)?;
        self.check_synchronised(key, &rule)?;
        check_server(key, &rule)?;
        self.check_full_nat(index, &rule)?;
        let position = self.server(index, rule.endpoint).ok_or(Refusal::NotFound)?;
        let service = &mut self.services[index];
        let server = &mut service.servers[position];
        let destination = self.shared.destinations.get(server.id);
        {
            let mut scheduling = service.scheduling.lock();
            destination.set_full_nat(rule.full_nat);
            destination.configure(rule.method, rule.tunnel, rule.weight, rule.upper, rule.lower);
            scheduling.edit(&self.shared.destinations, server.id);
        }
        self.filter.drop_server(key, server);
        server.masqueraded |= rule.method == Method::Masquerading;
        server.rule = rule;
        self.filter.ask_for_server(key, server);
        self.servers_changed();
        Ok(Response::Done)
    }

    fn delete_server(&mut self, key: &ServiceKey, endpoint: Endpoint, now: Instant) -> Reply {
        let index = self.service(key).ok_or(Refusal::NoService)?;
        let position = self.server(index, endpoint).ok_or(Refusal::NotFound)?;
        let service = &mut self.services[index];
        let mut server = service.servers.remove(position);
        let growth = server.tally.take_growth(raw_counts(&self.shared, server.id));
        server.tally.collect(&growth);
        service.tally.collect(&growth);
        self.total.collect(&growth);
        self.shared.destinations.get(server.id).set_available(service.id, false);
        service.scheduling.lock().remove(&self.shared.destinations, server.id);
        self.filter.ask_for_service(key);
        self.trash.put(*key, service.id, server);
        self.server_gone(now);
        self.servers_changed();
        Ok(Response::Done)
    }

    fn zero(&mut self, only: Option<&ServiceKey>) -> Reply {
        let zeroed = match only {
            Some(key) => {
                let index = self.service(key).ok_or(Refusal::NoService)?;
                &mut self.services[index..=index]
            }
            None => {
                self.total.zero();
                &mut self.services[..]
            }
        };
        for service in zeroed {
            service.tally.zero();
            for server in &mut service.servers {
                server.tally.zero();
            }
        }
        Ok(Response::Done)
    }

    fn server(&self, service: usize, endpoint: Endpoint) -> Option<usize> {
        self.services[service].servers.iter().position(|server| server.rule.endpoint == endpoint)
    }

    /// The scheduler that a rule names, with fresh state.
    fn make_scheduler(&mut self, rule: &ServiceRule) -> Result<Option<Box<dyn Scheduler>>, Refusal> {
        if rule.scheduler == "none" {
            return Ok(None);
        }
        let (family, sysctls) = (rule.key.family(), Arc::clone(&self.shared.sysctls));
        let context = sched::Context { family, sysctls, seed: self.rng.next_u64() };
        sched::by_name(&rule.scheduler, &context).map(Some).ok_or(Refusal::NotFound)
    }

    fn new_destination(&mut self) -> Option<DestinationId> {
        if let Some(id) = self.free_destinations.pop() {
            return Some(id);
        }
        if self.next_destination as usize >= DESTINATIONS_MAX {
            return None;
        }
        self.next_destination += 1;
        Some(DestinationId(self.next_destination - 1))
    }

    /// Sync messages have no room for a server of another family than its service.
    fn check_synchronised(&self, key: &ServiceKey, rule: &ServerRule) -> Result<(), Refusal> {
        let is_mixed = rule.endpoint.address.family() != key.family();
        if is_mixed && self.synchronises() { Err(Refusal::Invalid) } else { Ok(()) }
    }

    /// Full NAT needs addresses to give to connections, and connections to give them to.
    fn check_full_nat(&self, index: usize, rule: &ServerRule) -> Result<(), Refusal> {
        if !rule.full_nat.is_on() {
            return Ok(());
        }
        let (_, pool) = self.shared.local_addresses.load();
        let service = &self.services[index].rule;
        let is_no_tcp = matches!(service.key, ServiceKey::Address { protocol, .. } if protocol != Protocol::Tcp);
        let why = if rule.method != Method::Masquerading {
            "full NAT is a kind of masquerading (-m)"
        } else if !pool.has_family(service.key.family()) {
            "full NAT needs a local address: lvx local-address add ADDRESS"
        } else if service.one_packet {
            NO_ONE_PACKET
        } else if is_no_tcp && rule.full_nat.word().is_some() {
            "--client-address works for TCP alone"
        } else {
            return Ok(());
        };
        Err(Refusal::NotSupported(why.into()))
    }

    /// A real server's address must be unicast or the director's own (`ip_vs_new_dest`).
    fn check_address(&self, server: Endpoint) -> Result<(), Refusal> {
        let address = server.address;
        let (_, routes) = self.shared.routes.load();
        let route = routes.lookup(address, 0);
        let valid = match address.family() {
            Family::V4 => {
                let is_this_network = address.low_u32() >> 24 == 0;
                !is_this_network && !address.is_multicast() && !address.is_broadcast() && route != Route::Broadcast
            }
            Family::V6 => {
                let unicast = !address.is_multicast() && !address.is_unspecified();
                unicast && !address.is_link_local_v6() || route == Route::Local
            }
        };
        if valid { Ok(()) } else { Err(Refusal::Invalid) }
    }
}

const NO_ONE_PACKET: &str = "one-packet scheduling (-o) and full NAT exclude each other";

/// What the kernel checks of a server before it looks for it.
fn check_server(key: &ServiceKey, rule: &ServerRule) -> Result<(), Refusal> {
    if rule.endpoint.address.family() != key.family() && rule.method != Method::Tunnelling {
        return Err(Refusal::Invalid);
    }
    if rule.weight < 0 || rule.lower > rule.upper {
        return Err(Refusal::Range);
    }
    // ipvsadm asks for a port; other clients of the control socket may not.
    if matches!(rule.tunnel, Tunnel::Gue { port: 0, .. }) {
        return Err(Refusal::Invalid);
    }
    Ok(())
}

/// What the kernel checks of persistence once the scheduler is found.
fn check_persistence(rule: &ServiceRule) -> Result<(), Refusal> {
    if rule.engine.as_deref().is_some_and(|name| Engine::by_name(name).is_none()) {
        return Err(Refusal::NotFound);
    }
    if rule.key.family() == Family::V6 && !(1..=128).contains(&rule.mask) {
        return Err(Refusal::Invalid);
    }
    Ok(())
}
