//! The vectors of one passage view: two planes of aligned lines and a scale per row.

use super::kernel::Kernel;
use super::plane::Plane;
use super::quantize::{Query, ZERO_LOW, dot_fixed, write_fixed};
use super::{Line, lines_for};

/// The low plane of a row where none is kept.
static NO_LOW: [Line<i8>; 64] = [ZERO_LOW; 64];

/// Vectors of n rows, addressed by row.
#[derive(Debug)]
pub struct VectorStore {
    lines: usize,
    /// Whether low planes are kept.
    has_low: bool,
    rows: usize,
    expected: usize,
    high: Plane<u8>,
    low: Plane<i8>,
    scales: Vec<f32>,
}

impl VectorStore {
    /// An empty store of `dim`-dimensional vectors, at most 4096. Without the low plane a row takes half the bytes, and a
    /// rescored cosine is as exact as an int8 vector: the query alone is at full precision.
    #[must_use]
    pub fn new(dim: usize, has_low: bool) -> Self {
        let lines = lines_for(dim);
        let low = Plane::new(if has_low { lines } else { 0 });
        Self { lines, has_low, rows: 0, expected: 0, high: Plane::new(lines), low, scales: Vec::new() }
    }

    /// Expect `rows` more rows: planes then take exactly what they need, instead of growing by steps.
    pub fn reserve_exact(&mut self, rows: usize) {
        self.scales.reserve_exact(rows);
        self.expected = self.rows + rows;
    }

    /// Append a row; see [`write_fixed`].
    pub fn push(&mut self, vector: &[f32]) {
        self.append(|high, low| write_both(vector, high, low));
    }

    /// Append a row as [`Self::raw`] gave it, its planes as bytes; of another length it is not taken over.
    pub fn push_raw(&mut self, scale: f32, high: &[u8], low: &[u8]) {
        let (high, low) = (high.as_chunks().0, low.as_chunks().0);
        self.append(|high_row, low_row| {
            if high_row.len() != high.len() || (!low_row.is_empty() && low_row.len() != low.len()) {
                return 0.0;
            }
            for (line, bytes) in high_row.iter_mut().zip(high) {
                *line = Line(*bytes);
            }
            for (line, bytes) in low_row.iter_mut().zip(low) {
                *line = Line(bytes.map(u8::cast_signed));
            }
            scale
        });
    }

    fn append(&mut self, fill: impl FnOnce(&mut [Line<u8>], &mut [Line<i8>]) -> f32) {
        let expected = self.expected.saturating_sub(self.rows);
        let (high, low) = (self.high.push(self.rows, expected), self.low.push(self.rows, expected));
        self.scales.push(fill(high, low));
        self.rows += 1;
    }

    /// Scale and both planes of a row; the low one is empty where it isn't kept.
    #[must_use]
    pub fn raw(&self, row: usize) -> (f32, &[Line<u8>], &[Line<i8>]) {
        (self.scales.get(row).copied().unwrap_or_default(), self.high(row, 1), self.low.rows(row, 1))
    }

    /// Replace row `row` by `vector`; whether it differs in what a scan sees of it, the high plane and the scale.
    pub fn set(&mut self, row: usize, vector: &[f32]) -> bool {
        let before = self.high.rows(row, 1).to_vec();
        let scale = write_both(vector, self.high.row_mut(row), self.low.row_mut(row));
        let mut is_changed = self.high.rows(row, 1).iter().zip(&before).any(|(held, was)| held.0 != was.0);
        if let Some(target) = self.scales.get_mut(row) {
            is_changed |= target.to_bits() != scale.to_bits();
            *target = scale;
        }
        is_changed
    }

    /// Remove row `row`; the last row takes its place.
    pub fn swap_remove(&mut self, row: usize) {
        if row >= self.rows {
            return;
        }
        let last = self.rows - 1;
        self.high.swap_remove(row, last);
        self.low.swap_remove(row, last);
        self.scales.swap_remove(row);
        self.rows = last;
    }

    /// Rows held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Whether no row is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// Lines of one row of a plane.
    #[must_use]
    pub fn lines(&self) -> usize {
        self.lines
    }

    /// High-plane lines of `count` rows from `start`; they must lie in one chunk. Empty when out of range.
    #[must_use]
    pub fn high(&self, start: usize, count: usize) -> &[Line<u8>] {
        self.high.rows(start, count)
    }

    /// The scale of each row; 0 for rows without a vector.
    #[must_use]
    pub fn scales(&self) -> &[f32] {
        &self.scales
    }

    /// Cosine of a query with a row at full precision; `None` when either is all zero.
    #[must_use]
    pub fn cosine(&self, kernel: Kernel, query: &Query, row: usize) -> Option<f32> {
        let scale = self.scales.get(row).copied().filter(|&scale| scale > 0.0)?;
        if query.is_zero {
            return None;
        }
        let low = if self.has_low { self.low.rows(row, 1) } else { &NO_LOW };
        Some(kernel.dot_exact(&query.exact, self.high.rows(row, 1), low) * scale)
    }

    /// Cosine of two rows at full precision; `None` when either is all zero.
    #[must_use]
    pub fn cosine_of_rows(&self, a: usize, b: usize) -> Option<f64> {
        let ((scale_a, high_a, low_a), (scale_b, high_b, low_b)) = (self.raw(a), self.raw(b));
        if scale_a <= 0.0 || scale_b <= 0.0 {
            return None;
        }
        let dot = dot_fixed((high_a, low_a), (high_b, low_b));
        Some(dot as f64 * f64::from(scale_a) * f64::from(scale_b))
    }

    /// Bytes of heap: of what is scanned, and of what only rescoring reads.
    #[must_use]
    pub fn size_bytes(&self) -> (usize, usize) {
        (self.high.size_bytes() + self.scales.capacity() * size_of::<f32>(), self.low.size_bytes())
    }
}

/// [`write_fixed`], where the low plane may not be kept.
fn write_both(vector: &[f32], high: &mut [Line<u8>], low: &mut [Line<i8>]) -> f32 {
    if low.is_empty() {
        write_fixed(vector, high, &mut vec![ZERO_LOW; high.len()])
    } else {
        write_fixed(vector, high, low)
    }
}
