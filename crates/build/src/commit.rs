//! An image of what a container has written: its image's, and one layer more.

use engine::Engine;
use image::config::{ContainerConfig, History, RootFs};
use image::{ImageConfig, Manifest};
use store::{ImageRecord, NewImage, RootFilesystem, Times};

use crate::Format;
use crate::error::{Error, Failed, Result};
use crate::image_of::{document, layer, types, written};
use crate::source;
use crate::stage::of_image;
use crate::state::Layer;
use crate::variables::Scope;

/// What becomes an image.
#[derive(Debug)]
pub struct Commit<'a> {
    /// The container's root file system.
    pub root: &'a RootFilesystem,
    /// The image that it was made of.
    pub base: &'a ImageRecord,
    /// What containers of the new image start with.
    pub config: ContainerConfig,
    /// Who made it, if that is said.
    pub author: Option<String>,
    /// What made it, for the history.
    pub created_by: String,
    /// A remark for the history.
    pub comment: Option<String>,
    /// One layer, with all that is in the base.
    pub squash: bool,
    /// The form of the manifest.
    pub format: Format,
    /// References with a tag.
    pub names: Vec<String>,
}

/// Makes the image and stores it. The container may go on meanwhile: what it writes then is in it or not.
///
/// # Errors
/// What has no form in a layer, and what the store says.
pub fn commit(engine: &Engine, commit: Commit<'_>) -> Result<ImageRecord> {
    let failed = |failed: Failed| match failed {
        Failed::Words(words) => Error::Request(words),
        Failed::Exit(code) => Error::Request(format!("exit status {code}")),
        Failed::Interrupted => Error::Interrupted,
    };
    let store = engine.store();
    let lease = store.lease()?;
    if !store.hold_image(&lease, commit.base)? {
        return Err(Error::Request(
            "the container's image was removed meanwhile".into(),
        ));
    }
    let name = commit.base.names.first().unwrap_or(&commit.base.id);
    let mut state = of_image(engine, name, commit.base, Scope::default()).map_err(failed)?;
    let new = match commit.squash {
        false => store.write_layer(&lease, |out| commit.root.write_difference(out))?,
        true => {
            let tree = source::mounted(commit.root, store::Access::ReadOnly).map_err(failed)?;
            let write = |out: &mut dyn std::io::Write| {
                store.write_directory_with(Times::Kept, tree.fd(), "that is committed", out)
            };
            state.layers.clear();
            state.history.clear();
            store.write_layer(&lease, write)?
        }
    };
    state.layers.push(Layer {
        blob: new.blob,
        diff_id: new.diff_id,
    });
    let created = written(None);
    state.history.push(History {
        created: Some(created.clone()),
        author: commit.author.clone(),
        created_by: Some(commit.created_by),
        comment: commit.comment,
        empty_layer: false,
    });
    let mut config = commit.config;
    if commit.format == Format::Oci {
        config.healthcheck = None;
        config.on_build.clear();
        config.shell.clear();
    }
    let config = ImageConfig {
        created: Some(created),
        author: commit.author.or(state.author),
        architecture: state.platform.architecture,
        variant: state.platform.variant,
        os: state.platform.os,
        config,
        rootfs: RootFs {
            kind: "layers".into(),
            diff_ids: state.layers.iter().map(|one| one.diff_id.clone()).collect(),
        },
        history: state.history,
        ..ImageConfig::default()
    };
    let (config_type, manifest_type) = types(commit.format);
    let config = document(config_type, &config)?;
    let layers = state
        .layers
        .iter()
        .map(|one| layer(commit.format, &one.blob));
    let manifest = Manifest::new(
        manifest_type.clone(),
        config.descriptor.clone(),
        layers.collect(),
    );
    let new = NewImage {
        manifest: document(manifest_type, &manifest)?,
        config,
        index: None,
        inner: Vec::new(),
        names: commit.names,
        signatures: Vec::new(),
    };
    Ok(store.put_image(&lease, new)?)
}
