//! Files of the configuration that change under a running engine: inotify(7) says when to look, and what
//! stat(2) says of each file whether there is anything new.
//!
//! Directories are watched and not files, as editors and Kubernetes' volumes replace files by renames; of a
//! directory that is not there, the nearest one above that is. Must never miss a change that comes while one
//! is read: whoever reads takes the look ([`Files::seen`]) first.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::OsString;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::inotify::{self, CreateFlags, Reader, WatchFlags};
use rustix::io::Errno;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Changes come in bunches; as long as none has come for is one.
const QUIET: Duration = Duration::from_millis(100);
/// Who never stops writing is read after so many of them.
const BUNCH: u32 = 20;
/// Directories in each other, and files, that are looked at.
const DEPTH_MAX: usize = 8;
const FILES_MAX: usize = 2000;

const CHANGES: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::CLOSE_WRITE)
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::ONLYDIR);

/// What stat(2) says of a file: device, inode, size, and when it was written and changed.
type Look = (u64, u64, u64, (i64, i64), (i64, i64));

/// Files and directories, and how they were when they were looked at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Files {
    places: Vec<PathBuf>,
    seen: BTreeMap<PathBuf, Look>,
}

impl Files {
    /// Looks at those, too.
    pub(super) fn look_at(&mut self, places: Vec<PathBuf>) {
        for place in &places {
            look(place, &mut self.seen);
        }
        self.places.extend(places);
    }

    /// The same, as they are now.
    pub(super) fn now(&self) -> Self {
        let mut now = Self::default();
        now.look_at(self.places.clone());
        now
    }

    /// Completes when one of them is not as it was seen.
    ///
    /// # Errors
    /// The kernel has no watch to give.
    pub(super) async fn changed(&self) -> Result<(), Errno> {
        loop {
            let watch = Watch::on(&self.places)?;
            if self.now() != *self {
                return Ok(());
            }
            watch.bunch().await?;
        }
    }
}

/// Looks at a file, or at all below a directory.
fn look(place: &Path, seen: &mut BTreeMap<PathBuf, Look>) {
    let mut left = vec![(place.to_owned(), 0)];
    while let Some((path, depth)) = left.pop() {
        let Ok(found) = std::fs::metadata(&path) else {
            continue;
        };
        if found.is_dir() && depth < DEPTH_MAX {
            let entries = std::fs::read_dir(&path).into_iter().flatten().flatten();
            left.extend(entries.map(|entry| (entry.path(), depth + 1)));
        }
        let written = (found.mtime(), found.mtime_nsec());
        let changed = (found.ctime(), found.ctime_nsec());
        // A directory's own times change with every file that an editor makes beside.
        if found.is_file() {
            let look = (found.dev(), found.ino(), found.size(), written, changed);
            seen.insert(path, look);
        }
        if seen.len() + left.len() > FILES_MAX {
            return;
        }
    }
}

/// Watches on directories, each with the names that matter in it; none: all.
struct Watch {
    inotify: AsyncFd<OwnedFd>,
    names: HashMap<i32, Option<HashSet<OsString>>>,
}

impl Watch {
    fn on(places: &[PathBuf]) -> Result<Self, Errno> {
        let fd = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        // SAFETY: the descriptor is owned by what registers it, and stays the same until that is dropped.
        let inotify = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) };
        let inotify = inotify.map_err(|_| Errno::NOMEM)?;
        let mut watch = Self {
            inotify,
            names: HashMap::new(),
        };
        for place in places {
            watch.add(place)?;
        }
        Ok(watch)
    }

    /// Watches what is there of a place: a directory with all below it, and in the one above its name.
    fn add(&mut self, place: &Path) -> Result<(), Errno> {
        let mut dirs = vec![(place.to_owned(), 0)];
        while let Some((dir, depth)) = dirs.pop() {
            if !dir.is_dir() || depth > DEPTH_MAX || self.names.len() > FILES_MAX {
                continue;
            }
            self.watch(&dir, None)?;
            let entries = std::fs::read_dir(&dir).into_iter().flatten().flatten();
            dirs.extend(entries.map(|entry| (entry.path(), depth + 1)));
        }
        let mut below = place;
        while let (Some(dir), Some(name)) = (below.parent(), below.file_name()) {
            // Where a link leads to may be changed by other names.
            let name = (!below.is_symlink()).then(|| name.to_owned());
            if self.watch(dir, name)? {
                break;
            }
            below = dir;
        }
        Ok(())
    }

    /// False: there is no such directory.
    fn watch(&mut self, dir: &Path, name: Option<OsString>) -> Result<bool, Errno> {
        let number = match inotify::add_watch(&self.inotify, dir, CHANGES) {
            Ok(number) => number,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::ACCESS) => return Ok(false),
            Err(errno) => return Err(errno),
        };
        let names = self
            .names
            .entry(number)
            .or_insert_with(|| Some(HashSet::new()));
        match name {
            Some(name) => names.iter_mut().for_each(|names| {
                names.insert(name.clone());
            }),
            None => *names = None,
        }
        Ok(true)
    }

    /// Completes when something that matters has changed, and then nothing for a moment.
    async fn bunch(&self) -> Result<(), Errno> {
        loop {
            let mut ready = self.inotify.readable().await.map_err(|_| Errno::BADF)?;
            ready.clear_ready();
            if self.news()? {
                break;
            }
        }
        for _ in 0..BUNCH {
            tokio::time::sleep(QUIET).await;
            if !self.news()? {
                break;
            }
        }
        Ok(())
    }

    /// Takes what the kernel has told: has any of it to do with the files?
    fn news(&self) -> Result<bool, Errno> {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = Reader::new(&self.inotify, &mut buffer);
        let mut matters = false;
        loop {
            match reader.next() {
                Ok(event) => {
                    let name = event.file_name().map(|name| name.to_bytes());
                    let known = self.names.get(&event.wd()).and_then(Option::as_ref);
                    matters |= match (known, name) {
                        (Some(names), Some(name)) => {
                            names.contains(std::ffi::OsStr::from_bytes(name))
                        }
                        _ => true,
                    };
                }
                Err(Errno::WOULDBLOCK) => return Ok(matters),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(places: &[&Path]) -> Files {
        let mut files = Files::default();
        files.look_at(places.iter().map(|place| (*place).to_owned()).collect());
        files
    }

    /// Runs `change` while the files are watched, and waits until it is seen.
    async fn seen(files: &Files, change: impl FnOnce()) {
        let before = files.clone();
        let watched = tokio::spawn(async move { before.changed().await });
        tokio::task::yield_now().await;
        change();
        watched.await.unwrap().unwrap();
        assert_ne!(files.now(), *files);
    }

    #[tokio::test]
    async fn a_file_is_seen_to_be_written_replaced_removed_and_made_with_its_directories() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a/b/floe.toml");
        let write = |text: &str| std::fs::write(&file, text).unwrap();
        seen(&files(&[&file]), || {
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            write("1");
        })
        .await;
        seen(&files(&[&file]), || write("22")).await;
        seen(&files(&[&file]), || {
            let new = file.with_extension("new");
            std::fs::write(&new, "33").unwrap();
            std::fs::rename(new, &file).unwrap();
        })
        .await;
        seen(&files(&[&file]), || std::fs::remove_file(&file).unwrap()).await;
    }

    #[tokio::test]
    async fn drop_ins_at_any_depth_are_seen_and_so_is_a_volume_whose_links_are_swapped() {
        let dir = tempfile::tempdir().unwrap();
        let drop_ins = dir.path().join("floe.toml.d");
        seen(&files(&[&drop_ins]), || {
            std::fs::create_dir_all(drop_ins.join("deep/er")).unwrap();
            std::fs::write(drop_ins.join("deep/er/x.toml"), "").unwrap();
        })
        .await;
        let link = |to: &str| {
            let data = dir.path().join("..data");
            std::os::unix::fs::symlink(to, dir.path().join("new")).unwrap();
            std::fs::rename(dir.path().join("new"), data).unwrap();
        };
        for version in ["..1", "..2"] {
            std::fs::create_dir(dir.path().join(version)).unwrap();
            std::fs::write(dir.path().join(version).join("floe.toml"), version).unwrap();
        }
        link("..1");
        let file = dir.path().join("floe.toml");
        std::os::unix::fs::symlink("..data/floe.toml", &file).unwrap();
        seen(&files(&[&file]), || link("..2")).await;
    }

    #[tokio::test]
    async fn what_lies_beside_a_file_is_not_of_interest() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("floe.toml");
        std::fs::write(&file, "").unwrap();
        let watch = Watch::on(std::slice::from_ref(&file)).unwrap();
        std::fs::write(dir.path().join("other"), "").unwrap();
        assert_eq!(watch.news(), Ok(false));
        std::fs::write(&file, "1").unwrap();
        assert_eq!(watch.news(), Ok(true));
    }
}
