//! Layers made to do harm: each is refused with an error that names layer, entry and reason, nothing
//! is made outside the layer, and the store is as it was.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use crate::common::tar::Entry;
use crate::common::{Layer, Sandbox, Tar};
use store::{Form, Limits, Store};

/// Adds `archive`, expects an error that says `reason`, and checks that nothing is left of it.
#[track_caller]
fn refused(archive: Vec<u8>, reason: &str) {
    let sandbox = Sandbox::new();
    // A sibling of all that `..` could reach.
    std::fs::write(sandbox.dir.path().join("canary"), "alive").unwrap();
    refused_by(&sandbox, &sandbox.store, archive, reason);
    let around: Vec<_> = std::fs::read_dir(sandbox.dir.path()).unwrap().collect();
    assert_eq!(
        around.len(),
        2,
        "something was made beside the store: {around:?}"
    );
    let canary = std::fs::read_to_string(sandbox.dir.path().join("canary")).unwrap();
    assert_eq!(canary, "alive");
}

/// In each form.
#[track_caller]
fn refused_by(sandbox: &Sandbox, store: &Store, archive: Vec<u8>, reason: &str) {
    for form in [Form::Directory, Form::Erofs] {
        store.set_layer_form(form);
        refused_in_form(sandbox, store, &archive, reason);
    }
}

#[track_caller]
fn refused_in_form(sandbox: &Sandbox, store: &Store, archive: &[u8], reason: &str) {
    let before = sandbox.listing();
    let layer = Layer::gzip(archive);
    let lease = store.lease().unwrap();
    let error = layer.add(store, &lease).unwrap_err().to_string();
    assert!(error.contains(reason), "{error}\nshould say: {reason}");
    assert!(
        error.contains(layer.descriptor.digest.hex()),
        "no layer in: {error}"
    );
    drop(lease);
    assert_eq!(sandbox.listing(), before, "{error}");
    store.gc().unwrap();
    assert_eq!(sandbox.listing(), before, "after gc: {error}");
    assert_eq!(store.usage().unwrap(), store::Usage::default());
}

#[test]
fn dot_dot_out_of_the_root_is_refused() {
    for name in [
        "../canary",
        "a/../../canary",
        "/../canary",
        "./..",
        "../../../../../../tmp/x",
    ] {
        refused(
            Tar::new().file(name, "dead").finish(),
            &format!("entry {name:?}: its name leads out"),
        );
    }
    refused(Tar::new().dir("../canary").finish(), "leads out");
    refused(Tar::new().symlink("../canary", "x").finish(), "leads out");
    refused(
        Tar::new().file("a/../../.wh.canary", "").finish(),
        "leads out",
    );
    refused(
        Tar::new()
            .pax(&[("path", b"a/../../canary")])
            .file("x", "dead")
            .finish(),
        "leads out",
    );
}

#[test]
fn hard_links_reach_only_files_of_the_layer() {
    for target in ["../canary", "a/../../../canary"] {
        refused(
            Tar::new().hard_link("x", target).finish(),
            &format!("its target {target:?} leads out"),
        );
    }
    for target in ["/etc/passwd", "etc/passwd", ".", "/"] {
        refused(
            Tar::new().hard_link("x", target).finish(),
            &format!("its target {target:?} is not a file of this layer"),
        );
    }
    // Through a symbolic link, absolute or climbing, that leads out for whoever follows it.
    for way in ["/etc", "../../../../../../../../../etc"] {
        let archive = Tar::new()
            .symlink("out", way)
            .hard_link("x", "out/passwd")
            .finish();
        refused(
            archive,
            "its target \"out/passwd\" is not a file of this layer",
        );
    }
    refused(
        Tar::new().dir("d").hard_link("x", "d").finish(),
        "is not a file of this layer",
    );
    refused(
        Tar::new()
            .file(".wh.gone", "")
            .hard_link("x", "gone")
            .finish(),
        "is not a file of this layer",
    );
}

#[test]
fn whiteouts_of_nothing_or_of_a_parent_are_refused() {
    for name in [".wh.", "d/.wh..", "d/.wh..."] {
        refused(
            Tar::new().file(name, "").finish(),
            "it is a whiteout without a valid name",
        );
    }
}

#[test]
fn a_file_is_no_parent_and_the_root_no_file() {
    refused(
        Tar::new().file("f", "").file("f/x", "").finish(),
        "\"f\" in its path is not a directory",
    );
    refused(
        Tar::new().file(".", "").finish(),
        "the root must be a directory",
    );
    refused(
        Tar::new().symlink("/", "/etc").finish(),
        "the root must be a directory",
    );
}

#[test]
fn endless_links_end() {
    let archive = Tar::new()
        .symlink("a", "b")
        .symlink("b", "a")
        .file("a/x", "")
        .finish();
    refused(archive, "too many symbolic links in its path");
    // Each target does not exist yet, and is made through the next one.
    let mut chain = Tar::new();
    for link in 0..60 {
        chain = chain.symlink(format!("l{link}"), format!("l{}", link + 1));
    }
    refused(
        chain.file("l0/x", "").finish(),
        "too many symbolic links in its path",
    );
    refused(
        Tar::new().symlink("empty", "").finish(),
        "its target is empty",
    );
}

#[test]
fn names_too_long_or_too_deep_are_refused() {
    let long = "x".repeat(256);
    let archive = Tar::new()
        .pax(&[("path", long.as_bytes())])
        .file("x", "")
        .finish();
    refused(archive, "longer than 255 bytes");
    let deep = "d/".repeat(600);
    let archive = Tar::new()
        .pax(&[("path", deep.as_bytes())])
        .dir("x")
        .finish();
    refused(archive, "too long or too deep");
    let long = format!("{}/x", "y".repeat(200)).repeat(30);
    let archive = Tar::new()
        .pax(&[("path", long.as_bytes())])
        .file("x", "")
        .finish();
    refused(archive, "too long or too deep");
}

#[test]
fn names_with_nul_bytes_are_refused() {
    let archive = Tar::new().pax(&[("path", b"a\0b")]).file("x", "").finish();
    refused(archive, "a PAX header is malformed");
    refused(
        Tar::new().file("", "").finish(),
        "a name is empty or holds a NUL byte",
    );
}

#[test]
fn unknown_kinds_of_entries_are_refused() {
    for flag in [b'D', b'M', b'V', b'N', b'Z'] {
        let reason = format!("entries of type {:?} are not supported", char::from(flag));
        refused(Tar::new().entry(&Entry::new(flag, "x")).finish(), &reason);
    }
}

#[test]
fn malformed_archives_are_refused_with_the_place() {
    refused(
        b"not a tar archive".repeat(100),
        "tar archive, byte 0: the header's checksum is wrong",
    );
    let cut = Tar::new().file("x", "data").unfinished();
    refused(cut[..700].to_vec(), "ends in the middle of an entry");
    refused(
        Tar::new().file("a", "").unfinished()[..300].to_vec(),
        "ends in the middle of an entry",
    );
    let bad = Entry::new(b'0', "x").patch(124, b"99999999999\0");
    refused(
        Tar::new().entry(&bad).finish(),
        "the header's size is not a valid number",
    );
    let negative = Entry::new(b'0', "x").patch(124, [0xff; 12]);
    refused(
        Tar::new().entry(&negative).finish(),
        "the header's size is not a valid number",
    );
    let nobody = Entry::new(b'0', "x").patch(108, [0x80, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]);
    refused(
        Tar::new().entry(&nobody).finish(),
        "the header's uid is not a valid number",
    );
    let mut lone = Tar::new().file("a", "").unfinished();
    lone.extend([0; 512]);
    lone.extend(Tar::new().file("b", "").finish());
    refused(lone, "more follows a single block of zeros");
}

#[test]
fn malformed_extension_headers_are_refused() {
    for data in [
        "5 a=b\n",
        "x",
        "99 path=x\n",
        "8 path=x",
        "6 =ab\n",
        "13 mtime=x.y\n",
    ] {
        let header = Entry::new(b'x', "p").data(data);
        refused(
            Tar::new().entry(&header).file("x", "").finish(),
            "a PAX header is malformed",
        );
    }
    refused(
        Tar::new().pax(&[("path", b"x")]).finish(),
        "belongs to no entry",
    );
    let mut huge = Entry::new(b'L', "long");
    huge.size = Some(1 << 34);
    refused(Tar::new().entry(&huge).finish(), "larger than 1 MiB");
    huge.flag = b'x';
    refused(Tar::new().entry(&huge).finish(), "larger than 1 MiB");
}

#[test]
fn sparse_maps_that_lie_are_refused() {
    let lies: &[&[u8]] = &[
        b"0,4,2,4",
        b"8,4,0,4",
        b"0,4",
        b"0,4,18446744073709551615,4",
        b"0,8,4096,1",
    ];
    for map in lies {
        let records: &[(&str, &[u8])] = &[
            ("GNU.sparse.major", b"0"),
            ("GNU.sparse.minor", b"1"),
            ("GNU.sparse.size", b"100"),
            ("GNU.sparse.map", map),
        ];
        let archive = Tar::new().pax(records).file("x", "12345678").finish();
        refused(archive, "the map of a sparse file is malformed");
    }
    let unknown: &[(&str, &[u8])] = &[("GNU.sparse.major", b"2"), ("GNU.sparse.minor", b"0")];
    refused(
        Tar::new().pax(unknown).file("x", "").finish(),
        "the map of a sparse file is malformed",
    );
}

#[test]
fn bombs_end_at_the_limits() {
    let sandbox = Sandbox::new();
    let limits = Limits {
        unpacked_bytes: 1 << 20,
        entries: 10,
        ..Limits::default()
    };
    let store = Store::open_with(sandbox.root(), limits).unwrap();
    let archive = Tar::new().file("zeros", vec![0; 2 << 20]).finish();
    refused_by(
        &sandbox,
        &store,
        archive,
        "it exceeds the limit of 1048576 unpacked bytes",
    );
    let many = (0..20).fold(Tar::new(), |tar, n| tar.file(format!("f{n}"), ""));
    refused_by(
        &sandbox,
        &store,
        many.finish(),
        "it exceeds the limit of 10 entries",
    );
    // A file of holes takes nothing in the archive.
    let records: &[(&str, &[u8])] = &[
        ("GNU.sparse.major", b"0"),
        ("GNU.sparse.minor", b"1"),
        ("GNU.sparse.size", b"1099511627776"),
        ("GNU.sparse.map", b"0,1"),
    ];
    let holes = Tar::new().pax(records).file("x", "1").finish();
    refused_by(
        &sandbox,
        &store,
        holes,
        "it exceeds the limit of 1048576 unpacked bytes",
    );
}

#[test]
fn a_ratio_no_honest_layer_has_is_refused() {
    let sandbox = Sandbox::new();
    let limits = Limits {
        ratio: 100,
        ratio_from: 1 << 20,
        ..Limits::default()
    };
    let store = Store::open_with(sandbox.root(), limits).unwrap();
    let archive = Tar::new().file("zeros", vec![0; 4 << 20]).finish();
    let reason = "limit of 100 unpacked bytes for each compressed one";
    refused_by(&sandbox, &store, archive, reason);
}

#[test]
fn links_out_of_the_layer_are_kept_but_never_followed() {
    let sandbox = Sandbox::new();
    let outside = sandbox.dir.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    let target = outside.to_str().unwrap().to_owned();
    let climb = format!("{}{target}", "../".repeat(20));
    let archive = Tar::new()
        .symlink("absolute", &target)
        .symlink("climbing", climb)
        .file("absolute/a", "1")
        .file("climbing/b", "2")
        .finish();
    let layer = crate::common::unpack(&sandbox.store, &archive);
    assert_eq!(
        std::fs::read_dir(&outside).unwrap().count(),
        0,
        "it wrote through the link"
    );
    assert_eq!(std::fs::read_link(layer.join("absolute")).unwrap(), outside);
    // Both mean the same directory below the root.
    let inside = layer.join(target.trim_start_matches('/'));
    assert_eq!(std::fs::read_to_string(inside.join("a")).unwrap(), "1");
    assert_eq!(std::fs::read_to_string(inside.join("b")).unwrap(), "2");
}

#[test]
fn a_link_that_takes_a_directorys_place_does_not_lead_out() {
    let sandbox = Sandbox::new();
    let outside = sandbox.dir.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    let archive = Tar::new()
        .dir("d")
        .file("d/first", "1")
        .symlink("d", outside.to_str().unwrap())
        .file("d/second", "2")
        .entry(&Entry::new(b'5', "d").mode(0o700))
        .finish();
    let layer = crate::common::unpack(&sandbox.store, &archive);
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
    assert!(layer.join("d").symlink_metadata().unwrap().is_dir());
    assert_eq!(std::fs::read_dir(layer.join("d")).unwrap().count(), 0);
}
