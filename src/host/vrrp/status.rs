//! What is told of virtual routers: `lvx vrrp`.

use std::fmt::Write;

use serde::Serialize;

use crate::base::{Address, Instant};
use crate::vrrp::{Counters, Routers, State, Unclaimed};

/// Instances that are told of at once: so few that no advertisement waits for it.
pub const SLICE_MAX: usize = 32;

/// Some instances.
#[derive(Clone, Debug, Default)]
pub struct Slice {
    /// The instances.
    pub instances: Vec<InstanceStatus>,
    /// Where the next slice begins; none behind the last instance.
    pub next: Option<usize>,
    /// Packets that no instance wanted, and what found no room.
    pub rest: Rest,
}

/// What concerns no instance.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Rest {
    /// Packets that were no advertisements.
    pub malformed: u64,
    /// Advertisements of identifiers that are not configured where they came.
    pub unknown_vrid: u64,
    /// Log lines and notifications that were lost.
    pub news_lost: u64,
    /// Announcements that were lost.
    pub announcements_lost: u64,
}

/// An instance.
#[derive(Clone, Debug, Serialize)]
pub struct InstanceStatus {
    /// Its name.
    pub name: String,
    /// Its sync group.
    pub group: Option<String>,
    /// Its interface.
    pub interface: Option<String>,
    /// Virtual router identifier.
    pub vrid: u8,
    /// Format of its advertisements.
    pub version: u8,
    /// MASTER, BACKUP, FAULT or INIT.
    pub state: String,
    /// Why it is in no better state; what is odd of a good one.
    pub why: Vec<String>,
    /// Effective priority.
    pub priority: u8,
    /// Configured priority.
    pub base_priority: u8,
    /// Source of its advertisements.
    pub source: Option<Address>,
    /// Advertised addresses.
    pub addresses: Vec<Address>,
    /// Others that it has as MASTER.
    pub excluded: Vec<Address>,
    /// The last other MASTER that was heard.
    pub other: Option<Other>,
    /// The interval that counts, milliseconds.
    pub interval_ms: u64,
    /// Since the last advertisement that counted, milliseconds.
    pub heard_ms_ago: Option<u64>,
    /// The last advertisement that did not count.
    pub refused: Option<Refused>,
    /// What it counted.
    pub counters: Vec<(&'static str, u64)>,
}

/// Another router.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct Other {
    /// Its address.
    pub address: Address,
    /// Its priority.
    pub priority: u8,
}

/// An advertisement that did not count.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Refused {
    /// Why.
    pub reason: String,
    /// When, milliseconds ago.
    pub ms_ago: u64,
}

/// Instances from a position on.
pub fn slice(routers: &Routers, now: Instant, from: usize, lost: (u64, u64)) -> Slice {
    let all = routers.instances();
    let end = from.saturating_add(SLICE_MAX).min(all.len());
    let instances = (from..end).map(|position| describe(routers, now, position)).collect();
    let Unclaimed { malformed, unknown_vrid } = routers.unclaimed();
    let (news_lost, announcements_lost) = lost;
    let rest = Rest { malformed, unknown_vrid, news_lost, announcements_lost };
    Slice { instances, next: (end < all.len()).then_some(end), rest }
}

fn describe(routers: &Routers, now: Instant, position: usize) -> InstanceStatus {
    let instance = &routers.instances()[position];
    let config = instance.config();
    let ago = |at: Instant| now.saturating_since(at).as_millis() as u64;
    let other = instance.active_router().map(|(address, priority)| Other { address, priority });
    let refused = instance.refused().map(|(at, reason)| Refused { reason: reason.to_string(), ms_ago: ago(at) });
    let counters = counters(instance.counters());
    InstanceStatus {
        name: config.name.to_string(),
        group: routers.group_of(position).map(ToString::to_string),
        interface: config.interface.as_ref().map(ToString::to_string),
        vrid: config.vrid,
        version: config.version as u8,
        state: instance.state().word().map_or("INIT".to_owned(), |word| word.to_string()),
        why: why(routers, now, position),
        priority: instance.priority(),
        base_priority: config.priority,
        source: instance.primary(),
        addresses: config.addresses.iter().map(|own| own.address).collect(),
        excluded: config.excluded.iter().map(|own| own.address).collect(),
        other,
        interval_ms: instance.active_interval().as_millis() as u64,
        heard_ms_ago: instance.heard_at().map(ago),
        refused,
        counters: counters.into_iter().filter(|&(_, count)| count > 0).collect(),
    }
}

/// Why an instance is what it is.
fn why(routers: &Routers, now: Instant, position: usize) -> Vec<String> {
    let instance = &routers.instances()[position];
    let seconds = |at: Instant| now.saturating_since(at).as_secs_f64();
    let mut lines = match instance.state() {
        State::Initialize | State::Fault => routers.hindrances(position),
        State::Active { .. } => Vec::new(),
        State::Backup { down, .. } => {
            let heard = instance.heard_at().map(seconds);
            let mut lines = Vec::new();
            match (instance.active_router(), heard, down) {
                (Some((address, priority)), Some(ago), Some(_)) => {
                    lines.push(format!("{address} is MASTER with priority {priority}, heard {ago:.3} s ago"));
                }
                (_, _, None) => lines.push("it waits for its sync group".to_owned()),
                (_, _, Some(at)) => {
                    let left = at.saturating_since(now).as_secs_f64();
                    lines.push(format!("nobody is heard: MASTER in {left:.3} s"));
                }
            }
            lines
        }
    };
    // Both may be MASTER because each refuses what the other says.
    if let Some((at, reason)) = instance.refused() {
        let count = instance.counters().refused();
        lines.push(format!("{count} advertisements were refused, the last {:.3} s ago: {reason}", seconds(at)));
    }
    lines
}

fn counters(counters: &Counters) -> Vec<(&'static str, u64)> {
    let Counters {
        adverts_received,
        adverts_sent,
        became_active,
        released_active,
        packet_length_errors,
        interval_errors,
        hop_limit_errors,
        type_errors,
        address_list_errors,
        invalid_authentication_types,
        authentication_mismatches,
        authentication_failures,
        zero_received,
        zero_sent,
        checksum_errors,
        version_errors,
        destination_errors,
        sender_errors,
        own,
        lines_not_logged,
        lower_not_told,
    } = *counters;
    vec![
        ("adverts-received", adverts_received),
        ("adverts-sent", adverts_sent),
        ("became-master", became_active),
        ("released-master", released_active),
        ("priority-zero-received", zero_received),
        ("priority-zero-sent", zero_sent),
        ("refused-length", packet_length_errors),
        ("refused-interval", interval_errors),
        ("refused-ttl", hop_limit_errors),
        ("refused-type", type_errors),
        ("refused-address-list", address_list_errors),
        ("refused-authentication-type", invalid_authentication_types),
        ("refused-authentication-mismatch", authentication_mismatches),
        ("refused-authentication", authentication_failures),
        ("refused-checksum", checksum_errors),
        ("refused-version", version_errors),
        ("refused-destination", destination_errors),
        ("refused-sender", sender_errors),
        ("own", own),
        ("lines-not-logged", lines_not_logged),
        ("lower-not-told", lower_not_told),
    ]
}

/// A table for people: a line an instance, and below it what is to be said.
pub fn render(instances: &[InstanceStatus], rest: &Rest) -> String {
    let mut text = String::new();
    let width = instances.iter().map(|it| it.name.len()).max().unwrap_or(0).max("instance".len());
    let _ = writeln!(
        text,
        "{:width$}  {:8} {:>4} {:>4}  {:15} addresses",
        "instance", "state", "vrid", "prio", "interface"
    );
    for it in instances {
        let on = it.interface.as_deref().unwrap_or("-");
        let addresses: Vec<String> = it.addresses.iter().chain(&it.excluded).map(ToString::to_string).collect();
        let priority = it.priority;
        let _ = writeln!(
            text,
            "{:width$}  {:8} {:>4} {priority:>4}  {on:15} {}",
            it.name,
            it.state,
            it.vrid,
            addresses.join(" ")
        );
        if it.priority != it.base_priority {
            let _ = writeln!(text, "    priority {} is configured, trackers make it {priority}", it.base_priority);
        }
        for line in &it.why {
            let _ = writeln!(text, "    {line}");
        }
        let counts: Vec<String> = it.counters.iter().map(|(name, count)| format!("{name} {count}")).collect();
        if !counts.is_empty() {
            let _ = writeln!(text, "    {}", counts.join(", "));
        }
    }
    for (count, what) in [
        (rest.malformed, "packets were no advertisements"),
        (rest.unknown_vrid, "advertisements were of identifiers that are not configured where they came"),
        (rest.news_lost, "log lines and notifications were lost"),
        (rest.announcements_lost, "announcements were lost"),
    ] {
        if count > 0 {
            let _ = writeln!(text, "{count} {what}");
        }
    }
    text
}

/// The same as one JSON object.
pub fn render_json(instances: &[InstanceStatus], rest: &Rest) -> String {
    #[derive(Serialize)]
    struct All<'a> {
        instances: &'a [InstanceStatus],
        #[serde(flatten)]
        rest: &'a Rest,
    }
    serde_json::to_string(&All { instances, rest }).unwrap_or_default() + "\n"
}
