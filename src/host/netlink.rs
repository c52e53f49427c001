//! Links, addresses, routes and neighbours: asked of the kernel, then followed (rtnetlink(7)).
//!
//! [`Netlink::next`] gives one event after another. Whenever news may have been missed (at the start, after an
//! overrun of the socket, after a link has come up and revived routes without a word) the kernel is asked for all of
//! it again, between [`NetlinkEvent::Reset`] and [`NetlinkEvent::Complete`]; in between, nobody should look.
//!
//! It also asks the kernel to resolve neighbours and to keep them resolved, because the kernel does not see the
//! packets that we send to them.
//!
//! Runs within a tokio runtime of one thread, never on a worker.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::pin::Pin;

use futures::channel::mpsc::UnboundedReceiver;
use futures::{Stream, StreamExt};
use netlink_packet_core::{
    ErrorMessage, NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkMessage,
    NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::AddressMessage;
use netlink_packet_route::link::LinkMessage;
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourExtFlags, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::RouteMessage;

use rtnetlink::sys::{AsyncSocket, SocketAddr};
use rtnetlink::{Handle, MulticastGroup};

use crate::base::{Address, Family};
use crate::route::{AddressInfo, Database, LinkInfo, NeighbourInfo, RouteInfo};

mod translate;
pub(in crate::host) use translate::own_address;

/// Neighbours that are kept resolved.
pub const KEPT_NEIGHBOURS_MAX: usize = 65536;

/// Receive buffer asked for, octets; the kernel grants what net.core.rmem_max allows.
const RECEIVE_OCTETS: usize = 4 << 20;

/// How often a dump that changes disturbed is begun again before it is taken as it is.
const INTERRUPTIONS_MAX: u32 = 8;

/// A change of the host's networking, or what a dump found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum NetlinkEvent {
    /// Everything known is void; what follows, up to [`NetlinkEvent::Complete`], is the whole truth.
    Reset,
    /// The truth is complete; from here on come changes.
    Complete,
    /// An interface, new or changed.
    Link(LinkInfo),
    /// An interface is gone, with all that belongs to it.
    LinkGone {
        /// Kernel index.
        ifindex: u32,
    },
    /// An address, new or changed.
    Address(AddressInfo),
    /// An address is gone, or not usable (another host has it).
    AddressGone {
        /// Kernel index of its interface.
        ifindex: u32,
        /// The address.
        address: Address,
    },
    /// A route.
    Route {
        /// The route.
        route: RouteInfo,
        /// True when it takes the place of those with the same table, prefix and metric; false beside them.
        replaces: bool,
    },
    /// A route is gone.
    RouteGone(RouteInfo),
    /// A neighbour, new or changed.
    Neighbour {
        /// What is known of it.
        info: NeighbourInfo,
        /// True when someone has set it by hand, or it needs no resolving.
        fixed: bool,
        /// True when the kernel keeps it resolved by itself.
        managed: bool,
    },
    /// A neighbour is gone.
    NeighbourGone {
        /// Kernel index of its interface.
        ifindex: u32,
        /// Its address.
        address: Address,
    },
}

impl NetlinkEvent {
    /// Tells the event to a database. `served` are the names that a database begins with ([`Database::new`]).
    /// False when the database has no room.
    pub fn apply(self, database: &mut Database, served: &[String]) -> bool {
        match self {
            NetlinkEvent::Reset => *database = Database::new(served),
            NetlinkEvent::Complete => {}
            NetlinkEvent::Link(link) => database.set_link(link),
            NetlinkEvent::LinkGone { ifindex } => database.remove_link(ifindex),
            NetlinkEvent::Address(info) => database.set_address(info),
            NetlinkEvent::AddressGone { ifindex, address } => database.remove_address(ifindex, address),
            NetlinkEvent::Route { route, replaces: true } => return database.set_route(route),
            NetlinkEvent::Route { route, replaces: false } => return database.append_route(route),
            NetlinkEvent::RouteGone(route) => {
                // Unknown when it was one that cannot matter.
                database.remove_route(&route);
            }
            NetlinkEvent::Neighbour { info, .. } => database.set_neighbour(info),
            NetlinkEvent::NeighbourGone { ifindex, address } => database.remove_neighbour(ifindex, address),
        }
        true
    }
}

/// Why the kernel could not be asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum NetlinkError {
    /// The socket could not be opened.
    Open(String),
    /// The socket is closed: the task that reads it has ended.
    Closed,
    /// The kernel refused; the error number.
    Refused(i32),
    /// More than [`KEPT_NEIGHBOURS_MAX`] neighbours.
    Neighbours,
}

impl fmt::Display for NetlinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NetlinkError::Open(reason) => write!(f, "cannot open a netlink socket: {reason}"),
            NetlinkError::Closed => f.write_str("the netlink socket is closed"),
            NetlinkError::Refused(errno) => {
                write!(f, "the kernel refuses by netlink: {}", std::io::Error::from_raw_os_error(*errno))
            }
            NetlinkError::Neighbours => write!(f, "more than {KEPT_NEIGHBOURS_MAX} neighbours to be kept resolved"),
        }
    }
}

impl std::error::Error for NetlinkError {}

type Message = NetlinkMessage<RouteNetlinkMessage>;
type Replies = Pin<Box<dyn Stream<Item = Message> + Send>>;

/// A dump on its way.
struct Dump {
    /// Position in [`DUMPS`] of the request that is being answered.
    step: usize,
    replies: Replies,
    /// The kernel says that something changed while it answered, so that things may be missing.
    interrupted: bool,
}

/// What a dump asks for, in an order in which nothing comes before what it belongs to.
const DUMPS: [fn() -> RouteNetlinkMessage; 4] = [
    || RouteNetlinkMessage::GetLink(LinkMessage::default()),
    || RouteNetlinkMessage::GetAddress(AddressMessage::default()),
    || RouteNetlinkMessage::GetRoute(RouteMessage::default()),
    || RouteNetlinkMessage::GetNeighbour(NeighbourMessage::default()),
];

/// What is known of a neighbour beyond its link address.
#[derive(Clone, Copy, Default)]
struct Known {
    fixed: bool,
    managed: bool,
}

/// The conversation with the kernel about routing.
pub struct Netlink {
    handle: Handle,
    news: UnboundedReceiver<(Message, SocketAddr)>,
    task: tokio::task::JoinHandle<()>,
    dump: Option<Dump>,
    /// A dump is due.
    stale: bool,
    interruptions: u32,
    ready: VecDeque<NetlinkEvent>,
    links_up: BTreeMap<u32, bool>,
    neighbours: BTreeMap<(u32, Address), Known>,
    /// Neighbours that we asked the kernel to keep, and whether it knew them before.
    kept: BTreeMap<(u32, Address), bool>,
}

impl Netlink {
    /// Opens the socket in the calling thread's network namespace. Call within a tokio runtime.
    pub fn open() -> Result<Self, NetlinkError> {
        let groups = [
            MulticastGroup::Link,
            MulticastGroup::Ipv4Ifaddr,
            MulticastGroup::Ipv6Ifaddr,
            MulticastGroup::Ipv4Route,
            MulticastGroup::Ipv6Route,
            MulticastGroup::Neigh,
        ];
        let open = |error: std::io::Error| NetlinkError::Open(error.to_string());
        let (mut connection, handle, news) = rtnetlink::new_multicast_connection(&groups).map_err(open)?;
        // Less only means an overrun, and so a dump, sooner.
        let _ = connection.socket_mut().socket_mut().set_rx_buf_sz(RECEIVE_OCTETS);
        Ok(Self {
            handle,
            news,
            task: tokio::spawn(connection),
            dump: None,
            stale: true,
            interruptions: 0,
            ready: VecDeque::new(),
            links_up: BTreeMap::new(),
            neighbours: BTreeMap::new(),
            kept: BTreeMap::new(),
        })
    }

    /// The next event, for as long as it takes. May be cancelled at any time without losing one.
    ///
    /// # Errors
    /// [`NetlinkError::Closed`] is final. After another error the next call begins with a dump.
    pub async fn next(&mut self) -> Result<NetlinkEvent, NetlinkError> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Ok(event);
            }
            if let Some(dump) = &mut self.dump {
                let reply = dump.replies.next().await;
                self.take_reply(reply)?;
            } else if self.stale {
                self.stale = false;
                self.begin_dump()?;
            } else {
                let (message, _) = self.news.next().await.ok_or(NetlinkError::Closed)?;
                self.take_news(&message);
            }
        }
    }

    fn begin_dump(&mut self) -> Result<(), NetlinkError> {
        self.links_up.clear();
        self.neighbours.clear();
        self.dump = Some(Dump { step: 0, replies: request_dump(&mut self.handle, 0)?, interrupted: false });
        self.ready.push_back(NetlinkEvent::Reset);
        Ok(())
    }

    fn take_reply(&mut self, reply: Option<Message>) -> Result<(), NetlinkError> {
        let Some(dump) = &mut self.dump else { return Ok(()) };
        let Some(message) = reply else {
            dump.step += 1;
            if dump.step < DUMPS.len() {
                dump.replies = request_dump(&mut self.handle, dump.step)?;
                return Ok(());
            }
            let interrupted = dump.interrupted;
            self.dump = None;
            if interrupted && self.interruptions < INTERRUPTIONS_MAX {
                self.interruptions += 1;
                self.stale = true;
            } else {
                self.interruptions = 0;
                self.ready.push_back(NetlinkEvent::Complete);
            }
            return Ok(());
        };
        dump.interrupted |= message.header.flags & NLM_F_DUMP_INTR != 0;
        match &message.payload {
            NetlinkPayload::InnerMessage(inner) => {
                if let Some(event) = translate::translate(&message.header, inner) {
                    self.note(&event);
                    self.ready.push_back(event);
                }
            }
            NetlinkPayload::Error(ErrorMessage { code: Some(code), .. }) => {
                self.dump = None;
                self.stale = true;
                return Err(NetlinkError::Refused(code.get().abs()));
            }
            NetlinkPayload::Overrun(_) => dump.interrupted = true,
            _ => {}
        }
        Ok(())
    }

    fn take_news(&mut self, message: &Message) {
        match &message.payload {
            NetlinkPayload::InnerMessage(inner) => {
                if let Some(event) = translate::translate(&message.header, inner) {
                    self.stale |= self.note(&event);
                    self.ready.push_back(event);
                }
            }
            // The kernel had more to say than the socket could hold.
            NetlinkPayload::Overrun(_) => self.stale = true,
            _ => {}
        }
    }

    /// Remembers what is needed here. True when the kernel may have changed routes without announcing them: hops of
    /// multipath routes come back to life with their link (`fib_sync_up`).
    fn note(&mut self, event: &NetlinkEvent) -> bool {
        match event {
            NetlinkEvent::Link(link) => {
                let was_up = self.links_up.insert(link.ifindex, link.up);
                return was_up == Some(false) && link.up;
            }
            NetlinkEvent::LinkGone { ifindex } => {
                self.links_up.remove(ifindex);
                self.neighbours.retain(|(index, _), _| index != ifindex);
                self.kept.retain(|(index, _), _| index != ifindex);
            }
            NetlinkEvent::Neighbour { info, fixed, managed } => {
                let known = Known { fixed: *fixed, managed: *managed };
                self.neighbours.insert((info.ifindex, info.address), known);
            }
            NetlinkEvent::NeighbourGone { ifindex, address } => {
                self.neighbours.remove(&(*ifindex, *address));
            }
            _ => {}
        }
        false
    }

    /// Asks the kernel to resolve a neighbour and to keep it resolved; asking again resolves again.
    ///
    /// An entry that someone has set by hand is left alone: the request would make it an ordinary one.
    pub async fn keep_neighbour(&mut self, ifindex: u32, address: Address) -> Result<(), NetlinkError> {
        let key = (ifindex, address);
        let known = self.neighbours.get(&key).copied();
        if known.is_some_and(|known| known.fixed) {
            return Ok(());
        }
        if !self.kept.contains_key(&key) && self.kept.len() == KEPT_NEIGHBOURS_MAX {
            return Err(NetlinkError::Neighbours);
        }
        match self.use_neighbour(key, true).await {
            // Kernels before 5.16 know no managed neighbours; they ignore the wish or refuse it.
            Err(NetlinkError::Refused(libc::EINVAL | libc::EOPNOTSUPP)) => self.use_neighbour(key, false).await?,
            result => result?,
        }
        self.kept.entry(key).or_insert(known.is_some());
        Ok(())
    }

    /// Asks the kernel to resolve a neighbour now; it is forgotten like any other when it is not used.
    pub async fn ask_neighbour(&mut self, ifindex: u32, address: Address) -> Result<(), NetlinkError> {
        let key = (ifindex, address);
        let known = self.neighbours.get(&key).copied().unwrap_or_default();
        if known.fixed || self.kept.contains_key(&key) {
            return Ok(());
        }
        self.use_neighbour(key, false).await
    }

    /// Asks again for those kept neighbours that the kernel does not manage by itself; call every few seconds.
    /// Returns the first error, after asking for all.
    pub async fn refresh_neighbours(&mut self) -> Result<(), NetlinkError> {
        let mut result = Ok(());
        for key in self.kept.keys().copied().collect::<Vec<_>>() {
            let known = self.neighbours.get(&key).copied().unwrap_or_default();
            if !known.managed && !known.fixed {
                result = result.and(self.use_neighbour(key, false).await);
            }
        }
        result
    }

    /// The kept neighbours.
    pub fn kept_neighbours(&self) -> BTreeSet<(u32, Address)> {
        self.kept.keys().copied().collect()
    }

    /// Leaves neighbours as they were found: those that were there before become ordinary ones, others go.
    /// Returns the first error, after trying all.
    pub async fn release_neighbours(&mut self) -> Result<(), NetlinkError> {
        let mut result = Ok(());
        for (key, was_there) in std::mem::take(&mut self.kept) {
            if self.neighbours.get(&key).is_some_and(|known| known.fixed) {
                continue;
            }
            let released =
                if was_there { self.use_neighbour(key, false).await } else { self.delete_neighbour(key).await };
            match released {
                // Gone already, or its interface is.
                Err(NetlinkError::Refused(libc::ENOENT | libc::ENODEV)) => {}
                other => result = result.and(other),
            }
        }
        result
    }

    /// A request with NTF_USE; without `managed` it takes a mark of being managed away.
    async fn use_neighbour(&mut self, key: (u32, Address), managed: bool) -> Result<(), NetlinkError> {
        let mut message = neighbour_message(key);
        message.header.flags = NeighbourFlags::Use;
        if managed {
            message.attributes.push(NeighbourAttribute::ExtFlags(NeighbourExtFlags::Managed));
        }
        let mut request = NetlinkMessage::from(RouteNetlinkMessage::NewNeighbour(message));
        request.header.flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE;
        self.execute(request).await
    }

    async fn delete_neighbour(&mut self, key: (u32, Address)) -> Result<(), NetlinkError> {
        let mut request = NetlinkMessage::from(RouteNetlinkMessage::DelNeighbour(neighbour_message(key)));
        request.header.flags = NLM_F_REQUEST | NLM_F_ACK;
        self.execute(request).await
    }

    async fn execute(&mut self, request: Message) -> Result<(), NetlinkError> {
        let mut replies = self.handle.request(request).map_err(|_| NetlinkError::Closed)?;
        while let Some(reply) = replies.next().await {
            if let NetlinkPayload::Error(ErrorMessage { code: Some(code), .. }) = reply.payload {
                return Err(NetlinkError::Refused(code.get().abs()));
            }
        }
        Ok(())
    }
}

impl Drop for Netlink {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn request_dump(handle: &mut Handle, step: usize) -> Result<Replies, NetlinkError> {
    let mut request = NetlinkMessage::from(DUMPS[step]());
    request.header.flags = NLM_F_REQUEST | NLM_F_DUMP;
    Ok(Box::pin(handle.request(request).map_err(|_| NetlinkError::Closed)?))
}

fn neighbour_message((ifindex, address): (u32, Address)) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = match address.family() {
        Family::V4 => netlink_packet_route::AddressFamily::Inet,
        Family::V6 => netlink_packet_route::AddressFamily::Inet6,
    };
    message.header.ifindex = ifindex;
    message.header.state = NeighbourState::None;
    message.attributes.push(NeighbourAttribute::Destination(match address.to_ip() {
        std::net::IpAddr::V4(v4) => NeighbourAddress::Inet(v4),
        std::net::IpAddr::V6(v6) => NeighbourAddress::Inet6(v6),
    }));
    message
}
