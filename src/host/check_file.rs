//! Tests and dumps of a keepalived.conf: `lvxd -t` and `keepalived -t`.

use std::process::ExitCode;

use crate::config::{self, Invocation, Reading, Verdict};
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
    let reading = config::read(&machine(), invocation);
    say(&reading, detail);
    ExitCode::from(reading.verdict.exit_status())
}

/// The same, with what was understood on standard output.
pub fn dump(invocation: &Invocation, detail: Detail) -> ExitCode {
    let machine = machine();
    let reading = config::read(&machine, invocation);
    say(&reading, detail);
    if reading.verdict != Verdict::Unusable {
        print!("{}", config::dump::dump(&reading.configuration, &machine));
    }
    ExitCode::from(reading.verdict.exit_status())
}

fn machine() -> Machine {
    Machine::now()
}

fn say(reading: &Reading, detail: Detail) {
    for message in &reading.messages {
        match detail {
            Detail::Plain if message.text.is_empty() => {}
            Detail::Plain => eprintln!("{message}"),
            Detail::Helpful => eprint!("{}", message.with_help()),
        }
    }
}
