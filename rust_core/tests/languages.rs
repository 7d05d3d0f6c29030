//! Languages of partitions: each analyses its texts, queries and changes in its own, and a snapshot keeps to it.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use lightmem_core::engine::{Engine, EngineOptions};
use lightmem_core::error::CoreError;
use lightmem_core::rows::{Id, Rows};
use lightmem_core::search::SearchPlan;

fn engine() -> Engine {
    Engine::new(&EngineOptions { dim: 1, views: 1, ..EngineOptions::default() }).unwrap()
}

fn turn(number: u8, text: &str) -> Rows {
    let mut rows = Rows::default();
    rows.push_turn([number; 16], &[1.0], &[text], "s", u64::from(number));
    rows
}

fn found(engine: &Engine, key: &str, text: &str) -> Vec<Id> {
    let plan = SearchPlan { texts: vec![text.to_owned()], ..SearchPlan::new(1) };
    engine.search(key, &plan).unwrap().unwrap().ids
}

#[test]
fn each_partition_stems_in_its_own_language() {
    let engine = engine();
    engine.load_in("de", 1, &turn(1, "Die Häuser am See"), Some("german")).unwrap();
    engine.load("en", 1, &turn(1, "Die Häuser am See")).unwrap();
    assert!(engine.apply("de", 1, 2, &turn(2, "viele Katzen"), &[]).unwrap());
    assert_eq!(found(&engine, "de", "Haus"), [[1; 16]]);
    assert_eq!(found(&engine, "en", "Haus"), Vec::<Id>::new());
    assert_eq!(found(&engine, "de", "Katze"), [[2; 16]]);
    engine.load_in("none", 1, &turn(1, "the running water"), Some("none")).unwrap();
    assert_eq!(found(&engine, "none", "the"), [[1; 16]]);
    assert_eq!(found(&engine, "none", "run"), Vec::<Id>::new());
}

#[test]
fn a_snapshot_in_another_language_is_refused() {
    let engine = engine();
    engine.load_in("de", 1, &turn(1, "Häuser"), Some("german")).unwrap();
    let bytes = engine.export("de").unwrap().unwrap();
    assert_eq!(engine.import("copy", &bytes), Err(CoreError::InvalidSnapshot("in another language")));
    assert_eq!(engine.version("copy").unwrap(), None);
    // Another name of the same language.
    assert_eq!(engine.import_in("copy", &bytes, Some("de")).unwrap(), 1);
    assert_eq!(found(&engine, "copy", "Haus"), [[1; 16]]);
}

#[test]
fn a_snapshot_with_other_planes_is_refused() {
    let engine = engine();
    engine.load("p", 1, &turn(1, "x")).unwrap();
    let bytes = engine.export("p").unwrap().unwrap();
    let options = EngineOptions { dim: 1, views: 1, rescore_vectors: false, ..EngineOptions::default() };
    let lean = Engine::new(&options).unwrap();
    assert_eq!(lean.import("p", &bytes), Err(CoreError::InvalidSnapshot("other planes of vectors")));
}

#[test]
fn an_unknown_language_is_refused() {
    let unknown = CoreError::UnknownLanguage("klingon".to_owned());
    assert_eq!(engine().load_in("p", 1, &turn(1, "x"), Some("klingon")), Err(unknown));
}
