//! Vectors: how they are stored, multiplied and ranked.
//!
//! A vector is kept in 16-bit fixed point, split into two planes of bytes ([`quantize`]). A search scans only the high
//! plane, an int8 vector of its own, with integer [`kernel`]s, then rescores the best with both planes against the
//! float32 query: at 2 bytes a dimension the final order is that of a float32 search to about 1e-6 of a cosine.
//! An engine may leave the low plane out: recall@10 against float32 over 100,000 made vectors is then .980 instead of 1.000,
//! over 10,000 .984 instead of .9995 (`make bench-memory`). So it earns its place, and is kept unless refused.
//! Chosen over float16 for the rescoring, which takes 2 bytes beside the int8 vector (3 in all) and errs ten times more.

pub mod kernel;
pub mod plane;
pub mod quantize;
pub mod store;
pub mod topk;

/// Bytes that belong together: one cache line, one AVX-512 register. A row of a plane is a whole number of them.
#[derive(Debug, Clone, Copy)]
#[repr(align(64))]
pub struct Line<T>(pub [T; 64]);

/// Elements of a [`Line`].
pub const LINE: usize = 64;

/// Lines that hold `dim` elements.
#[must_use]
pub const fn lines_for(dim: usize) -> usize {
    dim.div_ceil(LINE)
}
