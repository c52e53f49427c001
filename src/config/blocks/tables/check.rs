//! Checkers.

use crate::config::blocks::keyword::Keyword;

/// The keywords of a block together with those that checkers have in common.
macro_rules! with_common {
    ($($own:expr),* $(,)?) => {
        &[
            $($own,)*
            Keyword::words("connect_ip", 1),
            Keyword::words("connect_port", 1),
            Keyword::words("bindto", 1),
            Keyword::words("bind_port", 1),
            Keyword::words("bind_if", 1),
            Keyword::words("fwmark", 1),
            Keyword::words("connect_timeout", 1),
            Keyword::words("retry", 1),
            Keyword::words("delay_before_retry", 1),
            Keyword::words("warmup", 1),
            Keyword::words("delay_loop", 1),
            Keyword::words("alpha", 0),
            Keyword::words("log_all_failures", 0),
        ]
    };
}

pub static TCP: &[Keyword] = with_common!();
pub static PING: &[Keyword] = with_common!();

pub static HTTP: &[Keyword] = with_common!(
    Keyword::block("url", URL),
    Keyword::words("nb_get_retry", 1),
    Keyword::words("http_protocol", 0),
    Keyword::words("virtualhost", 0),
    Keyword::words("fast_recovery", 0),
    Keyword::words("enable_sni", 0),
);

static URL: &[Keyword] = &[
    Keyword::words("path", 1),
    Keyword::words("digest", 1),
    Keyword::words("status_code", 0),
    Keyword::words("virtualhost", 0),
    Keyword::program("regex", 0),
    Keyword::words("regex_no_match", 0),
    Keyword::words("regex_options", 0),
    Keyword::words("regex_stack", 0),
    Keyword::words("regex_min_offset", 0),
    Keyword::words("regex_max_offset", 0),
];

pub static SMTP: &[Keyword] = with_common!(Keyword::words("helo_name", 0), Keyword::block("host", HOST));

static HOST: &[Keyword] = &[
    Keyword::words("connect_ip", 1),
    Keyword::words("connect_port", 1),
    Keyword::words("bindto", 1),
    Keyword::words("bind_port", 1),
    Keyword::words("bind_if", 1),
    Keyword::words("fwmark", 1),
    Keyword::words("connect_timeout", 1),
];

pub static DNS: &[Keyword] = with_common!(Keyword::words("type", 1), Keyword::words("name", 1));

pub static UDP: &[Keyword] = with_common!(
    Keyword::words("payload", 0),
    Keyword::words("require_reply", 0),
    Keyword::words("min_reply_length", 1),
    Keyword::words("max_reply_length", 1),
);

pub static MISC: &[Keyword] = &[
    Keyword::program("misc_path", 0),
    Keyword::words("misc_timeout", 1),
    Keyword::words("misc_dynamic", 0),
    Keyword::words("user", 0),
    Keyword::words("alpha", 0),
    Keyword::words("retry", 1),
    Keyword::words("delay_before_retry", 1),
    Keyword::words("warmup", 1),
    Keyword::words("delay_loop", 1),
    Keyword::words("log_all_failures", 0),
];

pub static FILE: &[Keyword] =
    &[Keyword::words("track_file", 1), Keyword::words("weight", 1), Keyword::words("alpha", 0)];

pub static BFD: &[Keyword] = &[Keyword::words("name", 0), Keyword::words("alpha", 0)];

pub static SSL: &[Keyword] = &[
    Keyword::words("password", 0),
    Keyword::words("ca", 0),
    Keyword::words("certificate", 0),
    Keyword::words("key", 0),
];
