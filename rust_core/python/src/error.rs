//! `lightmem_core`'s errors as Python exceptions.

use lightmem_core::error::CoreError as Core;
use pyo3::PyErr;
use pyo3::exceptions::PyException;

pyo3::create_exception!(
    lightmem_server._core,
    CoreError,
    PyException,
    "The core refused its input. `args[0]` says what."
);

pyo3::create_exception!(
    lightmem_server._core,
    SnapshotError,
    CoreError,
    "A snapshot is damaged, cut short or foreign. `args[0]` says what."
);

/// The exception for an error of the core.
///
/// A match without `_` arm makes whoever adds a variant decide whether callers must tell it apart.
#[allow(clippy::needless_pass_by_value)] // its shape is that of `map_err`
pub fn to_python(error: Core) -> PyErr {
    match error {
        Core::OptionOutOfRange { .. }
        | Core::UnknownLanguage(_)
        | Core::LengthMismatch { .. }
        | Core::NotFinite { .. }
        | Core::WeightOutOfRange { .. }
        | Core::CodeOutOfRange { .. }
        | Core::DuplicateId { .. }
        | Core::VersionGoesBack { .. }
        | Core::TooManyRows { .. }
        | Core::InvalidCondition { .. }
        | Core::FilterTooDeep { .. }
        | Core::GraphRefused(_)
        | Core::LockPoisoned => CoreError::new_err(error.to_string()),
        Core::InvalidSnapshot(_) => SnapshotError::new_err(error.to_string()),
    }
}

/// The exception for an argument of a wrong type or shape.
pub fn refused(field: &str, expected: &str) -> PyErr {
    CoreError::new_err(format!("{field}: expected {expected}"))
}
