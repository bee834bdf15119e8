//! What a container has written, as an archive: applied again it gives the same tree, whatever the container did.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::tar::Entry;
use crate::common::twins::mixes;
use crate::common::{Layer, Sandbox, Tar, describe, installed, put, put_as, role};
use image::MediaType;
use rustix::fs::{FileType, Mode, Timespec, Timestamps, XattrFlags, mknodat, setxattr, utimensat};
use rustix::mount::{UnmountFlags, unmount};
use store::{
    Access, DiffFlaw, Difference, Error, Form, ImageRecord, MountOptions, RootFilesystem, Store,
};

/// The layers of the image that containers work on, the lower one first.
fn base() -> [Layer; 2] {
    let lower = Tar::new()
        .entry(&Entry::new(b'5', "./").mode(0o755))
        .file("etc/passwd", "base")
        .file("replaced/old", "base")
        .file("tree/a", "below")
        .file("kept/hidden", "base");
    let upper = Tar::new()
        .file("etc/gone", "base")
        .file("tree/a/b", "base")
        .file("kept/.wh.hidden", "")
        .file("kept/x", "base")
        .file("attributes", "base")
        .symlink("link", "etc/passwd");
    [lower, upper].map(|tar| Layer::gzip(&tar.finish()))
}

/// Runs a test in directories of its own for each mix of forms that is had here.
fn each_mix(dir: &Path, test: impl Fn(&Path, [Form; 2])) {
    let probe = Store::open(&dir.join("probe")).unwrap();
    for (number, forms) in mixes(&probe).into_iter().enumerate() {
        println!("{forms:?}");
        let dir = dir.join(number.to_string());
        fs::create_dir(&dir).unwrap();
        test(&dir, forms);
    }
}

fn difference(root: &RootFilesystem) -> (Vec<u8>, Difference) {
    let mut bytes = Vec::new();
    let done = root.write_difference(&mut bytes).unwrap();
    (bytes, done)
}

fn refused(root: &RootFilesystem) -> (String, DiffFlaw) {
    match root.write_difference(std::io::sink()).unwrap_err() {
        Error::Diff { path, flaw, .. } => (path, flaw),
        other => panic!("{other}"),
    }
}

fn set_time(path: &Path, seconds: i64, nanos: i64) {
    let time = Timespec {
        tv_sec: seconds,
        tv_nsec: nanos,
    };
    let times = Timestamps {
        last_access: time,
        last_modification: time,
    };
    let flags = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
    utimensat(rustix::fs::CWD, path, &times, flags).unwrap();
}

/// Does to a mounted root what containers do.
fn work(root: &Path) {
    fs::write(root.join("etc/passwd"), "changed").unwrap();
    fs::remove_file(root.join("etc/gone")).unwrap();
    fs::remove_dir_all(root.join("replaced")).unwrap();
    fs::create_dir(root.join("replaced")).unwrap();
    fs::write(root.join("replaced/new"), "new").unwrap();
    fs::remove_dir_all(root.join("tree")).unwrap();
    fs::write(root.join("tree"), "a file now").unwrap();
    let dir = root.join("new/dir");
    fs::create_dir_all(&dir).unwrap();
    fs::set_permissions(&dir, PermissionsExt::from_mode(0o3751)).unwrap();
    fs::write(dir.join("one"), "linked").unwrap();
    fs::hard_link(dir.join("one"), root.join("two")).unwrap();
    fs::hard_link(dir.join("one"), dir.join("three")).unwrap();
    symlink("/etc/../etc/passwd", dir.join("symlink")).unwrap();
    symlink("x".repeat(300), dir.join("long link")).unwrap();
    fs::write(dir.join("n".repeat(255)), "long name").unwrap();
    fs::write(dir.join("ü ∂ \n\t"), "odd name").unwrap();
    fs::write(
        dir.join(std::ffi::OsStr::from_bytes(b"\xff\xfe")),
        "no text",
    )
    .unwrap();
    let large = fs::File::create(dir.join("sparse")).unwrap();
    large.set_len(40 << 20).unwrap();
    std::os::unix::fs::FileExt::write_at(&large, b"end", (40 << 20) - 3).unwrap();
    for (name, kind) in [
        ("fifo", FileType::Fifo),
        ("null", FileType::CharacterDevice),
    ] {
        let number = rustix::fs::makedev(1, 3);
        mknodat(
            rustix::fs::CWD,
            dir.join(name),
            kind,
            Mode::from_raw_mode(0o620),
            number,
        )
        .unwrap();
    }
    std::os::unix::fs::chown(dir.join("fifo"), Some(3_000_000), Some(4_000_000_000)).unwrap();
    let set = |name: &str, value: &[u8]| {
        setxattr(root.join("attributes"), name, value, XattrFlags::empty()).unwrap();
    };
    // A capability set: version 2, effective, CAP_NET_RAW permitted.
    set(
        "security.capability",
        b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
    );
    set("user.note", b"a\nb=c\0d");
    fs::set_permissions(root.join("attributes"), PermissionsExt::from_mode(0o4711)).unwrap();
    set_time(&dir.join("one"), -5, 250_000_000);
    set_time(&dir.join("symlink"), 1_600_000_000, 123_456_789);
    set_time(&dir, 9_000_000_000, 1);
}

/// All that can be seen of a tree, but times of directories that were there before.
fn seen(root: &Path) -> BTreeMap<PathBuf, String> {
    let mut all = BTreeMap::new();
    let mut links: BTreeMap<u64, usize> = BTreeMap::new();
    let mut left = vec![PathBuf::new()];
    while let Some(relative) = left.pop() {
        let path = root.join(&relative);
        let metadata = path.symlink_metadata().unwrap();
        let mut told = format!(
            "{:o} {}:{} {}",
            metadata.mode(),
            metadata.uid(),
            metadata.gid(),
            metadata.rdev(),
        );
        if !metadata.is_dir() || relative.starts_with("new") {
            told += &format!(" at {}.{}", metadata.mtime(), metadata.mtime_nsec());
        }
        if metadata.nlink() > 1 && !metadata.is_dir() {
            let next = links.len();
            let group = links.entry(metadata.ino()).or_insert(next);
            told += &format!(" link {group} of {}", metadata.nlink());
        }
        if metadata.is_symlink() {
            told += &format!(" -> {}", fs::read_link(&path).unwrap().display());
        } else if metadata.is_file() {
            let content = image::Digest::of(&fs::read(&path).unwrap());
            told += &format!(" {} {content} {}", metadata.len(), attributes(&path));
        } else if metadata.is_dir() {
            let entries = fs::read_dir(&path).unwrap();
            let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
            names.sort();
            left.extend(names.into_iter().rev().map(|name| relative.join(name)));
        }
        all.insert(relative, told);
    }
    all
}

fn attributes(path: &Path) -> String {
    let mut names = [0_u8; 4096];
    let length = rustix::fs::llistxattr(path, &mut names).unwrap();
    let mut told = Vec::new();
    for name in names[..length]
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
    {
        let mut value = [0_u8; 4096];
        let length = rustix::fs::lgetxattr(path, name, &mut value).unwrap();
        told.push(format!(
            "{}={:?}",
            String::from_utf8_lossy(name),
            &value[..length]
        ));
    }
    told.sort();
    told.join(" ")
}

/// A mounted container that has done its work; what it is made of.
fn worked(dir: &Path, forms: [Form; 2]) -> (Store, RootFilesystem, PathBuf) {
    let store = Store::open(&dir.join("store")).unwrap();
    let record = put_as(&store, &base(), &forms, &["example.com/base:1"]);
    let root = store.create_writable_layer("c1", &record).unwrap();
    let target = dir.join("c1");
    fs::create_dir(&target).unwrap();
    root.mount_at(&target, &MountOptions::new(Access::Volatile))
        .unwrap();
    work(&target);
    (store, root, target)
}

/// The base with this archive on it.
fn image_with(store: &Store, archive: &[u8]) -> ImageRecord {
    let lease = store.lease().unwrap();
    let layer = Layer::of(archive, archive.to_vec(), MediaType::OciLayer);
    layer.add(store, &lease).unwrap();
    let layers = [base().as_slice(), &[layer]].concat();
    let new = describe(&layers, &["example.com/new:1"], "new");
    store.put_image(&lease, new).unwrap()
}

#[test]
fn the_difference_on_the_same_image_gives_the_same_tree() {
    if !crate::common::in_private_mounts("the_difference_on_the_same_image_gives_the_same_tree") {
        return;
    }
    let (_, dir) = role().unwrap();
    each_mix(&dir, the_same_tree);
}

fn the_same_tree(dir: &Path, forms: [Form; 2]) {
    let (store, root, target) = worked(dir, forms);
    let (archive, done) = difference(&root);
    assert_eq!(done.sockets, 0);
    assert!(archive.len() as u64 > done.bytes && done.bytes > 40 << 20);
    let (again, _) = difference(&root);
    assert!(archive == again, "the same tree gives the same bytes");
    let expected = seen(&target);
    unmount(&target, UnmountFlags::empty()).unwrap();
    let image = image_with(&store, &archive);
    let applied = store.create_writable_layer("c2", &image).unwrap();
    applied
        .mount_at(&target, &MountOptions::new(Access::Volatile))
        .unwrap();
    let found = seen(&target);
    unmount(&target, UnmountFlags::empty()).unwrap();
    assert_eq!(
        found.keys().collect::<Vec<_>>(),
        expected.keys().collect::<Vec<_>>()
    );
    for (path, told) in &expected {
        assert_eq!(&found[path], told, "{}", path.display());
    }
    assert!(!found.contains_key(Path::new("etc/gone")));
    assert!(!found.contains_key(Path::new("replaced/old")));
    // A container that wrote nothing has only the root of its own.
    let (nothing, done) = difference(&store.create_writable_layer("c3", &image).unwrap());
    assert!(nothing.len() <= 5 * 512 && done.entries == 1);
}

#[test]
fn tar_and_umoci_read_it_as_it_is_meant() {
    if !crate::common::in_private_mounts("tar_and_umoci_read_it_as_it_is_meant") {
        return;
    }
    let (_, dir) = role().unwrap();
    let (_store, root, target) = worked(&dir, [Form::Directory; 2]);
    let file = dir.join("difference.tar");
    root.write_difference(fs::File::create(&file).unwrap())
        .unwrap();
    let unpacked = dir.join("unpacked");
    fs::create_dir(&unpacked).unwrap();
    let mut tar = Command::new("tar");
    tar.args([
        "--numeric-owner",
        "--same-owner",
        "-p",
        "--xattrs",
        "--xattrs-include=*",
        "-xf",
    ]);
    crate::common::expect_success(tar.arg(&file).arg("-C").arg(&unpacked));
    let (mut expected, mut found) = (seen(&target), seen(&unpacked));
    unmount(&target, UnmountFlags::empty()).unwrap();
    for name in ["etc/.wh.gone", "replaced/.wh..wh..opq"] {
        assert!(found.remove(Path::new(name)).is_some(), "{name}");
    }
    // What the container left as the image has it.
    for name in ["kept", "kept/x", "link"] {
        expected.remove(Path::new(name)).unwrap();
    }
    assert_eq!(found, expected);
    if !installed("umoci") {
        return;
    }
    let layout = dir.join("layout");
    let image = format!("{}:x", layout.display());
    let umoci = |args: &[&str]| crate::common::expect_success(Command::new("umoci").args(args));
    umoci(&["init", "--layout", layout.to_str().unwrap()]);
    umoci(&["new", "--image", &image]);
    umoci(&[
        "raw",
        "add-layer",
        "--image",
        &image,
        file.to_str().unwrap(),
    ]);
    let bundle = dir.join("bundle");
    umoci(&["unpack", "--image", &image, bundle.to_str().unwrap()]);
    let mut found = seen(&bundle.join("rootfs"));
    for path in ["etc/.wh.gone", "replaced/.wh..wh..opq"] {
        assert!(
            !found.contains_key(Path::new(path)),
            "{path} was understood"
        );
    }
    // It leaves the root's mode, and devices, to itself.
    found.remove(Path::new(""));
    expected.remove(Path::new(""));
    assert_eq!(found, expected);
}

/// A container that is not mounted: what it wrote is made in its directory.
fn unmounted() -> (Sandbox, RootFilesystem, PathBuf) {
    let sandbox = Sandbox::new();
    let record = put(&sandbox.store, &base(), &[], "x");
    let root = sandbox.store.create_writable_layer("c1", &record).unwrap();
    let upper = crate::common::upper(&root);
    (sandbox, root, upper)
}

#[test]
fn what_no_layer_can_hold_is_refused_by_name() {
    let (_sandbox, root, upper) = unmounted();
    let name = upper.join("etc");
    fs::create_dir(&name).unwrap();
    for hidden in [".wh.passwd", ".wh..wh..opq", ".wh."] {
        fs::write(name.join(hidden), "").unwrap();
        let (path, flaw) = refused(&root);
        assert!(matches!(flaw, DiffFlaw::Name), "{flaw}");
        assert_eq!(path, format!("etc/{hidden}"));
        fs::remove_file(name.join(hidden)).unwrap();
    }
    fs::write(name.join("x"), "").unwrap();
    let set = |key: &str| setxattr(name.join("x"), key, b"v", XattrFlags::empty()).unwrap();
    set("user.a=b");
    assert!(matches!(refused(&root).1, DiffFlaw::Xattr(_)));
    fs::remove_file(name.join("x")).unwrap();
    for key in ["trusted.overlay.metacopy", "trusted.overlay.redirect"] {
        fs::write(name.join("x"), "").unwrap();
        set(key);
        assert!(matches!(refused(&root), (path, DiffFlaw::Elsewhere) if path == "etc/x"));
        fs::remove_file(name.join("x")).unwrap();
    }
    assert_eq!(difference(&root).1.entries, 2);
    // Deeper than any layer may be, as a process can make it step by step.
    let mut dir = rustix::fs::open(&name, rustix::fs::OFlags::PATH, Mode::empty()).unwrap();
    for _ in 0..600 {
        rustix::fs::mkdirat(&dir, "d", Mode::RWXU).unwrap();
        dir = rustix::fs::openat(&dir, "d", rustix::fs::OFlags::PATH, Mode::empty()).unwrap();
    }
    assert!(matches!(refused(&root).1, DiffFlaw::LongPath));
}

#[test]
fn nothing_is_waited_for_and_nothing_followed() {
    let (sandbox, root, upper) = unmounted();
    let secret = sandbox.dir.path().join("secret");
    fs::create_dir(&secret).unwrap();
    fs::write(secret.join("file"), "SECRET").unwrap();
    symlink(&secret, upper.join("dir")).unwrap();
    symlink(secret.join("file"), upper.join("file")).unwrap();
    mknodat(
        rustix::fs::CWD,
        upper.join("fifo"),
        FileType::Fifo,
        Mode::RUSR,
        0,
    )
    .unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(upper.join("socket")).unwrap();
    let (archive, done) = difference(&root);
    assert_eq!((done.sockets, done.bytes, done.entries), (1, 0, 4));
    assert!(!archive.windows(6).any(|bytes| bytes == b"SECRET"));
}

#[test]
fn a_tree_that_changes_all_the_time_gives_a_whole_archive_or_a_clear_error() {
    let (_sandbox, root, upper) = unmounted();
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        // Also when the test fails: the other thread is waited for.
        let _stopped = Stopped(&stop);
        scope.spawn(|| {
            let mut turn = 0_u64;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                turn += 1;
                let (one, other) = (upper.join("a"), upper.join("b"));
                match turn % 4 {
                    0 => drop(fs::create_dir_all(one.join("x/y"))),
                    1 => drop(fs::rename(&one, &other)),
                    2 => drop(symlink("/etc", &one)),
                    _ => drop((
                        fs::remove_dir_all(&other),
                        fs::remove_file(&one),
                        fs::write(upper.join("f"), vec![1; (turn % 100_000) as usize]),
                    )),
                }
            }
        });
        for _ in 0..200 {
            let mut archive = Vec::new();
            match root.write_difference(&mut archive) {
                Ok(_) => {
                    assert_eq!(archive.len() % 512, 0);
                    assert!(archive.ends_with(&[0; 1024]));
                    assert!(!archive.windows(7).any(|bytes| bytes == b"passwd\0"));
                }
                Err(Error::Diff {
                    flaw: DiffFlaw::Changed,
                    ..
                }) => {}
                Err(other) => panic!("{other}"),
            }
        }
    });
}

/// Says that it is time to stop when it goes.
struct Stopped<'a>(&'a std::sync::atomic::AtomicBool);

impl Drop for Stopped<'_> {
    fn drop(&mut self) {
        self.0.store(true, std::sync::atomic::Ordering::Relaxed);
    }
}

#[test]
fn an_end_that_takes_no_more_is_told_so_and_files_beyond_the_limit_are_not_written() {
    struct Full;
    impl std::io::Write for Full {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::Error::from_raw_os_error(libc_enospc()))
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    fn libc_enospc() -> i32 {
        rustix::io::Errno::NOSPC.raw_os_error()
    }
    let (_sandbox, root, upper) = unmounted();
    let full = root.write_difference(Full).unwrap_err();
    assert!(
        matches!(full, Error::DiffSink { .. }) && full.is_no_space(),
        "{full}"
    );
    let file = fs::File::create(upper.join("huge")).unwrap();
    // A hole costs the container nothing.
    if file.set_len(300 << 30).is_ok() {
        let (path, flaw) = refused(&root);
        assert!(matches!(flaw, DiffFlaw::Limit { .. }), "{flaw}");
        assert_eq!(path, "huge");
    }
}

#[test]
fn changes_for_those_who_know_no_marks_name_what_was_removed() {
    if !crate::common::in_private_mounts(
        "changes_for_those_who_know_no_marks_name_what_was_removed",
    ) {
        return;
    }
    let (_, dir) = role().unwrap();
    each_mix(&dir, removals_have_names);
}

fn removals_have_names(dir: &Path, forms: [Form; 2]) {
    let (_store, root, target) = worked(dir, forms);
    // Made anew, with a directory that it had.
    fs::remove_dir_all(target.join("kept")).unwrap();
    fs::create_dir(target.join("kept")).unwrap();
    fs::write(target.join("kept/y"), "y").unwrap();
    let mut bytes = Vec::new();
    let (done, removed) = root.write_changes(&mut bytes).unwrap();
    let (marked, with_marks) = difference(&root);
    unmount(&target, UnmountFlags::empty()).unwrap();
    let removed: Vec<String> = removed
        .into_iter()
        .map(|path| String::from_utf8(path).unwrap())
        .collect();
    assert_eq!(removed, ["etc/gone", "kept/x", "replaced/old"]);
    assert_eq!(done.entries + 3, with_marks.entries);
    let has = |bytes: &[u8], name: &[u8]| bytes.windows(name.len()).any(|at| at == name);
    assert!(has(&marked, b".wh.gone") && !has(&bytes, b".wh."));
    assert!(has(&bytes, b"kept/y"));
}

#[test]
fn a_difference_becomes_the_writable_layer_of_another_container() {
    if !crate::common::in_private_mounts(
        "a_difference_becomes_the_writable_layer_of_another_container",
    ) {
        return;
    }
    let (_, dir) = role().unwrap();
    each_mix(&dir, another_container_goes_on);
}

fn another_container_goes_on(dir: &Path, forms: [Form; 2]) {
    let (store, first, target) = worked(dir, forms);
    let expected = seen(&target);
    unmount(&target, UnmountFlags::empty()).unwrap();
    let (bytes, _) = difference(&first);
    let image = store.find("example.com/base:1").unwrap().unwrap();
    let second = store.create_writable_layer("c2", &image).unwrap();
    second.read_difference(&bytes[..]).unwrap();
    let (again, _) = difference(&second);
    assert!(again == bytes);
    second
        .mount_at(&target, &MountOptions::new(Access::Volatile))
        .unwrap();
    let found = seen(&target);
    unmount(&target, UnmountFlags::empty()).unwrap();
    assert_eq!(found, expected);
    let through_a_link = Tar::new().symlink("a", "/").file("a/escaped", "x");
    for (hostile, refused) in [
        (Tar::new().file("../../escaped", "x").finish(), true),
        (through_a_link.finish(), false),
        (bytes[..bytes.len() / 2].to_vec(), true),
    ] {
        let third = store.create_writable_layer("c3", &image).unwrap();
        let read = third.read_difference(&hostile[..]);
        let refusal = matches!(read, Err(Error::DiffSource { .. }));
        assert_eq!(refusal, refused, "{read:?}");
        assert!(!Path::new("/escaped").exists());
        assert!(!dir.join("store/containers/escaped").exists());
        store.remove_writable_layer("c3").unwrap();
    }
}
