//! Decisions between the tiers: pure functions of what is known. Nothing is changed here; the server makes decisions
//! durable.
//!
//! [`TierBook`] keeps what is known of one user's memories by replaying what happened to them; [`decide`] decides from
//! the states of some memories, wherever they come from.

mod book;
mod ring;

use std::collections::BTreeMap;

pub use book::{Event, TierBook, TierCount, Tracked};
pub use ring::{RingLimits, SessionTurns, newest_within};

use crate::rows::Id;

/// Heat of a memory: 1 per access, halved every `half_life` since.
///
/// Kept as a number and the time it was true at; any access updates both, so nothing has to be decayed in the background.
///
/// ```
/// use lightmem_core::tiers::Heat;
///
/// let heat = Heat::default().accessed(0, 10).accessed(10, 10);
/// assert!((heat.at(10, 10) - 1.5).abs() < 1e-9);
/// assert!((heat.at(20, 10) - 0.75).abs() < 1e-9);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Heat {
    /// Heat at `since`, not negative.
    pub value: f64,
    /// Microseconds.
    pub since: i64,
}

impl Heat {
    /// The heat at a time; a time before `since` counts as `since`. `half_life` in microseconds; 0 or less never decays.
    #[must_use]
    pub fn at(&self, now: i64, half_life: i64) -> f64 {
        let elapsed = now.saturating_sub(self.since).max(0);
        if half_life <= 0 { self.value } else { self.value * (-(elapsed as f64) / half_life as f64).exp2() }
    }

    /// After an access.
    #[must_use]
    pub fn accessed(&self, now: i64, half_life: i64) -> Self {
        self.accessed_often(1, now, half_life)
    }

    /// After `count` accesses of which only the last one's time is known: the others are taken to be spread evenly since
    /// the heat was true. So a hundred accesses a year ago and one today don't weigh like a hundred today.
    ///
    /// ```
    /// use lightmem_core::tiers::Heat;
    ///
    /// let spread = Heat::default().accessed_often(2, 20, 10);
    /// assert!((spread.value - Heat::default().accessed(10, 10).accessed(20, 10).value).abs() < 1e-9);
    /// ```
    #[must_use]
    pub fn accessed_often(&self, count: u32, now: i64, half_life: i64) -> Self {
        let elapsed = now.saturating_sub(self.since).max(0);
        let count_f64 = f64::from(count);
        let gained = if half_life <= 0 || elapsed == 0 || count <= 1 {
            count_f64
        } else {
            // A geometric series over steps of elapsed / count; `exp_m1` keeps its digits where a step is next to nothing.
            let whole = elapsed as f64 / half_life as f64 * std::f64::consts::LN_2;
            (-whole).exp_m1() / (-whole / count_f64).exp_m1()
        };
        Self { value: self.at(now, half_life) + gained, since: now.max(self.since) }
    }
}

/// What is known of a memory when tiers are decided.
#[derive(Debug, Clone, Copy, PartialEq)]
#[allow(clippy::struct_excessive_bools)] // independent facts, not a state machine
pub struct MemoryState {
    /// Its id.
    pub id: Id,
    /// Number of its tier.
    pub tier: u8,
    /// Access heat.
    pub heat: Heat,
    /// Event time, microseconds.
    pub occurred_at: i64,
    /// 0 to 1.
    pub confidence: f64,
    /// Memories that rest on it.
    pub support: u32,
    /// Never archived for lack of room.
    pub is_pinned: bool,
    /// Already out of search: neither counted nor decided about.
    pub is_archived: bool,
    /// Whether a derived memory stands for it already, so that it has nothing left to give to a promotion.
    pub is_consolidated: bool,
    /// Whether it is a turn, which summaries are made of.
    pub is_turn: bool,
    /// Number of its session within the batch, for summaries.
    pub session: u32,
    /// Whether its session's ring still holds it.
    pub in_ring: bool,
}

/// How tiers are decided. Times in microseconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TierPolicy {
    /// Half-life of heat and of the worth of being recent.
    pub half_life: i64,
    /// Per tier number, most memories that are not archived; tiers beyond the array are not limited.
    pub capacity: [usize; 4],
    /// Heat at which a memory is due for promotion.
    pub promote_heat: f64,
    /// Turns of a session, out of its ring and not consolidated, at which the session is due for a summary.
    pub summarise_turns: usize,
}

/// What should happen; the caller makes it durable, or not.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TierDecisions<S = u32> {
    /// Sessions due for a summary, ascending; by number, or as a [`TierBook`] tells them by name.
    pub summarise: Vec<S>,
    /// Memories due for consolidation into LTM, hottest first.
    pub promote: Vec<Id>,
    /// Memories to archive, least useful first.
    pub archive: Vec<Id>,
}

/// Number of the tier that turns and summaries live in.
const MTM: u8 = 2;

/// Decide for one user's memories. The same input gives the same output, in whatever order the memories come.
#[must_use]
pub fn decide(policy: &TierPolicy, now: i64, memories: &[MemoryState]) -> TierDecisions {
    let active = || memories.iter().filter(|memory| !memory.is_archived);
    let mut waiting: BTreeMap<u32, usize> = BTreeMap::new();
    let is_waiting = |m: &&MemoryState| m.tier == MTM && m.is_turn && !m.in_ring && !m.is_consolidated;
    for memory in active().filter(is_waiting) {
        *waiting.entry(memory.session).or_default() += 1;
    }
    let is_due = |&(_, count): &(u32, usize)| count >= policy.summarise_turns.max(1);
    let summarise = waiting.into_iter().filter(is_due).map(|(session, _)| session).collect();

    let mut hot: Vec<(f64, Id)> = active()
        .filter(|memory| memory.tier == MTM && !memory.is_consolidated)
        .map(|memory| (memory.heat.at(now, policy.half_life), memory.id))
        .filter(|(heat, _)| *heat >= policy.promote_heat)
        .collect();
    hot.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));

    let mut archive = Vec::new();
    for (tier, &capacity) in (0_u8..).zip(&policy.capacity) {
        let mut held: Vec<(f64, i64, &MemoryState)> = active()
            .filter(|memory| memory.tier == tier)
            .map(|memory| (utility(policy, now, memory), memory.occurred_at, memory))
            .collect();
        let excess = held.len().saturating_sub(capacity);
        held.retain(|(_, _, memory)| !memory.is_pinned && !memory.in_ring);
        held.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)).then(a.2.id.cmp(&b.2.id)));
        archive.extend(held.into_iter().take(excess).map(|(_, _, memory)| memory.id));
    }
    TierDecisions { summarise, promote: hot.into_iter().map(|(_, id)| id).collect(), archive }
}

/// What a memory is worth: its heat, its support, how recent and how sure it is; less once something stands for it.
#[must_use]
pub fn utility(policy: &TierPolicy, now: i64, memory: &MemoryState) -> f64 {
    let recency = Heat { value: 1.0, since: memory.occurred_at }.at(now, policy.half_life);
    let worth = memory.heat.at(now, policy.half_life) + f64::from(memory.support).ln_1p() + recency;
    worth * memory.confidence.clamp(0.0, 1.0) * if memory.is_consolidated { 0.5 } else { 1.0 }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    prop_compose! {
        fn states()(
            tier in 1_u8..4, value in 0.0_f64..9.0, since in 0_i64..100, occurred_at in 0_i64..100, support in 0_u32..5,
            flags in any::<[bool; 5]>(), session in 0_u32..4,
        ) -> MemoryState {
            let [is_pinned, is_archived, is_consolidated, in_ring, is_turn] = flags;
            MemoryState {
                id: [0; 16], tier, heat: Heat { value, since }, occurred_at, confidence: 1.0, support, is_pinned,
                is_archived, is_consolidated, is_turn, session, in_ring,
            }
        }
    }

    proptest! {
        #[test]
        fn decisions_keep_their_promises(states in prop::collection::vec(states(), 0..60), mtm in 0_usize..20) {
            let policy = TierPolicy {
                half_life: 20, capacity: [usize::MAX, usize::MAX, mtm, 5], promote_heat: 2.0, summarise_turns: 3,
            };
            let mut states = states;
            for (number, state) in (0_u128..).zip(&mut states) {
                state.id = number.to_be_bytes();
            }
            let decided = decide(&policy, 100, &states);
            let mut shuffled = states.clone();
            shuffled.reverse();
            prop_assert_eq!(&decide(&policy, 100, &shuffled), &decided);
            let state = |id: &Id| states[u128::from_be_bytes(*id) as usize];
            for id in &decided.archive {
                prop_assert!(!state(id).is_pinned && !state(id).is_archived && !state(id).in_ring);
            }
            for (tier, capacity) in [(2, mtm), (3, 5)] {
                let held: Vec<_> = states.iter().filter(|s| s.tier == tier && !s.is_archived).collect();
                let gone: Vec<_> = decided.archive.iter().map(state).filter(|s| s.tier == tier).collect();
                let free = held.iter().filter(|s| !s.is_pinned && !s.in_ring).count();
                prop_assert_eq!(gone.len(), held.len().saturating_sub(capacity).min(free));
                let most = gone.iter().map(|s| utility(&policy, 100, s)).fold(f64::NEG_INFINITY, f64::max);
                for kept in held.iter().filter(|s| !s.is_pinned && !s.in_ring && !decided.archive.contains(&s.id)) {
                    prop_assert!(utility(&policy, 100, kept) >= most);
                }
            }
            for session in 0..4 {
                let is_waiting = |s: &&MemoryState| {
                    s.session == session && s.tier == 2 && s.is_turn && !s.is_archived && !s.in_ring && !s.is_consolidated
                };
                prop_assert_eq!(decided.summarise.contains(&session), states.iter().filter(is_waiting).count() >= 3);
            }
            for id in &decided.promote {
                prop_assert!(state(id).tier == 2 && state(id).heat.at(100, 20) >= 2.0 && !state(id).is_consolidated);
            }
        }
    }
}
