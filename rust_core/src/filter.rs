//! Which rows a search considers, evaluated block by block before any score is computed.

use std::ops::Range;

use crate::columns::{ARCHIVED, Columns, Zone};
use crate::error::CoreError;
use crate::lexical::scan::BLOCK;
use crate::metadata::{Expression, MetadataTable};
use crate::rows::{ALWAYS, NEVER};

/// Words of a block's mask.
pub(crate) const WORDS: usize = BLOCK / 64;

/// What a search considers. Empty lists don't restrict; all fields hold together. Archived rows never match, nor do
/// expired ones, nor those not valid at `as_of` (or at the plan's `now`).
#[derive(Debug, Clone, PartialEq)]
pub struct SearchFilter {
    /// Numbers of tiers.
    pub tiers: Vec<u8>,
    /// Numbers of kinds.
    pub kinds: Vec<u8>,
    /// Sessions.
    pub sessions: Vec<String>,
    /// Agents.
    pub agents: Vec<String>,
    /// `occurred_at` at or after this; [`ALWAYS`] for no limit.
    pub occurred_from: i64,
    /// `occurred_at` before this; [`NEVER`] for no limit.
    pub occurred_to: i64,
    /// The moment at which rows must be valid.
    pub as_of: Option<i64>,
    /// A condition on metadata.
    pub metadata: Option<Expression>,
}

impl Default for SearchFilter {
    fn default() -> Self {
        Self {
            tiers: Vec::new(),
            kinds: Vec::new(),
            sessions: Vec::new(),
            agents: Vec::new(),
            occurred_from: ALWAYS,
            occurred_to: NEVER,
            as_of: None,
            metadata: None,
        }
    }
}

/// A filter bound to one partition: names turned into numbers.
pub(crate) struct RowFilter<'a> {
    tiers: u32,
    kinds: u32,
    sessions: Option<Vec<u32>>,
    agents: Option<Vec<u32>>,
    occurred: Range<i64>,
    valid_at: i64,
    now: i64,
    metadata: Option<(&'a Expression, &'a MetadataTable)>,
    /// Per metadata set: not yet evaluated, or whether it matches.
    verdicts: Vec<Option<bool>>,
}

impl<'a> RowFilter<'a> {
    /// Bind a filter; `number` gives the number of a session or agent, `None` for one that no row has.
    pub(crate) fn new(
        filter: &'a SearchFilter,
        now: i64,
        number: impl Fn(&str) -> Option<u32>,
        metadata: &'a MetadataTable,
    ) -> Result<Self, CoreError> {
        if let Some(expression) = &filter.metadata {
            expression.check()?;
        }
        let numbers = |names: &[String]| {
            let mut found: Vec<u32> = names.iter().filter_map(|name| number(name)).collect();
            found.sort_unstable();
            (!names.is_empty()).then_some(found)
        };
        Ok(Self {
            tiers: bits("tiers", &filter.tiers)?,
            kinds: bits("kinds", &filter.kinds)?,
            sessions: numbers(&filter.sessions),
            agents: numbers(&filter.agents),
            occurred: filter.occurred_from..filter.occurred_to,
            valid_at: filter.as_of.unwrap_or(now),
            now,
            metadata: filter.metadata.as_ref().map(|expression| (expression, metadata)),
            verdicts: vec![None; if filter.metadata.is_some() { metadata.len() } else { 0 }],
        })
    }

    /// The rows of a block that match, as a mask, and how many they are. `rows` starts at a multiple of [`BLOCK`].
    pub(crate) fn mask(&mut self, columns: &Columns, rows: Range<usize>) -> ([u64; WORDS], usize) {
        let mut mask = [0_u64; WORDS];
        let Some(zone) = columns.zone(rows.start).filter(|zone| self.may_match(zone)) else { return (mask, 0) };
        let mut matched = 0;
        for (word, start) in mask.iter_mut().zip(rows.clone().step_by(64)) {
            let group = start..rows.end.min(start + 64);
            *word = self.group(columns, zone, group);
            matched += word.count_ones() as usize;
        }
        (mask, matched)
    }

    /// Whether one row matches.
    pub(crate) fn matches(&mut self, columns: &Columns, row: usize) -> bool {
        let zone = columns.zone(row).filter(|_| row < columns.len());
        zone.is_some_and(|zone| self.may_match(zone) && self.group(columns, zone, row..row + 1) == 1)
    }

    fn may_match(&self, zone: &Zone) -> bool {
        zone.tiers & self.tiers != 0
            && zone.kinds & self.kinds != 0
            && zone.occurred.1 >= self.occurred.start
            && (zone.occurred.0 < self.occurred.end || self.occurred.end == NEVER)
            && self
                .sessions
                .as_ref()
                .is_none_or(|wanted| wanted.iter().any(|session| (zone.sessions.0..=zone.sessions.1).contains(session)))
            && self.agents.as_ref().is_none_or(|wanted| !wanted.is_empty())
    }

    /// The mask of up to 64 rows. Column by column, so that each comparison is a simple loop, and only those columns
    /// that the zone doesn't settle; metadata last, since it costs most.
    fn group(&mut self, columns: &Columns, zone: &Zone, rows: Range<usize>) -> u64 {
        let mut word = if rows.len() == 64 { u64::MAX } else { (1 << rows.len()) - 1 };
        let at = |position: usize| rows.start + position;
        if zone.has_archived {
            word &= test(columns.flags.get(rows.clone()), |&flags| flags & ARCHIVED == 0);
        }
        if zone.tiers & !self.tiers != 0 {
            word &= test(columns.tier.get(rows.clone()), |&tier| self.tiers >> (tier & 31) & 1 == 1);
        }
        if zone.kinds & !self.kinds != 0 {
            word &= test(columns.kind.get(rows.clone()), |&kind| self.kinds >> (kind & 31) & 1 == 1);
        }
        if zone.occurred.0 < self.occurred.start {
            word &= test(columns.occurred_at.get(rows.clone()), |&time| time >= self.occurred.start);
        }
        if zone.occurred.1 >= self.occurred.end && self.occurred.end != NEVER {
            word &= test(columns.occurred_at.get(rows.clone()), |&time| time < self.occurred.end);
        }
        if zone.first_expiry <= self.now {
            word &= test(columns.expires_at.get(rows.clone()), |&time| time > self.now || time == NEVER);
        }
        if zone.last_valid_from > self.valid_at {
            word &= test(columns.valid_from.get(rows.clone()), |&time| time <= self.valid_at);
        }
        if zone.first_valid_to <= self.valid_at {
            word &= test(columns.valid_to.get(rows.clone()), |&time| time > self.valid_at || time == NEVER);
        }
        for (wanted, column) in [(&self.sessions, &columns.session), (&self.agents, &columns.agent)] {
            match wanted.as_deref() {
                Some([one]) => word &= test(column.get(rows.clone()), |number| number == one),
                Some(wanted) if word != 0 => {
                    word &= test(column.get(rows.clone()), |number| wanted.binary_search(number).is_ok());
                }
                None | Some(_) => {}
            }
        }
        if self.metadata.is_some() {
            let mut left = word;
            while left != 0 {
                let bit = left.trailing_zeros() as usize;
                left &= left - 1;
                if !columns.metadata.get(at(bit)).is_some_and(|&set| self.metadata_matches(set)) {
                    word &= !(1 << bit);
                }
            }
        }
        word
    }

    fn metadata_matches(&mut self, set: u32) -> bool {
        let Some((expression, table)) = self.metadata else { return true };
        let Some(verdict) = self.verdicts.get_mut(set as usize) else { return false };
        *verdict.get_or_insert_with(|| table.get(set).is_some_and(|metadata| expression.matches(metadata)))
    }
}

/// Bit i of the result: whether value i passes. At most 64 values.
fn test<T>(values: Option<&[T]>, passes: impl Fn(&T) -> bool) -> u64 {
    let bits = values.unwrap_or_default().iter().enumerate();
    bits.fold(0, |word, (position, value)| word | u64::from(passes(value)) << position)
}

/// A set of codes as bits; all bits for an empty list.
fn bits(field: &'static str, codes: &[u8]) -> Result<u32, CoreError> {
    if let Some(&value) = codes.iter().find(|&&code| code > 31) {
        return Err(CoreError::CodeOutOfRange { field, value });
    }
    Ok(if codes.is_empty() { u32::MAX } else { codes.iter().fold(0, |set, code| set | 1 << code) })
}
