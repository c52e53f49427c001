//! Sockets on which advertisements come.
//!
//! - A raw socket an interface, family and protocol, bound to the interface: what is sent to groups.
//! - A raw socket a family and protocol for unicast, bound to none: what comes to an address of ours.
//! - A packet socket a virtual MAC. Frames whose source is the virtual MAC itself, as those of the other routers are, the
//!   kernel gives to the macvlan alone, whatever groups it is in; and joining a group there would make the kernel send
//!   reports from the virtual MAC, which belongs to another router yet.
//!
//! Each kind sees only what the others do not, so that no packet counts twice.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::net::sockopt;
use rustix::net::{AddressFamily, Protocol, RecvFlags, SocketFlags, SocketType, recv, socket_with};

use crate::base::{Address, Family};
use crate::host::sys::{self, FilterStep};
use crate::vrrp::Name;
use crate::wire::vrrp::{PROTOCOL, PROTOCOL_AUTHENTICATION, Received};
use crate::wire::{ethernet, ipv6};

/// Receive buffer asked for, octets: packets of a pause wait here. More than net.core.rmem_max is granted to who may.
const RECEIVE_OCTETS: usize = 1 << 20;
/// Packets that are taken from one socket before others, and timers, get their turn.
pub const BURST: usize = 64;
/// Sockets that are told of at once.
const READY: usize = 64;
/// Octets of the longest packet that is looked at; an advertisement has fewer.
const PACKET_OCTETS: usize = 8192;

/// What a socket is for.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Purpose {
    /// Groups on an interface, by kernel index; and its name.
    Group {
        /// Kernel index.
        index: u32,
        /// Its name.
        interface: Name,
        /// Family.
        family: Family,
        /// Whether the authentication header is before the message.
        is_authenticated: bool,
    },
    /// Unicast.
    Unicast {
        /// Family.
        family: Family,
        /// Whether the authentication header is before the message.
        is_authenticated: bool,
    },
    /// A macvlan of a virtual MAC, by kernel index.
    Virtual {
        /// Kernel index.
        index: u32,
        /// The interface below it.
        interface: Name,
        /// Family.
        family: Family,
    },
}

impl Purpose {
    /// Where packets come from, as the machine names it; of unicast whoever has the address says.
    pub fn interface(&self) -> Option<&Name> {
        match self {
            Purpose::Group { interface, .. } | Purpose::Virtual { interface, .. } => Some(interface),
            Purpose::Unicast { .. } => None,
        }
    }
}

/// An open one.
pub struct Receiver {
    socket: OwnedFd,
    purpose: Purpose,
    joined: BTreeSet<Address>,
}

/// All of them, and one descriptor to wait for.
pub struct Receivers {
    open: BTreeMap<u64, Receiver>,
    numbers: BTreeMap<Purpose, u64>,
    next: u64,
    epoll: OwnedFd,
}

impl Receivers {
    /// None is open.
    ///
    /// # Errors
    /// The kernel's.
    pub fn new() -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        Ok(Self { open: BTreeMap::new(), numbers: BTreeMap::new(), next: 0, epoll })
    }

    /// Opens what is wished for and not open, closes what is open and not wished for. What could not be opened is told.
    pub fn reconcile(&mut self, wished: &BTreeSet<Purpose>) -> Vec<(Purpose, io::Error)> {
        // A socket that is closed is waited for no more.
        self.open.retain(|_, receiver| wished.contains(&receiver.purpose));
        self.numbers.retain(|purpose, _| wished.contains(purpose));
        let mut failures = Vec::new();
        for purpose in wished {
            if self.numbers.contains_key(purpose) {
                continue;
            }
            let opened = Receiver::open(purpose).and_then(|receiver| {
                let data = epoll::EventData::new_u64(self.next);
                epoll::add(&self.epoll, &receiver.socket, data, epoll::EventFlags::IN)?;
                Ok(receiver)
            });
            match opened {
                Ok(receiver) => {
                    self.open.insert(self.next, receiver);
                    self.numbers.insert(purpose.clone(), self.next);
                    self.next += 1;
                }
                Err(error) => failures.push((purpose.clone(), error)),
            }
        }
        failures
    }

    /// Makes sockets of interfaces members of exactly these groups.
    pub fn level_groups(&mut self, wished: &BTreeSet<(Name, Address)>) -> Vec<(Name, Address, io::Error)> {
        let mut failures = Vec::new();
        for receiver in self.open.values_mut() {
            let Purpose::Group { index, interface, family, .. } = &receiver.purpose else { continue };
            let groups: BTreeSet<Address> = wished
                .iter()
                .filter(|(at, group)| at == interface && group.family() == *family)
                .map(|it| it.1)
                .collect();
            for &group in receiver.joined.difference(&groups) {
                // The interface may be gone, and its memberships with it.
                let _ = membership(&receiver.socket, group, *index, false);
            }
            let mut joined: BTreeSet<Address> = receiver.joined.intersection(&groups).copied().collect();
            for &group in groups.difference(&receiver.joined) {
                match membership(&receiver.socket, group, *index, true) {
                    Ok(()) => {
                        joined.insert(group);
                    }
                    Err(error) => failures.push((interface.clone(), group, error)),
                }
            }
            receiver.joined = joined;
        }
        failures
    }

    /// What is open.
    pub fn purposes(&self) -> impl Iterator<Item = &Purpose> {
        self.numbers.keys()
    }

    /// The numbers of sockets on which something waits, some of them; never waits itself.
    pub fn ready(&self) -> Vec<u64> {
        const NOW: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };
        let mut events = Vec::with_capacity(READY);
        // What cannot be waited for is looked at in the next round.
        let _ = epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&NOW));
        events.iter().map(|event: &epoll::Event| event.data.u64()).collect()
    }

    /// A socket by its number.
    pub fn get(&self, number: u64) -> Option<&Receiver> {
        self.open.get(&number)
    }
}

impl AsFd for Receivers {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}

fn membership(socket: &OwnedFd, group: Address, index: u32, joins: bool) -> io::Result<()> {
    let any = std::net::Ipv4Addr::UNSPECIFIED;
    match (group.to_ip(), joins) {
        (std::net::IpAddr::V4(group), true) => {
            sockopt::set_ip_add_membership_with_ifindex(socket, &group, &any, index)?;
        }
        (std::net::IpAddr::V4(group), false) => {
            sockopt::set_ip_drop_membership_with_ifindex(socket, &group, &any, index)?;
        }
        (std::net::IpAddr::V6(group), true) => sockopt::set_ipv6_add_membership(socket, &group, index)?,
        (std::net::IpAddr::V6(group), false) => sockopt::set_ipv6_drop_membership(socket, &group, index)?,
    }
    Ok(())
}

impl Receiver {
    fn open(purpose: &Purpose) -> io::Result<Self> {
        let socket = match purpose {
            Purpose::Group { interface, family, is_authenticated, .. } => {
                let socket = open_raw(*family, *is_authenticated)?;
                sys::bind_to_interface(&socket, interface)?;
                socket
            }
            Purpose::Unicast { family, is_authenticated } => open_raw(*family, *is_authenticated)?,
            Purpose::Virtual { index, family, .. } => open_packet(*index, *family)?,
        };
        Ok(Self { socket, purpose: purpose.clone(), joined: BTreeSet::new() })
    }

    /// What it is for.
    pub fn purpose(&self) -> &Purpose {
        &self.purpose
    }

    /// Hands over one packet with its destination; false when none waits. Packets of another kind are passed by.
    pub fn take(&self, buffer: &mut [u8], take: impl FnOnce(Address, Received<'_>)) -> bool {
        let is_group = matches!(self.purpose, Purpose::Group { .. } | Purpose::Virtual { .. });
        let (family, is_packet) = match self.purpose {
            Purpose::Group { family, .. } | Purpose::Unicast { family, .. } => (family, false),
            Purpose::Virtual { family, .. } => (family, true),
        };
        if family == Family::V6 && !is_packet {
            match sys::receive_v6(self.socket.as_fd(), buffer) {
                Ok(it) => {
                    let destination = Address::from(it.destination);
                    if destination.is_multicast() == is_group {
                        let payload = &buffer[..it.octets];
                        let (source, hop_limit) = (it.source.into(), it.hop_limit);
                        take(destination, Received::V6 { source, destination, hop_limit, payload });
                    }
                    return true;
                }
                // One that was not told of whole is passed by; errors of the socket are read by this and gone.
                Err(error) => return error.kind() == io::ErrorKind::InvalidData,
            }
        }
        let octets = match recv(&self.socket, &mut *buffer, RecvFlags::DONTWAIT) {
            Ok((_, octets)) => octets.min(PACKET_OCTETS),
            Err(_) => return false,
        };
        let packet = &buffer[..octets];
        match family {
            Family::V4 => {
                // Destination of the IP header; the machine checks all of it.
                let Some(destination) = packet.get(16..20).and_then(|octets| octets.try_into().ok()) else {
                    return true;
                };
                let destination = Address::v4(u32::from_be_bytes(destination));
                if destination.is_multicast() == is_group {
                    take(destination, Received::V4(packet));
                }
            }
            Family::V6 => {
                let Ok(ip) = ipv6::Packet::new_checked(packet) else { return true };
                let (source, destination, hop_limit) = (ip.source(), ip.destination(), ip.hop_limit());
                let payload = ipv6::HEADER_OCTETS..(ipv6::HEADER_OCTETS + ip.payload_length()).min(packet.len());
                if destination.is_multicast() == is_group {
                    take(destination, Received::V6 { source, destination, hop_limit, payload: &packet[payload] });
                }
            }
        }
        true
    }
}

impl AsFd for Receiver {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// A buffer for [`Receiver::take`].
pub fn buffer() -> Vec<u8> {
    vec![0; PACKET_OCTETS]
}

fn family_of(family: Family) -> AddressFamily {
    match family {
        Family::V4 => AddressFamily::INET,
        Family::V6 => AddressFamily::INET6,
    }
}

fn open_raw(family: Family, is_authenticated: bool) -> io::Result<OwnedFd> {
    let number = if is_authenticated { PROTOCOL_AUTHENTICATION } else { PROTOCOL };
    let protocol = std::num::NonZeroU32::new(number.into()).map(Protocol::from_raw);
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(family_of(family), SocketType::RAW, flags, protocol)?;
    match family {
        // Groups that others on this host have joined are none of ours.
        Family::V4 => sys::set_option(socket.as_fd(), libc::IPPROTO_IP, libc::IP_MULTICAST_ALL, 0)?,
        Family::V6 => {
            sys::set_option(socket.as_fd(), libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, 1)?;
            sys::set_option(socket.as_fd(), libc::IPPROTO_IPV6, libc::IPV6_RECVHOPLIMIT, 1)?;
            sys::set_option(socket.as_fd(), libc::IPPROTO_IPV6, libc::IPV6_MULTICAST_ALL, 0)?;
        }
    }
    widen(&socket);
    Ok(socket)
}

fn widen(socket: &OwnedFd) {
    if sockopt::set_socket_recv_buffer_size_force(socket, RECEIVE_OCTETS).is_err() {
        // Less only means that packets of a shorter pause wait.
        let _ = sockopt::set_socket_recv_buffer_size(socket, RECEIVE_OCTETS);
    }
}

const LOAD_OCTET: u16 = (libc::BPF_LD | libc::BPF_B | libc::BPF_ABS) as u16;
const JUMP_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

/// Packets of VRRP alone: the protocol stands at octet 9 of an IPv4 header, at octet 6 of an IPv6 header.
fn filter(family: Family) -> [FilterStep; 5] {
    let at = if family == Family::V4 { 9 } else { 6 };
    [
        (LOAD_OCTET, 0, 0, at),
        (JUMP_EQUAL, 1, 0, PROTOCOL.into()),
        (JUMP_EQUAL, 0, 1, PROTOCOL_AUTHENTICATION.into()),
        (RETURN, 0, 0, u32::MAX),
        (RETURN, 0, 0, 0),
    ]
}

fn open_packet(index: u32, family: Family) -> io::Result<OwnedFd> {
    // Without a protocol nothing comes before the filter is there.
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::PACKET, SocketType::DGRAM, flags, None)?;
    sys::set_filter(socket.as_fd(), &filter(family))?;
    let kind = if family == Family::V4 { ethernet::TYPE_IPV4 } else { ethernet::TYPE_IPV6 };
    sys::bind_packet(socket.as_fd(), index, kind)?;
    widen(&socket);
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the kernel would do with the filter.
    fn passes(steps: &[FilterStep], packet: &[u8]) -> bool {
        let (mut at, mut loaded) = (0, 0);
        loop {
            let (code, jt, jf, k) = steps[at];
            at += 1;
            match code {
                LOAD_OCTET => loaded = u32::from(packet[k as usize]),
                JUMP_EQUAL => at += usize::from(if loaded == k { jt } else { jf }),
                RETURN => return k > 0,
                other => panic!("{other}"),
            }
        }
    }

    #[test]
    fn the_filter_lets_vrrp_through_and_nothing_else() {
        for family in [Family::V4, Family::V6] {
            for protocol in 0..=u8::MAX {
                let mut packet = [0; 40];
                packet[if family == Family::V4 { 9 } else { 6 }] = protocol;
                assert_eq!(passes(&filter(family), &packet), protocol == 112 || protocol == 51, "{protocol}");
            }
        }
    }
}
