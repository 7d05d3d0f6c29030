//! From fused lists to hits: what each row scores, and what its score is made of.
//!
//! With score fusion a hit's score is the sum over its parts of weight * part. The parts, of which every hit reports all,
//! are, before the plan's weights of them:
//!
//! ```text
//! dense, per view      the list's own scale, 0 the mean to 1 the best, summed over the query vectors by their weights
//! lexical, per view    the list's own scale, 0 to 1, summed over the query texts by their weights
//! session              BM25 of the row's session, the best session's 1, summed over the query texts by their weights
//! prior                the row's prior
//! speaker, time        1 for a speaker whom the plan names, for a time within the boosted one; else 0
//! ```
//!
//! So other weights of the same lists are tried by one matrix product, without another search. A list that the plan leaves
//! out (weight 0) isn't computed and is 0.

use crate::blend::Blend;
use crate::fusion::Fusion;
use crate::partition::Partition;
use crate::search::{SearchPlan, SearchResult};
use crate::vector::kernel::Kernel;
use crate::vector::quantize::Query;
use crate::vector::topk::Candidate;

/// A row that some list holds.
struct Hit<'a> {
    candidate: Candidate,
    ranks: &'a [u32],
    /// Where its parts are.
    index: usize,
}

impl Partition {
    /// Score what the lists hold, by `blend` or else by ranks, and report the best.
    pub(crate) fn collect(
        &self,
        plan: &SearchPlan,
        fusion: &Fusion,
        blend: Option<&Blend<'_>>,
        query: Option<&Query>,
        kernel: Kernel,
        result: &mut SearchResult,
    ) {
        let bonus = fusion.share(plan.boost, 1);
        let boosted = plan.boost_from..plan.boost_to;
        let weights = blend.map(|blend| blend.weights(plan)).unwrap_or_default();
        result.part_count = weights.len();
        let mut parts: Vec<f64> = Vec::new();
        let mut hits: Vec<Hit<'_>> = Vec::new();
        for (index, fused) in fusion.fused().enumerate() {
            let row = fused.row as usize;
            let (Some(time), Some(&order)) = (self.columns.occurred_at.get(row), self.columns.order.get(row)) else {
                continue;
            };
            let start = index * weights.len();
            parts.resize(start + weights.len(), 0.0);
            let score = match (blend, parts.get_mut(start..)) {
                (Some(blend), Some(parts)) => {
                    blend.set_parts(plan, &self.columns, &self.vectors, row, parts);
                    parts.iter().zip(&weights).map(|(part, weight)| part * weight).sum()
                }
                _ => fused.score + if boosted.contains(time) { bonus } else { 0.0 },
            };
            hits.push(Hit { candidate: Candidate { score, order, row: fused.row }, ranks: fused.ranks, index });
        }
        hits.sort_unstable_by(|a, b| a.candidate.compare(&b.candidate));
        hits.truncate(plan.max_candidates);
        for Hit { candidate, ranks, index } in hits {
            let row = candidate.row as usize;
            result.ids.extend(self.columns.id.get(row));
            result.scores.push(candidate.score as f32);
            result.ranks.extend_from_slice(ranks);
            let start = index * weights.len();
            let made_of = parts.get(start..start + weights.len()).unwrap_or_default();
            result.parts.extend(made_of.iter().map(|&part| part as f32));
            let cosine = query.and_then(|query| self.vectors.first()?.cosine(kernel, query, row));
            result.similarities.push(cosine.unwrap_or(f32::NAN));
        }
    }
}
