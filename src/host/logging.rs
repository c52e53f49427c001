//! Log lines to stderr, or to journald when stderr is the journal anyway.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::prelude::*;

/// Sets logging up for the process. `LVX_LOG` takes a filter such as `debug` or `lvx=debug`; default `info`.
pub fn start() {
    let filter = EnvFilter::try_from_env("LVX_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let journal = std::env::var_os("JOURNAL_STREAM").and_then(|_| tracing_journald::layer().ok());
    let registry = tracing_subscriber::registry().with(filter);
    let result = match journal {
        Some(journal) => registry.with(journal).try_init(),
        None => {
            let plain = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_target(false).without_time();
            registry.with(plain.with_ansi(false)).try_init()
        }
    };
    // Only a second call fails, and then the first one's logging is in place.
    let _ = result;
}
