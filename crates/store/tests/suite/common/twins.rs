//! One archive as a layer of each form: both are taken or neither, and both are the same tree.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat, openat, readlinkat, statat};
use store::{Form, Purpose, Store};

use super::{Layer, list};

/// Whether layers can be mounted as files here; says so if not.
pub fn can_mount(store: &Store) -> bool {
    let can = store.can_have(Form::Erofs);
    if !can {
        println!("SKIP: layers cannot be mounted as files here");
    }
    can
}

/// The forms that two layers of an image can have here, the lower one's first: a store may hold both.
pub fn mixes(store: &Store) -> Vec<[Form; 2]> {
    const BOTH: [Form; 2] = [Form::Directory, Form::Erofs];
    let mut mixes = vec![[Form::Directory; 2]];
    if can_mount(store) {
        mixes = BOTH
            .iter()
            .flat_map(|one| BOTH.map(|other| [*one, other]))
            .collect();
    }
    mixes
}

/// Adds an archive to a store of its own in the other form and compares it with the layer that another has.
#[track_caller]
pub fn same_in_the_other_form(archive: &[u8], unpacked: &store::Layer) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("store")).unwrap();
    if !can_mount(&store) {
        return;
    }
    store.set_layer_form(Form::Erofs);
    let lease = store.lease().unwrap();
    Layer::gzip(archive).add(&store, &lease).unwrap();
    let layer = store.layer(unpacked.diff_id()).unwrap().unwrap();
    same(unpacked, &layer);
    assert!(layer.verify().unwrap().is_none());
}

/// Panics at the first entry that is not the same in both.
#[track_caller]
pub fn same(one: &store::Layer, other: &store::Layer) {
    let open = |layer: &store::Layer| layer.open(Purpose::Directory).unwrap();
    same_trees(&open(one), &open(other));
}

#[track_caller]
pub fn same_trees(one: &OwnedFd, other: &OwnedFd) {
    let mut left = vec![(String::new(), dup(one), dup(other))];
    while let Some((path, one, other)) = left.pop() {
        let (names, others) = (names(&one), names(&other));
        assert_eq!(names, others, "names in {path:?}");
        assert_eq!(xattrs(&one), xattrs(&other), "attributes of {path:?}");
        for name in names {
            let path = format!("{path}/{}", name.escape_ascii());
            let stat = |dir: &OwnedFd| statat(dir, &*name, AtFlags::SYMLINK_NOFOLLOW).unwrap();
            let (a, b) = (stat(&one), stat(&other));
            assert_eq!(facts(&a), facts(&b), "{path:?}");
            let open = |dir: &OwnedFd, flags| {
                let flags = flags | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                openat(dir, &*name, flags, Mode::empty()).unwrap()
            };
            match FileType::from_raw_mode(a.st_mode) {
                FileType::Directory => {
                    let open = |dir| open(dir, OFlags::DIRECTORY);
                    left.push((path, open(&one), open(&other)));
                }
                FileType::RegularFile => {
                    let (a, b) = (open(&one, OFlags::empty()), open(&other, OFlags::empty()));
                    assert_eq!(xattrs(&a), xattrs(&b), "attributes of {path:?}");
                    assert!(content(a) == content(b), "content of {path:?}");
                }
                FileType::Symlink => {
                    let target = |dir: &OwnedFd| readlinkat(dir, &*name, Vec::new()).unwrap();
                    assert_eq!(target(&one), target(&other), "{path:?}");
                }
                _ => {}
            }
        }
    }
}

fn dup(fd: &OwnedFd) -> OwnedFd {
    openat(fd, ".", OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap()
}

fn names(dir: &OwnedFd) -> Vec<Vec<u8>> {
    let entries = Dir::read_from(dir.as_fd()).unwrap();
    let mut names: Vec<Vec<u8>> = entries
        .map(|entry| entry.unwrap().file_name().to_bytes().to_vec())
        .filter(|name| name != b"." && name != b"..")
        .collect();
    names.sort();
    names
}

type Facts = (u32, u32, u32, u64, i64, Option<(i64, u64)>, u64);

/// What an archive says of an entry. A whiteout has no time.
fn facts(stat: &Stat) -> Facts {
    let kind = FileType::from_raw_mode(stat.st_mode);
    let directory = kind == FileType::Directory;
    let whiteout = kind == FileType::CharacterDevice && stat.st_rdev == 0;
    (
        stat.st_mode,
        stat.st_uid,
        stat.st_gid,
        stat.st_rdev,
        if directory { 0 } else { stat.st_size },
        (!whiteout).then_some((stat.st_mtime, stat.st_mtime_nsec)),
        if directory { 0 } else { stat.st_nlink },
    )
}

fn xattrs(file: &OwnedFd) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut names = vec![0; 65_536];
    let length = rustix::fs::flistxattr(file, names.as_mut_slice()).unwrap();
    let names = names[..length].split(|byte| *byte == 0);
    let mut all = BTreeMap::new();
    for name in names.filter(|name| !name.is_empty()) {
        let mut value = vec![0; 65_536];
        let length = rustix::fs::fgetxattr(file, name, value.as_mut_slice()).unwrap();
        value.truncate(length);
        all.insert(name.to_vec(), value);
    }
    all
}

fn content(file: OwnedFd) -> Vec<u8> {
    let mut all = Vec::new();
    File::from(file).read_to_end(&mut all).unwrap();
    all
}

/// What lies in the directories of a store where layers are, and half-made things.
pub fn lying(root: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut all = BTreeMap::new();
    for dir in ["layers", "tmp"] {
        list(&root.join(dir), &mut all);
    }
    all.into_keys().collect()
}
