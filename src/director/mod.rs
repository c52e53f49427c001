//! The whole director as one value in one thread: one control and its workers, stepped by hand.
//!
//! Production differs in one thing: `host` moves each part to a thread of its own.

pub mod capture;
pub mod foretold;
pub mod replay;
pub mod steps;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use crate::base::{Address, Instant, InterfaceId, Rng};
use crate::command::program::Output;
use crate::command::request::{DaemonRole, DaemonRule};
use crate::command::{Reply, Request};
use crate::conn::TableConfig;
use crate::control::sync::resync::LinkAction;
use crate::control::{Action, Control};
use crate::forward::{Forwarder, Shared, Verdict};
use crate::port::memory::MemoryPort;
use crate::route::Routes;
use crate::worker::Worker;

/// The kernel's.
const LOOPBACK_MTU: u32 = 65_536;

/// A director over memory.
pub struct Director {
    shared: Arc<Shared>,
    control: Control,
    worker: Worker<MemoryPort>,
    now: Instant,
    /// The master that runs.
    master: Option<DaemonRule>,
    sync_sent: Vec<SyncSent>,
    link_actions: Vec<LinkAction>,
}

/// A datagram that a sync master sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SyncSent {
    /// The group.
    pub group: Address,
    /// UDP port.
    pub port: u16,
    /// TTL or hop limit.
    pub ttl: u8,
    /// UDP payload.
    pub datagram: Vec<u8>,
}

impl Director {
    /// A director without services.
    pub fn new(table: TableConfig, table_size: u32, port: MemoryPort, routes: Routes, seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let shared = Arc::new(Shared::new(1, table, routes, &mut rng));
        let control = Control::new(Arc::clone(&shared), table_size, Instant::START);
        let forwarder = Forwarder::new(Arc::clone(&shared), 0);
        let worker = Worker::new(port, forwarder, Instant::START);
        Self {
            shared,
            control,
            worker,
            now: Instant::START,
            master: None,
            sync_sent: Vec::new(),
            link_actions: Vec::new(),
        }
    }

    /// Current time.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// The configuration, to change it.
    pub fn control_mut(&mut self) -> &mut Control {
        &mut self.control
    }

    /// Lets time pass up to `until`: timers run in order, entries end on their tick.
    pub fn advance(&mut self, until: Instant) {
        while let Some(deadline) = self.control.next_deadline().filter(|deadline| *deadline <= until) {
            self.shared.connections.sweep_all(deadline);
            self.control.handle_timeout(deadline);
        }
        if until > self.now {
            self.shared.connections.sweep_all(until);
            self.now = until;
            // Fragments that waited too long end.
            self.worker.step(until);
        }
        self.drain();
    }

    /// Executes a request.
    ///
    /// # Errors
    /// The refusal that the kernel would give.
    pub fn execute(&mut self, request: Request) -> Reply {
        if let Request::StartDaemon(rule) = &request {
            let mtu = self.mtu_of(&rule.interface);
            self.control.learn_interface(&rule.interface, mtu);
        }
        let reply = self.control.execute(self.now, request);
        // In the kernel this is over before the command's next one could come.
        self.control.finish_flush();
        self.drain();
        reply
    }

    /// Executes `lvx mark` (see [`Control::mark_command`]).
    ///
    /// # Errors
    /// A sentence when the words are no such command.
    pub fn mark_command(&mut self, words: &[String], stdin: Option<&str>) -> Result<Output, String> {
        let output = self.control.mark_command(words, stdin);
        self.drain();
        output
    }

    /// Gives the worker a frame and takes it to its verdict; `None` when the frame is larger than a chunk.
    pub fn receive(&mut self, interface: InterfaceId, frame: &[u8]) -> Option<Verdict> {
        if !self.worker.port_mut().inject(interface, frame) {
            return None;
        }
        self.worker.step(self.now);
        let verdict = self.worker.verdicts().first().copied();
        self.drain();
        verdict
    }

    /// The frames that left since the last call, in order.
    pub fn take_transmitted(&mut self) -> Vec<(InterfaceId, Vec<u8>)> {
        self.worker.port_mut().take_passed().for_each(drop);
        self.worker.port_mut().take_transmitted().collect()
    }

    /// The frames that went to the host's stack since the last call of this or [`Director::take_transmitted`], in
    /// order, with the interface that each came in by.
    pub fn take_passed(&mut self) -> Vec<(InterfaceId, Vec<u8>)> {
        self.worker.port_mut().take_passed().collect()
    }

    /// Chunks of the port's memory that packets have which are still here: fragments that wait for the rest.
    pub fn chunks_held(&self) -> usize {
        self.worker.port().chunks() - self.worker.port().free_chunks()
    }

    /// Gives a backup daemon a datagram.
    pub fn receive_sync(&mut self, datagram: &[u8]) {
        self.control.receive_sync(self.now, datagram);
    }

    /// The datagrams that a master sent since the last call, in order.
    pub fn take_sync_sent(&mut self) -> Vec<SyncSent> {
        std::mem::take(&mut self.sync_sent)
    }

    /// Gives a backup daemon a datagram of a master's, by the port of this number from the first on.
    pub fn receive_sync_from(&mut self, source: Address, port: u16, datagram: &[u8]) {
        self.control.receive_sync_from(self.now, Some((source, port)), datagram);
        self.drain();
    }

    /// What is to be done about links to other directors since the last call, in order (see
    /// [`Control::set_resync`]). To be drained: nothing else bounds it.
    pub fn take_link_actions(&mut self) -> Vec<LinkAction> {
        std::mem::take(&mut self.link_actions)
    }

    /// Lets something happen to a link.
    pub fn link<R>(&mut self, happen: impl FnOnce(&mut Control, Instant) -> R) -> R {
        let result = happen(&mut self.control, self.now);
        self.drain();
        result
    }

    /// The MTU of an interface of the network; the loopback interface is always there.
    fn mtu_of(&self, name: &str) -> Option<u32> {
        let (_, routes) = self.shared.routes.load();
        let mut links = routes.interfaces().filter_map(|id| routes.link(id));
        let link = links.find(|link| link.name == name);
        link.map(|link| link.mtu).or((name == "lo").then_some(LOOPBACK_MTU))
    }

    /// Puts other routes in place.
    pub fn set_routes(&mut self, routes: Routes) {
        self.shared.routes.publish(routes);
        self.control.routes_changed();
        self.shared.changed();
        self.drain();
    }

    /// The configuration.
    pub fn control(&self) -> &Control {
        &self.control
    }

    /// What control and worker share.
    pub fn shared(&self) -> &Shared {
        &self.shared
    }

    /// There is no XDP program and no kernel to ask: a replay's neighbours are given.
    fn drain(&mut self) {
        self.control.collect_sync(self.now);
        while let Some(action) = self.control.poll_action() {
            match action {
                Action::SetFilter(_)
                | Action::ChangeFilter(_)
                | Action::ResolveNeighbour(_)
                | Action::KeepNeighbour(_)
                | Action::Log(_) => {}
                Action::Link(action) => self.link_actions.push(action),
                Action::StartSync(daemon) if daemon.rule.role == DaemonRole::Master => self.master = Some(daemon.rule),
                Action::StopSync(DaemonRole::Master) => self.master = None,
                Action::StartSync(_) | Action::StopSync(DaemonRole::Backup) => {}
                Action::SendSync { port, datagram } => {
                    if let Some(DaemonRule { group: Some(group), port: first, ttl, .. }) = self.master {
                        self.sync_sent.push(SyncSent { group, port: first.wrapping_add(port), ttl, datagram });
                    }
                }
            }
        }
    }
}
