//! What a search found, as Python sees it.

use std::sync::Arc;

use lightmem_core::ranking::PARTS_BESIDE_LISTS;
use lightmem_core::rows::Id;
use lightmem_core::search::SearchResult;
use numpy::ndarray::ArrayView2;
use numpy::{Element, PyArray1, PyArray2, ToPyArray};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyList, PyString};

use crate::error::refused;

/// An array that is made when it is first asked for.
///
/// Then copied into memory of `NumPy`'s own: for some dozens of hits that costs less than an owner for each of our vectors.
type Column<A> = PyOnceLock<Py<A>>;

/// Hits, best first.
#[pyclass(name = "SearchResult", module = "lightmem_server._core", frozen)]
pub struct PySearchResult {
    found: SearchResult,
    /// Names of the lists, in the order of the ranks; shared with the engine.
    sources: Arc<[Py<PyString>]>,
    ids: Column<PyArray2<u8>>,
    scores: Column<PyArray1<f32>>,
    ranks: Column<PyArray2<u32>>,
    parts: Column<PyArray2<f32>>,
    similarities: Column<PyArray1<f32>>,
    duplicate_ids: Column<PyArray2<u8>>,
    duplicate_of: Column<PyArray1<u32>>,
}

#[pymethods]
impl PySearchResult {
    #[getter]
    fn ids<'py>(&self, py: Python<'py>) -> PyResult<&Bound<'py, PyArray2<u8>>> {
        matrix(py, &self.ids, self.found.ids.as_flattened(), [self.found.ids.len(), 16])
    }

    #[getter]
    fn scores<'py>(&self, py: Python<'py>) -> &Bound<'py, PyArray1<f32>> {
        vector(py, &self.scores, &self.found.scores)
    }

    #[getter]
    fn sources<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        PyList::new(py, &*self.sources)
    }

    #[getter]
    fn ranks<'py>(&self, py: Python<'py>) -> PyResult<&Bound<'py, PyArray2<u32>>> {
        matrix(py, &self.ranks, &self.found.ranks, [self.found.ids.len(), self.sources.len()])
    }

    #[getter]
    fn parts<'py>(&self, py: Python<'py>) -> PyResult<&Bound<'py, PyArray2<f32>>> {
        matrix(py, &self.parts, &self.found.parts, [self.found.ids.len(), self.found.part_count])
    }

    #[getter]
    fn part_names<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        if self.found.part_count == 0 {
            return Ok(PyList::empty(py));
        }
        let names = self.sources(py)?;
        for name in PARTS_BESIDE_LISTS {
            names.append(name)?;
        }
        Ok(names)
    }

    #[getter]
    fn similarities<'py>(&self, py: Python<'py>) -> &Bound<'py, PyArray1<f32>> {
        vector(py, &self.similarities, &self.found.similarities)
    }

    #[getter]
    fn matched_count(&self) -> usize {
        self.found.matched_count
    }

    #[getter]
    fn scanned_count(&self) -> usize {
        self.found.scanned_count
    }

    #[getter]
    fn is_complete(&self) -> bool {
        self.found.is_complete
    }

    #[getter]
    fn is_exact(&self) -> bool {
        self.found.is_exact
    }

    #[getter]
    fn duplicate_ids<'py>(&self, py: Python<'py>) -> PyResult<&Bound<'py, PyArray2<u8>>> {
        let ids: Vec<Id> = self.found.duplicates.iter().map(|&(id, _)| id).collect();
        matrix(py, &self.duplicate_ids, ids.as_flattened(), [ids.len(), 16])
    }

    #[getter]
    fn duplicate_of<'py>(&self, py: Python<'py>) -> &Bound<'py, PyArray1<u32>> {
        let hits: Vec<u32> = self.found.duplicates.iter().map(|&(_, hit)| hit).collect();
        vector(py, &self.duplicate_of, &hits)
    }
}

impl PySearchResult {
    pub fn new(found: SearchResult, sources: Arc<[Py<PyString>]>) -> Self {
        Self {
            found,
            sources,
            ids: Column::new(),
            scores: Column::new(),
            ranks: Column::new(),
            parts: Column::new(),
            similarities: Column::new(),
            duplicate_ids: Column::new(),
            duplicate_of: Column::new(),
        }
    }
}

fn vector<'a, 'py, T: Element>(
    py: Python<'py>,
    column: &'a Column<PyArray1<T>>,
    values: &[T],
) -> &'a Bound<'py, PyArray1<T>> {
    column.get_or_init(py, || PyArray1::from_slice(py, values).unbind()).bind(py)
}

fn matrix<'a, 'py, T: Element>(
    py: Python<'py>,
    column: &'a Column<PyArray2<T>>,
    values: &[T],
    shape: [usize; 2],
) -> PyResult<&'a Bound<'py, PyArray2<T>>> {
    let made = column.get_or_try_init(py, || {
        let shaped = ArrayView2::from_shape(shape, values);
        shaped.map(|view| view.to_pyarray(py).unbind()).map_err(|error| refused("result", &error.to_string()))
    });
    made.map(|made| made.bind(py))
}

/// Names of the lists' sources, in the order of the ranks.
pub fn sources(py: Python<'_>, view_names: &[String]) -> Arc<[Py<PyString>]> {
    let named = |method: &'static str| {
        view_names.iter().map(move |name| PyString::new(py, &format!("{method}_{name}")).unbind())
    };
    named("dense").chain(named("lexical")).collect()
}
