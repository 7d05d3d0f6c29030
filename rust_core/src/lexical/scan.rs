//! The best rows of a lexical query by BM25, block by block, without scoring every row.
//!
//! `MaxScore`: each term has an upper bound of what it can add to a row. Once the k-th best score passes the sum of
//! the smallest bounds, rows that hold only those terms can't win any more, so their lists are no longer walked, only
//! probed for rows that another term brought up.
//! Source: Turtle, Flood, "Query evaluation: strategies and optimizations", IPM 31(6), 1995.
//!
//! Scores are whole numbers, in units of 1/65,536: their sums don't depend on the order of addition, so pruning and
//! the numbering of rows change no ranking.

use super::list::PostingList;
use super::postings::{LexicalIndex, ViewStatistics};
use super::term::{Entry, find, row_of};
use crate::vector::topk::{Candidate, TopK};

/// BM25's saturation of term frequency, and its length normalisation: Anserini's defaults, for short texts better than
/// Lucene's 1.2 and 0.75 (LoCoMo, turns, in a `NumPy` reference: MRR +.02).
const K1: f32 = 0.9;
const B: f32 = 0.4;
/// Units of a score of 1.
pub const SCORE_UNIT: f32 = 65_536.0;
/// Rows of one scan block, a multiple of 64.
pub const BLOCK: usize = 1024;

/// What one term adds to a row's score, at least 1 unit.
///
/// `idf * tf * (K1 + 1) / (tf + K1 * (1 - B + B * length / average_length))`, with Lucene's never-negative
/// `idf = ln(1 + (N - n + 0.5) / (n + 0.5))`.
/// Source: Robertson, Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond", 2009.
#[must_use]
pub fn contribution(weight: f32, frequency: u16, length: u16, average_length: f32) -> u32 {
    to_units(weight, saturation(f32::from(frequency), f32::from(length), average_length))
}

/// The part of [`contribution`] that doesn't depend on the term.
pub(crate) fn saturation(frequency: f32, length: f32, average_length: f32) -> f32 {
    let norm = K1 * (1.0 - B + B * length / average_length);
    frequency * (K1 + 1.0) / (frequency + norm)
}

fn to_units(weight: f32, saturation: f32) -> u32 {
    // Positive and far below 2^32, so the cast only drops the fraction.
    #[allow(clippy::cast_sign_loss)]
    let units = (weight * saturation * SCORE_UNIT) as u32;
    units.max(1)
}

/// Frequencies, 0 included, and lengths whose saturation is looked up instead of computed; nearly all turns are within.
const TABLE_FREQUENCIES: usize = 5;
const TABLE_LENGTHS: usize = 128;

/// [`saturation`] for one average length.
struct Saturations {
    average_length: f32,
    /// By frequency, then length.
    table: Box<[[f32; TABLE_LENGTHS]; TABLE_FREQUENCIES]>,
}

impl Saturations {
    fn new(average_length: f32) -> Self {
        let mut table = Box::new([[0.0; TABLE_LENGTHS]; TABLE_FREQUENCIES]);
        for (row, frequency) in table.iter_mut().zip(0_u16..) {
            for (value, length) in row.iter_mut().zip(0_u16..) {
                *value = saturation(f32::from(frequency), f32::from(length), average_length);
            }
        }
        Self { average_length, table }
    }

    /// 0 for a frequency of 0.
    #[inline]
    fn contribution(&self, weight: f32, frequency: u16, length: u16) -> u32 {
        let known = self.table.get(usize::from(frequency)).and_then(|row| row.get(usize::from(length))).copied();
        let computed = || saturation(f32::from(frequency), f32::from(length), self.average_length);
        let units = to_units(weight, known.unwrap_or_else(computed));
        // Not a branch: every other entry may be of another view.
        units & u32::from(frequency > 0).wrapping_neg()
    }
}

/// Inverse document frequency of a term that `containing` of `documents` rows hold.
#[must_use]
pub fn inverse_document_frequency(documents: u64, containing: u64) -> f32 {
    (1.0 + (documents as f32 - containing as f32 + 0.5) / (containing as f32 + 0.5)).ln()
}

struct ScanTerm<'a> {
    list: PostingList<'a>,
    /// The list's entries in the block that is being scanned.
    block: &'a [Entry],
    weight: f32,
    /// At least every contribution of the term.
    bound: u32,
}

/// One lexical list in the making.
pub struct LexicalScan<'a> {
    /// By ascending bound.
    terms: Vec<ScanTerm<'a>>,
    /// `bound_sums[i]` is the sum of the bounds of the terms before i.
    bound_sums: Vec<u64>,
    saturations: Saturations,
    /// Of each row's text.
    lengths: &'a [u16],
    top: TopK,
    scores: Box<[u32; BLOCK]>,
}

impl<'a> LexicalScan<'a> {
    /// Prepare a query: distinct terms with their frequencies, against one view. A term said twice weighs twice.
    #[must_use]
    pub fn new(index: &'a LexicalIndex, view: usize, query: &[(Box<str>, u32)], depth: usize) -> Self {
        let ViewStatistics { documents, total_length } = index.statistics(view);
        let average_length = (total_length as f32 / documents.max(1) as f32).max(1.0);
        let found = query.iter().filter_map(|(term, count)| Some((index.list(term, view)?, *count)));
        let mut terms: Vec<ScanTerm<'a>> = found
            .filter(|(list, _)| list.containing() > 0)
            .map(|(list, count)| scan_term(list, count, documents, average_length))
            .collect();
        terms.sort_by_key(|term| term.bound);
        let mut bound_sums = vec![0_u64];
        bound_sums.extend(terms.iter().scan(0_u64, |sum, term| {
            *sum += u64::from(term.bound);
            Some(*sum)
        }));
        let expected = terms.iter().map(|term| term.list.containing() as usize).sum();
        let saturations = Saturations::new(average_length);
        let lengths = index.lengths(view);
        Self { terms, bound_sums, saturations, lengths, top: TopK::new(depth, expected), scores: Box::new([0; BLOCK]) }
    }

    /// Whether no row can be found.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.terms.is_empty()
    }

    /// Score the rows of one block: `start`, a multiple of [`BLOCK`], and those after it whose bit in `mask` is set.
    /// Blocks may come in any order, each once.
    pub fn scan_block(&mut self, start: usize, mask: &[u64; BLOCK / 64], orders: &[u64]) {
        let threshold = self.top.threshold();
        let essential = self.bound_sums.iter().rposition(|&sum| (sum as f64) < threshold).unwrap_or(0);
        for term in &mut self.terms {
            term.block = block_of(term.list.entries(), start);
        }
        let Some((rest, walked)) = self.terms.split_at_checked(essential) else { return };
        let rest_bound = self.bound_sums.get(essential).copied().unwrap_or(0);
        let mut touched = [0_u64; BLOCK / 64];
        let lengths = self.lengths.get(start..).unwrap_or_default();
        for term in walked {
            for &entry in term.block {
                // A remainder instead of a difference: the compiler then knows that it is within.
                let (offset, frequency) = (row_of(entry) as usize % BLOCK, term.list.frequency(entry));
                let row = (self.scores.get_mut(offset), touched.get_mut(offset / 64), lengths.get(offset));
                if let (Some(score), Some(word), Some(&length)) = row {
                    *score += self.saturations.contribution(term.weight, frequency, length);
                    *word |= u64::from(frequency > 0) << (offset % 64);
                }
            }
        }
        for (group, (&touched, &allowed)) in touched.iter().zip(mask).enumerate() {
            let mut bits = touched;
            while bits != 0 {
                let bit = bits.trailing_zeros() as usize;
                bits &= bits - 1;
                let offset = group * 64 + bit;
                let Some(mut score) = self.scores.get_mut(offset).map(|score| u64::from(std::mem::take(score))) else {
                    continue;
                };
                let threshold = self.top.threshold();
                if allowed >> bit & 1 == 0 || ((score + rest_bound) as f64) < threshold {
                    continue;
                }
                let row = start + offset;
                let mut is_out = false;
                for (term, &smaller) in rest.iter().zip(&self.bound_sums).rev() {
                    score += self.contribution(term, term.block, row);
                    if ((score + smaller) as f64) < threshold {
                        is_out = true;
                        break;
                    }
                }
                if !is_out {
                    let order = orders.get(row).copied().unwrap_or_default();
                    self.top.push(Candidate { score: score as f64, order, row: row as u32 });
                }
            }
        }
    }

    /// The best rows, best first. To be called once, after the last block.
    #[must_use]
    pub fn finish(&mut self) -> Vec<Candidate> {
        std::mem::replace(&mut self.top, TopK::new(0, 0)).into_sorted()
    }

    /// The score of any row, in units; 0 when it has none of the terms.
    #[must_use]
    pub fn score(&self, row: usize) -> u64 {
        self.terms.iter().map(|term| self.contribution(term, term.list.entries(), row)).sum()
    }

    /// What a term adds to a row, if that is among the entries.
    fn contribution(&self, term: &ScanTerm<'_>, entries: &[Entry], row: usize) -> u64 {
        let Some(entry) = find(entries, row) else { return 0 };
        let length = self.lengths.get(row).copied().unwrap_or_default();
        u64::from(self.saturations.contribution(term.weight, term.list.frequency(entry), length))
    }
}

fn scan_term(list: PostingList<'_>, count: u32, documents: u64, average_length: f32) -> ScanTerm<'_> {
    let weight = inverse_document_frequency(documents, list.containing()) * count as f32;
    let (max_frequency, min_length) = list.bounds();
    // Rounding may break the formula's monotony by a few units of the last place.
    let bound = contribution(weight, max_frequency, min_length, average_length);
    let bound = bound.saturating_add(bound >> 20).saturating_add(2);
    ScanTerm { list, block: &[], weight, bound }
}

fn block_of(entries: &[Entry], start: usize) -> &[Entry] {
    let from = entries.partition_point(|entry| (row_of(*entry) as usize) < start);
    let rest = entries.get(from..).unwrap_or_default();
    let to = rest.partition_point(|entry| (row_of(*entry) as usize) < start + BLOCK);
    rest.get(..to).unwrap_or_default()
}
