//! Tests of the machine, by what they are held to.

mod golden;
mod keepalived;
mod limits;
mod reload;
mod rfc;
mod sync_group;
mod table;
mod tracking;
mod unicast;

use super::*;
use crate::base::{Address, Duration, Family, Instant};
use crate::wire::vrrp::{self as wire, Advert, Envelope, HOP_LIMIT, Received, Version};

pub(super) const OTHER: &str = "10.77.0.2";

pub(super) fn address(text: &str) -> Address {
    text.parse().unwrap()
}

pub(super) fn seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

/// An instance `VI_1` on `eth0`, identifier 51, with the address of the recorded cases.
pub(super) fn instance(priority: u8) -> InstanceConfig {
    let mut config = InstanceConfig::new("VI_1", "eth0", 51, Family::V4);
    config.priority = priority;
    config.addresses = vec![VirtualAddress::new(address("10.77.0.10"))];
    config
}

pub(super) fn instance_v6(priority: u8) -> InstanceConfig {
    let mut config = InstanceConfig::new("VI_1", "eth0", 51, Family::V6);
    config.priority = priority;
    config.addresses = ["fe80::77:10", "fd77::10"].map(|text| VirtualAddress::new(address(text))).to_vec();
    config
}

pub(super) fn config(instances: Vec<InstanceConfig>) -> Config {
    Config { instances, ..Config::default() }
}

/// Routers with a clock and all that they did.
pub(super) struct Bench {
    pub routers: Routers,
    pub now: Instant,
    pub done: Vec<Action>,
}

impl Bench {
    /// Started on host 1, its interface up.
    pub fn start(config: Config) -> Bench {
        let mut bench = Bench::new(config);
        bench.link(true);
        bench.event(Event::Start);
        bench
    }

    pub fn new(config: Config) -> Bench {
        let routers = Routers::new(config).expect("no flaws");
        Bench { routers, now: Instant::from_seconds(10), done: Vec::new() }
    }

    /// One instance, Active: time has passed until it was, and what it did is forgotten.
    pub fn active(config: InstanceConfig) -> Bench {
        let mut bench = Bench::start(super::tests::config(vec![config]));
        bench.pass(seconds(200.0));
        assert!(bench.state().is_active());
        bench.done.clear();
        bench
    }

    pub fn link(&mut self, is_up: bool) {
        let addresses = ["10.77.0.1", "fe80::ff:fe00:a", "fd77::1"].map(address).to_vec();
        self.event(Event::Link { interface: "eth0".into(), link: Link { is_up, addresses } });
    }

    pub fn event(&mut self, event: Event) {
        self.routers.handle(self.now, event);
        self.drain();
    }

    pub fn script(&mut self, name: &str, reading: Reading) {
        self.event(Event::Tracked { tracker: Tracker::Script(name.into()), reading });
    }

    fn drain(&mut self) {
        while let Some(action) = self.routers.poll_action() {
            self.done.push(action);
        }
    }

    /// Lets time pass, deadline by deadline.
    pub fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(at) = self.routers.next_deadline().filter(|&at| at <= end) {
            self.now = self.now.max(at);
            self.routers.handle_timeout(self.now);
            self.drain();
            assert!(self.routers.next_deadline().is_none_or(|next| next > self.now), "timers go on");
        }
        self.now = end;
    }

    pub fn first(&self) -> &Instance {
        &self.routers.instances()[0]
    }

    pub fn state(&self) -> State {
        self.first().state()
    }

    pub fn states(&self) -> Vec<Option<Word>> {
        self.routers.instances().iter().map(|instance| instance.state().word()).collect()
    }

    pub fn is_backup(&self) -> bool {
        matches!(self.state(), State::Backup { .. })
    }

    /// Until Active_Down_Timer.
    pub fn down_in(&self) -> Duration {
        match self.state() {
            State::Backup { down: Some(at), .. } => at - self.now,
            other => panic!("{other:?} has no such timer"),
        }
    }

    /// An IP packet as it comes by `eth0`.
    pub fn packet(&mut self, packet: &[u8]) {
        self.routers.handle_packet(self.now, "eth0", received(packet));
        self.drain();
    }

    /// An advertisement of another router of the first instance.
    pub fn hear(&mut self, source: &str, priority: u8) {
        let packet = advert(self.first().config(), source, priority);
        self.packet(&packet);
    }

    /// As [`Bench::hear`], of any instance.
    pub fn hear_of(&mut self, index: usize, source: &str, priority: u8) {
        let packet = advert(self.routers.instances()[index].config(), source, priority);
        self.packet(&packet);
    }

    /// Priorities of the advertisements that were sent.
    pub fn sent(&self) -> Vec<u8> {
        let packets = self.done.iter().filter_map(|action| match action {
            Action::SendAdvert { packet, header_octets, .. } => Some(packet[header_octets + 2]),
            _ => None,
        });
        packets.collect()
    }

    pub fn announced(&self) -> Vec<u32> {
        let rounds = self.done.iter().filter_map(|action| match action {
            Action::Announce { repeat, .. } => Some(*repeat),
            _ => None,
        });
        rounds.collect()
    }

    pub fn log(&self) -> Vec<&str> {
        let lines = self.done.iter().filter_map(|action| match action {
            Action::Log { text, .. } => Some(text.as_str()),
            _ => None,
        });
        lines.collect()
    }

    /// Words of instances and groups, in order, as FIFOs have them.
    pub fn told(&self) -> Vec<String> {
        let lines = self.done.iter().filter_map(|action| match action {
            Action::Notify { instance, word, priority } => Some(format!("INSTANCE {instance} {word} {priority}")),
            Action::NotifyGroup { group, word } => Some(format!("GROUP {group} {word}")),
            _ => None,
        });
        lines.collect()
    }

    pub fn has_log(&self, text: &str) -> bool {
        self.log().iter().any(|line| line.contains(text))
    }

    /// The addresses that are on the host after all that was done.
    pub fn addresses(&self) -> Vec<Address> {
        let mut addresses = std::collections::BTreeSet::new();
        for action in &self.done {
            match action {
                Action::AddAddresses { addresses: added, .. } => addresses.extend(added.iter().map(|it| it.address)),
                Action::RemoveAddresses { addresses: gone, .. } => {
                    gone.iter().for_each(|it| {
                        addresses.remove(&it.address);
                    });
                }
                _ => {}
            }
        }
        addresses.into_iter().collect()
    }
}

/// An IP packet as a raw socket gives it.
pub(super) fn received(packet: &[u8]) -> Received<'_> {
    match packet[0] >> 4 {
        4 => Received::V4(packet),
        _ => {
            let ip = crate::wire::ipv6::Packet::new_checked(packet).unwrap();
            let payload = &packet[crate::wire::ipv6::HEADER_OCTETS..];
            Received::V6 { source: ip.source(), destination: ip.destination(), hop_limit: ip.hop_limit(), payload }
        }
    }
}

/// What another router of the same configuration would send; of IPv6, `source` is another text for its address.
pub(super) fn advert(config: &InstanceConfig, source: &str, priority: u8) -> Vec<u8> {
    advert_with(config, source, priority, |_| {})
}

/// The parts of a packet to come.
pub(super) struct Parts {
    pub envelope: Envelope,
    pub version: Version,
    pub vrid: u8,
    pub interval: u16,
    pub authentication: wire::Authentication,
    pub addresses: Vec<Address>,
}

/// As [`advert`], with changes.
pub(super) fn advert_with(
    config: &InstanceConfig,
    source: &str,
    priority: u8,
    change: impl FnOnce(&mut Parts),
) -> Vec<u8> {
    let destination = if config.is_unicast() { address("10.77.0.1") } else { config.multicast_group() };
    let (authentication, key) = match config.authentication {
        Authentication::None => (wire::Authentication::None, None),
        Authentication::Password(key) => (wire::Authentication::Password(key), None),
        Authentication::Header(key) => (wire::Authentication::Header, Some((key, 1))),
    };
    let mut parts = Parts {
        envelope: Envelope {
            source: address(source),
            destination,
            hop_limit: HOP_LIMIT,
            identification: 1,
            summed_destination: destination,
            authentication: key,
        },
        version: config.version,
        vrid: config.vrid,
        interval: match config.version {
            Version::V2 => config.interval.as_secs() as u16,
            Version::V3 => (config.interval.as_millis() / 10) as u16,
        },
        authentication,
        addresses: config.addresses.iter().map(|it| it.address).collect(),
    };
    change(&mut parts);
    let advert = Advert {
        version: parts.version,
        vrid: parts.vrid,
        priority,
        interval: parts.interval,
        authentication: parts.authentication,
        addresses: &parts.addresses,
    };
    let mut buffer = [0; wire::PACKET_OCTETS_MAX];
    let (octets, _) = wire::emit(&mut buffer, &parts.envelope, &advert);
    buffer[..octets].to_vec()
}
