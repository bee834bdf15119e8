//! The connection to one plugin, on which both sides ask: a thread reads, and whoever asks waits for its own
//! answer. Must never wait without a limit, nor keep more of what a plugin says than it may say at once.

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use prost::Message;
use ttrpc::{Code, Frame, Inbox, Kind, Request, Response, Status, encode, printable};

use crate::mux::{self, Split};

/// The longest question or answer of a plugin, in bytes: what it decodes to is many times as much.
const MAX_SAID: usize = 1 << 20;
/// How much is read at once.
const BUFFER: usize = 64 << 10;
/// How much memory a reading thread may use for its stack, its buffer apart.
const STACK: usize = 256 << 10;

/// What a plugin asks. Called on the reading thread: it must not wait.
pub(crate) trait Service: Send + Sync + 'static {
    /// The answer, or `None` if it is given later by [`Connection::answer`].
    fn asked(&self, stream: u32, request: Request) -> Option<Result<Vec<u8>, Status>>;
    /// The connection has ended.
    fn ended(&self, reason: &str);
}

/// Why a question has no answer.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The plugin answers so.
    Refused(Code, String),
    /// The question is too long to be asked; the connection is as before.
    TooLong(String),
    /// The connection is of no use any more.
    Broken(String),
}

type Answer = Result<Response, String>;

#[derive(Debug, Default)]
struct Waiting {
    /// By stream.
    all: HashMap<u32, SyncSender<Answer>>,
    last: u32,
    /// Why nobody may wait any more.
    ended: Option<String>,
}

/// The connection. It ends when it is told so, when its plugin hangs up or breaks the protocol, and when a
/// question has no answer in time.
#[derive(Debug)]
pub(crate) struct Connection {
    socket: UnixStream,
    writing: Mutex<()>,
    waiting: Mutex<Waiting>,
    limit: Duration,
}

impl Connection {
    /// Takes a socket. `limit` is for each question, and for each answer to be taken.
    ///
    /// # Errors
    /// No thread to be had, or a socket that cannot be set up.
    pub(crate) fn open(
        socket: UnixStream,
        limit: Duration,
        service: Arc<dyn Service>,
    ) -> std::io::Result<Arc<Self>> {
        socket.set_nonblocking(false)?;
        socket.set_write_timeout(Some(limit.max(Duration::from_millis(1))))?;
        let reading = socket.try_clone()?;
        let connection = Arc::new(Self {
            socket,
            writing: Mutex::default(),
            waiting: Mutex::default(),
            limit,
        });
        let own = Arc::clone(&connection);
        std::thread::Builder::new()
            .name("nri-read".to_owned())
            .stack_size(STACK)
            .spawn(move || {
                let reason = own.read(reading, &*service);
                own.end(&reason);
                service.ended(&reason);
            })?;
        Ok(connection)
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has it not ended?
    pub(crate) fn is_open(&self) -> bool {
        self.waiting().ended.is_none()
    }

    /// Hangs up; whoever waits for an answer gets none.
    pub(crate) fn end(&self, reason: &str) {
        let mut waiting = self.waiting();
        waiting.ended.get_or_insert_with(|| reason.to_owned());
        for (_, asker) in waiting.all.drain() {
            // It has given up.
            let _ = asker.try_send(Err(reason.to_owned()));
        }
        drop(waiting);
        // Closed by the plugin already.
        let _ = self.socket.shutdown(Shutdown::Both);
    }

    /// Asks, and waits for the answer until the limit is over; then the connection ends.
    pub(crate) fn ask<A: Message + Default>(
        &self,
        service: &str,
        method: &str,
        question: &impl Message,
    ) -> Result<A, Failure> {
        let until = Instant::now() + self.limit;
        let request = Request {
            service: service.to_owned(),
            method: method.to_owned(),
            payload: question.encode_to_vec(),
            timeout_nano: i64::try_from(self.limit.as_nanos()).unwrap_or(i64::MAX),
            metadata: Vec::new(),
        };
        let (asker, answer) = sync_channel(1);
        let stream = self.register(asker)?;
        let frame = match encode(stream, Kind::Request, &request) {
            Ok(frame) => frame,
            Err(reason) => {
                self.waiting().all.remove(&stream);
                return Err(Failure::TooLong(reason));
            }
        };
        self.write(&mux::pieces(mux::PLUGIN, &frame), until)?;
        let left = until.saturating_duration_since(Instant::now());
        let broken = |reason: String| {
            self.end(&reason);
            Failure::Broken(reason)
        };
        let response = match answer.recv_timeout(left) {
            Ok(Ok(response)) => response,
            Ok(Err(reason)) => return Err(Failure::Broken(reason)),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                return Err(broken(format!("no answer to {method} in {:?}", self.limit)));
            }
        };
        if let Some(status) = response.status.filter(|status| status.code != 0) {
            let code = Code::from_number(status.code);
            return Err(Failure::Refused(code, printable(&status.message)));
        }
        A::decode(&response.payload[..])
            .map_err(|error| broken(format!("no answer to {method}: {error}")))
    }

    fn register(&self, asker: SyncSender<Answer>) -> Result<u32, Failure> {
        let mut waiting = self.waiting();
        if let Some(reason) = &waiting.ended {
            return Err(Failure::Broken(reason.clone()));
        }
        // Clients' streams are odd, and grow.
        let stream = match waiting.last.checked_add(2) {
            _ if waiting.last == 0 => 1,
            Some(next) => next,
            None => return Err(Failure::Broken("it was asked too often".to_owned())),
        };
        waiting.last = stream;
        waiting.all.insert(stream, asker);
        Ok(stream)
    }

    /// Answers what the plugin has asked.
    pub(crate) fn answer(&self, stream: u32, answer: Result<Vec<u8>, Status>) {
        let (status, payload) = match answer {
            Ok(payload) => (None, payload),
            Err(status) => (Some(status), Vec::new()),
        };
        let response = Response { status, payload };
        let written = encode(stream, Kind::Response, &response).map(|frame| {
            let until = Instant::now() + self.limit;
            self.write(&mux::pieces(mux::RUNTIME, &frame), until)
        });
        if let Err(reason) = written {
            self.end(&reason);
        }
    }

    fn write(&self, mut bytes: &[u8], until: Instant) -> Result<(), Failure> {
        let _alone = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut socket = &self.socket;
        while !bytes.is_empty() {
            let reason = match socket.write(bytes) {
                _ if Instant::now() > until => "it does not read".to_owned(),
                Ok(0) => "it has hung up".to_owned(),
                Ok(count) => {
                    bytes = &bytes[count..];
                    continue;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    "it does not read".to_owned()
                }
                Err(error) => error.to_string(),
            };
            // Half a message is none.
            self.end(&reason);
            return Err(Failure::Broken(reason));
        }
        Ok(())
    }

    /// Reads until there is nothing more; why.
    fn read(&self, mut socket: UnixStream, service: &dyn Service) -> String {
        let mut split = Split::default();
        let (mut answers, mut questions) = (Inbox::default(), Inbox::default());
        let mut buffer = vec![0; BUFFER];
        loop {
            let count = match socket.read(&mut buffer) {
                Ok(0) => return "it has hung up".to_owned(),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return error.to_string(),
            };
            let taken = split.take(&buffer[..count], |connection, bytes| match connection {
                mux::PLUGIN => answers.add(bytes),
                mux::RUNTIME => questions.add(bytes),
                // Nobody has opened that one.
                _ => {}
            });
            let dealt = taken
                .and_then(|()| self.deal_answers(&mut answers))
                .and_then(|()| self.deal_questions(&mut questions, service));
            if let Err(reason) = dealt {
                return reason;
            }
        }
    }

    fn deal_answers(&self, inbox: &mut Inbox) -> Result<(), String> {
        while let Some(Frame { stream, kind, body }) = inbox.frame(MAX_SAID)? {
            if kind != Kind::Response {
                return Err("it asks where it is to answer".to_owned());
            }
            let response = Response::decode(&body[..]).map_err(|error| error.to_string())?;
            if let Some(asker) = self.waiting().all.remove(&stream) {
                // It has given up.
                let _ = asker.try_send(Ok(response));
            }
        }
        Ok(())
    }

    fn deal_questions(&self, inbox: &mut Inbox, service: &dyn Service) -> Result<(), String> {
        while let Some(Frame { stream, kind, body }) = inbox.frame(MAX_SAID)? {
            if kind != Kind::Request {
                return Err("it answers where it is to ask".to_owned());
            }
            let request = Request::decode(&body[..]).map_err(|error| error.to_string())?;
            if let Some(answer) = service.asked(stream, request) {
                self.answer(stream, answer);
            }
        }
        Ok(())
    }
}
