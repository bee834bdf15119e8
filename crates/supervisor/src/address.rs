//! Where a supervisor's socket is. A socket's address has room for 107 bytes only, so both sides
//! name it through a descriptor of the pod's directory: `/proc/self/fd/N/supervisor.sock`.

use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{Mode, OFlags, open};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

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

/// Connects to the socket in a pod's directory. A supervisor whose queue of clients is full for
/// longer than `limit` is [`Error::Silent`].
pub(crate) fn connect(dir: &Path, limit: Duration) -> Result<UnixStream> {
    let socket = socket(dir, SocketFlags::CLOEXEC)?;
    // unix(7): the limit of sending holds for connect(2), too.
    set_socket_timeout(&socket, Timeout::Send, Some(limit))
        .map_err(Error::io("set limit of", dir.join(SOCKET_FILE)))?;
    match connect_to(dir, &socket)? {
        true => Ok(socket),
        false => Err(Error::silent(dir, limit)),
    }
}

/// As [`connect`], without waiting, for a socket that never waits. `None`: the queue is full now.
pub(crate) fn try_connect(dir: &Path) -> Result<Option<UnixStream>> {
    let socket = socket(dir, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?;
    Ok(connect_to(dir, &socket)?.then_some(socket))
}

fn socket(dir: &Path, flags: SocketFlags) -> Result<UnixStream> {
    rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
        .map(UnixStream::from)
        .map_err(Error::io("make socket for", dir))
}

/// Was there room in the queue, in the time that the socket waits?
fn connect_to(dir: &Path, socket: &UnixStream) -> Result<bool> {
    let (_held, path) = short_path(dir)?;
    let address = SocketAddrUnix::new(&path).map_err(Error::io("connect to", &path))?;
    loop {
        return match rustix::net::connect(socket, &address) {
            Ok(()) => Ok(true),
            Err(rustix::io::Errno::INTR) => continue,
            Err(rustix::io::Errno::AGAIN) => Ok(false),
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::CONNREFUSED) => Err(Error::Gone {
                dir: dir.to_owned(),
            }),
            Err(error) => Err(Error::io("connect to", dir.join(SOCKET_FILE))(error)),
        };
    }
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
