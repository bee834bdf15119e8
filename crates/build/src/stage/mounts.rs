//! `RUN --mount`: files of the context, of stages and images, caches, memory and secrets, where a command sees them and no
//! layer has them.
//!
//! What is shown is opened below the root of its tree and mounted by its descriptor in a directory of the build's own
//! (CVE-2024-1753, CVE-2024-9407, CVE-2024-11218): no name is looked up twice.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use containerfile::{Mount, MountKind, Run, Sharing};
use engine::container::{Filesystem, Mount as ContainerMount};
use image::Digest;
use rustix::fs::{FileType, FlockOperation, Gid, Mode, OFlags, Uid, flock};
use rustix::io::Errno;

use super::Stage;
use super::cached::Key;
use crate::error::Failed;
use crate::put::{self, Given, Put};
use crate::select::{self, Filter, Source};
use crate::source::Origin;
use crate::staging::Staging;
use crate::state::clean;
use crate::tree::{self, Tree};

/// Where the directories of caches are, below the store's root.
const CACHES: &str = "build-mounts";
/// The most directories of a cache that builds have to themselves.
const PRIVATE: usize = 1000;
const OWN: Mode = Mode::from_raw_mode(0o700);

/// What a command is given.
pub(crate) struct Mounts {
    pub(crate) mounts: Vec<ContainerMount>,
    pub(crate) filesystems: Vec<Filesystem>,
    /// Secrets as variables.
    pub(crate) environment: Vec<(String, String)>,
    /// Where all that is mounted, and as what.
    pub(crate) targets: Vec<(String, FileType)>,
    /// Gone with this, when the command has ended.
    staging: Option<Staging>,
    locks: Vec<OwnedFd>,
}

impl Mounts {
    /// Of a command that is shown nothing of a build.
    pub(crate) fn of_command(
        filesystems: Vec<Filesystem>,
        environment: Vec<(String, String)>,
    ) -> Mounts {
        Mounts {
            mounts: Vec::new(),
            filesystems,
            environment,
            targets: Vec::new(),
            staging: None,
            locks: Vec::new(),
        }
    }
}

impl Stage<'_, '_> {
    /// The mounts of a `RUN`; what they show that decides about its result is added to its key.
    pub(super) fn mount_orders(&self, run: &Run, key: &mut Key) -> Result<Vec<Mount>, Failed> {
        let mut all = Vec::new();
        for text in run.flags.all("mount") {
            let text = match text.raw.contains('$') {
                true => self.word(text)?,
                false => text.raw.clone(),
            };
            let mount = Mount::parse(&text)?;
            key.add(&text);
            match &mount.kind {
                MountKind::Bind { from, source } => {
                    if !mount.read_only {
                        return Err(
                            "--mount: rw is not offered for binds: copy what is to be changed"
                                .into(),
                        );
                    }
                    let origin = self.origin(from.as_deref())?;
                    key.add(&digest(&origin, source)?.to_string());
                }
                MountKind::Ssh { .. } => {
                    return Err(
                        "--mount=type=ssh is not offered: steps get no agents of ssh".into(),
                    );
                }
                MountKind::Cache { .. } | MountKind::Tmpfs { .. } | MountKind::Secret { .. } => {}
            }
            all.push(mount);
        }
        Ok(all)
    }

    fn origin(&self, from: Option<&str>) -> Result<Origin, Failed> {
        match from {
            Some(name) => self.build.named(name),
            None => self.build.context(),
        }
    }

    /// Makes them ready.
    pub(super) fn mounts(&self, orders: &[Mount]) -> Result<Mounts, Failed> {
        let mut mounts = Mounts::of_command(Vec::new(), Vec::new());
        for order in orders {
            let target = order
                .target
                .as_deref()
                .map(|target| clean(&self.state.absolute(target)));
            match (&order.kind, target) {
                (MountKind::Bind { from, source }, Some(target)) => {
                    let origin = self.origin(from.as_deref())?;
                    self.bind(&mut mounts, origin, source, target)?;
                }
                (MountKind::Cache { .. }, Some(target)) => {
                    self.cache(&mut mounts, order, target)?
                }
                (MountKind::Tmpfs { size }, Some(target)) => {
                    mounts.targets.push((target.clone(), FileType::Directory));
                    mounts.filesystems.push(Filesystem {
                        kind: "tmpfs".into(),
                        container_path: target.into(),
                        options: size.iter().map(|size| format!("size={size}")).collect(),
                    });
                }
                (MountKind::Secret { .. }, target) => {
                    self.secret(&mut mounts, &order.kind, target)?
                }
                (kind, _) => {
                    return Err(format!("--mount=type={} has no target", kind.word()).into());
                }
            }
        }
        Ok(mounts)
    }

    fn staging<'m>(&self, mounts: &'m mut Mounts) -> Result<&'m mut Staging, Failed> {
        if mounts.staging.is_none() {
            mounts.staging = Some(Staging::new(self.build.engine)?);
        }
        mounts
            .staging
            .as_mut()
            .ok_or_else(|| "there is no place for mounts".into())
    }

    fn bind(
        &self,
        mounts: &mut Mounts,
        origin: Origin,
        source: &str,
        target: String,
    ) -> Result<(), Failed> {
        let failed = |e: Errno| Failed::io("mount", source)(e);
        let found = origin.tree.stat(source).map_err(failed)?;
        let stat =
            found.ok_or_else(|| format!("--mount: {source:?}: no such file or directory"))?;
        let kind = match tree::kind(&stat) {
            FileType::Directory => FileType::Directory,
            FileType::RegularFile => FileType::RegularFile,
            _ => {
                return Err(
                    format!("--mount: {source:?} is neither a file nor a directory").into(),
                );
            }
        };
        let staging = self.staging(mounts)?;
        let host_path = match origin.is_image {
            // It is mounted as a whole, nothing changes it, and the path has no links.
            true => {
                let below = origin.tree.resolve(source, None).map_err(failed)?;
                staging
                    .attach(origin.tree.fd())
                    .map_err(failed)?
                    .join(below)
            }
            false => {
                let file = origin.tree.open(source, OFlags::PATH).map_err(failed)?;
                staging.clone_of(file.as_fd(), kind).map_err(failed)?
            }
        };
        mounts.targets.push((target.clone(), kind));
        mounts.mounts.push(ContainerMount {
            container_path: target.into(),
            host_path,
            readonly: true,
            ..ContainerMount::default()
        });
        Ok(())
    }

    fn cache(&self, mounts: &mut Mounts, order: &Mount, target: String) -> Result<(), Failed> {
        let MountKind::Cache {
            id,
            sharing,
            from,
            source,
            mode,
            uid,
            gid,
        } = &order.kind
        else {
            return Ok(());
        };
        let name = Digest::of(id.as_ref().unwrap_or(&target).as_bytes());
        let (path, dir, fresh, lock) = self.cache_directory(name.hex(), *sharing)?;
        mounts.locks.extend(lock);
        if fresh {
            if let Some(from) = from {
                fill(&self.build.named(from)?, source, &dir)?;
            }
            let own = || {
                rustix::fs::fchown(&dir, Some(Uid::from_raw(*uid)), Some(Gid::from_raw(*gid)))?;
                rustix::fs::fchmod(&dir, Mode::from_raw_mode(*mode))
            };
            own().map_err(Failed::io("make", "the directory of a cache"))?;
        }
        mounts.targets.push((target.clone(), FileType::Directory));
        mounts.mounts.push(ContainerMount {
            container_path: target.into(),
            host_path: path,
            readonly: order.read_only,
            ..ContainerMount::default()
        });
        Ok(())
    }

    /// The directory of a cache, whether it is new, and what keeps others out.
    fn cache_directory(
        &self,
        name: &str,
        sharing: Sharing,
    ) -> Result<(PathBuf, OwnedFd, bool, Option<OwnedFd>), Failed> {
        let all = self.build.engine.store().root().join(CACHES);
        let shown = all.display().to_string();
        let failed = |e: Errno| Failed::io("make", &shown)(e);
        let made = |path: &PathBuf| match rustix::fs::mkdir(path, OWN) {
            Ok(()) => Ok(true),
            Err(Errno::EXIST) => Ok(false),
            Err(e) => Err(e),
        };
        made(&all).map_err(failed)?;
        for number in 0..PRIVATE {
            let name = match number {
                0 => name.to_owned(),
                number => format!("{name}-{number}"),
            };
            let path = all.join(name);
            let fresh = made(&path).map_err(failed)?;
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let dir = rustix::fs::open(&path, flags, Mode::empty()).map_err(failed)?;
            let lock = match sharing {
                Sharing::Shared => None,
                Sharing::Locked => Some(self.waited_for(&dir)?),
                Sharing::Private => match flock(&dir, FlockOperation::NonBlockingLockExclusive) {
                    Ok(()) => Some(dir.try_clone().map_err(Failed::io("open", &shown))?),
                    Err(Errno::WOULDBLOCK) => continue,
                    Err(e) => return Err(failed(e)),
                },
            };
            return Ok((path, dir, fresh, lock));
        }
        Err(format!("a cache is used by more than {PRIVATE} builds at once").into())
    }

    /// Waits until no other build has it.
    fn waited_for(&self, dir: &OwnedFd) -> Result<OwnedFd, Failed> {
        loop {
            match flock(dir, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return dir.try_clone().map_err(Failed::io("open", "a cache")),
                Err(Errno::WOULDBLOCK | Errno::INTR) if self.build.cancel.is_stopped() => {
                    return Err(Failed::Interrupted);
                }
                // The other's build may take as long as it likes.
                Err(Errno::WOULDBLOCK | Errno::INTR) => {
                    std::thread::sleep(std::time::Duration::from_millis(50))
                }
                Err(e) => return Err(Failed::io("lock", "a cache")(e)),
            }
        }
    }

    fn secret(
        &self,
        mounts: &mut Mounts,
        kind: &MountKind,
        target: Option<String>,
    ) -> Result<(), Failed> {
        let MountKind::Secret {
            id,
            env,
            required,
            mode,
            uid,
            gid,
        } = kind
        else {
            return Ok(());
        };
        let Some(content) = self.build.request.secrets.get(id) else {
            return match required {
                true => Err(format!(
                    "the secret {id} is required: give it with --secret id={id},src=FILE"
                )
                .into()),
                false => Ok(()),
            };
        };
        if let Some(name) = env {
            let text = std::str::from_utf8(&content.0)
                .map_err(|_| format!("the secret {id} is no text: it cannot be a variable"))?;
            mounts.environment.push((name.clone(), text.to_owned()));
            if target.is_none() {
                return Ok(());
            }
        }
        let target = target.unwrap_or_else(|| clean(&format!("/run/secrets/{id}")));
        let path = self.staging(mounts)?.next();
        let write = || -> std::io::Result<()> {
            let mut file = File::options()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&path)?;
            file.write_all(&content.0)?;
            rustix::fs::fchown(&file, Some(Uid::from_raw(*uid)), Some(Gid::from_raw(*gid)))?;
            Ok(rustix::fs::fchmod(&file, Mode::from_raw_mode(*mode))?)
        };
        write().map_err(Failed::io("write", "a secret"))?;
        mounts.targets.push((target.clone(), FileType::RegularFile));
        mounts.mounts.push(ContainerMount {
            container_path: target.into(),
            host_path: path,
            readonly: true,
            ..ContainerMount::default()
        });
        Ok(())
    }
}

/// What a mount shows.
fn shown(origin: &Origin, path: &str) -> Result<Source, Failed> {
    let failed = |e: Errno| Failed::io("mount", path)(e);
    let stat = origin.tree.stat(path).map_err(failed)?;
    let stat = stat.ok_or_else(|| format!("--mount: {path:?}: no such file or directory"))?;
    Ok(Source {
        path: origin.tree.resolve(path, None).map_err(failed)?,
        name: String::new(),
        is_directory: tree::kind(&stat) == FileType::Directory,
    })
}

fn digest(origin: &Origin, path: &str) -> Result<Digest, Failed> {
    let given = Given {
        keep_owners: true,
        ..Given::default()
    };
    let filter = Filter {
        ignore: origin.ignore.clone(),
        ..Filter::default()
    };
    let mut hasher = Digest::hasher();
    let mut add = |found: &select::Found<'_>| put::digest(&mut hasher, found, &given);
    select::walk(&origin.tree, &filter, &shown(origin, path)?, &mut add)?;
    Ok(hasher.finish())
}

/// What a new cache begins with.
fn fill(origin: &Origin, path: &str, dir: &OwnedFd) -> Result<(), Failed> {
    let source = shown(origin, path)?;
    if !source.is_directory {
        return Err(format!("--mount: {path:?} is no directory").into());
    }
    let root = Tree::new(dir.try_clone().map_err(Failed::io("open", "a cache"))?);
    let given = Given {
        keep_owners: true,
        ..Given::default()
    };
    let mut put = Put::new(&root, "/", None, given)?;
    select::walk(&origin.tree, &Filter::default(), &source, &mut |found| {
        put.put(found)
    })?;
    put.finish()
}
