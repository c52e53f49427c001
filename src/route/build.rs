//! The snapshot: from the facts of a [`Database`] to tables that a worker asks.

use std::collections::{BTreeSet, HashMap};

use crate::base::hasher::BuildWordHasher;
use crate::base::{Address, Family, InterfaceId, MacAddress};
use crate::route::database::{AddressInfo, LOOPBACK, LinkInfo, width};
use crate::route::intervals::{Intervals, Prefix};
use crate::route::{Database, RouteHop, RouteInfo, RouteKind, table};
use crate::wire::ethernet::Tags;

/// An interface that the director serves, as of a snapshot.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Link {
    /// Name.
    pub name: String,
    /// Ethernet address.
    pub mac: MacAddress,
    /// Octets of an IP packet.
    pub mtu: u32,
    /// Administratively up.
    pub up: bool,
    /// Of a VLAN: the interface that carries it, and the tags of its frames there.
    pub vlan: Option<(InterfaceId, Tags)>,
}

/// Where a packet goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Route {
    /// To the host itself.
    Local,
    /// To a next hop.
    Unicast(Hop),
    /// Nowhere, and the sender is told: no route, unreachable, prohibit.
    Unreachable,
    /// Nowhere, in silence.
    Blackhole,
    /// To all: an IPv4 broadcast address, or multicast of either family.
    Broadcast,
}

/// The next hop of a packet.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Hop {
    /// The interface it leaves by; `None` for one that the director does not serve.
    pub interface: Option<InterfaceId>,
    /// The gateway, which may be of the other family; `None` when the destination is a neighbour.
    pub gateway: Option<Address>,
    /// The source of packets that the director itself sends this way; unspecified when the host has no address.
    pub source: Address,
    /// Octets of an IP packet: the route's, else the link's.
    pub mtu: u32,
}

/// A way that all packets to an address take.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exit<'a> {
    /// To the host itself.
    Local,
    /// To this next hop; the number is the hop's own in this snapshot, and counts from 0 without large gaps.
    Hop(u32, &'a Hop),
}

/// A hop and the sum of the weights up to and with it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct WeightedHop {
    weight_up_to: u64,
    hop: Hop,
}

/// What an interval leads to.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Target {
    Local,
    Broadcast,
    Unreachable,
    Blackhole,
    Throw,
    Hop(Hop),
    /// Positions in the list of weighted hops.
    Hops {
        first: u32,
        count: u32,
    },
}

/// Routes, links and neighbours at one moment. Immutable; a change makes a new one.
pub struct Routes {
    v4: Intervals<u32>,
    v6: Intervals<u128>,
    targets: Vec<Target>,
    hops: Vec<WeightedHop>,
    links: Vec<Option<Link>>,
    locals: BTreeSet<Address>,
    /// The host bounds its neighbour table (`gc_thresh3`), so that nobody can fill this with collisions.
    neighbours: HashMap<(InterfaceId, Address), MacAddress, BuildWordHasher>,
}

impl Routes {
    /// Where a packet to `destination` goes. Packets with the same `flow_hash` take the same hop of a multipath
    /// route; its upper bits decide, so it must be well mixed.
    #[inline]
    pub fn lookup(&self, destination: Address, flow_hash: u32) -> Route {
        match self.target(destination) {
            Some(Target::Hop(hop)) => Route::Unicast(hop),
            Some(Target::Hops { first, count }) => self.choose(first, count, flow_hash),
            Some(Target::Local) => Route::Local,
            Some(Target::Broadcast) => Route::Broadcast,
            Some(Target::Blackhole) => Route::Blackhole,
            Some(Target::Unreachable | Target::Throw) | None => Route::Unreachable,
        }
    }

    /// Where packets to `destination` go, when it is the same for all of them: to the host, or to one hop.
    #[inline]
    pub fn exit(&self, destination: Address) -> Option<Exit<'_>> {
        let index = self.target_index(destination)?;
        match self.targets.get(index as usize)? {
            Target::Local => Some(Exit::Local),
            Target::Hop(hop) => Some(Exit::Hop(index, hop)),
            Target::Broadcast | Target::Unreachable | Target::Blackhole | Target::Throw | Target::Hops { .. } => None,
        }
    }

    /// The served interface.
    #[inline]
    pub fn link(&self, interface: InterfaceId) -> Option<&Link> {
        self.links.get(interface.0 as usize)?.as_ref()
    }

    /// The VLAN with these tags on a served interface, whatever the priorities in them.
    pub fn vlan(&self, carrier: InterfaceId, tags: &Tags) -> Option<InterfaceId> {
        let is_it = |link: &Option<Link>| {
            let vlan = link.as_ref().and_then(|link| link.vlan);
            vlan.is_some_and(|(interface, own)| interface == carrier && own.is_same_vlan(tags))
        };
        self.links.iter().position(is_it).map(|position| InterfaceId(position as u16))
    }

    /// True when some served interface carries a VLAN of the host's.
    pub fn has_vlans(&self) -> bool {
        self.links.iter().flatten().any(|link| link.vlan.is_some())
    }

    /// The numbers of all served interfaces and their VLANs, those included that are not there at the moment.
    pub fn interfaces(&self) -> impl Iterator<Item = InterfaceId> + use<> {
        (0..self.links.len() as u16).map(InterfaceId)
    }

    /// The hops by way of a gateway, of all routes; some may be there twice.
    pub fn gateway_hops(&self) -> impl Iterator<Item = Hop> + '_ {
        let single = self.targets.iter().filter_map(|target| match target {
            Target::Hop(hop) => Some(*hop),
            _ => None,
        });
        single.chain(self.hops.iter().map(|weighted| weighted.hop)).filter(|hop| hop.gateway.is_some())
    }

    /// The host's own addresses, one by one; local prefixes are not among them.
    pub fn local_addresses(&self) -> &BTreeSet<Address> {
        &self.locals
    }

    /// The link address of a neighbour, if it is known.
    #[inline]
    pub fn neighbour(&self, interface: InterfaceId, address: Address) -> Option<MacAddress> {
        self.neighbours.get(&(interface, address)).copied()
    }

    /// True when the host takes packets to `address` as its own, local prefixes included.
    #[inline]
    pub fn is_local(&self, address: Address) -> bool {
        matches!(self.target(address), Some(Target::Local))
    }

    #[inline]
    fn target(&self, destination: Address) -> Option<Target> {
        self.targets.get(self.target_index(destination)? as usize).copied()
    }

    #[inline]
    fn target_index(&self, destination: Address) -> Option<u32> {
        match destination.family() {
            Family::V4 => self.v4.find(destination.low_u32()),
            Family::V6 => self.v6.find(destination.0),
        }
    }

    fn choose(&self, first: u32, count: u32, flow_hash: u32) -> Route {
        let hops = &self.hops[first as usize..][..count as usize];
        let Some(last) = hops.last() else { return Route::Unreachable };
        let point = (u64::from(flow_hash) * last.weight_up_to) >> 32;
        let chosen = hops.iter().find(|weighted| point < weighted.weight_up_to).unwrap_or(last);
        Route::Unicast(chosen.hop)
    }
}

impl Database {
    /// The snapshot of all facts. Takes time in proportion to the number of routes: make one for a burst of
    /// changes, not for each.
    pub fn snapshot(&self) -> Routes {
        let mut builder =
            Builder { database: self, targets: FIXED_TARGETS.to_vec(), hops: Vec::new(), known: HashMap::new() };
        let v4 = builder.family(Family::V4).narrow();
        let v6 = builder.family(Family::V6);
        let links = self.served.iter().map(|name| {
            let info = self.links.values().find(|link| link.name == *name)?;
            Some(Link { name: name.clone(), mac: info.mac, mtu: info.mtu, up: info.up, vlan: None })
        });
        let vlans = self.vlans().map(|(info, carrier, tags)| {
            let vlan = Some((carrier, tags));
            Some(Link { name: info.name.clone(), mac: info.mac, mtu: info.mtu, up: info.up, vlan })
        });
        let links = links.chain(vlans);
        let neighbours = self.neighbours.iter().filter_map(|(&(ifindex, address), &mac)| {
            let interface = self.interface(ifindex)?;
            Some(((interface, address), mac))
        });
        Routes {
            v4,
            v6,
            targets: builder.targets,
            hops: builder.hops,
            links: links.collect(),
            locals: self.local_addresses(),
            neighbours: neighbours.collect(),
        }
    }

    fn link_is_up(&self, ifindex: u32) -> Option<&LinkInfo> {
        self.links.get(&ifindex).filter(|link| link.up)
    }

    /// The source that the kernel would choose for packets by this hop of a route to `prefix`
    /// (`net/ipv4/devinet.c`, `inet_select_addr`; `net/ipv6/addrconf.c`, `ipv6_dev_get_saddr`).
    ///
    /// **Deviation**: for IPv6 the kernel compares addresses with each packet's destination, here with the route's
    /// prefix or gateway: a snapshot has one source a hop.
    fn source(&self, prefix: Address, length: u8, hop: &RouteHop) -> Address {
        let family = prefix.family();
        let usable = |info: &&AddressInfo| {
            info.address.family() == family && !info.address.is_link_local_v6() && info.ifindex != LOOPBACK
        };
        let of_link = || self.addresses.iter().filter(usable).filter(|info| info.ifindex == hop.ifindex);
        let chosen = match (family, hop.via) {
            (Family::V4, via) => {
                let holds = |info: &&AddressInfo| {
                    via.is_some_and(|via| via.is_v4() && via.masked(info.length) == info.address.masked(info.length))
                };
                of_link().find(holds).or_else(|| of_link().next())
            }
            (Family::V6, via) => {
                let (near, bits) = match via {
                    Some(via) if !via.is_link_local_v6() => (via, 128),
                    _ => (prefix, u32::from(length)),
                };
                let common = |info: &AddressInfo| (info.address.0 ^ near.0).leading_zeros().min(bits);
                // Of equals the first.
                of_link().rev().max_by_key(|info| common(info))
            }
        };
        let any = || self.addresses.iter().find(usable);
        chosen.or_else(any).map_or(Address::unspecified(family), |info| info.address)
    }
}

/// Metric that the kernel gives the prefix route of an IPv6 address (`IP6_RT_PRIO_ADDRCONF`).
const METRIC_OF_IPV6_ADDRESSES: u32 = 256;

/// First length of an IPv4 prefix that has no broadcast address (RFC 3021).
const LENGTH_WITHOUT_BROADCAST: u8 = 31;

struct Builder<'a> {
    database: &'a Database,
    targets: Vec<Target>,
    hops: Vec<WeightedHop>,
    known: HashMap<Vec<WeightedHop>, u32>,
}

/// Routes of one layer by first address and last address; the best route of each prefix.
type Layer = HashMap<(u128, u128), (Rank, u32)>;

/// What decides among routes of one prefix: table (local first), metric.
type Rank = (u32, u32);

impl Builder<'_> {
    fn family(&mut self, family: Family) -> Intervals<u128> {
        let last = match family {
            Family::V4 => u128::from(u32::MAX),
            Family::V6 => u128::MAX,
        };
        let tables: &[&[u32]] = match family {
            Family::V4 => &[&[table::LOCAL, table::MAIN], &[table::DEFAULT]],
            Family::V6 => &[&[table::LOCAL], &[table::MAIN], &[table::DEFAULT]],
        };
        let mut layers = vec![Self::multicast(family, last)];
        for tables in tables {
            layers.push(self.layer(family, tables, last));
        }
        let lower = layers.pop().unwrap_or_default();
        layers.into_iter().rev().fold(lower, |below, layer| layer.over(&below))
    }

    fn multicast(family: Family, last: u128) -> Intervals<u128> {
        let target = fixed(Target::Broadcast);
        let ranges: &[(u128, u128)] = match family {
            Family::V4 => &[(0xe000_0000, 0xefff_ffff), (0xffff_ffff, 0xffff_ffff)],
            Family::V6 => &[(0xff << 120, u128::MAX)],
        };
        let prefixes = ranges.iter().map(|&(first, last)| Prefix { first, last, target });
        Intervals::new(prefixes.collect(), last)
    }

    fn layer(&mut self, family: Family, tables: &[u32], last: u128) -> Intervals<u128> {
        let mut layer = Layer::new();
        let database = self.database;
        let addresses = database.addresses.iter().filter(|info| info.address.family() == family);
        for route in addresses.flat_map(derived_routes).filter(|route| tables.contains(&route.table)) {
            self.insert(&mut layer, &route, last);
        }
        for &table in tables {
            // The map's order is that of prefixes, lengths and metrics within a table.
            let from = (family, table, Address::default(), 0, 0);
            let routes = database.routes.range(from..).take_while(|(key, _)| (key.0, key.1) == (family, table));
            for route in routes.flat_map(|(_, same)| same) {
                self.insert(&mut layer, route, last);
            }
        }
        let prefixes = layer.into_iter().map(|((first, last), (_, target))| Prefix { first, last, target });
        let flat = Intervals::new(prefixes.collect(), last);
        flat.retain(|target| self.targets[target as usize] != Target::Throw)
    }

    /// Puts a usable route into the layer unless a better one has its place.
    fn insert(&mut self, layer: &mut Layer, route: &RouteInfo, last: u128) {
        // A link-local prefix exists on every link: without the packet's interface it leads nowhere.
        if route.prefix.is_link_local_v6() && route.length >= 10 && route.kind != RouteKind::Local {
            return;
        }
        let rank = (u32::from(route.table != table::LOCAL), route.metric);
        let host_bits = width(route.prefix) - route.length;
        let first = route.prefix.0 & last;
        let range = (first, first | (1u128.checked_shl(host_bits.into()).unwrap_or(0).wrapping_sub(1)));
        if layer.get(&range).is_some_and(|&(known, _)| known <= rank) {
            return;
        }
        if let Some(target) = self.target_of(route) {
            layer.insert(range, (rank, target));
        }
    }

    /// `None` when no hop of the route can be used.
    fn target_of(&mut self, route: &RouteInfo) -> Option<u32> {
        let target = match route.kind {
            RouteKind::Unicast => return self.unicast(route),
            RouteKind::Local => Target::Local,
            RouteKind::Broadcast => Target::Broadcast,
            RouteKind::Unreachable => Target::Unreachable,
            RouteKind::Blackhole => Target::Blackhole,
            RouteKind::Throw => Target::Throw,
        };
        Some(fixed(target))
    }

    fn unicast(&mut self, route: &RouteInfo) -> Option<u32> {
        let mut weight_up_to = 0;
        let mut hops = Vec::with_capacity(route.hops.len());
        for hop in &route.hops {
            let Some(link) = self.database.link_is_up(hop.ifindex) else { continue };
            let source = route.source.unwrap_or_else(|| self.database.source(route.prefix, route.length, hop));
            weight_up_to += u64::from(hop.weight.max(1));
            hops.push(WeightedHop {
                weight_up_to,
                hop: Hop {
                    interface: self.database.interface(hop.ifindex),
                    gateway: hop.via,
                    source,
                    mtu: route.mtu.unwrap_or(link.mtu),
                },
            });
        }
        if let Some(&known) = self.known.get(&hops) {
            return Some(known);
        }
        let target = match hops.as_slice() {
            [] => return None,
            [single] => Target::Hop(single.hop),
            several => {
                let first = self.hops.len() as u32;
                self.hops.extend_from_slice(several);
                Target::Hops { first, count: several.len() as u32 }
            }
        };
        let index = self.targets.len() as u32;
        self.targets.push(target);
        self.known.insert(hops, index);
        Some(index)
    }
}

/// The number of a target without hops.
fn fixed(target: Target) -> u32 {
    FIXED_TARGETS.iter().position(|&other| other == target).map_or(0, |position| position as u32)
}

/// The targets without hops, with which each list of targets begins.
const FIXED_TARGETS: [Target; 5] =
    [Target::Unreachable, Target::Local, Target::Broadcast, Target::Blackhole, Target::Throw];

/// The routes that the kernel makes for an address (`net/ipv4/fib_frontend.c`, `fib_add_ifaddr`;
/// `net/ipv6/addrconf.c`, `addrconf_prefix_route`).
fn derived_routes(info: &AddressInfo) -> Vec<RouteInfo> {
    let &AddressInfo { ifindex, address, length, prefix_route } = info;
    let route = |table, prefix, length, kind, metric| RouteInfo {
        table,
        prefix,
        length,
        kind,
        metric,
        hops: vec![RouteHop { ifindex, via: None, weight: 1 }],
        source: Some(address),
        mtu: None,
    };
    let full = width(address);
    let mut routes = vec![route(table::LOCAL, address, full, RouteKind::Local, 0)];
    if !prefix_route || length >= full {
        return routes;
    }
    let prefix = address.masked(length);
    match (address.family(), ifindex == LOOPBACK) {
        (Family::V4, true) => routes.push(route(table::LOCAL, prefix, length, RouteKind::Local, 0)),
        (Family::V4, false) => {
            routes.push(route(table::MAIN, prefix, length, RouteKind::Unicast, 0));
            if length < LENGTH_WITHOUT_BROADCAST {
                let last = Address::v4(prefix.low_u32() | u32::MAX.checked_shr(length.into()).unwrap_or(0));
                routes.push(route(table::LOCAL, last, full, RouteKind::Broadcast, 0));
            }
        }
        (Family::V6, true) => {}
        (Family::V6, false) => {
            let mut connected = route(table::MAIN, prefix, length, RouteKind::Unicast, METRIC_OF_IPV6_ADDRESSES);
            connected.source = None;
            routes.push(connected);
        }
    }
    routes
}

#[cfg(test)]
mod tests;
