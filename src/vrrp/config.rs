//! What is wished: instances and sync groups, as keepalived.conf says it. Defaults are keepalived's.

use std::fmt;

use crate::base::{Address, Duration, Family, MacAddress};
use crate::vrrp::{Name, Tracker};
use crate::wire::vrrp::{Key, Version};

/// All instances and groups.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Config {
    /// The instances; names are unique.
    pub instances: Vec<InstanceConfig>,
    /// The sync groups; an instance is in one at most.
    pub groups: Vec<GroupConfig>,
    /// How long after [`crate::vrrp::Event::Start`] instances begin (`vrrp_startup_delay`).
    pub startup_delay: Duration,
    /// After a reload FIFOs are told all states (`fifo_write_vrrp_states_on_reload`).
    pub tells_states_on_reload: bool,
}

/// A `vrrp_instance`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct InstanceConfig {
    /// Its name.
    pub name: Name,
    /// Where it runs; `None` with unicast peers alone.
    pub interface: Option<Name>,
    /// Virtual router identifier, 1 to 255.
    pub vrid: u8,
    /// The family of its advertisements.
    pub family: Family,
    /// Format; IPv6 has version 3 alone.
    pub version: Version,
    /// Priority, 1 to 255.
    pub priority: u8,
    /// Adver_Interval: whole seconds 1 to 255 in version 2, 10 ms to 40.95 s in version 3.
    pub interval: Duration,
    /// Authentication, version 2 alone.
    pub authentication: Authentication,
    /// `virtual_ipaddress`, all of the family.
    pub addresses: Vec<VirtualAddress>,
    /// `virtual_ipaddress_excluded`: set, not advertised; of either family.
    pub excluded: Vec<VirtualAddress>,
    /// `virtual_routes`, then `virtual_rules`.
    pub routes: Vec<Attached>,
    /// `unicast_src_ip` or `mcast_src_ip`; else the interface's first address.
    pub source: Option<Address>,
    /// `unicast_peer`; empty: multicast.
    pub peers: Vec<Peer>,
    /// `mcast_dst_ip`; else the family's group.
    pub group: Option<Address>,
    /// `unicast_ttl`.
    pub unicast_hop_limit: u8,
    /// `unicast_fault_no_peer`: unicast is meant, and without peers it is a fault.
    pub faults_without_peers: bool,
    /// `check_unicast_src`: senders must be peers.
    pub checks_sender: bool,
    /// `track_src_ip`: Fault while the interface does not have [`InstanceConfig::source`].
    pub tracks_source: bool,
    /// `state MASTER`. It makes nothing Active sooner; it undoes `nopreempt` and the preemption delay.
    pub starts_as_master: bool,
    /// Preempt_Mode; false: `nopreempt`.
    pub preempts: bool,
    /// `preempt_delay`; how long a Backup obeys one of lower priority after it first heard it.
    pub preempt_delay: Duration,
    /// `track_interface`, `track_script`, …
    pub tracks: Vec<Track>,
    /// `dont_track_primary`: the state of its own interface is no fault.
    pub ignores_interface: bool,
    /// When and how often addresses are announced.
    pub announcing: Announcing,
    /// An advertisement of lower priority is answered with one's own; false: `lower_prio_no_advert`.
    pub answers_lower: bool,
    /// Who yields sends one last advertisement (`higher_prio_send_advert`). **Deviation**: by default.
    pub answers_higher: bool,
    /// `down_timer_adverts`, 1 to 100: missing adverts until the Active router is down.
    pub down_adverts: u8,
    /// `skip_check_adv_addr`: the list of a sender that was the Active router already is not compared.
    pub skips_known_lists: bool,
    /// Accept_Mode.
    pub accepts: bool,
    /// `strict_mode`.
    pub is_strict: bool,
    /// `use_vmac`: advertisements and announcements have the virtual router's Ethernet address.
    pub has_virtual_mac: bool,
    /// That address, if it is another than the RFC's.
    pub wished_mac: Option<MacAddress>,
    /// `vmac_xmit_base`: advertisements alone have the interface's.
    pub sends_from_base: bool,
    /// `old_unicast_checksum`.
    pub old_checksum: OldChecksum,
    /// `notify_priority_changes`.
    pub tells_priority: bool,
    /// `notify_deleted`: scripts are told DELETED, not FAULT, when a reload removes the instance.
    pub tells_deleted: bool,
}

impl InstanceConfig {
    /// An instance with keepalived's defaults and without addresses.
    pub fn new(name: &str, interface: &str, vrid: u8, family: Family) -> Self {
        let version = match family {
            Family::V4 => Version::V2,
            Family::V6 => Version::V3,
        };
        Self {
            name: name.into(),
            interface: Some(interface.into()),
            vrid,
            family,
            version,
            priority: 100,
            interval: Duration::from_secs(1),
            authentication: Authentication::None,
            addresses: Vec::new(),
            excluded: Vec::new(),
            routes: Vec::new(),
            source: None,
            peers: Vec::new(),
            group: None,
            unicast_hop_limit: crate::wire::vrrp::HOP_LIMIT,
            faults_without_peers: false,
            checks_sender: false,
            tracks_source: false,
            starts_as_master: false,
            preempts: true,
            preempt_delay: Duration::ZERO,
            tracks: Vec::new(),
            ignores_interface: false,
            announcing: Announcing::default(),
            answers_lower: true,
            answers_higher: true,
            down_adverts: 3,
            skips_known_lists: false,
            accepts: true,
            is_strict: false,
            has_virtual_mac: false,
            wished_mac: None,
            sends_from_base: false,
            old_checksum: OldChecksum::Learnt,
            tells_priority: false,
            tells_deleted: false,
        }
    }

    /// True when advertisements go to peers.
    pub fn is_unicast(&self) -> bool {
        !self.peers.is_empty() || self.faults_without_peers
    }

    /// The multicast group.
    pub fn multicast_group(&self) -> Address {
        self.group.unwrap_or(crate::wire::vrrp::group(self.family))
    }

    /// The virtual router's Ethernet address, where it has one (`use_vmac`).
    pub fn virtual_mac(&self) -> Option<MacAddress> {
        let mac = self.wished_mac.unwrap_or(crate::wire::vrrp::virtual_mac(self.family, self.vrid));
        self.has_virtual_mac.then_some(mac)
    }

    /// All addresses that an Active router has.
    pub fn all_addresses(&self) -> impl Iterator<Item = &VirtualAddress> {
        self.addresses.iter().chain(&self.excluded)
    }
}

/// How advertisements of version 2 are authenticated.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub enum Authentication {
    /// Not at all.
    #[default]
    None,
    /// `auth_type PASS`.
    Password(Key),
    /// `auth_type AH`.
    Header(Key),
}

/// Without the secret.
impl fmt::Debug for Authentication {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Authentication::None => "None",
            Authentication::Password(_) => "Password",
            Authentication::Header(_) => "Header",
        })
    }
}

/// An address that the Active router has.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VirtualAddress {
    /// The address.
    pub address: Address,
    /// Bits of its prefix.
    pub prefix: u8,
    /// Its interface, if it is another than the instance's.
    pub interface: Option<Name>,
    /// Broadcast address.
    pub broadcast: Option<Address>,
    /// Scope, as the kernel numbers it.
    pub scope: Option<u8>,
    /// Label.
    pub label: Option<Name>,
    /// Peer of a point-to-point link, and bits of its prefix.
    pub peer: Option<(Address, u8)>,
    /// Preferred lifetime, seconds; `None`: for ever.
    pub preferred_lifetime_s: Option<u32>,
    /// Flags of the kernel.
    pub flags: AddressFlags,
    /// Nobody minds when it is taken away (`no_track`).
    pub is_untracked: bool,
}

impl VirtualAddress {
    /// A host address.
    pub const fn new(address: Address) -> Self {
        Self {
            address,
            prefix: if address.is_v4() { 32 } else { 128 },
            interface: None,
            broadcast: None,
            scope: None,
            label: None,
            peer: None,
            preferred_lifetime_s: None,
            flags: AddressFlags {
                home: false,
                no_dad: false,
                managed_temporary: false,
                no_prefix_route: false,
                autojoin: false,
            },
            is_untracked: false,
        }
    }
}

/// Flags of an address (`ip-address(8)`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct AddressFlags {
    /// `home`.
    pub home: bool,
    /// `nodad`.
    pub no_dad: bool,
    /// `mngtmpaddr`.
    pub managed_temporary: bool,
    /// `noprefixroute`.
    pub no_prefix_route: bool,
    /// `autojoin`.
    pub autojoin: bool,
}

/// A route or a rule that the Active router has, in the words of `ip route add` or `ip rule add`: only who installs it
/// understands them.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Attached {
    /// A line of `virtual_routes`.
    Route(Name),
    /// A line of `virtual_rules`.
    Rule(Name),
}

/// A unicast peer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Peer {
    /// Its address.
    pub address: Address,
    /// The least time to live that its packets may have.
    pub hop_limit_min: u8,
    /// The greatest.
    pub hop_limit_max: u8,
}

impl Peer {
    /// A peer with any time to live.
    pub const fn new(address: Address) -> Self {
        Self { address, hop_limit_min: 0, hop_limit_max: u8::MAX }
    }
}

/// Whether the pseudo header of unicast packets of version 3 and IPv4 has the group in place of the peer, as keepalived
/// up to 1.3.6 has it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum OldChecksum {
    /// Never.
    Never,
    /// As soon as such packets come.
    #[default]
    Learnt,
    /// Always.
    Always,
}

/// Something watched, and what follows from it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Track {
    /// What.
    pub tracker: Tracker,
    /// How far it moves the priority, -254 to 254; 0: a bad reading is a fault.
    pub weight: i32,
    /// The other way round (`reverse`).
    pub is_reversed: bool,
}

/// When and how often addresses are announced, by gratuitous ARP and unsolicited neighbour advertisement.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Announcing {
    /// Rounds when it becomes Active (`garp_master_repeat`).
    pub repeat: u32,
    /// Until they come once more; zero: not (`garp_master_delay`).
    pub delay: Duration,
    /// How often they come from then on; zero: not (`garp_master_refresh`).
    pub refresh: Duration,
    /// Rounds then (`garp_master_refresh_repeat`).
    pub refresh_repeat: u32,
    /// Rounds when one of lower priority is heard (`garp_lower_prio_repeat`).
    pub lower_repeat: u32,
    /// Until they come once more (`garp_lower_prio_delay`).
    pub lower_delay: Duration,
    /// Between two gratuitous ARPs (`garp_interval`).
    pub arp_gap: Duration,
    /// Between two neighbour advertisements (`gna_interval`).
    pub neighbour_gap: Duration,
    /// `garp_extra_if`: how often the host also announces on the other interfaces of a virtual MAC; zero: not.
    pub extra_interfaces: Duration,
}

impl Default for Announcing {
    fn default() -> Self {
        Self {
            repeat: 5,
            delay: Duration::from_secs(5),
            refresh: Duration::ZERO,
            refresh_repeat: 1,
            lower_repeat: 5,
            lower_delay: Duration::from_secs(5),
            arp_gap: Duration::ZERO,
            neighbour_gap: Duration::ZERO,
            extra_interfaces: Duration::ZERO,
        }
    }
}

/// A `vrrp_sync_group`: its instances are Active together or not at all.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupConfig {
    /// Its name.
    pub name: Name,
    /// Names of its instances.
    pub members: Vec<Name>,
    /// What counts for all of them.
    pub tracks: Vec<Track>,
    /// `sync_group_tracking_weight`: weights count too, those of members and of the group.
    pub uses_weights: bool,
    /// `global_tracking`: what one member tracks counts for all.
    pub tracks_globally: bool,
}

impl GroupConfig {
    /// A group without trackers.
    pub fn new(name: &str, members: &[&str]) -> Self {
        Self {
            name: name.into(),
            members: members.iter().map(|&member| member.into()).collect(),
            tracks: Vec::new(),
            uses_weights: false,
            tracks_globally: false,
        }
    }
}

/// Why a configuration is refused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Flaw {
    /// More than [`crate::vrrp::INSTANCES_MAX`].
    TooManyInstances(usize),
    /// Two instances, or two groups, of one name.
    DuplicateName(Name),
    /// Two instances of one identifier, family and interface.
    DuplicateVrid(Name, Name),
    /// The identifier is 0.
    NoVrid(Name),
    /// The priority is 0.
    NoPriority(Name),
    /// Neither interface nor peers.
    NoInterface(Name),
    /// No addresses, in strict mode.
    NoAddresses(Name),
    /// More addresses than an advertisement can hold.
    TooManyAddresses(Name, usize),
    /// More than [`crate::vrrp::EXCLUDED_MAX`].
    TooManyExcluded(Name, usize),
    /// More than [`crate::vrrp::PEERS_MAX`].
    TooManyPeers(Name, usize),
    /// An address, a peer or the source is of the other family.
    WrongFamily(Name, Address),
    /// Unicast peers in strict mode.
    StrictUnicast(Name),
    /// A group has an instance that is not there, or that is in another group.
    UnknownMember(Name, Name),
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Flaw::TooManyInstances(count) => write!(f, "{count} instances, {} at most", crate::vrrp::INSTANCES_MAX),
            Flaw::DuplicateName(name) => write!(f, "the name {name} is used twice"),
            Flaw::DuplicateVrid(name, other) => {
                write!(f, "({name}) has the virtual_router_id, family and interface of {other}")
            }
            Flaw::NoVrid(name) => write!(f, "({name}) the virtual_router_id must be 1 to 255"),
            Flaw::NoPriority(name) => write!(f, "({name}) the priority must be 1 to 255"),
            Flaw::NoInterface(name) => write!(f, "({name}) has neither an interface nor unicast peers"),
            Flaw::NoAddresses(name) => write!(f, "({name}) has no virtual address, which strict mode needs"),
            Flaw::TooManyAddresses(name, count) => write!(f, "({name}) {count} addresses do not fit an advert"),
            Flaw::TooManyExcluded(name, count) => {
                write!(f, "({name}) {count} excluded addresses, {} at most", crate::vrrp::EXCLUDED_MAX)
            }
            Flaw::TooManyPeers(name, count) => {
                write!(f, "({name}) {count} unicast peers, {} at most", crate::vrrp::PEERS_MAX)
            }
            Flaw::WrongFamily(name, address) => write!(f, "({name}) {address} is of the other address family"),
            Flaw::StrictUnicast(name) => write!(f, "({name}) strict mode does not have unicast peers"),
            Flaw::UnknownMember(group, name) => {
                write!(f, "the sync group {group} has {name}, which is no instance or in another group")
            }
        }
    }
}

impl std::error::Error for Flaw {}
