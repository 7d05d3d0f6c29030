//! From the dataclasses of `lightmem_server/core.py` to the core's types, and back.
//!
//! Whatever is wrong with an argument becomes a `CoreError` that names it. Everything is copied out, so that the work
//! itself runs without the GIL on memory that no Python thread can change.

use std::collections::BTreeMap;
use std::time::Duration;

use lightmem_core::filter::SearchFilter;
use lightmem_core::metadata::{Expression, MAX_DEPTH, Operator, Scalar};
use lightmem_core::rows::{Id, Rows};
use lightmem_core::search::{FusionMethod, SearchPlan, SearchResult, default_rescore};
use lightmem_core::tiers::{Event, Heat, Tracked};
use numpy::ndarray::ArrayView2;
use numpy::{Element, PyArray1, PyArrayDyn, PyArrayMethods, PyUntypedArrayMethods, ToPyArray};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyDict, PyFloat, PyInt, PyList, PySequence, PyString};

use crate::error::refused;

fn field<'py, T>(object: &Bound<'py, PyAny>, name: &str, expected: &str) -> PyResult<T>
where
    T: for<'a> FromPyObject<'a, 'py>,
{
    object.getattr(name)?.extract().map_err(|_| refused(name, expected))
}

/// [`field`] by an interned name: a search reads thirty of them, and making each string anew would take it microseconds.
macro_rules! field {
    ($object:expr, $name:literal, $expected:expr) => {{
        let object = $object;
        object.getattr(intern!(object.py(), $name))?.extract().map_err(|_| refused($name, $expected))
    }};
}

/// An attribute by an interned name.
macro_rules! attribute {
    ($object:expr, $name:literal) => {{
        let object = $object;
        object.getattr(intern!(object.py(), $name))
    }};
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

fn scalar(value: &Bound<'_, PyAny>) -> PyResult<Scalar> {
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

/// A `core.SearchPlan`.
pub fn plan(value: &Bound<'_, PyAny>, dim: usize) -> PyResult<SearchPlan> {
    let number = "a whole number, not negative";
    let numbers = "a sequence of numbers";
    let list_depth = field!(value, "list_depth", number)?;
    let rescore: usize = field!(value, "rescore", number)?;
    let deadline: u64 = field!(value, "deadline_micros", number)?;
    Ok(SearchPlan {
        vectors: array(
            &attribute!(value, "vectors")?,
            "vectors",
            &[None, Some(dim)],
            format_args!("(q, {dim}) float32, C-contiguous"),
        )?,
        texts: field!(value, "texts", "a sequence of strings")?,
        vector_weights: field!(value, "vector_weights", numbers)?,
        text_weights: field!(value, "text_weights", numbers)?,
        dense_weights: field!(value, "dense_weights", numbers)?,
        lexical_weights: field!(value, "lexical_weights", numbers)?,
        list_depth,
        rescore: if rescore == 0 { default_rescore(list_depth) } else { rescore },
        max_candidates: field!(value, "max_candidates", number)?,
        now: field!(value, "now", "int64 microseconds")?,
        rrf_k: field!(value, "rrf_k", "a number")?,
        filter: filter(&attribute!(value, "filter")?)?,
        fusion: fusion(&attribute!(value, "fusion")?)?,
        boost: field!(value, "boost", "a number")?,
        boost_from: field!(value, "boost_from", "int64 microseconds")?,
        boost_to: field!(value, "boost_to", "int64 microseconds")?,
        deadline: (deadline > 0).then(|| Duration::from_micros(deadline)),
        speakers: field!(value, "speakers", "strings")?,
        speaker_boost: field!(value, "speaker_boost", "a number")?,
        prior_weight: field!(value, "prior_weight", "a number")?,
        session_weight: field!(value, "session_weight", "a number")?,
        heat_weight: field!(value, "heat_weight", "a number")?,
        link_weight: field!(value, "link_weight", "a number")?,
        link_depth: field!(value, "link_depth", number)?,
        duplicate_similarity: field!(value, "duplicate_similarity", "a number")?,
    })
}

fn fusion(value: &Bound<'_, PyAny>) -> PyResult<FusionMethod> {
    match value.extract::<&str>() {
        Ok("rrf") => Ok(FusionMethod::ReciprocalRank),
        Ok("score") => Ok(FusionMethod::Score),
        _ => Err(refused("fusion", "\"score\" or \"rrf\"")),
    }
}

fn filter(value: &Bound<'_, PyAny>) -> PyResult<SearchFilter> {
    let expression = attribute!(value, "metadata")?;
    Ok(SearchFilter {
        tiers: codes(&attribute!(value, "tiers")?, "tiers")?,
        kinds: codes(&attribute!(value, "kinds")?, "kinds")?,
        sessions: field!(value, "sessions", "strings")?,
        agents: field!(value, "agents", "strings")?,
        occurred_from: field!(value, "occurred_from", "int64 microseconds")?,
        occurred_to: field!(value, "occurred_to", "int64 microseconds")?,
        as_of: field!(value, "as_of", "int64 microseconds or None")?,
        metadata: if expression.is_none() { None } else { Some(metadata_expression(&expression, 1)?) },
    })
}

/// Numbers of tiers or kinds.
fn codes(value: &Bound<'_, PyAny>, name: &str) -> PyResult<Vec<u8>> {
    let codes: Vec<u16> = value.extract().map_err(|_| refused(name, "small numbers"))?;
    Ok(codes.into_iter().map(saturate).collect())
}

/// Too large codes stay too large, so that the core refuses them by name. (`Vec<u8>` would take `bytes`.)
fn saturate(code: u16) -> u8 {
    u8::try_from(code).unwrap_or(u8::MAX)
}

/// A `types.MetadataExpression`, told apart by its fields: the binding imports no Python module.
fn metadata_expression(value: &Bound<'_, PyAny>, level: usize) -> PyResult<Expression> {
    if level > MAX_DEPTH {
        return Err(refused("filter.metadata", &format!("at most {MAX_DEPTH} levels")));
    }
    let name = value.get_type().name()?;
    let list = || -> PyResult<Vec<Expression>> {
        value.getattr("filters")?.try_iter()?.map(|inner| metadata_expression(&inner?, level + 1)).collect()
    };
    match name.to_str()? {
        "AllOf" => Ok(Expression::All(list()?)),
        "AnyOf" => Ok(Expression::Any(list()?)),
        "Not" => Ok(Expression::Not(Box::new(metadata_expression(&value.getattr("filter")?, level + 1)?))),
        "Condition" => {
            let mut values = Vec::new();
            for inner in value.getattr("values")?.try_iter()? {
                values.push(scalar(&inner?)?);
            }
            let operator = match field(value, "operator", "a types.Operator")? {
                1 => Operator::Eq,
                2 => Operator::Ne,
                3 => Operator::Gt,
                4 => Operator::Gte,
                5 => Operator::Lt,
                6 => Operator::Lte,
                7 => Operator::In,
                8 => Operator::Contains,
                _ => return Err(refused("operator", "a types.Operator")),
            };
            Ok(Expression::Condition { key: field(value, "key", "a string")?, operator, values })
        }
        _ => Err(refused("filter.metadata", "Condition, AllOf, AnyOf or Not")),
    }
}

/// The fields of a `core.SearchResult`.
///
/// Copied into arrays of `NumPy`'s own: for some dozens of hits that costs less than an owner for each of our vectors.
pub fn result<'py>(py: Python<'py>, found: &SearchResult, sources: &[Py<PyString>]) -> PyResult<Bound<'py, PyDict>> {
    let m = found.ids.len();
    let shaped = |error: numpy::ndarray::ShapeError| refused("result", &error.to_string());
    let ids = ArrayView2::from_shape((m, 16), found.ids.as_flattened()).map_err(shaped)?;
    let ranks = ArrayView2::from_shape((m, sources.len()), &found.ranks).map_err(shaped)?;
    let parts = ArrayView2::from_shape((m, found.part_count), &found.parts).map_err(shaped)?;
    let fields = PyDict::new(py);
    fields.set_item(intern!(py, "ids"), ids.to_pyarray(py))?;
    fields.set_item(intern!(py, "scores"), PyArray1::from_slice(py, &found.scores))?;
    fields.set_item(intern!(py, "sources"), PyList::new(py, sources)?)?;
    fields.set_item(intern!(py, "ranks"), ranks.to_pyarray(py))?;
    fields.set_item(intern!(py, "parts"), parts.to_pyarray(py))?;
    fields.set_item(intern!(py, "similarities"), PyArray1::from_slice(py, &found.similarities))?;
    if !found.duplicates.is_empty() {
        let (ids, hits): (Vec<Id>, Vec<u32>) = found.duplicates.iter().copied().unzip();
        let ids = ArrayView2::from_shape((hits.len(), 16), ids.as_flattened()).map_err(shaped)?.to_pyarray(py);
        fields.set_item(intern!(py, "duplicate_ids"), ids)?;
        fields.set_item(intern!(py, "duplicate_of"), PyArray1::from_slice(py, &hits))?;
    }
    fields.set_item(intern!(py, "matched_count"), found.matched_count)?;
    fields.set_item(intern!(py, "scanned_count"), found.scanned_count)?;
    fields.set_item(intern!(py, "is_complete"), found.is_complete)?;
    fields.set_item(intern!(py, "is_exact"), found.is_exact)?;
    Ok(fields)
}

/// Names of the lists' sources, in the order of the ranks.
pub fn sources(py: Python<'_>, view_names: &[String]) -> Vec<Py<PyString>> {
    let named = |method: &'static str| {
        view_names.iter().map(move |name| PyString::new(py, &format!("{method}_{name}")).unbind())
    };
    named("dense").chain(named("lexical")).collect()
}
