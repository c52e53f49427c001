//! stub
#![allow(missing_docs)]
use super::*; use super::names::Names;
pub fn parse(_p: &str, _w: &[String], _n: &dyn Names) -> Result<Parsed, UsageError> { todo!() }
