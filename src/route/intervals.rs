//! Prefixes flattened to disjoint intervals: longest-prefix match becomes one binary search.

/// A prefix of `length` bits of `width` as the interval it covers, with what it leads to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Prefix {
    /// First address.
    pub first: u128,
    /// Last address.
    pub last: u128,
    /// What it leads to.
    pub target: u32,
}

/// Disjoint intervals that cover all addresses: each runs from its start to the next one's.
#[derive(Debug, Default)]
pub(super) struct Intervals<K> {
    starts: Vec<K>,
    targets: Vec<Option<u32>>,
}

impl<K: Copy + Ord> Intervals<K> {
    /// What the interval that holds `key` leads to.
    #[inline]
    pub fn find(&self, key: K) -> Option<u32> {
        let after = self.starts.partition_point(|&start| start <= key);
        self.targets[after.checked_sub(1)?]
    }
}

impl Intervals<u128> {
    /// Flattens `prefixes`: nested or disjoint, each interval once; `last_address` ends the family.
    pub fn new(mut prefixes: Vec<Prefix>, last_address: u128) -> Self {
        prefixes.sort_by(|a, b| a.first.cmp(&b.first).then(b.last.cmp(&a.last)));
        let mut flat = Self { starts: vec![0], targets: vec![None] };
        let mut open: Vec<Prefix> = Vec::new();
        for prefix in prefixes {
            flat.close(&mut open, |outer| outer.last < prefix.first, last_address);
            flat.push(prefix.first, Some(prefix.target));
            open.push(prefix);
        }
        flat.close(&mut open, |_| true, last_address);
        flat
    }

    /// Ends the innermost open prefixes while `ended` says so; what encloses them goes on.
    fn close(&mut self, open: &mut Vec<Prefix>, ended: impl Fn(&Prefix) -> bool, last_address: u128) {
        while let Some(inner) = open.pop_if(|inner| ended(inner)) {
            if inner.last < last_address {
                self.push(inner.last + 1, open.last().map(|outer| outer.target));
            }
        }
    }

    /// `self` where it leads somewhere, else `below`.
    pub fn over(&self, below: &Self) -> Self {
        let mut starts: Vec<u128> = self.starts.iter().chain(&below.starts).copied().collect();
        starts.sort_unstable();
        let mut flat = Self { starts: Vec::with_capacity(starts.len()), targets: Vec::with_capacity(starts.len()) };
        let (mut mine, mut others) = (0, 0);
        for start in starts {
            // Both have an interval from 0, and `start` never falls behind either position.
            while self.starts.get(mine + 1).is_some_and(|&next| next <= start) {
                mine += 1;
            }
            while below.starts.get(others + 1).is_some_and(|&next| next <= start) {
                others += 1;
            }
            flat.push(start, self.targets[mine].or(below.targets[others]));
        }
        flat
    }

    /// The same without the targets that `keep` refuses.
    pub fn retain(mut self, keep: impl Fn(u32) -> bool) -> Self {
        for target in &mut self.targets {
            *target = target.filter(|&target| keep(target));
        }
        self
    }

    /// From `start` on the target is `target`.
    fn push(&mut self, start: u128, target: Option<u32>) {
        if self.starts.last() == Some(&start) {
            self.starts.pop();
            self.targets.pop();
        }
        if self.targets.last() != Some(&target) {
            self.starts.push(start);
            self.targets.push(target);
        }
    }

    /// The same with short keys, for IPv4.
    pub fn narrow(&self) -> Intervals<u32> {
        Intervals { starts: self.starts.iter().map(|&start| start as u32).collect(), targets: self.targets.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Rng;

    fn flatten(prefixes: &[(u128, u128, u32)]) -> Intervals<u128> {
        let prefixes = prefixes.iter().map(|&(first, last, target)| Prefix { first, last, target }).collect();
        Intervals::new(prefixes, 255)
    }

    #[test]
    fn the_innermost_prefix_wins_and_the_outer_one_goes_on() {
        let flat = flatten(&[(0, 255, 1), (16, 31, 2), (16, 16, 3), (31, 31, 4), (240, 255, 5)]);
        for (key, target) in [(0, 1), (15, 1), (16, 3), (17, 2), (30, 2), (31, 4), (32, 1), (239, 1), (255, 5)] {
            assert_eq!(flat.find(key), Some(target), "{key}");
        }
        assert_eq!(flatten(&[(16, 31, 2)]).find(15), None);
        assert_eq!(flatten(&[(16, 31, 2)]).find(32), None);
        assert_eq!(flatten(&[]).find(0), None);
    }

    /// Against a walk over all prefixes, with random nests and a table below.
    #[test]
    fn agrees_with_a_linear_search() {
        let mut rng = Rng::new(7);
        for _ in 0..300 {
            let mut tables = Vec::new();
            for _ in 0..2 {
                let mut prefixes: Vec<(u128, u128, u32)> = Vec::new();
                for target in 0..rng.below(12) {
                    let size = 1u128 << rng.below(9);
                    let first = u128::from(rng.below(256)) / size * size;
                    if !prefixes.iter().any(|p| (p.0, p.1) == (first, first + size - 1)) {
                        prefixes.push((first, first + size - 1, target));
                    }
                }
                tables.push(prefixes);
            }
            let linear = |table: &[(u128, u128, u32)], key: u128| {
                let holds = table.iter().filter(|p| p.0 <= key && key <= p.1);
                holds.min_by_key(|p| p.1 - p.0).map(|p| p.2)
            };
            let flat = flatten(&tables[0]).over(&flatten(&tables[1]));
            for key in 0..256 {
                let expected = linear(&tables[0], key).or(linear(&tables[1], key));
                assert_eq!(flat.find(key), expected, "{tables:?} {key}");
                assert_eq!(flat.narrow().find(key as u32), expected);
            }
        }
    }
}
