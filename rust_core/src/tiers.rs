//! Decisions between the tiers: pure functions of what is known. Nothing is changed here; the server makes decisions
//! durable.

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
