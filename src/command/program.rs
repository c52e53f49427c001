//! stub
use super::*;
use super::names::Names;
#[derive(Debug,Clone)]
#[allow(missing_docs)]
pub struct Output { pub exit: i32, pub stdout: String, pub stderr: String }
#[allow(missing_docs)]
pub trait Executor { fn execute(&mut self, request: Request) -> Reply; }
#[allow(missing_docs)]
pub fn run(_a: &[String], _s: Option<&str>, _n: &dyn Names, _e: &mut dyn Executor) -> Output { todo!() }
