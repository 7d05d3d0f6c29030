//! `lightmem_core`'s errors as the exceptions of `lightmem_server/errors.py`, which is a leaf.

use lightmem_core::error::CoreError as Core;
use pyo3::PyErr;

pyo3::import_exception!(lightmem_server.errors, CoreError);
pyo3::import_exception!(lightmem_server.errors, SnapshotError);

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
