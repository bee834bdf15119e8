//! Which image of a store a name means, in the order of the store's own tools: an identifier, the
//! whole name, then any name of the repository with the digest.

use image::{AnyManifest, Digest, Platform, Reference};

use super::records::{Image, Root};
use crate::document::{Document, MAX_MANIFEST};
use crate::error::{Error, Result};

/// So many letters of an identifier are enough, if no other begins so.
const MIN_ID: usize = 3;
const ID: usize = 64;

/// An image that was found.
#[derive(Debug)]
pub(super) struct Found {
    /// The number of the root that it is in.
    pub(super) root: usize,
    pub(super) image: Image,
    /// How it was called, if by a name.
    pub(super) name: Option<Reference>,
}

/// The images of all roots.
struct Images<'a> {
    roots: &'a [Root],
    all: Vec<Vec<Image>>,
}

/// Finds the image that `text` means; `place` is for messages.
pub(super) fn find(roots: &[Root], text: &str, place: &str) -> Result<Found> {
    let all = roots.iter().map(Root::images).collect::<Result<_>>()?;
    let images = Images { roots, all };
    let none = || Error::missing(place, "there is no such image");
    let (text, id) = images.identifier(text, place)?;
    if text.is_empty() {
        let (root, image) = id.ok_or_else(none)?;
        return Ok(Found {
            root,
            image: image.clone(),
            name: None,
        });
    }
    let name = Reference::parse(text)?.or_latest();
    let found = match id {
        Some(found) => Some(found),
        None => images.named(&name).or(images.digested(&name)?),
    };
    let (root, image) = found
        .filter(|(_, image)| has_repository(image, &name))
        .ok_or_else(none)?;
    Ok(Found {
        root,
        image: image.clone(),
        name: Some(name),
    })
}

impl Images<'_> {
    fn iter(&self) -> impl Iterator<Item = (usize, &Image)> {
        let roots = self.all.iter().enumerate();
        roots.flat_map(|(root, images)| images.iter().map(move |image| (root, image)))
    }

    /// The text without the identifier of an image, and that image.
    fn identifier<'a>(
        &self,
        text: &'a str,
        place: &str,
    ) -> Result<(&'a str, Option<(usize, &Image)>)> {
        if let Some((rest, last)) = text.rsplit_once('@') {
            // One that is part of a name is the name's own affair.
            if Digest::parse(last).is_ok() {
                return Ok((text, None));
            }
            let found = self.by_id(last);
            let whole = last.len() == ID && last.bytes().all(|byte| byte.is_ascii_hexdigit());
            return match found {
                Some(_) => Ok((rest, found)),
                None if whole => Err(Error::missing(place, "there is no such image")),
                None => {
                    let why = format!("{last:?} is neither a digest nor the ID of an image");
                    Err(Error::place(place, why))
                }
            };
        }
        if !text.contains(':')
            && let found @ Some(_) = self.by_id(text)
        {
            return Ok(("", found));
        }
        Ok((text, None))
    }

    fn by_id(&self, id: &str) -> Option<(usize, &Image)> {
        if let whole @ Some(_) = self.iter().find(|(_, image)| image.id == id) {
            return whole;
        }
        // The same image may be in several stores.
        let mut begin = self.iter().filter(|(_, image)| image.id.starts_with(id));
        let first = begin.next().filter(|_| id.len() >= MIN_ID)?;
        begin
            .all(|(_, image)| image.id == first.1.id)
            .then_some(first)
    }

    fn named(&self, name: &Reference) -> Option<(usize, &Image)> {
        let name = name.to_string();
        let (root, image) = self.iter().find(|(_, image)| image.names.contains(&name))?;
        // An image that is in the first store too has its names there.
        let moved = root > 0 && self.all[0].iter().any(|own| own.id == image.id);
        (!moved).then_some((root, image))
    }

    /// Prefers the image for this machine, where an index with that digest was kept with several.
    fn digested(&self, name: &Reference) -> Result<Option<(usize, &Image)>> {
        let Some(digest) = name.digest() else {
            return Ok(None);
        };
        let candidates = self
            .iter()
            .filter(|(_, image)| image.has_digest(digest) && has_repository(image, name));
        let candidates: Vec<_> = candidates.collect();
        for (root, image) in &candidates {
            if candidates.len() > 1 && self.is_for_host(*root, image, digest)? {
                return Ok(Some((*root, image)));
            }
        }
        Ok(candidates.first().copied())
    }

    fn is_for_host(&self, root: usize, image: &Image, index: &Digest) -> Result<bool> {
        let key = manifest_key(index);
        let Some(bytes) = self.roots[root].data(image, &key, MAX_MANIFEST)? else {
            return Ok(false);
        };
        match Document::untyped(bytes)?.parse()? {
            AnyManifest::Manifest(_) => Ok(false),
            AnyManifest::Index(index) => Ok(index
                .choose(&Platform::host())
                .is_ok_and(|chosen| image.has_digest(&chosen.digest))),
        }
    }
}

/// The key of a manifest with this digest.
pub(super) fn manifest_key(digest: &Digest) -> String {
    format!("manifest-{digest}")
}

fn has_repository(image: &Image, name: &Reference) -> bool {
    let same =
        |known: &String| Reference::parse(known).is_ok_and(|known| known.name() == name.name());
    image.names.iter().any(same)
}
