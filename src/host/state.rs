//! Control with its clock and its ways out: what the tasks of the control thread share.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use crate::base::{Address, Instant};
use crate::command::program::Output;
use crate::command::request::{ConnectionInfo, DaemonRole};
use crate::command::{Reply, Request, Response};
use crate::control::drops::Loss;
use crate::control::sync::resync::{LinkEnd, LinkId, Warm};
use crate::control::{Action, Control, status};
use crate::forward::{NeighbourRequest, Shared};
use crate::host::clock::Clock;
use crate::host::links::Links;
use crate::host::meminfo;
use crate::host::pass::PassCounters;
use crate::host::sync::{self, SyncSockets};
use crate::host::vrrp::VrrpThread;
use crate::host::xdp::Xdp;
use crate::mark::MarkError;
use crate::port::xsk::{XskCounters, XskMonitor};
use crate::service::Filter;
use crate::service::filter::FilterChange;

/// A neighbour that the kernel is to be asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wish {
    /// A worker met a packet for it.
    Once(NeighbourRequest),
    /// The configuration needs it for good.
    Keep(NeighbourRequest),
}

/// Control, its clock, and the XDP program that it steers.
pub struct State {
    control: Control,
    clock: Clock,
    /// None without interfaces.
    xdp: Option<Xdp>,
    /// Neighbours that the kernel is to be asked for.
    wanted: Vec<Wish>,
    ports: Vec<XskMonitor>,
    passed: Option<Arc<PassCounters>>,
    /// Interfaces and workers, one line each.
    description: Vec<String>,
    /// The last filter could not be put in place.
    owes_filter: bool,
    /// Sockets of the sync daemons.
    sync: SyncSockets,
    /// Connections to other directors.
    links: Links,
    /// The daemon whose sockets could not be opened.
    sync_failure: Option<(DaemonRole, io::Error)>,
    /// The virtual routers, where there is a configuration.
    vrrp: Option<VrrpThread>,
}

impl State {
    /// Control over a loaded program, if packets are served.
    pub fn new(control: Control, clock: Clock, xdp: Option<Xdp>) -> Self {
        let mut state = Self {
            control,
            clock,
            xdp,
            wanted: Vec::new(),
            ports: Vec::new(),
            passed: None,
            description: Vec::new(),
            owes_filter: false,
            sync: SyncSockets::default(),
            links: Links::default(),
            sync_failure: None,
            vrrp: None,
        };
        state.drain();
        state
    }

    /// Sets what `lvx status` says of interfaces and workers.
    pub fn set_description(&mut self, lines: Vec<String>) {
        self.description = lines;
    }

    /// Sets the virtual routers.
    pub fn set_vrrp(&mut self, vrrp: VrrpThread) {
        self.vrrp = Some(vrrp);
    }

    /// The clock.
    pub const fn clock(&self) -> Clock {
        self.clock
    }

    /// The virtual routers, where there are some.
    pub const fn vrrp(&self) -> Option<&VrrpThread> {
        self.vrrp.as_ref()
    }

    /// Gives the virtual routers away, to be ended.
    pub const fn take_vrrp(&mut self) -> Option<VrrpThread> {
        self.vrrp.take()
    }

    /// Sets whose counters `lvx status` adds: what the ports and the way back to the kernel lose.
    pub fn watch(&mut self, ports: Vec<XskMonitor>, passed: Arc<PassCounters>) {
        self.ports = ports;
        self.passed = Some(passed);
    }

    /// What was lost below the workers.
    fn losses(&self) -> Vec<Loss> {
        let sum = |read: fn(&XskCounters) -> u64| self.ports.iter().map(|port| read(port.counters())).sum();
        let kernel = self.ports.iter().flat_map(XskMonitor::sockets).map(|(_, kernel)| kernel);
        let (dropped, full) = kernel.fold((0, 0), |(dropped, full), k| (dropped + k.rx_dropped, full + k.rx_ring_full));
        let passed = |read: fn(&PassCounters) -> u64| self.passed.as_deref().map_or(0, read);
        let steered = self.xdp.as_ref().and_then(|xdp| xdp.counters().ok());
        let no_socket = steered.map_or(0, |counters| counters.no_socket);
        let loss = |reason, by, count, meaning| Loss { reason, by, count, meaning };
        vec![
            loss("transmit-ring-full", "port", sum(|c| c.transmit_full.get()), "frames: a transmit ring was full"),
            loss("no-queue", "port", sum(|c| c.no_queue.get()), "frames: the worker has no queue of that interface"),
            loss("no-chunk", "port", sum(|c| c.no_chunk.get()), "answers or fragments: no chunk was free"),
            loss("oversized", "port", sum(|c| c.oversized.get()), "frames longer than a chunk"),
            loss(
                "pass-queue-full",
                "port",
                sum(|c| c.pass_overflow.get()),
                "frames for the kernel: their queue was full",
            ),
            loss(
                "pass-refused",
                "kernel",
                passed(|counters| counters.refused.load(Relaxed)),
                "frames for the kernel: it refused them",
            ),
            loss(
                "pass-too-long",
                "port",
                passed(|counters| counters.length.load(Relaxed)) + sum(|c| c.pass_too_long.get()),
                "frames for the kernel: longer than it takes back",
            ),
            loss("kernel-dropped", "kernel", dropped, "frames dropped by the kernel before a worker saw them"),
            loss("receive-ring-full", "kernel", full, "frames dropped by the kernel because a receive ring was full"),
            loss("no-socket", "kernel", no_socket, "frames of ours left to the kernel: their queue had no socket"),
            loss("sync-not-sent", "sync", self.sync.lost(), "sync datagrams: the kernel did not take them"),
        ]
    }

    /// Executes a request and what follows from it outside.
    ///
    /// # Errors
    /// The refusal that the kernel would give.
    pub fn execute(&mut self, request: Request) -> Reply {
        let reply = self.execute_unsettled(request);
        self.settle();
        reply
    }

    /// Executes a request that need not take effect before [`State::settle`].
    ///
    /// # Errors
    /// The refusal that the kernel would give.
    pub fn execute_unsettled(&mut self, request: Request) -> Reply {
        let is_start = matches!(request, Request::StartDaemon(_));
        if let Request::StartDaemon(rule) = &request {
            self.control.learn_interface(&rule.interface, sync::mtu_of(&rule.interface));
        }
        let ahead = self.control.filter_ahead(&request);
        self.change_filter(&ahead);
        let reply = self.control.execute_unsettled(self.clock.now(), request);
        if !ahead.is_empty() && reply.is_err() {
            let back: Vec<FilterChange> =
                ahead.into_iter().map(|change| FilterChange { present: false, ..change }).collect();
            self.change_filter(&back);
        }
        if is_start { self.open_sync().and(reply) } else { reply }
    }

    /// Opens the sockets of a sync daemon that was just started, if one was.
    fn open_sync(&mut self) -> Reply {
        self.drain();
        let Some((role, error)) = self.sync_failure.take() else { return Ok(Response::Done) };
        // Nobody is left without an answer: what is refused is the start, not this.
        let _ = self.control.execute(self.clock.now(), Request::StopDaemon(role));
        self.drain();
        Err(sync::refusal(&error))
    }

    /// The sockets of a backup daemon, to wait for.
    pub fn sync_receivers(&self) -> Vec<Rc<tokio::net::UdpSocket>> {
        self.sync.receivers()
    }

    /// Takes the sync datagrams that have arrived.
    pub fn receive_sync(&mut self) {
        let (control, now) = (&mut self.control, self.clock.now());
        self.sync.receive(|source, port, datagram| control.receive_sync_from(now, Some((source, port)), datagram));
        self.drain();
    }

    /// The links to other directors.
    pub const fn links(&self) -> &Links {
        &self.links
    }

    /// The links to other directors.
    pub const fn links_mut(&mut self) -> &mut Links {
        &mut self.links
    }

    /// Whether this director has the connections of its sync peers: what a director that returns waits for before it
    /// takes an address over. It changes with each [`LinkAction::Warm`](crate::control::sync::resync::LinkAction::Warm).
    pub fn sync_is_warm(&self) -> Warm {
        self.control.sync_is_warm(self.clock.now())
    }

    /// A backup has connected. None when it is to be closed at once.
    pub fn accept_link(&mut self, peer: Address) -> Option<LinkId> {
        let link = self.control.link_accepted(self.clock.now(), peer)?;
        self.links.add(link);
        self.drain();
        Some(link)
    }

    /// A link to a master is open.
    pub fn link_opened(&mut self, link: LinkId) {
        self.control.link_opened(self.clock.now(), link);
        self.drain();
    }

    /// Octets have come by a link.
    pub fn link_received(&mut self, link: LinkId, octets: &[u8]) {
        self.control.link_received(self.clock.now(), link, octets);
        self.go_on();
    }

    /// Octets have gone by a link.
    pub fn link_written(&mut self, link: LinkId, octets: usize) {
        self.control.link_written(self.clock.now(), link, octets);
        self.go_on();
    }

    /// A link has ended.
    pub fn link_closed(&mut self, link: LinkId, end: LinkEnd) {
        self.links.remove(link);
        self.control.link_closed(self.clock.now(), link, end);
        self.drain();
    }

    /// Does what is due now: it need not wait until the control thread's loop looks at the clock.
    fn go_on(&mut self) {
        let now = self.clock.now();
        if self.control.next_deadline().is_some_and(|deadline| deadline <= now) {
            self.handle_timeout();
        } else {
            self.drain();
        }
    }

    /// Stops the sync daemons; a master sends what it has.
    pub fn stop_sync(&mut self) {
        for role in [DaemonRole::Master, DaemonRole::Backup] {
            // One that does not run is stopped.
            let _ = self.control.execute(self.clock.now(), Request::StopDaemon(role));
        }
        self.drain();
    }

    /// Lets what was executed take effect, and does what follows from it outside.
    pub fn settle(&mut self) {
        self.control.settle();
        self.drain();
    }

    /// Executes a command of `lvx`.
    ///
    /// # Errors
    /// A sentence when it is none.
    pub fn lvx_command(&mut self, words: &[String], stdin: Option<&str>) -> Result<Output, String> {
        if let [first, rest @ ..] = words {
            let output = match first.as_str() {
                "mark" => self.control.mark_command(rest, stdin),
                "local-address" => self.control.local_address_command(rest),
                "sync" => self.control.sync_command(rest, self.clock.now()),
                "trace" => return self.control.trace_command(rest, stdin, self.clock.now()),
                "drops" => {
                    let rest: Vec<&str> = rest.iter().map(String::as_str).collect();
                    return self.control.drops_command(&rest, self.losses());
                }
                _ => return self.status_command(words),
            };
            self.drain();
            return output;
        }
        self.status_command(words)
    }

    fn status_command(&mut self, words: &[String]) -> Result<Output, String> {
        let mut output = status::lvx_command(words, &mut self.control, self.clock.now())?;
        if words != ["status"] {
            return Ok(output);
        }
        for line in &self.description {
            output.stdout.push_str(&format!("{line}\n"));
        }
        // What had no socket stands in the line of the XDP program.
        for Loss { count, meaning, .. } in
            self.losses().iter().filter(|loss| loss.count > 0 && loss.reason != "no-socket")
        {
            output.stdout.push_str(&format!("lost         {count} {meaning}\n"));
        }
        if let Some(vrrp) = &self.vrrp {
            let [masters, backups, faults, others] = vrrp.summary();
            output.stdout.push_str(&format!(
                "vrrp         {masters} instances are MASTER, {backups} BACKUP, {faults} FAULT, {others} not begun\n"
            ));
        }
        if let Some(counters) = self.xdp.as_ref().and_then(|xdp| xdp.counters().ok()) {
            output.stdout.push_str(&format!(
                "xdp          {} frames redirected, {} passed, {} without a socket, {} given back\n",
                counters.redirected, counters.passed, counters.no_socket, counters.reinjected
            ));
        }
        Ok(output)
    }

    /// Puts mark rules in place.
    ///
    /// # Errors
    /// What is wrong with the text; nothing has changed then.
    pub fn load_marks(&mut self, text: &str) -> Result<(), MarkError> {
        self.control.load_marks(text, None)?;
        self.drain();
        Ok(())
    }

    /// Appends the connections of one bucket.
    pub fn connections_of(&self, bucket: usize, rows: &mut Vec<ConnectionInfo>) {
        self.control.connections_of(bucket, self.clock.now(), rows);
    }

    /// When [`State::handle_timeout`] is due, as a duration from now.
    pub fn next_timeout(&self) -> std::time::Duration {
        let now = self.clock.now();
        self.control.next_deadline().unwrap_or(Instant::from_nanoseconds(u64::MAX)) - now
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self) {
        let now = self.clock.now();
        if self.control.is_defence_due(now)
            && let Some(pages) = meminfo::pages_available()
        {
            self.control.set_pages_available(pages);
        }
        self.control.handle_timeout(now);
        if self.owes_filter {
            let filter = self.control.filter().clone();
            self.put_filter(&filter);
        }
        self.drain();
    }

    /// Routes were published: local addresses may have changed.
    pub fn routes_changed(&mut self) {
        self.control.routes_changed();
        self.control.shared().changed();
        self.drain();
    }

    /// Takes the neighbours that workers asked for, and lets the records that they made go their way.
    pub fn take_wanted(&mut self) -> Vec<Wish> {
        self.control.collect_sync(self.clock.now());
        self.sync.send_backlog();
        self.drain();
        std::mem::take(&mut self.wanted)
    }

    /// What control and workers share.
    pub fn shared(&self) -> Arc<Shared> {
        Arc::clone(self.control.shared())
    }

    /// The change number of the last change.
    pub fn change(&self) -> u64 {
        self.control.change()
    }

    /// Puts a filter in place; what the kernel refuses now is tried again with every timeout.
    fn put_filter(&mut self, filter: &Filter) {
        self.owes_filter = false;
        let Some(xdp) = &mut self.xdp else { return };
        if let Err(error) = xdp.set_filter(filter) {
            tracing::error!("packets are not all steered as configured: {error}");
            self.owes_filter = true;
        }
    }

    /// Changes some matches of the filter in place; what the kernel refuses now is tried again with every timeout.
    fn change_filter(&mut self, changes: &[FilterChange]) {
        let Some(xdp) = &mut self.xdp else { return };
        if let Err(error) = xdp.change_filter(changes) {
            tracing::error!("packets are not all steered as configured: {error}");
            self.owes_filter = true;
        }
    }

    fn drain(&mut self) {
        self.carry_out();
        while let Some(link) = self.links.take_failure() {
            self.control.link_closed(self.clock.now(), link, LinkEnd::NoAnswer);
            self.carry_out();
        }
    }

    fn carry_out(&mut self) {
        while let Some(action) = self.control.poll_action() {
            match action {
                Action::SetFilter(filter) => self.put_filter(&filter),
                Action::ChangeFilter(changes) => self.change_filter(&changes),
                Action::ResolveNeighbour(request) => self.wanted.push(Wish::Once(request)),
                Action::KeepNeighbour(request) => self.wanted.push(Wish::Keep(request)),
                Action::StartSync(daemon) => {
                    if let Err(error) = self.sync.start(&daemon) {
                        self.sync_failure = Some((daemon.rule.role, error));
                    }
                }
                Action::StopSync(role) => self.sync.stop(role),
                Action::SendSync { port, datagram } => self.sync.send(port, datagram),
                Action::Link(action) => self.links.act(action),
                Action::Log(text) => tracing::info!("{text}"),
            }
        }
    }
}
