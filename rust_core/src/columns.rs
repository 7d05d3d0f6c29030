//! The scalar columns of a partition, and a summary per block of rows that lets a filter skip blocks.

use crate::lexical::scan::BLOCK;
use crate::rows::Id;
use crate::tiers::Heat;

/// Set in [`Row::flags`] for archived rows.
pub(crate) const ARCHIVED: u8 = 1;
/// Set in [`Row::flags`] for pinned rows.
pub(crate) const PINNED: u8 = 2;
/// Set in [`Row::flags`] for rows of an STM ring.
pub(crate) const IN_RING: u8 = 4;

/// Units of a prior of 1: a whole number keeps sums exact, whatever their order.
pub(crate) const PRIOR_UNIT: f32 = 65_536.0;

/// Units of a heat of 1.
const HEAT_UNIT: f64 = 65_536.0;

macro_rules! columns {
    ($($(#[$doc:meta])* $name:ident: $type:ty,)*) => {
        /// One row's scalar values; sessions, agents and metadata by number.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) struct Row { $($(#[$doc])* pub(crate) $name: $type,)* }

        /// The columns; all of one length.
        #[derive(Debug, Default)]
        pub(crate) struct Columns {
            $(pub(crate) $name: Vec<$type>,)*
            zones: Vec<Zone>,
        }

        impl Columns {
            fn push_row(&mut self, row: &Row) { $(push_slowly(&mut self.$name, row.$name);)* }

            fn set_row(&mut self, position: usize, row: &Row) {
                $(if let Some(value) = self.$name.get_mut(position) { *value = row.$name; })*
            }

            fn swap_remove_row(&mut self, position: usize) { $(self.$name.swap_remove(position);)* }

            /// The values of a row.
            pub(crate) fn get(&self, position: usize) -> Option<Row> {
                Some(Row { $($name: *self.$name.get(position)?,)* })
            }

            /// Expect `rows` more rows.
            pub(crate) fn reserve_exact(&mut self, rows: usize) { $(self.$name.reserve_exact(rows);)* }

            /// Bytes of heap.
            pub(crate) fn size_bytes(&self) -> usize {
                self.zones.capacity() * size_of::<Zone>() $(+ self.$name.capacity() * size_of::<$type>())*
            }
        }
    };
}

columns! {
    id: Id,
    order: u64,
    occurred_at: i64,
    valid_from: i64,
    valid_to: i64,
    expires_at: i64,
    session: u32,
    agent: u32,
    speaker: u32,
    metadata: u32,
    token_count: u32,
    /// In units of 1/[`PRIOR_UNIT`].
    prior: i32,
    /// In units of 1/[`HEAT_UNIT`], at `heat_since`.
    heat: u32,
    heat_since: i64,
    tier: u8,
    kind: u8,
    flags: u8,
}

impl Row {
    /// Its access heat.
    pub(crate) fn heat(&self) -> Heat {
        Heat { value: f64::from(self.heat) / HEAT_UNIT, since: self.heat_since }
    }

    /// Set its access heat; beyond 65,535 it stays there.
    pub(crate) fn set_heat(&mut self, heat: Heat) {
        // Not negative, and saturating.
        #[allow(clippy::cast_sign_loss)]
        let units = (heat.value * HEAT_UNIT).round() as u32;
        (self.heat, self.heat_since) = (units, heat.since);
    }
}

/// Append, growing by a quarter.
pub(crate) fn push_slowly<T>(column: &mut Vec<T>, value: T) {
    if column.len() == column.capacity() {
        column.reserve_exact((column.len() / 4).max(16));
    }
    column.push(value);
}

impl Columns {
    /// Rows held.
    pub(crate) fn len(&self) -> usize {
        self.id.len()
    }

    /// Append a row.
    pub(crate) fn push(&mut self, row: &Row) {
        if self.len().is_multiple_of(BLOCK) {
            self.zones.push(Zone::new(row));
        }
        self.push_row(row);
        self.widen(self.len() - 1, row);
    }

    /// Replace a row.
    pub(crate) fn set(&mut self, position: usize, row: &Row) {
        self.set_row(position, row);
        self.widen(position, row);
    }

    /// Remove a row; the last one takes its place.
    pub(crate) fn swap_remove(&mut self, position: usize) {
        if position >= self.len() {
            return;
        }
        self.swap_remove_row(position);
        self.zones.truncate(self.len().div_ceil(BLOCK));
        if let Some(moved) = self.get(position) {
            self.widen(position, &moved);
        }
    }

    /// The summary of the block that holds a row.
    pub(crate) fn zone(&self, position: usize) -> Option<&Zone> {
        self.zones.get(position / BLOCK)
    }

    fn widen(&mut self, position: usize, row: &Row) {
        if let Some(zone) = self.zones.get_mut(position / BLOCK) {
            zone.widen(row);
        }
    }
}

/// What the rows of a block have in common. Only ever widened: a zone may say less than is true, never more, and a
/// partition that is loaded again has tight ones.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Zone {
    /// Bit t is set when a row of tier t may be here.
    pub(crate) tiers: u32,
    /// Bit k is set when a row of kind k may be here.
    pub(crate) kinds: u32,
    pub(crate) has_archived: bool,
    pub(crate) occurred: (i64, i64),
    pub(crate) first_expiry: i64,
    pub(crate) last_valid_from: i64,
    pub(crate) first_valid_to: i64,
    pub(crate) sessions: (u32, u32),
}

impl Zone {
    fn new(row: &Row) -> Self {
        Self {
            tiers: 0,
            kinds: 0,
            has_archived: false,
            occurred: (row.occurred_at, row.occurred_at),
            first_expiry: row.expires_at,
            last_valid_from: row.valid_from,
            first_valid_to: row.valid_to,
            sessions: (row.session, row.session),
        }
    }

    fn widen(&mut self, row: &Row) {
        self.tiers |= 1 << (row.tier & 31);
        self.kinds |= 1 << (row.kind & 31);
        self.has_archived |= row.flags & ARCHIVED != 0;
        self.occurred = (self.occurred.0.min(row.occurred_at), self.occurred.1.max(row.occurred_at));
        self.first_expiry = self.first_expiry.min(row.expires_at);
        self.last_valid_from = self.last_valid_from.max(row.valid_from);
        self.first_valid_to = self.first_valid_to.min(row.valid_to);
        self.sessions = (self.sessions.0.min(row.session), self.sessions.1.max(row.session));
    }
}
