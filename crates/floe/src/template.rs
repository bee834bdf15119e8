//! `--format`: Go's text/template over JSON, as podman and skopeo have it, by the crate gtmpl-ng
//! (docs/decisions/008-go-templates.md). Here is what they add to Go: their functions, `\t` and `\n` outside
//! of actions, and `table`.
//!
//! Objects whose keys all begin with a capital are Go's structs: a field that is not there is an error, as a
//! typing mistake is likely. Must never print what a terminal obeys.

use std::collections::HashMap;

use gtmpl_ng::{Context, Func, FuncError, Number, Template, Value as Go};
use serde_json::Value;

use crate::{Failure, output};

/// podman's functions, and `index`, which finds nothing in a map without a word.
const FUNCTIONS: [(&str, Func); 9] = [
    ("index", index),
    ("join", join),
    ("json", json),
    ("lower", lower),
    ("pad", pad),
    ("split", split),
    ("title", title),
    ("truncate", truncate),
    ("upper", upper),
];

/// Prints values as JSON, or what the template makes of each.
pub(crate) fn print_each(format: &str, values: &[Value]) -> Result<(), Failure> {
    if format == "json" {
        output::print_list(values);
        return Ok(());
    }
    for value in values {
        println!("{}", render(format, value)?);
    }
    Ok(())
}

/// The text that the template makes of a value.
pub(crate) fn render(template: &str, value: &Value) -> Result<String, Failure> {
    let text = parse(&unescaped(template, false))?.render(value)?;
    Ok(output::value(&text).into_owned())
}

/// The same as crictl has it: the template is Go's without podman's `\t` and `\n`, and what is not there is an
/// error in every object.
pub(crate) fn render_known(template: &str, value: &Value) -> Result<String, String> {
    let flawed = |failure: Failure| format!("failed to generate go-template: {}", failure.message);
    let parsed = parse(template).map_err(flawed)?;
    let context = Context::from(known(to_go(value, &[])));
    let text = parsed.0.render(&context).map_err(|error| {
        let words = error.to_string();
        // The value that lacks a field may be pages long.
        match words
            .split_once("no field `")
            .and_then(|(_, rest)| rest.split_once('`'))
        {
            Some((name, _)) => {
                format!("failed to template data: map has no entry for key {name:?}")
            }
            None => format!("failed to template data: {words}"),
        }
    })?;
    Ok(output::value(&text).into_owned())
}

/// Maps as Go's structs, whose fields are known.
fn known(value: Go) -> Go {
    match value {
        Go::Map(map) | Go::Object(map) => {
            let fields = map.into_iter().map(|(key, value)| (key, known(value)));
            Go::Object(fields.collect())
        }
        Go::Array(items) => items.into_iter().map(known).collect::<Vec<_>>().into(),
        other => other,
    }
}

/// A line for each value, or, when `table` stands before the template, columns below what the template
/// makes of `header`.
pub(crate) fn lines(format: &str, header: &Value, values: &[Value]) -> Result<String, Failure> {
    let Some(columns) = format.strip_prefix("table ") else {
        let rendered = values.iter().map(|value| render(format, value));
        return rendered.map(|line| Ok(line? + "\n")).collect();
    };
    let template = parse(&unescaped(columns.trim(), true))?;
    let row = |value: &Value| -> Result<Vec<String>, Failure> {
        Ok(template
            .render(value)?
            .split('\t')
            .map(str::to_owned)
            .collect())
    };
    let header = row(header)?;
    let header: Vec<&str> = header.iter().map(String::as_str).collect();
    let rows = values.iter().map(row).collect::<Result<Vec<_>, _>>()?;
    Ok(output::table(&header, &rows))
}

/// What podman knows by two names: a template that asks by one is given the other.
const ALSO: [(&str, &str); 2] = [("ID", "Id"), ("Id", "ID")];

/// A template, and which of the names it asks for.
struct Parsed(Template, Vec<(&'static str, &'static str)>);

fn parse(template: &str) -> Result<Parsed, Failure> {
    let mut parsed = Template::default();
    parsed.add_funcs(&FUNCTIONS);
    parsed.parse(template).map_err(flawed)?;
    // Only these: `{{json .}}` shows what is there, and once.
    let asks = |(wanted, _): &(&str, &str)| template.contains(&format!(".{wanted}"));
    let also = ALSO.into_iter().filter(asks);
    Ok(Parsed(parsed, also.collect()))
}

impl Parsed {
    fn render(&self, value: &Value) -> Result<String, Failure> {
        let context = Context::from(to_go(value, &self.1));
        self.0.render(&context).map_err(flawed)
    }
}

fn flawed(why: impl std::fmt::Display) -> Failure {
    Failure::new(format!("template: {why}"))
}

/// The template with tabs and line ends for `\t` and `\n`, and in a table tabs for blanks, but in actions: in
/// their strings the crate itself takes such escapes for what they mean, also in raw ones, as podman has it.
fn unescaped(template: &str, is_table: bool) -> String {
    let mut out = String::with_capacity(template.len());
    let mut rest = template;
    while !rest.is_empty() {
        let (text, action) = rest.split_at(rest.find("{{").unwrap_or(rest.len()));
        let text = text.replace("\\t", "\t").replace("\\n", "\n");
        out += &match is_table {
            true => text.replace(' ', "\t"),
            false => text,
        };
        let end = action.find("}}").map_or(action.len(), |at| at + 2);
        out += &action[..end];
        rest = &action[end..];
    }
    out
}

/// `also`: names that structs are asked for, and those that they may have instead.
fn to_go(value: &Value, also: &[(&str, &str)]) -> Go {
    match value {
        Value::Null => Go::Nil,
        Value::Bool(value) => Go::Bool(*value),
        Value::Number(number) => Go::Number(match (number.as_u64(), number.as_i64()) {
            (Some(number), _) => Number::unsigned(number),
            (None, Some(number)) => Number::signed(number),
            (None, None) => Number::float(number.as_f64().unwrap_or_default()),
        }),
        Value::String(text) => Go::String(text.clone()),
        Value::Array(items) => Go::Array(items.iter().map(|item| to_go(item, also)).collect()),
        Value::Object(map) => {
            let is_field = |name: &String| name.starts_with(|c: char| c.is_ascii_uppercase());
            let is_struct = !map.is_empty() && map.keys().all(is_field);
            let entries = map.iter();
            let entries = entries.map(|(key, value)| (key.clone(), to_go(value, also)));
            let mut entries: HashMap<String, Go> = entries.collect();
            for (wanted, name) in also.iter().filter(|_| is_struct) {
                if let Some(value) = entries.get(*name).cloned() {
                    entries.entry((*wanted).to_owned()).or_insert(value);
                }
            }
            match is_struct {
                true => Go::Object(entries),
                false => Go::Map(entries),
            }
        }
    }
}

fn to_json(value: &Go) -> Value {
    match value {
        Go::Bool(value) => Value::Bool(*value),
        Go::String(text) => Value::String(text.clone()),
        Go::Number(number) => match (number.as_u64(), number.as_i64(), number.as_f64()) {
            (Some(number), _, _) => number.into(),
            (None, Some(number), _) => number.into(),
            (None, None, number) => number.into(),
        },
        Go::Array(items) => items.iter().map(to_json).collect(),
        Go::Map(map) | Go::Object(map) => {
            let entries = map.iter().map(|(key, value)| (key.clone(), to_json(value)));
            Value::Object(entries.collect())
        }
        Go::NoValue | Go::Nil | Go::Function(_) => Value::Null,
    }
}

type Made = Result<Go, FuncError>;

fn wrong(why: impl std::fmt::Display) -> FuncError {
    FuncError::Generic(why.to_string())
}

fn arguments<'a, const N: usize>(name: &str, given: &'a [Go]) -> Result<&'a [Go; N], FuncError> {
    let exactly = || FuncError::ExactlyXArgs(name.to_owned(), N);
    given.try_into().map_err(|_| exactly())
}

fn text<'a>(name: &str, value: &'a Go) -> Result<&'a str, FuncError> {
    match value {
        Go::String(text) => Ok(text),
        other => Err(wrong(format!("{name} wants a text instead of {other}"))),
    }
}

fn count(name: &str, value: &Go) -> Result<usize, FuncError> {
    let number = match value {
        Go::Number(number) => number
            .as_u64()
            .and_then(|number| usize::try_from(number).ok()),
        _ => None,
    };
    number.ok_or_else(|| wrong(format!("{name} wants a number instead of {value}")))
}

/// As Go's: an entry that a map does not have is an empty text, and one that a list does not have an error.
fn index(given: &[Go]) -> Made {
    let (whole, keys) = given
        .split_first()
        .ok_or_else(|| wrong("index wants a value"))?;
    keys.iter()
        .try_fold(whole.clone(), |found, key| match &found {
            Go::Map(map) | Go::Object(map) => {
                let entry = map.get(text("index", key)?).cloned();
                Ok(entry.unwrap_or_else(|| Go::String(String::new())))
            }
            Go::Array(items) => items
                .get(count("index", key)?)
                .cloned()
                .ok_or_else(|| wrong(format!("index {key} of a list of {}", items.len()))),
            other => Err(wrong(format!("there is no index into {other}"))),
        })
}

fn join(given: &[Go]) -> Made {
    let [list, between] = arguments("join", given)?;
    match list {
        Go::Array(items) => {
            let items: Vec<String> = items.iter().map(ToString::to_string).collect();
            Ok(Go::String(items.join(text("join", between)?)))
        }
        other => Err(wrong(format!("join wants a list instead of {other}"))),
    }
}

fn json(given: &[Go]) -> Made {
    let [value] = arguments("json", given)?;
    Ok(Go::String(to_json(value).to_string()))
}

fn lower(given: &[Go]) -> Made {
    let [value] = arguments("lower", given)?;
    Ok(Go::String(text("lower", value)?.to_lowercase()))
}

fn upper(given: &[Go]) -> Made {
    let [value] = arguments("upper", given)?;
    Ok(Go::String(text("upper", value)?.to_uppercase()))
}

/// So many blanks before and after, unless there is nothing.
fn pad(given: &[Go]) -> Made {
    let [value, before, after] = arguments("pad", given)?;
    let (value, most) = (text("pad", value)?, usize::from(u16::MAX));
    let blanks = |wanted: &Go| count("pad", wanted).map(|wanted| " ".repeat(wanted.min(most)));
    Ok(Go::String(match value {
        "" => String::new(),
        value => blanks(before)? + value + &blanks(after)?,
    }))
}

fn split(given: &[Go]) -> Made {
    let [value, at] = arguments("split", given)?;
    let parts = text("split", value)?.split(text("split", at)?);
    Ok(Go::Array(
        parts.map(|part| Go::String(part.to_owned())).collect(),
    ))
}

/// The first letter of every word as a capital.
fn title(given: &[Go]) -> Made {
    let [value] = arguments("title", given)?;
    let mut begins = true;
    let letters = text("title", value)?.chars().flat_map(|letter| {
        let raised = begins && letter.is_lowercase();
        begins = letter.is_whitespace();
        match raised {
            true => letter.to_uppercase().collect(),
            false => vec![letter],
        }
    });
    Ok(Go::String(letters.collect()))
}

fn truncate(given: &[Go]) -> Made {
    let [value, most] = arguments("truncate", given)?;
    let most = count("truncate", most)?;
    Ok(Go::String(
        text("truncate", value)?.chars().take(most).collect(),
    ))
}

#[cfg(test)]
mod tests;
