//! The socket on which a program hands over the master side of a terminal (`--console-socket`). What is
//! sent waits in the socket, so nothing is listened to before the program has ended.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, open};
use rustix::net::{SocketFlags, accept_with};
use rustix::termios::{Winsize, isatty, tcsetwinsize};

use crate::error::{Error, Result};
use crate::frame::Inbox;
use crate::oci_program::path_of;
use crate::state::remove_file;

/// Such a socket, in the container's directory.
#[derive(Debug)]
pub(in crate::server) struct Console {
    listener: UnixListener,
    /// Where it is.
    file: PathBuf,
    /// A socket's address is short: both sides name it by this descriptor of its directory.
    dir: OwnedFd,
    /// The terminal's rows and columns, if known: not every program sets them for commands.
    size: Option<(u16, u16)>,
}

impl Console {
    pub(in crate::server) fn listen(
        dir: &Path,
        number: u32,
        size: Option<(u16, u16)>,
    ) -> Result<Self> {
        let name = format!("{number}.tty");
        let file = dir.join(&name);
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = open(dir, flags, Mode::empty()).map_err(Error::io("open", dir))?;
        let short = format!("/proc/self/fd/{}/{name}", dir.as_raw_fd());
        let listener = UnixListener::bind(short).map_err(Error::io("bind", &file))?;
        let made = Self {
            listener,
            file,
            dir,
            size,
        };
        let done = made.listener.set_nonblocking(true);
        done.map_err(Error::io("set flags of", &made.file))?;
        Ok(made)
    }

    /// What the program is to connect to.
    pub(in crate::server) fn address(&self) -> PathBuf {
        let name = self.file.file_name().unwrap_or_default();
        path_of(&self.dir).join(name)
    }

    /// The terminal that has come.
    pub(in crate::server) fn take(&self) -> Result<OwnedFd, String> {
        let none = |_| "it sent no terminal".to_owned();
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let connection = accept_with(&self.listener, flags).map_err(none)?;
        let mut inbox = Inbox::default();
        // What comes with it is the terminal's name, of no use.
        let received = inbox.receive(connection.as_fd(), &mut [0; 4096]);
        received.map_err(|error| format!("receive its terminal: {error}"))?;
        match inbox.take_fds().pop_front() {
            Some(master) if isatty(&master) => {
                if let Some((ws_row, ws_col)) = self.size {
                    let size = Winsize {
                        ws_row,
                        ws_col,
                        ws_xpixel: 0,
                        ws_ypixel: 0,
                    };
                    // One that is being closed has no size.
                    let _ = tcsetwinsize(&master, size);
                }
                Ok(master)
            }
            Some(_) => Err("what it sent is no terminal".to_owned()),
            None => Err("it sent no terminal".to_owned()),
        }
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        // It goes with the container's directory at the latest.
        let _ = remove_file(&self.file);
    }
}
