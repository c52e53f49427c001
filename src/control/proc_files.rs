//! The texts of `/proc/net/ip_vs*`, for monitoring that reads them.
//!
//! Source: `ip_vs_info_seq_show`, `ip_vs_stats_show`, `ip_vs_stats_percpu_show` of `ip_vs_ctl.c` and
//! `ip_vs_conn_seq_show` of `ip_vs_conn.c`, Linux 6.1.

use std::fmt::Write;

use crate::base::{Address, Endpoint, Family, Instant};
use crate::command::Response;
use crate::command::request::{ConnectionInfo, ServiceInfo, Stats};
use crate::control::Control;
use crate::service::{Method, ServiceKey};

/// Ticks per second in which `/proc/net/ip_vs` prints persistence timeouts. The kernel's is its HZ: 100 in the
/// reference, 250 or 1000 elsewhere.
const HZ: u64 = 100;

/// The files whose length depends on services and workers alone.
pub const SUMMARIES: [&str; 4] = ["ip_vs", "ip_vs_stats", "ip_vs_stats_percpu", "ip_vs_app"];
/// The files with one line a connection: whoever reads them of a running director takes them in slices, with
/// [`ConnectionTable`].
pub const CONNECTION_TABLES: [&str; 2] = ["ip_vs_conn", "ip_vs_conn_sync"];

/// The file of this name, as a read gives it; `None` when there is no such file.
pub fn read(control: &Control, name: &str, now: Instant) -> Option<String> {
    match name {
        "ip_vs" => Some(services(control)),
        "ip_vs_stats" => Some(totals(&control.total.stats())),
        "ip_vs_stats_percpu" => Some(totals_by_worker(control)),
        "ip_vs_app" => Some(helpers(control)),
        _ => Some(connections(control, now, ConnectionTable::of(name)?)),
    }
}

/// `ip_vs_app_seq_show` of `ip_vs_app.c`.
fn helpers(control: &Control) -> String {
    let mut text = String::from("prot port    usecnt name\n");
    for (port, uses) in control.shared.connections.helper_ports().list() {
        let _ = writeln!(text, "{:<3}  {port:<7} {uses:<6} {:<17}", "TCP", "ftp");
    }
    text
}

fn services(control: &Control) -> String {
    let mut text = format!(
        "IP Virtual Server version 1.2.1 (size={})\n\
         Prot LocalAddress:Port Scheduler Flags\n  \
         -> RemoteAddress:Port Forward Weight ActiveConn InActConn\n",
        control.table_size
    );
    if let Ok(Response::Services { services, .. }) = control.list_services(None) {
        services.iter().for_each(|service| write_service(&mut text, service));
    }
    text
}

fn write_service(text: &mut String, service: &ServiceInfo) {
    let rule = &service.rule;
    let one_packet = if rule.one_packet { "ops " } else { "" };
    // Writing to a string cannot fail; the results are dropped on that ground here and below.
    let _ = match rule.key {
        ServiceKey::Address { protocol, endpoint } if endpoint.address.is_v4() => {
            write!(text, "{protocol}  {} {} {one_packet} ", hex(endpoint), rule.scheduler)
        }
        ServiceKey::Address { protocol, endpoint } => write!(text, "{protocol}  {} {} ", hex(endpoint), rule.scheduler),
        ServiceKey::Mark { mark, .. } => write!(text, "FWM  {mark:08X} {} {one_packet}", rule.scheduler),
    };
    if let Some(timeout_s) = rule.persistent_s {
        let mask = match rule.key.family() {
            Family::V4 => rule.mask,
            Family::V6 => rule.mask.swap_bytes(),
        };
        let _ = write!(text, "persistent {} {mask:08X}", u64::from(timeout_s) * HZ);
    }
    text.push('\n');
    for server in &service.servers {
        let method = match server.rule.method {
            Method::Masquerading | Method::Bypass => "Masq",
            Method::LocalNode => "Local",
            Method::Tunnelling => "Tunnel",
            Method::DirectRouting => "Route",
        };
        let (endpoint, weight) = (hex(server.rule.endpoint), server.rule.weight);
        let (active, inactive) = (server.active, server.inactive);
        let _ = writeln!(text, "  -> {endpoint}      {method:<7} {weight:<6} {active:<10} {inactive:<10}");
    }
}

fn hex(endpoint: Endpoint) -> String {
    match endpoint.address.family() {
        Family::V4 => format!("{}:{:04X}", hex_address(endpoint.address), endpoint.port),
        Family::V6 => format!("[{}]:{:04X}", hex_address(endpoint.address), endpoint.port),
    }
}

fn hex_address(address: Address) -> String {
    match address.family() {
        Family::V4 => format!("{:08X}", address.low_u32()),
        Family::V6 => {
            let groups: Vec<String> = (0..8).rev().map(|i| format!("{:04x}", address.0 >> (16 * i) & 0xffff)).collect();
            groups.join(":")
        }
    }
}

fn counts_row(stats: [u64; 5]) -> String {
    let [connections, in_packets, out_packets, in_octets, out_octets] = stats;
    format!("{connections:8X} {in_packets:8X} {out_packets:8X} {in_octets:16X} {out_octets:16X}")
}

fn counts_of(stats: &Stats) -> [u64; 5] {
    [stats.connections, stats.in_packets, stats.out_packets, stats.in_octets, stats.out_octets]
}

fn rates_of(stats: &Stats) -> [u64; 5] {
    [stats.connection_rate, stats.in_packet_rate, stats.out_packet_rate, stats.in_octet_rate, stats.out_octet_rate]
}

fn totals(stats: &Stats) -> String {
    format!(
        "   Total Incoming Outgoing         Incoming         Outgoing\n   \
         Conns  Packets  Packets            Bytes            Bytes\n\
         {}\n\n \
         Conns/s   Pkts/s   Pkts/s          Bytes/s          Bytes/s\n\
         {}\n",
        counts_row(counts_of(stats)),
        counts_row(rates_of(stats))
    )
}

fn totals_by_worker(control: &Control) -> String {
    let mut text = String::from(
        "       Total Incoming Outgoing         Incoming         Outgoing\n\
         CPU    Conns  Packets  Packets            Bytes            Bytes\n",
    );
    for (number, worker) in control.shared.workers.iter().enumerate() {
        let mut sum = [0u64; 5];
        for id in 1..control.next_destination {
            let counters = worker.counters.destination(crate::service::DestinationId(id));
            for (sum, count) in sum.iter_mut().zip(crate::control::estimate::counts(counters)) {
                *sum = sum.wrapping_add(count);
            }
        }
        let _ = writeln!(text, "{number:3X} {}", counts_row(sum));
    }
    let total = control.total.stats();
    let _ = writeln!(text, "  ~ {}", counts_row(counts_of(&total)));
    text.push_str("\n     Conns/s   Pkts/s   Pkts/s          Bytes/s          Bytes/s\n");
    let _ = writeln!(text, "    {}", counts_row(rates_of(&total)));
    text
}

/// A file with one line a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ConnectionTable {
    /// `ip_vs_conn`: with the persistence engine's name and data.
    Engines,
    /// `ip_vs_conn_sync`: with where the entry came from.
    Origins,
}

impl ConnectionTable {
    /// The table in the file of this name.
    pub fn of(name: &str) -> Option<Self> {
        match name {
            "ip_vs_conn" => Some(Self::Engines),
            "ip_vs_conn_sync" => Some(Self::Origins),
            _ => None,
        }
    }

    /// Its first line.
    pub const fn header(self) -> &'static str {
        match self {
            Self::Engines => "Pro FromIP   FPrt ToIP     TPrt DestIP   DPrt State       Expires PEName PEData\n",
            Self::Origins => "Pro FromIP   FPrt ToIP     TPrt DestIP   DPrt State       Origin Expires\n",
        }
    }

    /// Appends the line of a connection.
    pub fn write(self, text: &mut String, row: &ConnectionInfo) {
        let protocol = row.protocol.map_or("IP".to_owned(), |protocol| protocol.to_string());
        let side = |endpoint: Endpoint| format!("{} {:04X}", hex_address(endpoint.address), endpoint.port);
        let (client, service, server) = (side(row.client), side(row.virtual_service), side(row.destination));
        let _ = write!(text, "{protocol:<3} {client} {service} {server} {:<11} ", row.state);
        let _ = match (self, &row.engine) {
            (Self::Origins, _) => {
                let origin = if row.from_sync { "SYNC" } else { "LOCAL" };
                writeln!(text, "{origin:<6} {:7}", row.expires_s)
            }
            (Self::Engines, Some((engine, data))) => writeln!(text, "{:7} {engine} {data}", row.expires_s),
            (Self::Engines, None) => writeln!(text, "{:7}", row.expires_s),
        };
    }
}

fn connections(control: &Control, now: Instant, table: ConnectionTable) -> String {
    let mut text = String::from(table.header());
    let Ok(Response::Connections(rows)) = control.list_connections(now) else { return text };
    for row in &rows {
        table.write(&mut text, row);
    }
    text
}
