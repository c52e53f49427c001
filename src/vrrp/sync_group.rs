//! Sync groups: instances that are Active together or not at all.
//!
//! A member whose down timer has run out waits until all others are Active or wait too; then all go, at once. When one
//! yields or fails, all do.

use std::collections::BTreeMap;

use crate::base::Instant;
use crate::vrrp::instance::Input;
use crate::vrrp::track::Standing;
use crate::vrrp::{Action, Config, GroupConfig, Instance, Level, Name, Routers, State, Word};

/// A group.
#[derive(Clone, Debug)]
pub(super) struct Group {
    pub config: GroupConfig,
    /// Positions of its instances.
    pub members: Vec<usize>,
    /// What was told last.
    pub word: Option<Word>,
}

impl Group {
    /// The groups of a configuration that is settled.
    pub fn all(config: &Config, instances: &[Instance]) -> Vec<Group> {
        let positions: BTreeMap<&Name, usize> =
            instances.iter().enumerate().map(|(position, instance)| (&instance.config.name, position)).collect();
        let position = |name: &Name| positions.get(name).copied();
        let group = |config: &GroupConfig| Group {
            members: config.members.iter().filter_map(position).collect(),
            config: config.clone(),
            word: None,
        };
        config.groups.iter().map(group).collect()
    }
}

impl Routers {
    /// Takes a group's members along after a step of one of them; without a group, goes on alone.
    pub(super) fn follow(&mut self, now: Instant, index: usize, before: State) {
        let after = self.instances[index].state;
        let group = self.index.group_of[index];
        if after.is_willing() {
            let Some(group) = group else { return self.apply(now, index, Input::Promote) };
            let state = |&member: &usize| self.instances[member].state;
            if self.groups[group].members.iter().map(state).all(|state| state.is_willing() || state.is_active()) {
                self.step_all(now, group, index, Input::Promote, Word::Master);
            }
            return;
        }
        let has_yielded = before.is_active() && matches!(after, State::Backup { .. });
        if let Some(group) = group.filter(|_| has_yielded) {
            self.log_sync(group, Word::Backup);
            self.step_others(now, group, index, Input::Demote);
        }
    }

    fn step_all(&mut self, now: Instant, group: usize, first: usize, input: Input, word: Word) {
        self.instances[first].step(now, input, &mut self.actions);
        self.log_sync(group, word);
        self.step_others(now, group, first, input);
    }

    fn step_others(&mut self, now: Instant, group: usize, first: usize, input: Input) {
        for member in self.groups[group].members.iter().filter(|&&member| member != first) {
            self.instances[*member].step(now, input, &mut self.actions);
        }
    }

    fn log_sync(&mut self, group: usize, word: Word) {
        let text = format!("VRRP_Group({}) Syncing instances to {word} state", self.groups[group].config.name);
        self.actions.push_back(Action::Log { level: Level::Information, text });
    }

    /// Lets a group run, or not: its standing is the worst of its members'.
    pub(super) fn hold_group(
        &mut self,
        now: Instant,
        group: usize,
        members: &[usize],
        standings: &[Standing],
        is_first: bool,
    ) {
        let Some(worst) = members.iter().map(|&member| standings[member]).max() else { return };
        // Who has the fault itself goes first.
        let mut order = members.to_vec();
        order.sort_by_key(|&member| standings[member] != worst);
        let word = if worst == Standing::Faulty { Word::Fault } else { Word::Backup };
        let mut is_told = is_first;
        for &member in &order {
            let before = self.instances[member].state.word();
            self.hold(now, member, worst, is_first);
            if !is_told && before != self.instances[member].state.word() {
                is_told = true;
                self.log_sync(group, word);
            }
        }
    }

    /// Tells of groups all of whose members have come to one state.
    pub(super) fn tell_groups(&mut self) {
        for group in &mut self.groups {
            let mut words = group.members.iter().map(|&member| self.instances[member].state.word());
            let first = words.next().flatten();
            if !words.all(|word| word == first) {
                continue;
            }
            let word = match first {
                // Stopped; before the start there is nothing to tell.
                None if group.word.is_some() => Some(Word::Stop),
                word => word,
            };
            if let Some(word) = word.filter(|_| word != group.word) {
                group.word = Some(word);
                self.actions.push_back(Action::NotifyGroup { group: group.config.name.clone(), word });
            }
        }
    }
}
