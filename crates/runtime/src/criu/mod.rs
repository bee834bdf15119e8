//! Checkpoint and restore by criu, driven through its RPC: `criu swrk FD` reads requests from a
//! SOCK_SEQPACKET socket, tells of each stage and waits for an answer (<https://criu.org/RPC>).
//!
//! What a container is made of and what belongs to the host (binds, joined namespaces, cgroups) is
//! decided here as runc does, so that images of either can be restored by the other. Nothing is
//! written into a container's memory or namespaces by this process itself.

mod dump;
mod message;
mod mounts;
mod restore;

use std::fs::File;
use std::io::{Read, Seek};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::fs::{MemfdFlags, Mode, OFlags, memfd_create};
use rustix::io::{Errno, FdFlags, fcntl_setfd};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

use crate::error::Error;
use crate::spec::Spec;
use crate::sys;
use message::{Kind, Message, Notification, Opt, Response, Version};

pub use dump::{Checkpoint, PageServer, StatusFd};
pub use restore::{Restore, Restored};

/// How the streams of a container look from outside, in its images.
const DESCRIPTORS: &str = "descriptors.json";
/// As much as is worth reading of what failed.
const LOG_LINES: usize = 3;
/// What RPC needs.
const OLDEST: Version = Version(3, 0, 0);

/// What criu does with cgroups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CgroupMode {
    /// Nothing.
    Ignore = 0,
    /// Makes those that are missing, with their limits.
    Soft = 3,
    /// Sets the limits of all.
    Full = 4,
    /// Makes all, and fails if one is there.
    Strict = 5,
}

/// What checkpoint and restore have in common.
#[derive(Debug)]
pub struct Settings {
    /// criu, by path or by name.
    pub program: PathBuf,
    /// The directory of the images.
    pub images: PathBuf,
    /// The directory of the log; that of the images if `None`.
    pub work: Option<PathBuf>,
    /// Established TCP connections too.
    pub tcp_established: bool,
    /// Unix sockets whose other end is outside too.
    pub ext_unix_sk: bool,
    /// Also where the session's leader is outside.
    pub shell_job: bool,
    /// Locks of files too.
    pub file_locks: bool,
    /// Pages that a later image has go from the former.
    pub auto_dedup: bool,
    /// Memory later, on demand.
    pub lazy_pages: bool,
    /// What criu does with cgroups.
    pub cgroups: CgroupMode,
}

/// What goes wrong between this program and criu.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// The program is not there.
    #[error(
        "criu is not installed: {} is not found (Debian's package: criu; --criu names another program)",
        .program.display()
    )]
    Missing {
        /// Name or path.
        program: PathBuf,
    },
    /// It cannot do what is asked.
    #[error("criu {found} is too old: {what} needs {needed} or later")]
    Old {
        /// The version it told.
        found: String,
        /// What for.
        what: &'static str,
        /// The oldest that would do.
        needed: String,
    },
    /// The kernel, or this criu, lacks a feature.
    #[error("criu says that this host lacks {feature}, which {option} needs")]
    Lacking {
        /// As criu calls it.
        feature: &'static str,
        /// The option.
        option: &'static str,
    },
    /// It tried in vain.
    #[error("criu failed to {verb}: {reason}")]
    Failed {
        /// dump, …
        verb: &'static str,
        /// In criu's words, with the log they are from.
        reason: String,
    },
    /// It said something that is no message.
    #[error("criu's answer cannot be read")]
    Unreadable,
    /// An option of the command line that cannot be.
    #[error("{option}: {reason}")]
    Option {
        /// Which.
        option: &'static str,
        /// Why not.
        reason: String,
    },
}

/// A criu that waits for requests. It ends when this is dropped.
struct Criu {
    child: Child,
    socket: Option<OwnedFd>,
    /// What it says outside of its log, unless its streams are a container's.
    said: Option<File>,
    version: Version,
}

/// Whose streams criu has.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Streams {
    /// Nobody's.
    None,
    /// The caller's: those of the container to be restored.
    Callers,
}

impl Criu {
    fn start(settings: &Settings, streams: Streams) -> Result<Self, Error> {
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

    fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap_or(0)
    }

    fn at_least(&self, needed: Version, what: &'static str) -> Result<(), Error> {
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
    fn ask(&mut self, request: &Message) -> Result<Response, Error> {
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
        let (bytes, fd) = match sys::receive(socket) {
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

    /// The request that all is for: criu tells `stage` of each of its own, and goes on if that
    /// succeeds. Returns criu's last answer, once criu has ended.
    fn perform(
        mut self,
        (kind, verb): (Kind, &'static str),
        options: &Message,
        log: &Log,
        stage: &mut dyn FnMut(&Notification, Option<OwnedFd>) -> Result<(), Error>,
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
fn inherit(fd: &OwnedFd) -> Result<(), Error> {
    fcntl_setfd(fd, FdFlags::empty()).map_err(Error::io("pass on", "a descriptor"))
}

/// criu's log of one run.
struct Log(PathBuf);

impl Log {
    /// In the directory that criu works in.
    fn of(settings: &Settings, name: &str) -> Self {
        Self(
            settings
                .work
                .as_deref()
                .unwrap_or(&settings.images)
                .join(name),
        )
    }

    fn reason(&self, last: &Response, status: ExitStatus) -> String {
        let mut reason = match (last.errno, last.message.as_str()) {
            (0, "") => format!("{status}"),
            (0, message) => message.to_owned(),
            (errno, "") => format!("errno {errno}"),
            (errno, message) => format!("errno {errno}, {message}"),
        };
        let text = std::fs::read(&self.0).unwrap_or_default();
        let errors = last_errors(&String::from_utf8_lossy(&text));
        if !errors.is_empty() {
            reason.push_str(": ");
            reason.push_str(&errors);
        }
        format!("{reason} (log: {})", self.0.display())
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

/// Opens a directory, which is made if `make`.
fn directory(path: &Path, make: bool) -> Result<OwnedFd, Error> {
    if make
        && let Err(source) = std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
    {
        return Err(Error::Io {
            operation: "make directory",
            path: path.to_owned(),
            source,
        });
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).map_err(Error::io("open directory", path))
}

/// Directories that stay open while criu looks at them in /proc.
struct Directories {
    _images: OwnedFd,
    _work: Option<OwnedFd>,
}

/// The options of both verbs, and the directories that they name.
fn options(
    settings: &Settings,
    spec: &Spec,
    log: &str,
    make: bool,
) -> Result<(Message, Directories), Error> {
    let images = directory(&settings.images, make)?;
    let work = settings
        .work
        .as_deref()
        .map(|path| directory(path, true))
        .transpose()?;
    let mut options = Message::default();
    options.set_fd(Opt::ImagesDirFd, images.as_raw_fd());
    if let Some(work) = &work {
        options.set_fd(Opt::WorkDirFd, work.as_raw_fd());
    }
    options.set(Opt::LogLevel, 4);
    options.set_text(Opt::LogFile, log.as_bytes());
    options.set(Opt::NotifyScripts, 1);
    options.set(Opt::ManageCgroups, 1);
    options.set(Opt::ManageCgroupsMode, settings.cgroups as u64);
    options.set(Opt::OrphanPtsMaster, 1);
    // Network devices are not the runtime's: what is in a network namespace is set up anew.
    options.set(Opt::EmptyNs, u64::from(libc::CLONE_NEWNET.unsigned_abs()));
    for (opt, on) in [
        (Opt::TcpEstablished, settings.tcp_established),
        (Opt::ExtUnixSk, settings.ext_unix_sk),
        (Opt::ShellJob, settings.shell_job),
        (Opt::FileLocks, settings.file_locks),
        (Opt::AutoDedup, settings.auto_dedup),
        (Opt::LazyPages, settings.lazy_pages),
    ] {
        options.set(opt, u64::from(on));
    }
    // As with runc: what it says counts more than all of this; an empty name is none.
    let configuration = spec.annotations.get("org.criu.config");
    let configuration = configuration.map_or("/etc/criu/runc.conf", String::as_str);
    if !configuration.is_empty() {
        options.set_text(Opt::ConfigFile, configuration.as_bytes());
    }
    let directories = Directories {
        _images: images,
        _work: work,
    };
    Ok((options, directories))
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
