//! Blocks: which keywords there are and where ([`keyword`], [`tables`]), and the tree that items make with them ([`mod@tree`]).
//!
//! keepalived is several processes, and each reads the file with the keywords that concern it; blocks of the others are
//! passed over whole. What becomes of a file with a misplaced brace depends on that, so the tree is made once for each
//! [`Pass`].

pub mod keyword;
pub mod near;
pub mod tables;
pub mod tree;

pub use keyword::{Effect, Form, Keyword, Pass, Passes};
pub use tree::{Entry, Node, Value, tree};
