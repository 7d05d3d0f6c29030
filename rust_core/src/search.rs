//! One hybrid search over a partition: filter, dense lists, lexical lists and fusion in one pass over the blocks.
//!
//! Blocks of 1,024 rows are visited from the newest to the oldest. Each is filtered first, then read once for all dense
//! and lexical lists, so every list covers exactly the rows counted as scanned, and what a deadline cuts off is
//! the oldest.

use std::time::Instant;

use crate::ann::search::Seen;
use crate::blend::{Blend, DenseList, LexicalList, Mean};
use crate::dense::{DenseScan, scan_block};
use crate::error::CoreError;
use crate::filter::RowFilter;
use crate::fusion::Fusion;
use crate::lexical::postings::count_terms;
use crate::lexical::scan::{BLOCK, LexicalScan};
use crate::lexical::sessions::session_scores;
use crate::partition::Partition;
pub use crate::plan::{FusionMethod, MAX_WEIGHT, SearchPlan, default_rescore};
use crate::ranking::Similarities;
use crate::rows::Id;
use crate::vector::kernel::Kernel;
use crate::vector::quantize::Query;
use crate::vector::topk::{Candidate, TopK};

/// m hits, best first; s lists' sources: the dense ones of each view, then the lexical ones.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SearchResult {
    /// Ids.
    pub ids: Vec<Id>,
    /// Fused scores.
    pub scores: Vec<f32>,
    /// (m, s): the best rank over the query views, from 1; 0 where the source doesn't hold the row.
    pub ranks: Vec<u32>,
    /// (m, p): what each score is made of, before the plan's weights; see [`crate::ranking`].
    pub parts: Vec<f32>,
    /// p; 0 with reciprocal ranks.
    pub part_count: usize,
    /// Cosine of the first query vector with view 0 at full precision; NaN where there is none.
    pub similarities: Vec<f32>,
    /// What was left out for repeating a hit: its id, and the hit's position.
    pub duplicates: Vec<(Id, u32)>,
    /// Rows that passed the filter, of those scanned.
    pub matched_count: usize,
    /// Rows looked at.
    pub scanned_count: usize,
    /// Whether all rows were looked at.
    pub is_complete: bool,
    /// Whether the dense lists come from scans alone; a graph may miss some of the best.
    pub is_exact: bool,
}

impl SearchResult {
    /// Expect so many hits from so many sources.
    pub(crate) fn reserve(&mut self, hits: usize, sources: usize) {
        self.ids.reserve(hits);
        self.scores.reserve(hits);
        self.ranks.reserve(hits * sources);
        self.parts.reserve(hits * self.part_count);
        self.similarities.reserve(hits);
    }
}

/// One lexical list in the making.
struct LexicalEntry<'a> {
    scan: LexicalScan<'a>,
    view: usize,
    query_weight: f64,
    weight: f64,
}

impl Partition {
    /// Run a search.
    ///
    /// # Errors
    /// A variant of [`CoreError`] that names the field of the plan which is refused.
    pub fn search(&self, plan: &SearchPlan) -> Result<SearchResult, CoreError> {
        let start = Instant::now();
        let (views, dim) = (self.schema().views, self.schema().dim);
        plan.check(views, dim)?;
        let mut filter = RowFilter::new(&plan.filter, plan.now, |name| self.name_number(name), &self.metadata)?;
        let queries: Vec<Query> = plan.vectors.chunks(dim).map(Query::new).collect();
        let kernel = Kernel::best();
        let mut dense = self.dense_scans(plan, &queries);
        let mut lexical = self.lexical_scans(plan);

        // With graphs, the dense lists come after the scan, when it is known how many rows the filter lets through.
        let graphs = self.ann.ready().filter(|_| !dense.is_empty());
        let mut seen = graphs.map(|_| Seen::new(self.len()));

        let mut result = SearchResult { is_complete: true, is_exact: true, ..SearchResult::default() };
        for block in (0..self.len().div_ceil(BLOCK)).rev() {
            if plan.deadline.is_some_and(|deadline| start.elapsed() >= deadline) {
                result.is_complete = false;
                break;
            }
            let rows = block * BLOCK..self.len().min((block + 1) * BLOCK);
            result.scanned_count += rows.len();
            let (mask, matched) = filter.mask(&self.columns, rows.clone());
            if matched == 0 {
                continue;
            }
            result.matched_count += matched;
            if let Some(seen) = &mut seen {
                seen.note(block, &mask, matched);
            }
            let scanned = if graphs.is_none() { dense.as_mut_slice() } else { &mut [] };
            for scans in scanned.chunk_by_mut(|a, b| a.view == b.view) {
                let Some(store) = scans.first().and_then(|scan| self.vectors.get(scan.view)) else { continue };
                let (pairs, single) = scans.as_chunks_mut::<2>();
                for pair in pairs {
                    scan_block(kernel, store, pair, rows.clone(), &mask, &self.columns.order);
                }
                for one in single.as_chunks_mut::<1>().0 {
                    scan_block(kernel, store, one, rows.clone(), &mask, &self.columns.order);
                }
            }
            for LexicalEntry { scan, .. } in &mut lexical {
                scan.scan_block(rows.start, &mask, &self.columns.order);
            }
        }

        if let (Some(graphs), Some(seen)) = (graphs, &seen) {
            let depth = plan.rescore.max(plan.list_depth);
            result.is_exact = self.search_graphs(graphs, seen, depth, kernel, &mut dense);
        }

        let mut fusion = Fusion::new(plan.rrf_k, 2 * views);
        let mut similarities = Similarities::new(kernel, queries.first(), self.vectors.first());
        let mut blend = Blend::new(kernel, views, self.schema().heat_half_life);
        for scan in dense {
            let DenseScan { query, view, query_weight, weight, top, mean } = scan;
            let ranking = self.rescored(kernel, plan.list_depth, &top.into_unordered(), query, view);
            similarities.learn(query, view, &ranking);
            fusion.add(view, weight, ranking.iter().map(|candidate| candidate.row));
            if let (Some(mean), Some(first)) = (mean, ranking.first()) {
                blend.dense.push(DenseList {
                    query,
                    view,
                    weight: query_weight,
                    mean: mean.value() * query.scan_unit,
                    best: first.score,
                });
            }
        }
        for LexicalEntry { mut scan, view, query_weight, weight } in lexical {
            let ranking = scan.finish();
            fusion.add(views + view, weight, ranking.iter().map(|candidate| candidate.row));
            if let Some(first) = ranking.first() {
                blend.lexical.push(LexicalList { scan, view, weight: query_weight, best: first.score });
            }
        }
        match plan.fusion {
            FusionMethod::ReciprocalRank => {
                self.collect(plan, &fusion, None, &mut filter, &similarities, &mut result);
            }
            FusionMethod::Score => {
                self.add_priors(plan, &mut blend);
                self.collect(plan, &fusion, Some(&blend), &mut filter, &similarities, &mut result);
            }
        }
        Ok(result)
    }

    /// What score fusion knows besides the lists: the sessions' scores, and who is named.
    fn add_priors(&self, plan: &SearchPlan, blend: &mut Blend<'_>) {
        blend.speakers = plan.speakers.iter().filter_map(|speaker| self.name_number(speaker)).collect();
        if plan.session_weight > 0.0 {
            blend.sessions = plan
                .texts
                .iter()
                .zip(&plan.text_weights)
                .map(|(text, weight)| {
                    let terms = count_terms(&self.schema().analyser, text);
                    let (view, sessions) = (self.schema().views, &self.columns.session);
                    let scores = session_scores(&self.lexical, view, &terms, sessions, self.session_lengths());
                    (scores, *weight)
                })
                .collect();
        }
    }

    fn dense_scans<'a>(&self, plan: &SearchPlan, queries: &'a [Query]) -> Vec<DenseScan<'a>> {
        let depth = plan.rescore.max(plan.list_depth);
        let pairs = queries.iter().zip(&plan.vector_weights).filter(|(query, _)| !query.is_zero);
        // View by view: neighbours with one view are scanned together.
        let scans = plan.dense_weights.iter().enumerate().flat_map(|(view, view_weight)| {
            pairs.clone().map(move |(query, query_weight)| (query, view, *query_weight, query_weight * view_weight))
        });
        scans
            .filter(|&(_, _, _, weight)| weight > 0.0)
            .map(|(query, view, query_weight, weight)| {
                let mean = (plan.fusion == FusionMethod::Score).then(Mean::default);
                DenseScan { query, view, query_weight, weight, top: TopK::new(depth, self.len()), mean }
            })
            .collect()
    }

    fn lexical_scans(&self, plan: &SearchPlan) -> Vec<LexicalEntry<'_>> {
        let mut scans = Vec::new();
        for (text, text_weight) in plan.texts.iter().zip(&plan.text_weights) {
            let terms = count_terms(&self.schema().analyser, text);
            for (view, view_weight) in plan.lexical_weights.iter().enumerate() {
                let weight = text_weight * view_weight;
                if weight > 0.0 {
                    let scan = LexicalScan::new(&self.lexical, view, &terms, plan.list_depth);
                    if !scan.is_empty() {
                        scans.push(LexicalEntry { scan, view, query_weight: *text_weight, weight });
                    }
                }
            }
        }
        scans
    }

    /// The best `depth` of the candidates by full-precision cosine, best first.
    fn rescored(
        &self,
        kernel: Kernel,
        depth: usize,
        candidates: &[Candidate],
        query: &Query,
        view: usize,
    ) -> Vec<Candidate> {
        let Some(store) = self.vectors.get(view) else { return Vec::new() };
        let mut top = TopK::new(depth, candidates.len());
        for candidate in candidates {
            if let Some(cosine) = store.cosine(kernel, query, candidate.row as usize) {
                top.push(Candidate { score: f64::from(cosine), ..*candidate });
            }
        }
        top.into_sorted()
    }
}
