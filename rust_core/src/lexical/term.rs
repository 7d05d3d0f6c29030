//! One term: its text and the rows that contain it, in one piece of heap.
//!
//! ```text
//! text bytes u16 | text | entries of 5 bytes, by ascending row, little-endian, from the highest bit:
//!                         row 25 bits | how often each view has the term, from the last of 5 views: 3 bits
//! ```
//!
//! The views of a row mostly share their words, so they share an entry: three views take 5 bytes where a list for each, with
//! the length that BM25 wants beside every count, took 24. An entry's width is fixed, so that a list is searched by halves
//! and changed in place. Most terms are in few rows; hence no second piece of heap, nor a count of anything, per term.
//! Three bits count to 6; what is counted further says [`MANY`] and is kept by the index.

/// Most views: four passage views and the session texts.
pub(crate) const MAX_VIEWS: usize = 5;
/// Most rows: far beyond one user's memories. A row's number and [`MAX_VIEWS`] codes fill the 40 bits of an entry.
pub const MAX_ROWS: usize = 1 << (8 * ENTRY_BYTES - CODES_BITS);
/// Longest text: longer ones are cut. The analyser makes none of a hundredth of it.
pub(crate) const MAX_TEXT_BYTES: usize = u16::MAX as usize;
/// The code that stands for this frequency and all above it.
pub(crate) const MANY: u16 = (1 << CODE_BITS) - 1;

const ENTRY_BYTES: usize = 5;
const CODE_BITS: usize = 3;
const CODES_BITS: usize = CODE_BITS * MAX_VIEWS;
const LENGTH_BYTES: usize = 2;

/// A row that contains a term, and how often.
pub(crate) type Entry = [u8; ENTRY_BYTES];

/// An entry; frequencies from [`MANY`] on become it.
pub(crate) fn entry(row: u32, frequencies: [u16; MAX_VIEWS]) -> Entry {
    let codes = frequencies.iter().rev().fold(0, |codes, &count| codes << CODE_BITS | u64::from(count.min(MANY)));
    let [entry @ .., _, _, _] = (u64::from(row) << CODES_BITS | codes).to_le_bytes();
    entry
}

/// An entry's row.
#[inline]
pub(crate) fn row_of(entry: Entry) -> u32 {
    (bits(entry) >> CODES_BITS) as u32
}

/// How often a view of the row has the term, up to [`MANY`].
#[inline]
pub(crate) fn code_of(entry: Entry, view: usize) -> u16 {
    (bits(entry) >> (CODE_BITS * view)) as u16 & MANY
}

#[inline]
fn bits([low @ .., high]: Entry) -> u64 {
    u64::from(u32::from_le_bytes(low)) | u64::from(high) << 32
}

/// The entry of a row.
pub(crate) fn find(entries: &[Entry], row: usize) -> Option<Entry> {
    let position = entries.binary_search_by(|held| (row_of(*held) as usize).cmp(&row)).ok()?;
    entries.get(position).copied()
}

/// A term. The default one, without text or entries, stands where a term was.
#[derive(Debug, Default)]
pub(crate) struct Term(Vec<u8>);

impl Term {
    /// A term that no row contains yet.
    pub(crate) fn new(text: &str) -> Self {
        let text = text.get(..text.floor_char_boundary(MAX_TEXT_BYTES)).unwrap_or_default();
        let mut bytes = Vec::with_capacity(LENGTH_BYTES + text.len() + ENTRY_BYTES);
        bytes.extend((text.len() as u16).to_le_bytes());
        bytes.extend(text.as_bytes());
        Self(bytes)
    }

    /// Its text.
    pub(crate) fn text(&self) -> &[u8] {
        self.0.get(LENGTH_BYTES..self.head()).unwrap_or_default()
    }

    /// The rows that contain it, ascending.
    #[inline]
    pub(crate) fn entries(&self) -> &[Entry] {
        self.0.get(self.head()..).unwrap_or_default().as_chunks().0
    }

    /// Add an entry of a row that has none.
    pub(crate) fn insert(&mut self, entry: Entry) {
        let row = row_of(entry);
        let entries = self.entries();
        let position = entries.partition_point(|held| row_of(*held) < row);
        // Most terms are rare: room for exactly one more, for many by a quarter.
        if self.0.capacity() - self.0.len() < ENTRY_BYTES {
            self.0.reserve_exact((entries.len() / 4).max(1) * ENTRY_BYTES);
        }
        let start = self.head() + position * ENTRY_BYTES;
        self.0.extend(entry);
        if let Some(tail) = self.0.get_mut(start..) {
            tail.rotate_right(ENTRY_BYTES);
        }
    }

    /// Take the entry of a row out.
    pub(crate) fn remove(&mut self, row: u32) -> Option<Entry> {
        let entries = self.entries();
        let position = entries.binary_search_by_key(&row, |held| row_of(*held)).ok()?;
        let found = entries.get(position).copied();
        let start = self.head() + position * ENTRY_BYTES;
        self.0.drain(start..start + ENTRY_BYTES);
        found
    }

    /// Give back what growth has left unused.
    pub(crate) fn shrink_to_fit(&mut self) {
        self.0.shrink_to_fit();
    }

    /// Bytes of heap.
    pub(crate) fn size_bytes(&self) -> usize {
        self.0.capacity()
    }

    /// Where the entries begin.
    fn head(&self) -> usize {
        match self.0.first_chunk() {
            Some(length) => LENGTH_BYTES + usize::from(u16::from_le_bytes(*length)),
            None => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn long_texts_are_cut_between_characters() {
        let term = Term::new(&"é".repeat(40_000));
        assert_eq!(term.text(), "é".repeat(32_767).as_bytes());
        assert!(term.entries().is_empty());
    }

    proptest! {
        #[test]
        fn entries_keep_their_rows_and_counts(
            text in "\\PC{0,12}",
            changes in prop::collection::vec(
                (prop_oneof![0_u32..20, Just(MAX_ROWS as u32 - 1)], prop::option::of(prop::array::uniform5(0_u16..9))),
                0..60,
            ),
        ) {
            let mut term = Term::new(&text);
            let mut model = BTreeMap::new();
            for (row, counts) in changes {
                let removed = term.remove(row);
                prop_assert_eq!(removed.map(row_of), model.remove(&row).map(|_: [u16; MAX_VIEWS]| row));
                if let Some(counts) = counts {
                    term.insert(entry(row, counts));
                    model.insert(row, counts);
                }
            }
            prop_assert_eq!(term.text(), text.as_bytes());
            prop_assert_eq!(term.entries().len(), model.len());
            for (held, (row, counts)) in term.entries().iter().zip(&model) {
                prop_assert_eq!(row_of(*held), *row);
                prop_assert_eq!(find(term.entries(), *row as usize), Some(*held));
                for (view, count) in counts.iter().enumerate() {
                    prop_assert_eq!(code_of(*held, view), (*count).min(MANY));
                }
            }
            prop_assert!(find(term.entries(), 20).is_none());
            term.shrink_to_fit();
            prop_assert_eq!(term.size_bytes(), LENGTH_BYTES + text.len() + ENTRY_BYTES * model.len());
        }
    }
}
