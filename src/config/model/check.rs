//! Health checks of real servers.

use crate::base::{Address, Duration};
use crate::config::model::Script;
use crate::vrrp::Name;

/// One checker of a real server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Check {
    /// What it does.
    pub kind: CheckKind,
    /// It starts as down (`alpha`).
    pub starts_down: bool,
    /// From one round to the next.
    pub delay_loop: Duration,
    /// The first round comes at a random moment within this time.
    pub warmup: Duration,
    /// More tries before it is down.
    pub retries: u32,
    /// Between tries.
    pub delay_before_retry: Duration,
    /// `log_all_failures`.
    pub logs_all_failures: bool,
}

/// Where a network check goes, and from where.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Connection {
    /// `connect_ip`; the real server's.
    pub address: Address,
    /// `connect_port`; the real server's.
    pub port: u16,
    /// `bindto`.
    pub source: Option<Address>,
    /// `bind_port`; 0: any.
    pub source_port: u16,
    /// `bind_if`.
    pub interface: Option<Name>,
    /// `fwmark`; 0: none.
    pub mark: u32,
    /// `connect_timeout`.
    pub timeout: Duration,
}

/// The kinds of checkers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CheckKind {
    /// `TCP_CHECK`.
    Tcp(Connection),
    /// `HTTP_GET`, `SSL_GET`.
    Http(HttpCheck),
    /// `SMTP_CHECK`.
    Smtp(SmtpCheck),
    /// `DNS_CHECK`.
    Dns(DnsCheck),
    /// `UDP_CHECK`.
    Udp(UdpCheck),
    /// `PING_CHECK`.
    Ping(Connection),
    /// `MISC_CHECK`.
    Misc(MiscCheck),
    /// `FILE_CHECK`.
    File {
        /// A `track_file`.
        file: Name,
        /// Multiplied with the file's number.
        weight: i32,
        /// The other way round.
        is_reversed: bool,
    },
    /// `BFD_CHECK`, of a `bfd_instance`.
    Bfd(Name),
}

/// `HTTP_GET` and `SSL_GET`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HttpCheck {
    /// Where it goes.
    pub connection: Connection,
    /// `SSL_GET`.
    pub is_tls: bool,
    /// `http_protocol`.
    pub version: HttpVersion,
    /// `enable_sni`.
    pub sends_name: bool,
    /// `fast_recovery`: one good URL is enough to be up again.
    pub recovers_fast: bool,
    /// `virtualhost` of the checker.
    pub virtual_host: Option<Name>,
    /// What is asked for, in turn; at least one.
    pub urls: Vec<Url>,
}

/// `http_protocol`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum HttpVersion {
    /// 1.0
    #[default]
    V1_0,
    /// 1.0 with `Connection: close`.
    V1_0Closing,
    /// 1.1
    V1_1,
    /// 1.1 with `Connection: close`.
    V1_1Closing,
}

/// A `url`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Url {
    /// Path and query.
    pub path: Name,
    /// MD5 of the body.
    pub digest: Option<[u8; 16]>,
    /// Good status codes, inclusive ranges.
    pub status_codes: Vec<(u16, u16)>,
    /// `virtualhost`.
    pub virtual_host: Option<Name>,
    /// What the body must match.
    pub regex: Option<BodyRegex>,
}

/// `regex` and what belongs to it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BodyRegex {
    /// The expression, PCRE2's language.
    pub pattern: Vec<u8>,
    /// `regex_no_match`: it must not match.
    pub must_not_match: bool,
    /// `regex_options`.
    pub options: Vec<Name>,
    /// A match begins here or later.
    pub offset_min: usize,
    /// A match ends here or earlier.
    pub offset_max: Option<usize>,
    /// `regex_stack`: start and maximum, octets.
    pub stack_octets: Option<(u32, u32)>,
}

/// `SMTP_CHECK`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SmtpCheck {
    /// What it says.
    pub helo: Name,
    /// Where it goes; all must be good.
    pub connections: Vec<Connection>,
}

/// `DNS_CHECK`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DnsCheck {
    /// Where it goes.
    pub connection: Connection,
    /// The type that is asked for.
    pub record: Name,
    /// The name that is asked for.
    pub name: Name,
}

/// `UDP_CHECK`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UdpCheck {
    /// Where it goes.
    pub connection: Connection,
    /// What is sent.
    pub payload: Vec<u8>,
    /// `require_reply`.
    pub needs_reply: bool,
    /// The reply's first octets: value and mask of each.
    pub reply: Vec<(u8, u8)>,
    /// Least octets of the reply.
    pub reply_min: u16,
    /// Most octets of it.
    pub reply_max: u16,
}

/// `MISC_CHECK`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MiscCheck {
    /// What is run.
    pub script: Script,
    /// How long it may run.
    pub timeout: Duration,
    /// `misc_dynamic`: exit status 2 to 255 is a weight, plus 2.
    pub sets_weight: bool,
}
