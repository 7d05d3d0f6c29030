//! Generates messages and stubs of the API, with the protoc that a crate brings along.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    let mut config = tonic_prost_build::Config::new();
    config.protoc_executable(protoc_bin_vendored::protoc_bin_path()?);
    tonic_prost_build::configure()
        .build_server(false)
        .compile_with_config(
            config,
            &[
                "../../proto/lightmem/v1/memory_service.proto",
                "../../proto/lightmem/v1/admin_service.proto",
            ],
            &["../../proto"],
        )?;
    println!("cargo::rerun-if-changed=../../proto");
    Ok(())
}
