//! What a memory takes: a count of bytes, the same on every machine. `make bench-memory` has the figures of real turns.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss
)]

use lightmem_core::engine::{Engine, EngineOptions};
use lightmem_core::partition::PartitionSizes;
use lightmem_core::rows::Rows;

const DIM: usize = 384;
const TURNS: u64 = 600;
/// What a typical turn may take without and with the rescoring planes: 1.6 and 3.2 KiB.
const LEAN_BYTES: usize = 1638;
const FULL_BYTES: usize = 3276;
/// What of it may go to the lexical lists and to the scalars, which grow by a quarter at a time.
const POSTINGS_BYTES: usize = 480;
const COLUMNS_BYTES: usize = 130;

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Words as people say them in a long conversation: some all the time, most once or twice. 600 turns of LoCoMo have
    /// about as many words, and as many different ones.
    fn text(&mut self) -> String {
        let words = 6 + self.next() % 14;
        let mut word = || {
            let uniform = (self.next() >> 11) as f64 / (1_u64 << 53) as f64;
            format!("word{} ", 3_000_f64.powf(uniform) as u64)
        };
        (0..words).map(|_| word()).collect()
    }
}

/// Turns in two views, the second with the two turns before.
fn turns(numbers: std::ops::Range<u64>) -> Rows {
    let mut random = Random(42);
    let texts: Vec<String> = (0..numbers.end).map(|number| format!("ann{} {}", number % 2, random.text())).collect();
    let mut rows = Rows::default();
    for number in numbers {
        let at = number as usize;
        let (turn, window) = (&texts[at], texts[at.saturating_sub(2)..=at].join(" "));
        let id = u128::from(number).to_be_bytes();
        rows.push_turn(id, &[0.1; 2 * DIM], &[turn, &window], &format!("s{}", number / 20), number);
        rows.speakers.push(format!("ann{}", number % 2));
        rows.session_texts.push(format!("{turn} {} May 2023", number / 20 % 30));
    }
    rows
}

fn engine(rescore_vectors: bool) -> Engine {
    Engine::new(&EngineOptions { dim: DIM, views: 2, rescore_vectors, ..EngineOptions::default() }).unwrap()
}

fn assert_within(engine: &Engine, most: usize) {
    let sizes: PartitionSizes = engine.sizes("p").unwrap().unwrap();
    let turns = TURNS as usize;
    assert!(sizes.total() <= most * turns, "{} bytes a turn: {sizes:?}", sizes.total() / turns);
    assert!(sizes.postings <= POSTINGS_BYTES * turns, "{} bytes of postings a turn", sizes.postings / turns);
    assert!(sizes.columns <= COLUMNS_BYTES * turns, "{} bytes of columns a turn", sizes.columns / turns);
}

#[test]
fn a_loaded_turn_takes_what_it_may() {
    for (rescore_vectors, most) in [(false, LEAN_BYTES), (true, FULL_BYTES)] {
        let engine = engine(rescore_vectors);
        engine.load("p", 1, &turns(0..TURNS)).unwrap();
        assert_within(&engine, most);
        let snapshot = engine.export("p").unwrap().unwrap();
        engine.import("p", &snapshot).unwrap();
        assert_within(&engine, most);
    }
}

#[test]
fn a_turn_written_alone_takes_what_it_may() {
    let engine = engine(false);
    engine.load("p", 0, &Rows::default()).unwrap();
    for number in 0..TURNS {
        assert!(engine.apply("p", number, number + 1, &turns(number..number + 1), &[]).unwrap());
    }
    assert_within(&engine, LEAN_BYTES);
}

#[test]
fn removed_turns_give_their_lists_back() {
    let engine = engine(false);
    engine.load("p", 1, &turns(0..TURNS)).unwrap();
    let full = engine.sizes("p").unwrap().unwrap().postings;
    let ids: Vec<_> = (0..TURNS).map(|number| u128::from(number).to_be_bytes()).collect();
    assert!(engine.apply("p", 1, 2, &Rows::default(), &ids).unwrap());
    let left = engine.sizes("p").unwrap().unwrap().postings;
    assert!(left < full / 3, "{left} of {full} bytes stay");
}
