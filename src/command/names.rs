//! stub
#![allow(missing_docs)]
pub trait Names {}
pub struct NoNames;
impl Names for NoNames {}
pub struct FileNames;
impl Names for FileNames {}
impl FileNames { pub fn new(_a:&str,_b:&str)->Self{FileNames} }
