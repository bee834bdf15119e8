//! What a build asks of the node: images and files of URLs.

use std::fs::File;
use std::io::Write;

use build::Surroundings;
use build::working::whole_id;
use distribution::Client;
use engine::Engine;
use futures_util::StreamExt;
use image::Platform;
use store::ImageRecord;
use transfer::Location;

use crate::cmd::pull::PullFlags;
use crate::failure::Failure;
use crate::global::Global;
use crate::remote::{self, Remote};

/// This node.
pub(crate) struct Node<'a> {
    pub(crate) global: &'a Global,
    pub(crate) engine: &'a Engine,
    pub(crate) from: &'a PullFlags,
    pub(crate) policy: &'a str,
    pub(crate) quiet: bool,
}

impl Node<'_> {
    fn found(&self, name: &str, platform: Option<&Platform>) -> Result<ImageRecord, Failure> {
        let stored = self.engine.find_image(name)?;
        // One of another platform is not what is meant.
        let stored = stored.filter(|stored| self.fits(stored, platform));
        let from = match platform {
            Some(platform) => self.from.of_platform(platform),
            None => self.from.clone(),
        };
        let pull = || {
            let id = from.pull(self.global, self.engine, name, self.quiet)?;
            Ok::<_, Failure>(self.engine.image(&id)?)
        };
        match (self.policy, stored) {
            ("always", _) => pull(),
            ("newer", Some(stored)) => Ok(pull().unwrap_or(stored)),
            (_, Some(stored)) => Ok(stored),
            // What lies on this machine is read, and not pulled.
            ("never", None) if Location::parse(name).is_err() => Err(unknown(name)),
            (_, None) if whole_id(name).is_some() => Err(unknown(name)),
            (_, None) => pull(),
        }
    }

    fn fits(&self, image: &ImageRecord, platform: Option<&Platform>) -> bool {
        let Some(wanted) = platform else { return true };
        let own = self
            .engine
            .image_config(image)
            .map(|config| config.platform());
        own.is_ok_and(|own| own.os == wanted.os && own.architecture == wanted.architecture)
    }

    fn fetched(&self, url: &str, to: &mut File) -> Result<(), Failure> {
        let client = Client::new(Remote::new(self.global)?.settings().clone());
        remote::block_on(async {
            let mut chunks = Box::pin(client.file(url).await?);
            while let Some(chunk) = chunks.next().await {
                to.write_all(&chunk?)?;
            }
            Ok(to.flush()?)
        })
    }
}

fn unknown(name: &str) -> Failure {
    Failure::new(format!("{name}: image not known"))
}

impl Surroundings for Node<'_> {
    fn image(&self, name: &str, platform: Option<&Platform>) -> Result<ImageRecord, String> {
        self.found(name, platform)
            .map_err(|failure| failure.message)
    }

    fn fetch(&self, url: &str, to: &mut File) -> Result<Option<i64>, String> {
        self.fetched(url, to).map_err(|failure| failure.message)?;
        Ok(None)
    }
}
