//! The snapshot reader on arbitrary bytes.
#![no_main]

#[path = "../snapshot_check.rs"]
mod snapshot_check;

libfuzzer_sys::fuzz_target!(|payload: &[u8]| snapshot_check::check(payload));
