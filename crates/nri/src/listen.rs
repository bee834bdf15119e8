//! How plugins come: they connect to a socket, or are started here, and register. Must never let one that does
//! not go on keep others from coming.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use base::socket::{self, SocketFile};
use prost::Message;
use ttrpc::{Code, Request, Status, printable};

use crate::adaptation::Shared;
use crate::api::{Empty, RegisterPluginRequest, UpdateContainersRequest, UpdateContainersResponse};
use crate::connection::{Connection, Service};
use crate::error::{Error, Result};
use crate::launch::{self, Installed, Program};
use crate::plugin::{Plugin, check_name, full_name};

/// The service of the runtime.
const SERVICE: &str = "nri.pkg.api.v1alpha1.Runtime";
/// How many plugins may be registering at once; more are hung up on.
const REGISTERING: usize = 16;
/// How many wishes of a plugin may wait for one that is being done.
const WISHES: usize = 64;
/// Pause after an accept that failed, for want of descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// The socket; gone when dropped.
#[derive(Debug)]
pub(crate) struct Socket {
    path: PathBuf,
    listener: Arc<UnixListener>,
    /// Dropped with the socket, and not before.
    _file: SocketFile,
}

impl Socket {
    /// Listens. A socket that nobody listens at any more is taken over.
    ///
    /// # Errors
    /// [`Error::Taken`], something else that is there, or a path that cannot be had.
    pub(crate) fn bind(path: &Path) -> Result<Self> {
        if let Some(dir) = path.parent().filter(|dir| !dir.exists()) {
            std::fs::create_dir_all(dir)
                .and_then(|()| std::fs::set_permissions(dir, PermissionsExt::from_mode(0o700)))
                .map_err(Error::io("make", dir))?;
        }
        let (file, listener) = socket::listen(path, 0o600).map_err(|error| match error {
            socket::Error::InUse { path } => Error::Taken(path),
            other => Error::Socket(other),
        })?;
        Ok(Self {
            path: path.to_owned(),
            listener: Arc::new(listener),
            _file: file,
        })
    }

    /// Takes plugins until the socket is dropped.
    ///
    /// # Errors
    /// No thread to be had.
    pub(crate) fn serve(&self, shared: &Arc<Shared>) -> Result<()> {
        let (listener, shared) = (Arc::clone(&self.listener), Arc::clone(shared));
        let serve = move || {
            let registering = Arc::new(AtomicUsize::new(0));
            while !shared.is_ending() {
                match listener.accept() {
                    Ok((socket, _)) => take(&shared, socket, &registering),
                    Err(_) if shared.is_ending() => return,
                    Err(error) => {
                        tracing::warn!(%error, "an NRI plugin cannot connect");
                        std::thread::sleep(PAUSE);
                    }
                }
            }
        };
        let thread = std::thread::Builder::new().name("nri-accept".to_owned());
        let started = thread.spawn(serve);
        started.map(drop).map_err(Error::io("serve", &self.path))
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // Wakes who accepts.
        let _ = rustix::net::shutdown(&self.listener, rustix::net::Shutdown::Both);
    }
}

/// Lets a plugin that has connected register, beside others.
fn take(shared: &Arc<Shared>, socket: UnixStream, registering: &Arc<AtomicUsize>) {
    if registering.fetch_add(1, Ordering::Relaxed) >= REGISTERING {
        registering.fetch_sub(1, Ordering::Relaxed);
        tracing::warn!("an NRI plugin is hung up on: too many register at once");
        return;
    }
    let (shared, counted) = (Arc::clone(shared), Arc::clone(registering));
    let thread = std::thread::Builder::new().name("nri-register".to_owned());
    let started = thread.spawn(move || {
        let registered = register(&shared, socket, None);
        match registered {
            Ok(plugin) => shared.join(plugin),
            Err(reason) => tracing::warn!(reason, "an NRI plugin is hung up on"),
        }
        counted.fetch_sub(1, Ordering::Relaxed);
    });
    if let Err(error) = started {
        registering.fetch_sub(1, Ordering::Relaxed);
        tracing::warn!(%error, "an NRI plugin is hung up on");
    }
}

/// Starts the installed plugins, all at once, and waits until each has joined or failed.
pub(crate) fn start_installed(shared: &Arc<Shared>, all: Vec<Installed>) {
    let start = |plugin: &Installed| {
        let (socket, program) = launch::start(plugin).map_err(|error| error.to_string())?;
        register(shared, socket, Some((plugin, program)))
    };
    let registered: Vec<_> = std::thread::scope(|scope| {
        let begin = |plugin| scope.spawn(move || (plugin, start(plugin)));
        let begun: Vec<_> = all.iter().map(begin).collect();
        let ended = begun.into_iter().filter_map(|one| one.join().ok());
        ended.collect()
    });
    for (plugin, outcome) in registered {
        match outcome {
            Ok(registered) => shared.join(registered),
            Err(reason) => {
                let path = plugin.path.display();
                tracing::warn!(%path, reason, "an NRI plugin is not started");
            }
        }
    }
}

/// Waits for a plugin to register, and configures it.
fn register(
    shared: &Arc<Shared>,
    socket: UnixStream,
    installed: Option<(&Installed, Program)>,
) -> Result<Plugin, String> {
    let settings = shared.settings();
    let (said, registered) = sync_channel(1);
    let host = Arc::new(Host {
        shared: Arc::clone(shared),
        own_name: installed.is_none(),
        registration: Mutex::new(Some(said)),
        wishes: OnceLock::new(),
        name: OnceLock::new(),
    });
    let connection = Connection::open(
        socket,
        settings.request_timeout,
        Arc::clone(&host) as Arc<_>,
    )
    .map_err(|error| error.to_string())?;
    let given_up = |reason: String| {
        connection.end(&reason);
        reason
    };
    let (installed, program) = installed.unzip();
    let name = match registered.recv_timeout(settings.registration_timeout) {
        Ok(name) => match installed {
            Some(known) => (known.index.clone(), known.base.clone()),
            None => name,
        },
        Err(RecvTimeoutError::Timeout) => {
            let limit = settings.registration_timeout;
            let reason = format!("it does not register in {limit:?}");
            return Err(given_up(reason));
        }
        Err(RecvTimeoutError::Disconnected) => {
            let reason = "it hung up before it had registered".to_owned();
            return Err(given_up(reason));
        }
    };
    let _ = host.name.set(full_name(&name.0, &name.1));
    let (wish, wishes) = sync_channel(WISHES);
    let (granting, granter) = (Arc::clone(shared), Arc::clone(&connection));
    std::thread::Builder::new()
        .name("nri-wishes".to_owned())
        .spawn(move || grant(&granting, &granter, wishes))
        .map_err(|error| given_up(error.to_string()))?;
    let _ = host.wishes.set(wish);
    let config = installed.map_or_else(String::new, |known| known.config.clone());
    let asked = Plugin::configure(&connection, config, settings);
    let events = asked.map_err(given_up)?;
    Ok(Plugin::new(name, connection, events, program))
}

type Wish = (u32, UpdateContainersRequest);

/// Does what a plugin wants, one wish after the other, until it is gone.
fn grant(shared: &Shared, connection: &Connection, wishes: Receiver<Wish>) {
    while let Ok((stream, wish)) = wishes.recv() {
        let failed = shared.grant(&wish);
        let answer = UpdateContainersResponse { failed };
        connection.answer(stream, Ok(answer.encode_to_vec()));
    }
}

/// What a plugin sees of the runtime.
struct Host {
    shared: Arc<Shared>,
    /// It says who it is itself.
    own_name: bool,
    /// Who waits for that.
    registration: Mutex<Option<SyncSender<(String, String)>>>,
    wishes: OnceLock<SyncSender<Wish>>,
    name: OnceLock<String>,
}

impl Host {
    fn register(&self, payload: &[u8]) -> Result<Vec<u8>, Status> {
        let said = RegisterPluginRequest::decode(payload)
            .map_err(|error| status(Code::InvalidArgument, error.to_string()))?;
        if self.own_name {
            check_name(&said.plugin_idx, &said.plugin_name)
                .map_err(|reason| status(Code::InvalidArgument, reason))?;
        }
        let waiting = self.registration.lock();
        let waiting = waiting.unwrap_or_else(PoisonError::into_inner).take();
        let Some(waiting) = waiting else {
            let reason = "it has registered already".to_owned();
            return Err(status(Code::FailedPrecondition, reason));
        };
        let version = printable(&said.nri_version);
        tracing::info!(
            index = said.plugin_idx,
            name = said.plugin_name,
            version,
            "an NRI plugin registers"
        );
        // Nobody waits any more if it took too long.
        let _ = waiting.try_send((said.plugin_idx, said.plugin_name));
        Ok(Empty {}.encode_to_vec())
    }

    fn wish(&self, stream: u32, payload: &[u8]) -> Option<Status> {
        let wish = match UpdateContainersRequest::decode(payload) {
            Ok(wish) => wish,
            Err(error) => return Some(status(Code::InvalidArgument, error.to_string())),
        };
        let Some(wishes) = self.wishes.get() else {
            let reason = "it has not registered".to_owned();
            return Some(status(Code::FailedPrecondition, reason));
        };
        match wishes.try_send((stream, wish)) {
            Ok(()) => None,
            Err(TrySendError::Full(_)) => {
                let reason = format!("{WISHES} updates are waiting already");
                Some(status(Code::ResourceExhausted, reason))
            }
            Err(TrySendError::Disconnected(_)) => {
                Some(status(Code::Unavailable, "the engine ends".to_owned()))
            }
        }
    }
}

impl Service for Host {
    fn asked(&self, stream: u32, request: Request) -> Option<Result<Vec<u8>, Status>> {
        match (&*request.service, &*request.method) {
            (SERVICE, "RegisterPlugin") => Some(self.register(&request.payload)),
            (SERVICE, "UpdateContainers") => self.wish(stream, &request.payload).map(Err),
            _ => {
                let reason = "there is no such method".to_owned();
                Some(Err(status(Code::Unimplemented, reason)))
            }
        }
    }

    fn ended(&self, reason: &str) {
        let waiting = self.registration.lock();
        drop(waiting.unwrap_or_else(PoisonError::into_inner).take());
        if let Some(name) = self.name.get() {
            self.shared.forget_closed(name, reason);
        }
    }
}

fn status(code: Code, message: String) -> Status {
    Status {
        code: code.number(),
        message,
    }
}
