//! What blocks say of each other: instances made whole, groups made of instances that there are.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::{Duration, Family};
use crate::config::meaning::Context;
use crate::config::meaning::groups::GroupDraft;
use crate::config::meaning::instance::{AuthenticationKind, Draft};
use crate::config::message::Messages;
use crate::vrrp::{ADDRESSES_MAX, ADDRESSES_V6_MAX, Announcing, Authentication, GroupConfig, Name, Tracker};
use crate::wire::vrrp::{PRIORITY_OWNER, Version};

/// The longest interval of version 3.
const INTERVAL_V3_MAX: Duration = Duration::from_millis(40_950);

impl Context<'_> {
    pub(super) fn finish_vrrp(&mut self) {
        let drafts = std::mem::take(&mut self.drafts);
        let groups = std::mem::take(&mut self.group_drafts);
        if self.misses_interface && !self.configuration.global.interfaces_are_dynamic {
            // keepalived ends here, and says nothing of the rest.
            self.messages.refuse("Non-existent interface specified in configuration");
            let mut unheard = Messages::default();
            self.finish_instances(drafts, groups, &mut unheard);
            return self.messages.join_refusal(&unheard);
        }
        let mut heard = std::mem::take(self.messages);
        self.finish_instances(drafts, groups, &mut heard);
        *self.messages = heard;
        if !self.messages.is_refused() {
            self.say_insecure("scripts");
        }
    }

    fn finish_instances(&mut self, drafts: Vec<Draft>, groups: Vec<GroupDraft>, messages: &mut Messages) {
        let (mut drafts, without): (Vec<Draft>, Vec<Draft>) =
            drafts.into_iter().partition(|draft| draft.instance.vrid != 0);
        for draft in &without {
            messages.refuse(format!("({}) the virtual router id must be set", draft.instance.name));
        }
        let mut unheard = Messages::default();
        let messages = if without.is_empty() { messages } else { &mut unheard };
        for draft in &mut drafts {
            self.complete(draft, messages);
        }
        say_duplicates(&drafts, messages);
        let groups = self.complete_groups(groups, &drafts, messages);
        for draft in &mut drafts {
            let group = groups.iter().find(|group| group.members.contains(&draft.instance.name));
            complete_tracks(draft, group, messages);
        }
        agree_on_state(&mut drafts, &groups);
        for draft in drafts {
            let own = draft.instance.name.clone();
            self.configuration.instance_notifications.insert(own, draft.notifications);
            self.configuration.vrrp.instances.push(draft.instance);
        }
        self.configuration.vrrp.groups = groups;
    }

    fn complete(&self, draft: &mut Draft, messages: &mut Messages) {
        let own = draft.instance.name.clone();
        let mut say = |text: &str| messages.flaw(format!("({own}) {text}"));
        let family = draft.family.unwrap_or(Family::V4);
        draft.instance.family = family;
        draft.instance.version = match family {
            Family::V6 => Version::V3,
            Family::V4 => draft.version.or(self.defaults.version).unwrap_or(Version::V2),
        };
        if draft.has_unicast_word && draft.instance.peers.is_empty() && !draft.instance.faults_without_peers {
            say(
                "A unicast keyword has been specified without any unicast peers. Defaulting to multicast. This usage is deprecated - please update your configuration.",
            );
        }
        if draft.instance.interface.is_none() {
            messages.refuse(format!("({own}) Unknown interface!"));
        }
        let mut say = |text: &str| messages.flaw(format!("({own}) {text}"));
        if draft.instance.addresses.is_empty() {
            say("No VIP specified; at least one is sensible");
        }
        if draft.instance.sends_from_base && !draft.instance.has_virtual_mac {
            say("vmac_xmit_base is only valid with a vmac");
            draft.instance.sends_from_base = false;
        }
        complete_state(draft, &mut say);
        complete_secret(draft, &mut say);
        complete_interval(draft, &mut say);
        self.complete_announcing(draft);
        let instance = &mut draft.instance;
        let most = if family == Family::V4 { ADDRESSES_MAX } else { ADDRESSES_V6_MAX };
        if instance.addresses.len() > most {
            say(&format!(
                "Number of VIPs ({}) exceeds maximum/space available in packet (max {most} addresses) - excess moved to eVIPs",
                instance.addresses.len()
            ));
            let excess = instance.addresses.split_off(most);
            instance.excluded.splice(0..0, excess);
        }
        if family == Family::V6
            && instance.is_strict
            && instance.addresses.first().is_some_and(|first| !first.address.is_link_local_v6())
        {
            say("the first IPv6 VIP address must be link local");
        }
        instance.accepts = draft.accepts.unwrap_or(!instance.is_strict || instance.priority == PRIORITY_OWNER);
        instance.answers_lower = draft.answers_lower.unwrap_or(!instance.is_strict);
        let group = if family == Family::V4 { self.defaults.group_v4 } else { self.defaults.group_v6 };
        instance.group = instance.group.or(group);
        draft.notifications.smtp_alert = draft.smtp_alert.unwrap_or(self.defaults.smtp_alert);
    }

    fn complete_announcing(&self, draft: &mut Draft) {
        let usual = Announcing::default();
        let (own, all) = (&draft.announcing, &self.defaults.announcing);
        let is_minimal = self.defaults.is_minimal;
        let delay = own.delay.or(all.delay).unwrap_or(if is_minimal { Duration::ZERO } else { usual.delay });
        let repeat = own.repeat.or(all.repeat).unwrap_or(if is_minimal { 1 } else { usual.repeat });
        let groups = &self.configuration.global.announcement_groups;
        let interface = draft.instance.interface.clone().unwrap_or_else(|| "".into());
        let group = groups.iter().find(|group| group.interfaces.contains(&interface));
        draft.instance.announcing = Announcing {
            repeat,
            delay,
            refresh: own.refresh.or(all.refresh).unwrap_or(usual.refresh),
            refresh_repeat: own.refresh_repeat.or(all.refresh_repeat).unwrap_or(usual.refresh_repeat),
            lower_repeat: own.lower_repeat.or(all.lower_repeat).unwrap_or(repeat),
            lower_delay: own.lower_delay.or(all.lower_delay).unwrap_or(delay),
            arp_gap: group.and_then(|group| group.arp_gap).unwrap_or(self.defaults.arp_gap),
            neighbour_gap: group.and_then(|group| group.neighbour_gap).unwrap_or(self.defaults.neighbour_gap),
            extra_interfaces: own.extra_interfaces.or(all.extra_interfaces).unwrap_or(usual.extra_interfaces),
        };
    }

    fn complete_groups(
        &mut self,
        groups: Vec<GroupDraft>,
        drafts: &[Draft],
        messages: &mut Messages,
    ) -> Vec<GroupConfig> {
        let names: BTreeSet<&Name> = drafts.iter().map(|draft| &draft.instance.name).collect();
        let mut taken = BTreeSet::new();
        let mut kept = Vec::new();
        for mut draft in groups {
            let own = draft.group.name.clone();
            if draft.group.members.is_empty() {
                messages.flaw(format!("Sync group {own} has no virtual router(s). removing"));
                continue;
            }
            draft.group.members.retain(|member| {
                if !names.contains(member) {
                    messages.flaw(format!(
                        "Virtual router {member} specified in sync group {own} doesn't exist - ignoring"
                    ));
                    return false;
                }
                let is_free = taken.insert(member.clone());
                if !is_free {
                    messages.flaw(format!(
                        "Virtual router {member} cannot exist in more than one sync group; ignoring {own}"
                    ));
                }
                is_free
            });
            match draft.group.members.len() {
                0 => {
                    messages.flaw(format!(
                        "Sync group {own}, no matching virtual router found in group declaration - removing"
                    ));
                    continue;
                }
                1 => messages
                    .flaw(format!("Sync group {own} has only 1 virtual router(s) - this probably isn't what you want")),
                _ => {}
            }
            draft.notifications.smtp_alert = draft.smtp_alert.unwrap_or(self.defaults.smtp_alert);
            self.configuration.group_notifications.insert(own, draft.notifications);
            kept.push(draft.group);
        }
        kept
    }
}

/// A group is a master's only when all its instances are.
fn agree_on_state(drafts: &mut [Draft], groups: &[GroupConfig]) {
    let masters: BTreeSet<Name> = drafts
        .iter()
        .filter(|draft| draft.instance.starts_as_master)
        .map(|draft| draft.instance.name.clone())
        .collect();
    let mixed = groups.iter().filter(|group| !group.members.iter().all(|member| masters.contains(member)));
    let parted: BTreeSet<&Name> = mixed.flat_map(|group| &group.members).collect();
    for draft in drafts {
        if parted.contains(&draft.instance.name) {
            draft.instance.starts_as_master = false;
        }
    }
}

/// Priority, state and preemption, which hang together.
fn complete_state(draft: &mut Draft, say: &mut impl FnMut(&str)) {
    let instance = &mut draft.instance;
    let usual = if draft.state == Some(true) { PRIORITY_OWNER } else { 100 };
    instance.priority = draft.priority.unwrap_or(usual);
    let is_owner = instance.priority == PRIORITY_OWNER;
    let mut is_master = draft.state.unwrap_or(is_owner);
    if instance.is_strict && draft.state.is_some() && is_master != is_owner {
        say("State MASTER must match being address owner");
        is_master = is_owner;
    }
    if draft.authentication == Some(AuthenticationKind::Header)
        && !draft.password.is_empty()
        && is_master
        && !instance.is_strict
    {
        say("Initial state master is incompatible with AH authentication - clearing");
        is_master = false;
    }
    if !instance.preempts && is_owner {
        say("nopreempt is incompatible with priority 255. resetting nopreempt");
        instance.preempts = true;
    }
    if is_master && !instance.preempts {
        say("Warning - nopreempt will not work with initial state MASTER - clearing");
        instance.preempts = true;
    }
    if is_master && instance.preempt_delay > Duration::ZERO {
        say("Warning - preempt delay will not work with initial state MASTER - clearing");
        instance.preempt_delay = Duration::ZERO;
    }
    if !instance.preempts && instance.preempt_delay > Duration::ZERO {
        say("preempt_delay is incompatible with nopreempt mode - resetting");
        instance.preempt_delay = Duration::ZERO;
    }
    instance.starts_as_master = is_master;
}

fn complete_secret(draft: &mut Draft, say: &mut impl FnMut(&str)) {
    let Some(kind) = draft.authentication else { return };
    if draft.instance.version == Version::V3 {
        return say("VRRP version 3 does not support authentication. Ignoring.");
    }
    if draft.instance.is_strict {
        return say("Strict mode does not support authentication. Ignoring.");
    }
    if draft.password.is_empty() {
        return say("Authentication specified but no password given. Ignoring");
    }
    let mut key = [0; 8];
    for (octet, given) in key.iter_mut().zip(&draft.password) {
        *octet = *given;
    }
    draft.instance.authentication = match kind {
        AuthenticationKind::Password => Authentication::Password(key),
        AuthenticationKind::Header => Authentication::Header(key),
    };
}

fn complete_interval(draft: &mut Draft, say: &mut impl FnMut(&str)) {
    let Some(wished) = draft.interval else { return };
    let microseconds = wished.as_micros() as u64;
    let shown = format!("{}.{:06}", microseconds / 1_000_000, microseconds % 1_000_000);
    let rounded = |unit: u64| Duration::from_micros(((microseconds + unit / 2) / unit).max(1) * unit);
    let interval = match draft.instance.version {
        Version::V2 if !microseconds.is_multiple_of(1_000_000) => {
            say(&format!("VRRPv2 advertisement interval {shown}s must be an integer. rounding"));
            rounded(1_000_000)
        }
        Version::V3 if wished > INTERVAL_V3_MAX => {
            say(&format!(
                "VRRPv3 advertisement interval {:.2}s is out of range. Must be less than 40.96s. Setting to 40.95s",
                wished.as_secs_f64()
            ));
            INTERVAL_V3_MAX
        }
        Version::V3 if !microseconds.is_multiple_of(10_000) => {
            say(&format!("VRRPv3 advertisement interval {shown}s must be in units of 10ms - rounding"));
            rounded(10_000)
        }
        Version::V2 | Version::V3 => wished,
    };
    draft.instance.interval = interval;
}

/// Trackers that cannot count.
fn complete_tracks(draft: &mut Draft, group: Option<&GroupConfig>, messages: &mut Messages) {
    let own = draft.instance.name.clone();
    let interface = draft.instance.interface.clone();
    let is_owner = draft.instance.priority == PRIORITY_OWNER;
    let is_weightless = group.is_some_and(|group| !group.uses_weights);
    draft.instance.tracks.retain_mut(|track| {
        match &track.tracker.clone() {
            Tracker::Interface(name) if Some(name) == interface.as_ref() => {
                messages.flaw(format!("({own}) Ignoring track_interface {name} since own interface"));
                return false;
            }
            Tracker::Interface(name) if is_owner && track.weight != 0 => {
                messages.flaw(format!("({own}) ignoring {name} tracked interface due to address owner"));
                return false;
            }
            _ if is_owner && track.weight != 0 => return false,
            Tracker::Interface(name) if is_weightless && track.weight != 0 => {
                messages.flaw(format!("({own}) ignoring {name} tracked interface weight due to SYNC group"));
                track.weight = 0;
            }
            Tracker::Script(name) if is_weightless && track.weight != 0 => {
                messages.flaw(format!("({own}) ignoring tracked script {name} with weights due to SYNC group"));
                return false;
            }
            Tracker::File(name) if is_weightless && track.weight != 0 => {
                messages.flaw(format!(
                    "({own}) ignoring weight from tracked file {name} due to SYNC group. specify weight 0"
                ));
                track.weight = 0;
            }
            _ => {}
        }
        true
    });
    let Some(group) = group else { return };
    for track in &group.tracks {
        if let Tracker::Interface(name) = &track.tracker
            && Some(name) == interface.as_ref()
        {
            messages.flaw(format!(
                "({own}) track_interface {name} is configured on VRRP instance and sync group. Remove vrrp instance or sync group config"
            ));
        }
    }
}

/// Two virtual routers that would be one.
fn say_duplicates(drafts: &[Draft], messages: &mut Messages) {
    let mut routers: BTreeMap<(u8, Family, Option<Name>), &Name> = BTreeMap::new();
    for draft in drafts {
        let instance = &draft.instance;
        let key = (instance.vrid, instance.family, instance.interface.clone());
        if let Some(other) = routers.insert(key, &instance.name) {
            let family = if instance.family == Family::V4 { "IPv4" } else { "IPv6" };
            let interface = instance.interface.as_deref().unwrap_or_default();
            messages.refuse(format!(
                "{other} and {} both use VRID {} with {family} on interface {interface}",
                instance.name, instance.vrid
            ));
        }
    }
}
