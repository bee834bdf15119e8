//! A stage as an image: configuration, history as buildah writes it, manifest.

use image::config::{History, RootFs};
use image::{Descriptor, Digest, ImageConfig, Manifest, MediaType};
use store::{Document, ImageRecord, NewImage};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::error::{Error, Result};
use crate::plan::Build;
use crate::state::State;
use crate::{Format, Layers};

pub(crate) const BASE_NAME: &str = "org.opencontainers.image.base.name";
pub(crate) const BASE_DIGEST: &str = "org.opencontainers.image.base.digest";

/// A time as images write it.
pub(crate) fn written(seconds: Option<i64>) -> String {
    let time = match seconds {
        Some(seconds) => {
            OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH)
        }
        None => OffsetDateTime::now_utc(),
    };
    // A year of more than four digits has no such form, and was refused.
    time.format(&Rfc3339).unwrap_or_default()
}

impl Build<'_> {
    /// Puts the image together and stores it.
    pub(crate) fn commit(self, number: usize, state: State) -> Result<ImageRecord> {
        let names = self.request.names.clone();
        self.watch.commit(self.place(number), &names);
        let base = state.base.clone();
        let layers: Vec<Descriptor> = state
            .layers
            .iter()
            .map(|one| layer(self.request.format, &one.blob))
            .collect();
        let inherited = state.inherited;
        let mut config = self.config(state);
        self.date(&mut config, inherited)?;
        let (config_type, manifest_type) = types(self.request.format);
        let config = document(config_type, &config)?;
        let mut manifest = Manifest::new(manifest_type.clone(), config.descriptor.clone(), layers);
        if self.request.format == Format::Oci {
            if let Some((name, digest)) = base {
                manifest.annotations.insert(BASE_NAME.to_owned(), name);
                manifest.annotations.insert(BASE_DIGEST.to_owned(), digest);
            }
            manifest
                .annotations
                .extend(self.request.annotations.clone());
        } else if !self.request.annotations.is_empty() {
            self.watch
                .warn("a manifest of Docker's has no annotations: they are left out");
        }
        let new = NewImage {
            manifest: document(manifest_type, &manifest)?,
            config,
            index: None,
            inner: Vec::new(),
            names,
            signatures: Vec::new(),
        };
        let record = self.engine.store().put_image(&self.lease, new)?;
        self.watch.made(self.place(number), &record.id);
        Ok(record)
    }

    /// The same image as before is of the same time: where all layers were there already, and nothing else is new,
    /// it has the id that it had.
    fn date(&self, config: &mut ImageConfig, inherited: usize) -> Result<()> {
        if self.request.created.is_some() || self.request.layers != Layers::Steps {
            return Ok(());
        }
        let mut undated = config.clone();
        undated.created = None;
        let own = |history: &mut Vec<History>| history.split_off(inherited.min(history.len()));
        let mut lines = own(&mut undated.history);
        for line in lines.iter_mut().filter(|line| line.empty_layer) {
            line.created = None;
        }
        undated.history.extend(lines);
        let failed = |e: serde_json::Error| Error::Request(format!("write the configuration: {e}"));
        let key = Digest::of(&serde_json::to_vec(&undated).map_err(failed)?);
        let store = self.engine.store();
        let before = match self.request.finds_steps() {
            false => None,
            true => store.remembered(&self.lease, &key, self.request.cache_ttl)?,
        };
        match before.and_then(|words| String::from_utf8(words).ok()) {
            Some(created) => {
                let lines = config.history.iter_mut().skip(inherited);
                for line in lines.filter(|line| line.empty_layer) {
                    line.created = Some(created.clone());
                }
                config.created = Some(created);
                Ok(())
            }
            None => {
                let created = config.created.clone().unwrap_or_default();
                let lines = config.history.iter_mut().skip(inherited);
                for line in lines.filter(|line| line.empty_layer) {
                    line.created = Some(created.clone());
                }
                Ok(store.remember(&key, created.as_bytes(), None)?)
            }
        }
    }

    fn config(&self, state: State) -> ImageConfig {
        let mut config = state.config;
        config.env.retain(|entry| {
            let name = entry.split('=').next().unwrap_or_default();
            !self.request.unset.iter().any(|unset| unset == name)
        });
        if self.request.format == Format::Oci {
            let told = [
                ("HEALTHCHECK", config.healthcheck.take().is_some()),
                ("ONBUILD", !std::mem::take(&mut config.on_build).is_empty()),
                ("SHELL", !std::mem::take(&mut config.shell).is_empty()),
            ];
            for (word, _) in told.iter().filter(|(_, said)| *said) {
                let words = format!(
                    "{word} is not supported for OCI image format and will be ignored. Must use `docker` format"
                );
                self.watch.warn(&words);
            }
        }
        ImageConfig {
            created: Some(written(self.request.created)),
            author: state.author,
            architecture: state.platform.architecture,
            variant: state.platform.variant,
            os: state.platform.os,
            os_version: state.platform.os_version,
            os_features: state.platform.os_features,
            config,
            rootfs: RootFs {
                kind: "layers".into(),
                diff_ids: state
                    .layers
                    .into_iter()
                    .map(|layer| layer.diff_id)
                    .collect(),
            },
            history: match self.request.omit_history {
                true => Vec::new(),
                false => state.history,
            },
        }
    }
}

/// A layer as the manifest's form calls it.
pub(crate) fn layer(format: Format, blob: &Descriptor) -> Descriptor {
    let media_type = match (format, &blob.media_type) {
        (Format::Oci, MediaType::DockerLayer) => MediaType::OciLayer,
        (Format::Oci, MediaType::DockerLayerGzip) => MediaType::OciLayerGzip,
        (Format::Docker, MediaType::OciLayer) => MediaType::DockerLayer,
        (Format::Docker, MediaType::OciLayerGzip) => MediaType::DockerLayerGzip,
        (_, other) => other.clone(),
    };
    Descriptor {
        media_type,
        ..blob.clone()
    }
}

/// The types of a configuration and a manifest.
pub(crate) fn types(format: Format) -> (MediaType, MediaType) {
    match format {
        Format::Oci => (MediaType::OciConfig, MediaType::OciManifest),
        Format::Docker => (MediaType::DockerConfig, MediaType::DockerManifest),
    }
}

/// A step's line of history.
pub(crate) fn history(
    created: Option<i64>,
    created_by: String,
    comment: Option<String>,
    empty: bool,
) -> History {
    History {
        created: Some(written(created)),
        author: None,
        created_by: Some(created_by),
        comment,
        empty_layer: empty,
    }
}

pub(crate) fn document<T: serde::Serialize>(media_type: MediaType, value: &T) -> Result<Document> {
    let bytes = serde_json::to_vec(value)
        .map_err(|e| Error::Request(format!("write {media_type}: {e}")))?;
    Ok(Document::new(media_type, bytes))
}

/// `OS/ARCH[/VARIANT]`.
pub(crate) fn platform(text: &str) -> std::result::Result<image::Platform, crate::error::Failed> {
    let parts: Vec<&str> = text.split('/').collect();
    match parts[..] {
        [os, arch] => Ok(image::Platform::new(os, arch)),
        [os, arch, variant] => Ok(image::Platform {
            variant: Some(variant.to_owned()),
            ..image::Platform::new(os, arch)
        }),
        _ => Err(format!("--platform={text} is not OS/ARCH[/VARIANT]").into()),
    }
}
