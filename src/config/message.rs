//! What is to be said of a configuration: in keepalived's words, and what helps.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

/// A place in a file.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Place {
    /// The file, as it was named or found.
    pub file: Arc<str>,
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
    /// An error: exit status 5.
    Flawed,
    /// A script that others could change, or a file that a check of an `include` misses: exit status 6 where nothing is
    /// worse.
    Insecure,
    /// An error that nothing can run with: exit status 2.
    Fatal,
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

impl Message {
    /// Everything in one line, for a log.
    pub fn in_line(&self) -> String {
        let help = self.help.as_deref().unwrap_or_default();
        match (self.text.is_empty(), help.is_empty()) {
            (false, true) => self.to_string(),
            (false, false) => format!("{self} ({help})"),
            (true, _) => match &self.place {
                Some(place) => format!("({}: Line {}) {help}", place.file, place.line),
                None => help.to_owned(),
            },
        }
    }

    /// keepalived's words, then, indented, the line with a mark below the word, and what helps; a newline after each.
    ///
    /// ```text
    /// (keepalived.conf: Line 3) Unknown keyword 'virtualRouterID'
    ///     3:3 |   virtualRouterID 5
    ///         |   ^ did you mean virtual_router_id?
    /// ```
    pub fn with_help(&self) -> String {
        let mut text = if self.text.is_empty() { String::new() } else { format!("{self}\n") };
        let help = self.help.as_deref().unwrap_or_default();
        let (Some(place), Some(excerpt)) = (&self.place, &self.excerpt) else {
            if !help.is_empty() {
                text += &format!("    {help}\n");
            }
            return text;
        };
        if self.text.is_empty() {
            text += &format!("({}: Line {}) note\n", place.file, place.line);
        }
        let head = format!("{}:{}", place.line, place.column);
        let width = head.len().max(7);
        text += &format!("{head:>width$} | {excerpt}\n");
        if place.column > 0 || !help.is_empty() {
            let before = excerpt.get(..place.column.saturating_sub(1) as usize).unwrap_or_default();
            let blanks: String = before.chars().map(|it| if it == '\t' { '\t' } else { ' ' }).collect();
            text += format!("{:>width$} | {blanks}^ {help}", "").trim_end();
            text.push('\n');
        }
        text
    }
}

/// Whether a configuration can be used.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Verdict {
    /// Without a fault.
    Clean,
    /// Errors, and it can be used without what they concern.
    Flawed,
    /// Scripts that others could change, files that checks of an `include` miss; maybe errors too.
    Insecure,
    /// Nothing can run with it.
    Unusable,
}

impl Verdict {
    /// The exit status of a test of the configuration.
    pub const fn exit_status(self) -> u8 {
        match self {
            Verdict::Clean => 0,
            Verdict::Insecure => 6,
            Verdict::Flawed => 5,
            Verdict::Unusable => 2,
        }
    }
}

/// Messages of one reading. What is said twice is kept once: several parts of a daemon read the same file.
const MESSAGES_MAX: usize = 10_000;

/// Something that messages are about: a place, and the line there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct At {
    /// Where.
    pub place: Place,
    /// The line as it stands in the file.
    pub excerpt: Arc<str>,
}

/// File and line of a message, if it has a place, and its text.
type Said = (Option<(Arc<str>, u32)>, String);

/// All that is to be said so far.
#[derive(Clone, Debug, Default)]
pub struct Messages {
    list: Vec<Message>,
    said: BTreeSet<Said>,
    dropped: usize,
    worst: Option<Severity>,
    is_refused: bool,
}

impl Messages {
    /// Says something.
    pub fn say(&mut self, severity: Severity, at: Option<At>, text: String, help: Option<String>) {
        self.worst = self.worst.max(Some(severity));
        let (place, excerpt) = at.map_or((None, None), |at| (Some(at.place), Some(at.excerpt)));
        let heard = if text.is_empty() { help.clone().unwrap_or_default() } else { text.clone() };
        let key = (place.as_ref().map(|place| (place.file.clone(), place.line)), heard);
        if self.list.len() >= MESSAGES_MAX {
            self.dropped += 1;
        } else if self.said.insert(key) {
            self.list.push(Message { place, severity, text, excerpt: excerpt.map(|line| line.to_string()), help });
        }
    }

    /// An error with a place.
    pub fn flaw_at(&mut self, at: At, text: impl Into<String>) {
        self.say(Severity::Flawed, Some(at), text.into(), None);
    }

    /// An error without one.
    pub fn flaw(&mut self, text: impl Into<String>) {
        self.say(Severity::Flawed, None, text.into(), None);
    }

    /// An error that keepalived does not start with, although its test says that it would.
    pub fn refuse(&mut self, text: impl Into<String>) {
        self.is_refused = true;
        self.flaw(text);
    }

    /// True when a text was said of this line already.
    pub fn has_said(&self, at: &At, text: &str) -> bool {
        self.said.contains(&(Some((at.place.file.clone(), at.place.line)), text.to_owned()))
    }

    /// True when nothing more is kept.
    pub const fn is_full(&self) -> bool {
        self.list.len() >= MESSAGES_MAX
    }

    /// True when something was refused.
    pub const fn is_refused(&self) -> bool {
        self.is_refused
    }

    /// Takes over that something was refused, not what was said of it.
    pub fn join_refusal(&mut self, other: &Messages) {
        self.is_refused |= other.is_refused;
    }

    /// Said by keepalived, and no error.
    pub fn notice_at(&mut self, at: At, text: impl Into<String>) {
        self.say(Severity::Notice, Some(at), text.into(), None);
    }

    /// Said by us alone, and no error.
    pub fn hint_at(&mut self, at: At, help: impl Into<String>) {
        self.say(Severity::Notice, Some(at), String::new(), Some(help.into()));
    }

    /// An error that nothing can run with.
    pub fn fatal_at(&mut self, at: At, text: impl Into<String>) {
        self.say(Severity::Fatal, Some(at), text.into(), None);
    }

    /// What was said, and what it amounts to.
    pub fn finish(mut self) -> (Vec<Message>, Verdict) {
        if self.dropped > 0 {
            let text = format!("{} more messages are left out", self.dropped);
            self.list.push(Message {
                place: None,
                severity: Severity::Notice,
                text: String::new(),
                excerpt: None,
                help: Some(text),
            });
        }
        let verdict = match self.worst {
            None | Some(Severity::Notice) => Verdict::Clean,
            Some(Severity::Insecure) => Verdict::Insecure,
            Some(Severity::Flawed) => Verdict::Flawed,
            Some(Severity::Fatal) => Verdict::Unusable,
        };
        (self.list, verdict)
    }
}
