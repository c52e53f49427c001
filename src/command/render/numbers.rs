//! Counters in columns of nine.

/// Each power of 1000 with its letter, and the first value that is printed with it.
const UNITS: [(u64, u64, char); 4] = [
    (100_000_000_000_000, 1_000_000_000_000, 'T'),
    (100_000_000_000, 1_000_000_000, 'G'),
    (1_000_000_000, 1_000_000, 'M'),
    (100_000_000, 1_000, 'K'),
];

/// A counter, nine octets wide: shortened (and truncated) above eight digits, or in full and as wide as it needs.
pub fn column(value: u64, exact: bool) -> String {
    if exact {
        return format!(" {value:8}");
    }
    match UNITS.iter().find(|(from, _, _)| value >= *from) {
        Some((_, unit, letter)) => format!("{:8}{letter}", value / unit),
        None => format!("{value:9}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shortens_at_the_bounds() {
        for (value, text) in [
            (0, "        0"),
            (99_999_999, " 99999999"),
            (100_000_000, "  100000K"),
            (999_999_999, "  999999K"),
            (1_000_000_000, "    1000M"),
            (99_999_999_999, "   99999M"),
            (100_000_000_000, "     100G"),
            (99_999_999_999_999, "   99999G"),
            (100_000_000_000_000, "     100T"),
            (u64::MAX, "18446744T"),
        ] {
            assert_eq!(column(value, false), text);
        }
        assert_eq!(column(1_082_966_400, true), " 1082966400");
        assert_eq!(column(7, true), "        7");
    }
}
