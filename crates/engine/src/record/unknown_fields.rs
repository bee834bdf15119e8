//! What a newer floe has added to a record: passed over by this one, and written back when it
//! writes the record again, at every depth. A record that holds nothing unknown costs nothing here.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_ignored::Path;
use serde_json::Value;

/// Fields of a record that this program does not know.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct UnknownFields {
    fields: Vec<(Vec<Step>, Value)>,
    /// The record's own, if it is of a later one than this program's.
    revision: Option<u64>,
}

/// A step from a value to one inside it.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Key(String),
    Index(usize),
}

/// A record, and what is in it besides.
pub(super) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> serde_json::Result<(T, UnknownFields)> {
    let mut unknown = Vec::new();
    let mut text = serde_json::Deserializer::from_slice(bytes);
    let record = serde_ignored::deserialize(&mut text, |path| unknown.extend(steps(&path)))?;
    text.end()?;
    if unknown.is_empty() {
        return Ok((record, UnknownFields::default()));
    }
    let whole: Value = serde_json::from_slice(bytes)?;
    let value = |path: Vec<Step>| {
        let found = path.iter().try_fold(&whole, |at, step| step.of(at))?;
        Some((path, found.clone()))
    };
    let kept = UnknownFields {
        fields: unknown.into_iter().filter_map(value).collect(),
        revision: whole.get("revision").and_then(Value::as_u64),
    };
    Ok((record, kept))
}

/// The way to an unknown field; `None` inside an enum's variant, which is another when it changes.
fn steps(path: &Path<'_>) -> Option<Vec<Step>> {
    let mut steps = Vec::new();
    let mut at = path;
    loop {
        at = match at {
            Path::Root => break,
            Path::Seq { parent, index } => {
                steps.push(Step::Index(*index));
                parent
            }
            Path::Map { parent, key } => {
                steps.push(Step::Key(key.clone()));
                parent
            }
            Path::Some { parent } | Path::NewtypeStruct { parent } => parent,
            Path::NewtypeVariant { .. } => return None,
        };
    }
    steps.reverse();
    Some(steps)
}

impl Step {
    fn of<'a>(&self, value: &'a Value) -> Option<&'a Value> {
        match self {
            Self::Key(key) => value.get(key),
            Self::Index(index) => value.get(index),
        }
    }

    fn of_mut<'a>(&self, value: &'a mut Value) -> Option<&'a mut Value> {
        match self {
            Self::Key(key) => value.get_mut(key),
            Self::Index(index) => value.get_mut(index),
        }
    }
}

impl UnknownFields {
    pub(super) fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// The record with all that was kept. What has no place any more, as what it was in is gone,
    /// goes with that.
    pub(super) fn with(&self, record: &impl Serialize) -> serde_json::Result<Value> {
        let mut whole = serde_json::to_value(record)?;
        for (path, value) in &self.fields {
            let Some((Step::Key(key), above)) = path.split_last() else {
                continue;
            };
            let place = above
                .iter()
                .try_fold(&mut whole, |at, step| step.of_mut(at));
            if let Some(Value::Object(place)) = place {
                place.entry(key).or_insert_with(|| value.clone());
            }
        }
        // It has the fields of that revision still.
        if let Some(own) = whole.get_mut("revision")
            && own.as_u64() < self.revision
        {
            *own = self.revision.into();
        }
        Ok(whole)
    }
}
