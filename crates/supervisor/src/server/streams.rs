//! What containers write: read as it comes, logged, and sent to the clients that are attached.
//! When a client is slow, the container's streams are not read until it has caught up, so that
//! nothing is lost and nothing piles up.

use std::os::fd::{AsFd, OwnedFd};

use rustix::buffer::spare_capacity;
use rustix::io::Errno;

use super::connection::{Connections, Role};
use super::container::Container;
use super::poller::{Interest, Key, Poller, Token};
use super::{Supervisor, diagnose};
use crate::client::Stream;
use crate::stream::Kind;

/// How many bytes may wait for a client before its container is made to wait.
const SLOW: usize = 1 << 20;
/// How much of a stream is read after the end of its container at the most: all that a pipe or a
/// terminal can hold. A child that was left behind and writes on and on must not delay the exit.
const DRAIN: usize = 1 << 20;

/// The supervisor's side of a container's stdout or stderr.
#[derive(Debug)]
pub(super) struct Output {
    fd: OwnedFd,
    token: Token,
    watched: bool,
}

/// What a read brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Got {
    Bytes(usize),
    Nothing,
    End,
}

impl Output {
    /// Over a descriptor that does not wait.
    pub(super) fn new(fd: OwnedFd, token: Token) -> Self {
        Self {
            fd,
            token,
            watched: false,
        }
    }

    /// The descriptor, which may be a terminal's.
    pub(super) fn fd(&self) -> &OwnedFd {
        &self.fd
    }

    /// Begins or ceases to listen.
    pub(super) fn watch(&mut self, wanted: bool, poller: &Poller) {
        if wanted == self.watched {
            return;
        }
        let done = match wanted {
            true => poller.add(self.fd.as_fd(), self.token, Interest::READ),
            false => poller.remove(self.fd.as_fd(), self.token),
        };
        match done {
            Ok(()) => self.watched = wanted,
            Err(error) => diagnose(format_args!("output: {error}")),
        }
    }

    fn read(&self, buffer: &mut Vec<u8>) -> Got {
        loop {
            buffer.clear();
            match rustix::io::read(&self.fd, spare_capacity(buffer)) {
                Ok(0) => return Got::End,
                Ok(count) => return Got::Bytes(count),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Got::Nothing,
                // EIO is how a terminal says that nobody has its other side open.
                Err(_) => return Got::End,
            }
        }
    }
}

impl Supervisor {
    /// A container has written something, or will write no more.
    pub(super) fn on_output(&mut self, key: Key, stream: Stream) {
        let Some(container) = self.containers.get_mut(&key) else {
            return;
        };
        read_once(
            container,
            stream,
            &mut self.buffer,
            &mut self.connections,
            &self.poller,
        );
        self.balance(key);
        self.settle_shim_container(key);
    }

    /// Reads what a container that has ended left in its streams.
    pub(super) fn drain(&mut self, key: Key) {
        let Some(container) = self.containers.get_mut(&key) else {
            return;
        };
        for stream in [Stream::Stdout, Stream::Stderr] {
            let mut total = 0;
            while total < DRAIN {
                match read_once(
                    container,
                    stream,
                    &mut self.buffer,
                    &mut self.connections,
                    &self.poller,
                ) {
                    Got::Bytes(count) => total += count,
                    Got::Nothing | Got::End => break,
                }
            }
        }
    }

    /// Lets a container's streams flow, or holds them up while a client is behind.
    pub(super) fn balance(&mut self, key: Key) {
        let Some(container) = self.containers.get_mut(&key) else {
            return;
        };
        let most = container
            .attached
            .iter()
            .map(|client| self.connections.backlog(*client))
            .max()
            .unwrap_or(0);
        let flowing = container
            .stdout
            .iter()
            .chain(&container.stderr)
            .any(|output| output.watched);
        // Once held up, it stays so until half of the backlog is gone: no flutter.
        let flow = most <= if flowing { SLOW } else { SLOW / 2 };
        for output in container.stdout.iter_mut().chain(&mut container.stderr) {
            output.watch(flow, &self.poller);
        }
    }
}

fn read_once(
    container: &mut Container,
    stream: Stream,
    buffer: &mut Vec<u8>,
    connections: &mut Connections,
    poller: &Poller,
) -> Got {
    let Some(output) = container.output(stream) else {
        return Got::End;
    };
    let got = output.read(buffer);
    match got {
        Got::Bytes(_) => deliver(container, stream, buffer, connections),
        Got::Nothing => {}
        Got::End => {
            output.watch(false, poller);
            *container.output(stream) = None;
            if let Some(log) = &mut container.log {
                log.end(stream);
            }
            close_log_after_last(container);
        }
    }
    got
}

fn deliver(container: &mut Container, stream: Stream, bytes: &[u8], connections: &mut Connections) {
    if let Some(log) = &mut container.log {
        log.append(stream, bytes);
        let news = log.news();
        container.note_log_loss(news);
    }
    let kind = match stream {
        Stream::Stdout => Kind::Stdout,
        Stream::Stderr => Kind::Stderr,
    };
    for client in &container.attached {
        let Some(connection) = connections.get(*client) else {
            continue;
        };
        if let Role::Attached(_, options) = connection.role {
            let wanted = match stream {
                Stream::Stdout => options.stdout,
                Stream::Stderr => options.stderr,
            };
            if wanted {
                connection.packet(kind, bytes);
            }
        }
    }
}

/// The log of a container that has ended is closed when nobody can write to it any longer.
pub(super) fn close_log_after_last(container: &mut Container) {
    if container.is_exited() && container.stdout.is_none() && container.stderr.is_none() {
        let last = container.log.take().map(|mut log| {
            log.finish();
            log.loss()
        });
        container.note_log_loss(last);
    }
}
