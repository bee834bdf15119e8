//! `floe cp` and `floe export`: files between containers and this machine, also of containers that do not run.
//!
//! Each side works inside of its own root directory, with a pipe between them: must never follow a link of a
//! container's to a file of this machine, nor the other way.

use std::fs::File;
use std::io::{self, PipeReader, PipeWriter};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use base::rooted;
use clap::ArgAction;
use engine::Engine;
use engine::files::{self, Owner};

use crate::failure::Failure;
use crate::names;

/// Options of `floe cp`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What comes into a container is its user's; without it, the owners stay [default: true]
    #[arg(long, short, value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_value_t = true, hide_default_value = true, default_missing_value = "true", action = ArgAction::Set)]
    archive: bool,
    /// Let a directory take the place of a file, and the other way
    #[arg(long)]
    overwrite: bool,
    /// Accepted for podman's sake: a container goes on while its files are copied
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pause: Option<bool>,
    /// [CONTAINER:]PATH, or - for an archive on standard input
    source: String,
    /// [CONTAINER:]PATH, or - for an archive on standard output
    destination: String,
}

/// Options of `floe export`.
#[derive(Debug, clap::Args)]
pub(crate) struct ExportArgs {
    /// The file [default: standard output]
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Name or id
    container: String,
}

/// A side of a copy.
enum Side {
    /// A path below a root directory; of a container, with whose its files are.
    Place {
        root: OwnedFd,
        path: PathBuf,
        /// What is said when it is not there.
        shown: String,
        user: Option<(u32, u32)>,
    },
    /// An archive on a standard stream.
    Stream,
}

impl Side {
    fn parse(engine: &Engine, text: &str, writes: bool) -> Result<Self, Failure> {
        if text == "-" {
            return Ok(Self::Stream);
        }
        // A path of this machine may have a colon, if it begins as a path.
        let container = text.split_once(':').filter(|(name, _)| {
            let slashes = name.matches('/').count();
            !name.is_empty() && !name.starts_with(['.', '/']) && matches!(slashes, 0 | 2)
        });
        let (root, path, user, shown) = match container {
            None => {
                let path = std::path::absolute(text)?;
                // What absolute() takes away says what is meant.
                let path = match text.ends_with('/') || text.ends_with("/.") || text == "." {
                    true => path.join(if text.ends_with('/') { "" } else { "." }),
                    false => path,
                };
                let root = File::open("/")?.into();
                let shown = format!("{text:?} could not be found on the host");
                (root, path, None, shown)
            }
            Some((name, path)) => {
                let container = names::find(engine, name)?;
                let begin = match Path::new(path).is_absolute() {
                    true => "",
                    false => "/",
                };
                let whole = PathBuf::from(format!("{begin}{path}"));
                let (root, inner) = engine.container_files_at(&container.id, &whole, writes)?;
                let user = Some((container.user.uid, container.user.gid));
                let shown = format!("{path:?} could not be found on container {name}");
                (root, inner, user, shown)
            }
        };
        Ok(Self::Place {
            root,
            path,
            shown,
            user,
        })
    }
}

pub(crate) fn run(engine: &Engine, args: &Args) -> Result<ExitCode, Failure> {
    let source = Side::parse(engine, &args.source, false)?;
    let destination = Side::parse(engine, &args.destination, true)?;
    match (source, destination) {
        (Side::Stream, Side::Stream) => {
            return Err(Failure::new("one of both sides must be a path"));
        }
        (Side::Stream, to) => receive(&to, args)?,
        (from, Side::Stream) => send(&from)?,
        (from, to) => copy(&from, &to, args)?,
    }
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn export(engine: &Engine, args: &ExportArgs) -> Result<ExitCode, Failure> {
    let container = names::find(engine, &args.container)?;
    let to = match &args.output {
        Some(path) => OwnedFd::from(File::create(path)?),
        None => own_stdout()?,
    };
    let root = engine.container_root(&container.id)?;
    rooted::within(root.as_fd(), || {
        let to = io::BufWriter::with_capacity(1 << 20, File::from(to));
        files::pack(to, Path::new("/"), Path::new("."))
    })??;
    Ok(ExitCode::SUCCESS)
}

fn own_stdout() -> Result<OwnedFd, Failure> {
    use std::io::IsTerminal;
    if io::stdout().is_terminal() {
        return Err(Failure::new(
            "refusing to write an archive to the terminal: redirect it, or name a file",
        ));
    }
    Ok(io::stdout().as_fd().try_clone_to_owned()?)
}

/// What is at a path, links followed, and whether only what is in it is meant.
struct Found {
    path: PathBuf,
    is_dir: bool,
    contents: bool,
}

fn look(root: &OwnedFd, path: &Path) -> io::Result<io::Result<Found>> {
    let contents = path.as_os_str().as_encoded_bytes().ends_with(b"/.");
    rooted::within(root.as_fd(), || {
        let real = std::fs::canonicalize(path)?;
        let is_dir = real.is_dir();
        Ok(Found {
            path: real,
            is_dir,
            contents: contents && is_dir,
        })
    })
}

fn missing(shown: &str, error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::NotFound => Failure::new(format!("{shown}: no such file or directory")),
        _ => Failure::new(format!("{shown}: {error}")),
    }
}

/// Where what is copied comes: the directory, which is there, and its name in that.
struct Target {
    dir: PathBuf,
    name: PathBuf,
}

/// cp's rules, which are docker's and podman's.
fn target(
    source: &Found,
    root: &OwnedFd,
    path: &Path,
    shown: &str,
    args: &Args,
) -> Result<Target, Failure> {
    match look(root, path)? {
        Ok(there) if there.is_dir && source.contents => Ok(Target {
            dir: there.path,
            name: ".".into(),
        }),
        Ok(there) if there.is_dir => Ok(Target {
            dir: there.path,
            name: files::base_name(&source.path),
        }),
        Ok(there) => {
            if source.is_dir && !args.overwrite {
                return Err(Failure::new(format!(
                    "destination must be a directory when copying a directory: {}",
                    path.display()
                )));
            }
            parent(&there.path)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let is_named_directory = path.as_os_str().as_encoded_bytes().ends_with(b"/");
            if is_named_directory && !source.is_dir {
                return Err(missing(shown, &error));
            }
            let clean: PathBuf = path.components().collect();
            let Target { dir, name } = parent(&clean)?;
            match look(root, &dir)? {
                Ok(dir) if dir.is_dir => Ok(Target {
                    dir: dir.path,
                    name,
                }),
                _ => Err(missing(shown, &error)),
            }
        }
        Err(error) => Err(missing(shown, &error)),
    }
}

fn parent(path: &Path) -> Result<Target, Failure> {
    match (path.parent(), path.file_name()) {
        (Some(dir), Some(name)) => Ok(Target {
            dir: dir.to_owned(),
            name: name.into(),
        }),
        _ => Err(Failure::new(format!("{}: it has no name", path.display()))),
    }
}

fn copy(from: &Side, to: &Side, args: &Args) -> Result<(), Failure> {
    let (
        Side::Place {
            root,
            path,
            shown,
            user: _,
        },
        Side::Place {
            root: to_root,
            path: to_path,
            shown: to_shown,
            user,
        },
    ) = (from, to)
    else {
        return Err(Failure::new("one of both sides must be a path"));
    };
    let source = look(root, path)?.map_err(|error| missing(shown, &error))?;
    let target = target(&source, to_root, to_path, to_shown, args)?;
    let owner = match (user, args.archive) {
        (Some((user, group)), true) => Owner::One(*user, *group),
        (Some(_), false) => Owner::Kept,
        (None, _) => Owner::Oneself,
    };
    let (reader, writer) = io::pipe()?;
    let (packed, unpacked) = std::thread::scope(|scope| {
        let packing = scope.spawn(|| pack(root, writer, &source.path, &target.name));
        let unpacked = unpack(to_root, reader, &target.dir, owner, args.overwrite);
        let packed = packing
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        (packed, unpacked)
    });
    // Who reads no more is the cause.
    unpacked?;
    Ok(packed?)
}

fn pack(root: &OwnedFd, to: PipeWriter, from: &Path, name: &Path) -> io::Result<()> {
    rooted::within(root.as_fd(), || {
        files::pack(io::BufWriter::with_capacity(1 << 16, to), from, name)
    })?
}

fn unpack(
    root: &OwnedFd,
    from: PipeReader,
    to: &Path,
    owner: Owner,
    overwrite: bool,
) -> io::Result<()> {
    rooted::within(root.as_fd(), || {
        files::unpack(
            io::BufReader::with_capacity(1 << 16, from),
            to,
            owner,
            overwrite,
        )
    })?
}

/// An archive of what is at a path, on standard output.
fn send(from: &Side) -> Result<(), Failure> {
    let Side::Place {
        root, path, shown, ..
    } = from
    else {
        return Err(Failure::new("one of both sides must be a path"));
    };
    let source = look(root, path)?.map_err(|error| missing(shown, &error))?;
    let name = match source.contents {
        true => ".".into(),
        false => files::base_name(&source.path),
    };
    let to = own_stdout()?;
    Ok(rooted::within(root.as_fd(), || {
        let to = io::BufWriter::with_capacity(1 << 16, File::from(to));
        files::pack(to, &source.path, &name)
    })??)
}

/// An archive on standard input, into a directory.
fn receive(to: &Side, args: &Args) -> Result<(), Failure> {
    let Side::Place {
        root,
        path,
        shown,
        user,
    } = to
    else {
        return Err(Failure::new("one of both sides must be a path"));
    };
    let there = look(root, path)?.map_err(|error| missing(shown, &error))?;
    if !there.is_dir {
        return Err(Failure::new(format!(
            "destination must be a directory when copying from stdin: {}",
            path.display()
        )));
    }
    let owner = match (user, args.archive) {
        (Some((user, group)), true) => Owner::One(*user, *group),
        _ => Owner::Kept,
    };
    let from = io::stdin().as_fd().try_clone_to_owned()?;
    Ok(rooted::within(root.as_fd(), || {
        let from = io::BufReader::with_capacity(1 << 16, File::from(from));
        files::unpack(from, &there.path, owner, args.overwrite)
    })??)
}
