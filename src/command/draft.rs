//! A command while its options are read: the effect of each option, and the request that they make together.

use crate::base::{Address, Endpoint, Family};
use crate::command::ListOptions;
use crate::command::names::Names;
use crate::command::options::{Command, Name};
use crate::command::request::{DaemonRole, DaemonRule, MSS_MIN, Request, ServerRule, ServiceRule};
use crate::command::values::{self, number};
use crate::service::{FullNat, Method, Protocol, SchedulerFlags, ServiceKey, Tunnel, TunnelChecksum};

/// Longest scheduler, engine or interface name, octets (`IP_VS_SCHEDNAME_MAXLEN` and its like, less the final zero).
pub const NAME_OCTETS_MAX: usize = 15;
/// Longest list of scheduler flags that ipvsadm reads, octets.
const FLAGS_OCTETS_MAX: usize = 127;
/// Longest timeout, seconds: 31 days.
const TIMEOUT_S_MAX: i64 = 2_678_400;
/// Persistence timeout when `-p` has no value, seconds.
const PERSISTENT_S_DEFAULT: u32 = 360;
/// Largest weight and threshold.
const COUNT_MAX: i64 = i32::MAX as i64;
/// Longest sync message: the largest UDP payload over IPv4, octets.
const SYNC_MAXLEN_MAX: i64 = 65_507;

/// What an option does: takes its value (empty when it has none) into the draft, or says what is wrong with it, as
/// ipvsadm does. Whether there is a value at all matters to `-p` alone; see [`persistent`].
pub type Effect = fn(&mut Draft, Option<&str>, &dyn Names) -> Result<(), String>;

/// Encapsulation by `--tun-type`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum TunnelType {
    #[default]
    Ipip,
    Gue,
    Gre,
}

/// The options read so far, as the defaults of ipvsadm and what replaced them.
pub struct Draft {
    /// Bit n: the option of that [`Name`] was given.
    given: u64,
    output: ListOptions,
    /// Protocol of the service; `None` before there is one.
    protocol: Option<Protocol>,
    /// Address and port of the service; its family tells how `-M` is read.
    service: Option<Endpoint>,
    mark: u32,
    family: Family,
    scheduler: String,
    persistent_s: Option<u32>,
    mask: u32,
    engine: String,
    one_packet: bool,
    flag_words: String,
    flags: SchedulerFlags,
    server: Option<Endpoint>,
    method: Method,
    weight: i32,
    upper: u32,
    lower: u32,
    tunnel_type: TunnelType,
    tunnel_port: u16,
    client_address: FullNat,
    mss_max: u16,
    role: DaemonRole,
    interface: String,
    syncid: u8,
    sync_maxlen: u16,
    group: Option<Address>,
    group_port: u16,
    group_ttl: u8,
    timeouts_s: [u32; 3],
}

impl Default for Draft {
    fn default() -> Self {
        Self {
            given: 0,
            output: ListOptions::default(),
            protocol: None,
            service: None,
            mark: 0,
            family: Family::V4,
            scheduler: String::new(),
            persistent_s: None,
            mask: u32::MAX,
            engine: String::new(),
            one_packet: false,
            flag_words: String::new(),
            flags: SchedulerFlags::default(),
            server: None,
            method: Method::DirectRouting,
            weight: 1,
            upper: 0,
            lower: 0,
            tunnel_type: TunnelType::Ipip,
            tunnel_port: 0,
            client_address: FullNat::Silent,
            mss_max: 0,
            role: DaemonRole::Master,
            interface: String::new(),
            syncid: 0,
            sync_maxlen: 0,
            group: None,
            group_port: 0,
            group_ttl: 0,
            timeouts_s: [0; 3],
        }
    }
}

impl Draft {
    /// Notes that the option was given.
    ///
    /// # Errors
    /// When it was given before.
    pub fn mark_given(&mut self, name: Name) -> Result<(), String> {
        if self.is_given(name) {
            return Err(format!("multiple '{}' options specified", name.word()));
        }
        self.given |= 1 << name as u32;
        Ok(())
    }

    /// True when the option was given.
    pub fn is_given(&self, name: Name) -> bool {
        self.given & 1 << name as u32 != 0
    }

    /// Changes how a list is printed.
    pub fn show(&mut self, change: impl FnOnce(&mut ListOptions)) -> Result<(), String> {
        change(&mut self.output);
        Ok(())
    }

    /// How a list is to be printed.
    pub fn output(&self, command: Command) -> ListOptions {
        ListOptions { save: command == Command::Save, ..self.output }
    }

    /// The role of `--start-daemon` and `--stop-daemon`.
    pub fn set_role(&mut self, command: Command, word: &str) -> Result<(), String> {
        self.role = match (word, command) {
            ("master", _) => DaemonRole::Master,
            ("backup", _) => DaemonRole::Backup,
            (_, Command::StartDaemon) => return Err("illegal start-daemon parameter specified".into()),
            _ => return Err("illegal start_daemon specified".into()),
        };
        Ok(())
    }

    /// The three values of `--set`.
    pub fn set_timeouts(&mut self, words: [&str; 3]) -> Result<(), String> {
        for (timeout_s, word) in self.timeouts_s.iter_mut().zip(words) {
            *timeout_s = timeout(word, 0)?;
        }
        Ok(())
    }

    /// Reads the flags of `-b`, whose meaning depends on `-s` wherever that stood.
    pub fn read_scheduler_flags(&mut self) -> Result<(), String> {
        for word in self.flag_words.split(',').filter(|word| !word.is_empty()) {
            let (scheduler, bit) = match word {
                "flag-1" => (None, SchedulerFlags::FLAG_1),
                "flag-2" => (None, SchedulerFlags::FLAG_2),
                "flag-3" => (None, SchedulerFlags::FLAG_3),
                "sh-fallback" => (Some("sh"), SchedulerFlags::FLAG_1),
                "sh-port" => (Some("sh"), SchedulerFlags::FLAG_2),
                "mh-fallback" => (Some("mh"), SchedulerFlags::FLAG_1),
                "mh-port" => (Some("mh"), SchedulerFlags::FLAG_2),
                _ => return Err(format!("invalid scheduler flag `{word}'")),
            };
            if scheduler.is_some_and(|scheduler| scheduler != self.scheduler) {
                return Err(format!("incompatible scheduler flag `{word}'"));
            }
            self.flags.0 |= bit;
        }
        Ok(())
    }

    /// What only the values together can tell of a service that is added or edited.
    pub fn check_service(&self) -> Result<(), String> {
        if self.mark == 0 && self.service_port() == 0 && self.persistent_s.is_none() {
            return Err("Zero port specified for non-persistent service".into());
        }
        if self.one_packet && self.mark == 0 && self.protocol != Some(Protocol::Udp) {
            return Err("One-Packet Scheduling is only for UDP virtual services".into());
        }
        if self.mss_max != 0 && self.mark == 0 && self.protocol != Some(Protocol::Tcp) {
            return Err("MSS clamping is only for TCP virtual services".into());
        }
        Ok(())
    }

    /// What only the values together can tell of a server that is added or edited.
    pub fn check_server(&self) -> Result<(), String> {
        self.check_full_nat()?;
        let is_tunnelled = self.method() == Method::Tunnelling;
        if self.server.map(|server| server.address.family()) != Some(self.service_family()) && !is_tunnelled {
            return Err("Different address family is allowed only for tunneling servers".into());
        }
        let tunnel_options = TUNNEL_RULES.iter().map(|rule| rule.name).chain([Name::TunType]);
        if !is_tunnelled && tunnel_options.into_iter().any(|name| self.is_given(name)) {
            return Err("Tunnel options conflict with forward method".into());
        }
        if is_tunnelled { self.check_tunnel() } else { Ok(()) }
    }

    /// The forwarding method; full NAT masquerades.
    fn method(&self) -> Method {
        let is_full_nat = self.is_given(Name::FullNat) && !self.is_given(Name::ForwardingMethod);
        if is_full_nat { Method::Masquerading } else { self.method }
    }

    fn check_full_nat(&self) -> Result<(), String> {
        if self.is_given(Name::ClientAddress) && !self.is_given(Name::FullNat) {
            return Err("The option 'client-address' needs the 'fullnat' option".into());
        }
        if self.is_given(Name::FullNat) && self.method() != Method::Masquerading {
            return Err("Full NAT conflicts with forward method".into());
        }
        Ok(())
    }

    /// Holds the tunnel options to [`TUNNEL_RULES`].
    fn check_tunnel(&self) -> Result<(), String> {
        let (column, tunnel) = match self.tunnel_type {
            TunnelType::Ipip => (0, "ipip"),
            TunnelType::Gue => (1, "gue"),
            TunnelType::Gre => (2, "gre"),
        };
        let mut chosen: Option<Name> = None;
        for rule in &TUNNEL_RULES {
            let word = rule.name.word();
            match (rule.cells[column], self.is_given(rule.name)) {
                (b'+', false) => {
                    return Err(format!("You need to supply the '{word}' option for the '{tunnel}' tunnel type"));
                }
                (b'x', true) => return Err(format!("Illegal '{word}' option with the '{tunnel}' tunnel type")),
                (b'1', true) => {
                    if let Some(other) = chosen {
                        let other = other.word();
                        return Err(format!(
                            "The option '{word}' conflicts with the '{other}' option in the '{tunnel}' tunnel type"
                        ));
                    }
                    chosen = Some(rule.name);
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn service_port(&self) -> u16 {
        self.service.map_or(0, |service| service.port)
    }

    fn service_family(&self) -> Family {
        self.service.map_or(self.family, |service| service.address.family())
    }

    /// The service, if one was given.
    fn key(&self) -> Option<ServiceKey> {
        match (self.protocol, self.service) {
            (Some(protocol), Some(endpoint)) => Some(ServiceKey::Address { protocol, endpoint }),
            _ if self.mark != 0 => Some(ServiceKey::Mark { family: self.family, mark: self.mark }),
            _ => None,
        }
    }

    fn rule(&self) -> Option<ServiceRule> {
        Some(ServiceRule {
            key: self.key()?,
            scheduler: if self.scheduler.is_empty() { "wlc".into() } else { self.scheduler.clone() },
            flags: self.flags,
            persistent_s: self.persistent_s,
            mask: self.mask,
            engine: Some(self.engine.clone()).filter(|engine| !engine.is_empty()),
            one_packet: self.one_packet,
            mss_max: self.mss_max,
        })
    }

    fn server(&self) -> Option<ServerRule> {
        let mut endpoint = self.server?;
        // Neither direct routing nor a tunnel changes the packet's port.
        if self.mark == 0 && self.method() != Method::Masquerading {
            endpoint.port = self.service_port();
        }
        let checksum = if self.is_given(Name::TunChecksum) {
            TunnelChecksum::Full
        } else if self.is_given(Name::TunRemoteChecksum) {
            TunnelChecksum::Remote
        } else {
            TunnelChecksum::None
        };
        let tunnel = match self.tunnel_type {
            TunnelType::Ipip => Tunnel::Ipip,
            TunnelType::Gue => Tunnel::Gue { port: self.tunnel_port, checksum },
            TunnelType::Gre => Tunnel::Gre { checksum: checksum == TunnelChecksum::Full },
        };
        let (method, weight, upper, lower) = (self.method(), self.weight, self.upper, self.lower);
        let full_nat = if self.is_given(Name::FullNat) { self.client_address } else { FullNat::Off };
        Some(ServerRule { endpoint, method, weight, upper, lower, tunnel, full_nat })
    }

    fn daemon(&self) -> DaemonRule {
        DaemonRule {
            role: self.role,
            interface: if self.interface.is_empty() { "eth0".into() } else { self.interface.clone() },
            syncid: self.syncid,
            sync_maxlen: self.sync_maxlen,
            group: self.group,
            port: self.group_port,
            ttl: self.group_ttl,
        }
    }

    /// The request of the command; `None` for `-R`, which is none, and where a required option is missing (which the
    /// table of names has refused before).
    pub fn request(&self, command: Command) -> Option<Request> {
        Some(match command {
            Command::AddService => Request::AddService(self.rule()?),
            Command::EditService => Request::EditService(self.rule()?),
            Command::DeleteService => Request::DeleteService(self.key()?),
            Command::Clear => Request::Clear,
            Command::AddServer => Request::AddServer { service: self.key()?, server: self.server()? },
            Command::EditServer => Request::EditServer { service: self.key()?, server: self.server()? },
            Command::DeleteServer => Request::DeleteServer { service: self.key()?, server: self.server? },
            Command::SetTimeouts => {
                let [tcp_s, tcp_fin_s, udp_s] = self.timeouts_s;
                Request::SetTimeouts { tcp_s, tcp_fin_s, udp_s }
            }
            Command::StartDaemon => Request::StartDaemon(self.daemon()),
            Command::StopDaemon => Request::StopDaemon(self.role),
            Command::Zero => Request::Zero(self.key()),
            Command::Save => Request::Services(None),
            Command::List if self.is_given(Name::Connection) => Request::Connections,
            Command::List if self.is_given(Name::Timeout) => Request::Timeouts,
            Command::List if self.is_given(Name::Daemon) => Request::Daemons,
            Command::List => Request::Services(self.key()),
            Command::Restore => return None,
        })
    }
}

/// What a tunnel option is to `ipip`, `gue`, `gre`; the signs are those of [`Name::with`].
struct TunnelRule {
    name: Name,
    cells: [u8; 3],
}

const TUNNEL_RULES: [TunnelRule; 4] = [
    TunnelRule { name: Name::TunPort, cells: *b"x+x" },
    TunnelRule { name: Name::TunNoChecksum, cells: *b"x11" },
    TunnelRule { name: Name::TunChecksum, cells: *b"x11" },
    TunnelRule { name: Name::TunRemoteChecksum, cells: *b"x1x" },
];

/// For options that count by being given, and for those that do nothing.
pub fn nothing(_: &mut Draft, _: Option<&str>, _: &dyn Names) -> Result<(), String> {
    Ok(())
}

fn text(value: Option<&str>) -> &str {
    value.unwrap_or_default()
}

fn name(value: Option<&str>) -> String {
    values::cut(text(value), NAME_OCTETS_MAX).to_owned()
}

/// A number in the range, or the complaint.
fn ranged<T: TryFrom<i64>>(value: Option<&str>, least: i64, most: i64, complaint: &str) -> Result<T, String> {
    let number = number(text(value), least, most);
    number.and_then(|number| T::try_from(number).ok()).ok_or_else(|| complaint.to_owned())
}

fn timeout(word: &str, least: i64) -> Result<u32, String> {
    ranged(Some(word), least, TIMEOUT_S_MAX, &format!("invalid timeout value `{word}' specified"))
}

fn address_service(
    draft: &mut Draft,
    protocol: Protocol,
    value: Option<&str>,
    names: &dyn Names,
) -> Result<(), String> {
    let found = values::endpoint(text(value), Some(protocol), names)
        .ok_or("illegal virtual server address[:port] specified")?;
    let endpoint = values::with_port(found);
    draft.protocol = Some(protocol);
    draft.service = Some(endpoint);
    if endpoint.address.family() == Family::V6 {
        draft.mask = 128;
    }
    Ok(())
}

/// `-t`
pub fn tcp_service(draft: &mut Draft, value: Option<&str>, names: &dyn Names) -> Result<(), String> {
    address_service(draft, Protocol::Tcp, value, names)
}

/// `-u`
pub fn udp_service(draft: &mut Draft, value: Option<&str>, names: &dyn Names) -> Result<(), String> {
    address_service(draft, Protocol::Udp, value, names)
}

/// `--sctp-service`
pub fn sctp_service(draft: &mut Draft, value: Option<&str>, names: &dyn Names) -> Result<(), String> {
    address_service(draft, Protocol::Sctp, value, names)
}

/// `-f`
pub fn mark_service(draft: &mut Draft, value: Option<&str>, _: &dyn Names) -> Result<(), String> {
    let complaint = format!("invalid fwmark value `{}' specified", text(value));
    draft.mark = ranged(value, 1, i64::from(u32::MAX), &complaint)?;
    // Names of services in `-r` are those of TCP.
    draft.protocol = Some(Protocol::Tcp);
    draft.family = Family::V4;
    Ok(())
}

/// `-6`
pub fn ipv6(draft: &mut Draft, _: Option<&str>, _: &dyn Names) -> Result<(), String> {
    if draft.mark == 0 {
        // The line feed is ipvsadm's own.
        return Err("-6 used before -f\n".into());
    }
    draft.family = Family::V6;
    draft.mask = 128;
    Ok(())
}

/// `-s`
pub fn scheduler(draft: &mut Draft, value: Option<&str>, _: &dyn Names) -> Result<(), String> {
    draft.scheduler = name(value);
    Ok(())
}

/// `-p`, with or without a value
pub fn persistent(draft: &mut Draft, value: Option<&str>, _: &dyn Names) -> Result<(), String> {
    draft.persistent_s = Some(value.map_or(Ok(PERSISTENT_S_DEFAULT), |word| timeout(word, 1))?);
    Ok(())
}

/// `-M`: what it is depends on the family of the service, if that stood before.
pub fn netmask(draft: &mut Draft, value: Option<&str>, names: &dyn Names) -> Result<(), String> {
    let word = text(value);
    draft.mask = if draft.service_family() == Family::V6 {
        let bits = u32::try_from(values::leading_number(word)).ok().filter(|bits| (1..=128).contains(bits));
        bits.ok_or("illegal ipv6 netmask specified")?
    } else {
        let mask = values::ipv4_or_host(word, names);
        mask.ok_or("illegal virtual server persistent mask specified")?.to_bits()
    };
    Ok(())
}

/// `-r`: without a port, that of the service, if that stood before.
pub fn real_server(draft: &mut Draft, value: Option<&str>, names: &dyn Names) -> Result<(), String> {
    let (address, port) =
        values::endpoint(text(value), draft.protocol, names).ok_or("illegal real server address[:port] specified")?;
    draft.server = Some(Endpoint::new(address, port.unwrap_or(draft.service_port())));
    Ok(())
}

/// `-m`
pub fn masquerading(draft: &mut Draft, _: Option<&str>, _: &dyn Names) -> Result<(), String> {
    draft.method = Method::Masquerading;
    Ok(())
}

/// `-i`
pub fn tunnelling(draft: &mut Draft, _: Option<&str>, _: &dyn Names) -> Result<(), String> {
    draft.method = Method::Tunnelling;
    Ok(())
}

/// `-g`
pub fn direct_routing(draft: &mut Draft, _: Option<&str>, _: &dyn Names) -> Result<(), String> {
    draft.method = Method::DirectRouting;
    Ok(())
}

/// `-w`
pub fn weight(draft: &mut Draft, value: Option<&str>, _: &dyn Names) -> Result<(), String> {
    draft.weight = ranged(value, 0, COUNT_MAX, "illegal weight specified")?;
    Ok(())
}

/// `-x`
pub fn upper_threshold(draft: &mut Draft, value: Option<&str>, _: &dyn Names) -> Result<(), String> {
    draft.upper = ranged(value, 0, COUNT_MAX, "illegal u_threshold specified")?;
    Ok(())
}

/// `-y`
pub fn lower_threshold(draft: &mut Draft, value: Option<&str>, _: &dyn Names) -> Result<(), String> {
    draft.lower = ranged(value, 0, COUNT_MAX, "illegal l_threshold specified")?;
    Ok(())
}

/// `--mcast-interface`
pub fn mcast_interface(draft: &mut Draft, value: Option<&str>, _: &dyn Names) -> Result<(), String> {
    draft.interface = name(value);
    Ok(())
}

/// `-o`
pub fn one_packet(draft: &mut Draft, _: Option<&str>, _: &dyn Names) -> Result<(), String> {
    draft.one_packet = true;
    Ok(())
}

/// `--pe`
pub fn engine(draft: &mut Draft, value: Option<&str>, _: &dyn Names) -> Result<(), String> {
    draft.engine = name(value);
    Ok(())
}

/// `-b`; see [`Draft::read_scheduler_flags`]
pub fn scheduler_flags(draft: &mut Draft, value: Option<&str>, _: &dyn Names) -> Result<(), String> {
    draft.flag_words = values::cut(text(value), FLAGS_OCTETS_MAX).to_owned();
    Ok(())
}

/// `--syncid`
pub fn syncid(draft: &mut Draft, value: Option<&str>, _: &dyn Names) -> Result<(), String> {
    draft.syncid = ranged(value, 0, 255, "illegal syncid specified")?;
    Ok(())
}

/// `--mcast-group`
pub fn mcast_group(draft: &mut Draft, value: Option<&str>, _: &dyn Names) -> Result<(), String> {
    draft.group = Some(values::multicast_group(text(value))?);
    Ok(())
}

/// `--mcast-port`
pub fn mcast_port(draft: &mut Draft, value: Option<&str>, _: &dyn Names) -> Result<(), String> {
    draft.group_port = ranged(value, 1, 65_535, "illegal mcast-port specified")?;
    Ok(())
}

/// `--mcast-ttl`
pub fn mcast_ttl(draft: &mut Draft, value: Option<&str>, _: &dyn Names) -> Result<(), String> {
    draft.group_ttl = ranged(value, 1, 255, "illegal mcast-ttl specified")?;
    Ok(())
}

/// `--sync-maxlen`
pub fn sync_maxlen(draft: &mut Draft, value: Option<&str>, _: &dyn Names) -> Result<(), String> {
    draft.sync_maxlen = ranged(value, 1, SYNC_MAXLEN_MAX, "illegal sync-maxlen specified")?;
    Ok(())
}

/// `--tun-type`
pub fn tunnel_type(draft: &mut Draft, value: Option<&str>, _: &dyn Names) -> Result<(), String> {
    draft.tunnel_type = match text(value) {
        "ipip" => TunnelType::Ipip,
        "gue" => TunnelType::Gue,
        "gre" => TunnelType::Gre,
        _ => return Err("illegal tunnel type specified".into()),
    };
    Ok(())
}

/// `--mss-clamp`
pub fn mss_clamp(draft: &mut Draft, value: Option<&str>, _: &dyn Names) -> Result<(), String> {
    draft.mss_max = ranged(value, i64::from(MSS_MIN), 65_495, "illegal mss-clamp specified")?;
    Ok(())
}

/// `--client-address`
pub fn client_address(draft: &mut Draft, value: Option<&str>, _: &dyn Names) -> Result<(), String> {
    let ways = [FullNat::Toa, FullNat::Proxy];
    let way = ways.into_iter().find(|way| way.word() == value);
    draft.client_address = way.ok_or("illegal client-address specified, use toa or proxy")?;
    Ok(())
}

/// `--tun-port`
pub fn tunnel_port(draft: &mut Draft, value: Option<&str>, _: &dyn Names) -> Result<(), String> {
    draft.tunnel_port = ranged(value, 1, 65_535, "illegal tunnel port specified")?;
    Ok(())
}
