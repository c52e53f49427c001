//! Intervals, RFC 9568 section 6.1 and RFC 3768 section 6.1.

use crate::base::Duration;
use crate::wire::vrrp::Version;

/// How long a Backup of this priority waits beyond the adverts that did not come: Skew_Time.
///
/// A share of (256 - priority) / 256: of a second in version 2, of the Active router's interval in version 3.
pub fn skew_time(version: Version, priority: u8, active_interval: Duration) -> Duration {
    let whole = match version {
        Version::V2 => Duration::from_secs(1),
        Version::V3 => active_interval,
    };
    whole * (256 - u32::from(priority)) / 256
}

/// How long a Backup waits until it declares the Active router down: Active_Down_Interval; never zero for an interval
/// that is none. `adverts` is how many may be missed, 3 in the RFCs.
pub fn down_interval(version: Version, priority: u8, active_interval: Duration, adverts: u8) -> Duration {
    active_interval * adverts.into() + skew_time(version, priority, active_interval)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// (version, priority, interval ms, skew µs, down interval µs)
    #[test]
    fn rfc_9568_section_6_1_intervals() {
        for (version, priority, interval_ms, skew, down) in [
            (Version::V2, 100, 1000, 609_375, 3_609_375),
            (Version::V2, 100, 2000, 609_375, 6_609_375),
            (Version::V2, 254, 1000, 7_812, 3_007_812),
            (Version::V2, 1, 1000, 996_093, 3_996_093),
            (Version::V3, 100, 1000, 609_375, 3_609_375),
            (Version::V3, 100, 100, 60_937, 360_937),
            (Version::V3, 100, 10, 6_093, 36_093),
            (Version::V3, 255, 1000, 3_906, 3_003_906),
            (Version::V3, 100, 40_950, 24_953_906, 147_803_906),
        ] {
            let interval = Duration::from_millis(interval_ms);
            assert_eq!(skew_time(version, priority, interval).as_micros(), skew);
            assert_eq!(down_interval(version, priority, interval, 3).as_micros(), down);
        }
    }
}
