//! Weighted reciprocal rank fusion of several rankings.
//!
//! Source: Cormack, Clarke, Buettcher, "Reciprocal rank fusion outperforms Condorcet and individual rank learning
//! methods", SIGIR 2009.

use hashbrown::HashMap;

/// A fused row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fused<'a> {
    /// Position of the row.
    pub row: u32,
    /// Sum of its shares.
    pub score: f64,
    /// Per source, the best rank from 1; 0 where no list of the source holds the row.
    pub ranks: &'a [u32],
}

/// Merges rankings into one score per row.
#[derive(Debug)]
pub struct Fusion {
    constant: f64,
    sources: usize,
    rows: HashMap<u32, usize>,
    scores: Vec<(u32, f64)>,
    ranks: Vec<u32>,
}

impl Fusion {
    /// Start with the damping constant `k`, not negative, for lists from `sources` sources.
    #[must_use]
    pub fn new(constant: f64, sources: usize) -> Self {
        Self { constant, sources, rows: HashMap::new(), scores: Vec::new(), ranks: Vec::new() }
    }

    /// The share of rank `rank`, from 1: `weight / (k + rank)`.
    ///
    /// `1 / (k + rank)` is rounded to a multiple of 2^-40, so that with weights of few binary digits sums are exact:
    /// equal ranks give equal scores, whatever the order of the lists, and weight 2 is the same as weight 1 twice.
    #[must_use]
    pub fn share(&self, weight: f64, rank: u32) -> f64 {
        const UNIT: f64 = 1_099_511_627_776.0; // 2^40
        weight * ((UNIT / (self.constant + f64::from(rank))).round() / UNIT)
    }

    /// Add one list of a source, best first, each row at most once.
    pub fn add(&mut self, source: usize, weight: f64, ranking: impl IntoIterator<Item = u32>) {
        let ranking = ranking.into_iter();
        let more = ranking.size_hint().0;
        self.rows.reserve(more);
        self.scores.reserve(more);
        self.ranks.reserve(more * self.sources);
        for (row, rank) in ranking.zip(1_u32..) {
            let share = self.share(weight, rank);
            let index = *self.rows.entry(row).or_insert_with(|| {
                self.scores.push((row, 0.0));
                self.ranks.resize(self.ranks.len() + self.sources, 0);
                self.scores.len() - 1
            });
            if let Some((_, score)) = self.scores.get_mut(index) {
                *score += share;
            }
            if let Some(best) = self.ranks.get_mut(index * self.sources + source) {
                *best = if *best == 0 { rank } else { rank.min(*best) };
            }
        }
    }

    /// How many rows some list holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.scores.len()
    }

    /// Whether no list holds any row.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.scores.is_empty()
    }

    /// All rows that some list holds, in no particular order.
    pub fn fused(&self) -> impl Iterator<Item = Fused<'_>> {
        let ranks = self.ranks.chunks(self.sources.max(1));
        self.scores.iter().zip(ranks).map(|(&(row, score), ranks)| Fused { row, score, ranks })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn scores_are_the_sums_of_shares(
            lists in prop::collection::vec((0_usize..4, 0.0_f64..3.0, prop::collection::hash_set(0_u32..30, 0..20)), 0..6)
        ) {
            let mut forward = Fusion::new(60.0, 4);
            let mut backward = Fusion::new(60.0, 4);
            for (source, weight, rows) in &lists {
                forward.add(*source, *weight, rows.iter().copied());
            }
            for (source, weight, rows) in lists.iter().rev() {
                backward.add(*source, *weight, rows.iter().copied());
            }
            let mut forward: Vec<_> = forward.fused().collect();
            let mut backward: Vec<_> = backward.fused().collect();
            forward.sort_by_key(|fused| fused.row);
            backward.sort_by_key(|fused| fused.row);
            for (a, b) in forward.iter().zip(&backward) {
                prop_assert_eq!((a.row, a.ranks), (b.row, b.ranks));
                prop_assert!((a.score - b.score).abs() < 1e-12);
            }
            for fused in forward {
                let mut score = 0.0;
                for (source, weight, rows) in &lists {
                    if let Some(position) = rows.iter().position(|row| *row == fused.row) {
                        let rank = position as u32 + 1;
                        score += weight / (60.0 + f64::from(rank));
                        prop_assert!(fused.ranks[*source] >= 1 && fused.ranks[*source] <= rank);
                    }
                }
                prop_assert!((fused.score - score).abs() < 1e-9);
            }
        }
    }
}
