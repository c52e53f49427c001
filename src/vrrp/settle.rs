//! Corrections of a configuration, with a message each, as keepalived makes them; and its flaws.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::{Duration, Family};
use crate::vrrp::{
    ADDRESSES_MAX, ADDRESSES_V6_MAX, Authentication, Config, EXCLUDED_MAX, Flaw, INSTANCES_MAX, InstanceConfig, Name,
    PEERS_MAX,
};
use crate::wire::vrrp::{PRIORITY_OWNER, Version};

/// The longest interval of version 3: 4095 centiseconds.
const INTERVAL_V3_MAX: Duration = Duration::from_millis(40_950);
/// The shortest.
const INTERVAL_V3_MIN: Duration = Duration::from_millis(10);
/// The longest interval of version 2, seconds.
const INTERVAL_V2_MAX_S: u64 = 255;
/// `down_timer_adverts`, at most.
const DOWN_ADVERTS_MAX: u8 = 100;
/// `preempt_delay`, at most.
const PREEMPT_DELAY_MAX: Duration = Duration::from_secs(1000);
/// A weight, either way, at most.
const WEIGHT_MAX: i32 = 254;

impl Config {
    /// Corrects what can be, and says what was corrected, in lines for the log.
    ///
    /// # Errors
    /// All [`Flaw`]s; then nothing of the configuration is to be used.
    pub fn settle(mut self) -> Result<(Config, Vec<String>), Vec<Flaw>> {
        let mut messages = Vec::new();
        let mut flaws = Vec::new();
        for instance in &mut self.instances {
            correct(instance, &mut messages);
            flaws_of(instance, &mut flaws);
        }
        self.between(&mut flaws);
        for group in &self.groups {
            if group.members.len() < 2 {
                let count = group.members.len();
                messages.push(format!(
                    "Sync group {} has only {count} virtual router(s) - this probably isn't what you want",
                    group.name
                ));
            }
        }
        self.say_ignored_weights(&mut messages);
        self.groups.retain(|group| !group.members.is_empty());
        if flaws.is_empty() { Ok((self, messages)) } else { Err(flaws) }
    }

    /// A member whose priority moves would part from the others.
    fn say_ignored_weights(&self, messages: &mut Vec<String>) {
        let unweighted = self.groups.iter().filter(|group| !group.uses_weights);
        let groups: BTreeMap<&Name, &Name> =
            unweighted.flat_map(|group| group.members.iter().map(|member| (member, &group.name))).collect();
        for instance in self.instances.iter().filter(|it| it.tracks.iter().any(|track| track.weight != 0)) {
            if let Some(group) = groups.get(&instance.name) {
                let name = &instance.name;
                messages.push(format!("({name}) weights of tracked objects are ignored in the sync group {group}"));
            }
        }
    }

    /// Flaws that no instance has alone.
    fn between(&self, flaws: &mut Vec<Flaw>) {
        if self.instances.len() > INSTANCES_MAX {
            flaws.push(Flaw::TooManyInstances(self.instances.len()));
        }
        let mut names: BTreeSet<&Name> = BTreeSet::new();
        let mut routers: BTreeMap<_, &Name> = BTreeMap::new();
        for instance in &self.instances {
            if !names.insert(&instance.name) {
                flaws.push(Flaw::DuplicateName(instance.name.clone()));
            }
            if let Some(other) = routers.insert(instance.identity(), &instance.name) {
                flaws.push(Flaw::DuplicateVrid(instance.name.clone(), other.clone()));
            }
        }
        let mut grouped = BTreeSet::new();
        let mut groups = BTreeSet::new();
        for group in &self.groups {
            if !groups.insert(&group.name) {
                flaws.push(Flaw::DuplicateName(group.name.clone()));
            }
            for member in &group.members {
                if !names.contains(member) || !grouped.insert(member) {
                    flaws.push(Flaw::UnknownMember(group.name.clone(), member.clone()));
                }
            }
        }
    }
}

impl InstanceConfig {
    /// What makes it the same virtual router: nothing else can have it, and with another it is another router.
    pub(super) fn identity(&self) -> (u8, Family, Option<Name>) {
        (self.vrid, self.family, self.interface.clone())
    }
}

fn correct(instance: &mut InstanceConfig, messages: &mut Vec<String>) {
    let name = instance.name.clone();
    let mut say = |text: &str| messages.push(format!("({name}) {text}"));
    if instance.family == Family::V6 && instance.version == Version::V2 {
        instance.version = Version::V3;
    }
    if instance.version == Version::V3 && instance.authentication != Authentication::None {
        say("VRRP version 3 does not support authentication. Ignoring.");
        instance.authentication = Authentication::None;
    }
    if instance.is_strict && instance.authentication != Authentication::None {
        say("Strict mode does not support authentication. Ignoring.");
        instance.authentication = Authentication::None;
    }
    if instance.starts_as_master && matches!(instance.authentication, Authentication::Header(_)) {
        say("Initial state master is incompatible with AH authentication - clearing");
        instance.starts_as_master = false;
    }
    if instance.starts_as_master && !instance.preempts {
        say("nopreempt will not work with initial state MASTER - clearing");
        instance.preempts = true;
    }
    if instance.starts_as_master && instance.preempt_delay > Duration::ZERO {
        say("preempt delay will not work with initial state MASTER - clearing");
        instance.preempt_delay = Duration::ZERO;
    }
    if instance.preempt_delay > PREEMPT_DELAY_MAX {
        say("preempt delay is above 1000 seconds - setting to that");
        instance.preempt_delay = PREEMPT_DELAY_MAX;
    }
    let interval = match instance.version {
        Version::V2 => Duration::from_secs(instance.interval.as_secs().clamp(1, INTERVAL_V2_MAX_S)),
        Version::V3 => {
            let centiseconds = instance.interval.clamp(INTERVAL_V3_MIN, INTERVAL_V3_MAX).as_millis() / 10;
            Duration::from_millis(centiseconds as u64 * 10)
        }
    };
    if interval != instance.interval {
        say(&format!("advert_int {:?} is not possible - setting to {interval:?}", instance.interval));
        instance.interval = interval;
    }
    if !(1..=DOWN_ADVERTS_MAX).contains(&instance.down_adverts) {
        say("down_timer_adverts must be 1 to 100 - setting to 3");
        instance.down_adverts = 3;
    }
    for track in &mut instance.tracks {
        let weight = track.weight.clamp(-WEIGHT_MAX, WEIGHT_MAX);
        if weight != track.weight {
            messages.push(format!("({name}) weight {} is out of range - setting to {weight}", track.weight));
            track.weight = weight;
        }
    }
    if instance.priority == PRIORITY_OWNER && instance.tracks.iter().any(|track| track.weight != 0) {
        messages.push(format!("({name}) the address owner has no weights - ignoring them"));
        instance.tracks.retain(|track| track.weight == 0);
    }
    if instance.is_strict {
        instance.answers_lower = false;
        if instance.priority != PRIORITY_OWNER {
            instance.accepts = false;
        }
    }
    if instance.family == Family::V6
        && instance.addresses.first().is_some_and(|first| !first.address.is_link_local_v6())
    {
        messages.push(format!("({name}) the first IPv6 VIP address should be link local"));
    }
}

fn flaws_of(instance: &InstanceConfig, flaws: &mut Vec<Flaw>) {
    let name = &instance.name;
    let mut check = |is_wrong: bool, flaw: Flaw| {
        if is_wrong {
            flaws.push(flaw);
        }
    };
    check(instance.vrid == 0, Flaw::NoVrid(name.clone()));
    check(instance.priority == 0, Flaw::NoPriority(name.clone()));
    let has_way = instance.interface.is_some() || instance.is_unicast() && instance.source.is_some();
    check(!has_way, Flaw::NoInterface(name.clone()));
    let count = instance.addresses.len();
    check(instance.is_strict && count == 0, Flaw::NoAddresses(name.clone()));
    check(instance.is_strict && instance.is_unicast(), Flaw::StrictUnicast(name.clone()));
    let addresses_max = match instance.family {
        Family::V4 => ADDRESSES_MAX,
        Family::V6 => ADDRESSES_V6_MAX,
    };
    check(count > addresses_max, Flaw::TooManyAddresses(name.clone(), count));
    let count = instance.excluded.len();
    check(count > EXCLUDED_MAX, Flaw::TooManyExcluded(name.clone(), count));
    check(instance.peers.len() > PEERS_MAX, Flaw::TooManyPeers(name.clone(), instance.peers.len()));
    let own = instance.addresses.iter().map(|it| it.address).chain(instance.peers.iter().map(|it| it.address));
    for address in own.chain(instance.source).chain(instance.group) {
        check(address.family() != instance.family, Flaw::WrongFamily(name.clone(), address));
    }
}
