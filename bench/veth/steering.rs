//! The control of a director under test, and what it does meanwhile: nothing, list its connections again and again, or
//! restore and remove ten thousand services.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use lvx::base::{Address, Endpoint};
use lvx::command::names::NoNames;
use lvx::command::request::{ServerRule, ServiceRule};
use lvx::command::{ListOptions, Request, render};
use lvx::control::{Action, Control};
use lvx::host::clock::Clock;
use lvx::host::xdp::Xdp;
use lvx::service::filter::FilterChange;
use lvx::service::{FullNat, Method, Protocol, SchedulerFlags, ServiceKey, Tunnel};

use crate::net;

/// Services that a restore makes, and real servers of each.
const SERVICES: u32 = 10_000;
const SERVERS: u32 = 4;

/// Changes that take effect together, buckets that a listing walks at once, octets that it collects: as lvxd's socket.
const BATCH_REQUESTS: usize = 256;
const LISTING_BUCKETS: usize = 1024;
const CHUNK_OCTETS: usize = 1 << 16;

/// How long control waits between two looks whether the worker has taken a change, as lvxd's.
const ADOPTION_POLL: Duration = Duration::from_micros(100);

/// What control does while frames are forwarded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Meanwhile {
    Nothing,
    /// `-L -c -n` of the whole table.
    Listing,
    /// `-R` of ten thousand services, and each of them removed again.
    Restore,
}

impl Meanwhile {
    /// The word in the table.
    pub fn name(self) -> &'static str {
        match self {
            Meanwhile::Nothing => "nothing",
            Meanwhile::Listing => "listing",
            Meanwhile::Restore => "restore",
        }
    }
}

/// Control and the XDP program that it steers.
pub struct Steering {
    pub control: Control,
    pub xdp: Xdp,
    pub clock: Clock,
}

impl Steering {
    /// Does so until told to stop; how often it was done.
    pub fn keep_busy(&mut self, with: Meanwhile, stop: &AtomicBool) -> Result<f64, String> {
        let mut rounds = 0.0;
        while !stop.load(Relaxed) {
            rounds += match with {
                Meanwhile::Nothing => {
                    std::thread::sleep(Duration::from_millis(10));
                    1.0
                }
                Meanwhile::Listing => self.list(stop),
                Meanwhile::Restore => self.restore(stop)?,
            };
        }
        Ok(rounds)
    }

    /// Lists the connections as lvxd's socket does, to nobody; which part, when it was stopped before the end.
    fn list(&self, stop: &AtomicBool) -> f64 {
        let options = ListOptions { numeric: true, ..ListOptions::default() };
        let (mut rows, mut text) = (Vec::new(), String::new());
        let buckets = self.control.shared().connections.bucket_count();
        for first in (0..buckets).step_by(LISTING_BUCKETS) {
            if stop.load(Relaxed) {
                return first as f64 / buckets as f64;
            }
            for bucket in first..(first + LISTING_BUCKETS).min(buckets) {
                self.control.connections_of(bucket, self.clock.now(), &mut rows);
            }
            for row in rows.drain(..) {
                render::write_connection(&mut text, &row, &options, &NoNames);
            }
            if text.len() >= CHUNK_OCTETS {
                std::hint::black_box(&text);
                text.clear();
            }
        }
        1.0
    }

    /// Makes and removes the services; which part, when it was stopped before the end.
    fn restore(&mut self, stop: &AtomicBool) -> Result<f64, String> {
        let made = (0..SERVICES).flat_map(|number| {
            let servers = (0..SERVERS).map(move |server| other_server(number * SERVERS + server));
            rules(other_service(number), Method::Masquerading, servers)
        });
        let removed = (0..SERVICES).map(|number| Request::DeleteService(other_service(number)));
        let requests: Vec<Request> = made.chain(removed).collect();
        for (done, batch) in requests.chunks(BATCH_REQUESTS).enumerate() {
            if stop.load(Relaxed) {
                return Ok((done * BATCH_REQUESTS) as f64 / requests.len() as f64);
            }
            self.execute(batch)?;
            let (shared, change) = (self.control.shared(), self.control.change());
            while !shared.all_adopted(change) {
                std::thread::sleep(ADOPTION_POLL);
            }
        }
        Ok(1.0)
    }

    /// Executes requests that take effect together, and what follows from them outside.
    pub fn execute(&mut self, requests: &[Request]) -> Result<(), String> {
        for request in requests {
            let ahead = self.control.filter_ahead(request);
            self.change_filter(&ahead)?;
            let reply = self.control.execute_unsettled(self.clock.now(), request.clone());
            reply.map_err(|refusal| format!("{request:?}: {refusal}"))?;
        }
        self.control.settle();
        while let Some(action) = self.control.poll_action() {
            match action {
                Action::SetFilter(filter) => self.xdp.set_filter(&filter).map_err(|error| error.to_string())?,
                Action::ChangeFilter(changes) => self.change_filter(&changes)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn change_filter(&mut self, changes: &[FilterChange]) -> Result<(), String> {
        self.xdp.change_filter(changes).map_err(|error| error.to_string())
    }
}

/// A service with servers of equal weight.
pub fn rules(
    key: ServiceKey,
    method: Method,
    servers: impl Iterator<Item = Endpoint>,
) -> impl Iterator<Item = Request> {
    let service = Request::AddService(ServiceRule {
        key,
        scheduler: "wlc".to_string(),
        flags: SchedulerFlags::default(),
        persistent_s: None,
        mask: u32::MAX,
        engine: None,
        one_packet: false,
        mss_max: 0,
    });
    let server = move |endpoint| {
        let (tunnel, full_nat) = (Tunnel::Ipip, FullNat::Off);
        let server = ServerRule { endpoint, method, weight: 1, upper: 0, lower: 0, tunnel, full_nat };
        Request::AddServer { service: key, server }
    };
    std::iter::once(service).chain(servers.map(server))
}

/// A UDP service.
pub fn udp(endpoint: Endpoint) -> ServiceKey {
    ServiceKey::Address { protocol: Protocol::Udp, endpoint }
}

/// A TCP service.
pub fn tcp(endpoint: Endpoint) -> ServiceKey {
    ServiceKey::Address { protocol: Protocol::Tcp, endpoint }
}

/// One of the services that a restore makes; nobody asks for it.
fn other_service(number: u32) -> ServiceKey {
    udp(Endpoint::new(Address::v4(net::OTHER_SERVICES_FIRST + number), 80))
}

/// One of their real servers.
fn other_server(number: u32) -> Endpoint {
    Endpoint::new(Address::v4(net::OTHER_SERVERS_FIRST + number), 8080)
}
