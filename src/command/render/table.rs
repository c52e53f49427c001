//! `-L`: services, each with its servers below it.

use super::{Labels, checksum_texts, flags_text, gre_checksum, mask_text, method_text, numbers, protocol_of, put};
use crate::base::Family;
use crate::command::ListOptions;
use crate::command::request::{ServerInfo, ServiceInfo, Stats};
use crate::command::values::cut;
use crate::service::{Method, ServiceKey, Tunnel};

/// Width of a service's name in the views with counters; names of IPv4 services are cut to it.
const SERVICE_OCTETS: usize = 33;
/// Width of a server's name; those of IPv4 are cut to it.
const SERVER_OCTETS: usize = 28;

/// What the columns show; the first that is asked for wins.
#[derive(Clone, Copy)]
enum View {
    Stats,
    Rate,
    Thresholds,
    PersistentConn,
    TunInfo,
    Plain,
}

impl View {
    fn of(options: &ListOptions) -> Self {
        let asked = [
            (options.stats, View::Stats),
            (options.rate, View::Rate),
            (options.thresholds, View::Thresholds),
            (options.persistent_conn, View::PersistentConn),
            (options.tun_info, View::TunInfo),
        ];
        asked.into_iter().find(|(is_asked, _)| *is_asked).map_or(View::Plain, |(_, view)| view)
    }

    /// The two lines above the services.
    const fn header(self) -> [&'static str; 2] {
        const REMOTE: &str = "  -> RemoteAddress:Port";
        match self {
            View::Stats => ["Prot LocalAddress:Port               Conns   InPkts  OutPkts  InBytes OutBytes", REMOTE],
            View::Rate => ["Prot LocalAddress:Port                 CPS    InPPS   OutPPS    InBPS   OutBPS", REMOTE],
            View::Thresholds => {
                ["Prot LocalAddress:Port            Uthreshold Lthreshold ActiveConn InActConn ", REMOTE]
            }
            View::PersistentConn => {
                ["Prot LocalAddress:Port            Weight    PersistConn ActiveConn InActConn ", REMOTE]
            }
            View::TunInfo => [
                "Prot LocalAddress:Port Scheduler Flags",
                "  -> RemoteAddress:Port           Forward TunnelInfo    Weight ActiveConn InActConn",
            ],
            View::Plain => [
                "Prot LocalAddress:Port Scheduler Flags",
                "  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn",
            ],
        }
    }
}

/// Appends header and rows.
pub fn write_table(
    out: &mut String,
    services: &[(&ServiceInfo, Vec<&ServerInfo>)],
    options: &ListOptions,
    labels: &Labels<'_>,
) {
    let view = View::of(options);
    for line in view.header() {
        out.push_str(line);
        out.push('\n');
    }
    for (service, servers) in services {
        let name = service_name(&service.rule.key, labels);
        match view {
            View::Stats => write_counters(out, &format!("{name:SERVICE_OCTETS$}"), counts(&service.stats), options),
            View::Rate => write_counters(out, &format!("{name:SERVICE_OCTETS$}"), rates(&service.stats), options),
            _ => write_service(out, &name, service),
        }
        for server in servers {
            write_server(out, server, &service.rule.key, view, options, labels);
        }
    }
}

/// `TCP  10.0.0.1:80`, `FWM  7 IPv6`. Marks are printed as signed numbers.
fn service_name(key: &ServiceKey, labels: &Labels<'_>) -> String {
    match *key {
        ServiceKey::Address { protocol, endpoint } => {
            let mut name = format!("{protocol:<4} {}", labels.endpoint(endpoint, Some(protocol)));
            if endpoint.address.family() == Family::V4 {
                name.truncate(cut(&name, SERVICE_OCTETS).len());
            }
            name
        }
        ServiceKey::Mark { family, mark } => {
            let family = if family == Family::V6 { " IPv6" } else { "" };
            format!("FWM  {}{family}", mark as i32)
        }
    }
}

/// The scheduler and what else there is to say of a service.
fn write_service(out: &mut String, name: &str, service: &ServiceInfo) {
    let rule = &service.rule;
    put(out, format_args!("{name} {}", rule.scheduler));
    if let Some(flags) = flags_text(&rule.scheduler, rule.flags) {
        put(out, format_args!(" ({flags})"));
    }
    if let Some(timeout_s) = rule.persistent_s {
        put(out, format_args!(" persistent {timeout_s}"));
        if let Some(mask) = mask_text(service) {
            put(out, format_args!(" mask {mask}"));
        }
        if let Some(engine) = &rule.engine {
            put(out, format_args!(" pe {engine}"));
        }
    }
    if rule.one_packet {
        out.push_str(" ops");
    }
    if rule.mss_max != 0 {
        put(out, format_args!(" mss {}", rule.mss_max));
    }
    out.push('\n');
}

fn write_server(
    out: &mut String,
    server: &ServerInfo,
    service: &ServiceKey,
    view: View,
    options: &ListOptions,
    labels: &Labels<'_>,
) {
    let rule = &server.rule;
    let label = labels.endpoint(rule.endpoint, protocol_of(service));
    let label = match rule.endpoint.address.family() {
        Family::V4 => cut(&label, SERVER_OCTETS),
        Family::V6 => &label,
    };
    let name = format!("  -> {label:SERVER_OCTETS$}");
    let (active, inactive) = (server.active, server.inactive);
    match view {
        View::Stats => write_counters(out, &name, server_counts(&server.stats), options),
        View::Rate => write_server_rates(out, &name, &server.stats, options),
        View::Thresholds => {
            put(out, format_args!("{name} {:<10} {:<10} {active:<10} {inactive:<10}\n", rule.upper, rule.lower));
        }
        View::PersistentConn => {
            let (weight, templates) = (rule.weight, server.persistent);
            put(out, format_args!("{name} {weight:<9} {templates:<11} {active:<10} {inactive:<10}\n"));
        }
        View::TunInfo => {
            let (method, tunnel) = (method_text(rule), tunnel_text(rule.method, rule.tunnel));
            put(out, format_args!("{name} {method:<7} {tunnel:<13} {:<6} ", rule.weight));
            put(out, format_args!("{active:<10} {inactive:<10}\n"));
        }
        View::Plain => {
            let method = method_text(rule);
            put(out, format_args!("{name} {method:<7} {:<6} {active:<10} {inactive:<10}\n", rule.weight));
        }
    }
}

fn tunnel_text(method: Method, tunnel: Tunnel) -> String {
    match tunnel {
        _ if method != Method::Tunnelling => "n/a".into(),
        Tunnel::Ipip => "ipip".into(),
        Tunnel::Gue { port, checksum } => format!("gue:{port}:{}", checksum_texts(checksum).1),
        Tunnel::Gre { checksum } => format!("gre:{}", checksum_texts(gre_checksum(checksum)).1),
    }
}

fn counts(stats: &Stats) -> [u64; 5] {
    [stats.connections, stats.in_packets, stats.out_packets, stats.in_octets, stats.out_octets]
}

fn rates(stats: &Stats) -> [u64; 5] {
    [stats.connection_rate, stats.in_packet_rate, stats.out_packet_rate, stats.in_octet_rate, stats.out_octet_rate]
}

/// ipvsadm 1.31 reads a server's counters with 32 bits, but for the octets.
fn cut_to_32_bits(value: u64) -> u64 {
    u64::from(value as u32)
}

fn server_counts(stats: &Stats) -> [u64; 5] {
    let [connections, in_packets, out_packets, in_octets, out_octets] = counts(stats);
    let [connections, in_packets, out_packets] = [connections, in_packets, out_packets].map(cut_to_32_bits);
    [connections, in_packets, out_packets, in_octets, out_octets]
}

fn write_counters(out: &mut String, name: &str, counters: [u64; 5], options: &ListOptions) {
    out.push_str(name);
    for counter in counters {
        out.push_str(&numbers::column(counter, options.exact));
    }
    out.push('\n');
}

/// The rates of connections and packets of a server are never shortened.
fn write_server_rates(out: &mut String, name: &str, stats: &Stats, options: &ListOptions) {
    out.push_str(name);
    let [connections, in_packets, out_packets, in_octets, out_octets] = rates(stats).map(cut_to_32_bits);
    for rate in [connections, in_packets, out_packets] {
        out.push_str(&numbers::column(rate, true));
    }
    for rate in [in_octets, out_octets] {
        out.push_str(&numbers::column(rate, options.exact));
    }
    out.push('\n');
}
