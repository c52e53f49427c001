//! ipvsadm's language: words to [`Request`]s, [`Response`]s to text.
//!
//! **Invariant**: nothing here opens a socket or reads a file; the same code serves `lvxadm`, the control socket,
//! `lvx replay` and rule files.

pub mod canonical;
pub mod draft;
pub mod line;
pub mod names;
pub mod options;
pub mod parse;
pub mod popt;
pub mod probe;
pub mod program;
mod refusal;
pub mod render;
pub mod request;
pub mod text;
pub mod values;

pub use request::{Refusal, Reply, Request, Response};

/// What a command line asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Parsed {
    /// A request, and how its answer is to be printed.
    Request {
        /// The request.
        request: Request,
        /// How to print a list.
        output: ListOptions,
    },
    /// `-R`: commands follow on standard input.
    Restore,
}

/// How a list is printed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ListOptions {
    /// `-n`: numbers instead of names.
    pub numeric: bool,
    /// `--stats`
    pub stats: bool,
    /// `--rate`
    pub rate: bool,
    /// `--thresholds`
    pub thresholds: bool,
    /// `--persistent-conn`
    pub persistent_conn: bool,
    /// `--tun-info`
    pub tun_info: bool,
    /// `--exact`: counters in full.
    pub exact: bool,
    /// `--nosort`: the director's order.
    pub nosort: bool,
    /// `-S`: as commands.
    pub save: bool,
}

/// A command line that ipvsadm refuses (or answers by itself, as `-h`): texts and exit status, to the letter.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UsageError {
    /// Exit status: 0 for help and version, 2 or 255 else.
    pub exit: i32,
    /// What goes to standard output.
    pub stdout: String,
    /// What goes to standard error.
    pub stderr: String,
    /// False for an option that does not exist or lacks its value: `-R` goes on with the next line after these.
    pub is_final: bool,
}
