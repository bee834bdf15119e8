//! What no entry of a layer says the time of: a layer is the same whenever it is unpacked, and so a
//! check finds it.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::os::unix::fs::MetadataExt;

use crate::common::tar::Entry;
use crate::common::{Layer, Sandbox, Tar, in_private_mounts, put, unpack};
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};
use store::Check;

#[test]
fn implied_parents_and_whiteouts_have_no_time_of_their_own() {
    let sandbox = Sandbox::new();
    let archive = Tar::new()
        .file("a/b/first", "")
        .entry(&Entry::new(b'5', "a/b").mode(0o700))
        .file("a/b/second", "")
        .file("c/.wh.gone", "")
        .file("a/third", "")
        .finish();
    let layer = unpack(&sandbox.store, &archive);
    let time = |path: &str| layer.join(path).metadata().unwrap().mtime();
    assert_eq!((time("a"), time("c")), (0, 0));
    assert_ne!(time("a/b"), 0, "an entry says another one");
    // As if it had been unpacked long ago.
    let then = Timespec {
        tv_sec: 1_000_000,
        tv_nsec: 0,
    };
    let times = Timestamps {
        last_access: then,
        last_modification: then,
    };
    utimensat(CWD, layer.join("c/gone"), &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
    let report = sandbox.store.check(Check::default()).unwrap();
    assert!(report.findings.is_empty(), "{:?}", report.findings);
}

fn dir(name: &str, mode: u32) -> Entry {
    Entry::new(b'5', name).mode(mode).owner(5, 6)
}

/// A container of these layers, mounted: its root, until the store goes.
fn mounted(sandbox: &Sandbox, container: &str, archives: &[Vec<u8>]) -> std::path::PathBuf {
    let layers: Vec<_> = archives
        .iter()
        .map(|archive| Layer::gzip(archive))
        .collect();
    let image = put(&sandbox.store, &layers, &[], container);
    let rw = sandbox
        .store
        .create_writable_layer(container, &image)
        .unwrap();
    let rw = rw.overlay_paths().unwrap();
    let root = sandbox.dir.path().join(container);
    std::fs::create_dir(&root).unwrap();
    let lower: Vec<_> = rw
        .lower
        .iter()
        .map(|dir| dir.display().to_string())
        .collect();
    let options = format!(
        "lowerdir={},upperdir={},workdir={}",
        lower.join(":"),
        rw.upper.display(),
        rw.work.display()
    );
    let mut mount = std::process::Command::new("mount");
    mount
        .args(["-t", "overlay", "overlay", "-o", &options])
        .arg(&root);
    crate::common::expect_success(&mut mount);
    root
}

#[test]
fn a_parent_that_no_entry_is_about_looks_as_the_layers_below_have_it() {
    if !in_private_mounts("a_parent_that_no_entry_is_about_looks_as_the_layers_below_have_it") {
        return;
    }
    let sandbox = Sandbox::new();
    let base = Tar::new()
        .entry(&dir("opt", 0o700))
        .pax(&[("SCHILY.xattr.user.mark", b"kept")])
        .entry(&dir("opt/sticky", 0o1777))
        .file("opt/sticky/below", "1")
        .entry(&dir("gone", 0o700))
        .finish();
    let middle = Tar::new()
        .file("opt/other", "2")
        .file(".wh.gone", "")
        .finish();
    let top = Tar::new()
        .file("opt/sticky/above", "3")
        .file("gone/x", "")
        .file("new/x", "")
        .finish();
    let root = mounted(
        &sandbox,
        "one",
        &[base.clone(), middle.clone(), top.clone()],
    );
    let facts = |root: &std::path::Path, path: &str| {
        let found = root.join(path).metadata().unwrap();
        (
            found.mode() & 0o7777,
            found.uid(),
            found.gid(),
            found.mtime(),
        )
    };
    let then = 1_000_000_000;
    assert_eq!(facts(&root, "opt"), (0o700, 5, 6, then));
    assert_eq!(facts(&root, "opt/sticky"), (0o1777, 5, 6, then));
    for path in ["opt/sticky/below", "opt/sticky/above", "opt/other"] {
        assert!(root.join(path).exists(), "{path}");
    }
    // Nothing below is to be seen there.
    assert_eq!(facts(&root, "gone"), (0o755, 0, 0, 0));
    assert_eq!(facts(&root, "new"), (0o755, 0, 0, 0));
    // The same layer over another one, for another image.
    let other = Tar::new()
        .entry(&dir("opt", 0o750))
        .entry(&dir("opt/sticky", 0o711))
        .finish();
    let other = mounted(&sandbox, "two", &[other, top.clone()]);
    assert_eq!(facts(&other, "opt").0, 0o750);
    assert_eq!(facts(&other, "opt/sticky").0, 0o711);
    assert_eq!(facts(&root, "opt").0, 0o700);
    // A link is not followed, and an entry of the layer itself counts.
    let link = Tar::new()
        .symlink("opt", "/etc")
        .entry(&dir("own", 0o700))
        .finish();
    let own = Tar::new()
        .file("opt/sticky/x", "")
        .file("own/x", "")
        .entry(&dir("own", 0o711))
        .finish();
    let own = mounted(&sandbox, "three", &[link, own]);
    assert_eq!(facts(&own, "opt").0, 0o755);
    assert_eq!(facts(&own, "own").0, 0o711);
    let record = sandbox.store.check(Check::default()).unwrap();
    assert!(record.findings.is_empty(), "{:?}", record.findings);
}
