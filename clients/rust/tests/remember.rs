//! The example on a real server, which `make test-clients` starts.

use std::env;
use std::process::{self, Command, Output};

fn remember(key: Option<&str>, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_remember"));
    if let Some(key) = key {
        command.env("LIGHTMEM_API_KEY", key);
    }
    command
        .args(arguments)
        .output()
        .expect("the example starts")
}

#[test]
fn what_is_written_is_found() {
    if env::var_os("LIGHTMEM_TARGET").is_none() {
        eprintln!("skipped: LIGHTMEM_TARGET names no server");
        return;
    }
    let user = format!("rust-{}", process::id());
    let run = remember(
        None,
        &[&user, "I moved to Rome last week", "Where do I live?"],
    );
    let printed = String::from_utf8_lossy(&run.stdout);
    assert!(
        run.status.success(),
        "{}",
        String::from_utf8_lossy(&run.stderr)
    );
    assert!(
        printed.contains("stored as ") && printed.contains("I moved to Rome last week"),
        "{printed}"
    );

    let refused = remember(Some("lm_unknown_key"), &[&user, "never", "mind"]);
    let complaint = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success());
    assert!(complaint.contains("the key is unknown"), "{complaint}");
}
