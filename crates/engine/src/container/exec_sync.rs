//! ExecSync: run a command in a running container and keep what it says. The supervisor starts
//! it with our pipes as its stdout and stderr; nothing is copied twice, and no thread waits.
//! Dropping an [`ExecSync`] that is under way kills its command.

use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::time::Duration;

use tokio::net::unix::pipe::Receiver;

use super::ExecOutput;
use crate::budget::Share;
use crate::calls::{Place, Purpose};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::handler::{ExecExit, Pending, Running};
use crate::pipes;

/// What is kept of both streams together, in bytes: a client takes messages of up to 16 MiB, and a
/// message has a little more than the streams in it. The rest is read and thrown away.
const KEPT: usize = (16 << 20) - (64 << 10);

/// What every command may say, however many others say a lot.
const SHORT: usize = 128 << 10;

/// How much is read from one stream before others have their turn; also all that a pipe can hold.
const TURN: usize = 1 << 20;

/// A command that is about to run.
pub struct ExecSync {
    id: String,
    limit: Option<Duration>,
    running: Pending<Running>,
    _place: Place,
    /// Our ends of its stdout and stderr.
    kept: [OwnedFd; 2],
    memory: Share,
}

impl Engine {
    /// Makes ready to run `command` in the container as the container's own user. `limit` will kill
    /// it; with `None` it may run for ever.
    ///
    /// # Errors
    /// An unknown container or one that does not run, or [`Error::Busy`].
    pub fn exec_sync(
        &self,
        id: &str,
        command: &[String],
        limit: Option<Duration>,
    ) -> Result<ExecSync> {
        if command.is_empty() {
            return Err(Error::invalid("cmd", "must not be empty"));
        }
        let (container, command) = self.command(id, command, limit, |_| {})?;
        let place = self.calls().take(&container.pod_id, Purpose::Command)?;
        let (stdout, to_stdout) = output()?;
        let (stderr, to_stderr) = output()?;
        let given = [pipes::null(false)?, to_stdout, to_stderr];
        let exec = self.with_handler(&container, |handler, at| handler.exec(at, command, given));
        Ok(ExecSync {
            running: exec?,
            id: container.id,
            limit,
            _place: place,
            kept: [stdout, stderr],
            memory: self.output_budget().share(),
        })
    }
}

impl ExecSync {
    /// Runs the command and returns when it has ended. A child of the command that keeps a stream
    /// open does not hold up the answer.
    ///
    /// # Errors
    /// A command that cannot be executed, [`Error::ExecTimeout`], or a supervisor that is gone or
    /// silent.
    pub async fn finish(self) -> Result<ExecOutput> {
        let (id, limit) = (self.id, self.limit);
        let [stdout, stderr] = self.kept;
        let mut output = Output::new(stdout, stderr, self.memory)?;
        let mut exit = self.running.await?.exit;
        let exit = loop {
            tokio::select! {
                exit = &mut exit => break exit?,
                read = output.read() => read?,
            }
        };
        // What the command wrote is in the pipes; more is its children's.
        output.drain_all()?;
        outcome(id, limit, exit, output)
    }
}

fn outcome(
    id: String,
    limit: Option<Duration>,
    exit: ExecExit,
    output: Output,
) -> Result<ExecOutput> {
    if exit.timed_out {
        return Err(Error::ExecTimeout {
            id,
            seconds: limit.unwrap_or_default().as_secs(),
        });
    }
    let [stdout, stderr] = output.kept.0;
    Ok(ExecOutput {
        stdout: stdout.bytes,
        stderr: stderr.bytes,
        exit_code: exit.code,
        memory: output.memory,
    })
}

/// Our end of one of a command's outputs, which does not wait, and the command's.
fn output() -> Result<(OwnedFd, OwnedFd)> {
    let (read, write) = pipes::pipe()?;
    base::file::never_wait(&read).map_err(Error::io("set flags of", "pipe"))?;
    Ok((read, write))
}

/// Both streams of a command.
struct Output {
    /// `None` once it is at its end.
    sources: [Option<Receiver>; 2],
    kept: Kept,
    memory: Share,
}

impl Output {
    fn new(stdout: OwnedFd, stderr: OwnedFd, memory: Share) -> Result<Self> {
        let watch =
            |fd: OwnedFd| Receiver::from_owned_fd(fd).map_err(Error::io("watch", "output of exec"));
        Ok(Self {
            sources: [Some(watch(stdout)?), Some(watch(stderr)?)],
            kept: Kept::default(),
            memory,
        })
    }

    /// Waits for output and takes some of it; never returns once both streams are at their end.
    async fn read(&mut self) -> Result<()> {
        let [stdout, stderr] = &self.sources;
        let (number, ready) = tokio::select! {
            ready = readable(stdout.as_ref()) => (0, ready),
            ready = readable(stderr.as_ref()) => (1, ready),
        };
        ready.map_err(Error::io("watch", "output of exec"))?;
        self.drain(number, false)?;
        // A command that floods us has no more than its turn.
        tokio::task::yield_now().await;
        Ok(())
    }

    /// Reads what is there, up to a turn's worth. `last`: without asking whether there is news.
    fn drain(&mut self, number: usize, last: bool) -> Result<()> {
        let mut buffer = [0_u8; 64 * 1024];
        let mut taken = 0;
        while taken < TURN {
            let Some(source) = &self.sources[number] else {
                return Ok(());
            };
            let read = match last {
                true => rustix::io::read(source, &mut buffer).map_err(std::io::Error::from),
                // An empty stream waits for news from then on.
                false => source.try_read(&mut buffer),
            };
            match read {
                Ok(0) => self.sources[number] = None,
                Ok(count) => {
                    // A short output needs no share, and so has always room.
                    let wanted = (self.kept.len() + count).min(KEPT);
                    if wanted <= SHORT || self.memory.reach(wanted) {
                        self.kept.add(number, &buffer[..count]);
                    } else {
                        self.kept.cut(number);
                    }
                    taken += count;
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(Error::io("read", "output of exec")(e)),
            }
        }
        Ok(())
    }

    fn drain_all(&mut self) -> Result<()> {
        self.drain(0, true)?;
        self.drain(1, true)
    }
}

/// Completes when there is something to read; never for a stream at its end.
async fn readable(source: Option<&Receiver>) -> std::io::Result<()> {
    match source {
        Some(source) => source.readable().await,
        None => std::future::pending().await,
    }
}

/// The beginning of both streams, at most [`KEPT`] bytes; each has at least half of that, if it
/// wants it.
#[derive(Debug, Default)]
struct Kept([Beginning; 2]);

#[derive(Debug, Default)]
struct Beginning {
    bytes: Vec<u8>,
    /// Some of it was thrown away: nothing is added after that.
    cut: bool,
}

impl Kept {
    fn len(&self) -> usize {
        self.0.iter().map(|stream| stream.bytes.len()).sum()
    }

    /// Something was thrown away for want of memory.
    fn cut(&mut self, number: usize) {
        self.0[number].cut = true;
    }

    fn add(&mut self, number: usize, bytes: &[u8]) {
        let [first, second] = &mut self.0;
        let (this, other) = match number {
            0 => (first, second),
            _ => (second, first),
        };
        if this.cut {
            return;
        }
        let wanted = this.bytes.len() + bytes.len();
        let others = (KEPT / 2).max(KEPT.saturating_sub(wanted));
        if other.bytes.len() > others {
            other.bytes.truncate(others);
            other.cut = true;
        }
        let room = KEPT - this.bytes.len() - other.bytes.len();
        this.bytes
            .extend_from_slice(&bytes[..bytes.len().min(room)]);
        this.cut = bytes.len() > room;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lengths(kept: &Kept) -> [usize; 2] {
        [kept.0[0].bytes.len(), kept.0[1].bytes.len()]
    }

    #[test]
    fn one_stream_may_have_all_the_room_and_gives_half_of_it_back() {
        let mut kept = Kept::default();
        kept.add(0, &vec![b'a'; KEPT + 5]);
        assert_eq!(lengths(&kept), [KEPT, 0]);
        kept.add(1, b"why");
        assert_eq!(lengths(&kept), [KEPT - 3, 3]);
        kept.add(1, &vec![b'b'; KEPT]);
        assert_eq!(lengths(&kept), [KEPT / 2, KEPT / 2]);
        // Nothing comes after a gap.
        kept.add(0, b"late");
        kept.add(1, b"late");
        assert_eq!(lengths(&kept), [KEPT / 2, KEPT / 2]);
        assert!(kept.0[1].bytes.starts_with(b"whyb"));
    }
}
