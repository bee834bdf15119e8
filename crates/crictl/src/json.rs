//! Messages as JSON, by the schema's descriptors: as protobuf's own mapping has it (names in camelCase, 64-bit
//! numbers as text, enums by name, what is empty told too), and with the schema's names as Go's encoding/json
//! prints them. And JSON as Go prints it.

use std::io;
use std::sync::OnceLock;

use prost::{Message, Name};
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, SerializeOptions};
use serde::Serialize;
use serde_json::Value;
use serde_json::ser::{Formatter, PrettyFormatter};

use crate::failure::{Failure, Outcome};

/// The schema's descriptor of a message.
pub(crate) fn descriptor(name: &str) -> Outcome<MessageDescriptor> {
    static POOL: OnceLock<Option<DescriptorPool>> = OnceLock::new();
    let pool = POOL.get_or_init(|| DescriptorPool::decode(cri::SCHEMA).ok());
    let found = pool
        .as_ref()
        .and_then(|pool| pool.get_message_by_name(name));
    found.ok_or_else(|| Failure::new(format!("the schema has no message {name}")))
}

/// Any message, seen through its descriptor.
pub(crate) fn dynamic<M: Message + Name>(message: &M) -> Outcome<DynamicMessage> {
    let bytes = message.encode_to_vec();
    DynamicMessage::decode(descriptor(&M::full_name())?, bytes.as_slice()).map_err(Failure::new)
}

/// protojson's value of a message, what is empty included.
pub(crate) fn value<M: Message + Name>(message: &M) -> Outcome<Value> {
    let options = SerializeOptions::new().skip_default_fields(false);
    serialized(message, &options)
}

/// Go's value of a message's struct: the schema's names, and nothing that is empty.
pub(crate) fn go_value<M: Message + Name>(message: &M) -> Outcome<Value> {
    let options = SerializeOptions::new()
        .use_proto_field_name(true)
        .use_enum_numbers(true)
        .stringify_64_bit_integers(false);
    serialized(message, &options)
}

fn serialized<M: Message + Name>(message: &M, options: &SerializeOptions) -> Outcome<Value> {
    dynamic(message)?
        .serialize_with_options(serde_json::value::Serializer, options)
        .map_err(Failure::new)
}

/// protojson's text of a message, in the order of the schema.
pub(crate) fn text<M: Message + Name>(message: &M) -> Outcome<String> {
    let options = SerializeOptions::new().skip_default_fields(false);
    let mut out = Vec::new();
    let mut to = serde_json::Serializer::with_formatter(&mut out, Proto::default());
    dynamic(message)?
        .serialize_with_options(&mut to, &options)
        .map_err(Failure::new)?;
    String::from_utf8(out).map_err(Failure::new)
}

/// A value as Go's encoding/json prints it, indented: keys in order, and `<`, `>` and `&` written with their
/// numbers.
pub(crate) fn go_text(value: &Value) -> Outcome<String> {
    let mut out = Vec::new();
    let mut to = serde_json::Serializer::with_formatter(&mut out, Proto::default());
    value.serialize(&mut to).map_err(Failure::new)?;
    let text = String::from_utf8(out).map_err(Failure::new)?;
    // Outside of texts JSON has none of these.
    Ok(text
        .replace('<', "\\u003c")
        .replace('>', "\\u003e")
        .replace('&', "\\u0026")
        .replace('\u{2028}', "\\u2028")
        .replace('\u{2029}', "\\u2029"))
}

/// serde_json's indentation with Go's numbers: one that is whole has no fraction.
#[derive(Debug, Default)]
struct Proto(PrettyFormatter<'static>);

impl Formatter for Proto {
    fn write_f64<W: ?Sized + io::Write>(&mut self, writer: &mut W, value: f64) -> io::Result<()> {
        match value.fract() == 0.0 && value.abs() < 1e21 {
            true => write!(writer, "{value:.0}"),
            false => self.0.write_f64(writer, value),
        }
    }

    fn begin_array<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_array(writer)
    }

    fn end_array<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_array(writer)
    }

    fn begin_array_value<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> io::Result<()> {
        self.0.begin_array_value(writer, first)
    }

    fn end_array_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_array_value(writer)
    }

    fn begin_object<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_object(writer)
    }

    fn end_object<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_object(writer)
    }

    fn begin_object_key<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> io::Result<()> {
        self.0.begin_object_key(writer, first)
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_object_value(writer)
    }

    fn end_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_object_value(writer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_protojsons() {
        let container = cri::Container {
            id: "a".into(),
            state: cri::ContainerState::ContainerRunning.into(),
            created_at: 7,
            labels: [("k".into(), "<v>".into())].into(),
            ..Default::default()
        };
        let response = cri::ListContainersResponse {
            containers: vec![container],
        };
        let text = text(&response).unwrap();
        let expected = "{\n  \"containers\": [\n    {\n      \"id\": \"a\",\n      \"podSandboxId\": \"\",\n      \
            \"imageRef\": \"\",\n      \"state\": \"CONTAINER_RUNNING\",\n      \"createdAt\": \"7\",\n      \
            \"labels\": {\n        \"k\": \"<v>\"\n      },\n      \"annotations\": {},\n      \"imageId\": \"\"\n    }\n  ]\n}";
        assert_eq!(text, expected);
        let pressure = cri::PsiData {
            avg10: 1.5,
            ..Default::default()
        };
        let text = super::text(&pressure).unwrap();
        assert!(
            text.contains("\"Avg10\": 1.5") && text.contains("\"Avg60\": 0,"),
            "{text}"
        );
        let status = cri::ContainerStatus {
            stop_signal: cri::Signal::Sigterm.into(),
            ..Default::default()
        };
        let text = super::text(&status).unwrap();
        assert!(text.contains("\"stopSignal\": \"SIGTERM\""), "{text}");
    }

    #[test]
    fn structs_are_gos() {
        let handler = cri::RuntimeHandler {
            name: "runc".into(),
            features: Some(cri::RuntimeHandlerFeatures {
                user_namespaces: true,
                ..Default::default()
            }),
        };
        let value = go_value(&handler).unwrap();
        assert_eq!(
            value,
            serde_json::json!({"name": "runc", "features": {"user_namespaces": true}})
        );
        let value = serde_json::json!({"b": "<&>", "a": [1.0, {}]});
        assert_eq!(
            go_text(&value).unwrap(),
            "{\n  \"a\": [\n    1,\n    {}\n  ],\n  \"b\": \"\\u003c\\u0026\\u003e\"\n}"
        );
    }
}
