//! The kernel's routing messages (rtnetlink(7)) as facts for `route`; pure, without a socket.
//!
//! What cannot matter to a director is left out: bridge port messages, cached routes, multicast routes, other tables
//! than main, local and default, routes by type of service or by source, hops through an encapsulation.

use std::net::IpAddr;

use netlink_packet_core::{NLM_F_REPLACE, NetlinkHeader};
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage};
use netlink_packet_route::link::{
    InfoData, InfoVlan, LinkAttribute, LinkFlags, LinkInfo as LinkKindInfo, LinkMessage, VlanProtocol,
};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourExtFlags, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteMetric, RouteNextHop, RouteNextHopFlags, RouteType,
    RouteVia,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::NetlinkEvent;
use crate::base::{Address, MacAddress};
use crate::route::{AddressInfo, LinkInfo, NeighbourInfo, RouteHop, RouteInfo, RouteKind, VlanInfo, table};
use crate::wire::ethernet;

/// The event that a message stands for, if any. The header tells whether a route replaces others.
pub(super) fn translate(header: &NetlinkHeader, message: &RouteNetlinkMessage) -> Option<NetlinkEvent> {
    match message {
        RouteNetlinkMessage::NewLink(message) => link(message).map(NetlinkEvent::Link),
        RouteNetlinkMessage::DelLink(message) => {
            link(message).map(|gone| NetlinkEvent::LinkGone { ifindex: gone.ifindex })
        }
        RouteNetlinkMessage::NewAddress(message) => address(message).map(|(info, usable)| match usable {
            true => NetlinkEvent::Address(info),
            false => NetlinkEvent::AddressGone { ifindex: info.ifindex, address: info.address },
        }),
        RouteNetlinkMessage::DelAddress(message) => {
            address(message).map(|(info, _)| NetlinkEvent::AddressGone { ifindex: info.ifindex, address: info.address })
        }
        RouteNetlinkMessage::NewRoute(message) => route(message).map(|route| {
            // An IPv6 message with several hops tells all of them, also when one was appended.
            let whole = message.header.address_family == AddressFamily::Inet6 && route.hops.len() > 1;
            NetlinkEvent::Route { route, replaces: whole || header.flags & NLM_F_REPLACE != 0 }
        }),
        RouteNetlinkMessage::DelRoute(message) => route(message).map(NetlinkEvent::RouteGone),
        RouteNetlinkMessage::NewNeighbour(message) => neighbour(message).map(|found| NetlinkEvent::Neighbour {
            info: found.info,
            fixed: found.fixed,
            managed: found.managed,
        }),
        RouteNetlinkMessage::DelNeighbour(message) => neighbour(message)
            .map(|gone| NetlinkEvent::NeighbourGone { ifindex: gone.info.ifindex, address: gone.info.address }),
        _ => None,
    }
}

fn link(message: &LinkMessage) -> Option<LinkInfo> {
    // A bridge announces its ports as links of its own family; "gone" means that the port has left the bridge.
    if message.header.interface_family != AddressFamily::Unspec {
        return None;
    }
    let mut info = LinkInfo {
        ifindex: message.header.index,
        name: String::new(),
        mac: MacAddress::default(),
        mtu: 0,
        up: message.header.flags.contains(LinkFlags::Up),
        vlan: None,
    };
    let mut parent = None;
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => info.name.clone_from(name),
            LinkAttribute::Mtu(mtu) => info.mtu = *mtu,
            LinkAttribute::Address(octets) => info.mac = mac(octets).unwrap_or_default(),
            LinkAttribute::Link(index) => parent = Some(*index),
            LinkAttribute::LinkInfo(infos) => info.vlan = infos.iter().find_map(vlan),
            _ => {}
        }
    }
    // The carrier's index stands beside, before or after. One in another network namespace carries nothing here.
    info.vlan = info.vlan.zip(parent).map(|(vlan, parent)| VlanInfo { parent, ..vlan });
    Some(info)
}

/// What a link's own attributes say of its VLAN; its carrier is still to be said.
fn vlan(info: &LinkKindInfo) -> Option<VlanInfo> {
    let LinkKindInfo::Data(InfoData::Vlan(attributes)) = info else { return None };
    let (mut protocol, mut id) = (ethernet::TYPE_VLAN, None);
    for attribute in attributes {
        match attribute {
            InfoVlan::Id(number) => id = Some(*number),
            InfoVlan::Protocol(VlanProtocol::Ieee8021Ad) => protocol = ethernet::TYPE_SERVICE_VLAN,
            _ => {}
        }
    }
    Some(VlanInfo { parent: 0, protocol, id: id? })
}

fn mac(octets: &[u8]) -> Option<MacAddress> {
    octets.try_into().ok().map(MacAddress)
}

/// The interface's own address, and all of its flags.
pub(in crate::host) fn own_address(message: &AddressMessage) -> Option<(IpAddr, AddressFlags)> {
    let (mut local, mut remote) = (None, None);
    let mut flags = AddressFlags::from_bits_retain(u32::from(AddressHeaderFlags::bits(&message.header.flags)));
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(ip) => local = Some(*ip),
            AddressAttribute::Address(ip) => remote = Some(*ip),
            AddressAttribute::Flags(all) => flags = *all,
            _ => {}
        }
    }
    // On a point-to-point link "address" is the peer's.
    Some((local.or(remote)?, flags))
}

/// The address, and whether it may be used.
fn address(message: &AddressMessage) -> Option<(AddressInfo, bool)> {
    let (ip, flags) = own_address(message)?;
    let tentative = flags.contains(AddressFlags::Tentative) && !flags.contains(AddressFlags::Optimistic);
    let usable = !tentative && !flags.contains(AddressFlags::Dadfailed);
    let info = AddressInfo {
        ifindex: message.header.index,
        address: ip.into(),
        length: message.header.prefix_len,
        prefix_route: false,
    };
    Some((info, usable))
}

fn route(message: &RouteMessage) -> Option<RouteInfo> {
    let header = &message.header;
    let unspecified = match header.address_family {
        AddressFamily::Inet => Address::UNSPECIFIED_V4,
        AddressFamily::Inet6 => Address::UNSPECIFIED_V6,
        _ => return None,
    };
    if header.flags.contains(RouteFlags::Cloned) || header.tos != 0 || header.source_prefix_length != 0 {
        return None;
    }
    let kind = match header.kind {
        RouteType::Unicast => RouteKind::Unicast,
        RouteType::Local | RouteType::Anycast => RouteKind::Local,
        RouteType::Broadcast => RouteKind::Broadcast,
        RouteType::Unreachable | RouteType::Prohibit => RouteKind::Unreachable,
        RouteType::BlackHole => RouteKind::Blackhole,
        RouteType::Throw => RouteKind::Throw,
        _ => return None,
    };
    let mut info = RouteInfo {
        table: header.table.into(),
        prefix: unspecified,
        length: header.destination_prefix_length,
        kind,
        metric: 0,
        hops: Vec::new(),
        source: None,
        mtu: None,
    };
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Table(number) => info.table = *number,
            RouteAttribute::Destination(to) => info.prefix = route_address(to)?,
            RouteAttribute::Priority(metric) => info.metric = *metric,
            RouteAttribute::PrefSource(source) => info.source = route_address(source),
            RouteAttribute::Metrics(metrics) => {
                info.mtu = metrics.iter().find_map(|metric| match metric {
                    RouteMetric::Mtu(mtu) if *mtu > 0 => Some(*mtu),
                    _ => None,
                });
            }
            RouteAttribute::MultiPath(hops) => info.hops.extend(hops.iter().filter_map(next_hop)),
            _ => {}
        }
    }
    if ![table::MAIN, table::LOCAL, table::DEFAULT].contains(&info.table) {
        return None;
    }
    if info.hops.is_empty() {
        let ifindex = message.attributes.iter().find_map(|attribute| match attribute {
            RouteAttribute::Oif(ifindex) => Some(*ifindex),
            _ => None,
        });
        if let Some(ifindex) = ifindex.filter(|_| !header.flags.contains(RouteFlags::Dead)) {
            info.hops.extend(hop(ifindex, 1, &message.attributes));
        }
    }
    // All its hops are dead, or lead into an encapsulation.
    if kind == RouteKind::Unicast && info.hops.is_empty() { None } else { Some(info) }
}

fn next_hop(message: &RouteNextHop) -> Option<RouteHop> {
    // A hop comes back with its link, and then the routes are asked for anew.
    if message.flags.contains(RouteNextHopFlags::Dead) {
        return None;
    }
    hop(message.interface_index, u32::from(message.hops) + 1, &message.attributes)
}

fn hop(ifindex: u32, weight: u32, attributes: &[RouteAttribute]) -> Option<RouteHop> {
    let mut via = None;
    for attribute in attributes {
        match attribute {
            RouteAttribute::Gateway(gateway) => via = Some(route_address(gateway)?),
            RouteAttribute::Via(RouteVia::Inet(gateway)) => via = Some((*gateway).into()),
            RouteAttribute::Via(RouteVia::Inet6(gateway)) => via = Some((*gateway).into()),
            RouteAttribute::Via(_) | RouteAttribute::EncapType(_) => return None,
            _ => {}
        }
    }
    Some(RouteHop { ifindex, via, weight })
}

fn route_address(address: &RouteAddress) -> Option<Address> {
    match address {
        RouteAddress::Inet(v4) => Some((*v4).into()),
        RouteAddress::Inet6(v6) => Some((*v6).into()),
        _ => None,
    }
}

struct Neighbour {
    info: NeighbourInfo,
    fixed: bool,
    managed: bool,
}

fn neighbour(message: &NeighbourMessage) -> Option<Neighbour> {
    let header = &message.header;
    if header.flags.contains(NeighbourFlags::Proxy) {
        return None;
    }
    let (mut ip, mut link_address, mut managed) = (None, None, false);
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) => ip = Some(Address::from(*v4)),
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) => ip = Some(Address::from(*v6)),
            NeighbourAttribute::LinkLayerAddress(octets) => link_address = mac(octets),
            NeighbourAttribute::ExtFlags(flags) => managed = flags.contains(NeighbourExtFlags::Managed),
            _ => {}
        }
    }
    // A failed entry may still carry the link address it once had.
    let known = matches!(
        header.state,
        NeighbourState::Reachable
            | NeighbourState::Stale
            | NeighbourState::Delay
            | NeighbourState::Probe
            | NeighbourState::Permanent
            | NeighbourState::Noarp
    );
    let info = NeighbourInfo { ifindex: header.ifindex, address: ip?, mac: link_address.filter(|_| known) };
    let fixed = matches!(header.state, NeighbourState::Permanent | NeighbourState::Noarp);
    Some(Neighbour { info, fixed, managed })
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn translated(flags: u16, message: RouteNetlinkMessage) -> Option<NetlinkEvent> {
        let mut header = NetlinkHeader::default();
        header.flags = flags;
        translate(&header, &message)
    }

    fn unicast() -> RouteMessage {
        let mut message = RouteMessage::default();
        message.header.address_family = AddressFamily::Inet;
        message.header.destination_prefix_length = 24;
        message.header.table = 254;
        message.header.kind = RouteType::Unicast;
        message.attributes = vec![
            RouteAttribute::Table(254),
            RouteAttribute::Destination(RouteAddress::Inet(Ipv4Addr::new(10, 1, 2, 0))),
            RouteAttribute::Priority(20),
            RouteAttribute::Gateway(RouteAddress::Inet(Ipv4Addr::new(192, 0, 2, 1))),
            RouteAttribute::Oif(3),
            RouteAttribute::Metrics(vec![RouteMetric::Advmss(1200), RouteMetric::Mtu(1400)]),
        ];
        message
    }

    #[test]
    fn routes_carry_hop_metric_and_mtu() {
        let expected = RouteInfo {
            table: 254,
            prefix: "10.1.2.0".parse().unwrap(),
            length: 24,
            kind: RouteKind::Unicast,
            metric: 20,
            hops: vec![RouteHop { ifindex: 3, via: Some("192.0.2.1".parse().unwrap()), weight: 1 }],
            source: None,
            mtu: Some(1400),
        };
        let event = translated(0, RouteNetlinkMessage::NewRoute(unicast()));
        assert_eq!(event, Some(NetlinkEvent::Route { route: expected.clone(), replaces: false }));
        let event = translated(NLM_F_REPLACE, RouteNetlinkMessage::NewRoute(unicast()));
        assert_eq!(event, Some(NetlinkEvent::Route { route: expected.clone(), replaces: true }));
        let event = translated(0, RouteNetlinkMessage::DelRoute(unicast()));
        assert_eq!(event, Some(NetlinkEvent::RouteGone(expected)));
    }

    #[test]
    fn routes_that_cannot_matter_are_left_out() {
        let changes: [fn(&mut RouteMessage); 7] = [
            |message| message.header.flags |= RouteFlags::Cloned,
            |message| message.header.tos = 8,
            |message| message.header.source_prefix_length = 24,
            |message| message.header.kind = RouteType::Multicast,
            |message| message.header.address_family = AddressFamily::Mpls,
            |message| message.attributes[0] = RouteAttribute::Table(1000),
            |message| message.header.flags |= RouteFlags::Dead,
        ];
        for (number, change) in changes.iter().enumerate() {
            let mut message = unicast();
            change(&mut message);
            assert_eq!(translated(0, RouteNetlinkMessage::NewRoute(message)), None, "change {number}");
        }
    }

    #[test]
    fn vlan_devices_name_their_carrier_and_tag() {
        let tagged = |protocol| {
            let data = InfoData::Vlan(vec![InfoVlan::Id(7), InfoVlan::Protocol(protocol)]);
            LinkAttribute::LinkInfo(vec![LinkKindInfo::Data(data)])
        };
        let name = LinkAttribute::IfName("eth0.7".into());
        for (attributes, expected) in [
            (vec![name.clone(), LinkAttribute::Link(2), tagged(VlanProtocol::Ieee8021Q)], Some((2, 0x8100))),
            (vec![tagged(VlanProtocol::Ieee8021Ad), name.clone(), LinkAttribute::Link(3)], Some((3, 0x88a8))),
            (vec![name.clone(), tagged(VlanProtocol::Ieee8021Q)], None),
            (vec![name.clone(), LinkAttribute::Link(2)], None),
        ] {
            let mut message = LinkMessage::default();
            message.header.index = 9;
            message.attributes = attributes;
            let event = translated(0, RouteNetlinkMessage::NewLink(message));
            let Some(NetlinkEvent::Link(link)) = event else { panic!("{event:?}") };
            let vlan = expected.map(|(parent, protocol)| VlanInfo { parent, protocol, id: 7 });
            assert_eq!((link.ifindex, &link.name[..], link.vlan), (9, "eth0.7", vlan));
        }
    }

    #[test]
    fn bridge_ports_are_no_links() {
        let mut message = LinkMessage::default();
        message.header.index = 7;
        message.attributes = vec![LinkAttribute::IfName("eth7".into()), LinkAttribute::Mtu(1500)];
        let event = translated(0, RouteNetlinkMessage::DelLink(message.clone()));
        assert_eq!(event, Some(NetlinkEvent::LinkGone { ifindex: 7 }));
        message.header.interface_family = AddressFamily::Bridge;
        assert_eq!(translated(0, RouteNetlinkMessage::DelLink(message)), None);
    }

    #[test]
    fn neighbours_have_a_link_address_while_it_is_valid() {
        use NeighbourState::{Delay, Failed, Incomplete, Noarp, None as Unset, Permanent, Probe, Reachable, Stale};
        for (state, known) in [
            (Reachable, true),
            (Stale, true),
            (Delay, true),
            (Probe, true),
            (Permanent, true),
            (Noarp, true),
            (Incomplete, false),
            (Failed, false),
            (Unset, false),
        ] {
            let mut message = NeighbourMessage::default();
            message.header.ifindex = 4;
            message.header.state = state;
            message.attributes = vec![
                NeighbourAttribute::Destination(NeighbourAddress::Inet(Ipv4Addr::new(10, 0, 0, 9))),
                NeighbourAttribute::LinkLayerAddress(vec![2, 0, 0, 0, 0, 9]),
            ];
            let mac = known.then_some(MacAddress([2, 0, 0, 0, 0, 9]));
            let info = NeighbourInfo { ifindex: 4, address: "10.0.0.9".parse().unwrap(), mac };
            let fixed = matches!(state, Permanent | Noarp);
            let event = translated(0, RouteNetlinkMessage::NewNeighbour(message));
            assert_eq!(event, Some(NetlinkEvent::Neighbour { info, fixed, managed: false }));
        }
    }

    #[test]
    fn addresses_that_are_not_yet_or_never_ours_are_gone() {
        for (flags, usable) in [
            (AddressFlags::Permanent, true),
            (AddressFlags::Tentative, false),
            (AddressFlags::Tentative | AddressFlags::Optimistic, true),
            (AddressFlags::Dadfailed, false),
        ] {
            let mut message = AddressMessage::default();
            message.header.index = 2;
            message.header.prefix_len = 64;
            let ip: IpAddr = "2001:db8::1".parse().unwrap();
            message.attributes = vec![AddressAttribute::Address(ip), AddressAttribute::Flags(flags)];
            let info = AddressInfo { ifindex: 2, address: ip.into(), length: 64, prefix_route: false };
            let expected = match usable {
                true => NetlinkEvent::Address(info),
                false => NetlinkEvent::AddressGone { ifindex: 2, address: ip.into() },
            };
            assert_eq!(translated(0, RouteNetlinkMessage::NewAddress(message)), Some(expected));
        }
    }
}
