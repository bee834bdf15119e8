//! ListImages, ImageStatus, RemoveImage: what is in the store.

use std::collections::HashSet;

use image::{ImageConfig, Reference};

use super::ImageRecord;
use crate::container::ContainerFilter;
use crate::engine::Engine;
use crate::error::{Error, Result};

impl Engine {
    /// All images, or the one that `query` names.
    ///
    /// # Errors
    /// A store that cannot be read.
    pub fn images(&self, query: Option<&str>) -> Result<Vec<ImageRecord>> {
        match query.filter(|query| !query.is_empty()) {
            None => {
                let mut all = self.store().images()?;
                all.iter_mut().for_each(|image| self.pin(image));
                Ok(all)
            }
            Some(query) => Ok(self.find_image(query)?.into_iter().collect()),
        }
    }

    /// The image that `query` names: an id or its beginning, a tag, a digest reference, or a
    /// short name tried against the unqualified-search registries. `None` if there is none.
    ///
    /// # Errors
    /// An ambiguous id, or a store that cannot be read.
    pub fn find_image(&self, query: &str) -> Result<Option<ImageRecord>> {
        let mut found = self.find_as_stored(query)?;
        found.iter_mut().for_each(|image| self.pin(image));
        Ok(found)
    }

    fn find_as_stored(&self, query: &str) -> Result<Option<ImageRecord>> {
        if let Some(found) = self.store().find(query)? {
            return Ok(Some(found));
        }
        for reference in self.images_fetcher().candidates(query) {
            if let Some(found) = self.store().find(&reference.to_string())? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// What the configuration pins is pinned.
    fn pin(&self, image: &mut ImageRecord) {
        let patterns = &self.config().image.pinned_images;
        let names = image.names.iter().chain(&image.repo_digests);
        let mut pairs = names.flat_map(|name| patterns.iter().map(move |pattern| (pattern, name)));
        image.pinned |= pairs.any(|(pattern, name)| is_meant(pattern, name));
    }

    /// As [`Engine::find_image`], where absence is an error.
    ///
    /// # Errors
    /// `NotFound`, and those of [`Engine::find_image`].
    pub fn image(&self, query: &str) -> Result<ImageRecord> {
        self.find_image(query)?.ok_or_else(|| Error::NotFound {
            what: "image",
            name: query.to_owned(),
        })
    }

    /// The tag of `image` that `query` means; `None` when it means the image by an id or digest.
    pub fn tag_meant(&self, image: &ImageRecord, query: &str) -> Option<String> {
        // Short names as the store finds them: Docker Hub's and localhost's, too.
        let also = [query.to_owned(), format!("localhost/{query}")];
        let also = also.iter().filter_map(|name| Reference::parse(name).ok());
        let candidates = self.images_fetcher().candidates(query).into_iter();
        candidates
            .chain(also.map(Reference::or_latest))
            .map(|reference| reference.to_string())
            .find(|name| image.names.contains(name))
    }

    /// Gives the image that `query` names a further name; another image with that name loses it.
    ///
    /// # Errors
    /// No such image, or a name that is no reference with a tag.
    pub fn tag_image(&self, query: &str, name: &str) -> Result<()> {
        let image = self.image(query)?;
        Ok(self.store().tag(&image.id, name)?)
    }

    /// Takes a tag from its image, which stays; `false` when no image has it.
    ///
    /// # Errors
    /// What is no reference with a tag.
    pub fn untag_image(&self, name: &str) -> Result<bool> {
        Ok(self.store().untag(name)?)
    }

    /// Removes the image with all its names and what nothing else uses. An image that is not
    /// there is fine.
    ///
    /// # Errors
    /// An image that a container uses, or a store that cannot be changed.
    pub fn remove_image(&self, query: &str) -> Result<()> {
        let Some(record) = self.find_image(query)? else {
            return Ok(());
        };
        let used = self.containers(&ContainerFilter::default())?;
        if let Some(user) = used
            .iter()
            .find(|container| container.images().any(|id| id == record.id))
        {
            return Err(Error::ImageInUse {
                image: query.to_owned(),
                container: user.id.clone(),
            });
        }
        self.store().remove(&record.id)?;
        self.store().gc()?;
        Ok(())
    }

    /// Removes the images that `doomed` says, but for pinned ones and those that a container uses,
    /// and returns them.
    ///
    /// # Errors
    /// A store that cannot be read or changed, and those of `doomed`.
    pub fn prune_images(
        &self,
        doomed: impl Fn(&ImageRecord) -> Result<bool>,
    ) -> Result<Vec<ImageRecord>> {
        let containers = self.containers(&ContainerFilter::default())?;
        let used: HashSet<&str> = containers.iter().flat_map(|c| c.images()).collect();
        let mut removed = Vec::new();
        for image in self.images(None)? {
            if image.pinned
                || image.read_only
                || used.contains(image.id.as_str())
                || !doomed(&image)?
            {
                continue;
            }
            if self.store().remove(&image.id)? {
                removed.push(image);
            }
        }
        // Also what killed commands have left.
        self.store().gc()?;
        Ok(removed)
    }

    /// The config of an image: what its containers start with, and how it was made.
    ///
    /// # Errors
    /// A store that cannot be read, or an image that has been removed.
    pub fn image_config(&self, image: &ImageRecord) -> Result<ImageConfig> {
        Ok(self.store().image_config(image)?)
    }

    /// The unpacked size of each layer of an image, lowest first.
    ///
    /// # Errors
    /// A store that cannot be read.
    pub fn layer_sizes(&self, image: &ImageRecord) -> Result<Vec<u64>> {
        Ok(self.store().layer_sizes(&image.id)?)
    }
}

/// Whether a pattern means an image's name, as CRI-O has it: `*x*` and `x*` are found anywhere in it, any other
/// is all of it; the case does not matter.
pub(super) fn is_meant(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (pattern.to_lowercase(), name.to_lowercase());
    match pattern.strip_suffix('*') {
        Some(begin) => name.contains(begin.strip_prefix('*').unwrap_or(begin)),
        None => pattern == name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_pinned_by_its_name_a_part_of_it_or_a_word() {
        let name = "registry.k8s.io/pause:3.10";
        for pattern in [
            "registry.k8s.io/pause:3.10",
            "REGISTRY.k8s.io/*",
            "*pause*",
            "pause*",
            "*",
        ] {
            assert!(is_meant(pattern, name), "{pattern}");
        }
        for pattern in ["pause", "*pause", "registry.k8s.io/pause", "*paws*"] {
            assert!(!is_meant(pattern, name), "{pattern}");
        }
    }
}
