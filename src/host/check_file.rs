//! Tests and dumps of a keepalived.conf: `lvxd -t` and `keepalived -t`.

use std::process::ExitCode;

use crate::config::{self, Invocation, Reading, Verdict};
use crate::host::client::print;
use crate::host::machine::Machine;

/// How much is said.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Detail {
    /// keepalived's words alone.
    Plain,
    /// With the line that is to blame, and what helps.
    Helpful,
}

/// Reads a configuration for this machine, says on standard error what is to be said of it, and gives the exit status
/// of a test.
pub fn test(invocation: &Invocation, detail: Detail) -> ExitCode {
    let reading = config::read(&Machine::now(), invocation);
    finish(&reading, "", detail)
}

/// The same, with what was understood on standard output.
pub fn dump(invocation: &Invocation, detail: Detail) -> ExitCode {
    let machine = Machine::now();
    let reading = config::read(&machine, invocation);
    let text = match reading.verdict {
        Verdict::Unusable => String::new(),
        _ => config::dump::dump(&reading.configuration, &machine),
    };
    finish(&reading, &text, detail)
}

fn finish(reading: &Reading, dump: &str, detail: Detail) -> ExitCode {
    let mut said = String::new();
    for message in &reading.messages {
        match detail {
            Detail::Plain if message.text.is_empty() => {}
            Detail::Plain => said.push_str(&format!("{message}\n")),
            Detail::Helpful => said.push_str(&message.with_help()),
        }
    }
    match print(dump.as_bytes(), said.as_bytes()) {
        Ok(()) => ExitCode::from(reading.verdict.exit_status()),
        // Nowhere to say it.
        Err(_) => ExitCode::FAILURE,
    }
}
