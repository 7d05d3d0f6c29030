//! Approximate search of large partitions: one HNSW graph per passage view, built in the background.
//!
//! A partition is searched exactly until its graphs are ready, and where they would not pay: when a filter leaves so few
//! rows that scanning those is cheaper ([`search`]). What a graph finds is rescored with both planes like the best of a
//! scan, so the order is that of float32 either way; a graph may only miss a row.
//!
//! - Rows that were added or changed since are scanned beside the graph until a later step of the builder takes them
//!   in; a write never waits for a graph. Removed ones are filtered out, see [`slots`]; with too many of them a new
//!   graph is built while the old one serves, and with far too many the old one is dropped.
//! - The core has no thread of its own: the server calls [`Engine::build_ann`](crate::engine::Engine::build_ann) step by
//!   step. Vectors are copied under a read lock and linked without any, those that come later in small batches under
//!   the write lock.
//! - Graphs are no part of a snapshot.
//! - The scan is hard to beat: a hybrid search of 200,000 rows takes 11.6 ms with it and 9.3 with graphs that find .90 of
//!   the best (`make bench-ann ARGS="--sizes 200000"`). So graphs begin at 500,000, where a scan takes a fifth of the
//!   default deadline.
//!
//! usearch, without its `numkong` kernels, which take minutes to build: the distance is our own, over the high plane.

pub(crate) mod build;
mod graph;
pub(crate) mod search;
mod slots;

use crate::error::CoreError;
use graph::Graph;
use slots::Slots;

/// The graphs of a partition, and those in the making.
#[derive(Debug, Default)]
pub(crate) struct Ann {
    ready: Option<Ready>,
    building: Option<Building>,
    /// Builds begun so far.
    builds: u64,
}

/// Graphs that answer searches.
#[derive(Debug)]
pub(crate) struct Ready {
    slots: Slots,
    /// One per view.
    graphs: Vec<Graph>,
    graph_bytes: usize,
    /// Rows that a scan reads in the time of a search without a filter: 3/8 of the least that get a graph, which is worth
    /// its memory only where it saves most of the time. Over 100,000 rows it took as long as scanning 75,000.
    even_rows: usize,
}

/// What a build in progress must know of the partition's changes.
#[derive(Debug)]
struct Building {
    number: u64,
    slots: Slots,
    expected_bytes: usize,
}

impl Ann {
    /// A row was appended.
    pub(crate) fn push_row(&mut self) {
        self.all_slots().for_each(Slots::push_row);
    }

    /// A row's vectors were replaced by others.
    pub(crate) fn change_row(&mut self, row: usize) {
        self.all_slots().for_each(|slots| slots.change_row(row));
    }

    /// A row was removed; the last one takes its place.
    pub(crate) fn swap_remove_row(&mut self, row: usize) {
        self.all_slots().for_each(|slots| slots.swap_remove_row(row));
    }

    /// Drop graphs in which most nodes lead nowhere.
    pub(crate) fn drop_worn(&mut self) {
        self.ready = self.ready.take().filter(|ready| ready.slots.dead() * 2 <= ready.slots.next());
    }

    /// The graphs, when there are any.
    pub(crate) fn ready(&self) -> Option<&Ready> {
        self.ready.as_ref()
    }

    /// Bytes of heap; a build in progress counts with what it will take.
    pub(crate) fn size_bytes(&self) -> usize {
        let ready = self.ready.as_ref().map_or(0, |ready| ready.slots.size_bytes() + ready.graph_bytes);
        ready + self.building.as_ref().map_or(0, |building| building.slots.size_bytes() + building.expected_bytes)
    }

    fn all_slots(&mut self) -> impl Iterator<Item = &mut Slots> {
        let ready = self.ready.as_mut().map(|ready| &mut ready.slots);
        ready.into_iter().chain(self.building.as_mut().map(|building| &mut building.slots))
    }
}

impl Ready {
    fn measure(&mut self) {
        self.graph_bytes = self.graphs.iter().map(Graph::size_bytes).sum();
    }

    /// Add an encoded vector of each view in the next slot; an empty one is left out.
    fn add(&mut self, row: usize, vectors: &[Vec<i8>]) -> Result<(), CoreError> {
        let slot = self.slots.next();
        for (graph, vector) in self.graphs.iter().zip(vectors) {
            if !vector.is_empty() {
                graph.add(slot, vector)?;
            }
        }
        self.slots.assign(row);
        Ok(())
    }
}
