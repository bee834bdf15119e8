//! Values as YAML, as sigs.k8s.io/yaml prints what was JSON: keys in order, lists not indented below their
//! keys, texts in quotes only where they need them.

use serde_json::Value;

use crate::say;

/// The text of a value, with a line end.
pub(crate) fn text(value: &Value) -> String {
    let mut out = String::new();
    match value {
        Value::Object(map) if !map.is_empty() => write(&mut out, value, 0),
        Value::Array(list) if !list.is_empty() => write(&mut out, value, 0),
        other => out += &(leaf(other, 0, 0) + "\n"),
    }
    out
}

/// Writes a mapping or list whose lines begin after so many blanks. Values are as deep as the schema, or as
/// serde_json takes them: 128.
fn write(out: &mut String, value: &Value, indent: usize) {
    let blanks = " ".repeat(indent);
    match value {
        Value::Object(map) => {
            let mut keys: Vec<&String> = map.keys().collect();
            keys.sort();
            for key in keys {
                let name = scalar(key);
                *out += &format!("{blanks}{name}:");
                inside(out, &map[key], indent, indent + name.chars().count() + 2);
            }
        }
        Value::Array(list) => {
            for one in list {
                *out += &format!("{blanks}-");
                let mut part = String::new();
                match one {
                    Value::Object(map) if !map.is_empty() => write(&mut part, one, indent + 2),
                    Value::Array(list) if !list.is_empty() => write(&mut part, one, indent + 2),
                    other => {
                        *out += &format!(" {}\n", leaf(other, indent, indent + 2));
                        continue;
                    }
                }
                // The first line stands beside the dash.
                *out += &format!(" {}", part.trim_start_matches(' '));
            }
        }
        other => *out += &(leaf(other, indent, indent) + "\n"),
    }
}

/// What stands behind a key, at this column.
fn inside(out: &mut String, value: &Value, indent: usize, column: usize) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            out.push('\n');
            write(out, value, indent + 2);
        }
        Value::Array(list) if !list.is_empty() => {
            out.push('\n');
            write(out, value, indent);
        }
        other => *out += &format!(" {}\n", leaf(other, indent, column)),
    }
}

/// A value that is neither, written from this column on.
fn leaf(value: &Value, indent: usize, column: usize) -> String {
    match value {
        Value::Object(_) => "{}".to_owned(),
        Value::Array(_) => "[]".to_owned(),
        Value::Null => "null".to_owned(),
        Value::String(text) if is_block(text) => block(text, indent),
        Value::String(text) => folded(&scalar(text), indent, column),
        Value::Number(number) => match number.as_f64() {
            Some(float) if number.is_f64() && float.fract() == 0.0 && float.abs() < 1e21 => {
                format!("{float:.0}")
            }
            _ => number.to_string(),
        },
        Value::Bool(value) => value.to_string(),
    }
}

/// Where go-yaml breaks lines: at a blank behind this column.
const WIDTH: usize = 80;

/// A text with line ends for single blanks where it is long. What has escapes stays as it is.
fn folded(text: &str, indent: usize, mut column: usize) -> String {
    if text.starts_with('"') || column + text.len() <= WIDTH {
        return text.to_owned();
    }
    let quotes = usize::from(text.starts_with('\''));
    let letters: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len() + indent);
    for (at, &letter) in letters.iter().enumerate() {
        let is_inside = at > quotes && at + 1 + quotes < letters.len();
        let is_single = || letter == ' ' && letters[at - 1] != ' ' && letters[at + 1] != ' ';
        if column > WIDTH && is_inside && is_single() {
            out.push('\n');
            out += &" ".repeat(indent + 2);
            column = indent + 2;
            continue;
        }
        out.push(letter);
        column += 1;
    }
    out
}

/// A text of several lines that may stand as it is.
fn is_block(text: &str) -> bool {
    let is_plain = |c: char| c == '\n' || !is_escaped(c);
    text.contains('\n')
        && text.chars().all(is_plain)
        && !text.starts_with([' ', '\n'])
        && !text.contains(" \n")
}

fn block(text: &str, indent: usize) -> String {
    let blanks = " ".repeat(indent + 2);
    let (body, keep) = match text.strip_suffix('\n') {
        Some(body) if body.ends_with('\n') => (body, "+"),
        Some(body) => (body, ""),
        None => (text, "-"),
    };
    let lines = body.split('\n').map(|line| match line.is_empty() {
        true => String::new(),
        false => format!("{blanks}{line}"),
    });
    format!("|{keep}\n{}", lines.collect::<Vec<_>>().join("\n"))
}

/// A text of one line, in quotes if it would be read as something else.
pub(crate) fn scalar(text: &str) -> String {
    if text.is_empty() || is_other(text) || text.contains(is_escaped) {
        return escaped(text);
    }
    match needs_quotes(text) {
        true => format!("'{}'", text.replace('\'', "''")),
        false => text.to_owned(),
    }
}

/// What YAML has only by its number, and what a terminal would obey.
fn is_escaped(c: char) -> bool {
    say::is_obeyed(c) || matches!(c, '\u{feff}' | '\u{fffe}' | '\u{ffff}')
}

/// A text in double quotes: JSON's escapes are YAML's, and what JSON lets through has its number.
fn escaped(text: &str) -> String {
    let mut out = String::new();
    for c in Value::String(text.to_owned()).to_string().chars() {
        match is_escaped(c) {
            // All of them are in Unicode's first plane.
            true => out += &format!("\\u{:04x}", u32::from(c)),
            false => out.push(c),
        }
    }
    out
}

/// Whether plain text would be read as a number, a truth value, nothing or a date.
fn is_other(text: &str) -> bool {
    const WORDS: [&str; 14] = [
        "true", "false", "yes", "no", "on", "off", "y", "n", "null", "~", ".inf", "-.inf", ".nan",
        "<<",
    ];
    if WORDS.contains(&text.to_lowercase().as_str()) {
        return true;
    }
    let begins = text.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c));
    let plain = text.replace('_', "");
    let digits = plain.trim_start_matches(['+', '-']);
    let based = |prefix: &str, is_digit: fn(char) -> bool| {
        let rest = digits.strip_prefix(prefix);
        rest.is_some_and(|rest| !rest.is_empty() && rest.chars().all(is_digit))
    };
    begins
        && (plain.parse::<f64>().is_ok()
            || based("0x", |c| c.is_ascii_hexdigit())
            || based("0b", |c| c == '0' || c == '1')
            || based("0o", |c| c.is_digit(8))
            || is_of_sixties(digits)
            || is_date(text))
}

/// A number to the base of sixty, as hours and minutes, which YAML 1.1 has: so an address of Ethernet may be one.
fn is_of_sixties(text: &str) -> bool {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let mut parts = whole.split(':');
    let is_number = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    let begins = parts
        .next()
        .is_some_and(|part| !part.is_empty() && is_number(part));
    let sixty = |part: &str| part.parse::<u8>().is_ok_and(|part| part < 60);
    let is_short = |part: &str| part.len() <= 2 && is_number(part) && sixty(part);
    whole.contains(':') && begins && parts.all(is_short) && is_number(fraction)
}

fn is_date(text: &str) -> bool {
    let bytes = text.as_bytes();
    let digit = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_digit);
    (0..4).all(digit) && bytes.get(4) == Some(&b'-') && digit(5) && text[5..].contains('-') && {
        let rest = text[5..].trim_start_matches(|c: char| c.is_ascii_digit() || c == '-');
        let is_time = |c: char| c.is_ascii_digit() || "Tt:.Zz+- ".contains(c);
        rest.is_empty() || (rest.starts_with(['T', 't', ' ']) && rest.chars().all(is_time))
    }
}

/// Whether YAML's own signs stand where they mean something.
fn needs_quotes(text: &str) -> bool {
    let first = text.chars().next().unwrap_or(' ');
    let second = text.chars().nth(1);
    let apart = second.is_none_or(|second| second == ' ');
    "#,[]{}&*!|>'\"%@`".contains(first)
        || ("-?:".contains(first) && apart)
        || text.starts_with("---")
        || text.starts_with("...")
        || first == ' '
        || text.ends_with([' ', ':'])
        || text.contains(": ")
        || text.contains(" #")
        || text.contains('\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_are_written_as_kubernetes_does() {
        let value = json!({
            "b": {"list": ["x", {"k": "v", "a": []}], "empty": {}},
            "a": "7", "n": 7, "t": true, "none": null, "f": 0.0,
            "words": "one: two", "lines": "a\nb\n", "date": "2026-01-02T03:04:05Z",
            "url": "unix:///a", "star": "*a", "tab": "a\tb", "quote": "it's: x",
        });
        let expected = "a: \"7\"\nb:\n  empty: {}\n  list:\n  - x\n  - a: []\n    k: v\n\
            date: \"2026-01-02T03:04:05Z\"\nf: 0\nlines: |\n  a\n  b\n\"n\": 7\nnone: null\nquote: 'it''s: x'\n\
            star: '*a'\nt: true\ntab: \"a\\tb\"\nurl: unix:///a\nwords: 'one: two'\n";
        assert_eq!(text(&value), expected);
        let read: Value = serde_saphyr::from_str(expected).unwrap();
        assert_eq!(read["b"], value["b"]);
        assert_eq!(read["lines"], value["lines"]);
        assert_eq!(read["tab"], value["tab"]);
    }

    #[test]
    fn what_would_be_something_else_is_quoted() {
        for other in [
            "",
            "true",
            "No",
            "1e3",
            "0x1f",
            "-1",
            ".5",
            "2026-01-02",
            "~",
        ] {
            assert_eq!(scalar(other), format!("\"{other}\""));
        }
        for plain in [
            "a",
            "1.2.3",
            "sha256:abc",
            "10.1.2.3",
            "-x",
            "a b",
            "1.36.0-rc",
        ] {
            assert_eq!(scalar(plain), plain);
        }
    }

    #[test]
    fn long_texts_are_broken_at_blanks_behind_the_width() {
        let words = "word ".repeat(30).trim_end().to_owned();
        let value =
            json!({"outer": {"key": words, "quoted": format!("'{words}'"), "list": [words]}});
        let text = text(&value);
        let first = text.lines().nth(1).unwrap();
        assert!(
            first.starts_with("  key: word ") && first.len() > WIDTH && first.len() < 90,
            "{text}"
        );
        assert!(
            text.lines().nth(2).unwrap().starts_with("    word"),
            "{text}"
        );
        let read: Value = serde_saphyr::from_str(&text).unwrap();
        assert_eq!(read, value);
        let long = "x".repeat(200);
        assert_eq!(super::text(&json!({"k": long})), format!("k: {long}\n"));
    }
}
