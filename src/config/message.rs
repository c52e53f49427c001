//! What is to be said of a configuration: in keepalived's words, and what helps.

use std::fmt;

/// A place in a file.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Place {
    /// The file, as it was named or found.
    pub file: std::sync::Arc<str>,
    /// Line, from 1.
    pub line: u32,
    /// Column, octets from 1; 0: the whole line.
    pub column: u32,
}

/// What a message makes of the configuration.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Severity {
    /// Worth knowing; the configuration is good.
    Notice,
    /// A script that others could change: exit status 6 where nothing is worse.
    Insecure,
    /// An error that keepalived runs with: exit status 5.
    Flawed,
}

/// One thing that is to be said.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Message {
    /// Where; `None` where no place is to blame.
    pub place: Option<Place>,
    /// What follows from it.
    pub severity: Severity,
    /// In keepalived's words; without words of keepalived's, empty.
    pub text: String,
    /// The line that is to blame.
    pub excerpt: Option<String>,
    /// What keepalived does not say: what was meant, what to write, what has no effect.
    pub help: Option<String>,
}

/// keepalived's form: `(FILE: Line N) text`.
impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Some(place) => write!(f, "({}: Line {}) {}", place.file, place.line, self.text),
            None => f.write_str(&self.text),
        }
    }
}

/// Whether a configuration can be used.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Verdict {
    /// Without a fault.
    Clean,
    /// Scripts that others could change, no error.
    Insecure,
    /// Errors, and it can be used without what they concern.
    Flawed,
    /// It cannot be read.
    Unusable,
}

impl Verdict {
    /// The exit status of a test of the configuration.
    pub const fn exit_status(self) -> u8 {
        match self {
            Verdict::Clean => 0,
            Verdict::Insecure => 6,
            Verdict::Flawed => 5,
            Verdict::Unusable => 4,
        }
    }
}
