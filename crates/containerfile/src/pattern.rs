//! Patterns of paths: of `.containerignore` and `.dockerignore`, `--exclude`, and wildcards of `COPY`. The rules are
//! Docker's (Go's filepath.Match with `**`), and matching takes time by the length of what is matched alone.

use regex::{Regex, RegexBuilder};

use crate::limits;

/// The most of a compiled pattern.
const SIZE: usize = 1 << 20;
/// The longest pattern.
const LENGTH: usize = 4096;

/// Why something is no pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PatternFlaw {
    /// What was written.
    pub pattern: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

impl std::fmt::Display for PatternFlaw {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shown: String = self.pattern.chars().take(100).collect();
        write!(f, "pattern {shown:?}: {}", self.reason)
    }
}

impl std::error::Error for PatternFlaw {}

/// A pattern of paths relative to a root.
#[derive(Debug, Clone)]
pub struct Pattern {
    text: String,
    regex: Regex,
}

impl Pattern {
    /// Reads a pattern: `*` and `?` stay within a name, `**` goes over directories, `[a-z]` is one of several, and a
    /// backslash takes a character as it is.
    ///
    /// # Errors
    /// What is no pattern.
    pub fn new(text: &str) -> Result<Pattern, PatternFlaw> {
        let flaw = |reason| PatternFlaw {
            pattern: text.to_owned(),
            reason,
        };
        if text.len() > LENGTH {
            return Err(flaw("it is too long"));
        }
        let cleaned = clean(text);
        let translated = translate(&cleaned).map_err(flaw)?;
        let regex = RegexBuilder::new(&translated)
            .dot_matches_new_line(true)
            .size_limit(SIZE)
            .build();
        Ok(Pattern {
            regex: regex.map_err(|_| flaw("it cannot be understood"))?,
            text: cleaned,
        })
    }

    /// Whether a path, relative and without `.` and `..`, is one of them.
    #[must_use]
    pub fn matches(&self, path: &str) -> bool {
        self.regex.is_match(path)
    }

    /// Whether a path is one of them, or below one of them.
    #[must_use]
    pub fn matches_or_above(&self, path: &str) -> bool {
        let parents = path.match_indices('/').map(|(at, _)| &path[..at]);
        self.matches(path) || parents.into_iter().any(|parent| self.matches(parent))
    }

    /// It without `.`, `..` and double slashes.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether a text has any of the characters that make it a pattern.
    #[must_use]
    pub fn is_one(text: &str) -> bool {
        text.contains(['*', '?', '[', '\\'])
    }
}

/// A path without empty parts, `.` and `..`, relative.
fn clean(text: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in text.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

fn translate(pattern: &str) -> Result<String, &'static str> {
    let mut regex = String::from("^");
    let mut chars = pattern.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '*' if chars.next_if_eq(&'*').is_some() => {
                while chars.next_if_eq(&'*').is_some() {}
                chars.next_if_eq(&'/');
                regex.push_str(if chars.peek().is_none() {
                    ".*"
                } else {
                    "(.*/)?"
                });
            }
            '*' => regex.push_str("[^/]*"),
            '?' => regex.push_str("[^/]"),
            '[' => class(&mut chars, &mut regex)?,
            '\\' => escaped(chars.next().ok_or("it ends with a backslash")?, &mut regex),
            c => escaped(c, &mut regex),
        }
    }
    regex.push('$');
    Ok(regex)
}

fn escaped(c: char, regex: &mut String) {
    regex.push_str(&regex::escape(c.encode_utf8(&mut [0; 4])));
}

fn class(
    chars: &mut std::iter::Peekable<std::str::Chars<'_>>,
    regex: &mut String,
) -> Result<(), &'static str> {
    const OPEN: &str = "a [ is not closed";
    regex.push('[');
    if chars.next_if(|c| matches!(c, '^' | '!')).is_some() {
        regex.push_str("^/");
    }
    let mut empty = true;
    loop {
        match chars.next().ok_or(OPEN)? {
            ']' if empty => return Err("a [] has nothing in it"),
            ']' => break,
            '-' => regex.push('-'),
            c => {
                let c = if c == '\\' {
                    chars.next().ok_or(OPEN)?
                } else {
                    c
                };
                if !c.is_alphanumeric() {
                    regex.push('\\');
                }
                match c.is_alphanumeric() || c.is_ascii() {
                    true => regex.push(c),
                    // A backslash stands before letters of ASCII only.
                    false => {
                        regex.pop();
                        regex.push(c);
                    }
                }
            }
        }
        empty = false;
    }
    regex.push(']');
    Ok(())
}

/// What a build does not see: the patterns of a file in their order.
#[derive(Debug, Clone, Default)]
pub struct Ignore {
    rules: Vec<(bool, Pattern)>,
}

impl Ignore {
    /// Reads `.containerignore` or `.dockerignore`.
    ///
    /// # Errors
    /// A line that is no pattern.
    pub fn parse(text: &str) -> Result<Ignore, PatternFlaw> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        Ignore::of(lines)
    }

    /// Patterns, with `!` before those whose paths are seen again.
    ///
    /// # Errors
    /// What is no pattern.
    pub fn of<'a>(lines: impl IntoIterator<Item = &'a str>) -> Result<Ignore, PatternFlaw> {
        let mut rules = Vec::new();
        for line in lines
            .into_iter()
            .map(str::trim)
            .filter(|line| !line.is_empty())
        {
            let (ignored, text) = match line.strip_prefix('!') {
                Some(text) => (false, text.trim()),
                None => (true, line),
            };
            if text.is_empty() || rules.len() == limits::PATTERNS {
                return Err(PatternFlaw {
                    pattern: line.to_owned(),
                    reason: if text.is_empty() {
                        "a ! alone"
                    } else {
                        "there are too many"
                    },
                });
            }
            let pattern = Pattern::new(text)?;
            // The root itself cannot be kept out.
            if !pattern.text().is_empty() {
                rules.push((ignored, pattern));
            }
        }
        Ok(Ignore { rules })
    }

    /// Whether there are no patterns.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Whether a path, relative to the context, is not seen. The last pattern that fits it, or a directory above
    /// it, counts.
    #[must_use]
    pub fn ignores(&self, path: &str) -> bool {
        let last = self
            .rules
            .iter()
            .rev()
            .find(|(_, pattern)| pattern.matches_or_above(path));
        last.is_some_and(|(ignored, _)| *ignored)
    }

    /// Whether something below a directory that is not seen may be seen again.
    #[must_use]
    pub fn has_exceptions(&self) -> bool {
        self.rules.iter().any(|(ignored, _)| !ignored)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_docker_has_it() {
        for (pattern, path, expected) in [
            ("*.txt", "a.txt", true),
            ("*.txt", "d/a.txt", false),
            ("**/*.txt", "a.txt", true),
            ("**/*.txt", "d/e/a.txt", true),
            ("d/**", "d/e/f", true),
            ("d/**", "d", false),
            ("a/**/b", "a/b", true),
            ("a/**/b", "a/x/y/b", true),
            ("a?c", "abc", true),
            ("a?c", "a/c", false),
            ("[a-c].go", "b.go", true),
            ("[^a-c].go", "b.go", false),
            ("[^a-c].go", "d.go", true),
            ("[\\]x].go", "].go", true),
            ("a\\*b", "a*b", true),
            ("a\\*b", "axb", false),
            ("./a/../b", "b", true),
            ("/b/", "b", true),
            ("a.b", "axb", false),
            ("(x)+$", "(x)+$", true),
            ("**", "a/b", true),
            ("[é-ü]", "ö", true),
        ] {
            let found = Pattern::new(pattern).unwrap().matches(path);
            assert_eq!(found, expected, "{pattern} {path}");
        }
        for (bad, why) in [
            ("a[", "closed"),
            ("a\\", "backslash"),
            ("[]", "nothing"),
            ("[z-a]", "understood"),
        ] {
            assert!(Pattern::new(bad).unwrap_err().reason.contains(why), "{bad}");
        }
        assert!(
            Pattern::new(&"[a-z]".repeat(819)).is_ok() && Pattern::new(&"*".repeat(5000)).is_err()
        );
    }

    #[test]
    fn the_last_rule_that_fits_counts() {
        let ignore =
            Ignore::parse("# all\n*\n!src\nsrc/*.o\n!src/keep.o\n  /secret/ \n#x").unwrap();
        for (path, expected) in [
            ("README", true),
            ("src", false),
            ("src/main.c", false),
            ("src/a.o", true),
            ("src/keep.o", false),
            ("src/deep/a.o", false),
            ("secret/x", true),
        ] {
            assert_eq!(ignore.ignores(path), expected, "{path}");
        }
        assert!(ignore.has_exceptions());
        assert!(Ignore::parse("!").is_err());
        assert!(Ignore::parse(".\n/\n").unwrap().is_empty());
    }
}
