//! System calls that nobody else says safely.

#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use crate::base::Family;

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
    let value = libc::c_int::from(least);
    let descriptor = socket.as_fd().as_raw_fd();
    // SAFETY: the option's value is read from `value`, which is as long as is said, and kept by nobody; the descriptor is
    // open as long as `socket` is.
    let result = unsafe {
        libc::setsockopt(
            descriptor,
            level,
            option,
            std::ptr::from_ref(&value).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
