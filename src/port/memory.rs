//! A port without a NIC: frames in, frames out, for replay, tests and benchmarks.
