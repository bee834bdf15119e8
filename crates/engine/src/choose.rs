//! Which pods and containers somebody means: by the beginning of an id, and by labels.

use std::collections::BTreeMap;

use crate::error::{Error, Result};

/// Are all of `wanted` in `labels`?
pub(crate) fn has_labels(
    labels: &BTreeMap<String, String>,
    wanted: &BTreeMap<String, String>,
) -> bool {
    wanted
        .iter()
        .all(|(key, value)| labels.get(key) == Some(value))
}

/// The one of `ids` that `prefix` begins.
pub(crate) fn resolve_prefix(
    what: &'static str,
    prefix: &str,
    ids: Vec<String>,
) -> Result<Option<String>> {
    if prefix.is_empty() {
        return Ok(None);
    }
    let mut fitting: Vec<String> = ids
        .into_iter()
        .filter(|id| id.starts_with(prefix))
        .collect();
    if let Some(exact) = fitting.iter().position(|id| id == prefix) {
        return Ok(Some(fitting.swap_remove(exact)));
    }
    match fitting.len() {
        0 | 1 => Ok(fitting.pop()),
        count => Err(Error::Ambiguous {
            what,
            name: prefix.to_owned(),
            count,
        }),
    }
}
