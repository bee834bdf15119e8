//! `RUN`: a container on the stage's working layer, in a pod of the build's.
//!
//! What a container needs to be mounted on is made for it where the image has none, and taken away afterwards, so
//! that no layer has it.

use std::os::fd::{AsFd, OwnedFd};

use containerfile::{CommandLine, Run};
use engine::container::Extras;
use engine::pod::NamespaceMode;
use engine::{AttachEvent, AttachOptions, ContainerSpec};
use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, Timespec, Timestamps, mkdirat, openat, statat, unlinkat,
};

use crate::error::Failed;
use crate::plan::Build;
use crate::pods;
use crate::stage::Mounts;
use crate::state::State;
use crate::tree::{self, Tree};
use crate::{Commands, Network};

/// Larger files of users are refused rather than read.
const USERS: u64 = 8 << 20;
/// How a command ends that cannot be started.
const NOT_STARTED: i32 = 125;
/// What a container is mounted on: directories, and files of the pod.
const PLACES: [(&str, FileType); 7] = [
    ("dev", FileType::Directory),
    ("proc", FileType::Directory),
    ("sys", FileType::Directory),
    ("etc/hostname", FileType::RegularFile),
    ("etc/hosts", FileType::RegularFile),
    ("etc/resolv.conf", FileType::RegularFile),
    ("run/.containerenv", FileType::RegularFile),
];

/// What a command is run as.
pub(crate) struct Command<'a> {
    pub(crate) words: Vec<String>,
    pub(crate) network: Network,
    /// Variables besides the image's.
    pub(crate) arguments: Vec<(String, String)>,
    pub(crate) state: &'a State,
    pub(crate) user: engine::container::ResolvedUser,
    pub(crate) mounts: &'a Mounts,
}

/// The words of a `RUN`.
pub(crate) fn words(state: &State, run: &Run) -> Vec<String> {
    let CommandLine::Shell(line) = &run.command else {
        return state.command(&run.command);
    };
    let script = match &run.documents[..] {
        [] => line.clone(),
        [only] if only.word == line.trim() => only.content.clone(),
        several => {
            let mut script = format!("{line}\n");
            for document in several {
                script.push_str(&document.content);
                script.push_str(&document.name);
                script.push('\n');
            }
            script
        }
    };
    state.command(&CommandLine::Shell(script))
}

/// The network that a `RUN` asks for.
pub(crate) fn network(text: Option<&str>, usual: Network) -> Result<Network, Failed> {
    match text {
        None | Some("default") => Ok(usual),
        Some("none") => Ok(Network::None),
        Some("host") => Ok(Network::Host),
        Some(other) => Err(format!("--network={other} is none of default, none and host").into()),
    }
}

/// Who the image's user is in its root file system.
pub(crate) fn user(root: &Tree, user: &str) -> Result<engine::container::ResolvedUser, Failed> {
    let read = |path: &str| -> Result<String, Failed> {
        let bytes = root.read(path, USERS).map_err(Failed::io("read", path))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    Ok(engine::resolve_user(
        read("etc/passwd")?,
        read("etc/group")?,
        user,
    )?)
}

/// A container that is removed again.
struct Container<'a> {
    build: &'a Build<'a>,
    id: String,
}

impl Drop for Container<'_> {
    fn drop(&mut self) {
        self.build.cancel.runs(None);
        // Otherwise it goes with its pod.
        let _ = self.build.engine.remove_container(&self.id);
    }
}

impl<'a> Build<'a> {
    /// Runs a command on a root file system that nobody has mounted, to its end.
    pub(crate) fn execute(
        &'a self,
        command: &Command<'_>,
        root: &store::RootFilesystem,
    ) -> Result<(), Failed> {
        let pod = self.pods.of(command.network)?;
        let (commands, proxies) = (&self.request.commands, self.given.proxies());
        let id = self
            .engine
            .create_container_on(&pod, spec(commands, proxies, command), root)?;
        let container = Container { build: self, id };
        self.cancel.runs(Some(&container.id));
        if self.cancel.is_stopped() {
            return Err(Failed::Interrupted);
        }
        let options = AttachOptions {
            stdin: false,
            stdout: true,
            stderr: true,
        };
        let (mut output, _input) = self.engine.attach(&container.id, options)?.split();
        self.engine.start_container(&container.id)?;
        let code = loop {
            match output.read()? {
                AttachEvent::Output(stream, bytes) => self.watch.output(stream, &bytes),
                AttachEvent::Exit(state) => {
                    break engine::exit_code(&state).map_or(NOT_STARTED, i32::from);
                }
            }
        };
        match code {
            _ if self.cancel.is_stopped() => Err(Failed::Interrupted),
            0 => Ok(()),
            code => Err(Failed::Exit(code)),
        }
    }
}

/// The container of a command.
pub(crate) fn spec(
    commands: &Commands,
    proxies: impl Iterator<Item = (String, String)>,
    command: &Command<'_>,
) -> ContainerSpec {
    let state = command.state;
    let mut security = commands.security.clone();
    security.namespaces = pods::namespaces(match command.network {
        Network::Host => NamespaceMode::Node,
        Network::Bridge | Network::None => NamespaceMode::Pod,
    });
    security.run_as_user = Some(i64::from(command.user.uid));
    security.run_as_group = Some(i64::from(command.user.gid));
    security.supplemental_groups = command
        .user
        .groups
        .iter()
        .map(|group| i64::from(*group))
        .collect();
    let own = state
        .config
        .env
        .iter()
        .filter_map(|entry| entry.split_once('='));
    let own = own.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let mut env: Vec<(String, String)> = commands.environment.clone();
    env.extend(proxies);
    env.extend(command.arguments.clone());
    env.extend(own);
    env.extend(command.mounts.environment.clone());
    let extras = Extras {
        rlimits: commands.rlimits.clone(),
        umask: Some(0o022),
        filesystems: command.mounts.filesystems.clone(),
        ..Extras::default()
    };
    let (program, arguments) = command.words.split_at(1.min(command.words.len()));
    ContainerSpec {
        name: "build".into(),
        image: state
            .base
            .as_ref()
            .map_or("scratch", |(name, _)| name.as_str())
            .to_owned(),
        command: program.to_vec(),
        args: arguments.to_vec(),
        working_dir: match state.config.working_dir.as_str() {
            "" => "/".to_owned(),
            dir => dir.to_owned(),
        },
        env,
        mounts: [&commands.mounts[..], &command.mounts.mounts].concat(),
        resources: commands.resources.clone(),
        security,
        extras: Some(Box::new(extras)),
        ..ContainerSpec::default()
    }
}

/// Places for mounts that were made in a root file system, with the times that their directories had.
pub(crate) struct Places {
    /// Directory, name, kind, and the times of the directory before and after it was made.
    made: Vec<(String, String, FileType, Timestamps)>,
}

impl Places {
    /// Makes those that are missing, and those of further mounts.
    pub(crate) fn make(root: &Tree, further: &[(String, FileType)]) -> Result<Places, Failed> {
        let mut places = Places { made: Vec::new() };
        let usual = PLACES.iter().map(|(path, kind)| (*path, *kind));
        let further = further
            .iter()
            .map(|(path, kind)| (path.trim_start_matches('/'), *kind));
        // Those are in file systems of the container's own.
        let own = ["dev/", "proc/", "sys/"];
        let further = further.filter(|(path, _)| !own.iter().any(|own| path.starts_with(own)));
        for (path, kind) in usual.chain(further) {
            for (at, _) in path.match_indices('/') {
                let parent = &path[..at];
                places
                    .add(root, parent, FileType::Directory)
                    .map_err(Failed::io("make", parent))?;
            }
            places
                .add(root, path, kind)
                .map_err(Failed::io("make", path))?;
        }
        Ok(places)
    }

    fn add(&mut self, root: &Tree, path: &str, kind: FileType) -> rustix::io::Result<()> {
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        let parent = root.resolve(parent, None)?;
        let dir = root.plain_directory(&parent)?;
        match statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(rustix::io::Errno::NOENT) => {}
            // What is there is the image's, a link too.
            other => return other.map(drop),
        }
        let times = times(&rustix::fs::fstat(&dir)?);
        match kind {
            FileType::Directory => mkdirat(&dir, name, Mode::from_raw_mode(0o755))?,
            _ => {
                let flags = OFlags::WRONLY
                    | OFlags::CREATE
                    | OFlags::EXCL
                    | OFlags::NOFOLLOW
                    | OFlags::CLOEXEC;
                openat(&dir, name, flags, Mode::from_raw_mode(0o644))?;
            }
        }
        rustix::fs::futimens(&dir, &times)?;
        self.made.push((parent, name.to_owned(), kind, times));
        Ok(())
    }

    /// Where they are, to be found again by [`Places::forget`]; directories end with a `/`.
    pub(crate) fn paths(&self) -> Vec<String> {
        let path = |(parent, name, kind, _): &(String, String, FileType, Timestamps)| {
            let end = if *kind == FileType::Directory {
                "/"
            } else {
                ""
            };
            format!("{parent}/{name}{end}")
        };
        self.made.iter().map(path).collect()
    }

    /// Takes those away that a killed command has left, by their paths, but for those that have something in them.
    pub(crate) fn forget(root: &Tree, paths: &[String]) {
        for path in paths.iter().rev() {
            let (path, kind) = match path.strip_suffix('/') {
                Some(path) => (path, FileType::Directory),
                None => (path.as_str(), FileType::RegularFile),
            };
            let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
            let Ok(dir) = root.plain_directory(parent) else {
                continue;
            };
            remove_place(&dir, name, kind);
        }
    }

    /// Takes them away, but for those that a command has put something into.
    pub(crate) fn remove(self, root: &Tree) {
        for (parent, name, kind, before) in self.made.iter().rev() {
            let Ok(dir) = root.plain_directory(parent) else {
                continue;
            };
            let Ok(now) = rustix::fs::fstat(&dir) else {
                continue;
            };
            if remove_place(&dir, name, *kind) {
                let unchanged = now.st_mtime == before.last_modification.tv_sec;
                let times = if unchanged {
                    before.clone()
                } else {
                    times(&now)
                };
                // A time is all that is lost.
                let _ = rustix::fs::futimens(&dir, &times);
            }
        }
    }
}

/// Removes a place that is as it was made.
fn remove_place(dir: &OwnedFd, name: &str, kind: FileType) -> bool {
    let Ok(place) = statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) else {
        return false;
    };
    let flags = match kind {
        FileType::Directory => AtFlags::REMOVEDIR,
        _ => AtFlags::empty(),
    };
    let is_own = tree::kind(&place) == kind && (kind == FileType::Directory || place.st_size == 0);
    is_own && unlinkat(dir.as_fd(), name, flags).is_ok()
}

fn times(stat: &rustix::fs::Stat) -> Timestamps {
    let time = |tv_sec, nanoseconds| Timespec {
        tv_sec,
        tv_nsec: i64::try_from(nanoseconds).unwrap_or(0),
    };
    Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
    }
}
