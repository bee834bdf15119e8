//! `commit`: an image of a working container, which stays as it is.

use std::collections::BTreeMap;

use engine::Engine;
use image::config::RootFs;
use image::{Descriptor, ImageConfig, Manifest};
use store::{Access, ImageRecord, Lease, NewImage, NewLayer, Times};

use super::{Working, words};
use crate::Format;
use crate::error::{Failed, Result};
use crate::image_of::{BASE_DIGEST, BASE_NAME, document, history, layer, types, written};
use crate::source;

/// What the image is to be.
#[derive(Debug)]
pub struct Committing {
    /// References with a tag.
    pub names: Vec<String>,
    /// The form of the manifest; `None`: the container's.
    pub format: Option<Format>,
    /// One layer, with all that is in the base.
    pub squash: bool,
    /// When it is made, in seconds since 1970; `None`: now.
    pub created: Option<i64>,
    /// Times of the files of its layer.
    pub times: Times,
    /// It has no history.
    pub omit_history: bool,
    /// Annotations of the manifest besides the container's.
    pub annotations: BTreeMap<String, String>,
    /// Variables that it is not to have.
    pub unset: Vec<String>,
}

impl Working {
    /// The form that its images have.
    pub fn format(&self) -> Format {
        match self.record.format.as_str() {
            "docker" => Format::Docker,
            _ => Format::Oci,
        }
    }

    /// Makes the image and stores it; `lease` holds it where it has no names.
    ///
    /// # Errors
    /// What has no form in a layer, and what the store says.
    pub fn commit(
        &self,
        engine: &Engine,
        lease: &Lease,
        committing: &Committing,
    ) -> Result<ImageRecord> {
        let format = committing.format.unwrap_or_else(|| self.format());
        let new = self.new_layer(engine, lease, committing).map_err(words)?;
        let config = self.image_config(format, committing, &new);
        let (config_type, manifest_type) = types(format);
        let config = document(config_type, &config)?;
        let base = self.record.layers.iter().map(|one| &one.blob);
        let base = base.filter(|_| !committing.squash);
        let blobs = base.chain([&new.blob]).map(|blob| layer(format, blob));
        let blobs: Vec<Descriptor> = blobs.collect();
        let mut manifest = Manifest::new(manifest_type.clone(), config.descriptor.clone(), blobs);
        if format == Format::Oci {
            manifest.annotations = self.annotations(committing);
        }
        let new = NewImage {
            manifest: document(manifest_type, &manifest)?,
            config,
            index: None,
            inner: Vec::new(),
            names: committing.names.clone(),
            signatures: Vec::new(),
        };
        Ok(engine.store().put_image(lease, new)?)
    }

    fn new_layer(
        &self,
        engine: &Engine,
        lease: &Lease,
        committing: &Committing,
    ) -> std::result::Result<NewLayer, Failed> {
        let store = engine.store();
        let root = self.own.root();
        let times = committing.times;
        if !committing.squash {
            let write = |out: &mut dyn std::io::Write| root.write_difference_with(times, out);
            return Ok(store.write_layer(lease, write)?);
        }
        let tree = source::mounted(root, Access::ReadOnly)?;
        let write = |out: &mut dyn std::io::Write| {
            store.write_directory_with(times, tree.fd(), "that is committed", out)
        };
        Ok(store.write_layer(lease, write)?)
    }

    fn annotations(&self, committing: &Committing) -> BTreeMap<String, String> {
        let mut all = BTreeMap::new();
        if let Some(image) = &self.record.image {
            all.insert(BASE_NAME.to_owned(), image.name.clone());
            all.insert(BASE_DIGEST.to_owned(), image.digest.clone());
        }
        all.extend(self.record.annotations.clone());
        all.extend(committing.annotations.clone());
        all
    }

    fn image_config(&self, format: Format, committing: &Committing, new: &NewLayer) -> ImageConfig {
        let record = &self.record;
        let mut config = record.config.clone();
        config.env.retain(|entry| {
            let name = entry.split('=').next().unwrap_or_default();
            !committing.unset.iter().any(|unset| unset == name)
        });
        if format == Format::Oci {
            config.healthcheck = None;
            config.on_build.clear();
            config.shell.clear();
        }
        let by = record.created_by.clone();
        let by = by.unwrap_or_else(|| match record.config.shell.is_empty() {
            true => "/bin/sh".to_owned(),
            false => record.config.shell.join(" "),
        });
        let mut last = history(committing.created, by, record.comment.clone(), false);
        last.author.clone_from(&record.author);
        let mut lines = match committing.squash {
            true => Vec::new(),
            false => record.history.clone(),
        };
        lines.extend(record.steps.clone());
        lines.push(last);
        let base = record.layers.iter().map(|one| one.diff_id.clone());
        let base = base.filter(|_| !committing.squash);
        let platform = record.platform.clone();
        ImageConfig {
            created: Some(written(committing.created)),
            author: record.author.clone(),
            architecture: platform.architecture,
            variant: platform.variant,
            os: platform.os,
            os_version: platform.os_version,
            os_features: platform.os_features,
            config,
            rootfs: RootFs {
                kind: "layers".into(),
                diff_ids: base.chain([new.diff_id.clone()]).collect(),
            },
            history: match committing.omit_history {
                true => Vec::new(),
                false => lines,
            },
        }
    }
}
