//! What is wrong with a Containerfile, and where.

use std::fmt;
use std::ops::Deref;

/// The most of a line that an error shows.
const SHOWN: usize = 200;

/// A flaw of a Containerfile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error(Box<Facts>);

/// What is known of a flaw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// The file as its user named it.
    pub file: String,
    /// The line that the instruction begins at, from 1 on.
    pub line: usize,
    /// The instruction's word in capitals; empty where there is none.
    pub instruction: String,
    /// What is wrong.
    pub reason: String,
    /// What was perhaps meant.
    pub hint: Option<String>,
    /// The line itself.
    pub text: String,
}

impl Error {
    /// An error of an instruction.
    pub fn new(file: &str, line: usize, text: &str, reason: impl Into<String>) -> Error {
        Error(Box::new(Facts {
            file: file.to_owned(),
            line,
            instruction: String::new(),
            reason: reason.into(),
            hint: None,
            text: text.to_owned(),
        }))
    }

    /// The same with the instruction's word.
    #[must_use]
    pub fn of(mut self, instruction: &str) -> Error {
        self.0.instruction = instruction.to_ascii_uppercase();
        self
    }

    pub(crate) fn with_hint(mut self, hint: Option<String>) -> Error {
        self.0.hint = hint;
        self
    }
}

impl Deref for Error {
    type Target = Facts;

    fn deref(&self) -> &Facts {
        &self.0
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: ", self.file, self.line)?;
        if !self.instruction.is_empty() {
            write!(f, "{}: ", self.instruction)?;
        }
        write!(f, "{}", self.reason)?;
        if let Some(hint) = &self.hint {
            write!(f, " ({hint})")?;
        }
        let first = self.text.lines().next().unwrap_or_default();
        let shown: String = first.chars().take(SHOWN).collect();
        let more = if shown.len() < first.len() { "…" } else { "" };
        match shown.is_empty() {
            true => Ok(()),
            false => write!(f, "\n{:>5} | {shown}{more}", self.line),
        }
    }
}

impl std::error::Error for Error {}

/// What is wrong, before it is known where.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Flaw {
    pub(crate) reason: String,
    pub(crate) hint: Option<String>,
}

impl Flaw {
    pub(crate) fn new(reason: impl Into<String>) -> Flaw {
        Flaw {
            reason: reason.into(),
            hint: None,
        }
    }

    /// With the known word that is closest to what was written, if one is close.
    pub(crate) fn among<'a>(self, written: &str, known: impl IntoIterator<Item = &'a str>) -> Flaw {
        let near = known
            .into_iter()
            .map(|word| {
                (
                    distance(&written.to_ascii_lowercase(), &word.to_ascii_lowercase()),
                    word,
                )
            })
            .min();
        let hint = near
            .filter(|(far, word)| *far <= 1 + word.len() / 4)
            .map(|(_, word)| format!("did you mean {word}?"));
        Flaw { hint, ..self }
    }
}

/// How many letters must be changed, added, taken away or swapped with the next. Long words are far from everything.
fn distance(one: &str, other: &str) -> usize {
    let letters = |word: &str| word.chars().take(40).collect::<Vec<char>>();
    let (one, other) = (letters(one), letters(other));
    let mut rows = vec![(0..=other.len()).collect::<Vec<usize>>()];
    for i in 1..=one.len() {
        let mut row = vec![i];
        for j in 1..=other.len() {
            let same = one[i - 1] == other[j - 1];
            let mut least = (rows[i - 1][j - 1] + usize::from(!same))
                .min(rows[i - 1][j] + 1)
                .min(row[j - 1] + 1);
            if i > 1 && j > 1 && one[i - 1] == other[j - 2] && one[i - 2] == other[j - 1] {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[one.len()][other.len()]
}
