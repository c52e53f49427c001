//! What trackers, links and addresses make of priorities and faults.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::{Address, Family};
use crate::vrrp::{Config, InstanceConfig, Link, Name, Reading, Track, Tracker};
use crate::wire::vrrp::PRIORITY_OWNER;

/// A file's number times its weight that is a fault, not a weight any more.
const FAULT_EFFECT: i32 = -254;

/// What is known of the world.
#[derive(Clone, Debug, Default)]
pub(super) struct World {
    links: BTreeMap<Name, Link>,
    readings: BTreeMap<Tracker, Reading>,
}

/// Whether an instance, or a group, may run.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Standing {
    /// It may.
    Good,
    /// A tracker has said nothing yet: it is not begun.
    Unknown,
    /// It may not.
    Faulty,
}

/// What one tracker does.
enum Effect {
    Weight(i32),
    Standing(Standing),
}

impl World {
    pub fn set_link(&mut self, interface: Name, link: Link) {
        self.links.insert(interface, link);
    }

    /// Links and readings that are known.
    #[cfg(test)]
    pub fn len(&self) -> (usize, usize) {
        (self.links.len(), self.readings.len())
    }

    pub fn set_reading(&mut self, tracker: Tracker, reading: Reading) {
        self.readings.insert(tracker, reading);
    }

    pub fn link(&self, interface: &Name) -> Option<&Link> {
        self.links.get(interface)
    }

    /// Forgets what no instance and no group of a configuration asks for.
    pub fn prune(&mut self, config: &Config) {
        let instances = config.instances.iter();
        let tracks = instances.flat_map(|it| &it.tracks).chain(config.groups.iter().flat_map(|it| &it.tracks));
        let trackers: BTreeSet<&Tracker> = tracks.map(|track| &track.tracker).collect();
        let interfaces: BTreeSet<&Name> = config.instances.iter().filter_map(|it| it.interface.as_ref()).collect();
        let is_tracked = |name: &Name| trackers.contains(&Tracker::Interface(name.clone()));
        self.links.retain(|name, _| interfaces.contains(name) || is_tracked(name));
        self.readings.retain(|tracker, _| trackers.contains(tracker));
    }

    fn reading(&self, tracker: &Tracker) -> Option<Reading> {
        match tracker {
            // An interface that nobody told of is not there.
            Tracker::Interface(name) => {
                let is_up = self.links.get(name).is_some_and(|link| link.is_up);
                Some(if is_up { Reading::Up } else { Reading::Down })
            }
            Tracker::Script(_) | Tracker::File(_) | Tracker::Process(_) | Tracker::Bfd(_) => {
                self.readings.get(tracker).copied()
            }
        }
    }

    fn effect(&self, track: &Track) -> Effect {
        let sign = if track.is_reversed { -1 } else { 1 };
        match self.reading(&track.tracker) {
            None if track.weight == 0 => Effect::Standing(Standing::Unknown),
            None => Effect::Weight(0),
            Some(Reading::Value(0)) => Effect::Weight(0),
            Some(Reading::Value(_)) if track.weight == 0 => Effect::Standing(Standing::Faulty),
            Some(Reading::Value(value)) => {
                let weight = value.saturating_mul(track.weight).saturating_mul(sign);
                if weight <= FAULT_EFFECT { Effect::Standing(Standing::Faulty) } else { Effect::Weight(weight) }
            }
            Some(reading) => {
                let is_up = reading == Reading::Up;
                if track.weight == 0 {
                    let is_good = is_up != track.is_reversed;
                    return Effect::Standing(if is_good { Standing::Good } else { Standing::Faulty });
                }
                // Positive weights are earned by what is good, negative ones by what is bad.
                let counts = is_up == (track.weight > 0);
                Effect::Weight(if counts { track.weight * sign } else { 0 })
            }
        }
    }

    /// The priority with all weights: of the owner always 255, of others 1 to 254.
    pub fn priority<'a>(&self, base: u8, tracks: impl Iterator<Item = &'a Track>) -> u8 {
        if base == PRIORITY_OWNER {
            return base;
        }
        let weights: i32 = tracks.fold(0, |sum: i32, track| match self.effect(track) {
            Effect::Weight(weight) => sum.saturating_add(weight),
            Effect::Standing(_) => sum,
        });
        i32::from(base).saturating_add(weights).clamp(1, 254) as u8
    }

    /// The worst that trackers say.
    pub fn standing<'a>(&self, tracks: impl Iterator<Item = &'a Track>) -> Standing {
        let standings = tracks.map(|track| match self.effect(track) {
            Effect::Standing(standing) => standing,
            Effect::Weight(_) => Standing::Good,
        });
        standings.max().unwrap_or(Standing::Good)
    }

    /// What trackers have against an instance, in sentences.
    pub fn hindrances<'a>(&self, tracks: impl Iterator<Item = &'a Track>) -> Vec<String> {
        let texts = tracks.filter_map(|track| {
            let (kind, name) = match &track.tracker {
                Tracker::Interface(name) => ("interface", name),
                Tracker::Script(name) => ("script", name),
                Tracker::File(name) => ("file", name),
                Tracker::Process(name) => ("process", name),
                Tracker::Bfd(name) => ("BFD session", name),
            };
            match self.effect(track) {
                Effect::Standing(Standing::Faulty) => Some(format!("the tracked {kind} {name} is bad")),
                Effect::Standing(Standing::Unknown) => Some(format!("nothing is known of the tracked {kind} {name}")),
                Effect::Standing(Standing::Good) | Effect::Weight(_) => None,
            }
        });
        texts.collect()
    }

    /// What its own link, source and peers have against it, in sentences.
    pub fn hindrances_of_way(&self, config: &InstanceConfig, primary: Option<Address>) -> Vec<String> {
        let mut texts = Vec::new();
        if let Some(name) = config.interface.as_ref().filter(|_| !config.ignores_interface) {
            match self.links.get(name) {
                None => texts.push(format!("there is no interface {name}")),
                Some(link) if !link.is_up => texts.push(format!("interface {name} is down, or not there")),
                Some(_) => {}
            }
        }
        if config.faults_without_peers && config.peers.is_empty() {
            texts.push("it has no unicast peers".to_owned());
        }
        match (primary, config.interface.as_ref()) {
            (None, Some(name)) => texts.push(format!("interface {name} has no address to send from")),
            (None, None) => texts.push("it has no address to send from".to_owned()),
            (Some(_), _) => {}
        }
        if texts.is_empty() && self.standing_of_way(config, primary) == Standing::Faulty {
            texts.push("its source address is not on its interface".to_owned());
        }
        texts
    }

    /// The standing that an instance's own link, source and peers give.
    pub fn standing_of_way(&self, config: &InstanceConfig, primary: Option<Address>) -> Standing {
        let link = config.interface.as_ref().map(|interface| self.links.get(interface));
        let is_down = !config.ignores_interface && link.is_some_and(|link| !link.is_some_and(|link| link.is_up));
        let has_no_peers = config.faults_without_peers && config.peers.is_empty();
        let has_lost_source = config.tracks_source
            && config.source.is_some_and(|source| !link.flatten().is_some_and(|link| link.addresses.contains(&source)));
        let is_faulty = is_down || has_no_peers || has_lost_source || primary.is_none();
        if is_faulty { Standing::Faulty } else { Standing::Good }
    }

    /// The source of an instance's advertisements: what is configured, or the interface's first address, of IPv6 the
    /// first of the link. Virtual addresses count only where there is no other, as the owner has it.
    pub fn primary(&self, config: &InstanceConfig, is_virtual: impl Fn(Address) -> bool) -> Option<Address> {
        if config.source.is_some() {
            return config.source;
        }
        let link = self.links.get(config.interface.as_ref()?)?;
        let can_be = |address: &&Address| match config.family {
            Family::V4 => address.is_v4(),
            Family::V6 => address.is_link_local_v6(),
        };
        let candidates = || link.addresses.iter().filter(can_be).copied();
        candidates().find(|&address| !is_virtual(address)).or_else(|| candidates().next())
    }
}
