//! `jsonschema`: the configurations of pods and containers as a JSON Schema, made of the descriptors.

use std::collections::BTreeMap;

use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};
use serde_json::{Value, json};

use crate::failure::Outcome;
use crate::{json, say};

/// Prints the schema of a message of the CRI.
pub(crate) fn print(name: &str) -> Outcome {
    let first = json::descriptor(&format!("runtime.v1.{name}"))?;
    let mut known = BTreeMap::new();
    let mut open = vec![first.clone()];
    while let Some(message) = open.pop() {
        if known.contains_key(message.name()) {
            continue;
        }
        let mut properties = serde_json::Map::new();
        for field in message.fields() {
            properties.insert(field.name().to_owned(), property(&field, &mut open));
        }
        let object = json!({
            "properties": properties,
            "additionalProperties": false,
            "type": "object",
        });
        known.insert(message.name().to_owned(), object);
    }
    let schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": format!("https://k8s.io/cri-api/pkg/apis/runtime/v1/{}", dashed(name)),
        "$ref": format!("#/$defs/{name}"),
        "$defs": known,
    });
    say::print(&(json::go_text(&schema)? + "\n"));
    Ok(())
}

fn property(field: &FieldDescriptor, open: &mut Vec<MessageDescriptor>) -> Value {
    let one = match field.kind() {
        Kind::Message(entry) if entry.is_map_entry() => {
            return json!({"additionalProperties": {"type": "string"}, "type": "object"});
        }
        Kind::Message(message) => {
            let reference = format!("#/$defs/{}", message.name());
            open.push(message);
            json!({"$ref": reference})
        }
        Kind::Enum(_) => json!({"oneOf": [{"type": "string"}, {"type": "integer"}]}),
        Kind::Bool => json!({"type": "boolean"}),
        Kind::String | Kind::Bytes => json!({"type": "string"}),
        Kind::Double | Kind::Float => json!({"type": "number"}),
        _ => json!({"type": "integer"}),
    };
    match field.is_list() {
        true => json!({"items": one, "type": "array"}),
        false => one,
    }
}

/// `PodSandboxConfig` as `pod-sandbox-config`.
fn dashed(name: &str) -> String {
    let mut out = String::new();
    for c in name.chars() {
        if c.is_ascii_uppercase() && !out.is_empty() {
            out.push('-');
        }
        out.push(c.to_ascii_lowercase());
    }
    out
}
