//! One question to a shim on a connection of its own: connect, send, receive the one answer. A
//! connection that is dropped cancels the call in the shim, and a shim that answers something else
//! harms no other call. The steps never block; [`Shim::ask`] drives them from a thread and
//! [`Shim::ask_async`] from an event loop, both with the question's limit.

use std::io::{ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use prost::Message;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use tokio::io::Interest;
use ttrpc::{Code, Inbox, KeyValue, Kind, MAX_FRAME, Request, Response, encode, printable};

use crate::Shim;
use crate::error::{Error, Result};

/// A client's streams have odd numbers.
const STREAM: u32 = 1;
/// Pause before the next try to connect to a shim whose queue is full.
const RETRY: Duration = Duration::from_millis(20);

/// A question to a shim, and how its answer is read.
#[must_use = "a question does nothing until it is asked"]
pub struct Ask<T> {
    pub(crate) verb: &'static str,
    pub(crate) id: String,
    pub(crate) service: String,
    pub(crate) method: &'static str,
    pub(crate) payload: Vec<u8>,
    /// How long its answer may take; `None` for ever.
    pub(crate) limit: Option<Duration>,
    pub(crate) read: Reader<T>,
}

/// Checks an answer; the error is in words.
pub(crate) type Reader<T> = Box<dyn FnOnce(&[u8]) -> Result<T, String> + Send + Sync>;

impl<T> std::fmt::Debug for Ask<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { verb, id, .. } = self;
        f.debug_struct("Ask")
            .field("verb", verb)
            .field("id", id)
            .finish_non_exhaustive()
    }
}

impl<T> Ask<T> {
    /// The same question with another limit; `None` waits for as long as it takes.
    pub fn within(self, limit: Option<Duration>) -> Self {
        Self { limit, ..self }
    }

    fn gone(&self, address: &Path) -> Error {
        Error::Gone {
            verb: self.verb,
            id: self.id.clone(),
            address: address.to_owned(),
        }
    }

    fn silent(&self, address: &Path, limit: Duration) -> Error {
        Error::Silent {
            verb: self.verb,
            id: self.id.clone(),
            address: address.to_owned(),
            limit,
        }
    }

    fn protocol(&self, address: &Path, reason: String) -> Error {
        Error::Protocol {
            verb: self.verb,
            id: self.id.clone(),
            address: address.to_owned(),
            reason,
        }
    }

    /// The question as it is sent, for who asks it without this crate. Its answer is a frame too, of
    /// which `proto/` tells.
    ///
    /// # Errors
    /// A question that is too long for the protocol.
    pub fn frame(&self, shim: &Shim) -> Result<Vec<u8>> {
        self.encode(shim.namespace())
    }

    /// The question as a frame. The shim ends its work at the limit too, if there is one.
    fn encode(&self, namespace: &str) -> Result<Vec<u8>> {
        let timeout = self.limit.map_or(0, |limit| limit.as_nanos());
        let request = Request {
            service: self.service.clone(),
            method: self.method.to_owned(),
            payload: self.payload.clone(),
            timeout_nano: i64::try_from(timeout).unwrap_or(i64::MAX),
            metadata: vec![KeyValue {
                key: "containerd-namespace-ttrpc".to_owned(),
                value: namespace.to_owned(),
            }],
        };
        encode(STREAM, Kind::Request, &request).map_err(|reason| Error::Request {
            verb: self.verb,
            id: self.id.clone(),
            reason,
        })
    }

    /// Reads the outcome.
    fn finish(self, address: &Path, body: &[u8]) -> Result<T> {
        let response = Response::decode(body)
            .map_err(|error| self.protocol(address, format!("no answer: {error}")))?;
        if let Some(status) = response.status.filter(|status| status.code != 0) {
            return Err(Error::Refused {
                verb: self.verb,
                id: self.id,
                code: Code::from_number(status.code),
                message: printable(&status.message),
            });
        }
        let Self { verb, id, read, .. } = self;
        read(&response.payload).map_err(|reason| Error::Protocol {
            verb,
            id,
            address: address.to_owned(),
            reason,
        })
    }
}

/// A call under way.
struct Call {
    request: Vec<u8>,
    sent: usize,
    inbox: Inbox,
}

/// What a step found.
enum Step {
    /// The answer's body.
    Done(Vec<u8>),
    /// Try again when there is room, or when there is news.
    Wait(PollFlags),
}

impl Call {
    /// Does what can be done now.
    fn step<T>(&mut self, mut socket: &UnixStream, ask: &Ask<T>, address: &Path) -> Result<Step> {
        while self.sent < self.request.len() {
            match socket.write(&self.request[self.sent..]) {
                Ok(0) => return Err(ask.gone(address)),
                Ok(count) => self.sent += count,
                Err(error) => match error.kind() {
                    ErrorKind::Interrupted => {}
                    ErrorKind::WouldBlock => return Ok(Step::Wait(PollFlags::OUT)),
                    _ => return Err(ask.lost(address, error)),
                },
            }
        }
        loop {
            let frame = self.inbox.frame(MAX_FRAME);
            if let Some(frame) = frame.map_err(|reason| ask.protocol(address, reason))? {
                if frame.stream != STREAM || frame.kind != Kind::Response {
                    let reason = format!("a frame of stream {} was not asked for", frame.stream);
                    return Err(ask.protocol(address, reason));
                }
                return Ok(Step::Done(frame.body));
            }
            match self.inbox.receive(socket) {
                Ok(0) => return Err(ask.gone(address)),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    return Ok(Step::Wait(PollFlags::IN));
                }
                Err(error) => return Err(ask.lost(address, error)),
            }
        }
    }
}

impl<T> Ask<T> {
    fn lost(&self, address: &Path, source: std::io::Error) -> Error {
        match source.kind() {
            ErrorKind::BrokenPipe
            | ErrorKind::ConnectionReset
            | ErrorKind::ConnectionRefused
            | ErrorKind::ConnectionAborted
            | ErrorKind::NotFound => self.gone(address),
            _ => Error::io("talk to the shim at", address)(source),
        }
    }

    /// Connects without waiting; `None` if the shim has no room for a client now. Who listens must
    /// be who we are: a socket's path may lie where others can write.
    fn connect(&self, address: &Path) -> Result<Option<UnixStream>> {
        let lost = |error: rustix::io::Errno| self.lost(address, error.into());
        let to = SocketAddrUnix::new(address).map_err(lost)?;
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket =
            socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).map_err(lost)?;
        match connect(&socket, &to) {
            Ok(()) => {}
            Err(rustix::io::Errno::AGAIN) => return Ok(None),
            Err(error) => return Err(lost(error)),
        }
        let peer = rustix::net::sockopt::socket_peercred(&socket).map_err(lost)?;
        if peer.uid != rustix::process::geteuid() {
            let reason = format!("user {} listens there", peer.uid.as_raw());
            return Err(self.protocol(address, reason));
        }
        Ok(Some(UnixStream::from(socket)))
    }
}

impl Shim {
    /// Asks, and blocks until the answer has come or the question's limit is over.
    ///
    /// # Errors
    /// What the shim answers as an error, [`Error::Silent`] at the limit, [`Error::Gone`] if the
    /// shim is dead, [`Error::Protocol`] if it lies.
    pub fn ask<T>(&self, ask: Ask<T>) -> Result<T> {
        let address = self.address();
        let request = ask.encode(self.namespace())?;
        let until = ask
            .limit
            .and_then(|limit| Instant::now().checked_add(limit));
        let late = || ask.silent(address, ask.limit.unwrap_or_default());
        let left = || match until.map(|until| until.checked_duration_since(Instant::now())) {
            Some(None) => Err(late()),
            Some(left) => Ok(left),
            None => Ok(None),
        };
        let socket = loop {
            if let Some(socket) = ask.connect(address)? {
                break socket;
            }
            std::thread::sleep(left()?.map_or(RETRY, |left| left.min(RETRY)));
        };
        let mut call = Call::new(request);
        let body = loop {
            match call.step(&socket, &ask, address)? {
                Step::Done(body) => break body,
                Step::Wait(news) => {
                    let left = left()?.map(|left| Timespec::try_from(left).unwrap_or(LONG));
                    let mut fds = [PollFd::new(&socket, news)];
                    match poll(&mut fds, left.as_ref()) {
                        Ok(_) | Err(rustix::io::Errno::INTR) => {}
                        Err(error) => return Err(ask.lost(address, error.into())),
                    }
                }
            }
        };
        ask.finish(address, &body)
    }

    /// Asks without a thread that waits: for what may take as long as a process lives. Dropping the
    /// future hangs up, which ends the call.
    ///
    /// # Errors
    /// As [`Shim::ask`].
    pub async fn ask_async<T>(&self, ask: Ask<T>) -> Result<T> {
        let address = self.address();
        let request = ask.encode(self.namespace())?;
        let exchange = exchange(address, &ask, request);
        let body = match ask.limit {
            None => exchange.await?,
            Some(limit) => match tokio::time::timeout(limit, exchange).await {
                Ok(body) => body?,
                Err(_) => return Err(ask.silent(address, limit)),
            },
        };
        ask.finish(address, &body)
    }
}

/// As good as for ever, where a time is too long for poll(2).
const LONG: Timespec = Timespec {
    tv_sec: 1 << 31,
    tv_nsec: 0,
};

async fn exchange<T>(address: &Path, ask: &Ask<T>, request: Vec<u8>) -> Result<Vec<u8>> {
    let socket = loop {
        if let Some(socket) = ask.connect(address)? {
            break socket;
        }
        tokio::time::sleep(RETRY).await;
    };
    let watched = socket
        .try_clone()
        .and_then(tokio::net::UnixStream::from_std)
        .map_err(Error::io("watch", address))?;
    let mut call = Call::new(request);
    loop {
        let news = match call.step(&socket, ask, address)? {
            Step::Done(body) => return Ok(body),
            Step::Wait(PollFlags::OUT) => Interest::WRITABLE,
            Step::Wait(_) => Interest::READABLE,
        };
        let ready = watched.ready(news).await;
        ready.map_err(Error::io("watch", address))?;
        // Nothing was there a moment ago: whatever comes from now on is news.
        let _ = watched.try_io(news, || Err::<(), _>(ErrorKind::WouldBlock.into()));
    }
}

impl Call {
    fn new(request: Vec<u8>) -> Self {
        Self {
            request,
            sent: 0,
            inbox: Inbox::default(),
        }
    }
}
