//! One view's graph: usearch's HNSW over the high planes, with our own distance.

use std::fmt;

use usearch::{Index, IndexOptions, MetricKind, ScalarKind};

use crate::error::CoreError;
use crate::vector::kernel::Kernel;
use crate::vector::quantize::{OFFSET, Query};
use crate::vector::{LINE, Line, lines_for};

/// Links of a node above the base level; twice as many in it. Half of that would need 512 candidates instead of 128, and
/// more time, for the same recall (.96 at 10, on 100,000 made embeddings).
const CONNECTIVITY: usize = 32;
/// Candidates kept while a node is linked.
const EXPANSION_ADD: usize = 128;
/// Candidates kept during a search, if not more are asked for. 192 found .90 of the best ten among 200,000 made embeddings in
/// 2.6 ms, where the scan takes 4.0 (`make bench-ann`): larger partitions need more.
pub(super) const EXPANSION_SEARCH: usize = 384;
/// Searches of one graph that may run at once; one more is refused, and its caller scans.
const THREADS: usize = 64;
/// Bytes behind a vector's elements: the factor that makes them a unit vector, as float32.
const FACTOR_BYTES: usize = 4;

/// A graph whose nodes are slots.
pub(super) struct Graph {
    index: Index,
}

impl fmt::Debug for Graph {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Graph").field("size", &self.index.size()).finish_non_exhaustive()
    }
}

impl Graph {
    /// An empty graph with room for `capacity` vectors.
    pub(super) fn new(dim: usize, capacity: usize) -> Result<Self, CoreError> {
        let elements = lines_for(dim) * LINE;
        let options = IndexOptions {
            dimensions: elements + FACTOR_BYTES,
            metric: MetricKind::IP,
            quantization: ScalarKind::I8,
            connectivity: CONNECTIVITY,
            expansion_add: EXPANSION_ADD,
            expansion_search: EXPANSION_SEARCH,
            multi: false,
        };
        let mut index = Index::new(&options).map_err(refused)?;
        let kernel = Kernel::best();
        index.change_metric::<i8>(Box::new(move |a, b| {
            // SAFETY: usearch calls its metric with two vectors of `dimensions` bytes each: stored ones, which it copied
            // when they were added, or the query that a running search borrows.
            let (a, b) = unsafe {
                (
                    std::slice::from_raw_parts(a, elements + FACTOR_BYTES),
                    std::slice::from_raw_parts(b, elements + FACTOR_BYTES),
                )
            };
            distance(kernel, a, b)
        }));
        let graph = Self { index };
        graph.reserve(capacity)?;
        Ok(graph)
    }

    /// Make room for `capacity` vectors in all.
    pub(super) fn reserve(&self, capacity: usize) -> Result<(), CoreError> {
        if capacity > self.index.capacity() || self.index.capacity() == 0 {
            self.index.reserve_capacity_and_threads(capacity.max(1), THREADS).map_err(refused)?;
        }
        Ok(())
    }

    /// Add a vector that [`encode_row`] gave. No search may run meanwhile.
    pub(super) fn add(&self, slot: usize, vector: &[i8]) -> Result<(), CoreError> {
        self.index.add(slot as u64, vector).map_err(refused)
    }

    /// The `count` nearest of the slots that `allows` lets through, roughly.
    pub(super) fn nearest(
        &self,
        query: &Query,
        count: usize,
        allows: impl Fn(u64) -> bool,
    ) -> Result<Vec<u64>, CoreError> {
        if self.index.size() == 0 {
            return Ok(Vec::new());
        }
        let mut vector: Vec<i8> = query.bytes.iter().flat_map(|line| line.0).collect();
        vector.extend(((query.scan_unit / 256.0) as f32).to_le_bytes().map(u8::cast_signed));
        self.index.filtered_search(&vector, count, allows).map(|found| found.keys).map_err(refused)
    }

    /// Bytes that the graph takes.
    pub(super) fn size_bytes(&self) -> usize {
        // Of the tapes of nodes and vectors what is in use: they grow by doubling, and untouched pages take no memory.
        // Besides them, two pointers and the entry of a hash table per vector.
        let stats = self.index.memory_stats();
        let allocated = stats.graph_allocated + stats.vectors_allocated;
        allocated.saturating_sub(stats.graph_reserved + stats.vectors_reserved) + self.index.capacity() * 48
    }

    /// What a graph of so many vectors will take, about.
    pub(super) fn expected_bytes(dim: usize, vectors: usize) -> usize {
        let links = CONNECTIVITY * 2 * size_of::<u32>() + 16;
        vectors * (lines_for(dim) * LINE + FACTOR_BYTES + links + 48)
    }

    /// Vectors that there is room for.
    pub(super) fn capacity(&self) -> usize {
        self.index.capacity()
    }
}

/// A stored vector in a graph's form, appended to `out`.
pub(super) fn encode_row(scale: f32, high: &[Line<u8>], out: &mut Vec<i8>) {
    out.extend(high.iter().flat_map(|line| line.0).map(|byte| (byte ^ OFFSET).cast_signed()));
    out.extend((scale * 256.0).to_le_bytes().map(u8::cast_signed));
}

/// 1 minus the cosine.
fn distance(kernel: Kernel, a: &[i8], b: &[i8]) -> f32 {
    let (Some((a, a_factor)), Some((b, b_factor))) =
        (a.split_last_chunk::<FACTOR_BYTES>(), b.split_last_chunk::<FACTOR_BYTES>())
    else {
        return 1.0;
    };
    let factor = |bytes: &[i8; FACTOR_BYTES]| f32::from_le_bytes(bytes.map(i8::cast_unsigned));
    1.0 - kernel.dot_bytes(a, b) as f32 * factor(a_factor) * factor(b_factor)
}

#[allow(clippy::needless_pass_by_value)] // of map_err
fn refused(error: impl fmt::Display) -> CoreError {
    CoreError::GraphRefused(error.to_string())
}
