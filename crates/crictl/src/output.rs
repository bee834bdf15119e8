//! What verbs print in the forms of `--output`: messages as they are, and statuses with what a runtime says beside
//! them.

use std::collections::BTreeMap;

use prost::{Message, Name};
use serde_json::{Map, Value};

use crate::failure::{Context, Failure, Outcome};
use crate::{Render, json, say, yaml};

/// Prints a message as protojson.
pub(crate) fn as_json<M: Message + Name>(message: &M) -> Outcome {
    say::print(&(escaped(&json::text(message)?) + "\n"));
    Ok(())
}

/// Prints a value of our own as JSON.
pub(crate) fn value_as_json(value: &Value) -> Outcome {
    say::print(&(escaped(&json::go_text(value)?) + "\n"));
    Ok(())
}

/// Prints a message as YAML, with crictl's empty line after it.
pub(crate) fn as_yaml<M: Message + Name>(message: &M) -> Outcome {
    say::print(&(yaml::text(&json::value(message)?) + "\n"));
    Ok(())
}

/// JSON with escapes for what a terminal would obey and JSON lets through.
fn escaped(text: &str) -> String {
    let obeyed = |c: char| !c.is_ascii() && say::shown(c.encode_utf8(&mut [0; 4])).len() > 4;
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match obeyed(c) || c == '\u{7f}' {
            // All of them are in Unicode's first plane, and inside of texts.
            true => out += &format!("\\u{:04x}", u32::from(c)),
            false => out.push(c),
        }
    }
    out
}

/// A status with what a runtime says beside it.
#[derive(Debug, Default)]
pub(crate) struct Status {
    pub(crate) status: Value,
    /// Of a runtime's status only.
    pub(crate) handlers: Option<Value>,
    pub(crate) features: Option<Value>,
    /// Texts, many of which are JSON.
    pub(crate) info: BTreeMap<String, String>,
}

impl Status {
    fn value(self) -> Outcome<Value> {
        let mut all = Map::new();
        all.insert("status".to_owned(), self.status);
        all.extend(
            self.handlers
                .map(|value| ("runtimeHandlers".to_owned(), value)),
        );
        all.extend(self.features.map(|value| ("features".to_owned(), value)));
        for (key, text) in self.info {
            let value = match text.starts_with('{') {
                true => serde_json::from_str(&text)
                    .map_err(Failure::new)
                    .context("unmarshal status info JSON")?,
                false => Value::String(text.trim_matches('"').to_owned()),
            };
            all.insert(key, value);
        }
        Ok(Value::Object(all))
    }
}

/// Prints statuses: one by itself, several as a list.
pub(crate) fn statuses(
    mut all: Vec<Status>,
    format: &str,
    template: &str,
    render: Render,
) -> Outcome {
    let value = match all.len() {
        0 => return Ok(()),
        1 => all.remove(0).value()?,
        _ => all.into_iter().map(Status::value).collect::<Outcome<_>>()?,
    };
    match format {
        "json" => say::print(&(escaped(&json::go_text(&value)?) + "\n")),
        "yaml" => say::print(&(yaml::text(&value) + "\n")),
        "go-template" => templated(template, &value, render).context("execute template")?,
        other => return Err(Failure::new(format!("unsupported format: {other:?}"))),
    }
    Ok(())
}

/// Prints what a template makes of a value.
pub(crate) fn templated(template: &str, value: &Value, render: Render) -> Outcome {
    let text = render(template, value).map_err(Failure::new)?;
    say::print(&(text + "\n"));
    Ok(())
}

/// Go's print of a map: `map[a:b c:d]`.
pub(crate) fn go_map(map: &BTreeMap<String, String>) -> String {
    let pairs = map.iter().map(|(key, value)| format!("{key}:{value}"));
    let pairs: Vec<String> = pairs.collect();
    format!("map[{}]", pairs.join(" "))
}

/// Lines of a map below its name.
pub(crate) fn pairs(out: &mut String, name: &str, map: &BTreeMap<String, String>) {
    // A map that a message does not have is one without entries, on the wire.
    if map.is_empty() {
        return;
    }
    *out += &format!("{name}:\n");
    for (key, value) in map {
        *out += &format!("\t{} -> {}\n", say::shown(key), say::shown(value));
    }
}
