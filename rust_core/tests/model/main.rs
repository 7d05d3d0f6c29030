//! The engine against a brute-force model: under random histories of loads, changes, removals and evictions, and over
//! partitions of several blocks, where zones, pruning and thresholds matter.
//!
//! Vectors are ±1 on one axis, ±1/2 on four or ±1/4 on sixteen: all their cosines are exact in every precision used, so
//! the model can demand the very same ranking, ties included.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::cast_precision_loss, clippy::cast_possible_truncation)]

use std::collections::{BTreeMap, BTreeSet};

use lightmem_core::engine::{Engine, EngineOptions};
use lightmem_core::filter::SearchFilter;
use lightmem_core::fusion::Fusion;
use lightmem_core::lexical::analyser::Analyser;
use lightmem_core::lexical::scan::{contribution, inverse_document_frequency};
use lightmem_core::metadata::{Expression, Operator, Scalar};
use lightmem_core::rows::{ALWAYS, Id, NEVER, Rows};
use lightmem_core::search::{SearchPlan, SearchResult};
use lightmem_core::tiers::RingLimits;
use proptest::collection::vec;
use proptest::prelude::*;

const DIM: usize = 96;
const VIEWS: usize = 2;
const RING: RingLimits = RingLimits { turns: 3, tokens: 7 };
const WORDS: [&str; 10] = ["beagle", "rent", "guitar", "the", "Paris", "beagles", "rented", "東京", "lasagna", "and"];

#[derive(Debug, Clone)]
struct Spec {
    vectors: [Vec<f32>; VIEWS],
    texts: [String; VIEWS],
    tier: u8,
    kind: u8,
    session: &'static str,
    agent: &'static str,
    occurred_at: i64,
    valid: (i64, i64),
    expires_at: i64,
    tokens: u32,
    is_archived: bool,
    in_ring: bool,
    metadata: BTreeMap<String, Scalar>,
    /// Numbers of rows it rests on, there or not.
    links: Vec<u16>,
}

fn vectors() -> impl Strategy<Value = Vec<f32>> {
    let spikes = |count: usize, value: f32| {
        (Just(value), proptest::sample::subsequence((0..DIM).collect::<Vec<_>>(), count), vec(any::<bool>(), count))
    };
    let unit = prop_oneof![spikes(1, 1.0), spikes(4, 0.5), spikes(16, 0.25)];
    let unit = unit.prop_map(|(value, axes, signs)| {
        let mut vector = vec![0.0; DIM];
        for (axis, sign) in axes.into_iter().zip(signs) {
            // Few axes in use, so that cosines differ from zero often.
            vector[axis] = if sign { value } else { -value };
        }
        vector
    });
    prop_oneof![9 => unit, 1 => Just(vec![0.0; DIM])]
}

fn texts() -> impl Strategy<Value = String> {
    vec(proptest::sample::select(WORDS.to_vec()), 0..7).prop_map(|words| words.join(" "))
}

fn times() -> impl Strategy<Value = i64> {
    prop_oneof![Just(ALWAYS), Just(NEVER), 0_i64..20]
}

fn scalars() -> impl Strategy<Value = Scalar> {
    prop_oneof![
        (0_i64..4).prop_map(Scalar::Int),
        (0_i64..8).prop_map(|x| Scalar::Float(x as f64 / 2.0)),
        any::<bool>().prop_map(Scalar::Bool),
        "[ab]{0,2}".prop_map(Scalar::Text),
    ]
}

fn specs() -> impl Strategy<Value = Spec> {
    let names = || proptest::sample::select(vec!["", "x", "y"]);
    let valid = prop_oneof![3 => Just((ALWAYS, NEVER)), 1 => (times(), times())];
    let expiry = prop_oneof![3 => Just(NEVER), 1 => times()];
    (
        (vectors(), vectors(), texts(), texts(), 1_u8..4, 1_u8..5, names(), names()),
        (0_i64..20, valid, expiry, 0_u32..5, proptest::bool::weighted(0.1), any::<bool>()),
        proptest::collection::btree_map("[kl]", scalars(), 0..2),
        prop_oneof![1 => Just(Vec::new()), 1 => vec(0_u16..60, 1..4)],
    )
        .prop_map(|((v0, v1, t0, t1, tier, kind, session, agent), rest, metadata, links)| {
            let (occurred_at, valid, expires_at, tokens, is_archived, in_ring) = rest;
            Spec {
                vectors: [v0, v1],
                texts: [t0, t1],
                tier,
                kind,
                session,
                agent,
                occurred_at,
                valid,
                expires_at,
                tokens,
                is_archived,
                in_ring,
                metadata,
                links,
            }
        })
}

fn expressions() -> impl Strategy<Value = Expression> {
    let operator = proptest::sample::select(vec![Operator::Eq, Operator::Ne, Operator::In]);
    let condition = ("[kl]", operator, scalars()).prop_map(|(key, operator, value)| Expression::Condition {
        key,
        operator,
        values: vec![value],
    });
    condition.prop_recursive(3, 8, 3, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..3).prop_map(Expression::All),
            vec(inner.clone(), 0..3).prop_map(Expression::Any),
            inner.prop_map(|e| Expression::Not(Box::new(e))),
        ]
    })
}

fn filters() -> impl Strategy<Value = SearchFilter> {
    let names = || vec(proptest::sample::select(vec!["", "x", "z"]), 0..2);
    let own = |names: Vec<&str>| names.into_iter().map(str::to_owned).collect();
    (
        vec(1_u8..4, 0..2),
        vec(1_u8..5, 0..2),
        names(),
        names(),
        times(),
        times(),
        proptest::option::of(0_i64..20),
        proptest::option::of(expressions()),
    )
        .prop_map(move |(tiers, kinds, sessions, agents, from, to, as_of, metadata)| SearchFilter {
            tiers,
            kinds,
            sessions: own(sessions),
            agents: own(agents),
            occurred_from: if from == NEVER { ALWAYS } else { from },
            occurred_to: if to == ALWAYS { NEVER } else { to },
            as_of,
            metadata,
        })
}

fn plans() -> impl Strategy<Value = SearchPlan> {
    let weights = |count| vec(proptest::sample::select(vec![0.0, 0.5, 1.0, 2.0]), count);
    let filter = prop_oneof![1 => Just(SearchFilter::default()), 1 => filters()];
    (0_usize..3, 0_usize..3).prop_flat_map(move |(q, t)| {
        (
            (vec(vectors(), q), vec(texts(), t), weights(q), weights(t), weights(VIEWS), weights(VIEWS)),
            (1_usize..12, 1_usize..12, 0_i64..20, filter.clone(), 0_usize..3, 0_i64..20, 0_i64..20),
            (
                proptest::sample::select(vec![0.0, 0.5, 1.0]),
                0_usize..6,
                proptest::sample::select(vec![0.0, 0.5, 0.9, 1.0]),
            ),
        )
            .prop_map(
                |((vectors, texts, vector_weights, text_weights, dense_weights, lexical_weights), rest, after)| {
                    let (link_weight, link_depth, duplicate_similarity) = after;
                    let (list_depth, max_candidates, now, filter, boost, boost_from, boost_to) = rest;
                    SearchPlan {
                        vectors: vectors.concat(),
                        texts,
                        vector_weights,
                        text_weights,
                        dense_weights,
                        lexical_weights,
                        list_depth,
                        rescore: 0,
                        max_candidates,
                        now,
                        rrf_k: 60.0,
                        filter,
                        boost: boost as f64,
                        boost_from,
                        boost_to,
                        link_weight,
                        link_depth,
                        duplicate_similarity,
                        ..SearchPlan::new(VIEWS)
                    }
                },
            )
    })
}

#[derive(Debug, Clone)]
#[allow(clippy::large_enum_variant)] // a few per test
enum Step {
    Load(Vec<(u16, Spec)>),
    Apply(Vec<(u16, Spec)>, Vec<u16>),
    Evict,
    Reimport,
    Search(SearchPlan),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let rows = |count| proptest::collection::btree_map(0_u16..60, specs(), 0..count);
    let rows = move |count| rows(count).prop_map(|map| map.into_iter().collect::<Vec<_>>());
    let removed = vec(0_u16..60, 0..12);
    let step = prop_oneof![
        1 => rows(40).prop_map(Step::Load),
        6 => (rows(12), removed).prop_map(|(rows, removed)| Step::Apply(rows, removed)),
        1 => Just(Step::Evict),
        1 => Just(Step::Reimport),
        6 => plans().prop_map(Step::Search),
    ];
    vec(step, 1..14)
}

fn id(number: u16) -> Id {
    u128::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c834).to_be_bytes()
}

/// What the store would hold: rows with their commit order.
type Model = BTreeMap<u16, (u64, Spec)>;

fn to_rows(model: &[(u16, u64, &Spec)]) -> Rows {
    let mut rows = Rows::default();
    let mut ordered = model.to_vec();
    ordered.sort_by_key(|(_, order, _)| *order);
    for (number, order, spec) in ordered {
        rows.ids.push(id(number));
        rows.vectors.extend(spec.vectors.iter().flatten());
        rows.texts.extend(spec.texts.iter().cloned());
        rows.tiers.push(spec.tier);
        rows.kinds.push(spec.kind);
        rows.sessions.push(spec.session.to_owned());
        rows.agents.push(spec.agent.to_owned());
        rows.speakers.push(spec.agent.to_owned());
        rows.links.push(spec.links.iter().map(|&number| id(number)).collect());
        rows.occurred_at.push(spec.occurred_at);
        rows.valid_from.push(spec.valid.0);
        rows.valid_to.push(spec.valid.1);
        rows.expires_at.push(spec.expires_at);
        rows.token_counts.push(spec.tokens);
        rows.is_archived.push(spec.is_archived);
        rows.is_pinned.push(false);
        rows.in_ring.push(spec.in_ring);
        rows.metadata.push(spec.metadata.clone());
        rows.orders.push(order);
    }
    rows
}

fn matches(spec: &Spec, filter: &SearchFilter, now: i64) -> bool {
    let at = filter.as_of.unwrap_or(now);
    let names = |wanted: &[String], name: &str| wanted.is_empty() || wanted.iter().any(|w| w == name);
    !spec.is_archived
        && (filter.tiers.is_empty() || filter.tiers.contains(&spec.tier))
        && (filter.kinds.is_empty() || filter.kinds.contains(&spec.kind))
        && names(&filter.sessions, spec.session)
        && names(&filter.agents, spec.agent)
        && spec.occurred_at >= filter.occurred_from
        && spec.occurred_at < filter.occurred_to
        && spec.valid.0 <= at
        && at < spec.valid.1
        && now < spec.expires_at
        && filter.metadata.as_ref().is_none_or(|e| expression_holds(e, &spec.metadata))
}

fn expression_holds(expression: &Expression, metadata: &BTreeMap<String, Scalar>) -> bool {
    match expression {
        Expression::All(list) => list.iter().all(|e| expression_holds(e, metadata)),
        Expression::Any(list) => list.iter().any(|e| expression_holds(e, metadata)),
        Expression::Not(e) => !expression_holds(e, metadata),
        Expression::Condition { key, operator, values } => metadata.get(key).is_some_and(|held| {
            let equal = match (held, &values[0]) {
                (Scalar::Text(a), Scalar::Text(b)) => Some(a == b),
                (Scalar::Bool(a), Scalar::Bool(b)) => Some(a == b),
                (a, b) => as_number(a).zip(as_number(b)).map(|(a, b)| (a - b).abs() < 1e-9),
            };
            equal.is_some_and(|equal| equal != (*operator == Operator::Ne))
        }),
    }
}

fn as_number(value: &Scalar) -> Option<f64> {
    match value {
        Scalar::Int(x) => Some(*x as f64),
        Scalar::Float(x) => Some(*x),
        _ => None,
    }
}

fn terms(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    Analyser::new("english").unwrap().analyse(text, |term| found.push(term.to_owned()));
    found
}

fn lexical_scores(model: &Model, view: usize, query: &str) -> BTreeMap<u16, u64> {
    let texts: BTreeMap<u16, Vec<String>> =
        model.iter().map(|(number, (_, spec))| (*number, terms(&spec.texts[view]))).collect();
    let documents = texts.values().filter(|t| !t.is_empty()).count() as u64;
    let total: usize = texts.values().map(Vec::len).sum();
    let average = (total as f32 / documents.max(1) as f32).max(1.0);
    let mut counted: BTreeMap<String, u32> = BTreeMap::new();
    for term in terms(query) {
        *counted.entry(term).or_default() += 1;
    }
    let mut scores = BTreeMap::new();
    for (term, times) in &counted {
        let containing = texts.values().filter(|t| t.contains(term)).count() as u64;
        let weight = inverse_document_frequency(documents, containing) * *times as f32;
        for (number, text) in &texts {
            let frequency = text.iter().filter(|t| *t == term).count();
            if frequency > 0 {
                *scores.entry(*number).or_default() +=
                    u64::from(contribution(weight, frequency as u16, text.len() as u16, average));
            }
        }
    }
    scores
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
}

/// Rows with their scores, in no order.
type Scored = Vec<(u16, f64)>;

/// Numbers of the rows that a row is linked to, either way.
fn linked(model: &Model, number: u16) -> BTreeSet<u16> {
    let is_linked = |other: u16| model[&number].1.links.contains(&other) || model[&other].1.links.contains(&number);
    model.keys().copied().filter(|&other| other != number && is_linked(other)).collect()
}

fn repeats(a: &Spec, b: &Spec, threshold: f64) -> bool {
    let is_zero = |vector: &[f32]| vector.iter().all(|x| x.abs() < 1e-9);
    let mut views = a.vectors.iter().zip(&b.vectors).filter(|(a, b)| !(is_zero(a) && is_zero(b))).peekable();
    a.agent == b.agent
        && views.peek().is_some()
        && views.all(|(a, b)| !is_zero(a) && !is_zero(b) && dot(a, b) >= threshold - 1e-6)
}

/// A hit, with its score and ranks.
type ModelHit = (u16, f64, [u32; 4]);

/// Hits by score, then newest first; scores are sums of rounded shares, so that equal means equal.
fn sort(model: &Model, hits: &mut [ModelHit]) {
    hits.sort_by(|a, b| b.1.total_cmp(&a.1).then(model[&b.0].0.cmp(&model[&a.0].0)));
}

/// The search as its documentation says it, row by row: hits, what repeats which of them, and how many rows match.
fn expected(model: &Model, plan: &SearchPlan) -> (Vec<ModelHit>, Vec<(u16, usize)>, usize) {
    let fusion = Fusion::new(plan.rrf_k, 0);
    let queries: Vec<&[f32]> = plan.vectors.chunks(DIM).collect();
    let passing = |number: &u16| matches(&model[number].1, &plan.filter, plan.now);
    let is_zero = |vector: &[f32]| vector.iter().all(|x| x.abs() < 1e-9);
    let mut lists: Vec<(usize, f64, Scored)> = Vec::new();
    for (query, query_weight) in queries.iter().zip(&plan.vector_weights) {
        for view in 0..VIEWS {
            let found = model
                .iter()
                .filter(|(number, (_, spec))| passing(number) && !is_zero(query) && !is_zero(&spec.vectors[view]));
            let scored = found.map(|(number, (_, spec))| (*number, dot(query, &spec.vectors[view]))).collect();
            lists.push((view, query_weight * plan.dense_weights[view], scored));
        }
    }
    for (text, text_weight) in plan.texts.iter().zip(&plan.text_weights) {
        for view in 0..VIEWS {
            let scores = lexical_scores(model, view, text);
            let passed = scores.into_iter().filter(|(n, _)| passing(n)).map(|(n, s)| (n, s as f64)).collect();
            lists.push((VIEWS + view, text_weight * plan.lexical_weights[view], passed));
        }
    }
    let mut fused: BTreeMap<u16, (f64, [u32; 4])> = BTreeMap::new();
    for (source, weight, mut scored) in lists {
        if weight <= 0.0 {
            continue;
        }
        scored.sort_by(|a, b| b.1.total_cmp(&a.1).then(model[&b.0].0.cmp(&model[&a.0].0)));
        for (rank, (number, _)) in (1_u32..).zip(scored.into_iter().take(plan.list_depth)) {
            let entry = fused.entry(number).or_insert((0.0, [0; 4]));
            entry.0 += fusion.share(weight, rank);
            let best = &mut entry.1[source];
            *best = if *best == 0 { rank } else { rank.min(*best) };
        }
    }
    let boosted = |number: u16, score: f64| {
        let is_boosted = (plan.boost_from..plan.boost_to).contains(&model[&number].1.occurred_at);
        if is_boosted { score + fusion.share(plan.boost, 1) } else { score }
    };
    let mut hits: Vec<ModelHit> =
        fused.into_iter().map(|(number, (score, ranks))| (number, boosted(number, score), ranks)).collect();
    sort(model, &mut hits);
    if plan.link_weight > 0.0 {
        let mut shares: BTreeMap<u16, f64> = BTreeMap::new();
        for (giver, score, _) in hits.iter().take(plan.link_depth) {
            let receivers = linked(model, *giver);
            for receiver in &receivers {
                *shares.entry(*receiver).or_default() += score / receivers.len() as f64;
            }
        }
        for (number, share) in shares {
            if let Some(hit) = hits.iter_mut().find(|hit| hit.0 == number) {
                hit.1 += plan.link_weight * share;
            } else if passing(&number) {
                hits.push((number, boosted(number, 0.0) + plan.link_weight * share, [0; 4]));
            }
        }
        sort(model, &mut hits);
    }
    let (mut kept, mut duplicates): (Vec<ModelHit>, Vec<(u16, usize)>) = (Vec::new(), Vec::new());
    for hit in hits {
        let is_on = plan.duplicate_similarity > 0.0;
        let original = kept
            .iter()
            .position(|better| is_on && repeats(&model[&better.0].1, &model[&hit.0].1, plan.duplicate_similarity));
        match original {
            _ if kept.len() == plan.max_candidates => break,
            Some(original) => duplicates.push((hit.0, original)),
            None => kept.push(hit),
        }
    }
    (kept, duplicates, model.keys().filter(|number| passing(number)).count())
}

fn check(model: &Model, plan: &SearchPlan, found: &SearchResult) -> Result<(), TestCaseError> {
    let (hits, duplicates, matched) = expected(model, plan);
    let ids: Vec<Id> = hits.iter().map(|(number, _, _)| id(*number)).collect();
    prop_assert_eq!(&found.ids, &ids);
    let duplicates: Vec<(Id, u32)> = duplicates.iter().map(|&(number, hit)| (id(number), hit as u32)).collect();
    prop_assert_eq!(&found.duplicates, &duplicates);
    prop_assert_eq!(&found.ranks, &hits.iter().flat_map(|(_, _, ranks)| *ranks).collect::<Vec<u32>>());
    prop_assert_eq!((found.matched_count, found.scanned_count, found.is_complete), (matched, model.len(), true));
    for ((number, score, _), (actual, similarity)) in hits.iter().zip(found.scores.iter().zip(&found.similarities)) {
        prop_assert!((f64::from(*actual) - score).abs() < 1e-6);
        let spec = &model[number].1;
        let query = plan.vectors.get(..DIM).unwrap_or_default();
        let has_both = [query, &spec.vectors[0]].iter().all(|vector| vector.iter().any(|x| x.abs() > 0.0));
        if has_both {
            prop_assert!((f64::from(*similarity) - dot(query, &spec.vectors[0])).abs() < 1e-6);
        } else {
            prop_assert!(similarity.is_nan());
        }
    }
    Ok(())
}

fn expected_ring(model: &Model, session: &str) -> Vec<Id> {
    let mut turns: Vec<(u64, u16, u32)> = model
        .iter()
        .filter(|(_, (_, spec))| spec.in_ring && spec.session == session)
        .map(|(number, (order, spec))| (*order, *number, spec.tokens))
        .collect();
    turns.sort_unstable();
    while turns.len() > RING.turns
        || (turns.len() > 1 && turns.iter().map(|(_, _, tokens)| u64::from(*tokens)).sum::<u64>() > RING.tokens)
    {
        turns.remove(0);
    }
    turns.into_iter().map(|(_, number, _)| id(number)).collect()
}

/// Many rows, each with the vectors, texts and scalars of different specs, so that few specs make many rows. Values
/// change slowly with the row, as sessions and times do, so that blocks differ.
fn large(specs: &[Spec], count: u16, stride: usize) -> Model {
    let at = |row: usize| specs[row % specs.len()].clone();
    (0..count)
        .map(|number| {
            let row = usize::from(number);
            let (scalars, vectors, texts) = (at(row / 300), at(row * stride + 1), at(row * 7 + row / 11));
            let spec = Spec {
                vectors: vectors.vectors,
                texts: texts.texts,
                metadata: texts.metadata,
                links: texts.links.iter().map(|link| (link * 61 + number) % (count + 20)).collect(),
                tokens: vectors.tokens,
                is_archived: vectors.is_archived && row / 300 % 2 == 0,
                ..scalars
            };
            (number, (u64::from(number), spec))
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn large_partitions_equal_the_model(
        specs in vec(specs(), 8..40),
        count in 900_u16..4000,
        stride in 1_usize..50,
        plans in vec(plans(), 4),
        removed in vec(any::<u16>(), 0..200),
    ) {
        let engine = Engine::new(&EngineOptions { dim: DIM, views: VIEWS, ring: RING, ..EngineOptions::default() }).unwrap();
        let mut model = large(&specs, count, stride);
        let all: Vec<_> = model.iter().map(|(n, (order, spec))| (*n, *order, spec)).collect();
        engine.load("p", 1, &to_rows(&all)).unwrap();
        for plan in &plans {
            check(&model, plan, &engine.search("p", plan).unwrap().unwrap())?;
        }
        model.retain(|number, _| !removed.contains(number));
        let gone: Vec<Id> = removed.iter().map(|number| id(*number)).collect();
        prop_assert!(engine.apply("p", 1, 2, &Rows::default(), &gone).unwrap());
        for plan in &plans {
            check(&model, plan, &engine.search("p", plan).unwrap().unwrap())?;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn engine_equals_the_model(steps in steps(), rescore_vectors in any::<bool>()) {
        let options = EngineOptions { dim: DIM, views: VIEWS, ring: RING, rescore_vectors, ..EngineOptions::default() };
        let engine = Engine::new(&options).unwrap();
        let mut model: Option<Model> = None;
        let (mut version, mut next_order) = (0, 0);
        for step in steps {
            match step {
                Step::Load(rows) => {
                    let mut loaded = Model::new();
                    for (number, spec) in rows {
                        next_order += 1;
                        loaded.insert(number, (next_order, spec));
                    }
                    version += 1;
                    let all: Vec<_> = loaded.iter().map(|(n, (order, spec))| (*n, *order, spec)).collect();
                    engine.load("p", version, &to_rows(&all)).unwrap();
                    model = Some(loaded);
                }
                Step::Apply(rows, removed) => {
                    let removed: Vec<u16> = removed.into_iter().filter(|n| rows.iter().all(|(id, _)| id != n)).collect();
                    let mut after = model.clone().unwrap_or_default();
                    for number in &removed {
                        after.remove(number);
                    }
                    for (number, spec) in &rows {
                        // A changed row keeps its order.
                        let order = after.get(number).map(|(order, _)| *order);
                        next_order += 1;
                        after.insert(*number, (order.unwrap_or(next_order), spec.clone()));
                    }
                    let batch: Vec<_> = rows.iter().map(|(n, spec)| (*n, after[n].0, spec)).collect();
                    let removed: Vec<Id> = removed.into_iter().map(id).collect();
                    let is_applied = engine.apply("p", version, version + 1, &to_rows(&batch), &removed).unwrap();
                    prop_assert_eq!(is_applied, model.is_some());
                    if is_applied {
                        model = Some(after);
                        version += 1;
                    }
                }
                Step::Evict => prop_assert_eq!(engine.evict("p").unwrap(), model.take().is_some()),
                Step::Reimport => {
                    let bytes = engine.export("p").unwrap();
                    prop_assert_eq!(bytes.is_some(), model.is_some());
                    if let Some(mut bytes) = bytes {
                        prop_assert_eq!(engine.import("p", &bytes).unwrap(), version);
                        let middle = bytes.len() / 2;
                        bytes[middle] ^= 1;
                        prop_assert!(engine.import("p", &bytes).is_err());
                        prop_assert!(engine.import("p", &bytes[..middle]).is_err());
                    }
                }
                Step::Search(plan) => {
                    let found = engine.search("p", &plan).unwrap();
                    prop_assert_eq!(found.is_some(), model.is_some());
                    if let (Some(found), Some(model)) = (found, &model) {
                        check(model, &plan, &found)?;
                    }
                }
            }
            prop_assert_eq!(engine.version("p").unwrap(), model.as_ref().map(|_| version));
            for session in ["", "x", "y", "unknown"] {
                let ring = engine.session_ring("p", session).unwrap();
                prop_assert_eq!(ring, model.as_ref().map(|model| expected_ring(model, session)));
            }
            prop_assert_eq!(engine.stats().unwrap().rows, model.as_ref().map_or(0, Model::len));
        }
    }
}
