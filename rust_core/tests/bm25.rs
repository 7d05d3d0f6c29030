//! Lexical search against BM25 as the textbook has it, in f64, over whole texts, under adds, changes and removals.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::cast_precision_loss)]

use std::collections::{BTreeMap, BTreeSet};

use lightmem_core::engine::{Engine, EngineOptions};
use lightmem_core::rows::{Id, Rows};
use lightmem_core::search::SearchPlan;
use proptest::collection::{btree_map, btree_set, vec};
use proptest::prelude::*;

const K1: f64 = 0.9;
const B: f64 = 0.4;
/// Not stop words, and left as they are by the stemmer.
const WORDS: [&str; 12] =
    ["heron", "beagl", "rent", "guitar", "paris", "lasagna", "river", "balcon", "momo", "tent", "lamp", "soup"];
const DEPTH: usize = 10;

fn texts() -> impl Strategy<Value = Vec<&'static str>> {
    vec(proptest::sample::select(WORDS.to_vec()), 0..40)
}

fn id(number: u16) -> Id {
    u128::from(number).to_be_bytes()
}

fn rows<'a>(texts: impl IntoIterator<Item = (&'a u16, &'a Vec<&'static str>)>) -> Rows {
    let mut rows = Rows::default();
    for (number, words) in texts {
        rows.push_turn(id(*number), &[1.0, 0.0], &[&words.join(" ")], "s", u64::from(*number));
    }
    rows
}

fn bm25(texts: &BTreeMap<u16, Vec<&str>>, query: &[&str]) -> BTreeMap<Id, f64> {
    let documents = texts.values().filter(|words| !words.is_empty()).count() as f64;
    let average = (texts.values().map(Vec::len).sum::<usize>() as f64 / documents.max(1.0)).max(1.0);
    let mut scores = BTreeMap::new();
    for word in query {
        let containing = texts.values().filter(|words| words.contains(word)).count() as f64;
        let idf = (1.0 + (documents - containing + 0.5) / (containing + 0.5)).ln();
        for (number, words) in texts {
            let frequency = words.iter().filter(|held| *held == word).count() as f64;
            if frequency > 0.0 {
                let norm = K1 * (1.0 - B + B * words.len() as f64 / average);
                *scores.entry(id(*number)).or_insert(0.0) += idf * frequency * (K1 + 1.0) / (frequency + norm);
            }
        }
    }
    scores
}

fn check(engine: &Engine, texts: &BTreeMap<u16, Vec<&str>>, query: &[&str]) -> Result<(), TestCaseError> {
    let plan = SearchPlan {
        texts: vec![query.join(" ")],
        text_weights: vec![1.0],
        list_depth: DEPTH,
        max_candidates: DEPTH,
        ..SearchPlan::new(1)
    };
    let found = engine.search("p", &plan).unwrap().unwrap();
    let scores = bm25(texts, query);
    prop_assert_eq!(found.ids.len(), scores.len().min(DEPTH));
    let held: Vec<f64> = found.ids.iter().map(|id| scores.get(id).copied().unwrap_or(f64::NAN)).collect();
    // The core counts in whole units of a f32: scores this close may change places.
    let close = |score: f64| 1e-4 * (1.0 + score);
    prop_assert!(held.windows(2).all(|pair| pair[0] >= pair[1] - close(pair[1])), "{held:?}");
    let worst = held.last().copied().unwrap_or(f64::INFINITY);
    for (id, score) in &scores {
        prop_assert!(found.ids.contains(id) || *score <= worst + close(worst), "{score} was left out, {worst} was not");
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn lexical_search_is_bm25(
        first in btree_map(0_u16..200, texts(), 0..150),
        changed in btree_map(0_u16..200, texts(), 0..60),
        removed in btree_set(0_u16..200, 0..60),
        queries in vec(vec(proptest::sample::select(WORDS.to_vec()), 1..5), 3),
    ) {
        let engine = Engine::new(&EngineOptions { dim: 2, views: 1, ..EngineOptions::default() }).unwrap();
        engine.load("p", 1, &rows(&first)).unwrap();
        for query in &queries {
            check(&engine, &first, query)?;
        }
        let removed: BTreeSet<u16> = removed.into_iter().filter(|number| !changed.contains_key(number)).collect();
        let gone: Vec<Id> = removed.iter().map(|number| id(*number)).collect();
        prop_assert!(engine.apply("p", 1, 2, &rows(&changed), &gone).unwrap());
        let mut after = first;
        after.extend(changed);
        after.retain(|number, _| !removed.contains(number));
        for query in &queries {
            check(&engine, &after, query)?;
        }
    }
}
