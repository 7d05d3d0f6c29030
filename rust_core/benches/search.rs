//! Whole searches over one partition.
//!
//! `cargo bench -p lightmem-core --bench search`
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss
)]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use lightmem_core::engine::{Engine, EngineOptions};
use lightmem_core::filter::SearchFilter;
use lightmem_core::rows::Rows;
use lightmem_core::search::SearchPlan;

const DIM: usize = 384;
const VIEWS: usize = 2;

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn vector(&mut self) -> Vec<f32> {
        (0..DIM).map(|_| (self.next() >> 40) as f32 / 8_388_608.0 - 0.7).collect()
    }

    /// Words with a Zipf-like distribution over 20,000.
    fn text(&mut self, words: u64) -> String {
        let word = |random: &mut Self| {
            let uniform = (random.next() >> 11) as f64 / (1_u64 << 53) as f64;
            format!("w{}x ", (20_000_f64.powf(uniform)) as u64)
        };
        (0..words).map(|_| word(self)).collect()
    }
}

fn engine(count: u64) -> Engine {
    let engine = Engine::new(&EngineOptions { dim: DIM, views: VIEWS, ..EngineOptions::default() }).unwrap();
    let mut random = Random(42);
    let mut rows = Rows::default();
    for order in 0..count {
        let vectors = [random.vector(), random.vector()].concat();
        let words = 5 + random.next() % 25;
        let (turn, window) = (random.text(words), random.text(2 * words));
        rows.push_turn(
            u128::from(order).to_be_bytes(),
            &vectors,
            &[&turn, &window],
            &format!("s{}", order / 20),
            order,
        );
    }
    engine.load("u", 1, &rows).unwrap();
    engine
}

fn plans() -> Vec<(&'static str, SearchPlan)> {
    let mut random = Random(7);
    let base = SearchPlan { list_depth: 64, rescore: 160, max_candidates: 32, ..SearchPlan::new(VIEWS) };
    let dense = SearchPlan { vectors: random.vector(), dense_weights: vec![1.0, 0.0], ..base.clone() };
    let lexical = SearchPlan { texts: vec![random.text(8)], ..base.clone() };
    let hybrid = SearchPlan {
        vectors: [random.vector(), random.vector()].concat(),
        vector_weights: vec![1.0, 0.5],
        texts: vec![random.text(4), random.text(10)],
        text_weights: vec![1.0, 0.5],
        ..base
    };
    let narrow = SearchFilter { sessions: vec!["s7".to_owned()], ..SearchFilter::default() };
    let filtered = SearchPlan { filter: narrow, ..hybrid.clone() };
    vec![
        ("dense, 1 query, 1 view", dense),
        ("lexical, 8 words, 2 views", lexical),
        ("hybrid, 2 queries, 2 texts, 2 views", hybrid),
        ("hybrid, one session of 20 rows", filtered),
    ]
}

fn search(criterion: &mut Criterion) {
    for count in [1_000, 10_000, 50_000] {
        let engine = engine(count);
        let mut group = criterion.benchmark_group(format!("search {count} rows"));
        group.throughput(Throughput::Elements(count));
        for (name, plan) in plans() {
            group.bench_function(name, |bencher| bencher.iter(|| engine.search("u", &plan)));
        }
        group.finish();
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20).warm_up_time(std::time::Duration::from_millis(300)).measurement_time(std::time::Duration::from_secs(1));
    targets = search
}
criterion_main!(benches);
