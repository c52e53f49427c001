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
pub mod language;
pub mod message;
pub mod model;
pub mod source;

pub use message::{Message, Place, Severity, Verdict};
pub use model::Configuration;
pub use source::{FileFacts, InterfaceFacts, Invocation, ReadFailure, Source};

/// What became of a configuration that was read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reading {
    /// What it says, without what was refused.
    pub configuration: Configuration,
    /// All that is to be said of it, in the order of the file.
    pub messages: Vec<Message>,
    /// Whether it can be used.
    pub verdict: Verdict,
}
