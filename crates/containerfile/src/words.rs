//! A line to words: by blanks, with quotes and escapes kept; flags; JSON lists; here-documents that are announced.

use crate::error::Flaw;
use crate::instruction::{Flags, Text};

/// The first word, and the rest without blanks before it.
pub(crate) fn first(text: &str) -> (&str, &str) {
    match text.split_once(char::is_whitespace) {
        Some((word, rest)) => (word, rest.trim_start()),
        None => (text, ""),
    }
}

/// The words of a line; blanks within quotes, or after the escape character, do not end one.
pub(crate) fn split(text: &str, escape: char) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quote = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match quote {
            None if c.is_whitespace() => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                continue;
            }
            None if c == '"' || c == '\'' => quote = Some(c),
            Some(open) if c == open => quote = None,
            _ => {}
        }
        word.push(c);
        // Single quotes take it as it is.
        if c == escape && quote != Some('\'') {
            word.extend(chars.next());
        }
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

/// The flags before the arguments, and the rest of the line.
pub(crate) fn flags<'a>(
    text: &'a str,
    escape: char,
    known: &[&str],
) -> Result<(Flags, &'a str), Flaw> {
    let mut flags = Vec::new();
    let mut rest = text;
    while rest.starts_with("--") {
        let length = length_of_word(rest, escape);
        let (word, after) = rest.split_at(length);
        rest = after.trim_start();
        if word == "--" {
            break;
        }
        let (name, value) = match word[2..].split_once('=') {
            Some((name, value)) => (name, Some(Text::new(value))),
            None => (&word[2..], None),
        };
        if !known.contains(&name) {
            return Err(
                Flaw::new(format!("unknown flag --{name}")).among(name, known.iter().copied())
            );
        }
        flags.push((name.to_owned(), value));
    }
    Ok((Flags(flags), rest))
}

/// Bytes of the word that the text begins with.
fn length_of_word(text: &str, escape: char) -> usize {
    let mut quote = None;
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match quote {
            None if c.is_whitespace() => return at,
            None if c == '"' || c == '\'' => quote = Some(c),
            Some(open) if c == open => quote = None,
            _ => {}
        }
        if c == escape && quote != Some('\'') {
            chars.next();
        }
    }
    text.len()
}

/// A JSON list of strings, if the text is one. A list of anything else is an error, all else is no list.
pub(crate) fn json(text: &str) -> Result<Option<Vec<String>>, Flaw> {
    if !text.trim_start().starts_with('[') {
        return Ok(None);
    }
    // serde_json has a limit of its own for what is nested.
    let Ok(values) = serde_json::from_str::<Vec<serde_json::Value>>(text) else {
        return Ok(None);
    };
    let words = values.into_iter().map(|value| match value {
        serde_json::Value::String(word) => Ok(word),
        other => Err(Flaw::new(format!(
            "{other} is no string: a list in brackets has strings only"
        ))),
    });
    words.collect::<Result<_, _>>().map(Some)
}

/// A here-document that a line announces.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Announced {
    pub(crate) word: String,
    pub(crate) name: String,
    pub(crate) strip_tabs: bool,
    pub(crate) expand: bool,
}

/// The here-documents that a line announces. A list in brackets announces none.
pub(crate) fn announced(text: &str, escape: char) -> Vec<Announced> {
    if matches!(json(text), Ok(Some(_))) {
        return Vec::new();
    }
    split(text, escape)
        .iter()
        .filter_map(|word| announcement(word))
        .collect()
}

/// `<<NAME`, `<<-NAME`, `<<"NAME"`, with the number of a file descriptor before it or without.
fn announcement(word: &str) -> Option<Announced> {
    let rest = word
        .trim_start_matches(|c: char| c.is_ascii_digit())
        .strip_prefix("<<")?;
    let (strip_tabs, quoted) = match rest.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, rest),
    };
    let name: String = quoted
        .chars()
        .filter(|c| !matches!(c, '"' | '\'' | '\\'))
        .collect();
    if name.is_empty() || name.contains(['<', '>', '(', ')', ';', '&', '|']) {
        return None;
    }
    Some(Announced {
        word: word.to_owned(),
        strip_tabs,
        expand: name == quoted,
        name,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_keep_quotes_and_escapes() {
        for (text, expected) in [
            ("a  b\tc", vec!["a", "b", "c"]),
            ("a=\"b c\" d", vec!["a=\"b c\"", "d"]),
            ("a='b \" c' d", vec!["a='b \" c'", "d"]),
            ("a\\ b c", vec!["a\\ b", "c"]),
            ("'a\\' b", vec!["'a\\'", "b"]),
            ("\"a\\\" b\" c", vec!["\"a\\\" b\"", "c"]),
            ("", vec![]),
            ("\"open a", vec!["\"open a"]),
        ] {
            assert_eq!(split(text, '\\'), expected, "{text}");
        }
    }

    #[test]
    fn flags_come_first_and_are_known() {
        let (found, rest) = flags(
            "--from=a --link --chown=\"a b\" x --y",
            '\\',
            &["from", "link", "chown"],
        )
        .unwrap();
        assert_eq!(rest, "x --y");
        assert_eq!(found.get("from").unwrap().raw, "a");
        assert!(found.is_set("link") && !found.is_set("parents"));
        assert_eq!(found.get("chown").unwrap().raw, "\"a b\"");
        let near = flags("--form=a x", '\\', &["from", "chmod"]).unwrap_err();
        assert_eq!(
            (near.reason.as_str(), near.hint.as_deref()),
            ("unknown flag --form", Some("did you mean from?"))
        );
        assert_eq!(flags("--zzzzzz x", '\\', &["from"]).unwrap_err().hint, None);
    }

    #[test]
    fn lists_are_json_or_no_lists() {
        assert_eq!(json(" [\"a\", \"b c\"]").unwrap().unwrap(), ["a", "b c"]);
        assert_eq!(json("[ -f x ] && y"), Ok(None));
        assert_eq!(json("['a']"), Ok(None));
        assert!(json("[1]").is_err());
        assert_eq!(json(&"[".repeat(100_000)), Ok(None));
    }

    #[test]
    fn documents_are_announced_by_a_word() {
        for (text, names) in [
            ("<<EOF", vec!["EOF"]),
            ("cat <<A 3<<-B > x", vec!["A", "B"]),
            ("<<'A b' x", vec!["A b"]),
            ("a<<B <<<c <<", vec![]),
            ("[\"<<EOF\"]", vec![]),
            ("\"<<EOF\"", vec![]),
        ] {
            let found: Vec<_> = announced(text, '\\')
                .into_iter()
                .map(|one| one.name)
                .collect();
            assert_eq!(found, names, "{text}");
        }
    }
}
