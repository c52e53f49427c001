//! Time as a parameter: nanoseconds since the director started.
//!
//! **Invariant**: nothing outside `host` reads a clock; every function that depends on time takes an [`Instant`].

use std::fmt;
use std::ops::{Add, Sub};

pub use std::time::Duration;

/// A moment, counted in nanoseconds since the director's start (or since the first packet of a replay).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Instant {
    nanoseconds: u64,
}

impl Instant {
    /// The moment the director started.
    pub const START: Instant = Instant { nanoseconds: 0 };

    /// A moment `nanoseconds` after the start.
    pub const fn from_nanoseconds(nanoseconds: u64) -> Self {
        Self { nanoseconds }
    }

    /// A moment `milliseconds` after the start.
    pub const fn from_milliseconds(milliseconds: u64) -> Self {
        Self { nanoseconds: milliseconds * 1_000_000 }
    }

    /// A moment `seconds` after the start.
    pub const fn from_seconds(seconds: u64) -> Self {
        Self { nanoseconds: seconds * 1_000_000_000 }
    }

    /// Nanoseconds since the start.
    pub const fn nanoseconds(self) -> u64 {
        self.nanoseconds
    }

    /// Whole milliseconds since the start.
    pub const fn milliseconds(self) -> u64 {
        self.nanoseconds / 1_000_000
    }

    /// Time passed since `earlier`; zero when `earlier` is later.
    pub const fn saturating_since(self, earlier: Instant) -> Duration {
        Duration::from_nanos(self.nanoseconds.saturating_sub(earlier.nanoseconds))
    }
}

impl Add<Duration> for Instant {
    type Output = Instant;

    fn add(self, duration: Duration) -> Instant {
        let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Instant { nanoseconds: self.nanoseconds.saturating_add(nanoseconds) }
    }
}

impl Sub<Instant> for Instant {
    type Output = Duration;

    fn sub(self, earlier: Instant) -> Duration {
        self.saturating_since(earlier)
    }
}

impl fmt::Display for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:09}", self.nanoseconds / 1_000_000_000, self.nanoseconds % 1_000_000_000)
    }
}

impl fmt::Debug for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adds_and_subtracts() {
        let t = Instant::from_seconds(2) + Duration::from_millis(5);
        assert_eq!(t.milliseconds(), 2005);
        assert_eq!(t - Instant::from_seconds(1), Duration::from_millis(1005));
        assert_eq!(Instant::from_seconds(1) - t, Duration::ZERO);
        assert_eq!(t.to_string(), "2.005000000");
    }
}
