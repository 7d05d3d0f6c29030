//! Everything that the core refuses, one variant per failure.

use thiserror::Error;

/// Why the core refused a call. Nothing was changed, whatever the variant.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CoreError {
    /// A setting is outside its range. The operator's fault.
    #[error("{name} is {value}, outside {range}")]
    OptionOutOfRange {
        /// The setting.
        name: &'static str,
        /// What was given.
        value: usize,
        /// What is allowed, in words.
        range: &'static str,
    },
    /// No analyser exists for the language. The operator's fault.
    #[error("no analyser for language {0:?}")]
    UnknownLanguage(String),
    /// A column or a list has another length than the batch or plan says. The caller's fault.
    #[error("{field} has {actual} entries, expected {expected}")]
    LengthMismatch {
        /// The column.
        field: &'static str,
        /// Entries it should have.
        expected: usize,
        /// Entries it has.
        actual: usize,
    },
    /// A number that must be finite is NaN or infinite. The caller's fault.
    #[error("{field} holds a value that is not finite, in entry {position}")]
    NotFinite {
        /// The column.
        field: &'static str,
        /// Index of the row, query view or value.
        position: usize,
    },
    /// A weight, boost or constant is negative or absurdly large. The caller's fault.
    #[error("{field} must be within 0 and {limit}")]
    WeightOutOfRange {
        /// The field of the plan.
        field: &'static str,
        /// Largest value allowed.
        limit: u32,
    },
    /// A tier or kind has a number that no bit set can hold. The caller's fault.
    #[error("{field} holds {value}; 0 to 31 are allowed")]
    CodeOutOfRange {
        /// `tiers` or `kinds`.
        field: &'static str,
        /// The number.
        value: u8,
    },
    /// One batch names an id twice, or both changes and removes it. The caller's fault.
    #[error("a batch names the id {id:032x} twice")]
    DuplicateId {
        /// The id as a big-endian number.
        id: u128,
    },
    /// A partition's version would go back. The caller's fault.
    #[error("version {version} is older than {base_version}, which it follows")]
    VersionGoesBack {
        /// The version the partition is at.
        base_version: u64,
        /// The version asked for.
        version: u64,
    },
    /// A partition would hold more rows than a 32-bit row number can name.
    #[error("a partition holds at most {limit} rows")]
    TooManyRows {
        /// Most rows allowed.
        limit: usize,
    },
    /// A metadata condition is malformed: the number or the type of its values does not fit its operator.
    #[error("metadata condition on {key:?}: {reason}")]
    InvalidCondition {
        /// The key of the condition.
        key: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// A metadata expression is nested too deeply.
    #[error("a metadata expression has at most {limit} levels")]
    FilterTooDeep {
        /// Most levels allowed.
        limit: usize,
    },
    /// A snapshot cannot be used: damaged, cut short, or written by another version. Load from the store instead.
    #[error("snapshot refused: {0}")]
    InvalidSnapshot(&'static str),
    /// The library of the graphs refused: out of memory, or more threads at once than it was told of.
    #[error("graph: {0}")]
    GraphRefused(String),
    /// A thread died while it changed shared state, so that the state can't be trusted. Restart the process.
    #[error("a lock is poisoned: a thread died while it held it")]
    LockPoisoned,
}
