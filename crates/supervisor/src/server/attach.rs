//! Clients that carry a container's streams: joining, what they send, and leaving.

use rustix::termios::{Winsize, tcsetwinsize};

use super::Supervisor;
use super::connection::Role;
use super::poller::Key;
use super::requests::Reply;
use super::stdin::Fate;
use crate::error::Result;
use crate::protocol::{AttachOptions, Response};
use crate::stream::{self, Kind};

impl Supervisor {
    /// Joins a client to a container's streams.
    pub(super) fn attach(
        &mut self,
        id: &str,
        options: AttachOptions,
        client: Key,
    ) -> Result<Reply> {
        let key = self.find(id)?;
        let container = self.container(id)?;
        if container.is_exited() {
            return Err(container.wrong_state("attach to"));
        }
        container.attached.push(client);
        Ok(Reply::Now {
            response: Response::Done,
            role: Role::Attached(key, options),
        })
    }

    /// Uses the packets that a client has sent.
    pub(super) fn take_packets(&mut self, client: Key) {
        loop {
            let Some(connection) = self.connections.look(client) else {
                return;
            };
            let Role::Attached(key, options) = connection.role else {
                return;
            };
            // What is held up stays in the inbox until the container reads.
            connection.stalled = self
                .containers
                .get(&key)
                .and_then(|container| container.stdin.as_ref())
                .is_some_and(|stdin| options.stdin && stdin.is_full());
            if connection.stalled {
                return;
            }
            let (kind, payload, length) = match stream::parse(connection.inbox.bytes()) {
                Ok(Some((kind, payload, length))) => (kind, payload.to_vec(), length),
                Ok(None) => return,
                Err(_) => {
                    connection.gone = true;
                    return;
                }
            };
            connection.inbox.consume(length);
            match kind {
                Kind::Stdin if options.stdin => self.feed_stdin(key, &payload),
                Kind::StdinEnd if options.stdin => self.end_stdin_once(key),
                Kind::Resize => self.resize_attached(key, &payload),
                Kind::Stdin | Kind::StdinEnd => {}
                Kind::Stdout | Kind::Stderr | Kind::Exit => {
                    if let Some(connection) = self.connections.look(client) {
                        connection.gone = true;
                    }
                    return;
                }
            }
        }
    }

    /// A client that carried a container's streams is gone.
    pub(super) fn detach(&mut self, client: Key, key: Key, options: AttachOptions) {
        let Some(container) = self.containers.get_mut(&key) else {
            return;
        };
        container.attached.retain(|attached| *attached != client);
        if options.stdin {
            self.end_stdin_once(key);
        }
        self.balance(key);
    }

    /// The container reads its stdin again.
    pub(super) fn on_stdin(&mut self, key: Key) {
        let Some(container) = self.containers.get_mut(&key) else {
            return;
        };
        let Some(stdin) = &mut container.stdin else {
            return;
        };
        let ended = stdin.pump(&self.poller) == Fate::Ended;
        if ended {
            container.stdin = None;
        }
        let clients = container.attached.clone();
        if ended {
            self.stdin_ended(key);
        }
        for client in clients {
            // Looked at again after this: it may be listened to again.
            self.connections.get(client);
            self.take_packets(client);
        }
    }

    fn feed_stdin(&mut self, key: Key, bytes: &[u8]) {
        let Some(container) = self.containers.get_mut(&key) else {
            return;
        };
        if let Some(stdin) = &mut container.stdin
            && stdin.push(bytes, &self.poller) == Fate::Ended
        {
            container.stdin = None;
            self.stdin_ended(key);
        }
    }

    /// Ends the container's stdin, if it was to be open for one client only.
    fn end_stdin_once(&mut self, key: Key) {
        let Some(container) = self.containers.get_mut(&key) else {
            return;
        };
        if let Some(stdin) = &mut container.stdin
            && container.stdin_once
            && stdin.end(&self.poller) == Fate::Ended
        {
            container.stdin = None;
            self.stdin_ended(key);
        }
    }

    fn resize_attached(&mut self, key: Key, payload: &[u8]) {
        let Ok([a, b, c, d]) = <[u8; 4]>::try_from(payload) else {
            return;
        };
        let size = Winsize {
            ws_row: u16::from_le_bytes([a, b]),
            ws_col: u16::from_le_bytes([c, d]),
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        if let Some(container) = self
            .containers
            .get(&key)
            .filter(|container| container.terminal)
            && let Some(output) = &container.stdout
        {
            // A terminal that is being closed has no size, and nobody to tell.
            let _ = tcsetwinsize(output.fd(), size);
        }
    }
}
