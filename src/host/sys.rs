//! System calls that nobody else says safely.

#![allow(unsafe_code)]

use std::ffi::CStr;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

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
