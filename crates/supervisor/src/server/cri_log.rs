//! A container's log in the format kubelet reads (CRI, "log format"): one line is
//! `TIME STREAM TAG TEXT`, with TAG `F` for a full line and `P` for a part of one. A part is
//! written only when a line is longer than [`LONGEST`]: what a read leaves of a line waits for the
//! rest. The last part of a line is always `F`, also of one that never got its newline.
//!
//! Must never fail or wait because of a full disk, nor fill one ([`room`]): what is not written is counted, and
//! the count is written as soon as there is space. A line is lost as a whole or ended where it was torn.

mod open;
mod room;

use std::fs::File;
use std::io::{self, BufRead, IoSlice, Write};
use std::time::{Duration, Instant};

use base::time::rfc3339_nanos;

use crate::client::Stream;
use crate::error::Result;
use crate::protocol::LogTarget;
use crate::state::LogLoss;
pub(crate) use open::MadeLog;
use open::open_log;
use room::{Cause, Room};

/// The longest text of one log line, in bytes.
const LONGEST: usize = 8192;
/// How many slices one writev(2) takes (UIO_MAXIOV), less what one line may need.
const BATCH: usize = 1024 - 3;
/// `TIME STREAM TAG `.
const PREFIX: usize = 30 + 1 + 6 + 1 + 1 + 1;
/// What is left below the hard limit for the lines that say what is lost.
const NOTES: u64 = 1024;
/// How often the record is told of further losses.
const TELL: Duration = Duration::from_secs(10);

/// A container's log file.
#[derive(Debug)]
pub(crate) struct CriLog {
    target: LogTarget,
    file: File,
    size: u64,
    room: Room,
    streams: [Line; 2],
    lost: Option<Lost>,
    /// All that was lost so far, and of that what the record was told, and when.
    loss: LogLoss,
    told: (LogLoss, Option<Instant>),
}

/// Where the log is in a line of a stream.
#[derive(Debug, Default)]
struct Line {
    /// What there is of its next piece.
    held: Vec<u8>,
    begun: Begun,
}

/// What became of the parts of a line that is not complete.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Begun {
    /// There are none.
    #[default]
    No,
    /// They are in the log.
    Written,
    /// They are lost, and so is the rest: nobody shall take it for a line.
    Lost,
}

/// What is lost at this place of the log.
#[derive(Debug)]
struct Lost {
    lines: u64,
    bytes: u64,
    cause: Cause,
    /// Streams of whose line there is only a beginning in the log.
    torn: [bool; 2],
}

/// Pieces of lines that are written at once.
#[derive(Debug, Default)]
struct Batch<'a> {
    slices: Vec<IoSlice<'a>>,
    /// Lines that end in it.
    lines: u64,
    /// Bytes of text.
    bytes: u64,
    /// Its last piece is a part.
    goes_on: bool,
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
            room: Room::of(target),
            streams: Default::default(),
            lost: None,
            loss: LogLoss::default(),
            told: Default::default(),
        };
        Ok((log, made))
    }

    /// Opens the file anew, after it was renamed away. What was lost before is said in the new one.
    ///
    /// # Errors
    /// As [`CriLog::create`]; the old file stays in use then.
    pub(crate) fn reopen(&mut self) -> Result<()> {
        let (file, size, _) = open_log(&self.target)?;
        self.file = file;
        self.size = size;
        self.room.begin_anew();
        if let Some(lost) = &mut self.lost {
            lost.torn = [false; 2];
            if self.room.allow(&self.file, &mut self.size, NOTES).is_ok()
                && self.note_lost().is_ok()
            {
                self.found_again();
            }
        }
        Ok(())
    }

    /// Writes the lines that one read has brought or completed.
    pub(crate) fn append(&mut self, stream: Stream, mut data: &[u8]) {
        let time = rfc3339_nanos(crate::state::now_ns());
        let full = prefix(&time, stream, b'F');
        let part = prefix(&time, stream, b'P');
        let mut held = std::mem::take(&mut self.streams[stream as usize].held);
        let mut batch = Batch::default();
        batch.slices.reserve(24);
        let mut begun: &[u8] = &held;
        loop {
            let (text, rest, end) = split_line(data, LONGEST - begun.len());
            let head = match end {
                LineEnd::Newline => &full,
                LineEnd::Limit => &part,
                LineEnd::Data => break,
            };
            batch.add(head, begun, text, end == LineEnd::Limit);
            (begun, data) = (&[], rest);
            let lost = self.streams[stream as usize].begun == Begun::Lost;
            if lost || batch.slices.len() > BATCH {
                self.write(stream, std::mem::take(&mut batch));
            }
        }
        let goes_on = !begun.is_empty();
        if !batch.slices.is_empty() {
            self.write(stream, batch);
        }
        if !goes_on {
            held.clear();
        }
        held.extend_from_slice(data);
        self.streams[stream as usize].held = held;
    }

    /// The stream has ended: what there is of a line is all of it.
    pub(crate) fn end(&mut self, stream: Stream) {
        let held = std::mem::take(&mut self.streams[stream as usize].held);
        if !held.is_empty() {
            let full = prefix(&rfc3339_nanos(crate::state::now_ns()), stream, b'F');
            let mut batch = Batch::default();
            batch.add(&full, &held, b"", false);
            batch.slices.push(IoSlice::new(b"\n"));
            self.write(stream, batch);
        }
    }

    /// Nothing more comes: what there is of lines is all of them, and what was lost is said.
    pub(crate) fn finish(&mut self) {
        self.end(Stream::Stdout);
        self.end(Stream::Stderr);
        if self.lost.is_none() {
            return;
        }
        match self.note_lost() {
            Ok(_) => self.found_again(),
            Err(error) => crate::server::diagnose(format_args!(
                "log {}: last lines lost: {error}",
                self.target.path.display()
            )),
        }
    }

    /// What was lost, if the record should say so now.
    pub(crate) fn news(&mut self) -> Option<LogLoss> {
        if self.loss == self.told.0 {
            return None;
        }
        let turned = self.loss.why != self.told.0.why;
        let late = |at: Instant| at.elapsed() >= TELL;
        (turned || self.told.1.is_none_or(late)).then(|| self.loss())
    }

    /// What was lost so far.
    pub(crate) fn loss(&mut self) -> LogLoss {
        self.told = (self.loss.clone(), Some(Instant::now()));
        self.loss.clone()
    }

    fn write(&mut self, stream: Stream, mut batch: Batch<'_>) {
        let written = match self.streams[stream as usize].begun {
            Begun::Lost => Err(Cause::Rest),
            Begun::No | Begun::Written => self.put(&mut batch.slices),
        };
        let begun = match written {
            Ok(()) => {
                self.found_again();
                Begun::Written
            }
            Err(cause) => {
                self.lose(batch.lines, batch.bytes, cause);
                Begun::Lost
            }
        };
        self.streams[stream as usize].begun = match batch.goes_on {
            true => begun,
            false => Begun::No,
        };
    }

    fn put(&mut self, batch: &mut [IoSlice<'_>]) -> std::result::Result<(), Cause> {
        let length = batch.iter().map(|slice| slice.len() as u64).sum::<u64>();
        self.make_room(length)?;
        self.room
            .allow(&self.file, &mut self.size, length + NOTES)?;
        let noted = self.note_lost()?;
        // A note without a line after it would be the first of many on a disk that is all but full.
        let written = self.write_whole(batch, length);
        Ok(written.or_else(|error| self.take_back(noted, error))?)
    }

    /// Counts what is lost; at the first of it the log says why, if it can.
    fn lose(&mut self, lines: u64, bytes: u64, cause: Cause) {
        self.loss.lines += lines;
        self.loss.bytes += bytes;
        if let Some(lost) = &mut self.lost {
            lost.lines += lines;
            lost.bytes += bytes;
            return;
        }
        let mut torn = [false; 2];
        for (line, torn) in self.streams.iter_mut().zip(&mut torn) {
            if line.begun == Begun::Written {
                (line.begun, *torn) = (Begun::Lost, true);
            }
        }
        self.loss.why = Some(cause.to_string());
        let bounded = matches!(cause, Cause::Limit(_) | Cause::Reserve(_));
        let text = format!("floe: lines of this log are lost from here on: {cause}\n");
        if bounded && self.say(&text, torn).is_ok() {
            torn = [false; 2];
        }
        self.lost = Some(Lost {
            lines,
            bytes,
            cause,
            torn,
        });
    }

    fn found_again(&mut self) {
        self.lost = None;
        self.loss.why = None;
    }

    /// Says how much was lost, if something was and there is space again. Returns how many bytes
    /// that took.
    fn note_lost(&mut self) -> io::Result<u64> {
        let Some(lost) = &self.lost else { return Ok(0) };
        let text = format!(
            "floe: {} lines of this log were lost here: {} ({} bytes)\n",
            lost.lines, lost.cause, lost.bytes
        );
        let torn = lost.torn;
        self.say(&text, torn)
    }

    /// Writes a line of floe's own, after the ends of lines that were torn. Returns how many bytes that took.
    fn say(&mut self, text: &str, torn: [bool; 2]) -> io::Result<u64> {
        let time = rfc3339_nanos(crate::state::now_ns());
        let heads = [Stream::Stdout, Stream::Stderr].map(|stream| prefix(&time, stream, b'F'));
        let mut slices = Vec::with_capacity(6);
        for (head, _) in heads.iter().zip(torn).filter(|(_, torn)| *torn) {
            slices.extend([IoSlice::new(head), IoSlice::new(b"\n")]);
        }
        slices.extend([IoSlice::new(&heads[1]), IoSlice::new(text.as_bytes())]);
        let length = slices.iter().map(|slice| slice.len() as u64).sum();
        self.write_whole(&mut slices, length)?;
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
        self.finish();
    }
}

impl<'a> Batch<'a> {
    /// Adds a piece of a line: what was read of it `before`, and what `text` adds to that. A part has no newline.
    fn add(&mut self, head: &'a [u8], before: &'a [u8], text: &'a [u8], is_part: bool) {
        self.slices.push(IoSlice::new(head));
        if !before.is_empty() {
            self.slices.push(IoSlice::new(before));
        }
        self.slices.push(IoSlice::new(text));
        if is_part {
            self.slices.push(IoSlice::new(b"\n"));
        }
        self.lines += u64::from(!is_part);
        self.bytes += (before.len() + text.len()) as u64;
        self.goes_on = is_part;
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

#[cfg(test)]
mod tests;
