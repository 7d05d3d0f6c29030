//! Score fusion against a brute-force model that knows no lists, bounds or blocks: every row's total from the formula.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::cast_precision_loss, clippy::cast_possible_truncation)]

use lightmem_core::engine::{Engine, EngineOptions};
use lightmem_core::rows::Rows;
use lightmem_core::search::{FusionMethod, SearchPlan};
use lightmem_core::snapshot;
use lightmem_core::tiers::Heat;
use proptest::collection::vec;
use proptest::prelude::*;

const DIM: usize = 8;
const VIEWS: usize = 2;
/// Words that the analyser leaves as they are.
const WORDS: [&str; 6] = ["paris", "rent", "guitar", "tea", "moon", "kiln"];
const K1: f64 = 0.9;
const B: f64 = 0.4;
/// The scale of a dense list is never finer than this.
const LEAST_SPREAD: f64 = 0.1;
/// The mean of a dense list is of cosines in 8 bits.
const NOW: i64 = 100;
const HALF_LIFE: i64 = 50;
const TOLERANCE: f64 = 0.04;

#[derive(Debug, Clone)]
struct Spec {
    vectors: [Option<Vec<f32>>; VIEWS],
    texts: [Vec<&'static str>; VIEWS],
    session: usize,
    session_text: Vec<&'static str>,
    speaker: usize,
    prior: f32,
    occurred_at: i64,
    /// Times, ascending, all before [`NOW`].
    accesses: Vec<i64>,
}

/// ±1 on one axis or ±1/2 on four: cosines are exact in every precision used.
fn unit() -> impl Strategy<Value = Vec<f32>> {
    let axes = || prop::sample::subsequence((0..DIM).collect::<Vec<_>>(), 4);
    (axes(), vec(any::<bool>(), 4), any::<bool>()).prop_map(|(axes, signs, is_single)| {
        let mut vector = vec![0.0; DIM];
        let (count, value) = if is_single { (1, 1.0) } else { (4, 0.5) };
        for (axis, sign) in axes.into_iter().zip(signs).take(count) {
            vector[axis] = if sign { value } else { -value };
        }
        vector
    })
}

fn words(most: usize) -> impl Strategy<Value = Vec<&'static str>> {
    vec(prop::sample::select(&WORDS[..]), 0..=most)
}

fn spec() -> impl Strategy<Value = Spec> {
    let vector = || prop::option::weighted(0.9, unit());
    (
        (vector(), vector()),
        (words(4), words(8)),
        0..4_usize,
        words(5),
        0..3_usize,
        -2.0_f32..2.0,
        0..10_i64,
        vec(0..NOW, 0..4),
    )
        .prop_map(|(vectors, texts, session, session_text, speaker, prior, occurred_at, mut accesses)| {
            accesses.sort_unstable();
            Spec {
                vectors: vectors.into(),
                texts: texts.into(),
                session,
                session_text,
                speaker,
                prior,
                occurred_at,
                accesses,
            }
        })
}

fn to_rows(specs: &[Spec]) -> Rows {
    let mut rows = Rows::default();
    for (index, spec) in specs.iter().enumerate() {
        let zeros = vec![0.0; DIM];
        let vectors: Vec<f32> =
            spec.vectors.iter().flat_map(|vector| vector.clone().unwrap_or_else(|| zeros.clone())).collect();
        let texts = spec.texts.each_ref().map(|words| words.join(" "));
        let session = format!("session{}", spec.session);
        rows.push_turn((index as u128).to_be_bytes(), &vectors, &[&texts[0], &texts[1]], &session, index as u64);
        rows.occurred_at[index] = spec.occurred_at;
        rows.speakers.push(format!("speaker{}", spec.speaker));
        rows.priors.push(spec.prior);
        // The first access is known when the row comes, the others follow.
        rows.heats.push(spec.accesses.first().map_or(Heat::default(), |&at| Heat { value: 1.0, since: at }));
        rows.session_texts.push(spec.session_text.join(" "));
    }
    rows
}

/// BM25 of documents for a query.
fn bm25(documents: &[Vec<&str>], query: &[&str]) -> Vec<f64> {
    let held: Vec<_> = documents.iter().filter(|document| !document.is_empty()).collect();
    let average = held.iter().map(|document| document.len()).sum::<usize>() as f64 / held.len().max(1) as f64;
    let score = |document: &Vec<&str>| {
        query
            .iter()
            .map(|term| {
                let containing = held.iter().filter(|other| other.contains(term)).count() as f64;
                let idf = (1.0 + (held.len() as f64 - containing + 0.5) / (containing + 0.5)).ln();
                let frequency = document.iter().filter(|word| *word == term).count() as f64;
                let norm = K1 * (1.0 - B + B * document.len() as f64 / average.max(1.0));
                idf * frequency * (K1 + 1.0) / (frequency + norm)
            })
            .sum()
    };
    documents.iter().map(score).collect()
}

fn relative_to_best(scores: &[f64]) -> Vec<f64> {
    let best = scores.iter().copied().fold(0.0, f64::max);
    scores.iter().map(|score| if best > 0.0 { score / best } else { 0.0 }).collect()
}

/// Parts of a score: the lists of each kind and view, session, prior, speaker, time, heat, link.
const PARTS: usize = 2 * VIEWS + 6;

/// One query view: its words, its vector and the weight of both.
type QueryView = (Vec<&'static str>, Vec<f32>, f64);

/// What each row that some list holds scores, part by part.
fn model(specs: &[Spec], plan: &SearchPlan, queries: &[QueryView]) -> Vec<Option<[f64; PARTS]>> {
    let mut parts = vec![[0.0; PARTS]; specs.len()];
    let mut is_held = vec![false; specs.len()];
    for (words, query, weight) in queries {
        for view in 0..VIEWS {
            let dot = |vector: &Vec<f32>| vector.iter().zip(query).map(|(a, b)| f64::from(a * b)).sum::<f64>();
            let cosines: Vec<_> = specs.iter().map(|spec| spec.vectors[view].as_ref().map(dot)).collect();
            let known: Vec<f64> = cosines.iter().flatten().copied().collect();
            let mean = known.iter().sum::<f64>() / known.len().max(1) as f64;
            let best = known.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let documents: Vec<_> = specs.iter().map(|spec| spec.texts[view].clone()).collect();
            let lexical = relative_to_best(&bm25(&documents, words));
            for (row, cosine) in cosines.into_iter().enumerate() {
                if let Some(cosine) = cosine {
                    is_held[row] = true;
                    parts[row][view] += weight * (cosine - mean) / (best - mean).max(LEAST_SPREAD);
                }
                is_held[row] |= lexical[row] > 0.0;
                parts[row][VIEWS + view] += weight * lexical[row];
            }
        }
        let mut sessions = vec![Vec::new(); 4];
        for spec in specs {
            sessions[spec.session].extend(spec.session_text.iter().copied());
        }
        let sessions = relative_to_best(&bm25(&sessions, words));
        for (parts, spec) in parts.iter_mut().zip(specs) {
            parts[2 * VIEWS] += weight * sessions[spec.session];
        }
    }
    for (parts, spec) in parts.iter_mut().zip(specs) {
        let [.., prior, speaker, time, heat, _] = parts;
        *prior = f64::from(spec.prior);
        *speaker = f64::from(u8::from(spec.speaker == 1));
        let hot = spec.accesses.iter().map(|at| 0.5_f64.powf((NOW - at) as f64 / HALF_LIFE as f64)).sum::<f64>();
        *heat = hot / (1.0 + hot);
        *time = f64::from(u8::from((plan.boost_from..plan.boost_to).contains(&spec.occurred_at)));
    }
    parts.into_iter().zip(is_held).map(|(parts, is_held)| is_held.then_some(parts)).collect()
}

fn weights(plan: &SearchPlan) -> [f64; PARTS] {
    let besides =
        [plan.session_weight, plan.prior_weight, plan.speaker_boost, plan.boost, plan.heat_weight, plan.link_weight];
    [plan.dense_weights.clone(), plan.lexical_weights.clone(), besides.to_vec()].concat().try_into().unwrap()
}

fn query_views() -> impl Strategy<Value = Vec<QueryView>> {
    let words = prop::sample::subsequence(&WORDS[..], 1..4);
    vec((words, unit(), prop::sample::select(vec![0.25, 0.5, 1.0])), 1..3)
}

proptest! {
    #[test]
    fn scores_and_their_parts_are_those_of_the_formula(
        specs in vec(spec(), 2..40),
        queries in query_views(),
        weight_values in vec(0.1_f64..0.5, 2 * VIEWS),
        extras in (0.0_f64..1.0, 0.0_f64..1.0, 0.0_f64..1.0, 0.0_f64..1.0, 0.0_f64..1.0),
        removed in prop::collection::btree_set(0..40_usize, 0..5),
    ) {
        let options = EngineOptions { dim: DIM, views: VIEWS, heat_half_life: HALF_LIFE, ..EngineOptions::default() };
        let engine = Engine::new(&options).unwrap();
        engine.load("p", 1, &to_rows(&specs)).unwrap();
        for (row, spec) in specs.iter().enumerate() {
            for &at in spec.accesses.iter().skip(1) {
                prop_assert!(engine.touch("p", &[(row as u128).to_be_bytes(), [255; 16]], at).unwrap());
            }
        }
        prop_assert_eq!(engine.version("p").unwrap(), Some(1));
        // A change of a row leaves its heat alone.
        let changed = Rows { heats: Vec::new(), ..to_rows(&specs[..1]) };
        prop_assert!(engine.apply("p", 1, 1, &changed, &[]).unwrap());
        let gone: Vec<_> = removed.iter().filter(|row| **row < specs.len()).map(|row| (*row as u128).to_be_bytes()).collect();
        prop_assert!(engine.apply("p", 1, 2, &Rows::default(), &gone).unwrap());
        let left: Vec<usize> = (0..specs.len()).filter(|row| !removed.contains(row)).collect();
        let specs: Vec<Spec> = left.iter().map(|row| specs[*row].clone()).collect();
        let query_weights: Vec<f64> = queries.iter().map(|(_, _, weight)| *weight).collect();
        let plan = SearchPlan {
            vectors: queries.iter().flat_map(|(_, vector, _)| vector.clone()).collect(),
            texts: queries.iter().map(|(words, _, _)| words.join(" ")).collect(),
            vector_weights: query_weights.clone(),
            text_weights: query_weights.clone(),
            dense_weights: weight_values[..VIEWS].to_vec(),
            lexical_weights: weight_values[VIEWS..].to_vec(),
            list_depth: 100,
            rescore: 100,
            max_candidates: 100,
            fusion: FusionMethod::Score,
            boost: extras.0,
            boost_from: 3,
            boost_to: 7,
            speakers: vec!["speaker1".to_owned(), "nobody".to_owned()],
            speaker_boost: extras.1,
            prior_weight: extras.2,
            session_weight: extras.3,
            heat_weight: extras.4,
            now: NOW,
            ..SearchPlan::new(VIEWS)
        };
        let expected = model(&specs, &plan, &queries);
        let found = engine.search("p", &plan).unwrap().unwrap();

        prop_assert_eq!(found.ids.len(), expected.iter().flatten().count());
        prop_assert_eq!((found.part_count, found.parts.len()), (PARTS, found.ids.len() * PARTS));
        let tolerance = TOLERANCE * query_weights.iter().sum::<f64>();
        for ((id, score), parts) in found.ids.iter().zip(&found.scores).zip(found.parts.chunks(PARTS)) {
            let row = left.iter().position(|row| *row as u128 == u128::from_be_bytes(*id)).unwrap();
            let expected = expected[row].unwrap();
            let total = |parts: &[f64]| parts.iter().zip(weights(&plan)).map(|(part, weight)| part * weight).sum::<f64>();
            let scale = weight_values.iter().sum::<f64>();
            let score = f64::from(*score);
            prop_assert!((score - total(&expected)).abs() < tolerance * scale, "row {row}: {score} for {expected:?}");
            let parts: Vec<f64> = parts.iter().map(|&part| f64::from(part)).collect();
            prop_assert!((score - total(&parts)).abs() < 1e-5, "row {row}: {score} of {parts:?}");
            for (part, expected) in parts.iter().zip(expected) {
                prop_assert!((part - expected).abs() < tolerance, "row {row}: {parts:?} for {expected:?}");
            }
        }
        prop_assert!(found.scores.windows(2).all(|pair| pair[0] >= pair[1]));

        // A snapshot carries all of it.
        let bytes = engine.export("p").unwrap().unwrap();
        engine.import("copy", &bytes).unwrap();
        let copied = engine.search("copy", &plan).unwrap().unwrap();
        prop_assert_eq!(copied.ids, found.ids);
        prop_assert!(snapshot::import(*engine.schema(), &bytes[..bytes.len() - 1]).is_err());
    }
}

proptest! {
    #[test]
    fn linked_hits_share_what_they_score_without_links(
        specs in vec(spec(), 2..20),
        links in vec(vec(0..25_usize, 0..4), 20),
        query in unit(),
        prior_weight in 0.0_f64..2.0,
        link_weight in 0.1_f64..1.0,
        link_depth in 1..8_usize,
        list_depth in 1..6_usize,
    ) {
        let engine = Engine::new(&EngineOptions { dim: DIM, views: VIEWS, ..EngineOptions::default() }).unwrap();
        let id = |row: usize| (row as u128).to_be_bytes();
        let mut rows = to_rows(&specs);
        rows.links = links[..specs.len()].iter().map(|links| links.iter().map(|&row| id(row)).collect()).collect();
        engine.load("p", 1, &rows).unwrap();
        let plan = SearchPlan {
            vectors: query,
            list_depth,
            max_candidates: 100,
            fusion: FusionMethod::Score,
            prior_weight,
            ..SearchPlan::new(VIEWS)
        };
        let before = engine.search("p", &plan).unwrap().unwrap();
        let found = engine.search("p", &SearchPlan { link_weight, link_depth, ..plan }).unwrap().unwrap();

        let row = |id: [u8; 16]| u128::from_be_bytes(id) as usize;
        let is_linked = |a: usize, b: usize| a != b && (links[a].contains(&b) || links[b].contains(&a));
        let mut shares = vec![0.0; specs.len()];
        for (&giver, &score) in before.ids.iter().zip(&before.scores).take(link_depth) {
            let receivers: Vec<usize> = (0..specs.len()).filter(|&other| is_linked(row(giver), other)).collect();
            for &receiver in &receivers {
                shares[receiver] += f64::from(score.max(0.0)) / receivers.len() as f64;
            }
        }
        let newcomers = (0..specs.len()).filter(|&row| shares[row] > 0.0 && !before.ids.contains(&id(row))).count();
        prop_assert_eq!(found.ids.len(), before.ids.len() + newcomers);
        for (position, (hit, score)) in found.ids.iter().zip(&found.scores).enumerate() {
            let parts = &found.parts[position * PARTS..(position + 1) * PARTS];
            let share = shares[row(*hit)];
            prop_assert!((f64::from(parts[PARTS - 1]) - share).abs() < 1e-4, "{parts:?} for {share}");
            if let Some(held) = before.ids.iter().position(|id| id == hit) {
                let expected = f64::from(before.scores[held]) + link_weight * share;
                prop_assert!((f64::from(*score) - expected).abs() < 1e-4);
            } else {
                prop_assert_eq!(&found.ranks[position * 2 * VIEWS..(position + 1) * 2 * VIEWS], &[0; 2 * VIEWS]);
            }
        }
        prop_assert!(found.scores.windows(2).all(|pair| pair[0] >= pair[1]));
    }
}
