//! Which memories rest on which: a fact on the turns that it was drawn from, a summary on its episode.
//!
//! Kept by id in both directions, not by row: rows move when others are removed, and a link may name a memory that isn't
//! there, not yet or no longer. Only rows that are linked cost anything, so that turns, nearly all rows, cost nothing
//! until a fact rests on them.

use hashbrown::HashMap;

use crate::rows::Id;

/// The links of a partition.
#[derive(Debug, Default)]
pub(crate) struct Links {
    /// From a row that is held to those it rests on.
    outgoing: HashMap<Id, Box<[Id]>>,
    /// From any id to the rows held that rest on it.
    incoming: HashMap<Id, Box<[Id]>>,
    /// Ids in both.
    ids: usize,
}

impl Links {
    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.outgoing.is_empty()
    }

    /// Replace what a row rests on; empty for a row that goes. Its own id and repetitions don't count.
    pub(crate) fn set(&mut self, id: Id, targets: &[Id]) {
        for target in self.outgoing.remove(&id).unwrap_or_default() {
            self.ids -= 2;
            let left = self.incoming.remove(&target).unwrap_or_default();
            let left: Box<[Id]> = left.into_iter().filter(|source| *source != id).collect();
            if !left.is_empty() {
                self.incoming.insert(target, left);
            }
        }
        let mut kept: Vec<Id> = targets.iter().copied().filter(|target| *target != id).collect();
        kept.sort_unstable();
        kept.dedup();
        for target in &kept {
            self.ids += 2;
            let sources = self.incoming.remove(target).unwrap_or_default();
            self.incoming.insert(*target, [&sources, [id].as_slice()].concat().into());
        }
        if !kept.is_empty() {
            self.outgoing.insert(id, kept.into());
        }
    }

    /// What a row rests on.
    pub(crate) fn targets(&self, id: &Id) -> &[Id] {
        self.outgoing.get(id).map(|targets| &**targets).unwrap_or_default()
    }

    /// What a row rests on, then what rests on it; two that rest on each other are there twice.
    pub(crate) fn neighbours(&self, id: &Id) -> impl Iterator<Item = &Id> {
        let sources = self.incoming.get(id).map(|sources| &**sources).unwrap_or_default();
        self.targets(id).iter().chain(sources)
    }

    /// Bytes of heap.
    pub(crate) fn size_bytes(&self) -> usize {
        self.outgoing.allocation_size() + self.incoming.allocation_size() + self.ids * size_of::<Id>()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn both_directions_agree_with_a_list_of_pairs(
            changes in prop::collection::vec((0_u8..8, prop::collection::vec(0_u8..12, 0..5)), 0..30)
        ) {
            let id = |number: u8| [number; 16];
            let mut links = Links::default();
            let mut model: BTreeMap<u8, BTreeSet<u8>> = BTreeMap::new();
            for (row, targets) in changes {
                links.set(id(row), &targets.iter().map(|&target| id(target)).collect::<Vec<_>>());
                model.insert(row, targets.into_iter().filter(|&target| target != row).collect());
            }
            let pairs = || model.iter().flat_map(|(row, targets)| targets.iter().map(|target| (*row, *target)));
            for number in 0..12 {
                let mut expected: Vec<Id> =
                    pairs().filter(|&(a, b)| a == number || b == number).map(|(a, b)| id(if a == number { b } else { a })).collect();
                let mut found: Vec<Id> = links.neighbours(&id(number)).copied().collect();
                expected.sort_unstable();
                found.sort_unstable();
                prop_assert_eq!(found, expected);
            }
            prop_assert_eq!(links.ids, 2 * pairs().count());
            prop_assert_eq!(links.is_empty(), pairs().count() == 0);
            for row in 0..8 {
                links.set(id(row), &[]);
            }
            prop_assert!(links.is_empty() && links.incoming.is_empty() && links.ids == 0);
        }
    }
}
