//! The language: from files to lines, from lines to words and braces.
//!
//! What becomes of a physical line, in this order: its comment goes; `@id` keeps or drops it; `$NAME=` takes it as a
//! definition; `~SEQ` and `~LST` repeat it; `$NAME` and `${NAME}` are replaced, which may make several lines of it; `include`
//! puts the lines of other files in its place. What is left is a [`Line`]. Braces outside quotes part it into [`Item`]s.
//!
//! # Limits
//! [`FILE_DEPTH_MAX`], [`FILES_MAX`], [`LINES_MAX`], [`LINE_OCTETS_MAX`], [`EXPANSIONS_MAX`], [`TEXT_OCTETS_MAX`]: what is
//! beyond them makes the configuration unusable, so that no file can loop for ever or eat memory.
//!
//! **Deviation**: a definition that uses itself is an error; keepalived does not come to an end. A file that includes
//! itself is an error at [`FILE_DEPTH_MAX`]; keepalived goes on until it has no descriptors left. Lines longer than
//! keepalived's buffer stay whole.

mod definitions;
mod glob;
mod include;
mod items;
mod reader;
mod sequence;
mod words;

pub use glob::matches_glob;
pub use items::{Item, ItemKind, items};
pub use reader::{Line, Lines, read};
pub use words::{UnmatchedQuote, Word, escaped_words, plain_words};

/// Files that include each other.
pub const FILE_DEPTH_MAX: usize = 32;
/// Files of a configuration.
pub const FILES_MAX: usize = 8192;
/// Lines of a configuration, those of sequences and definitions included.
pub const LINES_MAX: usize = 1 << 20;
/// Octets of a line.
pub const LINE_OCTETS_MAX: usize = 16 << 10;
/// Uses of definitions.
pub const EXPANSIONS_MAX: usize = 200_000;
/// Octets of all lines.
pub const TEXT_OCTETS_MAX: usize = 64 << 20;
