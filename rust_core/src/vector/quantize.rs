//! 16-bit fixed point in two planes of bytes.
//!
//! With `m` the largest magnitude of a vector and `scale = m / 32512`, an element is stored as the whole number
//! `v = round(x / scale)`, from -32512 to 32512, split so that `v = 256 * high + low`:
//!
//! ```text
//! high  u8, offset by 128: 1 ..= 255 stands for -127 ..= 127   scanned: x is about 256 * scale * high
//! low   i8, -128 ..= 127                                       read for rescoring only
//! ```
//!
//! The high plane alone is the usual int8 quantisation with a scale per vector, stored with the offset that the
//! unsigned-by-signed dot instructions (`vpdpbusd`) want.

use super::kernel::Kernel;
use super::{LINE, Line, lines_for};

/// Largest fixed-point magnitude: the high byte stays within ±127 and the low byte within -128 to 127.
pub const MAX_FIXED: f32 = 32_512.0;
/// Added to each high byte.
pub const OFFSET: u8 = 128;
/// A line of zero elements of the high plane.
pub const ZERO_HIGH: Line<u8> = Line([OFFSET; LINE]);
/// A line of zero elements of the low plane, and of a query.
pub const ZERO_LOW: Line<i8> = Line([0; LINE]);

/// Write one vector, brought to unit length, into its row of both planes and return its scale; 0 for an all-zero vector.
///
/// `vector` must be finite; the rows have [`lines_for`]`(vector.len())` lines each, padded with zero elements.
pub fn write_fixed(vector: &[f32], high: &mut [Line<u8>], low: &mut [Line<i8>]) -> f32 {
    let length = length(vector);
    let magnitude = magnitude(vector);
    let to_fixed = if magnitude > 0.0 { f64::from(MAX_FIXED) / f64::from(magnitude) } else { 0.0 };
    for ((chunk, high), low) in vector.chunks(LINE).zip(high).zip(low) {
        (*high, *low) = (ZERO_HIGH, ZERO_LOW);
        for ((&x, h), l) in chunk.iter().zip(&mut high.0).zip(&mut low.0) {
            let fixed = nearest(f64::from(x) * to_fixed);
            let top = (fixed + 128) >> 8;
            // 1 to 255.
            #[allow(clippy::cast_sign_loss)]
            let offset = (top + i32::from(OFFSET)) as u8;
            *h = offset;
            *l = (fixed - 256 * top) as i8;
        }
    }
    if to_fixed > 0.0 { (f64::from(magnitude) / f64::from(MAX_FIXED) / length) as f32 } else { 0.0 }
}

/// Append one vector to both planes; see [`write_fixed`].
pub fn push_fixed(vector: &[f32], high: &mut Vec<Line<u8>>, low: &mut Vec<Line<i8>>) -> f32 {
    let (start, lines) = (high.len(), lines_for(vector.len()));
    high.resize(start + lines, ZERO_HIGH);
    low.resize(start + lines, ZERO_LOW);
    let (high, low) = (high.get_mut(start..), low.get_mut(start..));
    write_fixed(vector, high.unwrap_or_default(), low.unwrap_or_default())
}

/// In f64, so that no finite input overflows and unit vectors stay as they are; in several sums, since one alone would
/// wait for each addition.
#[inline(always)]
#[allow(clippy::inline_always)] // as part of `Query::prepare`
fn length(vector: &[f32]) -> f64 {
    let mut sums = [0.0_f64; 16];
    for chunk in vector.chunks(sums.len()) {
        for (sum, &x) in sums.iter_mut().zip(chunk) {
            *sum += f64::from(x) * f64::from(x);
        }
    }
    sums.iter().sum::<f64>().sqrt()
}

/// The largest absolute value.
#[inline(always)]
#[allow(clippy::inline_always)] // as part of `Query::prepare`
fn magnitude(vector: &[f32]) -> f32 {
    let mut largest = [0.0_f32; 16];
    for chunk in vector.chunks(largest.len()) {
        for (largest, &x) in largest.iter_mut().zip(chunk) {
            *largest = largest.max(x.abs());
        }
    }
    largest.into_iter().fold(0.0, f32::max)
}

/// The nearest whole number. `round` would be a call per element where the baseline lacks a rounding instruction.
#[inline(always)]
#[allow(clippy::inline_always)] // as part of `Query::prepare`
fn nearest(x: f64) -> i32 {
    (x + 0.5_f64.copysign(x)) as i32
}

/// Dot product of two vectors in fixed point, of their bytes in both planes; exact. A missing low plane is all zeros.
#[must_use]
pub fn dot_fixed(a: (&[Line<u8>], &[Line<i8>]), b: (&[Line<u8>], &[Line<i8>])) -> i64 {
    let element = |high: u8, low: i8| 256 * (i32::from(high) - i32::from(OFFSET)) + i32::from(low);
    let low = |plane: &[Line<i8>], line: usize| plane.get(line).unwrap_or(&ZERO_LOW).0;
    let mut sum = 0_i64;
    for (line, (ha, hb)) in a.0.iter().zip(b.0).enumerate() {
        let (la, lb) = (low(a.1, line), low(b.1, line));
        let pairs = ha.0.iter().zip(&la).zip(hb.0.iter().zip(&lb));
        // A product is below 2^30.
        sum += pairs.map(|((&ha, &la), (&hb, &lb))| i64::from(element(ha, la) * element(hb, lb))).sum::<i64>();
    }
    sum
}

/// A query in both forms that a scan needs.
#[derive(Debug, Clone)]
pub struct Query {
    /// int8 elements for the scan, padded with zeros.
    pub bytes: Vec<Line<i8>>,
    /// What `OFFSET` adds to every dot product of `bytes` with a high plane: 128 times the sum of `bytes`.
    pub offset_sum: i32,
    /// float32 elements of unit length for the rescoring, padded with zeros.
    pub exact: Vec<Line<f32>>,
    /// What a scanned score of 1 (a dot product of bytes times the row's scale) is as a cosine.
    pub scan_unit: f64,
    /// Whether there is anything to search for.
    pub is_zero: bool,
}

impl Query {
    /// A row's high plane as a query of other high planes; for scans alone.
    #[must_use]
    pub fn of_row(high: &[Line<u8>]) -> Self {
        let bytes: Vec<Line<i8>> =
            high.iter().map(|line| Line(line.0.map(|byte| (byte ^ OFFSET).cast_signed()))).collect();
        let sum: i32 = bytes.iter().flat_map(|line| line.0).map(i32::from).sum();
        let offset_sum = i32::from(OFFSET) * sum;
        Self { bytes, offset_sum, exact: Vec::new(), scan_unit: 0.0, is_zero: false }
    }

    /// Prepare a finite query vector.
    #[must_use]
    pub fn new(vector: &[f32]) -> Self {
        Kernel::best().prepare(vector)
    }

    /// What [`Kernel::prepare`] runs, compiled for each instruction set. No operation here depends on the set.
    #[inline(always)]
    #[allow(clippy::inline_always)] // target features reach the loops only by inlining
    pub(super) fn prepare(vector: &[f32]) -> Self {
        let (length, magnitude) = (length(vector), magnitude(vector));
        let is_zero = magnitude <= 0.0;
        let to_byte = if is_zero { 0.0 } else { 127.0 / f64::from(magnitude) };
        let to_unit = if is_zero { 0.0 } else { 1.0 / length };
        let lines = lines_for(vector.len());
        let scan_unit = if is_zero { 0.0 } else { 256.0 * to_unit / to_byte };
        let (bytes, exact) = (Vec::with_capacity(lines), Vec::with_capacity(lines));
        let mut query = Self { bytes, offset_sum: 0, exact, scan_unit, is_zero };
        for chunk in vector.chunks(LINE) {
            // A whole line, also of the last elements: loops of a fixed length become vector instructions.
            let mut line = [0.0_f32; LINE];
            line.iter_mut().zip(chunk).for_each(|(place, &x)| *place = x);
            query.bytes.push(Line(line.map(|x| nearest(f64::from(x) * to_byte) as i8)));
            query.exact.push(Line(line.map(|x| (f64::from(x) * to_unit) as f32)));
        }
        let sum: i32 = query.bytes.iter().flat_map(|line| line.0).map(i32::from).sum();
        query.offset_sum = i32::from(OFFSET) * sum;
        query
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn fixed_point_is_within_half_a_step(vector in prop::collection::vec(-1.0_f32..1.0, 1..200)) {
            let (mut high, mut low) = (Vec::new(), Vec::new());
            let scale = push_fixed(&vector, &mut high, &mut low);
            let length = vector.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
            prop_assume!(length > 1e-3);
            let stored = high.iter().flat_map(|line| line.0).zip(low.iter().flat_map(|line| line.0));
            for (i, (h, l)) in stored.enumerate() {
                let fixed = 256 * (i32::from(h) - 128) + i32::from(l);
                let x = vector.get(i).map_or(0.0, |x| f64::from(*x) / length);
                prop_assert!((f64::from(fixed) * f64::from(scale) - x).abs() <= f64::from(scale) * 0.502);
                prop_assert!(h >= 1);
            }
        }
    }

    #[test]
    fn all_zero_vectors_have_scale_zero() {
        let (mut high, mut low) = (Vec::new(), Vec::new());
        assert!(push_fixed(&[0.0; 70], &mut high, &mut low).abs() < f32::MIN_POSITIVE);
        assert_eq!((high.len(), low.len()), (2, 2));
        assert!(Query::new(&[0.0; 70]).is_zero);
    }

    #[test]
    fn huge_and_tiny_elements_stay_finite() {
        for x in [f32::MAX, f32::MIN_POSITIVE, 1e-45] {
            let (mut high, mut low) = (Vec::new(), Vec::new());
            let scale = push_fixed(&[x, -x], &mut high, &mut low);
            assert!((scale * MAX_FIXED - 0.5_f32.sqrt()).abs() < 1e-4, "{x} gives {scale}");
        }
    }
}
