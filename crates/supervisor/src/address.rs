//! Where a supervisor's socket is. A socket's address has room for 107 bytes only, so both sides
//! name it through a descriptor of the pod's directory: `/proc/self/fd/N/supervisor.sock`.

use std::io::ErrorKind;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, open};

use crate::error::{Error, Result};
use crate::info::SOCKET_FILE;

/// Listens in a pod's directory; a socket that an earlier supervisor left is replaced.
pub(crate) fn listen(dir: &Path) -> Result<UnixListener> {
    let (_held, path) = short_path(dir)?;
    crate::state::remove_file(&dir.join(SOCKET_FILE))?;
    let listener = UnixListener::bind(path).map_err(Error::io("bind", dir.join(SOCKET_FILE)))?;
    listener
        .set_nonblocking(true)
        .map_err(Error::io("set flags of", dir.join(SOCKET_FILE)))?;
    Ok(listener)
}

/// Connects to the socket in a pod's directory.
pub(crate) fn connect(dir: &Path) -> Result<UnixStream> {
    let (_held, path) = short_path(dir)?;
    UnixStream::connect(path).map_err(|error| match error.kind() {
        ErrorKind::NotFound | ErrorKind::ConnectionRefused => Error::Gone {
            dir: dir.to_owned(),
        },
        _ => Error::io("connect to", dir.join(SOCKET_FILE))(error),
    })
}

fn short_path(dir: &Path) -> Result<(OwnedFd, PathBuf)> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let held = open(dir, flags, Mode::empty()).map_err(|error| match error {
        rustix::io::Errno::NOENT => Error::Gone {
            dir: dir.to_owned(),
        },
        error => Error::io("open", dir)(error),
    })?;
    let path = format!("/proc/self/fd/{}/{SOCKET_FILE}", held.as_raw_fd()).into();
    Ok((held, path))
}
