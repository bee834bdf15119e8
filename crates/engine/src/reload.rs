//! A new configuration for an engine that runs: taken as a whole or not at all. What has begun keeps the
//! settings with which it began; what is made once keeps its value until the next start, and is named.
//!
//! Must never leave an engine between two configurations: everything that can fail is made first.

use std::path::PathBuf;
use std::sync::Arc;

use crate::config::Config;
use crate::engine::{Engine, Settings};
use crate::error::{Error, Result};
use crate::hooks::HookFiles;
use crate::image;
use crate::oci::{BlockIoClasses, check_profiles};

/// What a reload came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reloaded {
    /// Dotted keys whose new value holds from now on.
    pub changed: Vec<String>,
    /// Dotted keys whose new value holds from the next start on.
    pub needs_restart: Vec<String>,
}

impl Engine {
    /// Takes a configuration for all that begins from now on, and reads again the files that it names:
    /// registries.conf with its drop-ins, policy.json, registries.d, hooks. (Those of seccomp profiles, CNI and namespaces'
    /// policies are read at each use.)
    ///
    /// # Errors
    /// A value that cannot be used, or a file that cannot be read: nothing has changed then.
    pub fn reload(&self, wanted: &Config) -> Result<Reloaded> {
        let unfit = |reason| Error::Config {
            origin: "configuration".into(),
            reason,
        };
        wanted.validate().map_err(unfit)?;
        check_profiles(&wanted.runtime)?;
        wanted.check_block_io()?;
        let mut reloaded = Reloaded::default();
        self.replace_settings(|old| {
            let config = wanted.within(&old.config);
            let keep_blobs = config.image.keep_blobs().map_err(unfit)?;
            let layer_form = config.image.layer_form().map_err(unfit)?;
            reloaded = Reloaded {
                changed: config.differing_keys(&old.config),
                needs_restart: wanted.differing_keys(&config),
            };
            let runtimes = |config: &Config| {
                let runtime = &config.runtime;
                (runtime.default_runtime.clone(), runtime.runtimes.clone())
            };
            let handlers = match runtimes(&config) == runtimes(&old.config) {
                true => Arc::clone(&old.handlers),
                false => Arc::new(old.handlers.again(&config)),
            };
            let images = old.images.again(&config)?;
            let hooks = HookFiles::read(&config.runtime.hooks_dir)?.into();
            self.store().set_keep_blobs(keep_blobs);
            self.store().set_layer_form(layer_form);
            Ok(Settings {
                config,
                images,
                handlers,
                hooks,
            })
        })?;
        Ok(reloaded)
    }
}

impl Config {
    /// Whether the files that it names can be used: hooks, seccomp profiles, registries.conf, policy.json, registries.d.
    ///
    /// # Errors
    /// The first that cannot.
    pub fn check_files(&self) -> Result<()> {
        check_profiles(&self.runtime)?;
        self.check_block_io()?;
        HookFiles::read(&self.runtime.hooks_dir)?;
        image::Fetcher::new(self).map(drop)
    }

    fn check_block_io(&self) -> Result<()> {
        let file = &self.runtime.blockio_config_file;
        match file.as_os_str().is_empty() {
            true => Ok(()),
            false => BlockIoClasses::read(file).map(drop),
        }
    }

    /// The files and directories beside the configuration that a reload reads: whether they are there or
    /// not.
    #[must_use]
    pub fn read_at_reload(&self) -> Vec<PathBuf> {
        let mut paths = image::registries_files(self);
        paths.push(self.image.signature_policy.clone());
        paths.extend_from_slice(&self.runtime.hooks_dir);
        paths
    }
}
