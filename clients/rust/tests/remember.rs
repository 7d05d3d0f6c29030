//! The example on a real server, which `make test-clients` starts.

use std::env;
use std::fs;
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

#[test]
#[cfg(target_os = "linux")]
fn the_key_is_found_where_the_first_start_of_a_server_leaves_it() {
    let (Some(_), Some(data)) = (
        env::var_os("LIGHTMEM_TARGET"),
        env::var_os("LIGHTMEM_DATA_DIR"),
    ) else {
        eprintln!("skipped: LIGHTMEM_TARGET names no server");
        return;
    };
    let home = env::temp_dir().join(format!("lightmem-home-{}", process::id()));
    let folder = home.join(".local/share/lightmem");
    fs::create_dir_all(&folder).expect("a folder can be made");
    fs::copy(
        std::path::Path::new(&data).join("admin.key"),
        folder.join("admin.key"),
    )
    .expect("the key can be copied");
    let run = Command::new(env!("CARGO_BIN_EXE_remember"))
        .env_remove("LIGHTMEM_DATA_DIR")
        .env_remove("XDG_DATA_HOME")
        .env("HOME", &home)
        .args(["rust-home", "I moved to Rome", "Where do I live?"])
        .output()
        .expect("the example starts");
    fs::remove_dir_all(&home).expect("the folder can be removed");
    assert!(
        run.status.success(),
        "{}",
        String::from_utf8_lossy(&run.stderr)
    );
}
