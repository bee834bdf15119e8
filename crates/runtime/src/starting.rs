//! A process that is being started in a container ([`crate::NewExec::begin`]): the runtime's side, which
//! answers what the process says until its program is executed.
//!
//! [`Starting`] never waits: [`crate::NewExec::start`] does, and a supervisor asks it again whenever its
//! descriptor is readable and ends it at a limit.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::cgroup::Cgroup;
use crate::error::{Error, Result};
use crate::exec::Started;
use crate::guard::ChildGuard;
use crate::hooks::HookState;
use crate::intermediate;
use crate::message::unasked;
use crate::message::{Channel, FromInit, Incoming, ToInit};
use crate::notify;
use crate::progress::Progress;
use crate::scheduling;
use crate::spec::{Scheduler, Spec};

/// A process that is being started. Dropped, it is killed and reaped.
#[derive(Debug)]
pub struct Starting {
    pub(crate) child: ChildGuard,
    pub(crate) pidfd: OwnedFd,
    pub(crate) channel: Channel,
    /// Where it has to be moved to, by whom its cgroup belongs to.
    pub(crate) place: Option<Cgroup>,
    pub(crate) scheduler: Option<Scheduler>,
    /// Whom a listener goes to, and what he is told.
    pub(crate) agent: Option<Box<(Spec, HookState)>>,
    pub(crate) console: Option<OwnedFd>,
    /// It stands before its program, and has been let on; with its warnings.
    pub(crate) ready: Option<Vec<String>>,
}

impl Starting {
    /// The process itself, or the one before it.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.child.pid()
    }

    /// Takes what the process has said by now, and does what it asks.
    ///
    /// # Errors
    /// A step that failed; nothing is left then.
    pub fn advance(mut self) -> Result<Progress<Self, Started>> {
        loop {
            let failed = Error::io("read from", "exec");
            let message = match self.channel.look().map_err(failed)? {
                Incoming::Message(message, fd) => (message, fd),
                Incoming::Nothing => return Ok(Progress::Pending(self)),
                Incoming::Closed => return self.executed().map(Progress::Done),
            };
            let standing = self.ready.is_some();
            match message {
                (FromInit::Failed(failure), _) => return Err(Error::Init(failure)),
                (FromInit::NotExecuted(failure), _) => return Err(Error::Exec(failure)),
                _ if standing => return Err(unasked()),
                (FromInit::Born { ready }, Some(pidfd)) => {
                    (self.child, self.pidfd) = intermediate::successor(pidfd)?;
                    match ready {
                        Some(warnings) => self.release(warnings)?,
                        None => self.send(ToInit::Known)?,
                    }
                }
                (FromInit::Console, fd) => self.console = fd,
                (FromInit::Listener(number), _) => self.hand_over(number)?,
                (FromInit::Ready { warnings }, _) => self.release(warnings)?,
                _ => return Err(unasked()),
            }
        }
    }

    /// Waits until [`Starting::advance`] has something to do.
    ///
    /// # Errors
    /// [`Error::Vanished`] if there is nobody left to wait for.
    pub(crate) fn wait(&self) -> Result<()> {
        match self.channel.wait_with(&self.pidfd) {
            Ok(true) => Ok(()),
            Ok(false) => Err(vanished()),
            Err(errno) => Err(Error::io("wait for", "exec")(errno)),
        }
    }

    /// Gives it up without waiting: it is killed, and the caller reaps it.
    pub fn abandon(mut self) -> Option<i32> {
        self.child.kill()
    }

    /// The last of the host's doings for it, and it goes on.
    fn release(&mut self, warnings: Vec<String>) -> Result<()> {
        if let Some(cgroup) = &self.place {
            cgroup.attach(self.pid())?;
        }
        scheduling::schedule(self.pid(), self.scheduler.as_ref()).map_err(Error::Init)?;
        self.send(ToInit::Start)?;
        self.ready = Some(warnings);
        Ok(())
    }

    fn send(&self, message: ToInit) -> Result<()> {
        self.channel
            .send(&message, None)
            .map_err(Error::io("write to", "exec"))
    }

    fn hand_over(&self, number: i32) -> Result<()> {
        let Some(agent) = &self.agent else {
            return Err(unasked());
        };
        let (spec, state) = &**agent;
        notify::hand_over(spec, state, (self.pid(), &self.pidfd), number)
    }

    /// The channel is closed: by execve, if it was let on.
    fn executed(mut self) -> Result<Started> {
        let Some(warnings) = self.ready.take() else {
            return Err(vanished());
        };
        let pid = self.pid();
        self.child.release();
        Ok(Started {
            pid,
            pidfd: self.pidfd,
            console: self.console,
            warnings,
        })
    }
}

fn vanished() -> Error {
    Error::Vanished {
        doing: "preparing an exec",
    }
}

impl AsFd for Starting {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.channel.as_fd()
    }
}
