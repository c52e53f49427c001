//! All virtual routers of this host.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::{Address, Family, Instant};
use crate::vrrp::instance::{Actions, Input};
use crate::vrrp::sync_group::Group;
use crate::vrrp::track::{Standing, World};
use crate::vrrp::{Action, Config, Event, Flaw, Instance, Level, Name, State, Track};
use crate::wire::vrrp::{Message, Received, open};

/// Packets that no instance wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Unclaimed {
    /// No packet of VRRP, or one that ends before its fixed fields do.
    pub malformed: u64,
    /// No instance has this identifier and family on this interface.
    pub unknown_vrid: u64,
}

/// Whether instances run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Phase {
    /// Before [`Event::Start`].
    Waiting,
    /// Within the startup delay.
    Delayed(Instant),
    /// They do.
    Running,
    /// After [`Event::Stop`].
    Stopped,
}

/// All instances and sync groups: events, packets and time in, actions out.
#[derive(Clone, Debug)]
pub struct Routers {
    pub(super) config: Config,
    pub(super) phase: Phase,
    pub(super) instances: Vec<Instance>,
    pub(super) groups: Vec<Group>,
    pub(super) world: World,
    pub(super) index: Index,
    pub(super) actions: Actions,
    unclaimed: Unclaimed,
}

/// What is looked up by packet.
#[derive(Clone, Debug, Default)]
pub(super) struct Index {
    by_vrid: BTreeMap<(u8, Family), Vec<usize>>,
    addresses: BTreeSet<Address>,
    /// The group of each instance.
    pub group_of: Vec<Option<usize>>,
}

/// A group that an instance listens to.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Membership {
    pub instance: Name,
    pub interface: Name,
    pub group: Address,
}

impl Index {
    pub fn new(instances: &[Instance], groups: &[Group]) -> Self {
        let mut index = Index { group_of: vec![None; instances.len()], ..Index::default() };
        for (position, group) in groups.iter().enumerate() {
            group.members.iter().for_each(|&member| index.group_of[member] = Some(position));
        }
        for (position, instance) in instances.iter().enumerate() {
            let config = &instance.config;
            index.by_vrid.entry((config.vrid, config.family)).or_default().push(position);
            index.addresses.extend(config.all_addresses().map(|own| own.address));
        }
        index
    }
}

impl Routers {
    /// Nothing begins before [`Event::Start`].
    ///
    /// # Errors
    /// All flaws of the configuration.
    pub fn new(config: Config) -> Result<Self, Vec<Flaw>> {
        let (config, messages) = config.settle()?;
        let instances: Vec<Instance> = config.instances.iter().cloned().map(Instance::new).collect();
        let groups = Group::all(&config, &instances);
        let mut routers = Routers {
            phase: Phase::Waiting,
            index: Index::new(&instances, &groups),
            groups,
            instances,
            world: World::default(),
            actions: Actions::new(),
            unclaimed: Unclaimed::default(),
            config,
        };
        routers.log_all(messages);
        Ok(routers)
    }

    pub(super) fn log_all(&mut self, messages: Vec<String>) {
        self.actions.extend(messages.into_iter().map(|text| Action::Log { level: Level::Warning, text }));
    }

    /// The instances, in the configuration's order.
    pub fn instances(&self) -> &[Instance] {
        &self.instances
    }

    /// The instance of a name.
    pub fn instance(&self, name: &str) -> Option<&Instance> {
        self.instances.iter().find(|instance| &*instance.config.name == name)
    }

    /// Packets that no instance wanted.
    pub const fn unclaimed(&self) -> Unclaimed {
        self.unclaimed
    }

    /// The next thing to do outside; to be asked until there is none after every call.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When [`Routers::handle_timeout`] is to be called.
    pub fn next_deadline(&self) -> Option<Instant> {
        match self.phase {
            Phase::Waiting | Phase::Stopped => None,
            Phase::Delayed(at) => Some(at),
            Phase::Running => self.instances.iter().filter_map(Instance::deadline).min(),
        }
    }

    /// Something happened.
    pub fn handle(&mut self, now: Instant, event: Event) {
        match event {
            Event::Start => self.start(now),
            Event::Link { interface, link } => {
                let before = self.world.link(&interface);
                let (is_known, was_up) = (before.is_some(), before.is_some_and(|link| link.is_up));
                let is_up = link.is_up;
                if was_up != is_up && is_known {
                    let word = if is_up { "up" } else { "down" };
                    let text = format!("Netlink reports {interface} {word}");
                    self.actions.push_back(Action::Log { level: Level::Information, text });
                }
                self.world.set_link(interface.clone(), link);
                if is_up && !was_up && self.phase == Phase::Running {
                    self.join_groups(Some(&interface));
                }
                self.reassess(now, false);
            }
            Event::Tracked { tracker, reading } => {
                self.world.set_reading(tracker, reading);
                self.reassess(now, false);
            }
            Event::AddressLost { interface, address } => self.put_back(&interface, address),
            Event::Stop => self.stop(now),
        }
        self.tell_groups();
    }

    /// A packet came in by an interface.
    pub fn handle_packet(&mut self, now: Instant, interface: &str, received: Received<'_>) {
        if self.phase != Phase::Running {
            return;
        }
        let Ok(opened) = open(received) else {
            self.unclaimed.malformed += 1;
            return;
        };
        let family = opened.source.family();
        let Ok(message) = Message::new_checked(opened.payload, family) else {
            self.unclaimed.malformed += 1;
            return;
        };
        let candidates = self.index.by_vrid.get(&(message.vrid(), family));
        let is_there = |&&index: &&usize| {
            let instance = &self.instances[index];
            match instance.config.interface.as_deref() {
                Some(own) => own == interface,
                // By whatever interface it comes, it is for who has the address.
                None => instance.primary == Some(opened.destination),
            }
        };
        let candidates = candidates.into_iter().flatten().filter(is_there);
        // One with that very destination, else one that refuses it by name.
        let Some(&index) = candidates.min_by_key(|&&index| !self.instances[index].is_meant(opened.destination)) else {
            self.unclaimed.unknown_vrid += 1;
            return;
        };
        if let Some(heard) = self.instances[index].receive(now, &opened, &message, &mut self.actions) {
            self.apply(now, index, Input::Heard(heard));
        }
        self.tell_groups();
    }

    /// Time has come to [`Routers::next_deadline`], or beyond.
    pub fn handle_timeout(&mut self, now: Instant) {
        match self.phase {
            Phase::Waiting | Phase::Stopped => return,
            Phase::Delayed(at) if at > now => return,
            Phase::Delayed(_) => self.begin(now),
            Phase::Running => {}
        }
        for index in 0..self.instances.len() {
            let instance = &mut self.instances[index];
            match instance.state {
                State::Backup { down: Some(at), .. } if at <= now => self.apply(now, index, Input::DownTimer),
                State::Active { advert } => {
                    if advert <= now {
                        instance.step(now, Input::AdvertTimer, &mut self.actions);
                    }
                    self.instances[index].announce_due(now, &mut self.actions);
                }
                State::Initialize | State::Backup { .. } | State::Fault => {}
            }
        }
        self.tell_groups();
    }

    /// One step of one instance, and what its sync group makes of it.
    pub(super) fn apply(&mut self, now: Instant, index: usize, input: Input) {
        let before = self.instances[index].state;
        self.instances[index].step(now, input, &mut self.actions);
        self.follow(now, index, before);
    }

    fn start(&mut self, now: Instant) {
        if self.phase != Phase::Waiting {
            return;
        }
        let delay = self.config.startup_delay;
        if delay.is_zero() {
            self.begin(now);
            return;
        }
        let text = format!("Delaying startup for {} seconds", delay.as_secs_f64());
        self.actions.push_back(Action::Log { level: Level::Information, text });
        self.phase = Phase::Delayed(now + delay);
    }

    fn begin(&mut self, now: Instant) {
        self.phase = Phase::Running;
        for instance in &self.instances {
            // Whatever a run before this one left behind.
            instance.remove_routes(&mut self.actions);
            instance.remove_all_addresses(&mut self.actions);
        }
        self.join_groups(None);
        self.reassess(now, true);
    }

    /// Joins the groups of all instances, or of those on one interface.
    pub(super) fn join_groups(&mut self, only: Option<&Name>) {
        for Membership { instance, interface, group } in self.instances.iter().filter_map(Instance::membership) {
            if only.is_none_or(|only| *only == interface) {
                self.actions.push_back(Action::JoinGroup { instance, interface, group });
            }
        }
    }

    fn stop(&mut self, now: Instant) {
        for index in 0..self.instances.len() {
            self.instances[index].step(now, Input::Stop, &mut self.actions);
            if let Some(Membership { instance, interface, group }) = self.instances[index].membership() {
                self.actions.push_back(Action::LeaveGroup { instance, interface, group });
            }
        }
        self.phase = Phase::Stopped;
    }

    /// An address that somebody took away.
    fn put_back(&mut self, interface: &Name, address: Address) {
        for instance in self.instances.iter().filter(|instance| instance.state.is_active()) {
            let config = &instance.config;
            let lost = config.all_addresses().find(|own| {
                let on = own.interface.as_ref().or(config.interface.as_ref());
                own.address == address && !own.is_untracked && on == Some(interface)
            });
            if let Some(lost) = lost {
                let text = format!("{address} was removed from {interface} - putting it back");
                instance.log(&mut self.actions, Level::Warning, &text);
                instance.add_addresses(vec![lost.clone()], &mut self.actions);
                instance.announce_these(config.announcing.repeat, std::iter::once(lost), &mut self.actions);
            }
        }
    }

    /// What counts for an instance: its trackers, its group's, and those of other members where the group says so.
    fn tracks(&self, index: usize) -> impl Iterator<Item = &Track> {
        let group = self.group(index);
        let others = group.into_iter().filter(|group| group.config.tracks_globally).flat_map(move |group| {
            group
                .members
                .iter()
                .filter(move |&&other| other != index)
                .flat_map(|&other| &self.instances[other].config.tracks)
        });
        let of_group = group.into_iter().flat_map(|group| &group.config.tracks);
        self.instances[index].config.tracks.iter().chain(of_group).chain(others)
    }

    fn group(&self, index: usize) -> Option<&Group> {
        self.index.group_of[index].map(|group| &self.groups[group])
    }

    fn is_weighted(&self, index: usize) -> bool {
        self.group(index).is_none_or(|group| group.config.uses_weights)
    }

    /// The sync group of an instance, by its position.
    pub fn group_of(&self, position: usize) -> Option<&Name> {
        self.group(position).map(|group| &group.config.name)
    }

    /// What keeps an instance that has not begun, or is in Fault, from running, in sentences.
    pub fn hindrances(&self, position: usize) -> Vec<String> {
        match self.phase {
            Phase::Waiting | Phase::Delayed(_) => return vec!["the start is delayed".to_owned()],
            Phase::Stopped => return vec!["it was stopped".to_owned()],
            Phase::Running => {}
        }
        let mut texts = self.own_hindrances(position);
        let members = self.group(position).into_iter().flat_map(|group| &group.members);
        for &member in members.filter(|&&member| member != position) {
            let name = &self.instances[member].config.name;
            texts.extend(self.own_hindrances(member).into_iter().map(|text| format!("{name}, of its group: {text}")));
        }
        texts
    }

    fn own_hindrances(&self, index: usize) -> Vec<String> {
        let instance = &self.instances[index];
        let mut texts = self.world.hindrances_of_way(&instance.config, instance.primary);
        texts.extend(self.world.hindrances(self.tracks(index)));
        texts
    }

    fn own_standing(&self, index: usize) -> Standing {
        let instance = &self.instances[index];
        let of_way = self.world.standing_of_way(&instance.config, instance.primary);
        self.world.standing(self.tracks(index)).max(of_way)
    }

    /// Works out sources, priorities and faults anew.
    pub(super) fn reassess(&mut self, now: Instant, is_first: bool) {
        for index in 0..self.instances.len() {
            let is_virtual = |address| self.index.addresses.contains(&address);
            let primary = self.world.primary(&self.instances[index].config, is_virtual);
            let base = self.instances[index].config.priority;
            let priority = if self.is_weighted(index) { self.world.priority(base, self.tracks(index)) } else { base };
            let instance = &mut self.instances[index];
            instance.primary = primary;
            instance.set_priority(priority, self.phase == Phase::Running, &mut self.actions);
        }
        if self.phase != Phase::Running {
            return;
        }
        let standings: Vec<Standing> = (0..self.instances.len()).map(|index| self.own_standing(index)).collect();
        for position in 0..self.groups.len() {
            let members = self.groups[position].members.clone();
            self.hold_group(now, position, &members, &standings, is_first);
        }
        for (index, &standing) in standings.iter().enumerate() {
            if self.index.group_of[index].is_none() {
                self.hold(now, index, standing, is_first);
            }
        }
    }

    /// Lets an instance run, or not.
    pub(super) fn hold(&mut self, now: Instant, index: usize, standing: Standing, is_first: bool) {
        let input = match (standing, self.instances[index].state) {
            (Standing::Faulty, State::Initialize | State::Backup { .. } | State::Active { .. }) => Input::Fail,
            (Standing::Good, State::Initialize) => Input::Start { is_first },
            (Standing::Good, State::Fault) => Input::Heal,
            (Standing::Faulty | Standing::Unknown, State::Fault)
            | (Standing::Unknown, State::Initialize)
            | (Standing::Good | Standing::Unknown, State::Backup { .. } | State::Active { .. }) => return,
        };
        self.apply(now, index, input);
    }
}

impl Instance {
    /// Where it listens to a group.
    pub(super) fn membership(&self) -> Option<Membership> {
        let interface = self.config.interface.clone().filter(|_| !self.config.is_unicast())?;
        Some(Membership { instance: self.config.name.clone(), interface, group: self.config.multicast_group() })
    }

    /// True when packets to `destination` are for it.
    fn is_meant(&self, destination: Address) -> bool {
        let own = if self.config.is_unicast() { self.primary } else { Some(self.config.multicast_group()) };
        own == Some(destination)
    }

    /// Takes a new effective priority; the next advertisement has it, and the next down interval.
    fn set_priority(&mut self, priority: u8, is_told: bool, out: &mut Actions) {
        if priority == self.priority {
            return;
        }
        let old = std::mem::replace(&mut self.priority, priority);
        if is_told {
            self.log(out, Level::Information, &format!("Changing effective priority from {old} to {priority}"));
            let (instance, is_told) = (self.config.name.clone(), self.config.tells_priority);
            out.push_back(Action::PriorityChanged { instance, priority, is_told });
        }
    }
}
