//! The lexical index against a plain table of texts, under random histories of adds, changes and removals: long lists and
//! short ones, terms that only some views have, and counts beyond what an entry holds.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::collections::{BTreeMap, BTreeSet};

use lightmem_core::lexical::analyser::Analyser;
use lightmem_core::lexical::list::{Posting, PostingList};
use lightmem_core::lexical::postings::{AnalysedRow, LexicalIndex, ViewStatistics};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

const VIEWS: usize = 3;
const WORDS: [&str; 12] =
    ["heron", "beagle", "rent", "guitar", "paris", "lasagna", "river", "balcony", "momo", "東京", "tent", "soup"];
const MOST: usize = u16::MAX as usize;

/// How often each view has each word.
type Counts = [BTreeMap<&'static str, usize>; VIEWS];

#[derive(Debug, Clone)]
enum Change {
    Push(Counts),
    Set(Index, Counts),
    Remove(Index),
}

fn counts() -> impl Strategy<Value = Counts> {
    // The first words are in most rows, the last in few.
    let word = prop_oneof![4 => 0..2_usize, 2 => 0..6_usize, 1 => 0..WORDS.len()].prop_map(|number| WORDS[number]);
    let count = prop_oneof![20 => 1_usize..3, 4 => 5_usize..9, 1 => 250_usize..260];
    let view = move || proptest::collection::btree_map(word.clone(), count.clone(), 0..6);
    [view(), view(), view()]
}

fn changes() -> impl Strategy<Value = Change> {
    prop_oneof![
        6 => counts().prop_map(Change::Push),
        2 => (any::<Index>(), counts()).prop_map(|(row, counts)| Change::Set(row, counts)),
        3 => any::<Index>().prop_map(Change::Remove),
    ]
}

fn analysed(counts: &Counts) -> AnalysedRow {
    let texts = counts.each_ref().map(|view| {
        let words = view.iter().flat_map(|(word, count)| std::iter::repeat_n(*word, *count));
        words.collect::<Vec<_>>().join(" ")
    });
    AnalysedRow::new(&Analyser::new("none").unwrap(), texts.iter().map(String::as_str))
}

fn apply(index: &mut LexicalIndex, model: &mut Vec<Counts>, change: Change) {
    match change {
        Change::Push(counts) => {
            index.push(&analysed(&counts));
            model.push(counts);
        }
        Change::Set(row, counts) if !model.is_empty() => {
            let row = row.index(model.len());
            index.set(row as u32, &analysed(&counts));
            model[row] = counts;
        }
        Change::Remove(row) if !model.is_empty() => {
            let row = row.index(model.len());
            index.swap_remove(row as u32);
            model.swap_remove(row);
        }
        Change::Set(..) | Change::Remove(_) => {}
    }
}

fn length(counts: &Counts, view: usize) -> usize {
    counts[view].values().sum::<usize>().min(MOST)
}

fn check(index: &LexicalIndex, model: &[Counts]) -> Result<(), TestCaseError> {
    for view in 0..VIEWS {
        let lengths: Vec<usize> = model.iter().map(|counts| length(counts, view)).collect();
        let expected = ViewStatistics {
            documents: lengths.iter().filter(|&&length| length > 0).count() as u64,
            total_length: lengths.iter().sum::<usize>() as u64,
        };
        prop_assert_eq!(index.statistics(view), expected);
        for (row, &length) in lengths.iter().enumerate() {
            prop_assert_eq!(index.length(row, view), length as u64);
        }
        for word in WORDS {
            let expected: Vec<Posting> = (0_u32..)
                .zip(model)
                .filter_map(|(row, counts)| {
                    let frequency = (*counts[view].get(word)?).min(MOST) as u16;
                    Some(Posting { row, frequency, length: length(counts, view) as u16 })
                })
                .collect();
            let list = index.list(word, view);
            let found: Vec<Posting> = list.iter().flat_map(PostingList::postings).collect();
            prop_assert_eq!(&found, &expected, "{} in view {}", word, view);
            let Some(list) = list else { continue };
            prop_assert_eq!(list.containing(), expected.len() as u64);
            let (max_frequency, min_length) = list.bounds();
            prop_assert!(expected.iter().all(|held| held.frequency <= max_frequency && held.length >= min_length));
        }
    }
    let held: BTreeSet<&str> = model.iter().flatten().flat_map(|view| view.keys().copied()).collect();
    let texts: Vec<&str> = index.term_texts();
    let listed: Vec<&str> = texts.iter().copied().filter(|text| !text.is_empty()).collect();
    prop_assert_eq!(listed.len(), held.len());
    prop_assert_eq!(listed.into_iter().collect::<BTreeSet<_>>(), held, "a word outlives its last row, or is lost");
    for (row, counts) in (0_u32..).zip(model) {
        for (terms, counts) in index.row_terms(row).iter().zip(counts) {
            prop_assert!(terms.is_sorted_by(|(a, _), (b, _)| a < b));
            let found: BTreeMap<&str, usize> =
                terms.iter().map(|&(number, count)| (texts[number as usize], usize::from(count))).collect();
            prop_assert_eq!(&found, counts);
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn the_index_is_the_table_turned_around(first in vec(counts(), 0..120), then in vec(changes(), 0..120)) {
        let mut index = LexicalIndex::new(VIEWS);
        let mut model = Vec::new();
        index.reserve_exact(first.len());
        for counts in first {
            apply(&mut index, &mut model, Change::Push(counts));
        }
        check(&index, &model)?;
        index.shrink_to_fit();
        for (step, change) in then.into_iter().enumerate() {
            apply(&mut index, &mut model, change);
            if step % 30 == 0 {
                check(&index, &model)?;
            }
        }
        check(&index, &model)?;
        index.shrink_to_fit();
        check(&index, &model)?;
        let full = index.size_bytes();
        while model.pop().is_some() {
            index.swap_remove(model.len() as u32 / 2);
        }
        check(&index, &model)?;
        prop_assert!(index.size_bytes() <= full);
    }
}

#[test]
fn counts_stop_at_65535() {
    let mut index = LexicalIndex::new(1);
    index.push(&AnalysedRow::new(&Analyser::new("none").unwrap(), ["heron"]));
    index.push_numbered(&[vec![(0, 70_000)]]);
    let list = index.list("heron", 0).unwrap();
    let found = list.postings().last().unwrap();
    assert_eq!(found, Posting { row: 1, frequency: u16::MAX, length: u16::MAX });
    assert_eq!(index.statistics(0), ViewStatistics { documents: 2, total_length: 65_536 });
    index.swap_remove(1);
    assert_eq!(index.statistics(0), ViewStatistics { documents: 1, total_length: 1 });
}
