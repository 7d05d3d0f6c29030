//! Which rows of a partition contain a term, how often, and the statistics that BM25 needs.
//!
//! Each row also lists its own terms, so that removing or moving a row touches its postings alone and the statistics
//! never count a row that is gone.

use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};

use super::analyser::Analyser;

/// One row's entry in a term's list. Counts stop at 65,535.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Posting {
    /// Position of the row in its partition.
    pub row: u32,
    /// How often the row's text contains the term.
    pub frequency: u16,
    /// Terms of the row's text, for the length norm.
    pub length: u16,
}

/// The postings of one term in one passage view, by ascending row.
#[derive(Debug, Default)]
pub struct PostingList {
    postings: Vec<Posting>,
    max_frequency: u16,
    min_length: u16,
}

impl PostingList {
    /// The entries, by ascending row.
    #[must_use]
    pub fn postings(&self) -> &[Posting] {
        &self.postings
    }

    /// At least the highest frequency and at most the smallest length of all entries. Not tightened by a removal.
    #[must_use]
    pub fn bounds(&self) -> (u16, u16) {
        (self.max_frequency, self.min_length)
    }

    fn insert(&mut self, posting: Posting) {
        if self.postings.is_empty() {
            (self.max_frequency, self.min_length) = (posting.frequency, posting.length);
        }
        self.max_frequency = self.max_frequency.max(posting.frequency);
        self.min_length = self.min_length.min(posting.length);
        let position = self.postings.partition_point(|held| held.row < posting.row);
        // Most terms are rare: room for exactly one, then two, then by half.
        if self.postings.len() == self.postings.capacity() {
            self.postings.reserve_exact((self.postings.len() / 2).max(1));
        }
        self.postings.insert(position, posting);
    }

    fn find(&self, row: u32) -> Option<&Posting> {
        let position = self.postings.binary_search_by_key(&row, |held| held.row).ok()?;
        self.postings.get(position)
    }

    fn remove(&mut self, row: u32) -> Option<Posting> {
        let position = self.postings.binary_search_by_key(&row, |held| held.row).ok()?;
        Some(self.postings.remove(position))
    }
}

#[derive(Debug)]
struct Term {
    text: Box<str>,
    views: Box<[PostingList]>,
}

/// A row's own terms: those of view 0, then of view 1, and so on.
#[derive(Debug, Clone, Default)]
struct Forward {
    /// Where each view's terms end in `terms`.
    ends: Box<[u32]>,
    terms: Box<[u32]>,
}

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

/// The inverted index of a partition. Rows are numbered without holes.
#[derive(Debug)]
pub struct LexicalIndex {
    views: usize,
    hasher: DefaultHashBuilder,
    numbers: HashTable<u32>,
    terms: Vec<Term>,
    free: Vec<u32>,
    rows: Vec<Forward>,
    statistics: Vec<ViewStatistics>,
    /// Heap of lists and terms, kept up to date: adding it up again would walk every term.
    heap_bytes: usize,
}

impl LexicalIndex {
    /// An empty index over `views` texts per row.
    #[must_use]
    pub fn new(views: usize) -> Self {
        Self {
            views,
            hasher: DefaultHashBuilder::default(),
            numbers: HashTable::new(),
            terms: Vec::new(),
            free: Vec::new(),
            rows: Vec::new(),
            statistics: vec![ViewStatistics::default(); views],
            heap_bytes: 0,
        }
    }

    /// Expect `rows` more rows.
    pub fn reserve_exact(&mut self, rows: usize) {
        self.rows.reserve_exact(rows);
    }

    /// Append a row.
    pub fn push(&mut self, analysed: &AnalysedRow) {
        self.rows.push(Forward::default());
        self.fill((self.rows.len() - 1) as u32, analysed);
    }

    /// Append a row whose terms have numbers already, each at most once per view, with their frequencies.
    pub fn push_numbered(&mut self, views: &[Vec<(u32, u32)>]) {
        self.rows.push(Forward::default());
        self.fill_numbered((self.rows.len() - 1) as u32, views);
    }

    /// Replace a row's texts.
    pub fn set(&mut self, row: u32, analysed: &AnalysedRow) {
        self.clear(row);
        self.fill(row, analysed);
    }

    /// Remove a row; the last one takes its number.
    pub fn swap_remove(&mut self, row: u32) {
        let Some(last) = self.rows.len().checked_sub(1).map(|last| last as u32) else { return };
        if row > last {
            return;
        }
        self.clear(row);
        let moved = self.rows.pop().unwrap_or_default();
        if row != last {
            for (view, number) in moved.pairs() {
                if let Some(list) = self.list_mut(number, view) {
                    let before = list.postings.capacity();
                    if let Some(posting) = list.remove(last) {
                        list.insert(Posting { row, ..posting });
                    }
                    let after = list.postings.capacity();
                    self.heap_bytes += (after - before) * size_of::<Posting>();
                }
            }
            if let Some(slot) = self.rows.get_mut(row as usize) {
                *slot = moved;
            }
        }
    }

    /// The texts of all terms, by number; empty for numbers that are free.
    #[must_use]
    pub fn term_texts(&self) -> Vec<&str> {
        self.terms.iter().map(|term| &*term.text).collect()
    }

    /// Per view, a row's terms by number, with their frequencies.
    #[must_use]
    pub fn row_terms(&self, row: u32) -> Vec<Vec<(u32, u16)>> {
        let mut views = vec![Vec::new(); self.views];
        let pairs = self.rows.get(row as usize).map(Forward::pairs);
        for (view, number) in pairs.into_iter().flatten() {
            let list = self.terms.get(number as usize).and_then(|term| term.views.get(view));
            let posting = list.and_then(|list| list.find(row));
            if let (Some(posting), Some(terms)) = (posting, views.get_mut(view)) {
                terms.push((number, posting.frequency));
            }
        }
        views
    }

    /// The postings of a term in a view.
    #[must_use]
    pub fn list(&self, term: &str, view: usize) -> Option<&PostingList> {
        let number = self.number(term)?;
        self.terms.get(number as usize)?.views.get(view)
    }

    /// Terms of a row's text in a view, as its postings have it.
    #[must_use]
    pub fn length(&self, row: usize, view: usize) -> u64 {
        let first = self.rows.get(row).and_then(|forward| forward.pairs().find(|&(held, _)| held == view));
        let list = first.and_then(|(_, number)| self.terms.get(number as usize)?.views.get(view));
        let found = list.and_then(|list| {
            let position = list.postings.binary_search_by(|held| (held.row as usize).cmp(&row)).ok()?;
            list.postings.get(position)
        });
        found.map_or(0, |posting| u64::from(posting.length))
    }

    /// Statistics of a view.
    #[must_use]
    pub fn statistics(&self, view: usize) -> ViewStatistics {
        self.statistics.get(view).copied().unwrap_or_default()
    }

    /// Bytes of heap.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        self.heap_bytes
            + self.terms.capacity() * size_of::<Term>()
            + self.rows.capacity() * size_of::<Forward>()
            + self.numbers.allocation_size()
    }

    fn number(&self, term: &str) -> Option<u32> {
        let hash = self.hasher.hash_one(term);
        self.numbers.find(hash, |&number| self.terms.get(number as usize).is_some_and(|t| *t.text == *term)).copied()
    }

    fn list_mut(&mut self, number: u32, view: usize) -> Option<&mut PostingList> {
        self.terms.get_mut(number as usize)?.views.get_mut(view)
    }

    /// The number of a term, which is given one if it is new. Forget it again if no row turns out to hold it.
    pub(crate) fn number_or_insert(&mut self, term: &str) -> u32 {
        if let Some(number) = self.number(term) {
            return number;
        }
        let views = (0..self.views).map(|_| PostingList::default()).collect();
        let new = Term { text: term.into(), views };
        self.heap_bytes += term.len() + self.views * size_of::<PostingList>();
        let number = if let Some(number) = self.free.pop() {
            if let Some(slot) = self.terms.get_mut(number as usize) {
                *slot = new;
            }
            number
        } else {
            self.terms.push(new);
            (self.terms.len() - 1) as u32
        };
        let hash = self.hasher.hash_one(term);
        self.numbers.insert_unique(hash, number, |&held| {
            self.hasher.hash_one(self.terms.get(held as usize).map_or("", |t| &*t.text))
        });
        number
    }

    fn fill(&mut self, row: u32, analysed: &AnalysedRow) {
        let mut numbered = Vec::with_capacity(analysed.views.len());
        for terms in &analysed.views {
            numbered.push(terms.iter().map(|(term, count)| (self.number_or_insert(term), *count)).collect());
        }
        self.fill_numbered(row, &numbered);
    }

    fn fill_numbered(&mut self, row: u32, views: &[Vec<(u32, u32)>]) {
        let mut forward = Vec::with_capacity(views.iter().map(Vec::len).sum());
        let mut ends = Vec::with_capacity(self.views);
        for (view, terms) in views.iter().enumerate() {
            let length = terms.iter().map(|(_, count)| u64::from(*count)).sum::<u64>();
            if let Some(statistics) = self.statistics.get_mut(view).filter(|_| length > 0) {
                statistics.documents += 1;
                statistics.total_length += saturate(length);
            }
            for &(number, count) in terms {
                let posting =
                    Posting { row, frequency: saturate(u64::from(count)) as u16, length: saturate(length) as u16 };
                if let Some(list) = self.list_mut(number, view) {
                    let before = list.postings.capacity();
                    list.insert(posting);
                    let after = list.postings.capacity();
                    self.heap_bytes += (after - before) * size_of::<Posting>();
                }
                forward.push(number);
            }
            ends.push(forward.len() as u32);
        }
        self.heap_bytes += (forward.len() + ends.len()) * size_of::<u32>();
        if let Some(slot) = self.rows.get_mut(row as usize) {
            *slot = Forward { ends: ends.into(), terms: forward.into() };
        }
    }

    /// Take a row's postings out, leaving it without texts.
    fn clear(&mut self, row: u32) {
        let forward = self.rows.get_mut(row as usize).map(std::mem::take).unwrap_or_default();
        self.heap_bytes -= (forward.terms.len() + forward.ends.len()) * size_of::<u32>();
        let mut counted_view = None;
        for (view, number) in forward.pairs() {
            let Some(posting) = self.list_mut(number, view).and_then(|list| list.remove(row)) else { continue };
            // Every posting of the row has the row's length; the first one of a view takes it back.
            if counted_view != Some(view) {
                counted_view = Some(view);
                if let Some(statistics) = self.statistics.get_mut(view) {
                    statistics.documents -= 1;
                    statistics.total_length -= u64::from(posting.length);
                }
            }
            self.drop_if_unused(number);
        }
    }

    /// Forget a term that no row contains: a deleted text must not live on in the dictionary.
    fn drop_if_unused(&mut self, number: u32) {
        let Some(term) = self.terms.get_mut(number as usize) else { return };
        if term.views.iter().any(|list| !list.postings.is_empty()) {
            return;
        }
        let text = std::mem::take(&mut term.text);
        let views = std::mem::take(&mut term.views);
        let lists: usize = views.iter().map(|list| list.postings.capacity() * size_of::<Posting>()).sum();
        self.heap_bytes -= lists + text.len() + self.views * size_of::<PostingList>();
        let hash = self.hasher.hash_one(&*text);
        if let Ok(entry) = self.numbers.find_entry(hash, |&held| held == number) {
            entry.remove();
        }
        self.free.push(number);
    }
}

impl Forward {
    fn pairs(&self) -> impl Iterator<Item = (usize, u32)> {
        let mut view = 0;
        self.terms.iter().enumerate().map(move |(position, &number)| {
            while self.ends.get(view).is_some_and(|&end| end as usize <= position) {
                view += 1;
            }
            (view, number)
        })
    }
}

fn saturate(count: u64) -> u64 {
    count.min(u64::from(u16::MAX))
}
