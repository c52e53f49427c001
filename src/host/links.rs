//! TCP between two directors: what `control::sync::resync` asks for, on the control thread and without ever holding it up.
//!
//! Both ends are bound to the sync interface, send with the highest hop limit and take only what arrives with it (RFC 5082):
//! nobody beyond a router can speak to them.
//!
//! Each link is a task of its own. What control wants sent waits in the link's outbox, and control hears how much of it
//! went.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::OwnedFd;
use std::rc::Rc;

use rustix::net::sockopt;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Notify;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::base::{Address, Duration, Family};
use crate::control::sync::resync::{LinkAction, LinkEnd, LinkId};
use crate::host::state::State;
use crate::host::sync::interface_index;
use crate::host::sys::{bind_to_interface, require_hop_limit};

/// Connections that may wait to be accepted.
const LISTEN_BACKLOG: i32 = 16;
/// Octets that are read of one link before others get their turn.
const READ_OCTETS: usize = 1 << 16;
/// A link that is to be closed sends what waits for at most so long.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// Of packets that have crossed no router.
const HOP_LIMIT: u8 = 255;

/// What a task is to do.
enum Command {
    Listen(TcpListener),
    Unlisten,
    Open { link: LinkId, socket: TcpSocket, peer: SocketAddr },
}

/// What waits for one link.
#[derive(Default)]
struct Outbox {
    queue: RefCell<VecDeque<Vec<u8>>>,
    is_closing: Cell<bool>,
    news: Notify,
}

/// The links of a director.
pub struct Links {
    commands: UnboundedSender<Command>,
    todo: Option<UnboundedReceiver<Command>>,
    outboxes: HashMap<LinkId, Rc<Outbox>>,
    failures: Vec<LinkId>,
}

impl Default for Links {
    fn default() -> Self {
        let (commands, todo) = unbounded_channel();
        Self { commands, todo: Some(todo), outboxes: HashMap::new(), failures: Vec::new() }
    }
}

impl Links {
    /// Carries out what control wants.
    pub fn act(&mut self, action: LinkAction) {
        match action {
            LinkAction::Listen { interface, family, port } => match open_listener(&interface, family, port) {
                Ok(listener) => self.command(Command::Listen(listener)),
                Err(error) => tracing::warn!("sync master: no backup can resync: TCP port {port}: {error}"),
            },
            LinkAction::Unlisten => self.command(Command::Unlisten),
            LinkAction::Open { link, interface, peer, port } => {
                self.add(link);
                match open_socket(&interface, peer, port) {
                    Ok((socket, peer)) => self.command(Command::Open { link, socket, peer }),
                    Err(error) => {
                        tracing::debug!("sync peer {peer}: {error}");
                        self.outboxes.remove(&link);
                        self.failures.push(link);
                    }
                }
            }
            LinkAction::Send { link, octets } => {
                if let Some(outbox) = self.outboxes.get(&link) {
                    outbox.queue.borrow_mut().push_back(octets);
                    outbox.news.notify_one();
                }
            }
            LinkAction::Close { link } => {
                if let Some(outbox) = self.outboxes.get(&link) {
                    outbox.is_closing.set(true);
                    outbox.news.notify_one();
                }
            }
            LinkAction::Warm(_) => {}
        }
    }

    /// A link whose end control has not heard of: its socket could not be made.
    pub fn take_failure(&mut self) -> Option<LinkId> {
        self.failures.pop()
    }

    /// Makes the outbox of a link.
    pub fn add(&mut self, link: LinkId) {
        self.outboxes.insert(link, Rc::default());
    }

    fn command(&self, command: Command) {
        // Nobody carries out anything any more when lvxd ends.
        let _ = self.commands.send(command);
    }

    /// True when there is no link.
    pub fn is_empty(&self) -> bool {
        self.outboxes.is_empty()
    }

    fn outbox(&self, link: LinkId) -> Option<Rc<Outbox>> {
        self.outboxes.get(&link).map(Rc::clone)
    }

    /// Forgets a link.
    pub fn remove(&mut self, link: LinkId) {
        self.outboxes.remove(&link);
    }
}

/// Opens, accepts and serves links; never returns.
pub async fn serve(state: Rc<RefCell<State>>) {
    let Some(mut todo) = state.borrow_mut().links_mut().todo.take() else { return };
    let mut listener = None;
    loop {
        tokio::select! {
            command = todo.recv() => match command {
                None => return,
                Some(Command::Listen(new)) => listener = Some(new),
                Some(Command::Unlisten) => listener = None,
                Some(Command::Open { link, socket, peer }) => {
                    tokio::task::spawn_local(open(Rc::clone(&state), link, socket, peer));
                }
            },
            accepted = accept(listener.as_ref()) => match accepted {
                Ok((stream, peer)) => {
                    let link = state.borrow_mut().accept_link(peer.ip().to_canonical().into());
                    if let Some(link) = link {
                        tokio::task::spawn_local(run(Rc::clone(&state), link, stream));
                    }
                }
                Err(error) => {
                    tracing::debug!("sync master: {error}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            },
        }
    }
}

/// Waits until there is no link.
pub async fn empty(state: &Rc<RefCell<State>>) {
    while !state.borrow().links().is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn accept(listener: Option<&TcpListener>) -> io::Result<(TcpStream, SocketAddr)> {
    match listener {
        Some(listener) => listener.accept().await,
        None => std::future::pending().await,
    }
}

async fn open(state: Rc<RefCell<State>>, link: LinkId, socket: TcpSocket, peer: SocketAddr) {
    let Some(outbox) = state.borrow().links().outbox(link) else { return };
    let connected = tokio::select! {
        connected = socket.connect(peer) => connected,
        // Control has given it up: there is nothing to send before it is open.
        () = outbox.news.notified() => Err(io::ErrorKind::TimedOut.into()),
    };
    match connected {
        Ok(stream) => {
            // Not before: a kernel that refuses does so with its own hop limit.
            let family = if peer.is_ipv4() { Family::V4 } else { Family::V6 };
            if let Err(error) = require_hop_limit(&stream, family, HOP_LIMIT) {
                tracing::debug!("sync peer {peer}: {error}");
            }
            state.borrow_mut().link_opened(link);
            run(state, link, stream).await;
        }
        Err(error) => {
            tracing::debug!("sync peer {peer}: {error}");
            let end = match error.kind() {
                io::ErrorKind::ConnectionRefused => LinkEnd::Refused,
                _ => LinkEnd::NoAnswer,
            };
            state.borrow_mut().link_closed(link, end);
        }
    }
}

/// Reads and writes until either side ends it.
async fn run(state: Rc<RefCell<State>>, link: LinkId, mut stream: TcpStream) {
    let outbox = state.borrow().links().outbox(link);
    if let Some(outbox) = outbox
        && let Err(error) = exchange(&state, link, &mut stream, &outbox).await
    {
        tracing::debug!("sync link: {error}");
    }
    state.borrow_mut().link_closed(link, LinkEnd::Closed);
}

async fn exchange(state: &Rc<RefCell<State>>, link: LinkId, stream: &mut TcpStream, outbox: &Outbox) -> io::Result<()> {
    // Small frames are answers that somebody waits for.
    stream.set_nodelay(true)?;
    let (mut reader, mut writer) = stream.split();
    let mut buffer = vec![0; READ_OCTETS];
    let (mut current, mut at) = (Vec::new(), 0);
    loop {
        if at == current.len() {
            (current, at) = (outbox.queue.borrow_mut().pop_front().unwrap_or_default(), 0);
        }
        if outbox.is_closing.get() {
            let rest = finish(&mut writer, &current[at..], outbox);
            return tokio::time::timeout(CLOSE_TIMEOUT, rest).await.unwrap_or(Err(io::ErrorKind::TimedOut.into()));
        }
        tokio::select! {
            read = reader.read(&mut buffer) => match read? {
                0 => return Ok(()),
                octets => state.borrow_mut().link_received(link, &buffer[..octets]),
            },
            written = writer.write(&current[at..]), if at < current.len() => {
                let octets = written?;
                at += octets;
                state.borrow_mut().link_written(link, octets);
            }
            () = outbox.news.notified() => {}
        }
        tokio::task::yield_now().await;
    }
}

async fn finish(writer: &mut (impl AsyncWriteExt + Unpin), current: &[u8], outbox: &Outbox) -> io::Result<()> {
    writer.write_all(current).await?;
    loop {
        let next = outbox.queue.borrow_mut().pop_front();
        let Some(octets) = next else { break };
        writer.write_all(&octets).await?;
    }
    writer.shutdown().await
}

fn open_listener(interface: &str, family: Family, port: u16) -> io::Result<TcpListener> {
    let any = match family {
        Family::V4 => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        Family::V6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let socket = open_stream(interface, family)?;
    require_hop_limit(&socket, family, HOP_LIMIT)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if family == Family::V6 {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    bind(&socket, &SocketAddr::new(any, port))?;
    listen(&socket, LISTEN_BACKLOG)?;
    TcpListener::from_std(socket.into())
}

fn open_socket(interface: &str, peer: Address, port: u16) -> io::Result<(TcpSocket, SocketAddr)> {
    let socket = open_stream(interface, peer.family())?;
    let peer = match peer.to_ip() {
        // A link-local address means nothing without its link.
        IpAddr::V6(address) => SocketAddrV6::new(address, port, 0, interface_index(interface)?).into(),
        address => SocketAddr::new(address, port),
    };
    Ok((TcpSocket::from_std_stream(socket.into()), peer))
}

fn open_stream(interface: &str, family: Family) -> io::Result<OwnedFd> {
    let domain = match family {
        Family::V4 => AddressFamily::INET,
        Family::V6 => AddressFamily::INET6,
    };
    let socket = socket_with(domain, SocketType::STREAM, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)?;
    bind_to_interface(&socket, interface)?;
    match family {
        Family::V4 => sockopt::set_ip_ttl(&socket, HOP_LIMIT.into())?,
        Family::V6 => sockopt::set_ipv6_unicast_hops(&socket, Some(HOP_LIMIT))?,
    }
    Ok(socket)
}
