//! Checkers; those of HTTP are in `http`.

use crate::base::{Address, Duration};
use crate::config::blocks::{Node, Value};
use crate::config::meaning::finish_service::endpoint_label;
use crate::config::meaning::number::LONGEST_US;
use crate::config::meaning::real_server::Times;
use crate::config::meaning::service::DELAY_LOOP_MAX_US;
use crate::config::meaning::{Context, name};
use crate::config::model::check::{DnsCheck, MiscCheck, SmtpCheck, UdpCheck};
use crate::config::model::{Check, CheckKind, Connection, RealServer};

/// What `SMTP_CHECK` says unless it is told otherwise.
const HELO: &str = "smtpchecker.keepalived.org";
/// Types of records that may be asked for.
const RECORDS: [&str; 8] = ["A", "NS", "CNAME", "SOA", "MX", "TXT", "AAAA", "DNSKEY"];

impl Context<'_> {
    pub(super) fn read_check(&mut self, server: &RealServer, own: &Times, node: &Node<'_>) -> Option<Check> {
        let (retries, delay) = match node.name() {
            "TCP_CHECK" | "SMTP_CHECK" | "UDP_CHECK" | "PING_CHECK" => (1, Duration::from_secs(1)),
            "HTTP_GET" | "SSL_GET" => (1, Duration::from_secs(3)),
            "DNS_CHECK" => (3, server.delay_loop),
            "MISC_CHECK" | "FILE_CHECK" | "BFD_CHECK" => (0, Duration::from_secs(1)),
            _ => return None,
        };
        let mut check = Check {
            kind: CheckKind::Bfd(name("")),
            starts_down: server.starts_down,
            delay_loop: server.delay_loop,
            warmup: own.warmup.unwrap_or(server.delay_loop),
            retries: own.retries.unwrap_or(retries),
            delay_before_retry: own.delay_before_retry.unwrap_or(delay),
            logs_all_failures: self.configuration.global.logs_all_failures,
        };
        let mut has_warmup = own.warmup.is_some();
        for child in &node.children {
            has_warmup |= child.name() == "warmup";
            self.read_common(&mut check, child);
        }
        if !has_warmup {
            check.warmup = check.delay_loop;
        }
        let mut connection = Connection {
            address: server.address,
            port: server.port,
            source: None,
            source_port: 0,
            interface: None,
            mark: 0,
            timeout: server.connect_timeout,
        };
        for child in &node.children {
            self.read_connection(&mut connection, child);
        }
        check.kind = match node.name() {
            "TCP_CHECK" => CheckKind::Tcp(connection),
            "PING_CHECK" => CheckKind::Ping(connection),
            "HTTP_GET" | "SSL_GET" => CheckKind::Http(self.read_http(server, connection, node)?),
            "SMTP_CHECK" => CheckKind::Smtp(self.read_smtp(connection, node)),
            "DNS_CHECK" => CheckKind::Dns(self.read_dns(connection, node)),
            "UDP_CHECK" => CheckKind::Udp(self.read_udp(connection, node)),
            "MISC_CHECK" => CheckKind::Misc(self.read_misc(check.delay_loop, node)?),
            "FILE_CHECK" => self.read_file_check(node)?,
            _ => self.read_bfd_check(server, own, node)?,
        };
        Some(check)
    }

    /// What all checkers have.
    fn read_common(&mut self, check: &mut Check, node: &Node<'_>) {
        let value = node.value(0);
        match node.name() {
            word @ ("retry" | "nb_get_retry") => {
                if word == "nb_get_retry" {
                    self.messages.flaw_at(node.at(), "nb_get_retry is deprecated - please use 'retry'");
                }
                match self.unsigned(&value, 0, u32::MAX) {
                    Some(retries) => check.retries = retries,
                    None => {
                        let what = if word == "retry" { "retry connection" } else { word };
                        self.messages.flaw_at(value.at, format!("Invalid {what} value '{}'", value.text));
                    }
                }
            }
            "delay_before_retry" => {
                check.delay_before_retry = self.seconds(&value, 0, LONGEST_US).unwrap_or(check.delay_before_retry);
            }
            "warmup" => check.warmup = self.seconds(&value, 0, LONGEST_US).unwrap_or(check.warmup),
            "delay_loop" => match self.seconds(&value, 1, DELAY_LOOP_MAX_US) {
                Some(delay) => check.delay_loop = delay,
                None => {
                    let text = format!("delay_loop '{}' is invalid - ignoring", value.text);
                    self.messages.flaw_at(value.at, text);
                }
            },
            "alpha" => {
                let text = format!("Invalid alpha parameter {}", value.text);
                check.starts_down = self.truth(&value, text).unwrap_or(check.starts_down);
            }
            "log_all_failures" => {
                let text = format!("Invalid log_all_failures parameter {}", value.text);
                check.logs_all_failures = self.truth(&value, text).unwrap_or(check.logs_all_failures);
            }
            _ => {}
        }
    }

    /// Where a network check goes.
    pub(super) fn read_connection(&mut self, connection: &mut Connection, node: &Node<'_>) {
        let value = node.value(0);
        match node.name() {
            "connect_ip" => match value.text.parse() {
                Ok(address) => connection.address = address,
                Err(_) => {
                    let text = format!("Invalid connect_ip address {} - ignoring", value.text);
                    self.messages.flaw_at(value.at, text);
                }
            },
            "bindto" => match value.text.parse::<Address>() {
                Err(_) => {
                    let text = format!("Invalid bindto address {} - ignoring", value.text);
                    self.messages.flaw_at(value.at, text);
                }
                Ok(source) if source.family() != connection.address.family() => {
                    let text =
                        format!("bindto address {source} does not match address family of connect_ip - skipping");
                    self.messages.flaw_at(value.at, text);
                }
                Ok(source) => connection.source = Some(source),
            },
            word @ ("connect_port" | "bind_port") => match self.unsigned(&value, 1, 65_535) {
                Some(port) if word == "connect_port" => connection.port = port as u16,
                Some(port) => connection.source_port = port as u16,
                None => {
                    let text = format!("Invalid checker {word} '{}'", value.text);
                    self.messages.flaw_at(value.at, text);
                }
            },
            "bind_if" => connection.interface = Some(name(value.text)),
            "fwmark" => match self.unsigned(&value, 0, u32::MAX) {
                Some(mark) => connection.mark = mark,
                None => {
                    let text = format!("Invalid fwmark connection value '{}'", value.text);
                    self.messages.flaw_at(value.at, text);
                }
            },
            "connect_timeout" => match self.seconds(&value, 1, LONGEST_US) {
                Some(timeout) => connection.timeout = timeout,
                None => {
                    let text = format!("connect_timeout {} invalid - ignoring", value.text);
                    self.messages.flaw_at(value.at, text);
                }
            },
            _ => {}
        }
    }

    fn read_smtp(&mut self, connection: Connection, node: &Node<'_>) -> SmtpCheck {
        let mut check = SmtpCheck { helo: name(HELO), connections: Vec::new() };
        for child in &node.children {
            match child.name() {
                "helo_name" if child.words.is_empty() => {
                    self.messages.flaw_at(child.at(), "SMTP_CHECK helo name missing");
                }
                "helo_name" => check.helo = name(child.word(0)),
                "host" => {
                    let mut own = connection.clone();
                    child.children.iter().for_each(|word| self.read_connection(&mut own, word));
                    check.connections.push(own);
                }
                _ => {}
            }
        }
        if check.connections.is_empty() {
            check.connections.push(connection);
        }
        check
    }

    fn read_dns(&mut self, connection: Connection, node: &Node<'_>) -> DnsCheck {
        let mut check = DnsCheck { connection, record: name("SOA"), name: name(".") };
        for child in &node.children {
            let value = child.value(0);
            match child.name() {
                "type" => match RECORDS.iter().find(|record| record.eq_ignore_ascii_case(value.text)) {
                    Some(record) => check.record = name(record),
                    None => {
                        let text = format!("Unknown DNS check type {} - ignoring", value.text);
                        self.messages.flaw_at(value.at, text);
                    }
                },
                "name" if value.text != "." && value.text.trim_end_matches('.').split('.').any(str::is_empty) => {
                    let text = format!("DNS_CHECK name '{}' has empty label - ignoring", value.text);
                    self.messages.flaw_at(value.at, text);
                }
                "name" => check.name = name(value.text),
                _ => {}
            }
        }
        check
    }

    fn read_udp(&mut self, connection: Connection, node: &Node<'_>) -> UdpCheck {
        let mut check = UdpCheck {
            connection,
            payload: Vec::new(),
            needs_reply: false,
            reply: Vec::new(),
            reply_min: 0,
            reply_max: 255,
        };
        for child in &node.children {
            let value = child.value(0);
            let digits: String = child.words.iter().map(|word| word.text.as_str()).collect();
            match child.name() {
                "payload" if digits.is_empty() => {
                    self.messages.flaw_at(value.at, "UDP_CHECK payload requires a payload");
                }
                "payload" => match octets(&digits) {
                    Some(octets) if octets.iter().all(|&(_, mask)| mask == 0xff) => {
                        check.payload = octets.into_iter().map(|(octet, _)| octet).collect();
                    }
                    _ => self.messages.flaw_at(value.at, "Invalid hex string for UDP_CHECK payload"),
                },
                "require_reply" => {
                    check.needs_reply = true;
                    match octets(&digits) {
                        Some(octets) => check.reply = octets,
                        None => self.messages.flaw_at(value.at, "Invalid hex string for UDP_CHECK reply"),
                    }
                }
                word @ ("min_reply_length" | "max_reply_length") => match self.unsigned(&value, 0, 65_535) {
                    Some(length) if word == "min_reply_length" => check.reply_min = length as u16,
                    Some(length) => check.reply_max = length as u16,
                    None => {
                        let which = &word[..3];
                        let text =
                            format!("UDP_CHECK {which} length {} not valid - must be between 0 & 65535", value.text);
                        self.messages.flaw_at(value.at, text);
                    }
                },
                _ => {}
            }
        }
        if check.reply_min > check.reply_max {
            let text = format!(
                "UDP_CHECK min_reply length {} > max_reply_length {} - will always fail",
                check.reply_min, check.reply_max
            );
            self.messages.flaw_at(node.at_end(), text);
        }
        check
    }

    fn read_misc(&mut self, delay_loop: Duration, node: &Node<'_>) -> Option<MiscCheck> {
        let mut line: Option<&Node<'_>> = None;
        let mut user: Option<&Node<'_>> = None;
        let mut timeout = Duration::ZERO;
        let mut sets_weight = false;
        for child in &node.children {
            let value = child.value(0);
            match child.name() {
                "misc_path" if !value.text.is_empty() => line = Some(child),
                "misc_timeout" => match self.unsigned(&value, 0, (LONGEST_US / 1_000_000) as u32) {
                    Some(seconds) => timeout = Duration::from_secs(u64::from(seconds)),
                    None => {
                        let text = format!("Invalid misc_timeout value '{}'", value.text);
                        self.messages.flaw_at(value.at, text);
                    }
                },
                "misc_dynamic" => sets_weight = true,
                "user" => user = Some(child),
                _ => {}
            }
        }
        let Some(line) = line else {
            self.messages.flaw_at(node.at_end(), "No script path has been specified for MISC_CHECKER - skipping");
            return None;
        };
        let program = line.word(0);
        let script = match user {
            None => self.notify_script(line)?,
            Some(user) if user.words.is_empty() => {
                self.messages.flaw_at(user.at(), format!("No user specified for misc checker script '{program}'"));
                self.notify_script(line)?
            }
            Some(user) => {
                let Some(identity) = self.identity(user.word(0), user.words.get(1).map(|word| word.text.as_str()))
                else {
                    let text = format!("Failed to set uid/gid for misc checker script '{program}' - removing");
                    self.messages.flaw_at(user.at_word(0), text);
                    return None;
                };
                let found = self.find(program, identity);
                self.hint_not_run(&found, line.at_word(0), program);
                found.runnable()?
            }
        };
        let timeout = if timeout.is_zero() { delay_loop } else { timeout };
        Some(MiscCheck { script, timeout, sets_weight })
    }

    fn read_file_check(&mut self, node: &Node<'_>) -> Option<CheckKind> {
        let mut found = None;
        let mut own_weight = None;
        for child in &node.children {
            let value = child.value(0);
            match child.name() {
                "track_file" => {
                    let file = self.configuration.files.iter().find(|file| &*file.name == value.text);
                    found = file.map(|file| (file.name.clone(), file.weight, file.is_reversed));
                    if found.is_none() {
                        self.messages.flaw_at(value.at, format!("track_file {} not found", value.text));
                    }
                }
                "weight" => own_weight = self.file_weight(child).or(own_weight),
                _ => {}
            }
        }
        let Some((file, weight, is_reversed)) = found else {
            self.messages.flaw_at(node.at_end(), "FILE_CHECK has no track_file specified - ignoring");
            return None;
        };
        let (weight, is_reversed) = own_weight.unwrap_or((weight, is_reversed));
        Some(CheckKind::File { file, weight, is_reversed })
    }

    fn file_weight(&mut self, node: &Node<'_>) -> Option<(i32, bool)> {
        let value = node.value(0);
        let Some(weight) = self.signed(&value, -i32::MAX, i32::MAX) else {
            let most = i32::MAX;
            let text = format!("weight for track file must be in [-{most}..{most}] inclusive. Ignoring...");
            self.messages.flaw_at(value.at, text);
            return None;
        };
        match node.word(1) {
            "" => Some((weight, false)),
            "reverse" => Some((weight, true)),
            other => {
                let text = format!("unknown track file weight option {other} - ignoring");
                self.messages.flaw_at(node.at_word(1), text);
                Some((weight, false))
            }
        }
    }

    fn read_bfd_check(&mut self, server: &RealServer, own: &Times, node: &Node<'_>) -> Option<CheckKind> {
        let about = endpoint_label(server.address, own.protocol, server.port);
        let mut bfd: Option<&str> = None;
        let mut is_refused = false;
        for child in node.children.iter().filter(|child| child.name() == "name") {
            let Value { text, at } = child.value(0);
            let refused = if child.words.len() != 1 {
                "BFD_CHECK - No or too many names specified - skipping checker".to_owned()
            } else if let Some(before) = bfd {
                format!("BFD_CHECK - BFD {text} already specified as {before}")
            } else if !self.configuration.bfd_instances.iter().any(|instance| &*instance.name == text) {
                format!("BFD_CHECK - BFD {text} not configured")
            } else {
                bfd = Some(text);
                continue;
            };
            is_refused = true;
            self.messages.flaw_at(at, format!("({about}) {refused}"));
        }
        if bfd.is_none() && !is_refused {
            let text = format!("({about}) No name has been specified for BFD_CHECKER - skipping");
            self.messages.flaw_at(node.at_end(), text);
        }
        bfd.map(|bfd| CheckKind::Bfd(name(bfd)))
    }
}

/// Hexadecimal digits as octets and masks; `x` is any digit. A last digit alone is an octet.
fn octets(digits: &str) -> Option<Vec<(u8, u8)>> {
    let nibble = |byte: u8| match byte {
        b'x' | b'X' => Some((0, 0)),
        _ => char::from(byte).to_digit(16).map(|digit| (digit as u8, 0xf)),
    };
    let pair = |pair: &[u8]| match *pair {
        [high, low] => {
            let ((high, high_mask), (low, low_mask)) = (nibble(high)?, nibble(low)?);
            Some((high << 4 | low, high_mask << 4 | low_mask))
        }
        [low] => nibble(low).map(|(low, mask)| (low, 0xf0 | mask)),
        _ => None,
    };
    digits.as_bytes().chunks(2).map(pair).collect()
}
