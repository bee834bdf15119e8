//! Root file systems: the layers of an image under a real overlay mount, and the same files read
//! without one.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use crate::common::tar::Entry;
use crate::common::{Layer, Sandbox, Tar, put, role};
use rustix::fs::CWD;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, UnmountFlags, fsconfig_create,
    fsconfig_set_string, fsmount, fsopen, move_mount, unmount,
};
use store::{Error, ImageRecord, RwLayer, Store};

/// Mounts as the runtime does: by the calls that set no limit to the number of layers.
fn overlay(rw: &RwLayer, target: &Path) {
    fs::create_dir_all(target).unwrap();
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).unwrap();
    let set = |key: &str, path: &Path| fsconfig_set_string(context.as_fd(), key, path).unwrap();
    for layer in &rw.lower {
        set("lowerdir+", layer);
    }
    set("upperdir", &rw.upper);
    set("workdir", &rw.work);
    fsconfig_create(context.as_fd()).unwrap();
    let attributes = MountAttrFlags::empty();
    let mounted = fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes).unwrap();
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    move_mount(mounted.as_fd(), "", CWD, target, flags).unwrap();
}

/// The names of all files below a mounted root, and their content.
fn files(root: &Path) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    crate::common::list(root, &mut all);
    let relative = |path: &Path| {
        path.strip_prefix(root)
            .unwrap()
            .to_str()
            .unwrap()
            .to_owned()
    };
    let content = |path: &Path| (relative(path), fs::read_to_string(path).unwrap());
    all.keys()
        .filter(|path| path.symlink_metadata().unwrap().is_file())
        .map(|path| content(path))
        .collect()
}

/// Three layers with every way to hide and to bring back.
fn layered(store: &Store) -> ImageRecord {
    let bottom = Tar::new()
        .entry(&Entry::new(b'5', "./").mode(0o700))
        .file("etc/passwd", "bottom")
        .file("etc/gone", "bottom")
        .file("opaque/old", "bottom")
        .file("replaced/old", "bottom")
        .file("dir-to-file/x", "bottom")
        .file("file-to-dir", "bottom")
        .file("back", "bottom")
        .file("kept/deep/er", "bottom")
        .symlink("lib", "usr/lib")
        .file("usr/lib/so", "bottom")
        .finish();
    let middle = Tar::new()
        .file("etc/.wh.gone", "")
        .file("opaque/.wh..wh..opq", "")
        .file("opaque/new", "middle")
        .file(".wh.replaced", "")
        .file("replaced/new", "middle")
        .file("dir-to-file", "middle")
        .file("file-to-dir/x", "middle")
        .file(".wh.back", "")
        .file("kept/more", "middle")
        .file(".wh.never-was", "")
        .finish();
    let top = Tar::new()
        .entry(&Entry::new(b'5', "./").mode(0o751).owner(11, 22))
        .file("etc/passwd", "top")
        .file("back", "top")
        .file("opaque/newer", "top")
        .symlink("etc/link", "/etc/../usr/lib/so")
        .finish();
    let layers = [bottom, middle, top].map(|archive| Layer::gzip(&archive));
    put(store, &layers, &["example.com/layered:1"], "layered")
}

const VISIBLE: &[(&str, &str)] = &[
    ("back", "top"),
    ("dir-to-file", "middle"),
    ("etc/passwd", "top"),
    ("file-to-dir/x", "middle"),
    ("kept/deep/er", "bottom"),
    ("kept/more", "middle"),
    ("opaque/new", "middle"),
    ("opaque/newer", "top"),
    ("replaced/new", "middle"),
    ("usr/lib/so", "bottom"),
];

const HIDDEN: &[&str] = &[
    "etc/gone",
    "opaque/old",
    "replaced/old",
    "dir-to-file/x",
    "never-was",
    "nothing",
    "etc/passwd/x",
];

#[test]
fn the_kernel_sees_whiteouts_and_opaque_directories() {
    if !crate::common::in_private_mounts("the_kernel_sees_whiteouts_and_opaque_directories") {
        return;
    }
    let (_, dir) = role().unwrap();
    let store = Store::open(&dir.join("store")).unwrap();
    let record = layered(&store);
    let rw = store.create_rw("c1", &record).unwrap();
    assert_eq!(rw.lower, store.layers_of(&record).unwrap());
    let root = dir.join("root");
    overlay(&rw, &root);
    let seen = files(&root);
    let expected = VISIBLE
        .iter()
        .map(|(path, content)| ((*path).to_owned(), (*content).to_owned()));
    assert_eq!(seen, expected.collect());
    let top = root.metadata().unwrap();
    assert_eq!((top.mode() & 0o7777, top.uid(), top.gid()), (0o751, 11, 22));
    // Reading without the mount tells the same.
    for (path, content) in VISIBLE {
        let read = store.read_file(&record, path, 100).unwrap();
        assert_eq!(read.as_deref(), Some(content.as_bytes()), "{path}");
    }
    fs::write(root.join("etc/new"), "written").unwrap();
    fs::remove_file(root.join("etc/passwd")).unwrap();
    assert_eq!(
        store.rw_usage("c1").unwrap().inodes,
        4,
        "root, etc, new, and a whiteout"
    );
    unmount(&root, UnmountFlags::empty()).unwrap();
    store.remove_rw("c1").unwrap();
}

#[test]
fn an_opaque_root_hides_all_layers_below() {
    if !crate::common::in_private_mounts("an_opaque_root_hides_all_layers_below") {
        return;
    }
    let (_, dir) = role().unwrap();
    let store = Store::open(&dir.join("store")).unwrap();
    let bottom = Layer::gzip(&Tar::new().file("old", "").finish());
    let opaque = Layer::gzip(&Tar::new().file(".wh..wh..opq", "").file("new", "").finish());
    let top = Layer::gzip(&Tar::new().file("newer", "").finish());
    let record = put(&store, &[bottom, opaque, top], &["example.com/x:1"], "x");
    let root = dir.join("root");
    overlay(&store.create_rw("c1", &record).unwrap(), &root);
    assert_eq!(files(&root).keys().collect::<Vec<_>>(), ["new", "newer"]);
    assert_eq!(store.read_file(&record, "old", 10).unwrap(), None);
    unmount(&root, UnmountFlags::empty()).unwrap();
}

#[test]
fn odd_stacks_can_be_mounted() {
    if !crate::common::in_private_mounts("odd_stacks_can_be_mounted") {
        return;
    }
    let (_, dir) = role().unwrap();
    let store = Store::open(&dir.join("store")).unwrap();
    // No layer at all; the same layer twice; and as many as Docker makes.
    let repeated = Layer::gzip(&Tar::new().file("a", "a").finish());
    let between = Layer::gzip(&Tar::new().file(".wh.a", "").file("b", "b").finish());
    let many: Vec<Layer> = (0..127)
        .map(|n| Layer::gzip(&Tar::new().file(format!("f{n}"), "").finish()))
        .collect();
    let stacks = [
        (vec![], 0),
        (vec![repeated.clone(), between, repeated], 2),
        (many, 127),
    ];
    for (number, (layers, expected)) in stacks.into_iter().enumerate() {
        let record = put(&store, &layers, &[], &number.to_string());
        let root = dir.join(format!("root{number}"));
        let rw = store.create_rw(&format!("c{number}"), &record).unwrap();
        overlay(&rw, &root);
        assert_eq!(files(&root).len(), expected);
        fs::write(root.join("written"), "").unwrap();
        unmount(&root, UnmountFlags::empty()).unwrap();
    }
}

#[test]
fn files_are_read_through_links_and_never_outside() {
    let sandbox = Sandbox::new();
    let store = &sandbox.store;
    let record = layered(store);
    let read = |path: &str| store.read_file(&record, path, 100).unwrap();
    assert_eq!(read("/lib/so").unwrap(), b"bottom");
    assert_eq!(read("etc/link").unwrap(), b"bottom");
    assert_eq!(read("//etc/./../etc//passwd").unwrap(), b"top");
    assert_eq!(read("../../../etc/passwd").unwrap(), b"top");
    for path in HIDDEN {
        assert_eq!(read(path), None, "{path}");
    }
    assert_eq!(read(&"x".repeat(300)), None);
    let failed = |path: &str, max: u64| store.read_file(&record, path, max).unwrap_err();
    assert!(matches!(failed("etc", 100), Error::NotAFile { .. }));
    assert!(matches!(
        failed("etc/passwd", 2),
        Error::TooLarge {
            size: 3,
            max: 2,
            ..
        }
    ));
}

#[test]
fn links_in_circles_and_special_files_end_reading() {
    let sandbox = Sandbox::new();
    let archive = Tar::new()
        .symlink("a", "b")
        .symlink("b", "/a")
        .symlink("host", "/proc/self/environ")
        .entry(&Entry::new(b'6', "fifo"))
        .finish();
    let record = put(&sandbox.store, &[Layer::gzip(&archive)], &[], "x");
    let read = |path: &str| sandbox.store.read_file(&record, path, 100);
    assert!(matches!(read("a").unwrap_err(), Error::Loop { .. }));
    assert!(matches!(read("fifo").unwrap_err(), Error::NotAFile { .. }));
    assert_eq!(read("host").unwrap(), None);
}

#[test]
fn writable_layers_come_and_go() {
    let sandbox = Sandbox::new();
    let store = &sandbox.store;
    let record = layered(store);
    let rw = store.create_rw("c1", &record).unwrap();
    assert!(matches!(
        store.create_rw("c1", &record).unwrap_err(),
        Error::ContainerExists { .. }
    ));
    let other = Store::open(sandbox.root()).unwrap();
    assert_eq!(other.rw("c1").unwrap(), Some(rw.clone()));
    assert_eq!(other.rw("c2").unwrap(), None);
    other.create_rw("c2", &record).unwrap();
    let mut ids = store.rw_ids().unwrap();
    ids.sort();
    assert_eq!(ids, ["c1", "c2"]);
    let upper = rw.upper.metadata().unwrap();
    assert_eq!(
        (
            upper.permissions().mode() & 0o7777,
            upper.uid(),
            upper.gid()
        ),
        (0o751, 11, 22)
    );
    store.remove_rw("c1").unwrap();
    store.remove_rw("c1").unwrap();
    assert!(!rw.upper.exists());
    store.create_rw("c1", &record).unwrap();
    for id in ["", ".", "..", "a/b", "-x", ".x", "x y", &"x".repeat(201)] {
        assert!(
            matches!(
                store.create_rw(id, &record).unwrap_err(),
                Error::ContainerId { .. }
            ),
            "{id}"
        );
        assert!(
            matches!(store.remove_rw(id).unwrap_err(), Error::ContainerId { .. }),
            "{id}"
        );
    }
    store.remove(&record.id).unwrap();
    assert!(matches!(
        store.create_rw("c3", &record).unwrap_err(),
        Error::ImageNotFound { .. }
    ));
    assert!(!sandbox.root().join("containers/c3").exists());
}

#[test]
fn dropping_the_last_handle_waits_until_all_is_removed() {
    let sandbox = Sandbox::new();
    let record = layered(&sandbox.store);
    for n in 0..20 {
        let rw = sandbox.store.create_rw(&format!("c{n}"), &record).unwrap();
        fs::write(rw.upper.join("x"), "").unwrap();
        sandbox.store.remove_rw(&format!("c{n}")).unwrap();
        assert!(!rw.upper.exists(), "at once out of the way");
    }
    let dir = sandbox.stop();
    assert_eq!(
        fs::read_dir(dir.path().join("store/tmp")).unwrap().count(),
        0
    );
}
