//! One user's memories: columns, vectors, postings, metadata and STM rings, in step with each other.
//!
//! Rows are numbered without holes. A removed row's place is taken by the last one, so nothing is ever scanned that
//! is gone, no compaction is needed, and no text or vector of a deleted memory stays behind.

use std::collections::BTreeMap;
use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashMap, HashTable};

use crate::ann::Ann;
use crate::columns::{ARCHIVED, Columns, IN_RING, PINNED, PRIOR_UNIT, Row};
use crate::error::CoreError;
use crate::lexical::analyser::Analyser;
use crate::lexical::postings::{AnalysedRow, LexicalIndex};
use crate::links::Links;
use crate::metadata::{MetadataTable, Scalar};
use crate::rows::{Id, Rows};
use crate::tiers::{RingLimits, SessionTurns};
use crate::vector::store::VectorStore;

/// Most rows of a partition: far beyond one user's memories, and what an entry of the lexical lists has bits for.
pub const MAX_ROWS: usize = crate::lexical::postings::MAX_ROWS;

/// What all partitions of an engine share.
#[derive(Debug, Clone, Copy)]
pub struct Schema {
    /// Dimensions of a vector.
    pub dim: usize,
    /// Passage views per row.
    pub views: usize,
    /// Turns texts into terms.
    pub analyser: Analyser,
    /// Bounds of a session's STM ring.
    pub ring: RingLimits,
    /// In which access heat halves, microseconds.
    pub heat_half_life: i64,
    /// Whether vectors keep their low planes, which only rescoring reads.
    pub rescore_vectors: bool,
}

/// Bytes of heap that a partition takes, by what for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PartitionSizes {
    /// Vectors, as scanned.
    pub vectors_scan: usize,
    /// Vectors, what rescoring reads besides.
    pub vectors_rescore: usize,
    /// Terms and postings of the lexical lists.
    pub postings: usize,
    /// Ids, times and other scalars.
    pub columns: usize,
    /// Links between rows.
    pub links: usize,
    /// Metadata, names, STM rings.
    pub metadata: usize,
}

impl PartitionSizes {
    /// The sum.
    #[must_use]
    pub fn total(&self) -> usize {
        let Self { vectors_scan, vectors_rescore, postings, columns, links, metadata } = self;
        vectors_scan + vectors_rescore + postings + columns + links + metadata
    }
}

/// Checked rows with their texts analysed: the slow part of a change, done without any lock.
#[derive(Debug)]
pub struct PreparedRows<'a> {
    rows: &'a Rows,
    analysed: Vec<AnalysedRow>,
}

impl<'a> PreparedRows<'a> {
    /// Check and analyse a batch.
    ///
    /// # Errors
    /// Those of [`Rows::check`].
    pub fn new(schema: &Schema, rows: &'a Rows) -> Result<Self, CoreError> {
        rows.check(schema.views, schema.dim)?;
        let texts = rows.texts.chunks(schema.views.max(1)).enumerate();
        let analysed = texts.map(|(index, texts)| {
            let session_text = rows.session_texts.get(index);
            AnalysedRow::new(&schema.analyser, texts.iter().chain(session_text).map(String::as_str))
        });
        Ok(Self { rows, analysed: analysed.collect() })
    }
}

/// One user's rows.
#[derive(Debug)]
pub struct Partition {
    schema: Schema,
    version: u64,
    hasher: DefaultHashBuilder,
    positions: HashTable<u32>,
    pub(crate) columns: Columns,
    pub(crate) vectors: Vec<VectorStore>,
    pub(crate) lexical: LexicalIndex,
    pub(crate) metadata: MetadataTable,
    pub(crate) ann: Ann,
    pub(crate) links: Links,
    names: HashMap<Box<str>, u32>,
    /// Per session number, the positions of its ring rows.
    rings: Vec<SessionTurns<u32>>,
    /// Per session number, the terms of its document.
    session_lengths: Vec<u64>,
}

impl Partition {
    /// A partition with these rows.
    ///
    /// # Errors
    /// [`CoreError::TooManyRows`].
    pub fn new(schema: Schema, version: u64, prepared: &PreparedRows<'_>) -> Result<Self, CoreError> {
        let mut partition = Self::empty(schema, version);
        partition.reserve_exact(prepared.rows.len());
        partition.apply(version, prepared, &[])?;
        partition.lexical.shrink_to_fit();
        Ok(partition)
    }

    /// A partition without rows.
    #[must_use]
    pub(crate) fn empty(schema: Schema, version: u64) -> Self {
        Self {
            schema,
            version,
            hasher: DefaultHashBuilder::default(),
            positions: HashTable::new(),
            columns: Columns::default(),
            vectors: (0..schema.views).map(|_| VectorStore::new(schema.dim, schema.rescore_vectors)).collect(),
            // The view after the passage views holds the session texts.
            lexical: LexicalIndex::new(schema.views + 1),
            metadata: MetadataTable::default(),
            ann: Ann::default(),
            links: Links::default(),
            names: HashMap::new(),
            rings: Vec::new(),
            session_lengths: Vec::new(),
        }
    }

    /// Expect `rows` more rows.
    pub(crate) fn reserve_exact(&mut self, rows: usize) {
        self.columns.reserve_exact(rows);
        self.lexical.reserve_exact(rows);
        for store in &mut self.vectors {
            store.reserve_exact(rows);
        }
    }

    /// Add or replace rows and remove others, all or nothing, and move to `version`. Unknown removed ids are ignored.
    ///
    /// # Errors
    /// [`CoreError::VersionGoesBack`], [`CoreError::TooManyRows`], or [`CoreError::DuplicateId`] for an id that is both
    /// changed and removed; then nothing was changed.
    pub fn apply(&mut self, version: u64, prepared: &PreparedRows<'_>, removed: &[Id]) -> Result<(), CoreError> {
        if version < self.version {
            return Err(CoreError::VersionGoesBack { base_version: self.version, version });
        }
        if self.len() + prepared.rows.len() > MAX_ROWS {
            return Err(CoreError::TooManyRows { limit: MAX_ROWS });
        }
        if !removed.is_empty() {
            let gone: std::collections::HashSet<&Id> = removed.iter().collect();
            if let Some(id) = prepared.rows.ids.iter().find(|id| gone.contains(id)) {
                return Err(CoreError::DuplicateId { id: u128::from_be_bytes(*id) });
            }
        }
        // Nothing can fail from here on.
        for id in removed {
            self.remove(id);
        }
        for (index, analysed) in prepared.analysed.iter().enumerate() {
            self.put(prepared.rows, index, analysed);
        }
        self.ann.drop_worn();
        self.version = version;
        Ok(())
    }

    /// The version that the rows stand for.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Rows held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.columns.len()
    }

    /// Whether no row is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What the partition was made with.
    #[must_use]
    pub fn schema(&self) -> &Schema {
        &self.schema
    }

    /// Bytes of heap.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        size_of::<Self>() + self.sizes().total() + self.ann.size_bytes()
    }

    /// Bytes of heap, by what for.
    #[must_use]
    pub fn sizes(&self) -> PartitionSizes {
        let rings: usize = self.rings.iter().map(SessionTurns::size_bytes).sum();
        let names: usize = self.names.keys().map(|name| name.len()).sum();
        let mut sizes = PartitionSizes {
            postings: self.lexical.size_bytes(),
            columns: self.columns.size_bytes() + self.positions.allocation_size(),
            links: self.links.size_bytes(),
            metadata: self.metadata.size_bytes()
                + rings
                + names
                + self.rings.capacity() * size_of::<SessionTurns<u32>>()
                + self.session_lengths.capacity() * size_of::<u64>()
                + self.names.allocation_size(),
            ..PartitionSizes::default()
        };
        for store in &self.vectors {
            let (scan, rescore) = store.size_bytes();
            sizes.vectors_scan += scan;
            sizes.vectors_rescore += rescore;
        }
        sizes
    }

    /// Note an access of rows; ids that aren't held are ignored. The version stays: heat is a statistic.
    pub fn touch(&mut self, ids: &[Id], now: i64) {
        for id in ids {
            let Some(position) = self.position(id) else { continue };
            if let Some(mut row) = self.columns.get(position) {
                row.set_heat(row.heat().accessed(now, self.schema.heat_half_life));
                self.columns.set(position, &row);
            }
        }
    }

    /// Ids in a session's STM ring, oldest first: its newest ring rows that fit the limits. A pure function of the
    /// rows, so a partition that is loaded again has the same rings; a removed turn lets an older one back in.
    #[must_use]
    pub fn session_ring(&self, session: &str) -> Vec<Id> {
        let Some(ring) = self.names.get(session).and_then(|&number| self.rings.get(number as usize)) else {
            return Vec::new();
        };
        let tokens = |position: u32| self.columns.token_count.get(position as usize).copied().unwrap_or_default();
        let newest = ring.ring(self.schema.ring, tokens);
        newest.filter_map(|position| self.columns.id.get(position as usize).copied()).collect()
    }

    /// Rows in search, by the number of their tier, 0 to 3.
    #[must_use]
    pub fn active_counts(&self) -> [usize; 4] {
        let mut counts = [0; 4];
        for (&tier, &flags) in self.columns.tier.iter().zip(&self.columns.flags) {
            if let Some(count) = counts.get_mut(tier as usize).filter(|_| flags & ARCHIVED == 0) {
                *count += 1;
            }
        }
        counts
    }

    /// The position of a row.
    #[must_use]
    pub fn position(&self, id: &Id) -> Option<usize> {
        let hash = self.hasher.hash_one(id);
        let found = self.positions.find(hash, |&position| self.columns.id.get(position as usize) == Some(id));
        found.map(|&position| position as usize)
    }

    /// The number of a session or agent; `None` when no row ever had it.
    pub(crate) fn name_number(&self, name: &str) -> Option<u32> {
        self.names.get(name).copied()
    }

    fn name_number_or_insert(&mut self, name: &str) -> u32 {
        if let Some(&number) = self.names.get(name) {
            return number;
        }
        let number = self.names.len() as u32;
        self.names.insert(name.into(), number);
        self.rings.push(SessionTurns::default());
        self.session_lengths.push(0);
        number
    }

    fn put(&mut self, rows: &Rows, index: usize, analysed: &AnalysedRow) {
        let Some(mut row) = self.row(rows, index) else { return };
        self.links.set(row.id, rows.links.get(index).map(Vec::as_slice).unwrap_or_default());
        let (dim, views) = (self.schema.dim, self.schema.views);
        let vector = |view: usize| {
            let start = (index * views + view) * dim;
            rows.vectors.get(start..start + dim).unwrap_or_default()
        };
        if let Some(position) = self.position(&row.id) {
            self.leave_ring(position);
            self.leave_session(position);
            if let Some(before) = self.columns.get(position) {
                self.metadata.release(before.metadata);
                row.set_heat(before.heat());
            }
            self.columns.set(position, &row);
            self.lexical.set(position as u32, analysed);
            self.join_session(position);
            let mut is_moved = false;
            for (view, store) in self.vectors.iter_mut().enumerate() {
                is_moved |= store.set(position, vector(view));
            }
            if is_moved {
                self.ann.change_row(position);
            }
            self.join_ring(position);
        } else {
            self.append(&row, |lexical| lexical.push(analysed), |view, store| store.push(vector(view)));
        }
    }

    /// Add a row with an id that is not held; the closures append its terms, and its vector of each view.
    pub(crate) fn append(
        &mut self,
        row: &Row,
        push_terms: impl FnOnce(&mut LexicalIndex),
        push: impl Fn(usize, &mut VectorStore),
    ) {
        let position = self.len();
        self.columns.push(row);
        push_terms(&mut self.lexical);
        self.join_session(position);
        for (view, store) in self.vectors.iter_mut().enumerate() {
            push(view, store);
        }
        self.ann.push_row();
        self.index_position(position);
        self.join_ring(position);
    }

    /// Give a row this partition's numbers of its names and metadata.
    pub(crate) fn intern(&mut self, row: &mut Row, names: [&str; 3], metadata: &BTreeMap<String, Scalar>) {
        let [session, agent, speaker] = names;
        row.session = self.name_number_or_insert(session);
        row.agent = self.name_number_or_insert(agent);
        row.speaker = self.name_number_or_insert(speaker);
        row.metadata = self.metadata.acquire(metadata);
    }

    /// The sessions, agents and speakers with their numbers.
    pub(crate) fn names(&self) -> Vec<(&str, u32)> {
        self.names.iter().map(|(name, &number)| (&**name, number)).collect()
    }

    fn index_position(&mut self, position: usize) {
        let Some(id) = self.columns.id.get(position) else { return };
        let hash = self.hasher.hash_one(id);
        let (hasher, ids) = (&self.hasher, &self.columns.id);
        self.positions.insert_unique(hash, position as u32, |&held| {
            hasher.hash_one(ids.get(held as usize).copied().unwrap_or_default())
        });
    }

    fn remove(&mut self, id: &Id) {
        let Some(position) = self.position(id) else { return };
        let last = self.len() - 1;
        self.links.set(*id, &[]);
        self.leave_ring(position);
        self.leave_session(position);
        if let Some(before) = self.columns.get(position) {
            self.metadata.release(before.metadata);
        }
        self.forget_position(position);
        if position != last {
            self.leave_ring(last);
            self.forget_position(last);
        }
        self.columns.swap_remove(position);
        self.lexical.swap_remove(position as u32);
        for store in &mut self.vectors {
            store.swap_remove(position);
        }
        self.ann.swap_remove_row(position);
        if position != last {
            self.index_position(position);
            self.join_ring(position);
        }
    }

    fn forget_position(&mut self, position: usize) {
        let Some(id) = self.columns.id.get(position) else { return };
        let hash = self.hasher.hash_one(id);
        if let Ok(entry) = self.positions.find_entry(hash, |&held| held as usize == position) {
            entry.remove();
        }
    }

    fn join_session(&mut self, position: usize) {
        let length = self.lexical.length(position, self.schema.views);
        if let Some(total) = self.session_length_mut(position) {
            *total += length;
        }
    }

    fn leave_session(&mut self, position: usize) {
        let length = self.lexical.length(position, self.schema.views);
        if let Some(total) = self.session_length_mut(position) {
            *total -= length;
        }
    }

    fn session_length_mut(&mut self, position: usize) -> Option<&mut u64> {
        let session = *self.columns.session.get(position)?;
        self.session_lengths.get_mut(session as usize)
    }

    /// Per session number, the terms of its document; 0 where it has none.
    pub(crate) fn session_lengths(&self) -> &[u64] {
        &self.session_lengths
    }

    fn join_ring(&mut self, position: usize) {
        let Some(row) = self.columns.get(position).filter(|row| row.flags & IN_RING != 0) else { return };
        if let Some(ring) = self.rings.get_mut(row.session as usize) {
            ring.insert(row.order, position as u32);
        }
    }

    fn leave_ring(&mut self, position: usize) {
        let Some(row) = self.columns.get(position) else { return };
        if let Some(ring) = self.rings.get_mut(row.session as usize) {
            ring.remove(row.order, position as u32);
        }
    }

    /// The scalar values of a checked batch's row, with its names and metadata interned.
    fn row(&mut self, rows: &Rows, index: usize) -> Option<Row> {
        let flag = |column: &[bool], flag: u8| if column.get(index).copied().unwrap_or(false) { flag } else { 0 };
        let mut row = Row {
            id: *rows.ids.get(index)?,
            order: *rows.orders.get(index)?,
            occurred_at: *rows.occurred_at.get(index)?,
            valid_from: *rows.valid_from.get(index)?,
            valid_to: *rows.valid_to.get(index)?,
            expires_at: *rows.expires_at.get(index)?,
            session: self.name_number_or_insert(rows.sessions.get(index)?),
            agent: self.name_number_or_insert(rows.agents.get(index)?),
            speaker: self.name_number_or_insert(rows.speakers.get(index).map_or("", String::as_str)),
            token_count: *rows.token_counts.get(index)?,
            prior: rows.priors.get(index).map_or(0, |prior| (prior * PRIOR_UNIT).round() as i32),
            heat: 0,
            heat_since: 0,
            tier: *rows.tiers.get(index)?,
            kind: *rows.kinds.get(index)?,
            flags: flag(&rows.is_archived, ARCHIVED) | flag(&rows.is_pinned, PINNED) | flag(&rows.in_ring, IN_RING),
            metadata: self.metadata.acquire(rows.metadata.get(index)?),
        };
        row.set_heat(rows.heats.get(index).copied().unwrap_or_default());
        Some(row)
    }
}
