//! The vectors of one passage view: two planes of aligned lines and a scale per row.

use super::kernel::Kernel;
use super::quantize::{Query, ZERO_LOW, dot_fixed, push_fixed};
use super::{Line, lines_for};

/// Rows of a chunk. Planes grow chunk by chunk, so that no append copies more than one chunk, and a chunk of the
/// high plane at 384 dimensions takes 6 MiB. A multiple of every block size used in scans.
pub const CHUNK_ROWS: usize = 16_384;

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
    high: Vec<Vec<Line<u8>>>,
    low: Vec<Vec<Line<i8>>>,
    scales: Vec<f32>,
}

impl VectorStore {
    /// An empty store of `dim`-dimensional vectors, at most 4096. Without the low plane a row takes half the bytes, and a
    /// rescored cosine is as exact as an int8 vector: the query alone is at full precision.
    #[must_use]
    pub fn new(dim: usize, has_low: bool) -> Self {
        let (high, low, scales) = (Vec::new(), Vec::new(), Vec::new());
        Self { lines: lines_for(dim), has_low, rows: 0, expected: 0, high, low, scales }
    }

    /// Expect `rows` more rows: planes then take exactly what they need, instead of growing by steps.
    pub fn reserve_exact(&mut self, rows: usize) {
        self.scales.reserve_exact(rows);
        self.expected = self.rows + rows;
    }

    /// Append a row; see [`push_fixed`].
    pub fn push(&mut self, vector: &[f32]) {
        if self.rows == self.high.len() * CHUNK_ROWS {
            self.high.push(Vec::new());
            self.low.push(Vec::new());
        }
        let expected = self.expected.saturating_sub(self.rows);
        if let (Some(high), Some(low)) = (self.high.last_mut(), self.low.last_mut()) {
            reserve_row(high, self.lines, expected);
            let mut unused = Vec::new();
            let low = if self.has_low {
                reserve_row(low, self.lines, expected);
                low
            } else {
                &mut unused
            };
            self.scales.push(push_fixed(vector, high, low));
            self.rows += 1;
        }
    }

    /// Append a row as [`Self::raw`] gave it.
    pub fn push_raw(&mut self, scale: f32, high: &[Line<u8>], low: &[Line<i8>]) {
        self.push(&[]);
        // An empty vector appends no lines, so these take the new row's place.
        if let (Some(chunk), Some(last)) = (self.high.last_mut(), self.scales.last_mut()) {
            chunk.extend_from_slice(high);
            *last = scale;
        }
        if let Some(chunk) = self.low.last_mut().filter(|_| self.has_low) {
            chunk.extend_from_slice(low);
        }
    }

    /// Scale and both planes of a row; the low one is empty where it isn't kept.
    #[must_use]
    pub fn raw(&self, row: usize) -> (f32, &[Line<u8>], &[Line<i8>]) {
        let low = self.low.get(row / CHUNK_ROWS).and_then(|chunk| chunk.get(self.line_range(row)));
        (self.scales.get(row).copied().unwrap_or_default(), self.high(row, 1), low.unwrap_or_default())
    }

    /// Replace row `row` by `vector`.
    pub fn set(&mut self, row: usize, vector: &[f32]) {
        let (mut high, mut low) = (Vec::with_capacity(self.lines), Vec::with_capacity(self.lines));
        let scale = push_fixed(vector, &mut high, &mut low);
        let range = self.line_range(row);
        if let Some(target) = self.high.get_mut(row / CHUNK_ROWS).and_then(|chunk| chunk.get_mut(range.clone())) {
            target.copy_from_slice(&high);
        }
        if let Some(target) = self.low.get_mut(row / CHUNK_ROWS).and_then(|chunk| chunk.get_mut(range)) {
            target.copy_from_slice(&low);
        }
        if let Some(target) = self.scales.get_mut(row) {
            *target = scale;
        }
    }

    /// Remove row `row`; the last row takes its place.
    pub fn swap_remove(&mut self, row: usize) {
        if row >= self.rows {
            return;
        }
        let last = self.rows - 1;
        swap_remove_lines(&mut self.high, self.lines, row, last);
        if self.has_low {
            swap_remove_lines(&mut self.low, self.lines, row, last);
        } else {
            self.low.truncate(self.high.len());
        }
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
        let first = (start % CHUNK_ROWS) * self.lines;
        self.high
            .get(start / CHUNK_ROWS)
            .and_then(|chunk| chunk.get(first..first + count * self.lines))
            .unwrap_or_default()
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
        let range = self.line_range(row);
        let high = self.high.get(row / CHUNK_ROWS)?.get(range.clone())?;
        let low = if self.has_low { self.low.get(row / CHUNK_ROWS)?.get(range)? } else { &NO_LOW };
        Some(kernel.dot_exact(&query.exact, high, low) * scale)
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
        let high: usize = self.high.iter().map(Vec::capacity).sum();
        let low: usize = self.low.iter().map(Vec::capacity).sum();
        (high * size_of::<Line<u8>>() + self.scales.capacity() * size_of::<f32>(), low * size_of::<Line<i8>>())
    }

    fn line_range(&self, row: usize) -> std::ops::Range<usize> {
        let first = (row % CHUNK_ROWS) * self.lines;
        first..first + self.lines
    }
}

/// Room for one more row: for those expected, else for a quarter more and at least 16, never past the chunk. A doubling
/// vector would leave half of the largest column of a partition unused.
fn reserve_row<T>(chunk: &mut Vec<Line<T>>, lines: usize, expected: usize) {
    if chunk.len() + lines > chunk.capacity() {
        let rows = chunk.len() / lines.max(1);
        let more = if expected > 0 { expected } else { (rows / 4).max(16) };
        chunk.reserve_exact(more.min(CHUNK_ROWS - rows) * lines);
    }
}

fn swap_remove_lines<T: Copy>(chunks: &mut Vec<Vec<Line<T>>>, lines: usize, row: usize, last: usize) {
    let Some(tail) = chunks.get_mut(last / CHUNK_ROWS) else { return };
    let moved = tail.split_off((last % CHUNK_ROWS) * lines);
    if tail.is_empty() {
        chunks.truncate(last / CHUNK_ROWS);
    }
    if row != last {
        let first = (row % CHUNK_ROWS) * lines;
        if let Some(hole) = chunks.get_mut(row / CHUNK_ROWS).and_then(|chunk| chunk.get_mut(first..first + lines)) {
            hole.copy_from_slice(&moved);
        }
    }
}
