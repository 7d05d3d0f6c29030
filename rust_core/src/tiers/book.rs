//! What is known of one user's memories, from the events of their life.

use std::collections::{BTreeMap, BTreeSet};

use super::{Heat, MemoryState, RingLimits, SessionTurns, TierDecisions, TierPolicy, decide};
use crate::error::CoreError;
use crate::rows::Id;

/// A memory as the book tracks it.
#[derive(Debug, Clone, PartialEq)]
#[allow(clippy::struct_excessive_bools)] // independent facts, not a state machine
pub struct Tracked {
    /// Its id.
    pub id: Id,
    /// Its session, "" for none.
    pub session: String,
    /// Commit order of its first version.
    pub order: u64,
    /// Tokens, for the ring.
    pub token_count: u32,
    /// Whether it is a turn: part of its session's STM ring, and what summaries are made of.
    pub is_turn: bool,
    /// Number of its tier, 0 to 31.
    pub tier: u8,
    /// Event time, microseconds.
    pub occurred_at: i64,
    /// Access heat so far; of a memory never accessed 0 since it was made.
    pub heat: Heat,
    /// 0 to 1.
    pub confidence: f64,
    /// Memories that rest on it.
    pub support: u32,
    /// Never archived for lack of room.
    pub is_pinned: bool,
    /// Out of search, still there.
    pub is_archived: bool,
    /// Whether a derived memory stands for it already.
    pub is_consolidated: bool,
}

/// Something that happened to a user's memories. One that names a memory the book doesn't hold changes nothing: it was
/// removed meanwhile.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A memory was added, or changed so that all of this is true of it now.
    Added(Tracked),
    /// It was returned to somebody `count` times, the last time at `at`.
    Accessed {
        /// Whose.
        id: Id,
        /// Microseconds.
        at: i64,
        /// How often since it was last noted.
        count: u32,
    },
    /// It was pinned.
    Pinned(Id),
    /// It was unpinned.
    Unpinned(Id),
    /// So many memories rest on it now.
    Supported {
        /// Whose.
        id: Id,
        /// All of them.
        count: u32,
    },
    /// A derived memory stands for it now.
    Consolidated(Id),
    /// It was taken out of search.
    Archived(Id),
    /// It was taken back into search.
    Restored(Id),
    /// It was deleted.
    Removed(Id),
    /// It is this late at least, in microseconds. Time never goes back.
    Passed(i64),
}

/// Memories of one tier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TierCount {
    /// In search.
    pub active: usize,
    /// Out of search.
    pub archived: usize,
}

/// One user's book. A pure function of its policy and the events replayed: the same history gives the same book and the
/// same decisions, and [`Self::history`] is a short history that gives the book again.
///
/// ```
/// use lightmem_core::tiers::{Event, Heat, RingLimits, TierBook, TierPolicy, Tracked};
///
/// # fn main() -> Result<(), lightmem_core::error::CoreError> {
/// let policy = TierPolicy { half_life: 100, capacity: [9, 9, 2, 9], promote_heat: 2.0, summarise_turns: 2 };
/// let mut book = TierBook::new(policy, RingLimits { turns: 1, tokens: 100 });
/// let turn = |number: u8| Tracked {
///     id: [number; 16], session: "s".into(), order: u64::from(number), token_count: 5, is_turn: true, tier: 2,
///     occurred_at: i64::from(number), heat: Heat { value: 0.0, since: i64::from(number) }, confidence: 1.0, support: 0,
///     is_pinned: false, is_archived: false, is_consolidated: false,
/// };
/// book.replay([1, 2, 3].map(|number| Event::Added(turn(number))))?;
/// book.replay([Event::Accessed { id: [1; 16], at: 4, count: 1 }])?;
/// assert_eq!(book.session_ring("s"), [[3; 16]]);
/// let decided = book.decide();
/// assert_eq!((decided.archive, decided.summarise), (vec![[2; 16]], vec!["s".to_owned()]));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct TierBook {
    policy: TierPolicy,
    limits: RingLimits,
    now: i64,
    memories: BTreeMap<Id, Tracked>,
    /// Turns by session; a session without turns has no entry.
    sessions: BTreeMap<String, SessionTurns<Id>>,
}

impl TierBook {
    /// A book without memories, at the beginning of time.
    #[must_use]
    pub fn new(policy: TierPolicy, limits: RingLimits) -> Self {
        Self { policy, limits, now: i64::MIN, memories: BTreeMap::new(), sessions: BTreeMap::new() }
    }

    /// Note what happened, in order; all or nothing.
    ///
    /// # Errors
    /// [`CoreError::CodeOutOfRange`] or [`CoreError::NotFinite`]; nothing was noted.
    pub fn replay(&mut self, events: impl IntoIterator<Item = Event>) -> Result<(), CoreError> {
        let events: Vec<Event> = events.into_iter().collect();
        for (position, event) in events.iter().enumerate() {
            let Event::Added(memory) = event else { continue };
            if memory.tier > 31 {
                return Err(CoreError::CodeOutOfRange { field: "tiers", value: memory.tier });
            }
            for (field, value) in [("confidences", memory.confidence), ("heats", memory.heat.value)] {
                if !value.is_finite() {
                    return Err(CoreError::NotFinite { field, position });
                }
            }
        }
        for event in events {
            self.note(event);
        }
        Ok(())
    }

    /// Ids in a session's STM ring, oldest first.
    #[must_use]
    pub fn session_ring(&self, session: &str) -> Vec<Id> {
        self.sessions.get(session).map(|turns| self.ring(turns).collect()).unwrap_or_default()
    }

    /// The heat of a memory as of now; `None` when it is not held.
    #[must_use]
    pub fn heat(&self, id: &Id) -> Option<f64> {
        self.memories.get(id).map(|memory| memory.heat.at(self.now, self.policy.half_life))
    }

    /// Memories per tier; tiers without any are left out.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<u8, TierCount> {
        let mut counts: BTreeMap<u8, TierCount> = BTreeMap::new();
        for memory in self.memories.values() {
            let count = counts.entry(memory.tier).or_default();
            *(if memory.is_archived { &mut count.archived } else { &mut count.active }) += 1;
        }
        counts
    }

    /// What should happen as of now.
    #[must_use]
    pub fn decide(&self) -> TierDecisions<String> {
        let sessions: Vec<&String> = self.sessions.keys().collect();
        let TierDecisions { summarise, promote, archive } = decide(&self.policy, self.now, &self.states());
        let named = summarise.into_iter().filter_map(|number| sessions.get(number as usize).copied().cloned());
        TierDecisions { summarise: named.collect(), promote, archive }
    }

    /// A history that gives this book: its snapshot.
    #[must_use]
    pub fn history(&self) -> Vec<Event> {
        let added = self.memories.values().cloned().map(Event::Added);
        added.chain(std::iter::once(Event::Passed(self.now))).collect()
    }

    fn ring<'a>(&'a self, turns: &'a SessionTurns<Id>) -> impl Iterator<Item = Id> + 'a {
        turns.ring(self.limits, |id| self.memories.get(&id).map_or(0, |memory| memory.token_count))
    }

    fn states(&self) -> Vec<MemoryState> {
        let in_rings: BTreeSet<Id> = self.sessions.values().flat_map(|turns| self.ring(turns)).collect();
        let numbers: BTreeMap<&str, u32> = self.sessions.keys().map(String::as_str).zip(0..).collect();
        let state = |memory: &Tracked| MemoryState {
            id: memory.id,
            tier: memory.tier,
            heat: memory.heat,
            occurred_at: memory.occurred_at,
            confidence: memory.confidence,
            support: memory.support,
            is_pinned: memory.is_pinned,
            is_archived: memory.is_archived,
            is_consolidated: memory.is_consolidated,
            is_turn: memory.is_turn,
            session: numbers.get(memory.session.as_str()).copied().unwrap_or(u32::MAX),
            in_ring: in_rings.contains(&memory.id),
        };
        self.memories.values().map(state).collect()
    }

    fn note(&mut self, event: Event) {
        let half_life = self.policy.half_life;
        match event {
            Event::Added(memory) => {
                self.remove(&memory.id);
                self.pass(memory.heat.since);
                if memory.is_turn {
                    self.sessions.entry(memory.session.clone()).or_default().insert(memory.order, memory.id);
                }
                self.memories.insert(memory.id, memory);
            }
            Event::Accessed { id, at, count } => {
                self.pass(at);
                self.change(&id, |memory| memory.heat = memory.heat.accessed_often(count, at, half_life));
            }
            Event::Pinned(id) => self.change(&id, |memory| memory.is_pinned = true),
            Event::Unpinned(id) => self.change(&id, |memory| memory.is_pinned = false),
            Event::Supported { id, count } => self.change(&id, |memory| memory.support = count),
            Event::Consolidated(id) => self.change(&id, |memory| memory.is_consolidated = true),
            Event::Archived(id) => self.change(&id, |memory| memory.is_archived = true),
            Event::Restored(id) => self.change(&id, |memory| memory.is_archived = false),
            Event::Removed(id) => self.remove(&id),
            Event::Passed(now) => self.pass(now),
        }
    }

    fn pass(&mut self, now: i64) {
        self.now = self.now.max(now);
    }

    fn change(&mut self, id: &Id, change: impl FnOnce(&mut Tracked)) {
        if let Some(memory) = self.memories.get_mut(id) {
            change(memory);
        }
    }

    fn remove(&mut self, id: &Id) {
        let Some(memory) = self.memories.remove(id) else { return };
        if let Some(turns) = self.sessions.get_mut(&memory.session) {
            turns.remove(memory.order, memory.id);
            if turns.is_empty() {
                self.sessions.remove(&memory.session);
            }
        }
    }
}
