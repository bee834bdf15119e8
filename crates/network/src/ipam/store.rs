//! Addresses in use, on disk as CNI's host-local keeps them, so that both can share a directory:
//! a file per address, named by it, holding the pod's id and interface; `last_reserved_ip.N` for
//! the round robin of range set N; `lock`; `new`, what a killed floe was writing. Must not know ranges or
//! networks.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use crate::{Error, Result, sys};

/// The directory of one network.
#[derive(Debug, Clone)]
pub(crate) struct LeaseDir {
    path: PathBuf,
}

/// The directory, held against other processes and threads.
#[derive(Debug)]
pub(crate) struct Locked<'a> {
    dir: &'a LeaseDir,
    _lock: File,
}

impl LeaseDir {
    /// The store at `path`; touches nothing.
    pub(crate) fn new(path: PathBuf) -> Self {
        LeaseDir { path }
    }

    /// Locks the store, making its directory if it is missing.
    pub(crate) fn lock(&self) -> Result<Locked<'_>> {
        let path = self.path.join("lock");
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).write(true);
        let file = match options.open(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                fs::create_dir_all(&self.path).map_err(Error::file("create", &self.path))?;
                options.open(&path)
            }
            other => other,
        }
        .map_err(Error::file("open", &path))?;
        sys::lock::exclusive(&file, &path)?;
        Ok(Locked {
            dir: self,
            _lock: file,
        })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// All addresses in use with their owners. A file that cannot be read is nobody's: it keeps its
    /// address from being given out, and nothing else.
    pub(crate) fn leases(&self) -> Result<Vec<(IpAddr, String)>> {
        let entries = match fs::read_dir(&self.path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(Error::file("list", &self.path))?,
        };
        let mut leases = Vec::new();
        for entry in entries {
            let entry = entry.map_err(Error::file("list", &self.path))?;
            let Some(ip) = entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse().ok())
            else {
                continue;
            };
            match owner(&entry.path()) {
                Ok(Some(owner)) => leases.push((ip, owner)),
                Ok(None) => {}
                Err(error) => tracing::warn!(%error, "an address without an owner"),
            }
        }
        Ok(leases)
    }

    /// Frees one address, if it is this owner's; false if it is not.
    pub(crate) fn release(&self, ip: IpAddr, id: &str) -> Result<bool> {
        let path = self.path.join(ip.to_string());
        let own = owner(&path)?.as_deref() == Some(id);
        if own {
            remove(&path)?;
        }
        Ok(own)
    }

    /// Frees all addresses of this owner.
    pub(crate) fn release_all(&self, id: &str) -> Result<()> {
        for (ip, owner) in self.leases()? {
            if owner == id {
                remove(&self.path.join(ip.to_string()))?;
            }
        }
        Ok(())
    }

    fn last_file(&self, set: usize) -> PathBuf {
        self.path.join(format!("last_reserved_ip.{set}"))
    }
}

impl Locked<'_> {
    /// The address that was given out last from this range set.
    pub(crate) fn last(&self, set: usize) -> Option<IpAddr> {
        // A missing or damaged file only means that the search begins at the start.
        fs::read_to_string(self.dir.last_file(set))
            .ok()?
            .trim()
            .parse()
            .ok()
    }

    /// Takes an address; `false` when somebody has it.
    pub(crate) fn reserve(&self, ip: IpAddr, id: &str, ifname: &str, set: usize) -> Result<bool> {
        let path = self.dir.path.join(ip.to_string());
        if is_taken(&path)? {
            return Ok(false);
        }
        // It has its owner from its first moment on: one of nobody's would stay after a kill, as it is by
        // the owner that what is left of a pod is found.
        let new = self.dir.path.join(NEW);
        // Line ends as host-local writes them.
        fs::write(&new, format!("{id}\r\n{ifname}"))
            .and_then(|()| fs::rename(&new, &path))
            .map_err(Error::file("write", &path))?;
        let last = self.dir.last_file(set);
        if let Err(error) = fs::write(&last, ip.to_string()) {
            remove(&path)?;
            return Err(Error::file("write", &last)(error));
        }
        Ok(true)
    }
}

/// The file of an address before it has its name. Only who holds the lock writes it, over what a killed
/// one has left.
const NEW: &str = "new";

/// Whether an address has an owner. An empty file is of a host-local that was killed, or ran out of disk,
/// before it wrote the id: the caller holds the lock, which every writer holds.
fn is_taken(path: &Path) -> Result<bool> {
    match fs::symlink_metadata(path) {
        Ok(found) => Ok(!found.is_file() || found.len() > 0),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Error::file("look at", path)(error)),
    }
}

/// No owner's file is as long.
const FILE_MAX: u64 = 4 << 10;

/// The id in an address's file; `None` when there is no such file, or nothing in it.
fn owner(path: &Path) -> Result<Option<String>> {
    let mut bytes = Vec::new();
    let read = fs::symlink_metadata(path).and_then(|found| match found.is_file() {
        // Opening a pipe would wait for whoever writes to it.
        false => Err(io::Error::new(ErrorKind::InvalidData, "not a regular file")),
        true => File::open(path)?.take(FILE_MAX).read_to_end(&mut bytes),
    });
    match read {
        Ok(_) => {
            let text = String::from_utf8_lossy(&bytes);
            let id = text.lines().next().unwrap_or_default().trim();
            Ok(Some(id.to_owned()).filter(|id| !id.is_empty()))
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::file("read", path)(error)),
    }
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Error::file("remove", path)(error))
        }
        _ => Ok(()),
    }
}
