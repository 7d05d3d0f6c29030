//! x86-64 kernels. Rows are unsigned (offset by 128) and queries signed, as `vpdpbusd` takes them.

use std::arch::x86_64::{
    __m128i, __m256i, __m512i, _mm_add_epi32, _mm_cvtsi128_si32, _mm_load_si128, _mm_shuffle_epi32, _mm_storeu_si128,
    _mm_unpackhi_epi64, _mm256_add_epi32, _mm256_castsi256_si128, _mm256_cvtepi8_epi16, _mm256_cvtepu8_epi16,
    _mm256_extracti128_si256, _mm256_hadd_epi32, _mm256_madd_epi16, _mm256_setzero_si256, _mm512_add_epi32,
    _mm512_castsi512_si256, _mm512_dpbusd_epi32, _mm512_extracti64x4_epi64, _mm512_load_si512, _mm512_reduce_add_epi32,
    _mm512_setzero_si512,
};

use crate::vector::Line;

/// Rows multiplied side by side: enough independent sums to hide the latency of a multiply-add, and one load of the
/// query serves them all.
const TILE: usize = 4;

/// Dot products with the offset still in.
///
/// # Safety
/// The machine has AVX-512 F, BW and VNNI; `rows.len() == out.len() * query.len()`.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni,avx2")]
pub(super) unsafe fn dot_rows_avx512(query: &[Line<i8>], rows: &[Line<u8>], out: &mut [i32]) {
    let lines = query.len();
    let (tiles, rest) = out.as_chunks_mut::<TILE>();
    let (whole, single) = rows.split_at(tiles.len() * TILE * lines);
    for (tile, rows) in tiles.iter_mut().zip(whole.chunks_exact(TILE * lines)) {
        let mut sums = [_mm512_setzero_si512(); TILE];
        let first = rows.as_ptr();
        for (i, q) in query.iter().enumerate() {
            // SAFETY: a Line is 64 bytes, aligned to 64; row k of the tile has its line i at k * lines + i, below
            // TILE * lines, the length of this chunk.
            unsafe {
                let q = _mm512_load_si512(std::ptr::from_ref(q).cast::<__m512i>());
                for (k, sum) in sums.iter_mut().enumerate() {
                    let r = _mm512_load_si512(first.add(k * lines + i).cast::<__m512i>());
                    *sum = _mm512_dpbusd_epi32(*sum, r, q);
                }
            }
        }
        let [a, b, c, d] =
            sums.map(|sum| _mm256_add_epi32(_mm512_castsi512_si256(sum), _mm512_extracti64x4_epi64::<1>(sum)));
        // SAFETY: `tile` is four i32, 16 bytes; the store needs no alignment.
        #[allow(clippy::cast_ptr_alignment)]
        unsafe {
            _mm_storeu_si128(tile.as_mut_ptr().cast::<__m128i>(), sum_each(a, b, c, d));
        };
    }
    for (sum, row) in rest.iter_mut().zip(single.chunks_exact(lines)) {
        let mut total = _mm512_setzero_si512();
        for (q, r) in query.iter().zip(row) {
            // SAFETY: both are 64 bytes, aligned to 64.
            unsafe {
                let q = _mm512_load_si512(std::ptr::from_ref(q).cast::<__m512i>());
                let r = _mm512_load_si512(std::ptr::from_ref(r).cast::<__m512i>());
                total = _mm512_add_epi32(total, _mm512_dpbusd_epi32(_mm512_setzero_si512(), r, q));
            }
        }
        *sum = _mm512_reduce_add_epi32(total);
    }
}

/// Dot products with the offset still in.
///
/// Widened to 16 bits, not `vpmaddubsw`, whose 16-bit sums saturate with full-range unsigned rows.
///
/// # Safety
/// The machine has AVX2; `rows.len() == out.len() * query.len()`.
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
