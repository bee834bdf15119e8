//! What a container has written, by name: for a person who asks what is different.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, statat};
use rustix::io::Errno;

use super::apart::{Apart, list};
use super::{DiffFlaw, Walk};
use crate::archive::Writer;
use crate::error::Result;
use crate::{Access, MountOptions, RootFilesystem, tree};

/// What became of a file or directory of the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// It is new.
    Added,
    /// It is another one, or something in it is.
    Changed,
    /// It is gone.
    Removed,
}

impl RootFilesystem {
    /// What is different from the layers below, by paths relative to the root, sorted. Of a directory that is gone only
    /// its own name is told.
    ///
    /// Errors as [`write_difference`](Self::write_difference).
    pub fn changes(&self) -> Result<Vec<(Vec<u8>, Change)>> {
        let (container, upper) = self.upper()?;
        let layers = self.layers().iter().enumerate();
        let lowers = layers.map(|(place, layer)| Ok((place, layer.directory()?)));
        let lowers = lowers.collect::<Result<Vec<_>>>()?;
        let below = match lowers.is_empty() {
            true => None,
            false => Some(self.below().open(&MountOptions::new(Access::ReadOnly))?),
        };
        let mut walk = Walk::new(
            upper.as_fd(),
            Writer::new(std::io::sink()),
            self.limits().unpacked_bytes,
        );
        walk.apart = Some(Apart::default());
        walk.names = Some(Vec::new());
        let walked = walk.run();
        let names = walk.names.take().unwrap_or_default();
        let mut apart = walk.apart.take().unwrap_or_default();
        let listed = walked.and_then(|()| list(&mut apart, upper.as_fd(), &lowers));
        let mut all: Vec<(Vec<u8>, Change)> = apart
            .removed
            .into_iter()
            .map(|path| (path, Change::Removed))
            .collect();
        let told = listed.and_then(|()| {
            for name in names.into_iter().filter(|name| !name.is_empty()) {
                let change = match is_there(below.as_ref(), &name).map_err(DiffFlaw::sys("stat"))? {
                    true => Change::Changed,
                    false => Change::Added,
                };
                all.push((name, change));
            }
            Ok(())
        });
        walk.end(container, told)?;
        all.sort();
        Ok(all)
    }
}

fn is_there(below: Option<&OwnedFd>, path: &[u8]) -> rustix::io::Result<bool> {
    let Some(below) = below else {
        return Ok(false);
    };
    let (parent, name) = crate::extract::split(path);
    let found = tree::open_below(below.as_fd(), parent)
        .and_then(|dir| statat(dir, name, AtFlags::SYMLINK_NOFOLLOW));
    match found {
        Ok(_) => Ok(true),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(false),
        Err(e) => Err(e),
    }
}
