//! Asking a pod's supervisor without a thread that waits: for what may take as long as a container
//! or a command lives. Connecting and sending have a limit; waiting for the answer has the one that
//! its caller gives. Must never take silence for news: it is an error and changes nothing.
//!
//! A supervisor takes 512 clients. The engine gives each pod a part of them for commands and a part
//! for the rest, so that a pod full of hung commands can still be stopped, and refuses what is over.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use supervisor::protocol::{Request, Response};
use supervisor::{ANSWER_LIMIT, Call, Error as Failure};
use tokio::io::Interest;
use tokio::net::UnixStream;

use crate::error::{Error, Result};

/// Pause before the next try to connect to a supervisor whose queue is full.
const RETRY: Duration = Duration::from_millis(50);

/// What a call is for, as far as its pod's share of connections goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Purpose {
    /// A command in a container.
    Command,
    /// Start and stop.
    Life,
}

impl Purpose {
    /// How many such calls of one pod may be under way.
    fn share(self) -> usize {
        match self {
            Self::Command => 320,
            Self::Life => 160,
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::Command => "commands",
            Self::Life => "starts and stops",
        }
    }
}

/// How many calls of each pod are under way.
#[derive(Debug, Clone, Default)]
pub(crate) struct Calls {
    counts: Arc<Mutex<HashMap<(String, Purpose), usize>>>,
}

/// A call's place; given back when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    calls: Calls,
    key: (String, Purpose),
}

impl Calls {
    /// A place for one more call of the pod.
    ///
    /// # Errors
    /// [`Error::Busy`].
    pub(crate) fn take(&self, pod: &str, purpose: Purpose) -> Result<Place> {
        let key = (pod.to_owned(), purpose);
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(key.clone()).or_default();
        if *count >= purpose.share() {
            return Err(Error::Busy {
                pod: pod.to_owned(),
                count: *count,
                what: purpose.words(),
            });
        }
        *count += 1;
        drop(counts);
        Ok(Place {
            calls: self.clone(),
            key,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let counts = &self.calls.counts;
        let mut counts = counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.key);
            }
        }
    }
}

/// A request that the supervisor has taken.
#[derive(Debug)]
pub(crate) struct Asked {
    call: Call,
    socket: UnixStream,
    _place: Place,
}

/// Connects and sends, within [`ANSWER_LIMIT`].
pub(crate) async fn ask(
    dir: &Path,
    request: &Request,
    fds: Vec<OwnedFd>,
    place: Place,
) -> Result<Asked, Failure> {
    let begin = async {
        let (mut call, socket) = connect(dir).await?;
        call.ask(request, fds)?;
        let sent = drive(&socket, Interest::WRITABLE, dir, || {
            call.send(&socket).map(|all| all.then_some(()))
        });
        sent.await?;
        Ok(Asked {
            call,
            socket,
            _place: place,
        })
    };
    match tokio::time::timeout(ANSWER_LIMIT, begin).await {
        Ok(asked) => asked,
        Err(_) => Err(Failure::silent(dir, ANSWER_LIMIT)),
    }
}

async fn connect(dir: &Path) -> Result<(Call, UnixStream), Failure> {
    loop {
        if let Some((call, socket)) = Call::connect(dir)? {
            let socket = UnixStream::from_std(socket).map_err(|error| unwatched(dir, error))?;
            return Ok((call, socket));
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// Tries `step` until it has something, each time that the socket has news.
async fn drive<T>(
    socket: &UnixStream,
    interest: Interest,
    dir: &Path,
    mut step: impl FnMut() -> Result<Option<T>, Failure>,
) -> Result<T, Failure> {
    loop {
        let ready = socket.ready(interest).await;
        ready.map_err(|error| unwatched(dir, error))?;
        let tried = socket.try_io(interest, || match step() {
            Ok(None) => Err(std::io::ErrorKind::WouldBlock.into()),
            other => Ok(other),
        });
        match tried {
            Ok(Ok(Some(done))) => return Ok(done),
            Ok(Ok(None)) => {}
            Ok(Err(error)) => return Err(error),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(unwatched(dir, error)),
        }
    }
}

impl Asked {
    /// The next answer; `None` waits for it as long as it takes.
    pub(crate) async fn answer(&mut self, limit: Option<Duration>) -> Result<Response, Failure> {
        let Self { call, socket, .. } = self;
        let dir = call.dir().to_owned();
        let answer = drive(socket, Interest::READABLE, &dir, || call.receive(socket));
        let Some(limit) = limit else {
            return answer.await;
        };
        match tokio::time::timeout(limit, answer).await {
            Ok(answer) => answer,
            Err(_) => Err(Failure::silent(&dir, limit)),
        }
    }
}

fn unwatched(dir: &Path, source: std::io::Error) -> Failure {
    Failure::Io {
        operation: "watch the connection to the supervisor of".to_owned(),
        path: dir.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_full_of_commands_can_still_be_stopped() {
        let calls = Calls::default();
        let taken: Vec<Place> = (0..Purpose::Command.share())
            .map(|_| calls.take("p", Purpose::Command).unwrap())
            .collect();
        let refused = calls.take("p", Purpose::Command).unwrap_err();
        assert_eq!(refused.kind(), crate::Kind::ResourceExhausted);
        calls.take("p", Purpose::Life).unwrap();
        calls.take("q", Purpose::Command).unwrap();
        drop(taken);
        assert!(calls.counts.lock().unwrap().is_empty());
        calls.take("p", Purpose::Command).unwrap();
    }
}
