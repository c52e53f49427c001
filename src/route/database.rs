//! The facts that a snapshot is made of, as the kernel's routing messages (or a net file) tell them.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::{Address, Family, InterfaceId, MacAddress};
use crate::route::{HOPS_MAX, ROUTES_MAX};
use crate::wire::ethernet::Tags;

/// Numbers of routing tables that are looked at (`linux/rtnetlink.h`, `RT_TABLE_*`).
pub mod table {
    /// The table of `default` in the rules of a fresh host, asked last.
    pub const DEFAULT: u32 = 253;
    /// The table of ordinary routes.
    pub const MAIN: u32 = 254;
    /// The table of local and broadcast addresses.
    pub const LOCAL: u32 = 255;
}

/// Kernel index of the loopback interface, the same in every network namespace.
pub const LOOPBACK: u32 = 1;

/// One interface of the host, served or not.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LinkInfo {
    /// Kernel index.
    pub ifindex: u32,
    /// Name.
    pub name: String,
    /// Ethernet address; zero where there is none.
    pub mac: MacAddress,
    /// Octets of an IP packet.
    pub mtu: u32,
    /// Administratively up (`IFF_UP`).
    pub up: bool,
    /// Of a VLAN device: what it stands for.
    pub vlan: Option<VlanInfo>,
}

/// A VLAN of an interface.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct VlanInfo {
    /// Kernel index of the interface that carries it.
    pub parent: u32,
    /// Tag protocol identifier, `0x8100` or `0x88a8`.
    pub protocol: u16,
    /// VLAN identifier.
    pub id: u16,
}

/// One address of an interface.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AddressInfo {
    /// Kernel index of the interface.
    pub ifindex: u32,
    /// The address.
    pub address: Address,
    /// Prefix length, bits.
    pub length: u8,
    /// True to derive the route of the prefix and its broadcast address. `host` sets false: the kernel announces
    /// those routes itself, and leaves them out for an address with `noprefixroute`.
    pub prefix_route: bool,
}

/// What a route does with a packet (`RTN_*`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RouteKind {
    /// Send it on.
    Unicast,
    /// Ours (local and anycast).
    Local,
    /// To all on a link.
    Broadcast,
    /// Refuse with an ICMP error (unreachable and prohibit).
    Unreachable,
    /// Drop in silence.
    Blackhole,
    /// Go on with the next table.
    Throw,
}

/// One next hop of a route.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RouteHop {
    /// Kernel index of the interface.
    pub ifindex: u32,
    /// The gateway, of either family; `None` for a neighbour.
    pub via: Option<Address>,
    /// Share of the flows, 1 and up (0 counts as 1).
    pub weight: u32,
}

/// One route.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RouteInfo {
    /// Table, see [`table`]; others are ignored.
    pub table: u32,
    /// Network address; bits beyond `length` are cleared.
    pub prefix: Address,
    /// Prefix length, bits of the family.
    pub length: u8,
    /// What it does.
    pub kind: RouteKind,
    /// Metric (`RTA_PRIORITY`); the lowest wins.
    pub metric: u32,
    /// Next hops, at least one for unicast, at most [`HOPS_MAX`].
    pub hops: Vec<RouteHop>,
    /// Preferred source address.
    pub source: Option<Address>,
    /// MTU of the path in octets, where the route says one.
    pub mtu: Option<u32>,
}

/// One neighbour.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NeighbourInfo {
    /// Kernel index of the interface.
    pub ifindex: u32,
    /// Its IP address.
    pub address: Address,
    /// Its link address; `None` when it is not known (incomplete, failed).
    pub mac: Option<MacAddress>,
}

/// Family, table, prefix, length and metric: what the kernel keeps one route for, unless told to append.
type RouteKey = (Family, u32, Address, u8, u32);

/// All facts about links, addresses, routes and neighbours.
///
/// A fact may come before the one it needs (a route before its link): what cannot be used yet is left out of
/// snapshots, not refused.
#[derive(Clone, Debug)]
pub struct Database {
    pub(super) served: Vec<String>,
    pub(super) links: BTreeMap<u32, LinkInfo>,
    pub(super) addresses: Vec<AddressInfo>,
    pub(super) routes: BTreeMap<RouteKey, Vec<RouteInfo>>,
    pub(super) neighbours: BTreeMap<(u32, Address), MacAddress>,
}

impl Database {
    /// A host with the loopback interface alone; `served` are the names of the director's interfaces, whose
    /// positions are their [`InterfaceId`]s.
    pub fn new(served: &[String]) -> Self {
        let mut database = Self {
            served: served.to_vec(),
            links: BTreeMap::new(),
            addresses: Vec::new(),
            routes: BTreeMap::new(),
            neighbours: BTreeMap::new(),
        };
        let mac = MacAddress::default();
        database.set_link(LinkInfo { ifindex: LOOPBACK, name: "lo".into(), mac, mtu: 65536, up: true, vlan: None });
        for (address, length) in [(Address::v4(0x7f00_0001), 8), (Address::v6(1), 128)] {
            database.set_address(AddressInfo { ifindex: LOOPBACK, address, length, prefix_route: true });
        }
        database
    }

    /// The director's number of an interface, if it serves it, or the one that carries it as a VLAN: VLANs have the
    /// numbers behind those of the served interfaces.
    pub fn interface(&self, ifindex: u32) -> Option<InterfaceId> {
        let position = match self.served_position(ifindex) {
            Some(position) => position,
            None => self.served.len() + self.vlans().position(|(vlan, ..)| vlan.ifindex == ifindex)?,
        };
        u16::try_from(position).ok().map(InterfaceId)
    }

    fn served_position(&self, ifindex: u32) -> Option<usize> {
        let name = &self.links.get(&ifindex)?.name;
        self.served.iter().position(|served| served == name)
    }

    /// The VLAN devices on served interfaces, in order of their numbers: with the interface and its tags.
    pub(super) fn vlans(&self) -> impl Iterator<Item = (&LinkInfo, InterfaceId, Tags)> {
        self.links.values().filter_map(|link| {
            if link.vlan.is_none() || self.served_position(link.ifindex).is_some() {
                return None;
            }
            let (position, tags) = self.carrier(link)?;
            Some((link, InterfaceId(u16::try_from(position).ok()?), tags))
        })
    }

    /// The served interface that carries a VLAN device, and the tags that its frames have there. `None` when no served
    /// interface does, or with more tags than anybody looks through.
    fn carrier(&self, link: &LinkInfo) -> Option<(usize, Tags)> {
        let vlan = link.vlan?;
        let parent = self.links.get(&vlan.parent)?;
        if let Some(position) = self.served_position(parent.ifindex) {
            return Some((position, Tags::default().inside(vlan.protocol, vlan.id)?));
        }
        let outer = parent.vlan?;
        let position = self.served_position(outer.parent)?;
        Some((position, Tags::default().inside(outer.protocol, outer.id)?.inside(vlan.protocol, vlan.id)?))
    }

    /// Kernel index of the interface with this number.
    pub fn ifindex_of(&self, interface: InterfaceId) -> Option<u32> {
        match self.served.get(usize::from(interface.0)) {
            Some(name) => self.ifindex(name),
            None => {
                let position = usize::from(interface.0) - self.served.len();
                self.vlans().nth(position).map(|(vlan, ..)| vlan.ifindex)
            }
        }
    }

    /// Kernel index of the interface with this name.
    pub fn ifindex(&self, name: &str) -> Option<u32> {
        self.links.values().find(|link| link.name == name).map(|link| link.ifindex)
    }

    /// Adds or changes an interface. When it goes down its IPv4 routes go with it, as in the kernel, which does
    /// not announce that (`net/ipv4/fib_frontend.c`, `fib_disable_ip`); IPv6 routes are announced one by one.
    pub fn set_link(&mut self, link: LinkInfo) {
        let (ifindex, up) = (link.ifindex, link.up);
        let was_up = self.links.insert(ifindex, link).is_some_and(|old| old.up);
        if was_up && !up {
            self.forget_routes(ifindex, |family, table| family == Family::V4 && table != table::LOCAL);
        }
    }

    /// Removes an interface with its addresses, routes and neighbours.
    pub fn remove_link(&mut self, ifindex: u32) {
        self.links.remove(&ifindex);
        self.addresses.retain(|address| address.ifindex != ifindex);
        self.neighbours.retain(|&(index, _), _| index != ifindex);
        self.forget_routes(ifindex, |_, _| true);
    }

    /// Takes the hops of an interface from the routes of the tables that `which` names; routes without hops go.
    fn forget_routes(&mut self, ifindex: u32, which: impl Fn(Family, u32) -> bool) {
        self.routes.retain(|&(family, table, ..), routes| {
            if which(family, table) {
                routes.retain_mut(|route| {
                    let had_hops = !route.hops.is_empty();
                    route.hops.retain(|hop| hop.ifindex != ifindex);
                    !had_hops || !route.hops.is_empty()
                });
            }
            !routes.is_empty()
        });
    }

    /// Adds an address, or changes its prefix.
    pub fn set_address(&mut self, info: AddressInfo) {
        let same = |other: &&mut AddressInfo| (other.ifindex, other.address) == (info.ifindex, info.address);
        match self.addresses.iter_mut().find(same) {
            Some(known) => *known = info,
            None => self.addresses.push(info),
        }
    }

    /// Removes an address.
    pub fn remove_address(&mut self, ifindex: u32, address: Address) {
        self.addresses.retain(|known| (known.ifindex, known.address) != (ifindex, address));
    }

    /// Adds a route in place of all with the same table, prefix and metric (`NLM_F_REPLACE`).
    /// False, and no change, beyond [`ROUTES_MAX`].
    pub fn set_route(&mut self, route: RouteInfo) -> bool {
        let route = tidy(route);
        if let Some(same) = self.routes.get_mut(&key(&route)) {
            *same = vec![route];
            return true;
        }
        self.append_route(route)
    }

    /// Adds a route beside others with the same table, prefix and metric, which come first in lookups; one that
    /// is known already changes nothing. False, and no change, beyond [`ROUTES_MAX`].
    pub fn append_route(&mut self, route: RouteInfo) -> bool {
        if self.routes.len() >= ROUTES_MAX {
            return false;
        }
        let route = tidy(route);
        let same = self.routes.entry(key(&route)).or_default();
        // Attributes of a known hop list may have changed (source, MTU); duplicates of a dump are no news.
        match same.iter_mut().find(|known| known.kind == route.kind && known.hops == route.hops) {
            Some(known) => *known = route,
            None => same.push(route),
        }
        true
    }

    /// Removes the route with this table, prefix, metric and hops; of a route with more hops only these (as the
    /// kernel announces for IPv6); without hops the first with this table, prefix and metric. False when there
    /// is none.
    pub fn remove_route(&mut self, route: &RouteInfo) -> bool {
        let route = tidy(route.clone());
        let key = key(&route);
        let Some(same) = self.routes.get_mut(&key) else { return false };
        let matches = |hop: &RouteHop, other: &RouteHop| (hop.ifindex, hop.via) == (other.ifindex, other.via);
        let has_all = |known: &RouteInfo| route.hops.iter().all(|hop| known.hops.iter().any(|k| matches(k, hop)));
        let Some(position) = same.iter().position(has_all) else { return false };
        let known = &mut same[position];
        if route.hops.is_empty() || known.hops.len() == route.hops.len() {
            same.remove(position);
        } else {
            known.hops.retain(|hop| !route.hops.iter().any(|gone| matches(gone, hop)));
        }
        if same.is_empty() {
            self.routes.remove(&key);
        }
        true
    }

    /// Adds, changes or (without a link address) forgets a neighbour.
    pub fn set_neighbour(&mut self, info: NeighbourInfo) {
        match info.mac {
            Some(mac) => {
                self.neighbours.insert((info.ifindex, info.address), mac);
            }
            None => self.remove_neighbour(info.ifindex, info.address),
        }
    }

    /// Forgets a neighbour.
    pub fn remove_neighbour(&mut self, ifindex: u32, address: Address) {
        self.neighbours.remove(&(ifindex, address));
    }

    /// All single addresses of the host: those of its interfaces and local routes of full length.
    /// Local prefixes (`route add local 10.9.0.0/16`) are not among them.
    pub fn local_addresses(&self) -> BTreeSet<Address> {
        let routes = self.routes.values().flatten().filter(|route| {
            route.kind == RouteKind::Local && route.table == table::LOCAL && route.length == width(route.prefix)
        });
        self.addresses.iter().map(|info| info.address).chain(routes.map(|route| route.prefix)).collect()
    }
}

/// Bits of an address of this family.
pub(super) fn width(address: Address) -> u8 {
    match address.family() {
        Family::V4 => 32,
        Family::V6 => 128,
    }
}

fn key(route: &RouteInfo) -> RouteKey {
    (route.prefix.family(), route.table, route.prefix, route.length, route.metric)
}

/// The route within its limits.
fn tidy(mut route: RouteInfo) -> RouteInfo {
    route.length = route.length.min(width(route.prefix));
    route.prefix = route.prefix.masked(route.length);
    route.hops.truncate(HOPS_MAX);
    route
}
