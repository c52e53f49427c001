//! Answers as ipvsadm prints them, column for column.
//!
//! One file a shape: `table` for `-L`, `rules` for `-S`, `connections` for `-L -c`; here what is one line long.

use std::fmt::Write;

use crate::base::{Address, Family};
use crate::command::ListOptions;
use crate::command::names::Names;
use crate::command::request::{DaemonRole, DaemonRule, Request, Response, ServerInfo, ServerRule, ServiceInfo};
use crate::service::{Method, Protocol, SchedulerFlags, ServiceKey, TunnelChecksum};

mod connections;
mod numbers;
mod rules;
mod sort;
mod table;

pub use connections::{ConnectionTextError, connections_header, parse_connection, write_connection};

/// Appends the answer to `request`; nothing for [`Response::Done`].
pub fn render(out: &mut String, request: &Request, response: &Response, options: &ListOptions, names: &dyn Names) {
    match response {
        Response::Done => {}
        Response::Services { services, .. } if options.save => {
            rules::write_rules(out, &in_order(services, options), &labels(options, names));
        }
        Response::Services { table_size, services } => {
            if matches!(request, Request::Services(None)) {
                put(out, format_args!("IP Virtual Server version 1.2.1 (size={table_size})\n"));
            }
            table::write_table(out, &in_order(services, options), options, &labels(options, names));
        }
        Response::Connections(rows) => {
            out.push_str(connections_header(options));
            for row in rows {
                write_connection(out, row, options, names);
            }
        }
        Response::Timeouts { tcp_s, tcp_fin_s, udp_s } => {
            put(out, format_args!("Timeout (tcp tcpfin udp): {tcp_s} {tcp_fin_s} {udp_s}\n"));
        }
        Response::Daemons(daemons) => daemons.iter().for_each(|daemon| write_daemon(out, daemon)),
    }
}

/// Writing to a `String` cannot fail.
fn put(out: &mut String, text: std::fmt::Arguments<'_>) {
    let _ = out.write_fmt(text);
}

fn write_daemon(out: &mut String, daemon: &DaemonRule) {
    let role = match daemon.role {
        DaemonRole::Master => "master",
        DaemonRole::Backup => "backup",
    };
    let group = daemon.group.unwrap_or(Address::v4(0xe000_0051));
    let or = |value: u16, default: u16| if value == 0 { default } else { value };
    // What an Ethernet frame holds after the IP and UDP headers.
    let maxlen = or(daemon.sync_maxlen, if group.family() == Family::V4 { 1472 } else { 1452 });
    let (port, ttl) = (or(daemon.port, 8848), or(daemon.ttl.into(), 1));
    let (interface, syncid) = (&daemon.interface, daemon.syncid);
    put(
        out,
        format_args!(
            "{role} sync daemon (mcast={interface}, syncid={syncid}, maxlen={maxlen}, group={group}, port={port}, \
             ttl={ttl})\n"
        ),
    );
}

/// Services and their servers in the order of the list: sorted as ipvsadm does, or as given with `--nosort`.
/// `-S` sorts always.
fn in_order<'a>(services: &'a [ServiceInfo], options: &ListOptions) -> Vec<(&'a ServiceInfo, Vec<&'a ServerInfo>)> {
    let sorted = !options.nosort || options.save;
    let mut order: Vec<&ServiceInfo> = services.iter().collect();
    if sorted {
        sort::merge_sort(&mut order, &|a, b| sort::compare_services(&a.rule.key, &b.rule.key));
    }
    let with_servers = |service: &'a ServiceInfo| {
        let mut servers: Vec<&ServerInfo> = service.servers.iter().collect();
        if sorted {
            sort::merge_sort(&mut servers, &|a, b| sort::compare_servers(a.rule.endpoint, b.rule.endpoint));
        }
        (service, servers)
    };
    order.into_iter().map(with_servers).collect()
}

/// Longest `address:port` that ipvsadm prints, octets.
const LABEL_OCTETS_MAX: usize = 59;

/// How endpoints are written: in numbers, or in names where there are names.
struct Labels<'a> {
    names: Option<&'a dyn Names>,
}

fn labels<'a>(options: &ListOptions, names: &'a dyn Names) -> Labels<'a> {
    Labels { names: (!options.numeric).then_some(names) }
}

impl Labels<'_> {
    /// `address:port`; the port in numbers when there is no protocol, as for marks.
    fn endpoint(&self, endpoint: crate::base::Endpoint, protocol: Option<Protocol>) -> String {
        let host = self.names.and_then(|names| names.host_of_address(endpoint.address));
        let service = self.names.zip(protocol).and_then(|(names, protocol)| {
            // Port 0 is every port, and no service.
            (endpoint.port != 0).then(|| names.service_of_port(endpoint.port, protocol)).flatten()
        });
        let host = host.unwrap_or_else(|| endpoint.address.to_string());
        let port = service.unwrap_or_else(|| endpoint.port.to_string());
        let mut text = match endpoint.address.family() {
            Family::V4 => format!("{host}:{port}"),
            Family::V6 => format!("[{host}]:{port}"),
        };
        text.truncate(crate::command::values::cut(&text, LABEL_OCTETS_MAX).len());
        text
    }
}

/// Protocol by which the ports of a service's servers are named.
fn protocol_of(key: &ServiceKey) -> Option<Protocol> {
    match key {
        ServiceKey::Address { protocol, .. } => Some(*protocol),
        ServiceKey::Mark { .. } => None,
    }
}

/// The persistence mask as text, when it is not the default.
fn mask_text(service: &ServiceInfo) -> Option<String> {
    let mask = service.rule.mask;
    match service.rule.key.family() {
        Family::V4 if mask != u32::MAX => Some(Address::v4(mask).to_string()),
        Family::V6 if mask != 128 => Some(mask.to_string()),
        _ => None,
    }
}

/// Scheduler flags as `-b` takes them; `None` without flags. Of `sh` and `mh` the third has no name and prints nothing.
fn flags_text(scheduler: &str, flags: SchedulerFlags) -> Option<String> {
    let words = match scheduler {
        "sh" => ["sh-fallback", "sh-port", ""],
        "mh" => ["mh-fallback", "mh-port", ""],
        _ => ["flag-1", "flag-2", "flag-3"],
    };
    let bits = [SchedulerFlags::FLAG_1, SchedulerFlags::FLAG_2, SchedulerFlags::FLAG_3];
    let set = bits.into_iter().zip(words).filter(|&(bit, word)| flags.has(bit) && !word.is_empty());
    let words: Vec<&str> = set.map(|(_, word)| word).collect();
    (flags != SchedulerFlags::default()).then(|| words.join(","))
}

/// The checksum of a tunnel: as an option of `-a`, and as `--tun-info` abbreviates it.
const fn checksum_texts(checksum: TunnelChecksum) -> (&'static str, &'static str) {
    match checksum {
        TunnelChecksum::None => ("--tun-nocsum", "-c"),
        TunnelChecksum::Full => ("--tun-csum", "+c"),
        TunnelChecksum::Remote => ("--tun-remcsum", "r+c"),
    }
}

const fn gre_checksum(checksum: bool) -> TunnelChecksum {
    if checksum { TunnelChecksum::Full } else { TunnelChecksum::None }
}

const fn method_text(rule: &ServerRule) -> &'static str {
    match rule.method {
        Method::Masquerading if rule.full_nat.is_on() => "FullNAT",
        Method::Masquerading => "Masq",
        Method::LocalNode => "Local",
        Method::Tunnelling => "Tunnel",
        Method::DirectRouting => "Route",
        Method::Bypass => "Bypass",
    }
}

#[cfg(test)]
mod tests;
