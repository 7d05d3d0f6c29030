//! The dot-product kernels, per instruction set, beside the maintained crate that could take their place.
//!
//! `cargo bench -p lightmem-core --bench kernel`
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss
)]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use lightmem_core::vector::Line;
use lightmem_core::vector::kernel::{BLOCK_ROWS, Kernel};
use lightmem_core::vector::quantize::{Query, push_fixed};
use numkong::Dot;

const DIM: usize = 384;

/// Deterministic values between -1 and 1.
fn vector(seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / 8_388_608.0 - 1.0
    };
    (0..DIM).map(|_| next()).collect()
}

fn planes(rows: usize) -> (Vec<Line<u8>>, Vec<Line<i8>>) {
    let (mut high, mut low) = (Vec::new(), Vec::new());
    for row in 0..rows {
        push_fixed(&vector(row as u64 + 1), &mut high, &mut low);
    }
    (high, low)
}

/// One query against all rows: 1,000 rows lie in the second-level cache, 100,000 don't.
fn scan(criterion: &mut Criterion) {
    for rows in [1_000, 100_000] {
        let (high, _) = planes(rows);
        let query = Query::new(&vector(0));
        let lines = high.len() / rows;
        let mut group = criterion.benchmark_group(format!("scan {rows} x {DIM} int8"));
        group.throughput(Throughput::Bytes((rows * DIM) as u64));
        for kernel in Kernel::available() {
            group.bench_function(kernel.name(), |bencher| {
                bencher.iter(|| {
                    let mut best = i32::MIN;
                    let mut dots = [0; BLOCK_ROWS];
                    for block in high.chunks(BLOCK_ROWS * lines) {
                        kernel.dot_rows(black_box(&query), block, &mut dots);
                        best = best.max(dots.iter().copied().max().unwrap_or_default());
                    }
                    best
                });
            });
        }
        let signed: Vec<i8> =
            high.iter().flat_map(|line| line.0).map(|byte| byte.wrapping_sub(128).cast_signed()).collect();
        let query_bytes: Vec<i8> = query.bytes.iter().flat_map(|line| line.0).collect();
        group.bench_function("numkong, a call per row", |bencher| {
            bencher.iter(|| {
                let dots =
                    signed.chunks_exact(DIM).map(|row| i8::dot(black_box(&query_bytes), row).unwrap_or_default());
                dots.max_by(|a, b| a.partial_cmp(b).unwrap())
            });
        });
        group.finish();
    }
}

fn rescore(criterion: &mut Criterion) {
    let (high, low) = planes(1);
    let query = Query::new(&vector(0));
    let mut group = criterion.benchmark_group("rescore one row");
    for kernel in Kernel::available() {
        group.bench_function(kernel.name(), |bencher| {
            bencher.iter(|| kernel.dot_exact(black_box(&query.exact), &high, &low));
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(30).warm_up_time(std::time::Duration::from_millis(300)).measurement_time(std::time::Duration::from_secs(1));
    targets = scan, rescore
}
criterion_main!(benches);
