//! From a frame to an answer: the one place where requests meet verbs.

use std::os::fd::OwnedFd;

use super::Supervisor;
use super::connection::Role;
use super::container::Container;
use super::poller::Key;
use crate::error::{Error, Result};
use crate::info::OWN;
use crate::protocol::{ExecWire, Request, Response};

/// What becomes of a request.
#[derive(Debug)]
pub(super) enum Reply {
    /// Answered now; the connection then plays that part.
    Now {
        /// The answer.
        response: Response,
        /// What the connection is from now on.
        role: Role,
    },
    /// Answered when what it waits for has happened.
    Later,
}

impl From<Response> for Reply {
    fn from(response: Response) -> Self {
        Self::Now {
            response,
            role: Role::Asking,
        }
    }
}

impl Supervisor {
    /// Uses what a client has sent, as far as it is whole and as far as it is the client's turn.
    pub(super) fn serve(&mut self, client: Key) {
        loop {
            let Some(connection) = self.connections.look(client) else {
                return;
            };
            match connection.role {
                _ if connection.gone => return,
                Role::Attached(..) => return self.take_packets(client),
                Role::Subscribed(_) => return self.feed(client),
                Role::Asking if connection.backlog() == 0 => {}
                Role::Asking
                | Role::Waiting
                | Role::Starting(_)
                | Role::Exec(_)
                | Role::Leaving => return,
            }
            match connection.inbox.message::<Request>() {
                Ok(Some(request)) => {
                    let fds = connection.inbox.take_fds().into();
                    self.answer(client, request, fds);
                }
                Ok(None) => return,
                Err(error) => return connection.refuse(error.or_unsupported(OWN)),
            }
        }
    }

    fn answer(&mut self, client: Key, request: Request, fds: Vec<OwnedFd>) {
        let reply = self
            .dispatch(client, request, fds)
            .unwrap_or_else(|error| Response::Failed(error).into());
        match reply {
            Reply::Now { response, role } => {
                self.connections
                    .answer_as(client, &response, Vec::new(), role);
            }
            Reply::Later => {}
        }
    }

    fn dispatch(&mut self, client: Key, request: Request, fds: Vec<OwnedFd>) -> Result<Reply> {
        // Before the verb: a verb that answers at once sets the part back.
        if let Some(connection) = self.connections.get(client) {
            connection.role = Role::Waiting;
        }
        match request {
            Request::SetUp(_) => Err(Error::protocol("the pod stands already")),
            Request::Create(request) => self.create(*request, fds, client),
            Request::Start { id } => self.start(&id, client),
            Request::Signal { id, signal, all } => self.signal(&id, signal, all, client),
            Request::Stop {
                id,
                signal,
                timeout,
            } => self.stop(&id, signal, timeout, client),
            Request::Delete { id, force } => self.delete(&id, force, client),
            Request::Exec { id, request, stdio } => {
                let fds = if stdio == ExecWire::Fds {
                    fds
                } else {
                    Vec::new()
                };
                self.exec(&id, *request, stdio, fds, client)
            }
            Request::Attach { id, options } => self.attach(&id, options, client),
            Request::Wait { id } => self.wait(&id, client),
            Request::Check { id } => self.check(&id, client),
            Request::ReopenLog { id } => self.reopen_log(&id),
            Request::Resize { id, rows, cols } => self.resize(&id, rows, cols),
            Request::Update { id, resources } => self.update(&id, &resources, client),
            Request::Pause { id } => self.pause(&id, client),
            Request::Resume { id } => self.resume(&id, client),
            Request::Freeze { ids, limit } => self.freeze(&ids, limit, client),
            Request::Restore(request) => self.restore(*request, fds, client),
            Request::Dump(request) => self.dump(&request, client),
            Request::Thaw => self.thaw(client),
            Request::Companion(request) => self.begin_companion(*request, client),
            Request::Carry(request) => self.carry(*request),
            Request::Tell { id, became } => self.tell(&id, *became),
            Request::Shutdown => Ok(self.shutdown(Some(client))),
            Request::Subscribe { after } => self.subscribe(after, client),
        }
    }

    /// The key of a container.
    pub(super) fn find(&self, id: &str) -> Result<Key> {
        self.containers
            .iter()
            .find(|(_, container)| container.id() == id)
            .map(|(key, _)| *key)
            .ok_or_else(|| Error::NotFound { id: id.to_owned() })
    }

    /// A container.
    pub(super) fn container(&mut self, id: &str) -> Result<&mut Container> {
        self.containers
            .values_mut()
            .find(|container| container.id() == id)
            .ok_or_else(|| Error::NotFound { id: id.to_owned() })
    }

    /// A client is gone: what hung on it ends, what it waited for goes on.
    pub(super) fn hang_up(&mut self, client: Key) {
        let Some(connection) = self.connections.remove(client) else {
            return;
        };
        self.let_go(client, "its client has left");
        match connection.role {
            Role::Asking | Role::Leaving => {}
            Role::Subscribed(_) => self.events.unsubscribe(client),
            Role::Starting(key) => self.abandon_starting(key),
            Role::Exec(pid) => self.abandon_exec(pid),
            Role::Attached(key, options) => self.detach(client, key, options),
            Role::Waiting => {
                for container in self.containers.values_mut() {
                    container.waiting.retain(|(waiting, _)| *waiting != client);
                }
            }
        }
        self.listen_again();
    }
}
