//! The interface of a layer, form by form: each form that the store has runs the same suite.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use crate::common::tar::Entry;
use crate::common::twins::can_mount;
use crate::common::{Layer as Packed, Sandbox, Tar, put};
use store::{Error, Flaw, Form, Layer, LayerState, Purpose, Store};

/// A layer with something of each kind.
fn archive() -> Vec<u8> {
    Tar::new()
        .entry(&Entry::new(b'5', "./").mode(0o751).owner(11, 22))
        .file("etc/file", "content")
        .entry(&Entry::new(b'0', "etc/of").owner(1000, 1001).data("owned"))
        .symlink("link", "etc/file")
        .file(".wh.gone", "")
        .file("opaque/.wh..wh..opq", "")
        .file("large", vec![7_u8; 300_000])
        .finish()
}

/// An image whose only layer has this form.
fn of_form(form: Form) -> (Sandbox, Layer) {
    let sandbox = Sandbox::new();
    sandbox.store.set_layer_form(form);
    let packed = Packed::zstd(&archive());
    let record = put(&sandbox.store, &[packed], &["example.com/x:1"], "x");
    let layer = sandbox.store.layers_of(&record).unwrap().remove(0);
    assert_eq!(layer.form(), form);
    (sandbox, layer)
}

/// Those that can be had here.
fn forms() -> Vec<Form> {
    let mut forms = vec![Form::Directory];
    forms.extend(can_mount(&Sandbox::new().store).then_some(Form::Erofs));
    forms
}

fn at(open: &OwnedFd, path: &str) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}/{path}", open.as_raw_fd()))
}

#[test]
fn a_layer_is_found_by_its_identity_and_says_what_it_is() {
    for form in forms() {
        let (sandbox, layer) = of_form(form);
        let found = sandbox.store.layer(layer.diff_id()).unwrap().unwrap();
        assert_eq!(found, layer);
        assert_eq!(found.state(), LayerState::Verified);
        assert_eq!(*layer.diff_id(), image::Digest::of(&archive()));
        let nothing = sandbox.store.layer(&image::Digest::of(b"else")).unwrap();
        assert!(nothing.is_none());
        assert_eq!(found.integrity().unwrap(), None);
        let (counted, walked) = (found.usage(), found.usage_on_disk().unwrap());
        assert_eq!(counted.inodes, walked.inodes);
        assert!(walked.bytes >= 300_000 && counted.bytes >= 300_000);
    }
}

#[test]
fn the_integrity_root_that_its_manifest_names_stays_with_it() {
    const KEY: &str = "io.katacontainers.dm-verity.root-hash";
    let root = "AB".repeat(32);
    let long = "0".repeat(129);
    for (number, (given, kept)) in [
        (root.as_str(), Some(root.to_lowercase())),
        (&long, None),
        ("not hexadecimal", None),
        ("", None),
    ]
    .into_iter()
    .enumerate()
    {
        let sandbox = Sandbox::new();
        let mut packed = Packed::gzip(&Tar::new().file(format!("f{number}"), "").finish());
        let annotations = &mut packed.descriptor.annotations;
        annotations.insert(KEY.to_owned(), given.to_owned());
        let record = put(&sandbox.store, &[packed], &[], "x");
        let layer = sandbox.store.layers_of(&record).unwrap().remove(0);
        assert_eq!(layer.integrity().unwrap(), kept, "{given}");
    }
}

#[test]
fn its_names_are_read_by_a_directory_and_by_a_mount_that_cannot_be_written() {
    for form in forms() {
        let (sandbox, layer) = of_form(form);
        for purpose in [Purpose::Directory, Purpose::Mount { ids: None }] {
            let open = layer.open(purpose).unwrap();
            assert_eq!(fs::read(at(&open, "etc/file")).unwrap(), b"content");
            assert_eq!(fs::metadata(at(&open, "etc/of")).unwrap().uid(), 1000);
            let seen = fs::read_to_string("/proc/self/mountinfo").unwrap();
            let root = sandbox.root().to_str().unwrap();
            assert!(!seen.contains(root), "nobody sees it");
            if matches!(purpose, Purpose::Mount { .. }) {
                let refused = fs::write(at(&open, "etc/file"), "").unwrap_err();
                assert_eq!(refused.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
            }
        }
        let refused = layer.open(Purpose::Image).unwrap_err();
        assert!(matches!(refused, Error::Unsupported { .. }), "{refused}");
        assert!(refused.to_string().contains("image file"), "{refused}");
    }
}

/// A user namespace in which 0 to 65535 are 100000 and up, for as long as the child lives.
struct Users {
    child: std::process::Child,
    namespace: OwnedFd,
}

impl Users {
    fn new() -> Users {
        let mut child = std::process::Command::new("unshare")
            .args(["--user", "cat"])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        // An echo comes once it runs in its namespace.
        std::io::Write::write_all(child.stdin.as_mut().unwrap(), b"x").unwrap();
        child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
        let file = |name: &str| format!("/proc/{}/{name}", child.id());
        fs::write(file("uid_map"), "0 100000 65536").unwrap();
        fs::write(file("gid_map"), "0 100000 65536").unwrap();
        let namespace = fs::File::open(file("ns/user")).unwrap().into();
        Users { child, namespace }
    }
}

impl Drop for Users {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

#[test]
fn a_mount_of_it_has_the_ids_of_a_user_namespace() {
    for form in forms() {
        let (_sandbox, layer) = of_form(form);
        let users = Users::new();
        let ids = Some(users.namespace.as_fd());
        let open = match layer.open(Purpose::Mount { ids }) {
            // A file system that maps none, such as overlay, is named.
            Err(Error::Unsupported { why, .. }) => {
                assert!(why.contains("maps none"), "{why}");
                continue;
            }
            other => other.unwrap(),
        };
        let owner = |path| {
            let metadata = fs::metadata(at(&open, path)).unwrap();
            (metadata.uid(), metadata.gid())
        };
        assert_eq!(owner("etc/of"), (101_000, 101_001));
        assert_eq!(owner(""), (100_011, 100_022));
        let plain = layer.open(Purpose::Directory).unwrap();
        assert_eq!(fs::metadata(at(&plain, "etc/of")).unwrap().uid(), 1000);
    }
}

#[test]
fn its_archive_is_had_again_byte_by_byte_from_any_place() {
    let whole = archive();
    for form in forms() {
        let (sandbox, layer) = of_form(form);
        for from in [0, 1, 512, 100_000, whole.len()] {
            let mut bytes = Vec::new();
            let mut tar = layer.tar(from as u64).unwrap();
            tar.read_to_end(&mut bytes).unwrap();
            assert!(bytes == whole[from..], "from {from}");
        }
        assert!(layer.tar(whole.len() as u64 + 1).is_err());
        let blobs = sandbox.root().join("blobs/sha256");
        for blob in fs::read_dir(blobs).unwrap() {
            fs::remove_file(blob.unwrap().path()).unwrap();
        }
        if form == Form::Erofs {
            let mut bytes = Vec::new();
            layer.tar(1).unwrap().read_to_end(&mut bytes).unwrap();
            assert!(bytes == whole[1..], "it lies there");
            assert!(layer.verify().unwrap().is_none());
            continue;
        }
        let gone = layer.tar(0).unwrap_err();
        assert!(matches!(gone, Error::LayerBlobGone { .. }), "{gone}");
        assert!(matches!(layer.verify(), Err(Error::LayerBlobGone { .. })));
    }
}

#[test]
fn a_change_on_disk_is_found_by_a_check_of_it_alone() {
    for form in forms() {
        let (sandbox, layer) = of_form(form);
        assert!(layer.verify().unwrap().is_none());
        if form == Form::Erofs {
            a_flipped_byte_is_found(&sandbox, &layer);
            continue;
        }
        fs::write(crate::common::place(&layer).join("etc/file"), "Content").unwrap();
        let found = layer.verify().unwrap();
        assert!(
            matches!(&found, Some(Flaw::Differs(path)) if path == "etc/file"),
            "{found:?}"
        );
    }
}

/// In the archive and in the index, at any place of either.
fn a_flipped_byte_is_found(sandbox: &Sandbox, layer: &Layer) {
    if layer.is_sealed().unwrap() {
        println!("SKIP: files are sealed here and cannot be changed: sealed.rs has them");
        return;
    }
    let dir = files_of(sandbox);
    for (name, expected) in [("tar", "digest"), ("index", "index")] {
        let path = dir.join(name);
        let whole = fs::read(&path).unwrap();
        for at in [0, whole.len() / 2, whole.len() - 1] {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            fs::write(&path, &bytes).unwrap();
            let found = layer.verify().unwrap().unwrap().to_string();
            assert!(found.contains(expected), "{name} at {at}: {found}");
        }
        fs::write(&path, &whole[..whole.len() - 1]).unwrap();
        assert!(layer.verify().unwrap().is_some(), "{name} is cut");
        fs::write(&path, [&whole[..], b"x"].concat()).unwrap();
        assert!(layer.verify().unwrap().is_some(), "{name} is longer");
        fs::remove_file(&path).unwrap();
        assert!(matches!(layer.verify().unwrap(), Some(Flaw::Missing)));
        fs::write(&path, &whole).unwrap();
        assert!(layer.verify().unwrap().is_none());
    }
}

/// Where the only layer that is an archive lies.
fn files_of(sandbox: &Sandbox) -> PathBuf {
    let layers = fs::read_dir(sandbox.root().join("layers")).unwrap();
    let mut found = layers.map(|entry| entry.unwrap().path());
    found
        .find(|path| path.extension().is_some_and(|end| end == "erofs"))
        .unwrap()
}

#[test]
fn a_lease_keeps_it_and_what_is_open_stays_usable() {
    for form in forms() {
        let (sandbox, layer) = of_form(form);
        let store: &Store = &sandbox.store;
        let open = layer.open(Purpose::Mount { ids: None }).unwrap();
        let lease = store.lease().unwrap();
        assert!(layer.hold(&lease).unwrap());
        let image = store.find("example.com/x:1").unwrap().unwrap();
        store.remove(&image.id).unwrap();
        store.gc().unwrap();
        assert!(store.layer(layer.diff_id()).unwrap().is_some());
        assert_eq!(fs::read(at(&open, "etc/file")).unwrap(), b"content");
        drop(lease);
        store.gc().unwrap();
        assert!(store.layer(layer.diff_id()).unwrap().is_none());
        let other = store.lease().unwrap();
        assert!(!layer.hold(&other).unwrap(), "it is gone");
    }
}
