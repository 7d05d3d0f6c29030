//! Dot products of int8 queries with blocks of the high plane, and of float32 queries with both planes.
//!
//! The instruction set is chosen once, at run time: AVX-512 VNNI, AVX2, NEON, or the scalar reference, which every
//! other one must equal bit by bit (integer sums have no rounding; the float sum has a fixed order of 64 lanes).
//!
//! Written by hand, not taken from `numkong` (7.8), the maintained crate for it: over 1,000 rows of 384 dimensions, in
//! cache, the AVX-512 VNNI kernel here takes 4.2 µs where a `numkong` call per row takes 7.9, and AVX2 10.2; over 100,000
//! rows, out of cache, 1.37, 2.47 and 1.38 ms, bound by memory. A second query in the same pass costs 2.7 µs in cache and
//! .1 ms out of it, with AVX-512; in turn over blocks it costs 4.2 µs and .4 ms. (AMD EPYC, 2 shared cores, whose figures
//! wander by a fifth between runs; `cargo bench -p lightmem-core --bench kernel --features rivals`.)

#[cfg(target_arch = "aarch64")]
mod neon;
mod pair;
#[cfg(target_arch = "x86_64")]
mod x86;

use std::sync::OnceLock;

use super::quantize::{OFFSET, Query};
use super::{LINE, Line};

/// Most rows that one call multiplies: one word of a filter mask.
pub const BLOCK_ROWS: usize = 64;

/// An instruction set that this machine has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kernel(Isa);

/// Private, so that a [`Kernel`] proves that its instruction set was detected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Isa {
    Scalar,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512Vnni,
    #[cfg(target_arch = "aarch64")]
    Neon,
}

impl Kernel {
    /// The reference, on every machine.
    pub const SCALAR: Self = Self(Isa::Scalar);

    /// The best kernel of this machine; looked up once.
    #[must_use]
    pub fn best() -> Self {
        static BEST: OnceLock<Kernel> = OnceLock::new();
        *BEST.get_or_init(|| Self::available().first().copied().unwrap_or(Self::SCALAR))
    }

    /// All kernels of this machine, best first; the last is the scalar reference.
    #[must_use]
    pub fn available() -> Vec<Self> {
        let mut found = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512vnni")
            {
                found.push(Self(Isa::Avx512Vnni));
            }
            if is_x86_feature_detected!("avx2") {
                found.push(Self(Isa::Avx2));
            }
        }
        #[cfg(target_arch = "aarch64")]
        if std::arch::is_aarch64_feature_detected!("neon") {
            found.push(Self(Isa::Neon));
        }
        found.push(Self::SCALAR);
        found
    }

    /// Lower-case name of the instruction set.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self.0 {
            Isa::Scalar => "scalar",
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => "avx2",
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512Vnni => "avx512vnni",
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => "neon",
        }
    }

    /// A finite query vector in the forms that the other methods take; the same with every kernel.
    #[must_use]
    pub fn prepare(self, vector: &[f32]) -> Query {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: a Kernel of this kind exists only where the feature was detected.
            Isa::Avx2 => unsafe { x86::prepare_avx2(vector) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            Isa::Avx512Vnni => unsafe { x86::prepare_avx512(vector) },
            // NEON is part of the aarch64 baseline.
            _ => Query::prepare(vector),
        }
    }

    /// Integer dot products of `Q` queries with consecutive rows of a high plane, at most [`BLOCK_ROWS`] of them.
    ///
    /// `out[q][r]` becomes the sum over the dimensions of `queries[q].bytes * (high - 128)`. `rows` holds rows as long as
    /// the queries, which have one length; others leave `out` as it is, and so do incomplete rows.
    pub fn dot_rows<const Q: usize>(self, queries: [&Query; Q], rows: &[Line<u8>], out: &mut [[i32; BLOCK_ROWS]; Q]) {
        let lines = queries.first().map_or(0, |query| query.bytes.len());
        let count = rows.len().checked_div(lines).unwrap_or(0).min(BLOCK_ROWS);
        let Some(rows) = rows.get(..count * lines) else { return };
        if count == 0 || queries.iter().any(|query| query.bytes.len() != lines) {
            return;
        }
        let bytes = queries.map(|query| query.bytes.as_slice());
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: a Kernel of this kind exists only where the feature was detected; `rows` holds up to BLOCK_ROWS
            // whole rows, cut just above, and all queries have the rows' length.
            Isa::Avx512Vnni => unsafe { x86::dot_rows_avx512(bytes, rows, out) },
            // One query after the other: the rows of a block stay in the first-level cache.
            _ => {
                for (query, out) in bytes.into_iter().zip(&mut *out) {
                    match self.0 {
                        #[cfg(target_arch = "x86_64")]
                        // SAFETY: as above.
                        Isa::Avx2 => unsafe { x86::dot_rows_avx2(query, rows, out) },
                        #[cfg(target_arch = "aarch64")]
                        // SAFETY: as above.
                        Isa::Neon => unsafe { neon::dot_rows(query, rows, out) },
                        _ => dot_rows_scalar(query, rows, out),
                    }
                }
            }
        }
        for (query, out) in queries.iter().zip(out) {
            for sum in out.iter_mut().take(count) {
                *sum -= query.offset_sum;
            }
        }
    }

    /// Bit r of the result: whether `dots[r] * scales[r]`, in float32, is at least `threshold`.
    #[must_use]
    pub fn reaching(self, dots: &[i32; BLOCK_ROWS], scales: &[f32], threshold: f32) -> u64 {
        match (self.0, scales.first_chunk::<BLOCK_ROWS>()) {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: a Kernel of this kind exists only where the feature was detected.
            (Isa::Avx512Vnni, Some(scales)) => unsafe { x86::reaching_avx512(dots, scales, threshold) },
            _ => reaching_scalar(dots, scales, threshold),
        }
    }

    /// Raise each lane of `best` to `dots[r] * scales[r]`, in float32, where that is more and the scale is not zero.
    pub fn raise_lanes(self, dots: &[i32; BLOCK_ROWS], scales: &[f32], best: &mut [f32; BLOCK_ROWS]) {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: a Kernel of this kind exists only where the feature was detected.
            Isa::Avx2 => unsafe { x86::raise_lanes_avx2(dots, scales, best) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            Isa::Avx512Vnni => unsafe { x86::raise_lanes_avx512(dots, scales, best) },
            // NEON is part of the aarch64 baseline.
            _ => raise_lanes(dots, scales, best),
        }
    }

    /// Sum over the dimensions of `query * (256 * (high - 128) + low)`, in float32 with 64 interleaved partial sums.
    #[must_use]
    pub fn dot_exact(self, query: &[Line<f32>], high: &[Line<u8>], low: &[Line<i8>]) -> f32 {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: a Kernel of this kind exists only where the feature was detected.
            Isa::Avx2 => unsafe { x86::dot_exact_avx2(query, high, low) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            Isa::Avx512Vnni => unsafe { x86::dot_exact_avx512(query, high, low) },
            // NEON is part of the aarch64 baseline, so the compiler vectorises the plain loop with it.
            _ => dot_exact_lanes(query, high, low),
        }
    }
}

/// The reference: sums of products with the offset still in.
fn dot_rows_scalar(query: &[Line<i8>], rows: &[Line<u8>], out: &mut [i32]) {
    for (row, sum) in rows.chunks_exact(query.len().max(1)).zip(out) {
        *sum = row
            .iter()
            .zip(query)
            .map(|(r, q)| r.0.iter().zip(&q.0).map(|(&a, &b)| i32::from(a) * i32::from(b)).sum::<i32>())
            .sum();
    }
}

/// The body of [`Kernel::dot_exact`]; inlined into functions that allow wider registers.
#[inline(always)]
#[allow(clippy::inline_always)] // target features reach the loop only by inlining
fn dot_exact_lanes(query: &[Line<f32>], high: &[Line<u8>], low: &[Line<i8>]) -> f32 {
    // One partial sum per element of a line: four or more registers, so that an addition needn't wait for the last.
    let mut lanes = [0.0_f32; LINE];
    for ((q, h), l) in query.iter().zip(high).zip(low) {
        for (((lane, &q), &h), &l) in lanes.iter_mut().zip(&q.0).zip(&h.0).zip(&l.0) {
            let fixed = 256 * (i32::from(h) - i32::from(OFFSET)) + i32::from(l);
            *lane += q * fixed as f32;
        }
    }
    // By halves: a chain of additions would take longer than all the products.
    let mut width = LINE;
    while width > 1 {
        width /= 2;
        let (left, right) = lanes.split_at_mut(width);
        for (left, right) in left.iter_mut().zip(right) {
            *left += *right;
        }
    }
    lanes.first().copied().unwrap_or_default()
}

/// The body of [`Kernel::raise_lanes`]; inlined into functions that allow wider registers.
#[inline(always)]
#[allow(clippy::inline_always)] // target features reach the loop only by inlining
fn raise_lanes(dots: &[i32; BLOCK_ROWS], scales: &[f32], best: &mut [f32; BLOCK_ROWS]) {
    for ((best, &dot), &scale) in best.iter_mut().zip(dots).zip(scales) {
        let score = if scale > 0.0 { dot as f32 * scale } else { f32::NEG_INFINITY };
        *best = if score > *best { score } else { *best };
    }
}

/// The reference, and what other kernels do.
fn reaching_scalar(dots: &[i32; BLOCK_ROWS], scales: &[f32], threshold: f32) -> u64 {
    let mut reached = 0_u64;
    for (part, (dots, scales)) in dots.chunks(16).zip(scales.chunks(16)).enumerate() {
        let scores = || dots.iter().zip(scales).map(|(&dot, &scale)| dot as f32 * scale);
        // Not the lazy operator: without branches the loop is vectorised, and it is all that most rows see.
        #[allow(clippy::needless_bitwise_bool)]
        if scores().fold(false, |any, score| any | (score >= threshold)) {
            let bits =
                scores().enumerate().fold(0_u64, |bits, (bit, score)| bits | u64::from(score >= threshold) << bit);
            reached |= bits << (16 * part);
        }
    }
    reached
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use proptest::prelude::*;

    use super::*;
    use crate::vector::lines_for;
    use crate::vector::quantize::push_fixed;

    /// Miri takes seconds for what the processor does in microseconds; what lies beyond a line and a pair of rows stays in.
    const DIMS: Range<usize> = if cfg!(miri) { 1..140 } else { 1..300 };
    const COUNTS: Range<usize> = if cfg!(miri) { 0..5 } else { 0..70 };
    const LONGEST: u16 = if cfg!(miri) { 256 } else { 4096 };

    proptest! {
        #[test]
        fn every_kernel_equals_the_scalar_one(
            dim in DIMS,
            count in COUNTS,
            seed in prop::collection::vec(-1.0_f32..1.0, 64),
            spike in prop::bool::ANY,
        ) {
            let value = |i: usize| {
                let x = seed.get(i * 7919 % 64).copied().unwrap_or_default() * ((i % 13) as f32 - 6.0);
                if spike { x.signum() } else { x }
            };
            let (mut high, mut low) = (Vec::new(), Vec::new());
            for row in 0..count {
                let vector: Vec<f32> = (0..dim).map(|i| value(row * dim + i + 1)).collect();
                push_fixed(&vector, &mut high, &mut low);
            }
            let vector: Vec<f32> = (0..dim).map(value).collect();
            let query = Kernel::SCALAR.prepare(&vector);
            for kernel in Kernel::available() {
                prop_assert_eq!(format!("{:?}", kernel.prepare(&vector)), format!("{query:?}"), "{}", kernel.name());
            }
            let other = Query::new(&(0..dim).map(|i| value(3 * i + 1)).collect::<Vec<f32>>());
            let mut expected = [[i32::MAX; BLOCK_ROWS]; 2];
            Kernel::SCALAR.dot_rows([&query, &other], &high, &mut expected);
            let lines = lines_for(dim);
            for kernel in Kernel::available() {
                let mut pair = [[i32::MAX; BLOCK_ROWS]; 2];
                kernel.dot_rows([&query, &other], &high, &mut pair);
                prop_assert_eq!(pair, expected, "{}", kernel.name());
                for (query, expected) in [&query, &other].into_iter().zip(expected) {
                    let mut single = [[i32::MAX; BLOCK_ROWS]];
                    kernel.dot_rows([query], &high, &mut single);
                    prop_assert_eq!(single, [expected], "{}", kernel.name());
                }
                for row in 0..count {
                    let range = row * lines..(row + 1) * lines;
                    let (h, l) = (&high[range.clone()], &low[range]);
                    let exact = kernel.dot_exact(&query.exact, h, l);
                    prop_assert_eq!(exact.to_bits(), Kernel::SCALAR.dot_exact(&query.exact, h, l).to_bits());
                }
            }
        }

        #[test]
        fn every_kernel_finds_the_scores_that_reach_a_threshold(
            dots in prop::collection::vec(prop_oneof![-5..5_i32, any::<i32>()], BLOCK_ROWS),
            scales in prop::collection::vec(prop_oneof![Just(0.0_f32), Just(0.5), 0.0_f32..1.0], 0..=BLOCK_ROWS),
            whole in prop::bool::ANY,
            threshold in prop_oneof![Just(f32::NEG_INFINITY), Just(0.0), -3.0_f32..3.0],
        ) {
            let dots: [i32; BLOCK_ROWS] = dots.try_into().unwrap();
            let mut scales = scales;
            if whole {
                scales.resize(BLOCK_ROWS, 0.25);
            }
            let bits = dots.iter().zip(&scales).enumerate().map(|(bit, (&dot, &scale))| {
                u64::from(dot as f32 * scale >= threshold) << bit
            });
            let expected = bits.fold(0, |word, bit| word | bit);
            let mut raised = [threshold; BLOCK_ROWS];
            for ((best, &dot), &scale) in raised.iter_mut().zip(&dots).zip(&scales).filter(|(_, scale)| **scale > 0.0) {
                *best = best.max(dot as f32 * scale);
            }
            for kernel in Kernel::available() {
                prop_assert_eq!(kernel.reaching(&dots, &scales, threshold), expected, "{}", kernel.name());
                let mut best = [threshold; BLOCK_ROWS];
                kernel.raise_lanes(&dots, &scales, &mut best);
                prop_assert_eq!(best.map(f32::to_bits), raised.map(f32::to_bits), "{}", kernel.name());
            }
        }
    }

    #[test]
    fn extreme_values_do_not_saturate() {
        let (mut high, mut low) = (Vec::new(), Vec::new());
        push_fixed(&[1.0; LONGEST as usize], &mut high, &mut low);
        for sign in [1.0, -1.0] {
            let query = Query::new(&[sign; LONGEST as usize]);
            for kernel in Kernel::available() {
                let mut out = [[0; BLOCK_ROWS]; 2];
                kernel.dot_rows([&query, &query], &high, &mut out);
                assert_eq!(
                    out.map(|sums| sums[0]),
                    [sign as i32 * 127 * 127 * i32::from(LONGEST); 2],
                    "{}",
                    kernel.name()
                );
            }
        }
    }
}
