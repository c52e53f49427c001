//! A new configuration: what is unchanged goes on, what is gone resigns, what is new begins.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::Instant;
use crate::vrrp::instance::{Actions, Input};
use crate::vrrp::routers::{Index, Membership, Phase};
use crate::vrrp::sync_group::Group;
use crate::vrrp::{
    Action, Attached, Config, Flaw, Instance, InstanceConfig, Level, Name, OldChecksum, Routers, VirtualAddress, Word,
};

impl Routers {
    /// Takes a new configuration. An instance of the same name, identifier, family, interface and version keeps its
    /// state, its timers and its counters; of its addresses those that differ are moved. All that goes is taken away
    /// before anything is set, so that an address may change its instance.
    ///
    /// # Errors
    /// All flaws; then everything stays as it was.
    pub fn reconfigure(&mut self, now: Instant, config: Config) -> Result<(), Vec<Flaw>> {
        let (config, messages) = config.settle()?;
        self.log_all(messages);
        let is_running = self.phase == Phase::Running;
        let old = std::mem::take(&mut self.instances);
        let memberships: BTreeSet<Membership> = old.iter().filter_map(Instance::membership).collect();
        let mut remaining = self.part(now, old, &config, is_running);
        let mut changes = Vec::new();
        for new in &config.instances {
            let (instance, change) = match remaining.remove(&new.name) {
                Some(mut instance) => {
                    let change = instance.reconfigure(new.clone());
                    (instance, change)
                }
                None => (Instance::new(new.clone()), Change::New),
            };
            self.instances.push(instance);
            changes.push(change);
        }
        if is_running {
            self.carry_over(now, &changes);
        }
        let old_groups = std::mem::replace(&mut self.groups, Group::all(&config, &self.instances));
        for group in &mut self.groups {
            let old = old_groups.iter().find(|old| old.config.name == group.config.name);
            group.word = old.and_then(|old| old.word);
        }
        self.index = Index::new(&self.instances, &self.groups);
        self.world.prune(&config);
        self.config = config;
        if is_running {
            self.level_memberships(&memberships);
        }
        self.reassess(now, false);
        self.level_groups(now);
        if self.config.tells_states_on_reload && is_running {
            for instance in &self.instances {
                if let Some(word) = instance.state.word() {
                    instance.notify(&mut self.actions, word);
                }
            }
        }
        self.tell_groups();
        Ok(())
    }

    /// Instances that stay, by name; the others end.
    fn part(
        &mut self,
        now: Instant,
        old: Vec<Instance>,
        config: &Config,
        is_running: bool,
    ) -> BTreeMap<Name, Instance> {
        let wished: BTreeMap<_, _> = config.instances.iter().map(|new| (&new.name, new)).collect();
        let mut remaining = BTreeMap::new();
        for mut instance in old {
            let is_kept = wished.get(&instance.config.name).is_some_and(|new| {
                new.identity() == instance.config.identity() && new.version == instance.config.version
            });
            if is_kept {
                remaining.insert(instance.config.name.clone(), instance);
            } else if is_running {
                self.remove(now, &mut instance);
            }
        }
        remaining
    }

    /// An instance that is not in the new configuration, or as another router.
    fn remove(&mut self, now: Instant, instance: &mut Instance) {
        let had_state = instance.state.word().is_some();
        let tells_deleted = instance.config.tells_deleted;
        let before = self.actions.len();
        instance.step(now, Input::Stop, &mut self.actions);
        if had_state {
            // The step tells STOP; keepalived's word for this is another.
            let is_stop = |action: &Action| matches!(action, Action::Notify { word: Word::Stop, .. });
            let told = self.actions.range_mut(before..).find(|action| is_stop(action));
            if let Some(Action::Notify { word, .. }) = told {
                *word = if tells_deleted { Word::Deleted } else { Word::Fault };
            }
        }
    }

    /// Takes away what instances have no longer and what new ones may find, then sets what is new.
    fn carry_over(&mut self, now: Instant, changes: &[Change]) {
        // What an Active one has and keeps stays, whoever else names it.
        let mut held = BTreeSet::new();
        for (instance, change) in self.instances.iter().zip(changes).filter(|(it, _)| it.state.is_active()) {
            let added = match change {
                Change::Moved(moves) => &moves.added[..],
                Change::New | Change::Kept => &[],
            };
            let kept = instance.places().filter(|(_, own)| !added.contains(own));
            held.extend(kept.map(|(at, own)| (at.cloned(), own.address)));
        }
        for (instance, change) in self.instances.iter().zip(changes) {
            let is_free = |own: &&VirtualAddress| !held.contains(&(instance.place_of(own).cloned(), own.address));
            let gone: Vec<VirtualAddress> = match change {
                Change::Kept => continue,
                Change::Moved(moves) => {
                    if !moves.removed_routes.is_empty() {
                        let (instance, routes) = (instance.config.name.clone(), moves.removed_routes.clone());
                        self.actions.push_back(Action::RemoveRoutes { instance, routes });
                    }
                    moves.removed.iter().filter(is_free).cloned().collect()
                }
                // Whatever a run before this one left behind.
                Change::New => {
                    instance.remove_routes(&mut self.actions);
                    instance.log(&mut self.actions, Level::Information, "removing VIPs.");
                    instance.config.all_addresses().filter(is_free).cloned().collect()
                }
            };
            instance.remove_addresses(gone, &mut self.actions);
        }
        for (instance, change) in self.instances.iter_mut().zip(changes) {
            if let Change::Moved(moves) = change {
                instance.take_over(now, moves, &mut self.actions);
            }
        }
    }

    /// Joins the groups that are new, then leaves those that nobody listens to in that name any more.
    fn level_memberships(&mut self, old: &BTreeSet<Membership>) {
        let new: BTreeSet<Membership> = self.instances.iter().filter_map(Instance::membership).collect();
        for Membership { instance, interface, group } in new.difference(old).cloned() {
            self.actions.push_back(Action::JoinGroup { instance, interface, group });
        }
        for Membership { instance, interface, group } in old.difference(&new).cloned() {
            self.actions.push_back(Action::LeaveGroup { instance, interface, group });
        }
    }

    /// A group that was given a member which is not Active cannot stay Active.
    fn level_groups(&mut self, now: Instant) {
        for group in 0..self.groups.len() {
            let members = self.groups[group].members.clone();
            let state = |&member: &usize| self.instances[member].state;
            let can_stay = members.iter().map(state).all(|state| state.is_active() || state.is_willing());
            for member in members {
                let state = self.instances[member].state;
                if !can_stay && state.is_active() {
                    self.apply(now, member, Input::Demote);
                } else if can_stay && state.is_willing() {
                    self.apply(now, member, Input::Promote);
                }
            }
        }
        // Whoever waited for a group that is no more.
        for index in 0..self.instances.len() {
            if self.index.group_of[index].is_none() && self.instances[index].state.is_willing() {
                self.apply(now, index, Input::Promote);
            }
        }
    }
}

/// What a new configuration does to an instance.
enum Change {
    /// It begins.
    New,
    /// It goes on; nothing of it is on the host, or nothing of that differs.
    Kept,
    /// It goes on as Active, and something differs.
    Moved(Moves),
}

/// What is to be moved of an Active instance.
struct Moves {
    removed: Vec<VirtualAddress>,
    added: Vec<VirtualAddress>,
    removed_routes: Vec<Attached>,
    added_routes: Vec<Attached>,
    has_other_announcing: bool,
}

impl Instance {
    /// Takes a new configuration of the same router; the priority follows by `reassess`.
    fn reconfigure(&mut self, config: InstanceConfig) -> Change {
        if self.config == config {
            return Change::Kept;
        }
        let old = std::mem::replace(&mut self.config, config);
        let new = &self.config;
        // They stand elsewhere with another Ethernet address, and are guarded or not: all of them anew.
        let is_other = old.accepts != new.accepts || old.virtual_mac() != new.virtual_mac();
        let missing = |one: &InstanceConfig, other: &InstanceConfig| {
            one.all_addresses().filter(|own| is_other || !other.all_addresses().any(|it| it == *own)).cloned().collect()
        };
        let without = |one: &[Attached], other: &[Attached]| {
            one.iter().filter(|route| is_other || !other.contains(route)).cloned().collect()
        };
        let moves = Moves {
            removed: missing(&old, new),
            added: missing(new, &old),
            removed_routes: without(&old.routes, &new.routes),
            added_routes: without(&new.routes, &old.routes),
            has_other_announcing: old.announcing != new.announcing,
        };
        if old.old_checksum != self.config.old_checksum {
            self.forget_old_peers(self.config.old_checksum == OldChecksum::Always);
        }
        if self.state.is_active() {
            return Change::Moved(moves);
        }
        if old.interval != self.config.interval {
            self.follow_interval(old.interval);
        }
        Change::Kept
    }

    /// Sets what is new, announces it and says so.
    fn take_over(&mut self, now: Instant, moves: &Moves, out: &mut Actions) {
        self.add_addresses(moves.added.clone(), out);
        if !moves.added_routes.is_empty() {
            let (instance, routes) = (self.config.name.clone(), moves.added_routes.clone());
            out.push_back(Action::AddRoutes { instance, routes });
        }
        self.announce_these(self.config.announcing.repeat, moves.added.iter(), out);
        if moves.has_other_announcing {
            self.announcer.reconfigure(now, &self.config.announcing);
        }
        // Backups that compare the list, or learn the interval, are to know at once, and then hear it kept.
        self.send(self.priority, out);
        self.restart_advert_timer(now);
    }

    /// Its addresses and where they stand.
    fn places(&self) -> impl Iterator<Item = (Option<&Name>, &VirtualAddress)> {
        self.config.all_addresses().map(|own| (self.place_of(own), own))
    }

    fn place_of<'a>(&'a self, own: &'a VirtualAddress) -> Option<&'a Name> {
        own.interface.as_ref().or(self.config.interface.as_ref())
    }
}
