//! Terminals of the command line: handing the master side to an engine, or being the far side of
//! a foreground container.

use std::fs::File;
use std::io::{IsTerminal, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix,
    SocketFlags, SocketType, connect, sendmsg, socket_with,
};
use rustix::process::{Pid, WaitOptions, WaitStatus, waitpid};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize};

use crate::cmd::Failure;
use crate::notify::Listener;
use crate::signals::{self, Signals};

/// Rows and columns of our own terminal.
pub(crate) fn size() -> Option<(u16, u16)> {
    let size = tcgetwinsize(std::io::stdin()).ok()?;
    (size.ws_row > 0 && size.ws_col > 0).then_some((size.ws_row, size.ws_col))
}

/// Sends the master side to whoever listens at `socket` (runc's --console-socket).
pub(crate) fn send(socket: &Path, master: &OwnedFd) -> Result<(), Failure> {
    let name = format!("/proc/self/fd/{}", master.as_raw_fd());
    send_fd("console socket", socket, master, &name)
}

/// Sends a pidfd to whoever listens at `socket` (--pidfd-socket).
pub(crate) fn send_pidfd(socket: &Path, pidfd: &OwnedFd) -> Result<(), Failure> {
    send_fd("pidfd socket", socket, pidfd, "pidfd")
}

fn send_fd(what: &str, socket: &Path, fd: &OwnedFd, name: &str) -> Result<(), Failure> {
    let failed = |errno: Errno| {
        let errno = runtime::errno_text(errno.raw_os_error());
        Failure::new(format!("{what} {}: {errno}", socket.display()))
    };
    let stream = socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )
    .map_err(failed)?;
    connect(&stream, &SocketAddrUnix::new(socket).map_err(failed)?).map_err(failed)?;
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds = [fd.as_fd()];
    control.push(SendAncillaryMessage::ScmRights(&fds));
    sendmsg(
        &stream,
        &[std::io::IoSlice::new(name.as_bytes())],
        &mut control,
        SendFlags::NOSIGNAL,
    )
    .map_err(failed)?;
    Ok(())
}

/// Raw mode; dropped, the terminal is as it was.
struct Raw(Termios);

impl Raw {
    fn enter() -> Option<Self> {
        let before = tcgetattr(std::io::stdin()).ok()?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(std::io::stdin(), OptionalActions::Now, &raw).ok()?;
        Some(Self(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, &self.0);
    }
}

/// Waits for a child in the foreground: passes signals on, copies its terminal, and tells a manager
/// when it is ready.
pub(crate) fn accompany(
    pid: i32,
    console: Option<OwnedFd>,
    signals: &Signals,
    mut notify: Option<Listener>,
) -> Result<WaitStatus, Failure> {
    let _raw = console
        .as_ref()
        .filter(|_| std::io::stdin().is_terminal())
        .and_then(|_| Raw::enter());
    let mut console = console.map(Console::new).transpose()?;
    let mut ended = None;
    loop {
        wait_for_any(signals, console.as_ref(), notify.as_ref())?;
        if let Some(listener) = &notify
            // It is this process that ends when the container does.
            && listener.pass_on(rustix::process::getpid().as_raw_nonzero().get())?
        {
            notify = None;
        }
        // Once it is reaped, nothing that comes is for it: not even a second SIGCHLD.
        while ended.is_none()
            && let Some(signal) = signals.next()
        {
            ended = handle(signal, pid, console.as_ref())?;
        }
        if let Some(open) = &mut console
            && !open.copy()
        {
            console = None;
        }
        if let Some(status) = ended {
            return Ok(status);
        }
    }
}

/// The master side of a foreground container's terminal.
struct Console {
    master: File,
    input_open: bool,
    /// Read from our input, not yet taken by the terminal.
    pending: Vec<u8>,
}

impl Console {
    fn new(master: OwnedFd) -> Result<Self, Failure> {
        rustix::fs::fcntl_setfl(&master, OFlags::NONBLOCK)
            .map_err(|e| Failure::new(format!("console: {e}")))?;
        Ok(Self {
            master: master.into(),
            input_open: true,
            pending: Vec::new(),
        })
    }

    /// Does it take more of our input?
    fn wants_input(&self) -> bool {
        self.input_open && self.pending.is_empty()
    }

    /// Copies what is there in both directions; false once the far side or our output is closed.
    fn copy(&mut self) -> bool {
        self.take_input();
        // Full: later. A far side that is gone shows below.
        if let Ok(count) = rustix::io::write(&self.master, &self.pending) {
            drop(self.pending.drain(..count));
        }
        let mut buffer = [0_u8; 8192];
        let mut stdout = std::io::stdout();
        loop {
            match rustix::io::read(&self.master, &mut buffer) {
                Ok(count) if count > 0 => {
                    if stdout
                        .write_all(&buffer[..count])
                        .and_then(|()| stdout.flush())
                        .is_err()
                    {
                        return false;
                    }
                }
                Err(Errno::AGAIN) => return true,
                Err(Errno::INTR) => {}
                // EIO: nobody has the far side any more.
                _ => return false,
            }
        }
    }

    fn take_input(&mut self) {
        let stdin = std::io::stdin();
        let mut ready = [PollFd::from_borrowed_fd(stdin.as_fd(), PollFlags::IN)];
        if !self.wants_input()
            || !poll(&mut ready, Some(&Timespec::default())).is_ok_and(|count| count > 0)
        {
            return;
        }
        let mut buffer = [0_u8; 4096];
        match rustix::io::read(&stdin, &mut buffer) {
            Ok(count) if count > 0 => self.pending.extend_from_slice(&buffer[..count]),
            Err(Errno::INTR | Errno::AGAIN) => {}
            _ => self.input_open = false,
        }
    }
}

fn wait_for_any(
    signals: &Signals,
    console: Option<&Console>,
    notify: Option<&Listener>,
) -> Result<(), Failure> {
    let stdin = std::io::stdin();
    let mut fds = vec![PollFd::from_borrowed_fd(signals.as_fd(), PollFlags::IN)];
    if let Some(notify) = notify {
        fds.push(PollFd::from_borrowed_fd(notify.as_fd(), PollFlags::IN));
    }
    if let Some(console) = console {
        let full = if console.pending.is_empty() {
            PollFlags::empty()
        } else {
            PollFlags::OUT
        };
        fds.push(PollFd::from_borrowed_fd(
            console.master.as_fd(),
            PollFlags::IN | full,
        ));
        if console.wants_input() {
            fds.push(PollFd::from_borrowed_fd(stdin.as_fd(), PollFlags::IN));
        }
    }
    match poll(&mut fds, None) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(errno) => Err(Failure::new(format!("poll: {errno}"))),
    }
}

/// SIGCHLD: has the child ended? SIGWINCH: the size goes on. Anything else goes to the child.
fn handle(signal: i32, pid: i32, console: Option<&Console>) -> Result<Option<WaitStatus>, Failure> {
    match signal {
        libc::SIGCHLD => {
            let waited = waitpid(Pid::from_raw(pid), WaitOptions::NOHANG);
            return waited
                .map(|found| found.map(|(_, status)| status))
                .map_err(|e| Failure::new(format!("wait: {e}")));
        }
        libc::SIGWINCH => {
            if let (Some(console), Ok(size)) = (console, tcgetwinsize(std::io::stdin())) {
                // A terminal that is closing needs no size.
                let _ = tcsetwinsize(&console.master, size);
            }
        }
        // One that has just ended needs no signal.
        other => drop(signals::send(pid, other)),
    }
    Ok(None)
}
