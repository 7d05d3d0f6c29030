//! The tier book, as Python sees it.

use std::sync::{Mutex, MutexGuard};

use lightmem_core::error::CoreError;
use lightmem_core::rows::Id;
use lightmem_core::tiers::{RingLimits, TierBook, TierPolicy};
use numpy::PyArray1;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList};

use crate::convert;
use crate::error::to_python;

/// One user's book. Safe to call from many threads at once.
#[pyclass(name = "TierBook", module = "lightmem_server._core", frozen)]
pub struct PyTierBook {
    book: Mutex<TierBook>,
}

#[pymethods]
impl PyTierBook {
    #[new]
    #[pyo3(signature = (*, half_life, capacity, promote_heat, summarise_turns, stm_turns, stm_tokens))]
    fn new(
        half_life: i64,
        capacity: [usize; 4],
        promote_heat: f64,
        summarise_turns: usize,
        stm_turns: usize,
        stm_tokens: u64,
    ) -> PyResult<Self> {
        if !promote_heat.is_finite() {
            return Err(to_python(CoreError::NotFinite { field: "promote_heat", position: 0 }));
        }
        let policy = TierPolicy { half_life, capacity, promote_heat, summarise_turns };
        let book = TierBook::new(policy, RingLimits { turns: stm_turns, tokens: stm_tokens });
        Ok(Self { book: Mutex::new(book) })
    }

    fn replay(&self, py: Python<'_>, events: &Bound<'_, PyAny>) -> PyResult<()> {
        let events = convert::events(events)?;
        py.detach(|| self.locked()?.replay(events)).map_err(to_python)
    }

    fn session_ring<'py>(&self, py: Python<'py>, session_id: &str) -> PyResult<Vec<Bound<'py, PyBytes>>> {
        let ring = py.detach(|| self.locked().map(|book| book.session_ring(session_id))).map_err(to_python)?;
        Ok(to_bytes(py, &ring))
    }

    fn heats<'py>(&self, py: Python<'py>, ids: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyArray1<f64>>> {
        let ids = convert::ids(ids, "ids")?;
        let heats = py.detach(|| {
            let book = self.locked()?;
            Ok(ids.iter().map(|id| book.heat(id).unwrap_or(f64::NAN)).collect())
        });
        heats.map(|heats| PyArray1::from_vec(py, heats)).map_err(to_python)
    }

    fn counts(&self, py: Python<'_>) -> PyResult<Vec<(u8, usize, usize)>> {
        let counts = py.detach(|| self.locked().map(|book| book.counts())).map_err(to_python)?;
        Ok(counts.into_iter().map(|(tier, count)| (tier, count.active, count.archived)).collect())
    }

    fn decide<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let decided = py.detach(|| self.locked().map(|book| book.decide())).map_err(to_python)?;
        let fields = PyDict::new(py);
        fields.set_item("summarise", PyList::new(py, decided.summarise)?)?;
        fields.set_item("promote", to_bytes(py, &decided.promote))?;
        fields.set_item("archive", to_bytes(py, &decided.archive))?;
        Ok(fields)
    }
}

impl PyTierBook {
    /// Only ever waited for without the GIL.
    fn locked(&self) -> Result<MutexGuard<'_, TierBook>, CoreError> {
        self.book.lock().map_err(|_| CoreError::LockPoisoned)
    }
}

fn to_bytes<'py>(py: Python<'py>, ids: &[Id]) -> Vec<Bound<'py, PyBytes>> {
    ids.iter().map(|id| PyBytes::new(py, id)).collect()
}
