//! sd_notify(3) for a container: it gets a socket of its own at /run/notify/notify.sock, and when it
//! says READY, the manager at the caller's NOTIFY_SOCKET is told so, and which process to watch.
//!
//! Only READY goes on: a container must not tell the manager of the host anything else.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use runtime::spec::{Mount, Spec};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use rustix::pipe::{PipeFlags, pipe_with};

use crate::cmd::Failure;

/// Where the container finds the directory of its socket.
const INSIDE: &str = "/run/notify";
const NAME: &str = "notify.sock";
/// As long as runc waits for the manager to have read everything.
const BARRIER: Duration = Duration::from_secs(30);
/// How often it is looked whether the container still lives.
const LOOK: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 100_000_000,
};

/// The sockets of one container.
#[derive(Debug)]
pub(crate) struct Notify {
    manager: String,
    directory: PathBuf,
}

impl Notify {
    /// What the caller's environment asks for; `state` is the container's state directory.
    pub(crate) fn of_caller(state: &Path) -> Option<Self> {
        let manager = std::env::var("NOTIFY_SOCKET").ok()?;
        (!manager.is_empty()).then(|| Self {
            manager,
            directory: state.join("notify"),
        })
    }

    /// Makes the directory that the container gets.
    pub(crate) fn make_directory(&self) -> Result<(), Failure> {
        std::fs::create_dir(&self.directory).map_err(Failure::at(format_args!(
            "create {}",
            self.directory.display()
        )))
    }

    /// Gives the directory, and its place, to the container's first process.
    pub(crate) fn tell(&self, spec: &mut Spec) {
        spec.mounts.push(Mount {
            destination: INSIDE.into(),
            source: Some(self.directory.clone()),
            options: ["bind", "nosuid", "noexec", "nodev", "ro"]
                .map(str::to_owned)
                .to_vec(),
            ..Mount::default()
        });
        if let Some(process) = &mut spec.process {
            process.env.push(format!("NOTIFY_SOCKET={INSIDE}/{NAME}"));
        }
    }

    /// Opens the container's socket; `None` if it was created without one.
    pub(crate) fn listen(self) -> Result<Option<Listener>, Failure> {
        if !self.directory.exists() {
            return Ok(None);
        }
        let path = self.directory.join(NAME);
        let failed = || Failure::at(format!("listen at {}", path.display()));
        let socket = UnixDatagram::bind(&path).map_err(failed())?;
        socket.set_nonblocking(true).map_err(failed())?;
        // Whoever the container runs as may say that it is ready.
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o777)).map_err(failed())?;
        Ok(Some(Listener {
            socket,
            manager: self.manager,
        }))
    }
}

/// The container's socket.
#[derive(Debug)]
pub(crate) struct Listener {
    socket: UnixDatagram,
    manager: String,
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Listener {
    /// Waits until the container is ready, and says so, or until it has ended.
    pub(crate) fn wait(&self, pid: i32) -> Result<(), Failure> {
        while !self.pass_on(pid)? && base::process::start(pid).is_some() {
            let mut fds = [PollFd::from_borrowed_fd(self.as_fd(), PollFlags::IN)];
            // Interrupted: it is only looked at once more.
            let _ = poll(&mut fds, Some(&LOOK));
        }
        Ok(())
    }

    /// Tells the manager if the container has said READY, with `pid` as the process to watch.
    pub(crate) fn pass_on(&self, pid: i32) -> Result<bool, Failure> {
        let mut buffer = [0_u8; 4096];
        loop {
            match self.socket.recv(&mut buffer) {
                Ok(length) => {
                    let text = buffer.get(..length).unwrap_or_default();
                    let ready = text
                        .split(|byte| *byte == b'\n')
                        .find(|line| line.starts_with(b"READY="));
                    if let Some(ready) = ready {
                        return self.tell_manager(ready, pid).map(|()| true);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Failure::at("read the container's notify socket")(error)),
            }
        }
    }

    fn tell_manager(&self, ready: &[u8], pid: i32) -> Result<(), Failure> {
        let failed = || Failure::at(format!("notify {}", self.manager));
        let address = match self.manager.strip_prefix('@') {
            Some(name) => SocketAddr::from_abstract_name(name),
            None => SocketAddr::from_pathname(&self.manager),
        };
        let manager = UnixDatagram::unbound().map_err(failed())?;
        manager
            .connect_addr(&address.map_err(failed())?)
            .map_err(failed())?;
        manager
            .send(&[ready, b"\n"].concat())
            .and_then(|_| manager.send(format!("MAINPID={pid}\n").as_bytes()))
            .map_err(failed())?;
        barrier(&manager).map_err(failed())
    }
}

/// sd_notify_barrier(3): returns once the manager has read everything, or does not know barriers.
fn barrier(manager: &UnixDatagram) -> io::Result<()> {
    let (ours, theirs) = pipe_with(PipeFlags::CLOEXEC)?;
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds = [theirs.as_fd()];
    control.push(SendAncillaryMessage::ScmRights(&fds));
    let parts = [io::IoSlice::new(b"BARRIER=1")];
    sendmsg(manager, &parts, &mut control, SendFlags::NOSIGNAL)?;
    drop(theirs);
    let deadline = Instant::now() + BARRIER;
    while let Some(left) = deadline.checked_duration_since(Instant::now()) {
        let mut closed = [PollFd::from_borrowed_fd(ours.as_fd(), PollFlags::empty())];
        let left = Timespec::try_from(left).unwrap_or(LOOK);
        match poll(&mut closed, Some(&left)) {
            Err(rustix::io::Errno::INTR) => {}
            other => return other.map(drop).map_err(Into::into),
        }
    }
    Ok(())
}
