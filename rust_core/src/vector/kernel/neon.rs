//! The aarch64 kernel, on the NEON baseline: no dot-product extension is needed.

use std::arch::aarch64::{
    vaddvq_s32, vdupq_n_s32, vget_high_s8, vget_high_s16, vget_high_u8, vget_low_s8, vget_low_s16, vget_low_u8,
    vld1q_s8, vld1q_u8, vmlal_s16, vmovl_s8, vmovl_u8, vreinterpretq_s16_u16,
};

use crate::vector::Line;

/// Dot products with the offset still in.
///
/// # Safety
/// The machine has NEON; `rows.len()` is a multiple of `query.len()`.
#[target_feature(enable = "neon")]
pub(super) unsafe fn dot_rows(query: &[Line<i8>], rows: &[Line<u8>], out: &mut [i32]) {
    for (sum, row) in out.iter_mut().zip(rows.chunks_exact(query.len())) {
        let mut totals = [vdupq_n_s32(0); 4];
        for (q, r) in query.iter().zip(row) {
            for part in 0..4 {
                // SAFETY: a Line is four parts of 16 bytes.
                let (q, r) = unsafe { (vld1q_s8(q.0.as_ptr().add(16 * part)), vld1q_u8(r.0.as_ptr().add(16 * part))) };
                let (q_low, q_high) = (vmovl_s8(vget_low_s8(q)), vmovl_s8(vget_high_s8(q)));
                // 0 to 255 fits a signed 16-bit lane.
                let r_low = vreinterpretq_s16_u16(vmovl_u8(vget_low_u8(r)));
                let r_high = vreinterpretq_s16_u16(vmovl_u8(vget_high_u8(r)));
                let [a, b, c, d] = totals;
                totals = [
                    vmlal_s16(a, vget_low_s16(q_low), vget_low_s16(r_low)),
                    vmlal_s16(b, vget_high_s16(q_low), vget_high_s16(r_low)),
                    vmlal_s16(c, vget_low_s16(q_high), vget_low_s16(r_high)),
                    vmlal_s16(d, vget_high_s16(q_high), vget_high_s16(r_high)),
                ];
            }
        }
        let [a, b, c, d] = totals;
        *sum = vaddvq_s32(a) + vaddvq_s32(b) + vaddvq_s32(c) + vaddvq_s32(d);
    }
}
