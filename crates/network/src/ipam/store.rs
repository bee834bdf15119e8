//! Addresses in use, on disk as CNI's host-local keeps them, so that both can share a directory:
//! a file per address, named by it, holding the pod's id and interface; `last_reserved_ip.N` for
//! the round robin of range set N; `lock`; `new`, what a killed floe was writing. A network that other engines
//! may have too is in two places: floe's own says which addresses its pods have, as long as they live; in
//! the directory of the program host-local each is taken as well. Must not know ranges or networks.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use crate::{Error, Result, sys};

/// The directory of one network.
#[derive(Debug, Clone)]
pub(crate) struct LeaseDir {
    path: PathBuf,
    /// Where the program host-local looks.
    shared: Option<PathBuf>,
}

/// The directory, held against other processes and threads.
#[derive(Debug)]
pub(crate) struct Locked<'a> {
    dir: &'a LeaseDir,
    _lock: File,
    _shared: Option<File>,
}

impl LeaseDir {
    /// The store at `path`; touches nothing.
    pub(crate) fn new(path: PathBuf) -> Self {
        LeaseDir { path, shared: None }
    }

    /// With the directory of the same network that the program host-local uses.
    pub(crate) fn beside(self, shared: Option<PathBuf>) -> Self {
        LeaseDir { shared, ..self }
    }

    /// Locks the store, making its directory if it is missing.
    pub(crate) fn lock(&self) -> Result<Locked<'_>> {
        Ok(Locked {
            dir: self,
            _lock: lock(&self.path)?,
            _shared: self.shared.as_deref().map(lock).transpose()?,
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

    /// Whose an address is.
    pub(crate) fn owner(&self, ip: IpAddr) -> Result<Option<String>> {
        owner(&self.path.join(ip.to_string()))
    }

    /// Frees one address, if it is this owner's; false if it is not.
    pub(crate) fn release(&self, ip: IpAddr, id: &str) -> Result<bool> {
        let path = self.path.join(ip.to_string());
        let own = owner(&path)?.as_deref() == Some(id);
        if own {
            // First where others look: ours, which says whose it is, is there until the end.
            self.release_shared(ip, id)?;
            remove(&path)?;
        }
        Ok(own)
    }

    fn release_shared(&self, ip: IpAddr, id: &str) -> Result<()> {
        let Some(path) = self.shared.as_ref().map(|dir| dir.join(ip.to_string())) else {
            return Ok(());
        };
        match owner(&path)?.as_deref() == Some(id) {
            true => remove(&path),
            false => Ok(()),
        }
    }

    /// Frees all addresses of this owner.
    pub(crate) fn release_all(&self, id: &str) -> Result<()> {
        for (ip, owner) in self.leases()? {
            if owner == id {
                self.release(ip, id)?;
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

    /// Takes an address; `false` when somebody has it. The next one is looked for after it.
    pub(crate) fn reserve(&self, ip: IpAddr, id: &str, ifname: &str, set: usize) -> Result<bool> {
        if !self.reserve_only(ip, id, ifname)? {
            return Ok(false);
        }
        let last = self.dir.last_file(set);
        if let Err(error) = fs::write(&last, ip.to_string()) {
            self.dir.release(ip, id)?;
            return Err(Error::file("write", &last)(error));
        }
        Ok(true)
    }

    /// Takes an address that was asked for; `false` when somebody has it.
    pub(crate) fn reserve_only(&self, ip: IpAddr, id: &str, ifname: &str) -> Result<bool> {
        let path = self.dir.path.join(ip.to_string());
        if is_taken(&path)? {
            return Ok(false);
        }
        // Line ends as host-local writes them.
        let text = format!("{id}\r\n{ifname}");
        if let Some(shared) = &self.dir.shared {
            let theirs = shared.join(ip.to_string());
            let mark = format!("{MARK}{}", self.dir.path.display());
            // One of ours that we know nothing of any more is of a kill, or of a pod before the last boot.
            if is_taken(&theirs)? && !is_marked(&theirs, &mark)? {
                return Ok(false);
            }
            write(shared, &theirs, &format!("{text}\r\n{mark}"))?;
        }
        write(&self.dir.path, &path, &text)?;
        Ok(true)
    }
}

/// What floe adds, as a third line, to an address in host-local's directory; then where its own is.
const MARK: &str = "floe ";

/// An address has its owner from its first moment on: one of nobody's would stay after a kill, as it is by
/// the owner that what is left of a pod is found.
fn write(dir: &Path, path: &Path, text: &str) -> Result<()> {
    let new = dir.join(NEW);
    fs::write(&new, text)
        .and_then(|()| fs::rename(&new, path))
        .map_err(Error::file("write", path))
}

/// Whether an address in host-local's directory is there for the same directory of ours.
fn is_marked(path: &Path, mark: &str) -> Result<bool> {
    let text = read(path)?;
    Ok(text.is_some_and(|text| text.lines().nth(2) == Some(mark)))
}

fn lock(dir: &Path) -> Result<File> {
    let path = dir.join("lock");
    let mut options = OpenOptions::new();
    options.create(true).truncate(false).write(true);
    let file = match options.open(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            fs::create_dir_all(dir).map_err(Error::file("create", dir))?;
            options.open(&path)
        }
        other => other,
    }
    .map_err(Error::file("open", &path))?;
    sys::lock::exclusive(&file, &path)?;
    Ok(file)
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
    let text = read(path)?.unwrap_or_default();
    let id = text.lines().next().unwrap_or_default().trim();
    Ok(Some(id.to_owned()).filter(|id| !id.is_empty()))
}

/// An address's file; `None` when there is none.
fn read(path: &Path) -> Result<Option<String>> {
    let mut bytes = Vec::new();
    let read = fs::symlink_metadata(path).and_then(|found| match found.is_file() {
        // Opening a pipe would wait for whoever writes to it.
        false => Err(io::Error::new(ErrorKind::InvalidData, "not a regular file")),
        true => File::open(path)?.take(FILE_MAX).read_to_end(&mut bytes),
    });
    match read {
        Ok(_) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
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
