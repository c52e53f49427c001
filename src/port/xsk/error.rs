//! Why a port could not be opened, one clear sentence each.

use std::fmt;

use rustix::io::Errno;

/// Why an AF_XDP port could not be opened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum XskError {
    /// The configuration is not one a port can have.
    Configuration(&'static str),
    /// No such interface in this network namespace.
    NoInterface(String),
    /// The interface has no such receive queue.
    NoQueue {
        /// Interface name.
        interface: String,
        /// Queue.
        queue: u32,
    },
    /// CAP_NET_RAW is missing.
    Rights,
    /// Another AF_XDP socket is bound to the queue.
    QueueBusy {
        /// Interface name.
        interface: String,
        /// Queue.
        queue: u32,
    },
    /// The process may not lock as much memory as the port needs.
    LockedMemory {
        /// Octets of the port's memory.
        octets: u64,
    },
    /// The kernel has no AF_XDP sockets.
    NoKernelSupport,
    /// The driver cannot do what was asked for.
    NoDriverSupport {
        /// Interface name.
        interface: String,
        /// True when zero-copy was demanded.
        zero_copy: bool,
    },
    /// The interface is down.
    Down(String),
    /// Anything else the kernel said.
    System {
        /// What was being done.
        step: &'static str,
        /// Interface name, empty for the memory.
        interface: String,
        /// Error number.
        errno: i32,
    },
}

impl XskError {
    /// From the error that creating the UMEM gave.
    pub(super) fn of_memory(errno: i32, octets: u64) -> Self {
        match Errno::from_raw_os_error(errno) {
            Errno::NOBUFS => XskError::LockedMemory { octets },
            Errno::PERM => XskError::Rights,
            Errno::AFNOSUPPORT => XskError::NoKernelSupport,
            _ => XskError::System { step: "creating the packet memory", interface: String::new(), errno },
        }
    }

    /// From the error that creating or binding a socket gave.
    pub(super) fn of_socket(errno: i32, interface: &str, queue: u32, zero_copy: bool) -> Self {
        let name = || interface.to_string();
        match Errno::from_raw_os_error(errno) {
            Errno::NODEV | Errno::NXIO => XskError::NoInterface(name()),
            Errno::INVAL => XskError::NoQueue { interface: name(), queue },
            Errno::PERM => XskError::Rights,
            Errno::BUSY => XskError::QueueBusy { interface: name(), queue },
            Errno::NETDOWN => XskError::Down(name()),
            Errno::OPNOTSUPP => XskError::NoDriverSupport { interface: name(), zero_copy },
            Errno::AFNOSUPPORT => XskError::NoKernelSupport,
            _ => XskError::System { step: "binding the AF_XDP socket", interface: name(), errno },
        }
    }
}

impl fmt::Display for XskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            XskError::Configuration(text) => f.write_str(text),
            XskError::NoInterface(name) => write!(f, "there is no interface {name} in this network namespace"),
            XskError::NoQueue { interface, queue } => {
                write!(f, "interface {interface} has no queue {queue} for AF_XDP (see: ethtool -l {interface})")
            }
            XskError::Rights => f.write_str("AF_XDP needs the capability CAP_NET_RAW"),
            XskError::QueueBusy { interface, queue } => {
                write!(f, "queue {queue} of interface {interface} is in use by another AF_XDP socket")
            }
            XskError::LockedMemory { octets } => write!(
                f,
                "packet memory of {} MiB exceeds the limit of locked memory: raise it (LimitMEMLOCK=infinity, ulimit -l) \
                 or grant CAP_IPC_LOCK",
                octets.div_ceil(1 << 20)
            ),
            XskError::NoKernelSupport => f.write_str("this kernel has no AF_XDP sockets (CONFIG_XDP_SOCKETS)"),
            XskError::NoDriverSupport { interface, zero_copy: true } => {
                write!(f, "the driver of interface {interface} cannot do zero-copy AF_XDP")
            }
            XskError::NoDriverSupport { interface, zero_copy: false } => {
                write!(f, "the driver of interface {interface} refuses AF_XDP")
            }
            XskError::Down(interface) => write!(f, "interface {interface} is down"),
            XskError::System { step, interface, errno } if interface.is_empty() => {
                write!(f, "{step}: {}", std::io::Error::from_raw_os_error(*errno))
            }
            XskError::System { step, interface, errno } => {
                write!(f, "{step} on interface {interface}: {}", std::io::Error::from_raw_os_error(*errno))
            }
        }
    }
}

impl std::error::Error for XskError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_numbers_become_sentences() {
        for (errno, expected) in [
            (libc::ENODEV, "there is no interface eth7 in this network namespace"),
            (libc::EINVAL, "interface eth7 has no queue 3 for AF_XDP (see: ethtool -l eth7)"),
            (libc::EPERM, "AF_XDP needs the capability CAP_NET_RAW"),
            (libc::EBUSY, "queue 3 of interface eth7 is in use by another AF_XDP socket"),
            (libc::EOPNOTSUPP, "the driver of interface eth7 refuses AF_XDP"),
            (libc::ENETDOWN, "interface eth7 is down"),
        ] {
            assert_eq!(XskError::of_socket(errno, "eth7", 3, false).to_string(), expected);
        }
        let memory = XskError::of_memory(libc::ENOBUFS, 33 << 20).to_string();
        assert!(memory.starts_with("packet memory of 33 MiB exceeds the limit of locked memory"), "{memory}");
    }
}
