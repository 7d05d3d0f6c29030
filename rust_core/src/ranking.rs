//! From fused lists to hits: what each row scores, what its score is made of, and what is dropped as a repetition.
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
//! heat                 h / (1 + h) of the row's access heat h at `now`
//! link                 what linked hits pass on
//! ```
//!
//! So other weights of the same lists are tried by one matrix product, without another search. A list that the plan leaves
//! out (weight 0) isn't computed and is 0.
//!
//! **Links**, with either fusion: once all rows are scored, each of the best `link_depth` passes its score, if positive, on
//! to the rows linked to it in either direction, in equal shares, so that what links to much gives little to each. A row
//! receives the sum of the shares, times `link_weight`. One hop: what is passed on is the score without links. A row
//! that no list holds becomes a hit if the filter lets it pass.
//!
//! **Repetitions** are looked for last, best hit first; see `duplicates.rs`.

use hashbrown::HashMap;

use crate::blend::Blend;
use crate::duplicates::Kept;
use crate::filter::RowFilter;
use crate::fusion::Fusion;
use crate::partition::Partition;
use crate::search::{SearchPlan, SearchResult};
use crate::vector::kernel::Kernel;
use crate::vector::quantize::Query;
use crate::vector::store::VectorStore;
use crate::vector::topk::Candidate;

/// Names of the parts besides the lists, in the order in which they follow the lists' parts.
pub const PARTS_BESIDE_LISTS: [&str; 6] = ["session", "prior", "speaker", "time", "heat", "link"];

/// No list holds the row: ranks of as many lists as there may be.
const NO_RANKS: [u32; 8] = [0; 8];

/// A row that some list holds, or that is linked to one.
struct Hit<'a> {
    candidate: Candidate,
    ranks: &'a [u32],
    /// Where its parts are.
    index: usize,
}

/// Scores rows, and remembers of what.
struct Scorer<'a> {
    partition: &'a Partition,
    plan: &'a SearchPlan,
    blend: Option<&'a Blend<'a>>,
    /// With reciprocal ranks, what a boosted time adds.
    bonus: f64,
    weights: Vec<f64>,
    parts: Vec<f64>,
    count: usize,
}

impl<'a> Scorer<'a> {
    fn new(partition: &'a Partition, plan: &'a SearchPlan, blend: Option<&'a Blend<'a>>, fusion: &Fusion) -> Self {
        let weights = blend.map(|blend| blend.weights(plan)).unwrap_or_default();
        Self { partition, plan, blend, bonus: fusion.share(plan.boost, 1), weights, parts: Vec::new(), count: 0 }
    }

    /// The hit of a row with these shares of ranks; `None` for a row that doesn't exist.
    fn hit<'h>(&mut self, row: u32, shares: f64, ranks: &'h [u32]) -> Option<Hit<'h>> {
        let columns = &self.partition.columns;
        let (time, &order) = (columns.occurred_at.get(row as usize)?, columns.order.get(row as usize)?);
        let start = self.count * self.weights.len();
        self.parts.resize(start + self.weights.len(), 0.0);
        let score = match (self.blend, self.parts.get_mut(start..)) {
            (Some(blend), Some(parts)) => {
                blend.set_parts(self.plan, columns, &self.partition.vectors, row as usize, parts);
                parts.iter().zip(&self.weights).map(|(part, weight)| part * weight).sum()
            }
            _ if (self.plan.boost_from..self.plan.boost_to).contains(time) => shares + self.bonus,
            _ => shares,
        };
        self.count += 1;
        Some(Hit { candidate: Candidate { score, order, row }, ranks, index: self.count - 1 })
    }

    /// Add what linked hits pass on to it.
    fn receive(&mut self, hit: &mut Hit<'_>, share: f64) {
        hit.candidate.score += self.plan.link_weight * share;
        let width = self.weights.len();
        if let Some(link) = self.parts.get_mut(hit.index * width..(hit.index + 1) * width).and_then(<[f64]>::last_mut) {
            *link = share;
        }
    }

    fn parts(&self, hit: &Hit<'_>) -> &[f64] {
        let width = self.weights.len();
        self.parts.get(hit.index * width..(hit.index + 1) * width).unwrap_or_default()
    }
}

/// Cosines of the first query vector with view 0.
pub(crate) struct Similarities<'a> {
    kernel: Kernel,
    query: Option<&'a Query>,
    store: Option<&'a VectorStore>,
    /// The list that says them of its rows, if there is one.
    known: Vec<Candidate>,
}

impl<'a> Similarities<'a> {
    /// Nothing known yet.
    pub(crate) fn new(kernel: Kernel, query: Option<&'a Query>, store: Option<&'a VectorStore>) -> Self {
        Self { kernel, query, store, known: Vec::new() }
    }

    /// Take over what a list of rescored candidates says.
    pub(crate) fn learn(&mut self, query: &Query, view: usize, ranking: &[Candidate]) {
        if view == 0 && self.query.is_some_and(|first| std::ptr::eq(first, query)) {
            self.known = ranking.to_vec();
        }
    }

    /// Of a row, at full precision; NaN where there is none.
    fn of(&self, row: u32) -> f32 {
        if let Some(known) = self.known.iter().find(|candidate| candidate.row == row) {
            return known.score as f32;
        }
        let cosine =
            self.store.zip(self.query).and_then(|(store, query)| store.cosine(self.kernel, query, row as usize));
        cosine.unwrap_or(f32::NAN)
    }
}

impl Partition {
    /// Score what the lists hold, by `blend` or else by ranks, and report the best.
    #[allow(clippy::too_many_arguments)] // what one search knows
    pub(crate) fn collect(
        &self,
        plan: &SearchPlan,
        fusion: &Fusion,
        blend: Option<&Blend<'_>>,
        filter: &mut RowFilter<'_>,
        similarities: &Similarities<'_>,
        result: &mut SearchResult,
    ) {
        let mut scorer = Scorer::new(self, plan, blend, fusion);
        let mut hits: Vec<Hit<'_>> = Vec::with_capacity(fusion.len());
        for fused in fusion.fused() {
            hits.extend(scorer.hit(fused.row, fused.score, fused.ranks));
        }
        hits.sort_unstable_by(|a, b| a.candidate.compare(&b.candidate));
        if plan.link_weight > 0.0 && !self.links.is_empty() {
            self.pass_on(plan, &mut scorer, filter, &mut hits);
        }
        result.part_count = scorer.weights.len();
        result.reserve(hits.len().min(plan.max_candidates), 2 * self.schema().views);
        let is_deduplicated = plan.duplicate_similarity > 0.0;
        let mut kept =
            Kept::new(similarities.kernel, &self.columns, &self.vectors, self.schema().dim, plan.duplicate_similarity);
        for hit in hits {
            if result.ids.len() == plan.max_candidates {
                break;
            }
            let row = hit.candidate.row as usize;
            let Some(&id) = self.columns.id.get(row) else { continue };
            if is_deduplicated && let Some(original) = kept.push(row) {
                result.duplicates.push((id, original as u32));
                continue;
            }
            result.ids.push(id);
            result.scores.push(hit.candidate.score as f32);
            result.ranks.extend_from_slice(hit.ranks);
            result.parts.extend(scorer.parts(&hit).iter().map(|&part| part as f32));
            result.similarities.push(similarities.of(hit.candidate.row));
        }
    }

    /// Let the best hits, which come first, pass on what they score; and order the hits anew.
    fn pass_on(&self, plan: &SearchPlan, scorer: &mut Scorer<'_>, filter: &mut RowFilter<'_>, hits: &mut Vec<Hit<'_>>) {
        let mut shares: HashMap<u32, f64> = HashMap::new();
        for giver in hits.iter().take(plan.link_depth).filter(|hit| hit.candidate.score > 0.0) {
            let neighbours = self.linked_rows(giver.candidate.row);
            let share = giver.candidate.score / neighbours.len().max(1) as f64;
            for row in neighbours {
                *shares.entry(row).or_default() += share;
            }
        }
        for hit in hits.iter_mut() {
            if let Some(share) = shares.remove(&hit.candidate.row) {
                scorer.receive(hit, share);
            }
        }
        let no_ranks = NO_RANKS.get(..2 * self.schema().views).unwrap_or_default();
        for (row, share) in shares {
            if filter.matches(&self.columns, row as usize)
                && let Some(mut hit) = scorer.hit(row, 0.0, no_ranks)
            {
                scorer.receive(&mut hit, share);
                hits.push(hit);
            }
        }
        hits.sort_unstable_by(|a, b| a.candidate.compare(&b.candidate));
    }

    /// The rows linked to a row, in either direction, each once; links to ids that aren't held don't count.
    fn linked_rows(&self, row: u32) -> Vec<u32> {
        let Some(id) = self.columns.id.get(row as usize) else { return Vec::new() };
        let mut rows: Vec<u32> =
            self.links.neighbours(id).filter_map(|id| self.position(id)).map(|row| row as u32).collect();
        rows.sort_unstable();
        rows.dedup();
        rows
    }
}
