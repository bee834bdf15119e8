//! Where an image is: `TRANSPORT:REFERENCE`, as containers-transports(5) writes it.
//!
//! Parsing only: nothing here looks at the disk or asks a registry.

use std::fmt;
use std::path::PathBuf;

use image::Reference;

use crate::containers_storage::StoragePlace;
use crate::error::{Error, Result};

/// The place of one image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// `docker://NAME[:TAG|@DIGEST]`: in a registry.
    Registry(Reference),
    /// `oci:DIR[:NAME]`: in an OCI image layout.
    Layout(PathBuf, Option<String>),
    /// `oci-archive:FILE[:NAME]`: in a tar file of an OCI image layout.
    LayoutArchive(PathBuf, Option<String>),
    /// `docker-archive:FILE[:NAME[:TAG]|:@INDEX]`: in a file of `docker save`.
    DockerArchive(PathBuf, ArchiveEntry),
    /// `dir:DIR`: in a directory, one file per blob.
    Dir(PathBuf),
    /// `containers-storage:[[DRIVER@]GRAPHROOT[+RUNROOT][:OPTIONS]]IMAGE`: in a store of podman,
    /// buildah or CRI-O.
    Storage(StoragePlace),
    /// `floe:IMAGE`: in floe's own store, by name or ID.
    Store(String),
}

/// Which image of a `docker save` file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ArchiveEntry {
    /// The only one.
    Only,
    /// The one with this name and tag.
    Named(Reference),
    /// The one at this place, from 0.
    At(usize),
}

impl Location {
    /// Reads `TRANSPORT:REFERENCE`. Errors with [`Error::Location`], which says what is wrong.
    pub fn parse(text: &str) -> Result<Location> {
        let flawed = |why: String| Error::Location {
            text: text.to_owned(),
            why,
        };
        let Some((transport, rest)) = text.split_once(':') else {
            return Err(flawed(
                "it names no transport: write docker://NAME, oci:DIR, oci-archive:FILE, \
                 docker-archive:FILE, dir:DIR, containers-storage:IMAGE or floe:IMAGE"
                    .into(),
            ));
        };
        if rest.is_empty() {
            return Err(flawed("nothing comes after the colon".into()));
        }
        let reference = |name: &str| Reference::parse(name).map_err(|e| flawed(e.to_string()));
        match transport {
            "docker" => {
                let name = rest
                    .strip_prefix("//")
                    .ok_or_else(|| flawed("a registry's image begins with docker://".into()))?;
                Ok(Location::Registry(reference(name)?.or_latest()))
            }
            "oci" => {
                let (dir, name) = path_and_name(rest).map_err(flawed)?;
                Ok(Location::Layout(dir, name))
            }
            "oci-archive" => {
                let (file, name) = path_and_name(rest).map_err(flawed)?;
                Ok(Location::LayoutArchive(file, name))
            }
            "docker-archive" => {
                let (file, name) = rest.split_once(':').unwrap_or((rest, ""));
                let entry = match (name, name.strip_prefix('@')) {
                    ("", _) => ArchiveEntry::Only,
                    (_, Some(index)) => ArchiveEntry::At(
                        index
                            .parse()
                            .map_err(|_| flawed(format!("{index:?} is not a number from 0")))?,
                    ),
                    (name, None) => ArchiveEntry::Named(reference(name)?.or_latest()),
                };
                Ok(Location::DockerArchive(file.into(), entry))
            }
            "dir" => Ok(Location::Dir(rest.into())),
            "floe" => Ok(Location::Store(rest.to_owned())),
            "containers-storage" => {
                let place = StoragePlace::parse(rest).map_err(flawed)?;
                Ok(Location::Storage(place))
            }
            other => Err(flawed(match refused(other) {
                Some(why) => format!("the transport {other} is not offered: {why}"),
                None => format!("there is no transport {other:?}"),
            })),
        }
    }

    /// Whether a text begins with the name of a transport, be it one that is offered or not.
    pub fn names_transport(text: &str) -> bool {
        const OFFERED: [&str; 7] = [
            "docker",
            "oci",
            "oci-archive",
            "docker-archive",
            "dir",
            "containers-storage",
            "floe",
        ];
        let named = text.split_once(':').map(|(transport, _)| transport);
        named.is_some_and(|name| OFFERED.contains(&name) || refused(name).is_some())
    }

    /// The transport's name, as written before the colon.
    pub fn transport(&self) -> &'static str {
        match self {
            Location::Registry(_) => "docker",
            Location::Layout(..) => "oci",
            Location::LayoutArchive(..) => "oci-archive",
            Location::DockerArchive(..) => "docker-archive",
            Location::Dir(_) => "dir",
            Location::Storage(_) => "containers-storage",
            Location::Store(_) => "floe",
        }
    }
}

/// Why floe does not have a transport that others have.
fn refused(transport: &str) -> Option<&'static str> {
    match transport {
        "docker-daemon" => Some(
            "floe does not talk to Docker's daemon; `docker save` and docker-archive:FILE do the same",
        ),
        "atomic" => Some("OpenShift's registry has its images under docker:// as well"),
        "ostree" => Some("it is gone from the tools that had it; write oci:DIR"),
        "sif" => Some("files of Singularity are not images of layers; write oci-archive:FILE"),
        "tarball" => Some("floe import makes an image of a tar file"),
        _ => None,
    }
}

fn path_and_name(rest: &str) -> Result<(PathBuf, Option<String>), String> {
    let (path, name) = rest.split_once(':').unwrap_or((rest, ""));
    if name.starts_with('@') {
        return Err("an image by its place (@INDEX) is not supported here".into());
    }
    Ok((
        path.into(),
        Some(name.to_owned()).filter(|name| !name.is_empty()),
    ))
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let transport = self.transport();
        let colon = |name: &Option<String>| match name {
            Some(name) => format!(":{name}"),
            None => String::new(),
        };
        match self {
            Location::Registry(reference) => write!(f, "{transport}://{reference}"),
            Location::Layout(path, name) | Location::LayoutArchive(path, name) => {
                write!(f, "{transport}:{}{}", path.display(), colon(name))
            }
            Location::DockerArchive(path, ArchiveEntry::Only) | Location::Dir(path) => {
                write!(f, "{transport}:{}", path.display())
            }
            Location::DockerArchive(path, ArchiveEntry::Named(name)) => {
                write!(f, "{transport}:{}:{name}", path.display())
            }
            Location::DockerArchive(path, ArchiveEntry::At(index)) => {
                write!(f, "{transport}:{}:@{index}", path.display())
            }
            Location::Storage(place) => write!(f, "{transport}:{place}"),
            Location::Store(image) => write!(f, "{transport}:{image}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_shown_again() {
        for text in [
            "docker://docker.io/library/busybox:1",
            "oci:/tmp/x",
            "oci:/tmp/x:a/b:1",
            "oci-archive:x.tar:v1",
            "docker-archive:x.tar",
            "docker-archive:x.tar:docker.io/library/busybox:1",
            "docker-archive:x.tar:@2",
            "dir:/a b",
            "containers-storage:x/y:1",
            "containers-storage:[/r]@abc",
            "containers-storage:[overlay@/r+/run:overlay.a=b,overlay.c=d]x@sha256:abc",
            "floe:busybox",
        ] {
            assert_eq!(Location::parse(text).unwrap().to_string(), text);
        }
        let place = Location::parse("containers-storage:[vfs@/a/./b/../c/]x").unwrap();
        assert_eq!(place.to_string(), "containers-storage:[vfs@/a/c]x");
        assert_eq!(
            Location::parse("docker://busybox").unwrap().to_string(),
            "docker://docker.io/library/busybox:latest"
        );
    }

    #[test]
    fn what_is_no_place_is_told_why() {
        for (text, why) in [
            ("busybox", "names no transport"),
            ("docker:busybox", "docker://"),
            ("docker://A B", "A B"),
            ("oci:", "nothing"),
            ("oci:x:@1", "@INDEX"),
            ("docker-archive:x:@-1", "number"),
            ("docker-daemon:x", "docker save"),
            ("sif:x", "sif is not offered"),
            ("atomic:x", "docker://"),
            ("containers-storage:[/r", "no ]"),
            ("containers-storage:[/r]", "no image"),
            ("containers-storage:[@/r]x", "no driver"),
            ("containers-storage:[vfs@r]x", "absolute"),
            ("containers-storage:[vfs@/r+run]x", "absolute"),
            ("ftp:x", "no transport"),
        ] {
            let error = Location::parse(text).unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
