//! `HTTP_GET` and `SSL_GET`.

use crate::config::blocks::Node;
use crate::config::meaning::{Context, name};
use crate::config::model::check::{BodyRegex, HttpCheck, HttpVersion, Url};
use crate::config::model::{Connection, RealServer};

/// Status codes that are good unless it is said otherwise.
const GOOD: (u16, u16) = (200, 299);
/// Digits of a digest.
const DIGEST_DIGITS: usize = 32;

impl Context<'_> {
    /// **Deviation**: a checker without URLs is left out; keepalived crashes.
    pub(super) fn read_http(
        &mut self,
        server: &RealServer,
        connection: Connection,
        node: &Node<'_>,
    ) -> Option<HttpCheck> {
        let mut check = HttpCheck {
            connection,
            is_tls: node.name() == "SSL_GET",
            version: HttpVersion::V1_0,
            sends_name: false,
            recovers_fast: false,
            virtual_host: server.virtual_host.clone(),
            urls: Vec::new(),
        };
        for child in &node.children {
            let value = child.value(0);
            match child.name() {
                "url" => {
                    let url = self.read_url(child);
                    check.urls.extend(url);
                }
                "http_protocol" => match value.text {
                    "1.0" => check.version = HttpVersion::V1_0,
                    "1.0C" | "1.0c" => check.version = HttpVersion::V1_0Closing,
                    "1.1" => check.version = HttpVersion::V1_1,
                    "1.1C" | "1.1c" => check.version = HttpVersion::V1_1Closing,
                    "" => self.messages.flaw_at(value.at, "Missing http_protocol version"),
                    other => self.messages.flaw_at(value.at, format!("Invalid http_protocol version {other}")),
                },
                "virtualhost" if value.text.is_empty() => {
                    self.messages.flaw_at(value.at, "HTTP_GET virtualhost name missing");
                }
                "virtualhost" => check.virtual_host = Some(name(value.text)),
                word @ ("fast_recovery" | "enable_sni") => {
                    let text = format!("Invalid {word} parameter {}", value.text);
                    let Some(truth) = self.truth(&value, text) else { continue };
                    *(if word == "enable_sni" { &mut check.sends_name } else { &mut check.recovers_fast }) = truth;
                }
                _ => {}
            }
        }
        if check.urls.is_empty() {
            self.messages.flaw_at(node.at_end(), "HTTP/SSL_GET checker has no urls specified - ignoring");
            return None;
        }
        Some(check)
    }

    fn read_url(&mut self, node: &Node<'_>) -> Option<Url> {
        let mut path = None;
        let mut url = Url { path: name(""), digest: None, status_codes: Vec::new(), virtual_host: None, regex: None };
        let mut regex = BodyRegex {
            pattern: Vec::new(),
            must_not_match: false,
            options: Vec::new(),
            offset_min: 0,
            offset_max: None,
            stack_octets: None,
        };
        for child in &node.children {
            let value = child.value(0);
            match child.name() {
                "path" => path = Some(name(value.text)),
                "digest" => self.read_digest(&mut url, child),
                "status_code" => {
                    for index in 0..child.words.len() {
                        let value = child.value(index);
                        match status_codes(value.text) {
                            Some(range) => url.status_codes.push(range),
                            None => {
                                let text = format!("Invalid HTTP_GET status code '{}'", value.text);
                                self.messages.flaw_at(value.at, text);
                            }
                        }
                    }
                }
                "virtualhost" if value.text.is_empty() => {
                    self.messages.flaw_at(value.at, "Missing HTTP_GET virtualhost name");
                }
                "virtualhost" => url.virtual_host = Some(name(value.text)),
                "regex" => regex.pattern = value.text.as_bytes().to_vec(),
                "regex_no_match" => regex.must_not_match = true,
                "regex_options" => regex.options = child.words.iter().map(|word| name(&word.text)).collect(),
                "regex_min_offset" => regex.offset_min = value.text.parse().unwrap_or(0),
                "regex_max_offset" => regex.offset_max = value.text.parse().ok().filter(|&offset| offset > 0),
                _ => {
                    let numbers = (child.word(0).parse().ok(), child.word(1).parse().ok());
                    regex.stack_octets = numbers.0.zip(numbers.1);
                }
            }
        }
        let Some(path) = path else {
            self.messages.flaw_at(node.at_end(), "HTTP/SSL_GET checker url has no path - ignoring");
            return None;
        };
        url.path = path;
        if url.status_codes.is_empty() {
            url.status_codes.push(GOOD);
        }
        url.regex = (!regex.pattern.is_empty()).then_some(regex);
        Some(url)
    }

    fn read_digest(&mut self, url: &mut Url, node: &Node<'_>) {
        let value = node.value(0);
        let text = value.text;
        if text.len() != DIGEST_DIGITS {
            let text = format!("digest '{text}' character length should be {DIGEST_DIGITS} rather than {}", text.len());
            return self.messages.flaw_at(value.at, text);
        }
        if url.digest.is_some() {
            return self.messages.flaw_at(value.at, format!("Digest '{text}' is a duplicate"));
        }
        let mut digest = [0; 16];
        for (index, (octet, pair)) in digest.iter_mut().zip(text.as_bytes().chunks(2)).enumerate() {
            let pair = String::from_utf8_lossy(pair);
            match u8::from_str_radix(&pair, 16) {
                Ok(value) => *octet = value,
                Err(_) => {
                    let (first, second) = (2 * index, 2 * index + 1);
                    let text = format!("Unable to interpret hex digit in '{pair}' at offset {first}/{second}");
                    return self.messages.flaw_at(value.at, text);
                }
            }
        }
        url.digest = Some(digest);
    }
}

/// `N` or `N-M`, both 100 to 599.
fn status_codes(text: &str) -> Option<(u16, u16)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    (100 <= first && first <= last && last <= 599).then_some((first, last))
}
