//! A batch of rows as columns: what crosses into the core, checked before anything is changed.

use std::collections::BTreeMap;

use crate::error::CoreError;
use crate::metadata::{Scalar, check_scalar};
use crate::tiers::Heat;

/// A memory's id: the 16 bytes of its UUID.
pub type Id = [u8; 16];

/// `valid_from` of a row whose validity has no beginning.
pub const ALWAYS: i64 = i64::MIN;
/// `valid_to` and `expires_at` of a row without an end.
pub const NEVER: i64 = i64::MAX;

/// n rows as columns. Every column has n entries, or n times `views` where it says so.
#[derive(Debug, Clone, Default)]
pub struct Rows {
    /// Ids, each at most once.
    pub ids: Vec<Id>,
    /// (n, views, dim): brought to unit length when stored; all zero for a row that no dense list may find.
    pub vectors: Vec<f32>,
    /// (n, views): what the lexical lists index.
    pub texts: Vec<String>,
    /// Numbers of the tiers, 0 to 31.
    pub tiers: Vec<u8>,
    /// Numbers of the kinds, 0 to 31.
    pub kinds: Vec<u8>,
    /// Sessions, "" for none.
    pub sessions: Vec<String>,
    /// Agents, "" for none.
    pub agents: Vec<String>,
    /// Event times, microseconds.
    pub occurred_at: Vec<i64>,
    /// Beginning of validity, included; [`ALWAYS`] for no limit.
    pub valid_from: Vec<i64>,
    /// End of validity, excluded; [`NEVER`] for no limit.
    pub valid_to: Vec<i64>,
    /// From when on the row is not found; [`NEVER`] for no limit.
    pub expires_at: Vec<i64>,
    /// Tokens, for the STM rings.
    pub token_counts: Vec<u32>,
    /// Whether the row is out of search.
    pub is_archived: Vec<bool>,
    /// Whether the row must not be archived for lack of room.
    pub is_pinned: Vec<bool>,
    /// Whether the row belongs to its session's STM ring.
    pub in_ring: Vec<bool>,
    /// What the writer attached.
    pub metadata: Vec<BTreeMap<String, Scalar>>,
    /// Commit order of each row's first version.
    pub orders: Vec<u64>,
    /// Who spoke, "" for nobody. Empty: nobody at all.
    pub speakers: Vec<String>,
    /// How informative each row is in itself, -[`MAX_PRIOR`] to [`MAX_PRIOR`]. Empty: all 0.
    pub priors: Vec<f32>,
    /// What each row adds to its session's document. Empty: nothing.
    pub session_texts: Vec<String>,
    /// Ids that each row rests on, held or not. Empty: none.
    pub links: Vec<Vec<Id>>,
    /// Access heat of each row, where it is new: one that is held keeps its own. Empty: none has any.
    pub heats: Vec<Heat>,
}

/// Bound of [`Rows::priors`].
pub const MAX_PRIOR: f32 = 1000.0;

impl Rows {
    /// Rows in the batch.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether the batch has no rows.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// Append a plain conversation turn of tier 2 (MTM) and kind 1 (turn), one text per view and `vectors` of all views.
    ///
    /// For examples, tests and benches; its token count is the number of white-space separated words.
    pub fn push_turn(&mut self, id: Id, vectors: &[f32], texts: &[&str], session: &str, order: u64) {
        self.ids.push(id);
        self.vectors.extend_from_slice(vectors);
        self.texts.extend(texts.iter().map(|text| (*text).to_owned()));
        self.tiers.push(2);
        self.kinds.push(1);
        self.sessions.push(session.to_owned());
        self.agents.push(String::new());
        self.occurred_at.push(order.cast_signed());
        self.valid_from.push(ALWAYS);
        self.valid_to.push(NEVER);
        self.expires_at.push(NEVER);
        self.token_counts.push(texts.first().map_or(0, |text| text.split_whitespace().count() as u32));
        self.is_archived.push(false);
        self.is_pinned.push(false);
        self.in_ring.push(true);
        self.metadata.push(BTreeMap::new());
        self.orders.push(order);
    }

    /// Check every column's length and content against `views` and `dim`.
    ///
    /// # Errors
    /// [`CoreError::LengthMismatch`], [`CoreError::NotFinite`], [`CoreError::CodeOutOfRange`] or
    /// [`CoreError::DuplicateId`].
    pub fn check(&self, views: usize, dim: usize) -> Result<(), CoreError> {
        let n = self.len();
        let lengths = [
            ("vectors", self.vectors.len(), n * views * dim),
            ("texts", self.texts.len(), n * views),
            ("tiers", self.tiers.len(), n),
            ("kinds", self.kinds.len(), n),
            ("sessions", self.sessions.len(), n),
            ("agents", self.agents.len(), n),
            ("occurred_at", self.occurred_at.len(), n),
            ("valid_from", self.valid_from.len(), n),
            ("valid_to", self.valid_to.len(), n),
            ("expires_at", self.expires_at.len(), n),
            ("token_counts", self.token_counts.len(), n),
            ("is_archived", self.is_archived.len(), n),
            ("is_pinned", self.is_pinned.len(), n),
            ("in_ring", self.in_ring.len(), n),
            ("metadata", self.metadata.len(), n),
            ("orders", self.orders.len(), n),
        ];
        let optional = [
            ("speakers", self.speakers.len(), n),
            ("priors", self.priors.len(), n),
            ("session_texts", self.session_texts.len(), n),
            ("links", self.links.len(), n),
            ("heats", self.heats.len(), n),
        ];
        let given = optional.into_iter().filter(|&(_, actual, _)| actual > 0);
        for (field, actual, expected) in lengths.into_iter().chain(given) {
            if actual != expected {
                return Err(CoreError::LengthMismatch { field, expected, actual });
            }
        }
        if let Some(position) = self.priors.iter().position(|prior| prior.is_nan() || prior.abs() > MAX_PRIOR) {
            return Err(CoreError::NotFinite { field: "priors", position });
        }
        if let Some(position) = self.heats.iter().position(|heat| !(0.0..=f64::MAX).contains(&heat.value)) {
            return Err(CoreError::NotFinite { field: "heats", position });
        }
        if let Some(position) = self.vectors.iter().position(|x| !x.is_finite()) {
            return Err(CoreError::NotFinite { field: "vectors", position: position / (views * dim).max(1) });
        }
        for (field, codes) in [("tiers", &self.tiers), ("kinds", &self.kinds)] {
            if let Some(&value) = codes.iter().find(|&&code| code > 31) {
                return Err(CoreError::CodeOutOfRange { field, value });
            }
        }
        for (position, metadata) in self.metadata.iter().enumerate() {
            metadata.values().try_for_each(|value| check_scalar(value, position))?;
        }
        let mut sorted: Vec<&Id> = self.ids.iter().collect();
        sorted.sort_unstable();
        match sorted.windows(2).find_map(|pair| match pair {
            [a, b] if a == b => Some(u128::from_be_bytes(**a)),
            _ => None,
        }) {
            Some(id) => Err(CoreError::DuplicateId { id }),
            None => Ok(()),
        }
    }
}
