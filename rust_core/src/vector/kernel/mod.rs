//! Dot products of int8 queries with blocks of the high plane, and of float32 queries with both planes.
//!
//! The instruction set is chosen once, at run time: AVX-512 VNNI, AVX2, NEON, or the scalar reference, which every
//! other one must equal bit by bit (integer sums have no rounding; the float sum has a fixed order of 64 lanes).
//!
//! Written by hand, not taken from `numkong` (7.8), the maintained crate for it: over 1,000 rows of 384 dimensions, in
//! cache, the AVX-512 VNNI kernel here takes 4.4 µs where a `numkong` call per row takes 9.0, and AVX2 12.2 (AMD EPYC, 2
//! shared cores; `cargo bench -p lightmem-core --bench kernel`). Multiplying four rows side by side shares the loads of
//! the query and the sums across lanes. Over 100,000 rows, out of cache, memory bounds all of them alike.

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

    /// Integer dot products of one query with consecutive rows of a high plane, at most [`BLOCK_ROWS`] of them.
    ///
    /// `out[r]` becomes the sum over the dimensions of `query.bytes * (high - 128)`. `rows` holds `out.len()` rows of
    /// `query.bytes.len()` lines; of other lengths only what is common to both is computed.
    pub fn dot_rows(self, query: &Query, rows: &[Line<u8>], out: &mut [i32]) {
        let lines = query.bytes.len();
        let count = out.len().min(rows.len().checked_div(lines).unwrap_or(0));
        let (Some(rows), Some(out)) = (rows.get(..count * lines), out.get_mut(..count)) else { return };
        match self.0 {
            Isa::Scalar => dot_rows_scalar(&query.bytes, rows, out),
            #[cfg(target_arch = "x86_64")]
            // SAFETY: a Kernel of this kind exists only where the feature was detected; `rows` holds exactly
            // `out.len() * lines` lines, cut just above.
            Isa::Avx2 => unsafe { x86::dot_rows_avx2(&query.bytes, rows, out) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            Isa::Avx512Vnni => unsafe { x86::dot_rows_avx512(&query.bytes, rows, out) },
            #[cfg(target_arch = "aarch64")]
            // SAFETY: as above.
            Isa::Neon => unsafe { neon::dot_rows(&query.bytes, rows, out) },
        }
        for sum in out {
            *sum -= query.offset_sum;
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
    let mut parts = [0.0_f32; 16];
    for chunk in lanes.as_chunks::<16>().0 {
        for (part, lane) in parts.iter_mut().zip(chunk) {
            *part += lane;
        }
    }
    parts.iter().sum()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::vector::lines_for;
    use crate::vector::quantize::push_fixed;

    proptest! {
        #[test]
        fn every_kernel_equals_the_scalar_one(
            dim in 1_usize..300,
            count in 0_usize..70,
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
            let query = Query::new(&(0..dim).map(value).collect::<Vec<f32>>());
            let mut expected = vec![0; count];
            Kernel::SCALAR.dot_rows(&query, &high, &mut expected);
            let lines = lines_for(dim);
            for kernel in Kernel::available() {
                let mut out = vec![i32::MAX; count];
                kernel.dot_rows(&query, &high, &mut out);
                prop_assert_eq!(&out, &expected, "{}", kernel.name());
                for row in 0..count {
                    let range = row * lines..(row + 1) * lines;
                    let (h, l) = (&high[range.clone()], &low[range]);
                    let exact = kernel.dot_exact(&query.exact, h, l);
                    prop_assert_eq!(exact.to_bits(), Kernel::SCALAR.dot_exact(&query.exact, h, l).to_bits());
                }
            }
        }
    }

    #[test]
    fn extreme_values_do_not_saturate() {
        let (mut high, mut low) = (Vec::new(), Vec::new());
        push_fixed(&[1.0; 4096], &mut high, &mut low);
        for sign in [1.0, -1.0] {
            let query = Query::new(&[sign; 4096]);
            for kernel in Kernel::available() {
                let mut out = [0];
                kernel.dot_rows(&query, &high, &mut out);
                assert_eq!(out, [sign as i32 * 127 * 127 * 4096], "{}", kernel.name());
            }
        }
    }
}
