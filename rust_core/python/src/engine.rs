//! The engine, as Python sees it.

use std::sync::Arc;

use lightmem_core::engine::{Engine, EngineOptions};
use lightmem_core::lexical::analyser::Analyser;
use lightmem_core::tiers::RingLimits;
use lightmem_core::vector::kernel::Kernel;
use numpy::{PyArray1, PyArray3, PyArrayMethods};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString};

use crate::convert;
use crate::error::to_python;
use crate::plan::PySearchPlan;
use crate::result::{PySearchResult, sources};

/// The resident partitions of one process. Safe to call from many threads at once.
#[pyclass(name = "Engine", module = "lightmem_server._core", frozen)]
pub struct PyEngine {
    engine: Engine,
    /// Names of the lists, in the order of a result's ranks.
    sources: Arc<[Py<PyString>]>,
}

#[pymethods]
impl PyEngine {
    #[new]
    #[allow(clippy::needless_pass_by_value)] // extracted from Python
    #[allow(clippy::too_many_arguments)] // keywords alone
    #[pyo3(signature = (
        *, dim, view_names, budget_bytes, language, stm_turns, stm_tokens, ann_rows, heat_half_life, rescore_vectors
    ))]
    fn new(
        py: Python<'_>,
        dim: usize,
        view_names: Vec<String>,
        budget_bytes: usize,
        language: String,
        stm_turns: usize,
        stm_tokens: u64,
        ann_rows: usize,
        heat_half_life: i64,
        rescore_vectors: bool,
    ) -> PyResult<Self> {
        let ring = RingLimits { turns: stm_turns, tokens: stm_tokens };
        let sources = sources(py, &view_names);
        let options = EngineOptions {
            dim,
            views: view_names.len(),
            budget_bytes,
            language,
            ring,
            ann_rows,
            heat_half_life,
            rescore_vectors,
        };
        let engine = Engine::new(&options).map_err(to_python)?;
        Ok(Self { engine, sources })
    }

    fn version(&self, py: Python<'_>, partition: &str) -> PyResult<Option<u64>> {
        py.detach(|| self.engine.version(partition)).map_err(to_python)
    }

    fn is_quick(&self, partition: &str, most_rows: usize) -> PyResult<bool> {
        self.engine.is_quick(partition, most_rows).map_err(to_python) // waits for nothing: the GIL is kept
    }

    #[pyo3(signature = (partition, version, rows, language=None))]
    fn load(
        &self,
        py: Python<'_>,
        partition: &str,
        version: u64,
        rows: &Bound<'_, PyAny>,
        language: Option<&str>,
    ) -> PyResult<()> {
        let schema = self.engine.schema();
        let rows = convert::rows(rows, schema.views, schema.dim)?;
        py.detach(|| self.engine.load_in(partition, version, &rows, language)).map_err(to_python)
    }

    fn apply(
        &self,
        py: Python<'_>,
        partition: &str,
        base_version: u64,
        version: u64,
        rows: &Bound<'_, PyAny>,
        removed: &Bound<'_, PyAny>,
    ) -> PyResult<bool> {
        let schema = self.engine.schema();
        let rows = convert::rows(rows, schema.views, schema.dim)?;
        let removed = convert::ids(removed, "removed")?;
        py.detach(|| self.engine.apply(partition, base_version, version, &rows, &removed)).map_err(to_python)
    }

    fn search(
        &self,
        py: Python<'_>,
        partition: &str,
        plan: &Bound<'_, PySearchPlan>,
    ) -> PyResult<Option<PySearchResult>> {
        let plan = plan.get().checked(self.engine.schema().dim)?;
        let found = py.detach(|| self.engine.search(partition, plan)).map_err(to_python)?;
        Ok(found.map(|found| PySearchResult::new(found, Arc::clone(&self.sources))))
    }

    fn similarities<'py>(
        &self,
        py: Python<'py>,
        partition: &str,
        ids: &Bound<'py, PyAny>,
    ) -> PyResult<Option<Bound<'py, PyArray3<f32>>>> {
        let ids = convert::ids(ids, "ids")?;
        let found = py.detach(|| self.engine.similarities(partition, &ids)).map_err(to_python)?;
        let shape = [self.engine.schema().views, ids.len(), ids.len()];
        found.map(|found| PyArray1::from_vec(py, found).reshape(shape)).transpose()
    }

    fn session_ring<'py>(
        &self,
        py: Python<'py>,
        partition: &str,
        session_id: &str,
    ) -> PyResult<Option<Vec<Bound<'py, PyBytes>>>> {
        let ring = py.detach(|| self.engine.session_ring(partition, session_id)).map_err(to_python)?;
        Ok(ring.map(|ids| ids.iter().map(|id| PyBytes::new(py, id)).collect()))
    }

    #[allow(clippy::unused_self)] // a question to the engine
    fn check_language(&self, language: &str) -> PyResult<()> {
        Analyser::new(language).map(|_| ()).map_err(to_python)
    }

    fn touch(&self, py: Python<'_>, partition: &str, ids: &Bound<'_, PyAny>, now: i64) -> PyResult<bool> {
        let ids = convert::ids(ids, "ids")?;
        py.detach(|| self.engine.touch(partition, &ids, now)).map_err(to_python)
    }

    fn sizes<'py>(&self, py: Python<'py>, partition: &str) -> PyResult<Option<Bound<'py, PyDict>>> {
        let Some(sizes) = py.detach(|| self.engine.sizes(partition)).map_err(to_python)? else { return Ok(None) };
        let fields = PyDict::new(py);
        fields.set_item("vectors_scan", sizes.vectors_scan)?;
        fields.set_item("vectors_rescore", sizes.vectors_rescore)?;
        fields.set_item("postings", sizes.postings)?;
        fields.set_item("columns", sizes.columns)?;
        fields.set_item("links", sizes.links)?;
        fields.set_item("metadata", sizes.metadata)?;
        Ok(Some(fields))
    }

    fn active_counts(&self, py: Python<'_>, partition: &str) -> PyResult<Option<[usize; 4]>> {
        py.detach(|| self.engine.active_counts(partition)).map_err(to_python)
    }

    fn evict(&self, py: Python<'_>, partition: &str) -> PyResult<bool> {
        py.detach(|| self.engine.evict(partition)).map_err(to_python)
    }

    fn export<'py>(&self, py: Python<'py>, partition: &str) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let snapshot = py.detach(|| self.engine.export(partition)).map_err(to_python)?;
        Ok(snapshot.map(|bytes| PyBytes::new(py, &bytes)))
    }

    #[pyo3(signature = (partition, snapshot, language=None))]
    fn import_(&self, py: Python<'_>, partition: &str, snapshot: &[u8], language: Option<&str>) -> PyResult<u64> {
        // `bytes` can't change while the GIL is released.
        py.detach(|| self.engine.import_in(partition, snapshot, language)).map_err(to_python)
    }

    fn ann_due(&self, py: Python<'_>, partition: &str) -> PyResult<bool> {
        py.detach(|| self.engine.ann_due(partition)).map_err(to_python)
    }

    fn build_ann(&self, py: Python<'_>, partition: &str, rows: usize) -> PyResult<bool> {
        py.detach(|| self.engine.build_ann(partition, rows)).map_err(to_python)
    }

    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let stats = py.detach(|| self.engine.stats()).map_err(to_python)?;
        let fields = PyDict::new(py);
        fields.set_item("partitions", stats.partitions)?;
        fields.set_item("rows", stats.rows)?;
        fields.set_item("size_bytes", stats.size_bytes)?;
        fields.set_item("budget_bytes", stats.budget_bytes)?;
        fields.set_item("evictions", stats.evictions)?;
        fields.set_item("loads", stats.loads)?;
        fields.set_item("searches", stats.searches)?;
        Ok(fields)
    }
}

/// The instruction sets that the kernels use on this machine, best first.
#[pyfunction]
pub fn cpu_features() -> Vec<&'static str> {
    Kernel::available().iter().map(|kernel| kernel.name()).collect()
}
