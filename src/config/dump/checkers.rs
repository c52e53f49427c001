//! Services, real servers, checkers.

use crate::base::{Address, Duration, Family};
use crate::config::dump::{Lines, enabled, yes};
use crate::config::model::check::HttpVersion;
use crate::config::model::service::Target;
use crate::config::model::{Check, CheckKind, Configuration, Connection, RealServer, Script, VirtualServer};
use crate::service::{Method, Protocol, SchedulerFlags};

pub(super) fn write(configuration: &Configuration, lines: &mut Lines) {
    if configuration.virtual_servers.is_empty() {
        return;
    }
    lines.section("LVS Topology");
    lines.line(1, "System is compiled with LVS v1.2.1");
    for service in &configuration.virtual_servers {
        write_service(service, lines);
    }
    let has_checks = configuration.virtual_servers.iter().flat_map(|it| &it.servers).any(|it| !it.checks.is_empty());
    if !has_checks {
        return;
    }
    lines.section("Health checkers");
    for service in &configuration.virtual_servers {
        for server in &service.servers {
            for check in &server.checks {
                lines.line(
                    1,
                    &format!("{} -> {}", label(service), endpoint(server.address, service.protocol, server.port)),
                );
                write_check(server, check, lines);
            }
        }
    }
}

fn protocol_name(protocol: Option<Protocol>) -> &'static str {
    match protocol {
        Some(Protocol::Tcp) => "tcp",
        Some(Protocol::Udp) => "udp",
        Some(Protocol::Sctp) => "sctp",
        None => "none",
    }
}

fn endpoint(address: Address, protocol: Option<Protocol>, port: u16) -> String {
    format!("[{address}]:{}:{port}", protocol_name(protocol))
}

fn label(service: &VirtualServer) -> String {
    match &service.target {
        Target::Endpoint(address, port) => endpoint(*address, service.protocol, *port),
        Target::Mark(mark) => format!("FWM {mark}"),
        Target::Group(name) => format!("[{name}]:0"),
    }
}

/// Seconds with six decimals.
fn six(duration: Duration) -> String {
    format!("{}.{:06}", duration.as_secs(), duration.subsec_micros())
}

const fn on(is_on: bool) -> &'static str {
    if is_on { "ON" } else { "OFF" }
}

const fn method_name(method: Method) -> &'static str {
    match method {
        Method::DirectRouting => "DR",
        Method::Tunnelling => "TUN",
        _ => "NAT",
    }
}

fn write_service(service: &VirtualServer, lines: &mut Lines) {
    lines.line(1, "------< Virtual server >------");
    match &service.target {
        Target::Endpoint(address, port) => lines.line(1, &format!("VS VIP = {address}, VPORT = {port}")),
        Target::Mark(mark) => lines.line(1, &format!("VS FWMARK = {mark}")),
        Target::Group(name) => lines.line(1, &format!("VS GROUP = {name}")),
    }
    lines.line(3, &format!("Address family = {}", if service.family == Family::V4 { "inet" } else { "inet6" }));
    if let Some(host) = &service.virtual_host {
        lines.line(3, &format!("VirtualHost = {host}"));
    }
    lines.line(3, &format!("connection timeout = {}", six(service.connect_timeout)));
    lines.line(3, &format!("delay_loop = {}", six(service.delay_loop)));
    lines.line(3, &format!("lvs_sched = {}", service.scheduler));
    lines.line(3, &format!("Hashed = {}", enabled(service.is_hashed)));
    lines.line(3, &format!("flag-1 = {}", enabled(service.flags.has(SchedulerFlags::FLAG_1))));
    lines.line(3, &format!("flag-2 = {}", enabled(service.flags.has(SchedulerFlags::FLAG_2))));
    lines.line(3, &format!("flag-3 = {}", enabled(service.flags.has(SchedulerFlags::FLAG_3))));
    lines.line(3, &format!("One packet scheduling = {}", enabled(service.is_one_packet)));
    if service.persistence_s != 0 {
        lines.line(3, &format!("persistence timeout = {}", service.persistence_s));
    }
    if service.protocol.is_some() {
        lines.line(3, &format!("protocol = {}", protocol_name(service.protocol).to_uppercase()));
    }
    lines.line(3, &format!("alpha is {}", on(service.starts_down)));
    lines.line(3, &format!("omega is {}", on(service.tells_at_stop)));
    lines.line(3, &format!("Inhibit on failure is {}", on(service.inhibits)));
    lines.line(3, &format!("quorum = {}, hysteresis = {}", service.quorum, service.hysteresis));
    write_script("Quorum up notify script", service.quorum_up.as_ref(), lines);
    write_script("Quorum down notify script", service.quorum_down.as_ref(), lines);
    lines.line(3, &format!("Using smtp notification = {}", yes(service.smtp_alert)));
    lines.line(3, &format!("default forwarding method = {}", method_name(service.method)));
    if let Some(sorry) = &service.sorry {
        lines.line(3, &format!("sorry server = [{}]:{}", sorry.address, sorry.port));
        lines.line(5, &format!("forwarding method = {}", method_name(sorry.method)));
    }
    lines.line(3, &format!("alive = {}", u8::from(!service.starts_down)));
    lines.line(3, &format!("quorum_state_up = {}", u8::from(!service.starts_down)));
    lines.line(3, "reloaded = 0");
    for server in &service.servers {
        write_server(server, lines);
    }
}

fn write_script(what: &str, script: Option<&Script>, lines: &mut Lines) {
    if let Some(script) = script {
        let identity = script.identity;
        lines.line(3, &format!("{what} = {script}, uid:gid {}:{}", identity.user, identity.group));
    }
}

fn write_server(server: &RealServer, lines: &mut Lines) {
    let is_up = !server.starts_down || server.checks.is_empty();
    lines.line(3, "------< Real server >------");
    let weight = server.weight;
    lines.line(
        3,
        &format!("RIP = {}, RPORT = {}, WEIGHT = {weight} EFF WEIGHT = {weight}", server.address, server.port),
    );
    lines.line(3, &format!("forwarding method = {}", method_name(server.method)));
    lines.line(3, &format!("Alpha is {}", on(server.starts_down)));
    lines.line(3, &format!("connection timeout = {}", six(server.connect_timeout)));
    lines.line(3, &format!("connection limit range = {} -> {}", server.lower, server.upper));
    lines.line(3, &format!("Delay loop = {}", six(server.delay_loop)));
    if let Some(host) = &server.virtual_host {
        lines.line(3, &format!("VirtualHost = '{host}'"));
    }
    lines.line(3, &format!("Inhibit on failure is {}", on(server.inhibits)));
    write_script("RS up notify script", server.notify_up.as_ref(), lines);
    write_script("RS down notify script", server.notify_down.as_ref(), lines);
    lines.line(3, &format!("Using smtp notification = {}", yes(server.smtp_alert)));
    lines.line(3, &format!("initial weight = {weight}"));
    lines.line(3, &format!("effective weight = {weight}"));
    lines.line(3, "previous effective_weight = 0");
    lines.line(3, &format!("alive = {}", u8::from(is_up)));
    lines.line(3, "num failed checkers = 0");
    lines.line(3, &format!("RS set = {}", u8::from(is_up)));
    lines.line(3, "reloaded = 0");
}

fn write_check(server: &RealServer, check: &Check, lines: &mut Lines) {
    lines.line(3, "Enabled = yes");
    lines.line(3, &format!("Up = {}", yes(!check.starts_down)));
    lines.line(3, "Has run = no");
    lines.line(3, "Current weight = 0");
    lines.line(3, &format!("Alpha = {}", yes(check.starts_down)));
    lines.line(3, &format!("Delay loop = {} us", check.delay_loop.as_micros()));
    lines.line(3, &format!("Warmup = {} us", check.warmup.as_micros()));
    lines.line(3, &format!("Retries = {}", check.retries));
    if check.retries > 0 {
        lines.line(3, &format!("Delay before retry = {} us", check.delay_before_retry.as_micros()));
        lines.line(3, &format!("Retries iterations = {}", check.retries));
    }
    let usual = match &check.kind {
        CheckKind::Http(_) => Duration::from_secs(3),
        CheckKind::Dns(_) => server.delay_loop,
        _ => Duration::from_secs(1),
    };
    lines.line(3, &format!("Default delay before retry = {} us", usual.as_micros()));
    lines.line(3, &format!("Log all failures = {}", yes(check.logs_all_failures)));
    match &check.kind {
        CheckKind::Tcp(connection) => write_plain("TCP_CHECK", connection, lines),
        CheckKind::Ping(connection) => write_plain("PING_CHECK", connection, lines),
        CheckKind::Udp(udp) => write_plain("UDP_CHECK", &udp.connection, lines),
        CheckKind::Dns(dns) => {
            write_plain("DNS_CHECK", &dns.connection, lines);
            lines.line(3, &format!("Type = {}", dns.record));
            lines.line(3, &format!("Name = {}", dns.name));
        }
        CheckKind::Smtp(smtp) => {
            smtp.connections.iter().for_each(|connection| write_connection(connection, lines));
            lines.line(3, "Keepalive method = SMTP_CHECK");
            lines.line(3, &format!("helo = {}", smtp.helo));
        }
        CheckKind::Http(http) => write_http(http, lines),
        CheckKind::Misc(misc) => {
            lines.line(3, "Keepalive method = MISC_CHECK");
            lines.line(3, &format!("script = {}", misc.script));
            lines.line(3, &format!("timeout = {}", misc.timeout.as_secs()));
            lines.line(3, &format!("dynamic = {}", if misc.sets_weight { "YES" } else { "NO" }));
            let identity = misc.script.identity;
            lines.line(3, &format!("uid:gid = {}:{}", identity.user, identity.group));
        }
        CheckKind::File { file, .. } => {
            lines.line(3, "Keepalive method = FILE_CHECK");
            lines.line(3, &format!("Tracked file = {file}"));
        }
        CheckKind::Bfd(name) => {
            lines.line(3, "Keepalive method = BFD_CHECK");
            lines.line(3, &format!("BFD instance = {name}"));
        }
    }
}

fn write_plain(name: &str, connection: &Connection, lines: &mut Lines) {
    write_connection(connection, lines);
    lines.line(3, &format!("Keepalive method = {name}"));
}

fn write_connection(connection: &Connection, lines: &mut Lines) {
    lines.line(3, "Connection");
    lines.line(5, &format!("Dest = [{}]:{}", connection.address, connection.port));
    if let Some(source) = connection.source {
        lines.line(5, &format!("Bind to = [{source}]:{}", connection.source_port));
    }
    if let Some(interface) = &connection.interface {
        lines.line(5, &format!("Bind i/f = {interface}"));
    }
    if connection.mark != 0 {
        lines.line(5, &format!("Mark = {}", connection.mark));
    }
    if connection.timeout != Duration::from_secs(5) {
        lines.line(5, &format!("Timeout = {}", six(connection.timeout)));
    }
}

fn write_http(http: &crate::config::model::check::HttpCheck, lines: &mut Lines) {
    write_connection(&http.connection, lines);
    let version = match http.version {
        HttpVersion::V1_0 => "1.0",
        HttpVersion::V1_0Closing => "1.0C",
        HttpVersion::V1_1 => "1.1",
        HttpVersion::V1_1Closing => "1.1C",
    };
    let name = if http.is_tls { "SSL_GET" } else { "HTTP_GET" };
    lines.line(3, &format!("Keepalive method = {name}, http protocol {version}"));
    if let Some(host) = &http.virtual_host {
        lines.line(3, &format!("Virtual host = {host}"));
    }
    lines.line(3, &format!("Enable SNI {}set", if http.sends_name { "" } else { "un" }));
    lines.line(3, &format!("Fast recovery {}set", if http.recovers_fast { "" } else { "un" }));
    for url in &http.urls {
        lines.line(3, &format!("Checked url = {}", url.path));
        if let Some(digest) = url.digest {
            let digits: String = digest.iter().map(|octet| format!("{octet:02x}")).collect();
            lines.line(5, &format!("digest = {digits}"));
        }
        lines.line(5, "HTTP Status Code(s)");
        for &(first, last) in &url.status_codes {
            let range = if first == last { first.to_string() } else { format!("{first}-{last}") };
            lines.line(7, &range);
        }
        if let Some(host) = &url.virtual_host {
            lines.line(5, &format!("Virtual host = {host}"));
        }
    }
}
