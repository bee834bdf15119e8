//! `--format`: the part of Go's text/template that people use to look into JSON.
//!
//! `{{.A.B}}`, `{{.}}`, `{{json .A}}`, `{{index .A "key"}}`, `{{len .A}}`, `{{range .A}}…{{end}}`,
//! `{{if .A}}…{{else}}…{{end}}`, and `{{- -}}` trimming. Whatever else is written is an error: must
//! never print something other than Go would.

use serde_json::Value;

use crate::failure::Failure;
use crate::output;

/// The text that the template makes of a value.
pub(crate) fn render(template: &str, value: &Value) -> Result<String, Failure> {
    let tokens = split(template)?;
    let mut out = String::new();
    let mut at = 0;
    block(&tokens, &mut at, value, true, &mut out)?;
    match tokens.get(at) {
        None => Ok(out),
        Some(_) => Err(flawed("{{end}} or {{else}} without a beginning")),
    }
}

enum Token {
    Text(String),
    Action(Vec<String>),
}

fn flawed(why: impl std::fmt::Display) -> Failure {
    Failure::new(format!("template: {why}"))
}

/// Text and actions. `{{-` and `-}}` take the blanks before and after with them.
fn split(template: &str) -> Result<Vec<Token>, Failure> {
    let mut tokens = Vec::new();
    let mut rest = template;
    let mut trim = false;
    while !rest.is_empty() {
        let (text, action) = match rest.split_once("{{") {
            Some((text, action)) => (text, Some(action)),
            None => (rest, None),
        };
        let mut text = if trim { text.trim_start() } else { text };
        let Some(action) = action else {
            tokens.push(Token::Text(text.to_owned()));
            break;
        };
        let (inside, after) = action
            .split_once("}}")
            .ok_or_else(|| flawed("{{ without }}"))?;
        let mut inside = inside;
        if let Some(trimmed) = inside.strip_prefix("- ") {
            text = text.trim_end();
            inside = trimmed;
        }
        trim = inside.ends_with(" -");
        inside = inside.strip_suffix(" -").unwrap_or(inside);
        tokens.push(Token::Text(text.to_owned()));
        tokens.push(Token::Action(words(inside)?));
        rest = after;
    }
    Ok(tokens)
}

/// The words of an action; a quoted one keeps its opening quote as a mark.
fn words(text: &str) -> Result<Vec<String>, Failure> {
    let mut words = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (word, after) = match rest.strip_prefix('"') {
            Some(quoted) => {
                let (word, after) = quoted
                    .split_once('"')
                    .ok_or_else(|| flawed(format!("a quote is not closed in {text:?}")))?;
                (format!("\"{word}"), after)
            }
            None => {
                let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
                (rest[..end].to_owned(), &rest[end..])
            }
        };
        words.push(word);
        rest = after.trim_start();
    }
    Ok(words)
}

/// Renders up to the `{{end}}` or `{{else}}` that belongs to this block. When not `live`, only
/// finds it.
fn block(
    tokens: &[Token],
    at: &mut usize,
    value: &Value,
    live: bool,
    out: &mut String,
) -> Result<(), Failure> {
    while let Some(token) = tokens.get(*at) {
        let words = match token {
            Token::Text(text) => {
                if live {
                    out.push_str(text);
                }
                *at += 1;
                continue;
            }
            Token::Action(words) => words,
        };
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        match words.as_slice() {
            ["end" | "else"] => return Ok(()),
            ["range", path] => range(tokens, at, value, (path, live), out)?,
            ["if", path] => condition(tokens, at, value, (path, live), out)?,
            expression => {
                if live {
                    out.push_str(&output::value(&evaluate(expression, value)?));
                }
                *at += 1;
            }
        }
    }
    Ok(())
}

fn range(
    tokens: &[Token],
    at: &mut usize,
    value: &Value,
    (path, live): (&str, bool),
    out: &mut String,
) -> Result<(), Failure> {
    let body = *at + 1;
    let items: Vec<Value> = match live.then(|| field(path, value)).transpose()? {
        Some(Value::Array(items)) => items.clone(),
        Some(Value::Object(map)) => map.values().cloned().collect(),
        Some(Value::Null) | None => Vec::new(),
        Some(_) => return Err(flawed(format!("cannot range over {path}"))),
    };
    for item in &items {
        *at = body;
        block(tokens, at, item, true, out)?;
    }
    if items.is_empty() {
        *at = body;
        block(tokens, at, value, false, out)?;
    }
    if is(tokens, *at, "else") {
        *at += 1;
        block(tokens, at, value, live && items.is_empty(), out)?;
    }
    close(tokens, at)
}

fn condition(
    tokens: &[Token],
    at: &mut usize,
    value: &Value,
    (path, live): (&str, bool),
    out: &mut String,
) -> Result<(), Failure> {
    let holds = live && truth(field(path, value)?);
    *at += 1;
    block(tokens, at, value, holds, out)?;
    if is(tokens, *at, "else") {
        *at += 1;
        block(tokens, at, value, live && !holds, out)?;
    }
    close(tokens, at)
}

fn is(tokens: &[Token], at: usize, word: &str) -> bool {
    matches!(tokens.get(at), Some(Token::Action(words)) if words == &[word])
}

fn close(tokens: &[Token], at: &mut usize) -> Result<(), Failure> {
    if !is(tokens, *at, "end") {
        return Err(flawed("{{end}} is missing"));
    }
    *at += 1;
    Ok(())
}

/// Go's idea of what is true: all but the empty and the zero.
fn truth(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(value) => *value,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(map) => !map.is_empty(),
    }
}

fn evaluate(words: &[&str], value: &Value) -> Result<String, Failure> {
    match words {
        [path] if path.starts_with('.') => Ok(shown(field(path, value)?)),
        [text] if text.starts_with('"') => Ok(text[1..].to_owned()),
        ["json", path] => Ok(field(path, value)?.to_string()),
        ["println", path] => Ok(format!("{}\n", shown(field(path, value)?))),
        ["len", path] => match field(path, value)? {
            Value::Array(items) => Ok(items.len().to_string()),
            Value::Object(map) => Ok(map.len().to_string()),
            Value::String(text) => Ok(text.len().to_string()),
            Value::Null => Ok("0".into()),
            _ => Err(flawed(format!("{path} has no length"))),
        },
        ["index", path, key] => {
            let whole = field(path, value)?;
            let found = match key.strip_prefix('"') {
                Some(key) => whole.get(key),
                None => key.parse().ok().and_then(|at: usize| whole.get(at)),
            };
            Ok(found.map(shown).unwrap_or_default())
        }
        other => Err(flawed(format!(
            "{{{{{}}}}} is not supported by this version of floe",
            other.join(" ")
        ))),
    }
}

/// `.A.B` of a value. A field that is not there is an error, as a typing mistake is likely.
fn field<'a>(path: &str, value: &'a Value) -> Result<&'a Value, Failure> {
    let names = path
        .strip_prefix('.')
        .ok_or_else(|| flawed(format!("{path:?} is not a field: write .{path}")))?;
    let mut found = value;
    for name in names.split('.').filter(|name| !name.is_empty()) {
        found = found
            .get(name)
            .ok_or_else(|| flawed(format!("there is no field {name:?} ({path})")))?;
    }
    Ok(found)
}

/// As Go prints it: lists as `[a b]`, maps as `map[k:v]`.
fn shown(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".into(),
        Value::String(text) => text.clone(),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(shown).collect();
            format!("[{}]", items.join(" "))
        }
        Value::Object(map) => {
            let entries: Vec<String> = map
                .iter()
                .map(|(key, value)| format!("{key}:{}", shown(value)))
                .collect();
            format!("map[{}]", entries.join(" "))
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn render_sample(template: &str) -> Result<String, String> {
        let value = json!({
            "Name": "n", "Digest": "sha256:1", "Labels": {"a.b": "c"}, "Layers": ["x", "y"],
            "Size": 3, "None": null, "Config": {"Env": ["A=1"]},
        });
        render(template, &value).map_err(|error| error.to_string())
    }

    #[test]
    fn fields_functions_and_blocks_render_as_in_go() {
        for (template, expected) in [
            ("{{.Name}}@{{ .Digest }}", "n@sha256:1"),
            ("{{.Config.Env}}", "[A=1]"),
            ("{{json .Labels}}", r#"{"a.b":"c"}"#),
            (r#"{{index .Labels "a.b"}}"#, "c"),
            ("{{index .Layers 1}}", "y"),
            ("{{len .Layers}}", "2"),
            ("{{range .Layers}}<{{.}}>{{end}}!", "<x><y>!"),
            ("{{range .None}}x{{else}}none{{end}}", "none"),
            ("{{if .None}}a{{else}}b{{end}}{{if .Size}}c{{end}}", "bc"),
            ("a {{- .Size -}} b", "a3b"),
            ("{{.Labels}} {{.None}}", "map[a.b:c] <nil>"),
            ("plain", "plain"),
        ] {
            assert_eq!(
                render_sample(template).as_deref(),
                Ok(expected),
                "{template}"
            );
        }
    }

    #[test]
    fn what_is_not_understood_is_an_error() {
        for (template, why) in [
            ("{{.Nmae}}", "no field \"Nmae\""),
            ("{{.Name", "without }}"),
            ("{{printf .Name}}", "not supported"),
            ("{{range .Layers}}", "{{end}} is missing"),
            ("{{end}}", "without a beginning"),
            ("{{range .Size}}{{end}}", "cannot range"),
            ("{{json Name}}", "write .Name"),
        ] {
            let error = render_sample(template).unwrap_err();
            assert!(error.contains(why), "{template}: {error}");
        }
    }
}
