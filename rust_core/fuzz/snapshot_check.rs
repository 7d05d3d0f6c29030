// What must hold of any payload of a snapshot; shared by the fuzz target and by tests/snapshot_corpus.rs.

use lightmem_core::engine::{Engine, EngineOptions};
use lightmem_core::rows::Rows;
use lightmem_core::search::SearchPlan;

/// Import a payload as it is, and with a header that vouches for it. What is accepted must work and survive another round.
pub fn check(payload: &[u8]) {
    let engine = Engine::new(&EngineOptions { dim: 2, views: 1, ..EngineOptions::default() }).unwrap();
    let _ = engine.import("raw", payload);
    let Ok(version) = engine.import("p", &sealed(payload)) else { return };
    let first = engine.export("p").unwrap().unwrap();
    assert_eq!(engine.import("q", &first), Ok(version));
    assert!(engine.export("q").unwrap().unwrap() == first, "another round changes the bytes");

    let texts = vec!["momo the beagle".to_owned()];
    let plan = SearchPlan { vectors: vec![0.6, 0.8], texts, session_weight: 1.0, ..SearchPlan::new(1) };
    let found = engine.search("p", &plan).unwrap().unwrap();
    assert!(found.is_complete && found.scanned_count == engine.stats().unwrap().rows / 2);
    if let Some(next) = version.checked_add(1) {
        assert!(engine.apply("p", version, next, &Rows::default(), &found.ids).unwrap());
        let rest = engine.search("p", &plan).unwrap().unwrap();
        assert!(found.ids.iter().all(|id| !rest.ids.contains(id)));
    }
}

/// The payload under a header with its length and checksum.
pub fn sealed(payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u64).to_le_bytes();
    [b"LMPS", &2_u32.to_le_bytes()[..], &crc32fast::hash(payload).to_le_bytes(), &length, payload].concat()
}
