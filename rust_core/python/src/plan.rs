//! What to search for, as Python sees it.
//!
//! Made once per query and held as the core's own types, so that a search, and another of the same plan, reads nothing from
//! Python any more. Fields are taken by name from the keywords in one pass, which `replace` shares.

use std::time::Duration;

use lightmem_core::filter::SearchFilter;
use lightmem_core::metadata::{Expression, MAX_DEPTH, Operator};
use lightmem_core::search::{FusionMethod, SearchPlan, default_rescore};
use numpy::{PyArray2, PyArrayMethods, PyUntypedArrayMethods};
use pyo3::exceptions::PyTypeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

use crate::convert::{extract, field, scalar};
use crate::error::refused;

const NUMBER: &str = "a number";
const COUNT: &str = "a whole number, not negative";
const NUMBERS: &str = "a sequence of numbers";
const STRINGS: &str = "a sequence of strings";
const MICROSECONDS: &str = "int64 microseconds";

/// Which rows a search considers.
#[pyclass(name = "SearchFilter", module = "lightmem_server._core", frozen, eq)]
#[derive(Clone, PartialEq)]
pub struct PySearchFilter {
    filter: SearchFilter,
}

#[pymethods]
impl PySearchFilter {
    #[new]
    #[pyo3(
        signature = (**fields),
        text_signature = "(*, tiers=(), kinds=(), sessions=(), agents=(), occurred_from=-9223372036854775808, \
                          occurred_to=9223372036854775807, as_of=None, metadata=None)"
    )]
    fn new(fields: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        Self { filter: SearchFilter::default() }.with(fields)
    }

    #[pyo3(signature = (**changes))]
    fn replace(&self, changes: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        self.clone().with(changes)
    }

    #[getter]
    fn occurred_from(&self) -> i64 {
        self.filter.occurred_from
    }

    #[getter]
    fn occurred_to(&self) -> i64 {
        self.filter.occurred_to
    }
}

impl PySearchFilter {
    fn with(mut self, fields: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        let filter = &mut self.filter;
        for (name, value) in fields.into_iter().flatten() {
            match name.cast::<PyString>()?.to_str()? {
                "tiers" => filter.tiers = codes(&value, "tiers")?,
                "kinds" => filter.kinds = codes(&value, "kinds")?,
                "sessions" => filter.sessions = extract(&value, "sessions", STRINGS)?,
                "agents" => filter.agents = extract(&value, "agents", STRINGS)?,
                "occurred_from" => filter.occurred_from = extract(&value, "occurred_from", MICROSECONDS)?,
                "occurred_to" => filter.occurred_to = extract(&value, "occurred_to", MICROSECONDS)?,
                "as_of" => filter.as_of = extract(&value, "as_of", "int64 microseconds or None")?,
                "metadata" => {
                    filter.metadata = if value.is_none() { None } else { Some(metadata_expression(&value, 1)?) };
                }
                unknown => return Err(unknown_field("SearchFilter", unknown)),
            }
        }
        Ok(self)
    }
}

/// One hybrid search.
#[pyclass(name = "SearchPlan", module = "lightmem_server._core", frozen, eq)]
#[derive(Clone, PartialEq)]
pub struct PySearchPlan {
    plan: SearchPlan,
    /// Of the vectors.
    dim: usize,
    /// As asked for; 0 for the core's default, which follows the depth.
    rescore: usize,
}

#[pymethods]
impl PySearchPlan {
    #[new]
    #[pyo3(
        signature = (**fields),
        text_signature = "(*, vectors, texts, vector_weights, text_weights, dense_weights, lexical_weights, list_depth, \
                          max_candidates, now, rrf_k=60.0, filter=..., boost=0.0, boost_from=-9223372036854775808, \
                          boost_to=-9223372036854775808, deadline_micros=0, rescore=0, fusion='rrf', speakers=(), \
                          speaker_boost=0.0, prior_weight=0.0, session_weight=0.0, heat_weight=0.0, link_weight=0.0, \
                          link_depth=8, duplicate_similarity=0.0)"
    )]
    fn new(py: Python<'_>, fields: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        let required = [
            intern!(py, "vectors"),
            intern!(py, "texts"),
            intern!(py, "vector_weights"),
            intern!(py, "text_weights"),
            intern!(py, "dense_weights"),
            intern!(py, "lexical_weights"),
            intern!(py, "list_depth"),
            intern!(py, "max_candidates"),
            intern!(py, "now"),
        ];
        for name in required {
            if !fields.is_some_and(|fields| fields.contains(name).unwrap_or(false)) {
                return Err(PyTypeError::new_err(format!("SearchPlan needs {name}")));
            }
        }
        Self { plan: SearchPlan::new(0), dim: 0, rescore: 0 }.with(fields)
    }

    #[pyo3(signature = (**changes))]
    fn replace(&self, changes: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        self.clone().with(changes)
    }

    #[getter]
    fn texts(&self) -> Vec<String> {
        self.plan.texts.clone()
    }

    #[getter]
    fn text_weights(&self) -> Vec<f64> {
        self.plan.text_weights.clone()
    }

    #[getter]
    fn filter(&self) -> PySearchFilter {
        PySearchFilter { filter: self.plan.filter.clone() }
    }

    #[getter]
    fn now(&self) -> i64 {
        self.plan.now
    }
}

impl PySearchPlan {
    /// The core's plan, for vectors of `dim` dimensions.
    pub fn checked(&self, dim: usize) -> PyResult<&SearchPlan> {
        if self.dim == dim { Ok(&self.plan) } else { Err(refused("vectors", &format!("(q, {dim}) float32"))) }
    }

    fn with(mut self, fields: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        for (name, value) in fields.into_iter().flatten() {
            self.set(name.cast::<PyString>()?.to_str()?, &value)?;
        }
        let depth = self.plan.list_depth;
        self.plan.rescore = if self.rescore == 0 { default_rescore(depth) } else { self.rescore };
        Ok(self)
    }

    fn set(&mut self, name: &str, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let plan = &mut self.plan;
        match name {
            "vectors" => (plan.vectors, self.dim) = vectors(value)?,
            "texts" => plan.texts = extract(value, name, STRINGS)?,
            "vector_weights" => plan.vector_weights = extract(value, name, NUMBERS)?,
            "text_weights" => plan.text_weights = extract(value, name, NUMBERS)?,
            "dense_weights" => plan.dense_weights = extract(value, name, NUMBERS)?,
            "lexical_weights" => plan.lexical_weights = extract(value, name, NUMBERS)?,
            "list_depth" => plan.list_depth = extract(value, name, COUNT)?,
            "max_candidates" => plan.max_candidates = extract(value, name, COUNT)?,
            "now" => plan.now = extract(value, name, MICROSECONDS)?,
            "rrf_k" => plan.rrf_k = extract(value, name, NUMBER)?,
            "filter" => {
                let filter = value.cast::<PySearchFilter>().map_err(|_| refused(name, "a SearchFilter"))?;
                plan.filter.clone_from(&filter.get().filter);
            }
            "boost" => plan.boost = extract(value, name, NUMBER)?,
            "boost_from" => plan.boost_from = extract(value, name, MICROSECONDS)?,
            "boost_to" => plan.boost_to = extract(value, name, MICROSECONDS)?,
            "deadline_micros" => {
                let micros: u64 = extract(value, name, COUNT)?;
                plan.deadline = (micros > 0).then(|| Duration::from_micros(micros));
            }
            "rescore" => self.rescore = extract(value, name, COUNT)?,
            "fusion" => plan.fusion = fusion(value)?,
            "speakers" => plan.speakers = extract(value, name, STRINGS)?,
            "speaker_boost" => plan.speaker_boost = extract(value, name, NUMBER)?,
            "prior_weight" => plan.prior_weight = extract(value, name, NUMBER)?,
            "session_weight" => plan.session_weight = extract(value, name, NUMBER)?,
            "heat_weight" => plan.heat_weight = extract(value, name, NUMBER)?,
            "link_weight" => plan.link_weight = extract(value, name, NUMBER)?,
            "link_depth" => plan.link_depth = extract(value, name, COUNT)?,
            "duplicate_similarity" => plan.duplicate_similarity = extract(value, name, NUMBER)?,
            unknown => return Err(unknown_field("SearchPlan", unknown)),
        }
        Ok(())
    }
}

fn unknown_field(class: &str, name: &str) -> PyErr {
    PyTypeError::new_err(format!("{class} has no field {name:?}"))
}

/// (q, dim) float32, copied, and dim.
fn vectors(value: &Bound<'_, PyAny>) -> PyResult<(Vec<f32>, usize)> {
    let refuse = || refused("vectors", "(q, dim) float32, C-contiguous");
    let array = value.cast::<PyArray2<f32>>().map_err(|_| refuse())?;
    let &[_, dim] = array.shape() else { return Err(refuse()) };
    // `to_vec` alone would take Fortran order too, with the elements in another order than the shape says.
    if !array.is_c_contiguous() {
        return Err(refuse());
    }
    Ok((array.to_vec().map_err(|_| refuse())?, dim))
}

fn fusion(value: &Bound<'_, PyAny>) -> PyResult<FusionMethod> {
    match value.extract::<&str>() {
        Ok("rrf") => Ok(FusionMethod::ReciprocalRank),
        Ok("score") => Ok(FusionMethod::Score),
        _ => Err(refused("fusion", "\"score\" or \"rrf\"")),
    }
}

/// Numbers of tiers or kinds.
fn codes(value: &Bound<'_, PyAny>, name: &str) -> PyResult<Vec<u8>> {
    let codes: Vec<u16> = extract(value, name, "small numbers")?;
    Ok(codes.into_iter().map(saturate).collect())
}

/// Too large codes stay too large, so that the core refuses them by name. (`Vec<u8>` would take `bytes`.)
fn saturate(code: u16) -> u8 {
    u8::try_from(code).unwrap_or(u8::MAX)
}

/// A `types.MetadataExpression`, told apart by its fields: the binding needs none of the classes.
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
