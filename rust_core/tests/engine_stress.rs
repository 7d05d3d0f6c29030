//! The engine under threads that search, change, evict, load, export and import a few partitions in far too little memory.
//!
//! At version v a partition holds the rows (key, v, 0..ROWS) and nothing else, so each result tells which version it saw.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use lightmem_core::engine::{Engine, EngineOptions};
use lightmem_core::rows::{Id, Rows};
use lightmem_core::search::SearchPlan;

const KEYS: u8 = 3;
const ROWS: u8 = 6;
const THREADS: u64 = 6;
const STEPS: u64 = if cfg!(miri) { 12 } else { 3_000 };

fn id(key: u8, version: u64, row: u8) -> Id {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&version.to_be_bytes());
    (id[8], id[9]) = (key, row);
    id
}

fn ids(key: u8, version: u64) -> Vec<Id> {
    (0..ROWS).map(|row| id(key, version, row)).collect()
}

fn rows(key: u8, version: u64) -> Rows {
    let mut rows = Rows::default();
    for row in 0..ROWS {
        let order = version * u64::from(ROWS) + u64::from(row);
        rows.push_turn(id(key, version, row), &[1.0, f32::from(row)], &["a heron and a beagle"], "s", order);
    }
    rows
}

/// What the server does around the engine: one lock per partition orders its changes, and the store's version is the truth.
struct Server {
    engine: Engine,
    stored: Vec<Mutex<u64>>,
    /// Versions whose change has returned: no search that begins later may see an older one.
    acked: Vec<AtomicU64>,
}

impl Server {
    fn name(key: u8) -> String {
        format!("p{key}")
    }

    fn write(&self, key: u8) {
        let mut stored = self.stored[usize::from(key)].lock().unwrap();
        let (before, after) = (*stored, *stored + 1);
        *stored = after;
        let is_applied =
            self.engine.apply(&Self::name(key), before, after, &rows(key, after), &ids(key, before)).unwrap();
        if !is_applied {
            self.engine.load(&Self::name(key), after, &rows(key, after)).unwrap();
        }
        self.acked[usize::from(key)].store(after, Ordering::SeqCst);
    }

    fn refresh(&self, key: u8) {
        let stored = self.stored[usize::from(key)].lock().unwrap();
        if self.engine.version(&Self::name(key)).unwrap().is_none_or(|version| version != *stored) {
            self.engine.load(&Self::name(key), *stored, &rows(key, *stored)).unwrap();
        }
    }

    fn search(&self, key: u8) {
        let acked = self.acked[usize::from(key)].load(Ordering::SeqCst);
        let plan = SearchPlan {
            vectors: vec![0.6, 0.8],
            texts: vec!["beagles".to_owned()],
            max_candidates: 100,
            ..SearchPlan::new(1)
        };
        let Some(found) = self.engine.search(&Self::name(key), &plan).unwrap() else {
            self.refresh(key);
            return;
        };
        let mut seen = found.ids;
        seen.sort_unstable();
        let version = u64::from_be_bytes(seen[0][..8].try_into().unwrap());
        assert_eq!(seen, ids(key, version), "rows of two versions or partitions");
        assert!(version >= acked, "saw version {version} after {acked} was acknowledged");
        assert_eq!((found.matched_count, found.is_complete), (usize::from(ROWS), true));
    }

    fn ring(&self, key: u8) {
        if let Some(ring) = self.engine.session_ring(&Self::name(key), "s").unwrap() {
            let version = u64::from_be_bytes(ring[0][..8].try_into().unwrap());
            assert_eq!(ring, ids(key, version));
        }
    }

    /// Out and in again, as for a cold partition.
    fn reimport(&self, key: u8) {
        let Some(bytes) = self.engine.export(&Self::name(key)).unwrap() else { return };
        let stored = self.stored[usize::from(key)].lock().unwrap();
        let version = self.engine.import("scratch", &bytes).unwrap();
        assert!(version <= *stored);
        if version == *stored {
            assert_eq!(self.engine.import(&Self::name(key), &bytes), Ok(version));
        }
    }
}

#[test]
fn searches_see_one_whole_version_and_never_an_older_one() {
    let one = Engine::new(&EngineOptions { dim: 2, views: 1, ..EngineOptions::default() }).unwrap();
    one.load("p0", 1, &rows(0, 1)).unwrap();
    let partition_bytes = one.stats().unwrap().size_bytes;
    let budget_bytes = partition_bytes * 3 / 2;
    let server = Server {
        engine: Engine::new(&EngineOptions { dim: 2, views: 1, budget_bytes, ..EngineOptions::default() }).unwrap(),
        stored: (0..KEYS).map(|_| Mutex::new(1)).collect(),
        acked: (0..KEYS).map(|_| AtomicU64::new(0)).collect(),
    };
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let server = &server;
            scope.spawn(move || {
                let mut random = thread.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
                for _ in 0..STEPS {
                    random ^= random << 13;
                    random ^= random >> 7;
                    random ^= random << 17;
                    let key = u8::try_from(random % u64::from(KEYS)).unwrap();
                    match (random >> 20) % 16 {
                        0..=6 => server.search(key),
                        7..=9 => server.write(key),
                        10 | 11 => server.refresh(key),
                        12 => server.ring(key),
                        13 => server.reimport(key),
                        14 => drop(server.engine.evict(&Server::name(key)).unwrap()),
                        _ => {
                            // A partition in use stays, and a new one is admitted before another goes: one each at most.
                            let most = budget_bytes + 2 * usize::try_from(THREADS).unwrap() * partition_bytes;
                            assert!(server.engine.stats().unwrap().size_bytes <= most);
                        }
                    }
                }
            });
        }
    });
    for key in 0..KEYS {
        server.refresh(key);
        server.search(key);
        let stored = *server.stored[usize::from(key)].lock().unwrap();
        assert_eq!(server.engine.version(&Server::name(key)), Ok(Some(stored)));
    }
    let stats = server.engine.stats().unwrap();
    assert!(stats.size_bytes <= budget_bytes.max(2 * partition_bytes) && stats.partitions >= 1);
    assert!(stats.evictions > 0 || cfg!(miri));
    for key in 0..KEYS {
        server.engine.evict(&Server::name(key)).unwrap();
    }
    server.engine.evict("scratch").unwrap();
    let stats = server.engine.stats().unwrap();
    assert_eq!((stats.partitions, stats.rows, stats.size_bytes), (0, 0, 0));
}
