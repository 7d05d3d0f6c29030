//! The scan of dense lists, block by block: dot products, means, and the best of each list.

use std::ops::Range;

use crate::blend::Mean;
use crate::filter::WORDS;
use crate::vector::kernel::{BLOCK_ROWS, Kernel};
use crate::vector::quantize::Query;
use crate::vector::store::VectorStore;
use crate::vector::topk::{Candidate, TopK};

/// Groups of 64 rows with fewer matches are multiplied row by row.
const SPARSE: u32 = 12;

/// One dense list in the making.
pub(crate) struct DenseScan<'a> {
    pub(crate) query: &'a Query,
    pub(crate) view: usize,
    pub(crate) query_weight: f64,
    pub(crate) weight: f64,
    pub(crate) top: TopK,
    /// Of the cosines, where the fusion needs it.
    pub(crate) mean: Option<Mean>,
}

/// Offer the masked rows of one block to `Q` dense lists of one view, which is read once for all of them.
pub(crate) fn scan_block<const Q: usize>(
    kernel: Kernel,
    store: &VectorStore,
    scans: &mut [DenseScan<'_>; Q],
    rows: Range<usize>,
    mask: &[u64; WORDS],
    orders: &[u64],
) {
    let groups = rows.clone().step_by(BLOCK_ROWS).zip(mask).filter(|&(_, &word)| word != 0);
    let groups = groups.map(|(start, &word)| Group { start, count: BLOCK_ROWS.min(rows.end - start), word });
    if scans.iter().any(|scan| scan.top.is_open()) {
        let mut dots = [[[0_i32; BLOCK_ROWS]; Q]; WORDS];
        for (group, dots) in groups.clone().zip(&mut dots) {
            group.multiply(kernel, store, scans, dots);
        }
        raise_thresholds(kernel, store, scans, groups.clone().zip(&dots));
        for (group, dots) in groups.zip(&dots) {
            group.offer(kernel, store, scans, dots, orders);
        }
    } else {
        let mut dots = [[0_i32; BLOCK_ROWS]; Q];
        for group in groups {
            group.multiply(kernel, store, scans, &mut dots);
            group.offer(kernel, store, scans, &dots, orders);
        }
    }
}

/// Give lists that know no threshold yet one to begin with. Else each would take in most of its first rows and sort them out
/// again, which is work that a small partition's search would feel.
///
/// The best rows of the 64 lanes of a block are 64 rows, so at least n rows of it reach the n-th best of them.
fn raise_thresholds<'a, const Q: usize>(
    kernel: Kernel,
    store: &VectorStore,
    scans: &mut [DenseScan<'_>; Q],
    groups: impl Iterator<Item = (Group, &'a [[i32; BLOCK_ROWS]; Q])>,
) {
    let mut best = [[f32::NEG_INFINITY; BLOCK_ROWS]; Q];
    for (group, dots) in groups.filter(|(group, _)| group.word == u64::MAX) {
        for (best, dots) in best.iter_mut().zip(dots) {
            kernel.raise_lanes(dots, group.scales(store), best);
        }
    }
    for (scan, mut best) in scans.iter_mut().zip(best) {
        if scan.top.is_open() {
            let place = scan.top.limit() - 1;
            let (_, &mut threshold, _) = best.select_nth_unstable_by(place, |a, b| b.total_cmp(a));
            scan.top.raise(f64::from(threshold));
        }
    }
}

/// Rows of a block that share a word of its mask.
#[derive(Clone, Copy)]
struct Group {
    start: usize,
    count: usize,
    word: u64,
}

impl Group {
    fn scales(self, store: &VectorStore) -> &[f32] {
        store.scales().get(self.start..self.start + self.count).unwrap_or_default()
    }

    /// Dot products of each list's query with the rows whose bit is set, at least.
    fn multiply<const Q: usize>(
        self,
        kernel: Kernel,
        store: &VectorStore,
        scans: &[DenseScan<'_>; Q],
        dots: &mut [[i32; BLOCK_ROWS]; Q],
    ) {
        let queries = scans.each_ref().map(|scan| scan.query);
        if self.word.count_ones() >= SPARSE {
            kernel.dot_rows(queries, store.high(self.start, self.count), dots);
            return;
        }
        let mut single = [[0_i32; BLOCK_ROWS]; Q];
        for bit in bits(self.word) {
            kernel.dot_rows(queries, store.high(self.start + bit, 1), &mut single);
            for (dots, [dot, ..]) in dots.iter_mut().zip(&single) {
                dots.get_mut(bit).into_iter().for_each(|place| *place = *dot);
            }
        }
    }

    /// Offer the rows whose bit is set to the lists.
    fn offer<const Q: usize>(
        self,
        kernel: Kernel,
        store: &VectorStore,
        scans: &mut [DenseScan<'_>; Q],
        dots: &[[i32; BLOCK_ROWS]; Q],
        orders: &[u64],
    ) {
        let scales = self.scales(store);
        for (scan, dots) in scans.iter_mut().zip(dots) {
            if let Some(mean) = &mut scan.mean {
                mean.add(self.word, dots, scales);
            }
            // The threshold is one of these scores, or minus infinity, so nothing is lost by its rounding.
            let reached = kernel.reaching(dots, scales, scan.top.threshold() as f32);
            for bit in bits(reached & self.word) {
                let (Some(&dot), Some(&scale)) = (dots.get(bit), scales.get(bit)) else { continue };
                // A scale of zero marks a row without a vector.
                if scale > 0.0 {
                    let row = self.start + bit;
                    let order = orders.get(row).copied().unwrap_or_default();
                    scan.top.push(Candidate { score: f64::from(dot as f32 * scale), order, row: row as u32 });
                }
            }
        }
    }
}

/// Positions of the bits that are set.
fn bits(mut word: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let bit = word.trailing_zeros() as usize;
        word &= word.wrapping_sub(1);
        (bit < 64).then_some(bit)
    })
}
