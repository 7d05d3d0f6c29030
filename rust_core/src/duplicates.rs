//! Near-duplicates among hits: what repeats a better hit, so that an answer needn't say it twice.
//!
//! Two rows repeat each other when the same speaker said them and their cosine reaches the threshold in every passage view.
//! One view is not enough where views share text with other rows: two answers to one question are alike in the view
//! that begins with the question, two turns in a row in the view that spans both, and "Yes!" to one question is not
//! "Yes!" to another. A repetition, the same said in the same context or a fact with no context, is alike in all.
//!
//! A hit is compared with the better ones kept, not with those dropped: what is near a duplicate but not near what it
//! duplicates stays. The int8 plane tells nearly all pairs apart; the full vectors are read where it can't.

use crate::columns::Columns;
use crate::vector::kernel::{BLOCK_ROWS, Kernel};
use crate::vector::quantize::Query;
use crate::vector::store::VectorStore;
use crate::vector::{Line, lines_for};

/// What a cosine may be off by rounding: a copy has a cosine of 1 and must reach a threshold of 1.
const ROUNDING: f64 = 1e-6;

/// The hits kept so far, best first.
pub(crate) struct Kept<'a> {
    kernel: Kernel,
    columns: &'a Columns,
    vectors: &'a [VectorStore],
    threshold: f64,
    rows: Vec<usize>,
    /// The high planes of their first view, one after the other, and their scales.
    high: Vec<Line<u8>>,
    scales: Vec<f32>,
    /// Largest error of a cosine of high planes, for scales that add up to 1.
    error: f64,
}

impl<'a> Kept<'a> {
    /// Nothing yet.
    pub(crate) fn new(
        kernel: Kernel,
        columns: &'a Columns,
        vectors: &'a [VectorStore],
        dim: usize,
        threshold: f64,
    ) -> Self {
        // |a·b - 256² ha·hb| = |a·lb + la·b - la·lb|, and no low byte is beyond 128; a and b have length 1 / scale.
        let error = 128.0 * ((lines_for(dim) * crate::vector::LINE) as f64).sqrt() * 1.01;
        Self { kernel, columns, vectors, threshold, rows: Vec::new(), high: Vec::new(), scales: Vec::new(), error }
    }

    /// Keep a row, unless it repeats one: then the position of that one among those kept.
    pub(crate) fn push(&mut self, row: usize) -> Option<usize> {
        let (scale, high, _) = self.vectors.first()?.raw(row);
        let query = Query::of_row(high);
        let lines = high.len();
        let mut dots = [[0_i32; BLOCK_ROWS]];
        for start in (0..self.rows.len()).step_by(BLOCK_ROWS) {
            let count = BLOCK_ROWS.min(self.rows.len() - start);
            let rows = self.high.get(start * lines..(start + count) * lines).unwrap_or_default();
            self.kernel.dot_rows([&query], rows, &mut dots);
            let [of_this] = &dots;
            for (position, &dot) in (start..).zip(of_this.iter().take(count)) {
                if self.may_repeat(position, scale, dot) && self.repeats(position, row) {
                    return Some(position);
                }
            }
        }
        self.rows.push(row);
        self.high.extend_from_slice(high);
        self.scales.push(scale);
        None
    }

    /// Whether the first view's high planes leave it possible. Rows without a first vector are left to the others.
    fn may_repeat(&self, position: usize, scale: f32, dot: i32) -> bool {
        let (a, b) = (f64::from(scale), f64::from(self.scales.get(position).copied().unwrap_or_default()));
        if a <= 0.0 || b <= 0.0 {
            return a <= 0.0 && b <= 0.0;
        }
        let error = self.error * (a + b) + self.error * self.error * a * b;
        65_536.0 * f64::from(dot) * a * b + error + ROUNDING >= self.threshold
    }

    fn repeats(&self, position: usize, row: usize) -> bool {
        let Some(&other) = self.rows.get(position) else { return false };
        if self.columns.speaker.get(row) != self.columns.speaker.get(other) {
            return false;
        }
        let mut has_any = false;
        for store in self.vectors {
            match store.cosine_of_rows(row, other) {
                Some(cosine) if cosine + ROUNDING >= self.threshold => has_any = true,
                // Neither has a vector.
                None if store.scales().get(row) == store.scales().get(other) => {}
                Some(_) | None => return false,
            }
        }
        has_any
    }
}
