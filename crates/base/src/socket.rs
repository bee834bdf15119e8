//! Listening unix sockets with a name: made with their mode before anybody can connect, never taken from a process
//! that lives, and gone when their owner is. A socket that a killed process has left is replaced.

use std::fmt;
use std::fs::{File, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use crate::lock::{self, Kind};

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1024;
/// How long another process may hold the lock under which it makes a socket in the same directory.
const LOCK_LIMIT: Duration = Duration::from_secs(10);

/// Why there is no socket.
#[derive(Debug)]
pub enum Error {
    /// Somebody listens there.
    InUse {
        /// The socket.
        path: PathBuf,
    },
    /// Something else is there; it is left alone.
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// A step failed.
    Io {
        /// What was tried, such as `bind`.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InUse { path } => {
                let path = path.display();
                write!(
                    f,
                    "{path}: another process listens there; stop it or configure another socket"
                )
            }
            Self::NotASocket { path } => {
                write!(f, "{}: exists and is not a socket", path.display())
            }
            Self::Io {
                operation,
                path,
                source,
            } => write!(f, "{operation} {}: {source}", path.display()),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}

impl Error {
    fn io<E: Into<io::Error>>(operation: &'static str, path: &Path) -> impl FnOnce(E) -> Self {
        let path = path.to_owned();
        move |source| Self::Io {
            operation,
            path,
            source: source.into(),
        }
    }
}

/// A socket file that is ours; removed when dropped.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    /// Device and inode: a later process's file of the same name is not ours to remove.
    identity: (u64, u64),
}

/// Makes the socket at `path`, whose directory is there, and listens on it; calls of the listener wait. Nobody can
/// connect before the mode is right.
///
/// # Errors
/// A socket on which somebody listens, something else there, or a step that failed.
pub fn listen(path: &Path, mode: u32) -> Result<(SocketFile, UnixListener), Error> {
    let dir = path.parent().unwrap_or(Path::new("/"));
    // Two processes that start at once must not each take the other's socket for stale.
    let lock = File::open(dir).map_err(Error::io("open", dir))?;
    lock::or_timeout(&lock, Kind::Exclusive, LOCK_LIMIT).map_err(Error::io("lock", dir))?;
    remove_stale(path)?;
    let socket = rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )
    .map_err(Error::io("make socket", path))?;
    let address = SocketAddrUnix::new(path).map_err(Error::io("bind", path))?;
    rustix::net::bind(&socket, &address).map_err(Error::io("bind", path))?;
    let made = SocketFile {
        path: path.to_owned(),
        identity: identity(path)?,
    };
    std::fs::set_permissions(path, Permissions::from_mode(mode))
        .map_err(Error::io("change the mode of", path))?;
    rustix::net::listen(&socket, BACKLOG).map_err(Error::io("listen on", path))?;
    Ok((made, socket.into()))
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|there| there == self.identity) {
            // What cannot be removed now is stale for the next one.
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
    let kind = match std::fs::symlink_metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other.map_err(Error::io("stat", path))?.file_type(),
    };
    let path_of = || path.to_owned();
    if !kind.is_socket() {
        return Err(Error::NotASocket { path: path_of() });
    }
    match UnixStream::connect(path) {
        Ok(socket) if listener_lives(&socket) => return Err(Error::InUse { path: path_of() }),
        // A child of a process that was killed holds it until it executes its own program.
        Ok(_) => {}
        Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => {}
        Err(e) => return Err(Error::io("connect to", path)(e)),
    }
    std::fs::remove_file(path).map_err(Error::io("remove stale socket", path))
}

/// Does the process live that began to listen on the other side? Copies of its socket may outlive
/// it in its children, which answer nobody.
fn listener_lives(socket: &UnixStream) -> bool {
    let Ok(peer) = rustix::net::sockopt::socket_peercred(socket) else {
        return true;
    };
    match crate::process::stat(peer.pid.as_raw_nonzero().get()) {
        Ok(stat) => stat.is_some_and(crate::process::Stat::runs),
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

    #[test]
    fn the_socket_is_for_owner_and_group_and_goes_at_the_end() {
        let dir = dir();
        let path = dir.path().join("floe.sock");
        let (socket, _listener) = listen(&path, 0o660).expect("bind");
        let mode = std::fs::metadata(&path).expect("stat").mode();
        assert_eq!(mode & 0o7777, 0o660);
        drop(socket);
        assert!(!path.exists());
    }

    #[test]
    fn a_socket_that_a_killed_engine_left_is_replaced() {
        let dir = dir();
        let path = dir.path().join("floe.sock");
        drop(UnixListener::bind(&path).expect("bind"));
        assert!(path.exists());
        let bound = listen(&path, 0o660).expect("bind over the stale one");
        UnixStream::connect(&path).expect("connect");
        drop(bound);
    }

    #[test]
    fn a_socket_of_a_living_engine_is_left_alone() {
        let dir = dir();
        let path = dir.path().join("floe.sock");
        let _first = listen(&path, 0o660).expect("bind");
        let refused = listen(&path, 0o660).expect_err("bind over a live one");
        assert!(matches!(refused, Error::InUse { .. }), "{refused}");
        UnixStream::connect(&path).expect("the first still listens");
    }

    #[test]
    fn a_socket_that_only_a_child_of_a_dead_engine_holds_is_replaced() {
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
        UnixStream::connect(&path).expect("the child listens");
        let bound = listen(&path, 0o660);
        rustix::process::kill_process_group(group, rustix::process::Signal::KILL).expect("kill");
        bound.expect("bind over it");
    }

    #[test]
    fn what_is_not_a_socket_is_never_removed() {
        let dir = dir();
        let path = dir.path().join("precious");
        std::fs::write(&path, "data").expect("write");
        let refused = listen(&path, 0o660).expect_err("bind over a file");
        assert!(matches!(refused, Error::NotASocket { .. }), "{refused}");
        assert_eq!(std::fs::read(&path).expect("read"), b"data");
    }

    #[test]
    fn the_socket_of_a_successor_is_not_removed() {
        let dir = dir();
        let path = dir.path().join("floe.sock");
        let (old, _listener) = listen(&path, 0o660).expect("bind");
        std::fs::remove_file(&path).expect("remove");
        let (_new, _listener) = listen(&path, 0o660).expect("bind again");
        drop(old);
        assert!(path.exists());
    }
}
