//! Layers whose files the kernel holds to what they were (fs-verity), on a file system of the test's own that can.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::twins::can_mount;
use crate::common::{Layer, Tar, expect_success, in_private_mounts, put, role};
use store::{Check, Flaw, Form, Outcome, Report, Store};

const QUICK: Check = Check {
    quick: true,
    repair: false,
};
const LOOK: Check = Check {
    quick: false,
    repair: false,
};
const REPAIR: Check = Check {
    quick: false,
    repair: true,
};

/// A disk in a file, with a file system that can.
struct Disk {
    image: PathBuf,
    place: PathBuf,
}

impl Disk {
    /// `None` where there is no such program.
    fn make(dir: &Path) -> Option<Disk> {
        if !installed_mkfs() {
            return None;
        }
        let disk = Disk {
            image: dir.join("disk"),
            place: dir.join("place"),
        };
        fs::create_dir(&disk.place).unwrap();
        let file = fs::File::create(&disk.image).unwrap();
        file.set_len(64 << 20).unwrap();
        let mut make = Command::new("mkfs.ext4");
        make.args(["-q", "-F", "-b", "4096", "-O", "verity"]);
        expect_success(make.arg(&disk.image));
        disk.mount();
        Some(disk)
    }

    fn mount(&self) {
        let mut mount = Command::new("mount");
        mount.args(["-t", "ext4", "-o", "loop"]);
        expect_success(mount.arg(&self.image).arg(&self.place));
    }

    fn unmount(&self) {
        expect_success(Command::new("umount").arg(&self.place));
    }

    /// Changes a bit wherever a text lies on the disk, as the disk itself might: also in what was removed.
    fn flip(&self, text: &[u8]) {
        let bytes = fs::read(&self.image).unwrap();
        let places = bytes.windows(text.len()).enumerate();
        let places: Vec<usize> = places
            .filter_map(|(place, found)| (found == text).then_some(place))
            .collect();
        assert!(!places.is_empty());
        let file = fs::OpenOptions::new().write(true).open(&self.image);
        let file = file.unwrap();
        for place in places {
            file.write_all_at(&[text[0] ^ 1], place as u64).unwrap();
        }
        file.sync_all().unwrap();
    }
}

fn installed_mkfs() -> bool {
    let found = Command::new("mkfs.ext4").arg("-V").output().is_ok();
    if !found {
        println!("SKIP: mkfs.ext4 is not installed");
    }
    found
}

fn flaws(report: &Report) -> Vec<String> {
    let findings = report.findings.iter();
    findings.map(|finding| finding.flaw.to_string()).collect()
}

const MARK: &[u8] = b"this is where the content of the file begins";

#[test]
fn a_byte_that_the_disk_changed_in_a_sealed_layer_is_an_error_and_no_other_data() {
    const NAME: &str =
        "a_byte_that_the_disk_changed_in_a_sealed_layer_is_an_error_and_no_other_data";
    if !in_private_mounts(NAME) {
        return;
    }
    let (_, dir) = role().unwrap();
    let Some(disk) = Disk::make(&dir) else {
        return;
    };
    let root = disk.place.join("store");
    let store = Store::open(&root).unwrap();
    if !can_mount(&store) {
        drop(store);
        return disk.unmount();
    }
    store.set_layer_form(Form::Erofs);
    let content = MARK.repeat(4000);
    // Far from what is changed: the kernel reads ahead.
    let archive = Tar::new()
        .file("x", "y")
        .file("between", vec![0; 1 << 20])
        .file("big", content.clone());
    let record = put(&store, &[Layer::gzip(&archive.finish())], &[], "x");
    let layer = store.layers_of(&record).unwrap().remove(0);
    if !layer.is_sealed().unwrap() {
        println!("SKIP: this kernel has no fs-verity");
        drop((layer, store));
        return disk.unmount();
    }
    let tar = root.join("layers/1.erofs/tar");
    let refused = fs::OpenOptions::new().write(true).open(&tar).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::PermissionDenied);
    assert_eq!(flaws(&store.check(QUICK).unwrap()), [""; 0]);
    assert_eq!(flaws(&store.check(LOOK).unwrap()), [""; 0]);

    put_another_index(&store);

    drop((layer, store));
    disk.unmount();
    disk.flip(MARK);
    disk.mount();
    let store = Store::open(&root).unwrap();
    assert_eq!(flaws(&store.check(QUICK).unwrap()), [""; 0]);
    store.read_file(&record, "/big", 1 << 20).unwrap_err();
    assert_eq!(store.read_file(&record, "/x", 9).unwrap().unwrap(), b"y");
    let found = store.check(LOOK).unwrap();
    assert!(matches!(found.findings[..], [ref one] if matches!(one.flaw, Flaw::Read(_))));
    let repaired = store.check(REPAIR).unwrap();
    let outcome = &repaired.findings[0].outcome;
    assert!(matches!(outcome, Outcome::Repaired(how) if how.contains("from its blob")));
    let read = store.read_file(&record, "/big", 1 << 20).unwrap();
    assert!(read.unwrap() == content);
    let layer = store.layers_of(&record).unwrap().remove(0);
    assert!(layer.is_sealed().unwrap());
    drop((layer, store));
    disk.unmount();
}

/// A file of the same bytes that is not the one that was sealed is found without a look at its bytes.
#[track_caller]
fn put_another_index(store: &Store) {
    let index = store.root().join("layers/1.erofs/index");
    let copy = index.with_file_name("copy");
    fs::copy(&index, &copy).unwrap();
    fs::rename(&copy, &index).unwrap();
    let found = store.check(QUICK).unwrap();
    assert!(matches!(found.findings[..], [ref one] if matches!(one.flaw, Flaw::Seal)));
    let repaired = store.check(REPAIR).unwrap();
    let outcome = &repaired.findings[0].outcome;
    assert!(matches!(outcome, Outcome::Repaired(how) if how.contains("its index")));
    assert_eq!(flaws(&store.check(QUICK).unwrap()), [""; 0]);
    store.settle().unwrap();
}
