//! What a pod's supervisor tells by itself: while it happens, and what it has kept.

use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use supervisor::protocol::Request;
use supervisor::{Call, Client, Error as Failure, News as Said, Status};

use super::super::{Event, Events, Happened, News, PodRef};
use super::pod;
use crate::disk::now_ns;
use crate::error::{Error, Result};

/// How long a supervisor may take to say what it has kept.
const SAYS: Duration = Duration::from_secs(1);

/// The events of one pod.
#[derive(Debug)]
struct Told {
    pod: String,
    dir: PathBuf,
    cgroup: String,
    prefix: String,
    call: Call,
    socket: UnixStream,
    /// The sandbox's end was told.
    over: bool,
}

fn failed(pod: &str) -> impl FnOnce(Failure) -> Error {
    let id = pod.to_owned();
    move |source| Error::Supervisor {
        verb: "hear the supervisor of pod",
        id,
        source,
    }
}

/// Subscribes; `None` to one that is too old for it, or where none listens.
pub(super) fn begin(pod: PodRef<'_>, after: Option<u64>) -> Result<Option<Box<dyn Events>>> {
    let subscribe = || -> Result<Option<(Call, UnixStream)>, Failure> {
        let Some((mut call, socket)) = Call::connect(pod.dir)? else {
            return Ok(None);
        };
        call.ask(&Request::Subscribe { after }, [])?;
        // A new socket has room for so little.
        Ok(call.send(&socket)?.then_some((call, socket)))
    };
    match subscribe() {
        Ok(Some((call, socket))) => Ok(Some(Box::new(Told {
            pod: pod.id.to_owned(),
            dir: pod.dir.to_owned(),
            cgroup: pod.cgroup.to_owned(),
            prefix: pod.prefix.to_owned(),
            call,
            socket,
            over: false,
        }))),
        // It has no room for a client.
        Ok(None) => Err(failed(pod.id)(Failure::silent(pod.dir, Duration::ZERO))),
        Err(Failure::Gone { .. } | Failure::Unsupported { .. }) => Ok(None),
        Err(error) => Err(failed(pod.id)(error)),
    }
}

impl Events for Told {
    fn descriptor(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    fn next(&mut self) -> Result<Option<News>> {
        loop {
            let said = self.call.receive(&self.socket);
            match said.and_then(|said| said.map(Said::of).transpose()) {
                Ok(None) => return Ok(None),
                Ok(Some(Said::Present(present))) if present.gap => return Ok(Some(News::Missed)),
                Ok(Some(Said::Present(_))) => {}
                Ok(Some(Said::Event(event))) => {
                    if let Some(event) = meaning(event) {
                        return Ok(Some(News::Event(event)));
                    }
                }
                Err(Failure::Gone { .. }) if !self.over && self.is_gone()? => {
                    self.over = true;
                    return Ok(Some(News::Event(Event {
                        number: None,
                        at: now_ns(),
                        container: None,
                        happened: Happened::SandboxGone,
                    })));
                }
                Err(error) => return Err(failed(&self.pod)(error)),
            }
        }
    }
}

impl Told {
    fn is_gone(&self) -> Result<bool> {
        let pod = PodRef {
            id: &self.pod,
            dir: &self.dir,
            cgroup: &self.cgroup,
            prefix: &self.prefix,
        };
        Ok(pod::live(pod)?.is_none())
    }
}

/// An event in the engine's words; `None`: it has no meaning here.
fn meaning(event: supervisor::Event) -> Option<Event> {
    use supervisor::Happening as Said;
    let happened = match event.what {
        Said::Created => Happened::Created,
        Said::Started => Happened::Started,
        Said::Paused => Happened::Paused,
        Said::Resumed => Happened::Resumed,
        Said::OutOfMemory => Happened::OutOfMemory,
        Said::Deleted => Happened::Removed,
        Said::Exited => match event.container.as_ref()?.status {
            Status::Exited { exit_code, .. } => Happened::Exited { code: exit_code },
            _ => return None,
        },
        // The end itself is told when it has come.
        Said::PodEnding | Said::Unknown => return None,
    };
    Some(Event {
        number: Some(event.seq),
        at: event.at_ns,
        container: Some(event.container?.id),
        happened,
    })
}

/// What a supervisor has kept of what happened, in order; `None`: it cannot say.
pub(super) fn kept(pod: PodRef<'_>) -> Option<Vec<Event>> {
    let until = Instant::now() + SAYS;
    let client = Client::connect_within(pod.dir, SAYS).ok()?;
    let mut told = client.subscribe(Some(0)).ok()?;
    let mut events = Vec::new();
    let mut last = None;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        match told.next(left).ok()?? {
            Said::Present(present) => last = Some(present.seq),
            Said::Event(event) => {
                let seq = event.seq;
                events.extend(meaning(event));
                if last == Some(seq) {
                    return Some(events);
                }
            }
        }
        if last == Some(0) {
            return Some(events);
        }
    }
}
