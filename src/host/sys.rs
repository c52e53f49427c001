//! System calls that nobody else says safely.

#![allow(unsafe_code)]

use std::ffi::CStr;
use std::io;
use std::mem::{MaybeUninit, size_of, zeroed};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use crate::base::Family;

/// Octets of room for what the kernel tells beside a packet.
const CONTROL_OCTETS: usize = 128;

/// Octets of the longest interface name, its final zero included.
const NAME_OCTETS: usize = 16;

/// Makes a socket send and receive by this interface alone (`SO_BINDTODEVICE`, of which rustix has no form).
///
/// # Errors
/// The kernel's, as when there is no such interface.
pub fn bind_to_interface(socket: &OwnedFd, name: &str) -> io::Result<()> {
    let mut octets = [0u8; NAME_OCTETS];
    let length = name.len().min(NAME_OCTETS - 1);
    octets[..length].copy_from_slice(&name.as_bytes()[..length]);
    let descriptor = socket.as_fd().as_raw_fd();
    // SAFETY: the option's value is read from `octets`, of which `NAME_OCTETS` are there, and kept by nobody; the
    // descriptor is open as long as `socket` is.
    let result = unsafe {
        libc::setsockopt(
            descriptor,
            libc::SOL_SOCKET,
            libc::SO_BINDTODEVICE,
            octets.as_ptr().cast(),
            NAME_OCTETS as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Sets an option whose value is an `int` and that rustix does not know.
///
/// # Errors
/// The kernel's.
pub fn set_option(socket: BorrowedFd<'_>, level: i32, name: i32, value: i32) -> io::Result<()> {
    // SAFETY: the value is an int on this stack, its size is told, and the kernel keeps neither.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            (&raw const value).cast(),
            size_of::<i32>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// An instruction of a classic socket filter: code, jumps if true and if false, operand (`struct sock_filter`).
pub type FilterStep = (u16, u8, u8, u32);

/// Lets a socket receive only what a classic filter lets through.
///
/// # Errors
/// The kernel's, as for a filter that is not sound.
pub fn set_filter(socket: BorrowedFd<'_>, steps: &[FilterStep]) -> io::Result<()> {
    let mut program: Vec<libc::sock_filter> =
        steps.iter().map(|&(code, jt, jf, k)| libc::sock_filter { code, jt, jf, k }).collect();
    let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: the program points to as many instructions as it says, which live until the call returns; the kernel copies them.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const program).cast(),
            size_of::<libc::sock_fprog>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn link_address(interface: u32, protocol: u16) -> libc::sockaddr_ll {
    // SAFETY: all octets zero are a valid value of this plain structure.
    let mut address: libc::sockaddr_ll = unsafe { zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = protocol.to_be();
    address.sll_ifindex = interface as i32;
    address
}

/// Binds a packet socket to an interface and an Ethernet type.
///
/// # Errors
/// The kernel's, as when the interface is gone.
pub fn bind_packet(socket: BorrowedFd<'_>, interface: u32, protocol: u16) -> io::Result<()> {
    let address = link_address(interface, protocol);
    // SAFETY: the address is whole, its size is told, and the kernel copies it.
    let result = unsafe {
        libc::bind(socket.as_raw_fd(), (&raw const address).cast(), size_of::<libc::sockaddr_ll>() as libc::socklen_t)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Sends a whole frame out of an interface.
///
/// # Errors
/// The kernel's; `WouldBlock` when its buffer is full.
pub fn send_frame(socket: BorrowedFd<'_>, interface: u32, frame: &[u8]) -> io::Result<()> {
    let address = link_address(interface, 0);
    // SAFETY: frame and address are whole, their sizes are told, and the kernel copies both.
    let result = unsafe {
        libc::sendto(
            socket.as_raw_fd(),
            frame.as_ptr().cast(),
            frame.len(),
            libc::MSG_DONTWAIT,
            (&raw const address).cast(),
            size_of::<libc::sockaddr_ll>() as libc::socklen_t,
        )
    };
    if result >= 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// What a raw socket of IPv6 gives, and what the kernel tells beside it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReceivedV6 {
    /// Octets of the payload, in the caller's buffer.
    pub octets: usize,
    /// Source address.
    pub source: Ipv6Addr,
    /// Destination address (`IPV6_RECVPKTINFO`).
    pub destination: Ipv6Addr,
    /// Hop limit (`IPV6_RECVHOPLIMIT`).
    pub hop_limit: u8,
}

/// Takes one packet from a raw socket of IPv6 for which both options are set; never waits.
///
/// # Errors
/// The kernel's; `WouldBlock` when there is none; `InvalidData` when the kernel did not tell all, or the packet is longer
/// than the buffer.
pub fn receive_v6(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<ReceivedV6> {
    // SAFETY: all octets zero are a valid value of these plain structures.
    let (mut source, mut message): (libc::sockaddr_in6, libc::msghdr) = unsafe { (zeroed(), zeroed()) };
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    let mut control = MaybeUninit::<[u64; CONTROL_OCTETS / 8]>::zeroed();
    message.msg_name = (&raw mut source).cast();
    message.msg_namelen = size_of::<libc::sockaddr_in6>() as libc::socklen_t;
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = CONTROL_OCTETS as _;
    // SAFETY: all parts of the message point to memory of the sizes that it tells, which lives until the call returns.
    let octets = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, libc::MSG_DONTWAIT) };
    if octets < 0 {
        return Err(io::Error::last_os_error());
    }
    if message.msg_flags & (libc::MSG_TRUNC | libc::MSG_CTRUNC) != 0 {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let (mut destination, mut hop_limit) = (None, None);
    // SAFETY: the kernel has filled `msg_controllen` octets of the control buffer with whole messages, which these walk;
    // their data is read without alignment, and only of the two kinds whose layout is known.
    unsafe {
        let mut header = libc::CMSG_FIRSTHDR(&raw const message);
        while let Some(one) = header.as_ref() {
            let data = libc::CMSG_DATA(header);
            match (one.cmsg_level, one.cmsg_type) {
                (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                    let info = data.cast::<libc::in6_pktinfo>().read_unaligned();
                    destination = Some(Ipv6Addr::from(info.ipi6_addr.s6_addr));
                }
                (libc::IPPROTO_IPV6, libc::IPV6_HOPLIMIT) => {
                    hop_limit = u8::try_from(data.cast::<i32>().read_unaligned()).ok();
                }
                _ => {}
            }
            header = libc::CMSG_NXTHDR(&raw const message, header);
        }
    }
    let (Some(destination), Some(hop_limit)) = (destination, hop_limit) else {
        return Err(io::ErrorKind::InvalidData.into());
    };
    Ok(ReceivedV6 { octets: octets as usize, source: source.sin6_addr.s6_addr.into(), destination, hop_limit })
}

/// Gives the calling thread a real-time priority (`SCHED_FIFO`, 1 to 99), which its children do not inherit.
///
/// # Errors
/// The kernel's: without CAP_SYS_NICE, or beyond RLIMIT_RTPRIO.
pub fn set_realtime(priority: u8) -> io::Result<()> {
    let parameters = libc::sched_param { sched_priority: priority.into() };
    // SAFETY: the parameters are whole and the kernel copies them; 0 is the calling thread.
    let result =
        unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK, &raw const parameters) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Name and address of every address of every interface; interfaces without one are there too. Empty when the kernel
/// does not say.
pub fn interface_addresses() -> Vec<(String, Option<IpAddr>)> {
    let mut list: *mut libc::ifaddrs = std::ptr::null_mut();
    // SAFETY: `list` is a place for one pointer; what is written there is freed below.
    if unsafe { libc::getifaddrs(&mut list) } != 0 {
        return Vec::new();
    }
    let mut found = Vec::new();
    let mut next = list;
    while !next.is_null() {
        // SAFETY: entries of the list are valid until it is freed, and this one is not null.
        let entry = unsafe { &*next };
        // SAFETY: `ifa_name` is a string with an end, valid as long as its entry.
        let name = unsafe { CStr::from_ptr(entry.ifa_name) };
        found.push((name.to_string_lossy().into_owned(), address_of(entry)));
        next = entry.ifa_next;
    }
    // SAFETY: `list` is what `getifaddrs` gave, and nothing of it is used any more.
    unsafe { libc::freeifaddrs(list) };
    found
}

/// The address of an entry, where it is an IP address.
fn address_of(entry: &libc::ifaddrs) -> Option<IpAddr> {
    if entry.ifa_addr.is_null() {
        return None;
    }
    // SAFETY: not null, and every socket address begins with its family.
    match i32::from(unsafe { (*entry.ifa_addr).sa_family }) {
        libc::AF_INET => {
            // SAFETY: an address of this family is a `sockaddr_in`.
            let address = unsafe { entry.ifa_addr.cast::<libc::sockaddr_in>().read_unaligned() };
            Some(Ipv4Addr::from(u32::from_be(address.sin_addr.s_addr)).into())
        }
        libc::AF_INET6 => {
            // SAFETY: an address of this family is a `sockaddr_in6`.
            let address = unsafe { entry.ifa_addr.cast::<libc::sockaddr_in6>().read_unaligned() };
            Some(Ipv6Addr::from(address.sin6_addr.s6_addr).into())
        }
        _ => None,
    }
}

/// Makes a socket take only packets whose hop limit is at least this (`IP_MINTTL`, `IPV6_MINHOPCOUNT`, of which rustix has
/// no form).
///
/// # Errors
/// The kernel's, as when the socket is of another family.
pub fn require_hop_limit(socket: &impl AsFd, family: Family, least: u8) -> io::Result<()> {
    let (level, option) = match family {
        Family::V4 => (libc::IPPROTO_IP, libc::IP_MINTTL),
        Family::V6 => (libc::IPPROTO_IPV6, libc::IPV6_MINHOPCOUNT),
    };
    set_option(socket.as_fd(), level, option, least.into())
}
