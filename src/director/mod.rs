//! The whole director as one value in one thread: one control and its workers, stepped by hand.
//!
//! Production differs in one thing: `host` moves each part to a thread of its own.

pub mod capture;
pub mod replay;
pub mod steps;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use crate::base::{Instant, InterfaceId, Rng};
use crate::command::program::Output;
use crate::command::{Reply, Request};
use crate::conn::TableConfig;
use crate::control::{Action, Control};
use crate::forward::{Forwarder, Shared, Verdict};
use crate::port::memory::MemoryPort;
use crate::route::Routes;
use crate::worker::Worker;

/// A director over memory.
pub struct Director {
    shared: Arc<Shared>,
    control: Control,
    worker: Worker<MemoryPort>,
    now: Instant,
}

impl Director {
    /// A director without services.
    pub fn new(table: TableConfig, table_size: u32, port: MemoryPort, routes: Routes, seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let shared = Arc::new(Shared::new(1, table, routes, &mut rng));
        let control = Control::new(Arc::clone(&shared), table_size, Instant::START);
        let forwarder = Forwarder::new(Arc::clone(&shared), 0);
        let worker = Worker::new(port, forwarder, Instant::START);
        Self { shared, control, worker, now: Instant::START }
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
        }
        self.drain();
    }

    /// Executes a request.
    ///
    /// # Errors
    /// The refusal that the kernel would give.
    pub fn execute(&mut self, request: Request) -> Reply {
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
        while let Some(action) = self.control.poll_action() {
            match action {
                Action::SetFilter(_)
                | Action::ChangeFilter(_)
                | Action::ResolveNeighbour(_)
                | Action::KeepNeighbour(_)
                | Action::Log(_) => {}
            }
        }
    }
}
