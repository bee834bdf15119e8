//! ExecSync: run a command in a running container and keep what it says. The supervisor starts
//! it with our pipes as its stdout and stderr; nothing is copied twice.

use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};
use supervisor::{AttachOptions, Attachment, ExecRequest, ExecSession, ExecStdio};

use super::{Container, ExecOutput, Security};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::oci;

/// What of each stream is kept, in bytes (as CRI says); the rest is read and thrown away.
const KEPT: usize = 16 * 1024 * 1024;

impl Engine {
    /// Runs `command` in the container as the container's own user and returns when it has ended.
    /// `limit` kills it; `None` waits for ever.
    ///
    /// # Errors
    /// An unknown container or one that does not run, a command that cannot be executed, or
    /// [`Error::ExecTimeout`].
    pub fn exec_sync(
        &self,
        id: &str,
        command: &[String],
        limit: Option<Duration>,
    ) -> Result<ExecOutput> {
        if command.is_empty() {
            return Err(Error::invalid("cmd", "must not be empty"));
        }
        let pipes = (pipe()?, pipe()?);
        let (stdout, stderr) = (pipes.0, pipes.1);
        let session = self.exec(
            id,
            command,
            limit,
            &ExecOptions::default(),
            ExecStdio::Fds([null()?, stdout.write, stderr.write]),
        )?;
        collect(session, stdout.read, stderr.read, id, limit)
    }

    /// Starts `command` in the container with the caller's own files or a terminal.
    ///
    /// # Errors
    /// As [`Engine::exec_sync`], without the time limit's.
    pub fn exec(
        &self,
        id: &str,
        command: &[String],
        limit: Option<Duration>,
        options: &ExecOptions,
        stdio: ExecStdio,
    ) -> Result<ExecSession> {
        let container = self.running_container("exec in", id)?;
        let mut process = oci::exec_process(&container, command)?;
        options.apply(&mut process);
        if let Some(user) = &options.user {
            self.apply_user(user, &container, &mut process)?;
        }
        process.terminal = matches!(stdio, ExecStdio::Terminal(_));
        let supervisor = self.supervisor(&container.pod_id)?;
        let request = ExecRequest {
            process,
            timeout: limit,
        };
        supervisor
            .exec(&container.id, &request, stdio)
            .map_err(|source| match source {
                supervisor::Error::Start { message, exit_code } => {
                    start_error(&container.id, message, exit_code)
                }
                source => Error::Supervisor {
                    verb: "exec in container",
                    id: container.id.clone(),
                    source,
                },
            })
    }

    /// Joins a container's streams; before start, so that nothing is missed.
    ///
    /// # Errors
    /// An unknown container or one that has ended.
    pub fn attach(&self, id: &str, options: AttachOptions) -> Result<Attachment> {
        let container = self.container(id)?;
        self.supervisor(&container.pod_id)?
            .attach(&container.id, options)
            .map_err(|source| Error::Supervisor {
                verb: "attach to container",
                id: container.id,
                source,
            })
    }

    fn apply_user(
        &self,
        user: &str,
        container: &Container,
        process: &mut runtime::spec::Process,
    ) -> Result<()> {
        let image = self.image(&container.image_id)?;
        let security = Security {
            user: user.to_owned(),
            ..Security::default()
        };
        let resolved = crate::user::resolve(self.store(), &image, &security)?;
        process.user.uid = resolved.uid;
        process.user.gid = resolved.gid;
        process.user.additional_gids = resolved.groups;
        Ok(())
    }
}

/// What a person may change for one exec.
#[derive(Debug, Clone, Default)]
pub struct ExecOptions {
    /// `NAME=VALUE`, added to the container's.
    pub env: Vec<String>,
    /// Working directory; `None`: the container's.
    pub working_dir: Option<String>,
    /// All capabilities.
    pub privileged: bool,
    /// `USER[:GROUP]`, names or numbers of the image; `None`: the container's.
    pub user: Option<String>,
}

impl ExecOptions {
    fn apply(&self, process: &mut runtime::spec::Process) {
        process.env.extend(self.env.iter().cloned());
        if let Some(dir) = &self.working_dir {
            process.cwd.clone_from(dir);
        }
        if self.privileged {
            process.capabilities = Some(oci::all_capabilities());
        }
    }
}

/// The supervisor's word that a program could not be executed.
pub(super) fn start_error(id: &str, message: String, exit_code: i32) -> Error {
    Error::Start {
        id: id.to_owned(),
        message,
        exit_code: u8::try_from(exit_code).unwrap_or(u8::MAX),
    }
}

struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
}

fn pipe() -> Result<Pipe> {
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
        .map_err(|e| Error::io("make", "pipe")(e.into()))?;
    rustix::fs::fcntl_setfl(&read, rustix::fs::OFlags::NONBLOCK)
        .map_err(|e| Error::io("set flags of", "pipe")(e.into()))?;
    Ok(Pipe { read, write })
}

fn null() -> Result<OwnedFd> {
    std::fs::File::open("/dev/null")
        .map(OwnedFd::from)
        .map_err(Error::io("open", "/dev/null"))
}

/// Reads both streams until the command has ended and the pipes are empty. A child of the
/// command that keeps a stream open does not hold up the answer.
fn collect(
    session: ExecSession,
    stdout: OwnedFd,
    stderr: OwnedFd,
    id: &str,
    limit: Option<Duration>,
) -> Result<ExecOutput> {
    let mut streams = [Stream::new(stdout), Stream::new(stderr)];
    loop {
        let mut fds = vec![PollFd::from_borrowed_fd(session.as_fd(), PollFlags::IN)];
        for stream in streams.iter().filter(|stream| stream.open) {
            fds.push(PollFd::from_borrowed_fd(
                stream.source.as_fd(),
                PollFlags::IN,
            ));
        }
        match rustix::event::poll(&mut fds, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(Error::io("poll", "exec")(e.into())),
        }
        let ended = !fds[0].revents().is_empty();
        drop(fds);
        for stream in &mut streams {
            stream.drain()?;
        }
        if ended {
            break;
        }
    }
    let exit = session.wait().map_err(|source| Error::Supervisor {
        verb: "wait for exec in container",
        id: id.to_owned(),
        source,
    })?;
    for stream in &mut streams {
        stream.drain()?;
    }
    if exit.timed_out {
        return Err(Error::ExecTimeout {
            id: id.to_owned(),
            seconds: limit.unwrap_or_default().as_secs(),
        });
    }
    let [stdout, stderr] = streams.map(|stream| stream.kept);
    Ok(ExecOutput {
        stdout,
        stderr,
        exit_code: exit.code,
    })
}

struct Stream {
    source: std::fs::File,
    kept: Vec<u8>,
    open: bool,
}

impl Stream {
    fn new(source: OwnedFd) -> Self {
        Self {
            source: source.into(),
            kept: Vec::new(),
            open: true,
        }
    }

    /// Reads what is there now.
    fn drain(&mut self) -> Result<()> {
        let mut buffer = [0_u8; 64 * 1024];
        while self.open {
            match self.source.read(&mut buffer) {
                Ok(0) => self.open = false,
                Ok(count) => {
                    let room = KEPT - self.kept.len();
                    self.kept.extend_from_slice(&buffer[..count.min(room)]);
                }
                Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => break,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => return Err(Error::io("read", "output of exec")(e)),
            }
        }
        Ok(())
    }
}
