//! A plane of bytes, row by row, in chunks that the memory system reads at its full speed.
//!
//! A scan of more rows than the caches hold is bound by memory, and there small pages cost: the prefetcher of the
//! processor stops at the end of each, and thousands of them miss the TLB. So chunks of at least a huge page lie at
//! huge pages' boundaries and ask Linux for them; `transparent_hugepage=madvise`, its usual setting, gives them to
//! nobody else. Only whole pages within the capacity are asked for, so no plane takes more than it says.

use aligned_vec::{AVec, RuntimeAlign};

use super::Line;

/// Rows of a chunk. Planes grow chunk by chunk, so that no append copies more than one chunk, and a chunk of a plane at
/// 384 dimensions takes 6 MiB, three huge pages. A multiple of every block size used in scans.
pub const CHUNK_ROWS: usize = 16_384;
/// A huge page of `x86_64`, and of aarch64 with small pages of 4 KiB.
const HUGE_PAGE: usize = 2 << 20;

/// Rows of `lines` lines each.
#[derive(Debug)]
pub struct Plane<T> {
    lines: usize,
    chunks: Vec<AVec<Line<T>, RuntimeAlign>>,
}

impl<T: Copy + Default> Plane<T> {
    /// A plane without rows.
    #[must_use]
    pub fn new(lines: usize) -> Self {
        Self { lines, chunks: Vec::new() }
    }

    /// Append row number `row`, the next one, and give it to be filled; `expected` more are to come, itself included.
    pub fn push(&mut self, row: usize, expected: usize) -> &mut [Line<T>] {
        if row == self.chunks.len() * CHUNK_ROWS {
            self.chunks.push(AVec::with_capacity(align_of::<Line<T>>(), 0));
        }
        let Some(chunk) = self.chunks.last_mut() else { return &mut [] };
        reserve_row(chunk, self.lines, expected);
        let start = chunk.len();
        chunk.resize(start + self.lines, Line([T::default(); super::LINE]));
        chunk.get_mut(start..).unwrap_or_default()
    }

    /// Remove row `row`; `last`, the last one, takes its place.
    pub fn swap_remove(&mut self, row: usize, last: usize) {
        if row != last {
            let moved = self.rows(last, 1).to_vec();
            self.row_mut(row).copy_from_slice(&moved);
        }
        if let Some(tail) = self.chunks.get_mut(last / CHUNK_ROWS) {
            tail.truncate((last % CHUNK_ROWS) * self.lines);
            if tail.is_empty() {
                self.chunks.truncate(last / CHUNK_ROWS);
            }
        }
    }

    /// `count` rows from `start`; they must lie in one chunk. Empty when out of range.
    #[must_use]
    pub fn rows(&self, start: usize, count: usize) -> &[Line<T>] {
        let first = (start % CHUNK_ROWS) * self.lines;
        self.chunks
            .get(start / CHUNK_ROWS)
            .and_then(|chunk| chunk.get(first..first + count * self.lines))
            .unwrap_or_default()
    }

    /// A row to be changed; empty when out of range.
    pub fn row_mut(&mut self, row: usize) -> &mut [Line<T>] {
        let first = (row % CHUNK_ROWS) * self.lines;
        let lines = self.lines;
        self.chunks.get_mut(row / CHUNK_ROWS).and_then(|chunk| chunk.get_mut(first..first + lines)).unwrap_or_default()
    }

    /// Bytes of heap.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        self.chunks.iter().map(|chunk| chunk.capacity() * size_of::<Line<T>>()).sum()
    }
}

/// Room for one more row: for those expected, else for a quarter more and at least 16, never past the chunk. A doubling
/// vector would leave half of the largest column of a partition unused.
fn reserve_row<T: Copy>(chunk: &mut AVec<Line<T>, RuntimeAlign>, lines: usize, expected: usize) {
    if chunk.len() + lines <= chunk.capacity() {
        return;
    }
    let rows = chunk.len() / lines.max(1);
    let more = if expected > 0 { expected } else { (rows / 4).max(16) };
    let capacity = (rows + more.min(CHUNK_ROWS - rows)) * lines;
    let bytes = capacity * size_of::<Line<T>>();
    let align = if bytes >= HUGE_PAGE { HUGE_PAGE } else { align_of::<Line<T>>() };
    let mut grown: AVec<Line<T>, RuntimeAlign> = AVec::with_capacity(align, capacity);
    advise_huge(grown.as_mut_ptr().cast::<u8>(), bytes / HUGE_PAGE * HUGE_PAGE);
    grown.extend_from_slice(chunk);
    *chunk = grown;
}

/// Ask for huge pages before the memory is first touched. Whether the system grants them changes no result.
#[cfg(all(target_os = "linux", not(miri)))]
fn advise_huge(start: *mut u8, length: usize) {
    if length > 0 {
        // SAFETY: the advice changes neither the mapping nor its content, whatever the range is; `start` is aligned to
        // HUGE_PAGE, and the range lies within one allocation.
        let _ = unsafe { libc::madvise(start.cast(), length, libc::MADV_HUGEPAGE) };
    }
}

#[cfg(not(all(target_os = "linux", not(miri))))]
fn advise_huge(_start: *mut u8, _length: usize) {}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(lines: usize, rows: usize, expected: usize) -> Plane<u8> {
        let mut plane = Plane::new(lines);
        for row in 0..rows {
            plane.push(row, expected.saturating_sub(row)).fill(Line([row as u8; 64]));
        }
        plane
    }

    #[test]
    fn rows_survive_growth_into_huge_pages() {
        let width = if cfg!(miri) { 1 } else { 6 };
        let plane = filled(width, CHUNK_ROWS + 100, 0);
        for row in 0..CHUNK_ROWS + 100 {
            let lines = plane.rows(row, 1);
            assert_eq!(lines.len(), width);
            assert!(lines.iter().all(|line| line.0 == [row as u8; 64]), "row {row}");
        }
    }

    #[test]
    fn whole_chunks_lie_at_huge_pages_and_take_what_they_hold() {
        let plane = filled(2, CHUNK_ROWS + 10, CHUNK_ROWS + 10);
        assert_eq!(plane.size_bytes(), (CHUNK_ROWS + 10) * 128);
        let starts: Vec<usize> = plane.chunks.iter().map(|chunk| chunk.as_ptr() as usize).collect();
        assert!(starts[0].is_multiple_of(HUGE_PAGE));
        assert!(starts[1].is_multiple_of(64));
    }

    #[test]
    fn the_last_row_takes_the_place_of_a_removed_one() {
        let mut plane = filled(1, CHUNK_ROWS + 1, 0);
        plane.swap_remove(3, CHUNK_ROWS);
        assert_eq!(plane.rows(3, 1)[0].0, [CHUNK_ROWS as u8; 64]);
        assert_eq!(plane.chunks.len(), 1);
        assert!(plane.rows(CHUNK_ROWS, 1).is_empty());
        plane.swap_remove(CHUNK_ROWS - 1, CHUNK_ROWS - 1);
        assert!(plane.rows(CHUNK_ROWS - 1, 1).is_empty());
    }
}
