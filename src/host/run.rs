//! lvxd from start to end: packets, workers, virtual routers, then the control thread's loop.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};

use crate::base::{Address, Duration, MacAddress, Rng};
use crate::command::names::NoNames;
use crate::command::program;
use crate::config::Invocation;
use crate::conn::TableConfig;
use crate::control::Control;
use crate::control::sync::resync::ResyncOptions;
use crate::forward::Shared;
use crate::host::client;
use crate::host::clock::Clock;
use crate::host::cpus;
use crate::host::links;
use crate::host::meminfo;
use crate::host::netlink::{Netlink, NetlinkError, NetlinkEvent};
use crate::host::options::{ExitStatus, Options, StartError};
use crate::host::packets::{Packets, describe, find_interfaces, open_packets};
use crate::host::proc_files::{Directory, ProcFiles};
use crate::host::socket::ControlSocket;
use crate::host::state::{State, Wish};
use crate::host::sync::any_readable;
use crate::host::virtual_routers;
use crate::host::vrrp::VrrpThread;
use crate::host::vrrp::dump::Kind;
use crate::host::workers::Workers;
use crate::port::xsk::XskPort;
use crate::route::{Database, Routes};
use crate::service::sysctl::{self, Sysctls};

/// Changes of routes are collected for so long before workers get a new snapshot.
const ROUTES_QUIET: Duration = Duration::from_millis(5);
/// How often workers' wishes for neighbours are looked at.
const WISHES_PERIOD: Duration = Duration::from_millis(5);
/// How often neighbours are refreshed that the kernel does not keep by itself.
const REFRESH_PERIOD: Duration = Duration::from_secs(5);

/// How long the end waits for backups to take what they are told last.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// Runs the director until SIGTERM or SIGINT.
///
/// # Errors
/// One sentence and an exit status when it cannot start; nothing is left behind.
pub fn run(options: Options) -> Result<(), StartError> {
    let clock = Clock::start();
    // Wrong words are told before anything is touched.
    set_sysctls(&Sysctls::default(), &options)?;
    let proc = options.proc.as_ref().map(|proc| Directory::open(&proc.directory)).transpose()?;
    let plan = options.configuration.as_ref().map(virtual_routers::read).transpose()?;
    let interfaces = find_interfaces(&options.interfaces)?;
    // A worker needs a queue of every interface to send by.
    let queues = interfaces.iter().map(|interface| interface.queues).min().unwrap_or(1);
    let workers = match (&options.cpus, options.workers) {
        (Some(cpus), _) => cpus.len(),
        (None, Some(workers)) => workers,
        (None, None) => queues as usize,
    };
    let workers = if interfaces.is_empty() { 0 } else { workers };
    if workers > queues as usize {
        let text =
            format!("{workers} workers need as many queues of each interface; the least has {queues} (ethtool -L)");
        return Err(StartError::new(ExitStatus::Interface, text));
    }

    let mut rng = Rng::new(random_seed()?);
    let Packets { xdp, attachments, pass, ports } = match interfaces.as_slice() {
        // The kernel's program and memory are for those that are served.
        [] => Packets { xdp: None, attachments: Vec::new(), pass: None, ports: Vec::new() },
        _ => open_packets(&interfaces, workers, &options, &mut rng)?,
    };

    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| StartError::new(ExitStatus::Other, format!("the control thread: {error}")))?;
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async {
        let socket = ControlSocket::bind(&options.socket, options.socket_group.as_deref())?;
        let mut network = Network::open(&options.interfaces)?;
        network.first_snapshot().await?;
        let table = TableConfig { connections_max: options.connections_max, bucket_bits: options.conn_tab_bits };
        let shared = Arc::new(Shared::new(workers, table, network.database.snapshot(), &mut rng));
        shared.set_start_of_day(clock.start_of_day());
        // Nothing is balanced without interfaces.
        let memory = take_memory(&shared, options.lazy_memory || interfaces.is_empty());
        set_sysctls(&shared.sysctls, &options)?;
        for (name, why) in shared.sysctls.without_effect() {
            tracing::warn!("{name} is set and has no effect: {why}");
        }
        let mut control = Control::new(Arc::clone(&shared), 1 << options.conn_tab_bits, clock.now());
        if !options.ftp_ports.is_empty() {
            control.serve_ftp(&options.ftp_ports);
        }
        control
            .add_local_addresses(&options.local_addresses)
            .map_err(|text| StartError::new(ExitStatus::Rules, format!("local addresses: {text}")))?;
        if let Some(resync) = options.resync {
            control.set_resync(ResyncOptions { seed: rng.next_u64(), ..resync });
        }
        let mut state = State::new(control, clock, xdp);
        for path in &options.marks {
            load_marks(&mut state, path)?;
        }
        if let Some(path) = &options.rules {
            load_rules(&mut state, path)?;
        }
        let cpus = options.cpus.clone().unwrap_or_else(|| cpus::choose(workers, &options.interfaces));
        let mut description = describe(&interfaces, &attachments, &ports, &cpus);
        description.push(memory);
        for line in &description {
            tracing::info!("{line}");
        }
        let takes_large = ports.iter().all(XskPort::takes_large);
        for (interface, attachment) in interfaces.iter().zip(&attachments) {
            if attachment.multi_buffer && !takes_large {
                tracing::warn!("interface {}: frames above 3.5 kB for services are dropped", interface.name);
            } else if attachment.multi_buffer {
                let text = "large frames are taken; those above 3.3 kB that turn out to be the host's are dropped";
                tracing::warn!("interface {}: {text}", interface.name);
            }
        }
        if attachments.iter().any(|attachment| !attachment.native) {
            tracing::warn!("skb mode is slow, and TCP from a veth peer crawls in it");
        }
        state.set_description(description);
        if let Some(pass) = &pass {
            state.watch(ports.iter().map(XskPort::monitor).collect(), pass.counters_shared());
        }
        let running = Workers::start(ports, &cpus, &shared, clock)
            .map_err(|error| StartError::new(ExitStatus::Other, format!("starting the workers: {error}")))?;
        if let Some(plan) = plan {
            state.set_vrrp(virtual_routers::start(plan, clock).await?);
        }
        let state = Rc::new(RefCell::new(state));
        let files = match (proc, &options.proc) {
            (Some(directory), Some(proc)) => Some(
                ProcFiles::start(directory, &options.socket, proc)
                    .map_err(|error| StartError::new(ExitStatus::Other, format!("starting to write files: {error}")))?,
            ),
            _ => None,
        };
        let result = control_loop(&socket, &mut network, &state, &shared, options.configuration.as_ref()).await;
        // Packets are served until somebody else has the addresses.
        let vrrp = state.borrow_mut().take_vrrp();
        if let Some(vrrp) = vrrp {
            virtual_routers::stop(vrrp).await;
        }
        if let Some(files) = files {
            // The files come over the socket, which is served until their writers have ended.
            tokio::select! {
                () = files.end() => {}
                () = socket.serve(Rc::clone(&state)) => {}
            }
        }
        // Connections of clients hold the state: the program is detached with the process, the rest goes here.
        drop(running);
        if let Err(error) = network.netlink.release_neighbours().await {
            tracing::warn!("neighbours are not left as they were found: {error}");
        }
        result
    })
}

/// The control thread: netlink, wishes of workers, timers, clients, signals.
async fn control_loop(
    socket: &ControlSocket,
    network: &mut Network,
    state: &Rc<RefCell<State>>,
    shared: &Arc<Shared>,
    configuration: Option<&Invocation>,
) -> Result<(), StartError> {
    let signals = |kind| signal(kind).map_err(|error| StartError::new(ExitStatus::Other, format!("signals: {error}")));
    let (mut terminate, mut interrupt) = (signals(SignalKind::terminate())?, signals(SignalKind::interrupt())?);
    let mut hangup = signals(SignalKind::hangup())?;
    let mut data = signals(SignalKind::user_defined1())?;
    let mut statistics = signals(SignalKind::user_defined2())?;
    let mut json = signals(SignalKind::from_raw(libc::SIGRTMIN() + 2))?;
    let clock = state.borrow().clock();
    let mut wishes = tokio::time::interval(WISHES_PERIOD);
    wishes.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut refresh = tokio::time::interval(REFRESH_PERIOD);
    let server = socket.serve(Rc::clone(state));
    tokio::pin!(server);
    tokio::task::spawn_local(links::serve(Rc::clone(state)));

    tracing::info!("ready");
    // Without a supervisor there is nobody to tell.
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    loop {
        let timeout = state.borrow().next_timeout();
        let publish_at = network.publish_at();
        let receivers = state.borrow().sync_receivers();
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hangup.recv() => virtual_routers::reload(configuration, state),
            _ = data.recv() => virtual_routers::dump(Kind::Data, state, clock),
            _ = statistics.recv() => virtual_routers::dump(Kind::Statistics, state, clock),
            _ = json.recv() => virtual_routers::dump(Kind::Json, state, clock),
            event = network.netlink.next() => network.take(event)?,
            () = sleep_until(publish_at) => {
                shared.routes.publish(network.snapshot());
                state.borrow_mut().routes_changed();
            }
            () = any_readable(&receivers) => state.borrow_mut().receive_sync(),
            () = tokio::time::sleep(timeout) => state.borrow_mut().handle_timeout(),
            _ = wishes.tick() => {
                let wanted = state.borrow_mut().take_wanted();
                network.resolve(&wanted).await;
            }
            _ = refresh.tick() => {
                if state.borrow().vrrp().is_some_and(VrrpThread::has_ended) {
                    let text = "the VRRP thread has ended, which it should not";
                    return Err(StartError::new(ExitStatus::Other, text));
                }
                if let Err(error) = network.netlink.refresh_neighbours().await {
                    tracing::debug!("{error}");
                }
            }
            () = &mut server => {}
        }
    }
    tracing::info!("stopping");
    state.borrow_mut().stop_sync();
    let _ = tokio::time::timeout(LAST_WORDS, links::empty(state)).await;
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
    Ok(())
}

/// Waits until then; for ever when there is nothing to wait for.
async fn sleep_until(at: Option<tokio::time::Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// The kernel's routes and neighbours, followed.
struct Network {
    netlink: Netlink,
    database: Database,
    served: Vec<String>,
    is_complete: bool,
    /// When the changes since the last snapshot are due: a while after the first of them, whatever comes after it.
    due: Option<tokio::time::Instant>,
    /// Link addresses as last heard: the kernel tells of each probe, and most change nothing.
    heard: HashMap<(u32, Address), Option<MacAddress>>,
}

impl Network {
    fn open(served: &[String]) -> Result<Self, StartError> {
        let netlink = Netlink::open().map_err(|error| StartError::new(ExitStatus::Other, error.to_string()))?;
        let database = Database::new(served);
        Ok(Self { netlink, database, served: served.to_vec(), is_complete: false, due: None, heard: HashMap::new() })
    }

    async fn first_snapshot(&mut self) -> Result<(), StartError> {
        while !self.is_complete {
            let event = self.netlink.next().await;
            self.take(event)?;
        }
        self.due = None;
        Ok(())
    }

    fn take(&mut self, event: Result<NetlinkEvent, NetlinkError>) -> Result<(), StartError> {
        match event {
            Ok(event) => {
                match &event {
                    NetlinkEvent::Reset => {
                        self.is_complete = false;
                        self.heard.clear();
                    }
                    NetlinkEvent::Complete => self.is_complete = true,
                    NetlinkEvent::Neighbour { info, .. } => {
                        let before = self.heard.insert((info.ifindex, info.address), info.mac);
                        if before == Some(info.mac) {
                            return Ok(());
                        }
                    }
                    NetlinkEvent::NeighbourGone { ifindex, address } => {
                        self.heard.remove(&(*ifindex, *address));
                    }
                    _ => {}
                }
                self.due.get_or_insert_with(|| tokio::time::Instant::now() + ROUTES_QUIET);
                if !event.apply(&mut self.database, &self.served) {
                    tracing::warn!("a route was left out: the table of routes is full");
                }
                Ok(())
            }
            Err(NetlinkError::Closed) => Err(StartError::new(ExitStatus::Other, NetlinkError::Closed.to_string())),
            Err(error) => {
                tracing::warn!("{error}");
                Ok(())
            }
        }
    }

    /// When workers should get a new snapshot; never in the middle of a dump.
    fn publish_at(&self) -> Option<tokio::time::Instant> {
        self.due.filter(|_| self.is_complete)
    }

    fn snapshot(&mut self) -> Routes {
        self.due = None;
        self.database.snapshot()
    }

    async fn resolve(&mut self, wishes: &[Wish]) {
        for wish in wishes {
            let (request, keep) = match wish {
                Wish::Once(request) => (request, false),
                Wish::Keep(request) => (request, true),
            };
            let Some(ifindex) = self.database.ifindex_of(request.interface) else { continue };
            let result = if keep {
                self.netlink.keep_neighbour(ifindex, request.address).await
            } else {
                self.netlink.ask_neighbour(ifindex, request.address).await
            };
            if let Err(error) = result {
                tracing::warn!("neighbour {}: {error}", request.address);
            }
        }
    }
}

/// Files first, in their order: `--sysctl` overrides them.
fn set_sysctls(knobs: &Sysctls, options: &Options) -> Result<(), StartError> {
    for path in &options.sysctl_files {
        let refused = |text: String| StartError::new(ExitStatus::Rules, format!("{}: {text}", path.display()));
        let text = std::fs::read_to_string(path).map_err(|error| refused(error.to_string()))?;
        let settings = sysctl::parse_file(&text).map_err(|line| refused(format!("line {line} is not NAME = VALUE")))?;
        for (line, name, value) in settings {
            knobs.write(&name, &value).map_err(|error| refused(format!("line {line}: {name} = {value}: {error}")))?;
        }
    }
    for (name, value) in &options.sysctls {
        let refused = |error| StartError::new(ExitStatus::Usage, format!("--sysctl {name}={value}: {error}"));
        knobs.write(name, value).map_err(refused)?;
    }
    Ok(())
}

/// Loads a rules file before any packet is taken: all of it, or lvxd does not start.
fn load_rules(state: &mut State, path: &Path) -> Result<(), StartError> {
    let refused = |text: String| StartError::new(ExitStatus::Rules, format!("rules {}: {text}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|error| refused(error.to_string()))?;
    let restore = ["ipvsadm".to_owned(), "-R".to_owned()];
    for (number, line) in text.lines().enumerate() {
        if line.trim_start().starts_with('#') {
            continue;
        }
        let output = program::run(&restore, Some(line), &NoNames, state);
        if output.exit != 0 {
            let reason = output.stderr.lines().next().unwrap_or("refused").to_owned();
            return Err(refused(format!("line {}: {reason}", number + 1)));
        }
    }
    Ok(())
}

/// Loads a file with mark rules before any packet is taken: all of it, or lvxd does not start.
fn load_marks(state: &mut State, path: &Path) -> Result<(), StartError> {
    let refused = |text: String| StartError::new(ExitStatus::Rules, text);
    let text = client::read_rules(path).map_err(|text| refused(format!("marks {text}")))?;
    state.load_marks(&text).map_err(|error| refused(format!("marks {}: {error}", path.display())))
}

/// Takes the connection table's memory from the kernel, unless it is to come as it is touched; says in one line how much
/// there is, and on which pages.
fn take_memory(shared: &Shared, lazily: bool) -> String {
    let connections = &shared.connections;
    let mebibytes = |octets: u64| octets >> 20;
    let all = mebibytes(connections.size_octets() as u64);
    if lazily {
        return format!("connection table: {all} MiB at most, taken as it is needed");
    }
    let before = meminfo::huge_page_octets();
    connections.populate();
    if connections.is_hugetlb() {
        return format!("connection table: {all} MiB on huge pages (hugetlb)");
    }
    match meminfo::huge_page_octets().zip(before).map(|(now, before)| mebibytes(now.saturating_sub(before))) {
        Some(huge) => format!("connection table: {all} MiB, of which {huge} MiB were taken on transparent huge pages"),
        None => format!("connection table: {all} MiB"),
    }
}

/// A seed from the kernel.
fn random_seed() -> Result<u64, StartError> {
    let fail = |error: std::io::Error| StartError::new(ExitStatus::Other, format!("/dev/urandom: {error}"));
    let mut octets = [0; 8];
    let mut file = std::fs::File::open("/dev/urandom").map_err(fail)?;
    std::io::Read::read_exact(&mut file, &mut octets).map_err(fail)?;
    Ok(u64::from_ne_bytes(octets))
}
