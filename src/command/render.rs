//! stub
#![allow(missing_docs)]
use super::*; use super::names::Names; use super::request::ConnectionInfo;
pub fn connections_header(_o:&ListOptions)->&'static str {""}
pub fn write_connection(_o:&mut String,_r:&ConnectionInfo,_p:&ListOptions,_n:&dyn Names){}
