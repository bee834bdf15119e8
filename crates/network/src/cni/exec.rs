//! Running a plugin program: input from memory, output collected, an end after a time limit.
//! Must leave no process of the plugin's group behind when it fails.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, OFlags, fcntl_setfl, memfd_create};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};

use base::child::die_with_caller;

/// No plugin has this large a result.
const RESULT_MAX: usize = 1 << 20;
/// As much of its other words is kept; the rest is read and forgotten.
const WORDS_MAX: usize = 64 << 10;
/// How long a killed program may take to go.
const KILLED: Duration = Duration::from_secs(5);

/// What became of a program.
#[derive(Debug)]
pub(crate) struct Output {
    /// How it ended.
    pub(crate) status: ExitStatus,
    /// What it wrote to standard output.
    pub(crate) stdout: Vec<u8>,
    /// What it wrote to standard error.
    pub(crate) stderr: Vec<u8>,
}

/// Why a program has no [`Output`].
#[derive(Debug)]
pub(crate) enum Failure {
    /// It could not be run: what was done, and the errno.
    Run(&'static str, io::Error),
    /// It was killed after the time limit.
    Timeout,
}

/// Runs `program` with these environment variables beside the caller's, and waits for its end. Its
/// children may live on; their output is not waited for.
pub(crate) fn run(
    program: &Path,
    environment: &[(&str, String)],
    input: &[u8],
    limit: Duration,
) -> Result<Output, Failure> {
    let deadline = Instant::now() + limit;
    let stdin = memory_file(input).map_err(|error| Failure::Run("prepare input for", error))?;
    let mut command = Command::new(program);
    command
        .envs(environment.iter().map(|(key, value)| (key, value)))
        .stdin(stdin)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0);
    let child = die_with_caller(&mut command)
        .spawn()
        .map_err(|error| Failure::Run("start", error))?;
    let mut running = Running {
        child,
        ended: false,
    };
    running.collect(deadline)
}

/// A program under way; killed with its process group when dropped before its end.
struct Running {
    child: Child,
    ended: bool,
}

impl Running {
    fn collect(&mut self, deadline: Instant) -> Result<Output, Failure> {
        let failed = |operation| move |error: io::Error| Failure::Run(operation, error);
        let pid = Pid::from_child(&self.child);
        let pidfd = pidfd_open(pid, PidfdFlags::empty())
            .map_err(|errno| Failure::Run("watch", errno.into()))?;
        let mut stdout =
            Collector::new(self.child.stdout.take(), RESULT_MAX).map_err(failed("read from"))?;
        let mut stderr =
            Collector::new(self.child.stderr.take(), WORDS_MAX).map_err(failed("read from"))?;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let ended = wait(&pidfd, [&stdout, &stderr], left).map_err(failed("wait for"))?;
            stdout.read().map_err(failed("read from"))?;
            stderr.read().map_err(failed("read from"))?;
            if stdout.is_over() {
                return Err(Failure::Run(
                    "take a result above 1 MiB from",
                    io::ErrorKind::FileTooLarge.into(),
                ));
            }
            if ended {
                let status = self.child.wait().map_err(failed("wait for"))?;
                self.ended = true;
                return Ok(Output {
                    status,
                    stdout: stdout.bytes,
                    stderr: stderr.bytes,
                });
            }
            if left.is_zero() {
                return Err(Failure::Timeout);
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        // The child has not been waited for, so its pid and group cannot be anyone else's.
        let killed = kill_process_group(Pid::from_child(&self.child), Signal::KILL)
            .map_err(io::Error::from)
            .and_then(|()| self.reap());
        if let Err(error) = killed {
            tracing::warn!(pid = self.child.id(), %error, "a plugin could not be killed");
        }
    }
}

impl Running {
    /// Waits for the end of the killed program: one that hangs in the kernel may not end.
    fn reap(&mut self) -> io::Result<()> {
        let pidfd = pidfd_open(Pid::from_child(&self.child), PidfdFlags::empty())?;
        if !wait(&pidfd, [], KILLED)? {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.child.wait().map(drop)
    }
}

/// Sleeps until there is output, the program has ended (true), or the time is over.
fn wait<const N: usize>(
    pidfd: &impl AsFd,
    outputs: [&Collector; N],
    left: Duration,
) -> io::Result<bool> {
    let mut fds = vec![PollFd::new(pidfd, PollFlags::IN)];
    let open = outputs
        .into_iter()
        .filter_map(|output| output.open.as_ref());
    fds.extend(open.map(|file| PollFd::new(file, PollFlags::IN)));
    let timeout = Timespec {
        tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(left.subsec_nanos()),
    };
    match poll(&mut fds, Some(&timeout)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(!fds[0].revents().is_empty()),
        Err(errno) => Err(errno.into()),
    }
}

/// One output of the program.
struct Collector {
    open: Option<File>,
    bytes: Vec<u8>,
    max: usize,
    over: bool,
}

/// Read at a time: a program that floods its output must not keep the clock from being looked at. No
/// pipe holds more when the program has ended.
const TURN: usize = 1 << 20;

impl Collector {
    fn new(pipe: Option<impl Into<std::os::fd::OwnedFd>>, max: usize) -> io::Result<Collector> {
        let open = pipe.map(|pipe| File::from(pipe.into()));
        if let Some(file) = &open {
            fcntl_setfl(file, OFlags::NONBLOCK)?;
        }
        Ok(Collector {
            open,
            bytes: Vec::new(),
            max,
            over: false,
        })
    }

    /// Whether there was more than is kept.
    fn is_over(&self) -> bool {
        self.over
    }

    /// Takes what is there; closes the pipe at its end.
    fn read(&mut self) -> io::Result<()> {
        let Some(file) = &mut self.open else {
            return Ok(());
        };
        let mut buffer = [0; 4096];
        let mut taken = 0;
        while taken < TURN {
            match file.read(&mut buffer) {
                Ok(0) => {
                    self.open = None;
                    return Ok(());
                }
                Ok(count) => {
                    taken += count;
                    let kept = count.min(self.max - self.bytes.len());
                    self.over |= kept < count;
                    self.bytes.extend_from_slice(&buffer[..kept]);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// A file in memory that reads as `bytes`: no pipe that could fill up.
fn memory_file(bytes: &[u8]) -> io::Result<File> {
    let mut file = File::from(memfd_create("cni-stdin", MemfdFlags::CLOEXEC)?);
    file.write_all(bytes)?;
    file.seek(SeekFrom::Start(0))?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, input: &[u8], limit: Duration) -> Result<Output, Failure> {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("plugin");
        std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&program, mode).unwrap();
        // Another test's fork may still hold the script open for writing.
        loop {
            match run(&program, &[("WORD", "x".to_owned())], input, limit) {
                Err(Failure::Run("start", error)) if error.raw_os_error() == Some(26) => {}
                other => return other,
            }
        }
    }

    #[test]
    fn large_input_and_output_pass_and_the_environment_is_set() {
        let input = vec![b'a'; 300_000];
        let output = shell(
            "cat; echo $WORD >&2; exit 3",
            &input,
            Duration::from_secs(30),
        )
        .unwrap();
        assert_eq!(output.stdout, input);
        assert_eq!(output.stderr, b"x\n");
        assert_eq!(output.status.code(), Some(3));
    }

    #[test]
    fn a_program_past_its_limit_is_killed_with_its_children() {
        let dir = tempfile::tempdir().unwrap();
        let note = dir.path().join("pid");
        let script = format!("sleep 1000 & echo $! > {}; wait", note.display());
        let result = shell(&script, b"", Duration::from_millis(500));
        assert!(matches!(result, Err(Failure::Timeout)), "{result:?}");
        let pid = std::fs::read_to_string(note).unwrap();
        let stat = format!("/proc/{}/stat", pid.trim());
        let gone = (0..500).any(|_| {
            std::thread::sleep(Duration::from_millis(10));
            // Gone, or a zombie that waits for the test's parent to notice.
            std::fs::read_to_string(&stat).map_or(true, |stat| stat.contains(") Z"))
        });
        assert!(gone, "the plugin's child is still there");
    }

    #[test]
    fn a_child_that_keeps_the_output_open_is_not_waited_for() {
        let output = shell("echo done; sleep 5 &", b"", Duration::from_secs(4)).unwrap();
        assert_eq!(output.stdout, b"done\n");
    }
}
