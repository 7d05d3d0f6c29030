//! The resident partitions of a process: what they are asked and told, by their names. How they are held and evicted stands
//! in `residents.rs`.

use std::sync::TryLockError;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::ann::build::{Limits, step};
use crate::error::CoreError;
use crate::lexical::analyser::Analyser;
use crate::partition::{Partition, PartitionSizes, PreparedRows, Schema};
use crate::residents::Residents;
use crate::rows::{Id, Rows};
use crate::search::{SearchPlan, SearchResult};
use crate::snapshot;
use crate::tiers::RingLimits;

/// Settings of an engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineOptions {
    /// Dimensions of a vector, 1 to 4096.
    pub dim: usize,
    /// Passage views per row, 1 to 4.
    pub views: usize,
    /// Bytes that the resident partitions may take before the least recently used are evicted.
    pub budget_bytes: usize,
    /// Language of the texts, for partitions that are given no other; see [`Analyser::new`].
    pub language: String,
    /// Bounds of a session's STM ring.
    pub ring: RingLimits,
    /// Rows from which on a partition gets graphs for approximate search, see [`Engine::build_ann`]; 0: never.
    pub ann_rows: usize,
    /// In which access heat halves, microseconds.
    pub heat_half_life: i64,
    /// Whether vectors keep what only rescoring reads, half of their bytes.
    pub rescore_vectors: bool,
}

impl Default for EngineOptions {
    /// 384 dimensions, two views, English, 1 GiB, rings of 32 turns and 2,048 tokens, graphs from 500,000 rows on,
    /// heat that halves in a week.
    fn default() -> Self {
        Self {
            dim: 384,
            views: 2,
            budget_bytes: 1 << 30,
            language: "english".to_owned(),
            ring: RingLimits { turns: 32, tokens: 2_048 },
            ann_rows: 500_000,
            heat_half_life: 7 * 24 * 3_600 * 1_000_000,
            rescore_vectors: true,
        }
    }
}

/// Figures of an engine; sizes in bytes, the last three counted since its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EngineStats {
    /// Resident partitions.
    pub partitions: usize,
    /// Rows in them.
    pub rows: usize,
    /// Bytes they take.
    pub size_bytes: usize,
    /// Bytes they may take.
    pub budget_bytes: usize,
    /// Partitions dropped for lack of room.
    pub evictions: u64,
    /// Partitions loaded.
    pub loads: u64,
    /// Searches run.
    pub searches: u64,
}

/// The resident partitions of a process; shared by its threads.
#[derive(Debug)]
pub struct Engine {
    schema: Schema,
    ann_rows: usize,
    residents: Residents,
    searches: AtomicU64,
}

impl Engine {
    /// An engine without partitions.
    ///
    /// # Errors
    /// [`CoreError::OptionOutOfRange`] or [`CoreError::UnknownLanguage`].
    pub fn new(options: &EngineOptions) -> Result<Self, CoreError> {
        let ranges = [
            ("dim", options.dim, 1..=4096, "1 to 4096"),
            ("views", options.views, 1..=4, "1 to 4"),
            ("stm_turns", options.ring.turns, 1..=usize::MAX, "at least 1"),
        ];
        for (name, value, allowed, range) in ranges {
            if !allowed.contains(&value) {
                return Err(CoreError::OptionOutOfRange { name, value, range });
            }
        }
        let schema = Schema {
            dim: options.dim,
            views: options.views,
            analyser: Analyser::new(&options.language)?,
            ring: options.ring,
            heat_half_life: options.heat_half_life,
            rescore_vectors: options.rescore_vectors,
        };
        Ok(Self {
            schema,
            ann_rows: options.ann_rows,
            residents: Residents::new(options.budget_bytes),
            searches: AtomicU64::new(0),
        })
    }

    /// What all partitions share.
    #[must_use]
    pub fn schema(&self) -> &Schema {
        &self.schema
    }

    /// The version up to which a partition is resident.
    ///
    /// # Errors
    /// [`CoreError::LockPoisoned`].
    pub fn version(&self, key: &str) -> Result<Option<u64>, CoreError> {
        self.read(key, |partition| Ok(partition.version()))
    }

    /// Whether a read of a partition would begin at once and touch at most `most_rows` rows: it is resident, no one changes it
    /// now, and it is no larger. A change that begins in between keeps the read waiting.
    ///
    /// # Errors
    /// [`CoreError::LockPoisoned`].
    pub fn is_quick(&self, key: &str, most_rows: usize) -> Result<bool, CoreError> {
        let Some(resident) = self.residents.peek(key)? else { return Ok(false) };
        match resident.partition.try_read() {
            Ok(partition) => Ok(partition.len() <= most_rows),
            Err(TryLockError::WouldBlock) => Ok(false),
            Err(TryLockError::Poisoned(_)) => Err(CoreError::LockPoisoned),
        }
    }

    /// Make a partition resident with these rows, replacing what was there, then evict others if over budget.
    ///
    /// # Errors
    /// Those of [`Rows::check`] and [`Partition::new`]; nothing was changed.
    pub fn load(&self, key: &str, version: u64, rows: &Rows) -> Result<(), CoreError> {
        self.load_in(key, version, rows, None)
    }

    /// [`Self::load`], with texts in a language of the partition's own; `None`: the engine's.
    ///
    /// # Errors
    /// As above, and [`CoreError::UnknownLanguage`].
    pub fn load_in(&self, key: &str, version: u64, rows: &Rows, language: Option<&str>) -> Result<(), CoreError> {
        let schema = self.schema_in(language)?;
        let partition = Partition::new(schema, version, &PreparedRows::new(&schema, rows)?)?;
        self.residents.insert(key, partition)
    }

    fn schema_in(&self, language: Option<&str>) -> Result<Schema, CoreError> {
        let analyser = language.map_or(Ok(self.schema.analyser), Analyser::new)?;
        Ok(Schema { analyser, ..self.schema })
    }

    /// Bring a partition from `base_version` to `version`; false, with nothing changed, when it is not resident at
    /// `base_version`.
    ///
    /// # Errors
    /// Those of [`Rows::check`] and [`Partition::apply`]; nothing was changed.
    pub fn apply(
        &self,
        key: &str,
        base_version: u64,
        version: u64,
        rows: &Rows,
        removed: &[Id],
    ) -> Result<bool, CoreError> {
        if version < base_version {
            return Err(CoreError::VersionGoesBack { base_version, version });
        }
        let Some(resident) = self.residents.find(key)? else {
            // Checked even when not resident: a wrong call is refused every time, not by chance.
            rows.check(self.schema.views, self.schema.dim)?;
            return Ok(false);
        };
        // A resident partition never changes its language; another load makes another resident.
        let schema = *resident.partition.read().map_err(|_| CoreError::LockPoisoned)?.schema();
        let prepared = PreparedRows::new(&schema, rows)?;
        {
            let mut partition = resident.partition.write().map_err(|_| CoreError::LockPoisoned)?;
            if partition.version() != base_version {
                return Ok(false);
            }
            partition.apply(version, &prepared, removed)?;
            self.residents.measure(key, &resident, &partition)?;
        }
        self.residents.keep_budget(key)?;
        Ok(true)
    }

    /// Search a partition; `None` when it is not resident.
    ///
    /// # Errors
    /// Those of [`Partition::search`].
    pub fn search(&self, key: &str, plan: &SearchPlan) -> Result<Option<SearchResult>, CoreError> {
        let found = self.read(key, |partition| partition.search(plan))?;
        if found.is_some() {
            self.searches.fetch_add(1, Ordering::Relaxed);
        }
        Ok(found)
    }

    /// Cosines of rows with each other, see [`Partition::similarities`]; `None` when the partition is not resident.
    ///
    /// # Errors
    /// [`CoreError::LockPoisoned`].
    pub fn similarities(&self, key: &str, ids: &[Id]) -> Result<Option<Vec<f32>>, CoreError> {
        self.read(key, |partition| Ok(partition.similarities(ids)))
    }

    /// Ids in a session's STM ring, oldest first; `None` when the partition is not resident.
    ///
    /// # Errors
    /// [`CoreError::LockPoisoned`].
    pub fn session_ring(&self, key: &str, session: &str) -> Result<Option<Vec<Id>>, CoreError> {
        self.read(key, |partition| Ok(partition.session_ring(session)))
    }

    /// Note an access of rows, see [`Partition::touch`]; false when the partition is not resident.
    ///
    /// # Errors
    /// [`CoreError::LockPoisoned`].
    pub fn touch(&self, key: &str, ids: &[Id], now: i64) -> Result<bool, CoreError> {
        let Some(resident) = self.residents.find(key)? else { return Ok(false) };
        resident.partition.write().map_err(|_| CoreError::LockPoisoned)?.touch(ids, now);
        Ok(true)
    }

    /// Bytes of a partition, by what for; `None` when it is not resident.
    ///
    /// # Errors
    /// [`CoreError::LockPoisoned`].
    pub fn sizes(&self, key: &str) -> Result<Option<PartitionSizes>, CoreError> {
        self.read(key, |partition| Ok(partition.sizes()))
    }

    /// See [`Partition::active_counts`]; `None` when the partition is not resident.
    ///
    /// # Errors
    /// [`CoreError::LockPoisoned`].
    pub fn active_counts(&self, key: &str) -> Result<Option<[usize; 4]>, CoreError> {
        self.read(key, |partition| Ok(partition.active_counts()))
    }

    /// Drop a partition; false when it was not resident.
    ///
    /// # Errors
    /// [`CoreError::LockPoisoned`].
    pub fn evict(&self, key: &str) -> Result<bool, CoreError> {
        self.residents.remove(key)
    }

    /// A partition as bytes, see [`crate::snapshot`]; `None` when it is not resident.
    ///
    /// # Errors
    /// [`CoreError::LockPoisoned`].
    pub fn export(&self, key: &str) -> Result<Option<Vec<u8>>, CoreError> {
        self.read(key, |partition| Ok(snapshot::export(partition)))
    }

    /// Make a partition resident from bytes that [`Self::export`] gave, replacing what was there; returns its version.
    ///
    /// # Errors
    /// [`CoreError::InvalidSnapshot`]; nothing was changed.
    pub fn import(&self, key: &str, bytes: &[u8]) -> Result<u64, CoreError> {
        self.import_in(key, bytes, None)
    }

    /// [`Self::import`], of texts in this language; `None`: the engine's. A snapshot in another one is refused.
    ///
    /// # Errors
    /// As above, and [`CoreError::UnknownLanguage`].
    pub fn import_in(&self, key: &str, bytes: &[u8], language: Option<&str>) -> Result<u64, CoreError> {
        let partition = snapshot::import(self.schema_in(language)?, bytes)?;
        let version = partition.version();
        self.residents.insert(key, partition)?;
        Ok(version)
    }

    /// Whether a partition is worth calls of [`Self::build_ann`]: large and without graphs, or much changed since.
    ///
    /// # Errors
    /// [`CoreError::LockPoisoned`].
    pub fn ann_due(&self, key: &str) -> Result<bool, CoreError> {
        let Some(resident) = self.residents.peek(key)? else { return Ok(false) };
        let partition = resident.partition.read().map_err(|_| CoreError::LockPoisoned)?;
        Ok(partition.is_ann_due(self.ann_limits()))
    }

    /// Work on a partition's graphs for about `rows` rows, half a millisecond each and view; whether more is to do.
    ///
    /// Searches and writes go on meanwhile. The partition may be evicted or loaded anew between two calls, which ends
    /// the build. False when it isn't resident, too small, or has graphs that hold every row.
    ///
    /// # Errors
    /// [`CoreError::GraphRefused`]: the build is given up, and the partition searched exactly.
    pub fn build_ann(&self, key: &str, rows: usize) -> Result<bool, CoreError> {
        let Some(resident) = self.residents.peek(key)? else { return Ok(false) };
        let is_more = {
            let mut builder = resident.builder.lock().map_err(|_| CoreError::LockPoisoned)?;
            let stepped = step(&resident.partition, &mut builder, self.ann_limits(), rows);
            let partition = resident.partition.read().map_err(|_| CoreError::LockPoisoned)?;
            self.residents.measure(key, &resident, &partition)?;
            stepped?
        };
        drop(resident);
        self.residents.keep_budget(key)?;
        Ok(is_more)
    }

    fn ann_limits(&self) -> Limits {
        Limits { ann_rows: self.ann_rows, budget_bytes: self.residents.budget_bytes }
    }

    /// Figures of the engine.
    ///
    /// # Errors
    /// [`CoreError::LockPoisoned`].
    pub fn stats(&self) -> Result<EngineStats, CoreError> {
        Ok(EngineStats { searches: self.searches.load(Ordering::Relaxed), ..self.residents.stats()? })
    }

    fn read<T>(
        &self,
        key: &str,
        work: impl FnOnce(&Partition) -> Result<T, CoreError>,
    ) -> Result<Option<T>, CoreError> {
        let Some(resident) = self.residents.find(key)? else { return Ok(None) };
        let partition = resident.partition.read().map_err(|_| CoreError::LockPoisoned)?;
        work(&partition).map(Some)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_read_is_not_quick_while_the_partition_is_changed() {
        let engine = Engine::new(&EngineOptions::default()).unwrap();
        engine.load("p", 1, &Rows::default()).unwrap();
        assert!(engine.is_quick("p", 0).unwrap());
        let resident = engine.residents.peek("p").unwrap().unwrap();
        let changing = resident.partition.write().unwrap();
        assert!(!engine.is_quick("p", 0).unwrap());
        drop(changing);
        assert!(engine.is_quick("p", 0).unwrap());
    }
}
