//! The dot product of two signed byte vectors, for graphs: there any stored vector is compared with any other.
//!
//! A plain loop that the compiler vectorises: a graph jumps about in memory, and the misses, not the sums, set its pace.

#[cfg(target_arch = "x86_64")]
use super::Isa;
use super::Kernel;

impl Kernel {
    /// Sum of the products; of other lengths only what is common to both counts.
    #[must_use]
    pub fn dot_bytes(self, a: &[i8], b: &[i8]) -> i32 {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: a Kernel of this kind exists only where the feature was detected.
            Isa::Avx2 => unsafe { dot_avx2(a, b) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            Isa::Avx512Vnni => unsafe { dot_avx512(a, b) },
            // NEON is part of the aarch64 baseline.
            _ => dot_plain(a, b),
        }
    }
}

#[inline(always)]
#[allow(clippy::inline_always)] // target features reach the loop only by inlining
fn dot_plain(a: &[i8], b: &[i8]) -> i32 {
    a.iter().zip(b).map(|(&a, &b)| i32::from(a) * i32::from(b)).sum()
}

/// # Safety
/// The machine has AVX2.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
unsafe fn dot_avx2(a: &[i8], b: &[i8]) -> i32 {
    dot_plain(a, b)
}

/// # Safety
/// The machine has AVX-512 F and BW.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn dot_avx512(a: &[i8], b: &[i8]) -> i32 {
    dot_plain(a, b)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_kernel_equals_the_plain_one(a in prop::collection::vec(any::<i8>(), 0..300), shift in 0_usize..7) {
            let b: Vec<i8> = a.iter().rev().map(|x| x.wrapping_mul(3)).skip(shift).collect();
            let wide = |x: &i8| i64::from(*x);
            let expected: i64 = a.iter().map(wide).zip(b.iter().map(wide)).map(|(a, b)| a * b).sum();
            for kernel in Kernel::available() {
                prop_assert_eq!(i64::from(kernel.dot_bytes(&a, &b)), expected, "{}", kernel.name());
            }
        }
    }
}
