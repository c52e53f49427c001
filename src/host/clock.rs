//! The clocks of the director: the one that everything runs by, and the time of day.
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

    /// The time of day, universal time, at which the clock started, by what the host thinks it is now; milliseconds
    /// since midnight. A clock that is set afterwards is not followed.
    pub fn start_of_day(&self) -> u32 {
        const DAY: u128 = 24 * 60 * 60 * 1000;
        let start = std::time::SystemTime::now() - self.start.elapsed();
        // Before 1970 nobody asks.
        let since_midnight = start.duration_since(std::time::UNIX_EPOCH).map_or(0, |time| time.as_millis() % DAY);
        since_midnight as u32
    }

    /// The time of day, since 1970, by what the host thinks it is now.
    pub fn wall(&self) -> std::time::Duration {
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default()
    }

    /// Time since the start.
    #[inline]
    pub fn now(&self) -> Instant {
        Instant::from_nanoseconds(u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }
}
