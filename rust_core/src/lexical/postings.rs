//! Which rows of a partition contain a term, how often, and the statistics that BM25 needs.
//!
//! A term has one list for all views ([`super::term`]). Each row also lists its own terms ([`super::forward`]), so that
//! removing or moving a row touches its entries alone and the statistics never count a row that is gone. Lengths of texts
//! are columns beside the lists.

use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashMap, HashTable};

use super::analyser::Analyser;
use super::forward::RowTerms;
use super::list::{self, PostingList, TermStatistics};
pub use super::term::MAX_ROWS;
pub(crate) use super::term::MAX_TEXT_BYTES;
use super::term::{Entry, MANY, MAX_VIEWS, Term, code_of, entry, find, row_of};
use crate::columns::push_slowly;

/// Entries up to which a term's statistics are counted when a query asks for them; of the few longer lists they are kept.
const COUNTED_ENTRIES: usize = 64;

/// Statistics of one passage view.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ViewStatistics {
    /// Rows whose text has at least one term.
    pub documents: u64,
    /// Terms of all texts.
    pub total_length: u64,
}

/// Terms of texts, not yet in an index: analysing is slow, so it is done before a partition is locked.
#[derive(Debug, Clone, Default)]
pub struct AnalysedRow {
    /// Per view, the text's terms, sorted, each with its frequency.
    views: Vec<Vec<(Box<str>, u32)>>,
}

impl AnalysedRow {
    /// Analyse one text per view.
    #[must_use]
    pub fn new<'a>(analyser: &Analyser, texts: impl IntoIterator<Item = &'a str>) -> Self {
        let views = texts.into_iter().map(|text| count_terms(analyser, text)).collect();
        Self { views }
    }
}

/// The distinct terms of a text, sorted, with their frequencies.
#[must_use]
pub fn count_terms(analyser: &Analyser, text: &str) -> Vec<(Box<str>, u32)> {
    let mut terms: Vec<Box<str>> = Vec::new();
    analyser.analyse(text, |term| terms.push(term.into()));
    terms.sort_unstable();
    let mut counted: Vec<(Box<str>, u32)> = Vec::with_capacity(terms.len());
    for term in terms {
        match counted.last_mut() {
            Some((last, count)) if *last == term => *count += 1,
            _ => counted.push((term, 1)),
        }
    }
    counted
}

/// The inverted index of a partition. Rows are numbered without holes, below [`MAX_ROWS`].
#[derive(Debug)]
pub struct LexicalIndex {
    hasher: DefaultHashBuilder,
    numbers: HashTable<u32>,
    terms: Vec<Term>,
    free: Vec<u32>,
    rows: RowTerms,
    /// Per view, the terms of each row's text, up to 65,535.
    lengths: Vec<Vec<u16>>,
    statistics: Vec<ViewStatistics>,
    /// Per view, of the terms with more than [`COUNTED_ENTRIES`].
    counted: HashMap<u32, [TermStatistics; MAX_VIEWS]>,
    /// Frequencies from [`MANY`] on, by term, row and view.
    frequent: HashMap<(u32, u32, u8), u16>,
    /// Heap of the terms, kept up to date: adding it up again would walk every term.
    heap_bytes: usize,
}

impl LexicalIndex {
    /// An empty index over `views` texts per row, at most 5.
    #[must_use]
    pub fn new(views: usize) -> Self {
        let views = views.min(MAX_VIEWS);
        Self {
            hasher: DefaultHashBuilder::default(),
            numbers: HashTable::new(),
            terms: Vec::new(),
            free: Vec::new(),
            rows: RowTerms::default(),
            lengths: vec![Vec::new(); views],
            statistics: vec![ViewStatistics::default(); views],
            counted: HashMap::new(),
            frequent: HashMap::new(),
            heap_bytes: 0,
        }
    }

    /// Expect `rows` more rows.
    pub fn reserve_exact(&mut self, rows: usize) {
        for lengths in &mut self.lengths {
            lengths.reserve_exact(rows);
        }
    }

    /// Give back what growth has left unused: worth its time after many rows at once.
    pub fn shrink_to_fit(&mut self) {
        for term in &mut self.terms {
            term.shrink_to_fit();
        }
        self.heap_bytes = self.terms.iter().map(Term::size_bytes).sum();
        self.terms.shrink_to_fit();
        self.free.shrink_to_fit();
        self.frequent.shrink_to_fit();
    }

    /// Append a row.
    pub fn push(&mut self, analysed: &AnalysedRow) {
        let numbered = self.numbered(analysed);
        self.push_numbered(&numbered);
    }

    /// Append a row whose terms have numbers already, each at most once per view, with their frequencies.
    pub fn push_numbered(&mut self, views: &[Vec<(u32, u32)>]) {
        let row = self.rows.len() as u32;
        self.rows.push(&[]);
        for lengths in &mut self.lengths {
            push_slowly(lengths, 0);
        }
        self.fill(row, views);
    }

    /// Replace a row's texts.
    pub fn set(&mut self, row: u32, analysed: &AnalysedRow) {
        if row as usize >= self.rows.len() {
            return;
        }
        self.clear(row);
        let numbered = self.numbered(analysed);
        self.fill(row, &numbered);
    }

    /// Remove a row; the last one takes its number.
    pub fn swap_remove(&mut self, row: u32) {
        let Some(last) = self.rows.len().checked_sub(1).map(|last| last as u32) else { return };
        if row > last {
            return;
        }
        self.clear(row);
        for lengths in &mut self.lengths {
            lengths.swap_remove(row as usize);
        }
        let moved = self.rows.pop();
        if row != last {
            for &number in &moved {
                let frequencies = self.take(number, last);
                self.insert(number, row, frequencies);
            }
            self.rows.set(row as usize, &moved);
        }
    }

    /// The texts of all terms, by number; empty for numbers that are free.
    #[must_use]
    pub fn term_texts(&self) -> Vec<&str> {
        self.terms.iter().map(|term| std::str::from_utf8(term.text()).unwrap_or_default()).collect()
    }

    /// Per view, a row's terms by number, ascending, with their frequencies.
    #[must_use]
    pub fn row_terms(&self, row: u32) -> Vec<Vec<(u32, u16)>> {
        let mut views = vec![Vec::new(); self.lengths.len()];
        for number in self.rows.get(row as usize) {
            let entries = self.terms.get(number as usize).map(Term::entries).unwrap_or_default();
            let Some(entry) = find(entries, row as usize) else { continue };
            for (terms, frequency) in views.iter_mut().zip(self.frequencies(number, entry)) {
                if frequency > 0 {
                    terms.push((number, frequency));
                }
            }
        }
        views
    }

    /// The postings of a term in a view.
    #[must_use]
    pub fn list(&self, term: &str, view: usize) -> Option<PostingList<'_>> {
        let number = self.number(term)?;
        let entries = self.terms.get(number as usize)?.entries();
        let counted = self.counted.get(&number).copied().unwrap_or_else(|| self.count(number));
        Some(PostingList::new(self, (number, view), entries, *counted.get(view)?))
    }

    /// Terms of a row's text in a view, up to 65,535.
    #[must_use]
    pub fn length(&self, row: usize, view: usize) -> u64 {
        self.lengths(view).get(row).copied().map_or(0, u64::from)
    }

    /// [`Self::length`] of all rows.
    pub(crate) fn lengths(&self, view: usize) -> &[u16] {
        self.lengths.get(view).map(Vec::as_slice).unwrap_or_default()
    }

    /// Statistics of a view.
    #[must_use]
    pub fn statistics(&self, view: usize) -> ViewStatistics {
        self.statistics.get(view).copied().unwrap_or_default()
    }

    /// Bytes of heap.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        let lengths: usize = self.lengths.iter().map(Vec::capacity).sum();
        self.heap_bytes
            + self.terms.capacity() * size_of::<Term>()
            + self.free.capacity() * size_of::<u32>()
            + self.rows.size_bytes()
            + lengths * size_of::<u16>()
            + self.numbers.allocation_size()
            + self.counted.allocation_size()
            + self.frequent.allocation_size()
    }

    fn number(&self, term: &str) -> Option<u32> {
        let hash = self.hasher.hash_one(term.as_bytes());
        let is_it = |&number: &u32| self.terms.get(number as usize).is_some_and(|held| held.text() == term.as_bytes());
        self.numbers.find(hash, is_it).copied()
    }

    /// The number of a term, which is given one if it is new. Forget it again if no row turns out to hold it.
    pub(crate) fn number_or_insert(&mut self, term: &str) -> u32 {
        if let Some(number) = self.number(term) {
            return number;
        }
        let new = Term::new(term);
        self.heap_bytes += new.size_bytes();
        let number = if let Some(number) = self.free.pop() {
            if let Some(slot) = self.terms.get_mut(number as usize) {
                *slot = new;
            }
            number
        } else {
            push_slowly(&mut self.terms, new);
            (self.terms.len() - 1) as u32
        };
        let (hasher, terms) = (&self.hasher, &self.terms);
        let text = |number: u32| terms.get(number as usize).map(Term::text).unwrap_or_default();
        self.numbers.insert_unique(hasher.hash_one(term.as_bytes()), number, |&held| hasher.hash_one(text(held)));
        number
    }

    fn numbered(&mut self, analysed: &AnalysedRow) -> Vec<Vec<(u32, u32)>> {
        let mut numbered = Vec::with_capacity(analysed.views.len());
        for terms in &analysed.views {
            numbered.push(terms.iter().map(|(term, count)| (self.number_or_insert(term), *count)).collect());
        }
        numbered
    }

    /// Give a row without texts its terms.
    fn fill(&mut self, row: u32, views: &[Vec<(u32, u32)>]) {
        let mut counts = Vec::with_capacity(views.iter().map(Vec::len).sum());
        let columns = self.lengths.iter_mut().zip(&mut self.statistics);
        for (view, (terms, (lengths, statistics))) in views.iter().zip(columns).enumerate() {
            let length = saturate(terms.iter().map(|(_, count)| u64::from(*count)).sum());
            if let Some(held) = lengths.get_mut(row as usize).filter(|_| length > 0) {
                *held = length;
                statistics.documents += 1;
                statistics.total_length += u64::from(length);
            }
            counts.extend(terms.iter().map(|&(number, count)| (number, view, saturate(u64::from(count)))));
        }
        counts.sort_unstable();
        let mut numbers = Vec::with_capacity(counts.len());
        for same in counts.chunk_by(|(a, _, _), (b, _, _)| a == b) {
            let mut frequencies = [0; MAX_VIEWS];
            for &(number, view, count) in same {
                if let Some(frequency) = frequencies.get_mut(view) {
                    *frequency = count;
                }
                if numbers.last() != Some(&number) {
                    numbers.push(number);
                }
            }
            if let Some(&(number, _, _)) = same.first() {
                self.insert(number, row, frequencies);
            }
        }
        self.rows.set(row as usize, &numbers);
    }

    /// Take a row's terms, leaving it without texts.
    fn clear(&mut self, row: u32) {
        let numbers = self.rows.get(row as usize);
        self.rows.set(row as usize, &[]);
        for number in numbers {
            self.take(number, row);
            self.drop_if_unused(number);
        }
        for (lengths, statistics) in self.lengths.iter_mut().zip(&mut self.statistics) {
            let length = lengths.get_mut(row as usize).map(std::mem::take).unwrap_or_default();
            if length > 0 {
                statistics.documents -= 1;
                statistics.total_length -= u64::from(length);
            }
        }
    }

    /// Add a row, its lengths known, to the list of a term.
    fn insert(&mut self, number: u32, row: u32, frequencies: [u16; MAX_VIEWS]) {
        let Some(term) = self.terms.get_mut(number as usize) else { return };
        let before = term.size_bytes();
        term.insert(entry(row, frequencies));
        self.heap_bytes += term.size_bytes() - before;
        let entries = term.entries().len();
        for (view, frequency) in (0_u8..).zip(frequencies).filter(|&(_, frequency)| frequency >= MANY) {
            self.frequent.insert((number, row, view), frequency);
        }
        if entries <= COUNTED_ENTRIES {
            return;
        }
        if let Some(counted) = self.counted.get_mut(&number) {
            let lengths = self.lengths.iter().map(|lengths| lengths.get(row as usize).copied().unwrap_or_default());
            list::add_row(counted, frequencies, lengths);
        } else {
            self.counted.insert(number, self.count(number));
        }
    }

    /// Take a row out of the list of a term, giving how often each view had it.
    fn take(&mut self, number: u32, row: u32) -> [u16; MAX_VIEWS] {
        let found =
            self.terms.get_mut(number as usize).and_then(|term| Some((term.remove(row)?, term.entries().len())));
        let Some((entry, left)) = found else { return [0; MAX_VIEWS] };
        let frequencies = self.frequencies(number, entry);
        for (view, _) in (0_u8..).zip(frequencies).filter(|&(_, frequency)| frequency >= MANY) {
            self.frequent.remove(&(number, row, view));
        }
        if left <= COUNTED_ENTRIES {
            self.counted.remove(&number);
        } else if let Some(counted) = self.counted.get_mut(&number) {
            list::remove_row(counted, frequencies);
        }
        frequencies
    }

    /// The statistics of a term, per view.
    fn count(&self, number: u32) -> [TermStatistics; MAX_VIEWS] {
        let mut counted = [TermStatistics::NONE; MAX_VIEWS];
        for &entry in self.terms.get(number as usize).map(Term::entries).unwrap_or_default() {
            let row = row_of(entry) as usize;
            let lengths = self.lengths.iter().map(|lengths| lengths.get(row).copied().unwrap_or_default());
            list::add_row(&mut counted, self.frequencies(number, entry), lengths);
        }
        counted
    }

    fn frequencies(&self, number: u32, entry: Entry) -> [u16; MAX_VIEWS] {
        std::array::from_fn(|view| {
            let code = code_of(entry, view);
            if code < MANY { code } else { self.frequent(number, row_of(entry), view) }
        })
    }

    /// A frequency that its entry only calls [`MANY`].
    #[cold]
    pub(super) fn frequent(&self, number: u32, row: u32, view: usize) -> u16 {
        self.frequent.get(&(number, row, view as u8)).copied().unwrap_or(MANY)
    }

    /// Forget a term that no row contains: a deleted text must not live on in the dictionary.
    fn drop_if_unused(&mut self, number: u32) {
        let Some(term) = self.terms.get_mut(number as usize).filter(|term| term.entries().is_empty()) else { return };
        let text = std::mem::take(term);
        self.heap_bytes -= text.size_bytes();
        let hash = self.hasher.hash_one(text.text());
        if let Ok(entry) = self.numbers.find_entry(hash, |&held| held == number) {
            entry.remove();
        }
        self.free.push(number);
    }
}

fn saturate(count: u64) -> u16 {
    count.min(u64::from(u16::MAX)) as u16
}
