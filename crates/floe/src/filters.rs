//! `--filter KEY=VALUE` of lists: filters of one key are alternatives, but for labels, and all keys must match. Which
//! keys there are, and what they mean, is the list's own affair.

use std::collections::BTreeMap;

use crate::failure::Failure;

/// What is looked for: the values of each key. `label!=x` is the key `label!`.
pub(crate) struct Filters(BTreeMap<String, Vec<String>>);

impl Filters {
    /// Reads them; `check` refuses keys that are none here, and values that cannot be.
    pub(crate) fn parse(
        given: &[String],
        check: impl Fn(&str, &str) -> Result<(), Failure>,
    ) -> Result<Self, Failure> {
        let mut all: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for text in given {
            let (key, value) = text
                .split_once('=')
                .ok_or_else(|| Failure::new(format!("--filter {text:?}: write KEY=VALUE")))?;
            check(key, value)?;
            all.entry(key.to_owned())
                .or_default()
                .push(value.to_owned());
        }
        Ok(Self(all))
    }

    /// Is something one of them, of which `matches` says whether it is one of a key and a value?
    pub(crate) fn match_all(
        &self,
        matches: impl Fn(&str, &str) -> Result<bool, Failure>,
    ) -> Result<bool, Failure> {
        for (key, values) in &self.0 {
            let mut one = values.iter().map(|value| matches(key, value));
            let fits = match key.as_str() {
                "label" | "label!" => one.try_fold(true, |all, one| one.map(|one| all && one))?,
                _ => one.try_fold(false, |any, one| one.map(|one| any || one))?,
            };
            if !fits {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Is an image that was named so meant by this, whole or by its last part, with or without its tag?
pub(crate) fn is_named(named: &str, wanted: &str) -> bool {
    let last = named.rsplit('/').next().unwrap_or(named);
    let without_tag = |name: &str| {
        let cut = name.rsplit_once(':').filter(|(_, tag)| !tag.contains('/'));
        cut.is_some_and(|(name, _)| name == wanted)
    };
    [named, last]
        .iter()
        .any(|name| *name == wanted || without_tag(name))
}

/// Is there a label as `KEY` or `KEY=VALUE` says?
pub(crate) fn has_label(labels: &BTreeMap<String, String>, text: &str) -> bool {
    let (name, wanted) = text
        .split_once('=')
        .map_or((text, None), |(name, wanted)| (name, Some(wanted)));
    let found = labels.get(name);
    found.is_some_and(|found| wanted.is_none_or(|wanted| wanted == found))
}

/// Does a name fit the regular expression of `name=`?
///
/// # Errors
/// What is no regular expression.
pub(crate) fn fits_name(pattern: &str, name: &str) -> Result<bool, Failure> {
    let pattern = regex::Regex::new(pattern)
        .map_err(|error| Failure::new(format!("--filter name={pattern}: {error}")))?;
    Ok(pattern.is_match(name))
}
