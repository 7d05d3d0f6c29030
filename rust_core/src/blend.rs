//! Score fusion: every list's scores brought to one scale and added, with what is known of a row besides.
//!
//! A dense list's scale runs from the mean cosine of all rows considered (0) to its best (1, or less where hardly any row
//! stands out), a lexical list's from no
//! shared term (0) to its best (1). Unlike ranks, scores keep how far ahead the best is, and a row that a list
//! was too short to hold still gets that list's exact score. In a `NumPy`
//! reference, on LoCoMo (turns, all questions), this found R@10 .771 and MRR .562 where reciprocal rank fusion of the same
//! four lists found .729 and .495.

use hashbrown::HashMap;

use crate::columns::{Columns, PRIOR_UNIT};
use crate::lexical::scan::LexicalScan;
use crate::search::SearchPlan;
use crate::vector::kernel::Kernel;
use crate::vector::quantize::Query;
use crate::vector::store::VectorStore;

/// The scale of a dense list is never finer than this. Where the best cosine is hardly above the mean, as among a handful of
/// memories or near-copies, the list knows little: small differences, in the end those of quantization, must not
/// become as large as real ones. Lists over a long conversation spread wider, and are left as they are.
const LEAST_SPREAD: f64 = 0.1;

/// One dense list: a query vector against a passage view.
pub(crate) struct DenseList<'a> {
    pub(crate) query: &'a Query,
    pub(crate) view: usize,
    /// Of the query vector.
    pub(crate) weight: f64,
    /// Of the cosines of all rows considered.
    pub(crate) mean: f64,
    /// The list's highest cosine.
    pub(crate) best: f64,
}

/// One lexical list: a query text against a passage view.
pub(crate) struct LexicalList<'a> {
    pub(crate) scan: LexicalScan<'a>,
    pub(crate) view: usize,
    /// Of the query text.
    pub(crate) weight: f64,
    /// The list's highest score, positive.
    pub(crate) best: f64,
}

/// What a row's fused score is made of.
pub(crate) struct Blend<'a> {
    pub(crate) kernel: Kernel,
    pub(crate) views: usize,
    /// Of the rows' heat.
    half_life: i64,
    pub(crate) dense: Vec<DenseList<'a>>,
    pub(crate) lexical: Vec<LexicalList<'a>>,
    /// Scores of the sessions, with the weight of the query text that they are for.
    pub(crate) sessions: Vec<(HashMap<u32, f64>, f64)>,
    /// Numbers of the speakers whom the query names.
    pub(crate) speakers: Vec<u32>,
}

impl Blend<'_> {
    /// Nothing yet.
    pub(crate) fn new(kernel: Kernel, views: usize, half_life: i64) -> Self {
        let (dense, lexical, sessions, speakers) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Self { kernel, views, half_life, dense, lexical, sessions, speakers }
    }

    /// The plan's weight of each part.
    pub(crate) fn weights(&self, plan: &SearchPlan) -> Vec<f64> {
        let lists = |weights: &'_ [f64]| {
            let mut weights = weights.to_vec();
            weights.resize(self.views, 0.0);
            weights
        };
        let besides = [
            plan.session_weight,
            plan.prior_weight,
            plan.speaker_boost,
            plan.boost,
            plan.heat_weight,
            plan.link_weight,
        ];
        [lists(&plan.dense_weights), lists(&plan.lexical_weights), besides.to_vec()].concat()
    }

    /// Set the parts of a row's score; all 0 for a row that doesn't exist.
    pub(crate) fn set_parts(
        &self,
        plan: &SearchPlan,
        columns: &Columns,
        vectors: &[VectorStore],
        row: usize,
        parts: &mut [f64],
    ) {
        parts.fill(0.0);
        let Some(values) = columns.get(row) else { return };
        let Some((lists, besides)) = parts.split_at_mut_checked(2 * self.views) else { return };
        for list in &self.dense {
            let cosine = vectors.get(list.view).and_then(|store| store.cosine(self.kernel, list.query, row));
            if let (Some(cosine), Some(part)) = (cosine, lists.get_mut(list.view)) {
                *part += list.weight * (f64::from(cosine) - list.mean) / (list.best - list.mean).max(LEAST_SPREAD);
            }
        }
        for list in &self.lexical {
            if let Some(part) = lists.get_mut(self.views + list.view) {
                *part += list.weight * list.scan.score(row) as f64 / list.best;
            }
        }
        let sessions = self.sessions.iter();
        let of_session = |(scores, weight): &(HashMap<u32, f64>, f64)| {
            weight * scores.get(&values.session).copied().unwrap_or_default()
        };
        let heat = values.heat().at(plan.now, self.half_life);
        let all = [
            sessions.map(of_session).sum(),
            f64::from(values.prior) / f64::from(PRIOR_UNIT),
            f64::from(u8::from(self.speakers.contains(&values.speaker))),
            f64::from(u8::from((plan.boost_from..plan.boost_to).contains(&values.occurred_at))),
            heat / (1.0 + heat),
            // Known once all rows are scored.
            0.0,
        ];
        besides.iter_mut().zip(all).for_each(|(part, value)| *part = value);
    }
}

/// A mean of scanned scores in the making (see `Query::scan_unit`), over the rows of a scan.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Mean {
    sum: f64,
    count: u64,
}

impl Mean {
    /// Add the rows of a group whose bit is set in `word` and which have a vector (a positive scale).
    pub(crate) fn add(&mut self, word: u64, dots: &[i32], scales: &[f32]) {
        const LANES: usize = 16;
        if word == u64::MAX {
            // Lanes of their own, so that the compiler may use vector registers.
            let mut sums = [0.0_f32; LANES];
            let mut counts = [0_u32; LANES];
            for (dots, scales) in dots.chunks_exact(LANES).zip(scales.chunks_exact(LANES)) {
                for (((sum, count), &dot), &scale) in sums.iter_mut().zip(&mut counts).zip(dots).zip(scales) {
                    *sum += dot as f32 * scale;
                    *count += u32::from(scale > 0.0);
                }
            }
            self.sum += sums.iter().map(|&sum| f64::from(sum)).sum::<f64>();
            self.count += counts.iter().map(|&count| u64::from(count)).sum::<u64>();
            return;
        }
        for (bit, (&dot, &scale)) in dots.iter().zip(scales).enumerate() {
            if word >> bit & 1 == 1 && scale > 0.0 {
                self.sum += f64::from(dot as f32 * scale);
                self.count += 1;
            }
        }
    }

    /// The mean; 0 of nothing.
    pub(crate) fn value(&self) -> f64 {
        if self.count == 0 { 0.0 } else { self.sum / self.count as f64 }
    }
}
