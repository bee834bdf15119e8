//! Values of units' properties as the text of an annotation (`org.systemd.property.*`): GVariant's
//! text format, as far as properties need it: booleans, numbers, strings, byte strings, arrays and
//! variants, with types in words (`uint64 5`) or letters (`@as []`). Decides nothing about units.

use super::marshal::Value;

/// Deeper nesting than any property has.
const DEPTH: usize = 8;

/// Reads a text that is one value.
pub(super) fn parse(text: &str) -> Result<Value, String> {
    let mut parser = Parser { rest: text };
    let node = parser.node(None, DEPTH)?;
    parser.skip_blanks();
    if !parser.rest.is_empty() {
        return Err(format!("unexpected {:?} after the value", parser.rest));
    }
    let kind = node.kind().unwrap_or_else(|| node.default_kind());
    node.value(&kind)
}

/// A value whose type may not be known yet.
#[derive(Debug)]
enum Node {
    Number(String, Option<String>),
    Text(String, Option<String>),
    Array(Vec<Node>, Option<String>),
    Typed(Value),
}

impl Node {
    /// The type, where the text says it.
    fn kind(&self) -> Option<String> {
        match self {
            Node::Number(_, kind) | Node::Text(_, kind) => kind.clone(),
            Node::Array(elements, None) => elements
                .iter()
                .find_map(Node::kind)
                .map(|kind| format!("a{kind}")),
            Node::Array(_, kind) => kind.clone(),
            Node::Typed(value) => Some(value.signature()),
        }
    }

    /// The type where it says none.
    fn default_kind(&self) -> String {
        match self {
            Node::Number(text, _) if text.contains(['.', 'e', 'E']) && !text.contains('x') => {
                "d".to_owned()
            }
            Node::Number(..) => "i".to_owned(),
            Node::Text(..) => "s".to_owned(),
            Node::Array(elements, _) => elements
                .first()
                .map(|first| format!("a{}", first.default_kind()))
                .unwrap_or_default(),
            Node::Typed(value) => value.signature(),
        }
    }

    fn value(self, kind: &str) -> Result<Value, String> {
        let mismatch = |what: &str| format!("{what} is not of type {kind:?}");
        if let Some(own) = self.kind()
            && own != kind
        {
            return Err(mismatch(&format!("a value of type {own:?}")));
        }
        match (self, kind.as_bytes()) {
            (Node::Number(text, _), [kind]) if !b"sogv".contains(kind) => number(&text, *kind),
            (Node::Text(text, _), [kind @ (b's' | b'o' | b'g')]) => Ok(Value::Text(*kind, text)),
            (Node::Array(elements, _), [b'a', _, ..]) => {
                let of = &kind[1..];
                let elements = elements.into_iter().map(|element| element.value(of));
                Ok(Value::Array(
                    of.to_owned(),
                    elements.collect::<Result<_, _>>()?,
                ))
            }
            (Node::Array(..), _) => Err("an empty array needs a type, such as @as []".to_owned()),
            (Node::Typed(value), _) => Ok(value),
            (Node::Number(text, _) | Node::Text(text, _), _) => Err(mismatch(&format!("{text:?}"))),
        }
    }
}

/// A number as C writes it: decimal, `0x` hexadecimal, `0` octal.
fn number(text: &str, kind: u8) -> Result<Value, String> {
    let wrong = || format!("{text:?} is not a number of type {:?}", char::from(kind));
    if kind == b'd' {
        let number: f64 = text.parse().map_err(|_| wrong())?;
        return Ok(Value::Fixed(kind, number.to_bits()));
    }
    let (negative, digits) = match text.as_bytes() {
        [b'-', ..] => (true, &text[1..]),
        [b'+', ..] => (false, &text[1..]),
        _ => (false, text),
    };
    let (digits, radix) = match digits.strip_prefix("0x") {
        Some(digits) => (digits, 16),
        None if digits.len() > 1 && digits.starts_with('0') => (&digits[1..], 8),
        None => (digits, 10),
    };
    let size = i128::from(u64::from_str_radix(digits, radix).map_err(|_| wrong())?);
    let number = if negative { -size } else { size };
    let (least, most) = match kind {
        b'y' => (0, i128::from(u8::MAX)),
        b'n' => (i128::from(i16::MIN), i128::from(i16::MAX)),
        b'q' => (0, i128::from(u16::MAX)),
        b'i' => (i128::from(i32::MIN), i128::from(i32::MAX)),
        b'u' => (0, i128::from(u32::MAX)),
        b'x' => (i128::from(i64::MIN), i128::from(i64::MAX)),
        b't' => (0, i128::from(u64::MAX)),
        _ => return Err(wrong()),
    };
    if !(least..=most).contains(&number) {
        return Err(wrong());
    }
    Ok(Value::Fixed(kind, number as u64))
}

/// The type that a word stands for.
fn type_of_word(word: &str) -> Option<&'static str> {
    Some(match word {
        "boolean" => "b",
        "byte" => "y",
        "int16" => "n",
        "uint16" => "q",
        "int32" => "i",
        "uint32" => "u",
        "int64" => "x",
        "uint64" => "t",
        "double" => "d",
        "string" => "s",
        "objectpath" => "o",
        "signature" => "g",
        _ => return None,
    })
}

struct Parser<'a> {
    rest: &'a str,
}

impl<'a> Parser<'a> {
    fn skip_blanks(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn eat(&mut self, wanted: char) -> bool {
        self.skip_blanks();
        match self.rest.strip_prefix(wanted) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn word(&mut self, of: impl Fn(char) -> bool) -> &'a str {
        let end = self.rest.find(|c| !of(c)).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        word
    }

    fn node(&mut self, kind: Option<String>, depth: usize) -> Result<Node, String> {
        self.skip_blanks();
        let Some(deeper) = depth.checked_sub(1) else {
            return Err("it is nested too deeply".to_owned());
        };
        let wants = |letter: &str| kind.as_deref().is_none_or(|kind| kind == letter);
        match self.rest.chars().next() {
            None => Err("unexpected end".to_owned()),
            Some('[') => self.array(kind, deeper),
            Some('<') if wants("v") => {
                self.eat('<');
                let inner = self.node(None, deeper)?;
                let of = inner.kind().unwrap_or_else(|| inner.default_kind());
                let inner = inner.value(&of)?;
                if !self.eat('>') {
                    return Err("a variant does not end with >".to_owned());
                }
                Ok(Node::Typed(Value::Variant(Box::new(inner))))
            }
            Some('\'' | '"') => Ok(Node::Text(self.quoted()?, kind)),
            Some('b') if self.rest[1..].starts_with(['\'', '"']) && wants("ay") => {
                self.rest = &self.rest[1..];
                // As C has them: with NUL at the end.
                let bytes = self.quoted()?.into_bytes().into_iter().chain([0]);
                let bytes = bytes.map(|byte| Value::Fixed(b'y', u64::from(byte)));
                Ok(Node::Typed(Value::Array("y".to_owned(), bytes.collect())))
            }
            Some('@') if kind.is_none() => {
                self.rest = &self.rest[1..];
                let letters = self.word(|c| c.is_ascii_alphabetic());
                let of = letters.trim_start_matches('a');
                if of.len() != 1 || !"bynqiuxtdsogv".contains(of) {
                    return Err(format!("unexpected type @{letters}"));
                }
                self.node(Some(letters.to_owned()), deeper)
            }
            Some(c) if c.is_ascii_digit() || c == '-' || c == '+' => {
                let text = self.word(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
                Ok(Node::Number(text.to_owned(), kind))
            }
            Some(_) => self.named(kind, deeper),
        }
    }

    /// `true`, `false`, or a type before a value.
    fn named(&mut self, kind: Option<String>, depth: usize) -> Result<Node, String> {
        let before = self.rest;
        let word = self.word(|c| c.is_ascii_alphanumeric());
        match (word, kind.as_deref(), type_of_word(word)) {
            ("true" | "false", None | Some("b"), _) => Ok(Node::Typed(Value::bool(word == "true"))),
            (_, None, Some(letter)) => self.node(Some(letter.to_owned()), depth),
            _ => Err(format!("unexpected {before:?}")),
        }
    }

    fn array(&mut self, kind: Option<String>, depth: usize) -> Result<Node, String> {
        self.eat('[');
        let mut elements = Vec::new();
        if !self.eat(']') {
            loop {
                elements.push(self.node(None, depth)?);
                if self.eat(']') {
                    break;
                }
                if !self.eat(',') {
                    return Err("an array does not end with ]".to_owned());
                }
            }
        }
        Ok(Node::Array(elements, kind))
    }

    fn quoted(&mut self) -> Result<String, String> {
        let unterminated = || "a string does not end".to_owned();
        let mut characters = self.rest.chars();
        let quote = characters.next();
        let mut text = String::new();
        loop {
            match characters.next().ok_or_else(unterminated)? {
                c if Some(c) == quote => break,
                '\\' => match characters.next().ok_or_else(unterminated)? {
                    'a' => text.push('\x07'),
                    'b' => text.push('\x08'),
                    'f' => text.push('\x0c'),
                    'n' => text.push('\n'),
                    'r' => text.push('\r'),
                    't' => text.push('\t'),
                    'v' => text.push('\x0b'),
                    '\n' => {}
                    letter @ ('u' | 'U') => {
                        let count = if letter == 'u' { 4 } else { 8 };
                        let digits: String = characters.by_ref().take(count).collect();
                        let code = u32::from_str_radix(&digits, 16).ok();
                        let code = code.filter(|_| digits.len() == count);
                        text.push(
                            code.and_then(char::from_u32)
                                .ok_or_else(|| format!("\\{letter}{digits} is not a character"))?,
                        );
                    }
                    other => text.push(other),
                },
                c => text.push(c),
            }
        }
        if text.contains('\0') {
            return Err("a string contains NUL".to_owned());
        }
        self.rest = characters.as_str();
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::{Value, parse};

    fn fixed(kind: char, bits: u64) -> Value {
        Value::Fixed(kind as u8, bits)
    }

    #[test]
    fn numbers_booleans_and_strings_have_the_type_they_say_or_the_usual_one() {
        for (text, want) in [
            ("5", fixed('i', 5)),
            ("-1", fixed('i', u64::MAX)),
            ("uint64 18446744073709551615", fixed('t', u64::MAX)),
            ("@t 0x10", fixed('t', 16)),
            ("uint32 010", fixed('u', 8)),
            ("int64 -2", fixed('x', -2i64 as u64)),
            (" byte 255 ", fixed('y', 255)),
            ("1.5", fixed('d', 1.5f64.to_bits())),
            ("double 2", fixed('d', 2f64.to_bits())),
            ("true", fixed('b', 1)),
            ("boolean false", fixed('b', 0)),
            ("'it\\'s \\u00e9'", Value::text("it's é")),
            ("\"inactive-or-failed\"", Value::text("inactive-or-failed")),
            ("objectpath '/a'", Value::Text(b'o', "/a".into())),
        ] {
            assert_eq!(parse(text), Ok(want), "{text}");
        }
    }

    #[test]
    fn arrays_take_their_type_from_any_element_or_in_front() {
        let strings = |list: &[&str]| {
            Value::Array(
                "s".into(),
                list.iter().map(|text| Value::text(*text)).collect(),
            )
        };
        assert_eq!(parse("['a', \"b\"]"), Ok(strings(&["a", "b"])));
        assert_eq!(parse("@as []"), Ok(strings(&[])));
        let numbers = vec![fixed('t', 1), fixed('t', 2)];
        assert_eq!(
            parse("[1, uint64 2]"),
            Ok(Value::Array("t".into(), numbers))
        );
        let bytes = vec![fixed('y', 104), fixed('y', 105), fixed('y', 0)];
        assert_eq!(parse("b'hi'"), Ok(Value::Array("y".into(), bytes)));
        let nested = Value::Array("as".into(), vec![strings(&["a"])]);
        assert_eq!(parse("[['a']]"), Ok(nested));
        let variant = Value::Variant(Box::new(fixed('u', 3)));
        assert_eq!(parse("<uint32 3>"), Ok(variant));
    }

    #[test]
    fn what_is_no_value_is_refused_with_the_reason() {
        for (text, words) in [
            ("", "unexpected end"),
            ("uint64", "unexpected end"),
            ("yes", "unexpected \"yes\""),
            ("5 6", "unexpected \"6\" after"),
            ("byte 256", "not a number of type 'y'"),
            ("uint32 -1", "not a number of type 'u'"),
            ("uint64 'a'", "not of type"),
            ("12ab", "not a number"),
            ("[]", "an empty array needs a type"),
            ("['a', 1]", "not of type"),
            ("[uint32 1, uint64 2]", "not of type"),
            ("['a'", "does not end"),
            ("'a", "does not end"),
            ("<1", "does not end with >"),
            ("'\\u12'", "not a character"),
            ("{'a': 1}", "unexpected"),
            ("@ 1", "unexpected type @"),
            ("@az []", "unexpected type @az"),
            ("string true", "unexpected"),
            ("[[[[[[[[[[1]]]]]]]]]]", "nested too deeply"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(words), "{text}: {error}");
        }
    }
}
