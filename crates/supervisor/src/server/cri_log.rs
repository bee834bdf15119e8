//! A container's log in the format kubelet reads (CRI, "log format"): one line is
//! `TIME STREAM TAG TEXT`, with TAG `F` for a full line and `P` for a part of one. A part is
//! written when a line is longer than [`LONGEST`] or when a read ends in the middle of one; the
//! last part of a line is always `F`, so a line that never got its newline ends with an empty `F`.
//!
//! Must never fail or wait because of a full disk: what cannot be written is counted, and the
//! count is written as soon as there is space. Must never follow a symbolic link.

use std::fs::File;
use std::io::{self, BufRead, IoSlice, Write};
use std::path::PathBuf;

use rustix::fs::{Mode, OFlags, open};

use crate::client::Stream;
use crate::error::{Error, Result};
use crate::protocol::LogTarget;
use crate::server::time::rfc3339;

/// The longest text of one log line, in bytes.
const LONGEST: usize = 8192;
/// How many slices one writev(2) takes (UIO_MAXIOV), less what one line may need.
const BATCH: usize = 1024 - 3;
/// `TIME STREAM TAG `.
const PREFIX: usize = 30 + 1 + 6 + 1 + 1 + 1;

/// A container's log file.
#[derive(Debug)]
pub(crate) struct CriLog {
    path: PathBuf,
    file: File,
    size: u64,
    max_size: Option<u64>,
    unfinished: [bool; 2],
    lost: Option<Lost>,
}

#[derive(Debug)]
struct Lost {
    lines: u64,
    cause: io::Error,
}

impl CriLog {
    /// Opens the log, making the file if there is none. The second value says whether it was made.
    ///
    /// # Errors
    /// A directory that is not there, a symbolic link, or something that is not a plain file.
    pub(crate) fn create(target: &LogTarget) -> Result<(Self, bool)> {
        let (file, size, made) = open_log(&target.path)?;
        let log = Self {
            path: target.path.clone(),
            file,
            size,
            max_size: target.max_size.filter(|max| *max > 0),
            unfinished: [false; 2],
            lost: None,
        };
        Ok((log, made))
    }

    /// Opens the file anew, after it was renamed away.
    ///
    /// # Errors
    /// As [`CriLog::create`]; the old file stays in use then.
    pub(crate) fn reopen(&mut self) -> Result<()> {
        let (file, size, _) = open_log(&self.path)?;
        self.file = file;
        self.size = size;
        Ok(())
    }

    /// Writes what one read has brought.
    pub(crate) fn append(&mut self, stream: Stream, mut data: &[u8]) {
        let time = rfc3339(crate::state::now_ns());
        let full = prefix(&time, stream, b'F');
        let part = prefix(&time, stream, b'P');
        let mut batch: Vec<IoSlice<'_>> = Vec::with_capacity(24);
        let mut lines = 0;
        while !data.is_empty() {
            let (text, rest, ended) = split_line(data);
            match ended {
                true => batch.extend([IoSlice::new(&full), IoSlice::new(text)]),
                false => {
                    batch.extend([IoSlice::new(&part), IoSlice::new(text), IoSlice::new(b"\n")])
                }
            }
            self.unfinished[stream as usize] = !ended;
            data = rest;
            lines += 1;
            if batch.len() > BATCH {
                self.write(&mut batch, lines);
                batch.clear();
                lines = 0;
            }
        }
        if lines > 0 {
            self.write(&mut batch, lines);
        }
    }

    /// The stream has ended: completes a line that never got its newline.
    pub(crate) fn end(&mut self, stream: Stream) {
        if std::mem::take(&mut self.unfinished[stream as usize]) {
            let full = prefix(&rfc3339(crate::state::now_ns()), stream, b'F');
            self.write(&mut [IoSlice::new(&full), IoSlice::new(b"\n")], 1);
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
        let head = prefix(&rfc3339(crate::state::now_ns()), Stream::Stderr, b'F');
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
        if self
            .max_size
            .is_some_and(|max| self.size > 0 && self.size + length > max)
        {
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
                self.path.display()
            ));
        }
    }
}

/// The first line or part of a line: its text (with the newline if it has one), what is left,
/// and whether the line ends there.
fn split_line(data: &[u8]) -> (&[u8], &[u8], bool) {
    let window = &data[..data.len().min(LONGEST + 1)];
    let mut after = window;
    // Reading from a slice cannot fail; skip_until is the standard library's fast search.
    let count = after.skip_until(b'\n').unwrap_or(window.len());
    let ended = window.get(count.wrapping_sub(1)) == Some(&b'\n');
    let length = if ended { count } else { count.min(LONGEST) };
    let (text, rest) = data.split_at(length);
    (text, rest, ended)
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

/// The file, its size, and whether it was made.
fn open_log(path: &std::path::Path) -> Result<(File, u64, bool)> {
    // NONBLOCK: a FIFO in the log's place must not hold up the pod.
    let flags =
        OFlags::WRONLY | OFlags::APPEND | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let mode = Mode::from_raw_mode(0o640);
    let (fd, made) = match open(path, flags | OFlags::CREATE | OFlags::EXCL, mode) {
        Ok(fd) => (fd, true),
        Err(rustix::io::Errno::EXIST) => match open(path, flags, mode) {
            Err(rustix::io::Errno::LOOP) => {
                return Err(Error::invalid(
                    "log",
                    format!("{} is a symbolic link", path.display()),
                ));
            }
            other => (other.map_err(Error::io("open log", path))?, false),
        },
        Err(error) => return Err(Error::io("create log", path)(error)),
    };
    let file = File::from(fd);
    let metadata = file.metadata().map_err(Error::io("look at log", path))?;
    if !metadata.is_file() {
        return Err(Error::invalid(
            "log",
            format!("{} is not a plain file", path.display()),
        ));
    }
    Ok((file, metadata.len(), made))
}

#[cfg(test)]
#[path = "cri_log/tests.rs"]
mod tests;
