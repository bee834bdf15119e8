//! Addresses in use, on disk as CNI's host-local keeps them, so that both can share a directory:
//! a file per address, named by it, holding the pod's id and interface; `last_reserved_ip.N` for
//! the round robin of range set N; `lock`. Must not know ranges or networks.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use crate::{Error, Result};

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
        flock(&file, FlockOperation::LockExclusive)
            .map_err(|errno| Error::file("lock", &path)(errno.into()))?;
        Ok(Locked {
            dir: self,
            _lock: file,
        })
    }

    /// All addresses in use with their owners.
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
            if let Some(owner) = owner(&entry.path())? {
                leases.push((ip, owner));
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
        let mut file = match OpenOptions::new().write(true).create_new(true).open(&path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(false),
            other => other.map_err(Error::file("create", &path))?,
        };
        // Line ends as host-local writes them.
        let written = file.write_all(format!("{id}\r\n{ifname}").as_bytes());
        let last = self.dir.last_file(set);
        let noted = written
            .map_err(Error::file("write", &path))
            .and_then(|()| fs::write(&last, ip.to_string()).map_err(Error::file("write", &last)));
        if noted.is_err() {
            remove(&path)?;
        }
        noted.map(|()| true)
    }
}

/// The id in an address's file; `None` when there is no such file.
fn owner(path: &Path) -> Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(
            text.lines().next().unwrap_or_default().trim().to_owned(),
        )),
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
