//! Which row each vector of a graph belongs to.
//!
//! Rows move: a removed one's place is taken by the last. Vectors in a graph don't. So a vector has a slot, given
//! once and never again, and two maps follow the rows. A changed row gets a new slot; its old one is dead from then
//! on and only filtered out, because a node that is taken out of a graph leaves holes in the paths through it.

use std::ops::Range;

use crate::filter::WORDS;

/// No slot, or no row.
const NONE: u32 = u32::MAX;

/// The two maps.
#[derive(Debug, Default)]
pub(super) struct Slots {
    of_row: Vec<u32>,
    row_of: Vec<u32>,
    live: usize,
}

impl Slots {
    /// Every one of `rows` rows in the slot of its own number.
    pub(super) fn full(rows: usize) -> Self {
        let numbers: Vec<u32> = (0..rows as u32).collect();
        Self { of_row: numbers.clone(), row_of: numbers, live: rows }
    }

    /// A row was appended; it has no slot yet.
    pub(super) fn push_row(&mut self) {
        self.of_row.push(NONE);
    }

    /// A row has another vector now.
    pub(super) fn change_row(&mut self, row: usize) {
        if let Some(held) = self.of_row.get_mut(row) {
            let slot = std::mem::replace(held, NONE);
            self.kill(slot);
        }
    }

    /// A row was removed; the last one takes its place.
    pub(super) fn swap_remove_row(&mut self, row: usize) {
        if row >= self.of_row.len() {
            return;
        }
        let slot = self.of_row.swap_remove(row);
        self.kill(slot);
        if let Some(&moved) = self.of_row.get(row)
            && let Some(held) = self.row_of.get_mut(moved as usize)
        {
            *held = row as u32;
        }
    }

    fn kill(&mut self, slot: u32) {
        if let Some(held) = self.row_of.get_mut(slot as usize) {
            *held = NONE;
            self.live -= 1;
        }
    }

    /// The slot that the next row gets.
    pub(super) fn next(&self) -> usize {
        self.row_of.len()
    }

    /// Give a row that has none its slot, [`Self::next`].
    pub(super) fn assign(&mut self, row: usize) {
        let slot = self.row_of.len() as u32;
        if let Some(held) = self.of_row.get_mut(row).filter(|held| **held == NONE) {
            *held = slot;
            self.row_of.push(row as u32);
            self.live += 1;
        }
    }

    /// The row of a slot; `None` when it is dead.
    pub(super) fn row(&self, slot: u64) -> Option<usize> {
        let row = self.row_of.get(usize::try_from(slot).ok()?)?;
        (*row != NONE).then_some(*row as usize)
    }

    /// Rows without a slot.
    pub(super) fn pending(&self) -> usize {
        self.of_row.len() - self.live
    }

    /// Slots without a row.
    pub(super) fn dead(&self) -> usize {
        self.row_of.len() - self.live
    }

    /// The first `limit` rows without a slot, from row `start` on.
    pub(super) fn pending_rows(&self, start: usize, limit: usize) -> Vec<usize> {
        let rows = self.of_row.iter().enumerate().skip(start);
        rows.filter(|&(_, &slot)| slot == NONE).map(|(row, _)| row).take(limit).collect()
    }

    /// Those rows of a block that have no slot, as a mask.
    pub(super) fn pending_mask(&self, rows: Range<usize>) -> [u64; WORDS] {
        let mut mask = [0; WORDS];
        if self.pending() > 0 {
            let slots = self.of_row.get(rows).unwrap_or_default();
            for (word, slots) in mask.iter_mut().zip(slots.chunks(64)) {
                let bits = slots.iter().enumerate();
                *word = bits.fold(0, |word, (bit, &slot)| word | u64::from(slot == NONE) << bit);
            }
        }
        mask
    }

    /// Bytes of heap.
    pub(super) fn size_bytes(&self) -> usize {
        (self.of_row.capacity() + self.row_of.capacity()) * size_of::<u32>()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Rows are named by the number of the vector they hold; a graph would hold vector `names[slot]` in a slot.
        #[test]
        fn a_slot_leads_to_the_row_that_holds_its_vector(
            start in 0_usize..20,
            steps in prop::collection::vec((0_u8..4, 0_usize..30), 0..60),
        ) {
            let mut slots = Slots::full(start);
            let mut rows: Vec<usize> = (0..start).collect();
            let mut names = rows.clone();
            for (next, (step, at)) in (start..).zip(steps) {
                match step {
                    0 => {
                        slots.push_row();
                        rows.push(next);
                    }
                    1 if at < rows.len() => {
                        slots.change_row(at);
                        rows[at] = next;
                    }
                    2 => {
                        slots.swap_remove_row(at);
                        if at < rows.len() {
                            rows.swap_remove(at);
                        }
                    }
                    3 => for row in slots.pending_rows(0, 2) {
                        prop_assert_eq!(slots.next(), names.len());
                        slots.assign(row);
                        names.push(rows[row]);
                    },
                    _ => {}
                }
                let live: Vec<usize> = (0..names.len()).filter(|&slot| rows.contains(&names[slot])).collect();
                for (slot, name) in names.iter().enumerate() {
                    prop_assert_eq!(slots.row(slot as u64), rows.iter().position(|row| row == name));
                }
                prop_assert_eq!(slots.dead(), names.len() - live.len());
                prop_assert_eq!(slots.pending(), rows.len() - live.len());
                let pending = slots.pending_rows(0, rows.len());
                let mask = slots.pending_mask(0..rows.len());
                prop_assert_eq!(mask[0], pending.iter().fold(0, |word, row| word | 1 << row));
                prop_assert!(pending.iter().all(|&row| !names.contains(&rows[row])));
            }
        }
    }
}
