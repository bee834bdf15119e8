//! The client of a pod's supervisor: one blocking connection, one request at a time. Open more
//! connections for requests that wait (stop, wait, exec, attach). Dropping a client never harms
//! a container; dropping an [`ExecSession`] kills its command.
//!
//! A supervisor may be stopped, or held by the kernel for minutes. Every step has a limit then,
//! after which it is [`Error::Silent`] and the client of no more use: what comes later answers
//! nobody. [`Call`] is for those who must not block a thread at all.

mod attach;
mod call;
mod exec;
mod find;
mod launch;
mod open_files;
mod subscription;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt::{Timeout, set_socket_timeout};

use crate::address;
use crate::error::{Error, Result};
use crate::frame::{Inbox, encode, send_all};
use crate::health::HealthRecord;
use crate::info::{INFO_FILE, SHM_DIR, SOCKET_FILE, SupervisorInfo};
use crate::protocol::{
    Became, Companion, CompanionExit, CreateContainer, CreatedInfo, Dump, Request, Response,
    RestoreContainer,
};
use crate::state::{ContainerState, remove_file};

pub use attach::{AttachEvent, AttachInput, AttachOutput, Attachment, HangUp, Stream};
pub use call::Call;
pub use exec::{ExecSession, ExecStdio};
pub use find::find;
pub use launch::{Netns, launch};
pub use open_files::raise_open_files;
pub use subscription::{News, Subscription};

/// How long a supervisor may take to accept a client, to take a request, and to answer one that
/// waits for nothing but work: kubelet gives up after two minutes.
pub const ANSWER_LIMIT: Duration = Duration::from_secs(90);

/// How a supervisor's version is given where only its answer tells of it.
const OLDER: &str = "an older version";

/// A connection to a pod's supervisor.
#[derive(Debug)]
pub struct Client {
    socket: UnixStream,
    inbox: Inbox,
    dir: PathBuf,
    limit: Duration,
}

impl Client {
    /// Connects to the supervisor of the pod in `dir`.
    ///
    /// # Errors
    /// [`Error::Gone`] if none listens there.
    pub fn connect(dir: &Path) -> Result<Self> {
        Self::connect_within(dir, ANSWER_LIMIT)
    }

    /// As [`Client::connect`], for a client that waits at most `limit` where others wait
    /// [`ANSWER_LIMIT`].
    ///
    /// # Errors
    /// As [`Client::connect`], and [`Error::Silent`].
    pub fn connect_within(dir: &Path, limit: Duration) -> Result<Self> {
        let socket = address::connect(dir, limit)?;
        Ok(Self::over(socket, dir, limit))
    }

    fn over(socket: UnixStream, dir: &Path, limit: Duration) -> Self {
        Self {
            socket,
            inbox: Inbox::default(),
            dir: dir.to_owned(),
            limit,
        }
    }

    /// Makes a container up to the gate before its program.
    ///
    /// # Errors
    /// A request, a `config.json` or a log that cannot be accepted, an id that is taken, or the
    /// runtime's failure; nothing is left behind then.
    pub fn create(&mut self, container: &CreateContainer) -> Result<CreatedInfo> {
        self.create_on(container, None)
    }

    /// [`create`](Self::create) with the mount that [`crate::RootfsSource::Mount`] stands for. The caller's
    /// descriptor is of no more use afterwards, and should be dropped.
    ///
    /// # Errors
    /// As [`create`](Self::create), and a supervisor that takes no mount.
    pub fn create_on(
        &mut self,
        container: &CreateContainer,
        root: Option<BorrowedFd<'_>>,
    ) -> Result<CreatedInfo> {
        let request = Request::Create(Box::new(container.clone()));
        match self.call_with(&request, root.as_slice())? {
            Response::Created(info) => Ok(info),
            other => Err(unexpected(&other)),
        }
    }

    /// Lets a created container's program run; returns once it is executed.
    ///
    /// # Errors
    /// [`Error::Start`] if the program cannot be executed: the container is exited then, with
    /// that code and message. [`Error::State`] if it is not in state created.
    pub fn start(&mut self, id: &str) -> Result<()> {
        self.done(&Request::Start { id: id.to_owned() })
    }

    /// Sends a signal to the container's first process, or to all of its cgroup.
    ///
    /// # Errors
    /// A container that has ended or is unknown, or a signal that does not exist.
    pub fn signal(&mut self, id: &str, signal: i32, all: bool) -> Result<()> {
        self.done(&Request::Signal {
            id: id.to_owned(),
            signal,
            all,
        })
    }

    /// Ends a container: `signal` now, SIGKILL after `timeout`; returns when it has ended, at once
    /// if it had already. A later call with a shorter timeout shortens the wait of all callers, a
    /// longer one never lengthens it. A paused container is thawed first.
    ///
    /// # Errors
    /// An unknown container.
    pub fn stop(&mut self, id: &str, signal: i32, timeout: Duration) -> Result<ContainerState> {
        let request = Request::Stop {
            id: id.to_owned(),
            signal,
            timeout,
        };
        self.state(&request, timeout.checked_add(self.limit))
    }

    /// Forgets a container and removes its cgroup with every process left in it. The log stays.
    ///
    /// # Errors
    /// An unknown container, or one that runs when `force` is not given.
    pub fn delete(&mut self, id: &str, force: bool) -> Result<()> {
        self.done(&Request::Delete {
            id: id.to_owned(),
            force,
        })
    }

    /// Waits until the container has ended.
    ///
    /// # Errors
    /// An unknown container, also one that is deleted meanwhile.
    pub fn wait(&mut self, id: &str) -> Result<ContainerState> {
        self.state(&Request::Wait { id: id.to_owned() }, None)
    }

    /// Checks the container's health now, or waits for the check that runs; it may take `limit`.
    ///
    /// # Errors
    /// A container that does not run, ends meanwhile, or has no health check.
    pub fn check(&mut self, id: &str, limit: Duration) -> Result<HealthRecord> {
        self.send(&Request::Check { id: id.to_owned() }, &[])?;
        match self.answer(Some(limit.saturating_add(ANSWER_LIMIT)))? {
            Response::Checked(record) => Ok(record),
            other => Err(unexpected(&other)),
        }
    }

    /// Opens the container's log anew, after it was renamed away; the new file exists on return.
    ///
    /// # Errors
    /// A container that does not run or has no log (no file is made then), or a file that cannot
    /// be opened (the old one stays in use then).
    pub fn reopen_log(&mut self, id: &str) -> Result<()> {
        self.done(&Request::ReopenLog { id: id.to_owned() })
    }

    /// Sets the size of the container's terminal.
    ///
    /// # Errors
    /// A container without a terminal.
    pub fn resize(&mut self, id: &str, rows: u16, cols: u16) -> Result<()> {
        self.done(&Request::Resize {
            id: id.to_owned(),
            rows,
            cols,
        })
    }

    /// Changes the limits of the container's cgroup; what is absent stays as it is.
    ///
    /// # Errors
    /// A limit that the kernel does not accept, or a container that has ended.
    pub fn update(&mut self, id: &str, resources: &runtime::spec::Resources) -> Result<()> {
        self.done(&Request::Update {
            id: id.to_owned(),
            resources: Box::new(resources.clone()),
        })
    }

    /// Freezes a running container.
    ///
    /// # Errors
    /// A container that does not run.
    pub fn pause(&mut self, id: &str) -> Result<()> {
        self.done(&Request::Pause { id: id.to_owned() })
    }

    /// Thaws a paused container.
    ///
    /// # Errors
    /// A container that is not paused.
    pub fn resume(&mut self, id: &str) -> Result<()> {
        self.done(&Request::Resume { id: id.to_owned() })
    }

    /// Freezes running containers; returns when all stand still. They go on at [`Client::thaw`], when this
    /// client is dropped or its process ends, and when `limit` is over.
    ///
    /// # Errors
    /// A container that is unknown, named twice, or does not run; one whose processes do not stop. All go on
    /// then.
    pub fn freeze(&mut self, ids: &[String], limit: Duration) -> Result<()> {
        self.done(&Request::Freeze {
            ids: ids.to_vec(),
            limit,
        })
    }

    /// Has criu write down one of the containers that are frozen for this client, within `limit`.
    ///
    /// # Errors
    /// One that is not frozen for this client, or not any longer; a criu that is not there or fails.
    pub fn dump(&mut self, dump: &Dump, limit: Duration) -> Result<()> {
        self.send(&Request::Dump(Box::new(dump.clone())), &[])?;
        match self.answer(Some(limit.saturating_add(self.limit)))? {
            Response::Done => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    /// Makes a container from criu's images, with the mount that [`crate::RootfsSource::Mount`] stands for. It
    /// stands as one that was created, and [`Client::start`] lets it go on.
    ///
    /// # Errors
    /// As [`Client::create`]; images that cannot be used, or processes that may do more than config.json allows.
    /// Nothing is left behind then.
    pub fn restore(
        &mut self,
        restore: &RestoreContainer,
        root: Option<BorrowedFd<'_>>,
    ) -> Result<CreatedInfo> {
        let request = Request::Restore(Box::new(restore.clone()));
        self.send(&request, root.as_slice())?;
        let limit = restore.limit.saturating_add(self.limit);
        match self.answer(Some(limit))? {
            Response::Created(info) => Ok(info),
            other => Err(unexpected(&other)),
        }
    }

    /// Lets the containers go on that are frozen for this client.
    ///
    /// # Errors
    /// They went on before: what was written of them meanwhile is not of one moment.
    pub fn thaw(&mut self) -> Result<()> {
        self.done(&Request::Thaw)
    }

    /// What ends this client from another thread: a shutdown(2) of it. What is under way fails with
    /// [`Error::Gone`], and what was frozen for it goes on.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn hang_up_handle(&self) -> Result<OwnedFd> {
        let twin = self.socket.as_fd().try_clone_to_owned();
        twin.map_err(Error::io("duplicate", self.dir.join(SOCKET_FILE)))
    }

    /// Runs a program beside the containers, in the pod's cgroup and namespaces; returns when it has
    /// ended. What it leaves running stays, as the supervisor's child.
    ///
    /// # Errors
    /// A program that cannot be begun; one that cannot be executed has code 127.
    pub fn run_companion(&mut self, companion: &Companion) -> Result<CompanionExit> {
        match self.call(&Request::Companion(Box::new(companion.clone())))? {
            Response::CompanionEnded(exit) => Ok(exit),
            other => Err(unexpected(&other)),
        }
    }

    /// Takes part in a container that another program is to make and run: afterwards there are named
    /// pipes `stdout`, `stderr` (without a terminal) and `stdin` (if wanted) in its directory, and it is
    /// in state created.
    ///
    /// # Errors
    /// A log that cannot be accepted, or an id that is taken.
    pub fn carry(&mut self, container: &CreateContainer) -> Result<()> {
        self.done(&Request::Carry(Box::new(container.clone())))
    }

    /// Tells what became of such a container.
    ///
    /// # Errors
    /// A container that is unknown or the supervisor's own, or a program that cannot be asked.
    pub fn tell(&mut self, id: &str, became: Became) -> Result<()> {
        self.done(&Request::Tell {
            id: id.to_owned(),
            became: Box::new(became),
        })
    }

    /// Kills every process of the pod, unmounts its /dev/shm and ends the supervisor; returns when
    /// its process has ended. The containers' `state.json` stay.
    ///
    /// # Errors
    /// A supervisor that went away before it answered.
    pub fn shutdown(&mut self) -> Result<()> {
        match self.call(&Request::Shutdown)? {
            Response::Done => {}
            other => return Err(unexpected(&other)),
        }
        let Some(process) = self.inbox.take_fds().pop_front() else {
            return Err(Error::protocol(
                "no process descriptor came with the answer to shutdown",
            ));
        };
        match wait_readable(process.as_fd(), self.limit) {
            Ok(true) => Ok(()),
            Ok(false) => Err(Error::silent(&self.dir, self.limit)),
            Err(error) => Err(Error::io(
                "wait for the end of the supervisor of",
                &self.dir,
            )(error)),
        }
    }

    /// `limit`: for the answer; `None` waits for ever.
    fn state(&mut self, request: &Request, limit: Option<Duration>) -> Result<ContainerState> {
        self.send(request, &[])?;
        match self.answer(limit)? {
            Response::State(state) => Ok(state),
            other => Err(unexpected(&other)),
        }
    }

    fn done(&mut self, request: &Request) -> Result<()> {
        match self.call(request)? {
            Response::Done => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    fn call(&mut self, request: &Request) -> Result<Response> {
        self.call_with(request, &[])
    }

    fn call_with(&mut self, request: &Request, fds: &[BorrowedFd<'_>]) -> Result<Response> {
        self.send(request, fds)?;
        self.answer(Some(self.limit))
    }

    fn send(&mut self, request: &Request, fds: &[BorrowedFd<'_>]) -> Result<()> {
        can_be_asked(request, &self.dir)?;
        let bytes = encode(request)?;
        set_limit(&self.socket, Timeout::Send, Some(self.limit), &self.dir)?;
        send_all(&self.socket, &bytes, fds)
            .map_err(|error| lost("send to", &self.dir, Some(self.limit), error))
    }

    fn answer(&mut self, limit: Option<Duration>) -> Result<Response> {
        match receive(&self.socket, &mut self.inbox, &self.dir, limit)? {
            Response::Failed(error) => Err(error.or_unsupported(OLDER)),
            response => Ok(response),
        }
    }

    fn take_fd(&mut self) -> Option<OwnedFd> {
        self.inbox.take_fds().pop_front()
    }
}

/// Refuses what the supervisor of the pod in `dir` is too old for, which it might take for something
/// else: fields that it does not know it passes over. What all supervisors can costs nothing here.
fn can_be_asked(request: &Request, dir: &Path) -> Result<()> {
    let Some(ability) = request.needs() else {
        return Ok(());
    };
    // One that has no record any more is ending, and says so itself.
    SupervisorInfo::read(dir)?.map_or(Ok(()), |info| info.can(ability))
}

/// The next answer on a connection, and not a byte more: what comes after it is still to be seen
/// by poll(2), as [`ExecSession`]'s `AsFd` promises.
fn receive(
    socket: &UnixStream,
    inbox: &mut Inbox,
    dir: &Path,
    limit: Option<Duration>,
) -> Result<Response> {
    set_limit(socket, Timeout::Recv, limit, dir)?;
    let mut scratch = [0; 4096];
    loop {
        if let Some(response) = inbox.message()? {
            return Ok(response);
        }
        let wanted = inbox.missing().min(scratch.len());
        match inbox.receive(socket.as_fd(), &mut scratch[..wanted]) {
            Ok(0) => {
                return Err(Error::Gone {
                    dir: dir.to_owned(),
                });
            }
            Ok(_) => {}
            Err(error) => return Err(lost("receive from", dir, limit, error)),
        }
    }
}

/// How long a blocking socket waits; a limit of zero would mean none to the kernel.
fn set_limit(socket: &UnixStream, id: Timeout, limit: Option<Duration>, dir: &Path) -> Result<()> {
    let limit = limit.map(|limit| limit.clamp(Duration::from_millis(1), LONGEST));
    set_socket_timeout(socket, id, limit).map_err(Error::io("set limit of", dir.join(SOCKET_FILE)))
}

/// The longest limit that the kernel's clock ticks can count everywhere.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

/// A socket's failure: the end of the other side has its own name, and so has its silence.
fn lost(
    operation: &'static str,
    dir: &Path,
    limit: Option<Duration>,
    error: std::io::Error,
) -> Error {
    use std::io::ErrorKind::{BrokenPipe, ConnectionReset, WouldBlock};
    match error.kind() {
        BrokenPipe | ConnectionReset => Error::Gone {
            dir: dir.to_owned(),
        },
        WouldBlock => Error::silent(dir, limit.unwrap_or_default()),
        _ => Error::io(operation, dir.join(SOCKET_FILE))(error),
    }
}

fn unexpected(response: &Response) -> Error {
    let what = match response {
        Response::Ready(_) => "ready",
        Response::Done => "done",
        Response::Created(_) => "created",
        Response::State(_) => "state",
        Response::ExecStarted { .. } => "exec started",
        Response::ExecExited(_) => "exec exited",
        Response::Subscribed(_) => "subscribed",
        Response::Event(_) => "event",
        Response::Checked(_) => "checked",
        Response::CompanionEnded(_) => "companion ended",
        Response::Failed(_) => "failed",
    };
    Error::protocol(format!("{what:?} does not answer the request"))
}

/// Was it readable before the limit was over?
pub(crate) fn wait_readable(fd: BorrowedFd<'_>, limit: Duration) -> std::io::Result<bool> {
    let until = Instant::now() + limit;
    loop {
        let left = Timespec::try_from(until.saturating_duration_since(Instant::now()))
            .map_err(std::io::Error::other)?;
        match poll(
            &mut [PollFd::from_borrowed_fd(fd, PollFlags::IN)],
            Some(&left),
        ) {
            Ok(ready) => return Ok(ready > 0),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Takes away what a supervisor that was killed has left in the pod's directory: what OCI programs know
/// of containers, the mount on `shm`, the socket and `supervisor.json`. What is gone already is fine; to be called only when
/// [`crate::SupervisorInfo::is_alive`] says no.
///
/// # Errors
/// A mount or a file that cannot be removed.
pub fn clean_after_death(dir: &Path) -> Result<()> {
    crate::oci_program::clean_after_death(dir)?;
    crate::shm::unmount(&dir.join(SHM_DIR))?;
    remove_file(&dir.join(SOCKET_FILE))?;
    remove_file(&dir.join(INFO_FILE))
}
