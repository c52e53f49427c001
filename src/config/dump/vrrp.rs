//! Instances, sync groups, scripts.

use crate::config::dump::{Lines, enabled, seconds, yes};
use crate::config::model::{Configuration, Notifications, Script};
use crate::config::source::Source;
use crate::vrrp::{Authentication, InstanceConfig, Name, Track, Tracker, VirtualAddress};
use crate::wire::vrrp::Version;

pub(super) fn write(configuration: &Configuration, source: &dyn Source, lines: &mut Lines) {
    if configuration.vrrp.instances.is_empty() {
        return;
    }
    lines.section("VRRP Topology");
    for instance in &configuration.vrrp.instances {
        write_instance(configuration, instance, source, lines);
    }
    if !configuration.vrrp.groups.is_empty() {
        lines.section("VRRP Sync groups");
        for group in &configuration.vrrp.groups {
            let instances = &configuration.vrrp.instances;
            let is_master =
                |member: &Name| instances.iter().any(|instance| instance.name == *member && instance.starts_as_master);
            let state = if group.members.iter().all(is_master) { "MASTER" } else { "BACKUP" };
            lines.line(1, &format!("VRRP Sync Group = {}, {state}", group.name));
            lines.line(3, "Num member fault 0, num member init 0");
            lines.line(3, "VRRP member instances :");
            for member in &group.members {
                lines.line(5, member);
            }
            write_tracks(&group.tracks, lines);
            if let Some(notifications) = configuration.notifications_of_group(&group.name) {
                lines.line(3, &format!("Using smtp notification = {}", yes(notifications.smtp_alert)));
                write_scripts(notifications, lines);
            }
        }
    }
    write_tracked_scripts(configuration, lines);
}

fn write_instance(configuration: &Configuration, instance: &InstanceConfig, source: &dyn Source, lines: &mut Lines) {
    lines.line(1, &format!("VRRP Instance = {}", instance.name));
    lines.line(3, &format!("VRRP Version = {}", instance.version as u8));
    let group = configuration.vrrp.groups.iter().find(|group| group.members.contains(&instance.name));
    if let Some(group) = group {
        lines.line(3, &format!("Sync group = {}", group.name));
    }
    lines.line(3, if instance.preempts { "Flags: none" } else { "Flags:" });
    lines.line(3, &format!("Wantstate = {}", if instance.starts_as_master { "MASTER" } else { "BACKUP" }));
    lines.line(3, "Number of config faults = 0");
    let interface = instance.interface.as_deref().unwrap_or_default();
    lines.line(3, &format!("Interface = {interface}"));
    let facts = source.interface(interface);
    let first = facts.and_then(|facts| facts.addresses.into_iter().find(|it| it.family() == instance.family));
    if let Some(address) = instance.source.or(first) {
        lines.line(3, &format!("Using src_ip = {address}"));
    }
    if instance.peers.is_empty() {
        lines.line(3, &format!("Multicast address {}", instance.multicast_group()));
    } else {
        lines.line(3, "Unicast Peer :");
        for peer in &instance.peers {
            lines.line(5, &peer.address.to_string());
        }
    }
    let announcing = &instance.announcing;
    lines.line(3, &format!("Gratuitous ARP delay = {}", seconds(announcing.delay)));
    lines.line(3, &format!("Gratuitous ARP repeat = {}", announcing.repeat));
    lines.line(3, &format!("Gratuitous ARP refresh = {}", seconds(announcing.refresh)));
    lines.line(3, &format!("Gratuitous ARP refresh repeat = {}", announcing.refresh_repeat));
    lines.line(3, &format!("Gratuitous ARP lower priority delay = {}", seconds(announcing.lower_delay)));
    lines.line(3, &format!("Gratuitous ARP lower priority repeat = {}", announcing.lower_repeat));
    lines.line(3, &format!("Down timer adverts = {}", instance.down_adverts));
    lines.line(3, &format!("Send advert after receive lower priority advert = {}", instance.answers_lower));
    lines.line(3, &format!("Send advert after receive higher priority advert = {}", instance.answers_higher));
    lines.line(3, &format!("Virtual Router ID = {}", instance.vrid));
    lines.line(3, &format!("Priority = {}", instance.priority));
    let unit = if instance.version == Version::V2 { "sec" } else { "milli-sec" };
    let interval = match instance.version {
        Version::V2 => seconds(instance.interval),
        Version::V3 => instance.interval.as_millis().to_string(),
    };
    lines.line(3, &format!("Advert interval = {interval} {unit}"));
    lines.line(3, &format!("Accept = {}", enabled(instance.accepts)));
    lines.line(3, &format!("Preempt = {}", enabled(instance.preempts)));
    if !instance.preempt_delay.is_zero() {
        lines.line(3, &format!("Preempt delay = {} secs", seconds(instance.preempt_delay)));
    }
    lines.line(3, "Promote_secondaries = disabled");
    write_secret(instance, lines);
    write_addresses(instance, lines);
    write_tracks(&instance.tracks, lines);
    if let Some(notifications) = configuration.notifications_of_instance(&instance.name) {
        lines.line(3, &format!("Using smtp notification = {}", yes(notifications.smtp_alert)));
        lines.line(3, &format!("Notify deleted = {}", if instance.tells_deleted { "Deleted" } else { "Fault" }));
        write_scripts(notifications, lines);
    }
    lines.line(3, &format!("Notify priority changes = {}", instance.tells_priority));
}

fn write_secret(instance: &InstanceConfig, lines: &mut Lines) {
    let (kind, key) = match &instance.authentication {
        Authentication::None => {
            if instance.version == Version::V2 {
                lines.line(3, "Authentication type = none");
            }
            return;
        }
        Authentication::Password(key) => ("SIMPLE_PASSWORD", key),
        Authentication::Header(key) => ("IPSEC_AH", key),
    };
    lines.line(3, &format!("Authentication type = {kind}"));
    let shown = key.split(|&octet| octet == 0).next().unwrap_or_default();
    lines.line(3, &format!("Password = {}", String::from_utf8_lossy(shown)));
}

fn write_addresses(instance: &InstanceConfig, lines: &mut Lines) {
    if !instance.addresses.is_empty() {
        lines.line(3, &format!("Virtual IP ({}):", instance.addresses.len()));
        instance.addresses.iter().for_each(|address| lines.line(5, &address_line(address, instance)));
    }
    if !instance.excluded.is_empty() {
        lines.line(3, "Virtual IP Excluded :");
        instance.excluded.iter().for_each(|address| lines.line(5, &address_line(address, instance)));
    }
}

fn address_line(item: &VirtualAddress, instance: &InstanceConfig) -> String {
    let mut line = item.address.to_string();
    if item.prefix != if item.address.is_v4() { 32 } else { 128 } {
        line += &format!("/{}", item.prefix);
    }
    if let Some(broadcast) = item.broadcast {
        line += &format!(" brd {broadcast}");
    }
    if let Some(interface) = item.interface.as_ref().or(instance.interface.as_ref()) {
        line += &format!(" dev {interface}");
    }
    let scope = match item.scope.unwrap_or(0) {
        0 => "global".to_owned(),
        200 => "site".to_owned(),
        253 => "link".to_owned(),
        254 => "host".to_owned(),
        255 => "nowhere".to_owned(),
        other => other.to_string(),
    };
    line += &format!(" scope {scope}");
    if let Some(label) = &item.label {
        line += &format!(" label {label}");
    }
    if let Some((peer, prefix)) = item.peer {
        line += &format!(" peer {peer}/{prefix}");
    }
    let flags = [
        (item.flags.home, " home"),
        (item.flags.no_dad, " -nodad"),
        (item.flags.managed_temporary, " mngtmpaddr"),
        (item.flags.no_prefix_route, " noprefixroute"),
        (item.flags.autojoin, " autojoin"),
        (item.is_untracked, " no_track"),
    ];
    line.extend(flags.into_iter().filter(|&(is_set, _)| is_set).map(|(_, word)| word));
    match item.preferred_lifetime_s {
        _ if item.address.is_v4() => {}
        Some(0) => line += " deprecated",
        Some(lifetime) => line += &format!(" preferred_lft {lifetime}"),
        None => line += " preferred_lft forever",
    }
    line
}

fn write_tracks(tracks: &[Track], lines: &mut Lines) {
    type Kind = (&'static str, fn(&Tracker) -> Option<&Name>);
    let kinds: [Kind; 5] = [
        ("Tracked interfaces :", |it| if let Tracker::Interface(name) = it { Some(name) } else { None }),
        ("Tracked scripts :", |it| if let Tracker::Script(name) = it { Some(name) } else { None }),
        ("Tracked files :", |it| if let Tracker::File(name) = it { Some(name) } else { None }),
        ("Tracked processes :", |it| if let Tracker::Process(name) = it { Some(name) } else { None }),
        ("Tracked BFDs :", |it| if let Tracker::Bfd(name) = it { Some(name) } else { None }),
    ];
    for (head, of_kind) in kinds {
        let mut own = tracks.iter().filter_map(|track| Some((of_kind(&track.tracker)?, track))).peekable();
        if own.peek().is_some() {
            lines.line(3, head);
        }
        for (name, track) in own {
            let reverse = if track.is_reversed { " reverse" } else { "" };
            let comma = if head.starts_with("Tracked files") { "," } else { "" };
            lines.line(5, &format!("{name}{comma} weight {}{reverse}", track.weight));
        }
    }
}

fn write_scripts(notifications: &Notifications, lines: &mut Lines) {
    let mut write = |what: &str, script: &Option<Script>| {
        if let Some(script) = script {
            let identity = script.identity;
            lines.line(3, &format!("{what} = {script}, uid:gid {}:{}", identity.user, identity.group));
        }
    };
    write("Backup state transition script", &notifications.backup);
    write("Master state transition script", &notifications.master);
    write("Fault state transition script", &notifications.fault);
    write("Stop state transition script", &notifications.stop);
    write("Deleted state transition script", &notifications.deleted);
    write("Master rx lower pri script", &notifications.master_rx_lower_pri);
    write("Generic state transition script", &notifications.any);
}

/// Scripts that something tracks.
fn write_tracked_scripts(configuration: &Configuration, lines: &mut Lines) {
    let config = &configuration.vrrp;
    let is_tracked = |tracks: &[Track], name: &Name| {
        tracks.iter().find(|track| track.tracker == Tracker::Script(name.clone())).map(|track| track.weight)
    };
    let mut has_head = false;
    for script in &configuration.scripts {
        let trackers: Vec<(&Name, i32)> = config
            .instances
            .iter()
            .map(|it| (&it.name, &it.tracks))
            .chain(config.groups.iter().map(|it| (&it.name, &it.tracks)))
            .filter_map(|(name, tracks)| is_tracked(tracks, &script.name).map(|weight| (name, weight)))
            .collect();
        if trackers.is_empty() {
            continue;
        }
        if !has_head {
            lines.section("VRRP Scripts");
            has_head = true;
        }
        lines.line(1, &format!("VRRP Script = {}", script.name));
        lines.line(3, &format!("Command = {}", script.script));
        lines.line(3, &format!("Interval = {} sec", seconds(script.interval)));
        lines.line(3, &format!("Timeout = {} sec", seconds(script.timeout)));
        let reverse = if script.is_reversed { " reverse" } else { "" };
        lines.line(3, &format!("Weight = {}{reverse}", script.weight));
        lines.line(3, &format!("Rise = {}", script.rise));
        lines.line(3, &format!("Fall = {}", script.fall));
        lines.line(3, "Result = 0");
        lines.line(3, "Insecure = no");
        lines.line(3, &format!("Init state = {}", if script.starts_failed { "FAILED" } else { "INIT" }));
        lines.line(3, "Status = BAD");
        let identity = script.script.identity;
        lines.line(3, &format!("Script uid:gid = {}:{}", identity.user, identity.group));
        lines.line(3, "VRRP instances :");
        lines.line(3, "Tracking instances :");
        for (name, weight) in trackers {
            lines.line(5, &format!("{name}, weight {weight}"));
        }
        lines.line(3, "State = idle");
    }
}
