//! What is an image by its form only (OCI image-spec manifest.md, "Guidelines for Artifact Usage"), and the files that
//! it is made of.
//!
//! The names of files are as hostile as all of a manifest: they become paths only by [`Manifest::artifact_files`].

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use crate::{Descriptor, Digest, Manifest, MediaType};

/// Annotations that name the file that a layer is, in the order in which they count: the OCI's own, and that
/// of the CNCF's model-spec.
const NAMES: [&str; 2] = ["org.opencontainers.image.title", "org.cncf.model.filepath"];
/// PATH_MAX and NAME_MAX of Linux.
const PATH: usize = 4095;
const NAME: usize = 255;

impl Manifest {
    /// The type of an artifact; `None` for images of containers.
    pub fn artifact_kind(&self) -> Option<String> {
        const LONGEST: usize = 100;
        // What registries and old tools say when they know nothing better.
        let generic = |kind: &MediaType| {
            matches!(
                kind.as_str(),
                "" | "application/octet-stream" | "application/json" | "text/plain"
            )
        };
        let config = &self.config.media_type;
        let is_config = match config {
            MediaType::OciConfig | MediaType::DockerConfig => true,
            other => self.media_type == Some(MediaType::DockerManifest) && generic(other),
        };
        // Types of layers are often wrong, but never without a word of tar.
        let is_layer = |kind: &MediaType| {
            kind.compression().is_some() || generic(kind) || kind.as_str().contains("tar")
        };
        let mut layers = self.layers.iter().map(|layer| &layer.media_type);
        let kind = match (is_config, layers.find(|kind| !is_layer(kind))) {
            (true, None) => return None,
            (true, Some(layer)) => layer.as_str(),
            (false, _) => self.artifact_type.as_deref().unwrap_or(config.as_str()),
        };
        Some(kind.chars().take(LONGEST).collect())
    }

    /// The id of what this manifest, which has that digest, is of: an artifact has no config to be named by.
    #[must_use]
    pub fn id<'a>(&'a self, digest: &'a Digest) -> &'a str {
        match self.artifact_kind() {
            Some(_) => digest.hex(),
            None => self.config.digest.hex(),
        }
    }

    /// The files of an artifact by their paths, which are relative and stay below where they begin. Layers
    /// without a name are no files.
    ///
    /// # Errors
    /// In words: a name that is no such path, or one that two layers have, or that is a directory of another's.
    pub fn artifact_files(&self) -> Result<BTreeMap<PathBuf, &Descriptor>, String> {
        let mut files = BTreeMap::new();
        for layer in &self.layers {
            let mut names = NAMES.iter().filter_map(|key| layer.annotations.get(*key));
            let Some(name) = names.next() else { continue };
            let path = file_path(name)?;
            if files.insert(path, layer).is_some() {
                return Err(format!("two of its files have the name {name:?}"));
            }
        }
        let mut above = files.keys().flat_map(|path| path.ancestors().skip(1));
        match above.find(|dir| files.contains_key(*dir)) {
            Some(both) => Err(format!("{both:?} is a file and a directory of another one")),
            None => Ok(files),
        }
    }
}

fn file_path(name: &str) -> Result<PathBuf, String> {
    let shown: String = name.chars().take(100).collect();
    let wrong = |why: &str| Err(format!("the name {shown:?} of a file {why}"));
    if name.chars().any(char::is_control) {
        return wrong("has a control character");
    }
    let mut path = PathBuf::new();
    for part in Path::new(name).components() {
        match part {
            Component::Normal(part) if part.len() <= NAME => path.push(part),
            Component::Normal(_) => return wrong("is too long"),
            Component::CurDir => {}
            _ => return wrong("is no path below its directory"),
        }
    }
    match path.as_os_str().len() {
        0 => wrong("is empty"),
        length if length > PATH => wrong("is too long"),
        _ if name.ends_with('/') => wrong("is that of a directory"),
        _ => Ok(path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn artifact(files: &[(&str, &str)]) -> Manifest {
        let layer = |(place, (key, name)): (usize, &(&str, &str))| {
            let kind = MediaType::from("application/vnd.example.file");
            let mut layer = Descriptor::of(kind, place.to_string().as_bytes());
            layer.annotations.insert((*key).into(), (*name).into());
            layer
        };
        let layers = files.iter().enumerate().map(layer).collect();
        let config = Descriptor::of(MediaType::OciEmpty, b"{}");
        Manifest::new(MediaType::OciManifest, config, layers)
    }

    fn names(files: &[(&str, &str)]) -> Result<Vec<String>, String> {
        let manifest = artifact(files);
        let files = manifest.artifact_files()?;
        Ok(files
            .keys()
            .map(|path| path.display().to_string())
            .collect())
    }

    #[test]
    fn files_have_the_names_of_their_annotations_and_the_rest_has_none() {
        let [title, model] = NAMES;
        let files = [(title, "./a//b.txt"), (model, "weights/1"), ("other", "c")];
        assert_eq!(names(&files).unwrap(), ["a/b.txt", "weights/1"]);
        let mut both = artifact(&[(title, "a")]);
        both.layers[0].annotations.insert(model.into(), "b".into());
        let files = both.artifact_files().unwrap();
        assert_eq!(files.keys().collect::<Vec<_>>(), [Path::new("a")]);
    }

    #[test]
    fn a_name_that_leads_elsewhere_or_to_two_files_is_refused() {
        let title = NAMES[0];
        let long = "x".repeat(256);
        let deep = "y/".repeat(3000);
        for bad in [
            "/etc/passwd",
            "..",
            "a/../../b",
            "",
            ".",
            "a/",
            "a\nb",
            "a\0",
            &long,
            &deep,
        ] {
            assert!(names(&[(title, bad)]).is_err(), "{bad:?}");
        }
        assert!(
            names(&[(title, "a"), (title, "./a")])
                .unwrap_err()
                .contains("two of")
        );
        let nested = [(title, "a/b/c"), (title, "a.txt"), (title, "a")];
        assert!(names(&nested).unwrap_err().contains("directory of another"));
    }
}
