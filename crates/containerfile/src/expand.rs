//! Words to values: quotes and escapes go, variables are replaced with all their modifiers (Dockerfile reference,
//! "Environment replacement").

use regex::{NoExpand, Regex, RegexBuilder};

use crate::error::Flaw;
use crate::instruction::Text;
use crate::limits;

/// The most of a compiled pattern of a modifier.
const PATTERN: usize = 1 << 20;

/// What a variable that is not set becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unset {
    /// Nothing.
    Empty,
    /// What was written: the shell has it.
    Kept,
}

/// Replaces variables in words.
pub struct Expander<'a> {
    escape: char,
    lookup: &'a dyn Fn(&str) -> Option<String>,
    unset: Unset,
}

impl std::fmt::Debug for Expander<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Expander")
            .field("escape", &self.escape)
            .finish_non_exhaustive()
    }
}

/// What is written as a value comes to be.
struct Out {
    words: Vec<String>,
    word: Option<String>,
    /// Blanks that are not quoted end a word.
    splits: bool,
    room: usize,
}

impl Out {
    fn push(&mut self, c: char, quoted: bool) -> Result<(), Flaw> {
        if self.splits && !quoted && c.is_whitespace() {
            self.words.extend(self.word.take());
            return Ok(());
        }
        self.room = self
            .room
            .checked_sub(c.len_utf8())
            .ok_or_else(|| Flaw::new("with its variables it becomes too long"))?;
        self.word.get_or_insert_default().push(c);
        Ok(())
    }

    fn extend(&mut self, text: &str, quoted: bool) -> Result<(), Flaw> {
        text.chars().try_for_each(|c| self.push(c, quoted))
    }
}

/// The characters still to be read.
struct Scan<'t> {
    rest: &'t str,
}

impl Scan<'_> {
    fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.rest = &self.rest[c.len_utf8()..];
        Some(c)
    }

    fn take_if(&mut self, wanted: char) -> bool {
        let found = self.peek() == Some(wanted);
        if found {
            self.next();
        }
        found
    }
}

impl<'a> Expander<'a> {
    /// `escape` is the file's, `lookup` knows the variables.
    pub fn new(escape: char, lookup: &'a dyn Fn(&str) -> Option<String>) -> Expander<'a> {
        Expander {
            escape,
            lookup,
            unset: Unset::Empty,
        }
    }

    /// The same with another way for variables that are not set.
    #[must_use]
    pub fn with_unset(self, unset: Unset) -> Expander<'a> {
        Expander { unset, ..self }
    }

    /// The value of a word.
    ///
    /// # Errors
    /// Why it has none: a modifier that is none, or says that there must be a value; one that becomes too long.
    pub fn word(&self, text: &Text) -> Result<String, String> {
        let mut out = self.out(false, limits::VALUE);
        self.run(&text.raw, &mut out, true)
            .map_err(|flaw| flaw.reason)?;
        Ok(out.word.unwrap_or_default())
    }

    /// The values of a word whose variables may have several, with blanks between them.
    ///
    /// # Errors
    /// As [`word`](Self::word).
    pub fn words(&self, text: &Text) -> Result<Vec<String>, String> {
        let mut out = self.out(true, limits::VALUE);
        self.run(&text.raw, &mut out, true)
            .map_err(|flaw| flaw.reason)?;
        out.words.extend(out.word);
        Ok(out.words)
    }

    /// A here-document: quotes stay, variables are replaced.
    ///
    /// # Errors
    /// As [`word`](Self::word).
    pub fn document(&self, text: &str) -> Result<String, String> {
        let mut out = self.out(false, limits::FILE);
        self.run(text, &mut out, false)
            .map_err(|flaw| flaw.reason)?;
        Ok(out.word.unwrap_or_default())
    }

    fn out(&self, splits: bool, room: usize) -> Out {
        Out {
            words: Vec::new(),
            word: None,
            splits,
            room,
        }
    }

    fn run(&self, text: &str, out: &mut Out, quotes: bool) -> Result<(), Flaw> {
        let mut scan = Scan { rest: text };
        self.until(&mut scan, None, out, quotes, 0)
    }

    /// Reads up to `stop`, which is taken, or to the end.
    fn until(
        &self,
        scan: &mut Scan<'_>,
        stop: Option<char>,
        out: &mut Out,
        quotes: bool,
        depth: usize,
    ) -> Result<(), Flaw> {
        while let Some(c) = scan.next() {
            match c {
                _ if Some(c) == stop => return Ok(()),
                '\'' if quotes => self.single(scan, out)?,
                '"' if quotes => self.double(scan, out, depth)?,
                '$' => self.variable(scan, out, false, depth)?,
                _ if c == self.escape => self.escaped(scan, out, quotes)?,
                _ => out.push(c, false)?,
            }
        }
        match stop {
            None => Ok(()),
            Some(stop) => Err(Flaw::new(format!("it ends before a {stop}"))),
        }
    }

    fn escaped(&self, scan: &mut Scan<'_>, out: &mut Out, quotes: bool) -> Result<(), Flaw> {
        match scan.next() {
            // At the end it stands for nothing.
            None => match quotes {
                true => Ok(()),
                false => out.push(self.escape, true),
            },
            Some(c) if !quotes && c != '$' => {
                out.push(self.escape, true)?;
                out.push(c, true)
            }
            Some(c) => out.push(c, true),
        }
    }

    fn single(&self, scan: &mut Scan<'_>, out: &mut Out) -> Result<(), Flaw> {
        out.word.get_or_insert_default();
        loop {
            match scan.next() {
                None => return Err(Flaw::new("a quote is not closed")),
                Some('\'') => return Ok(()),
                Some(c) => out.push(c, true)?,
            }
        }
    }

    fn double(&self, scan: &mut Scan<'_>, out: &mut Out, depth: usize) -> Result<(), Flaw> {
        out.word.get_or_insert_default();
        loop {
            match scan.next() {
                None => return Err(Flaw::new("a quote is not closed")),
                Some('"') => return Ok(()),
                Some('$') => self.variable(scan, out, true, depth)?,
                Some(c) if c == self.escape => match scan.next() {
                    None => return Err(Flaw::new("a quote is not closed")),
                    Some(next) if next == '"' || next == '$' || next == self.escape => {
                        out.push(next, true)?
                    }
                    Some(next) => {
                        out.push(c, true)?;
                        out.push(next, true)?;
                    }
                },
                Some(c) => out.push(c, true)?,
            }
        }
    }

    /// What follows a `$`.
    fn variable(
        &self,
        scan: &mut Scan<'_>,
        out: &mut Out,
        quoted: bool,
        depth: usize,
    ) -> Result<(), Flaw> {
        let before = scan.rest;
        if !scan.take_if('{') {
            let name = name(scan);
            if name.is_empty() {
                return out.push('$', quoted);
            }
            return match (self.lookup)(&name) {
                Some(value) => out.extend(&value, quoted),
                None if self.unset == Unset::Kept => out.extend(&format!("${name}"), quoted),
                None => Ok(()),
            };
        }
        if depth == limits::DEPTH {
            return Err(Flaw::new(format!(
                "more than {} variables within each other",
                limits::DEPTH
            )));
        }
        let name = name(scan);
        if name.is_empty() {
            return Err(Flaw::new("${ has no name of a variable"));
        }
        let value = (self.lookup)(&name);
        if scan.take_if('}') {
            return match value {
                Some(value) => out.extend(&value, quoted),
                None if self.unset == Unset::Kept => {
                    let length = before.len() - scan.rest.len();
                    out.extend(&format!("${}", &before[..length]), quoted)
                }
                None => Ok(()),
            };
        }
        let value = self.modified(scan, &name, value, depth + 1)?;
        out.extend(&value, quoted)
    }

    /// The value of `${NAME` by what follows.
    fn modified(
        &self,
        scan: &mut Scan<'_>,
        name: &str,
        value: Option<String>,
        depth: usize,
    ) -> Result<String, Flaw> {
        let colon = scan.take_if(':');
        let is_there = match colon {
            true => value.as_ref().is_some_and(|value| !value.is_empty()),
            false => value.is_some(),
        };
        let bad = |c: Option<char>| {
            let shown: String = c.into_iter().collect();
            let colon = if colon { ":" } else { "" };
            Flaw::new(format!(
                "${{{name}{colon}{shown}…}}: that is no modifier of a variable"
            ))
        };
        let modifier = scan.next();
        let word = |scan: &mut Scan<'_>, stop| -> Result<String, Flaw> {
            let mut out = self.out(false, limits::VALUE);
            self.until(scan, Some(stop), &mut out, true, depth)?;
            Ok(out.word.unwrap_or_default())
        };
        match modifier {
            Some('-') => {
                let other = word(scan, '}')?;
                Ok(value.filter(|_| is_there).unwrap_or(other))
            }
            Some('+') => {
                let other = word(scan, '}')?;
                Ok(if is_there { other } else { String::new() })
            }
            Some('?') => {
                let message = word(scan, '}')?;
                value.filter(|_| is_there).ok_or_else(|| {
                    let message = if message.is_empty() {
                        "is not set"
                    } else {
                        &message
                    };
                    Flaw::new(format!("{name}: {message}"))
                })
            }
            Some(end @ ('#' | '%')) if !colon => {
                let longest = scan.take_if(end);
                let pattern = glob(scan, '}', self.escape)?;
                trimmed(value.unwrap_or_default(), &pattern, end == '%', longest)
            }
            Some('/') if !colon => {
                let all = scan.take_if('/');
                let pattern = glob(scan, '/', self.escape)?;
                let by = word(scan, '}')?;
                replaced(&value.unwrap_or_default(), &pattern, &by, all)
            }
            other => Err(bad(other)),
        }
    }
}

/// The name of a variable: a word, or one of the shell's.
fn name(scan: &mut Scan<'_>) -> String {
    let rest = scan.rest;
    let Some(first) = scan.peek() else {
        return String::new();
    };
    let length = if first.is_ascii_alphabetic() || first == '_' {
        rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
    } else if first.is_ascii_digit() {
        rest.find(|c: char| !c.is_ascii_digit())
    } else {
        Some(usize::from("@*#?-$!".contains(first)))
    };
    let (name, rest) = rest.split_at(length.unwrap_or(rest.len()));
    scan.rest = rest;
    name.to_owned()
}

/// What a pattern consists of.
enum Piece {
    Any,
    One,
    Char(char),
}

/// A pattern up to `stop`.
fn glob(scan: &mut Scan<'_>, stop: char, escape: char) -> Result<Vec<Piece>, Flaw> {
    let mut pieces = Vec::new();
    loop {
        match scan.next() {
            None => return Err(Flaw::new(format!("it ends before a {stop}"))),
            Some(c) if c == stop => return Ok(pieces),
            Some('*') => pieces.push(Piece::Any),
            Some('?') => pieces.push(Piece::One),
            Some(c) if c == escape => match scan.next() {
                Some(c) => pieces.push(Piece::Char(c)),
                None => return Err(Flaw::new(format!("it ends before a {stop}"))),
            },
            Some(c) => pieces.push(Piece::Char(c)),
        }
    }
}

fn compiled<'p>(
    pieces: impl Iterator<Item = &'p Piece>,
    longest: bool,
    anchored: bool,
) -> Result<Regex, Flaw> {
    let mut text = String::from(if anchored { "^" } else { "" });
    for piece in pieces {
        match piece {
            Piece::Any => text.push_str(if longest { ".*" } else { ".*?" }),
            Piece::One => text.push('.'),
            Piece::Char(c) => text.push_str(&regex::escape(c.encode_utf8(&mut [0; 4]))),
        }
    }
    RegexBuilder::new(&text)
        .dot_matches_new_line(true)
        .size_limit(PATTERN)
        .build()
        .map_err(|_| Flaw::new("the pattern of a variable's modifier is too long"))
}

/// The value without what the pattern finds at its beginning or end.
fn trimmed(value: String, pattern: &[Piece], at_end: bool, longest: bool) -> Result<String, Flaw> {
    if !at_end {
        let found = compiled(pattern.iter(), longest, true)?;
        let end = found.find(&value).map_or(0, |found| found.end());
        return Ok(value[end..].to_owned());
    }
    // From behind, as the shortest and the longest are found by where they begin.
    let reversed: String = value.chars().rev().collect();
    let found = compiled(pattern.iter().rev(), longest, true)?;
    let end = found.find(&reversed).map_or(0, |found| found.end());
    Ok(reversed[end..].chars().rev().collect())
}

fn replaced(value: &str, pattern: &[Piece], by: &str, all: bool) -> Result<String, Flaw> {
    if pattern.is_empty() {
        return Ok(value.to_owned());
    }
    let found = compiled(pattern.iter(), true, false)?;
    let matches = match all {
        true => found.find_iter(value).count(),
        false => 1,
    };
    if value.len().saturating_add(matches.saturating_mul(by.len())) > limits::VALUE * 2 {
        return Err(Flaw::new("with its variables it becomes too long"));
    }
    let count = usize::from(!all);
    Ok(found.replacen(value, count, NoExpand(by)).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lookup(name: &str) -> Option<String> {
        let value = match name {
            "A" => "one",
            "EMPTY" => "",
            "P" => "/usr/lib/x.tar.gz",
            "TWO" => "a  b",
            "V" => "v1.2",
            _ => return None,
        };
        Some(value.to_owned())
    }

    fn word(text: &str) -> Result<String, String> {
        Expander::new('\\', &lookup).word(&Text::new(text))
    }

    #[test]
    fn values_of_words() {
        for (text, expected) in [
            ("x", "x"),
            ("$A", "one"),
            ("${A}x$A", "onexone"),
            ("\\$A", "$A"),
            ("'$A'", "$A"),
            ("\"$A b\"", "one b"),
            ("\"\\$A \\\" \\x\"", "$A \" \\x"),
            ("a\\ b", "a b"),
            ("$", "$"),
            ("$/x", "$/x"),
            ("$none", ""),
            ("${none:-d}", "d"),
            ("${EMPTY:-d}${EMPTY-d}", "d"),
            ("${A:+yes}${none:+no}${EMPTY:+no}${EMPTY+set}", "yesset"),
            ("${none:-${A}}", "one"),
            ("${none:-${x:-${y:-'z }'}}}", "z }"),
            ("${A:?must}", "one"),
            ("${P#*/}", "usr/lib/x.tar.gz"),
            ("${P##*/}", "x.tar.gz"),
            ("${P%.*}", "/usr/lib/x.tar"),
            ("${P%%.*}", "/usr/lib/x"),
            ("${V#v}", "1.2"),
            ("${V#\\*}", "v1.2"),
            ("${P/usr/opt}", "/opt/lib/x.tar.gz"),
            ("${P//\\//-}", "-usr-lib-x.tar.gz"),
            ("${P//./$A}", "/usr/lib/xonetaronegz"),
            ("$1$@", ""),
            ("$A_B", ""),
            ("", ""),
        ] {
            assert_eq!(word(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_has_no_value_says_why() {
        for (text, why) in [
            ("${none:?is needed}", "none: is needed"),
            ("${EMPTY:?}", "EMPTY: is not set"),
            ("${A", "modifier"),
            ("${A:", "modifier"),
            ("${A:x}", "modifier"),
            ("${}", "no name"),
            ("${A:-x", "before a }"),
            ("${A/x", "before a /"),
            ("'x", "not closed"),
            ("\"x", "not closed"),
            (
                &format!("{}{}", "${x:-".repeat(17), "}".repeat(17)),
                "within each other",
            ),
        ] {
            let error = word(text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn words_of_variables_are_split_unless_quoted() {
        let expander = Expander::new('\\', &lookup);
        let words = |text: &str| expander.words(&Text::new(text)).unwrap();
        assert_eq!(words("$TWO"), ["a", "b"]);
        assert_eq!(words("x${TWO}y"), ["xa", "by"]);
        assert_eq!(words("\"$TWO\" c\\ d"), ["a  b", "c d"]);
        assert!(words("$EMPTY").is_empty());
        assert_eq!(words("''"), [""]);
    }

    #[test]
    fn documents_keep_their_quotes() {
        let expander = Expander::new('\\', &lookup);
        assert_eq!(
            expander.document("'$A' \"\\$A\" \\n\\\n").unwrap(),
            "'one' \"$A\" \\n\\\n"
        );
    }

    #[test]
    fn variables_may_be_left_to_the_shell() {
        let expander = Expander::new('\\', &lookup).with_unset(Unset::Kept);
        assert_eq!(
            expander.word(&Text::new("$A $x ${y}")).unwrap(),
            "one $x ${y}"
        );
    }

    #[test]
    fn bombs_are_refused() {
        let long = "x".repeat(limits::VALUE / 2);
        let lookup = |_: &str| Some(long.clone());
        let expander = Expander::new('\\', &lookup);
        assert!(expander.word(&Text::new("$a$a")).is_ok());
        let error = expander.word(&Text::new("$a$a$a")).unwrap_err();
        assert!(error.contains("too long"), "{error}");
        let error = expander.word(&Text::new("${a//x/$a}")).unwrap_err();
        assert!(error.contains("too long"), "{error}");
    }
}
