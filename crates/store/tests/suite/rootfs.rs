//! Root file systems: the layers of an image under a real overlay mount, and the same files read
//! without one.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use crate::common::tar::Entry;
use crate::common::twins::mixes;
use crate::common::{Layer, Sandbox, Tar, put, put_as, role};
use rustix::fs::CWD;
use rustix::mount::{MoveMountFlags, UnmountFlags, move_mount, unmount};
use store::{Access, Error, Form, ImageRecord, MountOptions, RootFilesystem, Store};

/// By descriptor, and as kernels need it that take none.
const WAYS: [bool; 2] = [true, false];

fn overlay(root: &RootFilesystem, target: &Path, by_descriptor: bool) {
    fs::create_dir_all(target).unwrap();
    let options = MountOptions::new(Access::Volatile);
    if !by_descriptor {
        return root.mount_by_paths(target, &options).unwrap();
    }
    let mounted = root.open(&options).unwrap();
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
    put(store, &layers(), &["example.com/layered:1"], "layered")
}

/// The same, the one between the others in the second form.
fn layered_as(store: &Store, [outer, inner]: [Form; 2]) -> ImageRecord {
    let forms = [outer, inner, outer];
    put_as(store, &layers(), &forms, &["example.com/layered:1"])
}

fn layers() -> [Layer; 3] {
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
    [bottom, middle, top].map(|archive| Layer::gzip(&archive))
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
    let probe = Store::open(&dir.join("probe")).unwrap();
    for (number, forms) in mixes(&probe).into_iter().enumerate() {
        println!("{forms:?}");
        let dir = dir.join(number.to_string());
        fs::create_dir(&dir).unwrap();
        whiteouts_hide(&dir, forms);
    }
}

fn whiteouts_hide(dir: &Path, forms: [Form; 2]) {
    let store = Store::open(&dir.join("store")).unwrap();
    let record = layered_as(&store, forms);
    for way in WAYS {
        let rw = store.create_writable_layer("c1", &record).unwrap();
        assert_eq!(rw.layers(), store.layers_of(&record).unwrap());
        let root = dir.join("root");
        overlay(&rw, &root, way);
        let seen = files(&root);
        let expected = VISIBLE
            .iter()
            .map(|(path, content)| ((*path).to_owned(), (*content).to_owned()));
        assert_eq!(seen, expected.collect());
        let top = root.metadata().unwrap();
        assert_eq!((top.mode() & 0o7777, top.uid(), top.gid()), (0o751, 11, 22));
        fs::write(root.join("etc/new"), "written").unwrap();
        fs::remove_file(root.join("etc/passwd")).unwrap();
        assert_eq!(
            store.writable_layer_usage("c1").unwrap().inodes,
            4,
            "root, etc, new, and a whiteout"
        );
        unmount(&root, UnmountFlags::empty()).unwrap();
        store.remove_writable_layer("c1").unwrap();
    }
    // Reading without the mount tells the same.
    for (path, content) in VISIBLE {
        let read = store.read_file(&record, path, 100).unwrap();
        assert_eq!(read.as_deref(), Some(content.as_bytes()), "{path}");
    }
}

/// The mounts of this mount namespace that have to do with a store.
fn mounts(store: &Store) -> usize {
    let all = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let root = store.root().to_str().unwrap();
    all.lines().filter(|line| line.contains(root)).count()
}

#[test]
fn an_open_root_is_seen_by_nobody_and_an_image_cannot_be_written() {
    for forms in mixes(&Sandbox::new().store) {
        nobody_sees(forms);
    }
}

fn nobody_sees(forms: [Form; 2]) {
    let sandbox = Sandbox::new();
    let record = layered_as(&sandbox.store, forms);
    let root = sandbox.store.image_root(&record).unwrap();
    let open = root.open(&MountOptions::new(Access::ReadOnly)).unwrap();
    assert_eq!(mounts(&sandbox.store), 0, "{forms:?}");
    let seen = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&open));
    let seen = Path::new(&seen);
    assert_eq!(fs::read_to_string(seen.join("etc/passwd")).unwrap(), "top");
    let written = fs::write(seen.join("x"), "").unwrap_err();
    assert_eq!(written.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
    for access in [Access::Volatile, Access::Durable] {
        let refused = root.open(&MountOptions::new(access)).unwrap_err();
        assert!(matches!(refused, Error::Unsupported { .. }), "{refused}");
    }
}

#[test]
fn what_a_container_wrote_is_read_and_written_on_once_it_has_ended() {
    if !crate::common::in_private_mounts(
        "what_a_container_wrote_is_read_and_written_on_once_it_has_ended",
    ) {
        return;
    }
    let (_, dir) = role().unwrap();
    let store = Store::open(&dir.join("store")).unwrap();
    let record = layered(&store);
    let target = dir.join("root");
    for way in WAYS {
        let rw = store.create_writable_layer("c1", &record).unwrap();
        overlay(&rw, &target, way);
        fs::write(target.join("written"), "1").unwrap();
        unmount(&target, UnmountFlags::empty()).unwrap();
        // The kernel refuses what a volatile mount has had, unless somebody says that it may be used.
        for access in [Access::ReadOnly, Access::Durable, Access::Durable] {
            match way {
                true => rw.mount_at(&target, &MountOptions::new(access)).unwrap(),
                false => {
                    let options = MountOptions::new(access);
                    rw.mount_by_paths(&target, &options).unwrap();
                }
            }
            assert_eq!(fs::read_to_string(target.join("written")).unwrap(), "1");
            let wrote = fs::write(target.join("more"), "2").is_ok();
            assert_eq!(wrote, access == Access::Durable);
            unmount(&target, UnmountFlags::empty()).unwrap();
        }
        assert!(crate::common::upper(&rw).join("more").exists());
        store.remove_writable_layer("c1").unwrap();
    }
}

#[test]
fn a_root_is_recorded_by_identities_and_forms_and_no_paths() {
    let sandbox = Sandbox::new();
    let record = layered(&sandbox.store);
    let rw = sandbox.store.create_writable_layer("c1", &record).unwrap();
    let text = serde_json::to_string(&rw.record()).unwrap();
    let layers: Vec<_> = rw
        .layers()
        .iter()
        .map(|layer| {
            serde_json::json!({
                "diff_id": layer.diff_id().to_string(),
                "form": layer.form().to_string(),
            })
        })
        .collect();
    let expected = serde_json::json!({"layers": layers, "container": "c1"});
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(&text).unwrap(),
        expected
    );
    let kept = fs::read_to_string(sandbox.root().join("containers/c1/layers")).unwrap();
    assert!(
        kept.contains(&rw.layers()[0].diff_id().to_string()),
        "{kept}"
    );
    assert!(!kept.contains(sandbox.root().to_str().unwrap()), "{kept}");
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
    for way in WAYS {
        let rw = store.create_writable_layer("c1", &record).unwrap();
        overlay(&rw, &root, way);
        assert_eq!(files(&root).keys().collect::<Vec<_>>(), ["new", "newer"]);
        assert_eq!(store.read_file(&record, "old", 10).unwrap(), None);
        unmount(&root, UnmountFlags::empty()).unwrap();
        store.remove_writable_layer("c1").unwrap();
    }
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
        for way in WAYS {
            let id = format!("c{number}-{way}");
            let rw = store.create_writable_layer(&id, &record).unwrap();
            overlay(&rw, &root, way);
            assert_eq!(files(&root).len(), expected);
            fs::write(root.join("written"), "").unwrap();
            unmount(&root, UnmountFlags::empty()).unwrap();
        }
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
    let rw = store.create_writable_layer("c1", &record).unwrap();
    assert!(matches!(
        store.create_writable_layer("c1", &record).unwrap_err(),
        Error::ContainerExists { .. }
    ));
    let other = Store::open(sandbox.root()).unwrap();
    assert_eq!(other.container_root("c1").unwrap(), Some(rw.clone()));
    assert_eq!(other.container_root("c2").unwrap(), None);
    other.create_writable_layer("c2", &record).unwrap();
    let mut ids = store.writable_layer_ids().unwrap();
    ids.sort();
    assert_eq!(ids, ["c1", "c2"]);
    let upper = crate::common::upper(&rw).metadata().unwrap();
    assert_eq!(
        (
            upper.permissions().mode() & 0o7777,
            upper.uid(),
            upper.gid()
        ),
        (0o751, 11, 22)
    );
    store.remove_writable_layer("c1").unwrap();
    store.remove_writable_layer("c1").unwrap();
    assert!(!crate::common::upper(&rw).exists());
    store.create_writable_layer("c1", &record).unwrap();
    for id in ["", ".", "..", "a/b", "-x", ".x", "x y", &"x".repeat(201)] {
        assert!(
            matches!(
                store.create_writable_layer(id, &record).unwrap_err(),
                Error::ContainerId { .. }
            ),
            "{id}"
        );
        assert!(
            matches!(
                store.remove_writable_layer(id).unwrap_err(),
                Error::ContainerId { .. }
            ),
            "{id}"
        );
    }
    store.remove(&record.id).unwrap();
    assert!(matches!(
        store.create_writable_layer("c3", &record).unwrap_err(),
        Error::ImageNotFound { .. }
    ));
    assert!(!sandbox.root().join("containers/c3").exists());
}

#[test]
fn dropping_the_last_handle_waits_until_all_is_removed() {
    let sandbox = Sandbox::new();
    let record = layered(&sandbox.store);
    for n in 0..20 {
        let rw = sandbox
            .store
            .create_writable_layer(&format!("c{n}"), &record)
            .unwrap();
        fs::write(crate::common::upper(&rw).join("x"), "").unwrap();
        sandbox
            .store
            .remove_writable_layer(&format!("c{n}"))
            .unwrap();
        assert!(
            !crate::common::upper(&rw).exists(),
            "at once out of the way"
        );
    }
    let dir = sandbox.stop();
    assert_eq!(
        fs::read_dir(dir.path().join("store/tmp")).unwrap().count(),
        0
    );
}
