//! The `drop_packet` defence against floods: when it is on, every n-th new connection is refused.

use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

/// The rate, set by control, and the countdown of all workers (`ip_vs_todrop`).
#[derive(Debug, Default)]
pub struct Defence {
    rate: AtomicI64,
    countdown: AtomicI64,
}

impl Defence {
    /// One of `rate` new connections is refused from now on; 0 for none.
    pub fn set_rate(&self, rate: i64) {
        self.rate.store(rate, Relaxed);
    }

    /// The same, counting from now on.
    pub fn restart(&self, rate: i64) {
        self.countdown.store(rate, Relaxed);
        self.set_rate(rate);
    }

    /// One of how many new connections is refused; 0 for none.
    pub fn rate(&self) -> i64 {
        self.rate.load(Relaxed)
    }

    /// The same defence, counting on by itself.
    #[must_use]
    pub fn copy(&self) -> Self {
        Self { rate: AtomicI64::new(self.rate()), countdown: AtomicI64::new(self.countdown.load(Relaxed)) }
    }

    /// Whether the defence takes the packet of a connection to be.
    #[inline]
    pub fn takes_packet(&self) -> bool {
        let rate = self.rate.load(Relaxed);
        if rate == 0 || self.countdown.fetch_sub(1, Relaxed) > 1 {
            return false;
        }
        self.countdown.store(rate, Relaxed);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_the_first_and_then_every_nth() {
        let defence = Defence::default();
        assert!(!(0..10).any(|_| defence.takes_packet()));
        defence.set_rate(3);
        let taken: Vec<bool> = (0..7).map(|_| defence.takes_packet()).collect();
        assert_eq!(taken, [true, false, false, true, false, false, true]);
        defence.restart(2);
        assert!(!defence.takes_packet());
        assert!(defence.takes_packet());
        defence.set_rate(0);
        assert!(!(0..10).any(|_| defence.takes_packet()));
    }
}
