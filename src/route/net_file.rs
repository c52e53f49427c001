//! A network as lines of iproute2's words: what `lvx replay --net` reads.
//!
//! ```text
//! link add eth0 address 02:00:00:00:00:fe mtu 1500
//! addr add 10.0.0.254/24 dev eth0
//! route add default via 10.0.0.1 dev eth0
//! route add local 10.9.0.0/16 dev lo
//! link add link eth0 name eth0.7 type vlan id 7
//! neigh add 10.0.0.1 lladdr 02:00:00:00:00:01 dev eth0
//! sysctl net.ipv4.ip_forward=1
//! ```
//! Blank lines and what follows `#` are skipped; a leading `ip`, `ip -4` or `ip -6` is accepted; `del` undoes, and
//! `link set NAME up|down|address MAC|mtu N` changes. `lo` exists by itself.

use std::fmt;
use std::str::FromStr;

use crate::base::{Address, MacAddress};
use crate::route::{AddressInfo, Database, LinkInfo, NeighbourInfo, RouteHop, RouteInfo, RouteKind, VlanInfo, table};
use crate::wire::ethernet;

/// Octets of an IP packet on a link whose line names no MTU (Ethernet).
const MTU_DEFAULT: u32 = 1500;

/// What is wrong with a line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NetFileError {
    /// The line, counted from 1; 0 when a single line was parsed.
    pub line: usize,
    /// The word that was not understood; empty at the line's end.
    pub word: String,
    /// What was wrong with it.
    pub problem: &'static str,
}

impl fmt::Display for NetFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line != 0 {
            write!(f, "line {}: ", self.line)?;
        }
        match self.word.as_str() {
            "" => write!(f, "{} at the end of the line", self.problem),
            word => write!(f, "{} at `{word}'", self.problem),
        }
    }
}

impl std::error::Error for NetFileError {}

/// True to add, false to delete.
pub type Add = bool;

/// One line, understood. Interfaces are named; the database knows their indexes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum NetLine {
    /// `link add`, `link set`: what is `None` stays as it is, or takes a default.
    Link {
        /// Name.
        name: String,
        /// Ethernet address.
        mac: Option<MacAddress>,
        /// Octets of an IP packet.
        mtu: Option<u32>,
        /// Administratively up.
        up: Option<bool>,
        /// Of a VLAN device: the name of what carries it, tag protocol identifier and VLAN identifier.
        vlan: Option<(String, u16, u16)>,
    },
    /// `link del`.
    LinkDel {
        /// Name.
        name: String,
    },
    /// `addr add` and `addr del`.
    Addr {
        /// Which.
        add: Add,
        /// The address.
        address: Address,
        /// Prefix length, bits.
        length: u8,
        /// Interface.
        dev: String,
    },
    /// `route add` (also `replace`, `append`) and `route del`.
    Route {
        /// What is done.
        change: Change,
        /// The route; the `ifindex` of its hops is a position in `devs`.
        route: RouteInfo,
        /// Interfaces of the hops, in order; `None` is to be found by the gateway.
        devs: Vec<Option<String>>,
    },
    /// `neigh add` (also `replace`) and `neigh del`.
    Neigh {
        /// The neighbour.
        address: Address,
        /// Its link address; `None` to delete it.
        mac: Option<MacAddress>,
        /// Interface.
        dev: String,
    },
    /// `sysctl NAME=VALUE`: for the caller, no matter of routing.
    Sysctl {
        /// Name.
        name: String,
        /// Value.
        value: String,
    },
}

/// What a route line does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
    /// `add`, `replace`.
    Set,
    /// `append`.
    Append,
    /// `del`.
    Delete,
}

/// All lines of a file.
///
/// # Errors
/// The first line that is not understood.
pub fn parse(text: &str) -> Result<Vec<NetLine>, NetFileError> {
    let numbered = text.lines().enumerate();
    let lines = numbered.filter_map(|(index, line)| {
        parse_line(line).map_err(|error| NetFileError { line: index + 1, ..error }).transpose()
    });
    lines.collect()
}

/// One line; `None` when it says nothing.
///
/// # Errors
/// The word that is not understood.
pub fn parse_line(line: &str) -> Result<Option<NetLine>, NetFileError> {
    let text = line.split('#').next().unwrap_or_default();
    if let Some(assignment) = text.trim().strip_prefix("sysctl ") {
        return sysctl(assignment).map(Some);
    }
    let mut words = Words { rest: text.split_whitespace().collect(), v6: false };
    if words.take_if("ip") {
        words.v6 = words.take_if("-6");
        let _ = words.take_if("-4");
    }
    let Some(object) = words.next() else { return Ok(None) };
    let parsed = match object {
        "link" => link(&mut words),
        "addr" | "address" => addr(&mut words),
        "route" => route(&mut words),
        "neigh" | "neighbour" | "neighbor" => neigh(&mut words),
        other => Err(error(other, "unknown object")),
    }?;
    match words.next() {
        None => Ok(Some(parsed)),
        Some(word) => Err(error(word, "unexpected word")),
    }
}

/// The words of a line that are still to be read.
struct Words<'a> {
    rest: std::collections::VecDeque<&'a str>,
    v6: bool,
}

impl<'a> Words<'a> {
    fn next(&mut self) -> Option<&'a str> {
        self.rest.pop_front()
    }

    fn take_if(&mut self, word: &str) -> bool {
        self.rest.pop_front_if(|next| *next == word).is_some()
    }

    fn need(&mut self, problem: &'static str) -> Result<&'a str, NetFileError> {
        self.next().ok_or_else(|| error("", problem))
    }

    fn value<T: FromStr>(&mut self, problem: &'static str) -> Result<T, NetFileError> {
        let word = self.need(problem)?;
        word.parse().map_err(|_| error(word, problem))
    }

    fn prefix(&mut self) -> Result<(Address, u8), NetFileError> {
        let word = self.need("a prefix is needed")?;
        prefix(word, self.v6).ok_or_else(|| error(word, "not a prefix"))
    }
}

fn error(word: &str, problem: &'static str) -> NetFileError {
    NetFileError { line: 0, word: word.to_owned(), problem }
}

fn prefix(word: &str, v6: bool) -> Option<(Address, u8)> {
    if word == "default" {
        return Some((if v6 { Address::UNSPECIFIED_V6 } else { Address::UNSPECIFIED_V4 }, 0));
    }
    let (address, length) = match word.split_once('/') {
        Some((address, length)) => (address, Some(length.parse::<u8>().ok()?)),
        None => (word, None),
    };
    let address: Address = address.parse().ok()?;
    let full = if address.is_v4() { 32 } else { 128 };
    let length = length.unwrap_or(full);
    (length <= full).then_some((address, length))
}

fn sysctl(assignment: &str) -> Result<NetLine, NetFileError> {
    let (name, value) =
        assignment.split_once('=').ok_or_else(|| error(assignment.trim(), "sysctl takes NAME=VALUE"))?;
    Ok(NetLine::Sysctl { name: name.trim().to_owned(), value: value.trim().to_owned() })
}

fn link(words: &mut Words<'_>) -> Result<NetLine, NetFileError> {
    let verb = words.need("add, set or del is needed")?;
    if !matches!(verb, "add" | "set" | "del" | "delete") {
        return Err(error(verb, "unknown verb"));
    }
    let mut parent = None;
    if words.take_if("link") {
        parent = Some(words.need("a name is needed")?.to_owned());
    }
    let _ = words.take_if("dev") || words.take_if("name");
    let name = words.need("a name is needed")?.to_owned();
    if verb.starts_with("del") {
        return Ok(NetLine::LinkDel { name });
    }
    let (mut mac, mut mtu, mut up) = (None, None, (verb == "add").then_some(true));
    let mut vlan = None;
    while let Some(word) = words.next() {
        match word {
            "link" => parent = Some(words.need("a name is needed")?.to_owned()),
            "type" if words.take_if("vlan") => {
                let mut protocol = ethernet::TYPE_VLAN;
                if words.take_if("proto") || words.take_if("protocol") {
                    protocol = match words.need("a protocol is needed")? {
                        "802.1q" | "802.1Q" => ethernet::TYPE_VLAN,
                        "802.1ad" => ethernet::TYPE_SERVICE_VLAN,
                        other => return Err(error(other, "not 802.1q or 802.1ad")),
                    };
                }
                if !words.take_if("id") {
                    return Err(error("", "id is needed"));
                }
                vlan = Some((protocol, words.value("not a VLAN identifier")?));
            }
            "address" => mac = Some(words.value("not an Ethernet address")?),
            "mtu" => mtu = Some(words.value("not an MTU")?),
            "up" => up = Some(true),
            "down" => up = Some(false),
            other => return Err(error(other, "unknown word")),
        }
    }
    let vlan = match (parent, vlan) {
        (Some(parent), Some((protocol, id @ 0..=4094))) => Some((parent, protocol, id)),
        (None, None) => None,
        _ => return Err(error("", "a VLAN needs link, type vlan and id up to 4094")),
    };
    Ok(NetLine::Link { name, mac, mtu, up, vlan })
}

fn addr(words: &mut Words<'_>) -> Result<NetLine, NetFileError> {
    let add = add_or_del(words)?;
    let (address, length) = words.prefix()?;
    let mut dev = None;
    while let Some(word) = words.next() {
        match word {
            "dev" => dev = Some(words.need("a name is needed")?.to_owned()),
            // How the kernel announces or shows the address; routing does not depend on them.
            "nodad" | "home" => {}
            "scope" | "label" | "brd" | "broadcast" => drop(words.need("a value is needed")?),
            other => return Err(error(other, "unknown word")),
        }
    }
    let dev = dev.ok_or_else(|| error("", "dev is needed"))?;
    Ok(NetLine::Addr { add, address, length, dev })
}

fn add_or_del(words: &mut Words<'_>) -> Result<bool, NetFileError> {
    match words.need("add or del is needed")? {
        "add" | "replace" | "change" => Ok(true),
        "del" | "delete" => Ok(false),
        other => Err(error(other, "unknown verb")),
    }
}

fn neigh(words: &mut Words<'_>) -> Result<NetLine, NetFileError> {
    let add = add_or_del(words)?;
    let address = words.value("not an address")?;
    let (mut mac, mut dev) = (None, None);
    while let Some(word) = words.next() {
        match word {
            "lladdr" => mac = Some(words.value("not an Ethernet address")?),
            "dev" => dev = Some(words.need("a name is needed")?.to_owned()),
            "nud" => drop(words.need("a state is needed")?),
            other => return Err(error(other, "unknown word")),
        }
    }
    let dev = dev.ok_or_else(|| error("", "dev is needed"))?;
    if add && mac.is_none() {
        return Err(error("", "lladdr is needed"));
    }
    Ok(NetLine::Neigh { address, mac: mac.filter(|_| add), dev })
}

fn route(words: &mut Words<'_>) -> Result<NetLine, NetFileError> {
    let change = match words.need("add or del is needed")? {
        "add" | "replace" | "change" => Change::Set,
        "append" => Change::Append,
        "del" | "delete" => Change::Delete,
        other => return Err(error(other, "unknown verb")),
    };
    let kind = match words.rest.front().copied().unwrap_or_default() {
        "unicast" => Some(RouteKind::Unicast),
        "local" | "anycast" => Some(RouteKind::Local),
        "broadcast" | "multicast" => Some(RouteKind::Broadcast),
        "unreachable" | "prohibit" => Some(RouteKind::Unreachable),
        "blackhole" => Some(RouteKind::Blackhole),
        "throw" => Some(RouteKind::Throw),
        _ => None,
    };
    if kind.is_some() {
        let _ = words.next();
    }
    let kind = kind.unwrap_or(RouteKind::Unicast);
    let is_default = words.rest.front() == Some(&"default");
    let (prefix, length) = words.prefix()?;
    let table = if matches!(kind, RouteKind::Local | RouteKind::Broadcast) { table::LOCAL } else { table::MAIN };
    let hops = Vec::new();
    let mut route = RouteInfo { table, prefix, length, kind, metric: 0, hops, source: None, mtu: None };
    let mut metric = None;
    let mut hops: Vec<Nexthop> = Vec::new();
    let mut own = Nexthop::default();
    while let Some(word) = words.next() {
        match word {
            "src" => route.source = Some(words.value("not an address")?),
            "metric" | "priority" | "preference" => metric = Some(words.value("not a metric")?),
            "mtu" => {
                let _ = words.take_if("lock");
                route.mtu = Some(words.value("not an MTU")?);
            }
            "table" => route.table = table_number(words.need("a table is needed")?)?,
            "proto" | "protocol" | "scope" => drop(words.need("a value is needed")?),
            "onlink" => {}
            "nexthop" => hops.push(Nexthop::default()),
            "via" | "dev" | "weight" => hops.last_mut().unwrap_or(&mut own).read(word, words)?,
            other => return Err(error(other, "unknown word")),
        }
    }
    if own != Nexthop::default() || (hops.is_empty() && kind == RouteKind::Unicast && change != Change::Delete) {
        hops.insert(0, own);
    }
    for hop in &hops {
        if hop.via.is_none() && hop.dev.is_none() {
            return Err(error("", "via or dev is needed"));
        }
    }
    // `default` says no family: the gateway does.
    if is_default && hops.iter().any(|hop| hop.via.is_some_and(|via| !via.is_v4()) && !hop.crosses) {
        route.prefix = Address::UNSPECIFIED_V6;
    }
    route.metric = metric.unwrap_or(if route.prefix.is_v4() { 0 } else { METRIC_OF_IPV6_ROUTES });
    let mut devs = Vec::with_capacity(hops.len());
    for (position, hop) in hops.into_iter().enumerate() {
        route.hops.push(RouteHop { ifindex: position as u32, via: hop.via, weight: hop.weight.max(1) });
        devs.push(hop.dev);
    }
    Ok(NetLine::Route { change, route, devs })
}

/// Metric of an IPv6 route for which none is given (`IP6_RT_PRIO_USER`).
const METRIC_OF_IPV6_ROUTES: u32 = 1024;

fn table_number(word: &str) -> Result<u32, NetFileError> {
    match word {
        "local" => Ok(table::LOCAL),
        "main" => Ok(table::MAIN),
        "default" => Ok(table::DEFAULT),
        number => number.parse().map_err(|_| error(number, "unknown table")),
    }
}

/// The words of one hop.
#[derive(Default, PartialEq, Eq)]
struct Nexthop {
    via: Option<Address>,
    /// The gateway was written with its family: `via inet6 ADDRESS`.
    crosses: bool,
    dev: Option<String>,
    weight: u32,
}

impl Nexthop {
    fn read(&mut self, word: &str, words: &mut Words<'_>) -> Result<(), NetFileError> {
        match word {
            "via" => {
                self.crosses = words.take_if("inet6") || words.take_if("inet");
                self.via = Some(words.value("not an address")?);
            }
            "dev" => self.dev = Some(words.need("a name is needed")?.to_owned()),
            _ => self.weight = words.value("not a weight")?,
        }
        Ok(())
    }
}

impl Database {
    /// Does what a line says; a [`NetLine::Sysctl`] changes nothing here.
    ///
    /// # Errors
    /// An interface that does not exist, a gateway that no interface reaches, or a route that is not there.
    pub fn apply(&mut self, line: &NetLine) -> Result<(), NetFileError> {
        match line {
            NetLine::Link { name, mac, mtu, up, vlan: None } => self.apply_link(name, *mac, *mtu, *up, None),
            NetLine::Link { name, mac, mtu, up, vlan: Some((parent, protocol, id)) } => {
                let parent = self.dev(parent)?;
                let vlan = VlanInfo { parent, protocol: *protocol, id: *id };
                // A VLAN has its carrier's address and MTU unless told otherwise.
                let carrier = self.links.get(&parent).map(|link| (link.mac, link.mtu));
                let (mac, mtu) = (mac.or(carrier.map(|(mac, _)| mac)), mtu.or(carrier.map(|(_, mtu)| mtu)));
                self.apply_link(name, mac, mtu, *up, Some(vlan));
            }
            NetLine::LinkDel { name } => {
                let ifindex = self.dev(name)?;
                self.remove_link(ifindex);
            }
            NetLine::Addr { add, address, length, dev } => {
                let ifindex = self.dev(dev)?;
                let info = AddressInfo { ifindex, address: *address, length: *length, prefix_route: true };
                if *add { self.set_address(info) } else { self.remove_address(ifindex, *address) }
            }
            NetLine::Route { change, route, devs } => self.apply_route(*change, route, devs)?,
            NetLine::Neigh { address, mac, dev } => {
                let ifindex = self.dev(dev)?;
                self.set_neighbour(NeighbourInfo { ifindex, address: *address, mac: *mac });
            }
            NetLine::Sysctl { .. } => {}
        }
        Ok(())
    }

    fn dev(&self, name: &str) -> Result<u32, NetFileError> {
        self.ifindex(name).ok_or_else(|| error(name, "no such interface"))
    }

    fn apply_link(
        &mut self,
        name: &str,
        mac: Option<MacAddress>,
        mtu: Option<u32>,
        up: Option<bool>,
        vlan: Option<VlanInfo>,
    ) {
        let known = self.links.values().find(|link| link.name == name).cloned();
        let link = known.unwrap_or_else(|| LinkInfo {
            ifindex: self.links.last_key_value().map_or(1, |(&last, _)| last + 1),
            name: name.to_owned(),
            mac: MacAddress::default(),
            mtu: MTU_DEFAULT,
            up: false,
            vlan: None,
        });
        self.set_link(LinkInfo {
            mac: mac.unwrap_or(link.mac),
            mtu: mtu.unwrap_or(link.mtu),
            up: up.unwrap_or(link.up),
            vlan: vlan.or(link.vlan),
            ..link
        });
    }

    fn apply_route(&mut self, change: Change, route: &RouteInfo, devs: &[Option<String>]) -> Result<(), NetFileError> {
        let mut route = route.clone();
        for (hop, dev) in route.hops.iter_mut().zip(devs) {
            hop.ifindex = match (dev, hop.via) {
                (Some(dev), _) => self.dev(dev)?,
                (None, Some(via)) => self.dev_of_gateway(via)?,
                (None, None) => return Err(error("", "via or dev is needed")),
            };
        }
        let done = match change {
            Change::Set => self.set_route(route),
            Change::Append => self.append_route(route),
            Change::Delete => self.remove_route(&route),
        };
        match (done, change) {
            (true, _) => Ok(()),
            (false, Change::Delete) => Err(error("", "no such route")),
            (false, _) => Err(error("", "too many routes")),
        }
    }

    fn dev_of_gateway(&self, via: Address) -> Result<u32, NetFileError> {
        let holds = |info: &&AddressInfo| {
            info.address.family() == via.family() && via.masked(info.length) == info.address.masked(info.length)
        };
        let nearest = self.addresses.iter().filter(holds).max_by_key(|info| info.length);
        nearest.map(|info| info.ifindex).ok_or_else(|| error(&via.to_string(), "no interface reaches the gateway"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_line_and_word() {
        let message = |text: &str| parse(text).unwrap_err().to_string();
        assert_eq!(message("\n# x\nlink add eth0 adress 1"), "line 3: unknown word at `adress'");
        assert_eq!(message("addr add 10.0.0.1/33 dev eth0"), "line 1: not a prefix at `10.0.0.1/33'");
        assert_eq!(message("addr add 10.0.0.1/24"), "line 1: dev is needed at the end of the line");
        assert_eq!(message("route add 10.0.0.0/8"), "line 1: via or dev is needed at the end of the line");
        assert_eq!(message("neigh add 10.0.0.1 dev eth0"), "line 1: lladdr is needed at the end of the line");
        assert_eq!(message("rule add pref 1"), "line 1: unknown object at `rule'");
        assert_eq!(message("link del eth0 eth1"), "line 1: unexpected word at `eth1'");
        assert_eq!(message("sysctl a"), "line 1: sysctl takes NAME=VALUE at `a'");
    }

    #[test]
    fn lines_that_say_nothing_are_skipped() {
        assert_eq!(parse("\n   \n# all\n  # of it\n"), Ok(Vec::new()));
        let sysctl = NetLine::Sysctl { name: "net.ipv4.ip_forward".into(), value: "1".into() };
        assert_eq!(parse_line(" sysctl net.ipv4.ip_forward = 1 # on"), Ok(Some(sysctl)));
    }

    #[test]
    fn leading_words_and_families() {
        let prefix = |line: &str| match parse_line(line) {
            Ok(Some(NetLine::Route { route, .. })) => format!("{}/{} {}", route.prefix, route.length, route.metric),
            other => panic!("{line}: {other:?}"),
        };
        assert_eq!(prefix("route add default dev eth0"), "0.0.0.0/0 0");
        assert_eq!(prefix("ip -4 route add default dev eth0"), "0.0.0.0/0 0");
        assert_eq!(prefix("ip -6 route add default dev eth0"), "::/0 1024");
        assert_eq!(prefix("ip route add default via fd00::1"), "::/0 1024");
        assert_eq!(prefix("ip route add default via inet6 fe80::1 dev eth0 metric 7"), "0.0.0.0/0 7");
        assert_eq!(prefix("ip route replace 10.1.2.3/8 dev eth0 proto static"), "10.1.2.3/8 0");
    }

    #[test]
    fn what_does_not_exist_is_refused() {
        let mut database = Database::new(&[]);
        let mut apply = |line: &str| {
            let line = parse_line(line).unwrap().unwrap();
            database.apply(&line).map_err(|error| error.to_string())
        };
        assert_eq!(apply("addr add 10.0.0.1/24 dev eth0"), Err("no such interface at `eth0'".into()));
        assert_eq!(apply("link add eth0"), Ok(()));
        let gateway = "no interface reaches the gateway at `10.0.0.9'";
        assert_eq!(apply("route add default via 10.0.0.9"), Err(gateway.into()));
        assert_eq!(apply("addr add 10.0.0.1/24 dev eth0"), Ok(()));
        assert_eq!(apply("route add default via 10.0.0.9"), Ok(()));
        assert_eq!(apply("route del default"), Ok(()));
        assert_eq!(apply("route del default"), Err("no such route at the end of the line".into()));
    }
}
