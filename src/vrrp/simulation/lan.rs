//! The LAN, its hosts, and what holds after every step.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::{Address, Duration, Family, Instant, Rng};
use crate::vrrp::tests::received;
use crate::vrrp::*;
use crate::wire::vrrp::{PRIORITY_OWNER, Version};

/// The longest that a packet takes in calm.
pub const DELIVERY_MAX: Duration = Duration::from_millis(8);
/// The longest that it takes in disorder: longer than an interval, so that old news come after new.
pub const DELIVERY_DISORDER_MAX_MS: u32 = 600;
/// Packets that wait for a host that pauses.
pub const SOCKET_PACKETS_MAX: usize = 64;

/// A host and what is on it.
pub struct Host {
    pub config: Config,
    pub routers: Option<Routers>,
    pub addresses: BTreeSet<Address>,
    pub paused_until: Option<Instant>,
    /// Packets that came while it paused.
    pub waiting: Vec<Vec<u8>>,
    /// Hosts of one segment hear each other.
    pub segment: u32,
    pub link_is_up: bool,
    /// Where a client on its segment sends packets to an address.
    pub client: BTreeMap<Address, usize>,
}

pub struct Lan {
    pub seed: u64,
    pub is_told: bool,
    pub rng: Rng,
    pub now: Instant,
    pub hosts: Vec<Host>,
    pub flying: BTreeMap<(Instant, u64), (usize, Vec<u8>)>,
    pub sent: u64,
    pub is_calm: bool,
    /// Whether disorder is more than partitions.
    pub is_rough: bool,
    /// When two routers of one identifier were first Active at once, by identifier.
    pub doubled: BTreeMap<u8, Instant>,
    /// When the network was whole, and everything had had its time.
    pub settled: Option<Instant>,
}

/// What all hosts of a run have in common, and what each has of its own.
pub fn hosts(rng: &mut Rng) -> Vec<Host> {
    let family = [Family::V4, Family::V6][rng.below(2) as usize];
    let version = if family == Family::V6 || rng.below(2) == 0 { Version::V3 } else { Version::V2 };
    let is_grouped = rng.below(3) == 0;
    let is_unicast = rng.below(4) == 0;
    let is_authenticated = version == Version::V2 && rng.below(2) == 0;
    let has_owner = rng.below(8) == 0;
    let count = 2 + rng.below(2) as usize;
    let hosts = (0..count).map(|number| {
        let mut priority = [50, 100, 100, 150, 200, 254][rng.below(6) as usize];
        if has_owner && number == 0 {
            priority = PRIORITY_OWNER;
        }
        let interval = match version {
            Version::V2 => Duration::from_secs(1),
            Version::V3 => Duration::from_millis([100, 250, 1000][rng.below(3) as usize]),
        };
        let preempts = rng.below(3) > 0;
        let instance = |vrid: u8| {
            let mut config = InstanceConfig::new(&format!("VI_{vrid}"), "eth0", vrid, family);
            (config.version, config.priority, config.interval, config.preempts) =
                (version, priority, interval, preempts);
            let address = match family {
                Family::V4 => Address::v4(0x0a4d_0100 + u32::from(vrid)),
                Family::V6 => Address::v6((0xfe80 << 112) + 0x100 + u128::from(vrid)),
            };
            config.addresses = vec![VirtualAddress::new(address)];
            if is_authenticated {
                config.authentication = Authentication::Header(*b"a secret");
            }
            if is_unicast {
                config.source = Some(own_address(number, family));
                let others = (0..count).filter(|&other| other != number);
                config.peers = others.map(|other| Peer::new(own_address(other, family))).collect();
                config.checks_sender = true;
            }
            if !is_grouped && priority != PRIORITY_OWNER {
                config.tracks = vec![Track { tracker: Tracker::Script("chk".into()), weight: -60, is_reversed: false }];
            }
            config
        };
        let mut config = Config { instances: vec![instance(1)], ..Config::default() };
        if is_grouped {
            config.instances.push(instance(2));
            config.groups = vec![GroupConfig::new("VG", &["VI_1", "VI_2"])];
        }
        Host {
            config,
            routers: None,
            addresses: BTreeSet::new(),
            paused_until: None,
            waiting: Vec::new(),
            segment: 0,
            link_is_up: true,
            client: BTreeMap::new(),
        }
    });
    hosts.collect()
}

impl Host {
    /// Running, not paused, and with a link.
    pub fn is_well(&self) -> bool {
        self.routers.is_some() && self.paused_until.is_none() && self.link_is_up
    }

    pub fn instances(&self) -> &[Instance] {
        self.routers.as_ref().map_or(&[], |routers| routers.instances())
    }
}

/// The host's own address.
pub fn own_address(number: usize, family: Family) -> Address {
    let own = number as u32 + 1;
    match family {
        Family::V4 => Address::v4(0x0a4d_0000 + own),
        Family::V6 => Address::v6((0xfe80 << 112) + u128::from(own)),
    }
}

pub fn link(number: usize, is_up: bool) -> Link {
    Link { is_up, addresses: [Family::V4, Family::V6].map(|family| own_address(number, family)).to_vec() }
}

impl Lan {
    pub fn new(seed: u64, is_told: bool) -> Lan {
        let mut rng = Rng::new(seed);
        let hosts = hosts(&mut rng);
        Lan {
            seed,
            is_told,
            is_rough: rng.below(4) > 0,
            rng,
            now: Instant::from_seconds(1),
            hosts,
            flying: BTreeMap::new(),
            sent: 0,
            is_calm: false,
            doubled: BTreeMap::new(),
            settled: None,
        }
    }

    pub fn fail(&self, what: &str) -> ! {
        let states: Vec<String> = self
            .hosts
            .iter()
            .map(|host| {
                let states: Vec<String> =
                    host.instances().iter().map(|it| format!("{:?} priority {}", it.state(), it.priority())).collect();
                format!("{states:?} {:?} on {}", host.addresses, host.segment)
            })
            .collect();
        panic!("LVX_SEED={} at {}: {what}\n{}", self.seed, self.now, states.join("\n"));
    }

    pub fn start(&mut self, number: usize) {
        let mut routers = Routers::new(self.hosts[number].config.clone()).expect("no flaws");
        let up = self.hosts[number].link_is_up;
        routers.handle(self.now, Event::Link { interface: "eth0".into(), link: link(number, up) });
        routers.handle(self.now, Event::Start);
        self.hosts[number].routers = Some(routers);
        self.carry_out(number);
    }

    pub fn stop(&mut self, number: usize) {
        self.event(number, Event::Stop);
        self.hosts[number].routers = None;
        if !self.hosts[number].addresses.is_empty() {
            self.fail("addresses were left behind");
        }
    }

    /// Loss of power.
    pub fn crash(&mut self, number: usize) {
        let host = &mut self.hosts[number];
        host.routers = None;
        host.addresses.clear();
        host.waiting.clear();
        host.paused_until = None;
    }

    pub fn event(&mut self, number: usize, event: Event) {
        if let Some(routers) = &mut self.hosts[number].routers {
            routers.handle(self.now, event);
        }
        self.carry_out(number);
    }

    pub fn carry_out(&mut self, number: usize) {
        while let Some(action) = self.hosts[number].routers.as_mut().and_then(Routers::poll_action) {
            if self.is_told && !matches!(action, Action::JoinGroup { .. } | Action::LeaveGroup { .. }) {
                println!("{} host {number} {action:?}", self.now);
            }
            match action {
                Action::SendAdvert { destination, packet, .. } => self.send(number, destination, &packet),
                Action::AddAddresses { addresses, .. } => {
                    self.hosts[number].addresses.extend(addresses.iter().map(|it| it.address));
                }
                Action::RemoveAddresses { addresses, .. } => {
                    for gone in addresses {
                        self.hosts[number].addresses.remove(&gone.address);
                    }
                }
                Action::Announce { addresses, .. } if self.hosts[number].link_is_up => {
                    let segment = self.hosts[number].segment;
                    for host in self.hosts.iter_mut().filter(|host| host.segment == segment) {
                        host.client.extend(addresses.iter().map(|&(_, address)| (address, number)));
                    }
                }
                _ => {}
            }
        }
    }

    pub fn send(&mut self, from: usize, destination: Address, packet: &[u8]) {
        if !self.hosts[from].link_is_up {
            return;
        }
        let is_for = |to: usize| destination.is_multicast() || destination == own_address(to, destination.family());
        for to in (0..self.hosts.len()).filter(|&to| to != from && is_for(to)) {
            if self.hosts[to].segment != self.hosts[from].segment {
                continue;
            }
            let is_disordered = !self.is_calm && self.is_rough;
            if is_disordered && self.rng.below(10) < 3 {
                continue;
            }
            let copies = if is_disordered && self.rng.below(10) == 0 { 2 } else { 1 };
            for _ in 0..copies {
                let delay = match is_disordered {
                    true => Duration::from_millis(self.rng.below(DELIVERY_DISORDER_MAX_MS).into()),
                    false => Duration::from_micros(self.rng.below(DELIVERY_MAX.as_micros() as u32).into()),
                };
                self.sent += 1;
                self.flying.insert((self.now + delay, self.sent), (to, packet.to_vec()));
            }
        }
    }

    /// Lets time pass, event by event.
    pub fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let deadlines = self.hosts.iter().filter_map(|host| match host.paused_until {
                Some(at) => Some(at),
                None => host.routers.as_ref()?.next_deadline(),
            });
            let next = deadlines.chain(self.flying.keys().next().map(|&(at, _)| at)).min();
            let Some(at) = next.filter(|&at| at <= end) else { break };
            self.now = self.now.max(at);
            self.deliver();
            for number in 0..self.hosts.len() {
                self.wake(number);
            }
            self.check();
        }
        self.now = end;
    }

    pub fn deliver(&mut self) {
        while let Some(entry) = self.flying.first_entry().filter(|entry| entry.key().0 <= self.now) {
            let (to, packet) = entry.remove();
            let host = &mut self.hosts[to];
            if host.routers.is_none() || !host.link_is_up {
                continue;
            }
            if host.waiting.len() < SOCKET_PACKETS_MAX {
                host.waiting.push(packet);
            }
        }
    }

    /// What is readable first, then what time it is.
    pub fn wake(&mut self, number: usize) {
        let host = &mut self.hosts[number];
        if host.paused_until.is_some_and(|at| at > self.now) {
            return;
        }
        host.paused_until = None;
        for packet in std::mem::take(&mut host.waiting) {
            if let Some(routers) = &mut self.hosts[number].routers {
                routers.handle_packet(self.now, "eth0", received(&packet));
            }
            self.carry_out(number);
        }
        if let Some(routers) = &mut self.hosts[number].routers {
            routers.handle_timeout(self.now);
            if routers.next_deadline().is_some_and(|at| at <= self.now) {
                self.fail("a timer does not go on");
            }
        }
        self.carry_out(number);
    }

    /// Hosts that are Active, by the position of an instance.
    pub fn active(&self, position: usize) -> Vec<usize> {
        let is_active =
            |&number: &usize| self.hosts[number].instances().get(position).is_some_and(|it| it.state().is_active());
        (0..self.hosts.len()).filter(is_active).collect()
    }

    pub fn positions(&self) -> std::ops::Range<usize> {
        0..self.hosts[0].config.instances.len()
    }

    /// What holds after every step.
    pub fn check(&mut self) {
        for host in self.hosts.iter().filter(|host| host.routers.is_some()) {
            let states: BTreeSet<bool> = host.instances().iter().map(|it| it.state().is_active()).collect();
            if states.len() > 1 {
                self.fail("one of a sync group is Active without the other");
            }
            for instance in host.instances() {
                let has = host.addresses.contains(&instance.config().addresses[0].address);
                if has != instance.state().is_active() {
                    self.fail("addresses and state do not go together");
                }
            }
        }
        for position in self.positions() {
            let vrid = self.hosts[0].config.instances[position].vrid;
            if self.active(position).len() < 2 {
                self.doubled.remove(&vrid);
                continue;
            }
            let since = *self.doubled.entry(vrid).or_insert(self.now);
            // A router that begins is Active before its first advertisement has come; what was sent before crosses it.
            let is_long = self.now - since > DELIVERY_MAX * 2;
            if is_long && self.settled.is_some_and(|settled| self.now > settled) {
                self.fail("two are Active in a whole network");
            }
        }
    }
}
