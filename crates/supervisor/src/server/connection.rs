//! One client's connection: what has come and is not yet used, what is to be sent and found no
//! room yet, and the part it plays. Never waits for the client, and never forgets what it sends.

use std::collections::BTreeMap;
use std::io::{ErrorKind, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use serde::Serialize;

use super::diagnose;
use super::poller::{Interest, Key};
use crate::error::Error;
use crate::frame::{Inbox, encode, send};
use crate::protocol::{AttachOptions, Response};
use crate::stream::{self, Kind};

/// The part a connection plays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// It asks; one thing at a time.
    Asking,
    /// It waits for the answer.
    Waiting,
    /// A command that is being started hangs on it.
    Starting(Key),
    /// The life of an exec'd command, with that pid, hangs on it.
    Exec(i32),
    /// It carries the streams of a container.
    Attached(Key, AttachOptions),
    /// It is told of what happens; the number of the event that comes next.
    Subscribed(u64),
    /// It is closed as soon as everything is sent.
    Leaving,
}

/// A client.
#[derive(Debug)]
pub(super) struct Connection {
    socket: OwnedFd,
    pub(super) inbox: Inbox,
    outbox: Vec<u8>,
    sent: usize,
    fds: Vec<OwnedFd>,
    pub(super) role: Role,
    /// The other side is gone, or does not deserve to be listened to any longer.
    pub(super) gone: bool,
    /// Its container takes no more stdin for now.
    pub(super) stalled: bool,
    /// What is waited for now.
    pub(super) watching: Interest,
}

impl Connection {
    pub(super) fn new(socket: OwnedFd) -> Self {
        Self {
            socket,
            inbox: Inbox::default(),
            outbox: Vec::new(),
            sent: 0,
            fds: Vec::new(),
            role: Role::Asking,
            gone: false,
            stalled: false,
            watching: Interest::READ,
        }
    }

    /// What should be waited for.
    pub(super) fn interest(&self) -> Interest {
        let read = match self.role {
            Role::Asking => self.outbox.is_empty(),
            Role::Attached(..) => !self.stalled,
            Role::Waiting
            | Role::Starting(_)
            | Role::Exec(_)
            | Role::Subscribed(_)
            | Role::Leaving => false,
        };
        Interest {
            read,
            write: !self.outbox.is_empty(),
        }
    }

    /// Receives once; `buffer` is for an attached client, whose packets are many and long.
    pub(super) fn receive(&mut self, buffer: &mut Vec<u8>) {
        let received = match self.role {
            Role::Attached(..) => self.inbox.receive_packets(self.socket.as_fd(), buffer),
            _ => self.inbox.receive(self.socket.as_fd(), &mut [0; 4096]),
        };
        match received {
            Ok(0) => self.gone = true,
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) if error.kind() == ErrorKind::InvalidData => {
                self.refuse(Error::protocol(error.to_string()))
            }
            Err(_) => self.gone = true,
        }
    }

    /// How many bytes wait for room.
    pub(super) fn backlog(&self) -> usize {
        self.outbox.len() - self.sent
    }

    /// Sends what has waited.
    pub(super) fn flush(&mut self) {
        while self.sent < self.outbox.len() && !self.gone {
            let fds: Vec<BorrowedFd<'_>> = self.fds.iter().map(AsFd::as_fd).collect();
            match send(
                &self.socket,
                &[IoSlice::new(&self.outbox[self.sent..])],
                &fds,
            ) {
                Ok(count) => {
                    self.sent += count;
                    self.fds.clear();
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => self.gone = true,
            }
        }
        self.outbox = Vec::new();
        self.sent = 0;
    }

    /// Sends now what there is room for, and keeps the rest.
    fn push(&mut self, parts: [&[u8]; 2]) {
        if self.gone {
            return;
        }
        let mut sent = 0;
        if self.outbox.is_empty() {
            match send(&self.socket, &parts.map(IoSlice::new), &[]) {
                Ok(count) => sent = count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => {
                    self.gone = true;
                    return;
                }
            }
        } else if self.sent > self.outbox.len() / 2 {
            self.outbox.drain(..self.sent);
            self.sent = 0;
        }
        for part in parts {
            let skip = sent.min(part.len());
            self.outbox.extend_from_slice(&part[skip..]);
            sent -= skip;
        }
    }

    /// Sends a frame with descriptors. Called only when nothing waits to be sent: a client gets
    /// its next answer when it has taken the last.
    fn push_frame(&mut self, message: &impl Serialize, fds: Vec<OwnedFd>) {
        match encode(message) {
            Ok(bytes) if self.outbox.is_empty() => {
                self.outbox = bytes;
                self.fds = fds;
                self.flush();
            }
            Ok(bytes) => self.push([&bytes, &[]]),
            Err(error) => {
                diagnose(format_args!("answer not sent: {error}"));
                self.gone = true;
            }
        }
    }

    /// Sends a frame that is made already.
    pub(super) fn frame(&mut self, frame: &[u8]) {
        self.push([frame, &[]]);
    }

    /// Sends a packet of an attached container.
    pub(super) fn packet(&mut self, kind: Kind, payload: &[u8]) {
        self.push([&stream::header(kind, payload.len()), payload]);
    }

    /// Says what is wrong with the client, and ends the connection.
    pub(super) fn refuse(&mut self, error: Error) {
        self.push_frame(&Response::Failed(error), Vec::new());
        self.role = Role::Leaving;
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// All connections, and which of them have changed and need a second look ([`Connections::touched`]).
#[derive(Debug, Default)]
pub(super) struct Connections {
    all: BTreeMap<Key, Connection>,
    touched: Vec<Key>,
}

impl Connections {
    pub(super) fn insert(&mut self, key: Key, connection: Connection) {
        self.all.insert(key, connection);
    }

    pub(super) fn remove(&mut self, key: Key) -> Option<Connection> {
        self.all.remove(&key)
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// A connection, to look at it or to take from its inbox.
    pub(super) fn look(&mut self, key: Key) -> Option<&mut Connection> {
        self.all.get_mut(&key)
    }

    /// A connection, to change it: it will be looked at again.
    pub(super) fn get(&mut self, key: Key) -> Option<&mut Connection> {
        let connection = self.all.get_mut(&key)?;
        if self.touched.last() != Some(&key) {
            self.touched.push(key);
        }
        Some(connection)
    }

    /// A connection that has changed.
    pub(super) fn touched(&mut self) -> Option<Key> {
        self.touched.pop()
    }

    /// How many bytes wait to be sent to a client.
    pub(super) fn backlog(&self, key: Key) -> usize {
        self.all.get(&key).map_or(0, Connection::backlog)
    }

    /// Answers a request; the client may ask again. A client that is gone is fine.
    pub(super) fn answer(&mut self, key: Key, response: &Response, fds: Vec<OwnedFd>) {
        self.answer_as(key, response, fds, Role::Asking);
    }

    /// The same; the connection then plays that part.
    pub(super) fn answer_as(
        &mut self,
        key: Key,
        response: &Response,
        fds: Vec<OwnedFd>,
        role: Role,
    ) {
        if let Some(connection) = self.get(key) {
            connection.role = role;
            connection.push_frame(response, fds);
        }
    }
}
