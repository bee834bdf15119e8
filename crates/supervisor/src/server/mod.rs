//! The supervisor's process: one thread, one loop. Whatever happens (a client's request, output of
//! a container, the end of a process, a moment that was waited for) is handled at once and never
//! waits for anything else; what cannot be finished now is written down as the state of a
//! connection or a container and taken up again when its time has come.
//!
//! Nothing that a container can stop, trace, starve or fill is waited for: its first process and its
//! commands set themselves up beside the loop ([`creation`], [`exec`]), as hooks run, and all are killed at
//! a limit; so are the programs that make containers ([`program`]). The exception is the disk under a log file.
//!
//! One file per noun or verb: [`boot`] and [`pod`] begin, [`requests`] is the table of verbs,
//! [`exit`] is where all lives end.

mod attach;
mod child;
mod companion;
mod confined;
mod connection;
mod container;
mod create;
mod creation;
pub(crate) mod cri_log;
mod daemonize;
mod dump;
mod events;
mod exec;
mod exit;
mod health;
mod hold;
mod hooks;
mod life;
mod on_exit;
mod oom;
mod pod;
mod pod_init;
mod poller;
mod program;
mod removal;
mod requests;
mod restore;
mod seccomp_agent;
mod shim_container;
mod stdin;
mod streams;
mod sysctl;
pub(crate) mod time;
mod users;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::Arguments;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use rustix::fs::OFlags;
use rustix::net::{SocketFlags, accept_with, sockopt::socket_peercred};
use rustix::process::{PidfdFlags, geteuid, getpid, pidfd_open};

use crate::client::Stream;
use crate::error::{Error, Result};
use crate::frame::{encode, send_all};
use crate::protocol::Response;
use crate::setup::PodSetup;
use crate::sys::memory::{trim_memory, trim_stack};
use crate::sys::signal::SignalFd;
use companion::Begun;
use connection::{Connection, Connections, Role};
use container::Container;
use creation::Creation;
use dump::DumpRun;
use events::Events;
use exec::{Beginning, Exec};
use hold::Hold;
use hooks::HookRun;
use on_exit::{Home, Restarts};
use pod::Pod;
use poller::{Interest, Key, Poller, Ready, Token};
use program::Orphan;
use program::run::Run;

/// How long the supervisor's own log may get, in bytes.
const OWN_LOG: i64 = 256 << 10;
/// How much of a stream is read at once.
const BUFFER: usize = 64 << 10;
/// How long no client is taken after one could not be.
const DEAF: Duration = Duration::from_secs(1);
/// How long a container or a command may take up to its program: less than its client waits for the answer.
const SET_UP: Duration = Duration::from_secs(75);
/// How long clients wait for the end of what was killed: it takes longer only if the kernel holds it.
const LAST_WAIT: Duration = Duration::from_secs(2);
/// How many clients may be connected; more wait until one leaves.
const CLIENTS: usize = 512;

/// The program `floe-runtime supervise POD`: becomes the supervisor of the pod that its starter
/// ([`crate::launch`]) describes over the connection on stdin, and returns when that pod is shut
/// down. `args` are what follows `supervise`: the pod's id, which is there to be seen in `ps`.
pub fn supervise(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    if args.into_iter().count() != 1 {
        diagnose(format_args!(
            "usage: supervise POD, with a connection as stdin; started by floe, not by hand"
        ));
        return ExitCode::from(2);
    }
    match daemonize::keep_what_was_given().and_then(run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            diagnose(format_args!("{error}"));
            ExitCode::FAILURE
        }
    }
}

/// Says something to the operator, in `supervisor.log`, which is in memory: it begins anew at [`OWN_LOG`] bytes.
/// Nothing can be done if that fails.
pub(crate) fn diagnose(text: Arguments<'_>) {
    let now = base::time::rfc3339_nanos(crate::state::now_ns());
    let now = std::str::from_utf8(&now).unwrap_or_default();
    let mut log = std::io::stderr();
    if let Ok(found) = rustix::fs::fstat(&log)
        && rustix::fs::FileType::from_raw_mode(found.st_mode).is_file()
        && found.st_size >= OWN_LOG
        && rustix::fs::ftruncate(&log, 0).is_ok()
    {
        let _ = writeln!(log, "{now} {} bytes of before are gone", found.st_size);
    }
    let _ = writeln!(log, "{now} {text}");
}

fn run(given: daemonize::Inherited) -> Result<()> {
    let daemonize::Inherited { connection, lock } = given;
    let Some((setup, netns)) = daemonize::receive_setup(&connection)? else {
        return Ok(());
    };
    let home = Home::of(&setup);
    let stands = pod::validate(&setup)
        .and_then(|()| daemonize::limit_open_files(&setup))
        .and_then(|()| daemonize::leave_starter(&setup))
        .and_then(|oom_score_adj| daemonize::become_supervisor().map(|()| oom_score_adj))
        .and_then(|oom_score_adj| Supervisor::set_up(&setup, netns, home, oom_score_adj));
    let (answer, supervisor) = match stands {
        Ok(supervisor) => (
            Response::Ready(supervisor.pod.info.clone()),
            Some(supervisor),
        ),
        Err(error) => (Response::Failed(error), None),
    };
    // A starter that has gone meanwhile finds the pod by its directory.
    let _ = send_all(&connection, &encode(&answer)?, &[]);
    let Some(mut supervisor) = supervisor else {
        return Ok(());
    };
    supervisor.adopt(connection)?;
    let ended = supervisor.run();
    // Held until nothing of the pod is left.
    drop(lock);
    ended
}

/// The supervisor of one pod.
struct Supervisor {
    pod: Pod,
    poller: Poller,
    signals: SignalFd,
    listening: bool,
    /// When to listen again, though no client has left.
    deaf_until: Option<Instant>,
    connections: Connections,
    containers: BTreeMap<Key, Container>,
    creations: BTreeMap<Key, Creation>,
    execs: BTreeMap<i32, Exec>,
    beginnings: BTreeMap<Key, Beginning>,
    hook_runs: BTreeMap<i32, HookRun>,
    events: Events,
    companions: BTreeMap<i32, Begun>,
    program_runs: BTreeMap<i32, Run>,
    orphans: Vec<Orphan>,
    /// Containers that are frozen, by the client for whom.
    holds: BTreeMap<Key, Hold>,
    dumps: BTreeMap<i32, DumpRun>,
    /// Where the supervisor was started, if that is needed.
    home: Option<Home>,
    /// By container.
    restarts: BTreeMap<String, Restarts>,
    on_exits: on_exit::Running,
    last_key: Key,
    /// What containers have that ask for nothing else; see [`daemonize::leave_starter`].
    oom_score_adj: Option<i32>,
    /// What was killed in the pod's slice, if systemd makes its cgroups.
    slice: Option<oom::SliceKills>,
    /// The pod is being shut down, and these clients wait for it.
    ending: Option<Vec<Key>>,
    buffer: Vec<u8>,
    /// A configuration was read, and its memory should not stay.
    tidy: bool,
}

impl Supervisor {
    fn set_up(
        setup: &PodSetup,
        netns: Option<OwnedFd>,
        home: Option<Home>,
        oom_score_adj: Option<i32>,
    ) -> Result<Self> {
        let poller = Poller::new()?;
        let signals = SignalFd::new().map_err(Error::io("make", "signalfd"))?;
        poller.add(signals.as_fd(), Token::Signals, Interest::READ)?;
        let pod = Pod::set_up(setup, netns)?;
        poller.add(&pod.listener, Token::Listener, Interest::READ)?;
        Ok(Self {
            pod,
            poller,
            signals,
            listening: true,
            deaf_until: None,
            connections: Connections::default(),
            containers: BTreeMap::new(),
            creations: BTreeMap::new(),
            execs: BTreeMap::new(),
            beginnings: BTreeMap::new(),
            hook_runs: BTreeMap::new(),
            events: Events::default(),
            companions: BTreeMap::new(),
            program_runs: BTreeMap::new(),
            orphans: Vec::new(),
            holds: BTreeMap::new(),
            dumps: BTreeMap::new(),
            home,
            restarts: BTreeMap::new(),
            on_exits: BTreeMap::new(),
            last_key: 0,
            oom_score_adj,
            slice: oom::SliceKills::of(setup),
            ending: None,
            // Never filled before it is read into: what is not used is not backed by memory.
            buffer: Vec::with_capacity(BUFFER),
            tidy: false,
        })
    }

    fn run(mut self) -> Result<()> {
        trim_stack();
        while self.ending.is_none() || self.is_busy() {
            let timeout = self
                .deadline()
                .map(|deadline| deadline.saturating_duration_since(Instant::now()));
            self.poller.wait(timeout)?;
            let mut number = 0;
            while let Some(ready) = self.poller.ready(number) {
                self.on_ready(ready);
                number += 1;
            }
            self.on_deadlines();
            self.settle();
            if std::mem::take(&mut self.tidy) {
                trim_memory();
                trim_stack();
            }
        }
        self.finish()
    }

    /// Is there anything left of a container?
    fn is_busy(&self) -> bool {
        !self.containers.is_empty() || !self.creations.is_empty() || !self.hook_runs.is_empty()
    }

    fn on_ready(&mut self, ready: Ready) {
        match ready.token {
            Token::Listener => self.accept(),
            Token::Signals => self.on_signals(),
            Token::Connection(key) => self.on_connection(key, ready),
            Token::Stdout(key) => self.on_output(key, Stream::Stdout),
            Token::Stderr(key) => self.on_output(key, Stream::Stderr),
            Token::Stdin(key) => self.on_stdin(key),
            Token::Creation(key) => self.on_creation(key),
            Token::Gate(key) => self.on_gate(key),
            Token::Starting(key) => self.on_starting(key),
            Token::Oom(key) => self.on_oom(key),
            Token::ShimContainer(key) => self.on_shim_container(key),
            Token::Agent(key) => self.on_agent(key),
            Token::Check(key) => self.on_check_output(key),
        }
    }

    fn on_signals(&mut self) {
        while let Some(signal) = self.signals.next() {
            let busy = self
                .containers
                .values()
                .any(|container| !container.is_exited());
            match signal {
                libc::SIGCHLD => self.reap(),
                libc::SIGTERM | libc::SIGINT if !busy => {
                    self.shutdown(None);
                }
                libc::SIGTERM | libc::SIGINT | libc::SIGHUP => {
                    diagnose(format_args!(
                        "signal {signal} ignored: containers run; `floe pod rm` ends a pod"
                    ));
                }
                _ => {}
            }
        }
    }

    fn on_connection(&mut self, key: Key, ready: Ready) {
        let Some(connection) = self.connections.get(key) else {
            return;
        };
        if ready.writable {
            connection.flush();
        }
        if connection.interest().read && (ready.readable || ready.closed) {
            connection.receive(&mut self.buffer);
        } else if ready.closed {
            connection.gone = true;
        }
        self.serve(key);
        if let Some(Role::Attached(container, _)) =
            self.connections.get(key).map(|connection| connection.role)
        {
            self.balance(container);
        }
    }

    /// After everything that happened at once: closes and watches connections as they are now.
    fn settle(&mut self) {
        self.tell_subscribers();
        while let Some(key) = self.connections.touched() {
            self.serve(key);
            let Some(connection) = self.connections.look(key) else {
                continue;
            };
            if connection.gone || (connection.role == Role::Leaving && connection.backlog() == 0) {
                self.hang_up(key);
                continue;
            }
            let interest = connection.interest();
            if interest != connection.watching {
                connection.watching = interest;
                if self
                    .poller
                    .modify(connection.as_fd(), Token::Connection(key), interest)
                    .is_err()
                {
                    connection.gone = true;
                }
            }
        }
    }

    fn accept(&mut self) {
        match accept_with(
            &self.pod.listener,
            SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        ) {
            Ok(socket) if trusted(&socket) => self.add_connection(socket),
            Ok(_)
            | Err(
                rustix::io::Errno::INTR | rustix::io::Errno::AGAIN | rustix::io::Errno::CONNABORTED,
            ) => {}
            Err(error) => {
                diagnose(format_args!("accept: {error}; no new clients for a moment"));
                self.listen(false);
                self.deaf_until = time::after(DEAF);
            }
        }
    }

    fn add_connection(&mut self, socket: OwnedFd) {
        let key = self.new_key();
        let connection = Connection::new(socket);
        match self.poller.add(
            connection.as_fd(),
            Token::Connection(key),
            connection.watching,
        ) {
            Ok(()) => self.connections.insert(key, connection),
            Err(error) => diagnose(format_args!("{error}")),
        }
        if self.connections.len() >= CLIENTS {
            self.listen(false);
        }
    }

    /// Takes over the connection that the supervisor was started with.
    fn adopt(&mut self, connection: OwnedFd) -> Result<()> {
        rustix::fs::fcntl_setfl(&connection, OFlags::RDWR | OFlags::NONBLOCK)
            .map_err(Error::io("set flags of", "the first connection"))?;
        self.add_connection(connection);
        Ok(())
    }

    fn listen(&mut self, wanted: bool) {
        if wanted == self.listening {
            return;
        }
        let done = match wanted {
            true => self
                .poller
                .add(&self.pod.listener, Token::Listener, Interest::READ),
            false => self.poller.remove(&self.pod.listener, Token::Listener),
        };
        match done {
            Ok(()) => self.listening = wanted,
            Err(error) => diagnose(format_args!("{error}")),
        }
    }

    /// A client has left: there is room for another.
    fn listen_again(&mut self) {
        self.deaf_until = None;
        self.listen(true);
    }

    fn new_key(&mut self) -> Key {
        self.last_key += 1;
        self.last_key
    }

    /// The next moment at which something is due.
    fn deadline(&self) -> Option<Instant> {
        let containers = self.containers.values().filter_map(Container::deadline);
        containers
            .chain(self.creations.values().filter_map(Creation::deadline))
            .chain(self.execs.values().filter_map(Exec::deadline))
            .chain(self.beginnings.values().map(Beginning::deadline))
            .chain(self.hook_runs.values().map(HookRun::deadline))
            .chain(self.companions.values().map(Begun::deadline))
            .chain(self.program_runs.values().map(Run::deadline))
            .chain(self.holds.values().map(Hold::deadline))
            .chain(self.deaf_until)
            .min()
    }

    fn on_deadlines(&mut self) {
        let now = Instant::now();
        self.kill_late_execs(now);
        self.end_late_beginnings(now);
        self.end_late_creations(now);
        self.end_late_starts(now);
        self.end_late_hooks(now);
        self.end_late_companions(now);
        self.end_late_shim_container(now);
        self.end_late_programs(now);
        self.tend_holds(now);
        self.on_due_exits(now);
        if self.deaf_until.is_some_and(|until| until <= now) {
            self.listen_again();
        }
        let due =
            |container: &Container| container.deadline().is_some_and(|deadline| deadline <= now);
        let keys: Vec<Key> = self
            .containers
            .iter()
            .filter(|(_, c)| due(c))
            .map(|(key, _)| *key)
            .collect();
        for key in keys {
            let Some(container) = self.containers.get_mut(&key) else {
                continue;
            };
            if container.unsaved.is_some_and(|retry| retry <= now) {
                container.save();
            }
            if container.run_until.is_some_and(|until| until <= now) {
                container.run_until = None;
                self.begin_stop(key, libc::SIGKILL, Duration::ZERO);
                continue;
            }
            if container.oom_due.is_some_and(|due| due <= now) {
                self.look_for_oom(key);
            }
            self.on_agent_due(key, now);
            self.on_due_check(key, now);
            let Some(container) = self.containers.get_mut(&key) else {
                continue;
            };
            if !container.is_exited() {
                if container
                    .stop
                    .as_ref()
                    .and_then(|stop| stop.kill_at)
                    .is_some_and(|at| at <= now)
                {
                    self.kill(key);
                }
            } else if container
                .removal
                .as_ref()
                .is_some_and(|removal| removal.next <= now)
            {
                self.try_removal(key);
            }
        }
    }

    /// Takes the pod back and tells those who wait; the process ends after this.
    fn finish(mut self) -> Result<()> {
        self.settle();
        // What is left has nothing to do any more.
        self.program_runs.values().for_each(Run::kill);
        let clients = self.ending.take().unwrap_or_default();
        let sockets: Vec<Connection> = clients
            .into_iter()
            .filter_map(|key| self.connections.remove(key))
            .collect();
        drop(self.pod);
        let process =
            pidfd_open(getpid(), PidfdFlags::empty()).map_err(Error::io("open", "own pidfd"))?;
        let answer = encode(&Response::Done)?;
        for socket in sockets {
            // It has had no answer for long: there is room. One that is gone wants none.
            let _ = send_all(&socket, &answer, &[process.as_fd()]);
        }
        Ok(())
    }
}

/// Only root and the supervisor's own user may speak to it, whoever has got at the socket.
fn trusted(socket: &OwnedFd) -> bool {
    match socket_peercred(socket) {
        Ok(peer) if peer.uid.is_root() || peer.uid == geteuid() => true,
        Ok(peer) => {
            diagnose(format_args!(
                "refused a client of user {}",
                peer.uid.as_raw()
            ));
            false
        }
        Err(_) => false,
    }
}
