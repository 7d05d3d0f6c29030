//! BM25 over whole sessions: all session texts of a session's rows are one document.
//!
//! A prior for rows: a session in which much was said about the need is the likelier place of an answer, even of one that
//! says none of the query's words. There is no second index: the rows' postings are added up per session at query time.

use hashbrown::HashMap;

use super::postings::LexicalIndex;
use super::scan::{inverse_document_frequency, saturation};

/// Scores of the sessions for one query, the best session's 1.
///
/// `sessions` maps row to session number, `lengths` session number to the terms of its document. A session that shares
/// no term with the query is not in the map.
#[must_use]
pub fn session_scores(
    index: &LexicalIndex,
    view: usize,
    query: &[(Box<str>, u32)],
    sessions: &[u32],
    lengths: &[u64],
) -> HashMap<u32, f64> {
    let documents = lengths.iter().filter(|&&length| length > 0).count() as u64;
    let average_length = (lengths.iter().sum::<u64>() as f32 / documents.max(1) as f32).max(1.0);
    let mut scores: HashMap<u32, f64> = HashMap::new();
    for (term, count) in query {
        let Some(list) = index.list(term, view) else { continue };
        let mut frequencies: HashMap<u32, u64> = HashMap::new();
        for posting in list.postings() {
            if let Some(&session) = sessions.get(posting.row as usize) {
                *frequencies.entry(session).or_default() += u64::from(posting.frequency);
            }
        }
        let weight = inverse_document_frequency(documents, frequencies.len() as u64) * *count as f32;
        for (session, frequency) in frequencies {
            let length = lengths.get(session as usize).copied().unwrap_or_default();
            let share = weight * saturation(frequency as f32, length as f32, average_length);
            *scores.entry(session).or_default() += f64::from(share);
        }
    }
    let best = scores.values().copied().fold(0.0, f64::max);
    if best > 0.0 {
        scores.values_mut().for_each(|score| *score /= best);
    }
    scores
}
