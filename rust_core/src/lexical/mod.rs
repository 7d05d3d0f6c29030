//! Words: how texts become terms, and BM25 over the terms of a partition.
//!
//! - [`analyser`] turns a text into terms.
//! - [`postings`] holds, per passage view, which rows contain a term; rows come and go at any time, and all statistics
//!   stay exact.
//! - [`scan`] finds the best rows of a query without scoring every row.

pub mod analyser;
pub mod postings;
pub mod scan;
pub mod sessions;
