//! VRRP on Linux: the thread that drives [`crate::vrrp::Routers`], and the helper that does what this thread must not wait
//! for.
//!
//! ```text
//!            raw sockets, netlink                    scripts, FIFOs, log, /proc
//!                    |                                          |
//!   control --> VRRP thread (SCHED_FIFO) --bounded channel--> helper thread
//!      ^  commands   ^                                          |
//!      |             +------------- readings -------------------+
//!      +--- status, in slices
//! ```
//!
//! The VRRP thread waits in one place, for packets, news of the kernel, commands or the next deadline. In each round it
//! first takes what the kernel and others tell, then the packets that wait, and looks at the time after that. What the
//! machine asks for is carried out in its order; an order that fails concerns its instance alone and is logged.
//!
//! Files: `driver` the thread, `receive` and `send` its sockets, `rtnl` and `links` netlink and what it tells, `addresses`,
//! `route_words` and `virtual_link` what is set by it, `firewall` addresses that accept nothing, `announcements` gratuitous
//! ARP on its way, `status` and `dump` what is told of instances, `helper` the other thread.
//!
//! # Limits
//! [`NEWS_MAX`], [`COMMANDS_MAX`], [`announcements::WAITING_MAX`], [`helper`]'s. What finds no room is counted, and told by
//! `lvx vrrp`.

pub mod addresses;
pub mod announcements;
mod driver;
pub mod dump;
mod firewall;
pub mod helper;
pub mod links;
mod receive;
mod route_words;
mod rtnl;
mod send;
pub mod status;
mod virtual_link;

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use rustix::event::{EventfdFlags, eventfd};
use tokio::sync::oneshot;

use crate::config::{Configuration, InterfaceFacts};
use crate::host::clock::Clock;
use crate::vrrp::{Attached, Config, Instance, Reading, Tracker};

use driver::Driver;
use helper::{AlertSink, News};
use route_words::{Prepared, parse_tables};
use status::Slice;

/// The interfaces of this network namespace with their addresses, asked of the kernel.
///
/// # Errors
/// The kernel's.
pub fn interfaces() -> io::Result<Vec<(String, InterfaceFacts)>> {
    use netlink_packet_route::RouteNetlinkMessage::{GetAddress, GetLink};
    let mut requests = rtnl::Requests::open()?;
    let mut messages = requests.dump(&GetLink(Default::default()))?;
    messages.extend(requests.dump(&GetAddress(Default::default()))?);
    let links = links::Links::from_dump(messages);
    let facts = links.iter().map(|(index, link)| {
        let addresses = link.addresses.iter().map(|&(address, _)| address).collect();
        (link.name.to_string(), InterfaceFacts { index, addresses })
    });
    Ok(facts.collect())
}

/// Lines, notifications and FIFO lines that wait for the helper.
pub const NEWS_MAX: usize = 16384;
/// Commands and readings that wait for the VRRP thread; who sends one more waits.
pub const COMMANDS_MAX: usize = 1024;
/// The real-time priority where the configuration says none: before everything that is not real-time, behind all else
/// that is.
pub const REALTIME_PRIORITY_DEFAULT: u8 = 1;
/// Where routing tables have names.
const TABLE_NAMES: [&str; 2] = ["/etc/iproute2/rt_tables", "/usr/share/iproute2/rt_tables"];

/// A configuration that the VRRP thread can take without reading anything.
#[derive(Clone, Debug)]
pub struct Plan {
    configuration: Arc<Configuration>,
    routes: BTreeMap<Attached, Prepared>,
}

impl Plan {
    /// Prepares a configuration, and says what of it cannot be done.
    ///
    /// # Errors
    /// All flaws, in sentences.
    pub fn new(configuration: Configuration) -> Result<(Self, Vec<String>), Vec<String>> {
        let settled = configuration.vrrp.clone().settle();
        settled.map_err(|flaws| flaws.iter().map(ToString::to_string).collect::<Vec<_>>())?;
        let texts = TABLE_NAMES.iter().filter_map(|path| std::fs::read_to_string(path).ok());
        let names: Vec<(String, u32)> = texts.flat_map(|text| parse_tables(&text)).collect();
        let table = |name: &str| names.iter().find(|(known, _)| known == name).map(|&(_, number)| number);
        let (mut routes, mut messages) = (BTreeMap::new(), Vec::new());
        let of_instances = configuration.vrrp.instances.iter().flat_map(|instance| &instance.routes);
        for attached in of_instances.chain(configuration.statics.routes.iter().map(|it| &it.item)) {
            match Prepared::new(attached, &table) {
                Ok(prepared) => {
                    routes.insert(attached.clone(), prepared);
                }
                Err(message) => messages.push(message),
            }
        }
        Ok((Self { configuration: Arc::new(configuration), routes }, messages))
    }

    fn vrrp(&self) -> &Config {
        &self.configuration.vrrp
    }
}

/// Instances by state, as [`VrrpThread::summary`] has them.
type Summary = [AtomicU32; 4];

/// What the VRRP thread is told.
enum Command {
    /// A new configuration; whether it was taken.
    Reload(Box<Plan>, oneshot::Sender<Result<(), Vec<String>>>),
    /// A tracker says something.
    Reading(Tracker, Reading),
    /// Tell of instances from this position on.
    Status(usize, oneshot::Sender<Slice>),
    /// Hand over instances from this position on, and where the next ones begin.
    Copy(usize, oneshot::Sender<(Vec<Instance>, Option<usize>)>),
    /// Resign, let go, end.
    Stop,
}

/// A way to tell the VRRP thread something.
#[derive(Clone)]
pub(crate) struct Commands {
    sender: SyncSender<Command>,
    waker: Arc<OwnedFd>,
}

impl Commands {
    fn new() -> io::Result<(Self, Receiver<Command>)> {
        let (sender, receiver) = sync_channel(COMMANDS_MAX);
        let waker = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        Ok((Self { sender, waker }, receiver))
    }

    /// False when the thread has ended.
    fn send(&self, command: Command) -> bool {
        let is_sent = self.sender.send(command).is_ok();
        // It fails when the count is at its end, and then the thread is awake anyway.
        let _ = rustix::io::write(&self.waker, &1u64.to_ne_bytes());
        is_sent
    }

    /// Takes the wake-ups back.
    fn hush(&self) {
        let mut count = [0; 8];
        let _ = rustix::io::read(&self.waker, &mut count);
    }

    fn waker(&self) -> std::os::fd::BorrowedFd<'_> {
        self.waker.as_fd()
    }
}

/// The running threads.
pub struct VrrpThread {
    commands: Commands,
    summary: Arc<Summary>,
    thread: Option<JoinHandle<()>>,
    helper: Option<JoinHandle<()>>,
}

impl VrrpThread {
    /// Starts both threads in the caller's network namespace. `alerts` takes mails that are wished for.
    ///
    /// # Errors
    /// When sockets or threads cannot be had.
    pub fn start(plan: Plan, clock: Clock, alerts: AlertSink) -> io::Result<Self> {
        let (commands, receiver) = Commands::new()?;
        let (news, waiting) = tokio::sync::mpsc::channel::<News>(NEWS_MAX);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let for_helper = commands.clone();
        let helper = std::thread::Builder::new().name("lvx-vrrp-helper".to_owned()).spawn(move || {
            tokio::task::LocalSet::new().block_on(&runtime, helper::run(waiting, for_helper, alerts));
        })?;
        let summary = Arc::<Summary>::default();
        let mut driver = Driver::new(plan, clock, news, receiver, commands.clone(), Arc::clone(&summary))?;
        let thread = std::thread::Builder::new().name("lvx-vrrp".to_owned()).spawn(move || driver.run())?;
        Ok(Self { commands, summary, thread: Some(thread), helper: Some(helper) })
    }

    /// Takes a new configuration, wholly or not at all; the receiver tells.
    pub fn reload(&self, plan: Plan) -> oneshot::Receiver<Result<(), Vec<String>>> {
        let (answer, receiver) = oneshot::channel();
        self.commands.send(Command::Reload(Box::new(plan), answer));
        receiver
    }

    /// Some instances, from a position in the configuration on.
    pub fn status(&self, from: usize) -> oneshot::Receiver<Slice> {
        let (answer, receiver) = oneshot::channel();
        self.commands.send(Command::Status(from, answer));
        receiver
    }

    /// Copies of some instances, from a position in the configuration on, and where the next ones begin.
    pub fn copies(&self, from: usize) -> oneshot::Receiver<(Vec<Instance>, Option<usize>)> {
        let (answer, receiver) = oneshot::channel();
        self.commands.send(Command::Copy(from, answer));
        receiver
    }

    /// How many instances are MASTER, BACKUP, FAULT and nothing of these.
    pub fn summary(&self) -> [u32; 4] {
        self.summary.each_ref().map(|count| count.load(Ordering::Relaxed))
    }

    /// True when the thread has ended, which it does not by itself.
    pub fn has_ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }
}

impl Drop for VrrpThread {
    /// Resigns, takes everything away, waits for scripts for a while.
    fn drop(&mut self) {
        self.commands.send(Command::Stop);
        for thread in [self.thread.take(), self.helper.take()].into_iter().flatten() {
            // A thread that panicked has said so.
            let _ = thread.join();
        }
    }
}
