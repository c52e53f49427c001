//! `-S`: the services as commands that `-R` takes.
//!
//! As ipvsadm does it: thresholds, timeouts and sync daemons are not saved, and marks from 2147483648 on are written
//! as negative numbers, which `-R` refuses.

use super::{Labels, checksum_texts, flags_text, gre_checksum, mask_text, protocol_of, put};
use crate::base::Family;
use crate::command::request::{ServerInfo, ServiceInfo};
use crate::service::{Method, Protocol, ServiceKey, Tunnel};

/// Appends a command for each service and server.
pub fn write_rules(out: &mut String, services: &[(&ServiceInfo, Vec<&ServerInfo>)], labels: &Labels<'_>) {
    for (service, servers) in services {
        let words = service_words(&service.rule.key, labels);
        write_service(out, &words, service);
        for server in servers {
            write_server(out, &words, server, &service.rule.key, labels);
        }
    }
}

fn service_words(key: &ServiceKey, labels: &Labels<'_>) -> String {
    match *key {
        ServiceKey::Address { protocol, endpoint } => {
            let option = match protocol {
                Protocol::Tcp => "-t",
                Protocol::Udp => "-u",
                Protocol::Sctp => "--sctp-service",
            };
            format!("{option} {}", labels.endpoint(endpoint, Some(protocol)))
        }
        ServiceKey::Mark { family, mark } => {
            let family = if family == Family::V6 { " -6" } else { "" };
            format!("-f {}{family}", mark as i32)
        }
    }
}

fn write_service(out: &mut String, words: &str, service: &ServiceInfo) {
    let rule = &service.rule;
    put(out, format_args!("-A {words} -s {}", rule.scheduler));
    if let Some(timeout_s) = rule.persistent_s {
        put(out, format_args!(" -p {timeout_s}"));
        if let Some(mask) = mask_text(service) {
            put(out, format_args!(" -M {mask}"));
        }
    }
    if let Some(engine) = &rule.engine {
        put(out, format_args!(" --pe {engine}"));
    }
    if rule.one_packet {
        out.push_str(" -o");
    }
    if let Some(flags) = flags_text(&rule.scheduler, rule.flags) {
        put(out, format_args!(" -b {flags}"));
    }
    if rule.mss_max != 0 {
        put(out, format_args!(" --mss-clamp {}", rule.mss_max));
    }
    out.push('\n');
}

fn write_server(out: &mut String, words: &str, server: &ServerInfo, service: &ServiceKey, labels: &Labels<'_>) {
    let rule = &server.rule;
    let label = labels.endpoint(rule.endpoint, protocol_of(service));
    let method = match rule.method {
        Method::Masquerading => "-m",
        Method::Tunnelling => "-i",
        Method::LocalNode | Method::DirectRouting | Method::Bypass => "-g",
    };
    put(out, format_args!("-a {words} -r {label} {method} -w {}", rule.weight));
    if rule.full_nat.is_on() {
        out.push_str(" --fullnat");
    }
    if let Some(word) = rule.full_nat.word() {
        put(out, format_args!(" --client-address {word}"));
    }
    if rule.method == Method::Tunnelling {
        match rule.tunnel {
            Tunnel::Ipip => out.push_str(" --tun-type ipip"),
            Tunnel::Gue { port, checksum } => {
                put(out, format_args!(" --tun-type gue --tun-port {port} {}", checksum_texts(checksum).0));
            }
            Tunnel::Gre { checksum } => {
                put(out, format_args!(" --tun-type gre {}", checksum_texts(gre_checksum(checksum)).0));
            }
        }
    }
    out.push('\n');
}
