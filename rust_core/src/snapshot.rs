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
//!          terms      count u32, then each: bytes u32, UTF-8
//!          rows       count u32, then each:
//!                     id 16 | order u64 | 4 times i64 | session u32 | agent u32 | speaker u32 | metadata u32
//!                     tokens u32 | prior i32 | heat u32 | heat since i64 | tier u8 | kind u8 | flags u8
//!                     links: count u32, then each: id 16
//!                     per view, and for the session text: terms u32, then each: term u32, frequency u16
//!                     per view: scale f32 | high plane | low plane, if there are     whole lines of 64 bytes
//! ```

use std::collections::BTreeMap;

use crate::columns::Row;
use crate::error::CoreError;
use crate::lexical::postings::AnalysedRow;
use crate::metadata::{Scalar, check_scalar};
use crate::partition::{MAX_ROWS, Partition, Schema};
use crate::vector::{LINE, Line, lines_for};

const MAGIC: [u8; 4] = *b"LMPS";
const FORMAT: u32 = 2;
const HEADER_BYTES: usize = 20;

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
    for (name, _) in names {
        out.text(name);
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
        for terms in partition.lexical.row_terms(position as u32) {
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
    let terms = (0..reader.u32()?).map(|_| reader.text()).collect::<Result<Vec<_>, _>>()?;
    let count = reader.u32()? as usize;
    // A checksum is no proof of honesty: a count must not make us allocate what the bytes can't hold.
    if count > MAX_ROWS || count > payload.len() {
        return Err(CoreError::InvalidSnapshot("too many rows"));
    }
    partition.reserve_exact(count);
    for _ in 0..count {
        let mut row = reader.row()?;
        let name = |number: u32| names.get(number as usize).ok_or(CoreError::InvalidSnapshot("unknown name"));
        let links = (0..reader.u32()?).map(|_| reader.array()).collect::<Result<Vec<_>, _>>()?;
        let names = [name(row.session)?, name(row.agent)?, name(row.speaker)?].map(String::as_str);
        let set = metadata.get(row.metadata as usize).ok_or(CoreError::InvalidSnapshot("unknown metadata"))?;
        if row.tier > 31 || row.kind > 31 || partition.position(&row.id).is_some() {
            return Err(CoreError::InvalidSnapshot("impossible row"));
        }
        let analysed = reader.analysed(schema.views + 1, &terms)?;
        let vectors = (0..schema.views).map(|_| reader.vector(&schema)).collect::<Result<Vec<_>, _>>()?;
        partition.intern(&mut row, names, set);
        partition.links.set(row.id, &links);
        partition.append(&row, &analysed, |view, store| {
            if let Some((scale, high, low)) = vectors.get(view) {
                store.push_raw(*scale, high, low);
            }
        });
    }
    if reader.0.is_empty() { Ok(partition) } else { Err(CoreError::InvalidSnapshot("bytes left over")) }
}

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
        String::from_utf8(self.take(length)?.to_vec()).map_err(|_| CoreError::InvalidSnapshot("text is not UTF-8"))
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
            check_scalar(&value, 0)?;
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

    fn analysed(&mut self, views: usize, terms: &[String]) -> Result<AnalysedRow, CoreError> {
        let mut counted = Vec::with_capacity(views);
        for _ in 0..views {
            let mut view: Vec<(Box<str>, u32)> = Vec::new();
            for _ in 0..self.u32()? {
                let term = terms.get(self.u32()? as usize).ok_or(CoreError::InvalidSnapshot("unknown term"))?;
                let frequency = u16::from_le_bytes(self.array()?);
                if frequency == 0 {
                    return Err(CoreError::InvalidSnapshot("a term that does not occur"));
                }
                view.push((term.as_str().into(), u32::from(frequency)));
            }
            view.sort_unstable();
            if view.windows(2).any(|pair| matches!(pair, [(a, _), (b, _)] if a == b)) {
                return Err(CoreError::InvalidSnapshot("a term twice"));
            }
            counted.push(view);
        }
        Ok(AnalysedRow::from_counts(counted))
    }

    #[allow(clippy::type_complexity)] // one vector's parts
    fn vector(&mut self, schema: &Schema) -> Result<(f32, Vec<Line<u8>>, Vec<Line<i8>>), CoreError> {
        let scale = f32::from_le_bytes(self.array()?);
        if !scale.is_finite() || scale < 0.0 {
            return Err(CoreError::InvalidSnapshot("impossible scale"));
        }
        let lines = lines_for(schema.dim);
        let mut plane = |lines: usize| (0..lines).map(|_| self.array::<LINE>()).collect::<Result<Vec<_>, _>>();
        let (high, low) = (plane(lines)?, plane(if schema.rescore_vectors { lines } else { 0 })?);
        let signed = |line: [u8; LINE]| Line(line.map(u8::cast_signed));
        Ok((scale, high.into_iter().map(Line).collect(), low.into_iter().map(signed).collect()))
    }
}
