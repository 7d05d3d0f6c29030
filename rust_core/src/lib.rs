//! The computing core of LightMem: many users' memories in RAM, searched exactly and within a budget.
//!
//! Synchronous and pure: no I/O, no Python, no clock but the deadline of a search. The server around it owns
//! durability and concurrency.
//!
//! - A [`partition::Partition`] holds one user's rows as columns: vectors of 16-bit fixed point, BM25 postings, scope,
//!   times and metadata.
//! - [`engine::Engine`] keeps the partitions in use resident under a budget of bytes.
//! - [`search::SearchPlan`] asks for dense and lexical lists over several query views, filtered and fused in one pass.
//! - A large partition is searched through HNSW graphs once [`engine::Engine::build_ann`] has made them.
//! - [`tiers`] decides what to summarise, promote and archive, and changes nothing itself.
//!
//! ```
//! use lightmem_core::engine::{Engine, EngineOptions};
//! use lightmem_core::rows::Rows;
//! use lightmem_core::search::SearchPlan;
//!
//! # fn main() -> Result<(), lightmem_core::error::CoreError> {
//! let engine = Engine::new(&EngineOptions { dim: 2, views: 1, ..EngineOptions::default() })?;
//! let mut rows = Rows::default();
//! rows.push_turn([1; 16], &[1.0, 0.0], &["We adopted a beagle called Momo"], "s1", 1);
//! rows.push_turn([2; 16], &[0.0, 1.0], &["The rent is due on Friday"], "s1", 2);
//! engine.load("8:default/ann", 1, &rows)?;
//!
//! let plan = SearchPlan {
//!     vectors: vec![0.8, 0.6],
//!     texts: vec!["beagles".to_owned()],
//!     ..SearchPlan::new(1)
//! };
//! let found = engine.search("8:default/ann", &plan)?.expect("resident");
//! assert_eq!(found.ids.first(), Some(&[1; 16]));
//! assert!(found.is_complete);
//! # Ok(())
//! # }
//! ```

// Counts of rows and dimensions are far below 2^32, and scores are rounded on purpose.
#![allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)]
// The allow-in-tests settings don't reach helpers of test modules and proptest bodies.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing))]

mod ann;
mod blend;
mod columns;
mod dense;
mod duplicates;
pub mod engine;
pub mod error;
pub mod filter;
pub mod fusion;
pub mod lexical;
mod links;
pub mod metadata;
pub mod partition;
mod plan;
pub mod ranking;
mod residents;
pub mod rows;
pub mod search;
mod similarities;
pub mod snapshot;
pub mod tiers;
pub mod vector;
