//! Layers that are an archive and an index: how they come, are mounted, shared and go, and how one form becomes the
//! other.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};

use crate::common::tar::Entry;
use crate::common::twins::{can_mount, lying, same};
use crate::common::{Layer, Sandbox, Tar, change, child, in_private_mounts, put, role, warnings};
use store::{
    Access, Check, Error, Form, ImageRecord, MountOptions, Outcome, Purpose, Store, WantedForm,
};

fn lower() -> Vec<u8> {
    Tar::new()
        .dir("etc")
        .entry(&Entry::new(b'0', "etc/file").owner(7, 8).data("lower"))
        .file("etc/gone", "x")
        .file("big", vec![3; 200_000])
        .hard_link("again", "big")
        .finish()
}

fn upper() -> Vec<u8> {
    Tar::new()
        .file("etc/.wh.gone", "")
        .file("etc/new", "upper")
        .symlink("link", "etc/new")
        .finish()
}

/// A store whose new layers are archives, with an image of two; `None` where they cannot be had.
fn indexed() -> Option<(Sandbox, ImageRecord)> {
    let sandbox = Sandbox::new();
    if !can_mount(&sandbox.store) {
        return None;
    }
    sandbox.store.set_layer_form(Form::Erofs);
    let layers = [Layer::gzip(&lower()), Layer::zstd(&upper())];
    let record = put(&sandbox.store, &layers, &["example.com/x:1"], "x");
    Some((sandbox, record))
}

fn forms(store: &Store, record: &ImageRecord) -> Vec<Form> {
    let layers = store.layers_of(record).unwrap();
    layers.iter().map(store::Layer::form).collect()
}

/// The places in the store where something is mounted.
fn mounted(root: &Path) -> Vec<PathBuf> {
    let all = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let places = all.lines().filter_map(|line| line.split(' ').nth(4));
    let here = places.map(PathBuf::from).filter(|p| p.starts_with(root));
    here.collect()
}

#[test]
fn containers_share_one_mount_of_a_layer_that_goes_with_the_last() {
    if !in_private_mounts("containers_share_one_mount_of_a_layer_that_goes_with_the_last") {
        return;
    }
    let Some((sandbox, record)) = indexed() else {
        return;
    };
    let store = &sandbox.store;
    let target = sandbox.dir.path().join("target");
    fs::create_dir(&target).unwrap();
    for container in ["one", "two"] {
        let root = store.create_writable_layer(container, &record).unwrap();
        let options = MountOptions::new(Access::Volatile);
        root.mount_at(&target, &options).unwrap();
        assert_eq!(fs::read(target.join("etc/file")).unwrap(), b"lower");
        assert_eq!(fs::read(target.join("link")).unwrap(), b"upper");
        assert!(!target.join("etc/gone").exists());
        fs::write(target.join("etc/file"), "written").unwrap();
        fs::remove_file(target.join("big")).unwrap();
        assert_eq!(fs::read(target.join("again")).unwrap(), vec![3; 200_000]);
        unmount(&target);
        let mut places = mounted(store.root());
        places.sort();
        let numbers = ["mounted/1", "mounted/2"].map(|place| store.root().join(place));
        assert_eq!(places, numbers, "after {container}");
    }
    // Others find what is mounted, and what a process that was killed has left.
    let other = Store::open(store.root()).unwrap();
    let root = other.container_root("one").unwrap().unwrap();
    drop(root.open(&MountOptions::new(Access::ReadOnly)).unwrap());
    assert_eq!(mounted(store.root()).len(), 2);
    store.gc().unwrap();
    assert_eq!(mounted(store.root()).len(), 2, "they are stood on");
    store.remove_writable_layer("one").unwrap();
    assert_eq!(mounted(store.root()).len(), 2);
    store.remove_writable_layer("two").unwrap();
    assert_eq!(mounted(store.root()), Vec::<PathBuf>::new());
    assert_eq!(
        fs::read_dir(store.root().join("mounted")).unwrap().count(),
        0
    );
    // Whoever only reads leaves none.
    assert_eq!(
        store.read_file(&record, "/link", 99).unwrap().unwrap(),
        b"upper"
    );
    assert_eq!(mounted(store.root()), Vec::<PathBuf>::new());
}

fn unmount(target: &Path) {
    let done = std::process::Command::new("umount").arg(target).status();
    assert!(done.unwrap().success());
}

#[test]
fn what_a_kill_left_mounted_is_unmounted_by_the_next_collection() {
    if !in_private_mounts("what_a_kill_left_mounted_is_unmounted_by_the_next_collection") {
        return;
    }
    let Some((sandbox, record)) = indexed() else {
        return;
    };
    let store = &sandbox.store;
    let root = store.create_writable_layer("one", &record).unwrap();
    drop(root.open(&MountOptions::new(Access::Volatile)).unwrap());
    assert_eq!(mounted(store.root()).len(), 2);
    // As if the process had been killed between the container and its mounts.
    let lost = sandbox.dir.path().join("lost");
    fs::rename(store.root().join("containers/one"), &lost).unwrap();
    store.gc().unwrap();
    // The first collection forgets the container, and the next one what it stood on.
    store.gc().unwrap();
    assert_eq!(mounted(store.root()), Vec::<PathBuf>::new());
    store.remove(&record.id).unwrap();
    store.gc().unwrap();
    assert_eq!(store.usage().unwrap(), store::Usage::default());
    let root = store.root().to_owned();
    let _dir = sandbox.stop();
    let left = lying(&root);
    assert_eq!(left, [root.join("layers/0")], "{left:?}");
}

#[test]
fn a_reboot_leaves_an_empty_directory_that_is_mounted_on_again() {
    if !in_private_mounts("a_reboot_leaves_an_empty_directory_that_is_mounted_on_again") {
        return;
    }
    let Some((sandbox, record)) = indexed() else {
        return;
    };
    let store = &sandbox.store;
    let root = store.create_writable_layer("one", &record).unwrap();
    drop(root.open(&MountOptions::new(Access::Volatile)).unwrap());
    for place in mounted(store.root()) {
        unmount(&place);
    }
    store.gc().unwrap();
    let root = store.create_writable_layer("two", &record).unwrap();
    let mount = root.open(&MountOptions::new(Access::Volatile)).unwrap();
    assert_eq!(mounted(store.root()).len(), 2);
    drop(mount);
    store.remove_writable_layer("one").unwrap();
    store.remove_writable_layer("two").unwrap();
    assert_eq!(mounted(store.root()), Vec::<PathBuf>::new());
}

#[test]
fn each_form_becomes_the_other_and_stays_the_same_layer() {
    let Some((sandbox, record)) = indexed() else {
        return;
    };
    let store = &sandbox.store;
    let before = store.usage().unwrap();
    let first = lying(store.root());
    for (form, name) in [(Form::Directory, "1"), (Form::Erofs, "1.erofs")] {
        for layer in store.layers_of(&record).unwrap() {
            assert!(store.convert(&layer, form).unwrap());
            let again = store.layer(layer.diff_id()).unwrap().unwrap();
            assert!(!store.convert(&again, form).unwrap(), "it has it");
        }
        assert_eq!(forms(store, &record), [form; 2]);
        assert!(store.root().join("layers").join(name).exists());
        let report = store.check(Check::default()).unwrap();
        assert!(report.findings.is_empty(), "{:?}", report.findings);
        let file = store.read_file(&record, "/etc/file", 99).unwrap();
        assert_eq!(file.unwrap(), b"lower");
        store.gc().unwrap();
    }
    let root = store.create_writable_layer("one", &record).unwrap();
    let refused = store.convert(&root.layers()[0], Form::Directory);
    let words = refused.unwrap_err().to_string();
    assert!(words.contains("container one stands on it"), "{words}");
    drop(root);
    store.remove_writable_layer("one").unwrap();
    assert_eq!(store.usage().unwrap(), before);
    // What is removed in the background is gone when the store is closed.
    let root = store.root().to_owned();
    let _dir = sandbox.stop();
    assert_eq!(lying(&root), first);
}

/// A program that takes every layer for a directory must not open a store that has others.
#[test]
fn the_schema_says_whether_there_are_layers_that_are_no_directories() {
    let Some((sandbox, record)) = indexed() else {
        return;
    };
    let store = &sandbox.store;
    let schema = || {
        let db = rusqlite::Connection::open(store.root().join("meta.sqlite")).unwrap();
        let version: i64 = db
            .pragma_query_value(None, "user_version", |row| row.get(0))
            .unwrap();
        let reader = "SELECT value FROM state WHERE key = 'reader'";
        (version, db.query_row(reader, [], |row| row.get(0)).unwrap())
    };
    assert_eq!(schema(), (4, 4_i64));
    for layer in store.layers_of(&record).unwrap() {
        assert_eq!(schema(), (4, 4));
        store.convert(&layer, Form::Directory).unwrap();
    }
    assert_eq!(schema(), (3, 3));
    assert_eq!(
        Store::open(store.root()).unwrap().images().unwrap().len(),
        1
    );
}

#[test]
fn a_database_that_was_lost_has_each_layer_in_its_form_again() {
    let Some((sandbox, record)) = indexed() else {
        return;
    };
    sandbox.store.set_layer_form(Form::Directory);
    let unpacked = Layer::gzip(&Tar::new().file("u", "u").finish());
    let other = put(&sandbox.store, &[unpacked], &["example.com/y:1"], "y");
    let usage = sandbox.store.usage().unwrap();
    let root = sandbox.root().to_owned();
    let dir = sandbox.stop();
    for end in ["", "-wal", "-shm"] {
        let _ = fs::remove_file(root.join(format!("meta.sqlite{end}")));
    }
    let store = Store::open(&root).unwrap();
    assert_eq!(forms(&store, &record), [Form::Erofs; 2]);
    assert_eq!(forms(&store, &other), [Form::Directory]);
    assert_eq!(store.usage().unwrap(), usage);
    let file = store.read_file(&record, "/etc/new", 99).unwrap();
    assert_eq!(file.unwrap(), b"upper");
    let report = store.check(Check::default()).unwrap();
    assert!(report.findings.is_empty(), "{:?}", report.findings);
    drop(dir);
}

#[test]
fn a_check_makes_an_index_again_and_an_archive_from_its_blob() {
    let Some((sandbox, record)) = indexed() else {
        return;
    };
    let store = &sandbox.store;
    let files = store.root().join("layers/1.erofs");
    let repair = Check {
        quick: false,
        repair: true,
    };
    for (name, how) in [("index", "its index"), ("tar", "from its blob")] {
        let path = files.join(name);
        let whole = fs::read(&path).unwrap();
        let mut bytes = whole.clone();
        bytes[whole.len() / 2] ^= 0x20;
        change(&path, &bytes);
        let report = store.check(Check::default()).unwrap();
        assert_eq!(report.findings.len(), 1, "{:?}", report.findings);
        let report = store.check(repair).unwrap();
        let said = format!("{:?}", report.findings[0].outcome);
        assert!(said.contains(how), "{said}");
        assert!(fs::read(&path).unwrap() == whole);
    }
    fs::remove_dir_all(&files).unwrap();
    let report = store
        .check(Check {
            quick: true,
            repair: false,
        })
        .unwrap();
    assert_eq!(report.findings.len(), 1, "{:?}", report.findings);
    let report = store.check(repair).unwrap();
    assert!(matches!(report.findings[0].outcome, Outcome::Repaired(_)));
    assert_eq!(forms(store, &record), [Form::Erofs; 2]);
    assert!(store.check(Check::default()).unwrap().findings.is_empty());
}

#[test]
fn what_the_format_has_no_place_for_is_unpacked() {
    let Some((sandbox, _)) = indexed() else {
        return;
    };
    // Content that begins in the middle of a block: GNU's map of holes, three bytes and then three more.
    let map = b"2\n0\n3\n1000\n3\n";
    let mut data = map.to_vec();
    data.resize(512, 0);
    data.extend(b"abcdef");
    let archive = Tar::new()
        .pax(&[
            ("GNU.sparse.major", b"1"),
            ("GNU.sparse.minor", b"0"),
            ("GNU.sparse.name", b"holes"),
            ("GNU.sparse.realsize", b"2000"),
        ])
        .file("x", data)
        .finish();
    let record = put(&sandbox.store, &[Layer::gzip(&archive)], &[], "holes");
    assert_eq!(forms(&sandbox.store, &record), [Form::Directory]);
    let content = sandbox.store.read_file(&record, "/holes", 4096).unwrap();
    let content = content.unwrap();
    assert_eq!(content.len(), 2000);
    assert_eq!(
        (&content[..3], &content[1000..1003]),
        (&b"abc"[..], &b"def"[..])
    );
}

#[test]
fn layers_get_the_best_form_until_another_is_named() {
    let sandbox = Sandbox::new();
    let store = &sandbox.store;
    let best = match can_mount(store) {
        true => Form::Erofs,
        false => Form::Directory,
    };
    assert_eq!(store.form_of_new_layers(), best);
    for (words, form) in [
        ("unpacked", Form::Directory),
        ("auto", best),
        ("directory", Form::Directory),
        ("erofs", best),
    ] {
        store.set_layer_form(words.parse::<WantedForm>().unwrap());
        assert_eq!(store.form_of_new_layers(), form, "{words}");
    }
    let refused = "round".parse::<WantedForm>().unwrap_err();
    assert!(
        refused.contains("none of auto, unpacked and erofs"),
        "{refused}"
    );
}

#[test]
fn a_layer_is_found_whatever_form_another_handle_wants() {
    let Some((sandbox, record)) = indexed() else {
        return;
    };
    let other = Store::open(sandbox.root()).unwrap();
    let again = put(&other, &[Layer::gzip(&lower())], &[], "again");
    assert_eq!(forms(&other, &again), [Form::Erofs]);
    let dir = tempfile::tempdir().unwrap();
    let beside = Store::open_beside(&dir.path().join("s"), &[sandbox.root().to_owned()]).unwrap();
    assert_eq!(forms(&beside, &record), [Form::Erofs; 2]);
    let file = beside.read_file(&record, "/etc/file", 99).unwrap();
    assert_eq!(file.unwrap(), b"lower");
    let layer = beside.layers_of(&record).unwrap().remove(0);
    let refused = beside.convert(&layer, Form::Directory).unwrap_err();
    assert!(matches!(refused, Error::Unsupported { .. }), "{refused}");
    same(&layer, &sandbox.store.layers_of(&record).unwrap()[0]);
}

#[test]
fn containers_on_an_additional_store_share_its_mounts_too() {
    if !in_private_mounts("containers_on_an_additional_store_share_its_mounts_too") {
        return;
    }
    let Some((sandbox, record)) = indexed() else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let near = dir.path().join("s");
    let beside = Store::open_beside(&near, &[sandbox.root().to_owned()]).unwrap();
    for container in ["one", "two"] {
        let root = beside.create_writable_layer(container, &record).unwrap();
        drop(root.open(&MountOptions::new(Access::Volatile)).unwrap());
    }
    assert_eq!(mounted(beside.root()).len(), 2);
    assert_eq!(mounted(sandbox.root()), Vec::<PathBuf>::new());
    beside.remove_writable_layer("one").unwrap();
    beside.gc().unwrap();
    assert_eq!(mounted(beside.root()).len(), 2);
    beside.remove_writable_layer("two").unwrap();
    assert_eq!(mounted(beside.root()), Vec::<PathBuf>::new());
}

/// In a user namespace nobody mounts files: the form that is had is told once.
#[test]
fn where_it_cannot_be_had_layers_are_unpacked_with_one_warning() {
    const NAME: &str = "where_it_cannot_be_had_layers_are_unpacked_with_one_warning";
    if let Some((_, root)) = role() {
        let store = Store::open(&root.join("store")).unwrap();
        let ((), warned) = warnings(|| {
            for number in 0..3 {
                // Nobody is told what nobody has asked for.
                if number == 1 {
                    store.set_layer_form(Form::Erofs);
                }
                let archive = Tar::new().file(format!("{number}"), "x").finish();
                let record = put(&store, &[Layer::gzip(&archive)], &[], &format!("{number}"));
                assert_eq!(forms(&store, &record), [Form::Directory]);
            }
        });
        let warned: Vec<_> = warned.iter().filter(|w| w.contains("unpacked")).collect();
        assert_eq!(warned.len(), 1, "{warned:?}");
        assert_eq!(store.form_of_new_layers(), Form::Directory);
        println!("unpacked");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let itself = child(NAME, "users", dir.path());
    let mut command = std::process::Command::new("unshare");
    command
        .args(["--user", "--map-root-user", "--mount"])
        .arg(itself.get_program())
        .args(itself.get_args());
    command.envs(
        itself
            .get_envs()
            .filter_map(|(name, value)| Some((name, value?))),
    );
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success() && said.contains("unpacked"),
        "{said}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn a_mount_of_a_layer_is_read_only_and_has_no_copy_of_its_own_on_disk() {
    let Some((sandbox, record)) = indexed() else {
        return;
    };
    let store = &sandbox.store;
    let top = store.layers_of(&record).unwrap().remove(1);
    let mount = top.open(Purpose::Mount { ids: None }).unwrap();
    let big = format!(
        "/proc/self/fd/{}/big",
        std::os::fd::AsRawFd::as_raw_fd(&mount)
    );
    assert_eq!(fs::read(&big).unwrap(), vec![3; 200_000]);
    let refused = fs::OpenOptions::new().write(true).open(&big).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
    let disk = top.usage_on_disk().unwrap();
    assert_eq!(disk.inodes, 3);
    assert!(disk.bytes < 260_000, "{disk:?}");
}

#[test]
fn an_annotation_or_a_lease_has_layers_unpacked_all_the_same() {
    let Some((sandbox, _)) = indexed() else {
        return;
    };
    let store = &sandbox.store;
    let archive = |name: &str| Tar::new().file(name, "x").finish();
    let mut layer = Layer::gzip(&archive("annotated"));
    let annotations = &mut layer.descriptor.annotations;
    annotations.insert("io.floe.layer-form".into(), "unpacked".into());
    let record = put(store, &[layer, Layer::gzip(&archive("other"))], &[], "a");
    assert_eq!(forms(store, &record), [Form::Erofs, Form::Directory]);
    let lease = store.lease().unwrap();
    lease.unpack_layers();
    let layer = Layer::gzip(&archive("leased"));
    layer.add(store, &lease).unwrap();
    let found = store.layer(&layer.diff_id).unwrap().unwrap();
    assert_eq!(found.form(), Form::Directory);
}
