//! The XDP program: load, attach, and tell it which frames user space wants (bpf/lvx.bpf.c).
//!
//! One program and one set of maps for all interfaces. All sockets are in one XSKMAP; each interface owns a run of
//! its positions, named in the map `interfaces`, so that a change of the filter is one change for all.
//!
//! Attached by bpf_link: the kernel detaches when the last descriptor is closed, also when the director is killed.
//! Another program on the interface is never replaced.
//!
//! Plain native mode is tried first, multi-buffer native mode ("frags") next, generic mode last. On veth, the plain
//! program limits the peer's MTU to 3506 and stops its TSO; with the multi-buffer program TSO goes on, and super-frames
//! of 64 KiB for a virtual service would be dropped for want of a chunk that holds them. So multi-buffer is for
//! interfaces whose MTU the plain program is refused for.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::os::fd::BorrowedFd;

use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Array, HashMap, Map, MapData, MapError, PerCpuArray, XskMap};
use aya::programs::links::FdLink;
use aya::programs::{Xdp as Program, XdpMode};
use aya::{Ebpf, include_bytes_aligned};
use rustix::io::Errno;

use crate::base::{Address, Endpoint, Family, MacAddress};
use crate::service::Filter;
use crate::service::filter::{FilterChange, MARKED_PREFIXES_MAX, Match, PortSpans, Prefix};

/// Entries of the maps `services` and `servers` each.
pub const ENDPOINTS_MAX: usize = 1 << 19;

/// Entries of each map of addresses.
pub const ADDRESSES_MAX: usize = 1 << 19;

/// Sockets of all interfaces together.
pub const SOCKETS_MAX: u32 = 4096;

/// Interfaces that the program can be attached to.
pub const INTERFACES_MAX: usize = 256;

/// Position of the setting in the map `settings`.
const SETTING_REINJECTED_SOURCE: u32 = 0;

/// `struct endpoint` of the program: address, port in network order, protocol, padding.
type EndpointKey = [u8; 20];

/// `struct address` of the program.
type AddressKey = [u8; 16];

/// `struct prefix` of the program without `bits`: family and address.
type PrefixKey = [u8; 20];

/// `struct marked_ports` of the program: first and last port of each protocol, in host order.
type MarkedPorts = [u16; 6];

/// In which mode the program is to run.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum AttachMode {
    /// Native where the driver can, else generic.
    #[default]
    Auto,
    /// In the driver, or an error.
    Native,
    /// Generic: on socket buffers, after the driver. Slow, and a veth peer goes on to send TSO super-frames.
    Skb,
}

/// How the program runs on an interface.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Attachment {
    /// True in the driver, false in generic mode.
    pub native: bool,
    /// True for the multi-buffer program.
    pub multi_buffer: bool,
    /// Why a better mode was refused, where one was tried.
    pub refusal: Option<String>,
}

/// Frames by what the program did with them, all interfaces and processors.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Counters {
    /// Handed to a socket.
    pub redirected: u64,
    /// Left to the kernel's stack: nothing of ours.
    pub passed: u64,
    /// Ours, but no socket is bound at the queue: left to the kernel's stack.
    pub no_socket: u64,
    /// Came back from user space in generic mode: left to the kernel's stack.
    pub reinjected: u64,
}

/// Why the program could not be loaded, attached or told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum XdpError {
    /// The capabilities are missing.
    Rights,
    /// The kernel refuses the program or its maps.
    Load(String),
    /// No such interface in this network namespace.
    NoInterface(String),
    /// Another XDP program is attached.
    AlreadyAttached(String),
    /// The driver refuses the program in the demanded mode.
    Refused {
        /// Interface name.
        interface: String,
        /// What the kernel said.
        reason: String,
    },
    /// A limit of this module is reached.
    Limit {
        /// What there is too much of.
        what: &'static str,
        /// How much there may be.
        limit: usize,
    },
    /// The program is not attached to the interface, or the queue is beyond the number given then.
    NoQueue {
        /// Interface index.
        index: u32,
        /// Queue.
        queue: u32,
    },
    /// A map cannot be read or changed.
    Map {
        /// The map.
        map: &'static str,
        /// What the kernel said.
        reason: String,
    },
}

impl fmt::Display for XdpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            XdpError::Rights => f.write_str("XDP needs the capabilities CAP_BPF and CAP_NET_ADMIN"),
            XdpError::Load(reason) => write!(f, "the kernel refuses the XDP program: {reason}"),
            XdpError::NoInterface(name) => write!(f, "there is no interface {name} in this network namespace"),
            XdpError::AlreadyAttached(name) => {
                write!(
                    f,
                    "another XDP program is attached to interface {name}; it is left alone (see: ip link show {name})"
                )
            }
            XdpError::Refused { interface, reason } => {
                write!(f, "interface {interface} refuses the XDP program: {reason}")
            }
            XdpError::Limit { what, limit } => write!(f, "more than {limit} {what}"),
            XdpError::NoQueue { index, queue } => {
                write!(f, "the XDP program serves no queue {queue} of interface number {index}")
            }
            XdpError::Map { map, reason } => write!(f, "map {map} of the XDP program: {reason}"),
        }
    }
}

impl std::error::Error for XdpError {}

/// An interface that the program is attached to.
struct Attached {
    /// Dropping it detaches.
    _link: FdLink,
    first: u32,
    queues: u32,
}

/// The loaded program. Dropping it detaches it everywhere.
pub struct Xdp {
    ebpf: Ebpf,
    services: HashMap<MapData, EndpointKey, u8>,
    servers: HashMap<MapData, EndpointKey, u8>,
    virtual_addresses: HashMap<MapData, AddressKey, u8>,
    server_addresses: HashMap<MapData, AddressKey, u8>,
    locals: HashMap<MapData, AddressKey, u8>,
    marked: LpmTrie<MapData, PrefixKey, MarkedPorts>,
    sockets: XskMap<MapData>,
    interfaces: HashMap<MapData, u32, [u32; 2]>,
    settings: Array<MapData, u64>,
    counters: PerCpuArray<MapData, u64>,
    attached: BTreeMap<u32, Attached>,
    /// What the maps hold.
    filter: Filter,
}

impl Xdp {
    /// Loads the program; it wants nothing yet and is attached nowhere.
    pub fn load() -> Result<Self, XdpError> {
        let object = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/lvx.bpf.o"));
        let mut ebpf = Ebpf::load(object).map_err(|error| of_load(&error))?;
        Ok(Self {
            services: take(&mut ebpf, "services")?,
            servers: take(&mut ebpf, "servers")?,
            virtual_addresses: take(&mut ebpf, "virtual_addrs")?,
            server_addresses: take(&mut ebpf, "server_addrs")?,
            locals: take(&mut ebpf, "locals")?,
            marked: take(&mut ebpf, "marked")?,
            sockets: take(&mut ebpf, "sockets")?,
            interfaces: take(&mut ebpf, "interfaces")?,
            settings: take(&mut ebpf, "settings")?,
            counters: take(&mut ebpf, "counters")?,
            attached: BTreeMap::new(),
            filter: Filter::default(),
            ebpf,
        })
    }

    /// Attaches the program to the interface with this index. `name` is for messages. `queues` is the number of its
    /// receive queues.
    pub fn attach(&mut self, index: u32, name: &str, queues: u32, mode: AttachMode) -> Result<Attachment, XdpError> {
        if self.attached.contains_key(&index) {
            return Err(XdpError::AlreadyAttached(name.to_string()));
        }
        if self.attached.len() == INTERFACES_MAX {
            return Err(XdpError::Limit { what: "interfaces", limit: INTERFACES_MAX });
        }
        let first = self.free_run(queues)?;
        let attempts: &[(&str, XdpMode)] = match mode {
            AttachMode::Auto => &[("lvx", XdpMode::Driver), ("lvx_frags", XdpMode::Driver), ("lvx", XdpMode::Skb)],
            AttachMode::Native => &[("lvx", XdpMode::Driver), ("lvx_frags", XdpMode::Driver)],
            AttachMode::Skb => &[("lvx", XdpMode::Skb)],
        };
        let mut refusal = None;
        for &(program, mode) in attempts {
            let link = match self.try_attach(index, name, program, mode) {
                Err(XdpError::Refused { reason, .. }) => {
                    refusal.get_or_insert(reason);
                    continue;
                }
                result => result?,
            };
            // Frames that come before this entry are passed on.
            self.interfaces.insert(index, [first, queues], 0).map_err(|error| of_map("interfaces", &error))?;
            self.attached.insert(index, Attached { _link: link, first, queues });
            let native = mode == XdpMode::Driver;
            return Ok(Attachment { native, multi_buffer: program == "lvx_frags", refusal });
        }
        Err(XdpError::Refused { interface: name.to_string(), reason: refusal.unwrap_or_default() })
    }

    fn try_attach(&mut self, index: u32, name: &str, program: &str, mode: XdpMode) -> Result<FdLink, XdpError> {
        let program: &mut Program = self
            .ebpf
            .program_mut(program)
            .and_then(|program| program.try_into().ok())
            .ok_or_else(|| XdpError::Load(format!("no program {program}")))?;
        // Loaded when first attached: an old kernel may know the plain program only.
        if program.fd().is_err() {
            program.load().map_err(|error| of_load(&error))?;
        }
        let id = program.attach_to_if_index(index, mode).map_err(|error| of_attach(&error, name))?;
        let link = program.take_link(id).map_err(|error| of_attach(&error, name))?;
        // A kernel without bpf_link for XDP (before 5.9) gives another kind, which would outlive a killed director;
        // it is detached by being dropped here.
        link.try_into().map_err(|_| XdpError::Load("this kernel has no bpf_link for XDP".to_string()))
    }

    /// Lets frames of a queue go to an AF_XDP socket bound to that queue.
    pub fn connect(&mut self, index: u32, queue: u32, socket: BorrowedFd<'_>) -> Result<(), XdpError> {
        let run =
            self.attached.get(&index).filter(|run| queue < run.queues).ok_or(XdpError::NoQueue { index, queue })?;
        self.sockets.set(run.first + queue, socket, 0).map_err(|error| of_map("sockets", &error))
    }

    /// Frames with this source address are left to the kernel's stack: the way back in generic mode.
    pub fn set_reinjected_source(&mut self, source: MacAddress) -> Result<(), XdpError> {
        let [a, b, c, d, e, g] = source.0;
        // The program copies the six octets to the front of a zeroed number.
        let value = u64::from_ne_bytes([a, b, c, d, e, g, 0, 0]);
        self.settings.set(SETTING_REINJECTED_SOURCE, value, 0).map_err(|error| of_map("settings", &error))
    }

    /// Makes the maps hold `filter`, by difference: what is in the old filter and the new one is never absent.
    ///
    /// A filter beyond the limits is refused whole. After another error the maps hold something between the two, and
    /// the next call goes on from there.
    pub fn set_filter(&mut self, filter: &Filter) -> Result<(), XdpError> {
        for (what, length, limit) in [
            ("virtual services", filter.services.len(), ENDPOINTS_MAX),
            ("endpoints of real servers", filter.servers.len(), ENDPOINTS_MAX),
            ("virtual addresses", filter.virtual_addresses.len(), ADDRESSES_MAX),
            ("addresses of real servers", filter.server_addresses.len(), ADDRESSES_MAX),
            ("local addresses", filter.locals.len(), ADDRESSES_MAX),
            ("prefixes that rules mark", filter.marked.len(), MARKED_PREFIXES_MAX),
        ] {
            if length > limit {
                return Err(XdpError::Limit { what, limit });
            }
        }
        self.set_marked(&filter.marked)?;
        let held = &mut self.filter;
        // Locals first and last: while an endpoint of a real server is held, so are the exceptions to it.
        add("locals", &mut self.locals, &mut held.locals, &filter.locals, ADDRESSES_MAX, address_key)?;
        add(
            "virtual_addrs",
            &mut self.virtual_addresses,
            &mut held.virtual_addresses,
            &filter.virtual_addresses,
            ADDRESSES_MAX,
            address_key,
        )?;
        add(
            "server_addrs",
            &mut self.server_addresses,
            &mut held.server_addresses,
            &filter.server_addresses,
            ADDRESSES_MAX,
            address_key,
        )?;
        add("services", &mut self.services, &mut held.services, &filter.services, ENDPOINTS_MAX, endpoint_key)?;
        add("servers", &mut self.servers, &mut held.servers, &filter.servers, ENDPOINTS_MAX, endpoint_key)?;
        remove("servers", &mut self.servers, &mut held.servers, &filter.servers, endpoint_key)?;
        remove("services", &mut self.services, &mut held.services, &filter.services, endpoint_key)?;
        remove(
            "server_addrs",
            &mut self.server_addresses,
            &mut held.server_addresses,
            &filter.server_addresses,
            address_key,
        )?;
        remove(
            "virtual_addrs",
            &mut self.virtual_addresses,
            &mut held.virtual_addresses,
            &filter.virtual_addresses,
            address_key,
        )?;
        remove("locals", &mut self.locals, &mut held.locals, &filter.locals, address_key)
    }

    /// Changes single matches of the filter that is in place: first all that come, in their order, then all that go,
    /// against it.
    ///
    /// # Errors
    /// When a map is full or the kernel refuses. Those before are changed; [`Xdp::set_filter`] brings the rest.
    pub fn change_filter(&mut self, changes: &[FilterChange]) -> Result<(), XdpError> {
        let mut come: Vec<Match> = changes.iter().filter(|change| change.present).map(|change| change.item).collect();
        let mut go: Vec<Match> = changes.iter().filter(|change| !change.present).map(|change| change.item).collect();
        come.sort_unstable();
        go.sort_unstable_by(|a, b| b.cmp(a));
        for item in come {
            if !self.filter.has(item) {
                self.put_match(item, true)?;
                self.filter.apply(FilterChange { item, present: true });
            }
        }
        for item in go {
            if self.filter.has(item) {
                self.put_match(item, false)?;
                self.filter.apply(FilterChange { item, present: false });
            }
        }
        Ok(())
    }

    fn put_match(&mut self, item: Match, present: bool) -> Result<(), XdpError> {
        match item {
            Match::Local(address) => put("locals", &mut self.locals, address_key(&address), present),
            Match::VirtualAddress(address) => {
                put("virtual_addrs", &mut self.virtual_addresses, address_key(&address), present)
            }
            Match::ServerAddress(address) => {
                put("server_addrs", &mut self.server_addresses, address_key(&address), present)
            }
            Match::Service(protocol, endpoint) => {
                put("services", &mut self.services, endpoint_key(&(protocol, endpoint)), present)
            }
            Match::Server(protocol, endpoint) => {
                put("servers", &mut self.servers, endpoint_key(&(protocol, endpoint)), present)
            }
        }
    }

    /// As [`Xdp::set_filter`]. A prefix that stays has its new ports before another one goes.
    fn set_marked(&mut self, wished: &BTreeMap<Prefix, PortSpans>) -> Result<(), XdpError> {
        let held = &mut self.filter.marked;
        let others = wished.iter().filter(|(prefix, spans)| held.get(prefix) != Some(spans));
        let others: Vec<(Prefix, PortSpans)> = others.map(|(prefix, spans)| (*prefix, *spans)).collect();
        let surplus: Vec<Prefix> = held.keys().filter(|prefix| !wished.contains_key(prefix)).copied().collect();
        // Old and new together may exceed the map: then the old goes first.
        let goes_first = held.len() + others.len() > MARKED_PREFIXES_MAX;
        if goes_first {
            remove_marked(&mut self.marked, held, &surplus)?;
        }
        for (prefix, spans) in others {
            self.marked.insert(&prefix_key(&prefix), marked_ports(&spans), 0).map_err(|e| of_map("marked", &e))?;
            held.insert(prefix, spans);
        }
        if goes_first { Ok(()) } else { remove_marked(&mut self.marked, held, &surplus) }
    }

    /// What the program has counted since it was loaded.
    pub fn counters(&self) -> Result<Counters, XdpError> {
        let sum = |position: u32| -> Result<u64, XdpError> {
            let values = self.counters.get(&position, 0).map_err(|error| of_map("counters", &error))?;
            Ok(values.iter().fold(0, |sum: u64, value| sum.wrapping_add(*value)))
        };
        Ok(Counters { redirected: sum(0)?, passed: sum(1)?, no_socket: sum(2)?, reinjected: sum(3)? })
    }

    /// The first position of a free run in the socket map.
    fn free_run(&self, queues: u32) -> Result<u32, XdpError> {
        let mut taken: Vec<(u32, u32)> = self.attached.values().map(|run| (run.first, run.queues)).collect();
        taken.sort_unstable();
        let mut first = 0;
        for (start, length) in taken {
            if start - first >= queues {
                break;
            }
            first = start + length;
        }
        if first.saturating_add(queues) > SOCKETS_MAX {
            return Err(XdpError::Limit { what: "queues of all interfaces", limit: SOCKETS_MAX as usize });
        }
        Ok(first)
    }
}

/// Adds what is wished and not held. Where old and new together exceed the map, the old goes first.
fn add<T: Ord + Copy, K: aya::Pod>(
    name: &'static str,
    map: &mut HashMap<MapData, K, u8>,
    held: &mut BTreeSet<T>,
    wished: &BTreeSet<T>,
    limit: usize,
    key: fn(&T) -> K,
) -> Result<(), XdpError> {
    let missing: Vec<T> = wished.difference(held).copied().collect();
    if held.len() + missing.len() > limit {
        remove(name, map, held, wished, key)?;
    }
    for item in missing {
        map.insert(key(&item), 1, 0).map_err(|error| of_map(name, &error))?;
        held.insert(item);
    }
    Ok(())
}

/// Removes what is held and not wished.
fn remove<T: Ord + Copy, K: aya::Pod>(
    name: &'static str,
    map: &mut HashMap<MapData, K, u8>,
    held: &mut BTreeSet<T>,
    wished: &BTreeSet<T>,
    key: fn(&T) -> K,
) -> Result<(), XdpError> {
    let surplus: Vec<T> = held.difference(wished).copied().collect();
    for item in surplus {
        match map.remove(&key(&item)) {
            Ok(()) | Err(MapError::KeyNotFound) => held.remove(&item),
            Err(error) => return Err(of_map(name, &error)),
        };
    }
    Ok(())
}

/// Puts one key into a map or takes it out.
fn put<K: aya::Pod>(
    name: &'static str,
    map: &mut HashMap<MapData, K, u8>,
    key: K,
    present: bool,
) -> Result<(), XdpError> {
    let result = if present { map.insert(key, 1, 0) } else { map.remove(&key) };
    match result {
        Ok(()) => Ok(()),
        Err(MapError::KeyNotFound) if !present => Ok(()),
        Err(error) => Err(of_map(name, &error)),
    }
}

fn remove_marked(
    map: &mut LpmTrie<MapData, PrefixKey, MarkedPorts>,
    held: &mut BTreeMap<Prefix, PortSpans>,
    surplus: &[Prefix],
) -> Result<(), XdpError> {
    for prefix in surplus {
        match map.remove(&prefix_key(prefix)) {
            Ok(()) | Err(MapError::KeyNotFound) => held.remove(prefix),
            Err(error) => return Err(of_map("marked", &error)),
        };
    }
    Ok(())
}

/// The trie's key: the family's 32 bits always count.
fn prefix_key(prefix: &Prefix) -> Key<PrefixKey> {
    let (family, unused): (u32, u32) = match prefix.address.family() {
        Family::V4 => (4, 96),
        Family::V6 => (6, 0),
    };
    let mut octets = [0; 20];
    octets[..4].copy_from_slice(&family.to_be_bytes());
    octets[4..].copy_from_slice(&address_key(&prefix.address));
    Key::new(32 + unused + u32::from(prefix.bits), octets)
}

fn marked_ports(spans: &PortSpans) -> MarkedPorts {
    let [tcp, udp, sctp] = spans.spans().map(|span| span.unwrap_or((1, 0)));
    [tcp.0, tcp.1, udp.0, udp.1, sctp.0, sctp.1]
}

/// The program has IPv4 addresses as `::ffff:a.b.c.d`.
fn address_key(address: &Address) -> AddressKey {
    match address.to_ip() {
        std::net::IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        std::net::IpAddr::V6(v6) => v6.octets(),
    }
}

fn endpoint_key(&(protocol, endpoint): &(u8, Endpoint)) -> EndpointKey {
    let mut key = [0; 20];
    key[..16].copy_from_slice(&address_key(&endpoint.address));
    key[16..18].copy_from_slice(&endpoint.port.to_be_bytes());
    key[18] = protocol;
    key
}

/// Takes a map out of the loaded object.
fn take<M: TryFrom<Map, Error = MapError>>(ebpf: &mut Ebpf, name: &'static str) -> Result<M, XdpError> {
    let map = ebpf.take_map(name).ok_or_else(|| XdpError::Load(format!("no map {name}")))?;
    M::try_from(map).map_err(|error| of_map(name, &error))
}

/// The error number at the end of a chain of errors.
pub(super) fn errno_in(error: &(dyn std::error::Error + 'static)) -> Option<Errno> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<std::io::Error>() {
            return Errno::from_io_error(found);
        }
        next = error.source();
    }
    None
}

/// The innermost error's text: the outer ones name functions of the library.
fn reason_of(error: &(dyn std::error::Error + 'static)) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

pub(super) fn of_load(error: &(dyn std::error::Error + 'static)) -> XdpError {
    match errno_in(error) {
        Some(Errno::PERM) => XdpError::Rights,
        _ => XdpError::Load(reason_of(error)),
    }
}

fn of_attach(error: &(dyn std::error::Error + 'static), name: &str) -> XdpError {
    match errno_in(error) {
        Some(Errno::PERM | Errno::ACCESS) => XdpError::Rights,
        Some(Errno::NODEV) => XdpError::NoInterface(name.to_string()),
        // Busy in the same mode, exists in the other.
        Some(Errno::BUSY | Errno::EXIST) => XdpError::AlreadyAttached(name.to_string()),
        Some(Errno::RANGE) => {
            XdpError::Refused { interface: name.to_string(), reason: "its MTU is too large for one buffer".to_string() }
        }
        _ => XdpError::Refused { interface: name.to_string(), reason: reason_of(error) },
    }
}

fn of_map(map: &'static str, error: &(dyn std::error::Error + 'static)) -> XdpError {
    XdpError::Map { map, reason: reason_of(error) }
}

#[cfg(test)]
mod tests;
