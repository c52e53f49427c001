//! A new configuration: what is unchanged goes on, what is gone resigns, what is new begins.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::Instant;
use crate::vrrp::instance::Input;
use crate::vrrp::routers::{Index, Phase};
use crate::vrrp::sync_group::Group;
use crate::vrrp::{Action, Config, Flaw, Instance, InstanceConfig, Name, OldChecksum, Routers, VirtualAddress, Word};

impl Routers {
    /// Takes a new configuration. An instance of the same name, identifier, family, interface and version keeps its
    /// state, its timers and its counters; of its addresses those that differ are moved.
    ///
    /// # Errors
    /// All flaws; then everything stays as it was.
    pub fn reconfigure(&mut self, now: Instant, config: Config) -> Result<(), Vec<Flaw>> {
        let (config, messages) = config.settle()?;
        self.log_all(messages);
        let mut old = std::mem::take(&mut self.instances);
        let kept = |new: &InstanceConfig, old: &Instance| {
            new.name == old.config.name && new.identity() == old.config.identity() && new.version == old.config.version
        };
        let is_running = self.phase == Phase::Running;
        let stays: BTreeSet<_> = config.instances.iter().map(InstanceConfig::identity).collect();
        let wished: BTreeMap<_, _> = config.instances.iter().map(|new| (&new.name, new)).collect();
        let mut remaining = BTreeMap::new();
        for mut instance in old.drain(..) {
            if wished.get(&instance.config.name).is_some_and(|new| kept(new, &instance)) {
                remaining.insert(instance.config.name.clone(), instance);
            } else if is_running {
                let has_successor = stays.contains(&instance.config.identity());
                self.remove(now, &mut instance, has_successor);
            }
        }
        let mut joins = BTreeSet::new();
        for new in &config.instances {
            let instance = match remaining.remove(&new.name) {
                Some(mut instance) => {
                    if instance.config != *new {
                        instance.reconfigure(now, new.clone(), &mut self.actions);
                        joins.insert(new.name.clone());
                    }
                    instance
                }
                None => {
                    let instance = Instance::new(new.clone());
                    if is_running {
                        instance.remove_all_addresses(&mut self.actions);
                        joins.insert(new.name.clone());
                    }
                    instance
                }
            };
            self.instances.push(instance);
        }
        let old_groups = std::mem::replace(&mut self.groups, Group::all(&config, &self.instances));
        for group in &mut self.groups {
            let old = old_groups.iter().find(|old| old.config.name == group.config.name);
            group.word = old.and_then(|old| old.word);
        }
        self.index = Index::new(&self.instances, &self.groups);
        self.config = config;
        if is_running {
            self.join_named(&joins);
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

    /// An instance that is not in the new configuration, or as another router.
    fn remove(&mut self, now: Instant, instance: &mut Instance, has_successor: bool) {
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
        if !has_successor {
            instance.leave_group(&mut self.actions);
        }
    }

    fn join_named(&mut self, names: &BTreeSet<Name>) {
        for instance in self.instances.iter().filter(|instance| names.contains(&instance.config.name)) {
            if let Some(interface) = instance.multicast_interface() {
                let (name, group) = (instance.config.name.clone(), instance.config.multicast_group());
                self.actions.push_back(Action::JoinGroup { instance: name, interface: interface.clone(), group });
            }
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

impl Instance {
    /// Takes a new configuration of the same router. The priority follows by `reassess`.
    fn reconfigure(&mut self, now: Instant, config: InstanceConfig, out: &mut super::instance::Actions) {
        let old = std::mem::replace(&mut self.config, config);
        if old.multicast_group() != self.config.multicast_group() || old.is_unicast() != self.config.is_unicast() {
            let former = Instance::new(old.clone());
            former.leave_group(out);
        }
        if old.old_checksum != self.config.old_checksum {
            self.forget_old_peers(self.config.old_checksum == OldChecksum::Always);
        }
        if !self.state.is_active() {
            if old.interval != self.config.interval {
                self.follow_interval(old.interval);
            }
            return;
        }
        let gone: Vec<VirtualAddress> = difference(&old, &self.config);
        let new: Vec<VirtualAddress> = difference(&self.config, &old);
        if old.routes != self.config.routes {
            let instance = self.config.name.clone();
            let (gone, new) = (old.routes.clone(), self.config.routes.clone());
            let removed: Vec<_> = gone.iter().filter(|route| !new.contains(route)).cloned().collect();
            let added: Vec<_> = new.into_iter().filter(|route| !gone.contains(route)).collect();
            if !removed.is_empty() {
                out.push_back(Action::RemoveRoutes { instance: instance.clone(), routes: removed });
            }
            if !added.is_empty() {
                out.push_back(Action::AddRoutes { instance, routes: added });
            }
        }
        self.remove_addresses(gone, out);
        let repeat = self.config.announcing.repeat;
        self.announce_these(repeat, new.iter(), out);
        // Set before they are announced.
        let announcement = if new.is_empty() { None } else { out.pop_back() };
        self.add_addresses(new, out);
        out.extend(announcement);
        if old.announcing != self.config.announcing {
            self.announcer.reconfigure(now, &self.config.announcing);
        }
        // Backups that compare the list, or learn the interval, are to know at once, and then hear it kept.
        self.send(self.priority, out);
        self.restart_advert_timer(now);
    }
}

/// Addresses of one that the other does not have, or has otherwise.
fn difference(one: &InstanceConfig, other: &InstanceConfig) -> Vec<VirtualAddress> {
    one.all_addresses().filter(|address| !other.all_addresses().any(|it| it == *address)).cloned().collect()
}
