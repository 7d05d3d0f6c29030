//! From text to terms.
//!
//! Words by Unicode's rules (UAX 29), decomposed and lower-cased, accents of Latin, Greek and Cyrillic letters dropped,
//! stop words dropped, stemmed with Snowball. Chinese, Japanese and Korean runs become overlapping pairs of characters,
//! since they aren't written with spaces; a lone character stands for itself.

use frostem::Stemmer;
use unicode_normalization::UnicodeNormalization;
use unicode_segmentation::UnicodeSegmentation;

use crate::error::CoreError;

/// Longer terms are cut, in texts and queries alike; what is longer is data, not language.
const MAX_TERM_BYTES: usize = 128;

/// English words that carry no subject. Sorted by bytes, after [`Analyser`]'s folding.
const ENGLISH_STOP_WORDS: [&str; 137] = [
    "a", "about", "after", "again", "all", "also", "am", "an", "and", "any", "are", "aren't", "as", "at", "be",
    "because", "been", "before", "being", "both", "but", "by", "can", "can't", "could", "couldn't", "did", "didn't",
    "do", "does", "doesn't", "doing", "don't", "down", "during", "each", "for", "from", "had", "has", "hasn't", "have",
    "haven't", "having", "he", "he's", "her", "here", "hers", "him", "his", "how", "i", "i'd", "i'll", "i'm", "i've",
    "if", "in", "into", "is", "isn't", "it", "it's", "its", "just", "let's", "me", "more", "most", "my", "myself",
    "no", "not", "now", "of", "off", "on", "only", "or", "other", "our", "ours", "out", "over", "own", "same", "she",
    "she's", "should", "so", "some", "such", "than", "that", "that's", "the", "their", "theirs", "them", "then",
    "there", "there's", "these", "they", "they're", "this", "those", "through", "to", "too", "until", "up", "very",
    "was", "wasn't", "we", "we're", "were", "what", "what's", "when", "where", "which", "while", "who", "whom", "why",
    "will", "with", "won't", "would", "wouldn't", "you", "you're", "your", "yours",
];

/// Turns texts into terms for one language.
#[derive(Clone, Copy)]
pub struct Analyser {
    stemmer: Option<Stemmer>,
    stop_words: &'static [&'static str],
}

impl std::fmt::Debug for Analyser {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Analyser").field("language", &self.stemmer.map(Stemmer::algorithm)).finish_non_exhaustive()
    }
}

impl Analyser {
    /// The analyser of a language: `none` (no stemming, no stop words) or a name that Snowball knows, such as `english`
    /// or `en`. Stop words are dropped for English only.
    ///
    /// # Errors
    /// [`CoreError::UnknownLanguage`].
    pub fn new(language: &str) -> Result<Self, CoreError> {
        if language == "none" {
            return Ok(Self { stemmer: None, stop_words: &[] });
        }
        let stemmer = Stemmer::try_from_name(language).map_err(|_| CoreError::UnknownLanguage(language.to_owned()))?;
        let is_english = stemmer.algorithm() == frostem::Algorithm::English;
        Ok(Self { stemmer: Some(stemmer), stop_words: if is_english { &ENGLISH_STOP_WORDS } else { &[] } })
    }

    /// Its language: `none`, or Snowball's name of it, whatever name it was made with.
    #[must_use]
    pub fn language(&self) -> &'static str {
        self.stemmer.map_or("none", |stemmer| stemmer.algorithm().name())
    }

    /// Call `sink` with each term of a text, in order.
    pub fn analyse(&self, text: &str, mut sink: impl FnMut(&str)) {
        let mut folded = String::new();
        // The last character of an unfinished run of CJK words, where it ends, and whether a pair was made with it.
        let mut run: Option<(char, usize, bool)> = None;
        for (start, word) in text.unicode_word_indices() {
            if word.chars().next().is_some_and(is_cjk) {
                for (offset, c) in word.char_indices() {
                    let at = start + offset;
                    match run {
                        Some((before, end, _)) if end == at => {
                            let mut pair = String::with_capacity(8);
                            pair.extend([before, c]);
                            sink(&pair);
                            run = Some((c, at + c.len_utf8(), true));
                        }
                        unfinished => {
                            sink_lone(unfinished, &mut sink);
                            run = Some((c, at + c.len_utf8(), false));
                        }
                    }
                }
                continue;
            }
            sink_lone(run.take(), &mut sink);
            fold(word, &mut folded);
            if self.stop_words.binary_search(&folded.as_str()).is_ok() {
                continue;
            }
            match self.stemmer {
                Some(stemmer) => sink(&stemmer.stem(&folded)),
                None => sink(&folded),
            }
        }
        sink_lone(run, &mut sink);
    }
}

fn sink_lone(run: Option<(char, usize, bool)>, sink: &mut impl FnMut(&str)) {
    if let Some((c, _, false)) = run {
        sink(c.encode_utf8(&mut [0; 4]));
    }
}

/// Lower case, compatibility forms unified, accents dropped, the typographic apostrophe made plain.
fn fold(word: &str, folded: &mut String) {
    folded.clear();
    if word.is_ascii() {
        folded.push_str(word);
        folded.make_ascii_lowercase();
    } else {
        let is_accent = |c: &char| ('\u{300}'..='\u{36f}').contains(c);
        let plain = word.nfkd().filter(|c| !is_accent(c)).flat_map(char::to_lowercase).filter(|c| !is_accent(c));
        // Composed again, so that scripts whose letters decompose (Korean, Indic) keep their usual form.
        folded.extend(plain.map(|c| if c == '\u{2019}' { '\'' } else { c }).nfc());
    }
    folded.truncate(folded.floor_char_boundary(MAX_TERM_BYTES));
}

fn is_cjk(c: char) -> bool {
    matches!(c,
        '\u{3040}'..='\u{30ff}'      // Hiragana, Katakana
        | '\u{3400}'..='\u{4dbf}'    // Han, extension A
        | '\u{4e00}'..='\u{9fff}'    // Han
        | '\u{ac00}'..='\u{d7a3}'    // Hangul
        | '\u{f900}'..='\u{faff}'    // Han, compatibility
        | '\u{20000}'..='\u{323af}') // Han, extensions B to H
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn terms(language: &str, text: &str) -> Vec<String> {
        let mut found = Vec::new();
        Analyser::new(language).unwrap().analyse(text, |term| found.push(term.to_owned()));
        found
    }

    #[test]
    fn stop_words_are_sorted() {
        assert!(ENGLISH_STOP_WORDS.is_sorted());
    }

    #[test]
    fn english_is_folded_stopped_and_stemmed() {
        assert_eq!(
            terms("english", "The Beagles' running, weren’t they? It’s 42.5°"),
            ["beagl", "run", "weren't", "42.5"]
        );
        assert_eq!(terms("english", "Café CAFÉ cafe\u{301}"), ["cafe", "cafe", "cafe"]);
        assert_eq!(terms("en", "I am not there"), Vec::<String>::new());
    }

    #[test]
    fn cjk_becomes_pairs() {
        assert_eq!(terms("english", "東京都に行く"), ["東京", "京都", "都に", "に行", "行く"]);
        assert_eq!(terms("english", "猫 loves 犬"), ["猫", "love", "犬"]);
        assert_eq!(terms("none", "한국어 말"), ["한국", "국어", "말"]);
    }

    #[test]
    fn other_languages_have_stemmers() {
        assert_eq!(terms("german", "Häuser"), terms("german", "haus"));
        assert!(matches!(Analyser::new("klingon"), Err(CoreError::UnknownLanguage(_))));
    }

    #[test]
    fn long_terms_are_cut_alike() {
        let long = "é".repeat(300);
        assert_eq!(terms("none", &long), ["e".repeat(MAX_TERM_BYTES)]);
    }

    proptest! {
        #[test]
        fn any_text_is_analysed(text in "\\PC{0,80}", words in prop::collection::vec("[a-zA-Z']{1,12}", 0..10)) {
            for language in ["english", "none", "german", "arabic", "turkish"] {
                for text in [text.as_str(), words.join(" ").as_str()] {
                    prop_assert!(terms(language, text).iter().all(|term| term.len() <= 2 * MAX_TERM_BYTES));
                }
            }
        }
    }
}
