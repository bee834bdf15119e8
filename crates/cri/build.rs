//! Compiles the schema into Rust types, a client and a server for each service. protox parses it,
//! so no `protoc` is needed.

use std::error::Error;

const SCHEMA: &str = "proto/runtime/v1/api.proto";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed={SCHEMA}");
    let schema = protox::compile([SCHEMA], ["proto"])?;
    tonic_prost_build::configure()
        // Labels and annotations come back in the same order each time.
        .btree_map(".")
        // Its debug form must not show secrets: written by hand in lib.rs.
        .skip_debug([".runtime.v1.AuthConfig"])
        .compile_fds(schema)?;
    Ok(())
}
