//! A plugin of the Node Resource Interface, hand-made from the protocol: what it answers is the test's to say.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use ::nri::api::{
    ConfigureResponse, RegisterPluginRequest, SynchronizeRequest, SynchronizeResponse,
    UpdateContainersRequest, UpdateContainersResponse,
};
use prost::Message;
use ttrpc::{Inbox, Kind, Request, Response, Status, encode};

use crate::Error;

/// Where the plugin is asked.
const PLUGIN: u32 = 1;
/// Where the runtime is.
const RUNTIME: u32 = 2;
/// The runtime's service.
const SERVICE: &str = "nri.pkg.api.v1alpha1.Runtime";
/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a plugin answers.
#[derive(Debug, Clone)]
pub enum Answer {
    /// An encoded message.
    Message(Vec<u8>),
    /// A gRPC code and words.
    Refusal(i32, String),
    /// Nothing, ever.
    Silence,
    /// These bytes in place of an answer's frame.
    Bytes(Vec<u8>),
}

impl Answer {
    /// The message.
    #[must_use]
    pub fn of(message: &impl Message) -> Self {
        Self::Message(message.encode_to_vec())
    }

    /// Nothing to say.
    #[must_use]
    pub fn nothing() -> Self {
        Self::Message(Vec::new())
    }
}

/// A call that came: its method and its message.
#[derive(Debug, Clone)]
pub struct Call {
    /// The method's name.
    pub method: String,
    /// What it was asked with.
    pub payload: Vec<u8>,
}

impl Call {
    /// What it was asked with.
    ///
    /// # Panics
    /// It is no such message.
    #[must_use]
    pub fn message<M: Message + Default>(&self) -> M {
        M::decode(&self.payload[..]).expect("a message of that kind")
    }
}

#[derive(Debug, Default)]
struct Seen {
    calls: Mutex<(Vec<Call>, bool)>,
    changed: Condvar,
}

/// A plugin that has connected; it hangs up when dropped.
#[derive(Debug)]
pub struct Plugin {
    socket: UnixStream,
    seen: Arc<Seen>,
    answers: Receiver<Response>,
    last: u32,
}

/// Says what is answered to a call; `None`: as a plugin does that wants nothing.
pub type Answers = dyn FnMut(&Call) -> Option<Answer> + Send;

impl Plugin {
    /// Connects and registers; a plugin of that index and name, subscribed to events (0: all).
    ///
    /// # Errors
    /// A socket where nobody listens.
    pub fn connect(
        path: &Path,
        (index, name, events): (&str, &str, i32),
        answers: Box<Answers>,
    ) -> Result<Self, Error> {
        Self::over(UnixStream::connect(path)?, (index, name, events), answers)
    }

    /// As [`Plugin::connect`], on a socket that is there.
    ///
    /// # Errors
    /// A socket that is closed.
    pub fn over(
        socket: UnixStream,
        (index, name, events): (&str, &str, i32),
        answers: Box<Answers>,
    ) -> Result<Self, Error> {
        let seen = Arc::new(Seen::default());
        let (give, taken) = channel();
        let serving = Serving {
            socket: socket.try_clone()?,
            seen: Arc::clone(&seen),
            give,
            answers,
            events,
        };
        std::thread::spawn(move || serving.run());
        let mut plugin = Self {
            socket,
            seen,
            answers: taken,
            last: 0,
        };
        let register = RegisterPluginRequest {
            plugin_name: name.to_owned(),
            plugin_idx: index.to_owned(),
            nri_version: "test".to_owned(),
        };
        plugin.ask("RegisterPlugin", &register)?;
        Ok(plugin)
    }

    /// Asks the runtime; its answer is read by [`Plugin::answer`].
    ///
    /// # Errors
    /// A connection that has ended.
    pub fn ask(&mut self, method: &str, question: &impl Message) -> Result<(), Error> {
        self.last = if self.last == 0 { 1 } else { self.last + 2 };
        let frame = encode(self.last, Kind::Request, &request(method, question))?;
        self.write(RUNTIME, &frame)
    }

    /// Writes a piece of a connection, whatever is in it.
    ///
    /// # Errors
    /// A connection that has ended.
    pub fn write(&self, connection: u32, bytes: &[u8]) -> Result<(), Error> {
        Ok((&self.socket).write_all(&piece(connection, bytes))?)
    }

    /// The runtime's next answer.
    ///
    /// # Errors
    /// None has come in time.
    pub fn answer(&self) -> Result<Response, Error> {
        Ok(self.answers.recv_timeout(PATIENCE)?)
    }

    /// Asks for updates and evictions, unasked; what could not be done.
    ///
    /// # Errors
    /// A refusal, or no answer.
    pub fn update(
        &mut self,
        wish: &UpdateContainersRequest,
    ) -> Result<UpdateContainersResponse, Error> {
        // Those of before, such as the registration's.
        while self.answers.try_recv().is_ok() {}
        self.ask("UpdateContainers", wish)?;
        let response = self.answer()?;
        match response.status {
            Some(status) => Err(format!("{}: {}", status.code, status.message).into()),
            None => Ok(UpdateContainersResponse::decode(&response.payload[..])?),
        }
    }

    /// All calls that have come.
    #[must_use]
    pub fn calls(&self) -> Vec<Call> {
        let calls = self.seen.calls.lock();
        calls.unwrap_or_else(PoisonError::into_inner).0.clone()
    }

    /// Their methods, in order.
    #[must_use]
    pub fn methods(&self) -> Vec<String> {
        self.calls().into_iter().map(|call| call.method).collect()
    }

    /// The first call of a method; waits for it.
    ///
    /// # Errors
    /// It has not come in time, or never will.
    pub fn wait(&self, method: &str) -> Result<Call, Error> {
        self.wait_for(|calls| calls.iter().find(|call| call.method == method).cloned())
            .ok_or_else(|| format!("no {method} in {:?}", self.methods()).into())
    }

    /// Waits until the runtime hangs up.
    ///
    /// # Errors
    /// It does not.
    pub fn wait_for_end(&self) -> Result<(), Error> {
        let calls = self
            .seen
            .calls
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let changed = &self.seen.changed;
        let waited = changed.wait_timeout_while(calls, PATIENCE, |(_, ended)| !*ended);
        match waited.unwrap_or_else(PoisonError::into_inner).1.timed_out() {
            true => Err("the runtime keeps the connection".into()),
            false => Ok(()),
        }
    }

    fn wait_for<T>(&self, find: impl Fn(&[Call]) -> Option<T>) -> Option<T> {
        let calls = self
            .seen
            .calls
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let changed = &self.seen.changed;
        let not_yet = |(calls, ended): &mut (Vec<Call>, bool)| find(calls).is_none() && !*ended;
        let waited = changed.wait_timeout_while(calls, PATIENCE, not_yet);
        let (calls, _) = waited.unwrap_or_else(PoisonError::into_inner);
        find(&calls.0)
    }
}

impl Drop for Plugin {
    fn drop(&mut self) {
        // Closed by the runtime already.
        let _ = self.socket.shutdown(std::net::Shutdown::Both);
    }
}

/// A question to the runtime, as it is sent: what a plugin says that does not read.
///
/// # Panics
/// It is longer than the protocol allows.
#[must_use]
pub fn question(method: &str, question: &impl Message) -> Vec<u8> {
    let frame = encode(1, Kind::Request, &request(method, question));
    piece(RUNTIME, &frame.expect("a short question"))
}

fn request(method: &str, question: &impl Message) -> Request {
    Request {
        service: SERVICE.to_owned(),
        method: method.to_owned(),
        payload: question.encode_to_vec(),
        timeout_nano: 0,
        metadata: Vec::new(),
    }
}

fn piece(connection: u32, bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    [&connection.to_be_bytes()[..], &length.to_be_bytes(), bytes].concat()
}

struct Serving {
    socket: UnixStream,
    seen: Arc<Seen>,
    give: Sender<Response>,
    answers: Box<Answers>,
    events: i32,
}

impl Serving {
    fn run(mut self) {
        // The test sees the end of the connection.
        let _ = self.serve();
        self.note(|(_, ended)| *ended = true);
    }

    fn note(&self, note: impl FnOnce(&mut (Vec<Call>, bool))) {
        note(
            &mut self
                .seen
                .calls
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        );
        self.seen.changed.notify_all();
    }

    fn serve(&mut self) -> Result<(), Error> {
        let (mut asked, mut answered) = (Inbox::default(), Inbox::default());
        loop {
            let mut header = [0; 8];
            self.socket.read_exact(&mut header)?;
            let [a, b, c, d, e, f, g, h] = header;
            let mut bytes = vec![0; u32::from_be_bytes([e, f, g, h]) as usize];
            self.socket.read_exact(&mut bytes)?;
            match u32::from_be_bytes([a, b, c, d]) {
                PLUGIN => asked.add(&bytes),
                _ => answered.add(&bytes),
            }
            while let Some(frame) = asked.frame(ttrpc::MAX_FRAME)? {
                let request = Request::decode(&frame.body[..])?;
                let call = Call {
                    method: request.method,
                    payload: request.payload,
                };
                self.note(|(calls, _)| calls.push(call.clone()));
                let answer = (self.answers)(&call).unwrap_or_else(|| usual(&call, self.events));
                self.say(frame.stream, answer)?;
            }
            while let Some(frame) = answered.frame(ttrpc::MAX_FRAME)? {
                // The test may not wait for it.
                let _ = self.give.send(Response::decode(&frame.body[..])?);
            }
        }
    }

    fn say(&mut self, stream: u32, answer: Answer) -> Result<(), Error> {
        let response = match answer {
            Answer::Silence => return Ok(()),
            Answer::Bytes(bytes) => return Ok(self.socket.write_all(&bytes)?),
            Answer::Message(payload) => Response {
                status: None,
                payload,
            },
            Answer::Refusal(code, message) => Response {
                status: Some(Status { code, message }),
                payload: Vec::new(),
            },
        };
        let frame = encode(stream, Kind::Response, &response)?;
        Ok(self.socket.write_all(&piece(PLUGIN, &frame))?)
    }
}

fn usual(call: &Call, events: i32) -> Answer {
    match call.method.as_str() {
        "Configure" => Answer::of(&ConfigureResponse { events }),
        "Synchronize" => Answer::of(&SynchronizeResponse {
            update: Vec::new(),
            more: call.message::<SynchronizeRequest>().more,
        }),
        _ => Answer::nothing(),
    }
}
