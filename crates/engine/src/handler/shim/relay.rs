//! The streams of a command between the caller's descriptors and a shim, which takes named pipes alone.
//! A pipe has a name as long as it is open (`/proc/PID/fd/N`): nothing is made on disk, and a caller's
//! own pipe is handed over as it is. What is no pipe is copied by a thread, no further ahead than a pipe
//! holds.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::thread::JoinHandle;

use runtime::spec::ConsoleSize;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::FileType;
use shim::task::Streams;

use crate::error::{Error, Result};
use crate::pipes::pipe;

/// The streams of one command.
#[derive(Debug)]
pub(super) struct Relay {
    pub(super) streams: Streams,
    /// The size of the terminal at the beginning, if there is one and it is known.
    pub(super) size: Option<ConsoleSize>,
    /// Ends for output that the shim opens: kept until it has, and not longer, or there is no end.
    given: Vec<OwnedFd>,
    /// The end of stdin: kept until the command has ended, as the shim may open it later.
    held: Option<OwnedFd>,
    copies: Vec<JoinHandle<()>>,
    /// Closed, it ends the copy of stdin.
    stop: Option<OwnedFd>,
    /// Readable at its end once all of stdin is copied.
    pub(super) stdin_ended: Option<OwnedFd>,
}

impl Relay {
    /// For a command with the caller's stdin, stdout and stderr.
    ///
    /// # Errors
    /// A lack of descriptors or threads.
    pub(super) fn new([stdin, stdout, stderr]: [OwnedFd; 3]) -> Result<Self> {
        let mut relay = Self {
            streams: Streams::default(),
            size: None,
            given: Vec::new(),
            held: None,
            copies: Vec::new(),
            stop: None,
            stdin_ended: None,
        };
        relay.streams.stdin = relay.read_from(stdin)?;
        relay.streams.stdout = Some(relay.write_to(stdout)?);
        relay.streams.stderr = Some(relay.write_to(stderr)?);
        Ok(relay)
    }

    /// For a command with a terminal, whose other side is `slave`, made raw.
    ///
    /// # Errors
    /// A lack of descriptors or threads.
    pub(super) fn terminal(slave: OwnedFd) -> Result<Self> {
        let twin = slave.try_clone().map_err(failed)?;
        let mut relay = Self {
            streams: Streams {
                terminal: true,
                ..Streams::default()
            },
            size: None,
            given: Vec::new(),
            held: None,
            copies: Vec::new(),
            stop: None,
            stdin_ended: None,
        };
        relay.streams.stdin = relay.read_from(twin)?;
        relay.streams.stdout = Some(relay.write_to(slave)?);
        Ok(relay)
    }

    /// The command runs: the shim has opened what it writes to.
    pub(super) fn opened(&mut self) {
        self.given.clear();
    }

    /// The command has ended, and the shim has closed its ends: what it said is handed over.
    pub(super) fn finish(&mut self) {
        self.opened();
        self.stop = None;
        self.held = None;
        for copy in self.copies.drain(..) {
            // It panics for nothing.
            let _ = copy.join();
        }
    }

    fn write_to(&mut self, stream: OwnedFd) -> Result<PathBuf> {
        if is_pipe(&stream) {
            let path = path_of(&stream);
            self.given.push(stream);
            return Ok(path);
        }
        let (read, write) = pipe()?;
        let mut to = File::from(stream);
        let mut from = File::from(read);
        // Ends when the shim has closed its end, or nobody takes what comes.
        self.begin("exec-output", move || {
            let _ = std::io::copy(&mut from, &mut to);
        })?;
        let path = path_of(&write);
        self.given.push(write);
        Ok(path)
    }

    /// `None`: there is nothing to read.
    fn read_from(&mut self, stream: OwnedFd) -> Result<Option<PathBuf>> {
        if is_null(&stream) {
            return Ok(None);
        }
        let (read, write) = pipe()?;
        let (stopped, stop) = pipe()?;
        let (ended, end) = pipe()?;
        self.stop = Some(stop);
        self.stdin_ended = Some(ended);
        self.begin("exec-input", move || {
            copy_until(&mut File::from(stream), &mut File::from(write), &stopped);
            drop(end);
        })?;
        let path = path_of(&read);
        self.held = Some(read);
        Ok(Some(path))
    }

    fn begin(&mut self, name: &str, copy: impl FnOnce() + Send + 'static) -> Result<()> {
        let thread = std::thread::Builder::new().name(name.to_owned());
        self.copies.push(thread.spawn(copy).map_err(failed)?);
        Ok(())
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        // Threads that copy output end with the shim's ends; they are not waited for.
        self.opened();
        self.stop = None;
        self.held = None;
    }
}

/// Copies until there is no more, nobody takes it, or the other side of `stopped` is closed.
fn copy_until(from: &mut File, to: &mut File, stopped: &OwnedFd) {
    let mut buffer = [0; 16 << 10];
    loop {
        let mut fds = [
            PollFd::new(from, PollFlags::IN),
            PollFd::new(stopped, PollFlags::IN),
        ];
        match poll(&mut fds, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(_) => return,
        }
        if !fds[1].revents().is_empty() {
            return;
        }
        if fds[0].revents().is_empty() {
            continue;
        }
        match from.read(&mut buffer) {
            Ok(0) => return,
            Ok(count) => {
                if to.write_all(&buffer[..count]).is_err() {
                    return;
                }
            }
            Err(error) => match error.kind() {
                ErrorKind::Interrupted | ErrorKind::WouldBlock => {}
                _ => return,
            },
        }
    }
}

/// The name of a pipe, for as long as this process has it open.
fn path_of(end: &OwnedFd) -> PathBuf {
    format!("/proc/{}/fd/{}", std::process::id(), end.as_raw_fd()).into()
}

fn failed(error: std::io::Error) -> Error {
    Error::io("make", "the streams of a command")(error)
}

fn is_pipe(stream: impl AsFd) -> bool {
    rustix::fs::fstat(stream).is_ok_and(|it| FileType::from_raw_mode(it.st_mode) == FileType::Fifo)
}

fn is_null(stream: impl AsFd) -> bool {
    let null = rustix::fs::makedev(1, 3);
    rustix::fs::fstat(stream).is_ok_and(|it| {
        FileType::from_raw_mode(it.st_mode) == FileType::CharacterDevice && it.st_rdev == null
    })
}
