//! keepalived.conf: its language, its keywords, what they mean.
//!
//! ```text
//! files --language--> lines of words --blocks--> tree --meaning--> Configuration
//! ```
//!
//! Nothing here opens a file or asks the kernel: what a configuration needs to know of its machine it asks of a
//! [`Source`], so that all of it can be read in a test.
//!
//! Source: what keepalived 2.2.7 and its manual page say of the language, and what it was seen to do.

pub mod blocks;
pub mod dump;
pub mod language;
mod meaning;
pub mod message;
pub mod model;
pub mod options;
pub mod source;

#[cfg(test)]
mod tests;

pub use message::{Message, Place, Severity, Verdict};
pub use model::Configuration;
pub use source::{FileFacts, InterfaceFacts, Invocation, ReadFailure, Source};

use std::collections::BTreeMap;

use blocks::{Pass, tables, tree};

/// Reads a configuration. Everything wrong with it is said at once; what is right is there nevertheless.
pub fn read(source: &dyn Source, invocation: &Invocation) -> Reading {
    let mut messages = message::Messages::default();
    let lines = language::read(source, invocation, &mut messages);
    let items = language::items(&lines, &mut messages);
    let mut context = meaning::Context::new(source, &mut messages);
    for pass in Pass::ALL {
        let nodes = tree(&lines, &items, tables::TOP, pass, context.messages);
        context.read(pass, &nodes);
    }
    let configuration = context.configuration;
    let is_refused = messages.is_refused();
    let (mut messages, verdict) = messages.finish();
    let files: BTreeMap<&str, usize> =
        lines.files.iter().enumerate().rev().map(|(index, file)| (file.as_str(), index)).collect();
    let place_of = |place: &Place| (files.get(&*place.file).copied().unwrap_or(usize::MAX), place.line);
    messages.sort_by_key(|message| message.place.as_ref().map_or((usize::MAX, u32::MAX), place_of));
    Reading { configuration, messages, verdict, is_refused, files: lines.files }
}

/// What became of a configuration that was read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reading {
    /// What it says, without what was refused.
    pub configuration: Configuration,
    /// All that is to be said of it: file by file, by line, then what has no place.
    pub messages: Vec<Message>,
    /// Whether it can be used.
    pub verdict: Verdict,
    /// keepalived tests it with exit status 5 and does not start with it.
    pub is_refused: bool,
    /// The files that it is made of, in the order in which they were read.
    pub files: Vec<String>,
}

impl Reading {
    /// True when a daemon may run with it.
    pub const fn is_usable(&self) -> bool {
        !self.is_refused && !matches!(self.verdict, Verdict::Unusable)
    }
}
