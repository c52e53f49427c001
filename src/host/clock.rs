//! The one clock of the director.
#![allow(clippy::disallowed_methods)]

use crate::base::Instant;

/// Reads the time since it was made.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: std::time::Instant,
}

impl Clock {
    /// A clock that starts now.
    pub fn start() -> Self {
        Self { start: std::time::Instant::now() }
    }

    /// Time since the start.
    #[inline]
    pub fn now(&self) -> Instant {
        Instant::from_nanoseconds(u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }
}
