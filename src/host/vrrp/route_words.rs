//! Routes and rules in the words of `ip route add` and `ip rule add`, as keepalived's `virtual_routes`, `virtual_rules`,
//! `static_routes` and `static_rules` have them; pure, without a socket. Source: ip-route(8), ip-rule(8).
//!
//! Not understood, and said so: encapsulations, next-hop objects, MPLS, and metrics of TCP that nobody sets here.

use std::net::IpAddr;

use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteMetric, RouteNextHop, RouteNextHopFlags,
    RoutePreference, RouteProtocol, RouteScope, RouteType, RouteVia,
};
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleFlags, RuleMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use crate::base::{Address, Family};
use crate::host::vrrp::links::Links;
use crate::vrrp::{Attached, Name};

/// The protocol that routes of keepalived have (`RTPROT_KEEPALIVED`), by which they can be told from others.
const PROTOCOL_KEEPALIVED: u8 = 18;

/// A route or a rule that was understood; names of interfaces become numbers when it is installed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Prepared {
    /// A route.
    Route {
        /// All but the interfaces.
        message: RouteMessage,
        /// Interface of the route itself.
        interface: Option<Name>,
        /// Several next hops, with their interfaces.
        hops: Vec<(RouteNextHop, Option<Name>)>,
    },
    /// A rule.
    Rule(RuleMessage),
}

impl Prepared {
    /// Understands one. `table` gives the number of a routing table's name.
    ///
    /// # Errors
    /// One sentence about the first word that is not understood.
    pub fn new(attached: &Attached, table: &dyn Fn(&str) -> Option<u32>) -> Result<Self, String> {
        match attached {
            Attached::Route(line) => route(&mut Words::new(line), table),
            Attached::Rule(line) => rule(&mut Words::new(line), table),
        }
        .map_err(|reason| {
            let (kind, line) = match attached {
                Attached::Route(line) => ("route", line),
                Attached::Rule(line) => ("rule", line),
            };
            format!("{kind} `{line}': {reason}")
        })
    }

    /// The request that installs it, or takes it away.
    ///
    /// # Errors
    /// The name of an interface that is not there.
    pub fn request(&self, links: &Links, adds: bool) -> Result<RouteNetlinkMessage, Name> {
        match self {
            Prepared::Rule(message) if adds => Ok(RouteNetlinkMessage::NewRule(message.clone())),
            Prepared::Rule(message) => Ok(RouteNetlinkMessage::DelRule(message.clone())),
            Prepared::Route { message, interface, hops } => {
                let mut message = message.clone();
                let index = |name: &Name| links.index(name).ok_or_else(|| name.clone());
                if let Some(name) = interface {
                    message.attributes.push(RouteAttribute::Oif(index(name)?));
                }
                let mut all = Vec::new();
                for (hop, name) in hops {
                    let mut hop = hop.clone();
                    if let Some(name) = name {
                        hop.interface_index = index(name)?;
                    }
                    all.push(hop);
                }
                if !all.is_empty() {
                    message.attributes.push(RouteAttribute::MultiPath(all));
                }
                Ok(if adds { RouteNetlinkMessage::NewRoute(message) } else { RouteNetlinkMessage::DelRoute(message) })
            }
        }
    }
}

struct Words<'a> {
    words: std::iter::Peekable<std::str::SplitWhitespace<'a>>,
}

impl<'a> Words<'a> {
    fn new(line: &'a str) -> Self {
        Self { words: line.split_whitespace().peekable() }
    }

    fn value(&mut self, of: &str) -> Result<&'a str, String> {
        self.words.next().ok_or_else(|| format!("`{of}' has no value"))
    }

    fn number<T: std::str::FromStr>(&mut self, of: &str) -> Result<T, String> {
        let word = self.value(of)?;
        word.parse().map_err(|_| format!("`{of} {word}' is no number that can be"))
    }

    fn address(&mut self, of: &str) -> Result<Address, String> {
        let word = self.value(of)?;
        word.parse().map_err(|_| format!("`{of} {word}' is no address"))
    }
}

/// An address with a prefix; without one it is a host. `default`, `any` and `all` are everything, of no family.
fn prefix(word: &str) -> Result<Option<(Address, u8)>, String> {
    if ["default", "any", "all"].contains(&word) {
        return Ok(None);
    }
    let (address, length) = match word.split_once('/') {
        Some((address, length)) => (address, Some(length)),
        None => (word, None),
    };
    let address: Address = address.parse().map_err(|_| format!("`{word}' is neither a word nor an address"))?;
    let longest = if address.is_v4() { 32 } else { 128 };
    let length = match length {
        None => longest,
        Some(length) => length.parse().ok().filter(|&it| it <= longest).ok_or(format!("`{word}' has no prefix"))?,
    };
    Ok(Some((address, length)))
}

fn family_of(address: Address) -> AddressFamily {
    if address.family() == Family::V4 { AddressFamily::Inet } else { AddressFamily::Inet6 }
}

/// A number in decimal or with 0x.
fn number(word: &str) -> Option<u32> {
    match word.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => word.parse().ok(),
    }
}

fn table_number(word: &str, table: &dyn Fn(&str) -> Option<u32>) -> Result<u32, String> {
    let known = match word {
        "main" => Some(254),
        "local" => Some(255),
        "default" => Some(253),
        _ => number(word),
    };
    known.or_else(|| table(word)).ok_or_else(|| format!("`{word}' is no routing table"))
}

fn kind_of(word: &str) -> Option<RouteType> {
    Some(match word {
        "unicast" => RouteType::Unicast,
        "local" => RouteType::Local,
        "broadcast" => RouteType::Broadcast,
        "anycast" => RouteType::Anycast,
        "multicast" => RouteType::Multicast,
        "throw" => RouteType::Throw,
        "unreachable" => RouteType::Unreachable,
        "prohibit" => RouteType::Prohibit,
        "blackhole" => RouteType::BlackHole,
        _ => return None,
    })
}

fn scope_of(word: &str) -> Result<RouteScope, String> {
    Ok(match word {
        "global" | "universe" => RouteScope::Universe,
        "site" => RouteScope::Site,
        "link" => RouteScope::Link,
        "host" => RouteScope::Host,
        "nowhere" => RouteScope::NoWhere,
        other => other.parse::<u8>().map(RouteScope::from).map_err(|_| format!("`{other}' is no scope"))?,
    })
}

/// A gateway: of the route's own family, or of another.
fn gateway(family: Option<AddressFamily>, address: Address) -> RouteAttribute {
    match (family, address.to_ip()) {
        (Some(AddressFamily::Inet), IpAddr::V6(ip)) => RouteAttribute::Via(RouteVia::Inet6(ip)),
        (_, ip) => RouteAttribute::Gateway(ip.into()),
    }
}

/// The address behind `via`, with or without its family's name.
fn via(words: &mut Words<'_>) -> Result<Address, String> {
    if matches!(words.words.peek(), Some(&("inet" | "inet6"))) {
        words.words.next();
    }
    words.address("via")
}

struct RouteParts {
    kind: RouteType,
    destination: Option<Option<(Address, u8)>>,
    source_prefix: Option<(Address, u8)>,
    scope: Option<RouteScope>,
    gateways: Vec<Address>,
    table: u32,
    protocol: RouteProtocol,
    tos: u8,
    flags: RouteFlags,
    attributes: Vec<RouteAttribute>,
    metrics: Vec<RouteMetric>,
    locked: u32,
    interface: Option<Name>,
    hops: Vec<(RouteNextHop, Option<Name>, Option<Address>)>,
}

fn route(words: &mut Words<'_>, table: &dyn Fn(&str) -> Option<u32>) -> Result<Prepared, String> {
    let mut parts = RouteParts {
        kind: RouteType::Unicast,
        destination: None,
        source_prefix: None,
        scope: None,
        gateways: Vec::new(),
        table: 254,
        protocol: RouteProtocol::from(PROTOCOL_KEEPALIVED),
        tos: 0,
        flags: RouteFlags::empty(),
        attributes: Vec::new(),
        metrics: Vec::new(),
        locked: 0,
        interface: None,
        hops: Vec::new(),
    };
    while let Some(word) = words.words.next() {
        route_word(word, words, table, &mut parts)?;
    }
    finish_route(parts)
}

fn route_word(
    word: &str,
    words: &mut Words<'_>,
    table: &dyn Fn(&str) -> Option<u32>,
    parts: &mut RouteParts,
) -> Result<(), String> {
    if let (Some(kind), None) = (kind_of(word), &parts.destination) {
        parts.kind = kind;
        return Ok(());
    }
    match word {
        "to" => parts.destination = Some(prefix(words.value(word)?)?),
        "via" | "gw" | "or" => parts.gateways.push(via(words)?),
        "dev" | "oif" => parts.interface = Some(words.value(word)?.into()),
        "src" => parts.attributes.push(RouteAttribute::PrefSource(words.address(word)?.to_ip().into())),
        "from" => parts.source_prefix = prefix(words.value(word)?)?,
        "table" => parts.table = table_number(words.value(word)?, table)?,
        "metric" | "priority" | "preference" => {
            parts.attributes.push(RouteAttribute::Priority(words.number(word)?));
        }
        "scope" => parts.scope = Some(scope_of(words.value(word)?)?),
        "proto" | "protocol" => {
            parts.protocol = match words.value(word)? {
                "kernel" => RouteProtocol::Kernel,
                "boot" => RouteProtocol::Boot,
                "static" => RouteProtocol::Static,
                "ra" => RouteProtocol::Ra,
                "keepalived" => RouteProtocol::from(PROTOCOL_KEEPALIVED),
                other => other.parse::<u8>().map(Into::into).map_err(|_| format!("`{other}' is no protocol"))?,
            }
        }
        "tos" | "dsfield" => {
            let word = words.value(word)?;
            parts.tos = number(word).and_then(|it| u8::try_from(it).ok()).ok_or(format!("`{word}' is no tos"))?;
        }
        "onlink" => parts.flags |= RouteFlags::Onlink,
        "pref" => {
            let preference = match words.value(word)? {
                "low" => RoutePreference::Low,
                "medium" => RoutePreference::Medium,
                "high" => RoutePreference::High,
                other => return Err(format!("`{other}' is no preference")),
            };
            parts.attributes.push(RouteAttribute::Preference(preference));
        }
        "mtu" | "advmss" | "hoplimit" | "initcwnd" | "initrwnd" | "window" | "reordering" | "quickack" => {
            metric(word, words, parts)?;
        }
        "nexthop" => parts.hops.push(hop(words)?),
        "no_track" => {}
        "track_group" => {
            words.value(word)?;
        }
        other if parts.destination.is_none() => parts.destination = Some(prefix(other)?),
        other => return Err(format!("`{other}' is not understood")),
    }
    Ok(())
}

fn metric(word: &str, words: &mut Words<'_>, parts: &mut RouteParts) -> Result<(), String> {
    let is_locked = words.words.next_if_eq(&"lock").is_some();
    let value = words.number(word)?;
    // The numbers are those of RTAX_*.
    let (number, metric) = match word {
        "mtu" => (2, RouteMetric::Mtu(value)),
        "window" => (3, RouteMetric::Window(value)),
        "advmss" => (8, RouteMetric::Advmss(value)),
        "reordering" => (9, RouteMetric::Reordering(value)),
        "hoplimit" => (10, RouteMetric::Hoplimit(value)),
        "initcwnd" => (11, RouteMetric::InitCwnd(value)),
        "initrwnd" => (14, RouteMetric::InitRwnd(value)),
        _ => (15, RouteMetric::QuickAck(value)),
    };
    if is_locked {
        parts.locked |= 1 << number;
    }
    parts.metrics.push(metric);
    Ok(())
}

/// `via ADDRESS dev NAME weight N onlink`, up to the next hop or the end.
fn hop(words: &mut Words<'_>) -> Result<(RouteNextHop, Option<Name>, Option<Address>), String> {
    let mut hop = RouteNextHop::default();
    let (mut interface, mut gateway) = (None, None);
    while let Some(&word) = words.words.peek() {
        match word {
            "nexthop" => break,
            "via" | "dev" | "weight" | "onlink" => {
                words.words.next();
            }
            other => return Err(format!("`{other}' is not understood in a next hop")),
        }
        match word {
            "via" => gateway = Some(via(words)?),
            "dev" => interface = Some(words.value(word)?.into()),
            "weight" => {
                let weight: u16 = words.number(word)?;
                hop.hops = u8::try_from(weight.wrapping_sub(1)).map_err(|_| "a weight is 1 to 256".to_owned())?;
            }
            _ => hop.flags |= RouteNextHopFlags::Onlink,
        }
    }
    Ok((hop, interface, gateway))
}

fn finish_route(mut parts: RouteParts) -> Result<Prepared, String> {
    let Some(destination) = parts.destination else { return Err("it has no destination".to_owned()) };
    // `via A or B` is keepalived's old way to write two next hops.
    if parts.gateways.len() > 1 {
        for gateway in std::mem::take(&mut parts.gateways) {
            parts.hops.push((RouteNextHop::default(), parts.interface.clone(), Some(gateway)));
        }
        parts.interface = None;
    }
    let known = destination
        .map(|(address, _)| address)
        .or(parts.gateways.first().copied())
        .or_else(|| parts.hops.iter().find_map(|(_, _, gateway)| *gateway))
        .or_else(|| parts.source_prefix.map(|(address, _)| address));
    let family = known.map(family_of).unwrap_or_else(|| {
        let is_v6 = |it: &RouteAttribute| matches!(it, RouteAttribute::PrefSource(RouteAddress::Inet6(_)));
        if parts.attributes.iter().any(is_v6) { AddressFamily::Inet6 } else { AddressFamily::Inet }
    });
    let mut message = RouteMessage::default();
    let is_local = matches!(parts.kind, RouteType::Local);
    let has_gateway = !parts.gateways.is_empty() || !parts.hops.is_empty();
    let discards = !matches!(parts.kind, RouteType::Unicast | RouteType::Local | RouteType::Broadcast);
    // What ip-route(8) takes where no scope is said.
    let scope = parts.scope.unwrap_or(match () {
        () if family == AddressFamily::Inet6 || has_gateway || discards => RouteScope::Universe,
        () if is_local => RouteScope::Host,
        () => RouteScope::Link,
    });
    message.header = RouteHeader {
        address_family: family,
        destination_prefix_length: destination.map_or(0, |(_, length)| length),
        source_prefix_length: parts.source_prefix.map_or(0, |(_, length)| length),
        tos: parts.tos,
        table: u8::try_from(parts.table).unwrap_or(RouteHeader::RT_TABLE_UNSPEC),
        protocol: parts.protocol,
        scope,
        kind: parts.kind,
        flags: parts.flags,
    };
    message.attributes = parts.attributes;
    message.attributes.push(RouteAttribute::Table(parts.table));
    if let Some((address, _)) = destination {
        message.attributes.push(RouteAttribute::Destination(address.to_ip().into()));
    }
    if let Some((address, _)) = parts.source_prefix {
        message.attributes.push(RouteAttribute::Source(address.to_ip().into()));
    }
    if let Some(&address) = parts.gateways.first() {
        message.attributes.push(gateway(Some(family), address));
    }
    if parts.locked != 0 {
        parts.metrics.insert(0, RouteMetric::Lock(parts.locked));
    }
    if !parts.metrics.is_empty() {
        message.attributes.push(RouteAttribute::Metrics(parts.metrics));
    }
    let hops = parts.hops.into_iter().map(|(mut hop, interface, address)| {
        hop.attributes.extend(address.map(|address| gateway(Some(family), address)));
        (hop, interface)
    });
    Ok(Prepared::Route { message, interface: parts.interface, hops: hops.collect() })
}

fn rule(words: &mut Words<'_>, table: &dyn Fn(&str) -> Option<u32>) -> Result<Prepared, String> {
    let mut message = RuleMessage::default();
    let mut family = None;
    let mut chosen = None;
    message.header.action = RuleAction::ToTable;
    while let Some(word) = words.words.next() {
        match word {
            "from" | "to" => {
                let Some((address, length)) = prefix(words.value(word)?)? else { continue };
                family = Some(family_of(address));
                if word == "from" {
                    message.header.src_len = length;
                    message.attributes.push(RuleAttribute::Source(address.to_ip()));
                } else {
                    message.header.dst_len = length;
                    message.attributes.push(RuleAttribute::Destination(address.to_ip()));
                }
            }
            "table" | "lookup" => chosen = Some(table_number(words.value(word)?, table)?),
            "iif" | "dev" => message.attributes.push(RuleAttribute::Iifname(words.value(word)?.to_owned())),
            "oif" => message.attributes.push(RuleAttribute::Oifname(words.value(word)?.to_owned())),
            "priority" | "preference" | "pref" | "order" => {
                message.attributes.push(RuleAttribute::Priority(words.number(word)?));
            }
            "fwmark" => {
                let value = words.value(word)?;
                let (mark, mask) = value.split_once('/').map_or((value, None), |(mark, mask)| (mark, Some(mask)));
                let read = |text| number(text).ok_or_else(|| format!("`{value}' is no mark"));
                message.attributes.push(RuleAttribute::FwMark(read(mark)?));
                if let Some(mask) = mask {
                    message.attributes.push(RuleAttribute::FwMask(read(mask)?));
                }
            }
            "tos" | "dsfield" => {
                let word = words.value(word)?;
                message.header.tos =
                    number(word).and_then(|it| u8::try_from(it).ok()).ok_or(format!("`{word}' is no tos"))?;
            }
            "not" => message.header.flags |= RuleFlags::Invert,
            "suppress_prefixlength" => {
                message.attributes.push(RuleAttribute::SuppressPrefixLen(words.number(word)?));
            }
            "suppress_ifgroup" => message.attributes.push(RuleAttribute::SuppressIfGroup(words.number(word)?)),
            "goto" => {
                message.header.action = RuleAction::Goto;
                message.attributes.push(RuleAttribute::Goto(words.number(word)?));
            }
            "blackhole" => message.header.action = RuleAction::Blackhole,
            "unreachable" => message.header.action = RuleAction::Unreachable,
            "prohibit" => message.header.action = RuleAction::Prohibit,
            "nop" => message.header.action = RuleAction::Nop,
            "inet" => family = Some(AddressFamily::Inet),
            "inet6" => family = Some(AddressFamily::Inet6),
            "no_track" => {}
            other => return Err(format!("`{other}' is not understood")),
        }
    }
    message.header.family = family.unwrap_or(AddressFamily::Inet);
    if message.header.action == RuleAction::ToTable {
        let Some(number) = chosen else { return Err("it has no table".to_owned()) };
        message.header.table = u8::try_from(number).unwrap_or(0);
        message.attributes.push(RuleAttribute::Table(number));
    }
    Ok(Prepared::Rule(message))
}

/// The tables that `/etc/iproute2/rt_tables` names: number and name a line.
pub fn parse_tables(text: &str) -> Vec<(String, u32)> {
    let lines = text.lines().filter_map(|line| {
        let mut words = line.split('#').next()?.split_whitespace();
        let number = number(words.next()?)?;
        Some((words.next()?.to_owned(), number))
    });
    lines.collect()
}

#[cfg(test)]
mod tests;
