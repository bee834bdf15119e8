//! Compiles the messages into Rust types. protox parses the schema, so no `protoc` is needed.

use std::error::Error;

const SCHEMA: [&str; 3] = [
    "proto/shim.proto",
    "proto/cgroups_v1.proto",
    "proto/cgroups_v2.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    for file in SCHEMA {
        println!("cargo:rerun-if-changed={file}");
    }
    let schema = protox::compile(SCHEMA, ["proto"])?;
    prost_build::Config::new()
        .btree_map(["."])
        .compile_fds(schema)?;
    Ok(())
}
