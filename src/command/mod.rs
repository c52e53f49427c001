//! ipvsadm's language: words to [`Request`]s, [`Response`]s to text.
//!
//! **Invariant**: nothing here opens a socket or reads a file; the same code serves `lvxadm`, the control socket,
//! `lvx replay` and rule files.

pub mod request;

pub use request::{Reply, Request, Response};
