//! Compiles the CRI schema without protoc.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let file = "proto/runtime/v1/api.proto";
    println!("cargo:rerun-if-changed={file}");
    let descriptors = protox::compile([file], ["proto"])?;
    tonic_prost_build::configure().compile_fds(descriptors)?;
    Ok(())
}
