//! The sockets of the sync daemons: UDP multicast on one interface, in the network namespace of the process.
//!
//! Source: `make_send_sock`, `make_receive_sock` of `net/netfilter/ipvs/ip_vs_sync.c`, Linux 6.1.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6, UdpSocket};
use std::os::fd::OwnedFd;
use std::rc::Rc;

use rustix::net::sockopt::{self, Ipv4PathMtuDiscovery, Ipv6PathMtuDiscovery};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, netdevice, socket_with};

use crate::base::{Address, Family};
use crate::command::request::{DaemonRole, DaemonRule, Refusal};
use crate::control::sync::{GROUP, SyncDaemon};
use crate::host::sys::bind_to_interface;

/// Datagrams that wait because the kernel's buffer is full; more are counted and lost.
pub const BACKLOG_MAX: usize = 1024;
/// Datagrams that are taken from one socket before others get their turn.
const BURST: usize = 64;

/// The daemons' sockets; none of a daemon that does not run.
#[derive(Default)]
pub struct SyncSockets {
    senders: Vec<Sender>,
    backlog: VecDeque<(u16, Vec<u8>)>,
    receivers: Vec<Rc<tokio::net::UdpSocket>>,
    buffer: Vec<u8>,
    lost: u64,
}

struct Sender {
    socket: UdpSocket,
    group: SocketAddr,
}

impl SyncSockets {
    /// Opens a daemon's sockets, one a port.
    ///
    /// # Errors
    /// When the kernel refuses one; none is open then.
    pub fn start(&mut self, daemon: &SyncDaemon) -> io::Result<()> {
        let SyncDaemon { rule, ports, buffer_octets } = daemon;
        let index = interface_index(&rule.interface)?;
        let ports = (0..*ports).map(|number| rule.port.wrapping_add(number));
        match rule.role {
            DaemonRole::Master => {
                let open = |port| Sender::open(rule, index, port, *buffer_octets);
                self.senders = ports.map(open).collect::<io::Result<_>>()?;
            }
            DaemonRole::Backup => {
                let open = |port| open_receiver(rule, index, port, *buffer_octets).map(Rc::new);
                self.receivers = ports.map(open).collect::<io::Result<_>>()?;
                // One octet more than may be: what is longer is not taken for what it is cut to.
                self.buffer = vec![0; usize::from(rule.sync_maxlen) + 1];
            }
        }
        Ok(())
    }

    /// Closes a daemon's sockets.
    pub fn stop(&mut self, role: DaemonRole) {
        match role {
            DaemonRole::Master => {
                self.send_backlog();
                self.lost += self.backlog.len() as u64;
                self.backlog.clear();
                self.senders.clear();
            }
            DaemonRole::Backup => self.receivers.clear(),
        }
    }

    /// Sends a datagram by the port of this number, at once or as soon as the kernel takes it.
    pub fn send(&mut self, port: u16, datagram: Vec<u8>) {
        if self.backlog.len() >= BACKLOG_MAX {
            self.lost += 1;
            return;
        }
        self.backlog.push_back((port, datagram));
        self.send_backlog();
    }

    /// Sends what the kernel did not take before.
    pub fn send_backlog(&mut self) {
        while let Some((port, datagram)) = self.backlog.front() {
            let Some(Sender { socket, group }) = self.senders.get(usize::from(*port)) else {
                self.backlog.clear();
                return;
            };
            match socket.send_to(datagram, *group) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => {
                    self.lost += 1;
                    tracing::debug!("sync master: {error}");
                }
            }
            self.backlog.pop_front();
        }
    }

    /// The sockets of the backup, to wait for.
    pub fn receivers(&self) -> Vec<Rc<tokio::net::UdpSocket>> {
        self.receivers.clone()
    }

    /// Hands over the datagrams that have arrived, a burst of each port: who sent it, the number of the port, and what.
    pub fn receive(&mut self, mut take: impl FnMut(Address, u16, &[u8])) {
        for (port, receiver) in (0..).zip(&self.receivers) {
            for _ in 0..BURST {
                match receiver.try_recv_from(&mut self.buffer) {
                    Ok((octets, source)) => take(source.ip().into(), port, &self.buffer[..octets]),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) => {
                        tracing::debug!("sync backup: {error}");
                        break;
                    }
                }
            }
        }
    }

    /// Datagrams that the kernel did not take.
    pub const fn lost(&self) -> u64 {
        self.lost
    }
}

/// Waits until one of the sockets has something; for ever when there is none.
pub async fn any_readable(receivers: &[Rc<tokio::net::UdpSocket>]) {
    if receivers.is_empty() {
        return std::future::pending().await;
    }
    let waits = receivers.iter().map(|receiver| Box::pin(receiver.readable()));
    // What is wrong with a socket shows when it is read.
    let _ = futures::future::select_all(waits).await;
}

/// What a client hears when sockets cannot be opened.
pub fn refusal(error: &io::Error) -> Refusal {
    match error.raw_os_error() {
        Some(libc::ENODEV) => Refusal::NoDevice,
        Some(libc::EPERM | libc::EACCES) => Refusal::NotPermitted,
        _ => Refusal::NotSupported(format!("sync daemon: {error}")),
    }
}

/// The MTU of an interface, octets; `None` when there is no such interface.
pub fn mtu_of(interface: &str) -> Option<u32> {
    interface_index(interface).ok()?;
    let text = std::fs::read_to_string(format!("/sys/class/net/{interface}/mtu")).unwrap_or_default();
    Some(text.trim().parse().unwrap_or(1500))
}

impl Sender {
    fn open(rule: &DaemonRule, index: u32, port: u16, buffer_octets: u32) -> io::Result<Self> {
        let group = group_of(rule, index, port);
        let socket = open_socket(&group)?;
        match group {
            SocketAddr::V4(_) => {
                sockopt::set_ip_multicast_if_with_ifindex(
                    &socket,
                    &std::net::Ipv4Addr::UNSPECIFIED,
                    &std::net::Ipv4Addr::UNSPECIFIED,
                    index,
                )?;
                sockopt::set_ip_multicast_loop(&socket, false)?;
                sockopt::set_ip_multicast_ttl(&socket, rule.ttl.into())?;
                sockopt::set_ip_mtu_discover(&socket, Ipv4PathMtuDiscovery::DONT)?;
            }
            SocketAddr::V6(_) => {
                sockopt::set_ipv6_multicast_if(&socket, index)?;
                sockopt::set_ipv6_multicast_loop(&socket, false)?;
                sockopt::set_ipv6_multicast_hops(&socket, rule.ttl.into())?;
                sockopt::set_ipv6_mtu_discover(&socket, Ipv6PathMtuDiscovery::DONT)?;
            }
        }
        bind_to_interface(&socket, &rule.interface)?;
        if buffer_octets > 0 {
            sockopt::set_socket_send_buffer_size(&socket, buffer_octets as usize)?;
        }
        Ok(Self { socket: socket.into(), group })
    }
}

fn open_receiver(rule: &DaemonRule, index: u32, port: u16, buffer_octets: u32) -> io::Result<tokio::net::UdpSocket> {
    let group = group_of(rule, index, port);
    let socket = open_socket(&group)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if buffer_octets > 0 {
        sockopt::set_socket_recv_buffer_size(&socket, buffer_octets as usize)?;
    }
    // The group may be joined on other interfaces by others.
    bind_to_interface(&socket, &rule.interface)?;
    bind(&socket, &group)?;
    match group {
        SocketAddr::V4(group) => {
            sockopt::set_ip_add_membership_with_ifindex(&socket, group.ip(), &std::net::Ipv4Addr::UNSPECIFIED, index)?
        }
        SocketAddr::V6(group) => sockopt::set_ipv6_add_membership(&socket, group.ip(), index)?,
    }
    tokio::net::UdpSocket::from_std(socket.into())
}

fn open_socket(group: &SocketAddr) -> io::Result<OwnedFd> {
    let family = if group.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(socket_with(family, SocketType::DGRAM, flags, None)?)
}

fn group_of(rule: &DaemonRule, index: u32, port: u16) -> SocketAddr {
    let group = rule.group.unwrap_or(GROUP);
    match (group.family(), group.to_ip()) {
        (Family::V4, IpAddr::V4(group)) => SocketAddrV4::new(group, port).into(),
        (_, IpAddr::V6(group)) => SocketAddrV6::new(group, port, 0, index).into(),
        (Family::V6, IpAddr::V4(group)) => SocketAddrV6::new(group.to_ipv6_mapped(), port, 0, index).into(),
    }
}

/// The number of an interface of the process's network namespace.
///
/// # Errors
/// The kernel's, as when there is no such interface.
pub fn interface_index(name: &str) -> io::Result<u32> {
    let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    Ok(netdevice::name_to_index(&socket, name)?)
}
