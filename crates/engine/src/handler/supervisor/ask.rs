//! Asking a pod's supervisor without a thread that waits: for what may take as long as a container
//! or a command lives. Connecting and sending have a limit; waiting for the answer has the one that
//! its caller gives. Must never take silence for news: it is an error and changes nothing.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use supervisor::protocol::{Request, Response};
use supervisor::{ANSWER_LIMIT, Call, Error as Failure};
use tokio::io::Interest;
use tokio::net::UnixStream;

/// Pause before the next try to connect to a supervisor whose queue is full.
const RETRY: Duration = Duration::from_millis(50);

/// A request that the supervisor has taken.
#[derive(Debug)]
pub(super) struct Asked {
    call: Call,
    socket: UnixStream,
}

/// Connects and sends, within [`ANSWER_LIMIT`].
pub(super) async fn ask(
    dir: &Path,
    request: &Request,
    fds: Vec<OwnedFd>,
) -> Result<Asked, Failure> {
    let begin = async {
        let (mut call, socket) = connect(dir).await?;
        call.ask(request, fds)?;
        let sent = drive(&socket, Interest::WRITABLE, dir, || {
            call.send(&socket).map(|all| all.then_some(()))
        });
        sent.await?;
        Ok(Asked { call, socket })
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
    pub(super) async fn answer(&mut self, limit: Option<Duration>) -> Result<Response, Failure> {
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
