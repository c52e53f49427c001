//! The least loaded of a list without a look at each: a tournament whose winner stands ready.
//!
//! Each destination is a leaf with the load that was last seen of it; each inner node names the winner of the two
//! below. A pick looks at the load that the winner has now. If that is what the leaf says, it is the answer; if not,
//! the leaf learns it, the matches on its way up are played again, and the next winner is looked at. That is exact as
//! long as nobody is less loaded than its leaf says, and of those who became less loaded
//! [`Lowered`] tells: their leaves are seen to first. What control changes makes the
//! tournament stale; the next pick builds it anew.
//!
//! A pick costs log n for each load that has changed for the better and for the one picked before; and for each 64
//! numbers that the list's destinations come from, a read.

use crate::service::lowered::Lowered;
use crate::service::scheduler::List;
use crate::service::{Destination, DestinationId};

/// Looks at winners, by leaf, after which a pick takes the winner that there is. Without others who count meanwhile
/// each leaf is found wrong once at most; with them, half of this is left for what they change, and a pick has an end.
const LOOKS_PER_LEAF: usize = 2;

/// What a destination has to carry: a cost for a weight, the less the better.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Load {
    cost: i64,
    weight: i64,
}

impl Load {
    /// Of one that must not be picked: more than anything.
    pub(super) const UNUSABLE: Self = Self { cost: 1, weight: 0 };

    /// A cost for the destination's weight.
    #[inline]
    pub(super) fn by_weight(destination: &Destination, cost: i32) -> Self {
        let weight = destination.weight();
        if weight <= 0 || destination.is_overloaded() {
            return Self::UNUSABLE;
        }
        Self { cost: i64::from(cost), weight: i64::from(weight) }
    }

    /// A cost whatever the weight, of at most 33 bits with its sign.
    #[inline]
    pub(super) fn plain(destination: &Destination, cost: i64) -> Self {
        if destination.is_usable() { Self { cost, weight: 1 } } else { Self::UNUSABLE }
    }

    /// The heavier, the less.
    #[inline]
    pub(super) fn heaviest(destination: &Destination) -> Self {
        Self::plain(destination, -i64::from(destination.weight()))
    }

    #[inline]
    fn is_usable(self) -> bool {
        self.weight > 0
    }

    /// cost / weight compared without division, as by [`least_by_weight`](super::least_by_weight).
    #[inline]
    fn is_less(self, other: Self) -> bool {
        self.cost * other.weight < other.cost * self.weight
    }
}

/// 64 numbers that destinations of the list come from: a word of [`Lowered`].
#[derive(Clone, Copy)]
struct Word {
    /// Those of the list.
    mask: u64,
    index: u32,
    /// How many of the list have lower numbers.
    before: u32,
}

/// The least loaded of one list.
pub(super) struct Tournament {
    is_stale: bool,
    /// By position in the list: what was last seen.
    leaves: Vec<Load>,
    /// Positions of winners. The root is at 1, what plays for node n stands at 2n and 2n + 1, leaves follow the nodes.
    winners: Vec<u32>,
    words: Vec<Word>,
    /// Positions in the order of the destinations' numbers.
    positions: Vec<u32>,
}

/// Stale: the first pick builds it.
impl Default for Tournament {
    fn default() -> Self {
        let (leaves, winners, words, positions) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Self { is_stale: true, leaves, winners, words, positions }
    }
}

impl Tournament {
    /// The list, a weight or a threshold has changed: the next pick builds the tournament anew, in memory that is
    /// taken here.
    pub(super) fn changed(&mut self, list: List<'_>) {
        self.is_stale = true;
        self.clear();
        let count = list.ids.len();
        self.leaves.reserve(count);
        self.winners.reserve(2 * count);
        self.words.reserve(count);
        self.positions.reserve(count);
    }

    /// The usable destination with the least load; of equals the one nearest to the head of the list.
    #[inline]
    pub(super) fn pick(&mut self, list: List<'_>, load: impl Fn(&Destination) -> Load) -> Option<DestinationId> {
        if self.is_stale {
            self.build(list, &load);
        }
        debug_assert_eq!(self.leaves.len(), list.ids.len(), "changes of the list are told");
        self.hear(list, &load);
        for _ in 0..LOOKS_PER_LEAF * self.leaves.len() {
            let position = self.winner()?;
            let id = list.ids[position];
            let now = load(list.table.get(id));
            if now == self.leaves[position] {
                return now.is_usable().then_some(id);
            }
            self.replay(position, now);
        }
        let position = self.winner()?;
        self.leaves[position].is_usable().then(|| list.ids[position])
    }

    fn clear(&mut self) {
        self.leaves.clear();
        self.winners.clear();
        self.words.clear();
        self.positions.clear();
    }

    #[cold]
    fn build(&mut self, list: List<'_>, load: &impl Fn(&Destination) -> Load) {
        self.clear();
        self.positions.extend(0..list.ids.len() as u32);
        self.positions.sort_unstable_by_key(|&position| list.ids[position as usize]);
        for (before, &position) in (0..).zip(&self.positions) {
            let (index, bit) = Lowered::place(list.ids[position as usize]);
            match self.words.last_mut() {
                Some(word) if word.index == index => word.mask |= bit,
                _ => self.words.push(Word { mask: bit, index, before }),
            }
        }
        // Marks stay where they are: they tell of what happens between here and the first pick, too.
        self.leaves.extend(list.iter().map(|(_, destination)| load(destination)));
        let count = self.leaves.len();
        self.winners.resize(count, 0);
        self.winners.extend(0..count as u32);
        for node in (1..count).rev() {
            self.winners[node] = self.play(self.winners[2 * node], self.winners[2 * node + 1]);
        }
        self.is_stale = false;
    }

    /// Looks at those that are less loaded than they were.
    #[inline]
    fn hear(&mut self, list: List<'_>, load: &impl Fn(&Destination) -> Load) {
        for number in 0..self.words.len() {
            let Word { mask, index, before } = self.words[number];
            let mut taken = list.table.lowered().take(index, mask);
            while taken != 0 {
                let below = (taken & taken.wrapping_neg()) - 1;
                taken &= taken - 1;
                let position = self.positions[(before + (mask & below).count_ones()) as usize] as usize;
                let now = load(list.table.get(list.ids[position]));
                if now != self.leaves[position] {
                    self.replay(position, now);
                }
            }
        }
    }

    /// The position of the winner; `None` of an empty list.
    #[inline]
    fn winner(&self) -> Option<usize> {
        Some(*self.winners.get(1)? as usize)
    }

    /// The leaf at `position` has another load: plays its matches again.
    #[inline]
    fn replay(&mut self, position: usize, load: Load) {
        self.leaves[position] = load;
        let (changed, mut node) = (position as u32, position + self.leaves.len());
        let mut winner = changed;
        while node > 1 {
            winner = self.play(winner, self.winners[node ^ 1]);
            node /= 2;
            let before = std::mem::replace(&mut self.winners[node], winner);
            if before == winner && winner != changed {
                // It goes on above as it did.
                return;
            }
        }
    }

    /// The one of two positions with less load; of equals the one nearer to the head of the list.
    #[inline]
    fn play(&self, one: u32, other: u32) -> u32 {
        let (first, second) = (one.min(other), one.max(other));
        if self.leaves[second as usize].is_less(self.leaves[first as usize]) { second } else { first }
    }
}

#[cfg(test)]
mod tests;
