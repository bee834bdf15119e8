//! The agent of a container whose seccomp profile hands refused calls to its supervisor (the annotation
//! `seccomp-notifier-action.crio.io`): each call fails with ENOSYS and is counted by its name, and a container
//! that is to be stopped for it is killed five seconds after the first, so that its log may say what it was
//! about. It lives in the supervisor so that no engine need be there.
//!
//! Whoever has the filter is hostile: it may call as often as it likes. What is kept is bounded by the names
//! that there are, and a turn by [`TURN`].

use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use runtime::seccomp::{Heard, Listener};
use runtime::spec::Spec;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketAddrUnix,
    SocketFlags, SocketType, accept_with, bind, listen, recvmsg, socket_with,
};

use super::poller::{Interest, Key, Poller, Token};
use super::{Supervisor, diagnose, trusted};
use crate::error::{Error, Result};
use crate::seccomp::{AGENT, SeccompRecord};

/// How long after its first refused call a container is stopped.
const GRACE: Duration = Duration::from_secs(5);
/// How long counts may be newer than the record.
const SAVE: Duration = Duration::from_secs(1);
/// Filters of one container that are listened to: each command has its own.
const FILTERS: usize = 1024;
/// Calls of a filter that are answered at once.
const TURN: usize = 64;
/// Runtimes that may wait to be accepted, and as many that have not said anything yet.
const BACKLOG: u8 = 64;
/// What a runtime says of the process with the listener; none of it is needed.
const MESSAGE: usize = 64 << 10;

/// See the module. Dropped, its socket goes.
#[derive(Debug)]
pub(super) struct Agent {
    socket: OwnedFd,
    path: PathBuf,
    dir: PathBuf,
    stops: bool,
    /// Runtimes that are connected and have not brought their listener yet.
    silent: VecDeque<OwnedFd>,
    filters: Vec<Listener>,
    record: SeccompRecord,
    stop_at: Option<Instant>,
    save_at: Option<Instant>,
}

impl Agent {
    /// Listens, if the profile wants this supervisor to.
    ///
    /// # Errors
    /// A socket that cannot be made.
    pub(super) fn of(spec: &Spec, bundle: &Path) -> Result<Option<Box<Self>>> {
        let linux = spec.linux.as_ref();
        let Some(seccomp) = linux.and_then(|linux| linux.seccomp.as_ref()) else {
            return Ok(None);
        };
        let Some(action) = seccomp.listener_metadata.strip_prefix(AGENT) else {
            return Ok(None);
        };
        let path = PathBuf::from(&seccomp.listener_path);
        // Of a supervisor that was killed while it made the same.
        let _ = std::fs::remove_file(&path);
        let socket = listening(&path).map_err(Error::io("listen on", &path))?;
        Ok(Some(Box::new(Self {
            socket,
            dir: bundle.to_owned(),
            stops: action == "stop",
            silent: VecDeque::new(),
            filters: Vec::new(),
            record: SeccompRecord::default(),
            stop_at: None,
            save_at: None,
            path,
        })))
    }

    /// The next moment at which something is due.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.stop_at.into_iter().chain(self.save_at).min()
    }

    /// Takes the listeners that runtimes bring, and answers the calls that wait.
    fn turn(&mut self, poller: &Poller, token: Token) {
        while let Ok(client) = accept_with(&self.socket, SocketFlags::CLOEXEC) {
            if trusted(&client) {
                self.greet(poller, token, client);
            }
        }
        for client in std::mem::take(&mut self.silent) {
            match take(&client) {
                Err(Errno::AGAIN) => self.silent.push_back(client),
                brought => {
                    let _ = poller.remove(&client, token);
                    if let Ok(Some(fd)) = brought {
                        self.add(poller, token, Listener::new(fd));
                    }
                }
            }
        }
        let mut filters = std::mem::take(&mut self.filters);
        filters.retain(|filter| {
            let stays = self.answer(filter);
            if !stays {
                let _ = poller.remove(filter, token);
            }
            stays
        });
        self.filters = filters;
    }

    /// Has a runtime's message waited for: it may be slower than this. The oldest of too many goes.
    fn greet(&mut self, poller: &Poller, token: Token, client: OwnedFd) {
        if self.silent.len() >= usize::from(BACKLOG)
            && let Some(oldest) = self.silent.pop_front()
        {
            let _ = poller.remove(&oldest, token);
        }
        match poller.add(&client, token, Interest::READ) {
            Ok(()) => self.silent.push_back(client),
            Err(error) => diagnose(format_args!("{error}")),
        }
    }

    fn add(&mut self, poller: &Poller, token: Token, filter: Listener) {
        if self.filters.len() >= FILTERS {
            return diagnose(format_args!("{}: too many filters", self.path.display()));
        }
        match poller.add(&filter, token, Interest::READ) {
            Ok(()) => self.filters.push(filter),
            Err(error) => diagnose(format_args!("{error}")),
        }
    }

    /// Is it to be listened to further?
    fn answer(&mut self, filter: &Listener) -> bool {
        for _ in 0..TURN {
            match filter.receive() {
                Ok(Heard::Call(call)) => {
                    let name = call
                        .name
                        .map_or_else(|| call.number.to_string(), str::to_owned);
                    self.count(name);
                    if filter.refuse(call, Errno::NOSYS).is_err() {
                        return false;
                    }
                }
                Ok(Heard::Nothing) => return true,
                Ok(Heard::Over) | Err(_) => return false,
            }
        }
        true
    }

    fn count(&mut self, name: String) {
        let now = Instant::now();
        if self.stops && self.record.calls.is_empty() {
            self.stop_at = now.checked_add(GRACE);
        }
        // Numbers without a name are few: the kernel has none, and a profile names what it refuses.
        *self.record.calls.entry(name).or_default() += 1;
        self.save_at = self.save_at.or_else(|| now.checked_add(SAVE));
    }

    /// Puts the record on disk.
    fn save(&mut self) {
        self.save_at = None;
        if let Err(error) = self.record.write(&self.dir) {
            diagnose(format_args!("{error}"));
        }
    }

    /// Does what is due; must the container be stopped?
    fn is_due(&mut self, now: Instant) -> bool {
        let stops = self.stop_at.is_some_and(|at| at <= now);
        if stops {
            self.stop_at = None;
            self.record.stopped = true;
        }
        if stops || self.save_at.is_some_and(|at| at <= now) {
            self.save();
        }
        stops
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

fn listening(path: &Path) -> rustix::io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    bind(&socket, &SocketAddrUnix::new(path)?)?;
    listen(&socket, BACKLOG.into())?;
    Ok(socket)
}

/// The listener that came with a message; [`Errno::AGAIN`] while there is none.
fn take(client: &OwnedFd) -> rustix::io::Result<Option<OwnedFd>> {
    let mut bytes = vec![0; MESSAGE];
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut parts = [std::io::IoSliceMut::new(&mut bytes)];
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    recvmsg(client, &mut parts, &mut control, flags)?;
    Ok(control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    }))
}

impl Supervisor {
    /// Begins to listen to what a container's filters hand over.
    pub(super) fn watch_agent(&mut self, key: Key) {
        let agent = self.containers.get(&key).and_then(|one| one.agent.as_ref());
        if let Some(agent) = agent
            && let Err(error) = self
                .poller
                .add(&agent.socket, Token::Agent(key), Interest::READ)
        {
            diagnose(format_args!(
                "{error}; refused calls wait until the container ends"
            ));
        }
        // A runtime may have been there already.
        self.on_agent(key);
    }

    /// A runtime has brought a listener, or a filter a call.
    pub(super) fn on_agent(&mut self, key: Key) {
        let container = self.containers.get_mut(&key);
        if let Some(agent) = container.and_then(|one| one.agent.as_mut()) {
            agent.turn(&self.poller, Token::Agent(key));
        }
    }

    /// Writes down what was counted, and stops the container if it is time.
    pub(super) fn on_agent_due(&mut self, key: Key, now: Instant) {
        let Some(container) = self.containers.get_mut(&key) else {
            return;
        };
        let Some(agent) = container.agent.as_mut() else {
            return;
        };
        if agent.is_due(now) && !container.is_exited() {
            self.begin_stop(key, libc::SIGKILL, Duration::ZERO);
        }
    }

    /// The container has ended: nobody calls any more.
    pub(super) fn end_agent(&mut self, key: Key) {
        let container = self.containers.get_mut(&key);
        let Some(mut agent) = container.and_then(|one| one.agent.take()) else {
            return;
        };
        agent.turn(&self.poller, Token::Agent(key));
        agent.stop_at = None;
        if agent.save_at.is_some() {
            agent.save();
        }
        let _ = self.poller.remove(&agent.socket, Token::Agent(key));
        let filters = agent.filters.iter().map(AsFd::as_fd);
        for fd in filters.chain(agent.silent.iter().map(AsFd::as_fd)) {
            let _ = self.poller.remove(fd, Token::Agent(key));
        }
    }
}
