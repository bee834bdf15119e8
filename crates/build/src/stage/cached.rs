//! Steps that were done before: each layer is found again by a key of all that it depends on, and of nothing else.

use image::{Descriptor, Digest, Hasher};
use serde::{Deserialize, Serialize};

use super::Stage;
use crate::Layers;
use crate::error::Failed;
use crate::state::Layer;

/// Of what an entry's words look like.
const VERSION: u32 = 1;

/// A key that is being put together.
pub(super) struct Key(Hasher);

impl Key {
    pub(super) fn add(&mut self, part: &str) {
        self.0.update(format!("{}:{part},", part.len()).as_bytes());
    }
}

/// What is remembered of a step.
#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    version: u32,
    /// When it was done, as the history has it.
    created: Option<String>,
    layer: Option<EntryLayer>,
}

#[derive(Debug, Serialize, Deserialize)]
struct EntryLayer {
    blob: Descriptor,
    diff_id: Digest,
}

impl Stage<'_, '_> {
    /// The beginning of a key: the files so far, and what is done to new ones.
    pub(super) fn key(&self, kind: &str) -> Key {
        let mut key = Key(Digest::hasher());
        key.add(&format!("floe {VERSION}"));
        key.add(kind);
        key.add(&format!("{:?}", self.build.request.times));
        for diff_id in self.state.diff_ids() {
            key.add(&diff_id.to_string());
        }
        key
    }

    /// A step that may change files (`work` says whether it has), or the layer that it made before.
    pub(super) fn layered(
        &mut self,
        key: Key,
        said: String,
        work: impl FnOnce(&mut Self) -> Result<bool, Failed>,
    ) -> Result<(), Failed> {
        if self.build.request.layers != Layers::Steps {
            let changed = work(self)?;
            return self.changed(said, changed);
        }
        let key = key.0.finish();
        if let Some(entry) = self.remembered(&key)? {
            self.take(entry, said);
            return Ok(());
        }
        let changed = work(self)?;
        self.changed(said, changed)?;
        self.remember(&key, changed)
    }

    fn remembered(&self, key: &Digest) -> Result<Option<Entry>, Failed> {
        let request = self.build.request;
        if !request.finds_steps() {
            return Ok(None);
        }
        let store = self.build.engine.store();
        let words = store.remembered(&self.build.lease, key, request.cache_ttl)?;
        let entry = words.and_then(|words| serde_json::from_slice::<Entry>(&words).ok());
        Ok(entry.filter(|entry| entry.version == VERSION))
    }

    fn take(&mut self, entry: Entry, said: String) {
        // Nothing has been written to it.
        self.tree = None;
        self.working = None;
        let mut line = self.line(said, entry.layer.is_none());
        if self.build.request.created.is_none() && entry.layer.is_some() {
            line.created.clone_from(&entry.created);
        }
        self.state.history.push(line);
        let id = entry
            .layer
            .as_ref()
            .map_or_else(String::new, |layer| layer.diff_id.hex().to_owned());
        self.state.layers.extend(entry.layer.map(|layer| Layer {
            blob: layer.blob,
            diff_id: layer.diff_id,
        }));
        self.build.watch.cached(self.build.place(self.number), &id);
    }

    fn remember(&self, key: &Digest, changed: bool) -> Result<(), Failed> {
        let layer = self.state.layers.last().filter(|_| changed);
        let entry = Entry {
            version: VERSION,
            created: self
                .state
                .history
                .last()
                .and_then(|line| line.created.clone()),
            layer: layer.map(|layer| EntryLayer {
                blob: layer.blob.clone(),
                diff_id: layer.diff_id.clone(),
            }),
        };
        let words = serde_json::to_vec(&entry).map_err(|e| e.to_string())?;
        let layer = layer.map(|layer| (&layer.diff_id, &layer.blob.digest));
        Ok(self.build.engine.store().remember(key, &words, layer)?)
    }
}
