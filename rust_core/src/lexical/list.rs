//! A term's list as one view sees it.

use super::postings::LexicalIndex;
use super::term::{Entry, MANY, MAX_VIEWS, code_of, row_of};

/// One row's part in a term's list. Counts stop at 65,535.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Posting {
    /// Position of the row in its partition.
    pub row: u32,
    /// How often the row's text contains the term.
    pub frequency: u16,
    /// Terms of the row's text, for the length norm.
    pub length: u16,
}

/// What BM25 and its pruning ask of a term in one view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TermStatistics {
    containing: u32,
    max_frequency: u16,
    min_length: u16,
}

impl TermStatistics {
    pub(super) const NONE: Self = Self { containing: 0, max_frequency: 0, min_length: u16::MAX };

    fn add(&mut self, frequency: u16, length: u16) {
        self.containing += 1;
        self.max_frequency = self.max_frequency.max(frequency);
        self.min_length = self.min_length.min(length);
    }
}

/// The rows that contain a term in one view.
#[derive(Debug, Clone, Copy)]
pub struct PostingList<'a> {
    index: &'a LexicalIndex,
    number: u32,
    view: usize,
    entries: &'a [Entry],
    statistics: TermStatistics,
}

impl<'a> PostingList<'a> {
    pub(super) fn new(
        index: &'a LexicalIndex,
        (number, view): (u32, usize),
        entries: &'a [Entry],
        statistics: TermStatistics,
    ) -> Self {
        Self { index, number, view, entries, statistics }
    }

    /// The rows, ascending.
    pub fn postings(&self) -> impl Iterator<Item = Posting> {
        self.entries.iter().filter_map(|&entry| {
            let (row, frequency) = (row_of(entry), self.frequency(entry));
            let length = self.index.length(row as usize, self.view) as u16;
            (frequency > 0).then_some(Posting { row, frequency, length })
        })
    }

    /// How many rows contain it.
    #[must_use]
    pub fn containing(&self) -> u64 {
        u64::from(self.statistics.containing)
    }

    /// At least the highest frequency and at most the smallest length of all rows. Not tightened by a removal.
    #[must_use]
    pub fn bounds(&self) -> (u16, u16) {
        (self.statistics.max_frequency, self.statistics.min_length)
    }

    /// The rows that contain it in any view, ascending.
    pub(crate) fn entries(&self) -> &'a [Entry] {
        self.entries
    }

    /// How often the row of one of the entries contains it in this view; 0 where only other views do.
    #[inline]
    pub(crate) fn frequency(&self, entry: Entry) -> u16 {
        let code = code_of(entry, self.view);
        if code < MANY { code } else { self.index.frequent(self.number, row_of(entry), self.view) }
    }
}

/// Count a row in, per view.
pub(super) fn add_row(
    counted: &mut [TermStatistics; MAX_VIEWS],
    frequencies: [u16; MAX_VIEWS],
    lengths: impl Iterator<Item = u16>,
) {
    for ((statistics, frequency), length) in counted.iter_mut().zip(frequencies).zip(lengths) {
        if frequency > 0 {
            statistics.add(frequency, length);
        }
    }
}

/// Count a row out. The bounds stay true, if not tight.
pub(super) fn remove_row(counted: &mut [TermStatistics; MAX_VIEWS], frequencies: [u16; MAX_VIEWS]) {
    for (statistics, frequency) in counted.iter_mut().zip(frequencies) {
        statistics.containing -= u32::from(frequency > 0);
    }
}
