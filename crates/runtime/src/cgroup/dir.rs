//! A cgroup's directory in one hierarchy, and its control files.
//!
//! All access is openat(2) relative to the hierarchy's root, so that neither the caller's mount
//! namespace nor anything mounted over the path later matters.

use std::path::PathBuf;

use rustix::fs::{self, AtFlags, Mode, OFlags};
use rustix::io::Errno;
use std::os::fd::OwnedFd;

use super::error::Error;
use super::hierarchy::{Hierarchy, Version};

/// A directory below a hierarchy's root; it need not exist.
#[derive(Debug, Clone)]
pub(crate) struct Dir<'h> {
    pub(crate) hierarchy: &'h Hierarchy,
    /// Relative to the root, without leading or trailing slash; empty for the root itself.
    pub(crate) path: String,
}

impl<'h> Dir<'h> {
    pub(crate) fn version(&self) -> Version {
        self.hierarchy.version
    }

    /// Where a person finds it; for messages.
    pub(crate) fn display_path(&self) -> PathBuf {
        self.hierarchy.mount.join(&self.path)
    }

    /// The directory above, up to the root.
    pub(crate) fn parent(&self) -> Option<Dir<'h>> {
        if self.path.is_empty() {
            return None;
        }
        let above = self.path.rsplit_once('/').map_or("", |(above, _)| above);
        Some(Dir {
            hierarchy: self.hierarchy,
            path: above.to_owned(),
        })
    }

    /// A directory below.
    pub(crate) fn child(&self, name: &str) -> Dir<'h> {
        Dir {
            hierarchy: self.hierarchy,
            path: self.relative(name),
        }
    }

    fn relative(&self, name: &str) -> String {
        match (self.path.as_str(), name) {
            ("", "") => ".".to_owned(),
            ("", name) => name.to_owned(),
            (path, "") => path.to_owned(),
            (path, name) => format!("{path}/{name}"),
        }
    }

    /// An [`Error::Io`] about this directory or a file in it.
    pub(crate) fn error(&self, operation: impl Into<String>, file: &str, errno: Errno) -> Error {
        let mut path = self.display_path();
        if !file.is_empty() {
            path.push(file);
        }
        Error::Io {
            operation: operation.into(),
            path,
            errno,
        }
    }

    pub(crate) fn exists(&self) -> bool {
        self.has("")
    }

    /// Whether a control file is there.
    pub(crate) fn has(&self, file: &str) -> bool {
        let access = fs::Access::EXISTS;
        fs::accessat(
            &self.hierarchy.root,
            self.relative(file),
            access,
            AtFlags::empty(),
        )
        .is_ok()
    }

    /// Opens a control file, or the directory itself for an empty name.
    pub(crate) fn open(&self, file: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
        let flags = flags | OFlags::CLOEXEC;
        fs::openat(
            &self.hierarchy.root,
            self.relative(file),
            flags,
            Mode::empty(),
        )
    }

    /// Writes a value in one write(2), as control files want it.
    pub(crate) fn write(&self, file: &str, value: &str) -> Result<(), Errno> {
        write_value(&self.open(file, OFlags::WRONLY)?, value)
    }

    /// [`Dir::write`] with a full error.
    pub(crate) fn put(&self, file: &str, value: &str) -> Result<(), Error> {
        self.write(file, value)
            .map_err(|errno| self.error(format!("write {value:?} to"), file, errno))
    }

    /// Reads a whole control file.
    pub(crate) fn read(&self, file: &str) -> Result<String, Errno> {
        read_all(&self.open(file, OFlags::RDONLY)?)
    }

    /// [`Dir::read`] with a full error.
    pub(crate) fn get(&self, file: &str) -> Result<String, Error> {
        self.read(file)
            .map_err(|errno| self.error("read", file, errno))
    }

    /// Reads a control file that older kernels or other configurations lack.
    pub(crate) fn get_optional(&self, file: &str) -> Result<Option<String>, Error> {
        match self.read(file) {
            Ok(text) => Ok(Some(text)),
            // Pressure files exist and answer EOPNOTSUPP when accounting is switched off.
            Err(Errno::NOENT | Errno::OPNOTSUPP) => Ok(None),
            Err(errno) => Err(self.error("read", file, errno)),
        }
    }

    /// An [`Error::Parse`] about a control file.
    pub(crate) fn parse_error(&self, file: &str, text: &str) -> Error {
        Error::Parse {
            path: self.display_path().join(file),
            text: text.trim_end().to_owned(),
        }
    }

    /// mkdir(2). A child of the root user only: 0755 as the kernel's own cgroups.
    pub(crate) fn mkdir(&self) -> Result<(), Errno> {
        fs::mkdirat(
            &self.hierarchy.root,
            self.relative(""),
            Mode::from_raw_mode(0o755),
        )
    }

    /// rmdir(2), which is how a cgroup is removed although it has files.
    pub(crate) fn rmdir(&self) -> Result<(), Errno> {
        fs::unlinkat(&self.hierarchy.root, self.relative(""), AtFlags::REMOVEDIR)
    }

    /// The cgroups directly below.
    pub(crate) fn children(&self) -> Result<Vec<Dir<'h>>, Errno> {
        let fd = self.open("", OFlags::RDONLY | OFlags::DIRECTORY)?;
        let mut children = Vec::new();
        for entry in fs::Dir::read_from(&fd)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy();
            if entry.file_type() == fs::FileType::Directory && name != "." && name != ".." {
                children.push(self.child(&name));
            }
        }
        Ok(children)
    }

    /// The processes in this cgroup itself.
    pub(crate) fn own_processes(&self) -> Result<Vec<i32>, Error> {
        let text = match self.read("cgroup.procs") {
            // A threaded v2 cgroup lists threads only.
            Err(Errno::OPNOTSUPP) => self.get("cgroup.threads")?,
            other => other.map_err(|errno| self.error("read", "cgroup.procs", errno))?,
        };
        let pid = |line: &str| {
            line.parse()
                .map_err(|_| self.parse_error("cgroup.procs", line))
        };
        text.lines().map(pid).collect()
    }

    /// This cgroup and all below it, each before those in it. What goes meanwhile is left out.
    pub(crate) fn tree(&self) -> Result<Vec<Dir<'h>>, Errno> {
        let mut tree = vec![self.clone()];
        let mut next = 0;
        while let Some(dir) = tree.get(next) {
            match dir.children() {
                Ok(children) => tree.extend(children),
                Err(Errno::NOENT | Errno::NODEV) => {}
                Err(errno) => return Err(errno),
            }
            next += 1;
        }
        Ok(tree)
    }

    /// The processes in this cgroup and all below it; none if it has gone.
    pub(crate) fn processes(&self) -> Result<Vec<i32>, Error> {
        let mut pids = Vec::new();
        let tree = self
            .tree()
            .map_err(|errno| self.error("read directory", "", errno))?;
        for dir in tree {
            match dir.own_processes() {
                Err(error) if error.is_not_found() => {}
                other => pids.extend(other?),
            }
        }
        Ok(pids)
    }
}

/// Writes a value to an open control file, in one write(2).
pub(crate) fn write_value(fd: &OwnedFd, value: &str) -> Result<(), Errno> {
    match rustix::io::retry_on_intr(|| rustix::io::write(fd, value.as_bytes()))? {
        written if written == value.len() => Ok(()),
        _ => Err(Errno::IO),
    }
}

/// Reads an open control file that the kernel writes as one record, from its beginning: all that it says
/// comes with the first read(2) whose buffer has room for it. Lists of processes are several records.
pub(crate) fn read_record(fd: &OwnedFd) -> Result<String, Errno> {
    let mut buffer = [0; 4096];
    let count = rustix::io::retry_on_intr(|| rustix::io::pread(fd, &mut buffer, 0))?;
    match buffer.get(..count) {
        Some(text) if count < buffer.len() => {
            String::from_utf8(text.to_vec()).map_err(|_| Errno::ILSEQ)
        }
        _ => read_all(fd),
    }
}

/// Reads an open control file from its beginning.
pub(crate) fn read_all(fd: &OwnedFd) -> Result<String, Errno> {
    let mut buffer = vec![0; 4096];
    let mut length = 0;
    loop {
        if length == buffer.len() {
            buffer.resize(buffer.len() * 2, 0);
        }
        let offset = length as u64;
        match rustix::io::retry_on_intr(|| rustix::io::pread(fd, &mut buffer[length..], offset))? {
            0 => break,
            count => length += count,
        }
    }
    buffer.truncate(length);
    String::from_utf8(buffer).map_err(|_| Errno::ILSEQ)
}
