//! A check: its number and name, which stay the same from version to version, what it proves, the rule of the
//! CRI that it holds a runtime to, and what comes of it.

use futures_util::future::LocalBoxFuture;

use super::trial::Trial;

/// The most of a runtime's words that is kept.
const WORDS: usize = 2_000;

/// A check. Its group is the hundreds of its number.
pub(crate) struct Check {
    pub(crate) number: u16,
    pub(crate) name: &'static str,
    /// A sentence.
    pub(crate) proves: &'static str,
    /// An RPC, and a field or a sentence of it.
    pub(crate) rule: &'static str,
    pub(crate) needs: Needs,
    pub(crate) run: Run,
}

/// How it is done.
pub(crate) type Run = for<'t> fn(&'t Trial<'_>) -> LocalBoxFuture<'t, Verdict>;

/// What must be there for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Needs {
    /// The socket alone.
    Runtime,
    /// The image too.
    Image,
    /// The image, and nobody else who uses it.
    ImageAlone,
}

/// A group of checks.
pub(crate) struct Group {
    pub(crate) name: &'static str,
    pub(crate) checks: &'static [Check],
}

impl Group {
    /// The name that `--run` and `--skip` are held against.
    pub(crate) fn full_name(&self, check: &Check) -> String {
        format!("{}/{}", self.name, check.name)
    }
}

/// Why a check has not passed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fault {
    Failed { expected: String, found: String },
    Skipped(String),
}

/// What comes of a check, and of its steps.
pub(crate) type Verdict<T = ()> = Result<T, Fault>;

/// A failure.
pub(crate) fn failed<T>(expected: impl Into<String>, found: impl Into<String>) -> Verdict<T> {
    let mut found: String = found.into();
    if let Some((end, _)) = found.char_indices().nth(WORDS) {
        found.truncate(end);
        found += " …";
    }
    Err(Fault::Failed {
        expected: expected.into(),
        found,
    })
}

/// A skip.
pub(crate) fn skipped<T>(why: impl Into<String>) -> Verdict<T> {
    Err(Fault::Skipped(why.into()))
}

/// Holds a value against what it must be.
pub(crate) fn same<T: PartialEq + std::fmt::Debug>(what: &str, expected: T, found: T) -> Verdict {
    match expected == found {
        true => Ok(()),
        false => failed(format!("{what}: {expected:?}"), format!("{found:?}")),
    }
}

/// Demands that something holds; `found` is what was found instead.
pub(crate) fn holds(expected: &str, is_so: bool, found: impl std::fmt::Debug) -> Verdict {
    match is_so {
        true => Ok(()),
        false => failed(expected, format!("{found:?}")),
    }
}

/// Writes a table of checks: number, name, what it needs, its function, what it proves, its rule.
macro_rules! checks {
    ($($number:literal $name:literal $needs:ident $run:ident, $proves:literal, $rule:literal;)*) => {
        &[$($crate::validate::check::Check {
            number: $number,
            name: $name,
            proves: $proves,
            rule: $rule,
            needs: $crate::validate::check::Needs::$needs,
            run: |trial| Box::pin($run(trial)),
        }),*]
    };
}
pub(crate) use checks;
