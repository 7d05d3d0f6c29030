//! Replays what fuzzing has found worth keeping (`make fuzz` adds to it), and small changes of it.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

#[path = "../fuzz/snapshot_check.rs"]
mod snapshot_check;

use std::path::{Path, PathBuf};

use lightmem_core::engine::{Engine, EngineOptions};
use lightmem_core::metadata::Scalar;
use lightmem_core::rows::Rows;
use proptest::prelude::*;
use proptest::sample::Index;

const HEADER_BYTES: usize = 20;

fn corpus() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/snapshot");
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// The payload of a partition with something in every column.
fn payload() -> Vec<u8> {
    let engine = Engine::new(&EngineOptions { dim: 2, views: 1, ..EngineOptions::default() }).unwrap();
    let mut rows = Rows::default();
    rows.push_turn([1; 16], &[1.0, 0.0], &["We adopted a beagle called Momo"], "s1", 1);
    rows.push_turn([2; 16], &[0.0, 1.0], &["The rent is due, the rent is high"], "s1", 2);
    rows.push_turn([3; 16], &[0.0, 0.0], &[""], "", 3);
    rows.is_pinned = vec![false, true, false];
    rows.is_archived = vec![false, false, true];
    rows.speakers = ["Ana", "", "Bo"].map(str::to_owned).to_vec();
    rows.priors = vec![0.5, -2.0, 0.0];
    rows.session_texts = ["beagle", "rent", ""].map(str::to_owned).to_vec();
    let values = [Scalar::Int(-7), Scalar::Float(0.5), Scalar::Bool(true), Scalar::Text("ü".into())];
    rows.metadata = vec![
        ["i", "f", "b", "t"].map(str::to_owned).into_iter().zip(values).collect(),
        std::collections::BTreeMap::default(),
        std::collections::BTreeMap::default(),
    ];
    engine.load("p", 9, &rows).unwrap();
    engine.export("p").unwrap().unwrap().split_off(HEADER_BYTES)
}

#[test]
fn the_corpus_is_read_without_a_fault() {
    let files = corpus();
    assert!(!files.is_empty());
    for file in files {
        snapshot_check::check(&std::fs::read(file).unwrap());
    }
}

#[test]
fn a_whole_snapshot_is_accepted_and_any_shorter_one_refused() {
    let payload = payload();
    snapshot_check::check(&payload);
    let engine = Engine::new(&EngineOptions { dim: 2, views: 1, ..EngineOptions::default() }).unwrap();
    assert_eq!(engine.import("p", &snapshot_check::sealed(&payload)), Ok(9));
    for length in 0..payload.len() {
        assert!(engine.import("p", &snapshot_check::sealed(&payload[..length])).is_err());
    }
}

/// Writes the seed that fuzzing starts from.
#[test]
#[ignore = "writes to the corpus; run by make fuzz"]
fn write_the_seed() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/snapshot");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("seed"), payload()).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn a_damaged_payload_under_a_good_header_does_no_harm(
        damage in prop::collection::vec((any::<Index>(), prop_oneof![Just(0), Just(255), any::<u8>()]), 1..8),
    ) {
        let mut payload = payload();
        for (at, byte) in damage {
            let at = at.index(payload.len());
            payload[at] = byte;
        }
        snapshot_check::check(&payload);
    }
}
