//! Compiles the schema into Rust types, a client and a server for each service, and into a table of
//! the fields that requests have (`src/fields.rs` reads it), and its descriptors. protox parses it, so no
//! `protoc` is needed.

use std::error::Error;
use std::fmt::Write;
use std::path::Path;

use prost::Message;

const SCHEMA: &str = "proto/runtime/v1/api.proto";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed={SCHEMA}");
    let schema = protox::compile([SCHEMA], ["proto"])?;
    let file = &schema.file[0];
    let names: Vec<&str> = file.message_type.iter().map(|one| one.name()).collect();
    let mut table = format!("static MESSAGES: [Message; {}] = [\n", names.len());
    for message in &file.message_type {
        write!(table, "Message {{ name: {:?}, fields: &[", message.name())?;
        let mut fields: Vec<(i32, Option<usize>)> = message
            .field
            .iter()
            .map(|field| {
                // A map's entry is none of them: it has a key and a value and never more.
                let inside = field.type_name().strip_prefix(".runtime.v1.");
                let inside = inside.and_then(|name| names.iter().position(|one| *one == name));
                (field.number(), inside)
            })
            .collect();
        fields.sort_unstable();
        for (number, inside) in fields {
            write!(table, "({number}, {inside:?}), ")?;
        }
        table.push_str("] },\n");
    }
    table.push_str("];\n");
    let out = std::env::var("OUT_DIR")?;
    std::fs::write(Path::new(&out).join("fields.rs"), table)?;

    // The same schema as data, without its comments: who prints and reads any message as JSON asks it.
    let mut plain = schema.clone();
    for file in &mut plain.file {
        file.source_code_info = None;
        for signal in file
            .enum_type
            .iter_mut()
            .filter(|one| one.name() == "Signal")
        {
            // The interface's own names; the schema's have a word before them, which keeps Rust's readable.
            for value in &mut signal.value {
                let name = value.name().trim_start_matches("SIGNAL_").to_owned();
                value.name = Some(name);
            }
        }
    }
    std::fs::write(Path::new(&out).join("schema.bin"), plain.encode_to_vec())?;

    let mut config = prost_build::Config::new();
    config.enable_type_names();
    tonic_prost_build::configure()
        // Labels and annotations come back in the same order each time.
        .btree_map(".")
        // Its debug form must not show secrets: written by hand in lib.rs.
        .skip_debug([".runtime.v1.AuthConfig"])
        .codec_path("crate::codec::Watching")
        .compile_fds_with_config(schema, config)?;
    Ok(())
}
