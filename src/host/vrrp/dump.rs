//! The files that keepalived writes on signals, for programs that read those: SIGUSR1 `keepalived.data`, SIGUSR2
//! `keepalived.stats`, SIGRTMIN+2 `keepalived.json`, all in `/tmp`. Of the data the part about virtual routers.

use std::fmt::Write;

use serde_json::{Value, json};

use crate::base::{Duration, Instant};
use crate::vrrp::{Authentication, Instance, InstanceConfig, State, VirtualAddress};
use crate::wire::vrrp::Version;

/// Where they go.
pub const DIRECTORY: &str = "/tmp";

/// One of the files.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// `keepalived.data`.
    Data,
    /// `keepalived.stats`.
    Statistics,
    /// `keepalived.json`.
    Json,
}

impl Kind {
    /// Its path.
    pub fn path(self) -> String {
        let suffix = match self {
            Kind::Data => "data",
            Kind::Statistics => "stats",
            Kind::Json => "json",
        };
        format!("{DIRECTORY}/keepalived.{suffix}")
    }

    /// Its text. `wall` is the time of day now, since 1970; `now` the director's.
    pub fn render(self, instances: &[Instance], now: Instant, wall: Duration) -> String {
        let since = |at: Instant| wall.saturating_sub(now.saturating_since(at)).as_secs_f64();
        match self {
            Kind::Data => data(instances, &since),
            Kind::Statistics => instances.iter().map(statistics).collect(),
            Kind::Json => Value::Array(instances.iter().map(|it| object(it, &since)).collect()).to_string(),
        }
    }
}

fn address_text(config: &InstanceConfig, own: &VirtualAddress, is_set: bool) -> String {
    let longest = if own.address.is_v4() { 32 } else { 128 };
    let prefix = if own.prefix == longest { String::new() } else { format!("/{}", own.prefix) };
    let on = own.interface.as_deref().or(config.interface.as_deref()).unwrap_or("(none)");
    let scope = match own.scope {
        Some(253) => "link",
        Some(254) => "host",
        Some(200) => "site",
        _ => "global",
    };
    let deprecated = if own.preferred_lifetime_s == Some(0) { " deprecated" } else { "" };
    let set = if is_set { " set" } else { "" };
    format!("{}{prefix} dev {on} scope {scope}{deprecated}{set}", own.address)
}

fn state_number(state: State) -> u8 {
    match state {
        State::Initialize => 0,
        State::Backup { .. } => 1,
        State::Active { .. } => 2,
        State::Fault => 3,
    }
}

/// The password, as keepalived tells it.
fn password(config: &InstanceConfig) -> Option<(u8, &'static str, String)> {
    let (number, name, key) = match config.authentication {
        Authentication::None => return None,
        Authentication::Password(key) => (1, "SIMPLE_PASSWORD", key),
        Authentication::Header(key) => (2, "IPSEC_AH", key),
    };
    let text = String::from_utf8_lossy(&key).trim_end_matches('\0').to_owned();
    Some((number, name, text))
}

fn statistics(instance: &Instance) -> String {
    let it = instance.counters();
    format!(
        "VRRP Instance: {}\n  Advertisements:\n    Received: {}\n    Sent: {}\n  Became master: {}\n  \
         Released master: {}\n  Packet Errors:\n    Length: {}\n    TTL: {}\n    Invalid Type: {}\n    \
         Advertisement Interval: {}\n    Address List: {}\n  Authentication Errors:\n    Invalid Type: {}\n    \
         Type Mismatch: {}\n    Failure: {}\n  Priority Zero:\n    Received: {}\n    Sent: {}\n",
        instance.config().name,
        it.adverts_received,
        it.adverts_sent,
        it.became_active,
        it.released_active,
        it.packet_length_errors,
        it.hop_limit_errors,
        it.type_errors,
        it.interval_errors,
        it.address_list_errors,
        it.invalid_authentication_types,
        it.authentication_mismatches,
        it.authentication_failures,
        it.zero_received,
        it.zero_sent,
    )
}

/// Whole seconds as an integer, as keepalived has them.
fn seconds(time: Duration) -> Value {
    if time.subsec_nanos() == 0 { json!(time.as_secs()) } else { json!(time.as_secs_f64()) }
}

fn object(instance: &Instance, since: &dyn Fn(Instant) -> f64) -> Value {
    let (config, counters) = (instance.config(), instance.counters());
    let is_active = instance.state().is_active();
    let vips: Vec<String> = config.addresses.iter().map(|own| address_text(config, own, is_active)).collect();
    let announcing = &config.announcing;
    let mut data = json!({
        "iname": &*config.name,
        "dont_track_primary": u8::from(config.ignores_interface),
        "skip_check_adv_addr": u8::from(config.skips_known_lists),
        "strict_mode": u8::from(config.is_strict),
        "vmac_ifname": if config.has_virtual_mac { format!("vrrp.{}", config.vrid) } else { String::new() },
        "ifp_ifname": config.interface.as_deref().unwrap_or(""),
        "master_priority": instance.active_router().map_or(0, |(_, priority)| priority),
        "last_transition": since(instance.since()),
        "garp_delay": announcing.delay.as_secs(),
        "garp_refresh": announcing.refresh.as_secs(),
        "garp_rep": announcing.repeat,
        "garp_refresh_rep": announcing.refresh_repeat,
        "garp_lower_prio_delay": announcing.lower_delay.as_secs(),
        "garp_lower_prio_rep": announcing.lower_repeat,
        "lower_prio_no_advert": u8::from(!config.answers_lower),
        "higher_prio_send_advert": u8::from(config.answers_higher),
        "vrid": config.vrid,
        "base_priority": config.priority,
        "effective_priority": instance.priority(),
        "vipset": is_active,
        "promote_secondaries": false,
        "adver_int": seconds(config.interval),
        "master_adver_int": seconds(instance.active_interval()),
        "accept": u8::from(config.accepts),
        "nopreempt": !config.preempts,
        "preempt_delay": seconds(config.preempt_delay),
        "state": state_number(instance.state()),
        "wantstate": if config.starts_as_master { 2 } else { 1 },
        "version": config.version as u8,
        "notify_deleted": config.tells_deleted,
        "vips": vips,
        "auth_type": 0,
    });
    if let Some((number, _, text)) = password(config) {
        (data["auth_type"], data["auth_data"]) = (json!(number), json!(text));
    }
    let stats = json!({
        "advert_rcvd": counters.adverts_received,
        "advert_sent": counters.adverts_sent,
        "become_master": counters.became_active,
        "release_master": counters.released_active,
        "packet_len_err": counters.packet_length_errors,
        "advert_interval_err": counters.interval_errors,
        "ip_ttl_err": counters.hop_limit_errors,
        "invalid_type_rcvd": counters.type_errors,
        "addr_list_err": counters.address_list_errors,
        "invalid_authtype": counters.invalid_authentication_types,
        "authtype_mismatch": counters.authentication_mismatches,
        "auth_failure": counters.authentication_failures,
        "pri_zero_rcvd": counters.zero_received,
        "pri_zero_sent": counters.zero_sent,
    });
    json!({"data": data, "stats": stats})
}

fn data(instances: &[Instance], since: &dyn Fn(Instant) -> f64) -> String {
    let mut text = "------< VRRP Topology >------\n".to_owned();
    for instance in instances {
        // Writing to a String does not fail.
        let _ = data_of(&mut text, instance, since);
    }
    text
}

fn data_of(text: &mut String, instance: &Instance, since: &dyn Fn(Instant) -> f64) -> std::fmt::Result {
    let config = instance.config();
    let state = instance.state().word().map_or("INIT".to_owned(), |word| word.to_string());
    writeln!(text, " VRRP Instance = {}", config.name)?;
    writeln!(text, "   VRRP Version = {}", config.version as u8)?;
    writeln!(text, "   State = {state}")?;
    writeln!(text, "   Wantstate = {}", if config.starts_as_master { "MASTER" } else { "BACKUP" })?;
    writeln!(text, "   Last transition = {:.6}", since(instance.since()))?;
    writeln!(text, "   Interface = {}", config.interface.as_deref().unwrap_or("(none)"))?;
    if let Some(source) = instance.primary() {
        writeln!(text, "   Using src_ip = {source}")?;
    }
    if !config.is_unicast() {
        writeln!(text, "   Multicast address {}", config.multicast_group())?;
    }
    let announcing = &config.announcing;
    writeln!(text, "   Gratuitous ARP delay = {}", announcing.delay.as_secs())?;
    writeln!(text, "   Gratuitous ARP repeat = {}", announcing.repeat)?;
    writeln!(text, "   Gratuitous ARP refresh = {}", announcing.refresh.as_secs())?;
    writeln!(text, "   Gratuitous ARP refresh repeat = {}", announcing.refresh_repeat)?;
    writeln!(text, "   Gratuitous ARP lower priority delay = {}", announcing.lower_delay.as_secs())?;
    writeln!(text, "   Gratuitous ARP lower priority repeat = {}", announcing.lower_repeat)?;
    writeln!(text, "   Down timer adverts = {}", config.down_adverts)?;
    writeln!(text, "   Send advert after receive lower priority advert = {}", config.answers_lower)?;
    writeln!(text, "   Send advert after receive higher priority advert = {}", config.answers_higher)?;
    writeln!(text, "   Virtual Router ID = {}", config.vrid)?;
    writeln!(text, "   Priority = {}", config.priority)?;
    writeln!(text, "   Effective priority = {}", instance.priority())?;
    match config.version {
        Version::V2 => writeln!(text, "   Advert interval = {} sec", config.interval.as_secs())?,
        Version::V3 => writeln!(text, "   Advert interval = {} milli-sec", config.interval.as_millis())?,
    }
    writeln!(text, "   Accept = {}", if config.accepts { "enabled" } else { "disabled" })?;
    writeln!(text, "   Preempt = {}", if config.preempts { "enabled" } else { "disabled" })?;
    if let Some((_, name, key)) = password(config) {
        writeln!(text, "   Authentication type = {name}\n   Password = {key}")?;
    }
    let is_active = instance.state().is_active();
    for (title, addresses) in [("Virtual IP", &config.addresses), ("Virtual IP Excluded", &config.excluded)] {
        if !addresses.is_empty() {
            writeln!(text, "   {title} ({}):", addresses.len())?;
        }
        for own in addresses {
            writeln!(text, "     {}", address_text(config, own, is_active))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Family;
    use crate::vrrp::{Config, Event, Link, Routers};

    const NOW: Instant = Instant::from_seconds(100);

    /// An instance that has been Active for five seconds.
    fn active() -> Vec<Instance> {
        let mut config = InstanceConfig::new("VI_1", "eth0", 51, Family::V4);
        (config.priority, config.starts_as_master) = (255, true);
        config.authentication = Authentication::Password(*b"1111\0\0\0\0");
        config.addresses = vec![VirtualAddress::new("10.77.0.10".parse().unwrap())];
        let mut routers = Routers::new(Config { instances: vec![config], ..Config::default() }).unwrap();
        let start = Instant::from_seconds(95);
        let link = Link { is_up: true, addresses: vec!["10.77.0.1".parse().unwrap()] };
        routers.handle(start, Event::Link { interface: "eth0".into(), link });
        routers.handle(start, Event::Start);
        routers.instances().to_vec()
    }

    /// keepalived's text, but for the numbers.
    #[test]
    fn statistics_are_keepalived_s() {
        let text = Kind::Statistics.render(&active(), NOW, Duration::ZERO);
        let theirs = "VRRP Instance: VI_1\n  Advertisements:\n    Received: 0\n    Sent: 1\n  Became master: 1\n  \
             Released master: 0\n  Packet Errors:\n    Length: 0\n    TTL: 0\n    Invalid Type: 0\n    \
             Advertisement Interval: 0\n    Address List: 0\n  Authentication Errors:\n    Invalid Type: 0\n    \
             Type Mismatch: 0\n    Failure: 0\n  Priority Zero:\n    Received: 0\n    Sent: 0\n";
        assert_eq!(text, theirs);
    }

    #[test]
    fn json_has_keepalived_s_names_and_values() {
        let text = Kind::Json.render(&active(), NOW, Duration::from_secs(1000));
        let all: Value = serde_json::from_str(&text).unwrap();
        let (data, stats) = (&all[0]["data"], &all[0]["stats"]);
        for (name, value) in [
            ("iname", json!("VI_1")),
            ("ifp_ifname", json!("eth0")),
            ("last_transition", json!(995.0)),
            ("state", json!(2)),
            ("wantstate", json!(2)),
            ("adver_int", json!(1)),
            ("vips", json!(["10.77.0.10 dev eth0 scope global set"])),
            ("auth_type", json!(1)),
            ("auth_data", json!("1111")),
        ] {
            assert_eq!(data[name], value, "{name}");
        }
        assert_eq!((&stats["advert_sent"], &stats["become_master"]), (&json!(1), &json!(1)));
    }

    #[test]
    fn data_has_the_lines_that_exporters_look_for() {
        let text = Kind::Data.render(&active(), NOW, Duration::ZERO);
        for line in [
            "------< VRRP Topology >------",
            " VRRP Instance = VI_1",
            "   State = MASTER",
            "   Wantstate = MASTER",
            "   Interface = eth0",
            "   Virtual Router ID = 51",
            "   Virtual IP (1):",
            "     10.77.0.10 dev eth0 scope global set",
        ] {
            assert!(text.lines().any(|it| it == line), "{line}");
        }
    }
}
