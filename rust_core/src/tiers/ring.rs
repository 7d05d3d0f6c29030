//! A session's turns in commit order, and the newest of them that make up its STM ring.

/// Bounds of a session's STM ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RingLimits {
    /// Most turns, at least 1.
    pub turns: usize,
    /// Most tokens; the newest turn stays even if it has more.
    pub tokens: u64,
}

/// How many of a session's turns the ring holds, given their tokens from the newest to the oldest.
///
/// ```
/// use lightmem_core::tiers::{RingLimits, newest_within};
///
/// let limits = RingLimits { turns: 3, tokens: 10 };
/// assert_eq!(newest_within(limits, [4, 4, 4, 4]), 2);
/// assert_eq!(newest_within(limits, [1, 1, 1, 1]), 3);
/// assert_eq!(newest_within(limits, [50, 1]), 1);
/// ```
pub fn newest_within(limits: RingLimits, tokens: impl IntoIterator<Item = u32>) -> usize {
    let mut sum = 0_u64;
    let mut kept = 0;
    for count in tokens.into_iter().take(limits.turns.max(1)) {
        sum += u64::from(count);
        if kept > 0 && sum > limits.tokens {
            break;
        }
        kept += 1;
    }
    kept
}

/// All turns of one session, each a member `M` of some table with its commit order. The ring is a view of them, so a
/// turn that is removed lets an older one back in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionTurns<M> {
    /// By ascending order.
    turns: Vec<(u64, M)>,
}

impl<M> Default for SessionTurns<M> {
    fn default() -> Self {
        Self { turns: Vec::new() }
    }
}

impl<M: Ord + Copy> SessionTurns<M> {
    /// Add a turn; most are the newest.
    pub fn insert(&mut self, order: u64, member: M) {
        let entry = (order, member);
        let at = self.turns.partition_point(|held| *held < entry);
        self.turns.insert(at, entry);
    }

    /// Remove a turn; one that is not there is ignored.
    pub fn remove(&mut self, order: u64, member: M) {
        if let Ok(at) = self.turns.binary_search(&(order, member)) {
            self.turns.remove(at);
        }
    }

    /// The members of the ring, oldest first.
    pub fn ring(&self, limits: RingLimits, tokens: impl Fn(M) -> u32) -> impl Iterator<Item = M> {
        let kept = newest_within(limits, self.turns.iter().rev().map(|&(_, member)| tokens(member)));
        self.turns.iter().skip(self.turns.len() - kept).map(|&(_, member)| member)
    }

    /// Whether the session has no turns.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.turns.is_empty()
    }

    /// Bytes of heap.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        self.turns.capacity() * size_of::<(u64, M)>()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_ring_is_the_longest_that_fits(tokens in prop::collection::vec(0_u32..9, 0..30), turns in 1_usize..9, most in 0_u64..30) {
            let kept = newest_within(RingLimits { turns, tokens: most }, tokens.iter().copied());
            let sum = |count: usize| tokens.iter().take(count).map(|&t| u64::from(t)).sum::<u64>();
            prop_assert!(kept <= turns && (kept >= 1 || tokens.is_empty()));
            prop_assert!(kept <= 1 || sum(kept) <= most);
            prop_assert!(kept == turns || kept == tokens.len() || sum(kept + 1) > most);
        }
    }
}
