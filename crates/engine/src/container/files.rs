//! The files of a container, for those who copy them: as it sees them itself while it runs, volumes included, and
//! else its root file system alone. Whoever reads or writes there must stay within ([`base::rooted`]): the container
//! has filled it with whatever it liked.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, open};
use store::{Access, MountOptions};

use super::{Container, Mount};
use crate::engine::Engine;
use crate::error::{Error, Result};

impl Engine {
    /// The root directory of a container. What of it is mounted for that is mounted nowhere, and gone with the
    /// descriptor.
    ///
    /// # Errors
    /// An unknown container, one without files on this node, or a mount that fails.
    pub fn container_files(&self, id: &str, writes: bool) -> Result<OwnedFd> {
        let container = self.container(id)?;
        if let Some(root) = self.seen_from_inside(&container)? {
            return Ok(root);
        }
        match writes {
            true => self.open_root(&container.id, Access::Durable),
            false => self.open_root(&container.id, Access::ReadOnly),
        }
    }

    /// The directory of a container below which a path of it is, and the path in that: of one that does not run, that of
    /// the volume or mount of the node that is mounted there, too.
    ///
    /// # Errors
    /// As [`Engine::container_files`].
    pub fn container_files_at(
        &self,
        id: &str,
        path: &Path,
        writes: bool,
    ) -> Result<(OwnedFd, PathBuf)> {
        let container = self.container(id)?;
        if let Some(root) = self.seen_from_inside(&container)? {
            return Ok((root, path.to_owned()));
        }
        let above =
            |mount: &&Mount| mount.image.is_none() && path.starts_with(&mount.container_path);
        let mounts = container.spec.mounts.iter().filter(above);
        let deepest = mounts.max_by_key(|mount| mount.container_path.components().count());
        let Some(mount) = deepest.filter(|mount| mount.host_path.is_dir()) else {
            return Ok((self.container_files(id, writes)?, path.to_owned()));
        };
        if writes && mount.readonly {
            let reason = format!("{} is mounted read-only", mount.container_path.display());
            return Err(Error::invalid("path", reason));
        }
        // Byte for byte: what ends the path says what is meant.
        let (whole, place) = (
            path.as_os_str().as_bytes(),
            mount.container_path.as_os_str(),
        );
        let place = place
            .as_bytes()
            .strip_suffix(b"/")
            .unwrap_or(place.as_bytes());
        let rest = whole.strip_prefix(place).unwrap_or_default();
        let rest = match rest {
            b"" => b"/",
            rest => rest,
        };
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        let root = open(&mount.host_path, flags, Mode::empty());
        let root = root.map_err(|errno| Error::io("open", &mount.host_path)(errno.into()))?;
        Ok((root, PathBuf::from(OsStr::from_bytes(rest))))
    }

    /// The root file system of a container alone, without what is mounted in it, to be read.
    ///
    /// # Errors
    /// As [`Engine::container_files`].
    pub fn container_root(&self, id: &str) -> Result<OwnedFd> {
        self.open_root(&self.container(id)?.id, Access::ReadOnly)
    }

    fn open_root(&self, id: &str, access: Access) -> Result<OwnedFd> {
        let root = self
            .store()
            .container_root(id)?
            .ok_or_else(|| Error::NotFound {
                what: "root file system of container",
                name: id.to_owned(),
            })?;
        Ok(root.open(&MountOptions::new(access))?)
    }

    /// The root of its first process, if it has one.
    fn seen_from_inside(&self, container: &Container) -> Result<Option<OwnedFd>> {
        let Some(pid) = container.pid.filter(|_| container.runs()) else {
            return Ok(None);
        };
        let path = format!("/proc/{pid}/root");
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        let opened = open(&path, flags, Mode::empty());
        // The number may have become another's before it was opened.
        let now = self.container(&container.id)?;
        match opened {
            Ok(root) if now.runs() && now.pid == Some(pid) => Ok(Some(root)),
            Ok(_) => Ok(None),
            Err(_) if !now.runs() => Ok(None),
            Err(errno) => Err(Error::io("open", path)(errno.into())),
        }
    }
}
