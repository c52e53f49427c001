//! Routes and neighbours as a snapshot: where a packet goes next, by which interface, to which link address.
//!
//! **Invariant**: nothing here asks the kernel; `host` (or a replay's net file) fills it.
