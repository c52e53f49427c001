//! `real_server`.

use crate::base::Address;
use crate::config::blocks::Node;
use crate::config::meaning::number::LONGEST_US;
use crate::config::meaning::service::{DELAY_LOOP_MAX_US, ServiceDraft};
use crate::config::meaning::{Context, name};
use crate::config::model::RealServer;
use crate::config::model::service::Target;
use crate::service::Method;

impl Context<'_> {
    pub(super) fn read_real_server(&mut self, draft: &ServiceDraft, node: &Node<'_>) -> Option<RealServer> {
        let service = &draft.service;
        let own_port = match &service.target {
            Target::Endpoint(_, port) => *port,
            _ => 0,
        };
        let text = node.word(0);
        let address = text.split('-').next().unwrap_or_default().parse::<Address>();
        let port = if node.words.len() > 1 { self.port(&node.value(1)) } else { Some(own_port) };
        let (Ok(address), Some(port)) = (address, port) else {
            let text = match node.words.len() {
                1 => format!("Invalid real server ip address {text} - skipping"),
                _ => format!("Invalid real server ip address/port {text}/{} - skipping", node.word(1)),
            };
            self.messages.flaw_at(node.at_word(0), text);
            return None;
        };
        let mut server = RealServer {
            address,
            port,
            weight: draft.weight,
            method: service.method,
            tunnel: service.tunnel,
            upper: 0,
            lower: 0,
            inhibits: service.inhibits,
            starts_down: service.starts_down,
            notify_up: None,
            notify_down: None,
            smtp_alert: self.configuration.global.smtp_alert_checkers.unwrap_or(true),
            virtual_host: service.virtual_host.clone(),
            connect_timeout: service.connect_timeout,
            delay_loop: service.delay_loop,
            snmp_name: None,
            checks: Vec::new(),
        };
        let mut own = draft.clone_times();
        for child in &node.children {
            self.read_server_word(&mut server, &mut own, child);
        }
        // What a group serves is of either family: who adds its services to the table refuses what does not fit.
        let may_differ = server.method == Method::Tunnelling || matches!(service.target, Target::Group(_));
        if address.family() != service.family && !may_differ {
            let text = format!(
                "Address family of virtual server and real server {address} don't match - skipping real server."
            );
            self.messages.flaw_at(node.at_end(), text);
            return None;
        }
        for child in &node.children {
            let check = self.read_check(&server, &own, child);
            server.checks.extend(check);
        }
        Some(server)
    }

    fn read_server_word(&mut self, server: &mut RealServer, own: &mut Times, node: &Node<'_>) {
        let value = node.value(0);
        match node.name() {
            "weight" => match self.unsigned(&value, 0, i32::MAX as u32) {
                Some(weight) => server.weight = weight as i32,
                None => {
                    let text = format!("Real server weight {} is outside range 0-{}", value.text, i32::MAX);
                    self.messages.flaw_at(value.at, text);
                }
            },
            "lvs_method" => {
                if let Some((method, tunnel)) = self.method(node, "real server") {
                    (server.method, server.tunnel) = (method, tunnel);
                }
            }
            word @ ("uthreshold" | "lthreshold") => match self.unsigned(&value, 0, u32::MAX) {
                Some(number) if word == "uthreshold" => server.upper = number,
                Some(number) => server.lower = number,
                None => {
                    let text = format!("Invalid real_server {word} '{}' - ignoring", value.text);
                    self.messages.flaw_at(value.at, text);
                }
            },
            "inhibit_on_failure" => {
                let text = format!("Invalid inhibit_on_failure parameter {}", value.text);
                server.inhibits = self.truth(&value, text).unwrap_or(server.inhibits);
            }
            "alpha" => {
                let text = format!("Invalid alpha parameter {}", value.text);
                server.starts_down = self.truth(&value, text).unwrap_or(server.starts_down);
            }
            "smtp_alert" => {
                let text = format!("Invalid real_server smtp_alert parameter {}", value.text);
                server.smtp_alert = self.truth(&value, text).unwrap_or(server.smtp_alert);
            }
            "notify_up" => self.script_once(node, &mut server.notify_up),
            "notify_down" => self.script_once(node, &mut server.notify_down),
            "virtualhost" if value.text.is_empty() => {
                self.messages.flaw_at(value.at, "real server virtualhost missing");
            }
            "virtualhost" => server.virtual_host = Some(name(value.text)),
            "snmp_name" if node.words.len() != 1 => {
                self.messages.flaw_at(value.at, "real server snmp_name missing or extra parameters");
            }
            "snmp_name" => server.snmp_name = Some(name(value.text)),
            "connect_timeout" => match self.seconds(&value, 1, LONGEST_US) {
                Some(timeout) => server.connect_timeout = timeout,
                None => {
                    let text = format!("real server connect_timeout {} invalid - ignoring", value.text);
                    self.messages.flaw_at(value.at, text);
                }
            },
            "delay_loop" => match self.seconds(&value, 1, DELAY_LOOP_MAX_US) {
                Some(delay) => server.delay_loop = delay,
                None => {
                    let text = format!("real server delay_loop '{}' invalid - ignoring", value.text);
                    self.messages.flaw_at(value.at, text);
                }
            },
            "retry" => match self.unsigned(&value, 1, u32::MAX) {
                Some(retries) => own.retries = Some(retries),
                None => self.messages.flaw_at(value.at, format!("retry value invalid - {}", value.text)),
            },
            "delay_before_retry" => {
                own.delay_before_retry = self.seconds(&value, 0, LONGEST_US).or(own.delay_before_retry);
            }
            "warmup" => own.warmup = self.seconds(&value, 0, LONGEST_US).or(own.warmup),
            _ => {}
        }
    }
}

/// What checkers have that say nothing.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    pub retries: Option<u32>,
    pub delay_before_retry: Option<crate::base::Duration>,
    pub warmup: Option<crate::base::Duration>,
    pub protocol: Option<crate::service::Protocol>,
}

impl ServiceDraft {
    fn clone_times(&self) -> Times {
        Times {
            retries: self.retries,
            delay_before_retry: self.delay_before_retry,
            warmup: self.warmup,
            protocol: self.protocol,
        }
    }
}
