//! `Warning` headers (distribution-spec, "Warnings"): what a registry wants people to know, such as
//! that it is about to be switched off.
//!
//! Must never show a registry's words unfiltered, nor the same ones twice.

use std::collections::{BTreeSet, HashSet};
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use reqwest::header::{HeaderMap, WARNING};

/// The most of a warning that is shown.
const MAX_WORDS: usize = 300;
/// The most warnings that a client shows.
const MAX_WARNINGS: usize = 20;
/// The most that is said of configuration files.
const MAX_SAID: usize = 1000;

/// Who is told of warnings: the registry and its words. By default the log is.
#[derive(Clone)]
pub struct Warnings(Arc<Show>);

type Show = dyn Fn(&str, &str) + Send + Sync;

impl Warnings {
    /// Tells `show`.
    pub fn to(show: impl Fn(&str, &str) + Send + Sync + 'static) -> Warnings {
        Warnings(Arc::new(show))
    }
}

static SHOWN_BY: OnceLock<Warnings> = OnceLock::new();
/// What was said of configuration files.
static SAID: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// Tells whoever shows warnings, or the log, of a place in a configuration file, once in this process.
pub(crate) fn warn_of(file: &Path, line: usize, words: &str) {
    let place = format!("{}:{line}", file.display());
    let fresh = {
        let mut said = SAID.lock().unwrap_or_else(PoisonError::into_inner);
        said.len() < MAX_SAID && said.insert(format!("{place}: {words}"))
    };
    match SHOWN_BY.get().filter(|_| fresh) {
        Some(shown_by) => (shown_by.0)(&place, words),
        None if fresh => tracing::warn!("{place}: {words}"),
        None => {}
    }
}

/// Tells `show` of the warnings that clients of this process get, and of those about registries.conf (its
/// place in the file instead of a registry), instead of the log, unless clients were made to tell
/// somebody else. Only the first call counts.
pub fn show_warnings(show: impl Fn(&str, &str) + Send + Sync + 'static) {
    // A second one would show the same warnings twice.
    let _ = SHOWN_BY.set(Warnings::to(show));
}

impl Default for Warnings {
    fn default() -> Warnings {
        Warnings::to(|registry, words| match SHOWN_BY.get() {
            Some(shown_by) => (shown_by.0)(registry, words),
            None => tracing::warn!("{registry} warns: {words}"),
        })
    }
}

impl fmt::Debug for Warnings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Warnings(…)")
    }
}

/// What was shown already.
#[derive(Default)]
pub(super) struct Shown(Mutex<HashSet<(String, String)>>);

impl Shown {
    /// Shows the warnings of an answer that were not shown yet.
    pub(super) fn show(&self, warnings: &Warnings, registry: &str, headers: &HeaderMap) {
        let all = headers.get_all(WARNING).iter();
        for words in all
            .filter_map(|value| value.to_str().ok())
            .filter_map(words)
        {
            let fresh = {
                let mut shown = self.0.lock().unwrap_or_else(PoisonError::into_inner);
                shown.len() < MAX_WARNINGS && shown.insert((registry.to_owned(), words.clone()))
            };
            if fresh {
                (warnings.0)(registry, &words);
            }
        }
    }
}

/// The words of `299 - "words"`; other codes are caches' affairs.
fn words(header: &str) -> Option<String> {
    let rest = header.trim().strip_prefix("299 ")?;
    let (_, quoted) = rest.split_once('"')?;
    let mut words = String::new();
    let mut chars = quoted.chars();
    while let Some(c) = chars.next() {
        match c {
            '"' => break,
            '\\' => words.extend(chars.next()),
            other => words.push(other),
        }
    }
    let clean = words.chars().map(|c| if c.is_control() { ' ' } else { c });
    let clean: String = clean.take(MAX_WORDS).collect();
    (!clean.trim().is_empty()).then_some(clean)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_a_warning_are_those_between_quotes() {
        assert_eq!(
            words(r#"299 - "going \"soon\"""#).as_deref(),
            Some("going \"soon\"")
        );
        assert_eq!(
            words("299 a.example \"two\u{1b}[31m words\"").as_deref(),
            Some("two [31m words")
        );
        for none in [r#"110 - "stale""#, "299 - words", "299", "", r#"299 - """#] {
            assert_eq!(words(none), None, "{none}");
        }
        assert!(
            words(&format!("299 - \"{}\"", "x".repeat(1000)))
                .unwrap()
                .len()
                <= MAX_WORDS
        );
    }
}
