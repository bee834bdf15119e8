//! Layers made to do harm that can be used: what cannot be in one is left out and told, what is odd stays
//! odd, and nothing of it hides or changes what other layers have.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use crate::common::tar::Entry;
use crate::common::{Layer, Sandbox, Tar};

/// An image of these layers, lowest first, and what is warned of it.
fn put_warned(sandbox: &Sandbox, archives: &[Vec<u8>]) -> (store::ImageRecord, Vec<String>) {
    let layers: Vec<_> = archives
        .iter()
        .map(|archive| Layer::gzip(archive))
        .collect();
    let (record, warnings) = crate::common::warnings(|| {
        crate::common::put(&sandbox.store, &layers, &["example.com/odd:1"], "odd")
    });
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
            let sandbox = Sandbox::unpacked();
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
            let top = crate::common::top_of(&sandbox.store, &record);
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
        let sandbox = Sandbox::unpacked();
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
        let top = crate::common::top_of(&sandbox.store, &image);
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
    let sandbox = Sandbox::unpacked();
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
    let layer = crate::common::unpack(&sandbox.store, &tar.entry(&raw).finish());
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
    let image = crate::common::describe(&layers, &["example.com/many:1"], "many");
    let error = sandbox
        .store
        .put_image(&lease, image)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("501 layers: overlayfs takes 500 at most"),
        "{error}"
    );
    let image = crate::common::describe(&layers[1..], &["example.com/many:1"], "many");
    let record = sandbox.store.put_image(&lease, image).unwrap();
    assert!(sandbox.store.read_file(&record, "f1", 9).unwrap().is_some());
}
