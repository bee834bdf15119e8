//! Which images a file or directory holds, whatever its format, for `load`.

use std::path::Path;

use image::{Descriptor, Index};

use crate::docker_archive::{Archive, INDEX};
use crate::document::MAX_MANIFEST;
use crate::error::{Error, Result};
use crate::layout::{REF_NAME, read_index};
use crate::name::{ArchiveEntry, Location};

/// An image in a file or directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    /// Where it is.
    pub location: Location,
    /// The references that it is to be known by; perhaps none.
    pub names: Vec<String>,
}

/// The images of an archive of `docker save`, an archive of an image layout, a layout, or a directory
/// of the `dir` transport.
pub fn contents(path: &Path) -> Result<Vec<Content>> {
    if path.is_dir() {
        return match path.join("index.json").exists() {
            true => Ok(entries(&read_index(path)?, |name| {
                Location::Layout(path.to_owned(), name)
            })),
            false => Ok(vec![Content {
                location: Location::Dir(path.to_owned()),
                names: Vec::new(),
            }]),
        };
    }
    let archive = Archive::open(path)?;
    if archive.has(INDEX) {
        let images = archive.names()?.into_iter().enumerate();
        return Ok(images
            .map(|(place, names)| Content {
                location: Location::DockerArchive(path.to_owned(), ArchiveEntry::At(place)),
                names,
            })
            .collect());
    }
    if !archive.has("index.json") {
        return Err(Error::place(
            path.display(),
            "it is no archive of images: it has neither manifest.json nor index.json",
        ));
    }
    let bytes = archive.read("index.json", MAX_MANIFEST)?;
    let index: Index = serde_json::from_slice(&bytes).map_err(Error::json("index.json"))?;
    Ok(entries(&index, |name| {
        Location::LayoutArchive(path.to_owned(), name)
    }))
}

fn entries(index: &Index, location: impl Fn(Option<String>) -> Location) -> Vec<Content> {
    let named = |entry: &Descriptor| entry.annotations.get(REF_NAME).cloned();
    let images = index.manifests.iter().map(named);
    images
        .map(|name| Content {
            // A bare word is a tag of nothing in particular.
            names: name
                .iter()
                .filter(|name| name.contains(['/', ':']))
                .cloned()
                .collect(),
            location: location(name),
        })
        .collect()
}
