//! Configurations of pods and containers, from files of JSON or YAML: the schema's names, or protojson's; enums
//! by name or number. Files are people's: bounded, and what the schema does not have is named and has no effect,
//! as with crictl, which passes over it in silence.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;

use prost::{Message, Name};
use prost_reflect::{DeserializeOptions, DynamicMessage, FieldDescriptor, Kind, MessageDescriptor};
use serde_json::{Map, Value};

use crate::failure::{Context, Failure, Outcome};
use crate::{json, say};

/// What is read of a file.
const MOST: u64 = 4 << 20;

/// Fields that are named as unknown.
const NAMED: usize = 20;

/// A container's configuration.
pub(crate) fn container(path: &Path) -> Outcome<cri::ContainerConfig> {
    let config: cri::ContainerConfig = read(path)?;
    let Some(metadata) = &config.metadata else {
        return Err(Failure::new("metadata is not set"));
    };
    if metadata.name.is_empty() {
        return Err(Failure::new("name is not in metadata"));
    }
    match &config.image {
        None => Err(Failure::new("image is not set")),
        Some(image) if image.image.is_empty() => {
            Err(Failure::new("image field is not set in image"))
        }
        Some(_) => Ok(config),
    }
}

/// A pod's configuration; one without an id of its own gets one.
pub(crate) fn pod(path: &Path) -> Outcome<cri::PodSandboxConfig> {
    let mut config: cri::PodSandboxConfig = read(path)?;
    let Some(metadata) = &mut config.metadata else {
        return Err(Failure::new("metadata is not set"));
    };
    if metadata.name.is_empty() || metadata.namespace.is_empty() {
        return Err(Failure::new("name or namespace is not in metadata"));
    }
    if metadata.uid.is_empty() {
        metadata.uid = random_uid()?;
    }
    if config
        .linux
        .as_ref()
        .is_some_and(|linux| linux.cgroup_parent.is_empty())
    {
        say::warning(
            "cgroup_parent is not set. Use `runtime-config` to get the runtime cgroup driver",
        );
    }
    Ok(config)
}

/// A UUID of version 4.
fn random_uid() -> Outcome<String> {
    let mut bytes = [0_u8; 16];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
        .map_err(std::io::Error::from)?;
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let parts = [
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..],
    ];
    Ok(parts.join("-"))
}

/// A message from a file.
fn read<M: Message + Name + Default>(path: &Path) -> Outcome<M> {
    let at = path.display();
    let file = File::open(path).map_err(|error| match error.kind() {
        ErrorKind::NotFound => Failure::new(format!("config at {at} not found")),
        _ => Failure::new(format!("open {at}: {error}")),
    })?;
    let mut text = String::new();
    file.take(MOST + 1)
        .read_to_string(&mut text)
        .context(path.display())?;
    if text.len() as u64 > MOST {
        let why = format!("config at {at} has more than {MOST} bytes");
        return Err(Failure::new(why));
    }
    parse(&text).context(format!("config at {at}"))
}

pub(crate) fn parse<M: Message + Name + Default>(text: &str) -> Outcome<M> {
    let value: Value = match text.trim_start().starts_with('{') {
        // JSON's own errors are the better ones, but YAML may begin so too.
        true => serde_json::from_str(text)
            .or_else(|error| serde_saphyr::from_str(text).map_err(|_| Failure::new(error)))?,
        false => serde_saphyr::from_str(text)
            .map_err(|error| Failure::new(error.to_string().lines().next().unwrap_or_default()))?,
    };
    let descriptor = json::descriptor(&M::full_name())?;
    let mut unknown = Vec::new();
    let value = fitted(value, &descriptor, "", &mut unknown);
    for name in unknown.iter().take(NAMED) {
        say::warning(&format!("field {name} is unknown: it has no effect"));
    }
    let options = DeserializeOptions::new().deny_unknown_fields(false);
    let read = DynamicMessage::deserialize_with_options(descriptor, value, &options);
    let bytes = read.map_err(Failure::new)?.encode_to_vec();
    M::decode(bytes.as_slice()).map_err(Failure::new)
}

/// The fields of a message, with protojson's names; those that it does not have are left out and named. It
/// goes no deeper than the schema does.
fn fitted(value: Value, message: &MessageDescriptor, at: &str, unknown: &mut Vec<String>) -> Value {
    let Value::Object(map) = value else {
        // What it is instead is told where it is read.
        return value;
    };
    let mut fields = Map::new();
    for (key, value) in map {
        let place = format!("{at}{key}");
        let named = |field: &FieldDescriptor| field.name() == key || field.json_name() == key;
        let Some(field) = message.fields().find(named) else {
            unknown.push(place);
            continue;
        };
        let value = match (field.kind(), value) {
            (_, Value::Null) => continue,
            (Kind::Message(entry), Value::Object(map)) if entry.is_map_entry() => {
                let kind = entry.map_entry_value_field().kind();
                let texts = map
                    .into_iter()
                    .map(|(key, value)| (key, text_of(value, &kind)));
                Value::Object(texts.collect())
            }
            (Kind::Message(inner), Value::Array(list)) => {
                let inside = format!("{place}[].");
                let list = list.into_iter();
                list.map(|one| fitted(one, &inner, &inside, unknown))
                    .collect()
            }
            (Kind::Message(inner), value) => fitted(value, &inner, &format!("{place}."), unknown),
            (kind, Value::Array(list)) => list.into_iter().map(|one| text_of(one, &kind)).collect(),
            (kind, value) => text_of(value, &kind),
        };
        fields.insert(field.json_name().to_owned(), value);
    }
    Value::Object(fields)
}

/// YAML's numbers and truth values where the schema has text.
fn text_of(value: Value, kind: &Kind) -> Value {
    match (kind, value) {
        (Kind::String, Value::Number(number)) => Value::String(number.to_string()),
        (Kind::String, Value::Bool(value)) => Value::String(value.to_string()),
        (_, value) => value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_names_are_read_and_enums_by_name_or_number() {
        let snake = "metadata: {name: a, attempt: 2}\nimage: {image: b}\nlog_path: c.log\n\
            linux: {security_context: {namespace_options: {pid: 1, network: NODE}, run_as_user: {value: 7}}}\n\
            labels: {version: 1, on: true}\nunknown: 1\nenvs: [{key: K, strange: 2}]\n";
        let read: cri::ContainerConfig = parse(snake).unwrap();
        let camel = r#"{"metadata": {"name": "a", "attempt": 2}, "image": {"image": "b"}, "logPath": "c.log",
            "linux": {"securityContext": {"namespaceOptions": {"pid": "CONTAINER", "network": 2},
            "runAsUser": {"value": "7"}}}, "labels": {"version": "1", "on": "true"}, "envs": [{"key": "K"}]}"#;
        let other: cri::ContainerConfig = parse(camel).unwrap();
        assert_eq!(read, other);
        assert_eq!(read.log_path, "c.log");
        let mut unknown = Vec::new();
        let value: Value = serde_saphyr::from_str(snake).unwrap();
        let descriptor = json::descriptor("runtime.v1.ContainerConfig").unwrap();
        fitted(value, &descriptor, "", &mut unknown);
        unknown.sort();
        assert_eq!(unknown, ["envs[].strange", "unknown"]);
    }

    #[test]
    fn what_is_no_configuration_is_refused() {
        for text in [
            "",
            "[]",
            "7",
            "{",
            "metadata: 3",
            "stdin: maybe",
            "a: [",
            "{\"stdin\": 3}",
        ] {
            assert!(parse::<cri::ContainerConfig>(text).is_err(), "{text}");
        }
        let deep = "[".repeat(100_000);
        assert!(parse::<cri::ContainerConfig>(&deep).is_err());
    }

    #[test]
    fn a_pod_gets_an_id() {
        let uid = random_uid().unwrap();
        assert_eq!((uid.len(), &uid[14..15]), (36, "4"), "{uid}");
        assert_ne!(uid, random_uid().unwrap());
    }
}
