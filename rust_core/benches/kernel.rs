//! The dot-product kernels, per instruction set, beside the maintained crate that could take their place.
//!
//! `cargo bench -p lightmem-core --bench kernel --features rivals`
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss
)]

use std::hint::black_box;
use std::ops::Range;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use lightmem_core::lexical::scan::BLOCK;
use lightmem_core::vector::kernel::{BLOCK_ROWS, Kernel};
use lightmem_core::vector::quantize::Query;
use lightmem_core::vector::store::VectorStore;
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

fn store(rows: usize) -> VectorStore {
    let mut store = VectorStore::new(DIM, true);
    store.reserve_exact(rows);
    for row in 0..rows {
        store.push(&vector(row as u64 + 1));
    }
    store
}

/// The largest dot product of `Q` queries with `rows`, block by block.
fn best<const Q: usize>(kernel: Kernel, queries: [&Query; Q], store: &VectorStore, rows: Range<usize>) -> i32 {
    let mut dots = [[0; BLOCK_ROWS]; Q];
    let mut best = i32::MIN;
    for start in rows.clone().step_by(BLOCK_ROWS) {
        kernel.dot_rows(queries, store.high(start, BLOCK_ROWS.min(rows.end - start)), &mut dots);
        best = dots.iter().flatten().fold(best, |best, &dot| best.max(dot));
    }
    best
}

/// One query against all rows: 1,000 rows lie in the second-level cache, 100,000 don't.
fn scan(criterion: &mut Criterion) {
    for rows in [1_000, 100_000] {
        let store = store(rows);
        let (query, other) = (Query::new(&vector(0)), Query::new(&vector(1_000_003)));
        let mut group = criterion.benchmark_group(format!("scan {rows} x {DIM} int8"));
        group.throughput(Throughput::Bytes((rows * DIM) as u64));
        for kernel in Kernel::available() {
            let name = kernel.name();
            group.bench_function(name, |bencher| {
                bencher.iter(|| best(kernel, black_box([&query]), &store, 0..rows));
            });
            group.bench_function(format!("{name}, two queries side by side"), |bencher| {
                bencher.iter(|| best(kernel, black_box([&query, &other]), &store, 0..rows));
            });
            group.bench_function(format!("{name}, two queries in turn over blocks of {BLOCK}"), |bencher| {
                bencher.iter(|| {
                    let mut found = i32::MIN;
                    for start in (0..rows).step_by(BLOCK) {
                        for query in black_box([&query, &other]) {
                            found = found.max(best(kernel, [query], &store, start..rows.min(start + BLOCK)));
                        }
                    }
                    found
                });
            });
        }
        let signed: Vec<i8> = (0..rows)
            .flat_map(|row| store.high(row, 1))
            .flat_map(|line| line.0)
            .map(|byte| byte.wrapping_sub(128).cast_signed())
            .collect();
        let query_bytes: Vec<i8> = query.bytes.iter().flat_map(|line| line.0).collect();
        group.bench_function("numkong, a call per row", |bencher| {
            bencher.iter(|| {
                let dots =
                    signed.chunks_exact(DIM).map(|row| i8::dot(black_box(&query_bytes), row).unwrap_or_default());
                dots.max()
            });
        });
        group.finish();
    }
}

fn rescore(criterion: &mut Criterion) {
    let store = store(1);
    let (_, high, low) = store.raw(0);
    let query = Query::new(&vector(0));
    let mut group = criterion.benchmark_group("rescore one row");
    for kernel in Kernel::available() {
        group.bench_function(kernel.name(), |bencher| {
            bencher.iter(|| kernel.dot_exact(black_box(&query.exact), high, low));
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
