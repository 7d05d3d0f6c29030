//! Words: how texts become terms, and BM25 over the terms of a partition.
//!
//! - [`analyser`] turns a text into terms.
//! - [`postings`] holds which rows contain a term in which passage views; rows come and go at any time, and all statistics
//!   stay exact.
//! - [`scan`] finds the best rows of a query without scoring every row.

pub mod analyser;
mod forward;
pub mod list;
pub mod postings;
pub mod scan;
pub mod sessions;
mod term;
