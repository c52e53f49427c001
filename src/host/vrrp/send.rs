//! Sockets by which advertisements and announcements leave.
//!
//! Advertisements are whole IP packets and go out as they are (`IPPROTO_RAW`): to a group by the interface, or by the
//! macvlan that has the virtual MAC; to peers as the routes say. Announcements are whole frames.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddrV4, SocketAddrV6};
use std::num::NonZeroU32;
use std::os::fd::{AsFd, OwnedFd};

use rustix::net::sockopt;
use rustix::net::{AddressFamily, Protocol, SendFlags, SocketFlags, SocketType, sendto, socket_with};

use crate::base::{Address, Family};
use crate::host::sys;
use crate::host::vrrp::links::Links;

/// The priority of packets within the host: internetwork control, `TC_PRIO_CONTROL`.
const PRIORITY_CONTROL: i32 = 7;

/// The sockets, opened as they are needed.
#[derive(Default)]
pub struct Senders {
    /// By interface, 0 for whatever the routes say, and family.
    raw: BTreeMap<(u32, Family), OwnedFd>,
    packet: Option<OwnedFd>,
}

impl Senders {
    /// Sends an IP packet by an interface, or as the routes say.
    ///
    /// # Errors
    /// The kernel's.
    pub fn send_packet(
        &mut self,
        links: &Links,
        interface: Option<u32>,
        destination: Address,
        packet: &[u8],
    ) -> io::Result<()> {
        let index = interface.unwrap_or(0);
        let key = (index, destination.family());
        let socket = match self.raw.entry(key) {
            std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::btree_map::Entry::Vacant(entry) => {
                let name = interface.and_then(|index| links.get(index)).map(|link| &*link.name);
                entry.insert(open_raw(destination.family(), index, name)?)
            }
        };
        match destination.to_ip() {
            IpAddr::V4(address) => sendto(socket, packet, SendFlags::DONTWAIT, &SocketAddrV4::new(address, 0))?,
            IpAddr::V6(address) => {
                let scope = if destination.is_multicast() || destination.is_link_local_v6() { index } else { 0 };
                sendto(socket, packet, SendFlags::DONTWAIT, &SocketAddrV6::new(address, 0, 0, scope))?
            }
        };
        Ok(())
    }

    /// Sends a whole frame out of an interface.
    ///
    /// # Errors
    /// The kernel's.
    pub fn send_frame(&mut self, interface: u32, frame: &[u8]) -> io::Result<()> {
        let socket = match &mut self.packet {
            Some(socket) => socket,
            empty => {
                let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
                // Without a protocol it receives nothing.
                empty.insert(socket_with(AddressFamily::PACKET, SocketType::RAW, flags, None)?)
            }
        };
        sys::send_frame(socket.as_fd(), interface, frame)
    }

    /// Closes sockets of interfaces that are gone.
    pub fn prune(&mut self, links: &Links) {
        self.raw.retain(|&(index, _), _| index == 0 || links.get(index).is_some());
    }
}

fn open_raw(family: Family, index: u32, name: Option<&str>) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let any = std::net::Ipv4Addr::UNSPECIFIED;
    let domain = match family {
        Family::V4 => AddressFamily::INET,
        Family::V6 => AddressFamily::INET6,
    };
    let protocol = NonZeroU32::new(libc::IPPROTO_RAW as u32).map(Protocol::from_raw);
    let socket = socket_with(domain, SocketType::RAW, flags, protocol)?;
    sys::set_option(socket.as_fd(), libc::SOL_SOCKET, libc::SO_PRIORITY, PRIORITY_CONTROL)?;
    match family {
        Family::V4 => sockopt::set_ip_multicast_loop(&socket, false)?,
        Family::V6 => sockopt::set_ipv6_multicast_loop(&socket, false)?,
    }
    if let Some(name) = name {
        sys::bind_to_interface(&socket, name)?;
        match family {
            Family::V4 => sockopt::set_ip_multicast_if_with_ifindex(&socket, &any, &any, index)?,
            Family::V6 => sockopt::set_ipv6_multicast_if(&socket, index)?,
        }
    }
    Ok(socket)
}
