//! Graphs of large partitions, with a threshold so low that small ones have them: what a search returns is live, passes
//! the filter and has its present vector's cosine, whatever was added, changed, removed or built before; and most of what an
//! exact search would return is there.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::cast_precision_loss, clippy::cast_possible_truncation)]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use lightmem_core::engine::{Engine, EngineOptions};
use lightmem_core::filter::SearchFilter;
use lightmem_core::rows::{Id, Rows};
use lightmem_core::search::{FusionMethod, SearchPlan, SearchResult};
use proptest::collection::vec;
use proptest::prelude::*;

const DIM: usize = 24;
const VIEWS: usize = 2;
const ANN_ROWS: usize = 64;
const DEPTH: usize = 10;
const SESSIONS: u64 = 4;

/// A row's version and session: together with its number they make its vectors.
type Model = BTreeMap<u64, (u64, u64)>;

struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        let mut random = Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        for _ in 0..4 {
            random.next();
        }
        random
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn float(&mut self) -> f32 {
        (self.next() >> 40) as f32 / 8_388_608.0 - 1.0
    }
}

/// One of 20 topics with noise, of unit length; a few rows have none in the second view.
fn vector(number: u64, version: u64, view: usize) -> Vec<f32> {
    if view == 1 && number % 17 == 3 {
        return vec![0.0; DIM];
    }
    let mut topic = Random::new(number % 20 + 1000);
    let mut noise = Random::new(number * 7 + version * 100_003 + view as u64);
    let vector: Vec<f32> = (0..DIM).map(|_| topic.float() + 0.8 * noise.float()).collect();
    let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
    vector.iter().map(|x| x / length).collect()
}

fn id(number: u64) -> Id {
    u128::from(number).to_be_bytes()
}

fn push(rows: &mut Rows, number: u64, version: u64, session: u64) {
    let vectors: Vec<f32> = (0..VIEWS).flat_map(|view| vector(number, version, view)).collect();
    rows.push_turn(id(number), &vectors, &["a b", "a b"], &format!("s{session}"), number);
}

fn engine(ann_rows: usize) -> Engine {
    Engine::new(&EngineOptions { dim: DIM, views: VIEWS, ann_rows, ..EngineOptions::default() }).unwrap()
}

fn build(engine: &Engine) {
    while engine.build_ann("p", 100).unwrap() {}
}

fn plan(query: &[f32], view: usize, session: Option<u64>) -> SearchPlan {
    let mut dense_weights = vec![0.0; VIEWS];
    dense_weights[view] = 1.0;
    SearchPlan {
        vectors: query.to_vec(),
        dense_weights,
        list_depth: DEPTH,
        max_candidates: DEPTH,
        filter: SearchFilter {
            sessions: session.map(|number| format!("s{number}")).into_iter().collect(),
            ..SearchFilter::default()
        },
        ..SearchPlan::new(VIEWS)
    }
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Check what must always hold, and give the share of the true best that was found.
fn check(
    model: &Model,
    query: &[f32],
    view: usize,
    session: Option<u64>,
    found: &SearchResult,
) -> Result<f64, TestCaseError> {
    let allowed = model.iter().filter(|(_, (_, of))| session.is_none_or(|wanted| wanted == *of));
    let mut best: Vec<(f32, u64)> = allowed
        .clone()
        .map(|(&number, &(version, _))| (vector(number, version, view), number))
        .filter(|(vector, _)| vector.iter().any(|x| x.abs() > 0.0))
        .map(|(vector, number)| (dot(query, &vector), number))
        .collect();
    best.sort_by(|a, b| b.0.total_cmp(&a.0));
    best.truncate(DEPTH);
    prop_assert_eq!(found.matched_count, allowed.count());
    prop_assert_eq!(found.ids.len(), best.len());
    let mut seen = std::collections::HashSet::new();
    for (found_id, similarity) in found.ids.iter().zip(&found.similarities) {
        let number = u128::from_be_bytes(*found_id) as u64;
        let row = model.get(&number);
        prop_assert!(
            row.is_some_and(|(_, of)| session.is_none_or(|wanted| wanted == *of)),
            "{number} must not be found"
        );
        prop_assert!(seen.insert(number), "{number} is found twice");
        let expected = dot(query, &vector(number, row.unwrap().0, 0));
        prop_assert!((similarity - expected).abs() < 1e-4, "{number}: {similarity} for {expected}");
    }
    let hits = best.iter().filter(|(_, number)| seen.contains(number)).count();
    if found.is_exact {
        // Vectors are held in 16 bits: two rows nearer to each other than that may change places at the list's end.
        let found = seen.iter().filter_map(|number| Some(dot(query, &vector(*number, model.get(number)?.0, view))));
        let worst = found.fold(f32::INFINITY, f32::min);
        for (score, number) in &best {
            prop_assert!(seen.contains(number) || score - worst < 1e-4, "a scan missed {number}: {score} over {worst}");
        }
    }
    Ok(if best.is_empty() { 1.0 } else { hits as f64 / best.len() as f64 })
}

#[derive(Debug, Clone)]
enum Step {
    Put(Vec<(u64, u64)>),
    Remove(Vec<u64>),
    /// Steps of a builder, and rows of each.
    Build(usize, usize),
    Reload,
    Search(u64, usize, Option<u64>),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let put = |numbers| vec((numbers, 0..SESSIONS), 1..120).prop_map(Step::Put);
    let step = prop_oneof![
        3 => put(0_u64..600),
        2 => vec(0_u64..600, 1..150).prop_map(Step::Remove),
        4 => (1_usize..6, 1_usize..200).prop_map(|(steps, rows)| Step::Build(steps, rows)),
        1 => Just(Step::Build(1000, 100)),
        1 => Just(Step::Reload),
        8 => (any::<u64>(), 0..VIEWS, proptest::option::weighted(0.3, 0..SESSIONS))
            .prop_map(|(seed, view, session)| Step::Search(seed, view, session)),
    ];
    (vec((0_u64..600, 0..SESSIONS), 200..500).prop_map(Step::Put), vec(step, 5..40)).prop_map(|(first, mut steps)| {
        steps.insert(0, first);
        steps
    })
}

/// Run a history; the recall of each search that a graph answered.
fn run(steps: &[Step]) -> Result<Vec<f64>, TestCaseError> {
    let engine = engine(ANN_ROWS);
    engine.load("p", 1, &Rows::default()).unwrap();
    let (mut model, mut version, mut recalls) = (Model::new(), 1, Vec::new());
    for step in steps {
        match step {
            Step::Put(batch) => {
                let batch: BTreeMap<u64, u64> = batch.iter().copied().collect();
                let mut rows = Rows::default();
                for (&number, &session) in &batch {
                    // Every third change leaves the vectors as they are.
                    let is_same = (number + version) % 3 == 0;
                    let held = model.get(&number).map(|(version, _)| *version).filter(|_| is_same);
                    let row_version = held.unwrap_or(version);
                    model.insert(number, (row_version, session));
                    push(&mut rows, number, row_version, session);
                }
                prop_assert!(engine.apply("p", version, version + 1, &rows, &[]).unwrap());
                version += 1;
            }
            Step::Remove(numbers) => {
                model.retain(|number, _| !numbers.contains(number));
                let gone: Vec<Id> = numbers.iter().copied().map(id).collect();
                prop_assert!(engine.apply("p", version, version + 1, &Rows::default(), &gone).unwrap());
                version += 1;
            }
            Step::Build(steps, rows) => {
                let is_more = (0..*steps).all(|_| engine.build_ann("p", *rows).unwrap());
                prop_assert!(is_more || !engine.ann_due("p").unwrap());
            }
            Step::Reload => {
                let mut rows = Rows::default();
                for (&number, &(version, session)) in &model {
                    push(&mut rows, number, version, session);
                }
                engine.load("p", version, &rows).unwrap();
            }
            Step::Search(seed, view, session) => {
                let query = vector(seed % 10_000, 1 + seed % 1000, 0);
                let found = engine.search("p", &plan(&query, *view, *session)).unwrap().unwrap();
                let recall = check(&model, &query, *view, *session, &found)?;
                recalls.extend((!found.is_exact).then_some(recall));
            }
        }
    }
    Ok(recalls)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn what_a_graph_finds_is_live_and_allowed_and_nearly_complete(steps in steps()) {
        let recalls = run(&steps)?;
        if recalls.len() >= 5 {
            prop_assert!(recalls.iter().sum::<f64>() / recalls.len() as f64 >= 0.95, "{recalls:?}");
        }
        prop_assert_eq!(run(&steps)?, recalls, "the same history gives the same answers");
    }
}

fn filled(ann_rows: usize, count: u64) -> (Engine, Model) {
    let engine = engine(ann_rows);
    let mut rows = Rows::default();
    let model: Model = (0..count).map(|number| (number, (1, number % SESSIONS))).collect();
    for (&number, &(version, session)) in &model {
        push(&mut rows, number, version, session);
    }
    engine.load("p", 1, &rows).unwrap();
    (engine, model)
}

fn is_exact(engine: &Engine, plan: &SearchPlan) -> bool {
    engine.search("p", plan).unwrap().unwrap().is_exact
}

#[test]
fn a_partition_is_searched_exactly_until_its_graphs_are_ready() {
    let (engine, model) = filled(1000, 2000);
    let query = vector(77, 2, 0);
    let plan = plan(&query, 0, None);
    let before = engine.stats().unwrap().size_bytes;
    assert!(engine.ann_due("p").unwrap());
    while engine.build_ann("p", 300).unwrap() {
        if engine.ann_due("p").unwrap() {
            assert!(is_exact(&engine, &plan));
        }
    }
    assert!(!engine.ann_due("p").unwrap());
    let found = engine.search("p", &plan).unwrap().unwrap();
    assert!(!found.is_exact && found.is_complete && found.scanned_count == 2000);
    assert!(check(&model, &query, 0, None, &found).unwrap() >= 0.9);
    // What the graphs take is counted: at least the vectors that they copied.
    assert!(engine.stats().unwrap().size_bytes > before + 2000 * VIEWS * 64);
}

#[test]
fn small_partitions_and_those_of_an_engine_without_graphs_stay_exact() {
    for (ann_rows, count) in [(0, 500), (501, 500)] {
        let (engine, _) = filled(ann_rows, count);
        assert!(!engine.ann_due("p").unwrap());
        assert!(!engine.build_ann("p", 1000).unwrap());
        assert!(is_exact(&engine, &plan(&vector(1, 1, 0), 0, None)));
    }
    assert!(!engine(1).build_ann("unknown", 1).unwrap());
}

#[test]
fn a_narrow_filter_is_scanned() {
    let (engine, _) = filled(1500, 2000);
    build(&engine);
    assert!(!is_exact(&engine, &plan(&vector(5, 2, 0), 0, None)));
    assert!(is_exact(&engine, &plan(&vector(5, 2, 0), 0, Some(1))));
}

#[test]
fn graphs_that_would_not_fit_the_budget_are_not_built() {
    let rows = {
        let mut rows = Rows::default();
        (0..500).for_each(|number| push(&mut rows, number, 1, 0));
        rows
    };
    let sizing = filled(0, 500).0.stats().unwrap().size_bytes;
    let options = EngineOptions {
        dim: DIM,
        views: VIEWS,
        ann_rows: 100,
        budget_bytes: sizing + 1000,
        ..EngineOptions::default()
    };
    let engine = Engine::new(&options).unwrap();
    engine.load("p", 1, &rows).unwrap();
    assert!(!engine.ann_due("p").unwrap() && !engine.build_ann("p", 1000).unwrap());
}

#[test]
fn a_few_changes_are_scanned_and_many_make_a_build_due() {
    let (engine, mut model) = filled(1000, 2000);
    build(&engine);
    let change = |model: &mut Model, numbers: std::ops::Range<u64>, version: u64| {
        let mut rows = Rows::default();
        for number in numbers {
            push(&mut rows, number, version, 0);
            model.insert(number, (version, 0));
        }
        assert!(engine.apply("p", version - 1, version, &rows, &[]).unwrap());
    };
    change(&mut model, 1950..2100, 2);
    assert!(!engine.ann_due("p").unwrap());
    let query = vector(2099, 2, 0);
    let found = engine.search("p", &plan(&query, 0, None)).unwrap().unwrap();
    assert!(!found.is_exact);
    assert_eq!(found.ids[0], id(2099), "a row that no graph holds");
    change(&mut model, 2100..2400, 3);
    assert!(engine.ann_due("p").unwrap());
    build(&engine);
    assert!(!engine.ann_due("p").unwrap());
    // More than a quarter of the nodes are dead: a new graph is due, and the old one serves until then.
    change(&mut model, 0..900, 4);
    assert!(engine.ann_due("p").unwrap());
    assert!(!is_exact(&engine, &plan(&query, 0, None)));
    build(&engine);
    // Most of them are: the graph is dropped.
    change(&mut model, 0..1500, 5);
    assert!(is_exact(&engine, &plan(&query, 0, None)));
}

#[test]
fn the_mean_of_score_fusion_is_close_to_that_of_all_rows() {
    let (graph, _) = filled(1000, 5000);
    let (scan, _) = filled(0, 5000);
    build(&graph);
    for number in 0..20 {
        let plan = SearchPlan {
            dense_weights: vec![1.0; VIEWS],
            fusion: FusionMethod::Score,
            ..plan(&vector(number, 9, 0), 0, None)
        };
        let (a, b) = (graph.search("p", &plan).unwrap().unwrap(), scan.search("p", &plan).unwrap().unwrap());
        assert!(!a.is_exact && b.is_exact);
        for (id, score) in a.ids.iter().zip(&a.scores) {
            if let Some(at) = b.ids.iter().position(|other| other == id) {
                assert!((score - b.scores[at]).abs() < 0.05, "{score} for {}", b.scores[at]);
            }
        }
    }
}

#[test]
fn builds_race_with_writes_searches_and_loads() {
    let (engine, model) = filled(500, 1000);
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !is_done.load(Ordering::Relaxed) {
                    engine.build_ann("p", 40).unwrap();
                }
            });
        }
        scope.spawn(|| {
            for number in (0..).take_while(|_| !is_done.load(Ordering::Relaxed)) {
                let found =
                    engine.search("p", &plan(&vector(number % 1000, 3, 0), 0, Some(number % SESSIONS))).unwrap();
                let held = found.into_iter().flat_map(|found| found.ids);
                held.for_each(|id| assert_eq!(u128::from_be_bytes(id) as u64 % SESSIONS, number % SESSIONS));
            }
        });
        for round in 0..60 {
            let mut rows = Rows::default();
            (0..50).for_each(|i| push(&mut rows, round * 7 + i, round + 2, (round * 7 + i) % SESSIONS));
            let gone: Vec<Id> = (0..20).map(|i| id(900 + (round + i) % 100)).collect();
            assert!(engine.apply("p", round + 1, round + 2, &rows, &gone).unwrap());
            if round == 30 {
                let mut rows = Rows::default();
                for &number in model.keys() {
                    push(&mut rows, number, 1, number % SESSIONS);
                }
                engine.load("p", round + 2, &rows).unwrap();
            }
        }
        is_done.store(true, Ordering::Relaxed);
    });
    build(&engine);
    let rows = engine.stats().unwrap().rows;
    let query = vector(3, 61, 0);
    let found = engine.search("p", &plan(&query, 0, None)).unwrap().unwrap();
    assert_eq!((found.matched_count, found.ids.len()), (rows, DEPTH));
}
