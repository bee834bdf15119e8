//! The sockets of the server: made for root and its group. Who may take whose place is [`base::socket`]'s.

use std::path::Path;

pub use base::socket::Error;
use base::socket::{SocketFile, listen};
use tokio::net::UnixListener;

/// For owner and group.
const MODE: u32 = 0o660;

/// Makes the socket at `path` and its directory, and listens on it; its file goes with what is returned. Must be
/// called within an async runtime.
pub(crate) fn bind(path: &Path) -> Result<(SocketFile, UnixListener), Error> {
    let failed = |operation, path: &Path| {
        let path = path.to_owned();
        move |source| Error::Io {
            operation,
            path,
            source,
        }
    };
    let dir = path.parent().unwrap_or(Path::new("/"));
    std::fs::create_dir_all(dir).map_err(failed("create directory", dir))?;
    let (file, listener) = listen(path, MODE)?;
    listener
        .set_nonblocking(true)
        .map_err(failed("watch", path))?;
    let listener = UnixListener::from_std(listener).map_err(failed("watch", path))?;
    Ok((file, listener))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[tokio::test]
    async fn the_socket_is_for_owner_and_group_in_a_directory_that_is_made() {
        let dir = tempfile::tempdir().expect("make a directory");
        let path = dir.path().join("made/by/us/floe.sock");
        let (file, listener) = bind(&path).expect("bind");
        let mode = std::fs::metadata(&path).expect("stat").permissions().mode();
        assert_eq!(mode & 0o7777, 0o660);
        let (client, accepted) =
            tokio::join!(tokio::net::UnixStream::connect(&path), listener.accept());
        assert!(client.is_ok() && accepted.is_ok());
        drop(file);
        assert!(!path.exists());
    }
}
