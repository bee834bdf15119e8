//! The program criu: one process that reads requests from its socket, tells of each stage of its
//! work, and ends when the socket is closed. What it says in its log when it fails is read from there.

use std::fs::File;
use std::io::{Read, Seek};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::fs::{MemfdFlags, memfd_create};
use rustix::io::{Errno, FdFlags, fcntl_setfd};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

use super::message::{self, Kind, Message, Notification, Response, Version};
use super::{Failure, Settings};
use crate::error::Error;
use crate::sys;

/// Where criu finds what it calls.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// As much as is worth reading of what failed.
const LOG_LINES: usize = 3;
/// What RPC needs.
const OLDEST: Version = Version(3, 0, 0);

/// Is told of each stage, with a descriptor where one comes with it; criu goes on if it succeeds.
pub(super) type Stage<'a> = dyn FnMut(&Notification, Option<OwnedFd>) -> Result<(), Error> + 'a;

/// A criu that waits for requests. It ends when this is dropped.
pub(super) struct Criu {
    child: Child,
    socket: Option<OwnedFd>,
    /// What it says outside of its log, unless its streams are a container's.
    said: Option<File>,
    version: Version,
}

/// Whose streams criu has.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Streams {
    /// Nobody's.
    None,
    /// The caller's: those of the container to be restored.
    Callers,
}

impl Criu {
    pub(super) fn start(settings: &Settings, streams: Streams) -> Result<Self, Error> {
        let (ours, theirs) = socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )
        .map_err(Error::io("make", "socketpair"))?;
        inherit(&theirs)?;
        let mut command = Command::new(&settings.program);
        command.arg("swrk").arg(theirs.as_raw_fd().to_string());
        // It has tar archive what is in a tmpfs. Who has cleared his environment is not its concern.
        if std::env::var_os("PATH").is_none() {
            command.env("PATH", PATH);
        }
        let mut said = None;
        if streams == Streams::None {
            let failed = || Error::io("make", "a file for criu's words");
            let file = File::from(memfd_create("criu", MemfdFlags::CLOEXEC).map_err(failed())?);
            let other = rustix::io::fcntl_dupfd_cloexec(&file, 3).map_err(failed())?;
            command
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(other);
            said = Some(file);
        }
        let child = command.spawn().map_err(|source| match source.kind() {
            std::io::ErrorKind::NotFound => Error::Criu(Failure::Missing {
                program: settings.program.clone(),
            }),
            _ => Error::Io {
                operation: "execute",
                path: settings.program.clone(),
                source,
            },
        })?;
        let mut criu = Self {
            child,
            socket: Some(ours),
            said,
            version: Version::default(),
        };
        drop(theirs);
        criu.version = criu
            .ask(&message::request(Kind::Version, None, true))?
            .version;
        criu.at_least(OLDEST, "RPC")?;
        Ok(criu)
    }

    pub(super) fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap_or(0)
    }

    pub(super) fn at_least(&self, needed: Version, what: &'static str) -> Result<(), Error> {
        if self.version >= needed {
            return Ok(());
        }
        Err(Error::Criu(Failure::Old {
            found: self.version.to_string(),
            what,
            needed: needed.to_string(),
        }))
    }

    /// One request that has one answer.
    pub(super) fn ask(&mut self, request: &Message) -> Result<Response, Error> {
        self.send(request)?;
        match self.receive()? {
            Some((response, _)) => Ok(response),
            None => Err(self.ended("answer")),
        }
    }

    fn send(&self, message: &Message) -> Result<(), Error> {
        let Some(socket) = &self.socket else {
            return Err(Error::Criu(Failure::Unreadable));
        };
        match sys::send(socket, message.as_bytes(), None) {
            // It has ended: receiving says so.
            Err(Errno::PIPE | Errno::CONNRESET) => Ok(()),
            other => other.map_err(Error::io("write to", "criu")),
        }
    }

    fn receive(&self) -> Result<Option<(Response, Option<OwnedFd>)>, Error> {
        let Some(socket) = &self.socket else {
            return Ok(None);
        };
        let (bytes, fd) = match sys::receive(socket, true) {
            Err(Errno::CONNRESET) => return Ok(None),
            other => other.map_err(Error::io("read from", "criu"))?,
        };
        if bytes.is_empty() {
            return Ok(None);
        }
        match Response::parse(&bytes) {
            Some(response) => Ok(Some((response, fd))),
            None => Err(Error::Criu(Failure::Unreadable)),
        }
    }

    /// The request that all is for. Returns criu's last answer, once criu has ended.
    pub(super) fn perform(
        mut self,
        (kind, verb): (Kind, &'static str),
        options: &Message,
        log: &Log,
        stage: &mut Stage<'_>,
    ) -> Result<Response, Error> {
        self.send(&message::request(kind, Some(options), false))?;
        let mut refused = None;
        let last = loop {
            match self.receive()? {
                Some((response, fd))
                    if response.kind == Kind::Notify as u64 && response.success =>
                {
                    let notification = response.notification.unwrap_or_default();
                    let went = stage(&notification, fd);
                    let well = went.is_ok();
                    refused = refused.or(went.err());
                    self.send(&message::notified(well))?;
                }
                Some((response, _)) => break Some(response),
                None => break None,
            }
        };
        let status = self.end()?;
        if let Some(error) = refused {
            return Err(error);
        }
        let Some(last) = last else {
            return Err(self.ended(verb));
        };
        // After a pre-dump criu waits for the dump, and takes it ill that none comes.
        if last.success && (status.success() || kind == Kind::PreDump) {
            return Ok(last);
        }
        Err(Error::Criu(Failure::Failed {
            verb,
            reason: log.reason(&last, status),
        }))
    }

    /// Closes the socket, which ends criu.
    fn end(&mut self) -> Result<ExitStatus, Error> {
        self.socket = None;
        self.child.wait().map_err(|source| Error::Io {
            operation: "wait for",
            path: "criu".into(),
            source,
        })
    }

    /// It has ended without an answer.
    fn ended(&mut self, verb: &'static str) -> Error {
        let status = match self.end() {
            Ok(status) => status,
            Err(error) => return error,
        };
        let mut words = String::new();
        if let Some(said) = &mut self.said
            && said.rewind().is_ok()
        {
            let mut bytes = Vec::new();
            // What cannot be read was not said.
            let _ = said.take(65_536).read_to_end(&mut bytes);
            words = last_errors(&String::from_utf8_lossy(&bytes));
        }
        let colon = if words.is_empty() { "" } else { ": " };
        Error::Criu(Failure::Failed {
            verb,
            reason: format!("it ended without an answer ({status}){colon}{words}"),
        })
    }
}

impl Drop for Criu {
    fn drop(&mut self) {
        // Waited for already, or an error is on its way that says more.
        let _ = self.end();
    }
}

/// Lets a child have this descriptor, under the same number.
pub(super) fn inherit(fd: &OwnedFd) -> Result<(), Error> {
    fcntl_setfd(fd, FdFlags::empty()).map_err(Error::io("pass on", "a descriptor"))
}

/// criu's log of one run.
pub(super) struct Log(PathBuf);

impl Log {
    /// In the directory that criu works in.
    pub(super) fn of(settings: &Settings, name: &str) -> Self {
        Self(
            settings
                .work
                .as_deref()
                .unwrap_or(&settings.images)
                .join(name),
        )
    }

    fn reason(&self, last: &Response, status: ExitStatus) -> String {
        let text = std::fs::read(&self.0).unwrap_or_default();
        let mut words = last_errors(&String::from_utf8_lossy(&text));
        if words.is_empty() {
            // Its configuration may have moved the log.
            let lines: Vec<&str> = last.message.lines().map(str::trim).collect();
            words = lines.join("; ");
        }
        let how = match last.errno {
            0 => status.to_string(),
            errno => format!("errno {errno}"),
        };
        let colon = if words.is_empty() { "" } else { ": " };
        format!("{how}{colon}{words} (log: {})", self.0.display())
    }
}

/// The last lines that tell of an error, in one.
fn last_errors(log: &str) -> String {
    let errors: Vec<&str> = log
        .lines()
        .filter_map(|line| line.find("Error").map(|at| line[at..].trim_end()))
        .collect();
    errors[errors.len().saturating_sub(LOG_LINES)..].join("; ")
}

#[cfg(test)]
mod tests {
    use super::last_errors;

    #[test]
    fn the_last_errors_of_a_log_are_told_in_one_line() {
        let log = "(00.01) Error (a.c:1): one\n(00.02) fine\n(00.03) Error (b.c:2): two\n\
                   (00.04) Error (c.c:3): three \nError (d.c:4): four\n(00.05) end\n";
        assert_eq!(
            last_errors(log),
            "Error (b.c:2): two; Error (c.c:3): three; Error (d.c:4): four"
        );
        assert_eq!(last_errors("all is well\n"), "");
    }
}
