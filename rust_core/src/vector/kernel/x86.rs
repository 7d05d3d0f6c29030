//! x86-64 kernels. Rows are unsigned (offset by 128) and queries signed, as `vpdpbusd` takes them.

use std::arch::x86_64::{
    __m128i, __m256i, __m512i, _CMP_GE_OQ, _mm_add_epi32, _mm_cvtsi128_si32, _mm_load_si128, _mm_shuffle_epi32,
    _mm_storeu_si128, _mm_unpackhi_epi64, _mm256_add_epi32, _mm256_castsi256_si128, _mm256_cvtepi8_epi16,
    _mm256_cvtepu8_epi16, _mm256_extracti128_si256, _mm256_hadd_epi32, _mm256_madd_epi16, _mm256_setzero_si256,
    _mm512_castsi512_si256, _mm512_cmp_ps_mask, _mm512_cvtepi32_ps, _mm512_dpbusd_epi32, _mm512_extracti64x4_epi64,
    _mm512_load_si512, _mm512_loadu_ps, _mm512_loadu_si512, _mm512_mul_ps, _mm512_set1_ps, _mm512_setzero_si512,
};

use super::BLOCK_ROWS;
use crate::vector::Line;
use crate::vector::quantize::Query;

/// Rows whose sums across lanes are taken together.
const TILE: usize = 4;

/// Lines of a row at 384 dimensions, the default embedder's.
const USUAL_LINES: usize = 6;

/// Dot products with the offset still in.
///
/// Row by row and line by line, in the order in which they lie in memory: reading four rows side by side needs fewer
/// loads of the query, but out of cache takes twice as long, since the prefetchers follow one stream well and four
/// on one page badly. Each line is loaded once for all queries.
///
/// # Safety
/// The machine has AVX-512 F, BW and VNNI; all queries have one length, of which `rows.len()` is a multiple.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni,avx2")]
pub(super) unsafe fn dot_rows_avx512<const Q: usize>(
    queries: [&[Line<i8>]; Q],
    rows: &[Line<u8>],
    out: &mut [[i32; BLOCK_ROWS]; Q],
) {
    if queries.iter().all(|query| query.len() == USUAL_LINES) {
        return dot_rows_held(queries, rows, out);
    }
    let lines = queries.first().map_or(1, |query| query.len());
    let queries = queries.map(|query| query.as_ptr().cast::<__m512i>());
    for (tile, rows) in rows.chunks(TILE * lines).enumerate() {
        let mut sums = [[_mm512_setzero_si512(); TILE]; Q];
        for (k, row) in rows.chunks_exact(lines).enumerate() {
            let mut totals = [_mm512_setzero_si512(); Q];
            for (i, line) in row.iter().enumerate() {
                let r = load_row(line);
                for (total, query) in totals.iter_mut().zip(queries) {
                    // SAFETY: a Line is 64 bytes, aligned to 64; every query has `lines` of them, more than i.
                    *total = _mm512_dpbusd_epi32(*total, r, unsafe { _mm512_load_si512(query.add(i)) });
                }
            }
            put(&mut sums, k, totals);
        }
        store_tile(sums, tile, rows.len() / lines, out);
    }
}

/// [`dot_rows_avx512`] for [`USUAL_LINES`]: the queries stay in registers, so that each line costs one load instead of two.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni,avx2")]
fn dot_rows_held<const Q: usize>(queries: [&[Line<i8>]; Q], rows: &[Line<u8>], out: &mut [[i32; BLOCK_ROWS]; Q]) {
    let mut held = [[_mm512_setzero_si512(); USUAL_LINES]; Q];
    for (held, query) in held.iter_mut().zip(queries) {
        for (held, line) in held.iter_mut().zip(query) {
            // SAFETY: a Line is 64 bytes, aligned to 64.
            *held = unsafe { _mm512_load_si512(std::ptr::from_ref(line).cast::<__m512i>()) };
        }
    }
    for (tile, rows) in rows.as_chunks::<USUAL_LINES>().0.chunks(TILE).enumerate() {
        let mut sums = [[_mm512_setzero_si512(); TILE]; Q];
        for (k, row) in rows.iter().enumerate() {
            let mut totals = [_mm512_setzero_si512(); Q];
            for (i, line) in row.iter().enumerate() {
                let r = load_row(line);
                for (total, held) in totals.iter_mut().zip(&held) {
                    if let Some(q) = held.get(i) {
                        *total = _mm512_dpbusd_epi32(*total, r, *q);
                    }
                }
            }
            put(&mut sums, k, totals);
        }
        store_tile(sums, tile, rows.len(), out);
    }
}

#[target_feature(enable = "avx512f")]
fn load_row(line: &Line<u8>) -> __m512i {
    // SAFETY: a Line is 64 bytes, aligned to 64.
    unsafe { _mm512_load_si512(std::ptr::from_ref(line).cast::<__m512i>()) }
}

/// The sums of row `k` of a tile.
#[target_feature(enable = "avx512f")]
fn put<const Q: usize>(sums: &mut [[__m512i; TILE]; Q], k: usize, totals: [__m512i; Q]) {
    for (sums, total) in sums.iter_mut().zip(totals) {
        if let Some(sum) = sums.get_mut(k) {
            *sum = total;
        }
    }
}

/// Take the sums of the first `count` rows of a tile across lanes and write them.
#[target_feature(enable = "avx512f,avx2")]
fn store_tile<const Q: usize>(sums: [[__m512i; TILE]; Q], tile: usize, count: usize, out: &mut [[i32; BLOCK_ROWS]; Q]) {
    for (sums, out) in sums.into_iter().zip(out.iter_mut()) {
        let [a, b, c, d] =
            sums.map(|sum| _mm256_add_epi32(_mm512_castsi512_si256(sum), _mm512_extracti64x4_epi64::<1>(sum)));
        let mut four = [0_i32; TILE];
        // SAFETY: `four` is four i32, 16 bytes; the store needs no alignment.
        #[allow(clippy::cast_ptr_alignment)]
        unsafe {
            _mm_storeu_si128(four.as_mut_ptr().cast::<__m128i>(), sum_each(a, b, c, d));
        };
        match out.as_chunks_mut::<TILE>().0.get_mut(tile) {
            Some(out) if count == TILE => *out = four,
            Some(out) => out.iter_mut().zip(four).take(count).for_each(|(out, sum)| *out = sum),
            None => {}
        }
    }
}

/// [`super::reaching_scalar`] of a whole block.
///
/// # Safety
/// The machine has AVX-512 F.
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn reaching_avx512(dots: &[i32; BLOCK_ROWS], scales: &[f32; BLOCK_ROWS], threshold: f32) -> u64 {
    let threshold = _mm512_set1_ps(threshold);
    let parts = dots.as_chunks::<16>().0.iter().zip(scales.as_chunks::<16>().0);
    parts.zip([0, 16, 32, 48]).fold(0, |reached, ((dots, scales), shift)| {
        // SAFETY: both are 64 bytes; the loads need no alignment.
        let (dots, scales) = unsafe { (_mm512_loadu_si512(dots.as_ptr().cast()), _mm512_loadu_ps(scales.as_ptr())) };
        let scores = _mm512_mul_ps(_mm512_cvtepi32_ps(dots), scales);
        reached | u64::from(_mm512_cmp_ps_mask::<_CMP_GE_OQ>(scores, threshold)) << shift
    })
}

/// Dot products with the offset still in.
///
/// Widened to 16 bits, not `vpmaddubsw`, whose 16-bit sums saturate with full-range unsigned rows.
///
/// # Safety
/// The machine has AVX2; `rows.len()` is a multiple of `query.len()`.
#[target_feature(enable = "avx2")]
pub(super) unsafe fn dot_rows_avx2(query: &[Line<i8>], rows: &[Line<u8>], out: &mut [i32]) {
    for (sum, row) in out.iter_mut().zip(rows.chunks_exact(query.len())) {
        let mut totals = [_mm256_setzero_si256(); 4];
        for (q, r) in query.iter().zip(row) {
            let (q, r) = (std::ptr::from_ref(q).cast::<__m128i>(), std::ptr::from_ref(r).cast::<__m128i>());
            for (part, total) in totals.iter_mut().enumerate() {
                // SAFETY: a Line is four aligned parts of 16 bytes.
                let (q, r) = unsafe { (_mm_load_si128(q.add(part)), _mm_load_si128(r.add(part))) };
                let product = _mm256_madd_epi16(_mm256_cvtepu8_epi16(r), _mm256_cvtepi8_epi16(q));
                *total = _mm256_add_epi32(*total, product);
            }
        }
        let [a, b, c, d] = totals;
        let all = _mm256_add_epi32(_mm256_add_epi32(a, b), _mm256_add_epi32(c, d));
        let half = _mm_add_epi32(_mm256_castsi256_si128(all), _mm256_extracti128_si256::<1>(all));
        let pair = _mm_add_epi32(half, _mm_unpackhi_epi64(half, half));
        *sum = _mm_cvtsi128_si32(_mm_add_epi32(pair, _mm_shuffle_epi32::<1>(pair)));
    }
}

/// The sum of each of four registers.
#[target_feature(enable = "avx2")]
fn sum_each(a: __m256i, b: __m256i, c: __m256i, d: __m256i) -> __m128i {
    let sums = _mm256_hadd_epi32(_mm256_hadd_epi32(a, b), _mm256_hadd_epi32(c, d));
    _mm_add_epi32(_mm256_castsi256_si128(sums), _mm256_extracti128_si256::<1>(sums))
}

/// [`super::dot_exact_lanes`] with 256-bit registers.
///
/// # Safety
/// The machine has AVX2.
#[target_feature(enable = "avx2")]
pub(super) unsafe fn dot_exact_avx2(query: &[Line<f32>], high: &[Line<u8>], low: &[Line<i8>]) -> f32 {
    super::dot_exact_lanes(query, high, low)
}

/// [`super::dot_exact_lanes`] with 512-bit registers.
///
/// # Safety
/// The machine has AVX-512 F and BW.
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) unsafe fn dot_exact_avx512(query: &[Line<f32>], high: &[Line<u8>], low: &[Line<i8>]) -> f32 {
    super::dot_exact_lanes(query, high, low)
}

/// [`Query::prepare`] with 256-bit registers.
///
/// # Safety
/// The machine has AVX2.
#[target_feature(enable = "avx2")]
pub(super) unsafe fn prepare_avx2(vector: &[f32]) -> Query {
    Query::prepare(vector)
}

/// [`Query::prepare`] with 512-bit registers.
///
/// # Safety
/// The machine has AVX-512 F and BW.
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) unsafe fn prepare_avx512(vector: &[f32]) -> Query {
    Query::prepare(vector)
}

/// [`super::raise_lanes`] with 256-bit registers.
///
/// # Safety
/// The machine has AVX2.
#[target_feature(enable = "avx2")]
pub(super) unsafe fn raise_lanes_avx2(dots: &[i32; BLOCK_ROWS], scales: &[f32], best: &mut [f32; BLOCK_ROWS]) {
    super::raise_lanes(dots, scales, best);
}

/// [`super::raise_lanes`] with 512-bit registers.
///
/// # Safety
/// The machine has AVX-512 F and BW.
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) unsafe fn raise_lanes_avx512(dots: &[i32; BLOCK_ROWS], scales: &[f32], best: &mut [f32; BLOCK_ROWS]) {
    super::raise_lanes(dots, scales, best);
}
