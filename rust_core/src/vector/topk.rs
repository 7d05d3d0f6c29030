//! Bounded selection of the best candidates.
//!
//! Not a binary heap: candidates above the threshold go to a buffer of twice the limit, and a full buffer is cut to
//! its best half by selection, which raises the threshold. An accepted candidate costs O(1) on average instead of
//! O(log k), a rejected one a comparison.

use std::cmp::Ordering;

/// Largest limit of a selection that [`TopK::raise`] is for: half of the 64 scores that its caller takes the threshold from.
/// A larger share of them would let too much through.
const MOST_RAISED: usize = 32;

/// A row with its score. Better: higher score, then newer (higher order), then lower row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate {
    /// Higher is better; finite.
    pub score: f64,
    /// Commit order of the row.
    pub order: u64,
    /// Position of the row in its partition.
    pub row: u32,
}

impl Candidate {
    /// `Less` when `self` is the better one: the order of a ranking.
    #[must_use]
    pub fn compare(&self, other: &Self) -> Ordering {
        other
            .score
            .total_cmp(&self.score)
            .then_with(|| other.order.cmp(&self.order))
            .then_with(|| self.row.cmp(&other.row))
    }
}

/// The best `limit` of the candidates pushed so far, and perhaps some more.
#[derive(Debug)]
pub struct TopK {
    limit: usize,
    buffer: Vec<Candidate>,
    threshold: f64,
}

impl TopK {
    /// Select the best `limit` of at most `expected` candidates.
    #[must_use]
    pub fn new(limit: usize, expected: usize) -> Self {
        let capacity = limit.saturating_mul(2).min(expected);
        Self { limit, buffer: Vec::with_capacity(capacity), threshold: f64::NEG_INFINITY }
    }

    /// Scores below this are among the best no more; equal ones may be, by their order.
    #[must_use]
    pub fn threshold(&self) -> f64 {
        self.threshold
    }

    /// The best how many.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Whether nothing is known yet of what is good enough, and so few are wanted that [`Self::raise`] helps.
    #[must_use]
    pub fn is_open(&self) -> bool {
        (1..=MOST_RAISED).contains(&self.limit) && self.threshold == f64::NEG_INFINITY
    }

    /// Refuse scores below this from now on: at least `limit` candidates that are offered later reach it.
    pub fn raise(&mut self, threshold: f64) {
        self.threshold = self.threshold.max(threshold);
    }

    /// Offer a candidate.
    pub fn push(&mut self, candidate: Candidate) {
        if candidate.score < self.threshold || self.limit == 0 {
            return;
        }
        self.buffer.push(candidate);
        if self.buffer.len() >= self.limit.saturating_mul(2) {
            self.cut();
        }
    }

    fn cut(&mut self) {
        if self.buffer.len() < self.limit || self.limit == 0 {
            return;
        }
        let (_, last, _) = self.buffer.select_nth_unstable_by(self.limit - 1, Candidate::compare);
        self.threshold = last.score;
        self.buffer.truncate(self.limit);
    }

    /// The best `limit`, in no order.
    #[must_use]
    pub fn into_unordered(mut self) -> Vec<Candidate> {
        self.cut();
        self.buffer
    }

    /// The best `limit`, best first.
    #[must_use]
    pub fn into_sorted(self) -> Vec<Candidate> {
        let mut best = self.into_unordered();
        best.sort_unstable_by(Candidate::compare);
        best
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn keeps_the_best_in_order(scores in prop::collection::vec(0_u8..20, 0..300), limit in 0_usize..40) {
            let all: Vec<Candidate> = scores
                .iter()
                .enumerate()
                .map(|(i, &s)| Candidate { score: f64::from(s), order: (i as u64 * 7) % 11, row: i as u32 })
                .collect();
            let mut top = TopK::new(limit, all.len());
            for &candidate in &all {
                top.push(candidate);
            }
            let mut expected = all;
            expected.sort_by(Candidate::compare);
            expected.truncate(limit);
            prop_assert_eq!(top.into_sorted(), &*expected);
            // The same from any threshold that enough candidates reach.
            if let Some(last) = expected.last().filter(|_| expected.len() == limit) {
                let mut top = TopK::new(limit, scores.len());
                top.raise(last.score - f64::from(scores.len() as u8 % 3));
                for (i, &s) in scores.iter().enumerate() {
                    top.push(Candidate { score: f64::from(s), order: (i as u64 * 7) % 11, row: i as u32 });
                }
                prop_assert_eq!(top.into_sorted(), expected);
            }
        }
    }
}
