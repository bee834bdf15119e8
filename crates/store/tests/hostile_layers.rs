//! Layers made to do harm: each is refused with an error that names layer, entry and reason, nothing
//! is made outside the layer, and the store is as it was.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::tar::Entry;
use common::{Layer, Sandbox, Tar};
use store::{Limits, Store};

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

#[track_caller]
fn refused_by(sandbox: &Sandbox, store: &Store, archive: Vec<u8>, reason: &str) {
    let before = sandbox.listing();
    let layer = Layer::gzip(&archive);
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

/// An image of these layers, lowest first, and what is warned of it.
fn put_warned(sandbox: &Sandbox, archives: &[Vec<u8>]) -> (store::ImageRecord, Vec<String>) {
    let layers: Vec<_> = archives
        .iter()
        .map(|archive| Layer::gzip(archive))
        .collect();
    let (record, warnings) =
        common::warnings(|| common::put(&sandbox.store, &layers, &["example.com/odd:1"], "odd"));
    for warning in &warnings {
        let layer = layers
            .iter()
            .find(|layer| warning.contains(layer.descriptor.digest.hex()));
        assert!(
            layer.is_some() && warning.contains("example.com/odd:1"),
            "{warning}"
        );
    }
    (record, warnings)
}

#[test]
fn device_nodes_of_the_host_are_left_out_with_a_warning_and_hide_nothing() {
    // Overlayfs's own whiteout, a character device 0:0, is one too.
    for (flag, kind) in [(b'3', "character"), (b'4', "block")] {
        for numbers in [(b"0000010\0", b"0000000\0"), (b"0000000\0", b"0000000\0")] {
            let entry = Entry::new(flag, "dev/sda")
                .patch(329, numbers.0)
                .patch(337, numbers.1);
            let lower = Tar::new().dir("dev").file("dev/sda", "a file").finish();
            let upper = Tar::new()
                .dir("dev")
                .entry(&entry)
                .hard_link("dev/again", "dev/sda")
                .hard_link("dev/and", "dev/again")
                .file("other", "made");
            let sandbox = Sandbox::new();
            let (record, warnings) = put_warned(&sandbox, &[lower, upper.finish()]);
            let [warning] = warnings.as_slice() else {
                panic!("{warnings:?}");
            };
            assert!(
                warning.contains(&format!("\"dev/sda\": it is a {kind} device")),
                "{warning}"
            );
            assert!(
                warning.contains("\"dev/again\": its target \"dev/sda\" was left out"),
                "{warning}"
            );
            let read = |path| sandbox.store.read_file(&record, path, 100).unwrap();
            assert_eq!(read("dev/sda").unwrap(), b"a file");
            assert_eq!(read("other").unwrap(), b"made");
            let top = sandbox.store.layers_of(&record).unwrap().remove(0);
            assert_eq!(std::fs::read_dir(top.join("dev")).unwrap().count(), 0);
            let report = sandbox.store.check(store::Check::default()).unwrap();
            assert!(report.findings.is_empty(), "{:?}", report.findings);
        }
    }
}

#[test]
fn overlayfs_attributes_are_left_out_with_a_warning_and_never_obeyed() {
    for name in [
        "trusted.overlay.opaque",
        "trusted.overlay.redirect",
        "trusted.overlay.metacopy",
        "trusted.overlay.origin",
        "user.overlay.opaque",
        "user.overlay.whiteout",
    ] {
        let lower = Tar::new()
            .dir("d")
            .file("d/below", "seen")
            .file("secret", "s")
            .finish();
        let record: &[(&str, &[u8])] = &[
            (&format!("SCHILY.xattr.{name}"), b"y"),
            ("SCHILY.xattr.user.kept", b"1"),
        ];
        let upper = Tar::new()
            .pax(record)
            .dir("d")
            .pax(record)
            .file("d/above", "too")
            .pax(record)
            .dir("./");
        let sandbox = Sandbox::new();
        let (image, warnings) = put_warned(&sandbox, &[lower, upper.finish()]);
        let [warning] = warnings.as_slice() else {
            panic!("{warnings:?}");
        };
        let said = format!("\"d\": the extended attribute {name:?} is not allowed");
        assert!(warning.contains(&said), "{warning}");
        let read = |path| sandbox.store.read_file(&image, path, 100).unwrap();
        assert_eq!(read("d/below").unwrap(), b"seen");
        assert_eq!(read("d/above").unwrap(), b"too");
        assert_eq!(read("secret").unwrap(), b"s");
        let top = sandbox.store.layers_of(&image).unwrap().remove(0);
        for path in [top.clone(), top.join("d"), top.join("d/above")] {
            let mut names = [0_u8; 4096];
            let length = rustix::fs::listxattr(&path, &mut names).unwrap();
            let names = String::from_utf8_lossy(&names[..length]).into_owned();
            assert!(!names.contains("overlay"), "{names:?}");
        }
    }
}

#[test]
fn what_is_left_out_is_told_in_few_words_however_much_it_is() {
    let mut upper = Tar::new();
    for n in 0..3000 {
        upper = upper.entry(&Entry::new(b'4', format!("dev/\x1b[2J{n}")).patch(329, b"0000010\0"));
    }
    let sandbox = Sandbox::new();
    let (_, warnings) = put_warned(&sandbox, &[upper.finish()]);
    let [warning] = warnings.as_slice() else {
        panic!("{warnings:?}");
    };
    assert!(
        warning.contains("and 2995 more") && warning.len() < 2000,
        "{warning}"
    );
    assert!(!warning.contains('\x1b'), "{warning:?}");
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
    let layer = common::unpack(&sandbox.store, &archive);
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
    let layer = common::unpack(&sandbox.store, &archive);
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
    assert!(layer.join("d").symlink_metadata().unwrap().is_dir());
    assert_eq!(std::fs::read_dir(layer.join("d")).unwrap().count(), 0);
}

#[test]
fn hostile_names_are_shown_without_what_a_terminal_obeys() {
    let name = "\x1b]0;title\x07\x1b[2J\n\u{202e}../x\u{9b}31m";
    let flawed = [
        Tar::new().file(format!("../{name}"), ""),
        Tar::new().hard_link("x", name),
        Tar::new().hard_link("x", format!("../../{name}")),
        Tar::new()
            .file(name.replace('/', "_"), "")
            .file(format!("{}/x", name.replace('/', "_")), ""),
    ];
    for archive in flawed {
        let sandbox = Sandbox::new();
        let layer = Layer::gzip(&archive.finish());
        let lease = sandbox.store.lease().unwrap();
        let error = layer.add(&sandbox.store, &lease).unwrap_err().to_string();
        let bad = |c: char| c.is_control() || c == '\u{202e}';
        assert!(!error.contains(bad), "{error:?}");
        assert!(error.contains("\\u{1b}"), "{error}");
    }
}

#[test]
fn names_that_differ_in_case_or_spelling_only_stay_different() {
    let sandbox = Sandbox::new();
    let names = [
        "etc/Passwd",
        "etc/passwd",
        "etc/PASSWD",
        "\u{e9}",
        "e\u{301}",
        "new\nline",
        "tab\t",
        " ",
        "...",
        "-rf",
        "a\\b",
        "caf\u{e9}\u{202e}",
    ];
    let tar = names
        .iter()
        .fold(Tar::new(), |tar, name| tar.file(name, name));
    let raw = Entry::new(b'0', [0xff, 0xfe, b'x']).data("raw");
    let layer = common::unpack(&sandbox.store, &tar.entry(&raw).finish());
    for name in names {
        assert_eq!(std::fs::read_to_string(layer.join(name)).unwrap(), name);
    }
    use std::os::unix::ffi::OsStrExt;
    assert!(
        layer
            .join(std::ffi::OsStr::from_bytes(&[0xff, 0xfe, b'x']))
            .exists()
    );
}

#[test]
fn attributes_in_any_number_and_size_are_set_or_left_out_and_told() {
    let large = vec![b'x'; 60_000];
    let many: Vec<(String, Vec<u8>)> = (0..5000)
        .map(|n| (format!("SCHILY.xattr.user.attribute-{n}"), vec![b'y'; 100]))
        .collect();
    let many: Vec<(&str, &[u8])> = many
        .iter()
        .map(|(key, value)| (key.as_str(), value.as_slice()))
        .collect();
    let too_large = vec![b'x'; 70_000];
    let upper = Tar::new()
        .pax(&[("SCHILY.xattr.user.large", &large)])
        .file("large", "1")
        .pax(&[("SCHILY.xattr.user.larger", &too_large)])
        .file("larger", "2")
        .pax(&many)
        .file("many", "3")
        .pax(&[
            ("SCHILY.xattr.security.selinux", b"x"),
            ("SCHILY.xattr.system.posix_acl_access", b"x"),
            ("SCHILY.xattr.trusted.x", b"x"),
        ])
        .file("others", "4");
    let sandbox = Sandbox::new();
    let (record, warnings) = put_warned(&sandbox, &[upper.finish()]);
    for (name, content) in [
        ("large", b"1"),
        ("larger", b"2"),
        ("many", b"3"),
        ("others", b"4"),
    ] {
        assert_eq!(
            sandbox.store.read_file(&record, name, 9).unwrap().unwrap(),
            content
        );
    }
    assert!(
        warnings.iter().all(|warning| warning.len() < 2000),
        "{warnings:?}"
    );
    let report = sandbox.store.check(store::Check::default()).unwrap();
    assert!(report.findings.is_empty(), "{:?}", report.findings);
}

#[test]
fn whiteouts_of_everything_and_entries_given_many_times_leave_what_comes_last() {
    let sandbox = Sandbox::new();
    let lower = Tar::new()
        .dir("a")
        .file("a/x", "below")
        .file("b", "below")
        .finish();
    let mut upper = Tar::new();
    for round in 0..200 {
        upper = upper
            .dir("a")
            .file("a/x", format!("{round}"))
            .file("a", "a file")
            .file("b", format!("{round}"));
    }
    let hide = Tar::new()
        .file(".wh.a", "")
        .file(".wh.b", "")
        .file(".wh..wh..opq", "")
        .file(".wh.never", "")
        .dir("a");
    let (record, _) = put_warned(&sandbox, &[lower, upper.finish(), hide.finish()]);
    for path in ["a/x", "b", "never"] {
        assert_eq!(
            sandbox.store.read_file(&record, path, 100).unwrap(),
            None,
            "{path}"
        );
    }
    let layers = sandbox.store.layers_of(&record).unwrap();
    assert_eq!(layers.len(), 1, "what an opaque root hides is not mounted");
}

#[test]
fn an_image_has_no_more_layers_than_can_be_mounted() {
    let sandbox = Sandbox::new();
    let layers: Vec<Layer> = (0..501)
        .map(|n| Layer::plain(&Tar::new().file(format!("f{n}"), "").finish()))
        .collect();
    let lease = sandbox.store.lease().unwrap();
    for layer in &layers {
        layer.add(&sandbox.store, &lease).unwrap();
    }
    let image = common::describe(&layers, &["example.com/many:1"], "many");
    let error = sandbox
        .store
        .put_image(&lease, image)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("501 layers: overlayfs takes 500 at most"),
        "{error}"
    );
    let image = common::describe(&layers[1..], &["example.com/many:1"], "many");
    let record = sandbox.store.put_image(&lease, image).unwrap();
    assert!(sandbox.store.read_file(&record, "f1", 9).unwrap().is_some());
}
