//! The scan of a dense list against sorting all rows: over many blocks, with far more equals than the list holds, rows
//! without vectors, rows that the filter leaves out, and scores below zero. Vectors are axes and few values apart, so that
//! eight bits tell them as well as float32 does.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::cmp::Reverse;

use lightmem_core::engine::{Engine, EngineOptions};
use lightmem_core::rows::{Id, Rows};
use lightmem_core::search::SearchPlan;
use proptest::collection::vec;
use proptest::prelude::*;

const DIM: usize = 8;
/// Beyond the axes, a row without a vector.
const NONE: usize = DIM;

fn id(row: usize) -> Id {
    (row as u128).to_be_bytes()
}

/// Row i points to axis `axes[i]`.
fn rows(axes: &[usize], archived_every: usize) -> Rows {
    let mut rows = Rows::default();
    for (row, &axis) in axes.iter().enumerate() {
        let mut vector = [0.0; DIM];
        vector.get_mut(axis).into_iter().for_each(|x| *x = 1.0);
        rows.push_turn(id(row), &vector, &[""], "s", row as u64);
        rows.is_archived[row] = is_archived(row, archived_every);
    }
    rows
}

fn is_archived(row: usize, every: usize) -> bool {
    every > 0 && row.is_multiple_of(every)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn a_list_holds_the_best_rows_and_of_equals_the_newest(
        pattern in vec(0..=NONE, 1..40),
        count in prop_oneof![1_usize..200, 1_usize..3_000], // one whole group alone: each of its rows counts
        rare in vec((0_usize..3_000, 0..=NONE), 0..40),
        values in Just([-4_i8, -3, -2, -1, 1, 2, 3, 4]).prop_shuffle(),
        depth in 1_usize..70,
        archived_every in prop_oneof![Just(0_usize), Just(2), Just(700)],
        queries in 1_usize..3,
    ) {
        let mut axes: Vec<usize> = pattern.iter().copied().cycle().take(count).collect();
        for (row, axis) in rare {
            axes.get_mut(row).into_iter().for_each(|place| *place = axis);
        }
        let engine = Engine::new(&EngineOptions { dim: DIM, views: 1, ..EngineOptions::default() }).unwrap();
        engine.load("p", 1, &rows(&axes, archived_every)).unwrap();

        let query: Vec<f32> = values.iter().map(|&value| f32::from(value)).collect();
        let plan = SearchPlan {
            vectors: query.repeat(queries),
            vector_weights: vec![1.0; queries],
            list_depth: depth,
            rescore: depth,
            max_candidates: depth,
            ..SearchPlan::new(1)
        };
        let found = engine.search("p", &plan).unwrap().unwrap();

        let mut expected: Vec<usize> =
            (0..count).filter(|&row| axes[row] != NONE && !is_archived(row, archived_every)).collect();
        expected.sort_by_key(|&row| Reverse((values[axes[row]], row)));
        expected.truncate(depth);
        prop_assert_eq!(found.ids, expected.iter().map(|&row| id(row)).collect::<Vec<_>>());
        let length = query.iter().map(|x| x * x).sum::<f32>().sqrt();
        for (row, similarity) in expected.into_iter().zip(found.similarities) {
            prop_assert!((query[axes[row]] / length - similarity).abs() < 1e-5);
        }
    }
}
