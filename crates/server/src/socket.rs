//! The unix socket: made for root and its group, never taken from an engine that lives, and gone
//! when serving ends. A socket that a killed engine has left is replaced.

use std::fs::{File, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use tokio::net::UnixListener;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1024;

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Somebody listens there.
    #[error("{path}: another engine listens there; stop it or configure another socket")]
    InUse {
        /// The socket.
        path: PathBuf,
    },
    /// Something else is there; it is left alone.
    #[error("{path}: exists and is not a socket")]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// A step failed.
    #[error("{operation} {path}: {source}")]
    Io {
        /// What was tried, such as `bind`.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

impl Error {
    fn io(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io {
            operation,
            path,
            source,
        }
    }
}

/// A socket file that is ours; removed when dropped.
#[derive(Debug)]
pub(crate) struct Socket {
    path: PathBuf,
    /// Device and inode: a later engine's file of the same name is not ours to remove.
    identity: (u64, u64),
}

impl Socket {
    /// Makes the socket at `path`, mode 0660, and listens on it. Nobody can connect before the
    /// mode is right. Must be called within an async runtime.
    pub(crate) fn bind(path: &Path) -> Result<(Self, UnixListener), Error> {
        let dir = path.parent().unwrap_or(Path::new("/"));
        std::fs::create_dir_all(dir).map_err(Error::io("create directory", dir))?;
        // Two engines that start at once must not each take the other's socket for stale.
        let lock = File::open(dir).map_err(Error::io("open", dir))?;
        lock.lock().map_err(Error::io("lock", dir))?;
        remove_stale(path)?;
        let socket = rustix::net::socket_with(
            AddressFamily::UNIX,
            SocketType::STREAM,
            SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
            None,
        )
        .map_err(|e| Error::io("make socket", path)(e.into()))?;
        let address = SocketAddrUnix::new(path).map_err(|e| Error::io("bind", path)(e.into()))?;
        rustix::net::bind(&socket, &address).map_err(|e| Error::io("bind", path)(e.into()))?;
        let made = Self {
            path: path.to_owned(),
            identity: identity(path)?,
        };
        std::fs::set_permissions(path, Permissions::from_mode(0o660))
            .map_err(Error::io("change the mode of", path))?;
        rustix::net::listen(&socket, BACKLOG)
            .map_err(|e| Error::io("listen on", path)(e.into()))?;
        let listener = UnixListener::from_std(socket.into()).map_err(Error::io("watch", path))?;
        Ok((made, listener))
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|there| there == self.identity) {
            // What cannot be removed now is stale for the next engine.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> Result<(u64, u64), Error> {
    let metadata = std::fs::symlink_metadata(path).map_err(Error::io("stat", path))?;
    Ok((metadata.dev(), metadata.ino()))
}

/// Makes way for a new socket, if what is at `path` is a socket that nobody listens on.
fn remove_stale(path: &Path) -> Result<(), Error> {
    match std::fs::symlink_metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(Error::io("stat", path)(e)),
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(Error::NotASocket {
                path: path.to_owned(),
            });
        }
        Ok(_) => {}
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Ok(socket) if listener_lives(&socket) => Err(Error::InUse {
            path: path.to_owned(),
        }),
        // A child of an engine that was killed holds it until it executes its own program.
        Ok(_) => std::fs::remove_file(path).map_err(Error::io("remove stale socket", path)),
        Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path).map_err(Error::io("remove stale socket", path))
        }
        Err(e) => Err(Error::io("connect to", path)(e)),
    }
}

/// Does the process live that began to listen on the other side? Copies of its socket may outlive
/// it in its children, which answer nobody.
fn listener_lives(socket: &std::os::unix::net::UnixStream) -> bool {
    let Ok(peer) = rustix::net::sockopt::socket_peercred(socket) else {
        return true;
    };
    match base::process::stat(peer.pid.as_raw_nonzero().get()) {
        Ok(stat) => stat.is_some_and(base::process::Stat::runs),
        Err(_) => rustix::process::test_kill_process(peer.pid) != Err(rustix::io::Errno::SRCH),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::CommandExt;

    fn dir() -> tempfile::TempDir {
        tempfile::tempdir().expect("make a directory")
    }

    #[tokio::test]
    async fn the_socket_is_for_owner_and_group_and_goes_at_the_end() {
        let dir = dir();
        let path = dir.path().join("made/by/us/floe.sock");
        let (socket, _listener) = Socket::bind(&path).expect("bind");
        let mode = std::fs::metadata(&path).expect("stat").mode();
        assert_eq!(mode & 0o7777, 0o660);
        drop(socket);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_socket_that_a_killed_engine_left_is_replaced() {
        let dir = dir();
        let path = dir.path().join("floe.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).expect("bind"));
        assert!(path.exists());
        let bound = Socket::bind(&path).expect("bind over the stale one");
        std::os::unix::net::UnixStream::connect(&path).expect("connect");
        drop(bound);
    }

    #[tokio::test]
    async fn a_socket_of_a_living_engine_is_left_alone() {
        let dir = dir();
        let path = dir.path().join("floe.sock");
        let _first = Socket::bind(&path).expect("bind");
        let refused = Socket::bind(&path).expect_err("bind over a live one");
        assert!(matches!(refused, Error::InUse { .. }), "{refused}");
        std::os::unix::net::UnixStream::connect(&path).expect("the first still listens");
    }

    #[tokio::test]
    async fn a_socket_that_only_a_child_of_a_dead_engine_holds_is_replaced() {
        let dir = dir();
        let path = dir.path().join("floe.sock");
        // The shell that listens is gone; the child that inherited its socket is not.
        let script = "import os, socket, sys, time\n\
            s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); s.listen(1); s.set_inheritable(True)\n\
            if os.fork() == 0:\n  os.execvp('sleep', ['sleep', '60'])\n";
        let status = std::process::Command::new("python3")
            .args(["-c", script])
            .arg(&path)
            .process_group(0)
            .spawn();
        let Ok(mut engine) = status else {
            eprintln!("SKIP: no python3");
            return;
        };
        let group = rustix::process::Pid::from_child(&engine);
        engine.wait().expect("wait");
        std::os::unix::net::UnixStream::connect(&path).expect("the child listens");
        let bound = Socket::bind(&path);
        rustix::process::kill_process_group(group, rustix::process::Signal::KILL).expect("kill");
        bound.expect("bind over it");
    }

    #[tokio::test]
    async fn what_is_not_a_socket_is_never_removed() {
        let dir = dir();
        let path = dir.path().join("precious");
        std::fs::write(&path, "data").expect("write");
        let refused = Socket::bind(&path).expect_err("bind over a file");
        assert!(matches!(refused, Error::NotASocket { .. }), "{refused}");
        assert_eq!(std::fs::read(&path).expect("read"), b"data");
    }

    #[tokio::test]
    async fn the_socket_of_a_successor_is_not_removed() {
        let dir = dir();
        let path = dir.path().join("floe.sock");
        let (old, _listener) = Socket::bind(&path).expect("bind");
        std::fs::remove_file(&path).expect("remove");
        let (_new, _listener) = Socket::bind(&path).expect("bind again");
        drop(old);
        assert!(path.exists());
    }
}
