//! A partition as bytes, for a cache on disk or another node. The store stays the truth: whoever finds a snapshot refused
//! loads the rows from there.
//!
//! Little-endian throughout. Numbers of views and of dimensions are those of the engine that reads it.
//!
//! ```text
//! header   magic "LMPS" | format u32 = 2 | CRC-32 of the payload u32 | payload bytes u64
//! payload  views u32 | dim u32 | has low planes u32 | language: bytes u32, UTF-8 | version u64
//!          names      count u32, then each: bytes u32, UTF-8       sessions, agents and speakers, by number
//!          metadata   count u32, then each set: pairs u32, then each: key, tag u8, value
//!          terms      count u32, then each: bytes u32, at most 65,535, UTF-8
//!          rows       count u32, then each:
//!                     id 16 | order u64 | 4 times i64 | session u32 | agent u32 | speaker u32 | metadata u32
//!                     tokens u32 | prior i32 | heat u32 | heat since i64 | tier u8 | kind u8 | flags u8
//!                     links: count u32, then each: id 16
//!                     per view, and for the session text: terms u32, then each: term u32, frequency u16
//!                     per view: scale f32 | high plane | low plane, if there are     whole lines of 64 bytes
//! ```

use std::collections::BTreeMap;

use crate::columns::{ARCHIVED, IN_RING, PINNED, PRIOR_UNIT, Row};
use crate::error::CoreError;
use crate::lexical::postings::{LexicalIndex, MAX_TEXT_BYTES};
use crate::metadata::{Scalar, check_scalar};
use crate::partition::{MAX_ROWS, Partition, Schema};
use crate::rows::MAX_PRIOR;
use crate::vector::{LINE, lines_for};

const MAGIC: [u8; 4] = *b"LMPS";
const FORMAT: u32 = 2;
const HEADER_BYTES: usize = 20;
/// Bytes of a row before its terms and vectors, without links.
const SCALAR_BYTES: usize = 99;

/// Write a partition.
#[must_use]
pub fn export(partition: &Partition) -> Vec<u8> {
    let mut out = Writer(vec![0; HEADER_BYTES]);
    out.u32(partition.schema().views as u32);
    out.u32(partition.schema().dim as u32);
    out.u32(u32::from(partition.schema().rescore_vectors));
    out.text(partition.schema().analyser.language());
    out.bytes(&partition.version().to_le_bytes());
    let mut names = partition.names();
    names.sort_unstable_by_key(|(_, number)| *number);
    out.u32(names.len() as u32);
    let used = used_names(partition, names.len());
    for ((name, _), is_used) in names.into_iter().zip(used) {
        out.text(if is_used { name } else { "" });
    }
    out.u32(partition.metadata.len() as u32);
    for number in 0..partition.metadata.len() as u32 {
        let pairs: Vec<_> = partition.metadata.get(number).map(|set| set.iter().collect()).unwrap_or_default();
        out.u32(pairs.len() as u32);
        for (key, value) in pairs {
            out.text(key);
            out.scalar(value);
        }
    }
    let terms = partition.lexical.term_texts();
    out.u32(terms.len() as u32);
    for term in terms {
        out.text(term);
    }
    out.u32(partition.len() as u32);
    for position in 0..partition.len() {
        if let Some(row) = partition.columns.get(position) {
            out.row(&row);
            let links = partition.links.targets(&row.id);
            out.u32(links.len() as u32);
            out.bytes(links.as_flattened());
        }
        for mut terms in partition.lexical.row_terms(position as u32) {
            // As the reader will number them, so that the same rows give the same bytes.
            terms.sort_unstable();
            out.u32(terms.len() as u32);
            for (term, frequency) in terms {
                out.u32(term);
                out.bytes(&frequency.to_le_bytes());
            }
        }
        for store in &partition.vectors {
            let (scale, high, low) = store.raw(position);
            out.bytes(&scale.to_le_bytes());
            for line in high {
                out.bytes(&line.0);
            }
            for line in low {
                out.bytes(&line.0.map(i8::cast_unsigned));
            }
        }
    }
    let mut bytes = out.0;
    let payload = bytes.get(HEADER_BYTES..).unwrap_or_default();
    let header = [
        MAGIC.as_slice(),
        &FORMAT.to_le_bytes(),
        &crc32fast::hash(payload).to_le_bytes(),
        &(payload.len() as u64).to_le_bytes(),
    ]
    .concat();
    for (byte, value) in bytes.iter_mut().zip(header) {
        *byte = value;
    }
    bytes
}

/// Which names a row has: a partition remembers those of rows that were removed, and they must not outlive them on disk.
fn used_names(partition: &Partition, count: usize) -> Vec<bool> {
    let mut used = vec![false; count];
    let columns = &partition.columns;
    for &number in columns.session.iter().chain(&columns.agent).chain(&columns.speaker) {
        if let Some(is_used) = used.get_mut(number as usize) {
            *is_used = true;
        }
    }
    used
}

/// Read a partition.
///
/// # Errors
/// [`CoreError::InvalidSnapshot`] for bytes that are damaged, cut short, of another format, or of other dimensions.
pub fn import(schema: Schema, bytes: &[u8]) -> Result<Partition, CoreError> {
    let (header, payload) = bytes.split_at_checked(HEADER_BYTES).ok_or(CoreError::InvalidSnapshot("too short"))?;
    let mut header = Reader(header);
    if header.array()? != MAGIC {
        return Err(CoreError::InvalidSnapshot("not a snapshot"));
    }
    if header.u32()? != FORMAT {
        return Err(CoreError::InvalidSnapshot("written in another format"));
    }
    let checksum = header.u32()?;
    if header.u64()? != payload.len() as u64 {
        return Err(CoreError::InvalidSnapshot("cut short"));
    }
    if crc32fast::hash(payload) != checksum {
        return Err(CoreError::InvalidSnapshot("checksum mismatch"));
    }
    let mut reader = Reader(payload);
    if (reader.u32()? as usize, reader.u32()? as usize) != (schema.views, schema.dim) {
        return Err(CoreError::InvalidSnapshot("other views or dimensions"));
    }
    if (reader.u32()? != 0) != schema.rescore_vectors {
        return Err(CoreError::InvalidSnapshot("other planes of vectors"));
    }
    if reader.text()? != schema.analyser.language() {
        return Err(CoreError::InvalidSnapshot("in another language"));
    }
    let mut partition = Partition::empty(schema, reader.u64()?);
    let names = (0..reader.u32()?).map(|_| reader.text()).collect::<Result<Vec<_>, _>>()?;
    let metadata = (0..reader.u32()?).map(|_| reader.metadata()).collect::<Result<Vec<_>, _>>()?;
    let mut terms = (0..reader.u32()?).map(|_| Ok((reader.term()?, None))).collect::<Result<Terms, _>>()?;
    let count = reader.u32()? as usize;
    // A checksum is no proof of honesty: a count must not make us allocate what the bytes can't hold.
    let plane = lines_for(schema.dim) * LINE;
    let low_plane = if schema.rescore_vectors { plane } else { 0 };
    let vectors = schema.views * (size_of::<f32>() + plane + low_plane);
    let least = SCALAR_BYTES + (schema.views + 1) * size_of::<u32>() + vectors;
    if count > MAX_ROWS.min(reader.0.len() / least) {
        return Err(CoreError::InvalidSnapshot("too many rows"));
    }
    partition.reserve_exact(count);
    for _ in 0..count {
        let mut row = reader.row()?;
        let name = |number: u32| names.get(number as usize).ok_or(CoreError::InvalidSnapshot("unknown name"));
        let links = (0..reader.u32()?).map(|_| reader.array()).collect::<Result<Vec<_>, _>>()?;
        let names = [name(row.session)?, name(row.agent)?, name(row.speaker)?].map(String::as_str);
        let set = metadata.get(row.metadata as usize).ok_or(CoreError::InvalidSnapshot("unknown metadata"))?;
        let is_known = row.flags & !(ARCHIVED | PINNED | IN_RING) == 0;
        let is_prior = row.prior.abs_diff(0) as f32 <= MAX_PRIOR * PRIOR_UNIT;
        if row.tier > 31 || row.kind > 31 || !is_known || !is_prior || partition.position(&row.id).is_some() {
            return Err(CoreError::InvalidSnapshot("impossible row"));
        }
        let analysed = reader.analysed(schema.views + 1, &mut terms, &mut partition.lexical)?;
        let vectors = (0..schema.views).map(|_| reader.vector(plane, low_plane)).collect::<Result<Vec<_>, _>>()?;
        partition.intern(&mut row, names, set);
        partition.links.set(row.id, &links);
        partition.append(
            &row,
            |lexical| lexical.push_numbered(&analysed),
            |view, store| {
                if let Some((scale, high, low)) = vectors.get(view) {
                    store.push_raw(*scale, high, low);
                }
            },
        );
    }
    partition.lexical.shrink_to_fit();
    if reader.0.is_empty() { Ok(partition) } else { Err(CoreError::InvalidSnapshot("bytes left over")) }
}

/// A snapshot's terms by its own numbers, each with the partition's number once a row has used it.
type Terms = Vec<(String, Option<u32>)>;

struct Writer(Vec<u8>);

impl Writer {
    fn bytes(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    fn u32(&mut self, value: u32) {
        self.bytes(&value.to_le_bytes());
    }

    fn text(&mut self, text: &str) {
        self.u32(text.len() as u32);
        self.bytes(text.as_bytes());
    }

    fn scalar(&mut self, value: &Scalar) {
        match value {
            Scalar::Text(text) => {
                self.bytes(&[1]);
                self.text(text);
            }
            Scalar::Int(x) => {
                self.bytes(&[2]);
                self.bytes(&x.to_le_bytes());
            }
            Scalar::Float(x) => {
                self.bytes(&[3]);
                self.bytes(&x.to_le_bytes());
            }
            Scalar::Bool(x) => self.bytes(&[4, u8::from(*x)]),
        }
    }

    fn row(&mut self, row: &Row) {
        self.bytes(&row.id);
        self.bytes(&row.order.to_le_bytes());
        for time in [row.occurred_at, row.valid_from, row.valid_to, row.expires_at] {
            self.bytes(&time.to_le_bytes());
        }
        for number in [row.session, row.agent, row.speaker, row.metadata, row.token_count] {
            self.u32(number);
        }
        self.bytes(&row.prior.to_le_bytes());
        self.u32(row.heat);
        self.bytes(&row.heat_since.to_le_bytes());
        self.bytes(&[row.tier, row.kind, row.flags]);
    }
}

/// What is left to read.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], CoreError> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(CoreError::InvalidSnapshot("cut short"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], CoreError> {
        self.take(N)?.try_into().map_err(|_| CoreError::InvalidSnapshot("cut short"))
    }

    fn u32(&mut self) -> Result<u32, CoreError> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, CoreError> {
        self.array().map(u64::from_le_bytes)
    }

    fn i64(&mut self) -> Result<i64, CoreError> {
        self.array().map(i64::from_le_bytes)
    }

    fn text(&mut self) -> Result<String, CoreError> {
        let length = self.u32()? as usize;
        let text = std::str::from_utf8(self.take(length)?);
        text.map(str::to_owned).map_err(|_| CoreError::InvalidSnapshot("text is not UTF-8"))
    }

    fn term(&mut self) -> Result<String, CoreError> {
        let text = self.text()?;
        if text.len() <= MAX_TEXT_BYTES { Ok(text) } else { Err(CoreError::InvalidSnapshot("impossible term")) }
    }

    fn metadata(&mut self) -> Result<BTreeMap<String, Scalar>, CoreError> {
        let mut map = BTreeMap::new();
        for _ in 0..self.u32()? {
            let key = self.text()?;
            let value = match self.array()? {
                [1] => Scalar::Text(self.text()?),
                [2] => Scalar::Int(self.i64()?),
                [3] => Scalar::Float(f64::from_le_bytes(self.array()?)),
                [4] => Scalar::Bool(self.array::<1>()? != [0]),
                _ => return Err(CoreError::InvalidSnapshot("unknown metadata type")),
            };
            check_scalar(&value, 0).map_err(|_| CoreError::InvalidSnapshot("impossible metadata"))?;
            map.insert(key, value);
        }
        Ok(map)
    }

    fn row(&mut self) -> Result<Row, CoreError> {
        let (id, order) = (self.array()?, self.u64()?);
        let [occurred_at, valid_from, valid_to, expires_at] = [self.i64()?, self.i64()?, self.i64()?, self.i64()?];
        let [session, agent, speaker] = [self.u32()?, self.u32()?, self.u32()?];
        let (metadata, token_count, prior) = (self.u32()?, self.u32()?, i32::from_le_bytes(self.array()?));
        let (heat, heat_since) = (self.u32()?, self.i64()?);
        let [tier, kind, flags] = self.array()?;
        Ok(Row {
            id,
            order,
            occurred_at,
            valid_from,
            valid_to,
            expires_at,
            session,
            agent,
            speaker,
            metadata,
            token_count,
            prior,
            heat,
            heat_since,
            tier,
            kind,
            flags,
        })
    }

    /// Per view, the terms of a row by the partition's numbers.
    fn analysed(
        &mut self,
        views: usize,
        terms: &mut Terms,
        lexical: &mut LexicalIndex,
    ) -> Result<Vec<Vec<(u32, u32)>>, CoreError> {
        let mut counted = Vec::with_capacity(views);
        for _ in 0..views {
            let mut view: Vec<(u32, u32)> = Vec::new();
            for _ in 0..self.u32()? {
                let (text, known) =
                    terms.get_mut(self.u32()? as usize).ok_or(CoreError::InvalidSnapshot("unknown term"))?;
                let frequency = u16::from_le_bytes(self.array()?);
                if frequency == 0 {
                    return Err(CoreError::InvalidSnapshot("a term that does not occur"));
                }
                let number = *known.get_or_insert_with(|| lexical.number_or_insert(text));
                view.push((number, u32::from(frequency)));
            }
            view.sort_unstable();
            if view.windows(2).any(|pair| matches!(pair, [(a, _), (b, _)] if a == b)) {
                return Err(CoreError::InvalidSnapshot("a term twice"));
            }
            counted.push(view);
        }
        Ok(counted)
    }

    /// Scale and both planes, of so many bytes each.
    fn vector(&mut self, high: usize, low: usize) -> Result<(f32, &'a [u8], &'a [u8]), CoreError> {
        let scale = f32::from_le_bytes(self.array()?);
        if !scale.is_finite() || scale < 0.0 {
            return Err(CoreError::InvalidSnapshot("impossible scale"));
        }
        Ok((scale, self.take(high)?, self.take(low)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Engine, EngineOptions};
    use crate::partition::PreparedRows;
    use crate::rows::Rows;

    fn schema() -> Schema {
        *Engine::new(&EngineOptions { dim: 4, views: 1, ..EngineOptions::default() }).unwrap().schema()
    }

    /// Bytes with a good header around a payload.
    fn sealed(payload: &[u8]) -> Vec<u8> {
        let crc = crc32fast::hash(payload).to_le_bytes();
        [&MAGIC[..], &FORMAT.to_le_bytes(), &crc, &(payload.len() as u64).to_le_bytes(), payload].concat()
    }

    #[test]
    fn a_count_of_rows_that_the_bytes_cannot_hold_is_refused() {
        let mut payload = Writer(Vec::new());
        for number in [1, 4, 1] {
            payload.u32(number); // views, dim, low planes
        }
        payload.text("english");
        for number in [0, 0, 0, 0, 0, 2_000] {
            payload.u32(number); // version (two words), no names, sets or terms, rows
        }
        payload.bytes(&[0; 4_000]);
        let refused = import(schema(), &sealed(&payload.0)).unwrap_err();
        assert_eq!(refused, CoreError::InvalidSnapshot("too many rows"));
    }

    #[test]
    fn a_term_too_long_for_the_lists_is_refused() {
        for (length, is_refused) in [(MAX_TEXT_BYTES, false), (MAX_TEXT_BYTES + 1, true)] {
            let mut payload = Writer(Vec::new());
            for number in [1, 4, 1] {
                payload.u32(number); // views, dim, low planes
            }
            payload.text("english");
            for number in [0, 0, 0, 0, 1] {
                payload.u32(number); // version (two words), no names or sets, one term
            }
            payload.text(&"x".repeat(length));
            payload.u32(0); // rows
            let refused = import(schema(), &sealed(&payload.0)).err();
            assert_eq!(refused, is_refused.then_some(CoreError::InvalidSnapshot("impossible term")));
        }
    }

    #[test]
    fn nothing_of_a_removed_row_is_written() {
        let mut rows = Rows::default();
        rows.push_turn([1; 16], &[1.0, 0.0, 0.0, 0.0], &["kept"], "open", 1);
        rows.push_turn([2; 16], &[0.0, 1.0, 0.0, 0.0], &["zanzibar"], "clandestine", 2);
        rows.speakers = vec!["Ana".to_owned(), "Bartholomew".to_owned()];
        rows.metadata[1].insert("passphrase".to_owned(), Scalar::Text("xylophone".to_owned()));
        let prepared = PreparedRows::new(&schema(), &rows).unwrap();
        let mut partition = Partition::new(schema(), 1, &prepared).unwrap();
        let holds = |bytes: &[u8], text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
        let words = ["zanzibar", "clandestine", "Bartholomew", "passphrase", "xylophone"];
        let before = export(&partition);
        assert!(words.iter().all(|word| holds(&before, word)));
        partition.apply(2, &PreparedRows::new(&schema(), &Rows::default()).unwrap(), &[[2; 16]]).unwrap();
        let after = export(&partition);
        assert!(holds(&after, "kept") && !words.iter().any(|word| holds(&after, word)));
        assert_eq!(import(schema(), &after).unwrap().session_ring("open"), [[1; 16]]);
    }
}
