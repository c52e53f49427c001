//! What the outside has to do.

use std::fmt;

use crate::base::{Address, Duration, MacAddress};
use crate::vrrp::{Attached, Name, VirtualAddress};

/// An order to the host. Orders are to be carried out in the order they come in.
#[derive(Clone, PartialEq, Eq, Debug)]
#[must_use = "an action that is not carried out is lost"]
pub enum Action {
    /// Send a packet, whole and with checksums.
    SendAdvert {
        /// The instance.
        instance: Name,
        /// Out of this interface; `None`: as the routes say (unicast).
        interface: Option<Name>,
        /// Source Ethernet address; `None`: the interface's.
        source_mac: Option<MacAddress>,
        /// The group or the peer.
        destination: Address,
        /// The IP packet.
        packet: Vec<u8>,
        /// Octets of its IP header, for sockets that write that themselves (IPv6: hop limit and traffic class as there).
        header_octets: usize,
    },
    /// Put addresses on interfaces.
    AddAddresses {
        /// The instance.
        instance: Name,
        /// Where there is no other interface.
        interface: Option<Name>,
        /// The addresses.
        addresses: Vec<VirtualAddress>,
        /// Packets to them are for this host (Accept_Mode); else only ARP and neighbour solicitation are answered.
        accepts: bool,
    },
    /// Take addresses from interfaces; those that are not there are no error.
    RemoveAddresses {
        /// The instance.
        instance: Name,
        /// Where there is no other interface.
        interface: Option<Name>,
        /// The addresses.
        addresses: Vec<VirtualAddress>,
    },
    /// Install routes and rules.
    AddRoutes {
        /// The instance.
        instance: Name,
        /// Routes, then rules.
        routes: Vec<Attached>,
    },
    /// Take routes and rules away; those that are not there are no error.
    RemoveRoutes {
        /// The instance.
        instance: Name,
        /// Routes, then rules.
        routes: Vec<Attached>,
    },
    /// Tell neighbours where addresses are: gratuitous ARP and unsolicited neighbour advertisements. Rounds go over all
    /// addresses, `repeat` times.
    Announce {
        /// The instance.
        instance: Name,
        /// Interface and address.
        addresses: Vec<(Option<Name>, Address)>,
        /// The Ethernet address that is told; `None`: the interface's.
        mac: Option<MacAddress>,
        /// Rounds.
        repeat: u32,
        /// Between two gratuitous ARPs of one interface; zero: none.
        arp_gap: Duration,
        /// Between two neighbour advertisements of one interface; zero: none.
        neighbour_gap: Duration,
    },
    /// Receive packets to a group; joined already is no error.
    JoinGroup {
        /// The instance.
        instance: Name,
        /// Where.
        interface: Name,
        /// The group.
        group: Address,
    },
    /// An instance needs a group no longer.
    LeaveGroup {
        /// The instance.
        instance: Name,
        /// Where.
        interface: Name,
        /// The group.
        group: Address,
    },
    /// Tell scripts, FIFOs and mail of an instance.
    Notify {
        /// The instance.
        instance: Name,
        /// What it is now.
        word: Word,
        /// Its priority.
        priority: u8,
    },
    /// Tell scripts, FIFOs and mail of a sync group. Its priority is 0 where one is written.
    NotifyGroup {
        /// The group.
        group: Name,
        /// What it is now.
        word: Word,
    },
    /// The effective priority changed.
    PriorityChanged {
        /// The instance.
        instance: Name,
        /// Now.
        priority: u8,
        /// FIFOs are to be told (`notify_priority_changes`).
        is_told: bool,
    },
    /// A line for the log, in keepalived's words.
    Log {
        /// How important.
        level: Level,
        /// The line.
        text: String,
    },
}

/// How important a line is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Level {
    /// What happens.
    Information,
    /// Something is not as it should be.
    Warning,
}

/// The state in the words that scripts and FIFOs get.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Word {
    /// Active.
    Master,
    /// Backup.
    Backup,
    /// Fault.
    Fault,
    /// Stopped.
    Stop,
    /// Gone with a new configuration, where `notify_deleted` asks for it.
    Deleted,
    /// Active, and another of lower priority was heard (`notify_master_rx_lower_pri`).
    MasterReceivedLowerPriority,
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Word::Master => "MASTER",
            Word::Backup => "BACKUP",
            Word::Fault => "FAULT",
            Word::Stop => "STOP",
            Word::Deleted => "DELETED",
            Word::MasterReceivedLowerPriority => "MASTER_RX_LOWER_PRI",
        })
    }
}
