//! The table of resident partitions, under a budget of bytes.
//!
//! One short lock guards the table, one lock guards each partition: many searches or one change. The table is never locked
//! while a partition is built, searched or changed. A search keeps its partition alive even if it is evicted meanwhile; a
//! partition in use is not evicted.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, RwLock};

use hashbrown::HashMap;

use crate::ann::build::Builder;
use crate::engine::EngineStats;
use crate::error::CoreError;
use crate::partition::Partition;

/// A partition in the table.
#[derive(Debug)]
pub(crate) struct Resident {
    pub(crate) partition: RwLock<Partition>,
    last_used: AtomicU64,
    size_bytes: AtomicUsize,
    rows: AtomicUsize,
    /// Graphs in the making; locked for one step of it.
    pub(crate) builder: Mutex<Option<Builder>>,
}

/// The table.
#[derive(Debug)]
pub(crate) struct Residents {
    pub(crate) budget_bytes: usize,
    table: RwLock<HashMap<Box<str>, Arc<Resident>>>,
    /// Bytes of all partitions in the table; changed only under the table's lock.
    size_bytes: AtomicUsize,
    clock: AtomicU64,
    evictions: AtomicU64,
    loads: AtomicU64,
}

impl Residents {
    /// An empty table.
    pub(crate) fn new(budget_bytes: usize) -> Self {
        Self {
            budget_bytes,
            table: RwLock::new(HashMap::new()),
            size_bytes: AtomicUsize::new(0),
            clock: AtomicU64::new(0),
            evictions: AtomicU64::new(0),
            loads: AtomicU64::new(0),
        }
    }

    /// Figures of the table; no searches are counted here.
    pub(crate) fn stats(&self) -> Result<EngineStats, CoreError> {
        let table = self.table.read().map_err(|_| CoreError::LockPoisoned)?;
        Ok(EngineStats {
            partitions: table.len(),
            rows: table.values().map(|resident| resident.rows.load(Ordering::Relaxed)).sum(),
            size_bytes: self.size_bytes.load(Ordering::Relaxed),
            budget_bytes: self.budget_bytes,
            evictions: self.evictions.load(Ordering::Relaxed),
            loads: self.loads.load(Ordering::Relaxed),
            searches: 0,
        })
    }

    /// A partition without a mark that it was used: to be worked on must not keep it resident.
    pub(crate) fn peek(&self, key: &str) -> Result<Option<Arc<Resident>>, CoreError> {
        Ok(self.table.read().map_err(|_| CoreError::LockPoisoned)?.get(key).cloned())
    }

    /// A partition to be used now.
    pub(crate) fn find(&self, key: &str) -> Result<Option<Arc<Resident>>, CoreError> {
        let table = self.table.read().map_err(|_| CoreError::LockPoisoned)?;
        let found = table.get(key).cloned();
        if let Some(resident) = &found {
            resident.last_used.store(self.tick(), Ordering::Relaxed);
        }
        Ok(found)
    }

    /// Drop a partition; false when it was not resident.
    pub(crate) fn remove(&self, key: &str) -> Result<bool, CoreError> {
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

    /// Put a partition in, in place of what was there, then evict others if over budget.
    pub(crate) fn insert(&self, key: &str, partition: Partition) -> Result<(), CoreError> {
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
    pub(crate) fn keep_budget(&self, kept: &str) -> Result<(), CoreError> {
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
    pub(crate) fn measure(&self, key: &str, resident: &Arc<Resident>, partition: &Partition) -> Result<(), CoreError> {
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
