//! What no entry of a layer says the time of: a layer is the same whenever it is unpacked, and so a
//! check finds it.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::os::unix::fs::MetadataExt;

use common::tar::Entry;
use common::{Sandbox, Tar, unpack};
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
