//! One hybrid search over a partition: filter, dense lists, lexical lists and fusion in one pass over the blocks.
//!
//! Blocks of 1,024 rows are visited from the newest to the oldest. Each is filtered first, then read once for all dense
//! and lexical lists, so every list covers exactly the rows counted as scanned, and what a deadline cuts off is
//! the oldest.

use std::ops::Range;
use std::time::{Duration, Instant};

use crate::ann::search::Seen;
use crate::blend::{Blend, DenseList, LexicalList, Mean};
use crate::error::CoreError;
use crate::filter::{RowFilter, SearchFilter, WORDS};
use crate::fusion::Fusion;
use crate::lexical::postings::count_terms;
use crate::lexical::scan::{BLOCK, LexicalScan};
use crate::lexical::sessions::session_scores;
use crate::partition::Partition;
use crate::rows::{ALWAYS, Id};
use crate::vector::kernel::{BLOCK_ROWS, Kernel};
use crate::vector::quantize::Query;
use crate::vector::store::VectorStore;
use crate::vector::topk::{Candidate, TopK};

/// Largest weight, boost and fusion constant.
pub const MAX_WEIGHT: u32 = 1_000_000;
/// Groups of 64 rows with fewer matches are multiplied row by row.
const SPARSE: u32 = 12;

/// How lists become one order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FusionMethod {
    /// Weighted reciprocal ranks, see [`crate::fusion`].
    ReciprocalRank,
    /// Scores on one scale, added; then the session, prior and speaker parts of the plan.
    Score,
}

/// What to search for, where, and at what cost. `q` query vectors, `t` query texts, `v` passage views.
#[derive(Debug, Clone, PartialEq)]
pub struct SearchPlan {
    /// (q, dim); brought to unit length. An all-zero one finds nothing.
    pub vectors: Vec<f32>,
    /// Lexical query views.
    pub texts: Vec<String>,
    /// (q,) weight of each query vector.
    pub vector_weights: Vec<f64>,
    /// (t,) weight of each query text.
    pub text_weights: Vec<f64>,
    /// (v,) weight of each view's dense lists; 0 leaves them out.
    pub dense_weights: Vec<f64>,
    /// (v,) weight of each view's lexical lists; 0 leaves them out.
    pub lexical_weights: Vec<f64>,
    /// Entries taken from each list before fusion, at least 1.
    pub list_depth: usize,
    /// Candidates of each dense list that are rescored at full precision; at least `list_depth` are.
    pub rescore: usize,
    /// Most hits returned, at least 1.
    pub max_candidates: usize,
    /// Microseconds; decides about expiry and, without `filter.as_of`, validity.
    pub now: i64,
    /// Damping constant of the fusion.
    pub rrf_k: f64,
    /// Which rows are considered.
    pub filter: SearchFilter,
    /// How the lists are fused.
    pub fusion: FusionMethod,
    /// Added to rows with `boost_from <= occurred_at < boost_to`; with reciprocal ranks divided by `rrf_k + 1`.
    pub boost: f64,
    /// Start of the boosted time.
    pub boost_from: i64,
    /// End of the boosted time.
    pub boost_to: i64,
    /// Scan no further once this much time has passed.
    pub deadline: Option<Duration>,
    /// Whom the query names. Score fusion alone, as are the next three.
    pub speakers: Vec<String>,
    /// Added to rows of these speakers.
    pub speaker_boost: f64,
    /// Weight of the rows' priors.
    pub prior_weight: f64,
    /// Weight of the rows' sessions: BM25 of each query text over whole sessions, the best session's 1.
    pub session_weight: f64,
    /// Weight of the rows' access heat. Score fusion alone.
    pub heat_weight: f64,
    /// Weight of what the best hits pass on to what is linked to them, see [`crate::ranking`]; 0: nothing.
    pub link_weight: f64,
    /// How many of the best hits pass on.
    pub link_depth: usize,
    /// Cosine from which on a hit repeats a better one and isn't returned, see [`SearchResult::duplicates`]; 0: none does.
    pub duplicate_similarity: f64,
}

impl SearchPlan {
    /// A plan with nothing to search for yet, for one query vector and one text of weight 1 over `views` equal views.
    #[must_use]
    pub fn new(views: usize) -> Self {
        Self {
            vectors: Vec::new(),
            texts: Vec::new(),
            vector_weights: vec![1.0],
            text_weights: vec![1.0],
            dense_weights: vec![1.0; views],
            lexical_weights: vec![1.0; views],
            list_depth: 10,
            rescore: default_rescore(10),
            max_candidates: 10,
            now: 0,
            rrf_k: 60.0,
            filter: SearchFilter::default(),
            fusion: FusionMethod::ReciprocalRank,
            boost: 0.0,
            boost_from: ALWAYS,
            boost_to: ALWAYS,
            deadline: None,
            speakers: Vec::new(),
            speaker_boost: 0.0,
            prior_weight: 0.0,
            session_weight: 0.0,
            heat_weight: 0.0,
            link_weight: 0.0,
            link_depth: 8,
            duplicate_similarity: 0.0,
        }
    }

    fn check(&self, views: usize, dim: usize) -> Result<(), CoreError> {
        let queries = self.vectors.len() / dim;
        let lengths = [
            ("vectors", self.vectors.len(), queries * dim),
            ("vector_weights", self.vector_weights.len(), queries),
            ("text_weights", self.text_weights.len(), self.texts.len()),
            ("dense_weights", self.dense_weights.len(), views),
            ("lexical_weights", self.lexical_weights.len(), views),
        ];
        // Weights of a method that is not used may be left at their defaults.
        let is_used = |field| match field {
            "vector_weights" | "dense_weights" => queries > 0,
            "text_weights" | "lexical_weights" => !self.texts.is_empty(),
            _ => true,
        };
        for (field, actual, expected) in lengths {
            if actual != expected && is_used(field) {
                return Err(CoreError::LengthMismatch { field, expected, actual });
            }
        }
        if let Some(position) = self.vectors.iter().position(|x| !x.is_finite()) {
            return Err(CoreError::NotFinite { field: "vectors", position: position / dim });
        }
        let weights = [
            ("vector_weights", self.vector_weights.as_slice()),
            ("text_weights", &self.text_weights),
            ("dense_weights", &self.dense_weights),
            ("lexical_weights", &self.lexical_weights),
            ("rrf_k", &[self.rrf_k]),
            ("boost", &[self.boost]),
            ("speaker_boost", &[self.speaker_boost]),
            ("prior_weight", &[self.prior_weight]),
            ("session_weight", &[self.session_weight]),
            ("heat_weight", &[self.heat_weight]),
            ("link_weight", &[self.link_weight]),
        ];
        for (field, values) in weights {
            if !values.iter().all(|value| (0.0..=f64::from(MAX_WEIGHT)).contains(value)) {
                return Err(CoreError::WeightOutOfRange { field, limit: MAX_WEIGHT });
            }
        }
        if !(0.0..=1.0).contains(&self.duplicate_similarity) {
            return Err(CoreError::WeightOutOfRange { field: "duplicate_similarity", limit: 1 });
        }
        for (name, value) in [("list_depth", self.list_depth), ("max_candidates", self.max_candidates)] {
            if value == 0 {
                return Err(CoreError::OptionOutOfRange { name, value, range: "at least 1" });
            }
        }
        Ok(())
    }
}

/// How many candidates to rescore for a list of `list_depth`, unless the caller knows better.
///
/// Measured on 100,000 made embeddings: with 16 more than the depth, recall of the list against float32 is 1.000 at
/// depth 10 and .9998 at 64; with none more, .98.
#[must_use]
pub fn default_rescore(list_depth: usize) -> usize {
    list_depth.saturating_add(list_depth / 8).saturating_add(16)
}

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

/// One dense list in the making.
pub(crate) struct DenseScan<'a> {
    pub(crate) query: &'a Query,
    pub(crate) view: usize,
    query_weight: f64,
    weight: f64,
    pub(crate) top: TopK,
    /// Of the cosines, where the fusion needs it.
    pub(crate) mean: Option<Mean>,
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
        let mut blend = Blend::new(kernel, views, self.schema().heat_half_life);
        for scan in dense {
            let DenseScan { query, view, query_weight, weight, top, mean } = scan;
            let ranking = self.rescored(kernel, plan.list_depth, &top.into_unordered(), query, view);
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
                self.collect(plan, &fusion, None, &mut filter, queries.first(), kernel, &mut result);
            }
            FusionMethod::Score => {
                self.add_priors(plan, &mut blend);
                self.collect(plan, &fusion, Some(&blend), &mut filter, queries.first(), kernel, &mut result);
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

/// Offer the masked rows of one block to `Q` dense lists of one view, which is read once for all of them.
pub(crate) fn scan_block<const Q: usize>(
    kernel: Kernel,
    store: &VectorStore,
    scans: &mut [DenseScan<'_>; Q],
    rows: Range<usize>,
    mask: &[u64; WORDS],
    orders: &[u64],
) {
    let mut dots = [[0_i32; BLOCK_ROWS]; Q];
    let queries = scans.each_ref().map(|scan| scan.query);
    for (group, &word) in rows.clone().step_by(BLOCK_ROWS).zip(mask) {
        if word == 0 {
            continue;
        }
        let count = BLOCK_ROWS.min(rows.end - group);
        if word.count_ones() >= SPARSE {
            kernel.dot_rows(queries, store.high(group, count), &mut dots);
        } else {
            let mut single = [[0_i32; BLOCK_ROWS]; Q];
            for bit in bits(word) {
                kernel.dot_rows(queries, store.high(group + bit, 1), &mut single);
                for (dots, [dot, ..]) in dots.iter_mut().zip(&single) {
                    dots.get_mut(bit).into_iter().for_each(|place| *place = *dot);
                }
            }
        }
        let scales = store.scales().get(group..group + count).unwrap_or_default();
        for (scan, dots) in scans.iter_mut().zip(&dots) {
            if let Some(mean) = &mut scan.mean {
                mean.add(word, dots, scales);
            }
            // The threshold is one of these scores, or minus infinity, so nothing is lost by its rounding.
            let reached = kernel.reaching(dots, scales, scan.top.threshold() as f32);
            for bit in bits(reached & word) {
                let (Some(&dot), Some(&scale)) = (dots.get(bit), scales.get(bit)) else { continue };
                // A scale of zero marks a row without a vector.
                if scale > 0.0 {
                    let row = group + bit;
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
