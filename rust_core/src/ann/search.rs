//! The dense lists of a partition that has graphs.

use super::Ready;
use super::graph::EXPANSION_SEARCH;
use crate::blend::Mean;
use crate::dense::{DenseScan, scan_block};
use crate::filter::WORDS;
use crate::lexical::scan::BLOCK;
use crate::partition::Partition;
use crate::vector::kernel::{BLOCK_ROWS, Kernel};
use crate::vector::store::VectorStore;
use crate::vector::topk::Candidate;

/// Rows whose cosines stand for the mean of all.
const SAMPLE: usize = 512;
/// Of scattered matches, a scan multiplies so many rows in the time of one match: whole groups of 64, unless few match.
const SCAN_SHARE: usize = 6;

/// The rows that a scan looked at and its filter let through.
pub(crate) struct Seen {
    /// [`WORDS`] per block; zero where it did not look.
    words: Vec<u64>,
    matched: usize,
}

impl Seen {
    /// Nothing yet, of `rows` rows.
    pub(crate) fn new(rows: usize) -> Self {
        Self { words: vec![0; rows.div_ceil(BLOCK) * WORDS], matched: 0 }
    }

    /// Note a block's mask and the rows in it.
    pub(crate) fn note(&mut self, block: usize, mask: &[u64; WORDS], matched: usize) {
        if let Some(words) = self.words.get_mut(block * WORDS..(block + 1) * WORDS) {
            words.copy_from_slice(mask);
        }
        self.matched += matched;
    }

    fn holds(&self, row: usize) -> bool {
        self.words.get(row / 64).is_some_and(|word| word >> (row % 64) & 1 == 1)
    }

    fn block(&self, block: usize) -> [u64; WORDS] {
        let words = self.words.get(block * WORDS..(block + 1) * WORDS);
        words.and_then(|words| words.try_into().ok()).unwrap_or([0; WORDS])
    }

    /// At most `limit` of the rows, one from each of as many equal parts: always the same ones, and at no fixed distance,
    /// which would meet one speaker alone where two take turns.
    fn sample(&self, limit: usize) -> Vec<usize> {
        let stride = self.matched.div_ceil(limit).max(1);
        let wanted = |part: usize| part * stride + (part.wrapping_mul(0x9e37_79b9) >> 7) % stride;
        let (mut rows, mut before) = (Vec::with_capacity(limit), 0);
        for (index, &word) in self.words.iter().enumerate() {
            let ones = word.count_ones() as usize;
            let (mut left, mut at) = (word, before);
            while wanted(rows.len()) < before + ones {
                while at < wanted(rows.len()) {
                    left &= left - 1;
                    at += 1;
                }
                rows.push(index * 64 + left.trailing_zeros() as usize);
            }
            before += ones;
        }
        rows
    }

    /// Whether scanning the rows costs less than searching a graph of `nodes` for `depth` of them, where a search without
    /// a filter costs as much as scanning `even_rows`.
    ///
    /// A search goes on until it has met enough nodes that match: the rarer these are, the longer.
    fn is_cheaper_scanned(&self, nodes: usize, depth: usize, even_rows: usize) -> bool {
        let even = even_rows as f64 * depth.max(EXPANSION_SEARCH) as f64 / EXPANSION_SEARCH as f64;
        let scanned = self.matched.saturating_mul(SCAN_SHARE).min(nodes);
        scanned as f64 * self.matched as f64 <= even * nodes as f64
    }
}

impl Partition {
    /// Fill the dense lists with the best of the rows seen, from the graphs where that pays; whether no graph was used.
    ///
    /// The mean of a list that a graph filled is that of a sample.
    pub(crate) fn search_graphs(
        &self,
        ready: &Ready,
        seen: &Seen,
        depth: usize,
        kernel: Kernel,
        dense: &mut [DenseScan<'_>],
    ) -> bool {
        if seen.is_cheaper_scanned(ready.slots.next(), depth, ready.even_rows) {
            for scan in dense {
                self.scan_seen(kernel, scan, |block| seen.block(block));
            }
            return true;
        }
        let sample = if dense.iter().any(|scan| scan.mean.is_some()) { seen.sample(SAMPLE) } else { Vec::new() };
        let pending = |block: usize| {
            let pending = ready.slots.pending_mask(block * BLOCK..self.len().min((block + 1) * BLOCK));
            let mut mask = seen.block(block);
            mask.iter_mut().zip(pending).for_each(|(word, pending)| *word &= pending);
            mask
        };
        let mut is_exact = true;
        for scan in dense {
            let (Some(store), Some(graph)) = (self.vectors.get(scan.view), ready.graphs.get(scan.view)) else {
                continue;
            };
            let has_mean = scan.mean.take().is_some();
            let row = |slot| ready.slots.row(slot).filter(|&row| seen.holds(row));
            match graph.nearest(scan.query, depth, |slot| row(slot).is_some()) {
                Ok(slots) => {
                    is_exact = false;
                    for row in slots.into_iter().filter_map(row) {
                        self.offer_row(kernel, store, scan, row);
                    }
                    if ready.slots.pending() > 0 {
                        self.scan_seen(kernel, scan, pending);
                    }
                }
                // Too many searches of this graph at once: a scan answers as well.
                Err(_) => self.scan_seen(kernel, scan, |block| seen.block(block)),
            }
            scan.mean = has_mean.then(|| sampled_mean(kernel, store, scan, &sample));
        }
        is_exact
    }

    fn scan_seen(&self, kernel: Kernel, scan: &mut DenseScan<'_>, mask: impl Fn(usize) -> [u64; WORDS]) {
        let Some(store) = self.vectors.get(scan.view) else { return };
        for block in (0..self.len().div_ceil(BLOCK)).rev() {
            let mask = mask(block);
            if mask.iter().any(|&word| word != 0) {
                let end = self.len().min((block + 1) * BLOCK);
                scan_block(kernel, store, std::array::from_mut(scan), block * BLOCK..end, &mask, &self.columns.order);
            }
        }
    }

    fn offer_row(&self, kernel: Kernel, store: &VectorStore, scan: &mut DenseScan<'_>, row: usize) {
        let dot = dot_row(kernel, scan, store, row);
        let (Some(&scale), Some(&order)) = (store.scales().get(row), self.columns.order.get(row)) else { return };
        scan.top.push(Candidate { score: f64::from(dot as f32 * scale), order, row: row as u32 });
    }
}

fn dot_row(kernel: Kernel, scan: &DenseScan<'_>, store: &VectorStore, row: usize) -> i32 {
    let mut dots = [[0; BLOCK_ROWS]];
    kernel.dot_rows([scan.query], store.high(row, 1), &mut dots);
    let [[dot, ..]] = dots;
    dot
}

fn sampled_mean(kernel: Kernel, store: &VectorStore, scan: &DenseScan<'_>, sample: &[usize]) -> Mean {
    let mut mean = Mean::default();
    for rows in sample.chunks(BLOCK_ROWS) {
        let mut dots = [0; BLOCK_ROWS];
        let mut scales = [0.0; BLOCK_ROWS];
        for ((dot, scale), &row) in dots.iter_mut().zip(&mut scales).zip(rows) {
            *dot = dot_row(kernel, scan, store, row);
            *scale = store.scales().get(row).copied().unwrap_or_default();
        }
        // Places past the chunk have a scale of zero, which doesn't count.
        mean.add(u64::MAX, &dots, &scales);
    }
    mean
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_sample_is_spread_over_the_rows(
            words in prop::collection::vec(prop_oneof![Just(0), Just(u64::MAX), any::<u64>()], 16),
            limit in 1_usize..200,
        ) {
            let mut seen = Seen::new(BLOCK);
            let matched = words.iter().map(|word| word.count_ones() as usize).sum();
            seen.note(0, words.as_slice().try_into().unwrap(), matched);
            let held: Vec<usize> = (0..BLOCK).filter(|&row| seen.holds(row)).collect();
            let sample = seen.sample(limit);
            let stride = matched.div_ceil(limit).max(1);
            prop_assert!(sample.len() <= limit && sample.len() >= matched / stride);
            for (part, row) in sample.iter().enumerate() {
                let place = held.iter().position(|held| held == row);
                prop_assert!(place.is_some_and(|place| place / stride == part), "{row} for part {part}");
            }
        }
    }
}
