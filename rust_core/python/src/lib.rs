//! Python bindings of `lightmem-core`: conversion and nothing else. `lightmem_server/_core.pyi` is the manual.

use pyo3::prelude::*;

mod convert;
mod engine;
mod error;
mod plan;
mod result;
mod tiers;

/// The native module of LightMem.
#[pymodule]
mod _core {
    #[pymodule_export]
    use crate::engine::{PyEngine, cpu_features};
    #[pymodule_export]
    use crate::plan::{PySearchFilter, PySearchPlan};
    #[pymodule_export]
    use crate::result::PySearchResult;
    #[pymodule_export]
    use crate::tiers::PyTierBook;

    use pyo3::prelude::*;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__all__", ["Engine", "SearchFilter", "SearchPlan", "SearchResult", "TierBook", "cpu_features"])
    }
}
