//! From the dataclasses of `lightmem_server/core.py` to the core's types.
//!
//! Whatever is wrong with an argument becomes a `CoreError` that names it. Everything is copied out, so that the work
//! itself runs without the GIL on memory that no Python thread can change.

use std::collections::BTreeMap;

use lightmem_core::metadata::Scalar;
use lightmem_core::rows::{Id, Rows};
use lightmem_core::tiers::{Event, Heat, Tracked};
use numpy::{Element, PyArrayDyn, PyArrayMethods, PyUntypedArrayMethods};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyDict, PyFloat, PyInt, PySequence, PyString};

use crate::error::refused;

/// The value of the argument `name`.
pub fn extract<'py, T>(value: &Bound<'py, PyAny>, name: &str, expected: &str) -> PyResult<T>
where
    T: for<'a> FromPyObject<'a, 'py>,
{
    value.extract().map_err(|_| refused(name, expected))
}

/// The value of an attribute.
pub fn field<'py, T>(object: &Bound<'py, PyAny>, name: &str, expected: &str) -> PyResult<T>
where
    T: for<'a> FromPyObject<'a, 'py>,
{
    extract(&object.getattr(name)?, name, expected)
}

/// A C-contiguous array of the wanted dtype; `None` in `shape` stands for any length.
fn array<T: Element + Copy>(
    value: &Bound<'_, PyAny>,
    name: &str,
    shape: &[Option<usize>],
    expected: std::fmt::Arguments<'_>,
) -> PyResult<Vec<T>> {
    let refuse = || refused(name, &expected.to_string());
    let array = value.cast::<PyArrayDyn<T>>().map_err(|_| refuse())?;
    let fits = array.shape().len() == shape.len()
        && array.shape().iter().zip(shape).all(|(&actual, wanted)| wanted.is_none_or(|wanted| wanted == actual));
    // `as_slice` alone would take Fortran order too, with the elements in another order than the shape says.
    if !fits || !array.is_c_contiguous() {
        return Err(refuse());
    }
    array.try_readonly().map_err(|_| refuse())?.as_slice().map(<[T]>::to_vec).map_err(|_| refuse())
}

fn column<T: Element + Copy>(rows: &Bound<'_, PyAny>, name: &str, expected: &str) -> PyResult<Vec<T>> {
    array(&rows.getattr(name)?, name, &[None], format_args!("{expected}"))
}

/// (n, 16) uint8.
pub fn ids(value: &Bound<'_, PyAny>, name: &str) -> PyResult<Vec<Id>> {
    let bytes: Vec<u8> = array(value, name, &[None, Some(16)], format_args!("(n, 16) uint8"))?;
    Ok(bytes.as_chunks::<16>().0.to_vec())
}

/// A `core.Rows`.
pub fn rows(value: &Bound<'_, PyAny>, views: usize, dim: usize) -> PyResult<Rows> {
    let texts: Vec<Vec<String>> = field(value, "texts", "n lists of strings")?;
    if texts.iter().any(|row| row.len() != views) {
        return Err(refused("texts", &format!("{views} strings per row")));
    }
    Ok(Rows {
        ids: ids(&value.getattr("ids")?, "ids")?,
        vectors: array(
            &value.getattr("vectors")?,
            "vectors",
            &[None, Some(views), Some(dim)],
            format_args!("(n, {views}, {dim}) float32, C-contiguous"),
        )?,
        texts: texts.into_iter().flatten().collect(),
        tiers: column(value, "tiers", "(n,) uint8")?,
        kinds: column(value, "kinds", "(n,) uint8")?,
        sessions: field(value, "sessions", "n strings")?,
        agents: field(value, "agents", "n strings")?,
        occurred_at: column(value, "occurred_at", "(n,) int64")?,
        valid_from: column(value, "valid_from", "(n,) int64")?,
        valid_to: column(value, "valid_to", "(n,) int64")?,
        expires_at: column(value, "expires_at", "(n,) int64")?,
        token_counts: column(value, "token_counts", "(n,) uint32")?,
        is_archived: column(value, "is_archived", "(n,) bool")?,
        is_pinned: column(value, "is_pinned", "(n,) bool")?,
        in_ring: column(value, "in_ring", "(n,) bool")?,
        metadata: metadata(&value.getattr("metadata")?)?,
        orders: column(value, "orders", "(n,) uint64")?,
        speakers: field(value, "speakers", "n strings, or none")?,
        priors: if value.getattr("priors")?.is_none() { Vec::new() } else { column(value, "priors", "(n,) float32")? },
        session_texts: field(value, "session_texts", "n strings, or none")?,
        links: links(&value.getattr("links")?)?,
        heats: heats(value)?,
    })
}

/// Two columns, or none.
fn heats(rows: &Bound<'_, PyAny>) -> PyResult<Vec<Heat>> {
    if rows.getattr("heats")?.is_none() {
        return Ok(Vec::new());
    }
    let values: Vec<f32> = column(rows, "heats", "(n,) float32")?;
    let since: Vec<i64> = column(rows, "heats_since", "(n,) int64")?;
    if values.len() != since.len() {
        return Err(refused("heats_since", "as many entries as heats"));
    }
    Ok(values.into_iter().zip(since).map(|(value, since)| Heat { value: f64::from(value), since }).collect())
}

/// Per row, ids of 16 bytes one after the other.
fn links(value: &Bound<'_, PyAny>) -> PyResult<Vec<Vec<Id>>> {
    let expected = "n bytes, each of whole ids of 16 bytes, or none";
    let sequence = value.cast::<PySequence>().map_err(|_| refused("links", expected))?;
    let mut rows = Vec::with_capacity(sequence.len()?);
    for row in sequence.try_iter()? {
        let row = row?;
        let bytes = row.cast::<PyBytes>().map_err(|_| refused("links", expected))?.as_bytes();
        let (ids, []) = bytes.as_chunks::<16>() else { return Err(refused("links", expected)) };
        rows.push(ids.to_vec());
    }
    Ok(rows)
}

/// A `core.TierEvents`.
pub fn events(value: &Bound<'_, PyAny>) -> PyResult<Vec<Event>> {
    let kinds: Vec<u8> = column(value, "kinds", "(n,) uint8")?;
    let ids = ids(&value.getattr("ids")?, "ids")?;
    let times: Vec<i64> = column(value, "times", "(n,) int64")?;
    let counts: Vec<u32> = column(value, "counts", "(n,) uint32")?;
    let sessions: Vec<String> = field(value, "sessions", "n strings")?;
    let orders: Vec<u64> = column(value, "orders", "(n,) uint64")?;
    let tiers: Vec<u8> = column(value, "tiers", "(n,) uint8")?;
    let occurred_at: Vec<i64> = column(value, "occurred_at", "(n,) int64")?;
    let confidences: Vec<f32> = column(value, "confidences", "(n,) float32")?;
    let is_turn: Vec<bool> = column(value, "is_turn", "(n,) bool")?;
    let lengths = [
        ids.len(),
        times.len(),
        counts.len(),
        sessions.len(),
        orders.len(),
        tiers.len(),
        occurred_at.len(),
        confidences.len(),
        is_turn.len(),
    ];
    if lengths.iter().any(|&length| length != kinds.len()) {
        return Err(refused("events", "columns of one length"));
    }
    let said =
        kinds.iter().zip(ids).zip(times.iter().zip(counts)).map(|((&kind, id), (&at, count))| (kind, id, at, count));
    let added =
        sessions.into_iter().zip(orders).zip(tiers.iter().zip(occurred_at)).zip(confidences.iter().zip(is_turn));
    said.zip(added)
        .map(|((kind, id, at, count), (((session, order), (&tier, occurred_at)), (&confidence, is_turn)))| match kind {
            1 => Ok(Event::Added(Tracked {
                id,
                session,
                order,
                token_count: count,
                is_turn,
                tier,
                occurred_at,
                heat: Heat { value: 0.0, since: at },
                confidence: f64::from(confidence),
                support: 0,
                is_pinned: false,
                is_archived: false,
                is_consolidated: false,
            })),
            2 => Ok(Event::Accessed { id, at, count }),
            3 => Ok(Event::Pinned(id)),
            4 => Ok(Event::Unpinned(id)),
            5 => Ok(Event::Supported { id, count }),
            6 => Ok(Event::Consolidated(id)),
            7 => Ok(Event::Archived(id)),
            8 => Ok(Event::Restored(id)),
            9 => Ok(Event::Removed(id)),
            10 => Ok(Event::Passed(at)),
            _ => Err(refused("kinds", "numbers of core.TierEvent")),
        })
        .collect()
}

fn metadata(value: &Bound<'_, PyAny>) -> PyResult<Vec<BTreeMap<String, Scalar>>> {
    let refuse = || refused("metadata", "n dicts from strings to scalars");
    let sequence = value.cast::<PySequence>().map_err(|_| refuse())?;
    let mut rows = Vec::with_capacity(sequence.len()?);
    for row in sequence.try_iter()? {
        let row = row?;
        let dict = row.cast::<PyDict>().map_err(|_| refuse())?;
        let mut map = BTreeMap::new();
        for (key, value) in dict {
            map.insert(key.extract().map_err(|_| refuse())?, scalar(&value)?);
        }
        rows.push(map);
    }
    Ok(rows)
}

/// A value of a row's metadata, or of a condition on it.
pub fn scalar(value: &Bound<'_, PyAny>) -> PyResult<Scalar> {
    // bool first: in Python it is an int.
    if let Ok(truth) = value.cast::<PyBool>() {
        Ok(Scalar::Bool(truth.is_true()))
    } else if value.is_instance_of::<PyString>() {
        value.extract().map(Scalar::Text).map_err(|_| refused("metadata", "text in UTF-8"))
    } else if value.is_instance_of::<PyInt>() {
        value.extract().map(Scalar::Int).map_err(|_| refused("metadata", "integers of 64 bits"))
    } else if value.is_instance_of::<PyFloat>() {
        value.extract().map(Scalar::Float)
    } else {
        Err(refused("metadata", "strings, integers, floats and truth values"))
    }
}
