//! Checkpoint and restore by criu, driven through its RPC: `criu swrk FD` reads requests from a
//! SOCK_SEQPACKET socket, tells of each stage and waits for an answer (<https://criu.org/RPC>).
//!
//! What a container is made of and what belongs to the host (binds, joined namespaces, cgroups) is
//! decided here as runc does, so that images of either can be restored by the other. Nothing is
//! written into a container's memory or namespaces by this process itself.

mod dump;
mod message;
mod mounts;
mod program;
mod restore;

use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use crate::error::Error;
use crate::spec::Spec;
use message::{Message, Opt};
use program::{Criu, Log, Streams, inherit};

pub use dump::{Checkpoint, PageServer, StatusFd};
pub use restore::{Restore, Restored};

/// How the streams of a container look from outside, in its images.
const DESCRIPTORS: &str = "descriptors.json";

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
    use super::*;

    #[test]
    fn every_option_reaches_criu() {
        let images = std::env::temp_dir();
        let with = |on: bool, spec: &Spec| {
            let settings = Settings {
                program: "criu".into(),
                images: images.clone(),
                work: on.then(|| images.clone()),
                tcp_established: on,
                ext_unix_sk: on,
                shell_job: on,
                file_locks: on,
                auto_dedup: on,
                lazy_pages: on,
                cgroups: CgroupMode::Full,
            };
            options(&settings, spec, "x.log", false).unwrap().0
        };
        let mut spec = Spec::default();
        let (off, on) = (with(false, &spec), with(true, &spec));
        for opt in [
            Opt::TcpEstablished,
            Opt::ExtUnixSk,
            Opt::ShellJob,
            Opt::FileLocks,
            Opt::AutoDedup,
            Opt::LazyPages,
        ] {
            let value = |options: &Message| message::number(options.as_bytes(), opt as u64);
            assert_eq!((value(&off), value(&on)), (Some(0), Some(1)), "{opt:?}");
        }
        let text = |options: &Message, opt: Opt| message::text(options.as_bytes(), opt as u64);
        assert_eq!(text(&on, Opt::LogFile).unwrap(), "x.log");
        assert_eq!(text(&on, Opt::ConfigFile).unwrap(), "/etc/criu/runc.conf");
        for (annotation, file) in [("/etc/mine.conf", "/etc/mine.conf"), ("", "")] {
            let name = "org.criu.config".to_owned();
            spec.annotations.insert(name, annotation.to_owned());
            assert_eq!(text(&with(true, &spec), Opt::ConfigFile).unwrap(), file);
        }
        let mode = message::number(on.as_bytes(), Opt::ManageCgroupsMode as u64);
        assert_eq!(mode, Some(4));
    }
}
