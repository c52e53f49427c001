//! Linux: the XDP program, netlink, frames back to the kernel.
//!
//! **Invariant**: no policy; what is done here, `control` decided.

pub mod netlink;
pub mod pass;
pub mod xdp;
