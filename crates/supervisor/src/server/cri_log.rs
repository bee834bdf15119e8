//! A container's log in the format kubelet reads (CRI, "log format"): one line is
//! `TIME STREAM TAG TEXT`, with TAG `F` for a full line and `P` for a part of one. A part is
//! written only when a line is longer than [`LONGEST`]: what a read leaves of a line waits for the
//! rest. The last part of a line is always `F`, also of one that never got its newline.
//!
//! Must never fail or wait because of a full disk: what cannot be written is counted, and the
//! count is written as soon as there is space. Must never follow a symbolic link, in the place of
//! the file or of a directory below the pod's log directory.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, BufRead, IoSlice, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path};

use base::time::rfc3339_nanos;
use rustix::fs::{AtFlags, Mode, OFlags, open, openat, unlinkat};
use rustix::io::Errno;

use crate::client::Stream;
use crate::error::{Error, Result};
use crate::protocol::LogTarget;

/// The longest text of one log line, in bytes.
const LONGEST: usize = 8192;
/// How many slices one writev(2) takes (UIO_MAXIOV), less what one line may need.
const BATCH: usize = 1024 - 3;
/// `TIME STREAM TAG `.
const PREFIX: usize = 30 + 1 + 6 + 1 + 1 + 1;

/// A container's log file.
#[derive(Debug)]
pub(crate) struct CriLog {
    target: LogTarget,
    file: File,
    size: u64,
    /// What there is of a line of each stream.
    held: [Vec<u8>; 2],
    lost: Option<Lost>,
}

#[derive(Debug)]
struct Lost {
    lines: u64,
    cause: io::Error,
}

impl CriLog {
    /// Opens the log, making the file if there is none. The second value is there if it was made.
    ///
    /// # Errors
    /// A directory that is not there, a symbolic link, or something that is not a plain file.
    pub(crate) fn create(target: &LogTarget) -> Result<(Self, Option<MadeLog>)> {
        let (file, size, made) = open_log(target)?;
        let log = Self {
            target: target.clone(),
            file,
            size,
            held: Default::default(),
            lost: None,
        };
        Ok((log, made))
    }

    /// Opens the file anew, after it was renamed away.
    ///
    /// # Errors
    /// As [`CriLog::create`]; the old file stays in use then.
    pub(crate) fn reopen(&mut self) -> Result<()> {
        let (file, size, _) = open_log(&self.target)?;
        self.file = file;
        self.size = size;
        Ok(())
    }

    /// Writes the lines that one read has brought or completed.
    pub(crate) fn append(&mut self, stream: Stream, mut data: &[u8]) {
        let time = rfc3339_nanos(crate::state::now_ns());
        let full = prefix(&time, stream, b'F');
        let part = prefix(&time, stream, b'P');
        let mut held = std::mem::take(&mut self.held[stream as usize]);
        let mut batch: Vec<IoSlice<'_>> = Vec::with_capacity(24);
        let mut lines = 0;
        let mut begun: &[u8] = &held;
        loop {
            let (text, rest, end) = split_line(data, LONGEST - begun.len());
            match end {
                LineEnd::Newline => batch.push(IoSlice::new(&full)),
                LineEnd::Limit => batch.push(IoSlice::new(&part)),
                LineEnd::Data => break,
            }
            if !begun.is_empty() {
                batch.push(IoSlice::new(begun));
            }
            batch.push(IoSlice::new(text));
            if end == LineEnd::Limit {
                batch.push(IoSlice::new(b"\n"));
            }
            (begun, data) = (&[], rest);
            lines += 1;
            if batch.len() > BATCH {
                self.write(&mut batch, lines);
                batch.clear();
                lines = 0;
            }
        }
        let goes_on = !begun.is_empty();
        if lines > 0 {
            self.write(&mut batch, lines);
        }
        drop(batch);
        if !goes_on {
            held.clear();
        }
        held.extend_from_slice(data);
        self.held[stream as usize] = held;
    }

    /// The stream has ended: what there is of a line is all of it.
    pub(crate) fn end(&mut self, stream: Stream) {
        let held = std::mem::take(&mut self.held[stream as usize]);
        if !held.is_empty() {
            let full = prefix(&rfc3339_nanos(crate::state::now_ns()), stream, b'F');
            let mut line = [&full, held.as_slice(), b"\n"].map(IoSlice::new);
            self.write(&mut line, 1);
        }
    }

    fn write(&mut self, batch: &mut [IoSlice<'_>], lines: u64) {
        let length = batch.iter().map(|slice| slice.len() as u64).sum::<u64>();
        let written = self.make_room(length).and_then(|()| {
            let noted = self.note_lost()?;
            // A note without a line after it would be the first of many on a disk that is all but full.
            self.write_whole(batch, length)
                .or_else(|cause| self.take_back(noted, cause))
        });
        match written {
            Ok(()) => self.lost = None,
            Err(cause) => self.lost.get_or_insert(Lost { lines: 0, cause }).lines += lines,
        }
    }

    /// Says how much was lost, if something was and there is space again. Returns how many bytes
    /// that took.
    fn note_lost(&mut self) -> io::Result<u64> {
        let Some(lost) = &self.lost else { return Ok(0) };
        let head = prefix(&rfc3339_nanos(crate::state::now_ns()), Stream::Stderr, b'F');
        let text = format!(
            "floe: {} lines of this log were lost here: {}\n",
            lost.lines, lost.cause
        );
        let length = (head.len() + text.len()) as u64;
        self.write_whole(
            &mut [IoSlice::new(&head), IoSlice::new(text.as_bytes())],
            length,
        )?;
        Ok(length)
    }

    /// Empties the file if so many bytes more would be too many.
    fn make_room(&mut self, length: u64) -> io::Result<()> {
        let max = self.target.max_size.filter(|max| *max > 0);
        if max.is_some_and(|max| self.size > 0 && self.size + length > max) {
            self.file.set_len(0)?;
            self.size = 0;
        }
        Ok(())
    }

    /// Writes all or nothing: a line that found no space leaves no half of it.
    fn write_whole(&mut self, mut batch: &mut [IoSlice<'_>], length: u64) -> io::Result<()> {
        let mut written = 0;
        while !batch.is_empty() {
            match self.file.write_vectored(batch) {
                Ok(0) => return self.take_back(written, io::ErrorKind::WriteZero.into()),
                Ok(count) => {
                    written += count as u64;
                    IoSlice::advance_slices(&mut batch, count);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return self.take_back(written, error),
            }
        }
        self.size += length;
        Ok(())
    }

    fn take_back(&mut self, written: u64, cause: io::Error) -> io::Result<()> {
        if written > 0 {
            // By the file's own size: somebody else may have emptied it meanwhile.
            let size = self.file.metadata()?.len();
            self.size = size.saturating_sub(written);
            self.file.set_len(self.size)?;
        }
        Err(cause)
    }
}

impl Drop for CriLog {
    fn drop(&mut self) {
        self.end(Stream::Stdout);
        self.end(Stream::Stderr);
        if let Err(error) = self.note_lost() {
            crate::server::diagnose(format_args!(
                "log {}: last lines lost: {error}",
                self.target.path.display()
            ));
        }
    }
}

/// Why the text of a line ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LineEnd {
    /// With its newline.
    Newline,
    /// It is as long as a line may be, and goes on.
    Limit,
    /// There is no more of it yet.
    Data,
}

/// The text of the first line or part of a line (with the newline if it has one), what is left, and
/// why it ends. `room` is how long the text may be.
fn split_line(data: &[u8], room: usize) -> (&[u8], &[u8], LineEnd) {
    let window = &data[..data.len().min(room + 1)];
    let mut after = window;
    // Reading from a slice cannot fail; skip_until is the standard library's fast search.
    let count = after.skip_until(b'\n').unwrap_or(window.len());
    if window.get(count.wrapping_sub(1)) == Some(&b'\n') {
        let (text, rest) = data.split_at(count);
        return (text, rest, LineEnd::Newline);
    }
    let (text, rest) = data.split_at(count.min(room));
    let end = match rest.is_empty() {
        true => LineEnd::Data,
        false => LineEnd::Limit,
    };
    (text, rest, end)
}

fn prefix(time: &[u8; 30], stream: Stream, tag: u8) -> [u8; PREFIX] {
    let mut line = [b' '; PREFIX];
    line[..30].copy_from_slice(time);
    line[31..37].copy_from_slice(match stream {
        Stream::Stdout => b"stdout",
        Stream::Stderr => b"stderr",
    });
    line[38] = tag;
    line
}

/// A log's file that was made just now.
#[derive(Debug)]
pub(crate) struct MadeLog {
    directory: OwnedFd,
    name: OsString,
}

impl MadeLog {
    /// Removes it: its container does not come to be.
    pub(crate) fn remove(&self) {
        // The error that is on its way says more than this one could.
        let _ = unlinkat(&self.directory, &self.name, AtFlags::empty());
    }
}

/// The file, its size, and what it takes to remove it if it was made.
fn open_log(target: &LogTarget) -> Result<(File, u64, Option<MadeLog>)> {
    let path = &target.path;
    let (directory, name) = open_directory(target)?;
    // NONBLOCK: a FIFO in the log's place must not hold up the pod.
    let flags =
        OFlags::WRONLY | OFlags::APPEND | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let mode = Mode::from_raw_mode(0o640);
    let (fd, made) = match openat(
        &directory,
        name,
        flags | OFlags::CREATE | OFlags::EXCL,
        mode,
    ) {
        Ok(fd) => (fd, true),
        Err(Errno::EXIST) => match openat(&directory, name, flags, mode) {
            Err(Errno::LOOP) => return Err(wrong(path, "is a symbolic link")),
            other => (other.map_err(Error::io("open log", path))?, false),
        },
        Err(error) => return Err(Error::io("create log", path)(error)),
    };
    let file = File::from(fd);
    let metadata = file.metadata().map_err(Error::io("look at log", path))?;
    if !metadata.is_file() {
        return Err(wrong(path, "is not a plain file"));
    }
    let name = name.to_owned();
    let made = made.then_some(MadeLog { directory, name });
    Ok((file, metadata.len(), made))
}

/// The directory of the log and the file's name in it. Below the pod's log directory no link is
/// followed: containers may be able to make some there.
fn open_directory(target: &LogTarget) -> Result<(OwnedFd, &OsStr)> {
    let path = &target.path;
    let parent = path.parent().unwrap_or(Path::new("/"));
    let invalid = || wrong(path, "is not below its directory");
    let name = path.file_name().ok_or_else(invalid)?;
    let top = target.beneath.as_deref().unwrap_or(parent);
    let below = parent.strip_prefix(top).map_err(|_| invalid())?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut directory =
        open(top, flags, Mode::empty()).map_err(Error::io("open the directory of", path))?;
    for part in below.components() {
        let Component::Normal(part) = part else {
            return Err(invalid());
        };
        let next = openat(
            directory.as_fd(),
            part,
            flags | OFlags::NOFOLLOW,
            Mode::empty(),
        );
        directory = match next {
            // What NOFOLLOW and DIRECTORY together say of a link.
            Err(Errno::LOOP | Errno::NOTDIR) => {
                return Err(wrong(path, "leads through a symbolic link or a file"));
            }
            other => other.map_err(Error::io("open the directory of", path))?,
        };
    }
    Ok((directory, name))
}

fn wrong(path: &Path, reason: &str) -> Error {
    Error::invalid("log", format!("{} {reason}", path.display()))
}

#[cfg(test)]
#[path = "cri_log/tests.rs"]
mod tests;
