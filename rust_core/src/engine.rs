//! The resident partitions of a process, under a budget of bytes.
//!
//! One short lock guards the table of partitions, one lock guards each partition: many searches or one change. The
//! table is never locked while a partition is built, searched or changed. A search keeps its partition alive even if
//! it is evicted meanwhile; a partition in use is not evicted.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, RwLock};

use hashbrown::HashMap;

use crate::ann::build::{Builder, Limits, step};
use crate::error::CoreError;
use crate::lexical::analyser::Analyser;
use crate::partition::{Partition, PartitionSizes, PreparedRows, Schema};
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
    /// 384 dimensions, two views, English, 1 GiB, rings of 32 turns and 2,048 tokens, graphs from 200,000 rows on,
    /// heat that halves in a week.
    fn default() -> Self {
        Self {
            dim: 384,
            views: 2,
            budget_bytes: 1 << 30,
            language: "english".to_owned(),
            ring: RingLimits { turns: 32, tokens: 2_048 },
            ann_rows: 200_000,
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

#[derive(Debug)]
struct Resident {
    partition: RwLock<Partition>,
    last_used: AtomicU64,
    size_bytes: AtomicUsize,
    rows: AtomicUsize,
    /// Graphs in the making; locked for one step of it.
    builder: Mutex<Option<Builder>>,
}

/// The resident partitions of a process; shared by its threads.
#[derive(Debug)]
pub struct Engine {
    schema: Schema,
    budget_bytes: usize,
    ann_rows: usize,
    table: RwLock<HashMap<Box<str>, Arc<Resident>>>,
    /// Bytes of all partitions in the table; changed only under the table's lock.
    size_bytes: AtomicUsize,
    clock: AtomicU64,
    evictions: AtomicU64,
    loads: AtomicU64,
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
            budget_bytes: options.budget_bytes,
            ann_rows: options.ann_rows,
            table: RwLock::new(HashMap::new()),
            size_bytes: AtomicUsize::new(0),
            clock: AtomicU64::new(0),
            evictions: AtomicU64::new(0),
            loads: AtomicU64::new(0),
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
        self.insert(key, partition)
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
        let Some(resident) = self.find(key)? else {
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
            self.measure(key, &resident, &partition)?;
        }
        self.keep_budget(key)?;
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
        let Some(resident) = self.find(key)? else { return Ok(false) };
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
        let dropped = {
            let mut table = self.table.write().map_err(|_| CoreError::LockPoisoned)?;
            let dropped = table.remove(key);
            if let Some(resident) = &dropped {
                self.size_bytes.fetch_sub(resident.charged_bytes(key), Ordering::Relaxed);
            }
            dropped
        };
        // Freed here, after the table is unlocked.
        Ok(dropped.is_some())
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
        self.insert(key, partition)?;
        Ok(version)
    }

    /// Whether a partition is worth calls of [`Self::build_ann`]: large and without graphs, or much changed since.
    ///
    /// # Errors
    /// [`CoreError::LockPoisoned`].
    pub fn ann_due(&self, key: &str) -> Result<bool, CoreError> {
        let Some(resident) = self.peek(key)? else { return Ok(false) };
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
        let Some(resident) = self.peek(key)? else { return Ok(false) };
        let is_more = {
            let mut builder = resident.builder.lock().map_err(|_| CoreError::LockPoisoned)?;
            let stepped = step(&resident.partition, &mut builder, self.ann_limits(), rows);
            let partition = resident.partition.read().map_err(|_| CoreError::LockPoisoned)?;
            self.measure(key, &resident, &partition)?;
            stepped?
        };
        drop(resident);
        self.keep_budget(key)?;
        Ok(is_more)
    }

    fn ann_limits(&self) -> Limits {
        Limits { ann_rows: self.ann_rows, budget_bytes: self.budget_bytes }
    }

    /// Figures of the engine.
    ///
    /// # Errors
    /// [`CoreError::LockPoisoned`].
    pub fn stats(&self) -> Result<EngineStats, CoreError> {
        let table = self.table.read().map_err(|_| CoreError::LockPoisoned)?;
        Ok(EngineStats {
            partitions: table.len(),
            rows: table.values().map(|resident| resident.rows.load(Ordering::Relaxed)).sum(),
            size_bytes: self.size_bytes.load(Ordering::Relaxed),
            budget_bytes: self.budget_bytes,
            evictions: self.evictions.load(Ordering::Relaxed),
            loads: self.loads.load(Ordering::Relaxed),
            searches: self.searches.load(Ordering::Relaxed),
        })
    }

    /// A partition without a mark that it was used: to be worked on must not keep it resident.
    fn peek(&self, key: &str) -> Result<Option<Arc<Resident>>, CoreError> {
        Ok(self.table.read().map_err(|_| CoreError::LockPoisoned)?.get(key).cloned())
    }

    fn find(&self, key: &str) -> Result<Option<Arc<Resident>>, CoreError> {
        let table = self.table.read().map_err(|_| CoreError::LockPoisoned)?;
        let found = table.get(key).cloned();
        if let Some(resident) = &found {
            resident.last_used.store(self.tick(), Ordering::Relaxed);
        }
        Ok(found)
    }

    fn read<T>(
        &self,
        key: &str,
        work: impl FnOnce(&Partition) -> Result<T, CoreError>,
    ) -> Result<Option<T>, CoreError> {
        let Some(resident) = self.find(key)? else { return Ok(None) };
        let partition = resident.partition.read().map_err(|_| CoreError::LockPoisoned)?;
        work(&partition).map(Some)
    }

    fn insert(&self, key: &str, partition: Partition) -> Result<(), CoreError> {
        let resident = Arc::new(Resident {
            last_used: AtomicU64::new(self.tick()),
            size_bytes: AtomicUsize::new(partition.size_bytes()),
            rows: AtomicUsize::new(partition.len()),
            builder: Mutex::new(None),
            partition: RwLock::new(partition),
        });
        let replaced = {
            let mut table = self.table.write().map_err(|_| CoreError::LockPoisoned)?;
            self.size_bytes.fetch_add(resident.charged_bytes(key), Ordering::Relaxed);
            let replaced = table.insert(key.into(), resident);
            if let Some(resident) = &replaced {
                self.size_bytes.fetch_sub(resident.charged_bytes(key), Ordering::Relaxed);
            }
            replaced
        };
        // Freed after the table is unlocked.
        drop(replaced);
        self.loads.fetch_add(1, Ordering::Relaxed);
        self.keep_budget(key)
    }

    /// Evict the least recently used partitions until the rest fit, except `kept` and those in use.
    fn keep_budget(&self, kept: &str) -> Result<(), CoreError> {
        if self.size_bytes.load(Ordering::Relaxed) <= self.budget_bytes {
            return Ok(());
        }
        let mut dropped = Vec::new();
        {
            let mut table = self.table.write().map_err(|_| CoreError::LockPoisoned)?;
            let mut by_age: Vec<(u64, Box<str>)> = table
                .iter()
                .filter(|(key, resident)| &***key != kept && Arc::strong_count(resident) == 1)
                .map(|(key, resident)| (resident.last_used.load(Ordering::Relaxed), key.clone()))
                .collect();
            by_age.sort_unstable();
            for (_, key) in by_age {
                if self.size_bytes.load(Ordering::Relaxed) <= self.budget_bytes {
                    break;
                }
                if let Some(resident) = table.remove(&key) {
                    self.size_bytes.fetch_sub(resident.charged_bytes(&key), Ordering::Relaxed);
                    dropped.push(resident);
                }
            }
        }
        self.evictions.fetch_add(dropped.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    /// Note a partition's new size. One that was evicted or replaced meanwhile is no longer part of the total.
    fn measure(&self, key: &str, resident: &Arc<Resident>, partition: &Partition) -> Result<(), CoreError> {
        let table = self.table.read().map_err(|_| CoreError::LockPoisoned)?;
        let after = partition.size_bytes();
        resident.rows.store(partition.len(), Ordering::Relaxed);
        // Changes of one partition exclude each other by its own lock, and removals by the table's.
        let before = resident.size_bytes.swap(after, Ordering::Relaxed);
        if table.get(key).is_some_and(|held| Arc::ptr_eq(held, resident)) {
            self.size_bytes.fetch_add(after, Ordering::Relaxed);
            self.size_bytes.fetch_sub(before, Ordering::Relaxed);
        }
        Ok(())
    }

    fn tick(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::Relaxed)
    }
}

impl Resident {
    /// What a partition costs, with its place in the table.
    fn charged_bytes(&self, key: &str) -> usize {
        self.size_bytes.load(Ordering::Relaxed) + size_of::<Self>() + key.len() + 64
    }
}
