//! Building graphs step by step, beside searches and writes.

use std::ops::Range;
use std::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::graph::{Graph, encode_row};
use super::slots::Slots;
use super::{Building, Ready};
use crate::error::CoreError;
use crate::partition::Partition;

/// Rows without a place in the graphs that are left to scans: few enough to cost a search less than a graph does.
const MAX_PENDING: usize = 1024;
/// Rows taken in under one write lock, about .5 ms of work each: what a search may have to wait for.
const CATCH_UP_ROWS: usize = 8;

/// When graphs are built.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Least rows of a partition with graphs; 0: none has any.
    pub(crate) ann_rows: usize,
    /// Bytes that a partition with its graphs may take.
    pub(crate) budget_bytes: usize,
}

/// Graphs in the making.
#[derive(Debug)]
pub(crate) struct Builder {
    number: u64,
    graphs: Vec<Graph>,
    /// Slots to fill, and the next one.
    slots: Range<usize>,
}

/// A slot and its vector in the form that graphs take, empty when it has none.
type Encoded = (usize, Vec<i8>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Need {
    Nothing,
    CatchUp,
    Build,
}

impl Partition {
    /// Whether a builder has something to do that is worth it.
    pub(crate) fn is_ann_due(&self, limits: Limits) -> bool {
        match self.ann_need(limits) {
            Need::Nothing => false,
            Need::CatchUp => {
                self.ann.ready().is_some_and(|ready| ready.slots.pending() > MAX_PENDING.min(self.len() / 8))
            }
            Need::Build => true,
        }
    }

    fn ann_need(&self, limits: Limits) -> Need {
        if limits.ann_rows == 0 || self.len() < limits.ann_rows {
            return Need::Nothing;
        }
        match self.ann.ready() {
            // Dead nodes cost a search a visit each.
            Some(ready) if ready.slots.dead() * 4 <= ready.slots.next() => {
                if ready.slots.pending() > 0 {
                    Need::CatchUp
                } else {
                    Need::Nothing
                }
            }
            _ if self.size_bytes() + self.expected_graph_bytes() > limits.budget_bytes => Need::Nothing,
            _ => Need::Build,
        }
    }

    fn expected_graph_bytes(&self) -> usize {
        self.schema().views * Graph::expected_bytes(self.schema().dim, self.len())
    }

    fn begin_build(&mut self) -> u64 {
        self.ann.builds += 1;
        let (number, expected_bytes) = (self.ann.builds, self.expected_graph_bytes());
        self.ann.building = Some(Building { number, slots: Slots::full(self.len()), expected_bytes });
        number
    }

    /// The vectors of some slots by view, each with its slot; `None` when the build was overtaken by another.
    fn copy_vectors(&self, number: u64, slots: Range<usize>) -> Option<Vec<Vec<Encoded>>> {
        let building = self.ann.building.as_ref().filter(|building| building.number == number)?;
        let rows: Vec<(usize, usize)> =
            slots.filter_map(|slot| Some((slot, building.slots.row(slot as u64)?))).collect();
        let views = 0..self.vectors.len();
        Some(views.map(|view| rows.iter().map(|&(slot, row)| (slot, self.encoded(view, row))).collect()).collect())
    }

    /// A row's vector in the form that graphs take; empty when it has none.
    fn encoded(&self, view: usize, row: usize) -> Vec<i8> {
        let mut vector = Vec::new();
        if let Some((scale, high, _)) = self.vectors.get(view).map(|store| store.raw(row))
            && scale > 0.0
        {
            encode_row(scale, high, &mut vector);
        }
        vector
    }

    fn attach(&mut self, builder: Builder, limits: Limits) {
        let building = self.ann.building.take_if(|building| building.number == builder.number);
        if let Some(Building { slots, .. }) = building {
            let mut ready = Ready { slots, graphs: builder.graphs, graph_bytes: 0, even_rows: limits.ann_rows / 8 * 3 };
            ready.measure();
            self.ann.ready = Some(ready);
        }
    }

    /// Take in up to `limit` rows that have no slot; how many are left. Graphs that refuse are dropped.
    fn catch_up(&mut self, from: &mut usize, limit: usize) -> Result<usize, CoreError> {
        let Some(mut ready) = self.ann.ready.take() else { return Ok(0) };
        let rows = ready.slots.pending_rows(*from, limit);
        // An eighth more at once: making room copies tables that grow with the graph.
        let capacity = ready.slots.next() + rows.len();
        if ready.graphs.iter().any(|graph| graph.capacity() < capacity) {
            ready.graphs.iter().try_for_each(|graph| graph.reserve(capacity + capacity / 8))?;
        }
        for row in &rows {
            let vectors: Vec<Vec<i8>> = (0..self.vectors.len()).map(|view| self.encoded(view, *row)).collect();
            ready.add(*row, &vectors)?;
        }
        // Rows before these have their slots; a row that moved there meanwhile is found by the next round.
        *from = rows.last().map_or(0, |row| row + 1);
        ready.measure();
        let left = ready.slots.pending();
        self.ann.ready = Some(ready);
        Ok(left)
    }
}

impl Builder {
    /// Link the next `rows` vectors; `None` when the graphs were attached or the build was overtaken.
    fn go_on(mut self, lock: &RwLock<Partition>, limits: Limits, rows: usize) -> Result<Option<Self>, CoreError> {
        let end = self.slots.end.min(self.slots.start.saturating_add(rows));
        let copied = read(lock)?.copy_vectors(self.number, self.slots.start..end);
        let Some(views) = copied else { return Ok(None) };
        for (graph, vectors) in self.graphs.iter().zip(views) {
            for (slot, vector) in vectors.iter().filter(|(_, vector)| !vector.is_empty()) {
                graph.add(*slot, vector)?;
            }
        }
        self.slots.start = end;
        if self.slots.is_empty() {
            write(lock)?.attach(self, limits);
            return Ok(None);
        }
        Ok(Some(self))
    }
}

/// Do one step of what a partition's graphs need, about `rows` rows of work; whether more is to do.
pub(crate) fn step(
    lock: &RwLock<Partition>,
    builder: &mut Option<Builder>,
    limits: Limits,
    rows: usize,
) -> Result<bool, CoreError> {
    let rows = rows.max(1);
    if let Some(work) = builder.take() {
        *builder = work.go_on(lock, limits, rows).inspect_err(|_| give_up(lock))?;
        return Ok(builder.is_some() || read(lock)?.ann_need(limits) != Need::Nothing);
    }
    let need = read(lock)?.ann_need(limits);
    match need {
        Need::Nothing => Ok(false),
        Need::Build => {
            let (number, count, schema) = {
                let mut partition = write(lock)?;
                (partition.begin_build(), partition.len(), *partition.schema())
            };
            let graphs = (0..schema.views).map(|_| Graph::new(schema.dim, count)).collect::<Result<_, _>>();
            let graphs = graphs.inspect_err(|_| give_up(lock))?;
            *builder = Some(Builder { number, graphs, slots: 0..count });
            Ok(true)
        }
        Need::CatchUp => {
            let (mut from, mut left) = (0, 1);
            for _ in 0..rows.div_ceil(CATCH_UP_ROWS) {
                left = write(lock)?.catch_up(&mut from, CATCH_UP_ROWS.min(rows))?;
                if left == 0 {
                    break;
                }
            }
            Ok(left > 0)
        }
    }
}

/// Forget a build that failed, and what it would have taken.
fn give_up(lock: &RwLock<Partition>) {
    if let Ok(mut partition) = lock.write() {
        partition.ann.building = None;
    }
}

fn read(lock: &RwLock<Partition>) -> Result<RwLockReadGuard<'_, Partition>, CoreError> {
    lock.read().map_err(|_| CoreError::LockPoisoned)
}

fn write(lock: &RwLock<Partition>) -> Result<RwLockWriteGuard<'_, Partition>, CoreError> {
    lock.write().map_err(|_| CoreError::LockPoisoned)
}
