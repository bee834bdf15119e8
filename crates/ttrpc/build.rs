//! Compiles the messages into Rust types. protox parses the schema, so no `protoc` is needed.

use std::error::Error;

const SCHEMA: &str = "proto/ttrpc.proto";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed={SCHEMA}");
    prost_build::Config::new().compile_fds(protox::compile([SCHEMA], ["proto"])?)?;
    Ok(())
}
